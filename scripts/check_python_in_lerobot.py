"""LeRobot's own evaluation loop with a Sinew policy in the place of LeRobot's.

    python scripts/check_python_in_lerobot.py CHECKOUT

Run it with a Python that has LeRobot 0.6.1 and the wheel. Two environments that show moving pictures are evaluated by
`lerobot.scripts.lerobot_eval.rollout` with the golden checkpoint act/two_cameras_vae: once with LeRobot's ACT and its processors, once
with `sinew.lerobot.LeRobotPolicy`. Every action must be the same to 1e-4 of the actions' range.
"""

import sys
from pathlib import Path
from unittest import mock

import gymnasium as gym
import numpy as np
import torch
import torchvision
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from lerobot.processor import PolicyProcessorPipeline
from lerobot.scripts.lerobot_eval import eval_policy, rollout
from sinew.lerobot import LeRobotPolicy, make_processors

GOLDEN = Path(sys.argv[1]) / "crates/policy/tests/golden"
sys.path.insert(0, str(GOLDEN))
from make_golden.act import narrow  # noqa: E402

STEPS = 45


class Pictures(gym.Env):
    """Joints that follow the actions, and two cameras whose pictures follow the joints."""

    metadata = {"render_fps": 30}
    task_description = "pick up the red cube"
    task = task_description
    _max_episode_steps = STEPS

    def __init__(self):
        image = gym.spaces.Box(0, 255, (96, 128, 3), np.uint8)
        pixels = gym.spaces.Dict({"front": image, "wrist": image})
        self.observation_space = gym.spaces.Dict({"pixels": pixels, "agent_pos": gym.spaces.Box(-1e3, 1e3, (6,), np.float32)})
        self.action_space = gym.spaces.Box(-1e3, 1e3, (6,), np.float32)

    def see(self):
        y, x, colour = np.mgrid[0:96, 0:128, 0:3]
        at = self.joints.astype(np.float64)
        front = (x * 1.3 + y * 0.7 + colour * 40 + at[:3].sum()) % 256
        wrist = (x * 0.4 - y * 1.9 + colour * 90 + at[3:].sum() * 2) % 256
        return {"pixels": {"front": front.astype(np.uint8), "wrist": wrist.astype(np.uint8)}, "agent_pos": self.joints.copy()}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.joints, self.steps = self.np_random.uniform(-20, 20, 6).astype(np.float32), 0
        return self.see(), {"is_success": False}

    def step(self, action):
        self.steps += 1
        self.joints = (0.9 * self.joints + 0.1 * np.asarray(action)).astype(np.float32)
        return self.see(), 0.0, False, self.steps >= STEPS, {"is_success": False}


def evaluate(policy, before, after):
    nothing = PolicyProcessorPipeline(steps=[])
    env = gym.vector.SyncVectorEnv([Pictures, Pictures])
    # Actions leave as tensors in a dict, and observations as they came.
    return rollout(env, policy, nothing, nothing, before, after, seeds=[1, 2])["action"].numpy()


def main():
    folder = GOLDEN / "act/two_cameras_vae"
    config = PreTrainedConfig.from_pretrained(folder)
    with mock.patch.object(torchvision.models, "resnet18", narrow("resnet18", 2)):
        theirs = ACTPolicy.from_pretrained(folder, config=config).eval()
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))
    expected = evaluate(theirs, before, after)

    ours, (before, after) = LeRobotPolicy.from_pretrained(str(folder)), make_processors()
    found = evaluate(ours, before, after)
    assert found.shape == expected.shape == (2, STEPS, 6), (found.shape, expected.shape)
    worst = float(np.abs(found - expected).max() / np.ptp(expected))
    print(f"{STEPS} steps of 2 environments: worst difference {worst:.1e} of the actions' range")
    assert worst < 1e-4, worst

    nothing = PolicyProcessorPipeline(steps=[])
    env = gym.vector.SyncVectorEnv([Pictures, Pictures])
    assert eval_policy(env, ours, nothing, nothing, before, after, 2)["aggregated"]["pc_success"] == 0
    state, image = torch.zeros(2, 6), torch.zeros(2, 3, 96, 128)
    whole = {"observation.state": state, "observation.images.front": image, "observation.images.wrist": image, "task": ["", ""]}
    for wrong in ({"task": [""]}, {**whole, "task": [""]}, {**whole, "observation.state": state[:1]}):
        try:
            ours.select_action(wrong)
        except ValueError as error:
            assert "selecting an action" in str(error), error
        else:
            raise AssertionError(wrong)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
