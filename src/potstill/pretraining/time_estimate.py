"""Estimated time to build a method's assets, from timing a little of the work."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from potstill.core import Asset, AssetContext, AssetJob, Augmentation, NetworkFactory, Source
from potstill.execution import Executor, choose_executor, parallelism

__all__ = ["TimeEstimate", "estimate_time"]

ENOUGH, MOST = 1.0, 20
"""Seconds, and number, of trials that are run to time one; two at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeEstimate:
    """Estimated time to build one `Asset`."""

    name: str
    work: str
    """The work in words."""
    seconds: float
    """Wall-clock time of all of it on this machine."""

    def __str__(self) -> str:
        return self.work


def estimate_time(
    assets: Sequence[Asset], train: Source, make: NetworkFactory, augmentation: Callable[[str], Augmentation],
    executor: Executor | None = None,
) -> tuple[TimeEstimate, ...]:  # fmt: skip
    """Estimate the time to build those ``assets`` that are not cached. Arguments as for `build_assets`.

    Trials draw from generators of their own, and their results are dropped.
    """
    estimates, ground = [], AssetContext(train=train, network=make, augmentation=augmentation)
    for asset in assets:
        missing = [job for job in asset.jobs(ground) if not job.is_cached()]
        if not missing:
            continue
        runner = executor or choose_executor(len(missing), train.device)
        places, threads = parallelism(runner)
        workers = min(places, len(missing))
        each = _seconds_per_unit(missing[0], threads, train.device)
        left = sum(job.remaining() for job in missing)
        estimates.append(
            TimeEstimate(name=asset.name, work=asset.describe_work(missing), seconds=each * left / workers)
        )
    return tuple(estimates)


def _seconds_per_unit(job: AssetJob, threads: int | None, device: torch.device) -> float:
    """Time a little of the work: minimum over several timings."""
    before, seconds = torch.get_num_threads(), list[float]()
    trial, units = job.estimate()
    if threads is not None:
        torch.set_num_threads(threads)  # as a worker process will have
    try:
        while len(seconds) < 2 or (len(seconds) < MOST and sum(seconds) < ENOUGH):
            started = time.perf_counter()
            trial()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    return min(seconds) / units
