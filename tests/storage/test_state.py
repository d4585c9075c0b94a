"""States to tensors and back, and checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from potstill.errors import PotstillError
from potstill.storage import pack, read_checkpoint, unpack, write_checkpoint


@dataclass(frozen=True)
class Inner:
    weights: Mapping[str, Tensor]
    seed: int


@dataclass(frozen=True)
class Outer:
    inner: Inner
    parts: tuple[Tensor, ...]
    nested: Mapping[str, Mapping[str, Tensor]]
    rate: float
    name: str
    maybe: Inner | None
    nothing: Tensor | None
    flag: bool
    pairs: tuple[tuple[int, Tensor], ...]


def outer() -> Outer:
    inner = Inner({"a.b": torch.randn(3, dtype=torch.float64), "c/d": torch.tensor([1, 2])}, 2**61 + 1)
    return Outer(
        inner, (torch.ones(2), torch.zeros(0)), {"x": {"y": torch.tensor(3.5)}}, 0.1, "n", inner, None, True,
        ((1, torch.eye(2)),),
    )  # fmt: skip


def test_a_state_comes_back_bit_for_bit() -> None:
    before = outer()
    tensors, structure = pack(before)
    after = unpack(Outer, tensors, structure)
    again, structure_again = pack(after)
    assert structure == structure_again
    assert tensors.keys() == again.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, again[name])
        assert tensor.dtype == again[name].dtype
    assert (after.rate, after.name, after.flag, after.inner.seed) == (0.1, "n", True, 2**61 + 1)
    assert after.nothing is None
    assert isinstance(after.maybe, Inner)


def test_what_a_state_cannot_hold_is_named() -> None:
    @dataclass(frozen=True)
    class Bad:
        things: Mapping[str, object]

    with pytest.raises(TypeError, match=r"things\.x is a set"):
        pack(Bad({"x": {1, 2}}))


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "c"
    rng = torch.Generator().manual_seed(3)
    write_checkpoint(
        path, state=outer(), rng_state=rng.get_state(), step=7, identity={"lr": 1, "counts": (1, 2)}, meta={"s": 1.5}
    )
    kept = read_checkpoint(path, Outer, {"lr": 1, "counts": (1, 2)})
    assert (kept.step, kept.meta) == (7, {"s": 1.5})
    assert torch.equal(kept.rng_state, rng.get_state())
    with pytest.raises(PotstillError, match=r"another configuration: lr was 1 and now is 2;"):
        read_checkpoint(path, Outer, {"lr": 2, "counts": (1, 2)})
    write_checkpoint(path, state=outer(), rng_state=rng.get_state(), step=7, identity={"config": {"lr": 1}}, meta={})
    with pytest.raises(PotstillError, match=r"config\.lr was 1 and now is None"):
        read_checkpoint(path, Outer, {"config": {}})
    with pytest.raises(PotstillError, match="another version of the method"):
        read_checkpoint(path, Inner, {"config": {"lr": 1}})
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(PotstillError, match="cut off or damaged"):
        read_checkpoint(path, Outer, {"config": {"lr": 1}})
