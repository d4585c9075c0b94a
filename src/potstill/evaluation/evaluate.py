"""``evaluate``: a set, its baselines and the full data under one protocol, and the scorecard of it."""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from potstill.augment.mix import label_rows as as_rows
from potstill.augment.names import augmentation_name
from potstill.core import Augmentation, Metric, NetworkFactory, Source, Splits, Task
from potstill.core.nested import num_samples, single_tensor, to_device
from potstill.data import SourceView, holdout
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.evaluation.augmentation import omitted_augmentations, student_augmentation
from potstill.evaluation.byte_matched_baselines import (
    BASELINES,
    CHEAP_OPERATIONS,
    MIN_DRAWS,
    TRIAL_STEPS,
    BaselineContext,
    SoftLabelFn,
    baseline_byte_budget,
    best_codecs,
    count_exact_bytes,
    count_shared_codecs,
    count_strata,
    count_trials,
    estimate_items,
    make_baseline,
    make_item_matched,
)
from potstill.evaluation.candidate_trials import count_operations
from potstill.evaluation.distilled_training import Teachers, check_stored_labels
from potstill.evaluation.estimators import LearnerFactory, is_learner_name, make_learner
from potstill.evaluation.fitting import (
    check_compatible,
    describe_data_mismatch,
    learned_lr,
    network_from_metadata,
    same_content,
)
from potstill.evaluation.forecast import estimate_seconds
from potstill.evaluation.full_data_reference import RECIPE, FullReference
from potstill.evaluation.naive import naive_scores, unit_errors
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.samples import SampleScores, sample_scores
from potstill.evaluation.scorecard import Scorecard
from potstill.evaluation.scores import ars, hlr, ior, lrs
from potstill.evaluation.statistics import INTERVAL, ONE_INTERVAL, PLAIN_INTERVAL, count_answers, difference, summary
from potstill.evaluation.student import StudentJob
from potstill.evaluation.teacher_labels import Labeller, resolve_labeller, stored_labeller
from potstill.evaluation.training_sets import TEACHER_STEPS, TeacherJob, TrainingSet
from potstill.evaluation.vmap_students import default_group_size, predict_all
from potstill.execution import Executor, Serial, choose_executor
from potstill.functional.label_simplex import to_scores
from potstill.labels.label_file import hash_inputs
from potstill.labels.teacher import soft_labels
from potstill.labels.teacher_file import Labels
from potstill.nn import CustomNetwork, default_network_name, factory, is_stackable
from potstill.rng import derive_seed
from potstill.tasks import Classification, get_targets, get_task

__all__ = ["check_compatible", "describe_data_mismatch", "evaluate", "network_from_metadata", "normalize_like"]

Report = Callable[[str, int, int], None]


SHORT = 10.0
"""Seconds of computing below which starting processes takes longer than it saves."""
RATE = 1e10
"""Operations per second and core, to judge what is short. Ours: a small network on a plain core."""
MOST_CONFUSED = 32
"""Of more classes no confusion is kept: its numbers grow with their square."""


_UNCHOSEN: Mapping[str, Any] = {"lr": 0.0, "steps": None}
"""Of a learner: the recipe does not concern it."""


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """What stays the same for all sets that are measured against each other with one network."""

    protocol: Protocol
    """Resolved for this data and this network."""
    make: NetworkFactory
    train: Source
    test: Source
    students: int
    seed: int
    executor: Executor
    report: Report
    side_by_side: int
    teachers: Teachers | None = None

    @property
    def task(self) -> Task:
        return get_task(self.train)

    @property
    def classes(self) -> bool:
        """Whether it is classes that are told apart."""
        return isinstance(self.task, Classification)

    def summed(self, measured: "_Measured") -> dict[str, Any]:
        """The scores of students, one each."""
        metric = self.task.metric
        return summary(measured.values, count_answers(metric, len(self.test)), metric.low, samples=measured.samples)

    def augment(self, name: str) -> Augmentation:
        return student_augmentation(name, self.train)


@dataclass(frozen=True, kw_only=True)
class _Measured:
    values: list[float]
    samples: SampleScores | None
    """Scores of the single test samples; ``None`` where there are too few to tell."""
    per_class: list[float]
    """Accuracy on each class; empty where there are none."""
    units: Mapping[str, Mapping[str, float]]
    """Of a forecast, errors of each variable in its own units; else empty."""
    confusion: list[list[int]]
    """Of each class how often it was taken for which; empty where there are none, or more than `MOST_CONFUSED`."""
    chosen: Mapping[str, Any]
    diverged: int


def evaluate(
    distilled: Distilled,
    splits: Splits,
    *,
    protocol: Protocol,
    networks: Sequence[str | CustomNetwork] | None = None,
    seeds: int | None = None,
    seed: int = 0,
    baselines: bool = True,
    full: bool = True,
    robust_scores: bool = True,
    stored: Labels | None = None,
    weights: bool = True,
    side_by_side: int | None = None,
    executor: Executor | None = None,
    progress: Report | None = None,
    expect: Callable[[float], None] | None = None,
) -> Scorecard:
    """Measure ``distilled`` against the test split of ``splits``.

    Args:
        protocol: how.
        networks: students, networks and learners (`potstill.evaluation.estimators`); the first is the headline.
        Default:
            for pictures the protocol's network, where it names one, else the network the set was made with.
        seeds: students per network, in place of the protocol's number.
        seed: decides every draw.
        baselines: random and, where there are classes, herding and random-soft in the same bytes, each stored in the
            way that serves it best (`potstill.evaluation.byte_matched_baselines`), and as many random samples as the
            set has inputs.
        full: the full-data reference.
        robust_scores: LRS and ARS, which need more students, and classes.
        stored: a teacher's labels of this set, for protocols in which a teacher labels: students of the set read them
            in place of asking it. Baselines ask it. Robust scores are then left out.
        weights: train with the set's weights, where it has any: as they are over their mean. ``False``: all alike.
        side_by_side: so many students, at most, are trained as one network, where their labels are the set's own; they
            learn what they would alone, up to rounding. Default: 32 on a GPU, 1 on a CPU.
        executor: where students are trained; results do not depend on it.
        progress: called with what is measured, students done, students in all.
        expect: called before the work with the seconds that it will take, about; two updates are run to know it.

    Raises:
        PotstillError: the set does not fit the data, or there is no test split.
    """
    begun = time.monotonic()
    if splits.test is None:
        raise PotstillError("evaluation needs real test data, but these have no test split; give data that has one")
    check_compatible(distilled, splits.train)
    train, test = (normalize_like(s, distilled) for s in (splits.train, splits.test))
    published = protocol.network if train.input.kind == "image" else None
    students_of = list(
        dict.fromkeys(networks or [published or network_from_metadata(distilled) or default_network_name(train.input)])
    )
    students = protocol.students if seeds is None else seeds
    if students < 1:
        raise PotstillError(f"at least one student is needed, but seeds is {students}")
    if side_by_side is not None and side_by_side < 1:
        raise PotstillError(f"at least one student is trained at a time, but side_by_side is {side_by_side}; use 1")
    task = get_task(train)
    makes = [
        make_learner(name, train) if isinstance(name, str) and is_learner_name(name)
        else factory(name, train.input, task.outputs, train.device, normalization=train.normalization)
        for name in students_of
    ]  # fmt: skip
    fitted = any(isinstance(make, LearnerFactory) for make in makes)
    bench, *others = (
        _Bench(
            protocol=protocol.resolve(train.name, make.name, train.input), make=make, train=train, test=test,
            students=students, seed=seed, report=progress or (lambda what, done, total: None),
            executor=executor or _executor(protocol, make, train, len(distilled), students, full or baselines),
            side_by_side=side_by_side or default_group_size(make.device),
        )
        for make in makes
    )  # fmt: skip
    if bench.protocol.teaching.labels == "teacher" and (fitted or not bench.classes):
        why = f"the task is {task.name}" if not bench.classes else "the student is no network"
        raise PotstillError(
            f"protocol {protocol.name} has a teacher label every batch of a network's classes, but {why}; choose "
            "another, such as potstill"
        )
    x, y = to_device(distilled.model_space(), train.device), distilled.labels.to(train.device)
    if stored is not None:
        check_stored_labels(bench.protocol, stored)
        stored.check(train.classes, hash_inputs(single_tensor(x, "a stored label")))
        robust_scores = False  # the file's views are those of one augmentation
    proportional = distilled.metadata.get("balance") == "natural" and len(set(train.labels.bincount().tolist())) > 1
    field = BaselineContext(
        train=train, byte_budget=baseline_byte_budget(distilled.metadata["bytes"]), make=bench.make, seed=seed,
        proportional=proportional, quick=bench.protocol.shortened, executor=bench.executor,
        steps=min(TRIAL_STEPS, max(1, _updates(bench.protocol, len(distilled)))),
    )  # fmt: skip
    # under a teacher's labels random samples are random-soft
    names = (
        [n for n in BASELINES if n != "random-soft" or bench.protocol.teaching.labels == "given"] if baselines else []
    )
    own_learner = bench.make if isinstance(bench.make, LearnerFactory) else None
    unasked: dict[str, str] = {}
    if (
        field.quick
        and "random-soft" in names
        and bench.classes
        and own_learner is None
        and not distilled.has_soft_labels
    ):
        # its teacher and its students are a third of the time that is left
        names = [n for n in names if n != "random-soft"]
        unasked = {"random-soft": "a quick look at a set of classes alone does not train its teacher"}
    if not bench.classes:
        names, robust_scores = names[:1], False
    elif own_learner is not None:  # random-soft's labels are a network's
        names, robust_scores = names[:2], False
    if expect is not None and own_learner is None:
        size, many = len(distilled), estimate_items(field)
        expect(estimate_seconds(
            bench.protocol, bench.make, train, bench.executor, students=students,
            items=[size] * (1 + baselines + len(others)) + [many] * (len(names) + baselines * len(others)),
            again=[size, many] * (robust_scores and baselines and train.input.kind == "image"), full=full,
            soft="random-soft" in names, trials=len(names) * count_trials(field), trial_steps=field.steps,
        ))  # fmt: skip
    labeller: Labeller | None = None
    if bench.protocol.teaching.labels == "teacher" and (stored is None or baselines):
        # one committee for all sets and all students
        labeller = resolve_labeller(bench.protocol, distilled, train, bench.make, bench.augment, bench.report, executor)
        bench, *others = (replace(b, teachers=labeller.teachers) for b in (bench, *others))
    labeller = labeller if stored is None else stored_labeller(labeller, distilled, stored)
    rate = learned_lr(distilled)
    w = distilled.sample_weight if weights else None
    if w is not None and not bench.classes and not all(isinstance(make, LearnerFactory) for make in makes):
        raise PotstillError(
            f"a set's weights count where there are classes, but the task is {task.name}; `weights=False` "
            "trains on all samples alike"
        )
    own_set = TrainingSet(
        pairs=[(x, y)], bytes=distilled.metadata["bytes"]["total"], stored_labels=stored, lr=rate,
        weights=None if w is None else w.to(train.device),
        scores=None if distilled.scores is None else distilled.scores.to(train.device),
    )  # fmt: skip
    reference, rows = _references(bench, full, "random-soft" in names)
    own = _measure(bench, "this set", own_set)
    rivals, left_out = _rivals(bench, field, names, distilled, rows)
    left_out |= unasked
    scores = _scores(bench, own, own_set, distilled, rivals, reference, robust_scores)
    metric = task.metric
    random = rivals.get("random")
    by_network = {bench.make.name: _on(bench, own, None if random is None else random[1])}
    for other in others:
        mine = _measure(other, other.make.name, own_set)
        # no number without its baseline: the same random sets, on this network
        plain = None if random is None else _measure(other, f"{other.make.name}: random", random[0])
        by_network[other.make.name] = _on(other, mine, plain)
    gaps = {
        n: difference(
            own.values,
            m.values,
            count_answers(metric, len(test)),
            fixed=own_learner is not None and not own_learner.learner.draws,
            samples=(own.samples, m.samples),
        )
        for n, (_, m) in rivals.items()
    }
    made_of = distilled.metadata["source"].get("hash")
    # as potstill.evaluation.vmap_students groups them
    alone = own_learner is not None or bench.protocol.teaching.labels == "teacher" or not is_stackable(bench.make)
    beside = 1 if alone else min(students, bench.side_by_side)
    content = {
        "protocol": protocol.name,
        "protocol_version": protocol.version,
        "fingerprint": protocol.fingerprint(),
        "network": bench.make.name,
        **({} if own_learner is None else {"learner": own_learner.settings}),
        "n": len(own.values),
        "optimistic": protocol.optimistic,
        "quick": protocol.shortened,
        **({"accuracy": bench.summed(own)} if bench.classes else {}),
        "score": metric.to_dict | bench.summed(own),
        "interval": _interval(own, own_learner),
        "baselines": {
            n: _scored(metric, bench.summed(m)) | {
                "bytes": s.bytes, "coded": s.entropy_coded_bytes, "items": s.items,
                "per_class": s.per_class if train.classes and not proportional else None, "store": s.codec,
                **({"balance": "natural"} if proportional else {}),
                "draws": len(s.pairs), "tried": list(s.trials), "chosen": dict(m.chosen), "difference": gaps[n],
                **({"units": m.units} if m.units else {}),
            }
            for n, (s, m) in rivals.items()
        },
        "left_out": left_out,
        "difference": gaps,
        "full": None if reference is None else _scored(metric, reference),
        "scores": scores,
        "bytes": {"coded": None, **distilled.metadata["bytes"]} | _label_bytes(bench, stored),
        "cost": {"seconds": round(time.monotonic() - begun, 3), "device": str(train.device)}
        | ({"side_by_side": beside} if beside > 1 else {}),
        **(
            {"per_class": [{"name": c, "mean": a} for c, a in zip(train.classes, own.per_class, strict=True)]}
            if bench.classes else {}
        ),
        **({"confusion": own.confusion} if own.confusion else {}),
        **({"units": own.units, "naive": naive_scores(task, train, test)} if own.units else {}),
        "networks": by_network,
        "test_samples": {
            n: m.samples.to_dict()
            for n, m in (("this set", own), *((name, m) for name, (_, m) in rivals.items())) if m.samples is not None
        },
        "chosen": dict(own.chosen),
        "diverged": own.diverged,
        **({} if labeller is None else {"labeller": labeller.to_dict()}),
        "seed": seed,
        "set": {
            "method": distilled.metadata["method"], "ipc": distilled.metadata["ipc"], "items": len(distilled),
            "source": distilled.metadata["source"].get("name"), "seed": distilled.metadata["seed"],
            "store": (distilled.metadata.get("store") or {}).get("name"),
        } | ({} if distilled.weights is None else {"weighted": weights}),
        "data": {
            "name": train.name, "train": splits.train.content_hash, "test": splits.test.content_hash,
            # False: the set came from other samples, perhaps from these test samples. None: nobody can say.
            "made_of_train": same_content(made_of, splits.train.content_hash),
        },
        "versions": {"potstill": version("potstill"), "torch": torch.__version__},
    }  # fmt: skip
    return Scorecard(content=content)


def _interval(own: _Measured, learner: LearnerFactory | None) -> str:
    """What the set's interval holds for, in words."""
    if own.samples is None:
        return PLAIN_INTERVAL
    return ONE_INTERVAL if len(own.values) == 1 and (learner is None or learner.learner.draws) else INTERVAL


def _scored(metric: Metric, summed: Mapping[str, Any]) -> dict[str, Any]:
    """A summary and, under ``score``, the same as every task has it."""
    kept = {name: summed[name] for name in ("mean", "std", "ci95", "n", "ci95_same_test") if name in summed}
    return {**summed, "score": metric.to_dict | kept}


def _on(bench: _Bench, own: _Measured, random: _Measured | None) -> dict[str, Any]:
    """What was measured with one network."""
    metric = bench.task.metric
    found = _scored(metric, bench.summed(own))
    return found if random is None else {**found, "baselines": {"random": _scored(metric, bench.summed(random))}}


def _label_bytes(bench: _Bench, stored: Labels | None) -> dict[str, int]:
    """What labels take that are not in the set's own file: stored ones, or else the teachers that give them."""
    if stored is not None:
        return {"stored_labels": stored.nbytes}
    return {} if bench.teachers is None else {"teachers": bench.teachers.bytes}


def _executor(protocol: Protocol, make: NetworkFactory, train: Source, n: int, students: int, others: bool) -> Executor:
    """Processes for long work, this process for short. It decides the time that is taken and nothing else."""
    updates = _updates(protocol, n)
    samples = min(n, protocol.recipe.batch) * updates * students
    if others:
        samples += int(RECIPE["steps"]) * int(RECIPE["batch"]) + 256 * TEACHER_STEPS
    return (
        Serial()
        if 3 * count_operations(make, train.input) * samples / RATE < SHORT
        else choose_executor(students, make.device, make)
    )


def _call(job: Callable[[], Any]) -> Any:
    return job()


def _references(bench: _Bench, full: bool, soft: bool) -> tuple[Any, SoftLabelFn | None]:
    """The full-data reference and the teacher's soft labels, made side by side; ``None`` for what is not wanted."""
    reference = FullReference(train=bench.train, test=bench.test, make=bench.make, seed=bench.seed)
    teacher = TeacherJob(train=bench.train, make=bench.make, seed=bench.seed)
    result = reference.load_cached() if full else None
    measure = full and result is None
    jobs: list[Callable[[], Any]] = [*([reference] if measure else []), *([teacher] if soft else [])]
    made: list[Any] = []
    if jobs:
        bench.report("full data and teacher", 0, len(jobs))
    for finished in bench.executor.map(_call, jobs):
        made.append(finished)
        bench.report("full data and teacher", len(made), len(jobs))
    if measure:
        result = made[0]
        reference.save(result)
    if result is not None:
        result = {**result, "bytes": count_exact_bytes(bench.train), "items": len(bench.train), "store": "exact"}
    return result, partial(soft_labels, teacher.network(), made[-1]) if soft else None


def _rivals(
    bench: _Bench, field: BaselineContext, names: Sequence[str], distilled: Distilled, rows: SoftLabelFn | None
) -> tuple[dict[str, tuple[TrainingSet, _Measured]], dict[str, str]]:
    """Every baseline with what was measured of it, and why others were left out."""
    found: dict[str, tuple[TrainingSet, _Measured]] = {}
    left_out: dict[str, str] = {}
    if not names:
        return found, left_out
    draws = _draws(bench)

    def measured(name: str, made: TrainingSet) -> _Measured:
        return _measure(replace(bench, students=max(bench.students, len(made.pairs))), name, made)

    for name in names:
        try:
            made = make_baseline(
                name, field, draws=draws, rows=rows,
                codecs=best_codecs(found["random"][0], count_shared_codecs(field)) if "random" in found else (),
                say=lambda what, done, total, name=name: bench.report(f"{name}: {what}", done, total),  # type: ignore[misc]
            )  # fmt: skip
        except PotstillError as error:
            left_out[name] = str(error)
            continue
        found[name] = made, measured(name, made)
    k = count_strata(bench.train)
    sizes = torch.bincount(bench.train.labels, minlength=k)
    held = distilled.hard_labels if bench.classes else torch.zeros(len(distilled), dtype=torch.int64)
    counts = torch.minimum(torch.bincount(held, minlength=k), sizes).tolist()
    items = make_item_matched(field, counts, draws)
    known = found.get("random")
    if known is not None and known[0].codec == "exact" and torch.equal(known[0].pair_for(0)[1], items.pair_for(0)[1]):
        found["random-items"] = items, known[1]  # the same samples, stored in the same way
    else:
        found["random-items"] = items, measured("random-items", items)
    return found, left_out


def _updates(protocol: Protocol, n: int) -> int:
    """The most updates that a student on ``n`` inputs makes."""
    return max(protocol.recipe.steps, default=0) or (protocol.recipe.epochs or 0) * math.ceil(n / protocol.recipe.batch)


def _draws(bench: _Bench) -> int:
    """Random draws that are measured: one for each student, and with few students more, where they cost little."""
    p, more = bench.protocol, MIN_DRAWS - bench.students
    updates = max(p.recipe.steps, default=0) or (p.recipe.epochs or 0)
    cost = 3 * count_operations(bench.make, bench.train.input) * updates * p.recipe.batch * more
    return MIN_DRAWS if 0 < cost <= CHEAP_OPERATIONS else bench.students


def normalize_like(source: Source, distilled: Distilled) -> Source:
    """The source under the set's own normalization: a whitened set is tested on whitened data."""
    normalization = distilled.normalization.to(source.device)
    settings: tuple[Any, ...] = fields(source) if is_dataclass(source) else ()
    if hasattr(source, "subset") and any(f.name == "normalization" and f.init for f in settings):
        seen: Source = replace(source, normalization=normalization)  # type: ignore[type-var]
        return seen
    return SourceView.of(source, normalization)


def _run(bench: _Bench, what: str, jobs: list[StudentJob], source: Source) -> list[Tensor | None]:
    """Every job's predictions for ``source``."""
    done: list[Tensor | None] = []
    bench.report(what, 0, len(jobs))
    for predicted in predict_all(source, jobs, bench.executor, bench.side_by_side):
        done.append(predicted)
        bench.report(what, len(done), len(jobs))
    return done


def _measure(
    bench: _Bench, what: str, made: TrainingSet, *, augment: str | None = None, chosen: Mapping[str, Any] | None = None
) -> _Measured:
    """Choose where the protocol leaves a choice, train the students, predict the test split once each.

    A protocol that is ``best-on-test`` predicts it more often, and counts the best. ``augment="none"`` leaves out the
    mix of labels too.
    """
    p = bench.protocol.for_set_size(num_samples(made.pair_for(0)[0]), count_strata(bench.train))
    bench = replace(bench, protocol=p)
    p = p if augment != "none" else p.change(mix="none")
    name = p.recipe.augment if augment is None else augment
    augmentation = bench.augment(name)
    fitted = bench.make if isinstance(bench.make, LearnerFactory) else None
    settings = dict(chosen or (_choose(bench, what, made, augmentation) if fitted is None else _UNCHOSEN))
    students = bench.students if fitted is None or fitted.learner.draws else len(made.pairs)
    jobs = [
        StudentJob(
            make=bench.make, x=made.pair_for(n)[0], y=_learned_from(bench, made, n), protocol=p, lr=settings["lr"],
            steps=settings["steps"],
            augment=augmentation, seed=derive_seed(bench.seed, "student", n), teachers=bench.teachers,
            stored_labels=made.stored_labels, weights=made.weights, task=bench.task,
        )
        for n in range(students)
    ]  # fmt: skip
    answers = _run(bench, what, jobs, bench.test)
    targets, diverged = get_targets(bench.test), sum(said is None for said in answers)
    # a student that diverged knows nothing: it counts as chance, and it is said
    values = [bench.task.chance_score(targets) if said is None else bench.task.score(said, targets) for said in answers]
    samples = sample_scores(bench.task, answers, targets)
    settings["augment"] = augmentation_name(name, bench.train.input)
    if said := omitted_augmentations(name, p, bench.train):
        settings["left_out"] = said
    settings = settings if fitted is None else {"augment": "none"}
    per_class = _per_class(answers, bench.test) if bench.classes else []
    units = unit_errors(bench.task, answers, targets)
    confusion = _confusion(answers, bench.test) if bench.classes and len(bench.test.classes) <= MOST_CONFUSED else []
    return _Measured(
        values=values, samples=samples, per_class=per_class, units=units, confusion=confusion, chosen=settings,
        diverged=diverged,
    )  # fmt: skip


def _learned_from(bench: _Bench, made: TrainingSet, student: int) -> Tensor:
    """The targets of a student: of classes scores, where outputs are compared with these, else classes or rows."""
    y, k = made.pair_for(student)[1], len(bench.train.classes)
    if not bench.classes:
        return y
    if isinstance(bench.make, LearnerFactory):
        real = made.scores is not None and getattr(bench.make.learner, "real_rows", False)
        return made.scores + 1 / k if real and made.scores is not None else y
    if bench.protocol.teaching.loss != "squared":
        return y
    return to_scores(as_rows(y, k, torch.float32)) if made.scores is None else made.scores


def _per_class(answers: Sequence[Tensor | None], test: Source) -> list[float]:
    """Accuracy on each class, the mean over students."""
    labels, k = test.labels, len(test.classes)
    sizes, hits = torch.bincount(labels, minlength=k).clamp(min=1), torch.zeros(k, dtype=torch.float64)
    for said in answers:
        hits += (
            1 / k / len(answers)
            if said is None
            else torch.bincount(labels[said == labels], minlength=k) / sizes / len(answers)
        )
    return hits.tolist()


def _confusion(answers: Sequence[Tensor | None], test: Source) -> list[list[int]]:
    """Of each class's test samples (row) how many were taken for which (column), without students that diverged."""
    k = len(test.classes)
    counts = torch.zeros(k * k, dtype=torch.int64)
    for said in answers:
        if said is not None:
            counts += torch.bincount((test.labels * k + said).cpu(), minlength=k * k)
    return counts.reshape(k, k).tolist()


def _choose(bench: _Bench, what: str, made: TrainingSet, augmentation: Augmentation) -> dict[str, Any]:
    """Learning rate first, at the greatest length; then the length. On a part of the training data, never on test."""
    p = bench.protocol
    least = p.recipe.least_epochs * math.ceil(num_samples(made.pair_for(0)[0]) / p.recipe.batch)
    lengths: tuple[int | None, ...] = tuple(dict.fromkeys(max(s, least) for s in p.recipe.steps)) or (None,)
    rates = (made.lr,) if p.selection.lr_of_set and made.lr is not None else p.recipe.lr
    if len(rates) * len(lengths) == 1:
        return {"lr": rates[0], "steps": lengths[0]}
    fraction = min(p.selection.validation, p.selection.validation_most / len(bench.train))
    held = holdout(bench.train, fraction, derive_seed(bench.seed, "validation") % 2**31)[1]

    targets, metric = get_targets(held), bench.task.metric
    lost = metric.low - 1 if metric.direction == "higher" else math.inf  # a student that diverged
    scores: dict[tuple[float, int | None], float] = {}

    def tried(pairs: list[tuple[float, int | None]]) -> tuple[float, int | None]:
        if len(pairs) == 1:
            return pairs[0]
        fresh = [pair for pair in pairs if pair not in scores]
        jobs = [
            StudentJob(
                make=bench.make, x=made.pair_for(n)[0], y=_learned_from(bench, made, n), protocol=p, lr=lr, steps=steps,
                augment=augmentation, seed=derive_seed(bench.seed, "choice", n), teachers=bench.teachers,
                stored_labels=made.stored_labels, weights=made.weights, task=bench.task,
            )
            for (lr, steps), n in itertools.product(fresh, range(p.selection.validation_students))
        ]  # fmt: skip
        found = [
            lost if q is None else bench.task.score(q, targets) for q in _run(bench, f"{what}: choosing", jobs, held)
        ]
        for i, pair in enumerate(fresh):
            scores[pair] = _mean(found[i * p.selection.validation_students : (i + 1) * p.selection.validation_students])
        # the first of equals: the lower rate, the shorter length
        return max(pairs, key=lambda pair: metric.sign * scores[pair])

    lr, _ = tried([(rate, lengths[-1]) for rate in rates])
    return dict(zip(("lr", "steps"), tried([(lr, steps) for steps in lengths]), strict=True))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _scores(
    bench: _Bench,
    own: _Measured,
    own_set: TrainingSet,
    distilled: Distilled,
    rivals: Mapping[str, tuple[TrainingSet, _Measured]],
    reference: Mapping[str, Any] | None,
    robust: bool,
) -> dict[str, float | None]:
    """HLR, IOR, LRS and ARS where what they need was measured, else ``None``."""
    found: dict[str, float | None] = {"hlr": None, "ior": None, "lrs": None, "ars": None}
    if "random" not in rivals:
        return found
    random_set, random = rivals["random"]
    found["ior"] = gain = ior(_mean(own.values), _mean(random.values))
    if not bench.classes:
        if reference is not None:
            found["hlr"] = hlr(reference["mean"], _mean(own.values))
        return found
    given = bench.protocol.teaching.labels == "given"
    if reference is not None and ((distilled.labels.ndim == 1 and given) or robust):
        hard = own
        if distilled.labels.ndim == 2 or not given:
            plain = bench.protocol
            if not given:
                plain = plain.change(labels="given", loss="cross-entropy", hard_weight=0.0)
            y = distilled.hard_labels.to(bench.train.device)
            pairs = [(own_set.pairs[0][0], y)]
            hard = _measure(
                replace(bench, protocol=plain, teachers=None), "hard labels",
                TrainingSet(pairs=pairs, bytes=own_set.bytes, lr=own_set.lr, weights=own_set.weights),
            )  # fmt: skip
        found["hlr"] = owed = hlr(reference["mean"], _mean(hard.values))
        found["lrs"] = lrs(owed, gain)
    if robust and bench.train.input.kind == "image":
        used = own.chosen["augment"]
        other = "none" if used != "none" else augmentation_name("dsa", bench.train.input)
        word = "without augmentation" if other == "none" else f"with {other}"
        mine, theirs = (
            _mean(_measure(bench, f"{what} {word}", made, augment=other, chosen=m.chosen).values)
            for what, made, m in (("this set", own_set, own), ("random", random_set, random))
        )
        found["ars"] = ars(gain, mine - theirs)  # symmetric in its two gains while γ is 1/2
    return found
