r"""RCIG: Reparameterized Convexified Implicit Gradients (Loo et al., ICML 2023, arXiv:2302.06755), equations 3 to 8.

.. math::
    \min_{S, \tau} \; \ell\big(e^\tau f_{\omega^*(S), W^*(S)}(X_T), y_T\big), \quad
    f_{\omega, W}(x) = J_\theta(x)\,\omega + h_\theta(x)\,W, \quad
    (\omega^*, W^*) = \arg\min \tfrac{1}{2} \lVert y_S - f(X_S) \rVert^2
        + \tfrac{\lambda}{2} \big(\lVert \omega \rVert^2 + \lVert W \rVert^2\big)

The learner is the network θ made linear in its parameters; its head has a closed form (reparameterization), so that
what is left is a convex problem, at whose solution the loss is differentiated by the implicit function theorem. The
networks are a pool that trains on the set along the way. The set is a moving average.

The program (github.com/yolky/RCIG) has the last layer's weights among the unknowns of the system that its slope is
solved from, though the learner is not fitted in them. ``inverse_hessian`` names both: ``exact``, the default, is the
derivative of the fitted learner; ``released`` is what the program computes. Otherwise it is followed in all but these:
both linear systems are solved by conjugate gradients, where it takes 20 steps of Adam at rates that it searches for (in
which, for an optimiser that leaves a masked leaf's gradient as it is, the last layer's tangent drifts by some 1e-3 of
the head); the network is the problem's, where it has one of 128, 256 and 512 channels without norm and a softplus
(β = 60) for the relu: a relu's kinks have no slope here; pictures are not mirrored.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from potstill.core import MethodInfo, Presets, Problem, UnitFloat
from potstill.functional.param_groups import Optimizer
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState, has_classes
from potstill.methods.performance._implicit import ImplicitRidge, InverseHessian
from potstill.methods.performance._pool import OnlineNetworkPool
from potstill.methods.performance._ridge import TEMPERATURE, decode_set
from potstill.methods.performance._values import KernelValues, Labels, kernel_param_groups

__all__ = ["RCIG"]


@dataclass(frozen=True, kw_only=True)
class RCIG(KernelValues, EngineMethod[MatchingState]):
    """Samples on which a linearised network, fitted to them, predicts the real ones: by implicit gradients."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Distillation with Convexified Implicit Gradients", paper="arXiv:2302.06755", year=2023,
        family="performance", kinds=("*",), tasks=("classification", "regression", "forecast"),
        use_when="Take it for one item of many classes with GPU hours: it is published among the best there.",
        avoid_when="Avoid it for minutes: it solves two linear systems a step, and frepo and rfad were ahead of it "
        "here.",
        related=("frepo", "rfad", "kip"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {
            "iterations": 100, "batch_real": 128, "solver_steps": 5, "backward_steps": 5, "lr": 0.02, "ema_decay": 0.9,
            "init_from": "k-means",
        },
        "good": {
            "iterations": 1000, "batch_real": 256, "solver_steps": 10, "backward_steps": 10, "init_from": "k-means",
        },
    }  # fmt: skip

    iterations: int = 10_000
    """Steps (distill_dataset.py, --max_steps)."""
    lr: float = 3e-3
    """Learning rate of inputs and labels (configs_final/depth_3.txt, proto_learning_rate)."""
    lr_temperature: float = 0.03
    """Learning rate of the temperature's logarithm (algorithms.py)."""
    optimizer: Optimizer = "adabelief-old-mean"
    """Optimizer of inputs and labels: AdaBelief about the mean before the step, as in optax then (algorithms.py,
    optax.adabelief); ``adabelief`` is the paper's."""
    ema_decay: UnitFloat = 0.99
    """Decay of the moving average that is the result (algorithms.py, get_updated_ema); 0: no average."""
    batch_real: int = 1024
    """Real samples of a step, as they come (distill_dataset.py, config.kernel.batch_size)."""
    ridge: float = 5e-4
    """λ over the number of items (l2_rate)."""
    solver_steps: int = 20
    """Steps of the solver for ω (n_inner_steps)."""
    backward_steps: int = 20
    """Steps of the solver for the gradient through ω (n_hinv_steps)."""
    inverse_hessian: InverseHessian = "exact"
    """The parameters of that system: ``exact``, those that ω has, which makes the slope the loss's own; ``released``,
    the last layer's weights too, as the program has it (algorithms.py, get_h_inv_vp)."""
    pool_size: int = 30
    """Networks in the pool (pool_model_count)."""
    max_age: int = 100
    """Age in steps at which a network is replaced (max_online_steps)."""
    steps_net: int = 15
    """Steps of a network after each that it serves: a random number up to this (one less than n_max_steps_pool)."""
    lr_net: float = 5e-5
    """Learning rate of the networks, of Adam (pool_learning_rate)."""
    batch_train: int = 1000
    """Items of the set in a step of a network, at most. Ours; all of them in the program but of its largest sets."""
    labels: Labels = "scores"
    """Learned real-valued labels (learn_labels), or the classes."""
    network: str = "convnet"
    """Networks of the pool; ``convnet-nonorm`` is nearest to the published one."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        rules, classes = kernel_param_groups(self, problem, temperature=self.lr_temperature), has_classes(problem)
        pool = OnlineNetworkPool(
            count=self.pool_size, max_age=self.max_age, lr=self.lr_net, batch=self.batch_train,
            max_steps=self.steps_net,
            staggered=False, decode_set=partial(decode_set, rules=rules),
        )  # fmt: skip
        return MatchingEngine(
            objective=ImplicitRidge(
                batch_real=self.batch_real, ridge=self.ridge, loss="platt" if classes else "mean",
                solver_steps=self.solver_steps,
                backward_steps=self.backward_steps, inverse_hessian=self.inverse_hessian,
            ),
            networks=pool, param_groups=lambda state, last: rules, iterations=self.iterations, steps=self.iterations,
            initial=self.init_from, labels=self.labels, ema_decay=self.ema_decay,
            extra_parameters={TEMPERATURE: torch.ones(())} if classes else {},
        )  # fmt: skip
