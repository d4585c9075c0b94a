"""Augmentation whose labels and weights follow a validation part (SAFLEX), beside training on that part, too."""

from potstill.uses.augmentation.adapt import AdaptedLoader, Upstream, adapt_batch, as_upstream, validation_gradient
from potstill.uses.augmentation.compare import WAYS, compare_augmentation

__all__ = [
    "WAYS",
    "AdaptedLoader",
    "Upstream",
    "adapt_batch",
    "as_upstream",
    "compare_augmentation",
    "validation_gradient",
]
