r"""DSDM: Diversified Semantic Distribution Matching (Li et al., ACM MM 2024): means, covariances and a moving average.

.. math::
    L = \sum_c \lVert \mu^T_c - \mu^S_c \rVert^2 + \frac{\lambda}{d} \lVert C^T_c - C^S_c \rVert_F^2
        + \frac{\gamma}{d} \lVert \mu^S_c - h_c \rVert^2, \qquad h_c \leftarrow (1-\beta)\, \mu^S_c + \beta\, h_c

μ and C are mean and unbiased covariance of the embeddings of class c in one of several trained networks, h the moving
average of the synthetic means over the steps, which joins the loss late. As published, h mixes features of different
networks. The covariances are compared through Gram matrices (`potstill.functional.distribution.covariance_gap`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import MethodInfo, NonNegativeInt, Presets, Problem, UnitFloat
from potstill.functional.distribution import (
    CovarianceFactors,
    covariance_factors,
    covariance_gap,
    mean_gap,
)
from potstill.functional.param_groups import ParamGroup
from potstill.methods.distribution._statistics import DistributionObjective, Memory, Statistics, Views, pad_parts
from potstill.methods.distribution._values import FeatureMatchingFields, match_in_trained_networks
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState, idc_learning_rate

__all__ = ["DSDM"]


@dataclass(frozen=True, kw_only=True)
class DSDM(FeatureMatchingFields, EngineMethod[MatchingState]):
    """Match mean and covariance in trained networks, and hold to the set's own history."""

    info: ClassVar[MethodInfo] = MethodInfo(
        draws_by_class=True,
        title="Diversified Semantic Distribution Matching for Dataset Distillation",
        paper="doi:10.1145/3664647.3680900", year=2024, family="distribution", kinds=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1500},
        class_independence="deletion",
        use_when="Take it for ten items a class and more with networks trained beforehand: it was level with the "
        "best of the family here.",
        avoid_when="Avoid it at one item a class, which has no covariance to match, and where training networks "
        "first costs too much.",
        related=("ncfm", "m3d", "dm"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 250, "steps_per_network": 8, "pretrained_networks": 2, "pretrain_epochs": 5},
        "good": {"iterations": 3_000, "steps_per_network": 8, "pretrained_networks": 5, "pretrain_epochs": 15},
    }

    iterations: int = 10_000
    """Steps (argument.py, --niter)."""
    lr: float = 0.1
    """Learning rate in data units, at ten stored items per class and pictures of ``lr_side``² (reproduce.py); it grows
    with the items and with the area (argument.py, tune_lr_img)."""
    lr_side: int = 32
    """Side of pictures, in pixels, that ``lr`` is meant for (tune_lr_img: 32, also for Fashion-MNIST; 28 for MNIST)."""
    momentum: UnitFloat = 0.5
    """Momentum (argument.py, --mom_img)."""
    covariance: float = 50.0
    """λ (argument.py, --cov_weight)."""
    history: float = 0.2
    """γ (argument.py, --h_p_weight)."""
    history_from: NonNegativeInt = 2000
    """Steps before the history joins (argument.py, --smooth_iter); 0: as soon as there is one."""
    smoothing: UnitFloat = 0.99
    """β (argument.py, --smooth_factor)."""
    batch_real: int = 256
    """Real samples per class and step (argument.py, --batch_real)."""
    pretrained_networks: int = 10
    """Pretrained networks (argument.py, --pretrained_model_number)."""
    pretrain_epochs: NonNegativeInt = 20
    """Training epochs of each (argument.py, --pretrained_epochs); 0 leaves them untrained."""
    pretrain_batch: int = 256
    """Batch size of that training (pre_train_model.py: that of the real samples, argument.py, --batch_real)."""
    pretrain_schedule: Literal["steps", "cosine", "constant"] = "constant"
    """Its rate stays (pre_train_model.py has no schedule)."""
    pretrain_augment: str = "idc"
    """Per-sample augmentation of that training."""
    embedders: Literal["fresh", "trained", "between"] = "trained"
    """Match at the end of training."""
    calibration: float = 0.0
    """No calibration step."""
    updates: Literal["all", "class"] = "all"
    """One step for all classes, or one per class, as published; the same with SGD."""
    augment: str = "idc"
    """Siamese augmentation: color, crop and cutout."""
    parametrization: str = "tiles"
    """Stored and optimised representation (--factor 2)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        payload = ParamGroup(lr=idc_learning_rate(problem, self.lr, self.lr_side), momentum=self.momentum)
        measure = DistributionObjective(statistics=self.statistics, gap=self.gap, update_memory=self.update_memory)
        return match_in_trained_networks(
            self, problem, measure, payload=payload, calibration=self.calibration, updates=self.updates
        )

    def statistics(self, real: Views, memory: Memory, rng: Generator) -> Statistics:
        spreads = [covariance_factors(real.features[w > 0], w[w > 0]) for w in real.weights]
        centred, _ = pad_parts([s.centred for s in spreads])
        weights, _ = pad_parts([s.weights for s in spreads])
        return {"mu": real.means(real.features, "mu"), "centred": centred, "weights": weights}

    def gap(self, real: Statistics, syn: Views, memory: Memory) -> Tensor:
        d = syn.features.shape[1]
        mu_S = syn.means(syn.features)
        loss = mean_gap(real["mu"], mu_S)
        for c, w in enumerate(syn.weights):
            C_S = covariance_factors(syn.features[w > 0], w[w > 0])
            C_T = CovarianceFactors(real["centred"][c], real["weights"][c])
            loss = loss + self.covariance / d * covariance_gap(C_T, C_S)
        if "h" in memory and int(memory["step"]) > self.history_from:
            loss = loss + self.history / d * mean_gap(memory["h"][list(syn.classes)], mu_S)
        return loss

    def update_memory(self, state: MatchingState, real: Statistics, views: Callable[[], Views]) -> Memory:
        syn = views()
        mu_S = syn.means(syn.features)
        h, beta = state.memory.get("h", mu_S), self.smoothing
        return {"h": (1 - beta) * mu_S + beta * h, "step": torch.tensor(state.iteration + 1)}
