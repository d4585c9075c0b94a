"""Every decoupled method against real samples with the same labels, the same protocol and the same bytes.

    python benchmarks/decoupled.py [--data fashion-5k photo-patches] [--only rded edc …] [--out results/decoupled]

Under the protocol here one teacher, trained on the real training data, labels every augmented batch of every set: so
`random` is what the field calls random with soft labels, and `herding` and `k-means` get the teacher's labels as well.
What a set's own labels are is of no influence: soft ones make its file 1 % larger. Students are trained by the
protocol ``potstill`` with one rate and one length (``--steps``, ``--lr``). Nothing is chosen here: methods have the
settings of their recipes (recipes/), with ``--iterations`` steps at most.

`fashion-5k` are the first 500 training pictures of each class of Fashion-MNIST, with its own 10,000 test pictures.
`photo-patches` are 32×32 crops in colour from ten photographs that scikit-image and scikit-learn bring (``pip install
scikit-image``), 500 and 100 for each; a photograph is cut into blocks of 64×64 like a chessboard, and training crops
lie within its white blocks, test crops within its black ones, so that no pixel is on both sides.

A cell is one file, written when it is done; one that is there is not made again. The interval of a difference is
Welch's over all students of all sets (``--sets`` × ``--students``), too narrow where sets differ.
"""

import argparse
import json
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from machine import machine
from PIL import Image

import potstill
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.evaluation import Protocol, evaluate
from potstill.evaluation.statistics import difference, summary
from potstill.execution import Serial
from potstill.registry import names, resolve
from potstill.rng import generator

REAL = ("random", "herding", "k-means")
PHOTOS = {
    "astronaut": ("skimage.data", "astronaut.png"), "coffee": ("skimage.data", "coffee.png"),
    "cat": ("skimage.data", "chelsea.png"), "rocket": ("skimage.data", "rocket.jpg"),
    "retina": ("skimage.data", "retina.jpg"), "tissue": ("skimage.data", "ihc.png"),
    "galaxies": ("skimage.data", "hubble_deep_field.jpg"), "motorcycle": ("skimage.data", "motorcycle_left.png"),
    "pagoda": ("sklearn.datasets.images", "china.jpg"), "flower": ("sklearn.datasets.images", "flower.jpg"),
}  # fmt: skip
"""Photographs: the class, the package and the file."""
BLOCK, SIDE = 64, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["fashion-5k", "photo-patches"], choices=list(DATA))
    parser.add_argument(
        "--only", nargs="+", default=[*REAL, *decoupled()], metavar="METHOD[:KEY=NUMBER]", help="with another setting"
    )
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=200, help="most steps of a method that has them")
    parser.add_argument("--network", default="convnet-d3-w16-batch", help="teachers of the methods")
    parser.add_argument("--student", default="convnet-d3-w16", help="students, and the teacher that labels")
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--students", type=int, default=2, help="for each set")
    parser.add_argument("--steps", type=int, default=300, help="of a student")
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--teacher-epochs", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("results/decoupled"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    protocol: Protocol = resolve("protocols", "potstill").override(
        labels="teacher", loss="kl", temperature=args.temperature, teacher=args.student,
        teacher_epochs=args.teacher_epochs, teacher_lr=0.05, steps=args.steps, least_epochs=0, batch=100, lr=args.lr,
    )  # fmt: skip
    settings = {n: getattr(args, n) for n in ("ipc", "iterations", "network", "student", "sets", "students", "steps")}
    settings |= {"fingerprint": protocol.fingerprint(), "temperature": args.temperature, "lr": args.lr}
    for data in args.data:
        splits = DATA[data]()
        for method in args.only:
            cell(args, data, splits, method, protocol, settings)
        said(args.out, data)


def decoupled() -> list[str]:
    """Names of the registered methods of the family."""
    return [n for n in names("methods") if resolve("methods", n).info.family == "decoupled"]


def fashion() -> Splits:
    """The first 500 of each class to train with."""
    data = potstill.load_data("fashion-mnist")
    train = data.train
    assert isinstance(train, TensorSource)
    rows = torch.cat([(train.labels == c).nonzero().flatten()[:500] for c in range(len(train.classes))])
    few = TensorSource.make(
        train.inputs[rows].numpy(), train.labels[rows].numpy(), train.classes, name="fashion-mnist",
        normalization=train.normalization,
    )  # fmt: skip
    return Splits(train=few, test=data.test)


def photo_patches(train_crops: int = 500, test_crops: int = 100) -> Splits:
    """Crops of photographs: so many of each to train and to test with, drawn with seed 0."""
    rng = generator(0, "photo-patches")
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    labels: tuple[list[int], list[int]] = ([], [])
    for c, (package, file) in enumerate(PHOTOS.values()):
        try:
            folder = files(package)
        except ModuleNotFoundError as error:
            raise SystemExit(f"photo-patches needs the package {error.name}; pip install scikit-image") from error
        with Image.open(str(folder / file)) as opened:
            photo = np.asarray(opened.convert("RGB"))
        rows, columns = photo.shape[0] // BLOCK, photo.shape[1] // BLOCK
        for side, count in enumerate((train_crops, test_crops)):
            blocks = [(i, j) for i in range(rows) for j in range(columns) if (i + j) % 2 == side]
            for _ in range(count):
                i, j = blocks[int(torch.randint(len(blocks), (1,), generator=rng))]
                y, x = torch.randint(BLOCK - SIDE + 1, (2,), generator=rng).tolist()
                top, left = i * BLOCK + y, j * BLOCK + x
                sides[side].append(photo[top : top + SIDE, left : left + SIDE])
                labels[side].append(c)
    train = TensorSource.make(np.stack(sides[0]), np.array(labels[0]), list(PHOTOS), name="photo-patches")
    test = TensorSource.make(
        np.stack(sides[1]), np.array(labels[1]), list(PHOTOS), name="photo-patches", normalization=train.normalization
    )
    return Splits(train=train, test=test)


DATA = {"fashion-5k": fashion, "photo-patches": photo_patches}


def options_of(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The recipe's settings, without what says how much and how long, and what the name sets otherwise."""
    method, _, setting = name.partition(":")
    if method in REAL:
        return {}
    found: dict[str, Any] = yaml.safe_load(Path(f"recipes/{method}.yaml").read_text(encoding="utf-8"))
    options = {k.replace("-", "_"): v for k, v in found.items() if k not in ("method", "ipc", "budget", "steps")}
    if "iterations" in options:
        options["iterations"] = min(options["iterations"], args.iterations)
    fields = resolve("methods", method).__dataclass_fields__
    if setting:
        key, _, value = setting.partition("=")
        options[key] = float(value)
    return {**options, "network": args.network, **({"labels": "hard"} if "labels" not in fields else {})}


def cell(
    args: argparse.Namespace, data: str, splits: Splits, method: str, protocol: Protocol, settings: dict[str, Any]
) -> None:
    """Make and measure the sets of one method, unless that was done."""
    path = args.out / f"{data}-{method.replace(':', '-')}.json"
    if path.exists():
        if json.loads(path.read_text())["settings"] != settings:
            raise SystemExit(f"{path} was made with other settings; give another --out, or move it away")
        return
    options = options_of(method, args)
    begun, values, cards, used, inputs = time.monotonic(), [], [], 0.0, 0
    for seed in range(args.sets):
        started = time.process_time()
        try:
            real = Splits(train=splits.train, test=None)
            small = potstill.distill(real, method.partition(":")[0], ipc=args.ipc, seed=seed, device="cpu", **options)
        except PotstillError as error:
            raise SystemExit(f"{method}: {error}") from error
        used += time.process_time() - started
        score = evaluate(
            small, splits, protocol=protocol, networks=[args.student], seeds=args.students, seed=seed, baselines=False,
            full=False, robust_scores=False, executor=Serial(),
        )  # fmt: skip
        values.append(score.to_dict()["accuracy"]["values"])
        cards.append(small.card)
        inputs = len(small)
    row = {
        "data": data, "method": method, "options": options, "settings": settings, "machine": machine(),
        "accuracy": summary([v for some in values for v in some], len(splits.test)), "values_of_sets": values,
        "bytes": cards[0]["bytes"], "inputs": inputs, "core_seconds": round(used / args.sets, 1),
        "steps": cards[0]["cost"]["steps"], "outcome": cards[0]["outcome"]["kind"],
    }  # fmt: skip
    path.with_suffix(".part").write_text(json.dumps(row, indent=1) + "\n")
    path.with_suffix(".part").replace(path)
    a = row["accuracy"]
    print(
        f"{data}, {method}: {100 * a['mean']:.1f} ± {100 * a['std']:.1f} (n {a['n']}), {row['inputs']} inputs, "
        f"{row['bytes']['total']:,} bytes, {row['core_seconds']} core seconds a set, "
        f"{time.monotonic() - begun:.0f} s in all",
        flush=True,
    )


def said(out: Path, data: str) -> None:
    """Differences to random samples with the same labels."""
    rows = {r["method"]: r for r in (json.loads(p.read_text()) for p in sorted(out.glob(f"{data}-*.json")))}
    if "random" not in rows:
        return
    for name, row in rows.items():
        d = difference(row["accuracy"]["values"], rows["random"]["accuracy"]["values"])
        low, high = (100 * v for v in d["ci95"])
        print(f"{data}, {name} − random: {100 * d['mean']:+.1f} [{low:+.1f}, {high:+.1f}]")


if __name__ == "__main__":
    main()
