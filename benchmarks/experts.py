"""What an expert's epoch takes here and in MTT's published ``buffer.py``, and what keeping a snapshot costs of it.

    git clone https://github.com/GeorgeCazenavette/mtt-distillation mtt
    python benchmarks/experts.py --published mtt      # all three parts
    python benchmarks/experts.py --published mtt --parts error together      # some of them, into the file that is there

The first: one epoch over ``mnist-5k``'s training part, DSA without flip (as for MNIST), batches of 256, plain SGD, and
the snapshot after it. Ours is what `potstill.pretraining.ExpertTraining` does, with the snapshot coded; theirs is their
own
``epoch("train")`` from their own ``utils.py`` on their own network, with the list of copied parameters; and, in a row
of its own, with the pass over the test part that ``buffer.py`` makes after every epoch. Each side lives in a process of
its own with one thread and is asked in turn; seconds are of the processor, so that other work on the machine matters
little; ratios of medians.

The second: an expert's snapshots as float32, and as four forms would keep them. The error is the norm of the difference
over the norm of what two more epochs move (θ_{t+2} − θ_t), which is what trajectory matching measures in.

The third: the gradients of four experts on a batch each, one after the other as they are trained, and as one network
with one more axis (`potstill.evaluation.vmap_students.Stack`).
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import types
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine

from potstill.augment.siamese import dsa_noflip
from potstill.data import load
from potstill.evaluation.vmap_students import StackedStudents
from potstill.functional.train import copy_parameters, gradients
from potstill.nn import factory
from potstill.pretraining import ExpertTraining
from potstill.pretraining.trajectory_codec import Layout, MemoryRows, read_rows

STRATEGY = "color_crop_cutout_scale_rotate"
SIDES = ("ours", "published")
WHAT = ("epoch", "epoch and test")
PARTS = ("speed", "error", "together")
AHEAD, EXPERTS = 2, 4


def job_of(width: int, epochs: int) -> ExpertTraining:
    train = load("mnist-5k").train
    return ExpertTraining(
        train=train, make=factory(f"convnet-d3-w{width}", train.input, 10), augment=dsa_noflip(), number=0,
        recipe={"epochs": epochs},
    )  # fmt: skip


def ours(args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    job = job_of(args.width, 1)
    layout = Layout.of(job.make(0))

    def epoch() -> None:
        deque(job.run(MemoryRows(layout, 1), job.first()), maxlen=0)

    return dict.fromkeys(WHAT, epoch)  # nothing is tested between epochs


def theirs(args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Their functions, with stand-ins for what their files import and these never call."""
    named = ("torchvision", "kornia", "tqdm", "scipy.ndimage.interpolation")
    sys.modules |= {name: types.ModuleType(name) for name in named}
    sys.modules["torchvision"].datasets = sys.modules["torchvision"].transforms = None  # type: ignore[attr-defined]
    sys.modules["scipy.ndimage.interpolation"].rotate = None  # type: ignore[attr-defined]
    sys.path.insert(0, str(args.published))
    import networks
    import utils

    for name in named:
        del sys.modules[name]
    splits = load("mnist-5k")
    assert splits.test is not None

    def loader(source: Any, shuffle: bool) -> Any:
        batch = source.fetch(torch.arange(len(source)))
        return torch.utils.data.DataLoader(
            utils.TensorDataset(batch.x, batch.y), batch_size=256, shuffle=shuffle, num_workers=0
        )

    train, test = loader(splits.train, True), loader(splits.test, False)
    net = networks.ConvNet(1, 10, args.width, 3, "relu", "instancenorm", "avgpooling", im_size=(28, 28))
    # a grey picture that was shifted says strides of channels that lie last, and their network's view() fails on those
    net.register_forward_pre_hook(lambda _, x: (x[0].reshape(-1).view(x[0].shape),))
    sgd = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.0, weight_decay=0.0)
    loss = torch.nn.CrossEntropyLoss()
    said = types.SimpleNamespace(
        device="cpu", dataset="MNIST", dsa=True, dsa_strategy=STRATEGY, dsa_param=utils.ParamDiffAug()
    )

    def epoch() -> object:
        utils.epoch("train", dataloader=train, net=net, optimizer=sgd, criterion=loss, args=said, aug=True)
        return [p.detach().cpu().clone() for p in net.parameters()]  # as it would have to be on a CPU

    def epoch_and_test() -> None:
        epoch()
        utils.epoch("test", dataloader=test, net=net, optimizer=None, criterion=loss, args=said, aug=False)

    return {"epoch": epoch, "epoch and test": epoch_and_test}


def serve(args: argparse.Namespace) -> None:
    """Do what is asked for on stdin and say how many seconds of the processor it took."""
    torch.set_num_threads(1)
    jobs = (ours if args.side == "ours" else theirs)(args)
    for line in sys.stdin:
        begun = time.process_time()
        jobs[line.strip()]()
        sys.stdout.write(f"{time.process_time() - begun}\n")
        sys.stdout.flush()


def speed(args: argparse.Namespace) -> list[dict[str, Any]]:
    sides = {
        side: subprocess.Popen(
            [sys.executable, *sys.argv, "--side", side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for side in SIDES
    }

    def ask(side: str, what: str) -> float:
        stdin, stdout = sides[side].stdin, sides[side].stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{what}\n")
        stdin.flush()
        return float(stdout.readline())

    rows = []
    try:
        for side in SIDES:
            ask(side, "epoch")  # the first is warm-up
        for what in WHAT:
            times: dict[str, list[float]] = {side: [] for side in SIDES}
            for _ in range(args.repeats):
                for side in SIDES:
                    times[side].append(ask(side, what))
            middle = {side: statistics.median(t) for side, t in times.items()}
            rows.append({
                "what": what, "n": args.repeats,
                "seconds": {s: {"median": middle[s], "min": min(t), "max": max(t)} for s, t in times.items()},
                "published_over_ours": middle["published"] / middle["ours"],
            })  # fmt: skip
            print(f"{what}: ours {middle['ours']:.2f} s, published {middle['published']:.2f} s, "
                  f"{rows[-1]['published_over_ours']:.2f}×", flush=True)  # fmt: skip
    finally:
        for process in sides.values():
            process.kill()
    return rows


def forms(exact: torch.Tensor, first: torch.Tensor, kept: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each form gives back of a snapshot."""
    return {
        "float16 difference, scaled": kept,
        "bfloat16 difference": first + (exact - first).bfloat16().float(),
        "float16": exact.half().float(),
        "bfloat16": exact.bfloat16().float(),
    }


def error(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    job, exact = job_of(args.small, args.epochs), list[torch.Tensor]()
    rows = MemoryRows(Layout.of(job.make(0)), args.epochs)
    first = job.first()
    exact.extend(rows.layout.flat(state.teacher.params) for state in (first, *job.run(rows, first)))
    found: dict[str, list[float]] = {}
    for t in range(1, args.epochs + 1 - AHEAD):
        moved = float((exact[t + AHEAD] - exact[t]).norm())
        for name, value in forms(exact[t], exact[0], read_rows(rows.values, t)[0]).items():
            found.setdefault(name, []).append(float((value - exact[t]).norm()) / moved)
    size = sum(values.nbytes for values in rows.values.values())
    return {
        "network": job.make.name, "epochs": args.epochs, "bytes": size, "float32": 4 * exact[0].numel() * len(exact),
        "forms": {n: {"median": float(np.median(v)), "max": max(v), "last": v[-1]} for n, v in found.items()},
    }  # fmt: skip


def together(args: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    rows = []
    for width in (args.small, args.width):
        job = job_of(width, 1)
        batch = job.train.fetch(torch.arange(256))
        x, y = batch.x, batch.y
        assert isinstance(x, torch.Tensor)
        assert y is not None
        nets = [job.make(n).train() for n in range(EXPERTS)]
        thetas, stack = [copy_parameters(net) for net in nets], StackedStudents(nets)
        every = tuple(stack.parameters.values())

        def alone(nets: Any = nets, thetas: Any = thetas, x: Any = x, y: Any = y) -> None:
            for net, theta in zip(nets, thetas, strict=True):
                gradients(net, theta, x, y)

        def stacked(stack: Any = stack, every: Any = every, x: Any = x, y: Any = y) -> None:
            logits = stack(x.expand(EXPERTS, *x.shape), training=True)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.repeat(EXPERTS)) * EXPERTS
            torch.autograd.grad(loss, every)

        times: dict[str, list[float]] = {"alone": [], "stacked": []}
        for turn in range(args.repeats + 1):
            for name, work in (("alone", alone), ("stacked", stacked)):
                begun = time.process_time()
                work()
                if turn:  # the first is warm-up
                    times[name].append(time.process_time() - begun)
        middle = {name: statistics.median(t) for name, t in times.items()}
        rows.append({"network": job.make.name, "experts": EXPERTS, "n": args.repeats, "seconds": middle})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, help="checkout of the published code; of the first part")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--small", type=int, default=32, help="width of the expert whose snapshots are compared")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("results/experts.json"))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        serve(args)
        return
    if "speed" in args.parts and args.published is None:
        raise SystemExit("say where the published code is: --published PATH")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    for part in args.parts:
        if part == "speed":
            made |= {"machine": machine(), "network": f"convnet-d3-w{args.width}", "data": "mnist-5k", "batch": 256}
            made |= {"samples": len(load("mnist-5k").train), "rows": speed(args)}
        elif part == "error":
            made["error"] = {"machine": machine(), **error(args)}
        else:
            made["together"] = {"machine": machine(), "rows": together(args)}
        args.out.write_text(json.dumps(made, indent=1) + "\n")  # as it is made


if __name__ == "__main__":
    main()
