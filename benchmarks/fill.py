"""How well values of made sets are coded, beside those of real samples: what a budget in bytes is planned by.

    python benchmarks/fill.py [--data digits:2000 mnist-5k:5000] [--steps 150]

For each data set, method and number of bits one set is made, seed 0. *Real* is the part of their packed bytes that as
many real samples take as a coded stream, *made* that of the set's inputs; the exponent is log made / log real. *Filled*
is the part of the budget that the file takes (`potstill.runs.coded_samples.estimate_coded_share` plans it).
"""

import argparse
import math
from typing import Any

import torch

import potstill
from potstill.codecs import encoded_bytes, parse_codec
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.dataset_file.payload_io import compress_parts, encode_inputs

METHODS: dict[str, dict[str, Any]] = {
    "dm": {"batch_real": 64}, "dm adamw": {"batch_real": 64, "optimizer": "adamw", "lr": 0.02},
    "frepo": {"batch_real": 256}, "m3d": {"batch_real": 64, "parametrization": "pixels"},
}  # fmt: skip
NETWORKS = {"digits": "convnet-d2-w32", "mnist-5k": "convnet-d3-w32"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["digits:2000", "mnist-5k:5000"], help="DATA:BYTES")
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| data | bytes | method | bits | inputs | real | made | exponent | filled |")
    print("| --- " * 9 + "|")
    for text in args.data:
        name, _, size = text.rpartition(":")
        train = potstill.load_data(name).train
        assert isinstance(train, TensorSource)
        for method, options in METHODS.items():
            for bits in (2, 4, 8):
                print(row(name, train, int(size), method, options, bits, args.steps), flush=True)


def row(
    name: str, train: TensorSource, size: int, method: str, options: dict[str, Any], bits: int, steps: int
) -> str:  # fmt: skip
    """Make one set and return its row."""
    small = potstill.distill(
        Splits(train=train, test=None), method.split()[0], bytes=size, seed=0, codec=f"uint{bits}", executor="serial",
        device="cpu", progress=None, iterations=steps, network=NETWORKS.get(name), **options,
    )  # fmt: skip
    each = max(1, len(small) // len(train.classes))
    index = torch.cat([torch.where(train.labels == c)[0][:each] for c in range(len(train.classes))])
    parts = encode_inputs(train.raw(index), train.input, parse_codec(f"uint{bits}"), train.normalization)[0]
    packed = sum(map(encoded_bytes, parts.values()))
    real = sum(map(encoded_bytes, compress_parts(parts, train.labels[index]).values())) / packed
    stored = small.metadata["bytes"]
    made = stored["inputs"] / len(small) / (packed / len(index))
    return (
        f"| {name} | {size:,} | {method} | {bits} | {len(small)} | {real:.2f} | {made:.2f} | "
        f"{math.log(made) / math.log(real):.2f} | {stored['total'] / size:.2f} |"
    )


if __name__ == "__main__":
    main()
