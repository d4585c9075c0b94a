r"""D4M: Dataset Distillation via Disentangled Diffusion Model (Su et al., CVPR 2024, arXiv:2407.15138).

.. math::
    z_{c,1} \dots z_{c,m} = \text{k-means}\{E(x) : x \in \text{class } c\}, \qquad
    \tilde x = D(\mathrm{denoise}(\sqrt{\bar\alpha_t} z_{c,j} + \sqrt{1 - \bar\alpha_t} \epsilon,\, y_c)), \quad
    t = s T

Nothing is optimised: the centre of each cluster of a class's latents is a prototype; it is noised up to the part s of
all times, denoised with its class, and decoded. Published labels are soft, per epoch and crop.

Clusters are those of Lloyd's algorithm on all of a class. The released program (gen_prototype.py) takes scikit-learn's
mini-batches in the order of loading; what is left over at the end it fits for the last class only.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import MethodInfo, Problem, UnitFloat
from potstill.functional.diffusion import add_noise, sampling_times
from potstill.methods.engine import EngineMethod
from potstill.methods.generative._sampling import (
    ClasswiseSampling,
    DiffusionConfig,
    GeneratedState,
    Sampler,
    class_centres,
)
from potstill.pretraining.diffusion import DiffusionModel

__all__ = ["D4M"]


@dataclass(frozen=True, kw_only=True)
class _Prototypes:
    sampler: Sampler
    strength: float

    def __call__(self, problem: Problem, model: DiffusionModel, c: int, rng: Generator, /) -> Tensor:
        z = class_centres(problem, model, c, rng)
        times = sampling_times(self.sampler.steps, len(model.rates), self.strength)
        if not times:
            return z
        noised = add_noise(z, torch.randn(z.shape, generator=rng).to(z), model.rates[times[0]].to(z))
        return self.sampler.denoise(model, noised, c, rng, strength=self.strength)


@dataclass(frozen=True, kw_only=True)
class D4M(DiffusionConfig, EngineMethod[GeneratedState]):
    """Prototypes of latents by k-means, noised and denoised."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="D4M: Dataset Distillation via Disentangled Diffusion Model", paper="arXiv:2407.15138", year=2024,
        family="generative",
        training={"optimizer": "adamw", "lr": 0.001, "epochs": 300, "temperature": 20},
        use_when="Take it where you have a diffusion model of large pictures: it trains nothing and denoises each "
        "picture once.",
        avoid_when="Avoid its noise with the small model that is trained here: on mnist-5k prototypes that are decoded "
        "without it (strength=0) had a higher mean.",
        related=("mgd3", "k-means", "diffusion-samples"),
    )  # fmt: skip
    state_type: ClassVar[type] = GeneratedState

    labels: Literal["hard", "soft"] = "soft"
    """One soft label of the teacher's per picture, or its class. Published are soft labels per epoch and crop."""
    guidance: float = 8.0
    """Scale of classifier-free guidance (gen_syn_image.py, --guidance_scale); 1: the conditional model alone."""
    eta: float = 0.0
    """Noise on the way: 0 is DDIM, without noise as the released pipeline's scheduler; 1 as much as DDPM's steps."""
    strength: UnitFloat = 0.75
    """s: part of all times that a prototype is noised to (gen_syn_image.py; its scripts take 0.7). 0: the prototypes
    themselves are decoded."""

    def build_engine(self, problem: Problem) -> ClasswiseSampling:
        return self.classwise(_Prototypes(sampler=self.sampler(), strength=self.strength))
