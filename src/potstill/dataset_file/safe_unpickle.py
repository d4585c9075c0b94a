"""Files of ``torch.save`` from other programs, read without running code in them.

``torch.load(weights_only=True)`` reads tensors, numbers, texts, lists and mappings; NumPy scalars, which several
published programs save, are read by functions here. Other objects and archives that unpack to more than their size are
refused.
"""

import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.input_limits import limit_hint
from potstill.errors import PotstillError

__all__ = ["SAFE_GLOBALS", "load_torch_file"]

_FORMATS = {"i8": "<q", "i4": "<i", "f8": "<d", "f4": "<f"}


class _ScalarType:
    """Replacement of ``numpy.dtype`` for plain numbers."""

    def __init__(self, code: object, *rest: object) -> None:
        if code not in _FORMATS:
            raise ValueError(f"a NumPy value of type {code!r:.20}")
        self.format = _FORMATS[str(code)]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) < 2 or state[1] != "<":
            raise ValueError("a NumPy value of another byte order")


def _scalar(kind: _ScalarType, raw: bytes) -> int | float:
    """Replacement of ``numpy.core.multiarray.scalar``."""
    if not isinstance(kind, _ScalarType) or not isinstance(raw, bytes):
        raise ValueError("a NumPy value that is not a plain number")
    value: int | float = struct.unpack(kind.format, raw)[0]
    return value


SAFE_GLOBALS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_ScalarType, "numpy.dtype"),
    (_scalar, "numpy.core.multiarray.scalar"),  # NumPy 1
    (_scalar, "numpy._core.multiarray.scalar"),  # NumPy 2
]
"""Objects allowed besides those of torch."""


def load_torch_file(path: Path, max_bytes: int) -> Any:
    """Return what ``torch.save`` wrote to ``path``, on the CPU.

    Raises:
        PotstillError: it is missing, larger than ``max_bytes``, damaged, holds other objects, or unpacks to more
            than its size. No code of it is run.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise PotstillError(f"{path}: {size:,} bytes are more than {max_bytes:,}; {limit_hint('set_bytes')}")
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > size:
                raise PotstillError(f"{path}: would unpack to more than it weighs; get the file again")
        with torch.serialization.safe_globals(SAFE_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old files, that their form is old
            content = torch.load(path, map_location="cpu", weights_only=True)
    except PotstillError:
        raise
    except FileNotFoundError as error:
        raise PotstillError(f"{path}: no such file; check the path") from error
    except Exception as error:  # whatever a damaged or hostile pickle breaks in
        lines = str(error).splitlines() or [type(error).__name__]
        why = next((line for line in lines if "GLOBAL" in line), lines[0])
        raise PotstillError(
            f"{path}: only tensors, plain numbers, lists and mappings are read from files of torch "
            f"({why.strip()[:150]}); nothing of it was run"
        ) from error
    # A tensor of a few bytes may claim any shape by strides of 0.
    if sum(map(_held_bytes, _tensors(content))) > size:
        raise PotstillError(f"{path}: its tensors claim more than the file holds; get the file again")
    return content


def _held_bytes(t: Tensor) -> int:
    """Return the bytes that a tensor claims: of a sparse one, those of its parts."""
    parts = [t._indices(), t._values()] if t.layout == torch.sparse_coo else [t]
    return sum(part.numel() * part.element_size() for part in parts)


def _tensors(content: Any) -> Iterator[Tensor]:
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, dict):
        yield from _tensors(list(content.values()))
    elif isinstance(content, list | tuple):
        for item in content:
            yield from _tensors(item)
