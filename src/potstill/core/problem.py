"""The problem that a method solves: data, size budget and parts, and the parametrization of what it learns."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from potstill.core.assets import Asset
from potstill.core.data import DecodeContext, Normalization, Payload, Release, Source, Space
from potstill.core.parts import Augmentation, Codec, NetworkFactory, Regularizer
from potstill.tasks import Task, get_task

__all__ = [
    "BindsToData", "Budget", "ClassSeparable", "FixedSpace", "FollowsUpdates", "Parametrization", "PlannedPayload",
    "Problem", "ReplacesPayload", "RequiresAssets", "Resamplable", "SetsLearningRate", "StartsFromAssets",
    "TargetDecoder",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Size budget: items per class (``ipc``), items in all (``items``), or stored bytes (``bytes``).

    `potstill.distill` makes one from its arguments; a method reads it from its problem.

    Examples:
        >>> potstill.Budget(unit="items", amount=25).counts(num_classes=10, item_bytes=0)
        (3, 3, 3, 3, 3, 2, 2, 2, 2, 2)
    """

    unit: Literal["ipc", "items", "bytes"]
    """The thing that ``amount`` counts."""
    amount: int
    """Size in that unit, at least 1."""
    balance: Literal["natural", "equal"] | None = None
    """Items per class: in proportion to the class's samples, or equal. ``None``: equal for ``ipc``, else natural."""

    @property
    def natural(self) -> bool:
        """True where classes get items in proportion to their samples."""
        return self.unit != "ipc" and self.balance != "equal"

    @property
    def balance_name(self) -> str:
        """``natural`` or ``equal``."""
        return "natural" if self.natural else "equal"

    def counts(self, num_classes: int, item_bytes: int) -> tuple[int, ...]:
        """Return the items of each class, equally many; the remainder goes to the first classes.

        Args:
            num_classes: k, at least 1.
            item_bytes: stored bytes of one item with its label; used where ``unit`` is ``bytes``.

        Returns:
            k counts, each at least 1.

        Raises:
            ValueError: the budget leaves a class empty.
        """
        if self.unit == "ipc":
            total = self.amount * num_classes
        else:
            total = self.amount if self.unit == "items" else self.amount // item_bytes
        counts = tuple(total // num_classes + (c < total % num_classes) for c in range(num_classes))
        if min(counts) < 1:
            raise ValueError(
                f"the budget must keep at least one item of each of {num_classes} classes, "
                f"but {self.amount} {self.unit} keep {total} in all; raise it"
            )
        return counts


@runtime_checkable
class Parametrization(Protocol):
    """Stored form of the inputs and its decoder: a frozen dataclass whose fields are its settings.

    Floating tensors of a payload are optimised; integer ones (positions) are fixed once made. Tensors whose names begin
    with ``decoder/`` are shared by all items. A parametrization for some kinds of input alone lists them in ``kinds``,
    as a `MethodInfo` does; as a method's default it is replaced for data of another kind.
    """

    @property
    def bounded(self) -> bool:
        """True where the payload's floating values are values of inputs, so that clamping them clamps the inputs."""
        ...

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the number of decoded inputs of each class, where class c may store ``numbers[c]`` float32 values.

        Raises:
            PotstillError: a class would get no input.
        """
        ...

    def encode(self, x: Any, problem: "Problem", rng: Generator, /) -> Payload:
        """Return the payload for initial inputs (sum(problem.sizes), …), grouped by class in label order.

        The inputs are one tensor, unless the parametrization is for inputs with several tensors.
        """
        ...

    def decode(self, payload: Payload, context: DecodeContext, /) -> Any:
        """Return inputs (n, *context.shape), classes in label order, differentiable in every floating tensor."""
        ...


@runtime_checkable
class RequiresAssets(Protocol):
    """`Parametrization` or `ContextCodec` whose decoder uses shared assets, such as a generator, that are in no file.

    Each opens to named tensors. The file's metadata has their hash, by which a reader finds them. ``sizes`` is called
    before they are there, ``encode``, ``decode``, ``pack`` and ``unpack`` after: they are in the context.
    """

    def assets(self, problem: "Problem", /) -> "tuple[Asset, ...]":
        """Return the assets of its decoder; a function of data and settings."""
        ...


@runtime_checkable
class StartsFromAssets(Protocol):
    """`Parametrization` that starts from assets which no reader needs, such as a trained network that it stores.

    ``sizes`` is called before they are there; ``encode`` finds them in ``problem.assets``.
    """

    def init_assets(self, problem: "Problem", /) -> "tuple[Asset, ...]":
        """Return the assets that ``encode`` starts from; a function of data and settings."""
        ...


@runtime_checkable
class BindsToData(Protocol):
    """`Parametrization` that takes something from the data, or refuses some, when a run's choices are made."""

    def bind(self, train: Source, /) -> "Parametrization":
        """Return the parametrization for these data.

        Raises:
            PotstillError: it does not suit them.
        """
        ...


@runtime_checkable
class PlannedPayload(Protocol):
    """`Parametrization` that knows values like those that it will store, such as weights, before they are trained: by
    their coded bytes a size budget is planned."""

    def planned_payload(self, problem: "Problem", /) -> Payload:
        """Return such a payload; a function of data and settings."""
        ...


@runtime_checkable
class FollowsUpdates(Protocol):
    """`Parametrization` with whole numbers in its payload that change with every update, such as a count of draws."""

    def after_update(self, payload: Payload, /) -> Payload:
        """Return the tensors of the payload that follow an update."""
        ...


@runtime_checkable
class ReplacesPayload(Protocol):
    """`Parametrization` whose file holds other tensors than those that are optimised, and which decodes both."""

    def stored_payload(self, payload: Payload, /) -> Payload:
        """Return the payload that a file holds."""
        ...


@runtime_checkable
class SetsLearningRate(Protocol):
    """`Parametrization` whose payload, such as a network's weights, moves at a rate of its own and not at the method's,
    which is for values of inputs."""

    @property
    def payload_lr(self) -> float:
        """Learning rate of AdamW."""
        ...


@runtime_checkable
class Resamplable(Protocol):
    """`Parametrization` that draws its items: any number of each class from the same payload (`potstill.resample`)."""

    samples: int
    """Items drawn of each class."""

    def num_items(self, payload: Payload, /) -> int:
        """Return the items that a payload decodes to, without decoding it."""
        ...

    def describe_draw(self, payload: Payload, /) -> Mapping[str, int]:
        """Return the metadata's ``decoder.drawn``: items of each class (``per_class``), seed and number of the draw."""
        ...

    def reseed(self, payload: Payload, seed: int, /) -> Payload:
        """Return the payload of another draw."""
        ...


@runtime_checkable
class ClassSeparable(Protocol):
    """`Parametrization` whose every floating value belongs to one class."""

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """Return, for each floating tensor, the slice of its first axis that belongs to ``classes``.

        Args:
            sizes: decoded inputs of every class.
        """
        ...


@runtime_checkable
class TargetDecoder(Protocol):
    """`Parametrization` whose payload holds the targets, too, such as a series: a file has no targets beside it.

    Its payload is in model space, whatever the space of the engine that optimises it.
    """

    def decode_targets(
        self, payload: Payload, context: DecodeContext, normalization: Normalization | None, /
    ) -> Tensor:
        """Return the targets (n, t) in the task's units, differentiable in every floating tensor.

        Args:
            normalization: data units to the model space of the payload; ``None``: the payload is in data units.
        """
        ...


@runtime_checkable
class FixedSpace(Protocol):
    """`Parametrization` that decodes to one space, whatever the space of the engine that optimises it.

    ``encode`` receives inputs of that space. For ``model``, ``decode`` has the normalization in its context.
    """

    @property
    def decoded_space(self) -> Space:
        """Space of the decoded inputs."""
        ...


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Everything that a method receives: training data, budget and parts, on purpose without a test split."""

    train: Source
    counts: tuple[int, ...]
    """Items of each class in label order, counted as unencoded inputs that fit the budget."""
    network: NetworkFactory
    augment: Augmentation
    parametrization: Parametrization
    codec: Codec | None = None
    """Codec of the file; ``None``: chosen at the end, or not known."""
    value_budget: tuple[int, ...] = ()
    """float32 values that each class may store; empty: those of its items."""
    assets: Mapping[str, Any] = field(default_factory=dict)
    """Opened assets of ``Method.assets``, by name."""
    initial: Tensor | None = None
    """Initial inputs (m, …) in data units; ``None``: the method's own initialization."""
    initial_rows: Tensor | None = None
    """Rows (m,) of the set, int64, whose inputs ``initial`` has; the others are initialized by the method. ``None``:
    all rows, classes in label order."""
    shard: tuple[int, int] | None = None
    """First class and one past the last that a `ClassShardable` method matches; ``None``: all."""
    release: Release | None = None
    """Applied to every sum over real samples that a method asks for; ``None``: sums are as they are."""
    real_weights: Tensor | None = None
    """Weight of each real sample (n,) in draws of its class, float64, above 0, on the CPU; ``None``: all equal."""
    regularizer: Regularizer | None = None
    """Term that is added to the method's objective; ``None``: the objective is as it is."""

    @cached_property
    def task(self) -> Task:
        """Task of the training data."""
        return get_task(self.train)

    @property
    def num_classes(self) -> int:
        """Number of groups that real data are drawn by: classes, or 1 for tasks without classes."""
        return max(1, len(self.train.classes))

    @property
    def shard_classes(self) -> range:
        """Classes to match: those of the shard, or all."""
        return range(self.num_classes) if self.shard is None else range(*self.shard)

    @property
    def ipc(self) -> int:
        """Items of the largest class."""
        return max(self.counts)

    @property
    def values_per_class(self) -> tuple[int, ...]:
        """float32 values that each class may store."""
        return self.value_budget or tuple(count * self.train.input.num_values for count in self.counts)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Decoded inputs of each class, in label order.

        Raises:
            PotstillError: the budget is too small for the parametrization.
        """
        return self.parametrization.sizes(self.values_per_class, self.train.input.shape)

    @property
    def decoder_assets(self) -> "tuple[Asset, ...]":
        """Assets of the decoders of the parametrization and the codec."""
        parts: tuple[object, ...] = (self.parametrization, self.codec)
        return tuple(asset for part in parts if isinstance(part, RequiresAssets) for asset in part.assets(self))

    @property
    def init_assets(self) -> "tuple[Asset, ...]":
        """Assets that the parametrization starts from and no reader needs."""
        part = getattr(self.parametrization, "inner", self.parametrization)
        return part.init_assets(self) if isinstance(part, StartsFromAssets) else ()

    @property
    def starts_alone(self) -> bool:
        """True where the parametrization starts from assets, and not from initial inputs."""
        return isinstance(getattr(self.parametrization, "inner", self.parametrization), StartsFromAssets)

    @property
    def payload_lr(self) -> float | None:
        """Learning rate of AdamW that the parametrization asks for; ``None``: the method's optimizer."""
        part = getattr(self.parametrization, "inner", self.parametrization)
        return part.payload_lr if isinstance(part, SetsLearningRate) else None

    def with_assets(self, assets: Mapping[str, Any]) -> "Problem":
        """Return a copy with opened assets by name."""
        return replace(self, assets=assets)

    @cached_property
    def context(self) -> DecodeContext:
        """Context of the decoders, with those of their assets that are opened."""
        opened = {a.name: self.assets[a.name] for a in self.decoder_assets if a.name in self.assets}
        device = self.train.device
        assets = {name: {n: t.to(device) for n, t in tensors.items()} for name, tensors in opened.items()}
        horizon = int(getattr(self.task, "horizon", 0))
        return DecodeContext(
            input=self.train.input, classes=self.train.classes, assets=assets, horizon=horizon,
            forecast_variables=len(getattr(self.task, "variables", ())), normalization=self.train.normalization,
        )  # fmt: skip

    def decode(self, payload: Payload) -> Any:
        """Return the inputs of ``payload``, classes in label order, differentiable."""
        return self.parametrization.decode(payload, self.context)

    @property
    def target_decoder(self) -> TargetDecoder | None:
        """The parametrization where its payload holds the targets, too."""
        part = self.parametrization
        return (
            part
            if isinstance(part, TargetDecoder) and isinstance(getattr(part, "inner", part), TargetDecoder)
            else None
        )

    def payload_space(self, space: Space) -> Space:
        """Return the space that payloads decode to, for an engine that would optimise in ``space``."""
        inner = getattr(self.parametrization, "inner", self.parametrization)
        if isinstance(inner, FixedSpace):
            return inner.decoded_space
        return space if self.target_decoder is None else "model"

    def decode_targets(self, payload: Payload) -> Tensor | None:
        """Return the targets that ``payload`` holds, differentiable; ``None``: it holds inputs alone."""
        decoder = self.target_decoder
        return None if decoder is None else decoder.decode_targets(payload, self.context, self.train.normalization)

    @cached_property
    def class_indices(self) -> tuple[Int[Tensor, " _"], ...]:
        """Indices of every class's real samples, ascending, in label order, on the CPU; sorted once."""
        sizes = torch.bincount(self.train.labels, minlength=self.num_classes)
        return torch.split(torch.argsort(self.train.labels, stable=True), sizes.tolist())

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names that draws are keyed by, in label order: the classes', or one empty name for tasks without classes."""
        return tuple(self.train.classes) or ("",)
