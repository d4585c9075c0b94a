"""SAFLEX in a training loop: each batch of an augmentation gets weights and labels by the gradient of validation data.

Ding et al. 2024, arXiv:2410.02512; the closed form is in `potstill.functional.label_gains`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.utils.data import default_collate, get_worker_info

from potstill.augment.mix import label_rows
from potstill.core import Augmentation
from potstill.errors import PotstillError
from potstill.functional.label_gains import adapted_labels, label_gains
from potstill.uses.augmentation.upstream import Upstream

__all__ = [
    "AdaptedAugmentation", "AdaptedLoader", "AdaptedParams", "AdaptedTransform", "adapt_batch", "validation_gradient",
]  # fmt: skip


def validation_gradient(network: nn.Module, x: Float[Tensor, "n ..."], y: Tensor) -> dict[str, Tensor]:
    """Return the gradient of the mean cross-entropy of validation samples, by the names of parameters."""
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(F.cross_entropy(network(x), y), list(parameters.values()))
    return dict(zip(parameters, gradients, strict=True))


def adapt_batch(
    network: nn.Module, x: Float[Tensor, "n ..."], y: Tensor, gradient: Mapping[str, Tensor], *, pull: float = 2.0,
    temperature: float = 0.25, fixed: bool = False,
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n k"]]:  # fmt: skip
    """Return weights and labels of an augmented batch, for a step from the network's weights as they are.

    Train with ``(weights * cross_entropy(network(x), labels, reduction="none")).mean()``.

    Args:
        network: any classifier; its weights are not changed.
        x: augmented inputs.
        y: their labels: classes (n,) or rows (n, k).
        gradient: of `validation_gradient` at the same weights.
        pull, temperature, fixed: as for `potstill.functional.label_gains.adapted_labels`.

    Returns:
        Weights of mean 1, and labels as rows.
    """
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    buffers = {name: b.clone() for name, b in network.named_buffers()}

    def logits(at: Mapping[str, Tensor]) -> Tensor:
        outputs: Tensor = torch.func.functional_call(network, {**at, **buffers}, (x,))
        return outputs

    gains = label_gains(logits, parameters, gradient)
    rows = label_rows(y, gains.shape[1], gains.dtype)
    return adapted_labels(gains, rows.to(gains.device), pull=pull, temperature=temperature, fixed=fixed)


@dataclass(kw_only=True, eq=False)
class _Adapter:
    """Network and validation samples by which batches are adapted."""

    network: nn.Module
    validation: tuple[Tensor, Tensor]
    """Inputs and classes that the network is not trained on; some of them are drawn for each batch."""
    batch: int = 128
    """Validation samples of a step, at most."""
    pull: float = 2.0
    temperature: float = 0.25
    fixed: bool = False

    def __post_init__(self) -> None:
        inputs, classes = self.validation
        if len(inputs) != len(classes) or self.batch < 1:
            raise PotstillError(
                f"validation samples need a class each and batches of at least 1, but there are {len(inputs)} inputs, "
                f"{len(classes)} classes and batches of {self.batch}; change them"
            )
        if len(torch.unique(classes)) < 2:
            raise PotstillError(
                "the validation samples have one class alone, so their gradient tells none apart; give samples of two "
                "classes or more"
            )

    def _draw_validation(self, rng: Generator) -> Int[Tensor, " v"]:
        return torch.randperm(len(self.validation[0]), generator=rng)[: self.batch]

    def _adapt(
        self, x: Tensor, y: Tensor, at: Int[Tensor, " v"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n k"]]:  # fmt: skip
        inputs, classes = self.validation
        gradient = validation_gradient(self.network, inputs[at.to(inputs.device)], classes[at.to(classes.device)])
        return adapt_batch(
            self.network, x, y, gradient, pull=self.pull, temperature=self.temperature, fixed=self.fixed
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class AdaptedParams:
    """Parameters of one draw of an `AdaptedAugmentation`."""

    inputs: Any
    """Parameters of the augmentation that is adapted."""
    validation: Int[Tensor, " v"]
    """Positions of the validation samples."""


@dataclass(kw_only=True, eq=False)
class AdaptedAugmentation(_Adapter):
    """An augmentation with weights and labels for the network as it is; a `potstill.core.Augmentation`.

    ``draw`` and ``apply`` are those of any augmentation, so that it stands wherever one is taken. ``adapt`` gives the
    labels and weights of the inputs that ``apply`` returned.

    Examples:
        >>> from potstill.augment.siamese import dsa
        >>> x, y, rng = torch.randn(8, 1, 8, 8), torch.arange(8) % 2, torch.Generator().manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
        >>> augment = AdaptedAugmentation(augmentation=dsa(), network=model, validation=(x, y))
        >>> params = augment.draw(8, (1, 8, 8), rng)
        >>> inputs = augment.apply(x, params)
        >>> weights, labels = augment.adapt(inputs, y, params)
        >>> tuple(inputs.shape), tuple(labels.shape), tuple(weights.shape)
        ((8, 1, 8, 8), (8, 2), (8,))
    """

    augmentation: Augmentation

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> AdaptedParams:
        """Draw parameters of the augmentation for ``n`` samples of ``shape``, then validation samples."""
        return AdaptedParams(self.augmentation.draw(n, shape, rng), self._draw_validation(rng))

    def apply(self, x: Tensor, params: AdaptedParams, /) -> Tensor:
        """Transform ``x`` as the augmentation does."""
        return self.augmentation.apply(x, params.inputs)

    def adapt(
        self, x: Float[Tensor, "n ..."], y: Tensor, params: AdaptedParams, /
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n k"]]:  # fmt: skip
        """Return weights of mean 1 and labels as rows, of transformed inputs ``x`` with labels ``y``."""
        return self._adapt(x, y, params.validation)


@dataclass(kw_only=True, eq=False)
class AdaptedTransform(_Adapter):
    """A transform of batches of a data loader: augmented inputs, labels as rows, and weights.

    Examples:
        >>> data = [(torch.randn(3), n % 2) for n in range(8)]
        >>> held = torch.randn(8, 3), torch.arange(8) % 2
        >>> def noisy(x, y, rng):
        ...     return x + torch.randn(x.shape, generator=rng), y
        >>> transform = AdaptedTransform(
        ...     network=torch.nn.Linear(3, 2), upstream=noisy, validation=held, rng=torch.Generator().manual_seed(0)
        ... )
        >>> loader = torch.utils.data.DataLoader(data, batch_size=4, collate_fn=transform.collate)
        >>> [(tuple(x.shape), tuple(labels.shape), tuple(weights.shape)) for x, labels, weights in loader]
        [((4, 3), (4, 2), (4,)), ((4, 3), (4, 2), (4,))]
    """

    upstream: Upstream
    rng: Generator

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs, labels as rows, and weights of one batch, for the network as it is now."""
        inputs, labels = self.upstream(x, y, self.rng)
        weights, rows = self._adapt(inputs, labels, self._draw_validation(self.rng))
        return inputs, rows, weights

    def collate(self, samples: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Return samples (input, class) as a batch: ``DataLoader(…, collate_fn=transform.collate)``.

        Raises:
            PotstillError: it runs in a worker, whose network is a copy that is never trained.
        """
        if get_worker_info() is not None:
            raise PotstillError(
                "labels are adapted to the network as it is, but a worker of the data loader has a copy of it; give "
                "num_workers=0, or AdaptedLoader around the loader"
            )
        x, y = default_collate(list(samples))
        return self(x, y)


@dataclass(kw_only=True, eq=False)
class AdaptedLoader(_Adapter):
    """A data loader whose batches are augmented, weighted and labelled for the network as it is at that moment.

    Examples:
        >>> x, y = torch.randn(8, 3), torch.arange(8) % 2
        >>> model = torch.nn.Linear(3, 2)
        >>> def noisy(x, y, rng):
        ...     return x + torch.randn(x.shape, generator=rng), y
        >>> for inputs, labels, weights in AdaptedLoader(
        ...     loader=[(x, y)], network=model, upstream=noisy, validation=(x, y), rng=torch.Generator().manual_seed(0)
        ... ):
        ...     print(tuple(inputs.shape), tuple(labels.shape), f"{weights.mean():.1f}")
        (8, 3) (8, 2) 1.0
    """

    loader: Iterable[tuple[Tensor, Tensor]]
    """Batches of inputs and classes, such as a `torch.utils.data.DataLoader`, with any number of workers."""
    upstream: Upstream
    rng: Generator

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield inputs, labels as rows, and weights."""
        transform = AdaptedTransform(
            network=self.network, validation=self.validation, batch=self.batch, pull=self.pull,
            temperature=self.temperature, fixed=self.fixed, upstream=self.upstream, rng=self.rng,
        )  # fmt: skip
        for x, y in self.loader:
            yield transform(x, y)
