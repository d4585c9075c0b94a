"""Training on a small device: the trainer in C and in NumPy, baselines of the same bytes, resuming, bad input."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import potstill
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.exporters.integers import pack_integers, to_integers
from potstill.uses.edge import Head, edge, predict, train
from potstill.uses.edge.baselines import count_integer_samples, set_data
from potstill.uses.edge.learner import buffer_bytes, parse_head, sample_order
from potstill.uses.edge.program import compile_trainer, run_trainer, sample_bytes, write_program
from potstill.uses.edge.run import parse_target
from potstill.uses.edge.summary import conclude

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) is on the PATH")
QUICK: dict[str, Any] = {"target": "60%", "updates": 20, "seeds": 2, "quick": True, "lr": 0.03}


def pictures(classes: int = 3, per_class: int = 40, seed: int = 0, first: int = 0) -> TensorSource:
    """Return pictures of 8 × 8 whose class is the row that is bright."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(classes).repeat(per_class)
    x = torch.randint(0, 80, (len(y), 1, 8, 8), generator=rng, dtype=torch.uint8)
    x[torch.arange(len(y)), 0, y] += 100
    return TensorSource.make(x, y.tolist(), classes=[f"row {first + c}" for c in range(classes)], name="rows")


def splits(**sizes: int) -> Splits:
    return Splits(train=pictures(**sizes), test=pictures(**{**sizes, "per_class": 20}, seed=1))


@pytest.fixture(scope="module")
def small() -> Distilled:
    return potstill.distill(splits(), "random", ipc=3, codec="uint8", progress=None)


@pytest.fixture(scope="module", autouse=True)
def short_models() -> Iterator[None]:
    """Train the quantised models for a few updates: their accuracy is not tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("potstill.uses.edge.run._QUICK_MODEL", 10)
        yield


@pytest.fixture(scope="module")
def folder(small: Distilled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run."""
    out = tmp_path_factory.mktemp("edge") / "out"
    edge(small, splits(), out=out, **QUICK)
    return out


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "edge.json").read_text())
    return content


@needs_compiler
@pytest.mark.parametrize(("hidden", "bits", "labels"), [(0, 4, "hard"), (24, 8, "soft")])
def test_the_c_program_learns_what_numpy_learns_from_less_than_8_kb(
    hidden: int, bits: int, labels: str, tmp_path: Path
) -> None:
    data = potstill.load_data("digits")
    assert data.test is not None
    digits = potstill.distill(data, "herding", ipc=10, progress=None)
    made = to_integers(digits, bits)
    if labels == "soft":
        rows = torch.nn.functional.one_hot(digits.labels, 10).float() * 0.9 + 0.01
        weights = torch.linspace(0.5, 1.5, len(rows))
        made = pack_integers(digits.model_space(), rows, digits.normalization, digits.classes, bits, weights=weights)
    assert made.bytes < 8000
    head = Head(hidden=hidden, updates=400, lr=0.02)
    write_program(made, head, data.test, tmp_path)
    program = compile_trainer(tmp_path, tmp_path)
    assert program is not None
    printed = run_trainer(program, tmp_path / "test.bin", 7, tmp_path / "weights.bin")
    held = set_data(made)
    own = train(head, held.x, held.y, 7, weights=held.weights)
    x = data.test.fetch(torch.arange(len(data.test))).x.flatten(1).numpy()
    accuracy = float((predict(own, head, x, 10) == data.test.labels.numpy()).mean())
    assert abs(printed["accuracy"] - accuracy) <= 0.005
    assert accuracy > 0.85
    np.testing.assert_allclose(np.fromfile(tmp_path / "weights.bin", dtype="<f4"), own, atol=1e-4)
    assert np.abs(own).max() > 0.1
    assert printed["buffers"] == buffer_bytes(head, 64, 10, len(made))
    other = run_trainer(program, tmp_path / "test.bin", 8, tmp_path / "others.bin")
    assert other["tested"] == len(data.test)
    assert np.abs(np.fromfile(tmp_path / "others.bin", dtype="<f4") - own).max() > 1e-3, "the seed decides"


@needs_compiler
def test_the_c_program_compiles_without_a_warning_and_refuses_bad_files(small: Distilled, tmp_path: Path) -> None:
    for hidden, bits in ((0, 8), (5, 4)):
        write_program(to_integers(small, bits), Head(hidden=hidden, updates=3), pictures(), tmp_path)
        command = ["cc", "-O2", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "train.c", "-lm", "-o", "train"]
        subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "cut.bin").write_bytes(sample_bytes(pictures())[:100])
    (tmp_path / "empty.bin").write_bytes(b"")
    for name, message in {
        "cut.bin": "ends within a sample", "empty.bin": "holds no sample", "no.bin": "cannot be read",
    }.items():  # fmt: skip
        done = subprocess.run(
            [str(tmp_path / "train"), name], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (1, f"{name}: {done.stderr.partition(': ')[2]}")
        assert message in done.stderr


def test_orders_are_permutations_one_after_another() -> None:
    order = sample_order(7, 30, 3)
    assert [sorted(order[i : i + 7]) for i in (0, 7, 14, 21)] == [list(range(7))] * 4
    assert len({tuple(order[i : i + 7]) for i in (0, 7, 14, 21)}) == 4
    assert (sample_order(7, 30, 3) == order).all()
    assert (sample_order(7, 30, 4) != order).any()
    first = np.array([sample_order(4, 4, seed)[0] for seed in range(400)])
    assert (np.bincount(first, minlength=4) > 60).all()


def test_gradients_are_those_of_autograd() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 5)).astype(np.float32), rng.dirichlet([1, 1, 1], 6).astype(np.float32)
    factor = np.linspace(0.5, 1.5, 6).astype(np.float32)
    for hidden in (0, 4):
        head = Head(hidden=hidden, updates=1, batch=6, lr=1.0)
        parameters = torch.nn.ParameterList()
        start = train(replace(head, lr=0.0), x, y, 5)
        after = train(head, x, y, 5, weights=factor)
        sizes = [(hidden, 5), (3, hidden)] if hidden else [(3, 5)]
        at = 0
        for outputs, inputs in sizes:
            for shape in ((outputs, inputs), (outputs,)):
                count = int(np.prod(shape))
                parameters.append(torch.nn.Parameter(torch.from_numpy(start[at : at + count].reshape(shape).copy())))
                at += count
        z = torch.from_numpy(x) @ parameters[0].T + parameters[1]
        if hidden:
            z = torch.relu(z) @ parameters[2].T + parameters[3]
        loss = torch.nn.functional.cross_entropy(z, torch.from_numpy(y), reduction="none")
        (loss * torch.from_numpy(factor)).mean().backward()
        expected = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).numpy()
        np.testing.assert_allclose(start - after, expected, atol=1e-6)


def test_real_samples_fill_the_bytes_of_the_set(small: Distilled) -> None:
    made = to_integers(small)
    for bits, budget in ((8, 585 + 8), (8, 600), (8, 584 + 8), (4, 600), (4, 8), (8, 100)):
        n = count_integer_samples(made, bits, budget)
        sizes = []
        for k in range(1, n + 2):
            x, y = torch.rand(3 * k, 1, 8, 8), torch.arange(3 * k) % 3
            sizes.append(pack_integers(x, y, small.normalization, made.classes, bits).bytes)
        assert all(size <= budget for size in sizes[:n])
        assert sizes[n] > budget


def test_a_run_has_all_rows_at_equal_bytes(result: dict[str, Any], small: Distilled) -> None:
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["set", "real-integers", "real-coded", "model", "all", "set-file", "real-file"]
    assert not [row for row in rows.values() if "reason" in row]
    budget = rows["set"]["bytes"]
    assert budget == to_integers(small).bytes == 9 * 64 + 9 + 8
    assert all(rows[name]["bytes"] <= budget for name in ("real-integers", "real-coded", "model"))
    assert rows["real-file"]["bytes"] <= rows["set-file"]["bytes"] <= result["file_bytes"]
    assert rows["real-integers"]["items"] >= 9
    assert rows["all"]["items"] == 120
    assert rows["set"]["operations"] == 9 * 2 * 64 * 3
    assert rows["set"]["multiply_adds"] == rows["set"]["updates"] * rows["set"]["operations"]
    assert len(rows["set"]["accuracy"]["values"]) == 2
    assert "difference" not in rows["set"]
    assert "updates" not in rows["model"]
    assert "reason" in result["program"] or result["program"]["gap"] <= 0.005


def test_a_run_resumes_to_the_same_result_and_refuses_another(
    folder: Path, result: dict[str, Any], small: Distilled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "again"
    shutil.copytree(folder, first)
    for name in ("edge.json", "cells/set.json", "cells/all.json", "cells/model.json"):
        (first / name).unlink()
    again = edge(small, splits(), out=first, **QUICK)
    assert [[s["accuracy"] for s in c["seeds"]] for c in again["cells"]] == [
        [s["accuracy"] for s in c["seeds"]] for c in result["cells"]
    ]
    before = (first / "edge.json").read_text()
    monkeypatch.setattr("potstill.uses.edge.run.train", None)  # cells that are there are not trained again
    edge(small, splits(), out=first, **QUICK)
    assert (first / "edge.json").read_text() == before
    with pytest.raises(PotstillError, match="was measured with other settings or data; choose another folder"):
        edge(small, splits(), out=first, **{**QUICK, "updates": 21})
    (first / "cells" / "set.json").write_text("{}")
    with pytest.raises(PotstillError, match="holds no cell of a run on a device"):
        edge(small, splits(), out=first, **QUICK)


def test_a_target_that_is_not_reached_is_a_row_and_no_error(small: Distilled, tmp_path: Path) -> None:
    cell = {"name": "set", "bytes": 9, "items": 3, "lr": 0.1, "length": 3, "detail": {}, "operations": 5, "buffers": 7}
    seeds = [{"seed": n, "accuracy": 0.5 + n / 100, "updates": None, "seconds": None} for n in range(3)]
    result = {
        "test_samples": 100, "settings": {"target": 0.9, "head": "linear"},
        "cells": [{**cell, "seeds": seeds}, {"name": "real-file", "reason": "too few bytes"}], "program": {},
    }  # fmt: skip
    found = conclude(result)
    assert found["rows"][0]["reached"] == 0
    assert "updates" not in found["rows"][0]
    assert "(not 90 %)" in found["sentences"][0]
    from potstill.reports.edge import cells_of

    assert "not reached" in cells_of(found["rows"][0])
    assert "too few bytes" in cells_of(found["rows"][1])


def test_the_verdict_follows_the_interval() -> None:
    def row(name: str, mean: float) -> dict[str, Any]:
        seeds = [{"seed": n, "accuracy": mean + n / 1000, "updates": 3, "seconds": 0.1} for n in range(4)]
        return {
            "name": name,
            "bytes": 9,
            "items": 3,
            "lr": 0.1,
            "length": 3,
            "operations": 5,
            "buffers": 7,
            "seeds": seeds,
        }

    def verdict(own: float, real: float, model: float) -> tuple[dict[str, Any], list[str]]:
        names = {"set": own, "real-integers": real, "model": model, "set-file": own, "real-file": real}
        cells = [row(name, mean) for name, mean in names.items()]
        settings = {"target": 0.8, "head": "linear"}
        found = conclude({"test_samples": 4000, "settings": settings, "cells": cells, "program": {"gap": 0.0}})
        return found["verdict"], found["sentences"]

    kinds, sentences = verdict(0.9, 0.8, 0.95)
    assert kinds == {"kind": "ahead", "model": "behind"}
    assert "It beats the better of real samples" in sentences[1]
    assert "ship that where the device only classifies" in sentences[2]
    kinds, sentences = verdict(0.8, 0.9, 0.7)
    assert kinds == {"kind": "behind", "model": "ahead"}
    assert "does not beat" in sentences[1]
    assert "better even where nothing else is trained" in sentences[2]
    assert verdict(0.9, 0.9, 0.9)[0] == {"kind": "not told apart", "model": "not told apart"}


@pytest.mark.parametrize(("text", "value"), [("90%", 0.9), ("0.5", 0.5), (0.75, 0.75), ("99.5 %", 0.995)])
def test_targets_are_fractions_or_percent(text: str | float, value: float) -> None:
    assert parse_target(text, 10) == pytest.approx(value)


@pytest.mark.parametrize("text", ["10%", "100%", "1", "0", "90", "-5%", "nan", "much", "1e-1", "9" * 30])
def test_targets_between_chance_and_one_alone_are_taken(text: str) -> None:
    with pytest.raises(PotstillError, match=r"between chance \(10 % of 10 classes\) and 100 %") as error:
        parse_target(text, 10)
    assert "\n" not in str(error.value)


def test_heads_have_names() -> None:
    assert [parse_head(text) for text in ("linear", "mlp", "mlp:hidden=7")] == [0, 64, 7]
    for text, message in {
        "mpl": "no head 'mpl'; did you mean mlp", "linear:hidden=3": "no head 'linear:hidden=3'",
        "mlp:hidden=0": "give mlp:hidden=N with N from 1", "mlp:width=3": "has no such setting",
        "mlp:hidden=9999999": "N from 1 to 4,096", "mlp:hidden=²": "has no such setting",
    }.items():  # fmt: skip
        with pytest.raises(PotstillError, match=message):
            parse_head(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "20%"}, r"between chance \(33.33 % of 3 classes\)"),
        ({"head": "tree"}, "no head 'tree'"),
        ({"updates": 0}, "updates must be a whole number of at least 1, not 0"),
        ({"seeds": 0}, "seeds must be a whole number"),
        ({"lr": 0.0}, "lr must be above 0, not 0.0"),
        ({"bits": 3}, "has 8 or 4 bits a value, not 3"),
        ({"data": Splits(train=pictures(), test=None)}, "accuracy needs a test split"),
        ({"data": splits(first=10)}, "the set holds no classes of rows: 'row 0' and others are not in the data"),
        ({"data": splits(classes=2)}, "the set has 3 classes and the data 2"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_any_work(
    change: dict[str, Any], message: str, small: Distilled, tmp_path: Path
) -> None:
    arguments = {**QUICK, **change}
    data = arguments.pop("data", None) or splits()
    with pytest.raises(PotstillError, match=message) as error:
        edge(small, data, out=tmp_path / "out", **arguments)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_set_for_regression_is_refused(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    table = potstill.load_data((torch.randn(40, 3, generator=rng), torch.randn(40, generator=rng)), task="regression")
    numbers = potstill.distill(table, "random", items=4, progress=None)
    with pytest.raises(PotstillError, match="has classes, but this set is for task regression"):
        edge(numbers, table, out=tmp_path / "out")


def test_the_command_writes_the_page_and_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(120, 3)), np.arange(120) % 2
    x[:, 0] += 3 * y
    lines = [f"{a:.3f},{b:.3f},{c:.3f},{'uv'[k]}" for (a, b, c), k in zip(x, y, strict=True)]
    (tmp_path / "d.csv").write_text("\n".join(["a,b,c,label", *lines]) + "\n")
    path, data, out = str(tmp_path / "s.safetensors"), str(tmp_path / "d.csv"), str(tmp_path / "out")
    potstill.distill(data, "random", ipc=4, progress=None).save(path)
    words = ["use", "edge", path, "--data", data, "--out", out, "--quick", "--seeds", "2", "--updates", "20"]
    assert main([*words, "--to", "80%", "--lr", "0.03"]) == 0
    shown = capsys.readouterr().out
    assert "set, as integers" in shown
    assert "ship that where" in shown or "better even where" in shown
    page = (tmp_path / "out" / "edge.html").read_text()
    assert "multiply-adds stand for energy, which is not measured" in page
    assert (tmp_path / "out" / "set.h").exists()
    assert main([*words, "--to", "40%"]) == 1
    assert "between chance (50 % of 2 classes)" in capsys.readouterr().err
    assert main([*words, "--bits", "7"]) == 2
