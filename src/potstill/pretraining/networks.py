"""Teachers and experts: networks trained on the real data, shared by all methods and runs that need the same ones.

Each is decided by the data, the architecture, the recipe and its number, and by nothing else, so that every run and
every method that asks for the same ones shares them. They are kept as safetensors files under the cache folder; one
that is there is not trained again, so that an interrupted preparation goes on where it was.

One training gives as many early-stopped networks as are wanted: a snapshot after each of some epochs, found again by
(recipe, epoch). Where the rate does not depend on the length of the training (schedule ``constant``), the snapshot
after e epochs has the bits of a training of e epochs, and both have one name in the cache. Elsewhere it has not: a
rate that falls over 50 epochs has hardly fallen after 10.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from potstill._util.cache import make_cache_folder
from potstill._util.cache_dir import cache_dir
from potstill.core import AssetContext, Augmentation, Network, NetworkFactory, NetworkWeights, Source
from potstill.data import stratify
from potstill.data.groups import get_groups, source_key
from potstill.data.iterate import shuffle_indices
from potstill.dataset_file import read_tensors, write_tensors
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.functional.train import copy_parameters
from potstill.kinds import get_kind
from potstill.labels.metadata import check_class_order
from potstill.labels.teacher import SGD, Teacher, fresh_teacher, train_epoch
from potstill.nn import factory
from potstill.pretraining.cache_keys import cache_key, machine_fingerprint, warn_other_machines
from potstill.pretraining.epoch_checkpoint import EpochCheckpoint, read_checkpoint, write_checkpoint
from potstill.pretraining.lazy_networks import MAX_BYTES, InMemory, LazyNetworks, OnDisk, split_tensors
from potstill.rng import derive_seed, generator

__all__ = ["Placeholder", "TrainNetwork", "TrainedNetworks", "Training", "describe_work", "training_part"]

EVERY = 60.0
"""Least number of seconds between two checkpoints of a training."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training of one network: SGD with momentum, the rate times 0.2 after 2/3 and 5/6 of the epochs.

    The recipe of IDC, DANCE and NCFM (pretrain.py): every epoch in a new order, per-sample augmentation, and CutMix in
    a part ``cutmix`` of the batches. ``schedule`` in the recipe says how the rate falls: ``steps`` as above,
    ``cosine`` along half a cosine to zero, epoch by epoch, or ``constant``. ``holdout`` in the recipe is a part of
    each class that it does not see: see `training_part`.
    """

    train: Source
    make: NetworkFactory
    augment: Augmentation
    recipe: Mapping[str, float | int | str]
    number: int
    snapshots: tuple[int, ...] = ()
    """Epochs after which the network is wanted; empty: after the last."""
    machine: Mapping[str, str] = field(default_factory=machine_fingerprint)
    """Fingerprint of the machine whose bits they are: the one that asks."""

    def __post_init__(self) -> None:
        if odd := [epoch for epoch in self.snapshots if not 0 <= epoch <= self.epochs]:
            raise PotstillError(
                f"snapshots must lie in the {self.epochs} epochs of the training, but one is after {odd[0]}; train "
                "longer or leave it out"
            )

    @property
    def epochs(self) -> int:
        """Return the passes over the data that the recipe asks for."""
        return int(self.recipe["epochs"])

    @property
    def stops(self) -> tuple[int, ...]:
        """Return the epochs after which the network is wanted, ascending."""
        return tuple(sorted(set(self.snapshots))) or (self.epochs,)

    @property
    def seed(self) -> int:
        """Seed of the initial parameters."""
        return derive_seed(0, "asset", "network", self.number)

    def identity(self, is_held_out: bool) -> dict[str, Any]:
        """Return what decides the bits beside recipe and machine, for cache keys."""
        n = self.train.normalization
        whitening = [] if n.whitening is None else [
            hashlib.sha256(t.cpu().numpy().tobytes()).hexdigest() for t in (n.whitening.mean, n.whitening.matrix)
        ]  # fmt: skip
        return {
            "data": source_key(self.train, is_held_out), "mean": n.mean.tolist(), "std": n.std.tolist(),
            "whitening": whitening, "network": self.make.name, "augment": repr(self.augment), "number": self.number,
        }  # fmt: skip

    def estimate(self) -> tuple[Callable[[], object], float]:
        """A batch of the training, which leaves nothing behind, and how many samples it has."""
        net, size = self.make(self.seed).train(), min(int(self.recipe["batch"]), len(self.train))
        made = fresh_teacher(net)

        def batch() -> object:
            return train_epoch(
                net, made, self.train, torch.arange(size), generator(0, "trial"),
                SGD(batch=size, lr=0.0, momentum=0.9, weight_decay=5e-4), augment=self.augment,
                cutmix=float(self.recipe.get("cutmix", 0)),
            )  # fmt: skip

        return batch, size

    def _pass(self, net: Network, teacher: Teacher, index: Tensor, rng: Generator, epoch: int) -> Teacher:
        r = self.recipe
        lr = float(r["lr"]) * _fall(str(r.get("schedule", "steps")), epoch, self.epochs)
        momentum, weight_decay = float(r["momentum"]), float(r["weight_decay"])
        return train_epoch(
            net, teacher, self.train, shuffle_indices(self.train, index, rng), rng,
            SGD(batch=int(r["batch"]), lr=lr, momentum=momentum, weight_decay=weight_decay), augment=self.augment,
            cutmix=float(r.get("cutmix", 0)),
        )  # fmt: skip

    def _rng(self) -> Generator:
        said = dict(self.recipe)
        if self._any_length:
            del said["epochs"]
        return generator(self.seed, "training", json.dumps(said, sort_keys=True))

    @property
    def _any_length(self) -> bool:
        """Return True if an epoch is the same in a training of any length."""
        return self.recipe.get("schedule") == "constant"

    def _trained(self, teacher: Teacher, epoch: int) -> NetworkWeights:
        if not all(math.isfinite(float(p.sum())) for p in teacher.params.values()):
            raise PotstillError(
                f"network {self.number} of {self.make.name} did not stay finite in training; lower its learning rate"
            )
        theta, buffers, classes = teacher.params, teacher.buffers, self.train.classes
        return NetworkWeights(seed=self.seed, parameters=theta, buffers=buffers, epoch=epoch, classes=classes)


@dataclass(frozen=True, kw_only=True)
class TrainNetwork(Training):
    """Training job of one network (an `potstill.core.AssetJob`) that gives `LazyNetworks` of its stops."""

    def __call__(self) -> tuple[NetworkWeights, float]:
        """Return the trained network after its last stop, and the seconds that it took."""
        return self.run()[-1]

    def run(self) -> list[tuple[NetworkWeights, float]]:
        """Train; return the network at each stop, and the seconds up to there.

        A long training is written to the cache about every minute; an interrupted one resumes from there.

        Raises:
            PotstillError: it did not stay finite.
        """
        started, net, rng = time.monotonic(), self.make(self.seed).train(), self._rng()
        teacher, stops, first, last = fresh_teacher(net), list[tuple[NetworkWeights, float]](), 0, self.stops[-1]
        index = training_part(self.train, float(self.recipe.get("holdout", 0)))
        key, written = json.dumps(self.stops), started
        if (checkpoint := read_checkpoint(self.progress(), teacher, key, self.seed, self.train.classes)) is not None:
            teacher, first, stops = checkpoint.teacher, checkpoint.epoch, [*checkpoint.stops]
            started -= checkpoint.seconds
            rng.set_state(checkpoint.rng)
        for epoch in range(first, last + 1):
            if epoch in self.stops and all(stop.epoch != epoch for stop, _ in stops):
                stops.append((self._trained(teacher, epoch), time.monotonic() - started))
            if epoch < last:
                teacher = self._pass(net, teacher, index, rng, epoch)
            if epoch + 1 < last and (now := time.monotonic()) - written > EVERY:
                state = EpochCheckpoint(
                    epoch=epoch + 1, teacher=teacher, rng=rng.get_state(), seconds=now - started, stops=tuple(stops)
                )  # fmt: skip
                write_checkpoint(self.progress(), state, key)
                written = time.monotonic()
        return stops

    def progress(self) -> Path:
        """Return the checkpoint file of a training under way."""
        return self.path(self.stops[-1]).with_suffix(".progress")

    def path(self, epoch: int | None = None) -> Path:
        """Return the cache file of the network after ``epoch`` (the last), named by everything that decides its
        bits.
        """
        epoch = self.epochs if epoch is None else epoch
        what = {**self.identity(bool(self.recipe.get("holdout"))), "recipe": dict(self.recipe), "version": 5}
        if self._any_length:
            what |= {"recipe": {**self.recipe, "epochs": epoch}, "version": 6}  # of any training that is as long
        elif epoch != self.epochs:
            what["epoch"] = epoch
        return cache_dir() / "networks" / f"{cache_key(what, self.machine, self.make.device)}.safetensors"

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
            readers.append(OnDisk.of(self.path(epoch), found[0], self.make.device))
            seconds = found[1]
        return LazyNetworks(tuple(readers), seconds)

    def build(self) -> tuple[LazyNetworks, str] | None:
        """Train and cache all stops; if they cannot be cached, return them and the reason."""
        stops = self.run()
        why = [said for stop in stops if (said := self.save(*stop))]
        return (_in_memory(stops), why[-1]) if why else None

    def compute(self) -> LazyNetworks:
        """Its stops in memory."""
        return _in_memory(self.run())

    def remaining(self) -> float:
        """Return the samples that training will still pass."""
        first = fresh_teacher(self.make(self.seed))
        begun = read_checkpoint(self.progress(), first, json.dumps(self.stops), self.seed, self.train.classes)
        epochs = self.stops[-1] - (0 if begun is None else begun.epoch)
        return epochs * len(training_part(self.train, float(self.recipe.get("holdout", 0))))

    def load_epoch(self, epoch: int | None = None) -> tuple[NetworkWeights, float] | None:
        """Read the cached network after ``epoch`` (the last), or ``None`` if it is missing or damaged.

        Raises:
            PotstillError: it was trained on the classes in another order; both are shown.
        """
        epoch = self.epochs if epoch is None else epoch
        try:
            tensors, metadata = read_tensors(self.path(epoch), MAX_BYTES)
            seconds = float(metadata["seconds"])
            classes = tuple(json.loads(metadata["classes"]))
        except (PotstillError, KeyError, ValueError, TypeError):
            return None  # not there or not readable: it is made again and written anew
        net = self.make(self.seed)
        wanted = {f"parameters/{n}": p.shape for n, p in net.named_parameters()}
        wanted |= {f"buffers/{n}": b.shape for n, b in net.named_buffers()}
        if {n: t.shape for n, t in tensors.items()} != wanted:
            return None
        check_class_order(classes, self.train.classes, f"the kept network {self.path(epoch).name}", "the data")
        parts = split_tensors(tensors, self.make.device)
        return NetworkWeights(seed=self.seed, **parts, epoch=epoch, classes=classes), seconds

    def save(self, trained: NetworkWeights, seconds: float) -> str:
        """Write the network to the cache. Return why that failed, or nothing."""
        tensors = {f"parameters/{n}": t.cpu() for n, t in trained.parameters.items()}
        tensors |= {f"buffers/{n}": t.cpu() for n, t in trained.buffers.items()}
        path = self.path(trained.epoch)
        try:
            make_cache_folder(path.parent)
            metadata = {"seconds": repr(seconds), "classes": json.dumps(trained.classes), "seed": str(trained.seed)}
            write_tensors(path, tensors, metadata | {"epoch": str(trained.epoch)})
            if trained.epoch == self.stops[-1]:
                self.progress().unlink(missing_ok=True)
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
        """Return a training for each network.

        Raises:
            PotstillError: there is no such network, or it cannot eat such inputs.
        """
        train, make = ground.train, ground.network
        recipe = {n: value for n, value in self.recipe.items() if n != "network"}
        if "network" in self.recipe:
            name, k = str(self.recipe["network"]), len(train.classes)
            make = factory(name, train.input, k, make.device, normalization=train.normalization)
        picture = get_kind(train.input).augmentable
        augment = ground.augmentation(str(recipe.get("augment", "none")) if picture else "none")
        return tuple(
            TrainNetwork(train=train, make=make, augment=augment, recipe=recipe, number=n, snapshots=self.snapshots)
            for n in range(self.count)
        )

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
    read = InMemory(one) if isinstance(one, NetworkWeights) else _file(Path(one), job.make.device)
    trained, what = read(), "a network that is given" if isinstance(one, NetworkWeights) else str(one)
    net = job.make(0)
    shapes = {n: t.shape for n, t in (*net.named_parameters(), *net.named_buffers())}
    if {n: t.shape for n, t in {**trained.parameters, **trained.buffers}.items()} != shapes:
        raise PotstillError(f"{what}: must be a {job.make.name}, but is another; give such a one, or say its network")
    if trained.classes:
        check_class_order(trained.classes, train.classes, what, "the data")
    return read


def _file(path: Path, device: torch.device) -> OnDisk:
    """A network that an earlier run kept, by what the file says of itself."""
    said = read_tensors(path, MAX_BYTES)[1]
    try:
        epoch, classes = int(said["epoch"]) if "epoch" in said else None, tuple(json.loads(said.get("classes", "[]")))
        return OnDisk(path=path, seed=int(said.get("seed", "0")), epoch=epoch, classes=classes, device=device)
    except (TypeError, ValueError) as error:
        raise PotstillError(f"{path}: not a trained network ({error}); get the file again") from error
