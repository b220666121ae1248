#!/usr/bin/env python
"""Ends `sinew teleop` in every way at seeded moments, and looks at the wire: who is told what, and when.

    scripts/check_bus_ends.py --sinew target/release/sinew [--runs 200] [--jobs 2]

Each run: an emulated follower, whose goal registers hold some other place, and a leader that a hand moves; SIGKILL, SIGTERM
or SIGSTOP at a moment between the program's start and some seconds later, so that it is starting, engaging or running;
--on-exit hold or limp. Asserted:
    hold    no goal later than 150 ms after the signal
    limp    no motor has torque later than 150 ms after the signal
    always  in every start each motor's goal is where it said that it is, before its torque is switched on; whoever is
            stopped and goes on later commands no motor that the watchdog took over
Then, once each: a tick costs one sync read and one sync write; a motor that dies is named, with its id, 200 ms after the
500 ms that robot.toml's default allows; after an unplugged port is back goals go on within 2 s, and nothing jumps.
To each limit is added what this machine's floor was at worst beside it; an end that is late only by that is marked.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from emulated import (
    ARM, GOAL, POSITION, TORQUE, Bench, Checks, Floor, end, goal_ticks, percentile, said_positions, say_floor, slack_s, steps, table, wait_for, writes,
)

HZ = 60
LATEST_S = 0.150
NOTICE_S, NAMED_S, BACK_S = 0.5, 0.2, 2.0
# Motors measure their place with noise, and creep between two questions.
NEAR = 4


def faults_of_order(entries):
    """What is wrong with how motors got torque: the goal must be where the motor said it was, and come before."""
    found, said, goals = [], {}, {}
    for entry in entries:
        for _, motor, place in said_positions([entry]):
            said[motor] = place
        for _, motor, goal in writes([entry], GOAL):
            goals[motor] = goal
        for _, motor, value in writes([entry], TORQUE):
            if value != 1:
                continue
            name = ARM[motor - 1] if 1 <= motor <= 6 else f"motor {motor}"
            if motor not in goals:
                found.append(f"{name} got torque before a goal")
            elif motor not in said or abs(goals[motor] - said[motor]) > NEAR:
                found.append(f"{name} got torque with the goal {goals[motor]}, and had said {said.get(motor)}")
            # The next time anew.
            goals.pop(motor, None)
    return found


def commands(entries):
    """When goals were written, and whether they only said that each motor is to stay where it had said that it is."""
    found, said = [], {}
    for entry in entries:
        for _, motor, place in said_positions([entry]):
            said[motor] = place
        goals = writes([entry], GOAL)
        if goals:
            found.append((entry["at"], all(motor in said and abs(goal - said[motor]) <= NEAR for _, motor, goal in goals)))
    return found


def run(args, number):
    rng = random.Random(f"{args.seed} {number}")
    what = rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
    on_exit, moment = rng.choice(["hold", "limp"]), rng.uniform(0, args.latest)
    with Bench(args.sinew, args.realtime) as bench:
        follower, _ = bench.pair(seed=rng.randrange(1 << 30))
        for motor in ARM:
            follower.ask("put", motor, "goal_position", rng.randrange(1200, 2900))
        process = bench.teleop("--fps", HZ, "--seconds", 60, "--on-exit", on_exit)
        time.sleep(max(0.0, process.began + moment - time.monotonic()))
        found = {"run": number, "signal": what.name, "on_exit": on_exit, "moment_s": moment, "wrong": []}
        if process.poll() is not None:
            return found | {"phase": "ended before", "wrong": [f"it had ended by itself: {reason(bench, process)}"]}
        at = time.monotonic()
        os.kill(process.pid, what)
        time.sleep(0.6)
        resumed = None
        if what == signal.SIGSTOP:
            resumed = time.monotonic()
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.4)
        registers = follower.torque()
        entries = follower.log()
        ended = process.poll() is not None
        on = [(when, motor) for when, motor, value in writes(entries, TORQUE) if value == 1]
        off = [(when, motor) for when, motor, value in writes(entries, TORQUE) if value == 0]
        goals = commands(entries)
        before = [when for when, _ in on if when <= at]
        found["phase"] = "starting" if not before else "engaging" if at - before[0] < 1 else "running"
        wrong = found["wrong"] = faults_of_order(entries)
        found["is_over"] = ended
        is_taken = resumed is None or bool(before)
        # One that was stopped before any motor had torque has lost nothing, and may go on.
        if is_taken:
            # Who goes on later may say once more that they hold where they are.
            later = [when for when, is_hold in goals if when > at and not (resumed and when > resumed and is_hold)]
            found["last_goal_ms"] = max([(when - at) * 1e3 for when in later], default=0.0)
            found["late_ms"] = max([(when - at) * 1e3 for when, _ in on if when > at], default=0.0)
            found["late_ms"] = max(found["late_ms"], found["last_goal_ms"])
            if on_exit == "limp":
                if any(registers):
                    wrong.append(f"torque afterwards: {registers}")
                last_on = {motor: when for when, motor in on}
                went = [min((when for when, of in off if of in (motor, 254) and when >= since), default=None) for motor, since in last_on.items()]
                if went and None not in went:
                    found["limp_ms"] = max((when - at) * 1e3 for when in went)
                    found["late_ms"] = max(found["late_ms"], found["limp_ms"])
        return found


def reason(bench, process):
    """What a process said at the end, without what connecting changed."""
    return " ".join(line.strip() for line in bench.said(process)[1].splitlines() if " is now " not in line)


def ticks(args, check):
    with Bench(args.sinew, args.realtime) as bench:
        follower, _ = bench.pair(seed=args.seed)
        process = bench.teleop("--fps", HZ, "--seconds", 5)
        wait_for(lambda: process.poll() is not None, 30)
        end(process)
        entries, report = follower.log(), bench.report(process)
        if report is None:
            return check(False, f"a run of 5 s ends with a report: {bench.said(process)[1][-300:]}")
        times = goal_ticks(entries)
        reads = [e["at"] for e in entries if e["asked"] == "sync_read" and e["address"] == POSITION and times[0] <= e["at"] <= times[-1]]
        again = sum(motor["retries"] for motor in report["motors"] if motor["robot"] == "so101")
        between = Counter()
        for begin, until in zip(times, times[1:]):
            between[sum(begin <= at < until for at in reads)] += 1
        # The last is what it holds with at the end.
        written = len(times)
        check(written <= report["ticks"] + 1, f"one sync write a tick: {written} of {report['ticks']} ticks")
        check(len(reads) - (written - 1) <= again and between[1] >= 0.8 * (written - 1),
              f"one sync read a tick: {between[1]} of {written - 1} times exactly one between two writes, {len(reads)} in all, "
              f"{again} questions were asked again")


def driving(bench, follower, seconds, check, what):
    """A process that has driven the follower for two seconds. None when it ended before, which fails the check of `what`."""
    process = bench.teleop("--fps", HZ, "--seconds", seconds)
    wait_for(lambda: process.poll() is not None or len(goal_ticks(follower.log())) > 2 * HZ, 20, 0.1)
    if process.poll() is not None:
        check(False, f"{what}: it had ended before: {reason(bench, process)}")
        return None
    return process


def dies(args, check):
    with Bench(args.sinew, args.realtime) as bench:
        follower, _ = bench.pair(seed=args.seed)
        process = driving(bench, follower, 30, check, "a motor that dies is named")
        if not process:
            return
        follower.ask("die", "elbow_flex")
        at = time.monotonic()
        names = lambda: "elbow_flex" in reason(bench, process)
        is_named = wait_for(names, 10, 0.005)
        took = time.monotonic() - at
        wait_for(lambda: process.poll() is not None, 5)
        ended = time.monotonic() - at if process.poll() is not None else None
        text = reason(bench, process)
        check(is_named, f"a motor that dies is named: {text!r}")
        check("motor 3" in text or "id 3" in text, "... with its id")
        limit = NOTICE_S + NAMED_S + args.slack()
        check(is_named and took <= limit, f"... {took * 1e3:.0f} ms after it died, expected at most {limit * 1e3:.0f}")
        last = max((when - at for when in goal_ticks(follower.log())), default=0)
        print(f"      goals went on for {max(0, last) * 1e3:.0f} ms; {'it ended' if ended else 'it runs'} with exit code {process.poll()}; "
              f"torque afterwards {follower.torque()}")


def unplugged(args, check):
    with Bench(args.sinew, args.realtime) as bench:
        follower, _ = bench.pair(seed=args.seed)
        process = driving(bench, follower, 14, check, "unplugged for 3 s")
        if not process:
            return
        follower.ask("unplug")
        before = follower.positions()
        time.sleep(3)
        until = follower.positions()
        follower.ask("replug")
        at = time.monotonic()
        # Where the arm goes meanwhile, looked at as often as can be; a look that took long says nothing of speeds.
        seen = [(at, until)]
        while time.monotonic() < at + 3:
            begin, positions = time.monotonic(), follower.positions()
            if time.monotonic() - begin < 0.003 and begin - seen[-1][0] > 0.03:
                seen.append((begin, positions))
            time.sleep(0.004)
        later = [when for when in goal_ticks(follower.log()) if when > at]
        limit = BACK_S + args.slack()
        check(bool(later) and later[0] - at <= limit, f"unplugged for 3 s, goals go on {(later[0] - at) * 1e3:.0f} ms after it is back" if later
              else f"unplugged for 3 s, no goals after it is back: {reason(bench, process)}")
        drift = max(abs(a - b) for a, b in zip(before, until))
        speed = lambda one, other: max(abs(a - b) for a, b in zip(one[1], other[1])) / (other[0] - one[0])
        fastest = max((speed(one, other) for one, other in zip(seen, seen[1:])), default=0) * 360 / 4096
        first = {}
        for when, motor, goal in writes(follower.entries, GOAL):
            if when > at:
                first.setdefault(motor, goal)
        off = max((abs(goal - until[motor - 1]) for motor, goal in first.items()), default=0)
        check(off <= 12, f"... and the first goals are where the motors are, to {off:.0f} ticks")
        # 3 rad/s are 172 degrees a second.
        check(fastest <= 172 * 1.3, f"... and no joint is quicker than {fastest:.0f} degrees a second; it drifted {drift:.0f} ticks meanwhile")
        jumps = [far for dt, far, _, when in steps(follower.entries) if when > at + 0.001 and dt < 1]
        check(max(jumps, default=0) <= 60, f"... and no goal steps farther than {max(jumps, default=0)} ticks")
        wait_for(lambda: process.poll() is not None, 30)
        end(process)
        check(process.returncode == 0, f"... and it ends when it is to, with exit code {process.returncode}: "
              f"{reason(bench, process)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinew", type=Path, default=Path("target/release/sinew"), help="the binary (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=200, metavar="N", help="signals (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="the first run, to see one again (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once (default: %(default)s)")
    parser.add_argument("--latest", type=float, default=3.0, metavar="S", help="the latest moment after the start (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of moments, faults and hands (default: %(default)s)")
    parser.add_argument("--realtime", action="store_true", help="run all of it before ordinary programs (SCHED_FIFO), on a machine that does other work too")
    parser.add_argument("--out", type=Path, metavar="FILE", help="for the figures as JSON, else they are printed last")
    args = parser.parse_args()
    check, worst = Checks(), [0.0]
    args.slack = lambda: worst[0]

    with Floor(200, args.realtime) as floor:
        with ThreadPoolExecutor(args.jobs) as pool:
            found = list(pool.map(lambda number: run(args, number), range(args.first, args.first + args.runs)))
        figures = floor.stop()
    slack_ms = slack_s(figures) * 1e3
    for run_ in found:
        late_ms = run_.get("late_ms", 0.0) - LATEST_S * 1e3
        if late_ms > slack_ms:
            run_["wrong"].append(f"the last goal or torque is {late_ms + LATEST_S * 1e3:.0f} ms after")
        run_["is_late"] = late_ms > 0
    rows = [["signal", "on exit", "while", "runs", "last goal ms", "limp after ms", "over 150 ms", "wrong"]]
    of = lambda values: "-" if not values else f"{percentile(values, 0.5):.0f} / {max(values):.0f}"
    for key in sorted({(run["signal"], run["on_exit"], run["phase"]) for run in found}):
        these = [run for run in found if (run["signal"], run["on_exit"], run["phase"]) == key]
        goals, limp = ([run[name] for run in these if name in run] for name in ("last_goal_ms", "limp_ms"))
        rows.append([*key, len(these), of(goals), of(limp), sum(run["is_late"] for run in these), sum(bool(run["wrong"]) for run in these)])
    table(rows)
    print("(median / most)")
    late = [run for run in found if run["wrong"]]
    for run_ in late:
        print(f"run {run_['run']}: {run_['signal']}, {run_['on_exit']}, {run_['phase']}, {run_['moment_s']:.3f} s: {'; '.join(run_['wrong'])}")
    say_floor(figures)
    check(not late, f"{len(found) - len(late)} of {len(found)} ends as expected; {sum(run['is_late'] for run in found)} took longer than 150 ms, allowed for the floor "
          f"are {slack_ms:.0f} ms more")

    with Floor(200, args.realtime) as floor:
        ticks(args, check)
        worst[0] = slack_s(figures)
        dies(args, check)
        unplugged(args, check)
        more = floor.stop()
    say_floor(more)
    text = json.dumps({"runs": found, "floor": figures, "floor_of_the_rest": more, "failed": check.failed})
    args.out.write_text(text + "\n") if args.out else print(text)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
