"""Natural or equal proportions of classes in a small table: what the default of ``--items`` and ``--bytes`` stands on.

    pip download --no-deps plotnine                                   # the wheel holds diamonds.csv, 53,940 real rows
    python benchmarks/balance.py --wheel plotnine-*.whl --out results/balance.json

Of each data set some rows are kept by `random`, `k-means` and `dm`, each with natural and with equal proportions, and
by the frame's own ``sample``; a random forest and a small network are fitted on them and tested on all other rows that
were set aside. Several draws of rows and splits; the table has means and standard deviations over these.
"""

import argparse
import json
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import machine
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from potstill.integrations.sklearn import Distiller

METHODS = ("random", "k-means", "dm")
ROWS, MOST = 100, 6000
"""Rows that are kept, and rows of a data set at most, of which 30 % are tested on."""


def diamonds(wheel: Path) -> tuple[pd.DataFrame, pd.Series]:
    """Cut of a diamond (five classes, 3 to 40 %) from its price, size, colour and clarity."""
    with zipfile.ZipFile(wheel) as archive, archive.open("plotnine/data/diamonds.csv") as file:
        frame = pd.read_csv(file)
    frame = frame.sample(MOST, random_state=0).reset_index(drop=True)
    return pd.get_dummies(frame.drop(columns="cut"), dtype=float), frame["cut"]


def rare_digits() -> tuple[pd.DataFrame, pd.Series]:
    """Real digits of which the class c is thinned out to 0.7^c of its samples."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    kept = rng.random(len(y)) < 0.7**y
    return pd.DataFrame(x[kept]).add_prefix("p"), pd.Series(y[kept])


def tumours() -> tuple[pd.DataFrame, pd.Series]:
    """Breast cancer: 63 and 37 %."""
    x, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return x, y


def kept_by(method: str, balance: str, x: pd.DataFrame, y: pd.Series, rows: int, seed: int) -> tuple[Any, Any]:
    """Rows by a method; of ``sample`` the frame's own."""
    if method == "sample":
        index = x.sample(rows, random_state=seed).index
        return x.loc[index], y.loc[index]
    scale = StandardScaler().fit(x)
    z = pd.DataFrame(scale.transform(x), columns=x.columns)
    small, labels = Distiller(method, items=rows, balance=balance, random_state=seed).fit_resample(
        z, y.reset_index(drop=True)
    )
    return pd.DataFrame(scale.inverse_transform(small), columns=x.columns), labels


def accuracies(x: Any, y: Any, test: tuple[Any, Any], seed: int) -> dict[str, float]:
    """Of a forest and of a network, on the test rows."""
    forest = RandomForestClassifier(200, random_state=seed).fit(x, y)
    network = make_pipeline(StandardScaler(), MLPClassifier((64,), max_iter=300, random_state=seed)).fit(x, y)
    return {"forest": float(forest.score(*test)), "mlp": float(network.score(*test))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    begun, rows = time.monotonic(), []
    for name, (x, y) in {"diamonds": diamonds(asked.wheel), "rare digits": rare_digits(), "tumours": tumours()}.items():
        sides = [("sample", "natural"), *((m, b) for m in METHODS for b in ("natural", "equal"))]
        for method, balance in sides:
            found = []
            for seed in range(asked.draws):
                x_in, x_out, y_in, y_out = train_test_split(x, y, test_size=0.3, random_state=seed, stratify=y)
                try:
                    small, labels = kept_by(method, balance, x_in, y_in, ROWS, seed)
                except ValueError as error:
                    found = []
                    print(f"{name} {method} {balance}: {error}")
                    break
                found.append(accuracies(small, labels, (x_out, y_out), seed))
            if found:
                means = {k: [float(f([r[k] for r in found])) for f in (np.mean, np.std)] for k in ("forest", "mlp")}
                rows.append({"data": name, "method": method, "balance": balance, "draws": len(found), **means})
                shown = "  ".join(f"{k} {100 * m:.1f} ± {100 * s:.1f}" for k, (m, s) in means.items())
                print(f"{name:<12}{method:<9}{balance:<8}{shown}", flush=True)
    content = {"kept": ROWS, "rows": rows, "machine": machine(), "seconds": round(time.monotonic() - begun)}
    asked.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
