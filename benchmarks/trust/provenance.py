"""Keyed marks of small sets: what they cost, what they survive, and if models give the set away.

    python benchmarks/trust/provenance.py [--sets digits/random,…] [--keys 20]

Each set is marked by several keys. Distortions follow WAVES (arXiv:2401.08573) as far as they make sense on small
pictures, with regeneration by autoencoders of ours, trained on the real data; a marked set counts as recognised at a
false-positive rate of 0.1 %. Results of each set lie under
``--folder``, from which an interrupted run goes on; the summary goes to ``results/trust/provenance.json``. Nothing is
chosen on the test part.
"""

import argparse
import io
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine

import potstill
from potstill.audit.provenance import audit_provenance, mark
from potstill.audit.provenance.carrier import Features, null_scores, read_features, read_secret, score
from potstill.audit.provenance.model import QUERIES, query_of, score_model, score_outputs
from potstill.audit.provenance.run import threshold
from potstill.core import Splits
from potstill.diagnostics import make_bench
from potstill.diagnostics.bench import Bench, TrainingData, network_outputs
from potstill.evaluation.statistics import paired_difference
from potstill.evaluation.student import fit, train
from potstill.pretraining.generator import FitAutoencoder, decode_latents, encode_images
from potstill.rng import generator

SETS = ("digits/random", "digits/dm", "mnist-5k/random", "fashion-mnist/random", "mnist-5k/dm", "fashion-mnist/dm")
STUDENTS = ("linear", "mlp-w128", "convnet-d2-w32")
MAKER = "convnet-d2-w32"
NULL = 1000
GENERATORS = {"VAE, 64 latents": 64, "VAE, 16 latents": 16}
"""Autoencoders that pictures are made again by, and the numbers of their latents."""
WIDTH, EPOCHS, KL = 32, 10, 0.1
Distortion = Callable[[Tensor, torch.Generator], Tensor]


def rotated(degrees: float) -> Distortion:
    """Rotate by up to so many degrees, either way."""

    def distort(x: Tensor, rng: torch.Generator) -> Tensor:
        angle = (2 * torch.rand(len(x), generator=rng) - 1).sign() * math.radians(degrees)
        c, s, zero = angle.cos(), angle.sin(), torch.zeros(len(x))
        theta = torch.stack([torch.stack([c, -s, zero], 1), torch.stack([s, c, zero], 1)], 1)
        return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)

    return distort


def cropped(part: float) -> Distortion:
    """Crop a random window of so large a part of each side, and resize it."""

    def distort(x: Tensor, rng: torch.Generator) -> Tensor:
        h, w = x.shape[-2:]
        size = (max(2, round(part * h)), max(2, round(part * w)))
        rows = []
        for one in x:
            top, left = (int(torch.randint(n - m + 1, (1,), generator=rng)) for n, m in zip((h, w), size, strict=True))
            window = one[None, :, top : top + size[0], left : left + size[1]]
            rows.append(F.interpolate(window, (h, w), mode="bilinear", align_corners=False))
        return torch.cat(rows)

    return distort


def erased(part: float) -> Distortion:
    """Set a random square of so large a part of the area to 0."""

    def distort(x: Tensor, rng: torch.Generator) -> Tensor:
        h, w = x.shape[-2:]
        a, b = round(math.sqrt(part) * h), round(math.sqrt(part) * w)
        x = x.clone()
        for one in x:
            top, left = (int(torch.randint(n + 1, (1,), generator=rng)) for n in (h - a, w - b))
            one[:, top : top + a, left : left + b] = 0
        return x

    return distort


def brighter(factor: float) -> Distortion:
    return lambda x, rng: (x * factor).clamp(0, 1)


def contrast(factor: float) -> Distortion:
    return lambda x, rng: ((x - x.mean((1, 2, 3), keepdim=True)) * factor + x.mean((1, 2, 3), keepdim=True)).clamp(0, 1)


def blurred(sigma: float) -> Distortion:
    """Blur by a Gaussian of so many pixels."""

    def distort(x: Tensor, rng: torch.Generator) -> Tensor:
        at = torch.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1).float()
        kernel = torch.exp(-at.square() / (2 * sigma**2))
        kernel, reach, c = kernel / kernel.sum(), len(at) // 2, x.shape[1]
        x = F.pad(x, (reach,) * 4, mode="replicate")
        x = F.conv2d(x, kernel.reshape(1, 1, -1, 1).expand(c, 1, -1, 1), groups=c)
        return F.conv2d(x, kernel.reshape(1, 1, 1, -1).expand(c, 1, 1, -1), groups=c)

    return distort


def noisy(sigma: float) -> Distortion:
    return lambda x, rng: x + sigma * torch.randn(x.shape, generator=rng)


def jpeg(quality: int) -> Distortion:
    """Write as JPEG and read."""

    def distort(x: Tensor, rng: torch.Generator) -> Tensor:
        rows = []
        for one in (x.clamp(0, 1) * 255).round().to(torch.uint8).numpy():
            file = io.BytesIO()
            Image.fromarray(one[0] if len(one) == 1 else one.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
            read = torch.from_numpy(np.array(Image.open(file))).float() / 255
            rows.append(read[None] if read.ndim == 2 else read.permute(2, 0, 1))
        return torch.stack(rows)

    return distort


def rounded(bits: int) -> Distortion:
    return lambda x, rng: (x.clamp(0, 1) * (2**bits - 1)).round() / (2**bits - 1)


def resized(part: float) -> Distortion:
    """Make smaller by averaging, and as large as before again."""

    def distort(x: Tensor, rng: torch.Generator) -> Tensor:
        small = F.interpolate(x, scale_factor=part, mode="area")
        return F.interpolate(small, x.shape[-2:], mode="bilinear", align_corners=False)

    return distort


def chain(*steps: Distortion) -> Distortion:
    def distort(x: Tensor, rng: torch.Generator) -> Tensor:
        for step in steps:
            x = step(x, rng)
        return x

    return distort


DISTORTIONS: dict[str, Distortion] = {
    "none": lambda x, rng: x,
    "clipped to [0, 1]": lambda x, rng: x.clamp(0, 1),
    "rotation 5°": rotated(5), "rotation 15°": rotated(15), "rotation 45°": rotated(45),
    "crop 90 %, resized": cropped(0.9), "crop 50 %, resized": cropped(0.5),
    "resized to half": resized(0.5),
    "erasing 25 %": erased(0.25),
    "brightness × 1.5": brighter(1.5), "brightness × 2": brighter(2),
    "contrast × 1.5": contrast(1.5), "contrast × 2": contrast(2),
    "blur 0.7 px": blurred(0.7), "blur 1.5 px": blurred(1.5),
    "noise 0.05": noisy(0.05), "noise 0.1": noisy(0.1),
    "JPEG 90": jpeg(90), "JPEG 50": jpeg(50), "JPEG 10": jpeg(10),
    "4 bits": rounded(4), "2 bits": rounded(2),
    "geometric: rotation 5°, crop 90 %, erasing 10 %": chain(rotated(5), cropped(0.9), erased(0.1)),
    "photometric: brightness and contrast × 1.5": chain(brighter(1.5), contrast(1.5)),
    "degradation: blur 0.7 px, noise 0.05, JPEG 50": chain(blurred(0.7), noisy(0.05), jpeg(50)),
    "all three": chain(
        rotated(5), cropped(0.9), erased(0.1), brighter(1.5), contrast(1.5), blurred(0.7), noisy(0.05), jpeg(50)
    ),
}  # fmt: skip


def regenerations(splits: Splits, epochs: int) -> dict[str, Distortion]:
    """Return distortions that encode pictures and decode a draw of their latents, once and twice."""
    found: dict[str, Distortion] = {}
    for name, dim in GENERATORS.items():
        job = FitAutoencoder(train=splits.train, dim=dim, width=WIDTH, epochs=epochs, kl=KL)
        weights, shape = job.compute(), splits.train.input.shape

        def once(x: Tensor, rng: torch.Generator, weights: Any = weights, shape: Any = shape) -> Tensor:
            mean, log_variance = encode_images(x.clamp(0, 1), weights)
            noise = torch.randn(mean.shape, generator=rng)
            return decode_latents(mean + (log_variance / 2).exp() * noise, weights, 0, shape)

        found[f"made again by a {name}"] = once
        found[f"twice by a {name}"] = chain(once, once)
    return found


def kept_items(features: Features, rng: torch.Generator) -> dict[str, Tensor]:
    """Return positions of the items that are left."""
    n, order = len(features.values), torch.randperm(len(features.values), generator=rng)
    classes = torch.randperm(len(features.classes), generator=rng)
    return {
        "half of the items dropped": order[: n // 2], "90 % of the items dropped": order[: n // 10],
        "half of the classes dropped": torch.where(torch.isin(features.labels, classes[: len(classes) // 2]))[0],
        "two classes left": torch.where(torch.isin(features.labels, classes[:2]))[0],
    }  # fmt: skip


def recognised(features: Features, secret: bytes) -> tuple[bool, float]:
    """Return whether a key is said to have marked these items, and its score."""
    z = max(score(features, secret, carrier) for carrier in features.carriers)
    return z >= threshold(len(features.carriers)), z


def false_positives(features: Features) -> float:
    """Return the share of unmarked keys that are said to have marked these items."""
    rows = [null_scores(features, 1, NULL, carrier) for carrier in features.carriers]
    limit = threshold(len(rows))
    return sum(max(row) >= limit for row in zip(*rows, strict=True)) / NULL


def made(name: str, splits: Splits, steps: int) -> potstill.Distilled:
    """Return the unmarked set."""
    method = name.partition("/")[2]
    options: dict[str, Any] = {} if method == "random" else {"network": MAKER, "steps": steps}
    return potstill.distill(
        splits, method, ipc=10, seed=0, codec="uint8", progress=None, executor="serial", device="cpu", **options
    )  # fmt: skip


def key(n: int) -> bytes:
    return f"a key of the benchmark, {n}".encode()


def distorted(
    marked: list[potstill.Distilled], again: dict[str, Distortion], bench: Bench, students: int, old: bool
) -> dict[str, Any]:
    """Return by distortion the share of keys that are recognised, and of unmarked keys.

    Of pictures that are made again also the accuracy of students, before and after; with ``old`` of these alone.
    """
    found: dict[str, Any] = {}
    features = [read_features(one) for one in marked]
    numbers = {name: number for number, name in enumerate((*DISTORTIONS, *again))}
    for name, distort in (again if old else {**DISTORTIONS, **again}).items():
        number = numbers[name]
        rows, false = [], None
        for n, one in enumerate(marked):
            x = distort(one.inputs, generator(n, "distortion", number))
            moved = features[n].of_inputs(x)
            rows.append(recognised(moved, read_secret(key(n))))
            false = false_positives(moved) if n == 0 else false
        found[name] = {"hits": sum(hit for hit, _ in rows), "n": len(rows), "scores": [z for _, z in rows],
                       "false_positives": false}  # fmt: skip
        if name in again:
            found[name]["accuracy"] = [
                [accuracy(bench, train(bench.job(TrainingData(x=one.normalization.apply(x), y=one.labels), n)))
                 for x in (one.inputs, distort(one.inputs, generator(n, "distortion", number)))]
                for n, one in enumerate(marked[:students])
            ]  # fmt: skip
    for n in range(len(marked)):
        for name, at in kept_items(features[n], generator(n, "kept")).items():
            hit, z = recognised(features[n].subset(at), read_secret(key(n)))
            row = found.setdefault(name, {"hits": 0, "n": 0, "scores": [], "false_positives": None})
            row["hits"], row["n"], row["scores"] = row["hits"] + hit, row["n"] + 1, [*row["scores"], z]
    return found


def redistilled(marked: list[potstill.Distilled], splits: Splits, steps: int) -> dict[str, Any]:
    """Return how many marks are left after going on from the marked set, and after distilling it."""
    found: dict[str, Any] = {}
    for n, one in enumerate(marked):
        options: dict[str, Any] = {
            "network": MAKER, "codec": "uint8", "progress": None, "seed": n, "executor": "serial", "device": "cpu",
        }  # fmt: skip
        data = potstill.TensorSource(
            name="marked", inputs=one.inputs, labels=one.hard_labels, classes=one.classes, input=one.input,
            normalization=one.normalization,
        )  # fmt: skip
        for name, made_again in {
            f"dm goes on from it, {steps} steps on the real data": lambda o=one, s=options: potstill.distill(
                splits, "dm", ipc=10, steps=steps, initial=o, **s
            ),
            f"dm of it, {steps} steps, half the items": lambda d=data, s=options: potstill.distill(
                Splits(train=d, test=None), "dm", ipc=5, steps=steps, **s
            ),
        }.items():
            hit, z = recognised(read_features(made_again()), read_secret(key(n)))
            row = found.setdefault(name, {"hits": 0, "n": 0, "scores": []})
            row["hits"], row["n"], row["scores"] = row["hits"] + hit, row["n"] + 1, [*row["scores"], z]
    return found


def accuracy(bench: Bench, network: torch.nn.Module) -> float:
    return float((network_outputs(network, bench.eval_source).argmax(1) == bench.eval_source.labels).double().mean())


def students(small: potstill.Distilled, marked: list[potstill.Distilled], splits: Splits, args: Any) -> dict[str, Any]:
    """Return accuracies with and without the mark by pairs, and scores of models."""
    features, found = read_features(small), {}
    limit = threshold(1)
    for network in STUDENTS:
        bench = make_bench(small, splits, network=network, eval_split="test", students=args.students, seed=0)
        rows = []
        for n in range(args.students):
            secret, one = read_secret(key(n)), marked[n]
            plain = train(bench.job(bench.distilled_data, n))
            taught = TrainingData(x=one.model_space(), y=one.labels)
            learned = train(bench.job(taught, n))
            row = {"plain": accuracy(bench, plain), "marked": accuracy(bench, learned)}
            null: list[float] = []
            for name, model in (("plain", plain), ("marked", learned)):
                row[f"score of {name}"], null = score_model(model, small, features, secret, NULL, n)
                row[f"outputs of {name}"], by_outputs = score_outputs(
                    query_of(model, small), small, features, secret, NULL, n
                )
            row["false_positives"] = sum(z >= limit for z in null) / NULL
            row["false_positives by outputs"] = sum(z >= limit for z in by_outputs) / NULL
            real = bench.draw_real(n, [10 * c for c in bench.counts])
            fit(learned, replace(bench.job(real, n), steps=args.tuning))
            row["tuned"] = accuracy(bench, learned)
            row["score of tuned"] = score_model(learned, small, features, secret, 1, n)[0]
            row["outputs of tuned"] = score_outputs(query_of(learned, small), small, features, secret, 1, n)[0]
            rows.append(row)
        found[network] = rows
    return found


def cell(path: Path, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return everything of one set, from its file or measured anew."""
    if path.exists():
        return dict(json.loads(path.read_text()))
    started = time.monotonic()
    splits = potstill.load_data(name.partition("/")[0])
    small = made(name, splits, args.steps)
    found = [mark(small, key(n)) for n in range(args.keys)]
    marked = [one.distilled for one in found]
    bench = make_bench(small, splits, network="mlp-w128", eval_split="test", students=args.students, seed=0)
    curves = [
        audit_provenance(one, key(n), progress=None).values["curve"] for n, one in enumerate(marked[: args.curves])
    ]
    result = {
        "set": name, "bytes": [one.bytes for one in found], "relative": [one.relative for one in found],
        "change": [one.change for one in found], "scores": [one.score for one in found],
        "carriers": [one.carrier for one in found],
        "unmarked": false_positives(read_features(small)),
        "curves": [{name: of and of[name] for name in ("proves", "exponent")} for of in curves],
        "distortions": distorted(marked, regenerations(splits, args.epochs), bench, args.students, args.old),
        "redistilled": {} if args.old else redistilled(marked[: args.redistilled], splits, args.again),
        "students": students(small, marked, splits, args),
    }  # fmt: skip
    result["seconds"] = round(time.monotonic() - started, 1)
    path.write_text(json.dumps(result))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--keys", type=int, default=20)
    parser.add_argument("--students", type=int, default=3, help="of each network, each with a key of its own")
    parser.add_argument("--redistilled", type=int, default=2, help="keys whose sets are distilled again")
    parser.add_argument("--curves", type=int, default=5, help="keys whose sets are cut to few items")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the autoencoders")
    parser.add_argument("--steps", type=int, default=100, help="of dm")
    parser.add_argument("--again", type=int, default=50, help="steps of dm after the mark")
    parser.add_argument("--tuning", type=int, default=180, help="updates on ten times as many real samples")
    parser.add_argument(
        "--old", action="store_true", help="measure what was added later alone: all other tables stay as stored"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/provenance"))
    parser.add_argument("--out", type=Path, default=Path("results/trust/provenance.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    numbers = ("keys", "students", "redistilled", "curves", "epochs", "steps", "again", "tuning")
    settings = {k: getattr(args, k) for k in numbers} | {
        "ipc": 10, "codec": "uint8", "networks": STUDENTS, "maker": MAKER, "unmarked_keys": NULL, "queries": QUERIES,
        "generators": GENERATORS, "width": WIDTH, "kl": KL,
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    stored = json.loads(args.out.read_text()) if args.old else None
    cells = []
    for name in args.sets.split(","):
        cells.append(cell(args.folder / f"{name.replace('/', '-')}.json", name, args))
        print(name, "done in", cells[-1]["seconds"], "s", flush=True)
    added = {"settings": settings, "machine": machine(), **later_tables(cells)}
    if stored is None:
        held = {"settings": settings, "machine": machine(), **summarize(cells), "added": added}
    else:
        held = stored | {"added": added}
    args.out.write_text(json.dumps(held, indent=1) + "\n")
    show(held)


def summarize(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the tables of all sets."""
    mean = lambda values: sum(values) / len(values) if values else None  # noqa: E731
    limit = threshold(1)
    sets, survived, models = [], [], {}
    for of in cells:
        pairs = [(row["marked"], row["plain"]) for rows in of["students"].values() for row in rows]
        sets.append({
            "set": of["set"], "by_class": of["carriers"].count("class"), "keys": len(of["carriers"]),
            "score": mean(of["scores"]), "least_score": min(of["scores"]),
            "relative": mean(of["relative"]), "change": mean(of["change"]), "bytes": of["bytes"][0][0],
            "marked_bytes": mean([after for _, after in of["bytes"]]), "unmarked": of["unmarked"],
            "accuracy": {"marked": mean([a for a, _ in pairs]), "plain": mean([b for _, b in pairs])},
            "utility": paired_difference([a for a, _ in pairs], [b for _, b in pairs]),
        })  # fmt: skip
    for kind in ("distortions", "redistilled"):
        for name in cells[0][kind]:
            if "accuracy" in cells[0][kind][name]:
                continue
            rows = [of[kind][name] for of in cells]
            survived.append({
                "name": name, "by_set": [[row["hits"], row["n"]] for row in rows],
                "rate": sum(row["hits"] for row in rows) / sum(row["n"] for row in rows),
                "n": sum(row["n"] for row in rows), "score": mean([z for row in rows for z in row["scores"]]),
                "false_positives": None if rows[0].get("false_positives") is None
                else mean([row["false_positives"] for row in rows]),
            })  # fmt: skip
    for network in STUDENTS:
        rows = [
            row
            for of in cells
            for carrier, row in zip(of["carriers"], of["students"][network], strict=False)
            if carrier == "class"
        ]
        models[network] = {
            name: {"recognised": sum(row[f"score of {name}"] >= limit for row in rows), "n": len(rows),
                   "score": mean([row[f"score of {name}"] for row in rows])}
            for name in ("marked", "tuned", "plain")
        } | {"false_positives": mean([row["false_positives"] for row in rows])}  # fmt: skip
    a, b = ([one["accuracy"][name] for one in sets] for name in ("marked", "plain"))
    return {"sets": sets, "survived": survived, "models": models, "utility": paired_difference(a, b)}


def later_tables(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the tables of subsets of items, of pictures that are made again, and of both tests of models."""
    mean = lambda values: sum(values) / len(values) if values else None  # noqa: E731
    limit = threshold(1)
    again = []
    for name in (name for name, row in cells[0]["distortions"].items() if "accuracy" in row):
        rows = [of["distortions"][name] for of in cells]
        accuracies = [[mean([pair[at] for pair in row["accuracy"]]) for row in rows] for at in (1, 0)]
        again.append({
            "name": name, "by_set": [[row["hits"], row["n"]] for row in rows], "n": sum(row["n"] for row in rows),
            "rate": sum(row["hits"] for row in rows) / sum(row["n"] for row in rows),
            "score": mean([z for row in rows for z in row["scores"]]),
            "false_positives": mean([row["false_positives"] for row in rows]),
            "accuracy": paired_difference(*accuracies),
        })  # fmt: skip
    models = {}
    for network in STUDENTS:
        rows = [
            row
            for of in cells
            for carrier, row in zip(of["carriers"], of["students"][network], strict=False)
            if carrier == "class"
        ]
        models[network] = {
            "n": len(rows),
            **{f"{by}, {name}": {"recognised": sum(row[f"{key} of {name}"] >= limit for row in rows),
                                 "score": mean([row[f"{key} of {name}"] for row in rows])}
               for by, key in (("gradients", "score"), ("outputs", "outputs"))
               for name in ("marked", "tuned", "plain")},
            "false_positives": mean([row["false_positives by outputs"] for row in rows]),
        }  # fmt: skip
    curves = [
        {"set": of["set"], **{name: [one[name] for one in of["curves"]] for name in ("proves", "exponent")}}
        for of in cells
    ]
    return {"curves": curves, "again": again, "models": models}


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    for one in found["sets"]:
        print(one)
    for one in found["survived"]:
        print(f"{one['name']:<55} {100 * one['rate']:5.1f} % of {one['n']}, score {one['score']:.1f}, "
              f"unmarked {one['false_positives']}, {one['by_set']}")  # fmt: skip
    print(found["models"])
    print("accuracy, marked minus unmarked, over sets:", found["utility"])
    for rows in found["added"].values():
        print(*(rows if isinstance(rows, list) else rows.items()), sep="\n")


if __name__ == "__main__":
    main()
