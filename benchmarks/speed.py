"""One DM step, one DSA step and one evaluation epoch: ours, the published code, and the floor, side by side.

    git clone <the published repository> vico
    python benchmarks/speed.py --published vico [--width 128] [--ipc 10] [--out results/speed.json]

Interleaved in one process (ours, theirs, ours, …); ratios of medians. The floor is the floating-point operations of the
convolutions and the classifier over the rate of a large matrix product, measured in the same run.
"""

import argparse
import json
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import machine

from potstill.augment.siamese import dsa_noflip
from potstill.core import Problem
from potstill.data import load
from potstill.evaluation.student import Job
from potstill.methods.distribution.dm import DM
from potstill.methods.gradient.dsa import DSA
from potstill.nn import factory, flops
from potstill.parametrize.pixels import Pixels
from potstill.registry import resolve
from potstill.rng import generator


def import_published(path: Path) -> tuple[Any, Any]:
    """The published ``networks`` and ``utils``, with stand-ins for what they import and these functions never call."""
    vision = types.ModuleType("torchvision")
    vision.datasets = vision.transforms = types.ModuleType("x")  # type: ignore[attr-defined]
    rotate = types.ModuleType("scipy.ndimage.interpolation")
    rotate.rotate = None  # type: ignore[attr-defined]
    sys.modules.setdefault("torchvision", vision)
    sys.modules["scipy.ndimage.interpolation"] = rotate
    sys.path.insert(0, str(path))
    import networks
    import utils

    return networks, utils


def interleaved(jobs: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(repeats):
        for name, job in jobs.items():
            begun = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - begun)
    return {
        n: {"median_s": statistics.median(t), "min_s": min(t), "max_s": max(t), "n": len(t)} for n, t in times.items()
    }


def matrix_rate() -> float:
    """Floating-point operations per second of a 1536³ float32 product, the best of ten."""
    a = torch.randn(1536, 1536)
    best = min(_timed(lambda: a @ a) for _ in range(10))
    return 2 * 1536**3 / best


def _timed(job: Callable[[], object]) -> float:
    begun = time.perf_counter()
    job()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=Path("results/speed.json"))
    args = parser.parse_args()
    networks, utils = import_published(args.published)
    train = load("mnist-5k").train
    name = f"convnet-d3-w{args.width}"
    make = factory(name, train.input, 10)
    problem = Problem(
        train=train, counts=(args.ipc,) * 10, network=make, augment=dsa_noflip(), parametrization=Pixels()
    )
    strategy, param = "color_crop_cutout_scale_rotate", utils.ParamDiffAug()
    everything = train.fetch(torch.arange(len(train))).x
    assert isinstance(everything, torch.Tensor)
    loops = types.SimpleNamespace(device="cpu", dis_metric="ours", dsa=True, dsa_strategy=strategy, dsa_param=param)
    sizes = [min(args.batch, len(i)) for i in problem.by_class]
    forward = flops(make(0), train.input.shape)

    def published_net() -> Any:
        return networks.ConvNet(1, 10, args.width, 3, "relu", "instancenorm", "avgpooling", (28, 28))

    def real(c: int) -> torch.Tensor:
        return everything[problem.by_class[c][torch.randperm(len(problem.by_class[c]))[: args.batch]]]

    syn = torch.nn.Parameter(everything[torch.cat([i[: args.ipc] for i in problem.by_class])].clone())
    optimizer = torch.optim.SGD([syn], lr=0.1, momentum=0.5)

    def their_dm() -> None:
        net = published_net().train().requires_grad_(False)
        loss = torch.zeros(())
        for c in range(10):
            x, s = real(c), syn[c * args.ipc : (c + 1) * args.ipc]
            x, s = (utils.DiffAugment(v, strategy, seed=1234, param=param) for v in (x, s))
            loss = loss + ((net.embed(x).detach().mean(0) - net.embed(s).mean(0)) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def their_dsa() -> None:
        net = published_net().train()
        parameters = list(net.parameters())
        loss = torch.zeros(())
        for c in range(10):
            x, s = real(c), syn[c * args.ipc : (c + 1) * args.ipc]
            x, s = (utils.DiffAugment(v, strategy, seed=1234, param=param) for v in (x, s))
            label = torch.full((max(len(x), len(s)),), c)
            cross = torch.nn.functional.cross_entropy
            g = [v.detach().clone() for v in torch.autograd.grad(cross(net(x), label[: len(x)]), parameters)]
            h = torch.autograd.grad(cross(net(s), label[: len(s)]), parameters, create_graph=True)
            loss = loss + utils.match_loss(h, g, loops)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    dm, gradient = DM(batch_real=args.batch), DSA(batch_real=args.batch, outer=2, inner=0)
    rng = generator(0)
    dm_state, dsa_state = dm.init(problem, rng), gradient.init(problem, rng)
    images, labels = syn.detach().clone(), torch.arange(10).repeat_interleave(args.ipc)
    small = utils.TensorDataset(images, labels)
    loader = torch.utils.data.DataLoader(small, batch_size=256, shuffle=True)
    theirs = published_net()
    their_optimizer = torch.optim.SGD(theirs.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)

    def their_epochs() -> None:
        for _ in range(5):
            utils.epoch("train", loader, theirs, their_optimizer, torch.nn.CrossEntropyLoss(), loops, aug=True)

    five = resolve("protocols", "dsa").override(epochs=4)  # the published loop makes one epoch more than it is told
    job = Job(make=make, x=images, y=labels, protocol=five, lr=0.01, steps=None, augment=dsa_noflip(), seed=0)
    operations = {
        # Forward of all real samples, forward and both halves of the backward of the synthetic ones.
        "dm": forward * (sum(sizes) + 2 * 10 * args.ipc),
        # First-order pass over the real samples; forward, backward and the backward of both for the synthetic ones.
        "dsa": forward * (3 * sum(sizes) + 6 * 10 * args.ipc),
        "evaluation": forward * 3 * 10 * args.ipc * 5,
    }
    report: dict[str, Any] = {"machine": machine(), "network": make.name, "ipc": args.ipc, "batch_real": sizes}
    report["rows"] = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        rate = matrix_rate()
        pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "dm": (lambda: dm.step(problem, dm_state, rng), their_dm),
            "dsa": (lambda: gradient.step(problem, dsa_state, rng), their_dsa),
            "evaluation": (lambda: train_student(job), their_epochs),
        }
        for what, (ours, theirs_job) in pairs.items():
            t = interleaved({"ours": ours, "published": theirs_job}, args.repeats)
            floor = operations[what] / rate
            row = {
                "what": what, "threads": threads, **t, "floor_s": floor, "matrix_gflops": rate / 1e9,
                "published_over_ours": t["published"]["median_s"] / t["ours"]["median_s"],
                "ours_over_floor": t["ours"]["median_s"] / floor,
            }  # fmt: skip
            report["rows"].append(row)
            print(
                f"{what:10} threads {threads}: ours {t['ours']['median_s']:.3f} s, published "
                f"{t['published']['median_s']:.3f} s, published/ours {row['published_over_ours']:.2f}, "
                f"ours/floor {row['ours_over_floor']:.2f}"
            )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
