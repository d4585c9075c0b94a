"""The ConvNet block's forms on the CPU: plain, channels last, compiled and ours; first and second order.

    python benchmarks/blocks.py [--width 128] [--samples 100] [--repeats 5] [--out results/blocks.json]

All forms have the same weights and see the same pictures; interleaved in one process with the memory setting that a
run uses. Work: one training pass (gradients of all weights), the synthetic half of a DM step (gradient of the inputs
through the embedding), and the synthetic half of a DSA step (gradient of the inputs through gradients of weights).
``plain`` is GroupNorm, ReLU and AvgPool2d as modules. A compiled module cannot be differentiated twice, so that there
the whole second-order function is compiled with its gradients taken inside (``torch.func.grad``).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import machine
from torch import Tensor, nn
from torch.func import functional_call, grad

from potstill.core import InputSpec
from potstill.execution.memory import keep_freed_memory
from potstill.nn import factory, flops
from potstill.nn.fused_norm_relu_pool import InstanceReluPool


def plain(net: nn.Module) -> nn.Module:
    """The same network with three plain modules in place of each fused one."""
    layers: list[nn.Module] = []
    for layer in net.features:  # type: ignore[union-attr]
        if isinstance(layer, InstanceReluPool):
            norm = nn.GroupNorm(layer.num_groups, layer.num_channels)
            norm.load_state_dict(layer.state_dict())
            layers += [norm, nn.ReLU(), nn.AvgPool2d(2)]
        elif not isinstance(layer, nn.Identity):
            layers.append(layer)
    return nn.Sequential(nn.Sequential(*layers), nn.Flatten(), net.classifier)  # type: ignore[arg-type]


def work(net: nn.Module, x: Tensor, y: Tensor, compiled: bool) -> dict[str, Callable[[], object]]:
    params = {n: p.detach() for n, p in net.named_parameters()}
    real = {n: torch.randn_like(p) for n, p in params.items()}

    def loss(weights: dict[str, Tensor], pictures: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(net, weights, (pictures,)), y)

    def gap(pictures: Tensor) -> Tensor:
        found = grad(loss)(params, pictures)
        return torch.stack([((found[n] - real[n]) ** 2).sum() for n in found]).sum()

    if compiled:
        first, second = torch.compile(grad(loss)), torch.compile(grad(gap))
        return {"train": lambda: first(params, x), "dsa": lambda: second(x)}

    def train() -> object:
        return torch.autograd.grad(nn.functional.cross_entropy(net(x), y), list(net.parameters()))

    def dsa() -> object:
        leaf = x.detach().clone().requires_grad_()
        found = torch.autograd.grad(
            nn.functional.cross_entropy(net(leaf), y), list(net.parameters()), create_graph=True
        )
        return torch.autograd.grad(
            torch.stack([((g - real[n]) ** 2).sum() for g, n in zip(found, real, strict=True)]).sum(), leaf
        )

    return {"train": train, "dsa": dsa}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--forms", nargs="+", default=["ours", "plain", "channels last", "compiled"])
    parser.add_argument("--out", type=Path, default=Path("results/blocks.json"))
    args = parser.parse_args()
    keep_freed_memory()
    make = factory(f"convnet-d3-w{args.width}", InputSpec(kind="image", shape=(1, 28, 28)), 10)
    x = torch.randn(args.samples, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    y = torch.arange(args.samples) % 10
    rows: list[dict[str, Any]] = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        jobs: dict[str, dict[str, Callable[[], object]]] = {}
        compile_s: dict[str, float] = {}
        for form in args.forms:
            net = make(0) if form == "ours" else plain(make(0))
            pictures = x
            if form == "channels last":
                net, pictures = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
            jobs[form] = work(net, pictures, y, form == "compiled")
        for what in ("train", "dsa"):
            times: dict[str, list[float]] = {form: [] for form in args.forms}
            for form in args.forms:
                begun = time.perf_counter()
                jobs[form][what]()  # warm-up, and the compiler's time
                compile_s[form] = time.perf_counter() - begun
            for _ in range(args.repeats):
                for form in args.forms:
                    begun = time.perf_counter()
                    jobs[form][what]()
                    times[form].append(time.perf_counter() - begun)
            middle = {form: statistics.median(t) for form, t in times.items()}
            for form, t in times.items():
                rows.append({
                    "what": what, "threads": threads, "form": form, "median_s": middle[form], "min_s": min(t),
                    "max_s": max(t), "n": len(t), "over_ours": middle[form] / middle["ours"],
                    "first_call_s": compile_s[form],
                })  # fmt: skip
                print(
                    f"{what:6} threads {threads} {form:14} {middle[form]:.3f} s, {middle[form] / middle['ours']:.2f} "
                    f"of ours, first call {compile_s[form]:.1f} s",
                    flush=True,
                )
    report = {
        "machine": machine(), "width": args.width, "samples": args.samples,
        "gflop_forward": flops(make(0), (1, 28, 28)) * args.samples / 1e9, "rows": rows,
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
