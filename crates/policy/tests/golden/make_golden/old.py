"""Checkpoints as LeRobot wrote them before it had processor files: statistics among the weights. What is
expected is what LeRobot's own migration makes of them."""

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

import torch
import torchvision
from huggingface_hub import RepoCard
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.processor import migrate_policy_normalization
from safetensors.torch import load_file, save_file

from . import act, diffusion
from .common import ACTION, M

# Keys of config.json that came with the processor files or after them.
LATER = ["use_peft", "push_to_hub", "repo_id", "private", "tags", "license", "pretrained_path", "pretrained_revision", "resize_shape", "crop_ratio",
         "compile_model", "compile_mode", "gradient_checkpointing"]


def age(out: Path) -> None:
    """Turns a checkpoint into one of before the processor files."""
    weights = load_file(out / "model.safetensors")
    config = json.loads((out / "config.json").read_text())
    features = config["input_features"] | config["output_features"]
    needed = {"MEAN_STD": ["mean", "std"], "MIN_MAX": ["min", "max"], "IDENTITY": []}
    for file, *prefixes in [("policy_preprocessor_step_3_normalizer_processor", "normalize_inputs"),
                            ("policy_postprocessor_step_0_unnormalizer_processor", "normalize_targets", "unnormalize_outputs")]:
        for name, value in load_file(out / f"{file}.safetensors").items():
            feature, stat = name.rsplit(".", 1)
            # The statistics in the file are of both sides of the policy, and for all modes.
            mode = config["normalization_mapping"][features[feature]["type"]]
            if (feature == ACTION) == ("normalize_inputs" not in prefixes) and stat in needed[mode]:
                for prefix in prefixes:
                    weights[f"{prefix}.buffer_{feature.replace('.', '_')}.{stat}"] = value.clone()
    save_file(weights, out / "model.safetensors")
    for file in out.glob("policy_*"):
        file.unlink()
    (out / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key not in LATER}, indent=4))


def migrated(out: Path, predict) -> torch.Tensor:
    """What LeRobot answers to the case's inputs with the checkpoint that its migration makes."""
    from safetensors import safe_open

    with tempfile.TemporaryDirectory() as folder:
        # The model card would be checked by the Hub.
        no_card = mock.patch.object(RepoCard, "validate", lambda *_, **__: None)
        with no_card, mock.patch.object(sys, "argv", ["migrate", "--pretrained-path", str(out), "--output-dir", folder]), contextlib.redirect_stdout(None):
            migrate_policy_normalization.main()
        policy = get_policy_class(json.loads((out / "config.json").read_text())["type"]).from_pretrained(folder)
        pre, post = make_pre_post_processors(policy.config, pretrained_path=folder)
    with safe_open(out / "inputs.safetensors", "pt") as file:
        given, task = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()["task"]
    noise = [given.pop(name, None) for name in ("noise", "noise_steps")]
    steps = policy.config.n_obs_steps
    raw = {name: value if steps > 1 else value[None] for name, value in given.items()}
    images = lambda x: x.float().div(255).permute(2, 0, 1) if x.dtype is torch.uint8 else x  # noqa: E731
    observations = [pre({name: images(value[i]) for name, value in raw.items()} | {"task": task}) for i in range(steps)]
    with torch.no_grad():
        return post(predict(policy)(observations, *noise))


def case(make, predict):
    def make_old(out: Path) -> None:
        # The migration builds the policy anew, so the narrow network must still be there.
        with mock.patch.object(torchvision.models, "resnet18", act.narrow("resnet18", 2)):
            make(out)
            age(out)
            expected = load_file(out / "expected.safetensors")[ACTION]
            answer = migrated(out, predict)[0]
        assert torch.equal(answer, expected), f"{out.name}: the migration answers differently"

    return make_old


CASES = {
    "act/before_processors": case(
        lambda out: act.make(out, 21, {"top": (48, 64)}, 4, 5, width=None, use_vae=False, chunk_size=6, n_action_steps=6, **act.SMALL),
        lambda policy: lambda observations, *_: policy.predict_action_chunk(observations[0])),
    "diffusion/before_processors": case(
        lambda out: diffusion.make(out, 22, {"top": (48, 64)}, 3, 3, width=None, use_separate_rgb_encoder_per_camera=False, num_train_timesteps=8, **diffusion.SMALL),
        diffusion.predict),
}
