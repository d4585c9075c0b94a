"""What `--method auto` loses against trying everything, and what it saves: docs/guides/automatic.md.

    python benchmarks/auto.py --data digits --bytes 1000
    python benchmarks/auto.py --data letters.csv --label lettr --bytes 4000      # LetterRecognition of R's mlbench
    python benchmarks/auto.py --data italy-power.csv --label half --bytes 500    # ItalyPowerDemand of aeon, as rows

The **grid** makes each candidate of auto's list ``--sets`` times, for ``--seconds`` each, and judges all of them by
fresh students on a validation part of the training data; test data are not read. ``auto`` then chooses ``--repeats``
times, with other seeds, within a tenth of the seconds that the grid took, students included, and is judged alike.

The gap is the accuracy of the grid's best candidate, over its sets, minus that of what auto chose. The best is picked
on the same students and samples, and so flattered; the fair gap picks it on one half of the samples and measures it on
the other, both ways. It counts as significantly worse where the two-sided 95 % interval of the gap, in pairs over
students and samples, lies above 0. Seconds are those of the process's own processor, as other work may share the
machine.

Results: results/auto/DATA-BYTES.json, written after every cell; what is there is not made again.
``python -m tools.docs`` writes the rows of docs/guides/automatic.md.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine

import potstill
from potstill.automl.candidates import Candidate, usual_candidates
from potstill.core import Splits
from potstill.data import holdout
from potstill.dataset_file import write_atomic
from potstill.evaluation.candidate_trials import Probe, make_probe, narrow_network
from potstill.nn import default_network_name, factory
from potstill.rng import derive_seed
from potstill.tasks import get_task

STUDENT_STEPS = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--label", help="column of the classes, of a table")
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=6.0, help="of a set of the grid")
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--students", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("results/auto"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    Bench(args).measure()


class Bench:
    """One data set's measurement, which goes on from what is there."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, stem = args, Path(args.data).stem
        self.path: Path = args.out / f"{stem}-{args.bytes}.json"
        about = {
            "data": stem, "bytes": args.bytes, "seconds": args.seconds, "sets": args.sets, "students": args.students,
            "student_steps": STUDENT_STEPS,
        }  # fmt: skip
        self.found: dict[str, Any] = (
            json.loads(self.path.read_text())
            if self.path.exists()
            else {**about, "machine": machine(), "grid": {}, "auto": {}}
        )
        if any(self.found.get(name) != value for name, value in about.items()):
            raise SystemExit(f"{self.path} was measured otherwise; move it away")
        train = potstill.load_data(args.data, **({} if args.label is None else {"label": args.label})).train
        kept, held = holdout(train, min(0.25, 1500 / len(train)), 1)
        self.splits, self.found["held"] = Splits(train=kept, test=None), len(held)
        self.network: str | None = None
        shape = (kept.input, get_task(kept).outputs, kept.device)
        make = factory(default_network_name(kept.input), *shape, normalization=kept.normalization)
        if kept.input.kind == "image":  # as auto does
            make = narrow_network(make, kept)
            self.network = make.name
        self.probe: Probe = make_probe(
            make, kept, held, students=args.students, seed=derive_seed(9, "fresh"), steps=STUDENT_STEPS
        )

    def measure(self) -> None:
        for at in range(self.args.sets):
            for candidate in usual_candidates(self.splits.train, None):
                self.once("grid", f"{candidate.name} {at}", lambda c=candidate, s=at: self.cell(c, s))
        spent = sum(cell["seconds"] for cell in self.found["grid"].values())
        for seed in range(self.args.repeats):
            self.once("auto", str(seed), lambda s=seed: self.choice(100 + s, spent / 10))

    def once(self, part: str, name: str, make: Any) -> None:
        if name not in self.found[part]:
            begun = time.process_time()
            made, told = make()
            chosen = time.process_time() - begun
            right = self.probe.correct([[(made.model_space(), made.labels)]])[0]
            told |= {
                "seconds": (chosen if part == "auto" else time.process_time() - begun),
                "accuracy": float(right.double().mean()), "right": np.packbits(right.numpy()).tobytes().hex(),
            }  # fmt: skip
            self.found[part][name] = told
            write_atomic(self.path, (json.dumps(self.found, indent=1) + "\n").encode())
            print(
                f"{part} {name}: {told['accuracy']:.3f} in {told['seconds']:.1f} s {told.get('chosen', '')}", flush=True
            )

    def distill(self, method: str, seed: int, **options: Any) -> potstill.Distilled:
        return potstill.distill(
            self.splits, method, bytes=self.args.bytes, seed=seed, device="cpu", executor="serial",
            **{"progress": None, **options},
        )  # fmt: skip

    def cell(self, candidate: Candidate, seed: int) -> tuple[potstill.Distilled, dict[str, Any]]:
        """One cell of the grid: for so many seconds, by what a step is seen to cost."""
        options: dict[str, Any] = {
            "parametrization": candidate.parametrization, "store": candidate.codec, "network": self.network,
            **dict(candidate.options),
        }  # fmt: skip
        if candidate.is_real:
            return self.distill(candidate.method, seed, **options), {}
        marks: list[float] = []

        def seen(p: Any) -> None:
            marks.append(time.process_time())

        few = {"steps": 9, "iterations": 9, "effort": "quick", **options}
        self.distill(candidate.method, seed, progress=seen, **few)
        steps = max(9, int(self.args.seconds * 8 / (marks[8] - marks[0])))
        ends = {"steps": steps, "iterations": steps, "effort": "quick"}
        return self.distill(candidate.method, seed, **{**ends, **options}), {"steps": steps}

    def choice(self, seed: int, budget: float) -> tuple[potstill.Distilled, dict[str, Any]]:
        made = self.distill("auto", seed, time_limit=budget)
        choice = made.choice
        return made, {
            "budget": budget, "steps": made.metadata["cost"]["steps"],
            **{name: choice[name] for name in ("chosen", "answer", "winner", "difference", "students", "text")},
        }  # fmt: skip


if __name__ == "__main__":
    main()
