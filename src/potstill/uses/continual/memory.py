"""Memories: what stays of each step, in true bytes of bitstreams, and the samples that a learner gets from them.

A memory of a share (`Real`, `Made`) writes each step once, in its share of the bytes, and never touches it again. A
memory of the whole (`Streamed`) may use all bytes at every step: it keeps what it decodes from its own last bitstream,
so that what a lossy codec loses by rewriting is lost here, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from potstill.api.distill import run
from potstill.core import Method, Normalization, Splits
from potstill.core.nested import single_tensor
from potstill.core.registry import get_method_class, names
from potstill.data import TensorSource
from potstill.data.selection_order import SELECTIONS
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError, suggestion
from potstill.evaluation.byte_matched_baselines import (
    Order,
    SoftLabels,
    baseline_byte_budget,
    baseline_order,
    max_items_per_class,
    pack_samples,
)
from potstill.evaluation.training_sets import TeacherJob
from potstill.labels.teacher import soft_labels
from potstill.rng import derive_seed, generator
from potstill.runs.spec import RunIO, RunLimits, RunSpec
from potstill.uses.continual.learner import Learner
from potstill.uses.continual.stream import Step, step_source

__all__ = ["REAL_MEMORIES", "Choice", "Context", "Made", "Memory", "Real", "Segment", "Streamed", "parse_memory"]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Codec and selection of real samples, as chosen on training data of the first step."""

    codec: str
    selection: str = "random"


@dataclass(frozen=True, kw_only=True)
class Context:
    """Data, size budget and settings that a memory is made with."""

    train: TensorSource
    """All training samples; a memory reads those of the step at hand."""
    byte_budget: int
    """Bytes of the whole memory after the last step."""
    steps: int
    """Number of steps of the stream."""
    seed: int
    learner: Learner
    choice: Choice | None = None
    single_pass: bool = False

    @property
    def share(self) -> int:
        """Bytes of one step."""
        return self.byte_budget // self.steps


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a memory, as decoded from its bitstream."""

    x: Tensor
    """Inputs in model space."""
    y: Tensor
    """Classes as numbers of the whole data, or rows over them."""
    bytes: int
    """Bytes of the coded streams: inputs and labels."""
    codec: str
    keys: Tensor = field(default_factory=lambda: torch.zeros(0))
    """Rank of each sample, for a memory that drops some later."""


State = tuple[Segment, ...]


@runtime_checkable
class Memory(Protocol):
    """A memory: a value that turns what is there and the new step into what is there afterwards."""

    @property
    def name(self) -> str: ...
    @property
    def is_synthetic(self) -> bool:
        """True if it holds synthetic samples."""
        ...

    @property
    def needs_choice(self) -> bool:
        """True if its codec or selection is chosen on the first step."""
        ...

    def update(self, state: State, step: Step, number: int, context: Context, /) -> State:
        """Return the memory after step ``number`` (from 0).

        Raises:
            PotstillError: the bytes leave a class empty.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Real:
    """Real samples of each step, selected and written in its share of the bytes."""

    name: str
    selection: str | None = None
    """One of `SELECTIONS`; ``None``: chosen on the first step."""
    codec: str | None = None
    """``None``: chosen on the first step."""
    soft: bool = False
    """Labels of the network of that time, trained on the memory and the new step: it knows the old classes."""

    is_synthetic = False

    @property
    def needs_choice(self) -> bool:
        return self.codec is None or self.selection is None

    def update(self, state: State, step: Step, number: int, context: Context, /) -> State:
        selection, codec = self.selection, self.codec
        if context.choice is not None:
            selection, codec = selection or context.choice.selection, codec or context.choice.codec
        assert selection is not None
        assert codec is not None
        if context.single_pass and selection != "random":
            raise PotstillError(
                f"memory {self.name} selects by {selection}, which needs all samples of a step at once, but an online "
                "stream is read once; take random, balanced or reservoir"
            )
        source = step_source(context.train, step.train, step.classes)
        most = None if selection == "random" else _most_items(source, codec, context.share)
        seed = derive_seed(context.seed, "memory")
        order = baseline_order(source, selection, seed, "memory", most)
        labels = self._labels(state, source, step, number, context) if self.soft else None
        made = _fit(source, order, codec, context.share, labels, self.name)
        rows = made.y
        if rows.ndim == 1:
            rows = torch.tensor(step.classes)[rows.cpu()]
        else:
            rows = _spread_rows(rows, _seen_classes(state, step), len(context.train.classes))
        return (*state, replace(made, y=rows))

    def _labels(
        self, state: State, source: TensorSource, step: Step, number: int, context: Context
    ) -> SoftLabels:  # fmt: skip
        """Return the labels of a network that was trained on the memory so far and the step's samples."""
        seen = _seen_classes(state, step)
        x = single_tensor(source.fetch(torch.arange(len(source))).x, "a label")
        y = torch.tensor(step.classes)[source.labels]
        local = torch.full((len(context.train.classes),), -1, dtype=torch.int64)
        local[torch.tensor(seen)] = torch.arange(len(seen))
        old = [(s.x, s.y if s.y.ndim == 1 else s.y.argmax(1)) for s in state]
        channels = len(source.normalization.mean)
        joined = TensorSource(
            name=source.name, input=source.input, classes=tuple(context.train.classes[c] for c in seen),
            normalization=Normalization(torch.zeros(channels), torch.ones(channels)).to(source.device),
            inputs=torch.cat([x, *(part for part, _ in old)]),
            labels=local[torch.cat([y, *(part.cpu() for _, part in old)])],
        )  # fmt: skip
        job = TeacherJob(
            train=joined, make=context.learner.factory(source, len(seen)), steps=context.learner.steps,
            seed=derive_seed(context.seed, "labels", number),
        )  # fmt: skip
        return SoftLabels(source, partial(soft_labels, job.network(), job()))


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """Real samples that stay or are dropped by random rank, one pass, in all bytes at every step."""

    name: str
    balanced: bool
    """Equally many of each class; else whatever the stream brings (a reservoir)."""
    codec: str | None = None

    is_synthetic = False

    @property
    def needs_choice(self) -> bool:
        return self.codec is None

    def update(self, state: State, step: Step, number: int, context: Context, /) -> State:
        codec = self.codec or (context.choice.codec if context.choice else None)
        assert codec is not None
        train = context.train
        keys = torch.rand(len(step.train), generator=generator(context.seed, "rank", number))
        inputs, labels = train.inputs[step.train.to(train.device)], train.labels[step.train]  # type: ignore[index]
        if state:
            old = _to_stored(state[0].x, train)
            inputs, labels = torch.cat([old, inputs]), torch.cat([state[0].y, labels])
            keys = torch.cat([state[0].keys, keys])
        pool = replace(
            train, inputs=inputs, labels=labels, places=None, names=(), groups=None, attribute=None, weights=None,
            texts=(),
        )  # fmt: skip
        ranks = keys.argsort()
        order: Order = [ranks]
        if self.balanced:
            order = [own for c in range(len(train.classes)) if len(own := ranks[labels[ranks] == c])]
        fitted = _fit(pool, order, codec, context.byte_budget, None, self.name)
        n = len(fitted.x) if not self.balanced else _per_class(order, len(fitted.x))
        at = torch.cat([of_class[:n] for of_class in order])
        return (replace(fitted, keys=keys[at], y=fitted.y.cpu()),)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A distilled set of each step, of that step's data alone, in its share of the bytes."""

    name: str
    method: str | Method[Any]
    parametrization: str | None = None
    codec: str | None = None
    preset: str | None = None
    network: str | None = None
    """Network that the method uses; ``None``: its own."""
    steps: int | None = None
    """Largest number of steps; ``None``: those of the method."""
    options: Mapping[str, Any] = field(default_factory=dict)

    is_synthetic = True
    needs_choice = False

    def update(self, state: State, step: Step, number: int, context: Context, /) -> State:
        if context.single_pass:
            raise PotstillError(
                f"memory {self.name} distils a step's samples, which it needs many times, but an online stream is read "
                "once; take random, balanced or reservoir"
            )
        source = step_source(context.train, step.train, step.classes)
        small = self._run(source, context)
        if (size := baseline_byte_budget(small.metadata["bytes"])) > context.share:
            raise PotstillError(
                f"memory {self.name} does not fit one set of a step into {context.share:,} bytes: it has {size:,}; "
                "give more bytes"
            )
        y = small.labels
        if y.ndim == 1:
            y = torch.tensor(step.classes)[y.cpu()]
        else:
            y = _spread_rows(y, step.classes, len(context.train.classes))
        x = small.model_space()
        if not isinstance(x, Tensor):
            raise PotstillError(f"memory {self.name} holds inputs of several tensors, which no learner here takes")
        codec = str(small.metadata["codec"]["name"])
        return (*state, Segment(x=x.to(source.device), y=y, bytes=size, codec=codec))

    def _run(self, source: TensorSource, context: Context) -> Distilled:
        spec = RunSpec(
            data=Splits(train=source, test=None), method=self.method, bytes=context.share, seed=context.seed,
            balance="equal", preset=self.preset, parametrization=self.parametrization, codec=self.codec,
            device=str(source.device), network=self.network, options=dict(self.options),
        )  # fmt: skip
        return run(spec, RunLimits(steps=self.steps), RunIO(progress=None, executor="serial"))


def _fit(
    source: TensorSource, order: Order, codec: str, most: int, labels: SoftLabels | None, name: str
) -> Segment:  # fmt: skip
    """Return as many samples as fit into the bytes, as decoded from their bitstream.

    Raises:
        PotstillError: not one of each class fits.
    """
    n = max_items_per_class(source, order, most, codec, soft=labels or False)
    if n < 1:
        each = f"one sample of each of {len(order)} classes" if len(order) > 1 else "one sample"
        raise PotstillError(
            f"memory {name} keeps {each} in {most:,} bytes at least, but they do not fit as {codec}; give more bytes, "
            "or fewer bits a value"
        )
    made = pack_samples(source, [order], n, codec, labels)
    x, y = made.pairs[0]
    assert isinstance(x, Tensor)
    return Segment(x=x, y=y, bytes=made.bytes, codec=codec)


def _most_items(source: TensorSource, codec: str, share: int) -> int:
    """Return a bound on the samples of a class that are put in order: a few more than random ones that fit."""
    n = max_items_per_class(source, baseline_order(source, "random", 0, "bound"), share, codec)
    return n * 5 // 4 + 8


def _per_class(order: Order, total: int) -> int:
    """Return the samples of each class behind a total, where small classes give all that they have."""
    n = 0
    while sum(min(n, len(own)) for own in order) < total:
        n += 1
    return n


def _seen_classes(state: State, step: Step) -> list[int]:
    old = [
        c for s in state for c in (torch.unique(s.y) if s.y.ndim == 1 else s.y.sum(0).nonzero().flatten()).tolist()
    ]  # fmt: skip
    return list(dict.fromkeys([*old, *step.classes]))


def _spread_rows(rows: Tensor, classes: Sequence[int], k: int) -> Tensor:
    """Return rows over some classes as rows over all."""
    wide = torch.zeros(len(rows), k, dtype=rows.dtype, device=rows.device)
    wide[:, list(classes)] = rows
    return wide


def _to_stored(x: Tensor, train: TensorSource) -> Tensor:
    """Return inputs in model space as the source stores its own."""
    assert isinstance(train.inputs, Tensor)
    units: Tensor = train.normalization.invert(x)
    if train.inputs.dtype == torch.uint8:
        return (units * 255).round().clamp(0, 255).to(torch.uint8)
    return units


REAL_MEMORIES: Mapping[str, Memory] = {
    "coded": Real(name="coded"),
    "raw": Real(name="raw", selection="random", codec="exact"),
    **{name: Real(name=name, selection=name) for name in SELECTIONS},
    "soft": Real(name="soft", soft=True),
    "balanced": Streamed(name="balanced", balanced=True),
    "reservoir": Streamed(name="reservoir", balanced=False),
}
"""Memories of real samples by name: ``coded`` is the default, ``raw`` what papers compare with."""


def parse_memory(
    text: str, *, parametrization: str | None = None, codec: str | None = None, preset: str | None = None,
    steps: int | None = None,
) -> Memory:  # fmt: skip
    """Return a memory by its name: one of `REAL_MEMORIES`, with ``@CODEC`` to fix the codec; or a method.

    Args:
        text: ``coded``, ``herding@half:bits=1``, ``dm``.
        parametrization, codec, preset, steps: of a method's sets.

    Raises:
        PotstillError: there is no such memory.
    """
    name, _, own = text.partition("@")
    if (known := REAL_MEMORIES.get(name)) is not None:
        return replace(known, name=text, codec=own) if own else known  # type: ignore[type-var]
    if name not in names("methods"):
        raise PotstillError(
            f"no memory {name!r}; {suggestion(name, [*REAL_MEMORIES, *names('methods')], 'memories and methods')}"
        )
    if get_method_class(name).info.is_selection:
        raise PotstillError(f"method {name} selects real samples; take memory {' or '.join(SELECTIONS)}, or coded")
    return Made(
        name=text, method=name, parametrization=parametrization, codec=own or codec, preset=preset, steps=steps
    )  # fmt: skip
