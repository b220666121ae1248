"""X-VLA, over a tiny Florence-2 and BART's tokenizer. LeRobot answers as it does after loading the checkpoint that was saved, which may count
other cameras than it did before."""

import json
import re
from pathlib import Path
from unittest import mock

import torch
from lerobot.policies.xvla.configuration_xvla import XVLAConfig
from lerobot.policies.xvla.modeling_xvla import XVLAPolicy
from lerobot.policies.xvla.processor_xvla import XVLAAddDomainIdProcessorStep
from safetensors.torch import load_file, save_file

from .common import IMAGES, M, features, norms, normal, processors, randomise, save_case, seeded, tiny_tokenizer, tokenizer_from

KEPT = ("tokenizer.json", "tokenizer_config.json")
VISION = {"embed_dim": [8, 16], "depths": [1, 2], "patch_size": [7, 3], "patch_stride": [4, 2], "patch_padding": [3, 1], "patch_prenorm": [False, True],
          "num_heads": [2, 4], "num_groups": [4, 2], "window_size": 3, "projection_dim": 16, "max_position_embeddings": 9, "max_temporal_embeddings": 5}
TEXT = {"model_type": "bart", "d_model": 16, "encoder_layers": 2, "encoder_ffn_dim": 24, "encoder_attention_heads": 2, "max_position_embeddings": 60,
        "decoder_layers": 1, "decoder_ffn_dim": 8, "decoder_attention_heads": 2}


def florence(text: dict, vision: dict, vocabulary: int, original: bool) -> dict:
    """A `florence_config`, in transformers' words or in Microsoft's."""
    vision, text = VISION | vision, TEXT | {"vocab_size": vocabulary} | text
    if original:
        vision = {"model_type": "davit", "enable_checkpoint": False, "image_feature_source": ["spatial_avg_pool", "temporal_avg_pool"]} | vision
        vision["dim_embed"] = vision.pop("embed_dim")
        vision["image_pos_embed"] = {"type": "learned_abs_2d", "max_pos_embeddings": vision.pop("max_position_embeddings")}
        vision["visual_temporal_embedding"] = {"type": "COSINE", "max_temporal_embeddings": vision.pop("max_temporal_embeddings")}
        text["model_type"] = "florence2_language"
        text |= {"hidden_size": text["d_model"], "num_hidden_layers": text["encoder_layers"]}
    return {"vision_config": vision, "text_config": text, "pad_token_id": 1}


def to_original(path: Path) -> None:
    """Gives the tensors of a checkpoint the names that they have in Microsoft's code, which the first checkpoints were saved from."""
    block = r"(vision_tower\.blocks\.\d+\.\d+\.\w+_block\.)"
    rules = [(r"(vision_tower\.convs\.\d+\.)conv\.", r"\1proj."), (block + r"(conv[12])\.", r"\1\2.fn.dw."), (block + r"(window_attn|channel_attn)\.", r"\1\2.fn."),
             (r"(spatial_block\.)norm1\.", r"\1window_attn.norm."), (r"(channel_block\.)norm1\.", r"\1channel_attn.norm."), (block + r"norm2\.", r"\1ffn.norm."),
             (block + r"ffn\.(fc\d)", r"\1ffn.fn.net.\2"), (r"multi_modal_projector\.image_position_embed\.", "image_pos_embed."),
             (r"multi_modal_projector\.image_projection\.weight", "image_projection"), (r"multi_modal_projector\.", ""), (r"vlm\.language_model\.", "vlm.language_model.model.")]
    tensors = {}
    for name, value in load_file(path).items():
        for old, new in rules:
            name, count = re.subn(old, new, name)
            if count:
                break
        tensors[name] = value.T.contiguous() if name.endswith(".image_projection") else value
    tensors["model.vlm.language_model.final_logits_bias"] = torch.zeros(1, 7)
    save_file(tensors, path)


def gain(cfg: XVLAConfig, dim_action: int):
    """Tables of a domain's weights, prompts or positions have other sizes than a layer's input."""

    def of(name: str) -> float:
        if "action_decoder.fc" in name:
            return 1.5 * dim_action
        if name.endswith("fc.weight") and "transformer" in name:
            return (4.0 if "action_encoder" in name else 1.5) * cfg.hidden_size
        if "soft_prompt" in name:
            return 0.3 * cfg.len_soft_prompts * cfg.hidden_size
        return 0.2 * cfg.max_len_seq * cfg.hidden_size if "pos_emb" in name else 1.5

    return of


def make(out: Path, seed: int, cameras: dict, state: int | None, action: int, norm=(M.IDENTITY, M.IDENTITY, M.IDENTITY), text: dict | None = None,
         vision: dict | None = None, domain: int = 0, original: bool = False, saved_as=torch.half, missing: tuple[str, ...] = (), rename=None, check: bool = True,
         **config) -> None:
    rng = seeded(seed)
    tiny_tokenizer(out, "bart")
    vocabulary = len(json.loads((out / "tokenizer.json").read_text())["model"]["vocab"])
    cfg = XVLAConfig(**features(cameras, state, action), normalization_mapping=norms(*norm), device="cpu", push_to_hub=False, license="apache-2.0",
                     florence_config=florence(text or {}, vision or {}, vocabulary, original), **config)
    policy = XVLAPolicy(cfg)
    randomise(policy, rng, gain(cfg, policy.model.dim_action))
    noise = normal(rng, cfg.chunk_size, policy.model.dim_action)
    loaded = []

    def predict(observations, noise, _):
        if not loaded:
            if original:
                to_original(out / "model.safetensors")
            loaded.append(XVLAPolicy.from_pretrained(out))
        with mock.patch.object(torch, "randn", lambda *_, dtype, **__: noise[None].to(dtype)):
            return loaded[0].predict_action_chunk(observations[0])

    with tokenizer_from(out):
        pre, post = processors(cfg, rng)
        next(step for step in pre.steps if isinstance(step, XVLAAddDomainIdProcessorStep)).domain_id = domain
        save_case(out, policy, pre, post, rng, predict=predict, language=True, noise=noise, dtype=saved_as, rename=rename, check=check, keep=KEPT,
                  missing=tuple(IMAGES + name for name in missing))


SMALL = {"chunk_size": 6, "n_action_steps": 5, "hidden_size": 24, "depth": 2, "num_heads": 3, "num_domains": 3, "len_soft_prompts": 4, "dim_time": 8,
         "max_len_seq": 160, "num_denoising_steps": 4, "tokenizer_max_length": 20, "max_state_dim": 20}


def as_published(out: Path) -> None:
    """Poses of two arms; images are fitted into a frame, and a third view is stood in for. Microsoft's names, in the configuration and of the tensors."""
    make(out, 1, {"image": (30, 40), "image2": (36, 28)}, 8, 20, original=True, saved_as=None, domain=2, resize_imgs_with_padding=(32, 40), num_image_views=3,
         empty_cameras=1, **SMALL)


def joints_of_each_domain(out: Path) -> None:
    """Layers of a domain's own, no prompts, images as they are, a state that is cut."""
    make(out, 2, {"a": (33, 42), "b": (33, 42)}, 17, 14, norm=(M.IDENTITY, M.MEAN_STD, M.QUANTILES), domain=1, action_mode="joint", use_hetero_proj=True,
         rename={IMAGES + "camera1": IMAGES + "a"}, **SMALL | {"len_soft_prompts": 0, "max_state_dim": 14, "n_action_steps": 6})


def any_actions(out: Path) -> None:
    """As many numbers as the robot's action has; no state; three stages and other switches of Florence-2; a camera stays away."""
    vision = {"embed_dim": [8, 12, 18], "depths": [1, 1, 1], "patch_size": [5, 3, 2], "patch_stride": [2, 2, 1], "patch_padding": [2, 1, 0], "num_heads": [1, 3, 2],
              "patch_prenorm": [True, False, True], "num_groups": [2, 4, 3], "window_size": 4, "qkv_bias": False, "activation_function": "gelu_pytorch_tanh",
              "mlp_ratio": 2.5}
    make(out, 3, {"front": (24, 20), "side": (24, 20)}, None, 5, missing=("side",), vision=vision, text={"scale_embedding": True, "activation_function": "relu"},
         action_mode="Auto", max_action_dim=8, use_proprio=False, mlp_ratio=2.5, pad_language_to="longest", **SMALL | {"dim_time": 7})


def two_so101(out: Path) -> None:
    make(out, 4, {"top": (32, 32)}, 12, 12, action_mode="so101_bimanual", norm=(M.IDENTITY, M.MIN_MAX, M.MEAN_STD), tokenizer_padding_side="left",
         **SMALL | {"num_denoising_steps": 0})


def franka(out: Path) -> None:
    make(out, 5, {"top": (32, 24)}, 7, 7, action_mode="franka_joint7", num_image_views=4, **SMALL | {"dim_time": 0, "tokenizer_max_length": 5})


def agibot_bfloat16(out: Path) -> None:
    """LeRobot computes all of it in bf16."""
    make(out, 6, {"top": (32, 24)}, 20, 20, action_mode="agibot_ee6d", saved_as=None, **SMALL | {"dtype": "bfloat16", "depth": 1})


CASES = {case.__name__: case for case in [as_published, joints_of_each_domain, any_actions, two_so101, franka, agibot_bfloat16]}


def published(out: Path) -> None:
    """The dimensions of Florence-2-large and of LeRobot's defaults."""
    vision = {"embed_dim": [256, 512, 1024, 2048], "depths": [1, 1, 9, 1], "patch_size": [7, 3, 3, 3], "patch_stride": [4, 2, 2, 2], "patch_padding": [3, 1, 1, 1],
              "patch_prenorm": [False, True, True, True], "num_heads": [8, 16, 32, 64], "num_groups": [8, 16, 32, 64], "window_size": 12, "projection_dim": 1024,
              "max_position_embeddings": 50, "max_temporal_embeddings": 100}
    text = {"d_model": 1024, "encoder_layers": 12, "encoder_ffn_dim": 4096, "encoder_attention_heads": 16, "max_position_embeddings": 1024, "vocab_size": 51289}
    make(out, 1, {"image": (224, 224), "image2": (224, 224)}, 20, 20, vision=vision, text=text, check=False, saved_as=None)


PUBLISHED = {"xvla_two_cameras": published}
