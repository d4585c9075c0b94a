"""The objective of closed forms: how well kernel ridge regression on what is stored foretells real samples.

Inputs and targets of a set are all that such a learner has, and its answer has a formula, so that its loss on real
samples is differentiated by both without a step of training. Targets of classes are one-hot − 1/k, real ones are in
deviations of the training part, and the learner fits what they differ from the set's own mean, as the learners of
`potstill.evaluation.learners` do; what is stored stays in the task's own units.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from potstill.core import Inputs, InputSpec, Network, Problem, Space, StepCost
from potstill.core.nested import iter_batches
from potstill.data.real_data import RealData
from potstill.functional.features import input_rows
from potstill.functional.kernels import FullyConnected, concat_embeddings
from potstill.functional.param_groups import ParamGroups, param_values, strip_prefix
from potstill.functional.ridge import predict, ridge_weights
from potstill.functional.sampling import sample_distinct
from potstill.methods.engine import (
    LOGITS,
    SCORES,
    TARGETS,
    JointObjective,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    ObjectiveInputs,
    StaticNetworks,
    augment_function,
    hard_labels,
    has_classes,
    inputs_of_view,
    named_inputs,
)
from potstill.rng import draw_seed, generator

__all__ = [
    "NUMBERS_PER_PASS", "TEMPERATURE", "ClosedForm", "KernelFit", "KernelRidge", "LinearFit", "NoNetworks",
    "RidgeLoss", "decode_set", "label_margin", "regression_targets", "ridge_loss", "set_targets", "target_statistics",
]  # fmt: skip

RidgeLoss: TypeAlias = Literal["mean", "sum", "platt"]
"""Half the squared error, as mean over all numbers (KIP) or as mean over samples of the sum (FRePo), or cross-entropy
of the answers times a learned temperature (RFAD, after Platt)."""

TEMPERATURE = "kernel/temperature"
"""The leaf that answers are multiplied with before their softmax."""

_LEAST_VARIANCE, _LEAST_ERROR = 1e-18, 1e-12
"""Lower clamps of an input's variance and of an error under a logarithm."""

NUMBERS_PER_PASS = 2**18
"""Input numbers of real samples in one pass through networks."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """Networks, augmentation and real samples that the updates of one step share."""

    net: Network
    networks: tuple[Network, ...]
    omega: object
    """The augmentation that all share."""
    rows: Tensor
    """Features of the real samples."""
    targets: Tensor
    """Theirs, float64 (n, t)."""
    y: Tensor
    """As the task has them."""


class _IdentityNetwork(Network):
    """Inputs as rows of numbers."""

    def __init__(self, input: InputSpec) -> None:
        super().__init__()
        self.input = input

    def embed(self, x: Inputs) -> Tensor:
        return input_rows(x, self.input)


@final
@dataclass(frozen=True, kw_only=True)
class NoNetworks(StaticNetworks):
    """No network: what embeds an input is the input. Kernels of infinitely wide networks need no more."""

    def draw_networks(self, problem: Problem, state: MatchingState, rng: Generator) -> tuple[Network, Network | None]:
        return _IdentityNetwork(problem.train.input), None

    def regularizer_obstacle(self, problem: Problem) -> str | None:
        return "its kernel is of infinitely wide networks, and no network classifies"


class ClosedForm(Protocol):
    """A learner that is fitted in closed form."""

    def __call__(self, rows: Tensor, targets: Tensor, queries: Tensor, /) -> Tensor:
        """Return its answers (m, t) to ``queries`` (m, d) once it is fitted on rows (n, d) and targets (n, t)."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class KernelFit:
    """Kernel ridge regression on targets less their mean, as the learner ``krr-ntk``."""

    kernel: FullyConnected
    ridge: float

    def __call__(self, rows: Tensor, targets: Tensor, queries: Tensor, /) -> Tensor:
        mean = targets.mean(0)
        return predict(self.kernel(queries, rows), self.kernel(rows, rows), targets - mean, self.ridge) + mean


@final
@dataclass(frozen=True, kw_only=True)
class LinearFit:
    """Linear ridge regression on inputs that are standardised by the rows, as the learner ``ridge``."""

    penalty: float
    """Relative to the mean variance of the inputs."""

    def __call__(self, rows: Tensor, targets: Tensor, queries: Tensor, /) -> Tensor:
        rows, centre, mean = rows.double(), rows.double().mean(0), targets.mean(0)
        scale = (rows - centre).square().mean(0).clamp_min(_LEAST_VARIANCE).sqrt()
        x = (rows - centre) / scale
        weights = ridge_weights(x, targets - mean, self.penalty * len(x) / x.shape[1])
        return ((queries.double() - centre) / scale) @ weights + mean


@final
@dataclass(frozen=True, kw_only=True)
class KernelRidge(JointObjective[Block]):
    """Fit real samples by kernel ridge regression on what is stored."""

    kernel: FullyConnected
    """Kernel of the embeddings."""
    batch_real: int
    """Real samples of a step, of all classes together."""
    ridge: float
    """Ridge relative to the mean of the kernel's diagonal, or to its trace."""
    loss: RidgeLoss
    space: Space = "model"
    num_networks: int = 1
    """Networks whose features stand side by side."""
    balanced: bool = True
    """Draw real samples balanced over classes; otherwise uniformly."""
    steps_per_network: int = 1
    """Moves with the same networks, real samples and augmentation."""
    mixture: tuple[ClosedForm, ...] = ()
    """Learners of which the logarithms of the mean squared errors are averaged; empty: the kernel's loss alone."""
    use_margin: bool = False
    """A learned label's largest number is to stay 1/k above the next (FRePo)."""
    of_trace: bool = False
    """The ridge is relative to the trace of the kernel (KRR-ST)."""

    def prepare(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, rng: Generator
    ) -> tuple[MatchingState, Block]:
        if state.block_steps == 0:
            state = replace(state, block_seed=draw_seed(rng))
        drawn = generator(state.block_seed, "block")
        return state, self._make_block(problem, networks, state, self._draw_real(problem, drawn), drawn)

    def _make_block(
        self, problem: Problem, networks: NetworkSource, state: MatchingState, index: Tensor, rng: Generator
    ) -> Block:
        nets = tuple(
            networks.draw_networks(problem, state, rng)[0].requires_grad_(False) for _ in range(self.num_networks)
        )
        omega = problem.augment.draw(1, problem.train.input.shape, rng)
        if held := state.cached:
            return Block(
                net=nets[0], networks=nets, omega=omega, rows=held["rows"], targets=held["targets"], y=held["y"]
            )  # fmt: skip
        batch = RealData.of(problem).batch(index)
        y = batch.y if batch.y is not None else problem.train.labels[index]
        part = max(1, NUMBERS_PER_PASS // max(1, problem.train.input.num_values))
        with torch.no_grad():
            rows = torch.cat(
                [
                    concat_embeddings(nets, augment_function(problem)(some, omega))
                    for some in iter_batches(batch.x, part)
                ]
            )
        return Block(net=nets[0], networks=nets, omega=omega, rows=rows, targets=regression_targets(problem, y), y=y)

    def _draw_real(self, problem: Problem, rng: Generator) -> Tensor:
        if not self.balanced:
            return sample_distinct(len(problem.train), self.batch_real, rng)
        return torch.cat(RealData.of(problem).draw(-(-self.batch_real // problem.num_classes), rng))

    def loss_and_grads(
        self, problem: Problem, state: MatchingState, block: Block, view: ObjectiveInputs
    ) -> LossAndGrads:
        moving = {n: t for n, t in view.items() if t.is_floating_point() and n != TARGETS}
        leaves = {n: t.detach().clone().requires_grad_() for n, t in moving.items()}
        with torch.enable_grad():
            S = inputs_of_view({**view, **leaves})
            rows = concat_embeddings(block.networks, augment_function(problem)(S, block.omega))
            y = set_targets(problem, leaves, view, LOGITS in state.params.value)
            if self.mixture:
                errors = [(fit(rows, y, block.rows) - block.targets).square().mean() for fit in self.mixture]
                loss = torch.stack([error.clamp_min(_LEAST_ERROR).log() for error in errors]).mean()
            else:
                mean = y.new_zeros(y.shape[1]) if has_classes(problem) else y.mean(0)
                ridge = self.ridge * (len(y) if self.of_trace else 1)
                answers = predict(self.kernel(block.rows, rows), self.kernel(rows, rows), y - mean, ridge) + mean
                loss = ridge_loss(problem, self.loss, answers, block.targets, block.y, leaves)
            if self.use_margin:
                loss = loss - label_margin(problem, leaves, y, 1 / problem.num_classes)
        found = torch.autograd.grad(loss, tuple(leaves.values()), allow_unused=True)
        slopes = {n: g for n, g in zip(leaves, found, strict=True) if g is not None}
        return float(loss.detach()), slopes

    def finish_step(self, problem: Problem, state: MatchingState, block: Block) -> MatchingState:
        used = (state.block_steps + 1) % self.steps_per_network
        kept = {"rows": block.rows, "targets": block.targets, "y": block.y} if used else {}
        return replace(state, block_steps=used, cached=kept)

    def step_costs(self, problem: Problem, networks: NetworkSource, state: MatchingState) -> tuple[StepCost, ...]:
        state = replace(state, block_steps=0, cached={})
        index = self._draw_real(problem, generator(0, "plan"))
        held, k = state.params.value, problem.num_classes
        view = {n: t.detach() for n, t in named_inputs(problem.decode(strip_prefix("payload/", held))).items()}
        n = len(next(iter(view.values())))
        if learned := sorted({LOGITS, SCORES} & held.keys()):
            view["labels"] = torch.zeros_like(held[learned[0]])
        elif (targets := problem.decode_targets(strip_prefix("payload/", held))) is not None:
            view["labels"] = targets.detach()
        view |= {name: held[name] for name in (TARGETS, TEMPERATURE) if name in held}

        def real(_: int) -> Callable[[], Block]:
            return lambda: self._make_block(problem, networks, state, index, generator(0, "plan"))

        def synthetic(_: int) -> Callable[[], object]:
            block = real(1)()
            return lambda: self.loss_and_grads(problem, state, block, view)[0]

        return (
            StepCost(
                what="features of real samples",
                real=True,
                samples=len(index),
                size=-(-len(index) // k),
                ready=real,
                every=self.steps_per_network,
            ),
            StepCost(what="ridge regression", samples=n, size=n, ready=synthetic, when="descent"),
        )


def ridge_loss(
    problem: Problem, fit: RidgeLoss, answers: Tensor, targets: Tensor, y: Tensor, leaves: Mapping[str, Tensor]
) -> Tensor:
    """Return the loss of answers (n, t) for real targets (n, t), which are ``y`` as the task has them."""
    if fit == "platt" and has_classes(problem):
        return F.cross_entropy(leaves[TEMPERATURE].double() * answers, y.long())
    squares = (answers - targets).square()
    return 0.5 * (squares.sum(1).mean() if fit == "sum" else squares.mean())


def label_margin(problem: Problem, leaves: Mapping[str, Tensor], y: Tensor, cap: float) -> Tensor:
    """Mean of how far the largest number of a learned label is above the next, each at most ``cap``.

    FRePo's program has 1/k (frepo.py, lb_margin_th), RCIG's 1/(2k) (algorithms.py, get_krr_loss).
    """
    if "labels" not in leaves or not has_classes(problem):
        return y.new_zeros(())
    best = y.topk(2, 1).values
    return (best[:, 0] - best[:, 1]).clamp_max(cap).mean()


def set_targets(problem: Problem, leaves: Mapping[str, Tensor], view: ObjectiveInputs, probable: bool) -> Tensor:
    """Return the synthetic targets as the learner has them, differentiable; ``probable``: they are softmax rows."""
    if "labels" not in leaves:
        return regression_targets(problem, view.get(TARGETS, hard_labels(problem))).to(
            next(iter(leaves.values())).device
        )
    y = leaves["labels"].double()
    if not has_classes(problem):
        return standardize_targets(problem, y)
    return y - 1 / problem.num_classes if probable else y


def target_statistics(problem: Problem) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each real target, by what the task makes of a network's zeros and ones."""
    zeros = torch.zeros(1, problem.task.outputs, dtype=torch.float64)
    mean = problem.task.predict(zeros)
    return mean[0], (problem.task.predict(zeros + 1) - mean)[0]


def standardize_targets(problem: Problem, y: Tensor) -> Tensor:
    """Real targets less their mean, over their deviation, float64."""
    mean, std = target_statistics(problem)
    return (y.double() - mean.to(y.device)) / std.to(y.device)


def regression_targets(problem: Problem, y: Tensor) -> Tensor:
    """Targets as ridge regression fits them, float64 (n, t): classes and rows less 1/k, real ones scaled."""
    if not has_classes(problem):
        return standardize_targets(problem, y)
    k = problem.num_classes
    return (y.double() if y.is_floating_point() else F.one_hot(y.long(), k).double()) - 1 / k


def decode_set(problem: Problem, state: MatchingState, rules: ParamGroups) -> tuple[Inputs, Tensor]:
    """Return decoded inputs and targets as a learner has them, without a graph; targets as in `wanted`. No graph."""
    known = param_values(state.params, rules)
    with torch.no_grad():
        x: Inputs = problem.decode(strip_prefix("payload/", known))
        if (y := problem.decode_targets(strip_prefix("payload/", known))) is not None:
            return x, standardize_targets(problem, y)
    if SCORES in known:
        return x, known[SCORES].double() if has_classes(problem) else standardize_targets(problem, known[SCORES])
    rows = known[LOGITS].softmax(1) if LOGITS in known else known.get(TARGETS, hard_labels(problem))
    return x, regression_targets(problem, rows)
