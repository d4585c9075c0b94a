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

**Unseen data** (`benchmarks/unseen_data.py` writes the files), for each of which ``auto`` has as long as it is given:

    python benchmarks/auto.py --data unseen/vowel.csv --label Class --bytes 1000 --sets 1 --seconds 10 \\
        --auto-seconds 60 --out results/auto_unseen

Sets of which it was looked into why choices lose are in results/auto_mended, and the same before that in
results/auto_before.

What is not classes is judged by blocks of held-out samples; scores are then divided by that of a student who knows
nothing, and so are fractions of it.

Results: results/auto/DATA-BYTES.json, written after every cell; what is there is not made again.
``python -m tools.docs`` writes the rows of docs/benchmarks/automatic.md.
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
from potstill.automl.scoring import HeldOut
from potstill.core import Splits
from potstill.data import holdout
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import Probe, make_probe, narrow_network
from potstill.nn import default_network_name, factory_for
from potstill.rng import derive_seed
from potstill.tasks import Classification, get_task

STUDENT_STEPS = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--label", help="column of the classes, of a table")
    parser.add_argument("--task", help="if not classes")
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=6.0, help="of a set of the grid")
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--auto-seconds", type=float, help="of auto; default: a tenth of those of the grid")
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
        if args.auto_seconds is not None:
            about["auto_seconds"] = args.auto_seconds
            self.found.setdefault("auto_seconds", args.auto_seconds)
        if any(self.found.get(name) != value for name, value in about.items()):
            raise SystemExit(f"{self.path} was measured otherwise; move it away")
        named = {"label": args.label, "task": args.task}
        train = potstill.load_data(args.data, **{name: value for name, value in named.items() if value}).train
        kept, held = holdout(train, min(0.25, 1500 / len(train)), 1)
        self.splits, self.held = Splits(train=kept, test=None), HeldOut.split(held, 1)
        self.found["held"] = len(self.held.parts)
        self.of_classes = isinstance(get_task(kept), Classification)
        self.network: str | None = None
        make = factory_for(default_network_name(kept.input), kept)
        if kept.input.kind == "image" and not kept.input.parts:  # as auto does
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
            budget = self.args.auto_seconds or spent / 10
            self.once("auto", str(seed), lambda s=seed, b=budget: self.choice(100 + s, b))

    def once(self, part: str, name: str, make: Any) -> None:
        if name not in self.found[part]:
            begun = time.process_time()
            try:
                made, told = make()
            except PotstillError as error:
                if part == "auto" or name.startswith("real"):
                    raise
                print(f"{part} {name}: left out, {error}", flush=True)
                return
            chosen = time.process_time() - begun
            answers = self.probe.predict([[(made.model_space(), made.labels)]])[0]
            merits = torch.stack([self.held.merits(answer) for answer in answers])
            told |= {
                "seconds": (chosen if part == "auto" else time.process_time() - begun),
                "accuracy": float(merits.mean()), "items": len(made), "stored": made.metadata["bytes"]["total"],
                **({"right": np.packbits(merits.numpy().astype(bool)).tobytes().hex()} if self.of_classes else
                   {"merits": [[round(m, 6) for m in row] for row in merits.tolist()]}),
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
            "parametrization": candidate.parametrization, "codec": candidate.codec, "network": self.network,
            **dict(candidate.options),
        }  # fmt: skip
        if candidate.is_real:  # the search for the best real samples has as long as auto
            limit = {"time_limit": self.args.auto_seconds} if candidate.is_searched else {}
            return self.distill(candidate.method, seed, **options, **limit), {}
        marks: list[float] = []

        def seen(p: Any) -> None:
            marks.append(time.process_time())

        few = {"steps": 9, "iterations": 9, "preset": "quick", **options}
        self.distill(candidate.method, seed, progress=seen, **few)
        steps = max(9, int(self.args.seconds * 8 / (marks[8] - marks[0])))
        ends = {"steps": steps, "iterations": steps, "preset": "quick"}
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
