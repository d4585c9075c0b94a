"""Summary table: for each size the best method, its score, bytes and time."""

from collections.abc import Sequence

from potstill._util.html import Html, join_html, tag
from potstill.reports.comparison_page.board import Board, Row
from potstill.reports.figures import Difference, difference_plot, value
from potstill.reports.numbers import (
    Estimate,
    format_duration,
    format_interval,
    format_score,
    format_size,
    significant,
    to_number,
)
from potstill.reports.tables import note, row, score_value, size_value, table
from potstill.tasks.metric import Metric

__all__ = ["summary_table", "verdict_figure"]


def verdict_figure(board: Board) -> Html | None:
    """Return the plot of the best distilled set minus the real samples that decide, one row for each size and protocol;
    ``None`` if no size has both."""
    judged = [size for size in board.verdict.sizes if size.difference is not None]
    if not judged:
        return None
    metric, several = judged[0].metric, len({size.protocol for size in judged}) > 1
    rows = []
    for size in judged:
        gap = size.difference
        if gap is None or size.metric != metric:
            continue
        where = f"{size.size}, {size.protocol}" if several else size.size
        side = gap.side(metric) if gap.is_tested else None
        estimate = Estimate(mean=gap.mean, low=gap.low, high=gap.high)
        rows.append(Difference(label=where, below=f"{size.distilled} − {size.real}", gap=estimate, side=side))
    told = any(row.side == 0 and significant(row.gap, metric) for row in rows)
    caption = "At each size the best distilled set minus the real samples that decide."
    caption += " Words follow the test, corrected for all pairs; intervals are not corrected." if told else ""
    return tag("div", difference_plot(rows, caption, metric), class_="card hero one")


def summary_table(board: Board) -> list[Html]:
    """Return a table with one line for each size and protocol, and one of all real data; empty if nothing is
    measured."""
    groups = list(dict.fromkeys(r.group for r in board.measured))
    several = len({group[0] for group in groups}) > 1
    body: list[Html] = []
    for group in groups:
        rows = [r for r in board.measured if r.group == group]
        top = [r for r in rows if r.best or r.not_told_apart]
        best = next((r for r in top if r.best), None)
        if best is None or best.score is None:
            continue
        where = best.size + (f", {group[0]}" if several else "")
        body.append(
            row(
                where,
                tag("b", tag("bdi", best.label)),
                _score(best.score, best.metric),
                size_value(best.bytes),
                value(format_duration(best.seconds), best.seconds),
                _others([r for r in top if r is not best], len(rows)),
                _least(top, "bytes"),
                _least(top, "seconds"),
            )
        )
    if not body:
        return []
    all_of_it = next((r for r in board.measured if r.full is not None), None)
    if all_of_it is not None and all_of_it.full is not None:
        held = all_of_it.scorecard.get("full")
        bytes_ = to_number(held.get("bytes")) if isinstance(held, dict) else None
        score = _score(all_of_it.full, all_of_it.metric)
        body.append(row("All real data", "—", score, size_value(bytes_), *["—"] * 4, class_="whole"))
    metric = board.measured[0].metric.column_title
    head = (
        "Size", "Best mean", f"{metric[:1].upper()}{metric[1:]}, 95% interval", "Bytes", "Time",
        "Not told apart from it", "Fewest bytes of these", "Least time of these",
    )  # fmt: skip
    text = (
        "“These” are the best mean and all that cannot be told apart from it. That is not to be equal: where sets are "
        "few, or differ much from each other, a large difference stays open, and more sets settle it. Time is "
        "that of making one set."
    )
    return [tag("div", table("In short", head, body), class_="answers"), note(text)]


def _score(e: Estimate, metric: Metric) -> Html:
    ends = None if e.low is None else tag("span", f" [{format_interval(e, metric)}]", class_="soft")
    return tag("td", score_value(e.mean, metric), ends)


def _others(others: Sequence[Row], measured: int) -> Html:
    if others:
        return join_html([tag("bdi", row.label) for row in others], ", ")
    return Html("none: better than all" if measured > 1 else "nothing else was measured")


def _least(rows: Sequence[Row], what: str) -> Html:
    cost = {row.id: row.bytes if what == "bytes" else row.seconds for row in rows}
    known = [row for row in rows if cost[row.id] is not None]
    if not known:
        return tag("td", "—")
    least = min(known, key=lambda row: cost[row.id] or 0.0)
    spent = cost[least.id]
    said = format_size(spent) if what == "bytes" else format_duration(spent)
    mean = "" if least.score is None else f" ({format_score(least.score.mean, least.metric)})"
    return tag("td", tag("bdi", least.label), mean, ": ", tag("span", value(said, spent), class_="soft"))
