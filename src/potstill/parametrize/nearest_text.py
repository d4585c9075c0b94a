"""Real texts inside the loop: what is optimised is a vector, what the method sees is its nearest real text."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.core import DecodeContext, Payload, Problem, Source
from potstill.core.nested import single_tensor
from potstill.errors import PotstillError
from potstill.parametrize.pixels import Pixels

__all__ = ["NearestText"]

_AT_ONCE = 8192
"""Training texts that are fetched at a time."""


@dataclass(frozen=True, kw_only=True)
class NearestText:
    """Vectors of texts, decoded to those of the nearest training texts of their class, with the gradient straight
    through.

    Decoding: ``x = c[argmin ‖c − z‖]`` over vectors ``c`` of real texts in model space, ``∂x/∂z = 1``. The file holds
    the texts. Of data without classes all texts are candidates.
    """

    kinds: ClassVar[tuple[str, ...]] = ("text",)
    candidates: Float[Tensor, "n d"] | None = field(default=None, repr=False, compare=False)
    """Vectors of the training texts in model space; ``None``: not bound to data."""
    labels: Int[Tensor, " n"] | None = field(default=None, repr=False, compare=False)

    @property
    def bounded(self) -> bool:
        """True: the payload holds values of inputs."""
        return True

    def bind(self, train: Source, /) -> "NearestText":
        """Return the parametrization with the texts of ``train`` as candidates.

        Raises:
            PotstillError: the data are no texts.
        """
        if not getattr(train, "texts", ()):
            raise PotstillError(
                f"parametrization nearest-text decodes to real texts, but {train.name} has none; choose another"
            )
        parts = [
            single_tensor(train.fetch(at).x, "nearest-text") for at in torch.split(torch.arange(len(train)), _AT_ONCE)
        ]
        return replace(self, candidates=torch.cat(parts), labels=train.labels.to(train.device))

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        """Return the texts of each class that its number of values allows."""
        return Pixels().sizes(numbers, shape)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Return vectors and the class of each."""
        sizes = torch.tensor(problem.sizes)
        return {"inputs": x, "classes": torch.arange(len(sizes)).repeat_interleave(sizes).to(x.device)}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        """Return vectors of the nearest texts; the gradient is that of the vectors themselves."""
        x = payload["inputs"]
        near = self._bound[0][self.nearest(payload)].to(x)
        return x + (near - x).detach()

    def nearest(self, payload: Payload, /) -> Int[Tensor, " m"]:
        """Return the training text that each vector decodes to."""
        candidates, labels = self._bound
        x, classes = payload["inputs"].detach(), payload["classes"]
        found = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        for c in torch.unique(classes).tolist():
            rows, pool = torch.where(classes == c)[0], torch.where(labels == c)[0]
            real = candidates[pool].to(x)
            distances = real.square().sum(1)[None] - 2 * x[rows] @ real.T
            found[rows] = pool[distances.argmin(1)]
        return found

    def class_rows(self, payload: Payload, sizes: tuple[int, ...], classes: range, /) -> Mapping[str, slice]:
        """Return one row for each text."""
        return Pixels().class_rows(payload, sizes, classes)

    @property
    def _bound(self) -> tuple[Tensor, Tensor]:
        if self.candidates is None or self.labels is None:
            raise PotstillError("parametrization nearest-text needs real texts; it works in a run alone")
        return self.candidates, self.labels
