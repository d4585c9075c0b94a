"""Detectors of poison on clean and poisoned sets, and how much of a trigger is left after distilling.

    python benchmarks/trust/poisoning.py --calibrate [--jobs 2]     # clean sets of digits: thresholds
    python benchmarks/trust/poisoning.py [--jobs 2] [--sets 6]      # sets of mnist-5k and fashion-mnist
    python benchmarks/trust/poisoning.py --only influence           # these detectors; the others' rows stay as stored
    python benchmarks/trust/poisoning.py --show                     # print the stored results

A white square is put on a share of the real pictures, which are relabelled to one class (NaiveAttack); sets are made of
these pictures and of the same ones without it. Trusted data are other pictures, test pictures others again. Thresholds
are the largest scores of the clean sets of digits: nothing is chosen on the sets that are reported. Each set is a file
under ``--folder``, from which an interrupted run goes on; the summary goes to ``results/trust/poisoning.json``, that of
digits to ``results/trust/poisoning-thresholds.json``.
"""

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine

import potstill
from potstill.audit.poisoning import audit_poisoning
from potstill.audit.poisoning.summary import NAMES, THRESHOLDS
from potstill.audit.robustness.attacks import answers, forward_of
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.diagnostics import make_bench
from potstill.diagnostics.bench import Condition, TrainingData
from potstill.evaluation.statistics import paired_difference, summary
from potstill.evaluation.student import train
from potstill.functional.roc import auc_within_strata, proportion_interval
from potstill.rng import generator
from potstill.testing import poison_source, stamp

NETWORK, IPC, SIDE, STUDENTS, STEPS, FULL_STEPS = "mlp-w64", 10, 3, 3, 180, 600
DATA, CALIBRATION = ("mnist-5k", "fashion-mnist"), "digits"
METHODS: dict[str, dict[str, Any]] = {
    "random": {"method": "random"},
    "dm": {"method": "dm", "steps": 300, "network": NETWORK, "codec": "uint8"},
    "frepo": {"method": "frepo", "steps": 150, "network": NETWORK, "codec": "uint8"},
}
ALL = "all data"
RATES = (0.01, 0.03, 0.1)
"""Shares of all real pictures that have the trigger."""
REAL, TRUSTED, TEST = 3000, 1000, 1000
WORKS = 0.5
"""Attack success rate from which a trigger counts as working."""


@dataclass(frozen=True)
class Cell:
    """One set: made of clean pictures (rate 0) or of poisoned ones."""

    data: str
    method: str
    number: int
    rate: float
    target: int

    @property
    def file(self) -> str:
        return f"{self.data}-{self.method.replace(' ', '-')}-{self.number}-{self.rate:g}.json"


def cells(data: tuple[str, ...], methods: tuple[str, ...], sets: int) -> list[Cell]:
    """Return poisoned sets, of one rate after the other, and a clean one of the same pictures beside each."""
    return [
        Cell(name, method, number, rate, (3 * number + 1) % 10)
        for number in range(sets)
        for name in data
        for method in methods
        for rate in (0.0, RATES[number % len(RATES)])
    ]


def split(name: str, number: int) -> tuple[TensorSource, TensorSource, TensorSource]:
    """Return real pictures, trusted ones, and test pictures, which have nothing in common."""
    splits = potstill.load_data(name)
    train, test = splits.train, splits.test
    assert isinstance(train, TensorSource)
    assert isinstance(test, TensorSource)
    order = torch.randperm(len(train), generator=generator(number, "poisoning", "pictures"))
    tested = torch.randperm(len(test), generator=generator(number, "poisoning", "test"))[:TEST]
    real = min(REAL, 3 * len(train) // 4)
    return train.subset(order[:real]), train.subset(order[real : real + TRUSTED]), test.subset(tested)


def trigger_left(cell: Cell, small: Any, splits: Splits) -> dict[str, float]:
    """Return accuracy on clean test pictures, and the share of stamped ones of other classes that become the target."""
    bench = make_bench(
        small, splits, network=NETWORK, eval_split="test", students=STUDENTS, steps=STEPS, lr=0.03, seed=cell.number,
        most=TEST,
    )  # fmt: skip
    condition = bench.distilled_condition()
    if cell.method == ALL:
        every = bench.real.fetch(torch.arange(len(bench.real)))
        whole = TrainingData(x=every.x, y=every.y)
        bench = replace(bench, protocol=bench.protocol.change(steps=(FULL_STEPS,)))
        condition = Condition(name=ALL, items=len(bench.real), data_for=lambda _: whole)
    source, labels = bench.eval_source, bench.eval_source.labels
    x, others = source.raw(torch.arange(len(source))), labels != cell.target
    accuracy, success = [], []
    for n in range(STUDENTS):
        forward = forward_of(train(bench.job(condition.data_for(n), n)), source.normalization)
        accuracy.append(float((answers(forward, x).argmax(1) == labels).double().mean()))
        stamped = answers(forward, stamp(x[others], SIDE)).argmax(1)
        success.append(float((stamped == cell.target).double().mean()))
    return {"accuracy": sum(accuracy) / STUDENTS, "success": sum(success) / STUDENTS}


def measure(cell: Cell, folder: Path, only: tuple[str, ...]) -> dict[str, Any]:
    """Return one set's scores and what its students do, from its file or measured anew."""
    path = folder / cell.file
    if path.exists():
        return dict(json.loads(path.read_text()))
    torch.set_num_threads(1)
    started = time.process_time()
    real, trusted, test = split(cell.data, cell.number)
    source = real if cell.rate == 0 else poison_source(
        real, rate=cell.rate, target=cell.target, side=SIDE, seed=cell.number
    )  # fmt: skip
    splits = Splits(train=source, test=test)
    options = METHODS["random" if cell.method == ALL else cell.method]
    small = potstill.distill(
        splits, ipc=IPC, seed=cell.number, progress=None, executor="serial", device="cpu", **options
    )  # fmt: skip
    made = time.process_time()
    found: dict[str, Any] = {**vars(cell), **trigger_left(cell, small, splits)}
    if cell.method != ALL:
        audit = audit_poisoning(
            small, Splits(train=trusted, test=None), network=NETWORK, students=STUDENTS, steps=STEPS,
            trusted_steps=FULL_STEPS, seed=cell.number, device="cpu", progress=None,
            **({"inversion_steps": 1} if only and "inversion" not in only else {}),
        )  # fmt: skip
        detectors = {name: one for name, one in audit.values["detectors"].items() if not only or name in only}
        found["scores"] = {name: one["score"] for name, one in detectors.items()}
        found["right class"] = {name: one["class"] == small.classes[cell.target] for name, one in detectors.items()}
        if "clustering" in detectors:
            found["largest silhouette"] = max(detectors["clustering"]["by_class"])
        if small.is_selection:
            found["stamped items"] = int((source.labels != real.labels)[small.index].sum())
    found |= {"seconds making": round(made - started, 1), "seconds": round(time.process_time() - started, 1)}
    path.write_text(json.dumps(found) + "\n")
    return found


def measured(work: list[Cell], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the results of all cells, measured in processes."""
    args.folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(args.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = []
        for done, one in enumerate(pool.map(measure, work, [args.folder] * len(work), [args.only] * len(work)), 1):
            found.append(one)
            shown = {name: round(score, 2) for name, score in one.get("scores", {}).items()}
            print(f"{done}/{len(work)}", one["data"], one["method"], one["rate"], round(one["success"], 2), shown,
                  one["seconds"], "s", flush=True)  # fmt: skip
    return found


def rate_of(hits: int, n: int) -> dict[str, Any]:
    """Return a share with its Clopper-Pearson interval."""
    return {"hits": hits, "n": n, "rate": hits / n if n else None, "ci95": list(proportion_interval(hits, n))}


def area(poisoned: list[dict[str, Any]], clean: list[dict[str, Any]], name: str, seed: int) -> dict[str, Any] | None:
    """Return the AUC of a detector within each data set and method, with a bootstrap interval over sets."""
    if not poisoned or not clean:
        return None
    strata = sorted({(one["data"], one["method"]) for one in (*poisoned, *clean)})
    parts = []
    for group in (poisoned, clean):
        parts.append(torch.tensor([-one["scores"][name] for one in group], dtype=torch.float64))
        parts.append(torch.tensor([strata.index((one["data"], one["method"])) for one in group]))
    found = auc_within_strata(
        parts[0], parts[2], parts[1], parts[3], generator(seed, "poisoning", "bootstrap", name)
    )  # fmt: skip
    return {"auc": found.value, "ci95": list(found.interval()), "poisoned": found.positives, "clean": found.negatives}


def detector_rows(found: list[dict[str, Any]], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return AUC, hits and false alarms of detectors."""
    sets = [one for one in found if one["method"] != ALL]
    clean, poisoned = ([one for one in sets if (one["rate"] == 0) == (kind == "clean")] for kind in ("clean", "poison"))
    working = [one for one in poisoned if one["success"] >= WORKS]
    detectors = []
    for name in names:
        above = [[one["scores"][name] > THRESHOLDS[name] for one in group] for group in (clean, poisoned, working)]
        detectors.append({
            "detector": name, "threshold": THRESHOLDS[name],
            "auc": area(poisoned, clean, name, 0), "auc working": area(working, clean, name, 1),
            "by method": {
                method: area(
                    [one for one in poisoned if one["method"] == method],
                    [one for one in clean if one["method"] == method], name, 2,
                )
                for method in METHODS
            },
            "false alarms": rate_of(sum(above[0]), len(clean)), "found": rate_of(sum(above[1]), len(poisoned)),
            "found working": rate_of(sum(above[2]), len(working)) if working else None,
            "right class": rate_of(sum(one["right class"][name] for one, hit in zip(poisoned, above[1], strict=True)
                                       if hit), max(1, sum(above[1]))),
        })  # fmt: skip
    return detectors


def summarize(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the tables."""
    sets = [one for one in found if one["method"] != ALL]
    clean, poisoned = ([one for one in sets if (one["rate"] == 0) == (kind == "clean")] for kind in ("clean", "poison"))
    working = [one for one in poisoned if one["success"] >= WORKS]
    flagged = [
        [any(one["scores"][name] > THRESHOLDS[name] for name in NAMES) for one in group]
        for group in (clean, poisoned, working)
    ]  # fmt: skip
    any_of = {
        key: rate_of(sum(hits), len(hits)) if hits else None
        for key, hits in zip(("false alarms", "found", "found working"), flagged, strict=True)
    }  # fmt: skip
    left, kept, clean_rows = [], [], {}
    rows = (ALL, *METHODS)
    for rate in RATES:
        numbers = {(one["data"], one["number"]) for one in found if one["rate"] == rate}
        for method in rows:
            pairs = sorted(
                (one["data"], one["number"], one["rate"], one["success"], one["accuracy"])
                for one in found
                if one["method"] == method and (one["data"], one["number"]) in numbers
            )  # fmt: skip
            clean_of, poisoned_of = ([p for p in pairs if (p[2] == 0) == bare] for bare in (True, False))
            left.append({
                "row": method, "rate": rate, "n": len(poisoned_of),
                "success": bounded([p[3] for p in poisoned_of]), "success clean": bounded([p[3] for p in clean_of]),
                "accuracy": bounded([p[4] for p in poisoned_of]), "accuracy clean": bounded([p[4] for p in clean_of]),
            })  # fmt: skip
            kept.append((method, rate, [p[3] for p in poisoned_of]))
    for method in rows:
        of = [one for one in found if one["method"] == method and one["rate"] == 0]
        clean_rows[method] = {key: bounded([one[key] for one in of]) for key in ("success", "accuracy")}
    by_row = {(method, rate): values for method, rate, values in kept}
    pairs = [
        {
            "row": method, "other": other,
            **paired_difference(*([v for rate in RATES for v in by_row[name, rate]] for name in (method, other))),
        }
        for method, other in (("dm", ALL), ("frepo", ALL), ("random", ALL), ("dm", "random"), ("frepo", "random"))
    ]  # fmt: skip
    bare = [one for one in poisoned if one.get("stamped items") == 0]
    return {
        "sets": {"clean": len(clean), "poisoned": len(poisoned), "working": len(working), "without a stamp": len(bare)},
        "detectors": detector_rows(found, tuple(NAMES)),
        "any": {**any_of, "detectors": len(NAMES)}, "left": left, "clean": clean_rows,
        "pairs": pairs,
        "paper": {
            "silhouette above 0.15": rate_of(sum(one["largest silhouette"] > 0.15 for one in clean), len(clean)),
            "index above 2": rate_of(sum(one["scores"]["inversion"] > 2 for one in clean), len(clean)),
            "index above 2, poisoned": rate_of(sum(one["scores"]["inversion"] > 2 for one in poisoned), len(poisoned)),
        },
    }  # fmt: skip


def bounded(values: list[float]) -> dict[str, Any]:
    """Return mean and interval of values in [0, 1]."""
    found = summary(values)
    ends = found["ci95"]
    return found | {"ci95": None if ends is None else [max(0.0, ends[0]), min(1.0, ends[1])]}


def show(held: dict[str, Any]) -> None:
    """Print the tables."""
    print(held["sets"], f"{held['seconds'] / 60:.0f} core-minutes")
    for one in held["detectors"]:
        print(one["detector"], {key: one[key] for key in ("auc", "auc working", "false alarms", "found")})
        print("   ", {method: of and round(of["auc"], 2) for method, of in one["by method"].items()},
              "right class", one["right class"])  # fmt: skip
    print("any", held["any"], "papers' thresholds:", held["paper"])
    for one in held["left"]:
        print(f"{one['rate']:.0%} {one['row']:<9}",
              {key: (round(one[key]["mean"], 3), one[key]["ci95"])
               for key in ("success", "success clean", "accuracy", "accuracy clean")})  # fmt: skip
    for one in held["pairs"]:
        print("attack success,", one)


def calibrate(args: argparse.Namespace) -> None:
    """Store the scores of clean sets of digits."""
    work = [Cell(CALIBRATION, method, number, 0.0, 0) for method in METHODS for number in range(args.clean)]
    found = measured(work, args)
    names = args.only or tuple(NAMES)
    largest = {name: max(one["scores"][name] for one in found) for name in names}
    scores = {name: sorted(one["scores"][name] for one in found) for name in names}
    held = json.loads(args.thresholds.read_text()) if args.only else {}
    held = {
        "data": CALIBRATION, "n": len(found), "methods": list(METHODS), "ipc": IPC, "network": NETWORK,
        "machine": machine(), "largest": held.get("largest", {}) | largest,
        "above 2": held["above 2"] if args.only else sum(one["scores"]["inversion"] > 2 for one in found),
        "scores": held.get("scores", {}) | scores,
    }  # fmt: skip
    args.thresholds.parent.mkdir(parents=True, exist_ok=True)
    args.thresholds.write_text(json.dumps(held, indent=1) + "\n")
    print("largest scores of", len(found), "clean sets of", CALIBRATION, largest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibrate", action="store_true", help="measure clean sets of digits instead")
    parser.add_argument(
        "--only", type=lambda text: tuple(text.split(",")), default=(), metavar="NAME,...",
        help="measure these detectors alone; rows of others stay as stored",
    )  # fmt: skip
    parser.add_argument("--show", action="store_true", help="print the stored results")
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--sets", type=int, default=6, help="poisoned sets of each data set and method")
    parser.add_argument("--clean", type=int, default=12, help="clean sets of digits by each method")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--folder", type=Path, default=Path("runs/poisoning"))
    parser.add_argument("--out", type=Path, default=Path("results/trust/poisoning.json"))
    parser.add_argument("--thresholds", type=Path, default=Path("results/trust/poisoning-thresholds.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    if args.calibrate:
        calibrate(args)
        return
    if args.only:
        held = json.loads(args.out.read_text())
        found = measured(cells(tuple(args.data.split(",")), tuple(METHODS), args.sets), args)
        held["detectors"] = [one for one in held["detectors"] if one["detector"] not in args.only]
        held["detectors"] += detector_rows(found, args.only)
        args.out.write_text(json.dumps(held, indent=1) + "\n")
        show(held)
        return
    found = measured(cells(tuple(args.data.split(",")), (*METHODS, ALL), args.sets), args)
    held = {
        "settings": {
            "data": args.data.split(","), "sets": args.sets, "ipc": IPC, "network": NETWORK, "side": SIDE,
            "students": STUDENTS, "steps": STEPS, "full_steps": FULL_STEPS, "real": REAL, "trusted": TRUSTED,
            "test": TEST, "rates": RATES, "works": WORKS, "methods": METHODS,
        },
        "machine": machine(), "seconds": round(sum(one["seconds"] for one in found)), **summarize(found),
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(held, indent=1) + "\n")
    show(held)


if __name__ == "__main__":
    main()
