"""Writing safetensors files atomically, and reading those that may come from strangers.

The metadata key ``sha256`` holds the SHA-256 of the whole file with 64 zeros in place of that number. Reading checks
it, so that a flipped bit is an error. It is no signature: whoever changes a file can change the number too. Files of
other programs have none, and are read as they are.
"""

import hashlib
import json
import math
import os
import re
import stat
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import safetensors.torch
import torch
from torch import Tensor

from potstill._util.atomic_write import (
    check_writable,
    create_locked_part,
    os_error_text,
    remove_stale_parts,
    temporary_path,
    write_atomic,
)
from potstill._util.input_limits import check_limit, limits
from potstill._util.strict_json import parse_json
from potstill.errors import PotstillError

__all__ = [
    "DIGEST",
    "DIGEST_PLACEHOLDER",
    "DTYPES",
    "FileHash",
    "as_tensor",
    "check_preamble",
    "check_writable",
    "create_locked_part",
    "os_error_text",
    "parse_header",
    "parse_json",
    "read_tensors",
    "read_tensors_and_digest",
    "remove_stale_parts",
    "temporary_path",
    "tensor_file",
    "valid_entry",
    "write_atomic",
    "write_tensors",
]

DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "U16": torch.uint16,
    "I32": torch.int32, "U32": torch.uint32, "I64": torch.int64, "U64": torch.uint64, "F16": torch.float16,
    "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
}  # fmt: skip
"""Types of tensors, by the names of the safetensors format."""
DIGEST = "sha256"
"""Metadata key of the file's hash."""
DIGEST_PLACEHOLDER = "0" * 64
"""Placeholder of the hash while the file is hashed."""
_HEX = re.compile(r"[0-9a-f]{64}")
_PICKLE = (b"\x80", b"PK\x03\x04")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with its hash, atomically; equal content gives equal bytes.

    Raises:
        PotstillError: it cannot be written, or its header is larger than ``read_tensors`` allows.
    """
    write_atomic(path, *tensor_file(path, tensors, metadata)[1])


def tensor_file(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> tuple[str, tuple[bytes | memoryview, ...]]:
    """Return the hash and the content, in pieces, of the safetensors file that `write_tensors` writes to ``path``.

    Raises:
        PotstillError: its header is larger than ``read_tensors`` allows.
    """
    contiguous: dict[str, Tensor] = {}
    addresses: set[int] = set()
    for name, tensor in sorted(tensors.items()):
        t = tensor.detach().cpu().contiguous()
        address = t.untyped_storage().data_ptr()
        contiguous[name] = t.clone() if address in addresses else t  # the format cannot share memory
        addresses.add(address)
    content = memoryview(safetensors.torch.save(contiguous))
    (length,) = struct.unpack("<Q", content[:8])
    entries = json.loads(bytes(content[8 : 8 + length]))
    values = content[8 + length :]
    # Written anew: the library does not order several entries of metadata.
    complete = {"__metadata__": {**dict(sorted(metadata.items())), DIGEST: DIGEST_PLACEHOLDER}, **entries}
    text = json.dumps(complete, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    check_limit("header_bytes", len(text), f"{path}: its header")
    header = struct.pack("<Q", len(text)) + text
    digest = _digest([header, values])
    entry = f'"{DIGEST}":"{DIGEST_PLACEHOLDER}"'.encode()
    at = header.index(entry)  # the only place: within a text, quotes would be escaped
    sealed = header[:at] + entry.replace(DIGEST_PLACEHOLDER.encode(), digest.encode()) + header[at + len(entry) :]
    return digest, (sealed, values)


def _digest(pieces: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def read_tensors(path: Path, max_bytes: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of a safetensors file that may be foreign, cut off or hostile.

    Values are copied, not mapped: later changes of the file do not reach them.

    Raises:
        PotstillError: the file is not valid; one line says why.
    """
    return read_tensors_and_digest(path, max_bytes)[:2]


def read_tensors_and_digest(path: Path, max_bytes: int) -> tuple[dict[str, Tensor], dict[str, str], str | None]:
    """Return what `read_tensors` does, and the hash in the file; ``None``: it has none.

    Raises:
        PotstillError: the file is not valid; one line says why.
    """
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            raise PotstillError(f"{path}: one safetensors file is required, but this is a folder")
        if not stat.S_ISREG(kind):
            raise PotstillError(f"{path}: one safetensors file is required, but this is a device or pipe")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(9)
            check_preamble(path, head, size, max_bytes)
            (length,) = struct.unpack("<Q", head[:8])
            header = head[8:] + file.read(length - 1)
            entries, metadata = parse_header(path, header, size - 8 - length)
            hashed = FileHash(path, head[:8] + header, metadata)
            tensors = {name: _read_tensor(path, name, *entry, file, hashed) for name, entry in entries.items()}
            hashed.check()
    except FileNotFoundError as error:
        raise PotstillError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise PotstillError(f"{path}: cannot be read ({os_error_text(error)}); check the path") from error
    digest = metadata.pop(DIGEST, None)
    return tensors, metadata, digest


class FileHash:
    """Hash of a file that is being read, checked against the one in its metadata."""

    def __init__(self, path: Path, header: bytes, metadata: Mapping[str, str]) -> None:
        """Start the hash with ``header``: the bytes of the file before its values."""
        self._path, self._expected = path, metadata.get(DIGEST)
        if self._expected is None:  # or a hash under a damaged name
            if any(len(n) == len(DIGEST) and _HEX.fullmatch(value) for n, value in metadata.items()):
                raise self._damaged()
            return
        entry = f'"{DIGEST}":"{self._expected}"'.encode()
        self._digest = hashlib.sha256(header.replace(entry, f'"{DIGEST}":"{DIGEST_PLACEHOLDER}"'.encode(), 1))

    def update(self, values: bytes | bytearray | memoryview) -> None:
        """Add the next bytes of the file."""
        if self._expected is not None:
            self._digest.update(values)

    def check(self) -> None:
        """Check the hash, once all bytes were added.

        Raises:
            PotstillError: the bytes are not those that were written.
        """
        if self._expected is not None and self._digest.hexdigest() != self._expected:
            raise self._damaged()

    def _damaged(self) -> PotstillError:
        return PotstillError(
            f"{self._path}: damaged: its content is not the one that was written ({DIGEST}); get or make it again"
        )


def read_metadata(path: Path, max_bytes: int) -> dict[str, str]:
    """Return the metadata of a safetensors file; only its header is read.

    Raises:
        PotstillError: the file is not valid; one line says why.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(9)
            check_preamble(path, head, size, max_bytes)
            (length,) = struct.unpack("<Q", head[:8])
            return parse_header(path, head[8:] + file.read(length - 1), size - 8 - length)[1]
    except (OSError, ValueError) as error:
        raise PotstillError(f"{path}: cannot be read ({os_error_text(error)}); check the path") from error


def check_preamble(path: Path, head: bytes, size: int, max_bytes: int) -> None:
    """Refuse a file whose first 9 bytes are not those of a safetensors file of ``size`` bytes."""
    if size > max_bytes:
        raise PotstillError(
            f"{path}: holds {size:,} bytes, more than the {max_bytes:,} allowed; raise max_bytes to load it"
        )
    # A safetensors header begins with a brace; a length may by chance begin like a pickle.
    if head[8:] != b"{" and head.startswith(_PICKLE):
        raise PotstillError(
            f"{path}: a pickle or zip file (.pt, .npz?), but a safetensors file is required; pickles are never loaded"
        )
    if len(head) < 9:
        raise PotstillError(f"{path}: not a safetensors file (it ends after {size} bytes); get the file again")
    (length,) = struct.unpack("<Q", head[:8])
    if length < 2 or head[8:] != b"{":
        raise PotstillError(f"{path}: not a safetensors file; only files that potstill saved are sets")
    if length <= size - 8:
        check_limit("header_bytes", length, str(path))
    else:
        raise PotstillError(
            f"{path}: an incomplete safetensors file (its header claims {length:,} bytes, the file has {size:,}); "
            "get the file again"
        )


_Entry = tuple[torch.dtype, list[int], int]
"""Type, shape, bytes."""


def parse_header(path: Path, header: bytes, data: int) -> tuple[dict[str, _Entry], dict[str, str]]:
    """Return tensors in the order of their bytes, and the metadata; ``data``: bytes after the header."""
    try:
        parsed = parse_json(header)
    except ValueError as error:
        raise PotstillError(
            f"{path}: not a safetensors file (its header is not JSON: {str(error)[:120]}); get the file again"
        ) from error
    if not isinstance(parsed, dict):
        raise PotstillError(f"{path}: not a safetensors file (its header is not an object); get the file again")
    metadata = parsed.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise PotstillError(f"{path}: its metadata must be text by name; get the file again")
    spans: list[tuple[int, int, str, _Entry]] = []
    for name, entry in parsed.items():
        if (valid := _validate_entry(entry)) is None:
            raise PotstillError(
                f"{path}: tensor {name[:80]!r} has no valid type, shape and place in the file; get the file again"
            )
        spans.append((valid[0], valid[0] + valid[1][2], name, valid[1]))
    spans.sort(key=lambda span: span[:2])
    end = 0
    for first, last, name, _ in spans:
        if first != end:
            raise PotstillError(
                f"{path}: tensor {name[:80]!r} starts at byte {first:,} of the data, but the one before ends at "
                f"{end:,}; get the file again"
            )
        end = last
    if end != data:
        raise PotstillError(
            f"{path}: cut off or damaged (its tensors need {end:,} bytes, the file has {data:,}); get the file again"
        )
    return {name: entry for _, _, name, entry in spans}, metadata


def _are_naturals(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 2**48 for v in value)


def _validate_entry(entry: Any) -> tuple[int, _Entry] | None:
    """Return first byte, type, shape and bytes of a tensor; ``None``: the header contradicts itself."""
    if not isinstance(entry, dict):
        return None
    offsets, valid = entry.get("data_offsets"), valid_entry(entry.get("dtype"), entry.get("shape"))
    if valid is None or not _are_naturals(offsets) or len(offsets) != 2:
        return None
    return (offsets[0], valid) if offsets[1] - offsets[0] == valid[2] else None


def valid_entry(dtype: Any, shape: Any) -> _Entry | None:
    """Return type, shape and bytes of a tensor that a file describes; ``None``: there is no such tensor."""
    kind = DTYPES.get(dtype) if isinstance(dtype, str) else None
    if kind is None or not _are_naturals(shape):
        return None
    # Zeros aside: torch also needs the strides of an empty tensor to be numbers that it can hold.
    if len(shape) > limits().dimensions or math.prod(max(d, 1) for d in shape) >= 2**48:
        return None
    return kind, shape, math.prod(shape) * kind.itemsize


def _read_tensor(
    path: Path, name: str, dtype: torch.dtype, shape: list[int], count: int, file: BinaryIO, hashed: FileHash
) -> Tensor:
    buffer = bytearray(count)
    if file.readinto(buffer) != count:  # type: ignore[attr-defined]
        raise PotstillError(f"{path}: was truncated while it was read; get the file again")
    hashed.update(buffer)
    return as_tensor(path, name, dtype, shape, buffer)


def as_tensor(path: Path, name: str, dtype: torch.dtype, shape: list[int], buffer: bytearray) -> Tensor:
    """Return the tensor of bytes that a file holds for it, as many as its type and shape need.

    Raises:
        PotstillError: truth values are other bytes than 0 and 1.
    """
    if not buffer:
        return torch.empty(shape, dtype=dtype)
    if dtype is torch.bool and int(torch.frombuffer(buffer, dtype=torch.uint8).max()) > 1:
        raise PotstillError(f"{path}: boolean tensor {name[:80]!r} has other values; get the file again")
    return torch.frombuffer(buffer, dtype=dtype).reshape(shape)
