"""The artefact on disk: save, load, export, inspect; and checkpoints of unfinished runs."""

from potstill.folders import cache_folder
from potstill.storage.artefact import Distilled, item_bytes, load, save
from potstill.storage.checkpoint import (
    Checkpoint,
    differences,
    drop_checkpoint,
    read_checkpoint,
    read_identity,
    write_checkpoint,
)
from potstill.storage.export import export
from potstill.storage.files import check_writable, read_tensors, write_atomic, write_tensors
from potstill.storage.inspect import describe, inspect
from potstill.storage.pictures import sheet
from potstill.storage.selection import (
    check_selection,
    check_source,
    holds_indices,
    read_indices,
    rebuild,
    write_indices,
)
from potstill.storage.state import pack, unpack

__all__ = [
    "Checkpoint",
    "Distilled",
    "cache_folder",
    "check_selection",
    "check_source",
    "check_writable",
    "describe",
    "differences",
    "drop_checkpoint",
    "export",
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
    "sheet",
    "unpack",
    "write_atomic",
    "write_checkpoint",
    "write_indices",
    "write_tensors",
]
