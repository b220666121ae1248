"""A policy comes from a Hub, a dataset that it is recorded with goes back to it, and LeRobot opens that from there.

    python scripts/check_hub_round.py --sinew SINEW --fake-hub FAKE_HUB

Its Python has LeRobot 0.6.1 (`pip install lerobot==0.6.1`) and `datasets`. The Hub is the fake one of crates/testkit.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--sinew", type=Path, required=True)
parser.add_argument("--fake-hub", type=Path, required=True)
options = parser.parse_args()
home = Path(tempfile.mkdtemp(prefix="sinew-round-"))

OPEN = """
import json, sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from datasets import load_dataset
here, there = LeRobotDataset("local/x", root=sys.argv[2], video_backend="pyav"), LeRobotDataset(sys.argv[1], video_backend="pyav")
assert (len(here), here.num_episodes) == (len(there), there.num_episodes), (len(here), len(there))
wrong = 0
for index in np.linspace(0, len(here) - 1, 25).astype(int):
    one, other = here[int(index)], there[int(index)]
    assert one.keys() == other.keys()
    wrong += sum(not np.array_equal(np.asarray(one[key]), np.asarray(other[key])) for key in one if key != "task")
rows = load_dataset(sys.argv[1], split="train")
print(json.dumps({"frames": len(there), "episodes": there.num_episodes, "wrong": wrong, "rows": len(rows)}))
"""


def run(*command, **more):
    environment = {
        **os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_ada", "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1",
        "HF_LEROBOT_HOME": str(home / "lerobot"), "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run([str(word) for word in command], env={**environment, **more}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[:4]} ended with {done.returncode}:\n{done.stderr[-3000:]}{done.stdout[-500:]}")
    return done.stdout.strip().splitlines()[-1]


try:
    root = home / "root/models/ada/act_pick"
    shutil.copytree(next(path.parent for path in (ROOT / "policies").glob("*/config.json")), root)
    fake = subprocess.Popen(
        [str(options.fake_hub), "--root", str(home / "root"), "--token", "hf_ada:ada:write"], stdout=subprocess.PIPE, text=True
    )
    endpoint = fake.stdout.readline().split()[-1]
    made = json.loads(run(options.sinew, "rollout", "--policy", "ada/act_pick", "--task", "pick-place", "--episodes", 1, "--pace", "fast", "--json", "--no-record"))
    print("rollout:", {key: made[key] for key in ("policy", "commit", "episodes", "successes")})
    assert made["commit"] and len(made["commit"]) == 40
    out = home / "pushed"
    said = run(options.sinew, "record", "--robot", "so101", "--sim", "--teleop", "scripted", "--task", "pick-place", "--episodes", 4, "--out", out,
               "--publish", "ada/picks", "--publish-every", 2, "--json")
    print("record:", said)
    print("LeRobot:", run(sys.executable, "-c", OPEN, "ada/picks", out, HF_DATASETS_CACHE=str(home / "datasets")))
    print("sinew:", run(options.sinew, "dataset", "info", "ada/picks", "--json")[:200])
    fake.kill()
finally:
    shutil.rmtree(home, ignore_errors=True)
