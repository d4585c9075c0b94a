"""Learned validation sets (HCDC): the ranking of unseen hyperparameters, beside lazier ways of the same compute.

    python benchmarks/uses/hcdc.py [--only ridge,table,networks] [--folder runs/hcdc]

Three problems: ridge regression of digits with a weight decay for each row of pixels; logistic regression of breast
cancer with a weight decay for each of its ten measures; and small networks on digits, with a weight decay, a choice of
the network and a choice of the augmentation. The truth is the validation loss of training on all real training data.
All trainings are converged. Each seed is a file in ``--folder``; the summary goes to ``results/uses/hcdc.json``.

Rivals: a random validation set; the whole real one with the same small training set; a random part of the training data
that makes the search cost what HCDC's does, its making included; and two models of the loss that are fitted to the very
trainings on real data that HCDC learns from: a Gaussian process of the losses, and a quadratic of losses and
hyper-gradients.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr, t
from sklearn.datasets import load_breast_cancer
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine

import potstill
from potstill.core import InputSpec
from potstill.functional.hyper_gradients import ConjugateGradients
from potstill.nn import factory
from potstill.rng import derive_seed, generator
from potstill.uses.search.training import Rows
from potstill.uses.search.validation_set import (
    LearnedRows,
    LogRange,
    Plan,
    Problem,
    learn_validation_rows,
    linear_problem,
    losses,
    network_problem,
)

NETWORKS = ("linear", "mlp-w4", "mlp-w16")
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "as they are": lambda x: x,
    "shifted": lambda x: (x.roll(1, 3) + x.roll(-1, 3)) / 2,
    "blurred": lambda x: torch.nn.functional.avg_pool2d(x, 3, 1, 1),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A problem, its data and sizes."""

    name: str
    about: str
    x: Tensor
    y: Tensor
    problem: Callable[[int], Problem]
    """By seed."""
    train: int
    held_out: int
    small: int
    """Real training samples of the pair, equally many of each class."""
    validation: int
    """Learned validation samples, equally many of each class."""
    plan: Plan
    unseen: int
    seeds: int
    outside: tuple[tuple[str, float, float], ...] = ()
    """Name, width and shift of boxes beyond the sampled one."""

    def parts(self, seed: int) -> tuple[Rows, Rows, Rows]:
        order = torch.randperm(len(self.y), generator=generator(seed, "hcdc", "parts"))
        cut = order.split([self.train, self.held_out, len(order) - self.train - self.held_out])
        return tuple(Rows(x=self.x[at], y=self.y[at]) for at in cut)  # type: ignore[return-value]


def balanced(rows: Rows, count: int) -> Rows:
    """Return the first samples of each class, ``count`` in all."""
    classes = rows.y.unique()
    at = torch.cat([(rows.y == c).nonzero().flatten()[: count // len(classes)] for c in classes])
    return Rows(x=rows.x[at], y=rows.y[at])


def digits() -> tuple[Tensor, Tensor]:
    splits = potstill.load_data("digits")
    parts = [part.fetch(torch.arange(len(part))) for part in (splits.train, splits.test)]
    pixels = [part.normalization.invert(f.x) for part, f in zip((splits.train, splits.test), parts, strict=True)]
    return torch.cat(pixels).double(), torch.cat([f.y for f in parts])


def cases() -> list[Case]:
    x, y = digits()
    cancer = load_breast_cancer()
    table = torch.tensor((cancer.data - cancer.data.mean(0)) / cancer.data.std(0))

    def networks(seed: int) -> Problem:
        spec = InputSpec(kind="image", shape=(1, 8, 8))
        built = {n: factory(n, spec, 10)(derive_seed(seed, "hcdc", n)).double() for n in NETWORKS}
        return network_problem(built, decay=(1e-4, 0.1), views=VIEWS, updates=60)

    return [
        Case(
            name="ridge", about="ridge regression of digits, a weight decay of 0.001 to 3 for each of 8 rows of pixels",
            x=x.flatten(1), y=y, problem=lambda _: linear_problem(torch.arange(64) // 8, 10, (1e-3, 3.0)),
            train=800, held_out=400, small=50, validation=20, plan=Plan(), unseen=100, seeds=5,
            outside=(("twice as wide", 2.0, 0.0), ("shifted by half its width", 1.0, 0.5),
                     ("shifted by its width", 1.0, 1.0)),
        ),
        Case(
            name="table", x=table, y=torch.tensor(cancer.target),
            about="logistic regression of breast cancer, a weight decay of 0.001 to 3 for each of 10 measures",
            problem=lambda _: linear_problem(torch.arange(30) % 10, 2, (1e-3, 3.0), "logistic", updates=120),
            train=250, held_out=150, small=20, validation=10, unseen=40, seeds=3,
            plan=Plan(points=30, solver=ConjugateGradients(steps=60)), outside=(("twice as wide", 2.0, 0.0),),
        ),
        Case(
            name="networks", x=x, y=y, problem=networks,
            about="networks on digits: a weight decay of 0.0001 to 0.1, one of 3 networks, one of 3 augmentations",
            train=600, held_out=400, small=50, validation=20, unseen=27, seeds=3,
            plan=Plan(points=16, steps=300, solver=ConjugateGradients(steps=40, damping=1e-3, small=1e-8)),
        ),
    ]  # fmt: skip


def unseen_points(case: Case, problem: Problem, seed: int) -> Tensor:
    """Return points that nothing was learned from; of choices, single options."""
    rng = generator(seed, "hcdc", "unseen")
    if all(isinstance(part, LogRange) for part in problem.space.parts):
        return problem.space.sample(case.unseen, rng)
    found = []
    for at in problem.space.sample(case.unseen, rng):
        values: dict[str, Any] = {}
        for part in problem.space.parts:
            value = problem.space.decode(at)[part.name]
            values[part.name] = value.tolist() if isinstance(part, LogRange) else part.options[int(value.argmax())]
        found.append(problem.space.encode(values))
    return torch.stack(found)


def gaussian_process(learned: LearnedRows, points: Tensor) -> np.ndarray:
    """Predict losses by a Gaussian process of the losses that real trainings had."""
    low, width = learned.points.min(0).values, learned.points.max(0).values - learned.points.min(0).values
    scaled = [((p - low) / width).numpy() for p in (learned.points, points)]
    kernel = ConstantKernel() * RBF([1.0] * points.shape[1]) + WhiteKernel(1e-4, (1e-8, 1))
    model = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(model.fit(scaled[0], learned.real_losses.numpy()).predict(scaled[1]))


def quadratic(learned: LearnedRows, points: Tensor) -> np.ndarray:
    """Predict losses by a quadratic, fitted to the losses and the hyper-gradients of real trainings."""
    centre = learned.points.mean(0)

    def features(p: Tensor) -> Tensor:
        d = p - centre
        return torch.cat(
            [torch.ones(1, dtype=p.dtype), d, torch.outer(d, d)[tuple(torch.triu_indices(len(d), len(d)))]]
        )

    rows = torch.stack([features(p) for p in learned.points])
    slopes = torch.cat([torch.func.jacrev(features)(p).T for p in learned.points])
    left, right = torch.cat([rows, slopes]), torch.cat([learned.real_losses, learned.real_gradients.flatten()])
    weights = torch.linalg.lstsq(left, right[:, None], driver="gelsd").solution[:, 0]
    return (torch.stack([features(p) for p in points]) @ weights).numpy()


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    value = call()
    return value, time.process_time() - started


def measure(case: Case, seed: int) -> dict[str, Any]:
    """Return the losses of all ways of one seed."""
    train, held_out, test = case.parts(seed)
    problem = case.problem(seed)
    small, initial = balanced(train, case.small), balanced(held_out, case.validation)
    learned, making = timed(
        lambda: learn_validation_rows(problem, small, train, held_out, initial, case.plan, seed=seed)
    )
    points = unseen_points(case, problem, seed)
    real, full_seconds = timed(lambda: losses(problem, train, [held_out, test], points))
    pair, pair_seconds = timed(lambda: losses(problem, small, [learned.rows, initial, held_out], points))
    part = min(1.0, (making + pair_seconds) / full_seconds)
    some = Rows(x=train.x[: round(part * len(train.y))], y=train.y[: round(part * len(train.y))])
    subset, subset_seconds = timed(lambda: losses(problem, some, [held_out], points)[:, 0])
    ways: dict[str, tuple[Any, float]] = {
        "all real data": (real[:, 0], full_seconds),
        "hcdc": (pair[:, 0], making + pair_seconds),
        "random validation set": (pair[:, 1], pair_seconds),
        "whole validation set": (pair[:, 2], pair_seconds),
        "part of the training data": (subset, subset_seconds),
        "Gaussian process": (gaussian_process(learned, points), making),
        "quadratic": (quadratic(learned, points), making),
    }
    # Making includes the small trainings and the steps, which models of the loss do without: their cost is a bound.
    tested = real[:, 1].tolist()
    rows = {}
    for name, (scores, seconds) in ways.items():
        scores = [float(s) for s in scores]
        rows[name] = {
            "spearman": float(spearmanr(scores, real[:, 0].tolist())[0]),
            "test_loss": tested[int(np.argmin(scores))], "seconds": round(seconds, 3),
        }  # fmt: skip
    outside = {}
    for name, scale, shift in case.outside:
        there = problem.space.sample(case.unseen, generator(seed, "hcdc", "outside", name), scale, shift)
        truth = losses(problem, train, [held_out], there)[:, 0]
        own = losses(problem, small, [learned.rows, initial, held_out], there)
        outside[name] = {
            way: float(spearmanr(scores, truth)[0])
            for way, scores in (
                ("hcdc", own[:, 0]), ("random validation set", own[:, 1]), ("whole validation set", own[:, 2]),
                ("Gaussian process", gaussian_process(learned, there)), ("quadratic", quadratic(learned, there)),
            )
        }  # fmt: skip
    return {
        "rows": rows, "outside": outside, "distance": [learned.distances[0], learned.distances[-1]],
        "part": part, "making": round(making, 3),
        "test_range": [min(tested), float(np.median(tested)), max(tested)],
    }  # fmt: skip


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, values and a 95 % t interval over seeds."""
    mean = float(np.mean(values))
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return {"mean": mean, "ci95": [mean - half, mean + half], "values": [float(v) for v in values]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="ridge,table,networks")
    parser.add_argument("--folder", type=Path, default=Path("runs/hcdc"))
    parser.add_argument("--out", type=Path, default=Path("results/uses/hcdc.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    summary, started = [], time.monotonic()
    for case in cases():
        if case.name not in args.only.split(","):
            continue
        measured = []
        for seed in range(case.seeds):
            path = args.folder / f"{case.name}-seed{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(measure(case, seed)))
            measured.append(json.loads(path.read_text()))
        rows = [
            {"way": way, **{key: interval([m["rows"][way][key] for m in measured])
                            for key in ("spearman", "test_loss", "seconds")}}
            for way in measured[0]["rows"]
        ]  # fmt: skip
        outside = [
            {"box": box, "way": way, "spearman": interval([m["outside"][box][way] for m in measured])}
            for box, ways in measured[0]["outside"].items() for way in ways
        ]  # fmt: skip
        summary.append({
            "name": case.name, "about": case.about, "n": case.seeds, "train": case.train, "held_out": case.held_out,
            "test": len(case.y) - case.train - case.held_out, "small": case.small, "validation": case.validation,
            "points": case.plan.points, "steps": case.plan.steps, "unseen": case.unseen, "rows": rows,
            "outside": outside, "part": interval([m["part"] for m in measured]),
            "distance": [interval([m["distance"][k] for m in measured]) for k in (0, 1)],
            "test_range": [float(np.mean([m["test_range"][k] for m in measured])) for k in range(3)],
        })  # fmt: skip
        print(f"{case.name}: {case.about}; n={case.seeds}")
        for row in rows:
            print(f"  {row['way']:<26} Spearman {row['spearman']['mean']:+.3f} {row['spearman']['ci95']}"
                  f"  test {row['test_loss']['mean']:.4f}  {row['seconds']['mean']:.1f} s")  # fmt: skip
        for row in outside:
            print(f"  {row['box']:<26} {row['way']:<24} {row['spearman']['mean']:+.3f} {row['spearman']['ci95']}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    stamp = {"machine": machine(), "seconds": round(time.monotonic() - started, 1)}
    args.out.write_text(json.dumps({"cases": summary, **stamp}, indent=1) + "\n")


if __name__ == "__main__":
    main()
