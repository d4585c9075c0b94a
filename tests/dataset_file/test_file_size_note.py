"""Where names make a file much larger than its set, the commands say so."""

import json
from pathlib import Path

import numpy as np
import pytest

import potstill
from potstill._util.card import file_size_note
from potstill.cli.main import main
from potstill.dataset_file.inspect import describe


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
    note = file_size_note(stated, size)
    assert bool(note) == said
    assert not said or note.startswith("2,075 bytes on disk")


def test_distill_and_inspect_say_the_size_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = wide_table(tmp_path, 80), tmp_path / "small.safetensors"
    words = ["distill", str(source), "--label", "target", "--method", "random", "--ipc", "2", "--codec", "uint2"]
    assert main([*words, "--out", str(out)]) == 0
    size = out.stat().st_size
    stated = potstill.load(out).metadata["bytes"]["total"]
    assert size > 1.05 * stated + 1024
    line = f"{stated:,} bytes ({size:,} bytes on disk, with names and settings in its header), made by random"
    assert line in capsys.readouterr().out
    assert main(["inspect", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["file_bytes"] == size
    assert f"file        {size:,} bytes on disk" in describe(summary)


def test_a_set_of_pictures_needs_no_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.safetensors"
    assert main(["distill", "digits", "--method", "random", "--ipc", "2", "--out", str(out)]) == 0
    assert "on disk" not in capsys.readouterr().out
    in_memory = potstill.inspect(potstill.distill("digits", "random", ipc=1, progress=None))
    assert in_memory["file_bytes"] is None
    assert "on disk" not in describe(in_memory)
