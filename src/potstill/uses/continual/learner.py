"""The learner: trained from scratch on the memory alone after each step, and scored on all test samples so far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.core import NetworkFactory, registry
from potstill.data import TensorSource
from potstill.evaluation import Protocol
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.student import TEST_CHUNK, StudentJob, train
from potstill.nn import CustomNetwork, default_network_name, factory, parse_network
from potstill.uses.continual.stream import Step, step_source

__all__ = ["Learner", "StepScore", "score_step"]


@dataclass(frozen=True, kw_only=True)
class Learner:
    """Training settings of a learner: SGD with momentum and the augmentation of the protocol ``potstill``."""

    network: str | CustomNetwork | Callable[..., Any] | None = None
    """``None``: the usual one for the data."""
    steps: int = 300
    """Updates."""
    batch: int = 64
    """Samples of an update, at most."""
    lr: float = 0.03
    """Learning rate of the first update; it falls along a cosine to zero."""

    def factory(self, source: TensorSource, classes: int) -> NetworkFactory:
        """Return the maker of fresh networks for so many classes."""
        name = parse_network(self.network) or default_network_name(source.input)
        return factory(name, source.input, classes, source.device, normalization=source.normalization)

    def protocol(self, source: TensorSource, network: str) -> Protocol:
        """Return the protocol as it applies to ``source``."""
        base: Protocol = registry.resolve("protocols", "potstill")
        made = base.override(steps=self.steps, batch=self.batch, lr=self.lr, least_epochs=0)
        return made.resolve(source.name, network, source.input)


@dataclass(frozen=True, kw_only=True)
class StepScore:
    """Accuracy of one learner after one step."""

    accuracy: float
    """On the test samples of all steps so far."""
    tested: int
    """Number of those samples."""
    by_step: tuple[float, ...]
    """On the test samples of each step so far, among all classes so far."""
    by_step_known: tuple[float, ...]
    """The same among the classes of that step alone: the step is known (task-incremental)."""


def score_step(
    learner: Learner, x: Float[Tensor, "n ..."], y: Tensor, train_source: TensorSource, test: TensorSource,
    steps: Sequence[Step], seed: int,
) -> StepScore:  # fmt: skip
    """Train a learner on a memory and measure it.

    Args:
        learner: settings.
        x: memory in model space.
        y: classes as numbers of the whole data (n,), or rows over them (n, k).
        train_source: source whose normalization and input the learner has.
        test: all test samples.
        steps: steps so far.
        seed: of network and batches.
    """
    classes = list(dict.fromkeys(c for step in steps for c in step.classes))
    make = learner.factory(train_source, len(classes))
    protocol = learner.protocol(train_source, make.name)
    number = torch.full((len(test.classes),), -1, dtype=torch.int64)
    number[torch.tensor(classes)] = torch.arange(len(classes))
    targets = number[y.cpu()] if y.ndim == 1 else y[:, classes]
    job = StudentJob(
        make=make, x=x, y=targets.to(x.device), protocol=protocol, lr=learner.lr, steps=learner.steps,
        augment=student_augmentation(protocol.recipe.augment, train_source), seed=seed,
    )  # fmt: skip
    network = train(job).eval()
    right, known, count = list[float](), list[float](), list[int]()
    finite = all(bool(torch.isfinite(p).all()) for p in network.parameters())
    for step in steps:
        part = step_source(test, step.test, classes)
        own = number[list(step.classes)]
        outputs = _outputs(network, part)
        labels = part.labels
        among = own[outputs[:, own].argmax(1)]
        count.append(len(part))
        right.append(float((outputs.argmax(1) == labels).double().mean()) if finite else 1 / len(classes))
        known.append(float((among == labels).double().mean()) if finite else 1 / len(own))
    total = sum(r * n for r, n in zip(right, count, strict=True)) / sum(count)
    return StepScore(accuracy=total, tested=sum(count), by_step=tuple(right), by_step_known=tuple(known))


def _outputs(network: torch.nn.Module, source: TensorSource) -> Float[Tensor, "n k"]:
    with torch.no_grad():
        parts = torch.split(torch.arange(len(source)), TEST_CHUNK)
        return torch.cat([network(source.fetch(part).x).cpu() for part in parts])
