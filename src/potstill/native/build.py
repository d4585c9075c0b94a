"""Compile a C file of this folder, store the library in the cache folder, and load it.

The kernels use torch's threads: their OpenMP calls are left unresolved and bound to the OpenMP library that torch has
loaded, since a second one would compete for the cores.

A library's name holds hashes of its inputs (source, flags, C library; compiler) and the SHA-256 of its bytes. A file
that does not match is removed and compiled again, since loading a truncated library kills the process. Without a
compiler, the library of any compiler of the same source is used.
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from potstill._util.cache import make_cache_folder
from potstill._util.cache_dir import cache_dir

__all__ = ["available", "computing", "has_kernel", "library", "loaded_kernels", "run", "versions"]

_FLAGS = ("-O3", "-std=gnu11", "-fopenmp", "-fPIC")
_FOR = {
    "AVX512": ("-march=x86-64-v4", "-mprefer-vector-width=512", "-DL=16"),
    "AVX2": ("-march=x86-64-v3", "-DL=8"),
}
"""Flags by torch's CPU capability (lowered by ``ATEN_CPU_CAPABILITY``)."""
_EXACT = ("-O3", "-std=gnu11", "-fPIC", "-fwrapv")
_SECONDS = 120
_NAMES = ("winograd", "blocks")
_INTEGER = ("coder",)
"""Kernels of whole numbers: no threads, any processor, and the same results everywhere."""
_LOADED: set[str] = set()


def available() -> bool:
    """Return True if kernels can be used: Linux, AVX2 or AVX-512, a compiler or a cached library, not disabled."""
    return all(library(name) is not None for name in _NAMES)


def has_kernel(name: str) -> bool:
    """Return True if the kernels of ``name``.c can be used."""
    return library(name) is not None


def loaded_kernels() -> str:
    """Return names and hashes of the kernels that this process has used, or "none"."""
    return " ".join(sorted(_LOADED)) or "none"


def computing() -> dict[str, str]:
    """Return what the last bits of results depend on besides versions; compiles nothing.

    ``processor``: torch's CPU capability; ``kernels``: hashes of sources and compiler of the kernels, or "none".
    """
    found = [stem for name in _NAMES if (stem := _stem(name)) is not None]
    return {
        "processor": torch.backends.cpu.get_cpu_capability(),
        "kernels": " ".join(sorted(found)) if len(found) == len(_NAMES) else "none",
    }


def versions() -> dict[str, str]:
    """Return the versions that must be equal for equal bits: Potstill, torch, processor and kernels."""
    return {"potstill": version("potstill"), "torch": torch.__version__, **computing()}


def run(name: str, function: str, *arguments: Tensor | float | None) -> int | None:
    """Call a function of a loaded library and return its result, if any.

    Args:
        arguments: contiguous tensors, or None, for pointers; int for int64_t; float for double.
    """
    kernels = library(name)
    assert kernels is not None, "`available` was not asked"
    call = getattr(kernels, function)  # which ctypes keeps; by [] it makes a new one
    assert len(arguments) == len(call.argtypes), f"{function} takes {len(call.argtypes)} arguments"
    result: int | None = call(*map(_argument, arguments))
    return result


def _argument(value: Tensor | float | None) -> int | float | None:
    if isinstance(value, Tensor):
        assert value.is_contiguous(), "kernels read memory as it lies"
        return value.data_ptr()
    return value


_KINDS = {"num": ctypes.c_int64, "double": ctypes.c_double, "float": ctypes.c_float, "void": None}


def _declare_types(kernels: ctypes.CDLL, source: str) -> ctypes.CDLL:
    """Declare argument and result types of every exported function of the source."""
    for result, name, arguments in re.findall(r"^(num|void) (\w+)\(([^)]*)\) \{", source, re.MULTILINE):
        call = getattr(kernels, name)
        words = [" ".join(argument.split()) for argument in arguments.split(",")]
        call.argtypes = [ctypes.c_void_p if "*" in word else _KINDS[word.rpartition(" ")[0]] for word in words]
        call.restype = _KINDS[result]
    return kernels


@cache
def library(name: str) -> ctypes.CDLL | None:
    """Return the loaded library of ``name``.c, or None if it is not `available`."""
    if (stem := _stem(name)) is None:
        return None
    try:
        folder = _own_folder()
        made = _verified_library(folder, stem)
        if made is None and _compiler() is None:
            made = next(filter(None, (_verified_library(folder, s) for s in _stems(folder, _source_hash(name)))), None)
        made = made or _compile(name, folder / stem)
        kernels = ctypes.CDLL(str(made))
    except (OSError, subprocess.SubprocessError):  # no folder, no compiler, an old one, another OpenMP
        return None
    if name not in _INTEGER:  # whose results depend on neither processor nor compiler
        _LOADED.add(made.name.rpartition("-")[0])
    return _declare_types(kernels, _source(name).read_text())


def _stem(name: str) -> str | None:
    """Return the prefix of a compiled kernel's file name; None if kernels are not available."""
    if os.environ.get("POTSTILL_NATIVE") == "0":
        return None
    if name in _INTEGER:
        if not sys.platform.startswith(("linux", "darwin")):
            return None
    elif not sys.platform.startswith("linux") or torch.backends.cpu.get_cpu_capability() not in _FOR:
        return None
    if (compiler := _compiler()) is not None:
        return f"{_source_hash(name)}-{compiler[1]}"
    return next(_stems(cache_dir() / "native", _source_hash(name)), None)


def _source(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.c")


def _flags(name: str) -> tuple[str, ...]:
    capability = torch.backends.cpu.get_cpu_capability()
    return _EXACT + _FOR.get(capability, ()) if name in _INTEGER else _FLAGS + _FOR[capability]


def _source_hash(name: str) -> str:
    """Return ``name`` with a hash of source, flags and C library."""
    source = _source(name)
    parts = [source.read_bytes(), source.with_name("vectors.h").read_bytes(), " ".join(_flags(name)).encode()]
    names = [n for n in ("CS_GNU_LIBC_VERSION",) if n in os.confstr_names]  # other C libraries have no name for theirs
    parts += [(os.confstr(n) or "").encode() for n in names]
    return f"{name}-{hashlib.sha256(b'/'.join(parts)).hexdigest()[:16]}"


def _compiler() -> tuple[str, str] | None:
    """Return the compiler's path and a hash of its version."""
    path = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc"))), None)
    said = None if path is None else _version_hash(path)
    return None if path is None or said is None else (path, said)


@cache
def _version_hash(compiler: str) -> str | None:
    try:
        said = subprocess.run([compiler, "--version"], check=True, capture_output=True, timeout=_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return hashlib.sha256(said).hexdigest()[:8]


def _stems(folder: Path, made_of: str) -> Iterator[str]:
    """Yield the prefixes of libraries that any compiler made of this source."""
    return (path.name.rpartition("-")[0] for path in sorted(folder.glob(f"{made_of}-*-*.so")))


def _verified_library(folder: Path, stem: str) -> Path | None:
    """Return the library if it exists and matches its hash; remove files that do not match."""
    for path in sorted(folder.glob(f"{stem}-*.so")):
        if hashlib.sha256(path.read_bytes()).hexdigest() == path.stem.removeprefix(f"{stem}-"):
            return path
        path.unlink()
    return None


def _own_folder() -> Path:
    """Return the folder of libraries, writable by this user only, as loading runs code.

    Raises:
        OSError: the folder cannot be created, or others can write to it.
    """
    folder = cache_dir() / "native"
    make_cache_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.stat()
    if about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise OSError(f"others can write to {folder}")
    return folder


def _compile(name: str, stem: Path) -> Path:
    """
    Args:
        stem: the path of the library, but for its hash.

    Raises:
        OSError: there is no compiler, or no place to write.
        subprocess.SubprocessError: it failed, or took too long.
    """
    compiler = _compiler()
    if compiler is None:
        raise FileNotFoundError("no C compiler")
    with tempfile.TemporaryDirectory(dir=stem.parent) as place:
        open_calls, whole = Path(place, "kernels.o"), Path(place, "kernels.so")
        for words in (
            [compiler[0], *_flags(name), "-c", str(_source(name)), "-o", str(open_calls)],
            [compiler[0], "-shared", str(open_calls), "-o", str(whole)],
        ):
            subprocess.run(words, check=True, capture_output=True, timeout=_SECONDS)
        made = stem.with_name(f"{stem.name}-{hashlib.sha256(whole.read_bytes()).hexdigest()}.so")
        whole.replace(made)
    return made
