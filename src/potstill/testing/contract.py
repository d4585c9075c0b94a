"""The contract, as checks that outside authors can call: ``check_method(MyMethod())`` and its siblings.

Each check raises ``ContractError`` with a sentence that says which promise was broken and how to keep it.
The contract suite runs the same checks over everything that is registered.
"""

import dataclasses
import inspect
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, get_type_hints
from unittest import mock

import torch
from torch import Tensor

from potstill.api.distill import distill
from potstill.augment.mix import label_rows as as_rows
from potstill.augment.names import named_augmentation
from potstill.core import (
    Asset,
    AssetContext,
    Augmentation,
    Batch,
    ClassSeparable,
    InputSpec,
    Method,
    MethodInfo,
    Network,
    NetworkFactory,
    NetworkWeights,
    Parametrization,
    Problem,
    Selection,
    Source,
    Synthetic,
    label_mode,
)
from potstill.core.nested import OFFSETS, VALUES, named_tensors, num_samples
from potstill.core.registry import make_method, names, resolve, targets
from potstill.data import TensorSource
from potstill.dataset_file import pack_state, unpack_state
from potstill.errors import PotstillError
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.distilled_training import Teachers
from potstill.evaluation.protocol import Case, Protocol
from potstill.evaluation.student import StudentJob, train
from potstill.evaluation.vmap_students import StackedStudents, fit_stacked
from potstill.functional.label_simplex import to_scores
from potstill.functional.train import copy_parameters
from potstill.kinds import get_kind
from potstill.nn import factory, is_stackable
from potstill.parametrize.named_inputs import parse_parametrization
from potstill.rng import generator
from potstill.runs.loop import find_non_finite
from potstill.runs.resolve import PARTS
from potstill.tasks import GEOMETRIC, FittableTask, InvariantTargets, Metric, Task, get_targets, get_task
from potstill.testing.divided import rows_violation, shards_violation
from potstill.testing.toy import toy_source

__all__ = [
    "ContractError",
    "check_augmentation",
    "check_method",
    "check_network",
    "check_parametrization",
    "check_protocol",
    "check_source",
    "check_task",
    "toy_problem",
]


class ContractError(AssertionError):
    """A promise of the contract that was not kept."""


def _require(kept: bool, sentence: str) -> None:
    if not kept:
        raise ContractError(sentence)


def toy_problem(
    method: Method[Any] | None = None,
    *,
    ipc: int = 2,
    network: str | None = None,
    kind: str = "image",
    source: Source | None = None,
) -> Problem:
    """A problem that any method solves in moments: four classes of twelve 8×8 pictures (or rows of a table).

    ``source`` puts other data of that kind in their place, such as `uneven_source`. The network is ``convnet-d1-w8``,
    with BatchNorm where the method's own has it, as those need that match its statistics.
    """
    source = toy_source(kind) if source is None else source
    picture, given = get_kind(source.input).augmentable, source.input
    norm = "-batch" if "batch" in str(getattr(method, "network", "")).split("-") else ""
    name = (network or f"convnet-d1-w8{norm}") if picture else {"pair": "towers-w4"}.get(given.kind, "mlp")
    augment = getattr(method, "augment", "none") if picture else "none"
    decoder = parse_parametrization(getattr(method, "parametrization", "pixels") if picture else "pixels", given)
    problem = Problem(
        train=source,
        counts=(ipc,) * max(1, len(source.classes)),
        network=factory(name, given, get_task(source).outputs, normalization=source.normalization),
        augment=named_augmentation(augment, source),
        parametrization=decoder,
    )
    specs = () if method is None else method.resolve_defaults(problem)[0].assets(problem)
    return _opened(problem, (*specs, *problem.parametrization_assets))


def _opened(problem: Problem, assets: Sequence[Asset]) -> Problem:
    """The problem with ``assets`` made in memory."""
    none = named_augmentation("none", problem.train)
    ground = AssetContext(train=problem.train, network=problem.network, augmentation=lambda name: none)
    return problem.with_assets({a.name: a.open([job.compute() for job in a.jobs(ground)]) for a in assets})


def _bits(state: Any) -> dict[str, Any]:
    tensors, rest = pack_state(state)
    return {**{n: t.detach().clone() for n, t in tensors.items()}, "": json.dumps(rest, sort_keys=True)}


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(x, b[n]) and x.dtype == b[n].dtype if isinstance(x, Tensor) else x == b[n] for n, x in a.items()
    )


@contextmanager
def _untouched(what: str) -> Iterator[None]:
    """The global generators stay as they were, and the clock tells a different time at every look."""
    before = torch.get_rng_state()
    with mock.patch.object(time, "time", side_effect=(1e9 + 7919.0 * n for n in itertools.count())):
        yield
    _require(
        torch.equal(before, torch.get_rng_state()),
        f"{what} must leave torch's global generator alone; draw from the torch.Generator that it is given",
    )


def check_method(
    method: Method[Any] | str,
    *,
    steps: int = 3,
    kind: str = "image",
    source: Source | None = None,
    ipc: int = 2,
) -> None:
    """Hold a method against the contract on a toy problem.

    Call it once more with ``source=uneven_source()``: equal classes of grey, square pictures hide much.

    Args:
        method: a method as a value with settings small enough for a test, or a registered name.
        steps: how many steps to make at most; at least 2 show whether the state carries all that evolves.
        kind: ``image`` or ``table``: the toy data.
        source: data of that kind in place of the toy ones.
        ipc: the budget, in items per class; some parametrizations need more than two.

    Raises:
        ContractError: the first promise that is broken.
    """
    if isinstance(method, str):
        method = make_method(method, {})[1]
    _check_declaration(method)
    problem = toy_problem(method, ipc=ipc, kind=kind, source=source)
    method = _resolve_defaults(method, problem)
    with _untouched("a method"):
        states = _trajectory(method, problem, steps, seed=5)
        again = _trajectory(method, problem, steps, seed=5)
    for n, (a, b) in enumerate(zip(states, again, strict=True)):
        _require(_same(a[1], b[1]), f"the same seed must give the same bits, but the states after step {n} differ")
    for n, (state, bits, _) in enumerate(states):
        _require(
            _same(bits, _bits(state)), f"step must return a new state, but it changed the state of step {n} in place"
        )
    _check_resume(method, problem, states, steps)
    for state, _, _ in (states[0], states[-1]):
        _check_result(method, problem, method.result(problem, state))
    _require((wrong := shards_violation(method, problem, min(steps, 2))) is None, wrong or "")
    other = _trajectory(method, problem, steps, seed=6)
    deterministic = method.info.family == "selection"
    _require(
        deterministic or not _same(states[-1][1], other[-1][1]), "another seed must give another set: no draw uses rng"
    )


def _check_declaration(method: Method[Any]) -> None:
    kind = type(method)
    _require(dataclasses.is_dataclass(method), f"{kind.__name__} must be a dataclass whose fields are hyperparameters")
    _require(
        kind.__dataclass_params__.frozen,  # type: ignore[attr-defined]
        f"{kind.__name__} must be frozen: what evolves belongs into the state",
    )
    info = getattr(kind, "info", None)
    _require(isinstance(info, MethodInfo), f"{kind.__name__}.info must be a MethodInfo")
    _require(bool(method.info.paper and method.info.title), f"{kind.__name__}.info must name its paper and title")
    _require(
        bool(sys.modules[kind.__module__].__doc__), f"{kind.__module__} must begin with the paper and the equation"
    )
    config = dataclasses.asdict(method)  # type: ignore[call-overload]
    taken = sorted(config.keys() & (inspect.signature(distill).parameters.keys() - set(PARTS)))
    _require(not taken, f"{kind.__name__}.{taken[0] if taken else ''} has the name of an option of distill; rename it")
    hints = {n: hint for n, hint in get_type_hints(kind).items() if n in config}
    for bound, kinds, noun in (
        ("may_be_zero", (int, int | None), "whole number"),
        ("fractions", (float, float | None), "float"),
        ("positive", (float, float | None), "float"),
    ):
        wrong = [n for n in getattr(kind, bound) if hints.get(n) not in kinds]
        _require(
            not wrong,
            f"{kind.__name__}.{bound} names {wrong[0] if wrong else ''}, which is no field for a {noun}; correct it",
        )
    round_trip = json.loads(json.dumps(config))
    again = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in round_trip.items()})
    _require(again == method, f"{kind.__name__}'s fields must survive JSON, but {config} does not")
    _require(
        hasattr(kind, "state_type") and dataclasses.is_dataclass(kind.state_type),
        f"{kind.__name__}.state_type must be the frozen dataclass of its state",
    )


def _resolve_defaults(method: Method[Any], problem: Problem) -> Method[Any]:
    made, notes = method.resolve_defaults(problem)
    _require(
        type(made) is type(method), f"resolve_defaults must return a {type(method).__name__}, not {type(made).__name__}"
    )
    _require(
        made.resolve_defaults(problem) == (made, ()),
        "resolve_defaults must change nothing when it is applied twice, and return no notes then",
    )
    _require(
        all(isinstance(note, str) and "\n" not in note for note in notes), "resolve_defaults must say lines of text"
    )
    config, asked = dataclasses.asdict(made), dataclasses.asdict(method)  # type: ignore[call-overload]
    changed = [n for n, value in asked.items() if value is not None and config[n] != value]
    _require(not changed, f"resolve_defaults must leave what was asked for, but {changed} differ")
    return made


def _trajectory(
    method: Method[Any], problem: Problem, steps: int, seed: int
) -> list[tuple[Any, dict[str, Any], Tensor]]:
    """States with a copy of their bits and the generator's state, from ``init`` on."""
    rng = generator(seed)
    state = method.init(problem, rng)
    _require(
        type(state) is method.state_type, f"init must return a {method.state_type.__name__}, not {type(state).__name__}"
    )
    states = [(state, _bits(state), rng.get_state())]
    while len(states) <= steps and not method.done(problem, state):
        state, metrics = method.step(problem, state, rng)
        _require(
            all(isinstance(v, float) for v in metrics.values()), f"metrics must be plain floats by name, not {metrics}"
        )
        wrong = find_non_finite(metrics, state)
        _require(
            wrong is None, f"a run ends where a state or a metric is not finite, but after step {len(states)} {wrong}"
        )
        states.append((state, _bits(state), rng.get_state()))
    horizon = method.num_steps(problem)
    _require(
        horizon is None or horizon + 1 >= len(states), f"horizon says {horizon} steps, but {len(states) - 1} were made"
    )
    return states


def _check_resume(
    method: Method[Any], problem: Problem, states: list[tuple[Any, dict[str, Any], Tensor]], steps: int
) -> None:
    for n, (state, _, rng_state) in enumerate(states[:-1]):
        resumed: Any = unpack_state(method.state_type, *pack_state(state))
        rng = generator(0)
        rng.set_state(rng_state)
        following, _ = method.step(problem, resumed, rng)
        _require(
            _same(_bits(following), states[n + 1][1]),
            f"a run resumed after step {n} must go on with the same bits: something that evolves is not in the state",
        )


def _check_result(method: Method[Any], problem: Problem, result: Any) -> None:
    info, k = method.info, problem.num_classes
    if isinstance(result, Selection):
        _require(info.is_selection, "a method that returns a Selection must declare info.is_selection")
        _require(result.index.dtype == torch.int64, "a Selection's index must be int64")
        _require(len(set(result.index.tolist())) == len(result.index), "a Selection must not hold a sample twice")
        labels, rows = problem.train.labels[result.index], result.soft_labels
        w = result.weights
        _require(
            (w is not None) == info.weighted, f"info.weighted is {info.weighted}, but the Selection says otherwise"
        )
        if w is not None:
            fits = w.is_floating_point() and w.shape == result.index.shape and bool(torch.isfinite(w).all())
            _require(
                fits and float(w.min()) >= 0 and float(w.max()) > 0,
                "weights must be one finite float of at least 0 for each sample, and not all 0",
            )
    else:
        _require(
            isinstance(result, Synthetic), f"result must be a Selection or a Synthetic, not {type(result).__name__}"
        )
        decoded = problem.decode(result.payload)
        for name, tensor in result.extra_parameters.items():
            fits = tensor.is_floating_point() and bool(torch.isfinite(tensor).all())
            _require(fits, f"what is learned must be finite floats, but {name!r} is not")
        rate = result.extra_parameters.get("student/lr", torch.ones(()))
        _require(rate.ndim == 0 and float(rate) > 0, "learned 'student/lr' must be one number above 0")
        specs = dict(problem.train.input.parts) or {"": problem.train.input}
        for name, values in named_tensors(decoded).items():
            if (spec := specs.get(name)) is None:
                continue  # words are of any length
            found = tuple(values.shape[1:])
            _require(found == spec.shape, f"decoded inputs must have the data's shape {spec.shape}, not {found}")
            _require(bool(torch.isfinite(values).all()), "decoded inputs must be finite")
        many = num_samples(decoded)
        _require(len(result.labels) == many, f"{many} decoded inputs need as many labels, not {len(result.labels)}")
        if not problem.train.classes:
            _require(many == sum(problem.sizes), f"the budget is {sum(problem.sizes)} items, not {many}")
            given = result.labels.to("cpu")
            problem.task.loss(torch.zeros(many, problem.task.outputs), given)  # targets that the task takes
            return
        soft = result.labels.is_floating_point()
        labels, rows = (result.labels.argmax(1), result.labels) if soft else (result.labels, None)
        if result.scores:
            fits = soft and tuple(result.labels.shape) == (many, k) and bool(torch.isfinite(result.labels).all())
            _require(fits, f"scores must be finite float rows of {k} numbers, one for each class")
            _require(many == sum(problem.sizes), f"the budget is {sum(problem.sizes)} items, not {many}")
            _require(info.soft_labels or label_mode(method) != "hard", "scores need info.soft or labels='scores'")
            return
    soft_asked = info.soft_labels or label_mode(method) != "hard"
    _require((rows is not None) == soft_asked, f"info.soft is {info.soft_labels}, but the labels say otherwise")
    if soft_asked and not info.soft_labels:
        return  # labels that are learned, or a teacher's, may be of another class; their number was checked
    if rows is not None:
        _require(
            tuple(rows.shape) == (len(labels), k) and torch.allclose(rows.sum(1), torch.ones(()).to(rows), atol=1e-4),
            "soft labels must be rows of k probabilities that sum to 1",
        )
    counts = torch.bincount(labels, minlength=k)
    wanted = torch.tensor(problem.counts if isinstance(result, Selection) else problem.sizes)
    if info.balanced:
        said = f"every class must get its budget {wanted.tolist()}, not {counts.tolist()}"
        _require(torch.equal(counts, wanted), said)
    kept = int(counts.min()) >= 1 and int(counts.sum()) == int(wanted.sum())
    _require(
        kept, f"the classes must share the budget of {int(wanted.sum())}, at least one each, not {counts.tolist()}"
    )
    _require(bool((labels.diff() >= 0).all()), "items must come in label order")


def check_source(source: Source) -> None:
    """Labels, shapes, hash and normalization of a source agree with each other."""
    labels = source.labels
    _require(labels.dtype == torch.int64 and labels.device.type == "cpu", "labels must be int64 on the CPU")
    _require(len(labels) == len(source) > 0, f"a source of {len(source)} samples must have as many labels")
    groups, targets = max(1, len(source.classes)), get_targets(source)
    _require(int(labels.min()) >= 0 and int(labels.max()) < groups, "labels must index the class names, or be 0")
    classes = get_task(source).name == "classification"
    _require(
        classes == bool(source.classes), "a source has class names where its task is classification, and only then"
    )
    _require(len(targets) == len(source) and targets.device.type == "cpu", "each sample needs a target on the CPU")
    at = torch.tensor([len(source) - 1, 0, len(source) // 2])
    batch, raw = source.fetch(at), source.raw(at)
    _require(isinstance(batch, Batch), "fetch must return a Batch")
    held, again = named_tensors(batch.x), named_tensors(source.fetch(at).x)
    specs = dict(source.input.parts) or {"": source.input}
    _require(
        {name.removesuffix(VALUES).removesuffix(OFFSETS) for name in held} == specs.keys(),
        f"fetched inputs must have the names {list(specs)}",
    )
    for name, x in held.items():
        _require(torch.equal(again[name], x), "the same index must fetch the same inputs")
        if (spec := specs.get(name)) is None:
            continue
        _require(tuple(x.shape[1:]) == spec.shape, "fetched inputs must have the shape of source.input")
        kind = torch.int64 if spec.kind == "categories" else torch.float32
        _require(x.dtype == kind and bool(torch.isfinite(x).all()), "inputs must be finite float32, or int64 codes")
        units = named_tensors(raw)[name]
        if (limits := get_kind(spec).value_range) is not None:
            inside = float(units.min()) >= limits[0] and float(units.max()) <= limits[1]
            _require(inside, f"raw values must be in [{limits[0]:g}, {limits[1]:g}]")
    normal = named_tensors(source.normalization.apply(raw))
    same = all(torch.allclose(normal[n].double(), x.double(), atol=1e-4) for n, x in held.items())
    _require(same, "fetch must be the normalised raw input")
    _require(batch.y is not None and torch.equal(batch.y.cpu(), targets[at]), "fetched targets must be the source's")
    _require(source.content_hash == source.to("cpu").content_hash, "the content hash must not depend on the device")


def check_task(task: Task, y: Tensor, perfect: Tensor | None = None) -> None:
    """A task's loss can be descended, what it asks of outputs is what its score rewards, and a card can hold it.

    Args:
        task: as a value, before it is fitted where it has numbers of the training part.
        y: targets (n, …) of a dozen samples or more that are not all equal.
        perfect: answers (n, …) that are all right, where the targets themselves are none.

    Raises:
        ContractError: the first promise that is broken.
    """
    kind = type(task)
    _require(isinstance(task, Task), f"{kind.__name__} must have all that potstill.tasks.Task has")
    frozen = dataclasses.is_dataclass(task) and kind.__dataclass_params__.frozen
    _require(frozen, f"{kind.__name__} must be a frozen dataclass: a card holds its fields")
    known = targets("tasks").get(task.name)
    _require(known is None or resolve("tasks", task.name) is kind, f"{task.name} is registered as {known}; rename it")
    if isinstance(task, FittableTask):
        task = task.fit(y)
        _require(type(task) is kind, f"fitted must return a {kind.__name__}, not {type(task).__name__}")
        _require(
            isinstance(task, FittableTask) and task.fit(y) == task,
            "fitted twice on the same targets must be the same",
        )
    values = json.loads(json.dumps(dataclasses.asdict(task)))  # type: ignore[call-overload]
    _require(kind(**_tuples(values)) == task, f"{kind.__name__}'s fields must survive JSON, but {values} do not")
    if isinstance(task, InvariantTargets):
        unknown_to = sorted(set(task.invariant_to) - {*GEOMETRIC, "*"})
        _require(not unknown_to, f"invariant_to names {unknown_to}, but operations are {', '.join(GEOMETRIC)}, or '*'")
    metric = task.metric
    _require(
        isinstance(metric, Metric) and metric.direction in ("higher", "lower") and metric.low < metric.high,
        f"metric must be a Metric with a direction and a range, not {metric!r}",
    )
    _require(
        isinstance(task.outputs, int) and task.outputs >= 1 and bool(task.unit),
        f"outputs must be a width of at least 1 and unit a word, not {task.outputs!r} and {task.unit!r}",
    )
    output = torch.randn(len(y), task.outputs, generator=generator(7), dtype=torch.float64, requires_grad=True)
    with _untouched("a task"):
        loss = task.loss(output, y)
        grad = torch.autograd.grad(loss, output)[0]
    _require(loss.ndim == 0 and bool(torch.isfinite(loss)), "loss must be one finite number, the mean over samples")
    _require(bool(torch.isfinite(grad).all()) and bool(grad.any()), "loss must have a gradient by the outputs")
    with torch.no_grad():
        along = (grad / grad.norm()) * 1e-4
        slope = float(task.loss(output + along, y) - task.loss(output - along, y)) / 2e-4
    _require(math.isclose(slope, float(grad.norm()), rel_tol=1e-2), "loss must grow along its gradient, as it says")
    best, worst = _score(task, y if perfect is None else perfect, y), task.chance_score(y)
    _require(
        not metric.better(worst, best), f"right answers score {best}, and who knows nothing {worst}: which is better?"
    )
    wrong = _score(task, task.predict(output.detach()), y)
    _require(
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
    _require(len(answers) == len(y), f"answer must give {len(y)} answers to {len(y)} outputs, not {len(answers)}")
    found = _score(task, answers, y)
    _require(
        metric.better(found, worst),
        f"outputs that lower the loss must score better than who knows nothing ({worst}), but they score {found}",
    )


def _score(task: Task, answers: Tensor, y: Tensor) -> float:
    score, metric = task.score(answers, y), task.metric
    _require(
        isinstance(score, float) and metric.low <= score <= metric.high,
        f"a score must be a float from {metric.low} to {metric.high}, not {score!r}",
    )
    return score


def check_network(make: NetworkFactory, shape: tuple[int, ...], num_classes: int) -> None:
    """A factory makes the same network from the same seed, which embeds, classifies and differentiates twice."""
    with _untouched("a network factory"):
        a, b, c = make(1), make(1), make(2)
    _require(isinstance(a, Network), "a factory must make a core.Network")
    pairs = list(zip(a.parameters(), b.parameters(), strict=True))
    _require(all(torch.equal(p, q) for p, q in pairs), "the same seed must give the same weights")
    _require(
        any(not torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True)), "seeds must differ"
    )
    x = torch.randn(3, *shape, generator=generator(3), requires_grad=True)
    a.eval()
    logits, features = a(x), a.embed(x)
    _require(tuple(logits.shape) == (3, num_classes), f"logits must be (3, {num_classes}), not {tuple(logits.shape)}")
    _require(features.ndim == 2, f"embed must return flattened features, not {tuple(features.shape)}")
    grads = torch.autograd.grad(logits.logsumexp(1).sum(), tuple(a.parameters()), create_graph=True)
    total = torch.stack([g.square().sum() for g in grads]).sum()
    second = torch.autograd.grad(total, x)[0]
    _require(bool(torch.isfinite(second).all()), "the gradient's gradient with respect to the input must be finite")
    if is_stackable(make):  # those of other packages are trained one by one
        a, c = a.double(), c.double().eval()
        alone = a(x.double())
        own = torch.autograd.grad(alone.logsumexp(1).sum(), tuple(a.parameters()))
        stack = StackedStudents([a, c])
        both = stack(x.detach().double().unsqueeze(0), training=False)
        beside = torch.autograd.grad(both[0].logsumexp(1).sum(), tuple(stack.parameters.values()))
        close = all(torch.allclose(g, h[0], rtol=1e-6, atol=1e-9) for g, h in zip(own, beside, strict=True))
        _require(
            close and torch.allclose(both[0], alone, rtol=1e-6, atol=1e-9),
            "side by side with another (torch.func.vmap) a network must give what it gives alone, and its gradients",
        )


def check_augmentation(augment: Augmentation, shape: tuple[int, int, int] = (3, 12, 12)) -> None:
    """Pure, seeded, shape-preserving, differentiable, and the same for two batches that share parameters."""
    x = torch.rand(4, *shape, generator=generator(1))
    kept = x.clone()
    for seed in range(12):
        with _untouched("an augmentation"):
            params = augment.draw(1, shape, generator(seed))
            y, z = augment.apply(x, params), augment.apply(x[:2], augment.draw(1, shape, generator(seed)))
        _require(torch.equal(x, kept), "apply must not write into its input")
        _require(y.shape == x.shape, f"the picture's shape must stay {tuple(x.shape)}, not {tuple(y.shape)}")
        _require(torch.allclose(y[:2], z, atol=1e-6), "parameters drawn for one sample must be shared by any batch")
        each = augment.apply(x, augment.draw(4, shape, generator(seed)))
        _require(each.shape == x.shape, "parameters drawn for n samples must apply to n samples")
        leaf = x.clone().requires_grad_()
        grad = torch.autograd.grad(augment.apply(leaf, params).square().sum(), leaf)[0]
        _require(bool(torch.isfinite(grad).all()), "an augmentation must be differentiable in its input")


def check_parametrization(make: Callable[[], Parametrization], side: int = 16) -> None:
    """Hold a parametrization against the contract, on a toy problem of square grey pictures with this ``side``.

    Raises:
        ContractError: the first promise that is broken.
    """
    p, source = make(), toy_source("image", side=side)
    shape = source.input.shape
    problem = dataclasses.replace(toy_problem(ipc=4), train=source, parametrization=p)
    k, sizes = problem.num_classes, problem.sizes
    _require(len(sizes) == k and min(sizes) >= 1, "sizes must give every class at least one input")
    wide = dataclasses.replace(problem, counts=(8,) * k).sizes
    _require(all(b >= a for a, b in zip(sizes, wide, strict=True)), "a larger budget must not give fewer inputs")
    x = torch.rand(sum(sizes), *shape, generator=generator(2))
    if needed := problem.parametrization_assets:
        problem, twice = _opened(problem, needed), _opened(problem, needed)
        p, made = problem.parametrization, [dict(problem.assets[asset.name]) for asset in needed]
        _require(
            all(isinstance(t, Tensor) for m in made for t in m.values()), "what it needs must open to named tensors"
        )
        _require(
            all(_same(m, dict(twice.assets[asset.name])) for m, asset in zip(made, needed, strict=True)),
            "what it needs must have the same bits each time it is made",
        )
        _require(p == make(), "with what it needs a parametrization must be equal to itself")
    with _untouched("a parametrization"):
        payload, again = (p.encode(x, problem, generator(3)) for _ in range(2))
        decoded = problem.decode(payload)
    _require(_same(dict(payload), dict(again)), "the same seed must encode to the same bits")
    _require(decoded.shape == x.shape, f"decode(encode(x)) must have the shape {tuple(x.shape)}")
    _require(bool(torch.isfinite(decoded).all()), "decoded inputs must be finite")
    stored = sum(t.numel() * t.element_size() for t in payload.values())
    allowed = 4 * sum(problem.counts) * math.prod(shape)
    _require(stored <= allowed, f"a payload must keep to the budget of {allowed:,} bytes, but it has {stored:,}")
    leaves = {n: t.detach().clone().requires_grad_() for n, t in payload.items() if t.is_floating_point()}
    _require(bool(leaves), "a payload needs a floating tensor to optimise")
    again_decoded = problem.decode({**payload, **leaves})
    grads = torch.autograd.grad(again_decoded.square().sum(), tuple(leaves.values()), allow_unused=True)
    _require(
        all(g is not None and float(g.abs().sum()) > 0 for g in grads),
        "gradients must reach every floating tensor of the payload",
    )
    if isinstance(p, ClassSeparable):
        _require((wrong := rows_violation(p, payload, problem, problem.decode)) is None, wrong or "")


def check_protocol(protocol: Protocol | str, *, epochs: int = 2) -> None:
    """Hold a protocol against the contract: as a value, for pictures and tables, and with one tiny student of each.

    Args:
        protocol: a protocol, or a registered name.
        epochs: how long the students train in place of the protocol's own length; at least 1.

    Raises:
        ContractError: the first promise that is broken.
    """
    given: Protocol = resolve("protocols", protocol) if isinstance(protocol, str) else protocol
    _require(isinstance(given, Protocol), f"a protocol must be a Protocol, not {type(given).__name__}")
    _require(bool(given.name and given.paper and given.summary), "a protocol must say name, paper and summary")
    values = json.loads(
        json.dumps(given.flat_fields() | {"cases": [*map(dataclasses.asdict, given.cases)]}, default=repr)
    )
    cases = tuple(Case(**_tuples(case)) for case in values["cases"])
    try:
        again = given.change(**_tuples(values) | {"cases": cases})
        shorter = given.override(epochs=epochs)
        if given.network is not None and given.network not in names("learners"):
            factory(given.network, InputSpec(kind="image", shape=(3, 32, 32)), 10)
    except PotstillError as error:
        raise ContractError(f"a protocol's fields must be in their ranges, but: {error}") from error
    _require(again == given, f"a protocol's fields must survive JSON, but {values} does not")
    more = given.recipe.batch + 1
    changed = {given.change(batch=more), given.override(batch=more)}
    prints = [given.fingerprint(), given.fingerprint(), again.fingerprint()]
    _require(len(set(prints)) == 1, f"a protocol must have one fingerprint, also when it is read again, not {prints}")
    _require(
        prints[0] not in {p.fingerprint() for p in changed},
        "another batch must give another fingerprint: numbers of two recipes would be put into one table",
    )
    sources = dict.fromkeys(["toy", *itertools.chain.from_iterable(case.sources for case in given.cases)])
    for kind, name, mirrored in itertools.product(("image", "table"), sources, (True, False)):
        _check_student(shorter, kind, name, mirrored, trained=name == "toy" and mirrored)


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {n: _tuple(v) for n, v in values.items()}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(v) for v in value) if isinstance(value, list) else value


def _check_student(protocol: Protocol, kind: str, name: str, mirrored: bool, trained: bool) -> None:
    """What the protocol says for data of that kind and name; with ``trained``, a student of it too."""
    source = toy_source(kind)
    assert isinstance(source, TensorSource)
    source = dataclasses.replace(source, input=dataclasses.replace(source.input, horizontal_flip=mirrored))
    make = factory("convnet-d1-w8" if kind == "image" else "mlp", source.input, len(source.classes))
    with _untouched("a protocol"):
        said, again = (protocol.resolve(name, make.name, source.input) for _ in range(2))
    _require(said == again, "resolve must say the same at every call")
    _require(
        not said.cases and (said.recipe.epochs is None) != (not said.recipe.steps),
        "resolve must leave one length and no cases",
    )
    plain = said.recipe.augment == said.recipe.mix == "none"
    _require(kind == "image" or plain, f"only pictures are augmented and mixed, but {name} as a {kind} is")
    try:
        augment = student_augmentation(said.recipe.augment, source)
    except PotstillError as error:
        raise ContractError(f"the augmentation for {name} must be registered, but: {error}") from error
    if not trained:
        return
    batch = source.fetch(torch.arange(0, len(source), 5))
    assert isinstance(batch.x, Tensor)
    assert batch.y is not None
    x, y = batch.x.clone(), batch.y.clone()
    if said.teaching.loss == "squared":
        y = to_scores(as_rows(y, len(source.classes), torch.float32))
    kept, teachers = y.clone(), None
    if said.teaching.labels == "teacher":
        network = make(5)
        theta, buffers = copy_parameters(network), {n: b.clone() for n, b in network.named_buffers()}
        teachers = Teachers(make=make, trained=(NetworkWeights(seed=5, parameters=theta, buffers=buffers),))
    job = StudentJob(
        make=make, x=x, y=y, protocol=said, lr=said.recipe.lr[0], steps=None, augment=augment, seed=3, teachers=teachers
    )  # fmt: skip
    with _untouched("a student's training"):
        one, two = train(job).state_dict(), train(job).state_dict()
    _require(_same(one, two), "a student trained twice with one seed must have the same bits")
    _require(torch.equal(x, batch.x) and torch.equal(y, kept), "training must not write into the set")
    _require(
        not _same(one, train(dataclasses.replace(job, seed=4)).state_dict()), "another seed must give another student"
    )
    if teachers is None:
        exact = dataclasses.replace(job, make=_Double(make), x=x.double(), y=y.double() if y.is_floating_point() else y)
        alone, beside = train(exact).state_dict(), fit_stacked([dataclasses.replace(exact, seed=4), exact]).state
        _require(
            all(torch.allclose(beside[n][1], t, rtol=1e-6, atol=2e-8) for n, t in alone.items()),
            "side by side with another a student must learn what it learns alone",
        )


@dataclasses.dataclass(frozen=True)
class _Double:
    """Another factory's networks in float64, in which rounding is far below what is looked for."""

    make: NetworkFactory

    @property
    def name(self) -> str:
        return self.make.name

    @property
    def device(self) -> torch.device:
        return self.make.device

    def __call__(self, seed: int, /) -> Network:
        return self.make(seed).double()
