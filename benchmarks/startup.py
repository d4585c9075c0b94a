"""How many modules a command imports before it can begin, and what that takes of a core.

    python benchmarks/startup.py --out results/startup.json [--against SRC] [--runs 5] [--only methods inspect …]

``--against`` is the ``src`` folder of another version, measured in turn with this one, run by run. A ratio of medians
below 1 says that this version takes less. Times are of the processor (user and system), not of the clock.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[1] / "src"
COMMANDS = {
    "--help": ["--help"],
    "distill --help": ["distill", "--help"],
    "methods": ["methods"],
    "networks": ["networks"],
    "inspect": ["inspect", "small.safetensors"],
    "distill random": ["distill", "digits", "--method", "random", "--ipc", "1", "--out", "r.safetensors", "--quiet"],
    "distill dm, 1 step": [
        "distill", "digits", "--method", "dm", "--ipc", "1", "--steps", "1", "--out", "dm.safetensors", "--quiet",
    ],
    "plan dm": ["plan", "digits", "--method", "dm", "--ipc", "1", "--quiet"],
    "evaluate, 1 epoch": [
        "evaluate", "small.safetensors", "--data", "digits", "--protocol", "dc", "--epochs", "1", "--seeds", "1",
        "--no-full", "--no-baselines", "--quiet",
    ],
}  # fmt: skip
COUNT = """
import sys
from potstill.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(len(sys.modules), file=sys.stderr)
"""


def run(source: Path, words: list[str], folder: Path, *, count: bool) -> float:
    """Processor seconds of a command; or, to be asked apart, the modules that it has at its end."""
    environment = os.environ | {
        "PYTHONPATH": str(source),
        "POTSTILL_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    start = ["-c", COUNT] if count else ["-m", "potstill"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *start, *words], env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if count:
        return float(done.stderr.strip().splitlines()[-1])
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=COMMANDS, default=list(COMMANDS))
    args = parser.parse_args()
    sources = {"here": HERE} | ({"against": args.against.resolve()} if args.against else {})
    rows = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        making = ["distill", "digits", "--method", "random", "--ipc", "1", "--out", "small.safetensors", "--quiet"]
        run(HERE, making, folder, count=False)
        for name in args.only:
            words = COMMANDS[name]
            for source in sources.values():  # once unmeasured: compiled files, caches
                run(source, words, folder, count=False)
            seconds: dict[str, list[float]] = {which: [] for which in sources}
            for _ in range(args.runs):
                for which, source in sources.items():
                    seconds[which].append(run(source, words, folder, count=False))
            row: dict[str, object] = {
                which: {
                    "modules": int(run(source, words, folder, count=True)),
                    "seconds": [round(s, 3) for s in seconds[which]],
                    "median": round(statistics.median(seconds[which]), 3),
                }
                for which, source in sources.items()
            }
            if "against" in sources:
                row["ratio"] = round(statistics.median(seconds["here"]) / statistics.median(seconds["against"]), 3)
            rows[name] = row
            print(name, json.dumps(row), flush=True)
    import torch

    about = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
    args.out.write_text(json.dumps({"runs": args.runs, "versions": about, "commands": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
