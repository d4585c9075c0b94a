"""Every objective over every parametrization at equal stored bytes, on Fashion-MNIST (docs/benchmarks/choice.md).

    python benchmarks/choose.py --part 0/2 & python benchmarks/choose.py --part 1/2      # two cores, one thread each
    python benchmarks/choose.py --only dm idc --over pixels tiles                        # a part of the grid

All get the bytes of ``--ipc`` real samples per class with four labels each: what four inputs to a stored picture need.
Each cell has ``--sets`` sets, each worth ``--budget`` seconds of one core: the same number of steps for all sets of a
cell, which is what the seconds buy at the least time that a step took in the cell's short runs (below), so that other
work on the machine changes the table little. The start counts (fitting fields, for one); networks trained beforehand
(NCFM) do not, and are said apart. A cell is one file under ``--out``, written when it is done; one that is there is not
made again.

**What is chosen, and on what.** ``--validation`` of every class's training samples is held out by seed; all sets are
made of the rest, and test data are read for the final students alone. For each cell the optimiser and its learning rate
are chosen among ``--rules``: each makes a set in as many steps as ``--choice`` seconds buy (a probe of a few steps says
how many), all from one seed, which is none of the final sets'. The rule with the highest mean accuracy of
``--choice-students`` students on the held-out samples is taken, the first of equals. ``published`` is the method's own
optimiser and rate, which were chosen for pixels; ``adamw:LR`` moves every stored number by about LR a step, whatever
its gradient's size, so that the same few rates make sense for all cells. Short runs favour rates that are quick: a
longer budget may want a lower one.

**How it is measured.** Protocol ``potstill`` with one length, one batch and one rate for all cells (``--steps``,
``--batch``, ``--student-lr``): ``--students`` per set, on fresh networks. The interval of a cell is Student's t over
all students of all its sets, so it is too narrow where sets differ; docs/benchmarks/choice.md compares cells by
the spread between sets, pooled over sound cells. ``random``, ``herding`` and ``k-means`` are real samples of the same
bytes.

Settings that differ from the publications' (``OBJECTIVES``) are what makes sense in a minute: fewer real samples and
updates of networks, several steps with one network's real statistics where the method allows, and real samples as the
start of ``dc`` and ``cafe``, which are published to begin with noise. Where a default was corrected after the
table was made, the setting that it was made with is written there; NCFM's decay, and the features in
which DREAM's start is clustered, have no setting to go back with.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import machine

import potstill
from potstill.core import Source, Splits
from potstill.core.registry import resolve
from potstill.data import TensorSource, holdout
from potstill.dataset_file import item_bytes
from potstill.errors import PotstillError
from potstill.evaluation import Protocol, evaluate
from potstill.evaluation.statistics import summary
from potstill.execution import Serial

OBJECTIVES: dict[str, dict[str, Any]] = {
    "dm": {"batch_real": 64, "steps_per_network": 4},
    "m3d": {"batch_real": 64, "steps_per_network": 4},
    "datadam": {"batch_real": 64, "steps_per_network": 4},
    "ncfm": {
        "batch_real": 64, "steps_per_network": 4, "frequencies": 1024, "pretrained_networks": 4, "pretrain_epochs": 1,
        "pretrain_batch": 64,
    },
    "idm": {
        "batch_real": 64, "steps_per_network": 4, "pool_steps": 5, "pool_batch": 64, "forget_every": 0,
        "pool_initial": 3,
    },
    "dsa": {"batch_real": 64, "inner": 5},
    "idc": {"batch_real": 64, "metric": "l1", "lr": 1e-3, "lr_side": 28, "data_train": 500, "outer": 20},
    "dc": {"batch_real": 64, "inner": 5, "init_from": "real"},
    "dream": {
        "batch_real": 64, "metric": "l1", "lr": 1e-3, "lr_side": 28, "data_train": 500, "outer": 20, "batch_train": 64,
    },
    "cafe": {"batch_real": 64, "init_from": "real", "augment": "dsa"},
    "dance": {"batch_real": 64, "steps_per_network": 4, "pretrained_networks": 4, "pretrain_epochs": 1},
    "dsdm": {
        "batch_real": 64, "steps_per_network": 4, "pretrained_networks": 4, "pretrain_epochs": 1, "history_from": 50,
        "lr_side": 28,
        "pretrain_batch": 64, "pretrain_schedule": "steps",
    },
}  # fmt: skip
"""Settings of each objective."""
PARAMETRIZATIONS = {
    "pixels": "pixels",
    "tiles": "tiles",
    "memory": "memory",
    "frequency": "frequency",
    "hallucinator": "hallucinator",
    "field": "field:width=14,warmup=100",
}
"""How each is spelled. Fields: by default 117 of a class are fitted for 500 steps, which takes longer than a budget."""
BASELINES = ("random", "herding", "k-means")
CHOICE_SEED = 1000
"""Of the sets that rules are chosen on: none of the final sets' seeds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = [*OBJECTIVES, *BASELINES]
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--network", default="convnet-d3-w32")
    parser.add_argument("--only", nargs="+", default=every, choices=every, metavar="NAME")
    parser.add_argument("--over", nargs="+", default=list(PARAMETRIZATIONS), choices=list(PARAMETRIZATIONS))
    parser.add_argument("--budget", type=float, default=40.0, help="seconds of a core for each set")
    parser.add_argument("--sets", type=int, default=2)
    parser.add_argument("--students", type=int, default=3, help="for each set")
    parser.add_argument("--steps", type=int, default=120, help="of a student")
    parser.add_argument("--batch", type=int, default=128, help="of a student")
    parser.add_argument("--student-lr", type=float, default=0.03)
    parser.add_argument("--rules", nargs="+", default=["published", "adamw:0.003", "adamw:0.02"])
    parser.add_argument("--choice", type=float, default=6.0, help="seconds of a core for each rule, the start apart")
    parser.add_argument("--choice-students", type=int, default=1)
    parser.add_argument("--validation", type=float, default=0.05, help="part of the training data")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="every N-th cell, from the I-th, counted from 0")
    parser.add_argument("--out", type=Path, default=Path("results/choose"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    part, parts = map(int, args.part.split("/"))
    bench = Bench(args)
    for method in args.only:
        for over in ["pixels"] if method in BASELINES else args.over:
            # by diagonals, so that each part gets some of every objective and of every parametrization
            if (every.index(method) + list(PARAMETRIZATIONS).index(over)) % parts == part:
                bench.cell(method, over)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A set, and what it took of a core."""

    small: potstill.Distilled
    start: float
    """Seconds until the first step, without networks that were trained beforehand."""
    step: float
    """Seconds of a step, the mean without the first."""

    @property
    def seconds(self) -> float:
        """Of all of it."""
        return self.start + self.step * int(self.small.metadata["cost"]["steps"])


class Bench:
    """What all cells share."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        data = potstill.load_data(args.data)
        assert isinstance(data.train, TensorSource)
        self.train, self.held = holdout(data.train, args.validation, 0)
        self.test = data.test
        self.protocol: Protocol = resolve("protocols", "potstill").override(
            steps=args.steps, least_epochs=0, batch=args.batch, lr=args.student_lr
        )
        self.bytes = args.ipc * len(self.train.classes) * item_bytes(self.train.input.shape, per_item=4)
        names = ("ipc", "network", "budget", "sets", "students", "rules", "choice", "choice_students", "validation")
        self.settings = {n: getattr(args, n) for n in names} | {
            "data": data.train.name, "bytes": self.bytes, "protocol": self.protocol.name, "steps": args.steps,
            "batch": args.batch, "student_lr": args.student_lr, "fingerprint": self.protocol.fingerprint(),
        }  # fmt: skip

    def cell(self, method: str, over: str) -> None:
        """Make a cell, unless it is there."""
        path = self.args.out / f"{self.settings['data']}-{method}-{over}.json"
        if path.exists():
            if json.loads(path.read_text())["settings"] != self.settings:
                raise SystemExit(f"{path} was made with other settings; give another --out, or move it away")
            return
        begun = time.monotonic()
        try:
            made = self.selected(method) if method in BASELINES else self.optimised(method, over)
        except PotstillError as error:
            raise SystemExit(f"{method} over {over}: {error}") from error
        made |= {"settings": self.settings, "machine": machine(), "seconds": round(time.monotonic() - begun, 1)}
        part = path.with_suffix(".part")
        part.write_text(json.dumps(made, indent=1) + "\n")
        part.replace(path)
        a = made["accuracy"]
        print(
            f"{method} over {over}: {100 * a['mean']:.1f} ± {100 * (a['std'] or 0):.1f} (n {a['n']}), "
            f"{made['inputs']} inputs, {made['bytes']['total']:,} bytes, steps {made['steps']}, "
            f"{made.get('chosen', 'no rule')}, {made['seconds']} s",
            flush=True,
        )

    def selected(self, method: str) -> dict[str, Any]:
        """Real samples of the same bytes."""
        options = {"method": method, "network": self.args.network}
        sets = [self.distil(options, seed, None) for seed in range(self.args.sets)]
        return {"method": method, "over": "pixels", "selects": True, **self.measured(sets)}

    def optimised(self, method: str, over: str) -> dict[str, Any]:
        """The rule by validation, then the sets by it."""
        options = {"method": method, "network": self.args.network, "parametrization": PARAMETRIZATIONS[over]}
        options |= OBJECTIVES[method]
        block = max(int(options.get("steps_per_network", 1)), 2)
        probe = self.distil(options, CHOICE_SEED, 1 + block)
        steps = 1 + block * max(1, round(self.args.choice / probe.step / block))
        tried = [self.tried(options, rule, steps) for rule in self.args.rules]
        best = max(tried, key=lambda t: float(t["validation"]))
        start, step = (min(getattr(probe, n), *(t[n] for t in tried)) for n in ("start", "step"))
        steps = max(1, int((self.args.budget - start) / step))
        sets = [self.distil(options | best["rule"], seed, steps) for seed in range(self.args.sets)]
        return {
            "method": method, "over": over, "selects": False, "options": options, "chosen": best["spelled"],
            "tried": tried, "step_seconds": step, **self.measured(sets),
        }  # fmt: skip

    def tried(self, options: dict[str, Any], spelled: str, steps: int) -> dict[str, Any]:
        """A rule, and what the held-out samples say of a short run by it."""
        optimizer, _, lr = spelled.partition(":")
        rule = {"optimizer": optimizer, "lr": float(lr)} if lr else {}
        made = self.distil(options | rule, CHOICE_SEED, steps)
        values = self.students(made, CHOICE_SEED, self.args.choice_students, self.held)
        return {
            "spelled": spelled, "rule": rule, "validation": summary(values)["mean"], "values": values, "steps": steps,
            "outcome": made.small.metadata["outcome"]["kind"], "start": made.start, "step": made.step,
        }  # fmt: skip

    def measured(self, sets: list[Made]) -> dict[str, Any]:
        """What a cell says of its sets."""
        values = [self.students(made, seed, self.args.students, self.test) for seed, made in enumerate(sets)]
        cards = [made.small.metadata for made in sets]
        return {
            "accuracy": summary([v for some in values for v in some], len(self.test)), "values_of_sets": values,
            "interval": "Student's t over all students of all sets, no narrower than Wilson's, two-sided 95%",
            "inputs": len(sets[0].small), "bytes": cards[0]["bytes"], "steps": [c["cost"]["steps"] for c in cards],
            "outcomes": [c["outcome"]["kind"] for c in cards],
            "core_seconds": [round(made.seconds, 2) for made in sets],
            "start_seconds": [round(made.start, 2) for made in sets],
            "preparation_seconds": cards[0]["cost"]["preparation_seconds"], "config": cards[0]["config"],
        }  # fmt: skip

    def distil(self, options: dict[str, Any], seed: int, steps: int | None) -> Made:
        """A set of the held bytes, and its time on the core."""
        marks: list[float] = []
        begun = [time.process_time()]
        small = potstill.distill(
            Splits(train=self.train, test=None), bytes=self.bytes, seed=seed, steps=steps,
            device="cpu", progress=lambda p: marks.append(time.process_time()),
            preparing=lambda what, done, total: begun.append(time.process_time()), **options,
        )  # fmt: skip
        if not marks:
            return Made(small=small, start=time.process_time() - begun[-1], step=0.0)
        step = (marks[-1] - marks[0]) / (len(marks) - 1) if len(marks) > 1 else marks[0] - begun[-1]
        return Made(small=small, start=max(0.0, marks[0] - begun[-1] - step), step=step)

    def students(self, made: Made, seed: int, count: int, unseen: Source | None) -> list[float]:
        """Accuracies of students on data that no set was made of."""
        score = evaluate(
            made.small, Splits(train=self.train, test=unseen), protocol=self.protocol, networks=[self.args.network],
            seeds=count, seed=seed, baselines=False, full=False, robust_scores=False, executor=Serial(),
        )  # fmt: skip
        values: list[float] = score.to_dict()["accuracy"]["values"]
        return values


if __name__ == "__main__":
    main()
