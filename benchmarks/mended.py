"""What mended defaults of methods do to the accuracy of their sets: the same runs before and after, on bundled digits.

    git worktree add /tmp/before f079952                                     # any commit that is older than the mends
    python benchmarks/mended.py --before /tmp/before [--only cafe dsdm …] [--sets 2] [--students 3] [--threads 1]

Each row is one change: the same command for both programs but for what was changed, that is for options where a default
moved and for the program where the arithmetic did. Each side makes ``--sets`` sets of ten pictures' worth of bytes
(``--ipc``) in the row's number of steps, a seed each, and measures each on ``--students`` fresh ConvNet-W32 by the
protocol ``potstill``. A side is run by the program of its own checkout, and both sides of a row have the same seeds.
Rows are written as they are made; one that is there, made with the same options, is not made again.

Few steps and two sets: the table says which way a change goes where it is large, and how small it is else. It does not
say what the published number of steps would give.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from machine import machine

from potstill.evaluation.statistics import summary

Options = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One change: options of ``potstill distill`` for both sides, and those of one."""

    method: str
    what: str
    steps: int
    both: Options = field(default_factory=dict)
    before: Options = field(default_factory=dict)
    after: Options = field(default_factory=dict)


FEW = {"batch-real": "64"}
TRAINED = FEW | {"networks-trained": "4", "epochs-trained": "4"}
ON_REAL = {"metric": "l1", "lr": "0.001", "data-train": "500", "outer": "20"}
ROWS = {
    "cafe": Row(method="cafe", what="start from noise, no augmentation (real samples, dsa)", steps=60, both=FEW),
    "cafe-dsa": Row(
        method="cafe", what="CAFE+DSA by options: nothing changed but what is asked", steps=60, both=FEW,
        after={"start": "real", "augment": "dsa"},
    ),
    "datadam": Row(method="datadam", what="64 real samples per class and step (256)", steps=150),
    "dance": Row(
        method="dance", what="5 trained networks (20)", steps=300,
        both=FEW | {"lr": "0.1", "epochs-trained": "2"},
    ),
    "dsdm-networks": Row(
        method="dsdm", what="networks trained at a constant rate, batch 256 (64, falling)", steps=300,
        both=TRAINED | {"lr": "1.0"}, after={"lr-side": "28"},
    ),
    "dsdm-rate": Row(
        method="dsdm", what="rate in proportion to the area: times 0.77 (1)", steps=300,
        both=TRAINED | {"lr": "1.0"}, after={"batch-trained": "64", "schedule-trained": "steps"},
    ),
    "ncfm": Row(
        method="ncfm", what="decay of all classes' turns, networks trained with batch 128 (one turn's, 64)", steps=300,
        both=TRAINED | {"frequencies": "1024"},
    ),
    "ncfm-sampler": Row(
        method="ncfm", what="the sampler makes 64 frequencies and does not decay (4,096, decays)", steps=300,
        both=TRAINED | {"sampler": "true"}, after={"batch-trained": "64"},
    ),
    "idm": Row(
        method="idm", what="accuracies count anew every 100 steps, one network more (never)", steps=300,
        both=FEW | {"train-steps": "5", "batch-train": "64"},
    ),
    "idc": Row(method="idc", what="rate in proportion to the area: times 0.77 (1)", steps=200, both=ON_REAL),
    "dream": Row(
        method="dream", what="start from centres of embeddings, batch 128 (of pixels, 64)", steps=200,
        both=ON_REAL | FEW, after={"lr-side": "28"},
    ),
    "dream-rate": Row(
        method="dream", what="that, and the rate in proportion to the area: times 0.77 (1)", steps=200,
        both=ON_REAL | FEW,
    ),
}  # fmt: skip


def run(checkout: Path, words: list[str], threads: int) -> dict[str, Any]:
    """One command of the program of ``checkout``."""
    env = os.environ | {"PYTHONPATH": str(checkout.resolve() / "src"), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "potstill", *words, "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise SystemExit(f"potstill {' '.join(words)} (in {checkout}): {done.stderr}")
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def side(checkout: Path, row: Row, options: Options, args: argparse.Namespace) -> dict[str, Any]:
    """Accuracies of the students of each set, and what they cost."""
    values, seconds = list[list[float]](), 0.0
    for seed in range(args.sets):
        with tempfile.TemporaryDirectory() as folder:
            out = str(Path(folder) / "set.safetensors")
            said = [word for n, value in (row.both | options).items() for word in (f"--{n}", value)]
            run(checkout, [
                "distill", args.data, "--method", row.method, "--ipc", str(args.ipc), "--network", args.network,
                "--steps", str(row.steps), "--seed", str(seed), "--out", out, *said,
            ], args.threads)  # fmt: skip
            score = run(checkout, [
                "evaluate", out, "--data", args.data, "--network", args.network, "--seeds", str(args.students),
                "--no-full", "--no-baselines", "--no-robust-scores",
            ], args.threads)  # fmt: skip
            values.append(score["accuracy"]["values"])
            seconds += run(checkout, ["inspect", out], args.threads)["card"]["cost"]["seconds"]
    return {"accuracy": summary([v for some in values for v in some]), "values_of_sets": values, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of an older commit")
    parser.add_argument("--after", type=Path, default=Path(), help="a checkout of the mended one (this folder)")
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--network", default="convnet-w32")
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/mended.json"))
    args = parser.parse_args()
    for name in args.only:
        row, old = ROWS[name], json.loads(args.out.read_text())["rows"] if args.out.exists() else {}
        asked = {n: getattr(args, n) for n in ("data", "network", "ipc", "sets", "students")} | asdict(row)
        if old.get(name, {}).get("asked") == asked:
            continue
        sides = {
            "before": side(args.before, row, row.before, args), "after": side(args.after, row, row.after, args),
        }  # fmt: skip
        rows = json.loads(args.out.read_text())["rows"] if args.out.exists() else {}  # another part may have written
        rows[name] = {"asked": asked, **sides, "machine": machine()}
        args.out.write_text(json.dumps({"rows": rows}, indent=1, sort_keys=True) + "\n")
        a, b = (sides[n]["accuracy"] for n in ("before", "after"))
        print(
            f"{name}: {100 * a['mean']:.1f} ± {100 * a['std']:.1f} before, {100 * b['mean']:.1f} ± "
            f"{100 * b['std']:.1f} after (n {a['n']}, {row.steps} steps): {row.what}",
            flush=True,
        )


if __name__ == "__main__":
    main()
