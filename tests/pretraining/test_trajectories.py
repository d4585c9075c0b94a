"""Expert trajectories: what is kept, what is refused, what goes on, and published replay buffers."""

import copy
import dataclasses
import random
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.augment.names import named_augmentation
from potstill.cli.main import main
from potstill.core import Asset, AssetContext, AssetJob, Problem, Splits
from potstill.data import load
from potstill.errors import PotstillError, PotstillWarning
from potstill.execution import Processes, Serial
from potstill.functional.sharpness_aware import GSAM, ascend, gsam_direction, gsam_step
from potstill.functional.train import copy_parameters, gradients, train_step
from potstill.methods.distribution.dm import DM
from potstill.methods.selection.random import Random
from potstill.nn import factory
from potstill.pretraining import (
    ExpertTraining,
    ExpertTrajectories,
    Trajectories,
    Trajectory,
    build_assets,
    estimate_time,
)
from potstill.pretraining import networks as module
from potstill.pretraining.curriculum import PAD, DifficultyOrder
from potstill.pretraining.trajectory_codec import FileRows, Layout, MemoryRows
from potstill.testing import toy_source
from potstill.testing.toy import windows_source

SOURCE = toy_source("image")
MAKE = factory("convnet-d1-w4", SOURCE.input, 4)
RECIPE: dict[str, float | int | str] = {"epochs": 3, "batch": 16, "lr": 0.05}
SPEC = ExpertTrajectories(count=2, recipe=RECIPE)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trajectories"


def ground(make: Any = MAKE, train: Any = SOURCE) -> AssetContext:
    return AssetContext(train=train, network=make, augmentation=lambda name: named_augmentation(name, train))


def job_of(make: Any = MAKE, train: Any = SOURCE, **changes: Any) -> ExpertTraining:
    return ExpertTrajectories(count=1, recipe={**RECIPE, **changes}).jobs(ground(make, train))[0]


def made(spec: ExpertTrajectories = SPEC, **changes: Any) -> tuple[Trajectories, list[tuple[str, int, int]]]:
    seen: list[tuple[str, int, int]] = []
    assets, seconds = build_assets(
        [spec], SOURCE, MAKE, lambda name: named_augmentation(name, SOURCE),
        progress=lambda *row: seen.append(row), **{"executor": Serial(), **changes},
    )  # fmt: skip
    assert seconds > 0
    return assets["experts"], seen


def equal(a: Trajectory, b: Trajectory) -> bool:
    return a.epochs == b.epochs and all(
        torch.equal(t, b.at(e)[n]) for e in range(a.epochs + 1) for n, t in a.at(e).items()
    )


def exact(job: ExpertTraining) -> list[dict[str, Tensor]]:
    """What the training went through, unrounded."""
    first, rows = job.first(), MemoryRows(Layout.of(job.make(0)), job.epochs)
    return [dict(state.teacher.params) for state in (first, *job.run(rows, first))]


def test_they_are_an_asset_that_is_made_once_and_then_read_from_one_file_each(cache: Path) -> None:
    assert isinstance(SPEC, Asset)
    assert isinstance(SPEC.jobs(ground())[0], AssetJob)
    first, seen = made()
    assert seen == [("experts", 0, 2), ("experts", 1, 2), ("experts", 2, 2)]
    again, seen = made()
    assert [row[1:] for row in seen] == [(2, 2)]
    assert len(first) == 2
    assert (first.epochs, first.memory_bytes) == (3, 0)
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    assert not equal(first[0], first[1])
    assert first.digest == again.digest
    assert sorted(f.suffix for f in cache.iterdir()) == [".progress", ".progress", ".safetensors", ".safetensors"]


def test_a_snapshot_is_a_copy_and_each_differs_from_the_others() -> None:
    (expert, _), _ = made()
    snapshots = [expert.at(e) for e in range(4)]
    for e in range(3):
        assert any(not torch.equal(t, snapshots[e + 1][n]) for n, t in snapshots[e].items())
    before = [copy.deepcopy(s) for s in snapshots]
    for snapshot in snapshots:
        for t in snapshot.values():
            t.zero_()
    for e in range(4):
        assert all(torch.equal(t, before[e][n]) for n, t in expert.at(e).items())
    alone = expert.at(1)
    names = list(alone)
    alone[names[0]].fill_(7.0)
    assert all(torch.equal(alone[n], before[1][n]) for n in names[1:])
    held = job_of().compute()
    held.at(0)[names[0]].zero_()
    assert torch.equal(held.at(0)[names[0]], before[0][names[0]])


def test_the_first_snapshot_is_exact_and_the_others_are_as_near_as_float16() -> None:
    job = job_of()
    expert, true = job.compute(), exact(job)
    assert all(torch.equal(t, true[0][n]) for n, t in expert.at(0).items())
    for e in (1, 2, 3):
        top = max(float((true[e][n] - true[0][n]).abs().max()) for n in true[0])
        for n, t in expert.at(e).items():
            moved = true[e][n] - true[0][n]
            assert bool(((t - true[e][n]).abs() <= moved.abs() * 2**-11 + top * 2**-38 + 2e-7 * true[e][n].abs()).all())


def test_the_training_is_plain_sgd_as_published() -> None:
    job = job_of(epochs=2, batch=64, augment="none")  # one batch holds all, so that its order only rounds
    expert, net = job.compute(), MAKE(job.seed)
    sgd = torch.optim.SGD(net.parameters(), lr=0.05)
    batch = SOURCE.fetch(torch.arange(len(SOURCE)))
    for epoch in (1, 2):
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(net(batch.x), batch.y).backward()
        sgd.step()
        for name, p in net.named_parameters():
            torch.testing.assert_close(expert.at(epoch)[name], p.detach(), rtol=2e-3, atol=2e-5)
    full = ExpertTrajectories(count=1).jobs(ground())[0].full_recipe
    assert [full[n] for n in ("epochs", "batch", "lr", "momentum", "weight_decay")] == [50, 256, 0.01, 0.0, 0.0]
    assert (full["augment"], full["schedule"]) == ("dsa", "constant")


def test_a_longer_training_begins_as_a_shorter_one_unless_the_rate_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    long, short = job_of(epochs=3).compute(), job_of(epochs=2).compute()
    assert all(torch.equal(t, long.at(2)[n]) for n, t in short.at(2).items())
    rates: list[float] = []

    def spy(net: Any, made: Any, source: Any, order: Any, rng: Any, sgd: Any, **__: Any) -> Any:
        rates.append(sgd.lr)
        return made

    monkeypatch.setattr(module, "train_epoch", spy)
    job_of(epochs=6, lr=1.0, schedule="decay").compute()
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.1])


def test_what_is_cut_off_or_damaged_is_made_anew_and_never_loaded(cache: Path) -> None:
    first, _ = made()
    files = sorted(cache.glob("*.safetensors"))
    contents = [f.read_bytes() for f in files]
    files[0].write_bytes(contents[0][:-10])
    whole = bytearray(contents[1])
    whole[random.Random(0).randrange(len(whole) // 2, len(whole))] ^= 4
    files[1].write_bytes(whole)
    again, seen = made()
    assert seen[0][1] == 0
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    files[0].write_bytes(b"")
    assert made()[1][0][1] == 1


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.5}, {"curriculum": "pad"}])
def test_a_longer_training_goes_on_from_a_shorter_one_and_serves_as_one(
    settings: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = job_of(epochs=2, **settings), job_of(epochs=5, **settings)
    whole = long.compute()
    assert short.build() is None
    assert (short.is_cached(), long.is_cached()) == (True, False)
    assert long.load() is None
    assert long.remaining() == 3 / 5 * (whole.epochs * len(SOURCE)) or settings.get("curriculum")
    passes, plain = list[int](), module.train_epoch

    def counted(*args: Any, **options: Any) -> Any:
        passes.append(1)
        return plain(*args, **options)

    monkeypatch.setattr(module, "train_epoch", counted)
    assert long.build() is None
    assert len(passes) == 3
    kept, early = long.load(), short.load()
    assert kept is not None
    assert early is not None
    assert equal(kept, whole)
    assert kept.digest == whole.digest
    assert early.digest == short.compute().digest != kept.digest
    assert (early.epochs, kept.epochs) == (2, 5)
    with pytest.raises(PotstillError, match="snapshots after 0 to 2 epochs"):
        early.at(3)
    assert early.seconds < kept.seconds
    for file in cache.glob(".*.progress"):
        file.unlink()
    assert job_of(epochs=6, **settings).build() is None, "what nothing goes on from is made anew"
    again = job_of(epochs=5, **settings).load()
    assert again is not None
    assert again.digest == kept.digest


class Stopped(Exception):
    """What a test ends a training with."""


@pytest.mark.parametrize("network", ["convnet-d1-w4", "convnet-d1-w4-batch"])
def test_a_training_goes_on_after_its_last_whole_epoch_with_the_same_bits(
    network: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = factory(network, SOURCE.input, 4)
    job = job_of(make=make, epochs=4, momentum=0.5)
    whole = job.compute()
    job = dataclasses.replace(job, save_every=-1.0)
    plain, met = module.train_epoch, list[int]()

    def breaks(*args: Any, **options: Any) -> Any:
        met.append(len(met))
        if len(met) == 3:
            raise Stopped
        return plain(*args, **options)

    monkeypatch.setattr(module, "train_epoch", breaks)
    with pytest.raises(Stopped):
        job.build()
    assert not job.is_cached()
    full = dataclasses.replace(job).remaining()
    assert full == 2 * len(SOURCE)
    assert job.build() is None
    assert len(met) == 5, "two epochs, one that broke, and the two that were left"
    kept = job.load()
    assert kept is not None
    assert equal(kept, whole)
    assert all(torch.equal(t, whole.trained(4).buffers[n]) for n, t in kept.trained(4).buffers.items())
    assert len(list(cache.iterdir())) == 2, "the file, and the state to go on from"


@pytest.mark.parametrize("broken", ["state", "rows", "none"])
def test_what_was_interrupted_and_is_damaged_is_begun_anew(
    broken: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of()
    whole = job.compute()
    job = dataclasses.replace(job, save_every=-1.0)
    plain, met = module.train_epoch, list[int]()

    def breaks(*args: Any, **options: Any) -> Any:
        met.append(1)
        if len(met) == 3:
            raise Stopped
        return plain(*args, **options)

    monkeypatch.setattr(module, "train_epoch", breaks)
    with pytest.raises(Stopped):
        job.build()
    file = job.progress if broken == "state" else job._part
    content = bytearray(file.read_bytes())
    if broken == "rows":
        layout = Layout.of(MAKE(0))
        with open(file, "rb") as one:
            place, _ = FileRows(one, layout, 3, job._metadata(layout))._place("later", 0)
        content[place] ^= 1
    else:
        content[-1] ^= 1
    if broken == "none":
        file.unlink()
    else:
        file.write_bytes(content)
    assert job.build() is None
    assert len(met) == 6, "all three epochs anew"
    kept = job.load()
    assert kept is not None
    assert equal(kept, whole)


def test_processes_make_the_same_bits_and_of_two_runs_one_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = made()
    for job in SPEC.jobs(ground()):
        job.path().unlink()
    there, _ = made(executor=Processes(1))
    assert all(equal(a, b) for a, b in zip(here, there, strict=True))
    job = job_of(lr=0.02)
    passes, plain = list[int](), module.train_epoch

    def counted(*args: Any, **options: Any) -> Any:
        passes.append(1)
        return plain(*args, **options)

    monkeypatch.setattr(module, "train_epoch", counted)
    both = [threading.Thread(target=job.build) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(passes) == 3
    assert job.load() is not None


def test_experts_that_cannot_be_kept_are_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = made()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "file"))
    with pytest.warns(PotstillWarning, match=r"training 2 experts for 3 epochs could not be kept"):
        again, _ = made()
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    assert again.memory_bytes > 0


def test_the_name_holds_all_that_decides_the_bits_and_nothing_else() -> None:
    job = job_of()
    others = [
        dataclasses.replace(job, number=1), job_of(lr=0.1), job_of(optimizer="gsam"),
        job_of(curriculum="pad"), job_of(make=factory("convnet-d1-w5", SOURCE.input, 4)), job_of(augment="none"),
        job_of(train=toy_source("image", per_class=11)), job_of(optimizer="gsam", rho=0.5),
        job_of(optimizer="gsam", alpha=0.5), job_of(schedule="decay"),
    ]  # fmt: skip
    assert job_of(schedule="decay", epochs=4).path() != job_of(schedule="decay").path()
    assert len({j.path() for j in [job, *others]}) == 11
    assert job_of(rho=0.5).path() == job_of(momentum=0.0).path() == job_of(epochs=9).path() == job.path()


@pytest.mark.parametrize(("settings", "said"), [
    ({"epoks": 3}, "unknown setting of experts 'epoks'; did you mean epochs"),
    ({"optimizer": "sam"}, "unknown optimizer of experts 'sam'"),
    ({"curriculum": "pads"}, "unknown curriculum of experts 'pads'"),
    ({"schedule": "cosine"}, "unknown schedule of experts 'cosine'"),
    ({"epochs": 0}, "epochs of experts must be at least 1, but it is 0"),
    ({"optimizer": "gsam", "rho": -1.0}, "rho of a flat step must be at least 0, but it is -1"),
])  # fmt: skip
def test_a_wrong_recipe_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        _ = job_of(**settings).gsam


def test_an_expert_that_runs_away_is_refused() -> None:
    with pytest.raises(PotstillError, match=r"expert 0 of convnet-d1-w4\S* did not stay finite in epoch \d; lower its"):
        job_of(lr=1e30).compute()


def test_an_epoch_that_is_not_there_is_refused() -> None:
    expert = job_of().compute()
    for epoch in (-1, 4):
        with pytest.raises(PotstillError, match=f"snapshots after 0 to 3 epochs, but one after {epoch} is requested"):
            expert.at(epoch)


def test_what_will_be_trained_is_forecast_and_a_plan_gets_what_weighs_as_much() -> None:
    (expected,) = estimate_time([SPEC], SOURCE, MAKE, lambda n: named_augmentation(n, SOURCE), Serial())
    assert (expected.name, str(expected)) == ("experts", "training 2 experts for 3 epochs")
    assert expected.seconds > 0
    stand_in = SPEC.placeholder(SPEC.jobs(ground()))
    real = made()[0]
    assert (len(stand_in), stand_in.epochs) == (2, 3)
    one, other = stand_in[0].at(0), stand_in[0].at(2)
    assert {n: t.shape for n, t in one.items()} == {n: t.shape for n, t in real[0].at(1).items()}
    assert all(not torch.equal(t, other[n]) for n, t in one.items()), "a distance of nothing would be divided by"
    assert estimate_time([SPEC], SOURCE, MAKE, lambda n: named_augmentation(n, SOURCE), Serial()) == ()


def test_the_card_says_network_recipe_and_content() -> None:
    found, _ = made()
    said = SPEC.provenance(found, ground())["experts"]
    assert (said["network"], said["count"], said["epochs"]) == ("convnet-d1-w4-instance-avg", 2, 3)
    assert said["recipe"]["lr"] == 0.05
    assert said["recipe"]["momentum"] == 0.0
    assert said["hash"] == found.digest


# --- flat experts --------------------------------------------------------------------------------------------------


def test_the_flat_step_follows_the_equations() -> None:
    net = MAKE(3)
    theta, batch = copy_parameters(net), SOURCE.fetch(torch.arange(20))
    assert batch.y is not None
    assert isinstance(batch.x, Tensor)
    g1 = dict(zip(theta, gradients(net, theta, batch.x, batch.y), strict=True))
    norm = torch.cat([(p.abs() * g1[n]).flatten() for n, p in theta.items()]).norm()
    up = ascend(theta, g1, 0.5)
    for n, p in theta.items():
        torch.testing.assert_close(up[n], p + 0.5 * p**2 * g1[n] / norm)
    g2 = dict(zip(theta, gradients(net, up, batch.x, batch.y), strict=True))
    d = gsam_direction(g1, g2, 0.3)
    a, b = (torch.cat([g[n].flatten() for n in theta]) for g in (g1, g2))
    across = a - (a @ b) / (b @ b) * b
    torch.testing.assert_close(torch.cat([d[n].flatten() for n in theta]), b - 0.3 * across, atol=1e-6, rtol=1e-4)
    assert abs(float(across @ b)) < 1e-5 * float(b @ b)
    after = gsam_step(net, theta, None, batch.x, batch.y, GSAM(rho=0.5, alpha=0.3), lr=0.1)
    for n, p in theta.items():
        torch.testing.assert_close(after.params[n], p - 0.1 * d[n], atol=1e-6, rtol=1e-4)
    plain = train_step(net, theta, None, batch.x, batch.y, lr=0.1)
    none = gsam_step(net, theta, None, batch.x, batch.y, GSAM(rho=0.0, alpha=0.0), lr=0.1)
    for n in theta:
        torch.testing.assert_close(none.params[n], plain.params[n])
    assert torch.equal(none.loss, plain.loss)


def test_running_statistics_follow_the_pass_before_the_climb_only() -> None:
    net = factory("convnet-d1-w4-batch", SOURCE.input, 4)(0).train()
    theta, batch = copy_parameters(net), SOURCE.fetch(torch.arange(20))
    assert batch.y is not None
    plain = train_step(net, theta, None, batch.x, batch.y, lr=0.1)
    flat = gsam_step(net, theta, None, batch.x, batch.y, GSAM(rho=2.0), lr=0.1)
    assert flat.buffers
    assert all(torch.equal(b, plain.buffers[n]) for n, b in flat.buffers.items())


def test_flat_experts_are_others() -> None:
    plain, flat = job_of().compute(), job_of(optimizer="gsam", rho=0.5).compute()
    assert plain.seed == flat.seed
    assert all(torch.equal(t, flat.at(0)[n]) for n, t in plain.at(0).items())
    assert not equal(plain, flat)


# --- curriculum ----------------------------------------------------------------------------------------------------


def test_the_curriculum_shows_the_published_parts() -> None:
    assert [PAD.part(e) for e in (0, 10, 20, 21, 40, 41, 60, 61, 99)] == [
        (0, 0.75), (0, 0.875), (0, 1), (0, 1), (0, 1), (0.1, 1), (0.1, 1), (0.2, 1), (0.2, 1),
    ]  # fmt: skip
    labels = torch.tensor([0] * 20 + [1] * 10 + [2])
    order = torch.arange(31).flip(0)
    counts = [torch.bincount(labels[PAD.index(e, order, labels)]).tolist() for e in (0, 30, 50, 70)]
    assert counts == [[15, 7, 1], [20, 10, 1], [18, 9, 1], [16, 8, 1]]
    assert PAD.index(70, order, labels).tolist() == [*range(16), *range(20, 28), 30], "the easiest are left out"


def test_a_curriculum_trains_on_the_easy_ones_first(monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(curriculum="pad", epochs=2, score_epochs=1, score_runs=2)
    assert job.order is not None
    scores = job.order.scores()
    assert torch.equal(scores, job.order.scores())
    met: list[set[int]] = []
    plain = module.train_epoch

    def spy(net: Any, made: Any, source: Any, index: Tensor, *args: Any, **options: Any) -> Any:
        met.append(set(index.tolist()))
        return plain(net, made, source, index, *args, **options)

    monkeypatch.setattr(module, "train_epoch", spy)
    job.compute()
    for c in range(4):
        pool = (SOURCE.labels == c).nonzero().flatten()
        easiest = pool[scores[pool].argsort(stable=True)][:9].tolist()  # 75 % of 12
        assert met[0] & set(pool.tolist()) == set(easiest)
    assert job.remaining() == 36 + 36
    assert job_of(curriculum="pad", epochs=2, score_epochs=3, score_runs=1).remaining() == 36 + 36 + 3 * len(SOURCE)


def test_a_curriculum_without_classes_is_refused() -> None:
    train = windows_source()
    with pytest.raises(PotstillError, match=f"a curriculum sorts each class, but {train.name} has none"):
        _ = DifficultyOrder(train=train, make=MAKE, runs=1, epochs=1, batch=8)


# --- what somebody brings ------------------------------------------------------------------------------------------


def buffer_of(experts: int = 2, epochs: int = 3, make: Any = MAKE) -> list[list[list[Tensor]]]:
    """As MTT's buffer.py makes it on a GPU: lists of parameters in order."""

    def snapshot(n: int, e: int) -> list[Tensor]:
        return [p.detach() + 0.1 * e for p in make(n).parameters()]

    return [[snapshot(n, e) for e in range(epochs + 1)] for n in range(experts)]


def given(value: Any, make: Any = MAKE, **changes: Any) -> Trajectories:
    return dataclasses.replace(SPEC, **changes).adopt(value, ground(make))


@pytest.mark.parametrize("old_form", [False, True])
def test_a_published_buffer_is_read(old_form: bool, tmp_path: Path) -> None:
    content = buffer_of()
    for n in (0, 1):
        torch.save(content[n : n + 1], tmp_path / f"replay_buffer_{n}.pt", _use_new_zipfile_serialization=not old_form)
    found = given(tmp_path / "replay_buffer_1.pt")
    both = given(tmp_path)
    assert (len(found), len(both), both.epochs) == (1, 2, 3)
    assert (both.memory_bytes == 0) is not old_form
    names = [n for n, _ in MAKE(0).named_parameters()]
    for n in (0, 1):
        for e in range(4):
            assert list(both[n].at(e)) == names
            for name, t in zip(names, content[n][e], strict=True):
                assert torch.equal(both[n].at(e)[name], t)
    assert equal(found[0], both[1])
    assert found[0].digest == both[1].digest != both[0].digest
    both[0].at(2)[names[0]].zero_()
    assert torch.equal(both[0].at(2)[names[0]], content[0][2][0])
    assert equal(given(content)[1], both[1]), "values serve as well"
    assert equal(given([tmp_path / "replay_buffer_0.pt", found[0]])[1], found[0])


def constant() -> list[list[list[Tensor]]]:
    net = MAKE(0)
    with torch.no_grad():
        return [[[p.detach().cpu() for p in net.parameters()] for _ in range(4)]]


def infinite() -> list[list[list[Tensor]]]:
    content = buffer_of()
    content[1][3][0][0] = float("inf")
    return content


@pytest.mark.parametrize(("content", "said"), [
    (constant, "trajectory 0: its snapshots are all the same, as in buffers that the published code wrote on a CPU"),
    (infinite, "trajectory 1: is not finite after its last epoch"),
    (lambda: buffer_of(make=factory("convnet-d1-w4", SOURCE.input, 7)), "is of a network for 7 classes, but the data "
     "has 4"),
    (lambda: buffer_of(make=factory("convnet-d1-w5", SOURCE.input, 4)), r"its tensor 0 is of shape \(5, 1, 3, 3\), but "
     r"parameter .* of convnet-d1-w4\S* is of shape \(4, 1, 3, 3\)"),
    (lambda: buffer_of(make=factory("convnet-d2-w4", SOURCE.input, 4)),
     r"has 10 tensors, but convnet-d1-w4\S* has 6 parameters"),
    (lambda: buffer_of(epochs=1), "experts of 3 epochs are needed, but one that is given has 1"),
    (lambda: {"state": 1}, "a list of trajectories is required, but this is a dict"),
    (list, "a list of trajectories is required, but this is an empty list"),
    (lambda: [[]], "a list of two snapshots at least is required, but this is an empty list"),
    (lambda: [buffer_of()[0][:1]], "a list of two snapshots at least is required, but this is a list of 1"),
    (lambda: [[1, 2]], "snapshot 0 is not a list of tensors"),
])  # fmt: skip
def test_a_buffer_that_does_not_fit_is_refused_in_one_line(content: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "replay_buffer_0.pt"
    torch.save(content(), path)
    with pytest.raises(PotstillError, match=said) as refused:
        given(path)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_buffer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "replay_buffer_0.pt"
    torch.save(buffer_of(), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text", whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(PotstillError, match="not a whole replay buffer") as refused:
            given(path)
        assert "\n" not in str(refused.value)
    torch.save([Path("code")], path)  # what would run code when it is read
    with pytest.raises(PotstillError, match="not a whole replay buffer"):
        given(path)
    with pytest.raises(PotstillError, match="no such file"):
        given(tmp_path / "none.pt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(PotstillError, match="a folder without experts"):
        given(tmp_path / "folder")
    with pytest.raises(PotstillError, match="none are given"):
        given([])


def test_a_kept_expert_is_read_and_one_of_another_network_or_of_other_data_refused_with_both_named() -> None:
    first, _ = made()
    files = [job.path() for job in SPEC.jobs(ground())]
    assert all(equal(a, b) for a, b in zip(given(files), first, strict=True))
    assert given(files[0], needed=2).epochs == 3
    with pytest.raises(PotstillError, match="experts of 9 epochs are needed, but one that is given has 3"):
        given(files[0], needed=9)
    other = factory("convnet-d1-w5", SOURCE.input, 4)
    with pytest.raises(PotstillError, match=r"an expert of network convnet-d1-w4.*, but the run's is convnet-d1-w5"):
        given(files[0], other)
    with pytest.raises(PotstillError, match="an expert that is given is not a convnet-d1-w5"):
        given(first[0], other)
    train = toy_source("image", per_class=11)
    with pytest.raises(PotstillError, match=r"an expert of toy \(\w{12}\), but the run's data is toy \(\w{12}\)") as no:
        SPEC.adopt(files[0], ground(train=train))
    assert SOURCE.content_hash[:12] in str(no.value)
    assert train.content_hash[:12] in str(no.value)
    files[0].write_bytes(files[0].read_bytes()[:-3])
    with pytest.raises(PotstillError, match="cut off or damaged"):
        given(files[0])
    assert given(files[1], needed=1).epochs == 3, "all that there is"


def test_a_kept_file_under_another_name_is_refused_with_both_named() -> None:
    job, other = job_of(), job_of(make=factory("convnet-d1-w5", SOURCE.input, 4))
    job.build()
    job.path().rename(other.path())
    with pytest.raises(PotstillError, match=r"an expert of network convnet-d1-w4.*, but the run's is convnet-d1-w5"):
        other.load()


# --- through distill -----------------------------------------------------------------------------------------------

DATA = Splits(train=SOURCE, test=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeedsExperts(Random):
    """A method that reads experts."""

    network: str = "convnet-d1-w4"

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return (SPEC,)

    def init(self, problem: Problem, rng: torch.Generator) -> Any:
        experts = problem.assets["experts"]
        assert len(experts) == 2
        assert set(experts[0].at(1)) == {n for n, _ in problem.network(0).named_parameters()}
        return super().init(problem, rng)


def test_distil_makes_them_or_takes_those_that_are_given_and_says_so(tmp_path: Path) -> None:
    (needed,) = potstill.plan(DATA, NeedsExperts(), ipc=1, profile_steps=0).networks
    assert (needed.name, needed.count, needed.cached) == ("experts", 2, 0)
    small = potstill.distill(DATA, NeedsExperts(), ipc=1)
    (entry,) = small.metadata["experts"]
    assert (entry["epochs"], entry["recipe"]["optimizer"]) == (3, "sgd")
    assert small.metadata["cost"]["preparation_seconds"] > 0
    path = tmp_path / "replay_buffer_0.pt"
    torch.save(buffer_of(), path)
    (entry,) = potstill.distill(DATA, NeedsExperts(), ipc=1, experts=[path]).metadata["experts"]
    assert (entry["given"], entry["recipe"], entry["count"]) == (True, {}, 2)
    planned = potstill.plan(DATA, NeedsExperts(), ipc=1, experts=[path])
    assert [(n.count, n.cached, n.seconds, n.provided) for n in planned.networks] == [(2, 2, 0.0, True)]
    torch.save(buffer_of()[:1] + [[p[:1] for p in one] for one in buffer_of()[1:]], path)
    with pytest.raises(PotstillError):
        potstill.plan(DATA, NeedsExperts(), ipc=1, experts=[path])
    with pytest.raises(PotstillError, match="random asks for no expert trajectories"):
        potstill.plan(DATA, "random", ipc=1, experts=[path])
    with pytest.raises(
        PotstillError, match="random asks for no expert trajectories, but some are given; leave experts"
    ):
        potstill.distill(DATA, "random", ipc=1, experts=path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slowly(DM):
    """A method of several steps that reads experts."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return (SPEC,)


def test_a_checkpoint_from_other_experts_is_not_gone_on_with(tmp_path: Path) -> None:
    for n in (0, 1):
        torch.save([*buffer_of()[n:], *buffer_of()[:n]], tmp_path / f"{n}.pt")
    method = Slowly(iterations=3, batch_real=6)
    asked: dict[str, Any] = {"ipc": 1, "checkpoint": tmp_path / "run.checkpoint", "network": "convnet-d1-w4"}
    potstill.distill(DATA, method, **asked, experts=tmp_path / "0.pt", steps=1, checkpoint_every=0)
    with pytest.raises(PotstillError, match="experts"):
        potstill.distill(DATA, method, **asked, experts=tmp_path / "1.pt", resume=True)


def test_a_published_buffer_is_matched_through_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Experts of convnet-d1-w4 for the bundled digits, as buffer.py would have written them."""
    digits = load("digits").train
    job = ExpertTrajectories(count=1, recipe={"epochs": 3, "lr": 0.05}).jobs(
        ground(factory("convnet-d1-w4", digits.input, 10), digits)
    )[0]
    expert = job.compute()
    path, out = tmp_path / "replay_buffer_0.pt", tmp_path / "o.safetensors"
    torch.save([[list(expert.at(e).values()) for e in range(4)]], path)
    words = ["distill", "digits", "--method", "mtt", "--ipc", "1", "--experts", str(path), "--out", str(out), "--steps",
             "2", "--network", "convnet-d1-w4", "--train-epochs", "3", "--max-start-epoch", "1", "--student-steps", "2",
             "--quiet"]  # fmt: skip
    assert main(words) == 0
    (entry,) = potstill.load(out).metadata["experts"]
    assert (entry["given"], entry["count"], entry["epochs"]) == (True, 1, 3)
    capsys.readouterr()
    plan = [w for w in words[1:] if w not in ("--out", str(out))]
    assert main(["plan", *plan]) == 0
    assert "before the first step: none of the experts is trained (1 given)" in capsys.readouterr().out
    assert main([*words, "--network", "convnet-d1-w5"]) == 1
    assert "of convnet-d1-w5-instance-avg is of shape (5, 1, 3, 3)" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:1000])
    assert main(words) == 1
    assert "replay_buffer_0.pt: not a whole replay buffer" in capsys.readouterr().err


def test_the_command_line_takes_paths_of_experts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(buffer_of(), tmp_path / "0.pt")
    said = main(["distill", "digits", "--method", "random", "--ipc", "1", "--experts", str(tmp_path / "0.pt"),
                 str(tmp_path), "--out", str(tmp_path / "o.safetensors")])  # fmt: skip
    assert said == 1
    assert "random asks for no expert trajectories, but some are given; leave experts out" in capsys.readouterr().err
