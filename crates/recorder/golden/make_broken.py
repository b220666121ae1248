"""Makes the dataset datasets/killed beside this file: LeRobot 0.6.1 killed before it finalizes.

    HF_HUB_OFFLINE=1 PYTHON_WITH_LEROBOT_0.6.1 crates/recorder/golden/make_broken.py

What LeRobot leaves then: complete videos and an info.json that counts 3 episodes, but rows in a
parquet file without footer, and no episodes table. What was recorded is in killed.json beside it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
from make_datasets import CAMERA, FPS, OUT, frame_of

LENGTHS = [7, 5, 6]
TASKS = ["Push the cube", "Touch the marker", "Push the cube"]
JOINTS = {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]}
FEATURES = {
    "action": JOINTS,
    "observation.state": JOINTS,
    "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    "note": {"dtype": "string", "shape": (1,), "names": None},
    "matrix": {"dtype": "float32", "shape": (2, 3), "names": None},
    "observation.images.still": {"dtype": "image", "shape": (20, 30, 3), "names": ["height", "width", "channels"]},
    "observation.images.top": CAMERA | {"shape": (48, 64, 3)},
}


def frames():
    rng = np.random.default_rng(2)
    return [[frame_of(FEATURES, rng, frame, number) for frame in range(length)] for number, length in enumerate(LENGTHS)]


def record_and_die():
    from lerobot.configs.video import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset.create("golden/killed", FPS, FEATURES, root=OUT / "killed", robot_type="test", rgb_encoder=RGBEncoderConfig(vcodec="h264"))
    for number, (episode, task) in enumerate(zip(frames(), TASKS)):
        for frame in episode:
            dataset.add_frame(frame | {"task": task})
        dataset.save_episode()
    os.kill(os.getpid(), signal.SIGKILL)


def main():
    shutil.rmtree(OUT / "killed", ignore_errors=True)
    subprocess.run([sys.executable, __file__, "--die"])
    shutil.rmtree(OUT / "killed" / "images", ignore_errors=True)
    recorded = [
        {"task": task, "rows": [{key: frame[key].tolist() for key in ("action", "observation.state", "next.done")} | {"note": frame["note"]} for frame in episode]}
        for episode, task in zip(frames(), TASKS)
    ]
    (OUT / "killed.json").write_text(json.dumps(recorded) + "\n")


if __name__ == "__main__":
    record_and_die() if "--die" in sys.argv else main()
