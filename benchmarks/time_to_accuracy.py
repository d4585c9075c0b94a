"""Time until a set trains as well as the published DM's and DSA's: ours measured, theirs extrapolated.

    git clone <the published repository> vico
    python benchmarks/time_to_accuracy.py --published vico [--data mnist fashion-mnist] [--budgets 60 120 300 600]
    python benchmarks/time_to_accuracy.py --undistilled [--sets 3] [--students 1] [--epochs 500]

**Theirs.** The published programs take days on a CPU, so their final accuracies are those that they publish
(``PUBLISHED``), and their time is extrapolated: seconds of one step, measured here by benchmarks/speed.py's machinery
(interleaved with ours, a process for each side), times the steps that their programs make. main_DM.py makes
``range(Iteration + 1)`` steps, 20,001; main.py for DSA as many networks (1,001), each with ``outer`` steps and, between
them, ``inner`` epochs of the network's training (10 and 50 at ten items per class). What they spend on reading data and
on evaluating along the way is left out, in their favour.

**Ours.** ``potstill distill`` as a user types it, by each of ``--ways`` (words after ``--method``), in a process of
its own: the wall clock from the command to the saved file, so that starting, importing and reading data count.
Budgets are said beforehand and all of them are made: nothing stops, and nothing is chosen, by test accuracy. (Rows of
before version 0.2 were made by a rule that stopped when test accuracy was above all that is published.) Each set is
measured by ``potstill evaluate`` under the protocol ``dsa`` with students of ``--width`` (``--epochs`` shortens it,
and is kept with the row; another length is another row). Said are the smallest budget whose interval reaches a
published number (level) and the smallest whose interval lies above the number and its printed ±.

**Undistilled** (``--undistilled``). What the same start gives without a step: random real pictures over each way's
parametrization, ``--sets`` of them, the same students. For tiles that is four shrunk real pictures in the bytes of one:
the baseline at equal bytes.

Tiles hold four inputs in the bytes of one, so a way over ``tiles`` reaches accuracies with more inputs of the same
bytes; that is said by its name, and `EQUAL_BYTES` names what is published with as many. Bytes count four for each
value, as in the literature. A row is written when it is made, and what is there is not made again.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import speed
from machine import machine

import potstill
from potstill.evaluation.statistics import summary
from potstill.methods.gradient._values import published_loops

README = "github.com/VICO-UoE/DatasetCondensation README"
DANCE = "github.com/Hansong-Zhang/DANCE, table 1"
PUBLISHED: dict[tuple[str, int, str], tuple[float, float, str]] = {
    ("mnist", 10, "dm"): (97.5, 0.05, "arXiv:2110.04181, table 1"),
    ("mnist", 10, "dsa"): (97.8, 0.05, README),
    ("fashion-mnist", 10, "dm"): (83.5, 0.3, DANCE),
    ("fashion-mnist", 10, "dsa"): (84.6, 0.3, DANCE),
}
"""Final test accuracy in percent and its ± as published, by data, items per class and method. Where no ± is printed,
half of the last digit."""
EQUAL_BYTES: dict[tuple[str, int, str], tuple[float, float, str]] = {
    ("mnist", 10, "idc"): (98.4, 0.05, "github.com/snu-mllab/Efficient-Dataset-Condensation README"),
    ("fashion-mnist", 10, "idc"): (86.0, 0.3, DANCE),
    ("fashion-mnist", 10, "dream"): (86.4, 0.3, DANCE),
    ("fashion-mnist", 10, "dance"): (86.3, 0.2, DANCE),
}
"""Published with four inputs in the bytes of one, as tiles have; by IDC's recipe, the best epoch on test."""
STEPS = {"dm": 20_001, "dsa": 1_001}
"""What ``range(args.Iteration + 1)`` comes to in main_DM.py and main.py: steps, and networks."""
TEST = 10_000
"""Test pictures of MNIST and of Fashion-MNIST."""
WAYS = (
    "dm --steps-per-network 8",
    "dm --steps-per-network 8 --network convnet-d3-w32",
    "dm --steps-per-network 8 --network convnet-d3-w32 --parametrization tiles",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, help="checkout of the published code; needed until it was timed")
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion-mnist"])
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), help="each: a method and its options, in quotes")
    parser.add_argument("--budgets", nargs="+", type=float, default=[60.0, 120.0, 300.0, 600.0], help="seconds")
    parser.add_argument("--width", type=int, default=128, help="of students and published steps; ours by default")
    parser.add_argument("--students", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2, help="of the published steps; ours take what torch takes")
    parser.add_argument("--repeats", type=int, default=3, help="of the published steps")
    parser.add_argument("--undistilled", action="store_true", help="measure the ways' starts, without a step")
    parser.add_argument("--sets", type=int, default=3, help="undistilled sets, with --students each")
    parser.add_argument("--only-distil", action="store_true", help="make and time the sets, measure nothing")
    parser.add_argument("--folder", type=Path, default=Path("demo/time_to_accuracy"), help="where sets are kept")
    parser.add_argument("--out", type=Path, default=Path("results/time_to_accuracy.json"))
    args = parser.parse_args()
    report: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"rows": {}}
    settings = {"ipc": args.ipc, "width": args.width}
    if report.setdefault("settings", settings) != settings:
        raise SystemExit(f"{args.out} was made with {report['settings']}; give another --out, or move it away")
    if args.undistilled:
        for data in args.data:
            for over in ("tiles", "pixels"):
                undistilled(report, data, over, args)
        return
    report["machine"] = machine()
    if "published" not in report:
        if args.published is None:
            raise SystemExit("the published steps have not been timed yet; say where the checkout is: --published PATH")
        report["published"] = published_times(args)
        save(report, args.out)
    for data in args.data:
        for way in args.ways:
            for budget in args.budgets:
                ours(report, data, way, budget, args)
    report["reached"] = reached(report, args.ipc)
    save(report, args.out)
    for line in report["reached"]:
        said(line)


def published_steps(method: str, ipc: int) -> int:
    """Updates of the set that the published program makes."""
    return STEPS[method] * (published_loops(ipc)[0] if method == "dsa" else 1)


def save(report: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    part.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    part.replace(out)


def published_times(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds that the published programs would take here, and what that is made of."""
    asked = argparse.Namespace(
        published=args.published, idc=None, ncfm=None, width=args.width, ipc=args.ipc, batch=256, repeats=args.repeats,
        threads=[args.threads], what=["dm", "dsa", "student"], device="cpu",
    )  # fmt: skip
    words = [sys.executable, str(Path(speed.__file__)), "--published", str(args.published)]
    rows = speed.measure(asked, [*words, "--width", str(args.width), "--ipc", str(args.ipc)])
    one = {row["what"]: row["seconds"]["published"]["median"] for row in rows}
    outer, inner = published_loops(args.ipc)
    network = outer * one["dsa"] + (outer - 1) * inner * one["student"] / 5  # a student's job is five epochs
    return {
        "measured": {what: {"median_s": s, "n": args.repeats} for what, s in one.items()},
        "threads": args.threads, "steps": STEPS, "outer": outer, "inner": inner,
        "seconds": {"dm": STEPS["dm"] * one["dm"], "dsa": STEPS["dsa"] * network},
        "note": "extrapolated: measured seconds of a step times the published number of steps; evaluation left out",
    }  # fmt: skip


def ours(report: dict[str, Any], data: str, way: str, budget: float, args: argparse.Namespace) -> dict[str, Any] | None:
    """The row of one command: made, measured and saved as far as it is not there. ``None`` while it is not measured."""
    key = f"{data}, {way}, {budget:g} s"
    row: dict[str, Any] = report["rows"].get(key, {})
    name = f"{data}-ipc{args.ipc}-{'-'.join(way.replace('--', '').split())}-{budget:g}s.safetensors"
    out = args.folder / name.replace(":", "-").replace("=", "-")
    measured = {"epochs": args.epochs, "students": args.students}
    if "accuracy" in row and row["measured"] != measured:  # the same set under another length is a row of its own
        set_alone = {k: v for k, v in row.items() if k not in ("accuracy", "fingerprint", "measured")}
        key = f"{key}, students of {args.epochs:,} epochs"
        row = report["rows"].setdefault(key, set_alone)
    if row.get("measured") == measured:
        return row
    if not row or not out.exists():
        words = [
            "distill",
            data,
            "--method",
            *shlex.split(way),
            "--ipc",
            str(args.ipc),
            "--preset",
            "published",
            "--time-limit",
            f"{budget:g}s",
        ]
        if "--network" not in words:
            words += ["--network", f"convnet-d3-w{args.width}"]
        args.folder.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        card = run([*words, "--out", str(out)])
        seconds = time.monotonic() - begun
        row = {
            "data": data, "way": way, "budget_s": budget, "seconds": seconds, "command": shlex.join(words),
            "steps": card["cost"]["steps"], "distilling_s": card["cost"]["seconds"], "inputs": card["items"],
            "bytes": card["bytes"]["total"], "outcome": card["outcome"]["kind"],
        }  # fmt: skip
        report["rows"][key] = row
        save(report, args.out)
        print(f"{key}: {row['steps']} steps, {seconds:.0f} s from the command to the file", flush=True)
    if args.only_distil:
        return None
    score = measure(out, data, args)
    row |= {"accuracy": score["accuracy"], "fingerprint": score["fingerprint"], "measured": measured}
    save(report, args.out)
    a = row["accuracy"]
    print(f"{key}: {100 * a['mean']:.2f} ± {100 * (a['std'] or 0):.2f} (n {a['n']})", flush=True)
    return row


def run(words: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "potstill", *words, "--json", "--quiet"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"potstill {' '.join(words)}: {done.stderr}")
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def ends(row: dict[str, Any]) -> tuple[float, float]:
    """The interval of a row's accuracy in percent; its mean twice where there is none."""
    a = row["accuracy"]
    low, high = a["ci95"] or (a["mean"], a["mean"])
    return 100 * low, 100 * high


def undistilled(report: dict[str, Any], data: str, over: str, args: argparse.Namespace) -> None:
    """Measure ``--sets`` starts over a parametrization, students of each set; the spread is that of sets."""
    rows: dict[str, Any] = report.setdefault("undistilled", {})
    key = f"{data}, {over}, students of {args.epochs:,} epochs"
    if key in rows:
        return
    values: list[list[float]] = []
    splits = potstill.load_data(data)
    args.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(args.sets):
        out = args.folder / f"{data}-ipc{args.ipc}-undistilled-{over}-{seed}.safetensors"
        small = potstill.distill(
            splits, "dm", ipc=args.ipc, parametrization=over, network=f"convnet-d3-w{args.width}", steps=0, seed=seed
        )
        small.save(out)
        values.append(measure(out, data, args, seed)["accuracy"]["values"])
    means = [sum(v) / len(v) for v in values]
    rows[key] = {
        "data": data, "over": over, "inputs": len(small), "bytes": small.metadata["bytes"]["total"], "sets": args.sets,
        "students": args.students, "epochs": args.epochs, "values_of_sets": values, "machine": machine(),
        "accuracy": summary(means, args.students * TEST),
    }  # fmt: skip
    save(report, args.out)
    a = rows[key]["accuracy"]
    print(f"{key}: {100 * a['mean']:.2f} ± {100 * (a['std'] or 0):.2f} over {args.sets} sets", flush=True)


def measure(out: Path, data: str, args: argparse.Namespace, seed: int = 0) -> dict[str, Any]:
    """The scorecard of a file's students."""
    return run([
        "evaluate", str(out), "--data", data, "--protocol", "dsa", "--network", f"convnet-d3-w{args.width}", "--seeds",
        str(args.students), "--epochs", str(args.epochs), "--seed", str(seed), "--no-full", "--no-baselines",
        "--no-robust-scores",
    ])  # fmt: skip


def reached(report: dict[str, Any], ipc: int) -> list[dict[str, Any]]:
    """For every published number and every way: the first budget that reaches it, and the first that is above."""
    made = []
    rows = sorted((r for r in report["rows"].values() if "accuracy" in r), key=lambda r: float(r["budget_s"]))
    for (data, n, method), (percent, give, source) in PUBLISHED.items():
        theirs = report["published"]["seconds"][method]
        for way in dict.fromkeys(r["way"] for r in rows if (r["data"], n) == (data, ipc)):
            own = [r for r in rows if (r["data"], r["way"]) == (data, way)]
            line: dict[str, Any] = {
                "data": data, "published": method, "percent": percent, "plus_minus": give, "source": source,
                "published_seconds": theirs, "published_steps": published_steps(method, ipc),
                "way": way, "best_percent": max(100 * r["accuracy"]["mean"] for r in own),
            }  # fmt: skip
            for what, end, goal in (("reaches", 1, percent), ("above", 0, percent + give)):
                first = next((r for r in own if ends(r)[end] >= goal), None)
                line[what] = first and {
                    "seconds": first["seconds"], "budget_s": first["budget_s"], "accuracy": first["accuracy"],
                    "inputs": first["inputs"], "published_over_ours": theirs / first["seconds"],
                }  # fmt: skip
            made.append(line)
    return made


def said(line: dict[str, Any]) -> None:
    goal = f"{line['data']}, the published {line['published']}'s {line['percent']} % ({line['source']})"
    hours = line["published_seconds"] / 3600
    print(f"{goal}: theirs {hours:.1f} hours (extrapolated); ours by `{line['way']}`")
    for what, word in (("reaches", "interval reaches it"), ("above", "interval above it")):
        found = line[what]
        if found is None:
            print(f"  {word}: not within these budgets; best mean {line['best_percent']:.2f} %")
            continue
        a, ratio = found["accuracy"], found["published_over_ours"]
        tenth = "within" if ratio >= 10 else "not within"
        print(
            f"  {word}: {found['seconds']:.0f} s, {100 * a['mean']:.2f} % (n {a['n']}); theirs takes "
            f"{ratio:.0f} times as long: {tenth} a tenth"
        )


if __name__ == "__main__":
    main()
