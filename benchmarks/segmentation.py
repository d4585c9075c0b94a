"""Sets of pictures with masks at equal bytes, by two networks, in mIoU.

    python benchmarks/segmentation.py --stamps FOLDER [--seeds 3]
    python benchmarks/segmentation.py --show

``FOLDER`` is ``usr/share/tuxpaint/stamps`` of Debian's package ``tuxpaint-stamps-default`` (GPL-2), of which nothing is
distributed here. ``stamps``: 700
of its drawings and photographs of objects, each on a piece of one of scikit-learn's two photographs; the mask is where
the object's own alpha is above one half, so masks are real and pictures are put together. ``digits``: generated
pictures of one or two of scikit-learn's digits 0, 1, 3 and 7 on such pieces, of which 7 is in a twelfth as many as 0; a
pixel is of its digit's class where there is ink.

Test pictures have other objects and the right halves of the photographs. A set is of one seed, which draws objects,
backgrounds, the set and the students. All rows have the same budget in bytes at four bits a value, masks included;
``dc`` has as many pictures as ``random``, or fewer until they fit. The students' rate was chosen on a part of the
training pictures of another seed. Every cell is a file under ``--folder``, from which an interrupted run goes on; the
summary goes to ``results/segmentation.json``.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_digits, load_sample_images

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

import potstill
from potstill.core import Splits, registry
from potstill.dataset_file.text_io import charged_bytes
from potstill.evaluation.statistics import paired_difference, summary
from potstill.tasks import get_targets, get_task

Pixels = npt.NDArray[np.uint8]
SIDE, TRAIN, TEST = 24, 500, 200
BYTES = (4_000, 12_000)
NETWORKS = ("unet-w4", "fcn2d-w16")
STUDENTS, STEPS, FULL_STUDENTS, FULL_STEPS, RATE, BATCH = 3, 120, 1, 360, 0.1, 64
CODEC = "uint4"
ROWS: dict[str, dict[str, Any]] = {
    "random": {}, "balanced-masks": {}, "herding": {}, "dc": {"preset": "quick", "network": "fcn2d-w16"},
}  # fmt: skip
"""Methods with their settings."""
DIGITS, SHARES = (0, 1, 3, 7), (12, 4, 2, 1)


def pieces(rng: np.random.Generator, n: int, *, test: bool) -> Pixels:
    """Return pieces of two photographs, the left halves for training and the right ones for the test."""
    photos = [np.asarray(photo) for photo in load_sample_images().images]
    found = []
    for i in range(n):
        photo = photos[i % 2]
        half = photo.shape[1] // 2
        side = int(rng.integers(60, 200))
        top, left = int(rng.integers(photo.shape[0] - side)), int(rng.integers(half - side)) + (half if test else 0)
        found.append(np.asarray(Image.fromarray(photo[top : top + side, left : left + side]).resize((SIDE, SIDE))))
    return np.stack(found)


def stamps(folder: Path, seed: int) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """Return pictures and masks of both parts; an object is in one of them alone."""
    rng = np.random.default_rng(seed)
    files = sorted(path for path in folder.rglob("*.png") if path.stat().st_size < 400_000)
    parts: list[Pixels] = []
    order = rng.permutation(len(files))
    for numbers, test in ((order[:TRAIN], False), (order[TRAIN : TRAIN + TEST], True)):
        pictures, masks = [], []
        grounds = pieces(rng, len(numbers), test=test)
        for number, ground in zip(numbers, grounds, strict=True):
            stamp = ImageOps.contain(Image.open(files[number]).convert("RGBA"), (SIDE - 4, SIDE - 4))
            side = int(rng.integers(SIDE // 2, SIDE - 3))
            stamp = ImageOps.contain(stamp, (side, side))
            canvas = Image.new("RGBA", (SIDE, SIDE))
            place = int(rng.integers(SIDE - stamp.width)), int(rng.integers(SIDE - stamp.height))
            canvas.paste(stamp, place)
            pictures.append(np.asarray(Image.alpha_composite(Image.fromarray(ground).convert("RGBA"), canvas))[..., :3])
            masks.append((np.asarray(canvas)[..., 3] > 127).astype(np.uint8))
        parts += [np.stack(pictures), np.stack(masks)]
    return parts[0], parts[1], parts[2], parts[3]


def digits(seed: int) -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """Return generated pictures and masks of both parts; classes are background and four digits."""
    rng = np.random.default_rng(seed)
    held = load_digits()
    half = len(held.target) // 2
    parts: list[Pixels] = []
    for n, test in ((TRAIN, False), (TEST, True)):
        pictures, masks = pieces(rng, n, test=test).copy(), np.zeros((n, SIDE, SIDE), np.uint8)
        for picture, mask in zip(pictures, masks, strict=True):
            for place in range(int(rng.integers(1, 3))):
                c = int(rng.choice(4, p=np.array(SHARES) / sum(SHARES)))
                of_class = np.flatnonzero(held.target == DIGITS[c])
                of_class = of_class[of_class >= half] if test else of_class[of_class < half]
                ink = np.asarray(Image.fromarray((held.images[rng.choice(of_class)] * 15).astype(np.uint8)).resize(
                    (12, 12), Image.Resampling.BILINEAR))  # fmt: skip
                top, left = int(rng.integers(SIDE - 12)), int(rng.integers(2) if place == 0 else 12 - rng.integers(2))
                shade, where = rng.integers(0, 256, 3), ink > 90
                picture[top : top + 12, left : left + 12][where] = shade
                mask[top : top + 12, left : left + 12][where] = 1 + c
        parts += [pictures, masks]
    return parts[0], parts[1], parts[2], parts[3]


def load(name: str, seed: int, args: argparse.Namespace) -> Splits:
    """Return one draw of the data."""
    made = digits(seed) if name == "digits" else stamps(args.stamps, seed)
    return potstill.load_data(made, task="segmentation", horizontal_flip=name == "stamps")


def scores(splits: Splits, small: Any, seed: int, students: int, steps: int) -> dict[str, dict[str, float]]:
    """Return the metrics of each network, the mean of its students."""
    protocol = registry.resolve("protocols", "potstill").override(steps=steps, lr=RATE, batch=BATCH, least_epochs=0)
    found = {}
    for name in NETWORKS:
        card = potstill.evaluate(
            small, splits, protocol=protocol, networks=name, seeds=students, baselines=False, full=False, progress=None,
            seed=seed, executor="serial",
        ).to_dict()  # fmt: skip
        found[name] = {"mIoU": card["score"]["mean"], "students": card["score"]["std"]}
        found[name] |= {metric: value["mean"] for metric, value in card["metrics"].items()}
    return found


def cell(data: str, row: str, budget: int, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return one set of a row, from its file or measured anew."""
    path = Path(args.folder / f"{data}-{row}-{budget}-{seed}.json")
    if path.exists():
        return dict(json.loads(path.read_text()))
    splits, begun = load(data, seed, args), time.monotonic()
    same: dict[str, Any] = {"seed": seed, "progress": None, "device": "cpu", "executor": "serial"}
    if row == "all":
        small = potstill.distill(splits, "random", items=TRAIN, codec="exact", **same)
    elif row == "dc":  # a short run plans its values uncoded, which would leave most of the budget
        most = cell(data, "random", budget, seed, args)["items"]
        tries = (potstill.distill(splits, row, items=n, codec=CODEC, **ROWS[row], **same) for n in range(most, 0, -1))
        small = next(made for made in tries if charged_bytes(made.metadata["bytes"]) <= budget)
    else:
        small = potstill.distill(splits, row, bytes=budget, codec=CODEC, **ROWS[row], **same)
    seconds = time.monotonic() - begun
    assert splits.test is not None
    found: dict[str, Any] = {
        "bytes": charged_bytes(small.metadata["bytes"]), "labels": small.metadata["bytes"]["labels"],
        "items": len(small), "seconds": round(seconds, 1),
        "scores": scores(splits, small, seed, *((FULL_STUDENTS, FULL_STEPS) if row == "all" else (STUDENTS, STEPS))),
        "chance": get_task(splits.test).chance_score(get_targets(splits.test)),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    return found


def block(data: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return the rows of the cells that are there."""
    rows = []
    for budget in (*BYTES, 0):
        cells = {
            row: {
                seed: json.loads(path.read_text()) for seed in range(args.seeds)
                if (path := args.folder / f"{data}-{row}-{budget}-{seed}.json").exists()
            }
            for row in (ROWS if budget else ("all",))
        }  # fmt: skip
        for row, by_seed in cells.items():
            if not by_seed:
                continue
            entry: dict[str, Any] = {"row": row, "budget": budget or None}
            entry |= {
                k: float(np.mean([c[k] for c in by_seed.values()])) for k in ("bytes", "labels", "items", "seconds")
            }
            entry["chance"] = float(np.mean([c["chance"] for c in by_seed.values()]))
            entry["scores"] = {
                name: {m: summary([c["scores"][name][m] for c in by_seed.values() if m in c["scores"][name]])
                       for m in next(iter(by_seed.values()))["scores"][name]}
                for name in NETWORKS
            }  # fmt: skip
            both = sorted(by_seed.keys() & cells.get("random", {}).keys())
            if row not in ("random", "all") and len(both) > 1:
                entry["over random"] = {
                    name: paired_difference(
                        [by_seed[s]["scores"][name]["mIoU"] for s in both],
                        [cells["random"][s]["scores"][name]["mIoU"] for s in both],
                    )
                    for name in NETWORKS
                }
            rows.append(entry)
    return {"data": data, "rows": rows}


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    for part in result["data"]:
        print(f"\n{part['data']}: mIoU in per cent, mean ± deviation over sets; over random with 95% interval")
        for row in part["rows"]:
            shown = [f"{row['row']:15}{row['items']:5.0f} items{row['bytes']:9,.0f} bytes"]
            for name in NETWORKS:
                score, over = row["scores"][name]["mIoU"], row.get("over random", {}).get(name)
                text = f"{100 * score['mean']:5.1f} ± {100 * (score['std'] or 0):.1f}"
                if over is not None and over["ci95"] is not None:
                    text += f" ({100 * over['mean']:+.1f} [{100 * over['ci95'][0]:+.1f}, {100 * over['ci95'][1]:+.1f}])"
                shown.append(f"{name} {text:34}")
            print("  ".join(shown), f"chance {100 * row['chance']:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stamps", type=Path, help="folder of the stamps of the package")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", default="stamps,digits")
    parser.add_argument("--folder", type=Path, default=Path("runs/segmentation"))
    parser.add_argument("--out", type=Path, default=Path("results/segmentation.json"))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further cell after so long")
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    torch.set_num_threads(1)
    begun = time.monotonic()
    for budget in (BYTES[0], 0, *BYTES[1:]):
        for seed, data in itertools.product(range(args.seeds), args.data.split(",")):
            for row in ROWS if budget else ("all",):
                if time.monotonic() - begun < args.seconds:
                    print(data, row, budget, seed, cell(data, row, budget, seed, args), flush=True)
    result = {
        "machine": machine(), "students": STUDENTS, "steps": STEPS, "students of all": FULL_STUDENTS,
        "steps of all": FULL_STEPS, "batch": BATCH, "rate": RATE, "codec": CODEC, "side": SIDE,
        "training pictures": TRAIN, "test pictures": TEST,
        "data": [block(data, args) for data in args.data.split(",")],
    }  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
