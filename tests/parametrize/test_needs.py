"""A parametrization that decodes by an asset: a linear generator, of which a set stores latents alone."""

import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

import potstill
from potstill._util.cache_dir import cache_dir
from potstill.augment.names import named_augmentation
from potstill.codecs import Uniform
from potstill.core import (
    Asset,
    AssetContext,
    DecodeContext,
    InputSpec,
    Payload,
    Problem,
    RequiresAssets,
    Splits,
    registry,
)
from potstill.dataset_file import read_tensors, write_tensors
from potstill.dataset_file.load import validated_set
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.nn import factory
from potstill.parametrize.named_inputs import parse_parametrization
from potstill.parametrize.quantization_aware import QuantizationAware
from potstill.planning.plan import plan
from potstill.testing import check_parametrization, toy_problem, toy_source

SOURCE = toy_source("image")
DATA = Splits(train=SOURCE, test=None)
MAKE = factory("convnet-d1-w4", SOURCE.input, 4)
GROUND = AssetContext(train=SOURCE, network=MAKE, augmentation=lambda name: named_augmentation(name, SOURCE))


# --- a generator, its asset and its job ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """The principal directions of all inputs, as a job."""

    hash: str
    x: Tensor
    rank: int

    @property
    def path(self) -> Path:
        return cache_dir() / "bases" / f"{self.hash}-{self.rank}.safetensors"

    def is_cached(self) -> bool:
        return self.path.exists()

    def load(self) -> Payload | None:
        return read_tensors(self.path, 2**20)[0] if self.is_cached() else None

    def build(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(self.path, self.compute(), {})

    def compute(self) -> dict[str, Tensor]:
        centred = self.x - self.x.mean(0)
        return {"mean": self.x.mean(0), "rows": torch.linalg.svd(centred, full_matrices=False).Vh[: self.rank]}

    def remaining(self) -> float:
        return 1.0

    def estimate(self) -> tuple[Callable[[], object], float]:
        return self.compute, 1.0


@dataclass(frozen=True)
class Basis:
    """What `Linear` decodes by."""

    rank: int
    name: str = "basis"

    @property
    def recipe(self) -> Mapping[str, float | int | str]:
        return {"rank": self.rank}

    def jobs(self, ground: AssetContext) -> tuple[Fit]:
        x = ground.train.fetch(torch.arange(len(ground.train))).x
        assert isinstance(x, Tensor)
        return (Fit(ground.train.content_hash, x.flatten(1), self.rank),)

    def open(self, parts: Sequence[Payload]) -> Payload:
        return parts[0]

    def placeholder(self, jobs: Sequence[Fit]) -> Payload:
        d = jobs[0].x.shape[1]
        return {"mean": torch.zeros(d), "rows": torch.eye(self.rank, d)}

    def adopt(self, value: Any, ground: AssetContext) -> Any:
        return value

    def describe_work(self, missing: Sequence[Fit]) -> str:
        return f"fitting a basis of {self.rank}"

    def provenance(self, value: Any, ground: AssetContext) -> Mapping[str, Mapping[str, Any]]:
        return {}


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Latents (n, rank), and directions that are in no file."""

    rank: int = 6

    @property
    def bounded(self) -> bool:
        return False

    def assets(self, problem: Problem, /) -> tuple[Asset, ...]:
        return (Basis(self.rank),)

    def sizes(self, numbers: tuple[int, ...], shape: tuple[int, ...], /) -> tuple[int, ...]:
        return tuple(min(n // self.rank, 8) for n in numbers)

    def encode(self, x: Any, problem: Problem, rng: Generator, /) -> Payload:
        basis = problem.context.assets["basis"]
        return {"latents": (x.flatten(1) - basis["mean"]) @ basis["rows"].T}

    def decode(self, payload: Payload, context: DecodeContext, /) -> Tensor:
        basis = context.assets["basis"]
        return (payload["latents"] @ basis["rows"] + basis["mean"]).reshape(-1, *context.shape)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(registry._BUILTIN["parametrizations"], "linear", f"{__name__}:Linear")
    return tmp_path / "cache"


def made(**more: Any) -> potstill.Distilled:
    asked: dict[str, Any] = {"ipc": 1, "network": "convnet-d1-w4", "codec": "float32", "steps": 4, **more}
    return potstill.distill(DATA, "dm", parametrization="linear:rank=6", **asked)


def truth() -> dict[str, Tensor]:
    return Basis(6).jobs(GROUND)[0].compute()


# --- from distilling to reading ---------------------------------------------------------------------------------------


def test_a_set_says_what_it_decodes_by_and_is_read_by_it_alone(cache: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    small, basis = made(preparing=lambda *row: seen.append(row)), truth()
    assert seen == [("basis", 0, 1), ("basis", 1, 1)]
    said = small.metadata["decoder"]
    assert said["assets"] == [{"name": "basis", "recipe": {"rank": 6}, "hash": hash_tensors(basis)}]
    size = 4 * sum(t.numel() for t in basis.values())
    assert (said["bytes"], small.metadata["bytes"]["decoder"]) == (size, 0), "what is shared is said beside"
    assert small.metadata["bytes"]["total"] == sum(t.numel() * t.element_size() for t in small.tensors.values())
    assert set(small.payload) == {"latents"}
    path = small.save(tmp_path / "small.safetensors")
    assert torch.equal(potstill.load(path).inputs, small.inputs), "found in the cache by its hash"

    (file,) = (cache / "decoders").iterdir()
    brought = shutil.copy(file, tmp_path / "brought.safetensors")
    shutil.rmtree(cache)
    alone = potstill.load(path)
    assert torch.equal(alone.labels, small.labels)
    assert (len(alone), alone.metadata) == (len(small), small.metadata)
    assert "brought" not in alone._repr_html_()
    for ask in (lambda: alone.inputs, lambda: alone[0], alone.model_space, alone.with_weights):
        with pytest.raises(
            PotstillError, match=rf"small\.safetensors: .*'basis' of hash {hash_tensors(basis)}"
        ) as told:
            ask()
        assert "load(path, decoder=FILE)" in str(told.value)
        assert "\n" not in str(told.value)
    assert alone.save(tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    for decoder in (brought, str(brought), {"basis": brought}, {"basis": basis}):
        assert torch.equal(potstill.load(path, decoder=decoder).inputs, small.inputs)
    with pytest.raises(PotstillError, match="'other' is given; leave it out"):
        potstill.load(path, decoder={"other": brought})


def test_another_asset_is_refused(cache: Path, tmp_path: Path) -> None:
    path, basis = made(steps=1).save(tmp_path / "small.safetensors"), truth()
    other = tmp_path / "other.safetensors"
    write_tensors(other, {**basis, "mean": basis["mean"] + 1}, {})
    with pytest.raises(PotstillError, match=rf"'basis' of hash {hash_tensors(basis)}, but .*other.safetensors has "):
        potstill.load(path, decoder=other)
    (kept,) = (cache / "decoders").iterdir()
    shutil.copy(other, kept)
    with pytest.raises(PotstillError, match="get that one"):
        potstill.load(path)
    plain = potstill.distill(DATA, "random", ipc=1).save(tmp_path / "plain.safetensors")
    with pytest.raises(PotstillError, match="decodes by no asset, but a decoder is given"):
        potstill.load(plain, decoder=other)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> potstill.Distilled:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POTSTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setitem(registry._BUILTIN["parametrizations"], "linear", f"{__name__}:Linear")
        return made(steps=1)


HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)


@settings(max_examples=40, deadline=None)
@given(wrong=HASHES | st.text(max_size=70) | st.integers() | st.none() | st.lists(st.integers()), fits=st.booleans())
def test_a_card_that_names_a_wrong_hash_gives_no_inputs(held: potstill.Distilled, wrong: Any, fits: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:  # what the fixture gives lasts for a whole test of many examples
        patch.setitem(registry._BUILTIN["parametrizations"], "linear", f"{__name__}:Linear")
        basis, card = truth(), copy.deepcopy(held.metadata)
        card["decoder"]["assets"][0]["hash"] = wrong
        decoder = {"basis": basis} if fits else None
        with pytest.raises(PotstillError) as told:
            _ = validated_set(Path("x"), card, dict(held.tensors), decoder=decoder).inputs
        assert str(told.value).startswith("x: ")
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "change",
    [
        {"assets": []}, {"assets": None}, {"assets": 3}, {"assets": ["basis"]}, {"bytes": 1},
        {"parametrization": "tiles"}, {"parametrization": "linear:basis=3"},
    ],
)  # fmt: skip
def test_a_card_that_contradicts_its_decoder_is_refused_in_one_line(
    held: potstill.Distilled, change: dict[str, Any]
) -> None:
    card = copy.deepcopy(held.metadata)
    card["decoder"] |= change
    with pytest.raises(PotstillError) as told:
        validated_set(Path("x"), card, dict(held.tensors), decoder={"basis": truth()})
    assert "\n" not in str(told.value)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_with_what_it_decoded_by_and_with_nothing_else(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    made(steps=2, checkpoint=checkpoint, checkpoint_every=0)
    saved = checkpoint.read_bytes()
    assert torch.equal(made(checkpoint=checkpoint, resume=True).inputs, made().inputs)
    checkpoint.write_bytes(saved)
    for file in (cache / "bases").iterdir():
        write_tensors(file, {**truth(), "mean": truth()["mean"] + 1}, {})
    with pytest.raises(PotstillError, match="decoder"):
        made(checkpoint=checkpoint, resume=True)


def test_a_plan_counts_it_and_makes_nothing(cache: Path) -> None:
    said = plan(DATA, "dm", ipc=1, parametrization="linear:rank=6", network="convnet-d1-w4", profile_steps=0)
    assert [(n.name, n.count, n.cached, n.recipe) for n in said.networks] == [("basis", 1, 0, {"rank": 6})]
    assert not cache.exists()
    with pytest.raises(PotstillError, match="begins with fitting a basis of 6"):
        made(time_limit=1e-9)


def test_it_is_rounded_while_it_is_made_and_bought_by_bytes(tmp_path: Path) -> None:
    assert isinstance(QuantizationAware(inner=Linear(), codec=Uniform(bits=8)), RequiresAssets)
    problem = toy_problem()
    assert QuantizationAware(inner=problem.parametrization, codec=Uniform(bits=8)).assets(problem) == ()
    small = made(codec="uint8:aware=true", ipc=None, bytes=600)
    assert small.metadata["bytes"]["total"] <= 600
    assert torch.equal(potstill.load(small.save(tmp_path / "small.safetensors")).inputs, small.inputs)


def test_it_cannot_be_of_one_part() -> None:
    pair = InputSpec(kind="pair", shape=(), parts=(("image", SOURCE.input), ("other", SOURCE.input)))
    with pytest.raises(PotstillError, match=r"parametrization linear:rank=3 requires assets .*'image' alone"):
        parse_parametrization("image=linear:rank=3", pair)


# --- the contract -----------------------------------------------------------------------------------------------------


def test_the_contract_takes_parametrizations_with_needs() -> None:
    check_parametrization(Linear)
