"""PEFT adapters over ACT: the base is in the folder `base` of the case, under which name the adapter knows it."""

import shutil
import tempfile
from pathlib import Path
from unittest import mock

import torch
import torchvision
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from peft import LoraConfig

from . import act
from .common import M, features, normal, norms, processors, randomise, save_case, seeded


class Adapted:
    """What `save_case` takes for a policy: saved are the adapter and the policy's configuration."""

    def __init__(self, policy, model):
        self.config, self.policy, self.model = policy.config, policy, model

    def eval(self):
        self.model.eval()

    def save_pretrained(self, out: Path) -> None:
        self.model.save_pretrained(out)
        self.config.save_pretrained(out)

    def predict_action_chunk(self, batch):
        return self.policy.predict_action_chunk(batch)


def make(out: Path, seed: int, half: bool = False, **lora) -> None:
    rng = seeded(seed)
    cfg = ACTConfig(**features({"top": (48, 64)}, 4, 5), normalization_mapping=norms(M.MEAN_STD, M.MEAN_STD, M.MIN_MAX), device="cpu",
                    pretrained_backbone_weights=None, push_to_hub=False, license="apache-2.0", use_vae=False, chunk_size=6, n_action_steps=6, **act.SMALL)
    with mock.patch.object(torchvision.models, "resnet18", act.narrow("resnet18", 2)):
        policy = ACTPolicy(cfg)
    randomise(policy, rng, act.gain)
    with tempfile.TemporaryDirectory() as folder:
        if half:
            policy.half()
        policy.save_pretrained(folder)
        policy.float()
        cfg.pretrained_path = "base"
        with mock.patch("peft.utils.save_and_load.check_file_exists_on_hf_hub", lambda *_: False):
            model = policy.wrap_with_peft(LoraConfig(**lora))
            with torch.no_grad():
                for name, tensor in model.named_parameters():
                    if "lora_" in name or "modules_to_save" in name:
                        tensor.copy_(0.3 * normal(rng, *tensor.shape))
            save_case(out, Adapted(policy, model), *processors(cfg, rng), rng)
        (out / "base").mkdir()
        for name in ["config.json", "model.safetensors"]:
            shutil.copy(Path(folder) / name, out / "base" / name)


CASES = {
    "act/adapter": lambda out: make(
        out, 31, r=2, lora_alpha=4, modules_to_save=["action_head"],
        target_modules=r".*(linear1|linear2|encoder_robot_state_input_proj|encoder_img_feat_input_proj|layer2\.0\.conv1)"),
    "act/adapter_rank_stabilised": lambda out: make(
        out, 34, half=True, r=3, lora_alpha=8, use_rslora=True, target_modules=["linear1", "action_head", "encoder_latent_input_proj", "conv2"],
        rank_pattern={"encoder.layers.0.linear1": 1, "action_head": 4}, alpha_pattern={r".*decoder.*linear\d": 5}),
}
