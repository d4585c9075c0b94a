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
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from potstill._util.cache import make_cache_folder
from potstill._util.cache_dir import cache_dir
from potstill._util.file_lock import lock_file
from potstill.data.iterate import shuffle_indices
from potstill.dataset_file import read_tensors, write_tensors
from potstill.dataset_file.files import read_metadata
from potstill.errors import PotstillError, unknown_name
from potstill.functional.sharpness_aware import GSAM
from potstill.labels.teacher import SGD, Teacher, fresh_teacher, train_epoch
from potstill.pretraining.cache_keys import cache_key, warn_other_machines
from potstill.pretraining.curriculum import PAD, DifficultyOrder
from potstill.pretraining.networks import Training, training_part
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
from potstill.rng import derive_seed, generator

__all__ = ["PUBLISHED", "ExpertTraining"]

EVERY = 60.0
"""Least number of seconds between two checkpoints of a training."""
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
class _TrainingState:
    """State of the training."""

    epoch: int
    teacher: Teacher
    rng: Tensor
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ExpertTraining(Training):
    """Training job of one expert (an `potstill.core.AssetJob`), which gives a `Trajectory`."""

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
    def epochs(self) -> int:
        return int(self.full_recipe["epochs"])

    @property
    def seed(self) -> int:
        return derive_seed(0, "asset", "expert", self.number)

    @property
    def gsam(self) -> GSAM | None:
        """Return the settings of GSAM (flat minima), or ``None``."""
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

    @property
    def _training_index(self) -> Int[Tensor, " m"]:
        return training_part(self.train, float(self.full_recipe["holdout"]))

    def _rng(self) -> torch.Generator:
        return generator(self.seed, "training", json.dumps(self._key_recipe, sort_keys=True))

    @property
    def _key_recipe(self) -> dict[str, float | int | str]:
        """Return the part of the recipe that decides the snapshots; without ``epochs`` if the rate does not depend on
        it.
        """
        return {name: value for name, value in self.full_recipe.items() if name != "epochs" or not self._any_length}

    @property
    def _any_length(self) -> bool:
        return self.full_recipe["schedule"] == "constant"

    def _rate(self, epoch: int) -> float:
        falls = self.full_recipe["schedule"] == "decay" and epoch > self.epochs // 2 + 1
        return float(self.full_recipe["lr"]) * (0.1 if falls else 1.0)

    def _one(self, net: Any, teacher: Teacher, index: Tensor, rng: torch.Generator, lr: float) -> Teacher:
        said = self.full_recipe
        momentum, weight_decay = float(said["momentum"]), float(said["weight_decay"])
        return train_epoch(
            net, teacher, self.train, index, rng,
            SGD(batch=int(said["batch"]), lr=lr, momentum=momentum, weight_decay=weight_decay), augment=self.augment,
            cutmix=float(said["cutmix"]), flat=self.gsam,
        )  # fmt: skip

    def estimate(self) -> tuple[Callable[[], object], float]:
        net, size = self.make(self.seed).train(), min(int(self.full_recipe["batch"]), len(self.train))
        made = fresh_teacher(net)
        return lambda: self._one(net, made, torch.arange(size), generator(0, "trial"), 0.0), size

    def _first(self) -> _TrainingState:
        return _TrainingState(
            epoch=0, teacher=fresh_teacher(self.make(self.seed)), rng=self._rng().get_state(), seconds=0.0
        )

    def run(self, rows: Rows, state: _TrainingState, after: Callable[[_TrainingState], None] = lambda _: None) -> None:
        """Train from ``state`` and write every snapshot to ``rows``.

        Args:
            after: is told the state after every epoch.

        Raises:
            PotstillError: it did not stay finite.
        """
        net, rng, layout = self.make(self.seed).train(), torch.Generator(), rows.layout
        rng.set_state(state.rng)
        train_index = self._training_index
        sorted_ = None if self.order is None or state.epoch == self.epochs else self.order.easy_first(train_index)
        if state.epoch == 0:
            rows.write_epoch(0, layout.flat(state.teacher.params), layout.flat_buffers(state.teacher.buffers), 0.0)
        for epoch in range(state.epoch, self.epochs):
            started = time.monotonic()
            index = train_index if sorted_ is None else PAD.index(epoch, sorted_, self.train.labels)
            teacher = self._one(net, state.teacher, shuffle_indices(self.train, index, rng), rng, self._rate(epoch))
            theta = layout.flat(teacher.params)
            if not math.isfinite(float(theta.sum())):
                raise PotstillError(
                    f"expert {self.number} of {self.make.name} did not stay finite in epoch {epoch + 1}; lower its "
                    "learning rate"
                )
            seconds = state.seconds + time.monotonic() - started
            rows.write_epoch(epoch + 1, theta, layout.flat_buffers(teacher.buffers), seconds)
            state = _TrainingState(epoch=epoch + 1, teacher=teacher, rng=rng.get_state(), seconds=seconds)
            after(state)

    # --- what is on the disk --------------------------------------------------------------------------------------

    def path(self, epoch: int | None = None) -> Path:
        """Return the cache file, named by everything that decides its bits.

        A longer training has the same name if the shorter one is its beginning.
        """
        what = {
            **self.identity(bool(self.full_recipe["holdout"])), "recipe": self._key_recipe, "version": _VERSION,
        }  # fmt: skip
        return cache_dir() / "trajectories" / f"{cache_key(what, self.machine, self.make.device)}.safetensors"

    @property
    def _part(self) -> Path:
        return self.path().with_name(f".{self.path().stem}.part")

    @property
    def _progress(self) -> Path:
        return self.path().with_name(f".{self.path().stem}.progress")

    def _metadata(self, layout: Layout) -> dict[str, str]:
        return {
            "format": FORMAT, "layout": layout_json(layout), "network": self.make.name, "key": self.path().stem,
            "data": self.train.content_hash, "source": self.train.name, "classes": json.dumps(self.train.classes),
            "seed": str(self.seed), "number": str(self.number), "recipe": json.dumps(self._key_recipe, sort_keys=True),
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
                if not self._any_length:
                    self._progress.unlink(missing_ok=True)  # nothing goes on from there
        except OSError as error:
            return self.compute(), f"{path.parent}: cannot be written ({error.strerror})"
        return None

    def _fill(self, rows: FileRows) -> None:
        state, written = self._resume(rows), time.monotonic()

        def after(state: _TrainingState) -> None:
            nonlocal written
            last = state.epoch == self.epochs
            if time.monotonic() - written > EVERY or (last and self._any_length):
                self._save(rows, state)
                written = time.monotonic()

        self.run(rows, state, after)
        rows.finish()

    def compute(self) -> Trajectory:
        layout = Layout.of(self.make(self.seed))
        rows = MemoryRows(layout, self.epochs)
        self.run(rows, self._first())
        return Trajectory(
            seed=self.seed, epochs=self.epochs, layout=layout, device=self.make.device, read=MemoryReader(rows),
            digest=snapshots_hash(rows.values, self.epochs), classes=self.train.classes,
            seconds=float(rows.values["seconds"][-1]), memory_bytes=rows.size,
        )  # fmt: skip

    def remaining(self) -> float:
        kept, done = self._training_index, self._epochs_saved()
        if self.order is None:
            return float((self.epochs - done) * len(kept))
        sizes = torch.bincount(self.train.labels[kept]).tolist()
        parts = [PAD.part(epoch) for epoch in range(done, self.epochs)]
        first = self.order.remaining() if self.number == 0 else 0.0  # one expert trains them for all
        return first + sum(max(1, int(high * n) - int(low * n)) for low, high in parts for n in sizes if n)

    def _epochs_saved(self) -> int:
        try:
            epoch = int(json.loads(read_metadata(self._progress, MAX_BYTES)["said"])["epoch"])
            return min(epoch, self.epochs)
        except (PotstillError, KeyError, ValueError, TypeError):
            return 0

    def _save(self, rows: FileRows, state: _TrainingState) -> None:
        """Write the checkpoint after the file's rows have reached the disk."""
        rows.file.flush()
        os.fsync(rows.file.fileno())
        t = state.teacher
        said = {
            "epoch": state.epoch, "seconds": state.seconds, "step": t.step, "right": t.num_correct, "seen": t.num_seen,
            "rows": rows_digest(read_file(self._part, check=False)[0], state.epoch),
        }  # fmt: skip
        parts = {f"{kind}/{n}": v for kind, values in self._moving(t).items() for n, v in values.items()}
        try:
            write_tensors(self._progress, {**parts, "rng": state.rng}, {"said": json.dumps(said)})
        except PotstillError as error:
            raise OSError(0, str(error)) from error

    def _moving(self, teacher: Teacher) -> dict[str, Mapping[str, Tensor]]:
        speed = {"velocity": teacher.velocity} if float(self.full_recipe["momentum"]) else {}
        return {"params": teacher.params, "buffers": teacher.buffers, **speed}

    def _resume(self, rows: FileRows) -> _TrainingState:
        """Return the state to resume from, with the file filled up to it."""
        if (saved := self._saved()) is None or saved[0].epoch > self.epochs:
            rows.start()
            return self._first()
        state, said = saved
        if rows.is_started() and rows_digest(read_file(self._part, check=False)[0], state.epoch) == said:
            return state
        rows.start()
        with contextlib.suppress(PotstillError):  # not there, or cut off
            values, about = read_file(self.path(), check=False)
            if int(about["epochs"]) >= state.epoch and rows_digest(values, state.epoch) == said:
                rows.copy_rows(values, state.epoch)
                return state
        return self._first()

    def _saved(self) -> tuple[_TrainingState, str] | None:
        """Return the last checkpoint if it is intact, and the hash of the rows up to it."""
        first = fresh_teacher(self.make(self.seed))
        try:
            tensors, metadata = read_tensors(self._progress, MAX_BYTES)
            said = json.loads(metadata["said"])
            moving = {
                kind: {n: tensors[f"{kind}/{n}"].to(t.device) for n, t in values.items()}
                for kind, values in self._moving(first).items()
            }
            epoch, seconds, rows = int(said["epoch"]), float(said["seconds"]), str(said["rows"])
            step, right, seen = (int(said[name]) for name in ("step", "right", "seen"))
            rng = tensors["rng"]
        except (PotstillError, KeyError, ValueError, TypeError):
            return None  # not there or not readable: it begins anew
        teacher = dataclasses.replace(first, **moving, step=step, num_correct=right, num_seen=seen)
        return _TrainingState(epoch=epoch, teacher=teacher, rng=rng, seconds=seconds), rows
