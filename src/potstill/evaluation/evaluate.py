"""Evaluation of a distilled set, its baselines and the full data under one protocol."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from importlib.metadata import version
from operator import call
from typing import Any, Literal

import torch

from potstill._util.card import shared_decoder_bytes
from potstill._util.privacy_words import privacy_claim
from potstill._util.progress import Callback, collect_results
from potstill.augment.names import augmentation_name
from potstill.core import NetworkFactory, Source, Splits
from potstill.core.nested import single_tensor, to_device
from potstill.data import SourceView
from potstill.data.in_memory import TensorSource
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.evaluation.adversarial_training import check_adversary
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.baseline_rows import baseline_names, best_real_entry, label_forms, measure_baselines
from potstill.evaluation.byte_matched_baselines import (
    TRIAL_PASSES,
    BaselineContext,
    SoftLabelFn,
    baseline_byte_budget,
    count_exact_bytes,
    estimate_items,
    sizes_with_decoder,
    trial_steps,
)
from potstill.evaluation.candidate_trials import Length, count_operations
from potstill.evaluation.distilled_training import check_stored_labels
from potstill.evaluation.estimators import is_learner_name, make_learner, require_learner
from potstill.evaluation.fitting import check_compatible, network_from_metadata, same_content
from potstill.evaluation.forecast import estimate_learner_seconds, estimate_seconds
from potstill.evaluation.full_data_reference import RECIPE, FullReference
from potstill.evaluation.horizons import horizon_entry
from potstill.evaluation.measurement import EvaluationContext, Measurement, mean, measure
from potstill.evaluation.model_baseline import MODEL, ModelBaseline, estimate_model_seconds, try_model_baseline
from potstill.evaluation.naive import naive_scores
from potstill.evaluation.nearest_captions import captions_entry
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.real_sets import count_trials
from potstill.evaluation.scorecard import Scorecard
from potstill.evaluation.scores import ars, hlr, ior, lrs
from potstill.evaluation.statistics import INTERVAL, ONE_INTERVAL, PLAIN_INTERVAL, count_answers, difference, summary
from potstill.evaluation.teacher_labels import Labeller, resolve_labeller, stored_labeller
from potstill.evaluation.training_sets import TEACHER_STEPS, TeacherJob, TrainingSet, count_inputs
from potstill.evaluation.vmap_students import default_group_size
from potstill.evaluation.yardsticks import yardstick_scores
from potstill.execution import Executor, Serial, choose_executor
from potstill.kinds import get_kind
from potstill.labels.label_file import hash_inputs
from potstill.labels.teacher import soft_labels
from potstill.labels.teacher_file import Labels
from potstill.nn import CustomNetwork, default_network_name, factory_for, is_stackable
from potstill.tasks import get_task
from potstill.verdicts import judge_scorecard

__all__ = ["encode_like", "evaluate", "normalize_like"]

SHORT_SECONDS = 10.0
"""Computing time below which starting processes takes longer than it saves."""
OPERATIONS_PER_SECOND = 1e10
"""Assumed speed of a core, to decide what is short. Ours: a small network on a plain core."""


def evaluate(
    distilled: Distilled,
    splits: Splits,
    *,
    protocol: Protocol,
    networks: Sequence[str | CustomNetwork] | None = None,
    seeds: int | None = None,
    seed: int = 0,
    baselines: bool = True,
    model: bool = False,
    yardsticks: Sequence[str] = (),
    full: bool = True,
    robust_scores: bool = True,
    stored: Labels | None = None,
    weights: bool = True,
    decoder: Literal["counted", "shared"] = "counted",
    side_by_side: int | None = None,
    executor: Executor | None = None,
    progress: Callback | None = None,
    expect: Callable[[float], None] | None = None,
) -> Scorecard:
    """Measure ``distilled`` against the test split of ``splits``.

    Args:
        protocol: evaluation protocol.
        networks: students, networks and learners (`potstill.evaluation.estimators`); the first is the headline.
            Default: for images the protocol's network, if it names one, else the network the set was made with.
        seeds: students per network; default: the protocol's number.
        seed: of all draws.
        baselines: measure random and, where there are classes, herding and random-soft, and of pairs prototypes, in the
            same bytes, each with the codec that serves it best, the best real set of all
            (`potstill.evaluation.real_sets`), and as many random samples as the set has inputs.
        model: measure a quantised network of the same bytes (`potstill.evaluation.model_baseline`).
        yardsticks: models of series to score beside the set (`potstill.evaluation.yardsticks`).
        full: measure the full-data reference.
        robust_scores: compute LRS and ARS, which need more students, and classes.
        stored: a teacher's labels of this set, for protocols in which a teacher labels: students of the set read them
            instead of asking it. Baselines ask it. Robust scores are then left out.
        weights: train with the set's weights, if any, divided by their mean. ``False``: all equal.
        decoder: bytes of what the set decodes by and its file lacks, such as a generator: ``counted``: baselines get
            them, too; ``shared``: readers have it, so baselines get those of the file alone.
        side_by_side: maximum number of students trained as one network, where their labels are the set's own; results
            are the same up to rounding. Default: 32 on a GPU, 1 on a CPU.
        executor: runs the students; results do not depend on it.
        progress: called with a label, students done, students in all.
        expect: called before the work with the estimated seconds, which takes two timed updates.

    Raises:
        PotstillError: the set does not fit the data, or there is no test split.
    """
    started = time.monotonic()
    if splits.test is None:
        raise PotstillError("evaluation needs real test data, but these have no test split; give data that has one")
    encoded = [encode_like(s, distilled) for s in (splits.train, splits.test)]
    check_compatible(distilled, encoded[0])
    train, test = (normalize_like(s, distilled) for s in encoded)
    students = protocol.students if seeds is None else seeds
    if students < 1:
        raise PotstillError(f"at least one student is needed, but seeds is {students}")
    if side_by_side is not None and side_by_side < 1:
        raise PotstillError(f"at least one student is trained at a time, but side_by_side is {side_by_side}; use 1")
    inputs = count_inputs(distilled, protocol)
    context, *others = (
        EvaluationContext(
            protocol=protocol.resolve(train.name, make.name, train.input), make=make, train=train, test=test,
            students=students, seed=seed, report=progress or (lambda label, done, total: None),
            executor=executor or _executor(protocol, make, train, inputs, students, full or baselines),
            side_by_side=side_by_side or default_group_size(make.device),
        )
        for make in _factories(distilled, train, protocol, networks)
    )  # fmt: skip
    for each in (context, *others):
        if each.learner is None:
            check_adversary(each.protocol, train)
    with_learner = any(c.learner is not None for c in (context, *others))
    if context.teacher_labels and (with_learner or not context.is_classification):
        why = "the student is no network" if context.is_classification else f"the task is {context.task.name}"
        raise PotstillError(
            f"protocol {protocol.name} has a teacher label every batch of a network's classes, but {why}; choose "
            "another, such as potstill"
        )
    x = to_device(distilled.model_space(), train.device)
    if stored is not None:
        check_stored_labels(context.protocol, stored)
        stored.check(train.classes, hash_inputs(single_tensor(x, "a stored label")))
        robust_scores = False  # the file's views are those of one augmentation
    sizes = sizes_with_decoder(distilled.metadata, decoder)
    baseline_context = BaselineContext(
        train=train, byte_budget=baseline_byte_budget(sizes), make=context.make, seed=seed,
        proportional=distilled.metadata.get("balance") == "natural" and len(set(train.labels.bincount().tolist())) > 1,
        quick=context.protocol.shortened, executor=context.executor,
        trial=Length(
            steps=min(trial_steps(train.input), max(1, _max_updates(context.protocol, inputs))),
            passes=min(TRIAL_PASSES, max(context.protocol.recipe.least_epochs, context.protocol.recipe.epochs or 0)),
        ),
    )  # fmt: skip
    names, left_out = baseline_names(context, distilled) if baselines else ([], {})
    robust_scores = robust_scores and context.is_classification and context.learner is None
    trials = count_trials(baseline_context, labels=label_forms(names)) if names else 0
    of_model = estimate_model_seconds(context, baseline_context) if model and expect is not None else 0.0
    if expect is not None and context.learner is not None:
        sets = 1 + len(names) + bool(names)
        fits = students * sets + trials
        each_size = estimate_items(baseline_context)
        expect(of_model + estimate_learner_seconds(context.learner, train, test, each_size, fits))
    elif expect is not None:
        size, many = inputs, estimate_items(baseline_context)
        expect(of_model + estimate_seconds(
            context.protocol, context.make, train, context.executor, students=students,
            items=[size] * (1 + baselines + len(others)) + [many] * (len(names) + baselines * len(others)),
            again=[size, many] * (robust_scores and baselines and get_kind(train.input).augmentable), full=full,
            soft="random-soft" in names, test_samples=len(test), trials=trials,
            trial_updates=trials * baseline_context.trial_length.updates(many),
        ))  # fmt: skip
    labeller: Labeller | None = None
    if context.teacher_labels and (stored is None or baselines):
        # one committee for all sets and all students
        labeller = resolve_labeller(
            context.protocol, distilled, train, context.make, partial(student_augmentation, source=train),
            context.report, executor,
        )  # fmt: skip
        context, *others = (replace(c, teachers=labeller.teachers) for c in (context, *others))
    labeller = labeller if stored is None else stored_labeller(labeller, distilled, stored)
    w = distilled.sample_weight if weights else None
    if w is not None and not context.is_classification and any(c.learner is None for c in (context, *others)):
        raise PotstillError(
            f"a set's weights count where there are classes, but the task is {context.task.name}; `weights=False` "
            "trains on all samples alike"
        )
    own_set = TrainingSet.of_distilled(
        distilled, x, sizes["total"], weights=w, stored_labels=stored, own_labels=not context.teacher_labels
    )
    models = yardstick_scores(yardsticks, context.task, train, test)
    reference, label_rows = _references(context, full, "random-soft" in names)
    own = measure(context, "this set", own_set)
    measured, failed, best = measure_baselines(context, baseline_context, names, distilled, label_rows)
    captions = captions_entry(context, distilled, own, own_set) if baselines else None
    network, no_model = try_model_baseline(context, baseline_context) if model else (None, {})
    scores = _robust_scores(context, own, own_set, distilled, measured, reference, robust_scores)
    random = measured.get("random")
    by_network = {context.make.name: _network_entry(context, own, None if random is None else random[1])}
    for other in others:
        result = measure(other, other.make.name, own_set)
        # no number without its baseline: the same random sets, on this network
        baseline = None if random is None else measure(other, f"{other.make.name}: random", random[0])
        by_network[other.make.name] = _network_entry(other, result, baseline)
    results = _Results(
        sizes=sizes, context=context, measurement=own, baselines=measured, best_real=best,
        proportional=baseline_context.proportional, reference=reference, left_out=failed | left_out | no_model,
        scores=scores, by_network=by_network, labeller=labeller, stored=stored, model=network, yardsticks=models,
        captions=captions,
    )  # fmt: skip
    content = _content(results, protocol, distilled, splits, weights, started)
    verdict = judge_scorecard(content, {**distilled.metadata, "choice": distilled.choice}).to_dict()
    return Scorecard(content={**content, "verdict": verdict})


def encode_like(source: Source, distilled: Distilled) -> Source:
    """Return texts as vectors of the set's encoder: one fitted on other training texts gives others.

    Raises:
        PotstillError: the set's vectors are those of a user's own function, and the source's are not.
    """
    mine, theirs = distilled.encoder, getattr(source, "encoder", None)
    if mine is not None and theirs is not None:
        return source if mine == theirs or not isinstance(source, TensorSource) else source.encoded_by(mine)
    name = (distilled.metadata.get("encoder") or {}).get("name")
    if name is not None and theirs is not None and theirs.name != name:
        raise PotstillError(
            f"the set has vectors of {name}, which no file holds, but the data those of {theirs.name}; read the data "
            "with that function as encode"
        )
    return source


def normalize_like(source: Source, distilled: Distilled) -> Source:
    """Return the source with the set's normalization: a whitened set is tested on whitened data."""
    normalization = distilled.normalization.to(source.device)
    settings: tuple[Any, ...] = fields(source) if is_dataclass(source) else ()
    if hasattr(source, "subset") and any(f.name == "normalization" and f.init for f in settings):
        normalized: Source = replace(source, normalization=normalization)  # type: ignore[type-var]
        return normalized
    return SourceView.of(source, normalization)


@dataclass(frozen=True, kw_only=True)
class _Results:
    """Everything that an evaluation measured."""

    sizes: Mapping[str, int]
    """Bytes of the set by part; ``shared_decoder`` is one where it is counted."""
    context: EvaluationContext
    measurement: Measurement
    baselines: Mapping[str, tuple[TrainingSet, Measurement]]
    best_real: str | None
    """Name of the baseline that is the best real set by held-out training data."""
    proportional: bool
    reference: Mapping[str, Any] | None
    left_out: Mapping[str, str]
    scores: Mapping[str, float | None]
    by_network: Mapping[str, Mapping[str, Any]]
    labeller: Labeller | None
    stored: Labels | None
    model: ModelBaseline | None
    yardsticks: Mapping[str, Mapping[str, Any]]
    captions: Mapping[str, Any] | None


def _content(
    r: _Results, protocol: Protocol, distilled: Distilled, splits: Splits, weights: bool, started: float
) -> dict[str, Any]:
    """Return the scorecard's JSON."""
    context, own, card, test = r.context, r.measurement, distilled.metadata, splits.test
    shared = shared_decoder_bytes(card)
    assert test is not None
    train, learner, metric = context.train, context.learner, context.task.metric
    summarized = context.summarize(own)
    others = {name: m for name, (_, m) in r.baselines.items()}
    if r.model is not None:
        others[MODEL] = r.model.measurement
    gaps = {
        name: difference(
            own.values, m.values, count_answers(metric, len(context.test)),
            fixed=name != MODEL and learner is not None and not learner.learner.draws,
            samples=(own.samples, m.samples),
        )
        for name, m in others.items()
    }  # fmt: skip
    # as potstill.evaluation.vmap_students groups them
    alone = learner is not None or context.teacher_labels or not is_stackable(context.make)
    side_by_side = 1 if alone else min(context.students, context.side_by_side)
    baselines = {
        name: context.with_score(context.summarize(m)) | {
            "bytes": s.bytes, "items": s.items,
            "per_class": s.per_class if train.classes and not _is_natural(r, s) else None, "codec": s.codec,
            **({"balance": "natural"} if _is_natural(r, s) else {}),
            **{key: s.way[key] for key in ("selection", "labels") if key in s.way},
            "draws": len(s.pairs), "tried": list(s.trials), "chosen": dict(m.settings), "difference": gaps[name],
            **({"metrics": _further_metrics(context, m)} if m.further else {}),
            **({"units": m.units} if m.units else {}),
        }
        for name, (s, m) in r.baselines.items()
    }  # fmt: skip
    baselines |= best_real_entry(baselines, r.best_real)
    baselines |= {} if r.model is None else {MODEL: r.model.to_dict(context) | {"difference": gaps[MODEL]}}
    measurements = {"this set": own, **others}
    return {
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "fingerprint": protocol.fingerprint(),
        "network": context.make.name,
        **({} if learner is None else {"learner": learner.settings}),
        "n": len(own.values),
        "optimistic": protocol.optimistic,
        "quick": protocol.shortened,
        **({"accuracy": summarized} if context.is_classification else {}),
        "score": metric.to_dict | summarized,
        "interval": _interval(context, own),
        "baselines": baselines,
        "left_out": dict(r.left_out),
        "difference": gaps,
        "full": None if r.reference is None else context.with_score(r.reference),
        "scores": dict(r.scores),
        "bytes": dict(r.sizes) | _label_bytes(context, r.stored),
        **({"shared_decoder": {"bytes": shared, "counted": "shared_decoder" in r.sizes}} if shared else {}),
        "cost": {"seconds": round(time.monotonic() - started, 3), "device": str(train.device)}
        | ({"side_by_side": side_by_side} if side_by_side > 1 else {}),
        **(
            {"per_class": [
                {"name": c, "mean": a, "n": n} for c, a, n in zip(
                    train.classes, own.per_class,
                    torch.bincount(test.labels.cpu(), minlength=len(train.classes)).tolist(), strict=True,
                )
            ]}
            if context.is_classification else {}
        ),
        **({"per_group": own.per_group} if own.per_group else {}),
        **({"metrics": _further_metrics(context, own)} if own.further else {}),
        **({"confusion": own.confusion} if own.confusion else {}),
        **({"units": own.units} if own.units else {}),
        **({"naive": naive} if (naive := naive_scores(context.task, train, context.test)) else {}),
        **({"yardsticks": dict(r.yardsticks)} if r.yardsticks else {}),
        **({"nearest_captions": dict(r.captions)} if r.captions is not None else {}),
        **horizon_entry(distilled),
        "networks": dict(r.by_network),
        "test_samples": {name: m.samples.to_dict() for name, m in measurements.items() if m.samples is not None},
        "chosen": dict(own.settings),
        "diverged": own.diverged,
        **({} if r.labeller is None else {"labeller": r.labeller.to_dict()}),
        "seed": context.seed,
        "set": {
            "method": card["method"], "ipc": card["ipc"], "items": len(distilled),
            "source": card["source"].get("name"), "seed": card["seed"], "codec": (card.get("codec") or {}).get("name"),
            "kind": distilled.input.kind, "selection": distilled.is_selection,
            **({"choice": answer} if (answer := (distilled.choice or {}).get("answer")) else {}),
            **({} if distilled.weights is None else {"weighted": weights}),
            **({} if (claim := privacy_claim(card)) is None else {"privacy": {"epsilon": claim[0], "delta": claim[1]}}),
        },
        "data": {
            "name": train.name, "train": splits.train.content_hash, "test": test.content_hash,
            # False: the set came from other samples, perhaps from these test samples. None: unknown.
            "made_of_train": same_content(card["source"].get("hash"), splits.train.content_hash),
        },
        "versions": {"potstill": version("potstill"), "torch": torch.__version__},
    }  # fmt: skip


def _is_natural(r: _Results, training_set: TrainingSet) -> bool:
    """Return whether classes of a baseline are in proportion to their sizes."""
    return training_set.way.get("balance") == "natural" if training_set.way else r.proportional


def _interval(context: EvaluationContext, measurement: Measurement) -> str:
    """Return what the set's interval holds for, in words."""
    if measurement.samples is None:
        return PLAIN_INTERVAL
    stochastic = context.learner is None or context.learner.learner.draws
    return ONE_INTERVAL if len(measurement.values) == 1 and stochastic else INTERVAL


def _network_entry(context: EvaluationContext, measurement: Measurement, random: Measurement | None) -> dict[str, Any]:
    entry = context.with_score(context.summarize(measurement))
    if random is None:
        return entry
    return {**entry, "baselines": {"random": context.with_score(context.summarize(random))}}


def _further_metrics(context: EvaluationContext, measurement: Measurement) -> dict[str, Any]:
    metrics = getattr(context.task, "further_metrics", {})
    return {name: metrics[name].to_dict | summary(values) for name, values in measurement.further.items()}


def _label_bytes(context: EvaluationContext, stored: Labels | None) -> dict[str, int]:
    """Return the bytes of labels outside the set's own file: stored ones, or else the teachers."""
    if stored is not None:
        return {"stored_labels": stored.nbytes}
    return {} if context.teachers is None else {"teachers": context.teachers.bytes}


def _factories(
    distilled: Distilled, train: Source, protocol: Protocol, networks: Sequence[str | CustomNetwork] | None
) -> list[NetworkFactory]:
    published = protocol.network if get_kind(train.input).augmentable else None
    by_kind = get_kind(train.input).learner
    usual = default_network_name(train.input, get_task(train))
    names = networks or [by_kind or published or network_from_metadata(distilled) or usual]
    require_learner(names, train)
    return [
        make_learner(name, train) if isinstance(name, str) and is_learner_name(name)
        else factory_for(name, train)
        for name in dict.fromkeys(names)
    ]  # fmt: skip


def _executor(protocol: Protocol, make: NetworkFactory, train: Source, n: int, students: int, others: bool) -> Executor:
    """Return processes for long work, this process for short work; affects time only."""
    samples = min(n, protocol.recipe.batch) * _max_updates(protocol, n) * students
    if others:
        samples += int(RECIPE["steps"]) * int(RECIPE["batch"]) + 256 * TEACHER_STEPS
    seconds = 3 * count_operations(make, train.input) * samples / OPERATIONS_PER_SECOND
    return Serial() if seconds < SHORT_SECONDS else choose_executor(students, make.device, make)


def _max_updates(protocol: Protocol, n: int) -> int:
    """Return the maximum number of updates of a student on ``n`` inputs."""
    return max(protocol.recipe.steps, default=0) or (protocol.recipe.epochs or 0) * math.ceil(n / protocol.recipe.batch)


def _references(context: EvaluationContext, full: bool, soft: bool) -> tuple[Any, SoftLabelFn | None]:
    """Return the full-data reference and the soft-label teacher, made in parallel; ``None`` for what is not wanted."""
    reference = FullReference(train=context.train, test=context.test, make=context.make, seed=context.seed)
    teacher = TeacherJob(train=context.train, make=context.make, seed=context.seed)
    result = reference.load_cached() if full else None
    is_missing = full and result is None
    jobs: list[Callable[[], Any]] = [*([reference] if is_missing else []), *([teacher] if soft else [])]
    label = " and ".join(["full data"] * is_missing + ["teacher of random-soft"] * soft)
    if jobs:
        context.report(label, 0, len(jobs))
    outcomes = collect_results(context.executor.map(call, jobs), context.report, label, len(jobs))
    if is_missing:
        result = outcomes[0]
        reference.save(result)
    if result is not None:
        exact_bytes = count_exact_bytes(context.train)
        result = {**result, "bytes": exact_bytes, "items": len(context.train), "codec": "exact"}
    return result, partial(soft_labels, teacher.network(), outcomes[-1]) if soft else None


def _robust_scores(
    context: EvaluationContext,
    measurement: Measurement,
    own_set: TrainingSet,
    distilled: Distilled,
    baselines: Mapping[str, tuple[TrainingSet, Measurement]],
    reference: Mapping[str, Any] | None,
    robust: bool,
) -> dict[str, float | None]:
    """Return HLR, IOR, LRS and ARS; ``None`` for those whose inputs were not measured."""
    scores: dict[str, float | None] = {"hlr": None, "ior": None, "lrs": None, "ars": None}
    if "random" not in baselines:
        return scores
    random_set, random = baselines["random"]
    scores["ior"] = gain = ior(mean(measurement.values), mean(random.values))
    if not context.is_classification:
        if reference is not None:
            scores["hlr"] = hlr(reference["mean"], mean(measurement.values))
        return scores
    if reference is not None and ((distilled.labels.ndim == 1 and not context.teacher_labels) or robust):
        hard = measurement
        if distilled.labels.ndim == 2 or context.teacher_labels:
            protocol = context.protocol
            if context.teacher_labels:
                protocol = protocol.change(labels="given", loss="cross-entropy", hard_weight=0.0)
            pairs = [(own_set.pairs[0][0], distilled.hard_labels.to(context.train.device))]
            hard_set = TrainingSet(pairs=pairs, bytes=own_set.bytes, lr=own_set.lr, weights=own_set.weights)
            hard = measure(replace(context, protocol=protocol, teachers=None), "hard labels", hard_set)
        scores["hlr"] = shortfall = hlr(reference["mean"], mean(hard.values))
        scores["lrs"] = lrs(shortfall, gain)
    if robust and get_kind(context.train.input).augmentable:
        augment = augmentation_name("dsa", context.train.input) if measurement.settings["augment"] == "none" else "none"
        suffix = "without augmentation" if augment == "none" else f"with {augment}"
        own_mean, random_mean = (
            mean(measure(context, f"{name} {suffix}", training_set, augment=augment, selected=m.settings).values)
            for name, training_set, m in (("this set", own_set, measurement), ("random", random_set, random))
        )
        scores["ars"] = ars(gain, own_mean - random_mean)  # symmetric in its two gains while γ is 1/2
    return scores
