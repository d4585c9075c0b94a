r"""KIP: Kernel Inducing Points (Nguyen, Chen, Lee, ICLR 2021, arXiv:2011.00050; NeurIPS 2021, arXiv:2107.13034), eq. 2.

.. math::
    \min_{X_S, y_S} \; \tfrac{1}{2} \, E_{T} \Big\lVert y_T - K_{TS} (K_{SS} + \lambda I)^{-1} y_S \Big\rVert^2,
    \qquad \lambda = \rho \, \operatorname{tr}(K_{SS}) / n

K is the neural tangent kernel of an infinitely wide fully connected ReLU network (`potstill.functional.kernels`): no
network is made, and all is in float64. The program (google-research/kip/KIP.ipynb) is followed; its convolutional
kernels, which the papers' best numbers are of, took a cluster and are not here. Targets of classes are one-hot − 1/k.
What it makes is for the learner that it was made with: kernel ridge regression with the same kernel.

Ours: ``learners="mixed"``, the default for one series whose windows overlap, averages the logarithm of that loss over
several learners that have a closed form: this kernel, with the ridge and with one of 1e-2, and linear ridge regression
on standardised inputs with penalties of 0.003, 0.01 and 0.1. Forecasters are often linear, and what is made for one
penalty alone serves others badly. The rate then falls to 0 along half a cosine.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from potstill.core import MethodInfo, NonNegativeInt, Presets, Problem
from potstill.functional.kernels import FullyConnected
from potstill.functional.param_groups import Optimizer, ParamGroups
from potstill.methods.engine import AUTO, Auto, EngineMethod, MatchingEngine, MatchingState
from potstill.methods.performance._ridge import ClosedForm, KernelFit, KernelRidge, LinearFit, NoNetworks
from potstill.methods.performance._values import KernelValues, Labels, cosine_decay, kernel_param_groups

__all__ = ["KIP"]

_PENALTIES, _WIDE_RIDGE = (0.003, 0.01, 0.1), 1e-2
"""Penalties of the linear learners, and ridge of the second kernel learner, of ``mixed``. Ours."""


@dataclass(frozen=True, kw_only=True)
class KIP(KernelValues, EngineMethod[MatchingState]):
    """Samples from which kernel ridge regression with a wide network's kernel predicts the real ones."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Meta-Learning from Kernel Ridge-Regression", paper="arXiv:2011.00050", year=2021,
        family="performance", kinds=("*",), multi_input=True, tasks=("classification", "regression", "forecast"),
        use_when="Take it where the learner is a kernel, or for tables: nothing is trained, and the learner krr-ntk "
        "reads the set best.",
        avoid_when="Avoid it where networks train on the set: frepo and rfad were far better for them in the same "
        "time.",
        related=("frepo", "rfad", "rcig"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 600, "batch_real": 2000, "labels": "scores"},
        "good": {"iterations": 3000, "labels": "scores"},
    }

    iterations: int = 1000
    """Steps (KIP.ipynb: about 1,000 or more for full convergence)."""
    lr: float = 4e-2
    """Learning rate of inputs and, where they are learned, of targets (LEARNING_RATE)."""
    optimizer: Optimizer = "adamw"
    """Optimizer of inputs and labels: Adam, which is AdamW without decay."""
    batch_real: int = 5000
    """Real samples of a step, balanced over classes (TARGET_BATCH_SIZE)."""
    ridge: float = 1e-6
    """ρ, over the mean of the kernel's diagonal (reg)."""
    depth: NonNegativeInt = 1
    """Hidden layers of the network: 1 to 3 are the papers' FC1 to FC3 (DEPTH); 0 is the linear kernel."""
    labels: Labels = "hard"
    """Targets are the classes (LEARN_LABELS False), or learned real values: ``scores``."""
    learners: Auto[Literal["kernel", "mixed"]] = AUTO
    """Learners that the set is made for: the kernel's, as published, or several closed forms at once (``mixed``), which
    is the default for one series whose windows overlap."""

    def resolve_defaults(self, problem: Problem) -> tuple["KIP", tuple[str, ...]]:
        if self.learners is not None:
            return self, ()
        return replace(self, learners="kernel" if problem.target_decoder is None else "mixed"), ()

    def build_engine(self, problem: Problem) -> MatchingEngine:
        kernel, mixed = FullyConnected(depth=self.depth), self.learners == "mixed"
        mixture: tuple[ClosedForm, ...] = (
            *(LinearFit(penalty=penalty) for penalty in _PENALTIES),
            *(KernelFit(kernel=kernel, ridge=ridge) for ridge in (self.ridge, _WIDE_RIDGE)),
        )

        def rules(state: MatchingState, last: bool) -> ParamGroups:
            return kernel_param_groups(self, problem, factor=cosine_decay(state, self.iterations, 0) if mixed else 1)

        return MatchingEngine(
            objective=KernelRidge(
                kernel=kernel, batch_real=self.batch_real, ridge=self.ridge, loss="mean",
                mixture=mixture if mixed else (),
            ),
            networks=NoNetworks(), param_groups=rules, iterations=self.iterations,
            steps=self.iterations, initial=self.init_from, labels=self.labels,
        )  # fmt: skip
