"""Files that are no checkpoints: what single parts of LeRobot answer."""

from pathlib import Path

import numpy as np
import torch
from lerobot.policies.act.modeling_act import ACTSinusoidalPositionEmbedding2d, ACTTemporalEnsembler
from safetensors.torch import save_file


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


def map_positions(out: Path) -> None:
    """The positions of the cells of feature maps, `[height, width, dim]`."""
    tensors = {}
    for height, width, dim in [(1, 1, 4), (3, 4, 16), (15, 20, 32), (7, 2, 20), (2, 9, 256)]:
        positions = ACTSinusoidalPositionEmbedding2d(dim // 2)(torch.zeros(1, 8, height, width))
        tensors[f"{height}x{width}x{dim}"] = positions[0].permute(1, 2, 0).contiguous()
    save_file(tensors, out.with_suffix(".safetensors"))


CASES = {"parts/ensemble": ensemble, "parts/map_positions": map_positions}
