"""A Sinew policy where LeRobot expects one of its own: `rollout`, `eval_policy` and `eval_policy_all` of `lerobot.scripts.lerobot_eval`,
and others that call `select_action`.

    from sinew.lerobot import LeRobotPolicy, make_processors

    policy = LeRobotPolicy.from_pretrained("owner/name")
    preprocessor, postprocessor = make_processors()

Sinew runs the checkpoint's processors itself, so these two let everything through.
"""

from dataclasses import dataclass

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import PolicyProcessorPipeline
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action

from . import Policy


def make_processors():
    """LeRobot's preprocessor and postprocessor for a `LeRobotPolicy`. Both change nothing."""
    after = PolicyProcessorPipeline(steps=[], to_transition=policy_action_to_transition, to_output=transition_to_policy_action)
    return PolicyProcessorPipeline(steps=[]), after


@PreTrainedConfig.register_subclass("sinew")
@dataclass
class SinewConfig(PreTrainedConfig):
    """What LeRobot asks of a policy's configuration; it can't train."""

    observation_delta_indices = None
    action_delta_indices = None
    reward_delta_indices = None

    def get_optimizer_preset(self):
        raise NotImplementedError("Sinew runs policies and does not train them")

    def get_scheduler_preset(self):
        raise NotImplementedError("Sinew runs policies and does not train them")

    def validate_features(self):
        """Sinew has checked them."""


def _features(infos):
    return {info["name"]: PolicyFeature(type=FeatureType(info["type"]), shape=tuple(info["shape"])) for info in infos}


class LeRobotPolicy(PreTrainedPolicy):
    """One `sinew.Policy` for each environment of a batch; they share their weights."""

    config_class = SinewConfig
    name = "sinew"

    def __init__(self, policy):
        info = policy.info
        inputs, outputs = _features(info["inputs"]), _features(info["outputs"])
        super().__init__(SinewConfig(n_obs_steps=info["n_obs_steps"], input_features=inputs, output_features=outputs, device="cpu"))
        self.policy = policy
        self._each = []

    @classmethod
    def from_pretrained(cls, name, **options):
        """As `sinew.Policy.from_pretrained`."""
        return cls(Policy.from_pretrained(name, **options))

    def reset(self):
        # They go on with new noise.
        for policy in self._each:
            policy.reset()

    def select_action(self, batch, **_):
        """Actions `[B, A]` for a batch of observations: vectors `[B, D]`, images `[B, 3, H, W]` in 0..1, `task` a list of sentences.

        Raises ValueError where there is no observation, or the batches differ in size.
        """
        observations = {name: value for name, value in batch.items() if torch.is_tensor(value) and name.startswith("observation.")}
        if not observations:
            raise ValueError(f"selecting an action: there is no tensor observation.* in the batch, only {sorted(batch)}")
        sizes = {name: len(value) if value.ndim else 0 for name, value in observations.items()}
        size = next(iter(sizes.values()))
        tasks = batch.get("task") or [""] * size
        tasks = [tasks] * size if isinstance(tasks, str) else list(tasks)
        sizes["task"] = len(tasks)
        if size == 0 or set(sizes.values()) != {size}:
            raise ValueError(f"selecting an action: the batches differ in size or are empty, expected one size for all: {sizes}")
        while len(self._each) < size:
            self._each.append(self.policy.copy())
        rows = []
        for index, policy in enumerate(self._each[:size]):
            observation = {name: value[index].detach().cpu().numpy() for name, value in observations.items()}
            # Environments of a batch draw their noise apart from each other.
            rows.append(policy.select_action({**observation, "task": tasks[index]}, seed=index << 32))
        return torch.from_numpy(np.stack(rows))

    def predict_action_chunk(self, batch, **_):
        raise NotImplementedError("LeRobotPolicy gives single actions; call sinew.Policy.infer for a chunk")

    def forward(self, batch):
        raise NotImplementedError("Sinew runs policies and does not train them")

    def get_optim_params(self):
        raise NotImplementedError("Sinew runs policies and does not train them")
