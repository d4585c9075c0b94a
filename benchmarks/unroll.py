"""Unrolled training: its memory, time and truth (`potstill.functional.unroll`), and a step beside the published code.

    python benchmarks/unroll.py [--what memory time tesla limit beside] [--mtt CHECKOUT] [--rat CHECKOUT]

Each part is written as soon as it is made, and others that are there stay.

- ``memory``: the peak of a fresh process per row, modes ``full`` and ``replay`` over the number of inner steps.
- ``time``: ``replay`` (with the first pass) over ``full``, in turns, in seconds of the processor.
- ``tesla``: cosine and norm ratio of the published approximation to the exact gradient, on matching trajectories: start
  and target are weights of a training on real data, as MTT has them.
- ``limit``: one training in a process that may hold 4 GB (RLIMIT_DATA), in both modes.
- ``beside``: the outer step of MTT (GeorgeCazenavette/mtt-distillation) and of RaT-BPTT
  (fengyzpku/Simple_Dataset_Distillation, which needs the package ``higher``) and ours, each in a process of its own, in
  turns, one thread; from the same weights, on the same pictures. MTT's loop stands in the midst of its program, so it
  is made of that program's functions here; RaT-BPTT's is its own, with stand-ins for what moves tensors to a GPU.
  ``agreement`` is the relative difference of the two gradients without augmentation, in float64 at width 32.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from machine import machine
from torch import Tensor
from torch.func import functional_call

from potstill.augment.siamese import Siamese, dsa_noflip
from potstill.core import Network
from potstill.data import load
from potstill.execution.memory import keep_freed_memory, peak_memory, resident_memory, return_freed_memory
from potstill.functional.optim import adaptive_step, zeros
from potstill.functional.train import copy_parameters, cross_entropy, train_step
from potstill.functional.unroll import (
    InnerOptimizer,
    Loss,
    StudentState,
    UnrolledGrads,
    init_student,
    run_steps,
    start_trace,
    train_student,
    unrolled_grads,
)
from potstill.nn import factory
from potstill.rng import generator

WHAT = ("memory", "time", "tesla", "limit", "beside")
STEPS = (5, 10, 20, 40, 80)
FULL_UP_TO = 40
"""Steps that ``full`` is run over; beyond, other work on the machine would have no memory."""
LIMIT = 4 * 10**9
LEARNING_RATE = 0.01


class Work:
    """A network and some real samples of each class as what it is trained on."""

    def __init__(self, width: int, ipc: int, augment: bool = True) -> None:
        self.data = load("mnist-5k").train
        made: Network = factory(f"convnet-d3-w{width}", self.data.input, 10, "cpu")(0)
        self.net = made.to(torch.get_default_dtype())
        self.by_class = [torch.nonzero(self.data.labels == c).flatten() for c in range(10)]
        x = self.data.fetch(torch.cat([i[:ipc] for i in self.by_class])).x
        assert isinstance(x, Tensor)
        self.y = torch.arange(10).repeat_interleave(ipc)
        self.leaves = {"inputs": x.to(torch.get_default_dtype()), "labels": 0.9 * F.one_hot(self.y, 10) + 0.01}
        self.kind: Siamese | None = dsa_noflip() if augment else None

    def loss(self, theta: Mapping[str, Tensor], leaves: Mapping[str, Tensor], step: int) -> Tensor:
        """Cross-entropy, each sample augmented on its own; of classes where labels are no leaf."""
        x = leaves["inputs"]
        if self.kind is not None:
            x = self.kind.apply(x, self.kind.draw(len(x), x.shape[1:], generator(step, "augment")))
        return cross_entropy(functional_call(self.net, dict(theta), (x,)), leaves.get("labels", self.y))

    def epochs(self, theta: Mapping[str, Tensor], n: int, seed: int) -> dict[str, Tensor]:
        """The weights after a training on the real samples, as MTT's experts are made."""
        rng = generator(seed, "expert")
        for _ in range(n):
            for rows in torch.randperm(len(self.data), generator=rng).split(256):
                batch = self.data.fetch(rows)
                theta = train_step(self.net, theta, None, batch.x, batch.y, lr=LEARNING_RATE).params
        return dict(theta)


def matched(target: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """MTT's outer loss."""
    scale = sum(float(((target[n] - t) ** 2).sum()) for n, t in first.items())
    return lambda theta: torch.stack([((theta[n] - t) ** 2).sum() for n, t in target.items()]).sum() / scale


def one(
    loss: Loss, first: StudentState, leaves: Mapping[str, Tensor], inner: InnerOptimizer, steps: range, mode: str,
    outer: Callable[[Mapping[str, Tensor]], Tensor], lr: float = LEARNING_RATE,
) -> UnrolledGrads:  # fmt: skip
    """Outer gradients with all that they take: in ``replay`` the first pass too."""
    if mode == "full":
        return unrolled_grads(loss, start_trace(first, steps), leaves, lr, inner, outer, "full")
    return unrolled_grads(
        loss, train_student(loss, first, leaves, lr, inner, steps), leaves, lr, inner, outer, "replay"
    )


def ready(width: int, ipc: int, inner: InnerOptimizer, seed: int = 0) -> tuple[Work, StudentState, Any]:
    work = Work(width, ipc)
    first = init_student(copy_parameters(work.net), inner)
    rng = generator(seed, "target")
    target = {n: t + 0.01 * torch.randn(t.shape, generator=rng) for n, t in first.theta.items()}
    return work, first, matched(target, first.theta)


# --- memory and the limit: a process per row ---------------------------------------------------------------------


def child(asked: dict[str, Any]) -> dict[str, Any]:
    """One unroll in this process: bytes before it and at its peak, seconds of the processor."""
    torch.set_num_threads(1)
    keep_freed_memory()
    inner = InnerOptimizer(**asked.get("inner", {}))
    work, first, outer = ready(asked["width"], asked["ipc"], inner)
    run_steps(
        work.loss, first, work.leaves, LEARNING_RATE, inner, range(1)
    )  # libraries are loaded, kernels are compiled
    return_freed_memory()
    Path("/proc/self/clear_refs").write_text("5")  # the peak until now is forgotten
    before = resident_memory()
    if "limit" in asked:
        resource.setrlimit(resource.RLIMIT_DATA, (asked["limit"],) * 2)
    begun_at = time.process_time()
    try:
        found = one(work.loss, first, work.leaves, inner, range(asked["steps"]), asked["mode"], outer)
    except (RuntimeError, MemoryError) as error:
        said = str(error).splitlines()[0]
        return {**asked, "finished": False, "peak": peak_memory(), "said": said[:200]}
    return {
        **asked, "finished": True, "before": before, "peak": peak_memory(), "loss": found.loss,
        "seconds": time.process_time() - begun_at,
    }  # fmt: skip


def rows(asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made = []
    for one_row in asked:
        words = [sys.executable, __file__, "--child", json.dumps(one_row)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
        last_line = (done.stdout.splitlines() or ["{}"])[-1]
        row = (
            json.loads(last_line) if done.returncode == 0 else {**one_row, "finished": False, "status": done.returncode}
        )
        made.append(row)
        print({k: f"{v / 1e6:,.0f} MB" if k in ("before", "peak", "limit") else v for k, v in row.items()}, flush=True)
    return made


def memory(args: argparse.Namespace) -> dict[str, Any]:
    asked = [
        {"mode": mode, "steps": n, "width": args.width, "ipc": 10}
        for mode, n in product(("replay", "full"), STEPS)
        if mode == "replay" or n <= FULL_UP_TO
    ]
    made = rows(asked)
    peaks = {mode: {r["steps"]: r["peak"] for r in made if r["mode"] == mode} for mode in ("replay", "full")}
    ends = peaks["replay"].values()
    fit = statistics.linear_regression(list(peaks["full"]), list(peaks["full"].values()))
    middle = statistics.median(ends)
    return {
        "rows": made, "replay_spread": [min(ends) / middle - 1, max(ends) / middle - 1],
        "full_bytes_per_step": fit.slope, "full_at_most_steps": fit.slope * max(STEPS) + fit.intercept,
    }  # fmt: skip


def limit(args: argparse.Namespace) -> dict[str, Any]:
    asked = {"steps": max(STEPS), "width": args.width, "ipc": 10, "limit": LIMIT}
    return {"rows": rows([{"mode": mode, **asked} for mode in ("full", "replay")])}


# --- time --------------------------------------------------------------------------------------------------------


def timed(args: argparse.Namespace) -> dict[str, Any]:
    """In turns, in this process."""
    torch.set_num_threads(1)
    keep_freed_memory()
    made = []
    cases = (
        (args.width, 10, 5, InnerOptimizer()), (32, 1, 20, InnerOptimizer()), (32, 1, 20, InnerOptimizer(momentum=0.9)),
        (32, 1, 20, InnerOptimizer(optimizer="adam")), (32, 10, 10, InnerOptimizer()),
    )  # fmt: skip
    for width, ipc, steps, inner in cases:
        work, first, outer = ready(width, ipc, inner)
        seconds: dict[str, list[float]] = {"replay": [], "full": []}
        for turn in range(args.repeats + 1):
            for mode in seconds:
                begun_at = time.process_time()
                one(work.loss, first, work.leaves, inner, range(steps), mode, outer)
                if turn:  # the first is warm-up
                    seconds[mode].append(time.process_time() - begun_at)
        middle = {mode: statistics.median(t) for mode, t in seconds.items()}
        each = [a / b for a, b in zip(seconds["replay"], seconds["full"], strict=True)]
        made.append({
            "width": width, "samples": 10 * ipc, "steps": steps, "optimizer": inner.optimizer,
            "momentum": inner.momentum, "n": args.repeats, "seconds": seconds,
            "replay_over_full": middle["replay"] / middle["full"], "range": [min(each), max(each)],
        })  # fmt: skip
        print(made[-1], flush=True)
    return {"rows": made}


# --- the approximation -------------------------------------------------------------------------------------------


def tesla(args: argparse.Namespace) -> dict[str, Any]:
    """Starts after one epoch of an expert, targets two epochs later, three experts."""
    torch.set_num_threads(1)
    keep_freed_memory()
    steps, made, inner = (5, 20, 40), [], InnerOptimizer()
    work = Work(32, args.tesla_ipc)
    make = factory("convnet-d3-w32", work.data.input, 10, "cpu")
    for seed in range(3):
        start = work.epochs(copy_parameters(make(seed)), 1, seed)
        outer = matched(work.epochs(start, 2, seed + 100), start)
        for lr in (0.01, 0.03, 0.05):
            trail = train_student(work.loss, init_student(start, inner), work.leaves, lr, inner, range(max(steps)))
            for n in steps:
                exact, near = (
                    unrolled_grads(work.loss, trail, work.leaves, lr, inner, outer, mode, n)
                    for mode in ("replay", "tesla")
                )
                a, b = exact.leaves["inputs"].flatten(), near.leaves["inputs"].flatten()
                made.append({
                    "expert": seed, "lr": lr, "steps": n, "cosine": float(F.cosine_similarity(a, b, 0)),
                    "norm": float(b.norm() / a.norm()), "rate": float(near.lr / exact.lr), "loss": exact.loss,
                })  # fmt: skip
                print(made[-1], flush=True)
    return {"network": "convnet-d3-w32", "samples": 10 * args.tesla_ipc, "rows": made}


# --- beside the published code -----------------------------------------------------------------------------------

WINDOW_REAL = 500
"""Real samples of RaT-BPTT's outer loss (published: 5,000), the same for both."""


def stand_in(name: str, **attributes: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    for key, value in attributes.items():
        setattr(made, key, value)
    sys.modules[name] = made
    return made


def start_and_target(work: Work) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights after one epoch, and one epoch later; both sides make the same."""
    start = copy_parameters(work.net)
    rng = generator(1, "target")
    return start, {n: t + 0.01 * torch.randn(t.shape, generator=rng, dtype=torch.float32) for n, t in start.items()}


def real_batch(work: Work) -> tuple[Tensor, Tensor]:
    batch = work.data.fetch(torch.arange(WINDOW_REAL))
    assert isinstance(batch.x, Tensor)
    return batch.x.to(torch.get_default_dtype()), batch.y


EPS = {False: 1e-8, True: 1e-12}
"""Adam's, by whether agreement is asked: ``higher`` adds it to √v before v is corrected, torch and we after."""

Job = Callable[[int, bool], Tensor]
"""An outer step of so many inner ones, augmented or not: the gradient by the pictures."""


def our_jobs(args: argparse.Namespace) -> dict[str, Job]:
    work = Work(args.width, 10)
    start, target = start_and_target(work)
    x = {"inputs": work.leaves["inputs"]}
    moments = [zeros({"inputs": x["inputs"]}) for _ in range(2)]

    def mtt(mode: str, steps: int, augmented: bool) -> Tensor:
        work.kind = dsa_noflip() if augmented else None
        found = one(
            work.loss,
            init_student(start, InnerOptimizer()),
            x,
            InnerOptimizer(),
            range(steps),
            mode,
            matched(target, start),
        )
        _ = x["inputs"] - 100 * found.leaves["inputs"]
        return found.leaves["inputs"]

    def rat(mode: str, steps: int, augmented: bool) -> Tensor:
        inner = InnerOptimizer(optimizer="adam", eps=EPS[args.double])
        kind = Siamese(strategy=("flip", "rotate")) if augmented else None
        work.kind = kind
        real, y = real_batch(work)
        seen = real if kind is None else kind.apply(real, kind.draw(len(real), real.shape[1:], generator(0, "real")))
        first = run_steps(work.loss, init_student(start, inner), x, 1e-3, inner, range(steps))

        def outer(theta: Mapping[str, Tensor]) -> Tensor:
            return cross_entropy(functional_call(work.net, dict(theta), (seen,)), y)

        found = one(work.loss, first, x, inner, range(steps, 2 * steps), mode, outer, 1e-3)
        adaptive_step("adamw", x, {"inputs": found.leaves["inputs"]}, *moments, 0, lr=1e-3)
        return found.leaves["inputs"]

    jobs = {"mtt": mtt, "rat": rat}
    return {f"{what} {mode}": partial(jobs[what], mode) for what in jobs for mode in ("replay", "full")}


def their_mtt(args: argparse.Namespace) -> dict[str, Job]:
    """The inner loop of distill.py, statement by statement, of its own functions."""
    stand_in("kornia")
    vision = stand_in("torchvision", datasets=types.ModuleType("datasets"), transforms=types.ModuleType("transforms"))
    sys.modules.update({"torchvision.datasets": vision.datasets, "torchvision.transforms": vision.transforms})
    stand_in("scipy.ndimage.interpolation", rotate=None)
    sys.path.insert(0, str(args.mtt))
    import networks
    import utils
    from reparam_module import ReparamModule

    # Their `view` refuses what their own crop makes of grey pictures; a flatten does not.
    networks.ConvNet.forward = lambda net, x: net.classifier(net.features(x).flatten(1))
    work = Work(args.width, 10)
    start, target = (torch.cat([t.reshape(-1) for t in w.values()]) for w in start_and_target(work))
    images = work.leaves["inputs"].clone().requires_grad_()
    rate = torch.tensor(LEARNING_RATE, requires_grad=True)
    param, criterion = utils.ParamDiffAug(), torch.nn.CrossEntropyLoss()
    optimizers = torch.optim.SGD([images], lr=0.0, momentum=0.5), torch.optim.SGD([rate], lr=0.0, momentum=0.5)

    def mtt(steps: int, augmented: bool) -> Tensor:
        made = networks.ConvNet(1, 10, args.width, 3, "relu", "instancenorm", "avgpooling", (28, 28))
        net = ReparamModule(made)
        net.train()
        weights, chunks = [start.clone().requires_grad_()], list[Tensor]()
        for _ in range(steps):
            if not chunks:
                chunks = list(torch.split(torch.randperm(len(images)), len(images)))
            these = chunks.pop()
            x, y = images[these], work.y[these]
            if augmented:
                x = utils.DiffAugment(x, "color_crop_cutout_scale_rotate", param=param)
            value = criterion(net(x, flat_param=weights[-1]), y)
            (grad,) = torch.autograd.grad(value, weights[-1], create_graph=True)
            weights.append(weights[-1] - rate * grad)
        loss = F.mse_loss(weights[-1], target, reduction="sum") / F.mse_loss(start, target, reduction="sum")
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        assert images.grad is not None
        return images.grad.clone()

    return {"mtt": mtt}


def their_rat(args: argparse.Namespace) -> dict[str, Job]:
    """`Distill.forward` of framework/distill_higher.py and the step that framework/base.py makes of it."""
    names = ("MNIST", "CIFAR10", "CIFAR100", "ImageFolder")
    datasets = stand_in("torchvision.datasets", **{n: type(n, (), {}) for n in names})
    transforms = stand_in("torchvision.transforms")
    stand_in("torchvision", datasets=datasets, transforms=transforms)
    stand_in("h5py")
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *_, **__: self  # type: ignore[assignment]
    sys.path.insert(0, str(args.rat))
    from framework import convnet, distill_higher, util

    # As above: grey pictures.
    def forward(net: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = net.features(x).flatten(1)
        return net.classifier(h), h

    convnet.ConvNet.forward = forward
    work = Work(args.width, 10)
    start, _ = start_and_target(work)

    def network(*_: object) -> Any:
        made = convnet.ConvNet(1, 10, args.width, 3, "relu", "instancenorm", "avgpooling", im_size=(28, 28))
        with torch.no_grad():
            for p, t in zip(made.parameters(), start.values(), strict=True):
                p.copy_(t)
        return made.to(torch.get_default_dtype())

    distill_higher.get_arch = network
    how = {
        augmented: tuple(
            util.ImageIntervention(f"{side}_aug", "flip_rotate", phase="test") if augmented else lambda x, **_: x
            for side in ("syn", "real")
        )
        for augmented in (True, False)
    }
    model = distill_higher.Distill(
        None, work.y, "convnet", 1, 1e-3, 1, img_pc=10, batch_pc=10, num_classes=10, task_sampler_nc=10, channel=1,
        im_size=(28, 28), inner_optim="Adam", cctype=2,
    )  # fmt: skip
    model.dd_type = "curriculum"
    if args.double:
        distill_higher.optim.Adam = partial(torch.optim.Adam, eps=EPS[True])
    model.data.weight.data = work.leaves["inputs"].flatten(1).clone()
    model.ema_init(0.9)
    optimizer, criterion = torch.optim.Adam([model.data.weight], lr=0.0), torch.nn.CrossEntropyLoss()
    real, targets = real_batch(work)

    def rat(steps: int, augmented: bool) -> Tensor:
        model.window = model.curriculum = steps
        model.syn_intervention, model.real_intervention = how[augmented]
        output, _ = model(real)
        loss = criterion(output, targets)
        optimizer.zero_grad()
        loss.backward()
        made: Tensor = model.data.weight.grad.clone()
        clip = model.ema_update(float((torch.norm(made, dim=1) ** 2).sum() ** 0.5))
        torch.nn.utils.clip_grad_norm_(model.data.weight, max_norm=clip * 2)
        optimizer.step()
        return made.view_as(work.leaves["inputs"])

    return {"rat": rat}


SIDES = {"ours": our_jobs, "mtt": their_mtt, "rat": their_rat}


def serve(args: argparse.Namespace) -> None:
    """Read ``job steps augmented [file]`` lines, run the job, answer with its seconds of the processor and the peak."""
    torch.set_num_threads(1)
    keep_freed_memory()  # for both: they gain by it too
    torch.set_default_dtype(torch.float64 if args.double else torch.float32)
    out, sys.stdout = sys.stdout, sys.stderr
    jobs = SIDES[args.side](args)
    for line in sys.stdin:
        what, steps, augmented, path = json.loads(line)
        begun_at = time.process_time()
        gradient = jobs[what](steps, augmented)
        seconds = time.process_time() - begun_at
        if path:
            torch.save(gradient, path)
        print(json.dumps([seconds, peak_memory()]), file=out, flush=True)


def started(side: str, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, *sys.argv, "--side", side, *more]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: subprocess.Popen[str], what: str, steps: int, augmented: bool, path: str = "") -> tuple[float, int]:
    """Seconds of the processor, and the process's peak until now."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([what, steps, augmented, path]) + "\n")
    process.stdin.flush()
    seconds, peak = json.loads(process.stdout.readline())
    return seconds, peak


def agreement(theirs: str) -> float:
    gradients = []
    with TemporaryDirectory() as folder:
        for side, what in (("ours", f"{theirs} replay"), (theirs, theirs)):
            path = str(Path(folder) / side)
            with started(side, "--double", "--width", "32") as process:
                ask(process, what, 3, False, path)
                process.kill()
            gradients.append(torch.load(path, weights_only=True))
    ours, published = gradients
    return float((ours - published).norm() / published.norm())


def beside(args: argparse.Namespace) -> dict[str, Any]:
    made = []
    for theirs in ("mtt", "rat"):
        if getattr(args, theirs) is None:
            continue
        near = agreement(theirs)
        sides = {side: started(side) for side in ("ours", theirs)}
        turns = {f"{theirs} replay": "ours", f"{theirs} full": "ours", theirs: theirs}
        seconds: dict[str, list[float]] = {what: [] for what in turns}
        peaks: dict[str, int] = {}
        for what, side in turns.items():
            ask(sides[side], what, 1, True)  # warm-up
        for _ in range(args.repeats):
            for what, side in turns.items():
                spent, peak = ask(sides[side], what, args.steps, True)
                seconds[what].append(spent)
                peaks.setdefault(what, peak)  # replay comes first, so that full's peak is not its
        for process in sides.values():
            process.kill()
            process.communicate()
        middle = {what: statistics.median(t) for what, t in seconds.items()}
        made.append({
            "what": theirs, "steps": args.steps, "samples": 100, "n": args.repeats, "seconds": seconds,
            "agreement": near, "peaks": peaks,
            "published_over_replay": middle[theirs] / middle[f"{theirs} replay"],
            "published_over_full": middle[theirs] / middle[f"{theirs} full"],
        })  # fmt: skip
        print(made[-1], flush=True)
    return {"rows": made, "real": WINDOW_REAL}


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "memory": memory, "time": timed, "tesla": tesla, "limit": limit, "beside": beside
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--mtt", type=Path, help="checkout of MTT; not needed for the rest")
    parser.add_argument("--rat", type=Path, help="checkout of RaT-BPTT; not needed for the rest")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6, help="inner steps beside the published code")
    parser.add_argument("--tesla-ipc", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results/unroll.json"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--double", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(json.loads(args.child))))
        return
    if args.side:
        serve(args)
        return
    for what in args.what:
        found = {"machine": machine(), "network": f"convnet-d3-w{args.width}", **PARTS[what](args)}
        made = json.loads(args.out.read_text()) if args.out.exists() else {}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({**made, what: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
