"""What would fail on a GPU fails here: tensors of two devices, draws, numpy. See pretend_gpu.py."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from test_registry_contract import SMALL

from potstill import registry

PROGRAM = Path(__file__).with_name("pretend_gpu.py")


def run(what: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), what, json.dumps(SMALL)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_pretended_gpu_refuses_what_a_gpu_refuses() -> None:
    assert run("controls")["failures"] == {}


def test_every_method_distils_there_what_it_distils_here() -> None:
    found = run("methods")
    assert found["failures"] == {}
    assert found["apart"].keys() == set(registry.names("methods"))
    # the CPU's kernels round otherwise, and what is chosen by a hair's breadth may be another
    assert {n: a for n, a in found["apart"].items() if a > 1e-3} == {}


def test_every_protocol_measures_there_what_it_measures_here() -> None:
    found = run("protocols")
    assert found["failures"] == {}
    assert found["apart"].keys() == set(registry.names("protocols"))
    assert max(found["apart"].values()) < 0.05


def test_all_else_runs_there() -> None:
    assert run("rest")["failures"] == {}
