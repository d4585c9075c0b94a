"""Where names make a file much larger than its set, the commands say so."""

import json
from pathlib import Path

import numpy as np
import pytest

import potstill
from potstill._util.card import file_size_note
from potstill.cli.main import main
from potstill.dataset_file.inspect import describe
from potstill.dataset_file.text_io import charged_bytes
from potstill.evaluation.byte_matched_baselines import baseline_byte_budget


def wide_table(folder: Path, columns: int) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, columns))
    names = [f"measured quantity {rng.integers(10**12)}" for _ in range(columns)]
    lines = [",".join([*names, "target"])] + [
        ",".join([*(f"{v:.3f}" for v in row), "ab"[i % 2]]) for i, row in enumerate(x)
    ]
    at = folder / "wide.csv"
    at.write_text("\n".join(lines))
    return at


@pytest.mark.parametrize(
    ("stated", "size", "said"), [(1000, 2074, False), (1000, 2075, True), (10**6, 1_051_024, False)]
)
def test_a_size_is_said_from_5_percent_and_1_kb_on(stated: int, size: int, said: bool) -> None:
    note = file_size_note({"total": stated}, size)
    assert bool(note) == said
    assert not said or note.startswith("2,075 bytes on disk")


def test_distill_and_inspect_say_the_size_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = wide_table(tmp_path, 80), tmp_path / "small.safetensors"
    words = ["distill", str(source), "--label", "target", "--method", "random", "--ipc", "2", "--codec", "uint2"]
    assert main([*words, "--out", str(out)]) == 0
    size = out.stat().st_size
    stated = potstill.load(out).metadata["bytes"]["total"]
    assert size > 1.05 * stated + 1024
    names = potstill.load(out).metadata["bytes"]["names"]
    assert size <= 1.05 * (stated + names) + 2048
    said = f"{size:,} bytes on disk, {names:,} of them names, which real samples need, too"
    line = f"{stated:,} bytes ({said}), made by random"
    assert line in capsys.readouterr().out
    assert main(["inspect", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["file_bytes"] == size
    assert f"file        {size:,} bytes on disk" in describe(summary)


def ratings(folder: Path, length: int) -> Path:
    """Write interactions of 30 users with 200 items whose names have so many random characters."""
    rng = np.random.default_rng(1)
    names = [f"{i} " + "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), length)) for i in range(200)]
    at = folder / "ratings.csv"
    rows = [f"u{u},{names[i]}" for u in range(30) for i in np.random.default_rng(u).permutation(200)[:60]]
    at.write_text("\n".join(["user,item", *rows]))
    return at


def test_names_of_items_are_stated_and_count_against_nothing(tmp_path: Path) -> None:
    sets = []
    for length in (1, 60):
        data = potstill.load_data(ratings(tmp_path, length), kind="ratings")
        small = potstill.distill(data, "random", bytes=600, progress=None)
        sets.append((small, small.save(tmp_path / f"{length}.safetensors").stat().st_size))
    (few, short), (many, long) = sets
    sizes = many.metadata["bytes"]
    assert len(few) == len(many)
    assert sizes["total"] == few.metadata["bytes"]["total"] == sum(t.nbytes for t in many.tensors.values())
    assert charged_bytes(sizes) == sizes["total"] <= 600
    assert sizes["names"] - few.metadata["bytes"]["names"] == pytest.approx(long - short, rel=0.02)
    assert f"(and names of {sizes['names']} in its header)" in describe(potstill.inspect(many))
    assert potstill.load(tmp_path / "60.safetensors").metadata["bytes"] == sizes
    both = potstill.concat([many, many])
    assert both.metadata["bytes"]["names"] == pytest.approx(sizes["names"], rel=0.02)
    page = potstill.report(tmp_path / "60.safetensors", tmp_path / "page.html").read_text("utf-8")
    assert "Names in its header, which real data need, too" in page


def test_a_scorecard_and_its_real_samples_have_the_same_bytes_without_names(tmp_path: Path) -> None:
    data = potstill.load_data(ratings(tmp_path, 60), kind="ratings")
    small = potstill.distill(data, "random", bytes=600, progress=None)
    assert baseline_byte_budget(small.metadata["bytes"]) == small.metadata["bytes"]["total"]


def test_a_set_of_pictures_needs_no_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.safetensors"
    assert main(["distill", "digits", "--method", "random", "--ipc", "2", "--out", str(out)]) == 0
    assert "on disk" not in capsys.readouterr().out
    assert "names" not in potstill.load(out).metadata["bytes"]
    in_memory = potstill.inspect(potstill.distill("digits", "random", ipc=1, progress=None))
    assert in_memory["file_bytes"] is None
    assert "on disk" not in describe(in_memory)
