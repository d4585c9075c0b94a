"""Ridge regression on a network's features: random features, or those of a frozen backbone."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from potstill.core import InputSpec, Normalization, Task
from potstill.core.nested import iter_batches
from potstill.errors import PotstillError
from potstill.evaluation.estimators import Predictor
from potstill.evaluation.learners.common import answered, scores_of
from potstill.functional.kernels import concat_embeddings
from potstill.functional.ridge import ridge_weights
from potstill.nn import default_network_name, factory
from potstill.nn.pretrained import is_backbone
from potstill.rng import derive_seed

__all__ = ["RidgeFeatures"]

_CHUNK = 500
"""Samples per pass."""


@dataclass(frozen=True, kw_only=True)
class RidgeFeatures:
    """Ridge regression in closed form, in float64, on the features before a network's classifier: of a pretrained
    backbone, or of untrained networks, whose products are a random-feature kernel (arXiv:2210.12067). Classes are
    fitted as scores, one-hot rows less 1/k. With weights it minimises the weighted squares.

    Raises:
        PotstillError: a setting out of its range.
    """

    real_rows: ClassVar[bool] = True
    network: str = ""
    """Its name; empty: ``convnet-nonorm`` for images, else ``mlp``."""
    count: int = 1
    """Number of untrained networks side by side, each with other parameters."""
    ridge: float = 1e-6
    """λ divided by the mean squared length of the features."""

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("ridge", 0)):
            if not getattr(self, name) >= least:
                raise PotstillError(f"{self.name}: {name} must be at least {least}, not {getattr(self, name)}")

    @property
    def name(self) -> str:
        return "ridge-features"

    @property
    def tasks(self) -> tuple[str, ...]:
        return ("classification", "regression", "forecast")

    @property
    def draws(self) -> bool:
        return not is_backbone(self.network)

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        spec = InputSpec(kind="image" if x.ndim == 4 else "table", shape=tuple(x.shape[1:]))
        return self.fit_with_input(x, y, weights, task, seed, spec, None)

    def fit_with_input(
        self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int, input: InputSpec,
        normalization: Normalization | None,
    ) -> Predictor:  # fmt: skip
        """As ``fit``, for inputs that are known: a backbone sees its inputs without their normalization."""
        name = self.network or ("convnet-nonorm" if input.kind == "image" else default_network_name(input))
        make = factory(name, input, task.outputs, x.device, normalization=normalization)
        alike = 1 if is_backbone(name) else self.count
        nets = [make(derive_seed(seed, "features", n)).eval() for n in range(alike)]

        def features(inputs: Tensor) -> Tensor:
            with torch.no_grad():
                return torch.cat([concat_embeddings(nets, some).double() for some in iter_batches(inputs, _CHUNK)])

        rows, (targets, mean) = features(x.detach()), scores_of(y, weights, task)
        root = torch.ones_like(rows[:, :1]) if weights is None else weights.to(rows).sqrt()[:, None]
        w = ridge_weights(root * rows, root * targets, self.ridge)
        return lambda inputs: answered(features(inputs) @ w + mean, task)
