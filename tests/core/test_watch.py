"""What is said while something runs: how far it is, how long it will take, and how to ask for less."""

import io
import sys
from typing import Any

import pytest

import potstill
from potstill._util import progress as watch
from potstill._util.formatting import format_estimate, format_estimate_words, format_size
from potstill._util.progress import ProgressReporter
from potstill.core import Splits
from potstill.runs import arguments as asked
from potstill.runs.loop import Progress
from potstill.testing import toy_source


class Clock:
    """A clock that goes when it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(watch, "time", made)
    return made


def steps(watcher: ProgressReporter, clock: Clock, n: int, each: float, **more: Any) -> None:
    for step in range(1, n + 1):
        clock.now += each
        watcher(
            Progress(**{"step": step, "total": 1000, "seconds": step * each, "time_limit": None, "metrics": {}, **more})
        )


def test_a_log_has_a_line_every_ten_seconds_with_the_time_that_is_left(clock: Clock, capsys: Any) -> None:
    with ProgressReporter(quiet=False) as watcher:
        watcher.begin("dm")
        steps(watcher, clock, 100, 0.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "potstill: dm: step 1 of 1,000, 0 s"
    assert lines[1] == "potstill: dm: step 7 of 1,000, 4 s, about 8 min left"  # as soon as it can be said
    assert [line.split(",")[0] for line in lines[2:]] == [f"potstill: dm: step {n} of 1" for n in (27, 47, 67, 87)]


class Ticks:
    """An event that lets a ticker go round a number of times."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def wait(self, seconds: float) -> bool:
        self.rounds -= 1
        return self.rounds < 0


@pytest.mark.parametrize(("made", "lines"), [(3, 2), (1000, 0)])
def test_a_task_is_shown_again_while_it_runs_and_not_when_it_is_done(
    made: int, lines: int, clock: Clock, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ProgressReporter(quiet=False) as watcher:
        watcher.begin("dm")
        steps(watcher, clock, made, 0.5)
        capsys.readouterr()
        for _ in range(2):
            clock.now += 60.0
            with monkeypatch.context() as patch:
                patch.setattr(watcher, "_over", Ticks(1))
                watcher._tick()
        assert capsys.readouterr().err.count("potstill: dm: step ") == lines


def test_what_takes_over_an_hour_is_forecast_at_once_with_how_to_ask_for_less(clock: Clock, capsys: Any) -> None:
    with ProgressReporter(quiet=False) as watcher:
        watcher.begin("dm", "--preset quick or --time-limit 30m")
        steps(watcher, clock, 6, 2.5, total=20_000)
    lines = capsys.readouterr().err.splitlines()
    less = "--preset quick or --time-limit 30m"
    long = f"potstill: dm: about 14 hours for 19,996 more steps on this machine; for less: {less}"
    assert lines[:2] == ["potstill: dm: step 1 of 20,000, 2 s", long]
    assert sum("for less" in line for line in lines) == 1


def test_of_steps_and_time_the_line_shows_the_end_that_comes_first(clock: Clock, capsys: Any) -> None:
    with ProgressReporter(quiet=False) as watcher:
        watcher.begin("dm")
        steps(watcher, clock, 8, 2.5, total=20_000, time_limit=60.0)
        watcher.begin("random")
        steps(watcher, clock, 2, 2.5, total=2, time_limit=60.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "potstill: dm: step 1, 2 s of 1 min 0 s"
    assert not [line for line in lines if "of 20,000" in line]
    assert [line for line in lines if "random: step 2 of 2, 5 s of 1 min 0 s" in line]


def test_a_budget_that_ends_it_sooner_needs_no_warning(clock: Clock, capsys: Any) -> None:
    with ProgressReporter(quiet=False) as watcher:
        watcher.begin("dm", "--preset quick")
        steps(watcher, clock, 8, 2.5, total=20_000, time_limit=600.0)
    err = capsys.readouterr().err
    assert "for less" not in err
    assert "10 min 0 s, about 10 min left" in err


def test_a_terminal_shows_the_time_that_is_left(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with ProgressReporter(quiet=False) as watcher:
        watcher.begin("dm")
        steps(watcher, clock, 40, 0.5, metrics={"loss": 2.5})
        assert watcher._bar is not None
        watcher._bar.refresh()
    assert "step 40 of 1,000, 20 s, about 8 min left, loss 2.5" in shown.getvalue()


def test_things_that_are_counted_have_a_forecast_before_the_first_is_there(clock: Clock, capsys: Any) -> None:
    with ProgressReporter(quiet=False) as watcher:
        watcher.begin("preparation", "--networks-trained fewer")
        watcher.expect("networks", 7200.0, "ncfm begins with training 20 networks for 60 epochs")
        watcher.report_count("networks", 0, 20)
        clock.now += 720
        watcher.report_count("networks", 4, 20)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "potstill: ncfm begins with training 20 networks for 60 epochs: about 2 hours on this machine; for less: "
        "--networks-trained fewer",
        "potstill: networks: 0 of 20, about 2 h left",
        "potstill: networks: 4 of 20, about 48 min left",
    ]


def test_in_python_what_is_short_is_not_spoken_of(clock: Clock, capsys: Any) -> None:
    with ProgressReporter(quiet=False, min_seconds=2.0) as watcher:
        watcher.begin("dm")
        steps(watcher, clock, 10, 0.1, total=10)
    assert capsys.readouterr().err == ""


def test_python_shows_progress_unless_told_not_to(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(asked, "QUIET_SECONDS", 0.0)
    data, words = Splits(train=toy_source("image"), test=None), {"network": "convnet-d1-w4", "iterations": 2}
    potstill.distill(data, "dm", ipc=1, **words)
    assert "potstill: dm: step 2 of 2" in capsys.readouterr().err
    seen: list[int] = []
    potstill.distill(data, "dm", ipc=1, progress=None, **words)
    potstill.distill(data, "dm", ipc=1, progress=lambda p: seen.append(p.step), **words)
    assert capsys.readouterr().err == ""
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("seconds", "short", "words"),
    [
        (0.2, "1 s", "less than a second"),
        (7, "7 s", "about 7 seconds"),
        (43, "45 s", "about 45 seconds"),
        (57, "1 min", "about 1 minute"),
        (100, "1.5 min", "about 1.5 minutes"),
        (1450, "24 min", "about 24 minutes"),
        (3600, "1 h", "about 1 hour"),
        (47000, "13 h", "about 13 hours"),
        (400000, "5 days", "about 5 days"),
    ],
)
def test_forecasts_are_no_finer_than_they_can_be(seconds: float, short: str, words: str) -> None:
    assert (format_estimate(seconds), format_estimate_words(seconds)) == (short, words)


@pytest.mark.parametrize(
    ("count", "said"), [(999, "999 bytes"), (1000, "1.0 kB"), (521_000_000, "521 MB"), (1_230_000_000, "1.2 GB")]
)
def test_sizes_that_people_read(count: int, said: str) -> None:
    assert format_size(count) == said
