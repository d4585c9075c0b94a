"""A window of a series as lines, one per variable."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from potstill._util.html import Html, tag

__all__ = ["draw_window"]

_MOST_LINES = 12
_WIDTH, _HEIGHT = 200, 80


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
    for v in range(min(len(past), _MOST_LINES)):
        whole = past[v] if ahead is None else np.concatenate([past[v], ahead[v]])
        low, high = (
            (float(whole.min()), float(whole.max())) if axis_range is None else (float(end[v]) for end in axis_range)
        )
        lines.append(tag("polyline", points=_points(past[v], 0, last, low, high), vector_effect="non-scaling-stroke"))
        if ahead is not None:
            after = np.concatenate([past[v, -1:], ahead[v]])
            lines.append(
                tag("polyline", points=_points(after, seen - 1, last, low, high), class_="ahead",
                    vector_effect="non-scaling-stroke")
            )  # fmt: skip
    spans = "; ".join(
        f"{name} from {float(x.min()):.3g} to {float(x.max()):.3g}"
        for name, x in zip(names[:_MOST_LINES], past[:_MOST_LINES], strict=True)
    )
    box, told = f"0 0 {_WIDTH} {_HEIGHT}", f"{what}, {seen} values: {spans}"
    drawn = tag("svg", *lines, viewBox=box, preserveAspectRatio="none", role="img", aria_label=told)
    return tag("li", tag("figure", drawn, tag("figcaption", below), class_="window"))


def _points(values: Float[np.ndarray, " t"], first: int, last: int, low: float, high: float) -> str:
    room = max(high - low, 1e-12)
    return " ".join(
        f"{_WIDTH * (first + t) / max(1, last):.1f},{_HEIGHT - _HEIGHT * (float(v) - low) / room:.1f}"
        for t, v in enumerate(values)
    )
