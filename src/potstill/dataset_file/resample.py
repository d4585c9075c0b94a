"""Another draw of a set that is a generator: any number of items of each class, from the same stored bytes."""

from pathlib import Path

import torch

from potstill.codecs import encode_classes, encode_ints
from potstill.codecs.bitstream import compress_encoded
from potstill.core import Resamplable
from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.load import validated_set
from potstill.dataset_file.payload_io import bytes_by_part, with_draw
from potstill.errors import PotstillError
from potstill.parametrize.named_inputs import parse_parametrization

__all__ = ["resample"]


def resample(distilled: Distilled, samples: int, *, seed: int = 0) -> Distilled:
    """Return a set of the same generator with other items, which were drawn from it.

    Nothing is trained. What the file stores stays as it is but for the seed of the draw and the labels.

    Args:
        distilled: a set over the parametrization ``generator``.
        samples: items of each class, at least 1.
        seed: seed of the draw, from 0 to 65,535.

    Returns:
        The set, with classes as labels.

    Raises:
        PotstillError: the set's items are stored and not drawn, its labels are not its classes, or a number is out of
            range.

    Examples:
        >>> small = potstill.distill(
        ...     "digits", "dm", ipc=10, parametrization="generator:epochs=1", steps=1, progress=None
        ... )
        >>> len(potstill.resample(small, 100))
        1000
    """
    metadata = distilled.metadata
    described = metadata.get("decoder")
    spelled = described.get("parametrization") if isinstance(described, dict) else None
    part = None if spelled is None else parse_parametrization(spelled, distilled.input)
    if not isinstance(part, Resamplable):
        raise PotstillError(
            "only a set that is a generator draws other items, and this one stores its items; make one with "
            '`parametrization="generator"`'
        )
    if not distilled.is_classification or distilled.has_soft_labels or distilled.scores is not None:
        raise PotstillError("labels of drawn items are their classes, but this set has others; take labels='hard'")
    if samples < 1:
        raise PotstillError(f"samples must be at least 1, but it is {samples}; change it")
    k = len(distilled.classes)
    labels = torch.arange(k).repeat_interleave(samples)
    payload = part.reseed(distilled.payload, seed)
    changed = {
        f"payload/{name}": encode_ints(tensor)
        for name, tensor in payload.items()
        if not tensor.is_floating_point()
    } | {"labels": compress_encoded(encode_classes(labels, k), [samples] * k)}  # fmt: skip
    tensors = {
        name: t
        for name, t in distilled.tensors.items()
        if not any(name == part or name.startswith(f"{part}.") for part in changed)
    }
    tensors |= {f"{name}{suffix}": t for name, encoded in changed.items() for suffix, t in encoded.tensors.items()}
    codec = metadata["codec"]
    descriptions = {**codec["tensors"], **{name: dict(encoded.metadata) for name, encoded in changed.items()}}
    name, _, settings = spelled.partition(":")
    others = [one for one in settings.split(",") if one and not one.startswith("samples=")]
    again = {**described, "parametrization": f"{name}:{','.join([f'samples={samples}', *others])}"}
    made = {
        **metadata,
        "codec": {**codec, "tensors": descriptions},
        "decoder": with_draw(again, payload, distilled.input),
        "ipc": samples,
        "bytes": bytes_by_part(tensors, metadata),
    }
    resampled = validated_set(Path("the resampled set"), made, tensors)
    resampled.record = distilled.record
    resampled.files = (*distilled.files, *([str(distilled.path)] if distilled.path else []))
    return resampled
