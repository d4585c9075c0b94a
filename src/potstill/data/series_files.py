"""Readers of whole series with a class each: the text formats of the UCR and UEA archives, long tables, folders.

The format ``.ts`` is sktime's and aeon's: a header of lines that begin with ``@``, then one line for each series, whose
channels are separated by ``:``, their values by ``,``, and whose last part is the class.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from potstill.data.folder import list_folder
from potstill.data.limits import require_memory
from potstill.data.read_options import ReadOptions
from potstill.data.series import parse_text_columns
from potstill.data.stamped_series import parse_cells, read_stamped
from potstill.data.table import check_unique_columns, find_label_column, read_labels, read_table_file
from potstill.data.table_encoding import is_number_type
from potstill.data.timeline import find_timeline
from potstill.errors import PotstillError, unknown_name

__all__ = [
    "ARCHIVE_SUFFIXES", "FOLDER_SUFFIXES", "LabelledSeries", "archive_pair", "read_archive_file", "read_long_table",
    "read_series_folder", "read_wide_table",
]  # fmt: skip

Array: TypeAlias = npt.NDArray[np.float64]

ARCHIVE_SUFFIXES = (".ts", ".arff")
"""Text formats of the archives that are known by their suffix; their ``_TRAIN.tsv`` by its name."""
FOLDER_SUFFIXES = (".csv", ".tsv", ".parquet")
"""Files of a folder of series."""
_PAIR = re.compile(r"(.+)_(TRAIN|TEST)(\.(?:ts|tsv|arff|txt))", re.IGNORECASE)
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
_MOST_NOTES = 3
_ORDER = {".txt": 1, ".tsv": 2, ".arff": 3, ".ts": 4}
"""Order of suffixes: a later one is read before those in front of it."""
_IN_MEMORY = 10
"""Bytes in memory of a byte of text, at most."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledSeries:
    """Series as they were read, of any lengths."""

    samples: list[Array]
    """(channels, length) of each, NaN where a value is missing."""
    labels: list[Any]
    channels: tuple[str, ...] = ()
    """Names of the channels; (): they have none."""
    classes: tuple[str, ...] | None = None
    """Names of the classes in label order; ``None``: the sorted labels."""
    groups: list[Any] | None = None
    names: tuple[str, ...] = ()
    """Name of each series; (): they have none."""
    notes: tuple[str, ...] = ()
    units: str = "values"
    """Units of the values, ``bases`` of sequences: 1 where one stands."""


def archive_pair(path: Path) -> tuple[Path, Path | None] | None:
    """Return the training file of an archive's set and its test file, if there is one; ``None``: it is no such set.

    Args:
        path: one of the files, or the folder of a set.

    Raises:
        PotstillError: a folder holds several sets, none of them named after it.
    """
    if path.is_dir():
        found = sorted(path.iterdir(), key=lambda p: (_ORDER.get(p.suffix.lower(), 0), p.name))
        first = {m[1]: p for p in found if (m := _PAIR.fullmatch(p.name)) and m[2].upper() == "TRAIN"}
        if not first:
            return None
        name = path.resolve().name if path.resolve().name in first else next(iter(first))
        if len(first) > 1 and name != path.resolve().name:
            raise PotstillError(
                f"{path}: holds {len(first)} sets of series ({', '.join(sorted(first)[:3])}, …); give the file of one, "
                f"such as {first[name]}"
            )
        return archive_pair(first[name])
    match = _PAIR.fullmatch(path.name)
    if match is None or match[2].upper() == "TEST":
        is_archive = path.suffix.lower() in ARCHIVE_SUFFIXES or match is not None
        return (path, None) if is_archive else None
    test = path.with_name(f"{match[1]}_{'test' if match[2].islower() else 'TEST'}{match[3]}")
    return path, test if test.is_file() else None


def read_archive_file(path: Path) -> LabelledSeries:
    """Read one file of the archives: ``.ts``, ``.arff``, or plain rows whose first value is the class.

    Raises:
        PotstillError: it cannot be read, or is no such file; the message says which line.
    """
    require_memory(_IN_MEMORY * path.stat().st_size, f"{path}", "give fewer series")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise PotstillError(f"{path}: the file must be UTF-8 text; save it as such") from None
    suffix = path.suffix.lower()
    if suffix not in ARCHIVE_SUFFIXES:
        return _read_plain(path, lines)
    begins = next((i for i, line in enumerate(lines) if line.strip().lower() == "@data"), None)
    if begins is None:
        raise PotstillError(f"{path}: there is no line @data, after which series begin; get the file again")
    rows = [
        (i + 1, line.strip()) for i, line in enumerate(lines) if i > begins and line.strip() and line[0] not in "#%"
    ]
    if not rows:
        raise PotstillError(f"{path}: there are no series after the line @data; get the file again")
    header = [line.strip().split() for line in lines[:begins] if line.startswith("@")]
    return (_read_ts if suffix == ".ts" else _read_arff)(path, header, rows)


def _sample(channels: list[list[float]], path: Path, line: int) -> Array:
    if len({len(channel) for channel in channels}) > 1:
        lengths = ", ".join(str(len(channel)) for channel in channels[:4])
        raise PotstillError(
            f"{path}: line {line}: the channels of a series must have one length, but they have {lengths}; correct it"
        )
    return np.array(channels, dtype=np.float64)


def _read_ts(path: Path, header: list[list[str]], rows: list[tuple[int, str]]) -> LabelledSeries:
    said = {words[0].lower(): [w.lower() for w in words[1:]] for words in header}
    if said.get("@classlabel", ["true"])[:1] != ["true"]:
        raise PotstillError(f"{path}: these series have no classes (@classLabel is not true); give a set that has")
    named = next((tuple(words[2:]) for words in header if words[0].lower() == "@classlabel"), ())
    samples, labels = [], []
    stamped, unsorted, gaps = said.get("@timestamps", ["false"])[:1] == ["true"], 0, 0
    for line, text in rows:
        if stamped:
            one = read_stamped(text, path, line)
            samples.append(_sample(one.channels, path, line))
            labels.append(one.label)
            unsorted, gaps = unsorted + (not one.is_sorted), gaps + (one.gaps > 0)
            continue
        *channels, label = text.split(":")
        if not channels:
            raise PotstillError(f"{path}: line {line} has no class after a colon; correct it")
        samples.append(_sample([parse_cells(channel, path, line) for channel in channels], path, line))
        labels.append(label.strip())
    unnamed = set(labels) - set(named)
    notes = []
    if unsorted:
        notes.append(f"{path.name}: the values of {unsorted:,} series were sorted by their time stamps")
    if gaps:
        notes.append(
            f"{path.name}: time stamps of {gaps:,} series have gaps; what follows one is joined to what is before"
        )
    return LabelledSeries(
        samples=samples, labels=labels, classes=None if unnamed or not named else named, notes=tuple(notes)
    )


def _read_arff(path: Path, header: list[list[str]], rows: list[tuple[int, str]]) -> LabelledSeries:
    samples, labels = [], []
    for line, text in rows:
        if text[0] in "'\"":  # channels in quotes, one after another, divided by \n
            inner, _, label = text[1:].rpartition(text[0])
            channels = [parse_cells(channel, path, line) for channel in inner.split("\\n")]
            label = label.lstrip(",")
        else:
            inner, _, label = text.rpartition(",")
            channels = [parse_cells(inner, path, line)]
        samples.append(_sample(channels, path, line))
        labels.append(label.strip().strip("'\""))
    return LabelledSeries(samples=samples, labels=labels)


def _read_plain(path: Path, lines: list[str]) -> LabelledSeries:
    samples, labels = [], []
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        label, *cells = re.split(r"[\t,]|\s+", text.strip())
        if not cells:
            raise PotstillError(f"{path}: line {line} has no values after the class; correct it")
        samples.append(np.array([parse_cells(",".join(cells), path, line)]))
        number = float(label) if re.fullmatch(r"-?\d+(\.0*)?([eE][+-]?\d+)?", label) else None
        labels.append(str(int(number)) if number is not None and number.is_integer() else label)
    if not samples:
        raise PotstillError(f"{path}: there are no series; get the file again")
    return LabelledSeries(samples=samples, labels=labels)


def _numeric(table: Any, without: Sequence[str | None]) -> list[str]:
    return [f.name for f in table.schema if f.name and is_number_type(f.type) and f.name not in without]


def _matrix(table: Any, columns: Sequence[str]) -> Array:
    cells = [
        table.column(c).combine_chunks().cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
        for c in columns
    ]
    return np.stack(cells).astype(np.float64)


def read_long_table(table: Any, options: ReadOptions, name: str) -> LabelledSeries:
    """Read a table with a row for each point in time of each series, and the series' class in every row.

    Args:
        table: ``pyarrow.Table``.
        options: ``series`` names the column of the series, ``label`` that of the class, ``group`` one of groups.

    Raises:
        PotstillError: a column is not there, a series has several classes, or no column holds numbers.
    """
    check_unique_columns(table, name)
    label = find_label_column(table, options.label, {}, name)
    group = options.group if isinstance(options.group, str) else None
    if group is not None and group not in table.column_names:
        raise PotstillError(f"{name}: {unknown_name('column', group, table.column_names)}")
    table, notes = parse_text_columns(table, name, replace(options, label=label))
    time = find_timeline(table, name, series=options.series, label=label, forecast=False)
    channels = [c for c in _numeric(table, (label, group)) if c not in time.excluded_columns and c != "Unnamed: 0"]
    if not channels:
        raise PotstillError(f"{name}: no column holds the values of a channel; a series needs one")
    unread = set(table.column_names) - {*channels, *time.excluded_columns, label, group}
    if unread:
        notes.append(f"{name}: columns {', '.join(map(repr, sorted(unread)))} were not read")
    values = _matrix(table, channels)[:, time.rows]
    begins = np.flatnonzero(np.concatenate([[True], np.diff(time.series) != 0]))
    ends = np.append(begins[1:], values.shape[1])
    names = tuple(time.names[time.series[b]] for b in begins)

    def one_each(column: str, noun: str) -> list[Any]:
        cells = read_labels(table, column, name) if noun == "class" else table.column(column).to_pylist()
        found = []
        for series, (b, e) in zip(names, zip(begins, ends, strict=True), strict=True):
            several = dict.fromkeys(cells[row] for row in time.rows[b:e])
            if len(several) > 1 or None in several:
                shown = " and ".join(repr(v) for v in list(several)[:2])
                raise PotstillError(
                    f"{name}: a series has one {noun}, but {series!r} has {shown} in column {column!r}; correct it, or "
                    "name another column"
                )
            found.append(next(iter(several)))
        return found

    return LabelledSeries(
        samples=[values[:, b:e] for b, e in zip(begins, ends, strict=True)], labels=one_each(label, "class"),
        channels=tuple(channels), groups=None if group is None else one_each(group, "group"), names=names,
        notes=(*notes, *time.notes),
    )  # fmt: skip


def read_wide_table(table: Any, options: ReadOptions, name: str) -> LabelledSeries:
    """Read a table with a row for each series of one channel, and a column for each point in time.

    Raises:
        PotstillError: there is no column of classes, or none of numbers.
    """
    check_unique_columns(table, name)
    label = find_label_column(table, options.label, {}, name)
    group = options.group if isinstance(options.group, str) else None
    if group is not None and group not in table.column_names:
        raise PotstillError(f"{name}: {unknown_name('column', group, table.column_names)}")
    columns = _numeric(table, (label, group))
    if not columns:
        raise PotstillError(
            f"{name}: no column holds numbers; a row is one series, or say which column names the series that a row "
            'belongs to: `series="COLUMN"`'
        )
    other = [c for c in table.column_names if c not in (*columns, label, group)]
    notes = [f"{name}: a row is read as one series of {len(columns):,} points"]
    if other:
        notes.append(f"{name}: columns {', '.join(map(repr, other[:5]))} were not read")
    return LabelledSeries(
        samples=list(_matrix(table, columns).T[:, None, :]), labels=read_labels(table, label, name),
        groups=None if group is None else table.column(group).to_pylist(), notes=tuple(notes),
    )  # fmt: skip


def read_series_folder(root: Path, options: ReadOptions) -> tuple[LabelledSeries, LabelledSeries | None]:
    """Read ``CLASS/NAME.csv``, or ``train/CLASS/…`` and ``test/CLASS/…``: a file for each series, a row for each point.

    Raises:
        PotstillError: no class folders, a file without numbers, or files of other channels than the first.
    """
    listed = list_folder(root, FOLDER_SUFFIXES, "series")
    files = [
        (of_class, of_class.folder / file, *_read_series_file(of_class.folder / file, options))
        for of_class in listed.files for file in of_class.names
    ]  # fmt: skip
    # a column of time counts in every file, a channel perhaps in one
    times = set.intersection(*(set(time) for *_, time, _ in files))
    channels = tuple(c for c in files[0][2] if c not in times)
    parts = {part: LabelledSeries(samples=[], labels=[], classes=listed.classes) for part in (True, False)}
    named, notes = {True: list[str](), False: list[str]()}, dict.fromkeys(listed.notes)
    for of_class, path, values, _, more in files:
        columns = tuple(c for c in values if c not in times)
        if columns != channels or not columns:
            found = ", ".join(columns)[:80] or "none with numbers"
            raise PotstillError(
                f"{path}: its columns are {found}, but those of the first file {', '.join(channels)[:80]}; give all "
                "series the same"
            )
        parts[of_class.training].samples.append(np.stack([values[c] for c in columns]))
        parts[of_class.training].labels.append(listed.classes[of_class.label])
        named[of_class.training].append(path.relative_to(root).as_posix())
        notes |= dict.fromkeys(more)
    made = [
        replace(part, names=tuple(named[key]), channels=channels, notes=_shortened(list(notes)) if key else ())
        for key, part in parts.items()
    ]
    return made[0], made[1] if listed.split else None


def _shortened(notes: list[str]) -> tuple[str, ...]:
    """Return the first notes, and how many files there are more about."""
    more = len(notes) - _MOST_NOTES
    return tuple(notes) if more <= 1 else (*notes[:_MOST_NOTES], f"{more:,} more notes are like these")


def _read_series_file(path: Path, options: ReadOptions) -> tuple[dict[str, Array], tuple[str, ...], list[str]]:
    """Return one series by the names of its columns, those that look like its time, and notes."""
    require_memory(_IN_MEMORY * path.stat().st_size, f"{path}", "give shorter series")
    if path.suffix.lower() != ".parquet":
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            first = next(csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","), [])
        if first and all(_NUMBER.fullmatch(cell) for cell in first):
            rows = path.read_text(encoding="utf-8-sig").splitlines()
            values = [parse_cells(row.replace("\t", ","), path, i + 1) for i, row in enumerate(rows) if row.strip()]
            if len({len(row) for row in values}) > 1:
                raise PotstillError(f"{path}: its rows have several lengths; give each the same columns")
            return {f"channel {i + 1}": row for i, row in enumerate(np.array(values).T)}, (), []
    table = read_table_file(path)
    check_unique_columns(table, path.name)
    table, notes = parse_text_columns(table, path.name, options)
    time = find_timeline(table, path.name, forecast=False)
    found = _numeric(table, ())
    notes += [note for note in time.notes if " is the time" not in note and " not read as channels" not in note]
    if not found:
        return {}, time.excluded_columns, notes
    return dict(zip(found, _matrix(table, found)[:, time.rows], strict=True)), time.excluded_columns, notes
