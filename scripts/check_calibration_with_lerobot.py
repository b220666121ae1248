"""Calibrates emulated arms with LeRobot 0.6.1 and with `sinew calibrate`, the same way moved, and compares what LeRobot reads then.

    cargo build --release -p sinew-cli && cargo build --release -p sinew-emulator --example emulate
    SINEW=target/release/sinew EMULATE=target/release/examples/emulate python scripts/check_calibration_with_lerobot.py

Needs lerobot[feetech,dynamixel]==0.6.1. For each mounting of an arm's horns, LeRobot's own `calibrate()` and ours see the same
middle poses and the same ranges. Then LeRobot connects with our file, without asking anything, as the motors hold it; at
some poses of every joint it has to read what it read with its own calibration, within a tick.
"""

import builtins
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from check_emulator_with_sdks import ARM, Emulator

import lerobot.motors.motors_bus as motors_bus
from lerobot.robots.koch_follower import KochFollower, KochFollowerConfig
from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig

KOCH = """
schema = 2
name = "koch"
title = "Koch"
control_rate_hz = 30
lerobot = { class = "koch_follower" }
stop = { behaviour = "limp" }
[[bus]]
name = "arm"
protocol = "dynamixel"
baud_rate = 1000000
""" + "".join(
    f"""
[[part]]
name = "{name}"
command = "position"
motor = {{ bus = "arm", model = "{"xl430-w250" if number < 3 else "xl330-m288"}", id = {number}, calibration = "{kind}" }}
unit = "{"range_0_100" if name == "gripper" else "range_m100_100"}"
range = [-1.0, 1.0]
limits = {{ position = [-1.0, 1.0], velocity = 2.5, step = 0.3 }}
"""
    for number, name in enumerate(ARM, 1)
    for kind in ["turn" if name in ("shoulder_pan", "wrist_roll") else "range"]
)

CASES = [
    ("so101_follower", SO101Follower, SO101FollowerConfig, ["wrist_roll"], mounting) for mounting in (0, 900, 2100, 3300, -1700)
] + [("koch_follower", KochFollower, KochFollowerConfig, ["shoulder_pan", "wrist_roll"], 0)]

# In ticks of the shaft, before the mounting.
MIDDLES = [2048, 1900, 2200, 2000, 1700, 1500]
RANGES = [(700, 3300), (900, 3100), (800, 3000), (1000, 3200), None, (1100, 2500)]


class Scene:
    def __init__(self, robot, mounting):
        self.emulator, self.mounting = Emulator(robot, f"mounting={mounting}"), mounting
        for motor in ARM:
            self.emulator.ask("load", motor, "0")

    def move(self, motor, place):
        self.emulator.ask("move", motor, str(place + self.mounting))

    def middle(self):
        for motor, place in zip(ARM, MIDDLES):
            self.move(motor, place)

    def sweep(self, turned):
        for motor, middle, ends in zip(ARM, MIDDLES, RANGES):
            if motor in turned:
                continue
            place = middle
            for goal in (*ends, middle):
                while place != goal:
                    place += max(-30, min(30, goal - place))
                    self.move(motor, place)
                    time.sleep(0.01)
                time.sleep(0.4)


def patient(robot):
    """Has LeRobot ask again, which it does seldom: the machine may be busy."""
    for name in ("_read", "_write", "_sync_read", "ping"):
        ask = getattr(robot.bus, name)
        setattr(robot.bus, name, lambda *args, ask=ask, **options: ask(*args, **{**options, "num_retry": 20}))
    return robot


def observe(scene, robot):
    """What LeRobot reads at some poses of each joint, each the median of some readings."""
    seen = {}
    for motor, ends in zip(ARM, RANGES):
        lower, upper = ends or (1000, 2600)
        for share in (0.1, 0.35, 0.5, 0.8):
            place = round(lower + share * (upper - lower))
            scene.move(motor, place)
            time.sleep(0.02)
            readings = sorted(robot.get_observation()[f"{motor}.pos"] for _ in range(9))
            seen[motor, place] = readings[4]
    return seen


def lerobot_calibrates(scene, make, turned):
    robot = patient(make())
    robot.connect(calibrate=False)
    moved = threading.Event()

    def answer(prompt=""):
        scene.middle()
        time.sleep(0.1)
        threading.Thread(target=lambda: (scene.sweep(turned), moved.set()), daemon=True).start()
        # Reading begins with the pose of the middle.
        return ""

    builtins.input, motors_bus.enter_pressed = answer, moved.is_set
    robot.calibrate()
    seen = observe(scene, robot)
    robot.disconnect()
    return seen, robot.calibration


def sinew_calibrates(scene, option, folder, turned):
    scene.middle()
    command = [os.environ["SINEW"], "calibrate", "--robot", option, "--port", scene.emulator.port, "--id", "emulated", "--latency-ms", "20"]
    environment = {**os.environ, "HF_LEROBOT_CALIBRATION": str(folder)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment, text=True, **pipes)
    for question, do in (("hold the arm", None), ("Move every joint", lambda: scene.sweep(turned)), ("in the middle", None)):
        said = []
        while question not in "".join(said[-1:]):
            said.append(process.stderr.readline())
            assert said[-1], "".join(said)
        if do:
            do()
        print(file=process.stdin, flush=True)
    rest = process.stderr.read()
    assert process.wait(20) == 0, rest
    process = subprocess.run([*command, "--check"], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr


def never(prompt=""):
    raise AssertionError(f"LeRobot asks: {prompt}")


def case(name, robot_class, config_class, turned, mounting, folder):
    def made(port, place):
        return lambda: robot_class(config_class(port=port, id="emulated", calibration_dir=place))

    theirs, ours = Scene(name, mounting), Scene(name, mounting)
    with theirs.emulator, ours.emulator:
        expected, their_file = lerobot_calibrates(theirs, made(theirs.emulator.port, folder / "theirs"), turned)
        option = "so101"
        if name == "koch_follower":
            option = str(folder / "koch")
            Path(option).mkdir(parents=True, exist_ok=True)
            (Path(option) / "robot.toml").write_text(KOCH)
        sinew_calibrates(ours, option, folder / "ours", turned)
        builtins.input = never
        robot = patient(made(ours.emulator.port, folder / "ours" / "robots" / robot_class.name)())
        robot.connect()
        assert robot.is_calibrated
        robot.bus.disable_torque(num_retry=20)
        found = observe(ours, robot)
        robot.disconnect()
        worst = 0
        for key, value in expected.items():
            motor = key[0]
            ours_file = robot.calibration[motor]
            degrees = name == "so101_follower" and motor != "gripper"
            span = ours_file.range_max - ours_file.range_min
            tick = 360 / 4095 if degrees else (100 if motor == "gripper" else 200) / span
            off = abs(found[key] - value) / tick
            # A tick, and as readings are off by one now and then the ends of a range are, too.
            assert off <= (1.01 if degrees else 2.01), f"{key}: {found[key]}, LeRobot {value}: {off:.2f} ticks"
            worst = max(worst, off)
        return f"{len(expected)} poses, at most {worst:.2f} ticks apart; {len(their_file)} motors"


def main():
    failed = False
    for name, *rest, mounting in CASES:
        with tempfile.TemporaryDirectory() as folder:
            for attempt in range(3):
                try:
                    print(f"ok   {name} mounted at {mounting}: {case(name, *rest, mounting, Path(folder) / str(attempt))}", flush=True)
                    break
                except Exception as error:  # noqa: BLE001
                    print(f"try {attempt + 1} of 3: {name} mounted at {mounting}: {error!r}", file=sys.stderr, flush=True)
            else:
                failed = True
                print(f"FAIL {name} mounted at {mounting}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
