"""What clients can send, by accuracy and bytes: sets, averages, real samples in few bits, rounds of weights, ensembles.

    python benchmarks/uses/federated.py --alpha 0.1,0.5 --splits 3
    python benchmarks/uses/federated.py --networks convnet-w16,convnet-w16-d2,mlp-w64,convnet-w32-d1 --name several
    python benchmarks/uses/federated.py --name ways \
        --ways averages,dm,fedd3,feddm:2,ensemble,ensemble-labels,ensemble-labels:averages

Codecs of `WAYS` were chosen on held-out training data of a partition of another seed (``--choose``, which prints the
accuracy of every way of `CHOICES` on samples that neither clients nor test data have). Every cell is a file under
``--folder``, from which an interrupted run goes on, and several processes with the same command share its work; the
summary goes to ``results/uses/federated-DATA[-NAME].json``.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from load import load
from machine import machine

from potstill.core import Splits
from potstill.dataset_file import write_atomic
from potstill.rng import generator
from potstill.uses.federated import (
    Averages,
    DistilledSets,
    Ensemble,
    EnsembleLabels,
    FedAvg,
    FedDM,
    Learner,
    NoMessages,
    RealSets,
    federated,
)

STEPS = 100
"""Steps of a client's run."""
AVERAGES = Averages(codec="uint1")


def distilled(name: str, start: Averages | None, method: str = "dm", codec: str = "uint1") -> DistilledSets:
    """A way that distils on each client with a small ConvNet."""
    return DistilledSets(
        name=name, method=method, start=start, codec=codec, network="convnet-w16", steps=STEPS,
        options={"batch_real": 64},
    )  # fmt: skip


WAYS = (
    AVERAGES, distilled("dm+averages", AVERAGES), distilled("dm", None), RealSets(codec="uint2"),
    FedAvg(name="fedavg:1:3", epochs=3), FedAvg(name="fedavg:5", rounds=5), FedAvg(name="fedavg:20", rounds=20),
    Ensemble(), NoMessages(),
)  # fmt: skip
FURTHER = (
    DistilledSets(name="fedd3", method="kip", codec="uint1", steps=STEPS),
    FedDM(name="feddm:2", rounds=2, sets=distilled("dm", None)),
    FedDM(name="feddm:3", rounds=3, sets=distilled("dm", None)),
    EnsembleLabels(name="ensemble-labels", sets=distilled("dm", None)),
    EnsembleLabels(name="ensemble-labels:averages", sets=AVERAGES),
)
"""Ways that are measured when they are named."""
CHOICES = (
    *(
        Averages(name=f"averages@{c}", codec=c)
        for c in ("uint1", "uint2", "uint4", "half:bits=4", "cosine:positions=64")
    ),
    *(RealSets(name=f"real@{c}", codec=c) for c in ("uint1", "uint2", "half:bits=1", "half:bits=2")),
    *(distilled(f"dm+averages@{c}", Averages(codec=c), codec=c) for c in ("uint1", "uint2", "uint4")),
    *(FedAvg(name=f"fedavg:5 lr={lr}", rounds=5, lr=lr) for lr in (0.003, 0.01, 0.03)),
    *(DistilledSets(name=f"fedd3@{c}", method="kip", codec=c, steps=STEPS) for c in ("uint1", "uint2", "uint4")),
    *(FedDM(name=f"feddm:2 radius={r}", rounds=2, radius=r, sets=distilled("dm", None)) for r in (0.05, 0.2, 0.5)),
    *(EnsembleLabels(name=f"ensemble-labels share={s}", share=s, sets=distilled("dm", None)) for s in (0.25, 0.5, 1.0)),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--alpha", default="0.1")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--bytes", default="16kB")
    parser.add_argument("--samples", type=int, default=10_000, help="training samples, drawn with seed 0")
    parser.add_argument("--tested", type=int, default=2_000, help="test samples, drawn with seed 0")
    parser.add_argument("--networks", default="convnet-w16")
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--ways", help="names of WAYS or FURTHER, with commas between them; else WAYS")
    parser.add_argument("--choose", action="store_true", help="CHOICES on held-out training data of another partition")
    parser.add_argument("--name", default="")
    parser.add_argument("--folder", type=Path, default=Path("runs/federated"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    splits = load(args.data, args.device)
    assert splits.test is not None
    order = torch.randperm(len(splits.train), generator=generator(0, "federated", "train"))
    train = splits.train.subset(order[: args.samples].sort().values)
    test = splits.train.subset(order[args.samples : args.samples + args.tested].sort().values)
    if not args.choose:
        at = torch.randperm(len(splits.test), generator=generator(0, "federated", "test"))[: args.tested]
        test = splits.test.subset(at.sort().values)
    ways = CHOICES if args.choose else WAYS
    if args.ways:
        ways = tuple(way for way in (*ways, *FURTHER) if way.name in args.ways.split(","))
    networks = args.networks.split(",")
    started = time.monotonic()
    result = federated(
        Splits(train=train, test=test), out=args.folder / (f"{args.data}-{args.name or 'all'}"), ways=ways,
        alpha=[float(a) for a in args.alpha.split(",")], clients=args.clients, splits=args.splits,
        bytes=args.bytes.split(","), networks=networks, learner=Learner(network=networks[0], steps=args.updates),
        seed=1000 if args.choose else 0, device=args.device, executor="serial",
        progress=lambda name, done, total: print(f"{name} {done} of {total}", flush=True),
    )  # fmt: skip
    for row in result["rows"]:
        if "accuracy" in row:
            print(
                row["partition"], row["bytes"], row["way"], f"{100 * row['accuracy']['mean']:.1f}",
                row["accuracy"]["ci95"], round(row["up"]), round(row["down"]), row["items"], row["nearest"],
                f"{row['seconds']:.0f} s",
            )  # fmt: skip
    print(*result["sentences"], sep="\n")
    if args.choose:
        return
    name = f"-{args.name}" if args.name else ""
    path = Path(f"results/uses/federated-{args.data}{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in result.items() if key not in ("cells", "clients")}
    stamp = {
        "machine": {**machine(), "device": args.device}, "seconds": round(time.monotonic() - started, 1),
        "number": args.clients,
    }  # fmt: skip
    write_atomic(path, (json.dumps({**kept, **stamp}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
