"""How often a 95 % interval misses, on real data: new test samples, students and sets for every interval.

    python benchmarks/coverage.py

Of digits and of mnist-5k a part is training data and the rest a pool that stands for the population. Sets are made of
the training part (two random draws, herding, `dm`), many students are trained on each, and it is kept which samples of
the pool each gets right. Then test splits of m samples (with replacement) and n students (of 60, each once, as no
two trainings are the same) are drawn from these, 1,200 times a cell, and it is counted how often

- the interval of a score misses the set's accuracy in the pool over all its students (of one student: this student's);
- the interval of a difference of two sets on the same test samples misses theirs, and how many of its claims (intervals
  without zero) have the wrong sign;
- a set is called different from itself, by other students.

The same with methods in place of sets: `random` and `k-means` with a set for each seed, two students a set, in pairs.

``before`` is what intervals were until version 0.1: Student's t over students (Welch's of a difference) and no narrower
than Wilson's (Newcombe's) of all answers of all students, which are of the same test samples. Results:
results/coverage.json
"""

import argparse
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from scipy.special import ndtri, stdtrit

import potstill
from potstill.augment.names import named_augmentation
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.evaluation.protocols import POTSTILL as PROTOCOL
from potstill.evaluation.samples import SampleScores
from potstill.evaluation.statistics import difference, paired_difference, summary
from potstill.evaluation.student import StudentJob, train_and_predict
from potstill.nn import factory
from potstill.rng import derive_seed, generator
from potstill.tasks import get_targets, get_task

OUT = Path("results/coverage.json")
SAMPLES, STUDENTS, SETS = (40, 100, 300, 1000), (1, 2, 3, 5, 10), (2, 3, 5, 10)
CASES: tuple[dict[str, Any], ...] = (
    {"data": "digits", "train": 400, "ipc": 10, "network": "mlp-w64", "lr": 0.05, "steps": 60},
    {"data": "digits", "train": 400, "ipc": 5, "network": "convnet-d2-w8", "lr": 0.05, "steps": 40},
    {"data": "mnist-5k", "train": 1000, "ipc": 10, "network": "mlp-w32", "lr": 0.05, "steps": 60},
)
SETS_OF: dict[str, tuple[str, int, dict[str, Any]]] = {
    "random": ("random", 0, {}),
    "random, another": ("random", 1, {}),
    "herding": ("herding", 0, {}),
    "dm": ("dm", 0, {"iterations": 60, "store": "float32"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=60, help="trained on each set")
    parser.add_argument("--sets", type=int, default=60, help="of each method")
    parser.add_argument("--times", type=int, default=1200, help="draws of a cell")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = []
    for case in CASES:
        splits = _splits(case)
        known = {name: _right(case, splits, of, args.students) for name, of in SETS_OF.items()}
        found = {**case, "sets": {name: _about(x) for name, x in known.items()}}
        found["cells"] = [_cell(known, m, n, args.times) for m, n in itertools.product(SAMPLES, STUDENTS)]
        cases.append(found)
        _print(found)
    case = CASES[0]
    methods = {name: _methods(case, name, args.sets) for name in ("random", "k-means")}
    of_sets = [_sets_cell(methods, m, s, args.times) for m, s in itertools.product(SAMPLES, SETS)]
    _print_sets(of_sets)
    result = {"times": args.times, "students": args.students, "cases": cases, "of_sets": of_sets, "machine": machine()}
    OUT.write_text(json.dumps(result, indent=1) + "\n")


def _splits(case: dict[str, Any]) -> Splits:
    """The training part, and the rest as the pool."""
    splits = potstill.load_data(case["data"])
    train, test = splits.train, splits.test
    assert isinstance(train, TensorSource)
    assert isinstance(test, TensorSource)
    assert isinstance(train.inputs, torch.Tensor)
    assert isinstance(test.inputs, torch.Tensor)
    x, y = torch.cat([train.inputs, test.inputs]), torch.cat([train.labels, test.labels])
    order = torch.randperm(len(y), generator=generator(0, "coverage"))
    parts = [replace(train, inputs=x[at], labels=y[at], places=None, names=()) for at in order.split(
        [case["train"], len(y) - case["train"]]
    )]  # fmt: skip
    return Splits(train=parts[0], test=parts[1])


def _right(case: dict[str, Any], splits: Splits, of: tuple[str, int, dict[str, Any]], students: int) -> np.ndarray:
    """Which samples of the pool each student gets right (students, pool)."""
    assert splits.test is not None
    name, seed, options = of
    small = potstill.distill(splits, name, ipc=case["ipc"], seed=seed, **options)
    source = splits.train
    make = factory(case["network"], source.input, len(source.classes), normalization=source.normalization)
    augment = named_augmentation("dsa-noflip" if "convnet" in case["network"] else "none", source)
    protocol = PROTOCOL.override(steps=case["steps"], lr=case["lr"], least_epochs=0)
    protocol = protocol.resolve(source.name, make.name, source.input)
    found = []
    for n in range(students):
        job = StudentJob(
            make=make, x=small.model_space(), y=small.labels, protocol=protocol, lr=case["lr"], steps=case["steps"],
            augment=augment, seed=derive_seed(seed, name, n), task=get_task(source),
        )  # fmt: skip
        said = train_and_predict(splits.test, job)
        assert said is not None
        found.append((said == get_targets(splits.test)).double().numpy())
    return np.array(found)


def _methods(case: dict[str, Any], name: str, sets: int) -> np.ndarray:
    """The mean of two students of each set (sets, pool)."""
    return np.array([_right(case, _splits(case), (name, seed, {}), 2).mean(0) for seed in range(sets)])


def _about(x: np.ndarray) -> dict[str, float]:
    return {"accuracy": float(x.mean()), "std_of_students": float(x.mean(1).std(ddof=1))}


def _cell(known: dict[str, np.ndarray], m: int, n: int, times: int) -> dict[str, Any]:
    """Rates of one number of samples and of students."""
    rng = np.random.default_rng([m, n])
    names = list(known)
    pairs = list(itertools.combinations(names, 2))
    count: dict[str, list[list[bool]]] = {kind: [] for kind in ("score", "score_of_set", "difference", "equal")}
    claims: list[list[tuple[bool, bool]]] = []
    for t in range(times):
        first, second = pairs[t % len(pairs)]
        x = known[first]
        at = rng.integers(x.shape[1], size=m)
        whose = [rng.choice(len(known[name]), n, replace=False) for name in (first, second)]
        others = np.setdiff1d(np.arange(len(x)), whose[0])
        whose.append(rng.choice(others, n, replace=False))
        a, b, again = (known[name][np.ix_(w, at)] for name, w in zip((first, second, first), whose, strict=True))
        true = [float(known[name].mean()) for name in (first, second)]
        mine = [float(known[name][w].mean()) for name, w in zip((first, second, first), whose, strict=True)]
        if n == 1:  # intervals are of these students
            true = mine[:2]
        scores = [(_old(a) if n > 1 else None), _new(a)]
        count["score"].append([_missed(ci, true[0]) for ci in scores])
        count["score_of_set"].append([_missed(ci, float(x.mean())) for ci in scores])
        gaps = [(_old_gap(a, b) if n > 1 else None), _new_gap(a, b, fixed=n == 1)]
        count["difference"].append([_missed(ci, true[0] - true[1]) for ci in gaps])
        claims.append([_claim(ci, true[0] - true[1], a.mean() - b.mean()) for ci in gaps])
        if n > 1:
            level = [_old_gap(a, again), _new_gap(a, again)]
            count["equal"].append([_missed(ci, 0.0) for ci in level])
    found: dict[str, Any] = {"samples": m, "students": n}
    for kind, rows in count.items():
        if rows:
            found[kind] = _rates(rows)
    made = np.array(claims)  # (times, before/after, claimed/wrong)
    found["claims"], found["wrong_sign"] = (
        {k: float(v) for k, v in zip(("before", "after"), made[:, :, 0].mean(0), strict=True)},
        {k: float(w / max(1, c)) for k, w, c in zip(("before", "after"), made[:, :, 1].sum(0), made[:, :, 0].sum(0),
                                                    strict=True)},
    )  # fmt: skip
    return found


def _sets_cell(methods: dict[str, np.ndarray], m: int, sets: int, times: int) -> dict[str, Any]:
    """Rates of so many sets of each method, paired by their numbers."""
    rng = np.random.default_rng([m, sets, 1])
    one, other = methods.values()
    count: dict[str, list[list[bool]]] = {"score": [], "difference": [], "equal": []}
    for _ in range(times):
        at = rng.integers(one.shape[1], size=m)
        seeds, more = rng.choice(len(one), 2 * sets, replace=False).reshape(2, sets)
        a, b, again = one[np.ix_(seeds, at)], other[np.ix_(seeds, at)], one[np.ix_(more, at)]
        count["score"].append([_missed(ci, float(one.mean())) for ci in (_old(a), _new(a))])
        true = float(one.mean() - other.mean())
        count["difference"].append([_missed(ci, true) for ci in (_old_pairs(a, b), _new_pairs(a, b))])
        count["equal"].append([_missed(ci, 0.0) for ci in (_old_pairs(a, again), _new_pairs(a, again))])
    return {"samples": m, "sets": sets} | {kind: _rates(rows) for kind, rows in count.items()}


def _rates(rows: Sequence[Sequence[bool]]) -> dict[str, float]:
    return dict(zip(("before", "after"), np.mean(rows, axis=0).tolist(), strict=True))


def _missed(ci: Sequence[float] | None, true: float) -> bool:
    return ci is not None and not ci[0] <= true <= ci[1]


def _claim(ci: Sequence[float] | None, true: float, seen: float) -> tuple[bool, bool]:
    """Whether the interval leaves zero out, and whether that is a claim of the wrong sign."""
    claimed = ci is not None and not ci[0] <= 0 <= ci[1]
    return claimed, claimed and seen * true < 0


def _new(x: np.ndarray) -> Sequence[float]:
    found: Sequence[float] = summary(x.mean(1).tolist(), x.shape[1], samples=SampleScores.from_matrix(x))["ci95"]
    return found


def _new_gap(a: np.ndarray, b: np.ndarray, *, fixed: bool = False) -> Sequence[float] | None:
    pair = SampleScores.from_matrix(a), SampleScores.from_matrix(b)
    found: Sequence[float] | None = difference(
        a.mean(1).tolist(), b.mean(1).tolist(), a.shape[1], fixed=fixed, samples=pair
    )["ci95"]
    return found


def _new_pairs(a: np.ndarray, b: np.ndarray) -> Sequence[float]:
    found: Sequence[float] = paired_difference(
        a.mean(1).tolist(), b.mean(1).tolist(), a.shape[1], samples=SampleScores.from_matrix(a - b), students=2
    )["ci95"]
    return found


def _old(x: np.ndarray) -> Sequence[float]:
    """Student's t over students, and Wilson's interval of all answers."""
    values, (n, m) = x.mean(1), x.shape
    half = float(stdtrit(n - 1, 0.975)) * values.std(ddof=1) / math.sqrt(n)
    low, high = _wilson(float(values.mean()), n * m)
    return [min(low, values.mean() - half), max(high, values.mean() + half)]


def _old_gap(a: np.ndarray, b: np.ndarray) -> Sequence[float]:
    """Welch's interval, and Newcombe's of all answers."""
    x, y = a.mean(1), b.mean(1)
    vx, vy = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    half = 0.0
    if vx + vy > 0:
        df = (vx + vy) ** 2 / (vx**2 / (len(x) - 1) + vy**2 / (len(y) - 1))
        half = float(stdtrit(df, 0.975)) * math.sqrt(vx + vy)
    return _with_newcombe(float(x.mean()), float(y.mean()), half, a.size, b.size)


def _old_pairs(a: np.ndarray, b: np.ndarray) -> Sequence[float]:
    """Student's t over pairs of sets, and Newcombe's of all answers of their two students each."""
    gaps = a.mean(1) - b.mean(1)
    half = float(stdtrit(len(gaps) - 1, 0.975)) * gaps.std(ddof=1) / math.sqrt(len(gaps))
    return _with_newcombe(float(a.mean()), float(b.mean()), half, 2 * a.size, 2 * b.size)


def _with_newcombe(x: float, y: float, half: float, k: int, m: int) -> Sequence[float]:
    (lx, ux), (ly, uy), gap = _wilson(x, k), _wilson(y, m), x - y
    return [
        min(gap - half, gap - math.hypot(x - lx, uy - y)), max(gap + half, gap + math.hypot(ux - x, y - ly))
    ]  # fmt: skip


def _wilson(part: float, answers: int) -> tuple[float, float]:
    z = float(ndtri(0.975))
    square = z**2 / answers
    centre = (part + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(part * (1 - part) / answers + square / (4 * answers))
    return centre - half, centre + half


_SAID: dict[str, str] = {
    "score": "interval of a score misses",
    "difference": "interval of a difference misses",
    "equal": "a set called different from itself",
    "wrong_sign": "claims of the wrong sign",
}


def _shown(cell: dict[str, Any], kind: str) -> str:
    rates = cell.get(kind)
    if rates is None:
        return "—"
    before = "—" if cell.get("students") == 1 else f"{100 * rates['before']:.1f}"
    return f"{before} → {100 * rates['after']:.1f}"


def _table(cells: list[dict[str, Any]], kind: str, by: str, name: Callable[[int], str]) -> None:
    across = list(dict.fromkeys(cell[by] for cell in cells))
    print(f"\n{_SAID[kind]}, per cent, before → now")
    print(f"{'samples':>8}" + "".join(f"{name(n):>16}" for n in across))
    for m in dict.fromkeys(cell["samples"] for cell in cells):
        row = [_shown(next(c for c in cells if (c["samples"], c[by]) == (m, n)), kind) for n in across]
        print(f"{m:>8}" + "".join(f"{said:>16}" for said in row))


def _print(case: dict[str, Any]) -> None:
    print(f"\n{case['data']}, {case['ipc']} per class, {case['network']}")
    for kind in _SAID:
        _table(case["cells"], kind, "students", lambda n: f"{n} student" + ("" if n == 1 else "s"))


def _print_sets(cells: list[dict[str, Any]]) -> None:
    print("\nmethods, by sets: random and k-means")
    for kind in ("score", "difference", "equal"):
        _table(cells, kind, "sets", lambda n: f"{n} sets")


if __name__ == "__main__":
    main()
