"""Attribute of each sample (sex, colour, hospital): for scores by attribute and for weights of draws.

Unlike groups, which a split keeps on one side, an attribute has its values on both sides of a split.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from potstill.data.groups import GroupValues
from potstill.errors import PotstillError

__all__ = [
    "Attribute",
    "attribute_column",
    "encode_attributes",
    "get_attribute",
    "refuse_attribute",
    "select_attribute",
]

_EXCLUDED = ":excluded"
"""After the name of a table's column: the column is the attribute and no input."""


@dataclass(frozen=True, eq=False)
class Attribute:
    """Attribute of n samples: the number of its value for each, and the values by number."""

    codes: Int[Tensor, " n"]
    """int64 in [0, len(values)), on the CPU."""
    values: tuple[str, ...]
    """Values by number; those of the training and the test part together."""

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, at: Int[Tensor, " m"]) -> Int[Tensor, " m"]:
        """Return the numbers of the samples at ``at``."""
        return self.codes[at]

    def select(self, at: Int[Tensor, " m"]) -> "Attribute":
        """Return the attribute of the samples at ``at``."""
        return replace(self, codes=self.codes[at])


def get_attribute(source: object) -> Attribute | None:
    """Return the attribute of a source's samples; ``None``: it was read without one."""
    return getattr(source, "attribute", None)


def select_attribute(attribute: Attribute | None, at: Int[Tensor, " m"]) -> Attribute | None:
    """Return the attribute of the samples at ``at``, if there is one."""
    return None if attribute is None else attribute.select(at)


def encode_attributes(train: GroupValues, test: GroupValues | None) -> tuple[Attribute, Attribute | None]:
    """Return the attributes of the training and the test part, with one numbering for both."""
    texts = [np.asarray(part).astype(str) for part in (train, test) if part is not None]
    values, codes = np.unique(np.concatenate(texts), return_inverse=True)
    numbers, names = torch.from_numpy(codes.reshape(-1).astype(np.int64)), tuple(map(str, values))
    rest = None if test is None else Attribute(numbers[len(train) :], names)
    return Attribute(numbers[: len(train)], names), rest


def attribute_column(option: str, columns: Sequence[str]) -> tuple[str, bool]:
    """Return the column of a table that ``option`` names, and whether it stays an input."""
    if option not in columns and option.endswith(_EXCLUDED):
        return option.removesuffix(_EXCLUDED), False
    return option, True


def refuse_attribute(option: Any, what: str) -> None:
    """Raise where an attribute is named for data that it is not read of.

    Raises:
        PotstillError: ``option`` is given.
    """
    if option is not None:
        raise PotstillError(
            f"an attribute is read of tables, arrays, folders of pictures with classes and pairs, not of {what}; leave "
            "`attribute=` out"
        )
