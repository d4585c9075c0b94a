"""The contracts. Imports torch, jaxtyping, the standard library and tasks only; everything else imports this.

Legend: n samples, m indexed samples, k classes, c h w a picture, d features.
"""

import html
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar, overload, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from potstill.tasks import Metric, Movement, Task, get_task

__all__ = [
    "Asset",
    "AssetContext",
    "AssetJob",
    "Augmentation",
    "Batch",
    "Budget",
    "ClassSeparable",
    "ClassShardable",
    "Codec",
    "Encoded",
    "Family",
    "GeometricAugmentation",
    "InputSpec",
    "Inputs",
    "Layered",
    "Method",
    "MethodInfo",
    "Metric",
    "Metrics",
    "Network",
    "NetworkFactory",
    "NetworkWeights",
    "Normalization",
    "Parametrization",
    "Payload",
    "Preset",
    "Presets",
    "Problem",
    "RequiresAssets",
    "Result",
    "ScoringMethod",
    "Selection",
    "Source",
    "Space",
    "Splits",
    "StepCost",
    "Synthetic",
    "TargetMovingAugmentation",
    "Task",
    "Whitening",
    "label_mode",
]  # fmt: skip

Inputs: TypeAlias = Tensor | Mapping[str, Tensor]
"""What a sample is: one tensor (a picture), or a named set of them (a table's columns, a picture and its caption)."""

Payload: TypeAlias = Mapping[str, Tensor]
"""What a parametrization stores and an optimiser changes: named tensors."""

Metrics: TypeAlias = Mapping[str, float]

Space = Literal["model", "data"]
"""``model``: normalised, as networks see it. ``data``: the data's own units (pixels in [0, 1])."""

Preset = Literal["quick", "good", "published"]
"""How many steps a method makes: minutes on a laptop, about an hour, or what its paper says. Numbers, never a clock."""

Presets: TypeAlias = Mapping[str, Mapping[str, Any]]
"""The fields of a method that each effort sets apart from what is published."""

Family = Literal["selection", "gradient", "trajectory", "distribution", "performance", "decoupled", "generative"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples along the first axis of every tensor.

    ``x`` is in model space (normalised) when it comes from ``Source.fetch``. ``y`` are the targets as the task has
    them: int64 classes (n,), float rows (n, k) that sum to 1, real values (n, t), the number of each pair (n,).
    ``columns`` ride along: weights, groups.
    """

    x: Inputs
    y: Tensor | None
    columns: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What one input is: ``kind`` ("image", "table", …), its ``shape`` without the batch axis, and its ``units``.

    Inputs with names have a spec for each name in ``parts``, and the shape (). Kinds of such parts: ``categories``
    (int64 codes (d,)), ``words`` (int64 word numbers of any length: ``NAME/values`` of all samples in one row, and
    ``NAME/offsets`` (n,), where each sample begins in it), and those of single tensors.
    """

    kind: str
    shape: tuple[int, ...]
    units: str = "pixels in [0,1]"
    horizontal_flip: bool = True
    """Of pictures: whether one that is mirrored is still of its class. A digit is not."""
    columns: tuple[str, ...] = ()
    """Of a table: the name of each value, where they are known."""
    levels: tuple[int, ...] = ()
    """Of ``categories``: how many codes each column has. Of ``words``: how many words there are."""
    parts: tuple[tuple[str, "InputSpec"], ...] = ()
    """Names and what each of them is; empty: an input is one tensor."""

    @property
    def num_values(self) -> int:
        """Values of one input of a fixed size: of all of its parts, ``words`` left out."""
        if self.parts:
            return sum(part.num_values for _, part in self.parts if part.kind != "words")
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Whitening:
    """A linear map on flattened inputs, ``z = (u - mean) @ matrix``; ``inverse`` undoes ``matrix``.

    ``unit``: first give every sample zero mean and unit L2 norm (the KIP family). That step cannot be undone, so
    ``inverse`` then leads back to the unit-norm sample, not to the picture.
    """

    mean: Float[Tensor, " d"]
    matrix: Float[Tensor, "d d"]
    inverse: Float[Tensor, "d d"]
    unit_norm: bool = False


@dataclass(frozen=True, slots=True)
class Normalization:
    """Data units to model space: ``(x - mean) / std`` along axis 1, then the whitening if there is one.

    ``mean`` and ``std`` have one entry per channel (pictures) or per column (tables). Fitted on train only.
    """

    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]
    whitening: Whitening | None = None
    parts: Mapping[str, "Normalization"] = field(default_factory=dict)
    """Of inputs with names: that of each name that has one; the others (codes, words) stay as they are."""

    def _affine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return self.mean.to(x).reshape(shape), self.std.to(x).reshape(shape)

    @overload
    def apply(self, x: Tensor) -> Tensor: ...
    @overload
    def apply(self, x: Inputs) -> Inputs: ...
    def apply(self, x: Inputs) -> Inputs:
        """Data units (n, …) to model space, same shape, differentiable."""
        if not isinstance(x, Tensor):
            return {name: self.parts[name].apply(t) if name in self.parts else t for name, t in x.items()}
        mean, std = self._affine(x)
        x = (x - mean) / std
        if (w := self.whitening) is not None:
            flat = x.flatten(1)
            if w.unit_norm:
                flat = flat - flat.mean(1, keepdim=True)
                flat = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-12)
            x = ((flat - w.mean.to(x)) @ w.matrix.to(x)).reshape(x.shape)
        return x

    @overload
    def invert(self, z: Tensor) -> Tensor: ...
    @overload
    def invert(self, z: Inputs) -> Inputs: ...
    def invert(self, z: Inputs) -> Inputs:
        """Model space (n, …) back to data units."""
        if not isinstance(z, Tensor):
            return {name: self.parts[name].invert(t) if name in self.parts else t for name, t in z.items()}
        mean, std = self._affine(z)
        if (w := self.whitening) is not None:
            z = (z.flatten(1) @ w.inverse.to(z) + w.mean.to(z)).reshape(z.shape)
        return z * std + mean

    def to(self, device: torch.device | str) -> "Normalization":
        """The same with its tensors on ``device``."""
        w = self.whitening
        white = w and replace(w, mean=w.mean.to(device), matrix=w.matrix.to(device), inverse=w.inverse.to(device))
        parts = {name: n.to(device) for name, n in self.parts.items()}
        return Normalization(self.mean.to(device), self.std.to(device), white, parts)


@runtime_checkable
class Source(Protocol):
    """Real data of one split: fetched by index, held wherever it likes."""

    @property
    def name(self) -> str: ...
    @property
    def input(self) -> InputSpec: ...
    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order; none where the task knows no classes."""
        ...

    @property
    def normalization(self) -> Normalization: ...
    @property
    def labels(self) -> Int[Tensor, " n"]:
        """int64 labels of all samples, on the CPU: the group that each is drawn by, 0 where there are no classes."""
        ...

    @property
    def device(self) -> torch.device: ...
    @property
    def content_hash(self) -> str:
        """Hex digest of the inputs, the labels and the class names: equal data, equal hash."""
        ...

    def __len__(self) -> int: ...
    def fetch(self, index: Int[Tensor, " m"], /) -> Batch:
        """The samples at ``index`` (CPU or device int64), inputs normalised, on ``device``."""
        ...

    def raw(self, index: Int[Tensor, " m"], /) -> Inputs:
        """The same inputs in data units (float32; pixels in [0,1]), on ``device``."""
        ...

    def to(self, device: torch.device | str, /) -> "Source": ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """What ``load_data`` returns. ``test`` is for protocols only; a ``Problem`` never holds it. ``notes`` says what the
    loader decided (a split drawn by seed, pictures resized, files skipped), one line each. ``reading`` holds the
    options of ``load_data`` that say what the data are and differ from their defaults (JSON). ``files`` are the paths
    of files and folders that were read, which nothing made of these data is written over.
    """

    train: Source
    test: Source | None
    notes: tuple[str, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "\n".join([f"train: {self.train!r}", f"test: {self.test!r}", *(f"note: {n!r}" for n in self.notes)])

    def _repr_html_(self) -> str:
        parts = (getattr(p, "_repr_html_", lambda p=p: html.escape(repr(p)))() for p in (self.train, self.test))
        return "".join(f"<div>{part}</div>" for part in (*parts, *(html.escape(repr(n)) for n in self.notes)))


class Network(nn.Module, ABC):
    """A model that can embed. ``forward(x)`` is ``classifier`` applied to ``embed(x)``: logits (n, k)."""

    classifier: nn.Module

    @abstractmethod
    def embed(self, x: Any) -> Float[Tensor, "n d"]:
        """The flattened features before the classifier (DM's h) of a tensor (n, …), or of inputs with names."""


@runtime_checkable
class Layered(Protocol):
    """A `Network` that also shows its inner layers, for methods that look at them."""

    def activations(self, x: Tensor, /) -> tuple[Tensor, ...]:
        """The output of every inner activation function (n, c, h, w), in order, then ``embed(x)``."""
        ...


@runtime_checkable
class NetworkFactory(Protocol):
    """Makes a fresh network from a seed alone, on ``device``, without touching the global generator."""

    @property
    def name(self) -> str:
        """The full name, e.g. ``convnet-d3-w128-instance-avg``."""
        ...

    @property
    def device(self) -> torch.device: ...
    def __call__(self, seed: int, /) -> Network: ...


@runtime_checkable
class Augmentation(Protocol):
    """A differentiable, pure augmentation: draw parameters once, apply them to any batch of the same picture size."""

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> Any:
        """Parameters for ``n`` samples of ``shape`` (c, h, w); ``n = 1`` is shared by a whole batch (siamese)."""
        ...

    def apply(self, x: Tensor, params: Any, /) -> Tensor:
        """``x`` (m, c, h, w) transformed with ``params`` drawn for m samples, or for one and shared."""
        ...


@runtime_checkable
class GeometricAugmentation(Protocol):
    """An `Augmentation` that says which of its operations move pixels. One that does not say is taken to move them."""

    @property
    def geometric(self) -> tuple[str, ...]:
        """These, of `potstill.tasks.GEOMETRIC`; the others change values, and leave every pixel at its place."""
        ...

    def without(self, operations: Collection[str], /) -> Augmentation:
        """The same without these of ``geometric``."""
        ...


@runtime_checkable
class TargetMovingAugmentation(GeometricAugmentation, Protocol):
    """An `Augmentation` that can move other maps, such as masks, as it moved pixels."""

    def movement(self, params: Any, shape: tuple[int, ...], /) -> Movement:
        """How ``apply`` with ``params`` moves the pixels of pictures of ``shape`` (c, h, w)."""
        ...


@runtime_checkable
class Parametrization(Protocol):
    """What is stored and optimised, and how it decodes to inputs: a frozen dataclass whose fields are its settings.

    Floating tensors of a payload are optimised; integer ones (positions) are fixed once they are made. Tensors whose
    names begin with ``decoder/`` are shared by all items. One that stores inputs of some kinds alone names them in
    ``kinds``, as a `MethodInfo` does; where a method has it by default, it gives way to data of another kind.
    """

    @property
    def bounded(self) -> bool:
        """Whether the payload's floating values are values of inputs, so that clamping them clamps the inputs."""
        ...

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Decoded inputs of each class, where class c may store ``numbers[c]`` float32 numbers (or their bytes).

        Raises:
            PotstillError: a class would get no input.
        """
        ...

    def encode(self, x: Any, problem: "Problem", rng: Generator, /) -> Payload:
        """Stored form of initial inputs (sum(problem.sizes), …), grouped by class in label order.

        They are one tensor, unless the parametrization is one of inputs with names.
        """
        ...

    def decode(self, payload: Payload, shape: tuple[int, ...], /) -> Any:
        """Inputs (n, *shape), grouped by class in label order, differentiable by every floating tensor."""
        ...


@runtime_checkable
class RequiresAssets(Protocol):
    """A `Parametrization` that decodes by assets, such as a generator, which are shared and in no set's file.

    Each opens to named tensors: their hash stands on the card, and a reader finds them by it. ``sizes`` is asked before
    they are there, ``encode`` and ``decode`` after. A field that is not compared can hold them: it is no setting.
    """

    def assets(self, problem: "Problem", /) -> "tuple[Asset, ...]":
        """What it decodes by; a function of the data and the settings."""
        ...

    def with_assets(self, assets: Mapping[str, Payload], /) -> Parametrization:
        """The same, equal to itself, with what its assets opened to, by their names."""
        ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tensor as a file has it."""

    tensors: Mapping[str, Tensor]
    """By what follows the name in the file: ``""`` is the tensor of that name."""
    metadata: Mapping[str, Any]
    """How to read them: JSON with at least ``codec`` and ``shape``."""


@runtime_checkable
class Codec(Protocol):
    """How values are written: a frozen dataclass whose fields are its settings."""

    @property
    def label_bits(self) -> int:
        """Bits of a soft label's number."""
        ...

    def pack(self, x: Tensor, /) -> Encoded:
        """``x`` (float32, any shape) as one of the codecs of the file, which alone say how it is read."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much may be kept: items per class (``ipc``), items in all (``items``), or stored bytes (``bytes``)."""

    unit: Literal["ipc", "items", "bytes"]
    amount: int
    balance: Literal["natural", "equal"] | None = None
    """Items of a class: in proportion to its samples, or as many of each. ``None``: natural, but ``ipc`` is equal."""

    @property
    def natural(self) -> bool:
        """Whether classes get items in proportion to their samples."""
        return self.unit != "ipc" and self.balance != "equal"

    @property
    def balance_name(self) -> str:
        """``natural`` or ``equal``."""
        return "natural" if self.natural else "equal"

    def counts(self, num_classes: int, item_bytes: int) -> tuple[int, ...]:
        """Stored items of each class, equally many; what does not divide evenly goes to the first classes.

        Args:
            num_classes: k ≥ 1.
            item_bytes: stored bytes of one item with its label (read when ``unit`` is ``bytes``).

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


@dataclass(frozen=True, kw_only=True)
class Problem:
    """All that a method receives. It has no test split, on purpose."""

    train: Source
    counts: tuple[int, ...]
    """Items of each class, in label order: as many as the budget holds of inputs as they are."""
    network: NetworkFactory
    augment: Augmentation
    parametrization: Parametrization
    value_budget: tuple[int, ...] = ()
    """float32 numbers that each class may store; empty: as many as its items have."""
    assets: Mapping[str, Any] = field(default_factory=dict)
    """What ``Method.assets`` asked for, by name."""
    initial: Tensor | None = None
    """Decoded inputs to start from (sum(sizes), …), in data units, classes in label order; ``None``: as the method
    says."""
    shard: tuple[int, int] | None = None
    """First class and one past the last of those that a `Divisible` method is to match; ``None``: all."""

    @cached_property
    def task(self) -> Task:
        """What is to be learned."""
        return get_task(self.train)

    @property
    def num_classes(self) -> int:
        """Groups that real data are drawn by: classes, or 1 where there are none."""
        return max(1, len(self.train.classes))

    @property
    def shard_classes(self) -> range:
        """The classes that are matched: of the shard, or all."""
        return range(self.num_classes) if self.shard is None else range(*self.shard)

    @property
    def ipc(self) -> int:
        """Items of the largest class."""
        return max(self.counts)

    @property
    def values_per_class(self) -> tuple[int, ...]:
        """float32 numbers that each class may store."""
        return self.value_budget or tuple(count * self.train.input.num_values for count in self.counts)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Decoded inputs of each class, in label order.

        Raises:
            PotstillError: the budget is too small for the parametrization.
        """
        return self.parametrization.sizes(self.values_per_class, self.train.input.shape)

    @property
    def parametrization_assets(self) -> "tuple[Asset, ...]":
        """What its parametrization decodes by."""
        return self.parametrization.assets(self) if isinstance(self.parametrization, RequiresAssets) else ()

    def with_assets(self, assets: Mapping[str, Any]) -> "Problem":
        """The same with ``assets`` by name, of which its parametrization has what it needs."""
        mine = {
            a.name: {n: t.to(self.train.device) for n, t in assets[a.name].items()} for a in self.parametrization_assets
        }
        p = self.parametrization
        return replace(
            self, assets=assets, parametrization=p.with_assets(mine) if mine and isinstance(p, RequiresAssets) else p
        )

    def decode(self, payload: Payload) -> Any:
        """The inputs that ``payload`` stands for, classes in label order, differentiable."""
        return self.parametrization.decode(payload, self.train.input.shape)

    @cached_property
    def class_indices(self) -> tuple[Int[Tensor, " _"], ...]:
        """Indices of every class's real samples, ascending, in label order, on the CPU. Sorted once."""
        sizes = torch.bincount(self.train.labels, minlength=self.num_classes)
        return torch.split(torch.argsort(self.train.labels, stable=True), sizes.tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Indices into the training source, in label order; ``rows`` are soft labels (m, k) where the method makes them."""

    index: Int[Tensor, " m"]
    soft_labels: Float[Tensor, "m k"] | None = None
    weights: Float[Tensor, " m"] | None = None
    """How much each sample counts in a training loss, where the method says so, in its own units: finite, at least 0
    and not all 0. What trains on them divides them by their mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """A payload, to be decoded by the problem's parametrization, and labels of the decoded inputs."""

    payload: Payload
    labels: Tensor
    """Targets as the task has them: int64 classes (n,), float rows (n, k), real values (n, t), numbers of pairs."""
    space: Space = "model"
    """What it decodes to: normalised inputs, or inputs in data units (pixels in [0, 1])."""
    extra_parameters: Mapping[str, Tensor] = field(default_factory=dict)
    """What was learned beside inputs and labels, by name, floating. ``student/lr``: one number, the rate that students
    are to train at; it stands on the card as ``training.learned_lr``, where protocols read it."""
    centred_labels: bool = False
    """Whether labels of classes are real values, in units where a hard label is one-hot − 1/k: no distributions."""


Result: TypeAlias = Selection | Synthetic


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodInfo:
    """What the registry, the docs and the contract suite read about a method."""

    title: str
    paper: str
    """Where it was published: ``arXiv:…``, a DOI, or a venue."""
    year: int
    family: Family
    is_selection: bool = False
    """Its result is a ``Selection``: every item is a real sample."""
    soft_labels: bool = False
    """Its labels are rows, not classes."""
    balanced: bool = True
    """Every class gets its own budget; a method that shares the whole otherwise gives each at least one item."""
    reimplemented: bool = False
    """Its authors published no program, so that this is our reading of their paper: said wherever it is compared."""
    weighted: bool = False
    """Its ``Selection`` carries weights."""
    kinds: tuple[str, ...] = ("image",)
    """Kinds of input it works on; ``("*",)`` for any single tensor."""
    multi_input: bool = False
    """It also works on inputs with names."""
    tasks: tuple[str, ...] = ("classification",)
    """Tasks it works for; ``("*",)`` for any."""
    training: Mapping[str, str | float | int] = field(default_factory=dict)
    """How the paper trains on the result: written on the card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetContext:
    """What assets are made from."""

    train: Source
    network: NetworkFactory
    """The architecture, of those that name no other."""
    augmentation: Callable[[str], Augmentation]
    """An augmentation by name."""


@runtime_checkable
class AssetJob(Protocol):
    """A part of an asset that is made by itself: a picklable value that holds everything that decides its bits."""

    def is_cached(self) -> bool:
        """Whether it seems to be kept from an earlier run; told quickly."""
        ...

    def load(self) -> Any:
        """What is kept of it, checked (by its hash) and not held in memory; ``None`` where it must be made."""
        ...

    def build(self) -> tuple[Any, str] | None:
        """Make it and keep it. Where it cannot be kept: the part itself, and why."""
        ...

    def compute(self) -> Any:
        """The same part in memory only."""
        ...

    def remaining(self) -> float:
        """Units of work that making it still takes."""
        ...

    def estimate(self) -> tuple[Callable[[], object], float]:
        """A little of the work, to be timed and weighed, and how many units it is; it leaves nothing behind."""
        ...


@runtime_checkable
class Asset(Protocol):
    """Something dear that is made before the first step, as a value: what it is and everything that decides its bits.

    It is made once for the same data and settings, whoever asks for it: as independent jobs, wherever they run.
    A part that a job gives (``kept``, ``compute``) may say ``seconds``: of computing that went into it.
    """

    @property
    def name(self) -> str:
        """What the method calls it in ``Problem.assets``."""
        ...

    @property
    def recipe(self) -> Mapping[str, float | int | str]:
        """Settings of the maker, as a plan shows them."""
        ...

    def jobs(self, ground: AssetContext, /) -> Sequence[AssetJob]:
        """All that it is made of.

        Raises:
            PotstillError: it cannot be made from these.
        """
        ...

    def open(self, parts: Sequence[Any], /) -> Any:
        """What the method gets, of every job's part in order: it reads what is large when it is asked for it.

        It may say ``held``: bytes that it keeps in memory, at most.
        """
        ...

    def placeholder(self, jobs: Sequence[Any], /) -> Any:
        """What a plan gets in its place: of the same sizes, and made in no time."""
        ...

    def adopt(self, value: Any, ground: AssetContext, /) -> Any:
        """As `open`, from what somebody brings: a value, or the path of a kept one.

        Raises:
            PotstillError: it is none, or does not fit the data.
        """
        ...

    def describe_work(self, missing: Sequence[Any], /) -> str:
        """What making some of its jobs is, in words: ``training 3 networks for 20 epochs``."""
        ...

    def provenance(self, value: Any, ground: AssetContext, /) -> Mapping[str, Mapping[str, Any]]:
        """An entry for each list of the set's card that should name it: JSON values."""
        ...


@runtime_checkable
class ScoringMethod(Protocol):
    """A `Method` that gives every real sample numbers before it selects by them: what `potstill.score` writes."""

    @property
    def selection_fields(self) -> tuple[str, ...]:
        """Fields that only say how the numbers select: every other one decides the numbers."""
        ...

    def assets(self, problem: "Problem", /) -> "tuple[Asset, ...]": ...
    def columns(self, problem: "Problem", /) -> Mapping[str, Float[Tensor, " n"]]:
        """Numbers of all samples by the name of what they are, not NaN; the first is the score."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkWeights:
    """A trained network as a value: the seed of its first parameters, and its parameters and buffers by name."""

    seed: int
    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    epoch: int | None = None
    """Epochs that it was trained for, where it came about in epochs."""
    classes: tuple[str, ...] = ()
    """Class names in the order of its logits; empty: not said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """A part of a step as a plan sees it: samples that pass a network together, and how to run it on a small scale."""

    what: str
    ready: Callable[[int], Callable[[], object]]
    """Gets ready to do it for the first so many classes, and returns what does it: what that holds is counted, and what
    it returns is held as long as a step."""
    samples: int
    """Samples that pass in one step, of all classes."""
    size: int
    """Samples of one class in a pass, of the largest class; of a part that knows no classes, all."""
    classes: int = 1
    """Classes in all; 1 where a part knows none."""
    at_once: int = 1
    """Classes in one pass, at most."""
    real: bool = False
    """Whether the samples are real."""
    every: int = 1
    """Steps that one run of the part serves."""
    stays: bool = False
    """Whether its results stay for the rest of the run, one more at each of its runs, up to ``classes`` of them."""
    when: Literal["before", "descent", "after"] = "before"
    """``descent``: while the decoded inputs and their graph are alive. ``after``: after what is stored has moved."""


S = TypeVar("S")
M = TypeVar("M", bound="Method[Any]")


class Method(ABC, Generic[S]):
    """One published way to make a distilled set: a frozen dataclass whose fields are its hyperparameters.

    Fields hold JSON values only (numbers, strings, booleans, None, tuples of them). A field called ``network``,
    ``augment`` or ``parametrization`` names a part, which the driver resolves and hands over in ``Problem``.
    The state is a frozen dataclass of tensors, ints, tuples and mappings of tensors, and other such dataclasses.
    """

    info: ClassVar[MethodInfo]
    state_type: ClassVar[type]
    """The class of the state, to read a checkpoint back."""
    may_be_zero: ClassVar[tuple[str, ...]] = ()
    """Whole-number fields to which 0 means something; every other one is at least 1, or its default if that is less."""
    fractions: ClassVar[tuple[str, ...]] = ()
    """Fields that are parts or probabilities, in [0, 1]; every other float is at least 0."""
    positive: ClassVar[tuple[str, ...]] = ()
    """Floats that must be above 0: what is divided by, as temperatures."""
    presets: ClassVar[Presets] = {}
    """The fields that an effort, ``quick`` or ``good``, sets apart from the published defaults; none: it sets none."""

    @abstractmethod
    def init(self, problem: Problem, rng: Generator) -> S:
        """The first state."""

    @abstractmethod
    def step(self, problem: Problem, state: S, rng: Generator) -> tuple[S, Metrics]:
        """The next state (a new value; the old one stays valid) and what to show of it."""

    @abstractmethod
    def done(self, problem: Problem, state: S) -> bool:
        """Whether the published number of steps has been made."""

    @abstractmethod
    def result(self, problem: Problem, state: S) -> Result:
        """The distilled set of this state; allowed at any state, so a stopped run still yields one."""

    def resolve_defaults(self: M, problem: Problem) -> tuple[M, tuple[str, ...]]:
        """The method for this data, before anything else is asked of it: every field that its default leaves to the
        data has its value, which the card then shows; and a line for each thing that the data do not admit."""
        return self, ()

    def assets(self, problem: Problem) -> "tuple[Asset, ...]":
        """What must be made before ``init``, in ``Problem.assets`` by name; made once and kept for later runs."""
        return ()

    def num_steps(self, problem: Problem) -> int | None:
        """How many steps ``done`` waits for, for the progress bar; ``None`` if not known."""
        return None

    def step_costs(self, problem: Problem, state: S) -> "tuple[StepCost, ...] | None":
        """What a step consists of, for a plan of its memory; ``None``: not said, and no memory is predicted."""
        return None


@runtime_checkable
class ClassShardable(Protocol[S]):
    """A `Method` that can make a part of its set by itself: that of some classes, where its objective is a sum over
    classes and what it moves belongs to one class each, or as large a part of batches that need no other. Then ``init``
    and ``step`` of a problem with a ``shard`` do that part alone, and draw all that they would draw for the whole, so
    that no item's way depends on how they are divided. A step of a part that belongs to another is one that waits."""

    def shard_obstacle(self, problem: Problem, /) -> str | None:
        """Why the classes of this problem must be made together; ``None``: each can be by itself."""
        ...

    def join_shards(self, problem: Problem, parts: Sequence[tuple[range, S]], /) -> S:
        """One state, with what each of these has made. The parts cover all classes, and all have made as many steps."""
        ...


@runtime_checkable
class ClassSeparable(Protocol):
    """A `Parametrization` every floating number of which belongs to one class."""

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """Of each floating tensor, the part of its first axis that belongs to neighbouring classes.

        Args:
            sizes: decoded inputs of each class, of all of them.
        """
        ...


def label_mode(method: Method[Any] | type[Method[Any]]) -> str:
    """The field ``labels`` of a method (``soft``, ``learned``, …), or ``hard`` of one that has none.

    A function of that name is a helper of its author's, and asks for nothing.
    """
    found = getattr(method, "labels", "hard")
    return found if isinstance(found, str) else "hard"
