"""Writes crates/drivers/src/tables/golden.json: LeRobot's own control tables.

    python -m venv venv && venv/bin/pip install lerobot==0.6.1
    venv/bin/python scripts/make_tables_golden.py
"""

import importlib.util
import json
from pathlib import Path


def tables(maker):
    # Of the file itself: lerobot.motors would import the makers' programs, which are not needed here.
    folder = Path(importlib.util.find_spec("lerobot").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location(maker, folder / "motors" / maker / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    feetech, dynamixel = tables("feetech"), tables("dynamixel")
    models, registers = {}, {}
    for maker, module in (("feetech", feetech), ("dynamixel", dynamixel)):
        for model, number in module.MODEL_NUMBER_TABLE.items():
            signs = module.MODEL_ENCODING_TABLE[model]
            table = {}
            for name, (address, length) in module.MODEL_CONTROL_TABLE[model].items():
                encoding = "unsigned"
                if name in signs:
                    encoding = f"sign in bit {signs[name]}" if maker == "feetech" else "two's complement"
                table[name.strip().lower()] = [address, length, encoding]
            if table not in registers.values():
                registers[f"{maker} {len(registers)}"] = table
            models[model] = {
                "protocol": f"feetech {feetech.MODEL_PROTOCOL[model]}" if maker == "feetech" else "dynamixel 2",
                "number": number,
                "resolution": module.MODEL_RESOLUTION[model],
                "bauds": module.MODEL_BAUDRATE_TABLE[model],
                "registers": next(name for name, known in registers.items() if known == table),
            }
            if maker == "dynamixel":
                models[model]["modes"] = module.MODEL_OPERATING_MODES[model]
    path = Path(__file__).parent.parent / "crates/drivers/src/tables/golden.json"
    lines = [f'{json.dumps(name)}: {json.dumps(model)}' for name, model in models.items()]
    parts = ["{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in table.items()) + "\n}" for table in registers.values()]
    sections = ",\n".join(f"{json.dumps(name)}: {part}" for name, part in zip(registers, parts))
    path.write_text('{\n"models": {\n' + ",\n".join(lines) + '\n},\n"registers": {\n' + sections + "\n}\n}\n")
    print(f"{len(models)} models in {path.name}")


if __name__ == "__main__":
    main()
