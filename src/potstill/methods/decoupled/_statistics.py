"""What of the teachers' layers is matched: real statistics, and how far a batch is from them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from potstill.core import Problem
from potstill.data.iterate import iterate_groups
from potstill.functional.statistics import (
    LayerStatistics,
    batch_norm_statistics,
    convolution_statistics,
    record_statistics,
    statistics_distance,
    update_averages,
)
from potstill.methods.decoupled._teachers import CHUNK, Member, Rules
from potstill.methods.decoupled._turn import Turn, Voice
from potstill.methods.engine import require_tensor

__all__ = ["Broad", "Match", "OfClasses", "Running", "measured", "overall", "rows_of"]


@runtime_checkable
class Match(Protocol):
    """What is matched, of which layers."""

    @property
    def rules(self) -> Rules:
        """What is taken from the inputs of which layers."""
        ...

    def real(self, problem: Problem, members: Sequence[Member]) -> Mapping[str, Tensor]:
        """What is taken from the real data before the first step."""
        ...

    def distance(self, turn: Turn, voice: Voice, seen: LayerStatistics) -> tuple[Tensor, Mapping[str, Tensor]]:
        """How far the batch's statistics are from the real ones, and what the batch remembers of it from now on."""
        ...


@dataclass(frozen=True, kw_only=True)
class Running:
    """BatchNorms against their running statistics."""

    first: float
    """What the first layer counts, where the others count 1."""
    var: float = 1.0
    """What a variance counts, where a mean counts 1."""

    @property
    def rules(self) -> Rules:
        return {nn.BatchNorm2d: batch_norm_statistics}

    def real(self, problem: Problem, members: Sequence[Member]) -> Mapping[str, Tensor]:
        return {}

    def distance(self, turn: Turn, voice: Voice, seen: LayerStatistics) -> tuple[Tensor, Mapping[str, Tensor]]:
        return statistics_distance(seen, voice.member.running(), first=self.first, var_weight=self.var), {}


@dataclass(frozen=True, kw_only=True)
class OfClasses:
    """BatchNorms against those of all real samples of the batch's class (LPLD, WMDD).

    Where a batch is of several classes, against the mean of its items' classes.
    """

    first: float

    @property
    def rules(self) -> Rules:
        return {nn.BatchNorm2d: batch_norm_statistics}

    def real(self, problem: Problem, members: Sequence[Member]) -> Mapping[str, Tensor]:
        return _numbered([measured(problem, member, self.rules, problem.class_indices) for member in members])

    def distance(self, turn: Turn, voice: Voice, seen: LayerStatistics) -> tuple[Tensor, Mapping[str, Tensor]]:
        return statistics_distance(seen, rows_of(turn.state.real, voice.number, seen, turn.y), first=self.first), {}


@dataclass(frozen=True, kw_only=True)
class Broad:
    """BatchNorms and convolutions, averaged over the steps (G-VBSM), and those of the batch's classes too (EDC)."""

    first: float
    """What counts so much is the network's first layer of either kind, where it is not left out."""
    memory: float
    """What the averages keep in each step."""
    cell: int
    """Pixels along the side of a cell of a convolution's input."""
    drop: float
    """The probability that a convolution is left out of a step."""
    category: float | None = None
    """The part of the classes' statistics; none: they are not taken."""

    @property
    def rules(self) -> Rules:
        return {nn.BatchNorm2d: batch_norm_statistics, nn.Conv2d: partial(convolution_statistics, cell=self.cell)}

    def real(self, problem: Problem, members: Sequence[Member]) -> Mapping[str, Tensor]:
        sizes = [len(i) for i in problem.class_indices]
        rows = [measured(problem, member, self.rules, problem.class_indices) for member in members]
        of_all = {f"all/{key}": value for key, value in _numbered([overall(r, sizes) for r in rows]).items()}
        return of_all if self.category is None else of_all | _numbered(rows)

    def distance(self, turn: Turn, voice: Voice, seen: LayerStatistics) -> tuple[Tensor, Mapping[str, Tensor]]:
        name, running = f"average/{voice.number}/", voice.member.running()
        before = {n.removeprefix(name): t for n, t in turn.state.memory.items() if n.startswith(name)}
        kept = {n: s for n, s in seen.items() if n in running or not self._dropped(turn)}
        now = {f"{layer}/{part}": value for layer, parts in kept.items() for part, value in parts.items()}
        after = update_averages(before, now, self.memory)
        averages = {layer: {part: after[f"{layer}/{part}"] for part in parts} for layer, parts in kept.items()}
        first, real = (self.first if next(iter(seen)) in kept else 1.0), turn.state.real
        wanted = {
            layer: running.get(layer) or {part: real[f"all/{voice.number}/{layer}/{part}"] for part in parts}
            for layer, parts in averages.items()
        }
        total = statistics_distance(averages, wanted, first=first)
        if self.category is not None:
            of_classes = statistics_distance(averages, rows_of(real, voice.number, averages, turn.y), first=first)
            total = (1 - self.category) * total + self.category * of_classes
        return total, {name + n: value for n, value in after.items()}

    def _dropped(self, turn: Turn) -> bool:
        return self.drop > 0 and bool(torch.rand((), generator=turn.rng) < self.drop)


def _numbered(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{number}/{key}": value for number, own in enumerate(rows) for key, value in own.items()}


def measured(problem: Problem, member: Member, rules: Rules, groups: Sequence[Tensor]) -> dict[str, Tensor]:
    """What the layers of a teacher see of real samples: ``layer/statistic`` → one row for each group of indices.

    Moments are pooled over the passes, so that they do not depend on how many there are. Published code averages the
    variances of batches, which leaves out what the batches' means differ.

    Streamed data whose groups lie scattered over shards are passed once as they lie.
    """
    sizes = [len(group) for group in groups]
    pooled: list[dict[str, Tensor]] = [{} for _ in groups]
    for numbers, batch in iterate_groups(problem.train, groups, CHUNK):
        x = require_tensor(batch.x)
        own = {g: (numbers == g).to(x.device) for g in sorted(set(numbers.tolist()))}
        with torch.no_grad():
            _, seen = record_statistics(
                member.network, member.weights, x, {kind: _of_each(own, r) for kind, r in rules.items()}
            )
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


def rows_of(real: Mapping[str, Tensor], number: int, seen: LayerStatistics, y: Tensor) -> dict[str, dict[str, Tensor]]:
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
