"""Scores by class, storage, provenance, and each set by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from potstill._util.formatting import describe_codec
from potstill._util.html import Html, join_html, plain_line, tag
from potstill.reports.comparison_page.board import Board, Row
from potstill.reports.figures import value
from potstill.reports.headline import headline
from potstill.reports.numbers import format_count, format_duration, format_percent, to_number
from potstill.reports.sections import about, entry_sections, sentence, warnings
from potstill.reports.tables import fold, note, size_value, table
from potstill.reports.tables import row as table_row

__all__ = ["classes", "origin", "sets", "storage"]

_KINDS = ("inputs", "labels", "decoder")


def classes(board: Board) -> list[Html]:
    """Return the score of each class under each method, one table for each size; empty without any."""
    out: list[Html] = []
    for group in sorted({row.group for row in board.measured}):
        rows = [row for row in board.measured if row.group == group]
        held = [(row, by) for row in rows if (by := _per_class(row))]
        if not held:
            continue
        names = next((row.entry.classes for row, _ in held if row.entry is not None), ())
        many = max(len(by) for _, by in held)
        names = names if len(names) == many else tuple(map(str, range(many)))
        body = [_class(name, [by[c] if c < len(by) else None for _, by in held]) for c, name in enumerate(names)]
        title = f"{held[0][0].size}, {held[0][0].protocol}"
        hardest = min(range(many), key=lambda c: sum(by[c] for _, by in held if c < len(by)))
        mean = sum(by[hardest] for _, by in held if hardest < len(by)) / len(held)
        worst = tag("p", "Hardest on average: ", tag("bdi", names[hardest]), f", {format_percent(mean)}.")
        scores = table(f"Score by class, {title}", ("Class", *(row.label for row, _ in held)), body)
        out.append(fold(tag("h3", title), worst, scores, is_open=not out))
    if out:
        text = "Share of each class's test samples that is right, mean over students of the first set. Bold: highest."
        out.insert(0, note(f"{text} No test was made of single classes."))
    return out


def _per_class(row: Row) -> list[float]:
    """Return the scorecard's fractions per class: ``{"name", "mean"}``, or bare numbers; may be empty."""
    held = row.scorecard.get("per_class")
    means = [x.get("mean") if isinstance(x, Mapping) else x for x in held] if isinstance(held, list) else []
    found = [x for x in map(to_number, means) if x is not None and 0 <= x <= 1]
    return found if len(found) == len(means) else []


def _class(name: str, by: Sequence[float | None]) -> Html:
    top = max((x for x in by if x is not None), default=None)
    cells = [
        tag(
            "td",
            "—" if x is None else tag("b" if x == top else "span", value(format_percent(x), x)),
            class_="heat",
            style=None if x is None else f"--share:{100 * x:.0f}%",
        )
        for x in by
    ]
    return table_row(name, *cells)


def storage(board: Board) -> list[Html]:
    """Return the bytes of each set: inputs, labels, and decoder."""
    sizes_by_set: dict[str, tuple[Row, list[float]]] = {}
    for row in sorted(board.rows, key=lambda row: (row.unit, row.amount, row.bytes or 0)):
        held = row.scorecard.get("bytes")
        if not isinstance(held, Mapping) and row.entry is not None:
            held = row.entry.card_section("bytes")
        if isinstance(held, Mapping) and (to_number(held.get("total")) or 0) > 0:
            sizes_by_set.setdefault(row.file or row.id, (row, [to_number(held.get(kind)) or 0.0 for kind in _KINDS]))
    if not sizes_by_set:
        return []
    most = max(sum(kinds) for _, kinds in sizes_by_set.values()) or 1.0
    body = []
    for row, kinds in sizes_by_set.values():
        start, bars = 0.0, []
        for kind, held in zip(_KINDS, kinds, strict=True):
            width = 100 * held / most
            bars.append(tag("rect", x=f"{start:.2f}%", width=f"{width:.2f}%", height=12, class_=f"s-{kind}"))
            start += width
        sizes = map(size_value, (*kinds, row.bytes))
        stack = tag("svg", *bars, width=160, height=12, aria_hidden="true", class_="stack")
        body.append(table_row(row.label, row.size, *sizes, describe_codec(row.codec) if row.codec else "—", stack))
    keys = [tag("li", tag("i", class_=f"s-{kind}", aria_hidden="true"), kind) for kind in _KINDS]
    head = ("Method", "Size", "Inputs", "Labels", "Decoder", "In all", "Stored as", "Share of the largest")
    text = "Bytes as stored, with everything that training on the set needs. A decoder turns what is stored to inputs."
    return [note(text), tag("ul", *keys, class_="keys"), table("Bytes of each set", head, body)]


def origin(board: Board) -> Html:
    """Return data, protocol, versions, cost and tests."""
    cards = [row.scorecard for row in board.measured]
    entries = [row.entry for row in board.rows if row.entry is not None]
    source: Mapping[str, Any] = entries[0].card_section("source") if entries else {}
    facts: dict[str, object] = {"Data": board.source}
    if entries and entries[0].samples is not None:
        facts["Real training samples"] = format_count(entries[0].samples)
    facts |= {
        "Content hash": source.get("hash"),
        "Split": " ".join(map(str, source["notes"])) if isinstance(source.get("notes"), list) else None,
        "Protocol": _several(
            f"{c['protocol']} v{c['protocol_version']}" if c.get("protocol_version") is not None else c.get("protocol")
            for c in cards
        ),
        "Fingerprint": _several(c.get("fingerprint") for c in cards),
        "Network": _several(c.get("network") for c in cards),
        "Versions": _several(_versions(e.card.get("versions")) for e in entries),
        "Time to make all": format_duration(sum(row.spent or row.seconds or 0 for row in board.rows)),
        "Time to measure all": format_duration(sum(row.measuring or 0 for row in board.rows)),
        "Device": _several(e.card_section("cost").get("device") for e in entries),
        "How it was tested": board.test,
        "What random is": board.fair,
    }
    listed = [x for k, v in facts.items() if v for x in (tag("dt", k), tag("dd", tag("bdi", str(v))))]
    return tag("dl", *listed, class_="list")


def _several(values: Any) -> str:
    return "; ".join(dict.fromkeys(str(v) for v in values if v))


def _versions(versions: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in versions.items() if v) if isinstance(versions, Mapping) else ""


def sets(board: Board, anchors: Mapping[str, str]) -> list[Html]:
    """Return each row's set, folded: the sections of `report` without its images."""
    out = []
    for row in board.rows:
        if row.id not in anchors or row.entry is None:
            continue
        title = join_html([row.label, row.size, *([row.protocol] if row.protocol else [])], ", ")
        entry = replace(row.entry, gallery=None, name=plain_line(title))
        text = [tag("p", sentence(entry), class_="lede"), about(entry), warnings(entry), headline(entry)]
        command = entry.card.get("command")
        if isinstance(command, str) and command:
            text.append(tag("pre", tag("code", command), tabindex=0))
        inner = [part for part in (*text, *entry_sections(entry, 4)) if part is not None]
        out.append(fold(tag("h3", tag("bdi", title)), *inner, id=anchors[row.id], class_="one"))
    return out
