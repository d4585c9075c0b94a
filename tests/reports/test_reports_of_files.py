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


def test_the_page_says_that_pictures_are_drawn_and_how_to_draw_others(tmp_path: Path) -> None:
    small = potstill.distill(
        "digits", "dm", ipc=5, parametrization="generator:samples=3,dim=2,width=1,epochs=0", steps=0,
        network="mlp-w8", codec="uint8", progress=None,
    )  # fmt: skip
    pages = [potstill.report(small.save(tmp_path / "a.safetensors"), tmp_path / "a.html").read_text("utf-8")]
    stored = potstill.distill("digits", "random", ipc=3, progress=None).save(tmp_path / "b.safetensors")
    pages.append(potstill.report(stored, tmp_path / "b.html").read_text("utf-8"))
    for words in ("drawn from a generator that the file holds, 3 of each class; ", "<code>potstill resample</code>"):
        assert [words in page for page in pages] == [True, False]
    assert "10 of the 30 drawn pictures." in pages[0]


def test_indices_of_a_selection_are_passed_over_in_a_folder_and_refused_by_name(tmp_path: Path) -> None:
    whole, indices = tmp_path / "all.safetensors", tmp_path / "few.safetensors"
    potstill.distill("digits", "random", ipc=1, out=whole, progress=None)
    potstill.export(whole, "indices", indices)
    assert [entry.name for entry in collect([tmp_path])] == ["all"]
    with pytest.raises(PotstillError, match="holds the indices of a selection and not its samples; put them together"):
        collect([indices])
