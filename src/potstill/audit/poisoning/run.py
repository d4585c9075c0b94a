"""``audit_poisoning``: does a set hide a trigger or wrong labels? Six detectors, with and without trusted data."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from potstill._util.audit_settings import PoisoningSettings, with_changes
from potstill.audit.poisoning.detectors import (
    LEAST,
    disagreement,
    foreign_neighbours,
    mean_by_class,
    ridge_harm,
    silhouettes,
    spectral_scores,
    spectral_shares,
)
from potstill.audit.poisoning.inversion import invert_triggers
from potstill.audit.poisoning.summary import Detection, detection, notes, result_values, sentence, tables
from potstill.audit.result import Audit
from potstill.audit.robustness.attacks import forward_of
from potstill.core import Network, Source
from potstill.data import TensorSource
from potstill.dataset_file import Distilled, load
from potstill.diagnostics.bench import Bench, TrainingData
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import held_out_indices
from potstill.evaluation.evaluate import normalize_like
from potstill.evaluation.fitting import learned_lr, network_from_metadata
from potstill.evaluation.protocols import POTSTILL
from potstill.evaluation.student import TEST_CHUNK, train
from potstill.execution.memory import keep_freed_memory
from potstill.nn import CustomNetwork, default_network_name, factory_for, parse_network
from potstill.rng import derive_seed, generator
from potstill.runs.arguments import CountCallback, count_callback, progress_context
from potstill.runs.load_data import load_set_and_splits, pick_device

__all__ = ["audit_poisoning"]

RATE = 0.03
_NEIGHBOURS = 5
_FEWEST_CLASSES = 4
"""Classes below which the median absolute deviation of mask sizes says nothing."""
_FEW = f"needs {LEAST} items in at least two classes"
_SHOWN = 10
"""Largest number of items that a detector names."""


def audit_poisoning(
    distilled: Distilled | str | Path,
    data: Any = None,
    settings: PoisoningSettings = PoisoningSettings(),  # a frozen value
    *,
    network: str | CustomNetwork | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: CountCallback = "auto",
    **changes: Any,
) -> Audit:
    """Look for a trigger or wrong labels that somebody put into a set of pictures, or into the data it was made of.

    From the set alone, by its students: trigger inversion, spectral signatures and activation clustering. With trusted
    data also agreement of the labels with networks trained on these, with the classes of the nearest trusted samples,
    and the influence of items on the error on trusted samples. Each detector has a threshold that no set under audit
    changes. A detector that cannot say anything is left out, with a note. No result proves that a set is clean.

    Args:
        distilled: a set, or its path. Pictures of at least two classes.
        data: real data that are trusted, as `potstill.load_data` takes them, of the set's shape and classes: their
            training part is used. Data that may be poisoned themselves answer nothing. Default: none.
        settings: number and training of the networks, and the search for triggers.
        network: network of the students. Default: the one that the set was made with.
        seed: seed of every draw.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: callback ``progress(name, done, total)``; ``auto``: show it on stderr; ``None``: silent.
        changes: fields of ``settings`` by name, in place of theirs.

    Returns:
        The part ``poisoning`` of an audit. ``values`` has ``flagged``, ``classes``, ``items``, ``detectors`` (score,
        threshold and scores by class of each) and ``skipped``.

    Raises:
        PotstillError: the set has no pictures or fewer than two classes with items, trusted data are of another shape
            or other classes, students diverge, or a number is out of its range.

    Examples:
        >>> small = potstill.distill("digits", "random", ipc=5, progress=None)
        >>> from potstill.audit.poisoning import audit_poisoning
        >>> audit = audit_poisoning(small, students=1, steps=5, inversion_steps=5, progress=None)
        >>> sorted(audit.values["detectors"]), sorted(audit.values["skipped"])
        (['clustering', 'inversion', 'spectral'], ['agreement', 'influence', 'neighbours'])
    """
    started = time.monotonic()
    keep_freed_memory()
    settings = with_changes(settings, changes)
    if data is None:
        small, trusted = distilled if isinstance(distilled, Distilled) else load(distilled), None
    else:
        small, splits = load_set_and_splits(distilled, data, device)
        trusted = splits.train
    _check_set(small)
    if trusted is not None:
        _check_trusted(small, trusted)
        trusted = normalize_like(trusted, small)
    bench = _bench(small, trusted, parse_network(network), settings, seed, device)
    with progress_context(progress) as watcher:
        bench = replace(bench, report=count_callback(progress, watcher))
        networks = _train(bench, "students of the set", [bench.distilled_data] * settings.students)
        found, skipped = _own_detections(bench, networks, trusted, settings)
        if trusted is None:
            missing = "needs trusted data, which were not given"
            skipped |= dict.fromkeys(("agreement", "neighbours", "influence"), missing)
        else:
            more, left_out = _trusted_detections(bench, trusted, settings.trusted_steps)
            found, skipped = [*found, *more], skipped | left_out
    values = result_values(found, skipped, small.classes, len(small))
    return Audit(
        part="poisoning", sentence=sentence(values), tables=tables(values, small.classes), values=values,
        notes=notes(values, trusted is not None and bool(small.is_selection)),
        settings={
            **asdict(settings), "trusted_steps": settings.trusted_steps if trusted is not None else None,
            "lr": bench.protocol.recipe.lr[0], "network": bench.make.name, "seed": seed,
            "trusted": None if trusted is None else trusted.name,
            "trusted_samples": 0 if trusted is None else len(trusted),
        },
        seconds=time.monotonic() - started,
    )  # fmt: skip


def _check_set(small: Distilled) -> None:
    if small.input.kind != "image" or small.input.parts:
        pairs = " (agreement of pictures and captions is not measured yet)" if small.captions else ""
        raise PotstillError(
            f"an audit of poisoning is of pictures in classes, but this set holds "
            f"{small.input.kind or 'several inputs'}{pairs}; give a set of pictures"
        )
    here = len(set(small.hard_labels.tolist())) if small.is_classification else 0
    if here < 2:
        raise PotstillError(
            f"a poisoned class is compared with others, so items of at least two classes are required, but this set "
            f"has them of {here}; give another set"
        )


def _check_trusted(small: Distilled, trusted: Source) -> None:
    mine, theirs = ((one.kind, *one.shape) for one in (small.input, trusted.input))
    if mine != theirs:
        said = ["×".join(map(str, shape)) for _, *shape in (mine, theirs)]
        raise PotstillError(
            f"trusted data need the set's shape, {said[0]}, but {trusted.name} has {said[1] or theirs[0]}; read them "
            "with `size=`, or give others"
        )
    if trusted.classes != small.classes:
        odd = next((c for c in small.classes if c not in trusted.classes), None)
        what = "they are in another order" if odd is None and len(trusted.classes) == len(small.classes) else (
            f"{odd!r} is not among them" if odd is not None else f"they are {len(trusted.classes)}"
        )  # fmt: skip
        raise PotstillError(
            f"trusted data need the set's {len(small.classes)} classes in its order, but in {trusted.name} {what}; "
            "give others"
        )
    x = trusted.raw(torch.arange(min(len(trusted), PoisoningSettings.samples)))
    assert isinstance(x, Tensor)
    if float(x.min()) < 0 or float(x.max()) > 1:
        raise PotstillError(
            f"triggers are pixels in [0, 1], but those of {trusted.name} are between {float(x.min()):g} and "
            f"{float(x.max()):g}; give pictures of 8 bits, or divide by the largest value"
        )


def _bench(
    small: Distilled, trusted: Source | None, network: str | CustomNetwork | None, settings: PoisoningSettings,
    seed: int, device: str,
) -> Bench:  # fmt: skip
    """Return what students are trained with; its real samples are the trusted ones, else the set's items."""
    x = small.inputs
    assert isinstance(x, Tensor)
    own = TensorSource(
        name="the set", input=small.input, classes=small.classes, normalization=small.normalization,
        inputs=x.float(), labels=small.hard_labels,
    ).to(pick_device(device))  # fmt: skip
    source: Source = own if trusted is None else trusted
    make = factory_for(network or network_from_metadata(small) or default_network_name(small.input), source)
    rate = settings.lr or learned_lr(small) or RATE
    protocol = POTSTILL.override(steps=settings.steps, lr=rate, least_epochs=0).resolve(
        source.name, make.name, source.input
    )
    return Bench(
        distilled=small, make=make, real=source, eval_source=own, test=None, eval_split="test", protocol=protocol,
        students=settings.students, seed=seed,
    )  # fmt: skip


def _train(bench: Bench, name: str, data: Sequence[TrainingData]) -> list[Network]:
    """Return networks, one for each training set.

    Raises:
        PotstillError: one of them diverged.
    """
    networks = list(bench.run(name, train, [bench.job(one, n) for n, one in enumerate(data)]))
    lost = sum(not all(bool(torch.isfinite(p).all()) for p in one.parameters()) for one in networks)
    if lost:
        raise PotstillError(f"{lost} of {len(networks)} {name} diverged; lower `lr=`")
    return [one.eval().requires_grad_(False) for one in networks]


def _outputs(of: Callable[[Tensor], Tensor], x: Float[Tensor, "n ..."]) -> Float[Tensor, "n d"]:
    with torch.no_grad():
        return torch.cat([of(part).flatten(1).double().cpu() for part in torch.split(x, TEST_CHUNK)])


def _mean(parts: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Return the means by class over students; a class without a score is without one in all of them."""
    return [
        None if any(v is None for v in of) else sum(v for v in of if v is not None) / len(of)
        for of in zip(*parts, strict=True)
    ]


def _own_detections(
    bench: Bench, networks: Sequence[Network], trusted: Source | None, settings: PoisoningSettings
) -> tuple[list[Detection], dict[str, str]]:
    """Return the detections by students of the set, and why others are missing."""
    labels, k = bench.distilled.hard_labels, len(bench.distilled.classes)
    detections: list[Detection] = []
    skipped: dict[str, str] = {}
    x = bench.distilled_data.x
    assert isinstance(x, Tensor)
    features = [_outputs(network.embed, x) for network in networks]
    shares = _mean([spectral_shares(of, labels, k) for of in features])
    if sum(one is not None for one in shares) < 2:
        skipped |= {"spectral": _FEW, "clustering": _FEW}
    else:
        outlying = torch.zeros(len(labels), dtype=torch.float64)
        for c in (c for c, share in enumerate(shares) if share is not None):
            at = torch.where(labels == c)[0]
            scores = torch.stack([spectral_scores(of[at])[0] for of in features])
            outlying[at] = (scores / scores.sum(1, keepdim=True).clamp(min=1e-300)).mean(0)
        detections.append(detection("spectral", shares, lambda c: _top(outlying, torch.where(labels == c)[0])))
        clusters = [silhouettes(of, labels, k) for of in features]
        by_class = _mean([scores for scores, _ in clusters])
        detections.append(detection("clustering", by_class, lambda c: clusters[0][1][c].tolist()[:_SHOWN]))
    pictures = _pictures(bench, trusted, settings.samples)
    if k < _FEWEST_CLASSES:
        skipped["inversion"] = f"needs {_FEWEST_CLASSES} classes, whose masks are compared"
    elif pictures is None:
        skipped["inversion"] = "the set's pixels are not in [0, 1], and there are no trusted pictures"
    else:
        sizes, success, steps = [], [], settings.inversion_steps
        for n, network in enumerate(networks):
            rng = generator(bench.seed, "poisoning", "inversion", n)
            forward = forward_of(network, bench.real.normalization)
            inverted = invert_triggers(
                forward, pictures, k, steps=steps, rng=rng,
                report=partial(_report_updates, bench, n * steps, len(networks) * steps),
            )  # fmt: skip
            sizes.append(inverted.size)
            success.append(inverted.success)
        least = float(torch.stack(success).mean(0).min())
        detections.append(detection("inversion", torch.stack(sizes).mean(0).tolist(), lambda _: [], success=least))
    return detections, skipped


def _report_updates(bench: Bench, before: int, total: int, done: int) -> None:
    bench.report("updates of triggers", before + done, total)


def _top(scores: Float[Tensor, " n"], at: Tensor) -> list[int]:
    """Return the items ``at`` whose share of their class's squared projections is more than twice an equal one."""
    high = at[scores[at] > 2 / len(at)]
    return [int(i) for i in high[scores[high].argsort(descending=True)][:_SHOWN]]


def _pictures(bench: Bench, trusted: Source | None, samples: int) -> Tensor | None:
    """Return pictures in [0, 1] that triggers are put on."""
    if trusted is None:
        x = bench.eval_source.raw(torch.arange(len(bench.eval_source)))
        assert isinstance(x, Tensor)
        return x.clamp(0, 1) if float(x.min()) >= -1 and float(x.max()) <= 2 else None
    at = torch.arange(len(trusted))
    if len(trusted) > samples:
        at = held_out_indices(trusted, derive_seed(bench.seed, "poisoning", "pictures"), max_samples=samples)
    x = trusted.raw(at)
    assert isinstance(x, Tensor)
    return x


def _trusted_detections(bench: Bench, trusted: Source, steps: int) -> tuple[list[Detection], dict[str, str]]:
    """Return the detections by networks of trusted data, and why others are missing."""
    small = bench.distilled
    every = trusted.fetch(torch.arange(len(trusted)))
    assert every.y is not None
    assert isinstance(every.x, Tensor)
    on = replace(bench, protocol=bench.protocol.change(steps=(steps,)))
    networks = _train(on, "networks of trusted data", [TrainingData(x=every.x, y=every.y)] * bench.students)
    labels, k = small.hard_labels, len(small.classes)
    x = bench.distilled_data.x
    assert isinstance(x, Tensor)
    wrong, answers = disagreement([_outputs(network, x) for network in networks], labels)
    features = [(_outputs(network.embed, x), _outputs(network.embed, every.x)) for network in networks]
    foreign = torch.stack([
        foreign_neighbours(own, labels, theirs, trusted.labels, _NEIGHBOURS) for own, theirs in features
    ]).mean(0)  # fmt: skip
    odd = answers != labels
    found = [
        detection("agreement", mean_by_class(wrong, labels, k), lambda c: _worst(wrong, odd & (labels == c))),
        detection(
            "neighbours", mean_by_class(foreign, labels, k),
            lambda c: _worst(foreign, (foreign > 0.5) & (labels == c)),
        ),
    ]  # fmt: skip
    if int((torch.bincount(labels, minlength=k) >= LEAST).sum()) < 2:
        return found, {"influence": _FEW}
    harm = torch.stack([ridge_harm(own, labels, theirs, trusted.labels, k) for own, theirs in features]).mean(0)
    by_class = mean_by_class(harm, labels, k)
    return [*found, detection("influence", by_class, lambda c: _worst(harm, (harm > 0) & (labels == c)))], {}


def _worst(values: Float[Tensor, " n"], mask: Tensor) -> list[int]:
    at = torch.where(mask)[0]
    return [int(i) for i in at[values[at].argsort(descending=True, stable=True)][:_SHOWN]]
