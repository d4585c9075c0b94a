"""Sets whose records can be deleted exactly: make one, delete records, extend it, and make all to verify."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.progress import Callback
from potstill.core import Normalization, Splits
from potstill.core.registry import make_method
from potstill.data import TensorSource, fit_normalization
from potstill.dataset_file import Distilled, load
from potstill.dataset_file.concat import split_joined
from potstill.dataset_file.normalization import is_same, to_float32
from potstill.errors import PotstillError
from potstill.execution import Executor, resolve_executor
from potstill.execution.memory import keep_freed_memory
from potstill.kinds import get_kind
from potstill.runs.arguments import parse_preset
from potstill.runs.load_data import as_splits, pick_device
from potstill.uses.deletion.job import Update, UpdateJob
from potstill.uses.deletion.records import hash_records, numbered_rows, record_digests, training_records, without
from potstill.uses.deletion.units import Recipe, Unit, check_method, plan_units, settle_method

__all__ = ["delete_records", "extend", "load_for_deletion", "make_again", "make_deletable"]

PICTURE_NORMALIZATION = (0.5, 0.25)
"""Mean and standard deviation of pixels that fit no data, for pictures without published constants. Ours."""


def make_deletable(
    data: Any,
    method: str = "dm",
    *,
    ipc: int,
    parts: int = 1,
    codec: str = "uint8",
    seed: int = 0,
    preset: str | None = None,
    network: str | None = None,
    steps: int | None = None,
    normalization: Normalization | Distilled | None = None,
    out: str | Path | None = None,
    force: bool = False,
    device: str = "auto",
    executor: Executor | str | None = None,
    progress: Callback | None = None,
    **options: Any,
) -> Update:
    """Make a set from which records can be deleted exactly: each class, and each part of its records, by itself.

    Args:
        data: anything `potstill.load_data` takes or returns, with classes, in memory.
        method: a method that gives a class alone the items of the joint run: ``dm``, ``datadam``, ``m3d`` or a
            selection such as ``herding``. ``random`` draws by a key of each record.
        ipc: items per class, over all parts.
        parts: parts that each class's records are divided into, by their contents; each part has ``ipc / parts``
            items. Records of a group (``load_data(group=)``) are in one part. More parts: less to make again, and
            items that are less good.
        codec: codec of the items.
        seed: seed of every draw.
        preset: preset of the method.
        network: network to distil with; ``None``: the method's.
        steps: largest number of steps of a unit.
        normalization: a normalization that was fitted on none of the records, or a set that has one. Default: the
            published constants of known data; for other pictures mean 0.5 and standard deviation 0.25.
        out: file of the set. An interrupted call goes on from the units in ``OUT.units``.
        force: replace any file at ``out``.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: where units are made, also by name; the bits are the same. Default: as many processes as help.
        progress: callback ``progress(name, done, total)``.
        **options: fields of the method.

    Returns:
        The set, with seconds.

    Raises:
        PotstillError: the method works on all classes at once, the normalization was fitted on the records, ``ipc`` is
            no multiple of ``parts``, or a unit would have fewer records than items.

    Examples:
        >>> made = make_deletable("digits", "herding", ipc=2)
        >>> len(made.units), len(made.distilled)
        (10, 20)
    """
    started = time.perf_counter()
    splits = as_splits(data, pick_device(device))
    train = training_records(splits)
    if ipc < 1 or parts < 1 or ipc % parts:
        raise PotstillError(
            f"each of {parts} parts needs as many items, so items per class must be a multiple of the parts, not "
            f"{ipc}; change one of them"
        )
    fixed = _fixed_normalization(train, normalization)
    name, value = make_method(method, options, parse_preset(preset, method))
    group = splits.reading.get("group")
    by_group = parts > 1 and train.groups is not None
    recipe = Recipe(
        method=name, config=dataclasses.asdict(value), ipc=ipc, codec=codec, seed=seed, network=network, parts=parts,  # type: ignore[call-overload]
        by_group=by_group, group=group if by_group and isinstance(group, str) and train.names else None, steps=steps,
    )  # fmt: skip
    check_method(recipe)
    units = plan_units(train, recipe, fixed)
    recipe = settle_method(recipe, units[0])
    job = UpdateJob(
        started=started, recipe=recipe, train=train, normalization=fixed, splits=splits, units=units,
    )  # fmt: skip
    return job.run(out, force, resolve_executor(executor), progress)


def delete_records(
    distilled: Distilled | str | Path,
    data: Any,
    records: str | Sequence[int] | Tensor,
    *,
    out: str | Path | None = None,
    force: bool = False,
    device: str = "auto",
    executor: Executor | str | None = None,
    progress: Callback | None = None,
) -> Update:
    """Delete records from a set of `make_deletable`: only units with a deleted record are made again.

    The result has the bits of the set that `make_deletable` makes of the records that are left, on this machine.

    Args:
        distilled: the set, or its file.
        data: the data that it was made of, with the records to delete; without those of earlier deletions.
        records: rows of the training split, as numbers or as text: ``3,17,100-120``, or a file of them.
            `potstill.uses.deletion.named_rows` finds those of file names.
        out, force, device, executor, progress: as for `make_deletable`.

    Returns:
        The new set, and what was made again.

    Raises:
        PotstillError: the set was not made for deletion or not of these data, or there is no such record.

    Examples:
        >>> made = make_deletable("digits", "herding", ipc=2)
        >>> after = delete_records(made.distilled, "digits", [0, 1])
        >>> len(after.units), len(after.remade)
        (10, 2)
    """
    started = time.perf_counter()
    small, recipe, splits, train, units = load_for_deletion(distilled, data, device)
    rows = numbered_rows(train, records.tolist() if isinstance(records, Tensor) else records)
    left = without(train, rows)
    digests = record_digests(train.subset(rows), recipe.seed)
    entry = {"records": len(rows), "hash": hash_records(digests)}
    job = UpdateJob(
        started=started, recipe=recipe, train=left, normalization=small.normalization, splits=splits,
        units=plan_units(left, recipe, small.normalization), existing=_parts_by_fingerprint(small, units),
        history=(*small.metadata["deletion"]["deletions"], entry), reads=_paths(small),
    )  # fmt: skip
    return job.run(out, force, resolve_executor(executor), progress)


def extend(
    distilled: Distilled | str | Path,
    data: Any,
    more: Any,
    *,
    warm_steps: int | None = None,
    out: str | Path | None = None,
    force: bool = False,
    device: str = "auto",
    executor: Executor | str | None = None,
    progress: Callback | None = None,
) -> Update:
    """Extend a set of `make_deletable` by new records of its classes, and by new classes.

    A new class is made by itself and joined: the set has the bits of one that is made from scratch. A unit with new
    records is made from scratch, or with ``warm_steps`` goes on from its own items for a few steps, which is faster
    and not the same.

    Args:
        distilled: the set, or its file.
        data: the data that it was made of.
        more: new records in the same form: anything `potstill.load_data` takes or returns.
        warm_steps: steps of a unit that goes on from its own items; ``None``: it is made from scratch.
        out, force, device, executor, progress: as for `make_deletable`.

    Returns:
        The new set, and what was made.

    Raises:
        PotstillError: the new records are of another kind or shape, or as for `delete_records`.
    """
    started = time.perf_counter()
    small, recipe, splits, train, units = load_for_deletion(distilled, data, device)
    more_splits = as_splits(more, train.device)
    both = join_records(train, training_records(more_splits))
    if warm_steps is not None and warm_steps < 1:
        raise PotstillError(f"warm_steps must be at least 1, not {warm_steps}; leave it out to make units from scratch")
    existing = _parts_by_fingerprint(small, units, with_warm=warm_steps is not None)
    job = UpdateJob(
        started=started, recipe=recipe, train=both, normalization=small.normalization, splits=splits,
        units=plan_units(both, recipe, small.normalization), existing=existing, warm_steps=warm_steps,
        warm={} if warm_steps is None else {(name, part): s for (name, part, _), s in existing.items()},
        was_warm=frozenset(() if warm_steps is None else _warm_units(small)),
        history=tuple(small.metadata["deletion"]["deletions"]), reads=(*_paths(small), *more_splits.files),
    )  # fmt: skip
    return job.run(out, force, resolve_executor(executor), progress)


def make_again(
    update: Update, *, executor: Executor | str | None = None, progress: Callback | None = None
) -> Update:  # fmt: skip
    """Make the whole set of an update from its recipe and the records that are left: all units, none taken over.

    Args:
        update: the update.
        executor, progress: as for `make_deletable`.

    Returns:
        The set made from scratch, to compare ``hash`` and ``seconds``.
    """
    started = time.perf_counter()
    small, train = update.distilled, update.records
    recipe = Recipe.of(small)
    job = UpdateJob(
        started=started, recipe=recipe, train=train, normalization=small.normalization,
        splits=Splits(train=train, test=None),
        units=plan_units(train, recipe, small.normalization),
    )  # fmt: skip
    return job.run(None, False, resolve_executor(executor), progress)


def load_for_deletion(
    distilled: Distilled | str | Path, data: Any, device: str = "auto"
) -> tuple[Distilled, Recipe, Splits, TensorSource, list[Unit]]:
    """Return a set with its recipe, its data and its units, which are checked to be of these data.

    Raises:
        PotstillError: it was not made for deletion, or not of these data.
    """
    keep_freed_memory()
    small = distilled if isinstance(distilled, Distilled) else load(distilled)
    recipe = Recipe.of(small)
    splits = as_splits(data, pick_device(device), small.metadata)
    train = training_records(splits)
    if train.input.shape != small.input.shape or train.input.kind != small.input.kind:
        raise PotstillError(
            f"the set has inputs of shape {small.input.shape}, but those of {train.name} are {train.input.shape}; give "
            "the data that it was made of"
        )
    if set(train.classes) == set(small.classes):
        train = _with_classes(train, small.classes)
    written = {(name, part): fingerprint for name, part, fingerprint in small.metadata["deletion"]["units"]}
    units = plan_units(train, recipe, small.normalization)
    found = {unit.key: unit.fingerprint for unit in units}
    if written != found:
        other = next((key for key in (*written, *found) if written.get(key) != found.get(key)), ("", 0))
        raise PotstillError(
            f"the set was not made of {train.name} as it is here: the records of class {other[0]!r} differ; give the "
            "data that it was made of, with the same test part and without the records of earlier deletions"
        )
    return small, recipe, splits, train, units


def join_records(train: TensorSource, more: TensorSource) -> TensorSource:
    """Return the records of two sources, classes by name.

    Raises:
        PotstillError: their inputs are of different kinds, shapes or types.
    """
    a, b = train.inputs, more.inputs
    fits = isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape[1:] == b.shape[1:] and a.dtype == b.dtype
    if not fits or train.input.kind != more.input.kind or not isinstance(a, Tensor) or not isinstance(b, Tensor):
        raise PotstillError(
            f"the new records are {more.input.kind} {more.input.shape} data, but the set's are {train.input.kind} "
            f"{train.input.shape}; give records of the same form"
        )
    if (train.groups is None) != (more.groups is None):
        raise PotstillError("either all records have groups or none; read the new ones as the others, with `group=`")
    classes = tuple(dict.fromkeys((*train.classes, *more.classes)))
    number = torch.tensor([classes.index(name) for name in more.classes])
    groups = None
    if train.groups is not None and more.groups is not None:
        groups = torch.cat([train.groups, more.groups + int(train.groups.max()) + 1])
    return TensorSource(
        name=f"{train.name} + {more.name}", input=train.input, classes=classes, normalization=train.normalization,
        inputs=torch.cat([a, b.to(a.device)]), labels=torch.cat([train.labels, number[more.labels]]), groups=groups,
        names=(*train.names, *more.names) if train.names and more.names else (),
    )  # fmt: skip


def _with_classes(train: TensorSource, classes: tuple[str, ...]) -> TensorSource:
    """Return the same records with their classes in another order."""
    if train.classes == classes:
        return train
    number = torch.tensor([classes.index(name) for name in train.classes])
    return replace(train, classes=classes, labels=number[train.labels])


def _paths(small: Distilled) -> tuple[object, ...]:
    return () if small.path is None else (small.path,)


def _fixed_normalization(train: TensorSource, value: Normalization | Distilled | None) -> Normalization:
    """Return a normalization that no record of the data changes."""
    fitted = fit_normalization(train.inputs)
    chosen = value.normalization if isinstance(value, Distilled) else value
    if chosen is None and not is_same(to_float32(train.normalization), to_float32(fitted)):
        chosen = train.normalization
    if chosen is None and get_kind(train.input).augmentable:
        channels = train.input.shape[0]
        mean, std = PICTURE_NORMALIZATION
        chosen = Normalization(torch.full((channels,), mean), torch.full((channels,), std))
    if chosen is None or is_same(to_float32(chosen), to_float32(fitted)):
        raise PotstillError(
            f"the normalization of {train.name} is fitted on all of its records, so that each item depends on every "
            "record; give a normalization of other data, as a value: normalization="
        )
    if chosen.whitening is not None or len(chosen.mean) != len(train.normalization.mean):
        raise PotstillError(
            f"the normalization must have a mean and a standard deviation for each of {len(fitted.mean)} channels and "
            "no whitening; give another"
        )
    return to_float32(chosen)


def _parts_by_fingerprint(
    small: Distilled, units: Sequence[Unit], *, with_warm: bool = False
) -> dict[tuple[str, int, str], Distilled]:
    """Return the set of each unit by its records.

    Args:
        with_warm: take those that went on from earlier items, too, which no run of their records alone makes.
    """
    warm = set() if with_warm else _warm_units(small)
    parts = split_joined(small)
    seconds = small.metadata["deletion"]["seconds"]
    found = {}
    for unit, part, spent in zip(units, parts, seconds, strict=True):
        if unit.key not in warm:
            part.metadata["cost"] = {**small.metadata["cost"], "seconds": spent}
            found[(*unit.key, unit.fingerprint)] = part
    return found


def _warm_units(small: Distilled) -> set[tuple[str, int]]:
    return {(name, part) for name, part in small.metadata["deletion"]["warm"]}
