"""Designs of experiments for a surrogate of a flow: which simulations to run, and which to keep.

    python benchmarks/surrogate.py [--seeds 5] [--sizes 16,32,64]
    python benchmarks/surrogate.py --show

Burgers' equation u_t + u u_x = ν u_xx on a ring, from u = a sin 2πx + b sin(4πx + φ), till t = 0.5. Inputs are
(log ν, a, b, φ), outputs 32 values of u. The solver is exact in flux and explicit in time, on 256 cells (fine) or 32
(coarse: 1/512 of the cells times steps). Errors are of 500 fine simulations that are drawn for each seed: the root of
the mean squared error, as a share of the outputs' deviation.

Two questions, in two tables. **Which to run** with N fine simulations: drawn at random, a Latin hypercube, Sobol's
points, k-centre of 1,000 possible inputs, or the inputs of a set that ``kip`` made of 1,000 *coarse* simulations, and
then simulated finely; and what 1,000 coarse simulations give alone, which is the lazy way. **Which to keep** of 1,000
fine ones: random, k-means, k-centre, ``kip``. Learners: kernel ridge (RBF; widths by cross-validation on the set
alone), a forest, and an MLP of scikit-learn. Nothing is chosen on test simulations.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

import potstill
from potstill.evaluation.statistics import paired_difference, summary

Array = npt.NDArray[np.float64]
POINTS, FINE, COARSE, END = 32, 256, 32, 0.5
POOL, TEST = 1000, 500
LOW, HIGH = np.array([np.log(0.003), 0.3, -0.6, 0.0]), np.array([np.log(0.05), 1.0, 0.6, np.pi])
LEARNERS = ("kernel ridge", "forest", "mlp")


def simulate(inputs: Array, cells: int) -> Array:
    """Return u at 32 points for each row of inputs (n, 4)."""
    nu, a, b, phase = np.exp(inputs[:, :1]), inputs[:, 1:2], inputs[:, 2:3], inputs[:, 3:]
    x = (np.arange(cells) + 0.5) / cells
    u = a * np.sin(2 * np.pi * x) + b * np.sin(4 * np.pi * x + phase)
    width = 1 / cells
    step = 0.4 * min(width / 1.6, width**2 / (2 * np.exp(HIGH[0])))
    for _ in range(int(np.ceil(END / step))):
        right = np.roll(u, -1, 1)
        # Godunov's flux at the right face of each cell, and diffusion
        flux = np.maximum(np.maximum(u, 0) ** 2, np.minimum(right, 0) ** 2) / 2 - nu * (right - u) / width
        u = u - step / width * (flux - np.roll(flux, 1, 1))
    return np.asarray(u.reshape(len(u), POINTS, -1).mean(2))


def scaled(points: Array) -> Array:
    """Return inputs for points of the unit cube."""
    return np.asarray(LOW + points * (HIGH - LOW))


def fit(learner: str, seed: int) -> Any:
    """Return an estimator with standardised inputs."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if learner == "kernel ridge":
        grid = {"gamma": [0.02, 0.05, 0.1, 0.2, 0.5], "alpha": [1e-6, 1e-4, 1e-2]}
        model: Any = GridSearchCV(KernelRidge(kernel="rbf"), grid, cv=KFold(5, shuffle=True, random_state=seed))
    elif learner == "forest":
        model = RandomForestRegressor(random_state=seed)
    else:
        model = MLPRegressor(hidden_layer_sizes=(64, 64), solver="lbfgs", alpha=1e-3, max_iter=2000, random_state=seed)
    pipeline = make_pipeline(StandardScaler(), model)
    return TransformedTargetRegressor(pipeline, transformer=StandardScaler())


def errors(x: Array, y: Array, test: tuple[Array, Array], seed: int) -> dict[str, float]:
    """Return each learner's error on the test simulations."""
    deviation = test[1].std()
    return {
        name: float(np.sqrt(((fit(name, seed).fit(x, y).predict(test[0]) - test[1]) ** 2).mean()) / deviation)
        for name in LEARNERS
    }


def distilled(x: Array, y: Array, method: str, n: int, seed: int) -> tuple[Array, Array]:
    """Return inputs and outputs of a set of ``n`` items, in their own units."""
    splits = potstill.load_data((x.astype(np.float32), y.astype(np.float32)), task="regression", test_fraction=0.05)
    small = potstill.distill(
        splits, method, items=n, seed=seed, codec="float32", progress=None, device="cpu", executor="serial"
    )
    return small.inputs.double().numpy().reshape(n, -1), small.labels.double().numpy().reshape(n, -1)


def designs(n: int, seed: int, pool: Array, fine: Array, coarse: Array) -> Mapping[str, Callable[[], Any]]:
    """Return functions that make a training set for each way."""
    rng = np.random.default_rng([seed, n])

    def run(points: Array) -> tuple[Array, Array]:
        return points, simulate(points, FINE)

    return {
        "run: random": lambda: run(scaled(rng.random((n, 4)))),
        "run: Latin hypercube": lambda: run(scaled(qmc.LatinHypercube(4, seed=seed).random(n))),
        "run: Sobol": lambda: run(scaled(qmc.Sobol(4, seed=seed).random(n))),
        "run: k-center of 1,000 inputs": lambda: run(distilled(pool, coarse[:, :1], "k-center", n, seed)[0]),
        "run: kip of 1,000 coarse": lambda: run(
            np.clip(distilled(pool, coarse, "kip", n, seed)[0], LOW - 0.1 * (HIGH - LOW), HIGH + 0.1 * (HIGH - LOW))
        ),
        "all 1,000 coarse": lambda: (pool, coarse),
        "keep: random": lambda: (pool[:n], fine[:n]),
        "keep: k-means": lambda: distilled(pool, fine, "k-means", n, seed),
        "keep: k-center": lambda: distilled(pool, fine, "k-center", n, seed),
        "keep: kip": lambda: distilled(pool, fine, "kip", n, seed),
        "all 1,000 fine": lambda: (pool, fine),
    }


def measure(seeds: int, sizes: list[int]) -> list[dict[str, Any]]:
    """Return a row for each size and way."""
    found: dict[tuple[int, str], list[dict[str, float]]] = {}
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 99])
        pool, asked = (scaled(rng.random((n, 4))) for n in (POOL, TEST))
        fine, coarse, test = simulate(pool, FINE), simulate(pool, COARSE), (asked, simulate(asked, FINE))
        whole: dict[str, dict[str, float]] = {}
        for n in sizes:
            for way, make in designs(n, seed, pool, fine, coarse).items():
                if way in whole:
                    found.setdefault((n, way), []).append(whole[way])
                    continue
                begun = time.monotonic()
                x, y = make()
                got = errors(x, y, test, seed)
                if way.startswith("all"):
                    whole[way] = got
                found.setdefault((n, way), []).append(got)
                print(
                    seed,
                    n,
                    way,
                    {k: round(v, 3) for k, v in got.items()},
                    f"{time.monotonic() - begun:.1f} s",
                    flush=True,
                )
    rows = []
    for (n, way), of in found.items():
        other = "run: Latin hypercube" if way.startswith("run") else "keep: random"
        rival = found[n, other]
        rows.append({
            "n": n, "way": way, "errors": {k: summary([f[k] for f in of], low=0.0) for k in LEARNERS},
            "over": None if way == other or way.startswith("all") else {
                "other": other,
                **{k: paired_difference([f[k] for f in of], [r[k] for r in rival]) for k in LEARNERS},
            },
        })  # fmt: skip
    return rows


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    print(
        f"errors as a share of the outputs' deviation, n {result['settings']['seeds']}; in brackets: minus the control"
    )
    for row in result["rows"]:
        text = f"{row['n']:>4} {row['way']:32}"
        for k in LEARNERS:
            text += f"  {k} {row['errors'][k]['mean']:.3f}"
            if row["over"] is not None:
                low, high = row["over"][k]["ci95"]
                text += f" ({row['over'][k]['mean']:+.3f} [{low:+.3f}, {high:+.3f}])"
        print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", default="16,32,64")
    parser.add_argument("--out", type=Path, default=Path("results/surrogate.json"))
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if not args.show:
        sizes = [int(n) for n in args.sizes.split(",")]
        rows = measure(args.seeds, sizes)
        result = {"settings": {"seeds": args.seeds, "sizes": sizes}, "machine": machine(), "rows": rows}
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(json.loads(args.out.read_text()))


if __name__ == "__main__":
    main()
