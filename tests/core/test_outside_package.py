"""The example package adds a kind of data from outside: by entry points, in the command line, without a change here."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "examples" / "outside"


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine on which the package is installed; its entry points are those of its own file."""
    site = tmp_path / "site"
    shutil.copytree(PACKAGE / "src", site, ignore=shutil.ignore_patterns("__pycache__"))
    about = site / "potstill_counts-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: potstill-counts\nVersion: 0.1.0\n")
    groups = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]["entry-points"]
    said = [line for group, named in groups.items() for line in (f"[{group}]", *(f"{n}={v}" for n, v in named.items()))]
    (about / "entry_points.txt").write_text("\n".join(said) + "\n")
    path = os.pathsep.join([str(site), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return {n: v for n, v in os.environ.items() if n != "POTSTILL_OUTSIDE"} | {"PYTHONPATH": path}


@pytest.mark.slow
def test_its_own_tests_pass(installed: dict[str, str]) -> None:
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(PACKAGE / "tests")]
    done = subprocess.run([sys.executable, *words], env=installed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


COMMANDS = """
import sys
from potstill.cli.main import main
for line in sys.stdin.read().splitlines():
    assert main([*line.split(), "--json", "--quiet"]) == 0, line
    print("\\0")
"""


def test_its_method_network_reader_and_task_work_in_the_command_line(tmp_path: Path, installed: dict[str, str]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 2)).round(3)
    rows = [f"{a},{b},{n}" for (a, b), n in zip(x, rng.poisson(np.exp(1 + x[:, 0] - 0.5 * x[:, 1])), strict=True)]
    (tmp_path / "visits.csv").write_text("\n".join(["age,wait,visits", *rows]) + "\n")
    data = "visits.csv --label visits --task counts"
    measure = "--network rates --protocol dc --seeds 2 --epochs 20 --no-baselines --no-full"
    lines = [
        "methods",
        "networks",
        f"distill {data} --method kennard-stone --network rates --items 30 --out small.safetensors",
        f"evaluate small.safetensors --data {data} {measure} --out small.scorecard.json",
        "report small.safetensors small.scorecard.json --out page.html",
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS], env=installed, cwd=tmp_path, input="\n".join(lines), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    methods, networks, made, score, _ = (json.loads(part) for part in done.stdout.split("\0\n")[:-1])
    assert "kennard-stone" in {row["name"] for row in methods}
    assert "rates" in {row["name"] for row in networks}
    assert (made["method"], made["path"]) == ("kennard-stone", "small.safetensors")
    assert "potstill_counts.network:Rates" in score["network"]
    assert "deviance" in (tmp_path / "page.html").read_text()
    found = score["score"]
    assert (found["metric"], found["direction"], found["n"]) == ("deviance", "lower", 2)
    counts = np.array([int(row.rpartition(",")[2]) for row in rows], dtype=float)
    assert 0 < found["mean"] < 2 * np.mean(counts * np.log(np.maximum(counts, 1) / counts.mean()))  # who says the mean
