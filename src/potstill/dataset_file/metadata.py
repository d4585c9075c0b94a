"""The card: what a set says of itself, checked before anything in it is believed."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from potstill._util.input_limits import check_limit
from potstill.core import InputSpec, Task
from potstill.core.registry import names, resolve
from potstill.dataset_file.files import parse_json
from potstill.errors import PotstillError

__all__ = [
    "BYTE_KEYS",
    "FIRST",
    "FORMAT",
    "INDEX_FORMAT",
    "has_scores",
    "input_from_json",
    "input_to_json",
    "is_classification",
    "metadata_text",
    "parse_metadata",
    "scores_to_json",
    "task_from_json",
    "task_to_json",
    "to_json",
]  # fmt: skip

FORMAT = "potstill/2"
FIRST = "potstill/1"
"""The first format: tensors as they are, in 32 and 64 bits. It is read, and no longer written."""
INDEX_FORMAT = "potstill-selection/2"
"""The format of a selection that is stored without its inputs."""
FIRST_INDICES = "potstill-selection/1"
_KEYS: dict[str, type] = {
    "method": str, "config": dict, "seed": int, "ipc": int, "classes": list, "input": dict, "normalization": dict,
    "training": dict, "source": dict, "outcome": dict, "bytes": dict, "cost": dict, "versions": dict,
}  # fmt: skip
_INNER: dict[tuple[str, str], type] = {
    ("input", "units"): str, ("source", "name"): str, ("source", "hash"): str, ("source", "samples"): int,
    ("outcome", "kind"): str, ("outcome", "message"): str,
}  # fmt: skip
"""Types of what may be missing but not be something else."""
BYTE_KEYS = ("inputs", "labels", "decoder", "total")
"""What the card's ``bytes`` always has."""


def to_json(value: Any) -> Any:
    """``value`` as a reader of the card gets it: tuples as lists, and ``None`` for numbers that JSON lacks.

    Raises:
        TypeError: it holds something that is not JSON.
    """
    if isinstance(value, Mapping):
        return {str(name): to_json(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.loads(json.dumps(value))


def metadata_text(card: Mapping[str, Any]) -> str:
    """The card as it is stored: equal cards, equal text.

    Raises:
        PotstillError: it is too long to be read back.
    """
    text = json.dumps(card, sort_keys=True, ensure_ascii=False, allow_nan=False)
    if re.search(r"[\ud800-\udfff]", text):  # names of files that are not text: UTF-8 cannot hold them, escapes can
        text = json.dumps(card, sort_keys=True, allow_nan=False)
    check_limit("card_bytes", len(text), "the card, which holds config and extra")
    return text


def parse_metadata(path: Path, metadata: Mapping[str, str], *, indices: bool = False) -> dict[str, Any]:
    """The card of the file at ``path``, which must be a whole set, or the ``indices`` of a selection.

    Raises:
        PotstillError: there is none, it is of another format, or a part of it is missing or of the wrong type.
    """
    text = metadata.get("card")
    if text is None:
        raise PotstillError(f"{path}: a safetensors file without a card; only files that potstill saved are sets")
    check_limit("card_bytes", len(text), str(path))
    try:
        card = parse_json(text)
    except ValueError as error:
        raise PotstillError(f"{path}: its card is not JSON ({str(error)[:120]}); get the file again") from error
    if not isinstance(card, dict):
        raise PotstillError(f"{path}: its card must be a JSON object; get the file again")
    written = card.get("format")
    expected = (INDEX_FORMAT, FIRST_INDICES) if indices else (FORMAT, FIRST)
    if written in (INDEX_FORMAT, FIRST_INDICES) and not indices:
        raise PotstillError(
            f"{path}: holds the indices of a selection and not its samples; put them together with the data first: "
            "potstill materialize FILE --data DATA --out SET.safetensors"
        )
    if written not in expected:
        newer = isinstance(written, str) and written.startswith("potstill")
        hint = "upgrade potstill to read it" if newer else "only files that potstill saved are sets"
        raise PotstillError(
            f"{path}: its format is {str(written)[:40]!r}, but this version reads {' and '.join(expected)}; {hint}"
        )
    if (wrong := _wrong(card)) is not None:
        raise PotstillError(f"{path}: its card lacks a valid {wrong!r}; get the file again")
    if not (card["classes"] or not is_classification(card)) or not all(isinstance(c, str) for c in card["classes"]):
        raise PotstillError(f"{path}: the card's classes must be names; get the file again")
    if len(set(card["classes"])) != len(card["classes"]):
        raise PotstillError(f"{path}: the card names a class twice; get the file again")
    return dict(card)


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def _wrong(card: Mapping[str, Any]) -> str | None:
    """The first part that is missing or of the wrong type."""
    for key, kind in _KEYS.items():
        if not _is(card.get(key), kind):
            return key
    for (outer, inner), kind in _INNER.items():
        if inner in card[outer] and not _is(card[outer][inner], kind):
            return f"{outer}.{inner}"
    if (wrong := _wrong_input(card["input"])) is not None:
        return wrong
    task = card.get("task", {"name": ""})
    if not isinstance(task, dict) or not isinstance(task.get("name"), str):
        return "task"
    if "labels" in card and not (isinstance(card["labels"], dict) and isinstance(card["labels"].get("kind"), str)):
        return "labels"
    for key in BYTE_KEYS:
        if not _is(card["bytes"].get(key), int) or card["bytes"][key] < 0:
            return f"bytes.{key}"
    if not isinstance(card.get("space", ""), str):
        return "space"
    return None


def _wrong_input(said: Mapping[str, Any]) -> str | None:
    """The first part of what the card says of an input that is missing or of the wrong type."""
    if not isinstance(said.get("kind"), str):
        return "input.kind"
    for name, least in (("shape", 0), ("levels", 1)):
        value = said.get(name, [] if name == "levels" else None)
        if not isinstance(value, list) or not all(_is(d, int) and d >= least for d in value):
            return f"input.{name}"
    parts = said.get("parts", [])
    if not isinstance(parts, list) or not all(isinstance(part, dict) and "parts" not in part for part in parts):
        return "input.parts"
    called = [part.get("name") for part in parts]
    if not all(isinstance(n, str) and n and "." not in n and "/" not in n for n in called):
        return "input.parts"
    if len(set(called)) != len(called) or (parts and said["shape"]):
        return "input.parts"
    return next((wrong for part in parts if (wrong := _wrong_input(part)) is not None), None)


def input_to_json(input: InputSpec) -> dict[str, Any]:
    """What the card says of an input: parts as a list, as a card does not keep the order of names."""
    said: dict[str, Any] = {"kind": input.kind, "shape": input.shape, "units": input.units}
    if input.kind == "image":
        said["horizontal_flip"] = input.horizontal_flip
    for name, more in (("columns", input.columns), ("levels", input.levels)):
        said |= {name: list(more)} if more else {}
    return said | ({"parts": [{"name": n, **input_to_json(part)} for n, part in input.parts]} if input.parts else {})


def input_from_json(said: Mapping[str, Any]) -> InputSpec:
    """What a card's ``input`` describes, once `read_card` has let it pass."""
    columns = said.get("columns")
    return InputSpec(
        kind=said["kind"],
        shape=tuple(said["shape"]),
        units=str(said.get("units", "")),
        horizontal_flip=said.get("horizontal_flip") is not False,
        columns=tuple(map(str, columns)) if isinstance(columns, list) else (),
        levels=tuple(said.get("levels", ())),
        parts=tuple((part["name"], input_from_json(part)) for part in said.get("parts", ())),
    )


def task_to_json(task: Task) -> dict[str, Any]:
    """What the card says of a task: its name in the registry and its fields."""
    return {"name": task.name, **(asdict(task) if is_dataclass(task) and not isinstance(task, type) else {})}


def scores_to_json(classes: int) -> dict[str, Any]:
    """What the card says under ``labels`` of labels that are scores. Cards of other labels say nothing there."""
    return {
        "kind": "scores",
        "hard_label": {"own": 1 - 1 / classes, "other": -1 / classes},
        "probabilities": "the nearest point of the simplex to scores + 1/k, in squared distance",
        "exports": "labels, y, soft_label and .soft.json are these probabilities; scores are under that name",
    }


def has_scores(card: Mapping[str, Any]) -> bool:
    """Whether the card says that labels are scores.

    Raises:
        PotstillError: it says that they are something else.
    """
    if (said := card.get("labels")) is None:
        return False
    if said["kind"] != "scores":
        raise PotstillError(
            f"its labels are {said['kind'][:40]!r}, but this version reads classes, probabilities and scores; upgrade "
            "potstill to read it"
        )
    return True


def is_classification(card: Mapping[str, Any]) -> bool:
    """Whether the set's targets are classes: also of files that say nothing of a task."""
    said = card.get("task")
    return not isinstance(said, Mapping) or said.get("name") == "classification"


def task_from_json(card: Mapping[str, Any]) -> Task | None:
    """The task that the card names; ``None`` where this machine has none of that name. No code from a file is run.

    Raises:
        PotstillError: its fields are not those of the task.
    """
    said = card.get("task") or {"name": "classification", "k": len(card["classes"])}
    if said["name"] not in names("tasks"):
        return None
    kind, values = resolve("tasks", said["name"]), {n: _frozen(v) for n, v in said.items() if n != "name"}
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)} if is_dataclass(kind) else set()
    if strange := [n for n, v in values.items() if n not in known or not _suits(v, hints[n])]:
        raise PotstillError(f"its card's task {said['name']!r} has no valid {strange[0][:40]!r}; get the file again")
    try:
        task: Task = kind(**values)
    except (TypeError, ValueError, PotstillError) as error:
        line = " ".join(str(error).split())[:120]
        raise PotstillError(f"its card's task {said['name']!r} is not whole ({line}); get the file again") from error
    return task


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _suits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON is of a field's type, as far as tuples, numbers, words and their unions tell."""
    inner = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_suits(value, one) for one in inner)
    if get_origin(hint) is tuple and isinstance(value, tuple):
        every = (inner[0],) * len(value) if inner[1:] == (Ellipsis,) else inner
        return len(every) == len(value) and all(map(_suits, value, every))
    if hint is float:
        return _is(value, int) or isinstance(value, float)
    return not isinstance(hint, type) or _is(value, hint)
