"""An augmentation by name, for given data."""

from potstill import registry
from potstill.core import Augmentation, Source

__all__ = ["FLIPLESS", "augmentation_name", "named_augmentation"]

FLIPLESS = frozenset({"digits", "mnist", "mnist-5k", "svhn"})
"""Sources whose pictures are digits: a mirrored digit is another sign. The published DSA commands leave flip out for
MNIST and SVHN, and so does IDC's code."""
_NOFLIP = {
    "dsa": "dsa-noflip", "idc-eval": "idc-eval-noflip", "flip": "none", "rrc": "rrc-noflip",
    "pad-crop": "pad-crop-noflip", "patches": "patches-noflip", "cim": "cim-noflip",
}  # fmt: skip


def augmentation_name(name: str, source_name: str) -> str:
    """``name``, or its variant without flip where the source shows digits."""
    return _NOFLIP.get(name, name) if source_name in FLIPLESS else name


def named_augmentation(name: str, source: Source) -> Augmentation:
    """The registered augmentation, without flip where the source shows digits.

    Raises:
        PotstillError: there is no such name.
    """
    made: Augmentation = registry.resolve("augmentations", augmentation_name(name, source.name))()
    return made
