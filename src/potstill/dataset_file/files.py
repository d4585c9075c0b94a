"""Writing beside and renaming; reading safetensors files that may come from strangers.

Every safetensors file that is written here says in its metadata, under ``sha256``, the SHA-256 of the whole file with
64 zeros in place of that number. It is checked when the file is read: a bit that fell over on a disk or on the way is
an error and not another result. It is no signature: who changes a file on purpose can change the number too. Files
without it, of earlier versions or other programs, are read as they are.
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

from potstill._util.atomic_write import beside, check_writable, clear_dead_parts, own_part, reason, write_atomic
from potstill._util.input_limits import hold, limits, raised
from potstill.errors import PotstillError

__all__ = [
    "DIGEST",
    "DIGEST_PLACEHOLDER",
    "DTYPES",
    "FileHash",
    "beside",
    "check_preamble",
    "check_writable",
    "clear_dead_parts",
    "own_part",
    "parse_header",
    "parse_json",
    "read_tensors",
    "reason",
    "write_atomic",
    "write_tensors",
]

DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "U16": torch.uint16,
    "I32": torch.int32, "U32": torch.uint32, "I64": torch.int64, "U64": torch.uint64, "F16": torch.float16,
    "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
}  # fmt: skip
"""What a file may hold, by the format's own names."""
DIGEST = "sha256"
"""The metadata's key for the hash of the file."""
DIGEST_PLACEHOLDER = "0" * 64
"""In its place while the file is hashed."""
_HEX = re.compile(r"[0-9a-f]{64}")
_PICKLE = (b"\x80", b"PK\x03\x04")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """One safetensors file with its hash; equal content gives equal bytes.

    Raises:
        PotstillError: it cannot be written, or its header would be larger than ``read_tensors`` allows.
    """
    ready: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in sorted(tensors.items()):
        t = tensor.detach().cpu().contiguous()
        memory = t.untyped_storage().data_ptr()
        # The format keeps no sharing: tensors that are views of one memory are stored each for itself.
        ready[name] = t.clone() if memory in seen else t
        seen.add(memory)
    content = memoryview(safetensors.torch.save(ready))
    (length,) = struct.unpack("<Q", content[:8])
    described = json.loads(bytes(content[8 : 8 + length]))
    values = content[8 + length :]
    # Written anew: the library keeps no order among several entries of metadata.
    said = {"__metadata__": {**dict(sorted(metadata.items())), DIGEST: DIGEST_PLACEHOLDER}, **described}
    text = json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    hold("header_bytes", len(text), f"{path}: its description")
    header = struct.pack("<Q", len(text)) + text
    digest = _digest([header, values])
    entry = f'"{DIGEST}":"{DIGEST_PLACEHOLDER}"'.encode()
    at = header.index(entry)  # the only place: within a text, quotes would be escaped
    write_atomic(
        path,
        header[:at] + entry.replace(DIGEST_PLACEHOLDER.encode(), digest.encode()) + header[at + len(entry) :],
        values,
    )


def _digest(pieces: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def parse_json(text: str | bytes) -> Any:
    """JSON as the standard has it: no NaN, no name twice, no bottomless nesting, no whole number beyond a float.

    Raises:
        ValueError: it is not; the message says why.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON number")

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a name stands there twice")
        return made

    def whole(digits: str) -> int:
        if len(digits) > limits().json_digits:  # beyond a float: whoever prints or compares it would fail
            raise ValueError(f"a whole number of {len(digits):,} digits; {raised('json_digits')}")
        return int(digits)

    try:
        parsed = json.loads(text, parse_constant=refuse, parse_int=whole, object_pairs_hook=distinct)
    except RecursionError as error:
        raise ValueError(f"nested too deeply; {raised('json_depth')}") from error
    level, depth = [parsed], 0
    while level := [
        inner
        for outer in level
        if isinstance(outer, dict | list)
        for inner in (outer.values() if isinstance(outer, dict) else outer)
    ]:
        if (depth := depth + 1) > limits().json_depth:
            raise ValueError(f"nested {depth:,} levels deep or more; {raised('json_depth')}")
    return parsed


def read_tensors(path: Path, max_bytes: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file that may be foreign, cut off or hostile. No code from it is run.

    The values are read into memory of their own, not mapped: what later happens to the file does not reach them.

    Raises:
        PotstillError: one line that says what is wrong with the file.
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
            tensors = {name: _tensor(path, name, *entry, file, hashed) for name, entry in entries.items()}
            hashed.check()
    except FileNotFoundError as error:
        raise PotstillError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise PotstillError(f"{path}: cannot be read ({reason(error)}); check the path") from error
    metadata.pop(DIGEST, None)
    return tensors, metadata


class FileHash:
    """The hash of a file that is being read, beside the one that its metadata say, if they say one."""

    def __init__(self, path: Path, header: bytes, metadata: Mapping[str, str]) -> None:
        """
        Args:
            header: the file up to its values.

        Raises:
            PotstillError: a hash stands there under a damaged name.
        """
        self._path, self._said = path, metadata.get(DIGEST)
        if self._said is None:
            if any(len(n) == len(DIGEST) and _HEX.fullmatch(value) for n, value in metadata.items()):
                raise self._damaged()
            return
        entry = f'"{DIGEST}":"{self._said}"'.encode()
        self._digest = hashlib.sha256(header.replace(entry, f'"{DIGEST}":"{DIGEST_PLACEHOLDER}"'.encode(), 1))

    def update(self, values: bytes | bytearray | memoryview) -> None:
        """The next bytes of the file."""
        if self._said is not None:
            self._digest.update(values)

    def check(self) -> None:
        """
        Raises:
            PotstillError: all bytes were given, and they are not those that were written.
        """
        if self._said is not None and self._digest.hexdigest() != self._said:
            raise self._damaged()

    def _damaged(self) -> PotstillError:
        return PotstillError(
            f"{self._path}: damaged: it does not have the content that it was written with ({DIGEST}); get or make it "
            "again"
        )


def read_metadata(path: Path, max_bytes: int) -> dict[str, str]:
    """The metadata of a safetensors file, of which the header alone is read.

    Raises:
        PotstillError: one line that says what is wrong with the file.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(9)
            check_preamble(path, head, size, max_bytes)
            (length,) = struct.unpack("<Q", head[:8])
            return parse_header(path, head[8:] + file.read(length - 1), size - 8 - length)[1]
    except (OSError, ValueError) as error:
        raise PotstillError(f"{path}: cannot be read ({reason(error)}); check the path") from error


def check_preamble(path: Path, head: bytes, size: int, max_bytes: int) -> None:
    """Refuse what its first 9 bytes show to be no safetensors file of ``size`` bytes, before more of it is read."""
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
        hold("header_bytes", length, str(path))
    else:
        raise PotstillError(
            f"{path}: not a whole safetensors file (its header claims {length:,} bytes, the file has {size:,}); "
            "it is cut off or of another kind"
        )


_Entry = tuple[torch.dtype, list[int], int]
"""Type, shape, bytes."""


def parse_header(path: Path, header: bytes, data: int) -> tuple[dict[str, _Entry], dict[str, str]]:
    """Tensors in the order of their bytes, and the metadata. The header must say no more than the file holds."""
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
    placed: list[tuple[int, int, str, _Entry]] = []
    for name, entry in parsed.items():
        if (said := _entry(entry)) is None:
            raise PotstillError(
                f"{path}: tensor {name[:80]!r} has no valid type, shape and place in the file; get the file again"
            )
        placed.append((said[0], said[0] + said[1][2], name, said[1]))
    placed.sort(key=lambda place: place[:2])
    end = 0
    for first, last, name, _ in placed:
        if first != end:
            raise PotstillError(
                f"{path}: tensor {name[:80]!r} starts at byte {first:,} of the data and not at {end:,}, where the one "
                "before it ends; get the file again"
            )
        end = last
    if end != data:
        raise PotstillError(
            f"{path}: cut off or damaged (its tensors need {end:,} bytes, the file has {data:,}); get the file again"
        )
    return {name: entry for _, _, name, entry in placed}, metadata


def _naturals(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 2**48 for v in value)


def _entry(entry: Any) -> tuple[int, _Entry] | None:
    """The first byte of a tensor, its type, shape and bytes; ``None`` where the header contradicts itself."""
    if not isinstance(entry, dict) or not isinstance(entry.get("dtype"), str):
        return None
    dtype, shape, offsets = DTYPES.get(entry["dtype"]), entry.get("shape"), entry.get("data_offsets")
    if dtype is None or not _naturals(shape) or not _naturals(offsets) or len(offsets) != 2:
        return None
    # Zeros aside: torch also needs the strides of an empty tensor to be numbers that it can hold.
    if len(shape) > limits().dimensions or math.prod(max(d, 1) for d in shape) >= 2**48:
        return None
    count = math.prod(shape) * dtype.itemsize
    return (offsets[0], (dtype, shape, count)) if offsets[1] - offsets[0] == count else None


def _tensor(
    path: Path, name: str, dtype: torch.dtype, shape: list[int], count: int, file: BinaryIO, hashed: FileHash
) -> Tensor:
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    memory = bytearray(count)
    if file.readinto(memory) != count:  # type: ignore[attr-defined]
        raise PotstillError(f"{path}: became shorter while it was read; get the file again")
    hashed.update(memory)
    if dtype is torch.bool and int(torch.frombuffer(memory, dtype=torch.uint8).max()) > 1:
        raise PotstillError(f"{path}: tensor {name[:80]!r} holds something else than true and false; get it again")
    return torch.frombuffer(memory, dtype=dtype).reshape(shape)
