"""Zero-shot classification by students of sets of pairs: names of classes, descriptions, and random words.

    python benchmarks/emoji.py package --out emoji
    python benchmarks/stamps.py /usr/share/tuxpaint/stamps --out stamp-pairs
    python benchmarks/zero_shot.py --emoji emoji --stamps stamp-pairs [--sets 3] [--students 3]

Classes are the categories of the emoji and the folders of the stamps, which no method sees. Descriptions of them, in
class_descriptions/, were written by a language model from the names of the classes alone, before anything was measured.
Each set is made and measured by ``potstill.diagnose``; nothing is chosen on the test split. Results go to
results/zero_shot.json after every set.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from machine import machine
from pairs import NETWORK, QUICK, READING

import potstill
from potstill.dataset_file import write_atomic
from potstill.evaluation.statistics import summary

HERE = Path(__file__).resolve().parent
SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "prototypes": ("prototypes", {}),
    "vl-distill": ("vl-distill", QUICK),
    "covmatch": ("covmatch", {"preset": "quick"}),
    "all pairs": ("random", {}),
}
SIZES = {"emoji": 100, "stamps": 50}
STEPS = 300


def measure(splits: Any, name: str, row: str, students: int, seed: int) -> dict[str, Any]:
    """The part of a diagnosis for one set."""
    method, options = SETS[row]
    items = len(splits.train) if row == "all pairs" else SIZES[name]
    small = potstill.distill(splits, method, items=items, seed=seed, network=NETWORK, progress=None, **options)
    found = potstill.diagnose(
        small, splits, parts="zero-shot", descriptions=HERE / "class_descriptions" / f"{name}.json",
        students=students, steps=STEPS, seed=seed, progress=None,
    )  # fmt: skip
    part = found["parts"]["zero-shot"]
    values = {of: {kind: value["values"] for kind, value in part[of].items()} for of in ("set", "random")}
    return {"items": items, "classes": len(part["classes"]), "pictures": part["pictures"], **values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in SIZES:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/zero_shot.json"))
    args = parser.parse_args()
    held: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"cells": {}}
    held |= {"machine": machine(), "network": NETWORK, "students": args.students, "steps": STEPS}
    for name in SIZES:
        if (path := getattr(args, name)) is None:
            continue
        splits = potstill.load_data(path, **READING, attribute="class")
        for seed in range(args.sets):
            for row in SETS:
                key = f"{name} {row} {seed}"
                if key in held["cells"] or (row == "all pairs" and seed):
                    continue
                held["cells"][key] = measure(splits, name, row, args.students, seed)
                write_atomic(args.out, (json.dumps(held, indent=1) + "\n").encode())
                means = {kind: summary(v)["mean"] for kind, v in held["cells"][key]["set"].items()}
                print(key, {kind: round(mean, 3) for kind, mean in means.items()}, flush=True)


if __name__ == "__main__":
    main()
