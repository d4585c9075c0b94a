"""Trainings of candidates as cells: each a file, computed by any executor, read where it is there."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from potstill.core import Source
from potstill.evaluation.candidate_trials import count_operations
from potstill.execution import Executor, choose_executor
from potstill.uses.cell_files import compute_missing, read_json
from potstill.uses.search.space import Candidate
from potstill.uses.search.training import Rows, Trial, candidate_factory, gradient_norm, train_candidate

__all__ = ["Cell", "CellRunner"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A candidate, the data that it is trained on by name, and for how many updates."""

    candidate: Candidate
    data: str
    """Name of one of the runner's data."""
    updates: int
    seed: int
    measure: Literal["train", "loss", "grad-norm", "operations"] = "train"

    @property
    def stem(self) -> str:
        """Name of its file."""
        text = f"{self.measure}-{self.data}-{self.candidate.name}-{self.updates}-seed{self.seed}"
        plain = "".join(c if c.isalnum() or c in "-=." else "_" for c in text)
        return f"{plain[:120]}-{hashlib.sha256(repr(self).encode()).hexdigest()[:8]}"


@dataclass(frozen=True, kw_only=True)
class _Worker:
    """Computes a cell; sent to a worker once."""

    data: Mapping[str, Source | Rows]
    scored_on: Mapping[str, Source]
    batch: int

    def __call__(self, cell: Cell) -> dict[str, Any]:
        data, scored_on = self.data[cell.data], self.scored_on[cell.data]
        if cell.measure == "operations":
            size = count_operations(candidate_factory(cell.candidate, scored_on), scored_on.input)
            return Trial(accuracy=size, operations=0.0, seconds=0.0).to_dict()
        if cell.measure == "grad-norm":
            assert not isinstance(data, Rows)
            return gradient_norm(cell.candidate, data, batch=self.batch, seed=cell.seed).to_dict()
        return train_candidate(
            cell.candidate, data, scored_on, updates=cell.updates, batch=self.batch, seed=cell.seed,
            by_loss=cell.measure == "loss",
        ).to_dict()  # fmt: skip


@dataclass(kw_only=True)
class CellRunner:
    """Runs cells, each once: the result is a file of ``folder``, from which it is read the next time."""

    folder: Path
    settings: Mapping[str, Any]
    """Settings that decide the contents of all cells."""
    batch: int
    executor: Executor | None
    progress: Callable[[str, int, int], object]

    def __post_init__(self) -> None:
        self._data: dict[str, Source | Rows] = {}
        self._scored_on: dict[str, Source] = {}

    def add_data(self, name: str, data: Source | Rows, scored_on: Source) -> None:
        """Add data that cells name, and the samples that their networks are scored on."""
        self._data[name], self._scored_on[name] = data, scored_on

    def run(self, cells: Sequence[Cell], title: str) -> list[dict[str, Any]]:
        """Return the results of all cells in order."""
        paths = [self.folder / "cells" / f"{cell.stem}.json" for cell in cells]
        found = [read_json(path, self.settings, "search") for path in paths]
        missing = [n for n, result in enumerate(found) if result is None]
        self.progress(title, len(cells) - len(missing), len(cells))
        if missing:
            used = {cells[n].data for n in missing}
            worker = _Worker(
                data={name: self._data[name] for name in used},
                scored_on={name: self._scored_on[name] for name in used}, batch=self.batch,
            )  # fmt: skip
            jobs = [cells[n] for n in missing]
            device = next(iter(worker.scored_on.values())).device
            runner = self.executor or choose_executor(len(jobs), device, worker, *jobs)
            own = [paths[n] for n in missing], [self.settings] * len(missing)
            for done, (at, result) in enumerate(compute_missing(jobs, worker, *own, runner, "search")):
                found[missing[at]] = result
                self.progress(title, len(cells) - len(missing) + done + 1, len(cells))
        return [{k: v for k, v in (one or {}).items() if k != "settings"} for one in found]
