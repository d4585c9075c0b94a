"""The engine of matching: what is stored moves down an objective that real samples and networks take part in.

What differs between methods are the parts: the objective (`potstill.methods.gradient._gradients`,
`potstill.methods.distribution._features`), where the networks come from and how they go on
(`potstill.methods.engine.networks` and its neighbours), the rules by which leaves move, and the start.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, final

import torch
from torch import Generator, Tensor

from potstill.core import Asset, ClassSeparable, Inputs, Metrics, Normalization, Problem, Space, StepCost, Synthetic
from potstill.core.nested import device_of
from potstill.functional.features import uses_batch_statistics
from potstill.functional.param_groups import (
    ParamGroup,
    ParamGroups,
    ParamState,
    init_params,
    param_values,
    step_params,
    strip_prefix,
)
from potstill.kinds import get_kind
from potstill.methods.engine.init import (
    Init,
    InitStrategy,
    hard_labels,
    has_classes,
    initial_logits,
    initial_samples,
    initial_scores,
)  # fmt: skip
from potstill.methods.engine.objective import (
    LOGITS,
    SCORES,
    TARGETS,
    Apart,
    Labels,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    Objective,
    ObjectiveInputs,
    named_inputs,
)
from potstill.rng import draw_seed

__all__ = [
    "MatchingEngine",
    "apply_update",
    "augment_function",
    "decode_inputs",
    "default_param_groups",
    "idc_learning_rate",
    "payload_bounds",
]


AVERAGE = "average/"
"""Before the names of leaves in a memory: their moving averages."""


@final
@dataclass(frozen=True, kw_only=True)
class MatchingEngine:
    """The engine. A step: a block is drawn, what is stored descends, then networks and memories follow."""

    objective: Objective[Any]
    networks: NetworkSource
    param_groups: Callable[[MatchingState, bool], ParamGroups]
    """How leaves move at this state, before which they have none; whether it is the last move of a step's descent."""
    iterations: int
    steps: int | None
    """How many steps the iterations take, where it is known."""
    initial: Init | InitStrategy
    labels: Labels | Literal["scores"]
    """``scores``: real values that move, shown as they are."""
    space: Space = "model"
    """``data``: the payload decodes to data units and is normalised afterwards."""
    extra_parameters: Mapping[str, Tensor] = field(default_factory=dict)
    """Further leaves as they begin, such as ``student/lr``."""
    export_learned: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict
    """What the set says of what these have become, by name."""
    required_assets: tuple[Asset, ...] = ()
    """What must be made before the first step."""
    init_from_first_network: bool = False
    """A start from centres looks at the network that is matched first, as DREAM's condense.py does."""
    ema_decay: float = 0.0
    """Above 0, in [0, 1): the result is a moving average of payload and labels, which keeps so much at every step."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return self.required_assets

    def init(self, problem: Problem, rng: Generator) -> MatchingState:
        seed = draw_seed(rng) if self.init_from_first_network and self.initial == "k-means" else None
        x, y = initial_samples(problem, self.initial, rng, self.space, seed)
        encoded = problem.parametrization.encode(x, problem, rng)
        first = {f"payload/{n}": t for n, t in encoded.items()} | dict(self.extra_parameters)
        first |= {n: t.to(device_of(x)) for n, t in self._initial_labels(problem, x, y).items()}
        bare = MatchingState(params=init_params({}, {}))
        state = replace(bare, params=init_params(first, self._param_groups(bare, False)))
        state = self.networks.init_state(problem, state, rng, seed)
        return replace(state, memory={**state.memory, **self.objective.init_memory(problem, rng)})

    def _initial_labels(self, problem: Problem, x: Inputs, y: Tensor | None) -> dict[str, Tensor]:
        if self.labels == "scores" and (y is None or y.is_floating_point()):
            return {SCORES: initial_scores(problem) if y is None else y}
        if y is not None:
            return {TARGETS: y}
        if self.labels != "learned":
            return {}
        if isinstance(self.initial, InitStrategy):
            return {LOGITS: self.initial.initial_logits(problem, _normalize(problem, x, self.space))}
        return {LOGITS: initial_logits(problem)}

    def step(self, problem: Problem, state: MatchingState, rng: Generator) -> tuple[MatchingState, Metrics]:
        state, block = self.objective.prepare(problem, self.networks, state, rng)
        leaves, metrics = state.params, dict[str, float]()
        for name, of, groups, share in self.objective.updates(problem, state, block):
            loss = 0.0
            for group in groups:
                rules = self._param_groups(state, group is groups[-1])
                leaves, value = apply_update(problem, leaves, partial(of, group), rules, self.space)
                loss += value
            metrics[name] = loss / share
        after = replace(state, params=leaves, loss=sum(metrics.values()))
        after = self.objective.finish_step(problem, after, block)
        if self.ema_decay:
            after = replace(after, memory={**after.memory, **self._updated_ema(state, leaves)})
        return self.networks.advance(problem, after, block.net, rng), metrics

    def done(self, problem: Problem, state: MatchingState) -> bool:
        return state.iteration >= self.iterations

    def result(self, problem: Problem, state: MatchingState) -> Synthetic:
        held = {**state.params.value, **strip_prefix(AVERAGE, state.memory)}
        found = param_values(replace(state.params, value=held), self._param_groups(state, False))
        return Synthetic(
            payload=strip_prefix("payload/", found), space=self.space, labels=_targets(problem, found),
            centred_labels=SCORES in found and has_classes(problem),
            extra_parameters=self.export_learned(
                {n: t for n, t in found.items() if not n.startswith(("payload/", "labels/"))}
            ),
        )  # fmt: skip

    def shard_obstacle(self, problem: Problem) -> str | None:
        if not has_classes(problem):
            return f"{problem.task.name} has no classes to divide"
        if self.labels != "hard":
            return "labels are learned, by which every sample may belong to every class"
        if self.extra_parameters or self.ema_decay:
            return "what it learns beside the samples, or averages, is of all classes"
        if isinstance(self.initial, InitStrategy):
            return "it chooses the samples that it starts from among all classes"
        for part, what in (
            (self.networks, "its networks train along the way, with all classes"),
            (self.objective, "its objective is no sum over classes"),
        ):
            if (why := part.shard_obstacle(problem) if isinstance(part, Apart) else what) is not None:
                return why
        if uses_batch_statistics(problem.network(0)):
            return f"{problem.network.name} has a BatchNorm, in which the classes of a pass see each other"
        if not isinstance(problem.parametrization, ClassSeparable):
            name = type(problem.parametrization).__name__.lower()
            return f"parametrization {name} shares what it stores between classes, or does not say what is whose"
        return None

    def join_shards(self, problem: Problem, parts: Sequence[tuple[range, MatchingState]]) -> MatchingState:
        decoder = problem.parametrization
        assert isinstance(decoder, ClassSeparable)  # or it is shard_obstacle
        _, state = parts[0]
        made = [{n: t.clone() for n, t in of.items()} for of in _moving_tensors(state)]
        for classes, one in parts:
            rows = decoder.class_rows(strip_prefix("payload/", one.params.value), problem.sizes, classes)
            for whole, part in zip(made, _moving_tensors(one), strict=True):
                for name, mine in rows.items():
                    if f"payload/{name}" in whole:
                        whole[f"payload/{name}"][mine] = part[f"payload/{name}"][mine]
        held, first, second = made
        leaves = replace(state.params, value=held, exp_avg=first, exp_avg_sq=second)
        return replace(state, params=leaves, cached={}, block_steps=0, loss=sum(one.loss for _, one in parts))

    def _updated_ema(self, before: MatchingState, leaves: ParamState) -> dict[str, Tensor]:
        """The moving averages after a move, by their names in a memory. They begin as the first values."""
        kept = {**before.params.value, **strip_prefix(AVERAGE, before.memory)}
        moving = (n for n in leaves.exp_avg if n.startswith(("payload/", "labels/")))
        return {AVERAGE + n: torch.lerp(leaves.value[n], kept[n], self.ema_decay) for n in moving}

    def _param_groups(self, state: MatchingState, last: bool) -> ParamGroups:
        """The rules; targets that are no classes stay as they are."""
        return {**self.param_groups(state, last), TARGETS: ParamGroup(lr=0.0)}

    def num_steps(self, problem: Problem) -> int | None:
        return self.steps

    def step_costs(self, problem: Problem, state: MatchingState) -> tuple[StepCost, ...]:
        compared = self.objective.step_costs(problem, self.networks, state)
        return (*compared, *self.networks.step_costs(problem, state))


def _moving_tensors(state: MatchingState) -> tuple[Mapping[str, Tensor], ...]:
    """All that moves, and how it did."""
    return state.params.value, state.params.exp_avg, state.params.exp_avg_sq


def augment_function(problem: Problem) -> Callable[[Any, Any], Any]:
    """The problem's augmentation of inputs, with what was drawn for them. Inputs with names stay as they are."""
    apply = problem.augment.apply
    return lambda x, params: apply(x, params) if isinstance(x, Tensor) else x


def default_param_groups(
    payload: ParamGroup, lr_labels: float, optimizer: Literal["sgd", "adamw"] | None = None, factor: float = 1.0
) -> ParamGroups:
    """Rules of the payload and of learned labels, which do not decay and are not bounded."""
    kind = payload.optimizer if optimizer is None else optimizer
    return {
        "payload/": replace(payload, lr=payload.lr * factor, optimizer=kind),
        "labels/": ParamGroup(lr=lr_labels * factor, optimizer=kind, momentum=payload.momentum),
    }


def payload_bounds(problem: Problem) -> tuple[float, float] | None:
    """[0, 1] for a payload that holds values of pictures in data units."""
    return get_kind(problem.train.input).value_range if problem.parametrization.bounded else None


def idc_learning_rate(problem: Problem, lr: float, side: int) -> float:
    """IDC's rate: ``lr`` for ten stored items per class and pictures of ``side``² pixels, in proportion to both.

    IDC's argument.py, tune_lr_img: what its releases take for ``side`` is 28 for MNIST, 224 for ImageNet, else 32.
    """
    shape = problem.train.input.shape
    area = shape[-2] * shape[-1] / side**2 if len(shape) == 3 else 1.0
    return lr * problem.ipc / 10 * area


def decode_inputs(problem: Problem, leaves: ParamState, space: Space) -> tuple[Any, Tensor]:
    """The decoded inputs in model space, and their targets: classes, or rows where they are learned. No graph."""
    with torch.no_grad():
        x = _normalize(problem, problem.decode(strip_prefix("payload/", leaves.value)), space)
    return x, _targets(problem, leaves.value).to(device_of(x))


def _targets(problem: Problem, found: Mapping[str, Tensor]) -> Tensor:
    """Targets as the leaves have them; the classes where none does."""
    rows = learned_label_rows(found)
    return found.get(TARGETS, hard_labels(problem)) if rows is None else rows


def learned_label_rows(found: Mapping[str, Tensor]) -> Tensor | None:
    """The rows that learned labels stand for, differentiable; ``None`` where none are learned."""
    return found[LOGITS].softmax(1) if LOGITS in found else found.get(SCORES)


def _normalize(problem: Problem, decoded: Inputs, space: Space) -> Inputs:
    normalization: Normalization = problem.train.normalization
    return normalization.apply(decoded) if space == "data" else decoded


def apply_update(
    problem: Problem,
    leaves: ParamState,
    objective: Callable[[ObjectiveInputs], LossAndGrads],
    rules: ParamGroups,
    space: Space = "model",
) -> tuple[ParamState, float]:
    """The leaves after one move down an objective of what they decode to, and the loss before it.

    An objective that gives no gradient at all makes no move: what does not move by momentum either.
    """
    known = param_values(leaves, rules)
    with torch.enable_grad():
        moving = {
            n: t.detach().requires_grad_() for n, t in known.items()
            if n in leaves.exp_avg and n.startswith(("payload/", "labels/"))
        }  # fmt: skip
        ends = named_inputs(_normalize(problem, problem.decode(strip_prefix("payload/", {**known, **moving})), space))
        if (rows := learned_label_rows(moving)) is not None:
            ends["labels"] = rows
    beside = {n: t for n, t in known.items() if not n.startswith(("payload/", "labels/")) or n == TARGETS}
    loss, slopes = objective({n: t.detach() for n, t in ends.items()} | beside)
    if not slopes:
        return leaves, loss
    through, grads = [n for n in ends if n in slopes], dict[str, Tensor]()
    if through:
        found = torch.autograd.grad(
            [ends[n] for n in through], tuple(moving.values()), [slopes[n] for n in through], allow_unused=True
        )
        grads = {n: g for n, g in zip(moving, found, strict=True) if g is not None}
    return step_params(leaves, grads | {n: slopes[n] for n in slopes if n not in ends}, rules), loss
