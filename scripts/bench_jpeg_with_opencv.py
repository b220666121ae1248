"""Says how long OpenCV (libjpeg-turbo) takes for the picture of crates/drivers/benches/decode.rs, on one thread.

    python scripts/bench_jpeg_with_opencv.py
"""

import time
from pathlib import Path

import cv2
import numpy as np

JPEG = np.frombuffer((Path(__file__).parent.parent / "crates/drivers/benches/640x480.jpg").read_bytes(), np.uint8)
YUYV = (np.arange(640 * 480 * 2) * 7 % 251).astype(np.uint8).reshape(480, 640, 2)


def measure(what, decode):
    fastest = min(timed(decode) for _ in range(40))
    print(f"{what:48} {fastest * 1e3:6.3f} ms, four at 30 Hz: {fastest * 120:.3f} cores")


def timed(decode):
    start = time.perf_counter()
    for _ in range(10):
        decode()
    return (time.perf_counter() - start) / 10


def main() -> None:
    cv2.setNumThreads(1)
    jpeg = next(line.strip() for line in cv2.getBuildInformation().splitlines() if "JPEG:" in line)
    print("OpenCV", cv2.__version__, jpeg)
    measure("imdecode and cvtColor, as LeRobot", lambda: cv2.cvtColor(cv2.imdecode(JPEG, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
    measure("imdecode alone", lambda: cv2.imdecode(JPEG, cv2.IMREAD_COLOR))
    measure("YUYV", lambda: cv2.cvtColor(YUYV, cv2.COLOR_YUV2RGB_YUYV))


if __name__ == "__main__":
    main()
