#!/usr/bin/env python
"""An hour of teleoperation at 60 Hz on wires that lose 1 % of the answers and flip a bit in 0.1 % of them.

    scripts/check_bus_hour.py --sinew target/release/sinew [--seconds 3600] [--bad-seconds 60]

A follower and a leader that a hand moves, both `sinew emulate`; both suffer. Asserted of `sinew teleop`: it does not end
before its time; each kind of fault that was put in shows in the report; no goal on the follower's wire is farther from the
one before than robot.toml's velocity and step allow; ticks are at most 1 ms later (p99.9), and work that takes longer than
a period does so by at most 1 ms more, than what the floor beside them cost: a thread that sleeps to absolute deadlines, and
a byte on its way through a bare pseudo-terminal. Then the same with
5 % lost for --bad-seconds: it goes on, or says why it ends and ends controlled. Prints the figures, and as JSON.
"""

import argparse
import json
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path

from emulated import ARM, GOAL, TURN, Bench, Checks, Floor, end, say_floor, table, writes

HZ = 60
ROBOT = Path(__file__).resolve().parent.parent / "robots" / "so101" / "robot.toml"


class Watched:
    """What was on an arm's wire, in figures, so that an hour of it needs no memory."""

    def __init__(self, emulator, limits):
        self.emulator, self.limits, self.last = emulator, limits, {}
        self.counts = Counter()
        self.worst = {"share": 0.0}
        self.ticks, self.first, self.until = 0, None, None

    def look(self):
        self.emulator.log()
        entries, self.emulator.entries = self.emulator.entries, []
        for entry in entries:
            self.counts[entry["asked"]] += 1
            self.counts["answers"] += len(entry["said"])
            self.counts["answers that did not arrive as they were said"] += sum(not said["is_whole"] for said in entry["said"])
            if entry["asked"] == "sync_write" and entry["address"] == GOAL:
                self.ticks += 1
                self.first, self.until = self.first or entry["at"], entry["at"]
        for at, motor, goal in writes(entries, GOAL):
            if motor in self.last:
                before, was = self.last[motor]
                # What is late on the wire was not late when it was chosen: a period is allowed at least, and half a one more.
                periods = max(1.0, (at - before) * HZ) + 0.5
                velocity, step = self.limits[motor]
                allowed = min(step, velocity * periods / HZ) + 1
                share = abs(goal - was) / allowed
                if share > self.worst["share"]:
                    self.worst = {"share": share, "motor": ARM[motor - 1], "ticks": abs(goal - was), "allowed": allowed, "after_ms": (at - before) * 1e3}
            self.last[motor] = (at, goal)


def limits():
    """Of each motor id its velocity in ticks a second and its step in ticks."""
    parts = tomllib.loads(ROBOT.read_text())["part"]
    per_rad = TURN / (2 * 3.141592653589793)
    return {part["motor"]["id"]: (part["limits"]["velocity"] * per_rad, part["limits"]["step"] * per_rad) for part in parts}


def run(args, seconds, faults):
    with Bench(args.sinew, args.realtime) as bench, Floor(HZ, args.realtime) as floor:
        follower, leader = bench.pair(*(word for fault in faults for word in ("--fault", fault)), seed=args.seed)
        watched = [Watched(arm, limits()) for arm in (follower, leader)]
        process = bench.teleop("--fps", HZ, "--seconds", seconds, *args.options)
        until = time.monotonic() + seconds + 60
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.5)
            for arm in watched:
                arm.look()
        hangs = process.poll() is None
        figures = {"floor": floor.stop()}
        end(process)
        for arm in watched:
            arm.look()
        out, err = bench.said(process)
        figures |= {
            "exit_code": process.returncode, "hangs": hangs, "report": bench.report(process),
            "said": [line for line in err.splitlines() if " was " not in line],
            "torque_afterwards": follower.torque(),
            "worst_goal_step": watched[0].worst, "goals": watched[0].ticks,
            "goals_for_s": watched[0].until - watched[0].first if watched[0].first else 0.0,
            "wires": {name: dict(arm.counts) for name, arm in zip(("follower", "leader"), watched)},
            "motors_counts": {"follower": follower.ask("counts"), "leader": leader.ask("counts")},
        }
        return figures


def errors(report):
    """Of all motors: kind by kind, how often."""
    total = Counter()
    for motor in report["motors"]:
        total.update(motor["errors"])
        total["retries"] += motor["retries"]
    return dict(total)


def say(figures):
    report = figures["report"]
    if report:
        lateness, work = report["cadence"]["lateness"], report["cadence"]["work"]
        ms = lambda of: [f"{of[key] / 1e6:.2f}" for key in ("p50_ns", "p99_ns", "p999_ns", "max_ns")]
        floor = figures["floor"]
        table([
            ["ms", "p50", "p99", "p99.9", "most"],
            ["ticks begin late", *ms(lateness)],
            *([name, *(f"{of[key]:.2f}" for key in ("p50_ms", "p99_ms", "p999_ms", "max_ms"))]
              for name, of in (("a thread beside them", floor), ("a bare terminal beside them", floor["terminal"]))),
            ["work in a tick", *ms(work)],
        ])
        print(f"{report['outcome']}; {report['ticks']} ticks, {report['missed_ticks']} missed, {report['failed_ticks']} failed, "
              f"{report['cadence']['overruns']} took longer than a period; the report: {errors(report)}")
    print(f"{figures['goals']} goals on the wire in {figures['goals_for_s']:.1f} s; worst step {figures['worst_goal_step']}")
    for name, counts in figures["wires"].items():
        print(f"{name}'s wire: {counts}; {figures['motors_counts'][name]}")
    say_floor(figures["floor"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinew", type=Path, default=Path("target/release/sinew"), help="the binary (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3600, help="at 1 %% lost (default: %(default)s)")
    parser.add_argument("--bad-seconds", type=float, default=60, help="at 5 %% lost (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of faults and of the hand (default: %(default)s)")
    parser.add_argument("--realtime", action="store_true", help="run all of it before ordinary programs (SCHED_FIFO), on a machine that does other work too")
    parser.add_argument("--out", type=Path, metavar="FILE", help="for the figures as JSON, else they are printed last")
    parser.add_argument("options", nargs="*", help="more options of `sinew teleop`, after --, such as --realtime")
    args = parser.parse_args()
    check = Checks()

    print(f"== 1 % of the answers lost and 0.1 % with a flipped bit, {args.seconds:g} s")
    figures = run(args, args.seconds, ["drop=0.01", "flip=0.001"])
    say(figures)
    report, floor = figures["report"], figures["floor"]
    check(figures["exit_code"] == 0 and report is not None and report["outcome"] == "ended",
          f"it ends when it is to, with exit code 0 (found {figures['exit_code']}: {'; '.join(figures['said'])})")
    if report:
        found = errors(report)
        ticks = report["ticks"] + report["missed_ticks"]
        check(abs(ticks - args.seconds * HZ) <= 2, f"{ticks} ticks run or missed are those of {args.seconds:g} s")
        injected = figures["wires"]["follower"]["answers that did not arrive as they were said"] + \
            figures["wires"]["leader"]["answers that did not arrive as they were said"]
        check(found["retries"] > 0 and found["retries"] + sum(found.values()) >= injected / 2,
              f"{injected} answers that did not arrive show as {found['retries']} questions asked again and {found['no_answer']} without answer")
        check(found["checksum"] + found["length"] > 0, f"flipped bits show as such: {found['checksum']} checksums, {found['length']} lengths")
        lateness, work = report["cadence"]["lateness"], report["cadence"]["work"]
        beyond = lateness["p999_ns"] / 1e6 - floor["p999_ms"] - floor["terminal"]["p999_ms"]
        check(beyond <= 1, f"ticks begin {lateness['p999_ns'] / 1e6:.2f} ms late (p99.9), {beyond:+.2f} ms beside the floor, expected at most +1")
        over = max(0.0, work["max_ns"] / 1e6 - 1e3 / HZ)
        worst = floor["max_ms"] + floor["terminal"]["max_ms"]
        check(over <= worst + 1, f"the longest tick is {over:.2f} ms longer than a period; the floor's worst is {worst:.2f} ms")
    check(figures["worst_goal_step"]["share"] <= 1, f"no goal is farther from the one before than the limits allow: {figures['worst_goal_step']}")

    print(f"\n== 5 % of the answers lost, {args.bad_seconds:g} s")
    bad = run(args, args.bad_seconds, ["drop=0.05"])
    say(bad)
    ends_well = bad["exit_code"] == 0 or bad["exit_code"] == 1 and bad["said"] and not any("panick" in line for line in bad["said"])
    check(ends_well and not bad["hangs"], f"it goes on or ends controlled: exit code {bad['exit_code']}, {'; '.join(bad['said']) or 'nothing said'}")
    check(bad["worst_goal_step"]["share"] <= 1, f"no goal is farther from the one before than the limits allow: {bad['worst_goal_step']}")

    text = json.dumps({"one_percent": figures, "five_percent": bad, "failed": check.failed})
    args.out.write_text(text + "\n") if args.out else print(text)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
