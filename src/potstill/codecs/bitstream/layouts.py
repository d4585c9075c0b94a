"""Places of codes in items, and the contexts that they are coded in.

A *feature* is a number that is known before a value is decoded: a neighbour, the same place of the item before, the
mean of the class so far. A *context* is a list of features; every context that occurs has counts of its own, which
give one probability each, and the mixer joins them. Contexts were searched on one data set for each layout and are
reported on others (benchmarks/coder.py).
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from potstill.codecs.bitstream.twin import Plane

__all__ = ["COLUMNS", "LAYOUTS", "MOST_CELLS", "MOST_IN_SEQUENCE", "PICTURE", "SEQUENCE", "SORTED", "Feature", "Layout"]

MOST_CELLS: Final = 1 << 18
"""Most values of one item: what the coder remembers of the last three items takes twelve bytes each and more."""
MOST_IN_SEQUENCE: Final = 1 << 24
"""Most values of one sequence, such as the letters of all texts; see also `potstill.codecs.bitstream.stream`."""


class Feature(IntEnum):
    """Features of a context, in the order in which the coder computes it."""

    W = 0
    """Value to the left; neighbours beyond the edge are 0."""
    N = 1
    NW = 2
    NE = 3
    WW = 4
    NN = 5
    MIRROR = 6
    """Value at the mirrored column of the same row; −1 in the left half."""
    MIRROR_WEST = 7
    MIRROR_EAST = 8
    BAND = 9
    """The same place of the channel before."""
    BAND_2 = 10
    PLACE = 11
    """Row · width + column."""
    CHANNEL = 12
    CLASS = 13
    ITEM = 14
    """The same place of the item before."""
    ITEM_2 = 15
    MEAN = 16
    """Mean of the class at this place so far in 32 steps; folded: length of the mean distance from the centre."""
    MEAN_ALL = 17
    NEE = 18
    NWW = 19
    ITEM_EAST = 20
    ITEM_SOUTH = 21
    ROW = 22
    COLUMN = 23
    PLANE = 24
    """W + N − NW within the range: the value on a plane through the neighbours."""
    BAND_WEST = 25
    """BAND + W − W of the band before."""
    BAND_NORTH = 26
    BAND_EAST_VALUE = 27
    BAND_SOUTH_VALUE = 28
    W_TOP = 29
    """The four highest bits of W; likewise the others that end in TOP."""
    N_TOP = 30
    AVERAGE = 31
    NNW = 32
    NNE = 33
    MEAN_8 = 34
    MIRROR_NORTH = 35
    PLANE_TOP = 36
    BAND_TOP = 37
    RIGHT_HALF = 38
    ITEM_WEST = 39
    PARENT = 40
    """Value of the column that tells most of this one, chosen by the encoder; −1: none."""
    PARENT_TOP = 41
    W_LENGTH = 42
    """Bits of the distance from the centre; likewise the others that end in LENGTH."""
    WW_LENGTH = 43
    ITEM_LENGTH = 44
    BAND_LENGTH = 45
    AVERAGE_TOP = 46
    ITEM_TOP = 47
    W3 = 48
    W4 = 49


Contexts: TypeAlias = tuple[tuple[Feature, ...], ...]


def _contexts(lists: str) -> Contexts:
    """Return contexts from the names of their features; ``-``: a context without any."""
    return tuple(tuple(Feature[name] for name in of.split() if name != "-") for of in lists.split("/"))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Places of the codes of a stream, and their contexts."""

    name: str
    """Its name in the metadata of a file."""
    fine: Contexts = ()
    """Contexts of codes of up to 4 bits, coded by their bits; none: always folded."""
    coarse: Contexts = ()
    """Contexts of codes of more bits."""
    bands: Contexts = ()
    """Contexts of codes of up to 4 bits in several channels, where they differ from ``fine``."""
    folded: Contexts = ()
    """Contexts of codes by their distance from a centre; none: never folded."""

    def contexts(self, plane: Plane, bits: int, *, folded: bool) -> Contexts:
        """Return the contexts of codes of ``bits`` bits."""
        if folded:
            return self.folded
        if bits > 4:
            return self.coarse
        return self.bands if self.bands and plane[1] > 1 else self.fine

    def plane(self, shape: tuple[int, ...]) -> Plane | None:
        """Return items, channels, height and width of codes of ``shape``; ``None``: they do not lie so."""
        if self.name == "picture":
            fits = len(shape) >= 4 and min(shape[-2:]) >= 2
            found = (math.prod(shape[:-3]), *shape[-3:])
        elif self.name == "columns":
            fits = len(shape) >= 2
            found = (shape[0], math.prod(shape[1:-1]), 1, shape[-1])
        else:
            size = math.prod(shape)
            return (1, 1, 1, size) if 0 < size <= MOST_IN_SEQUENCE else None
        return found if fits and 0 < math.prod(found[1:]) <= MOST_CELLS else None  # type: ignore[return-value]


PICTURE: Final = Layout(
    name="picture",
    fine=_contexts(
        "N PLACE / W N NW WW NN / W N MIRROR CLASS MEAN_8 MIRROR_NORTH / W N NW NE MIRROR_EAST PLACE NEE / N MEAN / "
        "W N NW NE CLASS MIRROR / WW MIRROR_EAST PLACE ITEM COLUMN / "
        "W N NW NE WW MIRROR MIRROR_WEST MIRROR_EAST NEE NWW NNE / W N MIRROR ROW NNW MIRROR_NORTH / "
        "W MIRROR_EAST PLACE CLASS RIGHT_HALF / N NE CLASS NEE ROW / MIRROR_EAST ITEM_SOUTH COLUMN / "
        "W NN ITEM ROW NNW MEAN_8 / PLACE NEE ITEM_SOUTH COLUMN"
    ),
    bands=_contexts(
        "W CHANNEL BAND_SOUTH_VALUE / W N CHANNEL / W N NW NE WW NN CHANNEL / W N BAND BAND_2 CHANNEL BAND_TOP / "
        "BAND BAND_2 CHANNEL / BAND_WEST CHANNEL / BAND_NORTH BAND_WEST CHANNEL / CHANNEL PLANE BAND_SOUTH_VALUE / "
        "BAND BAND_WEST BAND_2 CHANNEL / BAND W N NW NE BAND_EAST_VALUE BAND_SOUTH_VALUE CHANNEL / "
        "AVERAGE CHANNEL CLASS / NE CHANNEL N_TOP BAND_TOP / CHANNEL / NWW BAND_NORTH AVERAGE AVERAGE_TOP"
    ),
    coarse=_contexts(
        "W CHANNEL BAND_SOUTH_VALUE / W N CHANNEL / W N NW NE WW NN CHANNEL / W N BAND BAND_2 CHANNEL BAND_TOP / "
        "BAND BAND_2 CHANNEL / BAND_WEST CHANNEL / BAND_NORTH BAND_WEST CHANNEL / PLANE CHANNEL / "
        "BAND BAND_2 CHANNEL BAND_WEST W_TOP / BAND W N NW NE BAND_EAST_VALUE BAND_SOUTH_VALUE CHANNEL / "
        "AVERAGE CHANNEL CLASS / NE CHANNEL N_TOP BAND_TOP / CHANNEL / NWW BAND_NORTH AVERAGE AVERAGE_TOP / "
        "MEAN W_TOP N_TOP"
    ),
)  # fmt: skip
"""Pictures (…, channels, height, width)."""
COLUMNS: Final = Layout(
    name="columns",
    fine=_contexts(
        "PLACE / PLACE PARENT_TOP / PLACE PARENT / PLACE PARENT_TOP CLASS / PLACE CLASS W_TOP / ITEM MEAN_8 ITEM_TOP / "
        "MEAN / PARENT / ITEM_TOP / CLASS MEAN_8 PARENT_TOP / WW PLACE / MEAN_8"
    ),
    coarse=_contexts(
        "PLACE / PLACE PARENT_TOP / PLACE PARENT / PLACE PARENT_TOP CLASS / PLACE CLASS W_TOP / ITEM MEAN_8 ITEM_TOP / "
        "MEAN / PARENT / ITEM_TOP / CLASS MEAN_8 PARENT_TOP / WW PLACE / MEAN_8"
    ),
    folded=_contexts(
        "BAND PLACE / MEAN_ALL WW_LENGTH / BAND CLASS MEAN ITEM_LENGTH BAND_LENGTH / BAND PLACE CLASS / "
        "CHANNEL MEAN MEAN_8 / CHANNEL CLASS MEAN MEAN_ALL BAND_LENGTH / WW ITEM_2 / WW PLACE CHANNEL / "
        "WW ITEM ITEM_LENGTH / BAND ITEM_2 BAND_LENGTH / MEAN_8 ITEM_LENGTH / CLASS MEAN_8 / "
        "W CHANNEL CLASS MEAN_8 WW_LENGTH BAND_LENGTH / BAND PLACE CLASS BAND_LENGTH"
    ),
)  # fmt: skip
"""Rows (items, …, columns): tables, coefficients, probabilities of classes."""
SEQUENCE: Final = Layout(
    name="sequence",
    fine=_contexts("- / W / W WW / W WW W3 / W WW W3 W4"),
    coarse=_contexts("- / W / W WW / W WW W3 / W WW W3 W4 / W_TOP / WW"),
    folded=_contexts("- / W_LENGTH / W_LENGTH WW_LENGTH / W / W WW / WW_LENGTH"),
)  # fmt: skip
"""One value after the other."""
SORTED: Final = Layout(
    name="sorted", folded=_contexts("- / W_LENGTH / W_LENGTH WW_LENGTH / W / W WW / WW_LENGTH / W WW W3")
)
"""Values that do not fall along the last axis: each is coded as its difference from the one before."""
LAYOUTS: Final = {layout.name: layout for layout in (PICTURE, COLUMNS, SEQUENCE, SORTED)}
