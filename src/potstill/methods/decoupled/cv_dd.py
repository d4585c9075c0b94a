r"""CV-DD: Dataset Distillation via Committee Voting (Cui et al., arXiv:2501.07575).

.. math::
    \min_X \sum_{i \in \text{pair}} w_i \big( \ell(f_i(A(X)), y) + r R_i \big), \qquad
    w_i = \frac{e^{a_i / 5}}{\sum_j e^{a_j / 5}}, \qquad
    \text{label} = \mathrm{softmax}\Big( \sum_i \frac{e^{a_i / 10}}{\sum_j e^{a_j / 10}} f_i(x) \Big)

SRe2L++ with two of several teachers for each item of a class, another pair for the next item. a_i is a teacher's prior:
the accuracy, in percent, of a student of the set that was distilled from it alone (fixed numbers in recover.py). Labels
are given by all teachers, whose BatchNorms use the statistics of the few pictures they see at once (batch-specific soft
labels): the released code labels halves of batches of 16.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, combinations
from typing import ClassVar

import torch
from torch import Tensor

from potstill.core import MethodInfo, NonNegativeInt, Presets, Problem
from potstill.errors import PotstillError
from potstill.functional.statistics import record_statistics
from potstill.methods.decoupled._parts import ImageInitName
from potstill.methods.decoupled._realism import Rank
from potstill.methods.decoupled._recover import Recovery, RecoverySettings
from potstill.methods.decoupled._state import IterationContext, RecoverState, WeightedTeacher, plan_batches
from potstill.methods.decoupled._teachers import TeacherConfig, TeacherNetwork, teacher_logits
from potstill.methods.engine import AUTO, Auto, EngineMethod

__all__ = ["CVDD"]


def _softmax(values: list[float]) -> list[float]:
    top = max(values)
    powers = [math.exp(v - top) for v in values]
    return [p / sum(powers) for p in powers]


@dataclass(frozen=True, kw_only=True)
class CVDD(RecoverySettings, TeacherConfig, EngineMethod[RecoverState]):
    """SRe2L++ with pairs of teachers, in which the more accurate one counts more."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Distillation via Committee Voting", paper="arXiv:2501.07575", year=2025, family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 300, "batch": 16, "temperature": 20},
        use_when="Take it where unknown networks will be trained on many large pictures, and several teachers may be "
        "paid for.",
        avoid_when="Avoid it if time is short: each item asks two teachers, and it was no better than sre2l++ here.",
        related=("sre2l++", "g-vbsm", "edc"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "teacher_epochs": 10, "committee": "", "iterations": 400},
        "good": {"teacher_epochs": 6, "iterations": 300},
    }
    default_committee: ClassVar[tuple[str, ...]] = ("resnet50-batch", "convnet-batch", "vgg11-batch", "alexnet-batch")

    iterations: int = 4000
    """Steps per batch (recover.py)."""
    lr: float = 0.25
    """Learning rate (there)."""
    r_bn: float = 0.01
    """r: weight of the statistics (there)."""
    init_from: ImageInitName = "mosaic"
    """Initial images: mosaics."""
    init_rank: Rank = "medium"
    """Crops of mosaics: from the middle of the ranking (there)."""
    committee: Auto[str] = AUTO
    """Further teachers: network names separated by commas; by default those of resnet50-batch, convnet-batch,
    vgg11-batch and alexnet-batch that take the data. Ours; published are ResNet-50, ShuffleNetV2, MobileNetV2 and
    DenseNet-121."""
    priors: tuple[float, ...] = ()
    """a: accuracy of each teacher in percent, in the order of `network`, then `committee`. Empty: equal."""
    label_batch: NonNegativeInt = 8
    """Images labelled together with their own BatchNorm statistics; 0: with the running statistics."""

    def teacher_priors(self, problem: Problem) -> list[float]:
        """Return a, one for each teacher.

        Raises:
            PotstillError: their number differs from the number of teachers.
        """
        count = sum(n for _, _, n in self.teachers().architectures(problem))
        if self.priors and len(self.priors) != count:
            raise PotstillError(
                f"priors must have one number for each of the {count} teachers, but there are {len(self.priors)}; "
                "change them or leave them out"
            )
        return list(self.priors) or [0.0] * count

    def build_engine(self, problem: Problem) -> Recovery:
        priors = self.teacher_priors(problem)
        labeller = replace(
            self.labeller(),
            weights=tuple(_softmax([a / 10 for a in priors])),
            logits=partial(_logits_by_batches, size=self.label_batch) if self.label_batch else teacher_logits,
        )
        return replace(self.recovery(problem, labeller), teacher_schedule=partial(_teacher_pair, priors))


def _teacher_pair(priors: list[float], context: IterationContext) -> list[WeightedTeacher]:
    """Return the pair of teachers for a class's item: all pairs in turn."""
    item = int(context.items[0])
    slot = item - max(first for first in accumulate(context.problem.sizes, initial=0) if first <= item)
    pairs: list[tuple[int, ...]] = [*combinations(range(len(priors)), 2)] or [(0,)]
    pair = pairs[slot % len(pairs)]
    weights = _softmax([priors[i] / 5 for i in pair])
    return [WeightedTeacher(i, context.members[i], weight) for i, weight in zip(pair, weights, strict=True)]


def _logits_by_batches(member: TeacherNetwork, x: Tensor, problem: Problem, size: int) -> Tensor:
    """Return logits with the BatchNorm statistics of batches of about ``size`` images."""
    if len(x) < 2:
        return member.logits(x)
    order = torch.cat(plan_batches(problem.sizes, len(x), "slots")).to(x.device)  # neighbours of different classes
    logits = x.new_zeros(len(x), problem.num_classes)
    for index in _even_parts(order, size):
        logits[index] = _logits_with_batch_statistics(member, x[index])
    return logits


def _even_parts(order: Tensor, size: int) -> list[Tensor]:
    """Split into parts of nearly equal size, at least two each, as one image has no statistics."""
    return list(order.tensor_split(max(1, min(-(-len(order) // size), len(order) // 2))))


def _logits_with_batch_statistics(member: TeacherNetwork, x: Tensor) -> Tensor:
    """Return logits with the batch's own statistics, without dropout."""
    norms = [m for m in member.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    try:
        for norm in norms:
            norm.train()
        buffers = {n: t.clone() for n, t in member.weights.items()}  # which train mode writes into
        with torch.no_grad():
            return record_statistics(member.network, buffers, x, {})[0]
    finally:
        for norm in norms:
            norm.eval()
