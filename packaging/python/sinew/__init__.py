"""Sinew runs robot policies against robots or a simulator.

This package carries the program, `sinew`, and a module for Python programs:

    import sinew

    policy = sinew.Policy.from_pretrained("lerobot/act_aloha_sim_transfer_cube_human")
    action = policy.select_action({"observation.state": state, "observation.images.top": image})

    dataset = sinew.Dataset("lerobot/svla_so101_pickplace")
    actions = dataset.rows(0)["action"]

`Policy` and `Dataset` need numpy: `pip install 'sinew-robot[python]'`. The program needs nothing.
"""

from importlib.metadata import version

__version__ = version("sinew-robot")
__all__ = ["Dataset", "Policy", "SinewError"]


def __getattr__(name):
    # Who runs the program alone needs no numpy.
    if name not in __all__:
        raise AttributeError(f"module 'sinew' has no attribute {name!r}")
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        raise ImportError(f"sinew.{name} needs numpy: pip install 'sinew-robot[python]'") from error
    from . import _objects

    return getattr(_objects, name)


def __dir__():
    return [*globals(), *__all__]
