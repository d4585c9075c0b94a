"""A time limit counts everything that a command does: loading, preparation, steps, the search for bits, writing."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill._util.time_limit import TimeLimit
from potstill.cli.main import main
from potstill.cli.parsing import parse
from potstill.core import InputSpec
from potstill.evaluation import candidate_trials
from potstill.methods import DM
from potstill.nn import factory
from potstill.rng import generator
from potstill.runs.arguments import parse_time_limit
from potstill.runs.loop import LoopLimits, run_loop
from potstill.testing import toy_problem

SMALL: dict[str, Any] = {"ipc": 1, "network": "convnet-d1-w4", "progress": None}


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.mark.parametrize(
    ("reserved", "spent", "steps"), [(0.0, 0.0, 6), (10.0, 0.0, 5), (0.0, 25.0, 3), (18.0, 30.0, 1)]
)
def test_steps_leave_what_is_reserved_and_end_nearest_to_the_limit(
    monkeypatch: pytest.MonkeyPatch, reserved: float, spent: float, steps: int
) -> None:
    """Of steps of 10 seconds; it went on until the limit was behind it."""
    clock, problem = Clock(monkeypatch), toy_problem()
    step = DM.step

    def slow(self: DM, *args: Any) -> Any:
        clock.now += 10.0
        return step(self, *args)

    monkeypatch.setattr(DM, "step", slow)
    done = run_loop(
        DM(iterations=20, batch_real=4), problem, rng=generator(0, "t"), identity={},
        limits=LoopLimits(seconds=60.0, spent=spent, reserved=reserved),
    )  # fmt: skip
    assert (done.outcome.kind, done.outcome.step) == ("time limit reached", steps)
    assert done.outcome.message.startswith(f"stopped after {steps} of 20 steps: the time limit of 60 s was reached")


def test_a_limit_that_began_earlier_counts_from_then(capsys: pytest.CaptureFixture[str]) -> None:
    """As that of the command line, which begins with the command."""
    begun = TimeLimit(23.0, time.monotonic() - 20.0)
    made = potstill.distill("digits", "dm", time_limit=begun, **SMALL | {"progress": "auto"})
    assert made.metadata["limits"] == {"steps": None, "time_limit": 23.0}
    late = potstill.distill("digits", "dm", time_limit=TimeLimit(5.0, time.monotonic() - 7.0), **SMALL)
    assert (late.metadata["outcome"]["kind"], late.metadata["cost"]["steps"]) == ("time limit reached", 0)
    assert parse_time_limit(begun) is begun


def test_the_command_lines_limit_begins_with_the_command() -> None:
    parsed = parse("distill", ["digits", "--ipc", "1", "--time-limit", "1m", "--out", "a.safetensors"])
    limit = parsed.command.keywords(parsed)["time_limit"]
    assert limit == TimeLimit(60.0, parsed.started)
    assert dataclasses.replace(limit, started=time.monotonic() - 70.0).exceeded


def _search(seconds: float | None) -> dict[str, Any]:
    source = potstill.load_data("digits").train
    make = factory("convnet-d1-w4", source.input, 10, normalization=source.normalization)
    x, y = source.fetch(torch.arange(40)).x, source.labels[:40]
    candidates = [
        candidate_trials.Candidate(name=name, load=lambda: ((x, y), 10)) for name in ("uint8", "uint4", "uint2")
    ]
    return candidate_trials.choose_fewest_bits((x, y), candidates, source, make, seed=0, seconds=seconds)[1]


@pytest.mark.slow
def test_the_search_for_bits_keeps_to_the_seconds_that_are_left() -> None:
    short, long, without = _search(0.0), _search(1e9), _search(None)
    assert (short["chosen"], short["probed"]) == ("uint8", False)
    assert "in what is left of the time limit" in short["why"]
    assert long == without


def test_a_run_without_time_to_search_is_written_as_uint8_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(candidate_trials, "SPEED", 1.0)  # as on a slow machine: no search fits
    words = ["--ipc", "1", "--network", "convnet-d1-w4", "--iterations", "25", "--time-limit", "1h"]
    assert main(["distill", "digits", *words, "--out", str(tmp_path / "a.safetensors")]) == 0
    told = capsys.readouterr().err
    assert "the set is written as uint8: it would take" in told
    assert "in what is left of the time limit; --codec uint4 or a longer limit may halve it" in told
    assert potstill.load(tmp_path / "a.safetensors").metadata["cost"]["steps"] == 25


def test_what_takes_longer_says_why(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    begun = TimeLimit(60.0, time.monotonic() - 90.0)
    potstill.distill("digits", "dm", time_limit=begun, **SMALL | {"progress": "auto"})
    told = capsys.readouterr().err
    assert "over the limit of 1 min 0 s: 1 min 3" in told
    assert "before the first step, 0 s 0 steps" in told


def test_shortest_and_longest_search_are_known_beforehand() -> None:
    source = potstill.load_data("digits").train
    make = factory("convnet-d1-w4", InputSpec(kind="image", shape=(1, 8, 8)), 10)
    least, most = candidate_trials.estimate_search_seconds(source, make, 10)
    assert 0 < least < most < candidate_trials.MAX_OPERATIONS / candidate_trials.SPEED
    assert candidate_trials.estimate_search_seconds(source, make, 1000)[0] > least
