"""Texts with classes: a column of a table, or a folder of ``.txt`` files by class.

Texts are stored as they are and encoded once the test split is known (`encode_parts`), by training texts alone.
"""

import codecs
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import torch
from jaxtyping import Int
from torch import Tensor

from potstill._util.input_limits import limit_hint, limits
from potstill.core import InputSpec
from potstill.data.arrays import encode_labels
from potstill.data.error_text import reason
from potstill.data.folder import list_folder
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, RawSplits
from potstill.data.table_encoding import is_text_type, parse_missing, to_texts
from potstill.data.text_encoder import Representation
from potstill.data.text_representations import OwnRepresentation, parse_representation
from potstill.data.train_test_overlap import text_key
from potstill.errors import PotstillError

__all__ = [
    "JSON_SUFFIXES", "find_text_column", "is_text_folder", "read_json_lines", "read_representation", "read_text_csv",
    "read_text_folder", "text_splits", "to_text_tables",
]  # fmt: skip

JSON_SUFFIXES = (".jsonl", ".ndjson")
SUFFIX = ".txt"
_WORD = re.compile(r"[^\W\d_]{2,}")
_LOOKED_AT = 1000
"""Cells of a column by which texts are recognised."""
_LEAST_WORDS, _LEAST_DIFFERENT = 3.0, 0.5
"""Words of a cell, on average, and fraction of different cells, from which a column holds texts."""
_LONG = 20_000
"""Characters from which a text is noted as long."""
_NO_LABELS = frozenset(("n.a.", "n/a", "na", "nan", "none", "null", "nil", "-", "?", "unknown", "#n/a", "missing"))
"""Lower-case labels that usually say that there is none."""
_ENCODINGS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def _holds_texts(values: Any) -> bool:
    """Return True if the cells are texts of several words that mostly differ."""
    if not is_text_type(values.type):
        return False
    cells = [c for c in to_texts(values.slice(0, _LOOKED_AT)).to_pylist() if c and c.strip()]
    if not cells:
        return False
    different = len(set(cells))
    words = sum(min(len(_WORD.findall(cell[:2000])), 50) for cell in cells) / len(cells)
    unspaced = sum(len(cell) >= 10 and not cell.isascii() and " " not in cell for cell in cells) / len(cells)
    return (words >= _LEAST_WORDS or unspaced > 0.5) and (
        different / len(cells) >= _LEAST_DIFFERENT or different > limits().categories
    )


def find_text_column(table: Any, label: str, options: ReadOptions, name: str) -> str | None:
    """Return the column of texts: the one that is named, or the only one that holds texts; ``None``: a plain table.

    Raises:
        PotstillError: there is no such column, or several hold texts and none is named.
    """
    if options.text is not None:
        if options.text not in table.column_names or options.text == label:
            why = "is the label" if options.text == label else "is not there"
            others = ", ".join(c for c in table.column_names if c != label)
            raise PotstillError(f'{name}: the text column {options.text!r} {why}; say `text="COLUMN"`, one of {others}')
        return options.text
    if options.kind == "table":
        return None
    forced = options.kind == "text" or options.representation is not None or options.encode is not None
    found = [f.name for f in table.schema if f.name != label and _holds_texts(table.column(f.name))]
    if forced and not found:  # the only column of any text
        found = [f.name for f in table.schema if f.name != label and is_text_type(_plain(f.type))]
    if len(found) > 1:
        raise PotstillError(
            f"{name}: the columns {' and '.join(map(repr, found[:3]))} hold texts; say which is read with "
            f'`text="{found[0]}"`'
        )
    if not found and forced:
        raise PotstillError(f'{name}: no column holds texts; say which one is with `text="COLUMN"`')
    return found[0] if found else None


def text_splits(
    tables: Sequence[Any], labels: Sequence[list[Any]], named: tuple[str, ...] | None, column: str,
    rows: Sequence[Int[Tensor, " _"]], options: ReadOptions, name: str, label_column: tuple[str, str],
) -> RawSplits:  # fmt: skip
    """Return the texts of a table's column with their labels.

    Args:
        tables: of the training part, and of the test part if there is one.
        labels: of each table's rows.
        rows: row numbers in the data.

    Raises:
        PotstillError: the column holds no texts, or nothing but empty ones.
    """
    if not all(is_text_type(_plain(t.column(column).type)) for t in tables):
        raise PotstillError(f"{name}: column {column!r} holds {tables[0].column(column).type}, not texts; name another")
    other = [c for c in tables[0].column_names if c not in (column, label_column[0])]
    notes = [f"{name}: column {column!r} is read as texts"]
    if other:
        listed = ", ".join(map(repr, other[:3])) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
        notes[0] += f'; {listed} {"is" if len(other) == 1 else "are"} not read (`kind="table"` reads a table)'
    texts = [to_texts(t.column(column)).to_pylist() for t in tables]
    return _text_splits(texts, labels, named, rows, (), options, name, notes, label_column)


def _plain(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _text_splits(
    texts: Sequence[Sequence[str | None]], labels: Sequence[Sequence[Any]], named: tuple[str, ...] | None,
    places: Sequence[Int[Tensor, " _"]], names: Sequence[Sequence[str]], options: ReadOptions, name: str,
    notes: list[str], label_column: tuple[str, str] | None = None,
) -> RawSplits:  # fmt: skip
    if parse_missing(options.missing) == "impute":
        raise PotstillError(f'{name}: a missing text cannot be imputed; say `missing="drop"`, or leave it out')
    parts: list[tuple[list[str], list[Any], Tensor, tuple[str, ...]]] = []
    for i, some in enumerate(texts):
        where = "" if len(texts) == 1 else (" of the training part", " of the test part")[i]
        keep, more = _select_samples(some, labels[i], options, f"{name}{where}")
        notes += more
        if not keep:
            raise PotstillError(f"{name}{where}: there is no text that is not empty; give at least one")
        kept_texts = [unicodedata.normalize("NFC", some[j] or "") for j in keep]
        kept_names = tuple(names[i][j] for j in keep) if names else ()
        parts.append((kept_texts, [labels[i][j] for j in keep], places[i][torch.tensor(keep)], kept_names))
    notes += _notes_on_texts(parts[0][0], parts[0][1], name)
    y, z, classes, more_notes = encode_labels(
        parts[0][1], parts[1][1] if len(parts) == 2 else None, classes=named, name=name
    )

    def part(i: int, encoded: Tensor) -> RawPart:
        some, _, place, file_names = parts[i]
        return RawPart(
            inputs=torch.zeros(len(some), 1), labels=encoded, texts=tuple(some), places=place, names=file_names
        )

    return RawSplits(
        name=name, train=part(0, y), test=None if z is None else part(1, z),
        spec=InputSpec(kind="text", shape=(1,), units="representation of a text"), classes=classes,
        notes=(*notes, *more_notes), label_column=label_column, representation=read_representation(options),
    )  # fmt: skip


def read_representation(options: ReadOptions) -> Representation:
    """Return the representation that the options name.

    Raises:
        PotstillError: a name and a function were given, or there is no such name.
    """
    if options.encode is None:
        return parse_representation(options.representation)
    if options.representation is not None:
        raise PotstillError("a representation and encode, a function of your own, were given; leave one out")
    return OwnRepresentation(function=options.encode)


def _select_samples(
    texts: Sequence[str | None], labels: Sequence[Any], options: ReadOptions, name: str
) -> tuple[list[int], list[str]]:
    """Return the samples to read, and notes on the others: empty texts, and labels that say there is none."""
    notes = []
    kept = [i for i, text in enumerate(texts) if text is not None and text.strip()]
    if left := len(texts) - len(kept):
        notes.append(f"{name}: {left:,} of {len(texts):,} texts are empty and were left out")
    blank = [i for i in kept if isinstance(labels[i], str) and labels[i].strip().lower() in _NO_LABELS]
    if blank:
        said, many = str(labels[blank[0]]), f"{len(blank):,} of {len(kept):,} samples"
        if options.missing == "drop":
            gone = set(blank)
            kept = [i for i in kept if i not in gone]
            notes.append(f"{name}: {many} have labels such as {said!r}, which say that there is none; left out")
        else:
            notes.append(
                f"{name}: {many} have labels such as {said!r}, which are read as a class; "
                '`missing="drop"` leaves these samples out'
            )
    return kept, notes


def _notes_on_texts(texts: Sequence[str], labels: Sequence[Any], name: str) -> list[str]:
    notes = []
    first: dict[str, Any] = {}
    copies = other = 0
    for text, label in zip(texts, labels, strict=True):
        before = first.setdefault(text_key(text), label)
        copies += 1
        other += before != label
    copies -= len(first)
    if copies:
        under = f", {other:,} of them under another class than the first" if other else ""
        notes.append(f"{name}: {copies:,} of {len(texts):,} texts are copies of an earlier one{under}")
    if (long := sum(len(text) > _LONG for text in texts)) > 0:
        notes.append(
            f"{name}: {long:,} texts have more than {_LONG:,} characters; each takes its bytes in a set that keeps it"
        )
    return notes


def read_text_csv(path: Path) -> Any:
    """Read a CSV file whose cells may hold line breaks in quotes, in UTF-8, UTF-16 by its mark, or Windows-1252.

    Raises:
        PotstillError: it is no such file.
    """
    with path.open("rb") as file:
        head = file.read(1 << 16)
    encoding = _encoding(head)
    first_line = head.decode(encoding, "replace").lstrip("\ufeff").split("\n", 1)[0]
    delimiter = next((d for d in ",;\t" if d in first_line), ",")
    parsing = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    table = None
    for tried in dict.fromkeys((encoding, "cp1252", "latin-1")):
        try:
            table = pyarrow.csv.read_csv(path, pyarrow.csv.ReadOptions(encoding=tried), parsing)
        except UnicodeDecodeError:
            continue
        except (pa.ArrowException, OSError) as error:
            raise PotstillError(f"{path}: not a CSV file with a header line ({reason(error)})") from None
        if not any(pa.types.is_binary(field.type) for field in table.schema):
            return table
    raise PotstillError(f"{path}: is in no encoding that is read; save the file as UTF-8")


def read_json_lines(path: Path) -> Any:
    """Read the Arrow table in a file with a JSON object on each line.

    Raises:
        PotstillError: it is no such file.
    """
    try:
        return pyarrow.json.read_json(path, parse_options=pyarrow.json.ParseOptions(newlines_in_values=False))
    except (pa.ArrowException, OSError) as error:
        raise PotstillError(f"{path}: not a file with a JSON object on each line ({reason(error)})") from None


def to_text_tables(data: object) -> tuple[list[Any], str] | None:
    """Return ``(texts, labels)``, or ``(texts, labels, test texts, test labels)``, as Arrow tables and their label
    column; ``None`` for other data.

    Raises:
        PotstillError: not as many labels as texts.
    """
    if not isinstance(data, tuple | list) or len(data) not in (2, 4):
        return None
    tables = []
    for texts, labels in zip(data[::2], data[1::2], strict=True):
        listed = texts.tolist() if hasattr(texts, "tolist") and getattr(texts, "ndim", 1) == 1 else texts
        if not isinstance(listed, list | tuple) or not listed or not all(isinstance(t, str | None) for t in listed):
            return None
        y = labels.tolist() if hasattr(labels, "tolist") else list(labels) if isinstance(labels, list | tuple) else None
        if y is None or len(y) != len(listed):
            raise PotstillError(f"{len(listed)} texts were given, and not as many labels; give one label for each text")
        tables.append(pa.table({"text": pa.array(listed, pa.large_string()), "label": y}))
    return tables, "label"


def _encoding(head: bytes) -> str:
    return next((name for mark, name in _ENCODINGS if head.startswith(mark)), "utf-8")


def is_text_folder(root: Path) -> bool:
    """Return True if a folder holds ``.txt`` files within class folders, and no pictures before the first of them."""
    from potstill.data.pictures import SUFFIXES

    for at, below, files in os.walk(root):
        below.sort()
        if Path(at) == root:
            continue
        for file in sorted(files):
            suffix = os.path.splitext(file)[1].lower()
            if suffix in SUFFIXES:
                return False
            if suffix == SUFFIX:
                return True
    return False


def read_text_folder(root: Path, options: ReadOptions) -> RawSplits:
    """Read a folder of ``.txt`` files: ``train/CLASS/*.txt`` and ``test/CLASS/*.txt``, or ``CLASS/*.txt``.

    UTF-8 is tried first, then UTF-16 by its mark, then Windows-1252, with a note.

    Raises:
        PotstillError: no class folders, a file that is too large.
    """
    listed = list_folder(root, (SUFFIX,), "texts")
    parts: dict[bool, tuple[list[str | None], list[Any], list[int], list[str]]] = {
        True: ([], [], [], []), False: ([], [], [], []),
    }  # fmt: skip
    encodings: Counter[str] = Counter()
    place = 0
    for of_class in listed.files:
        texts, labels, places, names = parts[of_class.training]
        for file in of_class.names:
            path = of_class.folder / file
            if (size := path.stat().st_size) > limits().cell_bytes:
                raise PotstillError(f"{path}: {size:,} bytes are too many for a text; {limit_hint('cell_bytes')}")
            texts.append(_decoded(path.read_bytes(), encodings))
            labels.append(listed.classes[of_class.label])
            places.append(place)
            names.append(path.relative_to(root).as_posix())
            place += 1
    notes = list(listed.notes)
    if encodings:
        said = ", ".join(f"{n:,} as {name}" for name, n in encodings.items())
        notes.append(f"{listed.name}: texts that are not UTF-8 were read otherwise: {said}")
    several = [parts[True], parts[False]] if listed.split else [parts[True]]
    found = _text_splits(
        [p[0] for p in several], [p[1] for p in several], listed.classes, [torch.tensor(p[2]) for p in several],
        [p[3] for p in several], options, listed.name, notes,
    )  # fmt: skip
    return replace(found, classes=listed.classes)


def _decoded(content: bytes, encodings: Counter[str]) -> str:
    name = _encoding(content[:4])
    for tried in (name, "cp1252", "latin-1"):
        try:
            text = content.decode(tried)
        except UnicodeDecodeError:
            continue
        if tried not in ("utf-8", "utf-8-sig"):
            encodings[tried] += 1
        return text
    return content.decode("utf-8", "replace")
