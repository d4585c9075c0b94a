"""Distilled pairs of pictures and texts beside real ones, at as many pairs and at equal true bytes.

    npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz
    python benchmarks/emoji.py package --out emoji
    python benchmarks/pairs.py --emoji emoji [--stamps stamp-pairs] [--sets 5] [--students 3]

Pictures have 16 × 16 pixels, texts are vectors (``representation=latent``), and networks are two towers of width 16.
All sets are written by one codec, the one in which random pairs of equal bytes score best on a part of the training
data; the rate of ``vl-distill`` and the bits of learned vectors, 4, were chosen on such a part, too. Each set is made,
saved, read again and measured by the shortened protocol ``potstill`` on the test split; nothing is chosen there. Rows
``…-bytes`` hold as many real pairs as fit into the bytes of the ``vl-distill`` set of the same seed and size, without
positions: real pairs store their captions. The encoder of texts is not counted, as real pairs need it too. Results go
to results/pairs.json after every cell; a cell that is there is not made again.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.core import Splits
from potstill.dataset_file import write_atomic
from potstill.evaluation.statistics import paired_difference, summary

READING = {"task": "retrieval", "size": (16, 16), "representation": "latent"}
NETWORK = "towers-w16"
SIZES = {"emoji": (100, 20), "stamps": (50,)}
CODECS = ("exact", "uint4", "cosine:positions=16", "cosine:positions=64", "cosine:positions=256")
BUDGET = 10_000
"""Bytes of the sets by which the codec is chosen."""
QUICK = {"preset": "quick", "iterations": 60}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "vl-distill": ("vl-distill", QUICK),
    "random": ("random", {}),
    "random-bytes": ("random", {}),
    "lors": ("lors", QUICK),
    "covmatch": ("covmatch", {"preset": "quick"}),
    "k-center": ("k-center", {}),
    "prototypes": ("prototypes", {}),
    "prototype means": ("prototypes", {"keep": "mean"}),
    "dm": ("dm", {"iterations": 100, "lr": 0.1}),
    "prototypes-bytes": ("prototypes", {}),
}
METRICS = ("ir@1", "ir@5", "ir@10", "tr@1", "tr@5", "tr@10")


def make(splits: Splits, row: str, items: int, codec: str, seed: int) -> Any:
    """The set of a row, made, saved and read again."""
    method, options = ROWS[row]
    small = potstill.distill(
        splits, method, items=items, seed=seed, network=NETWORK, codec=codec, progress=None, **options
    )
    with tempfile.TemporaryDirectory() as folder:
        small.save(Path(folder) / "set.safetensors")
        again = potstill.load(Path(folder) / "set.safetensors")
        assert again.record is not None  # is read while its file is there
        return again


def size_of(small: Any) -> int:
    """Bytes of inputs, captions, targets and what is learned beside; without the encoder and without positions."""
    return sum(n for name, n in small.metadata["bytes"].items() if name not in ("total", "encoder", "index"))


def fill(splits: Splits, row: str, most: int, codec: str, seed: int) -> Any:
    """As many real pairs of a row as fit into ``most`` bytes."""
    items = min(100, len(splits.train))
    for _ in range(4):  # bytes are nearly in proportion to pairs
        small = make(splits, row, items, codec, seed)
        fitting = max(1, min(len(splits.train), items * most // size_of(small)))
        if fitting == items or (size_of(small) <= most and fitting - items <= items // 100):
            break
        items = fitting
    while size_of(small) > most and items > 1:
        items = max(1, items - max(1, items // 200))
        small = make(splits, row, items, codec, seed)
    return small


def score(small: Any, splits: Splits, students: int, seed: int) -> dict[str, Any]:
    card = potstill.evaluate(
        small, splits, networks=NETWORK, seeds=students, seed=seed, quick=True, baselines=False, full=False,
        robust_scores=False, progress=None,
    ).to_dict()  # fmt: skip
    metrics = {m: card["metrics"][m]["mean"] for m in METRICS}
    return {"mean": card["score"]["mean"], "metrics": metrics, "students": students}


def choose_codec(splits: Splits, students: int) -> dict[str, Any]:
    """The codec in which random pairs of equal bytes score best on a fifth of the training data."""
    order = torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(1))
    cut = len(order) * 4 // 5
    held = Splits(train=splits.train.subset(order[:cut]), test=splits.train.subset(order[cut:]))  # type: ignore[attr-defined]
    tried = {}
    for codec in CODECS:
        small = fill(held, "random-bytes", BUDGET, codec, 0)
        tried[codec] = {"items": len(small), **score(small, held, students, 0)}
    return {"chosen": max(tried, key=lambda codec: tried[codec]["mean"]), "tried": tried}


def cell(splits: Splits, row: str, items: int, codec: str, seed: int, students: int, most: int) -> dict[str, Any]:
    begun = time.monotonic()
    small = fill(splits, row, most, codec, seed) if row.endswith("-bytes") else make(splits, row, items, codec, seed)
    made = time.monotonic() - begun
    result = {"items": len(small), "bytes": size_of(small), **score(small, splits, students, seed)}
    if row in ("vl-distill", "lors", "covmatch") and small.nearest_texts:
        captions = decoded(small, splits)
        result["nearest captions"] = score(captions, splits, students, seed)["mean"]
    return result | {"seconds": {"making": round(made, 1), "all": round(time.monotonic() - begun, 1)}}


def decoded(small: Any, splits: Splits) -> Any:
    """The set with the nearest real captions in place of its learned texts."""
    import dataclasses

    vectors = small.encoder.encode(small.nearest_texts)
    contents = dataclasses.replace(small._contents, inputs={**small.inputs, "text": vectors})
    return type(small)(contents, small.metadata, normalization=small.normalization, tensors=small.tensors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in SIZES:
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--sets", type=int, default=5)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/pairs.json"))
    args = parser.parse_args()
    held: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"cells": {}, "data": {}}
    held["machines"] = [*(m for m in held.get("machines", []) if m != machine()), machine()]
    held |= {"network": NETWORK, "rows": {n: {"method": m, **o} for n, (m, o) in ROWS.items()}}

    def write() -> None:
        write_atomic(args.out, (json.dumps(held, indent=1) + "\n").encode())

    for name, sizes in SIZES.items():
        if (path := getattr(args, name)) is None:
            continue
        splits = potstill.load_data(path, **READING)
        if name not in held["data"]:
            counts = {"train": len(splits.train), "test": len(splits.test or ())}
            held["data"][name] = {**counts, "codec": choose_codec(splits, args.students)}
            write()
        if held["data"][name].get("full") is None:
            codec = held["data"][name]["codec"]["chosen"]
            everything = make(splits, "random", len(splits.train), codec, 0)
            full = {**score(everything, splits, args.students, 0), "bytes": size_of(everything)}
            held["data"][name] |= {"full": full, "encoder": everything.metadata["bytes"]["encoder"]}
            write()
        codec = held["data"][name]["codec"]["chosen"]
        for size in sizes:
            for seed in range(args.sets):
                most = 0
                for row in ROWS:
                    key = f"{name} {size} {row} {seed}"
                    if key not in held["cells"]:
                        held["cells"][key] = cell(splits, row, size, codec, seed, args.students, most)
                        write()
                        print(key, held["cells"][key], flush=True)
                    most = held["cells"][key]["bytes"] if row == "vl-distill" else most
    for name, size, row, found in table(held):
        print(f"{name:8} {size:4} {row:16} {found}")


def table(held: dict[str, Any]) -> list[tuple[str, int, str, dict[str, Any]]]:
    """Mean and interval over sets of each row, and what ``vl-distill`` and ``lors`` are above it, set by set."""
    rows = []
    for name in held["data"]:
        for size in SIZES[name]:
            cells = {
                row: [c for n in range(99) if (c := held["cells"].get(f"{name} {size} {row} {n}"))] for row in ROWS
            }
            for row, some in cells.items():
                if not some:
                    continue
                means = [c["mean"] for c in some]
                rivals = [c["mean"] for c in cells["random-bytes"][: len(means)]]
                gap = paired_difference(means[: len(rivals)], rivals)
                rows.append((name, size, row, {
                    **summary(means), "items": some[0]["items"], "bytes": some[0]["bytes"], "gap": gap,
                    "metrics": {m: sum(c["metrics"][m] for c in some) / len(some) for m in METRICS},
                }))  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
