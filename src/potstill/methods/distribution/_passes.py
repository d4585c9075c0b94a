"""The passes of feature matching: real samples and synthetic ones through a network, in parts that suit the machine."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from potstill.core import Layered, Network, Part, Problem, Space
from potstill.errors import PotstillError
from potstill.functional.distribution import membership, row_membership
from potstill.functional.features import embed_real, uses_batch_statistics
from potstill.functional.sampling import draw_per_class
from potstill.methods._matching import hard_labels, image, inputs_of
from potstill.methods.distribution._calibration import FORWARD_SAMPLES, Calibrated
from potstill.methods.distribution._statistics import (
    Block,
    FeatureState,
    Memory,
    Statistics,
    Views,
    groups,
    is_shared,
    joined,
)
from potstill.rng import draw_seed, generator

__all__ = ["Passes"]


@dataclass(frozen=True, kw_only=True)
class Passes(Calibrated):
    """Abstract: what a method says of its statistics, and the passes that take them and their distance."""

    state_type: ClassVar[type] = FeatureState
    layered: ClassVar[bool] = False
    """Whether the statistics look at inner layers."""
    joint: ClassVar[bool] = False
    """Whether a BatchNorm sees the samples of all classes at once, as some publications let it."""
    crosses: ClassVar[bool] = False
    """Whether the gap compares classes with each other, so that all synthetic samples pass together."""

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
            most = len(x) if uses_batch_statistics(net) else FORWARD_SAMPLES
            seen = [self.views(net, some, x.new_empty(0), ()) for some in torch.split(x, most)]
            return Views(
                features=torch.cat([v.features for v in seen]),
                layers=tuple(torch.cat(layer) for layer in zip(*(v.layers for v in seen), strict=True)),
                weights=membership(problem.sizes, x), classes=tuple(range(len(draws))),
            )  # fmt: skip

    def real_statistics(
        self, problem: Problem, net: Network, draws: Sequence[object], memory: Memory, rng: Generator
    ) -> Statistics:
        """Statistics of a fresh draw of real samples, in passes of several classes."""
        index = draw_per_class(problem.by_class, self.batch_real, rng)
        seed = draw_seed(rng)
        parts = [
            self._of_group(problem, net, draws, index, group, memory, generator(seed))
            for group in self._real_groups(net, index)
        ]
        return {n: t if is_shared(n) else joined([p[n] for p in parts]) for n, t in parts[0].items()}

    def _real_groups(self, net: Network, index: Sequence[Tensor]) -> list[list[int]]:
        """Classes whose real samples pass together."""
        most = 1 if self.layered else FORWARD_SAMPLES  # activations are large: one class at a time
        if self.joint and uses_batch_statistics(net):
            most = sum(len(i) for i in index)
        return groups([len(i) for i in index], most)

    def _synthetic_groups(self, sizes: list[int]) -> list[list[int]]:
        """Classes whose synthetic samples pass together, where labels are hard."""
        return groups(sizes, sum(sizes) if self.crosses else FORWARD_SAMPLES)

    def _of_group(
        self, problem: Problem, net: Network, draws: Sequence[object], index: Sequence[Tensor], group: Sequence[int],
        memory: Memory, rng: Generator,
    ) -> Statistics:  # fmt: skip
        """Statistics of the real samples at ``index`` of the classes in ``group``, from one pass."""
        with torch.no_grad():
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
            return self.statistics(seen, memory, rng)

    def objective(
        self, problem: Problem, state: FeatureState, net: Network, block: Block, S: Tensor, Y: Tensor | None,
        classes: list[int],
    ) -> tuple[float, Tensor, Tensor | None]:  # fmt: skip
        """The gap and the penalty over ``classes``; passes of several classes where labels are hard."""
        sizes, apply, draws = problem.sizes, problem.augment.apply, block.draws
        firsts = [0, *torch.tensor(sizes).cumsum(0).tolist()]
        parts = [[classes[i] for i in g] for g in self._synthetic_groups([sizes[c] for c in classes])]
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

    def passes(
        self, problem: Problem, state: FeatureState, net: Network, classifier: Network | None,
        draws: Sequence[object], every: int, rng: Generator,
    ) -> tuple[Part, ...]:  # fmt: skip
        """The passes of a step, for a plan; real samples pass once in ``every`` steps."""
        net.requires_grad_(False)
        k, sizes = problem.num_classes, problem.sizes
        index = draw_per_class(problem.by_class, self.batch_real, rng)
        S, rows = inputs_of(problem, state.outer, self.space)
        learned = rows.is_floating_point()

        def of_real(c: int, most: int | None = None) -> Callable[[], Statistics]:
            some = [i[:most] for i in index[:c]]
            return lambda: self._of_group(problem, net, draws, some, range(c), state.memory, generator(0))

        def of_synthetic(c: int) -> Callable[[], object]:
            real = of_real(c, max(2, FORWARD_SAMPLES // c))()  # a pass of real samples is enough of them
            block = Block(real=real, draws=tuple(draws))
            m = sum(sizes[:c]) if learned else len(S)  # then every sample is seen for every class
            Y = rows[:m] if learned else None
            return lambda: self.objective(problem, state, net, block, S[:m], Y, list(range(c)))[0]

        together = [len(g) for g in groups(list(sizes), FORWARD_SAMPLES)]
        at_once = k if learned else 1 if self.classwise() else max(map(len, self._synthetic_groups(list(sizes))))
        made = [
            Part(
                what="real samples", real=True, classes=k, samples=sum(map(len, index)), size=max(map(len, index)),
                ready=of_real, at_once=max(len(g) for g in self._real_groups(net, index)), every=every,
            ),
            Part(
                what="synthetic samples", classes=k, samples=sum(sizes), size=max(sizes), at_once=at_once,
                ready=of_synthetic, when="descent",
            ),
        ]  # fmt: skip
        if classifier is not None and not learned:
            classifier.requires_grad_(False)
            omega = problem.augment.draw(1, problem.train.input.shape, rng)

            def of_calibration(c: int) -> Callable[[], object]:
                return lambda: self.calibration_loss(problem, classifier, omega, S, None, range(c))[0]

            calibration = Part(
                what="calibration", classes=k, samples=sum(sizes), size=max(sizes), at_once=max(together),
                ready=of_calibration, when="descent",
            )  # fmt: skip
            made.append(calibration)
        return tuple(made)
