"""What typed columns bring to real rows of a table: accuracy at equal bytes, beside equal steps and floats.

    apt-get install r-cran-mlbench r-cran-kernlab && pip install rdata lifelines
    python benchmarks/table_codecs.py run [--data spam soybean] [--kb 1 4]
    python benchmarks/table_codecs.py show

Random rows in natural proportions, as many as fit, in each codec that the search for real samples tries: ``plain`` are
``exact``, ``float16`` and ``uint``, ``typed`` is `potstill.codecs.columns`. A learner and a budget choose the codec of
each family, and of both together, on a fifth of the training rows that no set is made of; then ``--draws`` fresh draws
of all training rows are scored on the test rows, a third of all. Cells go to ``results/table_codecs/DATA.json``.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from machine import machine
from sklearn.datasets import load_breast_cancer

import potstill
from potstill.core import Source
from potstill.data import holdout
from potstill.evaluation.byte_matched_baselines import baseline_order, max_items_per_class, pack_samples, proportional
from potstill.evaluation.estimators import make_learner
from potstill.evaluation.real_set_space import candidate_codecs

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.docs.stored import table_codecs  # noqa: E402

OUT = ROOT / "results/table_codecs"
LIBRARY = Path("/usr/lib/R/site-library")
LEARNERS = ("forest", "linear-model")


def mlbench(name: str, label: str, package: str = "mlbench") -> Callable[[], tuple[pd.DataFrame, str]]:
    def read() -> tuple[pd.DataFrame, str]:
        import rdata

        frame: pd.DataFrame = rdata.read_rda(LIBRARY / package / "data" / f"{name}.rda")[name]
        words = frame.select_dtypes(exclude=["number"]).columns
        frame[words] = frame[words].astype(str).replace("nan", None)
        return frame, label

    return read


def cancer() -> tuple[pd.DataFrame, str]:
    frame = load_breast_cancer(as_frame=True).frame
    return frame.assign(target=frame["target"].map({0: "malignant", 1: "benign"})), "target"


def trial() -> tuple[pd.DataFrame, str]:
    """Breast cancer patients (GBSG2): did the cancer come back within the study."""
    from lifelines.datasets import load_gbsg2

    frame: pd.DataFrame = load_gbsg2()
    return frame.assign(cens=frame["cens"].map({0: "no", 1: "yes"})).drop(columns=["time"]), "cens"


def affairs() -> tuple[pd.DataFrame, str]:
    import statsmodels.api as sm

    frame: pd.DataFrame = sm.datasets.fair.load_pandas().data
    return frame.assign(affairs=np.where(frame["affairs"] > 0, "yes", "no")), "affairs"


DATA: dict[str, Callable[[], tuple[pd.DataFrame, str]]] = {
    "satellite": mlbench("Satellite", "classes"), "letters": mlbench("LetterRecognition", "lettr"),
    "spam": mlbench("spam", "type", "kernlab"), "vehicle": mlbench("Vehicle", "Class"),
    "soybean": mlbench("Soybean", "Class"), "votes": mlbench("HouseVotes84", "Class"), "dna": mlbench("DNA", "Class"),
    "cancer": cancer, "patients": trial, "affairs": affairs,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "show"])
    parser.add_argument("--data", nargs="+", default=list(DATA))
    parser.add_argument("--kb", type=float, nargs="+", default=[1, 4])
    parser.add_argument("--draws", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    if args.what == "run":
        for name in args.data:
            measure(name, [int(1000 * kb) for kb in args.kb], args.draws)
    print(table_codecs(ROOT))


def measure(name: str, sizes: list[int], draws: int) -> None:
    path = OUT / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"data": name, "cells": {}}
    frame, label = DATA[name]()
    frame = frame.dropna(subset=[label])
    splits = potstill.load_data(frame, label=label, test_fraction=1 / 3, missing="impute")
    assert splits.test is not None
    fit, held = holdout(splits.train, 0.2, 0)
    found |= {
        "columns": frame.shape[1] - 1, "inputs": splits.train.input.num_values, "classes": len(splits.train.classes),
        "train": len(splits.train), "test": len(splits.test), "machine": machine(),
    }  # fmt: skip
    families = candidate_codecs(splits.train.input)
    family_of_both = (families[0], families[1], [*families[0], *families[1]])
    for size in sizes:
        for learner in LEARNERS:
            key = f"{size}|{learner}"
            if key in found["cells"]:
                continue
            scores = {codec: rate(fit, held, codec, size, learner, draws) for family in families for codec in family}
            kept = {codec: row for codec, row in scores.items() if row}
            cell: dict[str, Any] = {"held": kept}
            for side, family in zip(("plain", "typed", "both"), family_of_both, strict=True):
                fitting = [codec for codec in family if codec in kept]
                if fitting:
                    codec = max(fitting, key=lambda c: float(np.mean(kept[c]["accuracy"])))
                    cell[side] = {"codec": codec, **rate(splits.train, splits.test, codec, size, learner, draws)}
            found["cells"][key] = cell
            path.write_text(json.dumps(found, indent=1) + "\n")
            sides = {side: c for side, c in cell.items() if side != "held"}
            print(
                name, key, *(f"{s}: {c['codec']} {form(c['accuracy'])}" for s, c in sides.items()), sep=", ", flush=True
            )


def rate(train: Source, test: Source, codec: str, size: int, learner: str, draws: int) -> dict[str, Any]:
    """Accuracy of a learner on draws in that codec; empty where not one row of each class fits."""
    made, values, items = make_learner(learner, train), list[float](), list[int]()
    guess = 1
    for draw in range(draws):
        order = proportional(train, baseline_order(train, "random", 0, f"draw {draw}", None))
        n = max_items_per_class(train, order, size, codec, guess=guess)
        if n < 1:
            return {}
        guess = n
        packed = pack_samples(train, [order], n, codec)
        x, y = packed.pairs[0]
        values.append(float((made.fit_predict(test, x, y, None, draw) == test.labels).double().mean()))
        items.append(len(y))
    return {"accuracy": values, "items": int(np.mean(items))}


if __name__ == "__main__":
    main()
