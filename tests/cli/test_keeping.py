"""``potstill verify`` and ``potstill cache``: what is there, and whether it is whole."""

import contextlib
import io
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from potstill.cli.main import main
from potstill.errors import PotstillError
from potstill.locks import take
from potstill.verbs.cached import kept, prune
from potstill.verbs.verify import verify, verify_file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with something of every kind, and the cache that making it filled."""
    place = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POTSTILL_CACHE", str(place / "cache"))
        run = ["--quiet", "--network", "convnet-d1-w4"]
        small, score = place / "small.safetensors", place / "card.json"
        for words in (
            ["distill", "digits", "--method", "dm", "--ipc", "1", "--steps", "2", "--out", str(small), *run],
            ["distill", "digits", "--method", "random", "--ipc", "2", "--out", str(place / "s.safetensors"), "--quiet"],
            ["distill", "digits", "--method", "mtt", "--ipc", "1", "--steps", "1", "--networks-trained", "1",
             "--epochs-trained", "2", "--start-until", "1", "--ahead", "1", "--student-steps", "1",
             "--out", str(place / "mtt.safetensors"), *run],
            ["label", str(small), "--data", "digits", "--out", str(place / "labels.safetensors"), "--epochs", "1", *run,
             "--teacher-epochs", "20"],
            ["score", "digits", "--methods", "el2n", "--epochs", "3", "--runs", "1", "--out", str(place / "s.parquet"),
             *run],
            ["evaluate", str(small), "--data", "digits", "--seeds", "1", "--epochs", "1", "--no-baselines", "--out",
             str(score), *run],
        ):  # fmt: skip
            said = io.StringIO()
            with contextlib.redirect_stderr(said):
                assert main(words) == 0, said.getvalue()
        yield place


def test_every_kind_is_named_and_whole(made: Path) -> None:
    verdicts = verify(made)
    assert not [v for v in verdicts if v.problem]
    kinds = {v.kind for v in verdicts}
    assert kinds >= {
        "distilled set", "stored labels", "scores", "scorecard", "expert trajectory", "trained network",
        "record of a training", "accuracy on the full data",
    }  # fmt: skip
    assert all(v.sealed for v in verdicts if v.kind not in ("scorecard", "leaderboard"))
    by_name = {Path(v.path).name: v.about for v in verdicts}
    assert by_name["small.safetensors"] == "10 inputs of digits by dm"
    assert by_name["s.parquet"].startswith("el2n of ")


def test_a_bit_that_fell_over_is_noticed_in_every_kind(made: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    seen = set()
    for verdict in verify(made):
        path = Path(verdict.path)
        if not verdict.sealed or (verdict.kind, path.suffix) in seen:
            continue
        seen.add((verdict.kind, path.suffix))
        content = path.read_bytes()
        for _ in range(12):
            changed = bytearray(content)
            changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            (tmp_path / path.name).write_bytes(changed)
            found = verify_file(tmp_path / path.name)
            # A parquet file says of its columns what nobody here reads, such as their largest value.
            unread = path.suffix == ".parquet" and not found.problem
            assert (found.about == verdict.about) if unread else found.problem, verdict.kind
    assert len(seen) >= 6


def test_the_command_says_it_in_a_line_each_and_fails(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(made / "small.safetensors", tmp_path / "good.safetensors")
    content = (made / "small.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["verify", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert [line[:9].strip() for line in out.splitlines()] == ["NOT WHOLE", "whole"]
    assert "1 of 2 files not whole, such as" in err
    assert main(["verify", str(tmp_path / "good.safetensors"), "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert (found[0]["kind"], found[0]["sealed"], found[0]["problem"]) == ("distilled set", True, "")
    assert main(["verify", str(tmp_path / "notes.txt")]) == 1
    assert "not a file that Potstill writes" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "none")]) == 1
    assert "no such file or folder" in capsys.readouterr().err
    assert main(["verify"]) == 2


def test_hostile_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04" + bytes(99))
    (tmp_path / "zeros.parquet").write_bytes(bytes(1000))
    (tmp_path / f"kernels-{'0' * 64}.so").write_bytes(b"\x7fELF")
    (tmp_path / "loop").symlink_to(tmp_path)
    verdicts = verify(tmp_path)
    assert len(verdicts) == 4
    assert all(v.problem and "\n" not in v.problem for v in verdicts)


def test_the_cache_is_listed_verified_and_pruned(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(made / "cache", cache)
    monkeypatch.setenv("POTSTILL_CACHE", str(cache))
    rows = {row.kind: row for row in kept()}
    assert {"networks", "trajectories", "records", "full"} <= rows.keys()
    assert main(["cache", "--json"]) == 0
    assert {row["kind"] for row in json.loads(capsys.readouterr().out)["kinds"]} == rows.keys()
    assert main(["cache", "verify"]) == 0
    network = next((cache / "networks").glob("*.safetensors"))
    content = bytearray(network.read_bytes())
    content[-1] ^= 1
    network.write_bytes(content)
    assert main(["cache", "verify"]) == 1
    assert prune(damaged=True) == (1, len(content))
    assert main(["cache", "verify"]) == 0

    old = next((cache / "trajectories").glob("*.safetensors"))
    os.utime(old, (0, 0))
    assert prune(unused_days=30)[0] == 1
    assert not old.exists()
    for path in cache.rglob("*.*"):
        os.utime(path, (1e9 + len(path.name), 1e9 + len(path.name)))
    left = sum(row.bytes for row in kept())
    files, freed = prune(at_most=left // 2)
    assert files >= 1
    assert sum(row.bytes for row in kept()) == left - freed <= left // 2
    with pytest.raises(PotstillError, match="holds no 'pictures'; there is"):
        prune(kind="pictures", at_most=0)
    capsys.readouterr()
    assert main(["cache", "prune"]) == 2
    assert main(["cache", "list", "--damaged"]) == 2


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    folder = tmp_path / "networks"
    folder.mkdir()
    descriptor = take(folder / ".alive.0123456789ab.part")
    assert descriptor is not None
    (folder / ".dead.0123456789ab.part").touch()
    try:
        assert prune(tmp_path)[0] == 1
        assert [path.name for path in folder.iterdir()] == [".alive.0123456789ab.part"]
    finally:
        os.close(descriptor)


def test_resume_starts_and_ends_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.safetensors"
    words = ["distill", "digits", "--ipc", "1", "--steps", "2", "--network", "mlp", "--out", str(out), "--resume"]
    assert main(words) == 0
    assert "no unfinished run to resume; this run starts afresh" in capsys.readouterr().err
    first = out.stat().st_mtime_ns
    assert main(words) == 0
    told = capsys.readouterr()
    assert "has finished before; nothing was done" in told.err
    assert out.stat().st_mtime_ns == first
    assert main([*words, "--seed", "1"]) == 0
    assert "starts afresh" in capsys.readouterr().err
    assert out.stat().st_mtime_ns != first


def test_the_folder_of_a_choice_under_way_is_no_checkpoint_of_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.safetensors"
    kept = Path(f"{out}.checkpoint")
    kept.mkdir()
    (kept / "journal.json").write_text("{}")
    for resume in ([], ["--resume"]):
        words = ["distill", "digits", "--method", "random", "--ipc", "1", "--out", str(out), "--quiet", *resume]
        assert main(words) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "as a choice of method auto or class shards leave under way" in said
        assert (kept / "journal.json").read_text() == "{}", "nothing is lost"
        assert not out.exists()
