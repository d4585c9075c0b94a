"""Sets with formal privacy beside a private linear map on the same public features at the same ε.

    python benchmarks/trust/private.py [--epsilons 1,2,4,8] [--releases 3,1,1,1]

Each release is a set of ``--ipc`` items a class, on which an MLP, a ConvNet and a forest are trained. The rival spends
all of ε on the map that labels the set. Real samples without privacy stand beside them. Each cell is a file under
``--folder``, from which an interrupted run goes on, and the summary goes to ``results/trust/private.json``. Defaults of
the method were chosen on MNIST; nothing is chosen on the data measured here.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine
from sklearn.ensemble import RandomForestClassifier

import potstill
from potstill.core import Splits
from potstill.diagnostics import make_bench
from potstill.evaluation.statistics import summary
from potstill.private.accounting import calibrate
from potstill.private.distil import release_path
from potstill.private.door import PrivateDoor
from potstill.private.options import PrivateOptions
from potstill.private.public import public_facts
from potstill.private.release import LABELLER_SPLIT, PrivateRelease, draw_labeller, read_release

NETWORKS = {"MLP": "mlp-w256", "ConvNet": "convnet-d3-w32"}
CHUNK = 1000


def network_accuracy(small: potstill.Distilled, splits: Splits, network: str, args: argparse.Namespace) -> float:
    bench = make_bench(
        small, splits, network=network, eval_split="test", students=args.students, steps=args.steps, lr=args.lr,
        most=len(splits.test),
    )  # fmt: skip
    scores = bench.scores(bench.outputs(bench.distilled_condition(), keep=False))
    return sum(scores) / len(scores)


def forest_accuracy(small: potstill.Distilled, splits: Splits, seed: int) -> float:
    """Train on each item once for each of its classes, weighted by its label."""
    x, labels = small.inputs.flatten(1), small.labels
    rows = labels if small.has_soft_labels else torch.eye(len(small.classes))[labels]
    at, classes = torch.nonzero(rows > 0.01, as_tuple=True)
    forest = RandomForestClassifier(200, random_state=seed)
    forest.fit(x[at].numpy(), classes.numpy(), sample_weight=rows[at, classes].numpy())
    test = splits.test
    found = forest.predict(test.raw(torch.arange(len(test))).flatten(1).numpy())
    return float((torch.from_numpy(found) == test.labels).double().mean())


def students(small: potstill.Distilled, splits: Splits, seed: int, args: argparse.Namespace) -> dict[str, float]:
    found = {name: network_accuracy(small, splits, network, args) for name, network in NETWORKS.items()}
    return found | {"forest": forest_accuracy(small, splits, seed)}


def labeller_accuracy(release: PrivateRelease, splits: Splits, seed: int) -> float:
    records = public_facts(splits.test, {})
    labeller = release.labeller(records.facts, seed)
    parts = torch.arange(len(records.labels)).split(CHUNK)
    answers = torch.cat([labeller.logits(records(at)).argmax(1) for at in parts])
    return float((answers == records.labels).double().mean())


def private_set(splits: Splits, epsilon: float, seed: int, args: argparse.Namespace, at: Path) -> dict[str, Any]:
    private = {"epsilon": epsilon, "delta": args.delta}
    resume = release_path(at).exists()
    small = potstill.distill(
        splits, ipc=args.ipc, private=private, seed=seed, checkpoint=at, resume=resume, progress=None
    )
    privacy = small.metadata["privacy"]
    release = read_release(release_path(at), privacy["request"])
    return students(small, splits, seed, args) | {
        "own labeller": labeller_accuracy(release, splits, seed), "accounted": privacy["accounted_epsilon"],
        "bytes": small.metadata["bytes"]["total"],
    }  # fmt: skip


def rival(splits: Splits, epsilon: float | None, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Spend all of ε on the linear map; ``None``: without noise. The number of records is taken as public."""
    records = public_facts(splits.train, {})
    options = PrivateOptions(epsilon=epsilon or 8.0, delta=args.delta)
    shares = {"labeller mean": (LABELLER_SPLIT, 1), "labeller": (1 - LABELLER_SPLIT, options.steps)}
    queries = calibrate(shares, options.epsilon, args.delta)
    if epsilon is None:
        queries = tuple(type(q)(name=q.name, noise=1e-9, times=q.times) for q in queries)
    door = PrivateDoor(records, records.labels, queries)
    noise = {q.name: q.noise for q in queries}
    tensors = draw_labeller(door, records.facts, seed, float(len(records.labels)), options.steps, noise)
    release = PrivateRelease(tensors=tensors, queries=queries, epsilon=0.0, delta=args.delta, request="")
    return {"accuracy": labeller_accuracy(release, splits, seed)}


def cell(args: argparse.Namespace, splits: Splits, row: str, epsilon: float | None, seed: int) -> dict[str, Any]:
    """Return one cell, from its file or measured anew."""
    stem = f"{row.replace(' ', '-')}-{epsilon}-{seed}"
    path = args.folder / f"{stem}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    started = time.monotonic()
    if row == "set":
        assert epsilon is not None
        found = private_set(splits, epsilon, seed, args, args.folder / f"{stem}.checkpoint")
    elif row == "rival":
        found = rival(splits, epsilon, seed, args)
    else:
        small = potstill.distill(splits, "random", ipc=args.ipc, seed=seed, progress=None)
        found = students(small, splits, seed, args)
    found["seconds"] = round(time.monotonic() - started, 1)
    path.write_text(json.dumps(found))
    print(stem, found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--epsilons", default="1,2,4,8")
    parser.add_argument("--releases", default="3,1,1,1", help="at each ε")
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--ipc", type=int, default=50)
    parser.add_argument("--students", type=int, default=1, help="of each kind and release")
    parser.add_argument("--steps", type=int, default=600, help="updates of the networks")
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--private-only", action="store_true", help="leave out the rows without privacy")
    parser.add_argument("--folder", type=Path, default=Path("runs/private"))
    parser.add_argument("--out", type=Path, default=Path("results/trust/private.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    splits = potstill.load_data(args.data)
    rows = []
    plan = [(float(e), int(n)) for e, n in zip(args.epsilons.split(","), args.releases.split(","), strict=True)]
    kinds: list[tuple[str, float | None, int]] = []
    for epsilon, n in plan:
        kinds += [("set", epsilon, n), ("rival", epsilon, n)]
    if not args.private_only:
        kinds += [("rival", None, 1), ("random real samples", None, plan[0][1])]
    for epsilon, n in plan:  # rows of one release after the other
        for seed in range(n):
            for row in ("set", "rival"):
                cell(args, splits, row, epsilon, seed)
    for row, epsilon, n in kinds:
        cells = [cell(args, splits, row, epsilon, seed) for seed in range(n)]
        names = [name for name in cells[0] if name != "seconds"]
        values = {name: summary([c[name] for c in cells]) for name in names}
        rows.append({"row": row, "epsilon": epsilon, "n": n, **values})
        print(rows[-1], flush=True)
    settings = {key: getattr(args, key) for key in ("data", "delta", "ipc", "students", "steps", "lr")}
    options = PrivateOptions(epsilon=1.0, delta=args.delta).to_json()
    own = {name: options[name] for name in ("cells", "labeller", "steps")}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    stamp = {"settings": {**settings, "networks": NETWORKS, "private": own}, "machine": machine()}
    args.out.write_text(json.dumps({**stamp, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
