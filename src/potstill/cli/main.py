"""``potstill COMMAND …``: dispatch, exit status, and what goes to stdout.

Exit status: 0 done; 1 failed, with one line on stderr; 2 misuse; 130 interrupted, with the line that resumes it.
Only the standard library is imported here, so that ``potstill --help`` answers at once.
"""

import contextlib
import errno
import functools
import io
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any

__all__ = ["entry", "main"]


def entry() -> None:
    """Run the console script."""
    signal.signal(signal.SIGTERM, _interrupt)  # ended by a scheduler: leave as after Ctrl-C, cleanly
    if "--debug" not in sys.argv:
        sys.excepthook = _report_unexpected
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names in data may hold what the terminal cannot show
    status = _main_of_rank(sys.argv[1:]) if "RANK" in os.environ else main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _close_stdout()
    sys.exit(status)


def _main_of_rank(argv: Sequence[str]) -> int:
    """Run under torchrun: rank 0 runs the command, the others help."""
    from potstill.errors import PotstillError
    from potstill.execution.ranks import Ranks, launched_by_torchrun

    if not launched_by_torchrun():
        return main(argv)
    try:
        with Ranks():
            return main(argv)
    except PotstillError as error:
        return _fail(1, str(error), "--debug" in argv)


def main(argv: Sequence[str]) -> int:
    """Run the command in ``argv`` and return its exit status."""
    try:
        return _main(argv)
    except BrokenPipeError:  # the reader has seen enough, as in `potstill methods | head -3`
        _close_stdout()
        return 0


def _main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        return _help(requested=bool(argv))
    if argv[0] == "--version":
        from importlib.metadata import version

        print(f"potstill {version('potstill')}")
        return 0
    from potstill.cli.commands import COMMANDS, find_command

    first_alone = argv[0] not in COMMANDS and any(name.startswith(f"{argv[0]} ") for name in COMMANDS)
    if argv[1:2] and set(argv[1:]) <= {"-h", "--help"} and first_alone:
        from potstill.cli.help import format_second_words
        from potstill.cli.terminal import print_help, text_width

        print_help(format_second_words(argv[0], text_width()))
        return 0
    try:
        name, words = find_command(argv)
    except ValueError as error:
        return _fail(2, str(error))
    return _run_with_limits(name, words)


def _help(requested: bool) -> int:
    """Print the commands; without any word the next steps on a terminal, else the commands on stderr as misuse."""
    from potstill.cli.help import format_overview, format_welcome
    from potstill.cli.terminal import print_help, text_width

    if not requested and sys.stdout.isatty():
        print_help(format_welcome(text_width()))
        return 0
    print_help(format_overview(text_width()), sys.stdout if requested else sys.stderr)
    return 0 if requested else 2


def _run_with_limits(name: str, words: Sequence[str]) -> int:
    """Run the command under the limits of ``--limit``: recipes and grids are read under them, too."""
    from potstill._util.input_limits import limited, parse_limits
    from potstill.cli.options import every_value
    from potstill.errors import PotstillError

    try:
        limits = parse_limits(every_value(words, "--limit"))
    except PotstillError as error:
        return _fail(2, str(error), "--debug" in words)
    with limited(**limits):
        return _run_command(name, words)


def _run_command(name: str, words: Sequence[str]) -> int:
    from potstill.cli.checks import check_command
    from potstill.cli.command import Misuse
    from potstill.cli.parsing import parse
    from potstill.errors import PotstillError

    debug = "--debug" in words
    try:
        parsed = parse(name, words)
        command = parsed.command
        check_command(command)
        # Only now, so that --help and misuse do not wait for torch.
        from potstill._util.file_lock import exclusive_output
        from potstill._util.progress import ProgressReporter
        from potstill.cli.terminal import print_blocks
        from potstill.cli.text import json_document

        out = getattr(command, "out", None)
        with (
            contextlib.nullcontext() if out is None else exclusive_output(out),
            ProgressReporter(quiet=command.common.quiet, command_line=True) as progress,
            contextlib.redirect_stdout(sys.stderr),
            warnings.catch_warnings(),
        ):
            warnings.showwarning = functools.partial(_show_warning, progress, warnings.showwarning)
            answer = command.execute(parsed, progress)
        if command.common.json:
            print(json_document(answer.value))
        else:
            print_blocks(answer.text)
        sys.stdout.flush()
        return 0 if answer.failure is None else _fail(1, answer.failure)
    except Misuse as error:
        return _fail(2, str(error), debug)
    except KeyboardInterrupt:
        return _fail(130, f"interrupted; to go on: {_resuming_line(name, words)}", debug)
    except PotstillError as error:
        loop = sys.modules.get("potstill.runs.loop")  # not imported: no run has started
        if loop is not None and isinstance(error, loop.Interrupted):
            return _fail(130, f"interrupted after step {error.step}; to go on: {_resuming_line(name, words)}", debug)
        return _fail(1, str(error), debug)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return _fail(1, f"{str(error.filename)[:80]} …: no name that a file can have ({error.strerror})", debug)


def _resuming_line(name: str, words: Sequence[str]) -> str:
    """Return the command line that resumes: from the checkpoint, if the run had written one."""
    from pathlib import Path

    from potstill.cli.options import last_value

    line, out = shlex.join(["potstill", *name.split(), *words]), last_value(words, "--out")
    has_checkpoint = name == "distill" and out is not None and Path(f"{out}.checkpoint").exists()
    resumes = any(word.partition("=")[0] == "--resume" for word in words)
    return f"{line} --resume" if has_checkpoint and not resumes else line


def _fail(status: int, message: str, debug: bool = False) -> int:
    from potstill.cli.terminal import print_error
    from potstill.cli.text import one_line
    from potstill.errors import for_command_line

    if debug:
        traceback.print_exc()
    line = one_line(for_command_line(message))
    if status == 130:
        print(f"potstill: {line}", file=sys.stderr)
    else:
        print_error(line)
    return status


def _show_warning(progress: Any, show: Callable[..., None], message: Warning | str, *args: Any, **kwargs: Any) -> None:
    """Print a warning of ours as a note, and another library's as usual."""
    from potstill.errors import PotstillWarning

    if isinstance(message, PotstillWarning):
        progress.note(str(message))
    else:
        show(message, *args, **kwargs)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _report_unexpected(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    """Print an unexpected error as one line; Python then exits with 1."""
    from potstill.cli.terminal import print_error

    what = " ".join(str(value).split())[:300]
    print_error(f"unexpected {kind.__name__}: {what}; --debug shows where")


def _close_stdout() -> None:
    """Give Python something to flush into when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    entry()
