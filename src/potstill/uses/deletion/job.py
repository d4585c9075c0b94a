"""A set for deletion as a job: its units, made by any executor where they are not there, joined and written."""

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from potstill._util.outputs import check_output
from potstill._util.progress import Callback
from potstill.core import Normalization, Splits
from potstill.data import TensorSource
from potstill.dataset_file import Distilled, concat
from potstill.dataset_file.load import validated_set
from potstill.dataset_file.metadata import to_json
from potstill.dataset_file.replacing import SUFFIX, describe_conflict, hash_run
from potstill.errors import PotstillError
from potstill.execution import Executor, Serial, choose_executor
from potstill.uses.deletion.units import Recipe, Unit, content_hash, run_unit

__all__ = ["Update", "UpdateJob"]

VERSION = 1
"""Version of the metadata's ``deletion``."""

PackedSet: TypeAlias = tuple[dict[str, Any], dict[str, Tensor]]
"""Metadata and tensors of a set, as another process gets them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Update:
    """A new set, and what was made for it."""

    distilled: Distilled
    units: Sequence[Unit]
    """All units of the set."""
    remade: Sequence[Unit]
    """Units that were made; all others were taken over, bit by bit."""
    records: TensorSource
    """Records that the set is made of."""
    seconds: float
    """Seconds of the whole update: reading, hashing, units, joining and writing."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the units that were made."""
        return tuple(dict.fromkeys(unit.name for unit in self.remade))

    @property
    def seconds_of_all(self) -> float:
        """Seconds that all units of the set took when they were made: an estimate for the whole set."""
        return float(sum(self.distilled.metadata["deletion"]["seconds"]))

    @property
    def exact(self) -> bool:
        """True if the set has the bits of one that is made from scratch: no unit went on from earlier items."""
        return bool(self.distilled.metadata["deletion"]["exact"])

    @property
    def hash(self) -> str:
        """Hash of what the set holds: `content_hash`."""
        return content_hash(self.distilled)

    def report(self) -> dict[str, Any]:
        """Return the update as JSON values."""
        card = self.distilled.metadata["deletion"]
        return {
            "units": len(self.units), "remade": [list(unit.key) for unit in self.remade], "classes": list(self.classes),
            "samples": len(self.records), "seconds": round(self.seconds, 3), "exact": self.exact,
            "seconds_of_all": round(self.seconds_of_all, 3), "hash": self.hash, "deletions": card["deletions"],
        }  # fmt: skip


def _pack(distilled: Distilled) -> PackedSet:
    return to_json(distilled.metadata), dict(distilled.tensors)


def _unpack(packed: PackedSet) -> Distilled:
    return validated_set(Path("a unit"), *packed)


@dataclass(frozen=True, kw_only=True)
class _UnitJob:
    """A unit to make."""

    unit: Unit
    path: Path | None
    """Its file, from which a later call takes it; ``None``: none."""
    initial: PackedSet | None
    """Items that it goes on from."""
    steps: int | None


@dataclass(frozen=True)
class _UnitMaker:
    """Makes a unit; sent to a worker once."""

    recipe: Recipe

    def __call__(self, job: _UnitJob) -> PackedSet:
        initial = None if job.initial is None else _unpack(job.initial)
        return _pack(run_unit(self.recipe, job.unit, job.path, initial=initial, steps=job.steps))


def _remove_units(folder: Path) -> None:
    """Remove the files of units, also of earlier calls, and the folder where nothing else is in it."""
    for path in folder.iterdir():
        if re.match(r"\d+-[0-9a-f]{32}\.", path.name):
            path.unlink()
    with contextlib.suppress(OSError):  # files of the user
        folder.rmdir()


@dataclass(frozen=True, kw_only=True)
class UpdateJob:
    """A set to make: its units, those that are there, and where it goes."""

    started: float
    """Clock at the start of the update, which reads and hashes the records first."""
    recipe: Recipe
    train: TensorSource
    normalization: Normalization
    splits: Splits
    units: Sequence[Unit]
    existing: Mapping[tuple[str, int, str], Distilled] = field(default_factory=dict)
    """Sets of units by class, part and fingerprint."""
    history: Sequence[Mapping[str, Any]] = ()
    """Deletions so far: numbers of records and hashes."""
    warm: Mapping[tuple[str, int], Distilled] = field(default_factory=dict)
    """Sets that changed units go on from."""
    warm_steps: int | None = None
    was_warm: frozenset[tuple[str, int]] = frozenset()
    """Units among those taken that went on from earlier items."""
    reads: tuple[object, ...] = ()
    """Files that are never written over."""

    @property
    def run_digest(self) -> str:
        identity = {"recipe": self.recipe.to_json(), "units": [(*u.key, u.fingerprint) for u in self.units]}
        more = {"warm": self.warm_steps, "deletions": list(self.history), "version": VERSION}
        return hash_run(identity, more)

    def run(
        self, out: str | Path | None, force: bool, executor: Executor | None, progress: Callback | None
    ) -> Update:  # fmt: skip
        """Make the units that are not there, join all, and write the set.

        Args:
            executor: where units are made; ``None``: as many processes as help. Each has one thread, so that the bits
                are the same everywhere.
        """
        folder = None
        if out is not None:
            card = {"run_digest": self.run_digest, "method": self.recipe.method, "source": self._source}
            path = check_output(
                out, suffixes=SUFFIX, reads=(*self.splits.files, *self.reads), force=force,
                found=lambda at: describe_conflict(at, card),
            )  # fmt: skip
            folder = path.with_name(f"{path.name}.units")
            folder.mkdir(parents=True, exist_ok=True)
        missing = [u for u in self.units if (*u.key, u.fingerprint) not in self.existing]
        made = self._make(missing, folder, executor, progress or (lambda *_: None))
        sets, warm = list[Distilled](), list[tuple[str, int]]()
        for unit in self.units:
            there = self.existing.get((*unit.key, unit.fingerprint))
            sets.append(made[unit.key] if there is None else there)
            warm += [unit.key] if unit.key in (self.warm if there is None else self.was_warm) else []
        distilled = self._join(sets, warm)
        distilled.files = self.splits.files
        if out is not None and folder is not None:
            distilled.save(out, force=True)
            _remove_units(folder)
        seconds = time.perf_counter() - self.started
        return Update(distilled=distilled, units=self.units, remade=missing, records=self.train, seconds=seconds)

    def _make(
        self, units: Sequence[Unit], folder: Path | None, executor: Executor | None, progress: Callback
    ) -> dict[tuple[str, int], Distilled]:  # fmt: skip
        """Return the sets of units that are not there."""
        jobs = []
        for unit in units:
            file = None if folder is None else folder / f"{unit.part}-{unit.fingerprint[:32]}.safetensors"
            initial = self.warm.get(unit.key)
            packed, steps = (None, None) if initial is None else (_pack(initial), self.warm_steps)
            jobs.append(_UnitJob(unit=unit, path=file, initial=packed, steps=steps))
        progress("units", 0, len(jobs))
        if not jobs:
            return {}
        make = _UnitMaker(self.recipe)
        if executor is None:
            fast = self.recipe.make_method().info.is_selection  # a process takes longer to start
            executor = Serial() if fast else choose_executor(len(jobs), self.train.device, make, *jobs)
        sets = {}
        for job, packed_set in zip(jobs, executor.map(make, jobs), strict=True):
            sets[job.unit.key] = _unpack(packed_set)
            progress("units", len(sets), len(jobs))
        return sets

    @property
    def _source(self) -> dict[str, Any]:
        return {"name": self.train.name, "samples": len(self.train), "hash": self.train.content_hash}

    def _join(self, sets: Sequence[Distilled], warm: Sequence[tuple[str, int]]) -> Distilled:
        if any(s.weights is not None or s.learned for s in sets):
            raise PotstillError(f"{self.recipe.method} learns weights, which belong to no class alone; take dm")
        joined = concat(sets, normalization=self.normalization)
        seconds = [round(float(s.metadata["cost"]["seconds"]), 3) for s in sets]
        metadata = {name: value for name, value in joined.metadata.items() if name != "parts"} | {
            "method": self.recipe.method, "config": dict(self.recipe.config), "seed": self.recipe.seed,
            "source": self._source, "reading": dict(self.splits.reading), "run_digest": self.run_digest,
            "outcome": {"kind": "joined", "message": f"joined from {len(sets)} units that are made by themselves"},
            "cost": {
                **joined.metadata["cost"], "seconds": round(sum(seconds), 3),
                "steps": max(int(s.metadata["cost"]["steps"]) for s in sets),
            },
            "deletion": {
                "version": VERSION, "recipe": self.recipe.to_json(), "exact": not warm,
                "units": [(*u.key, u.fingerprint) for u in self.units], "warm": list(warm), "seconds": seconds,
                "deletions": list(self.history),
            },
        }  # fmt: skip
        return validated_set(Path("the joined set"), to_json(metadata), joined.tensors)
