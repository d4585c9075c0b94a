"""Parametrizations: the tensors that are optimised, and their decoding to inputs."""

from potstill.parametrize.pixels import Pixels

__all__ = ["Pixels"]
