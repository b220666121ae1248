#!/usr/bin/env python
"""Writes the golden checkpoints of this folder and what LeRobot 0.6.1 answers to them.

    python make_golden.py            # all cases, into the folder of this script
    python make_golden.py --full DIR # one checkpoint of full size, for timing (not committed)

Each case is a folder as `save_pretrained` writes it (config, weights, processors) with
`inputs.safetensors` (what `sinew policy infer` takes) and `expected.safetensors`: `action`, the
chunk after the postprocessor. `ensemble.safetensors` holds chunks and what LeRobot's temporal
ensembler makes of them, row by row.

Weights and statistics are random. So that the files stay small the ResNets are torchvision's with
narrow layers (see `narrow`); nothing else of LeRobot is changed.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
import torchvision
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy, ACTTemporalEnsembler
from lerobot.policies.factory import make_pre_post_processors
from safetensors.torch import load_file, save_file
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

HERE = Path(__file__).resolve().parent
STATE, ENV, ACTION = "observation.state", "observation.environment_state", "action"
BLOCKS = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}
M = NormalizationMode


def narrow(name: str, width: int):
    """A stand-in for `torchvision.models.<name>`: the same network with `width` channels for 64."""
    block, layers = BLOCKS[name]

    def build(weights=None, replace_stride_with_dilation=None, norm_layer=None):
        assert weights is None
        # The widths are constants in ResNet.__init__, so the stages are made anew.
        net = ResNet(block, layers, replace_stride_with_dilation=replace_stride_with_dilation, norm_layer=norm_layer)
        net.inplanes, net.dilation = width, 1
        net.conv1 = torch.nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        net.bn1 = norm_layer(width)
        dilate = replace_stride_with_dilation
        net.layer1 = net._make_layer(block, width, layers[0])
        net.layer2 = net._make_layer(block, width * 2, layers[1], stride=2, dilate=dilate[0])
        net.layer3 = net._make_layer(block, width * 4, layers[2], stride=2, dilate=dilate[1])
        net.layer4 = net._make_layer(block, width * 8, layers[3], stride=2, dilate=dilate[2])
        net.fc = torch.nn.Linear(width * 8 * block.expansion, 1)
        return net

    return build


def smooth_image(rng: np.random.Generator, height: int, width: int) -> torch.Tensor:
    """u8 [H, W, 3]: random blobs, so that neighbouring pixels are alike as in a photograph."""
    coarse = torch.from_numpy(rng.random((1, 3, 5, 6), dtype=np.float32))
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def random_stats(rng: np.random.Generator, features: dict[str, PolicyFeature]) -> dict:
    stats = {}
    for name, feature in features.items():
        shape = (feature.shape[0], 1, 1) if feature.type is FeatureType.VISUAL else feature.shape
        scale = 1.0 if feature.type is FeatureType.VISUAL else 20.0
        points = np.sort(rng.random((6, *shape)), axis=0) * scale - (0 if scale == 1.0 else scale / 2)
        names = ["min", "q01", "q10", "q90", "q99", "max"]
        stats[name] = {stat: points[i].astype(np.float32) for i, stat in enumerate(names)}
        stats[name]["mean"] = points.mean(axis=0).astype(np.float32)
        stats[name]["std"] = (points.std(axis=0) + 0.05).astype(np.float32)
        stats[name]["count"] = np.array([100.0], dtype=np.float32)
    # One dimension that never moved.
    for stat in ["min", "q01", "q10", "q90", "q99", "max"]:
        stats[ACTION][stat][0] = 1.5
    return stats


def randomise(policy: ACTPolicy, rng: torch.Generator) -> None:
    """Lively weights: norms that do something, biases that are not zero."""
    for name, tensor in [*policy.named_parameters(), *policy.named_buffers()]:
        noise = torch.randn(tensor.shape, generator=rng)
        with torch.no_grad():
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise.abs())
            elif name.endswith("running_mean"):
                tensor.copy_(0.1 * noise)
            elif ".bn" in name or "downsample.1" in name or ".norm" in name:
                tensor.copy_((1.0 if name.endswith("weight") else 0.0) + 0.2 * noise)
            elif name.endswith("bias"):
                tensor.copy_(0.1 * noise)
            elif name.endswith("vae_encoder_pos_enc"):
                pass
            elif tensor.dim() > 1:
                fan_in = tensor[0].numel()
                gain = 2.0 if name.startswith("model.backbone") else 1.2
                tensor.copy_(noise * (gain / fan_in) ** 0.5)


def make_case(out: Path, seed: int, cameras: dict, state: int | None, action: int, env: int | None = None,
              norm=(M.MEAN_STD, M.MEAN_STD, M.MEAN_STD), width: int | None = 4, half: bool = False,
              rename: dict | None = None, **config) -> None:
    rng, torch_rng = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    inputs = {}
    if state:
        inputs[STATE] = PolicyFeature(FeatureType.STATE, (state,))
    for name, (h, w) in cameras.items():
        inputs[f"observation.images.{name}"] = PolicyFeature(FeatureType.VISUAL, (3, h, w))
    if env:
        inputs[ENV] = PolicyFeature(FeatureType.ENV, (env,))
    outputs = {ACTION: PolicyFeature(FeatureType.ACTION, (action,))}
    visual, vector, target = norm
    cfg = ACTConfig(
        input_features=inputs, output_features=outputs, device="cpu", pretrained_backbone_weights=None, push_to_hub=False,
        license="apache-2.0",
        normalization_mapping={"VISUAL": visual, "STATE": vector, "ENV": vector, "ACTION": target}, **config,
    )
    backbone = config.get("vision_backbone", "resnet18")
    original = getattr(torchvision.models, backbone)
    if width is not None:
        setattr(torchvision.models, backbone, narrow(backbone, width))
    policy = ACTPolicy(cfg)
    setattr(torchvision.models, backbone, original)
    randomise(policy, torch_rng)
    policy.eval()

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    pre, post = make_pre_post_processors(cfg, dataset_stats=random_stats(rng, {**inputs, **outputs}))
    if rename:
        pre.steps[0].rename_map = rename
    if half:
        policy.half()
    policy.save_pretrained(out)
    pre.save_pretrained(out)
    post.save_pretrained(out)
    policy.float()  # f16 is how the weights are stored; both sides compute in f32.

    back = {new: old for old, new in (rename or {}).items()}
    observation, raw = {}, {}
    for name, feature in inputs.items():
        given = back.get(name, name)
        if feature.type is FeatureType.VISUAL:
            raw[given] = smooth_image(rng, *feature.shape[1:])
            observation[given] = raw[given].to(torch.float32).div(255).permute(2, 0, 1)
        else:
            raw[given] = torch.from_numpy(rng.normal(0, 8, feature.shape).astype(np.float32))
            observation[given] = raw[given].clone()
    save_file(raw, out / "inputs.safetensors", metadata={"task": "pick up the cube"})
    def answer_to(given: dict) -> torch.Tensor:
        with torch.no_grad():
            return post(policy.predict_action_chunk(pre(dict(given))))

    answer = answer_to(observation)
    for name, value in observation.items():
        # A case in which an input hardly matters would prove nothing about it.
        other = torch.flip(value, [-1]) if value.dim() == 3 else value + 5.0
        change = (answer_to(observation | {name: other}) - answer).abs().max().item()
        assert change > 1e-2 * answer.std().item(), f"{out.name}: {name} changes the answer by {change} only"
    save_file({ACTION: answer[0].contiguous()}, out / "expected.safetensors")
    # The Hub's card, with LeRobot's front matter, is of no use here.
    (out / "README.md").unlink(missing_ok=True)
    size = sum(f.stat().st_size for f in out.iterdir())
    print(f"{out.name}: {size / 1e3:.0f} kB, answer {tuple(answer.shape[1:])}, std {answer.std():.3f}")


def make_ensemble(out: Path) -> None:
    rng = np.random.default_rng(7)
    tensors = {}
    for label, coeff in {"old": 0.01, "even": 0.0, "new": -0.5}.items():
        ensembler = ACTTemporalEnsembler(coeff, 6)
        chunks = torch.from_numpy(rng.normal(0, 1, (15, 6, 2)).astype(np.float32))
        rows = torch.cat([ensembler.update(chunk[None]) for chunk in chunks])
        tensors |= {f"{label}.chunks": chunks, f"{label}.rows": rows, f"{label}.coeff": torch.tensor([coeff], dtype=torch.float32)}
    save_file(tensors, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", type=Path)
    args = parser.parse_args()
    small = {"dim_model": 32, "n_heads": 4, "dim_feedforward": 48, "n_encoder_layers": 2, "latent_dim": 8, "n_vae_encoder_layers": 1}
    if args.full:
        cameras = {"front": (96, 128), "wrist": (96, 128)}
        make_case(args.full, 1, cameras, 6, 6, width=None, dim_model=256, dim_feedforward=1024, chunk_size=50, n_action_steps=50)
        return
    make_case(HERE / "two_cameras_vae", 1, {"wrist": (96, 128), "front": (96, 128)}, 6, 6, chunk_size=20, n_action_steps=20, **small)
    make_case(HERE / "pre_norm_min_max", 2, {"top": (75, 101)}, 4, 5, norm=(M.IDENTITY, M.MIN_MAX, M.MIN_MAX), use_vae=False,
              pre_norm=True, chunk_size=7, n_action_steps=3, **small)
    make_case(HERE / "environment_gelu_two_decoders", 3, {"a": (64, 64), "b": (48, 80)}, 3, 2, env=5,
              norm=(M.QUANTILES, M.QUANTILES, M.QUANTILES), use_vae=False, feedforward_activation="gelu", n_decoder_layers=2,
              vision_backbone="resnet34", chunk_size=11, n_action_steps=11, **small | {"dim_model": 40, "n_heads": 2})
    make_case(HERE / "resnet50_dilated_f16", 4, {"front": (70, 90)}, 6, 6, norm=(M.MIN_MAX, M.QUANTILE10, M.QUANTILE10),
              vision_backbone="resnet50", replace_final_stride_with_dilation=True, half=True, use_vae=False, width=3, chunk_size=9,
              n_action_steps=9, rename={"observation.images.camera1": "observation.images.front"}, **small)
    make_case(HERE / "no_camera", 5, {}, 3, 3, env=4, norm=(M.MEAN_STD, M.MEAN_STD, M.IDENTITY), chunk_size=5, n_action_steps=1,
              temporal_ensemble_coeff=0.01, **small)
    make_ensemble(HERE / "ensemble.safetensors")


if __name__ == "__main__":
    main()
