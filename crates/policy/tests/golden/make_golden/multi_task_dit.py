"""Multi-Task DiT, over tiny CLIPs: each case has the folders that its encoders' names name inside it. The noise that DDPM adds at each step is
drawn beforehand; nothing else of LeRobot is changed."""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import torch
from lerobot.policies.multi_task_dit.configuration_multi_task_dit import MultiTaskDiTConfig
from lerobot.policies.multi_task_dit.modeling_multi_task_dit import MultiTaskDiTPolicy
from lerobot.policies.utils import populate_queues
from lerobot.utils.constants import ACTION

from .common import M, features, norms, normal, processors, randomise, save_case, seeded, tiny_tokenizer
from .diffusion import RANDN

# What of an encoder's folder the runtime reads.
KEPT = ["config.json", "tokenizer.json", "tokenizer_config.json"]
VISION = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}
TEXT = {"hidden_size": 20, "intermediate_size": 36, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 20}
PUBLISHED_NAME = "openai/clip-vit-base-patch16"


def clip(folder: Path, text: dict, vision: dict, alone: str | None = None, pad: str = "<|endoftext|>", eos: int | None = None) -> None:
    """A CLIP with its tokenizer, or the encoder `alone` (text or vision) without the other. `eos` is what its configuration says of the end."""
    from transformers import AutoTokenizer, CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

    tiny_tokenizer(folder, "clip", pad=pad)
    kept = {name: (folder / name).read_text() for name in KEPT[1:]}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id if eos is None else eos} | text
    if alone == "vision":
        model = CLIPVisionModel(CLIPVisionConfig(**vision))
    elif alone == "text":
        model = CLIPTextModel(CLIPTextConfig(**text))
    else:
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.save_pretrained(folder)
    for name, content in kept.items():
        (folder / name).write_text(content)


def predict(policy: MultiTaskDiTPolicy):
    """For `save_case`: observations go through the queues, as on a robot."""

    def run(observations, noise, step_noise):
        policy.reset()
        for observation in observations:
            batch = policy._prepare_batch({name: value for name, value in observation.items() if name != ACTION})
            policy._queues = populate_queues(policy._queues, batch)
        drawn = iter([] if step_noise is None else step_noise)
        with mock.patch(RANDN, lambda shape, **_: next(drawn)[None]), mock.patch.object(torch, "randn", lambda *_, **__: noise[None].clone()):
            answer = policy.predict_action_chunk(batch)
        assert next(drawn, None) is None
        return answer

    return run


def gain(name: str) -> float:
    """The observation and the step must tell in the answer, which must not be clipped throughout."""
    return 3.0 if "adaLN" in name else 2.0 if "encoder" in name else 0.02 if "output_proj" in name else 1.2


def make(out: Path, seed: int, cameras: dict, state: int, action: int, env: int | None = None, norm=(M.MEAN_STD, M.MIN_MAX, M.MIN_MAX), text: dict | None = None,
         vision: dict | None = None, pad: str = "<|endoftext|>", eos: int | None = None, dtype=torch.half, rename=None, check: bool = True,
         language: bool = True, names: tuple[str, str] = ("clip", "clip"), whole: bool = False, absent: tuple[str, ...] = (), missing: tuple[str, ...] = (),
         **config) -> None:
    """`names` are those of the vision and of the text encoder. `absent` are keys that the saved config.json lacks."""
    rng, out = seeded(seed), out.resolve()
    with tempfile.TemporaryDirectory() as here, contextlib.chdir(here):
        vision_name, text_name = names
        for name, alone in {(vision_name, None)} if vision_name == text_name else {(vision_name, "vision"), (text_name, "text")}:
            clip(Path(name), TEXT | (text or {}), VISION | (vision or {}), alone, pad, eos)
        cfg = MultiTaskDiTConfig(**features(cameras, state, action, env), normalization_mapping=norms(*norm), device="cpu", push_to_hub=False,
                                 license="apache-2.0", vision_encoder_name=vision_name, text_encoder_name=text_name, **config)
        policy = MultiTaskDiTPolicy(cfg)
        randomise(policy, rng, gain)
        steps = cfg.num_inference_steps or cfg.num_train_timesteps
        noise = normal(rng, cfg.horizon, action)
        is_ddpm = cfg.is_diffusion and cfg.noise_scheduler_type == "DDPM"
        step_noise = normal(rng, steps - 1, cfg.horizon, action) if is_ddpm else None
        save_case(out, policy, *processors(cfg, rng), rng, predict=predict(policy), n_obs_steps=cfg.n_obs_steps, noise=noise, step_noise=step_noise,
                  dtype=dtype, rename=rename, check=check, language=language, missing=missing)
        if absent:
            path = out / "config.json"
            saved = json.loads(path.read_text())
            path.write_text(json.dumps({key: value for key, value in saved.items() if key not in absent}, indent=4))
        # With the whole folder LeRobot can load the case again, from inside its folder.
        ignore = None if whole else lambda _, names: set(names) - set(KEPT)
        for name in {*names}:
            shutil.copytree(name, out / name, ignore=ignore, dirs_exist_ok=True)


SMALL = {"horizon": 8, "n_action_steps": 5, "hidden_dim": 24, "num_layers": 2, "num_heads": 3, "timestep_embed_dim": 8, "tokenizer_max_length": 20,
         "image_crop_shape": (32, 32)}


def as_published(out: Path) -> None:
    """LeRobot's defaults, but for the sizes: DDPM through all of its 100 steps."""
    make(out, 1, {"wrist": (40, 50), "front": (40, 50)}, 6, 6, dtype=None, **SMALL)


def separate_encoders(out: Path) -> None:
    """An encoder for each camera, images resized and cropped, three observations; the text encoder is another model. Its end is named by the
    number that old configurations have. No rotary positions but learned ones."""
    make(out, 2, {"a": (50, 60), "b": (50, 60)}, 3, 4, names=("clip-vision", "some/CLIP-text"), eos=2, text={"hidden_act": "gelu"},
         vision={"hidden_act": "gelu_pytorch_tanh", "image_size": 30, "patch_size": 7, "layer_norm_eps": 1e-3}, n_obs_steps=3, use_rope=False,
         use_positional_encoding=True, use_separate_rgb_encoder_per_camera=True, image_resize_shape=(36, 44), noise_scheduler_type="DDIM", beta_schedule="linear",
         num_train_timesteps=50, num_inference_steps=7, prediction_type="sample", clip_sample_range=6.0,
         **SMALL | {"image_crop_shape": (30, 30), "horizon": 7})


def flow_euler(out: Path) -> None:
    """Text is padded on the left, with a token of its own; the crop is larger than the images."""
    make(out, 3, {"front": (32, 32)}, 5, 3, pad="!", norm=(M.IDENTITY, M.MEAN_STD, M.QUANTILES), objective="flow_matching", num_integration_steps=40,
         n_obs_steps=1, tokenizer_padding_side="left", rope_base=100.0, sigma_min=0.1, absent=("image_resize_shape", "sigma_min"),
         **SMALL | {"image_crop_shape": (40, 20), "num_heads": 2, "hidden_dim": 20})


def flow_rk4(out: Path) -> None:
    """No camera, nothing cropped, padded to the longest; more rows to execute than the horizon has left, and a vector of which nothing is made."""
    make(out, 4, {}, 4, 2, env=3, missing=("observation.environment_state",), norm=(M.IDENTITY, M.IDENTITY, M.MEAN_STD), objective="flow_matching",
         integration_method="rk4", num_integration_steps=11, tokenizer_padding="longest", timestep_sampling_strategy="uniform",
         use_positional_encoding=True, **SMALL | {"n_action_steps": 20, "image_crop_shape": None})


def padding_is_the_end(out: Path) -> None:
    """Text is padded on the left with the token that ends it, so that LeRobot's encoder looks at none of it; images are enlarged."""
    make(out, 5, {"top": (20, 24)}, 2, 3, language=False, tokenizer_padding_side="left", image_resize_shape=(32, 32), num_train_timesteps=12,
         beta_schedule="sigmoid", beta_end=0.3, clip_sample=False, rename={"observation.images.camera1": "observation.images.top"}, **SMALL | {"image_crop_shape": None})


def cut_short(out: Path) -> None:
    """A sentence longer than it may be, through DDPM with every second step left out; three cameras share an encoder."""
    make(out, 6, {"a": (33, 35), "b": (33, 35), "c": (33, 35)}, 3, 3, num_train_timesteps=40, num_inference_steps=20, beta_schedule="scaled_linear",
         beta_start=0.001, beta_end=0.05, image_crop_is_random=False, text={"num_hidden_layers": 3}, **SMALL | {"tokenizer_max_length": 5})


CASES = {case.__name__: case for case in [as_published, separate_encoders, flow_euler, flow_rk4, padding_is_the_end, cut_short]}

PUBLISHED = {
    "multi_task_dit_two_cameras": lambda out: make(
        out, 1, {"front": (224, 224), "wrist": (224, 224)}, 6, 6, check=False, dtype=None, names=(PUBLISHED_NAME, PUBLISHED_NAME), whole=True,
        text={"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8, "max_position_embeddings": 77, "vocab_size": 49408},
        vision={"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224, "patch_size": 16},
        noise_scheduler_type="DDIM", num_inference_steps=10),
}
