"""Models of the same bytes beside the cells of a comparison: one at each size, shared by all methods.

A model is measured once for each number of bytes, of networks and each repeat, and stored as a file in the comparison's
folder. At a size in bytes it has these; at a size in items the bytes of the smallest set of that size.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from potstill._util.progress import Callback
from potstill.comparison.cells import Cell, Result, SharedSettings, Unit, check_equal, to_json
from potstill.core import Splits
from potstill.dataset_file import write_atomic
from potstill.dataset_file.text_io import charged_bytes
from potstill.errors import PotstillError
from potstill.evaluation.model_baseline import MODEL, STEPS, make_model_baseline, model_contexts
from potstill.execution import Executor
from potstill.runs.loop import Interrupted, Progress

__all__ = ["ModelCell", "ModelMaker", "model_cells"]


@dataclass(frozen=True, kw_only=True)
class ModelCell:
    """A model at one size, with the seed of one repeat."""

    unit: Unit
    amount: int
    byte_budget: int
    repeat: int
    students: int
    """Networks that are trained."""
    shared: SharedSettings

    @property
    def seed(self) -> int:
        return self.shared.seed + self.repeat

    @property
    def stem(self) -> str:
        """Name of the file without its endings."""
        numbered = f"-set{self.repeat}" if self.repeat else ""
        return f"model-bytes{self.byte_budget}-networks{self.students}{numbered}"

    @property
    def file(self) -> Path:
        return self.shared.folder / f"{self.stem}.model.json"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that the file must state."""
        return {
            "method": MODEL, "bytes": self.byte_budget, "data": self.shared.data, "seed": self.seed,
            "networks": self.students, "steps": STEPS,
        }  # fmt: skip

    def read(self) -> dict[str, Any] | None:
        """Return the existing measurement.

        Raises:
            PotstillError: the file is none, or was made with other settings.
        """
        if not self.file.exists():
            return None
        try:
            card = json.loads(self.file.read_text())
            if (
                not isinstance(card, dict)
                or not isinstance(card["score"], dict)
                or not isinstance(card["values"], list)
            ):
                raise ValueError("it holds no scores")
        except (OSError, ValueError, KeyError, RecursionError) as error:
            raise PotstillError(
                f"{self.file}: not a measured model ({type(error).__name__}: {error}); delete it to measure again"
            ) from error
        settings = card.get("settings")
        check_equal(self.file, settings if isinstance(settings, dict) else {}, self.settings)
        return card


def model_cells(cells: Sequence[Cell], results: Sequence[Sequence[Result]] | None = None) -> list[ModelCell]:
    """Return the models of all sizes, protocols and repeats.

    Args:
        cells: all cells.
        results: their scorecards, which say how many bytes sets of a size in items have; without them, such sizes are
            left out.
    """
    measured: dict[tuple[Unit, int], int] = {}
    for cell, of_cell in zip(cells, results or (), strict=False):
        for card in of_cell:
            if cell.unit != "bytes" and not isinstance(card, str):
                size = charged_bytes(card["bytes"])
                key = cell.unit, cell.amount
                measured[key] = min(size, measured.get(key, size))
    models: list[ModelCell] = []
    for unit, amount in dict.fromkeys((cell.unit, cell.amount) for cell in cells):
        budget = amount if unit == "bytes" else measured.get((unit, amount))
        if budget is None:
            continue
        shared = cells[0].shared
        repeats = range(max(cell.repeat for cell in cells) + 1)
        students = dict.fromkeys(measure.students for measure in shared.measures)
        models += [
            ModelCell(unit=unit, amount=amount, byte_budget=budget, repeat=r, students=n, shared=shared)
            for r in repeats for n in students
        ]  # fmt: skip
    return models


@dataclass(frozen=True, kw_only=True)
class ModelMaker:
    """Makes and measures a model where its file is missing."""

    splits: Splits
    executor: Executor | None
    progress: Callable[[str, Progress], None] | None = None
    """Called with the cell's name after each trained network; those of one stage of the search are counted."""

    @cached_property
    def _failed(self) -> dict[Path, str]:
        return {}

    def __call__(self, cell: ModelCell) -> Result:
        """Return the measurement, from its file if it is there; or why there is none.

        Raises:
            PotstillError: the file cannot be written, or was made with other settings.
        """
        if (card := cell.read()) is not None:
            return card
        if cell.file in self._failed:
            return self._failed[cell.file]
        try:
            found = self._measure(cell)
        except Interrupted:
            raise
        except PotstillError as error:
            self._failed[cell.file] = str(error)
            return str(error)
        written = to_json(found)
        write_atomic(cell.file, written)
        result: Mapping[str, Any] = json.loads(written)
        return result

    def _measure(self, cell: ModelCell) -> dict[str, Any]:
        if self.splits.test is None:
            raise PotstillError("a model needs real test data, but these have no test split; give data that has one")
        context, where = model_contexts(
            self.splits.train, self.splits.test, cell.byte_budget, students=cell.students, seed=cell.seed,
            executor=self.executor, report=self._report(cell),
        )  # fmt: skip
        model = make_model_baseline(context, where)
        samples = model.measurement.samples
        return model.to_dict(context) | {
            "settings": cell.settings, "test_samples": {} if samples is None else {MODEL: samples.to_dict()},
        }  # fmt: skip

    def _report(self, cell: ModelCell) -> Callback | None:
        """Return the callback of a cell's networks."""
        if (progress := self.progress) is None:
            return None
        begun, stage = time.monotonic(), 0

        def report(label: str, done: int, total: int) -> None:
            nonlocal begun, stage
            if done == 0:
                begun, stage = time.monotonic(), stage + 1
            seconds = time.monotonic() - begun
            progress(
                f"{cell.stem}{label.removeprefix(MODEL)}, stage {stage}",
                Progress(step=done, total=total, seconds=seconds, time_limit=None, metrics={}),
            )

        return report
