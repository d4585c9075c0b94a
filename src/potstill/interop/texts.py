"""Import of texts: DiLM's ``dataset_N.json``, a JSON object on each line.

A line has the texts of one sample by field and its class: ``{"sentence": "…", "labels": 0}``, or ``premise`` and
``hypothesis``, ``question1`` and ``question2``. A run's folder has several sets. Texts of other programs, such as those
that a language model wrote (CondenseLM), are read alike: the class may be called ``label``, and be a name.

With the real data, the set has their classes and the vectors of their encoder, as a set that is made here, so that
`potstill.evaluate` measures it. Without them its inputs are words.
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill.codecs.texts import Texts
from potstill.core import InputSpec, Normalization, Source
from potstill.data.pairs import WORDS, encode_texts
from potstill.dataset_file import Contents, Distilled, Encoding, Provenance, Schema, build
from potstill.dataset_file.text_io import has_texts
from potstill.errors import PotstillError

__all__ = ["describe_classes", "find_text_sets", "import_texts"]

_FILE, _LABELS = re.compile(r"dataset_(\d+)\.json"), "labels"
_BYTES, _CLASSES, _FIELDS = 64 * 2**20, 10_000, 8
_SHOWN = 10
"""Classes that a note names."""


def find_text_sets(folder: Path) -> list[Path]:
    """Return ``dataset_N.json`` of a run's folder, or of its ``dataset``, by number."""
    inner = folder / "dataset"
    found = {p: m for p in (inner if inner.is_dir() else folder).iterdir() if (m := _FILE.fullmatch(p.name))}
    return sorted(found, key=lambda p: int(found[p][1]))


def _read_lines(file: Path) -> tuple[list[Any], str]:
    """Return the objects on the lines of a file, and its SHA-256."""
    try:
        if file.stat().st_size > _BYTES:
            raise PotstillError(
                f"{file}: more than {_BYTES:,} bytes, which no distilled set of texts has; check the path"
            )
        content = file.read_bytes()
        rows = [json.loads(line) for line in content.decode("utf-8").split("\n") if line.strip()]
    except OSError as error:
        raise PotstillError(f"{file}: cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, RecursionError) as error:
        cause = " ".join(str(error).split())[:100]
        raise PotstillError(f"{file}: a JSON object on each line is required ({cause}); check `format=`") from error
    return rows, hashlib.sha256(content).hexdigest()


def _number_classes(file: Path, rows: list[Any], classes: Sequence[str]) -> tuple[list[Any], tuple[str, ...]]:
    """Return rows whose class is a number called ``labels``, and the names of classes where rows have names.

    Args:
        file: for messages.
        rows: objects as they were read.
        classes: those of the data, in whose order names are numbered; empty: none, and names are in order.
    """
    if not all(isinstance(row, dict) for row in rows):
        return rows, ()
    if all("label" in row and _LABELS not in row for row in rows):
        rows = [{**{k: v for k, v in row.items() if k != "label"}, _LABELS: row["label"]} for row in rows]
    named = [row.get(_LABELS) for row in rows]
    if not rows or not all(isinstance(name, str) for name in named):
        return rows, ()
    names = tuple(classes) or tuple(sorted(set(named)))
    if unknown := sorted(set(named) - set(names)):
        raise PotstillError(
            f"{file}: its class {unknown[0][:40]!r} is not among those of the data ({', '.join(names[:_SHOWN])}); give "
            "the data that it was made of"
        )
    if len(names) > _CLASSES:
        raise PotstillError(f"{file}: at most {_CLASSES:,} classes are read, not {len(names):,}; name fewer")
    number = {name: n for n, name in enumerate(names)}
    return [{**row, _LABELS: number[row[_LABELS]]} for row in rows], names


def _check_fields(file: Path, rows: list[Any]) -> tuple[str, ...]:
    """Return the fields of text that all rows have."""
    first = rows[0] if rows and isinstance(rows[0], dict) else {}
    fields = tuple(name for name in first if name != _LABELS)
    if not 0 < len(fields) <= _FIELDS or not all(re.fullmatch(r"\w{1,40}", name, re.ASCII) for name in fields):
        raise PotstillError(
            f'{file}: lines such as {{"sentence": "…", "labels": 0}} are required, but the first has the fields '
            f"{', '.join(map(repr, list(first)[:_FIELDS])) or 'of none'}; check `format=`"
        )
    for number, row in enumerate(rows, 1):
        _check(file, number, row, fields)
    return fields


def _check(file: Path, number: int, row: object, fields: tuple[str, ...]) -> None:
    if not isinstance(row, dict) or row.keys() != {*fields, _LABELS}:
        raise PotstillError(f"{file}: line {number} has not the fields of the first; get the file again")
    if not all(isinstance(row[name], str) for name in fields):
        raise PotstillError(f"{file}: line {number} has a field that is not text; get the file again")
    label = row[_LABELS]
    if type(label) is not int or not 0 <= label < _CLASSES:
        raise PotstillError(f"{file}: line {number} needs a class, a whole number from 0, not {label!r:.40}")


def import_texts(path: Path, *, run: int = -1, method: str | None = None, train: Source | None = None) -> Distilled:
    """Import a set of texts: captions are the texts, a line for each field.

    Args:
        path: the file, or the folder of a run.
        run: number of the file in a folder, from 0. Default: the last.
        method: method that made the set. Default: DiLM.
        train: training part of the real data, texts with classes in the order of the file's numbers. Default: none,
            and inputs are words.

    Raises:
        PotstillError: there are no such texts, or the data are others: one line.
    """
    file = path
    if path.is_dir():
        files = find_text_sets(path)
        if not -len(files) <= run < len(files):
            raise PotstillError(
                f"{path}: run {run} is requested, but it holds {len(files)} dataset_N.json; count from 0"
            )
        file = files[run]
    rows, sha256 = _read_lines(file)
    rows, names = _number_classes(file, rows, () if train is None else train.classes)
    fields = _check_fields(file, rows)
    labels = [row[_LABELS] for row in rows]
    contents, schema, encoding = (
        _words(rows, fields, labels, names) if train is None else _vectors(file, rows, fields, labels, train)
    )
    notes = [f"made by another program and imported from {file.name}: that it saw the training part alone is its word"]
    notes += [] if train is None or names else [describe_classes(train.classes)]
    about = (
        {"name": "unknown"}
        if train is None
        else {"name": train.name, "samples": len(train), "hash": train.content_hash}
    )
    return build(
        contents, schema,
        Provenance(
            method=method or "dilm", config={"imported": "dilm"}, ipc=max(Counter(labels).values()),
            source={**about, "notes": notes},
            outcome={"kind": "imported", "message": f"released set, read from {file.name}", "step": 0},
            extra={"imported": {"form": "dilm", "sha256": {file.name: sha256}}},
        ),
        encoding,
    )  # fmt: skip


def describe_classes(classes: Sequence[str]) -> str:
    """Return in words which class of the data each number of a file is taken for, as no file names its classes."""
    taken = ", ".join(f"{number} as {name}" for number, name in enumerate(classes[:_SHOWN]))
    more = f" and so on to {len(classes) - 1}" if len(classes) > _SHOWN else ""
    return f"classes of the file by number are those of the data in label order: {taken}{more}"


def _words(
    rows: list[Any], fields: tuple[str, ...], labels: list[int], names: tuple[str, ...]
) -> tuple[Contents, Schema, Encoding]:
    """Return texts as words of every field."""
    inputs: dict[str, Tensor] = {}
    for field in fields:
        inputs |= encode_texts([row[field] for row in rows], field)
    words = InputSpec(kind="words", shape=(), levels=(WORDS,))
    parts = tuple((field, words) for field in fields)
    spec = InputSpec(kind="texts", shape=(), units="words", horizontal_flip=False, parts=parts)
    captions = tuple("\n".join(row[field] for field in fields) for row in rows)
    return (
        Contents(inputs=inputs, labels=torch.tensor(labels), captions=captions),
        Schema(
            classes=names or tuple(map(str, range(max(labels) + 1))),
            input=spec,
            normalization=Normalization(torch.zeros(0), torch.ones(0)),
        ),
        Encoding(),
    )


def _vectors(
    file: Path, rows: list[Any], fields: tuple[str, ...], labels: list[int], train: Source
) -> tuple[Contents, Schema, Encoding]:
    """Return texts as vectors of the encoder of the data, stored as texts."""
    if not has_texts(train) or not train.classes:
        raise PotstillError(
            f"{file}: the data of a set of texts must be texts with classes, but {train.name} are "
            f"{train.input.kind}; give those that it was made of, or leave data out"
        )
    if len(fields) > 1:
        raise PotstillError(
            f"{file}: data of one text each are read, but its samples have {len(fields)} ({', '.join(fields)}); leave "
            "data out"
        )
    if max(labels) >= len(train.classes):
        raise PotstillError(
            f"{file}: its classes count up to {max(labels)}, but {train.name} has {len(train.classes)}; give the data "
            "that it was made of"
        )
    encoder = train.encoder  # type: ignore[attr-defined]  # `has_texts` says that there is one
    texts = tuple(unicodedata.normalize("NFC", row[fields[0]]) for row in rows)  # as those of the data are read
    return (
        Contents(inputs=encoder.encode(texts), labels=torch.tensor(labels), captions=texts, encoder=encoder),
        Schema(classes=train.classes, input=train.input, normalization=train.normalization),
        Encoding(codec=Texts()),
    )
