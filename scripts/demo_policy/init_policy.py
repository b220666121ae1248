#!/usr/bin/env python3
"""Makes the checkpoint that the training of the demonstration policy starts from.

LeRobot's ACT takes a ResNet whose batch norms are frozen: with ImageNet weights they hold ImageNet's
statistics, but a backbone that starts from nothing gets mean 0 and variance 1, so the activations of
a random ResNet-18 grow from block to block and training hardly begins. This script gives the frozen
norms the statistics of the random network on images of the dataset itself, layer by layer (the idea
of layer-sequential unit-variance initialisation, Mishkin and Matas, 2015, arXiv:1511.06422), and
saves the policy with its processors as LeRobot does. `lerobot-train --policy.path=OUT` goes on from
there.
"""

import argparse
import json
from pathlib import Path

import torch
from lerobot.configs.types import FeatureType
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from lerobot.utils.constants import IMAGENET_STATS
from lerobot.utils.feature_utils import dataset_to_policy_features
from torchvision.ops.misc import FrozenBatchNorm2d


def calibrate(policy: ACTPolicy, images: torch.Tensor) -> None:
    """Sets each frozen norm to the statistics of what reaches it; `images` is [N, 3, H, W], normalised."""

    def take_statistics(norm: FrozenBatchNorm2d, inputs: tuple[torch.Tensor, ...]) -> None:
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        norm.running_var.copy_(inputs[0].var((0, 2, 3)))

    norms = [m for m in policy.model.backbone.modules() if isinstance(m, FrozenBatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(take_statistics) for norm in norms]
    with torch.no_grad():
        policy.model.backbone(images)
    for hook in hooks:
        hook.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="a LeRobotDataset's folder")
    parser.add_argument("--config", type=Path, required=True, help="JSON with the ACTConfig fields to set")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=128, help="frames to calibrate on")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    dataset = LeRobotDataset("local/demonstrations", root=args.dataset)
    features = dataset_to_policy_features(dataset.meta.features)
    config = ACTConfig(
        input_features={k: f for k, f in features.items() if f.type is not FeatureType.ACTION},
        output_features={k: f for k, f in features.items() if f.type is FeatureType.ACTION},
        device="cpu",
        push_to_hub=False,
        **json.loads(args.config.read_text()),
    )
    policy = ACTPolicy(config).eval()
    # As lerobot-train normalises images unless told otherwise.
    images = {key: {name: torch.tensor(value) for name, value in IMAGENET_STATS.items()} for key in config.image_features}
    preprocessor, postprocessor = make_pre_post_processors(config, dataset_stats=dataset.meta.stats | images)

    indices = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(args.seed))[: args.images].tolist()
    frames = [preprocessor(dict(dataset[i])) for i in indices]
    calibrate(policy, torch.cat([frame[key] for frame in frames for key in config.image_features]))

    policy.save_pretrained(args.out)
    preprocessor.save_pretrained(args.out)
    postprocessor.save_pretrained(args.out)
    print(f"{args.out}: {sum(p.numel() for p in policy.parameters()) / 1e6:.2f} M parameters")


if __name__ == "__main__":
    main()
