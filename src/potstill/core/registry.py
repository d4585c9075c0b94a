"""Registry of parts: ``module:attribute`` by name, imported at first use.

Packages add entries under the entry point groups ``potstill.GROUP`` for every group of `Group`.
"""

import dataclasses
import functools
import importlib
import math
import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from potstill._util.import_from_file import FileReference, is_file_reference
from potstill.errors import PotstillError, closest_names, suggestion, unknown_name

if TYPE_CHECKING:  # names are known without torch
    from potstill.core import Method, Preset

__all__ = [
    "Group",
    "check_value",
    "create",
    "get_method_class",
    "make_method",
    "names",
    "preset_fields",
    "resolve",
    "targets",
]

Group = Literal[
    "methods", "networks", "augmentations", "parametrizations", "protocols", "codecs", "learners", "tasks", "loaders",
    "executors", "kinds",
]  # fmt: skip

_BUILTIN: dict[Group, dict[str, str]] = {
    "methods": {
        "random": "potstill.methods.selection.random:Random",
        "herding": "potstill.methods.selection.coverage:Herding",
        "k-center": "potstill.methods.selection.coverage:KCenter",
        "k-means": "potstill.methods.selection.k_means:KMeans",
        "stratified": "potstill.methods.selection.random:Stratified",
        "k-median": "potstill.methods.selection.coverage:KMedian",
        "knn-graph": "potstill.methods.selection.density:KNNGraph",
        "facility-location": "potstill.methods.selection.coverage:FacilityLocation",
        "graph-cut": "potstill.methods.selection.coverage:GraphCut",
        "contextual-diversity": "potstill.methods.selection.density:ContextualDiversity",
        "moderate": "potstill.methods.selection.density:Moderate",
        "zcore": "potstill.methods.selection.density:ZCore",
        "random-soft": "potstill.methods.selection.random_soft:RandomSoft",
        "least-confidence": "potstill.methods.selection.uncertainty:LeastConfidence",
        "entropy": "potstill.methods.selection.uncertainty:Entropy",
        "margin": "potstill.methods.selection.uncertainty:Margin",
        "forgetting": "potstill.methods.selection.dynamics:Forgetting",
        "el2n": "potstill.methods.selection.early_training:EL2N",
        "grand": "potstill.methods.selection.early_training:GraNd",
        "aum": "potstill.methods.selection.margins:AUM",
        "cartography": "potstill.methods.selection.dynamics:Cartography",
        "dyn-unc": "potstill.methods.selection.dynamics:DynUnc",
        "tdds": "potstill.methods.selection.dynamics:TDDS",
        "ccs": "potstill.methods.selection.margins:CCS",
        "irt": "potstill.methods.selection.difficulty:IRT",
        "glicko": "potstill.methods.selection.difficulty:Glicko",
        "craig": "potstill.methods.selection.gradient_matching:CRAIG",
        "grad-match": "potstill.methods.selection.gradient_matching:GradMatch",
        "glister": "potstill.methods.selection.gradient_matching:GLISTER",
        "dc": "potstill.methods.gradient.dc:DC",
        "dsa": "potstill.methods.gradient.dsa:DSA",
        "idc": "potstill.methods.gradient.idc:IDC",
        "dream": "potstill.methods.gradient.dream:DREAM",
        "lgm": "potstill.methods.gradient.lgm:LGM",
        "mtt": "potstill.methods.trajectory.mtt:MTT",
        "tesla": "potstill.methods.trajectory.tesla:TESLA",
        "ftd": "potstill.methods.trajectory.ftd:FTD",
        "att": "potstill.methods.trajectory.att:ATT",
        "datm": "potstill.methods.trajectory.datm:DATM",
        "pad": "potstill.methods.trajectory.pad:PAD",
        "dm": "potstill.methods.distribution.dm:DM",
        "cafe": "potstill.methods.distribution.cafe:CAFE",
        "idm": "potstill.methods.distribution.idm:IDM",
        "datadam": "potstill.methods.distribution.datadam:DataDAM",
        "m3d": "potstill.methods.distribution.m3d:M3D",
        "ncfm": "potstill.methods.distribution.ncfm:NCFM",
        "dance": "potstill.methods.distribution.dance:DANCE",
        "dsdm": "potstill.methods.distribution.dsdm:DSDM",
        "dd": "potstill.methods.performance.dd:DD",
        "ld": "potstill.methods.performance.ld:LD",
        "remember": "potstill.methods.performance.remember:Remember",
        "rat-bptt": "potstill.methods.performance.rat_bptt:RaTBPTT",
        "at-bptt": "potstill.methods.performance.at_bptt:ATBPTT",
        "kip": "potstill.methods.performance.kip:KIP",
        "frepo": "potstill.methods.performance.frepo:FRePo",
        "rfad": "potstill.methods.performance.rfad:RFAD",
        "rcig": "potstill.methods.performance.rcig:RCIG",
        "sre2l": "potstill.methods.decoupled.sre2l:SRe2L",
        "cda": "potstill.methods.decoupled.cda:CDA",
        "sre2l++": "potstill.methods.decoupled.sre2l_plus:SRe2LPlus",
        "cv-dd": "potstill.methods.decoupled.cv_dd:CVDD",
        "g-vbsm": "potstill.methods.decoupled.g_vbsm:GVBSM",
        "edc": "potstill.methods.decoupled.edc:EDC",
        "fadrm": "potstill.methods.decoupled.fadrm:FADRM",
        "delt": "potstill.methods.decoupled.delt:DELT",
        "dwa": "potstill.methods.decoupled.dwa:DWA",
        "lpld": "potstill.methods.decoupled.lpld:LPLD",
        "wmdd": "potstill.methods.decoupled.wmdd:WMDD",
        "ufc": "potstill.methods.decoupled.ufc:UFC",
        "rded": "potstill.methods.decoupled.rded:RDED",
        "cim": "potstill.methods.decoupled.cim:CIM",
        "dq": "potstill.methods.decoupled.dq:DQ",
    },
    "networks": {},  # ours have a grammar: potstill.nn.registry
    "augmentations": {
        "none": "potstill.augment.siamese:none",
        "dsa": "potstill.augment.siamese:dsa",
        "dsa-noflip": "potstill.augment.siamese:dsa_noflip",
        "flip-rotate": "potstill.augment.siamese:flip_rotate",
        "rotate": "potstill.augment.siamese:rotate",
        "idc": "potstill.augment.idc:idc",
        "idc-eval": "potstill.augment.idc:idc_eval",
        "idc-eval-noflip": "potstill.augment.idc:idc_eval_noflip",
        "cim": "potstill.augment.idc:cim",
        "cim-noflip": "potstill.augment.idc:cim_noflip",
        "flip": "potstill.augment.crop:flip",
        "rrc": "potstill.augment.crop:rrc",
        "rrc-noflip": "potstill.augment.crop:rrc_noflip",
        "pad-crop": "potstill.augment.crop:pad_crop",
        "pad-crop-noflip": "potstill.augment.crop:pad_crop_noflip",
        "patches": "potstill.augment.crop:patches",
        "patches-noflip": "potstill.augment.crop:patches_noflip",
    },
    "parametrizations": {
        "pixels": "potstill.parametrize.pixels:Pixels",
        "tiles": "potstill.parametrize.tiles:Tiles",
        "memory": "potstill.parametrize.memory:Memory",
        "frequency": "potstill.parametrize.frequency:Frequency",
        "hallucinator": "potstill.parametrize.hallucinator:Hallucinator",
        "field": "potstill.parametrize.field:Field",
        "compensators": "potstill.parametrize.compensators:Compensators",
        "small": "potstill.parametrize.low_resolution:LowResolution",
    },
    "protocols": {
        "potstill": "potstill.evaluation.protocols:POTSTILL",
        "dc": "potstill.evaluation.protocols:DC",
        "dsa": "potstill.evaluation.protocols:DSA",
        "idc": "potstill.evaluation.protocols:IDC",
        "ncfm": "potstill.evaluation.protocols:NCFM",
        "datadam": "potstill.evaluation.protocols:DATADAM",
        "sre2l": "potstill.evaluation.protocols:SRE2L",
        "sre2l-cifar": "potstill.evaluation.protocols:SRE2L_CIFAR",
        "rded": "potstill.evaluation.protocols:RDED",
        "cda": "potstill.evaluation.protocols:CDA",
        "edc": "potstill.evaluation.protocols:EDC",
        "datm-soft": "potstill.evaluation.protocols:DATM_SOFT",
        "no-distillation": "potstill.evaluation.protocols:NO_DISTILLATION",
        "mtt": "potstill.evaluation.protocols:MTT",
        "datm": "potstill.evaluation.protocols:DATM",
        "frepo": "potstill.evaluation.protocols:FREPO",
        "rat-bptt": "potstill.evaluation.protocols:RAT_BPTT",
        "kip": "potstill.evaluation.protocols:KIP",
        "remember": "potstill.evaluation.protocols:REMEMBER",
    },
    "codecs": {
        "float": "potstill.codecs.exact:Float",
        "exact": "potstill.codecs.exact:Exact",
        "uniform": "potstill.codecs.uniform:Uniform",
        "half": "potstill.codecs.downsample:Downsample",
        "mosaic": "potstill.codecs.mosaic:Mosaic",
        "apot": "potstill.codecs.apot:APoT",
        "patches": "potstill.codecs.patches:Patches",
        "palette": "potstill.codecs.palette:Palette",
    },
    "learners": {
        "linear-model": "potstill.evaluation.learners.linear:LinearModel",
        "forest": "potstill.evaluation.learners.forest:Forest",
        "ridge": "potstill.evaluation.learners.ridge:Ridge",
        "krr-ntk": "potstill.evaluation.learners.kernel:KrrNtk",
        "nngp": "potstill.evaluation.learners.kernel:Nngp",
        "ridge-features": "potstill.evaluation.learners.features:RidgeFeatures",
    },
    "tasks": {
        "classification": "potstill.tasks.classification:Classification",
        "regression": "potstill.tasks.regression:Regression",
        "forecast": "potstill.tasks.forecast:Forecast",
        "retrieval": "potstill.tasks.retrieval:Retrieval",
    },
    "loaders": {  # KIND/TASK
        "table/regression": "potstill.data.regression:read_regression",
        "series/forecast": "potstill.data.series:read_series",
        "pair/retrieval": "potstill.data.pairs:read_pairs",
    },
    "executors": {
        "serial": "potstill.execution.executor:Serial",
        "processes": "potstill.execution.processes:Processes",
        "ray": "potstill.execution.cluster:Ray",
    },
    "kinds": {
        "image": "potstill.kinds.kind:IMAGE",
        "table": "potstill.kinds.kind:TABLE",
        "series": "potstill.kinds.kind:SERIES",
        "pair": "potstill.kinds.kind:PAIR",
        "waves": "potstill.kinds.kind:WAVES",
        "texts": "potstill.kinds.kind:TEXTS",
    },
}


@functools.cache
def _outside(group: Group) -> dict[str, str]:
    """Return the entries of installed packages. Read once (a tenth of a second); ``POTSTILL_OUTSIDE=0`` ignores
    them."""
    if os.environ.get("POTSTILL_OUTSIDE") == "0":
        return {}
    return {e.name: e.value for e in entry_points(group=f"potstill.{group}")}


def targets(group: Group, *, outside: bool = True) -> dict[str, str]:
    """Return ``module:attribute`` by name, with those of installed packages unless ``outside`` is false."""
    if not outside:
        return dict(_BUILTIN[group])
    found = _outside(group)
    if taken := sorted(found.keys() & _BUILTIN[group].keys()):
        raise PotstillError(
            f"an installed package registers {group} under the taken name {taken[0]!r}; rename its entry point"
        )
    return _BUILTIN[group] | found


def names(group: Group, *, outside: bool = True) -> tuple[str, ...]:
    """Return every registered name of ``group``, built-in ones first."""
    return tuple(targets(group, outside=outside))


def resolve(group: Group, name: str) -> Any:
    """Return the object registered as ``name``.

    Raises:
        PotstillError: there is no such name; the message names the nearest.
    """
    known = targets(group)
    if name not in known:
        raise unknown_name(group[:-1], name, known)
    module, _, attribute = known[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def create(group: Group, spelled: str) -> Any:
    """Return a part from ``NAME`` or ``NAME:setting=value,…``, such as ``tiles:factor=3``.

    Settings are the fields of the registered dataclass; values are read as the type of the field's default.

    Raises:
        PotstillError: no such name, no such setting, or a value of another type.
    """
    name, _, settings = spelled.partition(":")
    make: Callable[..., Any] = resolve(group, name)
    if not settings:
        return make()
    defaults = _defaults(make)
    if defaults is None:
        raise PotstillError(f"{group[:-1]} {name} has no settings, but {settings!r} was given; leave it out")
    values: dict[str, Any] = {}
    for setting in settings.split(","):
        key, equals, text = setting.partition("=")
        if key not in defaults:
            raise PotstillError(f"{group[:-1]} {name}: {unknown_name('setting', key, defaults)}")
        kind = type(defaults[key])
        try:
            values[key] = {"True": True, "False": False}[text.capitalize()] if kind is bool else kind(text)
        except (ValueError, KeyError) as error:
            raise PotstillError(f"{group[:-1]} {name}: {key} must be {kind.__name__}, not {text!r}") from error
        if not equals:
            raise PotstillError(f"{group[:-1]} {name}: write {key}=VALUE, not {setting!r}")
    return make(**values)


def _defaults(make: Callable[..., Any]) -> dict[str, Any] | None:
    """Return the compared fields of a dataclass and their defaults; ``None`` for anything else."""
    if not dataclasses.is_dataclass(make):
        return None
    return {f.name: f.default for f in dataclasses.fields(make) if f.compare}


def get_method_class(name: str) -> "type[Method[Any]]":
    """Return a method's class by registered name or ``file.py:Class``, whose file is then run.

    Only for names that a user gives, never for names from a file's metadata.

    Raises:
        PotstillError: there is no such method, file or class, or it is no method.
    """
    from potstill.core import Method

    kind = FileReference.read(name).load() if is_file_reference(name) else resolve("methods", name)
    if not (isinstance(kind, type) and issubclass(kind, Method) and dataclasses.is_dataclass(kind)):
        raise PotstillError(
            f"method {name} must be a frozen dataclass that inherits from potstill.core.Method; docs/add-a-method.md "
            "has a whole one"
        )
    return kind


def make_method(
    method: "str | Method[Any]", options: Mapping[str, Any], preset: "Preset | None" = None
) -> "tuple[str, Method[Any]]":
    """Return a method and its registered name (its class's name where it is not registered).

    Args:
        method: a name, or a method.
        options: fields to set; they win over the preset.
        preset: preset of a method that is given by name.

    Raises:
        PotstillError: no such method, no such field, or a value of the wrong type or out of its bounds.
    """
    if isinstance(method, str):
        kind = get_method_class(method)
        name, base = kind.__name__ if is_file_reference(method) else method, None
    else:
        kind, base = type(method), method
        name = next((n for n in names("methods") if resolve("methods", n) is kind), kind.__name__)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for option in options:
        if option not in fields:
            raise PotstillError(f"method {name}: {unknown_name('option', option, fields)}")
    made = kind(**{**preset_fields(kind, preset), **options}) if base is None else dataclasses.replace(base, **options)  # type: ignore[type-var]
    hints = get_type_hints(kind)
    for field in fields.values():
        check_value(f"method {name}: {field.name}", made, field, hints[field.name])
    return name, made


def preset_fields(kind: "type[Method[Any]]", preset: "Preset | None") -> Mapping[str, Any]:
    """Return the fields that a preset changes from the published defaults."""
    return {} if preset is None or preset == "published" else kind.presets.get(preset, {})


def check_value(what: str, method: "Method[Any]", field: Any, hint: Any) -> None:
    """Check a field: choices against the annotation's literals, numbers against its type and the class's bounds.

    Raises:
        PotstillError: the value is none of the choices, of another type, or out of bounds.
    """
    value, kinds = getattr(method, field.name), _alternatives(hint)
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    kinds = {kind for kind in kinds if get_origin(kind) is not Literal}
    if words and kinds <= {NoneType} and value not in words and (value is not None or not kinds):
        near = f"; {suggestion(value, words)}" if isinstance(value, str) and closest_names(value, words) else ""
        raise PotstillError(f"{what} must be one of {', '.join(map(str, words))}, not {value!r}{near}")
    if not kinds <= {int, float, NoneType} or (value is None and NoneType in kinds) or value in words:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (float in kinds or isinstance(value, int)):
        kind = " or ".join(["float" if float in kinds else "int", *words])
        raise PotstillError(f"{what} must be {kind}, not {value!r}")
    least: float = 0 if float in kinds or field.name in method.may_be_zero else 1
    if isinstance(field.default, int | float):
        least = min(least, field.default)  # what the author chose cannot be out of bounds
    most = 1 if field.name in method.fractions else math.inf
    above = field.name in method.positive
    if not least <= value <= most or (above and value == 0):
        bounds = "above 0" if above else f"at least {least}" if most == math.inf else f"from {least} to {most}"
        raise PotstillError(f"{what} must be {bounds}, but it is {value!r}; change it")


def _alternatives(hint: Any) -> set[Any]:
    """Return ``int | None`` as {int, NoneType}; anything but a union alone."""
    return set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
