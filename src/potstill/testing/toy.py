"""Small data made from a seed, for tests of contracts: not for showing what a method is worth."""

import torch

from potstill.core import Source
from potstill.data import TensorSource
from potstill.rng import generator

__all__ = ["toy_source", "uneven_source"]


def toy_source(kind: str = "image", *, per_class: int = 12, classes: int = 4, side: int = 8) -> Source:
    """``classes`` × ``per_class`` samples: grey pictures (``side`` pixels) of noisy bars, or rows of six columns."""
    rng = generator(11, "toy", kind)
    labels = torch.arange(classes).repeat_interleave(per_class)
    if kind == "image":
        pictures = torch.rand(len(labels), 1, side, side, generator=rng) * 120
        for c in range(classes):
            first = c * side // classes
            pictures[labels == c, :, first : first + side // classes, :] += 120
        inputs = pictures.round().to(torch.uint8)
    else:
        inputs = torch.randn(len(labels), 6, generator=rng) + labels[:, None]
    return TensorSource.make(inputs, labels, classes=tuple(f"c{c}" for c in range(classes)), name="toy", kind=kind)


def uneven_source() -> Source:
    """What own data are like: classes of 7, 40 and 150 colour pictures that are wider (12 pixels) than high (8)."""
    sizes, (h, w) = torch.tensor([7, 40, 150]), (8, 12)
    rng = generator(11, "toy", "uneven")
    labels = torch.arange(len(sizes)).repeat_interleave(sizes)
    pictures = torch.rand(len(labels), 3, h, w, generator=rng) * 120
    for c in range(len(sizes)):
        pictures[labels == c, c, :, 4 * c : 4 * c + 4] += 120  # a bar of its own colour at a place of its own
    labels = labels[(order := torch.randperm(len(labels), generator=rng))]
    inputs = pictures[order].round().to(torch.uint8)
    classes = tuple(f"c{c}" for c in range(len(sizes)))
    return TensorSource.make(inputs, labels, classes=classes, name="toy-uneven", kind="image")
