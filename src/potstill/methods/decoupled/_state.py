"""What evolves while pictures are recovered, which items share a batch, and the statistics of the real data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from potstill.core import Problem
from potstill.data.passes import grouped
from potstill.functional.optim import adamw
from potstill.functional.statistics import Seen, watch
from potstill.functional.transforms import resize
from potstill.methods._matching import image
from potstill.methods.decoupled._teachers import CHUNK, Member, Rules

__all__ = ["Composition", "RecoverState", "Rules", "bounds", "measured", "moved", "overall", "plan", "rows_of"]

Composition: TypeAlias = Literal["slots", "classes", "class"]
"""Who shares a batch: one item of each class (``slots``), items in class order (``classes``), or those of one class."""


@dataclass(frozen=True, kw_only=True)
class RecoverState:
    """Batches are made one after the other; only the one under way has moments."""

    x: Tensor
    """All items in model space, classes in label order: finished, or as they begin."""
    batch: int = 0
    """Batches that are finished."""
    iteration: int = 0
    """Steps of the batch under way."""
    work: Tensor
    """Its items (b, c, h', w'), perhaps of another size; none before its first step."""
    first: Tensor
    second: Tensor
    count: Tensor
    """Steps that each of its items has moved (b,)."""
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """What else belongs to the batch under way."""
    real: Mapping[str, Tensor] = field(default_factory=dict)
    """Statistics of the real data."""

    @classmethod
    def of(cls, x: Tensor, real: Mapping[str, Tensor]) -> "RecoverState":
        """Before the first step."""
        none = x[:0]
        return cls(x=x, work=none, first=none, second=none, count=torch.zeros(0, dtype=torch.int64), real=real)

    def begun(self, work: Tensor, memory: Mapping[str, Tensor]) -> "RecoverState":
        """With these items under way, which have not moved."""
        still, count = torch.zeros_like(work), torch.zeros(len(work), dtype=torch.int64)
        return replace(self, work=work, first=still, second=still, count=count, memory=memory)

    def whole(self, items: Tensor | None) -> Tensor:
        """All items as they are now, where ``items`` are under way."""
        if items is None or len(self.work) == 0:
            return self.x
        x = self.x.clone()
        height, width = x.shape[2:]
        x[items.to(x.device)] = resize(self.work, (height, width))
        return x

    def finished(self, items: Tensor) -> "RecoverState":
        """With the batch under way put back."""
        made = RecoverState.of(self.whole(items), self.real)
        return replace(made, batch=self.batch + 1)


def plan(sizes: Sequence[int], batch: int, how: Composition) -> tuple[Tensor, ...]:
    """The items of each batch, by their positions in label order; every item is in exactly one."""
    starts = [sum(sizes[:c]) for c in range(len(sizes))]
    groups: list[list[int]]
    if how == "slots":
        groups = [[s + j for s, n in zip(starts, sizes, strict=True) if j < n] for j in range(max(sizes))]
    elif how == "class":
        groups = [list(range(s, s + n)) for s, n in zip(starts, sizes, strict=True)]
    else:
        groups = [list(range(sum(sizes)))]
    return tuple(part for g in groups for part in torch.split(torch.tensor(g), batch))


def bounds(problem: Problem) -> tuple[Tensor, Tensor] | None:
    """The least and greatest normalised values of pixels in [0, 1], each (1, c, 1, 1); none of whitened inputs."""
    normal = problem.train.normalization
    if normal.whitening is not None:
        return None  # a mix of pixels has no range of its own
    zero = torch.zeros(1, problem.train.input.shape[0], 1, 1, device=problem.train.device)
    return normal.apply(zero), normal.apply(zero + 1)


def moved(state: RecoverState, active: Tensor, grad: Tensor, lr: float) -> RecoverState:
    """After one step of Adam (β 0.5, 0.9) of the ``active`` items; each corrects its moments by its own count."""
    work, first, second = state.work.clone(), state.first.clone(), state.second.clone()
    count = state.count.clone()
    for made in sorted(set(state.count[active].tolist())):
        own = active & (state.count == made)
        here = own.to(work.device)
        after, m, v = adamw(
            {"": state.work[here]}, {"": grad[own[active].to(work.device)]}, {"": state.first[here]},
            {"": state.second[here]}, int(made), lr=lr, betas=(0.5, 0.9),
        )  # fmt: skip
        work[here], first[here], second[here] = after[""], m[""], v[""]
        count[own] += 1
    return replace(state, work=work, first=first, second=second, count=count, iteration=state.iteration + 1)


def measured(problem: Problem, member: Member, rules: Rules, groups: Sequence[Tensor]) -> dict[str, Tensor]:
    """What the layers of a teacher see of real samples: ``layer/statistic`` → one row for each group of indices.

    Moments are pooled over the passes, so that they do not depend on how many there are. Published code averages the
    variances of batches, which leaves out what the batches' means differ.

    Streamed data whose groups lie scattered over shards are passed once as they lie.
    """
    sizes = [len(group) for group in groups]
    pooled: list[dict[str, Tensor]] = [{} for _ in groups]
    for numbers, batch in grouped(problem.train, groups, CHUNK):
        x = image(batch.x)
        own = {g: (numbers == g).to(x.device) for g in sorted(set(numbers.tolist()))}
        with torch.no_grad():
            _, seen = watch(member.network, member.weights, x, {kind: _of_each(own, r) for kind, r in rules.items()})
        for g, here in own.items():
            flat = {
                f"{layer}/{name.partition('/')[2]}": value
                for layer, parts in seen.items() for name, value in parts.items() if name.startswith(f"{g}/")
            }  # fmt: skip
            for key, value in flat.items():
                if key.endswith("var"):  # the mean square, until all are in
                    value = value + flat[key.removesuffix("var") + "mean"].square()
                pooled[g][key] = pooled[g].get(key, 0.0) + value * (int(here.sum()) / sizes[g])
    rows: dict[str, list[Tensor]] = {}
    for one in pooled:
        for key, value in one.items():
            if key.endswith("var"):
                value = (value - one[key.removesuffix("var") + "mean"].square()).clamp_min(0)
            rows.setdefault(key, []).append(value)
    return {key: torch.stack(value) for key, value in rows.items()}


def _of_each(
    own: Mapping[int, Tensor], rule: Callable[[Tensor], Mapping[str, Tensor]]
) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """The rule for the samples of each group, by its number."""

    def of(a: Tensor) -> dict[str, Tensor]:
        parts = {g: rule(a if len(own) == 1 else a[here]) for g, here in own.items()}
        return {f"{g}/{name}": value for g, found in parts.items() for name, value in found.items()}

    return of


def rows_of(real: Mapping[str, Tensor], number: int, seen: Seen, y: Tensor) -> dict[str, dict[str, Tensor]]:
    """The mean over items of the rows of their classes ``y``, of teacher ``number``, for every statistic of ``seen``.

    Args:
        real: ``number/layer/statistic`` → (classes, …), of what `measured` returned.
    """
    return {
        layer: {name: real[f"{number}/{layer}/{name}"][y].mean(0) for name in parts} for layer, parts in seen.items()
    }


def overall(rows: Mapping[str, Tensor], sizes: Sequence[int]) -> dict[str, Tensor]:
    """The moments of all samples, from those of groups of ``sizes``: what `measured` gives for the groups' union."""
    made: dict[str, Tensor] = {}
    for key, value in rows.items():
        part = torch.tensor(sizes, dtype=value.dtype, device=value.device) / sum(sizes)
        if key.endswith("var"):
            mean = rows[key.removesuffix("var") + "mean"]
            made[key] = (part @ (value + mean.square()) - (part @ mean).square()).clamp_min(0)
        else:
            made[key] = part @ value
    return made
