"""A number for each node of a graph: targets whose number differs by sample."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from potstill.data import TensorSource
from potstill.tasks import Metric, pad_targets, target_mask


@dataclass(frozen=True, kw_only=True)
class NodeValues:
    """Targets are float32 (n, most), a value for each node, padded; a network says one value for a whole graph."""

    @property
    def name(self) -> str:
        return "node-values"

    @property
    def ragged(self) -> bool:
        return True

    @property
    def metric(self) -> Metric:
        return Metric(name="rmse", direction="lower", unit="edges")

    @property
    def unit(self) -> str:
        return "item"

    @property
    def outputs(self) -> int:
        return 1

    def loss(self, output: Tensor, y: Tensor, /) -> Tensor:
        """Mean squared error over all nodes."""
        present = target_mask(y)
        return (output.expand(y.shape)[present] - y[present].to(output)).square().mean()

    def predict(self, output: Tensor, /) -> Tensor:
        """The value (n, 1)."""
        return output

    def score(self, answers: Tensor, y: Tensor, groups: Tensor | None = None, /) -> float:
        """Root of the mean squared error over all nodes."""
        return float(self.loss(answers.double(), y).sqrt())

    def chance_score(self, y: Tensor, /) -> float:
        """Of who says 0."""
        return self.score(torch.zeros(len(y), 1), y)


def with_node_values(source: TensorSource, values: Sequence[Tensor]) -> TensorSource:
    """The same graphs with a value (m,) for each of their nodes, in place of classes."""
    labels = torch.zeros(len(source), dtype=torch.int64)
    return replace(source, classes=(), labels=labels, task=NodeValues(), targets=pad_targets(list(values)))
