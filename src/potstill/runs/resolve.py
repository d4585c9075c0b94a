"""Every choice of a run is made here, and checked against the data, before any work.

One function makes each decision and returns what it decided, with a line for the set's metadata where a default of the
method gave way to the data.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.import_from_file import source_digests
from potstill._util.outputs import input_files
from potstill.augment.names import augmentation_name, describe_dropped, load_augmentation, named_augmentation
from potstill.augment.zca import fit_normalization
from potstill.codecs import format_codec
from potstill.core import (
    Codec,
    InputSpec,
    Method,
    MethodInfo,
    Network,
    NetworkFactory,
    Preset,
    Problem,
    ReadsOtherData,
    ScoringMethod,
    SeriesData,
    Source,
    TargetDecoder,
    label_mode,
)
from potstill.core.nested import to_device
from potstill.core.registry import make_method
from potstill.data import TensorSource
from potstill.dataset_file import Distilled, load
from potstill.dataset_file.dataset import format_shape
from potstill.dataset_file.scores import Scores, read_scores
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.dataset_file.text_io import has_texts
from potstill.errors import PotstillError
from potstill.execution.memory import keep_freed_memory, return_freed_memory
from potstill.kinds import get_kind, is_of_kinds
from potstill.nn import CustomFactory, CustomNetwork, default_network_name, factory_for, parse_network
from potstill.nn.pretrained import is_backbone
from potstill.parametrize._shared import ReducedResolution
from potstill.parametrize.named_inputs import parse_parametrization, supports_input
from potstill.parametrize.quantization_aware import QuantizationAware
from potstill.pretraining.build import check_provided_assets, without_decoder
from potstill.runs.arguments import parse_preset
from potstill.runs.bound_parametrization import bind_to_data, suits_rows, without_labels
from potstill.runs.budget import allocate_budget, describe_proportions, quantization_aware, resolve_codec
from potstill.runs.class_shards import check_shards
from potstill.runs.load_data import as_splits, pick_device
from potstill.runs.presets import changed_fields
from potstill.runs.real_weights import parse_real_weights, weigh_real_samples
from potstill.runs.regularizer import add_regularizer, parse_regularizer
from potstill.runs.spec import RunLimits, RunSpec
from potstill.tasks import Classification, PixelTask, get_task, is_coarse, is_ragged

__all__ = ["PARTS", "ResolvedRun", "resolve_run", "run_identity"]

PARTS = ("network", "augment", "parametrization", "labels")
"""The fields of a method that name a part, and that have a keyword of their own."""
_TRAINING = ("gradient", "trajectory", "performance", "decoupled")
"""Families of methods that train networks, but for closed forms."""


@dataclass(frozen=True, kw_only=True)
class ResolvedRun:
    """A run with every choice made, before it starts."""

    name: str
    """The method's load_augmentation name."""
    method: Method[Any]
    problem: Problem
    """Without the assets that the method asks for."""
    seed: int
    codec: Codec | None
    """Codec of the set; ``None``: the fewest bits that cost no accuracy, found when the set is made."""
    loader_notes: tuple[str, ...]
    """Decisions of the data loader."""
    reading: Mapping[str, Any]
    """Options by which the data were read (`potstill.core.Splits`)."""
    adjustments: tuple[str, ...]
    """Defaults that gave way to the data, one line each."""
    preset: Preset | None = None
    """``None``: the method was given as a value, with all of its fields."""
    changed: tuple[str, ...] = ()
    """Fields of the method that have other values than the preset's."""
    balance: str = "equal"
    """Division of the size budget among classes: ``natural`` or ``equal``."""
    zca: str | None = None
    real_weights: Mapping[str, Any] | None = None
    """Metadata on the weights by which real samples are drawn; ``None``: all equal."""
    class_shards: int | None = None
    scores: Scores | None = None
    """Scores to select by, in place of those that the method would make."""
    provided_assets: Mapping[str, Any] = field(default_factory=dict)
    """Assets in place of those that the method would make, by name."""
    initial: Mapping[str, str] | None = None
    """``method`` and ``hash`` of the earlier set that the run starts from."""
    max_bytes: int | None = None
    """Size budget in bytes; ``None``: the budget is a number of items."""
    count_decoder: bool = False
    """Bytes of shared decoders count against the size budget: ``max_bytes`` is without them."""
    planned_bytes: int | None = None
    """Bytes that its inputs are planned by, where these are not ``max_bytes``."""
    files: tuple[str, ...] = ()
    """Paths of the data and of the user's own files, which the set is never written over."""

    @property
    def notes(self) -> tuple[str, ...]:
        """All notes, as the set's metadata have them."""
        return (*self.loader_notes, *self.adjustments)


def resolve_run(spec: RunSpec, limits: RunLimits | None = None) -> ResolvedRun:
    """Return the run with every choice made.

    Args:
        limits: a preset that is not given is ``quick``, but ``published`` where the limits have a number of steps.

    Raises:
        PotstillError: a choice does not exist, does not fit together with others, or does not suit the data.
    """
    if spec.private is not None:
        raise PotstillError("only `potstill.distill` makes private sets; leave private out here, or call that")
    keep_freed_memory()
    preset = parse_preset(spec.preset, spec.method, None if limits is None else limits.steps)
    scores = read_scores(spec.scores) if isinstance(spec.scores, str | Path) else spec.scores
    inputs = spec.inputs
    if scores is not None:
        spec = _with_settings_of_scores(spec, scores)
    splits = as_splits(spec.data, pick_device(spec.device))
    return_freed_memory()
    train, budget = splits.train, spec.size_budget
    name, default = make_method(spec.method, spec.options, preset)
    method = _set_parts(name, default, train, spec)
    info, task = method.info, get_task(train)
    _check_suits(name, info, method, train)
    method, parametrization_notes = _resolve_parametrization(name, method, train, spec)
    if spec.zca is not None:
        train = _whiten(train, spec.zca)
    if budget.unit == "ipc" and not train.classes:
        raise PotstillError(
            f"{train.name} has no classes ({task.name}), so there are no items per class; say how many in all, with "
            f"`items={budget.amount}`"
        )
    decoder = parse_parametrization(getattr(method, "parametrization", None) or "pixels", train.input)
    decoder = bind_to_data(decoder, train)
    if isinstance(decoder, TargetDecoder):
        method = without_labels(name, method, spec)
    few = to_device(train.raw(torch.arange(min(len(train), 8))), "cpu")
    can_try = isinstance(task, Classification) and isinstance(few, Tensor)
    codec, sizing_codec = resolve_codec(spec.codec, budget, decoder, info.is_selection, few, can_try, has_texts(train))
    network = _resolve_network(name, method, train, spec)
    method, init_notes = _resolve_init(name, method, train, spec)
    problem = Problem(
        train=train,
        counts=(1,) * max(1, len(train.classes)),
        network=network,
        augment=named_augmentation(getattr(method, "augment", None) or "none", train),
        parametrization=decoder,
    )
    if spec.count_decoder:
        budget = without_decoder(budget, dataclasses.replace(problem, codec=codec))
    soft = info.soft_labels or label_mode(method) != "hard"
    scored_labels = label_mode(method) == "scores"
    planned = budget if spec.planned_bytes is None else dataclasses.replace(budget, amount=spec.planned_bytes)
    counts, numbers = allocate_budget(problem, planned, sizing_codec, info, soft, scores=scored_labels)
    rounding = quantization_aware(decoder, codec, info.is_selection)
    problem = dataclasses.replace(problem, counts=counts, value_budget=numbers, parametrization=rounding, codec=codec)
    notes = (
        *parametrization_notes,
        *init_notes,
        *_describe_network(name, default, method, train, spec),
        *_describe_omitted_augmentations(method, train),
        *describe_proportions(budget, problem, info),
    )
    if not info.is_selection:
        decoder.sizes(problem.values_per_class, train.input.shape)
    changed = () if preset is None else changed_fields(method, preset, spec)
    method, method_notes = method.resolve_defaults(problem)
    rule = parse_real_weights(spec.real_weights)
    problem, weighed = weigh_real_samples(rule, name, method, problem, spec.seed)
    problem = add_regularizer(parse_regularizer(spec.regularizer), name, method, problem)
    run = ResolvedRun(
        name=name, method=method, problem=problem, seed=spec.seed, codec=codec, loader_notes=splits.notes,
        reading=splits.reading, adjustments=(*notes, *method_notes), preset=preset, changed=changed,
        balance=budget.balance_name, zca=spec.zca, real_weights=weighed, class_shards=spec.class_shards, scores=scores,
        provided_assets=spec.provided_assets, max_bytes=budget.amount if budget.unit == "bytes" else None,
        count_decoder=spec.count_decoder, planned_bytes=spec.planned_bytes, files=(*splits.files, *input_files(inputs)),
    )  # fmt: skip
    check_provided_assets(name, method, problem, spec.provided_assets)
    if spec.class_shards is not None:
        check_shards(name, method, problem, spec.class_shards)
    if spec.initial is not None:
        run = _start_from(run, spec.initial if isinstance(spec.initial, Distilled) else load(spec.initial))
    return run


def run_identity(run: ResolvedRun) -> dict[str, Any]:
    """Return what decides the bits of a run besides steps and time: JSON values, for checkpoints and metadata."""
    problem, train = run.problem, run.problem.train
    rounding = problem.parametrization
    network = problem.network.definition.constructor if isinstance(problem.network, CustomFactory) else problem.network
    reader = getattr(train, "reader", None)
    other = run.method.other_data(problem) if isinstance(run.method, ReadsOtherData) else {}
    own_files = source_digests([run.method, network, train, reader, get_task(train), rounding, problem.augment])
    return {
        "method": run.name,
        "config": dataclasses.asdict(run.method),  # type: ignore[call-overload]
        "seed": run.seed,
        "counts": list(problem.counts),
        "numbers": list(problem.value_budget),  # two budgets in bytes can have equal counts
        "network": problem.network.name,
        "source": train.content_hash,
        **({} if train.input.horizontal_flip else {"mirrored": False}),
        "zca": run.zca,
        "balance": run.balance,
        **({} if run.planned_bytes is None else {"planned_bytes": run.planned_bytes}),
        **({} if run.real_weights is None else {"real_weights": dict(run.real_weights)}),
        **({} if problem.regularizer is None else {"regularizer": str(problem.regularizer)}),
        **(
            {"store": format_codec(rounding.codec), "learned": rounding.learned}
            if isinstance(rounding, QuantizationAware)
            else {}
        ),
        **({} if run.initial is None else {"initial": dict(run.initial)}),
        **({"own_files": own_files} if own_files else {}),
        **({"other_data": dict(other)} if other else {}),
    }


def _set_parts(name: str, method: Method[Any], train: Source, spec: RunSpec) -> Method[Any]:
    """Return the method with the parts that the spec names; network and augmentation give way to other data."""
    fields: Mapping[str, Any] = dataclasses.asdict(method)  # type: ignore[call-overload]
    network = parse_network(spec.network)
    requested = {
        "network": None if network is None else str(network), "augment": spec.augment,
        "parametrization": spec.parametrization, "labels": spec.labels,
    }  # fmt: skip
    changes: dict[str, str] = {}
    for part, value in requested.items():
        if part in fields:
            if value is not None:  # which is checked against the choices that the method names
                changes[part] = getattr(make_method(method, {part: value})[1], part)
        elif part == "labels" and value in (None, "soft" if method.info.soft_labels else "hard"):
            continue
        elif part != "network" and value is not None:
            raise PotstillError(f"method {name} has no {part} to choose, but {value!r} was requested; leave it out")
    if "network" in fields and network is None:
        default = fields["network"]
        # A frozen backbone takes images, too; one that differs from the class's default was asked for.
        frozen = default == _class_default(method, "network") and is_backbone(default)
        gives_way = default == "convnet" or (frozen and not get_kind(train.input).augmentable)
        changes["network"] = default_network_name(train.input, get_task(train)) if gives_way else default
    if "augment" in fields:
        kind = get_kind(train.input)
        augment = spec.augment or (fields["augment"] if kind.augmentable else kind.augment)
        changes["augment"] = augmentation_name(augment, train.input)
    return dataclasses.replace(method, **changes)  # type: ignore[type-var]


def _check_suits(name: str, info: MethodInfo, method: Method[Any], train: Source) -> None:
    """Check that the method does the source's task, and takes its kind of inputs."""
    task = get_task(train)
    if twice := [name for name, times in Counter(train.classes).items() if times > 1]:
        raise PotstillError(
            f"class names must differ, as draws are keyed by them, but {twice[0]!r} stands twice in {train.name}; give "
            "each class its own name"
        )
    if not {"*", task.name} & set(info.tasks):
        raise PotstillError(
            f"method {name} does {' and '.join(info.tasks)}, but {train.name} is {task.name}; `potstill methods` says "
            "what each does"
        )
    if get_kind(train.input).learner and task.name not in info.tasks and info.family in _TRAINING:
        raise PotstillError(
            f"method {name} trains networks, which do not train on {get_kind(train.input).noun} of {train.name}; take "
            f"one that does {task.name}, or a selection"
        )
    if is_ragged(task) and (info.soft_labels or label_mode(method) != "hard"):
        raise PotstillError(
            f"method {name} makes labels of its own, but the number of targets of {train.name} differs by sample; take "
            "one that keeps those of its samples, such as random or dm, with labels hard"
        )
    if isinstance(task, PixelTask) and (info.soft_labels or label_mode(method) != "hard"):
        raise PotstillError(
            f"method {name} makes labels of its own, but those of {train.name} are of pixels; take one that keeps "
            "those of its samples, such as random or dm, with labels hard"
        )
    if train.input.parts and not info.multi_input:
        names = ", ".join(part for part, _ in train.input.parts)
        raise PotstillError(
            f"method {name} takes inputs of one tensor, but those of {train.name} have names ({names}); `potstill "
            "methods` says which ones take such"
        )
    if not is_of_kinds(train.input, info.kinds):
        raise PotstillError(
            f"method {name} works on {' and '.join(info.kinds)} data, but this is {train.input.kind} data"
        )


def _resolve_parametrization(
    name: str, method: Method[Any], train: Source, spec: RunSpec
) -> tuple[Method[Any], tuple[str, ...]]:
    """Return the method with inputs stored as they are where its default parametrization stores another kind of input,
    or where its tiles or bases would have too few pixels.

    A method given as a value keeps a parametrization that differs from its class's default, and small tiles.
    """
    by_name = isinstance(spec.method, str)
    default = getattr(method, "parametrization", None)
    if spec.parametrization is not None or default is None:
        return method, ()
    if not by_name and default != _class_default(method, "parametrization"):
        return method, ()
    if default == "pixels" and suits_rows(train, spec):
        note = "parametrization rows: of each category one value is 1, as in the table; pixels leaves all of them free"
        return dataclasses.replace(method, parametrization="rows"), (note,)  # type: ignore[type-var]
    pixels: Method[Any] = dataclasses.replace(method, parametrization="pixels")  # type: ignore[type-var]
    if default.partition(":")[0] == "series" and not isinstance(train, SeriesData):
        return pixels, (f"parametrization pixels (windows as they are): those of {train.name} are of no one series",)
    if not supports_input(default, train.input):
        note = (
            f"parametrization pixels (inputs as they are): {default}, which {name} has by default, stores pictures, "
            f"and these are {get_kind(train.input).noun}"
        )
        return pixels, (note,)
    decoder = parse_parametrization(default, train.input)
    if not by_name or not get_kind(train.input).augmentable or not isinstance(decoder, ReducedResolution):
        return method, ()
    shape = train.input.shape
    cell = decoder.stored_size(shape)
    if min(cell) >= decoder.min_side:
        return method, ()
    note = (
        f"parametrization pixels: {default}, which {name} has by default, would keep pictures of {shape[1]} × "
        f"{shape[2]} pixels in cells of {cell[0]} × {cell[1]}, which costs more than the samples that it adds bring"
    )
    return pixels, (note,)


def _resolve_network(name: str, method: Method[Any], train: Source, spec: RunSpec) -> NetworkFactory:
    """Return the factory of the network that the spec or the method names, or of the default for the data."""
    network = parse_network(spec.network) or getattr(method, "network", None)
    if network is None and train.input.parts and default_network_name(train.input) == "mlp":
        return NoNetwork(train.input, train.device)
    make = factory_for(network or default_network_name(train.input, get_task(train)), train)
    differentiates = method.info.family in ("gradient", "trajectory")
    if differentiates and isinstance(make, CustomFactory) and make.second_order_error is not None:
        raise PotstillError(
            f"method {name} differentiates gradients, but those of network {make.name} cannot be "
            f"({make.second_order_error}); choose dm, or another network"
        )
    return make


def _describe_network(
    name: str, default: Method[Any], method: Method[Any], train: Source, spec: RunSpec
) -> tuple[str, ...]:
    before, after = getattr(default, "network", None), getattr(method, "network", None)
    if before == after or parse_network(spec.network) is not None:
        return ()
    why = f"takes pictures, and these are {get_kind(train.input).noun}"
    if isinstance(get_task(train), PixelTask):
        what = "boxes need one for each place" if is_coarse(get_task(train)) else "this task needs one for each pixel"
        why = f"has one answer for a whole picture, and {what}"
    return (f"network {after}: {before}, which {name} has by default, {why}",)


def _resolve_init(name: str, method: Method[Any], train: Source, spec: RunSpec) -> tuple[Method[Any], tuple[str, ...]]:
    """Return the method with real samples to start from where noise, its default, has no targets of the task."""
    if getattr(method, "init_from", None) != "noise" or train.classes or "init_from" in spec.options:
        return method, ()
    note = f"start real: noise, which {name} has by default, has no targets of {get_task(train).name}"
    return dataclasses.replace(method, init_from="real"), (note,)  # type: ignore[type-var]


def _describe_omitted_augmentations(method: Method[Any], train: Source) -> tuple[str, ...]:
    """Return a line for each transform that is left out because the task's targets would be wrong."""
    fields: Mapping[str, Any] = dataclasses.asdict(method)  # type: ignore[call-overload]
    names = dict.fromkeys(str(value) for key, value in fields.items() if key.startswith("augment"))
    notes = (describe_dropped(name, load_augmentation(name, train), train) for name in names)
    return tuple(note for note in notes if note is not None)


def _start_from(run: ResolvedRun, earlier: Distilled) -> ResolvedRun:
    """Return the run that starts from an earlier set's decoded inputs.

    Classes are matched by name. Of a class with more inputs the first are taken; what is missing the method
    initializes.
    """
    problem, x = run.problem, earlier.inputs
    spec, classes = problem.train.input, problem.train.classes
    fits = isinstance(x, Tensor) and x.shape[1:] == spec.shape
    why = ""
    init_from = getattr(run.method, "init_from", None)
    if init_from is None:
        why = f"{run.name} has no init to choose"
    elif earlier.input.kind != spec.kind or not fits:
        found = f"{earlier.input.kind} {format_shape(earlier.input)}"
        why = f"its inputs are {found}, but the data's are {spec.kind} {format_shape(spec)}"
    elif not classes or not earlier.is_classification:
        why = f"inputs are matched by class, but {'its' if classes else 'these'} targets are no classes"
    elif not set(classes) & set(earlier.classes):
        why = f"it has none of the classes {', '.join(classes[:5])}{' …' if len(classes) > 5 else ''}"
    if why or not isinstance(x, Tensor):
        raise PotstillError(f"a run cannot start from this set: {why}; leave initial out, or give one that fits")
    taken, rows = [torch.zeros(0, dtype=torch.int64)], []
    labels, start = earlier.hard_labels, 0
    for name, size in zip(classes, problem.sizes, strict=True):
        if name in earlier.classes:
            first = torch.nonzero(labels == earlier.classes.index(name)).flatten()[:size]
            taken.append(first)
            rows.append(start + torch.arange(len(first)))
        start += size
    chosen, filled = torch.cat(taken), start - sum(map(len, taken))
    if not len(chosen):
        raise PotstillError(
            "a run cannot start from this set: it has no inputs of the data's classes; leave initial out, or give one "
            "that fits"
        )
    notes = []
    if filled:
        notes.append(f"{filled} of {start} inputs are not in the initial set: init_from={init_from!r} makes them")
    if dropped := len(x) - len(chosen):
        notes.append(f"{dropped} of {len(x)} inputs of the initial set have no place in this one: the first are taken")
    initial = {"method": str(earlier.metadata["method"]), "hash": hash_tensors({"inputs": x, "labels": earlier.labels})}
    problem = dataclasses.replace(problem, initial=x[chosen], initial_rows=torch.cat(rows) if filled else None)
    return dataclasses.replace(run, problem=problem, initial=initial, adjustments=(*run.adjustments, *notes))


def _with_settings_of_scores(spec: RunSpec, scores: Scores) -> RunSpec:
    """Return the spec with the network, augmentation and fields that the scores were made with."""
    name, method = make_method(spec.method, {})
    if not isinstance(method, ScoringMethod):
        raise PotstillError(f"method {name} does not select by scores; leave the scores out, or choose one that does")
    if name not in scores.methods:
        raise PotstillError(
            f"these scores are of {', '.join(scores.methods)}, not of {name}; choose one of them, or make them with "
            f"potstill score --methods {name}"
        )
    if spec.zca is not None:
        raise PotstillError("scores are made on inputs that are not whitened; leave zca out")
    config, network = scores.methods[name].config, parse_network(spec.network)
    is_own = isinstance(network, CustomNetwork)
    requested = {"network": str(network) if is_own else spec.network, "augment": spec.augment, **spec.options}
    if not isinstance(spec.method, str):
        requested |= {n: getattr(method, n) for n in config if n not in PARTS and n not in spec.options}
    for option, value in requested.items():
        if value is not None and option in config and value != config[option]:
            raise PotstillError(
                f"these scores were made with {option} {config[option]!r}, but {value!r} is requested; leave it out, "
                "or score again"
            )
    fields = {n: value for n, value in config.items() if n not in PARTS}
    return dataclasses.replace(
        spec, network=network if is_own else config.get("network", spec.network),
        augment=config.get("augment", spec.augment), options={**fields, **spec.options},
    )  # fmt: skip


def _whiten(train: Source, family: str) -> Source:
    """Return the source with a whitening fitted on all its inputs in place of its normalization."""
    inputs = train.raw(torch.arange(len(train))) if isinstance(train, TensorSource) else None
    if not isinstance(inputs, Tensor) or not isinstance(train, TensorSource):
        raise PotstillError("whitening needs inputs of one tensor that are held in memory; leave zca out for these")
    return dataclasses.replace(train, normalization=fit_normalization(inputs, family))


def _class_default(method: Method[Any], name: str) -> Any:
    return {field.name: field.default for field in dataclasses.fields(method)}[name]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class NoNetwork:
    """Stands for the network of inputs with names where none is given; to build it is an error."""

    input: InputSpec
    device: torch.device

    @property
    def name(self) -> str:
        return "none"

    def __call__(self, seed: int, /) -> Network:
        """
        Raises:
            PotstillError: always.
        """
        names = ", ".join(part for part, _ in self.input.parts)
        raise PotstillError(f"inputs with names ({names}) need a network of their own; name one with `network=`")
