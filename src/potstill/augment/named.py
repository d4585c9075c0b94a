"""An augmentation by name, for given data."""

from potstill import registry
from potstill.core import Augmentation, InputSpec, Source

__all__ = ["augmentation_name", "named_augmentation"]

_NOFLIP = {
    "dsa": "dsa-noflip", "idc-eval": "idc-eval-noflip", "flip": "none", "rrc": "rrc-noflip",
    "pad-crop": "pad-crop-noflip", "patches": "patches-noflip", "cim": "cim-noflip", "flip-rotate": "rotate",
}  # fmt: skip


def augmentation_name(name: str, input: InputSpec) -> str:
    """``name``, or its variant without flip where a mirrored picture is another sign (``InputSpec.mirrored``).

    The published DSA commands leave flip out for MNIST and SVHN, and so does IDC's code.
    """
    return name if input.mirrored else _NOFLIP.get(name, name)


def named_augmentation(name: str, source: Source) -> Augmentation:
    """The registered augmentation, without flip where the pictures must not be mirrored.

    Raises:
        PotstillError: there is no such name.
    """
    made: Augmentation = registry.resolve("augmentations", augmentation_name(name, source.input))()
    return made
