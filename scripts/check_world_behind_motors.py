#!/usr/bin/env python
"""A policy through the whole of a robot's software, beside the same policy in the simulator.

    scripts/check_world_behind_motors.py --sinew target/release/sinew [--seeds 100] [--first 1000]

For each seed `sinew emulate so101 --world TASK` plays motors and cameras of a simulated scene, and `sinew rollout --port`
drives them as it would drive a robot: through serial ports, calibration, the bus's time and images over a socket, until the
world says that the task is done or --seconds are over. Beside it `sinew eval` has the same seeds in the simulator itself.
Prints both rates with 95 % Wilson intervals, and ends with 1 when the first does not lie within the second's interval.
A busy machine lets ticks be missed, which the simulator's own time never does: what was missed is printed.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from emulated import Bench, Floor, end, say_floor, table, wait_for, wilson

POLICY = Path(__file__).resolve().parent.parent / "policies" / "act_so101_pick_place"


def one(args, seed):
    with Bench(args.sinew, args.realtime) as bench:
        world = bench.emulator("so101", "follower", "--world", args.task, "--seed", str(seed))
        port, cameras = bench.folder / "follower", bench.folder / "follower.cameras"
        command = [bench.sinew, "rollout", "--robot", "so101", "--port", port, "--id", "emulated", "--policy", args.policy]
        command += ["--camera", f"front=sim:{cameras}", "--camera", f"wrist=sim:{cameras}", "--seconds", str(args.seconds)]
        command += ["--no-record", "--no-rerun", "--json", *args.options]
        process = bench.start([str(word) for word in command], "rollout")
        outcome, began = "running", time.monotonic()

        def is_over():
            nonlocal outcome
            while not world.world.empty():
                line = world.world.get() or ""
                if line.startswith(("world: success", "world: failure")):
                    outcome = line.removeprefix("world: ")
            return outcome != "running" or process.poll() is not None

        wait_for(is_over, args.seconds + 60, 0.05)
        took = time.monotonic() - began
        # It may have come to its end while the program did.
        time.sleep(0.2)
        is_over()
        end(process, 10)
        out, err = bench.said(process)
        reports = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        episode = next((report for report in reports if "missed_ticks" in report), {})
        failed = "" if process.returncode in (0, 130) else " ".join(err.split())[-300:]
        return {
            "seed": seed, "success": outcome == "success", "outcome": outcome, "seconds": took, "exit_code": process.returncode,
            "ticks": episode.get("ticks"), "missed_ticks": episode.get("missed_ticks"), "starved": episode.get("starved_ticks"), "error": failed,
        }


def direct(args):
    command = [args.sinew, "eval", "--task", args.task, "--policy", args.policy, "--episodes", args.seeds, "--seed", args.first, "--json"]
    with Bench(args.sinew) as bench:
        command += ["--contact-sheet", bench.folder / "sheet.png"]
        result = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return {line["seed"]: bool(line["success"]) for line in lines if isinstance(line.get("success"), bool) and "seed" in line}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinew", type=Path, default=Path("target/release/sinew"), help="the binary (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="scenes (default: %(default)s)")
    parser.add_argument("--first", type=int, default=1000, metavar="SEED", help="the first one's seed (default: %(default)s)")
    parser.add_argument("--task", default="pick-place", help="default: %(default)s")
    parser.add_argument("--policy", type=Path, default=POLICY, help="the checkpoint (default: the demonstration policy)")
    parser.add_argument("--seconds", type=float, default=20, help="for each scene (default: %(default)s)")
    parser.add_argument("--realtime", action="store_true", help="run all of it before ordinary programs (SCHED_FIFO), on a machine that does other work too")
    parser.add_argument("--out", type=Path, metavar="FILE", help="for the figures as JSON, else they are printed last")
    parser.add_argument("options", nargs="*", help="more options of `sinew rollout`, after --")
    args = parser.parse_args()

    in_simulator = direct(args)
    found = []
    with Floor(30, args.realtime) as floor:
        for seed in range(args.first, args.first + args.seeds):
            found.append(one(args, seed))
            last = found[-1]
            print(f"# seed {seed}: {last['outcome']} after {last['seconds']:.1f} s, {last['missed_ticks']} of {last['ticks']} ticks missed; in the "
                  f"simulator {'success' if in_simulator.get(seed) else 'no success'}{'; ' + last['error'] if last['error'] else ''}", file=sys.stderr)
        figures = floor.stop()
    of = lambda successes, trials: "{} of {}, {:.1f} % ({:.1f}..{:.1f} %)".format(
        successes, trials, 100 * successes / max(1, trials), *(100 * bound for bound in wilson(successes, trials)))
    here, there = sum(run["success"] for run in found), sum(in_simulator.values())
    low, high = wilson(there, len(in_simulator))
    share = here / len(found)
    table([["", "successes, and the 95 % interval"], ["behind motors", of(here, len(found))], ["in the simulator", of(there, len(in_simulator))]])
    both = sum(run["success"] == in_simulator.get(run["seed"]) for run in found)
    missed, ticks = sum(run["missed_ticks"] or 0 for run in found), sum(run["ticks"] or 0 for run in found)
    print(f"alike in {both} of {len(found)} scenes; {missed} of {ticks + missed} ticks missed; {sum(bool(run['error']) for run in found)} runs ended with an error")
    say_floor(figures)
    is_within = low <= share <= high
    print(("ok    " if is_within else "WRONG ") + f"{100 * share:.1f} % lies {'' if is_within else 'not '}within {100 * low:.1f}..{100 * high:.1f} %")
    text = json.dumps({"behind_motors": found, "in_simulator": in_simulator, "floor": figures, "is_within": is_within})
    args.out.write_text(text + "\n") if args.out else print(text)
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
