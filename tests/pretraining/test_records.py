"""A record equals a plain loop that trains the same network; interrupted, it ends with the same bits."""

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.augment.names import named_augmentation
from potstill.core import AssetContext
from potstill.errors import PotstillError, PotstillWarning
from potstill.execution import Processes, Serial
from potstill.functional import training_dynamics
from potstill.nn import factory
from potstill.pretraining import Record, Recording, RecordTraining, build_assets
from potstill.pretraining.training_dynamics import CLOSER, FIELDS, Run, snapshot_epochs
from potstill.testing import toy_source

SOURCE = toy_source("image")
MAKE = factory("convnet-d1-w4-batch", SOURCE.input, 4)
NONE = named_augmentation("none", SOURCE)
RECIPE: dict[str, float | int | str] = {
    "epochs": 4, "batch": 16, "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "cosine",
}  # fmt: skip
GROUND = AssetContext(train=SOURCE, network=MAKE, augmentation=lambda name: NONE)
SPEC = Recording(name="record", count=2, recipe=RECIPE)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    return tmp_path


def one(**recipe: Any) -> RecordTraining:
    spec = dataclasses.replace(SPEC, count=1, recipe={**RECIPE, **recipe})
    return dataclasses.replace(spec.jobs(GROUND)[0], save_every=0.0)


def run_of(training: RecordTraining) -> Run:
    training.build()
    made = training.load()
    assert made is not None
    return made


def bits(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_it_says_what_a_plain_loop_sees() -> None:
    training = one()
    record = Record((training.compute(),))
    net, rng = MAKE(training.seed).train(), torch.Generator()
    rng.set_state(training.first().rng)
    opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    every = SOURCE.fetch(torch.arange(len(SOURCE)))
    assert isinstance(every.x, Tensor)
    assert every.y is not None
    before = None
    for epoch in range(4):
        opt.param_groups[0]["lr"] = 0.05 * (1 + torch.cos(torch.tensor(torch.pi * epoch / 4)).item()) / 2
        order = torch.randperm(len(SOURCE), generator=rng)
        for start in range(0, len(order), 16):
            at = order[start : start + 16]
            NONE.draw(len(at), SOURCE.input.shape, rng)
            opt.zero_grad()
            F.cross_entropy(net.train()(every.x[at]), every.y[at]).backward()
            opt.step()
        with torch.no_grad():
            z = net.eval()(every.x)
        p = z.softmax(1)
        seen = {
            "probability": p[torch.arange(len(p)), every.y], "margin": training_dynamics.logit_margin(z, every.y),
            "el2n": (p - F.one_hot(every.y, 4)).norm(dim=1), "correct": (z.argmax(1) == every.y).float(),
            "movement": torch.zeros(len(p)) if before is None else (p * (p / before).log()).abs().sum(1),
            "probability_margin": training_dynamics.probability_margin(p, every.y),
        }  # fmt: skip
        assert set(seen) == set(FIELDS)
        for field, values in seen.items():
            torch.testing.assert_close(record.series(field)[0, epoch], values, atol=2e-5, rtol=2e-4)
        before = p
    torch.testing.assert_close(record.after("entropy", 4)[0], torch.special.entr(p).sum(1), atol=1e-5, rtol=1e-4)
    theta = record.network(0, 4).parameters
    for name, value in net.named_parameters():
        torch.testing.assert_close(theta[name], value.detach(), atol=1e-5, rtol=1e-4)


def test_interrupted_at_any_epoch_it_ends_with_the_same_bits(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = one()
    whole = run_of(training)
    expected = bits(training.folder())
    for stop in (1, 2, 3):
        monkeypatch.setenv("POTSTILL_CACHE", str(cache / f"again-{stop}"))
        made = RecordTraining._evaluate_samples
        seen = 0

        def dies(self: RecordTraining, *args: Any, stop: int = stop, made: Any = made) -> Any:
            nonlocal seen
            if (seen := seen + 1) > stop:
                raise KeyboardInterrupt
            return made(self, *args)

        monkeypatch.setattr(RecordTraining, "_evaluate_samples", dies)
        with pytest.raises(KeyboardInterrupt):
            run_of(training)
        assert training.load() is None
        monkeypatch.setattr(RecordTraining, "_evaluate_samples", made)
        again = run_of(training)
        found = bits(training.folder())
        assert found.keys() == expected.keys()
        assert all(found[n] == expected[n] for n in found if n.startswith("rows"))
        for a, b in zip(whole.networks.values(), again.networks.values(), strict=True):
            assert all(torch.equal(t, b.parameters[n]) for n, t in a.parameters.items())


def test_the_first_epochs_alone_are_the_first_of_all_and_go_on() -> None:
    short = one(until=2)
    assert short.folder() == one().folder()
    first = run_of(short)
    assert len(first.rows) == 2
    assert one().load() is None
    all_of_it = run_of(one())
    fresh = Record((one().compute(),))
    for epoch in range(4):
        for field in FIELDS:
            assert torch.equal(torch.from_numpy(all_of_it.rows[epoch][field].copy()), fresh.runs[0].rows[epoch][field])
    assert len(run_of(short).rows) == 2
    assert not (short.folder() / "state.safetensors").exists()


def test_it_is_made_once_for_all_and_whoever_makes_it_makes_the_same(cache: Path) -> None:
    def get(executor: Any) -> tuple[Any, list[tuple[str, int, int]]]:
        seen: list[tuple[str, int, int]] = []
        made, seconds = build_assets(
            [SPEC], SOURCE, MAKE, lambda _: NONE, executor=executor, progress=lambda *row: seen.append(row)
        )
        assert seconds > 0
        return made["record"], seen

    first, seen = get(Serial())
    assert [row[1:] for row in seen] == [(0, 2), (1, 2), (2, 2)]
    again, seen = get(Serial())
    assert [row[1:] for row in seen] == [(2, 2)]
    assert torch.equal(first.series("margin"), again.series("margin"))
    assert not torch.equal(first.series("margin")[0], first.series("margin")[1])
    for folder in (cache / "records").iterdir():
        for file in folder.iterdir():
            file.unlink()
    elsewhere, _ = get(Processes(2))
    assert torch.equal(first.series("movement"), elsewhere.series("movement"))


def test_what_is_broken_is_made_again() -> None:
    training = one()
    whole = run_of(training)
    kept = torch.from_numpy(whole.rows[1]["el2n"].copy())
    for name in ("rows-00002.safetensors", "network-00004.safetensors", "network-00001.safetensors"):
        (training.folder() / name).write_bytes(b"no")
        assert training.load() is None
        assert torch.equal(torch.from_numpy(run_of(training).rows[1]["el2n"].copy()), kept)


def test_a_run_can_be_trained_on_a_part_and_looks_at_all() -> None:
    held, part = one(holdout=0.25), one(part=0.5)
    assert torch.bincount(SOURCE.labels[held.index]).tolist() == [9] * 4
    assert torch.bincount(SOURCE.labels[part.index]).tolist() == [6] * 4
    both = dataclasses.replace(SPEC, recipe={**RECIPE, "part": 0.5}).jobs(GROUND)
    assert both[0].index.tolist() != both[1].index.tolist()
    assert Record((held.compute(),)).series("correct").shape == (1, 4, len(SOURCE))
    assert len({t.folder() for t in (held, part, one())}) == 3


def test_epochs_that_are_not_there_are_named() -> None:
    record = Record((one(epochs=4).compute(),))
    assert snapshot_epochs(4) == (1, 2, 4)
    assert snapshot_epochs(60) == (1, 2, 5, 10, 20, 50, 60)
    assert record.after(CLOSER[0], 2).shape == (1, len(SOURCE))
    with pytest.raises(PotstillError, match="epochs 1 to 4, but epoch 5"):
        record.after("el2n", 5)
    with pytest.raises(PotstillError, match="entropy is recorded after epochs 1, 2, 4, not after 3"):
        record.after("entropy", 3)
    with pytest.raises(PotstillError, match="stored after epochs 1, 2, 4, not after 3"):
        record.network(0, 3)


def test_a_plan_needs_no_training() -> None:
    record = SPEC.placeholder(SPEC.jobs(GROUND))
    assert record.series("margin").shape == (2, 4, len(SOURCE))
    assert record.network(1, 4).parameters.keys() == dict(MAKE(0).named_parameters()).keys()


def obtained() -> dict[str, Tensor]:
    record = build_assets([SPEC], SOURCE, MAKE, lambda name: NONE, executor=Serial())[0]["record"]
    return {field: record.series(field) for field in FIELDS}


@pytest.mark.parametrize("full_after", [0, 3])
def test_a_cache_that_cannot_be_written_costs_time_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_after: int
) -> None:
    wanted, left = obtained(), [full_after]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / ("other" if full_after else "file")))

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    why = "No space left" if full_after else "Not a directory"
    with pytest.warns(
        PotstillWarning, match=rf"training 2 networks for 4 epochs could not be kept.*{why}.*set POTSTILL_CACHE"
    ):
        found = obtained()
    assert all(torch.equal(found[field], wanted[field]) for field in FIELDS)


@pytest.mark.parametrize("kind", ["rows", "network"])
def test_a_bit_that_fell_over_in_the_cache_is_made_again(cache: Path, kind: str) -> None:
    wanted = obtained()
    damaged = sorted((cache / "records").glob(f"*/{kind}-*.safetensors"))[-1]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-3] + bytes([whole[-3] ^ 4]) + whole[-2:])
    found = obtained()
    assert all(torch.equal(found[field], wanted[field]) for field in FIELDS)
    assert damaged.read_bytes()[-3] == whole[-3]
