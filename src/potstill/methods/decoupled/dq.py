r"""DQ: Dataset Quantization (Zhou et al., ICCV 2023, arXiv:2308.10524).

.. math::
    x_k = \arg\max_{x \in D_n \setminus S_n} \; \lambda \sum_{j \in D_n} s(x, j) - 2 \sum_{j \in S_n} s(x, j), \qquad
    D_{n+1} = D_n \setminus S_n, \qquad S^* = \bigcup_n \mathrm{uniform}(S_n)

Every class is divided into bins: each takes, of the samples that the bins before left, those with the greatest gain of
a graph cut. Then equally many random samples of each bin are kept, so that what typical samples show and what the odd
ones show are both there. s is half of one plus the cosine of the gradients that two samples give the last layer of a
trained network.

The published method then drops the patches of each picture that Grad-CAM finds unimportant, and has a pretrained masked
autoencoder fill them in again. That saves bytes and no pictures; it needs foreign weights and is left out.

One step chooses the samples of one class. Until then they are random.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Generator

from potstill.core import Asset, Method, MethodInfo, Metrics, NonNegativeInt, Presets, Problem, Selection, StepCost
from potstill.data.real_data import RealData
from potstill.functional.sampling import sample_distinct
from potstill.methods.decoupled._graph_cut import graph_cut_bins, last_layer_factors, share_out
from potstill.methods.decoupled._teachers import TeacherConfig
from potstill.methods.engine import require_tensor
from potstill.methods.selection._by_class import (
    SelectionState,
    advance,
    check_class_sizes,
    class_generator,
    largest_class_cost,
    random_selection,
)
from potstill.rng import generator

__all__ = ["DQ"]


@dataclass(frozen=True, kw_only=True)
class DQ(TeacherConfig, Method[SelectionState]):
    """Random real samples of every bin between typical and odd."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Quantization", paper="arXiv:2308.10524", year=2023, family="decoupled", is_selection=True,
        training={"optimizer": "sgd", "lr": 0.1, "epochs": 200, "batch": 16},
        class_independence="deletion",
        use_when="Take it to keep a large part of pictures evenly over typical and odd, as for training once on a "
        "third.",
        avoid_when="Avoid it for small sets: it was not told apart from random samples at any size here.",
        related=("graph-cut", "stratified", "ccs"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"network": "convnet-batch", "teacher_epochs": 10},
        "good": {"teacher_epochs": 20},
    }
    state_type: ClassVar[type] = SelectionState

    bins: int = 10
    """Bins of each class (CIFAR-10 there)."""
    graph_cut: float = 1.0
    """λ: what being near to all that is left counts (DeepCore's GraphCut, which the code uses)."""
    teacher_epochs: NonNegativeInt = 40
    """Passes that the network was trained for (-se there)."""
    labels: Literal["hard", "soft"] = "hard"
    """The classes (published), or one row of the network's per sample."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return self.teachers(needs_batch_norm=False).assets(problem)

    def init(self, problem: Problem, rng: Generator) -> SelectionState:
        check_class_sizes(problem)
        self.teachers().load(problem)
        return random_selection(problem, rng)

    def step(self, problem: Problem, state: SelectionState, rng: Generator) -> tuple[SelectionState, Metrics]:
        c, index = state.classes_done, problem.class_indices[state.classes_done]
        member, rng = self.teachers().load(problem)[0], class_generator(problem, state)
        logits, features = member.embed_samples(problem.train, index)
        y = torch.full((len(index),), c, device=logits.device)
        bins = graph_cut_bins(*last_layer_factors(logits, features, y), self.bins, self.graph_cut)
        selected = [
            rows.cpu()[sample_distinct(len(rows), m, rng)]
            for rows, m in zip(bins, share_out([len(b) for b in bins], problem.counts[c], rng), strict=True)
        ]
        right = float((logits.argmax(1) == c).float().mean())
        return advance(state, index[torch.cat(selected)]), {"right": right, "bins": float(len(bins))}

    def done(self, problem: Problem, state: SelectionState) -> bool:
        return state.classes_done == problem.num_classes

    def num_steps(self, problem: Problem) -> int:
        return problem.num_classes

    def result(self, problem: Problem, state: SelectionState) -> Selection:
        index = torch.cat(state.selected)
        rows = (
            None
            if self.labels == "hard"
            else self.labeller().soft_rows(problem, require_tensor(RealData.of(problem).batch(index).x))
        )
        return Selection(index=index, soft_labels=rows)

    def step_costs(self, problem: Problem, state: SelectionState) -> tuple[StepCost, ...]:
        own = largest_class_cost(
            problem, lambda c: self.step(problem, replace(state, classes_done=c), generator(0, "plan"))
        )
        return (own, self.labeller().step_cost(problem)) if self.labels == "soft" else (own,)
