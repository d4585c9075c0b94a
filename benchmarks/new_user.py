"""What a new user types, three times, on data that no test knows: pictures in colour, grey ones, a table.

    python benchmarks/new_user.py --pictures stamps/ --grey cloth/ --table income.csv --label INCOME --out DIR

Each is a sequence of commands as the documentation has them, the mistakes of a first try among them, in a folder and
with a cache of its own. ``DIR/NAME.json`` has every command with its exit code, its seconds by the clock and of the
processor, and what it said; it is written after every command. The data of docs/new-user.md: Debian's package
``tuxpaint-stamps-default`` (folders animals, food, household, plants, town, vehicles), the PyPI package
``conformal-clip-data`` (its folder ``simulated``), and ``income`` of Debian's ``r-cran-kernlab`` as CSV.
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


def tried(name: str, commands: list[str], out: Path) -> list[dict[str, object]]:
    """Runs the commands one after another; the rows that were written."""
    work = out / name
    work.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "POTSTILL_CACHE": str((out / f"{name}-cache").resolve())}
    rows: list[dict[str, object]] = []
    for command in commands:
        words = [sys.executable, "-m", "potstill", *shlex.split(command)[1:]]
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
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for name in ("pictures", "grey", "table"):
        if (data := getattr(given, name)) is None:
            continue
        (given.out / name).mkdir(parents=True, exist_ok=True)
        near = given.out / name / data.name  # so that commands are short, and say nothing of this machine
        if not near.exists():
            near.symlink_to(data.resolve(), target_is_directory=data.is_dir())
        tried(name, table(data.name, given.label) if name == "table" else pictures(f"{data.name}/"), given.out)


if __name__ == "__main__":
    main()
