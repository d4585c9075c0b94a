"""Count what fits into a size budget as coded streams, before and after it is selected or made."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from potstill.codecs import encoded_bytes
from potstill.core import Codec, Problem, Source
from potstill.core.nested import index
from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.payload_io import compress_parts, encode_inputs
from potstill.dataset_file.target_io import encode_targets
from potstill.dataset_file.text_io import charged_bytes, encode_texts, texts_at, writes_texts
from potstill.dataset_file.values import Contents
from potstill.tasks import Classification, get_targets, get_task

__all__ = ["count_coded_samples", "estimate_coded_share", "largest_class", "write_within"]

_MOST_VALUES = 1 << 22
"""Values that are coded to find the size of more."""
_ROUNDS = 6
_FIRST = 8
"""Samples that are coded first where not one fits without coding."""
_HARDER = (0.95, 0.14)
"""Power of the part that real samples take of their packed bytes, for made ones: the first number less the second for
each bit (benchmarks/fill.py)."""
_ROOM = 0.99
"""Fraction of the budget that is planned for, as the samples that will be selected are others."""
_FULL, _PARTS = 0.9, 50
"""Fraction of the budget from which a shortened set is full, and the part of the items that is told apart otherwise."""


def count_coded_samples(
    problem: Problem, store: Codec, most: int, other_bytes: Callable[[int], int], soft: bool, packed: int
) -> int:
    """Return about how many samples fit into ``most`` bytes, by coding evenly spaced ones of each class.

    Args:
        other_bytes: bytes of all but inputs and hard labels, for a number of samples.
        packed: number that fits without coding, which is returned at least.
    """
    train = problem.train
    order = train.labels.argsort(stable=True) if train.classes else torch.arange(len(train))
    bound = max(packed, len(train))
    n = min(packed or _FIRST, bound)
    for _ in range(_ROUNDS):
        m = max(1, min(n, len(train), _MOST_VALUES // max(1, train.input.num_values)))
        index = order[torch.arange(m) * len(train) // m]
        if writes_texts(train, store):
            parts = encode_texts(texts_at(train, index))
        else:
            parts = encode_inputs(train.raw(index), train.input, store, train.normalization)[0]
        targets = get_targets(train)[index]
        if not soft:
            classes = problem.num_classes if isinstance(get_task(train), Classification) else None
            parts = parts | encode_targets(targets.cpu(), classes, store, get_task(train))
        coded = compress_parts(parts, torch.zeros(0) if soft else targets.cpu())
        size = sum(map(encoded_bytes, coded.values())) * n / m + other_bytes(n)
        fitting = min(bound, max(packed, int(n * _ROOM * most / max(1.0, size))))
        if abs(fitting - n) <= max(1, n // 100):
            return min(n, fitting)
        n = fitting
    return n


def estimate_coded_share(problem: Problem, store: Codec, bits: int, n: int) -> float:
    """Return the part of its packed bytes that a made set of ``n`` inputs is planned to take as a coded stream, 0 … 1.

    Real samples are coded, evenly spaced ones of each class. Made ones are harder to code (`_HARDER`). What turns out
    too large is shortened at the end (`write_within`).

    Args:
        bits: bits of a value in ``store``.
    """
    train = problem.train
    m = max(1, min(n, len(train), _MOST_VALUES // max(1, train.input.num_values)))
    order = train.labels.argsort(stable=True) if train.classes else torch.arange(len(train))
    index = order[torch.arange(m) * len(train) // m]
    parts = encode_inputs(train.raw(index), train.input, store, train.normalization)[0]
    coded = compress_parts(parts, get_targets(train)[index].cpu())
    packed = sum(map(encoded_bytes, parts.values()))
    share = sum(map(encoded_bytes, coded.values())) / max(1, packed)
    return float(min(1.0, share) ** (_HARDER[0] - _HARDER[1] * bits))


def largest_class(contents: Contents, train: Source, otherwise: int) -> int:
    """Return how many items the largest class of a set has; ``otherwise`` where its labels do not say."""
    if contents.index is None:
        hard = bool(train.classes) and contents.labels.dtype == torch.int64 and not contents.payload
        if not hard:
            return otherwise
    return int(torch.bincount(_classes(contents, train)).max())


def _classes(contents: Contents, train: Source, counts: Sequence[int] = ()) -> Tensor:
    """Return the class of each item; 0 where there are no classes, or nothing says which."""
    n = len(contents.labels)
    if train.classes and contents.index is not None:
        return train.labels.cpu()[contents.index]
    if train.classes and contents.labels.dtype == torch.int64 and contents.labels.ndim == 1:
        return contents.labels
    if sum(counts) == n:
        return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return torch.zeros(n, dtype=torch.int64)


def write_within(
    most: int, contents: Contents, train: Source, write: Callable[[Contents], Distilled],
    note: Callable[[str], None], counts: Sequence[int] = (),
) -> Distilled:  # fmt: skip
    """Write a set in at most ``most`` bytes: while it takes more, classes lose their last items.

    A codec may change its form with the number of items, so that a few less take far fewer bytes: where more
    than a tenth of them is left over, more items are tried.

    Args:
        train: source of the samples.
        counts: items of each class of a made set with soft labels, whose items are in the order of the classes.
        write: writes contents.
        note: called with one line on how many items were left out. Each class keeps one, so that the smallest set
            may take more.
    """
    classes = _classes(contents, train, counts)
    at_first = torch.bincount(classes)
    firsts = at_first.cumsum(0) - at_first
    places = torch.empty_like(classes)
    by_class = classes.argsort(stable=True)
    places[by_class] = torch.arange(len(classes)) - firsts[classes[by_class]]
    small, n = write(contents), len(classes)
    if (size := charged_bytes(small.metadata["bytes"])) <= most:
        return small
    fitting: Distilled | None = None
    low, above, total = 0, n, n * most // size
    while kept := _shortened(at_first, at_first, total):
        if not low < (now := sum(kept)) < above:
            break
        small = write(_subset(contents, places < torch.tensor(kept)[classes]))
        size = charged_bytes(small.metadata["bytes"])
        if size <= most:
            low, fitting = now, small
        else:
            above = now
        if fitting is not None and (_FULL * most <= size <= most or above - low <= max(1, n // _PARTS)):
            break
        total = now * most // size if fitting is None else (low + above) // 2
    if above < n or fitting is not None:
        kind = "inputs" if contents.index is None else "samples"
        note(f"the last {n - (low or above):,} {kind} were left out, so that the set fits its bytes")
    return small if fitting is None else fitting


def _shortened(counts: Tensor, at_first: Tensor, total: int) -> list[int]:
    """Return counts of at most ``total`` items, fewer than ``counts``; none if no class can lose one.

    Next to lose one is the class with the largest share of what it had ``at_first``, the last of several.
    """
    left, first = counts.tolist(), at_first.tolist()
    for _ in range(max(1, sum(left) - total)):
        most = max((c for c in range(len(left)) if left[c] > 1), key=lambda c: (left[c] / first[c], c), default=None)
        if most is None:
            break
        left[most] -= 1
    return left if left != counts.tolist() else []


def _subset(contents: Contents, mask: Tensor) -> Contents:
    assert contents.inputs is not None
    texts = tuple(text for text, taken in zip(contents.captions, mask.tolist(), strict=False) if taken)
    return replace(
        contents,
        inputs=index(contents.inputs, mask.nonzero().squeeze(1)),
        labels=contents.labels[mask],
        index=None if contents.index is None else contents.index[mask],
        weights=None if contents.weights is None else contents.weights[mask.to(contents.weights.device)],
        captions=texts,
        scores=None if contents.scores is None else contents.scores[mask],
    )
