"""Checkpoint of a network's training: an interrupted training resumes after its last whole epoch with the same bits."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from potstill._util.cache import make_cache_folder
from potstill.core import NetworkWeights
from potstill.dataset_file import pack_state, read_tensors, unpack_state, write_tensors
from potstill.errors import PotstillError
from potstill.labels.teacher import Teacher

__all__ = ["EpochCheckpoint", "raise_os_errors", "read_checkpoint", "write_checkpoint"]

MAX_BYTES = 64 * 2**30
"""Largest file that is read."""


@dataclass(frozen=True, kw_only=True)
class EpochCheckpoint:
    """State of a training after ``epoch`` whole epochs."""

    epoch: int
    teacher: Teacher
    rng: Tensor
    """State of the generator."""
    seconds: float
    """Computing time so far."""
    stops: tuple[tuple[NetworkWeights, float], ...] = ()
    """Networks of the stops passed, and the seconds up to each."""
    log_p: Tensor | None = None
    """Log-probabilities of every sample after the epoch, of a training that is recorded."""
    rows: str = ""
    """Hash of the snapshots that were written up to the epoch."""


@contextmanager
def raise_os_errors() -> Iterator[None]:
    """Turn the `PotstillError` of a file that cannot be written into an `OSError`, unlike that of a failed training."""
    try:
        yield
    except PotstillError as error:
        raise OSError(0, str(error)) from error


def write_checkpoint(path: Path, state: EpochCheckpoint) -> None:
    """Write ``state`` to ``path``.

    Raises:
        OSError: it cannot be written.
    """
    tensors, structure = pack_state(state)
    make_cache_folder(path.parent)
    with raise_os_errors():
        write_tensors(path, tensors, {"progress": json.dumps(structure)})


def read_checkpoint(path: Path, first: EpochCheckpoint) -> EpochCheckpoint:
    """Return the checkpoint at ``path``, or ``first``, the state before all epochs, if it is missing or damaged."""
    try:
        tensors, metadata = read_tensors(path, MAX_BYTES)
        state = unpack_state(EpochCheckpoint, tensors, json.loads(metadata["progress"]))
        whole = int(state.epoch) >= 0 and state.rng.shape == first.rng.shape
        wanted = _shapes(first.teacher.params, first.teacher.buffers)
        networks = [(state.teacher.params, state.teacher.buffers)]
        networks += [(stop.parameters, stop.buffers) for stop, _ in state.stops]
        return state if whole and all(_shapes(*network) == wanted for network in networks) else first
    except (PotstillError, AttributeError, KeyError, NameError, RecursionError, RuntimeError, TypeError, ValueError):
        return first  # whatever a damaged structure breaks in: the training begins anew


def _shapes(*parts: Mapping[str, Tensor]) -> list[dict[str, tuple[int, ...]]]:
    return [{name: tuple(t.shape) for name, t in part.items()} for part in parts]
