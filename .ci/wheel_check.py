"""Builds sdist and wheel, installs the wheel into a fresh environment, and uses it where there is no repository.

The wheel is built out of the sdist, so that what the sdist lacks is missed too. ``python .ci/wheel_check.py``.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*words: str | Path, cwd: Path) -> str:
    """What ``words`` print; nothing of this checkout is on their path."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment["POTSTILL_CACHE"] = str(cwd / "cache")
    begun = time.perf_counter()
    done = subprocess.run(
        [str(w) for w in words], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    shown = " ".join(Path(w).name if Path(w).is_absolute() else str(w) for w in words)
    print(f"{time.perf_counter() - begun:6.1f} s  {shown}", flush=True)
    if done.returncode:
        sys.exit(f"exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def absent(wheel: Path) -> list[str]:
    """Files of the package and recipes that git knows and the wheel lacks."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    known = subprocess.run(
        ["git", "ls-files", "src/potstill", "recipes"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    wanted = [name.removeprefix("src/") if name.startswith("src/") else f"potstill/{name}" for name in known if name]
    return [name for name in wanted if name not in inside]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", there / "dist", ROOT, cwd=there)
        (wheel,) = (there / "dist").glob("*.whl")
        (sdist,) = (there / "dist").glob("*.tar.gz")
        if lacking := absent(wheel):
            sys.exit(f"{len(lacking)} files are not in the wheel: {lacking[:5]}")
        run(sys.executable, "-m", "venv", there / "env", cwd=there)
        bin = there / "env" / "bin"
        run(bin / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--constraint", ROOT / "constraints.txt", wheel, cwd=there)  # fmt: skip
        (work := there / "work").mkdir()
        at = run(bin / "python", "-c", "import potstill; print(potstill.__file__)", cwd=work).strip()
        if not Path(at).is_relative_to(there / "env"):
            sys.exit(f"the package in use is {at}, not that of the fresh environment")
        potstill = bin / "potstill"
        run(potstill, "--version", cwd=work)
        distill = [potstill, "distill", "digits"]
        run(*distill, "--method", "dm", "--ipc", "1", "--steps", "20", "--out", "small.safetensors", cwd=work)
        run(*distill, "--recipe", "random", "--out", "real.safetensors", cwd=work)
        said = run(potstill, "evaluate", "small.safetensors", "--data", "digits", "--seeds", "2", "--epochs", "30",
                   "--out", "small.scorecard.json", "--json", cwd=work)  # fmt: skip
        accuracy = json.loads(said)["accuracy"]["mean"]
        run(potstill, "report", ".", "--out", "page.html", cwd=work)
        page = (work / "page.html").read_text(encoding="utf-8")
        if "<style" not in page or "small" not in page:
            sys.exit("the page lacks its style or the set")
        shown = run(potstill, "demo", "--json", cwd=work)  # without the extra samples: digits
        if not (work / "demo" / "report.html").exists() or json.loads(shown)["data"] != "digits":
            sys.exit("the demonstration made no page, or not of digits")
        run(potstill, "methods", "dm", cwd=work)
        run(potstill, "completion", "bash", cwd=work)
        sizes = ", ".join(f"{p.name} {p.stat().st_size:,} bytes" for p in (wheel, sdist))
        print(f"{sizes}; a set of one item per class from the wheel scored {accuracy:.3f}")


if __name__ == "__main__":
    main()
