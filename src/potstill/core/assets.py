"""Contracts of assets: expensive prerequisites, such as expert trajectories, that are built once and cached."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from potstill.core.data import Source
from potstill.core.parts import Augmentation, NetworkFactory

__all__ = ["Asset", "AssetContext", "AssetJob"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetContext:
    """Data and parts that assets are built from."""

    train: Source
    network: NetworkFactory
    """Architecture of assets that name none."""
    augmentation: Callable[[str], Augmentation]
    """Returns an augmentation by name."""


@runtime_checkable
class AssetJob(Protocol):
    """Independent part of an asset: a picklable value whose fields decide its bits and are its cache key."""

    def is_cached(self) -> bool:
        """Return quickly whether it seems to be in the cache."""
        ...

    def load(self) -> Any:
        """Return it from the cache, checked by its hash and memory-mapped; ``None`` if it is not there."""
        ...

    def build(self) -> tuple[Any, str] | None:
        """Build and cache it. Return ``None``, or the part and the reason why it was not cached."""
        ...

    def compute(self) -> Any:
        """Build it in memory only."""
        ...

    def remaining(self) -> float:
        """Return the units of work that are left to build it."""
        ...

    def estimate(self) -> tuple[Callable[[], object], float]:
        """Return a small piece of the work, to be timed, and its number of units; it leaves no traces."""
        ...


@runtime_checkable
class Asset(Protocol):
    """Expensive prerequisite, such as expert trajectories, built before the first step; its fields are its cache key.

    It is built once for the same data and settings, as independent jobs, in any process. What a job returns may have an
    attribute ``seconds``: the computing time that went into it.
    """

    @property
    def name(self) -> str:
        """Key in ``Problem.assets``."""
        ...

    @property
    def recipe(self) -> Mapping[str, float | int | str]:
        """Settings, as a plan prints them."""
        ...

    def jobs(self, ground: AssetContext, /) -> Sequence[AssetJob]:
        """Return the jobs that it consists of.

        Raises:
            PotstillError: it cannot be built from these data and parts.
        """
        ...

    def open(self, parts: Sequence[Any], /) -> Any:
        """Return the value for the method, from every job's part in order; large parts are read when they are used.

        The value may have an attribute ``held``: the most bytes that it keeps in memory.
        """
        ...

    def placeholder(self, jobs: Sequence[Any], /) -> Any:
        """Return an untrained value of the same sizes, for a plan."""
        ...

    def adopt(self, value: Any, ground: AssetContext, /) -> Any:
        """Return the value from a user's own one, given as an object or as a path.

        Raises:
            PotstillError: it is of another type, or does not fit the data.
        """
        ...

    def describe_work(self, missing: Sequence[Any], /) -> str:
        """Return the work of some of its jobs in words, such as ``training 3 networks for 20 epochs``."""
        ...

    def provenance(self, value: Any, ground: AssetContext, /) -> Mapping[str, Mapping[str, Any]]:
        """Return JSON entries for the metadata of the distilled set, by the name of the list that they belong to."""
        ...
