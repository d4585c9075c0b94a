"""What a step of KIP, FRePo, RFAD and RCIG costs in operations, as published and here, and in seconds of a core.

    python benchmarks/kernel_costs.py [--steps 5]

Operations are counted in closed form, 2 for a product and its sum: passes of networks (a backward pass to inputs or
to weights alone costs as much as a forward one), kernels and their slopes, and linear systems. Seconds are the
processor's, of one thread, the median of some steps on made-up 28×28 pictures of ten classes. Results go to
results/kernel_costs.json, and are printed; `python -m tools.docs` writes them into docs/benchmarks/speed.md.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine

from potstill.augment.names import named_augmentation
from potstill.core import InputSpec, Problem
from potstill.core.registry import make_method
from potstill.data import TensorSource
from potstill.dataset_file import write_atomic
from potstill.nn import factory
from potstill.nn.registry import flops
from potstill.parametrize.named_inputs import parse_parametrization
from potstill.rng import generator

ROOT = Path(__file__).resolve().parents[1]
ENTRY = 20
"""Operations of one entry of a kernel in one hidden layer: roots, an arc cosine and a dozen products."""


def solving(n: int, k: int) -> float:
    """A Cholesky decomposition, its slope, and two solutions with it."""
    return n**3 / 3 + 2 * n**3 + 8 * n * n * k


def linear(m: int, n: int, d: int, k: int) -> float:
    """Kernels of features, ridge regression and slopes to the set's features."""
    return 4 * m * n * d + 6 * n * n * d + solving(n, k) + 6 * m * n * k


def kip(m: int, n: int, d: int, k: int, depth: int) -> float:
    return linear(m, n, d, k) + 2 * ENTRY * depth * (m + n) * n


def kip_convolutional(m: int, n: int, k: int, side: int, depth: int) -> float:
    """An average-pooled ConvNet's tangent kernel: of every pair of pictures, and so of every pair of their places."""
    pair = sum(2 * (9 + ENTRY) * (side // 2**layer) ** 4 for layer in range(depth))
    return 2 * pair * (m + n) * n + solving(n, k) + 6 * m * n * k


def frepo(m: int, n: int, d: int, k: int, f: float, trained: int) -> float:
    return m * f + 2 * n * f + 3 * trained * f + linear(m, n, d, k)


def rfad(m: int, n: int, d: int, k: int, f: float, nets: int) -> float:
    return nets * (m * f + 2 * n * f) + linear(m, n, nets * d, k)


def rcig(m: int, n: int, d: int, k: int, f: float, inner: int, backward: int, trained: float) -> float:
    """A push takes two passes back through a forward and a backward one, a pull one; real samples have one of each."""
    of_set = (inner + backward) * 5 * n * f + 12 * n * f
    return of_set + 8 * m * f + 3 * trained * f + linear(m, n, d, k)


def wide(side: int, widths: tuple[int, ...], channels: int = 3) -> float:
    """A pass of 3×3 convolutions, each followed by 2×2 pooling."""
    total, c = 0.0, channels
    for layer, w in enumerate(widths):
        total += 2 * 9 * c * w * (side // 2**layer) ** 2
        c = w
    return total


def counted() -> list[dict[str, Any]]:
    """Of each method: the published settings on CIFAR-10 at ten per class, and ours with ``quick`` at one per class."""
    three, w256 = wide(32, (128, 256, 512)), wide(32, (256, 256, 256))
    spec = InputSpec(kind="image", shape=(1, 28, 28))
    net = factory("convnet-w32", spec, 10)(0)
    f, d = flops(net, spec.shape), net.embed(torch.zeros(1, *spec.shape)).shape[1]
    published = {
        "kip, FC1": (kip(5000, 100, 3072, 10, 1), 1000, "5,000 real, float64"),
        "kip, convolutional": (kip_convolutional(5000, 100, 10, 32, 3), None, "5,000 real; ConvNet of 3 layers"),
        "frepo": (frepo(1024, 100, 8192, 10, three, 100), 500_000, "1,024 real, widths 128 to 512"),
        "rfad": (rfad(5120, 100, 4096, 10, w256, 8), 100_000, "5,120 real, 8 networks of width 256"),
        "rcig": (rcig(1024, 100, 8192, 10, three, 20, 20, 800), 10_000, "1,024 real, widths 128 to 512, 20 + 20 steps"),
    }
    rows = [{"what": n, "side": "published", "flop": a, "steps": b, "about": c} for n, (a, b, c) in published.items()]
    q = {name: make_method(name, {}, "quick")[1] for name in ("kip", "frepo", "rfad", "rcig")}
    b = {name: m.batch_real for name, m in q.items()}
    ours = {
        "kip": kip(b["kip"], 10, 784, 10, q["kip"].depth),
        "frepo": frepo(b["frepo"], 10, d, 10, f, 10),
        "rfad": rfad(b["rfad"], 10, d, 10, f, q["rfad"].nets),
        "rcig": rcig(b["rcig"], 10, d, 10, f, q["rcig"].inner, q["rcig"].backward, 80),
    }
    return rows + [
        {"what": name, "side": "quick", "flop": flop, "steps": q[name].iterations, "about": f"{b[name]:,} real"}
        for name, flop in ours.items()
    ]


def seconds(name: str, steps: int) -> float:
    """Of a step of ``quick`` at one picture per class, convnet-w32."""
    g = generator(0, "costs")
    labels = torch.arange(10).repeat_interleave(300)
    pictures = (torch.rand(3000, 1, 28, 28, generator=g) * 255).to(torch.uint8)
    source = TensorSource.make(pictures, labels, classes=tuple("0123456789"), name="made-up", kind="image")
    method = make_method(name, {}, "quick")[1]
    problem = Problem(
        train=source, counts=(1,) * 10, network=factory("convnet-w32", source.input, 10),
        augment=named_augmentation("none", source), parametrization=parse_parametrization("pixels", source.input),
    )  # fmt: skip
    state, taken = method.init(problem, g), []
    for _ in range(steps + 1):
        begun = time.process_time()
        state, _ = method.step(problem, state, g)
        taken.append(time.process_time() - begun)
    return statistics.median(taken[1:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    rows = counted()
    for row in rows:
        if row["side"] == "quick":
            row["seconds"] = round(seconds(row["what"], steps), 4)
        sys.stdout.write(json.dumps(row) + "\n")
    made = {"machine": machine(), "steps": steps, "rows": rows}
    write_atomic(ROOT / "results" / "kernel_costs.json", (json.dumps(made, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
