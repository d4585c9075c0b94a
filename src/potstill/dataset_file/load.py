"""Reading a set from its file."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from potstill._util.input_limits import Limits, check_limit, limits
from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.files import read_tensors_and_digest
from potstill.dataset_file.metadata import BYTE_KEYS, input_from_json, parse_metadata, task_from_json
from potstill.dataset_file.normalization import read_normalization
from potstill.dataset_file.packed_tensors import unpack_tensors
from potstill.dataset_file.payload_io import bytes_by_part, decode_contents
from potstill.dataset_file.shared_decoders import DecoderSource, decoder_assets
from potstill.dataset_file.validate import check_content, check_extras, check_labels, check_learned
from potstill.errors import PotstillError

__all__ = ["MAX_BYTES", "load", "validated_set"]

MAX_BYTES = Limits().set_bytes


def load(path: str | Path, *, max_bytes: int | None = None, decoder: DecoderSource | None = None) -> Distilled:
    """Read a set from its file. No code in the file is run, and everything in it is checked before it is used.

    A set that decodes by a shared asset which is not on this machine has labels and metadata; its inputs raise.

    Args:
        path: the file, ``….safetensors``.
        max_bytes: largest size of a file that is read. Default: the limit ``set_bytes``.
        decoder: file of the asset that the set decodes by, or files and tensors by asset name. Its hash must be the one
            in the metadata. Default: the cache.

    Returns:
        The distilled set: a torch ``Dataset`` of (input, label).

    Raises:
        PotstillError: the file is missing, cut off, damaged, of another format, or contradicts itself.

    Examples:
        >>> _ = potstill.distill("digits", "herding", ipc=1, progress=None).save("small.safetensors")
        >>> small = potstill.load("small.safetensors")
        >>> batch, labels = next(iter(torch.utils.data.DataLoader(small, batch_size=4)))
        >>> batch.shape
        torch.Size([4, 1, 8, 8])
    """
    path = Path(path)
    if max_bytes is None:
        max_bytes = limits().set_bytes
        with suppress(OSError, ValueError):  # an invalid path is refused below
            check_limit("set_bytes", os.path.getsize(path), str(path))
    tensors, header, digest = read_tensors_and_digest(path, max_bytes)
    metadata = parse_metadata(path, header)
    tensors = unpack_tensors(path, tensors, metadata)
    if decoder is not None and not (decoder_assets(metadata.get("decoder")) or decoder_assets(metadata.get("codec"))):
        raise PotstillError(f"{path}: decodes by no asset, but a decoder is given; leave it out")
    distilled = validated_set(path, metadata, tensors, max_bytes, decoder)
    distilled.read_record_from(path, digest)
    return distilled


def validated_set(
    path: Path, metadata: dict[str, Any], tensors: dict[str, Tensor], max_bytes: int = MAX_BYTES,
    decoder: DecoderSource | None = None,
) -> Distilled:  # fmt: skip
    """Return the set of these metadata and tensors, once they are known to fit each other.

    Raises:
        PotstillError: they contradict each other.
    """
    remaining, spec = dict(tensors), input_from_json(metadata["input"])
    normalization = read_normalization(path, metadata, remaining)
    try:
        task = task_from_json(metadata)
        contents = decode_contents(remaining, metadata, normalization, max_bytes, decoder)
    except PotstillError as error:
        raise PotstillError(f"{path}: {error}") from error
    labels, k = contents.labels, len(metadata["classes"])
    if contents.inputs is None:
        check_labels(str(path), labels, len(labels) if labels.ndim else 0, k, task)
    else:
        check_content(str(path), contents.inputs, labels, spec, k, task)
    if remaining:
        raise PotstillError(
            f"{path}: tensor {min(remaining)[:80]!r} is not of format {metadata['format']}; get the file again"
        )
    check_extras(str(path), contents, normalization)
    check_learned(str(path), contents.learned, metadata["training"])
    sizes = bytes_by_part(tensors)
    if any(metadata["bytes"].get(n) != sizes.get(n) for n in {*BYTE_KEYS, *sizes}):
        raise PotstillError(
            f"{path}: its metadata say {metadata['bytes']['total']:,} bytes, but its tensors take {sizes['total']:,} "
            f"({', '.join(f'{n} {sizes[n]:,}' for n in BYTE_KEYS[:3])}); get the file again"
        )
    return Distilled(contents, metadata, normalization=normalization, tensors=tensors, missing_from=str(path))
