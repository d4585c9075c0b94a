"""The gradient-matching step that DC, DSA, IDC and DREAM share; they differ in fields and in what trains the net."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import Method, Metrics, Network, Part, Problem, Space, Synthetic
from potstill.functional.gradient import Distance
from potstill.functional.sampling import draw_per_class
from potstill.functional.train import gradients, parameters, train_step
from potstill.methods._matching import Labels, Outer, Rule, Start, descend, image, inputs_of, start, synthetic
from potstill.methods._networks import load
from potstill.methods.gradient._samples import all_of_class, frozen_statistics, representative
from potstill.rng import draw_seed, generator

__all__ = ["GradientMatching", "GradientState", "Sampler"]

Sampler = Literal["random", "k-means"]
"""How real samples are drawn: at random, or those nearest to k-means centres of their features (DREAM)."""


@dataclass(frozen=True, kw_only=True)
class GradientState:
    outer: Outer
    theta: Mapping[str, Tensor]
    """Parameters of the network whose gradients are matched, and which trains between the updates."""
    velocity: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    seed: int
    """What the network was made from."""
    loop: int
    """Updates made with this network."""
    iteration: int
    """Networks used up."""
    sample: tuple[Tensor, ...] = ()
    """Real samples of each class, while they are used for several steps."""


@dataclass(frozen=True, kw_only=True)
class GradientMatching(Method[GradientState]):
    """Abstract: one step is one update of the synthetic data, and the network's training that follows it.

    The fields are those of the final classes, where their defaults and sources stand.
    """

    state_type: ClassVar[type] = GradientState
    iterations: int
    batch_real: int
    start: Start
    labels: Labels = "hard"
    """Learned labels join the optimisation. Ours; hard as published."""
    lr_labels: float = 0.1
    """Learning rate of the labels' logits, where they are learned. Ours."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """What moves the stored values. Parametrizations with weights of their own (``field``) need AdamW."""

    # --- what a method says -------------------------------------------------------------------------------------

    @abstractmethod
    def loops(self, ipc: int) -> int:
        """Updates with one network."""

    @abstractmethod
    def rule(self, problem: Problem, last: bool) -> Rule:
        """How what is stored moves; ``last``: at the last update with this network."""

    @abstractmethod
    def distance(self) -> Distance:
        """Of the synthetic gradients from the real ones."""

    @abstractmethod
    def train(self, problem: Problem, net: Network, state: GradientState, rng: Generator) -> GradientState:
        """The network's training between two updates."""

    def training(self, problem: Problem) -> tuple[bool, int, int] | None:
        """For a plan: whether that training sees real samples, how many at once, and how many in all."""
        return None

    def sampling(self) -> tuple[Sampler, int]:
        """How real samples are drawn, and how many updates one draw serves."""
        return "random", 1

    def classwise(self) -> bool:
        """Whether each class has a step of its own."""
        return False

    def most(self) -> int:
        """Synthetic samples of a class that one update looks at, at most; 0 for all."""
        return 0

    # --- the four verbs -----------------------------------------------------------------------------------------

    def init(self, problem: Problem, rng: Generator) -> GradientState:
        # centres are taken in the network that is matched first, as DREAM's condense.py does
        seed = draw_seed(rng) if self.start == "k-means" else None
        state = GradientState(
            outer=start(problem, self.start, rng, self._rule(problem, False), self.labels, seed),
            theta={}, velocity={}, buffers={}, seed=0, loop=0, iteration=0,
        )  # fmt: skip
        return self._fresh(problem, state, rng, seed)

    def step(self, problem: Problem, state: GradientState, rng: Generator) -> tuple[GradientState, Metrics]:
        net = problem.network(state.seed).train()
        k, last = problem.num_classes, state.loop + 1 >= self.loops(problem.ipc)
        state = replace(state, buffers=frozen_statistics(net, state.theta, state.buffers, problem, rng))
        drawn = self._drawn(problem, net, state, rng)
        shape = problem.train.input.shape
        omega = [problem.augment.draw(1, shape, rng) for _ in range(k)]
        seen = [self._seen(size, rng) for size in problem.sizes]
        outer, loss = state.outer, 0.0
        for group in [[c] for c in range(k)] if self.classwise() else [list(range(k))]:

            def objective(S: Tensor, Y: Tensor | None, group: list[int] = group) -> tuple[float, Tensor, Tensor | None]:
                return self._objective(problem, net, state, drawn, omega, seen, S, Y, group)

            outer, value = descend(problem, outer, objective, self._rule(problem, last and group[-1] == k - 1))
            loss += value
        interval = self.sampling()[1]
        kept = drawn if interval > 1 and (state.loop + 1) % interval else ()
        after = replace(state, outer=outer, loop=state.loop + 1, sample=kept)
        if last:
            return self._fresh(problem, replace(after, iteration=after.iteration + 1), rng), {"loss": loss / k}
        return self.train(problem, net.train(), after, rng), {"loss": loss / k}

    def done(self, problem: Problem, state: GradientState) -> bool:
        return state.iteration >= self.iterations

    def result(self, problem: Problem, state: GradientState) -> Synthetic:
        return synthetic(problem, state.outer, self.space)

    def horizon(self, problem: Problem) -> int:
        return self.iterations * self.loops(problem.ipc)

    def parts(self, problem: Problem, state: GradientState) -> tuple[Part, ...]:
        rng, k = generator(0, "plan"), problem.num_classes
        net = problem.network(state.seed).eval()  # only a BatchNorm tells the difference, and a step freezes it
        drawn = draw_per_class(problem.by_class, self.batch_real, rng)
        omega = [problem.augment.draw(1, problem.train.input.shape, rng) for _ in range(k)]
        seen = [self._seen(size, rng) for size in problem.sizes]
        S, rows = inputs_of(problem, state.outer, self.space)
        Y = rows if rows.is_floating_point() else None
        largest = max(range(k), key=lambda c: len(drawn[c]) + len(seen[c]))

        def match() -> object:
            return self._objective(problem, net, state, drawn, omega, seen, S, Y, [largest])[0]

        matching = Part(
            what="gradients of a class", real=True, samples=sum(map(len, drawn)), size=len(drawn[largest]),
            ready=lambda _: match, when="descent",
        )  # fmt: skip
        made, trained = [matching], self.training(problem)
        if self.sampling()[0] == "k-means":
            index = max(problem.by_class, key=len)
            still = problem.network(state.seed).eval().requires_grad_(False)

            def choose() -> object:
                return representative(problem, still, index, self.batch_real, rng)

            made.append(Part(
                what="choice of real samples", real=True, samples=len(problem.train), size=len(index),
                ready=lambda _: choose, every=self.sampling()[1],
            ))  # fmt: skip
        if trained is not None and self.loops(problem.ipc) > 1:
            real, batch, samples = trained
            x = image(problem.train.fetch(torch.arange(min(batch, samples))).x) if real else S[:batch]
            y = torch.zeros(len(x), dtype=torch.int64, device=x.device)

            def train() -> object:
                z = problem.augment.apply(x, problem.augment.draw(len(x), problem.train.input.shape, rng))
                return train_step(net, state.theta, state.velocity, z, y, lr=0.0, momentum=0.9, buffers=state.buffers)

            what = "the network's training"
            made.append(Part(what=what, real=real, samples=samples, size=len(x), ready=lambda _: train, when="after"))
        return tuple(made)

    # --- parts --------------------------------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        """What the payload decodes to."""
        return "model"

    def _objective(
        self, problem: Problem, net: Network, state: GradientState, drawn: tuple[Tensor, ...], omega: list[object],
        seen: list[Tensor], S: Tensor, Y: Tensor | None, classes: list[int],
    ) -> tuple[float, Tensor, Tensor | None]:  # fmt: skip
        A, D, loss = problem.augment.apply, self.distance(), 0.0
        by_S, by_Y = torch.zeros_like(S), None if Y is None else torch.zeros_like(Y)
        firsts = [0, *torch.tensor(problem.sizes).cumsum(0).tolist()]
        for c in classes:
            rows = firsts[c] + seen[c]
            T_c = image(problem.train.fetch(drawn[c]).x)
            g_T = gradients(net, state.theta, A(T_c, omega[c]), all_of_class(c, T_c), buffers=state.buffers)
            leaves = [S[rows].requires_grad_()]
            y = all_of_class(c, leaves[0])
            if Y is not None:
                leaves.append(Y[rows].requires_grad_())
                y = leaves[1]
            with torch.enable_grad():
                s = A(leaves[0], omega[c])
                g_S = gradients(net, state.theta, s, y, create_graph=True, buffers=state.buffers)
                gap = D(g_S, g_T)
            found = torch.autograd.grad(gap, leaves)
            by_S[rows] = found[0]
            if by_Y is not None:
                by_Y[rows] = found[1]
            loss += float(gap.detach())
        return loss, by_S, by_Y

    def _rule(self, problem: Problem, last: bool) -> Rule:
        return replace(self.rule(problem, last), optimizer=self.optimizer)

    def _drawn(self, problem: Problem, net: Network, state: GradientState, rng: Generator) -> tuple[Tensor, ...]:
        if state.sample:
            return state.sample
        if self.sampling()[0] == "random":
            return draw_per_class(problem.by_class, self.batch_real, rng)
        embedder = load(problem, state.seed, state.theta, state.buffers).eval().requires_grad_(False)
        return tuple(representative(problem, embedder, index, self.batch_real, rng) for index in problem.by_class)

    def _seen(self, size: int, rng: Generator) -> Tensor:
        """Which of a class's synthetic samples this update looks at."""
        most = self.most()
        return torch.randperm(size, generator=rng)[:most] if 0 < most < size else torch.arange(size)

    def _fresh(self, problem: Problem, state: GradientState, rng: Generator, made: int | None = None) -> GradientState:
        """The state with a new network, from the seed ``made`` or from one that is drawn."""
        seed = draw_seed(rng) if made is None else made
        net = problem.network(seed)
        theta = parameters(net)
        return replace(
            state, theta=theta, velocity={n: torch.zeros_like(p) for n, p in theta.items()},
            buffers={n: b.detach().clone() for n, b in net.named_buffers()}, seed=seed, loop=0, sample=(),
        )  # fmt: skip
