"""Labels ``network``: a set of pictures or rows with a small network in its file that labels views of them.

The network is trained on all training data and stored in few bits, as the baseline ``model`` is; any method then makes
the inputs, in the bytes that are left. Students learn the network's answers for crops, flips and mixes of the inputs
(`potstill.dataset_file.labeller_io`). It lives here, and not in a method, as methods do not know students. Test data
are not read.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill._util.progress import ProgressReporter
from potstill.automl.labelled_codec import CodecTrial, rank_codecs
from potstill.automl.real import fit_counts, one_of_each
from potstill.automl.resume import own_files
from potstill.core import InputSpec, Source
from potstill.core.registry import with_settings
from potstill.data.groups import source_key
from potstill.dataset_file import Distilled
from potstill.dataset_file.labeller_io import (
    LABELLER,
    MOST_SAMPLES,
    StoredLabeller,
    labeller_parts,
    labeller_to_json,
    usual_samples,
    usual_views,
)
from potstill.dataset_file.load import validated_set
from potstill.dataset_file.output import SetOutput
from potstill.dataset_file.payload_io import bytes_by_part
from potstill.dataset_file.replacing import hash_run
from potstill.dataset_file.text_io import charged_bytes
from potstill.errors import PotstillError
from potstill.evaluation.model_baseline import STEPS, measure_model_cost, model_contexts, train_models
from potstill.kinds import get_kind
from potstill.nn.quantized_model import PackedModel
from potstill.rng import derive_seed
from potstill.runs.load_data import as_splits, pick_device
from potstill.runs.resolve import ResolvedRun, resolve_run
from potstill.runs.runner import execute
from potstill.runs.spec import RunIO, RunLimits, RunSpec
from potstill.tasks import Classification, get_task

__all__ = [
    "NETWORK_LABELS",
    "NetworkLabels",
    "add_labeller",
    "distil_with_labeller",
    "parse_network_labels",
    "split_budget",
]

NETWORK_LABELS = "network"
"""Value of ``labels`` that asks for it, with settings after a colon."""
SHARE, LEAST_BYTES, USUAL_BYTES = 0.4, 400, 900
"""Part of a budget in bytes that the network gets at most, its least bytes, and its bytes in a budget of items."""
USUAL_CODEC, ROW_CODEC = "uint2", "columns:bits=4"
"""Codecs of random pictures and rows in a budget of bytes where none is named: the first tried, and those of a plan."""
CODEC_PART = 0.25
"""Part of what is left of a time limit that trying codecs may take."""
_OBJECTS = ("initial", "networks", "experts", "generator", "scores")
"""Fields of a run whose values may be objects, which text does not tell apart."""
LIMIT_PART, LEAST_STEPS = 0.5, 200
"""Part of a time limit that its training may take, and updates that it has at least."""

Make = Callable[[RunSpec, RunLimits, RunIO, ProgressReporter, SetOutput | None], Distilled]
"""Function that makes the set of a spec."""


@dataclass(frozen=True, kw_only=True)
class NetworkLabels:
    """Settings of labels by a network in the file.

    Raises:
        PotstillError: a value out of its range.
    """

    bytes: int = 0
    """Bytes of the network; 0: two fifths of the budget at most (`SHARE`), 900 where that is a number of items."""
    steps: int = STEPS
    """Updates of its training."""
    samples: int = 0
    """Views that students get; 0: 20,000, of large pictures fewer."""

    def __post_init__(self) -> None:
        ranges = {"bytes": (0, 1 << 24), "steps": (1, 1 << 24), "samples": (0, MOST_SAMPLES)}
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise PotstillError(
                    f"labels network: {name} must be from {least:,} to {most:,}, but it is {getattr(self, name):,}; "
                    "change it"
                )


def parse_network_labels(labels: str | None) -> NetworkLabels | None:
    """Return the settings of ``network`` or ``network:bytes=900,samples=5000``; ``None``: other labels.

    Raises:
        PotstillError: no such setting, or a value of another type or out of its range.
    """
    name, _, settings = (labels or "").partition(":")
    if name != NETWORK_LABELS:
        return None
    made = with_settings("labels network", NetworkLabels, settings)
    assert isinstance(made, NetworkLabels)
    return made


def distil_with_labeller(
    spec: RunSpec, limits: RunLimits, io: RunIO, reporter: ProgressReporter, output: SetOutput | None, make: Make
) -> Distilled:
    """Return the set of ``spec`` with a labeller, both in its bytes.

    Args:
        spec: its labels are ``network``; its method makes the inputs.
        limits: of both together; half of a time limit at most is the network's, a quarter of the rest the codec's.
        io, reporter: of the run.
        output: where the set will also be written.
        make: makes the set without a labeller.

    Raises:
        PotstillError: the data are neither pictures nor rows with classes, or the bytes are too few.
    """
    settings = parse_network_labels(spec.labels)
    assert settings is not None
    splits = as_splits(spec.data, pick_device(spec.device))
    train, size = splits.train, _budget_bytes(spec)
    _check_served(train)
    network_bytes = _network_bytes(spec, settings)
    if spec.zca is not None:
        raise PotstillError("labels network: a network labels samples as they are; leave zca out")
    digest = _digest(spec, train, limits)
    if output is not None:
        output.check(splits.files)
        if (existing := output.load_existing({"run_digest": digest}, reporter.warn)) is not None:
            return existing
    started = time.monotonic()
    packed = _trained(train, network_bytes, settings, limits, reporter, spec)
    views = usual_views(train.input, seed=derive_seed(spec.seed, LABELLER) % 2**31)
    labeller = StoredLabeller(packed=packed, views=views, samples=settings.samples or usual_samples(train.input))
    inner, trials = _without_network(dataclasses.replace(spec, data=splits), packed.bytes), list[CodecTrial]()
    if _tries_codecs(spec):
        trials = _rank_codecs(inner, train, labeller, limits, reporter)
    seconds, inner_io = time.monotonic() - started, dataclasses.replace(io, out=None)
    if trials:
        small = execute(_in_codec(inner, trials[0], train), limits, inner_io, reporter)
    else:
        small = make(inner, limits, inner_io, reporter, None)
    if small.normalization.whitening is not None:
        raise PotstillError("labels network: the method whitens samples, and the network labels them as they are")
    made = add_labeller(small, labeller, seconds)
    if trials:
        made.record["choice"] = _choice(trials, inner, len(train))
    if size is not None and charged_bytes(made.metadata["bytes"]) > size:
        raise PotstillError(
            f"labels network: the set takes {charged_bytes(made.metadata['bytes']):,} of {size:,} bytes; give more"
        )
    made.metadata["run_digest"] = digest
    if output is not None:
        output.write(made)
    return made


def _digest(spec: RunSpec, train: Source, limits: RunLimits) -> str:
    """Return the hash of everything that decides the set, known before it is made."""
    about = {name: str(value) for name, value in vars(spec).items() if name not in ("data", "options")}
    given = {name: value for name in _OBJECTS if not isinstance(value := getattr(spec, name), str | Path | None)}
    about |= {name: f"object {id(value)}" for name, value in given.items()}  # no other run is known to be the same
    seconds = None if limits.clock is None else limits.clock.seconds
    return hash_run({
        "network labels": about, "options": dict(spec.options), "data": source_key(train), "steps": limits.steps,
        "time_limit": seconds, "device": str(train.device), "own_files": own_files(train, spec.network),
    }, {})  # fmt: skip


def split_budget(spec: RunSpec) -> tuple[RunSpec, int]:
    """Return the spec of a set's inputs alone, and the bytes that its network may have.

    Raises:
        PotstillError: the bytes are too few for both.
    """
    settings = parse_network_labels(spec.labels)
    assert settings is not None
    size = _network_bytes(spec, settings)
    splits = as_splits(spec.data, pick_device(spec.device))
    return _without_network(dataclasses.replace(spec, data=splits), size), size


def _budget_bytes(spec: RunSpec) -> int | None:
    return spec.size_budget.amount if spec.size_budget.unit == "bytes" else None


def _network_bytes(spec: RunSpec, settings: NetworkLabels) -> int:
    size = _budget_bytes(spec)
    network_bytes = settings.bytes or (USUAL_BYTES if size is None else round(SHARE * size))
    if network_bytes < LEAST_BYTES or (size is not None and network_bytes >= size):
        raise PotstillError(
            f"labels network: the network needs at least {LEAST_BYTES} bytes and fewer than the set, but it would have "
            f"{network_bytes:,} of {size or 0:,}; give more bytes, or leave labels out"
        )
    return network_bytes


def _usual_codec(input: InputSpec) -> str:
    return ROW_CODEC if get_kind(input).mixes else USUAL_CODEC


def _tries_codecs(spec: RunSpec) -> bool:
    return spec.codec is None and spec.method == "random" and _budget_bytes(spec) is not None


def _rank_codecs(
    inner: RunSpec, train: Source, labeller: StoredLabeller, limits: RunLimits, reporter: ProgressReporter
) -> list[CodecTrial]:
    """Return the codecs of the inputs, the one whose labelled views teach most first."""
    clock, size = limits.clock, _budget_bytes(inner)
    assert size is not None
    until = math.inf if clock is None else clock.elapsed + CODEC_PART * clock.remaining
    return rank_codecs(
        train, labeller, size, seed=inner.seed, natural=inner.size_budget.natural, first=_usual_codec(train.input),
        report=reporter.report_count, is_late=lambda: clock is not None and clock.elapsed > until,
    )  # fmt: skip


def _in_codec(inner: RunSpec, trial: CodecTrial, train: Source) -> ResolvedRun:
    """Return the run that keeps as many random samples in a codec as fit, counted by writing them."""
    size = _budget_bytes(inner)
    assert size is not None
    spec = dataclasses.replace(
        inner, method="real", options={**inner.options, "selection": "random"}, codec=trial.codec,
        balance="natural" if inner.size_budget.natural else "equal",
    )  # fmt: skip
    return fit_counts(resolve_run(one_of_each(spec, train)), size, trial.per_class)


def _choice(trials: Sequence[CodecTrial], spec: RunSpec, samples: int) -> dict[str, Any]:
    """Return the trials of codecs as metadata: JSON values and one sentence."""
    balance = "natural" if spec.size_budget.natural else "equal"
    students = sum(trial.accuracy is not None for trial in trials)
    way = {"selection": "random", "balance": balance, "labels": NETWORK_LABELS}
    text = (
        f"Random real samples in {trials[0].codec}: the best of {len(trials)} codecs, by ridge regression on views "
        f"that the network labels and by {students} small students, scored on others of the {samples:,} training "
        "samples, which the network has seen: scores compare codecs, and are too high for new data; test data were not "
        "read."
    )
    return {
        "text": text, "chosen": {**way, "codec": trials[0].codec}, "tried": [{**way, **t.to_dict()} for t in trials],
    }  # fmt: skip


def _without_network(spec: RunSpec, network_bytes: int) -> RunSpec:
    size = _budget_bytes(spec)
    codec = _usual_codec(spec.data.train.input) if _tries_codecs(spec) else spec.codec
    labels = None if spec.method == "auto" else "hard"  # learned ones would take bytes that no student reads
    rest = None if size is None else size - network_bytes
    return dataclasses.replace(spec, labels=labels, bytes=rest, codec=codec)


def add_labeller(distilled: Distilled, labeller: StoredLabeller, seconds: float = 0.0) -> Distilled:
    """Return a set with a labeller in place of the one that it may have.

    Args:
        distilled: the set.
        labeller: its network and views.
        seconds: what making the network took; they are added to the set's cost.

    Raises:
        PotstillError: its inputs are neither pictures nor rows with classes, or the network is for others.
    """
    old = distilled.metadata
    parts = labeller_parts(labeller)
    tensors = {n: t for n, t in distilled.tensors.items() if not n.startswith(f"{LABELLER}/")}
    described = {n: d for n, d in old["codec"]["tensors"].items() if not n.startswith(f"{LABELLER}/")}
    tensors |= {f"{name}{suffix}": t for name, part in parts.items() for suffix, t in part.tensors.items()}
    described |= {name: dict(part.metadata) for name, part in parts.items()}
    metadata = {**old, **labeller_to_json(labeller), "codec": {**old["codec"], "tensors": described}}
    metadata["bytes"] = bytes_by_part(tensors, metadata)
    if seconds and "seconds" in (cost := old.get("cost", {})):
        metadata["cost"] = {**cost, "seconds": cost["seconds"] + seconds}
    if (digest := old.get("run_digest")) is not None:
        metadata["run_digest"] = hash_run({"run": digest, **labeller_to_json(labeller)}, {})
    made = validated_set(Path("the set with a labeller"), metadata, tensors)
    made.record, made.files = distilled.record, distilled.files
    return made


def _check_served(train: Source) -> None:
    kind = get_kind(train.input)
    if not (isinstance(get_task(train), Classification) and not train.input.parts and (kind.augmentable or kind.mixes)):
        raise PotstillError(
            f"labels network: a network labels views of pictures or rows with classes, but {train.name} is "
            f"{kind.noun} of task {get_task(train).name}; leave labels out"
        )


def _trained(
    train: Source, size: int, settings: NetworkLabels, limits: RunLimits, reporter: ProgressReporter, spec: RunSpec
) -> PackedModel:
    """Return the network, trained on all training data; its architecture is selected on a part held out of them. It is
    not measured, so that no test data are needed."""
    seed = derive_seed(spec.seed, LABELLER) % 2**31
    context, where = model_contexts(train, train, size, students=1, seed=seed, report=reporter.report_count)
    steps, seconds = settings.steps, measure_model_cost(context, where).seconds(settings.steps, quick=True)
    if limits.clock is not None and seconds > LIMIT_PART * limits.clock.remaining:
        steps = max(LEAST_STEPS, int(steps * LIMIT_PART * limits.clock.remaining / seconds))
        seconds *= steps / settings.steps
    reporter.expect("model", seconds, f"a network that labels is trained for {steps:,} updates")
    return train_models(context, where, steps, quick=True).packed[0]
