"""Augmentation whose labels and weights follow a validation part (SAFLEX), beside training on that part, too."""

from potstill.uses.augmentation.adapt import (
    AdaptedAugmentation,
    AdaptedLoader,
    AdaptedParams,
    AdaptedTransform,
    adapt_batch,
    validation_gradient,
)
from potstill.uses.augmentation.compare import compare_augmentation
from potstill.uses.augmentation.summary import WAYS
from potstill.uses.augmentation.upstream import Upstream, as_upstream

__all__ = [
    "WAYS",
    "AdaptedAugmentation",
    "AdaptedLoader",
    "AdaptedParams",
    "AdaptedTransform",
    "Upstream",
    "adapt_batch",
    "as_upstream",
    "compare_augmentation",
    "validation_gradient",
]
