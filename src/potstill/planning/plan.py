"""What a distillation will cost, before it starts: the choices made, the size of the set, the passes of a step, memory.

The first state is made as the run would make it; parts of a step are run for a few classes (`potstill.execution.walk`),
and the formula of `potstill.execution.peak` makes the memory of the whole of that.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from potstill._util.formatting import format_estimate_words
from potstill._util.progress import ProgressReporter
from potstill._util.time_limit import TimeLimit
from potstill.api.distill import ResolvedRun, resolve_run
from potstill.augment.names import named_augmentation
from potstill.codecs import Exact, Uniform, encode_ints, encoded_bytes, estimate_bytes, format_codec, label_bytes
from potstill.core import (
    AssetContext,
    Codec,
    Method,
    Problem,
    Result,
    Selection,
    Source,
    StepCost,
    Synthetic,
    label_mode,
)
from potstill.core.nested import named_tensors, single_tensor, zeros_like_spec
from potstill.dataset_file import pack_state
from potstill.dataset_file.payload_io import SHARED, WHITENING, encode_inputs, encode_labels, encode_texts
from potstill.errors import PotstillError
from potstill.execution import Executor, Serial, choose_executor, resolve_executor
from potstill.execution.memory import peak_memory, resident_memory, return_freed_memory
from potstill.execution.peak import MemoryEstimate, MemoryInputs, PartMemory, predict_memory
from potstill.execution.walk import measure_part, peak_bytes, tensor_bytes
from potstill.nn import CustomNetwork
from potstill.parametrize.quantization_aware import QuantizationAware
from potstill.planning.step_timing import LONGEST, StepTiming, estimate_step_seconds, summarize_timing, time_steps
from potstill.pretraining import estimate_time, required_assets
from potstill.rng import generator
from potstill.runs.arguments import parse_amount_and_time, parse_preset, progress_context
from potstill.runs.runner import check_provided_assets
from potstill.tasks import Classification, get_targets

__all__ = ["Passes", "Plan", "RequiredAsset", "StepTiming", "asset_context", "plan", "with_placeholders"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Samples that pass a network in a step."""

    what: str
    samples: int
    """In a step."""
    at_once: int
    """Of them together in one pass, at most."""
    real: bool
    every: int
    """Steps that they serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredAsset:
    """Trained networks that a method asks for."""

    name: str
    count: int
    kept: int
    """Of them in the cache already."""
    recipe: Mapping[str, float | int | str]
    seconds: float = 0.0
    """That training the others will take, where that was measured."""
    given: bool = False
    """They are brought, so none is trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a distillation will do and take."""

    method: str
    config: Mapping[str, Any]
    network: str
    parametrization: str
    labels: str
    augment: str
    device: str
    source: str
    samples: int
    """Real samples of the training split."""
    shape: tuple[int, ...]
    """Of one input."""
    kind: str
    classes: int
    inputs: int
    """Decoded inputs of the set."""
    per_class: tuple[int, int]
    """Least and most decoded inputs of a class."""
    bytes: Mapping[str, int]
    """Of the file's tensors: inputs, labels, decoder, where there are any index, weights, whitening; and total."""
    codec: str
    """How values are written; ``auto``: chosen when the set is there, and ``bytes`` are those at 8 bits."""
    method_steps: int | None
    """Steps of the method as it is set, where their number is known."""
    steps: int | None
    """Steps that the run will make, if no time limit ends it before."""
    preset: str | None
    """How hard it tries; ``None``: the method was given with all of its fields."""
    passes: tuple[Passes, ...] | None
    """``None``: the method does not say."""
    networks: tuple[RequiredAsset, ...]
    memory: MemoryEstimate | None
    """On the CPU, of methods that say what a step consists of."""
    measured: StepTiming | None
    rough: float | None
    """Seconds of all steps by counted operations alone, within a factor of a few; ``None`` on a GPU and of methods that
    do not say what passes a network."""
    notes: tuple[str, ...]
    """What the loader decided, and what the method left out."""

    @property
    def seconds(self) -> float | None:
        """What it will take in all, networks that are trained first included; ``None`` where it was not measured."""
        if self.measured is None or self.measured.forecast is None:
            return None
        return self.measured.forecast + sum(n.seconds for n in self.networks)

    @property
    def real_per_step(self) -> int | None:
        """Real samples that a step reads, on average over the steps that a pass serves."""
        return None if self.passes is None else sum(p.samples // p.every for p in self.passes if p.real)

    def to_dict(self) -> dict[str, Any]:
        """JSON values only."""
        found: dict[str, Any] = dataclasses.asdict(self)
        found |= {"real_per_step": self.real_per_step, "seconds": self.seconds}
        if (m := self.memory) is not None:
            found["memory"] |= {"peak": m.peak, "largest": m.largest.name, "spare": dataclasses.asdict(m.spare)}
        return found


def plan(
    data: Any,
    method: str | Method[Any] = "dm",
    *,
    ipc: int | None = None,
    items: int | None = None,
    bytes: int | str | None = None,
    balance: str | None = None,
    preset: str | None = None,
    seed: int = 0,
    steps: int | None = None,
    time_limit: str | float | TimeLimit | None = None,
    network: str | CustomNetwork | Callable[..., Any] | None = None,
    parametrization: str | None = None,
    labels: str | None = None,
    augment: str | None = None,
    zca: str | None = None,
    codec: str | Codec | None = None,
    device: str = "auto",
    executor: Executor | str | None = None,
    experts: Any = None,
    profile_steps: int | None = None,
    progress: ProgressReporter | Literal["auto"] | None = None,
    **options: Any,
) -> Plan:
    """Say what ``potstill.distill`` with the same arguments will cost.

    The memory is that of a process that loads these data and distils, as this one has. Call it before other work: what
    the process holds besides is counted too.

    Args:
        measure: run so many real steps, and one before them that is not timed, and say how long they took; 0: none. By
            default as many as five seconds hold, within 20 seconds in all, and none where one is expected to take over
            a minute. Networks that must be trained first are not trained; two batches of that are timed.
        progress: ``auto``: say on stderr what is known so far, a rough estimate first; ``None``: say nothing.
        data, method, ipc, items, bytes, balance, effort, seed, steps, time_limit, network, parametrization, labels,
        augment, zca, store, device, executor, experts, options: as for `potstill.distill`.

    Raises:
        PotstillError: what ``potstill.distill`` would refuse, or a negative ``measure``.
    """
    if profile_steps is not None and profile_steps < 0:
        raise PotstillError(
            f"the number of steps to measure must be at least 0, but it is {profile_steps}; leave it out"
        )
    if method == "auto":
        raise PotstillError(
            "a plan is of one method, but auto tries several and takes the time that `time_limit=` gives it, five "
            "minutes where it gives none; name the method to plan"
        )
    executor = resolve_executor(executor)
    keep, _ = parse_amount_and_time(ipc, items, bytes, time_limit, balance)
    settled = resolve_run(
        data, method, ipc=None, size_budget=keep, effort=parse_preset(preset, method, steps), network=network,
        parametrization=parametrization, labels=labels,
        augment=augment, zca=zca, store=codec, device=device, **options,
    )  # fmt: skip
    given: Mapping[str, Any] = {} if experts is None else {"experts": experts}
    check_provided_assets(settled, given)
    train, made = settled.problem.train, settled.method
    assert train.content_hash  # computed by every run: reads all data once
    loading = peak_memory()
    with progress_context(progress) as watcher:
        said = _Said(watcher, profile_steps)
        seen = _look(settled, seed, steps, executor, given, said)
        return_freed_memory()
        memory = None
        if train.device.type == "cpu" and seen.counts is not None:
            memory = predict_memory(dataclasses.replace(seen.counts, loading=loading, resident=resident_memory()))
        # Only now: what steps leave behind would be counted as held.
        timed, around = ((), 1) if profile_steps == 0 else time_steps(
            settled.name, made, with_placeholders(made, settled.problem, given)[0], seed, asked=steps,
            measure=profile_steps,
            rough=seen.rough, told=lambda first: said.first(seen.steps, first),
        )  # fmt: skip
        networks = seen.networks if profile_steps == 0 else _with_seconds(settled, seen.networks, executor, given)
    config: dict[str, Any] = dataclasses.asdict(made)  # type: ignore[call-overload]
    return Plan(
        method=settled.name, config=config, network=settled.problem.network.name,
        parametrization=config.get("parametrization", "none" if made.info.is_selection else "pixels"),
        labels=config.get("labels", "soft" if made.info.soft_labels else "hard"), augment=config.get("augment", "none"),
        device=str(train.device), source=train.name, samples=len(train), shape=train.input.shape,
        kind=train.input.kind, classes=len(train.classes), inputs=sum(seen.sizes),
        per_class=(min(seen.sizes), max(seen.sizes)), bytes=seen.bytes,
        codec="auto" if settled.store is None else format_codec(settled.store),
        method_steps=seen.horizon, steps=seen.steps,
        preset=settled.effort, passes=seen.passes, networks=networks, memory=memory,
        measured=summarize_timing(timed, around, seen.steps), notes=settled.notes,
        rough=None if seen.rough is None or seen.steps is None else seen.rough * seen.steps,
    )  # fmt: skip


class _Seen(NamedTuple):
    """What is known of a run once its first state is there: numbers only, so that the state can go."""

    sizes: tuple[int, ...]
    bytes: Mapping[str, int]
    horizon: int | None
    steps: int | None
    passes: tuple[Passes, ...] | None
    networks: tuple[RequiredAsset, ...]
    counts: MemoryInputs | None
    rough: float | None
    """Seconds of a step, by operations."""


class _Said(NamedTuple):
    """Estimates that are said as they get better, while the plan is made."""

    watcher: ProgressReporter
    measure: int | None

    def rough(self, steps: int | None, seconds: float | None) -> None:
        """By operations."""
        if seconds is None:
            return
        far = self.measure is None and seconds > 3 * LONGEST
        then = (
            f"none is timed, as one takes {format_estimate_words(seconds)}; `measure=1` times it"
            if far
            else "now steps are timed"
        )
        then = "" if self.measure == 0 else f"; {then}"
        self.watcher.note(f"roughly, by counted operations: {_all_steps(steps, seconds)}{then}")

    def first(self, steps: int | None, seconds: float) -> None:
        """By the first step, which warms up, too."""
        self.watcher.note(f"by the first step: {_all_steps(steps, seconds)}")


def _all_steps(steps: int | None, seconds: float) -> str:
    return (
        f"{seconds:.2g} s a step" if steps is None else f"{format_estimate_words(seconds * steps)} for {steps:,} steps"
    )


def _look(
    settled: ResolvedRun, seed: int, asked: int | None, executor: Executor | None, given: Mapping[str, Any],
    said: "_Said",
) -> _Seen:  # fmt: skip
    method, name = settled.method, settled.name
    problem, networks = with_placeholders(method, settled.problem, given)
    rng = generator(seed, "distill", name)
    state = method.init(problem, rng)
    soft = label_mode(method) == "soft"
    # Rows that a teacher gives every input take long to make, and are known by their size.
    hard: Any = {"labels": "hard"} if soft else {}
    result = dataclasses.replace(method, **hard).result(problem, state)  # type: ignore[type-var]
    sizes = problem.counts if isinstance(result, Selection) else problem.sizes
    n = sum(sizes)
    inputs = named_tensors(zeros_like_spec(problem.train.input, n, "meta"))
    labels, payload = _stored(settled, result, n)
    if soft:
        labels = torch.empty((n, problem.num_classes), device="meta")
    parts = method.step_costs(problem, state)
    horizon, counts = method.num_steps(problem), None
    steps = min((n for n in (horizon, asked) if n is not None), default=None)
    rough = estimate_step_seconds(problem, parts)
    said.rough(steps, rough)
    if parts is not None and problem.train.device.type == "cpu":
        moving, graph = _moving(problem, result)
        counts = MemoryInputs(
            resident=0, loading=0, samples=len(problem.train),
            networks=sum(getattr(asset, "held", 0) for asset in problem.assets.values())
            + sum(tensor_bytes(problem.assets[asset.name]) for asset in problem.parametrization_assets),
            state=tensor_bytes(pack_state(state)[0]), moving=moving,
            moments=moving * (2 if getattr(method, "optimizer", "sgd") == "adamw" else 1),
            decoded=tensor_bytes(inputs), graph=graph,
            stored=tensor_bytes(inputs) + tensor_bytes({"labels": labels}) + tensor_bytes(payload),
            parts=(
                *_training(method, problem, networks, executor),
                *(measure_part(part, tensor_bytes(inputs) // n, steps) for part in parts),
            ),
        )  # fmt: skip
    return _Seen(
        sizes=sizes,
        bytes=_bytes(settled, result, n, labels, payload),
        horizon=horizon,
        steps=steps,
        passes=None if parts is None else tuple(_passes(part) for part in parts if part.samples),
        networks=networks,
        counts=counts,
        rough=rough,
    )


def with_placeholders(
    method: Method[Any], problem: Problem, given: Mapping[str, Any] | None = None
) -> tuple[Problem, tuple[RequiredAsset, ...]]:
    """The problem with untrained networks in place of the trained ones that the method asks for, which weigh the same.

    A problem of its own: what it caches goes with it. What is ``given``, by the asset's name, is taken as it is.

    Raises:
        PotstillError: what is given does not fit.
    """
    assets: dict[str, Any] = {}
    needed: list[RequiredAsset] = []
    for asset in required_assets(method, problem):
        if given is not None and asset.name in given:
            brought = assets[asset.name] = asset.adopt(given[asset.name], asset_context(problem))
            n = len(brought)
            needed.append(RequiredAsset(name=asset.name, count=n, kept=n, recipe=dict(asset.recipe), given=True))
            continue
        jobs = asset.jobs(asset_context(problem))
        kept = sum(job.is_cached() for job in jobs)
        needed.append(RequiredAsset(name=asset.name, count=len(jobs), kept=kept, recipe=dict(asset.recipe)))
        assets[asset.name] = asset.placeholder(jobs)
    return problem.with_assets(assets), tuple(needed)


def asset_context(problem: Problem) -> AssetContext:
    train = problem.train
    return AssetContext(train=train, network=problem.network, augmentation=lambda name: named_augmentation(name, train))


def _training(
    method: Method[Any], problem: Problem, networks: tuple[RequiredAsset, ...], executor: Executor | None
) -> list[PartMemory]:
    """A little of the making of each asset that is not there yet, where this process makes it."""
    walked: list[PartMemory] = []
    for asset, needed in zip(required_assets(method, problem), networks, strict=True):
        missing = needed.count - needed.kept
        if not missing or not isinstance(
            executor or choose_executor(missing, problem.train.device, problem.network), Serial
        ):
            continue
        trial, _ = asset.jobs(asset_context(problem))[0].estimate()
        # What it makes stands among the assets already.
        walked.append(PartMemory(name=f"training of {needed.name}", each=peak_bytes(trial)[0], fixed=0, at_once=1))
    return walked


def _stored(settled: ResolvedRun, result: Result, n: int) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Labels and payload as the file will have them."""
    train = settled.problem.train
    if isinstance(result, Selection):
        return get_targets(train)[result.index.cpu()] if result.soft_labels is None else result.soft_labels, {}
    # Inputs of one tensor decode to themselves; those with names are counted part by part, as a payload is.
    pixels = getattr(settled.method, "parametrization", "pixels") == "pixels" and not train.input.parts
    if isinstance(rounding := settled.problem.parametrization, QuantizationAware):
        return result.labels, rounding.quantized_payload(result.payload)
    return result.labels, {} if pixels else result.payload


def _bytes(
    settled: ResolvedRun, result: Result, n: int, labels: Tensor, payload: Mapping[str, Tensor]
) -> dict[str, int]:
    """Bytes of the file's tensors. Where the store is chosen when the set is there, what they are at 8 bits, which they
    hardly exceed."""
    train, classified = settled.problem.train, isinstance(settled.problem.task, Classification)
    store, k = settled.store or Uniform(bits=8), settled.problem.num_classes
    sizes = {"inputs": 0, "decoder": 0}
    for name, tensor in payload.items():
        floating = tensor.is_floating_point()
        size = estimate_bytes(store, tuple(tensor.shape), tensor) if floating else encoded_bytes(encode_ints(tensor))
        sizes["decoder" if name.startswith(SHARED) else "inputs"] += size
    if train.input.parts and isinstance(result, Selection):
        packed = encode_inputs(train.raw(result.index), train.input, store, train.normalization)[0]
        sizes["inputs"] = sum(map(encoded_bytes, packed.values()))
    elif not payload:
        sizes["inputs"] = estimate_bytes(store, (n, *train.input.shape), _like(train, result, store))
    if classified and labels.is_floating_point():
        sizes["labels"] = label_bytes(
            n, k, store.label_bits, scores=isinstance(result, Synthetic) and result.centred_labels
        )
    else:
        sizes["labels"] = encoded_bytes(encode_labels(labels.cpu(), k if classified else None, store))
    if isinstance(result, Selection) and (texts := getattr(train, "texts", ())):
        sizes["captions"] = sum(map(encoded_bytes, encode_texts([texts[i] for i in result.index.tolist()]).values()))
    if isinstance(result, Selection):
        sizes["index"] = encoded_bytes(encode_ints(result.index.cpu()))
        if result.weights is not None:
            sizes["weights"] = result.weights.numel() * 4
    elif result.extra_parameters:
        sizes["learned"] = sum(4 * t.numel() for t in result.extra_parameters.values())
    if (w := train.normalization.whitening) is not None:
        sizes["whitening"] = sum(getattr(w, n).numel() * 4 for n in WHITENING)
    return sizes | {"total": sum(sizes.values())}


def _like(train: Source, result: Result, store: Codec) -> Tensor | None:
    """Samples such as the set will have, for stores whose bytes depend on the values."""
    if isinstance(result, Selection):
        return single_tensor(train.raw(result.index[:4096]), "a plan")
    return None if isinstance(store, Exact) else single_tensor(train.raw(torch.arange(min(len(train), 256))), "a plan")


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
    settled: ResolvedRun, networks: tuple[RequiredAsset, ...], executor: Executor | None, given: Mapping[str, Any]
) -> tuple[RequiredAsset, ...]:
    """The networks that must be trained first, with how long that will take."""
    train = settled.problem.train
    coming = estimate_time(
        [a for a in required_assets(settled.method, settled.problem) if a.name not in given], train,
        settled.problem.network,
        lambda n: named_augmentation(n, train), executor,
    )  # fmt: skip
    seconds = {e.name: e.seconds for e in coming}
    return tuple(dataclasses.replace(n, seconds=seconds.get(n.name, 0.0)) for n in networks)
