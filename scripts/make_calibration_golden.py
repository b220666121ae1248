"""Writes crates/drivers/src/calibration/golden.json: calibration files and normalised positions as LeRobot makes them.

    python -m venv venv && venv/bin/pip install lerobot==0.6.1
    venv/bin/python scripts/make_calibration_golden.py
"""

import io
import json
import random
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import draccus
from lerobot.motors import MotorCalibration, MotorNormMode
from lerobot.motors.motors_bus import SerialMotorsBus

SEED = 5
MODES = {"degrees": MotorNormMode.DEGREES, "range_0_100": MotorNormMode.RANGE_0_100, "range_m100_100": MotorNormMode.RANGE_M100_100}


def bus(model, resolution, mode, calibration, has_drive_mode):
    """As much of a bus as its two conversions look at."""
    return SimpleNamespace(
        calibration={"motor": calibration},
        motors={"motor": SimpleNamespace(norm_mode=mode)},
        apply_drive_mode=has_drive_mode,
        model_resolution_table={model: resolution},
        _id_to_name=lambda _: "motor",
        _id_to_model=lambda _: model,
    )


def main():
    rng = random.Random(SEED)
    cases = []
    for model, resolution, has_drive_mode in (("sts3215", 4096, True), ("scs0009", 1024, True), ("xl330-m288", 4096, False)):
        for name, mode in MODES.items():
            for low, high in ((800, 3200), (0, resolution - 1), (101, 938)):
                for drive_mode in (0, 1):
                    high = min(high, resolution - 1)
                    calibration = MotorCalibration(1, drive_mode, 0, low, high)
                    fake = bus(model, resolution, mode, calibration, has_drive_mode)
                    ticks = [low, high, low - 30, high + 30, *(rng.randrange(resolution) for _ in range(4))]
                    read = [[tick, SerialMotorsBus._normalize(fake, {1: tick})[1]] for tick in ticks]
                    values = [0.0, 10.0, -10.0, 100.0, -120.5, *(round(rng.uniform(-110, 110), 3) for _ in range(4))]
                    written = [[value, SerialMotorsBus._unnormalize(fake, {1: value})[1]] for value in values]
                    cases.append({"model": model, "unit": name, "drive_mode": drive_mode, "range": [low, high], "read": read, "written": written})
    files = []
    for motors in ({}, {"shoulder_pan": MotorCalibration(1, 0, -1470, 800, 3200), "gripper": MotorCalibration(6, 1, 12, 0, 4095)}, {"käse \"x\"\n": MotorCalibration(253, 0, 0, -5, 7)}):
        text = io.StringIO()
        with draccus.config_type("json"):
            draccus.dump(motors, text, indent=4)
        files.append(text.getvalue())
    path = Path(__file__).parent.parent / "crates/drivers/src/calibration/golden.json"
    lines = ",\n".join(json.dumps(case) for case in cases)
    texts = ",\n".join(json.dumps(text) for text in files)
    path.write_text(f'{{\n"lerobot": "{version("lerobot")}",\n"seed": {SEED},\n"files": [\n{texts}\n],\n"cases": [\n{lines}\n]\n}}\n')
    print(f"{len(cases)} cases in {path.name}")


if __name__ == "__main__":
    main()
