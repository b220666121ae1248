"""Makes stats.json beside this file: what LeRobot 0.6.1 computes of two small episodes.

    PYTHON_WITH_LEROBOT_0.6.1 crates/recorder/golden/make_stats.py

The joints' values are in the file; the images are a formula, which the test repeats.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from lerobot.datasets.compute_stats import aggregate_stats, auto_downsample_height_width, get_feature_stats, sample_indices


def picture(frame, width, height):
    """[3, height, width], 8 bits."""
    x, y, c = np.arange(width)[None, None], np.arange(height)[None, :, None], np.arange(3)[:, None, None]
    return ((x * 7 + y * 3 + c * 50 + frame * 11) % 251).astype(np.uint8)


def image_stats(length, width, height):
    images = np.stack([auto_downsample_height_width(picture(i, width, height)) for i in sample_indices(length)])
    stats = get_feature_stats(images, axis=(0, 2, 3), keepdims=True)
    # LeRobot sums 8-bit images in f32, which is off by 1e-4 here; Sinew's sums are exact.
    exact = get_feature_stats(images.astype(np.float64), axis=(0, 2, 3), keepdims=True)
    stats |= {key: exact[key] for key in ("mean", "std")}
    return {key: value if key == "count" else np.squeeze(value / 255.0, axis=0) for key, value in stats.items()}


def listed(stats):
    return {key: np.asarray(value).tolist() for key, value in stats.items()}


rng = np.random.default_rng(0)
lengths = [57, 1, 130]
joints = [(rng.normal(size=(n, 3)) * [40, 10, 0] + [5, 50, 7]).astype(np.float32) for n in lengths]
times = [np.arange(n) / 30 for n in lengths]
episodes = [
    {
        "joints": get_feature_stats(j, axis=0, keepdims=False),
        "time": get_feature_stats(t, axis=0, keepdims=True),
        "image": image_stats(n, 40, 30),
        "large_image": image_stats(n, 322, 200),
    }
    for n, j, t in zip(lengths, joints, times)
]
total = episodes[0]
for episode in episodes[1:]:
    total = aggregate_stats([total, episode])

golden = {
    "made_with": f"lerobot {version('lerobot')}, numpy {np.__version__}",
    "joints": [j.tolist() for j in joints],
    "episodes": [{name: listed(stats) for name, stats in episode.items()} for episode in episodes],
    "total": {name: listed(stats) for name, stats in sorted(total.items())},
    "sampled_frames": {n: sample_indices(n) for n in (1, 2, 99, 100, 101, 463, 466, 1000)},
}
(Path(__file__).parent / "stats.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
