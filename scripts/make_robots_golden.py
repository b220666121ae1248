"""Writes crates/core/tests/golden/lerobot_robots.json: LeRobot's own names, order, units and settings of the robots in robots/.

    python -m venv venv && venv/bin/pip install "lerobot[feetech,dynamixel]==0.6.1" python-can
    HF_HUB_OFFLINE=1 venv/bin/python scripts/make_robots_golden.py
"""

import builtins
import json
import tempfile
from contextlib import contextmanager
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

from lerobot.motors import MotorNormMode
from lerobot.robots import (
    RobotConfig,
    bi_openarm_follower,
    bi_so_follower,
    hope_jr,
    koch_follower,
    lekiwi,
    make_robot_from_config,
    omx_follower,
    openarm_follower,
    so_follower,
)
from lerobot.teleoperators import (
    TeleoperatorConfig,
    bi_openarm_mini,
    bi_so_leader,
    koch_leader,
    make_teleoperator_from_config,
    omx_leader,
    openarm_mini,
    so_leader,
)

so, so_lead = so_follower.SOFollowerConfig, so_leader.SOLeaderConfig
arm, mini = openarm_follower.OpenArmFollowerConfigBase, openarm_mini.OpenArmMiniConfigBase
PORT = "/dev/nowhere"

# The robot's folder, LeRobot's type, and what its configuration needs beside a port.
ROBOTS = [
    ("so100", "so100_follower", {}),
    ("so101", "so101_follower", {}),
    ("bi_so", "bi_so_follower", {"left_arm_config": so(port=PORT), "right_arm_config": so(port=PORT)}),
    ("koch", "koch_follower", {}),
    ("omx", "omx_follower", {}),
    ("lekiwi", "lekiwi", {}),
    ("hope_jr_hand", "hope_jr_hand", {"side": "right"}),
    ("hope_jr_arm", "hope_jr_arm", {}),
    ("openarm", "openarm_follower", {"side": "right"}),
    ("openarm_left", "openarm_follower", {"side": "left"}),
    ("bi_openarm", "bi_openarm_follower", {"left_arm_config": arm(port=PORT, side="left"), "right_arm_config": arm(port=PORT, side="right")}),
]
TELEOPERATORS = [
    ("so101_leader", "so101_leader", {}),
    ("so101_leader", "so100_leader", {}),
    ("bi_so_leader", "bi_so_leader", {"left_arm_config": so_lead(port=PORT), "right_arm_config": so_lead(port=PORT)}),
    ("koch_leader", "koch_leader", {}),
    ("omx_leader", "omx_leader", {}),
    ("openarm_mini", "openarm_mini", {"side": "right"}),
    ("openarm_mini_left", "openarm_mini", {"side": "left"}),
    ("bi_openarm_mini", "bi_openarm_mini", {"left_arm_config": mini(port=PORT), "right_arm_config": mini(port=PORT)}),
]
UNITS = {MotorNormMode.DEGREES: "degrees", MotorNormMode.RANGE_0_100: "range_0_100", MotorNormMode.RANGE_M100_100: "range_m100_100"}


def one_armed(device):
    """Its arms, each with the prefix of its names."""
    if hasattr(device, "left_arm"):
        return [("left_", device.left_arm), ("right_", device.right_arm)]
    return [("", device)]


def motors(device):
    found = {}
    for prefix, single in one_armed(device):
        for name, motor in single.bus.motors.items():
            ids = [motor.id] if motor.recv_id is None else [motor.id, motor.recv_id]
            model = motor.motor_type_str or motor.model
            found[prefix + name] = {"ids": ids, "model": model, "unit": UNITS[motor.norm_mode]}
    return found


def written(device):
    """What its configure() writes into motors, by motor and register; of goals the value in the motor's unit."""
    found = {}

    @contextmanager
    def nothing(*_, **__):
        yield

    for prefix, single in one_armed(device):
        bus = single.bus
        if not hasattr(bus, "configure_motors") or not hasattr(bus, "model_baudrate_table"):
            return None
        bus.write = lambda register, motor, value, prefix=prefix, **_: found.setdefault(prefix + motor, {}).update({register.strip().lower(): value})
        bus.disable_torque = bus.enable_torque = lambda *_, **__: None
        bus.torque_disabled = nothing
        if hasattr(bus, "read"):
            bus.read = lambda *_, **__: 0
        kind = type(single)
        was = kind.is_calibrated
        kind.is_calibrated = property(lambda _: True)
        try:
            single.configure()
        finally:
            kind.is_calibrated = was
    return found


def reversed_motors(device):
    """Dynamixel motors whose Drive_Mode its calibration sets to 1, whatever is measured."""
    bus = device.bus
    bus.write = bus.disable_torque = bus.write_calibration = device._save_calibration = lambda *_, **__: None
    bus.set_half_turn_homings = lambda: dict.fromkeys(bus.motors, 0)
    bus.record_ranges_of_motion = lambda names: (dict.fromkeys(names, 0), dict.fromkeys(names, 4095))
    device.calibration = {}
    builtins.input = lambda *_: ""
    device.calibrate()
    return [name for name, calibration in device.calibration.items() if calibration.drive_mode]


def moved(device):
    """For each motor of a leader, which feature of the action moves when only it does, and by what for 1 in the motor's unit."""
    found = {}
    for prefix, single in one_armed(device):
        names = list(single.bus.motors)
        kind = type(single)
        connected, kind.is_connected = kind.is_connected, property(lambda _: True)
        try:
            for motor in names:
                single.bus.sync_read = lambda *_, motor=motor, **__: {name: 1.0 if name == motor else 0.0 for name in names}
                changed = {feature: value for feature, value in single.get_action().items() if value != 0.0}
                [(feature, value)] = changed.items()
                found[prefix + motor] = [prefix + feature, value]
        finally:
            kind.is_connected = connected
    return found


def entry(folder, config_of, type_name, options, make, is_leader, calibrations):
    kind = config_of.get_choice_class(type_name)
    known = {field.name for field in fields(kind)}
    given = {"id": "x", "calibration_dir": calibrations, **options}
    if "port" in known:
        given["port"] = PORT
    device = make(kind(**given))
    found = {"robot": folder, "type": type_name, "class": device.name, "action": list(device.action_features)}
    if not is_leader:
        found["state"] = [name for name, kind in device.observation_features.items() if not isinstance(kind, tuple)]
        found["cameras"] = {name: shape[:2] for name, shape in device.observation_features.items() if isinstance(shape, tuple)}
    found["motors"] = motors(device)
    if "use_degrees" in known and type_name != "openarm_mini":
        other = make(kind(**given, use_degrees=not kind(**given).use_degrees))
        found["other_units"] = {name: motor["unit"] for name, motor in motors(other).items()}
    if is_leader:
        found["moved"] = moved(device)
    if "joint_limits" in known:
        found["limits_deg"] = device.config.joint_limits
        found["gains"] = {name: list(pair) for name, pair in zip(device.bus.motors, zip(device.config.position_kp, device.config.position_kd))}
        found["bit_rates"] = [device.config.can_bitrate, device.config.can_data_bitrate]
    writes = written(device)
    if writes is not None:
        found["writes"] = writes
        if hasattr(device, "bus") and type(device.bus).__name__ == "DynamixelMotorsBus":
            found["reversed"] = reversed_motors(device)
    return found


def wheels():
    """Ticks a second of LeKiwi's left, back and right wheel for m/s, m/s and deg/s."""
    robot = SimpleNamespace(_degps_to_raw=lekiwi.LeKiwi._degps_to_raw)
    cases = []
    for motion in ((0.1, 0, 0), (0, 0.1, 0), (0, 0, 30), (-0.1, 0.05, 20), (0.3, 0, 90), (0.2, -0.3, 0), (0, 0.1, -200)):
        raw = lekiwi.LeKiwi._body_to_wheel_raw(robot, *motion)
        cases.append([list(motion), list(raw.values())])
    return cases


def main():
    with tempfile.TemporaryDirectory() as folder:
        calibrations = Path(folder)
        entries = [entry(*robot[:1], RobotConfig, *robot[1:], make_robot_from_config, False, calibrations) for robot in ROBOTS]
        entries += [entry(*robot[:1], TeleoperatorConfig, *robot[1:], make_teleoperator_from_config, True, calibrations) for robot in TELEOPERATORS]
    path = Path(__file__).parent.parent / "crates/core/tests/golden/lerobot_robots.json"
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    path.write_text(f'{{\n"lerobot": "{version("lerobot")}",\n"wheels": {json.dumps(wheels())},\n"robots": [\n{lines}\n]\n}}\n')
    print(f"{len(entries)} robots in {path.name}")


if __name__ == "__main__":
    main()
