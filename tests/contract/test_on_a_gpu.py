"""What would fail on a GPU fails here: tensors of two devices, draws, numpy. See pretend_gpu.py.

Where torch finds a GPU, all of it also runs there.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from test_registry_contract import SMALL

from potstill.core import registry

PROGRAM = Path(__file__).with_name("pretend_gpu.py")


def parts(group: registry.Group, most: int) -> list[list[str]]:
    """All names of a group, some in each part: what one process tries, so that several can be at it."""
    every = registry.names(group)
    return [list(every[n : n + most]) for n in range(0, len(every), most)]


@pytest.fixture(params=["pretended", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request: pytest.FixtureRequest) -> str:
    """``pretended``, or a GPU that torch finds."""
    return str(request.param)


def run(device: str, what: str, *names: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), what, json.dumps(SMALL), *names], capture_output=True, text=True, check=False,
        env={**os.environ, "POTSTILL_TEST_DEVICE": "" if device == "pretended" else device},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_pretended_gpu_refuses_what_a_gpu_refuses(device: str) -> None:
    assert run(device, "controls")["failures"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("names", parts("methods", 14), ids=lambda names: f"{names[0]}...{names[-1]}")
def test_every_method_distils_there_what_it_distils_here(device: str, names: list[str]) -> None:
    found = run(device, "methods", *names)
    assert found["failures"] == {}
    assert found["apart"].keys() == set(names)
    # the CPU's kernels round otherwise, and what is chosen by a hair's breadth may be another
    assert {n: a for n, a in found["apart"].items() if a > 1e-3} == {}


@pytest.mark.slow
@pytest.mark.parametrize("names", parts("protocols", 5), ids=lambda names: f"{names[0]}...{names[-1]}")
def test_every_protocol_measures_there_what_it_measures_here(device: str, names: list[str]) -> None:
    found = run(device, "protocols", *names)
    assert found["failures"] == {}
    assert found["apart"].keys() == set(names)
    assert max(found["apart"].values()) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("what", ["rest", "sets", "uses"])
def test_all_else_runs_there(device: str, what: str) -> None:
    assert run(device, what)["failures"] == {}
