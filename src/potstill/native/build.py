"""Compile a C file that lies here, keep what comes out in the cache folder, and load it.

The kernels are written for 16 or 8 numbers to a register and take torch's threads: they are compiled with OpenMP calls
that are left open, and closed by the OpenMP library that torch has loaded. A second one would fight with it for the
cores.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill.folders import cache_folder

__all__ = ["available", "library", "loaded", "run"]

_FLAGS = ("-O3", "-std=gnu11", "-fopenmp", "-fPIC")
_FOR = {
    "AVX512": ("-march=x86-64-v4", "-mprefer-vector-width=512", "-DL=16"),
    "AVX2": ("-march=x86-64-v3", "-DL=8"),
}
"""Further flags by what torch calls the processor (``ATEN_CPU_CAPABILITY`` makes it call it less)."""
_SECONDS = 120
_LOADED: set[str] = set()


def available() -> bool:
    """Whether kernels can be had: Linux, AVX2 or AVX-512, a compiler or what it made before, and not turned off."""
    return library("winograd") is not None and library("blocks") is not None


def loaded() -> str:
    """Which kernels this process has used: their names and hashes, or "none"."""
    return " ".join(sorted(_LOADED)) or "none"


def run(name: str, function: str, *arguments: Tensor | float | None) -> int:
    """Call a function of a library that is there; what it returns, if it does.

    Args:
        arguments: contiguous tensors, or None, for pointers; int for int64_t; float for double.
    """
    kernels = library(name)
    assert kernels is not None, "`available` was not asked"
    call = getattr(kernels, function)  # which ctypes keeps; by [] it makes a new one
    call.restype = ctypes.c_int64
    result: int = call(*map(_argument, arguments))
    return result


def _argument(value: Tensor | float | None) -> Any:
    if isinstance(value, Tensor):
        assert value.is_contiguous(), "kernels read memory as it lies"
        return ctypes.c_void_p(value.data_ptr())
    if value is None:
        return ctypes.c_void_p(None)
    return ctypes.c_int64(value) if isinstance(value, int) else ctypes.c_double(value)


@cache
def library(name: str) -> ctypes.CDLL | None:
    """``name``.c of this folder, loaded; None where `available` says no, for whatever reason."""
    if os.environ.get("POTSTILL_NATIVE") == "0" or not sys.platform.startswith("linux"):
        return None
    if (capability := torch.backends.cpu.get_cpu_capability()) not in _FOR:
        return None
    flags = _FLAGS + _FOR[capability]
    source = Path(__file__).with_name(f"{name}.c")
    parts = [source.read_bytes(), source.with_name("vectors.h").read_bytes(), " ".join(flags).encode()]
    key = hashlib.sha256(b"".join(parts)).hexdigest()[:16]
    try:
        folder = _own_folder()
        made = folder / f"{name}-{key}.so"
        if not made.exists():
            _compile(source, made, flags)
        kernels = ctypes.CDLL(str(made))
    except (OSError, subprocess.SubprocessError):  # no folder, no compiler, an old one, another OpenMP
        return None
    _LOADED.add(made.stem)
    return kernels


def _own_folder() -> Path:
    """Where only this user can have put a library: it is run as soon as it is loaded.

    Raises:
        OSError: the folder cannot be made, or others can write to it.
    """
    folder = cache_folder() / "native"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = folder.stat()
    if about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise OSError(f"others can write to {folder}")
    return folder


def _compile(source: Path, made: Path, flags: tuple[str, ...]) -> None:
    """
    Raises:
        OSError: there is no compiler, or no place to write.
        subprocess.SubprocessError: it failed, or took too long.
    """
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc"))), None)
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    with tempfile.TemporaryDirectory(dir=made.parent) as place:
        open_calls, whole = Path(place, "kernels.o"), Path(place, "kernels.so")
        for words in (
            [compiler, *flags, "-c", str(source), "-o", str(open_calls)],
            [compiler, "-shared", str(open_calls), "-o", str(whole)],
        ):
            subprocess.run(words, check=True, capture_output=True, timeout=_SECONDS)
        whole.replace(made)
