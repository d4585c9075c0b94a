"""Trained networks as a sequence that reads each when it is asked for, with few in memory."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from potstill._util.cache import mark_in_use
from potstill.core import NetworkWeights
from potstill.dataset_file import read_tensors
from potstill.errors import PotstillError

__all__ = ["MAX_BYTES", "InMemory", "LazyNetworks", "OnDisk", "PerEpoch", "network_bytes", "split_tensors"]

MAX_BYTES = 4 * 2**30
"""Largest cache file that is read."""
MAX_OPEN_BYTES = 2**28
"""Bytes of networks kept in memory after they were read; at least one is kept."""


def network_bytes(trained: NetworkWeights) -> int:
    """Return the bytes of a network's parameters and buffers."""
    return sum(t.numel() * t.element_size() for part in (trained.parameters, trained.buffers) for t in part.values())


@dataclass(frozen=True)
class InMemory:
    """Reader of a network that is in memory."""

    trained: NetworkWeights

    def __call__(self) -> NetworkWeights:
        return self.trained


@dataclass(frozen=True, kw_only=True)
class OnDisk:
    """Reader of a network in a file that was checked when it was found."""

    path: Path
    seed: int
    epoch: int | None
    classes: tuple[str, ...]
    device: torch.device

    def __post_init__(self) -> None:
        mark_in_use(self.path)

    def __setstate__(self, state: Any) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        mark_in_use(self.path)  # in the process that it was sent to, too

    @classmethod
    def of(cls, path: Path, network: NetworkWeights, device: torch.device) -> "OnDisk":
        """Make a reader of the network ``found`` at ``path``."""
        return cls(path=path, seed=network.seed, epoch=network.epoch, classes=network.classes, device=device)

    def __call__(self) -> NetworkWeights:
        """
        Raises:
            PotstillError: it cannot be read any more.
        """
        try:
            tensors, _ = read_tensors(self.path, MAX_BYTES)
        except PotstillError as error:
            raise PotstillError(
                f"{error}; this trained network was there when the run began: begin again, which makes it anew"
            ) from error
        parts = split_tensors(tensors, self.device)
        return NetworkWeights(seed=self.seed, **parts, epoch=self.epoch, classes=self.classes)


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


def split_tensors(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, dict[str, Tensor]]:
    """Split a file's tensors into ``parameters`` and ``buffers``, on ``device``."""
    parts: dict[str, dict[str, Tensor]] = {"parameters": {}, "buffers": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = tensor.to(device)
    return {part: parts[part] for part in ("parameters", "buffers")}
