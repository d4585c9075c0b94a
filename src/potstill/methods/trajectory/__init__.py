"""Trajectory matching: a student trained on the set should go where experts on real data went.

A method holds the values of its paper, and gives `build_trajectory_engine` the parts in which it differs from MTT.
"""

from potstill.methods.trajectory._parts import (
    LastStep,
    NearestStep,
    PartialDistance,
    RelativeDistance,
    StartEpochs,
    TrajectoryParts,
)
from potstill.methods.trajectory._values import Published, TrajectoryFields, build_trajectory_engine

__all__ = [
    "LastStep", "NearestStep", "PartialDistance", "Published", "RelativeDistance", "StartEpochs", "TrajectoryFields",
    "TrajectoryParts", "build_trajectory_engine",
]  # fmt: skip
