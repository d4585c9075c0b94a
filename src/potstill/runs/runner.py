"""A run whose choices are made: what it needs is prepared, its steps are run, and the result is made."""

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.formatting import format_duration, format_estimate_words
from potstill._util.import_from_file import source_digests
from potstill._util.progress import ProgressReporter
from potstill._util.time_limit import TimeLimit
from potstill.augment.names import named_augmentation
from potstill.codecs import Exact, Float, Uniform, decode, format_codec
from potstill.codecs.patches import Patches
from potstill.core import (
    AssetContext,
    Augmentation,
    Codec,
    Encoded,
    Method,
    Preset,
    Problem,
    Selection,
    Space,
    Synthetic,
)
from potstill.core.nested import to_device
from potstill.core.registry import preset_fields
from potstill.data import column_metadata
from potstill.dataset_file import Distilled
from potstill.dataset_file.output import SetOutput
from potstill.dataset_file.replacing import hash_run
from potstill.dataset_file.scores import Scores
from potstill.dataset_file.shared_decoders import assets_to_json, cache_decoder, hash_tensors
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import Candidate, Pair, choose_fewest_bits, estimate_search_seconds
from potstill.execution import Executor
from potstill.execution.memory import return_freed_memory
from potstill.nn import CustomFactory
from potstill.parametrize.quantization_aware import QuantizationAware
from potstill.pretraining import Trajectories, build_assets, estimate_time, required_assets
from potstill.rng import derive_seed, generator
from potstill.runs.arguments import advise_shorter_run
from potstill.runs.class_shards import run_shards
from potstill.runs.loop import LoopResult, Progress, run_loop
from potstill.runs.snapshots import SnapshotRecorder
from potstill.tasks import get_targets, get_task

__all__ = ["ResolvedRun", "check_provided_assets", "execute", "run_identity"]

_TRIED = (8, 6, 5, 4, 3, 2)
"""Bits that ``auto`` tries, from many to few."""
_GIVEN: Mapping[str, str] = {"networks": "trained networks", "experts": "expert trajectories"}
"""The assets in whose place something can be given, and what they are."""
_NOBODYS: Mapping[str, Any] = {"given": True, "labels": False, "recipe": {}}
"""What a card says of what was given: nobody can make them again, so that they label no student."""
_TRIAL = 20
"""Steps below which a run is shorter than what finding its bits takes."""
_WRITING, _SEARCHING = 0.02, 0.3
"""Parts of a time limit that the steps leave: to write the set, and at most to find how few bits do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResolvedRun:
    """A run with every choice made, before it starts."""

    name: str
    """The method's registered name."""
    method: Method[Any]
    problem: Problem
    """Without what ``Method.assets`` asks for."""
    read: tuple[str, ...]
    """What the loader decided."""
    reading: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options by which the data were read (`potstill.core.Splits`)."""
    chosen: tuple[str, ...]
    """What gave way to the data: a network, settings, what the method left out."""
    effort: Preset | None = None
    """How hard it tries; ``None``: the method was given with all of its fields."""
    store: Codec | None = None
    """How the set is written; ``None``: in the fewest bits that cost nothing, which is found when it is there."""
    balance: str = "equal"
    """How what is kept is shared out between classes: ``natural`` or ``equal``."""
    initial: Mapping[str, str] | None = None
    """What it starts from, where that is an earlier set: its ``method`` and its ``hash``."""
    files: tuple[str, ...] = ()
    """Paths of the data and of the user's own files, which the set is never written over."""

    @property
    def notes(self) -> tuple[str, ...]:
        """All that the card keeps of it."""
        return (*self.read, *self.chosen)


def execute(
    settled: ResolvedRun, watcher: ProgressReporter,
    time_limit: TimeLimit | None, *, seed: int, steps: int | None,
    zca: str | None,
    checkpoint: Path | None, resume: bool, anyway: bool, checkpoint_every: float, progress: Callable[[Progress], None],
    preparing: Callable[[str, int, int], None], command: str | None, table: Scores | None,
    executor: Executor | None = None, given: Mapping[str, Any] | None = None, keep: bool = False,
    film: Path | None = None, class_shards: int | None = None, output: SetOutput | None = None,
) -> Distilled:  # fmt: skip
    """Preparation, steps and result of a run that is settled. Arguments and errors as for `potstill.distill`.

    Args:
        watcher: is told what comes and how long it will take.
        time_limit: of everything since it began: preparation, steps, and how the set is written.
        table: scores to select by, in place of what the method would ask for.
        given: what stands in for assets of these names, in place of what would have been made.
        keep: write the checkpoint also where the steps are reached.
        film: file for inputs at a few steps.
        class_shards: match the classes in so many groups, each as a job of the executor.
        output: where the set will be written; what is there is checked as soon as it is known what the run is of.
    """
    name, made = settled.name, settled.method
    for note in settled.chosen if watcher.command_line else ():  # before the work, which may take long
        watcher.note(note)
    begun, brought = time.monotonic(), dict(given or {})
    limits = {"steps": steps, "time_limit": None if time_limit is None else time_limit.seconds}
    identity = run_identity(settled, seed, zca)
    if table is not None:
        identity["scores"] = hash_tensors(table.columns_for(name, settled.problem.train))
    if output is not None and not brought:
        there = output.load_existing(_on_card(settled, identity, limits, class_shards), watcher.warn)
        if there is not None:
            return there
    if table is None:
        problem, prepared = _prepared(settled, preparing, watcher, time_limit, executor, brought)
    else:
        known = table.columns_for(name, settled.problem.train)
        problem, prepared = dataclasses.replace(settled.problem, assets={"scores": known}), table.methods[name].seconds
    spent = time.monotonic() - begun if time_limit is None else time_limit.elapsed
    for asked in brought:
        identity[asked] = _content(problem.assets[asked])
    card = _on_card(settled, identity, limits, class_shards)
    if output is not None and brought and (there := output.load_existing(card, watcher.warn)) is not None:
        return there
    needed = {asset.name: problem.assets[asset.name] for asset in problem.parametrization_assets}
    if needed:
        identity["decoder"] = {n: hash_tensors(tensors) for n, tensors in needed.items()}
        for tensors in needed.values():
            _kept(tensors, watcher)
    seen = None
    if film is not None:
        seen = SnapshotRecorder(film, made, problem, identity, resume=resume, warn=watcher.warn)
    watcher.begin(name, advise_shorter_run(settled.effort, made, prepares=False))
    if class_shards is not None:
        done: LoopResult[Any] = run_shards(
            name, made, problem, class_shards, seed=seed, identity=identity, steps=steps, checkpoint=checkpoint,
            checkpoint_every=checkpoint_every, resume=resume, anyway=anyway, executor=executor, counted=preparing,
        )  # fmt: skip
    else:
        done = run_loop(
            made, problem, rng=generator(seed, "distill", name), identity=identity, steps=steps,
            time_limit=None if time_limit is None else time_limit.seconds, spent=spent,
            reserved=_reserved(settled, problem, time_limit), checkpoint=checkpoint, checkpoint_every=checkpoint_every,
            resume=resume, anyway=anyway, progress=progress, look=seen, keep=keep,
        )  # fmt: skip
    if seen is not None:
        seen.last(done.outcome.step, done.state)
    return_freed_memory()  # the set is made in large pieces, which do not fit what steps have left behind
    small = _artefact(
        settled,
        problem,
        done,
        prepared,
        seed=seed,
        config=identity["config"],
        command=command,
        card=card,
        watcher=watcher,
        counted=preparing,
        executor=executor,
        given=frozenset(brought),
        time_limit=time_limit,
    )
    if time_limit is not None and time_limit.exceeded:
        parts = {"before the first step": spent, f"{done.outcome.step:,} steps": done.seconds}
        parts["after the last"] = time_limit.elapsed - sum(parts.values())
        told = ", ".join(f"{format_duration(max(0.0, seconds))} {what}" for what, seconds in parts.items())
        watcher.warn(
            f"this took {format_duration(time_limit.elapsed)}, over the limit of "
            f"{format_duration(time_limit.seconds)}: {told}"
        )
    small.files = settled.files
    return small


def _reserved(settled: ResolvedRun, problem: Problem, time_limit: TimeLimit | None) -> float:
    """Seconds of a limit that are left to what comes after the last step. Where not even the shortest search for bits
    fits into its part, the steps get that, too."""
    if time_limit is None:
        return 0.0
    search = 0.0
    if settled.store is None:
        least, most = estimate_search_seconds(problem.train, problem.network, sum(problem.sizes))
        part = _SEARCHING * time_limit.seconds
        search = min(most, part) if least <= part else 0.0
    return _WRITING * time_limit.seconds + search


def _on_card(
    settled: ResolvedRun, identity: Mapping[str, Any], limits: Mapping[str, Any], class_shards: int | None
) -> dict[str, Any]:
    """Return what the card of the set says of its run, and the hash by which the same run is known again."""
    store = None if settled.store is None else format_codec(settled.store)
    asked = {"limits": limits, "class_shards": class_shards, "store": store}
    problem = settled.problem
    return {
        "method": settled.name, "config": identity["config"], "seed": identity["seed"],
        "ipc": max(problem.sizes) if problem.value_budget else problem.ipc,  # bytes buy inputs, not stored items
        "network": problem.network.name, "limits": dict(limits), "source": {"hash": problem.train.content_hash},
        "run_digest": hash_run(identity, asked),
        "balance": settled.balance,
        **({} if class_shards is None else {"class_shards": class_shards}),
        **{name: identity[name] for name in ("initial", "own_files") if name in identity},
    }  # fmt: skip


def run_identity(settled: ResolvedRun, seed: int, zca: str | None = None) -> dict[str, Any]:
    """What decides the bits of a run beside steps and time: JSON values, for a checkpoint, and what a card says too."""
    problem = settled.problem
    return {
        "method": settled.name,
        "config": dataclasses.asdict(settled.method),  # type: ignore[call-overload]
        "seed": seed,
        "counts": list(problem.counts),
        "numbers": list(problem.value_budget),  # two budgets in bytes can have equal counts
        "network": problem.network.name,
        "source": problem.train.content_hash,
        **({} if problem.train.input.horizontal_flip else {"mirrored": False}),
        "zca": zca,
        "balance": settled.balance,
        **_rounded(problem),
        **({} if settled.initial is None else {"initial": dict(settled.initial)}),
        **({"own_files": files} if (files := _own_files(settled)) else {}),
    }


def _own_files(settled: ResolvedRun) -> dict[str, str]:
    """Return the SHA-256 of each file of the user's own that parts of the run come from."""
    p = settled.problem
    network = p.network.definition.constructor if isinstance(p.network, CustomFactory) else p.network
    reader = getattr(p.train, "reader", None)
    return source_digests([settled.method, network, p.train, reader, get_task(p.train), p.parametrization, p.augment])


def _content(brought: Any) -> Any:
    """What decides the bits of what was given: the hash of experts, of each network where there is none."""
    if isinstance(brought, Trajectories):
        return brought.digest
    return [hash_tensors({**t.theta, **t.buffers}) for t in brought]


def _rounded(problem: Problem) -> dict[str, Any]:
    """How what is stored is rounded in every step, where it is."""
    p = problem.parametrization
    return {"store": format_codec(p.codec), "learned": p.learned} if isinstance(p, QuantizationAware) else {}


def check_provided_assets(settled: ResolvedRun, given: Collection[str]) -> None:
    """What is given in place of an asset must be one that the method asks for.

    Raises:
        PotstillError: it asks for none such.
    """
    known = {asset.name for asset in settled.method.assets(settled.problem)}
    if idle := [name for name in given if name not in known]:
        raise PotstillError(f"{settled.name} asks for no {_GIVEN[idle[0]]}, but some are given; leave {idle[0]} out")


def _prepared(
    settled: ResolvedRun, preparing: Callable[[str, int, int], None], watcher: ProgressReporter,
    time_limit: TimeLimit | None,
    executor: Executor | None, given: Mapping[str, Any],
) -> tuple[Problem, float]:  # fmt: skip
    """The problem with the assets that the method and the parametrization ask for, and the seconds that went into them.

    Raises:
        PotstillError: they will take, or have taken, all of the time limit; or something is given to no use.
    """
    method, problem = settled.method, settled.problem
    wanted = required_assets(method, problem)
    check_provided_assets(settled, given)
    if not wanted:
        return problem, 0.0

    def augmentation(name: str) -> Augmentation:
        return named_augmentation(name, problem.train)

    begun = time.monotonic()
    less = advise_shorter_run(settled.effort, method, prepares=True)
    watcher.begin("preparation", less)
    to_make = [asset for asset in wanted if asset.name not in given]
    coming = estimate_time(to_make, problem.train, problem.network, augmentation, executor)
    needed = sum(e.seconds for e in coming)
    what = " and ".join(map(str, coming))
    if time_limit is not None and needed > time_limit.remaining:
        raise PotstillError(
            f"{settled.name} begins with {what}: {format_estimate_words(needed)} on this machine, "
            f"more than the time limit of "
            f"{format_duration(time_limit.seconds)}; ask for {less}, or a longer time limit"
        )
    for e in coming:
        watcher.expect(e.name, e.seconds, f"{settled.name} begins with {e}")
    assets, seconds = build_assets(
        wanted, problem.train, problem.network, augmentation, executor=executor, given=given, progress=preparing
    )
    if time_limit is not None and not time_limit.remaining:
        raise PotstillError(
            f"{what} took {format_duration(time.monotonic() - begun)}, the rest of the limit of "
            f"{format_duration(time_limit.seconds)}; "
            "they are kept, so the same command goes on from there"
        )
    return problem.with_assets(assets), seconds


def _kept(tensors: Mapping[str, Tensor], watcher: ProgressReporter) -> None:
    """Keep what a set decodes by where a reader looks for it."""
    try:
        cache_decoder(tensors)
    except PotstillError as error:
        watcher.warn(f"what the set decodes by could not be kept, so reading it will need decoder=FILE: {error}")


def _artefact(
    settled: ResolvedRun,
    problem: Problem,
    done: LoopResult[Any],
    prepared: float,
    *,
    seed: int,
    config: Mapping[str, Any],
    command: str | None,
    card: Mapping[str, Any],
    watcher: ProgressReporter,
    counted: Callable[[str, int, int], None],
    executor: Executor | None,
    given: frozenset[str],
    time_limit: TimeLimit | None,
) -> Distilled:
    """The state's result as an artefact: decoded, in data units, with its card, written as the store says."""
    method, train = settled.method, problem.train
    return_freed_memory()  # what the steps left behind, in pieces that decoding and writing everything could not use
    result = method.result(problem, done.state)
    index: Tensor | None = None
    weights: Tensor | None = None
    learned: Mapping[str, Tensor] = {}
    decoder: Mapping[str, Any] | None = None
    payload: Mapping[str, Tensor] = {}
    packed: Mapping[str, Encoded] = {}
    captions: tuple[str, ...] = ()
    scores = isinstance(result, Synthetic) and result.centred_labels
    if isinstance(result, Selection):
        index, weights = result.index.cpu(), result.weights
        inputs = train.raw(index)
        labels = get_targets(train)[index] if result.soft_labels is None else result.soft_labels
        captions = tuple(texts[i] for i in index.tolist()) if (texts := getattr(train, "texts", ())) else ()
    else:
        with torch.no_grad():
            decoded = problem.decode(result.payload)
        inputs = decoded if result.space == "data" else train.normalization.invert(decoded)
        labels, learned = result.labels, result.extra_parameters
        spelled = config.get("parametrization") or "pixels"
        # Pixels decode to themselves, and are stored as what they are in the data's units.
        if isinstance(rounding := problem.parametrization, QuantizationAware):
            kept = {n: t.detach().cpu() for n, t in result.payload.items()}
            payload, packed = rounding.quantized_payload(kept), rounding.encode_payload(kept)
            decoder = {"parametrization": spelled, "space": result.space}
        elif spelled == "pixels" and isinstance(settled.store, Patches) and settled.store.refine:
            packed = {"inputs": _refined(settled.store, decoded, result.space, problem, seed)}
            payload = {"inputs": decode(packed["inputs"])}
            decoder = {"parametrization": spelled, "space": "model"}
        elif spelled != "pixels":
            payload = {n: t.detach().cpu() for n, t in result.payload.items()}
            decoder = {"parametrization": spelled, "space": result.space}
    needed = [(asset, problem.assets[asset.name]) for asset in problem.parametrization_assets if decoder is not None]
    if decoder is not None and needed:
        decoder = {**decoder, **assets_to_json(needed)}
    known: dict[str, Any] = {
        "network": problem.network.name,
        "reading": dict(settled.reading),
        "history": list(done.history),
        "command": command,
        "effort": _effort(settled),
        **{
            name: card[name]
            for name in ("balance", "initial", "limits", "class_shards", "own_files", "run_digest")
            if name in card
        },
        **_of_assets(settled, problem, given),
        **({"resumed_with_others": list(done.changes)} if done.changes else {}),
    }
    whole, rows = to_device(inputs, "cpu"), labels.detach().cpu()

    def written(store: Codec, said: Mapping[str, Any] | None = None, coded: bool = True) -> Distilled:
        return Distilled.build(
            whole,
            rows,
            payload=payload,
            packed=packed,
            decoder=decoder,
            shared={asset.name: tensors for asset, tensors in needed},
            index=index,
            weights=weights,
            learned=learned,
            captions=captions,
            scores=scores,
            task=problem.task,
            store=store,
            coded=coded,
            method=settled.name,
            config=dict(config),
            seed=seed,
            ipc=card["ipc"],
            classes=train.classes,
            input=train.input,
            normalization=train.normalization,
            training=dict(method.info.training),
            source={"name": train.name, "samples": len(train), "hash": train.content_hash, "notes": list(settled.notes)}
            | column_metadata(train),
            outcome=dataclasses.asdict(done.outcome),
            cost={
                "seconds": round(done.seconds, 3),
                "preparation_seconds": round(prepared, 3),
                "steps": done.outcome.step,
                "peak_memory": done.peak_memory,
                "device": str(train.device),
            },
            extra={**known, "store": dict(said or {})},
        )

    if settled.store is None:
        watcher.begin("storing")
        small = _fewest(
            written, problem, seed, done.outcome.step, isinstance(result, Selection), counted, executor, time_limit
        )
        if "time limit" in (why := small.metadata["store"].get("auto", {}).get("why", "")):
            watcher.note(f"the set is written as uint8: {why}; `store=uint4` or a longer limit may halve it")
        return small
    try:
        return written(settled.store)
    except PotstillError as error:  # the steps are made: what this store cannot write is kept as it is
        name = format_codec(settled.store)
        watcher.warn(f"the set is written as float32, because {name} cannot hold it: {error}")
        packed = {}
        return written(Float(), {"instead_of": name, "why": str(error)})


def _refined(store: Patches, decoded: Tensor, space: Space, problem: Problem, seed: int) -> Encoded:
    """Pixels refined for their rounding, in model space, by what an untrained network of the problem sees in them."""
    x = problem.train.normalization.apply(decoded) if space == "data" else decoded
    network = problem.network(derive_seed(seed, "refine")).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return store.pack_refined(x, network.embed, generator(seed, "refine", "order"), steps=store.refine)


def _fewest(
    written: Callable[..., Distilled], problem: Problem, seed: int, steps: int, selected: bool,
    counted: Callable[[str, int, int], None], executor: Executor | None, time_limit: TimeLimit | None,
) -> Distilled:  # fmt: skip
    """The set in the fewest bits whose loss on a part of the training data cannot be told from none."""
    if steps < _TRIAL and not selected:
        why = f"not tried, as a run of {steps} steps is shorter than the trial"
        return written(Uniform(bits=8), {"auto": {"chosen": "uint8", "why": why, "tried": []}})
    stores = {format_codec(s): s for s in (Uniform(bits=bits) for bits in _TRIED)}
    whole, device = written(Exact() if selected else Float(), coded=False), problem.train.device

    def seen(made: Distilled) -> tuple[Tensor, Tensor]:
        return made.model_space().to(device), made.labels.to(device)

    def pair(name: str) -> tuple[Pair, int]:
        made = written(stores[name], coded=False)
        return seen(made), int(made.metadata["bytes"]["total"])

    candidates = [Candidate(name=name, load=partial(pair, name)) for name in stores]
    weights = None if whole.sample_weight is None else whole.sample_weight.to(device)
    choice, said = choose_fewest_bits(
        seen(whole), candidates, problem.train, problem.network, seed=seed, weights=weights,
        made_of=whole.index, executor=executor, progress=counted,
        seconds=None if time_limit is None else (1 - _WRITING) * time_limit.remaining,
    )  # fmt: skip
    return written((Exact() if selected else Float()) if choice is None else stores[choice.name], {"auto": said})


def _of_assets(settled: ResolvedRun, problem: Problem, given: frozenset[str]) -> dict[str, list[Mapping[str, Any]]]:
    """What a card says of the assets that are in the problem's hands: lists by name, such as ``teachers``."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    ground = AssetContext(
        train=problem.train, network=problem.network, augmentation=lambda name: named_augmentation(name, problem.train)
    )
    for asset in required_assets(settled.method, problem):
        if asset.name in problem.assets:
            for name, entry in asset.provenance(problem.assets[asset.name], ground).items():
                brought = _NOBODYS if asset.name in given else {}
                found.setdefault(name, []).append({**entry, **brought})
    return found


def _effort(settled: ResolvedRun) -> dict[str, Any] | None:
    """The effort as a card has it: its name, and the fields that it set, without those that something else did."""
    if settled.effort is None:
        return None
    given = preset_fields(type(settled.method), settled.effort)
    return {"name": settled.effort, "fields": {n: v for n, v in given.items() if getattr(settled.method, n) == v}}
