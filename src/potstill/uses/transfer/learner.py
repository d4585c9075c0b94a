"""A network that learns vectors first and few labels afterwards, and the closed form on its features."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from potstill.augment.names import load_augmentation
from potstill.core import Augmentation, InputSpec, Network, NetworkFactory, Normalization, Source
from potstill.core.nested import iter_batches
from potstill.errors import PotstillError
from potstill.evaluation.student import TEST_CHUNK
from potstill.functional.features import embed_real
from potstill.functional.ridge import ridge_weights
from potstill.functional.train import Criterion, cross_entropy
from potstill.nn import factory
from potstill.rng import derive_seed, generator

__all__ = ["PENALTIES", "FewLabels", "Learner", "Recipe", "parse_part", "probe_accuracy"]

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Ridge penalties of the closed form on features, relative to the mean of the kernel's diagonal. Ours."""


def parse_part(spelled: str) -> float:
    """Return a part of all labels, such as ``1%``, as a fraction.

    Raises:
        PotstillError: it is no number of percent above 0 and at most 100.
    """
    found = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)\s*%", spelled.strip())
    if found is None or not 0 < float(found[1]) <= 100:
        raise PotstillError(
            f"labels must be a whole number of each class or a part of them such as 1%, not {spelled[:20]!r}; change it"
        )
    return float(found[1]) / 100


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """SGD with momentum 0.9, the rate along a cosine to zero."""

    steps: int
    batch: int
    lr: float
    weight_decay: float


@dataclass(frozen=True, kw_only=True)
class FewLabels:
    """Labelled samples of the second data set in model space, and a division of them to choose a rate by."""

    x: Tensor
    y: Int[Tensor, " n"]
    places: Int[Tensor, " n"]
    """Their positions in the data."""
    fit: Int[Tensor, " a"]
    """Half of the samples of every class; the rest tests a rate."""
    validation: Int[Tensor, " b"]

    @classmethod
    def draw(cls, source: Source, labels: int | str, rng: Generator) -> "FewLabels":
        """Draw so many samples of each class, or as many as it has.

        Args:
            source: the labelled samples.
            labels: their number in each class, or a part of it such as ``1%``, 2 at least.
            rng: draws.
        """
        index, halves = list[Tensor](), list[Tensor]()
        for c in range(len(source.classes)):
            of_class = torch.where(source.labels == c)[0]
            count = labels if isinstance(labels, int) else max(2, round(parse_part(labels) * len(of_class)))
            chosen = of_class[torch.randperm(len(of_class), generator=rng)[:count]]
            index.append(chosen)
            halves.append(torch.arange(len(chosen)) % 2)
        at, half = torch.cat(index), torch.cat(halves)
        batch = source.fetch(at)
        assert isinstance(batch.x, Tensor)
        return cls(
            x=batch.x, y=source.labels[at].to(batch.x.device), places=at, fit=torch.where(half == 0)[0],
            validation=torch.where(half == 1)[0],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Learner:
    """Networks of one architecture, trained on vectors and then on labels."""

    network: str
    input: InputSpec
    normalization: Normalization
    vectors: int
    """Numbers of a vector."""
    classes: int
    """Classes of the second data set."""
    device: torch.device
    pretraining: Recipe
    tuning: Recipe
    rates: tuple[float, ...]
    """Rates of fine-tuning; of several, the one that is best on half of the labels."""
    augment: Augmentation
    """Augmentation of fine-tuning."""

    @classmethod
    def augmentation(cls, name: str, source: Source) -> Augmentation:
        """Return the augmentation of that name for these pictures."""
        return load_augmentation(name, source)

    def _make(self, outputs: int) -> NetworkFactory:
        return factory(self.network, self.input, outputs, self.device, normalization=self.normalization)

    def pretrain(self, x: Tensor | None, y: Tensor | None, seed: int) -> dict[str, Tensor]:
        """Return parameters and buffers, without the head, of a network that learned vectors; ``None``: an untrained
        one.

        Args:
            x: inputs in model space (n, …).
            y: standardised vectors (n, d).
            seed: of the network and of the order of samples.
        """
        network = self._make(self.vectors)(derive_seed(seed, "network"))
        if x is not None and y is not None:
            _train(network, x, y.float(), self.pretraining, F.mse_loss, generator(seed, "pre-training"))
        head = self._head_names()
        return {name: t.detach().clone() for name, t in network.state_dict().items() if name not in head}

    def _head_names(self) -> frozenset[str]:
        few, more = (self._make(k)(0).state_dict() for k in (self.classes, self.classes + 1))
        return frozenset(name for name, t in few.items() if t.shape != more[name].shape)

    def _loaded(self, body: Mapping[str, Tensor], seed: int) -> Network:
        network = self._make(self.classes)(derive_seed(seed, "network"))
        network.load_state_dict({**network.state_dict(), **body})
        return network

    def fine_tune(
        self, body: Mapping[str, Tensor], labels: FewLabels, test: tuple[Tensor, Tensor], seed: int
    ) -> tuple[float, float]:
        """Return accuracy on the test data after training all parameters on the labels, and the rate.

        A rate is chosen on the half of the labels that its network has not learned; the network that counts then
        learns all of them.
        """
        rate = self.rates[0]
        if len(self.rates) > 1:
            validation = labels.x[labels.validation], labels.y[labels.validation]
            losses = []
            for lr in self.rates:
                tried = self._tune(body, labels.x[labels.fit], labels.y[labels.fit], lr, seed)
                losses.append((-_accuracy(tried, *validation), _loss(tried, *validation)))
            rate = self.rates[min(range(len(losses)), key=losses.__getitem__)]
        return _accuracy(self._tune(body, labels.x, labels.y, rate, seed), *test), rate

    def _tune(self, body: Mapping[str, Tensor], x: Tensor, y: Tensor, lr: float, seed: int) -> Network:
        network = self._loaded(body, seed)
        rng = generator(seed, "fine-tuning")
        _train(network, x, y, replace(self.tuning, lr=lr), cross_entropy, rng, self.augment)
        return network

    def probe(self, body: Mapping[str, Tensor], labels: FewLabels, test: tuple[Tensor, Tensor], seed: int) -> float:
        """Return accuracy on the test data of ridge regression on the features of a network that does not change."""
        network = self._loaded(body, seed).eval()
        return probe_accuracy(embed_real(network, labels.x), labels, embed_real(network, test[0]), test[1])


def probe_accuracy(
    features: Float[Tensor, "n d"], labels: FewLabels, test: Float[Tensor, "m d"], y: Int[Tensor, " m"]
) -> float:
    """Return the accuracy of ridge regression on standardised features, its penalty chosen on half of the labels.

    Args:
        features: of the labelled samples.
        labels: theirs.
        test: features of the test samples.
        y: classes of these.
    """
    targets = F.one_hot(labels.y, int(labels.y.max()) + 1).double()

    def right(at: Tensor, queries: Tensor, classes: Tensor, penalty: float) -> float:
        x = features[at].double()
        mean, std = x.mean(0), x.std(0, correction=0)
        std = torch.where(std > 1e-9, std, torch.ones_like(std))
        rows, tested = (x - mean) / std, (queries.double() - mean) / std
        centre = targets[at].mean(0)
        weights = ridge_weights(rows, targets[at] - centre, penalty)
        return float(((tested @ weights + centre).argmax(1) == classes).double().mean())

    validation = features[labels.validation], labels.y[labels.validation]
    best = max(PENALTIES, key=lambda p: right(labels.fit, *validation, p)) if len(labels.validation) else PENALTIES[1]
    return right(torch.arange(len(features)), test, y, best)


def _train(
    network: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, criterion: Criterion, rng: Generator,
    augment: Augmentation | None = None,
) -> None:  # fmt: skip
    parameters = list(network.parameters())
    optimizer = torch.optim.SGD(parameters, lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    network.train()
    for at in _batches(len(x), recipe, rng):
        some = x[at.to(x.device)]
        if augment is not None:
            some = augment.apply(some, augment.draw(len(some), tuple(some.shape[1:]), rng))
        loss = criterion(network(some), y[at.to(y.device)])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _batches(n: int, recipe: Recipe, rng: Generator) -> Sequence[Tensor]:
    """Return the samples of every step: passes in new orders, so that no sample waits for another's second turn."""
    size = min(n, recipe.batch)
    passes = -(-recipe.steps * size // n)
    order = torch.cat([torch.randperm(n, generator=rng) for _ in range(passes)])
    return torch.split(order[: recipe.steps * size], size)


def _outputs(network: nn.Module, x: Tensor) -> Tensor:
    network.eval()
    with torch.no_grad():
        return torch.cat([network(part) for part in iter_batches(x, TEST_CHUNK)])


def _accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    return float((_outputs(network, x).argmax(1) == y).double().mean())


def _loss(network: nn.Module, x: Tensor, y: Tensor) -> float:
    return float(cross_entropy(_outputs(network, x), y))
