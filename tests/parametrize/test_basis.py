"""Principal directions of the training images: the asset, and what decodes by it."""

import copy
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill._util.cache_dir import cache_dir
from potstill.codecs import decode, encoded_bytes
from potstill.core import ContextCodec, DecodeContext, Splits
from potstill.dataset_file.load import validated_set
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.planning.plan import plan
from potstill.pretraining.basis import Basis, BasisCodec, FitDirections
from potstill.testing import check_parametrization, toy_source

SOURCE = toy_source("image", side=10)
DATA = Splits(train=SOURCE, test=None)
PIXELS = SOURCE.raw(torch.arange(len(SOURCE))).flatten(1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def directions(rank: int) -> torch.Tensor:
    return FitDirections(train=SOURCE, rank=rank, space="data").compute()["directions"]


def test_directions_are_orthonormal_and_span_what_an_exact_decomposition_does() -> None:
    found = directions(5)
    torch.testing.assert_close(found @ found.T, torch.eye(6), atol=1e-5, rtol=0)
    assert float((found[0].abs() - 0.1).abs().max()) < 1e-6, "the constant image comes first"
    rest = PIXELS - PIXELS.mean(1, keepdim=True)
    exact = torch.linalg.svd(rest, full_matrices=False).Vh[:5]
    lost, least = ((rest - rest @ v.T @ v).square().sum() for v in (found, exact))
    assert float(lost) <= 1.001 * float(least)
    assert torch.equal(found, directions(5))
    assert directions(1000).shape == (100, 100)


def test_the_parametrization_keeps_the_contract() -> None:
    check_parametrization(lambda: Basis(rank=8))
    with pytest.raises(PotstillError, match="rank must be at least 1"):
        Basis(rank=0)
    with pytest.raises(PotstillError, match="raise it or lower rank"):
        Basis(rank=8).sizes((8,), (1, 4, 4))


def test_a_set_stores_coefficients_and_names_the_basis_by_its_hash(tmp_path: Path) -> None:
    small = potstill.distill(
        DATA, "dm", parametrization="basis:rank=9", ipc=1, network="convnet-d1-w4", codec="float32", steps=2
    )
    assert {name: tuple(t.shape) for name, t in small.payload.items()} == {"coefficients": (4 * 10, 10)}
    assert [(a["name"], a["recipe"]) for a in small.metadata["decoder"]["assets"]] == [
        ("basis", {"rank": 9, "space": "model"})
    ]
    path = small.save(tmp_path / "small.safetensors")
    assert torch.equal(potstill.load(path).inputs, small.inputs)


def coreset(**more: Any) -> potstill.Distilled:
    return potstill.distill(DATA, "random", ipc=3, codec="basis:rank=20,bits=10", **more)


def test_a_codec_writes_coefficients_and_reads_them_by_the_basis(cache: Path, tmp_path: Path) -> None:
    small, codec = coreset(), BasisCodec(rank=20, bits=10)
    assert isinstance(codec, ContextCodec)
    assert small.index is not None
    real = PIXELS[small.index]
    d = directions(20)
    lost = (small.inputs.flatten(1) - real @ d.T @ d).abs().max()
    assert float(lost) < 0.01, "what the directions say, but for the rounding"
    assert small.metadata["bytes"]["inputs"] == codec.size((12, 1, 10, 10)) < 12 * 100
    said = small.metadata["codec"]
    assert said["assets"] == [
        {"name": "basis", "recipe": {"rank": 20, "space": "data"}, "hash": hash_tensors({"directions": d})}
    ]
    path = small.save(tmp_path / "small.safetensors")
    assert torch.equal(potstill.load(path).inputs, small.inputs)
    (file,) = (cache / "decoders").iterdir()
    brought = shutil.copy(file, tmp_path / "brought.safetensors")
    shutil.rmtree(cache)
    alone = potstill.load(path)
    assert torch.equal(alone.labels, small.labels)
    with pytest.raises(PotstillError, match=r"small\.safetensors: it decodes by the asset 'basis' of hash"):
        _ = alone.inputs
    assert torch.equal(potstill.load(path, decoder=brought).inputs, small.inputs)


@pytest.mark.parametrize(
    "change",
    [
        {"codec": "basis:rank=0"}, {"codec": "basis:bits=99"}, {"codec": "uniform:bits=8"}, {"codec": "bases"},
        {"shape": [12, 1, 9, 10]}, {"shape": [11, 1, 10, 10]}, {"within": None}, {"within": {"codec": "ints"}},
    ],
)  # fmt: skip
def test_a_wrong_description_is_refused_in_one_line(change: dict[str, Any]) -> None:
    small = coreset()
    card = copy.deepcopy(small.metadata)
    card["codec"]["tensors"]["inputs"] |= change
    with pytest.raises(PotstillError) as told:
        validated_set(Path("x"), card, dict(small.tensors))
    assert str(told.value).startswith("x: ")
    assert "\n" not in str(told.value)


def test_what_cannot_be_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match="codec basis writes whole inputs of one tensor; take parametrization"):
        potstill.distill(DATA, "dm", parametrization="small", ipc=1, codec="basis")
    with pytest.raises(PotstillError, match="they are not at hand; take uint8"):
        BasisCodec().pack(torch.zeros(2, 1, 4, 4))
    with pytest.raises(PotstillError, match="basis needs images"):
        potstill.distill(Splits(train=toy_source("table"), test=None), "random", ipc=1, codec="basis")
    with pytest.raises(PotstillError, match="decodes by an asset cannot be joined"):
        potstill.concat([coreset(), coreset(seed=1)])
    assert cache_dir() == tmp_path / "cache"


def test_a_plan_counts_it_and_a_budget_buys_it() -> None:
    said = plan(DATA, "random", ipc=3, codec="basis:rank=20,bits=10", profile_steps=0)
    assert [(n.name, n.cached, n.recipe["rank"]) for n in said.networks] == [("basis", 0, 20)]
    small = potstill.distill(DATA, "random", bytes=900, codec="basis:rank=20,bits=10")
    assert len(small) > 12
    assert small.metadata["bytes"]["total"] <= 900


def test_a_tensor_by_a_codec_with_context_needs_that_context() -> None:
    context = DecodeContext(input=SOURCE.input, assets={"basis": {"directions": directions(3)}})
    encoded = BasisCodec(rank=3).pack(SOURCE.raw(torch.arange(5)), context)
    assert decode(encoded, context).shape == (5, 1, 10, 10)
    assert encoded_bytes(encoded) == BasisCodec(rank=3).size((5, 1, 10, 10))
    with pytest.raises(PotstillError, match="its codec is 'basis:rank=3,bits=8', but this version reads"):
        decode(encoded)
    with pytest.raises(PotstillError, match="does not write inputs of"):
        decode(encoded, dataclasses.replace(context, input=toy_source("image", side=8).input))
