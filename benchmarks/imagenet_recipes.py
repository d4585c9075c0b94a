"""ImageNet's recipes, run end to end on a likeness: distil, label, evaluate; and what each would take on real machines.

    python benchmarks/imagenet_recipes.py [--only imagenet-1k/rded …] [--out results/imagenet_recipes.json]
    python benchmarks/imagenet_recipes.py --table

The likeness has a thousand classes of generated pictures, 16 × 16: a colour and a wave of its own for each class, with
noise; six to train and one to test on. Whatever makes a run long is overridden on the command line (see ``FEW``), so
that a recipe is known to run from its first step to its scorecard, and nothing else: the accuracies mean nothing. Plans
are of the recipe as it stands, for the data it is for, on the machines of ``ON``. Seconds are of wall clock, on a
machine with other work, on one thread; peaks are those of each process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine

CLASSES, EACH, SIDE = 1000, 7, 16
ON = "nodes=1,gpus=8,memory=80GB,flops=312T"
OF, ONE = 312.0, 82.6
PUBLISHED_HOURS = {"imagenet-1k/sre2l": 29.0, "imagenet-1k/fadrm": 6.5, "imagenet-1k/edc": 69.0}
"""Of the recovery of 50 pictures a class on an RTX 4090: CDA's README, and FADRM's table of seconds a picture."""
NETWORK = "convnet-d2-w8-batch"
FEW = {
    "sre2l": ["--iterations", "2"],
    "edc": ["--iterations", "2", "--committee", "convnet-d1-w8-batch"],
    "rded": ["--samples", "4"],
    "fadrm": ["--iterations", "4", "--samples", "4"],
}
FEW["edc"] += ["--samples", "4"]


def likeness(path: Path) -> None:
    """Write the data: uint8 pictures of every class in training and test."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(CLASSES), EACH)
    colour, wave = rng.uniform(60, 190, (CLASSES, 3)), rng.uniform(0.2, 1.5, (CLASSES, 2))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    bands = np.sin(rows * wave[:, :1, None] + columns * wave[:, 1:, None])[..., None] * 40
    x = colour[y][:, None, None] + bands[y] + rng.normal(0, 15, (len(y), SIDE, SIDE, 3))
    x = x.clip(0, 255).astype(np.uint8)
    test = np.arange(len(y)) % EACH == 0
    np.savez(path, x_train=x[~test], y_train=y[~test], x_test=x[test], y_test=y[test])


def run(words: list[str], folder: Path) -> dict[str, Any]:
    """A command with ``--json``: its answer, the seconds, and the peak of its memory in bytes."""
    begun = time.perf_counter()
    place = {**os.environ, "POTSTILL_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    with (folder / "answer.json").open("w+") as out, (folder / "said.txt").open("w+") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "potstill", *words, "--json", "--quiet"], stdout=out, stderr=err, env=place
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise SystemExit(f"potstill {' '.join(words)}: {err.read()}")
        answer = json.load(out)
    return {"answer": answer, "seconds": round(time.perf_counter() - begun, 1), "peak": used.ru_maxrss * 1024}


def plan(recipe: str, on: str, folder: Path) -> dict[str, Any]:
    found = run(["plan", f"like:{recipe.partition('/')[0]}", "--recipe", recipe, "--cluster", on], folder)["answer"]
    phases = [{n: p[n] for n in ("name", "seconds", "devices", "memory", "bound", "fits")} for p in found["phases"]]
    names = ("items", "seconds", "gpu_hours", "busy_hours", "memory", "disk", "rate")
    return {"on": on, "phases": phases} | {n: found[n] for n in names}


def dry(recipe: str, folder: Path) -> dict[str, Any]:
    """Distil, label and evaluate with the recipe, by little."""
    method, data = recipe.partition("/")[2], folder / "likeness.npz"
    made, labels = folder / f"{method}.safetensors", folder / f"{method}-labels.safetensors"
    quick = ["--epochs-trained", "1", "--batch", "250"] if method != "rded" else ["--epochs-trained", "1"]
    size = ["--size", f"{SIDE}x{SIDE}"]
    distil = ["distill", str(data), "--recipe", recipe, "--ipc", "1", "--network", NETWORK, *size, *quick, *FEW[method]]
    protocol = ["--protocol", method if method in ("sre2l", "edc", "rded") else "sre2l", "--epochs", "1"]
    also = ["--data", str(data), "--network", NETWORK, *size, *protocol]
    if method == "edc":
        also += ["--committee", "convnet-d1-w8-batch", "--teacher", NETWORK, "--teacher-epochs", "1"]
    steps = {
        "distill": [*distil, "--out", str(made)],
        "label": ["label", str(made), *also, "--out", str(labels)],
        "evaluate": ["evaluate", str(made), *also, "--stored", str(labels), "--seeds", "1", "--no-baselines",
                     "--no-full", "--no-robust-scores"],
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, words in steps.items():
        done = run(words, folder)
        found[name] = {n: done[n] for n in ("seconds", "peak")}
        if name == "evaluate":
            found["students"] = done["answer"]["n"]
    return found | {"items": CLASSES, "label_bytes": labels.stat().st_size, "set_bytes": made.stat().st_size}


def table(rows: dict[str, Any]) -> str:
    """The rows as Markdown: the dry run, then the plan."""
    lines: list[str] = [
        "| recipe | dry run: distil, label, evaluate, s | largest peak, MB | planned, hours | device-hours | "
        "a device, GB | disk, GB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in sorted(rows.items()):
        cells = [f"`{name}`", "—", "—", "—", "—", "—", "—"]
        if ran := row.get("dry"):
            parts = [ran[part] for part in ("distill", "label", "evaluate")]
            cells[1:3] = [", ".join(f"{p['seconds']:.0f}" for p in parts), f"{max(p['peak'] for p in parts) / 1e6:.0f}"]
        if plan := row.get("plan"):
            hours, disk = plan["seconds"] / 3600, plan["disk"]["total"]
            cells[3:] = [f"{hours:.1f}", f"{plan['gpu_hours']:.0f}", f"{plan['memory'] / 1e9:.1f}", f"{disk / 1e9:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    for name, hours in PUBLISHED_HOURS.items():
        if plan := rows.get(name, {}).get("plan"):
            steps = sum(p["seconds"] * p["devices"] for p in plan["phases"] if p["name"] == "steps of the method")
            lines += ["", (
                f"`{name}`, steps alone, on an RTX 4090 by best rates ({ONE:g} TFLOP/s in place of {OF:g}): planned "
                f"{steps / 3600 * OF / ONE:.0f} hours, published {hours:g}."
            )]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path("results/imagenet_recipes.json"))
    parser.add_argument("--table", action="store_true", help="print the rows of docs/benchmarks/speed.md")
    args = parser.parse_args()
    report: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"rows": {}}
    if args.table:
        print(table(report["rows"]))
        return
    names = [f"{p.parent.name}/{p.stem}" for p in sorted(Path("recipes").glob("imagenet-*/*.yaml"))]
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        likeness(folder / "likeness.npz")
        wanted = [name for name in names if not args.only or name in args.only]
        for part in ("dry", "plan"):
            for name in wanted:
                row = report["rows"].setdefault(name, {})
                row[part] = dry(name, folder) if part == "dry" else plan(name, ON, folder)
                report["machine"] = machine()
                args.out.parent.mkdir(exist_ok=True)
                args.out.write_text(json.dumps(report, indent=1) + "\n")
                print(name, part, json.dumps(row[part]), flush=True)


if __name__ == "__main__":
    main()
