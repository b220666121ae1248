"""Runs a policy with LeRobot, or an ACT with ONNX Runtime, as `compare.py` asks, and prints JSON.

    python rival.py CHECKPOINT --repeat N --threads T [--onnx FILE]
    python rival.py CHECKPOINT --repeat N --threads T --tokens SHORT LONG [--dtype float32]

The second form is for π0-FAST: `by_tokens` has the milliseconds of each of N answers of as many tokens, the short and the long ones in turn.

`infer_milliseconds` and `infer_cpu_milliseconds` are from the inputs in memory to the actions in memory,
processors included, for each of N calls; `peak_memory_bytes` is of the whole process.
"""

import argparse
import json
import os
import resource
import time
import types
from pathlib import Path
from unittest import mock

import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.pi0_fast import modeling_pi0_fast
from lerobot.policies.utils import populate_queues
from safetensors import safe_open


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--tokens", type=int, nargs="*", default=[])
    parser.add_argument("--dtype", help="what LeRobot holds the weights in, if not as the configuration says")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.onnx = args.onnx and args.onnx.resolve()
    # SmolVLA names its backbone by a path, which LeRobot takes from the working directory.
    os.chdir(args.checkpoint)
    here = Path(".")
    config = PreTrainedConfig.from_pretrained(here)
    config.device = "cpu"
    if config.type == "pi0_fast":
        config.dtype = args.dtype or config.dtype
        policy, (pre, post) = pi0_fast(config)
    else:
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

    if args.tokens:
        print(json.dumps(timed_by_tokens(policy, infer, args)))
        return
    wall, cpu = [], []
    for _ in range(args.repeat):
        start, start_cpu = time.perf_counter(), time.process_time()
        infer()
        wall.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - start_cpu))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"infer_milliseconds": wall, "infer_cpu_milliseconds": cpu, "peak_memory_bytes": peak}))


def pi0_fast(config):
    """LeRobot's policy and processors. Its own `from_pretrained` makes the policy in f32 beside the file, which takes four times the memory; here it is
    made without values, then each weight is taken from the file in the dtype that LeRobot gives it. Tokenizers come from the checkpoint's folder."""
    from accelerate import init_empty_weights
    from transformers import AutoProcessor, AutoTokenizer, PreTrainedTokenizerFast

    fast = json.loads(Path(config.action_tokenizer_name, "processor_config.json").read_text())
    fast = types.SimpleNamespace(scale=fast["scale"], min_token=fast["min_token"],
                                 bpe_tokenizer=PreTrainedTokenizerFast.from_pretrained(config.action_tokenizer_name))
    text = AutoTokenizer.from_pretrained(".")
    with mock.patch.object(AutoProcessor, "from_pretrained", lambda *args, **kwargs: fast), \
            mock.patch.object(AutoTokenizer, "from_pretrained", lambda *args, **kwargs: text):
        with safe_open("model.safetensors", "pt") as file:
            names = list(file.keys())
        sizes = modeling_pi0_fast.get_gemma_config(config.paligemma_variant)
        sizes.depth = len({name.split(".layers.")[1].split(".")[0] for name in names if "language_model.layers." in name})
        # No device, as weights without values can't be moved to one.
        config.device = None
        with mock.patch.object(modeling_pi0_fast, "get_gemma_config", lambda _: sizes), init_empty_weights():
            policy = modeling_pi0_fast.PI0FastPolicy(config)
        config.device = "cpu"
        dtypes = {name: parameter.dtype for name, parameter in policy.named_parameters()}
        state = {name: weight(name, dtypes[name]) for name in names}
        head = "model.paligemma_with_expert.paligemma.lm_head.weight"
        state["model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"] = state[head]
        policy.load_state_dict(state, assign=True)
        return policy.eval(), make_pre_post_processors(config, pretrained_path=".")


def weight(name: str, dtype: torch.dtype) -> torch.Tensor:
    """A copy of the tensor, after which the file is mapped no longer: its pages would count as this process's memory."""
    with safe_open("model.safetensors", "pt") as file:
        return file.get_tensor(name).to(dtype, copy=True)


def timed_by_tokens(policy, infer, args) -> dict:
    """How long answers take that end after so many tokens, none of which ends them before."""
    steps = []
    policy.model.paligemma_with_expert.paligemma.lm_head.register_forward_hook(lambda *_: steps.append(time.perf_counter()))
    by_tokens = {count: [] for count in args.tokens}
    for _ in range(args.repeat):
        for count in args.tokens:
            policy.config.max_decoding_steps = count
            steps.clear()
            start = time.perf_counter()
            infer()
            by_tokens[count].append(1e3 * (time.perf_counter() - start))
            assert len(steps) == count, f"LeRobot wrote {len(steps)} tokens, expected {count}"
    dtypes = {name: sum(p.numel() for p in policy.parameters() if str(p.dtype) == name) for name in {str(p.dtype) for p in policy.parameters()}}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"by_tokens": by_tokens, "parameters_by_dtype": dtypes, "peak_memory_bytes": peak}


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
