"""A map for each set: its inputs among real samples, along their two principal directions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill._util.html import Html, tag
from potstill.reports.comparison_page.board import Board, Row
from potstill.reports.comparison_page.pareto import assign_marks
from potstill.reports.numbers import format_percent
from potstill.reports.tables import fold, note

__all__ = ["PcaMap", "RealProjection", "draw_pca_maps"]

_SIDE, _EDGE, _SHORT = 200, 8, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RealProjection:
    """Real samples on the map.

    Attributes:
        positions: (m, 2).
        labels: (m,) their classes; zeros where there are none.
        classes: names of the classes.
        variance_shares: share of the real samples' variance along each direction.
        samples: number of real samples.
    """

    positions: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    variance_shares: tuple[float, float]
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PcaMap:
    """The real samples, and positions (n, 2) of each row's inputs by the row's id, in the order of its gallery."""

    real: RealProjection
    positions: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Transform from positions to the drawing."""

    least: np.ndarray
    most: np.ndarray

    @classmethod
    def around(cls, real: np.ndarray, others: np.ndarray) -> "_Frame":
        """Return a frame with all real samples, and the others up to half of their extent away."""
        least, most = real.min(0), real.max(0)
        room = np.maximum(most - least, 1e-9)
        least = np.maximum(np.minimum(least, others.min(0)), least - 0.5 * room)
        most = np.minimum(np.maximum(most, others.max(0)), most + 0.5 * room)
        return cls(least - 0.04 * room, most + 0.04 * room)

    def to_drawing(self, places: np.ndarray) -> tuple[list[tuple[float, float]], int]:
        """Return the drawing's coordinates, and how many positions lie beyond it; these are drawn at its edge."""
        share = (places - self.least) / (self.most - self.least)
        beyond = int(((share < 0) | (share > 1)).any(1).sum())
        share = np.clip(share, 0, 1)
        room = _SIDE - 2 * _EDGE
        return [(_EDGE + room * float(x), _EDGE + room * (1 - float(y))) for x, y in share], beyond


def draw_pca_maps(board: Board, map_: PcaMap | None) -> list[Html]:
    """Return one drawing for each row, by size; empty without real samples."""
    if map_ is None or not map_.positions:
        return []
    real, of = map_.real, assign_marks(board.rows)
    frame = _Frame.around(real.positions, np.concatenate(list(map_.positions.values())))
    parts: list[Html] = []
    for size, rows in board.sets_by_size(lambda row: row.id in map_.positions).items():
        drawings = (_drawing(row, map_, frame, of[row.method]) for row in rows)
        parts.append(fold(tag("h4", size), tag("div", *drawings, class_="maps"), is_open=not parts))
    shown = len(real.positions)
    dots = f"{shown:,} of {real.samples:,}" if shown < real.samples else f"all {real.samples:,}"
    text = (
        f"Grey: {dots} real training samples, along the two directions in which they differ most. These hold "
        f"{format_percent(sum(real.variance_shares))} of their differences, so what lies close together here may "
        "differ in other ways. Spread: standard deviation over that of the real samples, across and up. Well below 1 a "
        "set keeps to the middle; well above 1 it exaggerates what sets samples apart."
    )
    pictures = any(row.entry and row.entry.gallery and row.entry.gallery.inputs.ndim == 4 for row in board.rows)
    if real.classes and pictures:
        text += " The choice of a class above is one here, too."
    background = tag("g", *_dots(real, frame), id="map-real", class_="real")
    svg = tag("svg", background, width=0, height=0, aria_hidden="true", class_="map")
    return [tag("h3", "Among real samples"), note(text), svg, *parts]


def _dots(real: RealProjection, frame: _Frame) -> list[Html]:
    """Return a path of dots for each class."""
    out = []
    for c in range(max(1, len(real.classes))):
        places, _ = frame.to_drawing(real.positions[real.labels == c])
        if places:
            path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
            out.append(tag("path", d=path, data_class=real.classes[c] if real.classes else None))
    return out


def _drawing(row: Row, map_: PcaMap, frame: _Frame, slot: int) -> Html:
    mine = map_.positions[row.id]
    places, beyond = frame.to_drawing(mine)
    across, up = mine.std(0) / np.maximum(map_.real.positions.std(0), 1e-12)
    spread = f"spread {across:.2f} and {up:.2f}"
    outside = f", {beyond:,} beyond the drawing" if beyond else ""
    said = (
        f"{len(mine):,} inputs of {row.label} at {row.size} among {len(map_.real.positions):,} real samples: {spread}"
    )
    svg = tag(
        "svg", Html('<use href="#map-real"/>'), *_marks(row, places), viewBox=f"0 0 {_SIDE} {_SIDE}", role="img",
        aria_label=said + outside, class_=f"map m{slot}",
    )  # fmt: skip
    words = tag("span", f"{spread}{outside}", class_="soft")
    return tag("figure", svg, tag("figcaption", tag("b", tag("bdi", row.label)), " ", words))


def _marks(row: Row, places: Sequence[tuple[float, float]]) -> list[Html]:
    """Return class names if they are short, else dots with a tooltip."""
    g = None if row.entry is None else row.entry.gallery
    classes = () if g is None else g.classes
    labels = np.zeros(len(places), dtype=np.int64) if g is None or not classes else g.hard_labels
    short = bool(classes) and max(map(len, classes)) <= _SHORT
    out = []
    for (x, y), c in zip(places, labels.tolist(), strict=True):
        name = classes[c] if classes else None
        if short:
            out.append(tag("text", name, x=f"{x:.1f}", y=f"{y:.1f}", data_class=name))
        else:
            title = None if name is None else tag("title", name)
            out.append(tag("g", title, tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3.5), data_class=name))
    return out
