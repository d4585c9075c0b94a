"""Checkpoint of a network's training: an interrupted training resumes after its last whole epoch with the same bits."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from potstill._util.cache import make_cache_folder
from potstill.core import NetworkWeights
from potstill.dataset_file import read_tensors, write_tensors
from potstill.errors import PotstillError
from potstill.labels.teacher import Teacher

__all__ = ["EpochCheckpoint", "read_checkpoint", "write_checkpoint"]

MAX_BYTES = 16 * 2**30
"""Largest file that is read."""
_PARTS = ("params", "velocity", "buffers")


@dataclass(frozen=True, kw_only=True)
class EpochCheckpoint:
    """State of a training after ``epoch`` whole epochs."""

    epoch: int
    teacher: Teacher
    rng: Tensor
    """State of the generator."""
    seconds: float
    """Computing time so far."""
    stops: Sequence[tuple[NetworkWeights, float]]
    """Networks of the stops passed, and the seconds up to each."""


def write_checkpoint(path: Path, state: EpochCheckpoint, key: str) -> None:
    """Write ``state`` to ``path``. A failure costs time after an interruption, not the result.

    Args:
        key: what the training is: it is not read for another.
    """
    teacher = state.teacher
    tensors: dict[str, Tensor] = {"rng": state.rng}
    for part in _PARTS:
        tensors |= {f"{part}/{name}": t.cpu() for name, t in getattr(teacher, part).items()}
    for i, (stop, _) in enumerate(state.stops):
        tensors |= {f"stops/{i}/theta/{name}": t.cpu() for name, t in stop.parameters.items()}
        tensors |= {f"stops/{i}/buffers/{name}": t.cpu() for name, t in stop.buffers.items()}
    description = {
        "epoch": state.epoch, "seconds": state.seconds, "step": teacher.step, "right": teacher.num_correct,
        "seen": teacher.num_seen,
        "stops": [[stop.epoch, seconds] for stop, seconds in state.stops], "key": key,
    }  # fmt: skip
    with contextlib.suppress(OSError, PotstillError):
        make_cache_folder(path.parent)
        write_tensors(path, tensors, {"progress": json.dumps(description)})


def read_checkpoint(path: Path, like: Teacher, key: str, seed: int, classes: tuple[str, ...]) -> EpochCheckpoint | None:
    """Read the checkpoint of the training ``key``, or ``None`` if it is missing or damaged.

    Args:
        like: a fresh teacher of the same network: its names, shapes and device.
        seed, classes: of the networks of its stops.
    """
    try:
        tensors, metadata = read_tensors(path, MAX_BYTES)
        description = json.loads(metadata["progress"])
        if description["key"] != key:
            return None
        numbers = [int(description[name]) for name in ("epoch", "step", "right", "seen")]
        passed = [(int(epoch), float(seconds)) for epoch, seconds in description["stops"]]
        seconds = float(description["seconds"])
    except (PotstillError, KeyError, ValueError, TypeError):
        return None  # not there or not readable: the training begins anew
    wanted = {f"{part}/{name}": t for part in _PARTS for name, t in getattr(like, part).items()}
    for i in range(len(passed)):
        wanted |= {f"stops/{i}/theta/{name}": t for name, t in like.params.items()}
        wanted |= {f"stops/{i}/buffers/{name}": t for name, t in like.buffers.items()}
    if {n: t.shape for n, t in tensors.items() if n != "rng"} != {n: t.shape for n, t in wanted.items()}:
        return None
    if "rng" not in tensors or tensors["rng"].shape != Generator().get_state().shape:
        return None

    def part(prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): t.to(wanted[n].device) for n, t in tensors.items() if n.startswith(prefix)}

    params, velocity, buffers = (part(f"{name}/") for name in _PARTS)
    epoch, step, right, seen = numbers
    stops = [
        (NetworkWeights(seed=seed, parameters=part(f"stops/{i}/theta/"), buffers=part(f"stops/{i}/buffers/"), epoch=at,
                 classes=classes), spent)
        for i, (at, spent) in enumerate(passed)
    ]  # fmt: skip
    teacher = Teacher(params=params, velocity=velocity, buffers=buffers, step=step, num_correct=right, num_seen=seen)
    return EpochCheckpoint(
        epoch=epoch, teacher=teacher, rng=tensors["rng"].to(torch.uint8), seconds=seconds, stops=stops
    )
