"""Distilled series with classes beside real ones in the same bytes, on sets of the UCR and UEA archives.

    pip download --no-deps aeon && unzip aeon-*.whl 'aeon/datasets/data/*' -d archive
    python benchmarks/series_classes.py --data archive/aeon/datasets/data [--seeds 3]
    python benchmarks/series_classes.py --show

The archive's own training and test parts. Every cell is a file
under ``--folder``, from which an interrupted run goes on; the summary goes to ``results/series_classes.json``. A row
has no more bytes than ``kip`` of the same items per class, as it is stored. Nothing is chosen on the test part:
methods have their presets, learners their defaults, and ``real`` searches on held-out training series.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

import potstill
from potstill.core import Splits
from potstill.dataset_file.text_io import charged_bytes
from potstill.evaluation.statistics import paired_difference, summary

SETS: dict[str, tuple[int, ...]] = {"ItalyPowerDemand": (1, 5), "BasicMotions": (1, 5), "GunPoint": (1,)}
"""Sets, and items per class of the learned sets."""
ROWS: dict[str, dict[str, Any]] = {
    "kip": {},
    "dm": {},
    "best real series": {"method": "real"},
    "k-means": {"codec": "uint4"},
    "herding": {"codec": "uint4"},
    "random": {"codec": "uint4"},
}
"""Rows: how the set is made, beside its bytes."""
LEARNERS = {"minirocket": False, "neighbours:k=1": False, "convnet1d": True}
"""Learners, and whether they draw."""
RECIPE: dict[str, Any] = {"lr": 0.03, "steps": 120}
"""Settings of the network as a student: the same for all sets, as to choose them for each takes six times as long."""


def make(row: str, splits: Splits, items: int, seed: int, bytes_: int | None) -> potstill.Distilled:
    """Return the set of a row."""
    settings: dict[str, Any] = dict(ROWS[row])
    size: dict[str, Any] = {"ipc": items, "codec": "uint8"} if bytes_ is None else {"bytes": bytes_}
    if bytes_ is not None and "codec" not in settings and settings.get("method") != "real":
        settings["codec"] = "uint8"
    return potstill.distill(
        splits, settings.pop("method", row), seed=seed, progress=None, device="cpu", executor="serial",
        **size, **settings,
    )  # fmt: skip


def card_of(small: potstill.Distilled, splits: Splits, learner: str, students: int, seed: int, full: bool) -> Any:
    recipe = RECIPE if LEARNERS[learner] else {}
    return potstill.evaluate(
        small, splits, networks=learner, seeds=students, seed=seed, baselines=False, full=full, progress=None,
        executor="serial", robust_scores=False, device="cpu", **recipe,
    ).to_dict()  # fmt: skip


def cell(
    name: str, items: int, row: str, splits: Splits, seed: int, args: argparse.Namespace, bytes_: int | None
) -> Any:
    """Return one row of one seed, from its file or measured anew; ``reason`` where there is no such set."""
    path = args.folder / f"{name}-{items}-{seed}-{row.replace(' ', '_')}.json"
    if path.exists():
        return json.loads(path.read_text())
    started = time.monotonic()
    try:
        small = make(row, splits, items, seed, bytes_)
    except potstill.PotstillError as error:
        found: dict[str, Any] = {"reason": str(error)}
    else:
        seconds = time.monotonic() - started
        scores = {
            learner: card_of(small, splits, learner, args.students if draws else 1, seed, False)["score"]["mean"]
            for learner, draws in LEARNERS.items()
        }
        found = {
            "bytes": charged_bytes(small.metadata["bytes"]), "items": len(small), "scores": scores,
            "codec": small.metadata["codec"]["name"], "seconds": round(seconds, 1),
        }  # fmt: skip
    path.write_text(json.dumps(found))
    print(name, items, seed, row, found, flush=True)
    return found


def full(name: str, splits: Splits, args: argparse.Namespace) -> dict[str, Any]:
    """Return the accuracy of each learner on all training series."""
    path = args.folder / f"{name}-full.json"
    if not path.exists():
        small = potstill.distill(splits, "random", ipc=1, seed=0, progress=None)
        cards = {n: card_of(small, splits, n, args.students if s else 1, 0, True) for n, s in LEARNERS.items()}
        path.write_text(json.dumps({n: c["full"]["mean"] for n, c in cards.items()}))
    return dict(json.loads(path.read_text()))


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    for part in result["parts"]:
        shape = "×".join(map(str, part["shape"]))
        print(
            f"\n{part['name']}: {part['train']} series of {shape}, {part['classes']} classes; {part['items']} per class"
        )
        print(f"{'':20}{'bytes':>8}{'items':>7}" + "".join(f"{n:>26}" for n in LEARNERS))
        for row in part["rows"]:
            if "reason" in row:
                print(f"{row['row']:20}{row['reason'][:100]}")
                continue
            cells = []
            for v in row["scores"].values():
                ends = "" if v["ci95"] is None else " [{:.1f}, {:.1f}]".format(*(100 * e for e in v["ci95"]))
                cells.append(f"{100 * v['mean']:.1f}{ends}")
            print(f"{row['row']:20}{row['bytes']:8,.0f}{row['items']:7}" + "".join(f"{c:>26}" for c in cells))
        print(f"{'all series':35}" + "".join(f"{100 * part['full'][n]:26.1f}" for n in LEARNERS))
        for pair in part["pairs"]:
            gap = pair["difference"]
            print(f"  {pair['learner']}: {pair['row']} minus best real series {100 * gap['mean']:+.1f}", gap["ci95"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("archive"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/series_classes"))
    parser.add_argument("--out", type=Path, default=Path("results/series_classes.json"))
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for name, several in SETS.items():
        splits = potstill.load_data(args.data / name)
        assert splits.test is not None
        every = full(name, splits, args)
        for items in several:
            found: dict[str, list[Any]] = {row: [] for row in ROWS}
            for seed in range(args.seeds):
                bytes_ = None
                for row in ROWS:
                    found[row].append(cell(name, items, row, splits, seed, args, bytes_))
                    bytes_ = bytes_ or found[row][-1]["bytes"]
            parts.append({
                "name": name, "items": items, "shape": list(splits.train.input.shape), "train": len(splits.train),
                "test": len(splits.test), "classes": len(splits.train.classes), "full": every,
                **summarize(found, len(splits.test)),
            })  # fmt: skip
    result = {"parts": parts, "seeds": args.seeds, "students": args.students, "machine": machine()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


def summarize(found: Mapping[str, list[Any]], test: int) -> dict[str, Any]:
    """Return rows, and what each learned set has over the best real series, on ``test`` samples."""
    rows: list[dict[str, Any]] = []
    for row, made in found.items():
        reason = next((c["reason"] for c in made if "reason" in c), None)
        rows.append(
            {"row": row, "reason": reason} if reason else {
                "row": row, "bytes": sum(c["bytes"] for c in made) / len(made), "items": max(c["items"] for c in made),
                "codecs": sorted({c["codec"] for c in made}), "seconds": sum(c["seconds"] for c in made) / len(made),
                "scores": {n: summary([c["scores"][n] for c in made], test) for n in LEARNERS},
            }
        )  # fmt: skip
    real = found["best real series"]
    pairs = [
        {
            "row": row, "learner": n,
            "difference": paired_difference([c["scores"][n] for c in found[row]], [c["scores"][n] for c in real]),
        }
        for row in ("kip", "dm") for n in LEARNERS
        if not any("reason" in c for c in (*found[row], *real))
    ]  # fmt: skip
    return {"rows": rows, "pairs": pairs}


if __name__ == "__main__":
    main()
