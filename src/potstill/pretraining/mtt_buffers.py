"""Published MTT replay buffers (``buffer.py`` and its descendants), read safely.

``replay_buffer_0.pt`` is a list of trajectories; a trajectory a list of snapshots, the first before any training; a
snapshot a list of tensors in the order of ``net.parameters()``. Files are read by ``torch.load`` with
``weights_only=True``, so that no code of them runs, and mapped where they are of torch's newer form: what is not asked
for stays on the disk.

A buffer that the published code wrote on a CPU is constant: ``p.detach().cpu()`` copies nothing there, so every
snapshot is the network after the last epoch. Such a file is refused.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill.core import NetworkFactory
from potstill.errors import PotstillError
from potstill.pretraining.trajectory import Trajectory
from potstill.pretraining.trajectory_codec import Layout, Snapshot

__all__ = ["BufferReader", "parse_buffer", "read_replay_buffer"]


@dataclass(frozen=True, eq=False)
class BufferReader:
    """Reader of the snapshots of one trajectory in a buffer."""

    snapshots: Sequence[Sequence[Tensor]]
    buffers: Tensor
    """Running statistics of an untrained network, since buffers hold none."""
    what: str

    def __call__(self, epoch: int) -> Snapshot:
        """
        Raises:
            PotstillError: it holds numbers that are not finite.
        """
        row = torch.cat([t.detach().reshape(-1).float() for t in self.snapshots[epoch]])
        if not bool(row.isfinite().all()):
            raise PotstillError(f"{self.what}: its snapshot after {epoch} epochs is not finite; leave this expert out")
        return row, self.buffers.clone()


def read_replay_buffer(path: Path, make: NetworkFactory) -> list[Trajectory]:
    """Read the trajectories of a published file.

    Raises:
        PotstillError: it is cut off, no such file, of another architecture or number of classes, or constant.
    """
    try:
        content, is_mapped = _loaded(path)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise PotstillError(f"{path}: no such file") from error
    except Exception as error:  # whatever a hostile or broken pickle makes the reader say
        raise PotstillError(
            f"{path}: not a whole replay buffer ({_line(error)}); it is cut off or of another kind: get the file again"
        ) from error
    return parse_buffer(content, str(path), make, digest, is_mapped)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _loaded(path: Path) -> tuple[Any, bool]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old files, that their form is old
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True), True
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True), False


def parse_buffer(
    content: Any, what: str, make: NetworkFactory, digest: str = "", is_mapped: bool = False
) -> list[Trajectory]:
    """Check the trajectories of a buffer's content. Errors as of `read_replay_buffer`.

    Args:
        what: names it in errors.
        digest: its hash; made of its content where there is none.
        is_mapped: its tensors stay on the disk.
    """
    if not isinstance(content, list | tuple) or not content:
        raise PotstillError(
            f"{what}: a list of trajectories is required, but this is {_kind(content)}; give a replay buffer as "
            "MTT's buffer.py writes it"
        )
    net = make(0)
    layout = Layout.of(net)
    running = layout.flat_buffers(dict(net.named_buffers()))
    trajectories: list[Trajectory] = []
    for number, trajectory in enumerate(content):
        one = f"{what}: trajectory {number}"
        _check(trajectory, one, layout, make)
        own = f"{digest or _digest(trajectory)}/{number}"
        trajectories.append(Trajectory(
            seed=int(hashlib.sha256(own.encode()).hexdigest()[:15], 16), epochs=len(trajectory) - 1, layout=layout,
            device=make.device, read=BufferReader(trajectory, running, one), digest=own,
            memory_bytes=0 if is_mapped else sum(t.nbytes for snapshot in trajectory for t in snapshot),
        ))  # fmt: skip
    return trajectories


def _kind(value: Any) -> str:
    return f"an empty {type(value).__name__}" if isinstance(value, list | tuple | dict) and not value else (
        f"a {type(value).__name__}"
    )  # fmt: skip


def _digest(trajectory: Sequence[Sequence[Tensor]]) -> str:
    digest = hashlib.sha256()
    for snapshot in trajectory:
        for t in snapshot:
            digest.update(t.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check(trajectory: Any, what: str, layout: Layout, make: NetworkFactory) -> None:
    if not isinstance(trajectory, list | tuple) or len(trajectory) < 2:
        raise PotstillError(
            f"{what}: a list of two snapshots at least is required, but this is {_kind(trajectory)}"
            f"{f' of {len(trajectory)}' if isinstance(trajectory, list | tuple) and trajectory else ''}; get it again"
        )
    for epoch, snapshot in enumerate(trajectory):
        if not isinstance(snapshot, list | tuple) or not all(
            isinstance(t, Tensor) and t.is_floating_point() for t in snapshot
        ):
            raise PotstillError(
                f"{what}: snapshot {epoch} is not a list of tensors; give a buffer as buffer.py writes it"
            )
        _fits([tuple(t.shape) for t in snapshot], f"{what}: snapshot {epoch}", layout, make)
    first, last = trajectory[0], trajectory[-1]
    shared = any(a[0].data_ptr() == b[0].data_ptr() for a, b in pairwise(trajectory))
    if shared or all(torch.equal(a, b) for a, b in zip(first, last, strict=True)):
        raise PotstillError(
            f"{what}: its snapshots are all the same, as in buffers that the published code wrote on a CPU, which "
            "stores the last weights in place of every epoch's; train the experts again"
        )
    if not all(bool(t.isfinite().all()) for t in last):
        raise PotstillError(f"{what}: is not finite after its last epoch; leave this expert out")


def _fits(shapes: list[tuple[int, ...]], what: str, layout: Layout, make: NetworkFactory) -> None:
    wanted = [shape for _, shape in layout.parameters]
    if shapes == wanted:
        return
    if len(shapes) != len(wanted):
        raise PotstillError(
            f"{what} has {len(shapes)} tensors, but {make.name} has {len(wanted)} parameters; give experts of that "
            "network, or choose theirs"
        )
    odd = [n for n, (a, b) in enumerate(zip(shapes, wanted, strict=True)) if a != b]
    head = range(len(wanted) - 2, len(wanted))
    if set(odd) <= set(head) and shapes[-1][1:] == wanted[-1][1:] and shapes[-2][1:] == wanted[-2][1:]:
        raise PotstillError(
            f"{what} is of a network for {shapes[-1][0]} classes, but the data has {wanted[-1][0]}; give experts of "
            "the same data"
        )
    name, shape = layout.parameters[odd[0]]
    raise PotstillError(
        f"{what}: its tensor {odd[0]} is of shape {shapes[odd[0]]}, but parameter {name} of {make.name} is of shape "
        f"{shape}; give experts of that network, or choose theirs"
    )
