"""Allocate a size budget to classes, and choose the codec, before any work.

A selection gets as many real samples as fit as coded streams (`potstill.runs.coded_samples`). How well the numbers of a
synthetic set will be coded is not known before they are there. Whole inputs of few bits are planned by how well real
samples are coded, and the last ones are left out where that was too many. Others get as many numbers as fit packed, so
that the file is smaller than the budget.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from potstill.codecs import (
    Exact,
    Uniform,
    bits_per_value,
    codec_of_part,
    compress_encoded,
    encode_ints,
    encoded_bytes,
    estimate_bytes,
    format_codec,
    index_bytes,
    label_bytes,
    largest_fitting,
)  # fmt: skip
from potstill.codecs import parse_codec as stored_by
from potstill.codecs.columns import Columns
from potstill.codecs.size_estimate import PlannedBits
from potstill.codecs.texts import Texts
from potstill.core import (
    Budget,
    Codec,
    ContextCodec,
    Inputs,
    InputSpec,
    MethodInfo,
    Parametrization,
    PlannedPayload,
    Problem,
    ReplacesPayload,
    Source,
    StartsFromAssets,
    TargetDecoder,
)
from potstill.core.nested import OFFSETS, VALUES, iter_batches, named_tensors, ragged_lengths, zeros_like_spec
from potstill.data.series import SeriesSource
from potstill.dataset_file import Distilled
from potstill.dataset_file.payload_io import compress_parts
from potstill.dataset_file.series_io import encode_selected_series, selected_series
from potstill.dataset_file.text_io import caption_part, charged_bytes, has_texts, writes_texts
from potstill.errors import PotstillError
from potstill.functional.sampling import proportional_allocation
from potstill.parametrize import Pixels
from potstill.parametrize.multi_hot import MultiHot
from potstill.parametrize.named_inputs import NamedInputs
from potstill.parametrize.nearest_text import NearestText
from potstill.parametrize.quantization_aware import QuantizationAware
from potstill.parametrize.rows import Rows
from potstill.rng import generator
from potstill.runs.coded_samples import count_coded_samples, estimate_coded_share
from potstill.runs.rounding import check_rounding, rounds_at_end
from potstill.runs.stored_network import planned_payload, planned_payload_bytes
from potstill.tasks import Classification, PackedTargets, get_targets, get_task, is_ragged, split_targets, target_mask

__all__ = [
    "MOST_FILLED",
    "allocate_budget",
    "can_lose_inputs",
    "coarsen_to_fit",
    "describe_proportions",
    "is_stored_as_is",
    "quantization_aware",
    "resolve_codec",
]

_RANGES = 64
"""Bytes reserved for the ranges of a payload's tensors that are too small to have several."""
MOST_FILLED = 1 << 22
"""Bytes up to which what a budget holds is found by packing it, and not by a rule."""
_CODED_LABELS = 0.2
"""Part of their packed bytes that soft labels of real samples are planned to take; samples that are then too many are
left out at the end (`potstill.runs.coded_samples.write_within`)."""
_CODED_TARGETS = 64
"""Packed targets, such as masks, that are coded to know the bytes of one."""
_TARGET_ROOM, _FIRST_TARGET_BYTES = 1.2, 64
"""Room for those of a set, which is smaller and may have harder ones."""
_FEW_BITS = 4
"""Bits up to which made values are coded well enough to plan by: the lowest bits of finer ones are noise."""
_MAX_COARSER = 64
"""Times that a codec is made coarser for a size budget, at most."""
_FINE = 2
"""Bits from which a set is rounded afterwards by default: docs/benchmarks/codecs.md has what was measured."""


def resolve_codec(
    codec: str | Codec | None,
    budget: Budget,
    decoder: Parametrization,
    selects: bool,
    sample: Inputs,
    tried: bool = True,
    texts: bool = False,
) -> tuple[Codec | None, Codec]:
    """Return the codec of the set, ``None`` where it is chosen at the end; and the codec that sizes are computed by.

    Args:
        sample: some inputs in data units.
        tried: whether what a store loses can be found by trial (`potstill.evaluation.candidate_trials`): of one tensor,
        by
            classifiers.
        texts: samples are texts, which selections and real texts in a loop keep as they are.

    Raises:
        PotstillError: there is no such store, or it writes no inputs of this kind.
    """
    if codec == "auto" and not tried:
        raise PotstillError(
            "store auto tries bits on classifiers of inputs of one tensor, which these data are not for; name a store, "
            "such as uint8 or exact"
        )
    real_texts = texts and (selects or isinstance(decoder, NearestText))
    if codec is None and real_texts:
        return Texts(), Texts()
    if codec is None and selects:
        return Exact(), Exact()
    if codec is None and isinstance(decoder, MultiHot):
        return Exact(), Exact()
    if codec is None and isinstance(decoder, Rows):  # the codec that leaves categories and whole numbers as they are
        columns = Columns() if budget.unit == "bytes" else Columns(bits=8)
        return columns, columns
    if codec is None and budget.unit == "bytes":
        bits = Uniform(bits=4 if decoder.bounded else 8)
        return bits, bits
    if codec is None and not tried:
        return Uniform(bits=8), Uniform(bits=8)
    if codec is None or codec == "auto":
        return None, Exact() if selects else Uniform(bits=8)
    made = stored_by(codec) if isinstance(codec, str) else codec
    if isinstance(decoder, NearestText) and not selects and not isinstance(made, Texts):
        raise PotstillError(
            f"parametrization nearest-text keeps real texts, but {format_codec(made)} writes numbers; leave codec out"
        )
    if isinstance(made, Texts) and real_texts:
        return made, made
    if isinstance(made, ContextCodec):
        if not (isinstance(sample, Tensor) and (selects or is_stored_as_is(decoder))):
            raise PotstillError(
                f"codec {format_codec(made)} writes whole inputs of one tensor; take parametrization pixels, or "
                "another codec"
            )
    elif is_stored_as_is(decoder) or selects:  # a store of pictures alone says so before the work, and not after it
        kinds = {n: p.kind for n, p in decoder.input.parts} if isinstance(decoder, NamedInputs) else {}
        for name, tensor in named_tensors(sample).items():
            if tensor.is_floating_point():
                codec_of_part(kinds.get(name, ""), made).pack(tensor)
    if not selects:
        check_rounding(decoder, made)
    rounds_late = selects or isinstance(decoder, MultiHot | Rows | ReplacesPayload)
    coarse = isinstance(made, Uniform) and made.bits < _FINE and not rounds_late
    if isinstance(codec, str) and coarse and "aware=" not in codec:
        made = dataclasses.replace(made, aware=True)  # type: ignore[type-var]
    return made, made


def is_stored_as_is(decoder: Parametrization) -> bool:
    """Tell whether inputs are stored as they are."""
    return isinstance(decoder, MultiHot | Pixels | Rows) or (isinstance(decoder, NamedInputs) and decoder.stores_as_is)


def can_lose_inputs(codec: Codec) -> bool:
    """Tell whether a set of whole inputs that is too large loses its last ones rather than bits of each value."""
    return isinstance(codec, Columns) or not isinstance(codec, PlannedBits)


def quantization_aware(decoder: Parametrization, store: Codec | None, selects: bool) -> Parametrization:
    """The parametrization, which rounds while the set is made where the store says so."""
    if selects or store is None or rounds_at_end(store):
        return decoder
    return QuantizationAware(inner=decoder, codec=store, learned=bool(getattr(store, "learned", False)))


def allocate_budget(
    problem: Problem, budget: Budget, store: Codec, info: MethodInfo, soft: bool, *, scores: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Items of each class, and for a budget in bytes the float32 numbers that each class of a synthetic set may store.

    Raises:
        PotstillError: the budget leaves a class empty.
    """
    train, decoder = problem.train, problem.parametrization
    k, spec = problem.num_classes, train.input
    natural = budget.natural and len(set(_samples(problem))) > 1
    if budget.unit != "bytes":
        try:
            equal = budget.counts(k, 1)
        except ValueError as error:
            raise PotstillError(str(error)) from error
        return _shared_out(problem, budget.amount) if natural else equal, ()
    most, one = budget.amount, spec.num_values
    sample: Inputs = train.raw(torch.arange(min(len(train), 64)))
    kinds = {"": spec.kind, **{name: part.kind for name, part in spec.parts}}
    # What repeats in some windows, or in some rows of a part, does not in fewer: those count as they are.
    alike = {"image"} if spec.parts else set(kinds.values()) - {"series"}
    held = {name: x for name, x in named_tensors(sample).items() if kinds.get(name) in alike}
    seen = held.get("")
    coded_texts = writes_texts(train, store)
    holds_targets = isinstance(decoder, TargetDecoder) and not info.is_selection
    labels = _no_bytes if holds_targets else _target_bytes(train, store.label_bits if soft else None, scores)
    whole = _whole_bytes(train, store)

    as_captions = {caption_part(train)} - {""} if info.is_selection else set()

    def values(n: int) -> int:
        if coded_texts:
            return 0
        parts = spec.parts or (("", spec),)
        real = ((n, p) for n, p in parts if not p.ragged and p.kind != "categories" and n not in as_captions)
        return sum(
            estimate_bytes(codec_of_part(part.kind if spec.parts else "", store), (n, *part.shape), held.get(name))
            for name, part in real
        )

    def size(n: int) -> int:
        return values(n) + whole(n) + labels(n)

    if info.is_selection or coded_texts:
        texts = _text_bytes(train) if coded_texts or not has_texts(train) else _no_bytes

        def other_bytes(n: int) -> int:
            """Bytes of all but what is coded."""
            index = index_bytes(n, len(train)) if info.is_selection else 0
            return (0 if coded_texts else texts(n)) + index + 4 * n * info.weighted

        n = largest_fitting(lambda n: size(n) + texts(n) * coded_texts + other_bytes(n) <= most, 8 * most)
        if isinstance(train, SeriesSource):
            n = largest_fitting(lambda n: _stretch_bytes(train, store, n) <= most, len(train))
        elif most <= MOST_FILLED and not spec.parts and not isinstance(store, ContextCodec):
            share = _CODED_LABELS if soft else 0.0
            n = count_coded_samples(
                problem, store, most, lambda n: other_bytes(n) + math.ceil(share * labels(n)), soft, n
            )  # fmt: skip
        if n < k:
            of_each = f" of each of {k} classes" if train.classes else ""
            raise PotstillError(
                f"the budget must keep at least one item{of_each}, but {most:,} bytes keep {n} in all; raise it, or "
                'store fewer bits with `codec="uint4"`'
            )
        return _shared_out(problem, n) if natural else Budget(unit="items", amount=n).counts(k, 1), ()
    if is_stored_as_is(decoder):
        packed = largest_fitting(lambda n: size(n) <= most, 8 * most)
        share = _coded_share(problem, store, packed, most) if packed >= k else 1.0  # one of each class fits for certain

        def planned(n: int) -> int:
            return math.ceil(share * values(n)) + whole(n) + labels(n)

        each = largest_fitting(lambda n: planned(n * k) <= most, 8 * most)
        if not each:
            of_each = f" of each of {k} classes" if train.classes else ""
            raise PotstillError(
                f"the budget must hold at least one input{of_each}, which takes {size(k):,} bytes as "
                f"{format_codec(store)}, but it is {most:,} bytes; raise it, or store fewer bits"
            )
        if natural and each:
            counts = _shared_out(problem, largest_fitting(lambda n: planned(n) <= most, 8 * most))
            return counts, tuple(count * one for count in counts)
        return (max(1, each),) * k, (each * one,) * k
    bits_of_one = bits_per_value(store, (64, one) if spec.parts else (64, *spec.shape), seen)
    needs_assets = bool(problem.decoder_assets) or isinstance(getattr(decoder, "inner", decoder), StartsFromAssets)
    coded = isinstance(getattr(decoder, "inner", decoder), PlannedPayload) and most <= MOST_FILLED
    known = (decoder.bounded or holds_targets) and most <= MOST_FILLED and not needs_assets

    def spent(numbers: tuple[int, ...], exact: bool) -> int:
        """Bytes of a set of so many numbers of each class; 0 where they are too few for one input."""
        tried = dataclasses.replace(problem, value_budget=numbers)
        try:
            inputs = sum(tried.sizes)
        except PotstillError:
            return 0  # said where it is used
        if coded and (like := planned_payload(tried)) is not None:
            size = sum(planned_payload_bytes(like, store).values())
        elif exact:
            stored = decoder.encode(zeros_like_spec(spec, inputs), tried, generator(0))
            codes = {name for name in stored if spec.parts and not stored[name].is_floating_point()}
            size = sum(
                estimate_bytes(store, tuple(t.shape), seen) if t.is_floating_point() else encoded_bytes(encode_ints(t))
                for name, t in stored.items()
                if name not in codes
            )
        else:
            size = math.ceil(1.06 * sum(numbers) * bits_of_one / 8) + _RANGES
        return size + whole(inputs) + labels(inputs)

    def fitting(shared: Callable[[int], tuple[int, ...]], bound: int) -> int:
        """The greatest n whose ``shared(n)`` fits."""
        each = largest_fitting(lambda n: spent(shared(n), known) <= most, bound)
        if not known and most <= MOST_FILLED and not needs_assets:
            # Whole numbers, such as positions, are not written in the values' few bits, so the estimate may be too low.
            while (taken := spent(shared(each), True)) > most:
                each = min(each - 1, each * most // taken)
        return each

    most_numbers = math.ceil((17 if coded else 8.5) * most / bits_of_one)  # coded values may take half their bits
    each = fitting(lambda n: (n,) * k, math.ceil(most_numbers / k))
    numbers = (each,) * k
    if natural and (unit := _least(problem, each)):
        # In steps of what one stored input takes, of which each class gets one at least.
        def shared(n: int) -> tuple[int, ...]:
            return tuple(count * unit for count in _shared_out(problem, max(k, n)))

        if (steps := fitting(shared, math.ceil(most_numbers / unit))) > k:
            numbers = shared(steps)
    return tuple(max(1, n // one) for n in numbers), numbers


def _stretch_bytes(train: SeriesSource, store: Codec, n: int) -> int:
    """Return the coded bytes of the first ``n`` windows with their positions: as windows that follow each other share
    their points, others take more, and the last of them are left out at the end."""
    index = torch.arange(n)
    windows = selected_series(train, index, store)
    assert windows is not None
    parts = {**encode_selected_series(windows[0], store), "index": encode_ints(index)}
    return sum(map(encoded_bytes, compress_parts(parts, torch.zeros(0)).values()))


def _coded_share(problem: Problem, store: Codec, n: int, most: int) -> float:
    """Return the part of packed bytes that ``n`` whole inputs are planned by; 1 where that cannot be foreseen, or where
    inputs that are too many cannot be left out, as they are rounded while they are made."""
    if isinstance(problem.parametrization, MultiHot) and most <= MOST_FILLED:
        return estimate_coded_share(problem, store, 1, n)
    if not isinstance(store, Uniform) or store.bits > _FEW_BITS or store.aware or store.rate:
        return 1.0
    if problem.train.input.parts or most > MOST_FILLED:
        return 1.0
    return estimate_coded_share(problem, store, store.bits, n)


def coarsen_to_fit(
    small: Distilled, codec: Codec, most: int | None, write: Callable[[Codec], Distilled], note: Callable[[str], None]
) -> Distilled:
    """Return the set written coarser until it has ``most`` bytes, where its codec can be coarser; sizes alone decide.

    Args:
        small: the set as ``codec`` writes it.
        most: bytes of the budget; ``None``: the budget is a number of items.
        write: writes the set by another codec.
        note: called with one line where the codec changes.
    """
    requested = format_codec(codec)
    for _ in range(_MAX_COARSER):
        coarser = _coarser(codec)
        if most is None or coarser is None or charged_bytes(small.metadata["bytes"]) <= most:
            break
        codec = coarser
        small = write(codec)
    if format_codec(codec) != requested:
        note(f"the set is written as {format_codec(codec)}: as {requested} it has more bytes than its budget")
    return small


def _coarser(codec: Codec) -> Codec | None:
    """Return the codec that loses a little more, in fewer bytes; ``None``: there is none."""
    if isinstance(codec, PlannedBits):
        return codec.coarser()
    if isinstance(codec, Uniform) and codec.bits > 1 and not (codec.aware or codec.rate):
        return dataclasses.replace(codec, bits=codec.bits - 1)
    return None


def _samples(problem: Problem) -> tuple[int, ...]:
    """Samples of each class, at least one, that natural proportions are taken from."""
    return tuple(max(1, len(index)) for index in problem.class_indices)


def describe_proportions(budget: Budget, problem: Problem, info: MethodInfo) -> tuple[str, ...]:
    """That classes get items in proportion to their samples, where that is not as many of each, in a line."""
    if not budget.natural or not info.balanced or len(counts := set(problem.counts)) == 1:
        return ()
    return (
        f"items of each class in proportion to its samples, {min(counts):,} to {max(counts):,}; balance equal gives "
        "each as many",
    )


def _shared_out(problem: Problem, total: int) -> tuple[int, ...]:
    """``total`` items, at least one of each class, in proportion to its samples, by largest remainders; no more than a
    class has, while there are enough."""
    sizes = _samples(problem)
    again = math.ceil(total / sum(sizes))  # of more items than samples, as many rounds
    return proportional_allocation([size * max(1, again) for size in sizes], total)


def _least(problem: Problem, enough: int) -> int:
    """The fewest numbers that give each class an input; 0 where not even ``enough`` do."""

    def fails(n: int) -> bool:
        try:
            return not all(dataclasses.replace(problem, value_budget=(n,) * problem.num_classes).sizes)
        except PotstillError:
            return True

    return 0 if fails(enough) else largest_fitting(fails, enough) + 1


def _target_bytes(train: Source, bits: int | None, scores: bool = False) -> Callable[[int], int]:
    """Bytes of the targets of so many inputs, at most: rows of ``bits`` each, classes, real values or numbers."""
    task = get_task(train)
    if isinstance(task, Classification):
        return lambda n: label_bytes(n, task.k, bits, scores=scores)
    targets = get_targets(train)
    each = targets[:1].numel()
    if is_ragged(task):
        values, _ = split_targets(targets)
        width, codes = values[:1].numel(), 1 if values.is_floating_point() else int(values.max()) + 1
        lengths = target_mask(targets).sum(1)
        if values.is_floating_point():
            return _ragged_bytes(lengths, lambda total: 4 * width * total)
        return _ragged_bytes(lengths, lambda total: index_bytes(total * width, codes))
    if isinstance(task, PackedTargets):
        some = task.pack_targets(targets[:: max(1, len(targets) // _CODED_TARGETS)])
        coded = encoded_bytes(compress_encoded(encode_ints(some))) / len(some)
        return partial(_packed_bytes, each, max(task.outputs, int(some.max())) + 1, coded)
    if targets.is_floating_point():
        return lambda n: 4 * n * each
    return lambda n: index_bytes(n * each, int(targets.max()) + 1)


def _packed_bytes(values: int, codes: int, coded: float, n: int) -> int:
    """Return the bytes of ``n`` packed targets: as many as real ones take coded, and some room, or as codes."""
    return min(index_bytes(n * values, codes), math.ceil(n * coded * _TARGET_ROOM) + _FIRST_TARGET_BYTES)


def _whole_bytes(train: Source, store: Codec) -> Callable[[int], int]:
    """Bytes of the codes and ragged parts of so many inputs, at most: of ragged ones, those of the longest samples."""
    sizes: list[Callable[[int], int]] = []
    for name, part in train.input.parts:
        if part.kind == "categories":
            sizes.append(partial(_code_bytes, math.prod(part.shape), max(part.levels, default=1)))
        elif part.ragged:
            some = (named_tensors(train.raw(at)) for at in iter_batches(torch.arange(len(train)), 4096))
            lengths = torch.cat([ragged_lengths(x[name + OFFSETS], len(x[name + VALUES])).cpu() for x in some])
            sizes.append(_ragged_bytes(lengths, partial(_ragged_values_bytes, part, store)))
    return lambda n: sum(size(n) for size in sizes)


def _ragged_values_bytes(part: InputSpec, store: Codec, total: int) -> int:
    """Bytes of a ragged part of this length over all samples."""
    if part.kind == "words" or part.levels:
        return index_bytes(total * math.prod(part.shape[1:]), max(part.levels, default=1))
    return estimate_bytes(store, (total, *part.shape[1:]))


def _code_bytes(each: int, levels: int, n: int) -> int:
    return index_bytes(n * each, levels)


def _text_bytes(train: Source) -> Callable[[int], int]:
    """Bytes of the texts of so many samples, at most, where a source has texts."""
    texts: tuple[str, ...] = getattr(train, "texts", ())
    lengths = torch.tensor([len(t.encode("utf-8", "replace")) for t in texts])
    return _ragged_bytes(lengths, lambda total: index_bytes(total, 256))


def _no_bytes(n: int) -> int:
    return 0


def _ragged_bytes(lengths: Tensor, values: Callable[[int], int]) -> Callable[[int], int]:
    """Bytes of the ``n`` longest of samples of these lengths, and of where each begins; 0 where there are none."""
    longest = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.long().sort(descending=True).values.cumsum(0)])

    def size(n: int) -> int:
        if not len(lengths):
            return 0
        total = int(longest[min(n, len(lengths))]) + max(0, n - len(lengths)) * int(longest[1])
        return values(total) + index_bytes(n, total + 1)

    return size
