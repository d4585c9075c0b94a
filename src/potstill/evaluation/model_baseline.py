"""A model of the same bytes: the baseline of shipping a small quantised network instead of a set.

Linear models, MLPs and small ConvNets that fit the bytes are trained on the training data, the last two fifths of the
updates with rounded weights (straight-through; steps as in LSQ, arXiv:1902.08153). Family, then bits, then augmentation
are selected on a held-out part of the training data, each time by longer trials of fewer networks. The measured
networks are trained on all of them, stored as arithmetic-coded streams, and read back. The normalization of the inputs
is not charged, as a set's is not.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import call
from typing import Any

import torch
from torch import Tensor

from potstill._util.progress import Callback
from potstill.augment.names import augmentation_name, named_augmentation
from potstill.core import InputSpec, Source, registry
from potstill.core.nested import single_tensor
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import BaselineContext
from potstill.evaluation.measurement import EvaluationContext, Measurement, measurement_of_answers
from potstill.evaluation.student import predict
from potstill.execution import Executor, Serial, choose_executor
from potstill.kinds import get_kind
from potstill.nn import default_network_name, factory_for
from potstill.nn.quantized_model import (
    Family,
    ModelSpec,
    PackedModel,
    QuantizedNetwork,
    pack_network,
    unpack_network,
)
from potstill.rng import derive_seed, generator
from potstill.tasks import PixelTask, get_targets, get_task, is_ragged

__all__ = [
    "MODEL", "ModelBaseline", "ModelCost", "ModelJob", "TrainedModels", "candidate_specs", "check_model_data",
    "count_weights", "estimate_model_seconds", "make_model_baseline", "measure_model_cost", "model_contexts",
    "train_models", "try_model_baseline",
]  # fmt: skip

MODEL = "model"
"""Name of the baseline."""
STEPS, BATCH = 2000, 256
"""Updates of a measured network, and samples of an update."""
FAMILY_PART, BITS_PART, FINAL_PART = 1 / 8, 1 / 4, 1 / 2
"""Parts of the updates of the trials of families, of bits, and of the finalists."""
FAMILIES, FINALISTS = 2, 2
"""Number of families that are tried with other bits, and of networks that are tried with augmentation."""
_LR, _WEIGHT_DECAY, _WARM_UP, _ROUNDED = 2e-2, 1e-4, 0.15, 0.4
_BITS = (4, 3, 2, 8)
"""Bits of a weight; families are compared with the first that fit."""
_MOST_WIDTH = 512
_MOST_SIDE = 32
"""Larger pictures are averaged down to it."""
_MOST_OPERATIONS = 1_500_000
"""Maximum multiplications of one sample: a wider network would take minutes."""
_CODED_BITS = {8: 6.5, 4: 3.85, 3: 2.75, 2: 1.55}
"""Bits of a coded weight before it is known, by its bits."""
_STREAM = 24
"""Bytes that a stream must save."""
_MARGIN = 1.02
"""Coded bits of a weight that are reckoned with, as a multiple of those of a trial."""
_TIMED = 4
"""Updates that are timed for a forecast."""
_NARROWER = 0.96
"""Width after a network that was too large, as a multiple."""


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
        first_rounded, batch = self.steps - round(_ROUNDED * self.steps), min(BATCH, len(source))
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
    answers: Sequence[Tensor | None] = field(repr=False)
    """Answers of each network for the test data of its context."""

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
    convolutional: tuple[Family, ...] = ("conv", "pyramid", "separable") if side >= 8 else ()
    pictures = [(family, whole) for family in convolutional]
    return [*pictures, *(("mlp", s) for s in sides), *(("linear", s) for s in dict.fromkeys((*sides, whole)))]


def candidate_specs(input: InputSpec, outputs: int, byte_budget: int) -> tuple[ModelSpec, ...]:
    """Return the networks that are tried first for ``byte_budget``: of each family the widest that fits.

    Args:
        input: of the training data.
        outputs: width of the output.
    """
    specs: list[ModelSpec] = []
    for family, side in _families(input):
        for bits in _BITS:
            spec = ModelSpec(family=family, bits=bits, side=side)
            if (widest := _widest(spec, input, outputs, byte_budget)) is not None:
                specs.append(widest)
                break
    return tuple(specs)


def _widest(
    spec: ModelSpec, input: InputSpec, outputs: int, byte_budget: int, coded_bits: float | None = None
) -> ModelSpec | None:
    """Return the spec with the largest width that fits; ``None``: none does."""
    each = _CODED_BITS[spec.bits] if coded_bits is None else coded_bits
    if spec.family == "linear":
        return spec if _fits(spec, input, outputs, byte_budget, each) else None
    low, high = 1, _MOST_WIDTH  # the first is too narrow to be of use
    while high - low > 1:
        middle = (low + high) // 2
        if _fits(replace(spec, width=middle), input, outputs, byte_budget, each):
            low = middle
        else:
            high = middle
    return replace(spec, width=low) if low > 1 else None


def _fits(spec: ModelSpec, input: InputSpec, outputs: int, byte_budget: int, coded_bits: float) -> bool:
    with torch.device("meta"):
        network = QuantizedNetwork(spec, input.shape, outputs)
    layers = network.quantized_layers
    packed = count_weights(network) * spec.bits / 8
    coded = count_weights(network) * coded_bits / 8
    size = len(spec.to_bytes()) + 8 * len(layers) + 2 * sum(len(layer.weight) for layer in layers)
    if size + (coded if coded + _STREAM < packed else packed) > byte_budget:
        return False
    if spec.family not in ("separable", "conv", "pyramid"):
        return True
    return _operations(network, spec, input) <= _MOST_OPERATIONS


def count_weights(network: QuantizedNetwork) -> int:
    """Return the number of quantised weights."""
    return sum(layer.weight.numel() for layer in network.quantized_layers)


def _operations(network: QuantizedNetwork, spec: ModelSpec, input: InputSpec) -> int:
    """Return the multiplications of one picture."""
    side, total = spec.side or max(input.shape[1:]), 0
    for layer in network.quantized_layers:
        side = -(-side // layer.stride)
        total += layer.weight.numel() * (side * side if layer.weight.ndim == 4 else 1)
    return total


def check_model_data(train: Source) -> None:
    """Check that there are networks for such data.

    Raises:
        PotstillError: inputs are not one tensor, or targets are ragged or masks.
    """
    other_targets = is_ragged(get_task(train)) or isinstance(get_task(train), PixelTask)
    if train.input.parts or other_targets or not train.input.shape or get_kind(train.input).learner:
        raise PotstillError(
            "a network of the same bytes is for one tensor of pictures, rows or windows with classes or numbers, but "
            f"these are {get_kind(train.input).noun} of task {get_task(train).name}"
        )


def model_contexts(
    train: Source, test: Source, byte_budget: int, *, students: int, seed: int, executor: Executor | None = None,
    report: Callback | None = None,
) -> tuple[EvaluationContext, BaselineContext]:  # fmt: skip
    """Return what the baseline takes where no set is evaluated: networks that answer for ``test``, and their bytes.

    Args:
        executor: default: processes where networks are many.

    Raises:
        PotstillError: there are no networks for such data.
    """
    check_model_data(train)
    make = factory_for(default_network_name(train.input, get_task(train)), train)
    protocol = registry.resolve("protocols", "potstill").resolve(train.name, make.name, train.input)
    executor = executor or choose_executor(students, train.device)
    context = EvaluationContext(
        protocol=protocol, make=make, train=train, test=test, students=students, seed=seed, executor=executor,
        report=report or (lambda label, done, total: None), side_by_side=1,
    )  # fmt: skip
    where = BaselineContext(train=train, byte_budget=byte_budget, make=make, seed=seed, executor=Serial())
    return context, where


@dataclass(frozen=True, kw_only=True)
class TrainedModels:
    """Networks of one architecture that was selected on held-out training data."""

    spec: ModelSpec
    packed: tuple[PackedModel, ...]
    augment: str
    trials: tuple[Mapping[str, Any], ...]
    """Results on held-out training data, best first."""

    @property
    def largest(self) -> PackedModel:
        """The network of most bytes."""
        return max(self.packed, key=lambda p: p.bytes)


def train_models(
    context: EvaluationContext, where: BaselineContext, steps: int, *, quick: bool = False
) -> TrainedModels:
    """Select a network of at most ``where.byte_budget`` bytes on held-out training data, and train it on all of them.

    Args:
        context: its ``train``, task and executor are used, and ``students`` is the number of networks.
        where: training data, bytes and seed.
        steps: updates of a network.
        quick: choose among families alone, without longer trials of other bits and of augmentation.

    Raises:
        PotstillError: the data are not such as it takes, or not even the smallest network fits.
    """
    check_model_data(context.train)
    outputs = get_task(context.train).outputs
    specs = candidate_specs(context.train.input, outputs, where.byte_budget)
    if not specs:
        raise PotstillError(f"no network of the ladder fits into {where.byte_budget:,} bytes")
    ranked = _ranked(context, where, specs, steps, quick)
    best, size = ranked[0], where.byte_budget
    spec: ModelSpec | None = _refitted(best, context.train.input, outputs, size)
    while spec is not None:
        jobs = [
            ModelJob(
                train=context.train, spec=spec, seed=derive_seed(context.seed, MODEL, n), steps=steps,
                augment=best.augment,
            )
            for n in range(context.students)
        ]  # fmt: skip
        made = TrainedModels(
            spec=spec, packed=tuple(_trained(context, jobs, MODEL)), augment=best.augment,
            trials=tuple(t.to_dict() for t in ranked),
        )  # fmt: skip
        if made.largest.bytes <= size:
            return made
        spec = _narrower(spec)
    raise PotstillError(f"no trained network fits into {size:,} bytes")


def make_model_baseline(
    context: EvaluationContext, where: BaselineContext, steps: int | None = None, *, quick: bool = False
) -> ModelBaseline:
    """Select a network of at most ``where.byte_budget`` bytes on held-out training data, train and measure it.

    Args:
        context: test data, number of networks, and where they are trained.
        where: training data, bytes and seed.
        steps: updates of a measured network. Default: 2,000.
        quick: choose among families alone, without longer trials of other bits and of augmentation.

    Raises:
        PotstillError: the data are not such as it takes, or not even the smallest network fits.
    """
    started, steps = time.process_time(), STEPS if steps is None else steps
    made = train_models(context, where, steps, quick=quick)
    shape, outputs = context.train.input.shape, get_task(context.train).outputs
    answers: list[Tensor | None] = [
        predict(unpack_network(p, shape, outputs).to(context.test.device), context.test) for p in made.packed
    ]
    settings = {"lr": None, "steps": steps, "augment": made.augment}
    return ModelBaseline(
        spec=made.spec, bytes=made.largest.bytes, parts=made.largest.to_dict(), steps=steps, augment=made.augment,
        trials=made.trials, seconds=time.process_time() - started,
        measurement=measurement_of_answers(context, answers, settings), answers=answers,
    )  # fmt: skip


def _refitted(trial: "_Trial", input: InputSpec, outputs: int, byte_budget: int) -> ModelSpec:
    """Return the trial's network with the width that fits by the size its weights were coded in."""
    spec, network = trial.spec, QuantizedNetwork(trial.spec, input.shape, outputs)
    coded_bits = _MARGIN * 8 * trial.weight_bytes / count_weights(network)
    return _widest(spec, input, outputs, byte_budget, coded_bits) or spec


def _narrower(spec: ModelSpec) -> ModelSpec | None:
    """Return a slightly smaller network; ``None``: there is none."""
    if spec.width > 2:
        return replace(spec, width=min(spec.width - 1, round(_NARROWER * spec.width)))
    fewer = [bits for bits in _BITS if bits < spec.bits]
    return replace(spec, bits=max(fewer)) if fewer else None


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """Seconds of the families that are tried, one network at a time, by a few timed updates of each."""

    update: tuple[float, ...]
    """Seconds of an update, by family."""
    fixed: float
    """Seconds of a network beside its updates: coding and reading it back."""
    students: int

    def seconds(self, steps: int | None = None, *, quick: bool = False) -> float:
        """Return the seconds of the baseline; the most expensive family counts where the best is not known yet.

        Args:
            steps, quick: as for `make_model_baseline`.
        """
        if not self.update:
            return 0.0
        parts = BITS_PART * sum(self.update) if quick else FAMILY_PART * sum(self.update)
        bits = 0 if quick else FAMILIES * len(_BITS)
        final = 0 if quick else 2 * FINALISTS
        longer = bits * BITS_PART + final * FINAL_PART + self.students
        networks = len(self.update) + bits + final + self.students
        return (STEPS if steps is None else steps) * (parts + longer * max(self.update)) + networks * self.fixed


def measure_model_cost(context: EvaluationContext, where: BaselineContext) -> ModelCost:
    """Return what the baseline costs, without a family where none fits.

    Raises:
        PotstillError: the data are not such as it takes.
    """
    check_model_data(context.train)
    specs = candidate_specs(context.train.input, get_task(context.train).outputs, where.byte_budget)
    update, fixed = [], 0.0

    def timed(spec: ModelSpec, steps: int) -> float:
        begun = time.perf_counter()
        ModelJob(train=context.train, spec=spec, seed=0, steps=steps)()
        return time.perf_counter() - begun

    for number, spec in enumerate(specs):
        if number == 0:
            timed(spec, 1)  # what is done once is done
        one, more = (min(timed(spec, steps) for _ in range(2)) for steps in (1, 1 + _TIMED))
        update.append(max(more - one, more / (1 + _TIMED) / 4) / _TIMED)
        fixed = max(fixed, one - update[-1])
    return ModelCost(update=tuple(update), fixed=fixed, students=context.students)


def estimate_model_seconds(context: EvaluationContext, where: BaselineContext) -> float:
    """Return the estimated seconds of the baseline, from a few timed updates of each family; 0 for none."""
    try:
        return measure_model_cost(context, where).seconds()
    except PotstillError:
        return 0.0


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
    weight_bytes: int
    metric: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "network": str(self.spec), "augment": self.augment, "steps": self.steps, "bytes": self.bytes,
            self.metric: self.score,
        }  # fmt: skip


def _ranked(
    context: EvaluationContext, where: BaselineContext, specs: Sequence[ModelSpec], steps: int, quick: bool
) -> list[_Trial]:
    """Return all trials, best first: short ones of all families, longer ones of the best families with other bits, the
    longest of the best networks with and without augmentation; ``quick``: of all families alone.
    """
    fit, held = where.parts()
    task = get_task(context.train)
    name = "accuracy" if task.metric.name == "accuracy" else "score"

    def tried(ways: Sequence[tuple[ModelSpec, str]], part: float) -> list[_Trial]:
        updates = max(10, round(part * steps))
        jobs = [
            ModelJob(train=fit, spec=spec, seed=derive_seed(where.seed, "model trial"), steps=updates, augment=augment)
            for spec, augment in ways
        ]
        targets, found = get_targets(held), []
        for (spec, augment), packed in zip(ways, _trained(context, jobs, f"{MODEL}: choosing"), strict=True):
            answers = predict(unpack_network(packed, fit.input.shape, task.outputs).to(held.device), held)
            found.append(_Trial(
                spec=spec, augment=augment, steps=updates, bytes=packed.bytes,
                weight_bytes=packed.to_dict()["weights"], metric=name, score=task.score(answers, targets),
            ))  # fmt: skip
        return sorted(found, key=lambda t: -task.metric.sign * t.score)

    families = tried([(spec, "none") for spec in specs], BITS_PART if quick else FAMILY_PART)
    if quick:
        return families
    with_bits = [
        widest for trial in families[:FAMILIES] for bits in _BITS
        if (widest := _widest(
            replace(trial.spec, bits=bits, width=0), fit.input, task.outputs, where.byte_budget
        )) is not None
    ]  # fmt: skip
    second = tried([(spec, "none") for spec in with_bits], BITS_PART)
    names = ("none", augmentation_name("pad-crop", fit.input)) if get_kind(fit.input).augmentable else ("none",)
    final = tried([(t.spec, augment) for t in second[:FINALISTS] for augment in names], FINAL_PART)
    return [*final, *second[FINALISTS:], *families[FAMILIES:]]


def _trained(context: EvaluationContext, jobs: Sequence[ModelJob], label: str) -> list[PackedModel]:
    context.report(label, 0, len(jobs))
    found = []
    for packed in context.executor.map(call, jobs):
        found.append(packed)
        context.report(label, len(found), len(jobs))
    return found
