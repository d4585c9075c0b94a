"""Lightning's face of a set: a ``DataModule`` that trains on it, and validates and tests on real data.

It needs ``lightning``: ``pip install 'potstill[lightning]'``.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from potstill.core import Source
from potstill.data.splits import holdout
from potstill.data.subset import SourceView
from potstill.dataset_file import Distilled, load
from potstill.errors import PotstillError, PotstillWarning
from potstill.evaluation import describe_data_mismatch
from potstill.evaluation.fitting import check_compatible
from potstill.runs.load_data import as_splits, load_as_made, pick_device

try:
    from lightning import LightningDataModule
except ImportError as error:
    raise PotstillError(
        "a Lightning DataModule needs the package lightning; pip install 'potstill[lightning]'"
    ) from error

__all__ = ["DistilledData"]


class DistilledData(LightningDataModule):
    """Batches of (input, target): of the small set to train with, of real data to validate and to test with.

    All inputs are normalised as the set's card says. Targets are as the task has them: int64 classes, or float rows
    where the set's labels are soft (``cross_entropy`` takes both).

    Args:
        small: a set, or its path.
        data: what it was made of: anything ``load_data`` takes, or what it returned. Its test part is touched by
            ``test_dataloader`` alone. ``None``: there is only the small set.
        batch_size: of the small set.
        validation: a part of the real training data to validate with, drawn by ``seed``. The set was made of it, so
            that it flatters the set; it is enough to see when to stop, and no result.
        weighted: batches of (input, target, weight) of the small set, weights with mean 1.
        real_batch_size: of real data.
        seed: decides the order of the small set and what is validated with.
        **reading: options of ``load_data``.
    """

    def __init__(
        self,
        small: Distilled | str | Path,
        data: Any = None,
        *,
        batch_size: int = 64,
        validation: float = 0.1,
        weighted: bool = False,
        real_batch_size: int = 512,
        seed: int = 0,
        **reading: Any,
    ) -> None:
        """
        Raises:
            PotstillError: the set or the data cannot be read, or they are of other shapes or classes.

        Warns:
            PotstillWarning: the set was not made of this training data.
        """
        super().__init__()
        self.small = small if isinstance(small, Distilled) else load(small)
        self.batch_size, self.weighted, self.real_batch_size, self.seed = batch_size, weighted, real_batch_size, seed
        self._validation: Source | None = None
        self._test: Source | None = None
        if data is None:
            return
        splits = as_splits(load_as_made(self.small.metadata, data, **reading), pick_device("cpu"))
        check_compatible(self.small, splits.train)
        if (doubt := describe_data_mismatch(self.small.metadata, splits)) is not None:
            warnings.warn(doubt, PotstillWarning, stacklevel=2)
        if validation:
            self._validation = self._normalized(holdout(splits.train, validation, seed)[1])
        self._test = None if splits.test is None else self._normalized(splits.test)

    def _normalized(self, source: Source) -> Source:
        return SourceView.of(source, self.small.normalization)

    def train_dataloader(self) -> DataLoader[Any]:
        """The small set, in another order in each epoch."""
        rng = torch.Generator().manual_seed(self.seed)
        dataset: Dataset[Any] = self.small.with_weights() if self.weighted else self.small
        return DataLoader(dataset, batch_size=self.batch_size, shuffle=True, generator=rng)

    def val_dataloader(self) -> "DataLoader[Any] | list[Any]":
        """Training data that are real, in their order; none without ``data``."""
        return [] if self._validation is None else self._real(self._validation)

    def test_dataloader(self) -> DataLoader[Any]:
        """The test part, in its order.

        Raises:
            PotstillError: there is none.
        """
        if self._test is None:
            raise PotstillError("there is no test part to test with; give data that have one")
        return self._real(self._test)

    def _real(self, source: Source) -> DataLoader[Any]:
        order = BatchSampler(SequentialSampler(range(len(source))), self.real_batch_size, drop_last=False)
        return DataLoader(_Batches(source), sampler=order, batch_size=None)


class _Batches(Dataset[tuple[Any, Tensor]]):
    """Whole batches of a source, by the numbers of their samples."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Sequence[int]) -> tuple[Any, Tensor]:
        batch = self._source.fetch(torch.as_tensor(index))
        assert batch.y is not None
        return batch.x, batch.y
