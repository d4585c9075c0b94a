"""Fields whose defaults depend on the data, and published settings by the size of the data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from potstill.core import InputSpec, NetworkFactory, Problem
from potstill.errors import PotstillError
from potstill.nn import factory

__all__ = [
    "AUTO", "Auto", "PublishedRun", "Settings", "SettingsBySize", "nearest_settings", "teacher_factory",
    "usable_networks",
]  # fmt: skip

T = TypeVar("T")
if TYPE_CHECKING:
    Auto = Annotated[T, "once settled"]
else:
    Auto = T | None
"""Type of a field that `potstill.core.Method.resolve_defaults` fills in from the data."""

AUTO: Any = None
"""Default of a field that `potstill.core.Method.resolve_defaults` fills in."""

Settings: TypeAlias = Mapping[str, float | int | bool | str]
"""Values of a method's fields."""


@dataclass(frozen=True, kw_only=True)
class PublishedRun:
    """Settings of one published run, and their source."""

    settings: Settings
    source: str
    """Repository, its commit, and the file, figure or command in it."""


SettingsBySize: TypeAlias = Mapping[tuple[int, int], Settings]
"""Settings of a program by (image side in pixels, classes) of its data."""


def nearest_settings(published: SettingsBySize, spec: InputSpec, classes: int) -> Settings:
    """Return the settings of the program whose data are nearest in size, then in classes.

    Distances are ratios: 64 pixels are as far from 32 as from 128. The side is the geometric mean of both.

    Args:
        published: the programs; at least one.
        spec: of pictures (c, h, w).
        classes: how many there are.
    """
    _, h, w = spec.shape
    side = math.sqrt(h * w)

    def log_ratios(program: tuple[int, int]) -> tuple[float, float]:
        return abs(math.log(program[0] / side)), abs(math.log(program[1] / classes))

    return published[min(published, key=log_ratios)]


def usable_networks(names: Sequence[str], problem: Problem) -> tuple[list[str], list[str]]:
    """Return the networks that can take the data, and a note for each that cannot."""
    usable, notes = [], []
    for name in names:
        try:
            teacher_factory(name, problem)
        except PotstillError as error:
            notes.append(f"{name}, of the usual committee of teachers, is left out: {error}")
        else:
            usable.append(name)
    return usable, notes


def teacher_factory(name: str, problem: Problem) -> NetworkFactory:
    """Return the factory of a further teacher.

    Raises:
        PotstillError: the name is not known, or it cannot take such inputs.
    """
    train = problem.train
    return factory(name, train.input, problem.num_classes, problem.network.device, normalization=train.normalization)
