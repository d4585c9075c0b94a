"""Contracts of the parts that a run is put together from: networks, augmentations and codecs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from potstill.core.data import DecodeContext
from potstill.tasks import Movement

__all__ = [
    "Augmentation",
    "Codec",
    "ContextCodec",
    "Encoded",
    "GeometricAugmentation",
    "Layered",
    "Network",
    "NetworkFactory",
    "NetworkWeights",
    "Regularizer",
    "TargetMovingAugmentation",
]


class Network(nn.Module, ABC):
    """Network with an embedding: ``forward(x)`` is ``classifier(embed(x))``, logits (n, k)."""

    classifier: nn.Module

    @abstractmethod
    def embed(self, x: Any) -> Float[Tensor, "n d"]:
        """Return the flattened features before the classifier, of a tensor (n, …) or of inputs by name."""


@runtime_checkable
class Layered(Protocol):
    """`Network` that also returns its inner activations, for methods that match them."""

    def activations(self, x: Tensor, /) -> tuple[Tensor, ...]:
        """Return the output of every inner activation function (n, c, h, w), in order, then ``embed(x)``."""
        ...


@runtime_checkable
class NetworkFactory(Protocol):
    """Builds a network from a seed alone, on ``device``, without the global random generator."""

    @property
    def name(self) -> str:
        """Full name, such as ``convnet-d3-w128-instance-avg``."""
        ...

    @property
    def device(self) -> torch.device: ...
    def __call__(self, seed: int, /) -> Network: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkWeights:
    """Trained network as a value: seed of its initial parameters, and its parameters and buffers by name."""

    seed: int
    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    epoch: int | None = None
    """Number of epochs it was trained for, where it was trained in epochs."""
    classes: tuple[str, ...] = ()
    """Class names in the order of its logits; empty where unknown."""


@runtime_checkable
class Regularizer(Protocol):
    """Term that is added to the losses of single samples; its text is its name with its settings."""

    def terms(self, loss: Callable[[Tensor], Tensor], x: Tensor, /) -> Float[Tensor, " n"]:
        """Return the weighted term of each sample, differentiable by ``x`` and by what ``loss`` depends on.

        Args:
            loss: sum of the samples' losses, a function of inputs (n, …).
            x: inputs (n, …) in model space.
        """
        ...


@runtime_checkable
class Augmentation(Protocol):
    """Differentiable augmentation without state: draw parameters once, apply them to batches of one image size."""

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> Any:
        """Draw parameters for ``n`` samples of ``shape`` (c, h, w); with ``n = 1`` the whole batch shares them
        (siamese)."""
        ...

    def apply(self, x: Tensor, params: Any, /) -> Tensor:
        """Transform ``x`` (m, c, h, w) by parameters drawn for m samples, or for one and shared."""
        ...


@runtime_checkable
class GeometricAugmentation(Protocol):
    """`Augmentation` that lists the operations by which it moves pixels; others are assumed to move them."""

    @property
    def geometric(self) -> tuple[str, ...]:
        """Names out of `potstill.tasks.GEOMETRIC`; all other operations leave every pixel in its place."""
        ...

    def without(self, operations: Collection[str], /) -> Augmentation:
        """Return a copy without these operations."""
        ...


@runtime_checkable
class TargetMovingAugmentation(GeometricAugmentation, Protocol):
    """`Augmentation` that can move other maps, such as masks, along with the pixels."""

    def movement(self, params: Any, shape: tuple[int, ...], /) -> Movement:
        """Return how ``apply`` with ``params`` moves the pixels of images of ``shape`` (c, h, w)."""
        ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """One tensor as a file stores it."""

    tensors: Mapping[str, Tensor]
    """Tensors by the suffix of their name in the file; ``""`` is the tensor of the name itself."""
    metadata: Mapping[str, Any]
    """JSON that says how to decode them, with at least ``codec`` and ``shape``."""


@runtime_checkable
class Codec(Protocol):
    """Encoding of values in a file: a frozen dataclass whose fields are its settings."""

    @property
    def label_bits(self) -> int:
        """Bits per value of a soft label."""
        ...

    def pack(self, x: Tensor, /) -> Encoded:
        """Encode ``x`` (float32, any shape) in one of the encodings of the file format."""
        ...


@runtime_checkable
class ContextCodec(Codec, Protocol):
    """`Codec` of whole inputs that decodes them itself and by the context of the data, such as an asset.

    Its ``Encoded.metadata["codec"]`` is its registered name with its settings, by which a reader finds ``unpack``. A
    codec that uses assets has ``assets(problem)`` as well (`RequiresAssets`).
    """

    def pack(self, x: Tensor, context: DecodeContext | None = None, /) -> Encoded:
        """Encode inputs ``x`` (n, *context.shape), float32 on the CPU.

        Raises:
            PotstillError: there is no context, or inputs that it does not write.
        """
        ...

    def unpack(self, stored: Encoded, context: DecodeContext, /) -> Tensor:
        """Return inputs (n, *context.shape), float32; nothing in ``stored`` can be relied on."""
        ...
