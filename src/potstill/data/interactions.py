"""The value `Interactions`: which items each user met, divided into parts to train, to choose and to test."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int, Int64
from torch import Tensor

__all__ = ["Interactions", "ItemLists"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemLists:
    """Lists of item numbers, one for each user. Legend: u users, t items of all lists."""

    items: Int64[Tensor, " t"]
    offsets: Int64[Tensor, " v"]
    """Start of each list, and the end of the last: u + 1 numbers."""

    @classmethod
    def of(cls, users: Int64[Tensor, " t"], items: Int64[Tensor, " t"], count: int) -> "ItemLists":
        """Return the lists of ``count`` users from pairs; items ascend in a list."""
        order = torch.from_numpy(np.lexsort((items.numpy(), users.numpy())))
        ends = torch.bincount(users, minlength=count).cumsum(0)
        return cls(items=items[order], offsets=torch.cat([torch.zeros(1, dtype=torch.int64), ends]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64[Tensor, " u"]:
        """Items of each list."""
        return self.offsets.diff()

    def rows(self, users: Int[Tensor, " m"], count: int) -> Bool[Tensor, "m d"]:
        """Return the lists of some users as rows over ``count`` items, True where an item is in the list."""
        users = users.cpu()
        lengths = self.lengths[users]
        row = torch.repeat_interleave(torch.arange(len(users)), lengths)
        first = torch.repeat_interleave(self.offsets[users] - (lengths.cumsum(0) - lengths), lengths)
        filled = torch.zeros(len(users), count, dtype=torch.bool)
        filled[row, self.items[first + torch.arange(len(row))]] = True
        return filled


@dataclass(frozen=True, kw_only=True, eq=False)
class Interactions:
    """Items that users met. Samples of the training part are rows of ``train``, and are scored on ``validation``; those
    of the test part are rows of both, and are scored on ``test``. Choices see the first two alone."""

    train: ItemLists
    validation: ItemLists
    test: ItemLists | None = None
    """``None``: samples are of the training part."""
    count: int
    """Number of items."""

    def met(self, users: Int[Tensor, " m"]) -> Bool[Tensor, "m d"]:
        """Return what is known of some users before they are scored."""
        known = self.train.rows(users, self.count)
        return known if self.test is None else known | self.validation.rows(users, self.count)

    def held_out(self, users: Int[Tensor, " m"]) -> Bool[Tensor, "m d"]:
        """Return what some users are scored on."""
        return (self.validation if self.test is None else self.test).rows(users, self.count)

    @property
    def for_choices(self) -> "Interactions":
        """The training part: what choices may look at."""
        return Interactions(train=self.train, validation=self.validation, count=self.count)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of all lists."""
        digest = hashlib.sha256(str(self.count).encode())
        for lists in (self.train, self.validation, self.test):
            for tensor in () if lists is None else (lists.offsets, lists.items):
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()
