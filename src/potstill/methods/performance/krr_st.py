r"""KRR-ST: self-supervised targets (Lee, Lee, Ko, Kawaguchi, Lee, Hwang, ICLR 2024, arXiv:2310.06511), algorithm 1.

.. math::
    \min_{X_S, Y_S} \; E_{\omega \sim \text{pool}} \; \Big\lVert Y_T - h_\omega(X_T) h_\omega(X_S)^\top
        \big(h_\omega(X_S) h_\omega(X_S)^\top + \lambda I\big)^{-1} Y_S \Big\rVert^2,
    \qquad \lambda = \rho \, \operatorname{tr}\big(h_\omega(X_S) h_\omega(X_S)^\top\big)

Y_T are the vectors that a network trained without labels gives the real samples (``targets="representations"`` of
`potstill.load_data`), Y_S learned vectors that begin as those of the samples X_S begins with, and h_ω the embedding of
a network of the pool. Its networks learn (X_S, Y_S) by SGD, a step after each that they serve, and give way to
untrained ones when they are too old; a network that a user pre-trains on the set learns the same, and no random view of
a sample makes the gradient of this inner problem biased. The program (github.com/db-Lee/selfsup_dd) is followed.

Its network has 128, 256 and 512 channels and BatchNorm; here it is the problem's. Not here: that real samples are
augmented and the teacher labels each view; vectors are those of the samples as they are. The
program lets a column of ones stand beside the features; here the learner fits what vectors differ from their mean.
Targets of classes are one-hot − 1/k.
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
from potstill.methods.performance._values import KernelValues, Labels, kernel_param_groups, linear_decay

__all__ = ["KRRST"]


@dataclass(frozen=True, kw_only=True)
class KRRST(KernelValues, EngineMethod[MatchingState]):
    """Samples and vectors, learned by which networks give real samples the vectors of a self-supervised teacher."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Self-Supervised Dataset Distillation for Transfer Learning", paper="arXiv:2310.06511", year=2024,
        family="performance", kinds=("*",), multi_input=True, tasks=("classification", "regression"),
        use_when="Take it for pictures without labels and a strong teacher of your own, to pre-train networks on.",
        avoid_when="Avoid it with a small teacher: random real samples with its vectors were level, and pre-training "
        "did not help.",
        related=("frepo", "rfad", "kip"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {
            "iterations": 600, "batch_real": 256, "lr": 0.01, "pool_size": 5, "max_age": 60, "lr_net": 0.05,
            "init_from": "k-means",
        },
        "good": {"iterations": 10_000, "batch_real": 512, "lr": 3e-3, "max_age": 300, "init_from": "k-means"},
    }  # fmt: skip

    iterations: int = 160_000
    """Steps (train.py, --outer_iteration)."""
    lr: float = 1e-4
    """Learning rate of inputs and vectors at first (README, --outer_lr of CIFAR-100; 1e-5 for larger pictures)."""
    lr_end: UnitFloat = 1e-3
    """Final fraction of that rate, which falls along a line (train.py, LinearLR)."""
    optimizer: Optimizer = "adamw"
    """Optimizer of inputs and vectors, without decay (--outer_opt, --outer_wd)."""
    batch_real: int = 1024
    """Real samples of a step, as they come (--outer_batch_size)."""
    ridge: float = 1e-6
    """ρ, over the trace of the kernel (algorithms/distill.py)."""
    labels: Labels = "scores"
    """Learned vectors, or learned real values of classes."""
    pool_size: int = 10
    """Networks in the pool (--num_models)."""
    max_age: int = 1000
    """Age in steps at which a network is replaced (--online_iteration); the first ones have trained for random ages."""
    lr_net: float = 0.1
    """Learning rate of the networks, of SGD with momentum 0.9 (--online_lr)."""
    weight_decay: float = 1e-3
    """Weight decay of the networks (--online_wd)."""
    batch_train: int = 1000
    """Items of the set in a step of a network, at most; the program has 1,000 or 2,000, and takes all."""
    network: str = "convnet"
    """Networks of the pool."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        first = kernel_param_groups(self, problem)

        def rules(state: MatchingState, last: bool) -> ParamGroups:
            return kernel_param_groups(self, problem, factor=linear_decay(state, self.iterations, self.lr_end))

        pool = OnlineNetworkPool(
            count=self.pool_size, max_age=self.max_age, lr=self.lr_net, batch=self.batch_train,
            decode_set=partial(decode_set, rules=first), optimizer="sgd", weight_decay=self.weight_decay, trained=True,
        )  # fmt: skip
        return MatchingEngine(
            objective=KernelRidge(
                kernel=FullyConnected(depth=0, weights=1.0, biases=0.0), batch_real=self.batch_real,
                ridge=self.ridge, of_trace=True, loss="mean", balanced=False,
            ),
            networks=pool, param_groups=rules, iterations=self.iterations, steps=self.iterations,
            initial=self.init_from, labels=self.labels,
        )  # fmt: skip
