"""Pictures beside their masks, with a legend of the classes' colours."""

import numpy as np

from potstill._util.class_colours import class_colours
from potstill._util.html import Html, join_html, tag
from potstill._util.notebook_repr import inline_image
from potstill.reports.entry import Gallery

__all__ = ["masked_pictures"]

_WANTED, _LONGEST = 84, 128
_PAINT = 0.6
"""Part of the class's colour in a pixel of the overlay; the rest is the picture in grey."""
_NAMED = 3
"""Classes of a picture that are named below it, the largest first."""


def masked_pictures(g: Gallery, most: int) -> Html:
    """Return the first pictures beside their masks, painted over them in the colours of the classes, and the legend."""
    assert g.masks is not None
    names, masks = g.target_names, np.asarray(g.masks)
    colours = np.array(class_colours(len(names)), dtype=np.float32) / 255
    tiles = []
    for i in range(most):
        mask, picture = masks[i], np.clip(np.nan_to_num(g.inputs[i][:3]), 0, 1)
        has_class = mask < len(names)
        grey = np.repeat(picture.mean(0, keepdims=True), 3, 0)
        paint = np.where(has_class, colours[np.where(has_class, mask, 0)].transpose(2, 0, 1), 1.0)
        counts = np.bincount(mask[has_class].ravel().astype(np.int64), minlength=len(names))
        largest = [c for c in np.argsort(-counts, kind="stable")[:_NAMED] if counts[c]]
        said = ", ".join(f"{names[c]} {100 * counts[c] / mask.size:.0f}%" for c in largest)
        both = tag(
            "div", inline_image(picture, f"picture {i + 1}", _WANTED, _LONGEST),
            inline_image((1 - _PAINT) * grey + _PAINT * paint, f"mask of picture {i + 1}: {said}", _WANTED, _LONGEST),
            class_="tiles",
        )  # fmt: skip
        tiles.append(tag("li", tag("figure", both, tag("figcaption", tag("bdi", said)))))
    keys = [
        tag("li", tag("span", "■ ", style=f"color:rgb{colour}", aria_hidden="true"), tag("bdi", name))
        for name, colour in zip(names, class_colours(len(names)), strict=True)
    ]
    if bool((masks >= len(names)).any()):
        keys.append(tag("li", "white: pixels without a class"))
    return join_html([tag("ul", *tiles, class_="items"), tag("ul", *keys, class_="line-keys")])
