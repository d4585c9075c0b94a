r"""Kennard–Stone: the two samples farthest apart, then always the one farthest from all that are chosen.

Kennard and Stone, Computer Aided Design of Experiments, Technometrics 11(1), 1969, doi:10.1080/00401706.1969.10490666.

.. math:: p_t = \arg\max_x \min_{j<t} \lVert x - p_j \rVert

It needs no classes: where there are some, each is covered for itself.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, Metrics, Problem, Selection


@dataclass(frozen=True, kw_only=True)
class Chosen:
    index: tuple[Tensor, ...]
    """By group; the first samples of those that are still to come, so that every state has a result."""
    groups_done: int = 0


@dataclass(frozen=True, kw_only=True)
class KennardStone(Method[Chosen]):
    """Real samples that cover the data evenly, edges first."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Kennard–Stone", paper="doi:10.1080/00401706.1969.10490666", year=1969, family="selection",
        is_selection=True,
        kinds=("*",), tasks=("*",),
    )  # fmt: skip
    state_type: ClassVar[type] = Chosen

    def init(self, problem: Problem, rng: Generator) -> Chosen:
        return Chosen(index=tuple(own[:m] for own, m in zip(problem.class_indices, problem.counts, strict=True)))

    def step(self, problem: Problem, state: Chosen, rng: Generator) -> tuple[Chosen, Metrics]:
        c = state.groups_done
        own, m = problem.class_indices[c], min(problem.counts[c], len(problem.class_indices[c]))
        rows = problem.train.fetch(own).x.flatten(1)
        apart = torch.cdist(rows, rows)
        kept = [int(apart.argmax()) // len(rows)]
        near = apart[kept[0]].clone()
        while len(kept) < m:
            near[kept] = -1.0  # never twice, also where samples are equal
            kept.append(int(near.argmax()))
            near = torch.minimum(near, apart[kept[-1]])
        index = (*state.index[:c], own[kept], *state.index[c + 1 :])
        return Chosen(index=index, groups_done=c + 1), {"radius": float(near.max())}

    def done(self, problem: Problem, state: Chosen) -> bool:
        return state.groups_done == problem.num_classes

    def result(self, problem: Problem, state: Chosen) -> Selection:
        return Selection(index=torch.cat(state.index))

    def num_steps(self, problem: Problem) -> int:
        return problem.num_classes
