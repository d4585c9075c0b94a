"""Measuring a distilled set: protocols, students, baselines, statistics, the scorecard."""

from potstill.evaluation.evaluate import evaluate, not_made_of
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.scorecard import Scorecard
from potstill.evaluation.statistics import difference, summary

__all__ = ["Protocol", "Scorecard", "difference", "evaluate", "not_made_of", "summary"]
