"""Super-resolution as regression of patches: what a small network learns from all patches, and from small sets of them.

    python benchmarks/super_resolution.py [--seeds 3]
    python benchmarks/super_resolution.py --show

Patches of 16 × 16 pixels, grey, of photographs that scikit-image and scikit-learn bring, those of `TEST` in no training
patch. A patch is shrunk to half its sides and enlarged again, both bicubic; that is the input. The
target of each pixel is what the enlarging has lost, so that zeros are bicubic interpolation, and PSNR (peak 1) is that
of the enlarged picture plus the answer.

Rows; ``random`` and ``dm`` have 8 bits a value, ``real`` and ``derived`` at most the bytes of ``dm``'s set:

* ``bicubic``: no network; ``all``: a network of all training patches;
* ``random``: as many random pairs as ``dm`` has, in fewer bytes;
* ``real``: the best coded real pairs, chosen on training patches alone;
* ``derived``: random real patches in one JPEG, from which a reader makes inputs and targets. Quality is chosen on
  patches of a held-out photograph.
* ``dm``: 200 steps from real pairs. It keeps the targets of the patches that it starts from.

Network, updates and rate are fixed; students mirror pictures with their targets. Nothing is chosen on test patches.
"""

import argparse
import io
import json
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine
from photo_patches import PHOTOS

import potstill
from potstill.core import Splits
from potstill.evaluation.statistics import summary
from potstill.tasks import PixelRegression

TEST = ("coffee", "cat", "flower")
HELD_OUT = "pagoda"
SIDE, EACH = 16, {"train": 300, "test": 100}
"""Side of a patch, and patches of each photograph."""
ITEMS = 40
QUALITIES = (30, 50, 70, 85, 95)
ROWS = ("random", "real", "derived", "dm")
RECIPE: dict[str, Any] = {"lr": 0.1, "steps": 300, "augment": "flip"}


class Upscaler(nn.Module):
    """Three convolutions without norms: what they answer depends on contrast."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(16, 1, 3, padding=1)

    def embed(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(x).flatten(1)
        return features

    def forward(self, x: Tensor) -> Tensor:
        answers: Tensor = self.head(self.body(x))
        return answers


def draw_patches(name: str, count: int, seed: int) -> Tensor:
    """Return random patches (n, 1, 16, 16) of a photograph, uint8."""
    package, file = PHOTOS[name]
    with Image.open(io.BytesIO(files(package).joinpath(file).read_bytes())) as image:
        pixels = torch.from_numpy(np.array(image.convert("L")))
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randint(pixels.shape[0] - SIDE, (count,), generator=rng).tolist()
    columns = torch.randint(pixels.shape[1] - SIDE, (count,), generator=rng).tolist()
    return torch.stack([pixels[None, r : r + SIDE, q : q + SIDE] for r, q in zip(rows, columns, strict=True)])


def pairs_of(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return inputs, uint8 (n, 1, 16, 16), and what enlarging has lost (n, 16, 16)."""
    whole = patches.float() / 255
    small = F.interpolate(whole, scale_factor=0.5, mode="bicubic", align_corners=False, antialias=True)
    large = F.interpolate(small, scale_factor=2, mode="bicubic", align_corners=False)
    x = (large.clamp(0, 1) * 255).round()
    return x.to(torch.uint8), (whole - x / 255)[:, 0]


def load(test: tuple[str, ...], left_out: tuple[str, ...] = ()) -> tuple[Splits, Tensor]:
    """Return pairs of both parts, and the training patches themselves."""
    names = [name for name in PHOTOS if name not in (*test, *left_out)]
    train = torch.cat([draw_patches(name, EACH["train"], 0) for name in names])
    (x, y), (test_x, test_y) = pairs_of(train), pairs_of(torch.cat([draw_patches(n, EACH["test"], 1) for n in test]))
    arrays = tuple(part.numpy() for part in (x, y, test_x, test_y))
    return potstill.load_data(arrays, task=PixelRegression(peak=1.0)), train


def psnr(small: Any, splits: Splits, students: int, full: bool = False) -> float:
    card = potstill.evaluate(
        small, splits, networks=Upscaler, seeds=students, baselines=False, full=full, progress=None, executor="serial",
        robust_scores=False, device="cpu", **RECIPE,
    ).to_dict()  # fmt: skip
    return float(card["full" if full else "score"]["mean"])


def as_set(splits: Splits, patches: Tensor) -> Any:
    """Return a set of the pairs of these patches, with the statistics of the whole data."""
    x, y = pairs_of(patches)
    source = replace(splits.train, inputs=x, targets=y, labels=torch.zeros(len(x), dtype=torch.int64), places=None)
    return potstill.distill(Splits(train=source, test=None), "random", items=len(x), progress=None)


def jpeg_of(patches: Tensor, quality: int) -> tuple[int, Tensor]:
    """Return the bytes of one JPEG with all patches in a column of eight, and the patches in it."""
    fill = -len(patches) % 8
    grid = F.pad(patches[:, 0], (0, 0, 0, 0, 0, fill)).reshape(-1, 8, SIDE, SIDE).permute(0, 2, 1, 3)
    file = io.BytesIO()
    Image.fromarray(grid.reshape(-1, 8 * SIDE).numpy()).save(file, "JPEG", quality=quality, optimize=True)
    with Image.open(file) as image:
        decoded = torch.from_numpy(np.array(image)).reshape(-1, SIDE, 8, SIDE).permute(0, 2, 1, 3)
    return len(file.getvalue()), decoded.reshape(-1, 1, SIDE, SIDE)[: len(patches)]


def fill_jpeg(patches: Tensor, quality: int, size: int) -> tuple[int, Tensor]:
    """Return as many of the first patches as a JPEG of ``size`` bytes holds, in eights, as they are decoded."""
    low, high = 1, len(patches) // 8
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if jpeg_of(patches[: 8 * middle], quality)[0] <= size else (low, middle - 1)
    return jpeg_of(patches[: 8 * low], quality)


def shuffled(patches: Tensor, seed: int) -> Tensor:
    return patches[torch.randperm(len(patches), generator=torch.Generator().manual_seed(seed))]


def choose_quality(size: int, students: int) -> dict[str, Any]:
    """Return the quality whose derived pairs are best on a photograph that is neither trained on nor tested."""
    splits, patches = load((HELD_OUT,), TEST)
    scores = [psnr(as_set(splits, fill_jpeg(shuffled(patches, 99), q, size)[1]), splits, students) for q in QUALITIES]
    return {"quality": QUALITIES[int(np.argmax(scores))], "held_out": scores}


def cell(args: argparse.Namespace, key: str, make: Any) -> Any:
    """Return a measurement, from its file or made now."""
    path = args.folder / f"{key}.json"
    if not path.exists():
        path.write_text(json.dumps(make()))
        print(key, path.read_text()[:120], flush=True)
    return json.loads(path.read_text())


def made(args: argparse.Namespace, splits: Splits, patches: Tensor, row: str, seed: int, size: int) -> dict[str, Any]:
    """Return bytes, items and PSNR of a set of a row."""
    if row == "derived":
        quality = cell(args, "quality", lambda: choose_quality(size, args.students))["quality"]
        stored, decoded = fill_jpeg(shuffled(patches, seed), quality, size)
        return {"bytes": stored, "items": len(decoded), "psnr": psnr(as_set(splits, decoded), splits, args.students)}
    options: dict[str, Any] = {"bytes": size} if row == "real" else {"items": ITEMS, "codec": "uint8"}
    if row == "dm":
        options |= {"iterations": 200}
    small = potstill.distill(
        splits, row, seed=seed, network=None if row == "random" else Upscaler, progress=None, device="cpu",
        executor="serial", **options,
    )  # fmt: skip
    stored = small.metadata["bytes"]["total"]
    return {"bytes": stored, "items": len(small), "psnr": psnr(small, splits, args.students)}


def show(result: Mapping[str, Any]) -> None:
    """Print the table."""
    print(f"bicubic {result['bicubic']:.2f} dB; all {result['patches']:,} patches {result['all']:.2f} dB")
    for row, of in result["rows"].items():
        low, high = of["psnr"]["ci95"] or (float("nan"),) * 2
        score = f"{of['psnr']['mean']:.2f} [{low:.2f}, {high:.2f}]"
        print(f"{row:8}{of['bytes']:8,.0f} bytes{of['items']:7,.0f} items  {score}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/super_resolution"))
    parser.add_argument("--out", type=Path, default=Path("results/super_resolution.json"))
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", potstill.PotstillWarning)  # derived pairs are none of the training data
    args.folder.mkdir(parents=True, exist_ok=True)
    splits, patches = load(TEST)
    assert splits.test is not None
    assert isinstance(splits.train.task, PixelRegression)
    truth = splits.test.targets
    cells: dict[str, list[Any]] = {row: [] for row in ROWS}
    sizes = [
        cell(args, f"dm-{seed}", lambda s=seed: made(args, splits, patches, "dm", s, 0)) for seed in range(args.seeds)
    ]
    for seed in range(args.seeds):
        for row in ROWS:
            size = sizes[seed]["bytes"]
            cells[row].append(
                cell(args, f"{row}-{seed}", lambda r=row, s=seed, b=size: made(args, splits, patches, r, s, b))
            )
    one = potstill.distill(splits, "random", items=1, progress=None)
    result = {
        "bicubic": splits.train.task.score(torch.zeros_like(truth), truth), "patches": len(splits.train),
        "all": cell(args, "all", lambda: psnr(one, splits, args.students, full=True)),
        "test": len(splits.test), "quality": cell(args, "quality", dict)["quality"],
        "rows": {
            row: {
                "bytes": sum(c["bytes"] for c in found) / len(found),
                "items": sum(c["items"] for c in found) / len(found),
                "psnr": summary([c["psnr"] for c in found], None),
            }
            for row, found in cells.items()
        },
        "seeds": args.seeds, "students": args.students, "machine": machine(),
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
