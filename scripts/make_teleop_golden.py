"""Writes crates/drivers/src/teleop/golden.json: what LeRobot's own teleoperators make of keys, buttons, sticks and poses; and
crates/drivers/tests/steering_golden.json: where LeRobot's own pipeline, with placo, brings the joints of an SO-101.

    python -m venv venv && venv/bin/pip install "lerobot[kinematics]==0.6.1" pyzmq
    HF_HUB_OFFLINE=1 venv/bin/python scripts/make_teleop_golden.py

pygame, pynput, hebi and teleop are played by this script, so no display or device is needed. The arm's geometry is that of
robots/so101/robot.toml, written as URDF.
"""

import json
import math
import random
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from lerobot.robots.lekiwi import lekiwi_client
from lerobot.teleoperators.gamepad import gamepad_utils, teleop_gamepad
from lerobot.teleoperators.keyboard import teleop_keyboard
from lerobot.teleoperators.phone import phone_processor, teleop_phone
from lerobot.teleoperators.phone.config_phone import PhoneConfig, PhoneOS
from lerobot.teleoperators.utils import TeleopEvents
from lerobot.utils.rotation import Rotation

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "crates/drivers/src/teleop/golden.json"
STEERING = ROOT / "crates/drivers/tests/steering_golden.json"
random.seed(3)


def allow(module):
    module.require_package = lambda *args, **kwargs: None


# A pad: raw axes of 0..255, and buttons.
class Stick:
    axes, buttons = [127.5] * 6, set()

    def get_axis(self, i):
        return self.axes[i] / 127.5 - 1.0

    def get_button(self, i):
        return i in self.buttons


def gamepad():
    queue, stick = [], Stick()
    allow(gamepad_utils)
    get = lambda: [queue.pop(0) for _ in range(len(queue))]
    gamepad_utils.pygame = SimpleNamespace(event=SimpleNamespace(get=get), JOYBUTTONDOWN=1, JOYBUTTONUP=2, error=RuntimeError)
    teleop = teleop_gamepad.GamepadTeleop(teleop_gamepad.GamepadTeleopConfig())
    teleop.gamepad = gamepad_utils.GamepadController()
    teleop.gamepad.joystick = stick
    steps = []
    for step in range(200):
        pressed = random.choice([*range(8), None])
        down, before = set(stick.buttons), set(stick.buttons)
        if pressed is not None:
            down ^= {pressed}
        stick.buttons = down
        for button in down - before:
            queue.append(SimpleNamespace(type=1, button=button))
        for button in before - down:
            queue.append(SimpleNamespace(type=2, button=button))
        raw = [random.choice([0, 255, 127, 128, 115, 140, random.randint(0, 255)]) for _ in range(4)]
        stick.axes = raw
        events = teleop.get_teleop_events()
        action = teleop.get_action()
        steps.append({
            "axes": raw,
            "buttons": sorted(down),
            "delta": [float(action[f"delta_{axis}"]) for axis in "xyz"],
            "gripper": action["gripper"],
            "intervene": bool(events[TeleopEvents.IS_INTERVENTION]),
            "success": bool(events[TeleopEvents.SUCCESS]),
            "failure": bool(events[TeleopEvents.TERMINATE_EPISODE] and not events[TeleopEvents.RERECORD_EPISODE]),
            "rerecord": bool(events[TeleopEvents.RERECORD_EPISODE]),
        })
    return steps


KEYS = ["up", "down", "left", "right", "shift", "shift_r", "ctrl_l", "ctrl_r", "esc"]


def keyboard(kind, config):
    allow(teleop_keyboard)
    teleop_keyboard.PYNPUT_AVAILABLE = True
    listener = type("Listener", (), {"is_alive": lambda self: True, "stop": lambda self: None})
    teleop_keyboard.keyboard = SimpleNamespace(Key=SimpleNamespace(**{key: f"Key.{key}" for key in KEYS}), Listener=listener)
    teleop = kind(config)
    teleop.listener = listener()
    return teleop


def press(teleop, key, is_down):
    teleop.event_queue.put((f"Key.{key}" if key in KEYS else key, is_down))


def keyboard_ee():
    held = []
    pairs = [("up", "down"), ("left", "right"), ("shift", "shift_r"), ("ctrl_l", "ctrl_r")]
    for code in range(3 ** len(pairs)):
        keys = [pair[code // 3**i % 3] for i, pair in enumerate(pairs) if code // 3**i % 3 < 2]
        teleop = keyboard(teleop_keyboard.KeyboardEndEffectorTeleop, teleop_keyboard.KeyboardEndEffectorTeleopConfig())
        for key in keys:
            press(teleop, key, True)
        action = teleop.get_action()
        delta = [float(action[f"delta_{axis}"]) for axis in "xyz"]
        held.append({"keys": keys, "delta": delta, "gripper": action["gripper"]})
    events = []
    for key in "srqx":
        teleop = keyboard(teleop_keyboard.KeyboardEndEffectorTeleop, teleop_keyboard.KeyboardEndEffectorTeleopConfig())
        press(teleop, key, True)
        teleop.get_action()
        said = teleop.get_teleop_events()
        events.append({
            "key": key,
            "success": said[TeleopEvents.SUCCESS],
            "rerecord": said[TeleopEvents.RERECORD_EPISODE],
            "ends": said[TeleopEvents.TERMINATE_EPISODE],
        })
    return {"held": held, "events": events}


def rover():
    steps = []
    teleop = keyboard(teleop_keyboard.KeyboardRoverTeleop, teleop_keyboard.KeyboardRoverTeleopConfig())
    for step in range(150):
        keys = random.sample(list("wasdqex"), random.randint(0, 3))
        if random.random() < 0.3:
            keys.append(random.choice("+-=--"))
        for key in keys:
            press(teleop, key, True)
        action = teleop.get_action()
        for key in keys:
            press(teleop, key, False)
        # LeRobot changes a speed after it was used.
        speeds = [teleop.current_linear_speed, teleop.current_angular_speed]
        steps.append({"keys": keys, "twist": [float(action["linear_velocity"]), float(action["angular_velocity"])], "speeds": speeds})
        teleop.get_action()
    return steps


def lekiwi():
    allow(lekiwi_client)
    client = lekiwi_client.LeKiwiClient(lekiwi_client.LeKiwiClientConfig(remote_ip="nowhere"))
    steps = []
    for step in range(150):
        keys = random.sample(list("wasdzxrfq"), random.randint(0, 4))
        action = client._from_keyboard_to_base_action(np.array(keys))
        steps.append({"keys": keys, "twist": [float(action[key]) for key in ("x.vel", "y.vel", "theta.vel")]})
    return steps


def phone():
    allow(teleop_phone)
    device = teleop_phone.AndroidPhone(PhoneConfig(phone_os=PhoneOS.ANDROID))
    device._teleop = object()
    to_robot = phone_processor.MapPhoneActionToRobotAction(platform=PhoneOS.ANDROID)
    steps = []

    def say(position, turn, enabled, a, b):
        rotation = Rotation.from_rotvec(turn)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation.as_matrix(), position
        device._latest_pose = pose
        device._latest_message = {"move": enabled, "reservedButtonA": a, "reservedButtonB": b}
        x, y, z, w = rotation.as_quat()
        return {"position_m": list(position), "rotation_wxyz": [float(v) for v in (w, x, y, z)], "enabled": enabled, "gripper": float(a) - float(b)}

    first_turn = [0.1, -0.2, 0.7]
    say([0.3, 0.2, 1.1], first_turn, True, False, False)
    device.calibrate()
    for step in range(90):
        # Twice engaged, both times held at first as it was when LeRobot captured it.
        phase, share = step // 45, (step % 45 - 5) / 40
        enabled = step % 45 >= 5
        share = max(share, 0.0)
        turn = [t + share * d for t, d in zip(first_turn, (0.3, 0.2, -0.4) if phase else (-0.2, 0.5, 0.3))]
        position = [0.3 + 0.4 * phase + 0.2 * share, 0.2 - 0.3 * share * (1 - 2 * phase), 1.1 + 0.25 * math.sin(3 * share)]
        pose = say(position, turn, enabled, random.random() < 0.3, random.random() < 0.3)
        action = to_robot.action(device.get_action())
        wish = [float(action[f"target_{axis}"]) for axis in ("x", "y", "z", "wx", "wy", "wz")]
        steps.append({**pose, "target": wish, "gripper_vel": float(action["gripper_vel"]), "is_enabled": bool(action["enabled"])})
    return steps


def urdf(robot):
    def origin(pose):
        w, x, y, z = pose["rotation_wxyz"]
        rotation = Rotation.from_quat([x, y, z, w]).as_matrix()
        pitch = math.asin(max(-1.0, min(1.0, -rotation[2][0])))
        if abs(rotation[2][0]) < 1 - 1e-9:
            roll, yaw = math.atan2(rotation[2][1], rotation[2][2]), math.atan2(rotation[1][0], rotation[0][0])
        else:
            roll, yaw = 0.0, math.atan2(-rotation[0][1], rotation[1][1])
        numbers = lambda values: " ".join(repr(float(v)) for v in values)
        return f'<origin xyz="{numbers(pose["translation_m"])}" rpy="{numbers((roll, pitch, yaw))}"/>'

    inertia = '<inertial><mass value="0.1"/><inertia ixx="1e-4" ixy="0" ixz="0" iyy="1e-4" iyz="0" izz="1e-4"/></inertial>'
    text = ['<robot name="so101"><link name="base"/>']
    for part in robot["part"]:
        low, high = part["limits"]["position"]
        axis = " ".join(map(str, part["axis"]))
        text.append(f'<link name="{part["name"]}_link">{inertia}</link><joint name="{part["name"]}" type="revolute">')
        text.append(f'<parent link="{part["parent"] + "_link" if "parent" in part else "base"}"/><child link="{part["name"]}_link"/>')
        text.append(f'{origin(part["parent_from_part"])}<axis xyz="{axis}"/><limit lower="{low}" upper="{high}" velocity="10" effort="10"/></joint>')
    tool = robot["tool"][0]
    text.append('<link name="gripper_frame_link"/><joint name="gripper_frame" type="fixed">')
    text.append(f'<parent link="{tool["part"]}_link"/><child link="gripper_frame_link"/>{origin(tool["part_from_tool"])}</joint></robot>')
    return "\n".join(text)


def steering():
    from lerobot.model import RobotKinematics
    from lerobot.processor.converters import create_transition
    from lerobot.processor import TransitionKey
    from lerobot.robots.so_follower import robot_kinematic_processor as steps

    robot = tomllib.loads((ROOT / "robots/so101/robot.toml").read_text())
    names = [part["name"] for part in robot["part"]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "so101.urdf"
        path.write_text(urdf(robot))
        kinematics = RobotKinematics(urdf_path=str(path), target_frame_name="gripper_frame_link", joint_names=names)
    step = 0.5
    pipeline = [
        steps.EEReferenceAndDelta(kinematics, {"x": step, "y": step, "z": step}, names),
        steps.EEBoundsAndSafety({"min": [-1.0] * 3, "max": [1.0] * 3}, max_ee_step_m=0.10, raise_on_jump=False),
        steps.GripperVelocityToJoint(speed_factor=20.0),
        steps.InverseKinematicsEEToJoints(kinematics, names, initial_guess_current_joints=True),
    ]
    start = [0.0, -20.0, 30.0, 40.0, 5.0, 30.0]
    rows = []
    for way in range(4):
        joints = dict(zip(names, start))
        for item in pipeline:
            item.reset()
        for tick in range(120):
            # Out, to a side, and back, with pauses; small turns of the hand.
            t = max(0, tick % 60 - 6) / 54
            enabled = tick % 60 >= 4
            amount = [(0.10, 0.0, 0.05), (0.0, 0.16, 0.0), (-0.08, -0.10, 0.08), (0.06, 0.08, -0.08)][way]
            turn = [(0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.2, 0.0), (0.1, 0.1, 0.0)][way]
            wave = math.sin(math.pi * t) ** 2
            wish = [a * wave for a in amount] + [a * wave for a in turn]
            velocity = [0.0, 0.5, -0.25, 1.0][tick // 15 % 4]
            action = dict(zip(["target_x", "target_y", "target_z", "target_wx", "target_wy", "target_wz"], wish if enabled else [0.0] * 6))
            action |= {"enabled": enabled, "gripper_vel": velocity}
            observation = {f"{name}.pos": value for name, value in joints.items()}
            transition = create_transition(action=action, observation=observation)
            for item in pipeline:
                transition = item(transition)
            out = transition[TransitionKey.ACTION]
            joints = {name: float(out[f"{name}.pos"]) for name in names}
            place = kinematics.forward_kinematics(np.array(list(joints.values())))[:3, 3]
            rows.append({
                "way": way,
                "enabled": enabled,
                "wish": [round(v, 9) for v in (wish if enabled else [0.0] * 6)],
                "gripper_vel": velocity,
                "joints": [round(v, 6) for v in joints.values()],
                "tool_m": [round(float(v), 9) for v in place],
            })
    return {"from": f"lerobot {version('lerobot')}, placo {version('placo')}", "start": start, "step_m": step, "rows": rows}


def compact(value):
    parts = []
    for key, item in value.items():
        if isinstance(item, dict):
            parts.append(f"{json.dumps(key)}: {compact(item)}")
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            lines = ",\n".join(json.dumps(one) for one in item)
            parts.append(f"{json.dumps(key)}: [\n{lines}]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(item)}")
    return "{\n" + ",\n".join(parts) + "}"


golden = {
    "from": f"lerobot {version('lerobot')}",
    "gamepad": gamepad(),
    "keyboard_ee": keyboard_ee(),
    "rover": rover(),
    "lekiwi": lekiwi(),
    "phone": phone(),
}
OUT.write_text(compact(golden) + "\n")
print(OUT, OUT.stat().st_size, "bytes")
STEERING.write_text(compact(steering()) + "\n")
print(STEERING, STEERING.stat().st_size, "bytes")
