"""A Sinew policy where LeRobot expects one of its own: `lerobot.scripts.lerobot_eval` and others that call `select_action`.

    from sinew.lerobot import LeRobotPolicy

    policy = LeRobotPolicy.from_pretrained("owner/name")

Sinew runs the checkpoint's processors itself, so LeRobot's must let everything through: give it
`PolicyProcessorPipeline(steps=[])` for both.
"""

import torch

from . import Policy


class LeRobotPolicy(torch.nn.Module):
    """One `sinew.Policy` for each environment of a batch; they share their weights."""

    def __init__(self, policy):
        super().__init__()
        self.policy = policy
        self._each = []

    @classmethod
    def from_pretrained(cls, name, **options):
        """As `sinew.Policy.from_pretrained`."""
        return cls(Policy.from_pretrained(name, **options))

    def reset(self):
        self._each = []

    def select_action(self, batch):
        """Actions `[B, A]` for a batch of observations: vectors `[B, D]`, images `[B, 3, H, W]` in 0..1, `task` a list of sentences."""
        observations = {name: value for name, value in batch.items() if torch.is_tensor(value) and name.startswith("observation.")}
        size = len(next(iter(observations.values())))
        tasks = batch.get("task") or [""] * size
        tasks = [tasks] * size if isinstance(tasks, str) else tasks
        if len(self._each) != size:
            self._each = [self.policy.copy() for _ in range(size)]
        rows = []
        for index, policy in enumerate(self._each):
            observation = {name: value[index].detach().cpu().numpy() for name, value in observations.items()}
            # Environments of a batch draw their noise apart from each other.
            rows.append(policy.select_action({**observation, "task": tasks[index]}, seed=index << 32))
        return torch.stack([torch.from_numpy(row) for row in rows])
