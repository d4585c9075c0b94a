"""Selections without their samples: indices and the hash of their data, and the way back to a whole set."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.card import parse_card
from potstill._util.input_limits import limits
from potstill._util.outputs import check_output
from potstill._util.run_record import check_record_output, read_record
from potstill.codecs import decode, parse_codec
from potstill.codecs.texts import Texts
from potstill.core import Encoded, Inputs, Source
from potstill.core.nested import named_tensors
from potstill.data.series import SeriesSource
from potstill.dataset_file.build import to_stored_form
from potstill.dataset_file.dataset import Distilled, write_set
from potstill.dataset_file.files import DIGEST, read_metadata, read_tensors
from potstill.dataset_file.load import validated_set
from potstill.dataset_file.metadata import (
    FORMAT,
    INDEX_FORMAT,
    input_from_json,
    is_classification,
    parse_metadata,
)
from potstill.dataset_file.normalization import read_normalization
from potstill.dataset_file.payload_io import (
    compress_parts,
    decode_inputs,
    encode_inputs,
    holds_targets,
)
from potstill.dataset_file.replacing import describe_conflict
from potstill.dataset_file.series_io import decode_selected_series, encode_selected_series, selected_series
from potstill.dataset_file.target_io import encode_targets
from potstill.dataset_file.text_io import CAPTIONS, caption_part, encode_texts, texts_at
from potstill.dataset_file.validate import check_shapes
from potstill.errors import PotstillError
from potstill.tasks import get_targets, get_task

__all__ = ["check_source", "is_index_file", "materialize", "read_indices", "require_selection", "write_indices"]


def require_selection(distilled: Distilled, what: str) -> Tensor:
    """Return the indices of a selection.

    Raises:
        PotstillError: the set is synthetic, so ``what`` (the words of an action) cannot be done.
    """
    if distilled.index is None:
        raise PotstillError(
            f"{what} needs a selection, but the samples of this set were made by {distilled.metadata['method']}, not "
            "chosen"
        )
    return distilled.index


def check_source(metadata: Mapping[str, Any], source: Source) -> None:
    """Check by content hash that the selection was made from this source.

    Raises:
        PotstillError: it was made from another one; the message has both hashes.
    """
    described = metadata["source"]
    expected, actual = described.get("hash"), source.content_hash
    if expected != actual:
        raise PotstillError(
            f"the selection was made of {str(described.get('name'))!r} with hash {expected}, but the training part of "
            f"{source.name!r} has hash {actual}; give the same data, read with the same options"
        )


def _hash_inputs(inputs: Inputs) -> str:
    """Return the SHA-256 of the values; of inputs with names, part after part."""
    digest = hashlib.sha256()
    for tensor in named_tensors(inputs).values():
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def write_indices(distilled: Distilled, path: Path, *, force: bool = False) -> None:
    """Write a selection without its inputs: index, metadata, and weights and soft labels where it has any.

    Args:
        force: replace any file there; by default only the same selection's.

    Raises:
        PotstillError: the set is no selection, or the file cannot be written.
    """
    require_selection(distilled, "storing indices alone")
    if distilled.payload and not holds_targets(distilled.metadata["decoder"]):
        raise PotstillError("a joined set has no indices alone; store the sets that it was joined from")
    metadata = distilled.metadata
    check_output(path, reads=[distilled], force=force, found=lambda at: describe_conflict(at, metadata))
    check_record_output(path, [distilled], force=force, run=metadata.get("run_digest"))
    in_source = ("inputs", "payload", CAPTIONS, *(() if distilled.has_soft_labels else ("labels",)))
    stored = {n: t for n, t in distilled.tensors.items() if n.partition("/")[0].partition(".")[0] not in in_source}
    index_metadata = {**metadata, "format": INDEX_FORMAT, "inputs_hash": _hash_inputs(distilled.inputs)}
    write_set(path, stored, index_metadata, distilled.record)


def is_index_file(path: Path) -> bool:
    """Return whether the header of a file says that it holds indices alone; ``False``: also where it is unreadable."""
    try:
        metadata = parse_card(read_metadata(path, limits().set_bytes))
    except (PotstillError, ValueError):
        return False
    return isinstance(metadata, dict) and metadata.get("format") == INDEX_FORMAT


def read_indices(path: Path) -> tuple[Tensor, dict[str, Any], dict[str, Tensor]]:
    """Return index int64 (n,), metadata and tensors of a file that holds indices alone.

    Raises:
        PotstillError: it is missing, cut off, foreign or of another format.
    """
    tensors, header = read_tensors(path, limits().set_bytes)
    metadata = parse_metadata(path, header, indices=True)
    index = tensors.get("index")
    codec = metadata.get("codec")
    described = codec.get("tensors") if isinstance(codec, dict) else None
    if index is not None and isinstance(described, dict) and isinstance(described.get("index"), dict):
        try:
            index = decode(Encoded({"": index}, described["index"]))
        except PotstillError as error:
            raise PotstillError(f"{path}: tensor 'index': {error}") from error
    else:
        index = None
    if index is None or index.dtype != torch.int64 or index.ndim != 1 or len(index) == 0 or int(index.min()) < 0:
        raise PotstillError(f"{path}: needs a tensor 'index' of whole numbers ≥ 0; get the file again")
    return index, metadata, tensors


def materialize(path: Path, source: Source) -> Distilled:
    """Return the whole set: indices from the file at ``path``, samples from the source.

    Raises:
        PotstillError: the file is not one of indices, the source is another, or its samples are not the same bits.
    """
    index, metadata, stored = read_indices(path)
    check_source(metadata, source)
    if int(index.max()) >= len(source):
        raise PotstillError(f"{path}: index {int(index.max()):,} is not among {len(source):,} samples")
    inputs, spec = to_stored_form(source.raw(index), source.input), input_from_json(metadata["input"])
    expected_hash, codec_name = metadata.pop("inputs_hash", None), str(metadata["codec"].get("name"))[:200]
    normalization, codec = read_normalization(path, metadata, dict(stored)), parse_codec(codec_name)
    try:
        check_shapes("the samples", inputs, spec, len(index))
    except PotstillError as error:
        raise PotstillError(f"{path}: {error}") from error
    encoded: dict[str, Encoded] = {}
    windows = selected_series(source, index, codec) if holds_targets(metadata["decoder"]) else None
    if windows is not None and isinstance(source, SeriesSource):
        parts = encode_selected_series(windows[0], codec)
        encoded = {f"payload/{name}": part for name, part in parts.items()}
        inputs = decode_selected_series({n: decode(part) for n, part in parts.items()}, windows[1], source)[0]
    elif not isinstance(codec, Texts):
        encoded, normalised = encode_inputs(inputs, spec, codec, normalization)
        decoded = decode_inputs(encoded, spec, normalised, normalization)
        if text := caption_part(source):
            del encoded[f"inputs/{text}"]
            decoded = {name: named_tensors(inputs if name == text else decoded)[name] for name, _ in spec.parts}
        inputs = decoded
    if windows is None and not any(n.partition("/")[0].partition(".")[0] == "labels" for n in stored):
        classes = len(source.classes) if is_classification(metadata) else None
        encoded |= encode_targets(get_targets(source)[index], classes, codec, get_task(source))
    if any(name.startswith(f"{CAPTIONS}/") for name in metadata["codec"]["tensors"]):
        encoded |= encode_texts(texts_at(source, index))
    if any("stream" in str(described) for described in metadata["codec"]["tensors"].values()):
        # Soft labels are no context, and are in the file.
        hard = any(name.startswith("labels") for name in encoded)
        encoded = compress_parts(encoded, get_targets(source)[index] if hard else torch.zeros(0))
    for name, part in encoded.items():
        if dict(part.metadata) != metadata["codec"]["tensors"].get(name):
            raise PotstillError(
                f"{path}: {codec_name!r} writes the samples otherwise than its metadata say; get it again"
            )
        stored |= {f"{name}{suffix}": tensor for suffix, tensor in part.tensors.items()}
    if expected_hash != (actual := _hash_inputs(inputs)):
        raise PotstillError(
            f"{path}: the samples have hash {actual}, but its metadata say {expected_hash}; another version of the "
            "decoder may have read other pixels"
        )
    small = validated_set(path, {**metadata, "format": FORMAT}, stored)
    small.record = small.record or read_record(path, read_metadata(path, limits().set_bytes).get(DIGEST))
    return small
