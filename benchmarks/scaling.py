"""How time and memory of a distillation grow with classes, items per class and real samples; memory beside its plan.

    python benchmarks/scaling.py [--only dm dsa …] [--again] [--out results/scaling.json]

Every case is a ``potstill distill`` in a process of its own, on noise pictures; its peak memory is what the system says
of that process when it has ended, and ``potstill plan`` has predicted it in another process before. A row is written as
soon as it is made, and one that is there is not measured again.

Seconds of a step are the processor's, of one thread, which others on the machine disturb less than the clock's; both
are kept, the first step left out. Exponents are slopes of log seconds over log classes, items per class or real samples
(least squares): 1 is linear, 0 is no growth at all.
"""

import argparse
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from machine import machine

WITHIN = 0.15
"""The relative error of predicted memory that is asked for."""

OPTIONS = {
    "dm": ["--augment", "dsa"],
    "dsa": ["--outer", "1000", "--inner", "1"],  # one schedule for all sizes: the published one depends on ipc
    "idm": [],
    "ncfm": ["--networks-trained", "1", "--epochs-trained", "1", "--frequencies", "512"],
}


class Case(NamedTuple):
    """One distillation: sizes of the data and of the set, and what runs."""

    method: str
    classes: int
    ipc: int
    samples: int
    shape: tuple[int, int, int] = (3, 16, 16)
    network: str = "convnet-d2-w16"
    batch: int = 32
    """Real samples per class and step."""
    steps: int = 6

    @property
    def name(self) -> str:
        c, h, w = self.shape
        return (
            f"{self.method}, {self.classes} classes, ipc {self.ipc}, {self.samples} samples of {c}×{h}×{w}, "
            f"{self.network}, batch {self.batch}"
        )

    def words(self, data: Path) -> list[str]:
        """What ``distill`` and ``plan`` are asked alike."""
        return [
            str(data), "--method", self.method, "--ipc", str(self.ipc), "--network", self.network, "--batch-real",
            str(self.batch), "--steps", str(self.steps), "--device", "cpu", *OPTIONS[self.method],
        ]  # fmt: skip


def cases() -> Iterator[Case]:
    for method in ("dm", "dsa", "idm", "ncfm"):
        for classes in (10, 100, 1000):
            for ipc in (1, 10):
                if method == "ncfm" and classes * ipc > 1000:
                    continue  # minutes a step
                yield Case(method, classes, ipc, 40 * classes, steps=6 if classes < 1000 else 3)
        yield Case(method, 10, 50, 4000)
    for method in ("dm", "dsa", "idm"):
        for samples in (10**4, 10**5, 10**6):
            yield Case(method, 10, 1, samples, shape=(1, 16, 16), batch=256, steps=9)
    # The published batch, and networks whose activations are most of the memory.
    for method in ("dm", "dsa"):
        yield Case(method, 10, 10, 4000, shape=(3, 32, 32), network="convnet-d3-w32", batch=256, steps=4)
        yield Case(method, 10, 10, 4000, shape=(3, 32, 32), network="convnet-d3-w128", batch=256, steps=2)
    yield Case("dm", 10, 50, 4000, shape=(3, 32, 32), network="convnet-d3-w128", batch=64, steps=2)
    yield Case("dm", 100, 10, 4000, shape=(3, 32, 32), network="convnet-d3-w32", batch=32, steps=2)
    yield Case("ncfm", 10, 10, 4000, shape=(3, 32, 32), network="convnet-d3-w32", batch=64, steps=3)


def make_data(path: Path, case: Case) -> None:
    """Noise pictures, classes in turn, two of each class to test with."""
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(0))
    tests = 2 * case.classes
    x = rng.integers(0, 256, (case.samples + tests, *case.shape), dtype=np.uint8)
    y = np.arange(case.samples + tests) % case.classes
    n = case.samples
    np.savez(path, x_train=x[:n], y_train=y[:n], x_test=x[n:], y_test=y[n:])


def timed(words: list[str]) -> int:
    """The command as the console script runs it; beside its JSON, the times after every step go to stderr as JSON."""
    from potstill._util.progress import ProgressReporter
    from potstill.cli.main import main as command

    times: list[tuple[float, float]] = []

    def step(self: ProgressReporter, what: str, **progress: Any) -> None:
        times.append((time.process_time(), time.perf_counter()))

    ProgressReporter.step = step  # type: ignore[method-assign]
    status = command(words)
    if status == 0:
        print(json.dumps(times), file=sys.stderr)
    return status


def run(words: list[str], folder: Path) -> tuple[dict[str, Any], list[list[float]], int]:
    """The JSON of a command in a process of its own with one thread, the times of its steps, its peak in bytes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "POTSTILL_CACHE": str(folder / "cache")}
    out, err = folder / "out.json", folder / "err.txt"
    with open(out, "wb") as answer, open(err, "wb") as said:
        process = subprocess.Popen(
            [sys.executable, __file__, "--run", *words, "--json", "--quiet"], stdout=answer, stderr=said,
            env=environment,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"potstill {shlex.join(words)}: {err.read_text()}")
    times = json.loads(err.read_text().splitlines()[-1])
    return json.loads(out.read_text()), times, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measured(case: Case) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "noise.npz"
        # In a process of its own: on Linux a process starts with the peak of the one that it was started by.
        subprocess.run([sys.executable, __file__, "--make", json.dumps([str(data), *case])], check=True)
        plan, _, _ = run(["plan", *case.words(data)], folder)
        # Every few seconds, so that long runs write checkpoints and short ones are not slowed down by them.
        words = ["distill", *case.words(data), "--out", str(folder / "set.safetensors"), "--checkpoint-every", "5s"]
        card, times, peak = run(words, folder)
    steps, clock = ([after[i] - before[i] for before, after in pairwise(times)] for i in (0, 1))
    memory = plan["memory"]
    moments = {term["what"]: term["bytes"] for term in memory["moments"]}
    return {
        **case._asdict(), "seconds": steps, "clock": clock, "seconds_per_step": statistics.median(steps),
        "n": len(steps),
        "steps_made": card["outcome"]["step"], "peak": peak, "predicted": memory["peak"],
        "error": memory["peak"] / peak - 1, "process": memory["always"][0]["bytes"], "loading": memory["loading"],
        "state": memory["always"][3]["bytes"], "largest": [memory["largest"], moments[memory["largest"]]],
        "stored": plan["bytes"]["total"],
    }  # fmt: skip


def slope(points: list[tuple[float, float]]) -> float | None:
    """Of log y over log x by least squares."""
    if len({x for x, _ in points}) < 2:
        return None
    xs, ys = [math.log(x) for x, _ in points], [math.log(y) for _, y in points]
    return statistics.linear_regression(xs, ys).slope


def exponents(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The slopes by each axis, the others held."""
    axes = {
        "classes": lambda r: (r["method"], r["ipc"]),
        "ipc": lambda r: (r["method"], r["classes"]),
        "samples": lambda r: (r["method"],),
    }
    found = []
    for axis, key in axes.items():
        plain = [r for r in rows if r["network"] == Case._field_defaults["network"]]
        small = [r for r in plain if (r["batch"] == 256) == (axis == "samples")]
        for held in sorted({key(r) for r in small}, key=str):
            points = [(r[axis], r["seconds_per_step"]) for r in small if key(r) == held]
            s = slope(points)
            if s is not None:
                sizes = sorted(x for x, _ in points)
                found.append({"axis": axis, "method": held[0], "held": list(held[1:]), "sizes": sizes, "exponent": s})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="methods")
    parser.add_argument("--again", action="store_true", help="measure rows that are there already")
    parser.add_argument("--make", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("results/scaling.json"))
    if sys.argv[1:2] == ["--run"]:
        sys.exit(timed(sys.argv[2:]))
    args = parser.parse_args()
    if args.make:
        path, *fields = json.loads(args.make)
        make_data(Path(path), Case(*fields))
        return
    torch.set_num_threads(1)  # what the processes have, said by machine()
    report: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"rows": {}}
    for case in cases():
        if args.only and case.method not in args.only:
            continue
        if case.name in report["rows"] and not args.again:
            continue
        row = report["rows"][case.name] = measured(case)
        report |= {"machine": machine(), "options": OPTIONS, "within": WITHIN}
        report["exponents"] = exponents(list(report["rows"].values()))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        spread = f"{min(row['seconds']):.3g} to {max(row['seconds']):.3g}, n {row['n']}"
        print(
            f"{case.name}: {row['seconds_per_step']:.3g} s a step ({spread}); {row['peak'] / 2**20:,.0f} MiB, "
            f"predicted {row['predicted'] / 2**20:,.0f}, {100 * row['error']:+.1f} % ({row['largest'][0]})",
            flush=True,
        )
    rows = list(report["rows"].values())
    for e in exponents(rows):
        print(f"{e['method']}: seconds a step grow as {e['axis']}^{e['exponent']:.2f} over {e['sizes']} at {e['held']}")
    wrong = [abs(r["error"]) for r in rows]
    print(
        f"memory: {sum(e <= WITHIN for e in wrong)} of {len(wrong)} cases within {100 * WITHIN:.0f} %, "
        f"median {100 * statistics.median(wrong):.1f} %, at most {100 * max(wrong):.1f} %"
    )


if __name__ == "__main__":
    main()
