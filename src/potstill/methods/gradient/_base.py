"""The gradient-matching step that DC and DSA share; they differ in their fields only."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from potstill.core import Method, Metrics, Network, Problem, Synthetic
from potstill.functional.gradient import distance
from potstill.functional.sampling import draw_per_class
from potstill.functional.train import gradients, parameters, train_step
from potstill.methods._matching import decoded_sizes, image, start, synthetic, update
from potstill.rng import draw_seed

__all__ = ["GradientMatching", "GradientState", "published_loops"]

BATCH_NORM_SAMPLES = 16
"""Real samples per class whose statistics a BatchNorm network is frozen with (main.py, BNSizePC)."""

_LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


def published_loops(ipc: int) -> tuple[int, int]:
    """(outer, inner) loops by items per class: the published table (utils.py, get_loops).

    Other ipc, for which the published program exits, follow the trend: outer = ipc, inner = 500 / ipc, at most 50.
    """
    return _LOOPS.get(ipc, (ipc, min(50, max(1, 500 // ipc))))


@dataclass(frozen=True, kw_only=True)
class GradientState:
    payload: Mapping[str, Tensor]
    velocity: Mapping[str, Tensor]
    theta: Mapping[str, Tensor]
    """Parameters of the network that is being trained on the synthetic data."""
    buffers: Mapping[str, Tensor]
    seed: int
    """What the network was made from."""
    outer: int
    """Updates made with this network."""
    iteration: int
    """Networks used up."""


class GradientMatching(Method[GradientState]):
    """Abstract: one step is one update of the synthetic data, and the network's training that follows it.

    The fields are those of the final classes, where their defaults and sources stand.
    """

    state_type: ClassVar[type] = GradientState
    augmented_training: ClassVar[bool]
    """Whether the network trains on augmented synthetic samples."""
    iterations: int
    lr: float
    momentum: float
    lr_net: float
    batch_real: int
    batch_train: int
    outer: int | None
    inner: int | None
    metric: Literal["ours", "mse", "cos"]
    start: Literal["real", "noise"]

    def loops(self, ipc: int) -> tuple[int, int]:
        """(outer, inner) loops: the fields, or the published ones where a field is None."""
        outer, inner = published_loops(ipc)
        return outer if self.outer is None else self.outer, inner if self.inner is None else self.inner

    def init(self, problem: Problem, rng: Generator) -> GradientState:
        payload = start(problem, self.start, rng)
        state = GradientState(
            payload=payload,
            velocity={n: torch.zeros_like(p) for n, p in payload.items()},
            theta={}, buffers={}, seed=0, outer=0, iteration=0,
        )  # fmt: skip
        return _fresh(problem, state, rng)

    def step(self, problem: Problem, state: GradientState, rng: Generator) -> tuple[GradientState, Metrics]:
        net = problem.network(state.seed).train()
        sizes, k = decoded_sizes(problem), problem.num_classes
        buffers = _frozen_statistics(net, state, problem, rng)
        drawn = draw_per_class(problem.by_class, self.batch_real, rng)
        omega = [problem.augment.draw(1, problem.train.input.shape, rng) for _ in sizes]
        A, D = problem.augment.apply, distance(self.metric)

        def objective(S: Tensor) -> tuple[float, Tensor]:
            loss, gradient = 0.0, []
            for c, S_c in enumerate(torch.split(S, list(sizes))):
                T_c = image(problem.train.fetch(drawn[c]).x)
                g_T = gradients(net, state.theta, A(T_c, omega[c]), _labels(c, T_c), buffers=buffers)
                s = S_c.detach().requires_grad_()
                with torch.enable_grad():
                    g_S = gradients(net, state.theta, A(s, omega[c]), _labels(c, s), create_graph=True, buffers=buffers)
                    gap = D(g_S, g_T)
                gradient.append(torch.autograd.grad(gap, s)[0])
                loss += float(gap.detach())
            return loss, torch.cat(gradient)

        payload, velocity, loss = update(
            problem, state.payload, state.velocity, objective, lr=self.lr, momentum=self.momentum
        )
        after = replace(state, payload=payload, velocity=velocity, buffers=buffers, outer=state.outer + 1)
        outer, inner = self.loops(problem.ipc)
        if after.outer >= outer:
            return _fresh(problem, replace(after, iteration=after.iteration + 1), rng), {"loss": loss / k}
        return self._train(net.train(), problem, after, inner, rng), {"loss": loss / k}

    def _train(
        self, net: Network, problem: Problem, state: GradientState, epochs: int, rng: Generator
    ) -> GradientState:
        """``epochs`` of plain SGD on the synthetic data, per-sample augmentation where the method trains with it."""
        S = problem.parametrization.decode(state.payload).detach()
        y = synthetic(problem, state.payload).labels
        theta, buffers = state.theta, state.buffers
        for _ in range(epochs):
            for batch in torch.split(torch.randperm(len(S), generator=rng), self.batch_train):
                x = S[batch]
                if self.augmented_training:
                    x = problem.augment.apply(x, problem.augment.draw(len(batch), problem.train.input.shape, rng))
                stepped = train_step(net, theta, None, x, y[batch].to(S.device), lr=self.lr_net, buffers=buffers)
                theta, buffers = stepped.params, stepped.buffers
        return replace(state, theta=theta, buffers=buffers)

    def done(self, problem: Problem, state: GradientState) -> bool:
        return state.iteration >= self.iterations

    def result(self, problem: Problem, state: GradientState) -> Synthetic:
        return synthetic(problem, state.payload)

    def horizon(self, problem: Problem) -> int:
        return self.iterations * self.loops(problem.ipc)[0]


def _labels(c: int, x: Tensor) -> Tensor:
    return torch.full((len(x),), c, dtype=torch.int64, device=x.device)


def _fresh(problem: Problem, state: GradientState, rng: Generator) -> GradientState:
    """The state with a newly initialised network."""
    seed = draw_seed(rng)
    net = problem.network(seed)
    buffers = {n: b.detach().clone() for n, b in net.named_buffers()}
    return replace(state, theta=parameters(net), buffers=buffers, seed=seed, outer=0)


def _frozen_statistics(net: Network, state: GradientState, problem: Problem, rng: Generator) -> Mapping[str, Tensor]:
    """BatchNorm statistics from real samples of all classes; leaves the norm layers of ``net`` in eval mode.

    One synthetic sample per class is too few for them. Networks without BatchNorm are left alone, nothing is drawn.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return state.buffers
    x = image(problem.train.fetch(torch.cat(draw_per_class(problem.by_class, BATCH_NORM_SAMPLES, rng))).x)
    buffers = {n: b.clone() for n, b in state.buffers.items()}
    with torch.no_grad():
        torch.func.functional_call(net, {**state.theta, **buffers}, (x,))
    for norm in norms:
        norm.eval()
    return buffers
