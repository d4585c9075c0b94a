"""Rows of a table as lines over parallel axes, one axis per column."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from potstill._util.html import Html, tag

__all__ = ["labelled", "parallel_axes"]

_MOST_AXES, _MOST_LINES, _MARKS = 12, 240, 8
_HEIGHT, _STEP, _EDGE, _TOP, _BOTTOM = 230, 92, 46, 34, 22


def parallel_axes(
    rows: Float[np.ndarray, "n d"],
    columns: Sequence[str],
    labels: Int[np.ndarray, " n"],
    classes: Sequence[str],
    of: str = "",
    axis_range: tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]] | None = None,
) -> Html | None:
    """Return a drawing of at most 240 rows over the first 12 columns; ``None`` with fewer than two columns or no rows.

    Each axis spans its column's range, or ``axis_range``, so that units do not matter. Classes have colours and, up to
    eight, dash patterns.

    Args:
        labels: the class of each row; ignored without ``classes``.
        of: whose rows they are, on pages with several sets.
        axis_range: ends of every column's axis, to compare several drawings; no row may be beyond them.
    """
    n, d = len(rows), min(rows.shape[1], _MOST_AXES)
    if n == 0 or d < 2:
        return None
    every = -(-n // _MOST_LINES)
    shown, which = np.nan_to_num(rows[::every, :d].astype(np.float64)), labels[::every]
    low, high = (
        (shown.min(0), shown.max(0)) if axis_range is None else (end[:d].astype(np.float64) for end in axis_range)
    )
    flat = high - low < 1e-12 * np.maximum(1.0, np.abs(high))
    share = np.where(flat, 0.5, (shown - low) / np.where(flat, 1.0, high - low))
    xs = [_EDGE + _STEP * j for j in range(d)]
    room = _HEIGHT - _TOP - _BOTTOM
    lines = [
        tag(
            "polyline",
            points=" ".join(f"{x},{_TOP + room * (1 - s):.1f}" for x, s in zip(xs, row, strict=True)),
            class_=f"p{c % _MARKS}" if classes else "p0",
        )
        for row, c in zip(share, which.tolist(), strict=True)
    ]
    axes: list[Html] = []
    for j, x in enumerate(xs):
        name = columns[j] if j < len(columns) else f"column {j + 1}"
        axes += [
            tag("line", x1=x, x2=x, y1=_TOP, y2=_TOP + room, class_="axis"),
            tag("text", _short(name), tag("title", name), x=x, y=12, class_="of"),
            tag("text", f"{high[j]:.3g}", x=x, y=_TOP - 6),
            tag("text", f"{low[j]:.3g}", x=x, y=_HEIGHT - 6),
        ]
    width = 2 * _EDGE + _STEP * (d - 1)
    ends = "its least to its greatest value" + ("" if axis_range is None else " at any step")
    said = f"{len(shown):,} rows as lines over {d} columns, each from {ends}"
    svg = tag(
        "svg", *axes, *lines, viewBox=f"0 0 {width} {_HEIGHT}", width=width, height=_HEIGHT, role="img",
        aria_label=labelled(said if axis_range is not None else f"{said}; the table holds the same", of),
    )  # fmt: skip
    note = f"{said}."
    note += f" {rows.shape[1] - d:,} more columns are not drawn." if rows.shape[1] > d else ""
    note += f" One row of {every} is drawn." if every > 1 else ""
    note += " Colours and dashes repeat after eight classes." if len(classes) > _MARKS else ""
    box = tag("div", svg, class_="scroll", tabindex=0, role="region", aria_label=labelled("Rows as lines", of))
    return tag("figure", _keys(classes), box, tag("figcaption", note), class_="parallel")


def labelled(what: str, of: str) -> str:
    """Return the accessible name of a part: unique on its page."""
    return f"{of}: {what}" if of else what


def _short(name: str) -> str:
    return name if len(name) <= 12 else name[:11] + "…"


def _keys(classes: Sequence[str]) -> Html | None:
    """Return the legend of the first eight classes."""
    if not classes:
        return None
    keys = [
        tag(
            "li",
            tag("svg", tag("polyline", points="0,8 26,8", class_=f"p{c}"), width=26, height=16, aria_hidden="true"),
            tag("bdi", name),
        )
        for c, name in enumerate(classes[:_MARKS])
    ]
    return tag("ul", *keys, class_="line-keys")
