"""Parametrizations that read the data, and those that hold the targets, when a run's choices are made."""

import dataclasses
from typing import Any

from potstill.core import BindsToData, Method, Parametrization, Source, label_mode
from potstill.errors import PotstillError
from potstill.parametrize.rows import has_categories
from potstill.runs.rounding import rounds_at_end
from potstill.runs.spec import RunSpec

__all__ = ["bind_to_data", "suits_rows", "without_labels"]


def bind_to_data(decoder: Parametrization, train: Source) -> Parametrization:
    """Return the parametrization with what it takes from the data; as it is where it takes nothing.

    Raises:
        PotstillError: the data are of another kind, or do another task.
    """
    return decoder.bind(train) if isinstance(decoder, BindsToData) else decoder


def suits_rows(train: Source, spec: RunSpec) -> bool:
    """Tell whether parametrization ``rows`` takes the place of pixels: a table with categories, rounded at the end."""
    return has_categories(train) and rounds_at_end(spec.codec)


def without_labels(name: str, method: Method[Any], spec: RunSpec) -> Method[Any]:
    """Return the method without labels of its own, as the parametrization holds the targets.

    Raises:
        PotstillError: the run has others.
    """
    if spec.labels not in (None, "hard") or spec.options.get("labels", "hard") != "hard":
        raise PotstillError(
            f"the targets of parametrization {getattr(method, 'parametrization', '')} are parts of what it stores, so "
            f"{name} learns none beside them; leave labels out, or take parametrization pixels"
        )
    if label_mode(method) == "hard":
        return method
    return dataclasses.replace(method, labels="hard")  # type: ignore[type-var]
