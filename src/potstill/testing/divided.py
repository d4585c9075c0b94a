"""What dividing a run by classes promises."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Generator

from potstill.core import ClassSeparable, ClassShardable, Method, Problem, Synthetic
from potstill.rng import generator

__all__ = ["rows_violation", "shards_violation"]

_ROUNDING = 0.01
"""How far, of all that they moved, shards in float32 may end from the whole run in a few steps."""


def shards_violation(method: Method[Any], problem: Problem, steps: int) -> str | None:
    """What a method breaks that says its classes can be matched by themselves; ``None``: nothing, or it does not."""
    if not isinstance(method, ClassShardable) or method.shard_obstacle(problem) is not None or problem.num_classes < 2:
        return None
    k = problem.num_classes
    cut = max(1, k // 3)
    groups = (range(cut), range(cut, k))
    parts = [(g, _walked(method, replace(problem, shard=(g.start, g.stop)), steps)) for g in groups]
    joined = method.result(problem, method.join_shards(problem, parts))
    first, whole = (method.result(problem, _walked(method, problem, n)) for n in (0, steps))
    if not isinstance(joined, Synthetic) or not isinstance(whole, Synthetic) or not isinstance(first, Synthetic):
        return "a method that can be divided by classes must make a synthetic set"
    for name, mine in joined.payload.items():
        moved = float((whole.payload[name] - first.payload[name]).float().norm())
        if float((mine - whole.payload[name]).float().norm()) > _ROUNDING * moved:
            return (
                f"undivided() says that classes can be matched by themselves, but joined shards end elsewhere in {name}"
                " than the whole run; say why they cannot, or draw in a shard all that the whole run draws"
            )
    return None


def _walked(method: Method[Any], problem: Problem, steps: int) -> Any:
    rng: Generator = generator(5, "shards")
    state = method.init(problem, rng)
    for _ in range(steps):
        state, _ = method.step(problem, state, rng)
    return state


def rows_violation(p: ClassSeparable, payload: Any, problem: Problem, decode: Callable[[Any], Any]) -> str | None:
    """What a parametrization breaks that says which rows belong to which class; ``None``: nothing."""
    k, sizes = problem.num_classes, problem.sizes
    floating = {n: t for n, t in payload.items() if t.is_floating_point()}
    seen = {n: torch.zeros(len(t), dtype=torch.int64) for n, t in floating.items()}
    before = decode(payload)
    for c in range(k):
        rows = p.class_rows(payload, sizes, range(c, c + 1))
        if rows.keys() != floating.keys():
            return f"rows() must name every floating tensor of the payload, {', '.join(floating)}"
        for n, mine in rows.items():
            seen[n][mine] += 1
        changed = {n: t.clone() for n, t in payload.items()}
        for n, mine in rows.items():
            changed[n][mine] += 1.0
        other = (decode(changed) != before).flatten(1).any(1)
        own = slice(sum(sizes[:c]), sum(sizes[: c + 1]))
        if not bool(other[own].all()) or int(other.sum()) != sizes[c]:
            return f"rows() of class {c} must change all inputs of that class and no other"
    if any(bool((count != 1).any()) for count in seen.values()):
        return "rows() must give every row to exactly one class"
    return None
