"""Puts the program and the extension module into the wheel, for one platform."""

import os
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Built(BuildHookInterface):
    def initialize(self, version, build_data):
        """SINEW_PROGRAM and SINEW_MODULE are paths, SINEW_PLATFORM the platform's tag, such as manylinux_2_31_x86_64."""
        program, module, platform = (os.environ.get(name) for name in ("SINEW_PROGRAM", "SINEW_MODULE", "SINEW_PLATFORM"))
        if not program or not module or not platform:
            raise SystemExit("this wheel carries a program and a module that are built before it: run scripts/package.sh")
        for name, path in {"SINEW_PROGRAM": program, "SINEW_MODULE": module}.items():
            if not Path(path).is_file():
                raise SystemExit(f"{name} is {path}, expected a file")
        build_data["pure_python"] = False
        # The module keeps to what every Python from 3.9 on has.
        build_data["tag"] = f"cp39-abi3-{platform}"
        build_data["shared_scripts"] = {program: "sinew"}
        build_data["force_include"] = {module: "sinew/_sinew.abi3.so"}
