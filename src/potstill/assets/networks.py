"""Networks trained on the real data: what methods match in that look at more than random networks.

Each is decided by the data, the architecture, the recipe and its number, and by nothing else, so that every run and
every method that asks for the same ones shares them. They are kept as safetensors files under the cache folder; one
that is there is not trained again, so that an interrupted preparation goes on where it was.

One training gives as many early-stopped networks as are wanted: a snapshot after each of some epochs, found again by
(recipe, epoch). Where the rate does not depend on the length of the training (schedule ``constant``), the snapshot
after e epochs has the bits of a training of e epochs, and both have one name in the cache. Elsewhere it has not: a rate
that falls over 50 epochs has hardly fallen after 10.
"""

import hashlib
import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from potstill.assets.progress import UnderWay, read_progress, write_progress
from potstill.core import AssetSpec, Augmentation, Network, NetworkFactory, Source, Trained
from potstill.data import stratify
from potstill.data.passes import shuffled
from potstill.errors import PotstillError, PotstillWarning
from potstill.execution import Executor, choose
from potstill.nn import factory
from potstill.rng import derive, generator
from potstill.storage import cache_folder, read_tensors, write_tensors
from potstill.supervise.about import same_order
from potstill.supervise.teacher import Teacher, fresh_teacher, train_epoch

__all__ = ["TrainNetwork", "jobs_of", "kept_part", "not_kept", "obtain_networks"]

MAX_BYTES = 4 * 2**30
"""A file of the cache that is larger is not read."""
EVERY = 60.0
"""Seconds between two writings of a training that is under way, at least."""


@dataclass(frozen=True, kw_only=True)
class TrainNetwork:
    """The training of one network as a job: SGD with momentum, the rate times 0.2 after 2/3 and 5/6 of the epochs.

    The recipe of IDC, DANCE and NCFM (pretrain.py): every epoch in a new order, per-sample augmentation, and CutMix in
    a part ``cutmix`` of the batches. ``schedule`` in the recipe says how the rate falls: ``steps`` as above,
    ``cosine`` along half a cosine to zero, epoch by epoch, or ``constant``. ``holdout`` in the recipe is a part of each
    class that it does not see: see `kept_part`.
    """

    train: Source
    make: NetworkFactory
    augment: Augmentation
    recipe: Mapping[str, float | int | str]
    number: int
    snapshots: tuple[int, ...] = ()
    """Epochs after which it is wanted; none: after the last."""

    def __post_init__(self) -> None:
        if odd := [epoch for epoch in self.snapshots if not 0 <= epoch <= self.epochs]:
            raise PotstillError(
                f"snapshots must lie in the {self.epochs} epochs of the training, but one is after {odd[0]}; train "
                "longer or leave it out"
            )

    @property
    def epochs(self) -> int:
        """Passes over the data that the recipe says."""
        return int(self.recipe["epochs"])

    @property
    def stops(self) -> tuple[int, ...]:
        """The epochs after which it is wanted, ascending."""
        return tuple(sorted(set(self.snapshots))) or (self.epochs,)

    @property
    def seed(self) -> int:
        """What its first parameters are made from."""
        return derive(0, "asset", "network", self.number)

    def __call__(self) -> tuple[Trained, float]:
        """The trained network after the last of its stops, and the seconds that it took."""
        return self.run()[-1]

    def run(self) -> list[tuple[Trained, float]]:
        """One training: the network at each of its stops, and the seconds up to there.

        A long one is written to the cache after an epoch, about every minute; one that was stopped goes on from there.

        Raises:
            PotstillError: it did not stay finite.
        """
        begun, net, rng = time.monotonic(), self.make(self.seed).train(), self._rng()
        made, found, first, last = fresh_teacher(net), list[tuple[Trained, float]](), 0, self.stops[-1]
        index = kept_part(self.train.labels, float(self.recipe.get("holdout", 0)))
        key, written = json.dumps(self.stops), begun
        if (old := read_progress(self.progress(), made, key, self.seed, self.train.classes)) is not None:
            made, first, found = old.teacher, old.epoch, [*old.stops]
            begun -= old.seconds
            rng.set_state(old.rng)
        for epoch in range(first, last + 1):
            if epoch in self.stops and all(stop.epoch != epoch for stop, _ in found):
                found.append((self._trained(made, epoch), time.monotonic() - begun))
            if epoch < last:
                made = self._pass(net, made, index, rng, epoch)
            if epoch + 1 < last and (now := time.monotonic()) - written > EVERY:
                state = UnderWay(
                    epoch=epoch + 1, teacher=made, rng=rng.get_state(), seconds=now - begun, stops=tuple(found)
                )  # fmt: skip
                write_progress(self.progress(), state, key)
                written = time.monotonic()
        return found

    def progress(self) -> Path:
        """Where it is written while it is under way."""
        return self.path(self.stops[-1]).with_suffix(".progress")

    def _pass(self, net: Network, made: Teacher, index: Tensor, rng: Generator, epoch: int) -> Teacher:
        r = self.recipe
        return train_epoch(
            net, made, self.train, shuffled(self.train, index, rng), rng, batch=int(r["batch"]),
            lr=float(r["lr"]) * _fall(str(r.get("schedule", "steps")), epoch, self.epochs),
            momentum=float(r["momentum"]), weight_decay=float(r["weight_decay"]), augment=self.augment,
            cutmix=float(r.get("cutmix", 0)),
        )  # fmt: skip

    def _rng(self) -> Generator:
        said = dict(self.recipe)
        if self._any_length:
            del said["epochs"]
        return generator(self.seed, "training", json.dumps(said, sort_keys=True))

    @property
    def _any_length(self) -> bool:
        """Whether an epoch is the same in a training of any length."""
        return self.recipe.get("schedule") == "constant"

    def _trained(self, made: Teacher, epoch: int) -> Trained:
        if not all(math.isfinite(float(p.sum())) for p in made.params.values()):
            raise PotstillError(
                f"network {self.number} of {self.make.name} did not stay finite in training; lower its learning rate"
            )
        theta, buffers, classes = made.params, made.buffers, self.train.classes
        return Trained(seed=self.seed, theta=theta, buffers=buffers, epoch=epoch, classes=classes)

    def path(self, epoch: int | None = None) -> Path:
        """Where it is kept as it is after ``epoch`` (the last): a name made of everything that decides its bits."""
        n, epoch = self.train.normalization, self.epochs if epoch is None else epoch
        white = [] if n.whitening is None else [
            hashlib.sha256(t.cpu().numpy().tobytes()).hexdigest() for t in (n.whitening.mean, n.whitening.matrix)
        ]  # fmt: skip
        what = {
            "data": self.train.content_hash, "mean": n.mean.tolist(), "std": n.std.tolist(), "whitening": white,
            "network": self.make.name, "augment": repr(self.augment), "recipe": dict(self.recipe),
            "number": self.number, "version": 3,
        }  # fmt: skip
        if self._any_length:
            what |= {"recipe": {**self.recipe, "epochs": epoch}, "version": 4}  # of any training that is as long
        elif epoch != self.epochs:
            what["epoch"] = epoch
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        return cache_folder() / "networks" / f"{key}.safetensors"

    def kept(self, epoch: int | None = None) -> tuple[Trained, float] | None:
        """What an earlier run made of it, as it was after ``epoch`` (the last), if that is there and whole.

        Raises:
            PotstillError: it was trained on the classes in another order; both are shown.
        """
        epoch = self.epochs if epoch is None else epoch
        try:
            tensors, metadata = read_tensors(self.path(epoch), MAX_BYTES)
            seconds = float(metadata["seconds"])
            # Files from before the order was written are named by a hash that covers it.
            classes = tuple(json.loads(metadata["classes"])) if "classes" in metadata else self.train.classes
        except (PotstillError, KeyError, ValueError, TypeError):
            return None  # not there or not readable: it is made again and written anew
        net = self.make(self.seed)
        wanted = {f"theta/{n}": p.shape for n, p in net.named_parameters()}
        wanted |= {f"buffers/{n}": b.shape for n, b in net.named_buffers()}
        if {n: t.shape for n, t in tensors.items()} != wanted:
            return None
        same_order(classes, self.train.classes, f"the kept network {self.path(epoch).name}", "the data")
        parts: dict[str, dict[str, Tensor]] = {"theta": {}, "buffers": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor.to(self.make.device)
        made = Trained(seed=self.seed, theta=parts["theta"], buffers=parts["buffers"], epoch=epoch, classes=classes)
        return made, seconds

    def keep(self, trained: Trained, seconds: float) -> str:
        """Write it for later runs. A cache that cannot be written costs time, not the result: why, or nothing."""
        tensors = {f"theta/{n}": t.cpu() for n, t in trained.theta.items()}
        tensors |= {f"buffers/{n}": t.cpu() for n, t in trained.buffers.items()}
        path = self.path(trained.epoch)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(path, tensors, {"seconds": repr(seconds), "classes": json.dumps(trained.classes)})
            if trained.epoch == self.stops[-1]:
                self.progress().unlink(missing_ok=True)
        except OSError as error:
            return f"{path.parent}: cannot be written ({error.strerror})"
        except PotstillError as error:
            return str(error)
        return ""


def not_kept(what: str, why: str) -> None:
    """Warn that something will have to be made again by the next run."""
    warnings.warn(
        f"{what} could not be kept, and will be made again when it is wanted again: {why}; free space, or set "
        "POTSTILL_CACHE to a folder that can be written",
        PotstillWarning, stacklevel=2,
    )  # fmt: skip


def kept_part(labels: Int[Tensor, " n"], part: float) -> Int[Tensor, " m"]:
    """The samples that a training with ``holdout`` of ``part`` sees: the same ones whoever asks, all where it is 0.

    What it does not see is of use to choose on: a stop, a rate. The cut is stratified and depends on the labels alone.

    Raises:
        PotstillError: ``part`` is not in [0, 1).
    """
    return stratify(labels, part, 0)[0] if part else torch.arange(len(labels))


def _fall(schedule: str, epoch: int, epochs: int) -> float:
    """What the learning rate is multiplied with."""
    if schedule == "cosine":
        return (1 + math.cos(math.pi * epoch / epochs)) / 2
    return 1.0 if schedule == "constant" else 0.2 ** sum(epoch >= m for m in (2 * epochs // 3, 5 * epochs // 6))


def jobs_of(spec: AssetSpec, train: Source, make: NetworkFactory, augment: Augmentation) -> list[TrainNetwork]:
    """The trainings that ``spec`` stands for. A ``network`` in its recipe names another architecture than ``make``.

    Raises:
        PotstillError: there is no such network, or it cannot eat such inputs.
    """
    recipe = {n: value for n, value in spec.recipe.items() if n != "network"}
    if "network" in spec.recipe:
        make = factory(str(spec.recipe["network"]), train.input, len(train.classes), make.device)
    return [
        TrainNetwork(train=train, make=make, augment=augment, recipe=recipe, number=n, snapshots=spec.snapshots)
        for n in range(spec.count)
    ]


def _run(job: TrainNetwork) -> list[tuple[Trained, float]]:
    return job.run()


def _kept(job: TrainNetwork) -> list[tuple[Trained, float]] | None:
    """All its stops from the cache; ``None`` where one is missing."""
    found = [job.kept(epoch) for epoch in job.stops]
    whole = [f for f in found if f is not None]
    return whole if len(whole) == len(found) else None


def obtain_networks(
    spec: AssetSpec,
    train: Source,
    make: NetworkFactory,
    augment: Augmentation,
    *,
    executor: Executor | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[tuple[Trained, ...], float]:
    """The networks that ``spec`` asks for, and the seconds of computing that went into them, now or in an earlier run.

    They stand by their number, and a network's snapshots by their epoch. Arguments and errors as for
    `potstill.assets.obtain`.
    """
    jobs = jobs_of(spec, train, make, augment)
    found = [_kept(job) for job in jobs]
    missing = [n for n, trained in enumerate(found) if trained is None]
    if progress is not None:
        progress(spec.name, len(jobs) - len(missing), len(jobs))
    why = ""
    runner = executor or choose(len(missing), make.device, make)
    for n, result in zip(missing, runner.map(_run, [jobs[n] for n in missing]), strict=True):
        for stop in result:
            why = jobs[n].keep(*stop) or why
        found[n] = result
        if progress is not None:
            progress(spec.name, sum(f is not None for f in found), len(jobs))
    if why:
        not_kept("networks that were trained", why)
    whole = [f for f in found if f is not None]
    return tuple(trained for stops in whole for trained, _ in stops), sum(stops[-1][1] for stops in whole)
