#!/usr/bin/env python3
"""Runs a checkpoint in LeRobot 0.6.1 and in `sinew policy infer` on the same frames of a dataset.

Prints by how much their actions differ, and exits with 1 when that is more than 1e-4 of an action's
range (the largest less the smallest that the dataset holds, joint by joint).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from safetensors.torch import load_file, save_file

MOST = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", type=Path, required=True, help="a checkpoint's folder")
    parser.add_argument("--dataset", type=Path, required=True, help="a LeRobotDataset's folder")
    parser.add_argument("--sinew", type=Path, required=True, help="the sinew program")
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of frames")
    args = parser.parse_args()

    dataset = LeRobotDataset("local/demonstrations", root=args.dataset)
    policy = ACTPolicy.from_pretrained(args.policy).eval()
    preprocessor, postprocessor = make_pre_post_processors(policy.config, pretrained_path=str(args.policy))
    stats = dataset.meta.stats["action"]
    range_of = torch.as_tensor(stats["max"]).float() - torch.as_tensor(stats["min"]).float()

    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(args.seed))[: args.frames].tolist()
    worst = torch.zeros_like(range_of)
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "in.safetensors", Path(folder) / "out.safetensors"
        for index in chosen:
            frame = dataset[index]
            seen = {key: frame[key] for key in policy.config.input_features}
            actions = postprocessor(policy.predict_action_chunk(preprocessor(dict(seen))))[0]

            tensors = {}
            for key, value in seen.items():
                if key in policy.config.image_features:
                    value = (value * 255).round().to(torch.uint8).permute(1, 2, 0)
                tensors[key] = value.contiguous()
            save_file(tensors, inputs, metadata={"task": frame["task"]})
            subprocess.run(
                [args.sinew, "policy", "infer", args.policy, "--inputs", inputs, "--out", outputs], check=True, stdout=subprocess.DEVNULL
            )
            theirs = load_file(outputs)["action"]
            if theirs.shape != actions.shape:
                sys.exit(f"frame {index}: sinew answers {tuple(theirs.shape)}, LeRobot {tuple(actions.shape)}")
            worst = torch.maximum(worst, (theirs - actions).abs().amax(0))

    share = worst / range_of
    print(f"{len(chosen)} frames, chunks of {policy.config.chunk_size}: the largest difference, joint by joint")
    for name, most, of in zip(dataset.meta.features["action"]["names"], worst.tolist(), share.tolist(), strict=True):
        print(f"  {name:20} {most:.2e}  {of:.2e} of its range")
    if not share.max() <= MOST:
        sys.exit(f"they differ by {share.max():.2e} of an action's range, expected at most {MOST:.0e}")


if __name__ == "__main__":
    main()
