"""Safetensors files too large for memory: laid out first, written in parts, read by memory map.

An unfinished file has a hidden name and a progress record. Values reach the disk before the record that counts them;
the final name comes last: after a kill or a power cut a record never counts missing values, and rows after the last
record are written again with the same bits.
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

from potstill._util.atomic_write import check_writable, os_error_text, sync_renamed, write_atomic
from potstill._util.file_lock import lock_file
from potstill._util.input_limits import check_limit
from potstill._util.outputs import REPLACE_HINT
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
    """One tensor: safetensors type and shape. The first two axes count rows: (epoch, item)."""

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
    """Layout of a file: header, and tensors with the byte where each begins."""

    header: bytes
    fields: Mapping[str, tuple[int, TensorField]]

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + self.tensor_bytes

    @property
    def tensor_bytes(self) -> int:
        """Bytes of the tensors without the header."""
        return sum(field.size for _, field in self.fields.values())


def plan_layout(fields: Mapping[str, TensorField], metadata: Mapping[str, str]) -> FileLayout:
    """Return the layout of a file: wider types first, so that all values are aligned; then by name.

    Raises:
        PotstillError: the header is larger than readers allow.
    """
    order = sorted(fields, key=lambda name: (-fields[name].dtype.itemsize, name))
    header_json: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        first, end = end, end + fields[name].size
        header_json[name] = {
            "dtype": fields[name].kind,
            "shape": list(fields[name].shape),
            "data_offsets": [first, end],
        }
    text = json.dumps(header_json, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    check_limit("header_bytes", len(text), "the description of a file")
    header = struct.pack("<Q", len(text)) + text
    return FileLayout(
        header, {name: (len(header) + header_json[name]["data_offsets"][0], fields[name]) for name in order}
    )


def open_memmap(
    path: Path, max_bytes: int = 2**48, check: bool = False
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return memory-mapped tensors and the metadata of a file that may be foreign, cut off or hostile.

    Truncating the file while it is mapped ends the process.

    Args:
        check: read all of it once and check its hash.

    Raises:
        PotstillError: the file is not valid; one line says why.
    """
    with _opened(path, max_bytes) as (file, begin, entries, metadata, size):
        if check:
            _check_hash(path, file, begin, metadata)
        memory = np.memmap(file, np.uint8, "r") if size > begin else np.empty(0, np.uint8)
    arrays: dict[str, NDArray[Any]] = {}
    offset = begin
    for name, (dtype, shape, count) in entries.items():
        if dtype not in _NUMPY:
            raise PotstillError(f"{path}: tensor {name[:80]!r} is of a type that cannot be mapped; get the file again")
        arrays[name] = np.asarray(memory[offset : offset + count]).view(_NUMPY[dtype]).reshape(shape)
        offset += count
    return arrays, metadata


def verify_digest(path: Path, max_bytes: int = 2**48) -> tuple[str, ...]:
    """Read all of a file once and check its hash; return the names of its tensors.

    Raises:
        PotstillError: the file is not valid; one line says why.
    """
    with _opened(path, max_bytes) as (file, begin, entries, metadata, _):
        _check_hash(path, file, begin, metadata)
    return tuple(entries)


@contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[tuple[BinaryIO, int, Mapping[str, Any], dict[str, str], int]]:
    """Yield the open file, the byte where its values begin, its tensors, metadata and size."""
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
        raise PotstillError(f"{path}: cannot be read ({os_error_text(error)}); check the path") from error


def _check_hash(path: Path, file: BinaryIO, begin: int, metadata: Mapping[str, str]) -> None:
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
    """Write a file part by part, or resume one that was interrupted.

    Args:
        path: final path; a complete file of the same header is left as it is.
        planned: layout of the file.
        parts: first row and end of each part, in order; rows are those of the first two axes, flattened.
        make: returns the values of each tensor for the rows from first to end.
        record_every: seconds between progress records; 0: after every part.
        replace: replace another file at ``path``.
        progress: called with rows done and all rows.

    Raises:
        PotstillError: another file is there, or the file cannot be written.
    """
    check_writable(path)
    target = path.resolve()
    part, record = (target.with_name(f".{target.name[:200]}.{kind}") for kind in ("part", "progress"))
    try:
        descriptor = lock_file(part)  # for as long as it is open: two writers would overwrite each other's rows
    except OSError as error:
        what = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be opened ({os_error_text(error)})"
        raise PotstillError(f"{part}: {what}, but the unfinished file belongs there; remove it") from error
    if descriptor is None:
        raise PotstillError(f"{path}: another run is writing it; wait, end that run, or choose another path")
    try:
        with open(descriptor, "r+b") as file:
            if target.exists():
                if file.seek(0, os.SEEK_END) == 0:
                    part.unlink(missing_ok=True)
                if _has_layout(target, planned):
                    return
                if not replace:
                    raise PotstillError(f"{path}: another file is there; {REPLACE_HINT}")
            _fill(target, planned, parts, make, file, part, record, record_every, progress)
    except OSError as error:  # of closing it too, which writes what could not be written before
        raise PotstillError(
            f"{path}: could not be written ({os_error_text(error)}); free space or choose another path; "
            "the same call resumes"
        ) from error
    sync_renamed(path, target.parent)


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
    """Write the parts that are missing; this process alone has the file open."""
    identity = hashlib.sha256(planned.header + json.dumps(parts).encode()).hexdigest()
    done = _rows_done(part, record, identity, planned)
    total = parts[-1][1]
    if done not in {0, *(end for _, end in parts)}:
        raise PotstillError(f"{record}: counts rows that no part ends with; delete it and {part.name} to start again")
    if done == 0:
        _reserve(file, part, planned)
    recorded, last_record = done, time.monotonic()
    try:
        for first, end in parts:
            if first < done:
                continue
            _write_rows(file, planned, first, end, make(first, end))
            done = end
            if progress is not None:
                progress(done, total)
            if time.monotonic() - last_record >= record_every:
                recorded, last_record = _write_record(file, record, identity, done), time.monotonic()
    finally:  # also when the user interrupts
        if done > recorded or done == total:
            _write_record(file, record, identity, done)
    write_digest(file, planned)
    os.replace(part, target)
    record.unlink(missing_ok=True)


def write_digest(file: BinaryIO, planned: FileLayout) -> None:
    """Write the file's hash into its header, if that has a placeholder for it, and sync the file."""
    entry = _digest_entry(DIGEST_PLACEHOLDER)
    if entry in planned.header:
        file.seek(0)
        file.write(planned.header)  # without the hash of an earlier attempt
        file.seek(0)
        digest = hashlib.sha256()
        while piece := file.read(2**22):
            digest.update(piece)
        file.seek(planned.header.index(entry))
        file.write(_digest_entry(digest.hexdigest()))
    file.flush()
    os.fsync(file.fileno())


def _digest_entry(digest: str) -> bytes:
    return f'"{DIGEST}":"{digest}"'.encode()


def _has_layout(path: Path, planned: FileLayout) -> bool:
    """Return whether the file has this header and size, whatever its hash."""
    with open(path, "rb") as file:
        header = file.read(len(planned.header))
        size = os.fstat(file.fileno()).st_size
    at = planned.header.find(_digest_entry(DIGEST_PLACEHOLDER))
    if at >= 0:
        end = at + len(_digest_entry(DIGEST_PLACEHOLDER))
        header = header[:at] + planned.header[at:end] + header[end:]
    return size == planned.size and header == planned.header


def _rows_done(part: Path, record: Path, identity: str, planned: FileLayout) -> int:
    """Return the rows that an earlier attempt has written; 0: start anew."""
    if not record.exists():
        return 0
    try:
        content = parse_json(record.read_bytes())
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or content.get("format") != _RECORD or type(content.get("rows")) is not int:
        raise PotstillError(
            f"{record}: is not the record of an unfinished file; delete it and {part.name} to start again"
        )
    if content.get("identity") != identity:
        raise PotstillError(
            f"{part}: an unfinished file of other settings is there; delete it and {record.name}, repeat the call that "
            "began it, or choose another path"
        )
    return int(content["rows"]) if part.exists() and _has_layout(part, planned) else 0


def _reserve(file: BinaryIO, part: Path, planned: FileLayout) -> None:
    """Write the header and allocate all bytes, so that a full disk fails now and not after hours."""
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


def _write_rows(file: BinaryIO, planned: FileLayout, first: int, end: int, values: Mapping[str, NDArray[Any]]) -> None:
    """Write the rows of one part; not through a map, as a full disk would end the process."""
    for name, (begin, field) in planned.fields.items():
        content = np.ascontiguousarray(values[name])
        if content.dtype != field.dtype or content.nbytes != (end - first) * field.row:
            raise ValueError(f"field {name}: {content.dtype} {content.shape} are not rows {first}…{end} of {field}")
        file.seek(begin + first * field.row)
        file.write(content.tobytes())


def _write_record(file: BinaryIO, record: Path, identity: str, rows: int) -> int:
    """Sync the file, then record that its first ``rows`` are written."""
    file.flush()
    os.fsync(file.fileno())
    content = json.dumps({"format": _RECORD, "identity": identity, "rows": rows}).encode()
    write_atomic(record, content, follow=False)  # a link there is somebody else's
    return rows
