"""Forecast of a distillation before it starts: choices, size of the set, cost of a step, memory.

The first state is that of the run. Parts of a step are run for a few classes (`potstill.execution.step_memory`), from
which `potstill.execution.peak` predicts the memory of the whole.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from potstill._util.progress import ProgressReporter
from potstill._util.time_limit import TimeLimit
from potstill.automl.network_labels import NETWORK_LABELS, parse_network_labels, split_budget
from potstill.codecs import (
    format_codec,
)
from potstill.core import (
    Method,
    Problem,
    Result,
    Selection,
    StepCost,
    label_mode,
)
from potstill.core.nested import named_tensors, zeros_like_spec
from potstill.dataset_file import pack_state
from potstill.dataset_file.labeller_io import LABELLER
from potstill.dataset_file.text_io import (
    charged_bytes,
)
from potstill.errors import PotstillError
from potstill.evaluation.model_baseline import MODEL
from potstill.execution import Executor, Serial, choose_executor, resolve_executor
from potstill.execution.memory import peak_memory, resident_memory, return_freed_memory
from potstill.execution.peak import MemoryEstimate, MemoryInputs, PartMemory, predict_memory
from potstill.execution.step_memory import measure_part, peak_bytes, tensor_bytes
from potstill.planning.estimates import Estimates, ModelForecast, forecast_model
from potstill.planning.set_bytes import count_bytes, stored_tensors
from potstill.planning.step_timing import StepTiming, estimate_step_seconds, summarize_timing, time_steps
from potstill.pretraining import estimate_time, required_assets
from potstill.pretraining.build import asset_context, decoder_bytes
from potstill.rng import generator
from potstill.runs.arguments import parse_baselines, progress_context
from potstill.runs.fill import resolve_for_plan
from potstill.runs.resolve import ResolvedRun
from potstill.runs.spec import RunLimits, RunSpec

__all__ = ["ModelForecast", "Passes", "Plan", "RequiredAsset", "StepTiming", "plan", "with_placeholders"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Samples that pass a network in a step."""

    what: str
    samples: int
    """In a step."""
    at_once: int
    """Samples in one pass, at most."""
    real: bool
    every: int
    """Steps that they serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredAsset:
    """Trained networks that a method asks for."""

    name: str
    count: int
    cached: int
    recipe: Mapping[str, float | int | str]
    seconds: float = 0.0
    """That training the others will take, where that was measured."""
    provided: bool = False
    """The user provides them, so none is trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Choices and forecast of a distillation, as `potstill.plan` returns it; ``str(plan)`` is a table.

    Examples:
        >>> plan = potstill.plan("digits", "herding", ipc=1)
        >>> plan.inputs, plan.bytes["total"] > 0
        (10, True)
    """

    method: str
    """Name of the method."""
    config: Mapping[str, Any]
    """Fields of the method by name."""
    network: str
    """Network to distil with."""
    parametrization: str
    """Form in which inputs are stored and optimised."""
    labels: str
    """Labels in the file: ``hard``, ``soft``, ``learned`` or ``scores``."""
    augment: str
    """Augmentation while distilling."""
    device: str
    """Device of the run."""
    source: str
    """Name of the data."""
    samples: int
    """Real samples of the training split."""
    shape: tuple[int, ...]
    """Shape of one input."""
    kind: str
    """Kind of the inputs."""
    classes: int
    """Number of classes; 0: the task has none."""
    inputs: int
    """Decoded inputs of the set."""
    per_class: tuple[int, int]
    """Least and most decoded inputs of a class."""
    bytes: Mapping[str, int]
    """Bytes of the file's tensors: inputs, labels, decoder, index, weights, whitening; and total."""
    codec: str
    """Name of the codec; ``auto``: chosen at the end, and ``bytes`` are those at 8 bits."""
    method_steps: int | None
    """Steps of the method as it is set, where their number is known."""
    steps: int | None
    """Steps that the run will make, if no time limit ends it before."""
    preset: str | None
    """``None``: the method was given as a value, with all of its fields."""
    changed: tuple[str, ...]
    """Fields of the method that have other values than the preset's."""
    passes: tuple[Passes, ...] | None
    """``None``: the method does not say."""
    networks: tuple[RequiredAsset, ...]
    """Networks that are trained first."""
    memory: MemoryEstimate | None
    """On the CPU, of methods that say what a step consists of."""
    measured: StepTiming | None
    """Timed steps; ``None``: none were made."""
    rough: float | None
    """Seconds of all steps by counted operations alone, within a factor of a few; ``None`` on a GPU and of methods that
    do not say what passes a network."""
    notes: tuple[str, ...]
    """Notes of the loader and of the method."""
    shared_decoder_bytes: int = 0
    """Bytes of what the set decodes by and its file lacks, such as a generator; they are no part of ``bytes``."""
    model: ModelForecast | None = None
    """Cost of a model of the same bytes, which `potstill.evaluate` measures; ``None``: not requested."""

    @property
    def seconds(self) -> float | None:
        """Seconds of the whole run, networks that are trained first included; ``None`` where not known."""
        if self.measured is None or self.measured.forecast is None:
            return None
        return self.measured.forecast + sum(n.seconds for n in self.networks)

    @property
    def real_per_step(self) -> int | None:
        """Real samples that a step reads, on average over the steps that a pass serves."""
        return None if self.passes is None else sum(p.samples // p.every for p in self.passes if p.real)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values.

        Returns:
            Every field by name, with ``real_per_step`` and ``seconds``.
        """
        value: dict[str, Any] = dataclasses.asdict(self)
        value |= {"real_per_step": self.real_per_step, "seconds": self.seconds}
        if (m := self.memory) is not None:
            value["memory"] |= {"peak": m.peak, "largest": m.largest.name, "spare": dataclasses.asdict(m.spare)}
        return value


def plan(
    data: Any,
    method: str | Method[Any] = "dm",
    *,
    steps: int | None = None,
    time_limit: str | float | TimeLimit | None = None,
    executor: Executor | str | None = None,
    profile_steps: int | None = None,
    progress: ProgressReporter | Literal["auto"] | None = None,
    baselines: Sequence[str] | str = (),
    **options: Any,
) -> Plan:
    """Forecast the time, memory and bytes of `potstill.distill` with the same arguments.

    The memory is that of a process that loads these data and distils, as this one has. Call it before other work: what
    the process holds besides is counted too.

    Args:
        data: as for `potstill.distill`.
        method: a registered name or a method as a value, as for `potstill.distill`, but not ``auto``.
        steps: largest number of steps. Default: all steps of the method.
        time_limit: time limit of the run, as for `potstill.distill`. Default: none.
        executor: where jobs will run, as for `potstill.distill`. Default: as many processes as help.
        profile_steps: real steps to run and time, at least 0, after one that is not timed; 0: none. Default: as many as
            five seconds hold, within 20 seconds in all, and none where one is expected to take over a minute. Networks
            that must be trained first are not trained; two batches of that are timed.
        progress: ``auto``: estimates on stderr as they get better, a rough one first; ``None``: silent.
        baselines: ``model``: also time a few updates of small networks, and say what the baseline of that name of
            `potstill.evaluate` and `potstill.compare` will cost. Default: none.
        **options: fields of `potstill.RunSpec` (``ipc``, ``network``, ``codec``, …) and of the method.

    Returns:
        The plan: choices, ``steps``, ``seconds``, ``bytes``, ``memory`` and the networks that must be trained first.

    Raises:
        PotstillError: an argument that `potstill.distill` would refuse, or a negative ``profile_steps``.

    Examples:
        >>> plan = potstill.plan("digits", "dm", ipc=1, profile_steps=0)
        >>> plan.inputs, plan.bytes["inputs"]
        (10, 644)
    """
    if profile_steps is not None and profile_steps < 0:
        raise PotstillError(f"the number of steps to profile must be at least 0, not {profile_steps}; leave it out")
    extra = parse_baselines(baselines)
    if method == "auto":
        raise PotstillError(
            "a plan is of one method, but auto tries several and takes the time that `time_limit=` gives it, five "
            "minutes where it gives none; name the method to plan"
        )
    executor, spec = resolve_executor(executor), RunSpec.from_options(data, method, options)
    network = 0
    if parse_network_labels(spec.labels) is not None:
        spec, network = split_budget(spec)
    run = resolve_for_plan(spec, RunLimits(steps=steps, time_limit=time_limit))
    train = run.problem.train
    assert train.content_hash  # computed by every run: reads all data once
    loading = peak_memory()
    with progress_context(progress) as reporter:
        estimates = Estimates(reporter, profile_steps)
        first_state = _inspect_first_state(run, steps, executor, estimates)
        return_freed_memory()
        memory = None
        if train.device.type == "cpu" and first_state.counts is not None:
            counts = dataclasses.replace(first_state.counts, loading=loading, resident=resident_memory())
            memory = predict_memory(counts)
        # Only now: what steps leave behind would be counted as held.
        timed, around = ((), 1) if profile_steps == 0 else time_steps(
            run.name, run.method, with_placeholders(run)[0], run.seed, max_steps=steps, measure=profile_steps,
            rough=first_state.rough, on_first_step=lambda seconds: estimates.show_timed(first_state.steps, seconds),
        )  # fmt: skip
        networks = first_state.networks if profile_steps == 0 else _with_seconds(run, first_state.networks, executor)
    found = _summarize(run, first_state, networks, memory, summarize_timing(timed, around, first_state.steps))
    if network:
        sizes = {**found.bytes, LABELLER: network, "total": found.bytes["total"] + network}
        note = "a network in the file labels views; its training, before the inputs are made, is not in the seconds"
        found = dataclasses.replace(found, labels=NETWORK_LABELS, bytes=sizes, notes=(*found.notes, note))
    if MODEL not in extra:
        return found
    stored = charged_bytes(found.bytes)
    return dataclasses.replace(
        found, model=forecast_model(train, stored if run.max_bytes is None else run.max_bytes + network)
    )


def _summarize(
    run: ResolvedRun, first_state: "_FirstState", networks: tuple[RequiredAsset, ...], memory: MemoryEstimate | None,
    measured: StepTiming | None,
) -> Plan:  # fmt: skip
    train, info = run.problem.train, run.method.info
    config: dict[str, Any] = dataclasses.asdict(run.method)  # type: ignore[call-overload]
    rough, steps, sizes = first_state.rough, first_state.steps, first_state.sizes
    return Plan(
        method=run.name, config=config, network=run.problem.network.name,
        parametrization=config.get("parametrization", "none" if info.is_selection else "pixels"),
        labels=config.get("labels", "soft" if info.soft_labels else "hard"), augment=config.get("augment", "none"),
        device=str(train.device), source=train.name, samples=len(train), shape=train.input.shape,
        kind=train.input.kind, classes=len(train.classes), inputs=sum(sizes), per_class=(min(sizes), max(sizes)),
        bytes=first_state.bytes, codec="auto" if run.codec is None else format_codec(run.codec),
        method_steps=first_state.horizon, steps=steps, preset=run.preset, changed=run.changed,
        passes=first_state.passes, networks=networks, memory=memory, measured=measured, notes=run.notes,
        rough=None if rough is None or steps is None else rough * steps,
        shared_decoder_bytes=decoder_bytes(run.problem),
    )  # fmt: skip


class _FirstState(NamedTuple):
    """Numbers of a run once its first state is there, so that the state can go."""

    sizes: tuple[int, ...]
    bytes: Mapping[str, int]
    horizon: int | None
    steps: int | None
    passes: tuple[Passes, ...] | None
    networks: tuple[RequiredAsset, ...]
    """Networks that are trained first."""
    counts: MemoryInputs | None
    rough: float | None
    """Seconds of a step, by operations."""


def _inspect_first_state(
    run: ResolvedRun, max_steps: int | None, executor: Executor | None, estimates: Estimates
) -> _FirstState:
    method = run.method
    problem, networks = with_placeholders(run)
    state = method.init(problem, generator(run.seed, "distill", run.name))
    soft = label_mode(method) == "soft"
    # Rows that a teacher gives every input take long to make, and are known by their size.
    hard: Any = {"labels": "hard"} if soft else {}
    result = dataclasses.replace(method, **hard).result(problem, state)  # type: ignore[type-var]
    sizes = problem.counts if isinstance(result, Selection) else problem.sizes
    n = sum(sizes)
    inputs = named_tensors(zeros_like_spec(problem.train.input, n, "meta"))
    labels, payload = stored_tensors(run, result, n)
    if soft:
        labels = torch.empty((n, problem.num_classes), device="meta")
    parts = method.step_costs(problem, state)
    horizon, counts = method.num_steps(problem), None
    steps = min((n for n in (horizon, max_steps) if n is not None), default=None)
    rough = estimate_step_seconds(problem, parts)
    estimates.show_rough(steps, rough)
    if parts is not None and problem.train.device.type == "cpu":
        moving, graph = _moving(problem, result)
        counts = MemoryInputs(
            resident=0, loading=0, samples=len(problem.train),
            networks=sum(getattr(asset, "held", 0) for asset in problem.assets.values())
            + sum(tensor_bytes(problem.assets[asset.name]) for asset in problem.decoder_assets),
            state=tensor_bytes(pack_state(state)[0]), moving=moving,
            moments=moving * (2 if getattr(method, "optimizer", "sgd") == "adamw" else 1),
            decoded=tensor_bytes(inputs), graph=graph,
            stored=tensor_bytes(inputs) + tensor_bytes({"labels": labels}) + tensor_bytes(payload),
            parts=(
                *_training(method, problem, networks, executor),
                *(measure_part(part, tensor_bytes(inputs) // n, steps) for part in parts),
            ),
        )  # fmt: skip
    return _FirstState(
        sizes=sizes, bytes=count_bytes(run, result, n, labels, payload), horizon=horizon, steps=steps,
        networks=networks, counts=counts, rough=rough,
        passes=None if parts is None else tuple(_passes(part) for part in parts if part.samples),
    )  # fmt: skip


def with_placeholders(run: ResolvedRun) -> tuple[Problem, tuple[RequiredAsset, ...]]:
    """Return the problem with untrained networks of the same size in place of the trained ones that the method needs.

    It is a problem of its own: what it caches goes with it. Assets that the user provides are taken as they are.

    Raises:
        PotstillError: a provided asset does not fit.
    """
    problem, provided = run.problem, run.provided_assets
    assets: dict[str, Any] = {}
    required: list[RequiredAsset] = []
    context, wanted = asset_context(problem), problem.decoder_assets
    if run.scores is not None:
        assets["scores"] = run.scores.columns_for(run.name, problem.train)
    else:
        wanted = required_assets(run.method, problem)
    for asset in wanted:
        recipe = dict(asset.recipe)
        if asset.name in provided:
            assets[asset.name] = asset.adopt(provided[asset.name], context)
            count = 1 if asset in problem.decoder_assets else len(assets[asset.name])
            required.append(RequiredAsset(name=asset.name, count=count, cached=count, recipe=recipe, provided=True))
            continue
        jobs = asset.jobs(context)
        cached = sum(job.is_cached() for job in jobs)
        required.append(RequiredAsset(name=asset.name, count=len(jobs), cached=cached, recipe=recipe))
        assets[asset.name] = asset.placeholder(jobs)
    return problem.with_assets(assets), tuple(required)


def _training(
    method: Method[Any], problem: Problem, required: tuple[RequiredAsset, ...], executor: Executor | None
) -> list[PartMemory]:
    """Return a little of the training of each asset that is not cached, where this process trains it."""
    walked: list[PartMemory] = []
    for asset, needed in zip(required_assets(method, problem) if required else (), required, strict=True):
        missing = needed.count - needed.cached
        if not missing:
            continue
        if not isinstance(executor or choose_executor(missing, problem.train.device, problem.network), Serial):
            continue
        trial, _ = asset.jobs(asset_context(problem))[0].estimate()
        # What it makes stands among the assets already.
        walked.append(PartMemory(name=f"training of {needed.name}", each=peak_bytes(trial)[0], fixed=0, at_once=1))
    return walked


def _moving(problem: Problem, result: Result) -> tuple[int, int]:
    """Bytes of what the optimiser moves, and of the decoded inputs with the graph of their decoding."""
    if isinstance(result, Selection):
        return 0, 0
    leaves = {n: t.detach() for n, t in result.payload.items()}
    floating = {n: t.requires_grad_() for n, t in leaves.items() if t.is_floating_point()}
    rows = {"labels": result.labels} if result.labels.is_floating_point() else {}

    def decoded() -> Any:
        with torch.enable_grad():
            x = problem.decode(leaves)
            return problem.train.normalization.apply(x) if result.space == "data" else x

    return tensor_bytes(floating) + tensor_bytes(rows), peak_bytes(decoded)[1]


def _passes(part: StepCost) -> Passes:
    at_once = min(part.samples, part.size * part.at_once)
    return Passes(what=part.what, samples=part.samples, at_once=at_once, real=part.real, every=part.every)


def _with_seconds(
    run: ResolvedRun, required: tuple[RequiredAsset, ...], executor: Executor | None
) -> tuple[RequiredAsset, ...]:
    """Return the assets with the seconds that training them will take."""
    problem = run.problem
    forecasts = estimate_time(
        [asset for asset in required_assets(run.method, problem) if asset.name not in run.provided_assets],
        problem.train,
        problem.network, asset_context(problem).augmentation, executor,
    )  # fmt: skip
    seconds = {f.name: f.seconds for f in forecasts}
    return tuple(dataclasses.replace(r, seconds=seconds.get(r.name, 0.0)) for r in required)
