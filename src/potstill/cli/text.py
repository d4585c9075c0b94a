"""Plain text and JSON for stdout."""

import json
import math
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from potstill._util.formatting import format_duration
from potstill._util.html import one_line
from potstill.errors import for_command_line

__all__ = [
    "Block", "Table", "count_inputs", "filled", "format_duration", "json_document", "one_line", "plain_text", "plural",
]  # fmt: skip


def plural(number: int, noun: str) -> str:
    """``1 step``, ``2,000 steps``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def count_inputs(number: int, kind: str, shape: Sequence[int], parts: Sequence[str] = ()) -> str:
    """``100 pictures of 1×28×28``; a kind of an installed package says its size in its own words."""
    from potstill.core import InputSpec, registry
    from potstill.kinds import BUILT_IN, get_kind

    own = get_kind(kind)
    if not parts and kind in registry.targets("kinds") and own not in BUILT_IN:
        return f"{number:,} {own.describe_size(InputSpec(kind=kind, shape=tuple(shape)))}"
    size = "×".join(map(str, shape)) or " and ".join(parts)
    if kind == "text":
        return f"{plural(number, 'text')} as {size} numbers"
    if kind == "signal":
        return f"{number:,} series of {size}"
    return plural(
        number,
        {
            "image": "picture",
            "pair": "pair",
            "series": "window",
            "node": "node",
            "graph": "graph",
            "ratings": "user",
            "sound": "sound",
        }.get(kind, "row"),
    ) + (f" of {size}" if size else "")


class Table(NamedTuple):
    """Table of a text. A terminal aligns and wraps it to its width; elsewhere it is `plain`."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    styles: Sequence[str] = ()
    """Style of each row on a terminal, as rich names it; none: no row has one."""
    plain_form: str | None = None
    """Plain form, where it has one of its own."""

    @property
    def cells(self) -> list[list[str]]:
        """Cells of the rows, each on one line."""
        return [[one_line(for_command_line(str(cell))) for cell in row] for row in self.rows]

    @property
    def plain(self) -> str:
        """The table as aligned columns, as wide as they are."""
        if self.plain_form is not None:
            return self.plain_form
        lines = [list(self.head), *self.cells]
        widths = [max(len(row[i]) for row in lines) for i in range(len(self.head))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines
        )


Block: TypeAlias = str | Table
"""Part of a text: lines, or a table."""


def plain_text(blocks: str | Sequence[Block]) -> str:
    """Return a text without colours, each line harmless to print."""
    parts = [blocks] if isinstance(blocks, str) else [b.plain if isinstance(b, Table) else b for b in blocks]
    return "\n".join(one_line(for_command_line(line)) for part in parts for line in part.split("\n"))


def filled(text: str, indent: int = 0) -> list[str]:
    """``text`` as lines that end before the terminal does, or before 100 characters, each with ``indent`` spaces."""
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    margin = " " * indent
    return textwrap.wrap(
        one_line(text), max(20, width), initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False
    )


def json_document(value: Any) -> str:
    """One JSON document. What JSON has no number for (NaN, infinity) becomes null."""
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {str(key): _plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
        case Path():
            return str(value)
        case _:
            return value
