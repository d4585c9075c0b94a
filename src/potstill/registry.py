"""Name → "module:attribute", resolved only when asked for. The command line, the docs and the contract suite read it.

Outside packages add entries under the entry-point groups ``potstill.methods``, ``potstill.networks``,
``potstill.augmentations``, ``potstill.parametrizations`` and ``potstill.protocols``.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Literal

from potstill.core import Method
from potstill.errors import PotstillError, unknown

__all__ = ["Group", "make_method", "names", "resolve", "targets"]

Group = Literal["methods", "augmentations", "parametrizations", "protocols"]

_BUILTIN: dict[Group, dict[str, str]] = {
    "methods": {
        "random": "potstill.methods.selection.random:Random",
        "herding": "potstill.methods.selection.herding:Herding",
        "k-center": "potstill.methods.selection.k_center:KCenter",
        "k-means": "potstill.methods.selection.k_means:KMeans",
        "random-soft": "potstill.methods.selection.random_soft:RandomSoft",
        "dc": "potstill.methods.gradient.dc:DC",
        "dsa": "potstill.methods.gradient.dsa:DSA",
        "dm": "potstill.methods.distribution.dm:DM",
    },
    "augmentations": {
        "none": "potstill.augment.siamese:none",
        "dsa": "potstill.augment.siamese:dsa",
        "dsa-noflip": "potstill.augment.siamese:dsa_noflip",
    },
    "parametrizations": {"pixels": "potstill.parametrize.pixels:Pixels"},
    "protocols": {
        "potstill": "potstill.evaluation.protocols.potstill:PROTOCOL",
        "dc": "potstill.evaluation.protocols.dc:PROTOCOL",
        "dsa": "potstill.evaluation.protocols.dsa:PROTOCOL",
    },
}


def targets(group: Group) -> dict[str, str]:
    """``module:attribute`` by name, of this package and of installed ones."""
    outside = {e.name: e.value for e in entry_points(group=f"potstill.{group}")}
    if taken := sorted(outside.keys() & _BUILTIN[group].keys()):
        raise PotstillError(
            f"an installed package registers {group} under the taken name {taken[0]!r}; rename its entry point"
        )
    return _BUILTIN[group] | outside


def names(group: Group) -> tuple[str, ...]:
    """Every registered name of ``group``, built-in ones first."""
    return tuple(targets(group))


def resolve(group: Group, name: str) -> Any:
    """The object registered as ``name``.

    Raises:
        PotstillError: there is no such name; the message names the nearest.
    """
    known = targets(group)
    if name not in known:
        raise unknown(group[:-1], name, known)
    module, _, attribute = known[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def make_method(method: str | Method[Any], options: Mapping[str, Any]) -> tuple[str, Method[Any]]:
    """A method with some of its fields replaced, and its registered name.

    Raises:
        PotstillError: no such method, no such field, or a value of the wrong type.
    """
    if isinstance(method, str):
        kind: type[Method[Any]] = resolve("methods", method)
        name, base = method, None
    else:
        kind, base = type(method), method
        name = next((n for n in names("methods") if resolve("methods", n) is kind), kind.__name__)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for option, value in options.items():
        if option not in fields:
            raise PotstillError(f"method {name}: {unknown('option', option, fields)}")
        _check_value(name, option, value, fields[option])
    made = kind(**options) if base is None else dataclasses.replace(base, **options)  # type: ignore[type-var]
    return name, made


def _check_value(method: str, option: str, value: Any, field: Any) -> None:
    """Numbers for numbers, strings for strings; choices are checked against the annotation's literals."""
    literals = getattr(field.type, "__args__", ()) if "Literal" in str(field.type) else ()
    if literals and value not in literals:
        raise PotstillError(f"method {method}: {option} must be one of {', '.join(map(str, literals))}, not {value!r}")
    expected = type(field.default)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if expected in (int, float) and not (number and (expected is float or isinstance(value, int))):
        raise PotstillError(f"method {method}: {option} must be {expected.__name__}, not {value!r}")
    if expected in (int, float) and isinstance(value, int | float) and not value >= 0:
        raise PotstillError(f"method {method}: {option} must not be negative, but it is {value!r}")
