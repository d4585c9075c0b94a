"""The artefact on disk: save, load, export, inspect; and checkpoints of unfinished runs."""

from potstill.storage.artefact import Distilled, item_bytes, load, save
from potstill.storage.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from potstill.storage.export import export
from potstill.storage.files import check_writable, write_atomic
from potstill.storage.inspect import describe, inspect
from potstill.storage.pictures import sheet
from potstill.storage.state import pack, unpack

__all__ = [
    "Checkpoint",
    "Distilled",
    "check_writable",
    "describe",
    "export",
    "inspect",
    "item_bytes",
    "load",
    "pack",
    "read_checkpoint",
    "save",
    "sheet",
    "unpack",
    "write_atomic",
    "write_checkpoint",
]
