"""`python -m sinew` is the program that pip installed beside this module."""

import os
import sys
import sysconfig
from importlib.metadata import files
from pathlib import Path


def program():
    """The path of the program: where pip wrote down that it is, in the folder of this Python's scripts, or below `pip install --target`."""
    listed = [Path(file.locate()) for file in files("sinew-robot") or () if file.name == "sinew" and "bin" in file.parts]
    for path in [*listed, Path(sysconfig.get_path("scripts"), "sinew"), Path(__file__).parents[1] / "bin/sinew"]:
        if path.is_file():
            return str(path.resolve())
    raise SystemExit("the program `sinew` is not where pip puts it: install sinew-robot again")


if __name__ == "__main__":
    path = program()
    os.execv(path, [path, *sys.argv[1:]])
