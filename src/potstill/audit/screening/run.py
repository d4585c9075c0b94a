"""``audit_screening``: how well students of a set find one class, beside students of real samples."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from potstill._util.audit_settings import Screening, with_changes
from potstill.audit.result import Audit, AuditTable
from potstill.audit.screening.threshold import METRICS, Scores, compare_rates, rates, threshold_at
from potstill.core import Source, Splits
from potstill.data import holdout
from potstill.data.attributes import get_attribute
from potstill.dataset_file import Distilled
from potstill.diagnostics import make_bench
from potstill.diagnostics.bench import Bench, Condition, TrainingData, network_outputs
from potstill.errors import PotstillError, unknown_name
from potstill.evaluation.statistics import summary
from potstill.evaluation.student import StudentJob, train
from potstill.execution.memory import keep_freed_memory
from potstill.nn import CustomNetwork, parse_network
from potstill.rng import derive_seed, generator
from potstill.runs.arguments import CountCallback, count_callback, progress_context
from potstill.runs.load_data import load_set_and_splits

__all__ = ["Screening", "audit_screening"]

MAX_TEST = 10_000
"""Largest number of test samples."""
HELD_OUT = 0.2
"""Share of the training samples that say the threshold, and that no student of real samples trains on."""
LEAST = 10
"""Positive, or negative, test samples of a value of the attribute below which its rate is left out."""
_NAMES = {"set": "the set", "random": "as many random", "all data": "all data"}


def audit_screening(
    distilled: Distilled | str | Path,
    data: Any,
    settings: Screening = Screening(),  # a frozen value
    *,
    network: str | CustomNetwork | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: CountCallback = "auto",
    **changes: Any,
) -> Audit:
    """Measure how well students of a set find one class: AUROC, and sensitivity at a fixed specificity.

    Students of three training sets are tested on the same test samples: the set, as many random real samples with the
    same class shares (another draw for each student), and all training data. Each student's threshold is that of
    ``specificity`` on negatives of a fifth of the training samples, which students of real samples do not train on; no
    test sample has a part in it. Where the data have an attribute, both rates stand by its values, at one threshold.

    Args:
        distilled: a set, or its path.
        data: anything `potstill.load_data` takes or returns; the set's own reading options apply.
        settings: the class, the specificity, and the students.
        network: network of the students. Default: the one that the set was made with.
        seed: seed of every draw.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: callback ``progress(name, done, total)``; ``auto``: show it on stderr; ``None``: silent.
        changes: fields of ``settings`` by name, in place of theirs.

    Returns:
        The part ``screening`` of an audit. ``values`` has ``rates`` by training set, ``difference`` of the set to the
        others, and ``by_value`` of the attribute.

    Raises:
        PotstillError: the data have no classes or no test part, the class is not named or not there, or there are too
            few samples for the specificity.

    Examples:
        >>> from potstill.audit.screening import audit_screening
        >>> from potstill.audit.screening.run import Screening
        >>> small = potstill.distill("digits", "random", ipc=1, progress=None)
        >>> settings = Screening(positive="3", students=2, steps=5, full_steps=5)
        >>> audit = audit_screening(small, "digits", settings, progress=None)
        >>> sorted(audit.values["rates"])
        ['all data', 'random', 'set']
    """
    started = time.monotonic()
    keep_freed_memory()
    settings = with_changes(settings, changes)
    small, splits = load_set_and_splits(distilled, data, device)
    positive = _positive_class(splits, settings.positive)
    whole = make_bench(
        small, splits, network=parse_network(network), eval_split="test", students=settings.students,
        steps=settings.steps, lr=settings.lr, seed=seed, most=MAX_TEST,
    )  # fmt: skip
    name = splits.train.classes[positive]
    is_positive = whole.eval_source.labels.cpu() == positive
    if not 0 < int(is_positive.sum()) < len(is_positive):
        raise PotstillError(f"the test part of {splits.train.name} has samples of {name!r} alone, or none; read more")
    rest, held_out = holdout(whole.real, HELD_OUT, derive_seed(seed, "screening") % 2**31)
    others = torch.where(held_out.labels.cpu() != positive)[0]
    negatives: Source = held_out.subset(others)  # type: ignore[attr-defined]  # holdout's parts have it
    if len(negatives) * (1 - settings.specificity) < 1 - 1e-9:
        raise PotstillError(
            f"specificity {settings.specificity:g} needs {round(1 / (1 - settings.specificity))} held-out "
            f"negatives, but there are {len(negatives)}; lower it, or read more data"
        )
    with progress_context(progress) as watcher:
        bench = replace(whole, real=rest, report=count_callback(progress, watcher))
        scores, diverged = _scores(bench, positive, negatives, settings.full_steps)
    values = _values(bench, scores, is_positive, settings.specificity, seed)
    values |= {"positive": name, "positives": int(is_positive.sum()), "held_out_negatives": len(negatives)}
    return Audit(
        part="screening", sentence=_sentence(values), tables=_tables(values),
        notes=_notes(values, bench, settings, diverged), values=values,
        settings={
            "positive": name, "specificity": settings.specificity, "students": settings.students,
            "steps": settings.steps, "full_steps": settings.full_steps, "lr": bench.protocol.recipe.lr[0],
            "network": bench.make.name, "seed": seed, "test_samples": len(bench.eval_source),
        },
        seconds=time.monotonic() - started,
    )  # fmt: skip


def _positive_class(splits: Splits, name: str | None) -> int:
    """Return the number of the class to be found."""
    train, classes = splits.train, splits.train.classes
    if len(classes) < 2:
        raise PotstillError(f"sensitivity is of a class, but {train.name} has {len(classes) or 'none'}; give two")
    if splits.test is None:
        raise PotstillError(f"{train.name} has no test part, on which rates are measured; read it with one")
    if name is None and len(classes) > 2:
        raise PotstillError(
            f'{train.name} has {len(classes)} classes: name the one to find, as in `positive="{classes[0]}"`'
        )
    if name is None:
        return int(torch.bincount(train.labels.cpu(), minlength=len(classes)).argmin())
    if name not in classes:
        raise unknown_name("class", name, list(classes))
    return classes.index(name)


def _margins(sources: Sequence[Source], positive: int, job: StudentJob) -> list[Tensor] | None:
    """Return log-odds of the class (n,) for the samples of each source; ``None`` if the student diverged."""
    network = train(job)
    if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
        return None
    outputs = [network_outputs(network, source).double() for source in sources]
    others = [c for c in range(outputs[0].shape[1]) if c != positive]
    return [o[:, positive] - torch.logsumexp(o[:, others], 1) for o in outputs]


def _scores(bench: Bench, positive: int, negatives: Source, full_steps: int) -> tuple[dict[str, list[Scores]], int]:
    """Return the scores of each student by training set, and how many diverged; these are left out of all."""
    every = bench.real.fetch(torch.arange(len(bench.real)))
    assert every.y is not None
    all_data = TrainingData(x=every.x, y=every.y)
    full = replace(bench, protocol=bench.protocol.change(steps=(full_steps,)))
    conditions = {
        "set": (bench, bench.distilled_condition()), "random": (bench, bench.random_condition()),
        "all data": (full, Condition(name="all data", items=len(bench.real), data_for=lambda _: all_data)),
    }  # fmt: skip
    found = {}
    for name, (at, lesson) in conditions.items():
        jobs = [at.job(lesson.data_for(n), n) for n in range(bench.students)]
        found[name] = at.run(
            f"students of {lesson.name}", partial(_margins, (bench.eval_source, negatives), positive), jobs
        )
    complete = [n for n in range(bench.students) if all(of[n] is not None for of in found.values())]
    if len(complete) < 2:
        raise PotstillError(
            f"{bench.students - len(complete)} of {bench.students} students diverged, and two have to remain; lower "
            "`lr=`"
        )
    scores = {name: [Scores(*one) for n in complete if (one := of[n]) is not None] for name, of in found.items()}
    return scores, bench.students - len(complete)


def _values(
    bench: Bench, scores: Mapping[str, Sequence[Scores]], positive: Bool[Tensor, " n"], specificity: float, seed: int
) -> dict[str, Any]:
    """Return the results as JSON values."""
    of_each = {name: [rates(s, positive, specificity) for s in of] for name, of in scores.items()}
    values: dict[str, Any] = {
        "n": len(scores["set"]), "specificity": specificity,
        "rates": {
            name: {metric: _interval_of([getattr(r, metric) for r in of]) for metric in METRICS}
            for name, of in of_each.items()
        },
        "difference": {
            other: compare_rates(
                scores["set"], scores[other], positive, specificity, generator(seed, "screening", other)
            )
            for other in ("random", "all data")
        },
    }  # fmt: skip
    attribute = get_attribute(bench.eval_source)
    if attribute is not None:
        rows = []
        for number, value in enumerate(attribute.values):
            here = attribute.codes.cpu() == number
            row: dict[str, Any] = {"value": value, "n": int(here.sum())}
            for metric, kind in (("sensitivity", positive), ("specificity", ~positive)):
                at = here & kind
                row[metric] = None if int(at.sum()) < LEAST else {
                    name: _interval_of([_rate(s, at, metric, specificity) for s in of]) for name, of in scores.items()
                }  # fmt: skip
            rows.append(row)
        values["by_value"] = rows
    return values


def _rate(scores: Scores, at: Tensor, metric: str, specificity: float) -> float:
    """Return the share of the test samples ``at`` that are called what they are."""
    called = float((scores.test[at] > threshold_at(scores.held_out, specificity)).double().mean())
    return called if metric == "sensitivity" else 1 - called


def _interval_of(values: Sequence[float]) -> dict[str, Any]:
    """Return mean and interval over students of rates, in [0, 1]."""
    found = summary(values, low=0.0)
    ends = found["ci95"]
    return {**found, "ci95": None if ends is None else [max(0.0, ends[0]), min(1.0, ends[1])]}


def _sentence(values: Mapping[str, Any]) -> str:
    got, differences = values["rates"], values["difference"]
    auroc = ", ".join(f"{got[name]['auroc']['mean']:.3f}" for name in ("set", "random"))
    return (
        f"Students of the set find {_percent(got['set']['sensitivity']['mean'])} of the test samples of "
        f"{values['positive'][:40]!r} at a specificity of {values['specificity']:.0%} on held-out training samples, "
        f"those of as many random real samples {_percent(got['random']['sensitivity']['mean'])} (set minus random "
        f"{_signed(differences['random']['sensitivity'])} points); those of all data find "
        f"{_percent(got['all data']['sensitivity']['mean'])} (set minus all data "
        f"{_signed(differences['all data']['sensitivity'])}). AUROC: {auroc} and "
        f"{got['all data']['auroc']['mean']:.3f}."
    )


def _tables(values: Mapping[str, Any]) -> list[AuditTable]:
    head = ["", *_NAMES.values(), "set minus random", "set minus all data"]
    words = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity reached"}
    rows = [
        [words[metric], *(_interval(values["rates"][name][metric]) for name in _NAMES),
         *(_signed(values["difference"][other][metric]) for other in ("random", "all data"))]
        for metric in METRICS
    ]  # fmt: skip
    tables = [AuditTable(caption=f"Rates in percent of the class {values['positive']!r}", head=head, rows=rows)]
    if "by_value" in values:
        by_value = [
            [f"{row['value']}: {metric}", f"{row['n']:,}",
             *("too few" if row[metric] is None else _interval(row[metric][name]) for name in _NAMES)]
            for row in values["by_value"] for metric in ("sensitivity", "specificity")
        ]  # fmt: skip
        tables.append(
            AuditTable(
                caption="Rates in percent by value of the attribute, at one threshold",
                head=["", "test samples", *_NAMES.values()],
                rows=by_value,
            )
        )
    return tables


def _notes(values: Mapping[str, Any], bench: Bench, settings: Screening, diverged: int) -> list[str]:
    test = len(bench.eval_source)
    notes = [
        f"{values['positives']:,} of {test:,} test samples are positive. The threshold of each student is that of "
        f"{values['held_out_negatives']:,} negatives among a fifth of the training samples; students of real samples "
        "did not train on them, but the set may have been made of them, so look at the specificity reached.",
        f"Intervals of 95 % are over {values['n']} students, those of differences also over test samples and held-out "
        f"ones; all are of one set. Students of all data had {settings.full_steps:,} updates, the others "
        f"{settings.steps:,}.",
    ]
    if diverged:
        notes.append(f"{diverged} of {bench.students} students diverged in a training set and were left out of all.")
    return notes


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(value: Mapping[str, Any]) -> str:
    mean, ends = 100 * value["mean"], value["ci95"]
    return f"{mean:.1f}" if ends is None else f"{mean:.1f} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def _signed(difference: Mapping[str, Any]) -> str:
    mean, ends = 100 * difference["mean"], difference["ci95"]
    return f"{mean:+.1f} [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]"
