"""Curvature of the loss where students of the set end, beside students of as many real samples."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from potstill.core import Task
from potstill.core.nested import index, num_samples
from potstill.diagnostics.bench import Bench, TrainingData
from potstill.diagnostics.curvature import largest, product, trace
from potstill.evaluation.statistics import summary
from potstill.evaluation.student import StudentJob, train
from potstill.rng import derive_seed, generator

__all__ = ["MAX_SAMPLES", "PRODUCTS", "VECTORS", "count_samples", "count_students", "measure_curvature"]

MAX_SAMPLES = 512
"""Maximum number of real training samples in the loss."""
VECTORS, PRODUCTS = 10, 30
"""Hessian-vector products of a trace estimate, and maximum of an eigenvalue's."""


def count_samples(bench: Bench) -> int:
    """Return the number of real samples in the loss."""
    return min(MAX_SAMPLES, len(bench.real))


def count_students(bench: Bench) -> int:
    """Return the number of students of each kind."""
    return min(2, bench.students)


def measure_curvature(bench: Bench) -> dict[str, Any]:
    """Return loss, trace of its Hessian and its largest eigenvalue, on real training samples and on the set itself."""
    rng = generator(bench.seed, "study", "curvature")
    batch = bench.real.fetch(torch.randperm(len(bench.real), generator=rng)[: count_samples(bench)])
    assert batch.y is not None
    held = {"real": TrainingData(x=batch.x, y=batch.y), "set": _few(bench.distilled_data, rng)}
    kinds = [
        (name, lesson) for name, lesson in (("set", bench.distilled_condition()), ("random", bench.random_condition()))
    ]
    jobs = [bench.job(lesson.data_for(n), n) for _, lesson in kinds for n in range(count_students(bench))]
    points_of_jobs: list[dict[str, Any] | None] = []
    for found in bench.executor.map(partial(_at, held, bench.task), jobs):
        points_of_jobs.append(found)
        bench.report("curvature", len(points_of_jobs), len(jobs))
    each = count_students(bench)
    points = {
        name: [m for m in points_of_jobs[i * each : (i + 1) * each] if m is not None]
        for i, (name, _) in enumerate(kinds)
    }
    return {
        "samples": count_samples(bench), "vectors": VECTORS, "products": PRODUCTS,
        **{name: {on: _summed([m[on] for m in several]) for on in held} for name, several in points.items()},
        "ratio": _ratio(points),
    }  # fmt: skip


def _few(data: TrainingData, rng: torch.Generator) -> TrainingData:
    at = torch.randperm(num_samples(data.x), generator=rng)[:MAX_SAMPLES]
    return TrainingData(x=index(data.x, at), y=data.y[at.to(data.y.device)])


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


def _at(data_by_name: dict[str, TrainingData], task: Task, job: StudentJob) -> dict[str, Any] | None:
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
