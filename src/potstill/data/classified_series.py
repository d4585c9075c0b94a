"""Loader of whole series with a class each: samples (channels, length) for the classification task."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from potstill.core import InputSpec, Splits, Task, registry
from potstill.data.arrays import encode_labels, to_array
from potstill.data.folder import first_suffix
from potstill.data.frames import to_arrow_tables
from potstill.data.limits import require_memory
from potstill.data.python_objects import pick_arrays, read_npz_arrays
from potstill.data.read_options import ReadOptions
from potstill.data.removed_columns import remove_columns
from potstill.data.sequences import FASTA_SUFFIXES, read_fasta_folder, read_sequences
from potstill.data.series_files import (
    FOLDER_SUFFIXES,
    LabelledSeries,
    archive_pair,
    read_archive_file,
    read_long_table,
    read_series_folder,
    read_wide_table,
)
from potstill.data.splits import RawPart, RawSplits, assemble
from potstill.data.table import TABLE_SUFFIXES, read_file_with_labels
from potstill.data.table_encoding import check_float32_range, parse_missing
from potstill.errors import PotstillError, unknown_name

__all__ = ["read_classified_series"]

Array: TypeAlias = npt.NDArray[np.float64]

_REFUSED = ("size", "stream", "text", "encode", "horizontal_flip")
_MOST_POINTS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class _Form:
    """A representation of series: all of one length, in the data's units or each series scaled by itself.

    Raises:
        PotstillError: a setting out of its range.
    """

    length: int = 0
    """Points of every series; 0: the longest one's of the training part (``pad``), the median (``resample``)."""
    scale: str = "channel"
    """``channel``: each channel by its mean and deviation in the training part; ``series``: every series by its own,
    channel by channel, which forgets its level and its spread."""

    def __post_init__(self) -> None:
        if not 0 <= self.length <= _MOST_POINTS:
            raise PotstillError(f"a series has from 1 to {_MOST_POINTS:,} points, but length is {self.length}")
        if self.scale not in ("channel", "series"):
            raise unknown_name("scale of series", self.scale, ("channel", "series"))


_FORMS = ("plain", "pad", "resample")


def _parse_form(spelled: str | None) -> tuple[str, _Form]:
    """Return the name and the settings of ``plain``, ``pad:length=100`` or ``resample:length=100,scale=series``."""
    name, _, settings = (spelled or "plain").partition(":")
    if name not in _FORMS:
        raise unknown_name("representation of series", name, _FORMS)
    form: _Form = registry.with_settings(f"representation {name}", _Form, settings)
    if name == "plain" and form.length:
        raise PotstillError(
            f"representation plain leaves series as long as they are, but length={form.length} was given; say "
            f'`representation="resample:length={form.length}"` or `representation="pad:length={form.length}"`'
        )
    return name, form


def read_classified_series(task: Task, data: object, options: ReadOptions) -> Splits:
    """Read series with a class each: a table in long form, a folder of tables by class, a file of the UCR and UEA
    archives, sequences of bases in a table or in FASTA files by class, or arrays (n, channels, length) or (n, length)
    with labels.

    A long table has a row for each point in time, and the columns that ``series`` and ``label`` name. A table without
    ``series`` has a row for each series. Lists may hold arrays (channels, length) of several lengths.

    Args:
        task: classification.
        data: what holds them.
        options: ``representation`` makes them equally long (``pad``, ``resample``) and says the scale; ``missing``:
            ``impute`` draws a line between the values beside a missing one, ``drop`` leaves such series out.

    Raises:
        PotstillError: several lengths, missing or infinite values, labels that are not understood, or options of other
            data.
    """
    for option in _REFUSED:
        if getattr(options, option) is not None:
            raise PotstillError(f"series with classes are read without `{option}=`; leave it out")
    if options.skip_bad:
        raise PotstillError("series with classes are read without `skip_bad=`; leave it out")
    how, form = _parse_form(options.representation)
    name, given, given_test = _read(data, options)
    train, test, channels = _checked(name, given, given_test)
    notes = [*train.notes, *_cut_ends((given, given_test), (train, test), name)]
    train = _without_missing(train, name, channels, options, notes)
    test = None if test is None else _without_missing(test, name, channels, options, notes)
    length = _common_length(how, form, train, test, name)
    parts = [p for p in (train, test) if p is not None]
    total = 4 * sum(len(p.samples) for p in parts) * len(channels) * length
    require_memory(3 * total, f"{name}: its series", "give a smaller length, or fewer series")
    y, z, classes, more = encode_labels(
        train.labels, None if test is None else test.labels, classes=train.classes, name=name
    )
    lengths = sorted({s.shape[1] for p in parts for s in p.samples})
    if lengths != [length]:
        way = {"pad": "filled with their last value, or cut at the end", "resample": "resampled on straight lines"}[how]
        notes.append(
            f"{name}: series of {lengths[0]:,} to {lengths[-1]:,} points are {way}, to {length:,} points each"
            if len(lengths) > 1 else f"{name}: series of {lengths[0]:,} points are {way}, to {length:,} points each"
        )  # fmt: skip
    if form.scale == "series":
        notes.append(f"{name}: every series is scaled by its own mean and deviation, channel by channel")

    def part(p: LabelledSeries, labels: Any) -> RawPart:
        x = np.stack([_stretched(s, how, length) for s in p.samples])
        if form.scale == "series":
            spread = x.std(2, keepdims=True)
            x = (x - x.mean(2, keepdims=True)) / np.where(spread > 1e-9 * (1 + np.abs(x).max()), spread, 1.0)
        return RawPart(
            inputs=torch.from_numpy(x.astype(np.float32)), labels=labels, names=p.names,
            groups=None if p.groups is None else np.array(p.groups),
        )  # fmt: skip

    raw = RawSplits(
        name=name, train=part(train, y), test=None if test is None or z is None else part(test, z),
        spec=InputSpec(
            kind="signal", shape=(len(channels), length), horizontal_flip=False, columns=channels,
            units="values" if form.scale == "series" else train.units,
        ),
        classes=classes, normalization=options.normalization, notes=(*notes, *more),
    )  # fmt: skip
    grouped = isinstance(options.group, str) and train.groups is not None
    return assemble(raw, replace(options, group=None) if grouped else options)


def _accepts(data: object) -> bool:
    """Return True for files and folders of the archives, folders of tables by class, and sequences of bases."""
    if not isinstance(data, str | Path):
        return False
    path = Path(data)
    try:
        if path.is_dir():
            return archive_pair(path) is not None or _is_series_folder(path) or _holds_fasta(path)
        return path.is_file() and (archive_pair(path) is not None or path.suffix.lower() in FASTA_SUFFIXES)
    except OSError:  # a name that is none of a file
        return False


read_classified_series.accepts = _accepts  # type: ignore[attr-defined]


def _holds_fasta(folder: Path) -> bool:
    """Return True if files of sequences are in the folder itself, and no folders that name classes."""
    found = list(folder.iterdir())
    return not any(p.is_dir() for p in found) and any(p.suffix.lower() in FASTA_SUFFIXES for p in found)


def _is_series_folder(root: Path) -> bool:
    """Return True if the first file in a folder of a folder is a table."""
    from potstill.data.graph_files import holds_graph

    if holds_graph(root):
        return False
    return first_suffix(root) in (*FOLDER_SUFFIXES, *FASTA_SUFFIXES)


def _read(data: object, options: ReadOptions) -> tuple[str, LabelledSeries, LabelledSeries | None]:
    """Return the name of the data, the training series, and the test series if the data have a test part."""
    if isinstance(data, str | Path):
        path = Path(data).expanduser()
        if not path.exists():
            raise PotstillError(f"{data}: no such file or folder; check the path")
        suffix = path.suffix.lower()
        if suffix in FASTA_SUFFIXES or (path.is_dir() and _holds_fasta(path)):
            raise PotstillError(
                f"{data}: nothing says which class a sequence is of; put the sequences of each class in a folder named "
                "after it, CLASS/NAME.fasta, and give the folder around these"
            )
        pair = None if options.series is not None else archive_pair(path)
        if pair is not None:
            _refuse_columns(options, str(data))
            name = pair[0].stem.removesuffix("_TRAIN")
            return name, read_archive_file(pair[0]), None if pair[1] is None else read_archive_file(pair[1])
        if path.is_dir():
            _refuse_columns(options, str(data))
            if first_suffix(path) in FASTA_SUFFIXES:
                return path.resolve().name, *read_fasta_folder(path)
            return path.resolve().name, *read_series_folder(path, options)
        if suffix == ".npz":
            _refuse_columns(options, str(data))
            return path.stem, *_of_arrays(read_npz_arrays(path), path.stem)
        if suffix in TABLE_SUFFIXES:
            return path.name, _of_table(read_file_with_labels(path, options), options, path.name), None
        raise PotstillError(
            f"{data}: series with classes are read from .ts, .arff, csv, parquet and npz files and from folders"
        )
    if (frames := to_arrow_tables(data, options.label)) is not None:
        made = [_of_table(table, replace(options, label=frames[1]), "frame") for table in frames[0]]
        return "frame", made[0], made[1] if len(made) > 1 else None
    _refuse_columns(options, "arrays of series")
    if isinstance(data, Mapping):
        return "arrays", *_of_arrays(data, "arrays")
    if isinstance(data, tuple | list) and len(data) in (2, 4):
        keys = ("x_train", "y_train", "x_test", "y_test")[: len(data)]
        return "arrays", *_of_arrays(dict(zip(keys, data, strict=True)), "arrays")
    raise PotstillError(
        f"a {type(data).__name__} was given; give a file, a folder, a frame, (x, y) or (x_train, y_train, x_test, "
        "y_test)"
    )


def _refuse_columns(options: ReadOptions, what: str) -> None:
    for option in ("series", "label"):
        if getattr(options, option) is not None:
            raise PotstillError(f"{what} has no columns; leave `{option}=` out")


def _of_table(table: Any, options: ReadOptions, name: str) -> LabelledSeries:
    table = remove_columns([table], options.remove_columns, options.label, name)[0]
    if options.series is not None:
        return read_long_table(table, options, name)
    return read_sequences(table, options, name) or read_wide_table(table, options, name)


def _of_arrays(arrays: Mapping[str, Any], name: str) -> tuple[LabelledSeries, LabelledSeries | None]:
    x, y, *rest = pick_arrays(arrays, name)
    classes = arrays.get("classes")
    named = None if classes is None else tuple(str(c) for c in to_array(classes, f"{name}: classes").tolist())
    train = _of_array(x, y, name, named)
    return train, _of_array(rest[0], rest[1], f"{name} (test)", named) if rest else None


def _of_array(x: Any, y: Any, name: str, classes: tuple[str, ...] | None) -> LabelledSeries:
    if isinstance(x, list | tuple) and len({np.shape(s) for s in x}) > 1:
        several = [to_array(s, f"{name}[{i}]") for i, s in enumerate(x)]
    else:
        array = to_array(x, name)
        if array.ndim not in (2, 3):
            raise PotstillError(
                f"{name}: series are (n, channels, length) or (n, length), but the array is {array.shape}; reshape it"
            )
        several = list(array)
    samples: list[Array] = []
    for i, s in enumerate(several):
        if s.dtype.kind not in "biuf" or s.ndim not in (1, 2):
            raise PotstillError(
                f"{name}: series {i} is {s.dtype} of shape {s.shape}; give numbers (channels, length) or (length,)"
            )
        samples.append(s.reshape(1, -1).astype(np.float64) if s.ndim == 1 else s.astype(np.float64))
    labels = list(to_array(y, f"{name}: labels").reshape(-1).tolist())
    if len(labels) != len(samples):
        raise PotstillError(f"{name}: {len(samples)} series but {len(labels)} labels; give one label for each series")
    return LabelledSeries(samples=samples, labels=labels, classes=classes)


def _checked(
    name: str, train: LabelledSeries, test: LabelledSeries | None
) -> tuple[LabelledSeries, LabelledSeries | None, tuple[str, ...]]:
    """Check channels and values, cut missing values at the ends off, and return the names of the channels."""
    parts: list[LabelledSeries] = []
    count = train.samples[0].shape[0] if train.samples else 0
    for part, where in ((train, name), (test, f"{name}: test part")):
        if part is None:
            continue
        if not part.samples:
            raise PotstillError(f"{where}: there are no series; give at least one")
        samples = []
        for i, s in enumerate(part.samples):
            called = part.names[i] if part.names else i + 1
            if s.shape[0] != count:
                raise PotstillError(
                    f"{where}: series {called} has {s.shape[0]} channels, the first one {count}; give all the same"
                )
            filled = np.flatnonzero(~np.isnan(s).all(0))
            if not len(filled):
                raise PotstillError(f"{where}: series {called} has no value; leave it out")
            samples.append(s[:, : int(filled[-1]) + 1])
            check_float32_range(s.ravel(), f"series {called}", where)
        parts.append(replace(part, samples=samples))
    if test is not None and test.channels != train.channels:
        raise PotstillError(
            f"{name}: channels of the test part are {', '.join(test.channels)[:80]}, those of the training part "
            f"{', '.join(train.channels)[:80]}; give both the same"
        )
    names = train.channels or tuple(f"channel {i + 1}" for i in range(count))
    return parts[0], parts[1] if test is not None else None, names


def _cut_ends(
    before: tuple[LabelledSeries | None, ...], after: tuple[LabelledSeries | None, ...], name: str
) -> list[str]:
    """Return a note on series whose last values are missing, where there are some."""
    cut = [
        a.shape[1] - b.shape[1]
        for one, other in zip(before, after, strict=True) if one is not None and other is not None
        for a, b in zip(one.samples, other.samples, strict=True) if a.shape[1] > b.shape[1]
    ]  # fmt: skip
    if not cut:
        return []
    return [
        f"{name}: {len(cut):,} series end in missing values, which are cut off: {sum(cut):,} points in all, of one "
        f"series at most {max(cut):,}"
    ]


def _without_missing(
    part: LabelledSeries, name: str, channels: tuple[str, ...], options: ReadOptions, notes: list[str]
) -> LabelledSeries:
    """Return the series with missing values filled, or without those that have some; notes are added."""
    way: Literal["impute", "drop", "refuse"] = parse_missing(options.missing)
    at = [i for i, s in enumerate(part.samples) if np.isnan(s).any()]
    if not at:
        return part
    cells = sum(int(np.isnan(part.samples[i]).sum()) for i in at)
    first = part.names[at[0]] if part.names else at[0] + 1
    if way == "refuse":
        raise PotstillError(
            f"{name}: {cells:,} values are missing in {len(at):,} of {len(part.samples):,} series (the first: series "
            f'{first}); `missing="impute"` draws lines between their neighbours, `missing="drop"` leaves such series '
            "out"
        )
    if way == "drop":
        stay = [i for i in range(len(part.samples)) if i not in set(at)]
        notes.append(f"{name}: {len(at):,} series with missing values were left out")
        return replace(
            part, samples=[part.samples[i] for i in stay], labels=[part.labels[i] for i in stay],
            groups=None if part.groups is None else [part.groups[i] for i in stay],
            names=tuple(part.names[i] for i in stay) if part.names else (),
        )  # fmt: skip
    samples = list(part.samples)
    for i in at:
        filled = samples[i].copy()
        for c, row in enumerate(filled):
            present = np.flatnonzero(~np.isnan(row))
            if not len(present):
                called = part.names[i] if part.names else i + 1
                raise PotstillError(
                    f'{name}: series {called} has no value in {channels[c]}; `missing="drop"` leaves it out'
                )
            filled[c] = np.interp(np.arange(len(row)), present, row[present])
        samples[i] = filled
    notes.append(
        f"{name}: {cells:,} missing values in {len(at):,} series were filled on lines between their neighbours, at the "
        "ends with the nearest"
    )
    return replace(part, samples=samples)


def _common_length(how: str, form: _Form, train: LabelledSeries, test: LabelledSeries | None, name: str) -> int:
    """Return the length of all series.

    Raises:
        PotstillError: they have several, and nothing says what to do.
    """
    lengths = [s.shape[1] for s in train.samples]
    several = {*lengths, *(s.shape[1] for s in (test.samples if test else ()))}
    if how == "plain" and len(several) > 1:
        raise PotstillError(
            f"{name}: series must have one length, but they have {min(several):,} to {max(several):,} points; "
            '`representation="resample"` stretches them to one, `representation="pad"` fills them up'
        )
    return form.length or (int(np.median(lengths)) if how == "resample" else max(lengths))


def _stretched(sample: Array, how: str, length: int) -> Array:
    """Return a series (channels, L) with ``length`` points."""
    have = sample.shape[1]
    if have == length:
        return sample
    if how == "pad":
        return np.pad(sample[:, :length], ((0, 0), (0, max(0, length - have))), mode="edge")
    at = np.linspace(0, have - 1, length)
    return np.stack([np.interp(at, np.arange(have), row) for row in sample])
