"""Pairs of a picture and its text, for ``--task retrieval``: a folder with ``metadata.csv`` or ``metadata.jsonl``.

The layout is Hugging Face's image folder: a row for each picture with its ``file_name`` and a column of text.
"""

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill.core import InputSpec, Splits
from potstill.data.pictures import gather
from potstill.data.reading import Reading
from potstill.data.splits import Parts, assemble
from potstill.data.table import read_csv
from potstill.errors import PotstillError
from potstill.inputs import OFFSETS, VALUES
from potstill.paths import path_within
from potstill.tasks import Retrieval

__all__ = ["METADATA", "WORDS", "read_pairs", "words_of"]

METADATA = ("metadata.csv", "metadata.jsonl")
WORDS = 4096
"""Numbers that words and their letters in threes share by hashing. Ours."""
_TEXTS = ("text", "caption")


def words_of(text: str) -> list[int]:
    """The numbers of a text's words and of their letters in threes, each in [0, `WORDS`): CRC-32, so the same anywhere.

    A text without letters or digits has one word, the empty one.
    """
    found: list[str] = []
    for word in re.findall(r"\w+", text.lower()) or [""]:
        found.append(word)
        marked = f"<{word}>"
        found += [marked[i : i + 3] for i in range(len(marked) - 2)]
    return [zlib.crc32(w.encode()) % WORDS for w in found]


def encoded(texts: Sequence[str], name: str) -> dict[str, Tensor]:
    """Texts as words, under ``NAME/values`` and ``NAME/offsets``."""
    several = [words_of(text) for text in texts]
    lengths = torch.tensor([len(s) for s in several], dtype=torch.int64)
    values = torch.tensor([w for s in several for w in s], dtype=torch.int64)
    return {name + VALUES: values, name + OFFSETS: lengths.cumsum(0) - lengths}


def read_pairs(task: Retrieval, data: object, asked: Reading) -> Splits:
    """A folder of pictures with their texts.

    Args:
        task: names of the two views: the picture's and the text's.
        data: the folder, with ``metadata.csv`` or ``metadata.jsonl`` in it, or arrays (pictures, texts).
        asked: ``label`` names the column of texts (else ``text`` or ``caption``).

    Raises:
        PotstillError: no such file, column or picture.
    """
    if isinstance(data, tuple | list) and len(data) == 2:
        from potstill.data.arrays import canonical

        pixels, _, spec, notes = canonical(data[0], None, kind="image", name="pairs")
        return _assembled(task, "pairs", pixels, spec, [str(t) for t in data[1]], (), list(notes), asked)
    root = Path(str(data))
    found = next((root / f for f in METADATA if (root / f).is_file()), None)
    if found is None:
        raise PotstillError(f"{root}: pairs are read from a folder with {' or '.join(METADATA)}, which is not there")
    rows = _rows(found)
    column = asked.label or next((c for c in _TEXTS if rows and c in rows[0]), None)
    if not rows or "file_name" not in rows[0] or column is None or column not in rows[0]:
        listed = ", ".join(rows[0]) if rows else "none"
        raise PotstillError(
            f"{found}: needs the columns file_name and {asked.label or 'text'}, but has {listed}; name the column of "
            "texts with --label COLUMN"
        )
    items: list[tuple[str, bytes | Path]] = []
    for row in rows:
        name = str(row["file_name"])
        items.append((name, path_within(root, name, str(found))))
    got = gather(items, size=asked.size, skip_bad=asked.skip_bad, name=root.name)
    spec = InputSpec(kind="image", shape=tuple(got.pixels.shape[1:]), mirrored=False)
    texts = [str(rows[i][column]) for i in got.kept]
    names = tuple(items[i][0] for i in got.kept)
    return _assembled(task, root.name, got.pixels, spec, texts, names, list(got.notes), asked)


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        return list(read_csv(path).to_pylist())
    try:
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file if line.strip()]
    except (ValueError, OSError) as error:
        raise PotstillError(f"{path}: not JSON line by line ({error}); write it anew") from None
    if not all(isinstance(row, dict) for row in rows):
        raise PotstillError(f"{path}: every line must be a JSON object; write it anew")
    return rows


def _assembled(
    task: Retrieval, name: str, pixels: Tensor, spec: InputSpec, texts: list[str], names: tuple[str, ...],
    notes: list[str], asked: Reading,
) -> Splits:  # fmt: skip
    if len(texts) != len(pixels):
        raise PotstillError(f"{name}: {len(pixels)} pictures but {len(texts)} texts; give one for each")
    image, text = task.views
    n = len(texts)
    parts = Parts(
        name=name,
        train={image: pixels, **encoded(texts, text)},
        train_labels=torch.zeros(n, dtype=torch.int64),
        spec=InputSpec(
            kind="pair", shape=(), units="pixels in [0,1] and words", mirrored=False,
            parts=((image, replace(spec, mirrored=False)), (text, InputSpec(kind="words", shape=(), levels=(WORDS,)))),
        ),
        classes=(), task=task, targets=torch.arange(n), names=names, notes=tuple(notes), texts=tuple(texts),
    )  # fmt: skip
    return assemble(parts, replace(asked, size=None))  # pictures have their size already
