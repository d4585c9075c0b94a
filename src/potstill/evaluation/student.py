"""The student trainer: one network, one set, one recipe, in plain sight. Students are independent jobs.

Students are not stacked into one vectorised network: see ``benchmarks/students.py`` for what that would gain.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from potstill.core import Augmentation, Network, NetworkFactory, Source
from potstill.evaluation.protocol import Protocol
from potstill.rng import derive, generator

__all__ = ["Job", "fit", "lengths", "predict", "train", "train_and_predict"]

TEST_CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that one student needs to be trained; a value that another process can be given."""

    make: NetworkFactory
    x: Tensor
    """Inputs in model space (n, …)."""
    y: Tensor
    """int64 classes (n,) or float rows (n, k)."""
    protocol: Protocol
    lr: float
    steps: int | None
    """Updates, for protocols that count them; ``None``: the protocol's epochs."""
    augment: Augmentation
    seed: int


def lengths(protocol: Protocol, n: int, steps: int | None) -> tuple[int, int, int | None]:
    """Epochs, batches per epoch, and the epoch after which the rate drops, for a set of ``n``.

    With ``steps``, epochs are as many as hold them and the last is cut short.
    """
    per_epoch = math.ceil(n / protocol.batch)
    if steps is not None:
        epochs = math.ceil(steps / per_epoch)
    else:
        epochs = (protocol.epochs or 0) + (1 if protocol.extra_epoch else 0)
    drop = (protocol.epochs or epochs) // 2 + 1 if protocol.schedule == "drop" else None
    return epochs, per_epoch, drop


def train(job: Job) -> Network:
    """A fresh network, trained. Every draw comes from ``job.seed``; network and samples have a stream of their own."""
    network = job.make(derive(job.seed, "network"))
    fit(network, job)
    return network


def fit(network: Network, job: Job) -> None:
    """Train ``network`` in place.

    As published: batches in a new random order each epoch (the last may be smaller), one augmentation parameter per
    sample, cross-entropy (with rows: soft), SGD.
    """
    p = job.protocol
    network.train()
    rng = generator(job.seed, "samples")
    n, shape = len(job.x), tuple(job.x.shape[1:])
    epochs, per_epoch, drop = lengths(p, n, job.steps)
    total = epochs * per_epoch if job.steps is None else job.steps
    parameters = list(network.parameters())
    lr, done = job.lr, 0

    def optimiser(rate: float) -> torch.optim.SGD:
        return torch.optim.SGD(parameters, lr=rate, momentum=p.momentum, weight_decay=p.weight_decay, fused=True)

    sgd = optimiser(lr)
    for epoch in range(epochs):
        for batch in torch.split(torch.randperm(n, generator=rng), p.batch):
            if done == total:
                break
            x = job.augment.apply(job.x[batch], job.augment.draw(len(batch), shape, rng))
            if p.schedule == "cosine":
                sgd.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * done / total))
            loss = F.cross_entropy(network(x), job.y[batch])
            gradients = torch.autograd.grad(loss, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            sgd.step()
            done += 1
        if epoch == drop:
            lr *= p.drop_factor
            if p.reset_momentum:
                sgd = optimiser(lr)
            else:
                sgd.param_groups[0]["lr"] = lr


def predict(network: torch.nn.Module, source: Source) -> Int[Tensor, " n"]:
    """The likeliest class of every sample, in evaluation mode, on the CPU."""
    network.eval()
    parts = []
    with torch.no_grad():
        for index in torch.split(torch.arange(len(source)), TEST_CHUNK):
            x = source.fetch(index).x
            assert isinstance(x, Tensor)
            parts.append(network(x).argmax(1).cpu())
    return torch.cat(parts)


def train_and_predict(source: Source, job: Job) -> Tensor | None:
    """Predictions of one trained student for ``source``; ``None`` if its weights are no longer finite."""
    network = train(job)
    if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
        return None
    return predict(network, source)
