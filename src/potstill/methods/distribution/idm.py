r"""IDM: Improved Distribution Matching for Dataset Condensation (Zhao et al., CVPR 2023, arXiv:2307.09742).

.. math::
    L = \sum_c \Big\lVert E_{T_c}\, \psi_\theta(A_\omega(x)) - E_{S_c}\, \psi_\theta(A_\omega(s)) \Big\rVert^2
        + \lambda\, a_\theta \sum_c E_{S_c}\, \ell(f_\theta(A_\omega(s)), c)

θ is drawn from a pool of networks of several ages that train on real samples along the way, a_θ the accuracy (in
percent) that the network had on the samples it met. What is stored decodes to four inputs each (partition and
expansion). The accuracies count anew every hundred steps (the release resets its meters whenever it measures the set),
so that a network that has not trained since weighs the second term with 0: of 100 networks of which two train at a
step, 43 % of the steps have none. The released parser's defaults are DM's; the fields here are those of its
``command.txt``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.core import MethodInfo, Network, NonNegativeInt, Presets, Problem, StepCost, UnitFloat
from potstill.labels.teacher import SGD, Teacher, teacher_step
from potstill.methods.distribution._statistics import MEANS, Views
from potstill.methods.distribution._values import FeatureMatchingFields, feature_matching
from potstill.methods.engine import (
    EngineMethod,
    MatchingEngine,
    MatchingState,
    PoolMember,
    load_network,
    new_pool_member,
)
from potstill.rng import generator

__all__ = ["IDM"]


@final
@dataclass(frozen=True, kw_only=True)
class TrainingPool:
    """One network of the pool embeds; after each block some train, and sometimes a new one joins."""

    initial_size: int
    max_size: int
    every: int
    """Steps between additions."""
    num_trained: int
    steps: int
    batch: int
    lr: float
    forget_every: int
    steps_per_network: int

    def init_state(self, problem: Problem, state: MatchingState, rng: Generator, seed: int | None) -> MatchingState:
        return replace(state, pool=tuple(new_pool_member(problem, rng) for _ in range(self.initial_size)))

    def draw_networks(self, problem: Problem, state: MatchingState, rng: Generator) -> tuple[Network, Network | None]:
        member = pool_member(state)
        return load_network(problem, member.seed, member.theta, member.buffers).eval(), None

    def advance(self, problem: Problem, state: MatchingState, net: Network, rng: Generator) -> MatchingState:
        state = replace(state, iteration=state.iteration + 1)
        if state.block_steps:
            return state  # networks are fixed within a block
        pool = list(state.pool)
        for place in torch.randperm(len(pool), generator=rng)[: self.num_trained].tolist():
            pool[place] = self._after_training(problem, pool[place], rng, self.steps)
        if state.iteration % self.every == 0:
            pool = [*pool, new_pool_member(problem, rng)][-self.max_size :]
        if self.forget_every and state.iteration % self.forget_every == 0:
            pool = [replace(member, num_correct=0, num_samples=0) for member in pool]
        return replace(state, pool=tuple(pool))

    def step_costs(self, problem: Problem, state: MatchingState) -> tuple[StepCost, ...]:
        def train(_: int) -> Callable[[], object]:
            return lambda: self._after_training(problem, state.pool[0], generator(0, "plan"), 1)

        def join(n: int) -> Callable[[], object]:
            return lambda: [new_pool_member(problem, generator(0, "plan")) for _ in range(n)]

        return (
            StepCost(
                what="the networks' training", real=True, samples=self.num_trained * self.steps * self.batch,
                size=min(self.batch, len(problem.train)), ready=train, every=self.steps_per_network, when="after",
            ),
            StepCost(
                what="networks that join the pool", samples=0, size=0,
                classes=max(0, self.max_size - self.initial_size), ready=join, every=self.every, stays=True,
            ),
        )  # fmt: skip

    def _after_training(self, problem: Problem, member: PoolMember, rng: Generator, steps: int) -> PoolMember:
        """Train by SGD on random real samples and count correct predictions before each step."""
        net = problem.network(member.seed).train()
        teacher = Teacher(
            params=member.theta, velocity=member.velocity, buffers=member.buffers, num_correct=member.num_correct,
            num_seen=member.num_samples,
        )  # fmt: skip
        for _ in range(steps):
            teacher, _ = teacher_step(net, teacher, problem.train, rng, SGD(batch=self.batch, lr=self.lr))
        return replace(
            member, theta=teacher.params, velocity=teacher.velocity, buffers=teacher.buffers,
            num_correct=teacher.num_correct, num_samples=teacher.num_seen,
        )  # fmt: skip


def pool_member(state: MatchingState) -> PoolMember:
    """Return the network of the current block."""
    return state.pool[int(torch.randint(len(state.pool), (1,), generator=generator(state.block_seed, "member")))]


@dataclass(frozen=True, kw_only=True)
class IDM(FeatureMatchingFields, EngineMethod[MatchingState]):
    """Match means in a pool of networks in training, and keep the classes apart."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Improved Distribution Matching for Dataset Condensation", paper="arXiv:2307.09742", year=2023,
        family="distribution", kinds=("*",), training={"lr": 0.01, "augmentation": "dsa", "epochs": 1000},
        use_when="Take it for many classes and hours of a GPU, where networks that train along tell classes apart "
        "better than fresh ones.",
        avoid_when="Avoid it for a minute's run: its pool has not learned by then, and it was below dm here.",
        related=("dance", "dm", "ncfm"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 150, "batch_real": 64, "pool_trained": 1, "pool_steps": 4, "pool_batch": 64},
        "good": {"iterations": 1_000, "batch_real": 128, "pool_steps": 5, "pool_batch": 128},
    }

    iterations: int = 20_000
    """Steps (IDM_cifar10.py, --Iteration)."""
    lr: float = 0.2
    """Learning rate of what is stored (command.txt, --lr_img)."""
    momentum: UnitFloat = 0.5
    """Momentum (IDM_cifar10.py)."""
    ce: float = 0.5
    """λ (command.txt, --ce_weight: 0.5 for CIFAR-10 at 1 and 10 items per class, 0.1 at 50)."""
    batch_real: int = 256
    """Real samples per class and step (5,000 at one item per class)."""
    forget_every: NonNegativeInt = 100
    """Steps after which the accuracies a count anew (command.txt, --eval_interval: 500 at 50 items); 0 for never."""
    pool_initial: int = 4
    """Initial number of networks (IDM_cifar10.py: three, and one that joins before the first step)."""
    pool_max: int = 100
    """Maximum number of networks; the oldest is dropped (--net_num)."""
    pool_every: int = 30
    """Steps between new networks (--net_generate_interval; 5 at one item per class)."""
    pool_trained: NonNegativeInt = 2
    """Networks trained after each step (--fetch_net_num); 0 for none."""
    pool_steps: int = 10
    """Training steps of each (--model_train_steps; 50 for CIFAR-100)."""
    pool_batch: int = 256
    """Batch size of that training (--trained_bs)."""
    pool_lr: float = 0.01
    """Learning rate, with momentum 0.9 and weight decay 5e-4 (--lr_net, --net_decay)."""
    updates: Literal["all", "class"] = "all"
    """One step for all classes, or one per class, as published; the same with SGD."""
    parametrization: str = "tiles"
    """Stored and optimised representation (--aug)."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        networks = TrainingPool(
            initial_size=self.pool_initial, max_size=self.pool_max, every=self.pool_every,
            num_trained=self.pool_trained, steps=self.pool_steps, batch=self.pool_batch, lr=self.pool_lr,
            forget_every=self.forget_every,
            steps_per_network=self.steps_per_network,
        )  # fmt: skip
        measure = replace(MEANS, penalty=self.penalty)
        return feature_matching(self, measure, networks=networks, turns=self.updates == "class")

    def penalty(self, state: MatchingState, net: Network, syn: Views, y: Tensor) -> Tensor | None:
        """Return the cross-entropy weighted by the network's accuracy."""
        a = 100 * pool_member(state).accuracy
        if not self.ce or not a:
            return None
        losses = F.cross_entropy(net.classifier(syn.features), y, reduction="none")
        return self.ce * a * (syn.weights @ losses).sum()
