"""Small HTML for notebooks: no style sheet, every text escaped."""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from potstill._util.html import Html, join_html, tag
from potstill.errors import PotstillError

__all__ = ["MAX_CLASSES", "MAX_IMAGES", "inline_image", "sample_rows", "table", "titled_table"]

MAX_CLASSES, MAX_IMAGES = 10, 8
"""Classes, and pictures of each, that are shown: a cell is no page."""
_CELL = "text-align:left;padding:2px 12px 2px 0"


def inline_image(x: Any, alt: str, target_size: int, longest: int) -> Html:
    """Return an image as inline PNG, scaled by the whole factor that comes nearest to ``target_size``, at least 1.

    Args:
        x: NumPy array (c, h, w), clipped to [0, 1]. Of two channels the first is drawn, of four or more the first
            three.
        alt: text alternative.
        target_size: CSS pixels of the longer side.
        longest: pixels of the longer side; larger images are reduced.
    """
    import numpy as np
    from PIL import Image

    channels = x[:1] if x.shape[0] < 3 else x[:3]
    levels = np.rint(np.clip(np.nan_to_num(channels, nan=0.0), 0, 1) * 255).astype(np.uint8)
    levels = np.ascontiguousarray(levels.transpose(1, 2, 0))
    drawing = Image.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else levels)
    if max(drawing.size) > longest:
        drawing.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    drawing.save(buffer, format="PNG", optimize=True)
    times = max(1, round(target_size / max(drawing.size)))
    return tag(
        "img",
        src="data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"),
        alt=alt,
        width=drawing.width * times,
        height=drawing.height * times,
        decoding="async",
    )


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Html:
    """Return a table of cells that the caller has formatted."""
    top = tag("tr", *(tag("th", join_html([str(h)]), style=_CELL) for h in head))
    body = (tag("tr", *(tag("td", v if isinstance(v, Html) else str(v), style=_CELL) for v in row)) for row in rows)
    return tag("table", tag("thead", top) if head else None, tag("tbody", *body))


def titled_table(title: str, rows: Iterable[tuple[str, object]]) -> Html:
    """Return a heading and a table below it."""
    return join_html([tag("b", title), table((), rows)])


def sample_rows(rows: Iterable[tuple[str, Sequence[Any]]], draw: Callable[[Any, str], Html]) -> Html:
    """Return samples by class, one row each.

    Args:
        rows: class name and samples as NumPy arrays.
        draw: returns a sample, and its text alternative, as HTML.

    Raises:
        PotstillError: ``draw`` returns plain text.
    """
    shown = []
    for name, samples in rows:
        drawn = [draw(x, f"{name}, {n + 1}") for n, x in enumerate(samples)]
        if any(not isinstance(one, Html) for one in drawn):
            raise PotstillError(
                "draw of a kind must return potstill.kinds.Html, but it returned a plain string; make it with tag(…)"
            )
        spaced = tag("span", join_html(drawn, " "), style="image-rendering:pixelated")
        shown.append((Html(tag("bdi", name)), Html(spaced)))
    return table((), shown)
