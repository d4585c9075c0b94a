"""Measuring a distilled set: protocols, students, baselines, statistics, the scorecard."""

from potstill.evaluation.evaluate import describe_data_mismatch, evaluate
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.scorecard import Scorecard
from potstill.evaluation.statistics import difference, summary

__all__ = ["Protocol", "Scorecard", "describe_data_mismatch", "difference", "evaluate", "summary"]
