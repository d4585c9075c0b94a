"""Drawings of inputs: rows over parallel axes, windows of a series as lines, and strips of images."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Num

from potstill._util.html import Html, tag

__all__ = [
    "LONGEST", "WANTED", "describe_ranges", "draw_window", "image_strip", "labelled", "parallel_axes", "scroll_box",
    "window_keys",
]  # fmt: skip

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
    box = scroll_box(svg, labelled("Rows as lines", of))
    return tag("figure", _keys(classes), box, tag("figcaption", note), class_="parallel")


def scroll_box(inner: Html, label: str, *, narrow: bool = False) -> Html:
    """Return a box with an accessible name inside which a wide table scrolls."""
    name = "scroll narrow" if narrow else "scroll"
    return tag("div", inner, class_=name, tabindex=0, role="region", aria_label=label)


def labelled(what: str, of: str) -> str:
    """Return the accessible name of a part: unique on its page."""
    return f"{of}: {what}" if of else what


def _short(name: str) -> str:
    return name if len(name) <= 12 else name[:11] + "…"


def _keys(classes: Sequence[str]) -> Html | None:
    """Return the legend of the first eight classes."""
    if not classes:
        return None
    keys = []
    for c, name in enumerate(classes[:_MARKS]):
        line = tag("polyline", points="0,8 26,8", class_=f"p{c}")
        keys.append(tag("li", tag("svg", line, width=26, height=16, aria_hidden="true"), tag("bdi", name)))
    return tag("ul", *keys, class_="line-keys")


_LINE_COLOURS, _MOST_RANGES = 6, 3
_MOST_VARIABLES = 12
_WINDOW_WIDTH, _WINDOW_HEIGHT = 200, 80


def draw_window(
    past: Float[np.ndarray, "v t"],
    ahead: Float[np.ndarray, "v h"] | None,
    names: Sequence[str],
    what: str,
    below: str,
    axis_range: tuple[Float[np.ndarray, " v"], Float[np.ndarray, " v"]] | None = None,
) -> Html:
    """Return a drawing of the first 12 variables, each on its own scale: units differ.

    Args:
        ahead: values after the window, dashed.
        names: of the variables.
        what: accessible name.
        below: caption.
        axis_range: range of each variable's scale; default: that of this window.
    """
    seen = past.shape[1]
    last = seen - 1 + (0 if ahead is None else ahead.shape[1])
    lines: list[Html] = []
    for v in range(min(len(past), _MOST_VARIABLES)):
        whole = past[v] if ahead is None else np.concatenate([past[v], ahead[v]])
        low, high = (
            (float(whole.min()), float(whole.max())) if axis_range is None else (float(end[v]) for end in axis_range)
        )
        line = f"v{v % _LINE_COLOURS}" if len(past) > 1 else None
        lines.append(
            tag("polyline", points=_points(past[v], 0, last, low, high), class_=line,
                vector_effect="non-scaling-stroke")
        )  # fmt: skip
        if ahead is not None:
            after = np.concatenate([past[v, -1:], ahead[v]])
            lines.append(
                tag("polyline", points=_points(after, seen - 1, last, low, high),
                    class_=f"ahead {line}" if line else "ahead", vector_effect="non-scaling-stroke")
            )  # fmt: skip
    spans = "; ".join(
        f"{name} from {float(x.min()):.3g} to {float(x.max()):.3g}"
        for name, x in zip(names[:_MOST_VARIABLES], past[:_MOST_VARIABLES], strict=True)
    )
    box, told = f"0 0 {_WINDOW_WIDTH} {_WINDOW_HEIGHT}", f"{what}, {seen} values: {spans}"
    drawn = tag("svg", *lines, viewBox=box, preserveAspectRatio="none", role="img", aria_label=told)
    return tag("li", tag("figure", drawn, tag("figcaption", below), class_="window"))


def window_keys(names: Sequence[str]) -> Html | None:
    """Return names of variables beside the colours of their lines; ``None`` for one, or for more than are drawn."""
    if not 1 < len(names) <= _LINE_COLOURS:
        return None
    keys = [
        tag("li", tag("span", tag("svg", tag("polyline", points="0,4 20,4", class_=f"v{v}"), viewBox="0 0 20 8",
                                  aria_hidden="true"), class_="window"), tag("bdi", name))
        for v, name in enumerate(names)
    ]  # fmt: skip
    return tag("ul", *keys, class_="line-keys")


def describe_ranges(values: Float[np.ndarray, "v t"], names: Sequence[str]) -> str:
    """Return the range of each variable's line in the data's units; empty for more than three."""
    if len(values) > _MOST_RANGES:
        return ""
    spans = (f"{float(x.min()):.3g} to {float(x.max()):.3g}".replace("-", "−") for x in values)
    if len(values) == 1:
        return next(spans)
    return ", ".join(f"{name} {span}" for name, span in zip(names, spans, strict=True))


def _window_y(value: float, low: float, room: float) -> float:
    return _WINDOW_HEIGHT - _WINDOW_HEIGHT * (value - low) / room


def _points(values: Float[np.ndarray, " t"], first: int, last: int, low: float, high: float) -> str:
    room = max(high - low, 1e-12)
    return " ".join(
        f"{_WINDOW_WIDTH * (first + t) / max(1, last):.1f},{_window_y(float(v), low, room):.1f}"
        for t, v in enumerate(values)
    )


WANTED, LONGEST = 44, 64
"""Pixels of an image's longer side: approximate size on the page, and maximum in the file."""


def image_strip(pictures: Num[np.ndarray, "n c h w"], alt: str, *, near: bool = False, is_lazy: bool = True) -> Html:
    """Return images (n, c, h, w) side by side in one PNG, one transparent pixel apart; decoded when seen if lazy."""
    from PIL import Image

    held = pictures[:, :1] if pictures.shape[1] < 3 else pictures[:, :3]
    levels = np.rint(np.clip(np.nan_to_num(held, nan=0.0), 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    n, h, w, c = levels.shape
    if max(h, w) > LONGEST:
        side = (max(1, w * LONGEST // max(h, w)), max(1, h * LONGEST // max(h, w)))
        small = [Image.fromarray(x[:, :, 0] if c == 1 else x).resize(side, Image.Resampling.LANCZOS) for x in levels]
        levels = np.stack([np.asarray(x).reshape(side[1], side[0], c) for x in small])
        n, h, w, c = levels.shape
    sheet = np.zeros((h, n * (w + 1) - 1, c + 1), np.uint8)
    for k, x in enumerate(levels):
        sheet[:, k * (w + 1) : k * (w + 1) + w] = np.concatenate([x, np.full((h, w, 1), 255, np.uint8)], 2)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG", optimize=True)
    times = max(1, round(WANTED / max(h, w)))
    size = f"--w:{sheet.shape[1] * times};--h:{h * times}"
    return tag(
        "img", src="data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"), alt=alt, style=size,
        width=sheet.shape[1] * times, height=h * times, loading="lazy" if is_lazy else None, decoding="async",
        class_="near" if near else None,
    )  # fmt: skip
