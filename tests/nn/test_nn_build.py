"""Kernels in the cache: what is damaged there is made again and never loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from potstill import native
from potstill.native import build
from potstill.nn.winograd import supports_winograd

here = pytest.mark.skipif(not native.available(), reason="no C compiler, or registers are too narrow")

DAMAGE = """
import sys
from potstill.native import build
from potstill._util.cache_dir import cache_dir

library = build.library.__wrapped__
assert library("blocks") is not None
for damage in (lambda b: b[: len(b) // 3], lambda b: bytes(len(b)), lambda b: b""):
    (made,) = (cache_dir() / "native").glob("blocks-*.so")
    whole = made.read_bytes()
    made.unlink()  # not in place: this process has it mapped
    made.write_bytes(damage(whole))
    assert library("blocks") is not None
    (again,) = (cache_dir() / "native").glob("blocks-*.so")
    print(again.read_bytes() == whole)
"""


@here
@pytest.mark.slow
def test_a_damaged_kernel_is_made_again(tmp_path: Path) -> None:
    environment = {**os.environ, "POTSTILL_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", DAMAGE], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["True"] * 3), done.stderr


@here
def test_every_function_is_told_its_arguments() -> None:
    kernels = build.library("winograd")
    assert kernels is not None
    assert len(kernels.winograd_convolution.argtypes) == 12
    with pytest.raises(AssertionError, match="winograd_scratch takes 6 arguments"):
        native.run("winograd", "winograd_scratch", 32, 32, 8, 8, 1)


@here
def test_another_compiler_makes_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build._stem("blocks")
    other = tmp_path / "cc"
    other.write_text("#!/bin/sh\necho another compiler 1.0\n")
    other.chmod(0o755)
    monkeypatch.setenv("CC", str(other))
    assert build._stem("blocks") not in {before, None}


@here
@pytest.mark.parametrize(("h", "w", "fits"), [(96, 96, True), (1, 9216, False), (9216, 1, False), (1, 2048, True)])
def test_what_a_thread_keeps_on_its_stack_is_bounded(h: int, w: int, fits: bool) -> None:
    assert supports_winograd(torch.zeros(1, 32, h, w), torch.zeros(32, 32, 3, 3)) == fits
