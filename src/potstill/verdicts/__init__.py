"""Verdicts: one sentence about a scorecard or a leaderboard, the same on the page, in the terminal and in JSON.

Functions of JSON values: nothing here reads a file, and nothing imports torch.
"""

from potstill.verdicts.classes import (
    LARGEST,
    POPULAR,
    class_scores,
    class_spread,
    class_warnings,
    largest_class,
    largest_class_line,
)
from potstill.verdicts.leaderboard import BoardVerdict, judge_leaderboard
from potstill.verdicts.scorecard import AS_MANY, MODEL, REAL, best_naive_forecast, judge_scorecard, shown_baselines
from potstill.verdicts.verdict import Gap, Verdict, noun_of_kind

__all__ = [
    "AS_MANY", "LARGEST", "MODEL", "POPULAR", "REAL", "BoardVerdict", "Gap", "Verdict", "best_naive_forecast",
    "class_scores", "class_spread", "class_warnings", "judge_leaderboard", "judge_scorecard", "largest_class",
    "largest_class_line", "noun_of_kind", "shown_baselines",
]  # fmt: skip
