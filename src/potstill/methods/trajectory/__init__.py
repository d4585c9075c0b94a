"""Trajectory matching: a student that trains on the set should go where experts on real data went."""

from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState
from potstill.methods.trajectory._values import Published, TrajectoryValues, following

__all__ = ["EngineMethod", "MatchingEngine", "MatchingState", "Published", "TrajectoryValues", "following"]
