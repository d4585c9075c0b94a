"""Distribution matching. A new objective derives from `FeatureMatching` and says its statistics and their distance."""

from potstill.methods.distribution._base import FeatureMatching
from potstill.methods.distribution._statistics import Block, FeatureState, Memory, Statistics, Views

__all__ = ["Block", "FeatureMatching", "FeatureState", "Memory", "Statistics", "Views"]
