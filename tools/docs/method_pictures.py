"""A picture of what each method makes of the bundled digits, for its page of the site.

``python -m tools.docs.method_pictures [METHOD …]`` writes ``docs/img/methods/METHOD.png``, three items of each class,
and what they were made with to ``made.json`` beside them (``--out DIR``: there). Methods that have a picture already
are left out unless named.
Each is run as quickly as it can be looked at: effort quick, few steps, a small network. No number is drawn from it.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import potstill
from potstill.api.listing import list_methods
from potstill.core.registry import get_method_class
from potstill.errors import PotstillError

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


def made(name: str, digits: Any) -> tuple[potstill.Distilled, float]:
    """A set of the method, with the first of the small networks that it takes, else its own."""
    fields = get_method_class(name).__dataclass_fields__
    asked: list[dict[str, Any]] = [{"network": network} for network in SMALL] if "network" in fields else []
    why: PotstillError | None = None
    for more in [*asked, {}]:
        begun = time.monotonic()
        try:
            limit = None if get_method_class(name).info.is_selection else STEPS
            small = potstill.distill(
                digits, name, ipc=EACH, preset="quick", steps=limit, codec="float32", progress=None, **more
            )
        except PotstillError as error:
            why = error
            continue
        return small, time.monotonic() - begun
    assert why is not None
    raise why


def file_of(name: str) -> str:
    """A plus sign means something else in an address."""
    return name.replace("+", "p")


def meant(small: potstill.Distilled) -> torch.Tensor:
    """The class that each item was made for: they lie class by class, whatever a soft label says of them."""
    return small.hard_labels if small.index is not None else torch.arange(len(small)) * 10 // len(small)


def main(names: list[str], out: Path) -> None:
    """Pictures of the methods of these names, or of all."""
    digits, kept = potstill.load_data("digits"), out / "made.json"
    out.mkdir(parents=True, exist_ok=True)
    said = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for row in list_methods(outside=False):
        name = row["name"]
        if (names and name not in names) or (not names and name in said):
            continue
        try:
            small, seconds = made(name, digits)
        except PotstillError as error:
            print(f"{name}: no picture, as {error}", flush=True)
            continue
        sheet(torch.as_tensor(small.inputs), meant(small)).save(out / f"{file_of(name)}.png", bits=4, optimize=True)
        card = small.metadata
        said[name] = {"network": card["network"], "steps": card["outcome"]["step"], "ended": card["outcome"]["kind"]}
        kept.write_text(json.dumps(said, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{name}: {seconds:.0f} s, {said[name]}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    main(asked.methods, asked.out)
