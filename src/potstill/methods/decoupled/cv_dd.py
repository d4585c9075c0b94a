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
from typing import ClassVar, Literal

import torch
from torch import Tensor

from potstill.core import MethodInfo, Presets, Problem
from potstill.errors import PotstillError
from potstill.functional.statistics import record_statistics
from potstill.methods.decoupled._recover import EngineMethod, Recovering, RecoverState, Recovery, Taught
from potstill.methods.decoupled._state import plan
from potstill.methods.decoupled._teachers import Member, of_member
from potstill.methods.decoupled._turn import Turn, Voice
from potstill.methods.engine import AUTO, Auto

__all__ = ["CVDD"]


def _softmax(values: list[float]) -> list[float]:
    top = max(values)
    powers = [math.exp(v - top) for v in values]
    return [p / sum(powers) for p in powers]


@dataclass(frozen=True, kw_only=True)
class CVDD(Recovering, Taught, EngineMethod[RecoverState]):
    """SRe2L++ with pairs of teachers, in which the more accurate one counts more."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Distillation via Committee Voting",
        paper="arXiv:2501.07575",
        year=2025,
        family="decoupled",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 300, "batch": 16, "temperature": 20},
    )
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "epochs_trained": 10, "committee": "", "iterations": 400},
        "good": {"epochs_trained": 6, "iterations": 300},
    }
    may_be_zero: ClassVar[tuple[str, ...]] = (*Recovering.may_be_zero, "batch_labels")
    usual: ClassVar[tuple[str, ...]] = ("resnet50-batch", "convnet-batch", "vgg11-batch", "alexnet-batch")

    iterations: int = 4000
    """Steps of each batch (recover.py)."""
    lr: float = 0.25
    """Learning rate (there)."""
    r_bn: float = 0.01
    """r: weight of the statistics (there)."""
    init_from: Literal["noise", "real", "mosaic"] = "mosaic"
    """Begin with mosaics."""
    start_rank: Literal["lowest", "medium"] = "medium"
    """Of crops in the middle of the ranking (there)."""
    committee: Auto[str] = AUTO
    """Further teachers: their networks' names, with commas between; by default those of resnet50-batch, convnet-batch,
    vgg11-batch and alexnet-batch that can take the data. Ours; published are ResNet-50, ShuffleNetV2, MobileNetV2 and
    DenseNet-121."""
    priors: tuple[float, ...] = ()
    """a: the accuracy of each teacher, in percent, in the order of `network`, then `committee`. Empty: all the same."""
    batch_labels: int = 8
    """Pictures that are labelled at once, with their own BatchNorm statistics; 0: with the running ones."""

    def worth(self, problem: Problem) -> list[float]:
        """a, one for each teacher.

        Raises:
            PotstillError: there are not as many as teachers.
        """
        count = sum(n for _, _, n in self.teachers().architectures(problem))
        if self.priors and len(self.priors) != count:
            raise PotstillError(
                f"priors must have one number for each of the {count} teachers, but there are {len(self.priors)}; "
                "change them or leave them out"
            )
        return list(self.priors) or [0.0] * count

    def build_engine(self, problem: Problem) -> Recovery:
        worth = self.worth(problem)
        labeller = replace(
            self.labeller(),
            votes=tuple(_softmax([a / 10 for a in worth])),
            logits=partial(_of_batches, most=self.batch_labels) if self.batch_labels else of_member,
        )
        return replace(self.recovery(problem, labeller), voices=partial(_pair, worth))


def _pair(worth: list[float], turn: Turn) -> list[Voice]:
    """The teachers for a class's item: all pairs in turn."""
    item = int(turn.items[0])
    slot = item - max(first for first in accumulate(turn.problem.sizes, initial=0) if first <= item)
    pairs: list[tuple[int, ...]] = [*combinations(range(len(worth)), 2)] or [(0,)]
    chosen = pairs[slot % len(pairs)]
    weights = _softmax([worth[i] / 5 for i in chosen])
    return [Voice(i, turn.members[i], weight) for i, weight in zip(chosen, weights, strict=True)]


def _of_batches(member: Member, x: Tensor, problem: Problem, most: int) -> Tensor:
    """Logits of pictures by the statistics of so many of them at once."""
    if len(x) < 2:
        return member.logits(x)
    order = torch.cat(plan(problem.sizes, len(x), "slots")).to(x.device)  # neighbours of different classes
    logits = x.new_zeros(len(x), problem.num_classes)
    for index in _together(order, most):
        logits[index] = _of_the_batch(member, x[index])
    return logits


def _together(order: Tensor, most: int) -> list[Tensor]:
    """Parts of nearly equal size, of at least two: a single picture has no statistics to speak of."""
    return list(order.tensor_split(max(1, min(-(-len(order) // most), len(order) // 2))))


def _of_the_batch(member: Member, x: Tensor) -> Tensor:
    """Logits with the batch's own statistics; dropout is left out."""
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
