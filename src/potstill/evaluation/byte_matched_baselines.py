"""Baselines of real samples in the bytes of a distilled set: as many as fit, with the codec that serves them best.

The codec of each baseline is selected on a held-out part of the training data by small students
(`potstill.evaluation.candidate_trials`); the measurement then uses fresh draws, packed with it and read back. Both
sides are charged for labels, and neither for a whitening, which is applied to both.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from operator import call
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from potstill._util.progress import Callback
from potstill.codecs import (
    decode,
    encode_classes,
    encode_probabilities,
    encoded_bytes,
    estimate_bytes,
    has_fixed_size,
    label_bytes,
    parse_codec,
)
from potstill.codecs.entropy import entropy_coded_bytes
from potstill.codecs.exact import encode_ints
from potstill.core import Encoded, Inputs, InputSpec, NetworkFactory, Source
from potstill.core.nested import OFFSETS, VALUES, named_tensors, single_tensor, to_device
from potstill.data.groups import get_groups
from potstill.data.real_data import RealData
from potstill.data.splits import TimeOrdered, stratify
from potstill.dataset_file.payload_io import decode_input_tensor, encode_input_tensor, quantizes_normalised
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import Pair, make_probe
from potstill.evaluation.training_sets import TeacherJob, TrainingSet
from potstill.execution import Executor, Serial
from potstill.functional.coreset import herding
from potstill.kinds import get_kind
from potstill.labels.teacher import soft_labels
from potstill.rng import derive_seed, generator
from potstill.tasks import Classification, get_targets, get_task, is_ragged, join_targets, split_targets

__all__ = [
    "BASELINES", "CHEAP_OPERATIONS", "MIN_DRAWS", "TRIAL_STEPS", "BaselineContext", "SoftLabelFn",
    "baseline_byte_budget", "best_codecs", "candidate_codecs", "count_exact_bytes", "count_shared_codecs",
    "count_strata", "count_trials", "estimate_items", "make_baseline", "make_item_matched", "max_items_per_class",
    "pack_samples",
]  # fmt: skip

Encodings: TypeAlias = Mapping[str, Encoded]
"""Encoded tensors by name; ``""`` for one that has no parts."""
BASELINES = ("random", "herding", "random-soft")
"""Baselines in the bytes of the set, in display order. ``random-items`` comes after them: the literature's comparison,
as many real samples as the set has inputs, exact, whatever their bytes.
"""
SOFT_LABEL_BITS = 8
"""Bits per number of a soft label."""
HELD_OUT_FRACTION, MAX_HELD_OUT = 0.2, 1000
"""Fraction of the training data, and maximum number of samples, on which codecs are selected."""
FIRST_STUDENTS, MORE_STUDENTS, FINALISTS = 2, 4, 3
"""Students on every codec, further students on the best codecs, and the number of those."""
SHARED_CODECS = 5
"""Number of codecs, the best for ``random``, that the other baselines try."""
TRIAL_STEPS = 100
"""Maximum updates of a trial student; never more than a measured student makes."""
MIN_DRAWS = 3
"""Minimum number of random draws measured, where further students are cheap."""
CHEAP_OPERATIONS = 2e12
"""Operations up to which further students count as cheap."""
TIGHT_BYTES = 4096
"""Budget up to which images of a quarter of the size are tried too, if at least four pixels a side are left."""
MAX_VALUES = 1 << 24
"""Values of the training data that are looked at, for bytes and ranges of all."""
MAX_MOSAIC_BYTES = 4 << 20
"""Budget up to which image files are tried: a larger PNG takes longer to write than it is worth."""

SoftLabelFn = Callable[[Tensor], Tensor]
Order = Sequence[Int[Tensor, " _"]]
"""For each class, its samples in the order in which they are taken."""


class ProportionalOrder(list[Tensor]):
    """An order from which classes are taken in proportion to their size: ``n`` of the largest, at least one of each."""

    def __init__(self, order: Order, sizes: Sequence[int]) -> None:
        super().__init__(order)
        self.sizes = tuple(sizes)

    def counts(self, n: int) -> list[int]:
        """Return the number of samples of each class."""
        most = max(self.sizes)
        return [max(1, (2 * n * size + most) // (2 * most)) for size in self.sizes]


def candidate_codecs(
    spec: InputSpec, quick: bool = False, byte_budget: int = TIGHT_BYTES + 1
) -> tuple[tuple[str, ...], ...]:
    """Return the codecs tried for ``byte_budget``: families, each from the finest to the coarsest."""
    if spec.parts:
        return (("exact",),)
    picture = get_kind(spec).value_range is not None and len(spec.shape) == 3 and min(spec.shape[1:]) >= 4
    if not picture:
        return (("exact", "uint4"),) if quick else (("exact", "float16", "uint8", "uint4", "uint2"),)
    if quick:
        return ("exact", "uint4", "uint1"), ("half:bits=4", "half:bits=1")
    whole = ("exact", "uint4", "uint2", "uint1")
    half = ("half:bits=8", "half:bits=4", "half:bits=2", "half:bits=1")
    files = ("mosaic:kind=png", "mosaic:kind=webp", "mosaic:kind=jpeg") if spec.shape[0] in (1, 3) else ()
    quarter = ("half:bits=4,factor=4", "half:bits=2,factor=4", "half:bits=1,factor=4")
    small = (quarter,) if byte_budget <= TIGHT_BYTES and min(spec.shape[1:]) >= 16 else ()
    return whole, half, *small, *((file,) for file in files)


def baseline_byte_budget(sizes: Mapping[str, int]) -> int:
    """Return the bytes of a set without its whitening, which is applied to both sides."""
    return sum(size for name, size in sizes.items() if name not in ("total", "coded", "whitening"))


@dataclass(frozen=True, kw_only=True)
class BaselineContext:
    """Data, size budget and settings from which baselines are made."""

    train: Source
    """All training samples, with the set's normalization."""
    byte_budget: int
    """Bytes for inputs and labels."""
    make: NetworkFactory
    seed: int
    proportional: bool = False
    """Take classes in proportion to their sizes, as the set does; else equally many of each."""
    quick: bool = False
    steps: int = TRIAL_STEPS
    """Updates of a trial student."""
    executor: Executor = field(default_factory=Serial)

    def parts(self) -> tuple[Source, Source]:
        """Split the training data into a part to pack and a part to evaluate codecs on, without overlap."""
        train = self.train
        fraction = min(HELD_OUT_FRACTION, MAX_HELD_OUT / len(train))
        if isinstance(train, TimeOrdered):
            return train.cut(fraction)
        kept, held = stratify(train.labels, fraction, derive_seed(self.seed, "codec") % 2**31, get_groups(train))
        return train.subset(kept), train.subset(held)  # type: ignore[attr-defined]


def count_strata(train: Source) -> int:
    """Return the number of groups that samples are drawn by: classes, or 1 where there are none."""
    return max(1, len(train.classes))


def _stored(train: Source, index: Tensor, codec: str, soft: bool) -> tuple[Encodings, Encodings]:
    """Encode the samples at ``index``: inputs by name, and targets. Soft labels are placeholders of the right size."""
    x, k = train.raw(index), len(train.classes)
    if soft:
        labels: Encodings = {"": encode_probabilities(torch.full((len(index), k), 1 / k), SOFT_LABEL_BITS)}
    else:
        labels = _targets_stored(train, index)
    if not isinstance(x, Tensor):
        return {name: _part(t, codec) for name, t in x.items()}, labels
    picture = get_kind(train.input).value_range is not None
    return {"": encode_input_tensor(x.cpu(), parse_codec(codec), train.normalization, picture)}, labels


def _foreseen(train: Source, index: Tensor, codec: str, soft: bool) -> int:
    """Predict the size of `_stored` from shapes and labels alone."""
    inputs = estimate_bytes(parse_codec(codec), (len(index), *train.input.shape))
    if soft:
        return inputs + label_bytes(len(index), len(train.classes), SOFT_LABEL_BITS)
    return inputs + sum(map(encoded_bytes, _targets_stored(train, index).values()))


def _part(x: Tensor, codec: str) -> Encoded:
    """Values by the codec, codes and words as they are."""
    return parse_codec(codec).pack(x) if x.is_floating_point() else encode_ints(x)


def _targets_stored(train: Source, index: Tensor) -> Encodings:
    if isinstance(get_task(train), Classification):
        return {"": encode_classes(train.labels[index], len(train.classes))}
    targets = get_targets(train)[index]
    if not is_ragged(get_task(train)):
        return {"": _part(targets, "exact")}
    return {name: _part(t, "exact") for name, t in zip((VALUES, OFFSETS), split_targets(targets), strict=True)}


def _size(stored: tuple[Encodings, Encodings]) -> int:
    return sum(encoded_bytes(part) for side in stored for part in side.values())


def _take(order: Order, per_class: int) -> Int[Tensor, " m"]:
    counts = order.counts(per_class) if isinstance(order, ProportionalOrder) else [per_class] * len(order)
    return torch.cat([of_class[:count] for of_class, count in zip(order, counts, strict=True)])


def max_items_per_class(
    train: Source, order: Order, byte_budget: int, codec: str, *, soft: bool = False, guess: int = 1
) -> int:
    """Return the maximum number of samples per class that fit with their labels; smaller classes give all they have.

    0 if not even one of each fits. Size grows with the number of samples, except for small fluctuations of image files;
    for them, return a number that fits next to one that does not.

    Args:
        guess: start of the search; affects time only.
    """
    most = max(len(of_class) for of_class in order)

    def fits(n: int) -> bool:
        try:
            return _size(_stored(train, _take(order, n), codec, soft)) <= byte_budget
        except PotstillError:
            return False  # too many for one picture file, or values that the codec does not hold

    def foreseen(n: int) -> bool:
        return _foreseen(train, _take(order, n), codec, soft) <= byte_budget

    if not train.input.parts and has_fixed_size(parse_codec(codec)):
        with suppress(PotstillError):  # no such shapes
            found = _most(foreseen, most, guess)
            if found == 0 or fits(found):  # what is foreseen is the least that it can be
                return found
    return _most(fits, most, guess)


def _most(fits: Callable[[int], bool], most: int, guess: int) -> int:
    """Return the largest number up to ``most`` that fits, assuming monotonicity."""
    low, high, step = 0, most + 1, 1
    n = max(1, min(guess, most))
    while high - low > 1:
        if fits(n):
            low = n
            n = min(low + step, high - 1) if high > most else (low + high) // 2
        else:
            high = n
            n = max(high - step, low + 1) if low == 0 else (low + high) // 2
        step *= 2
    return low


def pack_samples(
    train: Source,
    draws: Sequence[Order],
    per_class: int,
    codec: str,
    rows: SoftLabelFn | None = None,
    *,
    code: bool = False,
) -> TrainingSet:
    """Return samples as decoded from their file, one pair for each draw.

    Args:
        code: also compute the entropy-coded size, which takes time.
        rows: gives soft labels, of the real inputs before they are packed.
    """
    pairs: list[Pair] = []
    sizes: list[int] = []
    coded: list[int | None] = []
    picture = get_kind(train.input).value_range is not None
    for order in draws:
        index = _take(order, per_class)
        inputs, labels = _stored(train, index, codec, soft=False)
        if rows is not None:
            probabilities = rows(single_tensor(train.fetch(index).x, "a teacher's label")).cpu()
            labels = {"": encode_probabilities(probabilities, SOFT_LABEL_BITS)}
        y = join_targets(decode(labels[VALUES]), decode(labels[OFFSETS])) if VALUES in labels else decode(labels[""])
        x: Inputs = {name: decode(part) for name, part in inputs.items()}
        if "" in inputs:
            x = decode_input_tensor(inputs[""], quantizes_normalised(parse_codec(codec), picture), train.normalization)
        pairs.append((train.normalization.apply(to_device(x, train.device)), y.to(train.device)))
        sizes.append(_size((inputs, labels)))
        parts = [entropy_coded_bytes(part) for part in (*inputs.values(), *labels.values())] if code else [None]
        coded.append(None if None in parts else sum(p for p in parts if p is not None))
    return TrainingSet(
        pairs=pairs, bytes=max(sizes), per_class=per_class, codec=codec,
        entropy_coded_bytes=None if None in coded else max(c for c in coded if c is not None),
    )  # fmt: skip


def _shared(train: Source, order: Order, where: BaselineContext) -> Order:
    if not where.proportional:
        return order
    return ProportionalOrder(order, torch.bincount(train.labels, minlength=len(order)).tolist())


def _order(train: Source, name: str, seed: int, draw: str, most: int | None = None) -> Order:
    """Return the samples of each class in the order of ``random`` or ``herding`` (at most ``most``)."""
    real = RealData.of_source(train)
    if name == "herding":
        return [i[_herded(train, i, min(most or len(i), len(i)))] for i in real.by_class.values()]
    # the same samples for every kind of random baseline
    return list(real.draw(len(train), generator(seed, "baseline", draw)))


def _herded(train: Source, index: Tensor, m: int) -> Tensor:
    x = single_tensor(train.fetch(index).x, "herding")
    return herding(x.flatten(1), m).cpu() if m else torch.zeros(0, dtype=torch.int64)


class _Entry(NamedTuple):
    codec: str
    per_class: int


def _fitting(
    train: Source, order: Order, where: BaselineContext, soft: bool, codecs: Sequence[str] = ()
) -> list[_Entry]:
    """Return every codec with the samples per class that fit, without coarser ones that fit no more.

    Args:
        among: restrict to these, unless none of them fits.
    """
    entries: list[_Entry] = []
    every = max(len(of_class) for of_class in order)
    for family in candidate_codecs(train.input, where.quick, where.byte_budget):
        if family[0].startswith("mosaic") and where.byte_budget > MAX_MOSAIC_BYTES:
            continue
        before = 0
        for codec in family:
            if before < every and _holds(where.train, codec):
                n = max_items_per_class(train, order, where.byte_budget, codec, soft=soft, guess=max(1, before))
                if n > before:
                    entries.append(_Entry(codec, n))
                before = max(before, n)
        if entries and entries[0] == _Entry("exact", every):
            break  # all there is, as it is
    return [e for e in entries if e.codec in codecs] or entries


def _holds(train: Source, codec: str) -> bool:
    """Return False for a codec that refuses the largest values of the training data, as float16 does above 65,504."""
    if train.input.parts or get_kind(train.input).value_range is not None:
        return True
    x = single_tensor(train.raw(_spread(train, MAX_VALUES)), "a codec").cpu()
    try:
        encode_input_tensor(x.abs().amax(0, keepdim=True), parse_codec(codec), train.normalization, False)
    except PotstillError:
        return False
    return True


def _spread(train: Source, most: int) -> Int[Tensor, " n"]:
    """Return the indices of all samples, or of evenly spaced ones where they hold more than ``most`` values."""
    n = min(len(train), max(1, most // max(1, train.input.num_values)))
    return torch.arange(n) if n == len(train) else torch.linspace(0, len(train) - 1, n).long()


def count_trials(where: BaselineContext) -> int:
    """Return the approximate number of trial students per baseline, the mean of three baselines."""
    ways = sum(len(family) for family in candidate_codecs(where.train.input, where.quick, where.byte_budget))
    again = count_shared_codecs(where)
    return FIRST_STUDENTS * (ways + 2 * (again if again > 1 else 0)) // 3 + (
        0 if where.quick else MORE_STUDENTS * FINALISTS
    )


def estimate_items(where: BaselineContext) -> int:
    """Return the approximate number of real samples that fit at 4 bits a value."""
    each = where.train.input.num_values / 2 + 1
    return int(min(len(where.train), max(count_strata(where.train), where.byte_budget / each)))


def count_shared_codecs(where: BaselineContext) -> int:
    """Return how many of the best codecs for ``random`` the other baselines try; a single one needs no trial."""
    return 1 if where.quick else SHARED_CODECS


def best_codecs(training_set: TrainingSet, most: int = SHARED_CODECS) -> list[str]:
    """Return the best codecs of its trials."""
    return [tried["codec"] for tried in training_set.trials[:most]]


def make_baseline(
    name: str, where: BaselineContext, *, draws: int, rows: SoftLabelFn | None = None, codecs: Sequence[str] = (),
    say: Callback | None = None,
) -> TrainingSet:  # fmt: skip
    """Return a baseline in the bytes of the set, with the codec that is best for it on held-out training data.

    ``random``: ``draws`` draws. ``herding``: one selection, on inputs. ``random-soft``: ``random`` with a teacher's
    labels in 8 bits.

    Args:
        rows: the teacher's labels, for ``random-soft``.
        codecs: codecs to try, if any of them fits; all by default.

    Raises:
        PotstillError: not even one sample of each class fits.
    """
    soft = name == "random-soft"
    fit, held = where.parts()
    first = _shared(fit, _order(fit, "random", where.seed, "trial 0"), where)
    entries = _fitting(fit, first, where, soft, codecs)
    if not entries:
        raise PotstillError(
            f"one real sample{_each(fit)} takes at least {_least(fit, first, where, soft):,} bytes, but the set "
            f"takes {where.byte_budget:,}"
        )
    # of another choice a picture file may hold a few more
    most = max(e.per_class for e in entries) * 5 // 4 + 8

    def orders(train: Source, part: str, count: int) -> list[Order]:
        count = 1 if name == "herding" else count
        return [_shared(train, _order(train, name, where.seed, f"{part}{n}", most), where) for n in range(count)]

    tried = _tried(
        where, fit, held, orders(fit, "trial ", FIRST_STUDENTS + MORE_STUDENTS), entries, soft, say or (lambda *_: None)
    )
    train, taken = where.train, orders(where.train, "", draws)
    for entry in tried:  # the best first; of other samples a picture file may be too large
        numbers = [
            max_items_per_class(train, order, where.byte_budget, entry["codec"], soft=soft, guess=entry["per_class"])
            for order in taken
        ]
        if min(numbers) > 0:
            made = pack_samples(train, taken, min(numbers), entry["codec"], rows if soft else None, code=True)
            return replace(made, trials=tuple(tried))
    raise PotstillError(f"one real sample{_each(train)} does not fit into the {where.byte_budget:,} bytes of the set")


def _each(train: Source) -> str:
    return " of each class" if train.classes else ""


def make_item_matched(where: BaselineContext, counts: Sequence[int], draws: int) -> TrainingSet:
    """Return as many exact random samples of each class as the set has inputs, whatever their bytes."""
    taken = [
        [of_class[:count] for of_class, count in zip(order, counts, strict=True)]
        for order in (_order(where.train, "random", where.seed, f"{n}") for n in range(draws))
    ]
    return pack_samples(where.train, taken, max(counts), "exact", code=True)


def _least(train: Source, order: Order, where: BaselineContext, soft: bool) -> int:
    sizes = []
    for codec in (c for family in candidate_codecs(train.input, where.quick, where.byte_budget) for c in family):
        with suppress(PotstillError):  # values that it does not hold
            sizes.append(_size(_stored(train, _take(order, 1), codec, soft)))
    return min(sizes, default=0)


def _tried(
    where: BaselineContext, fit: Source, held_out: Source, trial: Sequence[Order], entries: Sequence[_Entry],
    soft: bool, say: Callback,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train small students with each codec and return the results, best first: some on all, then more on the leaders.

    A single codec needs no trial.
    """
    results: list[dict[str, Any]] = [{"codec": e.codec, "per_class": e.per_class} for e in entries]
    if len(entries) == 1:
        return results
    probe = make_probe(
        where.make, where.train, held_out, students=FIRST_STUDENTS, seed=where.seed, steps=where.steps,
        executor=where.executor,
    )  # fmt: skip
    rows: SoftLabelFn | None = None
    if soft:
        job = TeacherJob(train=fit, make=probe.make, seed=where.seed)
        rows = partial(soft_labels, job.network(), next(iter(where.executor.map(call, [job]))))
    leading, metric = 1 if where.quick else FINALISTS, get_task(where.train).metric
    name = "accuracy" if metric.name == "accuracy" else "score"
    merits: dict[int, Tensor] = {}

    def more(n: int, draws: Sequence[Order], numbers: range) -> None:
        made = pack_samples(fit, draws, entries[n].per_class, entries[n].codec, rows)
        found = probe.student_scores(made.pairs, numbers)
        merits[n] = torch.cat([merits[n], found]) if n in merits else found
        results[n] |= {"bytes": made.bytes, name: float(merits[n].mean()), "students": len(merits[n])}

    def worse(n: int) -> float:
        return -metric.sign * float(results[n][name])

    for n in range(len(entries)):
        say("how to store them", n, len(entries))
        more(n, trial[:FIRST_STUDENTS], range(FIRST_STUDENTS))
    ranked = sorted(range(len(entries)), key=worse)
    for n in ranked[:leading] if leading > 1 else ():
        more(n, trial[FIRST_STUDENTS:] or trial, range(FIRST_STUDENTS, FIRST_STUDENTS + MORE_STUDENTS))
    say("how to store them", len(entries), len(entries))
    ranked = [*sorted(ranked[:leading], key=worse), *ranked[leading:]]
    return [results[n] for n in ranked]


def count_exact_bytes(train: Source, most: int = MAX_VALUES) -> int:
    """Return the exact bytes of all samples with their labels: 8-bit pixels take 8 bits.

    Args:
        most: maximum number of values that are packed; larger data are extrapolated from that many.
    """
    index = _spread(train, most)
    inputs = sum(encoded_bytes(_part(part.cpu(), "exact")) for part in named_tensors(train.raw(index)).values())
    targets = _targets_stored(train, train.labels.argsort(stable=True))
    return round(inputs * len(train) / len(index)) + sum(map(encoded_bytes, targets.values()))
