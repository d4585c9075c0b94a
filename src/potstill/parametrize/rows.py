"""Rows that a table can hold: one category in each column, truth values, whole numbers, and nothing beyond the ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from potstill.core import DecodeContext, Normalization, Payload, Problem, Source
from potstill.core.nested import single_tensor
from potstill.errors import PotstillError
from potstill.parametrize.pixels import Pixels

__all__ = ["Rows", "TableColumns", "has_categories"]

_AT_ONCE = 65_536
"""Rows that are read at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class TableColumns:
    """Values that each column of a table can have, in the data's own units."""

    low: Float[Tensor, " d"]
    high: Float[Tensor, " d"]
    is_whole: Bool[Tensor, " d"]
    """True for columns of whole numbers."""
    groups: Int[Tensor, "g w"]
    """Positions of each category's values, filled up with d."""

    @classmethod
    def of(cls, train: Source) -> "TableColumns":
        """Return those of a table's training rows."""
        rows = [single_tensor(train.raw(at), "rows") for at in torch.split(torch.arange(len(train)), _AT_ONCE)]
        low = torch.stack([part.amin(0) for part in rows]).amin(0)
        high = torch.stack([part.amax(0) for part in rows]).amax(0)
        is_whole = torch.stack([(part == part.round()).all(0) for part in rows]).all(0)
        members, at = list[Tensor](), 0
        for column in _columns(train):
            width = len(column.values) if column.kind == "category" else 1
            if width > 1:
                members.append(torch.arange(at, at + width))
            at += width
        widest = max([len(group) for group in members], default=0)
        padded = [F.pad(group, (0, widest - len(group)), value=len(low)) for group in members]
        groups = torch.stack(padded) if padded else torch.zeros(0, 0, dtype=torch.int64)
        return cls(low=low, high=high, is_whole=is_whole, groups=groups)

    def nearest(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Return the nearest rows that a table can hold: of a category the largest value is 1 and the others are 0."""
        n, d = x.shape
        found = torch.minimum(torch.maximum(x, self.low.to(x)), self.high.to(x))
        found = torch.where(self.is_whole.to(x.device), found.round(), found)
        if not len(self.groups):
            return found
        groups = self.groups.to(x.device)
        values = F.pad(x, (0, 1), value=-torch.inf)[:, groups]
        largest = torch.zeros_like(values).scatter_(2, values.argmax(2, keepdim=True), 1.0)
        filled = F.pad(found, (0, 1))
        filled[:, groups.flatten()] = largest.reshape(n, -1)
        return filled[:, :d]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a table, decoded to the nearest ones that a table can hold, with the gradient straight through.

    Decoding: of a category's values the largest becomes 1 and the others 0; whole numbers and truth values are rounded;
    no number leaves the range of the training rows; ``∂x/∂z = 1``. What a method sees, what is measured and what is
    exported are then the same rows. The file holds the rows.
    """

    kinds: ClassVar[tuple[str, ...]] = ("table",)
    columns: TableColumns | None = field(default=None, repr=False, compare=False)
    """Columns of the training rows; ``None``: not bound to data."""
    normalization: Normalization | None = field(default=None, repr=False, compare=False)

    @property
    def bounded(self) -> bool:
        """True: the payload holds values of inputs."""
        return True

    def bind(self, train: Source, /) -> "Rows":
        """Return the parametrization with the columns of ``train``.

        Raises:
            PotstillError: the data are no table.
        """
        if train.input.kind != "table":
            raise PotstillError(
                f"parametrization rows decodes to rows of a table, but {train.name} is {train.input.kind} data; take "
                "pixels"
            )
        return replace(self, columns=TableColumns.of(train), normalization=train.normalization)

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the rows of each class that its number of values allows."""
        return Pixels().sizes(numbers, shape)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return ``{"inputs": x}``."""
        return {"inputs": x}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return rows that a table can hold, in model space; the gradient is that of the payload."""
        x = payload["inputs"]
        columns, normalization = self._bound
        with torch.no_grad():
            near = normalization.apply(columns.nearest(normalization.invert(x)))
        return x + (near - x).detach()

    def stored(self, x: Tensor, /) -> Tensor:
        """Return decoded rows (n, d) in the data's own units, without what arithmetic left of them: a 1 is a 1."""
        return self._bound[0].nearest(x)

    @property
    def _bound(self) -> tuple[TableColumns, Normalization]:
        if self.columns is None or self.normalization is None:
            raise PotstillError("parametrization rows needs the columns of a table; it works in a run alone")
        return self.columns, self.normalization

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """Return one row for each input."""
        return Pixels().class_rows(payload, sizes, classes)


def has_categories(train: Source) -> bool:
    """Return whether a table has a column of categories that spread over several values."""
    return train.input.kind == "table" and any(
        column.kind == "category" and len(column.values) > 1 for column in _columns(train)
    )


def _columns(train: Source) -> Sequence[Any]:
    """Return the columns that a loader found; none of arrays of numbers."""
    columns: Sequence[Any] = getattr(train, "columns", ())
    return columns
