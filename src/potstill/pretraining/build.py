"""Assets: read from the cache or built, once for whoever needs them."""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from potstill._util.progress import Callback
from potstill.augment.names import named_augmentation
from potstill.core import (
    Asset,
    AssetContext,
    AssetJob,
    Augmentation,
    Budget,
    Method,
    NetworkFactory,
    Problem,
    Source,
)
from potstill.dataset_file.shared_decoders import hash_tensors, reader_tensors
from potstill.errors import PotstillError, PotstillWarning
from potstill.execution import Executor, choose_executor
from potstill.pretraining.diffusion import DiffusionModel
from potstill.pretraining.trajectory import Trajectories

__all__ = [
    "asset_context", "build_assets", "check_provided_assets", "decoder_bytes", "hash_asset", "required_assets",
    "without_decoder",
]  # fmt: skip

_ASSETS: Mapping[str, str] = {
    "networks": "trained networks", "experts": "expert trajectories", "generator": "generator",
}  # fmt: skip
"""The assets that a user can provide, in words."""


def required_assets(method: Method[Any], problem: Problem) -> tuple[Asset, ...]:
    """Return the assets that the method asks for, then those that the problem's parametrization decodes by and starts
    from.

    Raises:
        PotstillError: two of them have one name.
    """
    wanted = (*method.assets(problem), *problem.decoder_assets, *problem.init_assets)
    names = [asset.name for asset in wanted]
    if twice := [name for name in names if names.count(name) > 1]:
        raise PotstillError(f"each asset needs a name of its own, but {twice[0]!r} is requested twice; rename one")
    return wanted


def check_provided_assets(name: str, method: Method[Any], problem: Problem, provided: Mapping[str, Any]) -> None:
    """Check that the method, or what it stores, asks for the assets that the user provides.

    Raises:
        PotstillError: there is no use for one.
    """
    if not provided:
        return
    known = {asset.name for asset in required_assets(method, problem)}
    if unused := [asset for asset in provided if asset not in known]:
        some = "one is" if unused[0] == "generator" else "some are"
        raise PotstillError(f"{name} asks for no {_ASSETS[unused[0]]}, but {some} given; leave {unused[0]} out")


def asset_context(problem: Problem) -> AssetContext:
    """Return what the jobs of assets are made from: data, network, augmentations by name."""
    train = problem.train
    return AssetContext(train=train, network=problem.network, augmentation=lambda name: named_augmentation(name, train))


def decoder_bytes(problem: Problem) -> int:
    """Return the bytes of the assets that a set of this problem decodes by, as a reader needs them."""
    wanted = problem.decoder_assets
    context = asset_context(problem)
    tensors = [reader_tensors(asset.placeholder(asset.jobs(context))) for asset in wanted]
    return sum(t.numel() * t.element_size() for each in tensors for t in each.values())


def without_decoder(budget: Budget, problem: Problem) -> Budget:
    """Return a budget in bytes without those of the assets that a set decodes by.

    Raises:
        PotstillError: they leave nothing.
    """
    shared = decoder_bytes(problem)
    if shared >= budget.amount:
        raise PotstillError(
            f"the budget is {budget.amount:,} bytes, but what the set decodes by takes {shared:,} of them; raise it, "
            "take a smaller decoder, or leave count_decoder out where the reader has it"
        )
    return dataclasses.replace(budget, amount=budget.amount - shared)


def hash_asset(asset: Any) -> Any:
    """Return what decides the bits of a provided asset: the hash of experts, of a generator, or of each network."""
    if isinstance(asset, Trajectories):
        return asset.digest
    if isinstance(asset, Mapping):
        return hash_tensors(asset)
    if isinstance(asset, DiffusionModel):
        return asset.fingerprint
    return [hash_tensors({**t.parameters, **t.buffers}) for t in asset]


def build_assets(
    assets: Sequence[Asset],
    train: Source,
    make: NetworkFactory,
    augmentation: Callable[[str], Augmentation],
    *,
    executor: Executor | None = None,
    provided: Mapping[str, Any] | None = None,
    progress: Callback | None = None,
) -> tuple[dict[str, Any], float]:
    """Load or build ``assets``; return them by name, with the seconds of computing that went into them.

    What the cache has no room for is made in memory, with a `PotstillWarning`.

    Args:
        train, make: the data and the architecture, of those that name no other.
        augmentation: an augmentation by name.
        executor: where their jobs run; results do not depend on it. Default: what `choose_executor` says.
        provided: what is there already, by the asset's name: it is not made.
        progress: called with what is made, how many are there, how many there will be.

    Raises:
        PotstillError: one cannot be made, such as a network that did not stay finite, or what is given does not fit.
    """
    assets_by_name: dict[str, Any] = {}
    total, ground = 0.0, AssetContext(train=train, network=make, augmentation=augmentation)
    for asset in assets:
        if provided is not None and asset.name in provided:
            assets_by_name[asset.name] = asset.adopt(provided[asset.name], ground)
            continue
        parts = _parts(asset, ground, executor, progress)
        assets_by_name[asset.name] = asset.open(parts)
        total += sum(getattr(part, "seconds", 0.0) for part in parts)
    return assets_by_name, total


def _produce(job: AssetJob) -> tuple[Any, str] | None:
    return job.build()


def _parts(asset: Asset, ground: AssetContext, executor: Executor | None, progress: Callback | None) -> list[Any]:
    jobs = asset.jobs(ground)
    parts = [job.load() for job in jobs]
    missing = [n for n, part in enumerate(parts) if part is None]
    done, why = len(jobs) - len(missing), ""
    if progress is not None:
        progress(asset.name, done, len(jobs))
    runner = executor or choose_executor(
        len(missing), ground.train.device, ground.network, *(type(job) for job in jobs[:1])
    )
    for n, unkept in zip(missing, runner.map(_produce, [jobs[n] for n in missing]), strict=True):
        parts[n], said = (jobs[n].load(), "") if unkept is None else unkept
        if parts[n] is None:
            parts[n], said = jobs[n].compute(), "what was just written cannot be read"
        why, done = why or said, done + 1
        if progress is not None:
            progress(asset.name, done, len(jobs))
    if why:
        warnings.warn(
            f"what came of {asset.describe_work(jobs)} could not be kept, and will be made again when it is needed: "
            f"{why}; free space, or set POTSTILL_CACHE to a folder that can be written",
            PotstillWarning, stacklevel=3,
        )  # fmt: skip
    return parts
