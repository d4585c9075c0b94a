"""Confusions: a matrix of the best row of each size, and the commonest mistakes of every row."""

from collections.abc import Sequence

from potstill._util.html import Html, tag
from potstill.reports.comparison_page.board import Board, Row
from potstill.reports.figures import value
from potstill.reports.numbers import format_count, format_percent, to_number
from potstill.reports.tables import fold, note, table
from potstill.reports.tables import row as table_row

__all__ = ["confusions"]

_MOST = 3
"""Maximum number of mistakes named per row."""


def confusions(board: Board) -> list[Html]:
    """Return for each size the confusion matrix of its best row and every row's commonest mistakes; empty without
    any."""
    out: list[Html] = []
    for group in sorted(dict.fromkeys(row.group for row in board.measured)):
        held = [(row, found) for row in board.measured if row.group == group and (found := _counts(row))]
        if not held:
            continue
        names = _names([row for row, _ in held], len(held[0][1]))
        best = next(((row, found) for row, found in held if row.best), held[0])
        title = f"{held[0][0].size}, {held[0][0].protocol}"
        lines = [_mistakes(row, found, names) for row, found in held if len(found) == len(names)]
        head = ("Method", *(f"{word} mistake" for word in ("Commonest", "Second", "Third")))
        mistakes = table(f"Commonest mistakes, {title}", head, lines)
        out.append(fold(tag("h4", title), mistakes, _matrix(*best, names, title), is_open=not out))
    if out:
        text = "Share of a class's test samples that was taken for another, over students of the first set."
        return [tag("h3", "What is taken for what"), note(text), *out]
    return []


def _counts(row: Row) -> list[list[int]]:
    """Return the scorecard's matrix (rows: true classes); empty if invalid or missing."""
    held = row.scorecard.get("confusion")
    if not isinstance(held, list) or not all(isinstance(of, list) and len(of) == len(held) for of in held):
        return []
    found = [[to_number(x) for x in of] for of in held]
    if any(x is None or x < 0 for of in found for x in of):
        return []
    whole = [[int(x or 0) for x in of] for of in found]
    return whole if any(map(any, whole)) else []


def _names(rows: Sequence[Row], many: int) -> tuple[str, ...]:
    names = next((row.entry.classes for row in rows if row.entry is not None), ())
    return names if len(names) == many else tuple(map(str, range(many)))


def _mistakes(row: Row, matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Html:
    rated = sorted(
        ((n / sum(of), c, d) for c, of in enumerate(matrix) for d, n in enumerate(of) if c != d and n),
        key=lambda mistake: -mistake[0],
    )[:_MOST]
    cells = []
    for share, c, d in rated:
        soft = tag("span", f" {format_percent(share)}", class_="soft")
        cells.append(tag("td", tag("bdi", names[c]), " as ", tag("bdi", names[d]), soft))
    return table_row(row.label, *cells, *["—"] * (_MOST - len(cells)))


def _matrix(row: Row, matrix: Sequence[Sequence[int]], names: Sequence[str], title: str) -> Html:
    body = []
    for c, of in enumerate(matrix):
        total = sum(of)
        cells = [_cell(n / total if total else 0.0, n, c == d) for d, n in enumerate(of)]
        body.append(table_row(names[c], *cells))
    what, said = ("Best mean", "the best mean, ") if row.best else ("First", "")
    how = "Down: the real class; across: what it was taken for."
    caption = f"{what}: {row.label}, {title}. {how}"
    words = note(tag("bdi", row.label), f", {said}in percent. {how}")
    return tag("div", words, table(caption, ("Class", *names), body), class_="confused")


def _cell(share: float, n: int, right: bool) -> Html:
    if not n:
        return tag("td", "·", class_="none")
    said = value(f"{100 * share:.0f}", share)
    style = f"--share:{100 * share:.0f}%"
    return tag("td", tag("b", said) if right else said, class_="right" if right else "wrong", style=style,
               title=f"{format_count(n)} answers")  # fmt: skip
