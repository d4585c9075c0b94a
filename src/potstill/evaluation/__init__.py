"""Evaluation of distilled sets: protocols, students, baselines, statistics, scorecards."""

from potstill.evaluation.evaluate import evaluate
from potstill.evaluation.fitting import describe_data_mismatch
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.scorecard import Scorecard
from potstill.evaluation.statistics import difference, summary

__all__ = ["Protocol", "Scorecard", "describe_data_mismatch", "difference", "evaluate", "summary"]
