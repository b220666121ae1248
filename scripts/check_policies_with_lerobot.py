#!/usr/bin/env python
"""Makes fresh random checkpoints of every family with LeRobot 0.6.1 and compares `sinew policy infer`
with what LeRobot answers to the same inputs.

    PYTHON_WITH_LEROBOT_0.6.1 scripts/check_policies_with_lerobot.py --sinew target/release/sinew [--seed N] [FAMILY[/CASE] ...]

The cases are those of crates/policy/tests/golden with other random weights, statistics and inputs.
Prints, for each, the largest difference as a part of the range that LeRobot's answer spans, and ends
with 1 where one is more than 1e-4 (2e-2 where the weights are bf16, with which LeRobot computes in
bf16, too).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import load_file

GOLDEN = Path(__file__).resolve().parent.parent / "crates/policy/tests/golden"


def is_bf16(checkpoint: Path) -> bool:
    files = [*checkpoint.glob("model.safetensors"), *checkpoint.glob("adapter_model.safetensors")]
    for path in files:
        with safe_open(path, "np") as file:
            if any(file.get_slice(name).get_dtype() == "BF16" for name in file.keys()):
                return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinew", required=True, type=Path, help="the binary")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        make = [sys.executable, "-m", "make_golden", "--fresh", folder, "--seed", str(args.seed), *args.names]
        subprocess.run(make, cwd=GOLDEN, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        for expected in sorted(Path(folder).rglob("expected.safetensors")):
            case, out = expected.parent, expected.parent / "out.safetensors"
            infer = [args.sinew.resolve(), "policy", "infer", case, "--inputs", case / "inputs.safetensors", "--out", out, "--json"]
            done = subprocess.run(infer, capture_output=True, text=True)
            name = case.relative_to(folder)
            if done.returncode != 0:
                print(f"{name}: {done.stderr.strip()}")
                failed += 1
                continue
            ours, theirs = load_file(out)["action"], load_file(expected)["action"]
            delta = abs(ours - theirs).max() / (theirs.max() - theirs.min()) if ours.shape == theirs.shape else float("inf")
            limit = 2e-2 if is_bf16(case) else 1e-4
            failed += not delta <= limit
            ms = json.loads(done.stdout)["timing"]["infer_milliseconds"][0]
            print(f"{name}: max |delta| {delta:.2e} of the range, {ms:.1f} ms{'' if delta <= limit else '  TOO FAR'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
