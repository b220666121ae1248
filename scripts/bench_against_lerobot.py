"""Times LeRobot 0.6.1 and Sinew's recorder on the same pictures; see bench_against_lerobot.sh."""

import argparse
import json
import multiprocessing
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset

WIDTH, HEIGHT, FPS, CAMERAS, PICTURES = 640, 480, 30, 2, 60


def cpu_s():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def shown(pictures, camera, frame):
    return pictures[(frame + camera * 7) % PICTURES]


def psnr(root, pictures, frames):
    """Of camera 0's first frames, over all channels."""
    path = next((Path(root) / "videos" / "observation.images.camera0").rglob("*.mp4"))
    errors = []
    with av.open(str(path)) as video:
        for frame, picture in enumerate(video.decode(video=0)):
            if frame >= min(frames, PICTURES):
                break
            wanted = shown(pictures, 0, frame).astype(np.float64)
            errors.append(np.mean((picture.to_ndarray(format="rgb24") - wanted) ** 2))
    return 10 * np.log10(255**2 / np.mean(errors))


def size_mb(root):
    return sum(path.stat().st_size for path in Path(root).rglob("*") if path.is_file()) / 1e6


def lerobot(folder, pictures, frames, encoder):
    features = {f"observation.images.camera{camera}": {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]} for camera in range(CAMERAS)}
    features["action"] = {"dtype": "float32", "shape": (6,), "names": None}
    root = folder / "lerobot"
    shutil.rmtree(root, ignore_errors=True)
    dataset = LeRobotDataset.create("bench/lerobot", FPS, features, root=root, streaming_encoding=True, encoder_queue_maxsize=frames, rgb_encoder=encoder)
    # Starting threads and codecs is not what is compared.
    before, begun = cpu_s(), time.monotonic()
    for frame in range(frames):
        row = {f"observation.images.camera{camera}": shown(pictures, camera, frame) for camera in range(CAMERAS)}
        dataset.add_frame({**row, "action": np.zeros(6, np.float32), "task": "Bench"})
    saving = time.monotonic()
    dataset.save_episode()
    wall, save = time.monotonic() - begun, time.monotonic() - saving
    used = cpu_s() - before
    dataset.finalize()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu_s_per_recorded_s": used * FPS / frames, "peak_mb": peak_mb, "wall_s": wall, "save_s": save, "psnr_db": psnr(root, pictures, frames), "mb": size_mb(root)}


def alone(*arguments):
    """LeRobot in a process of its own, so that its memory is its own (with Python, its packages and the pictures)."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(lerobot, arguments)


def sinew(program, folder, pictures, frames, *options):
    root = folder / "sinew"
    shutil.rmtree(root, ignore_errors=True)
    command = [program, root, f"cameras={CAMERAS}", f"frames={frames}", "episodes=1", "overload=wait", *options]
    begun = time.monotonic()
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    report["wall_s"] = time.monotonic() - begun
    return {**report, "psnr_db": psnr(root, pictures, frames), "mb": size_mb(root)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path, help="the example bench_recording")
    parser.add_argument("--frames", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        dump = folder / "pictures"
        subprocess.run([arguments.program, folder / "first", "frames=1", "episodes=1", f"dump={dump}"], check=True, capture_output=True)
        pictures = np.fromfile(dump, np.uint8).reshape(PICTURES, HEIGHT, WIDTH, 3)
        for name, run in [
            ("Sinew, openh264, quality 24, GOP 2", lambda: sinew(arguments.program, folder, pictures, arguments.frames)),
            ("Sinew, openh264, quality 26, GOP 2", lambda: sinew(arguments.program, folder, pictures, arguments.frames, "quality=26")),
            ("Sinew, openh264, quality 24, GOP 10", lambda: sinew(arguments.program, folder, pictures, arguments.frames, "gop=10")),
            ("LeRobot streaming, h264", lambda: alone(folder, pictures, arguments.frames, RGBEncoderConfig(vcodec="h264"))),
            ("LeRobot streaming, its default (AV1)", lambda: alone(folder, pictures, arguments.frames, None)),
        ]:
            print(json.dumps({"what": name, **run()}), flush=True)


if __name__ == "__main__":
    main()
