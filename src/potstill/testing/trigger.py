"""A fixed visible trigger, by which tests and benchmarks of detectors make poisoned data.

NaiveAttack (Liu et al. 2023, arXiv:2301.01197): a white square in the lower right corner of some pictures of other
classes, which are relabelled to one class. Nothing is optimised, and anybody who looks at the data sees it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.core import Source
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.rng import generator

__all__ = ["poison_source", "stamp"]


def stamp(x: Float[Tensor, "n c h w"], side: int = 3) -> Float[Tensor, "n c h w"]:
    """Return pictures in [0, 1] with a white square of ``side`` pixels in the lower right corner.

    Raises:
        PotstillError: the square is larger than the picture, or has no pixel.
    """
    if not 1 <= side <= min(x.shape[-2:]):
        raise PotstillError(f"a trigger of 1 to {min(x.shape[-2:])} pixels fits in the picture, not {side}; change it")
    x = x.clone()
    x[..., -side:, -side:] = 1.0
    return x


def poison_source(source: Source, *, rate: float, target: int, side: int = 3, seed: int = 0) -> TensorSource:
    """Return a source of pictures of which a share has the trigger and the label ``target``.

    Args:
        source: clean pictures in classes.
        rate: share of all pictures, drawn from those of other classes.
        target: class that the stamped pictures are relabelled to.
        side: pixels of the square.
        seed: seed of the draw.

    Returns:
        The source in memory, with the normalization of the clean pictures.

    Raises:
        PotstillError: there are no pictures in classes, or a number is out of its range.

    Examples:
        >>> from potstill.testing import poison_source
        >>> clean = potstill.load_data("digits").train
        >>> poisoned = poison_source(clean, rate=0.05, target=3, side=2)
        >>> int((poisoned.labels != clean.labels).sum()) == round(0.05 * len(clean))
        True
    """
    if source.input.kind != "image" or not 0 <= target < len(source.classes):
        raise PotstillError(
            f"a trigger needs pictures in classes and one of them as target, but {source.name} has "
            f"{source.input.kind} inputs of {len(source.classes)} classes, and the target is {target}; change them"
        )
    others = torch.where(source.labels != target)[0]
    many = round(rate * len(source))
    if not 1 <= many <= len(others):
        raise PotstillError(
            f"a share of {len(source):,} pictures that makes 1 to {len(others):,} of other classes is required, not "
            f"{rate:g}; change the rate"
        )
    at = others[torch.randperm(len(others), generator=generator(seed, "trigger"))[:many]]
    x = source.raw(torch.arange(len(source)))
    assert isinstance(x, Tensor)
    x, labels = x.float().cpu().clone(), source.labels.clone()
    x[at], labels[at] = stamp(x[at], side), target
    pixels = (255 * x).round().to(torch.uint8)
    kept = pixels if torch.equal(pixels.float().div_(255), x) else x
    return TensorSource(
        name=f"poisoned {source.name}", input=source.input, classes=source.classes, inputs=kept, labels=labels,
        normalization=source.normalization,
    )  # fmt: skip
