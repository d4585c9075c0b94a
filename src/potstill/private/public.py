"""Public facts of a private run: names, sizes and ranges that are known or declared, never read off the data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.core import InputSpec, Normalization
from potstill.data import TensorSource
from potstill.data.bundled import BUNDLED
from potstill.data.standard_datasets import STANDARD
from potstill.data.table_encoding import Column
from potstill.errors import PotstillError

__all__ = ["PublicFacts", "PublicRecords", "public_facts"]


@dataclass(frozen=True, kw_only=True)
class PublicFacts:
    """Everything about the data that a private run takes as known."""

    classes: tuple[str, ...]
    input: InputSpec
    columns: tuple[Column, ...] = ()
    """Declared columns of a table, in the order of the inputs."""
    low: tuple[float, ...] = ()
    """Declared lower bound of each input of a table."""
    high: tuple[float, ...] = ()
    origin: str = ""
    """``known`` for a standard data set, ``declared`` by the user."""

    @property
    def normalization(self) -> Normalization:
        """Data units to model space by constants alone."""
        if self.input.kind == "image":
            c = self.input.shape[0]
            return Normalization(torch.full((c,), 0.5), torch.full((c,), 0.5))
        low, high = torch.tensor(self.low), torch.tensor(self.high)
        return Normalization((low + high) / 2, (high - low) / 2)

    def bound(self, x: Tensor) -> Tensor:
        """Return inputs in public units: pixels in [0, 1], columns in [−1, 1]."""
        if self.input.kind == "image":
            return x.clamp(0, 1)
        return self.normalization.apply(x).clamp(-1, 1)

    def unbound(self, x: Tensor) -> Tensor:
        """Return inputs in data units."""
        return x.clamp(0, 1) if self.input.kind == "image" else self.normalization.invert(x.clamp(-1, 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class PublicRecords:
    """Records in the terms of public facts, for the door alone."""

    source: TensorSource
    facts: PublicFacts
    labels: Int[Tensor, " n"]
    """Class by the declared order."""
    places: Sequence[int] = ()
    """Position in the source of each declared input of a table; −1: a category that no record has."""

    def __call__(self, at: Int[Tensor, " m"]) -> Float[Tensor, "m ..."]:
        """Return the inputs at ``at`` in public units."""
        x = self.source.raw(at)
        if self.facts.input.kind == "image":
            return self.facts.bound(x)
        wide = torch.cat([x, torch.zeros(len(x), 1)], 1)
        return self.facts.bound(wide[:, list(self.places)] + self._offsets)

    @property
    def _offsets(self) -> Float[Tensor, " d"]:
        offsets = [0.0 if c.offset is None else c.offset for c in self.source.columns for _ in c.names]
        return torch.tensor([*offsets, 0.0])[list(self.places)] if offsets else torch.zeros(len(self.places))


def public_facts(train: TensorSource, declared: Mapping[str, Any]) -> PublicRecords:
    """Return the records in public terms.

    Args:
        train: the training split.
        declared: ``classes``, ``shape`` and ``columns`` that the user declares public.

    Raises:
        PotstillError: a fact that the run needs is neither known nor declared, or the data contradict it.
    """
    if unknown := sorted(set(declared) - {"classes", "shape", "columns"}):
        raise PotstillError(f"private: public has no {unknown[0]!r}; declare classes, shape or columns")
    is_known = train.name in BUNDLED or train.name in STANDARD
    origin = "known" if is_known and not declared else "declared"
    classes = _classes(train, declared, is_known)
    positions = torch.tensor([classes.index(name) for name in train.classes])
    labels = positions[train.labels]
    if train.input.kind == "image":
        shape = train.input.shape if is_known else _shape(declared)
        if shape != train.input.shape:
            raise PotstillError(
                f"private: the public shape is {'×'.join(map(str, shape))}, but pictures of {train.name} are "
                f"{'×'.join(map(str, train.input.shape))}; declare theirs, or read them with `size=`"
            )
        facts = PublicFacts(classes=classes, input=train.input, origin=origin)
        return PublicRecords(source=train, facts=facts, labels=labels)
    columns, low, high = _columns(declared, train)
    spec = InputSpec(
        kind="table", shape=(len(low),), units=train.input.units, columns=tuple(n for c in columns for n in c.names)
    )
    facts = PublicFacts(classes=classes, input=spec, columns=columns, low=low, high=high, origin=origin)
    return PublicRecords(source=train, facts=facts, labels=labels, places=_places(train, columns))


def _classes(train: TensorSource, declared: Mapping[str, Any], is_known: bool) -> tuple[str, ...]:
    names = declared.get("classes", train.classes if is_known else None)
    if names is None:
        raise PotstillError(
            f"private: class names of {train.name} are in the file, so they must be public; declare them: "
            'public=FACTS.json with {"classes": ["NAME", …]}'
        )
    if not isinstance(names, list | tuple) or len(names) < 2 or len(set(map(str, names))) != len(names):
        raise PotstillError("private: public classes must be a list of at least two different names; correct it")
    classes = tuple(map(str, names))
    if undeclared := [name for name in train.classes if name not in classes]:
        raise PotstillError(f"private: class {undeclared[0]!r} of {train.name} is not among the public classes; add it")
    return classes


def _shape(declared: Mapping[str, Any]) -> tuple[int, ...]:
    shape = declared.get("shape")
    if not isinstance(shape, list | tuple) or len(shape) != 3 or not all(type(d) is int and d > 0 for d in shape):
        raise PotstillError(
            'private: the shape of pictures must be public; declare channels, height, width: {"shape": [3, 32, 32]}'
        )
    return tuple(shape)


def _columns(
    declared: Mapping[str, Any], train: TensorSource
) -> tuple[tuple[Column, ...], tuple[float, ...], tuple[float, ...]]:
    """Return declared columns, and the range of each input that comes from them."""
    found = declared.get("columns")
    if not isinstance(found, Mapping) or not found:
        raise PotstillError(
            f"private: ranges and categories of {train.name} must be public; declare all columns: "
            '{"columns": {"age": [17, 90], "town": ["A", "B"], …}}'
        )
    columns, low, high = [], [], []
    for name, value in found.items():
        if isinstance(value, list | tuple) and len(value) > 1 and all(isinstance(v, str) for v in value):
            columns.append(Column(name=str(name), kind="category", values=tuple(value)))
            low += [0.0] * len(value)
            high += [1.0] * len(value)
            continue
        numbers = isinstance(value, list | tuple) and len(value) == 2 and all(type(v) in (int, float) for v in value)
        if not numbers or not -math.inf < value[0] < value[1] < math.inf:
            raise PotstillError(
                f"private: column {str(name)[:40]!r} needs a range [LOW, HIGH] or a list of categories; correct it"
            )
        columns.append(Column(name=str(name), kind="number"))
        low.append(float(value[0]))
        high.append(float(value[1]))
    return tuple(columns), tuple(low), tuple(high)


def _places(train: TensorSource, columns: Sequence[Column]) -> list[int]:
    """Return the position in the source of each declared input, after a check that all of its columns are declared."""
    own = train.columns or tuple(
        Column(name=name, kind="number")
        for name in (train.input.columns or [f"x{i}" for i in range(train.input.shape[0])])
    )
    names = {column.name for column in columns}
    for column in own:
        if column.name not in names:
            raise PotstillError(f"private: column {column.name!r} is not declared public; add its range or categories")
        if column.kind == "date" or column.fill is not None or column.absent:
            why = "holds dates" if column.kind == "date" else "has missing values, which are filled from the data"
            raise PotstillError(f"private: column {column.name!r} {why}; leave it out, or make it a number first")
    at = {name: i for i, name in enumerate(n for column in own for n in column.names)}
    for column in columns:
        other = next((c for c in own if c.name == column.name), None)
        if other is None:
            raise PotstillError(f"private: {train.name} has no column {column.name!r}; leave it out of public")
        if (other.kind == "category") != (column.kind == "category"):
            raise PotstillError(
                f"private: column {column.name!r} is a {other.kind}, but is declared otherwise; change it"
            )
        if missing := [v for v in other.values if v not in column.values]:
            raise PotstillError(f"private: column {column.name!r} has the undeclared category {missing[0]!r}; add it")
    return [at.get(name, -1) for column in columns for name in column.names]
