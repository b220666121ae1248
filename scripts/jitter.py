#!/usr/bin/env python
"""How late the control loop wakes, beside what the machine allows and beside LeRobot's way of waiting.

    PYTHON_WITH_LEROBOT_0.6.1 scripts/jitter.py --sinew target/release/sinew [--seconds 30] [--rates 30 210]

For each rate, idle and with every processor busy (stress-ng), at the same time:
    sinew       a whole rollout with --realtime: simulated robot, two cameras, an encoder a camera, a Rerun
                file, inference of the demonstration policy; its own cadence report
    cyclictest  of Debian's rt-tests, at the same rate and priority: the floor of this machine
    LeRobot     its loop's wait (precise_sleep for what is left of the period) with nothing to do, ordinary
                scheduling, as it comes
Lateness in ms: median, p99, p99.9, most. Rates that are no multiple of 30 are rounded up to one. Needs
cyclictest, stress-ng and the right to SCHED_FIFO (`sinew doctor`).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

from lerobot.utils.robot_utils import precise_sleep

PRIORITY = 80


def lerobot(rate_hz, seconds, late_ms):
    start = time.perf_counter()
    due = start
    while (begin := time.perf_counter()) - start < seconds:
        late_ms.append((begin - due) * 1e3)
        precise_sleep(max(0.0, 1 / rate_hz - (time.perf_counter() - begin)))
        # Its loop has no deadlines of its own: a tick is due a period after the one before.
        due = begin + 1 / rate_hz


def quantiles(late_ms):
    late_ms = sorted(late_ms)
    at = lambda q: late_ms[min(len(late_ms) - 1, int(q * len(late_ms)))]
    return [at(0.5), at(0.99), at(0.999), late_ms[-1]]


def cyclictest(rate_hz, seconds):
    loops = int(rate_hz * seconds)
    command = ["cyclictest", "-m", "-q", "-t1", f"-p{PRIORITY}", f"-i{1_000_000 // rate_hz}", f"-l{loops}", "-h100000"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def of_cyclictest(text):
    late_ms = []
    for line in text.splitlines():
        if found := re.match(r"(\d{6}) (\d+)$", line):
            late_ms += [int(found[1]) / 1e3] * int(found[2])
    if over := re.search(r"Histogram Overflows: (\d+)", text):
        late_ms += [100.0] * int(over[1])
    return quantiles(late_ms)


def measure(sinew, rate_hz, seconds, busy, folder):
    load = subprocess.Popen(["stress-ng", "--cpu", str(os.cpu_count()), "-q"]) if busy else None
    try:
        floor = cyclictest(rate_hz, seconds)
        late_ms = []
        python = threading.Thread(target=lerobot, args=(rate_hz, seconds, late_ms))
        python.start()
        name = f"{rate_hz}-{busy}"
        command = [sinew, "rollout", "--realtime", "--json", "--duration", str(seconds), "--fps-multiplier", str(rate_hz // 30)]
        command += ["--record", f"{folder}/{name}", "--rerun", f"{folder}/{name}.rrd"]
        run = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        python.join()
        report, totals = (json.loads(line) for line in run.stdout.splitlines())
        late = totals["cadence"]["lateness"]
        ours = [late[f"{key}_ns"] / 1e6 for key in ("p50", "p99", "p999", "max")]
        yield "sinew", ours, f"{report['missed_ticks']} missed, {totals['cadence']['overruns']} overran, {report['frames_lost']} frames lost"
        yield "cyclictest", of_cyclictest(floor.communicate()[0]), ""
        yield "LeRobot", quantiles(late_ms), ""
    finally:
        if load:
            load.terminate()
            load.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinew", required=True)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rates", type=int, nargs="+", default=[30, 210])
    args = parser.parse_args()
    print(f"{'rate':>5} {'load':5} {'loop':11}" + "".join(f"{name:>9}" for name in ["median", "p99", "p99.9", "most"]))
    with tempfile.TemporaryDirectory() as folder:
        for rate_hz in [-(-rate // 30) * 30 for rate in args.rates]:
            for busy in [False, True]:
                for loop, late, note in measure(args.sinew, rate_hz, args.seconds, busy, folder):
                    cells = "".join(f"{value:9.3f}" for value in late)
                    print(f"{rate_hz:5} {'busy' if busy else 'idle':5} {loop:11}{cells}  {note}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
