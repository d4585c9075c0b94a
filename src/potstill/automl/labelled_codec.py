"""Codec of random samples that a network in the set labels: many coarse ones, or few clear ones.

Which is better depends on the data: grey clothes in two bits, photographs as cosine coefficients
(benchmarks/network_labels.py). So random samples of one part of the training data are written in each codec, as many as
fit; ridge regression on features of untrained networks learns the network's labels for views of them, and a small
student those of the best. Both are scored on another part. The network knows both parts, as it was trained on all; this
favours no codec, but scores are too high for new data. Test data are not read.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from potstill.augment.names import named_augmentation
from potstill.core import Source
from potstill.core.nested import single_tensor
from potstill.dataset_file.labeller_io import StoredLabeller
from potstill.evaluation.byte_matched_baselines import (
    BaselineContext,
    Order,
    baseline_order,
    max_items_per_class,
    pack_samples,
    proportional,
)
from potstill.evaluation.candidate_trials import make_probe, narrow_network
from potstill.evaluation.closed_form_screen import ClosedFormScreen
from potstill.evaluation.estimators import default_student
from potstill.evaluation.real_set_space import candidate_codecs
from potstill.kinds import get_kind
from potstill.rng import derive_seed

__all__ = ["CodecTrial", "rank_codecs"]

VIEWS = 3000
"""Labelled views that ridge regression learns. Ours: with 1,000 the order of codecs that are far apart is the same."""
FINALISTS, UPDATES, STUDENT_VIEWS, RATE = 3, 600, 10_000, 0.1
"""Codecs that a student learns, the best in closed form; its updates, its views and its learning rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecTrial:
    """A codec that was tried."""

    codec: str
    per_class: int
    """Samples of each class, or of the largest, that fit."""
    items: int
    bytes: int
    closed_form: float
    """Accuracy of ridge regression on samples of the training data that are in no set, a fraction."""
    accuracy: float | None = None
    """That of a small student; ``None``: none learned it."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "codec": self.codec, "per_class": self.per_class, "items": self.items, "bytes": self.bytes,
            "closed_form": self.closed_form, **({} if self.accuracy is None else {"accuracy": self.accuracy}),
        }  # fmt: skip


def rank_codecs(
    train: Source, labeller: StoredLabeller, byte_budget: int, *, seed: int, natural: bool = False,
    first: str = "uint2", report: Callable[[str, int, int], None] = lambda *_: None,
    is_late: Callable[[], bool] = lambda: False,
) -> list[CodecTrial]:  # fmt: skip
    """Return the codecs in which a sample of each class fits, the best first.

    Args:
        train: pictures or rows with classes.
        labeller: the trained network and its views.
        byte_budget: bytes of the samples, with their classes and positions.
        seed: of the draw, of the parts and of the untrained networks.
        natural: classes in proportion to their sizes; else equally many of each.
        first: the codec that is tried first, and of equal ones taken.
        report: called with a label, how many were tried, and of how many.
        is_late: returns whether the time is over; then no further one is tried.
    """
    make = narrow_network(default_student(train), train)
    where = BaselineContext(train=train, byte_budget=byte_budget, make=make, seed=seed, indexed=True)
    fit, held_out = where.parts()
    screen = ClosedFormScreen(make=make, held_out=held_out, seed=derive_seed(seed, "labelled"))
    order: Order = baseline_order(fit, "random", seed, "labelled")
    if natural:
        order = proportional(fit, order)
    every, classes = max(map(len, order)), len(train.classes)
    quick = get_kind(train.input).augmentable  # rows take no time
    families = [(first,), *candidate_codecs(train.input, quick=quick, byte_budget=byte_budget)]
    total, done, trials = len({codec for family in families for codec in family}), 0, dict[str, CodecTrial]()
    inputs = dict[str, Tensor]()
    for family in families:
        before = 0
        for codec in family:
            if codec in trials or before >= every or (trials and is_late()):
                continue
            n = max_items_per_class(fit, order, byte_budget, codec, guess=max(1, before), indexed=True)
            if n > before:  # a coarser one that holds no more has nothing for it
                made = pack_samples(fit, [order], n, codec)
                inputs[codec] = x = single_tensor(made.pairs[0][0], "a labeller")
                trials[codec] = CodecTrial(
                    codec=codec, per_class=n, items=len(x), bytes=made.bytes,
                    closed_form=screen.score(labeller.label(x, classes, VIEWS)),
                )  # fmt: skip
            before, done = max(before, n), done + 1
            report("codecs of samples that are labelled", done, total)
    ranked = sorted(trials.values(), key=lambda trial: -trial.closed_form)
    if len(ranked) > 1 and not is_late():
        probe = make_probe(make, train, held_out, students=1, seed=seed, steps=UPDATES, lr=RATE)
        probe = replace(probe, augment=named_augmentation("none", train))
        for n, trial in enumerate(ranked[:FINALISTS]):
            pair = labeller.label(inputs[trial.codec], classes, STUDENT_VIEWS)
            ranked[n] = replace(trial, accuracy=float(probe.student_scores([pair], [0]).mean()))
            report("students of labelled samples", n + 1, min(FINALISTS, len(ranked)))
            if is_late():
                break
    return sorted(ranked, key=lambda trial: (-(trial.accuracy or 0.0), -trial.closed_form))
