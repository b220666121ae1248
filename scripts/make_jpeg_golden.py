"""Writes the JPEGs that crates/drivers/src/camera/decode/golden holds: OpenCV's encoder (libjpeg-turbo) with subsampling and
restart markers as cameras have them, of a smooth picture with noise; and one of a camera's size for the benchmark,
crates/drivers/benches/640x480.jpg.

    python scripts/make_jpeg_golden.py        # OpenCV 4.13 of LeRobot 0.6.1's environment, seed 5
"""

from pathlib import Path

import cv2
import numpy as np

FOLDER = Path(__file__).parent.parent / "crates/drivers/src/camera/decode/golden"
BENCH = Path(__file__).parent.parent / "crates/drivers/benches/640x480.jpg"


def scene(random: np.random.Generator, width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x * 200 / width, y * 200 / height, (x + y) * 120 / (width + height)], axis=-1)
    return np.clip(smooth + random.integers(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def main() -> None:
    picture = scene(np.random.default_rng(5), 160, 120)
    sampling = {
        "420": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, 0),
        "422_restarts": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422, 4),
        "444": (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, 0),
    }
    for name, (factor, restarts) in sampling.items():
        options = [cv2.IMWRITE_JPEG_QUALITY, 80, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor, cv2.IMWRITE_JPEG_RST_INTERVAL, restarts]
        _, jpeg = cv2.imencode(".jpg", picture, options)
        (FOLDER / f"{name}.jpg").write_bytes(jpeg.tobytes())
        print(name, len(jpeg))
    # Edges and grain until a picture has the bytes of a UVC camera's: about 80 kB, 4:2:2.
    random = np.random.default_rng(6)
    picture = scene(random, 640, 480)
    for _ in range(150):
        x, y, radius = random.integers(0, 640), random.integers(0, 480), random.integers(4, 40)
        cv2.circle(picture, (int(x), int(y)), int(radius), tuple(int(c) for c in random.integers(0, 255, 3)), -1)
    options = [cv2.IMWRITE_JPEG_QUALITY, 88, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422]
    _, jpeg = cv2.imencode(".jpg", picture, options)
    BENCH.write_bytes(jpeg.tobytes())
    print(BENCH.name, len(jpeg))


if __name__ == "__main__":
    main()
