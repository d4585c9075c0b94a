"""The compiled kernels beside torch's operations: seconds of a core, and rounding errors.

    python benchmarks/convolution.py [--samples 256 10] [--repeats 9] [--out results/convolution.json]
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
        python benchmarks/convolution.py --out results/convolution-avx2.json    # as on a processor without AVX-512

Convolutions of ConvNet-D3 at 32 × 32 (its second and third layer), their gradient by the weights, the block between
two of them with its two derivatives, and the first block's product. ``process_time``, one thread, the two forms in
turn; ratios of medians. Errors are relative, in the 2-norm, to the same in float64, on standard normal inputs.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from machine import machine
from torch import Tensor

from potstill.execution.memory import keep_freed_memory
from potstill.native import available
from potstill.nn import fused_norm_relu_pool, gemm_relu_pool, winograd
from potstill.rng import generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[256, 10])
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 64, 32])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("results/convolution.json"))
    args = parser.parse_args()
    if not available():
        raise SystemExit("there are no kernels here: they need Linux, AVX2 or AVX-512 and a C compiler")
    capability = torch.backends.cpu.get_cpu_capability()
    torch.set_num_threads(1)
    keep_freed_memory()
    rows = []
    for n in args.samples:
        for width in args.widths:
            for what, ours, plain, error in pairs(n, width):
                first, second = timed(ours, plain, args.repeats)
                row = {"what": what, "samples": n, "width": width, "ours_s": first, "torch_s": second, **error}
                rows.append({**row, "ratio": second / first, "n": args.repeats})
                errors = ", ".join(f"{k.replace('_', ' ')} {v:.1e}" for k, v in error.items())
                print(
                    f"{what}, {n} × {width}: {1000 * first:.2f} ms, torch {1000 * second:.2f}: {second / first:.2f}; "
                    + errors
                )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": machine(), "capability": capability, "rows": rows}, indent=1) + "\n")


def timed(ours: Callable[[], object], plain: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Medians of seconds of the core."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for f, into in zip((ours, plain), seconds, strict=True):
            begun = time.process_time()
            f()
            if turn:
                into.append(time.process_time() - begun)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def off(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def pairs(n: int, width: int) -> list[tuple[str, Callable[[], Any], Callable[[], Any], dict[str, float]]]:
    rng = generator(0, "convolution", str(n), str(width))
    made = []
    for side in (16, 8):
        x, g = (torch.randn(n, width, side, side, generator=rng) for _ in range(2))
        w = torch.randn(width, width, 3, 3, generator=rng) / (9 * width) ** 0.5

        def forward(x: Tensor = x, w: Tensor = w) -> Tensor:
            return winograd._forward(x, w, None)

        def by_torch(x: Tensor = x, w: Tensor = w) -> Tensor:
            return F.conv2d(x, w, padding=1)

        def gradient(x: Tensor = x, g: Tensor = g) -> Tensor:
            return winograd._gradient(x, g)

        def gradient_by_torch(x: Tensor = x, g: Tensor = g, w: Tensor = w) -> Tensor:
            mask = [False, True, False]
            out: Tensor = torch.ops.aten.convolution_backward(
                g, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask
            )[1]
            return out

        for what, ours, plain, true in (
            ("convolution", forward, by_torch, by_torch(x.double(), w.double())),
            ("gradient by weights", gradient, gradient_by_torch, gradient_by_torch(x.double(), g.double(), w.double())),
        ):
            error = {"error": off(ours(), true), "error_torch": off(plain(), true)}
            made.append((f"{what}, {side} × {side}", ours, plain, error))
    x, a = (torch.randn(n, width, 16, 16, generator=rng) for _ in range(2))
    weight, bias = (torch.randn(width, generator=rng) for _ in range(2))
    g = torch.randn(n, width, 8, 8, generator=rng)
    _, mean, rstd = fused_norm_relu_pool._First.forward(x, weight, bias, 1e-5)
    wanted = (True, True, True)
    block = (
        ("block", lambda: fused_norm_relu_pool._First.forward(x, weight, bias, 1e-5)),
        ("its gradient", lambda: fused_norm_relu_pool._Second.forward(g, x, weight, bias, mean, rstd, 1e-5, wanted)),
        ("its second", lambda: fused_norm_relu_pool._second_backward(g, x, weight, bias, mean, rstd, a, weight, bias)),
    )
    s, patches = torch.randn(n, width, 10, generator=rng), torch.randn(n, 10, 1024, generator=rng)
    wide = torch.randn(n, width, 16, 16, generator=rng)
    first = (
        ("first product", lambda: gemm_relu_pool._First.forward(s, patches, 32)),
        ("its gradient", lambda: gemm_relu_pool._Second.forward(wide, s, patches, 32, (True, True))),
        ("its second", lambda: gemm_relu_pool._second_backward(wide, s, patches, 32, s, patches)),
    )
    for module, group in ((fused_norm_relu_pool, block), (gemm_relu_pool, first)):
        for what, f in group:
            name = what if what.startswith(("block", "first")) else f"{group[0][0]}, {what}"
            made.append((name, f, without(module, f), {}))
    return made


def without(module: Any, f: Callable[[], Any]) -> Callable[[], Any]:
    def plain() -> Any:
        with patch.object(module, "_kernels", lambda *a: False):
            return f()

    return plain


if __name__ == "__main__":
    main()
