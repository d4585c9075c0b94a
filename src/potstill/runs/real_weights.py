"""Weights of the real samples that a method draws: ``uniform``, ``attribute``, ``density:bandwidth=0.5,steps=100``."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from potstill.core import Method, NetworkFactory, Problem
from potstill.data.attributes import get_attribute
from potstill.data.iterate import map_samples
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError, unknown_name
from potstill.functional.class_weights import density_weights, group_weights
from potstill.functional.features import embed_real
from potstill.labels.teacher import SGD, train_teacher
from potstill.rng import derive_seed, generator

__all__ = ["RealWeights", "parse_real_weights", "weigh_real_samples"]

_NAMES = ("uniform", "attribute", "density")
_CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class RealWeights:
    """Rule by which real samples of a class are drawn.

    Attributes:
        name: ``uniform``; ``attribute``: every value of the data's attribute equally often in each class; ``density``:
            the more often, the fewer samples of the class are near.
        bandwidth: for ``density``: width of the kernel over the median distance of a class.
        steps: for ``density``: updates of the network whose features are used; 0: an untrained one.
    """

    name: str = "uniform"
    bandwidth: float = 0.5
    steps: int = 100

    def __str__(self) -> str:
        return f"density:bandwidth={self.bandwidth:g},steps={self.steps}" if self.name == "density" else self.name


def parse_real_weights(spelled: str | None) -> RealWeights:
    """Return the rule that ``spelled`` names; ``None``: uniform.

    Raises:
        PotstillError: there is no such rule or setting, or a number is out of its range.
    """
    name, _, settings = ("uniform" if spelled is None else spelled).partition(":")
    if name not in _NAMES:
        raise unknown_name("real_weights", name, _NAMES)
    rule = RealWeights(name=name)
    kinds: dict[str, type] = {"bandwidth": float, "steps": int} if name == "density" else {}
    for setting in settings.split(",") if settings else ():
        key, _, text = setting.partition("=")
        if key not in kinds:
            has = ", ".join(kinds) or "none"
            raise PotstillError(f"real_weights {name} has no setting {key!r}; it has {has}")
        try:
            rule = dataclasses.replace(rule, **{key: kinds[key](text)})
        except ValueError:
            raise PotstillError(
                f"real_weights {name}: {key} must be a number, not {text!r}; write {key}=NUMBER"
            ) from None
    if not 0 < rule.bandwidth < float("inf") or rule.steps < 0:
        raise PotstillError(f"real_weights {rule}: the bandwidth must be above 0 and the steps at least 0; change them")
    return rule


def weigh_real_samples(
    rule: RealWeights, name: str, method: Method[Any], problem: Problem, seed: int
) -> tuple[Problem, dict[str, Any] | None]:
    """Return the problem with weights of its real samples, and the metadata on them; unchanged if uniform.

    Raises:
        PotstillError: the method does not draw real samples by class, or the data have no attribute.
    """
    if rule.name == "uniform":
        return problem, None
    if not method.info.draws_by_class:
        raise PotstillError(
            f"method {name} draws no random real samples of each class that weights could change, but real_weights "
            f"{rule.name} was requested; take one that does, such as dm, dsa or random, or leave it out"
        )
    described: dict[str, Any] = {"rule": str(rule)}
    if rule.name == "attribute":
        attribute = get_attribute(problem.train)
        if attribute is None:
            raise PotstillError(
                f"real_weights attribute needs an attribute of each sample, but {problem.train.name} was read without "
                "one; read it with `attribute=`"
            )
        weights = group_weights(problem.class_indices, attribute.codes)
        described["values"] = [attribute.values[v] for v in torch.unique(attribute.codes).tolist()]
    else:
        weights = density_weights(
            _features(problem, problem.network, rule.steps, seed), problem.class_indices, rule.bandwidth,
            generator(seed, "real weights"),
        )  # fmt: skip
        described["network"] = problem.network.name
    # samples that would give as precise a mean of a class as its weighted ones
    effective = [float(1 / weights[at].square().sum()) for at in problem.class_indices]
    described |= {"effective_samples": [round(n, 1) for n in effective], "hash": hash_tensors({"weights": weights})}
    return dataclasses.replace(problem, real_weights=weights), described


def _features(problem: Problem, make: NetworkFactory, steps: int, seed: int) -> Float[Tensor, "n d"]:
    """Return embeddings of every real sample by a network that is trained for a few steps on them."""
    network, train = make(derive_seed(seed, "real weights") % 2**31).train(), problem.train
    if steps:
        batch = min(128, len(train))
        trained = train_teacher(network, train, generator(seed, "real weights", "teacher"), steps, SGD(batch=batch))
        network.load_state_dict({**trained.params, **trained.buffers})
    network.eval().requires_grad_(False)
    return map_samples(train, torch.arange(len(train)), _CHUNK, lambda batch: embed_real(network, batch.x).cpu())
