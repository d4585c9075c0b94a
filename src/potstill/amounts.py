"""How much of a set fits into what was asked for, and how it is written: what is settled before any work."""

import dataclasses
import math

import torch
from torch import Tensor

from potstill.core import Budget, MethodInfo, Parametrization, Problem, Store
from potstill.errors import PotstillError
from potstill.parametrize import Pixels
from potstill.parametrize.aware import Aware
from potstill.rng import generator
from potstill.store import Exact, Uniform, bits_each, index_bytes, label_bytes, largest, values_bytes
from potstill.store import store as stored_by

__all__ = ["amounts", "rounding", "writing"]

_RANGES = 64
"""Bytes kept for the ranges of a payload's tensors that are too small to have several."""
_TRIED = 1 << 22
"""Bytes up to which what a budget holds is found by packing it, and not by a rule."""
_FINE = 2
"""Bits from which a set is rounded afterwards unless it is said otherwise: docs/storage.md has what was measured."""


def writing(
    asked: str | Store | None, wanted: Budget, decoder: Parametrization, selects: bool, sample: Tensor
) -> tuple[Store | None, Store]:
    """How the set is written, ``None`` where that is chosen when it is there; and what a budget in bytes goes by.

    Args:
        sample: some inputs in data units.

    Raises:
        PotstillError: there is no such store, or it writes no inputs of this kind.
    """
    if asked is None and selects:
        return Exact(), Exact()
    if asked is None and wanted.unit == "bytes":
        bits = Uniform(bits=4 if decoder.bounded else 8)
        return bits, bits
    if asked is None or asked == "auto":
        return None, Exact() if selects else Uniform(bits=8)
    made = stored_by(asked) if isinstance(asked, str) else asked
    if isinstance(decoder, Pixels) or selects:
        made.pack(sample)  # a store of pictures alone says so before the work, and not after it
    coarse = isinstance(made, Uniform) and made.bits < _FINE and not selects
    if isinstance(asked, str) and coarse and "aware=" not in asked:
        made = dataclasses.replace(made, aware=True)  # type: ignore[type-var]
    return made, made


def rounding(decoder: Parametrization, store: Store | None, selects: bool) -> Parametrization:
    """The parametrization, which rounds while the set is made where the store says so."""
    if selects or store is None or not getattr(store, "aware", False):
        return decoder
    return Aware(inner=decoder, store=store, learned=bool(getattr(store, "learned", False)))


def amounts(
    problem: Problem, wanted: Budget, store: Store, info: MethodInfo, soft: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Items of each class, and for a budget in bytes the float32 numbers that each class of a synthetic set may store.

    Raises:
        PotstillError: the budget leaves a class empty.
    """
    train, decoder = problem.train, problem.parametrization
    k, shape = len(train.classes), train.input.shape
    if wanted.unit != "bytes":
        try:
            return wanted.counts(k, 1), ()
        except ValueError as error:
            raise PotstillError(str(error)) from error
    most, one = wanted.amount, math.prod(shape)
    sample = train.raw(torch.arange(min(len(train), 64)))
    held = sample if isinstance(sample, Tensor) else None
    bits = store.label_bits if soft else None

    def size(n: int) -> int:
        return values_bytes(store, (n, *shape), held) + label_bytes(n, k, bits)

    if info.selects:
        n = largest(lambda n: size(n) + index_bytes(n, len(train)) + 4 * n * info.weighs <= most, 8 * most)
        if n < k:
            raise PotstillError(
                f"the budget must keep at least one item of each of {k} classes, but {most:,} bytes keep {n} in all; "
                "raise it, or store fewer bits with --store uint4"
            )
        return Budget(unit="items", amount=n).counts(k, 1), ()
    if isinstance(decoder, Pixels):
        each = largest(lambda n: size(n * k) <= most, 8 * most)
        return (max(1, each),) * k, (each * one,) * k
    bits_of_one = bits_each(store, (64, *shape), held)
    known = decoder.bounded and most <= _TRIED

    def fits(each: int) -> bool:
        tried = dataclasses.replace(problem, numbers=(each,) * k)
        try:
            inputs = sum(tried.sizes)
        except PotstillError:
            return True  # too little for a single input, which is said where it is used
        if known:
            values = decoder.encode(torch.zeros(inputs, *shape), tried, generator(0))
            size = sum(values_bytes(store, tuple(t.shape), held) for t in values.values())
        else:
            size = math.ceil(1.06 * k * each * bits_of_one / 8) + _RANGES
        return size + label_bytes(inputs, k, bits) <= most

    numbers = (largest(fits, math.ceil(8.5 * most / bits_of_one / k)),) * k
    return tuple(max(1, n // one) for n in numbers), numbers
