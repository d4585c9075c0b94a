"""A view of some samples of any source, under another normalization."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from potstill.core import Batch, Inputs, InputSpec, Normalization, Source, Task
from potstill.data.attributes import Attribute, get_attribute, select_attribute
from potstill.data.groups import get_groups
from potstill.tasks import get_targets, get_task

__all__ = ["SourceView"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceView:
    """View of a ``core.Source``: chosen samples, another normalization.

    What `TensorSource` and `StreamSource` do for themselves, for a source that keeps the contract and no more.
    """

    source: Source
    normalization: Normalization
    index: Int[Tensor, " n"]
    """Positions of the samples, in this order."""

    @classmethod
    def of(cls, source: Source, normalization: Normalization) -> "SourceView":
        """Return a view of all samples of ``source``."""
        return cls(source=source, normalization=normalization, index=torch.arange(len(source)))

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def input(self) -> InputSpec:
        return self.source.input

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    @property
    def labels(self) -> Int[Tensor, " n"]:
        return self.source.labels[self.index]

    @property
    def groups(self) -> Int[Tensor, " n"] | None:
        groups = get_groups(self.source)
        return None if groups is None else groups[self.index]

    @property
    def attribute(self) -> Attribute | None:
        return select_attribute(get_attribute(self.source), self.index)

    @property
    def weights(self) -> Tensor | None:
        weights: Tensor | None = getattr(self.source, "weights", None)
        return None if weights is None else weights[self.index]

    @property
    def task(self) -> Task:
        return get_task(self.source)

    @property
    def targets(self) -> Tensor:
        return get_targets(self.source)[self.index]

    @property
    def device(self) -> torch.device:
        return self.source.device

    @property
    def content_hash(self) -> str:
        """Hash of the whole source."""
        return self.source.content_hash

    def __len__(self) -> int:
        return len(self.index)

    def raw(self, index: Int[Tensor, " m"], /) -> Inputs:
        return self.source.raw(self.index[index.cpu()])

    def fetch(self, index: Int[Tensor, " m"], /) -> Batch:
        batch = self.source.fetch(self.index[index.cpu()])
        return replace(batch, x=self.normalization.apply(self.raw(index)))

    def subset(self, index: Int[Tensor, " m"], /) -> "SourceView":
        return replace(self, index=self.index[index])

    def to(self, device: torch.device | str, /) -> "SourceView":
        return replace(self, source=self.source.to(device), normalization=self.normalization.to(device))
