"""Trained networks as a sequence that reads each when it is asked for, with few in memory."""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn

from potstill._util.cache import mark_in_use
from potstill.core import NetworkWeights
from potstill.dataset_file import read_tensors, write_tensors
from potstill.errors import PotstillError

__all__ = [
    "CachedFile", "InMemory", "LazyNetworks", "OnDisk", "PerEpoch", "fits_network", "network_bytes", "read_network",
    "write_network",
]  # fmt: skip

MAX_BYTES = 4 * 2**30
"""Largest cache file that is read."""
MAX_OPEN_BYTES = 2**28
"""Bytes of networks kept in memory after they were read; at least one is kept."""


def network_bytes(trained: NetworkWeights) -> int:
    """Return the bytes of a network's parameters and buffers."""
    return sum(t.nbytes for part in (trained.parameters, trained.buffers) for t in part.values())


def fits_network(trained: NetworkWeights, net: nn.Module) -> bool:
    """Return True if names and shapes are those of ``net``."""
    wanted = {n: t.shape for n, t in (*net.named_parameters(), *net.named_buffers())}
    return {n: t.shape for n, t in {**trained.parameters, **trained.buffers}.items()} == wanted


def write_network(path: Path, trained: NetworkWeights, seconds: float) -> None:
    """Write a trained network, and the seconds that it took.

    Raises:
        PotstillError: it cannot be written.
    """
    tensors = {f"parameters/{n}": t.cpu() for n, t in trained.parameters.items()}
    tensors |= {f"buffers/{n}": t.cpu() for n, t in trained.buffers.items()}
    metadata = {"seconds": repr(seconds), "classes": json.dumps(trained.classes), "seed": str(trained.seed)}
    write_tensors(path, tensors, metadata | {"epoch": str(trained.epoch)})


def read_network(path: Path, device: torch.device) -> tuple[NetworkWeights, float]:
    """Return the trained network in a file, on ``device``, and the seconds that it took.

    Raises:
        PotstillError: it cannot be read, or is no trained network.
    """
    tensors, metadata = read_tensors(path, MAX_BYTES)
    parts: dict[str, dict[str, Tensor]] = {"parameters": {}, "buffers": {}}
    try:
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor.to(device)
        seed, epoch, seconds = int(metadata["seed"]), int(metadata["epoch"]), float(metadata["seconds"])
        classes = tuple(json.loads(metadata["classes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise PotstillError(f"{path}: not a trained network ({error}); get the file again") from error
    return NetworkWeights(seed=seed, **parts, epoch=epoch, classes=classes), seconds


@dataclass(frozen=True)
class InMemory:
    """Reader of a network that is in memory."""

    trained: NetworkWeights

    def __call__(self) -> NetworkWeights:
        return self.trained


@dataclass(frozen=True)
class CachedFile:
    """A cached file that was checked when it was found; it is marked as in use, in every process that has it."""

    path: Path

    def __post_init__(self) -> None:
        mark_in_use(self.path)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        mark_in_use(self.path)  # in the process that it was sent to, too


@dataclass(frozen=True)
class OnDisk(CachedFile):
    """Reader of a network in a file."""

    device: torch.device

    def __call__(self) -> NetworkWeights:
        """
        Raises:
            PotstillError: it cannot be read any more.
        """
        try:
            return read_network(self.path, self.device)[0]
        except PotstillError as error:
            raise PotstillError(
                f"{error}; this trained network was there when the run began: begin again, which makes it again"
            ) from error


@dataclass(frozen=True, eq=False)
class LazyNetworks(Sequence[NetworkWeights]):
    """Networks of one architecture, read when asked for; the last ones read stay in memory."""

    readers: tuple[Callable[[], NetworkWeights], ...]
    seconds: float = 0.0
    """Computing time that went into them."""
    _open: "OrderedDict[int, NetworkWeights]" = field(default_factory=OrderedDict, repr=False)

    def __len__(self) -> int:
        return len(self.readers)

    @overload
    def __getitem__(self, at: int) -> NetworkWeights: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[NetworkWeights, ...]: ...
    def __getitem__(self, at: int | slice) -> NetworkWeights | tuple[NetworkWeights, ...]:
        if isinstance(at, slice):
            return tuple(self[n] for n in range(len(self))[at])
        n = range(len(self))[at]
        if n not in self._open:
            self._open[n] = self.readers[n]()
        self._open.move_to_end(n)
        while len(self._open) > 1 and sum(map(network_bytes, self._open.values())) > MAX_OPEN_BYTES:
            self._open.popitem(last=False)
        return self._open[n]

    @property
    def memory_bytes(self) -> int:
        """Largest number of bytes that stay in memory."""
        if not self.readers:
            return 0
        one = network_bytes(self[0])
        every = one * len(self)
        return every if any(isinstance(r, InMemory) for r in self.readers) else min(every, max(MAX_OPEN_BYTES, one))


@dataclass(frozen=True, eq=False)
class PerEpoch(Mapping[int, NetworkWeights]):
    """Networks of one training by number of epochs."""

    epochs: tuple[int, ...]
    networks: LazyNetworks

    def __getitem__(self, epoch: int) -> NetworkWeights:
        if epoch not in self.epochs:
            raise KeyError(epoch)
        return self.networks[self.epochs.index(epoch)]

    def __iter__(self) -> Iterator[int]:
        return iter(self.epochs)

    def __len__(self) -> int:
        return len(self.epochs)
