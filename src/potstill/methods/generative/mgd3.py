r"""MGD3: Mode-Guided Dataset Distillation using Diffusion Models (Chan-Santiago et al., ICML 2025, arXiv:2505.18963).

.. math::
    m_{c,1} \dots m_{c,n} = \text{k-means}\{E(x) : x \in \text{class } c\}, \qquad
    z_{t-1} = \mathrm{step}(z_t) + \lambda \sigma_t (m_{c,j} - \hat z_0(z_t)) \;\text{ while } t > t_{stop}

Mode discovery: the centres of a class's clusters of latents, one for each picture. Mode guidance: every step of the
sampler is drawn to one of them, σ being the standard deviation of a DDPM step. Stop guidance: the last steps are free,
so that pictures stay the model's.

The authors' program could not be read; this follows the paper and mode guidance in the released ManifoldGD, whose
further factor is the constant −1.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from potstill.core import MethodInfo, NonNegativeInt, Problem
from potstill.methods.engine import EngineMethod
from potstill.methods.generative._sampling import (
    ClasswiseSampling,
    DiffusionConfig,
    GeneratedState,
    Sampler,
    class_centres,
)
from potstill.pretraining.diffusion import DiffusionModel

__all__ = ["MGD3", "ModeGuide"]


@dataclass(frozen=True)
class ModeGuide:
    """Shift of every sample to its mode, until guidance stops (a `potstill.functional.diffusion.Guide`)."""

    modes: Tensor
    """One mode (n, …) for each sample."""
    scale: float
    stop: int
    """Steps at the end that are free."""

    def __call__(self, clean: Tensor, std: float, remaining: int) -> Tensor:
        """Return the shift after a step that ``remaining`` steps follow."""
        return (self.scale * std if remaining > self.stop else 0.0) * (self.modes - clean)


@dataclass(frozen=True, kw_only=True)
class _GuidedDraws:
    sampler: Sampler
    scale: float
    stop: int

    def __call__(self, problem: Problem, model: DiffusionModel, c: int, rng: Generator, /) -> Tensor:
        modes = class_centres(problem, model, c, rng)
        guide = ModeGuide(modes, self.scale, self.stop)
        start = self.sampler.start(tuple(modes.shape), rng).to(modes)
        return self.sampler.denoise(model, start, c, rng, guide=guide)


@dataclass(frozen=True, kw_only=True)
class MGD3(DiffusionConfig, EngineMethod[GeneratedState]):
    """Samples that are each drawn to another mode of their class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="MGD3: Mode-Guided Dataset Distillation using Diffusion Models", paper="arXiv:2505.18963", year=2025,
        family="generative",
        use_when="Take it where you have a diffusion model, no time to fine-tune it, and want each picture to show "
        "another mode of its class.",
        avoid_when="Avoid it where real pictures may be stored: on mnist-5k the best of them in the same bytes were "
        "ahead, and plain samples level.",
        related=("d4m", "minimax", "diffusion-samples"),
    )  # fmt: skip
    state_type: ClassVar[type] = GeneratedState

    mode_guidance: float = 0.1
    """λ: weight of the pull to a mode (ManifoldGD, --mode_guidance_scale); 0: plain samples."""
    stop: NonNegativeInt = 25
    """Steps at the end without that pull (ManifoldGD's scripts, --stop_t: 25 of 50)."""

    def build_engine(self, problem: Problem) -> ClasswiseSampling:
        return self.classwise(_GuidedDraws(sampler=self.sampler(), scale=self.mode_guidance, stop=self.stop))
