"""Clips as pictures: which picture of a clip holds what a network needs, for all clips and for small sets of them.

    python benchmarks/clips.py [--seeds 3]
    python benchmarks/clips.py --show

Clips are made here of real digits (`mnist-5k`; test digits are in no training clip): nine frames in which a digit of
14 × 14 pixels moves over a black frame of 20 × 20, two pixels a frame, and wraps around. Of ``direction`` the class is
left, right, up or down, and frames are read at 5 × 5 pixels; of ``digit and direction`` also which of 2, 5 and 8
moves, at 20 × 20. They are written as GIF files and read by Potstill.

Rows: random clips and ``dm`` (200 steps), five per class in 4 bits; ``real``, the best coded real clips in the bytes of
``dm``'s set, chosen on training clips alone (not for `LARGE` pictures, where the search takes an hour); and all clips.
A 3-D network on all frames stands beside them, with its multiply-adds. Nothing is chosen on test clips: networks,
updates and learning rate are fixed.
Every cell is a file under ``--folder``; the summary goes to ``results/clips.json``.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

import potstill
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.evaluation.statistics import paired_difference, summary

STEPS = {"left": (0, -2), "right": (0, 2), "up": (-2, 0), "down": (2, 0)}
DIGITS = (2, 5, 8)
FRAMES, SIDE = 9, 20
TASKS: dict[str, tuple[int, int]] = {"direction": (1, 5), "digit and direction": (len(DIGITS), 20)}
"""Kinds of digits that classes tell apart, and the side of a frame in pixels, by the name of a task."""
CLIPS = {"train": 80, "test": 60}
"""Clips of each direction and digit."""
PICTURES = ("middle", "mean", "dynamic", "thirds", "grid:frames=9")
NETWORKS = ("convnet-d2-w16", "mlp-w64")
ROWS = ("random", "dm", "real")
LARGE = 3000
"""Values of a picture from which on the best coded real clips are not searched."""
ITEMS = 5
RECIPE: dict[str, Any] = {"lr": 0.03, "steps": 300}
WIDTH = 16


def clip_of(digit: torch.Tensor, direction: str, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Frames (t, h, w) of a digit (28, 28) in [0, 1] that moves."""
    image = Image.fromarray((digit.numpy() * 255).astype(np.uint8)).resize((14, 14), Image.Resampling.BICUBIC)
    canvas = np.zeros((SIDE, SIDE), dtype=np.uint8)
    canvas[:14, :14] = np.asarray(image)
    y, x = rng.integers(SIDE, size=2)
    dy, dx = STEPS[direction]
    return np.stack([np.roll(canvas, (y + dy * t, x + dx * t), (0, 1)) for t in range(FRAMES)])


def write_clips(root: Path, task: str) -> None:
    """Write the clips as GIF files: ``train/CLASS`` and ``test/CLASS``."""
    data, rng = potstill.load_data("mnist-5k"), np.random.default_rng(0)
    for part, source in (("train", data.train), ("test", data.test)):
        assert isinstance(source, TensorSource)
        labels = source.labels
        for number in DIGITS:
            places = torch.where(labels == number)[0].tolist()
            for direction in STEPS:
                name = direction if TASKS[task][0] == 1 else f"{number} {direction}"
                for i in range(CLIPS[part]):
                    raw = source.raw(torch.tensor([places[int(rng.integers(len(places)))]]))
                    assert isinstance(raw, torch.Tensor)
                    picture = raw[0, 0]
                    path = root / part / name / f"{number}-{i}.gif"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    first, *others = [Image.fromarray(frame) for frame in clip_of(picture, direction, rng)]
                    first.save(path, save_all=True, append_images=others, duration=40)


def card_of(small: potstill.Distilled, splits: Splits, network: str, students: int, full: bool) -> Any:
    return potstill.evaluate(
        small, splits, networks=network, seeds=students, baselines=False, full=full, progress=None, executor="serial",
        robust_scores=False, device="cpu", **RECIPE,
    ).to_dict()  # fmt: skip


def operations(shape: tuple[int, ...], classes: int, frames: int = 1) -> int:
    """Multiply-adds of a ConvNet of two blocks of width `WIDTH`; of frames in its 3-D form."""
    c, h, w = shape
    taps = 9 if frames == 1 else 27
    half = (h // 2) * (w // 2) * max(1, frames // 2)
    last = (h // 4) * (w // 4) * max(1, frames // 4)
    return taps * WIDTH * (c * h * w * frames + WIDTH * half) + WIDTH * last * classes


def three_dimensional(root: Path, size: int, seed: int) -> float:
    """Train a 3-D ConvNet of the same width on all frames; return its test accuracy."""
    splits = potstill.load_data(root, kind="video", representation=f"grid:frames={FRAMES},columns=1", size=size)
    assert splits.test is not None
    classes = len(splits.train.classes)

    def part(source: Any) -> tuple[torch.Tensor, torch.Tensor]:
        x = source.raw(torch.arange(len(source)))
        return x.reshape(len(x), 1, FRAMES, size, size), source.labels

    torch.manual_seed(seed)
    (x, y), (test_x, test_y) = part(splits.train), part(splits.test)
    mean, deviation = x.mean(), x.std()
    x, test_x = (x - mean) / deviation, (test_x - mean) / deviation
    rows = (size // 4) ** 2 * (FRAMES // 4)
    net = nn.Sequential(
        nn.Conv3d(1, WIDTH, 3, padding=1), nn.InstanceNorm3d(WIDTH, affine=True), nn.ReLU(), nn.AvgPool3d(2),
        nn.Conv3d(WIDTH, WIDTH, 3, padding=1), nn.InstanceNorm3d(WIDTH, affine=True), nn.ReLU(), nn.AvgPool3d(2),
        nn.Flatten(), nn.Linear(WIDTH * rows, classes),
    )  # fmt: skip
    steps = RECIPE["steps"]
    optimizer = torch.optim.SGD(net.parameters(), lr=RECIPE["lr"], momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        at = torch.randint(len(x), (128,))
        loss = nn.functional.cross_entropy(net(x[at]), y[at])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    net.eval()
    with torch.no_grad():
        return float((net(test_x).argmax(1) == test_y).double().mean())


def cell(args: argparse.Namespace, key: str, make: Any) -> Any:
    """Return a measurement, from its file or made now."""
    path = args.folder / f"{key.replace(' ', '_').replace(':', '_')}.json"
    if not path.exists():
        path.write_text(json.dumps(make()))
        print(key, path.read_text()[:150], flush=True)
    return json.loads(path.read_text())


def measure(args: argparse.Namespace, root: Path, task: str, size: int, picture: str) -> dict[str, Any]:
    """Return the rows of one picture of clips."""
    splits = potstill.load_data(root, kind="video", representation=picture, size=size)
    assert splits.test is not None
    key = f"{task}-{size}-{picture}"
    rows = ROWS if splits.train.input.num_values < LARGE else ROWS[:-1]
    cells_of: dict[str, list[Any]] = {row: [] for row in rows}
    for seed in range(args.seeds):
        for row in rows:

            def made(row: str = row, seed: int = seed) -> dict[str, Any]:
                options: dict[str, Any] = {"ipc": ITEMS, "codec": "uint4"}
                if row == "dm":
                    options |= {"iterations": 200}
                if row == "real":
                    options = {"bytes": cells_of["dm"][seed]["bytes"]}
                small = potstill.distill(
                    splits, row, seed=seed, progress=None, device="cpu", executor="serial",
                    network=None if row == "random" else NETWORKS[0], **options,
                )  # fmt: skip
                scores = {
                    n: card_of(small, splits, n, args.students, False)["score"]["mean"] for n in NETWORKS
                }  # fmt: skip
                return {"bytes": small.metadata["bytes"]["total"], "items": len(small), "scores": scores}

            cells_of[row].append(cell(args, f"{key}-{row}-{seed}", made))
    one = potstill.distill(splits, "random", ipc=1, progress=None)
    full = cell(args, f"{key}-full", lambda: {
        n: card_of(one, splits, n, args.students, True)["full"]["mean"] for n in NETWORKS
    })  # fmt: skip
    shape, test = tuple(splits.train.input.shape), len(splits.test)
    return {
        "picture": picture, "shape": list(shape), "operations": operations(shape, len(splits.train.classes)),
        "full": full,
        "rows": {
            row: {
                "bytes": sum(c["bytes"] for c in cells) / len(cells),
                "scores": {n: summary([c["scores"][n] for c in cells], test) for n in NETWORKS},
            }
            for row, cells in cells_of.items()
        },
        "gap": {
            row: {
                n: paired_difference([c["scores"][n] for c in cells_of["dm"]], [c["scores"][n] for c in cells_of[row]])
                for n in NETWORKS
            }
            for row in rows if row != "dm"
        },
    }  # fmt: skip


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    for part in result["parts"]:
        print(f"\n{part['task']}, frames of {part['size']} × {part['size']}; {ITEMS} per class or all; accuracy, %")
        print(f"{'picture':16}{'bytes':>8}{'ops':>11}" + "".join(f"{n:>{18}}" for n in NETWORKS for _ in range(4)))
        print(" " * 35 + "".join(f"{row:>18}" for _ in NETWORKS for row in (*ROWS, "all")))
        for of in part["pictures"]:
            cells = []
            for n in NETWORKS:
                for row in ROWS:
                    if row not in of["rows"]:
                        cells.append("")
                        continue
                    v = of["rows"][row]["scores"][n]
                    ends = "" if v["ci95"] is None else " [{:.0f}, {:.0f}]".format(*(100 * e for e in v["ci95"]))
                    cells.append(f"{100 * v['mean']:.1f}{ends}")
                cells.append(f"{100 * of['full'][n]:.1f}")
            size = of["rows"]["dm"]["bytes"]
            print(f"{of['picture']:16}{size:8,.0f}{of['operations']:11,}" + "".join(f"{c:>18}" for c in cells))
        volume = part["3-D network"]
        print(f"{'3-D network, all':24}{volume['operations']:11,}{100 * volume['mean']:72.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/clips"))
    parser.add_argument("--out", type=Path, default=Path("results/clips.json"))
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for task in TASKS:
        root = args.folder / "data" / task.replace(" ", "-")
        if not root.exists():
            write_clips(root, task)
        digits, size = TASKS[task]
        runs = cell(args, f"{task}-{size}-3d", lambda r=root, s=size: [
            three_dimensional(r, s, seed) for seed in range(args.students)
        ])  # fmt: skip
        classes = digits * len(STEPS)
        parts.append({
            "task": task, "size": size, "classes": classes,
            "pictures": [measure(args, root, task, size, picture) for picture in PICTURES],
            "3-D network": {
                "mean": sum(runs) / len(runs), "operations": operations((1, size, size), classes, FRAMES),
            },
        })  # fmt: skip
    result = {"parts": parts, "seeds": args.seeds, "students": args.students, "machine": machine()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
