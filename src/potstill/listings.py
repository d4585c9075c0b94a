"""What there is to choose from, as plain data: the command line, the docs and the README's table are made from it.

``outside=False`` leaves out what other installed packages add.
"""

import dataclasses
import inspect
import re
from typing import Any

from potstill import registry
from potstill.data import KNOWN
from potstill.nn import catalogue

__all__ = [
    "field_docs",
    "list_augmentations",
    "list_data",
    "list_methods",
    "list_networks",
    "list_parametrizations",
    "list_protocols",
]


def _first_line(target: Any) -> str:
    return (inspect.getdoc(target) or "").split("\n")[0]


def field_docs(kind: type) -> dict[str, str]:
    """The string below each field of a dataclass, by field; of an inherited field, that of the class it is from."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            source = inspect.getsource(base)
            texts = re.findall(r'^    (\w+): [^\n]+\n    """(.*?)"""', source, flags=re.MULTILINE | re.DOTALL)
            found |= {name: " ".join(text.split()) for name, text in texts}
    return found


def list_methods(*, outside: bool = True) -> list[dict[str, Any]]:
    """Every method: name, family, paper, title, year, what it keeps, and its options with defaults and sources."""
    rows = []
    for name in registry.names("methods", outside=outside):
        kind = registry.resolve("methods", name)
        docs, info = field_docs(kind), kind.info
        options = [
            {"name": f.name, "default": f.default, "type": _type_name(f.type), "help": docs.get(f.name, "")}
            for f in dataclasses.fields(kind)
        ]
        rows.append(
            {
                "name": name,
                "family": info.family,
                "paper": info.paper,
                "title": info.title,
                "year": info.year,
                "summary": _first_line(kind),
                "selects": info.selects,
                "soft": info.soft or getattr(kind, "labels", "hard") == "soft",
                "unpublished": info.unpublished,
                "kinds": list(info.kinds),
                "options": options,
            }
        )
    return rows


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def list_protocols(*, outside: bool = True) -> list[dict[str, Any]]:
    """Every protocol: name, version, paper, fingerprint, whether it was published with a choice on test data."""
    rows = []
    for name in registry.names("protocols", outside=outside):
        p = registry.resolve("protocols", name)
        rows.append(
            {
                "name": name,
                "version": p.version,
                "paper": p.paper,
                "optimistic": p.optimistic,
                "fingerprint": p.fingerprint(),
                "summary": p.summary,
                "recipe": dataclasses.asdict(p),
            }
        )
    return rows


def list_networks() -> list[dict[str, Any]]:
    """Every network's name or pattern, title and source."""
    return [dataclasses.asdict(entry) for entry in catalogue()]


def list_data() -> list[dict[str, Any]]:
    """Bundled and known names of real data, and the kinds of files that are read."""
    return [{"name": name, "summary": text} for name, text in KNOWN.items()]


def list_parametrizations(*, outside: bool = True) -> list[dict[str, Any]]:
    """Every parametrization: what it stores, and its settings (``NAME:setting=value``)."""
    rows = []
    for name in registry.names("parametrizations", outside=outside):
        kind = registry.resolve("parametrizations", name)
        docs = field_docs(kind)
        settings = [
            {"name": f.name, "default": f.default, "type": _type_name(f.type), "help": docs.get(f.name, "")}
            for f in dataclasses.fields(kind)
        ]
        rows.append({"name": name, "summary": _first_line(kind), "options": settings})
    return rows


def list_augmentations() -> list[dict[str, Any]]:
    """Every augmentation and what it does."""
    return [
        {"name": name, "summary": _first_line(registry.resolve("augmentations", name))}
        for name in registry.names("augmentations")
    ]
