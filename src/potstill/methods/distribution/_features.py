"""Feature matching objective: passes of real and synthetic samples through a network, and their distance.

A block is a network, an augmentation per class and the real samples' statistics, which several steps may share
(``steps_per_network``): then real samples pass through the network once per block. Passes are split to bound memory.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Generator, Tensor

from potstill.core import Inputs, Layered, Network, Problem, Space, StepCost
from potstill.core.nested import concat, device_of, iter_batches, named_tensors, num_samples, single_tensor, split_sizes
from potstill.core.nested import index as chosen
from potstill.data.real_data import RealData
from potstill.errors import PotstillError
from potstill.functional.distribution import membership, row_membership
from potstill.functional.features import embed_real, uses_batch_statistics
from potstill.methods.distribution._statistics import (
    DistributionObjective,
    Memory,
    Statistics,
    Views,
    class_mean_cross_entropy,
    groups,
    is_shared,
    joined,
)  # fmt: skip
from potstill.methods.engine import (
    LossAndGrads,
    MatchingState,
    NetworkSource,
    ObjectiveInputs,
    Update,
    augment_function,
    decode_inputs,
    hard_labels,
    inputs_of_view,
    named_inputs,
)
from potstill.rng import class_generators, draw_seed, generator

__all__ = ["FORWARD_SAMPLES", "Block", "FeatureObjective"]

FORWARD_SAMPLES = 2560
"""Real samples per pass: ten classes of the published batch."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Values that steps with one network share."""

    net: Network
    classifier: Network | None
    real: Statistics
    draws: tuple[object, ...]
    """Augmentation parameters of each class."""
    rng: Generator
    """Generator after the draws of the block."""


@final
@dataclass(frozen=True, kw_only=True)
class FeatureObjective:
    """Objective that matches class statistics of features."""

    measure: DistributionObjective
    batch_real: int
    steps_per_network: int
    """Steps per network and its real statistics."""
    space: Space
    """Space that the payload decodes to."""
    turns: bool = False
    """True if every class has an update of its own."""
    calibration: float = 0.0
    """Weight of a separate update by the classifier's loss (NCFM, DANCE)."""

    def init_memory(self, problem: Problem, rng: Generator) -> Memory:
        return {} if self.measure.begin is None else self.measure.begin(problem, rng)

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Block]:
        if state.block_steps == 0:
            state = replace(state, block_seed=draw_seed(rng))
        drawn = generator(state.block_seed, "block")
        net, classifier = networks.draw_networks(problem, state, drawn)
        net.requires_grad_(False)
        draws = _draw_augmentations(problem, state, drawn)
        real = state.cached or self.real_statistics(
            problem, net, draws, state.memory, generator(state.block_seed, "real")
        )
        return state, Block(net=net, classifier=classifier, real=real, draws=draws, rng=drawn)

    def updates(self, problem: Problem, state: MatchingState, block: Block) -> Iterator[Update]:
        every, apart = [list(problem.shard_classes)], [[c] for c in problem.shard_classes]

        def matching_gradient(classes: list[int], inputs: ObjectiveInputs) -> LossAndGrads:
            return self.matching_gradient(problem, state, block, inputs, classes)

        yield Update("loss", matching_gradient, apart if self.turns else every)
        if (classifier := block.classifier) is not None:
            classifier.requires_grad_(False)
            omega = problem.augment.draw(1, problem.train.input.shape, block.rng)

            def calibration_gradient(classes: list[int], inputs: ObjectiveInputs) -> LossAndGrads:
                return self.calibration_gradient(problem, classifier, omega, inputs, classes)

            # learned labels are of every class
            yield Update(
                "calibration", calibration_gradient, apart if self.turns and not _has_learned_labels(state) else every
            )

    def finish_step(self, problem: Problem, state: MatchingState, block: Block) -> MatchingState:
        used = (state.block_steps + 1) % self.steps_per_network
        after = replace(state, block_steps=used, cached=block.real if used else {})
        if self.measure.update_memory is None:
            return after
        views = self.measure.update_memory(after, block.real, lambda: self.synthetic_views(problem, after, block))
        return replace(after, memory=views)

    # --- the passes ---------------------------------------------------------------------------------------------

    def views(self, net: Network, x: Inputs, weights: Tensor, classes: Sequence[int]) -> Views:
        """Return features, and activations if needed, of ``x``."""
        if not self.measure.needs_layers:
            return Views(features=net.embed(x), layers=(), weights=weights, classes=tuple(classes))
        if not isinstance(net, Layered):
            raise PotstillError(
                f"this method needs inner layers, but {type(net).__name__} has no method activations; choose a convnet"
            )
        *layers, features = net.activations(single_tensor(x, "inner layers"))
        return Views(features=features, layers=tuple(layers), weights=weights, classes=tuple(classes))

    def synthetic_views(self, problem: Problem, state: MatchingState, block: Block) -> Views:
        """Return the views of all synthetic samples under the block's augmentations, without a graph."""
        net, draws = block.net, block.draws
        S, y = decode_inputs(problem, state.params, self.space)
        with torch.no_grad():
            if _has_learned_labels(state):
                return self.views(net, augment_function(problem)(S, draws[0]), row_membership(y), range(len(draws)))
            x = concat(
                [
                    augment_function(problem)(s, omega)
                    for s, omega in zip(split_sizes(S, problem.sizes), draws, strict=True)
                ]
            )
            most = num_samples(x) if uses_batch_statistics(net) else FORWARD_SAMPLES
            nothing = torch.empty(0, device=device_of(x))
            views = [self.views(net, some, nothing, ()) for some in iter_batches(x, most)]
            return Views(
                features=torch.cat([v.features for v in views]),
                layers=tuple(torch.cat(layer) for layer in zip(*(v.layers for v in views), strict=True)),
                weights=membership(problem.sizes, views[0].features), classes=tuple(range(len(draws))),
                sizes=list(problem.sizes),
            )  # fmt: skip

    def real_statistics(
        self, problem: Problem, net: Network, draws: Sequence[object], memory: Memory, rng: Generator
    ) -> Statistics:
        """Return statistics of a fresh draw of real samples, in passes of several classes."""
        index = RealData.of(problem).draw(self.batch_real, rng)
        seed = draw_seed(rng)
        parts = [
            self._of_group(problem, net, draws, index, group, memory, generator(seed))
            for group in self._real_groups(net, index, problem.shard_classes)
        ]
        return {n: t if is_shared(n) else joined([p[n] for p in parts]) for n, t in parts[0].items()}

    def shard_obstacle(self, problem: Problem) -> str | None:
        """Return why classes cannot be sharded: a term or a memory joins them; else ``None``."""
        m = self.measure
        if self.turns:
            return "each class has a move of its own, which carries the others along by their momentum"
        if m.compares_classes or m.penalty is not None:
            return "its objective has a term of all classes together"
        if m.begin is not None or m.update_memory is not None:
            return "what it carries from step to step is of all classes"
        return None

    def _real_groups(self, net: Network, index: Sequence[Tensor], classes: range) -> list[list[int]]:
        """Return groups of classes whose real samples pass together."""
        most = 1 if self.measure.needs_layers else FORWARD_SAMPLES  # activations are large: one class at a time
        if self.measure.joint_batch_norm and uses_batch_statistics(net):
            most = sum(len(i) for i in index)
        return [[classes[i] for i in group] for group in groups([len(index[c]) for c in classes], most)]

    def _synthetic_groups(self, sizes: list[int]) -> list[list[int]]:
        """Return groups of classes whose synthetic samples pass together, for hard labels."""
        return groups(sizes, sum(sizes) if self.measure.compares_classes else FORWARD_SAMPLES)

    def _of_group(
        self, problem: Problem, net: Network, draws: Sequence[object], index: Sequence[Tensor], group: Sequence[int],
        memory: Memory, rng: Generator,
    ) -> Statistics:  # fmt: skip
        """Return statistics of the real samples at ``index`` of the classes in ``group``, from one pass."""
        with torch.no_grad():
            real = RealData.of(problem)
            x = real.batch(*(index[c] for c in group)).x
            sizes = [len(index[c]) for c in group]
            x = concat(
                [augment_function(problem)(p, draws[c]) for p, c in zip(split_sizes(x, sizes), group, strict=True)]
            )
            weights = membership(sizes, next(t for t in named_tensors(x).values() if t.is_floating_point()))
            if self.measure.needs_layers:
                views = self.views(net, x, weights, group)
            else:
                views = Views(features=embed_real(net, x), layers=(), weights=weights, classes=tuple(group))
            names = problem.class_names

            def release(name: str, means: Tensor) -> Tensor:
                rows = zip(group, means, sizes, strict=True)
                return torch.stack([real.released_mean(f"class {names[c]} {name}", m, n) for c, m, n in rows])

            return self.measure.statistics(replace(views, sizes=sizes, release=release), memory, rng)

    def matching_gradient(
        self, problem: Problem, state: MatchingState, block: Block, inputs: ObjectiveInputs, classes: list[int]
    ) -> LossAndGrads:
        """Return distance plus penalty over ``classes`` and its gradients."""
        S, Y, net = inputs_of_view(inputs), inputs.get("labels"), block.net
        sizes, apply, draws = problem.sizes, augment_function(problem), block.draws
        firsts = [0, *torch.tensor(sizes).cumsum(0).tolist()]
        parts = [[classes[i] for i in g] for g in self._synthetic_groups([sizes[c] for c in classes])]
        if Y is not None:
            parts = [classes]
        slopes = {n: torch.zeros_like(t) for n, t in named_inputs(S).items() if t.is_floating_point()}
        loss = 0.0
        with torch.enable_grad():
            for part in parts:
                rows = torch.cat([torch.arange(firsts[c], firsts[c + 1]) for c in part])
                if Y is None:
                    some = named_inputs(chosen(S, rows))
                    leaves = {n: some[n].requires_grad_() for n in slopes}
                    of_class = split_sizes(inputs_of_view(some), [sizes[c] for c in part])
                    x = concat([apply(s, draws[c]) for s, c in zip(of_class, part, strict=True)])
                    weights = membership([sizes[c] for c in part], next(iter(leaves.values())))
                    y = hard_labels(problem)[rows].to(weights.device)
                else:  # a sample may belong to every class, so all of them are seen
                    rows = torch.arange(len(Y))
                    leaves = _leaf_copies({"inputs": single_tensor(S, "learned labels"), "labels": Y})
                    x, y = apply(leaves["inputs"], draws[0]), leaves["labels"]
                    weights = row_membership(y)[part]
                syn = self.views(net, x, weights, part)
                syn = syn if Y is not None else replace(syn, sizes=[sizes[c] for c in part])
                where = [c - problem.shard_classes.start for c in part]
                real = {n: t if is_shared(n) else t[where] for n, t in block.real.items()}
                value = self.measure.gap(real, syn, state.memory)
                penalty = self.measure.penalty
                if penalty is not None and (extra := penalty(state, net, syn, y)) is not None:
                    value = value + extra
                grads = torch.autograd.grad(value, tuple(leaves.values()), allow_unused=True)
                for n, by in zip(leaves, grads, strict=True):
                    if n != "labels":
                        slopes[n][rows] = by if by is not None else 0.0
                    elif by is not None:
                        slopes[n] = by
                loss += float(value.detach())
        return loss, slopes

    def calibration_gradient(
        self, problem: Problem, net: Network, omega: object, inputs: ObjectiveInputs, classes: Sequence[int]
    ) -> LossAndGrads:
        """Return the classifier's loss over ``classes`` and its gradients."""

        def loss_of(x: Tensor, y: Tensor, sizes: tuple[int, ...]) -> Tensor:
            return self.calibration * class_mean_cross_entropy(net(augment_function(problem)(x, omega)), y, sizes)

        S = inputs["inputs"]
        with torch.enable_grad():
            if "labels" in inputs:
                leaves = _leaf_copies(inputs)
                value = loss_of(leaves["inputs"], leaves["labels"], problem.sizes)
                grads = torch.autograd.grad(value, (leaves["inputs"], leaves["labels"]))
                return float(value.detach()), dict(zip(("inputs", "labels"), grads, strict=True))
            loss, slopes = 0.0, torch.zeros_like(S)
            y, firsts = hard_labels(problem).to(S.device), [0, *torch.tensor(problem.sizes).cumsum(0).tolist()]
            sizes = [problem.sizes[c] for c in classes]
            for group in groups(sizes, sum(sizes) if uses_batch_statistics(net) else FORWARD_SAMPLES):
                rows = slice(firsts[classes[group[0]]], firsts[classes[group[-1]] + 1])
                leaf = S[rows].detach().requires_grad_()
                value = loss_of(leaf, y[rows], tuple(sizes[i] for i in group))
                (slopes[rows],) = torch.autograd.grad(value, [leaf])
                loss += float(value.detach())
        return loss, {"inputs": slopes}

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        """Return the passes of a step; real samples pass once in ``steps_per_network`` steps."""
        rng = generator(0, "plan")
        net, classifier = networks.draw_networks(problem, state, rng)
        net.requires_grad_(False)
        draws = _draw_augmentations(problem, state, rng)
        k, sizes = problem.num_classes, problem.sizes
        index = RealData.of(problem).draw(self.batch_real, rng)
        S, rows = decode_inputs(problem, state.params, self.space)
        learned = _has_learned_labels(state)

        def of_real(c: int, most: int | None = None) -> Callable[[], Statistics]:
            some = [i[:most] for i in index[:c]]
            return lambda: self._of_group(problem, net, draws, some, range(c), state.memory, generator(0))

        def of_synthetic(c: int) -> Callable[[], object]:
            real = of_real(c, max(2, FORWARD_SAMPLES // c))()  # a pass of real samples is enough of them
            block = Block(net=net, classifier=None, real=real, draws=draws, rng=rng)
            m = sum(sizes[:c]) if learned else sum(sizes)  # then every sample is seen for every class
            seen = named_inputs(chosen(S, torch.arange(m))) | ({"labels": rows[:m]} if learned else {})
            return lambda: self.matching_gradient(problem, state, block, seen, list(range(c)))[0]

        together = [len(g) for g in groups(list(sizes), FORWARD_SAMPLES)]
        at_once = k if learned else 1 if self.turns else max(map(len, self._synthetic_groups(list(sizes))))
        costs = [
            StepCost(
                what="real samples", real=True, classes=k, samples=sum(map(len, index)), size=max(map(len, index)),
                ready=of_real, every=self.steps_per_network,
                at_once=max(len(g) for g in self._real_groups(net, index, range(k))),
            ),
            StepCost(
                what="synthetic samples", classes=k, samples=sum(sizes), size=max(sizes), at_once=at_once,
                ready=of_synthetic, when="descent",
            ),
        ]  # fmt: skip
        if classifier is not None and not learned:
            classifier.requires_grad_(False)
            omega = problem.augment.draw(1, problem.train.input.shape, rng)

            def of_calibration(c: int) -> Callable[[], object]:
                return lambda: self.calibration_gradient(problem, classifier, omega, {"inputs": S}, range(c))[0]

            calibration = StepCost(
                what="calibration", classes=k, samples=sum(sizes), size=max(sizes), at_once=max(together),
                ready=of_calibration, when="descent",
            )  # fmt: skip
            costs.append(calibration)
        return tuple(costs)


def _has_learned_labels(state: MatchingState) -> bool:
    """Return True if labels are learned."""
    return "labels/logits" in state.params.value


def _draw_augmentations(problem: Problem, state: MatchingState, rng: Generator) -> tuple[object, ...]:
    """Draw one augmentation per class, or one for all if labels are learned."""
    shape, k = problem.train.input.shape, problem.num_classes
    if _has_learned_labels(state):
        return (problem.augment.draw(1, shape, rng),) * k
    return tuple(problem.augment.draw(1, shape, g) for g in class_generators(rng, problem.class_names))


def _leaf_copies(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.detach().clone().requires_grad_() for n, t in inputs.items()}
