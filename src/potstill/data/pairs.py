"""Image-text pairs for ``--task retrieval``: a folder with ``metadata.csv`` or ``metadata.jsonl``.

The layout is Hugging Face's image folder: a row for each picture with its ``file_name`` and a column of text.
"""

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from potstill._util.paths import path_within
from potstill.core import InputSpec, Splits
from potstill.core.nested import OFFSETS, VALUES
from potstill.data.groups import GroupValues, encode_groups, join_groups, match_file_groups, split_group_values
from potstill.data.pictures import decode_images
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, RawSplits, assemble
from potstill.data.table import read_csv
from potstill.data.texts import read_representation
from potstill.data.train_test_overlap import first_equal
from potstill.errors import PotstillError
from potstill.tasks import Retrieval

__all__ = ["METADATA", "WORDS", "hash_words", "read_pairs"]

METADATA = ("metadata.csv", "metadata.jsonl")
WORDS = 4096
"""Number of hash buckets that words and letter trigrams share. Ours."""
_TEXTS = ("text", "caption")


def hash_words(text: str) -> list[int]:
    """Return the hash buckets in [0, `WORDS`) of a text's words and letter trigrams (CRC-32).

    A text without letters or digits has one word, the empty one.
    """
    tokens: list[str] = []
    for word in re.findall(r"\w+", text.lower()) or [""]:
        tokens.append(word)
        padded = f"<{word}>"
        tokens += [padded[i : i + 3] for i in range(len(padded) - 2)]
    return [zlib.crc32(w.encode()) % WORDS for w in tokens]


def encode_texts(texts: Sequence[str], name: str) -> dict[str, Tensor]:
    """Encode texts as words under ``NAME/values`` and ``NAME/offsets``."""
    several = [hash_words(text) for text in texts]
    lengths = torch.tensor([len(s) for s in several], dtype=torch.int64)
    values = torch.tensor([w for s in several for w in s], dtype=torch.int64)
    return {name + VALUES: values, name + OFFSETS: lengths.cumsum(0) - lengths}


def read_pairs(task: Retrieval, data: object, options: ReadOptions) -> Splits:
    """Read a folder of images with their texts.

    Args:
        task: names of the two views: the picture's and the text's.
        data: the folder, with ``metadata.csv`` or ``metadata.jsonl`` in it, or arrays (pictures, texts).
        options: ``label`` names the column of texts (else ``text`` or ``caption``). With ``representation`` or
            ``encode`` texts are vectors, which methods can learn; else words.

    Raises:
        PotstillError: no such file, column or picture.
    """
    if isinstance(data, tuple | list) and len(data) == 2:
        from potstill.data.arrays import canonicalize_inputs

        if options.size is not None:
            raise PotstillError("pairs: arrays of pictures are not resized; resize them, or give a folder with `size=`")
        pixels, _, spec, notes = canonicalize_inputs(data[0], None, kind="image", name="pairs")
        if len(data[1]) != len(pixels):
            raise PotstillError(f"pairs: {len(pixels)} pictures but {len(data[1])} texts; give one for each")
        texts = [_text(t, "pairs", i, "texts", "of the array") for i, t in enumerate(data[1])]
        groups = None
        if options.group is not None:
            if isinstance(options.group, str):
                raise PotstillError("pairs: arrays have no column and no files to group by; give group as an array")
            groups = split_group_values(options.group, len(pixels), 0, "pairs")[0]
        return _assemble_pairs(task, "pairs", pixels, spec, texts, (), list(notes), groups, options)
    root = Path(str(data))
    table = next((root / f for f in METADATA if (root / f).is_file()), None)
    if table is None:
        raise PotstillError(f"{root}: pairs are read from a folder with {' or '.join(METADATA)}, which is not there")
    rows = _rows(table)
    column = options.label or next((c for c in _TEXTS if rows and c in rows[0]), None)
    if not rows or "file_name" not in rows[0] or column is None or column not in rows[0]:
        listed = ", ".join(rows[0]) if rows else "none"
        raise PotstillError(
            f"{table}: needs the columns file_name and {options.label or 'text'}, but has {listed}; name the column of "
            'texts with `label="COLUMN"`'
        )
    files = [_text(row.get("file_name"), str(table), i, "file_name", "") for i, row in enumerate(rows)]
    texts = [_text(row.get(column), str(table), i, column, files[i]) for i, row in enumerate(rows)]
    items = {file: path_within(root, file, str(table)) for file in files}  # one with several texts is decoded once
    got = decode_images(list(items.items()), size=options.size, skip_bad=options.skip_bad, name=root.name)
    spec = InputSpec(kind="image", shape=tuple(got.pixels.shape[1:]), horizontal_flip=False)
    listed_files = list(items)
    place = {listed_files[i]: at for at, i in enumerate(got.positions)}
    kept_rows = [i for i, file in enumerate(files) if file in place]
    names = tuple(files[i] for i in kept_rows)
    groups, attributes = (
        None if value is None else _row_values(value, rows, files, table, option)[kept_rows]
        for option, value in (("group", options.group), ("attribute", options.attribute))
    )
    pixels = got.pixels[torch.tensor([place[file] for file in names])]
    return _assemble_pairs(
        task, root.name, pixels, spec, [texts[i] for i in kept_rows], names, list(got.notes), groups,
        replace(options, size=None),  # pictures have it already
        attributes,
    )  # fmt: skip


def _text(value: object, where: str, row: int, column: str, what: str) -> str:
    if value is None or value != value or not str(value).strip():
        of = f" ({what})" if what else ""
        raise PotstillError(f"{where}: row {row + 1}{of} is empty in column {column!r}; fill it or remove the row")
    return str(value)


def _row_values(
    value: str | tuple[Any, ...], rows: list[dict[str, Any]], files: list[str], where: Path, option: str
) -> GroupValues:
    """Return the group or the attribute of each row: as given, from a column, or from the file's path."""
    if not isinstance(value, str):
        return split_group_values(value, len(files), 0, str(where), option)[0]
    if value in rows[0]:
        return np.array([_text(row.get(value), str(where), i, value, files[i]) for i, row in enumerate(rows)])
    return match_file_groups(value, files, str(where), option)


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        return list(read_csv(path).to_pylist())
    try:
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file if line.strip()]
    except (ValueError, OSError) as error:
        raise PotstillError(f"{path}: not JSON line by line ({error}); write it again") from None
    if not all(isinstance(row, dict) for row in rows):
        raise PotstillError(f"{path}: every line must be a JSON object; write it again")
    return rows


def _assemble_pairs(
    task: Retrieval, name: str, pixels: Tensor, spec: InputSpec, texts: list[str], names: tuple[str, ...],
    notes: list[str], groups: GroupValues | None, options: ReadOptions, attributes: GroupValues | None = None,
) -> Splits:  # fmt: skip
    """Assemble the splits. Texts of one image share a target, so each is a right answer, and stay on one side."""
    image, text = task.views
    n = len(texts)
    pictures = torch.unique(first_equal(pixels), return_inverse=True)[1]
    several = int(pictures.max()) + 1 < n
    if several:
        notes.append(f"{name}: {n:,} texts of {int(pictures.max()) + 1:,} pictures; those of one picture stay together")
    related = join_groups(
        pictures if several else None, None if groups is None else encode_groups(groups)[0],
    )  # fmt: skip
    representation = None
    words: dict[str, Tensor] = encode_texts(texts, text)
    spec_of_texts = InputSpec(kind="words", shape=(), levels=(WORDS,))
    if options.representation is not None or options.encode is not None:
        representation = read_representation(options)
        words = {text: torch.zeros(n, 1)}  # encoded once the test split is known
        spec_of_texts = InputSpec(kind="text", shape=(1,), units="representation of a text")
    part = RawPart(
        inputs={image: pixels, **words}, labels=torch.zeros(n, dtype=torch.int64),
        targets=pictures, names=names, texts=tuple(texts), attributes=attributes,
        groups=None if related is None else related.numpy(),
    )  # fmt: skip
    parts = RawSplits(
        name=name,
        train=part,
        spec=InputSpec(
            kind="pair", shape=(), units=f"pixels in [0,1] and {'words' if representation is None else 'texts'}",
            horizontal_flip=False, parts=((image, replace(spec, horizontal_flip=False)), (text, spec_of_texts)),
        ),
        classes=(), task=task, notes=tuple(notes), representation=representation,
    )  # fmt: skip
    return assemble(parts, options)
