"""The best coded real samples beside those of one codec: accuracy on test data at equal bytes, and seconds to choose.

    python benchmarks/real_sets.py --data mnist-5k --kb 4 [--draws 3] [--network convnet-w32] [--updates 300]

The search (`potstill.evaluation.real_sets`) reads training data alone. ``today`` is the better, on the same held-out
part, of random samples in ``uint4`` and as they are, which was all that ``auto`` tried. Each side is measured on test
data by one student for each draw. Cells are added to ``results/real_sets.json``.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.core.registry import resolve
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import BaselineContext
from potstill.evaluation.candidate_trials import make_probe
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.real_set_space import RealSetSpace
from potstill.evaluation.real_sets import RealSetSearch, space_of
from potstill.evaluation.statistics import summary
from potstill.evaluation.training_sets import TrainingSet
from potstill.nn import factory_for

TODAY = RealSetSpace(codecs=(("uint4",), ("exact",)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist-5k", help="a name or a path that Potstill reads")
    parser.add_argument("--label", help="column of the labels of a table")
    parser.add_argument("--kb", type=float, nargs="+", default=[4.0, 20.0], help="of 1,000 bytes")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--network", default="convnet-w32")
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--quick", action="store_true", help="search as a quick evaluation does")
    parser.add_argument("--out", type=Path, default=Path("results/real_sets.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    splits = potstill.load_data(args.data, **({"label": args.label} if args.label else {}))
    make = factory_for(args.network, splits.train)
    protocol: Protocol = resolve("protocols", "potstill")
    for kb in args.kb:
        where = BaselineContext(
            train=splits.train, byte_budget=int(1000 * kb), make=make, seed=0, quick=args.quick, proportional=True
        )
        probe = make_probe(make, splits.train, splits.test, students=args.draws, seed=1, steps=args.updates)
        labels = ("hard",) if args.quick else ("hard", "top3")
        row: dict[str, Any] = {
            "data": args.data,
            "bytes": int(1000 * kb),
            "network": make.name,
            "updates": args.updates,
        }
        for side, space in (("best", space_of(where, labels=labels)), ("today", TODAY)):
            wall, core = time.monotonic(), time.process_time()
            try:
                search = RealSetSearch(where=where, space=space).run()
            except PotstillError as error:
                row[side] = {"none": str(error)}
                continue
            trial = search.chosen()
            spent = {"seconds": round(time.monotonic() - wall, 1), "core_seconds": round(time.process_time() - core, 1)}
            made: TrainingSet = search.make(trial, args.draws)
            values = [
                float(probe.student_scores([made.pair_for(n)], [n]).mean()) for n in range(args.draws)
            ]  # fmt: skip
            row[side] = {
                **trial.way.to_dict(), "items": made.items, "bytes": made.bytes, "students": search.trained, **spent,
                "accuracy": summary(values), "tried": len(search.trials),
            }  # fmt: skip
            print(json.dumps({**row, side: row[side]}, default=str), flush=True)
        content = json.loads(args.out.read_text()) if args.out.exists() else {"cells": []}
        content["cells"] = [c for c in content["cells"] if (c["data"], c["bytes"]) != (row["data"], row["bytes"])] + [
            row
        ]
        content["protocol"], content["machine"] = protocol.name, machine()
        args.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
