"""Cells of a use: several processes share the work of a folder."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from potstill._util.file_lock import exclusive_output
from potstill.errors import PotstillError
from potstill.execution import Serial
from potstill.uses import cell_files
from potstill.uses.cell_files import WayCell, run_cells, write_json

SETTINGS = {"data": "x"}
CELLS = [WayCell(way="a", number=n) for n in range(3)]


def path_of(folder: Path, cell: WayCell) -> Path:
    return folder / "cells" / f"{cell.stem}.json"


def computed(folder: Path, compute: Any) -> list[dict[str, Any]]:
    return run_cells(
        CELLS, compute, folder, SETTINGS, Serial(), torch.device("cpu"), lambda *_: None, "test"
    )  # fmt: skip


def test_a_cell_that_another_process_computes_is_left_for_last_and_read(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    order = []
    with ExitStack() as other:
        other.enter_context(exclusive_output(path_of(tmp_path, CELLS[0])))

        def compute(cell: WayCell) -> dict[str, Any]:
            order.append(cell.number)
            if cell.number == 2:  # now the other process is done with the first
                write_json(
                    path_of(tmp_path, CELLS[0]), {"settings": {**SETTINGS, **CELLS[0].settings}, "by": "the other"}
                )
                other.close()
            return {"by": "this"}

        results = computed(tmp_path, compute)
    assert order == [1, 2]
    assert [one["by"] for one in results] == ["the other", "this", "this"]


def test_a_cell_of_a_process_that_ended_without_it_is_computed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cells").mkdir()
    with ExitStack() as other:
        for cell in CELLS:
            other.enter_context(exclusive_output(path_of(tmp_path, cell)))
        naps = []

        def nap(seconds: float) -> None:
            naps.append(seconds)
            other.close()

        monkeypatch.setattr(cell_files.time, "sleep", nap)
        assert [one["n"] for one in computed(tmp_path, lambda cell: {"n": cell.number})] == [0, 1, 2]
    assert naps == [cell_files.POLL]
    assert not list((tmp_path / "cells").glob(".*"))


def test_what_another_process_wrote_with_other_settings_is_refused(tmp_path: Path) -> None:
    def compute(cell: WayCell) -> dict[str, Any]:
        write_json(path_of(tmp_path, CELLS[1]), {"settings": {"data": "other"}, "by": "the other"})
        return {}

    with pytest.raises(PotstillError, match="was measured with other settings or data; choose another folder"):
        computed(tmp_path, compute)
