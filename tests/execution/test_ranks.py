"""Two processes of torchrun do what one does: gradients, jobs, sets; and none waits for one that is gone."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import potstill
from potstill.errors import PotstillError
from potstill.execution import Ranks
from potstill.execution.ranks import _check_backend, backend_for, launched_by_torchrun

HERE = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
LOCAL = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
"""A machine's name need not be one that it can reach itself by."""


def torchrun(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*TORCHRUN, "--nproc-per-node", "2", *words], capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, **LOCAL},
    )  # fmt: skip


def told(what: str, *options: str) -> Any:
    done = torchrun(*options, str(HERE / "ranked.py"), what)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr
    return json.loads(lines[-1])


@pytest.fixture(scope="module")
def together() -> Any:
    return told("together")


def test_steps_over_two_ranks_are_those_of_one(together):
    found = dict(together["gradients"])
    assert found.pop("networks sent") == 4
    norms = ("group", "batch", "cumulative")
    assert [found.pop(f"{norm} again") for norm in norms] == [True] * 3  # as many ranks give the same bits again
    assert set(found) == {*norms, "contrast"}
    assert max(found.values()) < 1e-13, found


def test_a_loss_or_a_job_that_fails_leaves_the_ranks_at_work(together):
    found = together["mistakes"]
    assert found["said"][0] == "no loss of these"
    assert "invalid literal" in found["said"][1]
    assert (found["after"], found["few"]) == ([1, 2, 3], [4])
    assert found["held"] == [1234, 1234], "jobs are under the limits of whoever sends them"


def test_experts_and_a_student_over_two_ranks(together):
    found = together["distilled"]
    assert found["same"]
    assert found["scores"][0] == pytest.approx(found["scores"][1], abs=0.05)


@pytest.mark.slow
def test_two_workers_of_ray_train_do_what_one_does(tmp_path):
    with tempfile.TemporaryDirectory(prefix="rt") as near:  # Ray's sockets need a short path
        done = subprocess.run(
            [sys.executable, str(HERE / "ray_trained.py"), str(tmp_path), near], capture_output=True, text=True,
            timeout=300, check=False, env={**os.environ, **LOCAL},
        )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr
    found = json.loads(lines[-1])
    assert (found["world"], found["second"]) == (2, "again"), "the process group is Ray's, and stays"
    gaps = {name: found["gradients"][name] for name in ("group", "batch", "cumulative", "contrast")}
    assert 0 < max(gaps.values()) < 1e-13, "shared, and the same but for the order of sums"
    assert found["gradients"]["networks sent"] == 4
    assert found["distilled"]["same"]


@pytest.mark.slow
def test_ranks_wait_longer_than_a_group_that_is_there_would():
    assert told("patient") == {"done": "after 5 s", "still": True}


def test_what_carries_messages_is_chosen_by_what_there_is():
    assert backend_for(True, True) == "cpu:gloo,cuda:nccl"
    assert backend_for(True, False) == backend_for(False, True) == "gloo"
    _check_backend("cpu:gloo,cuda:nccl")
    with pytest.raises(PotstillError, match="has cuda:nccl; create it with the backend gloo"):
        _check_backend("cuda:nccl")


def test_a_rank_that_dies_is_one_line_and_nobody_waits():
    found = told("killed", "--monitor-interval", "5")  # torchrun ends rank 0 when it looks: not before it has answered
    assert found["said"].startswith("all ranks must live until the work is done, but one is gone (")


@pytest.mark.slow
def test_the_command_line_under_torchrun_says_all_once(tmp_path):
    out = tmp_path / "small.safetensors"
    words = ["distill", "digits", "--method", "random", "--ipc", "1", "--out", str(out), "--json"]
    done = torchrun("-m", "potstill", *words)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(json.dumps(json.loads(done.stdout), indent=2).splitlines())
    assert len(potstill.load(out)) == 10
    wrong = torchrun("-m", "potstill", "distill", "digits", "--method", "randon", "--ipc", "1", "--out", str(out))
    assert wrong.returncode == 1
    assert wrong.stderr.count("potstill: ") == 1


def test_without_torchrun_there_are_no_ranks(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    assert not launched_by_torchrun()
    with pytest.raises(PotstillError, match="torchrun --nproc-per-node 2"), Ranks():
        pass
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    assert not launched_by_torchrun()
    with pytest.raises(PotstillError, match="at least 1"):
        Ranks(min_samples=0)
