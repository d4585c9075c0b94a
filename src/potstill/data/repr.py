"""Text and HTML representations of sources."""

from typing import Any

import torch
from torch import Tensor

from potstill._util.html import one_line
from potstill._util.notebook_repr import MAX_CLASSES, MAX_IMAGES, sample_rows, titled_table
from potstill.kinds import get_kind

__all__ = ["describe_source", "source_html"]


def _inputs(source: Any) -> str:
    return f"{len(source):,} {get_kind(source.input).describe_size(source.input)}"


def describe_source(source: Any) -> str:
    """Return one line: name, samples, kind of inputs, classes."""
    device = "" if source.device.type == "cpu" else f" on {source.device}"
    start = f"{one_line(source.name)}: {_inputs(source)}"
    if not source.classes:
        return f"{start} for {source.task.name}{device}"
    names = ", ".join(repr(one_line(c)) for c in source.classes[:3]) + ", …" * (len(source.classes) > 3)
    return f"{start} in {len(source.classes):,} classes ({names}){device}"


def source_html(source: Any, *, pictures: bool) -> str:
    """Return the same as HTML, with the samples of each class and, from memory, the first of each that its kind draws.

    Args:
        pictures: whether they can be had without reading files.
    """
    if not source.classes:
        return titled_table(source.name, [("inputs", _inputs(source)), ("task", source.task.name)])
    sizes = torch.bincount(source.labels, minlength=len(source.classes)).tolist()
    listed = ", ".join(f"{c} ({n:,})" for c, n in list(zip(source.classes, sizes, strict=True))[:MAX_CLASSES])
    hidden = len(sizes) - MAX_CLASSES
    rows = [("inputs", _inputs(source))]
    rows += [(f"{len(sizes):,} classes", listed + (f" and {hidden:,} more" if hidden > 0 else ""))]
    made = titled_table(source.name, rows)
    if pictures and (draw := get_kind(source.input).draw) is not None:
        made = type(made)(made + sample_rows((_first(source, c) for c in range(min(MAX_CLASSES, len(sizes)))), draw))
    return made


def _first(source: Any, label: int) -> tuple[str, list[Any]]:
    index = torch.where(source.labels == label)[0][:MAX_IMAGES]
    x = source.raw(index)
    assert isinstance(x, Tensor)
    return source.classes[label], list(x.cpu().numpy())
