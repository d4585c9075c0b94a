r"""DM: Dataset Condensation with Distribution Matching (Zhao and Bilen, WACV 2023, arXiv:2110.04181), equation 4.

.. math::
    \min_S \; E_{\vartheta \sim P_\vartheta,\, \omega \sim \Omega}
    \sum_c \Big\lVert \tfrac{1}{|B_c^T|} \sum_{x \in B_c^T} \psi_\vartheta(A_\omega(x))
                    - \tfrac{1}{|B_c^S|} \sum_{s \in B_c^S} \psi_\vartheta(A_\omega(s)) \Big\rVert^2

ψ is the embedding of a freshly initialised network, ω one siamese augmentation per class, shared by the real batch T
and the synthetic samples S of the class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import Method, MethodInfo, Metrics, Problem, Synthetic
from potstill.functional.distribution import group_means, mean_gap
from potstill.functional.sampling import draw_per_class
from potstill.methods._matching import decoded_sizes, image, start, synthetic, update
from potstill.rng import draw_seed

__all__ = ["DM", "DMState"]

FORWARD_SAMPLES = 2560
"""Real samples in one forward pass: ten classes of the published batch. More classes go in several passes."""


@dataclass(frozen=True, kw_only=True)
class DMState:
    payload: Mapping[str, Tensor]
    velocity: Mapping[str, Tensor]
    iteration: int


@dataclass(frozen=True, kw_only=True)
class DM(Method[DMState]):
    """Match the mean embedding of every class under random networks."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Dataset Condensation with Distribution Matching",
        paper="arXiv:2110.04181",
        year=2023,
        family="distribution",
        kinds=("*",),
        training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
    )
    state_type: ClassVar[type] = DMState

    iterations: int = 20_000
    """Steps of the synthetic data (main_DM.py, --Iteration)."""
    lr: float = 1.0
    """Learning rate of the synthetic data; the paper uses 10 from 100 items per class (main_DM.py, --lr_img)."""
    momentum: float = 0.5
    """Momentum of the synthetic data (main_DM.py)."""
    batch_real: int = 256
    """Real samples per class and step (main_DM.py, --batch_real)."""
    start: Literal["real", "noise"] = "real"
    """Start from random real samples or from noise (main_DM.py, --init)."""
    augment: str = "dsa"
    """Siamese augmentation (section 3.2 of the paper)."""
    network: str = "convnet"
    """Network that embeds, fresh at every step."""
    parametrization: str = "pixels"
    """What is optimised."""

    def init(self, problem: Problem, rng: Generator) -> DMState:
        payload = start(problem, self.start, rng)
        return DMState(payload=payload, velocity={n: torch.zeros_like(p) for n, p in payload.items()}, iteration=0)

    def step(self, problem: Problem, state: DMState, rng: Generator) -> tuple[DMState, Metrics]:
        psi = problem.network(draw_seed(rng)).requires_grad_(False)
        drawn = draw_per_class(problem.by_class, self.batch_real, rng)
        sizes = decoded_sizes(problem)
        omega = [problem.augment.draw(1, problem.train.input.shape, rng) for _ in sizes]
        A = problem.augment.apply

        def objective(S: Tensor) -> tuple[float, Tensor]:
            loss, gradient, offset = 0.0, [], 0
            for group in _groups([len(i) for i in drawn]):
                first = offset
                offset += sum(sizes[c] for c in group)
                with torch.no_grad():
                    T = image(problem.train.fetch(torch.cat([drawn[c] for c in group])).x)
                    T_c = torch.split(T, [len(drawn[c]) for c in group])
                    real = psi.embed(torch.cat([A(x, omega[c]) for x, c in zip(T_c, group, strict=True)]))
                    mu_T = group_means(real, [len(drawn[c]) for c in group])
                with torch.enable_grad():
                    leaf = S[first:offset].requires_grad_()
                    S_c = torch.split(leaf, [sizes[c] for c in group])
                    syn = psi.embed(torch.cat([A(s, omega[c]) for s, c in zip(S_c, group, strict=True)]))
                    gap = mean_gap(mu_T, group_means(syn, [sizes[c] for c in group]))
                gradient.append(torch.autograd.grad(gap, leaf)[0])
                loss += float(gap.detach())
            return loss, torch.cat(gradient)

        payload, velocity, loss = update(
            problem, state.payload, state.velocity, objective, lr=self.lr, momentum=self.momentum
        )
        return DMState(payload=payload, velocity=velocity, iteration=state.iteration + 1), {"loss": loss}

    def done(self, problem: Problem, state: DMState) -> bool:
        return state.iteration >= self.iterations

    def result(self, problem: Problem, state: DMState) -> Synthetic:
        return synthetic(problem, state.payload)

    def horizon(self, problem: Problem) -> int:
        return self.iterations


def _groups(sizes: list[int]) -> list[list[int]]:
    """Consecutive classes whose real samples fit one forward pass together."""
    groups: list[list[int]] = [[]]
    held = 0
    for c, size in enumerate(sizes):
        if groups[-1] and held + size > FORWARD_SAMPLES:
            groups.append([])
            held = 0
        groups[-1].append(c)
        held += size
    return groups
