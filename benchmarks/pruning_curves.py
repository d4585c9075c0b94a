"""Pruning curves: accuracy against the part of the data that is kept, with right and with wrong labels.

    python benchmarks/pruning_curves.py --repeats 5                       # docs/benchmarks/selection.md, two hours
    python benchmarks/pruning_curves.py --subset 6000 --steps 1500 --repeats 5 --epochs 30 \\
        --keep 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1                      # more of it, in hours
    python benchmarks/pruning_curves.py --plot                            # only draw docs/img/pruning-*.svg

All registered methods that select real samples with hard labels take part. A repeat draws its own training samples,
its own wrong labels and its own student, the same for all methods, so that methods can be compared pairwise. Wrong
labels are drawn uniformly among the other classes; test labels are right. A class keeps its share of the budget by its
size with the labels as they are (wrong ones too). Methods that read a record of training share one of ``--epochs``
epochs, by default 100, half of what is published, so that the samples are learned and a window of 10 epochs is a tenth
of the record. ``tdds`` has its own, 30 of 200; ``irt`` and ``glicko`` ask many half-trained models and no dynamics, so
theirs have 12; runs are fewer than published (``SETTINGS``). Every student makes the same number of steps, whatever is
kept: fewer samples are seen more often. Where a method weighs its samples,
a batch's loss is the mean of weight times loss, weights over their mean. ``full`` is all samples.

``digits-table``: scikit-learn's 8×8 digits as rows of 64 numbers. A result is a file for each data and part of wrong
labels, written after each cell. A cell that is there, made with the same settings, is not made again, unless
``--again`` names its method; it says its machine where that is not the file's. The epochs recorded are a setting of the
cells whose methods read a record, so another ``--epochs`` makes only these again.
"""

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine
from sklearn.datasets import load_digits
from torch import Tensor

from potstill.augment.names import named_augmentation
from potstill.core import Selection, Splits, registry
from potstill.data import TensorSource
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError
from potstill.evaluation.statistics import summary
from potstill.functional.pruning import proportional_counts
from potstill.nn import factory
from potstill.pretraining import build_assets
from potstill.rng import derive_seed, generator
from potstill.runs.load_data import load_data
from potstill.runs.resolve import resolve_run
from potstill.runs.spec import RunSpec

SETTINGS: dict[str, dict[str, Any]] = {
    "el2n": {"runs": 3, "epoch": 10}, "grand": {"runs": 3, "epoch": 10},
    "irt": {"runs": 4, "record_epochs": 12}, "glicko": {"runs": 4, "record_epochs": 12},
    "tdds": {"record_epochs": 200},
}  # fmt: skip
"""What differs from a method's own settings, beside the length of training. TDDS keeps its own: 30 of 200 epochs.
EL2N and GraNd look after a tenth of the schedule, as published (20 of 200)."""
NETWORKS = {"image": "convnet-d2-w16", "table": "mlp"}
ROWS = Path("results/pruning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["digits-table", "fashion-mnist"])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.2])
    parser.add_argument("--keep", nargs="+", type=float, default=[0.1, 0.3, 0.6])
    parser.add_argument("--methods", nargs="+", default=None, help="else all that select")
    parser.add_argument("--again", nargs="+", default=[], help="methods to measure again")
    parser.add_argument("--subset", type=int, default=1000, help="training samples of a repeat; half, of a table")
    parser.add_argument("--test", type=int, default=2000, help="test samples, at most")
    parser.add_argument("--epochs", type=int, default=100, help="of the recorded training")
    parser.add_argument("--steps", type=int, default=200, help="of a student")
    parser.add_argument("--batch", type=int, default=32, help="of a student")
    parser.add_argument("--lr", type=float, default=0.05, help="of a student and of the recorded training")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no cell after so many")
    parser.add_argument("--plot", action="store_true", help="only draw what is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.plot:
        ROWS.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + 60 * args.minutes
        for data in args.data:
            for noise in args.noise:
                measure(data, noise, args, end)
    for path in sorted(ROWS.glob("*.json")):
        made = json.loads(path.read_text(encoding="utf-8"))
        out = Path("docs/img") / f"pruning-{path.stem}.svg"
        out.write_text(plot(made), encoding="utf-8")


def selecting() -> list[str]:
    """Registered methods whose sets are real samples with hard labels."""
    kinds = {name: registry.resolve("methods", name) for name in registry.names("methods")}
    return [n for n, kind in kinds.items() if kind.info.is_selection and not kind.info.soft_labels]


def recorded(method: str, args: argparse.Namespace) -> int | None:
    """Epochs of the training whose record the method reads; ``None`` where it reads none."""
    if method == "full" or "record_epochs" not in _fields(method):
        return None
    return int(SETTINGS.get(method, {}).get("record_epochs", args.epochs))


def _fields(method: str) -> set[str]:
    return {f.name for f in dataclasses.fields(registry.resolve("methods", method))}


def read(name: str) -> Splits:
    if name == "digits-table":
        x, y = load_digits(return_X_y=True)
        return load_data((x.astype("float32"), y), split_seed=0)
    return load_data(name)


def drawn(splits: Splits, args: argparse.Namespace, noise: float, repeat: int) -> tuple[TensorSource, Tensor]:
    """The training samples of a repeat, and which of their labels are wrong."""
    train = splits.train
    assert isinstance(train, TensorSource)
    rng = generator(repeat, "pruning")
    n = min(args.subset if train.input.kind == "image" else args.subset // 2, len(train))
    some = train.subset(torch.randperm(len(train), generator=rng)[:n])
    k, wrong = len(train.classes), torch.rand(n, generator=rng) < noise
    other = (some.labels + 1 + torch.randint(0, k - 1, (n,), generator=rng)) % k
    return dataclasses.replace(some, labels=torch.where(wrong, other, some.labels)), wrong


def measure(data: str, noise: float, args: argparse.Namespace, end: float) -> None:
    path = ROWS / f"{data}-{noise:g}.json"
    splits = read(data)
    test = splits.test
    assert isinstance(test, TensorSource)
    kind = splits.train.input.kind
    settings = {
        "network": NETWORKS[kind], "subset": args.subset, "test": min(args.test, len(test)),
        "steps": args.steps, "batch": args.batch, "lr": args.lr, "repeats": args.repeats,
    }  # fmt: skip
    made: dict[str, Any] = {"data": data, "noise": noise, "machine": machine(), "settings": settings, "cells": {}}
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["settings"] == settings:
            made["cells"] = {
                n: cell for n, cell in kept["cells"].items()
                if cell["method"] not in args.again and cell.get("epochs") == recorded(cell["method"], args)
            }  # fmt: skip
            made["machine"] = kept["machine"]
        else:
            print(f"{path}: was made with other settings and is made anew")
    held = test.subset(torch.randperm(len(test), generator=generator(0, "test"))[: args.test])
    methods = args.methods or selecting()
    every = [("full", 1.0), *((m, k) for k in args.keep for m in selecting())]
    order = {f"{m} {k:g}": place for place, (m, k) in enumerate(every)}
    for method, keep in [("full", 1.0), *((m, k) for k in args.keep for m in methods)]:
        cell = f"{method} {keep:g}"
        if cell in made["cells"]:
            continue
        if time.monotonic() > end:
            print(f"{data} {noise:g}: time is up before {cell}; the same command goes on there")
            return
        begun, values, shares_wrong = time.monotonic(), [], []
        try:
            for repeat in range(args.repeats):
                train, wrong = drawn(splits, args, noise, repeat)
                chosen = Selection(index=torch.arange(len(train)))
                if method != "full":
                    chosen = select(Splits(train=train, test=None), method, keep, args, NETWORKS[kind], repeat)
                values.append(student(train, chosen, held, NETWORKS[kind], args, repeat))
                shares_wrong.append(float(wrong[chosen.index].float().mean()))
        except PotstillError as error:
            made["cells"][cell] = {
                "method": method,
                "keep": keep,
                "epochs": recorded(method, args),
                "error": str(error),
            }
        else:
            made["cells"][cell] = {
                "method": method, "keep": keep, "epochs": recorded(method, args),
                "accuracy": summary(values, len(held)), "wrong": sum(shares_wrong) / len(values),
                "seconds": round(time.monotonic() - begun, 1),
            }  # fmt: skip
            if made["machine"] != (here := machine()):
                made["cells"][cell]["machine"] = here
            print(f"{data} {noise:g} {cell}: {100 * sum(values) / len(values):.1f} %", flush=True)
        made["cells"] = dict(sorted(made["cells"].items(), key=lambda named: order.get(named[0], len(order))))
        write_atomic(path, (json.dumps(made, indent=1) + "\n").encode())
    for keep in args.keep:
        base = made["cells"].get(f"random {keep:g}")
        for name, cell in made["cells"].items():
            if base and "accuracy" in cell and cell["keep"] == keep and cell["method"] != "random":
                pairs = zip(cell["accuracy"]["values"], base["accuracy"]["values"], strict=True)
                made["cells"][name]["over_random"] = summary([a - b for a, b in pairs])
    write_atomic(path, (json.dumps(made, indent=1) + "\n").encode())


def select(splits: Splits, method: str, keep: float, args: argparse.Namespace, network: str, repeat: int) -> Selection:
    """What a method keeps, each class by its share."""
    fields = _fields(method)
    asked = {"record_epochs": args.epochs, "lr": args.lr, **SETTINGS.get(method, {})}
    options = {n: v for n, v in asked.items() if n in fields}
    network = network if "network" in fields else None
    settled = resolve_run(
        RunSpec(splits, method, ipc=1, network=network, device="cpu", preset="published", options=options)
    )
    train, made = splits.train, settled.method
    sizes = torch.bincount(train.labels, minlength=len(train.classes)).tolist()
    counts = proportional_counts(sizes, round(keep * len(train)))
    problem = dataclasses.replace(settled.problem, counts=counts)
    assets, _ = build_assets(made.assets(problem), train, problem.network, lambda n: named_augmentation(n, train))
    problem, rng = dataclasses.replace(problem, assets=assets), generator(repeat, "pruning", method)
    state = made.init(problem, rng)
    while not made.done(problem, state):
        state, _ = made.step(problem, state, rng)
    result = made.result(problem, state)
    if not isinstance(result, Selection):
        raise PotstillError(f"{method} keeps no real samples with these settings")
    return result


def student(
    train: TensorSource, chosen: Selection, test: TensorSource, network: str, args: argparse.Namespace, repeat: int
) -> float:
    """Test accuracy of a network after ``args.steps`` steps on what was chosen; the rate falls as a cosine."""
    make = factory(network, train.input, len(train.classes))
    net, rng = make(derive_seed(repeat, "student")).train(), generator(repeat, "student")
    opt = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(opt, args.steps)
    order, index = torch.empty(0, dtype=torch.int64), chosen.index
    weights = torch.zeros(len(train))
    if chosen.weights is not None:
        weights[index] = chosen.weights / chosen.weights.mean()
    for _ in range(args.steps):
        while len(order) < args.batch:
            order = torch.cat([order, index[torch.randperm(len(index), generator=rng)]])
        at, order = order[: args.batch], order[args.batch :]
        batch = train.fetch(at)
        opt.zero_grad()
        if chosen.weights is None:
            loss = F.cross_entropy(net(batch.x), batch.y)
        else:
            loss = (F.cross_entropy(net(batch.x), batch.y, reduction="none") * weights[at]).mean()
        loss.backward()
        opt.step()
        plan.step()
    batch = test.fetch(torch.arange(len(test)))
    with torch.no_grad():
        return float((net.eval()(batch.x).argmax(1) == batch.y).float().mean())


def plot(made: Mapping[str, Any]) -> str:
    """A small panel for each method: its curve with intervals, and random's, dashed."""
    from potstill._util.html import Html, tag

    cells = [c for c in made["cells"].values() if "accuracy" in c]
    names = list(dict.fromkeys(c["method"] for c in cells if c["method"] not in ("full", "random")))
    full = next((c["accuracy"]["mean"] for c in cells if c["method"] == "full"), None)
    ends = [x for c in cells for x in (c["accuracy"]["ci95"] or [c["accuracy"]["mean"]])]
    low, high = max(0.0, min(ends)), min(1.0, max(ends))
    w, h, left, across = 150, 110, 44, 5

    def line(method: str, x0: float, y0: float, kind: str) -> list[Html]:
        rows = sorted((c["keep"], c["accuracy"]) for c in cells if c["method"] == method)
        if full is not None and method != "full":
            rows = [*rows, (1.0, {"mean": full, "ci95": [full, full]})]

        def at(k: float, a: float) -> str:
            return f"{x0 + w * k:.1f},{y0 + h * (high - a) / (high - low):.1f}"

        bars = [
            tag("polyline", points=f"{at(k, max(low, a['ci95'][0]))} {at(k, min(high, a['ci95'][1]))}", class_="bar")
            for k, a in rows if kind == "own" and a["ci95"]
        ]  # fmt: skip
        return [*bars, tag("polyline", points=" ".join(at(k, a["mean"]) for k, a in rows), class_=kind)]

    parts: list[Html] = []
    for i, name in enumerate(names):
        x0, y0 = left + (w + 24) * (i % across), 60 + (h + 44) * (i // across)
        parts += [
            tag("rect", x=x0, y=y0, width=w, height=h, class_="frame"),
            *line("random", x0, y0, "random"), *line(name, x0, y0, "own"),
            tag("text", name, x=x0, y=y0 - 6),
        ]  # fmt: skip
        if i % across == 0:
            parts += [
                tag("text", f"{100 * a:.0f}", x=x0 - 6, y=y0 + (10 if a == high else h), text_anchor="end")
                for a in (high, low)
            ]
    noise = f"{100 * made['noise']:.0f} % wrong labels" if made["noise"] else "right labels"
    title = f"{made['data']}, {noise}: test accuracy (%) against the part kept (0 to 1); dashed: random"
    style = (
        "svg{background:#faf8f4;font:12px system-ui,sans-serif;fill:#1f2428}polyline,.frame{fill:none}"
        ".frame{stroke:#e3dfd6}.random{stroke:#5f7486;stroke-dasharray:4 3}.own{stroke:#a34a1c;stroke-width:2}"
        ".bar{stroke:#a34a1c}@media (prefers-color-scheme:dark){svg{background:#14171a;fill:#e9e6e0}"
        ".frame{stroke:#30363c}.random{stroke:#8fa5b8}.own,.bar{stroke:#eb9a68}}"
    )
    height = 60 + (h + 44) * -(-len(names) // across)
    return tag(
        "svg", tag("title", title), tag("style", Html(style)), tag("text", title, x=left, y=24, font_weight="bold"),
        *parts, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {left + (w + 24) * across} {height}", role="img",
        aria_label=title,
    )  # fmt: skip


if __name__ == "__main__":
    main()
