"""Import of texts: DiLM's ``dataset_N.json``, a JSON object on each line.

A line has the texts of one sample by field and its class: ``{"sentence": "…", "labels": 0}``, or ``premise`` and
``hypothesis``, ``question1`` and ``question2``. A run's folder has several sets.
"""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill.core import InputSpec, Normalization
from potstill.data.pairs import WORDS, encode_texts
from potstill.dataset_file import Contents, Distilled, Provenance, Schema, build
from potstill.errors import PotstillError

__all__ = ["find_text_sets", "import_texts"]

_FILE, _LABELS = re.compile(r"dataset_(\d+)\.json"), "labels"
_BYTES, _CLASSES, _FIELDS = 64 * 2**20, 10_000, 8


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


def import_texts(path: Path, *, run: int = -1, method: str | None = None) -> Distilled:
    """Import a set of texts: captions are the texts, a line for each field, and inputs their words.

    Args:
        path: the file, or the folder of a run.
        run: number of the file in a folder, from 0; by default the last.
        method: what made it; by default DiLM.

    Raises:
        PotstillError: there are none, or they are something else: one line.
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
    fields = _check_fields(file, rows)
    labels = [row[_LABELS] for row in rows]
    inputs: dict[str, Tensor] = {}
    for field in fields:
        inputs |= encode_texts([row[field] for row in rows], field)
    words = InputSpec(kind="words", shape=(), levels=(WORDS,))
    parts = tuple((field, words) for field in fields)
    note = f"made by another program and imported from {file.name}: that it saw the training part alone is its word"
    return build(
        Contents(
            inputs=inputs, labels=torch.tensor(labels),
            captions=tuple("\n".join(row[field] for field in fields) for row in rows),
        ),
        Schema(
            classes=tuple(map(str, range(max(labels) + 1))),
            input=InputSpec(kind="texts", shape=(), units="words", horizontal_flip=False, parts=parts),
            normalization=Normalization(torch.zeros(0), torch.ones(0)),
        ),
        Provenance(
            method=method or "dilm", config={"imported": "dilm"}, ipc=max(Counter(labels).values()),
            source={"name": "unknown", "notes": [note]},
            outcome={"kind": "imported", "message": f"released set, read from {file.name}", "step": 0},
            extra={"imported": {"form": "dilm", "sha256": {file.name: sha256}}},
        ),
    )  # fmt: skip
