"""A method's state as tensors and JSON, and back, bit for bit, so that runs can resume.

Memory order and device of tensors come back too: kernels sum in memory order, which decides the last bits. Sharing is
lost: one tensor in two places comes back as two.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from potstill.dataset_file.files import DTYPES

__all__ = ["pack_state", "unpack_state"]

T = TypeVar("T")
_SCALARS = (int, float, bool, str, type(None))
_STORED = frozenset(DTYPES.values())


def pack_state(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Return the tensors of a state by path (not copied), and the JSON structure of the state.

    Args:
        state: a dataclass of tensors, numbers, strings, None, tuples and mappings (with string keys) of these, and
            other such dataclasses.

    Raises:
        TypeError: another value is in it; the message says where.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _pack(state, "", tensors)


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        return _pack_tensor(value.detach(), path or "value", tensors)
    # Types are compared exactly: a subclass (an enum, a named tuple, a numpy number) would come back as its base.
    if type(value) in _SCALARS:
        return {"value": value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        return {"fields": {n: _pack(getattr(value, n), _join(path, n), tensors) for n in names}}
    if type(value) is tuple:
        return {"tuple": [_pack(v, _join(path, str(n)), tensors) for n, v in enumerate(value)]}
    if isinstance(value, Mapping) and all(type(name) is str for name in value):
        # Pairs, not an object: the order of a mapping evolves with a run like its values.
        return {"mapping": [[n, _pack(v, _join(path, _escape(n)), tensors)] for n, v in value.items()]}
    what = f"a {type(value).__name__}" + (" with names that are not strings" if isinstance(value, Mapping) else "")
    raise TypeError(
        f"a state holds tensors, numbers, strings, tuples, mappings and dataclasses, but {path or 'it'} is {what}; "
        "keep it out of the state or turn it into a tensor"
    )


def _pack_tensor(value: Tensor, path: str, tensors: dict[str, Tensor]) -> Any:
    if value.layout != torch.strided or value.dtype not in _STORED:
        raise TypeError(
            f"a state holds dense tensors of the types that a file knows, but {path} is {value.dtype} "
            f"({value.layout}); convert it"
        )
    tensors[path] = value.resolve_conj().resolve_neg()
    strides = value.stride()
    order = sorted(range(value.ndim), key=lambda d: -strides[d])
    if value.is_contiguous() or not value.permute(order).is_contiguous():
        return {"tensor": [path, str(value.device), None]}
    return {"tensor": [path, str(value.device), order]}


def _escape(name: str) -> str:
    """Escape dots, so that ``{"a.b": …}`` and ``{"a": {"b": …}}`` have different paths."""
    return name.replace("\\", "\\\\").replace(".", "\\.")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def unpack_state(kind: type[T], tensors: Mapping[str, Tensor], structure: Any) -> T:
    """Return the state that ``pack_state`` took apart, its tensors copied to their devices.

    Args:
        kind: dataclass of the state; its annotations give nested dataclasses.

    Raises:
        TypeError: the structure does not fit ``kind``, or a tensor's device is not here.
        KeyError: a tensor is missing.
    """
    state: T = _unpack(kind, tensors, structure)
    return state


def _unpack(kind: Any, tensors: Mapping[str, Tensor], node: Any) -> Any:
    if not isinstance(node, Mapping) or len(node) != 1:
        raise TypeError(f"one of tensor, value, fields, tuple and mapping is required, but there is {node!r}")
    ((what, content),) = node.items()
    if what == "tensor":
        return _unpack_tensor(tensors, *content)
    if what == "value":
        return content
    if what == "fields":
        owner = _dataclass(kind)
        names = {f.name for f in dataclasses.fields(owner)}
        if names != set(content):
            raise TypeError(f"{owner.__name__} has the fields {sorted(names)}, but {sorted(content)} were stored")
        hints = get_type_hints(owner)
        return owner(**{n: _unpack(hints[n], tensors, v) for n, v in content.items()})
    if what == "tuple":
        inner = _arguments(kind, tuple)
        kinds = [inner[0] if inner[1:] == (Ellipsis,) else (inner[n] if n < len(inner) else Any)
                 for n in range(len(content))]  # fmt: skip
        return tuple(_unpack(k, tensors, v) for k, v in zip(kinds, content, strict=True))
    if what == "mapping":
        inner = _arguments(kind, Mapping)
        return {n: _unpack(inner[1] if len(inner) == 2 else Any, tensors, v) for n, v in content}
    raise TypeError(f"one of tensor, value, fields, tuple and mapping is required, but there is {what!r}")


def _unpack_tensor(tensors: Mapping[str, Tensor], name: str, device: str, order: list[int] | None) -> Tensor:
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise TypeError(f"{name} was on {device}, which is not here")
    tensor = tensors[name].to(device)
    if order is not None:
        inverse = sorted(range(len(order)), key=order.__getitem__)
        tensor = tensor.permute(order).contiguous().permute(inverse)
    return tensor.clone()


def _members(kind: Any) -> Iterator[Any]:
    """Yield the members of an annotation: itself, or those of ``X | None``."""
    if get_origin(kind) in (typing.Union, types.UnionType):
        for member in get_args(kind):
            yield from _members(member)
    else:
        yield kind


def _arguments(kind: Any, container: type) -> tuple[Any, ...]:
    for choice in _members(kind):
        origin = get_origin(choice)
        if isinstance(origin, type) and issubclass(origin, container):
            return get_args(choice)
    return ()


def _dataclass(kind: Any) -> Any:
    """Return the dataclass of an annotation, also of ``X | None``."""
    origins = [get_origin(choice) or choice for choice in _members(kind)]
    classes = [o for o in origins if isinstance(o, type) and dataclasses.is_dataclass(o)]
    if len(classes) == 1:
        return classes[0]
    raise TypeError(f"a dataclass was stored where {kind!r} is annotated; annotate it with its class")
