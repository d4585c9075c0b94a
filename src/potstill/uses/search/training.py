"""Training of one candidate for a number of updates, on real data or on a small set, and its validation accuracy."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.augment.names import named_augmentation
from potstill.core import Network, NetworkFactory, Source
from potstill.core.nested import single_tensor
from potstill.evaluation.candidate_trials import count_operations
from potstill.evaluation.student import predict
from potstill.nn import factory_for
from potstill.rng import derive_seed, generator
from potstill.tasks import get_task
from potstill.uses.search.space import Candidate

__all__ = ["BACKWARD", "Rows", "Trial", "candidate_factory", "gradient_norm", "train_candidate"]

BACKWARD = 3
"""Operations of an update over those of a forward pass: the backward pass takes two."""

WORST = -1e30
"""Score of a network whose loss is not finite."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A small training set in memory, in model space."""

    x: Tensor
    y: Tensor
    """Classes (n,) or soft labels (n, k)."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Result of one training."""

    accuracy: float
    """On the samples that decide; chance where the weights are no longer finite. Scored by loss: minus the loss."""
    operations: float
    """Sample-updates times operations of an update."""
    seconds: float
    """Time of training, without validation."""

    def to_dict(self) -> dict[str, Any]:
        return {"accuracy": self.accuracy, "operations": self.operations, "seconds": round(self.seconds, 4)}


def candidate_factory(candidate: Candidate, source: Source) -> NetworkFactory:
    """Return the maker of the candidate's networks for the data.

    Raises:
        PotstillError: the network does not take such inputs.
    """
    return factory_for(candidate.network, source)


def train_candidate(
    candidate: Candidate, data: Source | Rows, validation: Source, *, updates: int, batch: int, seed: int,
    by_loss: bool = False,
) -> Trial:  # fmt: skip
    """Train a fresh network and score it.

    Args:
        candidate: network and settings.
        data: real data, of which each batch is read as it is needed, or a small set.
        validation: samples that decide; in the model space of ``data``.
        updates: number of updates; the learning rate falls along a cosine to zero.
        batch: samples of an update, at most.
        seed: of the network, and of batches, which are alike for all candidates.
        by_loss: score by minus the loss in place of accuracy.
    """
    make = candidate_factory(candidate, validation)
    network = make(derive_seed(seed, "network")).train()
    task = get_task(validation)
    size = min(batch, len(data.x) if isinstance(data, Rows) else len(data))
    rng = generator(seed, "batches")
    augment = named_augmentation(candidate.augment, validation)
    steps = torch.optim.AdamW(
        network.parameters(), lr=candidate.lr, weight_decay=candidate.weight_decay,
        fused=validation.device.type in ("cpu", "cuda"),
    )  # fmt: skip
    started = time.perf_counter()
    for done, at in enumerate(_batches(len(data.x) if isinstance(data, Rows) else len(data), size, updates, rng)):
        for group in steps.param_groups:
            group["lr"] = candidate.lr * 0.5 * (1 + math.cos(math.pi * done / updates))
        x, y = _fetch(data, at)
        x = augment.apply(x, augment.draw(len(x), tuple(x.shape[1:]), rng))
        loss = task.loss(network(x), y)
        steps.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        steps.step()
    if validation.device.type == "cuda":
        torch.cuda.synchronize(validation.device)
    seconds = time.perf_counter() - started
    operations = BACKWARD * count_operations(make, validation.input) * size * updates
    score = _minus_loss(network, validation) if by_loss else _accuracy(network, validation)
    return Trial(accuracy=score, operations=operations, seconds=seconds)


def gradient_norm(candidate: Candidate, data: Source, *, batch: int, seed: int) -> Trial:
    """Return the norm of the loss gradient of a fresh network on one batch, a score without training.

    As in "Zero-Cost Proxies for Lightweight NAS" (ICLR 2021, arXiv:2101.08134), its ``grad_norm``.
    """
    make = candidate_factory(candidate, data)
    started = time.perf_counter()
    network = make(derive_seed(seed, "network")).train()
    size = min(batch, len(data))
    x, y = _fetch(data, torch.randperm(len(data), generator=generator(seed, "batches"))[:size])
    loss = get_task(data).loss(network(x), y)
    gradients = torch.autograd.grad(loss, [p for p in network.parameters() if p.requires_grad])
    norm = float(torch.stack([g.square().sum() for g in gradients]).sum().sqrt())
    operations = BACKWARD * count_operations(make, data.input) * size
    return Trial(accuracy=norm if math.isfinite(norm) else -1.0, operations=operations,
                 seconds=time.perf_counter() - started)  # fmt: skip


def _batches(n: int, size: int, updates: int, rng: torch.Generator) -> Iterator[Int[Tensor, " m"]]:
    """Yield positions of each update: random orders one after another, without the rest of each."""
    done = 0
    while done < updates:
        order = torch.randperm(n, generator=rng)
        for at in torch.split(order[: n - n % size], size):
            if done == updates:
                return
            yield at
            done += 1


def _fetch(data: Source | Rows, at: Int[Tensor, " m"]) -> tuple[Float[Tensor, "m ..."], Tensor]:
    if isinstance(data, Rows):
        at = at.to(data.x.device)
        return data.x[at], data.y[at]
    found = data.fetch(at)
    assert found.y is not None
    x = single_tensor(found.x, "a candidate of a search")
    return x, found.y.to(x.device)


def _accuracy(network: Network, validation: Source) -> float:
    task = get_task(validation)
    if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
        return task.chance_score(validation.labels)
    return task.score(predict(network, validation), validation.labels)


def _minus_loss(network: Network, validation: Source) -> float:
    """Return minus the mean loss of all samples in one pass; far below any other where it is not finite."""
    network.eval()
    x, y = _fetch(validation, torch.arange(len(validation)))
    with torch.no_grad():
        loss = float(get_task(validation).loss(network(x), y))
    return -loss if math.isfinite(loss) else WORST
