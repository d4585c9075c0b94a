"""Rows of texts with their labels, as CSV and JSON lines."""

import io
import json
from pathlib import Path
from typing import Any

from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.files import write_atomic
from potstill.errors import PotstillError

__all__ = ["has_text_rows", "text_columns", "write_json_lines"]


def has_text_rows(distilled: Distilled) -> bool:
    """Return True if each item is a real text."""
    return distilled.input.kind == "text" and len(distilled.captions) == len(distilled)


def text_columns(distilled: Distilled) -> dict[str, list[Any]]:
    """Return ``text``, ``label``, and where there are any a column ``label=CLASS`` of probabilities for each class, and
    ``weight``."""
    names, hard = distilled.classes, distilled.hard_labels.tolist()
    columns: dict[str, list[Any]] = {"text": list(distilled.captions), "label": [names[c] for c in hard]}
    if distilled.has_soft_labels:
        columns |= {f"label={name}": distilled.labels[:, c].tolist() for c, name in enumerate(names)}
    if distilled.weights is not None:
        columns["weight"] = distilled.weights.tolist()
    return columns


def write_json_lines(distilled: Distilled, path: Path) -> None:
    """Write a JSON object for each text: ``text``, ``label``, ``probabilities`` by class and ``weight`` where there are
    any.

    Raises:
        PotstillError: the items of the set are no texts.
    """
    if not has_text_rows(distilled):
        raise PotstillError(
            f"jsonl holds texts, but this set has {'vectors of texts' if distilled.input.kind == 'text' else 'none'}; "
            'export with `to="npz"`, or make it by a selection or with parametrization nearest-text'
        )
    columns = text_columns(distilled)
    buffer = io.StringIO()
    for i in range(len(distilled)):
        line: dict[str, Any] = {"text": columns["text"][i], "label": columns["label"][i]}
        if distilled.has_soft_labels:
            shares = distilled.labels[i].tolist()
            line["probabilities"] = dict(zip(distilled.classes, shares, strict=True))
        if distilled.weights is not None:
            line["weight"] = columns["weight"][i]
        buffer.write(json.dumps(line, ensure_ascii=False) + "\n")
    write_atomic(path, buffer.getvalue().encode("utf-8", "replace"))
