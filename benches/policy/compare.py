"""Times `sinew` and LeRobot on the same checkpoints, in turn, and prints the table of docs/performance.md.
`run.sh` says how it is called. Needs nothing but Python's standard library itself."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Name, calls a round, at most and aim for the time of a chunk as a part of LeRobot's.
CASES = {
    "act_one_camera": ("ACT, one 480x640 camera", 10, 0.60, 0.45),
    "act_two_cameras": ("ACT, two 480x640 cameras", 6, 0.58, 0.45),
    "diffusion_two_cameras": ("Diffusion, two 96x96 cameras, DDIM 10", 3, 0.70, 0.45),
    "smolvla_one_camera": ("SmolVLA, one 480x640 camera, 10 steps", 2, 0.75, 0.55),
    "smolvla_two_cameras": ("SmolVLA, two 480x640 cameras, 10 steps", 2, 0.82, 0.60),
}
# Only where they are named: dtypes of LeRobot's weights, at most and aim for the time of a token.
TOKENS = {
    "pi0_fast_bf16": ("π0-FAST, one 480x640 camera, weights in bf16", ["bfloat16"], 0.60, 0.40),
    "pi0_fast_8_layers_bf16": ("π0-FAST with 8 language layers of 18, weights in bf16", ["bfloat16", "float32"], 0.60, 0.40),
    "pi0_fast_8_layers_f32": ("π0-FAST with 8 language layers of 18, weights in f32", ["float32"], 0.60, 0.40),
}
# Tokens of a short and a long answer.
SHORT_LONG = (1, 33)
# At most and aim: process start to the first action, and peak memory.
WHOLE = {"act_one_camera": ((0.03, 0.01), (0.25, 0.15)), "smolvla_one_camera": ((0.25, 0.15), (0.55, 0.45))}


def run(command: list[str], threads: int) -> tuple[dict, float, float]:
    """What the command prints, its wall time and its processor time in seconds."""
    variables = os.environ | {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=variables)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return report, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def row(what: str, ours: float, theirs: float, unit: str, limits: tuple[float, float] | None = None, rival: str = "LeRobot") -> None:
    bounds = f"{limits[0]:.2f} | {limits[1]:.2f}" if limits else "- | -"
    print(f"| {what} | {ours:.4g} {unit} | {rival} {theirs:.4g} {unit} | **{ours / theirs:.3f}** | {bounds} |", flush=True)


def compare(args, case: str, folder: Path) -> None:
    name, calls, *limits = CASES[case]
    inputs = folder / "inputs.safetensors"

    def sinew(repeat: int):
        return run([args.sinew, "policy", "bench", str(folder), "--inputs", str(inputs), "--repeat", str(repeat), "--json"], args.threads)

    def rival(repeat: int, *more: str):
        return run([args.python, str(HERE / "rival.py"), str(folder), "--repeat", str(repeat), "--threads", str(args.threads), *more], args.threads)

    ours, ours_cpu, ours_cold, memory = [], [], [], []
    theirs, theirs_cpu, theirs_cold, their_memory, onnx = [], [], [], [], []
    for _ in range(args.rounds):
        one, wall, cpu_of_one = sinew(1)
        ours_cold.append(wall)
        many, _, cpu = sinew(calls + 1)
        ours += many["timing"]["infer_milliseconds"][1:]
        ours_cpu.append(1e3 * (cpu - cpu_of_one) / calls)
        memory.append(many["peak_memory_bytes"])
        _, wall, _ = rival(1)
        theirs_cold.append(wall)
        report, _, _ = rival(calls + 1)
        theirs += report["infer_milliseconds"][1:]
        theirs_cpu += report["infer_cpu_milliseconds"][1:]
        their_memory.append(report["peak_memory_bytes"])
        if case.startswith("act") and args.onnx:
            report, _, _ = rival(calls + 1, "--onnx", str(folder.parent / f"{case}.onnx"))
            onnx += report["infer_milliseconds"][1:]
    middle = statistics.median
    row(name, middle(ours), middle(theirs), "ms", tuple(limits))
    row(f"{name}, processor time", middle(ours_cpu), middle(theirs_cpu), "ms")
    if onnx:
        row(name, middle(ours), middle(onnx), "ms", (1.0, 1.0), "ONNX Runtime")
    cold, held = WHOLE.get(case, (None, None))
    row(f"{name}, process start to first action", middle(ours_cold), middle(theirs_cold), "s", cold)
    row(f"{name}, peak memory", max(memory) / 1e6, max(their_memory) / 1e6, "MB", held)


def read_weights(folder: Path) -> int:
    """Bytes of the weights that each token reads, as they are in the file: the language model's layers and its head."""
    with open(folder / "model.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    lengths = {name: entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"}
    return sum(length for name, length in lengths.items() if "language_model.layers." in name or "lm_head" in name)


def compare_tokens(args, case: str, folder: Path) -> None:
    """A token's time is the difference of a long and a short answer, by their tokens. The short one is what comes before: images, prompt and
    the first token."""
    name, dtypes, *limits = TOKENS[case]
    dtypes = args.dtypes or dtypes
    short, long = SHORT_LONG
    bytes_read = read_weights(folder)
    is_bf16 = "bf16" in case
    of_memory, ours, theirs = [], {count: [] for count in SHORT_LONG}, {dtype: {count: [] for count in SHORT_LONG} for dtype in dtypes}

    def sinew(count: int) -> list[float]:
        # The same checkpoint with another limit.
        with tempfile.TemporaryDirectory() as view:
            for file in folder.iterdir():
                if file.name != "config.json":
                    Path(view, file.name).symlink_to(file.resolve())
            config = json.loads((folder / "config.json").read_text())
            Path(view, "config.json").write_text(json.dumps(config | {"max_decoding_steps": count}))
            inputs = str(folder / "inputs.safetensors")
            report, _, _ = run([args.sinew, "policy", "bench", view, "--inputs", inputs, "--repeat", str(args.answers + 1), "--json"], args.threads)
            return report["timing"]["infer_milliseconds"][1:]

    for _ in range(args.rounds):
        report, _, _ = run([args.python, str(HERE / "read_memory.py"), "--threads", str(args.threads)], args.threads)
        of_memory.append(report["bytes_per_second"])
        for count in SHORT_LONG:
            ours[count] += sinew(count)
        for dtype in dtypes:
            options = ["--repeat", str(args.answers + 1), "--threads", str(args.threads), "--dtype", dtype, "--tokens", *map(str, SHORT_LONG)]
            report, _, _ = run([args.python, str(HERE / "rival.py"), str(folder), *options], args.threads)
            for count in SHORT_LONG:
                theirs[dtype][count] += report["by_tokens"][str(count)][1:]
    print(f"memory, read by {args.threads} threads: {', '.join(f'{speed / 1e9:.1f}' for speed in of_memory)} GB/s", flush=True)

    def token(times: dict, of) -> float:
        return (of(times[long]) - of(times[short])) / (long - short)

    def share(times: dict, size: float) -> str:
        speed = size / (1e-3 * token(times, min))
        return f"{1e-9 * size:.2f} GB of weights at {1e-9 * speed:.1f} GB/s, {100 * speed / max(of_memory):.0f} % of the memory's"

    print(f"Sinew, {name}: {share(ours, bytes_read)}; answers {ours}", flush=True)
    for dtype, times in theirs.items():
        size = bytes_read * {"float32": 4, "bfloat16": 2}[dtype] / (2 if is_bf16 else 4)
        print(f"LeRobot in {dtype}: {share(times, size)}; answers {times}", flush=True)
        for what, of in (("fastest", min), ("medians", statistics.median)):
            row(f"{name}, a token, {what}", token(ours, of), token(times, of), "ms", tuple(limits), f"LeRobot ({dtype})")
        row(f"{name}, before the second token", statistics.median(ours[short]), statistics.median(times[short]), "ms", rival=f"LeRobot ({dtype})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="one that has LeRobot")
    parser.add_argument("--sinew", required=True)
    parser.add_argument("--policies", required=True, type=Path, help="the folder of the checkpoints")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--onnx", action="store_true", help="also export ACT and run it with ONNX Runtime")
    parser.add_argument("--answers", type=int, default=2, help="answers a round of each length, for the time of a token")
    parser.add_argument("--dtypes", action="append", choices=["bfloat16", "float32"], help="of LeRobot's weights, for the time of a token")
    parser.add_argument("cases", nargs="*", default=[])
    args = parser.parse_args()
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    print(f"{model}, {args.threads} threads, medians of {args.rounds} rounds in turn\n")
    print("| work | Sinew | rival | ratio | at most | aim |\n|---|---|---|---|---|---|")
    for case in args.cases or CASES:
        folder = args.policies / case
        if not folder.exists():
            raise SystemExit(f"there is no {folder}; run.sh makes it")
        (compare_tokens if case in TOKENS else compare)(args, case, folder)


main()
