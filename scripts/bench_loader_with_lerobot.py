"""Times LeRobot 0.6.1's and Sinew's loader on the same datasets; see bench_loader_with_lerobot.sh."""

import argparse
import json
import random
import subprocess
import time
from pathlib import Path

import numpy as np
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset

WIDTH, HEIGHT, FPS, CAMERAS, EPISODES, FRAMES = 640, 480, 30, 2, 4, 100


def picture(rng, texture, frame, camera):
    """A texture that moves, something like an arm over it, and a camera's noise."""
    moved = np.roll(texture, (frame * 2, camera * 50 + frame), (0, 1)).astype(np.int16)
    left = 40 + (frame * 5 + camera * 90) % (WIDTH - 160)
    moved[120:420, left : left + 80] = (180, 90 + camera * 60, 40)
    moved += rng.integers(-4, 5, moved.shape, dtype=np.int16)
    return np.clip(moved, 0, 255).astype(np.uint8)


def make(root, vcodec):
    features = {f"observation.images.camera{camera}": {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]} for camera in range(CAMERAS)}
    features |= {name: {"dtype": "float32", "shape": (6,), "names": None} for name in ("action", "observation.state")}
    dataset = LeRobotDataset.create("bench/" + vcodec, FPS, features, root=root, rgb_encoder=RGBEncoderConfig(vcodec=vcodec))
    rng = np.random.default_rng(1)
    coarse = rng.integers(30, 220, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    texture = np.repeat(np.repeat(coarse, 8, 0), 8, 1)
    for _ in range(EPISODES):
        for frame in range(FRAMES):
            row = {f"observation.images.camera{camera}": picture(rng, texture, frame, camera) for camera in range(CAMERAS)}
            values = {name: rng.normal(size=6).astype(np.float32) for name in ("action", "observation.state")}
            dataset.add_frame({**row, **values, "task": "Bench"})
        dataset.save_episode()
    dataset.finalize()


def by_lerobot(root, order, items, window):
    deltas = {f"observation.images.camera{camera}": [-back / FPS for back in reversed(range(window))] for camera in range(CAMERAS)}
    dataset = LeRobotDataset("bench/bench", root=root, video_backend="pyav", delta_timestamps=deltas if window > 1 else None)
    rng = random.Random(1)
    indices = [rng.randrange(len(dataset)) if order == "random" else at % len(dataset) for at in range(items)]
    # Opening and the first item, which imports what it needs, are not what is compared.
    dataset[0]
    begun = time.monotonic()
    for index in indices:
        dataset[index]
    return items * CAMERAS * window / (time.monotonic() - begun)


def by_sinew(program, root, order, items, window):
    command = [program, root, f"order={order}", f"items={items}", f"window={window}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["images_a_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sinew", required=True, help="the example bench_reading")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many counts, for both")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(f"{'':32}{'LeRobot':>10}{'Sinew':>10}{'ratio':>8}   images a second, {CAMERAS} cameras of {WIDTH}x{HEIGHT}")
    for name, vcodec in (("AV1", "libsvtav1"), ("H.264", "h264")):
        root, older = arguments.folder / vcodec, arguments.folder / f"{vcodec}-v2.1"
        if not (root / "meta" / "info.json").exists():
            make(root, vcodec)
        if not older.exists():
            subprocess.run([arguments.sinew, root, f"convert={older}"], check=True)
        for order, window in (("sequential", 1), ("random", 1), ("random", 4)):
            theirs = max(by_lerobot(root, order, arguments.items, window) for _ in range(arguments.rounds))
            for version, folder in (("v3.0", root), ("v2.1", older)):
                ours = max(by_sinew(arguments.sinew, folder, order, arguments.items, window) for _ in range(arguments.rounds))
                what = f"{name} {version} {order}" + (f", windows of {window}" if window > 1 else "")
                print(f"{what:32}{theirs:10.1f}{ours:10.1f}{ours / theirs:8.2f}", flush=True)


if __name__ == "__main__":
    main()
