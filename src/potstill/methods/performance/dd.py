r"""DD: Dataset Distillation (Wang, Zhu, Torralba, Efros, 2018, arXiv:1811.10959), algorithm 1 and equation 5.

.. math::
    \min_{S, \eta} \; E_{\theta_0}\, \ell_T(\theta_N), \qquad
    \theta_{i+1} = \theta_i - \eta_i \nabla \ell_{S_{i \bmod M}}(\theta_i), \qquad N = M \cdot \text{epochs}

Each of M steps has samples of its own, ``per_step`` of each class (M is what the budget then gives), and each of the N
steps a learned rate. The student begins at random, or at one that is known (``students=1``: the network of the seed 0):
what is made then serves that network alone. The set's samples stand in the order of their steps; a protocol that mixes
them loses much (issue 36 of the repository). The rates are stored as ``student/rates``, and their mean as the learned
rate that protocols read.
Followed is the program (train_distilled_image.py, base_options.py), but for four things: rates are kept positive as
exponentials, where the program takes a softplus; what is stored moves by Adam with β₁ = 0.9, where it has 0.5; networks
begin as PyTorch draws them, where it has Xavier's normal weights and no biases (--init); and the real batch has as many
of each class, where it is a part of a pass over all samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from potstill.core import MethodInfo, Presets, Problem
from potstill.functional.unroll import InnerOptimizer
from potstill.methods.engine import EngineMethod, Init, MatchingEngine, MatchingState
from potstill.methods.performance._students import StudentValues, build_unrolled_engine
from potstill.methods.performance._unrolled import STEP_LRS, STUDENT_LR
from potstill.methods.performance._windows import AllSteps, StepBatches

__all__ = ["DD"]


@dataclass(frozen=True, kw_only=True)
class DD(StudentValues, EngineMethod[MatchingState]):
    """Gradients through a few steps of a student, each on samples and at a rate of its own."""

    info: ClassVar[MethodInfo] = MethodInfo(
        draws_by_class=True,
        title="Dataset Distillation", paper="arXiv:1811.10959", year=2018, family="performance", kinds=("*",),
        multi_input=True, tasks=("*",), training={"lr": 0.02, "augmentation": "none", "epochs": 3},
        use_when="Take it for the historic method, or for a set that serves one known start of a network in a few "
        "ordered steps.",
        avoid_when="Avoid it elsewhere: samples in another order lose most of it, and rat-bptt is better for the "
        "same time.",
        related=("rat-bptt", "remember", "ld"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 600, "batch_real": 128, "init_from": "k-means", "lr": 0.03, "decay_every": 150},
        "good": {"iterations": 6_000, "batch_real": 256, "init_from": "k-means", "lr": 0.03, "decay_every": 1_500},
    }

    iterations: int = 23_600
    """Steps: 400 passes over MNIST (base_options.py, --epochs)."""
    batch_real: int = 1024
    """Real samples of a step, balanced over classes (--batch_size)."""
    init_from: Init = "noise"
    """Initial samples: noise (train_distilled_image.py)."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """Optimizer of the stored values."""
    lr: float = 0.01
    """Learning rate of the synthetic inputs (--lr)."""
    decay_every: int = 2360
    """Steps after which all rates are halved: 40 passes (--decay_epochs)."""
    decay: float = 0.5
    """Factor of the decay (--decay_factor)."""
    lr_net: float = 0.02
    """Initial learning rate of every step of a student (--distill_lr; 0.001 for CIFAR-10)."""
    learn_lr: bool = True
    """The steps' rates are learned."""
    epochs: int = 3
    """Passes of a student over its steps (--distill_epochs)."""
    per_step: int = 1
    """Decoded inputs of each class in a step of a student (--distilled_images_per_class_per_step)."""
    augment: str = "none"
    """Augmentation of the student's batches and of the real one."""
    network: str = "convnet"
    """Network of the students (published: LeNet for MNIST, AlexCifarNet for CIFAR-10)."""
    parametrization: str = "pixels"
    """Parametrization of the synthetic inputs."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        turns = StepBatches(per_class=self.per_step)
        steps = turns.steps(problem.sizes) * self.epochs
        made = build_unrolled_engine(
            replace(self, learn_lr=False), problem, windows=AllSteps(steps=steps), batches=turns,
            inner=InnerOptimizer(),
            factor=lambda state: self.decay ** (state.iteration // self.decay_every),
        )  # fmt: skip
        rates = {STEP_LRS: torch.full((steps,), self.lr_net)} if self.learn_lr else {}
        return replace(made, extra_parameters=rates, export_learned=_with_mean)


def _with_mean(learned: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the learned values with the mean of the rates."""
    return {**learned, STUDENT_LR: learned[STEP_LRS].mean()} if STEP_LRS in learned else learned
