"""Bits that fall over, writers that die, links that were put there, and two runs on one output."""

import errno
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill._util.file_lock import exclusive_output
from potstill.core import InputSpec, Normalization
from potstill.dataset_file import Distilled, load, read_checkpoint, read_tensors, write_atomic, write_checkpoint
from potstill.dataset_file.folders import write_folder
from potstill.dataset_file.memmap_safetensors import TensorField, open_memmap, plan_layout, write_in_parts
from potstill.dataset_file.scores import MethodScores, Scores, read_scores, write_scores
from potstill.errors import PotstillError
from tests.build_set import build_set


def a_set() -> Distilled:
    x = torch.rand(6, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    return build_set(
        x, torch.arange(6) % 3, method="dm", config={"lr": 1.0}, seed=3, ipc=2, classes=("a", "b", "c"),
        input=InputSpec(kind="image", shape=(1, 5, 5)), normalization=Normalization(torch.zeros(1), torch.ones(1)),
        training={}, source={"name": "toy", "samples": 9, "hash": "0" * 64}, outcome={"kind": "finished"}, cost={},
    )  # fmt: skip


@dataclass(frozen=True)
class State:
    x: Tensor
    n: int


def flips(path: Path, count: int, seed: int) -> Iterator[tuple[int, int]]:
    """The file with one bit the other way, each time another one."""
    whole, rng = path.read_bytes(), random.Random(seed)
    for _ in range(count):
        at, bit = rng.randrange(len(whole)), rng.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        yield at, bit
    path.write_bytes(whole)


def refused(read: Callable[[], Any]) -> bool:
    try:
        read()
    except PotstillError as error:
        return "\n" not in str(error)
    return False


def test_no_bit_of_a_set_falls_over_unseen(tmp_path: Path) -> None:
    path = a_set().save(tmp_path / "a.safetensors")
    assert [where for where in flips(path, 300, seed=1) if not refused(lambda: load(path))] == []
    assert torch.equal(load(path).inputs, a_set().inputs)


def test_no_bit_of_a_checkpoint_falls_over_unseen(tmp_path: Path) -> None:
    path, rng_state = tmp_path / "c", torch.Generator().get_state()
    state = State(x=torch.randn(40, generator=torch.Generator().manual_seed(0)), n=2)
    write_checkpoint(path, state=state, rng_state=rng_state, step=4, identity={"seed": 0}, meta={"seconds": 1.0})

    def read() -> None:
        read_checkpoint(path, State, {"seed": 0})

    assert [where for where in flips(path, 150, seed=2) if not refused(read)] == []
    read()


def test_mapped_files_are_checked_where_that_is_asked_for(tmp_path: Path) -> None:
    from potstill.dataset_file import write_tensors

    path = tmp_path / "rows.safetensors"
    write_tensors(path, {"p": torch.rand(100)}, {"n": "100"})
    assert [w for w in flips(path, 50, seed=3) if not refused(lambda: open_memmap(path, check=True))] == []
    assert open_memmap(path, check=True)[1]["n"] == "100"


def test_a_file_without_a_hash_is_read_and_one_of_another_content_is_not(tmp_path: Path) -> None:
    path = a_set().save(tmp_path / "a.safetensors")
    with safetensors.safe_open(path, "pt") as file:
        said = file.metadata()
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file(tensors, path, {name: said[name] for name in ("card", "details")})
    assert torch.equal(load(path).inputs, a_set().inputs)
    safetensors.torch.save_file({**tensors, "inputs": tensors["inputs"] / 2}, path, said)
    with pytest.raises(PotstillError, match="its content is not the one that was written"):
        load(path)


def test_equal_sets_are_equal_bytes(tmp_path: Path) -> None:
    assert a_set().save(tmp_path / "a").read_bytes() == a_set().save(tmp_path / "b").read_bytes()
    assert read_tensors(tmp_path / "a", 2**20)[1].keys() == {"card", "details"}


# --- what killed writers leave ------------------------------------------------------------------------------------

KILLED = """
import os, sys
from pathlib import Path
from potstill._util.file_lock import exclusive_output

with exclusive_output(Path(sys.argv[1])):
    print("running", flush=True)
    sys.stdin.read()
"""


def running(path: Path) -> "subprocess.Popen[str]":
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return process


def test_a_second_run_on_one_output_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with running(path) as first:
        with pytest.raises(PotstillError, match=rf"a\.safetensors: another run \(process {first.pid}\) is writing it"):
            exclusive_output(path).__enter__()
        with exclusive_output(tmp_path / "b.safetensors"):  # another output is free
            pass
        first.send_signal(signal.SIGKILL)
    assert [p.name for p in tmp_path.iterdir()] == [".a.safetensors.lock"]
    with exclusive_output(path):  # the lock died with its process
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".a.lock").symlink_to(tmp_path / "victim")
    with exclusive_output(tmp_path / "a"):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


def test_parts_of_dead_writers_are_cleared_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    dead, other = tmp_path / ".a.0123456789ab.part", tmp_path / ".b.0123456789ab.part"
    dead.write_bytes(b"half")
    other.write_bytes(b"half")
    (tmp_path / ".d.0123456789ab.part").mkdir()
    (tmp_path / ".d.0123456789ab.part" / "x").write_bytes(b"half")

    def content(folder: Path) -> None:
        (folder / "x").write_bytes(b"x")
        write_atomic(tmp_path / "d", b"meanwhile")  # by another writer, whose clearing must leave this folder alone
        (tmp_path / "d").unlink()

    write_folder(tmp_path / "d", content)
    write_atomic(tmp_path / "a", b"all")
    assert sorted(p.name for p in tmp_path.iterdir()) == [other.name, "a", "d"]
    assert (tmp_path / "d" / "x").read_bytes() == b"x"


def test_where_nobody_can_tell_whether_a_writer_lives_nothing_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / ".a.0123456789ab.part"
    part.write_bytes(b"half")

    def none(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with exclusive_output(tmp_path / "a"):
        write_atomic(tmp_path / "a", b"all")
    assert sorted(p.name for p in tmp_path.iterdir()) == [part.name, "a"]


# --- files that are filled in place -------------------------------------------------------------------------------

ROWS = plan_layout({"values": TensorField("F32", (2, 3, 4))}, {"labels": "{}"})
PARTS = [(0, 3), (3, 6)]


def rows(first: int, end: int) -> Mapping[str, NDArray[Any]]:
    return {"values": np.arange(first * 4, end * 4, dtype="<f4").reshape(-1, 4)}


def test_a_second_writer_of_one_file_is_refused_and_the_first_is_whole(tmp_path: Path) -> None:
    path, said = tmp_path / "l.safetensors", list[str]()

    def slow(first: int, end: int) -> Mapping[str, NDArray[Any]]:
        with pytest.raises(PotstillError, match="another run is writing it") as caught:
            write_in_parts(path, ROWS, PARTS, rows)
        said.append(str(caught.value))
        return rows(first, end)

    write_in_parts(path, ROWS, PARTS, slow, record_every=0)
    assert len(said) == 2
    assert open_memmap(path)[0]["values"].reshape(-1).tolist() == list(range(24))
    assert [p.name for p in tmp_path.iterdir()] == ["l.safetensors"]


@pytest.mark.parametrize("kind", ["part", "progress"])
def test_a_link_in_place_of_a_part_is_not_written_through(tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f".l.safetensors.{kind}").symlink_to(victim)
    with pytest.raises(PotstillError, match=rf"\.l\.safetensors\.{kind}: "):
        write_in_parts(tmp_path / "l.safetensors", ROWS, PARTS, rows, record_every=0)
    assert victim.read_bytes() == b"precious"
    os.unlink(tmp_path / f".l.safetensors.{kind}")
    write_in_parts(tmp_path / "l.safetensors", ROWS, PARTS, rows)


# --- scores ---------------------------------------------------------------------------------------------------------


def a_table(path: Path) -> Path:
    values = torch.rand(500, generator=torch.Generator().manual_seed(0))
    methods = {"el2n": MethodScores(columns={"el2n": values}, config={"lr": 0.1})}
    labels = torch.zeros(500, dtype=torch.int64)
    write_scores(Scores(source="toy", content_hash="0" * 64, labels=labels, classes=("a",), methods=methods), path)
    return path


def test_no_bit_of_a_score_falls_over_unseen(tmp_path: Path) -> None:
    path = a_table(tmp_path / "s.parquet")
    wanted = read_scores(path).methods["el2n"].columns["el2n"]
    for _ in flips(path, 100, seed=4):
        try:
            found = read_scores(path).methods["el2n"].columns["el2n"]
        except PotstillError:
            continue
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("config", [3, [1], None, "lr"])
def test_settings_of_scores_that_are_no_mapping_are_refused(tmp_path: Path, config: object) -> None:
    table = pq.read_table(a_table(tmp_path / "s.parquet"))
    said = json.loads(table.schema.metadata[b"potstill"])
    said["methods"]["el2n"]["config"] = config
    pq.write_table(table.replace_schema_metadata({"potstill": json.dumps(said)}), tmp_path / "t.parquet")
    with pytest.raises(PotstillError, match="not a file of scores"):
        read_scores(tmp_path / "t.parquet")
