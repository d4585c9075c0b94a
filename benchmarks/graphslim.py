"""Sets of Cora's nodes by Potstill's evaluation and by GraphSlim's own, ours and those of GraphSlim.

    python benchmarks/graphslim.py --graphslim CHECKOUT --data cora.npz [--seeds 3]
    python benchmarks/graphslim.py --show

``CHECKOUT`` is Emory-Melody/GraphSlim (86382ce was used), whose packages are installed beside Potstill's:
torch-geometric, scikit-fuzzy, pygsp, sortedcontainers. Where ``torch_sparse`` is missing, a class with the sparse
products that a GCN needs stands in; other missing packages (ogb, dgl, networkit, …) are of data and methods that are
not used, and empty modules stand in. GraphSlim's evaluation is its ``Evaluator`` with its defaults (a GCN of 256 units,
300 updates) but for ``run_eval``; Potstill's is its learner ``gcn``.
"""

import argparse
import contextlib
import io
import json
import logging
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from graphs import items_per_class, score
from machine import machine

import potstill
from potstill.core import Splits
from potstill.evaluation.statistics import paired_difference, summary
from potstill.exporters.graphslim import nodes_of_set
from potstill.rng import derive_seed

NODES = 70
OURS: dict[str, dict[str, Any]] = {
    "dm": {"method": "dm"},
    "k-means, means": {"method": "k-means", "keep": "centroid"},
    "dc, learned edges": {"method": "dc", "parametrization": "learned-graph"},
}
THEIRS = {"GraphSlim random": False, "GraphSlim random, propagated": True}
"""Sets that GraphSlim makes: real nodes with their edges, and (``agg``) without edges on propagated features."""


class SparseTensor:
    """The part of torch_sparse's class that GraphSlim's data and its GCN use."""

    def __init__(self, row: Any, col: Any, value: Any = None, sparse_sizes: Any = None) -> None:
        value = torch.ones(len(row)) if value is None else value
        sparse_sizes = sparse_sizes or 2 * (int(max(row.max(), col.max())) + 1,)
        self.held = torch.sparse_coo_tensor(torch.stack([row, col]), value, sparse_sizes, check_invariants=False)

    @classmethod
    def from_edge_index(cls, edge_index: Any) -> "SparseTensor":
        return cls(edge_index[0], edge_index[1])

    def t(self) -> "SparseTensor":
        other = object.__new__(SparseTensor)
        other.held = self.held.t().coalesce()
        return other

    def __matmul__(self, x: Any) -> Any:
        return torch.sparse.mm(self.held, x)


class _Missing(types.ModuleType):
    """An empty module in place of a package that is not installed."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def open_graphslim(checkout: Path) -> Any:
    """Return GraphSlim's modules, with stand-ins for packages that are missing, which are printed."""
    sys.path.insert(0, str(checkout))
    missing: list[str] = []
    while True:
        try:
            from graphslim import config, dataset, evaluation, sparsification, utils  # type: ignore[import-not-found]

            break
        except ModuleNotFoundError as error:
            name = str(error.name)
            if name in sys.modules or name.startswith("graphslim"):
                raise
            module = sys.modules[name] = _Missing(name)
            if name.startswith("torch_sparse"):
                vars(module).update(SparseTensor=SparseTensor, matmul=lambda a, x: a @ x, tensor=module)
            parent, _, child = name.rpartition(".")
            if parent in sys.modules:
                setattr(sys.modules[parent], child, module)
            missing.append(name)
            for each in [each for each in sys.modules if each.partition(".")[0] == "graphslim"]:
                del sys.modules[each]
    print("stand-ins for", ", ".join(missing) or "nothing")
    return types.SimpleNamespace(
        config=config, dataset=dataset, evaluation=evaluation, sparsification=sparsification, utils=utils
    )


def settings(of: Any, folder: Path, method: str, seed: int, runs: int, agg: bool = False) -> Any:
    """Return GraphSlim's arguments, its defaults but for those of the graph."""
    held = {p.name: p.default if isinstance(p.default, int | float | str) else None for p in of.config.cli.params}
    held |= {
        "dataset": "cora", "method": method, "setting": "trans", "reduction_rate": NODES / 140, "seed": seed,
        "save_path": str(folder), "device": "cpu", "run_eval": runs, "metric": of.utils.accuracy, "attack": None,
        "logger": logging.getLogger("graphslim"), "agg": agg, "verbose": False, "hidden": 256, "nlayers": 2,
    }  # fmt: skip
    return types.SimpleNamespace(**held)


def graph_of(of: Any, path: Path) -> Any:
    """Return the graph as GraphSlim's loader has it."""
    from torch_geometric.data import Data  # type: ignore[import-not-found]

    held = np.load(path)
    edges = torch.from_numpy(held["edge_index"]).long()
    edges = torch.unique(torch.cat([edges, edges.flip(0)], 1), dim=1)
    edges = edges[:, edges[0] != edges[1]]
    masks = {name: torch.from_numpy(held[name]) for name in ("train_mask", "val_mask", "test_mask")}
    labels = torch.from_numpy(held["labels"]).long()
    data = Data(x=torch.from_numpy(held["features"]), y=labels, edge_index=edges, **masks)
    data = of.dataset.loader.splits(data, "fixed")
    made = of.dataset.loader.TransAndInd(data, "cora", True)
    made.nclass = int(data.y.max()) + 1
    return made


def judge(of: Any, data: Any, args: Any) -> list[float]:
    """Return the accuracies of GraphSlim's own evaluation, one for each student."""
    found = []
    for run in range(args.run_eval):
        of.utils.seed_everything(args.seed + run)
        with contextlib.redirect_stdout(io.StringIO()):
            data.feat_syn, data.adj_syn, data.labels_syn = of.dataset.get_syn_data(data, args, model_type="GCN")
            found.append(float(of.evaluation.Evaluator(args).test(data, model_type="GCN", verbose=False)[1]))
    return found


def measure(splits: Splits, small: Any, seed: int, students: int) -> list[float]:
    """Return the accuracies of Potstill's learner ``gcn``."""
    return [score(splits, "gcn", derive_seed(seed, "student", n), small) for n in range(students)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphslim", type=Path, help="checkout of GraphSlim")
    parser.add_argument("--data", type=Path, help="cora.npz")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/graphslim"))
    parser.add_argument("--out", type=Path, default=Path("results/graphslim.json"))
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    splits, of = potstill.load_data(args.data), open_graphslim(args.graphslim.resolve())
    data, cells = graph_of(of, args.data), dict[str, list[dict[str, Any]]]()
    rate = NODES / 140
    for name in (*OURS, *THEIRS):
        for seed in range(args.seeds):
            path = args.folder / f"{name.replace(' ', '_')}-{seed}.json"
            if not path.exists():
                method = name.replace(" ", "_").replace(",", "")
                using = settings(of, args.folder.resolve(), method, seed, args.students, THEIRS.get(name, False))
                folder = args.folder / "reduced_graph" / method
                if name in OURS:
                    ipc = items_per_class(splits, NODES, OURS[name].get("parametrization"))
                    small = potstill.distill(
                        splits, seed=seed, ipc=ipc, codec="uint8", progress=None, device="cpu", executor="serial",
                        **OURS[name],
                    )  # fmt: skip
                    folder.parent.mkdir(exist_ok=True)
                    potstill.export(small, "graphslim", args.folder / f"out-{method}-{seed}")
                    folder.mkdir(exist_ok=True)
                    for part in ("feat", "adj", "label"):  # under the seed and rate by which its evaluation asks
                        (file,) = (args.folder / f"out-{method}-{seed}").glob(f"{part}_*.pt")
                        file.rename(folder / f"{part}_cora_{rate}_{seed}.pt")
                else:
                    of.utils.seed_everything(seed)
                    data.labels_syn = None
                    with contextlib.redirect_stdout(io.StringIO()):
                        of.sparsification.Random(setting="trans", data=data, args=using).reduce(data, save=True)
                    small = potstill.import_set(folder / f"feat_cora_{rate}_{seed}.pt", "graphslim", data=splits)
                weights = nodes_of_set(small)[1]
                path.write_text(json.dumps({
                    "nodes": len(small), "edges": 0 if weights is None else int((weights > 0).sum()) // 2,
                    "potstill": measure(splits, small, seed, args.students), "graphslim": judge(of, data, using),
                }))  # fmt: skip
            cells.setdefault(name, []).append(json.loads(path.read_text()))
            print(name, seed, cells[name][-1], flush=True)
    rows = []
    for name, found in cells.items():
        means = {who: [sum(c[who]) / len(c[who]) for c in found] for who in ("potstill", "graphslim")}
        rows.append({
            "row": name, "nodes": found[0]["nodes"], "edges": sum(c["edges"] for c in found) / len(found),
            **{who: summary(values) for who, values in means.items()},
            "difference": paired_difference(means["potstill"], means["graphslim"]),
        })  # fmt: skip
    result = {"machine": machine(), "seeds": args.seeds, "students": args.students, "hash": splits.train.content_hash,
              "rows": rows}  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


def show(result: Any) -> None:
    """Print the table."""
    print(f"{'':32}{'nodes':>6}{'edges':>7}  potstill   graphslim")
    for row in result["rows"]:
        both = "".join(f"{100 * row[who]['mean']:10.1f}" for who in ("potstill", "graphslim"))
        print(f"{row['row']:32}{row['nodes']:6}{row['edges']:7.0f}{both}")


if __name__ == "__main__":
    main()
