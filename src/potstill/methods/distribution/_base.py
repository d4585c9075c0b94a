"""The step of feature matching: a network, real samples and a siamese augmentation; a method adds its statistics.

One step draws a block (network, real samples, augmentation), takes the real samples' statistics, and moves what is
stored down the distance of the synthetic samples' statistics from them. Statistics of a block may be used for several
steps (``reuse``): then the real samples pass through the network only once in so many.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from potstill.core import AssetSpec, Metrics, Network, Part, Problem, Synthetic, Trained
from potstill.errors import PotstillError
from potstill.methods._matching import Labels, Rule, Start, descend, start, synthetic
from potstill.methods._networks import between, trained_networks
from potstill.methods.distribution._passes import Passes
from potstill.methods.distribution._statistics import Block, FeatureState
from potstill.rng import draw_seed, generator

__all__ = ["FeatureMatching"]


@dataclass(frozen=True, kw_only=True)
class FeatureMatching(Passes):
    """Abstract: what is not published, and every method has; the other fields are those of the final classes."""

    own_networks: ClassVar[bool] = False
    """Whether the method has networks of its own, so that ``embedders`` is not to be chosen."""
    may_be_zero: ClassVar[tuple[str, ...]] = ("epochs_trained",)
    fractions: ClassVar[tuple[str, ...]] = ("momentum",)

    iterations: int
    lr: float
    momentum: float
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
    """Passes that each is trained for; 0 leaves them untrained. Ours."""
    batch_trained: int = 64
    """Batch of that training. Ours."""
    schedule_trained: Literal["steps", "cosine", "constant"] = "steps"
    """How its rate falls from 0.01: times 0.2 after 2/3 and 5/6 of the passes, along a cosine, or not. Ours."""
    augment_training: str = "idc"
    """Per-sample augmentation of that training. Ours."""

    # --- what a method says -------------------------------------------------------------------------------------

    def rule(self, problem: Problem, iteration: int) -> Rule:
        """How what is stored moves at this iteration."""
        return Rule(lr=self.lr, momentum=self.momentum, lr_labels=self.lr_labels)

    def networks(self, problem: Problem, state: FeatureState, rng: Generator) -> tuple[Network, Network | None]:
        """The network that embeds in this block, and one that classifies, for methods that calibrate."""
        return self.embedder(problem, rng)[0], None

    def after(self, problem: Problem, state: FeatureState, net: Network, block: Block, rng: Generator) -> FeatureState:
        """What else evolves with a step; the state is that after it."""
        return state

    def factor(self, state: FeatureState) -> float:
        """What the learning rates are multiplied with at this step."""
        return 1.0

    # --- the four verbs -----------------------------------------------------------------------------------------

    def assets(self, problem: Problem) -> tuple[AssetSpec, ...]:
        if self.embedders == "fresh":
            return ()
        recipe: dict[str, float | int | str] = {
            "epochs": self.epochs_trained, "batch": self.batch_trained, "lr": 0.01, "momentum": 0.9,
            "weight_decay": 5e-4, "augment": self.augment_training, "cutmix": 0.5,
        }  # fmt: skip
        if self.schedule_trained != "steps":
            recipe["schedule"] = self.schedule_trained
        return (AssetSpec(name="networks", kind="networks", count=self.networks_trained, recipe=recipe),)

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
        real = state.real or self.real_statistics(problem, net, draws, state.memory, generator(state.block, "real"))
        block = Block(real=real, draws=draws)
        rule = self._rule(problem, state.iteration)
        outer, loss, factor = state.outer, 0.0, self.factor(state)
        k = problem.num_classes
        for group in [[c] for c in range(k)] if self.classwise() else [list(range(k))]:

            def objective(S: Tensor, Y: Tensor | None, group: list[int] = group) -> tuple[float, Tensor, Tensor | None]:
                return self.objective(problem, state, net, block, S, Y, group)

            outer, value = descend(problem, outer, objective, rule, factor)
            loss += value
        metrics = {"loss": loss}
        if classifier is not None:
            outer, metrics["calibration"] = self.calibrated(problem, outer, classifier, rule, factor, drawn)
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

    def parts(self, problem: Problem, state: FeatureState) -> tuple[Part, ...]:
        rng = generator(0, "plan")
        net, classifier = self.networks(problem, state, rng)
        return self.passes(problem, state, net, classifier, self._draws(problem, rng), self.reuse, rng)

    # --- parts --------------------------------------------------------------------------------------------------

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
