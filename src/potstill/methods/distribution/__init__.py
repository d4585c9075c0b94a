"""Distribution matching. A new method passes its statistics and their distance as a `DistributionObjective`."""

from potstill.methods.distribution._statistics import DistributionObjective, Memory, Statistics, Views
from potstill.methods.distribution._values import FeatureMatchingFields, feature_matching
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState

__all__ = [
    "DistributionObjective", "EngineMethod", "FeatureMatchingFields", "MatchingEngine", "MatchingState", "Memory",
    "Statistics", "Views", "feature_matching",
]  # fmt: skip
