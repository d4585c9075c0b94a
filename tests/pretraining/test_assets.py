"""Assets are values of any kind: a third one goes through every door, and networks are read when they are asked for."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill._util.cache_dir import cache_dir
from potstill.augment.names import named_augmentation
from potstill.core import Asset, AssetContext, AssetJob, NetworkWeights, Problem, Splits
from potstill.dataset_file import read_tensors, write_tensors
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.execution import Processes, Serial, resolve_executor
from potstill.methods.distribution.dance import DANCE
from potstill.methods.selection.random import Random
from potstill.nn import factory
from potstill.planning.plan import plan
from potstill.pretraining import TrainedNetworks, build_assets, estimate_time, lazy_networks
from potstill.testing import toy_source

SOURCE = toy_source("image")
DATA = Splits(train=SOURCE, test=None)
MAKE = factory("convnet-d1-w4", SOURCE.input, 4)
RECIPE: dict[str, float | int | str] = {
    "epochs": 3, "batch": 16, "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "constant",
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    return tmp_path


def got(*assets: Asset, **more: Any) -> dict[str, Any]:
    return build_assets(assets, SOURCE, MAKE, lambda name: named_augmentation(name, SOURCE), **more)[0]


# --- a kind of asset that the library does not know ----------------------------


@dataclass(frozen=True)
class MeanOf:
    """The mean of a class's pixels, as a job."""

    hash: str
    pixels: torch.Tensor
    number: int

    @property
    def path(self) -> Path:
        return cache_dir() / "means" / f"{self.hash}-{self.number}.safetensors"

    def is_cached(self) -> bool:
        return self.path.exists()

    def load(self) -> float | None:
        return float(read_tensors(self.path, 2**20)[0]["mean"]) if self.is_cached() else None

    def build(self) -> tuple[float, str] | None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(self.path, {"mean": self.pixels.mean()}, {})
        return None

    def compute(self) -> float:
        return float(self.pixels.mean())

    def remaining(self) -> float:
        return float(len(self.pixels))

    def estimate(self) -> tuple[Callable[[], object], float]:
        return self.pixels[:4].mean, 4.0


@dataclass(frozen=True)
class ClassMeans:
    """The mean pixel of every class."""

    name: str = "means"
    recipe: Mapping[str, float | int | str] = dataclasses.field(default_factory=dict)

    def jobs(self, ground: AssetContext) -> tuple[MeanOf, ...]:
        y, x = ground.train.labels, ground.train.raw(torch.arange(len(ground.train)))
        assert isinstance(x, torch.Tensor)
        return tuple(MeanOf(ground.train.content_hash, x[y == c], c) for c in range(len(ground.train.classes)))

    def open(self, parts: Sequence[float]) -> tuple[float, ...]:
        return tuple(parts)

    def placeholder(self, jobs: Sequence[MeanOf]) -> tuple[float, ...]:
        return (0.5,) * len(jobs)

    def adopt(self, value: Any, ground: AssetContext) -> tuple[float, ...]:
        return tuple(value)

    def describe_work(self, missing: Sequence[MeanOf]) -> str:
        return f"averaging {len(missing)} classes"

    def provenance(self, value: tuple[float, ...], ground: AssetContext) -> Mapping[str, Mapping[str, Any]]:
        return {"means": {"values": list(value)}}


@dataclass(frozen=True, kw_only=True)
class NeedsMeans(Random):
    """A method that asks for it."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return (ClassMeans(),)

    def init(self, problem: Problem, rng: torch.Generator) -> Any:
        assert len(problem.assets["means"]) == 4
        return super().init(problem, rng)


def test_a_third_kind_is_made_kept_forecast_planned_and_said_on_the_card(cache: Path) -> None:
    assert isinstance(ClassMeans(), Asset)
    (expected,) = estimate_time([ClassMeans()], SOURCE, MAKE, lambda name: named_augmentation(name, SOURCE))
    assert str(expected) == "averaging 4 classes"
    said = plan(DATA, NeedsMeans(), ipc=1, profile_steps=0).networks
    assert [(n.name, n.count, n.cached) for n in said] == [("means", 4, 0)]
    assert not (cache / "means").exists()
    seen: list[tuple[str, int, int]] = []
    small = potstill.distill(DATA, NeedsMeans(), ipc=1, preparing=lambda *row: seen.append(row))
    assert seen == [("means", done, 4) for done in range(5)]
    ((held,),) = (small.metadata["means"],)
    assert held["values"] == list(got(ClassMeans())["means"]) == [job.compute() for job in ClassMeans().jobs(GROUND)]
    assert estimate_time([ClassMeans()], SOURCE, MAKE, lambda name: named_augmentation(name, SOURCE)) == ()


@pytest.mark.slow
def test_a_third_kind_is_made_in_other_processes_too(cache: Path) -> None:
    here = got(ClassMeans(), executor=Serial())
    for file in (cache / "means").iterdir():
        file.unlink()
    with Processes(2) as workers:
        assert got(ClassMeans(), executor=workers) == here


GROUND = AssetContext(train=SOURCE, network=MAKE, augmentation=lambda name: named_augmentation(name, SOURCE))


def test_jobs_are_what_the_contract_says() -> None:
    for job in (*ClassMeans().jobs(GROUND), *TrainedNetworks(name="n", count=1, recipe=RECIPE).jobs(GROUND)):
        assert isinstance(job, AssetJob)


# --- networks ---------------------------------------------------------------------------------------------------------

MANY = TrainedNetworks(name="networks", count=2, recipe=RECIPE, snapshots=(0, 1, 2, 3))


def test_of_many_snapshots_few_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    got(MANY)
    opened = got(MANY)["networks"]
    assert len(opened) == 8
    assert len(opened._open) <= 1, "none is read before it is asked for; beartype looks at one"
    one = lazy_networks.network_bytes(opened[0])
    monkeypatch.setattr(lazy_networks, "MAX_OPEN_BYTES", 2 * one)
    epochs = []
    for trained in opened:
        epochs.append(trained.epoch)
        assert sum(map(lazy_networks.network_bytes, opened._open.values())) <= 2 * one
    assert epochs == [0, 1, 2, 3] * 2
    assert opened.memory_bytes == 2 * one == MANY.placeholder(MANY.jobs(GROUND)).memory_bytes
    monkeypatch.setattr(lazy_networks, "MAX_OPEN_BYTES", 0)
    assert opened[5].epoch == 1, "one at least"
    assert [t.epoch for t in opened[5:]] == [1, 2, 3]


def test_a_snapshot_that_went_missing_is_named(cache: Path) -> None:
    got(MANY)
    opened = got(MANY)["networks"]
    opened._open.clear()  # beartype looks at one, any one
    for file in (cache / "networks").iterdir():
        file.unlink()
    with pytest.raises(PotstillError, match=r"safetensors: no such file; .* was there when .* begin again"):
        opened[3]


def test_networks_that_are_given_are_not_made(cache: Path) -> None:
    spec = TrainedNetworks(name="networks", count=2, recipe=RECIPE)
    made = got(spec)["networks"]
    files = [job.path() for job in spec.jobs(GROUND)]
    other = dataclasses.replace(spec, recipe={**RECIPE, "epochs": 9})
    for brought in (tuple(made), files, [str(files[0]), made[1]]):
        found = got(other, provided={"networks": brought})["networks"]
        for a, b in zip(found, made, strict=True):
            assert (a.seed, a.epoch, a.classes) == (b.seed, b.epoch, b.classes)
            assert all(torch.equal(t, b.parameters[n]) for n, t in a.parameters.items())
    assert len(list((cache / "networks").iterdir())) == 2
    with pytest.raises(PotstillError, match="2 trained networks are needed, but 1 are given"):
        got(other, provided={"networks": files[:1]})
    wrong = NetworkWeights(seed=0, parameters={"a": torch.zeros(1)}, buffers={})
    with pytest.raises(PotstillError, match=r"must be a convnet-d1-w4.*but is another"):
        got(other, provided={"networks": [wrong, wrong]})
    turned = dataclasses.replace(made[0], classes=SOURCE.classes[::-1])
    with pytest.raises(PotstillError, match="classes"):
        got(other, provided={"networks": [turned, turned]})


def test_the_name_in_the_cache_and_what_is_in_the_file_stay(cache: Path) -> None:
    """What earlier versions kept is found: names are of the same parts, tensors of the same names."""
    (job,) = TrainedNetworks(name="networks", count=1, recipe={**RECIPE, "schedule": "cosine"}).jobs(GROUND)
    job.build()
    tensors, said = read_tensors(job.path(), 2**30)
    assert {n.partition("/")[0] for n in tensors} == {"parameters"}
    assert json.loads(said["classes"]) == list(SOURCE.classes)
    assert float(said["seconds"]) > 0


def test_distil_from_given_networks_gives_the_same_bits_and_says_so(cache: Path) -> None:
    method = DANCE(pretrained_networks=2, pretrain_epochs=1, batch_real=6, iterations=1)
    asked: dict[str, Any] = {"ipc": 1, "network": "convnet-d1-w4", "codec": "float32"}
    small = potstill.distill(DATA, method, **asked, executor="serial")
    files = sorted((cache / "networks").iterdir())
    brought = [file for h in hashes(small) for file in files if file_hash(file) == h]
    again = potstill.distill(DATA, method, **asked, networks=brought)
    assert torch.equal(small.inputs, again.inputs)
    assert hashes(again) == hashes(small)
    (entry,) = again.metadata["teachers"]
    assert (entry["given"], entry["labels"], entry["recipe"]) == (True, False, {})
    assert len(list((cache / "networks").iterdir())) == 2
    other = potstill.distill(DATA, method, **asked, networks=brought[::-1])
    assert not torch.equal(small.inputs, other.inputs)
    with pytest.raises(PotstillError, match="random asks for no trained networks, but some are given"):
        potstill.distill(DATA, "random", ipc=1, networks=brought)


def hashes(small: Any) -> list[str]:
    return [n["hash"] for n in small.metadata["teachers"][0]["networks"]]


def file_hash(path: Path) -> str:
    return hash_tensors({n.partition("/")[2]: t for n, t in read_tensors(path, 2**30)[0].items()})


def test_a_checkpoint_from_other_networks_is_not_gone_on_with(cache: Path, tmp_path: Path) -> None:
    method = DANCE(pretrained_networks=1, pretrain_epochs=1, batch_real=6, iterations=3)
    spec = TrainedNetworks(name="networks", count=2, recipe=RECIPE)
    one, two = got(spec)["networks"]
    checkpoint = tmp_path / "run.checkpoint"
    asked: dict[str, Any] = {"ipc": 1, "network": "convnet-d1-w4", "codec": "float32", "checkpoint": checkpoint}
    potstill.distill(DATA, method, **asked, networks=[one], steps=1, checkpoint_every=0)
    with pytest.raises(PotstillError, match="networks"):
        potstill.distill(DATA, method, **asked, networks=[two], resume=True)


def test_an_executor_is_named_or_given() -> None:
    assert resolve_executor("serial") == Serial()
    assert resolve_executor(None) is None
    assert isinstance(resolve_executor("processes"), Processes)
    with pytest.raises(PotstillError, match=r"unknown executor 'procesess'.*processes"):
        resolve_executor("procesess")
