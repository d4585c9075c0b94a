"""A run that starts from an earlier set begins with its very inputs, and says so."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
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


def test_a_set_that_does_not_fit_is_refused_with_the_reason() -> None:
    earlier = made()
    for changed, why in (
        ({"ipc": 1}, r"it has \[2, 2, 2, 2\] inputs of the classes, but this one will have \[1, 1, 1, 1\]"),
        ({"method": "herding", "network": None}, "herding has no start to choose"),
    ):
        with pytest.raises(PotstillError, match=why):
            made(**{**changed, "initial": earlier})


def test_a_checkpoint_from_another_beginning_is_not_gone_on_with(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.checkpoint"
    made(initial=made(seed=1), steps=1, checkpoint=checkpoint, checkpoint_every=0)
    with pytest.raises(PotstillError, match="initial"):
        made(initial=made(seed=2), steps=1, checkpoint=checkpoint, resume=True)
