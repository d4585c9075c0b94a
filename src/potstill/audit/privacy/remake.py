"""Runs of a set's method again, by its metadata: on other records, or up to its starting items."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from potstill.api.distill import run
from potstill.core import Method, Splits, registry
from potstill.core.registry import make_method
from potstill.data import TensorSource
from potstill.dataset_file import Distilled
from potstill.diagnostics.nearest_real import nearest_rows, source_rows, usual_gap
from potstill.errors import PotstillError
from potstill.evaluation.fitting import same_content
from potstill.kinds import get_kind
from potstill.pretraining import required_assets
from potstill.rng import generator
from potstill.runs.resolve import resolve_run
from potstill.runs.spec import RunIO, RunLimits, RunSpec

__all__ = ["Make", "maker_of", "seconds_of", "starting_records"]

Make: TypeAlias = Callable[[TensorSource, int], Distilled]
"""Makes a set of records with a seed."""
_SAME = 0.01
"""Part of the usual gap within which a starting item is the record itself: rounding of its normalization."""
_UNREPEATABLE = {
    "initial": "started from another set", "own_files": "used code of its own",
    "privacy": "has formal privacy, and to make it again spends its ε again", "deletion": "was joined from units",
    "parts": "was joined from others",
}  # fmt: skip
"""Entries of metadata that a run without what they name would not repeat."""


def maker_of(distilled: Distilled) -> Make:
    """Return a function that makes a set of other records by the method, options, size and steps of this one.

    Raises:
        PotstillError: the metadata do not say how the set was made, or name something that is not in them.
    """
    steps = int(distilled.metadata.get("cost", {}).get("steps", 0))
    codec = distilled.metadata.get("codec", {}).get("name")
    spec = _spec_of(distilled, codec)

    def make(source: TensorSource, seed: int) -> Distilled:
        selection = distilled.is_selection
        return run(spec(source, seed), RunLimits(steps=None if selection else steps), RunIO(progress=None))

    return make


def seconds_of(distilled: Distilled) -> float:
    """Return the seconds that the set took, with preparation; 0 where the metadata do not say."""
    cost = distilled.metadata.get("cost", {})
    return float(cost.get("seconds", 0.0)) + float(cost.get("preparation_seconds") or 0.0)


def starting_records(distilled: Distilled, train: TensorSource) -> Int[Tensor, " n"] | str:
    """Return the training record that each item started from, -1 for none, or a reason why this is not known.

    A selection says it; otherwise the run is repeated from its seed without a step, and its items are looked up.
    """
    same = same_content(distilled.metadata.get("source", {}).get("hash"), train.content_hash)
    if same is not True:
        other = "the set was made of other data than these"
        return "the metadata do not say of which data the set was made" if same is None else other
    if distilled.index is not None:
        return distilled.index.clone()
    try:
        spec = _spec_of(distilled, "float32")(train, int(distilled.metadata.get("seed", 0)))
        resolved = resolve_run(spec)
        if required_assets(resolved.method, resolved.problem):
            return f"{distilled.metadata['method']} trains networks before its first step"
        first = run(spec, RunLimits(steps=0), RunIO(progress=None))
    except PotstillError as error:
        return str(error)
    if len(first) != len(distilled) or not torch.equal(first.hard_labels, distilled.hard_labels):
        return "the run cannot be repeated here with the same items"
    pixels = get_kind(train.input).augmentable
    rows = source_rows(train, pixels)
    items = (first.inputs if pixels else first.model_space()).flatten(1).float().to(rows.device)
    nearest = nearest_rows(items, rows)
    usual = usual_gap(rows, generator(0, "audit", "gap"))
    is_same = nearest.distance <= _SAME * usual
    return torch.where(is_same, nearest.index, -1).cpu()


def _spec_of(distilled: Distilled, codec: str | None) -> Callable[[TensorSource, int], RunSpec]:
    """Return a function that returns the run on other records."""
    card = distilled.metadata
    if why := next((reason for name, reason in _UNREPEATABLE.items() if card.get(name)), None):
        raise PotstillError(f"the set {why}, so that its metadata alone do not repeat the run; give make= in Python")
    if distilled.normalization.whitening is not None:
        raise PotstillError(
            "the set is whitened, so that a run on other records would be whitened otherwise; give make= in Python"
        )
    method = _method_of(card)
    amount: dict[str, Any] = {"items": len(distilled), "balance": card.get("balance")}
    if card.get("balance", "equal") == "equal" and isinstance(card.get("ipc"), int):
        amount = {"ipc": card["ipc"]}

    def spec(source: TensorSource, seed: int) -> RunSpec:
        return RunSpec(
            Splits(train=source, test=None), method, seed=seed, codec=codec, device=str(source.device), **amount
        )

    return spec


def _method_of(card: dict[str, Any]) -> Method[Any]:
    """Return the method with its options as a value."""
    name, config = card.get("method"), card.get("config")
    if not isinstance(name, str) or not isinstance(config, dict):
        raise PotstillError(
            "the metadata do not say by which method and options the set was made; give make= in Python"
        )
    kind = registry.resolve("methods", name)
    try:
        fields = {n: tuple(v) if isinstance(v, list) else v for n, v in config.items()}
        method: Method[Any] = make_method(kind(**fields), {})[1]
    except TypeError as error:
        raise PotstillError(
            f"the set's options of {name} are of another version ({error}); make the set again"
        ) from error
    return method
