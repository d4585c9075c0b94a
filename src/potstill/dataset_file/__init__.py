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
    check_selection,
    check_source,
    holds_indices,
    read_indices,
    rebuild,
    write_indices,
)
from potstill.dataset_file.state import pack, unpack

__all__ = [
    "Checkpoint",
    "Distilled",
    "check_selection",
    "check_source",
    "check_writable",
    "describe",
    "differences",
    "drop_checkpoint",
    "holds_indices",
    "inspect",
    "item_bytes",
    "load",
    "pack",
    "read_checkpoint",
    "read_identity",
    "read_indices",
    "read_tensors",
    "rebuild",
    "save",
    "unpack",
    "write_atomic",
    "write_checkpoint",
    "write_indices",
    "write_tensors",
]
