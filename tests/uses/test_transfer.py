"""Pre-training on vectors and few labels afterwards: by loops, bad input, resume, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import potstill
from potstill.cli.main import main
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.uses.transfer import FewLabels, Learner, Recipe, conclude, measure_transfer, probe_accuracy

SPELLED = "representations:size=5,epochs=1,network=convnet-w4,batch=32,outputs=8"
SHORT = {"seeds": 2, "steps": 3, "tuning_steps": 3, "test_samples": 60, "labels": 3, "batch": 16}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transfer") / "small.safetensors"
    splits = potstill.load_data("digits", targets=SPELLED)
    potstill.distill(splits, "frepo", items=8, steps=1, network="convnet-w4", progress=None, out=path)
    return path


def digits() -> TensorSource:
    train = potstill.load_data("digits").train
    assert isinstance(train, TensorSource)
    return train


def learner(**changes: object) -> Learner:
    train = digits()
    recipe = Recipe(steps=4, batch=8, lr=0.05, weight_decay=1e-3)
    values: dict[str, object] = {
        "network": "convnet-w4", "input": train.input, "normalization": train.normalization, "vectors": 10,
        "classes": 10, "device": torch.device("cpu"), "pretraining": recipe, "tuning": recipe, "rates": (0.05,),
        "augment": Learner.augmentation("none", train),
    }  # fmt: skip
    return Learner(**values | changes)  # type: ignore[arg-type]


def test_few_labels_are_balanced_and_halved() -> None:
    few = FewLabels.draw(digits(), 4, torch.Generator().manual_seed(0))
    assert few.y.bincount().tolist() == [4] * 10
    assert len(set(few.places.tolist())) == 40
    assert few.y[few.fit].bincount().tolist() == few.y[few.validation].bincount().tolist() == [2] * 10
    assert not set(few.fit.tolist()) & set(few.validation.tolist())
    assert torch.equal(digits().labels[few.places], few.y)


def test_the_body_is_what_torch_trains_and_has_no_head() -> None:
    """A loop over the same samples with torch's own optimizer and schedule gives the same parameters."""
    one = learner(pretraining=Recipe(steps=3, batch=20, lr=0.1, weight_decay=1e-3))
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 1, 8, 8, generator=rng), torch.randn(20, 10, generator=rng)
    body = one.pretrain(x, y, 7)
    untrained = one.pretrain(None, None, 7)
    assert body.keys() == untrained.keys()
    assert not any(name.startswith("classifier") for name in body)
    from potstill.rng import derive_seed

    network = one._make(10)(derive_seed(7, "network"))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    for _ in range(3):  # a batch of all, in whatever order
        loss = (network(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for name, tensor in body.items():
        torch.testing.assert_close(tensor, network.state_dict()[name], rtol=1e-3, atol=1e-5)
        assert not torch.equal(tensor, untrained[name])


def test_a_rate_is_chosen_without_the_test_data() -> None:
    few, train = FewLabels.draw(digits(), 6, torch.Generator().manual_seed(0)), digits()
    x, y = train.fetch(torch.arange(200)).x, train.labels[:200]
    assert isinstance(x, torch.Tensor)
    both = learner(rates=(1e-6, 0.1), tuning=Recipe(steps=60, batch=30, lr=1.0, weight_decay=0.0))
    body = both.pretrain(None, None, 0)
    accuracy, rate = both.fine_tune(body, few, (x, y), 0)
    wrong, same = both.fine_tune(body, few, (x, (y + 1) % 10), 0)
    assert rate == same == 0.1
    assert accuracy > 0.3 > wrong


def test_the_probe_against_least_squares() -> None:
    """With a small penalty and fewer directions than samples, ridge regression is least squares with a bias."""
    rng = np.random.default_rng(0)
    few = FewLabels.draw(digits(), 8, torch.Generator().manual_seed(0))
    rows, queries = rng.normal(size=(80, 5)), rng.normal(size=(300, 5))
    rows += 3 * np.eye(10)[few.y.numpy()] @ rng.normal(size=(10, 5))
    classes = rng.integers(0, 10, 300)
    import potstill.uses.transfer.learner as module

    got = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PENALTIES", (1e-9,))
        got.append(probe_accuracy(torch.tensor(rows), few, torch.tensor(queries), torch.tensor(classes)))
    ones = np.ones((80, 1))
    weights, *_ = np.linalg.lstsq(np.hstack([rows, ones]), np.eye(10)[few.y.numpy()], rcond=None)
    wanted = (np.hstack([queries, np.ones((300, 1))]) @ weights).argmax(1)
    assert got == [pytest.approx(float((wanted == classes).mean()))]


def test_a_whole_measurement_resumes_and_repeats(made: Path, tmp_path: Path) -> None:
    first = measure_transfer(made, "digits", "digits", out=tmp_path / "a", executor="serial", **SHORT)  # type: ignore[arg-type]
    ways = ["none", "this set", "random", "k-means", "all data", "teacher"]
    assert [row["way"] for row in first["rows"]] == first["ways"] == ways
    own = first["sets"]["this set"]["bytes"]
    assert all(first["sets"][way]["bytes"] <= own for way in ("random", "k-means"))
    (tmp_path / "a" / "cells" / "random-1.json").unlink()
    again = measure_transfer(made, "digits", "digits", out=tmp_path / "a", executor="serial", **SHORT)  # type: ignore[arg-type]
    assert again == first == json.loads((tmp_path / "a" / "transfer.json").read_text())
    with pytest.raises(PotstillError, match="other settings or data"):
        measure_transfer(made, "digits", "digits", out=tmp_path / "a", **SHORT | {"steps": 4})  # type: ignore[arg-type]


def test_golden_sentences() -> None:
    """Three networks of each way: every claim of the sentences by hand."""
    values = {
        "none": [0.5, 0.53, 0.5], "this set": [0.6, 0.62, 0.61], "random": [0.7, 0.73, 0.7],
        "k-means": [0.6, 0.61, 0.63], "all data": [0.9, 0.93, 0.9],
    }  # fmt: skip
    cells = [
        {"way": way, "number": n, "accuracy": v, "probe": v} for way, row in values.items() for n, v in enumerate(row)
    ]
    cells += [{"way": "teacher", "number": n, "accuracy": None, "probe": 0.9} for n in range(3)]
    found = conclude({
        "cells": cells, "test_samples": 1000, "ways": [*values, "teacher"], "sets": {}, "labels": 10, "source": "a",
        "target": "b",
    })  # fmt: skip
    assert found["verdict"] == {"none": "above", "random": "below", "k-means": "not told apart", "all data": "below"}
    assert "+10.0 points" in found["sentences"][0]
    assert found["sentences"][0].endswith("it helps.")
    assert "-10.0 points" in found["sentences"][1]
    assert found["sentences"][1].endswith("keep real pictures.")
    assert found["differences"]["teacher"]["probe"]["mean"] == pytest.approx(-0.29)


def test_bad_input(made: Path) -> None:
    classes = potstill.distill("digits", "random", ipc=1, progress=None)
    with pytest.raises(PotstillError, match="with vectors as targets is needed"):
        measure_transfer(classes, "digits", "digits")
    for name in ("labels", "seeds", "steps"):
        with pytest.raises(PotstillError, match=f"{name} must be a whole number"):
            measure_transfer(made, "digits", "digits", **{name: 0})  # type: ignore[arg-type]
    with pytest.raises(PotstillError, match="lr and tuning_lr must be above 0"):
        measure_transfer(made, "digits", "digits", tuning_lr=())
    with pytest.raises(PotstillError, match="must have the vectors of the set"):
        measure_transfer(made, potstill.load_data("digits"), "digits")
    colour = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(PotstillError, match="as many channels"):
        measure_transfer(made, "digits", potstill.load_data((colour, np.arange(40) % 2)))


def test_the_command(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["use", "transfer", str(made), "--data", "digits", "--target", "digits", "--out", str(tmp_path / "t")]
    for name, value in SHORT.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    assert main([*words, "--executor", "serial"]) == 0
    text = capsys.readouterr().out
    assert "random pictures with the teacher's vectors" in text
    assert "changes accuracy by" in text
    assert main([*words, "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["ways"][0] == "none"


def test_labels_may_be_a_part_of_each_class() -> None:
    train = digits()
    few = FewLabels.draw(train, "5%", torch.Generator().manual_seed(0))
    assert few.y.bincount().tolist() == [max(2, round(0.05 * int(n))) for n in train.labels.bincount()]
    least = FewLabels.draw(train, "0.1 %", torch.Generator().manual_seed(0))
    assert least.y.bincount().tolist() == [2] * 10
    same = FewLabels.draw(train, 7, torch.Generator().manual_seed(0))
    assert same.y.bincount().tolist() == [7] * 10


@pytest.mark.parametrize("labels", ["0%", "101%", "few", "1 %%", "-1%", ""])
def test_other_parts_are_refused(labels: str, made: Path) -> None:
    with pytest.raises(PotstillError, match="a part of them such as 1%"):
        measure_transfer(made, "digits", "digits", labels=labels)


def test_the_command_takes_a_part_of_the_labels(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["use", "transfer", str(made), "--data", "digits", "--target", "digits", "--labels", "1%", "--seeds", "2"]
    words += ["--steps", "3", "--tuning-steps", "3", "--test-samples", "60", "--out", str(tmp_path / "o")]
    assert main(words) == 0
    assert "With 1% of the labels of each class of digits" in capsys.readouterr().out
    assert json.loads((tmp_path / "o" / "transfer.json").read_text())["labels"] == "1%"
