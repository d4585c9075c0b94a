"""One picture per class for a linear classifier of a frozen backbone: sets made for it, beside real pictures.

    pip install scikit-image 'potstill[backbones]'
    python benchmarks/frozen.py [--sets 3] [--students 3]

The data are `photo-patches` (benchmarks/photo_patches.py): colour crops of ten photographs, 100 of each to train with
and 50 to test. Every set is measured by the protocol ``potstill`` without augmentation, so that pictures pass the
backbone once, and its rate and length are chosen on a validation part of the training data, as the protocol says.
``lgm`` has its quick settings, which were chosen after one set was seen; the others were not searched.
``herding`` takes the real picture of each class whose features lie nearest to their mean. Results go to
results/frozen.json after every cell; a cell that is there is not made again.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.core import Splits
from potstill.dataset_file import write_atomic
from potstill.nn import factory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.photo_patches import photo_patches  # noqa: E402

NETWORK = "efficientnet-lite0-r32"
TRAIN, TEST = 100, 50
CLOSED: dict[str, Any] = {
    "network": NETWORK, "effort": "quick", "labels": "hard", "iterations": 60, "batch_real": 128,
}  # fmt: skip
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "herding": ("herding", {"features": "untrained", "network": NETWORK}),
    "lgm": ("lgm", {"network": NETWORK, "effort": "quick"}),
    "frepo": ("frepo", {**CLOSED, "pool_size": 1}),
    "rfad": ("rfad", {**CLOSED, "num_networks": 1}),
}
"""Of each row: the method, and its settings."""


def whole(splits: Splits) -> float:
    """Accuracy of scikit-learn's logistic regression on the features of all training pictures."""
    from sklearn.linear_model import LogisticRegression

    train, test = splits.train, splits.test
    assert test is not None
    net = factory(NETWORK, train.input, len(train.classes), normalization=train.normalization)(0)
    with torch.no_grad():
        sides = [net.embed(s.fetch(torch.arange(len(s))).x).numpy() for s in (train, test)]
    model = LogisticRegression(max_iter=2000).fit(sides[0], train.labels.numpy())
    return float(model.score(sides[1], test.labels.numpy()))


def cell(splits: Splits, row: str, seed: int, students: int) -> dict[str, Any]:
    """One set, made and measured."""
    method, settings = METHODS[row]
    begun = time.process_time()
    small = potstill.distill(splits, method, ipc=1, seed=seed, progress=None, **settings)
    made = time.process_time() - begun
    card = potstill.evaluate(
        small, splits, networks=NETWORK, seeds=students, seed=seed, augment="none", baselines=False, full=False,
        robust_scores=False, progress=None,
    ).to_dict()  # fmt: skip
    return {"score": card["score"], "seconds": round(made, 1), "method": small.metadata["method"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "frozen.json")
    args = parser.parse_args()
    splits = photo_patches(TRAIN, TEST)
    held = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {"cells": {}}
    held |= {"machine": machine(), "network": NETWORK, "pictures": [TRAIN, TEST]}
    held.setdefault("whole", whole(splits))
    for row in args.methods.split(","):
        for seed in range(args.sets):
            if (key := f"{row} {seed}") in held["cells"]:
                continue
            held["cells"][key] = cell(splits, row, seed, args.students)
            print(key, held["cells"][key]["score"]["mean"], held["cells"][key]["seconds"], flush=True)
            write_atomic(args.out, (json.dumps(held, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
