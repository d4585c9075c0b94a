"""What pre-training on a small set of vectors of a self-supervised teacher is worth, with few labels of other data.

    python benchmarks/representations.py                       # results/representations.json: 10 labels of each class
    python benchmarks/representations.py --labels 1%,5%        # results/representations_parts.json
    python benchmarks/representations.py --show

Pictures of 14 × 14: 5,000 of Fashion-MNIST (500 of each class) and 4,000 of MNIST, each the source of the other. A
teacher learns each source without labels; `krr-st` makes 50 pictures with vectors of 16 numbers of it, and
`potstill use transfer` measures these beside real pictures of the same bytes. Every repeat has another set, other
labels, another network and other real pictures. ``untrained`` is the closed form on vectors of a network that has
learned nothing. Nothing is chosen at all: rates and lengths are one for all ways.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine
from photo_patches import fashion

import potstill
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.evaluation.statistics import paired_difference, summary
from potstill.pretraining.self_supervised import fit_encoder, parse_representations
from potstill.rng import derive_seed, generator
from potstill.runs.vector_targets import with_vector_targets
from potstill.uses.transfer import FewLabels, measure_transfer, probe_accuracy

OUT, PARTS = Path("results/representations.json"), Path("results/representations_parts.json")
FOLDER = Path(tempfile.gettempdir()) / "potstill-representations"
"""Finished repeats, from which an interrupted run goes on."""
SIDE, ITEMS = 14, 50
TEACHER = "representations:network=convnet-w32,epochs=20,size=16"
UNTRAINED = "representations:network=convnet-w32,epochs=1,size=16,lr=1e-9"
OPTIONS: dict[str, Any] = {
    "steps": 120, "tuning_steps": 60, "tuning_lr": (0.03,), "test_samples": 1000, "seeds": 1,
}  # fmt: skip


def small(splits: Splits) -> Splits:
    """Pictures of half the side, each pixel the mean of four."""
    train, test = (
        potstill.TensorSource.make(_halved(part), part.labels.numpy(), part.classes, name=part.name, kind="image")
        for part in (splits.train, splits.test)
        if isinstance(part, TensorSource)
    )
    return Splits(train=train, test=test)


def _halved(part: TensorSource) -> Any:
    assert isinstance(part.inputs, Tensor)
    return torch.nn.functional.avg_pool2d(part.inputs.float(), 2).round().to(torch.uint8).numpy()


def measure(source: Splits, target: Splits, seed: int, amounts: Sequence[int | str]) -> dict[str, Any]:
    """Return one repeat for each amount of labels, of one set: accuracies of every way, and sizes."""
    data = with_vector_targets(Splits(train=source.train, test=None, reading={}), TEACHER)
    made = potstill.distill(
        data, "krr-st", items=ITEMS, preset="quick", iterations=150, network="convnet-w32", seed=seed, progress=None,
    )  # fmt: skip
    encoder, test = fit_encoder(source.train, parse_representations(UNTRAINED)), target.test
    assert isinstance(test, TensorSource)
    at = torch.linspace(0, len(test) - 1, OPTIONS["test_samples"]).long()
    rows, tested = encoder.encode(target.train), encoder.encode(test.subset(at))
    repeats = {}
    for labels in amounts:
        found = measure_transfer(made, data, target, seed=seed, labels=labels, executor="serial", **OPTIONS)
        few = FewLabels.draw(target.train, labels, generator(derive_seed(seed, "transfer", 0), "labels"))
        untrained = probe_accuracy(rows[few.places], few, tested, test.labels[at])
        cells = {c["way"]: {"accuracy": c["accuracy"], "probe": c["probe"], "lr": c["lr"]} for c in found["cells"]}
        repeats[str(labels)] = {
            "ways": cells | {"untrained": {"accuracy": None, "probe": untrained, "lr": None}}, "sets": found["sets"],
            "labelled": len(few.y),
        }  # fmt: skip
    return repeats


def summarize(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return rows of means with intervals, and paired differences of the set from the other ways."""
    rows, gaps = {}, {}
    for way in cells[0]["ways"]:
        rows[way] = {"bytes": max(c["sets"].get(way, {}).get("bytes", 0) for c in cells),
                     "items": max(c["sets"].get(way, {}).get("items", 0) for c in cells)}  # fmt: skip
        for kind in ("accuracy", "probe"):
            values = [c["ways"][way][kind] for c in cells]
            if values[0] is None:
                continue
            rows[way][kind] = summary(values)
            if way != "this set" and cells[0]["ways"]["this set"][kind] is not None:
                own = [c["ways"]["this set"][kind] for c in cells]
                gaps.setdefault(way, {})[kind] = paired_difference(own, values)
    return {"n": len(cells), "labelled": cells[0]["labelled"], "rows": rows, "differences": gaps}


def show(result: dict[str, Any]) -> None:
    for name, pair in result["pairs"].items():
        print(f"{name}, {pair.get('labelled', '')} labels, n = {pair['n']}")
        for way, row in pair["rows"].items():
            text = [f"{row['items']:>6}", f"{row['bytes']:>9}"]
            for kind in ("accuracy", "probe"):
                value, gap = row.get(kind), pair["differences"].get(way, {}).get(kind)
                text.append("-".rjust(24) if value is None else f"{100 * value['mean']:6.1f}")
                if value is not None and gap is not None and gap["ci95"] is not None:
                    text.append(
                        "({:+.1f}: {:+.1f} to {:+.1f})".format(100 * gap["mean"], *(100 * g for g in gap["ci95"]))
                    )
            print(f"  {way:10}", *text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sources", default="fashion-mnist,mnist-5k")
    parser.add_argument("--labels", default="10", help="of each class: a number, or parts such as 1%%,5%%")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    amounts = [int(a) if a.isdecimal() else a for a in args.labels.split(",")]
    out = OUT if args.labels.isdecimal() else PARTS
    if not args.show:
        data = {"fashion-mnist": small(fashion()), "mnist-5k": small(potstill.load_data("mnist-5k"))}
        pairs: dict[str, list[dict[str, Any]]] = {}
        for source, target in (("fashion-mnist", "mnist-5k"), ("mnist-5k", "fashion-mnist")):
            if source not in args.sources.split(","):
                continue
            for seed in range(args.repeats):
                path = FOLDER / f"{source}-{args.labels}-{seed}.json"
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(json.dumps(measure(data[source], data[target], seed, amounts)))
                    print(path, flush=True)
                for labels, found in json.loads(path.read_text()).items():
                    name = f"{source}, then {target}" + ("" if len(amounts) == 1 else f", {labels}")
                    pairs.setdefault(name, []).append(found)
        result = {
            "machine": machine(), "teacher": TEACHER, "items": ITEMS, "side": SIDE, **OPTIONS, "labels": args.labels,
            "seeds": args.repeats, "pairs": {name: summarize(cells) for name, cells in pairs.items()},
        }  # fmt: skip
        out.write_text(json.dumps(result, indent=1) + "\n")
    show(json.loads(out.read_text()))


if __name__ == "__main__":
    main()
