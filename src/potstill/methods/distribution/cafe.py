r"""CAFE: Learning to Condense Dataset by Aligning Features (Wang et al., CVPR 2022, arXiv:2203.01531), section 3.

.. math::
    L = \sum_l w_l \sum_c \lVert E_{T_c} f^l - E_{S_c} f^l \rVert^2 + \sum_c \lVert E_{T_c} f - E_{S_c} f \rVert^2
        + \beta \sum_{x \in T} \ell(\langle f(x), \bar f_S \rangle, y)

f^l are the activations of each block and the embedding f, which is taken once more with the discrimination loss: real
features are classified by their products with the class centres of the synthetic ones. The network trains on the
synthetic data until its accuracy on real samples has moved by λ₂ within ten passes, and is replaced by a fresh one when
that accuracy stays within λ₁ over ten updates. The released code also adds the network's loss on real samples, which
has no gradient by the synthetic ones, and carries a tenth of each accuracy into the next; neither is done here.

The defaults are those of CAFE itself (run.sh). CAFE+DSA of the paper is ``augment="dsa"`` (``--method DSA`` with a
``--dsa_strategy``).
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.core import Efforts, MethodInfo, Network, Part, Problem
from potstill.errors import PotstillError
from potstill.functional.distribution import mean_gap, means
from potstill.functional.features import uses_batch_statistics
from potstill.functional.sampling import draw_per_class
from potstill.functional.train import train_step
from potstill.methods._matching import Rule, Start, image, inputs_of
from potstill.methods._networks import PoolMember, fresh_member, load
from potstill.methods.distribution._base import FeatureMatching
from potstill.methods.distribution._statistics import Block, FeatureState, Memory, Statistics, Views, padded, unpadded
from potstill.rng import generator

__all__ = ["CAFE"]

WATCHED = 10
"""Accuracies that are looked back upon (distill.py)."""
PROBE = 128
"""Real samples per class that an accuracy is taken on (distill.py)."""


@dataclass(frozen=True, kw_only=True)
class CAFE(FeatureMatching):
    """Align the features of every layer, and let the synthetic centres tell real samples apart."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="CAFE: Learning to Condense Dataset by Aligning Features",
        paper="arXiv:2203.01531",
        year=2022,
        family="distribution",
        kinds=("image",),
        training={"lr": 0.01, "augmentation": "none", "epochs": 600},
    )
    efforts: ClassVar[Efforts] = {
        "quick": {"iterations": 3, "batch_real": 64, "epochs_most": 10},
        "good": {"iterations": 30, "batch_real": 128, "epochs_most": 20},
    }
    layered: ClassVar[bool] = True
    crosses: ClassVar[bool] = True
    own_networks: ClassVar[bool] = True
    fractions: ClassVar[tuple[str, ...]] = ("momentum", "lambda_1", "lambda_2")

    iterations: int = 2000
    """Networks, one after the other (distill.py, --Iteration)."""
    lr: float = 0.1
    """Learning rate of the synthetic data; halved at 1,200, 1,600 and 1,800 of 2,000 (distill.py)."""
    momentum: float = 0.5
    """Momentum of the synthetic data (distill.py)."""
    weights: tuple[float, float] = (0.1, 1.0)
    """w of the first half of the layers and of the second (distill.py: 0.1, 0.1, 1, 1)."""
    discrimination: float = 0.01
    """β (distill.py, --inner_weight)."""
    lambda_1: float = 0.04
    """The network is replaced when ten accuracies lie within this (--lambda_1)."""
    lambda_2: float = 0.03
    """The network's training ends when ten accuracies have moved by this (--lambda_2)."""
    epochs_most: int = 100
    """Passes of that training between two updates, at most. Ours: the published loop has no end of its own."""
    lr_net: float = 0.01
    """Learning rate of the network (--lr_net)."""
    batch_train: int = 256
    """Batch of its training (--batch_train)."""
    batch_real: int = 256
    """Real samples per class and step (--batch_real)."""
    start: Start = "noise"
    """Start from noise (--init)."""
    reuse: int = 1
    """Must stay 1: the network changes at every step."""
    augment: str = "none"
    """Siamese augmentation, and that of the network's training (--method, --dsa_strategy); dsa for CAFE+DSA."""
    network: str = "convnet"
    """Network whose layers are aligned."""
    parametrization: str = "pixels"
    """What is optimised."""

    def init(self, problem: Problem, rng: Generator) -> FeatureState:
        if self.reuse != 1:
            raise PotstillError(f"cafe's network changes at every step, so reuse must be 1, but it is {self.reuse}")
        return replace(super().init(problem, rng), pool=(fresh_member(problem, rng),))

    def rule(self, problem: Problem, iteration: int) -> Rule:
        halvings = sum(iteration >= part * self.iterations for part in (0.6, 0.8, 0.9))
        return Rule(lr=self.lr * 0.5**halvings, momentum=self.momentum, lr_labels=self.lr_labels)

    def networks(self, problem: Problem, state: FeatureState, rng: Generator) -> tuple[Network, Network | None]:
        (member,) = state.pool
        return load(problem, member.seed, member.theta, member.buffers), None

    def statistics(self, real: Views, memory: Memory, rng: Generator) -> Statistics:
        layers = {f"l{n}": means(real.weights, f) for n, f in enumerate(real.layers)}
        t, sizes = padded([real.features[w > 0] for w in real.weights])
        return {**layers, "f": means(real.weights, real.features), "t": t, "sizes": sizes}

    def gap(self, real: Statistics, syn: Views, memory: Memory) -> Tensor:
        centres = means(syn.weights, syn.features)
        early, late = self.weights
        half = (len(syn.layers) + 1) // 2
        loss = late * mean_gap(real["f"], centres)
        for n, f in enumerate(syn.layers):
            loss = loss + (early if n < half else late) * mean_gap(real[f"l{n}"], means(syn.weights, f))
        # Once more with the discrimination loss. The released code then means over a class axis of length one.
        loss = loss + mean_gap(real["f"], centres)
        if len(syn.classes) > 1:
            for c, t in enumerate(unpadded(real["t"], real["sizes"])):
                y = torch.full((len(t),), c, device=t.device)
                loss = loss + self.discrimination * F.cross_entropy(t @ centres.T, y, reduction="sum")
        return loss

    def parts(self, problem: Problem, state: FeatureState) -> tuple[Part, ...]:
        (member,) = state.pool
        net = load(problem, member.seed, member.theta, member.buffers).train()
        S, y = inputs_of(problem, state.outer, self.space)

        def train() -> object:
            x = problem.augment.apply(S[: self.batch_train], problem.augment.draw(1, S.shape[1:], generator(0, "plan")))
            return train_step(net, member.theta, None, x, y[: len(x)], lr=self.lr_net, buffers=member.buffers)

        batch = min(self.batch_train, len(S))
        training = Part(what="the network's training", samples=len(S), size=batch, ready=lambda _: train, when="after")
        return (*super().parts(problem, state), training)

    def after(self, problem: Problem, state: FeatureState, net: Network, block: Block, rng: Generator) -> FeatureState:
        (member,) = state.pool
        net.requires_grad_(True).train()
        watched = torch.cat([state.memory.get("watched", torch.zeros(0)), _accuracy(problem, net, member, rng)])
        watched = watched[-WATCHED:]
        if len(watched) == WATCHED and float(watched.max() - watched.min()) < self.lambda_1:
            return replace(state, pool=(fresh_member(problem, rng),), memory={})
        member = self._trained(problem, state, net, member, rng)
        # iterations count networks: this one goes on
        return replace(state, pool=(member,), memory={"watched": watched}, iteration=state.iteration - 1)

    def horizon(self, problem: Problem) -> int | None:
        """Not known: how many updates a network serves depends on its accuracy."""
        return None

    def _trained(
        self, problem: Problem, state: FeatureState, net: Network, member: PoolMember, rng: Generator
    ) -> PoolMember:
        S, y = inputs_of(problem, state.outer, self.space)
        seen = torch.zeros(0)
        for _ in range(self.epochs_most):
            for batch in torch.split(torch.randperm(len(S), generator=rng), self.batch_train):
                x = problem.augment.apply(S[batch], problem.augment.draw(len(batch), problem.train.input.shape, rng))
                stepped = train_step(net, member.theta, None, x, y[batch], lr=self.lr_net, buffers=member.buffers)
                member = replace(member, theta=stepped.params, buffers=stepped.buffers)
            seen = torch.cat([seen, _accuracy(problem, net, member, rng)])[-WATCHED:]
            if len(seen) == WATCHED and float(seen.max() - seen.min()) > self.lambda_2:
                break
        return member


def _accuracy(problem: Problem, net: Network, member: PoolMember, rng: Generator) -> Tensor:
    """(1,): on random real samples of every class, as classes count alike."""
    index = torch.cat(draw_per_class(problem.by_class, PROBE, rng))
    x, y = image(problem.train.fetch(index).x), problem.train.labels[index]
    buffers = {n: b.clone() for n, b in member.buffers.items()} if uses_batch_statistics(net) else member.buffers
    with torch.no_grad():
        guess = torch.cat([
            torch.func.functional_call(net, {**member.theta, **buffers}, (part,)).argmax(1)
            for part in torch.split(x, 256)
        ])  # fmt: skip
    right = (guess.cpu() == y).float()
    return right.new_tensor([float(torch.stack([right[y == c].mean() for c in range(problem.num_classes)]).mean())])
