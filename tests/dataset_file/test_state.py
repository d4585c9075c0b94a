"""States to tensors and back, and checkpoints."""

import enum
import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill.core import DecodeContext, InputSpec
from potstill.dataset_file import load, pack_state, read_checkpoint, read_tensors, unpack_state, write_checkpoint
from potstill.errors import PotstillError
from potstill.parametrize import Pixels
from potstill.rng import generator
from potstill.testing import toy_problem


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
    many: tuple[Inner, ...] | None
    named: Mapping[str, Inner] | None


def outer() -> Outer:
    inner = Inner({"a.b": torch.randn(3, dtype=torch.float64), "c/d": torch.tensor([1, 2])}, 2**61 + 1)
    return Outer(
        inner, (torch.ones(2), torch.zeros(0)), {"x": {"y": torch.tensor(3.5)}}, 0.1, "n", inner, None, True,
        ((1, torch.eye(2)),), (inner,), {"b": inner, "a": inner},
    )  # fmt: skip


def test_a_state_comes_back_bit_for_bit() -> None:
    before = outer()
    tensors, structure = pack_state(before)
    after = unpack_state(Outer, tensors, json.loads(json.dumps(structure)))
    again, structure_again = pack_state(after)
    assert structure == structure_again
    assert tensors.keys() == again.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, again[name])
        assert tensor.dtype == again[name].dtype
    assert (after.rate, after.name, after.flag, after.inner.seed) == (0.1, "n", True, 2**61 + 1)
    assert after.nothing is None
    assert isinstance(after.maybe, Inner)
    assert after.many is not None
    assert isinstance(after.many[0], Inner)
    assert after.named is not None
    assert list(after.named) == ["b", "a"]
    assert isinstance(after.named["a"], Inner)


@dataclass(frozen=True)
class Loose:
    tensors: Mapping[str, Tensor | Mapping[str, Tensor]]
    numbers: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()


dtypes = st.sampled_from([
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
    torch.float32, torch.float64, torch.complex64,
])  # fmt: skip


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any bits (NaN included) of any type, shape and memory order."""
    dtype, shape = draw(dtypes), draw(st.lists(st.integers(0, 3), max_size=4))
    count = int(torch.tensor(shape).prod()) * dtype.itemsize
    raw = draw(st.binary(min_size=count, max_size=count))
    raw = bytes(b & 1 for b in raw) if dtype is torch.bool else raw
    made = torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)
    return made.permute(draw(st.permutations(range(len(shape)))))


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.text(st.sampled_from("a.\\0/é"), max_size=3), tensors(), max_size=4),
    st.lists(st.floats()).map(tuple),
    st.lists(st.text(st.characters())).map(tuple),
)
def test_any_state_survives_a_checkpoint(
    tmp_path: Path, parts: dict[str, Tensor], numbers: tuple[float, ...], texts: tuple[str, ...]
) -> None:
    before = Loose({**parts, "inner": parts}, numbers, texts)
    path = tmp_path / "c"
    write_checkpoint(path, state=before, rng_state=torch.Generator().get_state(), step=1, identity={}, meta={})
    after = read_checkpoint(path, Loose, {}).state
    assert repr(after.numbers) == repr(numbers)
    assert after.texts == texts
    assert list(after.tensors) == list(before.tensors)
    for name, tensor in parts.items():
        for kept in (after.tensors[name], after.tensors["inner"][name]):  # type: ignore[index]
            assert isinstance(kept, Tensor)
            assert (kept.dtype, kept.shape) == (tensor.dtype, tensor.shape)
            assert bits(kept) == bits(tensor)
            if tensor.numel():
                sizes = [d for d in range(tensor.ndim) if tensor.shape[d] > 1]  # other strides are never used
                assert [kept.stride(d) for d in sizes] == [tensor.stride(d) for d in sizes]


def test_names_with_dots_are_not_paths() -> None:
    one, two = torch.tensor([1]), torch.tensor([2])
    kept = unpack_state(Loose, *pack_state(Loose({"a.b": one, "a": {"b": two}})))
    assert torch.equal(kept.tensors["a.b"], one)  # type: ignore[arg-type]
    assert torch.equal(kept.tensors["a"]["b"], two)


def test_unpacked_tensors_are_copies() -> None:
    x = torch.zeros(2, requires_grad=True)
    kept = unpack_state(Loose, *pack_state(Loose({"x": x})))
    kept.tensors["x"].add_(1)  # type: ignore[union-attr]
    assert x.tolist() == [0, 0]


class Kind(enum.IntEnum):
    ONE = 1


class Pair(NamedTuple):
    a: int
    b: int


def test_what_a_state_cannot_hold_is_named() -> None:
    @dataclass(frozen=True)
    class Bad:
        things: Mapping[str, object]

    for value, said in (
        ({1, 2}, "set"), ([1], "list"), (Kind.ONE, "Kind"), (Pair(1, 2), "Pair"), (np.float64(1), "float64"),
        (torch.Size([1]), "Size"), ({1: 2}, "dict with names that are not strings"), (Kind, "EnumType"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=rf"things\.x is a {said}"):
            pack_state(Bad({"x": value}))
    for tensor in (torch.zeros(1, dtype=torch.complex128), torch.eye(2).to_sparse()):
        with pytest.raises(TypeError, match=r"dense tensors .* but things\.x is"):
            pack_state(Bad({"x": tensor}))


def test_a_device_that_is_not_here_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    packed, structure = pack_state(Loose({"x": torch.zeros(1)}))
    structure["fields"]["tensors"]["mapping"][0][1]["tensor"][1] = "cuda:0"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TypeError, match=r"tensors\.x was on cuda:0, which is not here"):
        unpack_state(Loose, packed, structure)


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
    with pytest.raises(PotstillError, match="no metadata key card"):
        load(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(PotstillError, match="cut off or damaged"):
        read_checkpoint(path, Outer, {"config": {"lr": 1}})


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "c"
    write_checkpoint(path, state=outer(), rng_state=torch.Generator().get_state(), step=7, identity={"a": 1}, meta={})
    tensors, metadata = read_tensors(path, 2**20)
    safetensors.torch.save_file(tensors, path, metadata)  # without the hash, by which all damage would be seen at once
    raw = bytearray(path.read_bytes())
    reach = data.draw(st.sampled_from([len(raw) - 1, 2_000]))  # the header, more often than chance has it
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, reach))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    path.with_name("c.before").unlink(missing_ok=True)  # of another example
    refused = ""
    try:
        kept = read_checkpoint(path, Outer, {"a": 1})
        assert isinstance(kept.state, Outer)
    except PotstillError as error:
        refused = str(error)
    assert "\n" not in refused


def test_a_failed_checkpoint_keeps_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    rng = torch.Generator().get_state()
    write_checkpoint(tmp_path / "c", state=outer(), rng_state=rng, step=1, identity={}, meta={})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PotstillError, match="No space left on device"):
        write_checkpoint(tmp_path / "c", state=outer(), rng_state=rng, step=2, identity={}, meta={})
    assert read_checkpoint(tmp_path / "c", Outer, {}).step == 1
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_pixels_are_their_own_payload() -> None:
    x = torch.rand(2, 1, 3, 3)
    assert Pixels().sizes((8, 11), (1, 2, 2)) == (2, 2)
    assert Pixels().encode(x, toy_problem(), generator(0))["inputs"] is x
    assert Pixels().decode({"inputs": x}, DecodeContext(input=InputSpec(kind="image", shape=(1, 2, 2)))) is x
