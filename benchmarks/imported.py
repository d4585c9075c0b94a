"""Does a set that DM's published code made score here as it scores there?

    python benchmarks/imported.py CHECKOUT --case ConvNetW32:10:10 --out results/imported.json

CHECKOUT is a copy of github.com/VICO-UoE/DatasetCondensation; nothing of it is in this repository. Its ``main_DM.py``
runs unchanged, by its own ``main``: it makes a set, trains students with its ``evaluate_synset`` and writes
``res_DM_CIFAR10_….pt``. Only torchvision, which it reads data and draws pictures with, is stood in for: what it takes
for CIFAR-10 are the photo-patches of ``photo_patches.py``. The file is then imported as a user would, and measured by
protocol ``dsa`` on the same test pictures, with as many students of the same network. A case is MODEL:IPC:STUDENTS.
(One image per class, and grey ones, its code refuses under torch 2.13: an overlapping copy, a view of other strides.)

Printed and written: the mean and deviation of both, the difference with the 95 % interval of Welch's t, and by how
much the images that students see here differ from those in the file.
"""

import argparse
import importlib
import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from machine import machine
from photo_patches import photo_patches
from scipy import stats
from torch import Tensor

import potstill
from potstill.dataset_file.safe_unpickle import load_torch_file

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
"""What their code normalises CIFAR-10 by."""
NETWORKS = {"ConvNet": "convnet-w128", "ConvNetW32": "convnet-w32"}
"""Their names and ours."""


class AsCifar(list[tuple[Tensor, int]]):
    """One split, as torchvision's ``CIFAR10`` gives it."""

    def __init__(self, source: Any, transform: Any) -> None:
        pixels = source.raw(torch.arange(len(source)))
        super().__init__((transform(x), int(y)) for x, y in zip(pixels, source.labels, strict=True))
        self.classes = list(source.classes)


def stand_ins(splits: Any) -> dict[str, ModuleType]:
    """Modules in place of torchvision, whose CIFAR-10 is ``splits``."""

    def cifar(root: str, train: bool, download: bool, transform: Any) -> AsCifar:
        return AsCifar(splits.train if train else splits.test, transform)

    def compose(parts: list[Any]) -> Any:
        return lambda x: parts[1](parts[0](x))

    def normalize(mean: list[float], std: list[float]) -> Any:
        m, s = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
        return lambda x: (x - m) / s

    made = {name: ModuleType(name) for name in ("torchvision", "torchvision.datasets", "torchvision.transforms",
                                                "torchvision.utils")}  # fmt: skip
    vars(made["torchvision.datasets"])["CIFAR10"] = cifar
    vars(made["torchvision.transforms"]).update(Compose=compose, ToTensor=lambda: lambda x: x, Normalize=normalize)
    vars(made["torchvision.utils"])["save_image"] = lambda *given, **named: None
    for short in ("datasets", "transforms", "utils"):
        vars(made["torchvision"])[short] = made[f"torchvision.{short}"]
    return made


def theirs(args: argparse.Namespace, splits: Any, model: str, ipc: int, students: int, work: Path) -> Path:
    """The file that their program writes."""
    sys.modules.update(stand_ins(splits))
    sys.path.insert(0, str(args.checkout))
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)  # noqa: NPY002  # it is what their code draws from
    asked = {
        "dataset": "CIFAR10", "model": model, "ipc": ipc, "eval_mode": "last", "num_exp": 1, "num_eval": students,
        "Iteration": args.iterations, "epoch_eval_train": args.epochs, "batch_real": args.batch_real,
        "data_path": work, "save_path": work,
    }  # fmt: skip
    before = sys.argv
    sys.argv = ["main_DM.py", *(str(part) for key, value in asked.items() for part in (f"--{key}", value))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("main_DM").main()
    finally:
        sys.argv = before
        sys.path.remove(str(args.checkout))
        for name in stand_ins(splits):
            del sys.modules[name]
    return work / f"res_DM_CIFAR10_{model}_{ipc}ipc.pt"


def case(args: argparse.Namespace, splits: Any, model: str, ipc: int, students: int) -> dict[str, Any]:
    """One set, made and measured there, and measured here."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        file = theirs(args, splits, model, ipc, students, Path(folder))
        there = time.perf_counter() - begun
        content = load_torch_file(file, 2**30)
        images = content["data"][-1][0]
        released = [float(a) for a in content["accs_all_exps"][model]]
        small = potstill.import_set(file, data=splits, mean=MEAN, std=STD)
    begun = time.perf_counter()
    card = potstill.evaluate(
        small, splits, protocol="dsa", networks=NETWORKS[model], seeds=students, seed=args.seed, baselines=False,
        full=False, robust_scores=False, progress=None, device="cpu", epochs=args.epochs,
    )  # fmt: skip
    here = time.perf_counter() - begun
    imported = [float(a) for a in card.content["accuracy"]["values"]]
    seen = small.normalization.apply(small.inputs)
    test = stats.ttest_ind(imported, released, equal_var=False)
    low, high = test.confidence_interval(0.95)
    row = {
        "model": model, "network": NETWORKS[model], "ipc": ipc, "iterations": args.iterations,
        "batch_real": args.batch_real, "epochs": args.epochs,
        "theirs": _summary(released, there), "ours": _summary(imported, here),
        "difference": {"mean": float(np.mean(imported) - np.mean(released)), "ci95": [float(low), float(high)],
                       "p": float(test.pvalue)},
        "largest_difference_of_inputs": float((seen - images).abs().max()),
    }  # fmt: skip
    d = row["difference"]
    print(
        f"{model} ipc {ipc}: theirs {100 * row['theirs']['mean']:.2f} ± {100 * row['theirs']['std']:.2f} %, ours "
        f"{100 * row['ours']['mean']:.2f} ± {100 * row['ours']['std']:.2f} % ({students} students each), difference "
        f"{100 * d['mean']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f}) points"
    )
    return row


def _summary(values: list[float], seconds: float) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)), "n": len(values), "values": values,
            "seconds": round(seconds, 1)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a checkout of their code")
    parser.add_argument("--case", action="append", required=True, help="MODEL:IPC:STUDENTS, may be repeated")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--batch-real", type=int, default=64, help="of its distillation (its own default: 256)")
    parser.add_argument("--epochs", type=int, default=1000, help="of students, there and here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    splits = photo_patches()
    rows: list[dict[str, Any]] = []
    for asked in args.case:
        model, ipc, students = asked.split(":")
        rows.append(case(args, splits, model, int(ipc), int(students)))
        if args.out is not None:
            command = " ".join(["python benchmarks/imported.py CHECKOUT", *sys.argv[2:]])
            said = {"command": command, "data": "photo-patches", "machine": machine(), "cases": rows}
            args.out.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
