"""Sets of nodes of Cora and Citeseer, measured on the original graphs.

    python benchmarks/graphs.py --data FOLDER [--seeds 3] [--students 3]
    python benchmarks/graphs.py --show

``FOLDER`` has ``cora.npz`` and ``citeseer.npz``: the public splits of Planetoid as ``potstill`` reads them (features,
edge_index, labels, train_mask, val_mask, test_mask). Every cell is a file under ``--folder``, from which an interrupted
run goes on; the summary goes to ``results/graphs.json``, and leaves out what is not there for every set. Nothing is
chosen on test nodes: methods have their presets, and validation nodes choose a student's update, as in GCond. Sets
are structure-free but for those with learned edges, stored with 8 bits a value.
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
from potstill.evaluation.estimators import make_learner
from potstill.evaluation.set_graph import graph_of_set
from potstill.evaluation.statistics import paired_difference, summary
from potstill.parametrize.learned_graph import LearnedGraph
from potstill.rng import derive_seed
from potstill.tasks import get_targets

SIZES = {"cora": (70, 35, 140), "citeseer": (60, 30, 120)}
"""Nodes in all: 2.6, 1.3 and 5.2 % of Cora's, 1.8, 0.9 and 3.6 % of Citeseer's."""
ROWS: dict[str, dict[str, Any]] = {
    "random": {"method": "random"},
    "herding": {"method": "herding"},
    "k-center": {"method": "k-center"},
    "k-means": {"method": "k-means"},
    "k-means, means (class partition)": {"method": "k-means", "keep": "centroid"},
    "dc (GCondX)": {"method": "dc"},
    "dm": {"method": "dm"},
    "kip, hard labels": {"method": "kip", "labels": "hard"},
    "frepo": {"method": "frepo"},
    "dc (GCondX), preset good": {"method": "dc", "preset": "good"},
    "dc, learned edges (GCond)": {"method": "dc", "parametrization": "learned-graph"},
    "dm, learned edges": {"method": "dm", "parametrization": "learned-graph"},
    "dm, bytes of GCond": {"method": "dm", "of": "dc, learned edges (GCond)"},
    "k-means, means, bytes of GCond": {"method": "k-means", "keep": "centroid", "of": "dc, learned edges (GCond)"},
    "random, bytes of GCond": {"method": "random", "of": "dc, learned edges (GCond)"},
    "real, bytes of dm": {"method": "real", "of": "dm"},
    "all labelled nodes, 1 bit": {"method": "random", "ipc": 20, "codec": "uint1"},
    "all labelled nodes, 2 bits": {"method": "random", "ipc": 20, "codec": "uint2"},
    "random, 2 bits": {"method": "random", "codec": "uint2"},
    "herding, 1 bit": {"method": "herding", "codec": "uint1"},
    "herding, 2 bits": {"method": "herding", "codec": "uint2"},
    "k-means, means, 1 bit": {"method": "k-means", "keep": "centroid", "codec": "uint1"},
    "k-means, means, 2 bits": {"method": "k-means", "keep": "centroid", "codec": "uint2"},
    "dm, 2 bits": {"method": "dm", "codec": "uint2"},
}
"""Rows: how the set is made, with preset quick and 8 bits a value where nothing else is named; ``of``: in the bytes of
another row. ``real`` chooses its bits on held-out training nodes."""
LARGE = ("dc (GCondX), preset good", "dc, learned edges (GCond)", "dm, learned edges")
"""Rows at the first size of each graph alone, as are those in the bytes of another row, and in 1 or 2 bits."""
EDGED = ("cora",)
"""Graphs whose sets are also made with learned edges, and the rows in their bytes."""
LEARNERS = {"gcn": "gcn", "sgc": "sgc", "node-mlp": "node-mlp"}
PUBLISHED = {
    "source": "arXiv:2402.04924v3, which repeats the figures of GCond (arXiv:2110.07580) and SFGC (arXiv:2306.02664)",
    "cora": {
        35: {"random": 63.6, "herding": 67.0, "GCond": 79.8, "SFGC": 80.1},
        70: {"random": 72.8, "herding": 73.4, "GCond": 80.1, "SFGC": 81.7},
        140: {"random": 76.8, "herding": 76.8, "GCond": 79.3, "SFGC": 81.6}, "all": 81.2,
    },
    "citeseer": {
        30: {"random": 54.4, "herding": 57.1, "GCond": 70.5, "SFGC": 71.4},
        60: {"random": 64.2, "herding": 66.7, "GCond": 70.6, "SFGC": 72.4},
        120: {"random": 69.1, "herding": 69.0, "GCond": 69.8, "SFGC": 70.6}, "all": 71.7,
    },
}  # fmt: skip
"""Published test accuracies of a GCN, in percent."""


def score(splits: Splits, spec: str, seed: int, small: Any = None) -> float:
    """Return the test accuracy of one student of a set, or of the graph itself."""
    assert splits.test is not None
    make = make_learner(spec, splits.train)
    if small is None:
        answers = make.fit_all(splits.train, splits.test, seed)
    else:
        answers = make.fit_predict(
            splits.test, small.model_space(), small.labels, None, seed, edges=graph_of_set(small)
        )
    return float((answers == get_targets(splits.test)).double().mean())


def items_per_class(splits: Splits, nodes: int, parametrization: str | None) -> int:
    """Return the items of a class that give so many nodes in all: edges take the place of some."""
    classes, shape = len(splits.train.classes), splits.train.input.shape
    ipc = nodes // classes
    while parametrization and sum(LearnedGraph().sizes((ipc * shape[0],) * classes, shape)) < nodes:
        ipc += 1
    return ipc


def cell(splits: Splits, graph: str, nodes: int, name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return one set of a row, from its file or measured anew."""
    path = args.folder / f"{graph}-{nodes}-{seed}-{name.replace(' ', '_')}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    begun = time.monotonic()
    settings = dict(ROWS[name])
    if other := settings.pop("of", None):
        settings["bytes"] = round(cell(splits, graph, nodes, other, seed, args)["bytes"])
    elif "ipc" not in settings:
        settings["ipc"] = items_per_class(splits, nodes, settings.get("parametrization"))
    if settings["method"] != "real":
        settings.setdefault("codec", "uint8")
    small = potstill.distill(splits, seed=seed, progress=None, device="cpu", executor="serial", **settings)
    made = time.monotonic() - begun
    scores = {
        learner: [score(splits, spec, derive_seed(seed, "student", n), small) for n in range(args.students)]
        for learner, spec in LEARNERS.items()
    }
    found = {
        "bytes": charged_bytes(small.metadata["bytes"]), "items": len(small), "scores": scores,
        "seconds": round(made, 1),
    }  # fmt: skip
    path.write_text(json.dumps(found))
    return found


def full(splits: Splits, graph: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the accuracies of students of the graph itself."""
    path = args.folder / f"{graph}-full.json"
    if not path.exists():
        seeds = [derive_seed(n, "full") for n in range(args.students)]
        path.write_text(json.dumps({n: summary([score(splits, s, i) for i in seeds]) for n, s in LEARNERS.items()}))
    return dict(json.loads(path.read_text()))


def wanted(graph: str, rank: int, name: str) -> bool:
    """Tell whether a row is measured at a size of a graph."""
    row = ROWS[name]
    edged = "of" in row or "parametrization" in row
    coarse = name.endswith((" bit", " bits"))
    return (rank == 0 or not (name in LARGE or edged or coarse)) and (graph in EDGED or not edged)


def block(graph: str, nodes: int, total: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return the rows of one size that are there for every set."""
    rows, means = [], {}
    for name in ROWS:
        paths = [args.folder / f"{graph}-{nodes}-{s}-{name.replace(' ', '_')}.json" for s in range(args.seeds)]
        if not all(path.exists() for path in paths):
            continue
        cells = [json.loads(path.read_text()) for path in paths]
        means[name] = {n: [sum(c["scores"][n]) / len(c["scores"][n]) for c in cells] for n in LEARNERS}
        rows.append({
            "row": name, "bytes": sum(c["bytes"] for c in cells) / len(cells), "items": cells[0]["items"],
            "seconds": sum(c["seconds"] for c in cells) / len(cells),
            "scores": {n: summary(values) for n, values in means[name].items()},
        })  # fmt: skip
    pairs = [
        {"row": name, "other": "random", "learner": n, "difference": paired_difference(of[n], means["random"][n])}
        for name, of in means.items() if name != "random" and "random" in means for n in LEARNERS
    ]  # fmt: skip
    return {"nodes": nodes, "ratio": nodes / total, "rows": rows, "pairs": pairs}


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    for graph in result["graphs"]:
        for part in graph["parts"]:
            print(f"\n{graph['graph']}, {part['nodes']} nodes\n{'':30}{'bytes':>8}{'s':>7}", *LEARNERS, sep="   ")
            for row in part["rows"]:
                shown = "".join(f"{100 * row['scores'][n]['mean']:8.1f}" for n in LEARNERS)
                print(f"{row['row']:30}{row['bytes']:8,.0f}{row['seconds']:7.1f}{shown}")
        print(f"{'all':45}" + "".join(f"{100 * graph['full'][n]['mean']:8.1f}" for n in LEARNERS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with cora.npz and citeseer.npz")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/graphs"))
    parser.add_argument("--out", type=Path, default=Path("results/graphs.json"))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further cell after so long")
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    loaded = {graph: potstill.load_data(args.data / f"{graph}.npz") for graph in SIZES}
    for rank in range(3):  # the published sizes of most papers first
        for graph, splits in loaded.items():
            for name in ROWS:
                if not wanted(graph, rank, name):
                    continue
                for seed in range(args.seeds):
                    if time.monotonic() - begun < args.seconds:
                        found = cell(splits, graph, SIZES[graph][rank], name, seed, args)
                        print(graph, SIZES[graph][rank], name, seed, found, flush=True)
    graphs = []
    for graph, splits in loaded.items():
        total = len(splits.train.graph)  # type: ignore[attr-defined]
        parts = [part for n in sorted(SIZES[graph]) if (part := block(graph, n, total, args))["rows"]]
        if not parts:
            continue
        graphs.append({
            "graph": graph, "nodes": total, "train": len(splits.train), "hash": splits.train.content_hash,
            "full": full(splits, graph, args), "parts": parts,
            "published": {str(k): v for k, v in PUBLISHED[graph].items()},  # type: ignore[attr-defined]
        })  # fmt: skip
    result = {
        "settings": {"seeds": args.seeds, "students": args.students, "learners": LEARNERS, "codec": "uint8"},
        "published": PUBLISHED["source"], "machine": machine(), "graphs": graphs,
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
