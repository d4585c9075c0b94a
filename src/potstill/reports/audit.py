"""A set's audits in sentences and tables, for a terminal and for its page.

They are read from a file, so that a part may be missing or of another form: what cannot be read is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill._util.formatting import format_duration
from potstill._util.html import Html, tag
from potstill.reports.diagnosis import Block, Table
from potstill.reports.numbers import to_number
from potstill.reports.tables import row, table

__all__ = ["audit_section", "describe_audit", "is_audit"]


def is_audit(value: object) -> bool:
    """Return True for JSON that `potstill audit` writes."""
    return isinstance(value, dict) and str(value.get("format", "")).startswith("potstill/audit/")


def describe_audit(part: Mapping[str, Any]) -> list[Block]:
    """Return one part of an audit in sentences and tables."""
    blocks: list[Block] = [str(part.get("sentence", ""))]
    for found in _mappings(part.get("tables")):
        head, rows = _texts(found.get("head")), found.get("rows")
        cells = [_texts(cells) for cells in rows] if isinstance(rows, list) else []
        blocks.append(Table(str(found.get("caption", "")), head, [c for c in cells if c and len(c) == len(head)]))
    return [*blocks, *_texts(part.get("notes"))]


def audit_section(audit: Mapping[str, Any] | None, of: str = "") -> list[Html]:
    """Return every part as HTML, none without an audit. All text of data is escaped as it enters.

    Args:
        of: whose they are, on pages with several sets.
    """
    parts = (audit or {}).get("parts")
    elements: list[Html] = []
    for name, part in parts.items() if isinstance(parts, dict) else ():
        if not isinstance(part, Mapping):
            continue
        seconds = to_number(part.get("seconds"))
        cost = "" if seconds is None else f" (took {format_duration(seconds)})"
        for n, block in enumerate(describe_audit(part)):
            if isinstance(block, str):
                lead = [tag("b", f"{name.capitalize()}{cost}: ")] if n == 0 else []
                elements.append(tag("p", *lead, block))
            else:
                rows = [row(*(tag("bdi", str(cell)) for cell in cells)) for cells in block.rows]
                elements.append(table(block.caption, block.head, rows, of=of))
    return elements


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _texts(value: object) -> Sequence[str]:
    return [str(entry) for entry in value] if isinstance(value, list) else []
