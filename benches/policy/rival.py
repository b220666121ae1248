"""Runs a policy with LeRobot, or an ACT with ONNX Runtime, as `compare.py` asks, and prints JSON.

    python rival.py CHECKPOINT --repeat N --threads T [--onnx FILE]

`infer_milliseconds` and `infer_cpu_milliseconds` are from the inputs in memory to the actions in memory,
processors included, for each of N calls; `peak_memory_bytes` is of the whole process.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.utils import populate_queues
from safetensors import safe_open


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--onnx", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.onnx = args.onnx and args.onnx.resolve()
    # SmolVLA names its backbone by a path, which LeRobot takes from the working directory.
    os.chdir(args.checkpoint)
    here = Path(".")
    config = PreTrainedConfig.from_pretrained(here)
    config.device = "cpu"
    policy = get_policy_class(config.type).from_pretrained(here, config=config).eval()
    pre, post = make_pre_post_processors(config, pretrained_path=str(here))
    with safe_open("inputs.safetensors", "pt") as file:
        given, task = {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get("task", "")
    noise = given.pop("noise", None)
    given.pop("noise_steps", None)
    steps = getattr(config, "n_obs_steps", 1)
    predict = onnx(policy, args) if args.onnx else {"diffusion": diffusion}.get(config.type, plain)

    def infer() -> None:
        observations = []
        for step in range(steps):
            raw = {name: value[step] if steps > 1 else value for name, value in given.items()}
            raw = {name: value.float().div(255).permute(2, 0, 1) if value.dtype is torch.uint8 else value for name, value in raw.items()}
            observations.append(pre({**raw, "task": task}))
        with torch.inference_mode():
            post(predict(policy, observations, noise))

    wall, cpu = [], []
    for _ in range(args.repeat):
        start, start_cpu = time.perf_counter(), time.process_time()
        infer()
        wall.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - start_cpu))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"infer_milliseconds": wall, "infer_cpu_milliseconds": cpu, "peak_memory_bytes": peak}))


def plain(policy, observations, noise):
    arguments = {} if noise is None else {"noise": noise[None].clone()}
    return policy.predict_action_chunk(observations[0], **arguments)


def diffusion(policy, observations, noise):
    """Observations go through the queues, as on a robot."""
    policy.reset()
    for observation in observations:
        batch = {name: value for name, value in observation.items() if name != "action"}
        batch["observation.images"] = torch.stack([batch[name] for name in policy.config.image_features], dim=-4)
        policy._queues = populate_queues(policy._queues, batch)
    return policy.predict_action_chunk(batch, noise=noise[None])


def onnx(policy, args):
    """An ACT, exported once to the file, then run by ONNX Runtime."""
    import onnxruntime

    names = ["observation.state", *policy.config.image_features]

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = policy.model

        def forward(self, state, *images):
            return self.model({"observation.state": state, "observation.images": list(images)})[0]

    if not args.onnx.exists():
        shapes = [policy.config.input_features[name].shape for name in names]
        examples = tuple(torch.zeros(1, *shape) for shape in shapes)
        torch.onnx.export(Network(), examples, str(args.onnx), input_names=names, output_names=["action"], dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(str(args.onnx), options, providers=["CPUExecutionProvider"])

    def predict(_policy, observations, _noise):
        return torch.from_numpy(session.run(None, {name: observations[0][name].numpy() for name in names})[0])

    return predict


main()
