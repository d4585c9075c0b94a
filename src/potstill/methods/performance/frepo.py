r"""FRePo: neural Feature Regression with Pooling (Zhou, Nezhadarya, Ba, NeurIPS 2022, arXiv:2206.00719), algorithm 1.

.. math::
    \min_{X_S, Y_S} \; E_{\theta \sim \text{pool}} \; \tfrac{1}{2} \Big\lVert Y_T - h_\theta(X_T) h_\theta(X_S)^\top
        \big(h_\theta(X_S) h_\theta(X_S)^\top + \lambda I\big)^{-1} Y_S \Big\rVert^2
        - \tfrac{1}{n} \sum_i \min\big(Y_i^{(1)} - Y_i^{(2)}, \tfrac{1}{k}\big)

h_θ is the embedding of a network, whose head alone is trained, in closed form. The networks are a pool of all ages:
the one that served a step then trains on the set for a step, and gives way to an untrained one when it is too old.
Y⁽¹⁾ and Y⁽²⁾ are the largest and the next number of a label. The program (github.com/yongchao97/FRePo) is followed.
Its network has 128, 256 and 512 channels and no norm but a BatchNorm while the set is made; here it is the problem's:
``convnet-nonorm`` is nearest. Not here: that it starts with labels over √(k/10), which is 1 for ten classes, and that
on CIFAR it also shows every picture mirrored.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from potstill.core import MethodInfo, Presets, Problem, UnitFloat
from potstill.functional.kernels import FullyConnected
from potstill.functional.param_groups import Optimizer, ParamGroups
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState
from potstill.methods.performance._pool import OnlineNetworkPool
from potstill.methods.performance._ridge import KernelRidge, decode_set
from potstill.methods.performance._values import KernelValues, Labels, cosine_decay, kernel_param_groups

__all__ = ["FRePo"]


@dataclass(frozen=True, kw_only=True)
class FRePo(KernelValues, EngineMethod[MatchingState]):
    """Samples from which ridge regression on the features of networks in training predicts the real ones."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Distillation using Neural Feature Regression", paper="arXiv:2206.00719", year=2022,
        family="performance", kinds=("*",), multi_input=True, tasks=("classification", "regression", "forecast"),
        use_when="Take it for the smallest sets and ten minutes, over parametrization `frequency`: at one "
        "picture a class of Fashion-MNIST it did best here.",
        avoid_when="Avoid it where hard labels are needed, and with more bytes: from ten items a class on rfad, ncfm "
        "or real samples are level or better.",
        related=("rfad", "rcig", "ncfm"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {
            "iterations": 600, "batch_real": 256, "lr": 0.01, "lr_net": 1e-3, "ridge": 1e-3, "init_from": "k-means",
        },
        "good": {"iterations": 10_000, "batch_real": 512, "lr": 3e-3, "init_from": "k-means"},
    }  # fmt: skip

    iterations: int = 500_000
    """Steps (README, --num_train_steps)."""
    lr: float = 3e-4
    """Learning rate of inputs and labels at first (distill.py, config.kernel.learning_rate)."""
    lr_end: UnitFloat = 0.1
    """Final fraction of the learning rate after the cosine decay (frepo.py, alpha)."""
    optimizer: Optimizer = "lamb"
    """Optimizer of inputs and labels (config.kernel.optimizer)."""
    batch_real: int = 1024
    """Real samples of a step, as they come (config.kernel.batch_size)."""
    ridge: float = 1e-6
    """Ridge relative to the mean of the kernel's diagonal (frepo.py, reg)."""
    labels: Labels = "scores"
    """Learned real-valued labels (--learn_label), or the classes."""
    pool_size: int = 10
    """Networks in the pool (--num_nn_state)."""
    max_age: int = 100
    """Age in steps at which a network is replaced (--max_online_updates); the first ones have ages 0 to this."""
    lr_net: float = 3e-4
    """Learning rate of the networks, of Adam (config.online.learning_rate)."""
    batch_train: int = 1000
    """Items of the set in a step of a network, at most (config.kernel.eval_batch_size)."""
    steps_per_network: int = 1
    """Moves of the set with one network and one batch of real samples, after which that network trains for a step. More
    is faster, as real samples pass a network once in so many. Ours; 1 as published."""
    margin: bool = True
    """Keep a label's largest number 1/k above the next (frepo.py, lb_margin_th)."""
    network: str = "convnet"
    """Networks of the pool."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        first = kernel_param_groups(self, problem)

        def rules(state: MatchingState, last: bool) -> ParamGroups:
            return kernel_param_groups(self, problem, factor=cosine_decay(state, self.iterations, self.lr_end))

        pool = OnlineNetworkPool(
            count=self.pool_size, max_age=self.max_age, lr=self.lr_net, batch=self.batch_train,
            decode_set=partial(decode_set, rules=first), steps_per_network=self.steps_per_network,
        )  # fmt: skip
        return MatchingEngine(
            objective=KernelRidge(
                kernel=FullyConnected(depth=0, weights=1.0, biases=0.0), batch_real=self.batch_real, ridge=self.ridge,
                loss="sum", balanced=False, use_margin=self.margin, steps_per_network=self.steps_per_network,
            ),
            networks=pool, param_groups=rules, iterations=self.iterations, steps=self.iterations,
            initial=self.init_from,
            labels=self.labels,
        )  # fmt: skip
