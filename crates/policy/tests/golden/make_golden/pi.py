"""π0, π0.5 and π0-FAST. LeRobot knows two sizes of Gemma, one vision tower and one vocabulary; so that
the files stay small those numbers are made smaller while the policy is built. Nothing else of LeRobot
is changed."""

import contextlib
import json
import types
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from lerobot.configs import RTCAttentionSchedule
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from lerobot.policies.pi05 import modeling_pi05
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from lerobot.policies.pi0_fast import modeling_pi0_fast
from lerobot.policies.pi0_fast.configuration_pi0_fast import PI0FastConfig
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from safetensors.torch import load_file, save_file

from . import common
from .common import IMAGES, M, features, guided, norms, normal, processors, randomise, save_case, seeded, tiny_tokenizer, tokenizer_from

FAMILIES = {
    "pi0": (modeling_pi0, modeling_pi0.PI0Policy, PI0Config),
    "pi05": (modeling_pi05, modeling_pi05.PI05Policy, PI05Config),
    "pi0_fast": (modeling_pi0_fast, modeling_pi0_fast.PI0FastPolicy, PI0FastConfig),
}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def gemma(width: int, hidden: int, depth: int = 2, heads: int = 4, head_dim: int = 8) -> dict:
    """What LeRobot's table of variants says of one; keys and values always have one head."""
    return {"width": width, "depth": depth, "mlp_dim": hidden, "num_heads": heads, "num_kv_heads": 1, "head_dim": head_dim}


TINY = {"gemma_2b": gemma(24, 40), "gemma_300m": gemma(16, 28)}
# The tower always has 16 heads.
TINY_VISION = {"hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 1, "patch_size": 4}


@contextlib.contextmanager
def smaller(module, sizes: dict, vision: dict, vocabulary: int):
    """LeRobot's `module` with other numbers: `sizes` for the variants of Gemma, `vision` for the vision
    tower, `vocabulary` tokens."""
    paligemma = module.PaliGemmaForConditionalGenerationWithPiGemma

    def with_paligemma(config):
        for key, value in vision.items():
            setattr(config.vision_config, key, value)
        # The projection's width is a constant, which only fits the larger variant.
        config.vision_config.projection_dim = config.text_config.hidden_size
        config.text_config.vocab_size = vocabulary
        return paligemma(config=config)

    patches = {"get_gemma_config": lambda variant: types.SimpleNamespace(**sizes[variant]), "PaliGemmaForConditionalGenerationWithPiGemma": with_paligemma}
    if hasattr(module, "PiGemmaForCausalLM"):
        expert = module.PiGemmaForCausalLM

        def with_expert(config):
            # The expert has no use for a vocabulary.
            config.vocab_size = 8
            return expert(config=config)

        patches["PiGemmaForCausalLM"] = with_expert
    with contextlib.ExitStack() as stack:
        for name, value in patches.items():
            stack.enter_context(mock.patch.object(module, name, value))
        yield


def vocabulary_of(folder: Path) -> int:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()


def make(out: Path, seed: int, family: str, cameras: dict, state: int, action: int, norm=None, sizes: dict = TINY, vision: dict = TINY_VISION,
         missing: tuple[str, ...] = (), check: bool = True, finish=None, vocabulary: int | None = None, tie: bool = False, left_over: int = 0,
         spread: float = 1.0, **config) -> None:
    """`finish(out, policy)` may change the files of the saved checkpoint. With `tie` the language model's head is its table of tokens.
    `left_over` rows of another chunk, of standard deviation `spread`, are there for this one to continue."""
    rng = seeded(seed)
    module, policy_class, config_class = FAMILIES[family]
    if norm:
        config["normalization_mapping"] = norms(*norm)
    cfg = config_class(**features(cameras, state, action), device="cpu", push_to_hub=False, license="apache-2.0", **config)
    tiny_tokenizer(out, "gemma", 240)
    with tokenizer_from(out), smaller(module, sizes, vision, vocabulary or vocabulary_of(out)):
        policy = policy_class(cfg)
        # LeRobot computes in bf16 where the weights are, so that these should make little of small differences.
        randomise(policy, rng, lambda name: 1.0 if cfg.dtype == "bfloat16" else 2.0)
        if tie:
            paligemma = policy.model.paligemma_with_expert.paligemma
            paligemma.lm_head.weight = paligemma.model.language_model.embed_tokens.weight
        noise = normal(rng, cfg.chunk_size, cfg.max_action_dim)
        predict = lambda observations, noise, _: policy.predict_action_chunk(observations[0], noise=noise[None].clone())  # noqa: E731
        pre, post = processors(cfg, rng)
        save_case(out, policy, pre, post, rng, predict=predict, noise=noise, language=True, missing=tuple(IMAGES + name for name in missing), check=check,
                  keep=TOKENIZER)
        if left_over:
            guided(out, policy, pre, post, spread * normal(rng, left_over, action))
        if finish:
            finish(out, policy)


SMALL = {"chunk_size": 6, "n_action_steps": 6, "max_state_dim": 9, "max_action_dim": 8, "num_inference_steps": 4, "image_resolution": (16, 16)}


def pi0_two_cameras(out: Path) -> None:
    make(out, 1, "pi0", {"front": (48, 64), "wrist": (50, 30)}, 6, 6, **SMALL)


def pi0_bf16(out: Path) -> None:
    make(out, 2, "pi0", {"front": (32, 32)}, 7, 7, dtype="bfloat16", **SMALL)


def pi0_relative(out: Path) -> None:
    make(out, 3, "pi0", {"front": (40, 40)}, 4, 4, norm=(M.IDENTITY, M.QUANTILES, M.MIN_MAX), use_relative_actions=True,
         relative_exclude_joints=["gripper"], action_feature_names=["pan.pos", "lift.pos", "wrist.pos", "Gripper.pos"], **SMALL)


def pi0_missing_cameras(out: Path) -> None:
    make(out, 4, "pi0", {"left": (32, 40), "top": (32, 40), "right": (60, 20)}, 5, 3, missing=("top", "empty_camera_0", "empty_camera_1"),
         empty_cameras=2, **SMALL)


def as_openpi(out: Path, policy) -> None:
    """Names as conversions from OpenPI have them: nothing before them, the head for the table of
    tokens, the sister policy's name for the time's network, a projection that is left over."""
    weights = {name.removeprefix("model."): tensor for name, tensor in load_file(out / "model.safetensors").items()}
    pre = "action_" if any(name.startswith("action_time_mlp") for name in weights) else ""
    other = "" if pre else "action_"
    weights = {name.replace(f"{pre}time_mlp", f"{other}time_mlp", 1) if name.startswith(f"{pre}time_mlp") else name: t for name, t in weights.items()}
    table = weights.pop("paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight")
    weights["paligemma_with_expert.paligemma.lm_head.weight"] = table
    if not pre:
        weights["state_proj.weight"], weights["state_proj.bias"] = torch.ones(3, 2), torch.ones(3)
    save_file(weights, out / "model.safetensors")
    again = type(policy).from_pretrained(out, config=policy.config).state_dict()
    wrong = [name for name, tensor in policy.state_dict().items() if "lm_head" not in name and not torch.equal(tensor, again[name])]
    assert not wrong, f"{out.name}: LeRobot itself loads other weights: {wrong}"


def pi0_guided(out: Path) -> None:
    rtc = RTCConfig(prefix_attention_schedule=RTCAttentionSchedule.LINEAR, max_guidance_weight=5.0, execution_horizon=4)
    make(out, 11, "pi0", {"front": (48, 64)}, 6, 5, rtc_config=rtc, left_over=5, **SMALL)


def pi05_guided(out: Path) -> None:
    rtc = RTCConfig(prefix_attention_schedule=RTCAttentionSchedule.EXP, max_guidance_weight=10.0, execution_horizon=5)
    make(out, 12, "pi05", {"front": (48, 64)}, 6, 5, rtc_config=rtc, left_over=4, **SMALL)


def pi05_relative_guided(out: Path) -> None:
    """More is in the state than in the action, and two of its entries stay as they are."""
    rtc = RTCConfig(prefix_attention_schedule=RTCAttentionSchedule.LINEAR, max_guidance_weight=10.0, execution_horizon=5)
    make(out, 15, "pi05", {"front": (48, 64)}, 6, 5, norm=(M.IDENTITY, M.QUANTILES, M.MEAN_STD), rtc_config=rtc, left_over=5, spread=8.0,
         use_relative_actions=True, relative_exclude_joints=["gripper", "WRIST"],
         action_feature_names=["pan.pos", "lift.pos", "wrist.pos", "elbow.pos", "Gripper.pos"], **SMALL)


def pi05_trained(out: Path) -> None:
    """The policy is given the rows that are executed while it computes. LeRobot 0.6.1 has no such thing: this is what its main branch
    answers, at the commit 7427f31801f944f5ec9ce53cda02862ce7d1638b."""
    rtc = RTCConfig(mode="trained", execution_horizon=3)
    make(out, 16, "pi05", {"front": (48, 64)}, 6, 6, rtc_config=rtc, rtc_training_max_delay=3, left_over=4, **SMALL)


def pi0_openpi_names(out: Path) -> None:
    make(out, 5, "pi0", {"front": (32, 32)}, 3, 3, finish=as_openpi, **SMALL)


def pi05_two_cameras(out: Path) -> None:
    make(out, 6, "pi05", {"front": (48, 64), "wrist": (64, 48)}, 6, 6, **SMALL)


def pi05_bf16(out: Path) -> None:
    make(out, 7, "pi05", {"front": (32, 32)}, 6, 6, dtype="bfloat16", **SMALL)


def pi05_odd_sizes(out: Path) -> None:
    sizes = {"gemma_300m": gemma(18, 20, depth=3, heads=3, head_dim=6), "gemma_2b": gemma(10, 14, depth=3, heads=5, head_dim=6)}
    make(out, 8, "pi05", {"a": (30, 30), "b": (31, 77), "c": (91, 44)}, 2, 5, norm=(M.IDENTITY, M.MEAN_STD, M.MIN_MAX), sizes=sizes,
         vision=TINY_VISION | {"hidden_size": 16, "patch_size": 7, "num_hidden_layers": 2}, paligemma_variant="gemma_300m", action_expert_variant="gemma_2b",
         min_period=0.01, max_period=2.0, **SMALL | {"image_resolution": (30, 30), "chunk_size": 5, "n_action_steps": 2, "num_inference_steps": 3,
                                                     "max_state_dim": 2, "max_action_dim": 5})


def pi05_openpi_names(out: Path) -> None:
    make(out, 14, "pi05", {"front": (32, 32)}, 3, 3, finish=as_openpi, **SMALL)


# How many of FAST's tokens there are, and how many of the language model's stand behind them.
FAST_TOKENS, SKIPPED = 80, 3
ACTION_TOKENIZER = "lerobot/fast-action-tokenizer"


def tokenizer_with_actions(folder: Path) -> None:
    """PaliGemma's tokenizer has `Action`, `|` and tokens enough to be overlaid with those of actions."""
    tiny_tokenizer(folder, "gemma", 240)
    state = json.loads((folder / "tokenizer.json").read_text())
    vocab, merges = state["model"]["vocab"], state["model"]["merges"]
    spelled = ["A"]
    for letter in "ction":
        spelled.append(spelled[-1] + letter)
    merges = [[left, right] for left, right in zip(spelled, "ction")] + [merge for merge in merges if ":▁" not in "".join(merge)]
    for token in [*spelled, "|", *(f"<loc{i:04}>" for i in range(FAST_TOKENS + SKIPPED))]:
        vocab.setdefault(token, len(vocab))
    state["model"]["merges"] = merges
    for token in state["added_tokens"]:
        if token["content"] == "<image>":
            token["id"] = len(vocab)
    (folder / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False))


def action_tokenizer(folder: Path, rng: np.random.Generator, rows: int, width: int):
    """FAST fitted to random smooth chunks, saved into `folder` as its class saves it, but for the code
    that the Hub's repository brings. Answers with what LeRobot uses of an object of that class."""
    from scipy.fft import dct
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    scale = 10.0
    chunks = np.cumsum(rng.standard_normal((200, rows, width)), axis=1) * 0.3
    coefficients = np.around(dct(chunks, axis=1, norm="ortho") * scale).astype(int).clip(-30, 30)
    least = int(coefficients.min())
    alphabet = [chr(i) for i in range(int(coefficients.max()) - least + 1)]
    tokenizer = ByteLevelBPETokenizer()
    trainer = BpeTrainer(vocab_size=FAST_TOKENS, initial_alphabet=alphabet, special_tokens=[], show_progress=False, max_token_length=10000)
    tokenizer._tokenizer.train_from_iterator(["".join(chr(c - least) for c in chunk.flatten()) for chunk in coefficients], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False).save_pretrained(folder)
    config = {"action_dim": width, "min_token": least, "processor_class": "UniversalActionProcessor", "scale": scale, "time_horizon": rows,
              "vocab_size": FAST_TOKENS}
    (folder / "processor_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return types.SimpleNamespace(bpe_tokenizer=PreTrainedTokenizerFast.from_pretrained(folder), scale=scale, min_token=least)


@torch.no_grad()
def teach(policy, tokenizer, rng: np.random.Generator) -> None:
    """Makes the random model write `Action: `, then action tokens, at some time `|`: each of those
    tokens has a direction in its row of the table, which the head of the next one looks for."""
    inner = policy.model.paligemma_with_expert.paligemma
    table, head = inner.model.language_model.embed_tokens.weight, inner.lm_head.weight
    width = table.shape[1]
    ids = [tokenizer.bos_token_id, *tokenizer.encode("Action: ", add_special_tokens=False)]
    assert tokenizer.convert_ids_to_tokens(ids[1:]) == ["Action", ":", "▁"], tokenizer.convert_ids_to_tokens(ids)
    zero = tokenizer.vocab_size - 1 - SKIPPED
    actions = torch.arange(zero - FAST_TOKENS + 1, zero + 1)
    directions = torch.linalg.qr(normal(rng, width, width))[0] * width**0.5
    head.mul_(2.0)
    head -= directions[4] * 2.0
    for step, (token, following) in enumerate(zip(ids, [*ids[1:], None])):
        table[token] = directions[step] * 6 / width**0.5
        if following is not None:
            head[following] += directions[step] * 2.0
    for token in [ids[-1], *actions]:
        table[token] += directions[4] * 1.5 / width**0.5
    head[actions] += directions[3] * 2.0 + directions[4] * 3.0
    head[tokenizer.convert_tokens_to_ids("|")] += directions[4] * 3.0


def make_fast(out: Path, seed: int, cameras: dict, state: int, action: int, rows: int, beginnings: int, ends: bool, **config) -> None:
    """`beginnings` and `ends`: how often the model is to write `Action: `, and whether it is to write `|`."""
    from transformers import AutoProcessor, AutoTokenizer

    rng = seeded(seed)
    cfg = PI0FastConfig(**features(cameras, state, action), device="cpu", push_to_hub=False, license="apache-2.0", chunk_size=rows, n_action_steps=rows,
                        image_resolution=(16, 16), fast_skip_tokens=SKIPPED, **config)
    tokenizer_with_actions(out)
    fast = action_tokenizer(out / ACTION_TOKENIZER, rng, rows, action)
    # π0-FAST's tower always takes images of 224 pixels.
    vision = TINY_VISION | {"image_size": 16}
    action_processor = mock.patch.object(AutoProcessor, "from_pretrained", lambda *args, **kwargs: fast)
    with tokenizer_from(out), action_processor, smaller(modeling_pi0_fast, TINY, vision, vocabulary_of(out)):
        policy = modeling_pi0_fast.PI0FastPolicy(cfg)
        randomise(policy, rng, lambda name: 2.0)
        teach(policy, AutoTokenizer.from_pretrained(out), rng)
        keep = (*TOKENIZER, *(f"{ACTION_TOKENIZER}/{name}" for name in (*TOKENIZER, "processor_config.json")))
        written, detokenize = [], policy.detokenize_actions
        policy.detokenize_actions = lambda tokens, **kwargs: written.append(tokens[0].tolist()) or detokenize(tokens, **kwargs)
        save_case(out, policy, *processors(cfg, rng), rng, language=True, keep=keep)
        tokens = policy._paligemma_tokenizer.convert_ids_to_tokens(written[0])
        text = " ".join(tokens[: tokens.index("|") + 1] if "|" in tokens else tokens)
        is_as_wanted = (text.count("Action : ▁"), text.endswith("|")) == (beginnings, ends)
        assert common.shift or is_as_wanted, f"{out.name}: the model wrote {text}"


def fast_two_cameras(out: Path) -> None:
    """It writes `Action: ` twice, and `|`."""
    make_fast(out, 50, {"front": (48, 64), "wrist": (64, 48)}, 5, 5, 6, 2, True, max_decoding_steps=40)


def fast_cut_short(out: Path) -> None:
    """It doesn't write `|` in as many tokens as it may."""
    make_fast(out, 4, {"front": (30, 40)}, 3, 2, 10, 1, False, max_decoding_steps=12, use_kv_cache=False, validate_action_token_prefix=False)


CASES = {
    "pi0/two_cameras": pi0_two_cameras,
    "pi0/bf16": pi0_bf16,
    "pi0/relative_actions": pi0_relative,
    "pi0/missing_cameras": pi0_missing_cameras,
    "pi0/guided": pi0_guided,
    "pi0/openpi_names": pi0_openpi_names,
    "pi05/two_cameras": pi05_two_cameras,
    "pi05/bf16": pi05_bf16,
    "pi05/odd_sizes": pi05_odd_sizes,
    "pi05/guided": pi05_guided,
    "pi05/relative_guided": pi05_relative_guided,
    **({"pi05/trained": pi05_trained} if hasattr(RTCConfig, "mode") else {}),
    "pi05/openpi_names": pi05_openpi_names,
    "pi0_fast/two_cameras": fast_two_cameras,
    "pi0_fast/cut_short": fast_cut_short,
}

# LeRobot's own numbers for the smaller variant, which fits into the memory of most machines.
FULL = {"gemma_300m": gemma(1024, 4096, depth=18, heads=8, head_dim=256)}

PUBLISHED = {
    f"{family}_gemma_300m": lambda out, family=family: make(
        out, 1, family, {"front": (480, 640)}, 6, 6, sizes=FULL, vision={}, vocabulary=257152, tie=True, check=False, paligemma_variant="gemma_300m"
    )
    for family in ("pi0", "pi05")
}
