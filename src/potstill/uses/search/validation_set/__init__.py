"""A learned validation set: hyperparameters that are tuned on a small pair of sets rank as on the real data."""

from potstill.uses.search.validation_set.learn import LearnedRows, Plan, learn_validation_rows
from potstill.uses.search.validation_set.pair import CalibratedPair, calibrate
from potstill.uses.search.validation_set.problems import Problem, linear_problem, losses, minimize, network_problem
from potstill.uses.search.validation_set.spaces import Choice, LogRange, Space

__all__ = [
    "CalibratedPair", "Choice", "LearnedRows", "LogRange", "Plan", "Problem", "Space", "calibrate",
    "learn_validation_rows", "linear_problem", "losses", "minimize", "network_problem",
]  # fmt: skip
