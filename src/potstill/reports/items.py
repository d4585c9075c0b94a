"""Inputs of a set without classes: images with texts, rows with targets, windows of a series as lines."""

from collections.abc import Sequence

import numpy as np

from potstill._util.html import Html, join_html, tag
from potstill._util.notebook_repr import inline_image
from potstill.reports.entry import Gallery
from potstill.reports.parallel import labelled, parallel_axes
from potstill.reports.windows import draw_window

__all__ = ["items"]

_MOST, _MOST_COLUMNS, _LONGEST, _WANTED = 48, 40, 128, 84


def _pairs(g: Gallery, most: int) -> Html:
    tiles = []
    for i in range(most):
        said = g.captions[i] if i < len(g.captions) else ""
        drawn = inline_image(g.inputs[i], said or f"item {i + 1}", _WANTED, _LONGEST)
        tiles.append(tag("li", tag("figure", drawn, tag("figcaption", tag("bdi", said)) if said else None)))
    return tag("ul", *tiles, class_="items")


def _target(g: Gallery, i: int) -> list[Html]:
    if g.targets is None:
        return []
    return [tag("td", f"{value:.4g}") for value in g.targets[i].reshape(-1)[:_MOST_COLUMNS]]


def _table(g: Gallery, most: int, of: str) -> Html:
    flat = g.inputs.reshape(len(g.inputs), -1)[:, :_MOST_COLUMNS]
    columns = g.columns if len(g.columns) >= flat.shape[1] else tuple(f"column {j + 1}" for j in range(flat.shape[1]))
    wide = 0 if g.targets is None else min(_MOST_COLUMNS, int(np.prod(g.targets.shape[1:])))
    asked = g.target_names if len(g.target_names) == wide else tuple(f"target {j + 1}" for j in range(wide))
    heads = [tag("bdi", name) for name in (*columns[: flat.shape[1]], *(f"{name} (target)" for name in asked))]
    body = [
        tag("tr", tag("th", str(i + 1), scope="row"), *(tag("td", f"{x:.4g}") for x in flat[i]), *_target(g, i))
        for i in range(most)
    ]
    head = tag("tr", tag("th", "item", scope="col"), *(tag("th", name, scope="col") for name in heads))
    table = tag("table", tag("caption", "Distilled rows and what is to be learned of each"), tag("thead", head),
                tag("tbody", *body))  # fmt: skip
    rows = flat[:most]
    if g.targets is not None:  # first, as not all columns are drawn
        rows = np.concatenate([g.targets[:most].reshape(most, -1)[:, :wide], rows], 1)
    names = [*(f"{name} (target)" for name in asked), *columns[: flat.shape[1]]]
    lines = parallel_axes(rows, names, np.zeros(most, dtype=np.int64), (), of)
    return join_html(
        [
            lines,
            tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=labelled("Distilled rows", of)),
        ]
    )


def _window(g: Gallery, i: int, names: Sequence[str]) -> Html:
    past, ahead = g.inputs[i], None
    if g.targets is not None and g.targets[i].size and g.targets[i].size % len(past) == 0:
        ahead = g.targets[i].reshape(len(past), -1)
    return draw_window(past, ahead, names, f"Window {i + 1}", f"window {i + 1}")


def items(g: Gallery, of: str = "") -> list[Html]:
    """Return the first items of a set without classes, of any kind; ``of`` says whose."""
    most, total = min(_MOST, len(g.inputs)), sum(g.sizes)
    if g.inputs.ndim == 4:
        shown, noun = _pairs(g, most), "items"
    elif g.inputs.ndim == 3:
        names = g.columns if len(g.columns) == g.inputs.shape[1] else tuple(map(str, range(1, g.inputs.shape[1] + 1)))
        shown = tag("ul", *(_window(g, i, names) for i in range(most)), class_="items windows")
        noun = "windows; each variable has a scale of its own, dashed is what follows"
    else:
        shown, noun = _table(g, most, of), "rows, in the data's own units"
    return [shown, tag("p", f"{most:,} of {total:,} {noun}.", class_="note")]
