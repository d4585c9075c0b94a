r"""ZCore: zero-shot scores of a sample's coverage of the feature space, less its redundancy.

Griffin, Marks and Corso, "Zero-Shot Coreset Selection: Efficient Pruning for Unlabeled Data", arXiv:2411.15349,
section 3.

.. math::
    s_i = \sum_t \Big( [\, i = i_t \,] - \frac{\lVert z_{i_t} - z_i \rVert_1^{-\beta}}
      {\sum_{j \in N(i_t)} \lVert z_{i_t} - z_j \rVert_1^{-\beta}} \, [\, i \in N(i_t) \,] \Big)

Draw t picks two dimensions and a point in them; i_t is the sample nearest to it, N its nearest neighbours, z the
features in these dimensions. The paper takes embeddings of foundation models and scores all data together; here classes
are scored one by one, and consecutive draws may share their dimensions.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import MethodInfo
from potstill.functional.geometry import zcore_scores
from potstill.methods.selection._by_class import FeatureSelection, selection_info

__all__ = ["ZCore"]


@dataclass(frozen=True, kw_only=True)
class ZCore(FeatureSelection):
    """Samples that cover what random points of the feature space are nearest to, without repetition."""

    info: ClassVar[MethodInfo] = selection_info(
        "Zero-Shot Coreset Selection",
        "arXiv:2411.15349",
        2024,
        class_independence="separate",
        use_when="Take it for unlabeled data, or for features of a foundation model that are too many to train on: "
        "it trains nothing and repeats nothing.",
        avoid_when="Avoid it for small sets and noisy labels: of pictures it was below random samples at a tenth kept.",
        related=("k-center", "facility-location", "random"),
    )

    samples: int = 100_000
    """Draws per class; the paper makes 10⁶ for all classes together."""
    dimensions: int = 2
    """Dimensions of a draw (section 3)."""
    neighbours: int = 1000
    """Neighbours whose score a draw lowers (section 3)."""
    exponent: float = 4.0
    """β: how much more the nearest neighbours lose."""
    draws_per_tree: int = 100
    """Consecutive draws that share their dimensions and so one search tree. Ours; 1 as published."""

    def choose(self, features: Tensor, mean: Tensor, m: int, rng: Generator) -> Tensor:
        if len(features) == 1:
            return features.new_zeros(1).long()
        scores = zcore_scores(
            features, rng, samples=self.samples, dimensions=self.dimensions, neighbours=self.neighbours,
            exponent=self.exponent, draws_per_tree=self.draws_per_tree,
        )  # fmt: skip
        return scores.argsort(descending=True, stable=True)[:m]
