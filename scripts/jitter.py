#!/usr/bin/env python
"""How late the control loop wakes, beside what the machine allows and beside LeRobot's way of waiting.

    PYTHON_WITH_LEROBOT_0.6.1 scripts/jitter.py rates|missed|disturbed --loop TARGET/release/examples/whole_loop --policy FOLDER

`cargo build --release --example whole_loop` makes the loop; FOLDER is a checkpoint with 640x480 images, such as the
ACT of the published size that benches/policy/run.sh makes (act_two_cameras). At the same time run:
    Sinew       its whole loop in real time: three cameras of 640x480 at 30 fps, an H.264 encoder for each, a Rerun
                file or viewer, and the policy beside it; its own cadence report. The loop wakes at the rate that is
                said; the policy and the recording keep to 30 Hz, or to 25 Hz where 30 is no divisor of it (200 Hz)
    cyclictest  of Debian's rt-tests, at the same rate and priority and on the same processor: the floor of this machine
    LeRobot     its loop's wait (precise_sleep for what is left of the period) with nothing to do, ordinary
                scheduling, as it comes: a lower bound, for its real loop also reads cameras, infers and hands frames
                to its encoders

rates      30, 60 and 200 Hz, idle and with every processor busy (stress-ng)
missed     30 Hz, busy, for --minutes
disturbed  200 Hz: a camera of 10 fps; a viewer that is stopped by SIGSTOP for five seconds; a disk that stalls for
           two seconds (an ext4 of its own, frozen by fsfreeze; needs root)

Lateness in ms: median, p99, p99.9, most, and p99 and p99.9 as multiples of the floor's. Ticks that Sinew missed stand
beside those that cyclictest would have missed (the whole periods in each of its latencies). Then what Sinew says it lost.
Needs cyclictest, stress-ng, and the right to SCHED_FIFO (`sinew doctor`); `disturbed` also the viewer of rerun-sdk.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PRIORITY = 80
HISTOGRAM_US = 100_000


def lerobot(rate_hz, seconds, late_ms):
    from lerobot.utils.robot_utils import precise_sleep

    start = time.perf_counter()
    due = start
    while (begin := time.perf_counter()) - start < seconds:
        late_ms.append((begin - due) * 1e3)
        precise_sleep(max(0.0, 1 / rate_hz - (time.perf_counter() - begin)))
        # Its loop has no deadlines of its own: a tick is due a period after the one before.
        due = begin + 1 / rate_hz


def cyclictest(rate_hz, seconds, cpu):
    loops = int(rate_hz * seconds)
    command = ["cyclictest", "-m", "-q", "-t1", "-a", str(cpu), "--policy", "fifo", f"-p{PRIORITY}", f"-i{1_000_000 // rate_hz}"]
    return subprocess.Popen([*command, f"-l{loops}", f"-h{HISTOGRAM_US}"], stdout=subprocess.PIPE, text=True)


def of_cyclictest(text):
    late_ms = []
    for line in text.splitlines():
        if found := re.match(r"(\d{6}) (\d+)$", line):
            late_ms += [int(found[1]) / 1e3] * int(found[2])
    if over := re.search(r"Histogram Overflows: (\d+)", text):
        late_ms += [HISTOGRAM_US / 1e3] * int(over[1])
    return late_ms


def quantiles(late_ms):
    late_ms = sorted(late_ms)
    at = lambda q: late_ms[min(len(late_ms) - 1, int(q * len(late_ms)))]
    return [at(0.5), at(0.99), at(0.999), late_ms[-1]]


@contextlib.contextmanager
def busy_processors(is_wanted):
    if not is_wanted:
        yield
        return
    load = subprocess.Popen(["stress-ng", "--cpu", str(os.cpu_count()), "-q"])
    try:
        yield
    finally:
        load.terminate()
        load.wait()


def side_by_side(args, rate_hz, seconds, options=(), busy=False, with_lerobot=False, meanwhile=lambda: None):
    """Runs the loops at once, `meanwhile` from when Sinew's ticks, which may say what happened; Sinew's report and the others' lateness in ms."""
    command = [args.loop, f"policy={args.policy}", f"rate={rate_hz}", f"seconds={seconds}", f"fifo={PRIORITY}", f"cpu={args.cpu}", *options]
    with busy_processors(busy), subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL) as sinew:
        if sinew.stdout.readline() != "ticking\n":
            raise SystemExit(f"{' '.join(command)} did not begin")
        floor = cyclictest(rate_hz, seconds, args.cpu)
        late_ms = []
        python = threading.Thread(target=lerobot, args=(rate_hz, seconds, late_ms)) if with_lerobot else None
        if python:
            python.start()
        happened = meanwhile()
        report = json.loads(sinew.stdout.read()) | {"happened": happened or ""}
        if python:
            python.join()
        floor = of_cyclictest(floor.communicate()[0])
    if sinew.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {sinew.returncode}: {report['reason']}")
    return report, floor, late_ms


def outputs(folder, name):
    return [f"record={folder}/{name}", f"rerun={folder}/{name}.rrd"]


def show(what, rate_hz, report, floor, late_ms):
    row = lambda name, values, note: print(f"| {what} | {name} |" + "".join(f" {value:.3f} |" for value in values) + f" {note} |", flush=True)
    late = report["cadence"]["lateness"]
    missed = sum(int(ms * rate_hz / 1e3) for ms in floor)
    ours, floor = [late[f"{key}_ns"] / 1e6 for key in ("p50", "p99", "p999", "max")], quantiles(floor)
    row("Sinew", ours, f"{ours[1] / floor[1]:.2f}, {ours[2] / floor[2]:.2f} of the floor; {losses(report)}")
    row("cyclictest", floor, f"{missed} missed")
    if late_ms:
        theirs = quantiles(late_ms)
        row("LeRobot", theirs, f"Sinew's p99 is {ours[1] / theirs[1]:.3f} of it")


def losses(report):
    cadence, inference = report["cadence"], report["inference"]["latency"]
    left_out = report["policy_ticks"] - report["frames_lost"] - (report["rows"] or 0)
    ages = ", ".join(f"{camera['age']['p50_ns'] / 1e6:.0f}" for camera in report["cameras"])
    realtime = [asked["what"] for asked in report["realtime"]["asked"] if asked["refused"]]
    return (
        f"{report['happened']}{report['missed_ticks']} missed, {cadence['overruns']} overran, worst part {cadence['worst_part']}, "
        f"{cadence['cpu_ns'] / 1e3 / cadence['ticks']:.0f} us of a processor a tick; frames: {report['frames_lost']} lost, "
        f"{left_out} left out by encoders, of {report['policy_ticks']}; images {ages} ms old (median); "
        f"{inference['count']} chunks in {inference['p50_ns'] / 1e6:.0f} ms (median)" + "".join(f"; refused: {what}" for what in realtime)
    )


def rates(args, folder):
    for rate_hz in args.rates:
        for busy in [False, True]:
            options = outputs(folder, f"{rate_hz}-{busy}")
            run = side_by_side(args, rate_hz, args.seconds, options, busy, with_lerobot=True)
            show(f"{rate_hz} Hz, {'busy' if busy else 'idle'}", rate_hz, *run)


def missed(args, folder):
    rate_hz = 30
    run = side_by_side(args, rate_hz, args.minutes * 60, outputs(folder, "missed"), busy=True)
    show(f"{rate_hz} Hz, busy, {args.minutes:g} minutes", rate_hz, *run)


@contextlib.contextmanager
def viewer(args):
    """A process group that listens for a recording, and its address."""
    command = [*args.viewer.split(), "--port", str(args.port)]
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=said, stderr=said, process_group=0) as process:
        time.sleep(3)
        if process.poll() is not None:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} ended: {said.read().decode()}")
        try:
            yield process.pid, f"127.0.0.1:{args.port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def disk(folder):
    """A file system of its own, which can be frozen."""
    image, mount = Path(folder) / "disk.ext4", Path(folder) / "disk"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(1 << 30)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


def stop_group(group, after_s, for_s):
    time.sleep(after_s)
    os.killpg(group, signal.SIGSTOP)
    time.sleep(for_s)
    os.killpg(group, signal.SIGCONT)


def freeze(mount, after_s, for_s):
    time.sleep(after_s)
    start = time.perf_counter()
    # It takes no writes while it is being frozen either, which lasts until what was written before is on the disk.
    subprocess.run(["fsfreeze", "--freeze", mount], check=True)
    try:
        time.sleep(for_s)
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", mount], check=True)
    return f"the disk stood still for {time.perf_counter() - start:.1f} s; "


def disturbed(args, folder):
    rate_hz, after_s = 200, args.seconds / 3

    def run(what, options, meanwhile=lambda: None):
        show(what, rate_hz, *side_by_side(args, rate_hz, args.seconds, options, meanwhile=meanwhile))

    run("nothing", outputs(folder, "nothing"))
    run("a camera of 10 fps", [*outputs(folder, "camera"), "slow=10"])
    with viewer(args) as (group, address):
        run("a viewer stopped for 5 s", [f"record={folder}/viewer", f"connect={address}"], lambda: stop_group(group, after_s, 5))
    with disk(folder) as mount:
        run("a disk that stalls for 2 s", outputs(mount, "stalled"), lambda: freeze(mount, after_s, 2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rates", "missed", "disturbed"])
    parser.add_argument("--loop", required=True)
    parser.add_argument("--policy", required=True)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rates", type=int, nargs="+", default=[30, 60, 200])
    parser.add_argument("--cpu", type=int, default=os.cpu_count() - 1, help="the processor of Sinew's control thread and of cyclictest (default: %(default)s)")
    parser.add_argument("--viewer", default="rerun --serve-grpc", help="a Rerun viewer or server without a window (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9877, help="for the viewer")
    args = parser.parse_args()
    print("| | loop | median | p99 | p99.9 | most | |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        {"rates": rates, "missed": missed, "disturbed": disturbed}[args.what](args, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
