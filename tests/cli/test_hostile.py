"""Names and numbers that nobody means: one line, no traceback, no waiting."""

import pytest

import potstill
from potstill._util.formatting import parse_duration, parse_size
from potstill.cli.main import main
from potstill.data.shards import expand_braces
from potstill.errors import PotstillError

NAMES = [
    "x" * 5000, "x" * 300 + ".csv", "y" * 300 + "/a.npz", "z" * 300 + ".tar", "x" * 300 + ".parquet",
    "hub:" + "x" * 5000, "x-{0..99999999}.tar", "x-{0.." + "9" * 5000 + "}.tar", "x-" + "{a,b}" * 1500 + ".tar",
    "x-" + "{0..9}" * 45 + ".tar", "a\0b.csv", "a\0b.tar", "a\0b", "\ud800", "a\nb",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: f"{name[:12]!r}")
def test_data_of_no_possible_name_are_refused_in_one_line(
    name: str, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["distill", name, "--ipc", "1", "--out", "o.safetensors", "--quiet"]) == 1
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n"), shown.err.startswith("potstill: error: ")) == ("", 1, True)


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("hub:")], ids=lambda name: f"{name[:12]!r}")
def test_so_they_are_by_the_library(name: str) -> None:
    with pytest.raises(PotstillError):
        potstill.load_data(name)


@pytest.mark.parametrize("command", ["verify", "serve", "report"])
def test_files_of_no_possible_name_too(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--out", "o.html"] if command == "report" else []
    assert main([command, "x" * 300, *words, "--quiet"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("text", ["9" * 400 + "kB", "9" * 5000, "1" + "0" * 19, "-" + "9" * 400, "1." + "0" * 9 + "e9"])
def test_sizes_that_no_disk_has_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="a size") as caught:
        parse_size(text)
    assert len(str(caught.value)) < 130


@pytest.mark.parametrize("text", ["9" * 5000 + "h", "9" * 400, "9" * 11, "1h" * 2_000_000 + "x", "101" + "0" * 6 + "h"])
def test_times_that_nobody_waits_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="a duration") as caught:
        parse_duration(text)
    assert len(str(caught.value)) < 130


def test_patterns_of_many_shards_still_stand_for_them() -> None:
    assert list(expand_braces("{a,b}-{08..11}")) == [f"{a}-{n:02}" for a in "ab" for n in range(8, 12)]
