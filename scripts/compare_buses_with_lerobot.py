#!/usr/bin/env python
"""Sinew beside LeRobot 0.6.1 on the same emulated arms, in the same run: what faults of a serial bus cost each.

    PYTHON_WITH_LEROBOT_0.6.1 scripts/compare_buses_with_lerobot.py --sinew target/release/sinew [--connects 10] [--seconds 60]

A follower and a leader that a hand moves, both SO-101, both `sinew emulate`. LeRobot runs its own `teleop_loop` of
lerobot-teleoperate with SO101Follower and SO101Leader as they come; Sinew runs `sinew teleop`. Both at 60 Hz.

connects    of --connects, those after which goals arrive; both arms suffer from the faults
session     how long goals go on after the faults have begun, at most --seconds; both connect without faults
missed      periods of 1/60 s without goals on the follower's wire, from the first goal to the last
wrong       positions that LeRobot read and the motor was never near (more than 3 degrees from all that it said in the
            50 ms before); of Sinew, which does not tell what it reads, nothing
leaps       goals on the wire more than 9 degrees from the one before, 100 ms or less later: the hand is slower by far
Then what a packet without data does, a goal from before, SIGTERM and SIGKILL, a motor that dies, a second connect, and
how long things take. All of it is told by the emulators, but for what each program says of itself.
"""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from emulated import (
    ARM, EEPROM_END, GOAL, POSITION, TORQUE, Bench, Floor, end, goal_ticks, missed, said_positions, say_floor, steps, table, wait_for, writes,
)

HZ = 60
# Ticks of 4096: 3 and 9 degrees.
NEAR, LEAP = 34, 102
TRIES = 5
FAULTS = {
    "none": [],
    "0.1 % lost": ["drop=0.001"],
    "1 % lost": ["drop=0.01"],
    "5 % lost": ["drop=0.05"],
    "0.1 % flipped": ["flip=0.001"],
}


# --- LeRobot's side, in processes of its own ------------------------------------------------------------------------


def lerobot_arms(follower, leader, watch=None):
    from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig
    from lerobot.teleoperators.so_leader import SO101Leader, SO101LeaderConfig

    robot = SO101Follower(SO101FollowerConfig(port=follower, id="emulated"))
    human = SO101Leader(SO101LeaderConfig(port=leader, id="emulated"))
    if watch is not None:
        for arm, bus in (("follower", robot.bus), ("leader", human.bus)):
            def sync_read(address, *args, arm=arm, inner=bus._sync_read, **more):
                begin = time.monotonic()
                values, comm = inner(address, *args, **more)
                if address == POSITION:
                    watch.append((arm, begin, time.monotonic(), dict(values)))
                return values, comm

            bus._sync_read = sync_read
    return robot, human


def lerobot_connects(follower, leader, count):
    """One line of JSON for each."""
    for _ in range(count):
        robot, human = lerobot_arms(follower, leader)
        error, begin = None, time.monotonic()
        try:
            human.connect()
            robot.connect()
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
        print(json.dumps({"error": error, "ms": (time.monotonic() - begin) * 1e3}), flush=True)
        for arm in (robot, human):
            with contextlib.suppress(Exception):
                arm.bus.port_handler.closePort()


def lerobot_waits(follower, leader, seconds):
    """As a program that loads a policy, or asks its user, after it has connected the robot."""
    robot, _ = lerobot_arms(follower, leader)
    robot.connect()
    time.sleep(seconds)
    robot.disconnect()


def lerobot_teleop(follower, leader, seconds, readings):
    from lerobot.processor import make_default_processors
    from lerobot.scripts.lerobot_teleoperate import teleop_loop

    watch = []
    robot, human = lerobot_arms(follower, leader, watch)
    processors = make_default_processors()
    human.connect()
    robot.connect()
    error = None
    try:
        teleop_loop(human, robot, HZ, *processors, duration=seconds)
    except KeyboardInterrupt:
        pass
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    ends = []
    # As lerobot-teleoperate ends.
    for arm in (human, robot):
        try:
            arm.disconnect()
        except Exception as failure:
            ends.append(f"{type(failure).__name__}: {failure}")
            break
    with open(readings, "w") as file:
        json.dump(watch, file)
    print()
    print(json.dumps({"error": error, "disconnect": ends}), flush=True)


# --- the two, alike -------------------------------------------------------------------------------------------------


class LeRobot:
    name = "LeRobot 0.6.1"

    def connects(self, bench, follower, count):
        process = bench.start([sys.executable, __file__, "--as-lerobot", "connects", bench.folder, str(count)], "connects")
        # Its SDK waits 50 ms for each answer that is lost, three times at most.
        wait_for(lambda: process.poll() is not None, 60 + 20 * count)
        end(process)
        lines = [json.loads(line) for line in bench.said(process)[0].splitlines() if line.startswith("{")]
        errors = [line["error"] for line in lines if line["error"]]
        return len(lines) - len(errors), errors

    def teleop(self, bench, seconds, *_):
        readings = bench.folder / "readings.json"
        return bench.start([sys.executable, __file__, "--as-lerobot", "teleop", bench.folder, str(seconds), readings], "lerobot")

    def waits(self, bench):
        return bench.start([sys.executable, __file__, "--as-lerobot", "waits", bench.folder, "1"], "lerobot")

    def errors(self, bench, process):
        report = bench.report(process)
        if report is None:
            lines = bench.said(process)[1].strip().splitlines()
            # The error of a traceback may have several lines.
            last = max((i for i, line in enumerate(lines) if "Error" in line and not line.startswith(" ")), default=len(lines) - 1)
            return [" ".join(lines[last:])] if lines else [f"exit code {process.returncode}"]
        return [text for text in [report["error"], *(f"disconnecting: {text}" for text in report["disconnect"])] if text]

    def wrong(self, bench, arms):
        """Positions that were read and the motor never was near."""
        path = bench.folder / "readings.json"
        if not path.exists():
            return None
        count, total = 0, 0
        said = {(arm, motor): said_positions(emulator.entries, motor) for arm, emulator in arms.items() for motor in range(1, 7)}
        for arm, begin, until, values in json.loads(path.read_text()):
            for motor, value in values.items():
                around = [place for at, _, place in said[arm, int(motor)] if begin - 0.05 <= at <= until]
                if around:
                    total += 1
                    count += not any(abs(value - place) <= NEAR for place in around)
        return count, total


class Sinew:
    name = "Sinew"

    def connects(self, bench, follower, count):
        good, errors = 0, []
        for number in range(count):
            follower.forget()
            process = bench.teleop("--fps", HZ, "--seconds", 0.5, name=f"connect{number}")
            if not wait_for(lambda: process.poll() is not None, 30):
                errors.append("no end within 30 s")
            end(process)
            follower.log()
            if process.returncode == 0 and goal_ticks(follower.entries):
                good += 1
            else:
                errors += self.errors(bench, process) or [f"no goal, exit code {process.returncode}"]
        return good, errors

    def teleop(self, bench, seconds, *more):
        return bench.teleop("--fps", HZ, "--seconds", seconds, *more)

    def waits(self, bench):
        # It has no torque while it does nothing.
        return self.teleop(bench, 1)

    def errors(self, bench, process):
        said = [line for line in bench.said(process)[1].splitlines() if line.startswith("error")]
        if not said and process.returncode:
            said = bench.said(process)[1].strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        return said

    def wrong(self, *_):
        return None


def brief(texts):
    texts = [" ".join(text.split()) for text in texts]
    return "; ".join(text if len(text) < 160 else text[:157] + "..." for text in dict.fromkeys(texts)) or "nothing"


def running(follower, process, patience=180):
    """Whether goals go on: more of them than the way to the leader's pose would be worth waiting for."""
    return wait_for(lambda: process.poll() is not None or len(goal_ticks(follower.log())) > HZ // 2, patience, 0.05) and process.poll() is None


def bench_of(args):
    # Not by SCHED_FIFO: LeRobot's SDK spins while it waits, and what hands a terminal's bytes over would have no processor.
    return Bench(args.sinew, args.realtime, (lambda: os.nice(-15)) if args.realtime else None)


def begin(bench, side, follower, seconds, *more):
    """A run that goes on, after at most 5 tries: on a busy machine connecting fails also without faults. How often it was
    tried, beside it; what was before counts no more."""
    for attempt in range(1, TRIES + 1):
        process = side.teleop(bench, seconds, *more)
        if running(follower, process):
            return process, attempt
        end(process)
        said = side.errors(bench, process)
        follower.forget()
    raise RuntimeError(f"it did not begin in {TRIES} tries: {brief(said)}")


def session(args, side, faults):
    with bench_of(args) as bench:
        follower, leader = bench.pair(seed=args.seed)
        process, tries = begin(bench, side, follower, args.seconds + 15)
        since = time.monotonic()
        for arm in (follower, leader):
            arm.ask("fault", *faults)
        # The log is fetched now and then, so that none of its answers is long.
        while process.poll() is None and time.monotonic() < since + args.seconds:
            time.sleep(1)
            follower.log(), leader.log()
        survived = process.poll() is None
        until = time.monotonic()
        for arm in (follower, leader):
            arm.ask("fault")
        end(process)
        entries = [entry for entry in follower.log() if since <= entry["at"] <= until]
        leader.log()
        ticks = goal_ticks(entries)
        found = {
            "survived": survived,
            "tries": tries,
            "seconds": args.seconds if survived else (ticks[-1] - since if ticks else 0.0),
            "ticks": len(ticks),
            "missed": missed(ticks, HZ),
            "longest_gap_ms": max((b - a for a, b in zip(ticks, ticks[1:])), default=0) * 1e3,
            "leaps": sum(far > LEAP and dt <= 0.1 for dt, far, _, _ in steps(entries)),
            "wrong": side.wrong(bench, {"follower": follower, "leader": leader}),
            "said": side.errors(bench, process) if not survived else [],
        }
        report = bench.report(process)
        if report and "motors" in report:
            found["retries"] = sum(motor["retries"] for motor in report["motors"])
            found["refused"] = sum(motor["errors"]["implausible"] for motor in report["motors"])
        return found


def connects(args, side, faults):
    with bench_of(args) as bench:
        options = [word for fault in faults for word in ("--fault", fault)]
        follower, _ = bench.pair(*options, seed=args.seed)
        good, errors = side.connects(bench, follower, args.connects)
        return {"good": good, "of": args.connects, "said": errors}


def alike(bench):
    """Both arms stand in the middle, where nothing pulls at them and nobody moves them."""
    arms = bench.pair(hand=False)
    for arm in arms:
        for motor in ARM:
            arm.ask("load", motor, 0)
            arm.ask("move", motor, 2048)
    return arms


def bare_packet(args, side):
    """One motor answers one read with a packet that holds no data; the hand rests, so that each leap is its doing."""
    with bench_of(args) as bench:
        follower, leader = alike(bench)
        process, _ = begin(bench, side, follower, 30)
        time.sleep(1)
        at = time.monotonic()
        for arm in (leader, follower):
            arm.ask("fault", *(f"bare:elbow_flex@{0.2 * count}" for count in range(5)))
        time.sleep(2)
        is_alive = process.poll() is None
        end(process)
        entries = [entry for entry in follower.log() if entry["at"] >= at]
        leader.log()
        wrong = side.wrong(bench, {"follower": follower, "leader": leader})
        found = {"goes_on": is_alive, "farthest_goal_step_deg": max((far for _, far, _, _ in steps(entries)), default=0) * 360 / 4096}
        found |= {"wrong": wrong and wrong[0], "said": side.errors(bench, process) if not is_alive else []}
        report = bench.report(process)
        if report and "motors" in report:
            motors = [motor for motor in report["motors"] if motor["part"] == "elbow_flex"]
            found["asked_again"] = sum(motor["retries"] for motor in motors)
            found["told"] = {kind: sum(motor["errors"][kind] for motor in motors) for kind in motors[0]["errors"]}
        return found


def stale_goal(args, side, waits):
    """Each goal register holds a place 35 degrees away before torque comes on; leader and follower stand alike."""
    for _ in range(TRIES):
        with bench_of(args) as bench:
            follower, _ = alike(bench)
            for motor in ARM:
                follower.ask("put", motor, "goal_position", 2048 + 400)
            process = side.waits(bench) if waits else side.teleop(bench, 20)
            farthest = 0.0

            def look():
                nonlocal farthest
                farthest = max(farthest, *(abs(place - 2048) for place in follower.positions()))
                return process.poll() is not None or len(goal_ticks(follower.log())) > 2 * HZ

            wait_for(look, 180)
            is_begun = process.poll() in (None, 0)
            errors = side.errors(bench, process)
            end(process)
            entries = follower.log()
        if is_begun:
            on = {motor: at for at, motor, value in reversed(writes(entries, TORQUE)) if value == 1}
            goals = writes(entries, GOAL)
            in_order = sum(any(motor == of and at < when for at, of, _ in goals) for motor, when in on.items())
            return {"jump_deg": farthest * 360 / 4096, "goal_before_torque": f"{in_order} of {len(on)} motors", "said": []}
    raise RuntimeError(f"it did not begin in {TRIES} tries: {brief(errors)}")


def killed(args, side, number, *more):
    with bench_of(args) as bench:
        follower, _ = bench.pair(seed=args.seed)
        process, _ = begin(bench, side, follower, 60, *more)
        time.sleep(1)
        at = time.monotonic()
        os.kill(process.pid, number)
        time.sleep(1.5)
        torque = follower.torque()
        later = [when - at for when in goal_ticks(follower.log()) if when > at]
        return {"torque": torque, "last_goal_ms": max(later, default=0.0) * 1e3, "is_over": process.poll() is not None}


def dead_motor(args, side):
    with bench_of(args) as bench:
        follower, _ = bench.pair(seed=args.seed)
        process, _ = begin(bench, side, follower, 30)
        time.sleep(1)
        follower.ask("die", "elbow_flex")
        at = time.monotonic()
        wait_for(lambda: process.poll() is not None, 8)
        ended = process.poll() is not None
        took = time.monotonic() - at
        ticks = [when - at for when in goal_ticks(follower.log()) if when > at]
        torque = follower.torque()
        end(process)
        return {
            "ended_after_s": took if ended else None, "goals_for_s": max(ticks, default=0.0), "torque": torque,
            "said": side.errors(bench, process) or bench.said(process)[1].strip().splitlines()[-1:],
        }


def connect_cost(args, side):
    """Two connects to the same arms, from the first byte to the loop's first read, as the follower's wire has it."""
    with bench_of(args) as bench:
        follower, _ = bench.pair(hand=False)
        found = {}
        for which in ("first", "second"):
            follower.forget()
            process, _ = begin(bench, side, follower, 3)
            entries = follower.log()
            end(process)
            loop = next(i for i, e in enumerate(entries) if e["asked"] == "sync_read" and e["address"] == POSITION)
            before = entries[:loop]
            parts = [(e["address"], e["bytes"]) for e in before if e["asked"] == "write"]
            parts += [(e["address"], data) for e in before if e["asked"] == "sync_write" for _, data in e["frames"]]
            found[which] = {
                "eeprom_bytes": sum(address + i < EEPROM_END for address, data in parts for i in range(len(data))),
                "transactions": loop,
                "ms": (entries[loop]["at"] - entries[0]["at"]) * 1e3,
                "first_tick_s": goal_ticks(entries)[0] - process.began,
            }
        return found


def say(name, of):
    """A line of the table for each side."""
    return [name, *(of.get(side.name, "-") for side in (Sinew, LeRobot))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinew", type=Path, default=Path("target/release/sinew"), help="the binary (default: %(default)s)")
    parser.add_argument("--connects", type=int, default=10, metavar="N", help="connects at each fault (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, metavar="T", help="the longest session (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of faults and of the hand (default: %(default)s)")
    parser.add_argument("--only", choices=["sessions", "connects", "rest"], help="a part of it")
    parser.add_argument("--realtime", action="store_true", help="motors before ordinary programs (SCHED_FIFO), both programs less nice than others (-15): on a machine that does other work too")
    parser.add_argument("--out", type=Path, metavar="FILE", help="for the figures as JSON, else they are printed last")
    parser.add_argument("--as-lerobot", nargs="+", metavar="WHAT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.as_lerobot:
        logging.disable(logging.CRITICAL)
        what, folder, *rest = args.as_lerobot
        follower, leader = f"{folder}/follower", f"{folder}/leader"
        if what == "connects":
            return lerobot_connects(follower, leader, int(rest[0]))
        if what == "waits":
            return lerobot_waits(follower, leader, float(rest[0]))
        return lerobot_teleop(follower, leader, float(rest[0]), rest[1])

    sides, figures, rows = (Sinew(), LeRobot()), {}, [["", Sinew.name, LeRobot.name]]

    def measure(name, what, in_words):
        cells = {}
        for side in sides:
            try:
                found = what(side)
            except RuntimeError as failure:
                found = {"error": str(failure)}
            figures.setdefault(name, {})[side.name] = found
            cells[side.name] = found.get("error") or in_words(found)
            print(f"# {name}: {side.name}: {cells[side.name]}" + (f" | {brief(found['said'])}" if found.get("said") else ""), file=sys.stderr)
        rows.append(say(name, cells))

    with Floor(HZ, args.realtime) as floor:
        if args.only in (None, "connects"):
            for name, faults in FAULTS.items():
                measure(f"connects, {name}", lambda side: connects(args, side, faults), lambda found: f"{found['good']} of {found['of']}")
        if args.only in (None, "sessions"):
            for name, faults in FAULTS.items():
                def in_words(found):
                    wrong = f"{found['wrong'][0]} of {found['wrong'][1]}" if found["wrong"] else "-"
                    more = "" if found["survived"] else " (ended by itself)"
                    return f"{found['seconds']:.1f} s{more}, {found['missed']} missed, longest gap {found['longest_gap_ms']:.0f} ms, " \
                           f"{wrong} wrong, {found['leaps']} leaps"

                measure(f"session, {name}", lambda side: session(args, side, faults), in_words)
        if args.only in (None, "rest"):
            def of_bare(found):
                wrong = "" if found["wrong"] is None else f", {found['wrong']} wrong positions"
                told = "" if "told" not in found else f", asked again {found['asked_again']} times"
                return f"goals step {found['farthest_goal_step_deg']:.1f} deg{wrong}{told}, {'goes on' if found['goes_on'] else 'ended'}"

            measure("a packet without data, 5 times", lambda side: bare_packet(args, side), of_bare)
            for name, waits in (("teleoperated at once", False), ("no action for 1 s", True)):
                measure(f"goals from before, 35 deg off; {name}", lambda side: stale_goal(args, side, waits),
                        lambda found: f"the arm goes {found['jump_deg']:.1f} deg; goal before torque in {found['goal_before_torque']}")
            of_kill = lambda found: f"torque {found['torque']}, last goal {found['last_goal_ms']:.0f} ms later" + \
                                    ("" if found["is_over"] else ", still runs")
            for number in (signal.SIGTERM, signal.SIGKILL):
                measure(number.name, lambda side: killed(args, side, number), of_kill)
                measure(f"{number.name}, --on-exit limp",
                        lambda side: killed(args, side, number, "--on-exit", "limp") if side.name == Sinew.name else {"error": "-"}, of_kill)
            measure("elbow_flex dies", lambda side: dead_motor(args, side),
                    lambda found: f"torque {found['torque']}, goals for {found['goals_for_s']:.1f} s, " + (
                        f"ended after {found['ended_after_s']:.1f} s" if found["ended_after_s"] is not None else "goes on")
                    + f": {brief(found['said'])}")
            measure("connecting", lambda side: connect_cost(args, side),
                    lambda found: "; ".join(
                        f"{which}: {of['transactions']} transactions in {of['ms']:.0f} ms, {of['eeprom_bytes']} EEPROM bytes, "
                        f"first tick {of['first_tick_s']:.2f} s after the start" for which, of in found.items()))
        figures["floor"] = floor.stop()
    table(rows)
    say_floor(figures["floor"])
    text = json.dumps(figures)
    args.out.write_text(text + "\n") if args.out else print(text)


if __name__ == "__main__":
    sys.exit(main())
