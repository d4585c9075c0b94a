"""What sets of Fashion-MNIST give away of 6,000 members, by the privacy audit, and bounds of ε beside claimed ones.

    python benchmarks/trust/privacy_audit.py [--repetitions 3]

Members and as many held-out records are drawn anew from the training split in each repetition, so that they are alike
but for chance. Rates pool the records of all repetitions; the AUC is the mean over repetitions with Student's t. Cells
are files under ``--folder``, from which an interrupted run goes on; the summary goes to
``results/trust/privacy-audit.json``.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from scipy.special import ndtr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine
from stored_cells import Cells

import potstill
from potstill.audit.privacy import audit_epsilon, audit_privacy
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.dataset_file import Distilled
from potstill.evaluation.statistics import summary
from potstill.functional.roc import proportion_interval
from potstill.rng import generator
from potstill.uses.continual import Learner

MEMBERS = 6000
_DM: dict[str, Any] = {"method": "dm", "network": "convnet-w16", "preset": "quick", "batch_real": 64, "steps": 300}
SETS: dict[str, dict[str, Any]] = {
    "dm, real starts": {**_DM, "init_from": "real"},
    "dm, noise starts": {**_DM, "init_from": "noise"},
    "frepo": {"method": "frepo", "network": "convnet-w16", "preset": "quick", "steps": 300},
    "random, 1 bit": {"method": "random", "codec": "uint1"},
    "herding": {"method": "herding"},
    "averages of 60 records": {},
}
"""Sets of 10 items per class."""
LEARNER = Learner(network="convnet-w16", steps=150)
CLAIM, DELTA, CANARIES, RECORDS = 1.0, 1e-5, 500, 600
CLIP = 15.0
"""Norm that pixels of a record are clipped to in `released_means`."""


def drawn(source: TensorSource, repetition: int) -> Splits:
    """Return members, and as many held-out records, as the two parts of data."""
    order = torch.randperm(len(source), generator=generator(repetition, "audit", "records"))
    parts = [source.subset(order[at : at + MEMBERS].sort().values) for at in (0, MEMBERS)]
    return Splits(train=parts[0], test=parts[1])


def gaussian_noise(epsilon: float, delta: float) -> float:
    """Return the least noise of a sum of sensitivity 1 that has (ε, δ): the analytic Gaussian mechanism."""

    def excess(sigma: float) -> float:
        a, b = 1 / (2 * sigma), epsilon * sigma
        return float(ndtr(a - b) - math.exp(epsilon) * ndtr(-a - b)) - delta

    low, high = 0.01, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def released_means(noise: float) -> Callable[[TensorSource, int], Distilled]:
    """Return a function that makes a set of one noisy mean of pixels per class; ``noise`` 0: switched off.

    The sums of clipped pixels have the noise; the numbers of records are public here.
    """

    def make(records: TensorSource, seed: int) -> Distilled:
        x = records.raw(torch.arange(len(records))).flatten(1)
        x = x * (CLIP / x.norm(dim=1, keepdim=True)).clamp(max=1)
        k = len(records.classes)
        sums = torch.zeros(k, x.shape[1]).index_add_(0, records.labels, x)
        sums += noise * CLIP * torch.randn(sums.shape, generator=generator(seed, "release"))
        counts = torch.bincount(records.labels, minlength=k)[:, None]
        means = (sums / counts).reshape(k, *records.input.shape)
        source = replace(records, inputs=means, labels=torch.arange(k), groups=None, places=None, names=())
        return potstill.distill(
            Splits(train=source, test=None), "random", ipc=1, codec="float32", seed=seed, progress=None
        )

    return make


def averages(splits: Splits, seed: int) -> Distilled:
    """Make a set of averages: each of a random tenth of the records of a class, so that every record is in one."""
    records = splits.train
    assert isinstance(records, TensorSource)
    x, means = records.raw(torch.arange(len(records))), []
    for c in range(len(records.classes)):
        rows = (records.labels == c).nonzero().flatten()
        order = torch.randperm(len(rows), generator=generator(seed, "averages", c))
        means += [x[part].mean(0) for part in rows[order].chunk(10)]
    source = replace(
        records, inputs=torch.stack(means), labels=torch.arange(len(means)) // 10, groups=None, places=None, names=()
    )
    return potstill.distill(Splits(train=source, test=None), "random", ipc=10, codec="float32", progress=None)


def selected(records: TensorSource, seed: int) -> Distilled:
    """Make a set of random real samples."""
    return potstill.distill(Splits(train=records, test=None), "random", ipc=20, seed=seed, progress=None)


def set_rows(cells: Cells, source: TensorSource, repetitions: int) -> list[dict[str, Any]]:
    """Return a row for each set: items beside records, and each attack on each group of members."""
    rows = []
    for name, settings in SETS.items():
        found = []
        for r in range(repetitions):

            def measure(settings: dict[str, Any] = settings, r: int = r) -> Any:
                splits = drawn(source, r)
                small = (
                    potstill.distill(splits, ipc=10, seed=r, progress=None, **settings) if settings
                    else averages(splits, r)
                )  # fmt: skip
                audit = audit_privacy(small, splits, learner=LEARNER, students=1, seed=r)
                return {"sentence": audit.sentence, "values": audit.values, "audit_seconds": audit.seconds}

            found.append(cells.get(f"{name} {r}", measure, timed=True))
        rows.append({"set": name, "n": repetitions, "items": items_of(found), "attacks": attacks_of(found),
                     "seconds": summary([f["seconds"] for f in found])})  # fmt: skip
    return rows


def items_of(found: list[Any]) -> dict[str, Any]:
    """Return numbers of items over all repetitions, with intervals."""
    near = [f["values"]["nearest"] for f in found]
    total = sum(v["items"] for v in near)
    counts: dict[str, Any] = {}
    for name, of in (
        ("copies", total), ("stands_out", total), ("nearer_than_held_out", total), ("nearest_is_own_start", None),
    ):  # fmt: skip
        hits = sum(v["exact"] + v["near"] if name == "copies" else v[name] or 0 for v in near)
        n = sum(v["started_from_records"] for v in near) if of is None else of
        counts[name] = {"hits": hits, "n": n, "ci95": list(proportion_interval(hits, n)) if n else None}
    return counts


def attacks_of(found: list[Any]) -> list[dict[str, Any]]:
    """Return AUC over repetitions, and hits at each rate over the records of all of them."""
    rows = []
    by_key: dict[tuple[str, str], list[Any]] = {}
    for one in found:
        for score in one["values"]["membership"]:
            by_key.setdefault((score["attack"], score["group"]), []).append(score)
    for (attack, group), scores in by_key.items():
        rates = {}
        for fpr in scores[0]["tpr"]:
            hits, n = sum(s["tpr"][fpr]["hits"] for s in scores), sum(s["records"] for s in scores)
            rates[fpr] = {"hits": hits, "n": n, "ci95": list(proportion_interval(hits, n))}
        rows.append({
            "attack": attack, "group": group, "records": sum(s["records"] for s in scores),
            "held_out": sum(s["held_out"] for s in scores), "auc": summary([s["auc"] for s in scores]), "tpr": rates,
        })  # fmt: skip
    return rows


def epsilon_rows(cells: Cells, source: TensorSource, repetitions: int) -> list[dict[str, Any]]:
    """Return bounds of ε beside a claim of 1: one that holds, and planted faults."""
    ways = {
        "noisy class means, ε = 1": released_means(gaussian_noise(CLAIM, DELTA)),
        "the same, noise off": released_means(0.0),
        "random real samples": selected,
    }
    rows = []
    for name, make in ways.items():
        found = []
        for r in range(repetitions):

            def measure(make: Any = make, r: int = r) -> Any:
                data = Splits(
                    train=source.subset(torch.arange(RECORDS) + RECORDS * r), test=drawn(source, 100 + r).test
                )
                bound = audit_epsilon(make, data, epsilon=CLAIM, delta=DELTA, canaries=CANARIES, seed=r)
                return bound.to_json()

            found.append(cells.get(f"epsilon {name} {r}", measure, timed=True))
        rows.append({"way": name, "n": repetitions, "claimed": CLAIM, "delta": DELTA, "canaries": CANARIES,
                     "records": RECORDS, "bounds": [f["bound"] for f in found]})  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/privacy-audit"))
    parser.add_argument("--out", type=Path, default=Path("results/trust/privacy-audit.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    source = potstill.load_data("fashion-mnist").train
    assert isinstance(source, TensorSource)
    cells = Cells(args.folder)
    result = {
        "source": source.name, "members": MEMBERS, "held_out": MEMBERS, "sets": SETS,
        "rows": set_rows(cells, source, args.repetitions), "epsilon": epsilon_rows(cells, source, args.repetitions),
        "machine": machine(),
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for row in result["rows"]:
        print(row["set"], json.dumps(row["items"]))
        for attack in row["attacks"]:
            rates = {fpr: f"{100 * v['hits'] / v['n']:.1f} {v['ci95']}" for fpr, v in attack["tpr"].items()}
            print(
                "  ",
                attack["attack"],
                attack["group"],
                attack["records"],
                attack["auc"]["mean"],
                attack["auc"]["ci95"],
                rates,
            )
    for row in result["epsilon"]:
        print(row["way"], row["claimed"], row["bounds"])


if __name__ == "__main__":
    main()
