"""Passes over real data of any size: every sample once, in disk order, with the next batches decoded ahead.

Sources in memory are fetched in the requested order.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from potstill.core import Batch, Source
from potstill.data.streamed import StreamSource

__all__ = ["iterate_groups", "iterate_samples", "map_samples", "pass_batch_size", "prefetch", "shuffle_indices"]

_AHEAD = 2
"""Batches decoded ahead."""
_BYTES = 64 * 2**20
"""Bytes of float32 in a batch of a pass over streamed data, at most."""


def pass_batch_size(source: Source, most: int) -> int:
    """Return the batch size of a pass: ``most``, for streamed data at most 64 MiB of float32 and at least one
    sample.
    """
    if not isinstance(source, StreamSource):
        return most
    return max(1, min(most, _BYTES // (4 * math.prod(source.input.shape))))


def prefetch(source: Source, indices: Iterable[Int[Tensor, " _"]]) -> Iterator[Batch]:
    """Yield ``source.fetch`` of each of ``indices`` in order; streamed data are decoded two batches ahead.

    No more than that: who takes batches slowly is not overtaken.
    """
    if not isinstance(source, StreamSource):
        yield from (source.fetch(index) for index in indices)
        return
    pending: deque[Callable[[], Batch]] = deque()
    for index in indices:
        pending.append(source.start_fetch(index))
        if len(pending) > _AHEAD:
            yield pending.popleft()()
    while pending:
        yield pending.popleft()()


def iterate_samples(
    source: Source, index: Int[Tensor, " m"], most: int
) -> Iterator[tuple[Int[Tensor, " _"], Batch]]:  # fmt: skip
    """Yield every sample at ``index`` once, in batches of at most ``most``.

    Yields:
        Positions in ``index``, on the CPU, and the samples there. Of streamed data in the order of the disk.
    """
    positions = torch.arange(len(index))
    if isinstance(source, StreamSource):
        positions = source.places[index.cpu()].argsort(stable=True)
    parts = torch.split(positions, pass_batch_size(source, most)) if len(index) else ()
    yield from zip(parts, prefetch(source, (index[part] for part in parts)), strict=True)


def map_samples(source: Source, index: Int[Tensor, " m"], most: int, of: Callable[[Batch], Tensor]) -> Tensor:
    """Return ``of`` every sample at ``index`` in that order, computed in batches of at most ``most``.

    Args:
        of: rows (n, …) of a batch of n samples.
    """
    positions, rows = list[Tensor](), list[Tensor]()
    for part, batch in iterate_samples(source, index, most):
        positions.append(part)
        rows.append(of(batch))
    values, at = torch.cat(rows), torch.cat(positions)
    return values if bool((at.diff() > 0).all()) else values[at.argsort().to(values.device)]


def iterate_groups(
    source: Source, groups: Sequence[Int[Tensor, " _"]], most: int
) -> Iterator[tuple[Int[Tensor, " n"], Batch]]:
    """Yield every sample of every group once, group by group, or in disk order if groups are scattered over shards.

    Yields:
        The number of each sample's group, on the CPU, and the samples, at most ``most``.
    """
    index = torch.cat([*groups, torch.empty(0, dtype=torch.int64)])
    numbers = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor([len(g) for g in groups]))
    if _scattered(source, index, numbers):
        for positions, batch in iterate_samples(source, index, most):
            yield numbers[positions], batch
        return
    for number, group in enumerate(groups):
        for positions, batch in iterate_samples(source, group, most):
            yield torch.full((len(positions),), number), batch


def _scattered(source: Source, index: Tensor, numbers: Tensor) -> bool:
    """Return True if a pass group by group would read the same shards repeatedly."""
    if not isinstance(source, StreamSource) or source.reader.together == 1 or len(index) == 0:
        return False
    along = numbers[source.places[index].argsort(stable=True)]
    return int((along.diff() != 0).sum()) >= 2 * int((torch.bincount(numbers) > 0).sum())


def shuffle_indices(source: Source, index: Int[Tensor, " n"], rng: Generator) -> Int[Tensor, " n"]:
    """Return ``index`` in a random order for a training epoch.

    Any order is as likely as any other, unless the data are streamed from where near samples are best read together
    (shards, tables): there the runs of neighbours come in a random order, and then the samples of so many runs as fill
    a window, which is what a shuffle buffer of that size does. All is drawn before the first sample is read.
    """
    if not isinstance(source, StreamSource) or source.reader.together == 1:
        return index[torch.randperm(len(index), generator=rng)]
    reader = source.reader
    runs = torch.split(index[source.places[index].argsort(stable=True)], reader.together)
    mixed = torch.cat([runs[i] for i in torch.randperm(len(runs), generator=rng).tolist()])
    return torch.cat([w[torch.randperm(len(w), generator=rng)] for w in torch.split(mixed, reader.window)])
