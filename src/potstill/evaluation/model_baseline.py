"""A model of the same bytes: the baseline of shipping a small quantised network instead of a set.

Networks of a short ladder that fit the bytes are trained on the training data, the last third of the updates with
rounded weights (straight-through; steps as in LSQ, arXiv:1902.08153). The network, its bits and its augmentation are
selected on a held-out part of the training data. The measured networks are trained on all of them, stored, and read
back. The normalization of the inputs is not charged, as a set's is not.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import call
from typing import Any

import torch
from torch import Tensor

from potstill.augment.names import augmentation_name, named_augmentation
from potstill.core import InputSpec, Source
from potstill.core.nested import single_tensor
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import BaselineContext
from potstill.evaluation.measurement import EvaluationContext, Measurement, measurement_of_answers
from potstill.evaluation.quantized_model import (
    Family,
    ModelSpec,
    PackedModel,
    QuantizedNetwork,
    pack_network,
    unpack_network,
)
from potstill.evaluation.student import predict
from potstill.kinds import get_kind
from potstill.rng import derive_seed, generator
from potstill.tasks import get_targets, get_task, is_ragged

__all__ = ["MODEL", "ModelBaseline", "ModelJob", "candidate_specs", "make_model_baseline", "try_model_baseline"]

MODEL = "model"
"""Name of the baseline."""
STEPS, BATCH = 1000, 128
"""Updates of a measured network, and samples of an update."""
TRIAL_PART, FINAL_PART, FINALISTS = 0.1, 0.25, 2
"""Parts of the updates of the first trials and of the finalists' trials, and the number of finalists."""
_LR, _WEIGHT_DECAY, _WARM_UP = 4e-3, 1e-4, 0.15
_WIDTHS = (2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512)
_BITS = (8, 4, 2)
_MOST_SIDE = 32
"""Larger pictures are averaged down to it."""
_MOST_OPERATIONS = 2_000_000
"""Maximum multiplications of one sample: a wider network would take minutes."""
_CODED_BITS = {8: 8.0, 4: 4.0, 2: 2.0}
"""Stored bits of a weight, by its bits."""


@dataclass(frozen=True, kw_only=True)
class ModelJob:
    """Training of one network as a job."""

    train: Source
    spec: ModelSpec
    seed: int
    steps: int
    augment: str = "none"

    def __call__(self) -> PackedModel:
        """Return the trained network as it is stored."""
        source, task, shape = self.train, get_task(self.train), self.train.input.shape
        rng = generator(self.seed, "model")
        network = QuantizedNetwork(self.spec, shape, task.outputs)
        network.initialise(rng)
        network.to(source.device).train()
        augment = named_augmentation(self.augment, source)
        optimizer = torch.optim.AdamW(network.parameters(), lr=_LR, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, max(2, self.steps), pct_start=_WARM_UP)
        first_rounded, batch = self.steps - self.steps // 3, min(BATCH, len(source))
        order = torch.zeros(0, dtype=torch.int64)
        for step in range(self.steps):
            if step == first_rounded:
                network.start_quantizing()
            if len(order) < batch:
                order = torch.randperm(len(source), generator=rng)
            index, order = order[:batch], order[batch:]
            fetched = source.fetch(index)
            x = single_tensor(fetched.x, "a network of the same bytes")
            if self.augment != "none":
                x = augment.apply(x, augment.draw(len(x), shape, rng))
            assert fetched.y is not None
            loss = task.loss(network(x), fetched.y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        if not all(bool(torch.isfinite(t).all()) for t in network.state_dict().values()):
            raise PotstillError(f"the weights of a {self.spec} are not finite after training; use other data units")
        return pack_network(network.eval())


@dataclass(frozen=True, kw_only=True)
class ModelBaseline:
    """The selected network and its measurement."""

    spec: ModelSpec
    bytes: int
    """Stored bytes of the largest of the measured networks."""
    parts: Mapping[str, Any]
    steps: int
    augment: str
    trials: tuple[Mapping[str, Any], ...]
    """Results on held-out training data, best first."""
    seconds: float
    measurement: Measurement

    def to_dict(self, context: EvaluationContext) -> dict[str, Any]:
        """Return a scorecard's JSON of the network, without its difference from a set."""
        units = {"units": self.measurement.units} if self.measurement.units else {}
        return context.with_score(context.summarize(self.measurement)) | units | {
            "bytes": self.bytes, "items": None, "per_class": None, "codec": None,
            "network": str(self.spec), "parts": dict(self.parts), "steps": self.steps, "augment": self.augment,
            "tried": [dict(trial) for trial in self.trials], "seconds": round(self.seconds, 3),
        }  # fmt: skip


def _families(input: InputSpec) -> list[tuple[Family, int]]:
    """Return the families for a kind of input, each with a side to which pictures are averaged."""
    if not (get_kind(input).augmentable and len(input.shape) == 3):
        return [("linear", 0), ("mlp", 0), ("mlp-2", 0)]
    side = min(input.shape[1:])
    whole = 0 if side <= _MOST_SIDE and input.shape[1] == input.shape[2] else min(side, _MOST_SIDE)
    sides = [round(side / part) for part in (4, 2) if side >= 4 * part] or [whole]
    pictures: list[tuple[Family, int]] = [("separable", whole), ("conv", whole)] if side >= 8 else []
    return [*pictures, *(("mlp", s) for s in sides), *(("linear", s) for s in (*sides, whole))]


def candidate_specs(input: InputSpec, outputs: int, byte_budget: int) -> tuple[ModelSpec, ...]:
    """Return the networks that are tried for ``byte_budget``: of each family and number of bits the widest that fits.

    Args:
        input: of the training data.
        outputs: width of the output.
    """
    specs: list[ModelSpec] = []
    for family, side in _families(input):
        for bits in _BITS:
            widths = (0,) if family == "linear" else _WIDTHS
            fitting = [
                spec for width in widths
                if _fits(spec := ModelSpec(family=family, bits=bits, width=width, side=side), input, outputs,
                         byte_budget)
            ]  # fmt: skip
            if fitting and replace(fitting[-1], bits=8) not in specs:  # coarser weights, and no wider
                specs.append(fitting[-1])
    return tuple(specs)


def _fits(spec: ModelSpec, input: InputSpec, outputs: int, byte_budget: int) -> bool:
    with torch.device("meta"):
        network = QuantizedNetwork(spec, input.shape, outputs)
    layers = network.quantized_layers
    weights = sum(layer.weight.numel() for layer in layers)
    size = len(spec.to_bytes()) + 8 * len(layers) + 2 * sum(len(layer.weight) for layer in layers)
    if size + weights * _CODED_BITS[spec.bits] / 8 > byte_budget:
        return False
    if spec.family not in ("separable", "conv"):
        return True
    return _operations(network, spec, input) <= _MOST_OPERATIONS


def _operations(network: QuantizedNetwork, spec: ModelSpec, input: InputSpec) -> int:
    """Return the multiplications of one picture."""
    side, total = spec.side or max(input.shape[1:]), 0
    for layer in network.quantized_layers:
        side = -(-side // layer.stride)
        total += layer.weight.numel() * (side * side if layer.weight.ndim == 4 else 1)
    return total


def _check(train: Source) -> None:
    if train.input.parts or is_ragged(get_task(train)) or not train.input.shape:
        raise PotstillError(
            "a network of the same bytes is for one tensor of pictures, rows or windows with classes or numbers, but "
            f"these are {get_kind(train.input).noun} of task {get_task(train).name}"
        )


def make_model_baseline(context: EvaluationContext, where: BaselineContext, steps: int | None = None) -> ModelBaseline:
    """Select a network of at most ``where.byte_budget`` bytes on held-out training data, train and measure it.

    Args:
        context: test data, number of networks, and where they are trained.
        where: training data, bytes and seed.
        steps: updates of a measured network. Default: 1,000.

    Raises:
        PotstillError: the data are not such as it takes, or not even the smallest network fits.
    """
    started, steps = time.process_time(), STEPS if steps is None else steps
    _check(context.train)
    outputs = get_task(context.train).outputs
    specs = candidate_specs(context.train.input, outputs, where.byte_budget)
    if not specs:
        raise PotstillError(f"no network of the ladder fits into {where.byte_budget:,} bytes")
    ranked = _ranked(context, where, specs, steps)
    for trial in ranked:
        jobs = [
            ModelJob(
                train=context.train, spec=trial.spec, seed=derive_seed(context.seed, MODEL, n), steps=steps,
                augment=trial.augment,
            )
            for n in range(context.students)
        ]  # fmt: skip
        packed = _trained(context, jobs, MODEL)
        largest = max(packed, key=lambda p: p.bytes)
        if largest.bytes > where.byte_budget:
            continue
        answers: list[Tensor | None] = [
            predict(unpack_network(p, context.train.input.shape, outputs).to(context.test.device), context.test)
            for p in packed
        ]
        settings = {"lr": None, "steps": steps, "augment": trial.augment}
        return ModelBaseline(
            spec=trial.spec, bytes=largest.bytes, parts=largest.to_dict(), steps=steps, augment=trial.augment,
            trials=tuple(t.to_dict() for t in ranked), seconds=time.process_time() - started,
            measurement=measurement_of_answers(context, answers, settings),
        )  # fmt: skip
    raise PotstillError(f"no trained network fits into {where.byte_budget:,} bytes")


def try_model_baseline(
    context: EvaluationContext, where: BaselineContext
) -> tuple[ModelBaseline | None, dict[str, str]]:
    """Return the network of the same bytes, or by its name why there is none."""
    try:
        return make_model_baseline(context, where), {}
    except PotstillError as error:
        return None, {MODEL: str(error)}


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """One way on held-out training data."""

    spec: ModelSpec
    augment: str
    steps: int
    bytes: int
    metric: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "network": str(self.spec), "augment": self.augment, "steps": self.steps, "bytes": self.bytes,
            self.metric: self.score,
        }  # fmt: skip


def _ranked(context: EvaluationContext, where: BaselineContext, specs: Sequence[ModelSpec], steps: int) -> list[_Trial]:
    """Return all ways, best first: short trials of all networks, longer ones of the best, with and without
    augmentation.
    """
    fit, held = where.parts()
    task = get_task(context.train)
    name = "accuracy" if task.metric.name == "accuracy" else "score"

    def tried(ways: Sequence[tuple[ModelSpec, str]], steps: int) -> list[_Trial]:
        jobs = [
            ModelJob(train=fit, spec=spec, seed=derive_seed(where.seed, "model trial"), steps=steps, augment=augment)
            for spec, augment in ways
        ]
        targets, found = get_targets(held), []
        for (spec, augment), packed in zip(ways, _trained(context, jobs, f"{MODEL}: choosing"), strict=True):
            answers = predict(unpack_network(packed, fit.input.shape, task.outputs).to(held.device), held)
            found.append(_Trial(
                spec=spec, augment=augment, steps=steps, bytes=packed.bytes, metric=name,
                score=task.score(answers, targets),
            ))  # fmt: skip
        return sorted(found, key=lambda t: -task.metric.sign * t.score)

    first = tried([(spec, "none") for spec in specs], max(10, round(TRIAL_PART * steps)))
    pad_crop = augmentation_name("pad-crop", fit.input)
    names = ("none", pad_crop) if get_kind(fit.input).augmentable else ("none",)
    leading = first[:FINALISTS]
    if len(first) == 1 and len(names) == 1:
        return first
    final = tried([(t.spec, name) for t in leading for name in names], max(10, round(FINAL_PART * steps)))
    return [*final, *first[FINALISTS:]]


def _trained(context: EvaluationContext, jobs: Sequence[ModelJob], label: str) -> list[PackedModel]:
    context.report(label, 0, len(jobs))
    found = []
    for packed in context.executor.map(call, jobs):
        found.append(packed)
        context.report(label, len(found), len(jobs))
    return found
