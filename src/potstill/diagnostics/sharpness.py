"""Curvature of the loss where students of the set end, beside students of as many real samples.

The Hessian is known by its products with vectors: ``H v`` is the gradient of ``⟨∇L, v⟩`` (Pearlmutter, 1994).

- Trace: the mean of ``vᵀ H v`` over vectors of random signs (Hutchinson, 1990), with its standard error.
- Largest eigenvalue in magnitude: power iteration from a random start, until the relative change is small.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.func import functional_call

from potstill.core import Task
from potstill.core.nested import index, num_samples
from potstill.diagnostics.bench import Bench, TrainingData
from potstill.evaluation.statistics import summary
from potstill.evaluation.student import StudentJob, train
from potstill.rng import derive_seed, generator

__all__ = ["PRODUCTS", "VECTORS", "count_samples", "count_students", "largest", "measure_curvature", "product", "trace"]

MAX_SAMPLES = 512
"""Maximum number of real training samples in the loss."""
VECTORS, PRODUCTS = 10, 30
"""Hessian-vector products of a trace estimate, and maximum of an eigenvalue's."""
Vector = tuple[Tensor, ...]
"""One tensor per parameter."""


def count_samples(bench: Bench) -> int:
    """Return the number of real samples in the loss."""
    return min(MAX_SAMPLES, len(bench.real))


def count_students(bench: Bench) -> int:
    """Return the number of students of each kind."""
    return min(2, bench.students)


def measure_curvature(bench: Bench) -> dict[str, Any]:
    """Return loss, trace of its Hessian and its largest eigenvalue, on real training samples and on the set itself."""
    rng, each = generator(bench.seed, "study", "curvature"), count_students(bench)
    batch = bench.real.fetch(torch.randperm(len(bench.real), generator=rng)[: count_samples(bench)])
    assert batch.y is not None
    own = bench.distilled_data
    at = torch.randperm(num_samples(own.x), generator=rng)[:MAX_SAMPLES]
    held = {
        "real": TrainingData(x=batch.x, y=batch.y),
        "set": TrainingData(x=index(own.x, at), y=own.y[at.to(own.y.device)]),
    }
    kinds = {"set": bench.distilled_condition(), "random": bench.random_condition()}
    jobs = [bench.job(lesson.data_for(n), n) for lesson in kinds.values() for n in range(each)]
    found = bench.run("curvature", partial(_curvatures_after_training, held, bench.task), jobs)
    points = {name: [m for m in found[i * each : (i + 1) * each] if m is not None] for i, name in enumerate(kinds)}
    return {
        "samples": count_samples(bench), "vectors": VECTORS, "products": PRODUCTS,
        **{name: {on: _summed([m[on] for m in several]) for on in held} for name, several in points.items()},
        "ratio": _ratio(points),
    }  # fmt: skip


def _summed(several: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Summarise over students; estimation errors are those of single students."""
    if not several:
        return None
    return {
        "loss": summary([m["loss"] for m in several]), "trace": summary([m["trace"] for m in several]),
        "trace_error": max((m["error"] for m in several if m["error"] is not None), default=None),
        "eigenvalue": summary([m["eigenvalue"] for m in several]), "settled": all(m["settled"] for m in several),
    }  # fmt: skip


def _ratio(points: dict[str, list[dict[str, Any]]]) -> float | None:
    """Return the trace on real samples of students of the set, divided by that of students of real samples."""
    if not all(points.values()):
        return None
    own, other = (sum(m["real"]["trace"] for m in points[n]) / len(points[n]) for n in ("set", "random"))
    return own / other if other > 0 else None


def _curvatures_after_training(
    data_by_name: dict[str, TrainingData], task: Task, job: StudentJob
) -> dict[str, Any] | None:
    """Train a student and return the curvature of each loss there, with the same random vectors for all."""
    network = train(job).eval()
    names, theta = zip(*network.named_parameters(), strict=True)
    if not all(bool(torch.isfinite(p).all()) for p in theta):
        return None
    curvatures: dict[str, Any] = {}
    for name, taught in data_by_name.items():

        def loss(values: tuple[Tensor, ...], taught: TrainingData = taught) -> Tensor:
            outputs = functional_call(network, dict(zip(names, values, strict=True)), (taught.x,))
            return task.loss(outputs, taught.y)

        with torch.no_grad():
            value = float(loss(theta))
        times = product(loss, theta)
        estimate = trace(times, theta, VECTORS, generator(derive_seed(0, "study", "vectors")))
        top = largest(times, theta, PRODUCTS, generator(derive_seed(0, "study", "power")))
        curvatures[name] = {
            "loss": value, "trace": estimate.mean, "error": estimate.error, "eigenvalue": top.value,
            "settled": top.settled,
        }  # fmt: skip
    return curvatures


def product(loss: Callable[[Vector], Tensor], at: Sequence[Tensor]) -> Callable[[Sequence[Tensor]], Vector]:
    """Return the map ``v ↦ H v`` of ``loss`` at the parameters ``at``; one gradient graph serves all products.

    Args:
        loss: of parameters in the order of ``at``, twice differentiable, a number.
    """
    with torch.enable_grad():
        theta = tuple(t.detach().requires_grad_() for t in at)
        slopes = torch.autograd.grad(loss(theta), theta, create_graph=True, materialize_grads=True)

    def times(v: Sequence[Tensor]) -> Vector:
        with torch.enable_grad():
            along = torch.stack([(g * u).sum() for g, u in zip(slopes, v, strict=True)]).sum()
            if not along.requires_grad:  # the loss is linear
                return tuple(torch.zeros_like(t) for t in theta)
            found = torch.autograd.grad(along, theta, retain_graph=True, materialize_grads=True)
        return tuple(t.detach() for t in found)

    return times


class Trace(NamedTuple):
    """Estimate of a trace: the mean over random vectors."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    @property
    def error(self) -> float | None:
        """Standard error of the mean; ``None`` for one vector."""
        n = len(self.values)
        if n < 2:
            return None
        return math.sqrt(math.fsum((v - self.mean) ** 2 for v in self.values) / (n - 1) / n)


def trace(times: Callable[[Sequence[Tensor]], Vector], like: Sequence[Tensor], vectors: int, rng: Generator) -> Trace:
    """Hutchinson's estimate of the trace of ``times`` from ``vectors`` vectors of signs drawn from ``rng``.

    Args:
        like: tensors of the shapes and on the device of what ``times`` takes.
    """
    signs = ([torch.randint(0, 2, t.shape, generator=rng).mul_(2).sub_(1).to(t) for t in like] for _ in range(vectors))
    return Trace(values=tuple(_dot(v, times(v)) for v in signs))


class Eigenvalue(NamedTuple):
    """Eigenvalue of the largest magnitude, by power iteration."""

    value: float
    settled: bool
    """True if the last product changed the value by less than the tolerance."""


def largest(
    times: Callable[[Sequence[Tensor]], Vector], like: Sequence[Tensor], most: int, rng: Generator, part: float = 1e-3
) -> Eigenvalue:
    """The Rayleigh quotient of power iteration after at most ``most`` products.

    Args:
        like: as for `trace`.
        part: relative change at which the iteration stops.
    """
    v: Sequence[Tensor] = _unit([torch.randn(t.shape, generator=rng).to(t) for t in like])
    value = math.inf
    for _ in range(most):
        turned = times(v)
        before, value = value, _dot(v, turned)
        if abs(value - before) <= part * abs(value):
            return Eigenvalue(value, settled=True)
        v = _unit(turned)
    return Eigenvalue(value, settled=False)


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return math.fsum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))


def _unit(v: Sequence[Tensor]) -> list[Tensor]:
    long = math.sqrt(_dot(v, v))
    return [t / long for t in v] if long > 0 else [*v]
