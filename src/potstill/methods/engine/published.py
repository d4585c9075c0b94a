"""Settings of publications that have a program for each size of data: which of them a run has is a fact of its data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from potstill.core import InputSpec, NetworkFactory, Problem
from potstill.errors import PotstillError
from potstill.nn import factory

__all__ = [
    "AUTO",
    "Auto",
    "PublishedRun",
    "Settings",
    "SettingsBySize",
    "nearest_settings",
    "teacher_factory",
    "usable_networks",
]

T = TypeVar("T")
if TYPE_CHECKING:
    Auto = Annotated[T, "once settled"]
else:
    Auto = T | None
"""The type of a field that `potstill.core.Method.settled` fills in from the data: nothing but that is asked of a method
before, so whatever reads the field reads a value."""

AUTO: Any = None
"""The default of such a field."""

Settings: TypeAlias = Mapping[str, float | int | bool | str]
"""Values by a method's fields."""


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """The settings of one published run, and where they are published."""

    settings: Settings
    source: str
    """Repository, its commit, and the file, figure or command in it."""


SettingsBySize: TypeAlias = Mapping[tuple[int, int], Settings]
"""Pixels along a side and classes of the data that a program is for → its settings."""


def nearest_settings(published: SettingsBySize, spec: InputSpec, classes: int) -> Settings:
    """The settings of the program for the data that are nearest to these: in size, and of equal sizes in classes.

    Near is meant as a ratio: 64 pixels are as far from 32 as from 128. The side is the geometric mean of both.

    Args:
        published: the programs; at least one.
        spec: of pictures (c, h, w).
        classes: how many there are.
    """
    _, h, w = spec.shape
    side = math.sqrt(h * w)

    def away(program: tuple[int, int]) -> tuple[float, float]:
        return abs(math.log(program[0] / side)), abs(math.log(program[1] / classes))

    return published[min(published, key=away)]


def usable_networks(names: Sequence[str], problem: Problem) -> tuple[list[str], list[str]]:
    """Those networks of a method's own choice that can take the data, and a line for each that cannot."""
    kept, said = [], []
    for name in names:
        try:
            teacher_factory(name, problem)
        except PotstillError as error:
            said.append(f"{name}, of the usual committee of teachers, is left out: {error}")
        else:
            kept.append(name)
    return kept, said


def teacher_factory(name: str, problem: Problem) -> NetworkFactory:
    """The factory of a further teacher.

    Raises:
        PotstillError: the name is not known, or it cannot take such inputs.
    """
    train = problem.train
    return factory(name, train.input, problem.num_classes, problem.network.device, normalization=train.normalization)
