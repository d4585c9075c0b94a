r"""Minimax diffusion: Efficient Dataset Distillation via Minimax Diffusion (Gu et al., CVPR 2024, arXiv:2311.15529).

.. math::
    \min_\theta\; \lVert \epsilon - \epsilon_\theta(z_t, t, y) \rVert^2
    + \lambda_r \bigl(1 - \min_{m \in M_y} \cos(\hat z_\theta, m)\bigr)
    + \lambda_d \max_{d \in D_y} \cos(\hat z_\theta, d)

A trained model is fine-tuned so that what it predicts of a class, ẑ, comes nearer to the least similar real latent of
a memory M of that class, and away from the most similar of its own earlier predictions, D. Both hold the latest of each
class. Both terms are means over the classes of a batch, as in the released train_dit.py, and are left out where a
memory is empty. Then each class is sampled.

Trained are biases, norms and class embeddings only (DiffFit, arXiv:2304.06648), and samples are of the weights' moving
average, as there.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import Asset, Method, MethodInfo, Metrics, Payload, Presets, Problem, StepCost, Synthetic, UnitFloat
from potstill.errors import PotstillError
from potstill.functional.diffusion import diversity_loss, representativeness_loss
from potstill.functional.optim import adaptive_step, zeros
from potstill.methods.generative._sampling import (
    DiffusionConfig,
    class_latents,
    decode_all,
    label_assets,
    label_costs,
    labelled,
)
from potstill.pretraining.diffusion import LatentDiffusion, denoiser_loss
from potstill.rng import draw_seed, generator

__all__ = ["Minimax", "MinimaxState", "minimax_terms"]


@dataclass(frozen=True, kw_only=True)
class MinimaxState:
    weights: Payload
    """Trained weights of the denoiser."""
    average: Payload
    """Their moving average."""
    exp_avg: Payload
    exp_avg_sq: Payload
    real: dict[str, Tensor] = field(default_factory=dict)
    """Latents (m, d) of each class's real samples by its name, the latest last."""
    predicted: dict[str, Tensor] = field(default_factory=dict)
    """Predicted latents of each class."""
    step: int = 0
    seed: int
    """Seed of the final samples."""


def minimax_terms(
    predicted: Tensor, y: Tensor, real: dict[str, Tensor], earlier: dict[str, Tensor], names: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    """Return both terms of a batch: means over its classes; a class without a memory adds nothing.

    Args:
        predicted: predicted clean latents (n, d).
        y: their classes.
        real, earlier: memories by class name.
        names: class names in label order.
    """
    classes = sorted(set(y.tolist()))
    far, near = predicted.new_zeros(()), predicted.new_zeros(())
    for c in classes:
        if names[c] in earlier:
            far = far + representativeness_loss(predicted[y == c], real[names[c]]) / len(classes)
            near = near + diversity_loss(predicted[y == c], earlier[names[c]]) / len(classes)
    return far, near


@dataclass(frozen=True, kw_only=True)
class Minimax(DiffusionConfig, Method[MinimaxState]):
    """Fine-tuning of a diffusion model for representative and diverse samples."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Efficient Dataset Distillation via Minimax Diffusion", paper="arXiv:2311.15529", year=2024,
        family="generative",
        use_when="Take it where samples of a diffusion model repeat each other and some minutes of fine-tuning are no "
        "burden.",
        avoid_when="Avoid it where real pictures may be stored: on mnist-5k its samples were not told apart from plain "
        "ones, which lost to the best real pictures.",
        related=("mgd3", "d4m", "diffusion-samples"),
    )  # fmt: skip
    state_type: ClassVar[type] = MinimaxState
    presets: ClassVar[Presets] = {
        name: {**values, "iterations": iterations, "ema_decay": ema}
        for (name, values), iterations, ema in zip(
            DiffusionConfig.presets.items(), (1000, 4000), (0.99, 0.999), strict=True
        )
    }

    iterations: int = 12_000
    """Updates of the fine-tuning (run.sh samples the checkpoint of 12,000)."""
    batch: int = 8
    """Real samples of an update (run.sh, --global-batch-size)."""
    lr: float = 1e-3
    """Learning rate of AdamW without decay (train_dit.py)."""
    lambda_pos: float = 0.002
    """λ_r (train_dit.py); 0 leaves representativeness out."""
    lambda_neg: float = 0.008
    """λ_d (train_dit.py); 0 leaves diversity out."""
    memory: int = 64
    """Latents of each class in each memory (train_dit.py, --memory-size)."""
    ema_decay: UnitFloat = 0.9999
    """Decay of the moving average (train_dit.py)."""
    trained: Literal["difffit", "all"] = "difffit"
    """Weights that move: biases, norms and class embeddings, or all."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return (self.diffusion(), *label_assets(self.labeller(), problem))

    def init(self, problem: Problem, rng: Generator) -> MinimaxState:
        moving = {n: t for n, t in _model(problem).tensors.items() if n.startswith("denoiser/")}
        if self.trained == "difffit":
            moving = {n: t for n, t in moving.items() if n.endswith(("bias", "norm/weight", "class"))}
        moving = {n: t.detach().clone().to(problem.train.device) for n, t in moving.items()}
        return MinimaxState(
            weights=moving, average=moving, exp_avg=zeros(moving), exp_avg_sq=zeros(moving), seed=draw_seed(rng)
        )

    def step(self, problem: Problem, state: MinimaxState, rng: Generator) -> tuple[MinimaxState, Metrics]:
        model, names = _model(problem), tuple(problem.class_names)
        index = torch.randint(len(problem.train), (self.batch,), generator=rng)
        z, y = class_latents(problem, model, index), torch.as_tensor(problem.train.labels)[index]
        leaves = {n: t.detach().clone().requires_grad_() for n, t in state.weights.items()}
        fixed = {n: t.to(z) for n, t in model.tensors.items() if n.startswith("denoiser/")}
        with torch.enable_grad():
            loss, predicted = denoiser_loss(z, y, {**fixed, **leaves}, model.objective, rng)
            far, near = minimax_terms(predicted, y.to(z.device), state.real, state.predicted, names)
            total = loss + self.lambda_pos * far + self.lambda_neg * near
            grads = dict(zip(leaves, torch.autograd.grad(total, tuple(leaves.values())), strict=True))
        with torch.no_grad():
            weights, exp_avg, exp_avg_sq = adaptive_step(
                "adamw", leaves, grads, state.exp_avg, state.exp_avg_sq, state.step, lr=self.lr
            )
            average = {n: self.ema_decay * t + (1 - self.ema_decay) * weights[n] for n, t in state.average.items()}
        metrics = {"loss": float(loss.detach()), "far": float(far.detach()), "near": float(near.detach())}
        return replace(
            state, weights={n: t.detach() for n, t in weights.items()}, average=average, exp_avg=exp_avg,
            exp_avg_sq=exp_avg_sq, step=state.step + 1, real=self._pushed(state.real, z, y, names),
            predicted=self._pushed(state.predicted, predicted.detach(), y, names),
        ), metrics  # fmt: skip

    def _pushed(self, memory: dict[str, Tensor], z: Tensor, y: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        """Return a memory with new latents at its end, without the oldest that are too many."""
        found = dict(memory)
        for c in sorted(set(y.tolist())):
            rows = z[(y == c).to(z.device)]
            found[names[c]] = torch.cat([found.get(names[c], rows[:0]), rows])[-self.memory :]
        return found

    def done(self, problem: Problem, state: MinimaxState) -> bool:
        return state.step >= self.iterations

    def result(self, problem: Problem, state: MinimaxState) -> Synthetic:
        model, sampler = _model(problem).with_denoiser(state.average), self.sampler()
        made = []
        for c, (name, size) in enumerate(zip(problem.class_names, problem.sizes, strict=True)):
            rng = generator(state.seed, name)
            start = sampler.start((size, self.latent_dim), rng).to(problem.train.device)
            made.append(decode_all(model, sampler.denoise(model, start, c, rng)))
        return labelled(problem, torch.cat(made), self.labeller())

    def num_steps(self, problem: Problem) -> int:
        return self.iterations

    def step_costs(self, problem: Problem, state: MinimaxState) -> tuple[StepCost, ...]:
        def step() -> object:
            return self.step(problem, state, generator(0, "plan"))

        update = StepCost(what="an update", samples=self.batch, size=self.batch, real=True, ready=lambda _: step)
        return (update, *label_costs(self.labeller(), problem))


def _model(problem: Problem) -> LatentDiffusion:
    model = problem.assets["generator"]
    if not isinstance(model, LatentDiffusion):
        raise PotstillError(
            "minimax fine-tunes the model that Potstill trains, but generator is an object of another package; leave "
            "it out, or take mgd3, which needs no fine-tuning"
        )
    return model
