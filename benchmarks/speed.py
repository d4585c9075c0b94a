"""One DM step, one DC step, one DSA step and training epochs of students: ours, the published code, and the floor.

    git clone <the published repository> vico
    python benchmarks/speed.py --published vico [--idc PATH] [--ncfm PATH] [--width 128] [--ipc 10] [--threads 1 2]
    python benchmarks/speed.py --floor      # ours and the floor alone, into the file that is there

With checkouts of IDC and NCFM, an update of each is timed too: all classes in turn there (decode, augment, match, move;
NCFM's calibration as well), together here.

``dm, reuse`` is the mean of eight DM steps that share one network's real statistics. ``two students`` are trained side
by side in two processes of one thread each here, one after the other with two threads in the published code.

``--device cuda`` does it on a GPU, one thread, and there ``twenty-students`` are trained side by side as one network
here, one after the other in the published code.

Each side lives in a process of its own, as it would be used, and is asked in turn (ours, theirs, ours with torch's
default memory, …); ratios of medians. The floor is the floating-point operations of the convolutions and the
classifier, as a plain convolution has them, over a rate that is measured between the rounds: the better of a large
matrix product (which torch makes slowly on some processors) and multiply-adds of registers alone (peak.c), which no
program exceeds.

``--floor`` times only ours and only these two, one thread, in seconds of the processor, so that other work on the
machine matters little; it says its own machine.
"""

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from fidelity_functions import published
from machine import machine

from potstill.augment.names import named_augmentation
from potstill.augment.siamese import dsa_noflip, none
from potstill.core import NetworkWeights, Problem
from potstill.core.registry import resolve
from potstill.data import load
from potstill.evaluation.student import StudentJob
from potstill.evaluation.student import train as train_student
from potstill.evaluation.vmap_students import fit_stacked
from potstill.execution.memory import keep_freed_memory
from potstill.functional.train import copy_parameters
from potstill.methods.distribution.dm import DM
from potstill.methods.distribution.ncfm import NCFM
from potstill.methods.gradient.dc import DC
from potstill.methods.gradient.dsa import DSA
from potstill.methods.gradient.idc import IDC
from potstill.nn import factory, flops
from potstill.parametrize.pixels import Pixels
from potstill.parametrize.tiles import Tiles
from potstill.rng import generator

STRATEGY = "color_crop_cutout_scale_rotate"
SIDES = ("ours", "published", "ours, default memory")
WHAT = ("dm", "dm-reuse", "dc", "dsa", "student", "two-students", "twenty-students", "idc", "ncfm")
REUSE = 8
TWENTY = 20


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


def problem_of(args: argparse.Namespace) -> Problem:
    train = load("mnist-5k", device=args.device).train
    make = factory(f"convnet-d3-w{args.width}", train.input, 10, args.device)
    return Problem(
        train=train, counts=(args.ipc,) * 10, network=make, augment=dsa_noflip(), parametrization=Pixels()
    )  # fmt: skip


def our_jobs(args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    problem = problem_of(args)
    dm, dsa, rng = DM(batch_real=args.batch), DSA(batch_real=args.batch, outer=2, inner=0), generator(0)
    dm_state, dsa_state = dm.init(problem, rng), dsa.init(problem, rng)
    dc, plain = DC(batch_real=args.batch, outer=2, inner=0), replace(problem, augment=none())
    amortised = DM(batch_real=args.batch, steps_per_network=REUSE)

    def block() -> None:
        state = dm_state
        for _ in range(REUSE):
            state, _ = amortised.step(problem, state, rng)

    x = problem.train.fetch(torch.cat([i[: args.ipc] for i in problem.class_indices])).x
    assert isinstance(x, torch.Tensor)
    five = resolve("protocols", "dsa").override(epochs=4)  # the published loop makes one epoch more than it is told
    y = torch.arange(10, device=args.device).repeat_interleave(args.ipc)
    job = StudentJob(make=problem.network, x=x, y=y, protocol=five, lr=0.01, steps=None, augment=dsa_noflip(), seed=0)
    idc, ncfm = IDC(outer=1, batch_real=64), NCFM(pretrained_networks=1)
    tiled = replace(problem, parametrization=Tiles())
    theta = copy_parameters(problem.network(1))
    tiled = replace(tiled, assets={"networks": (NetworkWeights(seed=1, parameters=theta, buffers={}),)})
    idc_state, ncfm_state = idc.init(tiled, rng), ncfm.init(tiled, rng)
    tiled = replace(tiled, augment=named_augmentation("idc", problem.train))
    return {
        "idc": lambda: idc.step(tiled, idc_state, rng),
        "ncfm": lambda: ncfm.step(tiled, ncfm_state, rng),
        "dm": lambda: dm.step(problem, dm_state, rng),
        "dm-reuse": block,
        "dc": lambda: dc.step(plain, dsa_state, rng),  # it starts as DSA does, from real samples here
        "dsa": lambda: dsa.step(problem, dsa_state, rng),
        "student": lambda: train_student(job),
        "two-students": lambda: train_student(job),
        "twenty-students": lambda: fit_stacked([replace(job, seed=s) for s in range(TWENTY)]),
    }


def their_jobs(args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    networks, utils = import_published(args.published)
    problem, param = problem_of(args), utils.ParamDiffAug()
    everything = problem.train.fetch(torch.arange(len(problem.train))).x
    assert isinstance(everything, torch.Tensor)
    loops = types.SimpleNamespace(
        device=args.device, dis_metric="ours", dsa=True, dsa_strategy=STRATEGY, dsa_param=param
    )
    syn = torch.nn.Parameter(everything[torch.cat([i[: args.ipc] for i in problem.class_indices])].clone())
    optimizer = torch.optim.SGD([syn], lr=0.1, momentum=0.5)

    # Their `view` after the last pooling refuses what their own crop makes of grey pictures; a reshape does not.
    networks.ConvNet.embed = lambda net, x: net.features(x).flatten(1)
    networks.ConvNet.forward = lambda net, x: net.classifier(net.embed(x))

    def published_net() -> Any:
        made = networks.ConvNet(1, 10, args.width, 3, "relu", "instancenorm", "avgpooling", (28, 28))
        return made.to(args.device)

    def pair(c: int, augmented: bool = True) -> list[torch.Tensor]:
        x = everything[problem.class_indices[c][torch.randperm(len(problem.class_indices[c]))[: args.batch]]]
        both = (x, syn[c * args.ipc : (c + 1) * args.ipc])
        return [utils.DiffAugment(v, STRATEGY, seed=1234, param=param) if augmented else v for v in both]

    def descend(loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def dm() -> None:
        net = published_net().train().requires_grad_(False)
        loss = torch.zeros((), device=args.device)
        for c in range(10):
            x, s = pair(c)
            loss = loss + ((net.embed(x).detach().mean(0) - net.embed(s).mean(0)) ** 2).sum()
        descend(loss)

    def gradient_step(augmented: bool) -> None:
        net = published_net().train()
        parameters, cross = list(net.parameters()), torch.nn.functional.cross_entropy
        loss = torch.zeros((), device=args.device)
        for c in range(10):
            x, s = pair(c, augmented)
            label = torch.full((max(len(x), len(s)),), c, device=args.device)
            g = [v.detach().clone() for v in torch.autograd.grad(cross(net(x), label[: len(x)]), parameters)]
            h = torch.autograd.grad(cross(net(s), label[: len(s)]), parameters, create_graph=True)
            loss = loss + utils.match_loss(h, g, loops)
        descend(loss)

    labels = torch.arange(10, device=args.device).repeat_interleave(args.ipc)
    small = utils.TensorDataset(syn.detach().clone(), labels)
    loader = torch.utils.data.DataLoader(small, batch_size=256, shuffle=True)

    def student() -> None:
        net = published_net()
        their = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
        for _ in range(5):
            utils.epoch("train", loader, net, their, torch.nn.CrossEntropyLoss(), loops, aug=True)

    return {
        "dm": dm, "dm-reuse": dm, "dc": lambda: gradient_step(False), "dsa": lambda: gradient_step(True),
        "student": student, "two-students": lambda: (student(), student()),
        "twenty-students": lambda: [student() for _ in range(TWENTY)],
    }  # fmt: skip


def their_tiled_jobs(args: argparse.Namespace, what: str) -> dict[str, Callable[[], object]]:
    """One update of IDC's or NCFM's own loop, made of their functions: every class in turn, a step after each."""
    problem, width, ipc = problem_of(args), args.width, args.ipc
    everything = problem.train.raw(torch.arange(len(problem.train)))
    assert isinstance(everything, torch.Tensor)
    mean, std = (v.view(1, -1, 1, 1) for v in (problem.train.normalization.mean, problem.train.normalization.std))
    f32 = torch.float32
    synthesizer = published(args.idc / "condense.py", "Synthesizer", dtype=f32)["Synthesizer"]
    syn = synthesizer(
        types.SimpleNamespace(ipc=ipc, factor=2, decode_type="single"), 10, 1, 28, 28, device=args.device
    )  # fmt: skip
    augment = published(args.idc / "misc" / "augment.py", "DiffAug", dtype=f32)["DiffAug"](
        strategy="color_crop_cutout", batch=True
    )  # fmt: skip
    real = 64 if what == "idc" else 1024
    if what == "idc":
        net = published(args.idc / "models" / "convnet.py", "ConvNet", dtype=f32)["ConvNet"](
            10, net_norm="instance", net_depth=3, net_width=width, channel=1, im_size=(28, 28)
        ).to(args.device)  # fmt: skip
        match = published(args.idc / "condense.py", "dist", "add_loss", "matchloss", dtype=f32)["matchloss"]
        settings = types.SimpleNamespace(match="grad", metric="mse", bias=False, fc=False)
        move: torch.optim.Optimizer = torch.optim.SGD(syn.parameters(), lr=5e-3, momentum=0.5)
    else:
        net = published(args.ncfm / "models" / "convnet.py", "ConvNet", dtype=f32)["ConvNet"](
            10, net_norm="instance", net_depth=3, net_width=width, channel=1, im_size=(28, 28)
        ).to(args.device)  # fmt: skip
        names = ("calculate_norm", "calculate_imag", "calculate_real", "CFLossFunc", "match_loss", "cailb_loss")
        space = published(args.ncfm / "NCFM" / "NCFM.py", *names, dtype=f32)
        settings = types.SimpleNamespace(cf_loss_func=space["CFLossFunc"](0.5, 0.5), num_freqs=4096, device=args.device)
        move = torch.optim.AdamW(syn.parameters(), lr=1e-3)

    def step() -> None:
        for c in range(10):
            index = problem.class_indices[c]
            x = everything[index[torch.randperm(len(index))[:real]]]
            s, y = syn.sample(c, max_size=128)
            both = augment((torch.cat([x, s]) - mean) / std)
            if what == "idc":
                loss = match(
                    settings, both[: len(x)], both[len(x) :], torch.full((len(x),), c, device=x.device), y, net
                )
            else:
                loss = space["match_loss"](both[: len(x)], both[len(x) :], net, None, settings)
            move.zero_grad()
            loss.backward()
            move.step()
        for c in range(10) if what == "ncfm" else ():
            s, y = syn.sample(c, max_size=128)
            move.zero_grad()
            space["cailb_loss"](augment((s - mean) / std), y, net).backward()
            move.step()

    return {what: step}


def serve(args: argparse.Namespace) -> None:
    """Read ``threads job`` lines, run the job, answer with its seconds."""
    if args.side == "ours":
        keep_freed_memory()
    out, sys.stdout = sys.stdout, sys.stderr  # what they print must not end up among the answers
    if args.side in ("idc", "ncfm"):
        jobs = their_tiled_jobs(args, args.side)
    else:
        jobs = their_jobs(args) if args.side == "published" else our_jobs(args)
    for line in sys.stdin:
        threads, what = line.split()
        torch.set_num_threads(int(threads))
        begun = time.perf_counter()
        jobs[what]()
        if args.device == "cuda":
            torch.cuda.synchronize()
        print(time.perf_counter() - begun, file=out, flush=True)


def matrix_rate(threads: int, device: str, clock: Callable[[], float] = time.perf_counter) -> float:
    """Floating-point operations per second of a float32 product, 1536³ (8192³ on a GPU), the best of ten."""
    torch.set_num_threads(threads)
    side = 1536 if device == "cpu" else 8192
    a = torch.randn(side, side, device=device)
    times = []
    for _ in range(10):
        begun = clock()
        a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - begun)
    return 2 * side**3 / min(times)


def operations_of(args: argparse.Namespace) -> dict[str, float]:
    """Floating-point operations of each job, of its convolutions and classifier."""
    problem = problem_of(args)
    forward = flops(problem.network(0), problem.train.input.shape)
    real_all = sum(min(1024, len(i)) for i in problem.class_indices)
    real, syn = sum(min(args.batch, len(i)) for i in problem.class_indices), 10 * args.ipc
    return {
        "dm": forward * (real + 2 * syn),  # forward of the real ones; forward and the input half of backward
        "dc": forward * (3 * real + 6 * syn),
        "dsa": forward * (3 * real + 6 * syn),  # a training pass of the real ones; that and its backward of the others
        "student": forward * 3 * syn * 5,
        "dm-reuse": forward * (real / REUSE + 2 * syn),
        "idc": forward * (3 * 640 + 6 * 4 * syn),
        # with the calibration, and the products of frequencies with features and their backward
        "ncfm": forward * (real_all + (2 + 2) * 4 * syn) + 2 * 4096 * 16 * args.width * (real_all + 2 * 4 * syn),
        "two-students": 2 * forward * 3 * syn * 5,
        "twenty-students": TWENTY * forward * 3 * syn * 5,
    }


_ROUNDS = 2_000_000
_FLAGS = {
    "AVX512": ("-march=x86-64-v4", "-mprefer-vector-width=512", "-DL=16"), "AVX2": ("-march=x86-64-v3", "-DL=8"),
}  # fmt: skip


@cache
def _peak() -> ctypes.CDLL | None:
    """peak.c, compiled; ``None`` where there is no compiler or another processor."""
    flags = _FLAGS.get(torch.backends.cpu.get_cpu_capability())
    if flags is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        made, source = Path(folder) / "peak.so", Path(__file__).with_name("peak.c")
        try:
            words = ["cc", "-O3", "-funroll-loops", "-ffp-contract=fast", *flags, "-fPIC", "-shared"]
            subprocess.run([*words, str(source), "-o", str(made)], check=True)
            return ctypes.CDLL(str(made))
        except (OSError, subprocess.CalledProcessError):
            return None


def multiply_add_rate(threads: int, device: str, clock: Callable[[], float] = time.perf_counter) -> float:
    """Floating-point operations per second of multiply-adds in registers, the best of ten; 0 where it is not known."""
    kernels = _peak() if device == "cpu" else None
    if kernels is None:
        return 0.0
    lanes = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8
    times = []

    def once(_: int) -> None:
        numbers = (ctypes.c_float * 3)(0.999, 0.001, 0.0)
        kernels.peak(ctypes.c_int64(_ROUNDS), numbers)

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(10):
            begun = clock()
            list(pool.map(once, range(threads)))
            times.append(clock() - begun)
    return threads * 2 * 12 * lanes * _ROUNDS / min(times)


def floor(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Ours and what it is held against, one thread, by the processor's clock."""
    torch.set_num_threads(1)
    keep_freed_memory()
    jobs, operations, rows = our_jobs(args), operations_of(args), []
    for what in args.what:
        if what in ("two-students", "twenty-students"):
            continue
        times: list[float] = []
        matrix, peak = [], []
        for turn in range(args.repeats + 1):
            begun = time.process_time()
            jobs[what]()
            if turn:  # the first is warm-up
                times.append((time.process_time() - begun) / (REUSE if what == "dm-reuse" else 1))
                matrix.append(matrix_rate(1, "cpu", time.process_time))
                peak.append(multiply_add_rate(1, "cpu", time.process_time))
        rates = [statistics.median(matrix), statistics.median(peak)]
        ours, least = statistics.median(times), operations[what] / max(rates)
        rows.append({
            "what": what, "n": args.repeats, "seconds": {"median": ours, "min": min(times), "max": max(times)},
            "gflop": operations[what] / 1e9, "matrix_gflops": rates[0] / 1e9, "peak_gflops": rates[1] / 1e9,
            "floor_s": least, "ours_over_floor": ours / least,
        })  # fmt: skip
        print(
            f"{what:12} ours {ours:.3f} s, floor {least:.3f} s ({rates[0] / 1e9:.0f} and {rates[1] / 1e9:.0f} "
            f"GFLOP/s): {ours / least:.2f}", flush=True,
        )  # fmt: skip
    return rows


def measure(args: argparse.Namespace, command: list[str]) -> list[dict[str, Any]]:
    def start(side: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, "--side", side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )  # fmt: skip

    # two of ours: students that are trained side by side
    sides = {side: [start(side)] * 2 if side == "published" else [start(side), start(side)] for side in SIDES}
    sides |= {what: [start(what)] for what in ("idc", "ncfm") if getattr(args, what) is not None}

    def ask(side: str, threads: int, what: str) -> float:
        side = what if side == "published" and what in sides else side
        together = what == "two-students" and side != "published"
        asked = sides[side][: 2 if together else 1]
        for process in asked:
            assert process.stdin is not None
            process.stdin.write(f"{1 if together else threads} {what}\n")
            process.stdin.flush()
        found = []
        for process in asked:
            assert process.stdout is not None
            found.append(float(process.stdout.readline()))
        return max(found) / (REUSE if what == "dm-reuse" and side != "published" else 1)

    operations = operations_of(args)
    rows = []
    for threads in args.threads:
        for what in args.what:
            if what == ("two-students" if args.device == "cuda" else "twenty-students"):
                continue  # processes are for cores
            if (what == "two-students" and threads != 2) or (what in ("idc", "ncfm") and what not in sides):
                continue
            times: dict[str, list[float]] = {side: [] for side in SIDES}
            rates, peaks = [], []
            for side in SIDES:
                ask(side, threads, what)  # the first is warm-up
            for _ in range(args.repeats):
                rates.append(matrix_rate(threads, args.device))
                peaks.append(multiply_add_rate(threads, args.device))
                for side in SIDES:
                    times[side].append(ask(side, threads, what))
            middle = {side: statistics.median(t) for side, t in times.items()}
            floor = operations[what] / max(statistics.median(rates), statistics.median(peaks))
            rows.append({
                "what": what, "threads": threads, "n": args.repeats, "floor_s": floor,
                "gflop": operations[what] / 1e9, "matrix_gflops": statistics.median(rates) / 1e9,
                "peak_gflops": statistics.median(peaks) / 1e9,
                "seconds": {side: {"median": middle[side], "min": min(t), "max": max(t)} for side, t in times.items()},
                "published_over_ours": middle["published"] / middle["ours"],
                "default_memory_over_ours": middle["ours, default memory"] / middle["ours"],
                "ours_over_floor": middle["ours"] / floor,
            })  # fmt: skip
            row = rows[-1]
            print(
                f"{what:12} threads {threads}: ours {middle['ours']:.3f} s, published {middle['published']:.3f} s, "
                f"published/ours {row['published_over_ours']:.2f}, default memory/ours "
                f"{row['default_memory_over_ours']:.2f}, ours/floor {row['ours_over_floor']:.2f}",
                flush=True,
            )
    for processes in sides.values():
        for process in processes:
            process.kill()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, help="checkout of the published code; not needed for --floor")
    parser.add_argument("--floor", action="store_true", help="time ours and the floor alone, into the file at --out")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--idc", type=Path)
    parser.add_argument("--ncfm", type=Path)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--ipc", type=int, default=10, help="at least 2: the published code fails at 1")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--out", type=Path, default=Path("results/speed.json"))
    parser.add_argument("--side", choices=(*SIDES, "idc", "ncfm"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        serve(args)
        return
    if args.floor:
        made = json.loads(args.out.read_text()) if args.out.exists() else {"rows": []}
        made["floor"] = {"machine": machine(), "batch": args.batch, "rows": floor(args)}
        args.out.write_text(json.dumps(made, indent=1) + "\n")
        return
    if args.published is None:
        raise SystemExit("say where the published code is: --published PATH")
    rows = measure(args, [sys.executable, *sys.argv])
    settings = {k: getattr(args, k) for k in ("width", "ipc", "batch", "device")} | {
        "network": f"convnet-d3-w{args.width}"
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(args.out.read_text()).get("floor") if args.out.exists() else None
    made = {"machine": machine(), **settings, "rows": rows} | ({"floor": kept} if kept else {})
    args.out.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
