"""A selection without its samples: indices and the hash of what they count in, and the way back to the whole set."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.input_limits import limits
from potstill._util.outputs import check_output
from potstill.codecs import decode, parse_codec
from potstill.core import Encoded, Inputs, Source
from potstill.core.nested import named_tensors, single_tensor
from potstill.dataset_file.dataset import Distilled, normalization_of, to_stored_form, validated_set
from potstill.dataset_file.files import parse_json, read_metadata, read_tensors, write_tensors
from potstill.dataset_file.metadata import (
    FIRST,
    FIRST_INDICES,
    FORMAT,
    INDEX_FORMAT,
    input_from_json,
    is_classification,
    metadata_text,
    parse_metadata,
)
from potstill.dataset_file.payload_io import CAPTIONS, decode_inputs, encode_inputs, encode_labels, encode_texts
from potstill.dataset_file.replacing import describe_conflict
from potstill.dataset_file.validate import check_shapes
from potstill.errors import PotstillError
from potstill.tasks import get_targets

__all__ = ["check_source", "is_index_file", "materialize", "read_indices", "require_selection", "write_indices"]


def require_selection(distilled: Distilled, what: str) -> Tensor:
    """The indices of a selection.

    Raises:
        PotstillError: the set is synthetic.
    """
    if distilled.index is None:
        raise PotstillError(
            f"{what} needs a selection, but the samples of this set were made by "
            f"{distilled.metadata['method']}, not chosen"
        )
    return distilled.index


def check_source(card: dict[str, Any], source: Source) -> None:
    """The source must be what the selection was made of, to the last bit, as its hash tells.

    Raises:
        PotstillError: it is not; both hashes stand in the message.
    """
    said = card["source"]
    wanted, found = said.get("hash"), source.content_hash
    if wanted != found:
        raise PotstillError(
            f"the selection was made of {str(said.get('name'))!r} with hash {wanted}, but the training part of "
            f"{source.name!r} has hash {found}; give the same data, read with the same options"
        )


def _digest(inputs: Inputs) -> str:
    """Of the values; of inputs with names of each after the other, in the order of their parts."""
    digest = hashlib.sha256()
    for tensor in named_tensors(inputs).values():
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def write_indices(distilled: Distilled, path: Path, *, force: bool = False) -> None:
    """Write a selection without its inputs: its index, its weights and soft labels where it has any, and its card.

    Args:
        force: replace whatever file is there; without it the same selection's alone.

    Raises:
        PotstillError: the set is no selection, or the file cannot be written.
    """
    require_selection(distilled, "storing indices alone")
    check_output(path, reads=[distilled], force=force, found=lambda at: describe_conflict(at, distilled.metadata))
    first = distilled.metadata["format"] == FIRST
    card = {
        **distilled.metadata, "format": FIRST_INDICES if first else INDEX_FORMAT,
        "inputs_hash": _digest(distilled.inputs),
    }  # fmt: skip
    left_out = (
        ("inputs", CAPTIONS) if distilled.has_soft_labels else ("inputs", CAPTIONS, "labels")
    )  # those of the source
    kept = {n: t for n, t in distilled.tensors.items() if n.partition("/")[0].partition(".")[0] not in left_out}
    write_tensors(path, kept, {"card": metadata_text(card)})


def is_index_file(path: Path) -> bool:
    """Whether the file holds indices alone, by its header; ``False`` of what cannot be read.

    The rest of the file is checked by what reads it.
    """
    try:
        card = parse_json(read_metadata(path, limits().set_bytes).get("card", "null"))
    except (PotstillError, ValueError):
        return False
    return isinstance(card, dict) and card.get("format") in (INDEX_FORMAT, FIRST_INDICES)


def read_indices(path: Path) -> tuple[Tensor, dict[str, Any], dict[str, Tensor]]:
    """The index of a file that holds indices alone, its card, and its tensors.

    Raises:
        PotstillError: it is missing, cut off, foreign or of another format.
    """
    tensors, metadata = read_tensors(path, limits().set_bytes)
    card = parse_metadata(path, metadata, indices=True)
    index = tensors.get("index")
    if card["format"] == INDEX_FORMAT:
        said = card.get("store", {}).get("tensors") if isinstance(card.get("store"), dict) else None
        if index is not None and isinstance(said, dict) and isinstance(said.get("index"), dict):
            try:
                index = decode(Encoded({"": index}, said["index"]))
            except PotstillError as error:
                raise PotstillError(f"{path}: tensor 'index': {error}") from error
        else:
            index = None
    if index is None or index.dtype != torch.int64 or index.ndim != 1 or len(index) == 0 or int(index.min()) < 0:
        raise PotstillError(f"{path}: needs a tensor 'index' of whole numbers ≥ 0; get the file again")
    return index, card, tensors


def materialize(path: Path, source: Source) -> Distilled:
    """The whole set: indices from the file at ``path``, samples from the source that they count in.

    Raises:
        PotstillError: the file is not one of indices, the source is another, or its samples are not the same bits.
    """
    index, card, held = read_indices(path)
    check_source(card, source)
    if int(index.max()) >= len(source):
        raise PotstillError(f"{path}: index {int(index.max()):,} is not among {len(source):,} samples")
    inputs = to_stored_form(source.raw(index), source.input)
    said = card.pop("inputs_hash", None)
    if card["format"] == INDEX_FORMAT:
        name, spec = str(card["store"].get("name"))[:200], input_from_json(card["input"])
        normalization = normalization_of(path, card, dict(held))
        try:
            check_shapes("the samples", inputs, spec, len(index))
        except PotstillError as error:
            raise PotstillError(f"{path}: {error}") from error
        kept, rounded = encode_inputs(inputs, spec, parse_codec(name), normalization)
        inputs = decode_inputs(kept, spec, rounded, normalization)
        labels = get_targets(source)[index]
        if not any(n.partition(".")[0] == "labels" for n in held):
            kept["labels"] = encode_labels(
                labels, len(source.classes) if is_classification(card) else None, parse_codec(name)
            )
        if texts := getattr(source, "texts", ()):
            kept |= encode_texts([texts[i] for i in index.tolist()])
        for part, found in kept.items():
            if dict(found.metadata) != card["store"]["tensors"].get(part):
                raise PotstillError(
                    f"{path}: the samples are stored otherwise by {name!r} than its card says; get it again"
                )
            held |= {f"{part}{suffix}": tensor for suffix, tensor in found.tensors.items()}
    else:
        held |= {"inputs": single_tensor(inputs, "a file of the first format")}
        held.setdefault("labels", source.labels[index])
    if said != _digest(inputs):
        raise PotstillError(
            f"{path}: the samples have hash {_digest(inputs)}, but the card says {said}; another version of the "
            "decoder may have read other pixels"
        )
    return validated_set(path, {**card, "format": FORMAT if card["format"] == INDEX_FORMAT else FIRST}, held)
