"""Decoders by a pool of real rows: a parametrization of mixtures, and a codec of the nearest row's number.

The pool is an asset: it is in no set's file, which names it by its hash. A reader finds it in the cache or brings it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from potstill.codecs import decode, encode_ints, index_bytes
from potstill.core import Asset, AssetContext, DecodeContext, Encoded, Payload, Problem, Source
from potstill.errors import PotstillError


@dataclass(frozen=True)
class TakeRows:
    """The only job of `Pool`: so cheap that the data are its cache."""

    train: Source
    rows: int

    def is_cached(self) -> bool:
        return True

    def load(self) -> Payload:
        return self.compute()

    def build(self) -> None:
        return None

    def compute(self) -> Payload:
        n = len(self.train)
        index = torch.arange(self.rows) * n // self.rows
        return {"rows": self.train.fetch(index).x.flatten(1).cpu()}

    def remaining(self) -> float:
        return 0.0

    def estimate(self) -> tuple[Callable[[], object], float]:
        return self.compute, 1.0


@dataclass(frozen=True, kw_only=True)
class Pool:
    """``rows`` evenly spaced training samples as an asset: a tensor (rows, d) in model space."""

    rows: int
    name: str = "pool"

    @property
    def recipe(self) -> Mapping[str, float | int | str]:
        return {"rows": self.rows}

    def jobs(self, ground: AssetContext) -> tuple[TakeRows, ...]:
        return (TakeRows(ground.train, self.rows),)

    def open(self, parts: Sequence[Payload]) -> Payload:
        return parts[0]

    def placeholder(self, jobs: Sequence[TakeRows]) -> Payload:
        return jobs[0].compute()

    def adopt(self, value: Any, ground: AssetContext) -> Payload:
        return value

    def describe_work(self, missing: Sequence[TakeRows]) -> str:
        return f"taking {self.rows} rows"

    def provenance(self, value: Payload, ground: AssetContext) -> Mapping[str, Mapping[str, Any]]:
        return {}


@dataclass(frozen=True, kw_only=True)
class Mixtures:
    """Every input is a convex mixture of the pool's rows; its weights are stored, as logits (n, rows)."""

    rows: int = 16
    """Rows of the pool."""

    @property
    def bounded(self) -> bool:
        return False

    def assets(self, problem: Problem, /) -> tuple[Asset, ...]:
        return (Pool(rows=self.rows),)

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        if min(numbers) < self.rows:
            raise PotstillError(f"mixtures: one input has {self.rows} weights, but a class may store {min(numbers)}")
        return tuple(n // self.rows for n in numbers)

    def encode(self, x: Tensor, problem: Problem, rng: Generator, /) -> Payload:
        """Weights that favour near rows."""
        return {"logits": -torch.cdist(x.flatten(1), problem.context.assets["pool"]["rows"].to(x))}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        logits = payload["logits"]
        return (logits.softmax(1) @ context.assets["pool"]["rows"].to(logits)).reshape(-1, *context.shape)


@dataclass(frozen=True, kw_only=True)
class NearestRow:
    """A few bits for each input: the number of the pool's nearest row."""

    rows: int = 16
    """Rows of the pool."""
    label_bits: int = 8

    def assets(self, problem: Problem, /) -> tuple[Asset, ...]:
        return (Pool(rows=self.rows),)

    def size(self, shape: tuple[int, ...], /) -> int:
        return index_bytes(shape[0], self.rows)

    def pack(self, x: Tensor, context: DecodeContext | None = None, /) -> Encoded:
        if context is None:
            raise PotstillError("nearest-row writes whole inputs by the pool of a run; take another codec")
        numbers = encode_ints(torch.cdist(x.flatten(1), context.assets["pool"]["rows"]).argmin(1))
        said = {"codec": f"nearest-row:rows={self.rows}", "shape": list(x.shape), "within": dict(numbers.metadata)}
        return Encoded(numbers.tensors, said)

    def unpack(self, stored: Encoded, context: DecodeContext, /) -> Tensor:
        numbers = decode(Encoded(stored.tensors, stored.metadata["within"]))
        return context.assets["pool"]["rows"][numbers].reshape(-1, *context.shape)
