"""Many small tensors of a set as one tensor of its file.

A safetensors header has a name, a type, a shape and a place for each tensor, about 75 bytes. Where these make a file
more than 5 % and 1 kB larger than its set, the values of all tensors lie one after another in a single tensor
``packed`` of bytes, in the order of their names. The key ``packed`` of the metadata, compressed with the others, has
for each name a list of type and sizes. Sets of fewer than `LEAST` tensors keep theirs by name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from potstill._util.card import card_to_header, file_size_note
from potstill.dataset_file.files import DTYPES, as_tensor, tensor_file, valid_entry
from potstill.errors import PotstillError

__all__ = ["LEAST", "PACKED", "set_file", "unpack_tensors"]

PACKED: Final = "packed"
"""Name of the tensor, and the metadata's key."""
LEAST: Final = 8
"""Fewest tensors that are packed: a few stay readable by their names."""
_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}


def set_file(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> tuple[str, tuple[bytes | memoryview, ...]]:
    """Return the hash and the content, in pieces, of a set's file.

    Args:
        path: for errors.
        tensors: of the set, by name.
        metadata: of the set; its ``bytes`` decide if tensors are packed.

    Raises:
        PotstillError: metadata or header are too long to be read back.
    """
    plain = tensor_file(path, tensors, card_to_header(metadata))
    if len(tensors) < LEAST or not file_size_note(metadata["bytes"], _size(plain)):
        return plain
    ordered = sorted(tensors.items())
    values = torch.cat([_bytes_of(tensor) for _, tensor in ordered])
    layout = {name: [_NAMES[t.dtype], *t.shape] for name, t in ordered}
    packed = tensor_file(path, {PACKED: values}, card_to_header({**metadata, PACKED: layout}))
    return min(plain, packed, key=_size)


def _bytes_of(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor's values; a tensor of one value may have any stride, and its bytes no view."""
    values = torch.empty(tensor.numel(), dtype=tensor.dtype)
    return values.copy_(tensor.detach().reshape(-1)).view(torch.uint8)


def _size(file: tuple[str, tuple[bytes | memoryview, ...]]) -> int:
    return sum(len(piece) for piece in file[1])


def unpack_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a set by name, and take the key ``packed`` out of its metadata.

    Args:
        path: for errors.
        tensors: of the file.
        metadata: of the file, from anybody.

    Raises:
        PotstillError: the list of tensors is damaged, or of other bytes than those in the file.
    """
    if PACKED not in metadata:
        return tensors
    layout, values = metadata.pop(PACKED), tensors.get(PACKED)
    damaged = PotstillError(f"{path}: its list of packed tensors is not that of its bytes; get the file again")
    if len(tensors) != 1 or values is None or values.dtype is not torch.uint8 or values.ndim != 1:
        raise damaged
    if not isinstance(layout, dict):
        raise damaged
    content, at, found = values.numpy().tobytes(), 0, dict[str, Tensor]()
    for name, row in sorted(layout.items()):
        entry = valid_entry(row[0], row[1:]) if isinstance(row, list) and row else None
        if entry is None or at + entry[2] > len(content):
            raise damaged
        dtype, shape, count = entry
        found[name] = as_tensor(path, name, dtype, shape, bytearray(content[at : at + count]))
        at += count
    if at != len(content):
        raise damaged
    return found
