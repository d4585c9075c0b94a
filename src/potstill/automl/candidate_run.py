"""Sets of one choice: every candidate at the same bytes, from where it stopped, and what a step of it costs."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from potstill._util.progress import ProgressReporter
from potstill._util.time_limit import TimeLimit
from potstill.api.distill import resolve_run
from potstill.automl.candidates import Candidate
from potstill.automl.result import Entry
from potstill.core import Budget, Source, Splits
from potstill.dataset_file import Distilled
from potstill.execution import Executor
from potstill.runs.loop import Progress
from potstill.runs.runner import ResolvedRun, execute

__all__ = ["Runs"]

ENDLESS = 1_000_000
"""Iterations of a run that goes on from rung to rung, so that no schedule ends before it."""


@dataclasses.dataclass(kw_only=True)
class Runs:
    """What all runs of a choice share."""

    splits: Splits
    network: Any
    seed: int
    device: str
    executor: Executor | None
    command: str | None
    watcher: ProgressReporter
    anyway: bool
    """Go on also from checkpoints that other versions wrote."""
    spent: Callable[[], float]
    """Seconds of the choice until now."""
    bytes: int = 0
    """Of each set, at most."""
    balance: Literal["natural", "equal"] | None = None
    """How they are shared out between classes."""

    def bytes_of(self, wanted: Budget) -> int:
        """What so many random samples take as they are: the budget in bytes of all candidates."""
        plain = Candidate.read("random%exact")
        settled = resolve_run(
            self.splits, plain.method, ipc=None, size_budget=wanted, network=self.network, parametrization=None,
            labels=None, augment=None, zca=None, device=self.device, store="exact",
        )  # fmt: skip
        return int(self.run(Entry(candidate=plain), settled, None, None).metadata["bytes"]["total"])

    def settled(self, candidate: Candidate, train: Source, iterations: int | None = None) -> ResolvedRun:
        """The candidate's run on these samples; without ``iterations`` no schedule of it ends."""
        options = dict(candidate.options)
        if not candidate.real:
            options.setdefault("iterations", ENDLESS if iterations is None else max(1, iterations))
        return resolve_run(
            dataclasses.replace(self.splits, train=train, test=None), candidate.method, ipc=None,
            size_budget=Budget(unit="bytes", amount=self.bytes, balance=self.balance), network=self.network,
            parametrization=candidate.parametrization, labels=None, augment=None, zca=None, device=self.device,
            store=candidate.store, effort="quick", **options,
        )  # fmt: skip

    def run(
        self, entry: Entry, settled: ResolvedRun, steps: int | None, checkpoint: Path | None, *,
        limit: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Distilled:  # fmt: skip
        """The set after so many steps in all, from the entry's checkpoint where there is one."""
        marks: list[tuple[int, float]] = []

        def seen(p: Progress) -> None:
            marks.append((p.step, self.spent()))
            if progress is not None:
                progress(p)

        silent = ProgressReporter(quiet=True)
        begun = self.spent()
        made = execute(
            settled, silent if progress is None else self.watcher, None if limit is None else TimeLimit(limit),
            seed=self.seed, steps=steps, zca=None,
            checkpoint=checkpoint, resume=checkpoint is not None and checkpoint.exists(), anyway=self.anyway,
            checkpoint_every=60.0, progress=seen, preparing=silent.report_count, command=self.command, table=None,
            executor=self.executor, keep=progress is None,
        )  # fmt: skip
        took = self.spent() - begun
        if len(marks) > 1:
            entry.cost = (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])
        entry.setup = max(entry.setup, took - entry.cost * len(marks))
        return made
