"""Arrays of a set for a page: pages do not import torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from potstill.dataset_file import Distilled, load
from potstill.dataset_file.series_io import stored_series
from potstill.exporters.images import image_inputs

__all__ = ["load_arrays"]


def load_arrays(path: Path) -> Mapping[str, Any]:
    """Return inputs as displayed, labels, and other arrays of the set at ``path``.

    Raises:
        PotstillError: the set is damaged.
    """
    small = load(path)
    shown, columns = _shown(small)
    held = {"inputs": shown, "labels": small.labels, "weights": small.weights, "index": small.index}
    held["scores"] = small.scores
    if not small.is_classification:
        held |= {"labels": small.hard_labels, "targets": small.labels}
    held["series"] = stored_series(small)
    arrays = {name: tensor.numpy() for name, tensor in held.items() if tensor is not None}
    names = () if small.is_classification else getattr(small.task, "targets", ())
    texts = {
        "target_names": names,
        "captions": small.captions,
        "nearest": () if small.captions else small.nearest_texts,
    }
    return arrays | {name: np.array(of, dtype=str) for name, of in {**texts, "columns": columns}.items()}


def _shown(small: Distilled) -> tuple[Tensor, tuple[str, ...]]:
    """Return the displayed inputs and their columns: the images among named parts, else values and codes."""
    if not small.input.parts:
        return small.inputs, small.input.columns
    if (pictures := image_inputs(small)) is not None:
        return pictures, ()
    parts = [(name, part) for name, part in small.input.parts if not part.ragged]
    values = [small.inputs[name].flatten(1).float() for name, _ in parts]
    columns = [
        part.columns if len(part.columns) == x.shape[1] else tuple(f"{name} {j + 1}" for j in range(x.shape[1]))
        for (name, part), x in zip(parts, values, strict=True)
    ]
    if not values:
        return torch.zeros(len(small), 0), ()
    return torch.cat(values, 1), tuple(c for some in columns for c in some)
