"""Whether every method's quick effort, cut to seconds, leaves a set that is worth having on small data.

    python benchmarks/sane.py [--data digits] [--ipc 5] [--budget 60] [--methods mtt dm …]

Settings that fit the data of a paper can ruin small data without a word: a set is made, a file is written, and its
students tell less right than by guessing. Each registered method that takes the data makes one set of ``--ipc`` float32
inputs a class from three quarters of the training data with its quick effort in at most ``--budget`` seconds, what it
trains first among them; students by protocol `potstill` are tested on the other quarter. Random real samples and
guessing stand beside. Nothing is chosen by it. Results: results/sane-DATA.json, after every method.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.core import Splits
from potstill.core.registry import names, resolve
from potstill.data import TensorSource, holdout
from potstill.errors import PotstillError
from potstill.evaluation import evaluate
from potstill.execution import Serial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--methods", nargs="+", default=names("methods"))
    parser.add_argument("--ipc", type=int, default=5)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--network", default="convnet-d3-w16")
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = potstill.load_data(args.data)
    assert isinstance(data.train, TensorSource)
    train, held = holdout(data.train, 0.25, 0)
    protocol = resolve("protocols", "potstill").override(steps=300, least_epochs=0, batch=128, lr=0.03, validation=0.0)
    out = args.out / f"sane-{args.data}.json"
    kept: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {"methods": {}}
    kept |= {"machine": machine(), "options": vars(args) | {"out": "", "methods": []}}
    for method in args.methods:
        if method in kept["methods"]:
            continue
        try:
            cell = tried(method, train, held, protocol, args, args.network)
        except PotstillError as error:
            cell = {"refused": str(error)}
        if "BatchNorm" in cell.get("refused", ""):
            network = f"{args.network}-batch"
            cell = {"network": network, **tried(method, train, held, protocol, args, network)}
        kept["methods"][method] = cell
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(kept, indent=1) + "\n")
        print(f"{method}: {cell}", flush=True)


def tried(method: str, train: Any, held: Any, protocol: Any, args: argparse.Namespace, network: str) -> dict[str, Any]:
    """What students of the method's set tell right, and how it ended; made in ``network``."""
    given = {"network": network} if hasattr(resolve("methods", method), "network") else {}
    small = potstill.distill(
        Splits(train=train, test=None), method, ipc=args.ipc, codec="float32", device="cpu", executor="serial",
        preset="quick", time_limit=args.budget, progress=None, **given,
    )  # fmt: skip
    found = evaluate(
        small, Splits(train=train, test=held), protocol=protocol, networks=[args.network], seeds=2, baselines=False,
        full=False, robust_scores=False, executor=Serial(),
    ).to_dict()  # fmt: skip
    cost, x = small.metadata["cost"], small.inputs
    return {
        "accuracy": found["accuracy"]["mean"], "outcome": small.metadata["outcome"]["kind"], "steps": cost["steps"],
        "seconds": cost["seconds"], "before": cost["preparation_seconds"],
        "largest": float(x.abs().max()) if isinstance(x, torch.Tensor) else None,
    }  # fmt: skip


if __name__ == "__main__":
    main()
