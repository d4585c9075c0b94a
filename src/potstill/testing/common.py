"""Helpers of the contract checks: the error, a toy problem, and comparisons of states."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from potstill.augment.names import named_augmentation
from potstill.core import Asset, AssetContext, Method, Problem, Source
from potstill.dataset_file import pack_state
from potstill.kinds import get_kind
from potstill.nn import factory
from potstill.parametrize.named_inputs import parse_parametrization
from potstill.tasks import get_task, is_coarse
from potstill.testing.toy import boxes_source, masks_source, pairs_source, toy_source, windows_source

__all__ = [
    "ContractError",
    "no_side_effects",
    "open_assets",
    "require",
    "same_bits",
    "state_bits",
    "to_tuples",
    "toy_problem",
]


class ContractError(AssertionError):
    """Broken promise of a contract."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ContractError(message)


def toy_problem(
    method: Method[Any] | None = None,
    *,
    ipc: int = 2,
    network: str | None = None,
    kind: str = "image",
    source: Source | None = None,
) -> Problem:
    """Return a problem that any method solves in moments: four classes of twelve 8×8 images, rows of a table, or images
    with masks, boxes or pairs of an image and a text for a method of segmentation, detection or retrieval alone, or
    windows of a series for one of forecasts alone.

    The network is ``convnet-d1-w8``, with BatchNorm where the method's own network has it.

    Args:
        method: method whose augmentation, parametrization and assets the problem gets.
        ipc: items per class.
        network: network instead of ``convnet-d1-w8``.
        kind: kind of the toy data.
        source: data to use instead of the toy data.
    """
    if source is None:
        tasks = ("*",) if method is None else method.info.tasks
        sources: Mapping[tuple[str, ...], Callable[[], Source]] = {
            ("segmentation",): masks_source, ("detection",): boxes_source,
            ("retrieval",): partial(pairs_source, vectors=True), ("forecast",): windows_source,
        }  # fmt: skip
        source = sources.get(tasks, partial(toy_source, kind))()
    picture, given = get_kind(source.input).augmentable, source.input
    norm = "-batch" if "batch" in str(getattr(method, "network", "")).split("-") else ""
    task = get_task(source)
    default = "centernet-d1-w8" if is_coarse(task) else f"convnet-d1-w8{norm}"
    name = (network or default) if picture else {"pair": "towers-w4"}.get(given.kind, "mlp")
    augment = getattr(method, "augment", "none") if picture else "none"
    decoder = parse_parametrization(getattr(method, "parametrization", "pixels") if picture else "pixels", given)
    problem = Problem(
        train=source,
        counts=(ipc,) * max(1, len(source.classes)),
        network=factory(
            name,
            given,
            task.outputs,
            normalization=source.normalization,
            per_pixel=is_coarse(task),
            coarse=is_coarse(task),
        ),
        augment=named_augmentation(augment, source),
        parametrization=decoder,
    )
    specs = () if method is None else method.resolve_defaults(problem)[0].assets(problem)
    return open_assets(problem, (*specs, *problem.decoder_assets, *problem.init_assets))


def open_assets(problem: Problem, assets: Sequence[Asset]) -> Problem:
    """Return the problem with ``assets`` built in memory."""
    none = named_augmentation("none", problem.train)
    ground = AssetContext(train=problem.train, network=problem.network, augmentation=lambda name: none)
    return problem.with_assets({a.name: a.open([job.compute() for job in a.jobs(ground)]) for a in assets})


def state_bits(state: Any) -> dict[str, Any]:
    tensors, rest = pack_state(state)
    return {**{n: t.detach().clone() for n, t in tensors.items()}, "": json.dumps(rest, sort_keys=True)}


def same_bits(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(x, b[n]) and x.dtype == b[n].dtype if isinstance(x, Tensor) else x == b[n] for n, x in a.items()
    )


@contextmanager
def no_side_effects(what: str) -> Iterator[None]:
    """Check that the global generator is not used; the clock differs at every call."""
    before = torch.get_rng_state()
    with mock.patch.object(time, "time", side_effect=(1e9 + 7919.0 * n for n in itertools.count())):
        yield
    require(
        torch.equal(before, torch.get_rng_state()),
        f"{what} must leave torch's global generator alone; draw from the torch.Generator that it is given",
    )


def to_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {n: _tuple(v) for n, v in values.items()}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(v) for v in value) if isinstance(value, list) else value
