"""Makes crates/drivers/src/can/golden.json: frames of Damiao's and Robstride's protocols and lines of serial CAN adapters,
each made by somebody else's program, on a bus that records.

    python -m venv /tmp/can && /tmp/can/bin/pip install lerobot==0.6.1 python-can==4.6.1 damiao-motor==1.0.6 robstride-dynamics==0.0.1
    HF_HUB_OFFLINE=1 /tmp/can/bin/python scripts/make_can_golden.py

Numbers are chosen so that rounding to the nearest step and cutting off give the same (a quarter of a step above one, and for
those with a sign the step itself), apart from those under `between`, where any value may lie.
"""

import json
import random
import struct
from pathlib import Path

import can
import numpy as np
from damiao_motor.core.motor import DaMiaoMotor
from lerobot.motors import Motor, MotorNormMode
from lerobot.motors.damiao import DamiaoMotorsBus
from lerobot.motors.damiao.tables import MOTOR_LIMIT_PARAMS, MotorType
from robstride_dynamics import CommunicationType, ParameterType
from robstride_dynamics.bus import Motor as RobstrideMotor
from robstride_dynamics.bus import RobstrideBus

random.seed(20260)
OUT = Path(__file__).parent.parent / "crates/drivers/src/can/golden.json"
# A step, and so little more that it counts as the step itself.
ON = 1e-7


class Recorder:
    def __init__(self):
        self.sent = []
        self.answers = []

    def send(self, message, timeout=None):
        self.sent.append(message)

    def recv(self, timeout=None):
        return self.answers.pop(0) if self.answers else None

    def take(self):
        message = self.sent.pop(0)
        assert not self.sent
        return {"id": int(message.arbitration_id), "extended": message.is_extended_id, "data": bytes(message.data).hex()}


def step(number, low, high, bits, more):
    return low + (number + more) / ((1 << bits) - 1) * (high - low)


def damiao():
    cases = {"commands": [], "between": [], "frames": [], "feedback": []}
    for name, model in [("dm4310", "DM4310"), ("dm4340", "DM4340"), ("dm8009", "DM8009")]:
        pmax, vmax, tmax = MOTOR_LIMIT_PARAMS[getattr(MotorType, model)]
        motor = Motor(0x03, name, MotorNormMode.DEGREES)
        motor.recv_id, motor.motor_type_str = 0x13, name
        bus = DamiaoMotorsBus("can0", {"m": motor})
        bus.canbus, bus._is_connected = Recorder(), True
        # The two don't agree on how fast a 4340 may be, which a motor says itself.
        other = DaMiaoMotor(motor_id=3, feedback_id=0x13, bus=Recorder(), motor_type=name[2:].upper(), v_min=-vmax, v_max=vmax)

        def ask(command):
            p, v, kp, kd, t = command
            bus._mit_control("m", kp, kd, np.degrees(p), np.degrees(v), t)
            frame = bus.canbus.take()
            assert bytes(other.encode_cmd_msg(p, v, t, kp, kd)).hex() == frame["data"], "the two programs disagree"
            return {"model": name, "command": [float(x) for x in command], **frame}

        for _ in range(12):
            n = [random.randrange(65536), random.randrange(4096), *(random.randrange(4095) for _ in range(2)), random.randrange(4096)]
            cases["commands"].append(ask([
                step(min(n[0], 65534), -pmax, pmax, 16, 0.25), step(n[1], -vmax, vmax, 12, ON), step(n[2], 0, 500, 12, 0.25),
                step(n[3], 0, 5, 12, 0.25), step(n[4], -tmax, tmax, 12, ON),
            ]))  # fmt: skip
        cases["commands"].append(ask([-99.0, -999.0, -1.0, -1.0, -999.0]))
        cases["commands"].append(ask([99.0, 999.0, 999.0, 99.0, 999.0]))
        for _ in range(12):
            cases["between"].append(ask([random.uniform(-pmax, pmax), random.uniform(-vmax, vmax), random.uniform(0, 500),
                                         random.uniform(0, 5), random.uniform(-tmax, tmax)]))  # fmt: skip
        for state in [0, 1, 8, 9, 0xA, 0xB, 0xC, 0xD, 0xE]:
            data = bytes([state << 4 | 3, *random.randbytes(5), random.randrange(20, 120), random.randrange(20, 120)])
            said = other.decode_sensor_feedback(data, 0x13)
            degrees, degrees_s, torque, mos, rotor = bus._decode_motor_state(data, getattr(MotorType, model))
            assert abs(np.radians(degrees) - said["pos"]) < 1e-9 and abs(torque - said["torq"]) < 1e-9
            cases["feedback"].append({
                "model": name, "id": 0x13, "data": data.hex(), "state": said["status_code"], "position": said["pos"],
                "velocity": said["vel"], "torque": said["torq"], "temperature_c": max(mos, rotor),
            })  # fmt: skip
    for what, do in {
        "enable": lambda: bus._send_simple_command("m", 0xFC),
        "disable": lambda: bus._send_simple_command("m", 0xFD),
        "set_zero": lambda: bus._send_simple_command("m", 0xFE),
        "look": lambda: bus._refresh_motor("m"),
    }.items():
        do()
        cases["frames"].append({"request": what, **bus.canbus.take()})
    for what, do in {
        "read 10": lambda: other._send_register_cmd(0x33, 10),
        "read 21": lambda: other._send_register_cmd(0x33, 21),
        "write 10": lambda: other._send_register_cmd(0x55, 10, struct.pack("<I", 1)),
        "store": lambda: other._send_register_cmd(0xAA, 0),
    }.items():
        do()
        cases["frames"].append({"request": what, **other.bus.take()})
    return cases


def robstride():
    cases = {"commands": [], "frames": [], "feedback": []}
    for name in ["rs01", "rs04"]:
        bus = RobstrideBus("can0", {"m": RobstrideMotor(id=5, model=f"rs-{name[2:]}")})
        bus.channel_handler = Recorder()
        vmax, tmax, kp, kd = (44, 17, 500, 5) if name == "rs01" else (15, 120, 5000, 100)
        pmax = 4 * np.pi
        for _ in range(12):
            n = [random.randrange(65535) for _ in range(5)]
            # This program takes the middle of a span to be 0x7FFF, the manual says that the span has 65,535 steps.
            def at(number, most, more):
                return float(((number + more) / 0x7FFF - 1) * most)
            command = [at(n[0], pmax, 0.25), at(n[1], vmax, ON), step(n[2], 0, kp, 16, 0.25), step(n[3], 0, kd, 16, 0.25), at(n[4], tmax, ON)]
            bus.write_operation_frame("m", command[0], command[2], command[3], command[1], command[4])
            cases["commands"].append({"model": name, "command": command, **bus.channel_handler.take()})
        for _ in range(6):
            extra = random.choice([0, 2]) << 14 | random.choice([0, 0, 1 << 8, 1 << 10]) | 5
            data = random.randbytes(6) + struct.pack(">H", random.randrange(200, 900))
            bus.channel_handler.answers = [can.Message(arbitration_id=2 << 24 | extra << 8 | 0xFF, is_extended_id=True, data=data)]
            p, v, t, c = bus.receive_status_frame("m")
            cases["feedback"].append({"model": name, "id": 2 << 24 | extra << 8 | 0xFF, "data": data.hex(), "mode": extra >> 14,
                                      "alert": extra >> 8 & 0x3F, "position": float(p), "velocity": float(v), "torque": float(t),
                                      "temperature_c": c})  # fmt: skip
    host = bus.host_id
    for what, kind, data in [
        ("enable", CommunicationType.ENABLE, bytes(8)),
        ("disable", CommunicationType.DISABLE, bytes(8)),
        ("look", CommunicationType.READ_PARAMETER, struct.pack("<HHL", ParameterType.MECHANICAL_POSITION[0], 0, 0)),
        ("read 28677", CommunicationType.READ_PARAMETER, struct.pack("<HHL", ParameterType.MODE[0], 0, 0)),
        ("write 28677", CommunicationType.WRITE_PARAMETER, struct.pack("<HH", ParameterType.MODE[0], 0) + bytes([1, 0, 0, 0])),
    ]:
        bus.transmit(kind, host, 5, data)
        cases["frames"].append({"request": what, **bus.channel_handler.take()})
    return cases


def lines():
    """Lines that python-can writes, of frames of each kind."""
    written = []

    class Port:
        write_timeout = None

        def write(self, data):
            written.append(data)

        def flush(self):
            pass

    from can.interfaces.slcan import slcanBus

    bus = slcanBus.__new__(slcanBus)
    bus.serialPortOrig = Port()
    cases = []
    for extended, fd, brs in [(False, False, False), (True, False, False), (False, True, False), (True, True, True), (False, True, True)]:
        for length in [0, 3, 8] + ([12, 64] if fd else []):
            data = random.randbytes(length)
            identifier = random.randrange(1 << (29 if extended else 11))
            message = can.Message(arbitration_id=identifier, is_extended_id=extended, is_fd=fd, bitrate_switch=brs, data=data)
            bus.send(message)
            cases.append({"id": identifier, "extended": extended, "fd": fd, "fast": brs, "data": data.hex(), "line": written.pop().decode()})
    return cases


versions = {"lerobot": "0.6.1", "python-can": can.__version__, "damiao-motor": "1.0.6", "robstride-dynamics": "0.0.1"}
golden = {"made_by": "scripts/make_can_golden.py", "versions": versions, "damiao": damiao(), "robstride": robstride(), "lines": lines()}


def compact(value, depth=0):
    if isinstance(value, dict) and depth < 3:
        inner = ",\n".join(f"{' ' * depth}{json.dumps(key)}: {compact(item, depth + 1)}" for key, item in value.items())
        return "{\n" + inner + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"{' ' * depth}{json.dumps(item)}" for item in value) + "]"
    return json.dumps(value)


OUT.write_text(compact(golden) + "\n")
print(OUT, OUT.stat().st_size, "bytes")
