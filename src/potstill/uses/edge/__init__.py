"""Training on a small device: a set as integers of a C header, a learner in plain C, and its twin in NumPy."""

from potstill.uses.edge.learner import Head, predict, train
from potstill.uses.edge.run import edge

__all__ = ["Head", "edge", "predict", "train"]
