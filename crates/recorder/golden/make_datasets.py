"""Makes the datasets in datasets/ beside this file with LeRobot 0.6.1, and what it reads of them.

    HF_HUB_OFFLINE=1 PYTHON_WITH_LEROBOT_0.6.1 crates/recorder/golden/make_datasets.py

Each folder NAME has NAME.json beside it: every row, and of every image its mean colours and the
colours of some pixels as LeRobot decodes them.
"""

import json
import shutil
from pathlib import Path

import numpy as np
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FPS = 30
CAMERA = {"dtype": "video", "names": ["height", "width", "channels"]}
# Where images are looked at, as shares of their height and width: away from the edges of the squares.
PIXELS = [(0.1, 0.1), (0.5, 0.5), (0.9, 0.3)]
OUT = Path(__file__).parent / "datasets"


def picture(frame, height, width, seed):
    """Squares of 16 pixels whose colours change with the frame; H.264 keeps them well."""
    y, x = np.arange(height)[:, None] // 16, np.arange(width)[None] // 16
    channels = [(x * 60 + y * 90 + frame * 23 * (c + 1) + seed * 50 + c * 70) % 200 + 20 for c in range(3)]
    return np.stack(np.broadcast_arrays(*channels), -1).astype(np.uint8)


def frame_of(features, rng, frame, seed):
    values = {}
    for key, feature in features.items():
        shape, dtype = tuple(feature["shape"]), feature["dtype"]
        if feature.get("info", {}).get("is_depth_map"):
            values[key] = (np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape) % 97 * 40 + 200 + frame * 10).astype(np.uint16)
        elif dtype in ("video", "image"):
            values[key] = picture(frame, shape[0], shape[1], seed)
        elif dtype == "string":
            values[key] = f"note {frame} é"
        elif dtype == "bool":
            values[key] = np.array([frame % 3 == 0])
        elif dtype == "int64":
            values[key] = rng.integers(-5, 5, shape)
        else:
            values[key] = rng.normal(size=shape).astype(dtype)
    return values


def looked_at(image):
    image = image.numpy()
    channels, height, width = image.shape
    pixels = [image[:, int(height * y), int(width * x)].tolist() for y, x in PIXELS]
    return {"mean": image.mean((1, 2)).tolist(), "pixels": pixels, "shape": [height, width, channels]}


def make(name, features, episodes, vcodec):
    root = OUT / name
    shutil.rmtree(root, ignore_errors=True)
    dataset = LeRobotDataset.create("golden/" + name, FPS, features, root=root, robot_type="test", rgb_encoder=RGBEncoderConfig(vcodec=vcodec))
    rng = np.random.default_rng(1)
    for number, (length, task) in enumerate(episodes):
        for frame in range(length):
            dataset.add_frame(frame_of(features, rng, frame, number) | {"task": task})
        dataset.save_episode()
    dataset.finalize()
    shutil.rmtree(root / "images", ignore_errors=True)
    read = LeRobotDataset("golden/" + name, root=root, video_backend="pyav")
    rows = []
    for i in range(len(read)):
        item = read[i]
        rows.append({
            key: looked_at(value) if key in read.meta.camera_keys else value if isinstance(value, str) else value.tolist()
            for key, value in item.items()
        })
    (OUT / f"{name}.json").write_text(json.dumps({"rows": rows}) + "\n")
    print(f"{name}: {len(rows)} rows")


def main():
    joints = {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]}
    make(
        "h264",
        {"action": joints, "observation.state": joints, "observation.images.top": CAMERA | {"shape": (48, 64, 3)}},
        [(9, "Push the cube"), (4, "Touch the marker"), (6, "Push the cube")],
        "h264",
    )
    make(
        "mixed",
        {
            "action": joints,
            "observation.state": {"dtype": "float64", "shape": (2,), "names": None},
            "matrix": {"dtype": "float32", "shape": (2, 3), "names": None},
            "count": {"dtype": "int64", "shape": (1,), "names": None},
            "note": {"dtype": "string", "shape": (1,), "names": None},
            "next.done": {"dtype": "bool", "shape": (1,), "names": None},
            "observation.images.still": {"dtype": "image", "shape": (20, 30, 3), "names": ["height", "width", "channels"]},
            "observation.images.top": CAMERA | {"shape": (64, 80, 3)},
            "observation.images.depth": CAMERA | {"shape": (64, 80, 1), "info": {"is_depth_map": True}},
        },
        [(5, "Push the cube"), (4, "Push the cube"), (3, "Touch the marker")],
        "libsvtav1",
    )


if __name__ == "__main__":
    main()
