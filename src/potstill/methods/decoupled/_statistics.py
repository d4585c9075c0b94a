"""Losses of layer statistics: real statistics of the teachers' layers, and a batch's distance from them."""

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
)  # fmt: skip
from potstill.methods.decoupled._state import IterationContext, WeightedTeacher
from potstill.methods.decoupled._teachers import CHUNK, StatisticsRules, TeacherNetwork
from potstill.methods.engine import require_tensor

__all__ = [
    "AveragedStatistics", "ClassStatistics", "RunningStatistics", "StatisticsLoss", "mean_class_rows",
    "measure_statistics", "pool_statistics",
]  # fmt: skip


@runtime_checkable
class StatisticsLoss(Protocol):
    """Distance of a batch's layer statistics from real ones."""

    @property
    def rules(self) -> StatisticsRules:
        """Statistics of layers' inputs, by layer type."""
        ...

    def real_statistics(self, problem: Problem, members: Sequence[TeacherNetwork]) -> Mapping[str, Tensor]:
        """Return statistics of the real data, computed before the first step."""
        ...

    def distance(
        self, context: IterationContext, teacher: WeightedTeacher, statistics: LayerStatistics
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the distance from the real statistics, and entries of the batch's memory."""
        ...


@dataclass(frozen=True, kw_only=True)
class RunningStatistics:
    """BatchNorm inputs against the running statistics."""

    first: float
    """Weight of the first layer, relative to the others."""
    var: float = 1.0
    """Weight of variances, relative to means."""

    @property
    def rules(self) -> StatisticsRules:
        return {nn.BatchNorm2d: batch_norm_statistics}

    def real_statistics(self, problem: Problem, members: Sequence[TeacherNetwork]) -> Mapping[str, Tensor]:
        return {}

    def distance(
        self, context: IterationContext, teacher: WeightedTeacher, statistics: LayerStatistics
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        targets = teacher.member.running_statistics()
        return statistics_distance(statistics, targets, first=self.first, var_weight=self.var), {}


@dataclass(frozen=True, kw_only=True)
class ClassStatistics:
    """BatchNorm inputs against those of all real samples of the batch's class (LPLD, WMDD).

    For a batch of several classes, against the mean of its items' classes.
    """

    first: float

    @property
    def rules(self) -> StatisticsRules:
        return {nn.BatchNorm2d: batch_norm_statistics}

    def real_statistics(self, problem: Problem, members: Sequence[TeacherNetwork]) -> Mapping[str, Tensor]:
        return _prefix_by_teacher(
            [measure_statistics(problem, member, self.rules, problem.class_indices) for member in members]
        )

    def distance(
        self, context: IterationContext, teacher: WeightedTeacher, statistics: LayerStatistics
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        targets = mean_class_rows(context.state.real, teacher.number, statistics, context.y)
        return statistics_distance(statistics, targets, first=self.first), {}


@dataclass(frozen=True, kw_only=True)
class AveragedStatistics:
    """BatchNorm and convolution inputs, averaged over steps (G-VBSM), and those of the batch's classes (EDC)."""

    first: float
    """Weight of the network's first layer of either kind, unless it is dropped."""
    ema_decay: float
    """Weight of the previous average in each step."""
    cell_size: int
    """Side of a cell of a convolution's input in pixels."""
    drop_rate: float
    """Probability that a convolution is left out of a step."""
    category: float | None = None
    """Weight of the classes' statistics; ``None``: they are not used."""

    @property
    def rules(self) -> StatisticsRules:
        convolutions = partial(convolution_statistics, cell=self.cell_size)
        return {nn.BatchNorm2d: batch_norm_statistics, nn.Conv2d: convolutions}

    def real_statistics(self, problem: Problem, members: Sequence[TeacherNetwork]) -> Mapping[str, Tensor]:
        sizes = [len(i) for i in problem.class_indices]
        rows = [measure_statistics(problem, member, self.rules, problem.class_indices) for member in members]
        pooled = _prefix_by_teacher([pool_statistics(r, sizes) for r in rows])
        of_all = {f"all/{key}": value for key, value in pooled.items()}
        return of_all if self.category is None else of_all | _prefix_by_teacher(rows)

    def distance(
        self, context: IterationContext, teacher: WeightedTeacher, statistics: LayerStatistics
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        prefix, running = f"average/{teacher.number}/", teacher.member.running_statistics()
        before = {n.removeprefix(prefix): t for n, t in context.state.memory.items() if n.startswith(prefix)}
        layers = {n: s for n, s in statistics.items() if n in running or not self._drops(context)}
        now = {f"{layer}/{part}": value for layer, parts in layers.items() for part, value in parts.items()}
        after = update_averages(before, now, self.ema_decay)
        averages = {layer: {part: after[f"{layer}/{part}"] for part in parts} for layer, parts in layers.items()}
        first, real = (self.first if next(iter(statistics)) in layers else 1.0), context.state.real
        targets = {
            layer: running.get(layer) or {part: real[f"all/{teacher.number}/{layer}/{part}"] for part in parts}
            for layer, parts in averages.items()
        }
        total = statistics_distance(averages, targets, first=first)
        if self.category is not None:
            class_targets = mean_class_rows(real, teacher.number, averages, context.y)
            of_classes = statistics_distance(averages, class_targets, first=first)
            total = (1 - self.category) * total + self.category * of_classes
        return total, {prefix + n: value for n, value in after.items()}

    def _drops(self, context: IterationContext) -> bool:
        return self.drop_rate > 0 and bool(torch.rand((), generator=context.rng) < self.drop_rate)


def _prefix_by_teacher(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{number}/{key}": value for number, row in enumerate(rows) for key, value in row.items()}


def measure_statistics(
    problem: Problem, member: TeacherNetwork, rules: StatisticsRules, groups: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Return statistics of a teacher's layers on real samples: ``layer/statistic`` → one row per group of indices.

    Moments are pooled over passes and do not depend on their number; published code averages batch variances, which
    ignores the differences of the batches' means. Streamed data are read once in their order.
    """
    sizes = [len(group) for group in groups]
    pooled: list[dict[str, Tensor]] = [{} for _ in groups]
    for numbers, batch in iterate_groups(problem.train, groups, CHUNK):
        x = require_tensor(batch.x)
        masks = {g: (numbers == g).to(x.device) for g in sorted(set(numbers.tolist()))}
        group_rules = {kind: _per_group_rule(masks, rule) for kind, rule in rules.items()}
        with torch.no_grad():
            _, statistics = record_statistics(member.network, member.weights, x, group_rules)
        for g, mask in masks.items():
            flat = {
                f"{layer}/{name.partition('/')[2]}": value
                for layer, parts in statistics.items() for name, value in parts.items() if name.startswith(f"{g}/")
            }  # fmt: skip
            for key, value in flat.items():
                if key.endswith("var"):  # the mean square, until all samples are in
                    value = value + flat[key.removesuffix("var") + "mean"].square()
                pooled[g][key] = pooled[g].get(key, 0.0) + value * (int(mask.sum()) / sizes[g])
    rows: dict[str, list[Tensor]] = {}
    for group_moments in pooled:
        for key, value in group_moments.items():
            if key.endswith("var"):
                value = (value - group_moments[key.removesuffix("var") + "mean"].square()).clamp_min(0)
            rows.setdefault(key, []).append(value)
    return {key: torch.stack(value) for key, value in rows.items()}


def _per_group_rule(
    masks: Mapping[int, Tensor], rule: Callable[[Tensor], Mapping[str, Tensor]]
) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """Return the rule applied to the samples of each group, with the group's number as prefix."""

    def group_rule(a: Tensor) -> dict[str, Tensor]:
        by_group = {g: rule(a if len(masks) == 1 else a[mask]) for g, mask in masks.items()}
        return {f"{g}/{name}": value for g, parts in by_group.items() for name, value in parts.items()}

    return group_rule


def mean_class_rows(
    real: Mapping[str, Tensor], number: int, statistics: LayerStatistics, y: Tensor
) -> dict[str, dict[str, Tensor]]:
    """Return the mean over items of their classes' rows, for every statistic of teacher ``number``.

    Args:
        real: ``number/layer/statistic`` → (classes, …), from `measure_statistics`.
        number: number of the teacher.
        statistics: layers and names to look up.
        y: classes of the items (n,).
    """
    return {
        layer: {name: real[f"{number}/{layer}/{name}"][y].mean(0) for name in parts}
        for layer, parts in statistics.items()
    }


def pool_statistics(rows: Mapping[str, Tensor], sizes: Sequence[int]) -> dict[str, Tensor]:
    """Return the moments of all samples from those of groups of ``sizes``."""
    pooled: dict[str, Tensor] = {}
    for key, value in rows.items():
        part = torch.tensor(sizes, dtype=value.dtype, device=value.device) / sum(sizes)
        if key.endswith("var"):
            mean = rows[key.removesuffix("var") + "mean"]
            pooled[key] = (part @ (value + mean.square()) - (part @ mean).square()).clamp_min(0)
        else:
            pooled[key] = part @ value
    return pooled
