"""Building a set from its values, as a reader of its file gets it."""

import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from potstill.core import Inputs, InputSpec
from potstill.core.nested import named_tensors, num_samples, tensor_names, tree_map
from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.labeller_io import labeller_to_json
from potstill.dataset_file.metadata import FORMAT, input_to_json, scores_to_json, task_to_json, to_json
from potstill.dataset_file.normalization import normalization_to_json, to_float32
from potstill.dataset_file.payload_io import bytes_by_part, decode_contents, encode_contents, with_draw
from potstill.dataset_file.text_io import encoder_to_json
from potstill.dataset_file.validate import (
    LEARNED_LR,
    check_content,
    check_extras,
    check_learned,
    check_scores,
)
from potstill.dataset_file.values import Contents, Encoding, Provenance, Schema
from potstill.errors import PotstillError
from potstill.functional.label_simplex import to_probabilities
from potstill.kinds import get_kind
from potstill.native import loaded_kernels
from potstill.tasks import Classification

__all__ = ["build", "to_stored_form"]

_SELF = "this set"


def build(contents: Contents, schema: Schema, provenance: Provenance, encoding: Encoding | None = None) -> Distilled:
    """Return a set with its metadata, as ``load`` reads it back: losses of the codec have happened already.

    Args:
        contents: tensors in data units; with a payload that has a decoder, its inputs are what the payload decodes to.
        schema: classes, kind of input, normalization, task.
        provenance: method, seed, data and cost.
        encoding: codec and decoder; float32 by default.

    Raises:
        PotstillError: the contents break the format: not finite, counts that differ, rows that do not sum to 1, scores
            of another number of classes, an invalid learned rate.
        TypeError: the provenance is not JSON.
    """
    encoding = encoding or Encoding()
    contents = _to_stored_contents(contents, schema)
    training = dict(provenance.training)
    if LEARNED_LR in contents.learned:
        training["learned_lr"] = contents.learned[LEARNED_LR].tolist()
    schema = replace(schema, normalization=to_float32(schema.normalization))
    task = schema.task or Classification(k=len(schema.classes))
    _check(contents, replace(schema, task=task), training)
    metadata: dict[str, Any] = {
        **provenance.extra,
        "format": FORMAT,
        "method": provenance.method,
        "config": provenance.config,
        "seed": provenance.seed,
        "ipc": provenance.ipc,
        "classes": list(schema.classes),
        "task": task_to_json(task),
        "input": input_to_json(schema.input),
        "normalization": normalization_to_json(schema.normalization),
        **encoder_to_json(contents.encoder),
        **labeller_to_json(contents.labeller),
        "training": training,
        "source": provenance.source,
        "outcome": provenance.outcome,
        "decoder": None
        if not contents.payload or encoding.decoder is None
        else with_draw(encoding.decoder, contents.payload, schema.input),
        "cost": provenance.cost,
        **({"labels": scores_to_json(len(schema.classes))} if contents.scores is not None else {}),
        "versions": {
            "potstill": version("potstill"), "torch": torch.__version__, "python": platform.python_version(),
            "kernels": loaded_kernels(),
        },
    }  # fmt: skip
    encoded, described = encode_contents(contents, replace(schema, task=task), encoding)
    metadata = to_json({**metadata, "codec": {**metadata.get("codec", {}), **described}})
    metadata["bytes"] = bytes_by_part(encoded, metadata)
    decoded = decode_contents(dict(encoded), metadata, schema.normalization, 2**62, encoding.assets or None)
    if decoded.inputs is None:
        raise PotstillError(f"{_SELF}: {decoded.missing}")
    check_content(_SELF, decoded.inputs, decoded.labels, schema.input, len(schema.classes), task)
    metadata["space"] = _value_range(decoded.inputs, schema.input)
    return Distilled(
        replace(decoded, captions=contents.captions, encoder=contents.encoder),
        metadata,
        normalization=schema.normalization,
        tensors=encoded,
    )


def _check(contents: Contents, schema: Schema, training: Mapping[str, Any]) -> None:
    inputs, labels, classes = contents.inputs, contents.labels, schema.classes
    assert inputs is not None
    if len(set(classes)) != len(classes):
        raise PotstillError(f"{_SELF}: two classes have the same name; give each class its own name")
    if contents.scores is not None:
        check_scores(_SELF, contents.scores, num_samples(inputs), len(classes))
        labels = to_probabilities(contents.scores)
    check_content(_SELF, inputs, labels, schema.input, len(classes), schema.task)
    check_extras(_SELF, replace(contents, labels=labels), schema.normalization)
    if contents.captions and len(contents.captions) != len(labels):
        raise PotstillError(f"{_SELF}: {len(labels)} inputs need as many captions, not {len(contents.captions)}")
    check_learned(_SELF, contents.learned, training)


def _to_stored_contents(contents: Contents, schema: Schema) -> Contents:
    """Return the contents as a file has them: float32 or int64, contiguous, on the CPU."""
    if contents.inputs is None:
        raise PotstillError(f"{_SELF}: inputs are required")
    index, weights, scores = contents.index, contents.weights, contents.scores
    return replace(
        contents,
        inputs=to_stored_form(contents.inputs, schema.input),
        labels=_to_stored_tensor(contents.labels),
        payload={name: t.detach().cpu().contiguous() for name, t in contents.payload.items()},
        index=None if index is None else index.detach().cpu().long(),
        weights=None if weights is None else weights.detach().cpu().float().contiguous(),
        learned={name: t.detach().cpu().float().contiguous() for name, t in contents.learned.items()},
        captions=tuple(contents.captions),
        scores=None if scores is None else _to_stored_tensor(scores),
    )


def _to_stored_tensor(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor.long()).contiguous()


def to_stored_form(inputs: Inputs, spec: InputSpec) -> Inputs:
    """Return the inputs as a file has them: float32 or int64, on the CPU, parts in the order of ``spec``."""
    converted: Inputs = tree_map(_to_stored_tensor, inputs)
    if isinstance(converted, Tensor):
        return converted
    return {n: converted[n] for n in (*tensor_names(spec), *converted) if n in converted}


def _value_range(inputs: Inputs, spec: InputSpec) -> str:
    """Return ``pixels`` for images in [0, 1], ``unclamped`` for images beyond it, ``raw`` where there are no images.

    Optimised pixels leave [0, 1]; clamping them would change what was distilled.
    """
    kinds = {"": spec.kind, **{name: part.kind for name, part in spec.parts}}
    images = [x for name, x in named_tensors(inputs).items() if get_kind(kinds.get(name, "")).value_range]
    if not images:
        return "raw"
    return "pixels" if all(float(x.min()) >= 0 and float(x.max()) <= 1 for x in images) else "unclamped"
