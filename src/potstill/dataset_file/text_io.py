"""Texts of a set and the encoder that makes vectors of them, as tensors of its file."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.codecs import encode_ints
from potstill.codecs.texts import Texts
from potstill.core import Codec, Encoded, Source
from potstill.core.nested import named_tensors
from potstill.data.text_encoder import TextEncoder, text_part
from potstill.data.text_representations import encoder_from_tensors
from potstill.dataset_file.metadata import input_from_json
from potstill.dataset_file.validate import are_valid_offsets
from potstill.errors import PotstillError

__all__ = [
    "CAPTIONS", "ENCODER", "UNCHARGED", "caption_part", "charged_bytes", "encode_texts", "encoder_tensors",
    "encoder_to_json", "has_texts", "nearest_texts", "pop_encoder", "pop_texts", "texts_at", "writes_texts",
]  # fmt: skip

CAPTIONS, ENCODER = "captions", "encoder"
UNCHARGED = ("whitening", ENCODER, "names")
"""Parts of a file that real data need, too: both sides of a comparison at equal bytes have them."""


def charged_bytes(sizes: Mapping[str, int]) -> int:
    """Return the bytes that count against a budget: all but those of `UNCHARGED`."""
    return sum(size for name, size in sizes.items() if name not in ("total", *UNCHARGED))


def has_texts(train: Source) -> bool:
    """Return whether samples of ``train`` are texts that a reader of a file can encode."""
    return _is_encoded(train) and not train.input.parts


def caption_part(train: Source) -> str:
    """Return the part of pairs whose real texts a file holds as captions, in place of vectors; empty: none."""
    return text_part(train.input) if _is_encoded(train) else ""


def _is_encoded(train: Source) -> bool:
    encoder: TextEncoder | None = getattr(train, "encoder", None)
    return encoder is not None and encoder.is_stored


def texts_at(train: Source, index: Tensor) -> list[str]:
    """Return the texts of the samples at some positions."""
    texts: tuple[str, ...] = getattr(train, "texts", ())
    return [texts[i] for i in index.tolist()]


def writes_texts(train: Source, codec: Codec) -> bool:
    """Return whether samples of ``train`` are written as texts.

    Raises:
        PotstillError: the codec is ``texts``, but the data have none that a reader could encode.
    """
    if not isinstance(codec, Texts):
        return False
    if not has_texts(train):
        why = "are no texts" if getattr(train, "encoder", None) is None else "have a representation that no file holds"
        raise PotstillError(f"codec texts needs data of texts, but {train.name} {why}; choose another, such as float16")
    return True


def nearest_texts(train: Source, vectors: Float[Tensor, "m d"]) -> Int[Tensor, " m"]:
    """Return the training pair whose text is nearest to each vector of a text, in data units; the first of equals."""
    real = named_tensors(train.raw(torch.arange(len(train))))[text_part(train.input)]
    near = torch.cdist(vectors.to(real), real, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
    return near.cpu()


def encode_texts(texts: Sequence[str]) -> dict[str, Encoded]:
    """Encode texts as UTF-8 bytes in one row, and the offset of each; nothing where there are none."""
    if not texts:
        return {}
    lines = [text.encode("utf-8", "replace") for text in texts]
    ends = torch.tensor([len(line) for line in lines]).cumsum(0)
    content = torch.tensor(list(b"".join(lines)), dtype=torch.int64)
    offsets = torch.cat([ends.new_zeros(1), ends[:-1]])
    return {f"{CAPTIONS}/values": encode_ints(content), f"{CAPTIONS}/offsets": encode_ints(offsets)}


def pop_texts(decoded: dict[str, Tensor], n: int) -> tuple[str, ...]:
    """Remove the texts of ``n`` items from ``decoded`` and return them; empty where there are none.

    Raises:
        PotstillError: they are not the bytes of so many texts.
    """
    values, offsets = (decoded.pop(f"{CAPTIONS}/{part}", None) for part in ("values", "offsets"))
    if values is None and offsets is None:
        return ()
    if (
        values is None
        or offsets is None
        or values.dtype != torch.int64
        or values.ndim != 1
        or not are_valid_offsets(values, offsets, n)
        or bool(((values < 0) | (values > 255)).any())
    ):
        raise PotstillError(f"its captions must be the bytes of {n} texts and their offsets; get the file again")
    content, bounds = bytes(values.tolist()), [*offsets.tolist(), len(values)]
    try:
        return tuple(content[a:b].decode() for a, b in pairwise(bounds))
    except UnicodeDecodeError as error:
        raise PotstillError("its captions are not UTF-8; get the file again") from error


def encoder_tensors(encoder: TextEncoder | None) -> dict[str, Tensor]:
    """Return the tensors of the encoder by their names in the file; none where it is no built-in one."""
    if encoder is None or not encoder.is_stored:
        return {}
    return {f"{ENCODER}/{name}": tensor for name, tensor in encoder.tensors().items()}


def encoder_to_json(encoder: TextEncoder | None) -> dict[str, Any]:
    """Return the metadata of the encoder; empty where there is none."""
    return {} if encoder is None else {ENCODER: {"name": encoder.name, "size": encoder.size}}


def pop_encoder(tensors: dict[str, Tensor], metadata: Mapping[str, Any]) -> TextEncoder | None:
    """Remove the encoder's tensors and return it; ``None``: the set has none, or a user's own function.

    Raises:
        PotstillError: it is damaged.
    """
    start = f"{ENCODER}/"
    held = {name.removeprefix(start): tensors.pop(name) for name in list(tensors) if name.startswith(start)}
    described = metadata.get(ENCODER)
    if described is None and not held:
        return None
    name = described.get("name") if isinstance(described, Mapping) else None
    if isinstance(name, str) and name.startswith("own:") and not held:
        return None
    spec = input_from_json(metadata["input"])
    spec = dict(spec.parts).get(text_part(spec), spec)
    shape = spec.shape
    if spec.kind != "text" or len(shape) != 1:
        raise PotstillError("its text encoder is for inputs of another kind; get the file again")
    return encoder_from_tensors(name, shape[0], held)
