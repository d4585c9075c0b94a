"""Pages of sets that lie on disk."""

from pathlib import Path

import pytest

import potstill
from potstill.errors import PotstillError
from potstill.reports.collect import collect
from potstill.reports.provenance import storage


def test_the_page_says_what_the_file_takes_beside_what_the_set_does(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    potstill.distill("digits", "random", bytes=2000, out=path, progress=None)
    (entry,) = collect([path])
    shown = "".join(map(str, storage(entry) or []))
    assert entry.file_bytes == path.stat().st_size > entry.card["bytes"]["total"]
    assert "The file, with its metadata" in shown
    assert "Positions in the real data" in shown


def test_indices_of_a_selection_are_passed_over_in_a_folder_and_refused_by_name(tmp_path: Path) -> None:
    whole, indices = tmp_path / "all.safetensors", tmp_path / "few.safetensors"
    potstill.distill("digits", "random", ipc=1, out=whole, progress=None)
    potstill.export(whole, "indices", indices)
    assert [entry.name for entry in collect([tmp_path])] == ["all"]
    with pytest.raises(PotstillError, match="holds the indices of a selection and not its samples; put them together"):
        collect([indices])
