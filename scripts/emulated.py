"""What the checks of serial buses share: emulated arms and what was on their wires, runs of `sinew teleop`, and how late this
machine wakes whoever sleeps beside them. STS3215's addresses are those of Feetech's memory table."""

import contextlib
import json
import math
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tty
from pathlib import Path

ARM = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
# Addresses, and the tick of 4096 that one turn is made of.
TORQUE, GOAL, POSITION = 40, 42, 56
EEPROM_END = 40
TURN = 4095


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else None


def wilson(successes, trials, z=1.959964):
    """The 95 % interval of a share."""
    if trials == 0:
        return 0.0, 1.0
    share, per = successes / trials, z * z / trials
    middle, half = share + per / 2, z * math.sqrt(share * (1 - share) / trials + per / trials / 4)
    return max(0.0, (middle - half) / (1 + per)), min(1.0, (middle + half) / (1 + per))


def fifo(priority):
    """For a child that is to run before all ordinary programs; `None` for one that is not."""
    return (lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))) if priority else None


def end(process, patience=5):
    """Ends a process of ours: asks, and then does not."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Bench:
    """A folder of its own, with ports and calibrations in it, and the processes that were started in it.

    With `realtime` they run before all ordinary programs (SCHED_FIFO), the motors before all: motors don't wait for a busy
    machine."""

    MOTORS, PROGRAMS = 85, 70

    def __init__(self, sinew, realtime=False, first=None):
        """`first` is done by each program instead, before it begins."""
        self.sinew, self.realtime = str(sinew), realtime
        self.first = first or fifo(realtime and self.PROGRAMS)
        self.folder = Path(tempfile.mkdtemp(prefix="sinew-buses-"))
        self.environment = {**os.environ, "HF_LEROBOT_CALIBRATION": str(self.folder / "calibration"), "HF_HUB_OFFLINE": "1"}
        self.processes = []
        self.emulators = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Those that use a port before those that play it.
        for process in reversed(self.processes):
            end(process)
        for emulator in self.emulators:
            emulator.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def emulator(self, robot, name, *options, uncalibrated=False):
        emulator = Emulator(self, robot, name, options if uncalibrated else ("--id", "emulated", *options))
        self.emulators.append(emulator)
        return emulator

    def pair(self, *options, hand=True, seed=0):
        """A follower and a leader that a hand moves; both suffer from the options."""
        follower = self.emulator("so101", "follower", "--seed", str(seed), *options)
        leader = self.emulator("so101_leader", "leader", "--seed", str(seed + 1), *options, *(["--hand"] if hand else []))
        return follower, leader

    def start(self, command, name):
        """A process with its outputs in files: `name`.out and `name`.err."""
        out, err = open(self.folder / f"{name}.out", "w"), open(self.folder / f"{name}.err", "w")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=self.environment, preexec_fn=self.first)
        process.began = time.monotonic()
        process.name = name
        self.processes.append(process)
        return process

    def teleop(self, *options, name="teleop"):
        command = [self.sinew, "teleop", "--robot", "so101", "--port", str(self.folder / "follower"), "--id", "emulated"]
        command += ["--teleop", "so101_leader", "--teleop-port", str(self.folder / "leader"), "--teleop-id", "emulated", "--json"]
        return self.start([*command, *map(str, options)], name)

    def said(self, process):
        """What a process wrote to its outputs."""
        return tuple((self.folder / f"{process.name}.{end}").read_text(errors="replace") for end in ("out", "err"))

    def report(self, process):
        """The JSON line that it ended with, if it did."""
        lines = [line for line in self.said(process)[0].splitlines() if line.startswith("{")]
        return json.loads(lines[-1]) if lines else None


class Emulator:
    """`sinew emulate`, its commands, and its log with times of `time.monotonic`."""

    def __init__(self, bench, robot, name, options):
        self.link = str(bench.folder / name)
        command = [bench.sinew, "emulate", robot, "--link", self.link, *options]
        self.err = open(bench.folder / f"{name}.emulate.err", "w+")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.err, text=True, env=bench.environment, start_new_session=True,
            preexec_fn=fifo(bench.realtime and bench.MOTORS),
        )
        self.lines, self.world = queue.Queue(), queue.Queue()
        self.entries, self.next, self.offsets = [], 0, (-math.inf, math.inf)
        self.lock = threading.Lock()
        threading.Thread(target=self.read, daemon=True).start()
        self.answer(20)

    def read(self):
        for line in self.process.stdout:
            (self.world if line.startswith("world:") else self.lines).put(line.strip())
        self.lines.put(None)
        self.world.put(None)

    def answer(self, patience):
        try:
            line = self.lines.get(timeout=patience)
        except queue.Empty:
            line = None
        if line is None or line.startswith("error"):
            self.fail(line or "says nothing")
        return line

    def fail(self, what):
        self.err.seek(0)
        raise RuntimeError(f"the emulator at {self.link}: {what}; exit code {self.process.poll()}; {self.err.read()}")

    def ask(self, *words):
        with self.lock:
            try:
                print(*words, file=self.process.stdin, flush=True)
            except BrokenPipeError:
                self.fail("is gone")
            return self.answer(20)

    def value(self, motor, register):
        return int(self.ask("value", motor, register))

    def torque(self):
        return [self.value(motor, "torque_enable") for motor in ARM]

    def positions(self):
        return [float(self.ask("position", motor)) for motor in ARM]

    def log(self):
        """All that was asked of the motors so far, each with `at`."""
        before = time.monotonic()
        (news,) = json.loads(self.ask("log", self.next))
        after = time.monotonic()
        # Its clock begins with it; each answer says more exactly when that was.
        low, high = max(self.offsets[0], before - news["now_s"]), min(self.offsets[1], after - news["now_s"])
        self.offsets = (low, high) if low <= high else (before - news["now_s"], after - news["now_s"])
        self.next = news["next"]
        self.entries += news["entries"]
        offset = sum(self.offsets) / 2
        for entry in self.entries:
            entry["at"] = entry["at_s"] + offset
        return self.entries

    def forget(self):
        """What was is no matter."""
        self.log()
        self.entries = []

    def close(self):
        end(self.process)
        for file in (self.process.stdin, self.process.stdout, self.err):
            with contextlib.suppress(OSError):
                file.close()


def number(data):
    """What a register holds: the highest bit of two bytes is the sign."""
    value = int.from_bytes(bytes(data), "little")
    return -(value & 0x7FFF) if len(data) == 2 and value & 0x8000 else value


def writes(entries, address):
    """Of a register of one or two bytes: when, which motor, what, in order."""
    found = []
    for entry in entries:
        if entry["asked"] == "write":
            parts = [(entry["id"], entry["address"], entry["bytes"])]
        elif entry["asked"] == "sync_write":
            parts = [(motor, entry["address"], data) for motor, data in entry["frames"]]
        else:
            continue
        width = 2 if address in (GOAL, POSITION) else 1
        for motor, start, data in parts:
            if start <= address and address + width <= start + len(data):
                at = address - start
                found.append((entry["at"], motor, number(data[at : at + width])))
    return found


def goal_ticks(entries):
    """When goals were written to several motors at once: the loop's ticks on the wire."""
    return [entry["at"] for entry in entries if entry["asked"] == "sync_write" and entry["address"] == GOAL]


def said_positions(entries, motor=None):
    """When which motor said where it is, whatever became of the answer."""
    found = []
    for entry in entries:
        if entry["asked"] in ("read", "sync_read") and entry["address"] == POSITION and entry["len"] >= 2:
            for said in entry["said"]:
                if len(said["data"]) >= 2 and (motor is None or said["id"] == motor):
                    found.append((entry["at"], said["id"], number(said["data"][:2])))
    return found


def steps(entries):
    """Between consecutive goals of each motor: how long, how far in ticks."""
    last, found = {}, []
    for at, motor, goal in writes(entries, GOAL):
        if motor in last:
            before, was = last[motor]
            found.append((at - before, abs(goal - was), motor, at))
        last[motor] = (at, goal)
    return found


def missed(ticks, hz):
    """How many periods passed without goals from the first to the last."""
    return max(0, round((ticks[-1] - ticks[0]) * hz) + 1 - len(ticks)) if ticks else 0


def wait_for(what, patience, every=0.01):
    """Until `what()` is true; whether it came to be."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(every)
    return bool(what())


class Floor:
    """A process that sleeps to absolute deadlines, and how late it wakes; and sends bytes through a bare pseudo-terminal, and
    how long they take: what this machine costs everybody. The kernel hands a terminal's bytes over in a worker of ordinary
    priority, for which reading and polling wait, also where nobody wants to."""

    def __init__(self, hz=60, realtime=False):
        command = [sys.executable, __file__, "floor", str(hz)]
        first = fifo(realtime and Bench.PROGRAMS)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=first)

    def stop(self):
        out, _ = self.process.communicate()
        return json.loads(out)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            with contextlib.suppress(BrokenPipeError, ValueError):
                self.process.communicate()


def figures_ms(seconds):
    ms = [value * 1e3 for value in seconds]
    names = [("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)]
    return {"count": len(ms), "max_ms": max(ms, default=0.0)} | {name: percentile(ms, share) or 0.0 for name, share in names}


def floor(hz):
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    late, through = [], []

    def echo():
        one, other = os.openpty()
        tty.setraw(other)
        while not is_over.is_set():
            time.sleep(1 / hz)
            begin = time.monotonic()
            os.write(one, b"x")
            os.read(other, 1)
            through.append(time.monotonic() - begin)

    threading.Thread(target=echo, daemon=True).start()
    due = time.monotonic()
    while not is_over.is_set():
        due += 1 / hz
        time.sleep(max(0.0, due - time.monotonic()))
        late.append(time.monotonic() - due)
        # As a loop does that skips the ticks it has missed.
        due += math.floor(late[-1] * hz) / hz
    print(json.dumps(figures_ms(late) | {"hz": hz, "terminal": figures_ms(through)}))


def say_floor(figures):
    words = lambda of: f"{of['p50_ms']:.2f} ms at the median, {of['p99_ms']:.2f} p99, {of['p999_ms']:.2f} p99.9, {of['max_ms']:.2f} at worst ({of['count']} times)"
    print(
        f"floor: a thread that sleeps to absolute deadlines at {figures['hz']:g} Hz woke late by {words(figures)}; a byte took through a bare "
        f"pseudo-terminal {words(figures['terminal'])}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors. "
        "What other programs did meanwhile is in all times here."
    )


def slack_s(figures):
    """What the machine may have added to a time that has something to do with a terminal."""
    return (figures["max_ms"] + figures["terminal"]["max_ms"]) / 1e3


def table(rows):
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


class Checks:
    """What was asserted, and what came of it."""

    def __init__(self):
        self.failed = []

    def __call__(self, is_so, what):
        print(("ok    " if is_so else "WRONG ") + what, flush=True)
        if not is_so:
            self.failed.append(what)

    def end(self):
        print("all as expected" if not self.failed else f"{len(self.failed)} not as expected")
        return 1 if self.failed else 0


if __name__ == "__main__" and sys.argv[1:2] == ["floor"]:
    floor(float(sys.argv[2]))
