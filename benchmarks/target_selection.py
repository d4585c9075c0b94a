"""Texts of a mixed corpus that help a target: LESS beside random texts, the nearest by embedding, and the nearest of
each class.

    python benchmarks/target_selection.py              # results/target_selection.json
    python benchmarks/target_selection.py --show

Descriptions of Debian packages (`text.py`), as 64 numbers each. Corpus: 3,000 of twelve sections. Target: 10 of each of
three sections, drawn anew in each repeat; the test part is 400 others of each of these. ``wrong`` is the part of the
corpus whose label is another one, drawn at random: embeddings do not see it. A selection of each size is learned by an
MLP (the protocol ``potstill``'s rates are not tried: 200 updates at 0.1), beside the target samples, which every row
has in training, too, and alone in the first row. Nothing is chosen on the test part; that LESS's network
learns the whole corpus first (preset ``quick``) was chosen on two draws of other seeds.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine
from text import descriptions

import potstill
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.evaluation.statistics import paired_difference, summary
from potstill.functional.target_influence import scores_in_turn
from potstill.methods.selection.less import LESS
from potstill.nn import factory_for
from potstill.rng import derive_seed, generator
from potstill.runs.resolve import resolve_run

OUT = Path("results/target_selection.json")
CORPUS, EACH, TEST, SECTIONS = 3000, 10, 400, 3
WRONG, SIZES, STUDENTS = (0.0, 0.4), (60, 300), 2
WAYS = ("target alone", "random", "nearest", "nearest of its class", "less", "less, as published")


def data() -> TensorSource:
    """Return all descriptions as vectors of 64 numbers, fitted on all of them: they have no labels in them."""
    texts, sections = descriptions()
    train = potstill.load_data((texts, sections), test_fraction=0).train
    assert isinstance(train, TensorSource)
    return train


def nearest(corpus: Tensor, target: Tensor, count: int) -> Tensor:
    """Return the rows of the corpus with the largest cosines, each target sample in turn taking its best."""
    cosines = F.normalize(corpus, dim=1) @ F.normalize(target, dim=1).T
    ranks = cosines.argsort(dim=0, descending=True).argsort(dim=0).min(1).values
    return ranks.argsort(stable=True)[:count]


def nearest_of_class(corpus: TensorSource, target: TensorSource, count: int) -> Tensor:
    """As `nearest`, among the corpus's samples of each target sample's label."""
    chosen = []
    for c in target.labels.unique().tolist():
        of_class = (corpus.labels == c).nonzero().flatten()
        x, aim = corpus.inputs[of_class], target.inputs[target.labels == c]  # type: ignore[index]
        chosen.append(of_class[nearest(x, aim, count // SECTIONS)])
    return torch.cat(chosen)


def influence(corpus: TensorSource, target: TensorSource, **options: float) -> Tensor:
    """Return the scores of LESS for each class of the target (n, 3)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "target.npz"
        assert isinstance(target.inputs, Tensor)
        np.savez(path, x=target.inputs.numpy(), y=np.array(target.classes)[target.labels.numpy()])
        spec = potstill.RunSpec(
            Splits(train=corpus, test=None),
            "less",
            items=60,
            network="mlp",
            options={"target": str(path), **options},
        )
        run = resolve_run(spec)
        assert isinstance(run.method, LESS)
        return run.method.influence(run.problem)


def accuracy(source: TensorSource, chosen: Tensor, target: TensorSource, test: TensorSource, seed: int) -> float:
    """Return the accuracy of an MLP on the test part after learning the selection and the target samples."""
    x, y = (torch.cat(pair) for pair in zip(*((s.fetch(i).x, s.labels[i]) for s, i in (
        (source, chosen), (target, torch.arange(len(target))),
    )), strict=True))  # fmt: skip
    network = factory_for("mlp", source)(derive_seed(seed, "network")).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    rng = generator(seed, "batches")
    for _ in range(200):
        at = torch.randperm(len(y), generator=rng)[:64]
        loss = F.cross_entropy(network(x[at]), y[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        answers = network(test.fetch(torch.arange(len(test))).x).argmax(1)
    return float((answers == test.labels).double().mean())


def repeat(everything: TensorSource, wrong: float, seed: int) -> dict[str, dict[str, float]]:
    """Return the mean accuracy of each way and size, and the part of its samples whose label is right and wanted."""
    rng = generator(seed, "target selection")
    order = torch.randperm(len(everything), generator=rng)
    sections = torch.randperm(len(everything.classes), generator=rng)[:SECTIONS]
    wanted = [order[everything.labels[order] == c] for c in sections.tolist()]
    target = everything.subset(torch.cat([w[:EACH] for w in wanted]))
    test = everything.subset(torch.cat([w[EACH : EACH + TEST] for w in wanted]))
    used = torch.cat([w[: EACH + TEST] for w in wanted])
    free = order[~torch.isin(order, used)]
    free = free[torch.randperm(len(free), generator=rng)[:CORPUS]]  # the first of the order were taken out
    corpus = everything.subset(free)
    true = corpus.labels
    hit = torch.rand(CORPUS, generator=rng) < wrong
    other = (true + torch.randint(1, len(corpus.classes), true.shape, generator=rng)) % len(corpus.classes)
    corpus = replace(corpus, labels=torch.where(hit, other, true))
    plain = [
        replace(s, encoder=None, texts=(), places=torch.arange(len(s)), input=replace(s.input, kind="table"))
        for s in (corpus, target)
    ]
    by_group = influence(*plain)
    found: dict[str, dict[str, float]] = {}
    for size in SIZES:
        x, aim = corpus.inputs, target.inputs
        assert isinstance(x, Tensor)
        assert isinstance(aim, Tensor)
        ways = {
            "target alone": torch.arange(0), "random": torch.randperm(CORPUS, generator=rng)[:size],
            "nearest": nearest(x, aim, size), "nearest of its class": nearest_of_class(corpus, target, size),
            "less": scores_in_turn(by_group).argsort(descending=True, stable=True)[:size],
            "less, as published": by_group.max(1).values.argsort(descending=True, stable=True)[:size],
        }  # fmt: skip
        for way, chosen in ways.items():
            scores = [accuracy(corpus, chosen, target, test, derive_seed(seed, "student", n)) for n in range(STUDENTS)]
            right = (~hit & torch.isin(true, sections))[chosen].double()
            found[f"{size} {way}"] = {
                "accuracy": sum(scores) / STUDENTS, "right": float(right.mean()) if len(chosen) else 1.0,
            }  # fmt: skip
    return found


def show(result: dict[str, Any]) -> None:
    for name, rows in result["cases"].items():
        print(f"{name}, n = {result['repeats']}")
        for row, value in rows.items():
            gap = value.get("less minus it")
            text = "" if gap is None else "{:+.1f} ({:+.1f} to {:+.1f})".format(
                100 * gap["mean"], *(100 * v for v in gap["ci95"] or (float("nan"),) * 2)
            )  # fmt: skip
            print(f"  {row:28} {100 * value['accuracy']['mean']:5.1f}  right {100 * value['right']:5.1f} %  {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.show:
        everything, cases = data(), {}
        for wrong in WRONG:
            cells = []
            for seed in range(args.repeats):
                cells.append(repeat(everything, wrong, seed))
                print(wrong, seed, {row: round(100 * v["accuracy"], 1) for row, v in cells[-1].items()}, flush=True)
            rows: dict[str, Any] = {}
            for row in cells[0]:
                size, _, way = row.partition(" ")
                values = [cell[row]["accuracy"] for cell in cells]
                rows[row] = {
                    "accuracy": summary(values),
                    "right": sum(cell[row]["right"] for cell in cells) / len(cells),
                }
                if way != "less":
                    own = [cell[f"{size} less"]["accuracy"] for cell in cells]
                    rows[row]["less minus it"] = paired_difference(own, values)
            cases[f"{100 * wrong:.0f} % wrong labels"] = rows
        result = {
            "machine": machine(), "repeats": args.repeats, "corpus": CORPUS, "target": EACH * SECTIONS,
            "test": TEST * SECTIONS, "students": STUDENTS, "texts": len(everything), "cases": cases,
        }  # fmt: skip
        OUT.write_text(json.dumps(result, indent=1) + "\n")
    show(json.loads(OUT.read_text()))


if __name__ == "__main__":
    main()
