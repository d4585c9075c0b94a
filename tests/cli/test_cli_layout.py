"""Texts and tables on a terminal: the words of a pipe, within its width, without broken lines to copy."""

import io
import re

import pytest
from rich.text import Text

from potstill.cli.terminal import print_blocks
from potstill.cli.text import Block, Table, plain_text

COMMAND = "Measure it: potstill evaluate a-long-name-of-a-folder/small.safetensors --data photos/ --network convnet-w32"
BLOCKS: list[Block] = [
    "dm on digits, 100 inputs · protocol potstill v1 (0123456789abcdef) · convnet-d3-w128-instance-avg",
    Table(
        ["method", "accuracy", "bytes", "stored"],
        [
            ["dm", "93.3 %", "994", "40 per class, 1 bit, half size"],
            ["random", "76.8 %", "1,024", "at 1 bit, with a long account of how samples are written and read again"],
            ["[bold]x[/bold]", "failed", "", "\x1b[31mred\x1b[0m"],
        ],
        ["bold", "", "red"],
    ),
    COMMAND,
    "  fair: random and herding take no more bytes than this set, stored as did best on held-out training data, and "
    "`stream=True` is no part of it",
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, width: int, colours: bool = True) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colours:
        monkeypatch.setenv("NO_COLOR", "1")
    print_blocks(BLOCKS, stream := Terminal())
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_lines_end_before_the_terminal_does_but_for_those_to_copy(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = Text.from_ansi(shown(monkeypatch, width)).plain.splitlines()
    assert COMMAND in lines
    assert all(len(line) <= width for line in lines if line != COMMAND)


@pytest.mark.parametrize("width", [30, 60, 80, 120, 200])
def test_a_terminal_shows_the_words_of_a_pipe(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    plain = sorted(plain_text(BLOCKS).split())
    for colours in (True, False):
        words = Text.from_ansi(shown(monkeypatch, width, colours)).plain.split()
        if width > 30:
            assert sorted(words) == plain
        else:  # rows that do not fit are lists: each repeats the headings but the first
            assert set(words) == set(plain) - {"method"}


def test_nothing_is_coloured_where_colours_are_off_or_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" in shown(monkeypatch, 80)
    assert "\x1b" not in shown(monkeypatch, 80, colours=False)
    print_blocks(BLOCKS, stream := io.StringIO())
    assert stream.getvalue() == plain_text(BLOCKS) + "\n"
    assert "\x1b" not in stream.getvalue()


def test_names_from_files_are_neither_markup_nor_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, 120, colours=False)
    assert "[bold]x[/bold]" in text
    assert "\\x1b[31mred" in text


def test_numbers_are_aligned_to_the_right_and_words_to_the_left(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 120, colours=False).splitlines()
    head, first, second = lines[1:4]
    assert re.search(r"bytes\b", head)
    assert head.index("bytes") + 5 == first.index("994") + 3 == second.index("1,024") + 5
    assert head.index("method") == first.index("dm") == second.index("random")
