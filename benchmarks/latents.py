"""Latents of a small generator beside pixels, real pictures in their best codec, and latents that no method touched.

    python benchmarks/latents.py               # results/latents.json; --data, --real-sets and --real for a part
    python benchmarks/latents.py --show

On `mnist-5k` and on the colour crops `photo-patches`, in one budget of bytes: DM and FRePo over latents of a generator
trained on the same data, over latents of one that is not trained, and over pixels; and `encoded`, latents of real
pictures as the encoder has them, which decides whether matching did anything. The budget is of the file. Real samples
(the best of random and herding, in the codec that serves them best on held-out training data) stand beside it twice:
in those bytes, and with the decoder's bytes added, as a reader who lacks it needs them.

Three sets of each by other seeds, three students each, of the network that made the set and of another. The learning
rate of DM over each generator is chosen on a part of mnist-5k's training data, by one set and two students; the other
ways have that of the preset, which is made for pixels.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine
from photo_patches import photo_patches

import potstill
from potstill._util.card import shared_decoder_bytes
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.evaluation.statistics import paired_difference, summary
from potstill.rng import generator

OUT = Path("results/latents.json")
FOLDER = Path(tempfile.gettempdir()) / "potstill-latents"
"""Finished cells, from which an interrupted run goes on."""
BUDGET = {"mnist-5k": 4000, "photo-patches": 8000}
NETWORK, OTHER = "convnet-d3-w16", "mlp"
STUDENTS, SETS, STEPS = 3, 3, 100
EVALUATION: dict[str, Any] = {"quick": True, "full": False, "progress": None}
METHODS: dict[str, dict[str, Any]] = {
    "dm": {"batch_real": 32, "iterations": STEPS}, "frepo": {"batch_real": 128, "iterations": STEPS},
}  # fmt: skip
OVER = {
    "latents": {"parametrization": "latents", "codec": "uint8"},
    "untrained": {"parametrization": "latents:epochs=0", "codec": "uint8"},
    "pixels": {"parametrization": "pixels", "codec": "uint2"},
}
RATES = {"dm over latents": (1.0, 10.0), "dm over untrained": (1.0, 10.0)}
ENCODED = "encoded"


def ways() -> list[str]:
    return [f"{method} over {over}" for over in OVER for method in METHODS] + [ENCODED]


def make(data: Splits, way: str, seed: int, lr: float | None, budget: int) -> potstill.Distilled:
    """Return a set of one way."""
    method, _, over = way.partition(" over ")
    options: dict[str, Any] = {**METHODS.get(method, {}), **OVER[over or "latents"]}
    if lr is not None:
        options["lr"] = lr
    if way == ENCODED:
        method, options["steps"] = "dm", 0
    return potstill.distill(
        data, method, bytes=budget, preset="quick", network=NETWORK, seed=seed, progress=None, **options
    )


def held_out(train: TensorSource) -> Splits:
    """Four fifths of the training data, and the rest in place of a test split."""
    order = torch.randperm(len(train), generator=generator(0, "benchmark", "latents"))
    cut = len(train) // 5
    return Splits(train=train.subset(order[cut:].sort().values), test=train.subset(order[:cut].sort().values))


def cached(name: str, compute: Callable[[], Any]) -> Any:
    """Return the cell of that name, computed once."""
    path = FOLDER / f"{name.replace(' ', '-')}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(compute()))
        print(path.name, path.read_text()[:200], flush=True)
    return json.loads(path.read_text())


def try_rate(parts: Splits, way: str, lr: float, budget: int) -> float:
    """Return the accuracy of one set on held-out training data."""
    small = make(parts, way, 100, lr, budget)
    score = potstill.evaluate(small, parts, networks=NETWORK, seeds=2, baselines=False, **EVALUATION)
    return float(score.accuracy)


def choose_rates(data: Splits, budget: int) -> dict[str, dict[str, float]]:
    """Return held-out accuracies by way and learning rate."""
    assert isinstance(data.train, TensorSource)
    parts, found = held_out(data.train), {}
    for way, rates in RATES.items():
        for lr in rates:
            found.setdefault(way, {})[str(lr)] = cached(f"rate {way} {lr}", partial(try_rate, parts, way, lr, budget))
    return found


def measure(data: Splits, way: str, seed: int, lr: float | None, budget: int) -> dict[str, Any]:
    """Return sizes and accuracies of a set; of ``encoded`` also those of real samples, without and with a decoder."""
    small = make(data, way, seed, lr, budget)
    cell: dict[str, Any] = {
        "items": len(small), "bytes": small.metadata["bytes"]["total"], "decoder": shared_decoder_bytes(small.metadata),
        "seconds": small.metadata["cost"]["seconds"], "accuracy": {},
    }  # fmt: skip
    for network in (NETWORK, OTHER):
        score = potstill.evaluate(
            small, data, networks=network, seeds=STUDENTS, seed=seed, baselines=False, **EVALUATION
        )
        cell["accuracy"][network] = score.accuracy
    return cell


def measure_real(data: Splits, seed: int, budget: int, decoder: str) -> dict[str, Any]:
    """Return the best real samples in the bytes of encoded latents by held-out data; the other network has random
    ones."""
    small = make(data, ENCODED, seed, None, budget)
    score = potstill.evaluate(
        small, data, networks=[NETWORK, OTHER], seeds=STUDENTS, seed=seed, decoder=decoder, **EVALUATION
    ).to_dict()
    row, other = score["baselines"]["real"], [*score["networks"].values()][1]["baselines"]["random"]
    return {
        "items": row["items"], "bytes": row["bytes"], "codec": row["codec"], "is": row.get("same_as", "real"),
        "accuracy": {NETWORK: row["mean"], OTHER: other["mean"]},
    }  # fmt: skip


def summarize(cells: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return rows of means, and the paired differences from encoded latents."""
    rows: dict[str, Any] = {}
    for way, found in cells.items():
        rows[way] = {name: found[0].get(name) for name in ("items", "bytes", "decoder", "codec", "is", "seconds")}
        rows[way]["n"] = len(found)
        for network in (NETWORK, OTHER):
            values = [c["accuracy"][network] for c in found]
            rows[way][network] = summary(values)
            base = [c["accuracy"][network] for c in cells[ENCODED]][: len(values)]
            rows[way][f"{network} minus {ENCODED}"] = None if way == ENCODED else paired_difference(values, base)
    return rows


def show(result: dict[str, Any]) -> None:
    for name, rows in result["data"].items():
        print(f"{name}, {result['budget'][name]:,} bytes; n sets of {result['students']} students each")
        for way, row in rows.items():
            text = [f"{row['items']:>6}", f"{row['bytes']:>8}", f"{row['decoder'] or 0:>8}"]
            for network in (NETWORK, OTHER):
                gap, own = row[f"{network} minus {ENCODED}"], row[network]
                text.append(f"{100 * own['mean']:6.1f}")
                if gap is not None and gap.get("ci95") is not None:
                    text.append("({:+.1f}: {:+.1f} to {:+.1f})".format(*(100 * v for v in (gap["mean"], *gap["ci95"]))))
            print(f"  {way:24} n={row['n']}", *text, row.get("codec") or "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=SETS)
    parser.add_argument("--real-sets", type=int, default=SETS)
    parser.add_argument("--real", nargs="+", choices=["shared", "counted"], default=["shared", "counted"])
    parser.add_argument("--data", nargs="+", choices=list(BUDGET), default=list(BUDGET))
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not args.show:
        digits = potstill.load_data("mnist-5k")
        data = {name: digits if name == "mnist-5k" else photo_patches() for name in args.data}
        rates = choose_rates(digits, BUDGET["mnist-5k"])
        best = {way: float(max(found, key=lambda lr: found[lr])) for way, found in rates.items()}
        tables = {}
        for name, splits in data.items():
            cells: dict[str, list[dict[str, Any]]] = {}
            for seed in range(args.sets):
                for way in ways():
                    compute = partial(measure, splits, way, seed, best.get(way), BUDGET[name])
                    cells.setdefault(way, []).append(cached(f"{name} {way} {seed}", compute))
            for seed in range(args.real_sets):
                for decoder in args.real:
                    compute = partial(measure_real, splits, seed, BUDGET[name], decoder)
                    cell = cached(f"{name} real {decoder} {seed}", compute)
                    cells.setdefault(f"real, decoder {decoder}", []).append(cell)
            tables[name] = summarize(cells)
        result = {
            "machine": machine(), "budget": {name: BUDGET[name] for name in data}, "network": NETWORK,
            "other": OTHER, "sets": args.sets,
            "students": STUDENTS, "steps": STEPS, "rates": rates, "data": tables,
        }  # fmt: skip
        OUT.write_text(json.dumps(result, indent=1) + "\n")
    show(json.loads(OUT.read_text()))


if __name__ == "__main__":
    main()
