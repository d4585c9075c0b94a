"""Pictures with boxes drawn over them, each with the name of its class."""

from collections import Counter

import numpy as np
from jaxtyping import Float

from potstill._util.class_colours import class_colours
from potstill._util.html import Html, join_html, tag
from potstill._util.notebook_repr import inline_image
from potstill.reports.entry import Gallery

__all__ = ["boxed_pictures"]

_WANTED, _LONGEST = 170, 256
_LETTERS = 11
"""Height of names in CSS pixels, where pictures are of ``_WANTED``."""
_LONGEST_NAME, _NAMED = 18, 4
"""Letters of a name over a picture, and classes that are named below it."""


def boxed_pictures(g: Gallery, most: int) -> Html:
    """Return the first pictures with their boxes in the colours of the classes, and the legend."""
    assert g.boxes is not None
    names, (h, w) = g.target_names, g.inputs.shape[2:]
    colours = class_colours(len(names) + 1)[1:]
    tiles = []
    for i in range(most):
        rows = g.boxes[i][(g.boxes[i] > np.finfo(np.float32).min).any(1)]
        counts = Counter(names[int(row[4])] for row in rows)
        said = ", ".join(f"{n} × {name}" if n > 1 else name for name, n in counts.most_common(_NAMED))
        said += f" and {len(counts) - _NAMED} more classes" if len(counts) > _NAMED else ""
        picture = np.clip(np.nan_to_num(g.inputs[i][:3]), 0, 1)
        drawn = tag(
            "div", inline_image(picture, f"picture {i + 1} with boxes: {said or 'none'}", _WANTED, _LONGEST),
            tag(
                "svg", *(_box(row, names, colours, max(h, w)) for row in rows), viewBox=f"0 0 {w} {h}",
                aria_hidden="true", preserveAspectRatio="none",
                style="position:absolute;inset:0;width:100%;height:100%",
            ),
            style="position:relative;display:inline-block;line-height:0",
        )  # fmt: skip
        tiles.append(tag("li", tag("figure", drawn, tag("figcaption", tag("bdi", said or "no box")))))
    keys = [
        tag("li", tag("span", "■ ", style=f"color:rgb{colour}", aria_hidden="true"), tag("bdi", name))
        for name, colour in zip(names, colours, strict=True)
    ]
    return join_html([tag("ul", *tiles, class_="items"), tag("ul", *keys, class_="line-keys")])


def _box(
    row: Float[np.ndarray, "5"], names: tuple[str, ...], colours: tuple[tuple[int, int, int], ...], side: int
) -> Html:
    left, top, right, bottom = (float(value) for value in row[:4])
    c, letters = int(row[4]), _LETTERS * side / _WANTED
    name = names[c] if len(names[c]) <= _LONGEST_NAME else names[c][: _LONGEST_NAME - 1] + "…"
    outline = tag(
        "rect", x=f"{left:.2f}", y=f"{top:.2f}", width=f"{right - left:.2f}", height=f"{bottom - top:.2f}",
        style=f"fill:none;stroke:rgb{colours[c]};stroke-width:{side / _WANTED * 1.5:.2f}",
    )  # fmt: skip
    text = tag(
        "text", name, x=f"{left:.2f}", y=f"{max(top - letters / 5, letters):.2f}",
        style=f"font-size:{letters:.2f}px;fill:rgb{colours[c]};paint-order:stroke;stroke:#000;"
        f"stroke-width:{letters / 5:.2f}px",
    )  # fmt: skip
    return join_html([outline, text])
