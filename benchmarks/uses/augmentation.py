"""Whether SAFLEX repairs a broken augmentation and leaves a good one alone, beside training on both parts.

    python benchmarks/uses/augmentation.py            # results/uses/augmentation.json
    python benchmarks/uses/augmentation.py --choose   # pull and temperature, on training samples that are left over

Data: 200 training samples of scikit-learn's digits, half of them the validation part; and scikit-learn's table of
breast cancer, 100 so. **Replaced** puts others of the batch in the place of 60 % of the samples and keeps the labels;
**turned** turns half of the pictures upside down, which makes a 6 of a 9; **mirrored** changes the sign of 60 % of the
rows; **noise** adds a fifth of the standard deviation, **much noise** three.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_breast_cancer
from torch import Generator, Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from machine import machine

import potstill
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.rng import generator
from potstill.uses.augmentation import Upstream, compare_augmentation

OUT = Path("results/uses/augmentation.json")


def replace_samples(x: Tensor, y: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """Replace 60 % of the inputs by others of the batch; labels stay."""
    hit = torch.rand(len(x), generator=rng) < 0.6
    other = x[torch.randperm(len(x), generator=rng)]
    return torch.where(hit.reshape(-1, *[1] * (x.ndim - 1)), other, x), y


def mirror(x: Tensor, y: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """Change the sign of 60 % of the rows, as a wrong unit might; labels stay."""
    return torch.where(torch.rand(len(x), 1, generator=rng) < 0.6, -x, x), y


def turn(x: Tensor, y: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """Turn half of the pictures upside down; labels stay."""
    hit = torch.rand(len(x), generator=rng) < 0.5
    return torch.where(hit.reshape(-1, 1, 1, 1), x.flip(2, 3), x), y


def add_noise(x: Tensor, y: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    return x + 0.2 * torch.randn(x.shape, generator=rng), y


def add_much_noise(x: Tensor, y: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    return x + 3 * torch.randn(x.shape, generator=rng), y


def digits(choose: bool) -> Splits:
    data = potstill.load_data("digits")
    order = torch.randperm(len(data.train), generator=generator(0, "augmentation", "digits"))
    left = data.train.subset(order[200:])
    return Splits(train=data.train.subset(order[:200]), test=left if choose else data.test)


def cancer(choose: bool) -> Splits:
    table = load_breast_cancer()
    order = torch.randperm(len(table.target), generator=generator(0, "augmentation", "cancer"))
    x = torch.tensor(table.data[order.numpy()], dtype=torch.float32)
    y = [str(table.target_names[c]) for c in table.target[order.numpy()]]
    test = slice(100, 250) if choose else slice(250, None)
    parts = [
        TensorSource.make(x[s], y[s], name="breast cancer", classes=[str(c) for c in table.target_names])
        for s in (slice(0, 100), test)
    ]  # fmt: skip
    return Splits(train=parts[0], test=parts[1])


CASES: dict[str, tuple[Any, Upstream, str]] = {
    "digits, replaced": (digits, replace_samples, "mlp-w64"), "digits, turned": (digits, turn, "mlp-w64"),
    "digits, noise": (digits, add_noise, "mlp-w64"), "breast cancer, mirrored": (cancer, mirror, "mlp-w32"),
    "breast cancer, noise": (cancer, add_noise, "mlp-w32"),
    "breast cancer, much noise": (cancer, add_much_noise, "mlp-w32"),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--cases", help="with ; between them; else all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    grid = [(p, t) for p in (1.0, 2.0, 4.0) for t in (0.25, 0.5)] if args.choose else [(2.0, 0.25)]
    found = {}
    for name, (data, upstream, network) in CASES.items():
        if args.cases and name not in args.cases.split(";"):
            continue
        for pull, temperature in grid:
            result = compare_augmentation(
                data(args.choose), upstream, seeds=args.seeds, network=network, pull=pull, temperature=temperature
            )
            accuracies = {row["way"]: f"{100 * row['accuracy']['mean']:.1f}" for row in result["rows"]}
            print(
                name, pull, temperature, accuracies, f"weight 0: {result['zero']:.2f}", *result["sentences"], flush=True
            )
            found[name] = {key: value for key, value in result.items() if key not in ("cells", "settings")}
    if not args.choose:
        OUT.parent.mkdir(parents=True, exist_ok=True)
        OUT.write_text(json.dumps({"machine": machine(), "cases": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
