"""ACT. So that the files stay small the ResNets are torchvision's with narrow layers; nothing else of
LeRobot is changed."""

from pathlib import Path
from unittest import mock

import torch
import torchvision
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from .common import M, features, norms, processors, randomise, save_case, seeded

BLOCKS = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}


def narrow(name: str, width: int | tuple[int, int, int, int]):
    """A stand-in for `torchvision.models.<name>`: the same network with `width` channels for 64, or
    with these in its four stages."""
    block, layers = BLOCKS[name]
    widths = width if isinstance(width, tuple) else [width, 2 * width, 4 * width, 8 * width]

    def build(weights=None, replace_stride_with_dilation=None, norm_layer=torch.nn.BatchNorm2d):
        assert weights is None
        # The widths are constants in ResNet.__init__, so the stages are made anew.
        net = ResNet(block, layers, replace_stride_with_dilation=replace_stride_with_dilation, norm_layer=norm_layer)
        net.inplanes, net.dilation = widths[0], 1
        net.conv1 = torch.nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)
        net.bn1 = norm_layer(widths[0])
        dilate = replace_stride_with_dilation or [False, False, False]
        net.layer1 = net._make_layer(block, widths[0], layers[0])
        net.layer2 = net._make_layer(block, widths[1], layers[1], stride=2, dilate=dilate[0])
        net.layer3 = net._make_layer(block, widths[2], layers[2], stride=2, dilate=dilate[1])
        net.layer4 = net._make_layer(block, widths[3], layers[3], stride=2, dilate=dilate[2])
        net.fc = torch.nn.Linear(widths[3] * block.expansion, 1)
        return net

    return build


def gain(name: str) -> float:
    """The vectors are one token each among many of the images."""
    return 2.0 if "backbone" in name else 8.0 if "state_input_proj" in name or "decoder" in name else 1.2


def make(out: Path, seed: int, cameras: dict, state: int | None, action: int, env: int | None = None, norm=(M.MEAN_STD,) * 3,
         width: int | None = 2, dtype=None, rename=None, check: bool = True, **config) -> None:
    rng = seeded(seed)
    backbone = config.get("vision_backbone", "resnet18")
    cfg = ACTConfig(**features(cameras, state, action, env), normalization_mapping=norms(*norm), device="cpu", pretrained_backbone_weights=None,
                    push_to_hub=False, license="apache-2.0", **config)
    network = narrow(backbone, width) if width else getattr(torchvision.models, backbone)
    with mock.patch.object(torchvision.models, backbone, network):
        policy = ACTPolicy(cfg)
    randomise(policy, rng, gain)
    save_case(out, policy, *processors(cfg, rng), rng, dtype=dtype, rename=rename, check=check)


SMALL = {"dim_model": 16, "n_heads": 4, "dim_feedforward": 24, "n_encoder_layers": 2, "latent_dim": 8, "n_vae_encoder_layers": 1}


def two_cameras_vae(out: Path) -> None:
    make(out, 1, {"wrist": (96, 128), "front": (96, 128)}, 6, 6, chunk_size=20, n_action_steps=20, **SMALL)


def pre_norm_min_max(out: Path) -> None:
    make(out, 2, {"top": (75, 101)}, 4, 5, norm=(M.IDENTITY, M.MIN_MAX, M.MIN_MAX), use_vae=False, pre_norm=True, chunk_size=7, n_action_steps=3, **SMALL)


def environment_gelu_two_decoders(out: Path) -> None:
    make(out, 13, {"a": (64, 64), "b": (48, 80)}, 3, 2, env=5, norm=(M.QUANTILES,) * 3, use_vae=False, feedforward_activation="gelu", n_decoder_layers=2,
         vision_backbone="resnet34", chunk_size=11, n_action_steps=11, **SMALL | {"dim_model": 20, "n_heads": 2})


def resnet50_dilated_f16(out: Path) -> None:
    make(out, 4, {"front": (70, 90)}, 6, 6, norm=(M.MIN_MAX, M.QUANTILE10, M.QUANTILE10), vision_backbone="resnet50",
         replace_final_stride_with_dilation=True, dtype=torch.half, use_vae=False, chunk_size=9, n_action_steps=9,
         rename={"observation.images.camera1": "observation.images.front"}, **SMALL)


def no_camera(out: Path) -> None:
    make(out, 5, {}, 3, 3, env=4, norm=(M.MEAN_STD, M.MEAN_STD, M.IDENTITY), chunk_size=5, n_action_steps=1, temporal_ensemble_coeff=0.01, **SMALL)


def three_cameras(out: Path) -> None:
    make(out, 6, {"left": (64, 96), "right": (64, 96), "top": (50, 50)}, 7, 4, norm=(M.QUANTILE10, M.MEAN_STD, M.QUANTILES), pre_norm=True,
         feedforward_activation="gelu", use_vae=False, chunk_size=6, n_action_steps=2, **SMALL)


def small_chunk_bf16(out: Path) -> None:
    make(out, 7, {"front": (64, 64)}, 6, 6, dtype=torch.bfloat16, chunk_size=1, n_action_steps=1, **SMALL)


CASES = {case.__name__: case for case in [
    two_cameras_vae, pre_norm_min_max, environment_gelu_two_decoders, resnet50_dilated_f16, no_camera, three_cameras, small_chunk_bf16,
]}

PUBLISHED = {
    "act_one_camera": lambda out: make(out, 1, {"front": (480, 640)}, 6, 6, width=None, check=False),
    "act_two_cameras": lambda out: make(out, 2, {"front": (480, 640), "wrist": (480, 640)}, 6, 6, width=None, check=False),
    # As the demonstration policy: small images, half the width.
    "act_small_images": lambda out: make(out, 3, {"front": (96, 128), "wrist": (96, 128)}, 6, 6, width=None, check=False, dim_model=256,
                                         dim_feedforward=1024, chunk_size=50, n_action_steps=50),
}
