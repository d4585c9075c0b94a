"""Files of sets (save, load, build, join, inspect), of selections, and checkpoints of unfinished runs."""

from potstill.dataset_file.build import build
from potstill.dataset_file.checkpoint import (
    Checkpoint,
    differences,
    drop_checkpoint,
    read_checkpoint,
    read_identity,
    write_checkpoint,
)
from potstill.dataset_file.concat import concat
from potstill.dataset_file.dataset import Distilled, item_bytes
from potstill.dataset_file.files import check_writable, read_tensors, write_atomic, write_tensors
from potstill.dataset_file.inspect import describe, inspect
from potstill.dataset_file.load import load
from potstill.dataset_file.resample import resample
from potstill.dataset_file.selection import (
    check_source,
    is_index_file,
    materialize,
    read_indices,
    require_selection,
    write_indices,
)
from potstill.dataset_file.state import pack_state, unpack_state
from potstill.dataset_file.values import Contents, Encoding, Provenance, Schema

__all__ = [
    "Checkpoint",
    "Contents",
    "Distilled",
    "Encoding",
    "Provenance",
    "Schema",
    "build",
    "check_source",
    "check_writable",
    "concat",
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
    "resample",
    "unpack_state",
    "write_atomic",
    "write_checkpoint",
    "write_indices",
    "write_tensors",
]
