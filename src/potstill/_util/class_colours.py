"""Colours of classes, for masks that people look at."""

import colorsys

__all__ = ["class_colours"]

_FIRST = (
    (110, 110, 110), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167),
)  # fmt: skip
"""Grey, and the seven colours of Okabe and Ito, which colour-blind people can tell apart."""
_TURN = 0.61803398875
"""Distance of two further hues: the golden ratio, so that neighbours differ."""


def class_colours(k: int) -> tuple[tuple[int, int, int], ...]:
    """Return ``k`` colours (red, green, blue) of 0 … 255; the first is grey, as many data call it background."""
    further = [colorsys.hsv_to_rgb(n * _TURN % 1, 0.55 + 0.15 * (n % 4), 0.95 - 0.2 * (n % 3)) for n in range(k)]
    drawn = [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in further]
    return (*_FIRST, *drawn)[:k]
