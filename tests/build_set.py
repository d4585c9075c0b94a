"""A distilled set from one flat list of fields."""

from dataclasses import fields
from typing import Any

from potstill.core import Inputs
from potstill.dataset_file import Contents, Distilled, Encoding, Provenance, Schema, build


def build_set(inputs: Inputs, labels: Any, *, scores: bool = False, **given: Any) -> Distilled:
    """Build a set; ``given`` are fields of its values, ``scores``: labels are scores."""
    given = {name: value for name, value in given.items() if (name, value) != ("codec", None)}
    values = {}
    given |= {"inputs": inputs, "labels": labels, "scores": labels if scores else None}
    for kind in (Contents, Schema, Provenance, Encoding):
        values[kind] = kind(**{f.name: given.pop(f.name) for f in fields(kind) if f.name in given})
    assert not given, given
    return build(values[Contents], values[Schema], values[Provenance], values[Encoding])
