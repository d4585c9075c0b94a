"""A state as tensors and JSON, and back, bit for bit: what makes a run resumable."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from torch import Tensor

__all__ = ["pack", "unpack"]

T = TypeVar("T")
_SCALARS = (int, float, bool, str, type(None))


def pack(state: Any) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a state by path, and a JSON value that says where they belong.

    Args:
        state: a dataclass of tensors, numbers, strings, None, tuples and mappings (with string keys) of these, and
            other such dataclasses.

    Raises:
        TypeError: something else is in it; the message says where.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _pack(state, "", tensors)


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path or "value"] = value.detach()
        return {"tensor": path or "value"}
    if isinstance(value, _SCALARS):
        return {"value": value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        return {"fields": {n: _pack(getattr(value, n), _join(path, n), tensors) for n in names}}
    if isinstance(value, tuple):
        return {"tuple": [_pack(v, _join(path, str(n)), tensors) for n, v in enumerate(value)]}
    if isinstance(value, Mapping):
        return {"mapping": {n: _pack(v, _join(path, n), tensors) for n, v in value.items()}}
    raise TypeError(
        f"a state holds tensors, numbers, strings, tuples, mappings and dataclasses, but {path or 'it'} is a "
        f"{type(value).__name__}; keep it out of the state or turn it into a tensor"
    )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def unpack(kind: type[T], tensors: Mapping[str, Tensor], structure: Any) -> T:
    """The state that ``pack`` took apart.

    Args:
        kind: the dataclass of the state; nested dataclasses are found through its annotations.

    Raises:
        TypeError: the structure does not fit ``kind``.
        KeyError: a tensor is missing.
    """
    made: T = _unpack(kind, tensors, structure)
    return made


def _unpack(kind: Any, tensors: Mapping[str, Tensor], node: Any) -> Any:
    if not isinstance(node, Mapping) or len(node) != 1:
        raise TypeError(f"one of tensor, value, fields, tuple and mapping is required, but there is {node!r}")
    ((what, content),) = node.items()
    if what == "tensor":
        return tensors[content].clone()
    if what == "value":
        return content
    if what == "fields":
        owner = _dataclass(kind)
        hints = get_type_hints(owner)
        names = {f.name for f in dataclasses.fields(owner)}
        if names != set(content):
            raise TypeError(f"{owner.__name__} has the fields {sorted(names)}, but {sorted(content)} were stored")
        return owner(**{n: _unpack(hints[n], tensors, v) for n, v in content.items()})
    inner = get_args(kind)
    if what == "tuple":
        kinds = [inner[0] if len(inner) == 2 and inner[1] is Ellipsis else (inner[n] if n < len(inner) else Any)
                 for n in range(len(content))]  # fmt: skip
        return tuple(_unpack(k, tensors, v) for k, v in zip(kinds, content, strict=True))
    if what == "mapping":
        return {n: _unpack(inner[1] if len(inner) == 2 else Any, tensors, v) for n, v in content.items()}
    raise TypeError(f"one of tensor, value, fields, tuple and mapping is required, but there is {what!r}")


def _dataclass(kind: Any) -> Any:
    """The dataclass that an annotation means, also as ``X | None``."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return kind
    if get_origin(kind) in (typing.Union, types.UnionType):
        found = [k for k in get_args(kind) if isinstance(k, type) and dataclasses.is_dataclass(k)]
        if len(found) == 1:
            return found[0]
    raise TypeError(f"a dataclass was stored where {kind!r} is annotated; annotate it with its class")
