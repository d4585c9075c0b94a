from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from potstill.core import Network, Normalization, Splits
from potstill.data import TensorSource, holdout
from potstill.dataset_file import Distilled
from potstill.testing.toy import toy_source
from tests.build_set import build_set

MakeSet = Callable[..., Distilled]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))


def _splits(kind: str) -> Splits:
    source = toy_source(kind, per_class=30)
    assert isinstance(source, TensorSource)
    train, test = holdout(source, 0.4, 3)
    return Splits(train=train, test=test)


@pytest.fixture
def adam_rounding() -> float:
    """How far apart two kernels may leave a weight in float64.

    A bias before a norm has a gradient of zero, of which rounding leaves up to 1e-15; Adam divides that by its ε of
    1e-8. Times a rate of 0.01, and some 16 steps.
    """
    return 16 * 0.01 * 1e-15 / 1e-8


@pytest.fixture
def pictures() -> Splits:
    """Four classes of 8×8 pictures: 72 to train on, 48 to test on."""
    return _splits("image")


@pytest.fixture
def table() -> Splits:
    """Four classes of rows of six columns."""
    return _splits("table")


@pytest.fixture
def make_set() -> MakeSet:
    """A distilled set out of the first samples of each class."""

    def build(
        splits: Splits,
        ipc: int = 2,
        *,
        labels: Tensor | None = None,
        normalization: Normalization | None = None,
        **card: Any,
    ) -> Distilled:
        train = splits.train
        k = len(train.classes)
        index = torch.cat([(train.labels == c).nonzero().flatten()[:ipc] for c in range(k)])
        inputs = train.raw(index)
        assert isinstance(inputs, Tensor)
        fields: dict[str, Any] = {
            "method": "dm", "config": {}, "seed": 0, "ipc": ipc, "classes": train.classes, "input": train.input,
            "normalization": normalization or train.normalization, "training": {},
            "source": {"name": train.name, "samples": len(train), "hash": train.content_hash},
            "outcome": {"kind": "finished", "message": "done", "step": 1},
            "cost": {"seconds": 0.0, "steps": 1, "peak_memory": 0, "device": "cpu"},
            "extra": {"network": "convnet-d1-w8" if train.input.kind == "image" else "mlp"},
        }  # fmt: skip
        return build_set(inputs, train.labels[index] if labels is None else labels, **(fields | card))

    return build


@dataclass(frozen=True)
class Double:
    """A factory of networks in float64: Adam blows up what rounding leaves of gradients that are zero."""

    made: Any

    @property
    def name(self) -> str:
        return str(self.made.name)

    @property
    def device(self) -> torch.device:
        return torch.device(self.made.device)

    def __call__(self, seed: int, /) -> Network:
        network: Network = self.made(seed)
        return network.double()


@pytest.fixture
def double() -> type[Double]:
    """Makes a factory of networks in float64."""
    return Double
