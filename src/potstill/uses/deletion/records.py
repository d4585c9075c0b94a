"""Records of the training split: those that a user names, and a key of each that depends on its content alone."""

import fnmatch
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from potstill.core import Splits
from potstill.core.nested import named_tensors
from potstill.data import TensorSource
from potstill.errors import PotstillError

__all__ = ["hash_records", "named_rows", "numbered_rows", "record_digests", "training_records", "without"]

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_CHUNK = 4096


def training_records(splits: Splits) -> TensorSource:
    """Return the training split if its records can be deleted exactly.

    Raises:
        PotstillError: it is streamed, has no classes, or its columns are encoded by a fit on all records.
    """
    train = splits.train
    if not isinstance(train, TensorSource) or not train.classes or train.targets is not None:
        raise PotstillError(
            f"deletion needs data with classes that are held in memory, but {train.name} is not; give a folder of "
            "images or arrays, without `stream=True`"
        )
    if train.columns:
        raise PotstillError(
            f"the columns of {train.name} are encoded by a fit on all of its records, so that a deleted record would "
            "leave a trace; give arrays of numbers"
        )
    return train


def without(train: TensorSource, rows: Int[Tensor, " m"]) -> TensorSource:
    """Return the records that are not at ``rows``, in their order."""
    stays = torch.ones(len(train), dtype=torch.bool)
    stays[rows] = False
    return train.subset(stays.nonzero().flatten())


def record_digests(train: TensorSource, seed: int) -> list[bytes]:
    """Return a SHA-256 of each record: the seed, its class and its stored values. Its row is no part of it."""
    starts = [hashlib.sha256(f"{seed}\0{name}\0".encode()) for name in train.classes]
    tensors, digests = named_tensors(train.inputs), list[bytes]()
    for rows in torch.split(torch.arange(len(train)), _CHUNK):
        values = [t[rows.to(t.device)].cpu().contiguous().flatten(1).numpy() for t in tensors.values()]
        for at, label in enumerate(train.labels[rows].tolist()):
            digest = starts[label].copy()
            for part in values:
                digest.update(part[at].tobytes())
            digests.append(digest.digest())
    return digests


def hash_records(digests: Sequence[bytes]) -> str:
    """Return one hash of some records, whatever their order."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def numbered_rows(train: TensorSource, records: str | Sequence[int]) -> Int[Tensor, " m"]:
    """Return rows of the training split.

    Args:
        train: the training split.
        records: row numbers from 0; as text ``3,17,100-120``, or the path of a file with such text on its lines.

    Raises:
        PotstillError: no number, one that is out of range or stands twice, a range that ends before it begins, or none.
    """
    if isinstance(records, str):
        numbers: list[int] = []
        for word in _words(records):
            if (match := _RANGE.fullmatch(word)) is None:
                raise PotstillError(
                    f"records are row numbers such as 3,17,100-120, or a file of them, but {word[:40]!r} is neither; "
                    "name files with `delete_names=`"
                )
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                raise PotstillError(f"the rows {word} end before they begin; write {last}-{first}")
            if last >= len(train):
                raise _out_of_range(train, last)
            numbers += range(first, last + 1)
    else:
        numbers = [int(n) for n in records]
    if (bad := next((n for n in numbers if not 0 <= n < len(train)), None)) is not None:
        raise _out_of_range(train, bad)
    return _distinct(numbers, lambda row: f"row {row}")


def named_rows(train: TensorSource, names: str | Sequence[str]) -> Int[Tensor, " m"]:
    """Return the rows of records with names, such as image files.

    Args:
        train: the training split.
        names: names as the loader has them (``train/cat/1.png``), or patterns (``*/person7/*``); as text with commas
            between them, or the path of a file with one on each line.

    Raises:
        PotstillError: the records have no names, or a name is of none of them or stands twice.
    """
    if not train.names:
        raise PotstillError(
            f"the records of {train.name} have no names, as they were not read from files; give row numbers: "
            '`delete="3,17"`'
        )
    row_of = {name: row for row, name in enumerate(train.names)}
    rows: list[int] = []
    for word in _words(names) if isinstance(names, str) else names:
        matches = [row_of[word]] if word in row_of else []
        if not matches and any(c in word for c in "*?["):
            matches = [row_of[name] for name in fnmatch.filter(train.names, word)]
        if not matches:
            raise PotstillError(
                f"no record of the training split of {train.name} has the name {word[:80]!r}; names are such as "
                f"{train.names[0]!r}, or patterns of them"
            )
        rows += matches
    return _distinct(rows, lambda row: repr(train.names[row]))


def _words(text: str) -> list[str]:
    """Return words with commas between them, or those of a file."""
    path = Path(text)
    try:
        found = path.read_text() if "\n" not in text and len(text) < 1024 and path.is_file() else text
    except (OSError, ValueError) as error:
        raise PotstillError(f"{path}: no file of records ({error}); give a text file, one on each line") from error
    return [word.strip() for line in found.splitlines() for word in line.split(",") if word.strip()]


def _distinct(rows: Sequence[int], name: Callable[[int], str]) -> Int[Tensor, " m"]:
    if not rows:
        raise PotstillError("a deletion needs one record at least, but none is named; give row numbers or names")
    earlier: set[int] = set()
    for row in rows:
        if row in earlier:
            raise PotstillError(f"{name(row)} is named twice; name each record once")
        earlier.add(row)
    return torch.tensor(sorted(earlier))


def _out_of_range(train: TensorSource, row: int) -> PotstillError:
    return PotstillError(
        f"the training split of {train.name} has rows 0 to {len(train) - 1}, but row {row} is named; rows are counted "
        "from 0 in the training split"
    )
