"""What LPLD and WMDD share: a batch for each class, held against the statistics of that class's real samples."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Generator, Tensor

from potstill.core import Problem
from potstill.functional.statistics import Seen, gap
from potstill.methods.decoupled._recover import Recover
from potstill.methods.decoupled._state import Composition, RecoverState, measured, rows_of
from potstill.methods.decoupled._teachers import Member

__all__ = ["ClassMatching"]


@dataclass(frozen=True, kw_only=True)
class ClassMatching(Recover):
    """Abstract: the BatchNorm statistics of each class, in the teacher, from all of its samples at once."""

    composition: Composition = "class"
    """A batch holds the items of one class."""

    def real_statistics(self, problem: Problem) -> Mapping[str, Tensor]:
        found: dict[str, Tensor] = {}
        for number, member in enumerate(self.teachers(problem)):
            rows = measured(problem, member, self.rules, problem.by_class)
            found |= {f"{number}/{key}": value for key, value in rows.items()}
        return found

    def distance(
        self, problem: Problem, state: RecoverState, number: int, member: Member, seen: Seen, y: Tensor, rng: Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        # where a batch is of several classes, the mean of its items' classes
        return gap(seen, rows_of(state.real, number, seen, y), first=self.first_layer), {}
