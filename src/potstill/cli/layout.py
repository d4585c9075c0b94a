"""Layout of texts and tables on a terminal. Imports rich."""

import re
import textwrap

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from potstill._util.html import one_line
from potstill.cli.text import Table
from potstill.errors import for_command_line

__all__ = ["print_lines", "print_table"]

_NUMBER = re.compile(r"[<>~±+\-−]?\d[\d.,]*( ?(%|[kMG]?B|bytes|s|min|h))?|")
_COMMAND = re.compile(r"(?:^ *|: )(potstill [a-z].*)$")
"""Command line to copy, which is not wrapped."""
_LABEL = re.compile(r"\S[^:]{0,24}?(?:\s{2,}|: )")
"""Label at the start of a line."""
_STYLES = (
    (r"^(?:Verdict|Next|time|memory|cost|disk):", "bold"),
    (r"`[^`]*`", "green"),
    (r"(?<![\w-])--[a-z][\w-]*", "cyan"),
    (r"\b(?:warning|WARNING|NOT WHOLE|does not fit):?", "bold yellow"),
)
_WIDEST_LINE = 120
_WRAPPED = 24
"""Widest column that is never wrapped, and the least width of one that is."""
_GAP = 2


def print_lines(screen: Console, text: str) -> None:
    """Print lines of text, wrapped between words under their labels; command lines stay whole."""
    for line in text.split("\n"):
        line = one_line(for_command_line(line))
        command = _COMMAND.search(line)
        if command is not None:
            styled = Text(line)
            styled.stylize("green", command.start(1))
            screen.print(styled, soft_wrap=True)
            continue
        for part in _wrap(line, min(screen.width, _WIDEST_LINE)):
            styled = Text(part)
            for pattern, style in _STYLES:
                styled.highlight_regex(pattern, style)
            screen.print(styled, soft_wrap=True)


def _wrap(line: str, width: int) -> list[str]:
    """Return a line in parts; those after the first begin below the text behind its label."""
    if len(line) <= width:
        return [line]
    margin = len(line) - len(line.lstrip())
    label = _LABEL.match(line[margin:])
    hanging = margin + (len(label[0]) if label is not None and label[0].endswith("  ") else 2 if margin == 0 else 0)
    return textwrap.wrap(
        line, width, subsequent_indent=" " * hanging, break_on_hyphens=False, drop_whitespace=True,
    ) or [line]  # fmt: skip


def print_table(screen: Console, table: Table) -> None:
    """Print a table: long cells are wrapped, and where the columns do not fit, each row is a list of its cells."""
    cells = table.cells
    widths = [max(len(row[i]) for row in [list(table.head), *cells]) for i in range(len(table.head))]
    least = sum(min(width, _WRAPPED) for width in widths) + _GAP * (len(widths) - 1)
    styles = [*table.styles] or [""] * len(cells)
    if least > screen.width:
        _print_records(screen, table, cells, styles)
        return
    grid = RichTable(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", collapse_padding=True)
    for i, title in enumerate(table.head):
        is_number = all(_NUMBER.fullmatch(row[i]) for row in cells) and any(row[i] for row in cells)
        grid.add_column(
            Text(title), justify="right" if is_number else "left", no_wrap=widths[i] <= _WRAPPED, overflow="fold",
            min_width=min(widths[i], _WRAPPED), style="cyan" if i == 0 else "",
        )  # fmt: skip
    for row, style in zip(cells, styles, strict=True):
        grid.add_row(*map(Text, row), style=style or None)
    screen.print(grid)


def _print_records(screen: Console, table: Table, cells: list[list[str]], styles: list[str]) -> None:
    """Print each row as a list: its first cell, and the others below with their headings."""
    column = max(map(len, table.head)) + 4
    for row, style in zip(cells, styles, strict=True):
        screen.print(Text(row[0], style=style or "cyan"), soft_wrap=True)
        for title, cell in zip(table.head[1:], row[1:], strict=True):
            if cell:
                lines = textwrap.wrap(cell, max(20, screen.width - column)) or [""]
                styled = Text(f"  {title}".ljust(column), style="bold")
                styled.append(("\n" + " " * column).join(lines), style="not bold")
                screen.print(styled, soft_wrap=True)
