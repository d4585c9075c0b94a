"""Contract checks of methods."""

import dataclasses
import inspect
import json
import sys
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from potstill.api.distill import distill
from potstill.core import ClassShardable, Method, MethodInfo, Problem, Selection, Source, Synthetic, label_mode
from potstill.core.nested import named_tensors, num_samples
from potstill.core.registry import make_method
from potstill.dataset_file import pack_state, unpack_state
from potstill.rng import generator
from potstill.runs.loop import find_non_finite
from potstill.runs.resolve import PARTS
from potstill.tasks import PixelTask
from potstill.testing.common import no_side_effects, require, same_bits, state_bits, toy_problem

__all__ = ["check_method", "shards_violation"]


def check_method(
    method: Method[Any] | str, *, steps: int = 3, kind: str = "image", source: Source | None = None, ipc: int = 2
) -> None:
    """Check a method on a toy problem.

    Also call it with ``source=uneven_source()``: toy images are square, grey and equally many per class.

    Args:
        method: a method with settings small enough for a test, or a registered name.
        steps: most steps to make; at least 2, to show that the state holds all that changes.
        kind: kind of the toy data, ``image`` or ``table``.
        source: data to use instead of the toy data.
        ipc: items per class; some parametrizations need more than two.

    Raises:
        ContractError: a promise is broken.
    """
    if isinstance(method, str):
        method = make_method(method, {})[1]
    _check_declaration(method)
    problem = toy_problem(method, ipc=ipc, kind=kind, source=source)
    method = _resolve_defaults(method, problem)
    with no_side_effects("a method"):
        states = _trajectory(method, problem, steps, seed=5)
        again = _trajectory(method, problem, steps, seed=5)
    for n, (a, b) in enumerate(zip(states, again, strict=True)):
        require(same_bits(a[1], b[1]), f"the same seed must give the same bits, but the states after step {n} differ")
    for n, (state, bits, _) in enumerate(states):
        require(
            same_bits(bits, state_bits(state)),
            f"step must return a new state, but it changed the state of step {n} in place",
        )
    _check_resume(method, problem, states, steps)
    for state, _, _ in (states[0], states[-1]):
        _check_result(method, problem, method.result(problem, state))
    require((wrong := shards_violation(method, problem, min(steps, 2))) is None, wrong or "")
    other = _trajectory(method, problem, steps, seed=6)
    deterministic = method.info.family == "selection"
    require(
        deterministic or not same_bits(states[-1][1], other[-1][1]),
        "another seed must give another set: no draw uses rng",
    )


def _check_declaration(method: Method[Any]) -> None:
    kind = type(method)
    require(dataclasses.is_dataclass(method), f"{kind.__name__} must be a dataclass whose fields are hyperparameters")
    require(
        kind.__dataclass_params__.frozen,  # type: ignore[attr-defined]
        f"{kind.__name__} must be frozen: what evolves belongs into the state",
    )
    info = getattr(kind, "info", None)
    require(isinstance(info, MethodInfo), f"{kind.__name__}.info must be a MethodInfo")
    require(bool(method.info.paper and method.info.title), f"{kind.__name__}.info must name its paper and title")
    module = sys.modules[kind.__module__]
    in_package = bool(module.__package__)  # a private file has no page
    require(bool(module.__doc__) or not in_package, f"{kind.__module__} must begin with the paper and the equation")
    config = dataclasses.asdict(method)  # type: ignore[call-overload]
    taken = sorted(config.keys() & (inspect.signature(distill).parameters.keys() - set(PARTS)))
    require(not taken, f"{kind.__name__}.{taken[0] if taken else ''} has the name of an option of distill; rename it")
    round_trip = json.loads(json.dumps(config))
    again = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in round_trip.items()})
    require(again == method, f"{kind.__name__}'s fields must survive JSON, but {config} does not")
    require(
        hasattr(kind, "state_type") and dataclasses.is_dataclass(kind.state_type),
        f"{kind.__name__}.state_type must be the frozen dataclass of its state",
    )


def _resolve_defaults(method: Method[Any], problem: Problem) -> Method[Any]:
    made, notes = method.resolve_defaults(problem)
    require(
        type(made) is type(method), f"resolve_defaults must return a {type(method).__name__}, not {type(made).__name__}"
    )
    require(
        made.resolve_defaults(problem) == (made, ()),
        "resolve_defaults must change nothing when it is applied twice, and return no notes then",
    )
    require(
        all(isinstance(note, str) and "\n" not in note for note in notes), "resolve_defaults must say lines of text"
    )
    config, asked = dataclasses.asdict(made), dataclasses.asdict(method)  # type: ignore[call-overload]
    changed = [n for n, value in asked.items() if value is not None and config[n] != value]
    require(not changed, f"resolve_defaults must leave what was asked for, but {changed} differ")
    return made


def _trajectory(
    method: Method[Any], problem: Problem, steps: int, seed: int
) -> list[tuple[Any, dict[str, Any], Tensor]]:
    """Return the states from ``init`` on, each with a copy of its bits and the generator's state."""
    rng = generator(seed)
    state = method.init(problem, rng)
    require(
        type(state) is method.state_type, f"init must return a {method.state_type.__name__}, not {type(state).__name__}"
    )
    states = [(state, state_bits(state), rng.get_state())]
    while len(states) <= steps and not method.done(problem, state):
        state, metrics = method.step(problem, state, rng)
        require(
            all(isinstance(v, float) for v in metrics.values()), f"metrics must be plain floats by name, not {metrics}"
        )
        wrong = find_non_finite(metrics, state)
        require(
            wrong is None, f"a run ends where a state or a metric is not finite, but after step {len(states)} {wrong}"
        )
        states.append((state, state_bits(state), rng.get_state()))
    horizon = method.num_steps(problem)
    require(
        horizon is None or horizon + 1 >= len(states),
        f"num_steps says {horizon} steps, but {len(states) - 1} were made",
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
        require(
            same_bits(state_bits(following), states[n + 1][1]),
            f"a run resumed after step {n} must go on with the same bits: something that evolves is not in the state",
        )


def _check_result(method: Method[Any], problem: Problem, result: Any) -> None:
    info, k = method.info, problem.num_classes
    if isinstance(result, Selection):
        require(info.is_selection, "a method that returns a Selection must declare info.is_selection")
        require(result.index.dtype == torch.int64, "a Selection's index must be int64")
        require(len(set(result.index.tolist())) == len(result.index), "a Selection must not hold a sample twice")
        labels, rows = problem.train.labels[result.index], result.soft_labels
        w = result.weights
        require((w is not None) == info.weighted, f"info.weighted is {info.weighted}, but the Selection says otherwise")
        if w is not None:
            fits = w.is_floating_point() and w.shape == result.index.shape and bool(torch.isfinite(w).all())
            require(
                fits and float(w.min()) >= 0 and float(w.max()) > 0,
                "weights must be one finite float of at least 0 for each sample, and not all 0",
            )
    else:
        require(
            isinstance(result, Synthetic), f"result must be a Selection or a Synthetic, not {type(result).__name__}"
        )
        decoded = problem.decode(result.payload)
        for name, tensor in result.extra_parameters.items():
            fits = tensor.is_floating_point() and bool(torch.isfinite(tensor).all())
            require(fits, f"what is learned must be finite floats, but {name!r} is not")
        rate = result.extra_parameters.get("student/lr", torch.ones(()))
        require(rate.ndim == 0 and float(rate) > 0, "learned 'student/lr' must be one number above 0")
        specs = dict(problem.train.input.parts) or {"": problem.train.input}
        for name, values in named_tensors(decoded).items():
            if (spec := specs.get(name)) is None:
                continue  # words are of any length
            found = tuple(values.shape[1:])
            require(found == spec.shape, f"decoded inputs must have the data's shape {spec.shape}, not {found}")
            require(bool(torch.isfinite(values).all()), "decoded inputs must be finite")
        many = num_samples(decoded)
        require(len(result.labels) == many, f"{many} decoded inputs need as many labels, not {len(result.labels)}")
        if not problem.train.classes:
            require(many == sum(problem.sizes), f"the budget is {sum(problem.sizes)} items, not {many}")
            given = result.labels.to("cpu")
            places = given.shape[-2:] if isinstance(problem.task, PixelTask) else ()
            problem.task.loss(torch.zeros(many, problem.task.outputs, *places), given)  # targets that the task takes
            return
        soft = result.labels.is_floating_point()
        labels, rows = (result.labels.argmax(1), result.labels) if soft else (result.labels, None)
        if result.centred_labels:
            fits = soft and tuple(result.labels.shape) == (many, k) and bool(torch.isfinite(result.labels).all())
            require(fits, f"scores must be finite float rows of {k} numbers, one for each class")
            require(many == sum(problem.sizes), f"the budget is {sum(problem.sizes)} items, not {many}")
            require(info.soft_labels or label_mode(method) != "hard", "scores need info.soft_labels or labels='scores'")
            return
    soft_asked = info.soft_labels or label_mode(method) != "hard"
    require((rows is not None) == soft_asked, f"info.soft_labels is {info.soft_labels}, but the labels say otherwise")
    if soft_asked and not info.soft_labels:
        return  # labels that are learned, or a teacher's, may be of another class; their number was checked
    if rows is not None:
        require(
            tuple(rows.shape) == (len(labels), k) and torch.allclose(rows.sum(1), torch.ones(()).to(rows), atol=1e-4),
            "soft labels must be rows of k probabilities that sum to 1",
        )
    counts = torch.bincount(labels, minlength=k)
    wanted = torch.tensor(problem.counts if isinstance(result, Selection) else problem.sizes)
    if info.balanced:
        said = f"every class must get its budget {wanted.tolist()}, not {counts.tolist()}"
        require(torch.equal(counts, wanted), said)
    kept = int(counts.min()) >= 1 and int(counts.sum()) == int(wanted.sum())
    require(kept, f"the classes must share the budget of {int(wanted.sum())}, at least one each, not {counts.tolist()}")
    require(bool((labels.diff() >= 0).all()), "items must come in label order")


_ROUNDING = 0.01
"""Allowed difference of float32 shards from the whole run after a few steps, as a fraction of the distance moved."""


def shards_violation(method: Method[Any], problem: Problem, steps: int) -> str | None:
    """Return the promise that a `ClassShardable` method breaks, or ``None``."""
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
                "shard_obstacle() says that classes can be matched by themselves, but joined shards end elsewhere in "
                f"{name} than the whole run; say why they cannot, or draw in a shard all that the whole run draws"
            )
    return None


def _walked(method: Method[Any], problem: Problem, steps: int) -> Any:
    rng: Generator = generator(5, "shards")
    state = method.init(problem, rng)
    for _ in range(steps):
        state, _ = method.step(problem, state, rng)
    return state
