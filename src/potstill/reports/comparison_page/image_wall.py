"""Images of all methods side by side, class by class, each with the nearest real image.

The images of a class by one method are strips of a few: 2,000 images become some hundred.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill._util.html import Html, tag
from potstill.reports.comparison_page.board import Board, Row
from potstill.reports.drawings import LONGEST, WANTED, image_strip, scroll_box
from potstill.reports.entry import Gallery
from potstill.reports.gallery import gallery
from potstill.reports.tables import bare_table, fold, note, select
from potstill.reports.tables import row as table_row

__all__ = ["COPY", "NearestReal", "image_walls"]

COPY = 0.004
"""Root mean square difference below which an image is a copy: a step of eight bits."""
_IN_A_ROW, _MOST_CLASSES = 5, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NearestReal:
    """The real image nearest to each displayed image of a set.

    Attributes:
        pictures: (n, c, h, w) in the order of the gallery.
        distances: (n,) root mean square difference of the values.
    """

    pictures: np.ndarray
    distances: np.ndarray


def _side(row: Row, g: Gallery, index: Sequence[int], name: str, near: NearestReal | None) -> Html:
    """Return the images of one class by one method."""
    parts: list[Html] = []
    for start in range(0, len(index), _IN_A_ROW):
        some = list(index[start : start + _IN_A_ROW])
        which = f"{start + 1} to {start + len(some)}" if len(some) > 1 else f"{start + 1}"
        parts.append(image_strip(g.inputs[some], f"{row.label}, {name}, {which}"))
        if near is not None:
            far = ", ".join(f"{d:.2f}" for d in near.distances[some])
            parts.append(image_strip(near.pictures[some], f"Nearest real pictures, at distance {far}", near=True))
    return tag("figure", tag("figcaption", tag("bdi", row.label)), *parts)


def _distances(row: Row, near: NearestReal) -> Html:
    copies = f"{int((near.distances <= COPY).sum()):,} of {len(near.distances):,}"
    distances = (f"{distance:.3f}" for distance in (near.distances.min(), np.median(near.distances)))
    return table_row(row.label, row.size, *distances, copies)


def _wall(rows: Sequence[Row], near: Mapping[str, NearestReal]) -> list[Html]:
    """Return classes one after another, methods side by side."""
    held = [(row, g) for row in rows if (g := _pictures(row)) is not None]
    first = held[0][1]
    shelves = []
    for c, name in enumerate(first.classes[:_MOST_CLASSES]):
        sides = []
        for row, g in held:
            if index := np.flatnonzero(g.hard_labels == c).tolist():
                sides.append(_side(row, g, index, name, near.get(row.id)))
        if sides:
            shelves.append(tag("li", tag("h4", tag("bdi", name)), tag("div", *sides, class_="sides"), data_class=name))
    h, w = first.inputs.shape[2:]
    most = max(int(np.bincount(g.hard_labels).max()) for _, g in held)
    side = min(max(h, w), LONGEST)
    times = max(1, round(WANTED / side))
    room = min(most, _IN_A_ROW) * (min(w, LONGEST) + 1) * times + 12
    return [tag("ul", *shelves, class_="wall", style=f"--room:{room}px")]


def _pictures(row: Row) -> Gallery | None:
    """Return the gallery of a row, if it holds images with classes."""
    g = None if row.entry is None else row.entry.gallery
    return g if g is not None and g.inputs.ndim == 4 and g.classes and len(g.inputs) else None


def image_walls(board: Board, near: Mapping[str, NearestReal], has_data: bool) -> list[Html]:
    """Return the gallery of a board, one part for each size; the first is open."""
    rows_by_size = board.sets_by_size(lambda row: row.entry is not None and row.entry.gallery is not None)
    parts: list[Html] = []
    classes: dict[str, None] = {}
    cut = False
    for size, rows in rows_by_size.items():
        drawn = [row for row in rows if _pictures(row) is not None]
        inner = _wall(drawn, near) if drawn else []
        for row in rows:
            if (g := _pictures(row)) is not None:
                classes |= dict.fromkeys(g.classes)
                cut = cut or len(g.inputs) < sum(g.sizes)
            elif row.entry is not None and row.entry.gallery is not None:
                inner += [tag("h4", tag("bdi", row.label)), gallery(row.entry.gallery, f"{row.label}, {size}")]
        parts.append(fold(tag("h3", size), *inner, is_open=not parts))
    if not parts:
        return []
    top: list[Html] = []
    if classes:
        zoom = Html('<input type="range" name="zoom" min="1" max="4" step="1" value="1">')
        controls = (select("class", "Class", list(classes)), tag("label", tag("span", "Zoom"), zoom))
        top.append(tag("form", *controls, id="looking", hidden="", aria_label="Choose what the gallery shows"))
        text = "At most 12 pictures of a class are shown. " if cut else ""
        text += (
            "Below each strip, behind the line: for each picture the real training picture of its class that is "
            "nearest to it. Pictures that are real themselves have none."
            if has_data
            else "Give the report the training data to see the real picture nearest to each."
        )
        top.append(note(text))
    if near:
        lines = [_distances(row, near[row.id]) for rows in rows_by_size.values() for row in rows if row.id in near]
        head = ("Method", "Size", "Nearest of all", "Median", "Copies")
        text = f"Root mean square difference of pixels in [0,1]. A copy is nearer than {COPY:g}."
        box = scroll_box(bare_table("Distance to the nearest real picture", head, lines), "Distances")
        parts.append(fold(Html("How near they are to real pictures"), note(text), box))
    return [*top, *parts]
