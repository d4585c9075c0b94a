"""What is optimised, by name, and how each of it moves.

A leaf is a tensor with a name: ``payload/inputs``, ``labels/logits``, ``student/lr``, ``latents/…``. A rule stands for
all leaves whose names begin with its prefix; the longest prefix decides. Nothing is written into, so old leaves stay
valid, and all of it is a value that a checkpoint can hold.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from potstill.functional.optim import Moved, adabelief, adamw, lamb, sgd, zeros

__all__ = ["Leaves", "Optimizer", "Rule", "Rules", "descend", "planted", "rule_of", "under", "values"]

Optimizer: TypeAlias = Literal["sgd", "adamw", "lamb", "adabelief", "adabelief-old-mean"]
"""``adabelief`` is the paper's; ``adabelief-old-mean`` compares gradients with the mean before the step."""

_ADAPTIVE: Mapping[str, Callable[..., Moved]] = {
    "adamw": adamw, "lamb": lamb, "adabelief": adabelief, "adabelief-old-mean": partial(adabelief, about="old mean"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How leaves of a prefix move."""

    lr: float
    optimizer: Optimizer = "sgd"
    momentum: float = 0.0
    """Of SGD."""
    weight_decay: float = 0.0
    within: tuple[float, float] | None = None
    """Bounds that values are put back into after every move; of logarithms where it is ``positive``."""
    positive: bool = False
    """The logarithm is held and moves, so that the value is above 0 whatever the step."""
    units: tuple[float, ...] = ()
    """Of each number of the last axis, above 0: values over these are held and move, so that a rate means as much for
    targets in thousands as for ones in tenths. None: as they are. Bounds are then of what is held."""


Rules: TypeAlias = Mapping[str, Rule]
"""By prefix; ``""`` stands for all that no other names."""


@dataclass(frozen=True, kw_only=True)
class Leaves:
    """All that an optimiser holds, as a value."""

    held: Mapping[str, Tensor]
    """By name; where the rule is ``positive``, logarithms; where it has ``units``, values over them. Whole numbers
    (positions) do not move."""
    first: Mapping[str, Tensor]
    """SGD's velocity, or the first moment of another optimiser, of all that moves."""
    second: Mapping[str, Tensor]
    """The second moment."""
    count: int = 0
    """Moves made."""


def rule_of(name: str, rules: Rules) -> Rule:
    """The rule of a leaf.

    Raises:
        ValueError: no prefix is the beginning of its name.
    """
    fitting = [prefix for prefix in rules if name.startswith(prefix)]
    if not fitting:
        raise ValueError(
            f"no rule says how {name!r} moves; there are rules for {', '.join(sorted(rules)) or 'nothing'}"
        )
    return rules[max(fitting, key=len)]


def planted(first: Mapping[str, Tensor], rules: Rules) -> Leaves:
    """Leaves with these values that have not moved yet.

    Raises:
        ValueError: one has no rule, or must be positive and is not.
    """
    held: dict[str, Tensor] = {}
    for name, value in first.items():
        held[name] = value.detach().clone()
        if value.is_floating_point() and rule_of(name, rules).positive:
            if not bool((value > 0).all()):
                raise ValueError(f"{name!r} must be above 0, but it is {float(value.min()):g} somewhere")
            held[name] = held[name].log()
        if value.is_floating_point() and (units := rule_of(name, rules).units):
            held[name] = held[name] / value.new_tensor(units)
    moving = {n: t for n, t in held.items() if t.is_floating_point()}
    twice = {n: t for n, t in moving.items() if rule_of(n, rules).optimizer in _ADAPTIVE}
    return Leaves(held=held, first=zeros(moving), second=zeros(twice))


def values(leaves: Leaves, rules: Rules) -> dict[str, Tensor]:
    """What the leaves stand for, by name."""
    return {n: _value(t, rule_of(n, rules)) if n in leaves.first else t for n, t in leaves.held.items()}


def _value(t: Tensor, rule: Rule) -> Tensor:
    t = t * t.new_tensor(rule.units) if rule.units else t
    return t.exp() if rule.positive else t


def under(prefix: str, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, without it."""
    return {n.removeprefix(prefix): t for n, t in named.items() if n.startswith(prefix)}


def descend(leaves: Leaves, grads: Mapping[str, Tensor], rules: Rules) -> Leaves:
    """The leaves after one move of each by its rule.

    Args:
        grads: by leaf name, of the values (not of logarithms); what is missing counts as zero.

    Raises:
        ValueError: a gradient is of no leaf that moves, or a leaf has no rule.
    """
    if odd := sorted(set(grads) - set(leaves.first)):
        raise ValueError(f"{odd[0]!r} is no leaf that moves; those are {', '.join(sorted(leaves.first))}")
    held, first, second = dict(leaves.held), dict(leaves.first), dict(leaves.second)
    for name in leaves.first:
        rule, p = rule_of(name, rules), leaves.held[name]
        g = torch.zeros_like(p) if (found := grads.get(name)) is None else found
        g = g * _value(p, rule) if rule.positive else g
        g = g * g.new_tensor(rule.units) if rule.units else g
        if rule.optimizer == "sgd":
            after, speed = sgd(
                (p,), (g,), (first[name],), lr=rule.lr, momentum=rule.momentum, weight_decay=rule.weight_decay
            )
            held[name], first[name] = after[0], speed[0]
        else:
            m, v = {"": first[name]}, {"": second[name]}
            step = _ADAPTIVE[rule.optimizer]
            moved = step({"": p}, {"": g}, m, v, leaves.count, lr=rule.lr, weight_decay=rule.weight_decay)
            held[name], first[name], second[name] = (t[""] for t in moved)
        if rule.within is not None:
            held[name] = held[name].clamp(*rule.within)
    return Leaves(held=held, first=first, second=second, count=leaves.count + 1)
