"""Influence of each item of a set, by exact retraining without it.

I(j) = loss without j − loss with all, on real samples, paired over students of the same start and order. Positive:
the item helps. Large sets are taken in groups of items of one class, so that the number of trainings is bounded.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from scipy.special import stdtrit  # type: ignore[import-untyped]
from torch import Tensor

from potstill.diagnostics.bench import Bench, Condition
from potstill.functional.sampling import proportional_allocation
from potstill.tasks import get_targets

__all__ = ["MAX_GROUPS", "conditions", "item_groups", "measure_influence"]

MAX_GROUPS = 100
"""Maximum number of groups."""
_SHOWN = 3


def item_groups(bench: Bench, most: int) -> list[Tensor]:
    """Return the items in groups of one class; single items if there are no more than ``most``."""
    labels, k = bench.distilled.hard_labels, len(bench.counts)
    of_class = [torch.where(labels == c)[0] for c in range(k)]
    if len(bench.distilled) <= most:
        return [item for of in of_class for item in torch.split(of, 1)]
    held = [c for c in range(k) if len(of_class[c])]
    shares = proportional_allocation([len(of_class[c]) for c in held], max(most, len(held)))
    return [
        part for c, share in zip(held, shares, strict=True) for part in of_class[c].tensor_split(max(1, share))
        if len(part)
    ]  # fmt: skip


def conditions(bench: Bench, most: int) -> list[Condition]:
    """Return the set, and the set without each group."""
    return [bench.distilled_condition(), *(_without(bench, items) for items in item_groups(bench, most))]


def _without(bench: Bench, items: Tensor) -> Condition:
    name = f"the set without {' '.join(map(str, items.tolist()))}"
    return Condition(name=name, items=len(bench.distilled) - len(items), data_for=lambda student: bench.without(items))


def measure_influence(bench: Bench, most: int) -> dict[str, Any]:
    """Return the influence of every group on the loss and the score, the most helpful first.

    ``told``: its interval over students excludes zero at 95 % for all groups together (Bonferroni). ``noise``: the
    deviation of the loss among students of the whole set, due to the seed alone. ``score``: the students' score without
    the group less that with it.
    """
    whole = bench.outputs(bench.distilled_condition())
    groups = item_groups(bench, most)
    base = [None if o is None else _losses(bench, o) for o in whole]
    known = [float(b.mean()) for b in base if b is not None]
    made = []
    for n, items in enumerate(groups):
        outputs = bench.outputs(_without(bench, items), keep=False)
        made.append(_of_group(bench, items, whole, base, outputs, len(groups)))
        bench.report("influence", n + 1, len(groups))
    mean = sum(known) / len(known) if known else None
    noise = None
    if mean is not None and len(known) > 1:
        noise = math.sqrt(sum((v - mean) ** 2 for v in known) / (len(known) - 1))
    ranked = sorted(made, key=lambda g: -math.inf if g["loss"] is None else -g["loss"])
    return {
        "exact": len(groups) == len(bench.distilled), "groups": len(groups), "students": bench.students, "loss": mean,
        "noise": noise, "helps": sum(g["told"] and g["loss"] > 0 for g in made),
        "harms": sum(g["told"] and g["loss"] < 0 for g in made), "items": ranked,
    }  # fmt: skip


def _losses(bench: Bench, outputs: Tensor) -> Tensor:
    """Return the loss of each test sample (n,); without classes the mean loss (1,)."""
    if bench.classes:
        return F.cross_entropy(outputs.double(), bench.eval_source.labels, reduction="none")
    return bench.task.loss(outputs, get_targets(bench.eval_source)).double().reshape(1)


def _of_group(
    bench: Bench, items: Tensor, full_outputs: Sequence[Tensor | None], base: Sequence[Tensor | None],
    outputs: Sequence[Tensor | None], groups: int,
) -> dict[str, Any]:  # fmt: skip
    pairs = [(b, _losses(bench, o)) for b, o in zip(base, outputs, strict=True) if b is not None and o is not None]
    both = [(w, o) for w, o in zip(full_outputs, outputs, strict=True) if w is not None and o is not None]
    entry: dict[str, Any] = {"items": items.tolist()}
    if bench.classes:
        entry["class"] = bench.real.classes[int(bench.distilled.hard_labels[items[0]])]
    if not pairs:
        return {**entry, "loss": None, "interval": None, "told": False, "score": None, "samples": []}
    gaps = torch.stack([without - b for b, without in pairs])
    by_student = gaps.mean(1)
    mean, ends = float(by_student.mean()), None
    if len(by_student) > 1:
        half = float(stdtrit(len(by_student) - 1, 1 - 0.025 / groups)) * float(by_student.std())
        half /= math.sqrt(len(by_student))
        ends = [mean - half, mean + half]
    scores = [b - a for a, b in zip(*(bench.scores(side) for side in zip(*both, strict=True)), strict=True)]
    entry |= {
        "loss": mean, "interval": ends, "told": ends is not None and (ends[0] > 0 or ends[1] < 0),
        "score": sum(scores) / len(scores), "samples": [],
    }  # fmt: skip
    if bench.classes:
        top = gaps.mean(0).topk(min(_SHOWN, gaps.shape[1]))
        labels = bench.eval_source.labels
        entry["samples"] = [
            {"sample": at, "class": bench.real.classes[int(labels[at])], "loss": value}
            for value, at in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        ]
    return entry
