r"""Remember the Past: Distilling Datasets into Addressable Memories (Deng, Russakovsky, 2022, arXiv:2206.02916).

.. math::
    \min_{M, A} \; E_{\theta_0}\, \ell_T(\theta_N), \qquad x_i = \mathrm{up}\Big(\sum_b A_{ib} M_b\Big),
    \qquad v_{i+1} = \mu v_i + \nabla \ell_{S_i}(\theta_i), \quad \theta_{i+1} = \theta_i - \eta v_{i+1}

Gradients go through all N steps of a fresh student that trains with momentum (section 3.2, algorithm 1), on minibatches
of every class, and into bases that all classes share (the parametrization ``memory``). Followed is the program's run
script for CIFAR-10 (run_scripts, README). Three things in it differ here: the penalty of the coefficients
(--coeff_reg_alpha 1e-4) is left out, as in the program it is added to the student's loss, whose gradient by weights
does not contain it, so that it has no effect; the norm that is cut to 2 is that of the gradient by the decoded inputs,
not by what is stored; and all steps of a student see fresh augmentations, where it has any, not one that they share.
The memory's start is near to the initial inputs (ours); ``--parametrization memory:init=random`` is the published.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from potstill.core import MethodInfo, Presets, Problem, UnitFloat
from potstill.functional.unroll import InnerOptimizer
from potstill.methods.engine import EngineMethod, Init, MatchingEngine, MatchingState
from potstill.methods.performance._students import StudentValues, build_unrolled_engine
from potstill.methods.performance._windows import AllSteps, BalancedBatches

__all__ = ["Remember"]


@dataclass(frozen=True, kw_only=True)
class Remember(StudentValues, EngineMethod[MatchingState]):
    """Gradients through the whole training of students with momentum, into an addressable memory."""

    info: ClassVar[MethodInfo] = MethodInfo(
        draws_by_class=True,
        title="Remember the Past: Distilling Datasets into Addressable Memories for Neural Networks",
        paper="arXiv:2206.02916", year=2022, family="performance", kinds=("*",), multi_input=True, tasks=("*",),
        training={"lr": 0.01, "augmentation": "none", "epochs": 300},
        use_when="Take it for many classes or items: bases that all classes share buy more inputs from the same "
        "bytes.",
        avoid_when="Avoid it for small pictures, whose bases have too few pixels, and for minutes: it unrolls the "
        "whole training of a student.",
        related=("rat-bptt", "idc", "ufc"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {
            "iterations": 120, "batch_real": 128, "init_from": "k-means", "optimizer": "adamw", "lr": 0.01,
            "lr_net": 0.02, "inner_steps": 15, "batch_per_class": 3,
        },
        "good": {
            "iterations": 2_000, "batch_real": 256, "init_from": "k-means", "optimizer": "adamw", "lr": 0.01,
            "lr_net": 0.02, "inner_steps": 30, "batch_per_class": 4,
        },
    }  # fmt: skip

    iterations: int = 500_000
    """Steps (configs, n_iters)."""
    batch_real: int = 640
    """Real samples of a step, balanced over classes (runners, n_queries: 64 of each of CIFAR-10's classes)."""
    init_from: Init = "real"
    """The memory begins near to random real samples. Ours."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimizer of the stored values (configs, compressor_optim)."""
    lr: float = 0.1
    """Learning rate of the synthetic inputs (configs)."""
    momentum: UnitFloat = 0.5
    """Momentum of the synthetic inputs (configs)."""
    lr_net: float = 0.01
    """Learning rate of the students (configs, bptt_optim)."""
    momentum_net: float = 0.9
    """Momentum of the students (README); below 1."""
    inner_steps: int = 150
    """N: steps of a student (README)."""
    batch_per_class: int = 32
    """Decoded inputs of each class in a step of a student (README, minibatch_size)."""
    clip: float = 2.0
    """The gradient is clipped to this norm (runners, clip_grad_norm_); 0: it is not."""
    augment: str = "none"
    """Augmentation of the student's batches and of the real one (README: none, or flip_rotate)."""
    network: str = "convnet"
    """Network of the students."""
    parametrization: str = "memory"
    """Parametrization of the synthetic inputs."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return build_unrolled_engine(
            self, problem, windows=AllSteps(steps=self.inner_steps),
            batches=BalancedBatches(per_class=self.batch_per_class),
            inner=InnerOptimizer(momentum=self.momentum_net), clip=self.clip,
        )  # fmt: skip
