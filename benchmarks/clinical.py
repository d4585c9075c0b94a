"""Small sets of clinical tables: how many of the ill are found at a specificity of 90 %, by three learners.

    pip install lifelines
    python benchmarks/clinical.py [--seeds 5] [--folder runs/clinical]
    python benchmarks/clinical.py --show

Three tables: scikit-learn's breast cancer (malignant or benign), and two of lifelines with an outcome in time made a
class: ACTG175 (an event within two years), GBSG2 (recurrence or death within three). Patients who left earlier without
an event are left out, and so is what was measured after the start. Each of ``--seeds`` draws its own test part (30 %),
held-out part (20 % of the rest) and sets. Thresholds are those of held-out negatives, which no set has seen; nothing
is chosen on test patients. Sets have natural proportions and 4 bits a value but for ``frame.sample``, and at most
900 bytes. ``all data`` is every training patient.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine
from stored_cells import Cells
from table_ranks import filled

import potstill
from potstill.audit.screening import rates
from potstill.audit.screening.threshold import Scores
from potstill.core import Splits
from potstill.evaluation.learners import training_rows
from potstill.evaluation.statistics import paired_difference, summary

TABLES = {"breast cancer": "malignant", "actg175": "event", "gbsg2": "event"}
"""Tables, and the class that is to be found."""
SPECIFICITY, BYTES = 0.9, 900
STORE: dict[str, Any] = {"codec": "columns:bits=4"}
WAYS: dict[str, dict[str, Any]] = {
    "frame.sample": {"method": "random"},
    "random": {"method": "random", **STORE},
    "random, equal classes": {"method": "random", "balance": "equal", **STORE},
    "herding": {"method": "herding", **STORE},
    "k-means": {"method": "k-means", **STORE},
    "dm": {"method": "dm", **STORE},
    "kip": {"method": "kip", "labels": "hard", **STORE},
}
MADE = ("dm", "kip")
LEARNERS = ("logistic regression", "forest", "boosting")
METRICS = ("auroc", "sensitivity", "specificity")


def frame(name: str) -> tuple[pd.DataFrame, str]:
    """Return a table and its column of classes."""
    if name == "breast cancer":
        from sklearn.datasets import load_breast_cancer

        found = load_breast_cancer(as_frame=True)
        return found.data.assign(outcome=found.target.map({0: "malignant", 1: "benign"})), "outcome"
    import lifelines

    files = Path(lifelines.__file__).parent / "datasets"
    if name == "actg175":
        table, time, event, within = pd.read_csv(files / "ACTG175.csv"), "days", "cens", 730
        later = ["Unnamed: 0", "pidnum", "offtrt", "cd420", "cd496", "r", "cd820"]
    else:
        table, time, event, within, later = pd.read_csv(files / "gbsg2.csv"), "time", "cens", 1096, []
    happened = (table[event] == 1) & (table[time] <= within)
    known = happened | (table[time] > within)
    table = table.assign(outcome=happened.map({True: "event", False: "none"}))[known]
    return table.drop(columns=[*later, time, event]).reset_index(drop=True), "outcome"


def load(name: str, seed: int) -> tuple[Splits, Any]:
    """Return training and test patients, and the held-out ones."""
    table, label = frame(name)
    splits = potstill.load_data(table, label=label, missing="impute", split_seed=seed, test_fraction=0.3)
    rest, held_out = potstill.holdout(splits.train, 0.2, seed)
    return Splits(train=rest, test=splits.test), held_out


def model(learner: str, seed: int) -> Any:
    """Return scikit-learn's estimator."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    if learner == "logistic regression":
        return LogisticRegression(max_iter=2000)
    if learner == "forest":
        return RandomForestClassifier(random_state=seed)
    return HistGradientBoostingClassifier(min_samples_leaf=5, random_state=seed)


def inputs(source: Any) -> np.ndarray[Any, Any]:
    """Return a source's rows in model space (n, d)."""
    x = source.fetch(torch.arange(len(source))).x
    return np.asarray(x.flatten(1).double().numpy())


def measure(x: Any, y: Any, weights: Any, splits: Splits, held_out: Any, positive: int, seed: int) -> dict[str, Any]:
    """Return the rates of each learner of some rows."""
    test, negatives = inputs(splits.test), inputs(held_out)[held_out.labels.numpy() != positive]
    found = {}
    for learner in LEARNERS:
        fitted = model(learner, seed).fit(x, y, sample_weight=weights)
        if positive in fitted.classes_:
            at = list(fitted.classes_).index(positive)
            shares = [torch.from_numpy(fitted.predict_proba(rows)[:, at]) for rows in (test, negatives)]
        else:
            shares = [torch.zeros(len(rows), dtype=torch.float64) for rows in (test, negatives)]
        got = rates(Scores(*shares), splits.test.labels == positive, SPECIFICITY)  # type: ignore[union-attr]
        found[learner] = {metric: getattr(got, metric) for metric in METRICS}
    return found


def cell(name: str, way: str, seed: int, cells: Cells) -> Any:
    """Return one set of a table, measured."""

    def measured() -> Any:
        splits, held_out = load(name, seed)
        positive = splits.train.classes.index(TABLES[name])
        if way == "all data":
            every, labels = inputs(splits.train), splits.train.labels.numpy()
            scores = measure(every, labels, None, splits, held_out, positive, seed)
            return {"bytes": None, "items": len(every), "scores": scores}
        options: dict[str, Any] = {"seed": seed, "progress": None, "device": "cpu", "executor": "serial", **WAYS[way]}
        small = potstill.distill(splits, bytes=BYTES, **options)
        if WAYS[way]["method"] not in MADE:
            small = filled(splits, small, BYTES, options)
        x, y, weights = training_rows(small.model_space(), small.labels, small.sample_weight, True)  # type: ignore[arg-type]
        return {
            "bytes": small.metadata["bytes"]["total"], "items": len(small),
            "scores": measure(x, y, weights, splits, held_out, positive, seed),
        }  # fmt: skip

    return cells.get(f"{name} {way} {seed}", measured, timed=True)


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    for table in result["tables"]:
        print(f"\n{table['table']}: {table['patients']:,} patients, {table['positive']:.0%} {TABLES[table['table']]}, "
              f"{table['inputs']} columns; n {result['settings']['seeds']}")  # fmt: skip
        print(f"{'':24}{'rows':>6}{'bytes':>7}" + "".join(f"{n:>34}" for n in LEARNERS))
        print(f"{'':37}" + "      AUROC   found at 90 % (reached)" * len(LEARNERS))
        for row in table["rows"]:
            text = f"{row['way']:24}{row['items']:6.0f}{row['bytes'] or 0:7,.0f}"
            for learner in LEARNERS:
                got = {m: row["scores"][learner][m] for m in METRICS}
                text += (f"{100 * got['auroc']['mean']:11.1f}{100 * got['sensitivity']['mean']:9.1f}"
                         f" ({100 * got['specificity']['mean']:.0f})       ")  # fmt: skip
            print(text)
        for pair in table["pairs"]:
            low, high = pair["difference"]["ci95"]
            print(f"  sensitivity, mean of learners: {pair['way']} minus {pair['other']} "
                  f"{100 * pair['difference']['mean']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")  # fmt: skip


def summarize(name: str, seeds: int, cells: Cells) -> dict[str, Any]:
    """Return the rows of a table, and differences to random rows of natural and of equal proportions."""
    rows, means = [], {}
    for way in (*WAYS, "all data"):
        found = [cell(name, way, seed, cells) for seed in range(seeds)]
        means[way] = [float(np.mean([f["scores"][n]["sensitivity"] for n in LEARNERS])) for f in found]
        rows.append({
            "way": way, "items": float(np.mean([f["items"] for f in found])),
            "bytes": None if way == "all data" else float(np.mean([f["bytes"] for f in found])),
            "scores": {
                n: {m: summary([f["scores"][n][m] for f in found]) for m in METRICS} for n in LEARNERS
            },
        })  # fmt: skip
    pairs = [
        {"way": way, "other": other, "difference": paired_difference(means[way], means[other])}
        for other in ("random", "random, equal classes") for way in WAYS if way != other
    ]  # fmt: skip
    table, label = frame(name)
    return {
        "table": name, "patients": len(table), "inputs": len(table.columns) - 1,
        "positive": float((table[label] == TABLES[name]).mean()), "rows": rows, "pairs": pairs,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/clinical"))
    parser.add_argument("--out", type=Path, default=Path("results/clinical.json"))
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if not args.show:
        torch.set_num_threads(1)
        cells = Cells(args.folder)
        result = {
            "settings": {"seeds": args.seeds, "specificity": SPECIFICITY}, "machine": machine(),
            "tables": [summarize(name, args.seeds, cells) for name in TABLES],
        }  # fmt: skip
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(json.loads(args.out.read_text()))


if __name__ == "__main__":
    main()
