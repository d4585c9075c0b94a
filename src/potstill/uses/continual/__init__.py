"""Continual learning: memories of so many bytes, and learners that are trained from scratch on the memory alone."""

from potstill.uses.continual.learner import Learner
from potstill.uses.continual.memory import Made, Real, Streamed, parse_memory
from potstill.uses.continual.run import continual
from potstill.uses.continual.stream import Step, class_stream, group_stream, named_stream

__all__ = [
    "Learner", "Made", "Real", "Step", "Streamed", "class_stream", "continual", "group_stream", "named_stream",
    "parse_memory",
]  # fmt: skip
