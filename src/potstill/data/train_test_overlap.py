"""Samples in both the training and the test part: exact copies and, on request, near copies."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from potstill.core import Inputs, Source, Splits
from potstill.core.nested import concat, flatten_rows
from potstill.data.in_memory import split_chunks
from potstill.data.readers import Reader
from potstill.data.streamed import StreamSource
from potstill.data.table_encoding import Frame
from potstill.errors import PotstillError, unknown_name
from potstill.functional.duplicates import WITHIN, Digests, near_duplicates
from potstill.kinds import get_kind

__all__ = [
    "Duplicates", "first_equal", "first_equal_encoded", "first_equal_texts", "keep_copies_together", "note_overlap",
    "parse_duplicates", "text_key",
]  # fmt: skip

Duplicates: TypeAlias = Literal["exact", "near", "together"]

_SIDE = 16  # pictures are compared for nearness at no more than so many pixels a side
_AT_ONCE = 256


def parse_duplicates(value: str | None) -> Duplicates | None:
    """Return ``value``, if it is one of `Duplicates` or ``None``.

    Raises:
        PotstillError: it is something else.
    """
    if value is not None and value not in get_args(Duplicates):
        raise unknown_name("way with duplicates", str(value), get_args(Duplicates))
    return value  # type: ignore[return-value]  # checked just now


def first_equal(*parts: Inputs | Frame) -> Int[Tensor, " n"]:
    """Return, for each sample of the concatenated ``parts``, the position of the first sample that equals it."""
    named = [part for part in parts if not isinstance(part, Tensor | Frame)]
    plain = [flatten_rows(concat(named))] if named else [part for part in parts if isinstance(part, Tensor | Frame)]
    digests = Digests(sum(len(part) for part in plain))
    start = 0
    for part in plain:
        for x in _rows(part):
            digests.add(torch.arange(start, start + len(x)), x)
            start += len(x)
    return digests.first_positions()


def _rows(part: Tensor | Frame) -> Iterator[Tensor]:
    if isinstance(part, Tensor):
        yield from split_chunks(part)
    else:
        yield torch.from_numpy(np.column_stack([column.cells.astype(np.float64) for column in part.columns]))


def first_equal_texts(*parts: Sequence[str]) -> Int[Tensor, " n"]:
    """Return, for each text of the concatenated ``parts``, the position of the first that equals it but for case and
    blanks."""
    first: dict[str, int] = {}
    keys = (text_key(text) for part in parts for text in part)
    return torch.tensor([first.setdefault(key, i) for i, key in enumerate(keys)], dtype=torch.int64)


def text_key(text: str) -> str:
    """Return a text in the form in which copies are equal: without case, and with single blanks."""
    return " ".join(text.casefold().split())


def first_equal_encoded(reader: Reader, places: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Return the same as `first_equal` by the images' encoded bytes. All of them are read and none is decoded."""
    digests: dict[int, bytes] = {}
    order = torch.unique(places).tolist()
    for start in range(0, len(order), _AT_ONCE):
        some = order[start : start + _AT_ONCE]
        for place, content in zip(some, reader.read(some), strict=True):
            digests[place] = hashlib.blake2b(content, digest_size=16).digest()
    first_positions: dict[bytes, int] = {}
    return torch.tensor(
        [first_positions.setdefault(digests[p], i) for i, p in enumerate(places.tolist())], dtype=torch.int64
    )


def keep_copies_together(
    train_index: Int[Tensor, " k"],
    test_index: Int[Tensor, " h"],
    first: Int[Tensor, " n"],
    labels: Int[Tensor, " n"],
    name: str,
) -> tuple[Int[Tensor, " a"], Int[Tensor, " b"], list[str]]:
    """Move copies in a drawn split to the side of the first of them. Without copies, the split does not change.

    A class that would be left without training samples keeps all of its copies there.

    Args:
        train_index, test_index: the split of n samples.
        first: of each sample the first that equals it, as `first_equal` says.

    Raises:
        PotstillError: nothing is left to test on.
    """
    before = torch.zeros(len(first), dtype=torch.bool)
    before[test_index] = True
    in_test = before[first]
    for label in torch.unique(labels).tolist():
        of_class = labels == label
        if in_test[of_class].all():
            in_test[torch.isin(first, first[of_class])] = False
    if not in_test.any():
        raise PotstillError(f"{name}: all samples of a class are copies of each other, so none can be tested on")
    if not (moved := int((in_test != before).sum())):
        return train_index, test_index, []
    note = (
        f"{name}: {moved:,} samples changed sides, so that copies lie on one; {int(in_test.sum()):,} of {len(first):,} "
        "samples are test"
    )
    return torch.where(~in_test)[0], torch.where(in_test)[0], [note]


def note_overlap(splits: Splits, search: Duplicates | None, is_drawn: bool) -> list[str]:
    """Return notes on test samples that are also in the training part.

    Args:
        splits: sources of one kind.
        search: ``None``: exact copies, unless the data are streamed; ``near``: nearly equal ones, too.
        is_drawn: whether the split was drawn here.
    """
    train, test = splits.train, splits.test
    if test is None or (search is None and isinstance(train, StreamSource)):
        return []
    if isinstance(train, StreamSource) and isinstance(test, StreamSource):
        first = first_equal_encoded(train.reader, torch.cat([train.places, test.places]))
    elif getattr(train, "encoder", None) is not None and not train.input.parts:
        first = first_equal_texts(*(part.texts for part in (train, test)))  # type: ignore[attr-defined]
    else:
        first = first_equal(*(part.inputs for part in (train, test)))  # type: ignore[attr-defined]
    notes = []
    matches = first[len(train) :]
    copies = matches < len(train)
    if count := int(copies.sum()):
        other = int((train.labels[matches[copies]] != test.labels[copies]).sum())
        others = f", {other:,} of them under another class" if other else ""
        cure = (
            '`duplicates="together"` keeps copies on one side of a drawn split'
            if is_drawn
            else "leave them out of one part, or scores on them flatter"
        )
        notes.append(
            f"{train.name}: {count:,} of {len(test):,} test samples are exact copies of training samples"
            f"{others}; {cure}"
        )
    if search == "near":
        near = int(_near(train, test).sum())
        notes.append(
            f"{train.name}: {near:,} of {len(test):,} test samples are nearly equal to a training sample (within "
            f"{WITHIN:.0%} of the typical distance of two samples)"
        )
    return notes


def _near(train: Source, test: Source) -> Bool[Tensor, " m"]:
    x = torch.cat([_small(train), _small(test)])
    of_test = torch.arange(len(x)) >= len(train)
    return near_duplicates(x, across=of_test)[len(train) :]


def _small(source: Source) -> Float[Tensor, "n d"]:
    """Return normalised inputs on the CPU, images at no more than 16 × 16."""
    several = []
    for index in torch.split(torch.arange(len(source)), _AT_ONCE):
        x = flatten_rows(found) if not isinstance(found := source.fetch(index).x, Tensor) else found
        if get_kind(source.input).augmentable:
            h, w = source.input.shape[1:]
            x = functional.adaptive_avg_pool2d(x, (min(h, _SIDE), min(w, _SIDE)))
        several.append(x.flatten(1).float().cpu())
    return torch.cat(several)
