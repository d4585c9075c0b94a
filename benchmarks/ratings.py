"""Sets of users of three sets of interactions, by three learners.

    python benchmarks/ratings.py --data FOLDER [--seeds 3]
    python benchmarks/ratings.py --data FOLDER --choose
    python benchmarks/ratings.py --show

``FOLDER`` has what packages hold, and nothing of it is distributed here: ``ml-100k.inter`` and ``ml-100k.item`` of the
wheel ``recbole`` 1.2.1 (MovieLens-100k; GroupLens' terms), and ``MSWeb.rda`` and ``Jester5k.rda`` of the R package
``recommenderlab`` 1.0.7, read by the package ``rdata``. Ratings of jokes count as met from 5 of -10 to 10 on.

Of each user 20 % of the interactions are tested and 10 % choose, drawn at random, as in Distill-CF's program, which
tests 10 %. Learners choose their strength, and ``--choose`` compares settings of the method, on validation interactions
alone. Every cell is a file under ``--folder``, from which an interrupted run goes on; the summary goes to
``results/ratings.json``.
"""

import argparse
import csv
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
from potstill.evaluation.naive import naive_scores
from potstill.evaluation.statistics import paired_difference, summary
from potstill.rng import derive_seed
from potstill.tasks import get_targets, get_task
from potstill.verdicts import POPULAR

DATA = {"ml-100k": {}, "msweb": {}, "jester": {"rating": 5.0}}
"""Names, and settings of the task."""
USERS = 20
LEARNERS = ("ntk-autoencoder", "item-ridge", "mult-autoencoder")
LISTS, REALS, AFTERWARDS = "distill-cf, lists", "distill-cf, real numbers", "real numbers, binarised afterwards"
ROWS: dict[str, dict[str, Any]] = {
    "random": {"method": "random"},
    "most-active": {"method": "most-active"},
    "k-means": {"method": "k-means"},
    LISTS: {"method": "distill-cf", "preset": "good"},
    REALS: {"method": "distill-cf", "preset": "good", "parametrization": "pixels"},
}
"""Sets of `USERS`."""
IN_BYTES = {
    "random, bytes of lists": ("random", LISTS), "k-means, bytes of lists": ("k-means", LISTS),
    "random, bytes of real numbers": ("random", REALS),
}  # fmt: skip
"""Real users in the bytes of another row."""
CHOICES = [
    {"ridge": ridge, "noise": noise} for ridge, noise in ((1.0, 0.0), (0.3, 0.0), (0.1, 0.5), (0.3, 0.5), (1.0, 0.5),
                                                         (0.3, 1.0))
]  # fmt: skip


def write_tables(folder: Path, out: Path) -> None:
    """Write the data as tables that ``potstill`` reads."""
    out.mkdir(parents=True, exist_ok=True)
    if not (path := out / "ml-100k.csv").exists():
        rows, titles = (
            list(csv.reader((folder / name).open(encoding="utf-8"), delimiter="\t"))[1:]
            for name in ("ml-100k.inter", "ml-100k.item")
        )
        named = {row[0]: f"{row[1]} ({row[2]})" for row in titles}
        _write(path, ["user", "item", "rating", "timestamp", "title"],
               ([*row[:4], named.get(row[1], row[1])] for row in rows))  # fmt: skip
    if not (path := out / "msweb.csv").exists():
        held = _read_rda(folder / "MSWeb.rda")["MSWeb"].data
        labels, starts, items = held.itemInfo["labels"].tolist(), held.data.p, held.data.i
        _write(path, ["user", "item"], (
            [user, labels[i]] for user in range(len(starts) - 1) for i in items[starts[user] : starts[user + 1]]
        ))  # fmt: skip
    if not (path := out / "jester.csv").exists():
        held = _read_rda(folder / "Jester5k.rda")
        m, jokes = held["Jester5k"].data, held["JesterJokes"]
        users, items = (names.tolist() for names in m.Dimnames)
        _write(path, ["user", "item", "rating", "title"], (
            [users[m.i[at]], items[j], m.x[at], str(jokes[j])[:60]]
            for j in range(len(items)) for at in range(m.p[j], m.p[j + 1])
        ))  # fmt: skip


def _read_rda(path: Path) -> Any:
    import rdata  # type: ignore[import-not-found]

    return rdata.read_rda(path)


def _write(path: Path, head: list[str], rows: Any) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def load(name: str, args: argparse.Namespace) -> Splits:
    settings = "".join(f",{key}={value}" for key, value in DATA[name].items())
    return potstill.load_data(
        args.folder / "tables" / f"{name}.csv", kind="ratings", task=f"recommendation:order=random{settings}"
    )


def scores(splits: Splits, rows: torch.Tensor, seed: int, learners: tuple[str, ...] = LEARNERS) -> dict[str, Any]:
    """Return the metrics of one student of each learner."""
    assert splits.test is not None
    task, found = get_task(splits.test), {}
    for name in learners:
        answers = make_learner(name, splits.train).fit_predict(
            splits.test, rows, torch.zeros(len(rows), dtype=torch.int64), None, derive_seed(seed, "student")
        )
        targets = get_targets(splits.test)
        found[name] = {"nDCG@10": task.score(answers, targets), **task.further_scores(answers, targets, None)}
    return found


def cell(splits: Splits, data: str, row: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return one set of a row, from its file or measured anew."""
    path = _path(data, row, seed, args)
    if path.exists():
        return dict(json.loads(path.read_text()))
    begun = time.monotonic()
    same: dict[str, Any] = {"seed": seed, "progress": None, "device": "cpu", "executor": "serial"}
    if row == AFTERWARDS:
        made = _binarised(potstill.load(_path(data, REALS, seed, args).with_suffix(".safetensors")), splits)
        found: dict[str, Any] = {"bytes": 0, "items": USERS, "scores": scores(splits, made, seed), "seconds": 0.0}
        path.write_text(json.dumps(found))
        return found
    if row in IN_BYTES:
        method, other = IN_BYTES[row]
        small = potstill.distill(splits, method, bytes=cell(splits, data, other, seed, args)["bytes"], **same)
    else:
        small = potstill.distill(splits, items=USERS, **ROWS[row], **same)
    seconds = time.monotonic() - begun
    if row in (LISTS, REALS):
        small.save(path.with_suffix(".safetensors"), force=True)
    found = {
        "bytes": charged_bytes(small.metadata["bytes"]), "items": len(small), "seconds": round(seconds, 1),
        "met": float((small.inputs > 0.5).float().sum(1).mean()), "scores": scores(splits, small.inputs, seed),
    }  # fmt: skip
    path.write_text(json.dumps(found))
    return found


def _binarised(small: Any, splits: Splits) -> torch.Tensor:
    """Return rows with the largest values as ones, as many as a real user has on average."""
    rows, mean = small.inputs, float(splits.train.inputs.sum(1).mean())  # type: ignore[attr-defined]
    best = rows.topk(max(1, round(mean)), dim=1).indices
    return torch.zeros_like(rows).scatter_(1, best, 1.0)


def _path(data: str, row: str, seed: int, args: argparse.Namespace) -> Path:
    return Path(args.folder / f"{data}-{row.replace(', ', '-').replace(' ', '_')}-{seed}.json")


def references(
    splits: Splits, data: str, args: argparse.Namespace, learners: tuple[str, ...] = LEARNERS
) -> dict[str, Any]:
    """Return the metrics of all users, by learners, and of popular items."""
    path = args.folder / f"{data}-all.json"
    if not path.exists():
        assert splits.test is not None
        everybody = splits.train.raw(torch.arange(len(splits.train)))
        popular = naive_scores(get_task(splits.test), splits.train, splits.test)[POPULAR]
        path.write_text(json.dumps({
            "all": scores(splits, everybody, 0, learners),
            "popular": {"nDCG@10": popular["score"], **popular["metrics"]},
        }))  # fmt: skip
    return dict(json.loads(path.read_text()))


def choose(splits: Splits, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the validation scores of settings of the method on MovieLens-100k, without a look at test interactions."""
    blind, found = Splits(train=splits.train, test=splits.train), list[dict[str, Any]]()
    for setting in CHOICES:
        values = []
        for seed in range(2):
            path = args.folder / f"choose-{setting['ridge']}-{setting['noise']}-{seed}.json"
            if not path.exists():
                small = potstill.distill(
                    splits, "distill-cf", items=USERS, seed=100 + seed, progress=None, device="cpu", executor="serial",
                    ridge=setting["ridge"], parametrization=f"multi-hot:noise={setting['noise']}",
                )  # fmt: skip
                path.write_text(json.dumps(scores(blind, small.inputs, seed, LEARNERS[:1])[LEARNERS[0]]["nDCG@10"]))
            values.append(float(json.loads(path.read_text())))
        found.append({**setting, "validation": summary(values)})
        print(found[-1], flush=True)
    return found


def block(data: str, splits: Splits, args: argparse.Namespace) -> dict[str, Any]:
    """Return the rows, each of the sets that are there."""
    rows, values = [], dict[str, dict[str, list[float]]]()
    for name in (*ROWS, AFTERWARDS, *IN_BYTES):
        paths = [_path(data, name, seed, args) for seed in range(args.seeds)]
        cells = [json.loads(path.read_text()) for path in paths if path.exists()]
        if not cells:
            continue
        values[name] = {n: [c["scores"][n]["nDCG@10"] for c in cells] for n in LEARNERS}
        rows.append({
            "row": name,
            **{key: sum(c.get(key, 0.0) for c in cells) / len(cells) for key in ("bytes", "items", "seconds", "met")},
            "scores": {n: {m: summary([c["scores"][n][m] for c in cells]) for m in cells[0]["scores"][n]}
                       for n in LEARNERS},
        })  # fmt: skip
    pairs = [
        {"row": name, "other": other, "learner": n, "difference": paired_difference(*_both(values, name, other, n))}
        for name, other in ((LISTS, "random"), (LISTS, REALS), (LISTS, "random, bytes of lists"),
                            (LISTS, "k-means, bytes of lists"), (REALS, "random, bytes of real numbers"))
        if min(len(values.get(of, {}).get(LEARNERS[0], ())) for of in (name, other)) > 1 for n in LEARNERS
    ]  # fmt: skip
    task = get_task(splits.train)
    return {
        "data": data, "users": len(splits.train), "items": task.outputs, "notes": list(splits.notes),
        "hash": splits.train.content_hash, "rows": rows, "pairs": pairs, **references(splits, data, args),
    }  # fmt: skip


def _both(values: Mapping[str, Any], name: str, other: str, learner: str) -> tuple[list[float], list[float]]:
    """Return the scores of two rows by the seeds that both have."""
    pairs = list(zip(values[name][learner], values[other][learner], strict=False))
    return [a for a, _ in pairs], [b for _, b in pairs]


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    for part in result["data"]:
        print(f"\n{part['data']}: {part['users']:,} users, {part['items']:,} items\n{'':36}{'users':>7}{'bytes':>9}",
              *LEARNERS, sep="   ")  # fmt: skip
        for row in part["rows"]:
            shown = "".join(f"{100 * row['scores'][n]['nDCG@10']['mean']:12.1f}" for n in LEARNERS)
            print(f"{row['row']:36}{row['items']:7.0f}{row['bytes']:9,.0f}{shown}")
        held = part["all"]
        whole = (f"{100 * held[n]['nDCG@10']:12.1f}" if n in held else f"{'':12}" for n in LEARNERS)
        print(f"{'all users':52}" + "".join(whole))
        print(f"{'popular items':52}{100 * part['popular']['nDCG@10']:12.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the files of the packages")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/ratings"))
    parser.add_argument("--out", type=Path, default=Path("results/ratings.json"))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further cell after so long")
    parser.add_argument("--choose", action="store_true", help="compare settings on validation interactions, first")
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    torch.set_num_threads(1)
    write_tables(args.data, args.folder / "tables")
    begun = time.monotonic()
    loaded = {name: load(name, args) for name in DATA}
    for seed in range(args.seeds):
        for name, splits in loaded.items():
            for row in (*ROWS, AFTERWARDS, *IN_BYTES):
                if time.monotonic() - begun < args.seconds:
                    print(name, row, seed, cell(splits, name, row, seed, args), flush=True)
    if args.choose:
        choose(loaded["ml-100k"], args)
    there = all((args.folder / f"choose-{c['ridge']}-{c['noise']}-1.json").exists() for c in CHOICES)
    result = {
        "settings": {"seeds": args.seeds, "users": USERS, "learners": LEARNERS},
        "machine": machine(), "choices": choose(loaded["ml-100k"], args) if there else [],
        "data": [block(name, splits, args) for name, splits in loaded.items()],
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
