"""Output on a terminal: colours where they help, and the same words without them everywhere else.

`rich` is imported only where something is coloured, which takes a twentieth of a second.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Protocol, cast, runtime_checkable

from potstill.cli.text import Block, Table, plain_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "has_colours", "print_blocks", "print_error", "print_help", "text_width"]

MOST_COLUMNS = 100
"""Widest line of running text."""


@runtime_checkable
class Stream(Protocol):
    """Text stream, such as `sys.stdout`."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...
    def isatty(self) -> bool: ...


def has_colours(stream: Stream) -> bool:
    """Return True for a terminal whose user did not turn colours off (``NO_COLOR``, ``TERM=dumb``)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def text_width() -> int:
    """Return the characters in a line of running text: the terminal's, at most 100; 100 where there is none."""
    return max(40, min(MOST_COLUMNS, shutil.get_terminal_size((MOST_COLUMNS, 24)).columns))


def console(stream: Stream) -> "Console":
    """Return a console that writes to the terminal ``stream`` and reads no markup."""
    from rich.console import Console

    return Console(
        file=cast(IO[str], stream), width=shutil.get_terminal_size((MOST_COLUMNS, 24)).columns, markup=False,
        emoji=False, highlight=False, color_system="auto" if has_colours(stream) else None,
    )  # fmt: skip


def print_help(text: str, stream: Stream | None = None) -> None:
    """Print a help text: on a terminal with headings, options and defaults in colours."""
    stream = sys.stdout if stream is None else stream
    if not has_colours(stream):
        print(text, file=stream)
        return
    from rich.text import Text

    styled = Text(text)
    styled.highlight_regex(r"(?m)^(?:usage:|[A-Z].*:$)", "bold")
    styled.highlight_regex(r"(?<![\w-])--?[a-z][\w-]*", "cyan")
    styled.highlight_regex(r"(?m)^  (?P<command>[a-z][\w-]*)(?=  )", "cyan")
    styled.highlight_regex(r"\((?:default:[^()]*|required)\)", "dim")
    styled.highlight_regex(r"`[^`\n]*`", "green")
    styled.highlight_regex(r"(?m)^  potstill .*$", "green")
    console(stream).print(styled, soft_wrap=True)


def print_blocks(blocks: str | Sequence[Block], stream: Stream | None = None) -> None:
    """Print a text: plain in a pipe; on a terminal wrapped between words, with tables to its width, in colours."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty():
        print(plain_text(blocks), file=stream)
        return
    from potstill.cli import layout  # imports rich

    screen = console(stream)
    for block in [blocks] if isinstance(blocks, str) else blocks:
        if isinstance(block, Table):
            layout.print_table(screen, block)
        else:
            layout.print_lines(screen, block)


def print_error(message: str) -> None:
    """Print an error on one line of stderr, ``error:`` in red on a terminal."""
    word = "\x1b[1;31merror:\x1b[0m" if has_colours(sys.stderr) else "error:"
    print(f"potstill: {word} {message}", file=sys.stderr)
