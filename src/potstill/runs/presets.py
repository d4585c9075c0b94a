"""Fields that a run changes from its preset, for the metadata: a changed run is not the published one."""

import dataclasses
from typing import Any

from potstill.core import Method, Preset
from potstill.core.registry import preset_fields
from potstill.runs.spec import RunSpec

__all__ = ["changed_fields", "preset_metadata"]


def changed_fields(method: Method[Any], preset: Preset, spec: RunSpec) -> tuple[str, ...]:
    """Return the names of fields with other values than the preset's, sorted.

    A network or an augmentation that was not named follows the data, and is no change.

    Args:
        method: with all parts that were named or gave way to the data, before it resolves its own defaults.
        preset: the preset that it was made by.
        spec: choices of the run.
    """
    kind = type(method)
    expected = kind(**preset_fields(kind, preset))
    follows = {name for name in ("network", "augment") if getattr(spec, name) is None and name not in spec.options}
    fields = [f.name for f in dataclasses.fields(kind) if f.name not in follows]  # type: ignore[arg-type]
    return tuple(sorted(name for name in fields if getattr(method, name) != getattr(expected, name)))


def preset_metadata(method: Method[Any], preset: Preset | None, changed: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the preset's name, the fields that it set, and the names of those that have other values."""
    if preset is None:
        return None
    fields = {n: v for n, v in preset_fields(type(method), preset).items() if getattr(method, n) == v}
    return {"name": preset, "fields": fields} | ({"changed": list(changed)} if changed else {})
