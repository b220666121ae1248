"""Cameras that are not there, for programs that read them from Linux: lays out the folder that
crates/drivers/tests/stand_in/video.c plays, compiles that, and runs programs with it.

    python stand_in_cameras.py --cameras 2 -- python -c "import cv2; print(cv2.VideoCapture(0, cv2.CAP_V4L2).read()[0])"

Or from another script:

    with StandIn([Camera(), Camera(serial="B")]) as cameras:
        program = subprocess.Popen([...], env=cameras.env())
        cameras.set(0, freeze=1)

JPEGs need OpenCV and NumPy; without a mode in MJPG neither is used.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "crates/drivers/tests/stand_in/video.c"
MODES = ("MJPG 640x480 60 30 15", "YUYV 640x480 60 30 15", "MJPG 1280x720 30", "YUYV 1280x720 10")
CONTROLS = (
    "auto_exposure 0 3 1 3",
    "exposure_time_absolute 3 2047 1 250",
    "exposure_dynamic_framerate 0 1 1 1",
    "white_balance_automatic 0 1 1 1",
    "white_balance_temperature 2000 6500 10 4000",
    "gain 0 255 1 64",
    "power_line_frequency 0 2 1 2",
    "focus_automatic_continuous 0 1 1 1",
    "focus_absolute 0 250 5 0",
)
# A picture's number is its JPEG's modulo this.
JPEGS = 64


@dataclass
class Camera:
    """What a camera is. `keys` are others of its file, which video.c explains."""

    serial: str = "A"
    name: str = "Stand-in Camera"
    vendor: str = "1bcf"
    product: str = "2c99"
    # Bus and ports; None is the next port of the hub 1-1.
    port: str | None = None
    modes: tuple = MODES
    controls: tuple = CONTROLS
    keys: dict = field(default_factory=dict)


def burned_in(grey):
    """The number in the first rows of a grey picture (or the one below it), as blocks of black and white."""
    block = grey.shape[1] // 32
    return sum(int(grey[block // 2, bit * block + block // 2] > 128) << bit for bit in range(32))


def taken_at(grey):
    """When a raw picture was taken, in units of 100 us of CLOCK_MONOTONIC, modulo 2^32."""
    return burned_in(grey[grey.shape[1] // 32 :])


def make_jpegs(folder, width, height, count, lit=False, quality=90):
    """Numbered JPEGs of a moving gradient with their numbers burned in, and an LED in the middle."""
    import cv2
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:height, 0:width]
    block, led = width // 32, width // 8
    for number in range(count):
        grey = (40 + (x + y // 2 + 4 * number) % 160).astype(np.uint8)
        picture = np.dstack([grey, grey, 255 - grey])
        for bit in range(32):
            picture[:block, bit * block : (bit + 1) * block] = 235 if number >> bit & 1 else 16
        picture[(height - led) // 2 : (height + led) // 2, (width - led) // 2 : (width + led) // 2] = 235 if lit else 16
        if not cv2.imwrite(str(folder / f"{number:06}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, quality]):
            raise OSError(f"writing {folder / f'{number:06}.jpg'}")


class StandIn:
    def __init__(self, cameras, folder=None, jpegs=JPEGS):
        self.folder = Path(folder or tempfile.mkdtemp(prefix="sinew-cameras-"))
        self.is_ours = folder is None
        self.jpegs = jpegs
        self.files = {}
        for part in ["dev", "log", "sys/class/video4linux"]:
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        self.library = self.folder / "video.so"
        command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(self.library), str(SOURCE), "-ldl", "-lpthread"]
        subprocess.run(command, check=True)
        for number, camera in enumerate(cameras):
            self.plug_in(number, camera)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.is_ours:
            shutil.rmtree(self.folder, ignore_errors=True)

    def env(self, base=None):
        """The environment of a program that is to find the cameras."""
        return {**(os.environ if base is None else base), "LD_PRELOAD": str(self.library), "SINEW_STAND_IN": str(self.folder)}

    def _usb(self, port, speed="480"):
        """The folder of a USB device, with those of the hubs before it."""
        bus, ports = port.split("-")
        folder = self.folder / f"sys/devices/pci0000:00/0000:00:14.0/usb{bus}"
        steps = ports.split(".")
        names = [None] + [f"{bus}-{'.'.join(steps[: n + 1])}" for n in range(len(steps))]
        for name in names:
            folder = folder / name if name else folder
            folder.mkdir(parents=True, exist_ok=True)
            for file, text in [("idVendor", "1d6b"), ("idProduct", "0002"), ("speed", speed)]:
                if not (folder / file).exists():
                    (folder / file).write_text(text + "\n")
        return folder

    def plug_in(self, number, camera):
        """Makes `camera` /dev/video{number}."""
        port = camera.port or f"1-1.{number + 1}"
        device = self._usb(port)
        for file, text in [("idVendor", camera.vendor), ("idProduct", camera.product), ("serial", camera.serial), ("product", camera.name)]:
            (device / file).write_text(text + "\n")
        interface = device / f"{port}:1.0"
        node = interface / f"video4linux/video{number}"
        node.mkdir(parents=True, exist_ok=True)
        (interface / "bInterfaceNumber").write_text("00\n")
        for file, text in [("name", camera.name), ("index", "0"), ("dev", f"81:{number}")]:
            (node / file).write_text(text + "\n")
        for link, target in [(node / "device", f"../../../{port}:1.0"), (self.folder / f"sys/class/video4linux/video{number}", None)]:
            link.unlink(missing_ok=True)
            link.symlink_to(target or os.path.relpath(node, link.parent))
        self.files[number] = {
            "name": camera.name,
            "id": f"{camera.serial}@{port}",
            "bus": f"usb-0000:00:14.0-{port.split('-')[1]}",
            "mode": list(camera.modes),
            "control": list(camera.controls),
            **camera.keys,
        }
        sizes = {mode.split()[1] for mode in camera.modes if mode.startswith("MJPG")}
        if sizes and "jpegs" not in camera.keys:
            for key, lit in [("jpegs", False), ("lit_jpegs", True)]:
                for size in sizes:
                    folder = self.folder / key / size
                    if not folder.exists():
                        make_jpegs(folder, *map(int, size.split("x")), self.jpegs, lit)
                self.files[number][key] = str(self.folder / key)
            self.files[number]["jpeg_count"] = self.jpegs
        self._write(number)

    def unplug(self, number):
        """Removes the camera; a program that has it open learns of it."""
        (self.folder / f"dev/video{number}").unlink(missing_ok=True)
        link = self.folder / f"sys/class/video4linux/video{number}"
        if link.is_symlink():
            shutil.rmtree(link.resolve().parents[2], ignore_errors=True)
            link.unlink()
        return self.files.pop(number)

    def set(self, number, **keys):
        """Changes lines of a camera's file while it is used; None removes one."""
        self.files[number].update(keys)
        self.files[number] = {key: value for key, value in self.files[number].items() if value is not None}
        self._write(number)

    def _write(self, number):
        lines = []
        for key, value in self.files[number].items():
            lines += [f"{key} = {one}\n" for one in (value if isinstance(value, list) else [value])]
        path = self.folder / f"dev/video{number}"
        new = self.folder / f"video{number}.new"
        new.write_text("".join(lines))
        # Whoever reads it meanwhile reads the one or the other.
        new.replace(path)

    def log(self, number):
        """What the camera did, in words: `frame NUMBER TAKEN_NS WHAT`, `control NAME VALUE`."""
        path = self.folder / f"log/video{number}"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=1, help="how many, with the serial numbers A, B and so on")
    parser.add_argument("--folder", type=Path, help="a new folder to lay them out in, which stays; without it a temporary one")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="after --, what to run with them")
    options = parser.parse_args()
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    with StandIn([Camera(serial=chr(ord("A") + number)) for number in range(options.cameras)], options.folder) as cameras:
        if not program:
            env = cameras.env({})
            print(" ".join(f"{name}={value}" for name, value in env.items()))
            return 0
        return subprocess.run(program, env=cameras.env()).returncode


if __name__ == "__main__":
    sys.exit(main())
