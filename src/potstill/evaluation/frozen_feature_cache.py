"""Feature cache for frozen backbones: features are computed once, not at every step."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from potstill.augment.siamese import Siamese
from potstill.core import Augmentation, Batch, Inputs, Network, Normalization, Source
from potstill.data.iterate import map_samples
from potstill.nn import FrozenBackbone

__all__ = ["cached_features", "classifier_and_features"]

_MOST = 256 * 2**20
"""Maximum bytes of cached features per source: 50,000 images of 1,280 features."""
_SOURCES = 2
"""Maximum number of cached sources: test data, and a validation part."""
_cache: OrderedDict[tuple[str, ...], Tensor] = OrderedDict()


def classifier_and_features(
    network: Network, x: Inputs, augment: Augmentation
) -> tuple[Callable[[Tensor], Tensor], Tensor] | None:
    """Return a frozen network's classifier and the features of ``x``.

    ``None`` for other networks, and where an augmentation changes the images at every step.
    """
    if (
        not isinstance(network, FrozenBackbone)
        or not isinstance(x, Tensor)
        or not (isinstance(augment, Siamese) and not augment.strategy)
    ):
        return None
    with torch.no_grad():
        return network.classifier, network.embed(x)


def cached_features(network: FrozenBackbone, source: Source, chunk: int, precision: str) -> Tensor | None:
    """Return the features of every sample of ``source`` (n, d), cached for the next student; ``None`` if too large.

    Args:
        chunk: samples per forward pass.
        precision: of the forward pass.
    """
    if len(source) * network.classifier.in_features * 4 > _MOST:
        return None
    seen = [_digest(n) for n in (source.normalization, network.normalization)]
    device = network.classifier.weight.device
    key = (source.content_hash, network.backbone, str(network.side), precision, str(device), *seen)
    if key not in _cache:

        def embedded(batch: Batch) -> Tensor:
            assert isinstance(batch.x, Tensor)
            return network.embed(batch.x).float()

        with torch.no_grad():
            _cache[key] = map_samples(source, torch.arange(len(source)), chunk, embedded)
    _cache.move_to_end(key)
    while len(_cache) > _SOURCES:
        _cache.popitem(last=False)
    return _cache[key]


def _digest(normalization: Normalization | None) -> str:
    if normalization is None:
        return ""
    white = normalization.whitening
    tensors = [normalization.mean, normalization.std, *([] if white is None else [white.mean, white.matrix])]
    return hashlib.sha256(b"".join(t.cpu().contiguous().numpy().tobytes() for t in tensors)).hexdigest()
