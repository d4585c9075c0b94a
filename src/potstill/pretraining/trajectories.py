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
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import torch
from jaxtyping import Int
from torch import Tensor

from potstill._util.cache import make_cache_folder, mark_in_use
from potstill._util.cache_dir import cache_dir
from potstill._util.file_lock import lock_file
from potstill.core import AssetContext, NetworkFactory, NetworkWeights, Source
from potstill.data.groups import source_key
from potstill.data.iterate import shuffle_indices
from potstill.dataset_file import read_tensors, write_tensors
from potstill.dataset_file.files import read_metadata
from potstill.errors import PotstillError, unknown_name
from potstill.functional.sharpness_aware import GSAM
from potstill.functional.train import copy_parameters
from potstill.labels.metadata import check_class_order
from potstill.labels.teacher import Teacher, fresh_teacher, train_epoch
from potstill.pretraining.cache_keys import cache_key, warn_other_machines
from potstill.pretraining.curriculum import PAD, DifficultyOrder
from potstill.pretraining.mtt_buffers import BufferTrajectory, parse_buffer, read_replay_buffer
from potstill.pretraining.networks import TrainedNetworks, Training, describe_work, training_part
from potstill.pretraining.trajectory_codec import (
    FORMAT,
    FileRows,
    Layout,
    MemoryRows,
    Rows,
    Snapshot,
    layout_json,
    read_file,
    read_rows,
    rows_digest,
    snapshots_hash,
)
from potstill.rng import derive_seed, generator

__all__ = ["PUBLISHED", "ExpertTraining", "ExpertTrajectories", "Trajectories", "Trajectory"]

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


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One expert: its snapshots after 0, 1, … ``epochs`` epochs, each decoded when asked for."""

    seed: int
    epochs: int
    layout: Layout
    device: torch.device
    read: Callable[[int], Snapshot]
    digest: str
    """Hash of the snapshots."""
    classes: tuple[str, ...] = ()
    """Class names in the order of its logits; empty: unknown."""
    seconds: float = 0.0
    """Computing time that went into it."""
    memory_bytes: int = 0
    """Bytes that stay in memory."""

    def at(self, epoch: int) -> dict[str, Tensor]:
        """Return the parameters after ``epoch`` epochs: float32 on the device, a copy that belongs to the caller.

        Raises:
            PotstillError: it has no such epoch, or its file cannot be read any more.
        """
        return self.layout.theta(self._row(epoch)[0], self.device)

    def trained(self, epoch: int) -> NetworkWeights:
        """Return the network after ``epoch`` epochs, with its running statistics. Errors as of `at`."""
        theta, buffers = self._row(epoch)
        return NetworkWeights(
            seed=self.seed, parameters=self.layout.theta(theta, self.device), epoch=epoch, classes=self.classes,
            buffers=self.layout.statistics(buffers, self.device),
        )  # fmt: skip

    def _row(self, epoch: int) -> Snapshot:
        if not 0 <= epoch <= self.epochs:
            raise PotstillError(
                f"an expert has snapshots after 0 to {self.epochs} epochs, but one after {epoch} is asked for; train "
                "the experts longer, or ask for an earlier one"
            )
        return self.read(epoch)


@dataclass(frozen=True, eq=False)
class Trajectories(Sequence[Trajectory]):
    """Experts of one architecture on the same data."""

    experts: tuple[Trajectory, ...]

    def __len__(self) -> int:
        return len(self.experts)

    @overload
    def __getitem__(self, at: int) -> Trajectory: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Trajectory, ...]: ...
    def __getitem__(self, at: int | slice) -> Trajectory | tuple[Trajectory, ...]:
        return self.experts[at]

    @property
    def epochs(self) -> int:
        """Return the epochs that every expert has."""
        return min((one.epochs for one in self.experts), default=0)

    @property
    def memory_bytes(self) -> int:
        """Return the bytes that stay in memory: none of experts in files."""
        return sum(one.memory_bytes for one in self.experts)

    @property
    def digest(self) -> str:
        """Return the hash of all experts."""
        return hashlib.sha256("\n".join(one.digest for one in self.experts).encode()).hexdigest()


@dataclass(frozen=True)
class _File:
    """Reader of a file that was checked when it was found."""

    path: Path

    def __post_init__(self) -> None:
        mark_in_use(self.path)

    def __setstate__(self, state: Any) -> None:
        object.__setattr__(self, "path", state["path"])
        mark_in_use(self.path)  # in the process that it was sent to, too

    def __call__(self, epoch: int) -> Snapshot:
        try:
            return read_rows(read_file(self.path, check=False)[0], epoch)
        except (PotstillError, KeyError, IndexError) as error:
            raise PotstillError(
                f"{error}; this expert was there when the run began: begin again, which makes it anew"
            ) from error


@dataclass(frozen=True, eq=False)
class _Held:
    """Reader of rows in memory."""

    coded: MemoryRows

    def __call__(self, epoch: int) -> Snapshot:
        return read_rows(self.coded.values, epoch)


@dataclass(frozen=True)
class _Untrained:
    """Placeholder of an expert for a plan: its initial network, shifted a little by every epoch."""

    make: NetworkFactory
    seed: int

    def __call__(self, epoch: int) -> Snapshot:
        net = self.make(self.seed)
        layout = Layout.of(net)
        return layout.flat(copy_parameters(net)) + 1e-3 * epoch, layout.flat_buffers(dict(net.named_buffers()))


@dataclass(frozen=True, kw_only=True)
class _State:
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
    def _kept(self) -> Int[Tensor, " m"]:
        return training_part(self.train, float(self.full_recipe["holdout"]))

    def _rng(self) -> torch.Generator:
        return generator(self.seed, "training", json.dumps(self._decides, sort_keys=True))

    @property
    def _decides(self) -> dict[str, float | int | str]:
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

    def _one(self, net: Any, made: Teacher, index: Tensor, rng: torch.Generator, lr: float) -> Teacher:
        said = self.full_recipe
        return train_epoch(
            net, made, self.train, index, rng, batch=int(said["batch"]), lr=lr, momentum=float(said["momentum"]),
            weight_decay=float(said["weight_decay"]), augment=self.augment, cutmix=float(said["cutmix"]),
            flat=self.gsam,
        )  # fmt: skip

    def estimate(self) -> tuple[Callable[[], object], float]:
        net, size = self.make(self.seed).train(), min(int(self.full_recipe["batch"]), len(self.train))
        made = fresh_teacher(net)
        return lambda: self._one(net, made, torch.arange(size), generator(0, "trial"), 0.0), size

    def _first(self) -> _State:
        return _State(epoch=0, teacher=fresh_teacher(self.make(self.seed)), rng=self._rng().get_state(), seconds=0.0)

    def run(self, rows: Rows, state: _State, after: Callable[[_State], None] = lambda _: None) -> None:
        """Train from ``state`` and write every snapshot to ``rows``.

        Args:
            after: is told the state after every epoch.

        Raises:
            PotstillError: it did not stay finite.
        """
        net, rng, layout = self.make(self.seed).train(), torch.Generator(), rows.layout
        rng.set_state(state.rng)
        kept = self._kept
        sorted_ = None if self.order is None or state.epoch == self.epochs else self.order.easy_first(kept)
        if state.epoch == 0:
            rows.write_epoch(0, layout.flat(state.teacher.params), layout.flat_buffers(state.teacher.buffers), 0.0)
        for epoch in range(state.epoch, self.epochs):
            begun = time.monotonic()
            index = kept if sorted_ is None else PAD.index(epoch, sorted_, self.train.labels)
            made = self._one(net, state.teacher, shuffle_indices(self.train, index, rng), rng, self._rate(epoch))
            theta = layout.flat(made.params)
            if not math.isfinite(float(theta.sum())):
                raise PotstillError(
                    f"expert {self.number} of {self.make.name} did not stay finite in epoch {epoch + 1}; lower its "
                    "learning rate"
                )
            spent = state.seconds + time.monotonic() - begun
            rows.write_epoch(epoch + 1, theta, layout.flat_buffers(made.buffers), spent)
            state = _State(epoch=epoch + 1, teacher=made, rng=rng.get_state(), seconds=spent)
            after(state)

    # --- what is on the disk --------------------------------------------------------------------------------------

    def path(self, epoch: int | None = None) -> Path:
        """Return the cache file, named by everything that decides its bits.

        A longer training has the same name if the shorter one is its beginning.
        """
        n = self.train.normalization
        white = [] if n.whitening is None else [
            hashlib.sha256(t.cpu().numpy().tobytes()).hexdigest() for t in (n.whitening.mean, n.whitening.matrix)
        ]  # fmt: skip
        what = {
            "data": source_key(self.train, bool(self.full_recipe["holdout"])),
            "mean": n.mean.tolist(), "std": n.std.tolist(), "whitening": white,
            "network": self.make.name, "augment": repr(self.augment), "recipe": self._decides, "number": self.number,
            "version": _VERSION,
        }  # fmt: skip
        return cache_dir() / "trajectories" / f"{cache_key(what, self.machine, self.make.device)}.safetensors"

    @property
    def _part(self) -> Path:
        return self.path().with_name(f".{self.path().stem}.part")

    @property
    def _progress(self) -> Path:
        return self.path().with_name(f".{self.path().stem}.progress")

    def _said(self, layout: Layout) -> dict[str, str]:
        return {
            "format": FORMAT, "layout": layout_json(layout), "network": self.make.name, "key": self.path().stem,
            "data": self.train.content_hash, "source": self.train.name, "classes": json.dumps(self.train.classes),
            "seed": str(self.seed), "number": str(self.number), "recipe": json.dumps(self._decides, sort_keys=True),
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
        except _Foreign:
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
                rows = FileRows(file, layout, self.epochs, self._said(layout))
                self._fill(rows)
                os.replace(self._part, path)
                if not self._any_length:
                    self._progress.unlink(missing_ok=True)  # nothing goes on from there
        except OSError as error:
            return self.compute(), f"{path.parent}: cannot be written ({error.strerror})"
        return None

    def _fill(self, rows: FileRows) -> None:
        state, written = self._begun(rows), time.monotonic()

        def after(state: _State) -> None:
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
            seed=self.seed, epochs=self.epochs, layout=layout, device=self.make.device, read=_Held(rows),
            digest=snapshots_hash(rows.values, self.epochs), classes=self.train.classes,
            seconds=float(rows.values["seconds"][-1]), memory_bytes=rows.size,
        )  # fmt: skip

    def remaining(self) -> float:
        kept, done = self._kept, self._epochs_saved()
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

    def _save(self, rows: FileRows, state: _State) -> None:
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

    def _begun(self, rows: FileRows) -> _State:
        """Return the state to resume from, with the file filled up to it.

        It is that of the interrupted training or of a shorter cached one; the initial state if neither is intact.
        """
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

    def _saved(self) -> tuple[_State, str] | None:
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
        return _State(epoch=epoch, teacher=teacher, rng=rng, seconds=seconds), rows


class _Foreign(PotstillError):
    """A file of another network or of other data."""


def open_expert(path: Path, make: NetworkFactory, train: Source, asked: int = 0) -> Trajectory:
    """Open a cached expert, checked by its hash.

    Args:
        asked: epochs of it that are wanted; 0: all.

    Raises:
        PotstillError: it is none, cut off, damaged, too short, or of another network or other data; both are named.
    """
    values, said = read_file(path, check=True)
    layout = Layout.of(make(0))
    try:
        network, data, source = said["network"], said["data"], said["source"]
        classes, seed, written = tuple(json.loads(said["classes"])), int(said["seed"]), said["layout"]
    except (KeyError, ValueError, TypeError) as error:
        raise PotstillError(f"{path}: not a whole expert trajectory ({error}); get the file again") from error
    if network != make.name or written != layout_json(layout):
        raise _Foreign(
            f"{path}: an expert of network {network}, but the run's is {make.name}; give experts of that network, or "
            "choose the experts' network"
        )
    if data != train.content_hash:
        raise _Foreign(
            f"{path}: an expert of {source} ({data[:12]}), but the run's data is {train.name} "
            f"({train.content_hash[:12]}); give experts of the same data"
        )
    check_class_order(classes, train.classes, str(path), "the data")
    epochs = len(values["later"]) if "later" in values else 0
    wanted = {"first": (1, layout.size), "later": (epochs, layout.size), "scale": (epochs,), "seconds": (epochs + 1,)}
    if layout.running:
        wanted["buffers"] = (epochs + 1, layout.running)
    wanted["chain"] = (epochs + 1, 32)
    if {name: v.shape for name, v in values.items()} != wanted:
        raise PotstillError(f"{path}: not a whole expert trajectory; get the file again")
    if (last := asked or epochs) > epochs:
        raise PotstillError(f"{path}: an expert of {epochs} epochs, but {asked} are needed; train it longer")
    return Trajectory(
        seed=seed, epochs=last, layout=layout, device=make.device, read=_File(path),
        digest=snapshots_hash(values, last), classes=classes, seconds=float(values["seconds"][last]),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertTrajectories:
    """Asset of expert trajectories (an `potstill.core.Asset`): `Trajectories`."""

    name: str = "experts"
    """Experts given on the command line or as ``experts=`` replace the asset of this name."""
    count: int
    recipe: Mapping[str, float | int | str] = field(default_factory=dict)
    """Settings that differ from `PUBLISHED`; ``network`` names another architecture."""
    needed: int = 0
    """Least number of epochs that given experts must have; 0: as many as would be trained."""

    def jobs(self, ground: AssetContext) -> tuple[ExpertTraining, ...]:
        """Return a training for each expert. Errors as of `TrainedNetworks`, and of an unknown setting."""
        recipe = {"augment": PUBLISHED["augment"], **self.recipe}
        trainings = TrainedNetworks(name=self.name, count=self.count, recipe=recipe).jobs(ground)
        fields = [f.name for f in dataclasses.fields(Training)]
        return tuple(ExpertTraining(**{name: getattr(job, name) for name in fields}) for job in trainings)

    def open(self, parts: Sequence[Trajectory]) -> Trajectories:
        """Return all experts, each read when asked for."""
        return Trajectories(tuple(parts))

    def placeholder(self, jobs: Sequence[ExpertTraining]) -> Trajectories:
        """Return untrained experts of the same size."""
        return Trajectories(tuple(
            Trajectory(
                seed=job.seed, epochs=job.epochs, layout=Layout.of(job.make(job.seed)), device=job.make.device,
                read=_Untrained(job.make, job.seed), digest="", classes=job.train.classes,
            )
            for job in jobs
        ))  # fmt: skip

    def adopt(self, value: Any, ground: AssetContext) -> Trajectories:
        """Experts that somebody brings: files that an earlier run kept, published replay buffers
        (``replay_buffer_0.pt``), folders of either, or values (`Trajectory`).

        Raises:
            PotstillError: one is damaged, of another network, of other data or classes, or too short.
        """
        make, train, parts = self.jobs(ground)[0].make, ground.train, list[Trajectory]()
        for one in [value] if isinstance(value, str | Path | Trajectory) else list(value):
            parts += _given(one, make, train)
        if not parts:
            raise PotstillError("experts are needed, but none are given; give one at least, or leave experts out")
        needed = self.needed or int(self.recipe.get("epochs", PUBLISHED["epochs"]))
        if (short := min(part.epochs for part in parts)) < needed:
            raise PotstillError(
                f"experts of {needed} epochs are needed, but one that is given has {short}; give longer ones, or "
                "match earlier epochs"
            )
        return Trajectories(tuple(parts))

    def describe_work(self, missing: Sequence[ExpertTraining]) -> str:
        """Describe the missing trainings."""
        return describe_work(len(missing), missing[0].epochs).replace("network", "expert")

    def provenance(self, value: Trajectories, ground: AssetContext) -> Mapping[str, Mapping[str, Any]]:
        """By architecture, recipe and content."""
        recipe = {name: v for name, v in self.recipe.items() if name != "network"}
        return {"experts": {
            "asset": self.name, "network": self.recipe.get("network", ground.network.name), "count": len(value),
            "epochs": value.epochs, "recipe": {**PUBLISHED, **recipe}, "hash": value.digest,
        }}  # fmt: skip


def _given(one: Any, make: NetworkFactory, train: Source) -> list[Trajectory]:
    if isinstance(one, Trajectory):
        if layout_json(one.layout) != layout_json(Layout.of(make(0))):
            raise PotstillError(f"an expert that is given is no {make.name}; give experts of that network")
        if one.classes:
            check_class_order(one.classes, train.classes, "an expert that is given", "the data")
        return [one]
    if not isinstance(one, str | Path):
        return [_brought(found, make) for found in parse_buffer([one], "experts that are given", make)]
    path = Path(one)
    if path.is_dir():
        names = [p for p in path.iterdir() if p.suffix in (".pt", ".safetensors") and not p.name.startswith(".")]
        if not names:
            raise PotstillError(f"{path}: a folder without experts (.pt, .safetensors); give their folder or files")
        inside = sorted(names, key=lambda p: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", p.name)])
        return [part for file in inside for part in _given(file, make, train)]
    if path.suffix == ".safetensors":
        return [open_expert(path, make, train)]
    return [_brought(found, make) for found in read_replay_buffer(path, make)]


def _brought(found: BufferTrajectory, make: NetworkFactory) -> Trajectory:
    return Trajectory(
        seed=int(hashlib.sha256(found.digest.encode()).hexdigest()[:15], 16), epochs=found.epochs,
        layout=Layout.of(make(0)), device=make.device, read=found.read, digest=found.digest,
        memory_bytes=found.memory_bytes,
    )  # fmt: skip
