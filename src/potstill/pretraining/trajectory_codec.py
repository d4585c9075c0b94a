"""Codec of trajectories: the first snapshot in float32, each later one as its difference from the first in float16.

Each difference is scaled by a power of two, so that its largest value lies just below float16's: what is 2²⁹ times
smaller still has all 11 bits. A snapshot is decoded from its own row and the first, so any is read by itself.

What the rounding costs: beside the norm of what two more epochs move (θ_{t+2} − θ_t), the norm of the error is 0.45 %
in the median and at most 0.9 % over 50 epochs of convnet-w32 on mnist-5k; by bfloat16 differences, of the same bytes,
it would be 3.7 % and 7.2 % (``benchmarks/experts.py``; docs/benchmarks/speed.md, "Expert trajectories").

On the disk it is one safetensors file per expert, filled row by row under a hidden name, hashed, and renamed.
"""

import hashlib
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from potstill.core import Network
from potstill.dataset_file.files import DIGEST, DIGEST_PLACEHOLDER
from potstill.dataset_file.memmap_safetensors import FileLayout, TensorField, open_memmap, plan_layout, write_digest
from potstill.errors import PotstillError

__all__ = [
    "FORMAT", "FileRows", "Layout", "MemoryRows", "Rows", "Snapshot", "layout_json", "read_file", "read_rows",
    "rows_digest", "snapshots_hash",
]  # fmt: skip

Snapshot: TypeAlias = tuple[Float[Tensor, " p"], Float[Tensor, " b"]]
"""Parameters and running statistics, one row each, in memory of their own."""
FORMAT = "potstill-trajectory/1"
"""Value of ``format`` in a file's metadata."""

TOP = 15
"""The largest scaled difference lies in [2^14, 2^15)."""
_HASH = 32


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and shapes of parameters and running statistics, in the network's order."""

    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    buffers: tuple[tuple[str, tuple[int, ...], torch.dtype], ...] = ()

    @classmethod
    def of(cls, network: Network) -> "Layout":
        """Return the layout of a network."""
        return cls(
            tuple((name, tuple(p.shape)) for name, p in network.named_parameters()),
            tuple((name, tuple(b.shape), b.dtype) for name, b in network.named_buffers()),
        )

    @property
    def size(self) -> int:
        """Return the number of parameters."""
        return sum(math.prod(shape) for _, shape in self.parameters)

    @property
    def running(self) -> int:
        """Return the number of running statistics."""
        return sum(math.prod(shape) for _, shape, _ in self.buffers)

    def flat(self, theta: Mapping[str, Tensor]) -> Float[Tensor, " p"]:
        """Return all parameters as one row: new memory, float32, on the CPU."""
        return torch.cat([theta[name].detach().reshape(-1).float().cpu() for name, _ in self.parameters])

    def flat_buffers(self, buffers: Mapping[str, Tensor]) -> Float[Tensor, " b"]:
        """Return all running statistics as one row."""
        rows = [buffers[name].detach().reshape(-1).float().cpu() for name, _, _ in self.buffers]
        return torch.cat([torch.empty(0), *rows])

    def theta(self, row: Float[Tensor, " p"], device: torch.device) -> dict[str, Tensor]:
        """Return parameters by name, each in memory of its own."""
        parts = torch.split(row, [math.prod(shape) for _, shape in self.parameters])
        named = zip(self.parameters, parts, strict=True)
        return {name: part.reshape(shape).to(device, copy=True) for (name, shape), part in named}

    def statistics(self, row: Float[Tensor, " b"], device: torch.device) -> dict[str, Tensor]:
        """Return running statistics by name, each in memory of its own."""
        parts = torch.split(row, [math.prod(shape) for _, shape, _ in self.buffers])
        named = zip(self.buffers, parts, strict=True)
        return {name: part.reshape(shape).to(device, dtype, copy=True) for (name, shape, dtype), part in named}


def fields(layout: Layout, epochs: int) -> dict[str, TensorField]:
    """Return the fields of a trajectory. The first axis counts epochs, that of ``later`` from 1."""
    running = {"buffers": TensorField("F32", (epochs + 1, layout.running))} if layout.running else {}
    return {
        "first": TensorField("F32", (1, layout.size)), "later": TensorField("F16", (epochs, layout.size)),
        "scale": TensorField("F32", (epochs,)), "seconds": TensorField("F32", (epochs + 1,)), **running,
        "chain": TensorField("U8", (epochs + 1, _HASH)),
    }  # fmt: skip


class Rows(ABC):
    """Rows of a trajectory under construction, in memory or in a file, with the same bits."""

    def __init__(self, layout: Layout, epochs: int) -> None:
        self.layout, self.epochs = layout, epochs
        self._first: NDArray[np.float32] | None = None
        self._kinds = fields(layout, epochs)

    def write_epoch(self, epoch: int, theta: Tensor, buffers: Tensor, seconds: float) -> None:
        """Write the expert after ``epoch`` epochs; epoch 0 must be written first."""
        self._write("seconds", epoch, np.array([seconds], np.float32))
        chain = hashlib.sha256(b"" if epoch == 0 else self._read("chain", epoch - 1).tobytes())
        if self.layout.running:
            self._write("buffers", epoch, buffers.numpy())
            chain.update(buffers.numpy().tobytes())
        if epoch == 0:
            self._first = theta.numpy().copy()
            self._write("first", 0, self._first)
            chain.update(self._first.tobytes())
        else:
            if self._first is None:
                self._first = self._read("first", 0).reshape(-1).copy()
            coded, scale = _coded(theta.numpy() - self._first)
            self._write("scale", epoch - 1, np.array([scale], np.float32))
            self._write("later", epoch - 1, coded)
            chain.update(coded.tobytes() + np.float32(scale).tobytes())
        self._write("chain", epoch, np.frombuffer(chain.digest(), np.uint8))

    @abstractmethod
    def _write(self, name: str, row: int, values: NDArray[Any]) -> None:
        """Write a row of a field."""

    @abstractmethod
    def _read(self, name: str, row: int) -> NDArray[Any]:
        """Read a row of a field."""


def _coded(difference: NDArray[np.float32]) -> tuple[NDArray[np.float16], float]:
    top = float(np.abs(difference).max(initial=0.0))
    scale = 2.0 ** max(-126, math.frexp(top)[1] - TOP) if top else 1.0
    return (difference / np.float32(scale)).astype(np.float16), scale


class MemoryRows(Rows):
    """A trajectory in memory."""

    def __init__(self, layout: Layout, epochs: int) -> None:
        super().__init__(layout, epochs)
        self.values = {n: np.zeros(f.shape, f.dtype) for n, f in self._kinds.items()}

    def _write(self, name: str, row: int, values: NDArray[Any]) -> None:
        self.values[name][row] = values.reshape(self.values[name].shape[1:])

    def _read(self, name: str, row: int) -> NDArray[Any]:
        row_values: NDArray[Any] = self.values[name][row]
        return row_values

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return sum(values.nbytes for values in self.values.values())


class FileRows(Rows):
    """A trajectory in a file under construction."""

    def __init__(self, file: BinaryIO, layout: Layout, epochs: int, metadata: Mapping[str, str]) -> None:
        super().__init__(layout, epochs)
        self.file = file
        self.plan: FileLayout = plan_layout(self._kinds, {**metadata, DIGEST: DIGEST_PLACEHOLDER})

    def start(self) -> None:
        """Start an empty file of its final size.

        Raises:
            OSError: there is no room.
        """
        self.file.seek(0)
        self.file.truncate()
        self.file.write(self.plan.header)
        self.file.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self.file.fileno(), 0, self.plan.size)
        else:
            self.file.truncate(self.plan.size)

    def is_started(self) -> bool:
        """Return True if the file has this header and size."""
        self.file.seek(0)
        return self.file.read(len(self.plan.header)) == self.plan.header and (
            self.file.seek(0, os.SEEK_END) == self.plan.size
        )

    def _place(self, name: str, row: int) -> tuple[int, int]:
        begin, field = self.plan.fields[name]
        width = field.size // field.shape[0]
        return begin + row * width, width

    def _write(self, name: str, row: int, values: NDArray[Any]) -> None:
        place, width = self._place(name, row)
        content = np.ascontiguousarray(values).tobytes()
        assert len(content) == width
        self.file.seek(place)
        self.file.write(content)

    def _read(self, name: str, row: int) -> NDArray[Any]:
        place, width = self._place(name, row)
        self.file.seek(place)
        return np.frombuffer(self.file.read(width), self._kinds[name].dtype)

    def copy_rows(self, values: Mapping[str, NDArray[Any]], epoch: int) -> None:
        """Copy the rows of another file up to ``epoch``."""
        for name, count in _rows(values, epoch):
            for row in range(count):
                self._write(name, row, values[name][row : row + 1])

    def finish(self) -> None:
        """Write the file's hash into its header, and sync to disk."""
        write_digest(self.file, self.plan)


def read_rows(values: Mapping[str, NDArray[Any]], epoch: int) -> Snapshot:
    """Return parameters and running statistics after ``epoch``, one row each, in new memory."""
    theta = torch.from_numpy(np.array(values["first"][0], np.float32))
    if epoch:
        later = torch.from_numpy(np.array(values["later"][epoch - 1], np.float32))
        theta.add_(later.mul_(float(values["scale"][epoch - 1])))
    row = values["buffers"][epoch] if "buffers" in values else np.empty(0, np.float32)
    return theta, torch.from_numpy(np.array(row, np.float32))


def _rows(values: Mapping[str, NDArray[Any]], epoch: int) -> list[tuple[str, int]]:
    return [(name, {"first": 1, "later": epoch, "scale": epoch}.get(name, epoch + 1)) for name in sorted(values)]


def rows_digest(values: Mapping[str, NDArray[Any]], epoch: int) -> str:
    """Return the hash of all rows up to ``epoch``."""
    digest = hashlib.sha256()
    for name, count in _rows(values, epoch):
        for row in range(count):
            digest.update(values[name][row].tobytes())
    return digest.hexdigest()


def snapshots_hash(values: Mapping[str, NDArray[Any]], epoch: int) -> str:
    """Return the hash of the snapshots up to ``epoch``, the same whether there are later ones or not."""
    return bytes(values["chain"][epoch].tobytes()).hex()


def read_file(path: Path, check: bool) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the memory-mapped numbers and the metadata of a file.

    Raises:
        PotstillError: it is none, cut off or, where that is checked, damaged.
    """
    values, metadata = open_memmap(path, check=check)
    if metadata.get("format") != FORMAT:
        raise PotstillError(f"{path}: not an expert trajectory; give a file that potstill wrote, or a replay buffer")
    return values, metadata


def layout_json(layout: Layout) -> str:
    """Return a layout as JSON."""
    buffers = [[name, list(shape), str(dtype).removeprefix("torch.")] for name, shape, dtype in layout.buffers]
    return json.dumps([[[name, list(shape)] for name, shape in layout.parameters], buffers])
