r"""Plain samples of a class-conditional diffusion model: the control of every method that guides or fine-tunes one.

.. math::
    \tilde x = \mathrm{decode}(z_0), \qquad
    z_{t-1} = \mathrm{step}(z_t, \epsilon_\theta(z_t, t, y)), \qquad z_T \sim N(0, 1)

The model is DiT's idea in small (Peebles & Xie, ICCV 2023, arXiv:2212.09748): `potstill.pretraining.diffusion`, trained
on the same data, or a person's own (``generator=``). Nothing looks at the real data but the model's training.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import MethodInfo, Problem
from potstill.methods.engine import EngineMethod
from potstill.methods.generative._sampling import (
    ClasswiseSampling,
    DiffusionConfig,
    GeneratedState,
    Sampler,
    latent_shape,
)
from potstill.pretraining.diffusion import DiffusionModel

__all__ = ["DiffusionSamples"]


@dataclass(frozen=True, kw_only=True)
class _Draws:
    sampler: Sampler

    def __call__(self, problem: Problem, model: DiffusionModel, c: int, rng: Generator, /) -> Tensor:
        start = self.sampler.start((problem.sizes[c], *latent_shape(problem, model)), rng)
        return self.sampler.denoise(model, start.to(problem.train.device), c, rng)


@dataclass(frozen=True, kw_only=True)
class DiffusionSamples(DiffusionConfig, EngineMethod[GeneratedState]):
    """Samples of a diffusion model, neither guided nor chosen."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Scalable Diffusion Models with Transformers: plain samples", paper="arXiv:2212.09748", year=2023,
        family="generative",
        use_when="Take it as the control of a method that guides or fine-tunes a diffusion model: it costs the model "
        "and nothing else.",
        avoid_when="Avoid it as a set of its own: on mnist-5k plain samples of the small model were no better "
        "than random real pictures in the same bytes.",
        related=("d4m", "mgd3", "minimax"),
    )  # fmt: skip
    state_type: ClassVar[type] = GeneratedState

    def build_engine(self, problem: Problem) -> ClasswiseSampling:
        return self.classwise(_Draws(sampler=self.sampler()))
