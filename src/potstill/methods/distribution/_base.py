"""The step of feature matching: a network, real samples and a siamese augmentation; a method adds its statistics.

One step draws a block (network, real samples, augmentation), takes the real samples' statistics, and moves what is
stored down the distance of the synthetic samples' statistics from them. Statistics of a block may be used for several
steps (``reuse``): then the real samples pass through the network only once in so many.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import AssetSpec, Method, Metrics, Network, Problem, Space, Synthetic, Trained
from potstill.errors import PotstillError
from potstill.functional.distribution import membership, row_membership
from potstill.functional.features import embed_real, uses_batch_statistics
from potstill.functional.sampling import draw_per_class
from potstill.functional.train import cross_entropy
from potstill.methods._matching import (
    Labels,
    Outer,
    Rule,
    Start,
    descend,
    hard_labels,
    image,
    inputs_of,
    start,
    synthetic,
)
from potstill.methods._networks import Pool, between, trained_asset, trained_networks
from potstill.rng import draw_seed, generator

__all__ = [
    "Block",
    "FeatureMatching",
    "FeatureState",
    "Memory",
    "Statistics",
    "Views",
    "class_means_of_cross_entropy",
    "groups",
]

FORWARD_SAMPLES = 2560
"""Real samples in one pass: ten classes of the published batch. More classes go in several passes."""

Statistics = Mapping[str, Tensor]
"""What the real samples of some classes are reduced to; the first axis of every tensor is the class, but for names that
begin with ``shared/`` (frequencies), which hold for all classes."""


Memory = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Block:
    """What steps with one network share."""

    real: Statistics
    draws: tuple[object, ...]
    """The augmentation of each class."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """What a network makes of samples of some classes."""

    features: Tensor
    """Embeddings (n, d)."""
    layers: tuple[Tensor, ...]
    """Activations of the inner layers (n, c, h, w), for methods that look at them."""
    weights: Tensor
    """(k, n): how much each sample counts in each class's statistic; rows sum to 1."""
    classes: tuple[int, ...]
    """The k classes of the rows of ``weights``."""


@dataclass(frozen=True, kw_only=True)
class FeatureState:
    outer: Outer
    pool: Pool = ()
    """Networks that train along, for methods that keep some."""
    block: int = 0
    """Seed of the draws of the present block."""
    used: int = 0
    """Steps made with it."""
    real: Mapping[str, Tensor] = field(default_factory=dict)
    """Its statistics of the real samples, while more steps will use them."""
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """What a method carries from step to step."""
    iteration: int = 0
    loss: float = 0.0
    """Of the step that led here."""


@dataclass(frozen=True, kw_only=True)
class FeatureMatching(Method[FeatureState]):
    """Abstract: what is not published, and every method has; the other fields are those of the final classes."""

    state_type: ClassVar[type] = FeatureState
    layered: ClassVar[bool] = False
    """Whether the statistics look at inner layers."""
    joint: ClassVar[bool] = False
    """Whether a BatchNorm sees the samples of all classes at once, as some publications let it."""
    own_networks: ClassVar[bool] = False
    """Whether the method has networks of its own, so that ``embedders`` is not to be chosen."""

    iterations: int
    lr: float
    momentum: float
    batch_real: int
    start: Start
    labels: Labels = "hard"
    """Learned labels weigh every sample in every class. Ours; hard as published."""
    lr_labels: float = 0.1
    """Learning rate of the labels' logits, where they are learned. Ours."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """What moves the stored values. Parametrizations with weights of their own (``field``) need AdamW."""
    reuse: int = 1
    """Steps with one network and its real statistics: more is faster and sees fewer networks. Ours; 1 as published."""
    embedders: Literal["fresh", "trained", "between"] = "fresh"
    """Networks that embed: untrained ones, trained ones, or points on the line from one to the other (DANCE)."""
    networks_trained: int = 5
    """Networks that are trained before the first step, where trained ones embed. Ours."""
    epochs_trained: int = 20
    """Passes that each is trained for. Ours."""
    augment_training: str = "idc"
    """Per-sample augmentation of that training. Ours."""

    # --- what a method says -------------------------------------------------------------------------------------

    @abstractmethod
    def statistics(self, real: Views, memory: Memory, rng: Generator) -> Statistics:
        """What is kept of real samples; draws (frequencies) are shared with the synthetic side through it."""

    @abstractmethod
    def gap(self, real: Statistics, syn: Views, memory: Memory) -> Tensor:
        """The distance of the synthetic samples from them, summed over classes.

        ``memory`` holds what the method carries along, of all classes: ``syn.classes`` says which are looked at.
        """

    def rule(self, problem: Problem, iteration: int) -> Rule:
        """How what is stored moves at this iteration."""
        return Rule(lr=self.lr, momentum=self.momentum, lr_labels=self.lr_labels)

    def networks(self, problem: Problem, state: FeatureState, rng: Generator) -> tuple[Network, Network | None]:
        """The network that embeds in this block, and one that classifies, for methods that calibrate."""
        return self.embedder(problem, rng)[0], None

    def calibrate(self, logits: Tensor, y: Tensor, sizes: tuple[int, ...]) -> Tensor:
        """The loss of a step of its own, from the classifier's logits; called where `networks` gives a classifier."""
        return class_means_of_cross_entropy(logits, y, sizes)

    def penalty(self, state: FeatureState, net: Network, syn: Views, y: Tensor) -> Tensor | None:
        """A term that joins the gap: ``y`` are the synthetic samples' classes or rows."""
        return None

    def after(self, problem: Problem, state: FeatureState, net: Network, block: Block, rng: Generator) -> FeatureState:
        """What else evolves with a step; the state is that after it."""
        return state

    def factor(self, state: FeatureState) -> float:
        """What the learning rates are multiplied with at this step."""
        return 1.0

    def classwise(self) -> bool:
        """Whether each class has a step of its own, as published for some."""
        return False

    # --- the four verbs -----------------------------------------------------------------------------------------

    def assets(self, problem: Problem) -> tuple[AssetSpec, ...]:
        if self.embedders == "fresh":
            return ()
        spec = trained_asset(
            self.networks_trained, self.epochs_trained, batch=64, lr=0.01, momentum=0.9, weight_decay=5e-4,
            augment=self.augment_training,
        )  # fmt: skip
        return (spec,)

    def init(self, problem: Problem, rng: Generator) -> FeatureState:
        if self.own_networks and self.embedders != "fresh":
            raise PotstillError(
                f"{type(self).__name__} trains networks of its own, so embedders cannot be {self.embedders!r}; "
                "leave it out"
            )
        rule = self._rule(problem, 0)
        return FeatureState(outer=start(problem, self.start, rng, rule, self.labels))

    def step(self, problem: Problem, state: FeatureState, rng: Generator) -> tuple[FeatureState, Metrics]:
        if state.used == 0:
            state = replace(state, block=draw_seed(rng))
        drawn = generator(state.block, "block")
        net, classifier = self.networks(problem, state, drawn)
        net.requires_grad_(False)
        draws = self._draws(problem, drawn)
        real = state.real or self._real(problem, net, draws, state.memory, generator(state.block, "real"))
        block = Block(real=real, draws=draws)
        rule = self._rule(problem, state.iteration)
        outer, loss, factor = state.outer, 0.0, self.factor(state)
        k = problem.num_classes
        for group in [[c] for c in range(k)] if self.classwise() else [list(range(k))]:

            def objective(S: Tensor, Y: Tensor | None, group: list[int] = group) -> tuple[float, Tensor, Tensor | None]:
                return self._objective(problem, state, net, block, S, Y, group)

            outer, value = descend(problem, outer, objective, rule, factor)
            loss += value
        metrics = {"loss": loss}
        if classifier is not None:
            outer, metrics["calibration"] = self._calibrated(problem, outer, classifier, rule, factor, drawn)
        used = (state.used + 1) % self.reuse
        state = replace(
            state,
            outer=outer,
            used=used,
            real=real if used else {},
            iteration=state.iteration + 1,
            loss=sum(metrics.values()),
        )
        return self.after(problem, state, net, block, rng), metrics

    def done(self, problem: Problem, state: FeatureState) -> bool:
        return state.iteration >= self.iterations

    def result(self, problem: Problem, state: FeatureState) -> Synthetic:
        return synthetic(problem, state.outer, self.space)

    def horizon(self, problem: Problem) -> int | None:
        return self.iterations

    # --- parts --------------------------------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        """What the payload decodes to."""
        return "model"

    def embedder(self, problem: Problem, rng: Generator) -> tuple[Network, Trained | None]:
        """The network that embeds, as ``embedders`` says, and the trained one that it is made of, if it is."""
        if self.embedders == "fresh":
            return problem.network(draw_seed(rng)), None
        made = trained_networks(problem)
        chosen = made[int(torch.randint(len(made), (1,), generator=rng))]
        first = float(torch.rand((), generator=rng)) if self.embedders == "between" else 0.0
        return between(problem, chosen, first), chosen

    def _rule(self, problem: Problem, iteration: int) -> Rule:
        return replace(self.rule(problem, iteration), optimizer=self.optimizer)

    def _draws(self, problem: Problem, rng: Generator) -> tuple[object, ...]:
        """One augmentation per class; one for all where a sample may belong to several."""
        shape, k = problem.train.input.shape, problem.num_classes
        if self.labels == "learned":
            return (problem.augment.draw(1, shape, rng),) * k
        return tuple(problem.augment.draw(1, shape, rng) for _ in range(k))

    def views(self, net: Network, x: Tensor, weights: Tensor, classes: Sequence[int]) -> Views:
        """What the network makes of ``x``."""
        if not self.layered:
            return Views(features=net.embed(x), layers=(), weights=weights, classes=tuple(classes))
        try:
            *layers, features = net.activations(x)
        except NotImplementedError as error:
            raise PotstillError(f"this method looks at inner layers, but {error}; choose a convnet") from error
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

    def _real(
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
        return {n: t if _shared(n) else torch.cat([p[n] for p in parts]) for n, t in parts[0].items()}

    def _objective(
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
                real = {n: t if _shared(n) else t[part] for n, t in block.real.items()}
                value = self.gap(real, syn, state.memory)
                if (extra := self.penalty(state, net, syn, y)) is not None:
                    value = value + extra
                found = torch.autograd.grad(value, leaves, allow_unused=True)
                by_S[rows] = found[0] if found[0] is not None else 0.0
                by_Y = found[1] if len(found) == 2 else None
                loss += float(value.detach())
        return loss, by_S, by_Y

    def _calibrated(
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


def _shared(name: str) -> bool:
    return name.startswith("shared/")


def groups(sizes: list[int], most: int) -> list[list[int]]:
    """Consecutive classes whose samples fit one pass together; a class that does not fit goes alone."""
    made: list[list[int]] = [[]]
    held = 0
    for c, size in enumerate(sizes):
        if made[-1] and held + size > most:
            made.append([])
            held = 0
        made[-1].append(c)
        held += size
    return made


def class_means_of_cross_entropy(logits: Tensor, y: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Cross-entropy summed over classes of the mean within each, as class-wise steps add it up."""
    if y.is_floating_point():
        return cross_entropy(logits, y) * y.shape[1]
    losses = torch.nn.functional.cross_entropy(logits, y, reduction="none")
    return (membership(sizes, losses) @ losses).sum()


def padded(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Tensors of several lengths as one with a class axis, filled up with zeros, and their lengths."""
    sizes = torch.tensor([len(p) for p in parts])
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True), sizes


def unpadded(whole: Tensor, sizes: Tensor) -> list[Tensor]:
    """The parts that `padded` joined."""
    return [part[:n] for part, n in zip(whole, sizes.tolist(), strict=True)]
