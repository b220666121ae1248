"""Measures the most memory that `sinew policy infer` takes on policies of the published sizes.

    python benches/policy/memory.py --sinew PROGRAM --policies DIR [--threads N] [CASE...]
    python benches/policy/memory.py --policies DIR --make-only CASE...

The Python has LeRobot 0.6.1 with its extras for π and SmolVLA. Checkpoints with random weights are made once, in DIR:
`act_one_camera` (0.2 GB), `smolvla_f32` (2 GB), `smolvla_bf16` (1 GB), `pi05_bf16` (7 GB) and `pi0_fast_bf16` (6 GB); also, where they are named,
`pi0_fast_8_layers_f32` and `pi0_fast_8_layers_bf16` (7 and 4 GB), with 8 of its 18 language layers. 24 GB of memory are not needed, as the weights
are written one by one. Each is run as it is and with `--quantize q8`. A line says the most memory that the process held
(VmHWM), how long it took to load and to answer, and the goal.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

GOLDEN = Path(__file__).resolve().parents[2] / "crates/policy/tests/golden"
sys.path.insert(0, str(GOLDEN))

# PaliGemma's tokens.
VOCABULARY = 257152

# The most memory in GB: as the weights are, and with q8 as a part of that of the same policy in f32.
GOALS = {"pi05_bf16": 7.0, "smolvla_bf16": 1.0}
# Not ACT, half of whose memory is convolutions, which stay as they are.
QUANTISED = {"smolvla_f32": 0.6, "smolvla_bf16": 0.6}


def write(path: Path, shapes: dict, dtype: str, metadata: dict, fill) -> None:
    """A safetensors file whose tensors are made one after the other by `fill(name, shape)`, as f32."""
    import numpy as np

    size = {"F32": 4, "BF16": 2}[dtype]
    header, at = {"__metadata__": metadata}, 0
    for name, shape in shapes.items():
        length = size * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + length]}
        at += length
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            values = fill(name, shape).astype(np.float32)
            file.write(values.tobytes() if dtype == "F32" else (values.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def random_weights(seed: int):
    """Uniform numbers by which layers answer about as large as they are asked."""
    import numpy as np

    rng = np.random.default_rng(seed)

    def fill(name: str, shape):
        values = rng.random(shape, dtype=np.float32)
        values -= np.float32(0.5)
        wide = np.sqrt(12.0 / np.prod(shape[1:])) if len(shape) > 1 else 0.2
        values *= np.float32(wide)
        if len(shape) == 1 and "norm" in name and name.endswith("weight") and "gemma" not in name and "language_model" not in name:
            values += np.float32(1.0)
        return values

    return fill


def make_pi05(out: Path) -> None:
    """π0.5 with both of LeRobot's larger networks, in bf16. Its tokenizer is a tiny one."""
    import numpy as np
    import torch
    from lerobot.policies.pi05 import modeling_pi05
    from lerobot.policies.pi05.configuration_pi05 import PI05Config
    from make_golden import common, pi
    from safetensors.torch import save_file

    sizes = {**pi.FULL, "gemma_2b": pi.gemma(2048, 16384, depth=18, heads=8, head_dim=256)}
    shutil.rmtree(out, ignore_errors=True)
    cfg = PI05Config(**common.features({"front": (480, 640), "wrist": (480, 640)}, 6, 6), device="cpu", push_to_hub=False, dtype="bfloat16")
    common.tiny_tokenizer(out, "gemma", 240)
    cfg.device = "meta"
    with common.tokenizer_from(out), pi.smaller(modeling_pi05, sizes, {}, 257152), torch.device("meta"):
        policy = modeling_pi05.PI05Policy(cfg)
    cfg.device = "cpu"
    rng = np.random.default_rng(1)
    with common.tokenizer_from(out):
        pre, post = common.processors(cfg, rng)
        pre.save_pretrained(out), post.save_pretrained(out)
    cfg.save_pretrained(out)
    shapes = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items() if tensor.is_floating_point() and "lm_head" not in name}
    write(out / "model.safetensors", shapes, "BF16", {"format": "pt"}, random_weights(1))
    inputs = {name: common.smooth_image(rng, *feature.shape[1:]) for name, feature in cfg.image_features.items()}
    inputs[common.STATE] = common.normal(rng, 6)
    inputs["noise"] = common.normal(rng, cfg.chunk_size, cfg.max_action_dim)
    save_file(inputs, out / "inputs.safetensors", metadata={"task": common.TASK})


def make_pi0_fast(out: Path, dtype: str, depth: int = 18) -> None:
    """π0-FAST with LeRobot's larger network, or `depth` of its language layers. Its tokenizers are tiny ones, the text's filled up to the size of
    PaliGemma's. Any token may be written but `|`, which would end the actions early, and the last ones, which stand for no action."""
    import numpy as np
    import torch
    from lerobot.policies.pi0_fast import modeling_pi0_fast
    from lerobot.policies.pi0_fast.configuration_pi0_fast import PI0FastConfig
    from make_golden import common, pi
    from safetensors.torch import save_file
    from transformers import AutoProcessor

    shutil.rmtree(out, ignore_errors=True)
    cfg = PI0FastConfig(**common.features({"front": (480, 640)}, 6, 6), device="cpu", push_to_hub=False, validate_action_token_prefix=False,
                        dtype={"F32": "float32", "BF16": "bfloat16"}[dtype])
    pi.tokenizer_with_actions(out)
    state = json.loads((out / "tokenizer.json").read_text())
    vocabulary, taken = state["model"]["vocab"], {token["id"] for token in state["added_tokens"]}
    for id in sorted(set(range(VOCABULARY)) - taken - set(vocabulary.values())):
        vocabulary[f"<unused{id}>"] = id
    (out / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False))
    rng = np.random.default_rng(1)
    fast = pi.action_tokenizer(out / pi.ACTION_TOKENIZER, rng, cfg.chunk_size, 6)
    sizes = {"gemma_2b": pi.gemma(2048, 16384, depth=depth, heads=8, head_dim=256)}
    with pi.smaller(modeling_pi0_fast, sizes, {}, VOCABULARY), torch.device("meta"):
        model = modeling_pi0_fast.PI0FastPytorch(cfg)
    with common.tokenizer_from(out), mock.patch.object(AutoProcessor, "from_pretrained", lambda *args, **kwargs: fast):
        pre, post = common.processors(cfg, rng)
        pre.save_pretrained(out), post.save_pretrained(out)
    cfg.save_pretrained(out)
    # Where a file has the head alone, both programs take the table of tokens to be the same.
    head = "model.paligemma_with_expert.paligemma.lm_head.weight"
    shapes = {f"model.{name}": tuple(tensor.shape) for name, tensor in model.state_dict().items() if "embed_tokens" not in name}
    unwritten = [vocabulary["|"], *range(VOCABULARY - 1 - cfg.fast_skip_tokens, VOCABULARY)]
    random = random_weights(1)

    def fill(name: str, shape):
        values = random(name, shape)
        if name == head:
            # The others' largest is more than 0.
            values[unwritten] = 0.0
        return values

    write(out / "model.safetensors", shapes, dtype, {"format": "pt"}, fill)
    inputs = {name: common.smooth_image(rng, *feature.shape[1:]) for name, feature in cfg.image_features.items()}
    inputs[common.STATE] = common.normal(rng, 6)
    save_file(inputs, out / "inputs.safetensors", metadata={"task": common.TASK})


def make_act_one_camera(out: Path) -> None:
    from make_golden import act

    act.PUBLISHED["act_one_camera"](out)


def make_smolvla_f32(out: Path) -> None:
    from make_golden import smolvla

    smolvla.published(out, 1, "front")


def make_smolvla_bf16(out: Path) -> None:
    """The same with the weights in bf16, as the published checkpoint has them."""
    import torch
    from safetensors.torch import load_file, save_file

    source = prepared(out.parent, "smolvla_f32")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(source, out)
    weights = load_file(out / "model.safetensors")
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}, out / "model.safetensors", metadata={"format": "pt"})


CASES = {
    "act_one_camera": make_act_one_camera,
    "smolvla_f32": make_smolvla_f32,
    "smolvla_bf16": make_smolvla_bf16,
    "pi05_bf16": make_pi05,
    "pi0_fast_bf16": lambda out: make_pi0_fast(out, "BF16"),
}
# Not run unless they are named.
SHORTER = {
    "pi0_fast_8_layers_f32": lambda out: make_pi0_fast(out, "F32", 8),
    "pi0_fast_8_layers_bf16": lambda out: make_pi0_fast(out, "BF16", 8),
}


def prepared(policies: Path, case: str) -> Path:
    """The folder of `case`, made if it is not there."""
    folder = policies / case
    if not (folder / "inputs.safetensors").exists():
        print(f"making {case} ...", file=sys.stderr, flush=True)
        (CASES | SHORTER)[case](folder)
    return folder


def measure(sinew: str, folder: Path, options: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        command = [sinew, "policy", "infer", str(folder), "--inputs", str(folder / "inputs.safetensors"), "--out", f"{scratch}/out.safetensors", "--json"]
        return json.loads(subprocess.run([*command, *options], check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sinew", default="sinew")
    parser.add_argument("--policies", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--make-only", action="store_true", help="make the checkpoints and measure nothing")
    parser.add_argument("cases", nargs="*")
    args = parser.parse_args()
    unknown = set(args.cases) - set(CASES | SHORTER)
    if unknown:
        parser.error(f"no {', '.join(sorted(unknown))}; there are {', '.join(CASES | SHORTER)}")
    args.policies.mkdir(parents=True, exist_ok=True)
    if args.make_only:
        for case in args.cases or CASES:
            prepared(args.policies, case)
        return
    peaks, missed = {}, []
    print("| policy | weights | most memory | must be at most | load | first answer |\n|---|---|---|---|---|---|")
    for case in args.cases or CASES:
        folder = prepared(args.policies, case)
        for form in ("as they are", "q8"):
            options = ["--threads", str(args.threads)] + (["--quantize", "q8"] if form == "q8" else [])
            report = measure(args.sinew, folder, options)
            peak = report["peak_memory_bytes"] / 1e9
            peaks[case, form] = peak
            goal = GOALS.get(case) if form == "as they are" else None
            whole = peaks.get((case.replace("bf16", "f32"), "as they are"))
            if form == "q8" and whole and case in QUANTISED:
                goal = QUANTISED[case] * whole
            if goal and peak > goal:
                missed.append(f"{case}, {form}")
            timing = report["timing"]
            load, first = timing["load_milliseconds"] / 1e3, timing["infer_milliseconds"][0] / 1e3
            print(f"| {case} | {form} | {peak:.3f} GB | {f'{goal:.3f} GB' if goal else '–'} | {load:.2f} s | {first:.2f} s |", flush=True)
    if missed:
        sys.exit(f"more than the goal: {'; '.join(missed)}")


main()
