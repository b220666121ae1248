"""VQ-BeT. So that the files stay small the ResNets are torchvision's with narrow layers, and codes are
picked by given numbers instead of PyTorch's generator; nothing else of LeRobot is changed."""

from pathlib import Path
from unittest import mock

import torch
import torchvision
from lerobot.policies.utils import populate_queues
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig
from lerobot.policies.vqbet.modeling_vqbet import VQBeTPolicy
from lerobot.utils.constants import ACTION, OBS_IMAGES

from .act import narrow
from .common import M, features, norms, processors, randomise, save_case, seeded


def gain(name: str) -> float:
    """No code must be certain, each observation must be looked at, and keypoints must not sit in the
    middle of the map."""
    gains = {"_bin": 0.03, "backbone": 2.0, "pool.nets": 6.0, "rgb_encoder": 4.0, "rgb_feature": 20.0, "projector": 4.0, "wpe": 0.2, "c_attn": 0.7, "c_proj": 8.0}
    return next((gain for part, gain in gains.items() if part in name), 1.2)


def predict(policy: VQBeTPolicy):
    """For `save_case`: observations go through the queues, as on a robot; a codebook's code is the
    first up to which the probabilities add up to more than its number in `noise` [2, 1]."""

    def run(observations, noise, step_noise):
        policy.reset()
        for observation in observations:
            batch = {name: value for name, value in observation.items() if name != ACTION}
            batch[OBS_IMAGES] = torch.stack([batch[name] for name in policy.config.image_features], dim=-4)
            policy._queues = populate_queues(policy._queues, batch)
        numbers = iter([noise[:1], noise[1:]] if policy.config.sequentially_select else [noise])

        def multinomial(probs: torch.Tensor, num_samples: int) -> torch.Tensor:
            assert num_samples == 1
            number = next(numbers).repeat(len(probs), 1)[: len(probs)]
            return (probs.double().cumsum(-1) > number).int().argmax(-1, keepdim=True)

        with mock.patch.object(torch, "multinomial", multinomial):
            return policy.predict_action_chunk(batch)

    return run


def make(out: Path, seed: int, camera: tuple[int, int], state: int, action: int, numbers: tuple[float, float], norm=(M.IDENTITY, M.MIN_MAX, M.MIN_MAX),
         width=2, dtype=None, rename=None, check: bool = True, **config) -> None:
    rng = seeded(seed)
    backbone = config.get("vision_backbone", "resnet18")
    cfg = VQBeTConfig(**features({"front": camera}, state, action), normalization_mapping=norms(*norm), device="cpu",
                      pretrained_backbone_weights=None, push_to_hub=False, license="apache-2.0", **config)
    network = narrow(backbone, width) if width else getattr(torchvision.models, backbone)
    with mock.patch.object(torchvision.models, backbone, network):
        policy = VQBeTPolicy(cfg)
    randomise(policy, rng, gain)
    policy.vqbet.action_head.vqvae_model.discretized.fill_(True)
    save_case(out, policy, *processors(cfg, rng), rng, predict=predict(policy), n_obs_steps=cfg.n_obs_steps, noise=torch.tensor(numbers)[:, None],
              dtype=dtype, rename=rename, check=check)


SMALL = {"gpt_block_size": 20, "gpt_input_dim": 12, "gpt_output_dim": 20, "gpt_n_layer": 2, "gpt_n_head": 2, "gpt_hidden_dim": 16, "vqvae_n_embed": 5,
         "vqvae_embedding_dim": 8, "vqvae_enc_hidden_dim": 6, "spatial_softmax_num_keypoints": 4}


def codes_at_once(out: Path) -> None:
    make(out, 21, (60, 64), 4, 3, (0.85, 0.15), n_obs_steps=3, action_chunk_size=4, crop_shape=(51, 57), **SMALL)


def codes_in_turn(out: Path) -> None:
    make(out, 2, (64, 48), 2, 2, (0.7, 0.3), norm=(M.MEAN_STD, M.MEAN_STD, M.MEAN_STD), width=(16, 16, 16, 36), dtype=torch.half, n_obs_steps=1,
         n_action_pred_token=1, crop_shape=None, use_group_norm=True, sequentially_select=True, bet_softmax_temperature=0.5,
         rename={"observation.images.camera1": "observation.images.front"}, **SMALL)


def single_row(out: Path) -> None:
    """As many tokens as there are positions; a chunk of one row."""
    make(out, 23, (70, 50), 3, 7, (0.1, 0.95), norm=(M.MIN_MAX, M.QUANTILES, M.QUANTILE10), dtype=torch.bfloat16, vision_backbone="resnet34", n_obs_steps=2,
         n_action_pred_token=15, action_chunk_size=1, crop_shape=(50, 50), crop_is_random=False, sequentially_select=True,
         **SMALL | {"gpt_n_layer": 3, "gpt_n_head": 4, "vqvae_n_embed": 9})


CASES = {case.__name__: case for case in [codes_at_once, codes_in_turn, single_row]}

PUBLISHED = {"vqbet": lambda out: make(out, 1, (96, 96), 2, 2, (0.4, 0.6), width=None, check=False)}
