"""Prompts with responses selected for a target by LESS, beside random ones, BM25, TF-IDF and states of the model.

    python benchmarks/instructions.py [--targets pandas,science,ruby]              # results/instructions.json
    python benchmarks/instructions.py --show

Two kinds of prompts: a function of an installed Python package, whose response is the first sentence of its docstring,
and the name of a Debian package, whose response is its description (``text.py``). Each package of Python and each
section of Debian is a task. A target is 20 samples of one task, its test 200 others; the pool is 2,000 of all tasks, of
which the target's are as many as chance gives; models learn 6,000 others as plain texts first. 100 of the pool (5 %, as
in the paper) are chosen. ``own`` is the part of the chosen samples that are of the target's task. Nothing is chosen on
test samples; settings are the defaults but for the length. Every row is a file under ``--folder``. Targets of the
stored result that are not named stay in it, if it is of the same tasks and this kind of machine.
"""

import argparse
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine
from text import descriptions

from potstill.evaluation.statistics import paired_difference, summary
from potstill.rng import generator
from potstill.uses.instructions import WAYS, Settings, select_instructions

OUT = Path("results/instructions.json")
PACKAGES = ("numpy", "pandas", "scipy", "sklearn", "torch", "pyarrow")
POOL, ITEMS, TARGET, TEST, BASE = 2000, 100, 20, 200, 6000
LENGTH, MOST_OF_TASK, LEAST_WORDS, MOST_BYTES = 48, 1500, 4, 200


def docstrings(package: str) -> list[tuple[str, str]]:
    """Return functions and classes of a package with the first sentence of their docstrings."""
    root, found = importlib.import_module(package), {}
    modules = [root.__name__, *(m.name for m in pkgutil.iter_modules(root.__path__, f"{package}.") if m.ispkg)]
    for name in sorted(modules):
        if re.search(r"\._|test", name):
            continue
        try:
            module = importlib.import_module(name)
        except Exception:
            continue
        for own, value in sorted(vars(module).items()):
            if own.startswith("_") or not callable(value):
                continue
            members = [(own, value)] + (
                [(f"{own}.{n}", v) for n, v in vars(value).items() if n[0] != "_" and callable(v)]
                if inspect.isclass(value)
                else []
            )
            for spelled, one in members:
                text = " ".join((inspect.getdoc(one) or "").split("\n\n")[0].split())
                sentence = re.split(r"(?<=[a-z)`])\. ", text)[0]
                if len(sentence.split()) >= LEAST_WORDS and len(sentence) <= MOST_BYTES:
                    found.setdefault(sentence, f"Describe the Python function {name}.{spelled}")
    return [(prompt, text) for text, prompt in found.items()]


def package_names() -> dict[str, str]:
    """Return the first package of each description."""
    listed = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    found: dict[str, str] = {}
    for block in listed.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1].isalpha() and ": " in line)
        if "Package" in fields and fields.get("Description"):
            found.setdefault(fields["Description"], fields["Package"])
    return found


def tasks() -> dict[str, list[tuple[str, str]]]:
    """Return pairs of every task, in an order that is drawn once, 1,500 at most."""
    pairs = {package: docstrings(package) for package in PACKAGES}
    names = package_names()
    for text, section in zip(*descriptions(), strict=True):
        pairs.setdefault(section, []).append((f"Describe the Debian package {names[text]}", text))
    rng = generator(0, "instructions", "tasks")
    return {
        name: [some[i] for i in torch.randperm(len(some), generator=rng)[:MOST_OF_TASK].tolist()]
        for name, some in sorted(pairs.items())
        if len(some) >= TARGET + TEST + 100
    }


def write(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"instruction": p, "output": r, "task": t}) for p, r, t in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def measure(name: str, folder: Path, students: int) -> dict[str, Any]:
    """Return the result for a target, and the part of each choice that is of its task."""
    every, rng = tasks(), generator(0, "instructions", name)
    own = [every[name][i] for i in torch.randperm(len(every[name]), generator=rng).tolist()]
    target, test = own[:TARGET], own[TARGET : TARGET + TEST]
    used = {*target, *test}
    rest = [(p, r, t) for t, some in every.items() for p, r in some if (p, r) not in used]
    rest = [rest[i] for i in torch.randperm(len(rest), generator=rng).tolist()]
    here = folder / name
    files = {
        "pool": rest[:POOL], "base": rest[POOL : POOL + BASE], "target": [(p, r, name) for p, r in target],
        "test": [(p, r, name) for p, r in test],
    }  # fmt: skip
    paths = {part: write(here / f"{part}.jsonl", rows) for part, rows in files.items()}
    result = select_instructions(
        paths["pool"], paths["target"], test=paths["test"], base=paths["base"], items=ITEMS, out=here / "out",
        students=students, settings=Settings(length=LENGTH),
        progress=lambda what, done, total: print(name, what, done, total) if done % 500 == 0 else None,
    )  # fmt: skip
    shares = {}
    for way in ("random", "lengths", "bm25", "tfidf", "states", "less"):
        chosen = json.loads((here / "out" / "cells" / f"chosen-{way}.json").read_text())["chosen"]
        shares[way] = Counter(rest[i][2] == name for i in chosen)[True] / len(chosen)
    shares["all"] = sum(t == name for _, _, t in rest[:POOL]) / POOL
    return {"rows": result["rows"], "own": shares, "tasks": {t: len(some) for t, some in every.items()}}


def summarize(results: dict[str, Any]) -> dict[str, Any]:
    """Return means over targets with intervals, and paired differences of LESS."""
    rows = {}
    for way in WAYS:
        of_way = {
            target: next(row for row in one["rows"] if row["name"] == way) for target, one in results.items()
        }  # fmt: skip
        own = {target: next(r for r in one["rows"] if r["name"] == "less") for target, one in results.items()}
        row: dict[str, Any] = {
            "bytes": sum(r["bytes"] for r in of_way.values()) / len(of_way),
            "items": next(iter(of_way.values()))["items"],
            "own": {target: one["own"].get(way) for target, one in results.items()}, "bits": {}, "less minus it": {},
        }  # fmt: skip
        for form in next(iter(of_way.values()))["bits"]:
            values = [r["bits"][form]["mean"] for r in of_way.values()]
            row["bits"][form] = summary(values)
            row["less minus it"][form] = paired_difference([r["bits"][form]["mean"] for r in own.values()], values)
        rows[way] = row
    return rows


def stored(names: list[str], tasks_now: dict[str, int]) -> dict[str, Any]:
    """Return the stored results of targets that are not measured now."""
    if not OUT.exists():
        return {}
    held = json.loads(OUT.read_text())
    same = held["tasks"] == tasks_now and held["machine"] == machine()
    return {name: one for name, one in held["by target"].items() if same and name not in names}


def show(result: dict[str, Any]) -> None:
    for way, row in result["rows"].items():
        text = []
        for form, value in row["bits"].items():
            gap = row["less minus it"][form]
            ci = gap["ci95"] or (float("nan"),) * 2
            text.append(f"{form} {value['mean']:.3f} (less minus it {gap['mean']:+.3f}: {ci[0]:+.3f} to {ci[1]:+.3f})")
        shares = [s for s in row["own"].values() if s is not None]
        own = f"own {100 * sum(shares) / len(shares):.0f} %" if shares else ""
        print(f"{WAYS[way]:32} {row['items']:5} {row['bytes']:9,.0f} bytes", *text, own, sep="  ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default="pandas,science,ruby")
    parser.add_argument("--students", default="3", help="models of a form for each target, or one number for all")
    parser.add_argument("--folder", type=Path, default=Path("runs/instructions"))
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.show:
        names = args.targets.split(",")
        students = [int(n) for n in args.students.split(",")] * (1 if "," in args.students else len(names))
        measured = {
            name: measure(name, args.folder, n) | {"students": n} for name, n in zip(names, students, strict=True)
        }
        sizes = next(iter(measured.values()))["tasks"]
        results = stored(names, sizes) | {
            name: {"students": one["students"], "own": one["own"], "rows": [
                {
                    "name": r["name"], "bytes": r["bytes"], "items": r["items"],
                    "bits": {f: {"mean": v["mean"]} for f, v in r["bits"].items()},
                }
                for r in one["rows"]
            ]}
            for name, one in measured.items()
        }  # fmt: skip
        result = {
            "machine": machine(), "targets": list(results), "pool": POOL, "items": ITEMS, "target": TARGET,
            "test": TEST, "base": BASE, "students": [one["students"] for one in results.values()], "length": LENGTH,
            "tasks": sizes, "rows": summarize(results), "by target": results,
        }  # fmt: skip
        OUT.write_text(json.dumps(result, indent=1) + "\n")
    show(json.loads(OUT.read_text()))


if __name__ == "__main__":
    main()
