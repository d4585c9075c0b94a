"""Teachers and experts: networks trained on the real data, shared by all methods and runs that need the same ones.

Each is decided by the data, the architecture, the recipe and its number, and by nothing else, so that every run and
every method that asks for the same ones shares them. They are kept as safetensors files under the cache folder; one
that is there is not trained again, so that an interrupted preparation goes on where it was.

One training gives as many early-stopped networks as are wanted: a snapshot after each of some epochs, found again by
(recipe, epoch). Where the rate does not depend on the length of the training (schedule ``constant``), the snapshot
after e epochs has the bits of a training of e epochs, and both have one name in the cache. Elsewhere it has not: a
rate that falls over 50 epochs has hardly fallen after 10.
"""

import contextlib
import hashlib
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Int
from torch import Generator, Tensor, nn

from potstill._util.cache import make_cache_folder
from potstill._util.cache_dir import cache_dir
from potstill.core import AssetContext, Augmentation, NetworkFactory, NetworkWeights, Source
from potstill.data import stratify
from potstill.data.groups import get_groups, source_key
from potstill.data.iterate import shuffle_indices
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.functional.sharpness_aware import GSAM
from potstill.functional.train import copy_parameters
from potstill.kinds import get_kind
from potstill.labels.metadata import check_class_order
from potstill.labels.teacher import SGD, Teacher, fresh_teacher, train_epoch
from potstill.nn import factory
from potstill.pretraining.cache_keys import cache_key, machine_fingerprint, warn_other_machines
from potstill.pretraining.epoch_checkpoint import EpochCheckpoint, read_checkpoint, write_checkpoint
from potstill.pretraining.lazy_networks import InMemory, LazyNetworks, OnDisk, fits_network, read_network, write_network
from potstill.rng import derive_seed, generator

__all__ = [
    "Placeholder", "TrainNetwork", "TrainedNetworks", "Training", "describe_work", "training_jobs", "training_part",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Training(ABC):
    """Training of one network: SGD with momentum, the rate times 0.2 after 2/3 and 5/6 of the epochs.

    The recipe of IDC, DANCE and NCFM (pretrain.py): every epoch in a new order, per-sample augmentation, and CutMix in
    a part ``cutmix`` of the batches. ``schedule`` in the recipe says how the rate falls: ``steps`` as above,
    ``cosine`` along half a cosine to zero, epoch by epoch, ``constant``, or ``decay``: times 0.1 after epoch
    epochs // 2 + 1. ``holdout`` in the recipe is a part of each class that it does not see: see `training_part`.
    """

    called: ClassVar[str] = "network"
    """The trained network, in errors."""

    train: Source
    make: NetworkFactory
    augment: Augmentation
    recipe: Mapping[str, float | int | str]
    number: int
    snapshots: tuple[int, ...] = ()
    """Epochs after which the network is wanted; empty: after the last."""
    machine: Mapping[str, str] = field(default_factory=machine_fingerprint)
    """Fingerprint of the machine whose bits they are: the one that asks."""
    save_every: float = 60.0
    """Seconds between checkpoints; later work is repeated after an interruption."""

    def __post_init__(self) -> None:
        if odd := [epoch for epoch in self.snapshots if not 0 <= epoch <= self.epochs]:
            raise PotstillError(
                f"snapshots must lie in the {self.epochs} epochs of the training, but one is after {odd[0]}; train "
                "longer or leave it out"
            )

    @property
    def full_recipe(self) -> Mapping[str, float | int | str]:
        """Return the recipe with its defaults."""
        return {"schedule": "steps", "cutmix": 0.0, "holdout": 0.0, **self.recipe}

    @property
    def key_recipe(self) -> dict[str, float | int | str]:
        """Return the settings that decide an epoch's bits: without ``epochs`` if the rate does not depend on it."""
        return {name: value for name, value in self.recipe.items() if name != "epochs" or not self.any_length}

    @property
    def any_length(self) -> bool:
        """Return True if an epoch is the same in a training of any length."""
        return self.full_recipe["schedule"] == "constant"

    @property
    def epochs(self) -> int:
        """Return the passes over the data that the recipe asks for."""
        return int(self.full_recipe["epochs"])

    @property
    def until(self) -> int:
        """Return the epochs that are wanted."""
        return self.epochs

    @property
    def seed(self) -> int:
        """Seed of the initial parameters."""
        return derive_seed(0, "asset", self.called, self.number)

    @property
    def index(self) -> Int[Tensor, " m"]:
        """Return the training samples."""
        return training_part(self.train, float(self.full_recipe["holdout"]))

    @property
    def gsam(self) -> GSAM | None:
        """Return the settings of steps to flat minima, or ``None``."""
        return None

    @property
    @abstractmethod
    def progress(self) -> Path:
        """Return the checkpoint file of a training under way."""

    def cache_name(self, **more: Any) -> str:
        """Return the name for everything that decides the bits; ``more``: recipe and version."""
        n = self.train.normalization
        whitening = [] if n.whitening is None else [
            hashlib.sha256(t.cpu().numpy().tobytes()).hexdigest() for t in (n.whitening.mean, n.whitening.matrix)
        ]  # fmt: skip
        what = {
            "data": source_key(self.train, bool(self.full_recipe["holdout"])), "mean": n.mean.tolist(),
            "std": n.std.tolist(), "whitening": whitening, "network": self.make.name, "augment": repr(self.augment),
            "number": self.number, **more,
        }  # fmt: skip
        return cache_key(what, self.machine, self.make.device)

    def estimate(self) -> tuple[Callable[[], object], float]:
        """A batch of the training, which leaves nothing behind, and how many samples it has."""
        size = min(int(self.full_recipe["batch"]), len(self.train))
        net, first = self.make(self.seed).train(), self.first()
        return lambda: self._pass(net, first.teacher, torch.arange(size), generator(0, "trial"), 0.0), size

    def first(self) -> EpochCheckpoint:
        """Return the state before the first epoch."""
        rng = generator(self.seed, "training", json.dumps(self.key_recipe, sort_keys=True)).get_state()
        return EpochCheckpoint(epoch=0, teacher=fresh_teacher(self.make(self.seed)), rng=rng, seconds=0.0)

    def saved(self) -> EpochCheckpoint:
        """Return the last checkpoint, or the state before the first epoch if there is none or it is damaged."""
        return read_checkpoint(self.progress, self.first())

    def remaining(self) -> float:
        """Return the samples that training will still pass."""
        return max(0, self.until - self.saved().epoch) * len(self.index)

    def train_from(self, state: EpochCheckpoint) -> Iterator[EpochCheckpoint]:
        """Train; yield the state after each epoch that is wanted. ``seconds`` counts what the caller does meanwhile.

        Raises:
            PotstillError: it did not stay finite.
        """
        if state.epoch >= self.until:
            return
        started, net, rng = time.monotonic() - state.seconds, self.make(self.seed), Generator()
        rng.set_state(state.rng)
        samples = self.epoch_samples()
        for epoch in range(state.epoch, self.until):
            order = shuffle_indices(self.train, samples(epoch), rng)
            lr = float(self.full_recipe["lr"]) * _fall(str(self.full_recipe["schedule"]), epoch, self.epochs)
            teacher = self._pass(net.train(), state.teacher, order, rng, lr)
            if not all(math.isfinite(float(p.sum())) for p in teacher.params.values()):
                raise PotstillError(
                    f"{self.called} {self.number} of {self.make.name} did not stay finite in epoch {epoch + 1}; lower "
                    "its learning rate"
                )
            seconds = time.monotonic() - started
            state = EpochCheckpoint(epoch=epoch + 1, teacher=teacher, rng=rng.get_state(), seconds=seconds)
            yield state

    def epoch_samples(self) -> Callable[[int], Tensor]:
        """Return a function from an epoch to the samples that it sees."""
        index = self.index
        return lambda epoch: index

    def _pass(self, net: nn.Module, teacher: Teacher, order: Tensor, rng: Generator, lr: float) -> Teacher:
        r = self.full_recipe
        sgd = SGD(batch=int(r["batch"]), lr=lr, momentum=float(r["momentum"]), weight_decay=float(r["weight_decay"]))
        return train_epoch(
            net, teacher, self.train, order, rng, sgd, augment=self.augment, cutmix=float(r["cutmix"]), flat=self.gsam
        )

    def trained(self, state: EpochCheckpoint) -> NetworkWeights:
        """Return the network of a state."""
        return NetworkWeights(
            seed=self.seed, parameters=state.teacher.params, buffers=state.teacher.buffers, epoch=state.epoch,
            classes=self.train.classes,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainNetwork(Training):
    """Training job of one network (an `potstill.core.AssetJob`) that gives `LazyNetworks` of its stops."""

    @property
    def stops(self) -> tuple[int, ...]:
        """Return the epochs after which the network is wanted, ascending."""
        return tuple(sorted(set(self.snapshots))) or (self.epochs,)

    @property
    def until(self) -> int:
        return self.stops[-1]

    def __call__(self) -> tuple[NetworkWeights, float]:
        """Return the trained network after its last stop, and the seconds that it took."""
        return self.run()[-1]

    def run(self) -> list[tuple[NetworkWeights, float]]:
        """Train; return the network at each stop, and the seconds up to there.

        A long training is written to the cache about every minute; an interrupted one resumes from there.

        Raises:
            PotstillError: it did not stay finite.
        """
        begin, written = self.saved(), time.monotonic()
        if [stop.epoch for stop, _ in begin.stops] != [stop for stop in self.stops if 0 < stop <= begin.epoch]:
            begin = self.first()  # it had other stops
        stops = [(self.trained(self.first()), 0.0)] if self.stops[0] == 0 else []
        stops += begin.stops
        for state in self.train_from(begin):
            if state.epoch in self.stops:
                stops.append((self.trained(state), state.seconds))
            if state.epoch < self.until and time.monotonic() - written > self.save_every:
                with contextlib.suppress(OSError):  # a failure costs time after an interruption, not the result
                    write_checkpoint(self.progress, replace(state, stops=tuple(stops[self.stops[0] == 0 :])))
                written = time.monotonic()
        return stops

    @property
    def progress(self) -> Path:
        return self.path(self.until).with_suffix(".progress")

    def path(self, epoch: int | None = None) -> Path:
        """Return the cache file of the network after ``epoch`` (the last), named by everything that decides its
        bits.
        """
        epoch = self.epochs if epoch is None else epoch
        if self.any_length:  # of any training that is as long
            name = self.cache_name(recipe={**self.recipe, "epochs": epoch}, version=6)
        else:
            name = self.cache_name(
                recipe=dict(self.recipe), version=5, **({} if epoch == self.epochs else {"epoch": epoch})
            )
        return cache_dir() / "networks" / f"{name}.safetensors"

    def is_cached(self) -> bool:
        """Return True if all stops seem to be in the cache."""
        return all(self.path(epoch).exists() for epoch in self.stops)

    def load(self) -> LazyNetworks | None:
        """Return the cached stops, each checked now and read when asked for; ``None`` if one is missing.

        Raises:
            PotstillError: as `load_epoch`.
        """
        readers, seconds = list[OnDisk](), 0.0
        for epoch in self.stops:
            if (found := self.load_epoch(epoch)) is None:
                warn_other_machines(self.path(epoch), "trained networks")
                return None
            readers.append(OnDisk(self.path(epoch), self.make.device))
            seconds = found[1]
        return LazyNetworks(tuple(readers), seconds)

    def build(self) -> tuple[LazyNetworks, str] | None:
        """Train and cache all stops; if they cannot be cached, return them and the reason."""
        stops = self.run()
        why = [error for stop in stops if (error := self.save(*stop))]
        return (_in_memory(stops), why[-1]) if why else None

    def compute(self) -> LazyNetworks:
        """Its stops in memory."""
        return _in_memory(self.run())

    def load_epoch(self, epoch: int | None = None) -> tuple[NetworkWeights, float] | None:
        """Read the cached network after ``epoch`` (the last), or ``None`` if it is missing or damaged.

        Raises:
            PotstillError: it was trained on the classes in another order; both are shown.
        """
        path = self.path(epoch)
        try:
            trained, seconds = read_network(path, self.make.device)
        except PotstillError:
            return None  # not there or not readable: it is made again and written anew
        if not fits_network(trained, self.make(self.seed)):
            return None
        check_class_order(trained.classes, self.train.classes, f"the kept network {path.name}", "the data")
        return trained, seconds

    def save(self, trained: NetworkWeights, seconds: float) -> str:
        """Write the network to the cache. Return why that failed, or nothing."""
        path = self.path(trained.epoch)
        try:
            make_cache_folder(path.parent)
            write_network(path, trained, seconds)
            if trained.epoch == self.until:
                self.progress.unlink(missing_ok=True)
        except OSError as error:
            return f"{path.parent}: cannot be written ({error.strerror})"
        except PotstillError as error:
            return str(error)
        return ""


def training_part(train: Source, part: float) -> Int[Tensor, " m"]:
    """Return the samples that a training with ``holdout`` of ``part`` sees: the same for all, every sample if it is 0.

    The rest serves to choose on: a stop, a rate. The split is stratified, depends on the labels alone, and keeps
    groups whole.

    Raises:
        PotstillError: ``part`` is not in [0, 1).
    """
    return stratify(train.labels, part, 0, get_groups(train))[0] if part else torch.arange(len(train))


def _fall(schedule: str, epoch: int, epochs: int) -> float:
    """Return the factor of the learning rate."""
    if schedule == "cosine":
        return (1 + math.cos(math.pi * epoch / epochs)) / 2
    if schedule == "decay":
        return 0.1 if epoch > epochs // 2 + 1 else 1.0
    return 1.0 if schedule == "constant" else 0.2 ** sum(epoch >= m for m in (2 * epochs // 3, 5 * epochs // 6))


@dataclass(frozen=True)
class Placeholder:
    """Untrained network of the size of a trained one."""

    job: Training
    epoch: int

    def __call__(self) -> NetworkWeights:
        net = self.job.make(self.job.seed)
        buffers = {n: b.detach().clone() for n, b in net.named_buffers()}
        return NetworkWeights(seed=self.job.seed, parameters=copy_parameters(net), buffers=buffers, epoch=self.epoch)


def _in_memory(stops: Sequence[tuple[NetworkWeights, float]]) -> LazyNetworks:
    return LazyNetworks(tuple(InMemory(trained) for trained, _ in stops), stops[-1][1])


def describe_work(networks: int, epochs: int) -> str:
    """Describe trainings in words."""
    some = f"{networks:,} networks" if networks > 1 else "1 network"
    return f"training {some} for {epochs:,} epochs"


J = TypeVar("J", bound=Training)


def training_jobs(
    job: type[J], ground: AssetContext, count: int, recipe: Mapping[str, float | int | str],
    snapshots: tuple[int, ...] = (),
) -> tuple[J, ...]:  # fmt: skip
    """Return ``count`` trainings of type ``job``.

    Args:
        recipe: settings of `Training`; ``network`` names another architecture, ``augment`` an augmentation.

    Raises:
        PotstillError: there is no such network, or it cannot eat such inputs.
    """
    train, make = ground.train, ground.network
    if "network" in recipe:
        name, k = str(recipe["network"]), len(train.classes)
        make = factory(name, train.input, k, make.device, normalization=train.normalization)
    settings = {n: value for n, value in recipe.items() if n != "network"}
    picture = get_kind(train.input).augmentable
    augment = ground.augmentation(str(settings.get("augment", "none")) if picture else "none")
    return tuple(
        job(train=train, make=make, augment=augment, recipe=settings, number=n, snapshots=snapshots)
        for n in range(count)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedNetworks:
    """Asset of trained networks (an `potstill.core.Asset`): a sequence by number, a network's stops by epoch."""

    name: str
    count: int
    recipe: Mapping[str, float | int | str]
    """Settings of `Training`; ``network`` names another architecture, ``augment`` an augmentation."""
    snapshots: tuple[int, ...] = ()
    """Epochs after which each network is wanted, from one training; empty: after the last."""
    labels: bool = False
    """True if these are the method's teachers, which label its result where a protocol lets teachers label."""

    def jobs(self, ground: AssetContext) -> tuple[TrainNetwork, ...]:
        """Return a training for each network. Errors as of `training_jobs`."""
        return training_jobs(TrainNetwork, ground, self.count, self.recipe, self.snapshots)

    def open(self, parts: Sequence[LazyNetworks]) -> LazyNetworks:
        """Return all networks as one lazily read sequence."""
        return LazyNetworks(tuple(r for part in parts for r in part.readers), sum(part.seconds for part in parts))

    def placeholder(self, jobs: Sequence[TrainNetwork]) -> LazyNetworks:
        """Return untrained networks of the same size."""
        return LazyNetworks(tuple(Placeholder(job, epoch) for job in jobs for epoch in job.stops))

    def adopt(self, value: Any, ground: AssetContext) -> LazyNetworks:
        """Networks that somebody brings: values, or paths of files that an earlier run kept; at least as many.

        Raises:
            PotstillError: they are too few, of another architecture, or of classes in another order.
        """
        jobs = self.jobs(ground)
        brought = [value] if isinstance(value, str | Path | NetworkWeights) else list(value)
        if len(brought) < (wanted := sum(len(job.stops) for job in jobs)):
            raise PotstillError(f"{wanted} trained networks are needed, but {len(brought)} are given; give more")
        return LazyNetworks(tuple(_read_network(one, jobs[0], ground.train) for one in brought[:wanted]))

    def describe_work(self, missing: Sequence[TrainNetwork]) -> str:
        """Describe the missing trainings."""
        return describe_work(len(missing), missing[0].stops[-1])

    def provenance(self, value: Sequence[NetworkWeights], ground: AssetContext) -> Mapping[str, Mapping[str, Any]]:
        """By architecture, recipe and content."""
        return {"teachers": {
            "asset": self.name, "labels": self.labels, "network": self.recipe.get("network", ground.network.name),
            "recipe": dict(self.recipe),
            "networks": [{"epoch": t.epoch, "hash": hash_tensors({**t.parameters, **t.buffers})} for t in value],
        }}  # fmt: skip


def _read_network(one: Any, job: TrainNetwork, train: Source) -> Callable[[], NetworkWeights]:
    is_value = isinstance(one, NetworkWeights)
    what, read = (
        ("a network that is given", InMemory(one)) if is_value else (str(one), OnDisk(Path(one), job.make.device))
    )
    trained = one if is_value else read_network(Path(one), job.make.device)[0]
    if not fits_network(trained, job.make(0)):
        raise PotstillError(f"{what}: must be a {job.make.name}, but is another; give such a one, or say its network")
    if trained.classes:
        check_class_order(trained.classes, train.classes, what, "the data")
    return read
