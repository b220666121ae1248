#!/usr/bin/env python3
"""Turns a checkpoint of lerobot-train into the demonstration policy that is shipped.

Matrices and kernels become half precision and are rounded; biases, norms and their statistics are small and stay as
they are. Then `sinew eval` measures the result in the simulator, and the model card and a compact
training log are written beside it.
"""

import argparse
import csv
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

MOST_BYTES = 25_000_000
PROCESSORS = [
    "policy_preprocessor.json",
    "policy_preprocessor_step_3_normalizer_processor.safetensors",
    "policy_postprocessor.json",
    "policy_postprocessor_step_0_unnormalizer_processor.safetensors",
]
LOG_COLUMNS = ["time", "step", "epoch", "l1_loss", "gradient_norm", "learning_rate", "update_s", "data_s"]
ROW = re.compile(r"(\d+)/(\d+) \[.*?INFO (\S+ \S+) .*? epch:(\S+) loss:(\S+) grdn:(\S+) lr:(\S+) updt_s:(\S+) data_s:(\S+)")
Z = 1.959964  # of a two-sided interval of 95 %


@dataclass
class Run:
    """What the log of a training tells."""

    rows: list[list]
    minutes: float
    resumed_at: list[int]


def read_log(path: Path) -> Run:
    """Reads all that lerobot-train printed, over all the times it was started."""
    rows, resumed_at, minutes = {}, [], 0.0
    steps, first, last = 0, None, None
    for line in path.read_text().replace("\r", "\n").splitlines():
        if found := re.search(r"cfg\.steps=(\d+)", line):
            # The program was started (again).
            if first is not None:
                minutes += (last - first).total_seconds() / 60
            steps, first, last = int(found[1]), None, None
        elif found := re.search(r"INFO (\S+ \S+) .*Start offline training", line):
            first = last = datetime.fromisoformat(found[1])
        elif found := ROW.search(line):
            done, of, time, *values = found.groups()
            last = datetime.fromisoformat(time)
            # Its progress bar counts from where it started; its own step is rounded.
            offset = steps - int(of)
            if offset and offset not in resumed_at:
                resumed_at.append(offset)
                rows = {step: row for step, row in rows.items() if step <= offset}
            rows[offset + int(done)] = [time, offset + int(done), *map(float, values)]
    if first is None or not rows:
        sys.exit(f"reading {path}: no training in it")
    return Run(list(rows.values()), minutes + (last - first).total_seconds() / 60, resumed_at)


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision with few different values a row: multiples of a power of two, about a third of the row's
    standard deviation. It costs no success, and the binary packs it to a quarter."""
    rows = tensor.double().flatten(1)
    deviation = rows.std(dim=1, correction=0, keepdim=True)
    deviation[deviation == 0] = 1
    step = 2.0 ** torch.round(torch.log2(deviation / 3.4))
    return (torch.round(rows / step) * step).half().reshape(tensor.shape)


def export_weights(checkpoint: Path, out: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    small = {name: (rounded(tensor.half()) if tensor.dim() > 1 else tensor).contiguous() for name, tensor in weights.items()}
    for name, tensor in small.items():
        if not torch.isfinite(tensor).all():
            sys.exit(f"exporting {name}: not finite in half precision")
    save_file(small, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((checkpoint / "config.json").read_text())
    config["pretrained_path"] = None
    config["license"] = "apache-2.0"
    (out / "config.json").write_text(json.dumps(config, indent=4) + "\n")
    for name in PROCESSORS:
        shutil.copyfile(checkpoint / name, out / name)
    size = sum(file.stat().st_size for file in out.iterdir())
    if size > MOST_BYTES:
        sys.exit(f"{out}: {size} bytes, expected at most {MOST_BYTES}")


def evaluate(sinew: Path, task: str, policy: Path, seed: int, episodes: int) -> tuple[int, int]:
    """Successes and mean ticks of a success."""
    command = [sinew, "eval", "--task", task, "--policy", policy, "--episodes", str(episodes), "--seed", str(seed), "--json"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    outcomes = [json.loads(line) for line in output.splitlines()]
    outcomes = [outcome for outcome in outcomes if "ticks" in outcome and "success" in outcome]
    if [outcome["seed"] for outcome in outcomes] != list(range(seed, seed + episodes)):
        sys.exit(f"evaluating seeds {seed} and on: {len(outcomes)} outcomes, expected one for each of {episodes} seeds")
    ticks = [outcome["ticks"] for outcome in outcomes if outcome["success"]]
    return len(ticks), round(sum(ticks) / max(len(ticks), 1))


def wilson(successes: int, episodes: int) -> str:
    """The 95 % interval of a success rate."""
    rate = successes / episodes
    scale = 1 + Z * Z / episodes
    middle = (rate + Z * Z / (2 * episodes)) / scale
    half = Z * math.sqrt(rate * (1 - rate) / episodes + Z * Z / (4 * episodes**2)) / scale
    return f"{100 * (middle - half):.1f}–{100 * (middle + half):.1f} %"


def card(args: argparse.Namespace, run: Run, results: list[tuple[int, int, int]]) -> str:
    training = json.loads((args.checkpoint / "train_config.json").read_text())
    config = json.loads((args.checkpoint / "config.json").read_text())
    info = json.loads((args.dataset / "meta/info.json").read_text())
    demonstrations = [json.loads(line) for line in (args.dataset / "meta/sinew_episodes.jsonl").read_text().splitlines()]
    seeds = [demonstration["seed"] for demonstration in demonstrations]
    for seed, _, _ in results:
        if set(range(seed, seed + args.episodes)) & set(seeds):
            sys.exit(f"evaluating seeds {seed} and on: some were trained on")
    parameters = sum(tensor.numel() for tensor in load_file(args.checkpoint / "model.safetensors").values())
    steps, batch = run.rows[-1][1], training["batch_size"]
    cameras = [key.rsplit(".", 1)[1] for key in config["input_features"] if "images" in key]
    height, width = info["features"][f"observation.images.{cameras[0]}"]["shape"][:2]
    successes, of = sum(result[1] for result in results), len(results) * args.episodes
    table = "\n".join(
        f"| {seed}–{seed + args.episodes - 1} | {won} of {args.episodes} | {wilson(won, args.episodes)} | {ticks / info['fps']:.1f} s |"
        for seed, won, ticks in results
    )
    optimizer, schedule = training["optimizer"], training["scheduler"]
    return f"""---
license: apache-2.0
library_name: lerobot
pipeline_tag: robotics
tags: [robotics, lerobot, act, so101, simulation, sinew]
---

# ACT for the SO-101: put the cube into the bin

The demonstration policy of Sinew: an [ACT](https://arxiv.org/abs/2304.13705) policy that picks a cube
up and drops it into a bin with a simulated SO-101 arm, from two camera images and the joint positions
alone. It is a LeRobot checkpoint as any other, and it is there to show and test the runtime.

## Measured

`sinew eval --task {args.task} --episodes {args.episodes} --seed S`: each seed is another scene (where cube and bin
are, colours, light), and none of these was trained on.

| seeds | successes | 95 % interval (Wilson) | mean time of a success |
| --- | --- | --- | --- |
{table}
| together | {successes} of {of} ({100 * successes / of:.1f} %) | {wilson(successes, of)} | |

## Model

{config["vision_backbone"]} from random weights, {config["n_encoder_layers"]} encoder layers and {config["n_decoder_layers"]} decoder layer of width {config["dim_model"]}, norms before the
sublayers, no VAE: {parameters / 1e6:.1f} M numbers, matrices and kernels in half precision. Inputs are {len(info["features"]["observation.state"]["names"])} joint
positions and the cameras {" and ".join(cameras)}, {width}×{height}; it answers {config["chunk_size"]} actions at {info["fps"]} Hz, of which {config["n_action_steps"]} are
executed.

## Training

- Data: {info["total_episodes"]} successful episodes ({info["total_frames"]} frames, {info["total_frames"] / info["fps"] / 60:.0f} minutes of robot time) of Sinew's
  scripted teleoperator in Sinew's simulator, seeds {min(seeds)} to {max(seeds)}, recorded by `sinew record`.
- `lerobot-train` {args.lerobot}, {steps} steps of {batch} samples, AdamW at {optimizer["lr"]:g} (weight decay {optimizer["weight_decay"]:g}), {schedule["num_warmup_steps"]} steps of
  warmup and then a cosine to 0, seed {training["seed"]}: see `train_log.csv`.
- Hardware: {args.hardware}; {run.minutes:.0f} minutes.
{args.note}- Again: `scripts/demo_policy/train.sh` of Sinew's repository does all of it, from nothing to this card.

## Limits

It knows one task, in one simulator, with cubes where the simulator puts them. It has never seen a real
camera's image: do not run it on a real arm. It has no memory: after a missed grasp it may wait over the
bin without the cube, or stay at the cube, until the episode's time is over.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a pretrained_model folder of lerobot-train")
    parser.add_argument("--dataset", type=Path, required=True, help="what it was trained on")
    parser.add_argument("--log", type=Path, required=True, help="what lerobot-train printed")
    parser.add_argument("--out", type=Path, required=True, help="the policy's folder")
    parser.add_argument("--sinew", type=Path, required=True, help="the sinew program")
    parser.add_argument("--task", default="pick-place")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1000, 50000], help="first seeds to evaluate at")
    parser.add_argument("--episodes", type=int, default=100, help="episodes at each")
    parser.add_argument("--hardware", required=True, help="what it was trained on, in words")
    parser.add_argument("--lerobot", default="0.6.1", help="its version")
    parser.add_argument("--note", default="", help="a line of Markdown for the card's section on training")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    for old in args.out.iterdir():
        old.unlink()
    run = read_log(args.log)
    export_weights(args.checkpoint, args.out)
    results = [(seed, *evaluate(args.sinew, args.task, args.out, seed, args.episodes)) for seed in args.seeds]
    args.note = f"- {args.note}\n" if args.note else ""
    (args.out / "README.md").write_text(card(args, run, results))
    with (args.out / "train_log.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([LOG_COLUMNS, *run.rows])
    size = sum(file.stat().st_size for file in args.out.iterdir())
    print(f"{args.out}: {size / 1e6:.2f} MB; " + ", ".join(f"{won}/{args.episodes} from seed {seed}" for seed, won, _ in results))


if __name__ == "__main__":
    main()
