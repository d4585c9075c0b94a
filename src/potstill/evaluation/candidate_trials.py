"""Trials of candidate training sets by small students: which set teaches more, and what fewer bits cost.

All candidates are trained by the same students (starts, orders, augmentations, updates) and tested on the same held-out
real samples, so that comparisons are paired. Cost is counted in operations, not seconds: selections depend on data and
seed alone.
"""

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit  # type: ignore[import-untyped]
from torch import Tensor

from potstill._util.progress import Callback
from potstill.augment.names import named_augmentation
from potstill.core import Augmentation, Inputs, InputSpec, NetworkFactory, Source
from potstill.core.nested import num_samples
from potstill.data.splits import stratify
from potstill.errors import PotstillError
from potstill.evaluation.estimators import LearnerFactory
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.protocols import POTSTILL as PROTOCOL
from potstill.evaluation.student import StudentJob
from potstill.evaluation.vmap_students import default_group_size, predict_all
from potstill.execution import Executor, Serial, choose_executor
from potstill.nn import factory, flops
from potstill.rng import derive_seed
from potstill.tasks import Classification, get_targets, get_task

__all__ = [
    "MARGIN", "MAX_OPERATIONS", "AccuracyLoss", "Candidate", "Length", "Pair", "Probe", "choose_fewest_bits",
    "count_operations", "estimate_search_seconds", "held_out_indices", "make_probe", "narrow_network", "paired_loss",
]  # fmt: skip

Pair = tuple[Inputs, Tensor]
"""Inputs in model space (n, …) and targets as the task has them: int64 classes (n,) or float rows (n, k)."""

NARROW_WIDTH = 32
"""Width of a trial ConvNet: a quarter of the published width, a tenth of its operations."""
STEPS, BATCH, LR = 60, 32, 0.03
"""Updates, batch size and learning rate of a trial student."""
MAX_UPDATES = 1500
"""Updates up to which a trial student of a large set is trained longer, so that it sees every sample several times."""
STUDENTS = (4, 12)
"""Minimum and maximum number of students on each candidate of `choose_fewest_bits`."""
TYPICAL_SETS = 4
"""Sets tried where the middle candidate is the choice or next to it; divides the operations budget."""
MAX_HELD_OUT = 1500
"""Maximum number of held-out samples."""
MARGIN = 0.005
"""Tolerated accuracy loss of fewer bits, as a fraction."""
MAX_OPERATIONS = 2e12
"""Operations budget of `choose_fewest_bits`: a minute or two of one core. Ours."""
SPEED = 1e10
"""Operations per second and core, to decide whether to start processes."""


def count_operations(make: NetworkFactory, spec: InputSpec) -> float:
    """Return the operations of one forward pass: two per parameter for named inputs (words have no fixed length), 1 for
    a learner, which is fitted in no time.
    """
    if isinstance(make, LearnerFactory):
        return 1.0
    if spec.parts:
        return 2.0 * sum(p.numel() for p in make(0).parameters())
    return float(flops(make(0), spec.shape))


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """Length of a trial: ``steps`` updates, or more for ``passes`` over a large set.

    Large sets in few bits need more updates than small ones before they show what they teach
    (``benchmarks/trial_length.py``).
    """

    steps: int = STEPS
    passes: int = 0
    """Minimum passes over all samples."""
    most: int = MAX_UPDATES
    """Updates that passes do not exceed."""

    def updates(self, samples: int, batch: int = BATCH) -> int:
        """Return the updates of a student on a set of ``samples``."""
        return max(self.steps, min(self.most, self.passes * math.ceil(samples / batch)))


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Small students and the held-out samples that they are tested on."""

    make: NetworkFactory
    held_out: Source
    """Real samples that are in no candidate, unless stated otherwise where it is made."""
    protocol: Protocol
    """Resolved, with one rate and one length."""
    augment: Augmentation
    students: int
    seed: int
    length: Length = field(default_factory=Length)
    executor: Executor = field(default_factory=Serial)

    def updates(self, samples: int) -> int:
        """Return the updates of one student on a set of ``samples``."""
        return self.length.updates(samples, self.protocol.recipe.batch)

    def operations(self, samples: int) -> float:
        """Return the operations of one student's updates and answers on a set of ``samples``."""
        one = count_operations(self.make, self.held_out.input)
        updates = self.updates(samples) * min(samples, self.protocol.recipe.batch)
        return float(one * (3 * updates + len(self.held_out)))

    def predict(
        self,
        candidates: Sequence[Sequence[Pair]],
        weights: Tensor | None = None,
        students: Sequence[int] | None = None,
        texts: Sequence[Sequence[str]] = (),
    ) -> list[list[Tensor | None]]:
        """Return each student's answers on the held-out samples for each candidate; ``None`` for one that diverged.

        Args:
            candidates: for each, one pair for all students, or one per student.
            weights: loss weight of each sample (n,), mean 1, in every candidate.
            students: numbers of the students to train; all by default.
            texts: real texts of each pair's inputs, for learners that read them.
        """  # fmt: skip
        numbers, task = range(self.students) if students is None else students, get_task(self.held_out)
        jobs = [
            StudentJob(
                make=self.make, x=pairs[n % len(pairs)][0], y=pairs[n % len(pairs)][1], protocol=self.protocol,
                lr=self.protocol.recipe.lr[0], steps=self.updates(num_samples(pairs[n % len(pairs)][0])),
                augment=self.augment, weights=weights, seed=derive_seed(self.seed, "probe", n), task=task,
                texts=texts[n % len(texts)] if texts else (),
            )
            for pairs in candidates for n in numbers
        ]  # fmt: skip
        found = list(predict_all(self.held_out, jobs, self.executor, default_group_size(self.make.device)))
        return [found[i : i + len(numbers)] for i in range(0, len(found), len(numbers))]

    def correct(
        self,
        candidates: Sequence[Sequence[Pair]],
        weights: Tensor | None = None,
        students: Sequence[int] | None = None,
        texts: Sequence[Sequence[str]] = (),
    ) -> list[Bool[Tensor, "students held"]]:
        """Return which held-out samples each student classifies correctly; none for one that diverged."""
        none = torch.zeros(len(self.held_out), dtype=torch.bool)
        return [
            torch.stack([none if said is None else said.cpu() == self.held_out.labels for said in of_one])
            for of_one in self.predict(candidates, weights, students, texts)
        ]

    def student_scores(
        self, pairs: Sequence[Pair], students: Sequence[int], texts: Sequence[Sequence[str]] = ()
    ) -> Float[Tensor, "students parts"]:
        """Return parts of each student's score on one candidate, whose mean over students and parts is the mean score:
        correct samples for classification, else the score itself.
        """
        task, targets = get_task(self.held_out), get_targets(self.held_out)
        if isinstance(task, Classification):
            return self.correct([pairs], students=students, texts=texts)[0].double()
        (found,) = self.predict([pairs], students=students, texts=texts)
        scores = [task.chance_score(targets) if said is None else task.score(said.cpu(), targets) for said in found]
        return torch.tensor(scores, dtype=torch.float64)[:, None]


def narrow_network(make: NetworkFactory, train: Source) -> NetworkFactory:
    """Return a cheaper network of the same family if there is one: a ConvNet of `NARROW_WIDTH` channels, or the learner
    that an expensive learner names.
    """
    if isinstance(make, LearnerFactory):
        return make.for_trials()
    match = re.match(r"(convnet-d\d+-w)(\d+)", make.name)
    if match is None or int(match[2]) <= NARROW_WIDTH:
        return make
    name = f"{match[1]}{NARROW_WIDTH}{make.name[match.end() :]}"
    return factory(name, train.input, get_task(train).outputs, make.device, normalization=train.normalization)


def held_out_indices(
    train: Source, seed: int, *, max_samples: int = MAX_HELD_OUT, without: Int[Tensor, " m"] | None = None
) -> Int[Tensor, " h"]:
    """Return indices of test samples, stratified by class, about ``max_samples`` at most.

    Args:
        without: indices of samples that candidates are made of.
    """
    left = torch.ones(len(train), dtype=torch.bool)
    if without is not None:
        left[without.cpu()] = False
    (index,) = torch.where(left)
    if len(index) <= max_samples:
        return index
    return index[stratify(train.labels[index], max_samples / len(index), derive_seed(seed, "probe", "held") % 2**31)[1]]


def make_probe(
    make: NetworkFactory, train: Source, held_out: Source, *, students: int, seed: int, steps: int | Length = STEPS,
    lr: float = LR, executor: Executor | None = None,
) -> Probe:  # fmt: skip
    """Return a probe with a narrow network of ``make``'s family and the augmentation of the protocol ``potstill``.

    Args:
        steps: updates of a student, or the length of a trial.
    """
    small = narrow_network(make, train)
    length = steps if isinstance(steps, Length) else Length(steps=steps)
    protocol = PROTOCOL.override(steps=length.steps, batch=BATCH, lr=lr, least_epochs=0)
    protocol = protocol.resolve(train.name, small.name, train.input)
    return Probe(
        make=small, held_out=held_out, protocol=protocol, students=students, seed=seed, length=length,
        executor=executor or Serial(),
        augment=named_augmentation(protocol.recipe.augment, train, moves_targets=True),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyLoss:
    """Accuracy loss of one candidate against another, as a fraction."""

    mean: float
    low: float
    """Lower one-sided confidence bound."""
    high: float
    """Upper one-sided confidence bound."""


Correct: TypeAlias = Bool[Tensor, "students held"] | Float[Tensor, "students held"]
"""Correctness of each student on each held-out sample: bool, or the fraction of several sets."""


def paired_loss(full: Correct, fewer: Correct, confidence: float = 0.95) -> AccuracyLoss:
    """Return the loss of ``fewer`` against ``full``, paired over students and samples.

    Two crossed random effects, one observation per cell: the variance of the mean difference is that of students' means
    plus that of samples' means less the residual's, each over their numbers, with Satterthwaite's degrees of freedom.

    Args:
        confidence: of each bound, one-sided.
    """
    d = full.double() - fewer.double()
    students, samples = d.shape
    mean = float(d.mean())
    by_student, by_sample = d.mean(1), d.mean(0)
    one = float(by_student.var()) / students if students > 1 else 0.0
    other = float(by_sample.var()) / samples if samples > 1 else 0.0
    left = 0.0
    if students > 1 and samples > 1:
        rest = d - by_student[:, None] - by_sample + mean
        left = float(rest.square().sum()) / ((students - 1) * (samples - 1)) / (students * samples)
    variance = max(one + other - left, one, other)
    if variance == 0:
        return AccuracyLoss(mean=mean, low=mean, high=mean)
    free = variance**2 / (one**2 / max(1, students - 1) + other**2 / max(1, samples - 1))
    half = float(stdtrit(free, confidence)) * variance**0.5
    return AccuracyLoss(mean=mean, low=mean - half, high=mean + half)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A codec to try."""

    name: str
    """Codec spec: ``uint4``."""
    load: Callable[[], tuple[Pair, int]]
    """Return the set as decoded from its file, and its bytes; called only if the candidate is tried."""


def estimate_search_seconds(train: Source, make: NetworkFactory, samples: int) -> tuple[float, float]:
    """Return the minimum (if anything is tried) and maximum seconds of `choose_fewest_bits` for ``samples``."""
    if not isinstance(get_task(train), Classification):
        return 0.0, 0.0
    held = held_out_indices(train, 0)
    probe = make_probe(make, train, train.subset(held), students=STUDENTS[1], seed=0)  # type: ignore[attr-defined]
    all_sets = TYPICAL_SETS * probe.operations(samples) / SPEED
    return STUDENTS[0] * all_sets, min(STUDENTS[1] * all_sets, MAX_OPERATIONS / SPEED)


def choose_fewest_bits(
    full: Pair,
    candidates: Sequence[Candidate],
    train: Source,
    make: NetworkFactory,
    *,
    seed: int,
    weights: Tensor | None = None,
    made_of: Int[Tensor, " m"] | None = None,
    executor: Executor | None = None,
    progress: Callback | None = None,
    seconds: float | None = None,
) -> tuple[Candidate | None, dict[str, Any]]:
    """Return the candidate of fewest bits that loses no accuracy against ``full``, shown by a non-inferiority test.

    A candidate passes only when the upper end of the one-sided 95% interval of its loss stays within half a point
    (`MARGIN`), paired over students and held-out samples. The middle candidate is tried first; then downwards until one
    fails, or upwards until one passes. If none passes, the first candidate (most bits) is taken, unless it is shown to
    lose and loses more than half a point: then the choice is ``None``, which is ``full`` itself. The held-out samples
    are
    some of those that a synthetic set was made of: the comparison is of the set with itself, rounded.

    Students come in two halves: if the first is conclusive at 97.5%, the second is skipped. If `MAX_OPERATIONS` do not
    pay for the fewest `STUDENTS` on `TYPICAL_SETS` sets, nothing is tried, and the first candidate is taken unprobed.

    Args:
        full: the set as it was made, in model space.
        candidates: from many bits to few, at least one.
        train: real samples to test on.
        make: the set's network.
        weights: of the set's samples, mean 1.
        made_of: indices of samples that a selection holds, excluded from the test.
        executor: runs the students; the result does not depend on it.
        progress: called with a label, candidates tried, and candidates in all.
        seconds: time limit. A timed student converts it to operations; the result then depends on this machine, too.

    Returns:
        The choice, and JSON that explains it: ``chosen``, ``why``, ``probed``, and if probed
        ``margin``, ``tried`` (``name``, ``bytes``, ``accuracy``, ``loss`` with its interval, ``passed``),
        ``students``, ``samples``, ``network``, ``operations``.

    Raises:
        PotstillError: there is no candidate.
    """
    if not candidates:
        raise PotstillError("there is no way to write the set among which to choose; give one at least")
    first = candidates[0]

    def unprobed(why: str) -> tuple[Candidate, dict[str, Any]]:
        return first, {"chosen": first.name, "probed": False, "why": why}

    if not isinstance(get_task(train), Classification):
        return unprobed("what fewer bits lose is known of accuracy alone")
    held = held_out_indices(train, seed, without=made_of)
    if len(held) == 0:
        return unprobed("there are no samples to ask about")
    test_source: Source = train.subset(held)  # type: ignore[attr-defined]
    probe = make_probe(make, train, test_source, students=STUDENTS[1], seed=seed)
    one = probe.operations(num_samples(full[0]))
    max_operations, within = MAX_OPERATIONS, ""
    if seconds is not None:
        begun = time.monotonic()
        if seconds > one / SPEED:  # else not even this one would fit
            probe.correct([[full]], weights, [0])
        took = max(time.monotonic() - begun, one / SPEED)
        max_operations = min(max_operations, one * (seconds - took) / took)
        within = " in what is left of the time limit"
    students = min(STUDENTS[1], int(max_operations / (one * TYPICAL_SETS)))
    if students < STUDENTS[0]:
        return unprobed(
            f"it would take {STUDENTS[0] * TYPICAL_SETS * one:.1e} operations, "
            f"more than {f'{max_operations:.1e}' if max_operations > 0 else 'there is time for'}{within}"
        )
    if executor is None:
        is_long = students * one * TYPICAL_SETS / SPEED > 20
        executor = choose_executor(students, make.device, make) if is_long else Serial()
    bench = _Pairs(
        probe=replace(probe, students=students, executor=executor), full=full, weights=weights,
        operations_left=max_operations - one, say=progress or (lambda what, done, total: None), candidates=candidates,
    )  # fmt: skip
    at = len(candidates) // 2
    while 0 <= at < len(candidates) and at not in bench.tried and (passed := bench.passes(at)) is not None:
        at += 1 if passed else -1
    best = max((n for n, t in bench.tried.items() if t["passed"]), default=None)
    choice: Candidate | None
    if best is not None:
        choice, why = candidates[best], "the fewest bits of which it is shown that they lose less than half a point"
    elif 0 in bench.tried and bench.tried[0]["loss"]["low"] > 0 and bench.tried[0]["loss"]["mean"] > MARGIN:
        choice, why = None, "every candidate is shown to lose"
    else:
        choice, why = first, "a loss of half a point could not be ruled out for fewer bits"
    return choice, {
        "chosen": None if choice is None else choice.name, "probed": True, "why": why, "margin": MARGIN,
        "students": students, "samples": len(held), "network": probe.make.name, "steps": probe.protocol.recipe.steps[0],
        "operations": max_operations - bench.operations_left, "accuracy": bench.accuracy,
        "tried": list(bench.tried.values()),
    }  # fmt: skip


@dataclass(kw_only=True)
class _Pairs:
    """A set and its candidates on the same students, in two halves."""

    probe: Probe
    full: Pair
    weights: Tensor | None
    candidates: Sequence[Candidate]
    operations_left: float
    say: Callback
    full_correct: list[Tensor] = field(default_factory=list)
    """Correctness of the set's own students, for each half."""
    tried: dict[int, dict[str, Any]] = field(default_factory=dict)

    def _halves(self) -> list[range]:
        n, fewest = self.probe.students, STUDENTS[0]
        return [range(n)] if n < 2 * fewest else [range(n // 2), range(n // 2, n)]

    def _right(self, pair: Pair, half: range) -> Tensor | None:
        cost = self.probe.operations(num_samples(pair[0])) * len(half)
        if cost > self.operations_left:
            return None
        self.operations_left -= cost
        return self.probe.correct([[pair]], self.weights, half)[0]

    @property
    def accuracy(self) -> dict[str, Any]:
        return _accuracies(torch.cat(self.full_correct))

    def passes(self, at: int) -> bool | None:
        """Test a candidate; ``None`` if the remaining operations do not pay for it."""
        self.say("how few bits", len(self.tried), len(self.candidates))
        candidate, found, halves = self.candidates[at], list[Tensor](), self._halves()
        pair, size = candidate.load()
        sure = 1 - 0.05 / len(halves)  # each half is looked at, so each look is surer
        for number, half in enumerate(halves):
            if number == len(self.full_correct):
                own = self._right(self.full, half)
                if own is None:
                    break
                self.full_correct.append(own)
            said = self._right(pair, half)
            if said is None:
                break
            found.append(said)
            loss = paired_loss(torch.cat(self.full_correct[: len(found)]), torch.cat(found), sure)
            if loss.high <= MARGIN or loss.low > 0:
                break
        if not found:
            return None
        passed = loss.high <= MARGIN
        self.tried[at] = {
            "name": candidate.name, "bytes": size, "accuracy": _accuracies(torch.cat(found)),
            "loss": {"mean": loss.mean, "low": loss.low, "high": loss.high}, "passed": passed,
        }  # fmt: skip
        return passed


def _accuracies(right: Tensor) -> dict[str, Any]:
    values = right.double().mean(1)
    return {"mean": float(values.mean()), "values": values.tolist(), "n": len(values)}
