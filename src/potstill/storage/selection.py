"""A selection without its samples: indices and the hash of what they count in, and the way back to the whole set."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill.core import Source
from potstill.errors import PotstillError
from potstill.storage.artefact import FORMAT, MAX_BYTES, Distilled, checked, stored_tensors
from potstill.storage.card import INDICES, card_text, read_card
from potstill.storage.files import parse_json, read_metadata, read_tensors, write_tensors

__all__ = ["check_selection", "check_source", "holds_indices", "read_indices", "rebuild", "write_indices"]


def check_selection(distilled: Distilled, what: str) -> Tensor:
    """The indices of a selection.

    Raises:
        PotstillError: the set is synthetic.
    """
    if distilled.index is None:
        raise PotstillError(
            f"{what} needs a selection, but the samples of this set were made by {distilled.card['method']}, not chosen"
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


def _digest(inputs: Tensor) -> str:
    return hashlib.sha256(inputs.contiguous().numpy().data).hexdigest()


def write_indices(distilled: Distilled, path: Path) -> None:
    """Write a selection without its inputs: its index, its weights and soft labels where it has any, and its card.

    Raises:
        PotstillError: the set is no selection, or the file cannot be written.
    """
    check_selection(distilled, "storing indices alone")
    card = {**distilled.card, "format": INDICES, "inputs_hash": _digest(distilled.inputs)}
    tensors = stored_tensors(distilled)
    del tensors["inputs"]
    if not distilled.labels.is_floating_point():
        del tensors["labels"]  # they are those of the source
    write_tensors(path, tensors, {"card": card_text(card)})


def holds_indices(path: Path) -> bool:
    """Whether the file holds indices alone, by its header; ``False`` of what cannot be read.

    The rest of the file is checked by what reads it.
    """
    try:
        card = parse_json(read_metadata(path, MAX_BYTES).get("card", "null"))
    except (PotstillError, ValueError):
        return False
    return isinstance(card, dict) and card.get("format") == INDICES


def read_indices(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the card of a file that holds indices alone.

    Raises:
        PotstillError: it is missing, cut off, foreign or of another format.
    """
    tensors, metadata = read_tensors(path, MAX_BYTES)
    card = read_card(path, metadata, INDICES)
    index = tensors.get("index")
    if index is None or index.dtype != torch.int64 or index.ndim != 1 or len(index) == 0 or int(index.min()) < 0:
        raise PotstillError(f"{path}: needs a tensor 'index' of int64 ≥ 0; get the file again")
    return tensors, card


def rebuild(path: Path, source: Source) -> Distilled:
    """The whole set: indices from the file at ``path``, samples from the source that they count in.

    Raises:
        PotstillError: the file is not one of indices, the source is another, or its samples are not the same bits.
    """
    tensors, card = read_indices(path)
    check_source(card, source)
    index = tensors["index"]
    if int(index.max()) >= len(source):
        raise PotstillError(f"{path}: index {int(index.max()):,} is not among {len(source):,} samples")
    inputs = source.raw(index)
    if not isinstance(inputs, Tensor):
        raise PotstillError(f"{path}: only inputs of one tensor can be stored, but these have {', '.join(inputs)}")
    inputs = inputs.detach().cpu().float().contiguous()
    said = card.pop("inputs_hash", None)
    if said != _digest(inputs):
        raise PotstillError(
            f"{path}: the samples have hash {_digest(inputs)}, but the card says {said}; another version of the "
            "decoder may have read other pixels"
        )
    labels = tensors.pop("labels", None)
    labels = source.labels[index] if labels is None else labels
    return checked(path, {**card, "format": FORMAT}, tensors, inputs, labels)
