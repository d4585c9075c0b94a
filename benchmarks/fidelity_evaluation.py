"""Measure one set with the published ``evaluate_synset`` and with our ``dc`` and ``dsa`` protocols, and compare means.

    python benchmarks/fidelity_evaluation.py --published CHECKOUT [--data mnist-5k] [--ipc 1] [--width 32] \\
        [--epochs 100] [-n 20] [--out results/fidelity/evaluation.json]

CHECKOUT is a clone of VICO-UoE/DatasetCondensation. The set is random real pictures. The published code gets its own
network, loader and augmentation, and draws from the global generators, which are seeded here (it seeds itself from the
clock); ours draws from ours. So the two agree in distribution and not bit for bit: what is compared are the means over
n students each, by Welch's interval. Epochs are cut in both alike (published: 300 and 1000).
Exit status 1 if an interval excludes zero.
"""

# ruff: noqa: NPY002 (the published code draws from the global generators)

import argparse
import io
import json
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from fidelity_functions import load
from machine import machine

import potstill
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.dataset_file import Distilled
from potstill.evaluation import Protocol, difference, evaluate, summary
from potstill.evaluation.protocols import DC, DSA
from potstill.execution import Serial
from potstill.rng import derive_seed

FLIP, NO_FLIP = "color_crop_cutout_flip_scale_rotate", "color_crop_cutout_scale_rotate"


@dataclass(frozen=True)
class Case:
    """One recipe under the names that both codes know it by."""

    title: str
    protocol: Protocol
    source: str
    """The data's name: DC augments MNIST only, and DSA does not flip digits."""
    published_name: str
    strategy: str | None


CASES = (
    Case("dc, no augmentation", DC, "others", "Others", None),
    Case("dc, as for MNIST", DC, "mnist", "MNIST", None),
    Case("dsa, as for MNIST", DSA, "mnist", "MNIST", NO_FLIP),
    Case("dsa, with flip", DSA, "others", "Others", FLIP),
)


def renamed(splits: Splits, name: str) -> Splits:
    train, test = splits.train, splits.test
    assert isinstance(train, TensorSource)
    assert isinstance(test, TensorSource)
    return Splits(train=replace(train, name=name), test=replace(test, name=name))


def published(
    utils: ModuleType, networks: ModuleType, case: Case, small: Distilled, splits: Splits, args: argparse.Namespace
) -> list[float]:
    """Test accuracies of n networks under ``evaluate_synset``."""
    assert splits.test is not None
    test = splits.test.fetch(torch.arange(len(splits.test)))
    loader = torch.utils.data.DataLoader(utils.TensorDataset(test.x, test.y), batch_size=256)
    channels, side = small.input.shape[:2]
    values = []
    for student in range(args.n):
        seed = derive_seed(0, "published", case.title, student) % 2**31
        torch.manual_seed(seed)
        np.random.seed(seed)
        net = networks.ConvNet(
            channel=channels, num_classes=len(small.classes), net_width=args.width, net_depth=3, net_act="relu",
            net_norm="instancenorm", net_pooling="avgpooling", im_size=(side, side),
        )  # fmt: skip
        # A one-channel picture that was permuted counts as contiguous but has other strides; torch now passes them on
        # through the convolutions, and the published view() then fails. The values are the same.
        net.register_forward_pre_hook(lambda _, xs: (xs[0].clone(memory_format=torch.contiguous_format),))
        settings = SimpleNamespace(
            device="cpu", lr_net=0.01, epoch_eval_train=args.epochs, batch_train=256, dsa=case.strategy is not None,
            dsa_strategy=case.strategy, dsa_param=utils.ParamDiffAug(),
            dc_aug_param=utils.get_daparam(case.published_name, "ConvNet", "ConvNet", args.ipc),
        )  # fmt: skip
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # defaults of torch that changed since
            _, _, accuracy = utils.evaluate_synset(
                student, net, small.model_space().clone(), small.labels.clone(), loader, settings
            )
        values.append(float(accuracy))
    return values


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("-n", type=int, default=20, help="students of each code")
    parser.add_argument("--out", type=Path, default=Path("results/fidelity/evaluation.json"))
    args = parser.parse_args()
    utils, networks = load(args.published)
    head = ["git", "-C", str(args.published), "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    torch.set_num_threads(1)
    loaded = potstill.load_data(args.data)
    rows: list[dict[str, Any]] = []
    for case in CASES:
        splits = renamed(loaded, case.source)
        network = f"convnet-w{args.width}"
        small = potstill.distill(splits, "random", ipc=args.ipc, seed=0, network=network, device="cpu")
        begun = time.perf_counter()
        theirs = published(utils, networks, case, small, splits, args)
        between = time.perf_counter()
        card = evaluate(
            small, splits, protocol=case.protocol.override(epochs=args.epochs), seeds=args.n, baselines=False,
            full=False, robust_scores=False, executor=Serial(),
        ).to_dict()  # fmt: skip
        ours = card["accuracy"]["values"]
        gap = difference(ours, theirs)
        row = {
            "case": case.title, "protocol": card["protocol"], "fingerprint": card["fingerprint"],
            "augmentation": card["chosen"]["augment"], "ours": summary(ours), "published": summary(theirs),
            "difference": gap, "interval_includes_zero": gap["ci95"][0] <= 0 <= gap["ci95"][1],
            "seconds": {"ours": round(time.perf_counter() - between, 1), "published": round(between - begun, 1)},
        }  # fmt: skip
        rows.append(row)
        low, high = (100 * v for v in gap["ci95"])
        print(
            f"{case.title:<22} ours {100 * row['ours']['mean']:.2f}%  published {100 * row['published']['mean']:.2f}%"
            f"  difference {100 * gap['mean']:+.2f} [{low:+.2f}, {high:+.2f}]  p {gap['p']:.2f}",
            file=sys.stderr,
        )
    result = {
        "what": "mean test accuracy of n students under our protocol minus under the published evaluate_synset",
        "published": {"repository": "VICO-UoE/DatasetCondensation", "commit": commit},
        "settings": {
            "data": args.data, "set": "random real pictures", "ipc": args.ipc, "network": f"ConvNet-D3-W{args.width}",
            "epochs": args.epochs, "n": args.n,
        },
        "machine": machine(),
        "rows": rows,
    }  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    return int(not all(row["interval_includes_zero"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
