"""A daemon over hours of work: its memory, threads and descriptors stay as they are.

    SINEW=target/release/sinew python scripts/check_daemon_hours.py [--hours 2] [--simulated-hours 24] [--policy DIR] [--log FILE]

The simulated SO-101 in `sinew daemon --fleet`, in real time: rounds of teleoperation from a socket, recording, rollout, replay and
a stop in the middle, with a viewer who stays, one who comes anew each round and one who never reads, `sinew fleet watch` now and then,
wrong tokens, and refused requests. At rest after each round, with the one viewer, it counts. Beside it `sinew rollout --pace fast` does
so many hours on the simulated clock, in one episode; `--policy` names a small one that makes this faster, and `--hours 0` runs this
alone. Nothing may grow: the medians of the last fifth are compared with those of the
second fifth, memory by 5 % and 4 MB, threads and descriptors by none. Exit code 1 if something did. Needs the package websockets.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from daemon_process import Daemon
from daemon_viewers import Operator, Socket, Viewer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--hours", type=float, default=2)
parser.add_argument("--simulated-hours", type=float, default=24)
parser.add_argument("--policy", help="the policy of the simulated hours")
parser.add_argument("--camera-size", default="640x480", help="the size of its images")
parser.add_argument("--log", type=Path, help="a line of JSON for each count")


class Mute(Socket):
    """Who reads nothing after the greeting."""

    def read(self):
        pass


def counts(pid):
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "kB": int(status["VmRSS"].split()[0]),
        "threads": int(status["Threads"]),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "children": len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()),
    }


def grown(name, rows):
    """What has grown from the second fifth to the last one."""
    fifth = len(rows) // 5
    if not fifth:
        return [f"{name}: {len(rows)} counts are too few"]
    found = []
    for what in rows[0]:
        early, late = (statistics.median(row[what] for row in part) for part in (rows[fifth : 2 * fifth], rows[-fifth:]))
        if late > (early * 1.05 + 4096 if what == "kB" else early):
            found.append(f"{name}: {what} went from {early} to {late}")
    return found


def refused(daemon):
    """Requests that get nothing, and a wrong token."""
    for path, token, body in [("me", "wrong", None), ("work", daemon.token, {"kind": "dance"}), ("nothing", daemon.token, None)]:
        request = urllib.request.Request(f"http://127.0.0.1:{daemon.port}/api/v1/{path}", body and json.dumps(body).encode())
        request.add_header("Authorization", f"Bearer {token}")
        request.add_header("Content-Type", "application/json")
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(request)
            raise AssertionError(f"{path} was answered")


def round_of(daemon, number, place, ends):
    """All that somebody does with a robot, once; how each work ended is counted."""
    viewer, mute = Viewer(daemon), Mute(daemon, "cameras/stream", rate_hz=30)

    def work(words, headers=None, stop=None):
        daemon.ask("work", words, headers)
        if stop:
            time.sleep(1.5)
            daemon.ask("stop", {"stop": stop})
            time.sleep(0.5)
            # A work waits for it.
            daemon.ask("emergency/clear", {})
        daemon.until(lambda state: state["mode"] == "idle", 120)
        error = daemon.ask("work")["error"]
        why = re.sub(r"[0-9.]+", "N", error.splitlines()[-1]) if error else "well"
        ends[why] = ends.get(why, 0) + 1

    operator = Operator(daemon, [value + 0.05 for value in daemon.ask("state")["position"]])
    work({"kind": "teleop", "leader": "remote", "seconds": 4}, {"Sinew-Lease": operator.lease})
    operator.close()
    until = time.monotonic() + 20
    while daemon.ask("state")["operator"]:
        assert time.monotonic() < until, "the operator is gone, and has the lease"
        time.sleep(0.05)
    dataset = f"set{number // 10}"
    work({"kind": "record", "leader": "scripted", "dataset": dataset, "episodes": 2, "episode_s": 2, "reset_s": 0})
    watch = None
    if number % 3 == 0:
        command = [os.environ["SINEW"], "fleet", "watch", "hours", "--fleet", place, "--seconds", "6", "--images", daemon.room / "seen", "--json"]
        watch = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    work({"kind": "rollout", "seconds": 5, "seed": number})
    if any(item["name"] == dataset for item in daemon.ask("datasets")):
        work({"kind": "replay", "dataset": dataset, "episode": 0})
    work({"kind": "rollout", "seconds": 60}, stop=["stop", "now", "emergency"][number % 3])
    refused(daemon)
    daemon.ask("datasets")
    daemon.ask("policies")
    for socket in (viewer, mute):
        socket.close()
    if watch:
        assert watch.wait(60) == 0
    if number % 10 == 9:
        shutil.rmtree(next(daemon.room.rglob(dataset)))


def start_fast(options, room):
    """The rollout of the simulated hours, and the file of its report."""
    words = ["rollout", "--pace", "fast", "--seconds", str(int(options.simulated_hours * 3600)), "--no-record", "--no-rerun", "--json"]
    if options.policy:
        words += ["--policy", os.path.abspath(options.policy), "--camera-size", options.camera_size]
    report = open(room / "fast.json", "w+")
    return subprocess.Popen([os.environ["SINEW"], *words], cwd=room, stdout=report, stderr=subprocess.DEVNULL, preexec_fn=lambda: os.nice(5)), report


def main():
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as room, contextlib.ExitStack() as after:
        fast, report = start_fast(options, Path(room))
        after.callback(fast.kill)
        rows, fast_rows, ends, number, end = [], [], {}, 0, time.monotonic() + options.hours * 3600
        if options.hours:
            place = f"tcp/127.0.0.1:{Daemon.free_port()}"
            daemon = Daemon(Path(room) / "daemon", ["--task", "pick-place", "--fleet", f"listen:{place}", "--fleet-name", "hours"])
            after.callback(daemon.close)
            viewer = Viewer(daemon)
        while time.monotonic() < end or fast.poll() is None:
            if time.monotonic() < end:
                round_of(daemon, number, place, ends)
                number += 1
                time.sleep(2)
                rows.append(counts(daemon.process.pid))
                if time.monotonic() >= end:
                    viewer.close()
                    print(json.dumps({"rounds": number, "ends": ends, "first": rows[0], "last": rows[-1]}), flush=True)
            else:
                time.sleep(10)
            if fast.poll() is None:
                with contextlib.suppress(OSError, KeyError):
                    fast_rows.append(counts(fast.pid))
            if options.log:
                with options.log.open("a") as log:
                    log.write(json.dumps({"time": time.time(), "round": number, "ends": ends, "daemon": rows[-1:], "fast": fast_rows[-1:]}) + "\n")
        found = (grown("daemon", rows) if options.hours else []) + (grown("fast", fast_rows) if options.simulated_hours else [])
        report.seek(0)
        episode = json.loads(report.readline())
        ticks = episode["ticks"]
        if fast.returncode or ticks < options.simulated_hours * 3600 * 30:
            found.append(f"fast: it ended with {fast.returncode} after {ticks} ticks: {episode['reason']}")
    ends_of = {"rounds": number, "ends of works": ends, "daemon": rows[:1] + rows[-1:], "fast": fast_rows[:1] + fast_rows[-1:]}
    print(json.dumps(ends_of | {"fast ticks": ticks, "grown": found}))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
