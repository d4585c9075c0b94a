"""Augmentation that follows validation data: batches, loaders, and the comparison beside training on both parts."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader

import potstill
from potstill.augment.names import load_augmentation
from potstill.augment.siamese import dsa
from potstill.cli.main import main
from potstill.core import Augmentation, Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.execution import Processes
from potstill.rng import generator
from potstill.testing import check_augmentation
from potstill.uses.augmentation import (
    WAYS,
    AdaptedAugmentation,
    AdaptedLoader,
    AdaptedTransform,
    adapt_batch,
    as_upstream,
    compare_augmentation,
    validation_gradient,
)
from potstill.uses.augmentation.summary import conclude

QUICK: dict[str, Any] = {"seeds": 1, "steps": 3, "batch": 16, "network": "mlp-w4", "executor": "serial"}


def two_clouds(n: int, seed: int) -> TensorSource:
    rng = generator(seed, "clouds")
    labels = torch.arange(n) % 2
    x = torch.randn(n, 4, generator=rng) + 2.0 * (2 * labels - 1)[:, None]
    return TensorSource.make(x, [f"class {c}" for c in labels.tolist()], name="clouds", classes=["class 0", "class 1"])


def mirror(x: Tensor, y: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
    """Turn 60 % of the samples into samples of the other class, with the labels of before."""
    return torch.where(torch.rand(len(x), 1, generator=rng) < 0.6, -x, x), y


def compare(upstream: Any = mirror, **more: Any) -> dict[str, Any]:
    data = Splits(train=two_clouds(80, 0), test=two_clouds(200, 1))
    given: dict[str, Any] = {"seeds": 3, "steps": 60, "batch": 32, "network": "mlp-w16", "executor": "serial"}
    return compare_augmentation(data, upstream, **{**given, **more})


def test_a_broken_augmentation_is_repaired() -> None:
    """It turns the classes around, so that a network learns the opposite; with adapted labels it learns the classes."""
    result = compare()
    means = {row["way"]: row["accuracy"]["mean"] for row in result["rows"]}
    assert tuple(means) == WAYS
    assert means["none"] > 0.98
    assert means["raw"] < 0.7
    assert means["adapted"] > 0.95
    assert means["weights"] > 0.95
    assert 0.3 < result["zero"] < 0.8
    assert result["verdict"]["adapting"] == "above"
    said = " ".join(result["sentences"])
    assert "adapting improves it" in said
    assert "Training on training and validation data, without the augmentation, is" in said


def test_the_seed_decides_everything() -> None:
    one, again, other = (compare(seeds=1, steps=10, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one["rows"] != other["rows"]


def test_labels_of_samples_of_the_other_class_are_corrected() -> None:
    source = two_clouds(64, 0)
    x, y = source.fetch(torch.arange(64)).x, source.labels
    network = nn.Linear(4, 2)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    gradient = validation_gradient(network, x, y)
    before = {name: p.clone() for name, p in network.named_parameters()}
    weights, labels = adapt_batch(network, x, 1 - y, gradient, pull=0.5)
    assert (labels.argmax(1) == y).float().mean() > 0.9
    assert float(weights.mean()) == pytest.approx(1.0)
    half_wrong = torch.where(torch.arange(64) < 32, 1 - y, y)
    fixed, same = adapt_batch(network, x, half_wrong, gradient, fixed=True)
    assert torch.equal(same.argmax(1), half_wrong)
    assert int((fixed[:32] == 0).sum()) > 28
    assert int((fixed[32:] == 0).sum()) < 4
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters()), "the network stays as it is"
    assert all(p.grad is None for p in network.parameters())


def test_a_network_with_batch_norm_keeps_its_statistics() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    source = two_clouds(16, 0)
    x, y = source.fetch(torch.arange(16)).x, source.labels
    gradient = validation_gradient(network, x, y)
    statistics = network[1].running_mean.clone()
    adapt_batch(network, x, y, gradient)
    assert torch.equal(statistics, network[1].running_mean)


def test_a_loader_adapts_each_batch_to_the_network_of_that_moment() -> None:
    source = two_clouds(32, 0)
    x, y = source.fetch(torch.arange(32)).x, source.labels
    network = nn.Linear(4, 2)

    def loader(**more: Any) -> AdaptedLoader:
        return AdaptedLoader(
            loader=[(x[:16], y[:16]), (x[16:], y[16:])], network=network, upstream=mirror, validation=(x, y),
            rng=generator(0, "loader"), **more,
        )  # fmt: skip

    first, again = list(loader()), list(loader())
    assert [tuple(t.shape for t in row) for row in first] == [((16, 4), (16, 2), (16,))] * 2
    assert all(torch.equal(a, b) for one, two in zip(first, again, strict=True) for a, b in zip(one, two, strict=True))
    with torch.no_grad():
        network.weight.mul_(-3)
    assert not torch.equal(first[0][1], next(iter(loader()))[1]), "other weights, other labels"


def test_an_augmentation_of_potstill_is_an_upstream_one() -> None:
    data = potstill.load_data("digits")
    x, y = data.train.fetch(torch.arange(8)).x, data.train.labels[:8]
    upstream = as_upstream(load_augmentation("dsa", data.train))
    changed, labels = upstream(x, y, generator(0, "dsa"))
    assert changed.shape == x.shape
    assert not torch.equal(changed, x)
    assert torch.equal(labels, y)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"validation": 0.0}, "validation must lie between 0 and 1"),
        ({"validation": 1.0}, "validation must lie between 0 and 1"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1, not 0"),
        ({"steps": 0}, "steps must be a whole number of at least 1, not 0"),
        ({"batch": True}, "batch must be a whole number of at least 1"),
        ({"lr": 0.0}, "lr be above 0"),
        ({"pull": -1.0}, "pull and temperature must be at least 0"),
        ({"pull": float("nan")}, "pull and temperature must be at least 0"),
        ({"temperature": float("inf")}, "pull and temperature must be at least 0"),
        ({"upstream": ""}, "augment is empty; give one of `potstill augmentations`"),
        ({"upstream": "dsaa"}, "unknown augmentation 'dsaa'; did you mean dsa"),
        ({"upstream": "dsa"}, "augmentation dsa is of pictures, but clouds has table data"),
        ({"upstream": 3}, "augmentation int must be a function of inputs, labels and a torch.Generator"),
        ({"upstream": lambda x: x}, "must be a function of inputs, labels and a torch.Generator"),
        ({"executor": "threads"}, "unknown executor 'threads'"),
    ],
)
def test_bad_settings_are_refused(more: dict[str, Any], match: str) -> None:
    with pytest.raises(PotstillError, match=match):
        compare(**more)


def test_data_without_a_test_split_or_with_one_class_are_refused() -> None:
    with pytest.raises(PotstillError, match="two classes or more and a test split"):
        compare_augmentation(Splits(train=two_clouds(20, 0), test=None), mirror)
    one = TensorSource.make(torch.randn(20, 4), ["a"] * 20, name="one", classes=["a"])
    with pytest.raises(PotstillError, match="two classes or more and a test split"):
        compare_augmentation(Splits(train=one, test=one), mirror)


def test_a_validation_part_of_one_class_is_refused() -> None:
    labels = ["a"] * 19 + ["b"]
    few = TensorSource.make(torch.randn(20, 4, generator=generator(0, "few")), labels, name="few", classes=["a", "b"])
    with pytest.raises(PotstillError, match="validation part has one class alone"):
        compare_augmentation(Splits(train=few, test=two_clouds(10, 1)), mirror, network="mlp-w4", steps=1)


@dataclass(frozen=True)
class Noise:
    """Noise as an `Augmentation`."""

    size: float = 0.1

    def draw(self, n: int, shape: tuple[int, ...], rng: Generator, /) -> Tensor:
        return torch.randn(n, *shape, generator=rng)

    def apply(self, x: Tensor, params: Tensor, /) -> Tensor:
        return x + self.size * params


def adapted(network: nn.Module, shape: tuple[int, ...] = (4,), **more: Any) -> AdaptedAugmentation:
    rng = generator(0, "held")
    held = torch.randn(20, *shape, generator=rng), torch.arange(20) % 2
    return AdaptedAugmentation(**{"augmentation": Noise(), "network": network, "validation": held, **more})


def test_an_adapted_augmentation_is_an_augmentation() -> None:
    """It stands wherever one is taken, and its inputs are those of the one that it adapts."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 2))
    augment = adapted(network, (3, 12, 12), augmentation=dsa())
    assert isinstance(augment, Augmentation)
    check_augmentation(augment, (3, 12, 12))
    x, y = torch.randn(8, 3, 12, 12, generator=generator(0, "x")), torch.arange(8) % 2
    params = augment.draw(8, (3, 12, 12), generator(0, "draw"))
    inputs = augment.apply(x, params)
    assert torch.equal(inputs, dsa().apply(x, dsa().draw(8, (3, 12, 12), generator(0, "draw"))))
    weights, labels = augment.adapt(inputs, y, params)
    again = augment.adapt(inputs, y, params)
    assert torch.equal(weights, again[0])
    assert torch.equal(labels, again[1])
    with torch.no_grad():
        network[1].weight.mul_(-3)
    assert not torch.equal(labels, augment.adapt(inputs, y, params)[1]), "other weights, other labels"


def test_augmentation_loader_and_transform_give_the_same_batches() -> None:
    source, network = two_clouds(32, 0), nn.Linear(4, 2)
    x, y = source.fetch(torch.arange(32)).x, source.labels
    settings: dict[str, Any] = {"network": network, "validation": (x, y), "pull": 1.0, "batch": 8}
    augment = adapted(**settings)
    rng = generator(0, "same")
    params = augment.draw(16, (4,), rng)
    inputs = augment.apply(x[:16], params)
    weights, labels = augment.adapt(inputs, y[:16], params)
    transform = AdaptedTransform(**settings, upstream=as_upstream(Noise()), rng=generator(0, "same"))
    samples = [(x[n], int(y[n])) for n in range(16)]
    first = next(iter(DataLoader(samples, batch_size=16, collate_fn=transform.collate)))  # type: ignore[arg-type]
    loader = AdaptedLoader(
        **settings, loader=[(x[:16], y[:16])], upstream=as_upstream(Noise()), rng=generator(0, "same")
    )
    for other in (first, next(iter(loader))):
        assert all(torch.equal(a, b) for a, b in zip((inputs, labels, weights), other, strict=True))


def test_a_worker_of_a_data_loader_is_refused_as_its_network_is_never_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(4, 4), torch.arange(4) % 2
    transform = AdaptedTransform(
        network=nn.Linear(4, 2), validation=(x, y), upstream=mirror, rng=generator(0, "worker")
    )  # fmt: skip
    monkeypatch.setattr("potstill.uses.augmentation.adapt.get_worker_info", lambda: "a worker")
    with pytest.raises(PotstillError, match="give num_workers=0, or AdaptedLoader"):
        transform.collate([(x[0], 0), (x[1], 1)])


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"validation": (torch.randn(6, 4), torch.ones(6, dtype=torch.int64))}, "have one class alone"),
        ({"validation": (torch.randn(6, 4), torch.arange(5) % 2)}, "6 inputs, 5 classes"),
        ({"batch": 0}, "batches of 0"),
    ],
)
def test_bad_validation_samples_are_refused(more: dict[str, Any], match: str) -> None:
    with pytest.raises(PotstillError, match=match):
        adapted(nn.Linear(4, 2), **more)


AUG = """
import torch

from potstill.augment.siamese import Siamese


def mirror(x, y, rng):
    return torch.where(torch.rand(len(x), 1, generator=rng) < 0.6, -x, x), y


def soft(x, y, rng):
    rows = torch.nn.functional.one_hot(y, 2).float()
    return x, 0.9 * rows + 0.05


def factory():
    return Siamese(strategy=())


class Noise:
    def draw(self, n, shape, rng):
        return torch.randn(n, *shape, generator=rng)

    def apply(self, x, params):
        return x + params


def one(x, y, rng):
    return x


def narrow(x, y, rng):
    return x[:, :2], y


def fails(x, y, rng):
    return x.nothing, y


def broken(x, y, rng):
    return x * float("nan"), y


def above(x, y, rng):
    return x, y + 1


def reals(x, y, rng):
    return x, y.float()


def numpy(x, y, rng):
    return x.numpy(), y


def fewer(x, y, rng):
    return x, y[:-1]


def single(x):
    return x


number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "aug.py").write_text(AUG)
    return str(tmp_path / "aug.py")


@pytest.mark.parametrize("name", ["mirror", "soft", "factory", "Noise"])
def test_functions_and_classes_of_a_file_are_augmentations(name: str, file: str) -> None:
    result = compare(f"{file}:{name}", **QUICK)
    assert result["augmentation"] == f"aug.py:{name}"
    assert "aug.py" in result["settings"]["augment"]["files"]


def test_a_value_and_a_name_are_augmentations() -> None:
    assert compare(Noise(), **QUICK)["settings"]["augment"]["settings"] == "Noise(size=0.1)"
    digits = potstill.load_data("digits")
    assert compare_augmentation(digits, "dsa", **QUICK)["augmentation"] == "dsa-noflip", "digits are not mirrored"


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("one", "must return inputs and labels, but it returned a Tensor"),
        ("narrow", r"must return inputs \(n, 4\) and as many labels, but it returned \(16, 2\) and \(16,\)"),
        ("fails", r"aug.py:fails fails on inputs of shape \(16, 4\): AttributeError: 'Tensor' object has no"),
        ("broken", "must return inputs that are finite floats"),
        ("above", "must return labels as whole numbers below 2"),
        ("reals", r"or as rows \(n, 2\), but it returned \(16,\) of torch.float32"),
        ("numpy", "must return tensors, but it returned ndarray and Tensor"),
        ("fewer", "as many labels"),
        ("single", "must be a function of inputs, labels and a torch.Generator"),
        ("number", "this int is neither"),
        ("mirrir", "unknown class or function 'mirrir'; did you mean mirror"),
    ],
)
def test_a_bad_augmentation_of_a_file_is_refused_in_one_line_before_any_work(
    name: str, match: str, file: str, tmp_path: Path
) -> None:
    with pytest.raises(PotstillError, match=match) as error:
        compare(f"{file}:{name}", out=tmp_path / "out", **QUICK)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_an_interrupted_comparison_goes_on_from_its_cells_and_other_settings_are_refused(
    file: str, tmp_path: Path
) -> None:
    def stop(name: str, done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    def run(**more: Any) -> dict[str, Any]:
        return compare(f"{file}:mirror", out=tmp_path / "out", **{**QUICK, "seeds": 2, **more})

    with pytest.raises(KeyboardInterrupt):
        run(progress=stop)
    cells = tmp_path / "out" / "cells"
    before = {path.name: path.stat().st_mtime_ns for path in cells.iterdir()}
    assert len(before) == 4
    result = run()
    assert len([*cells.iterdir()]) == 12
    assert all((cells / name).stat().st_mtime_ns == at for name, at in before.items())
    assert result == json.loads((tmp_path / "out" / "augmentation.json").read_text())
    assert result["rows"] == compare(f"{file}:mirror", **{**QUICK, "seeds": 2})["rows"]
    with pytest.raises(PotstillError, match="was measured with other settings or data"):
        run(steps=4)
    Path(file).write_text(AUG.replace("0.6", "0.5"))
    with pytest.raises(PotstillError, match="was measured with other settings or data"):
        run()


def test_other_processes_give_the_same_bits(file: str) -> None:
    with Processes(2) as pool:
        there = compare(f"{file}:mirror", **{**QUICK, "executor": pool})
    assert there["rows"] == compare(f"{file}:mirror", **QUICK)["rows"]


def test_a_page_of_somebody_else_and_the_input_are_not_written_over(file: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "augmentation.html").write_text("mine")
    with pytest.raises(PotstillError, match="Potstill did not make it"):
        compare(f"{file}:mirror", out=out, **QUICK)
    with pytest.raises(PotstillError, match="is read as"):
        compare(f"{file}:mirror", out=file, **QUICK)
    assert Path(file).read_text() == AUG


@pytest.mark.parametrize(
    ("raw", "adapted", "both", "said"),
    [
        (
            [0.5, 0.5, 0.5],
            [0.9, 0.9, 0.91],
            [0.95, 0.96, 0.95],
            ("adapting improves it", "train on both where you may"),
        ),
        ([0.9, 0.9, 0.9], [0.8, 0.81, 0.8], [0.7, 0.7, 0.71], ("adapting makes it worse", "adapt instead")),
        ([0.8, 0.9, 0.7], [0.8, 0.7, 0.9], [0.8, 0.9, 0.7], ("not told apart", "not told apart")),
    ],
)
def test_the_sentences_say_what_the_intervals_say(
    raw: list[float], adapted: list[float], both: list[float], said: tuple[str, str]
) -> None:
    values = {"none": [0.8, 0.81, 0.8], "raw": raw, "weights": raw, "adapted": adapted, "both parts": both}
    values["both parts, raw"] = both
    cells = [
        {"way": way, "number": n, "accuracy": v, "zero": 0.25 if way == "weights" else None}
        for way in WAYS for n, v in enumerate(values[way])
    ]  # fmt: skip
    result = conclude({"cells": cells, "test_samples": 100, "augmentation": "turn"})
    assert said[0] in result["sentences"][1]
    assert said[1] in result["sentences"][2]
    assert result["zero"] == 0.25


def test_the_command_writes_the_page_and_says_what_is_wrong(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), np.arange(60) % 2
    lines = [f"{a:.3f},{b:.3f},{c:.3f},{'uv'[k]}" for (a, b, c), k in zip(x, y, strict=True)]
    (tmp_path / "<d>.csv").write_text("\n".join(["a,b,c,label", *lines]) + "\n")
    data, out = str(tmp_path / "<d>.csv"), tmp_path / "out"
    words = ["use", "augmentation", data, "--out", str(out), "--seeds", "1", "--updates", "3", "--network", "mlp-w4"]
    words += ["--executor", "serial"]
    assert main([*words, "--augment", f"{file}:mirror"]) == 0
    shown = capsys.readouterr().out
    assert "both parts, raw" in shown
    assert "Training on training and validation data, without the augmentation, is" in shown
    page = (out / "augmentation.html").read_text()
    assert "on which nothing is chosen" in page
    assert "<d>" not in page
    assert main([*words, "--augment", f"{file}:mirror", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["steps"] == 3
    for augment, status, said in (
        ("dsaa", 2, "unknown augmentation 'dsaa'; did you mean dsa"),
        ("dsa", 1, "is of pictures"),
        (f"{file}:one", 1, "must return inputs and labels"),
        ("nope.py:one", 1, "nope.py: a file of Python is needed"),
    ):
        assert main([*words, "--augment", augment, "--quiet"]) == status
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
