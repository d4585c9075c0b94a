"""Writing beside and renaming; reading safetensors files that may come from strangers."""

import json
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from potstill.errors import PotstillError

__all__ = ["check_writable", "read_tensors", "write_atomic", "write_tensors"]

MAX_HEADER = 16 * 2**20
"""A header with its card and names is kilobytes; one that claims more than this is refused before it is read."""
MAX_DEPTH = 64
_PICKLE = (b"\x80", b"PK\x03\x04")


def check_writable(path: Path) -> None:
    """Find out before the work, not after it, that a file cannot be written.

    Raises:
        PotstillError: the folder is missing or closed, or the path is a folder.
    """
    if path.is_dir():
        raise PotstillError(f"{path}: a file is to be written there, but it is a folder; add a file name")
    parent = path.parent
    if not parent.is_dir():
        raise PotstillError(f"{path}: its folder {parent} does not exist; make it or choose another path")
    try:
        handle, probe = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=parent)
    except OSError as error:
        raise PotstillError(f"{path}: cannot be written ({error.strerror}); choose another path") from error
    os.close(handle)
    os.unlink(probe)


def write_atomic(path: Path, content: bytes) -> None:
    """Write beside, flush to the disk, rename: a reader finds the old file or the new one, never half of one.

    Raises:
        PotstillError: it cannot be written; what was there stays as it was and nothing is left behind.
    """
    check_writable(path)
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)  # mkstemp makes files that only their owner may read
        os.replace(part, path)
    except OSError as error:
        os.unlink(part)
        raise PotstillError(
            f"{path}: could not be written ({error.strerror}); free space or choose another path, nothing was changed"
        ) from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """One safetensors file; equal content gives equal bytes."""
    ready: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in sorted(tensors.items()):
        t = tensor.detach().cpu().contiguous()
        memory = t.untyped_storage().data_ptr()
        # The format keeps no sharing: tensors that are views of one memory are stored each for itself.
        ready[name] = t.clone() if memory in seen else t
        seen.add(memory)
    write_atomic(path, safetensors.torch.save(ready, metadata=dict(sorted(metadata.items()))))


def read_tensors(path: Path, max_bytes: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file that may be foreign, cut off or hostile. No code from it is run.

    Raises:
        PotstillError: one line that says what is wrong with the file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(9)
            _check_head(path, head, size, max_bytes)
            (length,) = struct.unpack("<Q", head[:8])
            header = head[8:] + file.read(length - 1)
    except OSError as error:
        raise PotstillError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    _check_header(path, header, length, size - 8 - length)
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, KeyError, ValueError, RuntimeError, OverflowError, TypeError, AttributeError) as error:
        # safetensors names its own refusals; torch refuses what it has no type for. All mean: not a set of ours.
        raise PotstillError(f"{path}: not a valid safetensors file ({_line(error)}); get the file again") from error
    metadata = json.loads(header).get("__metadata__") or {}
    return tensors, {str(k): str(v) for k, v in metadata.items()}


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _check_head(path: Path, head: bytes, size: int, max_bytes: int) -> None:
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
    if length > min(size - 8, MAX_HEADER):
        raise PotstillError(
            f"{path}: not a whole safetensors file (its header claims {length:,} bytes, the file has {size:,}); "
            "it is cut off or of another kind"
        )


def _check_header(path: Path, header: bytes, length: int, data: int) -> None:
    """The header must be JSON that says no more than the file holds."""
    try:
        parsed: Any = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise PotstillError(f"{path}: not a safetensors file (its header is not JSON); get the file again") from error
    if not isinstance(parsed, dict):
        raise PotstillError(f"{path}: not a safetensors file (its header is not an object); get the file again")
    end = 0
    for name, entry in parsed.items():
        if name == "__metadata__":
            if not isinstance(entry, dict) or not all(isinstance(v, str) for v in entry.values()):
                raise PotstillError(f"{path}: its metadata must be text by name; get the file again")
            continue
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not (isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(o, int) for o in offsets)):
            raise PotstillError(f"{path}: tensor {name[:80]!r} has no valid place in the file; get the file again")
        end = max(end, *offsets)
    if end != data:
        raise PotstillError(
            f"{path}: cut off or damaged (its tensors need {end:,} bytes, the file has {data:,}); get the file again"
        )
