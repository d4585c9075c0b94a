"""Everything that a private run ever sees of the real data: noisy sums, drawn once, and what they cost."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from potstill.dataset_file import read_tensors, write_tensors
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.private.accounting import NEIGHBOURS, Query, accountant_name, calibrate, composed_epsilon
from potstill.private.cells import COUNT, find_cells, noisy_means, unit_rows
from potstill.private.door import PrivateDoor
from potstill.private.features import label_features, moment_features
from potstill.private.labeller import Centred, Labeller, learning_rate, train_labeller
from potstill.private.noise import NOISE
from potstill.private.options import PrivateOptions
from potstill.private.public import PublicFacts, PublicRecords

__all__ = ["PrivateRelease", "draw_labeller", "draw_release", "read_release", "write_release"]

ROUNDS = 4
"""Releases by which cells are found."""
SPLIT = {"cells": 0.25, "pictures": 0.5, "features": 0.25}
"""Split of what the labeller leaves of the budget; fixed, and never tuned on the data of a run."""
LABELLER_SPLIT = 0.05
"""Part of the labeller's share for the mean of its features."""
_KEY = "potstill-release/1"


@dataclass(frozen=True, kw_only=True, eq=False)
class PrivateRelease:
    """Noisy tensors, and the mechanism that made them. Whatever is computed from them costs nothing more."""

    tensors: Mapping[str, Tensor]
    """``cells`` (k, c, d): centres; ``means`` (k · c, …), ``counts`` (k · c,): of cells; ``features`` (k, d): means of
    features by class, ``sizes`` (k,); with a labeller ``weight``, ``mean`` (d,) and ``radius`` (1,), ``noise`` (1,)."""
    queries: tuple[Query, ...]
    epsilon: float
    """ε of everything together, by the accountant; at most that of the options."""
    delta: float
    request: str
    """Hash of the choices that it was drawn for; of no data."""

    @property
    def records(self) -> int:
        """Noisy number of records."""
        return max(1, round(float(self.tensors["sizes"].sum())))

    def noise_of(self, query: str) -> float:
        """Return the standard deviation of a query's noise."""
        return next(q.noise * q.sensitivity for q in self.queries if q.name == query)

    @property
    def digest(self) -> str:
        """Hash of the noisy tensors."""
        return hash_tensors(self.tensors)

    def to_json(self) -> dict[str, Any]:
        """Return the mechanism as JSON values, without the tensors and without any seed of the noise."""
        return {
            "mechanism": NOISE, "neighbours": NEIGHBOURS, "accountant": accountant_name(),
            "epsilon": self.epsilon, "delta": self.delta, "queries": [q.to_json() for q in self.queries],
        }  # fmt: skip

    def labeller(self, facts: PublicFacts, seed: int) -> Labeller | None:
        """Return the labeller; ``None``: the budget has no share for one."""
        if "weight" not in self.tensors:
            return None
        features = Centred(
            features=label_features(facts.input, seed), mean=self.tensors["mean"], radius=float(self.tensors["radius"])
        )  # fmt: skip
        return Labeller(features=features, weight=self.tensors["weight"], noise=float(self.tensors["noise"]))


def plan_queries(options: PrivateOptions) -> tuple[Query, ...]:
    """Return the queries of a run, calibrated to its ε and δ.

    Raises:
        PotstillError: dp-accounting is not installed.
    """
    rest = 1 - options.labeller
    shares = {
        "cells": (SPLIT["cells"] * rest, ROUNDS), "pictures": (SPLIT["pictures"] * rest, 1),
        "features": (SPLIT["features"] * rest, 1),
    }  # fmt: skip
    if options.labeller:
        shares["labeller mean"] = (LABELLER_SPLIT * options.labeller, 1)
        shares["labeller"] = ((1 - LABELLER_SPLIT) * options.labeller, options.steps)
    return calibrate(shares, options.epsilon, options.delta)


def request_of(options: PrivateOptions, facts: PublicFacts, seed: int, name: str) -> str:
    """Return a hash of everything public that a release depends on."""
    text = json.dumps([options.to_json(), facts.classes, facts.input.shape, seed, name], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def draw_release(
    records: PublicRecords,
    options: PrivateOptions,
    seed: int,
    queries: tuple[Query, ...],
    *,
    generator: Generator | None = None,
) -> PrivateRelease:
    """Return the release of a run: the only function that looks at real data.

    Args:
        records: the real records in public terms.
        options: ε, δ and the split.
        seed: of public draws: random networks, offsets of cells. It is no seed of the noise.
        queries: releases by `plan_queries`.
        generator: of the noise, for tests alone; ``None``: the entropy of the operating system.

    Raises:
        PotstillError: δ is too large for so many records, or dp-accounting is not installed.
    """
    n, facts = len(records.labels), records.facts
    if options.delta >= 1 / n:
        raise PotstillError(
            f"private: delta must be below 1 over the number of records, 1/{n:,} = {1 / n:.3g}, but it is "
            f"{options.delta:g}; take a smaller one"
        )
    noise = {query.name: query.noise for query in queries}
    k = len(facts.classes)
    door = PrivateDoor(records, records.labels, queries, generator)
    cells = find_cells(door, "cells", ROUNDS, k, options.cells, noise["cells"], seed)

    def pictures(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return unit_rows(_signed(x)), cells.assign_inputs(x, y)

    sums = door.noisy_sums("pictures", pictures, k * options.cells)
    means, counts = noisy_means(sums, noise["pictures"])
    features = moment_features(facts.input, seed)

    def moments(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return _with_count(features(x)), y

    found = door.noisy_sums("features", moments, k)
    sizes = (found[:, -1] / COUNT).clamp_min(1.0)
    tensors = {
        "cells": cells.centres, "means": means, "counts": counts, "sizes": sizes,
        "features": found[:, :-1] / _REST / sizes[:, None],
    }  # fmt: skip
    if options.labeller:
        tensors |= draw_labeller(door, facts, seed, float(sizes.sum()), options.steps, noise)
    epsilon = composed_epsilon(queries, options.delta)
    request = request_of(options, facts, seed, records.source.name)
    return PrivateRelease(tensors=tensors, queries=queries, epsilon=epsilon, delta=options.delta, request=request)


_REST = (1 - COUNT**2) ** 0.5
"""Part of the norm of a record's vector that its values have."""


def _with_count(vectors: Tensor) -> Tensor:
    return torch.cat([_REST * vectors, torch.full((len(vectors), 1), COUNT)], 1)


def _signed(x: Tensor) -> Tensor:
    """Return flat inputs between −1 and 1."""
    return x if x.ndim == 2 else x.flatten(1) * 2 - 1


def draw_labeller(
    door: PrivateDoor, facts: PublicFacts, seed: int, records: float, steps: int, noise: Mapping[str, float]
) -> dict[str, Tensor]:
    """Return the labeller's weights, and the mean and radius by which its features are centred.

    Args:
        door: the records, with releases ``labeller mean`` and ``labeller``.
        facts: public facts.
        seed: of the public features.
        records: noisy number of records.
        steps: releases of the gradient.
        noise: of each release by name.
    """
    base = label_features(facts.input, seed)

    def mean_rows(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return base(x), torch.zeros_like(y)

    mean = door.noisy_sums("labeller mean", mean_rows, 1)[0] / records
    # features have norm 1: their mean squared distance from the mean follows from the mean's norm
    length = float(mean.square().sum()) - len(mean) * (noise["labeller mean"] / records) ** 2
    radius = max(1 - length, 0.01) ** 0.5
    features = Centred(features=base, mean=mean, radius=radius)
    rate, logit_noise = learning_rate(steps, noise["labeller"], records)
    weight = train_labeller(
        door, "labeller", steps, features, len(mean) + 1, len(facts.classes), records, rate
    )  # fmt: skip
    return {"weight": weight, "mean": mean, "radius": torch.tensor([radius]), "noise": torch.tensor([logit_noise])}


def write_release(path: Path, release: PrivateRelease) -> None:
    """Write a release atomically, so that a resumed run never draws it again."""
    content = {
        "format": _KEY, "queries": [q.to_json() for q in release.queries], "epsilon": release.epsilon,
        "delta": release.delta, "request": release.request,
    }  # fmt: skip
    write_tensors(path, dict(release.tensors), {"release": json.dumps(content)})


def read_release(path: Path, request: str) -> PrivateRelease:
    """Return a release that was written for the same choices.

    Raises:
        PotstillError: the file is damaged, or was written for other choices.
    """
    tensors, metadata = read_tensors(path, 2**36)
    try:
        content = json.loads(metadata.get("release", ""))
        queries = tuple(Query(**query) for query in content["queries"])
        release = PrivateRelease(
            tensors=tensors, queries=queries, epsilon=float(content["epsilon"]), delta=float(content["delta"]),
            request=str(content["request"]),
        )  # fmt: skip
    except (ValueError, TypeError, KeyError) as error:
        raise PotstillError(f"{path}: no release of a private run; remove it to draw one, which costs ε") from error
    if release.request != request:
        raise PotstillError(
            f"{path}: a release for other choices of `private`, seed or data; repeat its command, or remove it to draw "
            "another, whose ε adds to that of this one"
        )
    return release
