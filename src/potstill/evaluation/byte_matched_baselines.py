"""Real samples in the bytes of a distilled set: as many as fit, as decoded from their file.

How they are selected and written is searched by `potstill.evaluation.real_sets`. Both sides are charged the bytes of
their arithmetic-coded streams (`potstill.codecs.bitstream`) and their labels, and neither a whitening, which is applied
to both.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from potstill._util.card import shared_decoder_bytes
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
from potstill.codecs.exact import encode_ints
from potstill.core import Encoded, Inputs, InputSpec, NetworkFactory, Source
from potstill.core.nested import OFFSETS, VALUES, named_tensors, single_tensor, to_device
from potstill.data.groups import get_groups
from potstill.data.real_data import RealData
from potstill.data.selection_order import order_samples
from potstill.data.series import SeriesSource
from potstill.data.splits import TimeOrdered, stratify
from potstill.dataset_file.payload_io import (
    compress_parts,
    decode_input_tensor,
    encode_input_tensor,
    quantizes_normalised,
)
from potstill.dataset_file.series_io import decode_selected_series, encode_selected_series, selected_series
from potstill.dataset_file.text_io import (
    caption_part,
    charged_bytes,
    encode_texts,
    has_texts,
    texts_at,
    writes_texts,
)
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import Length, Pair
from potstill.evaluation.training_sets import TrainingSet
from potstill.execution import Executor, Serial
from potstill.functional.label_simplex import keep_largest
from potstill.kinds import get_kind
from potstill.rng import derive_seed, generator
from potstill.tasks import Classification, get_targets, get_task, is_ragged, join_targets, split_targets
from potstill.tasks.task import PackedTargets

__all__ = [
    "CHEAP_OPERATIONS", "LABEL_FORMS", "MAX_CODED_BYTES", "MIN_DRAWS", "TRIAL_PASSES",
    "BaselineContext", "Order", "SoftLabelFn", "SoftLabels", "baseline_byte_budget", "baseline_order",
    "count_exact_bytes", "count_strata", "estimate_items", "holds", "make_item_matched", "max_items_per_class",
    "min_bytes", "pack_samples", "proportional", "sizes_with_decoder", "take", "trial_steps",
]  # fmt: skip

Encodings: TypeAlias = Mapping[str, Encoded]
"""Encoded tensors by name; ``""`` for one that has no parts."""
SOFT_LABEL_BITS = 8
"""Bits per number of a soft label."""
HELD_OUT_FRACTION, MAX_HELD_OUT = 0.2, 1000
"""Fraction of the training data, and maximum number of samples, on which codecs are selected."""
TRIAL_STEPS = 100
"""Updates of a trial student of a small set; never more than a measured student makes."""
CHEAP_TRIALS = 4
"""Times as many where networks are cheap, as of tables: 100 mistake the better of two sets of 26 classes
(``benchmarks/trial_length.py``)."""
CHEAP_NETWORK = "mlp"
"""Network whose updates are cheap."""
TRIAL_PASSES = 10
"""Minimum passes of a trial student of a large set."""
MIN_DRAWS = 3
"""Minimum number of random draws measured, where further students are cheap."""
CHEAP_OPERATIONS = 2e12
"""Operations up to which further students count as cheap."""
MAX_VALUES = 1 << 24
"""Values of the training data that are looked at, for bytes and ranges of all."""
MAX_CODED_BYTES = 4 << 20
"""Budget above which sizes of plain codes are foreseen and not searched for by writing them."""

TEXTS = "texts"
"""Codec of real texts."""

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


def trial_steps(spec: InputSpec) -> int:
    """Return the updates of a trial student of a small set of such inputs."""
    return TRIAL_STEPS * (CHEAP_TRIALS if get_kind(spec).network == CHEAP_NETWORK else 1)


def baseline_byte_budget(sizes: Mapping[str, int]) -> int:
    """Return the bytes of a set without its whitening and its encoder of texts, which are applied to both sides."""
    return charged_bytes(sizes)


def sizes_with_decoder(metadata: Mapping[str, Any], decoder: str) -> dict[str, int]:
    """Return the bytes of a set by part, with those of what it decodes by where they are counted.

    Raises:
        PotstillError: ``decoder`` is none of its values.
    """
    if decoder not in ("counted", "shared"):
        raise PotstillError(f"`decoder=` must be counted or shared, not {decoder!r}")
    sizes, shared = dict(metadata["bytes"]), shared_decoder_bytes(metadata)
    if not shared or decoder == "shared":
        return sizes
    return sizes | {"shared_decoder": shared, "total": sizes["total"] + shared}


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
    trial: Length | None = None
    """Length of a trial student's training; ``None``: as the kind of input needs."""
    items: int | None = None
    """Number of samples in all, in place of bytes."""
    indexed: bool = False
    """Charge the positions of the samples, too, as a set's file has them."""
    executor: Executor = field(default_factory=Serial)

    @property
    def trial_length(self) -> Length:
        """Length of a trial student's training."""
        return self.trial or Length(steps=trial_steps(self.train.input), passes=TRIAL_PASSES)

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


@dataclass(frozen=True, kw_only=True)
class LabelForm:
    """Form in which soft labels are written."""

    bits: int
    """Bits of a number."""
    most: int | None = None
    """Classes of a sample that keep a probability, the largest; ``None``: all."""


LABEL_FORMS: Mapping[str, LabelForm] = {
    "soft": LabelForm(bits=SOFT_LABEL_BITS), "top3": LabelForm(bits=4, most=3),
}  # fmt: skip
"""Soft labels by name: all probabilities, or the three largest, which entropy coding writes in one or two bytes."""


class SoftLabels:
    """A teacher's soft labels of real samples, by position; computed once, at their first use.

    Args:
        rows: the teacher: probabilities of inputs in model space.
        form: one of `LABEL_FORMS`.
    """

    def __init__(self, train: Source, rows: SoftLabelFn, form: str = "soft") -> None:
        self.form = LABEL_FORMS[form]
        self._train, self._rows = train, rows
        self._kept: dict[int, Tensor] = {}

    def encode(self, index: Int[Tensor, " m"]) -> Encoded:
        """Return the labels of the samples at ``index`` as a file has them."""
        missing = [i for i in index.tolist() if i not in self._kept]
        if missing:
            x = single_tensor(self._train.fetch(torch.tensor(missing)).x, "a teacher's label")
            found = self._rows(x).cpu()
            if self.form.most is not None:
                found = keep_largest(found, self.form.most)
            self._kept |= dict(zip(missing, found, strict=True))
        return encode_probabilities(torch.stack([self._kept[i] for i in index.tolist()]), self.form.bits)


def _stored(
    train: Source, index: Tensor, codec: str, soft: "SoftLabels | bool", indexed: bool = False
) -> tuple[Encodings, Encodings]:
    """Encode the samples at ``index``: inputs by name, and targets.

    Args:
        soft: ``True``: placeholders of the right size.
        indexed: encode the positions, too, beside the targets.
    """
    k = len(train.classes)
    labels: dict[str, Encoded]
    if (windows := selected_series(train, index, parse_codec(codec))) is not None:
        labels = {"index": encode_ints(index)} if indexed else {}
        return encode_selected_series(windows[0], parse_codec(codec)), labels
    if isinstance(soft, SoftLabels):
        labels = {"": soft.encode(index)}
    elif soft:
        labels = {"": encode_probabilities(torch.full((len(index), k), 1 / k), SOFT_LABEL_BITS)}
    else:
        labels = dict(_targets_stored(train, index))
    if indexed:
        labels["index"] = encode_ints(index)
    if writes_texts(train, parse_codec(codec)):
        return encode_texts(texts_at(train, index)), labels
    x = train.raw(index)
    if not isinstance(x, Tensor):
        text = caption_part(train)
        texts = encode_texts(texts_at(train, index)) if text else {}
        return {**{name: _part(t, codec) for name, t in x.items() if name != text}, **texts}, labels
    picture = get_kind(train.input).value_range is not None
    return {"": encode_input_tensor(x.cpu(), parse_codec(codec), train.normalization, picture)}, labels


def _foreseen(train: Source, index: Tensor, codec: str, soft: "SoftLabels | bool") -> int:
    """Predict the size of `_stored` from shapes and labels alone."""
    inputs = estimate_bytes(parse_codec(codec), (len(index), *train.input.shape))
    if soft:
        bits = soft.form.bits if isinstance(soft, SoftLabels) else SOFT_LABEL_BITS
        return inputs + label_bytes(len(index), len(train.classes), bits)
    return inputs + sum(map(encoded_bytes, _targets_stored(train, index).values()))


def _part(x: Tensor, codec: str) -> Encoded:
    """Values by the codec, codes and words as they are."""
    return parse_codec(codec).pack(x) if x.is_floating_point() else encode_ints(x)


def _targets_stored(train: Source, index: Tensor) -> Encodings:
    if isinstance(get_task(train), Classification):
        return {"": encode_classes(train.labels[index], len(train.classes))}
    targets, task = get_targets(train)[index], get_task(train)
    if isinstance(task, PackedTargets):
        return {"": encode_ints(task.pack_targets(targets.cpu()))}
    if not is_ragged(task):
        return {"": _part(targets, "exact")}
    return {name: _part(t, "exact") for name, t in zip((VALUES, OFFSETS), split_targets(targets), strict=True)}


def _size(stored: tuple[Encodings, Encodings], labels: Tensor) -> int:
    """Return the bytes of samples in a file: of their arithmetic-coded streams, with hard labels as context."""
    return sum(encoded_bytes(part) for side in stored for part in compress_parts(side, labels).values())


def _context_labels(train: Source, index: Tensor, soft: object) -> Tensor:
    """Return the labels that a file with such labels has as a context: hard ones alone."""
    return torch.zeros(0) if soft else train.labels[index].cpu()


def take(order: Order, per_class: int) -> Int[Tensor, " m"]:
    """Return the first ``per_class`` samples of each class, or in proportion to the classes' sizes."""
    counts = order.counts(per_class) if isinstance(order, ProportionalOrder) else [per_class] * len(order)
    return torch.cat([of_class[:count] for of_class, count in zip(order, counts, strict=True)])


def max_items_per_class(
    train: Source, order: Order, byte_budget: int, codec: str, *, soft: SoftLabels | bool = False, guess: int = 1,
    indexed: bool = False,
) -> int:  # fmt: skip
    """Return the maximum number of samples per class that fit with their labels; smaller classes give all they have.

    0 if not even one of each fits. Size grows with the number of samples, except for small fluctuations of coded
    tensors; for them, return a number that fits next to one that does not.

    Args:
        soft: labels are soft ones.
        guess: start of the search; affects time only.
        indexed: positions of the samples are charged, too.
    """
    most = max(len(of_class) for of_class in order)

    def size(n: int) -> int | None:
        index = take(order, n)
        try:
            return _size(_stored(train, index, codec, soft, indexed), _context_labels(train, index, soft))
        except PotstillError:
            return None  # too many for one picture file, or values that the codec does not hold

    def foreseen(n: int) -> bool:
        return _foreseen(train, take(order, n), codec, soft) <= byte_budget

    if (
        not train.input.parts
        and codec != TEXTS
        and not isinstance(train, SeriesSource)
        and has_fixed_size(parse_codec(codec))
    ):
        with suppress(PotstillError):  # no such shapes
            found = _most(foreseen, most, guess)
            if byte_budget > MAX_CODED_BYTES and (found == 0 or (size(found) or 0) <= byte_budget):
                return found
            guess = found
    return _most_in_bytes(size, byte_budget, most, max(1, guess))


def _most_in_bytes(size: Callable[[int], int | None], budget: int, most: int, guess: int) -> int:
    """Return the largest number up to ``most`` whose size is within the budget, assuming monotonicity.

    Sizes are nearly proportional, so that each number tried is where a line through the last ones meets the budget.
    """
    low, high, low_size, high_size = 0, most + 1, 0.0, math.inf
    n = max(1, min(guess, most))
    while high - low > 1:
        found = size(n)
        if found is not None and found <= budget:
            low, low_size = n, found
        else:
            high, high_size = n, math.inf if found is None else found
        if high > most and low:
            n = min(most, max(low + 1, low * budget // max(1, round(low_size))))
        elif math.isinf(high_size):
            n = (low + high) // 2
        else:
            slope = (high_size - low_size) / (high - low)
            n = low + int((budget - low_size) / max(slope, 1e-9))
        n = min(high - 1, max(low + 1, n))
    return low


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
    rows: SoftLabelFn | SoftLabels | None = None,
) -> TrainingSet:
    """Return samples as decoded from their file, one pair for each draw.

    Args:
        rows: soft labels, or what gives them of the real inputs before they are packed.
    """
    pairs: list[Pair] = []
    sizes: list[int] = []
    captions: list[tuple[str, ...]] = []
    picture = get_kind(train.input).value_range is not None
    soft = rows if isinstance(rows, SoftLabels) or rows is None else SoftLabels(train, rows)
    for order in draws:
        index = take(order, per_class)
        inputs, labels = _stored(train, index, codec, soft=soft or False)
        if isinstance(train, SeriesSource):
            pairs.append(_series_pair(train, index, codec, inputs))
            captions.append(())
            sizes.append(_size((inputs, labels), _context_labels(train, index, soft)))
            continue
        y = join_targets(decode(labels[VALUES]), decode(labels[OFFSETS])) if VALUES in labels else decode(labels[""])
        y = task.unpack_targets(y) if isinstance(task := get_task(train), PackedTargets) else y
        texts: list[str] = []
        x: Inputs
        if codec == TEXTS:  # a reader encodes them as these were
            texts, x = texts_at(train, index), train.raw(index)
        else:
            x = {name: decode(part) for name, part in inputs.items()}
            if text := caption_part(train):  # a reader encodes the texts as these were
                vectors = named_tensors(train.raw(index))[text].cpu()
                x = {n: vectors if n == text else x[n] for n, _ in train.input.parts}
        if "" in inputs:
            x = decode_input_tensor(inputs[""], quantizes_normalised(parse_codec(codec), picture), train.normalization)
        pairs.append((train.normalization.apply(to_device(x, train.device)), y.to(train.device)))
        captions.append(tuple(texts))
        sizes.append(_size((inputs, labels), _context_labels(train, index, soft)))
    return TrainingSet(pairs=pairs, bytes=max(sizes), per_class=per_class, codec=codec, texts=tuple(captions))


def _series_pair(train: SeriesSource, index: Tensor, codec: str, inputs: Encodings) -> Pair:
    """Return windows in model space and their targets as decoded from the points that hold them."""
    windows = selected_series(train, index, parse_codec(codec))
    assert windows is not None
    x, y = decode_selected_series({n: decode(part) for n, part in inputs.items()}, windows[1], train)
    return train.normalization.apply(x.to(train.device)), y.to(train.device)


def baseline_order(train: Source, name: str, seed: int, draw: str, most: int | None = None) -> Order:
    """Return the samples of each class in the order of a selection (at most ``most`` of each)."""
    if name == "random":  # the same samples for every kind of random baseline
        return list(RealData.of_source(train).draw(len(train), generator(seed, "baseline", draw)))
    sizes = [most or len(train)] * count_strata(train)
    return order_samples(train, name, sizes, derive_seed(seed, "baseline", draw))


def proportional(train: Source, order: Order) -> Order:
    """Return the order from which classes are taken in proportion to their sizes."""
    return ProportionalOrder(order, torch.bincount(train.labels, minlength=len(order)).tolist())


def estimate_items(where: BaselineContext) -> int:
    """Return the approximate number of real samples that fit at 4 bits a value."""
    each = where.train.input.num_values / 2 + 1
    return int(min(len(where.train), max(count_strata(where.train), where.byte_budget / each)))


def make_item_matched(where: BaselineContext, counts: Sequence[int], draws: int) -> TrainingSet:
    """Return as many exact random samples of each class as the set has inputs, whatever their bytes."""
    taken = [
        [of_class[:count] for of_class, count in zip(order, counts, strict=True)]
        for order in (baseline_order(where.train, "random", where.seed, f"{n}") for n in range(draws))
    ]
    return pack_samples(where.train, taken, max(counts), TEXTS if has_texts(where.train) else "exact")


def min_bytes(train: Source, order: Order, codecs: Sequence[str], soft: SoftLabels | bool) -> int:
    """Return the bytes of one sample of each class in the smallest of some codecs."""
    sizes = []
    for codec in codecs:
        with suppress(PotstillError):  # values that it does not hold
            index = take(order, 1)
            sizes.append(_size(_stored(train, index, codec, soft), _context_labels(train, index, soft)))
    return min(sizes, default=0)


def holds(train: Source, codec: str) -> bool:
    """Return False for a codec that refuses the largest values of the training data, as float16 does above 65,504."""
    if train.input.parts or codec == TEXTS or get_kind(train.input).value_range is not None:
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


def count_exact_bytes(train: Source, most: int = MAX_VALUES) -> int:
    """Return the exact bytes of all samples with their labels: 8-bit pixels take 8 bits.

    Args:
        most: maximum number of values that are packed; larger data are extrapolated from that many.
    """
    index = _spread(train, most)
    stored: dict[str, Encoded]
    if (windows := selected_series(train, torch.arange(len(train)), parse_codec("exact"))) is not None:
        return sum(map(encoded_bytes, encode_selected_series(windows[0], parse_codec("exact")).values()))
    text = caption_part(train)
    stored = encode_texts(texts_at(train, index)) if text or has_texts(train) else {}
    if not has_texts(train):
        x = named_tensors(train.raw(index))
        stored |= {name: _part(part.cpu(), "exact") for name, part in x.items() if not text or name != text}
    inputs = sum(map(encoded_bytes, stored.values()))
    targets = _targets_stored(train, train.labels.argsort(stable=True))
    return round(inputs * len(train) / len(index)) + sum(map(encoded_bytes, targets.values()))
