"""The calibrated pair of a search: networks of candidates as one mixture, learned once and read from files."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from potstill.core import Source
from potstill.data.groups import source_key
from potstill.dataset_file import load
from potstill.errors import PotstillError
from potstill.nn import CustomNetwork
from potstill.uses.search.proxy import Calibrated, MadeSet, rows_of
from potstill.uses.search.space import Candidate
from potstill.uses.search.validation_set.pair import NETWORK_PLAN, as_source, calibrate_sources

__all__ = ["calibrated_networks", "make_calibrated"]


def make_calibrated(
    proxy: Calibrated, candidates: Sequence[Candidate], train: Source, held_out: Source, seed: int, folder: Path,
    progress: Callable[[str, int, int], object],
) -> MadeSet:  # fmt: skip
    """Return the pair of a search, from ``folder`` where it was made before.

    Args:
        proxy: settings of the pair.
        candidates: of the search; they must differ in their networks alone.
        train: training samples.
        held_out: samples that decide, whose hyper-gradients the pair has.
        seed: of the search.
        folder: folder of the two files, and of the checkpoint of an interrupted run.
        progress: callback.

    Raises:
        PotstillError: candidates differ in more than their networks, or a network cannot be calibrated.
    """
    networks = calibrated_networks(candidates)
    steps = NETWORK_PLAN.steps if proxy.steps is None else proxy.steps
    plan = replace(NETWORK_PLAN, points=proxy.points, steps=steps)
    key = repr((proxy, plan, networks, seed, source_key(train), source_key(held_out)))
    stem = f"hcdc-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    paths = [folder / f"{stem}-{part}.safetensors" for part in ("train", "validation")]
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        pair = calibrate_sources(
            train, held_out, networks, decay=proxy.decay, ipc=proxy.ipc, validation_ipc=proxy.validation_ipc,
            plan=plan, seed=seed, checkpoint=folder / f"{stem}.checkpoint", progress=progress,
        )  # fmt: skip
        for path, small in zip(paths, (pair.train, pair.validation), strict=True):
            small.save(path, force=True)
    small, validation = map(load, paths)
    return replace(
        rows_of(small, train), seconds=rows_of(validation, train).seconds, validation=as_source(validation, train)
    )  # fmt: skip


def calibrated_networks(candidates: Sequence[Candidate]) -> list[str]:
    """Return the names of the networks of candidates.

    Raises:
        PotstillError: candidates differ in more than their networks, or there are fewer than three names.
    """
    for what in ("lr", "weight_decay", "augment"):
        if len({getattr(c, what) for c in candidates}) > 1:
            raise PotstillError(
                f"proxy hcdc compares networks alone, but candidates differ in {what}; give one, or take another proxy"
            )
    if any(isinstance(c.network, CustomNetwork) for c in candidates):
        raise PotstillError("proxy hcdc takes networks by their names, not classes or functions; take another proxy")
    if len(candidates) < 3:
        raise PotstillError(
            f"proxy hcdc learns from the directions of hyper-gradients and needs three networks or more, not "
            f"{len(candidates)}; give more, or take another proxy"
        )
    return [str(c.network) for c in candidates]
