"""Features of the samples of one class, computed in passes of bounded memory."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from potstill.core import Asset, Inputs, Network, Problem
from potstill.data.real_data import RealData
from potstill.functional.duplicates import Digests
from potstill.functional.features import input_rows
from potstill.methods.engine import get_trained_networks, load_network
from potstill.pretraining import TrainedNetworks

__all__ = [
    "ClassSamples", "FeatureName", "FeatureSpace", "class_features", "feature_assets", "read_class",
]  # fmt: skip

FeatureName = Literal["input", "untrained", "trained"]
"""``input``: the normalised input, flattened. ``untrained``: the embedding of one freshly initialised network.
``trained``: the embedding of one network trained on the data."""

FeatureSpace: TypeAlias = Literal["features", "log-probabilities"]
"""``log-probabilities``: log-softmax of the network's logits."""

CHUNK = 1024
IN_MEMORY = 2**32
"""Bytes of one class's features above which they are stored in a memory-mapped temporary file."""


@dataclass(frozen=True, kw_only=True)
class ClassSamples:
    """Features of one class."""

    rows: Tensor
    """Features (n, d), on the source's device."""
    first: Tensor
    """Position (n,) of the first sample that equals each one bit by bit."""

    @property
    def repeats(self) -> int:
        """Number of samples that equal an earlier one."""
        return int((self.first != torch.arange(len(self.first))).sum())


def feature_assets(features: FeatureName, epochs: int) -> tuple[Asset, ...]:
    """Return the network to train first if ``features`` is ``trained``, with the recipe of the matching methods."""
    if features != "trained":
        return ()
    recipe: dict[str, float | int | str] = {
        "epochs": epochs, "batch": 64, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "augment": "idc",
        "cutmix": 0.5,
    }  # fmt: skip
    return (TrainedNetworks(name="networks", count=1, recipe=recipe),)


def class_features(problem: Problem, index: Tensor, features: FeatureName, seed: int) -> Tensor:
    """Return features (m, d) of the real samples at ``index``, on the source's device."""
    return _read_rows(problem, index, features, seed, "features", lambda positions, x: None)


def read_class(
    problem: Problem, index: Tensor, features: FeatureName, seed: int, space: FeatureSpace = "features"
) -> ClassSamples:
    """Return features of the real samples at ``index`` and their duplicates, in one pass over the data."""
    digests = Digests(len(index))
    rows = _read_rows(problem, index, features, seed, space, digests.add)
    return ClassSamples(rows=rows, first=digests.first_positions())


def _read_rows(
    problem: Problem, index: Tensor, features: FeatureName, seed: int, space: FeatureSpace,
    on_batch: Callable[[Tensor, Inputs], None],
) -> Tensor:  # fmt: skip
    net = _feature_network(problem, features, seed)
    rows: Tensor | None = None
    with torch.no_grad():
        for positions, batch in RealData.of(problem).iterate(index, CHUNK):
            on_batch(positions, batch.x)
            if net is None:
                part = input_rows(batch.x, problem.train.input)
            else:
                part = net.embed(batch.x) if space == "features" else torch.log_softmax(net(batch.x), 1)
            if rows is None:
                rows = _allocate((len(index), part.shape[1]), part)
            rows[positions.to(rows.device)] = part
    assert rows is not None
    return rows


def _feature_network(problem: Problem, features: FeatureName, seed: int) -> Network | None:
    if features == "input":
        return None
    if features == "untrained":
        return problem.network(seed).eval()
    weights = get_trained_networks(problem)[0]
    return load_network(problem, weights.seed, weights.parameters, weights.buffers).eval()


def _allocate(shape: tuple[int, int], like: Tensor) -> Tensor:
    """Allocate a tensor in memory, or in a memory-mapped temporary file on the CPU if it is large."""
    size = math.prod(shape)
    if like.device.type != "cpu" or size * like.element_size() <= IN_MEMORY:
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    with tempfile.TemporaryDirectory() as folder:  # on Linux the mapping outlives its file name
        return torch.from_file(str(Path(folder) / "features"), shared=True, size=size, dtype=like.dtype).view(shape)
