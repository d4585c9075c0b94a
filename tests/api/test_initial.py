"""A run that starts from an earlier set begins with its very inputs, and says so."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill.cli.main import main
from potstill.core import Splits
from potstill.errors import PotstillError
from potstill.methods.decoupled._parts import ImageInit
from potstill.rng import generator
from potstill.testing import toy_problem, toy_source

DATA = Splits(train=toy_source("image"), test=None)


def made(method: str = "dm", **more: Any) -> Any:
    given = {"ipc": 2, "network": "convnet-d1-w4", "codec": "float32", "steps": 0, **more}
    return potstill.distill(DATA, method, **given)


@pytest.mark.parametrize("method", ["dm", "dsa"])
def test_it_starts_from_the_inputs_of_an_earlier_set(method: str, tmp_path: Path) -> None:
    earlier = made("dm", steps=2, seed=7)
    again = made(method, initial=earlier)
    torch.testing.assert_close(again.inputs, earlier.inputs, atol=1e-5, rtol=1e-5)
    assert again.metadata["initial"]["method"] == "dm"
    assert "initial" not in earlier.metadata
    file = tmp_path / "earlier.safetensors"
    earlier.save(file)
    assert made(method, initial=file).metadata["initial"] == again.metadata["initial"]
    assert not torch.equal(made(method, initial=earlier, steps=1).inputs, again.inputs)


@pytest.mark.parametrize("how", ["noise", "real", "mosaic"])
def test_recovery_starts_from_it_too_whatever_its_own_start(how: Any) -> None:
    problem = toy_problem()
    x = torch.rand(8, 1, 8, 8, generator=generator(3))
    begin = ImageInit(init=how, rank="lowest", factor=2, samples=4, crops=1)
    found = begin(dataclasses.replace(problem, initial=x), (), generator(1))
    torch.testing.assert_close(found, problem.train.normalization.apply(x))


def rows_of(small: Any, name: str) -> torch.Tensor:
    return small.inputs[small.hard_labels == small.classes.index(name)]


@pytest.mark.parametrize(("method", "init_from"), [("dm", "real"), ("dm", "noise"), ("dsa", "k-means")])
@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2)])
def test_more_items_are_filled_and_surplus_ones_dropped(method: str, init_from: str, before: int, after: int) -> None:
    earlier = made("dm", steps=1, seed=7, ipc=before)
    again, plain = (made(method, ipc=after, init_from=init_from, initial=i) for i in (earlier, None))
    common = min(before, after)
    for name in again.classes:
        torch.testing.assert_close(rows_of(again, name)[:common], rows_of(earlier, name)[:common], atol=1e-5, rtol=1e-5)
        assert torch.equal(rows_of(again, name)[common:], rows_of(plain, name)[common:])
    note = (
        "8 of 12 inputs are not in the initial set" if after > before else "4 of 12 inputs of the initial set have no"
    )
    assert any(line.startswith(note) for line in again.notes)


def test_classes_are_matched_by_name_and_missing_ones_are_filled() -> None:
    two = dataclasses.replace(DATA.train, classes=("d", "b", "x", "c"))
    named = dataclasses.replace(DATA.train, classes=("a", "b", "c", "d"))
    earlier = potstill.distill(Splits(train=two, test=None), "dm", ipc=2, network="convnet-d1-w4", steps=1, seed=7)
    settings: Any = {"ipc": 2, "network": "convnet-d1-w4", "steps": 0, "codec": "float32"}
    again = potstill.distill(Splits(train=named, test=None), "dm", initial=earlier, **settings)
    plain = potstill.distill(Splits(train=named, test=None), "dm", **settings)
    for name in ("b", "c", "d"):
        torch.testing.assert_close(rows_of(again, name), rows_of(earlier, name), atol=1e-5, rtol=1e-5)
    assert torch.equal(rows_of(again, "a"), rows_of(plain, "a"))


def test_recovery_fills_what_the_set_lacks_from_its_own_start() -> None:
    problem = toy_problem()
    x, rows = torch.rand(3, 1, 8, 8, generator=generator(3)), torch.tensor([0, 1, 6])
    begin = ImageInit(init="real", rank="lowest", factor=2, samples=4, crops=1)
    found = begin(dataclasses.replace(problem, initial=x, initial_rows=rows), (), generator(1))
    own = begin(problem, (), generator(1))
    torch.testing.assert_close(found[rows], problem.train.normalization.apply(x))
    others = torch.tensor([2, 3, 4, 5, 7])
    assert torch.equal(found[others], own[others])


def test_a_set_that_does_not_fit_is_refused_with_the_reason() -> None:
    earlier = made()
    renamed = dataclasses.replace(DATA.train, classes=("w", "x", "y", "z"))
    table = Splits(train=toy_source("table"), test=None)
    for data, changed, why in (
        (DATA, {"method": "herding", "network": None}, "herding has no init to choose"),
        (Splits(train=renamed, test=None), {}, "it has none of the classes w, x, y, z"),
        (table, {"network": "mlp"}, "its inputs are image 1×8×8, but the data's are table"),
    ):
        settings = {"ipc": 2, "network": "convnet-d1-w4", "codec": "float32", "steps": 0, **changed}
        with pytest.raises(PotstillError, match=why):
            potstill.distill(data, settings.pop("method", "dm"), initial=earlier, **settings)


def test_the_command_line_takes_a_file_for_an_init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = str(tmp_path / "first.safetensors"), str(tmp_path / "second.safetensors")
    words = [
        "distill",
        "digits",
        "--network",
        "convnet-d1-w4",
        "--codec",
        "float32",
        "--lr",
        "0",
        "--steps",
        "1",
        "--json",
    ]
    assert main([*words, "--ipc", "1", "--out", first]) == 0
    assert main([*words, "--ipc", "2", "--out", second, "--init", first]) == 0
    capsys.readouterr()
    small, more = potstill.load(first), potstill.load(second)
    torch.testing.assert_close(more.inputs[::2], small.inputs, atol=1e-5, rtol=1e-5)
    assert more.metadata["initial"]["method"] == "dm"


def test_a_checkpoint_from_another_beginning_is_not_gone_on_with(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    made(initial=made(seed=1), steps=1, checkpoint=checkpoint, checkpoint_every=0)
    with pytest.raises(PotstillError, match="initial"):
        made(initial=made(seed=2), steps=1, checkpoint=checkpoint, resume=True)
