"""A picture of what each method makes of the bundled digits, and what the command prints, for its page of the site.

``python -m tools.docs.method_pictures [METHOD …]`` runs ``potstill distill`` for each and writes
``docs/img/methods/METHOD.png``, three items of each class, and the command with what it printed to ``made.json`` beside
them (``--out DIR``: there). Methods that are there already are left out unless named.
Each is run as quickly as it can be looked at: preset quick, a small network, and few steps where those move every item.
No number is drawn from it.
"""

import argparse
import contextlib
import io
import json
import os
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import potstill
from potstill.api.listing import list_methods
from potstill.cli.main import main as potstill_main
from potstill.core.registry import get_method_class

__all__ = ["OUT", "command", "file_of"]

OUT = Path(__file__).resolve().parents[2] / "docs/img/methods"
EACH, STEPS, SMALL = 3, 200, ("convnet-d2-w32", "convnet-d2-w32-batch")
GAP, TIMES = 1, 6


def sheet(pictures: torch.Tensor, labels: torch.Tensor) -> Image.Image:
    """Classes in columns, three pictures (n, 1, h, w) of each below one another, white between."""
    h, w = pictures.shape[2:]
    classes = sorted(set(labels.tolist()))
    drawn = np.full((EACH * (h + GAP) - GAP, len(classes) * (w + GAP) - GAP), 255, np.uint8)
    levels = (pictures[:, 0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    for column, c in enumerate(classes):
        for row, at in enumerate((labels == c).nonzero()[:EACH, 0].tolist()):
            top, left = row * (h + GAP), column * (w + GAP)
            drawn[top : top + h, left : left + w] = levels[at]
    return drawn_larger(drawn)


def drawn_larger(levels: np.ndarray) -> Image.Image:
    """Every pixel as a square of ``TIMES``, in 16 greys: small files that no page needs to scale."""
    greys = Image.fromarray(np.rint(levels / 17).astype(np.uint8).repeat(TIMES, 0).repeat(TIMES, 1), mode="P")
    greys.putpalette([17 * k for k in range(16) for _ in range(3)])
    return greys


def command(name: str, network: str | None) -> list[str]:
    """Return the arguments of ``potstill`` that make a method's set."""
    info = get_method_class(name).info
    whole = info.is_selection or info.family in (
        "decoupled",
        "generative",
    )  # batch after batch: fewer steps would leave most untouched
    steps = [] if whole else ["--steps", str(STEPS)]
    small = [] if network is None else ["--network", network]
    return [
        "distill", "digits", "--method", name, "--ipc", str(EACH), "--preset", "quick", *steps, *small,
        "--codec", "float32", "--out", "small.safetensors",
    ]  # fmt: skip


def made(name: str) -> tuple[potstill.Distilled, dict[str, Any]] | None:
    """Return a set of the method, with the first of the small networks that it takes, else its own, and its record."""
    fields = get_method_class(name).__dataclass_fields__
    for network in [*(SMALL if "network" in fields else ()), None]:
        arguments, printed, said = command(name, network), io.StringIO(), io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
                status = potstill_main(arguments)
            if status == 0:
                small = potstill.load("small.safetensors")
                card = small.metadata
                record = {
                    "command": shlex.join(["potstill", *arguments]), "printed": printed.getvalue().strip(),
                    "network": card["network"], "steps": card["outcome"]["step"], "ended": card["outcome"]["kind"],
                }  # fmt: skip
                return small, record
    print(f"{name}: no picture, as {said.getvalue().strip()}", flush=True)
    return None


def file_of(name: str) -> str:
    """A plus sign means something else in an address."""
    return name.replace("+", "p")


def meant(small: potstill.Distilled) -> torch.Tensor:
    """The class that each item was made for: they lie class by class, whatever a soft label says of them."""
    return small.hard_labels if small.index is not None else torch.arange(len(small)) * 10 // len(small)


def main(names: list[str], out: Path) -> None:
    """Pictures of the methods of these names, or of all."""
    kept = out / "made.json"
    out.mkdir(parents=True, exist_ok=True)
    said = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for row in list_methods(outside=False):
        name = row["name"]
        if (names and name not in names) or (not names and name in said):
            continue
        if not {"*", "classification"} & set(get_method_class(name).info.tasks):
            continue
        begun = time.monotonic()
        if (result := made(name)) is None:
            continue
        small, said[name] = result
        sheet(torch.as_tensor(small.inputs), meant(small)).save(out / f"{file_of(name)}.png", bits=4, optimize=True)
        kept.write_text(json.dumps(said, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{name}: {time.monotonic() - begun:.0f} s, {said[name]['ended']}", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("POTSTILL_OUTSIDE", "0")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    main(asked.methods, asked.out.resolve())
