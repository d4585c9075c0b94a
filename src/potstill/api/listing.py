"""List what is registered, as plain data for the command line, the docs and the README's table.

``outside=False`` leaves out what other installed packages add.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from potstill._util.field_docs import field_docs
from potstill._util.formatting import option_name
from potstill.core import Preset, label_mode, registry
from potstill.core.bounds import bounds_of
from potstill.kinds import list_kinds

__all__ = [
    "format_presets",
    "list_augmentations",
    "list_codecs",
    "list_data",
    "list_input_kinds",
    "list_methods",
    "list_networks",
    "list_parametrizations",
    "list_protocols",
    "list_tasks",
    "presets_of",
]


def _first_paragraph(target: Any) -> str:
    return " ".join((inspect.getdoc(target) or "").split("\n\n")[0].split()).replace("``", "`")


def list_methods(*, outside: bool = True) -> list[dict[str, Any]]:
    """Every method: name, family, paper, title, year, what it keeps, when to take it, and its options."""
    rows = []
    for name in registry.names("methods", outside=outside):
        kind = registry.resolve("methods", name)
        info, hints = kind.info, get_type_hints(kind, include_extras=True)
        options = _options(kind)
        for option in options:
            bounds = bounds_of(hints[option["name"]], option["default"])
            option["bounds"] = None if bounds is None else str(bounds)
        rows.append({
            "name": name, "family": info.family, "paper": info.paper, "title": info.title, "year": info.year,
            "summary": _first_paragraph(kind), "is_selection": info.is_selection,
            "soft_labels": info.soft_labels or label_mode(kind) != "hard", "reimplemented": info.reimplemented,
            "class_independence": info.class_independence,
            "weighted": info.weighted, "kinds": list(info.kinds), "presets": presets_of(kind), "options": options,
            "use_when": info.use_when, "avoid_when": info.avoid_when, "related": list(info.related),
        })  # fmt: skip
    return rows


def _options(kind: Any) -> list[dict[str, Any]]:
    """Return the fields of a dataclass, with their defaults, types and help."""
    docs, types = field_docs(kind), get_type_hints(kind)
    return [
        {"name": f.name, "default": f.default, "type": _type_name(types[f.name]), "help": docs.get(f.name, "")}
        for f in dataclasses.fields(kind)
    ]


def presets_of(kind: Any) -> dict[str, dict[str, Any]]:
    """Return the fields that each preset sets, beside the published ones; empty where they are all alike."""
    touched = dict.fromkeys(name for fields in kind.presets.values() for name in fields)
    published = {f.name: f.default for f in dataclasses.fields(kind) if f.name in touched}
    presets = {name: {**published, **kind.presets.get(name, {})} for name in get_args(Preset)}
    return {name: {field: fields[field] for field in touched} for name, fields in presets.items() if touched}


def format_presets(presets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each preset: ``quick: iterations 300``."""
    if not presets:
        return ["quick, good and published are the same"]
    return [
        f"{name}: " + ", ".join(f"{option_name(field)} {_plain(value)}" for field, value in fields.items())
        for name, fields in presets.items()
    ]


def _plain(value: Any) -> str:
    """Return a value as text; ``auto`` for a field that the method fills in from the data."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return {"": '""', None: "auto"}.get(value, str(value))


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def list_protocols(*, outside: bool = True) -> list[dict[str, Any]]:
    """Every protocol: name, version, paper, fingerprint, whether it was published with a choice on test data."""
    protocols = {name: registry.resolve("protocols", name) for name in registry.names("protocols", outside=outside)}
    return [
        {
            "name": name, "version": p.version, "paper": p.paper, "optimistic": p.optimistic,
            "fingerprint": p.fingerprint(), "summary": p.summary,
            "recipe": p.flat_fields() | {"cases": [dataclasses.asdict(case) for case in p.cases]},
        }
        for name, p in protocols.items()
    ]  # fmt: skip


def list_networks() -> list[dict[str, Any]]:
    """Every network's name or pattern, title and source; then the learners that are no networks, for ``evaluate``."""
    from potstill.nn import catalogue

    learners = {name: registry.resolve("learners", name) for name in registry.names("learners")}
    return [dataclasses.asdict(entry) for entry in catalogue()] + [
        {"name": name, "title": _first_paragraph(kind), "paper": "no network: for evaluate alone", "kinds": ("*",)}
        for name, kind in learners.items()
    ]


def list_data() -> list[dict[str, Any]]:
    """Bundled and known names of real data, and the kinds of files that are read."""
    from potstill.data import KNOWN

    return [{"name": name, "summary": text} for name, text in KNOWN.items()]


def list_parametrizations(*, outside: bool = True) -> list[dict[str, Any]]:
    """Every parametrization: what it stores, and its settings (``NAME:setting=value``)."""
    return _parts("parametrizations", outside)


def list_codecs(*, outside: bool = True) -> list[dict[str, Any]]:
    """Every way to write values, and its settings. ``float`` and ``uniform`` are spelled with their bits: ``uint4``."""
    return _parts("codecs", outside)


def list_tasks(*, outside: bool = True) -> list[dict[str, Any]]:
    """Return every task with its settings."""
    return _parts("tasks", outside)


def list_input_kinds() -> list[dict[str, Any]]:
    """Return every kind of input with its axes, default network and default parametrization."""
    return [
        {
            "name": kind.name, "axes": kind.axes, "augmentable": kind.augmentable, "network": kind.network,
            "augment": kind.augment, "parametrization": kind.parametrization,
        }
        for kind in list_kinds()
    ]  # fmt: skip


def _parts(group: registry.Group, outside: bool) -> list[dict[str, Any]]:
    parts = {name: registry.resolve(group, name) for name in registry.names(group, outside=outside)}
    return [
        {"name": name, "summary": _first_paragraph(kind), "options": _options(kind)} for name, kind in parts.items()
    ]


def list_augmentations() -> list[dict[str, Any]]:
    """Every augmentation and what it does."""
    return [
        {"name": name, "summary": _first_paragraph(registry.resolve("augmentations", name))}
        for name in registry.names("augmentations")
    ]
