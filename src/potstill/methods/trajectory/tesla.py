r"""TESLA: trajectory matching with constant memory (Cui et al., ICML 2023), by an approximation of its gradient.

.. math:: \frac{\partial L}{\partial x_i} \approx \frac{\partial}{\partial x_i} \Big\langle
    \frac{-2 \beta\, (\theta_N - \theta^*)}{\lVert \theta_0 - \theta^* \rVert^2},\, g_i(x_i; \theta_i) \Big\rangle,
    \qquad \theta_N = \theta_0 - \beta \sum_i g_i

The objective is MTT's; θ_i counts as a constant, so that what later weights owe to earlier samples is left out.
``potstill.functional.unroll`` says how near it is; its mode ``replay`` is exact in the same memory. The released
program computes half of the paper's gradient by the inputs (it repeats a tuple where it should double one), so its
rates of inputs are halved here, where the gradient is the paper's. Its labels of a target network
(``--teacher_label``, for ImageNet) are not followed; learned labels may take their place.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from potstill.core import MethodInfo, Problem
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState
from potstill.methods.trajectory._published import TESLA as RUNS
from potstill.methods.trajectory._values import Published, TrajectoryFields, build_trajectory_engine

__all__ = ["TESLA"]


@dataclass(frozen=True, kw_only=True)
class TESLA(TrajectoryFields, EngineMethod[MatchingState]):
    """Train students along experts' trajectories, with an approximate gradient in constant memory."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory", paper="arXiv:2211.10586",
        year=2023, family="trajectory", training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
        use_when="Take it to compare with the paper, or where many student steps must fit a small memory.",
        avoid_when="Avoid it otherwise: mtt with replay is exact in the same memory, and this gradient leaves terms "
        "out; pictures alone.",
        related=("mtt", "att", "rat-bptt"),
    )  # fmt: skip
    published: ClassVar[Published] = RUNS

    mode: Literal["auto", "replay", "full", "by-memory", "tesla"] = "tesla"
    """Differentiation of the student's training; ``tesla`` is the paper's approximation."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        return build_trajectory_engine(self, problem)
