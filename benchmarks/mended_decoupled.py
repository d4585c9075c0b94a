"""What mended presets of the decoupled family do to the accuracy of their sets: the same runs before and after.

    git worktree add ../before f079952   # any commit that is older than the mends
    python benchmarks/mended_decoupled.py --before ../before [--only sre2l edc …] [--sets 2] [--students 3]

Data are the crops of photographs of `photo_patches.py` (``pip install scikit-image``). Each row is one preset, with the
same options for both programs: what differs is what was mended. A side is made by the program of its own checkout; both
are measured by this one. One BatchNorm ConvNet is trained on the real data (15 passes); pictures are made for it, it
labels every augmented batch of every student (KL at temperature 4), and students have its architecture. Iterations are
few, but where they are what was mended. ``labels-…`` rows measure the mended sets again, labelled by the statistics of
each batch.

Rows are written as they are made; one that is there, made with the same settings, is not made again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from photo_patches import photo_patches

import potstill
from potstill.core import Splits
from potstill.core.registry import resolve
from potstill.data import TensorSource
from potstill.evaluation import Protocol, evaluate
from potstill.evaluation.statistics import difference, summary
from potstill.execution import Serial

Options = dict[str, Any]
NETWORK = "convnet-d3-w16-batch"
TRAINED: Options = {"epochs_trained": 15, "batch_trained": 128, "lr_trained": 0.1, "network": NETWORK}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One preset: options for both sides, and those of one."""

    method: str
    what: str
    both: Options = field(default_factory=dict)
    before: Options = field(default_factory=dict)


ALONE: Options = {"committee": ""}
ROWS = {
    "sre2l": Row(method="sre2l", what="neither cropped nor mirrored (mirrored)", both={"iterations": 200}),
    "dwa": Row(method="dwa", what="neither cropped nor mirrored (crops of 8 % and more)", both={"iterations": 200}),
    "fadrm": Row(
        method="fadrm", what="crops in the middle of the ranking (at its end)",
        both={"iterations": 200, "samples": 60},
    ),
    "g-vbsm": Row(
        method="g-vbsm", what="cells of 4, one layer tenfold, target fixed, moves and rolls, drops (none of these)",
        both={"iterations": 200, **ALONE},
    ),
    "edc": Row(
        method="edc", what="cells of 4, one layer tenfold, quarters in place, crops of 8 % (16, two, shuffled, 50 %)",
        both={"iterations": 75, **ALONE},
    ),
    "edc-steps": Row(
        method="edc", what="that, and 75 iterations (2,000)", both=ALONE, before={"iterations": 2000},
    ),
}  # fmt: skip
BY_BATCH = {f"labels-{name}": name for name in ("sre2l", "fadrm", "random")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout that is older than the mends")
    parser.add_argument("--only", nargs="+", default=["random", *ROWS, *BY_BATCH])
    parser.add_argument("--ipc", type=int, default=5)
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--students", type=int, default=3, help="for each set")
    parser.add_argument("--steps", type=int, default=300, help="of a student")
    parser.add_argument("--out", type=Path, default=Path("results/mended_decoupled.json"))
    parser.add_argument("--make", nargs=4, metavar=("DATA", "METHOD", "OPTIONS", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.make:
        data, method, options, out = args.make
        given: Options = json.loads(options)
        potstill.distill(data_of(Path(data)), method, device="cpu", **given).save(Path(out))
        return
    rows: dict[str, Any] = json.loads(args.out.read_text())["rows"] if args.out.exists() else {}
    settings = {n: getattr(args, n) for n in ("ipc", "sets", "students", "steps")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo-patches.npz"
        splits = photo_patches()
        save(splits, path)
        for name in args.only:
            if name in rows and rows[name]["settings"] == settings:
                continue
            rows[name] = row(name, args, splits, path) | {"settings": settings}
            text = {"machine": machine(), "network": NETWORK, "data": "photo-patches", "rows": rows}
            args.out.with_suffix(".part").write_text(json.dumps(text, indent=1) + "\n")
            args.out.with_suffix(".part").replace(args.out)
    table(rows)


def save(splits: Splits, path: Path) -> None:
    """The training pictures and labels, for a program of another time."""
    train = splits.train
    assert isinstance(train, TensorSource)
    np.savez(path, x=train.raw(torch.arange(len(train))).numpy(), y=train.labels.numpy(), names=np.array(train.classes))


def data_of(path: Path) -> Splits:
    """What `save` wrote."""
    with np.load(path) as held:
        train = TensorSource.make(held["x"], held["y"], held["names"].tolist(), name="photo-patches")
    return Splits(train=train, test=None)


def row(name: str, args: argparse.Namespace, splits: Splits, path: Path) -> dict[str, Any]:
    """Both sides of a row, or the one that there is."""
    method = BY_BATCH.get(name, name)
    here = Path(__file__).resolve().parent.parent
    one = ROWS.get(method) or Row(method="random", what="real samples with the same labels")
    statistics = "batch" if name in BY_BATCH else "running"
    what = f"`{method}`, labelled by the statistics of each batch" if name in BY_BATCH else one.what
    made: dict[str, Any] = {"method": one.method, "what": what, "labelled by statistics": statistics}
    if method != "random" and name not in BY_BATCH:
        made["before"] = side(args.before, one, one.both | one.before, args, splits, path, statistics)
    made["after"] = side(here, one, one.both, args, splits, path, statistics)
    print(name, {n: s["accuracy"]["mean"] for n, s in made.items() if isinstance(s, dict)}, flush=True)
    return made


def side(
    checkout: Path, one: Row, options: Options, args: argparse.Namespace, splits: Splits, path: Path, statistics: str
) -> dict[str, Any]:
    """Accuracies of the students of each set, and what the sets cost."""
    trained = {} if one.method == "random" else TRAINED
    values, seconds, steps, config = list[list[float]](), 0.0, 0, {}
    for seed in range(args.sets):
        with tempfile.TemporaryDirectory() as folder:
            out = str(Path(folder) / "set.safetensors")
            given = json.dumps({"ipc": args.ipc, "seed": seed, **trained, **options})
            env = os.environ | {"PYTHONPATH": str(checkout.resolve() / "src"), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, "--make", str(path), one.method, given, out]
            subprocess.run(command, check=True, env=env)
            small = potstill.dataset_file.load(out)
        values.append(measured(small, args, splits, seed, statistics))
        cost, config = small.card["cost"], small.card["config"]
        seconds, steps = seconds + cost["seconds"], cost["steps"]
    return {
        "accuracy": summary([v for some in values for v in some], len(splits.test)), "values_of_sets": values,
        "config": config, "steps": steps, "seconds": round(seconds / args.sets, 1),
    }  # fmt: skip


def measured(small: Any, args: argparse.Namespace, splits: Splits, seed: int, statistics: str) -> list[float]:
    """Accuracies of students that the pictures' own teacher labels."""
    protocol: Protocol = resolve("protocols", "potstill").override(
        labels="teacher", loss="kl", temperature=4.0, teacher=NETWORK, teacher_epochs=15, teacher_lr=0.1,
        teacher_augment="dsa", teacher_statistics=statistics, steps=args.steps, least_epochs=0, batch=100, lr=0.03,
    )  # fmt: skip
    score = evaluate(
        small, splits, protocol=protocol, networks=[NETWORK], seeds=args.students, seed=seed, baselines=False,
        full=False, robust_scores=False, executor=Serial(),
    )  # fmt: skip
    values: list[float] = score.to_dict()["accuracy"]["values"]
    return values


def table(rows: dict[str, Any]) -> None:
    """The rows as a table in Markdown."""
    print("| preset | changed (before) | before, % | after, % | after minus before | steps | seconds a set |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, made in rows.items():
        after, before = made["after"], made.get("before")
        said = "—"
        if before is not None:
            d = difference(after["accuracy"]["values"], before["accuracy"]["values"])
            low, high = (100 * v for v in d["ci95"])
            said = f"{100 * d['mean']:+.1f} [{low:+.1f}, {high:+.1f}]"
        found = [side and side["accuracy"] for side in (before, after)]
        shown = [f"{100 * a['mean']:.1f} ± {100 * a['std']:.1f}" if a else "—" for a in found]
        cost = [" / ".join(str(s[key]) for s in (before, after) if s) for key in ("steps", "seconds")]
        print(f"| `{name}` | {made['what']} | {shown[0]} | {shown[1]} | {said} | {cost[0]} | {cost[1]} |")


if __name__ == "__main__":
    main()
