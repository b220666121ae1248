"""Writes the golden checkpoints and what LeRobot 0.6.1 answers to them. From the folder above:

    python -m make_golden                                # all of them, into <family>/<case>/
    python -m make_golden act smolvla/prefix             # those of one family, one case
    python -m make_golden --published DIR act_one_camera # of the published sizes, not committed
    python -m make_golden --fresh DIR --seed 7           # all with other random numbers, not committed

Each case is a folder as `save_pretrained` writes it (config, weights, processors) with
`inputs.safetensors` (what `sinew policy infer` takes: images u8 [H, W, 3], vectors f32 [D], with a
leading axis where the policy takes several observation steps; `noise` and `noise_steps`; `task` in the
metadata) and `expected.safetensors`: `action` f32 [n, A], the chunk after the postprocessor. Weights,
statistics and images are random, from a fixed seed. `parts` are files that are no checkpoints. One case
is there with a later LeRobot only, and not of 0.6.1: `pi05/trained`.
"""

import argparse
import importlib
import importlib.util
from pathlib import Path

from . import common
from .common import GOLDEN

FAMILIES = ["act", "diffusion", "vqbet", "multi_task_dit", "xvla", "smolvla", "pi", "old", "flow", "parts", "steps", "adapter"]


def table(which: str) -> dict:
    """`family/case` (or a published name) to what makes it."""
    found = {}
    for family in FAMILIES:
        if importlib.util.find_spec(f".{family}", __package__) is None:
            continue
        module = importlib.import_module(f".{family}", __package__)
        for name, make in getattr(module, which, {}).items():
            # A module may serve several families: `pi` makes pi0/..., pi05/....
            key = name if which == "PUBLISHED" or "/" in name else f"{family}/{name}"
            found[key] = make
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="make_golden", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", metavar="DIR", type=Path)
    parser.add_argument("--fresh", metavar="DIR", type=Path)
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="with --fresh: which other random numbers")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    if args.fresh:
        common.shift = 10_000 * args.seed
    makers = table("PUBLISHED" if args.published else "CASES")
    chosen = {key: make for key, make in makers.items() if not args.names or key in args.names or key.split("/")[0] in args.names}
    missing = [name for name in args.names if not any(key == name or key.split("/")[0] == name for key in makers)]
    if missing:
        parser.error(f"no {', '.join(missing)}; there are {', '.join(makers)}")
    for key, make in chosen.items():
        out = (args.published or args.fresh or GOLDEN) / key
        out.parent.mkdir(parents=True, exist_ok=True)
        make(out)


if __name__ == "__main__":
    main()
