"""Shared parts of methods over a diffusion model: settings, samples, and an engine that makes class by class."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from potstill.core import Asset, Metrics, NonNegativeInt, Presets, Problem, StepCost, Synthetic
from potstill.functional.coreset import k_means
from potstill.functional.diffusion import Guide, denoise_samples, guided_noise, sampling_times
from potstill.methods.decoupled._teachers import Labeller, TeacherConfig
from potstill.methods.engine import hard_labels, has_classes, initial_inputs
from potstill.pretraining.diffusion import Diffusion, DiffusionModel, Objective
from potstill.rng import draw_seed, generator

__all__ = [
    "ClassSampler", "ClasswiseSampling", "DiffusionConfig", "GeneratedState", "Sampler", "class_centres",
    "class_latents", "latent_shape",
]  # fmt: skip

_CHUNK = 500
"""Pictures or latents that pass a model at once."""


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Settings of a sampler with classifier-free guidance."""

    guidance: float
    steps: int
    eta: float

    def start(self, shape: tuple[int, ...], rng: Generator) -> Tensor:
        """Return draws from N(0, 1)."""
        return torch.randn(shape, generator=rng)

    def denoise(
        self, model: DiffusionModel, x: Tensor, c: int, rng: Generator, *, strength: float = 1.0,
        guide: Guide | None = None,
    ) -> Tensor:  # fmt: skip
        """Return clean latents (n, …) of class ``c`` from noised ones, at the part ``strength`` of all times."""
        y, none = torch.full((len(x),), c), torch.full((len(x),), -1)
        y, none = y.to(x.device), none.to(x.device)

        def predict(x_t: Tensor, t: int) -> Tensor:
            times = torch.full((len(x_t),), t, device=x_t.device)
            noise = model.eps(x_t, times, y)
            return noise if self.guidance == 1 else guided_noise(noise, model.eps(x_t, times, none), self.guidance)

        times = sampling_times(self.steps, len(model.rates), strength)
        with torch.no_grad():
            return denoise_samples(x, predict, model.rates, times, eta=self.eta, rng=rng, guide=guide)


@runtime_checkable
class ClassSampler(Protocol):
    """A method's way to make the latents of a class."""

    def __call__(self, problem: Problem, model: DiffusionModel, c: int, rng: Generator, /) -> Tensor:
        """Return as many latents (n, …) of class ``c`` as the problem has items of it."""
        ...


def latent_shape(problem: Problem, model: DiffusionModel) -> tuple[int, ...]:
    """Return the shape of one latent."""
    return tuple(class_latents(problem, model, problem.class_indices[0][:1]).shape[1:])


def class_latents(problem: Problem, model: DiffusionModel, index: Tensor) -> Tensor:
    """Return the latents of some real samples."""
    with torch.no_grad():
        return torch.cat([model.encode(_raw(problem, part)) for part in torch.split(index, _CHUNK)])


def class_centres(problem: Problem, model: DiffusionModel, c: int, rng: Generator) -> Tensor:
    """Return k-means centres of a class's latents, one for each of its items; where it has fewer samples than items,
    they come again."""
    z, size = class_latents(problem, model, problem.class_indices[c]), problem.sizes[c]
    centres, _ = k_means(z.flatten(1), min(size, len(z)), rng)
    return centres[torch.arange(size) % len(centres)].reshape(size, *z.shape[1:])


def decode_all(model: DiffusionModel, z: Tensor) -> Tensor:
    """Return pictures in data units."""
    with torch.no_grad():
        return torch.cat([model.decode(part) for part in torch.split(z, _CHUNK)]).clamp(0, 1)


def _raw(problem: Problem, index: Tensor) -> Tensor:
    return torch.as_tensor(problem.train.raw(index)).float().to(problem.train.device)


@dataclass(frozen=True, kw_only=True)
class GeneratedState:
    x: Tensor
    """All items in data units, classes in label order."""
    seed: int
    """Seed of the draws of each class."""
    classes: int = 0
    """Number of finished classes."""


@dataclass(frozen=True, kw_only=True)
class ClasswiseSampling:
    """Engine whose step makes the pictures of one class; until then they are random real samples."""

    asset: Diffusion
    sample: ClassSampler
    labeller: Labeller

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return (self.asset, *label_assets(self.labeller, problem))

    def init(self, problem: Problem, rng: Generator) -> GeneratedState:
        return GeneratedState(x=initial_inputs(problem, "real", rng, "data"), seed=draw_seed(rng))

    def step(self, problem: Problem, state: GeneratedState, rng: Generator) -> tuple[GeneratedState, Metrics]:
        c = state.classes
        if c not in problem.shard_classes:
            return replace(state, classes=c + 1), {}
        model: DiffusionModel = problem.assets[self.asset.name]
        z = self.sample(problem, model, c, generator(state.seed, problem.class_names[c]))
        made, first = decode_all(model, z).to(state.x), sum(problem.sizes[:c])
        x = torch.cat([state.x[:first], made, state.x[first + len(made) :]])
        return replace(state, x=x, classes=c + 1), {"latent_std": float(z.std(correction=0))}

    def done(self, problem: Problem, state: GeneratedState) -> bool:
        return state.classes >= problem.num_classes

    def result(self, problem: Problem, state: GeneratedState) -> Synthetic:
        return labelled(problem, state.x, self.labeller)

    def num_steps(self, problem: Problem) -> int:
        return problem.num_classes

    def shard_obstacle(self, problem: Problem) -> str | None:
        return None if has_classes(problem) else f"{problem.task.name} has no classes to divide"

    def join_shards(self, problem: Problem, parts: Sequence[tuple[range, GeneratedState]]) -> GeneratedState:
        rows = [slice(sum(problem.sizes[: r.start]), sum(problem.sizes[: r.stop])) for r, _ in parts]
        x = torch.cat([s.x[at] for at, (_, s) in zip(rows, parts, strict=True)])
        return replace(parts[0][1], x=x, classes=min(s.classes for _, s in parts))

    def step_costs(self, problem: Problem, state: GeneratedState) -> tuple[StepCost, ...]:
        largest = max(range(problem.num_classes), key=lambda c: len(problem.class_indices[c]))
        size = min(_CHUNK, max(problem.sizes[largest], len(problem.class_indices[largest])))

        def make() -> object:
            return self.step(problem, replace(state, classes=largest), generator(0, "plan"))[1]

        made = StepCost(what="pictures of a class", samples=size, size=size, real=True, ready=lambda _: make)
        return (made, *label_costs(self.labeller, problem))


def label_assets(labeller: Labeller, problem: Problem) -> tuple[Asset, ...]:
    """Return the teachers, where labels are soft."""
    return labeller.teachers.assets(problem) if labeller.soft else ()


def label_costs(labeller: Labeller, problem: Problem) -> tuple[StepCost, ...]:
    """Return the cost of the labels, where they are soft."""
    return (labeller.step_cost(problem),) if labeller.soft else ()


def labelled(problem: Problem, x: Tensor, labeller: Labeller) -> Synthetic:
    """Return a set of pictures in data units with hard labels, or the teachers'."""
    labels = labeller.labels(problem, problem.train.normalization.apply(x)) if labeller.soft else hard_labels(problem)
    return Synthetic(payload={"inputs": x}, labels=labels, space="data")


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(TeacherConfig):
    """Fields of a diffusion model over the latents of an autoencoder, of its sampler and of labels."""

    presets: ClassVar[Presets] = {
        "quick": {"guidance": 1.0, "teacher_epochs": 10}, "good": {"guidance": 1.0, "teacher_epochs": 20},
    }  # fmt: skip

    labels: Literal["hard", "soft"] = "hard"
    """The class of each picture, or one soft label of a teacher that is trained on the real data."""
    network: str = "convnet"
    """The teacher's architecture, for soft labels (published: ResNet-18)."""
    guidance: float = 4.0
    """Scale of classifier-free guidance (sample.py of Minimax diffusion and of DiT); 1: the conditional model alone."""
    sampling_steps: int = 50
    """Steps of the sampler (sample.py, --num-sampling-steps)."""
    eta: float = 1.0
    """Noise on the way: 0 is DDIM (Euler), 1 as much as the DDPM steps of sample.py."""
    objective: Objective = "noise"
    """Training of the small model: to predict ``noise``, as published, or by ``flow`` matching."""
    diffusion_updates: int = 4000
    """Updates of that training. Ours: published are large models that are trained elsewhere."""
    diffusion_width: int = 192
    """Width of the model's layers (ours)."""
    latent_dim: int = 16
    """Numbers of a latent (ours); this and the next two are as in parametrization ``latents``, which shares the
    autoencoder."""
    autoencoder_width: int = 16
    """Channels of the autoencoder (ours)."""
    autoencoder_epochs: NonNegativeInt = 10
    """Epochs of the autoencoder's training (ours)."""

    def diffusion(self) -> Diffusion:
        """Return the model as an asset."""
        return Diffusion(
            dim=self.latent_dim, width=self.autoencoder_width, epochs=self.autoencoder_epochs,
            hidden=self.diffusion_width, updates=self.diffusion_updates, objective=self.objective,
        )  # fmt: skip

    def sampler(self) -> Sampler:
        """Return the sampler."""
        return Sampler(guidance=self.guidance, steps=self.sampling_steps, eta=self.eta)

    def labeller(self) -> Labeller:
        """Return the labeller of the result; its teachers need no BatchNorm."""
        return Labeller(teachers=self.teachers(False), soft=self.labels == "soft", temperature=self.temperature)

    def classwise(self, sample: ClassSampler) -> ClasswiseSampling:
        """Return the engine that makes each class by ``sample``."""
        return ClasswiseSampling(asset=self.diffusion(), sample=sample, labeller=self.labeller())
