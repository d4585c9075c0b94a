"""Which steps of a student's training gradients go through, and what each of its steps looks at.

A window is ``size`` steps after a burn-in of ``start`` steps, through which no gradient goes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, final, runtime_checkable

import torch
from torch import Generator, Tensor

from potstill.errors import PotstillError

__all__ = [
    "AdaptiveWindow", "AllSteps", "BalancedBatches", "Batches", "NormProbe", "RandomBatch", "RandomWindow",
    "StepBatches", "WindowMemory", "Windows",
]  # fmt: skip

WindowMemory: TypeAlias = Mapping[str, Tensor]
"""Tensors carried from step to step."""

NormProbe: TypeAlias = Callable[[int], Tensor]
"""Norms (n,) of the gradients of a student's first n steps."""


@runtime_checkable
class Windows(Protocol):
    """Placement of windows."""

    @property
    def max_steps(self) -> tuple[int, int]:
        """Maximum steps of a student, and of a window."""
        ...

    def prepare(self, memory: WindowMemory, probe: NormProbe, rng: Generator, /) -> WindowMemory:
        """Return the memory before a choice."""
        ...

    def choose(self, memory: WindowMemory, rng: Generator, /) -> tuple[int, int]:
        """Return start and size of a window."""
        ...

    def update(self, memory: WindowMemory, right: float, /) -> WindowMemory:
        """Return the memory after a step whose student classified this fraction of the real batch correctly."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Stateless:
    """Windows without memory."""

    def prepare(self, memory: WindowMemory, probe: NormProbe, rng: Generator) -> WindowMemory:
        return memory

    def update(self, memory: WindowMemory, right: float) -> WindowMemory:
        return memory


@final
@dataclass(frozen=True, kw_only=True)
class AllSteps(_Stateless):
    """All steps (DD, Remember the Past)."""

    steps: int

    @property
    def max_steps(self) -> tuple[int, int]:
        return self.steps, self.steps

    def choose(self, memory: WindowMemory, rng: Generator) -> tuple[int, int]:
        return 0, self.steps


@final
@dataclass(frozen=True, kw_only=True)
class RandomWindow(_Stateless):
    """A window of one size at a random place: its start is uniform in [min_burn_in, total − size] (RaT-BPTT).

    Raises:
        PotstillError: it does not fit.
    """

    size: int
    total: int
    min_burn_in: int = 0

    def __post_init__(self) -> None:
        _check_window(self.size, self.total, self.min_burn_in)

    @property
    def max_steps(self) -> tuple[int, int]:
        return self.total, self.size

    def choose(self, memory: WindowMemory, rng: Generator) -> tuple[int, int]:
        return int(torch.randint(self.min_burn_in, self.total - self.size + 1, (1,), generator=rng)), self.size


@final
@dataclass(frozen=True, kw_only=True)
class AdaptiveWindow:
    """AT-BPTT's windows, in three stages (framework/distill_higher.py, ``window_start_size``; base.py).

    Every ``interval`` steps a student is trained for ``total`` steps, and the norms ``n_t`` of its gradients are kept.

    1. The start t has probability ``softmax(n)_t``; the size is ``size − swing + 2 · swing · r / total``, where r is
       how many of the changes ``|n_i − n_{i−1}|`` are less than that at t.
    2. The start is uniform; the size is ``size + swing``.
    3. The size is ``size − swing``; the start lies as far from the end as one that is drawn as in 1 from the beginning.

    A stage ends once the part of real samples that students are right about, in the mean of ``interval`` steps, has
    grown by less than ``least_gain`` so many times in a row: 0.15 of ``total`` in the first stage, 0.125 in the second.
    The program compares that count with ``==``, so that a product which is no whole number is never reached; here it
    is rounded up. It draws one window for ``interval`` steps; here each step draws its own. It also writes the size
    that was drawn over ``size`` (base.py, ``model.module.window``), so that the next is counted from there: sizes walk
    in the first stage, grow by ``swing`` at each pass of the second until none fits and it stops, and shrink in the
    third. That is taken for a slip: here ``size`` stays what the README calls the default window.
    """

    size: int
    total: int
    swing: int
    interval: int
    least_gain: tuple[float, float] = (0.015, 0.01)
    share: tuple[float, float] = (0.15, 0.125)

    def __post_init__(self) -> None:
        _check_window(self.size + self.swing, self.total, 0)
        if self.swing >= self.size:
            raise PotstillError(
                f"a window of {self.size} steps cannot become {self.swing} steps smaller; "
                f"choose a swing of at most {self.size - 1}"
            )

    @property
    def max_steps(self) -> tuple[int, int]:
        return self.total, self.size + self.swing

    def prepare(self, memory: WindowMemory, probe: NormProbe, rng: Generator) -> WindowMemory:
        if not memory:
            zero = torch.zeros((), dtype=torch.int64)
            memory = {"stage": zero, "slow": zero, "used": zero, "right": torch.zeros(()), "before": torch.zeros(())}
        if int(memory["used"]) == 0 and int(memory["stage"]) != 1:
            memory = {**memory, "norms": probe(self.total).cpu()}
        return memory

    def choose(self, memory: WindowMemory, rng: Generator) -> tuple[int, int]:
        stage = int(memory["stage"])
        if stage == 1:
            size = self.size + self.swing
            return int(torch.randint(self.total - size + 1, (1,), generator=rng)), size
        norms = memory["norms"]
        at = int(torch.multinomial(norms.double().softmax(0), 1, generator=rng))
        size = self.size - self.swing
        if stage == 2:
            return max(0, self.total - at - size), size
        changes = torch.cat([norms.new_zeros(1), norms.diff().abs()])
        size += 2 * self.swing * int((changes < changes[at]).sum()) // self.total
        return min(at, self.total - size), size

    def update(self, memory: WindowMemory, right: float) -> WindowMemory:
        stage, used, total = int(memory["stage"]), int(memory["used"]) + 1, memory["right"] + right
        made = {**memory, "used": torch.tensor(used), "right": total}
        if used < self.interval:
            return made
        mean = total / self.interval
        slow = int(memory["slow"]) + 1 if stage < 2 and float(mean - memory["before"]) < self.least_gain[stage] else 0
        if stage < 2 and slow >= math.ceil(self.share[stage] * self.total):
            stage, slow = stage + 1, 0
        return {
            **made, "stage": torch.tensor(stage), "slow": torch.tensor(slow), "used": torch.tensor(0),
            "right": torch.zeros(()), "before": mean,
        }  # fmt: skip


def _check_window(size: int, total: int, least: int) -> None:
    if least + size > total:
        after = f" after {least}" if least else ""
        raise PotstillError(
            f"a student of {total} steps has no window of {size} steps{after}; make total larger or the window smaller"
        )


@runtime_checkable
class Batches(Protocol):
    """Batches of a student's steps."""

    def __call__(self, sizes: tuple[int, ...], step: int, rng: Generator, /) -> Tensor | None:
        """Return the rows of decoded inputs, int64; ``None``: all of them. ``sizes``: how many each class has."""
        ...

    def size(self, sizes: tuple[int, ...], /) -> int:
        """Return the maximum batch size."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class BalancedBatches:
    """Equally many random inputs of each class, all of a class that has no more."""

    per_class: int

    def __call__(self, sizes: tuple[int, ...], step: int, rng: Generator) -> Tensor | None:
        if self.per_class >= max(sizes):
            return None
        rows, first = list[Tensor](), 0
        for size in sizes:
            rows.append(first + torch.randperm(size, generator=rng)[: self.per_class].sort().values)
            first += size
        return torch.cat(rows)

    def size(self, sizes: tuple[int, ...]) -> int:
        return sum(min(size, self.per_class) for size in sizes)


@final
@dataclass(frozen=True, kw_only=True)
class RandomBatch:
    """Random inputs of all classes."""

    batch: int

    def __call__(self, sizes: tuple[int, ...], step: int, rng: Generator) -> Tensor | None:
        total = sum(sizes)
        return None if self.batch >= total else torch.randperm(total, generator=rng)[: self.batch]

    def size(self, sizes: tuple[int, ...]) -> int:
        return min(sum(sizes), self.batch)


@final
@dataclass(frozen=True, kw_only=True)
class StepBatches:
    """Every step has ``per_class`` inputs of each class of its own; after the last ones come the first again (DD)."""

    per_class: int

    def steps(self, sizes: tuple[int, ...]) -> int:
        """Return the steps until the first batch comes again."""
        return math.ceil(max(sizes) / self.per_class)

    def __call__(self, sizes: tuple[int, ...], step: int, rng: Generator) -> Tensor | None:
        turn, rows, first = step % self.steps(sizes), list[Tensor](), 0
        for size in sizes:
            rows.append(first + torch.arange(size)[turn * self.per_class : (turn + 1) * self.per_class])
            first += size
        return None if self.steps(sizes) == 1 else torch.cat(rows)

    def size(self, sizes: tuple[int, ...]) -> int:
        return sum(min(size, self.per_class) for size in sizes)
