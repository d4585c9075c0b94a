"""The kernels with eight numbers to a register, where this machine's registers hold sixteen: the same tests pass."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from potstill.native import available

wide = torch.backends.cpu.get_cpu_capability() == "AVX512" and available()


@pytest.mark.slow
@pytest.mark.skipif(not wide, reason="the other tests are with the only kernels here, or there are none")
def test_the_tests_of_the_kernels_pass_with_narrow_registers():
    here = Path(__file__).parent
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "avx2"}
    asked = [
        sys.executable,
        "-c",
        "from potstill.native import available, loaded_kernels; print(available(), loaded_kernels())",
    ]
    found = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout.split()
    own = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    assert found[0] == own[0] == "True"
    assert not {*found[1:]} & {*own[1:]}, "the same libraries were loaded"
    files = [str(here / name) for name in ("test_nn_kernels.py", "test_nn_winograd.py")]
    words = [sys.executable, "-m", "pytest", *files, "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-n", "0"]
    words += ["-o", "addopts="]  # types and shapes are checked with the wide ones
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=here.parent.parent)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout.splitlines()[-1]
