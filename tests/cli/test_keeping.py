"""``potstill verify`` and ``potstill cache``: what is there, and whether it is whole."""

import contextlib
import importlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from potstill._util.cache import make_cache_folder
from potstill._util.file_lock import lock_file
from potstill.api.cache import list_cache, prune
from potstill.api.verify import verify, verify_file
from potstill.cli.main import main
from potstill.errors import PotstillError


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
            ["distill", "digits", "--method", "mtt", "--ipc", "1", "--steps", "1", "--num-experts", "1",
             "--train-epochs", "2", "--max-start-epoch", "1", "--expert-epochs", "1", "--student-steps", "1",
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
    rows = {row.kind: row for row in list_cache()}
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
    left = sum(row.bytes for row in list_cache())
    files, freed = prune(at_most=left // 2)
    assert files >= 1
    assert sum(row.bytes for row in list_cache()) == left - freed <= left // 2
    with pytest.raises(PotstillError, match="holds no 'pictures'; there is"):
        prune(kind="pictures", at_most=0)
    capsys.readouterr()
    assert main(["cache", "prune"]) == 2
    assert main(["cache", "list", "--damaged"]) == 2


def test_what_is_being_written_stays(tmp_path: Path) -> None:
    folder = tmp_path / "networks"
    folder.mkdir()
    descriptor = lock_file(folder / ".alive.0123456789ab.part")
    assert descriptor is not None
    (folder / ".dead.0123456789ab.part").touch()
    try:
        assert prune(tmp_path)[0] == 1
        assert [path.name for path in folder.iterdir()] == [".alive.0123456789ab.part"]
    finally:
        os.close(descriptor)


def _entries(cache: Path) -> None:
    """One file of a kind, known by its name, and what is somebody else's."""
    for path in (f"networks/{'a' * 72}.safetensors", "networks/thesis.tex", "thesis/thesis.tex", "notes.txt"):
        (cache / path).parent.mkdir(parents=True, exist_ok=True)
        (cache / path).write_text("mine")


def test_a_prune_deletes_nothing_that_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared, other = tmp_path / "shared", tmp_path / "other"
    _entries(other)
    monkeypatch.setenv("POTSTILL_CACHE", str(shared))
    make_cache_folder(shared / "networks")  # which marks the folder, as it is new
    assert (shared / "CACHEDIR.TAG").read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    _entries(shared)
    (shared / "trajectories").symlink_to(other / "networks")
    (shared / "records").mkdir()
    (shared / "records" / ("b" * 72)).symlink_to(other)
    (shared / f"networks/{'c' * 72}.safetensors").symlink_to(other / "notes.txt")
    before = {p: p.read_text() for p in (*other.rglob("*"), *shared.rglob("*")) if p.is_file()}
    for path in (*shared.rglob("*"), *other.rglob("*")):
        os.utime(path, (0, 0))  # last, as reading is using
    gone = shared / f"networks/{'a' * 72}.safetensors"
    assert [row.files for row in list_cache()] == [1]
    assert main(["cache", "prune", "--unused", "30"]) == 0
    assert capsys.readouterr().out == "deleted 1 file, 4 bytes\n"
    assert {p: p.read_text() for p in before if p.is_file()} == {p: t for p, t in before.items() if p != gone}
    with pytest.raises(PotstillError, match="holds no 'thesis'"):
        prune(kind="thesis", at_most=0)


def test_a_shared_folder_that_is_no_cache_is_never_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _entries(tmp_path)
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    make_cache_folder(tmp_path / "networks")
    assert not (tmp_path / "CACHEDIR.TAG").exists()  # or backups would leave the thesis out
    assert main(["cache", "prune", "--at-most", "1B"]) == 1
    said = capsys.readouterr().err
    assert "is not marked as a cache of Potstill, and holds 'notes.txt'; nothing was deleted" in said
    assert said.count("\n") == 1
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 4


def test_decoded_pictures_make_room_among_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("potstill.data.decode_cache.MAX_CACHE_BYTES", 0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = ["holiday.safetensors", f"{'d' * 64}.safetensors", f"{'e' * 64}.safetensors", ".mine.part"]
    for name in names:
        (folder / name).write_text("x")
        os.utime(folder / name, (0, 0))
    importlib.import_module("potstill.data.decode_cache")._prune(folder / names[2])
    assert sorted(p.name for p in folder.iterdir()) == sorted([names[0], names[2], names[3]])


RUN = """
import sys
from pathlib import Path
import potstill
from potstill.api.cache import prune

pruned = []
def look(p):
    if p.step == 1:
        pruned.append(prune(at_most=0))
small = potstill.distill(
    "digits", "mtt", ipc=1, steps=6, network="convnet-d1-w4", num_experts=3, train_epochs=2, max_start_epoch=1,
    expert_epochs=1, student_steps=1, progress=look,
)
print(pruned[0][0], small.metadata["outcome"]["step"])
"""


def test_a_prune_beside_a_run_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    done = subprocess.run(
        [sys.executable, "-c", RUN], env={**os.environ, "POTSTILL_CACHE": str(cache), "POTSTILL_NATIVE": "0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "0 6\n"), done.stderr
    assert not list((cache / ".in-use").iterdir())  # it has ended
    assert len(list((cache / "trajectories").glob("*.safetensors"))) == 3
    assert prune(cache, at_most=0)[0] >= 3


def test_what_a_killed_process_had_in_use_is_free(tmp_path: Path) -> None:
    lease = tmp_path / ".in-use" / "12345-0123456789ab"
    lease.parent.mkdir()
    lease.write_text(f"networks/{'a' * 72}.safetensors\n")
    entry = tmp_path / f"networks/{'a' * 72}.safetensors"
    entry.parent.mkdir()
    entry.touch()
    assert prune(tmp_path, at_most=-1)[0] == 1
    assert not lease.exists()


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
    assert main([*words, "--seed", "1"]) == 1  # another run's set is not replaced unasked
    assert "holds the set of another run (seed was 0 and now is 1)" in capsys.readouterr().err
    assert out.stat().st_mtime_ns == first
    assert main([*words, "--seed", "1", "--force"]) == 0
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
        assert "as method auto or class shards leave when they are interrupted" in said
        assert (kept / "journal.json").read_text() == "{}", "nothing is lost"
        assert not out.exists()
