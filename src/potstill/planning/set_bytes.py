"""Bytes that a planned set will take, by part of its file."""

from collections.abc import Mapping

import torch
from torch import Tensor

from potstill.codecs import Exact, Uniform, compress_encoded, encode_ints, encoded_bytes, estimate_bytes, label_bytes
from potstill.core import Codec, ContextCodec, Result, Selection, Source, Synthetic
from potstill.core.nested import single_tensor
from potstill.data.series import SeriesSource
from potstill.dataset_file.payload_io import SHARED, compress_parts, encode_inputs
from potstill.dataset_file.series_io import encode_selected_series, selected_series
from potstill.dataset_file.target_io import encode_targets
from potstill.dataset_file.text_io import (
    caption_part,
    encode_texts,
    encoder_tensors,
    has_texts,
    texts_at,
    writes_texts,
)
from potstill.dataset_file.validate import WHITENING
from potstill.parametrize.nearest_text import NearestText
from potstill.parametrize.quantization_aware import QuantizationAware
from potstill.runs.resolve import ResolvedRun
from potstill.runs.stored_network import planned_payload, planned_payload_bytes
from potstill.tasks import Classification, get_targets

__all__ = ["count_bytes", "stored_tensors"]

_MOST_CODED = 1 << 24
"""Values of a selection up to which a plan codes them."""


def stored_tensors(run: ResolvedRun, result: Result, n: int) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Return labels and payload as the file will have them."""
    train = run.problem.train
    if isinstance(result, Selection):
        return get_targets(train)[result.index.cpu()] if result.soft_labels is None else result.soft_labels, {}
    # Inputs of one tensor decode to themselves; those with names are counted part by part, as a payload is.
    decoder = str(getattr(run.method, "parametrization", "pixels")).partition(":")[0]
    whole = decoder in ("pixels", "rows", "multi-hot") and not train.input.parts
    if isinstance(rounding := run.problem.parametrization, QuantizationAware):
        return result.labels, rounding.quantized_payload(result.payload)
    return result.labels, {} if whole else result.payload


def count_bytes(
    run: ResolvedRun, result: Result, n: int, labels: Tensor, payload: Mapping[str, Tensor]
) -> dict[str, int]:
    """Return the bytes of the file's tensors; at 8 bits where the codec is chosen at the end.

    Of a selection they are those of its streams. Of a synthetic set they are those of its codes packed, which are the
    most: how well these will be coded is not known before the set is there.
    """
    train, classified = run.problem.train, isinstance(run.problem.task, Classification)
    store, k = run.codec or Uniform(bits=8), run.problem.num_classes
    sizes = {"inputs": 0, "decoder": 0}
    index = _text_index(run, result, payload)
    like = planned_payload(run.problem) if isinstance(result, Synthetic) else None
    for name, size in ({} if like is None else planned_payload_bytes(like, store)).items():
        sizes["decoder" if name.startswith(SHARED) else "inputs"] += size
    for name, tensor in payload.items() if index is None and like is None else ():
        floating = tensor.is_floating_point()
        size = estimate_bytes(store, tuple(tensor.shape), tensor) if floating else encoded_bytes(encode_ints(tensor))
        sizes["decoder" if name.startswith(SHARED) else "inputs"] += size
    coded = train.input.parts or n * train.input.num_values <= _MOST_CODED
    if index is not None:
        texts = encode_texts(texts_at(train, index))
        sizes["captions"] = sum(map(encoded_bytes, compress_parts(texts, labels.cpu()).values()))
    elif isinstance(result, Selection) and (windows := selected_series(train, result.index, store)) is not None:
        points = compress_parts(encode_selected_series(windows[0], store), labels.cpu())
        sizes["inputs"] = sum(map(encoded_bytes, points.values()))
    elif isinstance(result, Selection) and not isinstance(store, ContextCodec) and coded:
        packed = encode_inputs(train.raw(result.index.cpu()), train.input, store, train.normalization)[0]
        packed.pop(f"inputs/{caption_part(train)}", None)
        sizes["inputs"] = sum(map(encoded_bytes, compress_parts(packed, labels.cpu()).values()))
    elif not payload:
        sizes["inputs"] = estimate_bytes(store, (n, *train.input.shape), _like(train, result, store))
    if isinstance(train, SeriesSource) if isinstance(result, Selection) else run.problem.target_decoder is not None:
        sizes["labels"] = 0
    elif classified and labels.is_floating_point():
        sizes["labels"] = label_bytes(
            n, k, store.label_bits, scores=isinstance(result, Synthetic) and result.centred_labels
        )
    else:
        targets = encode_targets(labels.cpu(), k if classified else None, store, run.problem.task)
        sizes["labels"] = sum(map(encoded_bytes, compress_parts(targets, labels.cpu()).values()))
    if run.max_bytes is not None and not payload and isinstance(result, Synthetic):
        sizes["inputs"] = min(sizes["inputs"], run.max_bytes - sizes["decoder"] - sizes["labels"])
    if isinstance(result, Selection) and not has_texts(train) and len(getattr(train, "texts", ())):
        texts = encode_texts(texts_at(train, result.index))
        sizes["captions"] = sum(map(encoded_bytes, compress_parts(texts, labels).values()))
    if isinstance(result, Selection):
        sizes["index"] = encoded_bytes(compress_encoded(encode_ints(result.index.cpu())))
        if result.weights is not None:
            sizes["weights"] = result.weights.numel() * 4
    elif result.extra_parameters:
        sizes["learned"] = sum(4 * t.numel() for t in result.extra_parameters.values())
    if encoder := encoder_tensors(getattr(train, "encoder", None)):
        sizes["encoder"] = sum(t.numel() * t.element_size() for t in encoder.values())
    if (w := train.normalization.whitening) is not None:
        sizes["whitening"] = sum(getattr(w, n).numel() * 4 for n in WHITENING)
    return sizes | {"total": sum(sizes.values())}


def _text_index(run: ResolvedRun, result: Result, payload: Mapping[str, Tensor]) -> Tensor | None:
    """Return the training texts that the file will hold; ``None``: numbers."""
    if isinstance(result, Selection):
        return result.index.cpu() if run.codec is not None and writes_texts(run.problem.train, run.codec) else None
    decoder = run.problem.parametrization
    return decoder.nearest(payload).cpu() if isinstance(decoder, NearestText) else None


def _like(train: Source, result: Result, store: Codec) -> Tensor | None:
    """Samples such as the set will have, for stores whose bytes depend on the values."""
    if isinstance(result, Selection):
        return single_tensor(train.raw(result.index[:4096]), "a plan")
    return None if isinstance(store, Exact) else single_tensor(train.raw(torch.arange(min(len(train), 256))), "a plan")
