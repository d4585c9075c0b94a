"""How long what a method needs will take to make, from some batches of the training that are run for it."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from potstill.assets.networks import TrainNetwork, jobs_of, kept_part
from potstill.assets.progress import read_progress
from potstill.assets.records import RecordTraining, trainings_of
from potstill.core import AssetSpec, Augmentation, NetworkFactory, Source
from potstill.execution import Processes, choose
from potstill.rng import generator
from potstill.supervise.teacher import fresh_teacher, train_epoch

__all__ = ["Expected", "forecast"]

LOOK = 1 / 3
"""What a pass over the samples without a gradient takes, beside one with it."""
ENOUGH, MOST = 1.0, 20
"""Seconds, and number, of batches that are run to time one; two at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is still to be made for one `AssetSpec`."""

    name: str
    networks: int
    """To be trained."""
    epochs: int
    """Of each."""
    seconds: float
    """Of wall clock, for all of them on this machine."""

    def __str__(self) -> str:
        some = f"{self.networks:,} networks" if self.networks > 1 else "1 network"
        return f"training {some} for {self.epochs:,} epochs"


def forecast(
    specs: Sequence[AssetSpec], train: Source, make: NetworkFactory, augmentation: Callable[[str], Augmentation]
) -> tuple[Expected, ...]:
    """What of ``specs`` is not in the cache, and the seconds that it will take. Arguments as for `obtain`.

    Nothing random of a run is touched: the batches are drawn by a generator of their own, and what they make is
    dropped.
    """
    found = []
    for spec in specs:
        augment = augmentation(str(spec.recipe.get("augment", "none")) if train.input.kind == "image" else "none")
        jobs: Sequence[TrainNetwork] = (
            trainings_of(spec, train, make, augment) if spec.kind == "record" else jobs_of(spec, train, make, augment)
        )
        missing = [job for job in jobs if not _there(job)]
        if not missing:
            continue
        runner = choose(len(missing), make.device)
        workers = min(runner.workers, len(missing)) if isinstance(runner, Processes) else 1
        each = _seconds_per_sample(missing[0], runner.threads if isinstance(runner, Processes) else None)
        samples = sum(_samples(job) for job in missing)
        found.append(Expected(
            name=spec.name, networks=len(missing), epochs=_epochs(missing[0]), seconds=each * samples / workers,
        ))  # fmt: skip
    return tuple(found)


def _there(job: TrainNetwork) -> bool:
    if isinstance(job, RecordTraining):
        return job.kept_record() is not None
    return all(job.path(epoch).exists() for epoch in job.stops)


def _epochs(job: TrainNetwork) -> int:
    return job.until if isinstance(job, RecordTraining) else job.stops[-1]


def _samples(job: TrainNetwork) -> float:
    """Samples that training it will still pass, those that are only looked at as the part that they take."""
    if isinstance(job, RecordTraining):
        epochs = job.until - min(job._saved().epoch, job.until)
        return epochs * (len(job.index) + LOOK * len(job.train))
    first = fresh_teacher(job.make(job.seed))
    begun = read_progress(job.progress(), first, json.dumps(job.stops), job.seed, job.train.classes)
    epochs = job.stops[-1] - (0 if begun is None else begun.epoch)
    return epochs * len(kept_part(job.train.labels, float(job.recipe.get("holdout", 0))))


def _seconds_per_sample(job: TrainNetwork, threads: int | None) -> float:
    """Of a batch of the training: the least of some, since what else runs on the machine can only make one longer."""
    net, size = job.make(job.seed).train(), min(int(job.recipe["batch"]), len(job.train))
    made, before = fresh_teacher(net), torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)  # as a worker process will have
    seconds: list[float] = []
    try:
        while len(seconds) < 2 or (len(seconds) < MOST and sum(seconds) < ENOUGH):
            begun = time.perf_counter()
            train_epoch(
                net, made, job.train, torch.arange(size), generator(0, "forecast"), batch=size, lr=0.0, momentum=0.9,
                weight_decay=0.0, augment=job.augment, cutmix=float(job.recipe.get("cutmix", 0)),
            )  # fmt: skip
            if job.make.device.type == "cuda":
                torch.cuda.synchronize(job.make.device)
            seconds.append(time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
    return min(seconds) / size
