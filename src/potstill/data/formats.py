"""Parsers of the field's file formats: IDX, CIFAR's pickles and binaries, SVHN's MAT. Bytes in, arrays out.

CIFAR was published as Python pickles, and an unpickler runs what a file tells it to. The one here can build arrays of
plain numbers and nothing else.
"""

import io
import math
import pickle
import pickletools
import re
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from potstill.data.error_text import reason
from potstill.errors import PotstillError

__all__ = ["read_cifar_binary", "read_idx", "read_mat", "read_pickle"]

Array = npt.NDArray[Any]

# What loadmat raises on a damaged or foreign file; NotImplementedError on one of MATLAB v7.3, which is HDF5 inside.
_MAT_ERRORS = (
    ValueError, TypeError, KeyError, NotImplementedError, OSError, IndexError, zlib.error, MemoryError, OverflowError,
    EOFError, AttributeError, struct.error,
)  # fmt: skip
_PICKLE_ERRORS = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError,
    OverflowError, SystemError, RecursionError,
)  # fmt: skip
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(content: bytes, where: str) -> Array:
    """The array in an IDX file (yann.lecun.com's format): two zero bytes, type, number of axes, big-endian sizes, data.

    Raises:
        PotstillError: another format, or shorter or longer than its header says.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise PotstillError(f"{where}: not an IDX file (it begins {content[:4].hex(' ') or 'nowhere'})")
    axes = content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise PotstillError(f"{where}: truncated in its header after {len(content):,} bytes; download it again")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", axes, 4))
    dtype = np.dtype(_IDX_TYPES[content[2]])
    needed = start + math.prod(shape) * dtype.itemsize
    if len(content) != needed:
        raise PotstillError(
            f"{where}: its header asks for {needed:,} bytes (shape {shape}), it has {len(content):,}; get it again"
        )
    try:
        return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
    except ValueError as error:  # no values in more axes or places than an array can have
        raise PotstillError(f"{where}: no array has the shape {shape} ({reason(error)}); get it again") from None


def _encode(text: str, codec: str) -> bytes:
    """Stand-in for ``_codecs.encode``, by which protocol-2 pickles write bytes."""
    return text.encode("latin1")


class _Type:
    """Stand-in for ``numpy.dtype`` that accepts the name and byte order of plain numbers only."""

    def __init__(self, name: str, *flags: object) -> None:
        if not isinstance(name, str) or re.fullmatch("[biuf][1248]", name) is None:
            raise pickle.UnpicklingError(f"it asks for values of type {str(name)[:20]!r}")
        self.name = name

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        if not isinstance(order, str) or order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("it asks for values of a type that it describes itself")
        self.name = order + self.name


class _Values:
    """Stand-in for an array, filled when its state is set."""

    def __init__(self, kind: object, shape: object, letter: object) -> None:
        if kind is not _ARRAY:
            raise pickle.UnpicklingError("it begins with more than an empty array")
        self.array: Array = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, turned, content = state
        raw = content.encode("latin1") if isinstance(content, str) else content  # as Python 2 wrote it
        if not isinstance(kind, _Type) or not isinstance(raw, bytes):
            raise pickle.UnpicklingError("it holds an array of no numbers")
        flat = np.frombuffer(raw, np.dtype(kind.name))
        self.array = flat.reshape(shape, order="F" if turned else "C").astype(flat.dtype.newbyteorder("="))


def _unwrapped(value: Any) -> Any:
    """Replace stand-ins by arrays."""
    if isinstance(value, dict):
        return {_unwrapped(key): _unwrapped(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_unwrapped, value))
    if isinstance(value, _Type):
        return np.dtype(value.name)
    return value.array if isinstance(value, _Values) else value


_ARRAY = object()
"""Stand-in for ``numpy.ndarray``; not callable, so it cannot reserve the memory that a file claims."""
_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Values,
    ("numpy._core.multiarray", "_reconstruct"): _Values,
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    """Unpickler that builds arrays, lists, dictionaries, strings and numbers and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def _check_places(content: bytes) -> None:
    for code, place, _ in pickletools.genops(content):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(place or 0) <= len(content):
            raise pickle.UnpicklingError(f"it asks for place {place:,} in a file of {len(content):,} bytes")


def read_pickle(content: bytes, where: str) -> Any:
    """Read a dataset's pickle of arrays, lists, dictionaries, strings and numbers. It runs no code.

    Raises:
        PotstillError: the file is broken, or names anything else.
    """
    try:
        _check_places(content)
        return _unwrapped(_Unpickler(io.BytesIO(content), encoding="latin1").load())
    except _PICKLE_ERRORS as error:
        raise PotstillError(
            f"{where}: not a pickle of plain arrays ({reason(error)}); take the published file"
        ) from None


def read_cifar_binary(content: bytes, labels: int, where: str) -> tuple[Array, Array]:
    """CIFAR's binary version: rows of ``labels`` label bytes and 3 × 32 × 32 pixels.

    Returns:
        uint8 pictures (n, 3, 32, 32) and the last label byte of each (the fine one in CIFAR-100).

    Raises:
        PotstillError: the size is no whole number of rows.
    """
    row = labels + 3072
    if len(content) % row or not content:
        raise PotstillError(
            f"{where}: {len(content):,} bytes are not a whole number of {row}-byte rows; download it again"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, row)
    return rows[:, labels:].reshape(-1, 3, 32, 32), rows[:, labels - 1]


def read_mat(content: bytes, where: str) -> tuple[Array, Array]:
    """SVHN's ``*_32x32.mat``: ``X`` (32, 32, 3, n) and ``y`` (n, 1), where 10 stands for the digit 0.

    Returns:
        uint8 pictures (n, 3, 32, 32) and labels 0 … 9.

    Raises:
        PotstillError: not a MAT file with these two arrays.
    """
    from scipy.io import loadmat  # type: ignore[import-untyped,unused-ignore]  # slow, and of use for SVHN alone
    from scipy.io.matlab import MatReadError  # type: ignore[import-untyped,unused-ignore]

    try:
        found = loadmat(io.BytesIO(content), variable_names=("X", "y"))
        x, y = np.asarray(found["X"]), np.asarray(found["y"]).reshape(-1).astype(np.int64)
        if x.ndim != 4 or x.dtype != np.uint8 or x.shape[-1] != len(y):
            raise ValueError(f"X has shape {x.shape}, y {y.shape}")
    except (*_MAT_ERRORS, MatReadError) as error:
        raise PotstillError(f"{where}: not SVHN's cropped digits ({reason(error)}); take the published file") from None
    return x.transpose(3, 2, 0, 1), np.where(y == 10, 0, y)
