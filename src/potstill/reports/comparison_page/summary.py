"""Summary table: for each size the best method, its score, bytes and time."""

from collections.abc import Sequence

from potstill._util.html import Html, join_html, tag
from potstill.reports.comparison_page.board import Board, Row
from potstill.reports.figures import value
from potstill.reports.numbers import Estimate, format_duration, format_interval, format_score, format_size, to_number
from potstill.reports.tables import table
from potstill.tasks.metric import Metric

__all__ = ["summary_table"]


def summary_table(board: Board) -> list[Html]:
    """Return a table with one line for each size and protocol, and one of all real data; empty if nothing is
    measured."""
    groups = list(dict.fromkeys(row.group for row in board.measured))
    several = len({group[0] for group in groups}) > 1
    body: list[Html] = []
    for group in groups:
        rows = [row for row in board.measured if row.group == group]
        top = [row for row in rows if row.best or row.not_told_apart]
        best = next((row for row in top if row.best), None)
        if best is None or best.score is None:
            continue
        where = best.size + (f", {group[0]}" if several else "")
        body.append(
            tag(
                "tr",
                tag("th", tag("bdi", where), scope="row"),
                tag("td", tag("b", tag("bdi", best.label))),
                _score(best.score, best.metric),
                tag("td", value(format_size(best.bytes), best.bytes)),
                tag("td", value(format_duration(best.seconds), best.seconds)),
                tag("td", _others([row for row in top if row is not best], len(rows))),
                _least(top, "bytes"),
                _least(top, "seconds"),
            )
        )
    if not body:
        return []
    all_of_it = next((row for row in board.measured if row.full is not None), None)
    if all_of_it is not None and all_of_it.full is not None:
        held = all_of_it.scorecard.get("full")
        bytes_ = to_number(held.get("bytes")) if isinstance(held, dict) else None
        cells = [tag("td", "—" if bytes_ is None else value(format_size(bytes_), bytes_)), *[tag("td", "—")] * 4]
        body.append(
            tag(
                "tr",
                tag("th", "All real data", scope="row"),
                tag("td", "—"),
                _score(all_of_it.full, all_of_it.metric),
                *cells,
                class_="whole",
            )
        )
    metric = board.measured[0].metric.column_title
    head = (
        "Size", "Best mean", f"{metric[:1].upper()}{metric[1:]}, 95% interval", "Bytes", "Time",
        "Not told apart from it", "Fewest bytes of these", "Least time of these",
    )  # fmt: skip
    note = (
        "“These” are the best mean and all that cannot be told apart from it. That is not to be equal: where sets are "
        "few, or differ much from each other, a large difference stays open, and more sets settle it. Time is "
        "that of making one set."
    )
    return [tag("div", table("In short", head, body), class_="answers"), tag("p", note, class_="note")]


def _score(e: Estimate, metric: Metric) -> Html:
    ends = None if e.low is None else tag("span", f" [{format_interval(e, metric)}]", class_="soft")
    return tag("td", value(format_score(e.mean, metric), e.mean), ends)


def _others(others: Sequence[Row], measured: int) -> Html:
    if others:
        return join_html([tag("bdi", row.label) for row in others], ", ")
    return Html("none: better than all" if measured > 1 else "nothing else was measured")


def _least(rows: Sequence[Row], what: str) -> Html:
    cost = {row.id: row.bytes if what == "bytes" else row.seconds for row in rows}
    known = [row for row in rows if cost[row.id] is not None]
    if not known:
        return tag("td", "—")
    row = min(known, key=lambda row: cost[row.id] or 0.0)
    spent = cost[row.id]
    said = format_size(spent) if what == "bytes" else format_duration(spent)
    mean = "" if row.score is None else f" ({format_score(row.score.mean, row.metric)})"
    return tag("td", tag("bdi", row.label), mean, ": ", tag("span", value(said, spent), class_="soft"))
