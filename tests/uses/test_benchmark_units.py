"""Units of a benchmark: taken once, in order of what they need, and a failure stops nothing else."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.uses.units import Unit, UnitFolder
from potstill._util.file_lock import exclusive_output
from potstill.errors import PotstillError


class Work:
    """Units that say when they are computed."""

    def __init__(self, folder: Path, settings: Any = None) -> None:
        self.order: list[str] = []
        self.folder = UnitFolder(folder=folder, settings=settings or {"updates": 3})

    def unit(self, name: str, *needs: str, fails: bool = False) -> Unit:
        def compute() -> dict[str, Any]:
            self.order.append(name)
            if fails:
                raise ValueError(name)
            return {"value": len(name)}

        return Unit(name=name, compute=compute, needs=needs)


def test_units_wait_for_what_they_need_and_are_computed_once(tmp_path: Path) -> None:
    work = Work(tmp_path)
    units = [work.unit("b", "a"), work.unit("a")]
    assert work.folder.work(units) == []
    assert work.order == ["a", "b"]
    assert work.folder.read("a") == {"value": 1}
    again = Work(tmp_path)
    assert again.folder.work([again.unit("b", "a"), again.unit("a"), again.unit("1/10, c")]) == []
    assert again.order == ["1/10, c"]


def test_a_unit_that_fails_takes_only_what_needs_it_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    work = Work(tmp_path)
    units = [work.unit("a", fails=True), work.unit("b", "a"), work.unit("c", "b"), work.unit("d")]
    assert work.folder.work(units) == ["a", "b", "c"]
    assert work.order == ["a", "d"]
    assert "ValueError: a" in capsys.readouterr().err


def test_a_unit_that_another_process_is_at_is_left_to_it(tmp_path: Path) -> None:
    work = Work(tmp_path)
    with exclusive_output(work.folder.path("a")):
        assert work.folder.work([work.unit("a"), work.unit("b")]) == []
    assert work.order == ["b"]


def test_nothing_is_begun_after_the_time_and_other_settings_are_refused(tmp_path: Path) -> None:
    work = Work(tmp_path)
    assert work.folder.work([work.unit("a"), work.unit("b", "a")], stop_after=-1) == []
    assert work.order == []
    work.folder.work([work.unit("a")])
    with pytest.raises(PotstillError, match="was measured with other settings"):
        Work(tmp_path, {"updates": 4}).folder.read("a")
