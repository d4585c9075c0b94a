"""Sets whose records can be deleted exactly: make one, delete records, extend it, and make all to verify."""

import contextlib
import dataclasses
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.outputs import check_output
from potstill._util.progress import Callback
from potstill.core import Normalization, Splits
from potstill.core.registry import make_method
from potstill.data import TensorSource, fit_normalization
from potstill.dataset_file import Distilled, concat, load
from potstill.dataset_file.concat import split_joined
from potstill.dataset_file.load import validated_set
from potstill.dataset_file.metadata import to_json
from potstill.dataset_file.normalization import is_same, to_float32
from potstill.dataset_file.replacing import SUFFIX, describe_conflict, hash_run
from potstill.errors import PotstillError
from potstill.execution.memory import keep_freed_memory
from potstill.runs.arguments import parse_preset
from potstill.runs.load_data import as_splits, pick_device
from potstill.uses.deletion.records import hash_records, numbered_rows, record_digests, training_records, without
from potstill.uses.deletion.units import Recipe, Unit, check_method, content_hash, plan_units, run_unit, settle_method

__all__ = ["Update", "delete_records", "extend", "load_for_deletion", "make_again", "make_deletable"]

VERSION = 1
"""Version of the metadata's ``deletion``."""
PICTURE_NORMALIZATION = (0.5, 0.25)
"""Mean and standard deviation of pixels that fit no data, for pictures without published constants. Ours."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Update:
    """A new set, and what was made for it."""

    distilled: Distilled
    units: Sequence[Unit]
    """All units of the set."""
    remade: Sequence[Unit]
    """Units that were made; all others were taken over, bit by bit."""
    records: TensorSource
    """Records that the set is made of."""
    seconds: float
    """Seconds of the whole update: reading, hashing, units, joining and writing."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the units that were made."""
        return tuple(dict.fromkeys(unit.name for unit in self.remade))

    @property
    def seconds_of_all(self) -> float:
        """Seconds that all units of the set took when they were made: an estimate for the whole set."""
        return float(sum(self.distilled.metadata["deletion"]["seconds"]))

    @property
    def exact(self) -> bool:
        """True if the set has the bits of one that is made from scratch: no unit went on from earlier items."""
        return bool(self.distilled.metadata["deletion"]["exact"])

    @property
    def hash(self) -> str:
        """Hash of what the set holds: `content_hash`."""
        return content_hash(self.distilled)

    def report(self) -> dict[str, Any]:
        """Return the update as JSON values."""
        card = self.distilled.metadata["deletion"]
        return {
            "units": len(self.units), "remade": [list(unit.key) for unit in self.remade], "classes": list(self.classes),
            "samples": len(self.records), "seconds": round(self.seconds, 3), "exact": self.exact,
            "seconds_of_all": round(self.seconds_of_all, 3), "hash": self.hash, "deletions": card["deletions"],
        }  # fmt: skip


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
    job = _Job(
        started=started, recipe=recipe, train=train, normalization=fixed, splits=splits, units=units,
    )  # fmt: skip
    return job.run(out, force, progress)


def delete_records(
    distilled: Distilled | str | Path,
    data: Any,
    records: str | Sequence[int] | Tensor,
    *,
    out: str | Path | None = None,
    force: bool = False,
    device: str = "auto",
    progress: Callback | None = None,
) -> Update:
    """Delete records from a set of `make_deletable`: only units with a deleted record are made again.

    The result has the bits of the set that `make_deletable` makes of the records that are left, on this machine and
    with as many threads.

    Args:
        distilled: the set, or its file.
        data: the data that it was made of, with the records to delete; without those of earlier deletions.
        records: rows of the training split, as numbers or as text: ``3,17,100-120``, or a file of them.
            `potstill.uses.deletion.named_rows` finds those of file names.
        out, force, device, progress: as for `make_deletable`.

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
    job = _Job(
        started=started, recipe=recipe, train=left, normalization=small.normalization, splits=splits,
        units=plan_units(left, recipe, small.normalization), existing=_parts_by_fingerprint(small, units),
        history=(*small.metadata["deletion"]["deletions"], entry), reads=_paths(small),
    )  # fmt: skip
    return job.run(out, force, progress)


def extend(
    distilled: Distilled | str | Path,
    data: Any,
    more: Any,
    *,
    warm_steps: int | None = None,
    out: str | Path | None = None,
    force: bool = False,
    device: str = "auto",
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
        out, force, device, progress: as for `make_deletable`.

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
    job = _Job(
        started=started, recipe=recipe, train=both, normalization=small.normalization, splits=splits,
        units=plan_units(both, recipe, small.normalization), existing=existing, warm_steps=warm_steps,
        warm={} if warm_steps is None else {(name, part): s for (name, part, _), s in existing.items()},
        was_warm=frozenset(() if warm_steps is None else _warm_units(small)),
        history=tuple(small.metadata["deletion"]["deletions"]), reads=(*_paths(small), *more_splits.files),
    )  # fmt: skip
    return job.run(out, force, progress)


def make_again(update: Update, *, progress: Callback | None = None) -> Update:
    """Make the whole set of an update from its recipe and the records that are left: all units, none taken over.

    Args:
        update: the update.
        progress: callback ``progress(name, done, total)``.

    Returns:
        The set made from scratch, to compare ``hash`` and ``seconds``.
    """
    started = time.perf_counter()
    small, train = update.distilled, update.records
    recipe = Recipe.of(small)
    job = _Job(
        started=started, recipe=recipe, train=train, normalization=small.normalization,
        splits=Splits(train=train, test=None),
        units=plan_units(train, recipe, small.normalization),
    )  # fmt: skip
    return job.run(None, False, progress)


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


def _remove_units(folder: Path) -> None:
    """Remove the files of units, also of earlier calls, and the folder where nothing else is in it."""
    for path in folder.iterdir():
        if re.match(r"\d+-[0-9a-f]{32}\.", path.name):
            path.unlink()
    with contextlib.suppress(OSError):  # files of the user
        folder.rmdir()


def _paths(small: Distilled) -> tuple[object, ...]:
    return () if small.path is None else (small.path,)


def _fixed_normalization(train: TensorSource, value: Normalization | Distilled | None) -> Normalization:
    """Return a normalization that no record of the data changes."""
    fitted = fit_normalization(train.inputs)
    chosen = value.normalization if isinstance(value, Distilled) else value
    if chosen is None and not is_same(to_float32(train.normalization), to_float32(fitted)):
        chosen = train.normalization
    if chosen is None and train.input.kind == "image":
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


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A set to make: its units, those that are there, and where it goes."""

    started: float
    """Clock at the start of the update, which reads and hashes the records first."""
    recipe: Recipe
    train: TensorSource
    normalization: Normalization
    splits: Splits
    units: Sequence[Unit]
    existing: Mapping[tuple[str, int, str], Distilled] = field(default_factory=dict)
    """Sets of units by class, part and fingerprint."""
    history: Sequence[Mapping[str, Any]] = ()
    """Deletions so far: numbers of records and hashes."""
    warm: Mapping[tuple[str, int], Distilled] = field(default_factory=dict)
    """Sets that changed units go on from."""
    warm_steps: int | None = None
    was_warm: frozenset[tuple[str, int]] = frozenset()
    """Units among those taken that went on from earlier items."""
    reads: tuple[object, ...] = ()
    """Files that are never written over."""

    @property
    def run_digest(self) -> str:
        identity = {"recipe": self.recipe.to_json(), "units": [(*u.key, u.fingerprint) for u in self.units]}
        more = {"warm": self.warm_steps, "deletions": list(self.history), "version": VERSION}
        return hash_run(identity, more)

    def run(self, out: str | Path | None, force: bool, progress: Callback | None) -> Update:
        """Make the units that are not there, join all, and write the set."""
        say = progress or (lambda *_: None)
        folder = None
        if out is not None:
            card = {"run_digest": self.run_digest, "method": self.recipe.method, "source": self._source}
            path = check_output(
                out, suffixes=SUFFIX, reads=(*self.splits.files, *self.reads), force=force,
                found=lambda at: describe_conflict(at, card),
            )  # fmt: skip
            folder = path.with_name(f"{path.name}.units")
            folder.mkdir(parents=True, exist_ok=True)
        sets, remade, warm = list[Distilled](), list[Unit](), list[tuple[str, int]]()
        missing = [u for u in self.units if (*u.key, u.fingerprint) not in self.existing]
        say("units", 0, len(missing))
        for unit in self.units:
            if (there := self.existing.get((*unit.key, unit.fingerprint))) is not None:
                sets.append(there)
                warm += [unit.key] if unit.key in self.was_warm else []
                continue
            file = None if folder is None else folder / f"{unit.part}-{unit.fingerprint[:32]}.safetensors"
            initial = self.warm.get(unit.key)
            warm += [] if initial is None else [unit.key]
            steps = None if initial is None else self.warm_steps
            sets.append(run_unit(self.recipe, unit, file, initial=initial, steps=steps))
            remade.append(unit)
            say("units", len(remade), len(missing))
        distilled = self._join(sets, warm)
        distilled.files = self.splits.files
        if out is not None and folder is not None:
            distilled.save(out, force=True)
            _remove_units(folder)
        seconds = time.perf_counter() - self.started
        return Update(distilled=distilled, units=self.units, remade=remade, records=self.train, seconds=seconds)

    @property
    def _source(self) -> dict[str, Any]:
        return {"name": self.train.name, "samples": len(self.train), "hash": self.train.content_hash}

    def _join(self, sets: Sequence[Distilled], warm: Sequence[tuple[str, int]]) -> Distilled:
        if any(s.weights is not None or s.learned for s in sets):
            raise PotstillError(f"{self.recipe.method} learns weights, which belong to no class alone; take dm")
        joined = concat(sets, normalization=self.normalization)
        seconds = [round(float(s.metadata["cost"]["seconds"]), 3) for s in sets]
        metadata = {name: value for name, value in joined.metadata.items() if name != "parts"} | {
            "method": self.recipe.method, "config": dict(self.recipe.config), "seed": self.recipe.seed,
            "source": self._source, "reading": dict(self.splits.reading), "run_digest": self.run_digest,
            "outcome": {"kind": "joined", "message": f"joined from {len(sets)} units that are made by themselves"},
            "cost": {
                **joined.metadata["cost"], "seconds": round(sum(seconds), 3),
                "steps": max(int(s.metadata["cost"]["steps"]) for s in sets),
            },
            "deletion": {
                "version": VERSION, "recipe": self.recipe.to_json(), "exact": not warm,
                "units": [(*u.key, u.fingerprint) for u in self.units], "warm": list(warm), "seconds": seconds,
                "deletions": list(self.history),
            },
        }  # fmt: skip
        return validated_set(Path("the joined set"), to_json(metadata), joined.tensors)
