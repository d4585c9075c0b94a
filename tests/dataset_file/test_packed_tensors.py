"""Many small tensors lie in one tensor of the file, and come back by name, type and shape."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import potstill
from potstill._util.card import card_to_header, parse_card
from potstill.core import InputSpec, Normalization
from potstill.dataset_file import load, read_tensors, write_tensors
from potstill.dataset_file.files import DTYPES
from potstill.dataset_file.packed_tensors import LEAST, PACKED, set_file, unpack_tensors
from potstill.errors import PotstillError
from tests.build_set import build_set

PLAIN = 4
"""Tensors of `small_set` besides those that were learned, at most."""


def small_set(learned: int) -> potstill.Distilled:
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return build_set(
        x, torch.arange(6) % 3, method="dm", config={"lr": 1.0}, seed=3, ipc=2, classes=("a", "b", "c"),
        input=InputSpec(kind="image", shape=(1, 4, 4)), normalization=Normalization(torch.zeros(1), torch.ones(1)),
        training={}, source={"name": "toy", "samples": 9, "hash": "0" * 64}, outcome={"kind": "finished"}, cost={},
        learned={f"part {n}": torch.full((n % 3,), float(n)) for n in range(learned)},
    )  # fmt: skip


def test_tensors_come_back_with_the_metadata(tmp_path: Path) -> None:
    small = small_set(30)
    path = small.save(tmp_path / "small.safetensors")
    assert list(read_tensors(path, 1 << 20)[0]) == [PACKED]
    again = load(path)
    assert again.metadata == small.metadata
    assert list(again.tensors) == sorted(small.tensors)
    for name, tensor in small.tensors.items():
        assert again.tensors[name].dtype == tensor.dtype
        assert torch.equal(again.tensors[name], tensor)
    assert torch.equal(again.inputs, small.inputs)
    assert again.save(tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert [v.problem for v in potstill.verify(path)] == [""]


def test_the_header_shrinks_and_a_few_tensors_keep_their_names(tmp_path: Path) -> None:
    few = small_set(LEAST - PLAIN).save(tmp_path / "few.safetensors")
    assert PACKED not in read_tensors(few, 1 << 20)[0]
    many = small_set(40)
    write_tensors(tmp_path / "plain.safetensors", many.tensors, card_to_header(many.metadata))
    packed, plain = many.save(tmp_path / "many.safetensors").stat().st_size, tmp_path / "plain.safetensors"
    assert plain.stat().st_size - packed > 40 * 50
    assert torch.equal(load(plain).inputs, many.inputs)


def test_a_large_set_of_many_tensors_keeps_their_names() -> None:
    tensors = {f"{n}": torch.zeros(9000) for n in range(20)}
    _, pieces = set_file(Path("x"), tensors, {"bytes": {"total": 20 * 36000}})
    (length,) = struct.unpack("<Q", bytes(pieces[0][:8]))
    assert len(json.loads(bytes(pieces[0][8 : 8 + length]))) == 21


def test_a_value_that_is_cut_out_of_others_comes_back(tmp_path: Path) -> None:
    """A slice of one value keeps the stride of what it was cut from."""
    tensors = {f"{n}": torch.arange(8, dtype=torch.float16).reshape(2, 4)[:1, n % 4] for n in range(20)}
    path, content = tmp_path / "x.safetensors", set_file(Path("x"), tensors, {"bytes": {"total": 0}})[1]
    path.write_bytes(b"".join(content))
    stored, header = read_tensors(path, 1 << 20)
    found = unpack_tensors(path, stored, parse_card(header))
    assert [float(found[f"{n}"]) for n in range(20)] == [n % 4 for n in range(20)]


@st.composite
def some_tensors(draw: st.DrawFn) -> dict[str, Tensor]:
    names = draw(st.lists(st.text(max_size=8), min_size=LEAST, max_size=24, unique=True))
    found = {}
    for name in names:
        dtype, shape = draw(st.sampled_from(sorted(DTYPES))), draw(st.lists(st.integers(0, 3), max_size=3))
        values = torch.tensor(draw(st.lists(st.integers(0, 1), min_size=27, max_size=27)), dtype=torch.uint8)
        found[name] = values[: int(torch.tensor(shape).prod())].to(DTYPES[dtype]).reshape(shape)
    return found


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tensors=some_tensors())
def test_any_tensors_come_back(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path, content = tmp_path / "x.safetensors", set_file(Path("x"), tensors, {"bytes": {"total": 0}})[1]
    path.write_bytes(b"".join(content))
    stored, header = read_tensors(path, 1 << 20)
    metadata = parse_card(header)
    found = unpack_tensors(path, stored, metadata)
    assert PACKED not in metadata
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        # by bytes: some types cannot be compared
        assert found[name].reshape(-1).view(torch.uint8).tolist() == tensor.reshape(-1).view(torch.uint8).tolist()


GOOD = {"a": ["F32", 2], "b": ["BOOL", 1, 2], "c": ["U8"]}
BYTES = torch.tensor([0] * 8 + [1, 0, 7], dtype=torch.uint8)


def unpacked(layout: Any, tensors: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    return unpack_tensors(Path("x"), {PACKED: BYTES} if tensors is None else tensors, {PACKED: layout})


@pytest.mark.parametrize(
    "layout",
    [
        None, {}, "a", 3, [], [["a", "F32", 2]], {"a": []}, {"a": None}, {"a": "F32"}, {"a": ["F32", 2]},
        {**GOOD, "d": ["U8"]}, {**GOOD, "c": ["U9"]}, {**GOOD, "c": [["U8"]]}, {**GOOD, "c": [7]},
        {**GOOD, "c": ["U8", -1]}, {**GOOD, "c": ["U8", True]}, {**GOOD, "c": ["U8", 1.0]}, {**GOOD, "c": ["U8", [1]]},
        {**GOOD, "c": ["U8", 2**60]}, {**GOOD, "c": ["U8", *[1] * 99]}, {**GOOD, "d": ["U8", 0, 2**47, 2**47]},
        {"a": ["F32", 2], "b": ["F16", 1], "c": ["U8", 2]},
    ],
)  # fmt: skip
def test_a_list_that_is_not_of_its_bytes_is_refused(layout: Any) -> None:
    assert {name: t.tolist() for name, t in unpacked(GOOD).items()} == {"a": [0, 0], "b": [[True, False]], "c": 7}
    with pytest.raises(PotstillError, match=r"^x: its list of packed tensors is not that of its bytes; get the file"):
        unpacked(layout)


@pytest.mark.parametrize(
    "tensors",
    [{}, {"inputs": BYTES}, {PACKED: BYTES, "inputs": BYTES}, {PACKED: BYTES.float()}, {PACKED: BYTES[None]}],
)
def test_other_tensors_than_the_packed_one_are_refused(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(PotstillError, match="its list of packed tensors is not that of its bytes"):
        unpacked(GOOD, tensors)


def test_truth_values_are_checked() -> None:
    with pytest.raises(PotstillError, match="boolean tensor 'c' has other values"):
        unpacked({"a": ["F32", 2], "b": ["U8", 2], "c": ["BOOL"]})
