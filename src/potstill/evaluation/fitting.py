"""Checks that a distilled set and data belong together, and training settings from the set's metadata."""

import math
from collections.abc import Mapping
from typing import Any

from potstill.core import Source, Splits, registry
from potstill.data.read_options import describe_option_changes
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.nn import is_public_name
from potstill.tasks import Forecast, Task, get_task

__all__ = ["check_compatible", "describe_data_mismatch", "learned_lr", "network_from_metadata", "same_content"]


def describe_data_mismatch(card: Mapping[str, Any], splits: Splits) -> str | None:
    """Return how the data that a set was made of differ from these, or ``None`` where they do not.

    Args:
        card: the set's metadata.
    """
    source, train = card["source"], splits.train
    if same_content(source.get("hash"), train.content_hash) is not False:
        return None
    made, given = (f"{name} ({n:,} samples)" for name, n in (
        (source.get("name"), source.get("samples") or 0), (train.name, len(train)),
    ))  # fmt: skip
    reading = card.get("reading")
    if changes := describe_option_changes(reading, splits.reading) if isinstance(reading, Mapping) else "":
        how = f"It was made of {made}, read with other options than {given} here: {changes}. Leave the options out"
    elif made != given:
        how = f"It was made of {made}, and this is {given}: give the same data, split by the same seed"
    else:
        how = (
            f"It was made of {made}, and these have the same name and number, but other content (hash "
            f"{_short(source['hash'])} then, {_short(train.content_hash)} now): give the same data, unchanged"
        )
    return (
        "this set was not made of this training data: it may hold samples that it is tested on here, and then its "
        f"score is too high. {how}"
    )


def _short(content_hash: str) -> str:
    """Abbreviate a hash to eight digits."""
    kind, colon, digest = content_hash.rpartition(":")
    return f"{kind}{colon}{digest[:8]}"


def same_content(one: str | None, other: str) -> bool | None:
    """Compare two content hashes; ``None`` without one, or where one is of pixels and the other of files."""
    if one is None or (":" in one) != (":" in other):
        return None
    return one == other


def learned_lr(distilled: Distilled) -> float | None:
    """Return the learning rate that was learned with the set, if any.

    Raises:
        PotstillError: it is not a positive number.
    """
    rate = distilled.metadata.get("training", {}).get("learned_lr")
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise PotstillError(
            f"the set's metadata says that its learning rate was learned, but training.learned_lr is {rate!r}; it must "
            "be a number above 0"
        )
    return float(rate)


def check_compatible(distilled: Distilled, train: Source) -> None:
    """Check that the set's classes, their order, and its inputs are the data's.

    Raises:
        PotstillError: which of them differs.
    """
    if (why := _describe_difference(distilled, train)) is not None:
        raise PotstillError(f"{why}; give the data that the set was made of, read alike")


def _describe_difference(distilled: Distilled, train: Source) -> str | None:
    """Return in what the set does not fit the data; ``None`` if it does."""
    made, given, a, b = distilled.classes, train.classes, distilled.input, train.input
    if made != given and sorted(made) == sorted(given):
        at = next(i for i, (x, y) in enumerate(zip(made, given, strict=True)) if x != y)
        return (
            f"the set's classes are in another order than the data's: label {at} is {made[at]!r} in the set and "
            f"{given[at]!r} in the data"
        )
    if made != given:
        odd = [c for c in made if c not in given] or [c for c in given if c not in made]
        return f"the set has {len(made)} classes and the data {len(given)}, and {odd[0]!r} is not in both"
    if [(name, part.kind, part.shape) for name, part in a.parts] != [(n, p.kind, p.shape) for n, p in b.parts]:
        mine, theirs = (", ".join(name for name, _ in spec.parts) or "one tensor" for spec in (a, b))
        return f"the set holds inputs of {mine}, but the data inputs of {theirs}, or of other kinds or sizes"
    if a.kind == b.kind and (why := _describe_forecasts(distilled, get_task(train))) is not None:
        return why
    if (a.kind, a.shape) != (b.kind, b.shape):
        mine, theirs = (f"{spec.kind} inputs of {'×'.join(map(str, spec.shape))}" for spec in (a, b))
        return f"the set holds {mine}, but the data {theirs}"
    offsets = [tuple((distilled.metadata.get("task") or {}).get("offset", ())), getattr(get_task(train), "offset", ())]
    if offsets[0] != offsets[1]:
        mine, theirs = (", ".join(f"{v:,.15g}" for v in offset) or "nothing" for offset in offsets)
        return f"the set's targets are taken less {mine}, the data's less {theirs}"
    return None


def _describe_forecasts(distilled: Distilled, theirs: Task) -> str | None:
    """Return in what forecasts of a set and of data differ; ``None``: not at all, or they are none."""
    if not isinstance(theirs, Forecast) or not isinstance(mine := distilled.task, Forecast):
        return None
    if (mine.window, mine.horizon) != (theirs.window, theirs.horizon):
        of_set, of_data = (f"{t.horizon} values to come from windows of {t.window}" for t in (mine, theirs))
        return f"the set forecasts {of_set}, but the data are read for {of_data}"
    for what, a, b in (
        ("forecasts", mine.variables, theirs.variables),
        ("has as covariates", mine.inputs, theirs.inputs),
    ):
        unnamed = any(all(name == f"variable {i + 1}" for i, name in enumerate(names)) for names in (a, b))
        if len(a) != len(b) or (a != b and not unnamed):
            of_set, of_data = (", ".join(map(repr, names[:6])) or "none" for names in (a, b))
            return f"the set {what} {of_set}, but the data {of_data}"
    return None


def network_from_metadata(distilled: Distilled) -> str | None:
    """Return the name of the network that the set was made with, if Potstill or an installed package registers it.

    Raises:
        PotstillError: it is a custom network of the set's maker; code named in metadata is never imported.
    """
    name = distilled.metadata.get("network")
    if name is None or (isinstance(name, str) and is_public_name(name)):
        return name
    target = str(name).partition("@")[0]  # module:Class@hash
    registered = next((n for n, path in registry.targets("networks").items() if path == target), None)
    if registered is not None:
        return registered
    raise PotstillError(
        f"the set was made with a network of its maker's own, {name}; say which network to train on it, yours "
        'or another: `network="FILE.py:Net"` or `network="convnet"`'
    )
