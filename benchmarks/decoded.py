"""A folder of pictures, loaded by a command and by the next one: decoded, and from the cache of decoded folders.

    python benchmarks/decoded.py                          # 2,000 photographs' worth of JPEG, some minutes
    python benchmarks/decoded.py --count 200 --rounds 3 --out build/decoded.json      # a quick look

Makes a folder of JPEG files of several sizes (smooth colours with noise, quality 90), then lets three kinds of loading
take turns, in seconds of the core (``process_time``: other programs do not count) and of the clock:

**first**: the cache is empty: everything is decoded, and kept. **next**: from the cache. **checked**: from the cache,
with the contents of all files compared (``--check-cache``).

Each round also asserts that all three gave the same data. Prints medians with the range over rounds, and the ratio of
the medians.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from PIL import Image

from potstill.data import load

SIZES = ((400, 300), (300, 400), (480, 360), (375, 500))


def make(root: Path, count: int) -> None:
    """``count`` JPEG files in ten class folders."""
    rng = np.random.default_rng(0)
    for i in range(count):
        small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize(SIZES[i % len(SIZES)], Image.Resampling.BICUBIC)
        noisy = np.asarray(picture).astype(np.int16) + rng.integers(-12, 13, (picture.height, picture.width, 1))
        path = root / f"class{i % 10}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def timed(root: Path, **options: bool) -> tuple[float, float, str]:
    """Seconds of the core and of the clock, and the hash of what was loaded."""
    core, clock = time.process_time(), time.perf_counter()
    splits = load(root, horizontal_flip=True, **options)
    spent = time.process_time() - core, time.perf_counter() - clock
    return *spent, splits.train.content_hash


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("results/decoded.json"))
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {"first": [], "next": [], "checked": []}
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder, "photos"), Path(folder, "cache")
        os.environ["POTSTILL_CACHE"] = str(cache)
        make(root, args.count)
        time.sleep(0.1)  # what changed this very moment is not kept
        load(root)  # the system's cache of files is warm for all
        for _ in range(args.rounds):
            shutil.rmtree(cache)
            hashes = set[str]()
            for kind, options in (("first", {}), ("next", {}), ("checked", {"check_cache": True})):
                *spent, content = timed(root, **options)
                found[kind].append((spent[0], spent[1]))
                hashes.add(content)
            assert len(hashes) == 1, "all three must give the same data"
    said: dict[str, Any] = {
        "count": args.count, "rounds": args.rounds, "sizes": SIZES,
        "core": {kind: spread([c for c, _ in times]) for kind, times in found.items()},
        "clock": {kind: spread([w for _, w in times]) for kind, times in found.items()},
        "machine": machine(),
    }  # fmt: skip
    base = said["core"]["first"]["median"]
    said["ratio"] = {kind: base / said["core"][kind]["median"] for kind in ("next", "checked")}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    for kind in found:
        c, w = said["core"][kind], said["clock"][kind]
        print(
            f"{kind:8} {c['median']:.2f} s of a core [{c['least']:.2f}, {c['most']:.2f}], "
            f"{w['median']:.2f} s [{w['least']:.2f}, {w['most']:.2f}], n {args.rounds}"
        )
    print("ratio of medians: " + ", ".join(f"{kind} {value:.0f}" for kind, value in said["ratio"].items()))


if __name__ == "__main__":
    main()
