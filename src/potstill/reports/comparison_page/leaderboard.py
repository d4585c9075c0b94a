"""The leaderboard of all rows: a plain table without the script; with it, it sorts and filters."""

from collections.abc import Mapping

from potstill._util.formatting import describe_codec
from potstill._util.html import Html, escape, tag
from potstill.reports.comparison_page.board import Board, Row
from potstill.reports.drawings import scroll_box
from potstill.reports.figures import value
from potstill.reports.numbers import (
    format_count,
    format_difference,
    format_duration,
    format_interval,
    shorten,
    significant,
)
from potstill.reports.tables import bare_table, fold, score_value, select, size_value

__all__ = ["leaderboard"]

_LEVEL = 0.05
"""Significance level of a corrected p, whatever the uncorrected interval beside it says."""


def _cell(content: str | Html, key: float | str | None, **more: str | None) -> Html:
    """Return a cell that sorts by ``key``; without one it stays last."""
    return tag("td", content, data_v="" if key is None else str(key), **more)


def _counted(n: float, over: str) -> str:
    return f"{format_count(n)} {over.removesuffix('s') if n == 1 else over}"


def _verdict(row: Row) -> Html:
    if row.score is None:
        return _cell("failed" if row.error else "not measured", 9)
    if row.is_model:
        return _cell("no set: a network to ship", 3)
    if row.best:
        return _cell(tag("b", "best"), 0)
    return _cell("not told apart from the best", 1) if row.not_told_apart else _cell("behind the best", 2)


def _gap(row: Row) -> Html:
    gap, metric = row.difference, row.metric
    if gap is None:
        return _cell("—", None)
    told = 0 if row.p is not None and row.p >= _LEVEL else significant(gap, metric)
    tone = {1: "better", 0: "open", -1: "worse"}[told]
    parts = [tag("span", format_difference(gap.mean, metric), class_=tone)]
    if gap.low is not None:
        parts.append(tag("span", f" [{format_interval(gap, metric, difference=True)}]", class_="soft"))
    if row.p is not None:
        parts.append(tag("span", f" p {'< 0.001' if row.p < 0.001 else f'= {row.p:.3f}'}", class_="soft"))
    return _cell(Html("".join(parts)), gap.mean)


def _why(text: str) -> Html | None:
    """Return why a row has no score: one short line, which unfolds to the whole text."""
    if not text or shorten(text) == text:
        return tag("span", text, class_="how") if text else None
    return fold(escape(shorten(text)), escape(text), class_="how")


def _line(row: Row, several: bool, anchors: Mapping[str, str]) -> Html:
    e, metric = row.score, row.metric
    name: Html = tag("bdi", row.label)
    if row.id in anchors:
        name = tag("a", name, href=f"#{anchors[row.id]}")
    flag = tag("span", f" {row.flags}", class_="open") if row.flags else None
    cells = [
        tag("th", name, flag, _why(row.error or row.problem), scope="row", data_v=row.label),
        _cell(row.size, row.amount),
        *([_cell(tag("bdi", row.protocol), row.protocol)] if several else []),
        _cell("—" if e is None else score_value(e.mean, metric), None if e is None else e.mean),
        _cell("—" if e is None else format_interval(e, metric), None if e is None else e.low),
        _cell("—" if e is None or e.n is None else _counted(e.n, row.over), None if e is None else e.n),
        _verdict(row),
        _gap(row),
        _cell(size_value(row.bytes), row.bytes),
        _cell(row.network or (describe_codec(row.codec) if row.codec else "—"), row.network or row.codec),
        _cell(format_count(row.items), row.items),
        _cell(value(format_duration(row.seconds), row.seconds), row.seconds),
    ]
    return tag(
        "tr", *cells, class_="own" if row.best else None, data_id=row.id, data_method=row.method, data_size=row.size,
        data_protocol=row.protocol, data_top="1" if row.best or row.not_told_apart or row.is_model else "0",
    )  # fmt: skip


def _with_models(board: Board) -> list[Row]:
    """Return the rows, and after those of each size and protocol its network of the same bytes."""
    models = {model.group: model for model in board.models}
    shown: list[Row] = []
    for at, row in enumerate(board.rows):
        shown.append(row)
        is_last = at + 1 == len(board.rows) or board.rows[at + 1].group != row.group
        if is_last and row.group in models:
            shown.append(models[row.group])
    return shown


def leaderboard(board: Board, anchors: Mapping[str, str]) -> list[Html]:
    """Return the controls, which the script shows, and the table.

    Args:
        anchors: anchor of a row's set on the page, by the row's id.
    """
    rows = _with_models(board)
    protocols = list(dict.fromkeys(row.protocol for row in rows))
    metrics = list(dict.fromkeys((row.metric.column_title, row.metric.difference_unit) for row in board.measured))
    titled, unit = metrics[0] if len(metrics) == 1 else ("score", "difference")
    controls = tag(
        "form",
        tag("label", tag("span", "Find"), Html('<input type="search" name="find" autocomplete="off">')),
        *(
            select(name, label, options)
            for name, label, options in (
                ("method", "Method", list(dict.fromkeys(row.method for row in rows))),
                ("size", "Size", list(dict.fromkeys(row.size for row in rows))),
                ("protocol", "Protocol", protocols),
            )
            if len(options) > 1
        ),
        tag(
            "label",
            Html('<input type="checkbox" name="top">'),
            tag("span", "Best and not told apart from it"),
            class_="check",
        ),
        Html('<button type="reset">Clear</button>'),
        tag("p", "", role="status", id="rows-said"),
        id="filters",
        hidden="",
        aria_label="Filter the leaderboard",
    )
    head = [
        "Method", "Size", *(["Protocol"] if len(protocols) > 1 else []), titled[:1].upper() + titled[1:],
        "95% interval", "n", "Verdict", f"Minus random, {unit}", "Bytes", "Stored as", "Items", "Time to make",
    ]  # fmt: skip
    lines = [_line(row, len(protocols) > 1, anchors) for row in rows]
    return [controls, scroll_box(bare_table("Leaderboard", head, lines, id="rows"), "Leaderboard")]
