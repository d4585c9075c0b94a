r"""IDM: Improved Distribution Matching for Dataset Condensation (Zhao et al., CVPR 2023, arXiv:2307.09742).

.. math::
    L = \sum_c \Big\lVert E_{T_c}\, \psi_\theta(A_\omega(x)) - E_{S_c}\, \psi_\theta(A_\omega(s)) \Big\rVert^2
        + \lambda\, a_\theta \sum_c E_{S_c}\, \ell(f_\theta(A_\omega(s)), c)

θ is drawn from a pool of networks of several ages that train on real samples along the way, a_θ the accuracy (in
percent) that the network had on the samples it met. What is stored decodes to four inputs each (partition and
expansion). The accuracies count anew every hundred steps (the release resets its meters whenever it measures the set),
so that a network that has not trained since weighs the second term with 0: of 100 networks of which two train at a
step, 43 % of the steps have none. The released parser's defaults are DM's; the fields here are those of its
``command.txt``.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from potstill.core import MethodInfo, Network, Presets, Problem
from potstill.methods.distribution._pool import TrainedAlong, chosen
from potstill.methods.distribution._statistics import MEANS, Views
from potstill.methods.distribution._values import FeatureValues, feature_matching
from potstill.methods.engine import EngineMethod, Init, MatchingEngine, MatchingState

__all__ = ["IDM"]


@dataclass(frozen=True, kw_only=True)
class IDM(FeatureValues, EngineMethod[MatchingState]):
    """Match means in a pool of networks in training, and keep the classes apart."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Improved Distribution Matching for Dataset Condensation",
        paper="arXiv:2307.09742",
        year=2023,
        family="distribution",
        kinds=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
    )
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 150, "batch_real": 64, "trained": 1, "train_steps": 4, "batch_train": 64},
        "good": {"iterations": 1_000, "batch_real": 128, "train_steps": 5, "batch_train": 128},
    }
    may_be_zero: ClassVar[tuple[str, ...]] = ("epochs_trained", "trained", "forget_every")

    iterations: int = 20_000
    """Steps (IDM_cifar10.py, --Iteration)."""
    lr: float = 0.2
    """Learning rate of what is stored (command.txt, --lr_img)."""
    momentum: float = 0.5
    """Momentum (IDM_cifar10.py)."""
    ce: float = 0.5
    """λ (command.txt, --ce_weight: 0.5 for CIFAR-10 at 1 and 10 items per class, 0.1 at 50)."""
    batch_real: int = 256
    """Real samples per class and step (5,000 at one item per class)."""
    forget_every: int = 100
    """Steps after which the accuracies a count anew (command.txt, --eval_interval: 500 at 50 items); 0 for never."""
    pool_first: int = 4
    """Networks at the start (IDM_cifar10.py: three, and one that joins before the first step)."""
    pool_most: int = 100
    """Networks at most; the oldest goes (--net_num)."""
    pool_every: int = 30
    """Steps between new networks (--net_generate_interval; 5 at one item per class)."""
    trained: int = 2
    """Networks of the pool that train after each step (--fetch_net_num); 0 for none."""
    train_steps: int = 10
    """Their steps (--model_train_steps; 50 for CIFAR-100)."""
    batch_train: int = 256
    """Real samples of each (--trained_bs)."""
    lr_net: float = 0.01
    """Learning rate, with momentum 0.9 and weight decay 5e-4 (--lr_net, --net_decay)."""
    updates: Literal["all", "class"] = "all"
    """One step for all classes, or one after each class, as published: with SGD the sum of all moves is the same."""
    init_from: Init = "real"
    """Start from random real samples (--init real)."""
    augment: str = "dsa"
    """Siamese augmentation."""
    network: str = "convnet"
    """Network that embeds."""
    parametrization: str = "tiles"
    """What is optimised (--aug)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        networks = TrainedAlong(
            first=self.pool_first, most=self.pool_most, every=self.pool_every, trained=self.trained,
            steps=self.train_steps, batch=self.batch_train, lr=self.lr_net, forget_every=self.forget_every,
            reuse=self.reuse,
        )  # fmt: skip
        measure = replace(MEANS, penalty=self.penalty)
        return feature_matching(self, measure, networks=networks, turns=self.updates == "class")

    def penalty(self, state: MatchingState, net: Network, syn: Views, y: Tensor) -> Tensor | None:
        """Cross-entropy, which keeps the classes apart, weighed by the accuracy of the network."""
        a = 100 * chosen(state).accuracy
        if not self.ce or not a:
            return None
        losses = F.cross_entropy(net.classifier(syn.features), y, reduction="none")
        return self.ce * a * (syn.weights @ losses).sum()
