"""Works emulated robots with one program that knows nothing of Sinew; see check_emulator_with_sdks.sh."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ARM = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]


class Emulator:
    """The example `emulate`, and its commands."""

    def __init__(self, robot, *options):
        self.folder = tempfile.TemporaryDirectory()
        self.port = str(Path(self.folder.name) / "port")
        folder = robot if robot.startswith("new:") else f"robots/{robot}"
        command = [os.environ["EMULATE"], folder, self.port, *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().strip()
        if answer.startswith("error"):
            raise RuntimeError(answer)
        return answer

    def value(self, motor, register):
        return int(self.ask("value", motor, register))

    def __enter__(self):
        return self

    def __exit__(self, _, exception, __):
        try:
            self.last = self.ask("counts")
            if exception is not None:
                print(f"the emulator: {self.last}", file=sys.stderr)
        finally:
            self.process.stdin.close()
        self.process.wait(5)
        self.folder.cleanup()


def near(found, expected, tolerance=12):
    assert abs(found - expected) <= tolerance, f"{found}, expected about {expected}"


def equal(found, expected):
    assert found == expected, f"{found}, expected {expected}"


# --- Feetech: feetech-servo-sdk 1.0.0 -------------------------------------------------------------------------------


def feetech_sts(_):
    import scservo_sdk as scs

    with Emulator("so101") as emulator:
        port, handler = scs.PortHandler(emulator.port), scs.PacketHandler(0)
        assert port.setBaudRate(1_000_000)
        for motor in range(1, 7):
            equal(handler.ping(port, motor), (777, scs.COMM_SUCCESS, 0))
        equal(handler.ping(port, 9)[1], scs.COMM_RX_TIMEOUT)
        position, result, error = handler.read2ByteTxRx(port, 1, 56)
        near(position, 2048, 2)
        equal((result, error), (0, 0))
        equal(handler.write1ByteTxRx(port, 1, 40, 1), (0, 0))
        equal(handler.write2ByteTxRx(port, 1, 42, 2500), (0, 0))
        time.sleep(1)
        near(handler.read2ByteTxRx(port, 1, 56)[0], 2500)

        write = scs.GroupSyncWrite(port, handler, 42, 2)
        for motor in range(1, 7):
            handler.write1ByteTxRx(port, motor, 40, 1)
            goal = 2000 + 50 * motor
            write.addParam(motor, [scs.SCS_LOBYTE(goal), scs.SCS_HIBYTE(goal)])
        equal(write.txPacket(), 0)
        time.sleep(1)
        read = scs.GroupSyncRead(port, handler, 56, 8)
        for motor in range(1, 7):
            read.addParam(motor)
        equal(read.txRxPacket(), 0)
        for motor in range(1, 7):
            near(read.getData(motor, 56, 2), 2000 + 50 * motor)
            near(read.getData(motor, 62, 1), 120, 3)
        equal(handler.regWriteTxRx(port, 1, 42, 2, [0xC4, 0x09]), (0, 0))
        time.sleep(0.3)
        near(handler.read2ByteTxRx(port, 1, 56)[0], 2050)
        equal(handler.action(port, 254), 0)
        time.sleep(1)
        near(handler.read2ByteTxRx(port, 1, 56)[0], 2500)
        port.closePort()


def feetech_scs(_):
    import scservo_sdk as scs

    with Emulator("hope_jr_hand") as emulator:
        port, handler = scs.PortHandler(emulator.port), scs.PacketHandler(1)
        assert port.setBaudRate(1_000_000)
        for motor in range(1, 17):
            equal(handler.ping(port, motor), (1284, scs.COMM_SUCCESS, 0))
        handler.write1ByteTxRx(port, 3, 40, 1)
        equal(handler.write2ByteTxRx(port, 3, 42, 700), (0, 0))
        time.sleep(1)
        near(handler.read2ByteTxRx(port, 3, 56)[0], 700)
        equal(emulator.value("thumb_pip", "goal_position"), 700)
        port.closePort()


# --- Feetech: ftservo-python-sdk 2.0.1 ------------------------------------------------------------------------------


def ftservo_sts(_):
    import scservo_sdk as scs
    from scservo_sdk.sms_sts import sms_sts

    with Emulator("so101") as emulator:
        port = scs.PortHandler(emulator.port)
        assert port.openPort() and port.setBaudRate(1_000_000)
        servo = sms_sts(port)
        for motor in range(1, 7):
            equal(servo.ping(motor), (777, scs.COMM_SUCCESS, 0))
        equal(servo.WritePosEx(1, 2600, 1500, 50), (0, 0))
        equal(servo.write1ByteTxRx(1, 40, 1), (0, 0))
        time.sleep(0.3)
        position, speed, result, error = servo.ReadPosSpeed(1)
        equal((result, error), (0, 0))
        assert 2048 < position < 2600 and speed > 100, (position, speed)
        time.sleep(1.5)
        near(servo.ReadPos(1)[0], 2600)
        equal(servo.ReadMoving(1)[0], 0)
        for motor in range(1, 7):
            servo.SyncWritePosEx(motor, 2100, 2000, 100)
            servo.write1ByteTxRx(motor, 40, 1)
        equal(servo.groupSyncWrite.txPacket(), 0)
        time.sleep(1.5)
        read = scs.GroupSyncRead(servo, 56, 4)
        for motor in range(1, 7):
            read.addParam(motor)
        equal(read.txRxPacket(), 0)
        for motor in range(1, 7):
            available, error = read.isAvailable(motor, 56, 2)
            equal((bool(available), error), (True, 0))
            near(read.getData(motor, 56, 2), 2100)
        # The lock: what is written without it opened is gone after a start.
        servo.write1ByteTxRx(2, 21, 7)
        emulator.ask("restart", "shoulder_lift")
        equal(servo.read1ByteTxRx(2, 21)[0], 32)
        equal(servo.unLockEprom(2), (0, 0))
        servo.write1ByteTxRx(2, 21, 7)
        equal(servo.LockEprom(2), (0, 0))
        emulator.ask("restart", "shoulder_lift")
        equal(servo.read1ByteTxRx(2, 21)[0], 7)
        # A wheel.
        equal(servo.write1ByteTxRx(5, 33, 1), (0, 0))
        equal(servo.WriteSpec(5, -800, 0), (0, 0))
        time.sleep(0.5)
        near(servo.ReadSpeed(5)[0], -800)
        port.closePort()


def ftservo_scs(_):
    import scservo_sdk as scs
    from scservo_sdk.scscl import scscl

    with Emulator("hope_jr_hand") as emulator:
        port = scs.PortHandler(emulator.port)
        assert port.openPort() and port.setBaudRate(1_000_000)
        servo = scscl(port)
        equal(servo.ping(16), (1284, scs.COMM_SUCCESS, 0))
        servo.write1ByteTxRx(16, 40, 1)
        equal(servo.WritePos(16, 300, 0, 0), (0, 0))
        time.sleep(1)
        near(servo.ReadPos(16)[0], 300)
        near(float(emulator.ask("position", "pinky_pip_dip")), 300)
        port.closePort()


# --- Dynamixel ------------------------------------------------------------------------------------------------------


def dynamixel(_):
    import dynamixel_sdk as dxl

    with Emulator("koch") as emulator:
        port, handler = dxl.PortHandler(emulator.port), dxl.PacketHandler(2.0)
        assert port.openPort() and port.setBaudRate(1_000_000)
        models = {1: 1060, 2: 1060, 3: 1200, 4: 1200, 5: 1200, 6: 1200}
        for motor, model in models.items():
            equal(handler.ping(port, motor), (model, dxl.COMM_SUCCESS, 0))
        found, result = handler.broadcastPing(port)
        equal((result, {motor: data[0] for motor, data in found.items()}), (0, models))
        # Position beyond the limits: a refusal with its number.
        equal(handler.write4ByteTxRx(port, 3, 116, 5000), (0, 6))
        equal(handler.write1ByteTxRx(port, 3, 11, 9), (0, 4))
        for motor in models:
            equal(handler.write1ByteTxRx(port, motor, 64, 1), (0, 0))
        equal(handler.write1ByteTxRx(port, 3, 11, 4), (0, 7))
        write = dxl.GroupSyncWrite(port, handler, 116, 4)
        for motor in models:
            write.addParam(motor, list((2000 + 50 * motor).to_bytes(4, "little")))
        equal(write.txPacket(), 0)
        time.sleep(1)
        read = dxl.GroupSyncRead(port, handler, 132, 4)
        for motor in models:
            read.addParam(motor)
        equal(read.txRxPacket(), 0)
        for motor in models:
            near(read.getData(motor, 132, 4), 2000 + 50 * motor)
        bulk = dxl.GroupBulkRead(port, handler)
        bulk.addParam(1, 132, 4)
        bulk.addParam(4, 146, 1)
        equal(bulk.txRxPacket(), 0)
        near(bulk.getData(1, 132, 4), 2050)
        near(bulk.getData(4, 146, 1), 30, 5)
        if hasattr(read, "fastSyncRead"):
            equal(read.fastSyncRead(), 0)
            for motor in models:
                near(read.getData(motor, 132, 4), 2000 + 50 * motor)
            equal(bulk.fastBulkRead(), 0)
            near(bulk.getData(1, 132, 4), 2050)
        # Bytes that look like a header arrive stuffed.
        emulator.ask("put", "gripper", "goal_position", str(0x00FDFFFF))
        equal(handler.read4ByteTxRx(port, 6, 116), (0x00FDFFFF, 0, 0))
        # A hot motor says so in every answer, lets go, and comes back with a reboot.
        emulator.ask("heat", "elbow_flex", "90")
        equal(handler.read1ByteTxRx(port, 3, 70), (4, 0, 0x80))
        equal(handler.read1ByteTxRx(port, 3, 64), (0, 0, 0x80))
        emulator.ask("heat", "elbow_flex", "30")
        equal(handler.reboot(port, 3)[0], 0)
        equal(handler.read1ByteTxRx(port, 3, 70), (0, 0, 0))
        port.closePort()


def dynamixel_new_motor(_):
    import dynamixel_sdk as dxl

    with Emulator("new:xl330-m288") as emulator:
        port, handler = dxl.PortHandler(emulator.port), dxl.PacketHandler(2.0)
        assert port.openPort() and port.setBaudRate(1_000_000)
        equal(handler.ping(port, 1)[1], dxl.COMM_RX_TIMEOUT)
        assert port.setBaudRate(57_600)
        equal(handler.ping(port, 1), (1200, 0, 0))
        equal(handler.write1ByteTxRx(port, 1, 7, 5), (0, 0))
        equal(handler.write1ByteTxRx(port, 5, 8, 3), (0, 0))
        equal(handler.ping(port, 5)[1], dxl.COMM_RX_TIMEOUT)
        assert port.setBaudRate(1_000_000)
        equal(handler.ping(port, 5), (1200, 0, 0))
        port.closePort()


# --- LeRobot --------------------------------------------------------------------------------------------------------


class Operator:
    """Feeds LeRobot's questions on standard input, and moves the joints meanwhile as a person does."""

    def __init__(self, emulator, motors, prefix=""):
        import threading

        reader, self.writer = os.pipe()
        self.kept = os.dup(0)
        os.dup2(reader, 0)
        os.close(reader)
        sys.stdin = os.fdopen(os.dup(0), "r")
        self.emulator, self.motors, self.prefix = emulator, motors, prefix
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        try:
            self.help()
        except (OSError, ValueError):
            pass  # The emulator is gone: LeRobot failed before it asked.

    def help(self):
        time.sleep(1)
        os.write(self.writer, b"\n")  # The arm is in the middle.
        time.sleep(0.5)
        for part in (0.0, -1.0, 1.0, 0.0):
            for number, motor in enumerate(self.motors):
                self.emulator.ask("move", self.prefix + motor, str(2048 + part * (700 + 100 * number)))
            time.sleep(0.3)
        os.write(self.writer, b"\n")  # All ranges are seen.

    def done(self):
        self.thread.join(10)
        os.dup2(self.kept, 0)
        os.close(self.writer)


def act(robot, seconds, action_of, rate=60):
    """Observes and acts so often a second."""
    begin = time.perf_counter()
    count = 0
    while (now := time.perf_counter() - begin) < seconds:
        observation = robot.get_observation()
        robot.send_action(action_of(now, observation))
        count += 1
        time.sleep(max(0, begin + count / rate - time.perf_counter()))
    return count


def so101_follower(seconds):
    from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig

    with Emulator("so101") as emulator, tempfile.TemporaryDirectory() as folder:
        # A hand holds the arm while its torque is off.
        for motor in ARM:
            emulator.ask("load", motor, "0")
        config = SO101FollowerConfig(port=emulator.port, id="emulated", calibration_dir=Path(folder))
        robot = SO101Follower(config)
        operator = Operator(emulator, ARM)
        robot.connect()
        operator.done()
        # LeRobot turns the torque on with a goal from before, and goes there.
        time.sleep(1)
        for motor in ("shoulder_lift", "elbow_flex"):
            emulator.ask("load", motor, "0.12")
        count = act(robot, seconds, lambda now, seen: {f"{motor}.pos": 20.0 if (seconds - now) % 4 < 2 else 40.0 for motor in ARM})
        last = robot.get_observation()
        near(last["shoulder_pan.pos"], 20, 5)
        equal(emulator.value("gripper", "protection_current"), 250)
        equal(emulator.value("gripper", "p_coefficient"), 16)
        robot.disconnect()
        equal([emulator.value(motor, "torque_enable") for motor in ARM], [0] * 6)
        # Calibrated, it connects without a question.
        again = SO101Follower(SO101FollowerConfig(port=emulator.port, id="emulated", calibration_dir=Path(folder)))
        again.connect(calibrate=False)
        assert again.is_calibrated
        again.disconnect()
        return f"{count} ticks; {emulator.ask('counts')}"


def so101_leader(seconds):
    from lerobot.teleoperators.so_leader import SO101Leader, SO101LeaderConfig

    with Emulator("so101_leader") as emulator, tempfile.TemporaryDirectory() as folder:
        for motor in ARM:
            emulator.ask("load", motor, "0")
        leader = SO101Leader(SO101LeaderConfig(port=emulator.port, id="emulated", calibration_dir=Path(folder)))
        operator = Operator(emulator, ARM)
        leader.connect()
        operator.done()
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            ticks = 2048 + 300 * (count % 3 - 1)
            emulator.ask("move", "wrist_flex", str(ticks))
            near(leader.get_action()["wrist_flex.pos"], (ticks - 2048) * 360 / 4095, 1)
            count += 1
        leader.disconnect()
        return f"{count} ticks; {emulator.ask('counts')}"


def koch_follower(seconds):
    from lerobot.robots.koch_follower import KochFollower, KochFollowerConfig

    with Emulator("koch") as emulator, tempfile.TemporaryDirectory() as folder:
        for motor in ARM:
            emulator.ask("load", motor, "0")
        robot = KochFollower(KochFollowerConfig(port=emulator.port, id="emulated", calibration_dir=Path(folder)))
        operator = Operator(emulator, ARM)
        robot.connect()
        operator.done()
        count = act(robot, seconds, lambda now, seen: {f"{motor}.pos": 20.0 for motor in ARM})
        near(robot.get_observation()["shoulder_pan.pos"], 20, 2)
        equal(emulator.value("gripper", "operating_mode"), 5)
        equal(emulator.value("elbow_flex", "position_p_gain"), 1500)
        robot.disconnect()
        equal([emulator.value(motor, "torque_enable") for motor in ARM], [0] * 6)
        return f"{count} ticks; {emulator.ask('counts')}"


def koch_leader(seconds):
    from lerobot.teleoperators.koch_leader import KochLeader, KochLeaderConfig

    with Emulator("koch_leader") as emulator, tempfile.TemporaryDirectory() as folder:
        return lead(emulator, KochLeader(KochLeaderConfig(port=emulator.port, id="emulated", calibration_dir=Path(folder))), seconds, True)


def omx_leader(seconds):
    from lerobot.teleoperators.omx_leader import OmxLeader, OmxLeaderConfig

    with Emulator("omx_leader") as emulator, tempfile.TemporaryDirectory() as folder:
        return lead(emulator, OmxLeader(OmxLeaderConfig(port=emulator.port, id="emulated", calibration_dir=Path(folder))), seconds, False)


def lead(emulator, leader, seconds, asks):
    """A Dynamixel leader, whose gripper is a trigger that goes back by itself."""
    for motor in ARM:
        emulator.ask("load", motor, "0")
    operator = Operator(emulator, ARM) if asks else None
    leader.connect()
    if operator:
        operator.done()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        emulator.ask("move", "wrist_flex", str(2048 + 200 * (count % 3 - 1)))
        before = leader.get_action()["wrist_flex.pos"]
        emulator.ask("move", "wrist_flex", str(2048 + 200 * ((count + 1) % 3 - 1)))
        assert abs(leader.get_action()["wrist_flex.pos"] - before) > 5
        count += 1
    equal([emulator.value(motor, "torque_enable") for motor in ARM], [0] * 5 + [1])
    leader.disconnect()
    return f"{2 * count} ticks; {emulator.ask('counts')}"


def hope_jr(folder, motors, most):
    """Its calibration needs a window, so that the ranges are those of new motors."""
    import json

    ranges = {name: {"id": number, "drive_mode": 0, "homing_offset": 0, "range_min": 0, "range_max": most} for number, name in enumerate(motors, 1)}
    (Path(folder) / "emulated.json").write_text(json.dumps(ranges))


def hope_jr_hand(seconds):
    from lerobot.robots.hope_jr import HopeJrHand, HopeJrHandConfig

    with Emulator("hope_jr_hand") as emulator, tempfile.TemporaryDirectory() as folder:
        config = HopeJrHandConfig(port=emulator.port, id="emulated", side="right", calibration_dir=Path(folder))
        hope_jr(folder, HopeJrHand(config).bus.motors, 1023)
        robot = HopeJrHand(config)
        robot.connect(calibrate=False)
        assert robot.is_calibrated
        count = act(robot, seconds, lambda now, seen: dict.fromkeys(seen, 60.0), rate=15)
        near(robot.get_observation()["index_pip_dip.pos"], 60, 2)
        robot.disconnect()
        return f"{count} ticks; {emulator.ask('counts')}"


def hope_jr_arm(seconds):
    from lerobot.robots.hope_jr import HopeJrArm, HopeJrArmConfig

    with Emulator("hope_jr_arm") as emulator, tempfile.TemporaryDirectory() as folder:
        config = HopeJrArmConfig(port=emulator.port, id="emulated", calibration_dir=Path(folder))
        hope_jr(folder, HopeJrArm(config).bus.motors, 4095)
        robot = HopeJrArm(config)
        robot.connect(calibrate=False)
        assert robot.is_calibrated
        count = act(robot, seconds, lambda now, seen: dict.fromkeys(seen, 20.0))
        near(robot.get_observation()["wrist_yaw.pos"], 20, 2)
        robot.disconnect()
        return f"{count} ticks; {emulator.ask('counts')}"


def omx_follower(seconds):
    from lerobot.robots.omx_follower import OmxFollower, OmxFollowerConfig

    with Emulator("omx") as emulator, tempfile.TemporaryDirectory() as folder:
        for motor in ARM:
            emulator.ask("load", motor, "0")
        robot = OmxFollower(OmxFollowerConfig(port=emulator.port, id="emulated", calibration_dir=Path(folder)))
        robot.connect()
        count = act(robot, seconds, lambda now, seen: {f"{motor}.pos": 30.0 for motor in ARM})
        near(robot.get_observation()["elbow_flex.pos"], 30, 2)
        robot.disconnect()
        return f"{count} ticks; {emulator.ask('counts')}"


def lekiwi(seconds):
    from lerobot.robots.lekiwi import LeKiwi, LeKiwiConfig

    with Emulator("lekiwi") as emulator, tempfile.TemporaryDirectory() as folder:
        for motor in ARM:
            emulator.ask("load", f"arm_{motor}", "0")
        config = LeKiwiConfig(port=emulator.port, id="emulated", calibration_dir=Path(folder), cameras={})
        robot = LeKiwi(config)
        operator = Operator(emulator, ARM, prefix="arm_")
        robot.connect()
        operator.done()
        arm = {f"arm_{motor}.pos": 10.0 for motor in ARM}
        count = act(robot, seconds, lambda now, seen: {**arm, "x.vel": 0.1, "y.vel": 0.0, "theta.vel": 0.0})
        last = robot.get_observation()
        near(last["x.vel"], 0.1, 0.005)
        near(last["y.vel"], 0, 0.005)
        near(emulator.value("base_left_wheel", "present_velocity"), -1129, 20)
        near(last["arm_shoulder_pan.pos"], 10, 2)
        robot.disconnect()
        time.sleep(0.5)
        near(emulator.value("base_right_wheel", "present_velocity"), 0, 5)
        return f"{count} ticks; {emulator.ask('counts')}"


def setup_new_motor(_):
    from lerobot.motors import Motor, MotorNormMode
    from lerobot.motors.dynamixel import DynamixelMotorsBus
    from lerobot.motors.feetech import FeetechMotorsBus

    norm = MotorNormMode.RANGE_M100_100
    for bus_type, model in ((FeetechMotorsBus, "sts3215"), (DynamixelMotorsBus, "xl330-m288")):
        with Emulator(f"new:{model}") as emulator:
            bus = bus_type(emulator.port, {"gripper": Motor(6, model, norm)})
            bus.setup_motor("gripper")
            equal(emulator.value("motor", "id"), 6)
            bus.disconnect(False)
            emulator.ask("restart", "motor")
            bus = bus_type(emulator.port, {"gripper": Motor(6, model, norm)})
            bus.connect()
            bus.disconnect()


CHECKS = {
    "feetech": ("feetech-servo-sdk", [feetech_sts, feetech_scs]),
    "ftservo": ("ftservo-python-sdk", [ftservo_sts, ftservo_scs]),
    "dxl38": ("dynamixel-sdk", [dynamixel, dynamixel_new_motor]),
    "dxl41": ("dynamixel-sdk", [dynamixel, dynamixel_new_motor]),
    "lerobot": (
        "lerobot",
        [
            setup_new_motor,
            so101_follower,
            so101_leader,
            koch_follower,
            koch_leader,
            omx_follower,
            omx_leader,
            lekiwi,
            hope_jr_hand,
            hope_jr_arm,
        ],
    ),
}


def main():
    from importlib.metadata import version

    parser = argparse.ArgumentParser()
    parser.add_argument("which", choices=CHECKS)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--robot", help="only this check")
    parser.add_argument("--attempts", type=int, default=3, help="after a failure, in case the machine was busy")
    args = parser.parse_args()
    package, checks = CHECKS[args.which]
    try:
        # These programs give a motor 35 to 50 ms, and a busy machine may hold them up for longer.
        os.nice(-10)
    except OSError:
        pass
    is_well = True
    for check in checks:
        if args.robot not in (None, check.__name__):
            continue
        begin = time.perf_counter()
        failures = 0
        while True:
            try:
                about, outcome = quietly(check, args.seconds), "passed"
                break
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                traceback.print_exc(limit=-3)
                failures += 1
                if failures == args.attempts:
                    about, outcome, is_well = f"{type(error).__name__}: {error}", "FAILED", False
                    break
        took = time.perf_counter() - begin
        again = f"  (failed {failures} times)" if failures else ""
        print(f"{package} {version(package):7} {check.__name__:20} {outcome:7} {took:5.1f} s{again}  {about or ''}".rstrip(), flush=True)
    return 0 if is_well else 1


def quietly(check, seconds):
    """LeRobot prints tables while it calibrates; they are not what this is about."""
    kept = os.dup(1)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        try:
            return check(seconds)
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)
            os.close(kept)


if __name__ == "__main__":
    sys.exit(main())
