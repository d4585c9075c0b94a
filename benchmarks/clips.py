"""Clips as pictures: which picture of a clip holds what a network needs, for all clips and for small sets of them.

    python benchmarks/clips.py [--seeds 3] [--wesnoth FOLDER]
    python benchmarks/clips.py --only direction --pictures thirds grid:frames=9
    python benchmarks/clips.py --show

Clips are made here of real digits (`mnist-5k`; test digits are in no training clip): nine frames in which a digit of
14 × 14 pixels moves over a black frame of 20 × 20, two pixels a frame, and wraps around. Of ``direction`` the class is
left, right, up or down, and frames are read at 5 × 5 pixels; of ``digit and direction`` also which of 2, 5 and 8
moves, at 20 × 20. They are written as GIF files and read by Potstill. ``wesnoth`` are real animations: five actions of
units of a game, with no unit on both sides, in the folder that ``wesnoth_clips.py`` writes from a package.

Rows: random clips and ``dm`` (200 steps), five per class in 4 bits; ``real``, the best coded real clips in the bytes of
``dm``'s set, chosen on training clips alone (not for `LARGE` pictures, where the search takes an hour); and all clips.
``motion`` is ``dm`` over still pictures, motions and the network that joins them, in at most the bytes of ``dm``'s set,
for pictures with frames side by side. Its scale and rate are chosen once for each picture, by one set of a seed of its
own, on a fifth of the training clips. ``--only`` and ``--pictures`` measure a part and keep the rest.
A 3-D network on all frames stands beside them, with its multiply-adds. Nothing is chosen on test clips: networks,
updates and learning rate are fixed.
``moved`` of a result says that augmentation moved each frame; without it, it moved pictures of frames as a whole.
Every cell is a file under ``--folder``; the summary goes to ``results/clips.json``.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine
from wesnoth_clips import UNIT

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
WESNOTH = ("wesnoth", 20, ("middle", "thirds", "grid:frames=4"))
"""Name, side of a frame, and pictures of the real clips."""
NETWORKS = ("convnet-d2-w16", "mlp-w64")
ROWS = ("random", "dm", "real", "motion")
TRIALS = [{"scale": scale, "lr": lr} for scale in (1, 2) for lr in (0.003, 0.01)]
CHOICE_SEED = 99
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


def motion_of(picture: str) -> str | None:
    """Return the frames and columns of a picture that shows frames, as settings of ``motion``."""
    if picture == "thirds":
        return "frames=3,columns=1"
    return picture.removeprefix("grid:") if picture.startswith("grid:") else None


def distil_motion(splits: Splits, frames: str, trial: Mapping[str, Any], size: int, seed: int) -> Any:
    return potstill.distill(
        splits, "dm", bytes=size, codec="uint4", parametrization=f"motion:{frames},scale={trial['scale']}",
        optimizer="adamw", lr=trial["lr"], iterations=200, seed=seed, progress=None, device="cpu", executor="serial",
        network=NETWORKS[0],
    )  # fmt: skip


def choose_motion(splits: Splits, frames: str, size: int) -> dict[str, Any]:
    """Return the scale and rate of the best set on a fifth of the training clips."""
    kept, held_out = potstill.holdout(splits.train, 0.2, CHOICE_SEED)
    trial_splits, scores = Splits(train=kept, test=held_out), list[float | None]()
    for trial in TRIALS:
        try:
            small = distil_motion(trial_splits, frames, trial, size, CHOICE_SEED)
        except potstill.PotstillError:  # the bytes hold no clips of each class
            scores.append(None)
            continue
        scores.append(card_of(small, trial_splits, NETWORKS[0], 2, False)["score"]["mean"])
    best = max(range(len(TRIALS)), key=lambda i: -1.0 if scores[i] is None else float(scores[i] or 0))
    return {**TRIALS[best], "held_out": scores}


def measure(args: argparse.Namespace, root: Path, task: str, size: int, picture: str) -> dict[str, Any]:
    """Return the rows of one picture of clips."""
    group = UNIT if task == WESNOTH[0] else None
    splits = potstill.load_data(root, kind="video", representation=picture, size=size, group=group)
    assert splits.test is not None
    key, frames = f"{task}-{size}-{picture}", motion_of(picture)
    left_out = {"real"} if splits.train.input.num_values >= LARGE else set[str]()
    rows = [row for row in ROWS if row not in left_out | (set() if frames else {"motion"})]
    cells_of: dict[str, list[Any]] = {row: [] for row in rows}
    choice: dict[str, Any] = {}
    for seed in range(args.seeds):
        for row in rows:
            if row == "motion" and not choice:
                least = min(c["bytes"] for c in cells_of["dm"])
                choice = cell(args, f"{key}-motion-choice", lambda b=least: choose_motion(splits, frames, b))

            def made(row: str = row, seed: int = seed, choice: Any = choice) -> dict[str, Any]:
                if row == "motion":
                    assert frames is not None
                    small = distil_motion(splits, frames, choice, cells_of["dm"][seed]["bytes"], seed)
                else:
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
        "full": full, "motion": choice, **({"moved": "frames"} if frames else {}),
        "rows": {
            row: {
                "bytes": sum(c["bytes"] for c in cells) / len(cells),
                "items": sum(c["items"] for c in cells) / len(cells),
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
        print(
            f"{'picture':16}{'bytes':>8}{'ops':>11}" + "".join(f"{n:>{18}}" for n in NETWORKS for _ in (*ROWS, "all"))
        )
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
        if volume := part.get("3-D network"):
            print(f"{'3-D network, all':24}{volume['operations']:11,}{100 * volume['mean']:90.1f}")


def measure_part(args: argparse.Namespace, task: str, size: int, pictures: Sequence[str]) -> dict[str, Any]:
    """Return one set of clips: its pictures, and where clips are made here the 3-D network."""
    part: dict[str, Any] = {"task": task, "size": size}
    if task == WESNOTH[0]:
        root = args.wesnoth
        names = sorted(p.name for p in (root / "train").iterdir())
        part["classes"] = len(names)
        part["clips"] = {p: [sum(1 for _ in (root / p / n).iterdir()) for n in names] for p in ("train", "test")}
    else:
        root = args.folder / "data" / task.replace(" ", "-")
        if not root.exists():
            write_clips(root, task)
        runs = cell(args, f"{task}-{size}-3d", lambda: [
            three_dimensional(root, size, seed) for seed in range(args.students)
        ])  # fmt: skip
        part["classes"] = TASKS[task][0] * len(STEPS)
        part["3-D network"] = {
            "mean": sum(runs) / len(runs), "operations": operations((1, size, size), part["classes"], FRAMES),
        }  # fmt: skip
    return {**part, "pictures": [measure(args, root, task, size, picture) for picture in pictures]}


def merge(stored: list[dict[str, Any]], part: dict[str, Any]) -> None:
    """Put the pictures of ``part`` in the place of stored ones of the same names, or behind them."""
    for old in stored:
        if old["task"] == part["task"]:
            fresh = {of["picture"]: of for of in part["pictures"]}
            old["pictures"] = [fresh.pop(of["picture"], of) for of in old["pictures"]] + list(fresh.values())
            old.update({name: value for name, value in part.items() if name != "pictures"})
            return
    stored.append(part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/clips"))
    parser.add_argument("--out", type=Path, default=Path("results/clips.json"))
    parser.add_argument("--wesnoth", type=Path, help="folder written by wesnoth_clips.py")
    parser.add_argument("--only", help="measure this set of clips alone, and keep the stored rest")
    parser.add_argument("--pictures", nargs="+", help="measure these pictures alone, and keep the stored rest")
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    sets = [(task, size, PICTURES) for task, (_, size) in TASKS.items()]
    if args.wesnoth:
        sets.append(WESNOTH)
    stored = json.loads(args.out.read_text())["parts"] if args.only or args.pictures else []
    for task, size, pictures in sets:
        if args.only in (None, task):
            part = measure_part(args, task, size, [p for p in pictures if args.pictures is None or p in args.pictures])
            merge(stored, part)
    result = {"parts": stored, "seeds": args.seeds, "students": args.students, "machine": machine()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
