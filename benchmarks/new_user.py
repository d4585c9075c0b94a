"""What new users type, on data that no test knows: pictures, grey ones, a table; frames of animations, a data frame.

    python benchmarks/new_user.py --pictures stamps/ --grey cloth/ --table income.csv --label INCOME --out DIR
    python benchmarks/new_user.py --sprites sprites/ --frame cars.csv --research seattle-weather.csv --out DIR

Each is a sequence of commands as the documentation has them, the mistakes of a first try among them, in a folder and
with a cache of its own. ``DIR/NAME.json`` has every command with its exit code, its seconds by the clock and of the
processor, and what it said; it is written after every command. The data: Debian's package
``tuxpaint-stamps-default`` (folders animals, food, household, plants, town, vehicles), the PyPI package
``conformal-clip-data`` (its folder ``simulated``), and ``income`` of Debian's ``r-cran-kernlab`` as CSV. Of the second
line: folders creatures, objects, tiles and worldmap of the images in Debian's ``supertux-data`` (transparent frames of
animations, a folder for each figure), and ``cars`` (as CSV) and ``seattle-weather.csv`` of the PyPI package
``vega_datasets``. ``--frame`` also needs xgboost.
"""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

from machine import machine

MADE, CARD = "small.safetensors", "small.scorecard.json"
LAST = [f"potstill report {MADE} {CARD} --out page.html"]


def pictures(data: str) -> list[str]:
    """A folder: what it would cost, a set, its numbers, its page."""
    return [
        f"potstill plan {data} --size 32 --ipc 5",
        f"potstill distill {data} --size 32 --network convnet-w32 --ipc 5 --time-limit 1m --out {MADE}",
        f"potstill evaluate {MADE} --data {data} --size 32 --quick --out {CARD}",
        *LAST,
    ]


def table(data: str, label: str) -> list[str]:
    """The same of a table, with what a first try forgets, and the command that chooses by itself."""
    asked = f"--label {shlex.quote(label)} --missing impute"
    return [
        f"potstill distill {data} --ipc 5 --out {MADE}",
        f"potstill distill {data} --label {shlex.quote(label)} --ipc 5 --out {MADE}",
        f"potstill distill {data} {asked} --ipc 5 --out {MADE}",
        f"potstill evaluate {MADE} --data {data} {asked} --quick --out {CARD}",
        *LAST,
        f"potstill distill {data} {asked} --method auto --ipc 5 --time-limit 1m --out chosen.safetensors",
    ]


def sprites(data: str) -> list[str]:
    """Frames of animations: related pictures, transparent ones, of many sizes."""
    return [
        f"potstill plan {data} --size 32 --ipc 5 --network convnet-w32",
        f"potstill distill {data} --size 32 --ipc 5 --network convnet-w32 --time-limit 1m --out {MADE}",
        f"potstill distill {data} --size 32 --group parent --ipc 5 --network convnet-w32 --time-limit 1m --out {MADE}",
        f"potstill distill {data} --size 32 --group parent --ipc 5 --network convnet-w32 --time-limit 1m --out {MADE} "
        "--force",
        f"potstill evaluate {MADE} --data {data} --quick --network convnet-w32 --out {CARD}",
        *LAST,
    ]


FRAME = """
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from xgboost import XGBClassifier

from potstill.integrations.sklearn import Distiller, ResamplingError

frame = pd.read_csv("cars.csv", parse_dates=["Year"])
y = frame.pop("Origin")
X, X_test, y, y_test = train_test_split(frame, y, random_state=0, stratify=y)
for missing in (None, "impute"):
    for left_out in ([], ["Name"]):
        try:
            distiller = Distiller("dm", items=30, random_state=0, missing=missing)
            small, labels = distiller.fit_resample(X.drop(columns=left_out), y)
        except ResamplingError as error:
            print("refused:", error)
print(small.dtypes, labels.value_counts(), sep="\\n")


def numbers(rows):
    rows = rows.drop(columns="Name", errors="ignore").assign(Year=rows["Year"].astype("int64") // 10**9)
    return rows.fillna(rows.median())


codes = {name: code for code, name in enumerate(sorted(y.unique()))}
few = X.sample(30, random_state=0)
sides = {"distilled": (small, labels), "frame.sample(30)": (few, y[few.index]), "all rows": (X, y)}
for model in (RandomForestClassifier(random_state=0), XGBClassifier(random_state=0, n_jobs=1)):
    scores = {
        name: model.fit(numbers(rows), targets.map(codes).astype(int)).score(numbers(X_test), y_test.map(codes))
        for name, (rows, targets) in sides.items()
    }
    print(type(model).__name__, *(f"{name} {score:.2f}" for name, score in scores.items()), sep="  ")
rows = frame.assign(Origin=y).dropna(subset="Miles_per_Gallon").drop(columns=["Name", "Origin"])
target = rows.pop("Miles_per_Gallon")
small, values = Distiller("k-means", items=40, random_state=0, task="regression", missing="impute").fit_resample(
    rows, target
)
print(small.dtypes.to_dict(), values.describe()[["count", "mean", "min", "max"]].round(1).to_dict())
"""

METHOD = '''
"""Means of random halves of a class."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator

from potstill.core import Method, MethodInfo, Metrics, Problem, Synthetic, UnitFloat


@dataclass(frozen=True, kw_only=True)
class HalvesState:
    x: torch.Tensor
    made: int


@dataclass(frozen=True, kw_only=True)
class Halves(Method[HalvesState]):
    """Each item is the mean of a random part of its class."""

    info: ClassVar[MethodInfo] = MethodInfo(
        title="Means of halves", paper="mine", year=2026, family="distribution", kinds=("*",)
    )
    state_type: ClassVar[type] = HalvesState
    share: UnitFloat = 0.5
    """Part of the class in each mean."""

    def init(self, problem: Problem, rng: Generator) -> HalvesState:
        shape = problem.train.input.shape
        return HalvesState(x=torch.zeros(sum(problem.counts), *shape), made=0)

    def step(self, problem: Problem, state: HalvesState, rng: Generator) -> tuple[HalvesState, Metrics]:
        labels = torch.repeat_interleave(torch.arange(problem.num_classes), torch.tensor(problem.counts))
        own = problem.class_indices[int(labels[state.made])]
        chosen = own[torch.randperm(len(own), generator=rng)[: max(1, round(self.share * len(own)))]]
        x = state.x.clone()
        x[state.made] = problem.train.fetch(chosen).x.mean(0)
        return HalvesState(x=x, made=state.made + 1), {}

    def done(self, problem: Problem, state: HalvesState) -> bool:
        return state.made >= sum(problem.counts)

    def result(self, problem: Problem, state: HalvesState) -> Synthetic:
        labels = torch.repeat_interleave(torch.arange(problem.num_classes), torch.tensor(problem.counts))
        return Synthetic(payload={"inputs": state.x}, labels=labels)

    def num_steps(self, problem: Problem) -> int:
        return sum(problem.counts)
'''

NETWORK = """
from torch import nn


class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(shape[0], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.last = nn.Linear(64, classes)

    def forward(self, x):
        return self.last(self.body(x))
"""
FILES = {"frame": {"frame.py": FRAME}, "research": {"halves.py": METHOD, "net.py": NETWORK}}


def research(data: str) -> list[str]:
    """A method and a network in files of one's own, on a table with dates, beside methods that are there."""
    asked = f"{data} --label weather --network net.py:Net"
    return [
        f"potstill distill {data} --label weather --method halves.py:Halves --ipc 4 --out {MADE}",
        f"potstill compare {asked} --methods halves.py:Halves,dm,k-means,random --ipc 4 --time-limit 20s --out board",
        "potstill report board --out page.html",
        f"potstill compare {asked} --methods halves.py:Halves,dm,k-means,random --ipc 4 --time-limit 20s --out board "
        "--set Halves.share=0.2",
    ]


def tried(name: str, commands: list[str], out: Path) -> list[dict[str, object]]:
    """Runs the commands one after another; the rows that were written."""
    work = out / name
    work.mkdir(parents=True, exist_ok=True)
    for file, text in FILES.get(name, {}).items():
        (work / file).write_text(text.lstrip(), encoding="utf-8")
    environment = {**os.environ, "POTSTILL_CACHE": str((out / f"{name}-cache").resolve())}
    rows: list[dict[str, object]] = []
    for command in commands:
        program, *words = shlex.split(command)
        words = [sys.executable, *(["-m", "potstill"] if program == "potstill" else []), *words]
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            words, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        rows.append(
            {
                "command": command,
                "exit": done.returncode,
                "seconds": round(time.perf_counter() - begun, 1),
                "processor_seconds": round(used, 1),
                "said": [line for line in done.stdout.splitlines() if line.strip()],
            }
        )
        print(f"$ {command}\n[exit {done.returncode}, {rows[-1]['seconds']} s, of a core {used:.1f} s]", flush=True)
        (out / f"{name}.json").write_text(json.dumps({"machine": machine(), "commands": rows}, indent=1) + "\n")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--grey", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--label", default="label")
    parser.add_argument("--sprites", type=Path)
    parser.add_argument("--frame", type=Path)
    parser.add_argument("--research", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    commands = {
        "pictures": lambda data: pictures(f"{data}/"), "grey": lambda data: pictures(f"{data}/"),
        "table": lambda data: table(data, given.label), "sprites": lambda data: sprites(f"{data}/"),
        "frame": lambda data: ["python frame.py"], "research": research,
    }  # fmt: skip
    for name, of in commands.items():
        if (data := getattr(given, name)) is None:
            continue
        (given.out / name).mkdir(parents=True, exist_ok=True)
        near = given.out / name / data.name  # so that commands are short, and say nothing of this machine
        if not near.exists():
            near.symlink_to(data.resolve(), target_is_directory=data.is_dir())
        tried(name, of(data.name), given.out)


if __name__ == "__main__":
    main()
