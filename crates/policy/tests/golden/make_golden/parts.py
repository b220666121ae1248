"""Files that are no checkpoints: what single parts of LeRobot answer."""

from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torchvision
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.act.modeling_act import ACTPolicy, ACTSinusoidalPositionEmbedding2d, ACTTemporalEnsembler
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.factory import make_pre_post_processors
from safetensors.torch import save_file

from .act import narrow
from .common import GOLDEN, IMAGES, STATE, normal


def ensemble(out: Path) -> None:
    """Chunks, and what the temporal ensembler makes of them row by row: 200 ticks for each weighting."""
    rng = np.random.default_rng(7)
    tensors = {}
    for label, coeff in {"old": 0.01, "even": 0.0, "new": -0.05}.items():
        ensembler = ACTTemporalEnsembler(coeff, 20)
        chunks = torch.from_numpy(rng.normal(0, 1, (200, 20, 2)).astype(np.float32))
        rows = torch.cat([ensembler.update(chunk[None]) for chunk in chunks])
        tensors |= {f"{label}.chunks": chunks, f"{label}.rows": rows, f"{label}.coeff": torch.tensor([coeff], dtype=torch.float32)}
    save_file(tensors, out.with_suffix(".safetensors"))


def ensembled(out: Path) -> None:
    """30 ticks of the checkpoint act/two_cameras_vae with temporal ensembling: `states` [30, 6], the `colours` [30, 2, 3] that fill
    the images front and wrist, the `chunks` [30, 20, 6] predicted at each tick alone, and the `rows` [30, 6] of `select_action`."""
    folder = GOLDEN / "act/two_cameras_vae"
    config = PreTrainedConfig.from_pretrained(folder)
    config.n_action_steps, config.temporal_ensemble_coeff = 1, 0.01
    with mock.patch.object(torchvision.models, "resnet18", narrow("resnet18", 2)):
        policy = ACTPolicy.from_pretrained(folder, config=config).eval()
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))
    rng = np.random.default_rng(31)
    states, colours = 20 * normal(rng, 30, 6), torch.from_numpy(rng.integers(0, 256, (30, 2, 3), dtype=np.uint8))
    chunks, rows = [], []
    policy.reset()
    for state, (front, wrist) in zip(states, colours):
        images = {"front": front, "wrist": wrist}
        observation = {STATE: state} | {IMAGES + name: (colour.float() / 255)[:, None, None].expand(3, 96, 128) for name, colour in images.items()}
        with torch.inference_mode():
            chunks.append(after(policy.predict_action_chunk(before(observation))))
            rows.append(after(policy.select_action(before(observation))))
    save_file({"states": states, "colours": colours, "chunks": torch.cat(chunks), "rows": torch.cat(rows)}, out.with_suffix(".safetensors"))


def selected(out: Path) -> None:
    """15 ticks of `select_action` with the checkpoint diffusion/compiled_whole_horizon, which looks at three observations and acts for
    eight ticks: `states` [15, S], the `colours` [15, 3] that fill the image, the `noise` [rows, A] of each answer, and the `rows` [15, A]."""
    folder = GOLDEN / "diffusion/compiled_whole_horizon"
    config = PreTrainedConfig.from_pretrained(folder)
    compiled = torch.compile
    with mock.patch.object(torchvision.models, "resnet18", narrow("resnet18", 2)), mock.patch.object(torch, "compile", lambda net, **_: compiled(net, backend="eager")):
        policy = DiffusionPolicy.from_pretrained(folder, config=config).eval()
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))
    rng = np.random.default_rng(37)
    width, (height, breadth) = config.input_features[STATE].shape[0], config.input_features[IMAGES + "front"].shape[1:]
    states, colours = normal(rng, 15, width), torch.from_numpy(rng.integers(0, 256, (15, 3), dtype=np.uint8))
    noise = normal(rng, config.horizon, config.output_features["action"].shape[0])
    rows = []
    policy.reset()
    for state, colour in zip(states, colours):
        observation = {STATE: state, IMAGES + "front": (colour.float() / 255)[:, None, None].expand(3, height, breadth)}
        with torch.inference_mode():
            rows.append(after(policy.select_action(before(observation), noise=noise[None])))
    save_file({"states": states, "colours": colours, "noise": noise, "rows": torch.cat(rows)}, out.with_suffix(".safetensors"))


def map_positions(out: Path) -> None:
    """The positions of the cells of feature maps, `[height, width, dim]`."""
    tensors = {}
    for height, width, dim in [(1, 1, 4), (3, 4, 16), (15, 20, 32), (7, 2, 20), (2, 9, 256)]:
        positions = ACTSinusoidalPositionEmbedding2d(dim // 2)(torch.zeros(1, 8, height, width))
        tensors[f"{height}x{width}x{dim}"] = positions[0].permute(1, 2, 0).contiguous()
    save_file(tensors, out.with_suffix(".safetensors"))


CASES = {"parts/ensemble": ensemble, "parts/ensembled": ensembled, "parts/selected": selected, "parts/map_positions": map_positions}
