"""Diffusion Policy. So that the files stay small the ResNets are torchvision's with narrow layers, and
the noise that DDPM adds at each step is drawn beforehand; nothing else of LeRobot is changed."""

import json
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torchvision
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy, DiffusionSinusoidalPosEmb
from lerobot.policies.utils import populate_queues
from lerobot.utils.constants import ACTION, OBS_IMAGES
from safetensors.torch import save_file

from .act import narrow
from .common import M, features, norms, normal, processors, randomise, save_case, seeded, smooth_image

RANDN = "diffusers.schedulers.scheduling_ddpm.randn_tensor"


def gain(name: str, sharpness: float = 60.0) -> float:
    """The observation must tell in the answer, and keypoints must not sit in the middle of the map."""
    return 2.0 if "backbone" in name else sharpness if "pool.nets" in name else 4.0 if "cond_encoder" in name or "rgb_encoder" in name else 1.2


def predict(policy: DiffusionPolicy):
    """For `save_case`: observations go through the queues, as on a robot."""

    def run(observations, noise, step_noise):
        policy.reset()
        for observation in observations:
            batch = {name: value for name, value in observation.items() if name != ACTION}
            if policy.config.image_features:
                batch[OBS_IMAGES] = torch.stack([batch[name] for name in policy.config.image_features], dim=-4)
            policy._queues = populate_queues(policy._queues, batch)
        drawn = iter([] if step_noise is None else step_noise)
        with mock.patch(RANDN, lambda shape, **_: next(drawn)[None]):
            answer = policy.predict_action_chunk(batch, noise=noise[None])
        assert next(drawn, None) is None
        return answer

    return run


def make(out: Path, seed: int, cameras: dict, state: int, action: int, env: int | None = None, norm=(M.MEAN_STD, M.MIN_MAX, M.MIN_MAX),
         width=2, dtype=None, rename=None, absent: tuple[str, ...] = (), check: bool = True, **config) -> None:
    """`absent` are keys that the saved config.json lacks, as one of before they existed."""
    rng = seeded(seed)
    backbone = config.get("vision_backbone", "resnet18")
    compiled = config.pop("compile_model", False)
    cfg = DiffusionConfig(**features(cameras, state, action, env), normalization_mapping=norms(*norm), device="cpu",
                          pretrained_backbone_weights=None, push_to_hub=False, license="apache-2.0", **config)
    network = narrow(backbone, width) if width else getattr(torchvision.models, backbone)
    with mock.patch.object(torchvision.models, backbone, network):
        policy = DiffusionPolicy(cfg)
    # What is not narrow has features enough to tell without sharp keypoints, which make much of roundings.
    randomise(policy, rng, gain if width else lambda name: gain(name, 2.0))
    if compiled:
        # Which changes the names of the weights.
        cfg.compile_model = True
        policy.diffusion.unet = torch.compile(policy.diffusion.unet, backend="eager")
    steps = cfg.num_inference_steps or cfg.num_train_timesteps
    noise = normal(rng, cfg.horizon, action)
    step_noise = normal(rng, steps - 1, cfg.horizon, action) if cfg.noise_scheduler_type == "DDPM" else None
    save_case(out, policy, *processors(cfg, rng), rng, predict=predict(policy), n_obs_steps=cfg.n_obs_steps, noise=noise, step_noise=step_noise,
              dtype=dtype, rename=rename, check=check)
    if absent:
        path = out / "config.json"
        saved = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in saved.items() if key not in absent}, indent=4))
        read = PreTrainedConfig.from_pretrained(out)
        assert all(getattr(read, key) == getattr(cfg, key) for key in absent if key != "pretrained_backbone_weights")


SMALL = {"horizon": 8, "n_action_steps": 5, "down_dims": (8, 16), "n_groups": 4, "diffusion_step_embed_dim": 8, "spatial_softmax_num_keypoints": 4}


def two_encoders(out: Path) -> None:
    """As published, but for the sizes: DDPM through all of its 100 steps."""
    make(out, 1, {"wrist": (48, 64), "front": (48, 64)}, 6, 6, **SMALL | {"n_action_steps": 4})


def pusht(out: Path) -> None:
    """As LeRobot trained it on PushT before 0.6: group norm, crop, one encoder; DDIM is ours."""
    make(out, 2, {"image": (75, 73)}, 2, 2, norm=(M.MEAN_STD, M.MIN_MAX, M.MIN_MAX), width=(16, 16, 16, 36), dtype=torch.half, crop_shape=(66, 66),
         use_group_norm=True, use_separate_rgb_encoder_per_camera=False, noise_scheduler_type="DDIM", num_inference_steps=10,
         absent=("resize_shape", "crop_ratio", "compile_model", "compile_mode", "gradient_checkpointing", "pretrained_revision", "use_peft"),
         **SMALL | {"down_dims": (8, 16, 24), "n_groups": 8, "horizon": 16, "n_action_steps": 8})


def resize_and_crop(out: Path) -> None:
    make(out, 3, {"front": (100, 150)}, 4, 3, norm=(M.IDENTITY, M.QUANTILES, M.MIN_MAX), dtype=torch.half, resize_shape=(70, 66), crop_ratio=0.95,
         vision_backbone="resnet34", num_train_timesteps=30, beta_schedule="linear", prediction_type="sample", use_film_scale_modulation=False,
         n_obs_steps=3, rename={"observation.images.camera1": "observation.images.front"}, **SMALL)


def enlarged_one_step(out: Path) -> None:
    """One observation, larger than it was; the crop is not for resized images."""
    make(out, 4, {"front": (40, 50)}, 3, 4, norm=(M.MEAN_STD, M.MEAN_STD, M.MEAN_STD), resize_shape=(64, 48), crop_shape=(20, 20), vision_backbone="resnet50",
         use_separate_rgb_encoder_per_camera=False, noise_scheduler_type="DDIM", beta_schedule="scaled_linear", beta_start=0.001, beta_end=0.05,
         num_train_timesteps=50, num_inference_steps=7, prediction_type="sample", clip_sample=False, n_obs_steps=1, **SMALL)


def environment_sigmoid(out: Path) -> None:
    make(out, 5, {}, 3, 2, env=5, norm=(M.IDENTITY, M.QUANTILE10, M.MIN_MAX), n_obs_steps=3, kernel_size=3, beta_schedule="sigmoid", beta_end=0.1,
         num_train_timesteps=40, num_inference_steps=9, clip_sample_range=2.5, **SMALL | {"down_dims": (16,), "n_groups": 1, "horizon": 6, "n_action_steps": 3})


def three_cameras_shared_laplace(out: Path) -> None:
    make(out, 6, {"left": (48, 64), "right": (48, 64), "top": (48, 64)}, 5, 3, env=2, dtype=torch.bfloat16, use_separate_rgb_encoder_per_camera=False,
         crop_is_random=False, crop_shape=(41, 61), beta_schedule="laplace", num_train_timesteps=25, clip_sample_range=1.5, kernel_size=7,
         **SMALL | {"down_dims": (16, 8, 24), "n_groups": 8})


def compiled_whole_horizon(out: Path) -> None:
    """The weights as after torch.compile, and more steps to execute than the horizon has left."""
    make(out, 17, {"front": (64, 64)}, 3, 3, norm=(M.MIN_MAX, M.MEAN_STD, M.MIN_MAX), compile_model=True, noise_scheduler_type="DDIM",
         beta_schedule="linear", num_train_timesteps=20, num_inference_steps=20, clip_sample_range=0.8, n_obs_steps=3,
         **SMALL | {"n_action_steps": 8})


def two_encoders_group_norm(out: Path) -> None:
    make(out, 28, {"a": (50, 50), "b": (50, 50)}, 2, 2, env=3, width=(16, 16, 16, 16), dtype=torch.half, use_group_norm=True, resize_shape=(80, 100),
         crop_ratio=0.8, clip_sample_range=3.0, noise_scheduler_type="DDIM", num_train_timesteps=1000, num_inference_steps=40, prediction_type="sample",
         use_film_scale_modulation=False, n_obs_steps=2, **SMALL | {"n_action_steps": 3})


def schedulers(out: Path) -> None:
    """Every sampler, schedule and prediction: a few values through all steps, with what the network
    would answer at each step drawn beforehand. `<label>.kept` is the cumulative product of 1 - beta."""
    rng = np.random.default_rng(11)
    tensors, configs = {}, {}

    def run(label: str, kind, train_steps: int, steps: int, **config) -> None:
        scheduler = kind(num_train_timesteps=train_steps, **config)
        scheduler.set_timesteps(steps)
        sample, outputs, noise = normal(rng, 3), normal(rng, steps, 3), normal(rng, max(steps - 1, 1), 3)
        tensors[f"{label}.start"], tensors[f"{label}.outputs"], tensors[f"{label}.noise"] = sample, outputs, noise
        drawn, samples = iter(noise), []
        with mock.patch(RANDN, lambda *_, **__: next(drawn)[None]):
            for t, output in zip(scheduler.timesteps, outputs, strict=True):
                sample = scheduler.step(output[None], t, sample[None]).prev_sample[0]
                samples.append(sample)
        tensors[f"{label}.samples"], tensors[f"{label}.kept"] = torch.stack(samples), scheduler.alphas_cumprod
        tensors[f"{label}.timesteps"] = scheduler.timesteps.float()
        configs[label] = {"noise_scheduler_type": kind.__name__[:4], "num_train_timesteps": train_steps, "num_inference_steps": steps, **config}

    for kind, schedules in [(DDPMScheduler, ["linear", "scaled_linear", "squaredcos_cap_v2", "laplace", "sigmoid"]),
                            (DDIMScheduler, ["linear", "scaled_linear", "squaredcos_cap_v2"])]:
        for schedule in schedules:
            for prediction in ["epsilon", "sample"]:
                settings = {"beta_schedule": schedule, "prediction_type": prediction, "beta_start": 0.0001, "beta_end": 0.02}
                for clip, train_steps, steps in [(1.0, 100, 10), (0.7, 25, 25), (None, 37, 5)]:
                    limits = {"clip_sample": clip is not None, "clip_sample_range": clip or 1.0}
                    run(f"{kind.__name__[:4]}.{schedule}.{prediction}.{steps}of{train_steps}", kind, train_steps, steps, **settings, **limits)
            run(f"{kind.__name__[:4]}.{schedule}.1000", kind, 1000, 8, beta_schedule=schedule, beta_start=0.0002, beta_end=0.03, clip_sample_range=2.0)
            if schedule != "laplace":
                run(f"{kind.__name__[:4]}.{schedule}.single", kind, 1, 1, beta_schedule=schedule)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out.with_suffix(".safetensors"), metadata={"configs": json.dumps(configs)})


def step_embedding(out: Path) -> None:
    timesteps = torch.tensor([0, 1, 2, 50, 99, 999])
    tensors = {str(dim): DiffusionSinusoidalPosEmb(dim)(timesteps) for dim in [4, 6, 128]}
    save_file(tensors | {"timesteps": timesteps.float()}, out.with_suffix(".safetensors"))


def resize(out: Path) -> None:
    """`<case>.image` [n, H, W, C], what torchvision's resize makes of it, and a crop of its middle."""
    rng = np.random.default_rng(12)
    tensors = {}
    for case, (size, to, crop) in enumerate([((28, 37), (12, 15), (11, 12)), ((17, 23), (24, 10), (23, 7)), ((10, 12), (15, 31), (15, 31)),
                                             ((15, 14), (15, 10), (8, 5)), ((9, 7), (1, 1), (1, 1)), ((12, 10), (12, 10), (5, 7))]):
        image = torch.stack([smooth_image(rng, *size) for _ in range(2)]).float() / 255 + 0.1 * torch.from_numpy(rng.random((2, *size, 3), dtype=np.float32))
        resized = torchvision.transforms.Resize(to)(image.permute(0, 3, 1, 2))
        cropped = torchvision.transforms.CenterCrop(crop)(resized)
        tensors[f"{case}.image"] = image
        tensors |= {f"{case}.{what}": x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format) for what, x in {"resized": resized, "cropped": cropped}.items()}
    save_file(tensors, out.with_suffix(".safetensors"))


CASES = {case.__name__: case for case in [
    two_encoders, pusht, resize_and_crop, enlarged_one_step, environment_sigmoid, three_cameras_shared_laplace, compiled_whole_horizon,
    two_encoders_group_norm, schedulers, step_embedding, resize,
]}

PUBLISHED = {
    "diffusion_two_cameras": lambda out: make(out, 1, {"front": (96, 96), "wrist": (96, 96)}, 6, 6, width=None, check=False,
                                              noise_scheduler_type="DDIM", num_inference_steps=10),
}
