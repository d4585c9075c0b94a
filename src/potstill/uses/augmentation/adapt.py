"""SAFLEX in a training loop: each batch of an augmentation gets weights and labels by the gradient of validation data.

Ding et al. 2024, arXiv:2410.02512; the closed form is in `potstill.functional.label_gains`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from potstill.augment.mix import label_rows
from potstill.core import Augmentation
from potstill.functional.label_gains import adapted_labels, label_gains

__all__ = ["AdaptedLoader", "Upstream", "adapt_batch", "as_upstream", "validation_gradient"]

Upstream: TypeAlias = Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]
"""An augmentation: inputs and labels (classes, or rows) of a batch, and a generator, to inputs and labels."""


def as_upstream(augmentation: Augmentation) -> Upstream:
    """Return one of Potstill's augmentations (`potstill.augment.names.load_augmentation`) as an upstream one."""

    def upstream(x: Tensor, y: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
        return augmentation.apply(x, augmentation.draw(len(x), tuple(x.shape[1:]), rng)), y

    return upstream


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


@dataclass(kw_only=True)
class AdaptedLoader:
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
    """Batches of inputs and classes, such as a `torch.utils.data.DataLoader`."""
    network: nn.Module
    upstream: Upstream
    validation: tuple[Tensor, Tensor]
    """Inputs and classes that the network is not trained on; batches of them are drawn for each batch."""
    rng: Generator
    batch: int = 128
    """Validation samples of a step, at most."""
    pull: float = 2.0
    temperature: float = 0.25
    fixed: bool = False

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield inputs, labels as rows, and weights."""
        held_x, held_y = self.validation
        for given_x, given_y in self.loader:
            x, y = self.upstream(given_x, given_y, self.rng)
            at = torch.randperm(len(held_x), generator=self.rng)[: self.batch].to(held_x.device)
            gradient = validation_gradient(self.network, held_x[at], held_y[at.to(held_y.device)])
            weights, rows = adapt_batch(
                self.network, x, y, gradient, pull=self.pull, temperature=self.temperature, fixed=self.fixed
            )  # fmt: skip
            yield x, rows, weights
