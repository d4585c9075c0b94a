"""Gradient matching. A new objective derives from `GradientMatching` and says its distance and how networks train."""

from potstill.methods.gradient._base import GradientMatching, GradientState

__all__ = ["GradientMatching", "GradientState"]
