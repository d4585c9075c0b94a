"""Values of records that are lower, the more a record looks like one that a set was made of.

The distance to the nearest item of the record's class, tracing by the means of values and of features of random
networks, and the loss of students. None of them sees the records that the set was made of; tracing has reference
records of the same kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from potstill.core import Inputs, Network
from potstill.core.nested import single_tensor
from potstill.data import TensorSource
from potstill.dataset_file import Distilled
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.candidate_trials import narrow_network
from potstill.evaluation.student import TEST_CHUNK, StudentJob, train
from potstill.functional.distances import pairwise_squared
from potstill.nn import default_network_name, factory
from potstill.rng import derive_seed
from potstill.uses.continual import Learner

__all__ = ["ATTACKS", "Attacker", "nearest_distances", "student_losses", "tracing_values"]

ATTACKS: Mapping[str, str] = {
    "distance": "distance to the nearest item", "means": "tracing by means of values",
    "features": "tracing by means of features", "loss": "loss of students",
}  # fmt: skip
"""Attacks by name."""
NETWORKS = 4
"""Random networks whose features tracing uses: public ones, made from a seed alone."""
SHRINKAGE = 0.1
"""Part of the mean variance that is added to each in the covariance of features. Ours."""
MOST_FEATURES = 4096
"""Features up to which their covariance is inverted."""
_CHUNK = 1024


@dataclass(frozen=True, kw_only=True)
class Attacker:
    """Settings of the attacks."""

    seed: int = 0
    """Seed of networks and students."""
    students: int = 2
    """Networks whose mean loss is taken."""
    learner: Learner = field(default_factory=Learner)
    """Training of the students."""
    attacks: Sequence[str] = tuple(ATTACKS)
    """Names of the attacks, of `ATTACKS`."""

    def values(
        self,
        distilled: Distilled,
        sources: Sequence[TensorSource],
        reference: TensorSource,
        canaries: TensorSource | None = None,
    ) -> dict[str, list[Float[Tensor, " n"]]]:
        """Return values of each source's records, by attack.

        Args:
            distilled: the set.
            sources: records, with classes as in the set and its normalization.
            reference: other records of the same kind, for tracing.
            canaries: records that may be in the set and differ from the others of their class, for tracing.
        """
        values = {}
        if "distance" in self.attacks:
            values["distance"] = [nearest_distances(distilled, source) for source in sources]
        if "means" in self.attacks:
            values["means"] = tracing_values(distilled, sources, reference, self.seed, canaries=canaries, networks=0)
        if "features" in self.attacks:
            values["features"] = tracing_values(distilled, sources, reference, self.seed, canaries=canaries)
        if "loss" in self.attacks:
            values["loss"] = student_losses(distilled, sources, self.learner, self.students, self.seed)
        return values


def nearest_distances(distilled: Distilled, source: TensorSource) -> Float[Tensor, " n"]:
    """Return the distance of each record to the nearest item of its class, in data units; 0 without such an item."""
    items = single_tensor(distilled.inputs, "a distance").flatten(1).to(source.device)
    nearest = torch.zeros(len(source))
    for c in torch.unique(source.labels).tolist():
        own_items = items[(distilled.hard_labels == c).to(items.device)]
        if len(own_items):
            for at in torch.split((source.labels == c).nonzero().flatten(), _CHUNK):
                rows = single_tensor(source.raw(at), "a distance").flatten(1)
                nearest[at] = pairwise_squared(rows, own_items).amin(1).clamp_min(0).sqrt().cpu()
    return nearest


def tracing_values(
    distilled: Distilled, sources: Sequence[TensorSource], reference: TensorSource, seed: int, *,
    canaries: TensorSource | None = None, networks: int = NETWORKS,
) -> list[Float[Tensor, " n"]]:  # fmt: skip
    """Return minus the score of each record by tracing: feature means of a set lie towards those of its records.

    For a class with reference mean r and item mean z, the score of a record with features φ is (φ − r)ᵀ S⁻¹ (z − r),
    the best linear test of Gaussian means; S is the covariance within classes, shrunk, or its diagonal where features
    are more than `MOST_FEATURES`. The second moment of canaries around r is added to S.

    Args:
        distilled: the set.
        sources: records.
        reference: other records of the same kind, which fit r and S.
        seed: of the random networks.
        canaries: records that may be in the set and differ from the others of their class.
        networks: random networks whose embeddings are the features; 0: the values themselves.
    """
    embed = _random_networks(reference, len(distilled.classes), seed, networks)
    spread = _features(embed, single_tensor(_model_space(reference), "tracing"))
    items = _features(embed, single_tensor(distilled.model_space(), "tracing").to(reference.device))
    means, shifts = {}, {}
    centred = spread.clone()
    for c in torch.unique(reference.labels).tolist():
        of_class = reference.labels == c
        means[c] = spread[of_class].mean(0)
        centred[of_class] -= means[c]
        mine = items[distilled.hard_labels == c]
        shifts[c] = mine.mean(0) - means[c] if len(mine) else torch.zeros_like(means[c])
    order = list(shifts)
    if canaries is not None:
        others = _features(embed, single_tensor(_model_space(canaries), "tracing"))
        others -= torch.stack([means.get(c, others[n]) for n, c in enumerate(canaries.labels.tolist())])
        centred = torch.cat([centred, others * (len(centred) / len(others)) ** 0.5])
    directions = dict(zip(order, _whitened(torch.stack([shifts[c] for c in order]), centred), strict=True))
    values = []
    for source in sources:
        features = _features(embed, single_tensor(_model_space(source), "tracing"))
        of_source = torch.zeros(len(source))
        for c in order:
            at = source.labels == c
            of_source[at] = -((features[at] - means[c]) @ directions[c]).float()
        values.append(of_source)
    return values


def _whitened(rows: Float64[Tensor, "c d"], centred: Float64[Tensor, "n d"]) -> Float64[Tensor, "c d"]:
    """Return rows times the inverse of the shrunk covariance of ``centred``."""
    variance = centred.square().mean(0)
    added = SHRINKAGE * variance.mean() + 1e-12
    if len(variance) > MOST_FEATURES:
        return rows / (variance + added)
    covariance = centred.T @ centred / len(centred)
    covariance.diagonal().add_(added)
    solved: Tensor = torch.linalg.solve(covariance, rows.T).T
    return solved


def _model_space(source: TensorSource) -> Inputs:
    return source.fetch(torch.arange(len(source))).x


def _random_networks(source: TensorSource, classes: int, seed: int, count: int) -> list[Network]:
    """Return untrained networks of the usual kind for the data, which depend on a seed alone."""
    usual = factory(
        default_network_name(source.input), source.input, classes, source.device, normalization=source.normalization
    )
    make = narrow_network(usual, source)
    return [make(derive_seed(seed, "tracing", n)).eval() for n in range(count)]


def _features(networks: Sequence[Network], x: Float[Tensor, "n ..."]) -> Float64[Tensor, "n d"]:
    """Return the embeddings of all networks side by side, or the values without any, float64 on the CPU."""
    if not networks:
        return x.flatten(1).double().cpu()
    parts = []
    with torch.no_grad():
        for network in networks:
            chunks = [network.embed(part).flatten(1).double().cpu() for part in torch.split(x, TEST_CHUNK)]
            parts.append(torch.cat(chunks))
    return torch.cat(parts, 1)


def student_losses(
    distilled: Distilled, sources: Sequence[TensorSource], learner: Learner, students: int, seed: int
) -> list[Float[Tensor, " n"]]:
    """Return the mean loss of each record over students that are trained on the set.

    Args:
        distilled: the set.
        sources: records, at least one source, with classes as in the set and its normalization.
        learner: training; without a network of its own, a narrow one of the usual kind.
        students: number of them.
        seed: of the students.
    """
    first = sources[0]
    make = learner.factory(first, len(distilled.classes))
    make = narrow_network(make, first) if learner.network is None else make
    protocol = learner.protocol(first, make.name)
    totals = [torch.zeros(len(source)) for source in sources]
    for number in range(students):
        job = StudentJob(
            make=make, x=distilled.model_space().to(first.device), y=distilled.labels.to(first.device),
            protocol=protocol, lr=learner.lr, steps=learner.steps,
            augment=student_augmentation(protocol.recipe.augment, first),
            seed=derive_seed(seed, "membership", number),
        )  # fmt: skip
        network = train(job).eval()
        with torch.no_grad():
            for total, source in zip(totals, sources, strict=True):
                for at in torch.split(torch.arange(len(source)), TEST_CHUNK):
                    outputs = network(single_tensor(source.fetch(at).x, "a loss")).cpu()
                    total[at] += torch.nn.functional.cross_entropy(outputs, source.labels[at], reduction="none")
    return [total / students for total in totals]
