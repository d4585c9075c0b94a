r"""RFAD: Random Feature Approximation for Dataset Distillation (Loo et al., NeurIPS 2022, arXiv:2210.12067), eq. 4-6.

.. math::
    \min_{X_S, y_S, \tau} \; E_\theta \; \ell\big(e^\tau K_{TS} (K_{SS} + \lambda I)^{-1} y_S,\; y_T\big),
    \qquad K = \sigma_w^2 \, F F^\top + \sigma_b^2, \quad
    F = \tfrac{1}{\sqrt{N d}} \big[h_{\theta_1}(x), \ldots, h_{\theta_N}(x)\big]

N untrained networks at every step: their features side by side make the kernel of an infinitely wide one (NNGP)
approximately. ℓ is cross-entropy of answers times a learned temperature (Platt scaling), or half the mean squared
error. The program (github.com/yolky/RFAD) is followed: σ_w² = 2, σ_b² = 0.01, λ = 5e-3 of the mean of the diagonal. Its
networks are ConvNets of width 256 without norm whose weights are normal with variance 2 over their inputs; here they
are the problem's, drawn as PyTorch draws them. Not here: a linear map of all pixels that it learns beside the set and
folds into it at the end.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from potstill.core import MethodInfo, Presets, Problem
from potstill.functional.kernels import FullyConnected
from potstill.functional.param_groups import Optimizer
from potstill.methods.engine import EngineMethod, FixedNetworks, MatchingEngine, MatchingState, has_classes
from potstill.methods.performance._ridge import TEMPERATURE, KernelRidge
from potstill.methods.performance._values import KernelValues, Labels, kernel_param_groups

__all__ = ["RFAD"]


@dataclass(frozen=True, kw_only=True)
class RFAD(KernelValues, EngineMethod[MatchingState]):
    """Samples from which ridge regression on the features of many untrained networks predicts the real ones."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Efficient Dataset Distillation using Random Feature Approximation", paper="arXiv:2210.12067", year=2022,
        family="performance", kinds=("*",), multi_input=True, tasks=("classification", "regression", "forecast"),
        use_when="Take it for a minute and soft labels, over parametrization `frequency`: untrained networks cost "
        "little, and on Fashion-MNIST it led here.",
        avoid_when="Avoid it where real samples in few bits already do well: on whole MNIST at ten a class it made "
        "them worse.",
        related=("frepo", "kip", "lgm"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 400, "batch_real": 256, "num_networks": 2, "lr": 0.02, "init_from": "k-means"},
        "good": {"iterations": 2000, "batch_real": 512, "num_networks": 4, "lr": 5e-3, "init_from": "k-means"},
    }

    iterations: int = 100_000
    """Steps, at most (run_distillation.py, n_iters; it stops early by a held-out part of the training data, which is
    not done here)."""
    lr: float = 1e-3
    """Learning rate of inputs and labels (--lr)."""
    lr_temperature: float = 1e-2
    """Learning rate of the temperature's logarithm (distillation.py)."""
    optimizer: Optimizer = "adabelief"
    """Optimizer of inputs and labels (distillation.py)."""
    batch_real: int = 5120
    """Real samples of a step, as they come (--n_batches 4, of 1,280 each)."""
    ridge: float = 5e-3
    """Ridge relative to the mean of the kernel's diagonal (--jit)."""
    num_networks: int = 8
    """N: number of networks (--n_models)."""
    platt: bool = True
    """Cross-entropy with a learned temperature, of classes (--platt); otherwise half the mean squared error."""
    labels: Labels = "scores"
    """Learned real-valued labels (--learn_labels), or the classes."""
    network: str = "convnet"
    """Networks whose features stand side by side, fresh at every step; ``convnet-w256-nonorm`` is nearest to the
    published one."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        rules = kernel_param_groups(self, problem, temperature=self.lr_temperature)
        platt = self.platt and has_classes(problem)
        return MatchingEngine(
            objective=KernelRidge(
                kernel=FullyConnected(depth=0), batch_real=self.batch_real, ridge=self.ridge,
                loss="platt" if platt else "mean", num_networks=self.num_networks, balanced=False,
            ),
            networks=FixedNetworks(), param_groups=lambda state, last: rules, iterations=self.iterations,
            steps=self.iterations,
            initial=self.init_from, labels=self.labels, extra_parameters={TEMPERATURE: torch.ones(())} if platt else {},
        )  # fmt: skip
