"""What selection methods measure distances in, read class by class in passes of bounded memory."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor

from potstill.core import Asset, Inputs, Network, Problem
from potstill.data.iterate import iterate_samples
from potstill.functional.duplicates import Digests
from potstill.functional.features import input_rows
from potstill.methods.engine import get_trained_networks, load_network
from potstill.pretraining import TrainedNetworks
from potstill.rng import draw_seed

__all__ = ["ClassSamples", "FeatureName", "Space", "class_features", "network_seed", "read_class", "trained"]

FeatureName = Literal["input", "untrained", "trained"]
"""``input``: the normalised input, flattened. ``untrained``: the embedding of one freshly initialised network.
``trained``: that of one network trained on the data."""

Space: TypeAlias = Literal["features", "log-probabilities"]
"""``log-probabilities``: the logarithms of what the network gives each class."""

CHUNK = 1024
IN_MEMORY = 2**32
"""Bytes of one class's features from which they lie in a temporary file that is mapped, and not in memory."""


@dataclass(frozen=True, kw_only=True)
class ClassSamples:
    """One class as a method sees it."""

    rows: Tensor
    """Features (n, d), on the source's device."""
    first: Tensor
    """The position (n,) of the first sample that equals each, bit by bit; its own where there is none before it."""

    @property
    def repeats(self) -> int:
        """Samples that equal an earlier one."""
        return int((self.first != torch.arange(len(self.first))).sum())


def network_seed(rng: Generator) -> int:
    """The seed of the network that embeds, drawn even if it is not used, so that draws do not depend on the choice."""
    return draw_seed(rng)


def trained(features: FeatureName, epochs: int) -> tuple[Asset, ...]:
    """The network that must be trained first, where the features are such; the recipe is that of matching methods."""
    if features != "trained":
        return ()
    recipe: dict[str, float | int | str] = {
        "epochs": epochs, "batch": 64, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "augment": "idc",
        "cutmix": 0.5,
    }  # fmt: skip
    return (TrainedNetworks(name="networks", count=1, recipe=recipe),)


def class_features(problem: Problem, index: Tensor, features: FeatureName, seed: int) -> Tensor:
    """Features (m, d) of the real samples at ``index``, on the source's device."""
    return _passed(problem, index, features, seed, "features", lambda positions, x: None)


def read_class(
    problem: Problem, index: Tensor, features: FeatureName, seed: int, space: Space = "features"
) -> ClassSamples:
    """Features of the real samples at ``index``, and which of them are equal inputs, in one pass over the data."""
    found = Digests(len(index))
    rows = _passed(problem, index, features, seed, space, found.add)
    return ClassSamples(rows=rows, first=found.first_positions())


def _passed(
    problem: Problem,
    index: Tensor,
    features: FeatureName,
    seed: int,
    space: Space,
    see: Callable[[Tensor, Inputs], None],
) -> Tensor:
    net = _network(problem, features, seed)
    rows: Tensor | None = None
    with torch.no_grad():
        for positions, batch in iterate_samples(problem.train, index, CHUNK):
            see(positions, batch.x)
            made = input_rows(batch.x, problem.train.input) if net is None else _seen_by(net, batch.x, space)
            if rows is None:
                rows = _room((len(index), made.shape[1]), made)
            rows[positions.to(rows.device)] = made
    assert rows is not None
    return rows


def _seen_by(net: Network, x: Inputs, space: Space) -> Tensor:
    return net.embed(x) if space == "features" else torch.log_softmax(net(x), 1)


def _network(problem: Problem, features: FeatureName, seed: int) -> Network | None:
    if features == "input":
        return None
    if features == "untrained":
        return problem.network(seed).eval()
    made = get_trained_networks(problem)[0]
    return load_network(problem, made.seed, made.parameters, made.buffers).eval()


def _room(shape: tuple[int, int], like: Tensor) -> Tensor:
    """Room for features: in memory, or on the CPU in a mapped temporary file where they are many."""
    size = math.prod(shape)
    if like.device.type != "cpu" or size * like.element_size() <= IN_MEMORY:
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    with tempfile.TemporaryDirectory() as folder:  # on Linux the mapping lives on when its name is gone
        return torch.from_file(str(Path(folder) / "features"), shared=True, size=size, dtype=like.dtype).view(shape)
