"""Safetensors files too large for memory: planned to the byte, filled in place, and read by memory map.

A file being filled has a hidden name beside its own, and a record of how far it is whole. What order they reach the
disk in: first the values, then the record that counts them, and only when all are there the final name. So whatever a
kill or a power cut leaves behind, a record never counts values that are not there; what was written after the last
record is written again, with the same bits.
"""

import errno
import hashlib
import json
import math
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from potstill._util.atomic_write import check_writable, confirm_name, reason, write_atomic
from potstill._util.file_lock import take
from potstill._util.input_limits import hold
from potstill._util.outputs import ASK
from potstill.dataset_file.files import (
    DIGEST,
    DIGEST_PLACEHOLDER,
    FileHash,
    check_preamble,
    parse_header,
    parse_json,
)
from potstill.errors import PotstillError

__all__ = ["FileLayout", "TensorField", "open_memmap", "plan_layout", "verify_digest", "write_digest", "write_in_parts"]

_KINDS = {"U8": "|u1", "U16": "<u2", "U32": "<u4", "I16": "<i2", "I32": "<i4", "F16": "<f2", "F32": "<f4"}
_NUMPY = {
    torch.uint8: "|u1", torch.uint16: "<u2", torch.uint32: "<u4", torch.int16: "<i2", torch.int32: "<i4",
    torch.float16: "<f2", torch.float32: "<f4",
}  # fmt: skip
_RECORD = "potstill-fill/1"


@dataclass(frozen=True, slots=True)
class TensorField:
    """One tensor: its type by the format's name, and its shape. The first two axes count rows: (epoch, item)."""

    kind: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(_KINDS[self.kind])

    @property
    def row(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[2:]) * self.dtype.itemsize

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class FileLayout:
    """A file to the byte: its header, and its fields with the byte where each begins."""

    header: bytes
    fields: Mapping[str, tuple[int, TensorField]]

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + self.tensor_bytes

    @property
    def tensor_bytes(self) -> int:
        """Bytes of the tensors alone: what counts wherever a size is compared."""
        return sum(field.size for _, field in self.fields.values())


def plan_layout(fields: Mapping[str, TensorField], metadata: Mapping[str, str]) -> FileLayout:
    """The layout of a file: wider types first, so that every value lies where its type may lie; names in order.

    Raises:
        PotstillError: the header would be larger than readers allow.
    """
    order = sorted(fields, key=lambda name: (-fields[name].dtype.itemsize, name))
    said: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        first, end = end, end + fields[name].size
        said[name] = {"dtype": fields[name].kind, "shape": list(fields[name].shape), "data_offsets": [first, end]}
    text = json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    hold("header_bytes", len(text), "the description of a file")
    header = struct.pack("<Q", len(text)) + text
    return FileLayout(header, {name: (len(header) + said[name]["data_offsets"][0], fields[name]) for name in order})


def open_memmap(
    path: Path, max_bytes: int = 2**48, check: bool = False
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The tensors and the metadata of a file that may be foreign, cut off or hostile; the values stay on the disk.

    Values are read when they are touched, so a file that is made shorter meanwhile ends the process.

    Args:
        check: also read all of it once, against the hash that it may say of itself.

    Raises:
        PotstillError: one line that says what is wrong with the file.
    """
    with _opened(path, max_bytes) as (file, begin, entries, metadata, size):
        if check:
            _hashed(path, file, begin, metadata)
        memory = np.memmap(file, np.uint8, "r") if size > begin else np.empty(0, np.uint8)
    made: dict[str, NDArray[Any]] = {}
    at = begin
    for name, (dtype, shape, count) in entries.items():
        if dtype not in _NUMPY:
            raise PotstillError(f"{path}: tensor {name[:80]!r} is of a type that is not mapped; get the file again")
        made[name] = np.asarray(memory[at : at + count]).view(_NUMPY[dtype]).reshape(shape)
        at += count
    return made, metadata


def verify_digest(path: Path, max_bytes: int = 2**48) -> tuple[str, ...]:
    """Read all of a file once, in pieces, against the hash that it may say of itself; the names of its tensors.

    Raises:
        PotstillError: one line that says what is wrong with the file.
    """
    with _opened(path, max_bytes) as (file, begin, entries, metadata, _):
        _hashed(path, file, begin, metadata)
    return tuple(entries)


@contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[tuple[BinaryIO, int, Mapping[str, Any], dict[str, str], int]]:
    """The open file, where its values begin, its tensors, its metadata and its size."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise PotstillError(f"{path}: one safetensors file is required, but this is a folder, a device or a pipe")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(9)
            check_preamble(path, head, size, max_bytes)
            (length,) = struct.unpack("<Q", head[:8])
            header = head[8:] + file.read(length - 1)
            entries, metadata = parse_header(path, header, size - 8 - length)
            yield file, 8 + length, entries, metadata, size
    except FileNotFoundError as error:
        raise PotstillError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise PotstillError(f"{path}: cannot be read ({reason(error)}); check the path") from error


def _hashed(path: Path, file: BinaryIO, begin: int, metadata: Mapping[str, str]) -> None:
    file.seek(0)
    hashed = FileHash(path, file.read(begin), metadata)
    while piece := file.read(2**22):
        hashed.update(piece)
    hashed.check()


def write_in_parts(
    path: Path,
    planned: FileLayout,
    parts: Sequence[tuple[int, int]],
    make: Callable[[int, int], Mapping[str, NDArray[Any]]],
    *,
    record_every: float = 5.0,
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a planned file part by part, or go on with one that was stopped.

    Args:
        path: where it gets its name when it is whole. A whole file of the same header is left as it is.
        planned: its layout.
        parts: first row and end of each part, one after another; rows are those of the first two axes, flattened.
        make: from the first row and the end of a part to each field's values there.
        record_every: seconds after which it is put on record how far the file is; 0 for after every part.
        replace: another file that is there.
        progress: called with the rows that are done and all rows.

    Raises:
        PotstillError: something else is there, or it cannot be written.
    """
    check_writable(path)
    target = path.resolve()
    part, record = (target.with_name(f".{target.name[:200]}.{kind}") for kind in ("part", "progress"))
    try:
        descriptor = take(part)  # for as long as it is open: two writers would overwrite each other's rows
    except OSError as error:
        what = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be opened ({reason(error)})"
        raise PotstillError(f"{part}: {what}, but the unfinished file is kept there; remove it") from error
    if descriptor is None:
        raise PotstillError(f"{path}: another run is writing it; wait for it, end it, or choose another path")
    try:
        with open(descriptor, "r+b") as file:
            if target.exists():
                if file.seek(0, os.SEEK_END) == 0:
                    part.unlink(missing_ok=True)
                if _begins(target, planned):
                    return
                if not replace:
                    raise PotstillError(f"{path}: another file is there; {ASK}")
            _fill(target, planned, parts, make, file, part, record, record_every, progress)
    except OSError as error:  # of closing it too, which writes what could not be written before
        raise PotstillError(
            f"{path}: could not be written ({reason(error)}); free space or choose another path, the same call goes on"
        ) from error
    confirm_name(path, target.parent)


def _fill(
    target: Path,
    planned: FileLayout,
    parts: Sequence[tuple[int, int]],
    make: Callable[[int, int], Mapping[str, NDArray[Any]]],
    file: BinaryIO,
    part: Path,
    record: Path,
    record_every: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    """`fill` of a part that this process alone has open."""
    identity = hashlib.sha256(planned.header + json.dumps(parts).encode()).hexdigest()
    done = _resumed(part, record, identity, planned)
    total = parts[-1][1]
    if done not in {0, *(end for _, end in parts)}:
        raise PotstillError(f"{record}: counts rows that no part ends with; delete it and {part.name} to begin anew")
    if done == 0:
        _reserve(file, part, planned)
    recorded, since = done, time.monotonic()
    try:
        for first, end in parts:
            if first < done:
                continue
            _put(file, planned, first, end, make(first, end))
            done = end
            if progress is not None:
                progress(done, total)
            if time.monotonic() - since >= record_every:
                recorded, since = _note(file, record, identity, done), time.monotonic()
    finally:  # also when the user interrupts
        if done > recorded or done == total:
            _note(file, record, identity, done)
    write_digest(file, planned)
    os.replace(part, target)
    record.unlink(missing_ok=True)


def write_digest(file: BinaryIO, planned: FileLayout) -> None:
    """Write the file's hash into its header, where that has room for one (`DIGEST`: `ZEROS`), and all to the disk."""
    entry = _entry(DIGEST_PLACEHOLDER)
    if entry in planned.header:
        file.seek(0)
        file.write(planned.header)  # without the hash that an attempt before this one may have left
        file.seek(0)
        made = hashlib.sha256()
        while piece := file.read(2**22):
            made.update(piece)
        file.seek(planned.header.index(entry))
        file.write(_entry(made.hexdigest()))
    file.flush()
    os.fsync(file.fileno())


def _entry(digest: str) -> bytes:
    return f'"{DIGEST}":"{digest}"'.encode()


def _begins(path: Path, planned: FileLayout) -> bool:
    """Whether it is such a file, whatever its hash."""
    with open(path, "rb") as file:
        found = file.read(len(planned.header))
        size = os.fstat(file.fileno()).st_size
    at = planned.header.find(_entry(DIGEST_PLACEHOLDER))
    if at >= 0:
        end = at + len(_entry(DIGEST_PLACEHOLDER))
        found = found[:at] + planned.header[at:end] + found[end:]
    return size == planned.size and found == planned.header


def _resumed(part: Path, record: Path, identity: str, planned: FileLayout) -> int:
    """Rows that are there of a file begun before; 0 to begin anew."""
    if not record.exists():
        return 0
    try:
        said = parse_json(record.read_bytes())
    except (OSError, ValueError):
        said = None
    if not isinstance(said, dict) or said.get("format") != _RECORD or type(said.get("rows")) is not int:
        raise PotstillError(
            f"{record}: is not the record of an unfinished file; delete it and {part.name} to begin anew"
        )
    if said.get("identity") != identity:
        raise PotstillError(
            f"{part}: an unfinished file of another recipe or batch is there; delete it and {record.name}, repeat the "
            "call that began it, or choose another path"
        )
    return int(said["rows"]) if part.exists() and _begins(part, planned) else 0


def _reserve(file: BinaryIO, part: Path, planned: FileLayout) -> None:
    """The header, and room for all values: a disk too small shows now and not after hours."""
    file.seek(0)
    file.truncate()
    file.write(planned.header)
    file.flush()
    try:
        os.posix_fallocate(file.fileno(), 0, planned.size)
    except AttributeError:  # a system without it
        file.truncate(planned.size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            part.unlink(missing_ok=True)
            raise
        file.truncate(planned.size)


def _put(file: BinaryIO, planned: FileLayout, first: int, end: int, values: Mapping[str, NDArray[Any]]) -> None:
    """The rows of one part. Written, not stored through a map: there, a disk that is full would end the process."""
    for name, (begin, field) in planned.fields.items():
        content = np.ascontiguousarray(values[name])
        if content.dtype != field.dtype or content.nbytes != (end - first) * field.row:
            raise ValueError(f"field {name}: {content.dtype} {content.shape} are not rows {first}…{end} of {field}")
        file.seek(begin + first * field.row)
        file.write(content.tobytes())


def _note(file: BinaryIO, record: Path, identity: str, rows: int) -> int:
    """Put on record that the first ``rows`` are on the disk, once they are."""
    file.flush()
    os.fsync(file.fileno())
    content = json.dumps({"format": _RECORD, "identity": identity, "rows": rows}).encode()
    write_atomic(record, content, follow=False)  # a link there was put there by somebody else
    return rows
