"""Plain text and progress: what stands in data is shown as it is, never acted on."""

import io
import json
import sys
from pathlib import Path

import pytest

from potstill._util.progress import ProgressReporter
from potstill.cli.text import Table, format_duration, json_document, one_line
from potstill.runs.loop import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_json_is_valid_where_numbers_are_not():
    value = {"a": float("nan"), "b": [float("inf"), 1.5], "c": Path("x"), "d": ("ü", None, True), 3: {"e": 1}}
    assert json.loads(json_document(value)) == {
        "a": None,
        "b": [None, 1.5],
        "c": "x",
        "d": ["ü", None, True],
        "3": {"e": 1},
    }


def test_a_name_with_escapes_stays_one_harmless_line():
    assert one_line("cat\n\x1b[2Jdog") == "cat \\x1b[2Jdog"


def test_columns_line_up():
    assert Table(["name", "n"], [["a", 1], ["longer", 22]]).plain == "name    n\na       1\nlonger  22"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")])
def test_clock(seconds, text):
    assert format_duration(seconds) == text


def test_a_terminal_gets_a_bar_and_markup_in_names_is_text(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressReporter(quiet=False) as watcher:
        watcher.note("class [bold]cat[/bold] has one picture [/]")
        watcher.report_step("dm", Progress(step=1, total=2, seconds=1.0, time_limit=4.0, metrics={"loss": 0.25}))
        watcher._bar.refresh()
    text = shown.getvalue()
    assert "class [bold]cat[/bold] has one picture [/]" in text
    assert "step 1 of 2, 1 s of 4 s, loss 0.25" in text


def test_quiet_says_nothing_on_a_terminal(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with ProgressReporter(quiet=True) as watcher:
        watcher.note("a note")
        watcher.report_step("dm", Progress(step=1, total=None, seconds=1.0, time_limit=None, metrics={}))
    assert shown.getvalue() == ""
