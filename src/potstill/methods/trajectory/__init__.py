"""Trajectory matching: a student that trains on the set should go where experts on real data went."""

from potstill.methods.engine import Engineered, Matching, MatchState
from potstill.methods.trajectory._values import Published, TrajectoryValues, following

__all__ = ["Engineered", "MatchState", "Matching", "Published", "TrajectoryValues", "following"]
