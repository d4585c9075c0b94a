"""Real pictures in few bytes: test accuracy of students of random samples, by codec, all at the same bytes.

    python benchmarks/real_codecs.py --data fashion-mnist --bytes 4000
    python benchmarks/real_codecs.py --data unseen/photo-patches.npz --bytes 8000    # benchmarks/unseen_data.py
    python benchmarks/real_codecs.py --data mnist-5k --bytes 4000

Each codec keeps as many random samples of each class as fit, coded and decoded; ``--draws`` sets of each, one student
of each set (ConvNet of width 32, 300 updates). Nothing is chosen. Results: results/real_codecs/DATA-BYTES.json, where
cells are added; ``python -m tools.docs`` writes the table of docs/benchmarks/codecs.md.
"""

import argparse
import json
from pathlib import Path

import torch
from machine import machine

import potstill
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import BaselineContext
from potstill.evaluation.candidate_trials import make_probe
from potstill.evaluation.real_set_space import RealSetSpace, RealWay
from potstill.evaluation.real_sets import RealSetSearch, Trial
from potstill.nn import factory_for

CODECS = (
    "uint2", "uint1", "half:bits=4", "half:bits=2", "half:bits=1", "mosaic:kind=jpeg,quality=30",
    "mosaic:kind=jpeg,quality=5", "mosaic:kind=webp,quality=30", "mosaic:kind=webp,quality=5",
    "mosaic:kind=avif,quality=30", "mosaic:kind=avif,quality=5", "cosine:positions=64",
    "cosine:positions=36", "cosine:positions=16",
)  # fmt: skip
UPDATES = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist-5k")
    parser.add_argument("--bytes", type=int, default=4000)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--network", default="convnet-d3-w32")
    parser.add_argument("--out", type=Path, default=Path("results/real_codecs"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{Path(args.data).stem}-{args.bytes}.json"
    about = {"data": Path(args.data).stem, "bytes": args.bytes, "network": args.network, "updates": UPDATES}
    found = json.loads(path.read_text()) if path.exists() else {**about, "machine": machine(), "codecs": {}}
    splits = potstill.load_data(args.data)
    assert splits.test is not None
    make = factory_for(args.network, splits.train)
    probe = make_probe(make, splits.train, splits.test, students=args.draws, seed=7, steps=UPDATES)
    where = BaselineContext(train=splits.train, byte_budget=args.bytes, make=make, seed=7)
    for codec in CODECS:
        if codec in found["codecs"]:
            continue
        search = RealSetSearch(where=where, space=RealSetSpace(codecs=((codec,),)))
        try:
            made = search.make(Trial(way=RealWay(codec=codec), per_class=1), args.draws)
        except PotstillError as error:
            print(f"{codec}: {error}", flush=True)
            continue
        scores = [float(probe.student_scores([pair], [n]).mean()) for n, pair in enumerate(made.pairs)]
        found["codecs"][codec] = {"accuracy": scores, "items": made.items, "bytes": made.bytes}
        path.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{codec}: {made.items} in {made.bytes}: {scores}", flush=True)


if __name__ == "__main__":
    main()
