"""Snapshots of each set, finished or in progress."""

from collections.abc import Mapping

from potstill._util.html import Html, join_html, tag
from potstill.reports.comparison_page.board import Board
from potstill.reports.snapshots import Snapshots, snapshots_section

__all__ = ["snapshots_sections"]


def snapshots_sections(board: Board, held: Mapping[str, Snapshots | str]) -> list[Html]:
    """Return the snapshots of each set, folded but the first, in the order of the leaderboard.

    Args:
        held: by the name of the set's file, without its ending while the set is being made; a text says why there are
            none.
    """
    titles: dict[str, str] = {}
    for row in sorted(board.rows, key=lambda row: (row.unit, row.amount, row.rank or 99)):
        titles.setdefault(row.file, f"{row.label}, {row.size}")
    making = {name: f"{name}, being made" for name in held if not name.endswith(".safetensors")}
    out: list[Html] = []
    for n, (name, title) in enumerate({**making, **titles}.items()):
        if (film := held.get(name)) is None:
            continue
        inner = (
            [tag("p", film, class_="note")]
            if isinstance(film, str)
            else snapshots_section(film, str(n), title, name in titles)
        )
        head = tag("summary", tag("h3", tag("bdi", title)))
        out.append(tag("details", head, *inner, open=None if out else "", class_="one"))
    return [join_html(out)] if out else []
