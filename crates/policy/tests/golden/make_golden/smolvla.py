"""SmolVLA, over tiny backbones: each case has the folder that its `vlm_model_name` names inside it."""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import torch
from lerobot.configs import RTCAttentionSchedule
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot.policies.smolvla import smolvlm_with_expert
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy

from .common import IMAGES, M, features, guided, normal, norms, processors, randomise, save_case, seeded, tiny_tokenizer

# What of a backbone's folder the runtime reads.
KEPT = ["config.json", "tokenizer.json", "tokenizer_config.json"]
SPECIAL = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>", "global_image_token": "<global-img>",
           "end_of_utterance_token": "<end_of_utterance>"}
PUBLISHED_NAME = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"


def backbone(folder: Path, text: dict, vision: dict, scale_factor: int, tied: bool) -> None:
    """What LeRobot reads of a vision-language model: its dimensions, its tokenizer, its processors."""
    from transformers import AutoTokenizer, SmolVLMImageProcessor, SmolVLMProcessor, SmolVLMVideoProcessor

    tiny_tokenizer(folder, "smol")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extra_special_tokens": SPECIAL}, indent=2) + "\n")
    kept = {name: (folder / name).read_text() for name in KEPT[1:]}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    SmolVLMProcessor(SmolVLMImageProcessor(), tokenizer, SmolVLMVideoProcessor()).save_pretrained(folder)
    for name, content in kept.items():
        (folder / name).write_text(content)
    vocabulary = max(len(tokenizer), text.pop("vocab_size", 0))
    config = {
        "model_type": "smolvlm", "image_token_id": tokenizer.convert_tokens_to_ids("<image>"), "scale_factor": scale_factor, "tie_word_embeddings": tied,
        "text_config": {"model_type": "llama", "vocab_size": vocabulary, "pad_token_id": 2, "tie_word_embeddings": tied} | text,
        "vision_config": {"model_type": "smolvlm_vision"} | vision,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


TEXT = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 4, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 8,
        "rms_norm_eps": 1e-5}
VISION = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}


def gain(expert: float):
    """The state is one token among many; the time is to matter."""
    return lambda name: 40.0 if "state_proj" in name else expert if "action_" in name or "lm_expert" in name else 1.5


@contextlib.contextmanager
def null_can_be_saved(cfg: SmolVLAConfig):
    """LeRobot runs without resizing, but can't write a configuration that says so."""
    write = cfg._save_pretrained

    def save(folder: Path) -> None:
        cfg.resize_imgs_with_padding = (0, 0)
        write(folder)
        cfg.resize_imgs_with_padding = None
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"resize_imgs_with_padding": None}, indent=4))

    with mock.patch.object(cfg, "_save_pretrained", save) if cfg.resize_imgs_with_padding is None else contextlib.nullcontext():
        yield


def make(out: Path, seed: int, cameras: dict, state: int, action: int, text: dict | None = None, vision: dict | None = None, scale_factor: int = 2,
         tied: bool = True, norm=(M.IDENTITY, M.MEAN_STD, M.MEAN_STD), dtype=torch.half, missing: tuple[str, ...] = (), rename=None,
         check: bool = True, name: str = "backbone", expert_mlp: int | None = 48, left_over: int = 0,
         expert_gain: float = 4.0, whole: bool = False, **config) -> None:
    rng, out = seeded(seed), out.resolve()
    with tempfile.TemporaryDirectory() as here, contextlib.chdir(here):
        backbone(Path(name), TEXT | (text or {}), VISION | (vision or {}), scale_factor, tied)
        cfg = SmolVLAConfig(**features(cameras, state, action), normalization_mapping=norms(*norm), device="cpu", push_to_hub=False,
                            license="apache-2.0", vlm_model_name=name, **config)
        # LeRobot makes the expert's feed-forward layers no narrower than 256.
        width = mock.patch.object(smolvlm_with_expert, "get_intermediate_size", lambda _: expert_mlp) if expert_mlp else contextlib.nullcontext()
        with width:
            policy = SmolVLAPolicy(cfg)
        randomise(policy, rng, gain(expert_gain))
        noise = normal(rng, cfg.chunk_size, cfg.max_action_dim)
        predict = lambda observations, noise, _: policy.predict_action_chunk(observations[0], noise=noise[None].clone())  # noqa: E731
        pre, post = processors(cfg, rng)
        with null_can_be_saved(cfg):
            save_case(out, policy, pre, post, rng, predict=predict, language=True, noise=noise,
                      missing=tuple(IMAGES + m for m in missing), dtype=dtype, rename=rename, check=check)
        if left_over:
            guided(out, policy, pre, post, normal(rng, left_over, action))
        # With the whole folder LeRobot can load the case again, from inside its folder.
        ignore = None if whole else lambda _, names: set(names) - set(KEPT)
        shutil.copytree(name, out / name, ignore=ignore, dirs_exist_ok=True)


SMALL = {"resize_imgs_with_padding": (32, 32), "num_vlm_layers": 4, "chunk_size": 8, "n_action_steps": 8, "max_state_dim": 8, "max_action_dim": 8}


def cross_attention(out: Path) -> None:
    """As the published one is configured, with a camera of its own size each."""
    make(out, 1, {"wrist": (48, 64), "front": (40, 30)}, 6, 6, tied=False, dtype=None, **SMALL | {"num_vlm_layers": 2})


def self_attention(out: Path) -> None:
    """A frame that is no square, of a square's number of patches; and a chunk that continues another."""
    rtc = RTCConfig(prefix_attention_schedule=RTCAttentionSchedule.EXP, max_guidance_weight=6.0, execution_horizon=5)
    make(out, 2, {"front": (50, 40)}, 4, 5, attention_mode="self_attn", rtc_config=rtc, left_over=6, **SMALL | {"resize_imgs_with_padding": (16, 64), "num_vlm_layers": 3})


def fewer_experts(out: Path) -> None:
    """Of six layers the first four are used, and every second of them by an expert that looks at nothing else."""
    make(out, 3, {"front": (32, 32)}, 8, 3, text={"num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6},
         norm=(M.MEAN_STD, M.QUANTILES, M.MIN_MAX), num_expert_layers=2, self_attn_every_n_layers=-1, **SMALL)


def two_experts_long_prefix(out: Path) -> None:
    """One layer of the expert of each kind, three layers apart; everything that can be padded is."""
    make(out, 4, {"front": (33, 47)}, 3, 4, text={"num_hidden_layers": 6, "hidden_act": "gelu"}, num_expert_layers=2, self_attn_every_n_layers=6, prefix_length=60,
         pad_language_to="max_length", tokenizer_max_length=20, **SMALL | {"num_vlm_layers": -1})


def empty_cameras_special_tokens(out: Path) -> None:
    """Two cameras stay away, of which one is stood in for, and its image tokens are not masked."""
    make(out, 5, {"a": (32, 48), "b": (32, 48), "c": (24, 24)}, 5, 4, missing=("b", "empty_camera_0"), empty_cameras=1, add_image_special_tokens=True,
         num_steps=4, min_period=0.02, max_period=2.0, rename={IMAGES + "top": IMAGES + "a"}, **SMALL)


def cameras_left_out(out: Path) -> None:
    """A camera that stays away without a word about empty ones; the instruction is cut off."""
    make(out, 6, {"a": (20, 32), "b": (20, 32)}, 5, 4, missing=("a",), tokenizer_max_length=3, self_attn_every_n_layers=3, **SMALL)


def images_as_they_are(out: Path) -> None:
    """No resizing: images of other sizes than the tower's, each of its own."""
    make(out, 7, {"large": (48, 48), "small": (16, 16), "wide": (16, 64)}, 5, 4, text={"attention_bias": True, "mlp_bias": True},
         **SMALL | {"resize_imgs_with_padding": None})


def bfloat16(out: Path) -> None:
    """A backbone whose configuration asks for bf16, as the published one does: LeRobot computes both transformers in it. Weights that
    make less of small differences show that nothing else differs."""
    make(out, 8, {"front": (48, 64)}, 6, 6, text={"dtype": "bfloat16"}, dtype=None, expert_gain=2.0, **SMALL)


def aloha(out: Path) -> None:
    """Two arms of seven joints, adapted."""
    make(out, 9, {"top": (48, 64)}, 14, 14, adapt_to_pi_aloha=True, expert_mlp=None, expert_width_multiplier=0.5,
         **SMALL | {"max_state_dim": 16, "max_action_dim": 14, "num_vlm_layers": 2})


CASES = {case.__name__: case for case in [
    cross_attention, self_attention, fewer_experts, two_experts_long_prefix, empty_cameras_special_tokens, cameras_left_out, images_as_they_are,
    bfloat16, aloha,
]}


def published(out: Path, seed: int, *cameras: str) -> None:
    """The dimensions of SmolVLM2-500M-Video-Instruct; the tokenizer is a tiny one."""
    make(out, seed, {camera: (480, 640) for camera in cameras}, 6, 6, tied=False, dtype=None, check=False, name=PUBLISHED_NAME, expert_mlp=None,
         scale_factor=4, whole=True,
         text={"hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15, "num_key_value_heads": 5,
               "head_dim": 64, "vocab_size": 49280},
         vision={"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 512, "patch_size": 16})


PUBLISHED = {
    "smolvla_one_camera": lambda out: published(out, 1, "front"),
    "smolvla_two_cameras": lambda out: published(out, 2, "front", "wrist"),
}
