"""What G-VBSM and EDC share: several teachers in turn, BatchNorms and convolutions, averages over the steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from potstill.core import Problem
from potstill.functional.statistics import Seen, densification, followed, gap, of_batch_norm, of_convolution
from potstill.methods.decoupled._published import BY_DATA, ByData
from potstill.methods.decoupled._recover import Recover
from potstill.methods.decoupled._state import RecoverState, Rules, measured, overall
from potstill.methods.decoupled._teachers import Member

__all__ = ["BroadMatching"]


@dataclass(frozen=True, kw_only=True)
class BroadMatching(Recover):
    """Abstract: one teacher after the other, convolutions as well as BatchNorms, and averages over steps."""

    in_turn: ClassVar[bool] = True
    fractions: ClassVar[tuple[str, ...]] = ("crop", "milestone", "memory", "drop")
    positive: ClassVar[tuple[str, ...]] = ("temperature", "tau")

    memory: ByData[float] = BY_DATA
    """What the averages over steps keep in each."""
    cell: ByData[int] = BY_DATA
    """Pixels along the side of a cell of a convolution's input (recover/utils.py, ConvFeatureHook): by the data's size,
    4 for pictures as small as CIFAR's and Tiny-ImageNet's, 16 for ImageNet's."""
    drop: float = 0.0
    """The probability that a convolution is left out of a step (drop_rate there)."""
    densify: float = 0.0
    """ν: weight of data densification."""
    tau: float = 4.0
    """τ: its temperature."""

    @property
    def rules(self) -> Rules:
        return {nn.BatchNorm2d: of_batch_norm, nn.Conv2d: partial(of_convolution, cell=self.cell)}

    def real_statistics(self, problem: Problem) -> Mapping[str, Tensor]:
        sizes = [len(i) for i in problem.by_class]
        found: dict[str, Tensor] = {}
        for number, member in enumerate(self.teachers(problem)):
            rows = measured(problem, member, self.rules, problem.by_class)
            found |= {f"all/{number}/{key}": value for key, value in overall(rows, sizes).items()}
            found |= {f"{number}/{key}": value for key, value in rows.items() if self.by_class()}
        return found

    def by_class(self) -> bool:
        """Whether the classes' own statistics are kept."""
        return False

    def distance(
        self, problem: Problem, state: RecoverState, number: int, member: Member, seen: Seen, y: Tensor, rng: Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        name, norms = f"average/{number}/", member.running()
        before = {n.removeprefix(name): t for n, t in state.memory.items() if n.startswith(name)}
        kept = {n: s for n, s in seen.items() if n in norms or not self._dropped(rng)}
        now = {f"{layer}/{part}": value for layer, parts in kept.items() for part, value in parts.items()}
        after = followed(before, now, self.memory)
        averages = {layer: {part: after[f"{layer}/{part}"] for part in parts} for layer, parts in kept.items()}
        # what counts tenfold is the network's first layer of either kind, where it is not left out
        first = self.first_layer if next(iter(seen)) in kept else 1.0
        total = self.from_real(state, number, member, averages, y, first)
        return total, {name + n: value for n, value in after.items()}

    def _dropped(self, rng: Generator) -> bool:
        return self.drop > 0 and bool(torch.rand((), generator=rng) < self.drop)

    def from_real(
        self, state: RecoverState, number: int, member: Member, averages: Seen, y: Tensor, first: float
    ) -> Tensor:
        """The distance of the averages from the real statistics, where their first layer counts ``first`` times."""
        running = member.running()
        wanted = {
            layer: running.get(layer) or {part: state.real[f"all/{number}/{layer}/{part}"] for part in parts}
            for layer, parts in averages.items()
        }
        return gap(averages, wanted, first=first)

    def prior(self, view: Tensor, y: Tensor) -> Tensor:
        total = super().prior(view, y)
        return total + self.densify * densification(view, y, self.tau) if self.densify else total
