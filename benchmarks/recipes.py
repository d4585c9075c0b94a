"""Every recipe in recipes/, distilled and measured as its user would, on bundled digits.

    python benchmarks/recipes.py [--only dm dsa …] [--part I/N] [--out results/recipes.json]

Each recipe is run by ``potstill distill`` with the steps that it states and measured by the protocol ``potstill``,
shortened (``evaluate --quick``), on ConvNet-W32; a row is written as soon as it is made, and a recipe whose file has
not changed is not run again. Seconds are those of a core (all threads, user and system), which other work on the
machine disturbs less than the clock.
Expected scores in docs/benchmarks/recipes.md are made of the result.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import machine

from potstill._util.cache_dir import cache_dir

DATA, NETWORK = "mnist-5k", "convnet-w32"


def run(words: list[str], **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "potstill", *words, "--json", "--quiet"], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"potstill {' '.join(words)}: {done.stderr}")
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def core_seconds() -> float:
    """What the finished processes that this one started have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--part", default="0/1", metavar="I/N", help="every N-th recipe, from the I-th, counted from 0")
    parser.add_argument("--out", type=Path, default=Path("results/recipes.json"))
    args = parser.parse_args()
    report: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {"rows": {}}
    first, every = map(int, args.part.split("/"))
    for path in sorted(Path("recipes").glob("*.yaml"))[first::every]:
        name, key = path.stem, hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        if name == "demo" or (args.only and name not in args.only) or report["rows"].get(name, {}).get("recipe") == key:
            continue
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "set.safetensors"
            cache = Path(folder) / "cache"  # empty, so that what a recipe trains first counts; but for compiled kernels
            if (kernels := cache_dir() / "native").exists():
                shutil.copytree(kernels, cache / "native")
            begun = core_seconds()
            run(["distill", DATA, "--recipe", str(path), "--out", str(out)], POTSTILL_CACHE=str(cache))
            seconds = core_seconds() - begun
            score = run([
                "evaluate", str(out), "--data", DATA, "--network", NETWORK, "--quick", "--no-baselines",
            ])  # fmt: skip
            card = run(["inspect", str(out)])["card"]
        a = score["accuracy"]
        report["rows"][name] = {
            "recipe": key, "accuracy": a, "bytes": score["bytes"], "inputs": score["set"]["items"],
            "steps": card["cost"]["steps"], "outcome": card["outcome"]["kind"], "core_seconds": round(seconds, 1),
            "fingerprint": score["fingerprint"],
        }  # fmt: skip
        report |= {"data": DATA, "network": NETWORK, "machine": machine()}
        report["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
        print(
            f"{name}: {100 * a['mean']:.1f} ± {100 * a['std']:.1f} (n {a['n']}), {seconds:.0f} s of a core", flush=True
        )


if __name__ == "__main__":
    main()
