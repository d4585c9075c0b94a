"""Networks that methods need trained: made once, kept by everything that decides their bits, remade when broken."""

import dataclasses
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill.augment.names import named_augmentation
from potstill.core import Asset, AssetContext, NetworkWeights, Splits
from potstill.dataset_file.files import read_tensors, write_tensors
from potstill.errors import PotstillError, PotstillWarning
from potstill.execution import Processes, Serial
from potstill.methods.distribution.dance import DANCE
from potstill.nn import factory
from potstill.pretraining import TrainedNetworks, TrainNetwork, build_assets, training_part
from potstill.pretraining import networks as asset_networks
from potstill.testing import toy_source

SOURCE = toy_source("image")
MAKE = factory("convnet-d1-w4", SOURCE.input, 4)
RECIPE: dict[str, float | int | str] = {
    "epochs": 2, "batch": 16, "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "augment": "idc", "cutmix": 0.5,
}  # fmt: skip
SPEC = TrainedNetworks(name="networks", count=3, recipe=RECIPE)


def ground(make: Any) -> AssetContext:
    return AssetContext(train=SOURCE, network=make, augmentation=lambda name: named_augmentation(name, SOURCE))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    return tmp_path


def made(**changes: Any) -> tuple[tuple[NetworkWeights, ...], list[tuple[str, int, int]]]:
    seen: list[tuple[str, int, int]] = []
    assets, seconds = build_assets(
        [SPEC], SOURCE, MAKE, lambda name: named_augmentation(name, SOURCE),
        progress=lambda *row: seen.append(row), **{"executor": Serial(), **changes},
    )  # fmt: skip
    assert seconds > 0
    return assets["networks"], seen


def equal(a: NetworkWeights, b: NetworkWeights) -> bool:
    same = all(torch.equal(t, b.parameters[n]) for n, t in a.parameters.items())
    return (
        same
        and a.seed == b.seed
        and a.parameters.keys() == b.parameters.keys()
        and a.buffers.keys() == b.buffers.keys()
    )


def test_they_are_made_once_and_then_read(cache: Path) -> None:
    first, seen = made()
    assert [row[1:] for row in seen] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    again, seen = made()
    assert [row[1:] for row in seen] == [(3, 3)]
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(list((cache / "networks").iterdir())) == 3
    assert not equal(first[0], first[1])


def test_what_was_interrupted_goes_on_and_what_is_broken_is_made_again(cache: Path) -> None:
    first, _ = made()
    files = sorted((cache / "networks").iterdir())
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:100])
    again, seen = made()
    assert seen[0][1] == 1
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_bit_that_fell_over_in_the_cache_changes_nothing(cache: Path) -> None:
    first, _ = made()
    rng = random.Random(0)
    for file in sorted((cache / "networks").iterdir()):
        whole = bytearray(file.read_bytes())
        whole[rng.randrange(len(whole) // 2, len(whole))] ^= 1 << rng.randrange(8)
        file.write_bytes(whole)
    again, seen = made()
    assert seen[0][1] == 0
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))


def test_networks_that_cannot_be_kept_are_used_all_the_same(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = made()
    (cache / "file").write_text("")
    monkeypatch.setenv("POTSTILL_CACHE", str(cache / "file"))
    with pytest.warns(PotstillWarning, match=r"networks .* could not be kept.*set POTSTILL_CACHE"):
        again, _ = made()
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))


def test_processes_make_the_same_bits() -> None:
    here, _ = made()
    job = TrainNetwork(train=SOURCE, make=MAKE, augment=named_augmentation("idc", SOURCE), recipe=RECIPE, number=1)
    job.path().unlink()
    there, _ = made(executor=Processes(1))
    assert all(equal(a, b) for a, b in zip(here, there, strict=True))


def test_the_name_holds_all_that_decides_the_bits() -> None:
    job = TrainNetwork(train=SOURCE, make=MAKE, augment=named_augmentation("idc", SOURCE), recipe=RECIPE, number=0)
    others = [
        dataclasses.replace(job, number=1),
        dataclasses.replace(job, recipe={**RECIPE, "epochs": 3}),
        dataclasses.replace(job, make=factory("convnet-d1-w5", SOURCE.input, 4)),
        dataclasses.replace(job, augment=named_augmentation("dsa", SOURCE)),
        dataclasses.replace(job, train=toy_source("image", per_class=11)),
    ]
    assert len({j.path() for j in [job, *others]}) == 6
    assert dataclasses.replace(job).path() == job.path()


def test_training_is_the_plain_loop() -> None:
    plain = {**RECIPE, "augment": "none", "cutmix": 0.0, "epochs": 1, "batch": 64}
    job = TrainNetwork(train=SOURCE, make=MAKE, augment=named_augmentation("none", SOURCE), recipe=plain, number=0)
    trained, _ = job()
    net = MAKE(job.seed)
    sgd = torch.optim.SGD(net.parameters(), lr=0.05 * 0.2 * 0.2, momentum=0.9, weight_decay=5e-4)
    batch = SOURCE.fetch(torch.arange(len(SOURCE)))  # one batch holds all, so that its order only rounds; both drops
    torch.nn.functional.cross_entropy(net(batch.x), batch.y).backward()  # of the rate come at epoch 0 of one
    sgd.step()
    for name, p in net.named_parameters():
        torch.testing.assert_close(trained.parameters[name], p.detach(), rtol=1e-5, atol=1e-6)


def test_a_network_that_runs_away_is_refused() -> None:
    recipe = {**RECIPE, "lr": 1e30}
    job = TrainNetwork(train=SOURCE, make=MAKE, augment=named_augmentation("none", SOURCE), recipe=recipe, number=0)
    with pytest.raises(PotstillError, match="did not stay finite in epoch 1; lower its learning rate"):
        job()


def test_distil_makes_them_and_counts_their_time_on_the_card(cache: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    method = DANCE(pretrained_networks=2, pretrain_epochs=1, batch_real=6, iterations=1)
    data = Splits(train=SOURCE, test=None)
    small = potstill.distill(data, method, ipc=1, network="convnet-d1-w4", preparing=lambda *row: seen.append(row))
    assert [row[1:] for row in seen] == [(0, 2), (1, 2), (2, 2)]
    assert small.metadata["cost"]["preparation_seconds"] > 0
    again = potstill.distill(data, method, ipc=1, network="convnet-d1-w4")
    assert torch.equal(small.inputs, again.inputs)
    assert again.metadata["cost"]["preparation_seconds"] == small.metadata["cost"]["preparation_seconds"]


def test_a_recipe_may_name_another_architecture_which_is_shared_with_those_that_name_none(cache: Path) -> None:
    other = factory("convnet-d1-w8", SOURCE.input, 4)
    named = dataclasses.replace(SPEC, count=1, recipe={**RECIPE, "network": "convnet-d1-w8"})
    (job,) = named.jobs(ground(MAKE))
    assert job.make == other
    (plain,) = dataclasses.replace(SPEC, count=1).jobs(ground(other))
    assert job.path() == plain.path()
    wrong = dataclasses.replace(named, recipe={**RECIPE, "network": "convnot"})
    with pytest.raises(PotstillError, match="unknown network 'convnot'"):
        wrong.jobs(ground(MAKE))


def test_the_rate_falls_by_steps_along_a_cosine_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def rates(**changes: Any) -> list[float]:
        seen: list[float] = []

        def spy(net: Any, made: Any, source: Any, order: Any, rng: Any, sgd: Any, **__: Any) -> Any:
            seen.append(sgd.lr)
            return made

        monkeypatch.setattr("potstill.pretraining.networks.train_epoch", spy)
        recipe = {**RECIPE, "lr": 1.0, "epochs": 6, **changes}
        TrainNetwork(train=SOURCE, make=MAKE, augment=named_augmentation("none", SOURCE), recipe=recipe, number=0)()
        return seen

    assert rates() == rates(schedule="steps") == pytest.approx([1, 1, 1, 1, 0.2, 0.04])
    assert rates(schedule="cosine") == pytest.approx([(1 + math.cos(math.pi * e / 6)) / 2 for e in range(6)])
    assert rates(schedule="constant") == [1.0] * 6


def job_of(source: Any = SOURCE, **changes: Any) -> TrainNetwork:
    snapshots = changes.pop("snapshots", ())
    return TrainNetwork(
        train=source, make=MAKE, augment=named_augmentation("none", source), number=0, snapshots=snapshots,
        recipe={**RECIPE, **changes},
    )  # fmt: skip


def test_one_training_gives_all_snapshots_and_each_is_read_by_its_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    train_epoch = asset_networks.train_epoch

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes.append(1)
        return train_epoch(*args, **kwargs)

    monkeypatch.setattr("potstill.pretraining.networks.train_epoch", counted)
    spec = dataclasses.replace(SPEC, count=2, recipe={**RECIPE, "epochs": 5}, snapshots=(4, 0, 1, 5))

    def get(spec: Asset) -> tuple[NetworkWeights, ...]:
        found, _ = build_assets([spec], SOURCE, MAKE, lambda n: named_augmentation(n, SOURCE), executor=Serial())
        return tuple(found["networks"])

    found = get(spec)
    assert [each.epoch for each in found] == [0, 1, 4, 5, 0, 1, 4, 5]
    assert len(passes) == 10
    assert all(equal(a, b) for a, b in zip(found, get(spec), strict=True))
    fewer = get(dataclasses.replace(spec, count=1, snapshots=(4,)))
    last = get(dataclasses.replace(spec, count=1, snapshots=()))
    assert (equal(fewer[0], found[2]), equal(last[0], found[3])) == (True, True)
    assert len(passes) == 10
    fresh = MAKE(found[0].seed)
    assert all(torch.equal(found[0].parameters[n], p) for n, p in fresh.named_parameters())


def test_a_snapshot_is_a_shorter_training_where_the_rate_does_not_know_the_length() -> None:
    (early, _), (late, _) = job_of(epochs=5, schedule="constant", snapshots=(2, 5)).run()
    short = job_of(epochs=2, schedule="constant")
    assert equal(early, short()[0])
    assert not equal(early, late)
    assert short.path() == job_of(epochs=5, schedule="constant").path(2)
    # elsewhere it is another network, and has another name
    falls = job_of(epochs=5, schedule="cosine", snapshots=(2,))
    assert not equal(falls.run()[0][0], job_of(epochs=2, schedule="cosine")()[0])
    assert falls.path(2) != job_of(epochs=2, schedule="cosine").path()


def test_a_part_that_is_held_out_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    fetch = type(SOURCE).fetch
    monkeypatch.setattr(type(SOURCE), "fetch", lambda self, index: (seen.extend(index.tolist()), fetch(self, index))[1])
    job_of(holdout=0.25, epochs=1)()
    kept = training_part(SOURCE, 0.25).tolist()
    assert sorted(seen) == kept
    assert 0 < len(kept) < len(SOURCE)
    assert job_of(holdout=0.25).path() != job_of().path()
    assert training_part(SOURCE, 0).tolist() == list(range(len(SOURCE)))


def test_the_order_of_classes_is_kept_and_another_one_is_refused_with_both_shown() -> None:
    job = job_of()
    job.save(*job())
    found = job.load_epoch()
    assert found is not None
    assert found[0].classes == SOURCE.classes
    tensors, metadata = read_tensors(job.path(), 10**7)
    turned = list(reversed(SOURCE.classes))
    write_tensors(job.path(), tensors, {**metadata, "classes": json.dumps(turned)})
    with pytest.raises(PotstillError, match="same classes in the same order") as refused:
        job.load_epoch()
    assert f"({', '.join(turned)}) and ({', '.join(SOURCE.classes)})" in str(refused.value)
    # the same pictures under names in another order are other data, and get teachers of their own
    renamed = dataclasses.replace(SOURCE, classes=tuple(turned))
    assert job_of(renamed).path() != job.path()


def test_snapshots_beyond_the_training_are_refused() -> None:
    with pytest.raises(PotstillError, match="snapshots must lie in the 2 epochs of the training, but one is after 3"):
        job_of(snapshots=(1, 3))


class Stopped(Exception):
    """What a test ends a training with."""


def test_a_training_goes_on_after_its_last_whole_epoch_with_the_same_bits(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {**RECIPE, "epochs": 4}
    job = TrainNetwork(
        train=SOURCE, make=MAKE, augment=named_augmentation("idc", SOURCE), recipe=recipe, number=0, snapshots=(1, 4)
    )
    whole = job.run()
    assert not job.progress.exists(), "a short training writes nothing"
    job = dataclasses.replace(job, save_every=-1.0)
    plain, met = asset_networks.train_epoch, list[int]()

    def breaks(*args: Any, **options: Any) -> Any:
        met.append(len(met))
        if len(met) == 3:
            raise Stopped
        return plain(*args, **options)

    monkeypatch.setattr(asset_networks, "train_epoch", breaks)
    with pytest.raises(Stopped):
        job.run()
    assert job.progress.exists()
    again = job.run()
    assert len(met) == 5, "two epochs, one that broke, and the two that were left"
    assert [stop.epoch for stop, _ in again] == [1, 4]
    for (a, _), (b, _) in zip(whole, again, strict=True):
        assert equal(a, b)
        assert all(torch.equal(t, b.buffers[n]) for n, t in a.buffers.items())
    assert again[0][1] <= again[1][1]
    for stop in again:
        job.save(*stop)
    assert not job.progress.exists()


def test_a_training_under_way_that_is_broken_or_of_another_is_begun_anew(cache: Path) -> None:
    augment, recipe = named_augmentation("idc", SOURCE), {**RECIPE, "epochs": 3}
    job = TrainNetwork(train=SOURCE, make=MAKE, augment=augment, recipe=recipe, number=0, save_every=-1.0)
    whole, _ = job()
    content = job.progress.read_bytes()
    for broken in (content[:500], b"", content.replace(b"teacher.params.", b"teacher.perams.")):
        job.progress.write_bytes(broken)
        assert equal(job()[0], whole)
    other = dataclasses.replace(job, snapshots=(1, 3))
    assert other.progress == job.progress
    assert [stop.epoch for stop, _ in other.run()] == [1, 3]
