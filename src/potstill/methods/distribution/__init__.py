"""Distribution matching. A new objective says its statistics and their distance, as a `Measure`, and has an engine."""

from potstill.methods.distribution._statistics import Measure, Memory, Statistics, Views
from potstill.methods.distribution._values import FeatureValues, feature_matching
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState

__all__ = [
    "EngineMethod",
    "FeatureValues",
    "MatchingEngine",
    "MatchingState",
    "Measure",
    "Memory",
    "Statistics",
    "Views",
    "feature_matching",
]  # fmt: skip
