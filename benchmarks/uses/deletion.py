"""Deletion and growth on Fashion-MNIST: seconds against anew, hashes, membership before and after, accuracy.

    python benchmarks/uses/deletion.py [--seeds 3] [--students 3]

1 % of the records (600 of 60,000) are deleted: of one class, of one source of a hundred (drawn, as the data name no
persons), or uniformly drawn. Every new set is also made anew. Cells are files under ``--folder``, from which an
interrupted run goes on; the summary goes to ``results/uses/deletion-DATA.json``.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine
from stored_cells import Cells

import potstill
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.dataset_file import Distilled
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.statistics import paired_difference, summary
from potstill.evaluation.student import StudentJob, train
from potstill.rng import derive_seed, generator
from potstill.uses.continual import Learner
from potstill.uses.deletion import Update, delete_records, extend, make_again, make_deletable, membership

_DM: dict[str, Any] = {
    "method": "dm", "codec": "uint4", "network": "convnet-w16", "preset": "quick", "batch_real": 32,
}  # fmt: skip
SETS: dict[str, dict[str, Any]] = {
    "dm, cosines": {**_DM, "ipc": 2, "parametrization": "frequency:kept=64", "steps": 40},
    "dm, 10 parts": {**_DM, "ipc": 10, "parts": 10, "steps": 20},
    "herding": {"method": "herding", "codec": "half:bits=1", "ipc": 50},
    "random": {"method": "random", "codec": "half:bits=1", "ipc": 50},
}
"""Sets that are made by `make_deletable`; the real ones have about the bytes of the first."""
KINDS = ("class", "source", "uniform")
FEWER = {"dm, 10 parts": {"class": 2, "source": 2, "uniform": 1}}
"""Deletions of a set that takes long to make anew."""
SOURCES = 100
LEARNER = Learner(network="convnet-w16", steps=100)
WARM_STEPS = 10


def timed(work: Callable[[], Update]) -> tuple[Update, float]:
    """Return a result and the processor's seconds for it: of one thread, whatever else the machine does."""
    started = time.process_time()
    return work(), time.process_time() - started


def with_sources(source: TensorSource) -> TensorSource:
    """Return the records with a drawn source for each, as a group."""
    return replace(source, groups=torch.randint(SOURCES, (len(source),), generator=generator(0, "sources")))


def rows_to_delete(source: TensorSource, kind: str, seed: int) -> torch.Tensor:
    """Return about 1 % of the records: of one class, of one source, or uniformly drawn."""
    rng = generator(seed, "delete", kind)
    if kind == "source":
        assert source.groups is not None
        return (source.groups == seed).nonzero().flatten()
    among = (source.labels == seed).nonzero().flatten() if kind == "class" else torch.arange(len(source))
    return among[torch.randperm(len(among), generator=rng)[: len(source) // 100]].sort().values


def accuracy(distilled: Distilled, test: TensorSource, seed: int) -> float:
    """Return the accuracy of a student that is trained on a set, on all test samples of the set's classes."""
    order = torch.tensor([distilled.classes.index(c) for c in test.classes])
    test = replace(test, normalization=distilled.normalization, labels=order[test.labels], classes=distilled.classes)
    make = LEARNER.factory(test, len(distilled.classes))
    protocol = LEARNER.protocol(test, make.name)
    job = StudentJob(
        make=make, x=distilled.model_space(), y=distilled.labels, protocol=protocol, lr=LEARNER.lr,
        steps=LEARNER.steps, augment=student_augmentation(protocol.recipe.augment, test),
        seed=derive_seed(seed, "student"),
    )  # fmt: skip
    network = train(job).eval()
    with torch.no_grad():
        right = [
            (network(test.fetch(at).x).argmax(1) == test.labels[at]).double()
            for at in torch.split(torch.arange(len(test)), 500)
        ]
    return float(torch.cat(right).mean())


def deletions(cells: Cells, splits: Splits, seeds: int) -> list[dict[str, Any]]:
    """Return a row for each set and kind of deletion."""
    rows, source = [], splits.train
    assert isinstance(source, TensorSource)
    for name, settings in SETS.items():
        before = cells.distilled(f"set {name}", lambda s=settings: make_deletable(splits, **s).distilled)
        for kind in KINDS:
            found = []
            for seed in range(min(seeds, FEWER.get(name, {}).get(kind, seeds))):

                def measure(before: Distilled = before, kind: str = kind, seed: int = seed) -> Any:
                    gone = rows_to_delete(source, kind, seed)
                    update, seconds = timed(lambda: delete_records(before, splits, gone))
                    anew, anew_seconds = timed(lambda: make_again(update))
                    scores = {} if seed else {
                        when: {n: s.to_json() for n, s in membership(
                            small, source.subset(gone), splits.test, students=2, learner=LEARNER  # type: ignore[arg-type]
                        ).items()}
                        for when, small in (("before", before), ("after", update.distilled))
                    }  # fmt: skip
                    return {
                        "deleted": len(gone), "units": len(update.units), "remade": len(update.remade),
                        "seconds": seconds, "anew_seconds": anew_seconds, "equal": update.hash == anew.hash,
                        "membership": scores,
                    }  # fmt: skip

                found.append(cells.get(f"delete {name} {kind} {seed}", measure))
            speed = [f["anew_seconds"] / f["seconds"] for f in found]
            rows.append({
                "set": name, "kind": kind, "n": len(found), "units": found[0]["units"],
                "remade": [f["remade"] for f in found], "deleted": [f["deleted"] for f in found],
                "seconds": summary([f["seconds"] for f in found]),
                "anew_seconds": summary([f["anew_seconds"] for f in found]), "times_faster": summary(speed),
                "equal": sum(f["equal"] for f in found), "membership": found[0]["membership"],
            })  # fmt: skip
    return rows


def positive_control(cells: Cells, splits: Splits) -> list[dict[str, Any]]:
    """Return the membership test of records that are in a set, before and after they are deleted.

    Against the test part, and against training records that are in neither set: those differ from the deleted ones by
    chance alone, which test samples need not.
    """
    source = splits.train
    assert isinstance(source, TensorSource)

    def measure() -> Any:
        made = make_deletable(splits, "random", codec="uint8", ipc=20)
        gone = torch.cat([unit.rows for unit in made.units]).sort().values
        after = delete_records(made.distilled, splits, gone)
        stays = torch.ones(len(source), dtype=torch.bool)
        stays[gone] = False
        rest = source.subset(stays.nonzero().flatten())
        held = torch.ones(len(rest), dtype=torch.bool)
        held[torch.cat([unit.rows for unit in after.units])] = False
        order = torch.randperm(int(held.sum()), generator=generator(0, "control"))[:10_000]
        others = rest.subset(held.nonzero().flatten()[order])
        return [
            {
                "against": name,
                **{
                    when: {n: s.to_json() for n, s in membership(
                        small, source.subset(gone), control, students=2, learner=LEARNER  # type: ignore[arg-type]
                    ).items()}
                    for when, small in (("before", made.distilled), ("after", after.distilled))
                },
            }
            for name, control in (("test records", splits.test), ("training records in neither set", others))
        ]  # fmt: skip

    return [{"set": "random, uint8, 20 per class", "deleted": 200, **c} for c in cells.get("controls", measure)]


def repeated_control(cells: Cells, splits: Splits, draws: int = 6) -> dict[str, Any]:
    """Return the AUC after the deletion of all records of a set, over draws of the set."""
    source = splits.train
    assert isinstance(source, TensorSource)

    def measure(seed: int) -> Any:
        made = make_deletable(splits, "random", codec="uint8", ipc=20, seed=seed)
        gone = torch.cat([unit.rows for unit in made.units]).sort().values
        after = delete_records(made.distilled, splits, gone)
        scores = membership(
            after.distilled, source.subset(gone), splits.test, students=1, learner=LEARNER, seed=seed  # type: ignore[arg-type]
        )  # fmt: skip
        return {name: score.auc for name, score in scores.items()}

    found = [cells.get(f"control {seed}", lambda s=seed: measure(s)) for seed in range(1, draws + 1)]
    return {name: summary([f[name] for f in found]) for name in ("distance", "loss")}


def accuracies(cells: Cells, splits: Splits, students: int) -> list[dict[str, Any]]:
    """Return accuracy and bytes of each set, and of dm that makes all classes in one run."""
    rows = []
    small = cells.distilled("set joint", lambda: potstill.distill(splits, progress=None, **SETS["dm, cosines"]))
    every = {name: cells.distilled(f"set {name}", lambda: None) for name in SETS} | {"dm, cosines, one run": small}  # type: ignore[arg-type,return-value]
    for name, distilled in every.items():
        values = [
            cells.get(f"accuracy {name} {s}", lambda d=distilled, s=s: accuracy(d, splits.test, s))  # type: ignore[arg-type]
            for s in range(students)
        ]
        rows.append({
            "set": name, "bytes": distilled.metadata["bytes"]["total"], "items": len(distilled),
            "accuracy": summary(values, len(splits.test)),  # type: ignore[arg-type]
        })  # fmt: skip
    return rows


def growth(cells: Cells, splits: Splits, seeds: int) -> dict[str, Any]:
    """Return what is lost by going on from the items of half of the records, and seconds of two new classes."""
    source = splits.train
    assert isinstance(source, TensorSource)
    settings, values = SETS["dm, cosines"], list[Any]()
    for seed in range(seeds):

        def measure(seed: int = seed) -> Any:
            order = torch.randperm(len(source), generator=generator(seed, "halves"))
            halves = [
                Splits(train=source.subset(rows.sort().values), test=None)
                for rows in (order[: len(source) // 2], order[len(source) // 2 :])
            ]
            old = make_deletable(halves[0], seed=seed, **settings)
            ways = {
                "unchanged": (old, 0.0),
                "warm": timed(lambda: extend(old.distilled, halves[0], halves[1], warm_steps=WARM_STEPS)),
                "anew": timed(lambda: extend(old.distilled, halves[0], halves[1])),
            }
            return {
                name: {"accuracy": accuracy(u.distilled, splits.test, seed), "seconds": seconds}  # type: ignore[arg-type]
                for name, (u, seconds) in ways.items()
            }

        values.append(cells.get(f"growth {seed}", measure))

    def classes() -> Any:
        kept = [(source.labels < 8), (source.labels >= 8)]
        parts = []
        for mask, first in zip(kept, (0, 8), strict=True):
            part = source.subset(mask.nonzero().flatten())
            names = source.classes[:8] if first == 0 else source.classes[8:]
            parts.append(Splits(train=replace(part, classes=names, labels=part.labels - first), test=None))
        old = make_deletable(parts[0], **settings)
        update, seconds = timed(lambda: extend(old.distilled, parts[0], parts[1]))
        anew, anew_seconds = timed(lambda: make_again(update))
        return {"seconds": seconds, "anew_seconds": anew_seconds, "equal": update.hash == anew.hash}

    ways = {
        name: {
            "accuracy": summary([v[name]["accuracy"] for v in values], len(splits.test)),  # type: ignore[arg-type]
            "seconds": summary([v[name]["seconds"] for v in values]),
        }
        for name in ("unchanged", "warm", "anew")
    }
    lost = {
        name: paired_difference([v[name]["accuracy"] for v in values], [v["anew"]["accuracy"] for v in values])
        for name in ("unchanged", "warm")
    }
    return {
        "records": len(source) // 2, "warm_steps": WARM_STEPS, "steps": settings["steps"], "n": len(values),
        "ways": ways, "minus_anew": lost, "classes": cells.get("growth classes", classes),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--seeds", type=int, default=3, help="deletions of each kind")
    parser.add_argument("--students", type=int, default=5, help="students of each accuracy, and pairs of growth")
    parser.add_argument("--folder", type=Path, default=Path("runs/deletion"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    read = potstill.load_data(args.data)
    assert isinstance(read.train, TensorSource)
    splits = replace(read, train=with_sources(read.train))
    started, cells = time.monotonic(), Cells(args.folder)
    rows = deletions(cells, splits, args.seeds)
    result = {
        "source": splits.train.name, "samples": len(splits.train), "test_samples": len(splits.test or ()),
        "sources": SOURCES, "settings": SETS, "learner": {"network": LEARNER.network, "updates": LEARNER.steps},
        "rows": rows, "controls": positive_control(cells, splits),
        "repeated": repeated_control(cells, splits), "accuracy": accuracies(cells, splits, args.students),
        "growth": growth(cells, splits, args.students),
        "machine": machine(), "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    out = args.out or Path(f"results/uses/deletion-{args.data}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    for row in rows:
        print(
            f"{row['set']:<14} {row['kind']:<8} {row['remade']} of {row['units']} units, {row['seconds']['mean']:.1f} "
            f"against {row['anew_seconds']['mean']:.1f} s: {row['times_faster']['mean']:.1f} times, equal in "
            f"{row['equal']} of {row['n']}"
        )
    for row in result["accuracy"]:
        print(f"{row['set']:<22} {row['bytes']:>7,} bytes {100 * row['accuracy']['mean']:.1f} %")
    print(json.dumps(result["controls"]), json.dumps(result["growth"]["classes"]), sep="\n")
    for name, gap in result["growth"]["minus_anew"].items():
        print(f"growth, {name} minus anew: {100 * gap['mean']:+.2f} {gap['ci95']}")


if __name__ == "__main__":
    main()
