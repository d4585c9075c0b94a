"""Pages of sets that lie on disk."""

from pathlib import Path

import potstill
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
