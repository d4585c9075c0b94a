"""Expert trajectories as values: snapshots of one training, read from a file or from memory, and a sequence of them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from potstill.core import NetworkFactory, NetworkWeights, Source
from potstill.errors import PotstillError
from potstill.functional.train import copy_parameters
from potstill.labels.metadata import check_class_order
from potstill.pretraining.lazy_networks import CachedFile
from potstill.pretraining.trajectory_codec import (
    Layout,
    MemoryRows,
    Snapshot,
    fields,
    layout_json,
    read_file,
    read_rows,
    snapshots_hash,
)

__all__ = ["ForeignExpertError", "MemoryReader", "PlaceholderReader", "Trajectories", "Trajectory", "open_expert"]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One expert: its snapshots after 0, 1, … ``epochs`` epochs, each decoded when asked for."""

    seed: int
    epochs: int
    layout: Layout
    device: torch.device
    read: Callable[[int], Snapshot]
    digest: str
    """Hash of the snapshots."""
    classes: tuple[str, ...] = ()
    """Class names in the order of its logits; empty: unknown."""
    seconds: float = 0.0
    """Computing time that went into it."""
    memory_bytes: int = 0
    """Bytes that stay in memory."""

    def at(self, epoch: int) -> dict[str, Tensor]:
        """Return the parameters after ``epoch`` epochs: float32 on the device, a copy that belongs to the caller.

        Raises:
            PotstillError: it has no such epoch, or its file cannot be read any more.
        """
        return self.layout.theta(self._row(epoch)[0], self.device)

    def trained(self, epoch: int) -> NetworkWeights:
        """Return the network after ``epoch`` epochs, with its running statistics. Errors as of `at`."""
        theta, buffers = self._row(epoch)
        return NetworkWeights(
            seed=self.seed, parameters=self.layout.theta(theta, self.device), epoch=epoch, classes=self.classes,
            buffers=self.layout.statistics(buffers, self.device),
        )  # fmt: skip

    def _row(self, epoch: int) -> Snapshot:
        if not 0 <= epoch <= self.epochs:
            raise PotstillError(
                f"an expert has snapshots after 0 to {self.epochs} epochs, but one after {epoch} is requested; train "
                "the experts longer, or ask for an earlier one"
            )
        return self.read(epoch)


@dataclass(frozen=True, eq=False)
class Trajectories(Sequence[Trajectory]):
    """Experts of one architecture on the same data."""

    experts: tuple[Trajectory, ...]

    def __len__(self) -> int:
        return len(self.experts)

    @overload
    def __getitem__(self, at: int) -> Trajectory: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Trajectory, ...]: ...
    def __getitem__(self, at: int | slice) -> Trajectory | tuple[Trajectory, ...]:
        return self.experts[at]

    @property
    def epochs(self) -> int:
        """Return the epochs that every expert has."""
        return min((one.epochs for one in self.experts), default=0)

    @property
    def memory_bytes(self) -> int:
        """Return the bytes that stay in memory: none of experts in files."""
        return sum(one.memory_bytes for one in self.experts)

    @property
    def digest(self) -> str:
        """Return the hash of all experts."""
        return hashlib.sha256("\n".join(one.digest for one in self.experts).encode()).hexdigest()


@dataclass(frozen=True)
class _FileReader(CachedFile):
    """Reader of an expert's file."""

    def __call__(self, epoch: int) -> Snapshot:
        try:
            return read_rows(read_file(self.path, check=False)[0], epoch)
        except (PotstillError, KeyError, IndexError) as error:
            raise PotstillError(
                f"{error}; this expert was there when the run began: begin again, which makes it again"
            ) from error


@dataclass(frozen=True, eq=False)
class MemoryReader:
    """Reader of rows in memory."""

    coded: MemoryRows

    def __call__(self, epoch: int) -> Snapshot:
        return read_rows(self.coded.values, epoch)


@dataclass(frozen=True)
class PlaceholderReader:
    """Placeholder of an expert for a plan: its initial network, shifted a little by every epoch."""

    make: NetworkFactory
    seed: int

    def __call__(self, epoch: int) -> Snapshot:
        net = self.make(self.seed)
        layout = Layout.of(net)
        return layout.flat(copy_parameters(net)) + 1e-3 * epoch, layout.flat_buffers(dict(net.named_buffers()))


class ForeignExpertError(PotstillError):
    """A file of another network or of other data."""


def open_expert(path: Path, make: NetworkFactory, train: Source, epochs_needed: int = 0) -> Trajectory:
    """Open a cached expert, checked by its hash.

    Args:
        asked: epochs of it that are wanted; 0: all.

    Raises:
        PotstillError: it is none, cut off, damaged, too short, or of another network or other data; both are named.
    """
    values, metadata = read_file(path, check=True)
    layout = Layout.of(make(0))
    try:
        network, data, source = metadata["network"], metadata["data"], metadata["source"]
        classes, seed, written = tuple(json.loads(metadata["classes"])), int(metadata["seed"]), metadata["layout"]
    except (KeyError, ValueError, TypeError) as error:
        raise PotstillError(f"{path}: not a whole expert trajectory ({error}); get the file again") from error
    if network != make.name or written != layout_json(layout):
        raise ForeignExpertError(
            f"{path}: an expert of network {network}, but the run's is {make.name}; give experts of that network, or "
            "choose the experts' network"
        )
    if data != train.content_hash:
        raise ForeignExpertError(
            f"{path}: an expert of {source} ({data[:12]}), but the run's data is {train.name} "
            f"({train.content_hash[:12]}); give experts of the same data"
        )
    check_class_order(classes, train.classes, str(path), "the data")
    epochs = len(values["later"]) if "later" in values else 0
    if {name: v.shape for name, v in values.items()} != {n: f.shape for n, f in fields(layout, epochs).items()}:
        raise PotstillError(f"{path}: not a whole expert trajectory; get the file again")
    if (last := epochs_needed or epochs) > epochs:
        raise PotstillError(f"{path}: an expert of {epochs} epochs, but {epochs_needed} are needed; train it longer")
    return Trajectory(
        seed=seed, epochs=last, layout=layout, device=make.device, read=_FileReader(path),
        digest=snapshots_hash(values, last), classes=classes, seconds=float(values["seconds"][last]),
    )  # fmt: skip
