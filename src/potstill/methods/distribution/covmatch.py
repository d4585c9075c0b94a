r"""CovMatch: Cross-Covariance Guided Multimodal Dataset Distillation with Trainable Text Encoder (Lee and Chung,
NeurIPS 2025, arXiv:2510.18583).

.. math:: L = \lVert C_T - C_S \rVert_F^2
    + \lambda \big( \lVert E_T\, a - E_S\, a \rVert^2 + \lVert E_T\, b - E_S\, b \rVert^2 \big), \qquad
    C = E[a b^\top] - E[a]\, E[b]^\top

a and b are the features of pictures and texts before both projections. With a contrastive loss to first order the best
projections have a closed form, C, so that a set with the cross-covariance of the real pairs teaches the projections
that real pairs teach (`potstill.functional.cross_covariance`). The second term keeps the features of each view in
place. Both encoders train along on real pairs, and fresh ones take their place now and then.

The paper begins at pretrained encoders; here they are untrained ones, or ``embedders=trained``. We could read the
abstract, the setting and the head of the algorithm, not the program nor the tables of values: all values are ours.
Texts must be vectors of a frozen encoder (``--representation latent``) to be learned; words stay the real ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

import torch
from torch import Generator, Tensor

from potstill.core import MethodInfo, Network, Presets, Problem, StepCost, UnitFloat
from potstill.errors import PotstillError
from potstill.functional.cross_covariance import ViewMoments, cross_covariance_gap, view_moments
from potstill.labels.teacher import SGD, Teacher, teacher_step
from potstill.methods.distribution._statistics import DistributionObjective, Memory, Statistics, Views
from potstill.methods.distribution._values import FeatureMatchingFields, feature_matching
from potstill.methods.engine import EngineMethod, MatchingEngine, MatchingState, load_network, new_pool_member
from potstill.methods.engine.joint_pairs import PrototypeInit
from potstill.nn.dual_encoder import SplitFeatures
from potstill.rng import generator

__all__ = ["CovMatch", "OnlineEncoders"]


@final
@dataclass(frozen=True, kw_only=True)
class OnlineEncoders:
    """One network that trains on real pairs after each block of steps, and gives way to a fresh one."""

    max_age: int
    """Training steps after which a fresh network takes its place."""
    batch: int
    lr: float
    steps_per_network: int

    def init_state(self, problem: Problem, state: MatchingState, rng: Generator, seed: int | None) -> MatchingState:
        return replace(state, pool=(new_pool_member(problem, rng, seed),))

    def draw_networks(self, problem: Problem, state: MatchingState, rng: Generator) -> tuple[Network, Network | None]:
        (member,) = state.pool
        return load_network(problem, member.seed, member.theta, member.buffers).eval(), None

    def advance(self, problem: Problem, state: MatchingState, net: Network, rng: Generator) -> MatchingState:
        state = replace(state, iteration=state.iteration + 1)
        if state.block_steps:
            return state  # networks are fixed within a block
        if (state.iteration // self.steps_per_network) % self.max_age == 0:
            return replace(state, pool=(new_pool_member(problem, rng),))
        return self._after_training(problem, state, rng)

    def step_costs(self, problem: Problem, state: MatchingState) -> tuple[StepCost, ...]:
        def train(_: int) -> Callable[[], object]:
            return lambda: self._after_training(problem, state, generator(0, "plan"))

        size = min(self.batch, len(problem.train))
        return (StepCost(
            what="the encoders' training", real=True, samples=size, size=size, ready=train,
            every=self.steps_per_network, when="after",
        ),)  # fmt: skip

    def _after_training(self, problem: Problem, state: MatchingState, rng: Generator) -> MatchingState:
        (member,) = state.pool
        teacher = Teacher(params=member.theta, velocity=member.velocity, buffers=member.buffers)
        sgd = SGD(batch=self.batch, lr=self.lr)
        after, _ = teacher_step(problem.network(member.seed).train(), teacher, problem.train, rng, sgd)
        trained = replace(member, theta=after.params, velocity=after.velocity, buffers=after.buffers)
        return replace(state, pool=(trained,))


@dataclass(frozen=True, kw_only=True)
class CovMatch(FeatureMatchingFields, EngineMethod[MatchingState]):
    """Match the cross-covariance of pictures' and texts' features, and the mean of each, while encoders train."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="CovMatch: Cross-Covariance Guided Multimodal Dataset Distillation with Trainable Text Encoder",
        paper="arXiv:2510.18583", year=2025, family="distribution", kinds=("pair",), multi_input=True,
        tasks=("retrieval",), training={"lr": 0.1, "epochs": 50},
        use_when="Take it for captioned pictures in few bytes, where the experts of vl-distill take too long: it was "
        "level with that here, and above random pairs in equal bytes.",
        avoid_when="Avoid it before prototypes, which it starts from: at as many pairs it was not above them here.",
        related=("vl-distill", "prototypes", "dm"),
    )  # fmt: skip
    presets: ClassVar[Presets] = {
        "quick": {"iterations": 150, "lr": 0.003, "max_age": 10, "init_from": "k-means"},
        "good": {"iterations": 1000, "lr": 0.003, "init_from": "k-means"},
    }

    iterations: int = 3000
    """Steps of the pairs. Ours."""
    mean_weight: float = 1.0
    """λ: weight of the means of both views' features. Ours."""
    lr: float = 0.01
    """Learning rate of pictures and vectors of texts. Ours: that of our presets of vl-distill."""
    momentum: UnitFloat = 0.5
    """Momentum, or AdamW's first β. Ours."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    """Optimiser of the pairs. Ours: steps do not depend on the scale of features, which changes in training."""
    batch_real: int = 512
    """Real pairs of a step. Ours."""
    max_age: int = 100
    """Training steps of the encoders before fresh ones take their place. Ours."""
    online_batch: int = 128
    """Real pairs of a training step. Ours: that of vl-distill's experts."""
    online_lr: float = 0.1
    """Learning rate of that training, by SGD with momentum. Ours: that of vl-distill's experts."""
    network: str = "towers"
    """Network with an encoder for each view."""

    def build_engine(self, problem: Problem) -> MatchingEngine:
        online = OnlineEncoders(
            max_age=self.max_age, batch=self.online_batch, lr=self.online_lr, steps_per_network=self.steps_per_network
        )
        measure = DistributionObjective(statistics=self.statistics, gap=self.gap, begin=self.begin)
        engine = feature_matching(self, measure, networks=online if self.embedders == "fresh" else None)
        return replace(engine, initial=PrototypeInit()) if self.init_from == "k-means" else engine

    def begin(self, problem: Problem, rng: Generator) -> Memory:
        """Return the number of features of the first view."""
        return {"first": torch.tensor(first_width(problem.network(0)))}

    def statistics(self, real: Views, memory: Memory, rng: Generator) -> Statistics:
        mu = real.means(real.features, "mu")
        product = view_moments(*_split(real.features, memory)).product
        return {"mu": mu, "product": real.released("product", product[None])}

    def gap(self, real: Statistics, syn: Views, memory: Memory) -> Tensor:
        first, second = _split(real["mu"], memory)
        moments = ViewMoments(first[0], second[0], real["product"][0])
        return cross_covariance_gap(moments, view_moments(*_split(syn.features, memory)), self.mean_weight)


def first_width(net: Network) -> int:
    """Return how many features of ``net.embed`` are of the first view.

    Raises:
        PotstillError: the network does not say.
    """
    if not isinstance(net, SplitFeatures):
        raise PotstillError(
            f"covmatch needs the features of both encoders apart, but {type(net).__name__} has no feature_widths; add "
            "that property, the numbers of features of the first and of the second view"
        )
    return net.feature_widths[0]


def _split(features: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
    """Return the features of both views."""
    first = int(memory["first"])
    return features[:, :first], features[:, first:]
