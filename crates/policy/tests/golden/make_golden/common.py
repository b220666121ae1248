"""What the cases of every family are made with: features, statistics, weights, files."""

import collections
import contextlib
import itertools
import json
import math
import re
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.rtc import reanchor_relative_rtc_prefix
from lerobot.processor import NormalizerProcessorStep, RelativeActionsProcessorStep
from safetensors import safe_open
from safetensors.torch import save_file

GOLDEN = Path(__file__).resolve().parent.parent
STATE, ENV, IMAGES, ACTION = "observation.state", "observation.environment_state", "observation.images.", "action"
TASK = "pick up the red cube"
OTHER_TASK = "throw it away"
STATS = ["min", "q01", "q10", "q90", "q99", "max"]
M = NormalizationMode


# Added to every case's seed: another number, other weights, statistics and inputs.
shift = 0


def seeded(seed: int) -> np.random.Generator:
    """The generator that everything random in a case is drawn from; seeds torch's own, too."""
    seed += shift
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def normal(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    """f32 samples of N(0, 1)."""
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def features(cameras: dict[str, tuple[int, int]], state: int | None, action: int, env: int | None = None) -> dict:
    """`input_features` and `output_features` for a configuration; a camera is name: (height, width)."""
    inputs = {STATE: PolicyFeature(FeatureType.STATE, (state,))} if state else {}
    inputs |= {IMAGES + name: PolicyFeature(FeatureType.VISUAL, (3, h, w)) for name, (h, w) in cameras.items()}
    if env:
        inputs[ENV] = PolicyFeature(FeatureType.ENV, (env,))
    return {"input_features": inputs, "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, (action,))}}


def norms(visual: NormalizationMode, vector: NormalizationMode, action: NormalizationMode) -> dict:
    """A `normalization_mapping`."""
    return {"VISUAL": visual, "STATE": vector, "ENV": vector, "ACTION": action}


def smooth_image(rng: np.random.Generator, height: int, width: int) -> torch.Tensor:
    """u8 [H, W, 3]: random blobs, so that neighbouring pixels are alike as in a photograph."""
    coarse = torch.from_numpy(rng.random((1, 3, 5, 6), dtype=np.float32))
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def random_stats(rng: np.random.Generator, cfg) -> dict:
    """All statistics of all features; the action's first entry never moved."""
    stats = {}
    for name, feature in {**cfg.input_features, **cfg.output_features}.items():
        is_image = feature.type is FeatureType.VISUAL
        shape = (feature.shape[0], 1, 1) if is_image else feature.shape
        points = np.sort(rng.random((6, *shape)), axis=0)
        points = points if is_image else points * 20.0 - 10.0
        stats[name] = {stat: points[i].astype(np.float32) for i, stat in enumerate(STATS)}
        stats[name]["mean"] = points.mean(axis=0).astype(np.float32)
        stats[name]["std"] = (points.std(axis=0) + 0.05).astype(np.float32)
        stats[name]["count"] = np.array([100.0], dtype=np.float32)
    for stat in STATS:
        stats[ACTION][stat][0] = 1.5
    return stats


def processors(cfg, rng: np.random.Generator):
    """LeRobot's own pre- and postprocessor for `cfg`, with random statistics."""
    return make_pre_post_processors(cfg, dataset_stats=random_stats(rng, cfg))


@torch.no_grad()
def randomise(policy: torch.nn.Module, rng: np.random.Generator, gain=lambda name: 2.0 if "backbone" in name else 1.2) -> None:
    """Lively weights: norms that do something, biases that are not zero, outputs about as large as
    inputs (`gain` by the parameter's name: the variance that a layer multiplies by)."""
    for path, module in policy.named_modules():
        kind = type(module).__name__
        is_norm = "Norm" in kind
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if not tensor.is_floating_point():
                continue
            noise = normal(rng, *tensor.shape).to(tensor.dtype)
            is_buffer = name in dict(module.named_buffers(recurse=False))
            if name == "running_var":
                tensor.copy_(0.5 + noise.abs())
            elif name == "running_mean":
                tensor.copy_(0.1 * noise)
            elif is_norm and tensor.dim() == 1:
                # Gemma's norms multiply by 1 + weight.
                centre = 1.0 if name == "weight" and "Gemma" not in kind else 0.0
                tensor.copy_(centre + 0.2 * noise)
            elif is_buffer:
                pass
            elif tensor.dim() > 1:
                tensor.copy_(noise * math.sqrt(gain(f"{path}.{name}") / tensor[0].numel()))
            else:
                tensor.copy_(0.1 * noise)


@contextlib.contextmanager
def tokenizer_from(folder: Path):
    """Whatever tokenizer LeRobot asks the Hub for, it gets the one in `folder`; the saved processors
    keep the Hub's name, and the runtime finds the files in the checkpoint's own folder."""
    from transformers import AutoTokenizer

    def load(name: str, *args, **kwargs):
        return original(folder, *args, **kwargs)

    original = AutoTokenizer.from_pretrained
    with mock.patch.object(AutoTokenizer, "from_pretrained", load):
        yield


def clip_pairs(text: list[str], count: int = 60) -> tuple[dict, list]:
    """A vocabulary of bytes, inside and at the end of words, and pairs of them, as CLIP's; and the pairs. (The trainer of the tokenizers
    package numbers the ends of words as its hash tables have them.)"""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for token in [*alphabet, *(byte + "</w>" for byte in alphabet)]:
        vocabulary[token] = len(vocabulary)
    words = [[*word[:-1], word[-1] + "</w>"] for line in text for word in re.findall(r"[a-z]+", line.lower())]
    merges = []
    for _ in range(count):
        pairs = collections.Counter(pair for word in words for pair in itertools.pairwise(word))
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        vocabulary["".join(best)] = len(vocabulary)
        for word in words:
            at = 0
            while at + 1 < len(word):
                if (word[at], word[at + 1]) == best:
                    word[at : at + 2] = ["".join(best)]
                at += 1
    return vocabulary, merges


def tiny_tokenizer(folder: Path, style: str, vocabulary: int = 300, pad: str = "<|endoftext|>") -> None:
    """Writes tokenizer.json and tokenizer_config.json: byte-pair encoding learned from a few
    sentences, as SmolVLM2's ("smol": bytes, nothing added, tokens for images) or PaliGemma's ("gemma":
    `▁` for spaces, bytes for what is unknown, <bos> before all), CLIP's ("clip": words end in `</w>`, two
    tokens around all; filled up with `pad`), or BART's ("bart": bytes, <s> before and </s> after all). Of the
    latter two the file lacks what their classes in transformers bring."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    text = [TASK, OTHER_TASK, "Task: put the lego brick into the box, State: 0 1 12 127 128 200 255;\nAction: ", "grasp, stack and place", "wait   a   while   " * 3] * 4
    if style == "smol":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
        tokenizer.decoder = decoders.ByteLevel()
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
        trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
        tokenizer.train_from_iterator(text, trainer)
        config = {"tokenizer_class": "GPT2TokenizerFast", "bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "unk_token": "<|endoftext|>",
                  "pad_token": "<|im_end|>", "clean_up_tokenization_spaces": False, "model_max_length": 8192}
    elif style == "gemma":
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=vocabulary + 60, special_tokens=special, show_progress=False)
        tokenizer.train_from_iterator(text, trainer)
        # Bytes are ordinary tokens; the trainer knows no other way to get them in.
        state = json.loads(tokenizer.to_str())
        state["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
        tokenizer = Tokenizer.from_str(json.dumps(state))
        tokenizer.add_special_tokens([AddedToken("<image>", normalized=False)])
        bos = tokenizer.token_to_id("<bos>")
        tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", bos)])
        config = {"tokenizer_class": "GemmaTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>",
                  "add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False, "model_max_length": 10**30}
    elif style == "clip":
        tokenizer = Tokenizer(models.BPE(*clip_pairs(text), unk_token="<|endoftext|>", continuing_subword_prefix="", end_of_word_suffix="</w>"))
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
        tokenizer.add_tokens([] if pad == "<|endoftext|>" else [pad])
        config = {"tokenizer_class": "CLIPTokenizer", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": pad,
                  "model_max_length": 77}
    elif style == "bart":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
        tokenizer.train_from_iterator(text, trainer)
        config = {"tokenizer_class": "BartTokenizer", "bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "unk_token": "<unk>",
                  "pad_token": "<pad>", "mask_token": "<mask>", "model_max_length": 1024}
    else:
        raise ValueError(style)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def save_case(out: Path, policy, pre, post, rng: np.random.Generator, *, predict=None, n_obs_steps: int = 1, task: str = TASK, language: bool = False,
              noise: torch.Tensor | None = None, step_noise: torch.Tensor | None = None, missing: tuple[str, ...] = (),
              dtype: torch.dtype | None = None, rename: dict[str, str] | None = None, check: bool = True, keep: tuple[str, ...] = ()) -> None:
    """Saves the checkpoint, random inputs and LeRobot's answer to them into the folder `out`.

    `predict(observations, noise, step_noise)` gets one preprocessed observation for each of the
    `n_obs_steps`, oldest first, and answers with the normalised chunk [1, n, A]; without it the policy
    is asked for one from its only observation. `noise` [rows, width] and `step_noise` [steps, rows,
    width] are saved with the inputs. `missing` are inputs that are not given. `dtype` is what the
    weights are stored in, where they are computed with in f32. `rename` is the preprocessor's map from
    given names to the policy's. `language` says that the task matters. `keep` names files of `out` that
    are part of the checkpoint already.
    """
    cfg = policy.config
    policy.eval()
    kept = {name: (out / name).read_bytes() for name in keep}
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name, content in kept.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    if rename:
        pre.steps[0].rename_map = rename
    if dtype:
        # What is computed anew when the checkpoint is loaded is not rounded.
        unsaved = {name: buffer.clone() for name, buffer in policy.named_buffers() if name not in policy.state_dict()}
        policy.to(dtype)
    policy.save_pretrained(out)
    pre.save_pretrained(out)
    post.save_pretrained(out)
    if dtype:
        policy.float()
        for name, buffer in policy.named_buffers():
            if name in unsaved:
                buffer.copy_(unsaved[name])
    # The card for the Hub, with LeRobot's front matter, is of no use here.
    (out / "README.md").unlink(missing_ok=True)

    back = {new: old for old, new in (rename or {}).items()}
    given = {}
    for name, feature in cfg.input_features.items():
        if name in missing:
            continue
        if feature.type is FeatureType.VISUAL:
            steps = [smooth_image(rng, *feature.shape[1:]) for _ in range(n_obs_steps)]
        else:
            steps = [8 * normal(rng, *feature.shape) for _ in range(n_obs_steps)]
        given[back.get(name, name)] = steps
    tensors = {name: torch.stack(steps) if n_obs_steps > 1 else steps[0] for name, steps in given.items()}
    tensors |= {name: value for name, value in {"noise": noise, "noise_steps": step_noise}.items() if value is not None}
    save_file(tensors, out / "inputs.safetensors", metadata={"task": task})

    def answer(given=given, task=task, noise=noise, step_noise=step_noise) -> torch.Tensor:
        torch.manual_seed(0)
        observations = []
        for step in range(n_obs_steps):
            raw = {name: steps[step] for name, steps in given.items()}
            raw = {name: value.float().div(255).permute(2, 0, 1) if value.dtype is torch.uint8 else value.clone() for name, value in raw.items()}
            observations.append(pre({**raw, "task": task}))
        with torch.no_grad():
            chunk = predict(observations, noise, step_noise) if predict else policy.predict_action_chunk(observations[0])
            return post(chunk).float()

    expected = answer()
    assert torch.isfinite(expected).all(), f"{out.name}: not finite"
    if check and not shift:
        # A case in which an input hardly matters would prove nothing about it.
        def matters(what: str, other: torch.Tensor) -> None:
            change = (other - expected).abs().max().item()
            assert change > 1e-2 * expected.std().item(), f"{out.name}: {what} changes the answer by {change} only"

        for name, steps in given.items():
            for i, value in enumerate(steps):
                other = torch.flip(value, [1]) if value.dtype is torch.uint8 else value + 5.0
                matters(f"{name} {i}", answer(given | {name: [*steps[:i], other, *steps[i + 1 :]]}))
        if language:
            matters("task", answer(task=OTHER_TASK))
        # What is added at each step buries what was there at the first.
        if noise is not None and step_noise is None:
            matters("noise", answer(noise=noise.flip(0)))
        if step_noise is not None:
            matters("noise_steps", answer(step_noise=step_noise.flip(0)))
    save_file({ACTION: expected[0].contiguous()}, out / "expected.safetensors")
    size = sum(f.stat().st_size for f in out.iterdir())
    print(f"{out.parent.name}/{out.name}: {size / 1e3:.0f} kB, answer {tuple(expected.shape[1:])}, std {expected.std():.3f}", flush=True)


@torch.no_grad()
def guided(out: Path, policy, pre, post, previous: torch.Tensor) -> None:
    """`guided.safetensors`: the answer to the case's inputs that continues `previous`, before and after the postprocessor. `previous` is as
    the model gave it or, where actions are relative to the state, as the postprocessor did: LeRobot's rollout makes it relative to the new state."""
    with safe_open(out / "inputs.safetensors", "pt") as file:
        given, task = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()["task"]
    noise = given.pop("noise")
    raw = {name: value.float().div(255).permute(2, 0, 1) if value.dtype is torch.uint8 else value for name, value in given.items()}
    observed = pre({**raw, "task": task})
    relative = next((step for step in pre.steps if isinstance(step, RelativeActionsProcessorStep) and step.enabled), None)
    left_over = previous
    if relative:
        normalizer = next(step for step in pre.steps if isinstance(step, NormalizerProcessorStep))
        left_over = reanchor_relative_rtc_prefix(previous, relative.get_cached_state(), relative, normalizer, "cpu")
    chunk = policy.predict_action_chunk(observed, noise=noise[None].clone(), inference_delay=2, prev_chunk_left_over=left_over)
    action = post(chunk.clone())
    save_file({"previous": previous, "normalized": chunk[0].contiguous(), "action": action[0].contiguous()}, out / "guided.safetensors",
              metadata={"inference_delay": "2"})
