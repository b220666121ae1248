"""Sinew runs robot policies against robots or a simulator. This package carries its program, `sinew`."""

from importlib.metadata import version

__version__ = version("sinew-robot")
