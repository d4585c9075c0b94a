"""A set's audits on its page: one row for each, with its verdict and what it cost, and below it the whole part.

They are read from a file, so that a part may be missing or of another form: what cannot be read is left out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill._util.audit_parts import PARTS, audit_command, part_obstacle
from potstill._util.formatting import format_duration
from potstill._util.html import Html, join_html, tag
from potstill._util.privacy_words import describe_privacy
from potstill.errors import for_command_line
from potstill.reports.diagnosis import Block, Table
from potstill.reports.drawings import labelled, scroll_box
from potstill.reports.numbers import to_number
from potstill.reports.tables import bare_table, fold, row, table

__all__ = ["audit_section", "describe_audit", "is_audit", "verdict"]


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


def verdict(part: Mapping[str, Any]) -> str:
    """Return the beginning of a part's sentence, up to a semicolon or a full stop before a space."""
    sentence = " ".join(str(part.get("sentence", "")).split())
    ends = [at for mark in ("; ", ". ") if (at := sentence.find(mark)) > 0]
    return sentence[: min(ends)] if ends else sentence.removesuffix(".")


def audit_section(
    audit: Mapping[str, Any] | None, of: str = "", metadata: Mapping[str, Any] | None = None
) -> list[Html]:
    """Return the audits as HTML. All text of data is escaped as it enters.

    Args:
        audit: as `potstill audit` writes them; ``None``: there are none.
        of: whose they are, the name of the set's file without its ending.
        metadata: those of the set, for the commands of the parts that are missing; ``None``: there is no set.
    """
    held, reasons = ((audit or {}).get(key) for key in ("parts", "left_out"))
    parts = {str(n): p for n, p in held.items() if isinstance(p, Mapping)} if isinstance(held, Mapping) else {}
    file = f"{of}.safetensors"
    if not parts:
        if not metadata:
            return []
        line = tag("code", audit_command("", file))
        claim = f"Privacy that the file claims: {describe_privacy(metadata)}."
        return [tag("p", "Not audited. ", line, " runs the parts that apply. ", claim)]
    order = [*(name for name in PARTS if name in parts), *(name for name in parts if name not in PARTS)]
    rows = [_part_row(name, parts[name], metadata) for name in order]
    if metadata:
        why = reasons if isinstance(reasons, Mapping) else {}
        rows += [_missing_row(name, file, metadata, why.get(name)) for name in PARTS if name not in parts]
    held_rows = bare_table("Audits of the set", ("Audit", "Verdict", "Took"), rows, class_="audits")
    summary = scroll_box(held_rows, labelled("Audits of the set", of))
    return [summary, *(fold(tag("b", name.capitalize()), *_part_elements(parts[name], of)) for name in order)]


def _part_row(name: str, part: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> Html:
    said = [tag("bdi", verdict(part))]
    if name == "privacy" and metadata:
        said.append(tag("small", f" The file claims: {describe_privacy(metadata)}."))
    versions = part.get("versions")
    version = str(versions.get("potstill", "")) if isinstance(versions, Mapping) else ""
    when = " ".join(word for word in (str(part.get("date", "")), f"by potstill {version}" if version else "") if word)
    said += [tag("small", f" Measured {when}.")] if when else []
    seconds = to_number(part.get("seconds"))
    took = "" if seconds is None else format_duration(seconds)
    return row(name.capitalize(), tag("td", *said, class_="text"), took)


def _missing_row(name: str, file: str, metadata: Mapping[str, Any], reason: object) -> Html:
    why = part_obstacle(name, metadata)
    if why is not None:
        return row(name.capitalize(), tag("td", tag("bdi", f"does not apply: {why}"), class_="text"), "")
    said = join_html(["not audited: ", tag("code", audit_command(name, file))])
    if isinstance(reason, str) and reason:
        said = join_html([said, tag("small", tag("bdi", for_command_line(reason)))])
    return row(name.capitalize(), tag("td", said, class_="text"), "")


def _part_elements(part: Mapping[str, Any], of: str) -> list[Html]:
    elements: list[Html] = []
    for block in describe_audit(part):
        if isinstance(block, str):
            elements.append(tag("p", block))
        else:
            rows = [row(*(tag("bdi", str(cell)) for cell in cells)) for cells in block.rows]
            elements.append(table(block.caption, block.head, rows, of=of))
    return elements


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _texts(value: object) -> Sequence[str]:
    return [str(entry) for entry in value] if isinstance(value, list) else []
