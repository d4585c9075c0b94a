r"""Prototypes of pairs: k-means of joint embeddings without any training, a control for methods that optimise pairs.

.. math:: \varphi(x, t) = \Big( \tfrac{v(x) - \bar v}{\sqrt{\operatorname{mean} \lVert v - \bar v \rVert^2}},\;
    w\, \tfrac{u(t) - \bar u}{\sqrt{\operatorname{mean} \lVert u - \bar u \rVert^2}} \Big)

v are the pixels of a picture and u the vector of its text, or its words counted; both views weigh equally, but for w. A
cluster gives the real pair nearest to its centre, or the mean picture with the mean text of its pairs.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, MethodInfo, Metrics, NonNegativeInt, Problem, Result, Synthetic
from potstill.data.real_data import RealData
from potstill.errors import PotstillError
from potstill.functional.coreset import k_means, medoids
from potstill.functional.features import joint_rows
from potstill.methods.engine.joint_pairs import CHUNK
from potstill.methods.selection._by_class import (
    ClassByClass,
    SelectionState,
    advance,
    class_generator,
    random_selection,
    selection_info,
)  # fmt: skip

__all__ = ["Prototypes"]


@dataclass(frozen=True, kw_only=True)
class Prototypes(ClassByClass[SelectionState]):
    """Centres of clusters of pairs, in which pictures and texts weigh equally."""

    info: ClassVar[MethodInfo] = selection_info(
        "Prototypes of pairs",
        "Lloyd, IEEE Trans. Inf. Theory 28(2), 1982",
        1982,
        tasks=("retrieval",),
        multi_input=True,
        use_when="Take it first for captioned pictures: without any training it was above random pairs in equal bytes, "
        "and level with learned ones of 100 pairs.",
        avoid_when="Avoid it where captions or pictures are often wrong: a lone pair may become a cluster of its own.",
        related=("k-means", "vl-distill", "random"),
    )
    state_type: ClassVar[type] = SelectionState

    keep: Literal["medoid", "mean"] = "medoid"
    """Keep the real pairs nearest to the centres, or the means of the clusters (of texts that are vectors)."""
    text_weight: float = 1.0
    """Weight w of texts beside pictures. Ours."""
    iterations: NonNegativeInt = 100
    """Maximum iterations of Lloyd's algorithm; stops when no pair changes its cluster. 0: the initial k-means++."""

    def init(self, problem: Problem, rng: Generator) -> SelectionState:
        words = [name for name, part in problem.train.input.parts if part.ragged]
        if self.keep == "mean" and words:
            raise PotstillError(
                f"prototypes have means of vectors, but {words[0]} of {problem.train.name} is words; read it with "
                '`representation="latent"`, or keep medoid'
            )
        first = random_selection(problem, rng)
        if self.keep == "medoid":
            return first
        x = RealData.of(problem).batch(torch.cat(first.selected)).x
        return SelectionState(selected=(_flat(x),), seed=first.seed)

    def step(self, problem: Problem, state: SelectionState, rng: Generator) -> tuple[SelectionState, Metrics]:
        index, m = torch.arange(len(problem.train)), problem.counts[0]
        real = RealData.of(problem)
        batches = [real.batch(some).x for some in torch.split(index, CHUNK)]
        rows = joint_rows(batches, problem.train.input, self.text_weight)
        centres, owner = k_means(rows, m, class_generator(problem, state), self.iterations)
        inertia = float((rows - centres[owner]).square().sum(1).mean())
        if self.keep == "medoid":
            return advance(state, medoids(rows, centres).cpu()), {"inertia": inertia}
        flat = torch.cat([_flat(x) for x in batches])
        sums = flat.new_zeros(m, flat.shape[1]).index_add(0, owner, flat)
        counts = torch.bincount(owner, minlength=m).clamp(min=1).to(sums)
        return advance(state, sums / counts[:, None]), {"inertia": inertia}

    def result(self, problem: Problem, state: SelectionState) -> Result:
        if self.keep == "medoid":
            return super().result(problem, state)
        rows, parts = torch.cat(state.selected), problem.train.input.parts
        pieces = torch.split(rows, [part.num_values for _, part in parts], 1)
        payload = {n: x.reshape(len(rows), *part.shape) for x, (n, part) in zip(pieces, parts, strict=True)}
        return Synthetic(payload=payload, labels=torch.arange(len(rows)))


def _flat(x: Inputs) -> Tensor:
    """Return all values of pairs of vectors as one row each, views in the order of the spec."""
    assert not isinstance(x, Tensor)
    return torch.cat([t.flatten(1) for t in x.values()], 1)
