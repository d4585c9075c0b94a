r"""CAFE: Learning to Condense Dataset by Aligning Features (Wang et al., CVPR 2022, arXiv:2203.01531), section 3.

.. math::
    L = \sum_l w_l \sum_c \lVert E_{T_c} f^l - E_{S_c} f^l \rVert^2 + \sum_c \lVert E_{T_c} f - E_{S_c} f \rVert^2
        + \beta \sum_{x \in T} \ell(\langle f(x), \bar f_S \rangle, y)

f^l are the activations of each block and the embedding f, which is taken once more with the discrimination loss: real
features are classified by their products with the class centres of the synthetic ones. The network trains on the
synthetic data until its accuracy on real samples has moved by λ₂ within ten passes, and is replaced by a fresh one when
that accuracy stays within λ₁ over ten updates. The released code also adds the network's loss on real samples, which
has no gradient by the synthetic ones, and carries a tenth of each accuracy into the next; neither is done here.

The defaults are those of CAFE itself (run.sh). CAFE+DSA of the paper is ``augment="dsa"`` (``--method DSA`` with a
``--dsa_strategy``).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.core import MethodInfo, Presets, Problem, UnitFloat
from potstill.errors import PotstillError
from potstill.functional.distribution import mean_gap
from potstill.functional.param_groups import ParamGroup, ParamGroups
from potstill.methods.distribution._statistics import (
    DistributionObjective,
    Memory,
    Statistics,
    Views,
    pad_parts,
    unpad_parts,
)
from potstill.methods.distribution._values import FeatureMatchingFields, feature_matching
from potstill.methods.distribution._watched import WatchedNetwork
from potstill.methods.engine import EngineMethod, Init, MatchingEngine, MatchingState, default_param_groups

__all__ = ["CAFE"]


@dataclass(frozen=True, kw_only=True)
class CAFE(FeatureMatchingFields, EngineMethod[MatchingState]):
    """Align the features of every layer, and let the synthetic centres tell real samples apart."""

    info: ClassVar[MethodInfo] = MethodInfo(
        draws_by_class=True,
        title="CAFE: Learning to Condense Dataset by Aligning Features", paper="arXiv:2203.01531", year=2022,
        family="distribution", kinds=("image",), training={"lr": 0.01, "augmentation": "none", "epochs": 600},
        use_when="Take it to compare with the paper, or where inner layers should match too and a student trains "
        "along.",
        avoid_when="Avoid it otherwise: each step is dear, in equal time it was mostly at or below dm, and it works "
        "on pictures alone.",
        related=("dm", "datadam", "idm"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 3, "batch_real": 64, "max_epochs": 10},
        "good": {"iterations": 30, "batch_real": 128, "max_epochs": 20},
    }

    iterations: int = 2000
    """Number of networks, one after the other (distill.py, --Iteration)."""
    lr: float = 0.1
    """Learning rate of the synthetic data; halved at 1,200, 1,600 and 1,800 of 2,000 (distill.py)."""
    momentum: UnitFloat = 0.5
    """Momentum of the synthetic data (distill.py)."""
    weights: tuple[float, float] = (0.1, 1.0)
    """w of the first half of the layers and of the second (distill.py: 0.1, 0.1, 1, 1)."""
    discrimination: float = 0.01
    """β (distill.py, --inner_weight)."""
    lambda_1: UnitFloat = 0.04
    """The network is replaced when ten accuracies lie within this (--lambda_1)."""
    lambda_2: UnitFloat = 0.03
    """The network's training ends when ten accuracies have moved by this (--lambda_2)."""
    max_epochs: int = 100
    """Maximum epochs of that training between two updates. Ours: the published loop is unbounded."""
    lr_net: float = 0.01
    """Learning rate of the network (--lr_net)."""
    batch_train: int = 256
    """Batch of its training (--batch_train)."""
    batch_real: int = 256
    """Real samples per class and step (--batch_real)."""
    init_from: Init = "noise"
    """Initial images: noise (--init)."""
    steps_per_network: int = 1
    """Must stay 1: the network changes at every step."""
    augment: str = "none"
    """Siamese augmentation, and that of the network's training (--method, --dsa_strategy); dsa for CAFE+DSA."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        if self.steps_per_network != 1:
            raise PotstillError(
                f"cafe changes its network at every step: steps_per_network must be 1, not {self.steps_per_network}"
            )
        measure = DistributionObjective(
            statistics=self.statistics, gap=self.gap, needs_layers=True, compares_classes=True
        )
        networks = WatchedNetwork(
            replace_below=self.lambda_1, stop_above=self.lambda_2, max_epochs=self.max_epochs, batch=self.batch_train,
            lr=self.lr_net,
        )  # fmt: skip
        # the number of steps depends on the networks' accuracy
        return feature_matching(self, measure, rules=self.rules, networks=networks, fixed_steps=False)

    def rules(self, state: MatchingState) -> ParamGroups:
        halvings = sum(state.iteration >= part * self.iterations for part in (0.6, 0.8, 0.9))
        return default_param_groups(
            ParamGroup(lr=self.lr * 0.5**halvings, momentum=self.momentum), self.lr_labels, self.optimizer
        )

    def statistics(self, real: Views, memory: Memory, rng: Generator) -> Statistics:
        layers = {f"l{n}": real.means(f, f"l{n}") for n, f in enumerate(real.layers)}
        t, sizes = pad_parts([real.features[w > 0] for w in real.weights])
        return {**layers, "f": real.means(real.features, "f"), "t": t, "sizes": sizes}

    def gap(self, real: Statistics, syn: Views, memory: Memory) -> Tensor:
        centres = syn.means(syn.features)
        early, late = self.weights
        half = (len(syn.layers) + 1) // 2
        loss = late * mean_gap(real["f"], centres)
        for n, f in enumerate(syn.layers):
            loss = loss + (early if n < half else late) * mean_gap(real[f"l{n}"], syn.means(f))
        # Once more with the discrimination loss. The released code then means over a class axis of length one.
        loss = loss + mean_gap(real["f"], centres)
        if len(syn.classes) > 1:
            for c, t in enumerate(unpad_parts(real["t"], real["sizes"])):
                y = torch.full((len(t),), c, device=t.device)
                loss = loss + self.discrimination * F.cross_entropy(t @ centres.T, y, reduction="sum")
        return loss
