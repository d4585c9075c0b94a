"""Import of texts: DiLM's ``dataset_N.json``, a JSON object on each line.

A line has the texts of one sample by field and its class: ``{"sentence": "…", "labels": 0}``, or ``premise`` and
``hypothesis``, ``question1`` and ``question2``. A run's folder has several sets.
"""

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from potstill.core import InputSpec, Normalization
from potstill.data.pairs import WORDS, encode_texts
from potstill.dataset_file import Contents, Distilled, Provenance, Schema, build
from potstill.errors import PotstillError

__all__ = ["TextSet", "find_text_sets", "import_texts", "read_texts"]

_FILE, _LABELS = re.compile(r"dataset_(\d+)\.json"), "labels"
_BYTES, _CLASSES, _FIELDS = 64 * 2**20, 10_000, 8


@dataclass(frozen=True, kw_only=True)
class TextSet:
    """Samples of one or more fields of text, and their classes."""

    path: Path
    sha256: str
    fields: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: tuple[int, ...]


def find_text_sets(folder: Path) -> list[Path]:
    """Return ``dataset_N.json`` of a run's folder, or of its ``dataset``, by number."""
    inner = folder / "dataset"
    found = {p: m for p in (inner if inner.is_dir() else folder).iterdir() if (m := _FILE.fullmatch(p.name))}
    return sorted(found, key=lambda p: int(found[p][1]))


def read_texts(path: Path, run: int = -1) -> TextSet:
    """Read the texts of a file, or of one of the files in a folder.

    Args:
        run: number of the file, from 0; by default the last.

    Raises:
        PotstillError: there are none, or they are something else: one line.
    """
    file = path
    if path.is_dir():
        held = find_text_sets(path)
        if not -len(held) <= run < len(held):
            raise PotstillError(
                f"{path}: run {run} is asked for, but it holds {len(held)} dataset_N.json; count from 0"
            )
        file = held[run]
    try:
        if file.stat().st_size > _BYTES:
            raise PotstillError(
                f"{file}: more than {_BYTES:,} bytes, which no distilled set of texts has; check the path"
            )
        content = file.read_bytes()
        read = [json.loads(line) for line in content.decode("utf-8").split("\n") if line.strip()]
    except OSError as error:
        raise PotstillError(f"{file}: cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:100]
        raise PotstillError(f"{file}: a JSON object on each line is required ({said}); check `format=`") from error
    first = read[0] if read and isinstance(read[0], dict) else {}
    fields = tuple(name for name in first if name != _LABELS)
    if not 0 < len(fields) <= _FIELDS or not all(re.fullmatch(r"\w{1,40}", name, re.ASCII) for name in fields):
        raise PotstillError(
            f'{file}: lines such as {{"sentence": "…", "labels": 0}} are required, but the first has the fields '
            f"{', '.join(map(repr, list(first)[:_FIELDS])) or 'of none'}; check `format=`"
        )
    for number, row in enumerate(read, 1):
        _check(file, number, row, fields)
    return TextSet(
        path=file, sha256=hashlib.sha256(content).hexdigest(), fields=fields,
        rows=tuple(tuple(row[name] for name in fields) for row in read), labels=tuple(row[_LABELS] for row in read),
    )  # fmt: skip


def _check(file: Path, number: int, row: object, fields: tuple[str, ...]) -> None:
    if not isinstance(row, dict) or row.keys() != {*fields, _LABELS}:
        raise PotstillError(f"{file}: line {number} has not the fields of the first; get the file again")
    if not all(isinstance(row[name], str) for name in fields):
        raise PotstillError(f"{file}: line {number} has a field that is no text; get the file again")
    label = row[_LABELS]
    if type(label) is not int or not 0 <= label < _CLASSES:
        raise PotstillError(f"{file}: line {number} needs a class, a whole number from 0, not {label!r:.40}")


def import_texts(path: Path, *, run: int = -1, method: str | None = None) -> Distilled:
    """Import a set of texts: captions are the texts, a line for each field, and inputs their words.

    Raises:
        PotstillError: as `read_texts`.
    """
    found = read_texts(path, run)
    labels = torch.tensor(found.labels)
    k = int(labels.max()) + 1
    inputs = {name: t for n, field in enumerate(found.fields) for name, t in _words(found, n, field).items()}
    words = InputSpec(kind="words", shape=(), levels=(WORDS,))
    spec = InputSpec(
        kind="texts",
        shape=(),
        units="words",
        horizontal_flip=False,
        parts=tuple((field, words) for field in found.fields),
    )
    notes = [
        f"made by another program and imported from {found.path.name}: that it saw the training part alone is its word"
    ]
    return build(
        Contents(inputs=inputs, labels=labels, captions=tuple("\n".join(row) for row in found.rows)),
        Schema(
            classes=tuple(map(str, range(k))), input=spec, normalization=Normalization(torch.zeros(0), torch.ones(0))
        ),
        Provenance(
            method=method or "dilm", config={"imported": "dilm"}, ipc=max(Counter(found.labels).values()),
            source={"name": "unknown", "notes": notes},
            outcome={"kind": "imported", "message": f"released set, read from {found.path.name}", "step": 0},
            extra={"imported": {"form": "dilm", "sha256": {found.path.name: found.sha256}}},
        ),
    )  # fmt: skip


def _words(texts: TextSet, n: int, field: str) -> dict[str, torch.Tensor]:
    return encode_texts([row[n] for row in texts.rows], field)
