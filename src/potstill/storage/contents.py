"""What a set's file holds: tensors as a `Store` writes them, and the part of the card by which they are read.

The card's ``store`` says for each tensor how it is written (`potstill.store.packed`), its ``decoder`` what stored
tensors decode to inputs by. Inputs that decode from a payload are not in the file, unless they are asked for or nothing
that is registered decodes them; then they are the tensor ``decoded``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from potstill.core import Normalization, Parametrization, Store, Stored
from potstill.errors import PotstillError
from potstill.registry import part
from potstill.store import classes_stored, ints_stored, read, rows_stored, store_name
from potstill.store.coded import code
from potstill.store.plain import Exact, Float

__all__ = [
    "DECODED", "SHARED", "WHITENING", "Contents", "coded_size", "decoded", "file_bytes", "normalised_units",
    "pack_inputs", "read_contents", "unpack_inputs", "write_contents",
]  # fmt: skip

SHARED = "decoder/"
"""Payload under this name is shared by all items: a dictionary, a generator's weights."""
WHITENING = ("mean", "matrix", "inverse")
DECODED = "decoded"
LEARNED = "learned/"
_PREFIXES = ("payload/", LEARNED)
_MOST_SETTING = 1 << 16
"""No whole number of a decoder's settings in a stranger's file is larger."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a reader gets of a file."""

    inputs: Tensor
    """float32 (n, …) in data units."""
    labels: Tensor
    payload: Mapping[str, Tensor]
    index: Tensor | None
    weights: Tensor | None
    learned: Mapping[str, Tensor]


def write_contents(
    inputs: Tensor, labels: Tensor, *, classes: int, store: Store, normalization: Normalization, image: bool,
    payload: Mapping[str, Tensor], packed: Mapping[str, Stored], index: Tensor | None, weights: Tensor | None,
    learned: Mapping[str, Tensor], decoder: Mapping[str, str] | None, decoded_too: bool,
) -> tuple[dict[str, Tensor], dict[str, Any]]:  # fmt: skip
    """The tensors of the file by name, and the card's ``store``.

    Args:
        inputs: float32 in data units; written where there is no payload, or where nothing decodes it.
        image: pictures are rounded in their own units, everything else in normalised ones, as columns differ in scale.
        packed: payload that is packed already, by its name.
        learned: what was learned beside inputs and labels, by name; always float32.
        decoder: which registered parametrization decodes the payload; ``None``: none.
        decoded_too: write the decoded inputs as well.

    Raises:
        PotstillError: the store cannot write it, or a name of the payload or of what was learned has a dot.
    """
    if dotted := [name for name in (*payload, *learned) if "." in name]:
        raise PotstillError(f"names of a payload have no dots, but one is {dotted[0]!r}; name it otherwise")
    parts: dict[str, Stored] = {}
    normalised = not payload and normalised_units(store, image)
    if not payload:
        parts["inputs"] = pack_inputs(inputs, store, normalization, image)
    for name, tensor in payload.items():
        parts[f"payload/{name}"] = packed.get(name) or _packed(tensor, store)
    whole = not labels.is_floating_point()
    parts["labels"] = classes_stored(labels, classes) if whole else rows_stored(labels, store.label_bits)
    if index is not None:
        parts["index"] = ints_stored(index)
    if weights is not None:
        parts["weights"] = Float().pack(weights)
    parts |= {f"{LEARNED}{name}": Float().pack(tensor) for name, tensor in learned.items()}
    tensors = {f"{name}{suffix}": t for name, s in parts.items() for suffix, t in s.tensors.items()}
    if payload and (decoder is None or decoded_too):
        tensors[DECODED] = inputs
    if (w := normalization.whitening) is not None:
        tensors |= {f"whitening/{n}": getattr(w, n) for n in WHITENING}
    said: dict[str, Any] = {"name": store_name(store), "tensors": {n: dict(s.said) for n, s in parts.items()}}
    return tensors, said | ({"normalised": True} if normalised else {})


def normalised_units(store: Store, image: bool) -> bool:
    """Whether inputs are rounded in normalised units: columns of a table have scales of their own."""
    return not image and not isinstance(store, Exact | Float)


def pack_inputs(inputs: Tensor, store: Store, normalization: Normalization, image: bool) -> Stored:
    """Inputs in data units as ``store`` writes them."""
    return store.pack(_affine(inputs, normalization) if normalised_units(store, image) else inputs)


def unpack_inputs(stored: Stored, normalised: bool, normalization: Normalization) -> Tensor:
    """Inputs in data units, of what `pack_inputs` gave.

    Raises:
        PotstillError: what is stored contradicts itself, or is one number for each input.
    """
    inputs = read(stored)
    if inputs.ndim < 2:
        raise PotstillError(f"at least one input with values is required, but inputs are {list(inputs.shape)}")
    return inputs * _beside(normalization.std, inputs) + _beside(normalization.mean, inputs) if normalised else inputs


def _packed(tensor: Tensor, store: Store) -> Stored:
    """A payload's tensor: numbers by the store, places and flags as they are."""
    if tensor.is_floating_point():
        return store.pack(tensor.float())
    return ints_stored(tensor)


def _affine(x: Tensor, normalization: Normalization) -> Tensor:
    return Normalization(normalization.mean, normalization.std).apply(x)


def read_contents(
    tensors: dict[str, Tensor], card: Mapping[str, Any], normalization: Normalization, max_bytes: int
) -> Contents:
    """What the tensors of a file are, by its card; ``tensors`` are used up.

    Raises:
        PotstillError: they contradict each other, or this machine has no such decoder.
    """
    store = card.get("store")
    said = store.get("tensors") if isinstance(store, dict) else None
    if not isinstance(said, dict) or not all(isinstance(v, dict) for v in said.values()):
        raise PotstillError("its card lacks a valid 'store.tensors'; get the file again")
    found: dict[str, Tensor] = {}
    normalised = isinstance(store, dict) and store.get("normalised") is True
    for name, description in said.items():
        mine = [n for n in tensors if n == name or n.startswith(f"{name}.")]
        if not mine:
            raise PotstillError(f"holds no tensor {str(name)[:80]!r}, which its card describes; get the file again")
        stored = Stored({n.removeprefix(name): tensors.pop(n) for n in mine}, description)
        try:
            found[name] = unpack_inputs(stored, normalised, normalization) if name == "inputs" else read(stored)
        except PotstillError as error:
            raise PotstillError(f"tensor {str(name)[:80]!r}: {error}") from error
    labels, index, weights = found.pop("labels", None), found.pop("index", None), found.pop("weights", None)
    if labels is None:
        raise PotstillError("holds no tensor 'labels'; it is not a distilled set")
    payload, learned = ({n.removeprefix(p): found.pop(n) for n in list(found) if n.startswith(p)} for p in _PREFIXES)
    inputs, kept = found.pop("inputs", None), tensors.pop(DECODED, None)
    if odd := sorted(found):
        raise PotstillError(f"tensor {odd[0][:80]!r} is not of this format; get the file again")
    if inputs is None and payload:
        inputs = kept if kept is not None else decoded(payload, card, normalization, len(labels), max_bytes)
    elif payload or kept is not None:
        inputs = None
    if inputs is None or inputs.dtype != torch.float32:
        raise PotstillError("holds no tensor 'inputs' of numbers, or another beside it; it is not a distilled set")
    return Contents(inputs=inputs, labels=labels, payload=payload, index=index, weights=weights, learned=learned)


def _beside(row: Tensor, x: Tensor) -> Tensor:
    return row.reshape(1, -1, *[1] * (x.ndim - 2))


def decoded(
    payload: Mapping[str, Tensor], card: Mapping[str, Any], normalization: Normalization, n: int, max_bytes: int
) -> Tensor:
    """The ``n`` inputs, in data units, that a payload decodes to by the card's ``decoder``.

    Raises:
        PotstillError: there is no such decoder here, or it does not fit the payload.
    """
    said, shape = card.get("decoder"), tuple(card["input"]["shape"])
    if not isinstance(said, dict) or not isinstance(said.get("parametrization"), str):
        raise PotstillError("its card names no decoder for its payload; get the file again")
    spelled, space = said["parametrization"][:200], said.get("space")
    if space not in ("model", "data"):
        raise PotstillError("its card lacks a valid 'decoder.space'; get the file again")
    size = n
    for side in shape:
        size *= side
    if 4 * size > max_bytes:
        raise PotstillError(f"its {n:,} inputs decode to {4 * size:,} bytes, more than the {max_bytes:,} allowed")
    parametrization: Parametrization = part("parametrizations", spelled)
    for name, value in vars(parametrization).items():
        if isinstance(value, int) and value > _MOST_SETTING:
            raise PotstillError(f"its decoder has {name} {value:,}, more than {_MOST_SETTING:,}; it is refused")
    try:
        with torch.no_grad():
            made = parametrization.decode(payload, shape)
    except (RuntimeError, ValueError, KeyError, IndexError, TypeError, ZeroDivisionError, OverflowError) as error:
        # Whatever a decoder of torch operations says to a payload that was not made for it: the file is wrong.
        line = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise PotstillError(f"its payload does not fit its decoder {spelled!r} ({line}); get the file again") from error
    if tuple(made.shape) != (n, *shape) or not made.is_floating_point():
        raise PotstillError(
            f"its payload decodes to {list(made.shape)}, but its labels and card say {[n, *shape]}; get the file again"
        )
    inputs: Tensor = (made if space == "data" else normalization.invert(made)).float().contiguous()
    return inputs


def coded_size(tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> int:
    """Bytes that a file's tensors take when they are entropy-coded without loss (`potstill.store.coded`).

    Args:
        said: the card's ``store``.
    """
    total = 0
    for name, tensor in tensors.items():
        description = said["tensors"].get(name, {})
        packed = description.get("codec") not in (None, "float", "runs", "mosaic")
        total += len(code(tensor, description.get("bits") if packed else None)[1])
    return total


def file_bytes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Bytes of a file's tensors by what they are: ``inputs``, ``labels``, ``decoder``, where there are any ``weights``,
    ``index``, ``learned``, ``whitening`` and ``decoded``, and ``total``, which is their sum."""
    sizes = {"inputs": 0, "labels": 0, "decoder": 0}
    for name, tensor in tensors.items():
        what = name.partition("/")[0].partition(".")[0]
        if what == "payload":
            what = "decoder" if name.startswith(f"payload/{SHARED}") else "inputs"
        sizes[what] = sizes.get(what, 0) + tensor.numel() * tensor.element_size()
    return sizes | {"total": sum(sizes.values())}
