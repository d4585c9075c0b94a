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

__all__ = ["Group", "make_method", "names", "part", "resolve", "targets"]

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
        "idc": "potstill.methods.gradient.idc:IDC",
        "dream": "potstill.methods.gradient.dream:DREAM",
        "dm": "potstill.methods.distribution.dm:DM",
        "cafe": "potstill.methods.distribution.cafe:CAFE",
        "idm": "potstill.methods.distribution.idm:IDM",
        "datadam": "potstill.methods.distribution.datadam:DataDAM",
        "m3d": "potstill.methods.distribution.m3d:M3D",
        "ncfm": "potstill.methods.distribution.ncfm:NCFM",
        "dance": "potstill.methods.distribution.dance:DANCE",
        "dsdm": "potstill.methods.distribution.dsdm:DSDM",
    },
    "augmentations": {
        "none": "potstill.augment.siamese:none",
        "dsa": "potstill.augment.siamese:dsa",
        "dsa-noflip": "potstill.augment.siamese:dsa_noflip",
        "idc": "potstill.augment.idc:idc",
        "idc-eval": "potstill.augment.idc:idc_eval",
        "idc-eval-noflip": "potstill.augment.idc:idc_eval_noflip",
    },
    "parametrizations": {
        "pixels": "potstill.parametrize.pixels:Pixels",
        "tiles": "potstill.parametrize.tiles:Tiles",
        "memory": "potstill.parametrize.memory:Memory",
        "frequency": "potstill.parametrize.frequency:Frequency",
        "hallucinator": "potstill.parametrize.hallucinator:Hallucinator",
        "field": "potstill.parametrize.field:Field",
    },
    "protocols": {
        "potstill": "potstill.evaluation.protocols.potstill:PROTOCOL",
        "dc": "potstill.evaluation.protocols.dc:PROTOCOL",
        "dsa": "potstill.evaluation.protocols.dsa:PROTOCOL",
        "idc": "potstill.evaluation.protocols.idc:PROTOCOL",
        "ncfm": "potstill.evaluation.protocols.ncfm:PROTOCOL",
        "datadam": "potstill.evaluation.protocols.datadam:PROTOCOL",
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


def part(group: Group, spelled: str) -> Any:
    """A part with its settings: ``NAME`` or ``NAME:setting=value,…``, e.g. ``tiles:factor=3``.

    The settings are the fields of the registered dataclass; a value is read as the type of the field's default.

    Raises:
        PotstillError: no such name, no such setting, or a value of another type.
    """
    name, _, settings = spelled.partition(":")
    made: Any = resolve(group, name)
    if not settings:
        return made()
    if not dataclasses.is_dataclass(made):
        raise PotstillError(f"{group[:-1]} {name} has no settings, but {settings!r} was given; leave it out")
    fields: dict[str, Any] = {f.name: f for f in dataclasses.fields(made)}
    values: dict[str, Any] = {}
    for setting in settings.split(","):
        key, equals, text = setting.partition("=")
        if key not in fields:
            raise PotstillError(f"{group[:-1]} {name}: {unknown('setting', key, fields)}")
        kind = type(fields[key].default)
        try:
            values[key] = {"True": True, "False": False}[text.capitalize()] if kind is bool else kind(text)
        except (ValueError, KeyError) as error:
            raise PotstillError(f"{group[:-1]} {name}: {key} must be {kind.__name__}, not {text!r}") from error
        if not equals:
            raise PotstillError(f"{group[:-1]} {name}: write {key}=VALUE, not {setting!r}")
    return resolve(group, name)(**values)  # `made` itself, seen as the callable that it is


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
