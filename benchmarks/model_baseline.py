"""A model of the same bytes: test scores of the baseline `model` at several sizes.

    python benchmarks/model_baseline.py [--data fashion-mnist mnist-5k breast-cancer] [--bytes 1000 4000 16000 40000]
    python benchmarks/model_baseline.py --show

Every choice is made on held-out training data; ``seconds`` are processor seconds of choosing and training together.
Results are added to results/model_baseline.json, and what is there is not measured again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from machine import machine
from sklearn.datasets import load_breast_cancer

import potstill
from potstill.core.registry import resolve
from potstill.evaluation.byte_matched_baselines import BaselineContext
from potstill.evaluation.measurement import EvaluationContext
from potstill.evaluation.model_baseline import STEPS, make_model_baseline
from potstill.execution import Serial
from potstill.nn import default_network_name, factory_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["fashion-mnist", "mnist-5k", "breast-cancer"])
    parser.add_argument("--bytes", type=int, nargs="+", default=[1000, 4000, 16000, 40000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=Path("results/model_baseline.json"))
    parser.add_argument("--show", action="store_true", help="print what is there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = json.loads(args.out.read_text())["rows"] if args.out.exists() else []
    for data in () if args.show else args.data:
        splits = loaded(data)
        for size in args.bytes:
            if any((row["data"], row["budget"]) == (data, size) for row in rows):
                continue
            rows.append({"data": data, "budget": size, **measured(splits, size, args.seeds, args.steps)})
            rows.sort(key=lambda row: (row["data"], row["budget"]))
            found = {"machine": machine(), "steps": args.steps, "seeds": args.seeds, "rows": rows}
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{'data':<16}{'budget':>8}{'bytes':>8}{'score':>9}{'std':>8}{'n':>3}{'seconds':>9}  network")
    for row in rows:
        print(
            f"{row['data']:<16}{row['budget']:>8,}{row['bytes']:>8,}{row['mean']:>9.3f}{row['std'] or 0:>8.3f}"
            f"{row['n']:>3}{row['seconds']:>9.0f}  {row['network']}"
        )


def loaded(name: str) -> Any:
    """Data by name; ``breast-cancer`` is scikit-learn's table of 569 rows."""
    if name != "breast-cancer":
        return potstill.load_data(name)
    x, y = load_breast_cancer(return_X_y=True)
    return potstill.load_data((torch.from_numpy(x).float(), torch.from_numpy(y).long()))


def measured(splits: Any, size: int, seeds: int, steps: int) -> dict[str, Any]:
    """The network of ``size`` bytes and its test scores."""
    train = splits.train
    make = factory_for(default_network_name(train.input), train)
    context = EvaluationContext(
        protocol=resolve("protocols", "potstill").resolve(train.name, make.name, train.input), make=make, train=train,
        test=splits.test, students=seeds, seed=0, executor=Serial(), report=lambda *_: None, side_by_side=1,
    )  # fmt: skip
    model = make_model_baseline(context, BaselineContext(train=train, byte_budget=size, make=make, seed=0), steps)
    return model.to_dict(context)


if __name__ == "__main__":
    main()
