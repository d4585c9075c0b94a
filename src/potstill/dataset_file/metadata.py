"""Metadata of a set: JSON in its file, validated before it is used."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from potstill._util.card import CARD, FORMAT, INDEX_FORMAT, parse_card
from potstill.core import InputSpec, Task
from potstill.core.registry import names, resolve
from potstill.errors import PotstillError
from potstill.kinds import get_kind

__all__ = [
    "BYTE_KEYS",
    "FORMAT",
    "INDEX_FORMAT",
    "has_scores",
    "input_from_json",
    "input_to_json",
    "is_classification",
    "parse_metadata",
    "scores_to_json",
    "task_from_json",
    "task_to_json",
    "to_json",
]  # fmt: skip

_KEYS: dict[str, type] = {
    "method": str, "config": dict, "seed": int, "ipc": int, "classes": list, "input": dict, "normalization": dict,
    "training": dict, "source": dict, "outcome": dict, "bytes": dict, "cost": dict, "versions": dict,
}  # fmt: skip
_INNER: dict[tuple[str, str], type] = {
    ("input", "units"): str, ("source", "name"): str, ("source", "hash"): str, ("source", "samples"): int,
    ("outcome", "kind"): str, ("outcome", "message"): str,
}  # fmt: skip
"""Types of optional keys."""
BYTE_KEYS = ("inputs", "labels", "decoder", "total")
"""Required keys of ``bytes``."""


def to_json(value: Any) -> Any:
    """Return ``value`` as JSON reads it back: tuples as lists, ``None`` for numbers that are not finite.

    Raises:
        TypeError: a value is not JSON.
    """
    if isinstance(value, Mapping):
        return {str(name): to_json(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.loads(json.dumps(value))


def parse_metadata(path: Path, header: Mapping[str, str], *, indices: bool = False) -> dict[str, Any]:
    """Return the validated metadata of the file at ``path``.

    Args:
        header: text by key, of the safetensors file.
        indices: the file must hold indices of a selection, not a whole set.

    Raises:
        PotstillError: there are none, they are of another format, or a key is missing or of the wrong type.
    """
    if CARD not in header:
        raise PotstillError(
            f"{path}: not a set, as it has no metadata key card; only files that potstill saved are sets"
        )
    try:
        metadata = parse_card(header)
    except PotstillError as error:
        raise PotstillError(f"{path}: {error}") from error
    except ValueError as error:
        raise PotstillError(f"{path}: its metadata are not JSON ({str(error)[:120]}); get the file again") from error
    if not isinstance(metadata, dict):
        raise PotstillError(f"{path}: its metadata must be a JSON object; get the file again")
    written, expected = metadata.get("format"), INDEX_FORMAT if indices else FORMAT
    if written == INDEX_FORMAT and not indices:
        raise PotstillError(
            f"{path}: holds the indices of a selection and not its samples; put them together with the data first: "
            "potstill materialize FILE --data DATA --out SET.safetensors"
        )
    if written != expected:
        is_ours = isinstance(written, str) and written.startswith("potstill")
        hint = "read it with the version that wrote it" if is_ours else "only files that potstill saved are sets"
        raise PotstillError(f"{path}: its format is {str(written)[:40]!r}, but this version reads {expected}; {hint}")
    if (key := _invalid_key(metadata)) is not None:
        raise PotstillError(f"{path}: its metadata lack a valid {key!r}; get the file again")
    classes = metadata["classes"]
    if not (classes or not is_classification(metadata)) or not all(isinstance(c, str) for c in classes):
        raise PotstillError(f"{path}: its classes must be names; get the file again")
    if len(set(classes)) != len(classes):
        raise PotstillError(f"{path}: two of its classes have one name; get the file again")
    return dict(metadata)


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _invalid_key(metadata: Mapping[str, Any]) -> str | None:
    """Return the first key that is missing or of the wrong type."""
    for key, kind in _KEYS.items():
        if not _is(metadata.get(key), kind):
            return key
    for (outer, inner), kind in _INNER.items():
        if inner in metadata[outer] and not _is(metadata[outer][inner], kind):
            return f"{outer}.{inner}"
    if (nested := _invalid_input_key(metadata["input"])) is not None:
        return nested
    for outer, inner in (("task", "name"), ("labels", "kind")):
        value = metadata.get(outer, {inner: ""})
        if not isinstance(value, dict) or not isinstance(value.get(inner), str):
            return outer
    for part in BYTE_KEYS:
        if not _is(metadata["bytes"].get(part), int) or metadata["bytes"][part] < 0:
            return f"bytes.{part}"
    return None if isinstance(metadata.get("space", ""), str) else "space"


def _invalid_input_key(described: Mapping[str, Any], part: bool = False) -> str | None:
    """Return the first key of ``input`` that is missing or of the wrong type."""
    if not isinstance(described.get("kind"), str):
        return "input.kind"
    for name, least in (("shape", 0), ("levels", 1)):
        value = described.get(name, [] if name == "levels" else None)
        ragged = part and name == "shape" and isinstance(value, list) and value[:1] == [-1]
        if not isinstance(value, list) or not all(_is(d, int) and d >= least for d in value[ragged:]):
            return f"input.{name}"
    if "frames" in described and not _is_grid(described["frames"], described["shape"]):
        return "input.frames"
    parts = described.get("parts", [])
    if not isinstance(parts, list) or not all(isinstance(part, dict) and "parts" not in part for part in parts):
        return "input.parts"
    part_names = [part.get("name") for part in parts]
    if not all(isinstance(n, str) and n and "." not in n and "/" not in n for n in part_names):
        return "input.parts"
    if len(set(part_names)) != len(part_names) or (parts and described["shape"]):
        return "input.parts"
    return next((key for part in parts if (key := _invalid_input_key(part, True)) is not None), None)


def _is_grid(frames: Any, shape: list[int]) -> bool:
    """Return whether these are rows and columns of equal tiles of an image of ``shape``."""
    if not isinstance(frames, list) or len(frames) != 2 or len(shape) != 3:
        return False
    return all(_is(n, int) and n >= 1 and side % n == 0 for n, side in zip(frames, shape[1:], strict=True))


def input_to_json(input: InputSpec) -> dict[str, Any]:
    """Return the metadata's ``input``: parts as a list, as JSON objects have no order."""
    described: dict[str, Any] = {"kind": input.kind, "shape": input.shape, "units": input.units}
    if get_kind(input).augmentable:
        described["horizontal_flip"] = input.horizontal_flip
    for name, more in (("columns", input.columns), ("levels", input.levels), ("frames", input.frames)):
        described |= {name: list(more)} if more else {}
    if input.parts:
        described["parts"] = [{"name": n, **input_to_json(part)} for n, part in input.parts]
    return described


def input_from_json(described: Mapping[str, Any]) -> InputSpec:
    """Return the input that validated metadata describe."""
    columns = described.get("columns")
    return InputSpec(
        kind=described["kind"],
        shape=tuple(described["shape"]),
        units=str(described.get("units", "")),
        horizontal_flip=described.get("horizontal_flip") is not False,
        columns=tuple(map(str, columns)) if isinstance(columns, list) else (),
        levels=tuple(described.get("levels", ())),
        frames=tuple(described.get("frames", ())),
        parts=tuple((part["name"], input_from_json(part)) for part in described.get("parts", ())),
    )


def task_to_json(task: Task) -> dict[str, Any]:
    """Return the metadata's ``task``: its registered name and its fields."""
    if not is_dataclass(task) or isinstance(task, type):
        return {"name": task.name}
    standard = {f.name: f.default for f in fields(task) if f.name in getattr(task, "left_out", ())}
    return {"name": task.name, **{n: v for n, v in asdict(task).items() if n not in standard or v != standard[n]}}


def scores_to_json(classes: int) -> dict[str, Any]:
    """Return the metadata's ``labels`` for labels that are scores; other labels have no such key."""
    return {
        "kind": "scores",
        "hard_label": {"own": 1 - 1 / classes, "other": -1 / classes},
        "probabilities": "the nearest point of the simplex to scores + 1/k, in squared distance",
        "exports": "labels, y, soft_label and .soft.json are these probabilities; scores are under that name",
    }


def has_scores(metadata: Mapping[str, Any]) -> bool:
    """Return whether labels are scores.

    Raises:
        PotstillError: labels are of an unknown kind.
    """
    if (labels := metadata.get("labels")) is None:
        return False
    if labels["kind"] != "scores":
        raise PotstillError(
            f"its labels are {labels['kind'][:40]!r}, but this version reads classes, probabilities and scores; "
            "upgrade potstill"
        )
    return True


def is_classification(metadata: Mapping[str, Any]) -> bool:
    """Return whether the targets are classes, which is the default."""
    task = metadata.get("task")
    return not isinstance(task, Mapping) or task.get("name") == "classification"


def task_from_json(metadata: Mapping[str, Any]) -> Task | None:
    """Return the task that the metadata name; ``None``: this machine has none of that name.

    Raises:
        PotstillError: its fields are not those of the task.
    """
    described = metadata.get("task") or {"name": "classification", "k": len(metadata["classes"])}
    name = described["name"]
    if name not in names("tasks"):
        return None
    kind, values = resolve("tasks", name), {n: _to_tuple(v) for n, v in described.items() if n != "name"}
    hints = get_type_hints(kind)
    field_names = {f.name for f in fields(kind)} if is_dataclass(kind) else set()
    if invalid := [n for n, v in values.items() if n not in field_names or not _matches(v, hints[n])]:
        raise PotstillError(f"its task {name!r} has no valid {invalid[0][:40]!r}; get the file again")
    try:
        task: Task = kind(**values)
    except (TypeError, ValueError, PotstillError) as error:
        line = " ".join(str(error).split())[:120]
        raise PotstillError(f"its task {name!r} is incomplete ({line}); get the file again") from error
    return task


def _to_tuple(value: Any) -> Any:
    return tuple(map(_to_tuple, value)) if isinstance(value, list) else value


def _matches(value: Any, hint: Any) -> bool:
    """Return whether a JSON value is of a field's type, as far as tuples, numbers, texts and their unions tell."""
    inner = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_matches(value, member) for member in inner)
    if get_origin(hint) is tuple and isinstance(value, tuple):
        members = (inner[0],) * len(value) if inner[1:] == (Ellipsis,) else inner
        return len(members) == len(value) and all(map(_matches, value, members))
    if hint is float:
        return _is(value, int) or isinstance(value, float)
    return not isinstance(hint, type) or _is(value, hint)
