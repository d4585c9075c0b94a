"""Robustness of small sets: accuracy under attack, beside accuracy without one, of six methods and random real samples.

    pip install --no-deps torchattacks
    python benchmarks/trust/robustness.py [--data mnist-5k] [--seeds 3] [--students 3] [--rows NAME ...]

Every row of every seed is a file under ``--folder``, from which an interrupted run goes on; the summary goes to
``results/trust/robustness.json``. With ``--rows`` only these are measured, and join the rows that are stored there.
Regularizers have the weight of their paper and 100 times as much, adversaries the defaults of `potstill`. Students of
one seed are tested on the same test pictures, AutoAttack on some of them, where its accuracy stands beside that of our
own attacks. Nothing is chosen on the test part.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine

import potstill
from potstill.audit.robustness.attacks import AttackSettings, answers, attack_student, forward_of
from potstill.audit.robustness.autoattack import auto_attack
from potstill.core import Splits
from potstill.diagnostics import make_bench
from potstill.diagnostics.bench import Condition, TrainingData
from potstill.evaluation.statistics import paired_difference, summary
from potstill.evaluation.student import train
from potstill.rng import generator

NETWORK = "mlp-w64"
ROWS: dict[str, dict[str, Any]] = {
    "random real samples": {"method": "random"},
    "all data": {"method": "random"},  # only its students differ
    "dm": {"method": "dm", "steps": 300},
    "dc": {"method": "dc", "steps": 100},
    "idm": {"method": "idm", "steps": 300},
    "dsa": {"method": "dsa", "steps": 100},
    "frepo": {"method": "frepo", "steps": 300},
    "mtt": {"method": "mtt", "steps": 100},
    "dsa, curvature": {"method": "dsa", "steps": 100, "regularizer": "curvature"},
    "dsa, curvature × 100": {"method": "dsa", "steps": 100, "regularizer": "curvature:weight=100"},
    "dm, curvature": {"method": "dm", "steps": 300, "regularizer": "curvature"},
    "dm, curvature × 100": {"method": "dm", "steps": 300, "regularizer": "curvature:weight=100"},
    "random real samples, adversarial": {"method": "random", "adversary": "pgd"},
    "dsa, adversarial": {"method": "dsa", "steps": 100, "adversary": "pgd"},
}
"""Rows: how the set is made, 10 items per class, and how its students are trained."""
OTHERS = {
    "dsa, curvature": ("dsa",), "dsa, curvature × 100": ("dsa",), "dm, curvature": ("dm",),
    "dm, curvature × 100": ("dm",),
    "dsa, adversarial": ("dsa", "random real samples, adversarial"),
}  # fmt: skip
"""Rows that a row is compared with, beside random real samples."""
EPS = (2 / 255, 8 / 255)


def students_of(name: str, splits: Splits, seed: int, args: argparse.Namespace) -> tuple[Any, list[Any], int | None]:
    """Return the bench, the students of a row, and the bytes of its set."""
    options: dict[str, Any] = dict(ROWS[name])
    adversary = options.pop("adversary", "none")
    if options["method"] != "random":
        options |= {"network": NETWORK, "codec": "uint8"}
    small = potstill.distill(
        splits, ipc=10, seed=seed, progress=None, executor="serial", device="cpu", **options
    )  # fmt: skip
    bench = make_bench(
        small, splits, network=NETWORK, eval_split="test", students=args.students, steps=args.steps, lr=0.03, seed=seed,
        most=args.pictures, adversary=adversary,
    )  # fmt: skip
    condition, total = bench.distilled_condition(), small.metadata["bytes"]["total"]
    if name == "all data":
        every = bench.real.fetch(torch.arange(len(bench.real)))
        whole = TrainingData(x=every.x, y=every.y)
        bench = replace(bench, protocol=bench.protocol.change(steps=(args.full_steps,)))
        condition, total = Condition(name=name, items=len(bench.real), data_for=lambda _: whole), None
    return bench, [train(bench.job(condition.data_for(n), n)) for n in range(args.students)], total


def cell(path: Path, name: str, seed: int, splits: Splits, args: argparse.Namespace) -> dict[str, Any]:
    """Return one row of one seed, from its file or measured anew: means over students."""
    if path.exists():
        return dict(json.loads(path.read_text()))
    started = time.process_time()
    bench, networks, total = students_of(name, splits, seed, args)
    made = time.process_time()
    x, y = bench.eval_source.raw(torch.arange(len(bench.eval_source))), bench.eval_source.labels
    few = torch.randperm(len(x), generator=generator(seed, "robustness", "few"))[: args.few]  # they are sorted by class
    found: dict[str, list[float]] = {}

    def add(key: str, right: torch.Tensor) -> None:
        found.setdefault(key, []).append(float(right.double().mean()))

    for n, network in enumerate(networks):
        forward = forward_of(network, bench.eval_source.normalization)
        clean = answers(forward, x).argmax(1) == y
        add("clean", clean)
        for eps in EPS:
            settings = AttackSettings(eps=(eps,), eps_l2=(), steps=20, queries=100, seed=seed)
            ours = clean
            for attack, right, _ in attack_student(forward, x, y, settings, n):
                if attack == settings.large:
                    add("large", right)
                else:
                    add(f"{attack.name} {255 * eps:.0f}", right)
                    ours = ours & right
            examples = auto_attack(forward, x[few], y[few], eps, classes=len(splits.train.classes), seed=seed)
            theirs = clean[few] & (answers(forward, examples).argmax(1) == y[few])
            for key, right in (("ours", ours), ("ours, few", ours[few]), ("autoattack", theirs)):
                add(f"{key} {255 * eps:.0f}", right)
    values = {key: sum(of) / len(of) for key, of in found.items()}
    kept = {"kept 8": sum(a / b for a, b in zip(found["ours 8"], found["clean"], strict=True)) / len(networks)}
    result = values | kept | {
        "bytes": total, "pictures": len(x), "few": len(few), "seconds making": round(made - started, 1),
        "seconds attacking": round(time.process_time() - made, 1),
    }  # fmt: skip
    path.write_text(json.dumps(result))
    return result


def part(values: list[float]) -> dict[str, Any]:
    """Return mean and interval of values in [0, 1]."""
    found = summary(values)
    ends = found["ci95"]
    return found | {"ci95": None if ends is None else [max(0.0, ends[0]), min(1.0, ends[1])]}


def stored_rows(args: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the rows, seconds and notes of the stored result, for ``--rows``; none if everything is measured.

    Raises:
        SystemExit: they were measured by other settings.
    """
    if not args.rows:
        return {"rows": {}, "how": {}, "seconds": 0}
    held = json.loads(args.out.read_text())
    if any(held["settings"][name] != value for name, value in settings.items()):
        raise SystemExit(f"{args.out} has other settings: {held['settings']}")
    again = sum(row.get("seconds", 0) for row in held["rows"] if row["row"] in args.rows)
    rows = {row["row"]: row for row in held["rows"] if row["row"] not in args.rows}
    how = {name: held["settings"]["rows"][name] for name in rows}
    return {"rows": rows, "how": how, "seconds": held["seconds"] - again}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--steps", type=int, default=180, help="updates of the students of a set")
    parser.add_argument("--full-steps", type=int, default=600, help="updates of the students of all data")
    parser.add_argument("--pictures", type=int, default=500, help="test pictures")
    parser.add_argument("--few", type=int, default=100, help="test pictures of AutoAttack")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[], metavar="NAME")
    parser.add_argument("--folder", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--out", type=Path, default=Path("results/trust/robustness.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = {key: getattr(args, key) for key in ("data", "seeds", "students", "steps", "full_steps")}
    settings |= {"network": NETWORK, "ipc": 10}
    earlier = stored_rows(args, settings)
    args.folder.mkdir(parents=True, exist_ok=True)
    splits = potstill.load_data(args.data)
    cells: dict[str, list[dict[str, Any]]] = {name: [] for name in args.rows or ROWS}
    for seed in range(args.seeds):
        for name in cells:
            path = args.folder / f"{args.data}-{seed}-{name.replace(' ', '-')}.json"
            cells[name].append(cell(path, name, seed, splits, args))
            print(seed, name, cells[name][-1], flush=True)
    first = next(iter(cells.values()))[0]
    numbers = [key for key in first if key not in ("bytes", "pictures", "few") and not key.startswith("seconds")]
    measured = {
        name: {
            "row": name,
            **{key: part([c[key] for c in of]) for key in numbers},
            "bytes": None if of[0]["bytes"] is None else sum(c["bytes"] for c in of) / len(of),
            "seconds": round(sum(c[key] for c in of for key in ("seconds making", "seconds attacking"))),
            "seconds making": round(sum(c["seconds making"] for c in of) / len(of), 1),
        }
        for name, of in cells.items()
    }  # fmt: skip
    found = earlier["rows"] | measured
    rows = [found[name] for name in ROWS if name in found]
    pairs = [
        {"row": row["row"], "other": other, **{
            key: paired_difference(row[key]["values"], found[other][key]["values"])
            for key in ("clean", "ours 2", "ours 8", "autoattack 2", "autoattack 8", "kept 8")
        }}
        for row in rows
        for other in ("random real samples", *OTHERS.get(row["row"], ()))
        if other != row["row"] and other in found
    ]  # fmt: skip
    for row in rows:
        names = ("clean", "ours 2", "ours 8", "ours, few 8", "autoattack 2", "autoattack 8", "kept 8", "large")
        shown = {key: round(100 * row[key]["mean"], 1) for key in names}
        print(row["row"], shown)
    for pair in pairs:
        print(pair["row"], "minus", pair["other"], "at 8/255:", pair["ours 8"])
    how = earlier["how"] | {name: ROWS[name] for name in cells}
    stamp = {
        "settings": {**settings, "pictures": first["pictures"], "few": first["few"],
                     "rows": {name: how[name] for name in ROWS if name in how}},
        "machine": machine(), "seconds": earlier["seconds"] + sum(row["seconds"] for row in measured.values()),
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({**stamp, "rows": rows, "pairs": pairs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
