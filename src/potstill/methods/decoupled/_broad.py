"""What G-VBSM and EDC share: several teachers in turn, BatchNorms and convolutions, averages over the steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from potstill.core import Problem
from potstill.functional.statistics import Seen, densification, followed, gap, of_batch_norm, of_convolution
from potstill.methods.decoupled._recover import Recover
from potstill.methods.decoupled._state import RecoverState, Rules, measured, overall
from potstill.methods.decoupled._teachers import Member

__all__ = ["BroadMatching"]


@dataclass(frozen=True, kw_only=True)
class BroadMatching(Recover):
    """Abstract: one teacher after the other, convolutions as well as BatchNorms, and averages over steps."""

    rules: ClassVar[Rules] = {nn.BatchNorm2d: of_batch_norm, nn.Conv2d: of_convolution}
    in_turn: ClassVar[bool] = True
    fractions: ClassVar[tuple[str, ...]] = ("crop", "milestone", "memory")
    positive: ClassVar[tuple[str, ...]] = ("temperature", "tau")

    memory: float
    densify: float = 0.0
    """ν: weight of data densification."""
    tau: float = 4.0
    """τ: its temperature."""

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
        self, problem: Problem, state: RecoverState, number: int, member: Member, seen: Seen, y: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        name = f"average/{number}/"
        before = {n.removeprefix(name): t for n, t in state.memory.items() if n.startswith(name)}
        now = {f"{layer}/{part}": value for layer, parts in seen.items() for part, value in parts.items()}
        after = followed(before or None, now, self.memory)
        averages = {layer: {part: after[f"{layer}/{part}"] for part in parts} for layer, parts in seen.items()}
        total = self.from_real(state, number, member, averages, y)
        return total, {name + n: value for n, value in after.items()}

    def from_real(self, state: RecoverState, number: int, member: Member, averages: Seen, y: Tensor) -> Tensor:
        """The distance of the averages from the real statistics."""
        running = member.running()
        wanted = {
            layer: running.get(layer) or {part: state.real[f"all/{number}/{layer}/{part}"] for part in parts}
            for layer, parts in averages.items()
        }
        return self.apart(member, averages, wanted)

    def apart(self, member: Member, found: Seen, wanted: Seen) -> Tensor:
        """`gap` of the BatchNorms and of the convolutions: each kind has a first layer."""
        norms = member.running().keys()
        kinds = ({n: s for n, s in found.items() if (n in norms) == norm} for norm in (True, False))
        return torch.stack([gap(kind, wanted, first=self.first_layer) for kind in kinds]).sum()

    def prior(self, x: Tensor, y: Tensor) -> Tensor:
        total = super().prior(x, y)
        return total + self.densify * densification(x, y, self.tau) if self.densify else total
