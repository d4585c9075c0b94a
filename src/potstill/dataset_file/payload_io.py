"""Tensors of a set's file: encoding by a codec, and decoding by the metadata.

The metadata's ``codec`` describes how each tensor is written (`potstill.codecs.container`), ``decoder`` how a payload
decodes to inputs. Decoded inputs are in the file, as ``decoded``, only where they are asked for or no registered
parametrization decodes the payload.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from potstill._util.card import names_bytes
from potstill._util.input_limits import limit_hint, limits
from potstill.codecs import codec_of_part, decode, encode_ints, format_codec
from potstill.codecs.bitstream import compress_encoded
from potstill.codecs.columns import Columns
from potstill.codecs.exact import Exact, Float
from potstill.codecs.texts import Texts
from potstill.core import (
    Codec,
    ContextCodec,
    DecodeContext,
    Encoded,
    Inputs,
    InputSpec,
    Normalization,
    Parametrization,
    RequiresAssets,
    Resamplable,
    TargetDecoder,
)
from potstill.core.nested import concat, named_tensors, tensor_names, tree_map
from potstill.data.text_encoder import text_part
from potstill.dataset_file.labeller_io import LABELLER, labeller_parts, pop_labeller
from potstill.dataset_file.metadata import has_scores, input_from_json, task_from_json
from potstill.dataset_file.shared_decoders import DecoderSource, MissingDecoder, decoder_parts, load_decoders
from potstill.dataset_file.target_io import SCORES, encode_scores, encode_targets, pop_targets
from potstill.dataset_file.text_io import encode_texts, encoder_tensors, pop_encoder, pop_texts
from potstill.dataset_file.validate import WHITENING, check_scores, check_shapes
from potstill.dataset_file.values import Contents, Encoding, Schema
from potstill.errors import PotstillError
from potstill.functional.label_simplex import to_probabilities
from potstill.kinds import get_kind
from potstill.parametrize.named_inputs import parse_parametrization

__all__ = [
    "SHARED", "bytes_by_part", "compress_parts", "decode_contents", "decode_input_tensor", "decode_inputs",
    "decode_payload", "encode_contents", "encode_input_tensor", "encode_inputs", "holds_targets",
    "quantizes_normalised", "with_draw",
]  # fmt: skip

DECODED = "decoded"
LEARNED, PAYLOAD = "learned/", "payload/"
SHARED = "decoder/"
"""Prefix of payload tensors shared by all items, such as a dictionary or a generator's weights."""
_SHARED = re.compile(rf"payload/(\d+/)?{SHARED}")


def encode_contents(contents: Contents, schema: Schema, encoding: Encoding) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of the file by name, and the metadata's ``codec``.

    Images are quantized in data units, everything else in normalised ones, as columns differ in scale.

    Raises:
        PotstillError: the codec cannot write a tensor, or a name of the payload or a learned tensor has a dot.
    """
    if dotted := [name for name in (*contents.payload, *contents.learned) if "." in name]:
        raise PotstillError(f"names of payload tensors have no dots, but one is {dotted[0]!r}; rename it")
    codec, normalization, inputs = encoding.codec, schema.normalization, contents.inputs
    assert inputs is not None
    parts: dict[str, Encoded] = {}
    normalised: bool | list[str] = False
    if isinstance(codec, Texts):
        if not contents.captions or contents.encoder is None or not contents.encoder.is_stored:
            codec.pack(torch.zeros(1))
    elif not contents.payload:
        context = DecodeContext(input=schema.input, classes=schema.classes, assets=encoding.assets)
        parts, normalised = encode_inputs(inputs, schema.input, codec, normalization, context)
        if contents.captions and contents.encoder is not None and contents.encoder.is_stored:
            parts.pop(f"inputs/{text_part(schema.input)}", None)  # a reader encodes the captions
    for name, tensor in contents.payload.items():
        parts[PAYLOAD + name] = encoding.encoded.get(name) or _encode_tensor(tensor, codec)
    if contents.scores is not None:
        parts[SCORES] = encode_scores(contents.scores, codec)
    elif not holds_targets(encoding.decoder):
        classes = len(schema.classes) if schema.task is None or schema.task.name == "classification" else None
        parts |= encode_targets(contents.labels, classes, codec, schema.task)
    parts |= encode_texts(contents.captions)
    if contents.index is not None:
        parts["index"] = encode_ints(contents.index)
    if contents.weights is not None:
        parts["weights"] = Float().pack(contents.weights)
    parts |= {LEARNED + name: Float().pack(tensor) for name, tensor in contents.learned.items()}
    if encoding.entropy_coding:
        parts = compress_parts(parts, contents.labels)
    parts |= labeller_parts(contents.labeller)
    written = {f"{name}{suffix}": t for name, e in parts.items() for suffix, t in e.tensors.items()}
    if contents.payload and (encoding.decoder is None or encoding.include_decoded):
        written |= {f"{DECODED}/{n}" if n else DECODED: t for n, t in named_tensors(inputs).items()}
    written |= encoder_tensors(contents.encoder)
    if (w := normalization.whitening) is not None:
        written |= {f"whitening/{n}": getattr(w, n) for n in WHITENING}
    described: dict[str, Any] = {
        "name": format_codec(codec), "tensors": {n: dict(e.metadata) for n, e in parts.items()},
    }  # fmt: skip
    return written, described | ({"normalised": normalised} if normalised else {})


def compress_parts(parts: Mapping[str, Encoded], labels: Tensor) -> dict[str, Encoded]:
    """Return the parts of a file with their codes as arithmetic-coded streams where those are smaller.

    Args:
        labels: of the items; sorted classes are a context.
    """
    groups: list[int] = []
    if labels.dtype == torch.int64 and labels.ndim == 1 and not bool((labels < 0).any()):
        groups = torch.unique_consecutive(labels, return_counts=True)[1].tolist()
    return {name: compress_encoded(part, groups) for name, part in parts.items()}


def encode_inputs(
    inputs: Inputs, input: InputSpec, codec: Codec, normalization: Normalization, context: DecodeContext | None = None
) -> tuple[dict[str, Encoded], bool | list[str]]:
    """Encode inputs in data units, codes and words exactly.

    Returns:
        Encoded tensors by their names in the file, and which of them are in normalised units: all or none of one
        tensor, a list of parts of inputs with names.

    Raises:
        PotstillError: the codec cannot write them.
    """
    if isinstance(inputs, Tensor):
        image = get_kind(input).value_range is not None
        encoded_inputs = encode_input_tensor(inputs, codec, normalization, image, context)
        return {"inputs": encoded_inputs}, quantizes_normalised(codec, image)
    kinds = {name: part.kind for name, part in input.parts}
    parts = [n for n in normalization.parts if quantizes_normalised(codec, kinds.get(n) == "image")]
    encoded = {
        f"inputs/{name}": _encode_tensor(
            _affine(x, normalization.parts[name]) if name in parts else x, codec_of_part(kinds.get(name, ""), codec)
        )
        for name, x in inputs.items()
    }
    return encoded, parts


def decode_inputs(
    parts: Mapping[str, Encoded], input: InputSpec, normalised: Any, normalization: Normalization,
    context: DecodeContext | None = None,
) -> Inputs:  # fmt: skip
    """Decode what `encode_inputs` returned to inputs in data units.

    Raises:
        PotstillError: the tensors contradict their description.
    """
    decoded: dict[str, Tensor] = {}
    for name, encoded in parts.items():
        part = name.removeprefix("inputs").removeprefix("/")
        affine = normalization.parts.get(part) if part else normalization
        is_normalised = normalised is True if not part else isinstance(normalised, list) and part in normalised
        try:
            decoded[part] = (
                decode(encoded) if affine is None else decode_input_tensor(encoded, is_normalised, affine, context)
            )
        except PotstillError as error:
            raise PotstillError(f"tensor {name[:80]!r}: {error}") from error
    return decoded[""] if "" in decoded else {n: decoded[n] for n in (*tensor_names(input), *decoded) if n in decoded}


def quantizes_normalised(codec: Codec, image: bool) -> bool:
    """Return whether inputs are quantized in normalised units: columns of a table have scales of their own."""
    return not image and not isinstance(codec, Exact | Float | Columns)


def encode_input_tensor(
    inputs: Tensor, codec: Codec, normalization: Normalization, image: bool, context: DecodeContext | None = None
) -> Encoded:
    """Encode inputs (n, …) in data units."""
    x = _affine(inputs, normalization) if quantizes_normalised(codec, image) else inputs
    return codec.pack(x, context) if isinstance(codec, ContextCodec) else codec.pack(x)


def decode_input_tensor(
    encoded: Encoded, normalised: bool, normalization: Normalization, context: DecodeContext | None = None
) -> Tensor:
    """Decode what `encode_input_tensor` returned to inputs in data units.

    Raises:
        PotstillError: the tensors contradict their description, or hold one number for each input.
    """
    x = decode(encoded, context)
    if x.ndim < 2:
        raise PotstillError(f"at least one input with values is required, but inputs are {list(x.shape)}")
    return x * _as_channels(normalization.std, x) + _as_channels(normalization.mean, x) if normalised else x


def _encode_tensor(tensor: Tensor, codec: Codec) -> Encoded:
    return codec.pack(tensor.float()) if tensor.is_floating_point() else encode_ints(tensor)


def _affine(x: Tensor, normalization: Normalization) -> Tensor:
    return Normalization(normalization.mean, normalization.std).apply(x)


def _as_channels(row: Tensor, x: Tensor) -> Tensor:
    return row.reshape(1, -1, *[1] * (x.ndim - 2))


def decode_contents(
    remaining: dict[str, Tensor], metadata: Mapping[str, Any], normalization: Normalization, max_bytes: int,
    decoder: DecoderSource | None = None,
) -> Contents:  # fmt: skip
    """Decode the tensors of a file by its metadata.

    Args:
        remaining: tensors by name; those that are read are removed.
        decoder: assets that the set decodes by; by default the cache.

    Raises:
        PotstillError: tensors and metadata contradict each other, or this machine has no such parametrization.
    """
    encoder = pop_encoder(remaining, metadata)
    parts, decoded, labelling, normalised = _decode_tensors(remaining, metadata)
    labeller = pop_labeller(labelling, metadata)
    index, weights = (decoded.pop(name, None) for name in ("index", "weights"))
    labels = pop_targets(decoded, task_from_json(metadata))
    if labels is None and holds_targets(metadata.get("decoder")):
        labels = _decode_targets(decoded, metadata, normalization, max_bytes)
    scores = decoded.pop(SCORES, None)
    if (scores is None) == has_scores(metadata) or (scores is not None and labels is not None):
        raise PotstillError(
            "its metadata and its tensors do not agree on whether labels are scores; get the file again"
        )
    if scores is not None:
        check_scores("its file", scores, len(scores) if scores.ndim else 0, len(metadata["classes"]))
        labels = to_probabilities(scores)
    if labels is None:
        raise PotstillError("holds no tensor 'labels'; it is not a distilled set")
    captions = pop_texts(decoded, len(labels) if labels.ndim else 0)
    payload, learned = (
        {n.removeprefix(prefix): decoded.pop(n) for n in list(decoded) if n.startswith(prefix)}
        for prefix in (PAYLOAD, LEARNED)
    )
    if decoded:
        raise PotstillError(f"tensor {min(decoded)[:80]!r} is not of this format; get the file again")
    stored = {
        n.removeprefix(DECODED).removeprefix("/"): remaining.pop(n)
        for n in sorted(remaining)
        if n == DECODED or n.startswith(f"{DECODED}/")
    }
    spec, missing = input_from_json(metadata["input"]), ""
    inputs: Inputs | None = None
    try:
        if parts:
            context = _context(spec, metadata, metadata["codec"], decoder, max_bytes)
            inputs = decode_inputs(parts, spec, normalised, normalization, context)
            if (text := text_part(spec)) and captions and encoder is not None and f"inputs/{text}" not in parts:
                named = {**named_tensors(inputs), text: encoder.encode(captions)}
                inputs = {n: named[n] for n in (*tensor_names(spec), *named) if n in named}
            inputs = None if payload or stored else inputs
        elif not payload and not stored and captions and encoder is not None:
            inputs = encoder.encode(captions)
        elif payload and stored:
            inputs = stored.get("", stored)
        elif payload:
            inputs = decode_payload(payload, metadata, normalization, len(labels), max_bytes, decoder)
    except MissingDecoder as error:
        missing = str(error)
    if (inputs is None and not missing) or (isinstance(inputs, Tensor) and inputs.dtype != torch.float32):
        raise PotstillError("holds no tensor 'inputs' of numbers, or another besides it; it is not a distilled set")
    return Contents(
        inputs=inputs, labels=labels, payload=payload, index=index, weights=weights, learned=learned, captions=captions,
        scores=scores, missing=missing, encoder=encoder, labeller=labeller,
    )  # fmt: skip


def _decode_tensors(
    remaining: dict[str, Tensor], metadata: Mapping[str, Any]
) -> tuple[dict[str, Encoded], dict[str, Tensor], dict[str, Encoded], Any]:
    """Return inputs still encoded, all other tensors decoded but a labeller's, which are still encoded, and which
    inputs are in normalised units."""
    codec = metadata.get("codec")
    described = codec.get("tensors") if isinstance(codec, dict) else None
    if not isinstance(described, dict) or not all(isinstance(v, dict) for v in described.values()):
        raise PotstillError("its metadata lack a valid 'codec.tensors'; get the file again")
    parts: dict[str, Encoded] = {}
    decoded: dict[str, Tensor] = {}
    labelling: dict[str, Encoded] = {}
    for name, description in described.items():
        names = [n for n in remaining if n == name or n.startswith(f"{name}.")]
        if not names:
            raise PotstillError(f"holds no tensor {str(name)[:80]!r}, which its metadata describe; get the file again")
        encoded = Encoded({n.removeprefix(name): remaining.pop(n) for n in names}, description)
        if name == "inputs" or name.startswith("inputs/"):
            parts[name] = encoded
            continue
        if name.startswith(f"{LABELLER}/"):
            labelling[name] = encoded
            continue
        try:
            decoded[name] = decode(encoded)
        except PotstillError as error:
            raise PotstillError(f"tensor {str(name)[:80]!r}: {error}") from error
    if len(parts) > 1 and "inputs" in parts:
        raise PotstillError("holds inputs of one tensor and inputs with names; get the file again")
    return parts, decoded, labelling, codec.get("normalised") if isinstance(codec, dict) else None


def decode_payload(
    payload: Mapping[str, Tensor], metadata: Mapping[str, Any], normalization: Normalization, n: int, max_bytes: int,
    decoder: DecoderSource | None = None,
) -> Inputs:  # fmt: skip
    """Return the ``n`` inputs, in data units, that a payload decodes to by the metadata's ``decoder``.

    Raises:
        MissingDecoder: a shared asset is not on this machine.
        PotstillError: there is no such parametrization here, or it does not fit the payload.
    """
    parts, spec = decoder_parts(metadata.get("decoder"), n), input_from_json(metadata["input"])
    size = 4 * n * spec.num_values
    if size > max_bytes:
        raise PotstillError(
            f"its {n:,} inputs decode to {size:,} bytes, more than the {max_bytes:,} allowed; {limit_hint('set_bytes')}"
        )
    decoded = []
    for prefix, part, items in parts:
        inner = {name.removeprefix(prefix): t for name, t in payload.items() if name.startswith(prefix)}
        context = _context(spec, metadata, part, decoder, max_bytes, normalization)
        decoded.append(_decode_part(inner, part, normalization, items, context))
    return decoded[0] if len(decoded) == 1 else concat(decoded)


def holds_targets(described: object) -> bool:
    """Return whether a metadata's ``decoder`` says that its payload holds the targets, too."""
    return isinstance(described, Mapping) and described.get("targets") is True


def with_draw(described: Mapping[str, Any], payload: Mapping[str, Tensor], spec: InputSpec) -> dict[str, Any]:
    """Return a metadata's ``decoder`` with what it says of drawn items (``drawn``); as it is where none are drawn."""
    part = _read_parametrization(described, spec)
    others = {name: value for name, value in described.items() if name != "drawn"}
    return others | ({"drawn": dict(part.describe_draw(payload))} if isinstance(part, Resamplable) else {})


def _decode_targets(
    decoded: Mapping[str, Tensor], metadata: Mapping[str, Any], normalization: Normalization, max_bytes: int
) -> Tensor:
    """Return the targets that the payload of a file holds.

    Raises:
        PotstillError: its decoder has none, or does not fit.
    """
    described, spec = metadata["decoder"], input_from_json(metadata["input"])
    payload = {n.removeprefix(PAYLOAD): t for n, t in decoded.items() if n.startswith(PAYLOAD)}
    _, part, _ = decoder_parts(described, 1)[0]
    parametrization = _read_parametrization(part, spec)
    if not isinstance(parametrization, TargetDecoder):
        raise PotstillError(f"its decoder {part['parametrization'][:80]!r} holds no targets; get the file again")
    stored = sum(t.numel() for t in payload.values())
    points = stored // max(1, spec.shape[0]) + getattr(parametrization, "length", 0) * stored
    size = 4 * points * (spec.num_values + 1)
    if size > max_bytes:
        raise PotstillError(
            f"its windows may decode to {size:,} bytes, more than the {max_bytes:,} allowed; {limit_hint('set_bytes')}"
        )
    context, inverse = _context(spec, metadata, part, None, max_bytes), None
    if part.get("space") == "model":
        inverse = normalization
    with _misfit(part["parametrization"]), torch.no_grad():
        return parametrization.decode_targets(payload, context, inverse).float().contiguous()


def _context(
    spec: InputSpec, metadata: Mapping[str, Any], described: Mapping[str, Any], source: DecoderSource | None,
    max_bytes: int, normalization: Normalization | None = None,
) -> DecodeContext:  # fmt: skip
    """Return the context of one decoder, with the assets that its description names."""
    assets = load_decoders(described, source, max_bytes) if described.get("assets") else {}
    task = task_from_json(metadata)
    return DecodeContext(
        input=spec, classes=tuple(metadata["classes"]), assets=assets, horizon=getattr(task, "horizon", 0),
        forecast_variables=len(getattr(task, "variables", ())), normalization=normalization,
    )  # fmt: skip


def _read_parametrization(described: Mapping[str, Any], spec: InputSpec) -> Parametrization:
    """Return the parametrization of a decoder.

    Raises:
        PotstillError: there is none of this name, or a setting is above the limit.
    """
    parametrization: Parametrization = parse_parametrization(described["parametrization"][:200], spec)
    inner = getattr(parametrization, "inner", parametrization)
    for setting, value in {**vars(parametrization), **vars(inner)}.items():
        if isinstance(value, int) and value > limits().decoder_setting:
            raise PotstillError(f"its decoder has {setting} {value:,}; {limit_hint('decoder_setting')}")
    return parametrization


@contextmanager
def _misfit(name: str) -> Iterator[None]:
    """Raise a PotstillError where a payload does not fit its decoder."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, IndexError, TypeError, ZeroDivisionError, OverflowError) as error:
        # Torch operations on a payload that was not made for them raise any of these: the file is wrong.
        line = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise PotstillError(
            f"its payload does not fit its decoder {name[:200]!r} ({line}); get the file again"
        ) from error


def _decode_part(
    payload: Mapping[str, Tensor], described: Mapping[str, Any], normalization: Normalization, n: int,
    context: DecodeContext,
) -> Inputs:  # fmt: skip
    spec = context.input
    name, space = described["parametrization"][:200], described.get("space")
    if space not in ("model", "data"):
        raise PotstillError("its metadata lack a valid 'decoder.space'; get the file again")
    parametrization = _read_parametrization(described, spec)
    inner = getattr(parametrization, "inner", parametrization)
    if isinstance(inner, RequiresAssets) != bool(described.get("assets")):
        raise PotstillError(f"its decoder {name!r} and the assets in its metadata do not fit; get the file again")
    with _misfit(name), torch.no_grad():
        if isinstance(inner, Resamplable) and (count := inner.num_items(payload)) != n:
            raise PotstillError(f"its payload decodes to {count:,} items, but its labels are {n:,}; get the file again")
        if isinstance(inner, Resamplable) and described.get("drawn", draw := inner.describe_draw(payload)) != draw:
            raise PotstillError(
                f"its metadata say {str(described['drawn'])[:80]} of its draw, but its payload says {draw}; get the "
                "file again"
            )
        decoded = parametrization.decode(payload, context)
    if isinstance(decoded, Tensor) and (tuple(decoded.shape) != (n, *spec.shape) or not decoded.is_floating_point()):
        raise PotstillError(
            f"its payload decodes to {list(decoded.shape)}, but its labels and metadata say {[n, *spec.shape]}; get "
            "the file again"
        )
    check_shapes("its payload", decoded, spec, n)
    inputs = decoded if space == "data" else normalization.invert(decoded)
    return tree_map(lambda x: (x.float() if x.is_floating_point() else x).contiguous(), inputs)  # type: ignore[no-any-return]


def bytes_by_part(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> dict[str, int]:
    """Return the bytes of a file's tensors by part.

    Args:
        metadata: of the set, whose names are stated besides. Default: none are.

    Returns:
        ``inputs``, ``labels``, ``decoder``; where there are any ``weights``, ``index``, ``learned``, ``whitening``,
        ``captions``, ``encoder``, ``labeller`` and ``decoded``; ``total``, their sum; and ``names``, which are no part
        of it, where they are many.
    """
    sizes = {"inputs": 0, "labels": 0, "decoder": 0}
    for name, tensor in tensors.items():
        part = name.partition("/")[0].partition(".")[0]
        if part == "payload":
            part = "decoder" if _SHARED.match(name) else "inputs"
        part = "labels" if part == SCORES else part
        sizes[part] = sizes.get(part, 0) + tensor.numel() * tensor.element_size()
    names = 0 if metadata is None else names_bytes(metadata)
    return sizes | {"total": sum(sizes.values())} | ({"names": names} if names else {})
