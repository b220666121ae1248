"""The classes that `sinew` shows, around those of the extension module."""

import json

from . import _sinew
from ._sinew import SinewError

__all__ = ["Dataset", "Policy", "SinewError"]


class Policy:
    """A policy from the Hub or a folder, run on the CPU by Sinew.

    An observation is a dict by LeRobot's names: vectors float32 or float64 `[D]`, images uint8 `[H, W, 3]` or float32 `[3, H, W]` in
    0..1, the instruction as `task`. A policy that takes several observations takes them with a leading axis in `infer`; in
    `select_action` it remembers them. Anything that `numpy.asarray` understands will do, such as a tensor of torch. Answers are in
    the dataset's units: the checkpoint's own processors run inside.

    Threads may share a policy. A process that was forked after Sinew ran can't use it.
    """

    def __init__(self, native):
        self._native = native

    @classmethod
    def from_pretrained(cls, name, *, device="cpu", quantize=None, rename=None):
        """Opens `name`: `owner/name[@revision]` on the Hub, or a folder.

        `device` is `cpu`, `cuda` or `metal`; `quantize` is `q8` or None; `rename` is a dict from a camera's name to the policy's key
        for it. Raises ValueError for a name or an option that makes no sense, SinewError when the files can't be had or are no
        policy that can be run.
        """
        pairs = None if rename is None else [(str(camera), str(key)) for camera, key in dict(rename).items()]
        return cls(_sinew.Policy.from_pretrained(str(name), device=device, quantize=quantize, rename=pairs))

    @property
    def info(self):
        """What the policy is: a dict, as `sinew policy check --json` prints it."""
        return json.loads(self._native.info_json())

    def load(self):
        """Reads the weights now, and not when the first action is asked for."""
        self._native.load()

    def infer(self, observation, *, seed=0):
        """One chunk of actions, float32 `[rows, A]`. The same `seed` gives the same answer.

        Raises ValueError where an input is missing or of another shape, TypeError where it is of another type.
        """
        return self._native.infer(dict(observation), seed=seed)

    def select_action(self, observation, *, seed=0):
        """The action for this step, float32 `[A]`: from the queue that the newest chunk filled, or of a new chunk.

        Noise comes from `seed` and the number of chunks that this policy made, which `reset` does not set back. A copy begins anew.
        """
        return self._native.select_action(dict(observation), seed=seed)

    def reset(self):
        """Empties the queue of `select_action`; for the start of an episode. Each episode draws new noise."""
        self._native.reset()

    def copy(self):
        """A policy with the same weights in memory and a queue of its own."""
        return Policy(self._native.copy())

    def __repr__(self):
        return repr(self._native)


class Dataset:
    """A LeRobotDataset (2.0, 2.1 or 3.0) on the Hub or in a folder, for reading; its length is the number of its episodes.

    Arrays of numbers and images are views of Sinew's memory and can't be written to; `.copy()` makes one that can.
    """

    def __init__(self, name, *, streaming=False):
        """Opens `name`: `owner/name[@revision]` on the Hub, or a folder.

        Of one on the Hub each file comes when it is first read or, with `streaming`, only the parts of it that are read.
        """
        self._native = _sinew.Dataset(str(name), streaming=streaming)

    fps = property(lambda self: self._native.fps, doc="Frames a second.")
    num_episodes = property(lambda self: self._native.num_episodes)
    num_frames = property(lambda self: self._native.num_frames)
    robot_type = property(lambda self: self._native.robot_type)
    cameras = property(lambda self: self._native.cameras, doc="The features that are images or videos.")
    tasks = property(lambda self: self._native.tasks, doc="The instructions.")

    @property
    def features(self):
        """The features as `meta/info.json` declares them."""
        return json.loads(self._native.features_json())

    def rows(self, episode):
        """The rows of an episode: a dict of arrays `[T]` or `[T, D]` by the columns' names. A column of images is None: see `frames`."""
        return self._native.rows(episode)

    def frames(self, episode, camera, start=0, stop=None):
        """An iterator over a camera's images in an episode, uint8 `[H, W, 3]`, from frame `start` to before `stop`."""
        return self._native.frames(episode, camera, start, stop)

    def __len__(self):
        return len(self._native)

    def __repr__(self):
        return repr(self._native)
