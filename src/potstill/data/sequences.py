"""Sequences of DNA or RNA as series of four channels: 1 where a base stands, a quarter where it is not known.

They are read from a column of a table, or from FASTA files by class. Letters are upper or lower case; U is T, and every
other letter of the IUPAC code (N, R, Y, …) and a gap (-) are a base that is not known, as is what fills short
sequences up.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from potstill.data.folder import list_folder
from potstill.data.limits import require_memory
from potstill.data.read_options import ReadOptions
from potstill.data.series_files import LabelledSeries
from potstill.data.table import check_unique_columns, find_label_column, read_labels
from potstill.data.table_encoding import is_text_type, to_texts
from potstill.errors import PotstillError, unknown_name

__all__ = [
    "BASES",
    "FASTA_SUFFIXES",
    "UNITS",
    "encode_bases",
    "find_sequence_column",
    "read_fasta_folder",
    "read_sequences",
]

BASES = ("A", "C", "G", "T")
UNITS = "bases"
"""Units of values that are 1 where a base stands, and a quarter where it is not known."""
"""Names of the channels."""
FASTA_SUFFIXES = (".fasta", ".fa", ".fna")
"""Files of sequences: a line that begins with > before each."""
_KNOWN = re.compile(r"[ACGTUNRYSWKMBDHV-]+", re.IGNORECASE)
_SHORTEST = 4
"""Bases of the shortest sequence that a column is taken for one by, on average."""
_LOOKED_AT = 1000
_UNKNOWN = 0.25
_CODES = np.full((256, 4), _UNKNOWN)
for _number, _letters in enumerate(("Aa", "Cc", "Gg", "TtUu")):
    for _letter in _letters:
        _CODES[ord(_letter)] = np.eye(4)[_number]


def encode_bases(text: str, length: int | None = None) -> npt.NDArray[np.float64]:
    """Return a sequence as (4, length), filled up with bases that are not known."""
    codes = _CODES[np.frombuffer(text.encode("ascii"), dtype=np.uint8)].T
    if length is None or length <= codes.shape[1]:
        return codes
    return np.pad(codes, ((0, 0), (0, length - codes.shape[1])), constant_values=_UNKNOWN)


def find_sequence_column(table: Any, others: Sequence[str | None]) -> str | None:
    """Return the column of texts, beside ``others``, whose first texts are sequences of bases; ``None``: there is none,
    or more than one."""
    found = []
    for field in table.schema:
        if not is_text_type(field.type) or field.name in others:
            continue
        some = [v.strip() for v in to_texts(table.column(field.name).slice(0, _LOOKED_AT)).to_pylist() if v]
        long = bool(some) and sum(map(len, some)) >= _SHORTEST * len(some)
        if long and all(_KNOWN.fullmatch(text) for text in some):
            found.append(field.name)
    return found[0] if len(found) == 1 else None


def read_sequences(table: Any, options: ReadOptions, name: str) -> LabelledSeries | None:
    """Read a table with a column of sequences and one of classes; ``None``: it has no such column.

    Raises:
        PotstillError: a sequence is missing, or has a letter that is none of a base.
    """
    check_unique_columns(table, name)
    label = find_label_column(table, options.label, {}, name)
    group = options.group if isinstance(options.group, str) else None
    if group is not None and group not in table.column_names:
        raise PotstillError(f"{name}: {unknown_name('column', group, table.column_names)}")
    column = find_sequence_column(table, (label, group))
    if column is None:
        return None
    texts = [v or "" for v in to_texts(table.column(column)).to_pylist()]
    samples, note = _encode_all(texts, [f"row {n + 1}, column {column!r}" for n in range(len(texts))], name)
    return LabelledSeries(
        samples=samples, labels=read_labels(table, label, name), channels=BASES, units=UNITS,
        groups=None if group is None else table.column(group).to_pylist(), notes=(note,),
    )  # fmt: skip


def read_fasta_folder(root: Path) -> tuple[LabelledSeries, LabelledSeries | None]:
    """Read ``CLASS/NAME.fasta``, or ``train/CLASS/…`` and ``test/CLASS/…``: any number of sequences in a file.

    Raises:
        PotstillError: no class folders, or a file without sequences.
    """
    listed = list_folder(root, FASTA_SUFFIXES, "sequences")
    texts: dict[bool, list[str]] = {True: [], False: []}
    labels: dict[bool, list[Any]] = {True: [], False: []}
    where: dict[bool, list[str]] = {True: [], False: []}
    for of_class in listed.files:
        for file in of_class.names:
            path = of_class.folder / file
            for title, text in _read_fasta(path):
                texts[of_class.training].append(text)
                labels[of_class.training].append(listed.classes[of_class.label])
                where[of_class.training].append(f"{path.relative_to(root).as_posix()}: {title[:40]}")
    longest = max(len(t) for part in texts.values() for t in part)
    made = []
    for training in (True, False):
        samples, note = _encode_all(texts[training], where[training], root.name, longest)
        notes = (*listed.notes, note) if training else ()
        made.append(
            LabelledSeries(
                samples=samples, labels=labels[training], channels=BASES, units=UNITS, classes=listed.classes,
                names=tuple(where[training]), notes=notes,
            )
        )  # fmt: skip
    return made[0], made[1] if listed.split else None


def _read_fasta(path: Path) -> list[tuple[str, str]]:
    """Return title and sequence of each record."""
    require_memory(40 * path.stat().st_size, f"{path}", "give fewer sequences")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise PotstillError(f"{path}: the file must be UTF-8 text; save it as such") from None
    records: list[tuple[str, list[str]]] = []
    for number, line in enumerate(lines, 1):
        if line.startswith(">"):
            records.append((line[1:].strip(), []))
        elif line.strip() and not line.startswith(";"):
            if not records:
                raise PotstillError(
                    f"{path}: a title, which begins with >, must stand before line {number}; correct the file"
                )
            records[-1][1].append(line.strip())
    if not records:
        raise PotstillError(f"{path}: there are no sequences; leave the file out")
    return [(title, "".join(parts)) for title, parts in records]


def _encode_all(
    texts: Sequence[str], where: Sequence[str], name: str, longest: int = 0
) -> tuple[list[npt.NDArray[np.float64]], str]:
    """Return all sequences at the length of the longest, and a note on how they were read."""
    stripped = [text.strip() for text in texts]
    for text, place in zip(stripped, where, strict=True):
        if not text:
            raise PotstillError(f"{name}: there is no sequence in {place}; leave it out")
        if not _KNOWN.fullmatch(text):
            odd = next(letter for letter in text if not _KNOWN.fullmatch(letter))
            raise PotstillError(
                f"{name}: bases are A, C, G, T or U, and N where one is unknown, but there is {odd!r} in {place}; "
                "correct it"
            )
    lengths = {len(text) for text in stripped} | ({longest} if longest else set())
    note = f"{name}: sequences are read as series of four channels, {', '.join(BASES)}"
    if len(lengths) > 1:
        note += f"; those shorter than {max(lengths):,} are filled up with bases that are not known"
    return [encode_bases(text, max(lengths, default=0)) for text in stripped], note
