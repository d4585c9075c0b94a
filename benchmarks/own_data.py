"""Your own data: folders of real pictures at three sizes with unbalanced classes, end to end through the command line.

    python benchmarks/own_data.py [--budget 30s] [--ipc 1] [--out results/own_data.json]

The pictures are the bundled mnist-5k digits, written as a person's folder would look: nested sub-folders, PNG and JPEG,
grey, colour and palette, three sizes (and one folder of mixed sizes), and classes of 40 to 400 pictures.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from machine import machine
from PIL import Image

from potstill.data import load
from potstill.rng import generator

NAMES = ("nought", "one", "two", "three", "four")


def write_folder(root: Path, side: int | None) -> dict[str, int]:
    """A picture folder of five unbalanced classes; ``side`` None mixes sizes. Returns pictures per class."""
    train = load("mnist-5k").train
    rng = generator(5, "own data", str(side))
    kept = {}
    for c, name in enumerate(NAMES):
        index = torch.nonzero(train.labels == c).flatten()
        count = (400, 200, 120, 70, 40)[c]
        pictures = train.raw(index[torch.randperm(len(index), generator=rng)[:count]])
        assert isinstance(pictures, torch.Tensor)
        kept[name] = len(pictures)
        for n, picture in enumerate(pictures):
            size = side or (20, 28, 47)[n % 3]
            grey = Image.fromarray((picture[0] * 255).round().to(torch.uint8).numpy()).resize((size, size))
            folder = root / name / ("scans" if n % 2 else "photos")
            folder.mkdir(parents=True, exist_ok=True)
            if n % 5 == 0:
                grey.convert("RGB").save(folder / f"{n:04}.jpg", quality=95)
            elif n % 5 == 1:
                grey.convert("P").save(folder / f"{n:04}.png")
            else:
                grey.save(folder / f"{n:04}.png")
    return kept


def potstill(*words: str) -> dict:  # type: ignore[type-arg]
    done = subprocess.run([sys.executable, "-m", "potstill.cli.main", *words, "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"potstill {' '.join(words)} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="30s")
    parser.add_argument("--ipc", default="1")
    parser.add_argument("--seeds", default="5")
    parser.add_argument("--out", type=Path, default=Path("results/own_data.json"))
    args = parser.parse_args()
    rows = []
    for side in (20, 28, 47, None):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "photos"
            kept = write_folder(root, side)
            out = Path(folder) / "small.safetensors"
            card = potstill(
                "distill", str(root), "--method", "dm", "--ipc", args.ipc, "--network", "convnet-w32",
                "--batch-real", "64", "--preset", "published", "--time-limit", args.budget, "--out", str(out),
            )  # fmt: skip
            score = potstill(
                "evaluate", str(out), "--data", str(root), "--network", "convnet-w32", "--seeds", args.seeds,
            )  # fmt: skip
            page = Path(folder) / "page.html"
            potstill("report", folder, "--out", str(page))
            row = {
                "pictures": side or "mixed 20, 28, 47", "classes": kept, "shape": card["input"]["shape"],
                "notes": card["source"].get("notes"), "steps": card["cost"]["steps"],
                "accuracy": score["accuracy"], "random": score["baselines"]["random"],
                "difference": score["difference"]["random"], "full": score["full"], "page_bytes": page.stat().st_size,
            }  # fmt: skip
            rows.append(row)
            d = row["difference"]
            print(
                f"{row['pictures']}: {100 * score['accuracy']['mean']:.1f} %, random "
                f"{100 * score['baselines']['random']['mean']:.1f} %, difference {100 * d['mean']:.1f} points "
                f"[{100 * d['ci95'][0]:.1f}, {100 * d['ci95'][1]:.1f}]",
                flush=True,
            )
    report = {"machine": machine(), "method": f"dm, ipc {args.ipc}, {args.budget}", "rows": rows}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
