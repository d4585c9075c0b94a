"""Registry of parts: ``module:attribute`` by name, imported at first use.

Packages add entries under the entry point groups ``potstill.GROUP`` for every group of `Group`.
"""

import dataclasses
import functools
import importlib
import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from potstill._util.import_from_file import FileReference, is_file_reference
from potstill.core.bounds import bounds_of
from potstill.errors import PotstillError, closest_names, suggestion, unknown_name

if TYPE_CHECKING:  # names are known without torch
    from potstill.core import Method, Preset

__all__ = [
    "NETWORK_FAMILIES",
    "Group",
    "check_value",
    "create",
    "get_method_class",
    "make_method",
    "names",
    "preset_fields",
    "resolve",
    "targets",
    "with_settings",
]

Group = Literal[
    "methods", "networks", "augmentations", "parametrizations", "protocols", "codecs", "learners", "tasks", "loaders",
    "executors", "kinds",
]  # fmt: skip

_PATHS: dict[Group, dict[str, str]] = {
    "methods": {
        "random": "methods.selection.random:Random", "herding": "methods.selection.herding:Herding",
        "k-center": "methods.selection.k_center:KCenter", "k-means": "methods.selection.k_means:KMeans",
        "stratified": "methods.selection.stratified:Stratified", "k-median": "methods.selection.k_median:KMedian",
        "knn-graph": "methods.selection.knn_graph:KNNGraph",
        "facility-location": "methods.selection.facility_location:FacilityLocation",
        "graph-cut": "methods.selection.graph_cut:GraphCut",
        "contextual-diversity": "methods.selection.contextual_diversity:ContextualDiversity",
        "moderate": "methods.selection.moderate:Moderate", "zcore": "methods.selection.zcore:ZCore",
        "random-soft": "methods.selection.random_soft:RandomSoft", "real": "methods.selection.real:Real",
        "least-confidence": "methods.selection.least_confidence:LeastConfidence",
        "entropy": "methods.selection.entropy:Entropy", "margin": "methods.selection.margin:Margin",
        "forgetting": "methods.selection.forgetting:Forgetting", "el2n": "methods.selection.el2n:EL2N",
        "grand": "methods.selection.grand:GraNd", "aum": "methods.selection.aum:AUM",
        "cartography": "methods.selection.cartography:Cartography", "dyn-unc": "methods.selection.dyn_unc:DynUnc",
        "tdds": "methods.selection.tdds:TDDS", "ccs": "methods.selection.ccs:CCS",
        "irt": "methods.selection.irt:IRT", "glicko": "methods.selection.glicko:Glicko",
        "craig": "methods.selection.craig:CRAIG",
        "grad-match": "methods.selection.grad_match:GradMatch",
        "less": "methods.selection.less:LESS",
        "glister": "methods.selection.glister:GLISTER",
        "most-active": "methods.selection.most_active:MostActive",
        "balanced-masks": "methods.selection.balanced_masks:BalancedMasks",
        "balanced-boxes": "methods.selection.balanced_boxes:BalancedBoxes", "dc": "methods.gradient.dc:DC",
        "dsa": "methods.gradient.dsa:DSA", "idc": "methods.gradient.idc:IDC", "dream": "methods.gradient.dream:DREAM",
        "lgm": "methods.gradient.lgm:LGM", "mtt": "methods.trajectory.mtt:MTT",
        "tesla": "methods.trajectory.tesla:TESLA", "ftd": "methods.trajectory.ftd:FTD",
        "att": "methods.trajectory.att:ATT", "datm": "methods.trajectory.datm:DATM",
        "pad": "methods.trajectory.pad:PAD",
        "condtsf": "methods.trajectory.condtsf:CondTSF", "hdt": "methods.trajectory.hdt:HDT",
        "vl-distill": "methods.trajectory.vl_distill:VLDistill", "lors": "methods.trajectory.lors:LoRS",
        "prototypes": "methods.selection.prototypes:Prototypes",
        "dm": "methods.distribution.dm:DM",
        "cafe": "methods.distribution.cafe:CAFE", "idm": "methods.distribution.idm:IDM",
        "datadam": "methods.distribution.datadam:DataDAM", "m3d": "methods.distribution.m3d:M3D",
        "ncfm": "methods.distribution.ncfm:NCFM", "dance": "methods.distribution.dance:DANCE",
        "dsdm": "methods.distribution.dsdm:DSDM", "covmatch": "methods.distribution.covmatch:CovMatch",
        "dd": "methods.performance.dd:DD", "ld": "methods.performance.ld:LD",
        "remember": "methods.performance.remember:Remember", "rat-bptt": "methods.performance.rat_bptt:RaTBPTT",
        "at-bptt": "methods.performance.at_bptt:ATBPTT", "kip": "methods.performance.kip:KIP",
        "frepo": "methods.performance.frepo:FRePo", "rfad": "methods.performance.rfad:RFAD",
        "rcig": "methods.performance.rcig:RCIG", "krr-st": "methods.performance.krr_st:KRRST",
        "distill-cf": "methods.performance.distill_cf:DistillCF",
        "sre2l": "methods.decoupled.sre2l:SRe2L",
        "cda": "methods.decoupled.cda:CDA", "sre2l++": "methods.decoupled.sre2l:SRe2LPlus",
        "cv-dd": "methods.decoupled.cv_dd:CVDD", "g-vbsm": "methods.decoupled.g_vbsm:GVBSM",
        "edc": "methods.decoupled.edc:EDC", "fadrm": "methods.decoupled.fadrm:FADRM",
        "delt": "methods.decoupled.delt:DELT", "dwa": "methods.decoupled.dwa:DWA",
        "lpld": "methods.decoupled.lpld:LPLD", "wmdd": "methods.decoupled.wmdd:WMDD",
        "canvas-packing": "methods.decoupled.canvas_packing:CanvasPacking",
        "ufc": "methods.decoupled.ufc:UFC", "rded": "methods.decoupled.rded:RDED", "cim": "methods.decoupled.cim:CIM",
        "dq": "methods.decoupled.dq:DQ",
        "d4m": "methods.generative.d4m:D4M", "minimax": "methods.generative.minimax:Minimax",
        "mgd3": "methods.generative.mgd3:MGD3",
        "diffusion-samples": "methods.generative.diffusion_samples:DiffusionSamples",
    },
    "networks": {},  # built-in networks have a grammar: potstill.nn.registry
    "augmentations": {
        "none": "augment.siamese:none", "dsa": "augment.siamese:dsa", "dsa-noflip": "augment.siamese:dsa_noflip",
        "flip-rotate": "augment.siamese:flip_rotate", "rotate": "augment.siamese:rotate", "idc": "augment.idc:idc",
        "idc-eval": "augment.idc:idc_eval", "idc-eval-noflip": "augment.idc:idc_eval_noflip", "cim": "augment.idc:cim",
        "cim-noflip": "augment.idc:cim_noflip", "flip": "augment.crop:flip", "rrc": "augment.crop:rrc",
        "rrc-noflip": "augment.crop:rrc_noflip", "pad-crop": "augment.crop:pad_crop",
        "pad-crop-noflip": "augment.crop:pad_crop_noflip", "patches": "augment.crop:patches",
        "patches-noflip": "augment.crop:patches_noflip", "series": "augment.series:series",
    },
    "parametrizations": {
        "pixels": "parametrize.pixels:Pixels", "tiles": "parametrize.tiles:Tiles",
        "memory": "parametrize.memory:Memory", "frequency": "parametrize.frequency:Frequency",
        "shared-frequency": "parametrize.shared_frequency:SharedFrequency",
        "hallucinator": "parametrize.hallucinator:Hallucinator", "field": "parametrize.field:Field",
        "compensators": "parametrize.compensators:Compensators", "small": "parametrize.low_resolution:LowResolution",
        "motion": "parametrize.motion:Motion",
        "basis": "pretraining.basis:Basis", "latents": "pretraining.latents:Latents",
        "generator": "pretraining.stored_generator:StoredGenerator",
        "nearest-text": "parametrize.nearest_text:NearestText",
        "series": "parametrize.series:Series", "shapelets": "parametrize.shapelets:Shapelets",
        "rows": "parametrize.rows:Rows", "multi-hot": "parametrize.multi_hot:MultiHot",
        "learned-graph": "parametrize.learned_graph:LearnedGraph",
    },
    "protocols": {
        "potstill": "evaluation.protocols:POTSTILL", "dc": "evaluation.protocols:DC", "dsa": "evaluation.protocols:DSA",
        "idc": "evaluation.protocols:IDC", "ncfm": "evaluation.protocols:NCFM",
        "datadam": "evaluation.protocols:DATADAM", "sre2l": "evaluation.protocols:SRE2L",
        "sre2l-cifar": "evaluation.protocols:SRE2L_CIFAR", "rded": "evaluation.protocols:RDED",
        "cda": "evaluation.protocols:CDA", "edc": "evaluation.protocols:EDC",
        "datm-soft": "evaluation.protocols:DATM_SOFT", "no-distillation": "evaluation.protocols:NO_DISTILLATION",
        "mtt": "evaluation.protocols:MTT", "datm": "evaluation.protocols:DATM", "frepo": "evaluation.protocols:FREPO",
        "rat-bptt": "evaluation.protocols:RAT_BPTT", "kip": "evaluation.protocols:KIP",
        "remember": "evaluation.protocols:REMEMBER",
    },
    "codecs": {
        "float": "codecs.exact:Float", "exact": "codecs.exact:Exact", "uniform": "codecs.uniform:Uniform",
        "half": "codecs.downsample:Downsample", "mosaic": "codecs.mosaic:Mosaic", "apot": "codecs.apot:APoT",
        "step": "codecs.step:Step", "patches": "codecs.patches:Patches", "palette": "codecs.palette:Palette",
        "basis": "pretraining.basis:BasisCodec", "cosine": "codecs.cosine:Cosine",
        "columns": "codecs.columns:Columns", "texts": "codecs.texts:Texts",
    },
    "learners": {
        "linear-model": "evaluation.learners:LinearModel", "forest": "evaluation.learners:Forest",
        "ridge": "evaluation.learners:Ridge", "krr-ntk": "evaluation.learners:KrrNtk",
        "nngp": "evaluation.learners:Nngp", "ridge-features": "evaluation.learners:RidgeFeatures",
        "neighbours": "evaluation.table_learners:Neighbours", "boosting": "evaluation.table_learners:Boosting",
        "xgboost": "evaluation.table_learners:XGBoost", "lightgbm": "evaluation.table_learners:LightGBM",
        "cox": "evaluation.survival_learners:Cox", "xgboost-cox": "evaluation.survival_learners:XGBoostCox",
        "minirocket": "evaluation.series_learners:MiniRocketRidge",
        "band-statistics": "evaluation.sound_learners:BandStatistics",
        "tfidf": "evaluation.text_learners:Tfidf", "text-cnn": "evaluation.text_learners:TextCnn",
        "gcn": "evaluation.node_learners:GCN", "sgc": "evaluation.node_learners:SGC",
        "gat": "evaluation.node_learners:GAT", "node-mlp": "evaluation.node_learners:NodeMLP",
        "graph-forest": "evaluation.graph_learners:GraphForest",
        "ntk-autoencoder": "evaluation.rating_learners:NtkAutoencoder",
        "item-ridge": "evaluation.rating_learners:ItemRidge",
        "mult-autoencoder": "evaluation.rating_learners:MultAutoencoder",
    },
    "tasks": {
        "classification": "tasks.classification:Classification", "detection": "tasks.detection:ObjectDetection",
        "regression": "tasks.regression:Regression",
        "forecast": "tasks.forecast:Forecast", "retrieval": "tasks.retrieval:Retrieval",
        "multi-label": "tasks.multi_label:MultiLabel",
        "recommendation": "tasks.recommendation:Recommendation",
        "segmentation": "tasks.segmentation:Segmentation",
        "pixel-regression": "tasks.pixel_regression:PixelRegression", "survival": "tasks.survival:Survival",
    },
    "loaders": {  # by the task whose data they read
        "table/regression": "data.regression:read_regression", "series/forecast": "data.series:read_series",
        "pair/retrieval": "data.pairs:read_pairs", "table/multi-label": "data.multi_label:read_multi_label",
        "node/classification": "data.graphs:read_graph", "table/survival": "data.survival:read_survival",
        "graph/classification": "data.graph_sets:read_graph_set",
        "series/classification": "data.classified_series:read_classified_series",
        "ratings/recommendation": "data.ratings:read_ratings", "sound/classification": "data.sounds:read_sounds",
        "video/classification": "data.clips:read_clips",
        "image/segmentation": "data.masks:read_masks", "image/detection": "data.boxes:read_boxes",
        "image/pixel-regression": "data.pixel_values:read_pixel_values",
    },
    "executors": {
        "serial": "execution.executor:Serial", "processes": "execution.processes:Processes",
        "ray": "execution.ray_cluster:Ray",
    },
    "kinds": {
        "image": "kinds.kind:IMAGE", "table": "kinds.kind:TABLE", "series": "kinds.kind:SERIES",
        "pair": "kinds.kind:PAIR", "waves": "kinds.kind:WAVES", "texts": "kinds.kind:TEXTS",
        "signal": "kinds.kind:SIGNAL", "text": "kinds.kind:TEXT", "node": "kinds.kind:NODE",
        "graph": "kinds.kind:GRAPH",
        "ratings": "kinds.kind:RATINGS", "sound": "kinds.kind:SOUND",
    },
}  # fmt: skip
"""Built-in parts, as ``module:attribute`` below ``potstill``."""
_BUILTIN = {group: {name: f"potstill.{path}" for name, path in paths.items()} for group, paths in _PATHS.items()}

NETWORK_FAMILIES = (
    "convnet", "mlp", "linear", "lenet", "alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "resnet18", "resnet34",
    "resnet50", "vit", "towers", "convnet1d", "fcn", "inceptiontime", "dlinear", "unet", "fcn2d", "centernet",
    "gin", "graphgcn",
)  # fmt: skip
"""First words of the names of built-in networks, which have a grammar: `potstill.nn.registry`."""
_SAME_NAMESPACE: Mapping[Group, tuple[Group, ...]] = {"networks": ("learners",), "learners": ("networks",)}
"""Groups that share their names, as one option names students of either."""


def _named(group: Group) -> set[str]:
    """Return every name of a group, with built-in networks by their family."""
    return {*_BUILTIN[group], *_outside(group), *(NETWORK_FAMILIES if group == "networks" else ())}


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
    for each in (group, *_SAME_NAMESPACE.get(group, ())):
        others = (name for other in _SAME_NAMESPACE.get(each, ()) for name in _named(other))
        taken = {*_BUILTIN[each], *(NETWORK_FAMILIES if each == "networks" else ()), *others}
        if clash := sorted(taken.intersection(_outside(each))):
            raise PotstillError(
                f"an installed package registers {each} under the taken name {clash[0]!r}; rename its entry point"
            )
    return _BUILTIN[group] | _outside(group)


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
    return with_settings(f"{group[:-1]} {name}", resolve(group, name), settings)


def with_settings(what: str, make: Callable[..., Any], settings: str) -> Any:
    """Return a dataclass made with settings such as ``factor=3,width=2``; values are read as the type of the default.

    Args:
        what: what it is, in messages.
        make: the dataclass, or a function without settings.
        settings: the text; empty: none.

    Raises:
        PotstillError: no such setting, or a value of another type.
    """
    if not settings:
        return make()
    defaults = _defaults(make)
    if defaults is None:
        raise PotstillError(f"{what} has no settings, but {settings!r} was given; leave it out")
    values: dict[str, Any] = {}
    for setting in settings.split(","):
        key, equals, text = setting.partition("=")
        if key not in defaults:
            raise PotstillError(f"{what}: {unknown_name('setting', key, defaults)}")
        kind = type(defaults[key])
        try:
            values[key] = {"True": True, "False": False}[text.capitalize()] if kind is bool else kind(text)
        except (ValueError, KeyError) as error:
            raise PotstillError(f"{what}: {key} must be {kind.__name__}, not {text!r}") from error
        if not equals:
            raise PotstillError(f"{what}: write {key}=VALUE, not {setting!r}")
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
            f"method {name} must be a frozen dataclass that inherits from potstill.core.Method; docs/extend/method.md "
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
    hints = get_type_hints(kind, include_extras=True)
    for field in fields.values():
        value = getattr(made, field.name)
        check_value(f"method {name}: {field.name}", value, hints[field.name], field.default)
    return name, made


def preset_fields(kind: "type[Method[Any]]", preset: "Preset | None") -> Mapping[str, Any]:
    """Return the fields that a preset changes from the published defaults."""
    return {} if preset is None or preset == "published" else kind.presets.get(preset, {})


def check_value(what: str, value: Any, hint: Any, default: Any) -> None:
    """Check a field's value: choices against the literals of its type, numbers against `potstill.core.bounds`.

    Args:
        what: the field, in messages.
        hint: its type, with annotations.

    Raises:
        PotstillError: the value is none of the choices, of another type, or out of bounds.
    """
    kinds = _alternatives(hint)
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
    bounds = bounds_of(hint, default)
    if bounds is not None and value not in bounds:
        raise PotstillError(f"{what} must be {bounds}, but it is {value!r}; change it")


def _alternatives(hint: Any) -> set[Any]:
    """Return ``int | None`` as {int, NoneType}, without annotations; anything but a union alone."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return {get_args(member)[0] if get_origin(member) is Annotated else member for member in members}
