"""Records with `sinew record` on emulated arms and cameras that are not there, kills it, goes on, and looks at what came of it.

    python scripts/check_record.py sessions [--episodes 50] [--kills 2] [--train]
    python scripts/check_record.py compare [--seconds 20]
    python scripts/check_record.py skew [--seconds 30]
    python scripts/check_record.py loop [--seconds 140]
    python scripts/check_record.py cameras
    python scripts/check_record.py depth [--seconds 10]
    python scripts/check_record.py hour [--seconds 3600]

`sessions` records episodes of a follower that a hand leads, with three cameras; the process is killed while it does, and goes on
with the same rig. Each image holds its camera's number: the rows must have the images that the cameras gave, in order and at their
times. LeRobot opens the result (its Python is this one), and with --train `lerobot-train` takes ten steps on it.
`compare` records the same with LeRobot's own recorder, one after the other on the same machine.
`skew` lights an LED in front of a camera and moves a joint, and finds when from the recorded times alone.
`loop` compares how late ticks are with and without cameras, `cameras` has `sinew find-cameras` look at good and bad ones.
`depth` records a depth camera beside one of colours; LeRobot opens the result, and its metres must be those that the camera gave.
`hour` records for long and looks at the memory that it takes.

Needs LeRobot 0.6.1 (`pip install lerobot==0.6.1`, with OpenCV) and a release build of sinew; both commands and cameras are
started with --realtime where the system grants it.
"""

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from emulated import POSITION, Bench, end, said_positions, wait_for  # noqa: E402
from stand_in_cameras import Camera, StandIn  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
NAMES = ["front", "wrist", "top"]
FPS = 30


def sinew_of(options):
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return options.sinew or target / "release/sinew"


def cameras_of(count, **keys):
    return [Camera(serial=f"C{number}", modes=("MJPG 640x480 60 30 15", "YUYV 640x480 30 15"), keys=keys) for number in range(count)]


def camera_options(count, more=""):
    return [word for number in range(count) for word in ("--camera", f"{NAMES[number]}=usb:C{number},640x480@{FPS}{more}")]


class Desk:
    """A pair of arms, cameras, and a place for datasets."""

    def __init__(self, options, cameras=3, **keys):
        self.bench = Bench(sinew_of(options), realtime=not options.no_realtime)
        self.cameras = StandIn(cameras_of(cameras, **keys))
        self.follower, self.leader = self.bench.pair()
        self.bench.environment = self.cameras.env(self.bench.environment)
        self.bench.environment["XDG_CONFIG_HOME"] = str(self.bench.folder / "config")
        self.count = cameras
        # What is said of each camera, and lines of the rig's table of cameras beside those.
        self.more, self.more_cameras = "", []
        self.realtime = [] if options.no_realtime else ["--realtime"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bench.__exit__()
        self.cameras.__exit__()

    def rig(self, name="bench"):
        folder = self.bench.folder / "config/sinew/rigs"
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["schema = 1", 'robot = "so101"', f'port = "{self.bench.folder}/follower"', 'id = "emulated"']
        lines += ['teleop = "so101_leader"', f'teleop_port = "{self.bench.folder}/leader"', 'teleop_id = "emulated"']
        lines += ['instruction = "Do as the hand does."', "[camera]"]
        lines += [f'{NAMES[number]} = "usb:C{number},640x480@{FPS}{self.more}"' for number in range(self.count)] + self.more_cameras
        (folder / f"{name}.toml").write_text("\n".join(lines) + "\n")
        return name

    def record(self, out, *options, name="record"):
        command = [self.bench.sinew, "record", "--rig", self.rig(), "--out", str(out), "--json", *self.realtime, *map(str, options)]
        return self.bench.start(command, name)


def rss_mb(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def episodes_in(out):
    info = Path(out) / "meta/info.json"
    return json.loads(info.read_text())["total_episodes"] if info.exists() else 0


def rows_of(out):
    """The rows of Sinew's own table, episode by episode."""
    import pyarrow.parquet as pq

    rows = {}
    for path in sorted(Path(out).glob("sinew/ticks/**/*.parquet")):
        for row in pq.read_table(path).to_pylist():
            rows.setdefault(row["episode_index"], []).append(row)
    return rows


def look(out, cameras):
    """Opens the dataset with LeRobot and compares the number in each image with the number that was recorded for it."""
    import numpy as np
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from stand_in_cameras import burned_in, JPEGS

    dataset = LeRobotDataset("local/check", root=out, video_backend="pyav")
    side = rows_of(out)
    wrong, images, repeated = 0, 0, 0
    for index in range(len(dataset)):
        item = dataset[index]
        row = side[int(item["episode_index"])][int(item["frame_index"])]
        for name in cameras:
            picture = (np.asarray(item[f"observation.images.{name}"]).transpose(1, 2, 0) * 255).round().astype(np.uint8)
            number = burned_in(picture[:, :, 1])
            images += 1
            # The stand-in counts from 0, and its JPEGs repeat; images are counted from 1.
            wrong += number != (row[f"sequence.{name}"] - 1) % JPEGS
    for rows in side.values():
        for name in cameras:
            numbers = [row[f"sequence.{name}"] for row in rows]
            repeated += sum(later == earlier for earlier, later in zip(numbers, numbers[1:]))
    return {"episodes": dataset.num_episodes, "frames": len(dataset), "images": images, "wrong": wrong, "repeated": repeated}


def sessions(options):
    chance = random.Random(options.seed)
    with Desk(options) as desk:
        out = desk.bench.folder / "dataset"
        kills = sorted(chance.sample(range(1, options.episodes), options.kills))
        length, reset = options.episode_seconds, 0.2
        runs, resets = 0, 0
        while episodes_in(out) < options.episodes:
            left = options.episodes - episodes_in(out)
            more = ["--unfinished", chance.choice(["recover", "discard"])] if episodes_in(out) or (out / "meta").exists() else []
            process = desk.record(out, "--episodes", left, "--episode-time", length, "--reset-time", reset, *more, name=f"record-{runs}")
            runs += 1
            if kills and left:
                target = kills.pop(0)
                if not wait_for(lambda: episodes_in(out) >= target or process.poll() is not None, 60 + left * (length + 1) * 2):
                    raise RuntimeError("the recording stands still")
                time.sleep(chance.random() * length)
                process.send_signal(signal.SIGKILL)
                process.wait()
                print(f"killed with {episodes_in(out)} episodes committed")
                continue
            process.wait(120 + left * (length + 1) * 2)
            print(desk.bench.said(process)[1], file=sys.stderr)
            report = desk.bench.report(process)
            if process.returncode or report is None:
                raise SystemExit(f"sinew record ended with {process.returncode}: {desk.bench.said(process)[1]}")
            resets += 1
            print(json.dumps({key: report[key] for key in ("total_episodes", "total_frames", "missed_ticks", "frames_lost")}))
        verified = subprocess.run([desk.bench.sinew, "dataset", "verify", str(out)], capture_output=True, text=True)
        print(verified.stdout.strip())
        found = look(out, NAMES[: desk.count])
        print(json.dumps(found))
        failed = bool(verified.returncode or found["wrong"] or found["episodes"] != options.episodes)
        if options.train:
            failed = bool(train(out, desk.bench.folder / "train")) or failed
        return 1 if failed else 0


def train(out, to):
    command = [
        "lerobot-train", "--dataset.repo_id=local/check", f"--dataset.root={out}", "--policy.type=act", "--policy.push_to_hub=false",
        "--policy.pretrained_backbone_weights=null", "--policy.device=cpu", "--batch_size=2", "--steps=10", "--num_workers=0",
        "--log_freq=5", "--save_checkpoint=false", "--wandb.enable=false", f"--output_dir={to}", "--dataset.video_backend=pyav",
        "--policy.chunk_size=10", "--policy.n_action_steps=10", "--policy.dim_model=64", "--policy.n_heads=4", "--policy.dim_feedforward=128",
    ]
    command[0] = str(Path(sys.executable).parent / command[0])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    print("\n".join((done.stdout + done.stderr).strip().splitlines()[-4:]))
    print(f"lerobot-train: ten steps, exit code {done.returncode}")
    return done.returncode


def watch(process, seconds, every=0.25):
    """Most memory, and processor time, of a process that is left alone until it ends."""
    memory, used, until = 0.0, 0.0, time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        try:
            memory, used = max(memory, rss_mb(process.pid)), cpu_s(process.pid)
        except (FileNotFoundError, ProcessLookupError, IndexError):
            break
        time.sleep(every)
    return memory, used


def figures(out, cameras, fps):
    """What the rows say: rate, worst tick, images repeated and left out."""
    import numpy as np

    side, ticks, worst, repeated, skipped = rows_of(out), 0, 0.0, 0, 0
    for rows in side.values():
        times = np.array([row["observed_ns"] for row in rows]) / 1e9
        ticks += len(rows)
        worst = max(worst, float(np.diff(times).max(initial=0)))
        for name in cameras:
            numbers = np.array([row[f"sequence.{name}"] for row in rows])
            steps = np.diff(numbers)
            repeated += int((steps == 0).sum())
            skipped += int((steps - 1)[steps > 1].sum())
    return {"frames": ticks, "worst_tick_ms": worst * 1e3, "images_repeated": repeated, "images_skipped": skipped}


def quality(out, desk, most=200):
    """How well the recorded images are the cameras' own: PSNR in dB over their luma and their colours, and bytes an image."""
    import cv2
    import numpy as np
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from stand_in_cameras import burned_in, JPEGS

    dataset = LeRobotDataset("local/check", root=out, video_backend="pyav")
    truths = [cv2.imread(str(path))[:, :, ::-1] for path in sorted(Path(desk.cameras.folder).glob("**/640x480/*.jpg"))[:JPEGS]]
    errors = {"rgb": [], "luma": []}
    weights = np.array([0.299, 0.587, 0.114])
    for index in np.linspace(0, len(dataset) - 1, most).astype(int):
        item = dataset[int(index)]
        for name in NAMES[: desk.count]:
            picture = (np.asarray(item[f"observation.images.{name}"]).transpose(1, 2, 0) * 255).round()
            difference = picture - truths[burned_in(picture[:, :, 1]) % JPEGS].astype(float)
            errors["rgb"].append((difference**2).mean())
            errors["luma"].append(((difference @ weights) ** 2).mean())
    videos = sum(path.stat().st_size for path in Path(out).glob("videos/**/*.mp4"))
    found = {f"psnr_{kind}_db": float(10 * np.log10(255**2 / np.mean(values))) for kind, values in errors.items()}
    return found | {"bytes_an_image": videos / (len(dataset) * desk.count)}


def compare(options):
    episodes, length = 2, options.seconds
    with Desk(options) as desk:
        out = desk.bench.folder / "ours"
        begin = time.monotonic()
        process = desk.record(out, "--episodes", episodes, "--episode-time", length, "--reset-time", 0)
        memory, used = watch(process, 60 + episodes * length * 2)
        took = time.monotonic() - begin
        report = desk.bench.report(process)
        if report is None:
            raise SystemExit(desk.bench.said(process)[1])
        ours = figures(out, NAMES, FPS) | {
            "rate_hz": report["cadence"]["achieved_rate_hz"], "frames_lost": report["frames_lost"], "missed_ticks": report["missed_ticks"],
            "cpu_s_per_s": used / (episodes * length), "memory_mb": memory, "beside_s": took - episodes * length,
        }
        rows = rows_of(out)
        first, last = rows[0], rows[1]
        ours["between_episodes_ms"] = (last[0]["observed_ns"] - first[-1]["observed_ns"]) / 1e6 - 1e3 / FPS
        ours |= quality(out, desk)
        print("sinew  ", json.dumps(ours))
        if not options.alone:
            # It connects without asking twice, and an answer that this machine delays ends that.
            tries = (lerobot(desk, options, episodes, length) for _ in range(6))
            theirs = next((found for found in tries if found["frames"]), None)
            if theirs is None:
                raise SystemExit("lerobot-record never connected")
            theirs |= quality(desk.bench.folder / "theirs", desk)
            print("lerobot", json.dumps(theirs))
            print(f"processor time: {ours['cpu_s_per_s'] / theirs['cpu_s_per_s']:.2f} x LeRobot's; memory {ours['memory_mb'] / theirs['memory_mb']:.2f} x")
    return 1 if ours["frames_lost"] or ours["missed_ticks"] > episodes * length * FPS * 0.01 else 0


def lerobot(desk, options, episodes, length):
    out = desk.bench.folder / "theirs"
    shutil.rmtree(out, ignore_errors=True)
    cameras = ", ".join(
        f"{name}: {{type: opencv, index_or_path: {number}, width: 640, height: 480, fps: {FPS}, fourcc: MJPG}}" for number, name in enumerate(NAMES)
    )
    command = [
        str(Path(sys.executable).parent / "lerobot-record"), "--robot.type=so101_follower", f"--robot.port={desk.bench.folder}/follower",
        "--robot.id=emulated", f"--robot.cameras={{{cameras}}}", "--teleop.type=so101_leader", f"--teleop.port={desk.bench.folder}/leader",
        "--teleop.id=emulated", "--dataset.repo_id=local/theirs", f"--dataset.root={out}", "--dataset.push_to_hub=false",
        "--dataset.single_task=Do as the hand does.", f"--dataset.num_episodes={episodes}", f"--dataset.episode_time_s={length}",
        "--dataset.reset_time_s=0", f"--dataset.fps={FPS}", "--play_sounds=false", "--dataset.rgb_encoder.vcodec=h264",
    ]
    begin = time.monotonic()
    process = desk.bench.start(command, "lerobot")
    # Its encoders are processes and threads of its own: all that it started counts.
    memory, used = watch(process, 300 + episodes * length * 4)
    took = time.monotonic() - begin
    info = out / "meta/info.json"
    frames = json.loads(info.read_text())["total_frames"] if info.exists() else 0
    said = "".join(desk.bench.said(process))
    if process.poll() is None:
        end(process)
    if not frames:
        print(said.strip().splitlines()[-1] if said.strip() else "it said nothing", file=sys.stderr)
    return {
        "frames": frames, "rate_hz": frames / (episodes * length), "cpu_s_per_s": used / (episodes * length), "memory_mb": memory,
        "beside_s": took - episodes * length, "exit": process.returncode, "slow_loops": said.count("slow"),
    }


def skew(options):
    """When the LED was lit, and when the joint was where, from the recorded times alone."""
    import numpy as np
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    period_ms, on_ms = 613, 217
    with Desk(options, cameras=1, led_period_ms=period_ms, led_on_ms=on_ms, delay_ms=20, jitter_ms=8) as desk:
        out = desk.bench.folder / "dataset"
        # Short answers tell exactly when they were given; the last one is long.
        for _ in range(20):
            desk.follower.log()
        process = desk.record(out, "--episodes", 1, "--episode-time", options.seconds, "--reset-time", 0)
        process.wait(60 + options.seconds * 2)
        if desk.bench.report(process) is None:
            raise SystemExit(desk.bench.said(process)[1])
        log = desk.follower.log()
        dataset, rows = LeRobotDataset("local/check", root=out, video_backend="pyav"), rows_of(out)[0]
        lit = []
        for index in range(len(dataset)):
            green = np.asarray(dataset[index]["observation.images.front"])[1]
            lit.append(green[green.shape[0] // 2, green.shape[1] // 2] > 0.5)
        captured = np.array([row["captured_ns.front"] for row in rows]) / 1e6
        lit = np.array(lit)
        # The offset with which the fewest images are on the wrong side of the LED's edges; the middle of those that are best.
        offsets = np.arange(-40, 40, 0.1)
        wrong = [int(((((captured - offset) % period_ms) < on_ms) != lit).sum()) for offset in offsets]
        best = offsets[np.array(wrong) == min(wrong)]
        led_ms = float((best.min() + best.max()) / 2)
        # The joint: where each row says it is, against what the motor said on the wire, by time.
        said = [(at, value) for at, motor, value in said_positions(log, 1)]
        at, ticks = np.array([at for at, _ in said]), np.array([value for _, value in said], dtype=float)
        observed = np.array([(row["observed_ns"] - row["state_age_ns"][0]) / 1e9 for row in rows])
        degrees = np.array([float(dataset[index]["observation.state"][0]) for index in range(len(dataset))])
        slope, middle = np.polyfit(degrees, np.interp(observed, at, ticks), 1)
        shifts = np.arange(-0.040, 0.040, 0.0002)
        off = [float(np.abs(np.interp(observed + shift, at, ticks) - (slope * degrees + middle)).mean()) for shift in shifts]
        joint_ms = float(shifts[int(np.argmin(off))] * 1e3)
        print(json.dumps({"images": len(lit), "led_ms": led_ms, "led_between_ms": [float(best.min()), float(best.max())], "wrong": min(wrong), "joint_ms": joint_ms}))
        return 0 if abs(led_ms) <= 2 and abs(joint_ms) <= 2 else 1


def hour(options):
    with Desk(options) as desk:
        out = desk.bench.folder / "dataset"
        episodes = max(2, math.ceil(options.seconds / 60))
        process = desk.record(out, "--episodes", episodes, "--episode-time", options.seconds / episodes, "--reset-time", 0)
        samples, begin = [], time.monotonic()
        while process.poll() is None and time.monotonic() - begin < options.seconds * 1.2 + 60:
            try:
                samples.append((time.monotonic() - begin, rss_mb(process.pid), cpu_s(process.pid)))
            except (FileNotFoundError, ProcessLookupError, IndexError):
                break
            time.sleep(5)
        report = desk.bench.report(process)
        if report is None:
            print(desk.bench.said(process)[1][-2000:], file=sys.stderr)
            return 1
        quarter = len(samples) // 4
        early, late = (max(memory for _, memory, _ in part) for part in (samples[quarter : 2 * quarter], samples[-quarter:]))
        print(json.dumps({
            "episodes": report["total_episodes"], "frames": report["total_frames"], "missed_ticks": report["missed_ticks"],
            "frames_lost": report["frames_lost"], "memory_mb_second_quarter": early, "memory_mb_last_quarter": late,
            "cpu_s_per_s": samples[-1][2] / samples[-1][0],
        }))
        return 0 if late < early * 1.1 + 5 and not report["frames_lost"] else 1


def cameras(options):
    """What `sinew find-cameras` says of cameras that are well, busy, twins, or not what they say."""
    import cv2

    twin = dict(modes=("MJPG 640x480 30", "YUYV 640x480 30"))
    broken = {4: {"busy": 1}, 5: {"freeze": 1}, 6: {"half_frames": 1}}
    distances = Camera("H", modes=("Z16 640x480 30",))
    with StandIn([Camera("A"), Camera("B"), Camera("T", **twin), Camera("T", **twin), Camera("E"), Camera("F"), Camera("G"), distances]) as stand_in:
        for number, keys in broken.items():
            stand_in.set(number, **keys)
        out = stand_in.folder / "pictures"
        run = lambda *words: subprocess.run([str(sinew_of(options)), *words], env=stand_in.env(), capture_output=True, text=True)
        said = run("find-cameras", "--json", "--out", str(out))
        found = {camera["node"]: camera for camera in json.loads(said.stdout)}
        failed = []
        for node, camera in sorted(found.items()):
            picture = camera["picture"] and cv2.imread(camera["picture"])
            is_seen = picture is not None and picture is not False and picture.shape == (480, 640, 3)
            number = int(node.removeprefix("/dev/video"))
            print(f"{camera['source']:12} {node}  {camera['rate_hz'] or 0:.1f} Hz  {camera['trouble'] or 'a picture'}")
            if is_seen == (number in broken) or (number in (2, 3)) != camera["source"].startswith("path:"):
                failed.append(node)
        if found["/dev/video7"].get("depth_mm") != [256, 12000]:
            failed.append(f"distances of {found['/dev/video7'].get('depth_mm')}")
        if len(found) != 8:
            failed.append(f"{len(found)} of 8 cameras")
        print("failed:", failed or "none")
        return 1 if failed else 0


def drawn_mm(number, height, width):
    """The distances of the stand-in's picture in Z16, as crates/drivers/tests/stand_in/video.c has them; NaN where its number, its time
    and the LED are."""
    import numpy as np

    y, x = np.mgrid[0:height, 0:width]
    block, led = width // 32, width // 16
    mm = 16.0 * (40 + (x + y // 2 + 4 * number) % 160)
    mm[(y < 2 * block) | ((abs(y - height // 2) <= led) & (abs(x - width // 2) <= led))] = np.nan
    mm[y + block >= height] = np.where(x < width // 2, 0.0, 12000.0)[y + block >= height]
    return mm


def depth(options):
    """Metres as LeRobot reads them, beside those that the camera gave."""
    import numpy as np
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from stand_in_cameras import burned_in

    key = "observation.images.wrist_depth"
    with Desk(options, cameras=1) as desk:
        desk.cameras.plug_in(8, Camera(serial="D", modes=("Z16 640x480 30 15",)))
        # What is compared is in the rows, however late they are on a busy machine.
        desk.more = ",age=10000"
        desk.more_cameras = [f'wrist_depth = "usb:D,640x480@{FPS},Z16{desk.more}"']
        out = desk.bench.folder / "dataset"
        process = desk.record(out, "--episodes", 2, "--episode-time", options.seconds / 2, "--reset-time", 0)
        process.wait(120 + options.seconds * 2)
        report = desk.bench.report(process)
        if report is None:
            raise SystemExit(desk.bench.said(process)[1])
        verified = subprocess.run([desk.bench.sinew, "dataset", "verify", "--deep", str(out)], capture_output=True, text=True)
        print(verified.stdout.strip() or verified.stderr.strip())
        dataset, side = LeRobotDataset("local/check", root=out, video_backend="pyav", depth_output_unit="m"), rows_of(out)
        worst, wrong, compared, numbers = 0.0, 0, 0, set()
        for index in range(len(dataset)):
            item = dataset[index]
            metres = np.asarray(item[key], dtype=np.float64)
            assert metres.shape == (1, 480, 640), metres.shape
            number = burned_in(metres[0] / 4.096 * 256)
            numbers.add(number)
            row = side[int(item["episode_index"])][int(item["frame_index"])]
            wrong += number != row["sequence.wrist_depth"] - 1
            # Unknown ones become the nearest that is kept, far ones the farthest: LeRobot's own range.
            expected = np.clip(drawn_mm(number, 480, 640) / 1000, 0.01, 10.0)
            is_drawn = ~np.isnan(expected)
            step = (expected + 3.5) * math.log(13.5 / 3.51) / 4095
            off = np.abs(metres[0] - expected) / step
            worst, compared = max(worst, float(off[is_drawn].max())), compared + int(is_drawn.sum())
        stats = {name: float(np.asarray(dataset.meta.stats[key][name]).item()) for name in ("min", "max", "mean")}
        found = {
            "frames": len(dataset), "depth_keys": dataset.meta.depth_keys, "pictures": len(numbers), "wrong": wrong, "pixels": compared,
            "worst_in_code_steps": worst, "stats_m": stats, "frames_lost": report["frames_lost"], "missed_ticks": report["missed_ticks"],
        }
        print(json.dumps(found))
        # Half a step is what rounding to codes costs.
        is_right = dataset.meta.depth_keys == [key] and not wrong and worst <= 0.51 and len(numbers) > 1
        return 0 if is_right and not verified.returncode else 1


def loop(options):
    """How late the loop is with three cameras, beside itself without one."""
    late = {}
    with Desk(options) as desk:
        for name in ["without", "with"]:
            out = desk.bench.folder / name
            if name == "without":
                process = desk.bench.teleop("--seconds", options.seconds, "--fps", FPS, *desk.realtime, name=name)
            else:
                process = desk.record(out, "--episodes", 1, "--episode-time", options.seconds, "--reset-time", 0, name=name)
            process.wait(60 + options.seconds * 2)
            report = desk.bench.report(process)
            if report is None:
                raise SystemExit(desk.bench.said(process)[1])
            late[name] = report["cadence"]["lateness"]
            print(name, json.dumps({key: round(value / 1e6, 3) for key, value in late[name].items() if key.endswith("_ns")}))
    ratio = late["with"]["p999_ns"] / late["without"]["p999_ns"]
    print(f"p99.9 with three cameras and their recording: {ratio:.2f} x that without; load {os.getloadavg()[0]:.1f}")
    return 0 if ratio <= 1.2 else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sessions", "compare", "skew", "loop", "cameras", "depth", "hour"])
    parser.add_argument("--sinew", type=Path, help="the binary; without it the release build")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--episode-seconds", type=float, default=2.0)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--alone", action="store_true", help="compare: leave LeRobot out")
    parser.add_argument("--no-realtime", action="store_true")
    options = parser.parse_args()
    if options.seconds is None:
        options.seconds = {"compare": 20, "skew": 30, "loop": 140, "depth": 10, "hour": 3600}.get(options.what, 0)
    return {"sessions": sessions, "compare": compare, "skew": skew, "loop": loop, "cameras": cameras, "depth": depth, "hour": hour}[options.what](options)


if __name__ == "__main__":
    sys.exit(main())
