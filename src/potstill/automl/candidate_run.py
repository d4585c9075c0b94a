"""Runs of the candidates of one choice: all at the same bytes, each continued from where it stopped."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from potstill._util.progress import ProgressReporter
from potstill._util.time_limit import TimeLimit
from potstill.automl.candidates import Candidate
from potstill.automl.real import fit_counts, search_real_sets, spec_of_way
from potstill.automl.scoring import Entry
from potstill.core import Source, Splits
from potstill.dataset_file import Distilled
from potstill.dataset_file.text_io import charged_bytes
from potstill.evaluation.real_set_space import ROUNDS
from potstill.execution import resolve_executor
from potstill.methods.selection.real import Real
from potstill.rng import derive_seed
from potstill.runs.fill import SHORT_TIME, can_fill, find_planned_bytes
from potstill.runs.loop import Progress
from potstill.runs.resolve import ResolvedRun, resolve_run
from potstill.runs.runner import execute
from potstill.runs.spec import RunIO, RunLimits, RunSpec

__all__ = ["REAL_WAYS", "CandidateRuns"]

REAL_WAYS = 2
"""Ways to keep real samples that are candidates."""
ENDLESS = 1_000_000
"""Iterations of a run that continues from rung to rung, so that no schedule ends before it."""


@dataclasses.dataclass(kw_only=True)
class CandidateRuns:
    """Makes the sets of all candidates."""

    spec: RunSpec
    """The run that was asked of ``auto``; its ``data`` are splits."""
    io: RunIO
    reporter: ProgressReporter
    spent: Callable[[], float]
    """Seconds of the choice until now."""
    bytes: int = 0
    """Size budget of each set."""
    balance: Literal["natural", "equal"] | None = None
    """Division of the bytes among classes: ``natural`` or ``equal``."""

    @property
    def splits(self) -> Splits:
        splits: Splits = self.spec.data
        return splits

    def measure_bytes(self) -> int:
        """Return the bytes of as many random samples as were asked for, the budget in bytes of all candidates."""
        plain = Candidate.parse("random%exact")
        spec = dataclasses.replace(self.spec, method=plain.method, codec="exact", options={})
        return charged_bytes(self.run(Entry(candidate=plain), resolve_run(spec), None, None).metadata["bytes"])

    def search_real(self, train: Source, seconds: float | None) -> dict[str, Any]:
        """Return ``ways``, the two best to keep real samples of ``train`` in the budget, spelled as candidates, and
        ``complete``, false where a search of more time would try more.

        Args:
            seconds: time that the search may take; ``None``: as much as it needs.
        """
        spec = dataclasses.replace(
            self.spec, method="real", options={}, ipc=None, items=None, bytes=self.bytes, balance=self.balance,
        )  # fmt: skip
        limits = RunLimits(time_limit=None if seconds is None else TimeLimit(seconds))
        search, _ = search_real_sets(spec, train, limits.start(), self.reporter, resolve_executor(self.io.executor))
        best = search.chosen()
        found = []
        for way in [best.way, *(trial.way for trial in search.trials if trial is not best)][:REAL_WAYS]:
            codec = spec_of_way(spec, way).codec
            labels = "" if way.labels == "hard" else f",labels={way.labels}"
            found.append(f"real:selection={way.selection}{labels}%{codec}")
        return {"ways": list(dict.fromkeys(found)), "complete": search.space.rounds == ROUNDS and not search.is_late}

    def resolve(
        self, candidate: Candidate, train: Source, iterations: int | None = None, planned_bytes: int | None = None
    ) -> ResolvedRun:  # fmt: skip
        """Return the candidate's run on ``train``; without ``iterations`` no schedule of it ends.

        Args:
            planned_bytes: as `plan_bytes` returned them.
        """
        options = dict(candidate.options)
        if not candidate.is_real:
            options.setdefault("iterations", ENDLESS if iterations is None else max(1, iterations))
        return resolve_run(
            dataclasses.replace(
                self.spec, data=dataclasses.replace(self.splits, train=train, test=None), method=candidate.method,
                ipc=None, items=None, bytes=self.bytes, planned_bytes=planned_bytes, balance=self.balance,
                preset="quick", parametrization=candidate.parametrization, codec=candidate.codec, options=options,
            )
        )  # fmt: skip

    def seed_of(self, candidate: Candidate) -> int:
        """Return the seed of the run that makes the candidate's answer."""
        draw = candidate.draw
        return self.spec.seed if draw is None else derive_seed(self.spec.seed, "auto", "draw", draw) % 2**31

    def resolve_answer(
        self, candidate: Candidate, iterations: int | None = None, planned_bytes: int | None = None
    ) -> ResolvedRun:  # fmt: skip
        """Return the candidate's run on all training data, with its draw."""
        seeded = dataclasses.replace(self, spec=dataclasses.replace(self.spec, seed=self.seed_of(candidate)))
        return seeded.resolve(candidate, self.splits.train, iterations, planned_bytes)

    def fill_real(self, run: ResolvedRun) -> ResolvedRun:
        """Return a run of method ``real`` with as many samples as fit, counted by writing them; others as they are."""
        return fit_counts(run, self.bytes, max(run.problem.counts)) if isinstance(run.method, Real) else run

    def plan_bytes(self, candidate: Candidate, train: Source, seconds: float) -> int | None:
        """Return the bytes to plan the candidate's inputs by, so that they fill the budget; ``None``: as packed.

        Args:
            seconds: time that the short runs may take.
        """
        limits = RunLimits(time_limit=TimeLimit(seconds / SHORT_TIME / 2))
        run = self.resolve(candidate, train)
        if not can_fill(run, limits):
            return None
        return find_planned_bytes(run, lambda planned: self.resolve(candidate, train, None, planned), self.io, limits)

    def run(
        self, entry: Entry, run: ResolvedRun, steps: int | None, checkpoint: Path | None, *, limit: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Distilled:  # fmt: skip
        """Return the set after ``steps`` steps in all, from the entry's checkpoint where there is one.

        Args:
            limit: seconds.
            progress: given for the final run, which is reported.
        """
        marks: list[tuple[int, float]] = []

        def record(event: Progress) -> None:
            marks.append((event.step, self.spent()))
            if progress is not None:
                progress(event)

        silent = ProgressReporter(silent=limit is not None, quiet=True)
        started = self.spent()
        resume = checkpoint is not None and checkpoint.exists()
        io = dataclasses.replace(
            self.io, progress=record, preparing=silent.report_count, checkpoint=checkpoint,
            resume="force" if resume and self.io.resume == "force" else resume,
        )  # fmt: skip
        limits = RunLimits(steps=steps, time_limit=None if limit is None else TimeLimit(limit))
        reporter = silent if progress is None else self.reporter
        small = execute(run, limits, io, reporter, keep_checkpoint=progress is None)
        seconds = self.spent() - started
        if len(marks) > 1:
            entry.cost = (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])
        entry.setup = max(entry.setup, seconds - entry.cost * len(marks))
        return small
