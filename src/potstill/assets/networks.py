"""Networks trained on the real data: what methods match in that look at more than random networks.

Each is decided by the data, the architecture, the recipe and its number, and by nothing else, so that every run and
every method that asks for the same ones shares them. They are kept as safetensors files under the cache folder; one
that is there is not trained again, so that an interrupted preparation goes on where it was.
"""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill.core import AssetSpec, Augmentation, NetworkFactory, Source, Trained
from potstill.errors import PotstillError
from potstill.execution import Executor, choose
from potstill.nn import factory
from potstill.rng import derive, generator
from potstill.storage import cache_folder, read_tensors, write_tensors
from potstill.supervise.teacher import fresh_teacher, train_epoch

__all__ = ["TrainNetwork", "jobs_of", "obtain"]

MAX_BYTES = 4 * 2**30
"""A file of the cache that is larger is not read."""


@dataclass(frozen=True, kw_only=True)
class TrainNetwork:
    """The training of one network as a job: SGD with momentum, the rate times 0.2 after 2/3 and 5/6 of the epochs.

    The recipe of IDC, DANCE and NCFM (pretrain.py): every epoch in a new order, per-sample augmentation, and CutMix in
    a part ``cutmix`` of the batches. ``schedule`` in the recipe says how the rate falls: ``steps`` as above,
    ``cosine`` along half a cosine to zero, epoch by epoch, or ``constant``.
    """

    train: Source
    make: NetworkFactory
    augment: Augmentation
    recipe: Mapping[str, float | int | str]
    number: int

    @property
    def seed(self) -> int:
        """What its first parameters are made from."""
        return derive(0, "asset", "network", self.number)

    def __call__(self) -> tuple[Trained, float]:
        """The trained network, and the seconds that it took."""
        begun, r = time.monotonic(), self.recipe
        net = self.make(self.seed).train()
        rng = generator(self.seed, "training", json.dumps(dict(r), sort_keys=True))
        made, epochs = fresh_teacher(net), int(r["epochs"])
        for epoch in range(epochs):
            made = train_epoch(
                net, made, self.train, torch.randperm(len(self.train), generator=rng), rng, batch=int(r["batch"]),
                lr=float(r["lr"]) * _fall(str(r.get("schedule", "steps")), epoch, epochs),
                momentum=float(r["momentum"]), weight_decay=float(r["weight_decay"]), augment=self.augment,
                cutmix=float(r.get("cutmix", 0)),
            )  # fmt: skip
        if not all(math.isfinite(float(p.sum())) for p in made.params.values()):
            raise PotstillError(
                f"network {self.number} of {self.make.name} did not stay finite in training; lower its learning rate"
            )
        return Trained(seed=self.seed, theta=made.params, buffers=made.buffers), time.monotonic() - begun

    def path(self) -> Path:
        """Where it is kept: a name made of everything that decides its bits."""
        n = self.train.normalization
        white = [] if n.whitening is None else [
            hashlib.sha256(t.cpu().numpy().tobytes()).hexdigest() for t in (n.whitening.mean, n.whitening.matrix)
        ]  # fmt: skip
        what = {
            "data": self.train.content_hash, "mean": n.mean.tolist(), "std": n.std.tolist(), "whitening": white,
            "network": self.make.name, "augment": repr(self.augment), "recipe": dict(self.recipe),
            "number": self.number, "version": 3,
        }  # fmt: skip
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        return cache_folder() / "networks" / f"{key}.safetensors"

    def kept(self) -> tuple[Trained, float] | None:
        """What an earlier run made, if it is there and whole."""
        try:
            tensors, metadata = read_tensors(self.path(), MAX_BYTES)
            seconds = float(metadata["seconds"])
        except (PotstillError, KeyError, ValueError):
            return None  # not there or not readable: it is made again and written anew
        net = self.make(self.seed)
        wanted = {f"theta/{n}": p.shape for n, p in net.named_parameters()}
        wanted |= {f"buffers/{n}": b.shape for n, b in net.named_buffers()}
        if {n: t.shape for n, t in tensors.items()} != wanted:
            return None
        parts: dict[str, dict[str, Tensor]] = {"theta": {}, "buffers": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor.to(self.make.device)
        return Trained(seed=self.seed, theta=parts["theta"], buffers=parts["buffers"]), seconds

    def keep(self, trained: Trained, seconds: float) -> None:
        """Write it for later runs. A cache that cannot be written costs time, not the result."""
        tensors = {f"theta/{n}": t.cpu() for n, t in trained.theta.items()}
        tensors |= {f"buffers/{n}": t.cpu() for n, t in trained.buffers.items()}
        with contextlib.suppress(OSError, PotstillError):
            self.path().parent.mkdir(parents=True, exist_ok=True)
            write_tensors(self.path(), tensors, {"seconds": repr(seconds)})


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
    return [TrainNetwork(train=train, make=make, augment=augment, recipe=recipe, number=n) for n in range(spec.count)]


def _call(job: TrainNetwork) -> tuple[Trained, float]:
    return job()


def obtain(
    specs: Sequence[AssetSpec],
    train: Source,
    make: NetworkFactory,
    augmentation: Callable[[str], Augmentation],
    *,
    executor: Executor | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[dict[str, Any], float]:
    """What ``specs`` ask for, by name, and the seconds of computing that went into it, now or in an earlier run.

    Args:
        train, make: the data and the architecture, of those that name no other.
        augmentation: an augmentation by name.
        executor: where networks are trained; results do not depend on it.
        progress: called with what is made, how many are there, how many there will be.

    Raises:
        PotstillError: a network did not stay finite, or a recipe names one that cannot be made.
    """
    made: dict[str, Any] = {}
    total = 0.0
    for spec in specs:
        augment = augmentation(str(spec.recipe.get("augment", "none")) if train.input.kind == "image" else "none")
        jobs = jobs_of(spec, train, make, augment)
        found = [job.kept() for job in jobs]
        missing = [n for n, trained in enumerate(found) if trained is None]
        if progress is not None:
            progress(spec.name, len(jobs) - len(missing), len(jobs))
        runner = executor or choose(len(missing), make.device)
        for n, result in zip(missing, runner.map(_call, [jobs[n] for n in missing]), strict=True):
            jobs[n].keep(*result)
            found[n] = result
            if progress is not None:
                progress(spec.name, sum(f is not None for f in found), len(jobs))
        whole = [f for f in found if f is not None]
        made[spec.name] = tuple(trained for trained, _ in whole)
        total += sum(seconds for _, seconds in whole)
    return made, total
