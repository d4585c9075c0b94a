"""The matching engine: synthetic inputs and labels are optimised by an objective on real samples and networks.

Methods differ in the parts: the objective, the source of networks, the parameter groups, and the initial samples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, final

import torch
from torch import Generator, Tensor

from potstill._util.formatting import class_name
from potstill.core import (
    Asset,
    ClassSeparable,
    FollowsUpdates,
    Inputs,
    Metrics,
    Normalization,
    Problem,
    Space,
    StepCost,
    Synthetic,
)
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
    Labels,
    LearnedTargets,
    LossAndGrads,
    MatchingState,
    NetworkSource,
    Objective,
    ObjectiveInputs,
    ShardablePart,
    named_inputs,
)
from potstill.parametrize.quantization_aware import QuantizationAware
from potstill.rng import draw_seed

__all__ = [
    "MatchingEngine", "apply_update", "augment_function", "decode_inputs", "default_param_groups", "idc_learning_rate",
    "payload_bounds",
]  # fmt: skip


EMA_PREFIX = "average/"
"""Prefix of moving averages of parameters in a state's memory."""


@final
@dataclass(frozen=True, kw_only=True)
class MatchingEngine:
    """Engine of all matching methods. A step prepares a block, updates the parameters, then advances the networks.

    Attributes:
        objective: loss and gradients of the synthetic data.
        networks: source of the networks.
        param_groups: parameter groups for (state, last update of the step); also called for the initial state.
        iterations: number of iterations, as the network source counts them.
        steps: steps that the iterations take; ``None``: unknown.
        initial: initial samples.
        labels: ``hard``, ``learned`` (softmax of logits), or ``scores`` (learned real values).
        space: space that the payload decodes to; ``data`` is normalised afterwards.
        extra_parameters: initial values of further parameters by name, such as ``student/lr``.
        export_learned: maps their final values to those stored with the set.
        required_assets: assets built before the first step.
        init_from_first_network: k-means centres use the network that is matched first (DREAM's condense.py).
        ema_decay: decay in [0, 1) of the moving average of payload and labels that is the result; 0: the last state.
        learned_targets: learned rows in place of the real samples' targets, where those are no classes; ``None``: real
            targets stay.
    """

    objective: Objective[Any]
    networks: NetworkSource
    param_groups: Callable[[MatchingState, bool], ParamGroups]
    iterations: int
    steps: int | None
    initial: Init | InitStrategy
    labels: Labels | Literal["scores"]
    space: Space = "model"
    extra_parameters: Mapping[str, Tensor] = field(default_factory=dict)
    export_learned: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict
    required_assets: tuple[Asset, ...] = ()
    init_from_first_network: bool = False
    ema_decay: float = 0.0
    learned_targets: LearnedTargets | None = None

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return self.required_assets

    def init(self, problem: Problem, rng: Generator) -> MatchingState:
        seed = draw_seed(rng) if self.init_from_first_network and self.initial == "k-means" else None
        x, y = self._initial_samples(problem, rng, seed)
        encoded = problem.parametrization.encode(x, problem, rng)
        first = {f"payload/{n}": t for n, t in encoded.items()} | dict(self.extra_parameters)
        first |= {n: t.to(device_of(x)) for n, t in self._initial_labels(problem, x, y, rng).items()}
        bare = MatchingState(params=init_params({}, {}))
        state = replace(bare, params=init_params(first, self._param_groups(problem, bare, False)))
        state = self.networks.init_state(problem, state, rng, seed)
        return replace(state, memory={**state.memory, **self.objective.init_memory(problem, rng)})

    def _initial_samples(self, problem: Problem, rng: Generator, seed: int | None) -> tuple[Inputs, Tensor | None]:
        if problem.target_decoder is None and not problem.starts_alone:
            return initial_samples(problem, self.initial, rng, problem.payload_space(self.space), seed)
        shape = (sum(problem.sizes), *problem.train.input.shape)  # it draws its stretches itself
        return torch.zeros(shape, device=problem.train.device), None

    def _initial_labels(self, problem: Problem, x: Inputs, y: Tensor | None, rng: Generator) -> dict[str, Tensor]:
        if problem.target_decoder is not None:
            return {}
        if self.labels == "scores" and (y is None or y.is_floating_point()):
            return {SCORES: initial_scores(problem) if y is None else y}
        if y is not None and self.learned_targets is not None:
            return {SCORES: self.learned_targets.initial(y, rng)}
        if y is not None:
            return {TARGETS: y}
        if self.labels != "learned":
            return {}
        if isinstance(self.initial, InitStrategy):
            return {LOGITS: self.initial.initial_logits(problem, _normalize(problem, x, self.space))}
        return {LOGITS: initial_logits(problem)}

    def step(self, problem: Problem, state: MatchingState, rng: Generator) -> tuple[MatchingState, Metrics]:
        state, block = self.objective.prepare(problem, self.networks, state, rng)
        params, metrics = state.params, dict[str, float]()
        for name, loss_and_grads, class_groups, divisor in self.objective.updates(problem, state, block):
            loss = 0.0
            for classes in class_groups:
                groups = self._param_groups(problem, state, classes is class_groups[-1])
                params, value = apply_update(
                    problem, params, partial(loss_and_grads, classes), groups, self.space, 1 / len(class_groups)
                )
                loss += value
            metrics[name] = loss / divisor
        after = replace(state, params=params, loss=sum(metrics.values()))
        after = self.objective.finish_step(problem, after, block)
        if self.ema_decay:
            after = replace(after, memory={**after.memory, **self._updated_ema(state, params)})
        return self.networks.advance(problem, after, block.net, rng), metrics

    def done(self, problem: Problem, state: MatchingState) -> bool:
        return state.iteration >= self.iterations

    def result(self, problem: Problem, state: MatchingState) -> Synthetic:
        stored = {**state.params.value, **strip_prefix(EMA_PREFIX, state.memory)}
        values = param_values(replace(state.params, value=stored), self._param_groups(problem, state, False))
        extra = {n: t for n, t in values.items() if not n.startswith(("payload/", "labels/"))}
        labels = _targets(problem, values)
        return Synthetic(
            payload=strip_prefix("payload/", values),
            labels=labels if self.learned_targets is None else self.learned_targets.export(labels),
            space=problem.payload_space(self.space),
            centred_labels=SCORES in values and has_classes(problem), extra_parameters=self.export_learned(extra),
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
            if (why := part.shard_obstacle(problem) if isinstance(part, ShardablePart) else what) is not None:
                return why
        if uses_batch_statistics(problem.network(0)):
            return f"{problem.network.name} has a BatchNorm, in which the classes of a pass see each other"
        if not isinstance(problem.parametrization, ClassSeparable):
            name = class_name(problem.parametrization)
            return f"parametrization {name} shares what it stores between classes, or does not say what is whose"
        return None

    def join_shards(self, problem: Problem, parts: Sequence[tuple[range, MatchingState]]) -> MatchingState:
        decoder = problem.parametrization
        assert isinstance(decoder, ClassSeparable)  # or there is a shard obstacle
        _, state = parts[0]
        joined = [{n: t.clone() for n, t in tensors.items()} for tensors in _optimizer_tensors(state)]
        for classes, shard in parts:
            rows = decoder.class_rows(strip_prefix("payload/", shard.params.value), problem.sizes, classes)
            for target, source in zip(joined, _optimizer_tensors(shard), strict=True):
                for name, shard_rows in rows.items():
                    if f"payload/{name}" in target:
                        target[f"payload/{name}"][shard_rows] = source[f"payload/{name}"][shard_rows]
        value, exp_avg, exp_avg_sq = joined
        params = replace(state.params, value=value, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq)
        return replace(state, params=params, cached={}, block_steps=0, loss=sum(shard.loss for _, shard in parts))

    def _updated_ema(self, before: MatchingState, params: ParamState) -> dict[str, Tensor]:
        """Return the moving averages after an update by their names in the memory; they begin as the first values."""
        averages = {**before.params.value, **strip_prefix(EMA_PREFIX, before.memory)}
        moving = (n for n in params.exp_avg if n.startswith(("payload/", "labels/")))
        return {EMA_PREFIX + n: torch.lerp(params.value[n], averages[n], self.ema_decay) for n in moving}

    def _param_groups(self, problem: Problem, state: MatchingState, last: bool) -> ParamGroups:
        """Return the parameter groups, in which real targets do not move, and a payload may have a rate of its own."""
        groups = {**self.param_groups(state, last), TARGETS: ParamGroup(lr=0.0)}
        lr = problem.payload_lr
        return groups if lr is None else {**groups, "payload/": ParamGroup(lr=lr, optimizer="adamw")}

    def num_steps(self, problem: Problem) -> int | None:
        return self.steps

    def step_costs(self, problem: Problem, state: MatchingState) -> tuple[StepCost, ...]:
        costs = self.objective.step_costs(problem, self.networks, state)
        return (*costs, *self.networks.step_costs(problem, state))


def _optimizer_tensors(state: MatchingState) -> tuple[Mapping[str, Tensor], ...]:
    return state.params.value, state.params.exp_avg, state.params.exp_avg_sq


def augment_function(problem: Problem) -> Callable[[Any, Any], Any]:
    """Return a function of (inputs, drawn parameters) that augments inputs of one tensor, and no others."""
    apply = problem.augment.apply
    return lambda x, params: apply(x, params) if isinstance(x, Tensor) else x


def default_param_groups(
    payload: ParamGroup, lr_labels: float, optimizer: Literal["sgd", "adamw"] | None = None, factor: float = 1.0
) -> ParamGroups:
    """Return groups for the payload and learned labels; labels have no weight decay and no bounds."""
    kind = payload.optimizer if optimizer is None else optimizer
    return {
        "payload/": replace(payload, lr=payload.lr * factor, optimizer=kind),
        "labels/": ParamGroup(lr=lr_labels * factor, optimizer=kind, momentum=payload.momentum),
    }


def payload_bounds(problem: Problem) -> tuple[float, float] | None:
    """Return the range of the inputs' values in data units, for a payload that holds such values; else ``None``."""
    return get_kind(problem.train.input).value_range if problem.parametrization.bounded else None


def idc_learning_rate(problem: Problem, lr: float, side: int) -> float:
    """Return ``lr`` scaled by the stored items per class over 10 and the image area over ``side``².

    IDC's argument.py, tune_lr_img: ``side`` is 28 for MNIST, 224 for ImageNet, else 32 in its releases.
    """
    shape = problem.train.input.shape
    area = shape[-2] * shape[-1] / side**2 if len(shape) == 3 else 1.0
    return lr * problem.ipc / 10 * area


def decode_inputs(problem: Problem, params: ParamState, space: Space) -> tuple[Any, Tensor]:
    """Return the decoded inputs in model space and their targets (classes, or learned rows), without a graph."""
    with torch.no_grad():
        x = _normalize(problem, problem.decode(strip_prefix("payload/", params.value)), space)
    return x, _targets(problem, params.value).to(device_of(x))


def _targets(problem: Problem, values: Mapping[str, Tensor]) -> Tensor:
    rows = learned_label_rows(problem, values)
    return values.get(TARGETS, hard_labels(problem)) if rows is None else rows


def learned_label_rows(problem: Problem, values: Mapping[str, Tensor]) -> Tensor | None:
    """Return the rows of learned labels, or the targets that the payload holds, differentiable; ``None`` where neither
    is learned."""
    if problem.target_decoder is not None:
        return problem.decode_targets(strip_prefix("payload/", values))
    return values[LOGITS].softmax(1) if LOGITS in values else values.get(SCORES)


def _normalize(problem: Problem, decoded: Inputs, space: Space) -> Inputs:
    normalization: Normalization = problem.train.normalization
    return normalization.apply(decoded) if problem.payload_space(space) == "data" else decoded


def apply_update(
    problem: Problem, params: ParamState, objective: Callable[[ObjectiveInputs], LossAndGrads], groups: ParamGroups,
    space: Space = "model", rate_share: float = 1.0,
) -> tuple[ParamState, float]:  # fmt: skip
    """Make one optimizer step on an objective of the decoded synthetic data, and on the price of its coded bits.

    Args:
        problem: data, parametrization and augmentation.
        params: the parameters.
        objective: returns the loss and gradients by the names of its inputs; no gradient at all makes no step, not even
            by momentum.
        groups: parameter groups by prefix.
        space: space that the payload decodes to.
        rate_share: fraction of the price of coded bits that this update pays, of several updates in one step.

    Returns:
        The parameters after the step, and the objective's loss before it.
    """
    values = param_values(params, groups)
    with torch.enable_grad():
        moving = {
            n: t.detach().requires_grad_() for n, t in values.items()
            if n in params.exp_avg and n.startswith(("payload/", "labels/"))
        }  # fmt: skip
        payload = strip_prefix("payload/", {**values, **moving})
        view = named_inputs(_normalize(problem, problem.decode(payload), space))
        if (rows := learned_label_rows(problem, {**values, **moving})) is not None:
            view["labels"] = rows
    extra = {n: t for n, t in values.items() if not n.startswith(("payload/", "labels/")) or n == TARGETS}
    loss, view_grads = objective({n: t.detach() for n, t in view.items()} | extra)
    if not view_grads:
        return params, loss
    decoded, grads = [n for n in view if n in view_grads], dict[str, Tensor]()
    if decoded:
        by_param = torch.autograd.grad(
            [view[n] for n in decoded], tuple(moving.values()), [view_grads[n] for n in decoded], allow_unused=True
        )
        grads = {n: g for n, g in zip(moving, by_param, strict=True) if g is not None}
    if isinstance(rounding := problem.parametrization, QuantizationAware):
        grads = _with_rate(rounding, payload, moving, grads, rate_share)
    after = step_params(params, grads | {n: g for n, g in view_grads.items() if n not in view}, groups)
    if isinstance(counts := getattr(rounding, "inner", rounding), FollowsUpdates):
        counted = counts.after_update(strip_prefix("payload/", after.value))
        after = replace(after, value={**after.value, **{f"payload/{n}": t for n, t in counted.items()}})
    if isinstance(rounding, QuantizationAware) and (
        priced := rounding.next_price(strip_prefix("payload/", param_values(after, groups)))
    ):
        after = replace(after, value={**after.value, **{f"payload/{n}": t for n, t in priced.items()}})
    return after, loss


def _with_rate(
    rounding: QuantizationAware, payload: Mapping[str, Tensor], moving: Mapping[str, Tensor],
    grads: Mapping[str, Tensor], share: float,
) -> dict[str, Tensor]:  # fmt: skip
    """Return the gradients with those of the price of coded bits added."""
    with torch.enable_grad():
        price = rounding.rate_loss(payload)
    if price is None:
        return dict(grads)
    found = torch.autograd.grad(price, tuple(moving.values()), allow_unused=True)
    added = {n: share * g for n, g in zip(moving, found, strict=True) if g is not None}
    return {**grads, **{n: grads[n] + g if n in grads else g for n, g in added.items()}}
