"""Help: the options that people use first, all others by heading; one value that reference pages are made of, too."""

import io
import shlex
import sys

import pytest

from potstill.cli import commands, terminal
from potstill.cli.commands import COMMAND_GROUPS, COMMANDS, command_class
from potstill.cli.help import command_help, format_help, format_overview
from potstill.cli.main import main
from potstill.cli.options import option_fields
from potstill.cli.parsing import parse


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_every_command_stands_under_one_heading() -> None:
    listed = [name for names in COMMAND_GROUPS.values() for name in names]
    assert listed == list(COMMANDS)
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_once_and_at_most_ten_come_first(name: str) -> None:
    shown = command_help(name)
    assert sorted(option.field for option in shown.options) == sorted(
        f.name for f in option_fields(command_class(name))
    )
    assert len(shown.main) <= 10
    assert {option.field for option in shown.options if option.is_required} <= {
        option.field for option in (*shown.arguments, *shown.main)
    }
    assert "Other" not in {group.title for group in shown.groups}  # every option has a heading of its own kind
    assert all(option.about for option in shown.options)


@pytest.mark.parametrize("name", [name for name in COMMANDS if command_class(name).examples])
def test_examples_of_a_command_parse(name: str) -> None:
    for example in command_help(name).examples:
        program, *line = shlex.split(example)
        command, words = commands.find_command(line)
        assert (program, command) == ("potstill", name)
        assert parse(name, words).name == name


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("name", COMMANDS)
def test_lines_of_help_end_before_the_terminal_does(name: str, width: int) -> None:
    text = format_help(command_help(name), width, all_options=True)
    prose = text.partition("Examples:")[0].splitlines()  # a command line that can be copied stays one line
    long = [line for line in prose if len(line) > width]
    assert not [line for line in long if len(line.split()) > 2], long


def test_help_explains_ten_options_and_names_the_others_and_all_explains_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = []
    for words in (["--help"], ["-h"], ["--help", "--all"]):
        with pytest.raises(SystemExit) as stop:
            main(["distill", *words])
        assert stop.value.code == 0
        texts.append(capsys.readouterr().out)
    short, same, full = texts
    assert short == same
    assert "--class-shards" in short
    assert "Make the classes in K groups" not in short
    assert "Make the classes in K groups" in " ".join(full.split())


def test_all_is_an_option_of_help_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "a.safetensors", "--all"]) == 2
    assert "inspect has no option --all" in capsys.readouterr().err


def test_options_of_a_method_stand_under_their_own_heading(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["distill", "--method", "dm", "--help"])
    shown = capsys.readouterr().out
    assert "\nOptions of dm:\n" in shown
    assert "--iterations N" in shown
    assert "--preset quick" in shown


def test_a_terminal_gets_the_words_of_a_pipe_in_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.text import Text

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = format_help(command_help("distill"), 80) + "\n" + format_overview(80)
    terminal.print_help(text, shown := Terminal())
    assert "\x1b[" in shown.getvalue()
    assert Text.from_ansi(shown.getvalue()).plain.rstrip() == text
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.print_help(text, plain := Terminal())
    assert plain.getvalue() == text + "\n"


def test_alone_on_a_terminal_it_offers_three_steps_and_in_a_pipe_the_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 2
    assert "usage: potstill COMMAND" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdout", shown := Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert main([]) == 0
    steps = [line for line in shown.getvalue().splitlines() if line.startswith("  potstill ")]
    assert [line.split()[1] for line in steps] == ["demo", "distill", "plan"]
    assert "potstill --help" in shown.getvalue()


def test_an_error_is_red_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, text in (
        (Terminal(), "potstill: \x1b[1;31merror:\x1b[0m no\n"),
        (io.StringIO(), "potstill: error: no\n"),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        terminal.print_error("no")
        assert stream.getvalue() == text


def test_a_command_may_have_two_words(monkeypatch):
    known = {"plan": "", "use search": "", "use edge": ""}
    monkeypatch.setattr(commands, "COMMANDS", known)
    assert commands.find_command(["plan", "use"]) == ("plan", ["use"])
    assert commands.find_command(["use", "edge", "digits", "--json"]) == ("use edge", ["digits", "--json"])
    for words, message in {
        ("use",): "use needs a second word: search, edge",
        ("use", "--help"): "use needs a second word: search, edge",
        ("use", "serch", "digits"): "no command 'use serch'; did you mean search",
        ("use search",): "no command 'use search'",
        ("pln",): "no command 'pln'; did you mean plan",
        ("--ipc", "plan"): "options stand after the command, but '--ipc' comes first",
    }.items():
        with pytest.raises(ValueError, match=message):
            commands.find_command(words)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_first_word_of_several_commands_lists_them(capsys, flag):
    assert main(["use", flag]) == 0
    shown = capsys.readouterr().out
    assert "usage: potstill use COMMAND" in shown
    assert "  continual  " in shown
    assert "  federated  " in shown
    assert "  edge  " in shown
