"""Partitions of training data among clients: skewed classes, skewed sizes, or groups that are there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Generator, Tensor

from potstill.data import TensorSource
from potstill.data.groups import get_groups, source_key
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError
from potstill.rng import draw_seed, generator

__all__ = [
    "MIN_SAMPLES", "Partition", "dirichlet_partition", "group_partition", "read_partition", "size_partition",
    "write_partition",
]  # fmt: skip

MIN_SAMPLES = 10
"""Smallest number of samples of a client that is drawn."""
_DRAWS = 50


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Training samples of each client."""

    clients: tuple[Int[Tensor, " _"], ...]
    """Positions in the training data, in order."""
    origin: Mapping[str, Any]
    """Settings of the draw: ``name``, ``alpha``, ``seed``, as far as they apply."""

    def class_counts(self, source: TensorSource) -> Int[Tensor, "m k"]:
        """Return the samples of each class that each client has."""
        k = len(source.classes)
        return torch.stack([torch.bincount(source.labels[at], minlength=k) for at in self.clients])

    def to_dict(self, source: TensorSource) -> dict[str, Any]:
        """Return it as JSON values, with the hash of the data that it divides."""
        return {
            "data": source_key(source), "samples": len(source), "origin": dict(self.origin),
            "clients": [at.tolist() for at in self.clients],
        }  # fmt: skip


def dirichlet_partition(source: TensorSource, clients: int, alpha: float, seed: int) -> Partition:
    """Return a partition with skewed classes: each class is divided in parts from a symmetric Dirichlet distribution.

    As in NIID-Bench (arXiv:2102.02079, "distribution-based label imbalance"): a client that has its share of all
    samples gets no more, and a draw that leaves a client with fewer than `MIN_SAMPLES` is drawn again. Where each of
    `_DRAWS` draws does, as with many clients and a small ``alpha``, clients that lack samples get them from the largest
    ones, of the class of which these have the most. With an infinite ``alpha``, each class is divided equally.

    Args:
        source: training data with classes.
        clients: number of clients.
        alpha: concentration, above 0; at 0.1 most clients have one to four classes of ten.
        seed: of the draw.

    Raises:
        PotstillError: ``alpha`` is not positive, or there are too few samples.
    """
    _check_clients(source, clients)
    if not alpha > 0:
        raise PotstillError(f"the concentration alpha must be above 0, but is {alpha:g}; 0.1 is a strong skew")
    rng = generator(seed, "partition", "classes")
    origin = {"name": "dirichlet", "alpha": alpha if alpha < float("inf") else "inf", "seed": seed}
    least = min(MIN_SAMPLES, len(source) // (2 * clients))
    for _ in range(_DRAWS):
        drawn = _draw_by_class(source, clients, alpha, rng)
        if min(map(len, drawn)) >= least:
            break
    return Partition(clients=_fill_up(source, drawn, least), origin=origin)


def _fill_up(source: TensorSource, parts: Sequence[Tensor], least: int) -> tuple[Tensor, ...]:
    """Return parts of at least so many samples: small ones get those of the commonest class of the largest part."""
    filled = list(parts)
    for n in sorted(range(len(parts)), key=lambda n: len(parts[n])):
        while (lacking := least - len(filled[n])) > 0:
            largest = max(range(len(filled)), key=lambda m: len(filled[m]))
            labels = source.labels[filled[largest]]
            moved = (labels == torch.bincount(labels).argmax()).nonzero().flatten()[:lacking]
            stays = torch.ones(len(labels), dtype=torch.bool)
            stays[moved] = False
            filled[n] = torch.cat([filled[n], filled[largest][moved]]).sort().values
            filled[largest] = filled[largest][stays]
    return tuple(filled)


def _draw_by_class(source: TensorSource, clients: int, alpha: float, rng: Generator) -> tuple[Tensor, ...]:
    parts: list[list[Tensor]] = [[] for _ in range(clients)]
    sizes = np.zeros(clients, dtype=np.int64)
    order = torch.randperm(len(source.classes), generator=rng).tolist()
    for c in order:
        own = (source.labels == c).nonzero().flatten()
        own = own[torch.randperm(len(own), generator=rng)]
        shares = np.full(clients, 1 / clients)
        if alpha < float("inf"):
            shares = np.random.default_rng(draw_seed(rng)).dirichlet(np.full(clients, alpha))
            is_open = sizes < len(source) / clients
            shares = np.nan_to_num(shares) * is_open
            shares = shares / shares.sum() if shares.sum() > 0 else is_open / is_open.sum()
        ends = np.round(np.cumsum(shares) * len(own)).astype(int)
        for client, part in enumerate(np.split(own.numpy(), ends[:-1])):
            parts[client].append(torch.from_numpy(part))
            sizes[client] += len(part)
    return tuple(torch.cat(part).sort().values for part in parts)


def size_partition(source: TensorSource, clients: int, alpha: float, seed: int) -> Partition:
    """Return a partition with skewed sizes: parts of the shuffled data from a symmetric Dirichlet distribution.

    Args:
        source: training data.
        clients: number of clients.
        alpha: concentration, above 0.
        seed: of the draw.

    Raises:
        PotstillError: ``alpha`` is not positive, or the data are too few.
    """
    _check_clients(source, clients)
    if not alpha > 0:
        raise PotstillError(f"the concentration alpha must be above 0, but is {alpha:g}; 0.5 is a strong skew")
    rng = generator(seed, "partition", "sizes")
    order = torch.randperm(len(source), generator=rng)
    least = min(MIN_SAMPLES, len(source) // (2 * clients))
    shares = np.full(clients, 1 / clients)
    if alpha < float("inf"):
        shares = np.random.default_rng(draw_seed(rng)).dirichlet(np.full(clients, alpha))
    sizes = least + np.floor(np.nan_to_num(shares) * (len(source) - least * clients)).astype(int)
    sizes[int(sizes.argmax())] += len(source) - sizes.sum()
    origin = {"name": "sizes", "alpha": alpha if alpha < float("inf") else "inf", "seed": seed}
    return Partition(clients=tuple(p.sort().values for p in torch.split(order, sizes.tolist())), origin=origin)


def group_partition(source: TensorSource, clients: int, seed: int) -> Partition:
    """Return a natural partition: whole groups, such as writers or hospitals, dealt to clients by size.

    Args:
        source: training data with groups.
        clients: number of clients, at most that of groups; 0: one for each group.
        seed: of the order in which equal groups are dealt.

    Raises:
        PotstillError: the data have no groups, or fewer than clients.
    """
    groups = get_groups(source)
    if groups is None:
        raise PotstillError(f"a natural partition needs groups, but {source.name} has none; load it with `group=`")
    values, sizes = torch.unique(groups, return_counts=True)
    clients = clients or len(values)
    if len(values) < 2:
        raise PotstillError(f"a natural partition needs two groups or more, but {source.name} has one; give others")
    if not 2 <= clients <= len(values):
        raise PotstillError(f"{len(values)} groups make 2 to {len(values)} clients, not {clients}; change the number")
    order = torch.randperm(len(values), generator=generator(seed, "partition", "groups"))
    parts: list[list[Tensor]] = [[] for _ in range(clients)]
    totals = [0] * clients
    for n in sorted(order.tolist(), key=lambda n: -int(sizes[n])):
        client = totals.index(min(totals))
        parts[client].append((groups == values[n]).nonzero().flatten())
        totals[client] += int(sizes[n])
    origin = {"name": "groups", "seed": seed}
    return Partition(clients=tuple(torch.cat(part).sort().values for part in parts), origin=origin)


def write_partition(path: Path, partition: Partition, source: TensorSource) -> None:
    """Write a partition as JSON, so that others can use the same one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(partition.to_dict(source)) + "\n").encode())


def read_partition(path: Path, source: TensorSource) -> Partition:
    """Read a partition that `write_partition` wrote, or a list of lists of positions.

    Raises:
        PotstillError: it cannot be read, is of other data, or a client is empty or shares a sample.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PotstillError(
            f"{path}: no partition can be read ({error}); give JSON with a list for each client"
        ) from error
    listed = content.get("clients") if isinstance(content, dict) else content
    if isinstance(content, dict) and content.get("data", source_key(source)) != source_key(source):
        raise PotstillError(f"{path}: divides other data than {source.name}; give the data that it was drawn of")
    if not isinstance(listed, list) or len(listed) < 2 or not all(_is_positions(part, len(source)) for part in listed):
        raise PotstillError(
            f"{path}: a partition is a list of two clients or more, each with positions from 0 to {len(source) - 1} of "
            "the training data; change it"
        )
    for number, part in enumerate(listed):
        if not part:
            raise PotstillError(f"{path}: client {number} has no samples; leave it out")
    joined = [i for part in listed for i in part]
    if len(set(joined)) < len(joined):
        twice = next(i for i in joined if joined.count(i) > 1)
        raise PotstillError(f"{path}: sample {twice} stands twice; give it to one client")
    clients = tuple(torch.tensor(part, dtype=torch.int64).sort().values for part in listed)
    return Partition(clients=clients, origin={"name": "file"})


def _is_positions(part: object, n: int) -> bool:
    return isinstance(part, Sequence) and all(type(i) is int and 0 <= i < n for i in part)


def _check_clients(source: TensorSource, clients: int) -> None:
    if len(source) < 4:
        raise PotstillError(f"two clients need two samples each, but {source.name} has {len(source)}; give more data")
    if not 2 <= clients <= len(source) // 2:
        raise PotstillError(
            f"{len(source)} samples make 2 to {len(source) // 2} clients, not {clients}; change the number"
        )
