"""Contract checks of sources and tasks."""

import dataclasses
import json
import math

import torch
from torch import Tensor

from potstill.core import Batch, Source
from potstill.core.nested import OFFSETS, VALUES, named_tensors
from potstill.core.registry import resolve, targets
from potstill.kinds import get_kind
from potstill.rng import generator
from potstill.tasks import GEOMETRIC, FittableTask, InvariantTargets, Metric, PixelTask, Task, get_targets, get_task
from potstill.testing.common import no_side_effects, require, to_tuples

__all__ = ["check_source", "check_task"]


def check_source(source: Source) -> None:
    """Check that labels, shapes, hash and normalization of a source agree with each other.

    Raises:
        ContractError: a promise is broken.
    """
    labels = source.labels
    require(labels.dtype == torch.int64 and labels.device.type == "cpu", "labels must be int64 on the CPU")
    require(len(labels) == len(source) > 0, f"a source of {len(source)} samples must have as many labels")
    groups, targets = max(1, len(source.classes)), get_targets(source)
    require(int(labels.min()) >= 0 and int(labels.max()) < groups, "labels must index the class names, or be 0")
    classes = get_task(source).name == "classification"
    require(classes == bool(source.classes), "a source has class names where its task is classification, and only then")
    require(len(targets) == len(source) and targets.device.type == "cpu", "each sample needs a target on the CPU")
    at = torch.tensor([len(source) - 1, 0, len(source) // 2])
    batch, raw = source.fetch(at), source.raw(at)
    require(isinstance(batch, Batch), "fetch must return a Batch")
    held, again = named_tensors(batch.x), named_tensors(source.fetch(at).x)
    specs = dict(source.input.parts) or {"": source.input}
    require(
        {name.removesuffix(VALUES).removesuffix(OFFSETS) for name in held} == specs.keys(),
        f"fetched inputs must have the names {list(specs)}",
    )
    for name, x in held.items():
        require(torch.equal(again[name], x), "the same index must fetch the same inputs")
        if (spec := specs.get(name)) is None:
            continue
        require(tuple(x.shape[1:]) == spec.shape, "fetched inputs must have the shape of source.input")
        kind = torch.int64 if spec.kind == "categories" else torch.float32
        require(x.dtype == kind and bool(torch.isfinite(x).all()), "inputs must be finite float32, or int64 codes")
        units = named_tensors(raw)[name]
        if (limits := get_kind(spec).value_range) is not None:
            inside = float(units.min()) >= limits[0] and float(units.max()) <= limits[1]
            require(inside, f"raw values must be in [{limits[0]:g}, {limits[1]:g}]")
    normal = named_tensors(source.normalization.apply(raw))
    same = all(torch.allclose(normal[n].double(), x.double(), atol=1e-4) for n, x in held.items())
    require(same, "fetch must be the normalised raw input")
    require(batch.y is not None and torch.equal(batch.y.cpu(), targets[at]), "fetched targets must be the source's")
    require(source.content_hash == source.to("cpu").content_hash, "the content hash must not depend on the device")


def check_task(task: Task, y: Tensor, perfect: Tensor | None = None) -> None:
    """Check a task: its loss can be minimised, its score rewards lower loss, and metadata can hold it.

    Args:
        task: task, not yet fitted if it is a `FittableTask`.
        y: targets (n, …) of a dozen samples or more, not all equal.
        perfect: correct predictions (n, …), where the targets themselves are none.

    Raises:
        ContractError: a promise is broken.
    """
    kind = type(task)
    require(isinstance(task, Task), f"{kind.__name__} must have all that potstill.tasks.Task has")
    frozen = dataclasses.is_dataclass(task) and kind.__dataclass_params__.frozen
    require(frozen, f"{kind.__name__} must be a frozen dataclass: a card holds its fields")
    known = targets("tasks").get(task.name)
    require(known is None or resolve("tasks", task.name) is kind, f"{task.name} is registered as {known}; rename it")
    if isinstance(task, FittableTask):
        task = task.fit(y)
        require(type(task) is kind, f"fit must return a {kind.__name__}, not {type(task).__name__}")
        require(
            isinstance(task, FittableTask) and task.fit(y) == task, "fit twice on the same targets must be the same"
        )
    values = json.loads(json.dumps(dataclasses.asdict(task)))  # type: ignore[call-overload]
    require(kind(**to_tuples(values)) == task, f"{kind.__name__}'s fields must survive JSON, but {values} do not")
    if isinstance(task, InvariantTargets):
        unknown_to = sorted(set(task.invariant_to) - {*GEOMETRIC, "*"})
        require(not unknown_to, f"invariant_to names {unknown_to}, but operations are {', '.join(GEOMETRIC)}, or '*'")
    metric = task.metric
    require(
        isinstance(metric, Metric) and metric.direction in ("higher", "lower") and metric.low < metric.high,
        f"metric must be a Metric with a direction and a range, not {metric!r}",
    )
    require(
        isinstance(task.outputs, int) and task.outputs >= 1 and bool(task.unit),
        f"outputs must be a width of at least 1 and unit a word, not {task.outputs!r} and {task.unit!r}",
    )
    shape = (len(y), task.outputs, *(y.shape[-2:] if isinstance(task, PixelTask) else ()))
    output = torch.randn(shape, generator=generator(7), dtype=torch.float64, requires_grad=True)
    with no_side_effects("a task"):
        loss = task.loss(output, y)
        grad = torch.autograd.grad(loss, output)[0]
    require(loss.ndim == 0 and bool(torch.isfinite(loss)), "loss must be one finite number, the mean over samples")
    require(bool(torch.isfinite(grad).all()) and bool(grad.any()), "loss must have a gradient by the outputs")
    with torch.no_grad():
        along = (grad / grad.norm()) * 1e-4
        slope = float(task.loss(output + along, y) - task.loss(output - along, y)) / 2e-4
    require(math.isclose(slope, float(grad.norm()), rel_tol=1e-2), "loss must grow along its gradient, as it says")
    best, worst = _score(task, y if perfect is None else perfect, y), task.chance_score(y)
    require(
        not metric.better(worst, best), f"right answers score {best}, and who knows nothing {worst}: which is better?"
    )
    wrong = _score(task, task.predict(output.detach()), y)
    require(
        metric.better(best, wrong),
        f"right answers score {best} and drawn ones {wrong}, but {metric.direction} is said to be better",
    )
    learned = output.detach().clone().requires_grad_()
    descent = torch.optim.Adam([learned], lr=0.1)
    for _ in range(200):
        descent.zero_grad()
        task.loss(learned, y).backward()  # type: ignore[no-untyped-call]
        descent.step()
    answers = task.predict(learned.detach())
    require(len(answers) == len(y), f"predict must give {len(y)} answers to {len(y)} outputs, not {len(answers)}")
    found = _score(task, answers, y)
    require(
        metric.better(found, worst),
        f"outputs that lower the loss must score better than who knows nothing ({worst}), but they score {found}",
    )


def _score(task: Task, answers: Tensor, y: Tensor) -> float:
    score, metric = task.score(answers, y), task.metric
    require(
        isinstance(score, float) and metric.low <= score <= metric.high,
        f"a score must be a float from {metric.low} to {metric.high}, not {score!r}",
    )
    return score
