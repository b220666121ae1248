"""Puts the program into the wheel, as a script for one platform."""

import os
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Program(BuildHookInterface):
    def initialize(self, version, build_data):
        """SINEW_PROGRAM is the program's path, SINEW_PLATFORM the platform's tag, such as manylinux_2_31_x86_64."""
        program, platform = (os.environ.get(name) for name in ("SINEW_PROGRAM", "SINEW_PLATFORM"))
        if not program or not platform:
            raise SystemExit("this wheel carries a program that is built before it: run scripts/package.sh")
        if not Path(program).is_file():
            raise SystemExit(f"SINEW_PROGRAM is {program}, expected a file")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["shared_scripts"] = {program: "sinew"}
