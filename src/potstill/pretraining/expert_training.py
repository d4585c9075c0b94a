"""Expert trajectories: snapshots of a network after every epoch of a training on real data, for many trainings.

Trajectory matching (MTT, arXiv:2203.11932, ``buffer.py``) walks a student from one snapshot of an expert and compares
where it comes to with a later one. An expert is trained by plain SGD (rate 0.01, momentum 0, no decay, batches of 256,
50 epochs, DSA with parameters of their own for each sample), or towards flat minima (``optimizer: gsam``, FTD), or by
a curriculum (``curriculum: pad``). The first snapshot is the network as it begins.

Each expert is a job. It is kept as one file that is mapped and not read (`potstill.pretraining.trajectory_codec`): any
snapshot is decoded by itself, into memory of its own. A training that was stopped goes on after its last whole epoch
of a minute or less before, with the same bits, and so does a short one of which more epochs are wanted; the first
epochs of a long one serve as a short one. A file that is cut off or damaged is made anew; of two runs that want the
same expert one makes it and the other waits.

Experts are not trained side by side as one network. On a CPU that takes 4 to 6 times as long
(``benchmarks/experts.py``): one expert's products fill the core, and kernels of our own are for networks alone. There
a process for each core helps.
"""

import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from potstill._util.cache import make_cache_folder
from potstill._util.cache_dir import cache_dir
from potstill._util.file_lock import lock_file
from potstill.dataset_file.files import read_metadata
from potstill.errors import PotstillError, unknown_name
from potstill.functional.sharpness_aware import GSAM
from potstill.pretraining.cache_keys import warn_other_machines
from potstill.pretraining.curriculum import PAD, DifficultyOrder
from potstill.pretraining.epoch_checkpoint import EpochCheckpoint, write_checkpoint
from potstill.pretraining.networks import Training
from potstill.pretraining.trajectory import ForeignExpertError, MemoryReader, Trajectory, open_expert
from potstill.pretraining.trajectory_codec import (
    FORMAT,
    FileRows,
    Layout,
    MemoryRows,
    Rows,
    layout_json,
    read_file,
    rows_digest,
    snapshots_hash,
)

__all__ = ["PUBLISHED", "ExpertTraining"]

MAX_BYTES = 64 * 2**30
_VERSION = 1

PUBLISHED: Mapping[str, float | int | str] = {
    "epochs": 50, "batch": 256, "lr": 0.01, "momentum": 0.0, "weight_decay": 0.0, "augment": "dsa",
    "schedule": "constant", "optimizer": "sgd", "rho": 0.01, "alpha": 0.3, "curriculum": "none", "score_runs": 2,
    "score_epochs": 2, "holdout": 0.0, "cutmix": 0.0,
}  # fmt: skip
"""Default recipe. ``schedule: decay`` multiplies the rate by 0.1 after epoch epochs // 2 + 1 (MTT's ``--decay``).
``rho`` and ``alpha`` belong to ``gsam`` (FTD's command; its code's defaults are 2 and 0.4). For ``curriculum:
pad``, ``score_runs`` networks after ``score_epochs`` epochs score difficulty (published: 10)."""
_CHOICES = {"optimizer": ("sgd", "gsam"), "curriculum": ("none", "pad"), "schedule": ("constant", "decay")}
_ONLY = {"rho": ("optimizer", "gsam"), "alpha": ("optimizer", "gsam"), "score_runs": ("curriculum", "pad"),
         "score_epochs": ("curriculum", "pad")}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ExpertTraining(Training):
    """Training job of one expert (an `potstill.core.AssetJob`), which gives a `Trajectory`."""

    called: ClassVar[str] = "expert"

    def __post_init__(self) -> None:
        if odd := [name for name in self.recipe if name not in PUBLISHED]:
            raise unknown_name("setting of experts", odd[0], PUBLISHED)
        for name, choices in _CHOICES.items():
            if (chosen := self.full_recipe[name]) not in choices:
                raise unknown_name(f"{name} of experts", str(chosen), choices)
        for name in ("epochs", "batch", "score_runs", "score_epochs"):
            if int(self.full_recipe[name]) < 1:
                raise PotstillError(
                    f"{name} of experts must be at least 1, but it is {self.full_recipe[name]}; change it"
                )
        super().__post_init__()

    @property
    def full_recipe(self) -> dict[str, float | int | str]:
        """Return the whole recipe, with settings that have no effect at their defaults."""
        full = {**PUBLISHED, **self.recipe}
        unused = {name for name, (of, choice) in _ONLY.items() if full[of] != choice}
        return {name: value for name, value in full.items() if name not in unused} | {n: PUBLISHED[n] for n in unused}

    @property
    def key_recipe(self) -> dict[str, float | int | str]:
        return {name: value for name, value in self.full_recipe.items() if name != "epochs" or not self.any_length}

    @property
    def gsam(self) -> GSAM | None:
        said = self.full_recipe
        return GSAM(rho=float(said["rho"]), alpha=float(said["alpha"])) if said["optimizer"] == "gsam" else None

    @cached_property
    def order(self) -> DifficultyOrder | None:
        """Return the sample order of a curriculum, or ``None``."""
        said = self.full_recipe
        if said["curriculum"] == "none":
            return None
        runs, epochs, batch = (int(said[name]) for name in ("score_runs", "score_epochs", "batch"))
        return DifficultyOrder(train=self.train, make=self.make, runs=runs, epochs=epochs, batch=batch)

    def epoch_samples(self) -> Callable[[int], Tensor]:
        if self.order is None:
            return super().epoch_samples()
        easy_first = self.order.easy_first(self.index)
        return lambda epoch: PAD.index(epoch, easy_first, self.train.labels)

    def run(self, rows: Rows, state: EpochCheckpoint) -> Iterator[EpochCheckpoint]:
        """Train from ``state``, write every snapshot to ``rows``, and yield the state after every epoch.

        Raises:
            PotstillError: it did not stay finite.
        """

        def write(state: EpochCheckpoint) -> None:
            theta, buffers = rows.layout.flat(state.teacher.params), rows.layout.flat_buffers(state.teacher.buffers)
            rows.write_epoch(state.epoch, theta, buffers, state.seconds)

        if state.epoch == 0:
            write(state)
        for trained in self.train_from(state):
            write(trained)
            yield trained

    def path(self) -> Path:
        """Return the cache file, named by everything that decides its bits.

        A longer training has the same name if the shorter one is its beginning.
        """
        return cache_dir() / "trajectories" / f"{self.cache_name(recipe=self.key_recipe, version=_VERSION)}.safetensors"

    @property
    def _part(self) -> Path:
        return self.path().with_name(f".{self.path().stem}.part")

    @property
    def progress(self) -> Path:
        return self._part.with_suffix(".progress")

    def _metadata(self, layout: Layout) -> dict[str, str]:
        return {
            "format": FORMAT, "layout": layout_json(layout), "network": self.make.name, "key": self.path().stem,
            "data": self.train.content_hash, "source": self.train.name, "classes": json.dumps(self.train.classes),
            "seed": str(self.seed), "number": str(self.number), "recipe": json.dumps(self.key_recipe, sort_keys=True),
            "epochs": str(self.epochs),
        }  # fmt: skip

    def is_cached(self) -> bool:
        try:
            return int(read_metadata(self.path(), MAX_BYTES)["epochs"]) >= self.epochs
        except (PotstillError, KeyError, ValueError):
            return False

    def load(self) -> Trajectory | None:
        """Return the cached expert, checked by its hash now and read when asked for.

        Raises:
            PotstillError: the file at its place is of another network or of other data; both are named.
        """
        if not self.is_cached():
            warn_other_machines(self.path(), "expert trajectories")
            return None
        try:
            return open_expert(self.path(), self.make, self.train, self.epochs)
        except ForeignExpertError:
            raise
        except PotstillError:
            return None  # cut off, damaged or not readable: it is made again

    def build(self) -> tuple[Trajectory, str] | None:
        path = self.path()
        try:
            make_cache_folder(path.parent)
            while (descriptor := lock_file(self._part)) is None:
                time.sleep(0.2)  # another run makes it
        except OSError as error:
            return self.compute(), f"{path.parent}: cannot be written ({error.strerror})"
        try:
            with open(descriptor, "r+b") as file:
                if self.load() is not None:  # the other run has
                    self._part.unlink(missing_ok=True)
                    return None
                layout = Layout.of(self.make(self.seed))
                rows = FileRows(file, layout, self.epochs, self._metadata(layout))
                self._fill(rows)
                os.replace(self._part, path)
                if not self.any_length:
                    self.progress.unlink(missing_ok=True)  # nothing goes on from there
        except OSError as error:
            return self.compute(), f"{path.parent}: cannot be written ({error.strerror})"
        return None

    def _fill(self, rows: FileRows) -> None:
        written = time.monotonic()
        for state in self.run(rows, self._resume(rows)):
            is_last = state.epoch == self.epochs
            if time.monotonic() - written > self.save_every or (is_last and self.any_length):
                self._save(rows, state)
                written = time.monotonic()
        rows.finish()

    def compute(self) -> Trajectory:
        layout = Layout.of(self.make(self.seed))
        rows = MemoryRows(layout, self.epochs)
        deque(self.run(rows, self.first()), maxlen=0)
        return Trajectory(
            seed=self.seed, epochs=self.epochs, layout=layout, device=self.make.device, read=MemoryReader(rows),
            digest=snapshots_hash(rows.values, self.epochs), classes=self.train.classes,
            seconds=float(rows.values["seconds"][-1]), memory_bytes=rows.size,
        )  # fmt: skip

    def remaining(self) -> float:
        if self.order is None:
            return super().remaining()
        sizes = torch.bincount(self.train.labels[self.index]).tolist()
        parts = [PAD.part(epoch) for epoch in range(self.saved().epoch, self.epochs)]
        first = self.order.remaining() if self.number == 0 else 0.0  # one expert trains them for all
        return first + sum(max(1, int(high * n) - int(low * n)) for low, high in parts for n in sizes if n)

    def _save(self, rows: FileRows, state: EpochCheckpoint) -> None:
        """Write the checkpoint after the file's rows have reached the disk."""
        rows.file.flush()
        os.fsync(rows.file.fileno())
        teacher = state.teacher if float(self.full_recipe["momentum"]) else replace(state.teacher, velocity={})
        digest = rows_digest(read_file(self._part, check=False)[0], state.epoch)
        write_checkpoint(self.progress, replace(state, teacher=teacher, rows=digest))

    def _resume(self, rows: FileRows) -> EpochCheckpoint:
        """Return the state to resume from, with the file filled up to it."""
        first, state = self.first(), self.saved()
        if not float(self.full_recipe["momentum"]):
            state = replace(state, teacher=replace(state.teacher, velocity=first.teacher.velocity))
        if not 0 < state.epoch <= self.epochs:
            rows.start()
            return first
        if rows.is_started() and rows_digest(read_file(self._part, check=False)[0], state.epoch) == state.rows:
            return state
        rows.start()
        with contextlib.suppress(PotstillError):  # not there, or cut off
            values, about = read_file(self.path(), check=False)
            if int(about["epochs"]) >= state.epoch and rows_digest(values, state.epoch) == state.rows:
                rows.copy_rows(values, state.epoch)
                return state
        return first
