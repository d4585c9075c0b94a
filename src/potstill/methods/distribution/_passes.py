"""The passes of feature matching: real samples and synthetic ones through a network, in parts that suit the machine."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Layered, Method, Network, Problem, Space
from potstill.errors import PotstillError
from potstill.functional.distribution import membership, row_membership
from potstill.functional.features import embed_real, uses_batch_statistics
from potstill.functional.sampling import draw_per_class
from potstill.methods._matching import Outer, Rule, descend, hard_labels, image, inputs_of
from potstill.methods.distribution._statistics import (
    Block,
    FeatureState,
    Memory,
    Statistics,
    Views,
    class_means_of_cross_entropy,
    groups,
    is_shared,
)
from potstill.rng import draw_seed, generator

__all__ = ["Passes"]

FORWARD_SAMPLES = 2560
"""Real samples in one pass: ten classes of the published batch. More classes go in several passes."""


@dataclass(frozen=True, kw_only=True)
class Passes(Method[FeatureState]):
    """Abstract: what a method says of its statistics, and the passes that take them and their distance."""

    state_type: ClassVar[type] = FeatureState
    layered: ClassVar[bool] = False
    """Whether the statistics look at inner layers."""
    joint: ClassVar[bool] = False
    """Whether a BatchNorm sees the samples of all classes at once, as some publications let it."""

    batch_real: int

    # --- what a method says -------------------------------------------------------------------------------------

    @abstractmethod
    def statistics(self, real: Views, memory: Memory, rng: Generator) -> Statistics:
        """What is kept of real samples; draws (frequencies) are shared with the synthetic side through it."""

    @abstractmethod
    def gap(self, real: Statistics, syn: Views, memory: Memory) -> Tensor:
        """The distance of the synthetic samples from them, summed over classes.

        ``memory`` holds what the method carries along, of all classes: ``syn.classes`` says which are looked at.
        """

    def calibrate(self, logits: Tensor, y: Tensor, sizes: tuple[int, ...]) -> Tensor:
        """The loss of a step of its own, from the classifier's logits; called where `networks` gives a classifier."""
        return class_means_of_cross_entropy(logits, y, sizes)

    def penalty(self, state: FeatureState, net: Network, syn: Views, y: Tensor) -> Tensor | None:
        """A term that joins the gap: ``y`` are the synthetic samples' classes or rows."""
        return None

    @property
    def space(self) -> Space:
        """What the payload decodes to."""
        return "model"

    # --- the passes ---------------------------------------------------------------------------------------------

    def views(self, net: Network, x: Tensor, weights: Tensor, classes: Sequence[int]) -> Views:
        """What the network makes of ``x``."""
        if not self.layered:
            return Views(features=net.embed(x), layers=(), weights=weights, classes=tuple(classes))
        if not isinstance(net, Layered):
            raise PotstillError(
                f"this method looks at inner layers, but {type(net).__name__} does not show its activations; "
                "choose a convnet"
            )
        *layers, features = net.activations(x)
        return Views(features=features, layers=tuple(layers), weights=weights, classes=tuple(classes))

    def synthetic_views(self, problem: Problem, state: FeatureState, net: Network, draws: Sequence[object]) -> Views:
        """Of all that is stored, as it is now, under the draws of the block; no graph."""
        S, y = inputs_of(problem, state.outer, self.space)
        with torch.no_grad():
            if y.is_floating_point():
                return self.views(net, problem.augment.apply(S, draws[0]), row_membership(y), range(len(draws)))
            parts = zip(torch.split(S, list(problem.sizes)), draws, strict=True)
            x = torch.cat([problem.augment.apply(s, omega) for s, omega in parts])
            return self.views(net, x, membership(problem.sizes, x), range(len(draws)))

    def real_statistics(
        self, problem: Problem, net: Network, draws: Sequence[object], memory: Memory, rng: Generator
    ) -> Statistics:
        """Statistics of a fresh draw of real samples, in passes of several classes."""
        index = draw_per_class(problem.by_class, self.batch_real, rng)
        parts = []
        seed = draw_seed(rng)
        most = 1 if self.layered else FORWARD_SAMPLES  # activations are large: one class at a time
        if self.joint and uses_batch_statistics(net):
            most = sum(len(i) for i in index)
        with torch.no_grad():
            for group in groups([len(i) for i in index], most):
                x = image(problem.train.fetch(torch.cat([index[c] for c in group])).x)
                sizes = [len(index[c]) for c in group]
                x = torch.cat(
                    [problem.augment.apply(p, draws[c]) for p, c in zip(torch.split(x, sizes), group, strict=True)]
                )
                weights = membership(sizes, x)
                if self.layered:
                    seen = self.views(net, x, weights, group)
                else:
                    seen = Views(features=embed_real(net, x), layers=(), weights=weights, classes=tuple(group))
                parts.append(self.statistics(seen, memory, generator(seed)))
        return {n: t if is_shared(n) else torch.cat([p[n] for p in parts]) for n, t in parts[0].items()}

    def objective(
        self, problem: Problem, state: FeatureState, net: Network, block: Block, S: Tensor, Y: Tensor | None,
        classes: list[int],
    ) -> tuple[float, Tensor, Tensor | None]:  # fmt: skip
        """The gap and the penalty over ``classes``; passes of several classes where labels are hard."""
        sizes, apply, draws = problem.sizes, problem.augment.apply, block.draws
        firsts = [0, *torch.tensor(sizes).cumsum(0).tolist()]
        parts = [[classes[i] for i in g] for g in groups([sizes[c] for c in classes], FORWARD_SAMPLES)]
        if Y is not None:
            parts = [classes]
        loss, by_S, by_Y = 0.0, torch.zeros_like(S), None
        with torch.enable_grad():
            for part in parts:
                rows = torch.cat([torch.arange(firsts[c], firsts[c + 1]) for c in part])
                if Y is None:
                    leaf = S[rows].requires_grad_()
                    x = torch.cat([
                        apply(s, draws[c])
                        for s, c in zip(torch.split(leaf, [sizes[c] for c in part]), part, strict=True)
                    ])  # fmt: skip
                    weights, y = membership([sizes[c] for c in part], x), hard_labels(problem)[rows].to(x.device)
                    leaves = [leaf]
                else:  # a sample may belong to every class, so all of them are seen
                    rows = torch.arange(len(S))
                    leaves = [S.detach().clone().requires_grad_(), Y.detach().clone().requires_grad_()]
                    x, y = apply(leaves[0], draws[0]), leaves[1]
                    weights = row_membership(y)[part]
                syn = self.views(net, x, weights, part)
                real = {n: t if is_shared(n) else t[part] for n, t in block.real.items()}
                value = self.gap(real, syn, state.memory)
                if (extra := self.penalty(state, net, syn, y)) is not None:
                    value = value + extra
                found = torch.autograd.grad(value, leaves, allow_unused=True)
                by_S[rows] = found[0] if found[0] is not None else 0.0
                by_Y = found[1] if len(found) == 2 else None
                loss += float(value.detach())
        return loss, by_S, by_Y

    def calibrated(
        self, problem: Problem, outer: Outer, net: Network, rule: Rule, factor: float, rng: Generator
    ) -> tuple[Outer, float]:
        """One more step, down the classifier's loss on the synthetic samples."""
        net.requires_grad_(False)
        omega = problem.augment.draw(1, problem.train.input.shape, rng)

        def objective(S: Tensor, Y: Tensor | None) -> tuple[float, Tensor, Tensor | None]:
            with torch.enable_grad():
                leaves = [S.requires_grad_()] if Y is None else [S.requires_grad_(), Y.requires_grad_()]
                y = hard_labels(problem).to(S.device) if Y is None else leaves[1]
                value = self.calibrate(net(problem.augment.apply(leaves[0], omega)), y, problem.sizes)
                found = torch.autograd.grad(value, leaves)
            return float(value.detach()), found[0], found[1] if Y is not None else None

        return descend(problem, outer, objective, rule, factor)
