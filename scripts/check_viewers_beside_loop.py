"""The control loop's lateness in a daemon that is watched, beside that of one that nobody watches, and of the verb.

    SINEW=target/release/sinew python scripts/check_viewers_beside_loop.py [--rounds 5] [--seconds 25] [--ordinary]

The demonstration policy works the simulated SO-101 with two cameras at 120 Hz, with --realtime: in each round once by
`sinew rollout`, once in a `sinew daemon` that nobody watches, and once in `sinew daemon --fleet`, with three viewers who read states
and all cameras, and `sinew fleet watch` over zenoh. The viewers, who are other machines in life, run when nobody else wants to (SCHED_IDLE). Whatever else disturbs the
machine for a while meets all. Prints p99.9 of each run, what the viewers got, and the ratio of the medians of both daemons; exit code 1
above 1.2. A verb's first ticks are those of a process that has just started, so that it may be later than a daemon.
Run it on a quiet machine, as root or with the right to real-time priority. Needs the package websockets.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from daemon_process import Daemon

MOST = 1.2
RATE_HZ = 120

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--seconds", type=int, default=25, help="of each run; three runs a round")
parser.add_argument("--viewers", type=int, default=3)
parser.add_argument("--ordinary", action="store_true", help="loops without --realtime")


def idle():
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def watch(daemon, viewers):
    """What a process of its own does: watches until it is ended, and says what came."""
    from daemon_viewers import Viewer

    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    viewers = [Viewer(daemon) for _ in range(viewers)]
    print("watching", flush=True)
    while not ended:
        time.sleep(0.2)
    print(json.dumps([viewer.messages() for viewer in viewers]), flush=True)


def late(episode):
    assert episode["ticks"] > 0.95 * options.seconds * RATE_HZ, episode
    times = episode["cadence"]["lateness"]
    return {name: round(times[f"{name}_ns"] * 1e-6, 3) for name in ("p50", "p99", "p999", "max")}


def verb(robot):
    words = ["rollout", "--robot", robot, "--seconds", str(options.seconds), "--no-record", "--no-rerun", "--json", *realtime]
    done = subprocess.run([os.environ["SINEW"], *words], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    return late(json.loads(done.stdout.splitlines()[0]))


def unwatched(daemon):
    daemon.ask("work", {"kind": "rollout", "seconds": options.seconds})
    daemon.until(lambda state: state["mode"] == "rollout")
    time.sleep(options.seconds)
    daemon.until(lambda state: state["mode"] == "idle")
    end = daemon.ask("work")
    assert end["error"] is None, end
    return late(end["episodes"][0])


def watched(daemon, place):
    command = [sys.executable, __file__, "--watch", str(daemon.port), daemon.token, str(options.viewers)]
    viewers = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=idle)
    assert viewers.stdout.readline() == "watching\n"
    fleet = [os.environ["SINEW"], "fleet", "watch", "watched", "--fleet", place, "--images", daemon.room / "seen", "--json"]
    fleet = subprocess.Popen(fleet, stdout=subprocess.PIPE, text=True, preexec_fn=idle)
    assert fleet.stdout.readline(), "nobody is in the fleet"
    times = unwatched(daemon)
    for process in (viewers, fleet):
        process.terminate()
    got = {"state and images of each viewer": json.loads(viewers.communicate()[0]), "lines over zenoh": len(fleet.communicate()[0].splitlines())}
    return times, got


def main():
    shown = {"verb": [], "unwatched": [], "watched": []}
    with tempfile.TemporaryDirectory() as room:
        robot = Path(room) / "so101"
        shutil.copytree(Path(__file__).resolve().parent.parent / "robots/so101", robot)
        text = (robot / "robot.toml").read_text()
        assert "control_rate_hz = 30\n" in text
        (robot / "robot.toml").write_text(text.replace("control_rate_hz = 30\n", f"control_rate_hz = {RATE_HZ}\n"))
        place = f"tcp/127.0.0.1:{Daemon.free_port()}"
        words = ["--robot", robot, "--task", "pick-place", *realtime]
        fleet = ["--fleet", f"listen:{place}", "--fleet-name", "watched"]

        def note(what, times, got={}):
            shown[what].append(times["p999"])
            print(json.dumps({"what": what, "ms_late": times, **got}), flush=True)

        for number in range(options.rounds):
            note("verb", verb(robot))
            for what, more in [("unwatched", []), ("watched", fleet)]:
                daemon = Daemon(Path(room) / f"{what}{number}", [*words, *more])
                try:
                    # The first work of a process is no measure of the others.
                    daemon.ask("work", {"kind": "rollout", "seconds": 2})
                    daemon.until(lambda state: state["mode"] == "rollout")
                    daemon.until(lambda state: state["mode"] == "idle")
                    if more:
                        note(what, *watched(daemon, place))
                    else:
                        note(what, unwatched(daemon))
                finally:
                    daemon.close()
    middle = {what: statistics.median(times) for what, times in shown.items()}
    ratio = middle["watched"] / middle["unwatched"]
    print(json.dumps({"median of p99.9, ms": middle, "ratio": round(ratio, 2), "most": MOST}))
    sys.exit(ratio > MOST)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watch"]:
        watch(argparse.Namespace(port=int(sys.argv[2]), token=sys.argv[3]), int(sys.argv[4]))
    else:
        options = parser.parse_args()
        realtime = [] if options.ordinary else ["--realtime"]
        main()
