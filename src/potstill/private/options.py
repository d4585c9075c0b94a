"""Choices of a private run: ε, δ, the split of the noise budget, and what is public."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

from potstill._util.strict_json import parse_json
from potstill.errors import PotstillError, unknown_name

__all__ = ["PrivateOption", "PrivateOptions", "parse_private"]

_LARGEST = 100.0
"""Largest ε: beyond it nothing is promised."""


@dataclass(frozen=True, kw_only=True)
class PrivateOptions:
    """Choices of a private run, all fixed before the data are touched.

    Raises:
        PotstillError: a value is out of its range.

    Examples:
        >>> PrivateOptions(epsilon=1.0, delta=1e-5).labeller
        0.6
    """

    epsilon: float
    """ε of everything in the file, above 0."""
    delta: float
    """δ, above 0 and below 1 over the number of records."""
    labeller: float = 0.6
    """Share of the budget for the labeller, a linear map on public features; 0: no labeller, hard labels."""
    cells: int = 10
    """Private cells of each class, whose noisy means are the starts."""
    steps: int = 40
    """Gradient steps of the labeller over all records."""
    public: Mapping[str, Any] = field(default_factory=dict)
    """Declared public facts: ``classes``, ``shape`` of pictures, ``columns`` of a table (ranges or categories)."""

    def __post_init__(self) -> None:
        numbers = {"epsilon": self.epsilon, "delta": self.delta, "labeller": self.labeller}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise PotstillError(f"private: {name} must be a number, but it is {value!r}; change it")
        if not 0 < self.epsilon <= _LARGEST:
            raise PotstillError(
                f"private: epsilon must be above 0 and at most {_LARGEST:g}, but it is {self.epsilon:g}; 1 is usual"
            )
        if not 0 < self.delta < 1:
            raise PotstillError(
                f"private: delta must be above 0 and below 1 over the number of records, but it is {self.delta:g}; "
                "1e-5 is usual"
            )
        if not 0 <= self.labeller <= 0.9:
            raise PotstillError(
                f"private: labeller is a share of the budget from 0 to 0.9, but it is {self.labeller:g}; change it"
            )
        for name, number in (("cells", self.cells), ("steps", self.steps)):
            if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 1000:
                raise PotstillError(f"private: {name} must be a whole number from 1 to 1000, but it is {number!r}")
        if not isinstance(self.public, Mapping):
            raise PotstillError("private: public must be a mapping of public facts, or the path of a JSON file of them")

    def to_json(self) -> dict[str, Any]:
        """Return the choices as JSON values."""
        return {f.name: json.loads(json.dumps(getattr(self, f.name))) for f in fields(self)}


PrivateOption: TypeAlias = PrivateOptions | Mapping[str, Any] | str | None
"""Options as a value, as a mapping, or as text such as ``epsilon=1,delta=1e-5``; ``None``: no formal privacy."""


def parse_private(option: PrivateOption) -> PrivateOptions | None:
    """Return the options of a private run; ``None``: the run is not private.

    Raises:
        PotstillError: ε or δ is missing, there is no such setting, or a value is out of its range.
    """
    if option is None or isinstance(option, PrivateOptions):
        return option
    values: dict[str, Any] = _parse_text(option) if isinstance(option, str) else dict(option)
    known = [f.name for f in fields(PrivateOptions)]
    for name in values:
        if name not in known:
            raise PotstillError(f"private: {unknown_name('setting', name, known)}")
    if missing := [name for name in ("epsilon", "delta") if name not in values]:
        raise PotstillError(f"private needs epsilon and delta, but {missing[0]} is missing; write epsilon=1,delta=1e-5")
    if isinstance(public := values.get("public"), str | Path):
        values["public"] = _read_public(Path(public))
    return PrivateOptions(**values)


def _parse_text(text: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for setting in text.split(","):
        name, equals, value = setting.strip().partition("=")
        if not equals or name in values:
            found = f"{name} stands there twice" if equals else f"{setting.strip()[:40]!r} has no ="
            raise PotstillError(f"private is written as epsilon=1,delta=1e-5, but {found}; correct it")
        kind = int if name in ("cells", "steps") else float
        if name == "public":
            values[name] = value
            continue
        try:
            values[name] = kind(value)
        except ValueError:
            number = "a whole number" if kind is int else "a number"
            raise PotstillError(f"private: {name} must be {number}, but it is {value[:40]!r}; change it") from None
    return values


def _read_public(path: Path) -> Mapping[str, Any]:
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PotstillError(f"{path}: public facts cannot be read ({error.strerror}); give a JSON file") from None
    except ValueError as error:
        raise PotstillError(f"{path}: public facts are not JSON ({str(error)[:120]}); correct the file") from None
    if not isinstance(found, dict):
        raise PotstillError(f"{path}: public facts must be a JSON object; correct the file")
    return found
