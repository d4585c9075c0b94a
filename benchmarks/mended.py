"""What mended defaults of methods do to the accuracy of their sets: the same runs before and after, on bundled digits.

    git worktree add ../before f079952   # any commit that is older than the mends
    python benchmarks/mended.py --before ../before [--only cafe dsdm …] [--sets 2] [--students 3]

Each row is one change: the same command for both programs but for what was changed, that is for options where a default
moved and for the program where the arithmetic did. Each side makes ``--sets`` sets of ten pictures' worth of bytes
(``--ipc``) in the row's number of steps, a seed each, and measures each on ``--students`` fresh networks by the
protocol ``potstill`` with one length and one rate for all. A side is run by the program of its own checkout, and both
sides of a row have the same seeds. Rows are written as they are made; one that is there, made with the same options, is
not made again.

Few steps and two sets: the table says which way a change goes where it is large, and how small it is else. It does not
say what the published number of steps would give.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from machine import machine

import potstill
from potstill.core.registry import resolve
from potstill.evaluation.statistics import summary

STEPS, BATCH, RATE = 120, 64, 0.03
"""Of every student, so that a difference is that of the sets."""

Options = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One change: settings of the method for both sides, and those of one."""

    method: str
    what: str
    data: str = "digits"
    network: str = "convnet-w16"
    steps: int = 150
    both: Options = field(default_factory=dict)
    before: Options = field(default_factory=dict)
    after: Options = field(default_factory=dict)


FEW = {"batch_real": 64}
SHORT = FEW | {"lambda_2": 0.0}
"""CAFE's network trains for ten passes between updates, and not until its accuracy has moved by 0.03."""
TRAINED = FEW | {"networks_trained": 4, "epochs_trained": 10}
ON_REAL = {"metric": "l1", "lr": 1e-3, "data_train": 500, "outer": 20}
LARGER = {"data": "mnist-5k", "network": "convnet-w16", "steps": 40}
"""Where 28 pixels count: fewer steps, and a smaller network."""
ROWS = {
    "cafe": Row(
        method="cafe", what="start from noise, no augmentation (real samples, dsa)", steps=40, both=SHORT,
    ),
    "cafe-dsa": Row(
        method="cafe", what="CAFE+DSA from real samples is options away", steps=40, both=SHORT,
        after={"start": "real", "augment": "dsa"},
    ),
    "datadam": Row(method="datadam", what="64 real samples per class and step (256)"),
    "dance": Row(
        method="dance", what="5 trained networks (20)", both=FEW | {"lr": 0.1, "epochs_trained": 4},
    ),
    "dsdm-networks": Row(
        method="dsdm", what="networks trained at a constant rate, batch 256 (64, falling)",
        both=TRAINED, after={"lr_side": 8},
    ),
    "dsdm-rate": Row(
        method="dsdm", what="rate in proportion to the area: times 0.77 (1)", **LARGER,
        both=TRAINED | {"lr": 1.0, "epochs_trained": 2},
        after={"batch_trained": 64, "schedule_trained": "steps"},
    ),
    "dsdm-rate-digits": Row(
        method="dsdm", what="rate in proportion to the area: of 8 pixels, times 0.06 (1)", both=TRAINED,
        after={"batch_trained": 64, "schedule_trained": "steps"},
    ),
    "ncfm": Row(
        method="ncfm", what="decay of the turns of all classes, networks trained with batch 128 (of √k of them, 64)",
        both=TRAINED | {"frequencies": 1024},
    ),
    "ncfm-sampler": Row(
        method="ncfm", what="the sampler makes 64 frequencies and does not decay (4,096, decays)",
        both=TRAINED | {"sampler": True}, after={"batch_trained": 64},
    ),
    "idm": Row(
        method="idm", what="accuracies count anew every 100 steps, one network more (never)",
        both=FEW | {"train_steps": 5, "batch_train": 64},
    ),
    "idc-rate": Row(
        method="idc", what="rate in proportion to the area: times 0.77 (1)", both=ON_REAL, **LARGER,
    ),
    "dream": Row(
        method="dream", what="start from centres of embeddings, batch 128 (of pixels, 64)", both=ON_REAL | FEW,
    ),
    "dream-rate": Row(
        method="dream", what="that, and the rate in proportion to the area: times 0.77 (1)", both=ON_REAL | FEW,
        **LARGER,
    ),
}  # fmt: skip


def make(row: Row, options: Options, args: argparse.Namespace) -> dict[str, Any]:
    """Accuracies of the students of each set, by the program that runs this."""
    protocol = resolve("protocols", "potstill").override(
        steps=STEPS, epochs=None, least_epochs=0, lr=RATE, batch=BATCH, validation=0.0
    )
    data, values, seconds = potstill.load_data(row.data), list[list[float]](), list[float]()
    for seed in range(args.sets):
        begun = time.process_time()
        small = potstill.distill(
            data, method=row.method, ipc=args.ipc, network=row.network, steps=row.steps, seed=seed, device="cpu",
            **row.both, **options,
        )  # fmt: skip
        seconds.append(round(time.process_time() - begun, 1))
        score = potstill.evaluate(
            small, data, protocol=protocol, networks=[row.network], seeds=args.students, seed=seed, baselines=False,
            full=False, robust_scores=False,
        )  # fmt: skip
        values.append(score.to_dict()["accuracy"]["values"])
    return {
        "accuracy": summary([v for some in values for v in some], len(data.test)), "values_of_sets": values,
        "core_seconds": seconds,
    }  # fmt: skip


def side(checkout: Path, names: list[str], which: str, args: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """What the program of ``checkout`` makes of the rows, one after the other."""
    env = os.environ | {"PYTHONPATH": str(checkout.resolve() / "src")}
    words = [sys.executable, __file__, "--make", which, "--only", *names]
    words += [f"--{n}={getattr(args, n)}" for n in ("ipc", "sets", "students")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env) as running:
        assert running.stdout is not None
        for line in running.stdout:
            yield (made := json.loads(line))["name"], made["made"]
    if running.returncode:
        raise SystemExit(f"{' '.join(words)}, with the program of {checkout}, exited with {running.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of an older commit")
    parser.add_argument("--after", type=Path, default=Path(__file__).parents[1], help="one of the mended (this one)")
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--make", choices=["before", "after"], help="one side, with the program that runs this")
    parser.add_argument("--out", type=Path, default=Path("results/mended.json"))
    args = parser.parse_args()
    if args.make:
        for name in args.only:
            print(
                json.dumps({"name": name, "made": make(ROWS[name], getattr(ROWS[name], args.make), args)}), flush=True
            )
        return
    if args.before is None:
        parser.error("--before: a checkout of an older commit is required")

    def read() -> dict[str, Any]:
        return dict(json.loads(args.out.read_text())["rows"]) if args.out.exists() else {}

    asked = {n: {k: getattr(args, k) for k in ("ipc", "sets", "students")} | asdict(ROWS[n]) for n in args.only}
    for which in ("before", "after"):
        left = [n for n in args.only if (old := read().get(n, {})).get("asked") != asked[n] or which not in old]
        for name, made in side(getattr(args, which), left, which, args) if left else ():
            rows = read()
            old = rows.get(name, {})
            rows[name] = (old if old.get("asked") == asked[name] else {}) | {
                "asked": asked[name], which: made, "machine": machine(),
                "students": {"steps": STEPS, "batch": BATCH, "lr": RATE},
            }  # fmt: skip
            args.out.write_text(json.dumps({"rows": rows}, indent=1, sort_keys=True) + "\n")
            print(
                name,
                which,
                *(f"{100 * v:.1f}" for v in (made["accuracy"]["mean"], made["accuracy"]["std"])),
                flush=True,
            )
    for name, row in read().items():
        if {"before", "after"} <= row.keys():
            a, b = row["before"]["accuracy"], row["after"]["accuracy"]
            print(
                f"{name}: {100 * a['mean']:.1f} ± {100 * a['std']:.1f} before, {100 * b['mean']:.1f} ± "
                f"{100 * b['std']:.1f} after (n {a['n']}, {row['asked']['steps']} steps): {row['asked']['what']}"
            )


if __name__ == "__main__":
    main()
