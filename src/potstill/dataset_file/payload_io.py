"""What a set's file holds: tensors as a `Store` writes them, and the part of the card by which they are read.

The card's ``store`` says for each tensor how it is written (`potstill.codecs.container`), its ``decoder`` what stored
tensors decode to inputs by. Inputs that decode from a payload are not in the file, unless they are asked for or nothing
that is registered decodes them; then they are the tensor ``decoded``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from potstill._util.input_limits import limit_hint, limits
from potstill.codecs import decode, encode_classes, encode_ints, encode_probabilities, format_codec
from potstill.codecs.entropy import compress_tensor
from potstill.codecs.exact import Exact, Float
from potstill.codecs.uniform import Uniform
from potstill.core import Codec, Encoded, Inputs, InputSpec, Normalization, Parametrization, RequiresAssets
from potstill.core.nested import named_tensors, tensor_names, tree_map
from potstill.dataset_file.metadata import has_scores, input_from_json
from potstill.dataset_file.shared_decoders import DecoderSource, MissingDecoder, load_decoders
from potstill.dataset_file.validate import WHITENING, are_valid_offsets, check_scores, check_shapes
from potstill.errors import PotstillError
from potstill.functional.label_simplex import to_probabilities
from potstill.functional.packing import MOST_BITS
from potstill.kinds import get_kind
from potstill.parametrize.named_inputs import parse_parametrization

__all__ = [
    "CAPTIONS",
    "DECODED",
    "SCORES",
    "SHARED",
    "WHITENING",
    "Contents",
    "bytes_by_part",
    "decode_contents",
    "decode_input_tensor",
    "decode_inputs",
    "decode_payload",
    "encode_contents",
    "encode_input_tensor",
    "encode_inputs",
    "encode_labels",
    "encode_scores",
    "encode_texts",
    "entropy_coded_size",
    "quantizes_normalised",
]  # fmt: skip

SHARED = "decoder/"
"""Payload under this name is shared by all items: a dictionary, a generator's weights."""
DECODED = "decoded"
LEARNED = "learned/"
_PREFIXES = ("payload/", LEARNED)
CAPTIONS = "captions"
SCORES = "scores"
"""No whole number of a decoder's settings in a stranger's file is larger."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a reader gets of a file."""

    inputs: Inputs | None
    """float32 (n, …) in data units; of inputs with names also int64 codes and words; ``None``: see ``missing``."""
    labels: Tensor
    """Of scores: the probabilities that they are read as."""
    payload: Mapping[str, Tensor]
    index: Tensor | None
    weights: Tensor | None
    learned: Mapping[str, Tensor]
    captions: tuple[str, ...] = ()
    scores: Tensor | None = None
    """float32 (n, k), where labels are scores."""
    missing: str = ""
    """What they decode by that is not on this machine, in a sentence."""


def encode_contents(
    inputs: Inputs, labels: Tensor, *, classes: int | None, store: Codec, normalization: Normalization,
    input: InputSpec, payload: Mapping[str, Tensor], packed: Mapping[str, Encoded], index: Tensor | None,
    weights: Tensor | None, learned: Mapping[str, Tensor],
    decoder: Mapping[str, Any] | None, decoded_too: bool, captions: Sequence[str], scores: bool = False,
) -> tuple[dict[str, Tensor], dict[str, Any]]:  # fmt: skip
    """The tensors of the file by name, and the card's ``store``.

    Args:
        inputs: float32 in data units; written where there is no payload, or where nothing decodes it.
        classes: how many; ``None``: the labels are no classes.
        input: pictures are rounded in their own units, everything else in normalised ones, as columns differ in scale.
        packed: payload that is packed already, by its name.
        learned: what was learned beside inputs and labels, by name; always float32.
        decoder: which registered parametrization decodes the payload; ``None``: none.
        decoded_too: write the decoded inputs as well.
        captions: a text for each input, or none.
        scores: ``labels`` are scores, and written under that name: who reads tensors alone takes them for nothing else.

    Raises:
        PotstillError: the store cannot write it, or a name of the payload or of what was learned has a dot.
    """
    if dotted := [name for name in (*payload, *learned) if "." in name]:
        raise PotstillError(f"names of a payload have no dots, but one is {dotted[0]!r}; name it otherwise")
    parts: dict[str, Encoded] = {}
    normalised: bool | list[str] = False
    if not payload:
        parts, normalised = encode_inputs(inputs, input, store, normalization)
    for name, tensor in payload.items():
        parts[f"payload/{name}"] = packed.get(name) or _packed(tensor, store)
    if scores:
        parts[SCORES] = encode_scores(labels, store)
    else:
        parts["labels"] = encode_labels(labels, classes, store)
    parts |= encode_texts(captions)
    if index is not None:
        parts["index"] = encode_ints(index)
    if weights is not None:
        parts["weights"] = Float().pack(weights)
    parts |= {f"{LEARNED}{name}": Float().pack(tensor) for name, tensor in learned.items()}
    made = {f"{name}{suffix}": t for name, s in parts.items() for suffix, t in s.tensors.items()}
    if payload and (decoder is None or decoded_too):
        made |= {f"{DECODED}/{n}" if n else DECODED: t for n, t in named_tensors(inputs).items()}
    if (w := normalization.whitening) is not None:
        made |= {f"whitening/{n}": getattr(w, n) for n in WHITENING}
    said: dict[str, Any] = {"name": format_codec(store), "tensors": {n: dict(s.metadata) for n, s in parts.items()}}
    return made, said | ({"normalised": normalised} if normalised else {})


def encode_labels(labels: Tensor, classes: int | None, store: Codec) -> Encoded:
    """Targets as a file has them: classes and rows in few bits, real values as float32, other whole numbers exactly.

    Args:
        classes: how many; ``None``: they are no classes.
    """
    if classes is None:
        return Float().pack(labels) if labels.is_floating_point() else encode_ints(labels)
    return (
        encode_probabilities(labels, store.label_bits)
        if labels.is_floating_point()
        else encode_classes(labels, classes)
    )


def encode_scores(scores: Tensor, store: Codec) -> Encoded:
    """Scores as a file has them: in as many bits as the store gives soft labels, codes with ranges of their own."""
    bits = store.label_bits
    return Float().pack(scores) if bits > MOST_BITS else Uniform(bits=bits).pack(scores)


def encode_texts(texts: Sequence[str]) -> dict[str, Encoded]:
    """Texts as their UTF-8 bytes in one row, and where each begins; nothing where there are none."""
    if not texts:
        return {}
    lines = [text.encode("utf-8", "replace") for text in texts]
    ends = torch.tensor([len(line) for line in lines]).cumsum(0)
    held = torch.tensor(list(b"".join(lines)), dtype=torch.int64)
    begins = torch.cat([ends.new_zeros(1), ends[:-1]])
    return {f"{CAPTIONS}/values": encode_ints(held), f"{CAPTIONS}/offsets": encode_ints(begins)}


def _texts(found: dict[str, Tensor], n: int) -> tuple[str, ...]:
    held, begins = (found.pop(f"{CAPTIONS}/{part}", None) for part in ("values", "offsets"))
    if held is None and begins is None:
        return ()
    if (
        held is None
        or begins is None
        or not are_valid_offsets(held, begins, n)
        or bool(((held < 0) | (held > 255)).any())
    ):
        raise PotstillError(f"its captions must be the bytes of {n} texts and where each begins; get the file again")
    content, bounds = bytes(held.tolist()), [*begins.tolist(), len(held)]
    try:
        return tuple(content[a:b].decode() for a, b in pairwise(bounds))
    except UnicodeDecodeError as error:
        raise PotstillError("its captions are not UTF-8; get the file again") from error


def encode_inputs(
    inputs: Inputs, input: InputSpec, store: Codec, normalization: Normalization
) -> tuple[dict[str, Encoded], bool | list[str]]:
    """Inputs in data units by their names in the file, codes and words exactly; and which are in normalised units.

    Raises:
        PotstillError: the store cannot write them.
    """
    if isinstance(inputs, Tensor):
        image = get_kind(input).value_range is not None
        return {"inputs": encode_input_tensor(inputs, store, normalization, image)}, quantizes_normalised(store, image)
    kinds = {name: part.kind for name, part in input.parts}
    rounded = [n for n in normalization.parts if quantizes_normalised(store, kinds.get(n) == "image")]
    made: dict[str, Encoded] = {}
    for name, tensor in inputs.items():
        if name in rounded:
            tensor = _affine(tensor, normalization.parts[name])
        made[f"inputs/{name}"] = _packed(tensor, store)
    return made, rounded


def decode_inputs(
    parts: Mapping[str, Encoded], input: InputSpec, normalised: Any, normalization: Normalization
) -> Inputs:
    """Inputs in data units, of what `pack_all` gave.

    Raises:
        PotstillError: what is stored contradicts itself.
    """
    made: dict[str, Tensor] = {}
    for name, stored in parts.items():
        within = name.removeprefix("inputs").removeprefix("/")
        mine = normalization.parts.get(within) if within else normalization
        rounded = normalised is True if not within else isinstance(normalised, list) and within in normalised
        try:
            made[within] = decode_input_tensor(stored, rounded, mine) if mine is not None else decode(stored)
        except PotstillError as error:
            raise PotstillError(f"tensor {name[:80]!r}: {error}") from error
    return made[""] if "" in made else {n: made[n] for n in (*tensor_names(input), *made) if n in made}


def quantizes_normalised(store: Codec, image: bool) -> bool:
    """Whether inputs are rounded in normalised units: columns of a table have scales of their own."""
    return not image and not isinstance(store, Exact | Float)


def encode_input_tensor(inputs: Tensor, store: Codec, normalization: Normalization, image: bool) -> Encoded:
    """Inputs in data units as ``store`` writes them."""
    return store.pack(_affine(inputs, normalization) if quantizes_normalised(store, image) else inputs)


def decode_input_tensor(stored: Encoded, normalised: bool, normalization: Normalization) -> Tensor:
    """Inputs in data units, of what `pack_inputs` gave.

    Raises:
        PotstillError: what is stored contradicts itself, or is one number for each input.
    """
    inputs = decode(stored)
    if inputs.ndim < 2:
        raise PotstillError(f"at least one input with values is required, but inputs are {list(inputs.shape)}")
    return inputs * _beside(normalization.std, inputs) + _beside(normalization.mean, inputs) if normalised else inputs


def _packed(tensor: Tensor, store: Codec) -> Encoded:
    """A payload's tensor: numbers by the store, places and flags as they are."""
    if tensor.is_floating_point():
        return store.pack(tensor.float())
    return encode_ints(tensor)


def _affine(x: Tensor, normalization: Normalization) -> Tensor:
    return Normalization(normalization.mean, normalization.std).apply(x)


def decode_contents(
    held: dict[str, Tensor], card: Mapping[str, Any], normalization: Normalization, max_bytes: int,
    shared: DecoderSource | None = None,
) -> Contents:  # fmt: skip
    """What the tensors of a file are, by its card; ``held`` is used up.

    Args:
        shared: what it decodes by that is in no set's file; else that is looked for in the cache.

    Raises:
        PotstillError: they contradict each other, or this machine has no such decoder.
    """
    store = card.get("store")
    said = store.get("tensors") if isinstance(store, dict) else None
    if not isinstance(said, dict) or not all(isinstance(v, dict) for v in said.values()):
        raise PotstillError("its card lacks a valid 'store.tensors'; get the file again")
    found: dict[str, Tensor] = {}
    parts: dict[str, Encoded] = {}
    for name, description in said.items():
        mine = [n for n in held if n == name or n.startswith(f"{name}.")]
        if not mine:
            raise PotstillError(f"holds no tensor {str(name)[:80]!r}, which its card describes; get the file again")
        stored = Encoded({n.removeprefix(name): held.pop(n) for n in mine}, description)
        if name == "inputs" or name.startswith("inputs/"):
            parts[name] = stored
            continue
        try:
            found[name] = decode(stored)
        except PotstillError as error:
            raise PotstillError(f"tensor {str(name)[:80]!r}: {error}") from error
    if len(parts) > 1 and "inputs" in parts:
        raise PotstillError("holds inputs of one tensor and inputs with names; get the file again")
    normalised = store.get("normalised") if isinstance(store, dict) else None
    labels, index, weights = found.pop("labels", None), found.pop("index", None), found.pop("weights", None)
    scores = found.pop(SCORES, None)
    if (scores is None) == has_scores(card) or (scores is not None and labels is not None):
        raise PotstillError("its card and its tensors do not agree on whether labels are scores; get the file again")
    if scores is not None:
        check_scores("its file", scores, len(scores) if scores.ndim else 0, len(card["classes"]))
        labels = to_probabilities(scores)
    if labels is None:
        raise PotstillError("holds no tensor 'labels'; it is not a distilled set")
    captions = _texts(found, len(labels) if labels.ndim else 0)
    payload, learned = ({n.removeprefix(p): found.pop(n) for n in list(found) if n.startswith(p)} for p in _PREFIXES)
    if odd := sorted(found):
        raise PotstillError(f"tensor {odd[0][:80]!r} is not of this format; get the file again")
    whole = {n.removeprefix(DECODED).removeprefix("/"): held.pop(n) for n in sorted(held) if _is_decoded(n)}
    inputs, missing = (
        decode_inputs(parts, input_from_json(card["input"]), normalised, normalization) if parts else None,
        "",
    )
    if inputs is None and payload:
        beside = whole.get("", whole) if whole else None
        try:
            inputs = (
                decode_payload(payload, card, normalization, len(labels), max_bytes, shared)
                if beside is None
                else beside
            )
        except MissingDecoder as error:
            missing = str(error)
    elif payload or whole:
        inputs = None
    if (inputs is None and not missing) or (isinstance(inputs, Tensor) and inputs.dtype != torch.float32):
        raise PotstillError("holds no tensor 'inputs' of numbers, or another beside it; it is not a distilled set")
    return Contents(
        inputs=inputs, labels=labels, payload=payload, index=index, weights=weights, learned=learned, captions=captions,
        scores=scores, missing=missing,
    )  # fmt: skip


def _is_decoded(name: str) -> bool:
    return name == DECODED or name.startswith(f"{DECODED}/")


def _beside(row: Tensor, x: Tensor) -> Tensor:
    return row.reshape(1, -1, *[1] * (x.ndim - 2))


def decode_payload(
    payload: Mapping[str, Tensor], card: Mapping[str, Any], normalization: Normalization, n: int, max_bytes: int,
    shared: DecoderSource | None = None,
) -> Inputs:  # fmt: skip
    """The ``n`` inputs, in data units, that a payload decodes to by the card's ``decoder``.

    Raises:
        Without: what it decodes by is not here.
        PotstillError: there is no such decoder here, or it does not fit the payload.
    """
    said, spec = card.get("decoder"), input_from_json(card["input"])
    if not isinstance(said, dict) or not isinstance(said.get("parametrization"), str):
        raise PotstillError("its card names no decoder for its payload; get the file again")
    spelled, space = said["parametrization"][:200], said.get("space")
    if space not in ("model", "data"):
        raise PotstillError("its card lacks a valid 'decoder.space'; get the file again")
    size = n * spec.num_values
    if 4 * size > max_bytes:
        raise PotstillError(
            f"its {n:,} inputs decode to {4 * size:,} bytes, more than the {max_bytes:,} allowed; "
            f"{limit_hint('set_bytes')}"
        )
    parametrization: Parametrization = parse_parametrization(spelled, spec)
    for name, value in {**vars(parametrization), **vars(getattr(parametrization, "inner", spec.__class__))}.items():
        if isinstance(value, int) and value > limits().decoder_setting:
            raise PotstillError(f"its decoder has {name} {value:,}; {limit_hint('decoder_setting')}")
    if isinstance(getattr(parametrization, "inner", parametrization), RequiresAssets) != bool(said.get("assets")):
        raise PotstillError(f"its decoder {spelled!r} and the assets on its card do not fit; get the file again")
    assets = load_decoders(said, shared, max_bytes)
    try:
        with torch.no_grad():
            if isinstance(parametrization, RequiresAssets) and assets:
                parametrization = parametrization.with_assets(assets)
            made = parametrization.decode(payload, spec.shape)
    except (RuntimeError, ValueError, KeyError, IndexError, TypeError, ZeroDivisionError, OverflowError) as error:
        # Whatever a decoder of torch operations says to a payload that was not made for it: the file is wrong.
        line = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise PotstillError(f"its payload does not fit its decoder {spelled!r} ({line}); get the file again") from error
    if isinstance(made, Tensor) and (tuple(made.shape) != (n, *spec.shape) or not made.is_floating_point()):
        raise PotstillError(
            f"its payload decodes to {list(made.shape)}, but its labels and card say {[n, *spec.shape]}; get the file "
            "again"
        )
    check_shapes("its payload", made, spec, n)
    inputs = made if space == "data" else normalization.invert(made)
    return tree_map(lambda x: (x.float() if x.is_floating_point() else x).contiguous(), inputs)  # type: ignore[no-any-return]


def entropy_coded_size(tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> int:
    """Bytes that a file's tensors take when they are entropy-coded without loss (`potstill.codecs.entropy`).

    Args:
        said: the card's ``store``.
    """
    total = 0
    for name, tensor in tensors.items():
        description = said["tensors"].get(name, {})
        packed = description.get("codec") not in (None, "float", "runs", "mosaic")
        total += len(compress_tensor(tensor, description.get("bits") if packed else None)[1])
    return total


def bytes_by_part(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Bytes of a file's tensors by what they are: ``inputs``, ``labels``, ``decoder``, where there are any ``weights``,
    ``index``, ``learned``, ``whitening`` and ``decoded``, and ``total``, which is their sum."""
    sizes = {"inputs": 0, "labels": 0, "decoder": 0}
    for name, tensor in tensors.items():
        what = name.partition("/")[0].partition(".")[0]
        what = "labels" if what == SCORES else what
        if what == "payload":
            what = "decoder" if name.startswith(f"payload/{SHARED}") else "inputs"
        sizes[what] = sizes.get(what, 0) + tensor.numel() * tensor.element_size()
    return sizes | {"total": sum(sizes.values())}
