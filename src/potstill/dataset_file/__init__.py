"""The artefact on disk: save, load, export, inspect; and checkpoints of unfinished runs."""

from potstill.dataset_file.checkpoint import (
    Checkpoint,
    differences,
    drop_checkpoint,
    read_checkpoint,
    read_identity,
    write_checkpoint,
)
from potstill.dataset_file.dataset import Distilled, item_bytes, load, save
from potstill.dataset_file.files import check_writable, read_tensors, write_atomic, write_tensors
from potstill.dataset_file.inspect import describe, inspect
from potstill.dataset_file.selection import (
    check_source,
    is_index_file,
    materialize,
    read_indices,
    require_selection,
    write_indices,
)
from potstill.dataset_file.state import pack_state, unpack_state

__all__ = [
    "Checkpoint",
    "Distilled",
    "check_source",
    "check_writable",
    "describe",
    "differences",
    "drop_checkpoint",
    "inspect",
    "is_index_file",
    "item_bytes",
    "load",
    "materialize",
    "pack_state",
    "read_checkpoint",
    "read_identity",
    "read_indices",
    "read_tensors",
    "require_selection",
    "save",
    "unpack_state",
    "write_atomic",
    "write_checkpoint",
    "write_indices",
    "write_tensors",
]
