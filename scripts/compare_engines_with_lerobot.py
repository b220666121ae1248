#!/usr/bin/env python
"""What a policy's latency does to the rows that reach the arm: LeRobot 0.6.1's own sync and rtc engines and
Sinew's three modes, with the same scripted policy, in real time.

    PYTHON_WITH_LEROBOT_0.6.1 scripts/compare_engines_with_lerobot.py --sinew target/release/examples/engines

(`cargo build --release -p sinew-runtime --example engines` makes it.) At 30 Hz for SECONDS a case. An answer
has 50 rows, row i being for the tick of its observation plus i; answers disagree by up to 0.3 rad. Prints,
for each case:

    off      by how many ticks the rows executed were for another tick than theirs, on average and at most
    replayed rows for a tick that had had one
    skipped  ticks that never got their row, though the loop ran on
    none     ticks of the loop without an action
    missed   ticks that the loop didn't run
    step     the largest step between two commands, rad
"""

import argparse
import json
import logging
import math
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import torch
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot.rollout.inference.rtc import RTCInferenceEngine
from lerobot.rollout.inference.sync import SyncInferenceEngine
from lerobot.utils.feature_utils import build_dataset_frame

FPS = 30
CHUNK = 50
# Latencies of the answers in ms, repeated; the first comes once.
CASES = {
    "0 ms": (0, [0]),
    "100 ms": (100, [100]),
    "100 ms, first 10 times": (1000, [100]),
    "100 ms, spikes of 800": (100, [100, 100, 100, 100, 800]),
    "500 ms": (500, [500]),
    "1500 ms": (1500, [1500]),
}
STATE = {"observation.state": {"dtype": "float32", "shape": (1,), "names": ["tick"]}}
ACTION = {"action": {"dtype": "float32", "shape": (2,), "names": ["row", "swing"]}}


class Scripted:
    """The policy, as far as the engines see it."""

    def __init__(self, first, then):
        self.config = SimpleNamespace(use_amp=False)
        self.first, self.then, self.answers, self.queue = first, then, 0, []

    def reset(self):
        self.queue = []

    def predict_action_chunk(self, batch, inference_delay=0, prev_chunk_left_over=None):
        tick = int(batch["observation.state"].flatten()[0])
        n, self.answers = self.answers, self.answers + 1
        time.sleep((self.first if n == 0 else self.then[(n - 1) % len(self.then)]) / 1000)
        rows = [[tick + i, 0.15 * (-1) ** n + 0.5 * math.sin(0.1 * (tick + i))] for i in range(CHUNK)]
        return torch.tensor([rows])

    def select_action(self, batch):
        if not self.queue:
            self.queue = list(self.predict_action_chunk(batch)[0])
        return self.queue.pop(0)[None]


class Nothing:
    steps = ()

    def __call__(self, value):
        return value

    def reset(self):
        pass


def run(kind, first, then, seconds):
    policy = Scripted(first, then)
    if kind == "sync":
        engine = SyncInferenceEngine(policy, Nothing(), Nothing(), ACTION, ["row", "swing"], "", "cpu", "arm")
    else:
        robot = SimpleNamespace(robot_type="arm", action_features={})
        engine = RTCInferenceEngine(policy, Nothing(), Nothing(), robot, RTCConfig(), STATE, "", FPS, "cpu", shutdown_event=threading.Event())
    engine.reset()
    engine.start()
    engine.resume()
    start, executed, nothing = time.perf_counter(), [], 0
    loops = 0
    while (now := time.perf_counter() - start) < seconds:
        tick = int(now * FPS)
        observation = {"tick": float(tick)}
        engine.notify_observation(observation)
        frame = build_dataset_frame(STATE, observation, prefix="observation") if kind == "sync" else None
        action = engine.get_action(frame)
        if action is None:
            nothing += 1
        else:
            executed.append((int((time.perf_counter() - start) * FPS), int(action[0]), float(action[1])))
        loops += 1
        # As LeRobot's loop: a sleep for what is left of the period.
        spent = time.perf_counter() - start - now
        time.sleep(max(0.0, 1 / FPS - spent))
    engine.stop()
    return {"executed": executed, "none": nothing, "missed": max(0, int(seconds * FPS) - loops)}


def table(found):
    rows = [row for _, row, _ in found["executed"]]
    off = [abs(tick - row) for tick, row, _ in found["executed"]]
    swings = [swing for _, _, swing in found["executed"]]
    seen = set(rows)
    return {
        "off": f"{sum(off) / max(1, len(off)):.1f} {max(off, default=0)}",
        "replayed": len(rows) - len(seen),
        "skipped": len(set(range(min(seen, default=0), max(seen, default=-1) + 1)) - seen),
        "none": found["none"],
        "missed": found["missed"],
        "step": f"{max((abs(b - a) for a, b in zip(swings, swings[1:])), default=0):.3f}",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinew", required=True)
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    # It warns of each answer whose delay it has guessed wrongly.
    logging.disable(logging.WARNING)
    columns = ["off", "replayed", "skipped", "none", "missed", "step"]
    print(f"{'case':24} {'engine':14}" + "".join(f"{column:>10}" for column in columns))
    for case, (first, then) in CASES.items():
        found = {f"LeRobot {kind}": run(kind, first, then, args.seconds) for kind in ["sync", "rtc"]}
        for mode in ["sync", "async", "rtc"]:
            command = [args.sinew, mode, str(args.seconds), str(first), *map(str, then)]
            found[f"Sinew {mode}"] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for engine, result in found.items():
            cells = table(result)
            print(f"{case:24} {engine:14}" + "".join(f"{cells[column]!s:>10}" for column in columns), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
