"""Writes the JPEGs that crates/drivers/src/camera/decode/golden holds: OpenCV's encoder (libjpeg-turbo) with subsampling and
restart markers as cameras have them, of a smooth picture with noise.

    python scripts/make_jpeg_golden.py        # OpenCV 4.13 of LeRobot 0.6.1's environment, seed 5
"""

from pathlib import Path

import cv2
import numpy as np

FOLDER = Path(__file__).parent.parent / "crates/drivers/src/camera/decode/golden"
WIDTH, HEIGHT = 160, 120


def scene(random: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    smooth = np.stack([x * 200 / WIDTH, y * 200 / HEIGHT, (x + y) * 120 / (WIDTH + HEIGHT)], axis=-1)
    return np.clip(smooth + random.integers(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def main() -> None:
    picture = scene(np.random.default_rng(5))
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


if __name__ == "__main__":
    main()
