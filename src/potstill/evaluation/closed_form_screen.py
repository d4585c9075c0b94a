"""Accuracy of a training set in closed form: ridge regression on features of untrained networks, in a second or so.

A student in few updates says little of a large set: it has not learned it yet. Ridge regression has no updates; on the
features of random networks it ranks sets of few and of many samples nearly as long training does
(``benchmarks/trial_length.py``), so that students are left to those ways that may win.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.core import InputSpec, NetworkFactory, Source
from potstill.core.nested import iter_batches, single_tensor
from potstill.evaluation.candidate_trials import Pair, count_operations
from potstill.evaluation.learners import Ridge
from potstill.functional.kernels import concat_embeddings
from potstill.nn.pretrained import is_backbone
from potstill.rng import derive_seed
from potstill.tasks import get_task

__all__ = ["ClosedFormScreen", "screen_operations"]

COUNT, FEATURES = 4, 2048
"""Untrained networks side by side, at most, and about how many features they have in all."""
PENALTY = 0.3
"""Penalty of the squared weights, as a part of the sum of the features' variances. Ours: the middle of 0.03 to 3."""
_CHUNK = 500
"""Samples per pass through the networks."""


def screen_operations(make: NetworkFactory, spec: InputSpec, samples: int) -> float:
    """Return about the operations to score a set of so many samples."""
    small = min(samples, FEATURES)
    return COUNT * count_operations(make, spec) * samples + 2.0 * samples * FEATURES * small + small**3 / 3


@dataclass(kw_only=True)
class ClosedFormScreen:
    """Untrained networks, and the held-out samples that sets are scored on.

    Args:
        make: the students' network.
        held_out: real samples with classes that are in no set.
        seed: of the networks' parameters.
    """

    make: NetworkFactory
    held_out: Source
    seed: int

    def score(self, pair: Pair) -> float:
        """Return the accuracy on the held-out samples of ridge regression on one set, as a fraction."""
        x, y = pair
        rows = self._features(single_tensor(x, "a screened set"))
        ridge = Ridge(penalty=PENALTY * rows.shape[1] / len(rows))
        predict = ridge.fit(rows, y.to(rows.device), None, get_task(self.held_out), self.seed)
        return float((predict(self._held_features).cpu() == self.held_out.labels).double().mean())

    @cached_property
    def _networks(self) -> Sequence[nn.Module]:
        first = self._network(0)
        with torch.no_grad():
            size = first.embed(self._inputs(torch.arange(1))).shape[1]  # type: ignore[operator]
        count = 1 if is_backbone(self.make.name) else max(1, min(COUNT, FEATURES // size))
        return [first, *(self._network(n) for n in range(1, count))]

    def _network(self, number: int) -> nn.Module:
        network: nn.Module = self.make(derive_seed(self.seed, "screen", number)).eval()
        return network

    def _inputs(self, index: Tensor) -> Tensor:
        return single_tensor(self.held_out.fetch(index).x, "a screened set")

    @cached_property
    def _held_features(self) -> Float[Tensor, "h d"]:
        return self._features(self._inputs(torch.arange(len(self.held_out))))

    def _features(self, x: Tensor) -> Float[Tensor, "n d"]:
        with torch.no_grad():
            features: Tensor = torch.cat([concat_embeddings(self._networks, some) for some in iter_batches(x, _CHUNK)])  # type: ignore[arg-type]
        return features
