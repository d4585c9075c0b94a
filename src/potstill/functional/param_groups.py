"""Named parameters and their optimizer state as values, with parameter groups by name prefix.

A parameter is a tensor with a name: ``payload/inputs``, ``labels/logits``, ``student/lr``. A group holds for all
parameters whose names begin with its prefix; the longest prefix decides. Nothing is changed in place, so earlier states
stay valid, and a state is a value that a checkpoint can hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from potstill.functional.optim import Adaptive, adaptive_step, sgd_tensor, zeros

__all__ = [
    "Optimizer", "ParamGroup", "ParamGroups", "ParamState", "group_of", "init_params", "param_values", "step_params",
    "strip_prefix",
]  # fmt: skip

Optimizer: TypeAlias = Literal["sgd"] | Adaptive


@dataclass(frozen=True, kw_only=True)
class ParamGroup:
    """Optimizer settings of the parameters with one prefix; ``momentum`` is SGD's."""

    lr: float
    optimizer: Optimizer = "sgd"
    momentum: float = 0.0
    weight_decay: float = 0.0
    bounds: tuple[float, float] | None = None
    """Bounds that values are clamped to after every step; of logarithms with ``log_scale``."""
    log_scale: bool = False
    """Optimise the logarithm, so that the value stays above 0."""
    scale: tuple[float, ...] = ()
    """Positive scale of each number of the last axis: values divided by it are optimised, so that one learning rate
    suits targets in thousands and in tenths; bounds are of the scaled values. Empty: no scaling."""


ParamGroups: TypeAlias = Mapping[str, ParamGroup]
"""Groups by prefix; ``""`` matches all parameters that no other prefix matches."""


@dataclass(frozen=True, kw_only=True)
class ParamState:
    """Parameters with their optimizer state."""

    value: Mapping[str, Tensor]
    """Tensors by name: logarithms with ``log_scale``, scaled values with ``scale``. Integer tensors do not move."""
    exp_avg: Mapping[str, Tensor]
    """SGD's momentum buffer, or the first moment of other optimizers, of every floating parameter."""
    exp_avg_sq: Mapping[str, Tensor]
    """Second moment of adaptive optimizers."""
    num_steps: int = 0
    """Number of steps made."""


def group_of(name: str, groups: ParamGroups) -> ParamGroup:
    """Return the group of a parameter.

    Raises:
        ValueError: no prefix is the beginning of its name.
    """
    fitting = [prefix for prefix in groups if name.startswith(prefix)]
    if not fitting:
        raise ValueError(
            f"no rule says how {name!r} moves; there are rules for {', '.join(sorted(groups)) or 'nothing'}"
        )
    return groups[max(fitting, key=len)]


def init_params(initial: Mapping[str, Tensor], groups: ParamGroups) -> ParamState:
    """Return the state of parameters with these initial values.

    Raises:
        ValueError: one has no rule, or must be positive and is not.
    """
    values: dict[str, Tensor] = {}
    for name, value in initial.items():
        values[name] = value.detach().clone()
        if value.is_floating_point() and group_of(name, groups).log_scale:
            if not bool((value > 0).all()):
                raise ValueError(f"{name!r} must be above 0, but it is {float(value.min()):g} somewhere")
            values[name] = values[name].log()
        if value.is_floating_point() and (units := group_of(name, groups).scale):
            values[name] = values[name] / value.new_tensor(units)
    moving = {n: t for n, t in values.items() if t.is_floating_point()}
    twice = {n: t for n, t in moving.items() if group_of(n, groups).optimizer != "sgd"}
    return ParamState(value=values, exp_avg=zeros(moving), exp_avg_sq=zeros(twice))


def param_values(state: ParamState, groups: ParamGroups) -> dict[str, Tensor]:
    """Return the values of the parameters by name: logarithms and scales undone."""
    return {n: _param_value(t, group_of(n, groups)) if n in state.exp_avg else t for n, t in state.value.items()}


def _param_value(t: Tensor, rule: ParamGroup) -> Tensor:
    t = t * t.new_tensor(rule.scale) if rule.scale else t
    return t.exp() if rule.log_scale else t


def strip_prefix(prefix: str, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix``, without it."""
    return {n.removeprefix(prefix): t for n, t in named.items() if n.startswith(prefix)}


def step_params(state: ParamState, grads: Mapping[str, Tensor], groups: ParamGroups) -> ParamState:
    """Return the state after one optimizer step of every floating parameter.

    Args:
        grads: by leaf name, of the values (not of logarithms); what is missing counts as zero.

    Raises:
        ValueError: a gradient is of no leaf that moves, or a leaf has no rule.
    """
    if odd := sorted(set(grads) - set(state.exp_avg)):
        raise ValueError(f"{odd[0]!r} is no leaf that moves; those are {', '.join(sorted(state.exp_avg))}")
    values, first, second = dict(state.value), dict(state.exp_avg), dict(state.exp_avg_sq)
    for name in state.exp_avg:
        rule, p = group_of(name, groups), state.value[name]
        g = torch.zeros_like(p) if (found := grads.get(name)) is None else found
        g = g * _param_value(p, rule) if rule.log_scale else g
        g = g * g.new_tensor(rule.scale) if rule.scale else g
        if rule.optimizer == "sgd":
            values[name], first[name] = sgd_tensor(
                p, g, first[name], lr=rule.lr, momentum=rule.momentum, weight_decay=rule.weight_decay
            )
        else:
            before = {name: p}, {name: g}, {name: first[name]}, {name: second[name]}
            moved = adaptive_step(rule.optimizer, *before, state.num_steps, lr=rule.lr, weight_decay=rule.weight_decay)
            values[name], first[name], second[name] = (t[name] for t in moved)
        if rule.bounds is not None:
            values[name] = values[name].clamp(*rule.bounds)
    return ParamState(value=values, exp_avg=first, exp_avg_sq=second, num_steps=state.num_steps + 1)
