"""How a budget is shared out between classes: natural proportions in items and bytes, as many of each in ipc."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill.cli.main import main
from potstill.core import Budget, Splits, registry
from potstill.core.registry import make_method
from potstill.data import TensorSource
from potstill.dataset_file.checkpoint import differences
from potstill.errors import PotstillError
from potstill.integrations.sklearn import Distiller
from potstill.runs.resolve import ResolvedRun, resolve_run, run_identity
from potstill.runs.spec import RunSpec
from potstill.testing import toy_source, uneven_source

SIZES = (60, 30, 9, 1)


def table(sizes: tuple[int, ...] = SIZES) -> Splits:
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    x = torch.randn(len(labels), 6, generator=torch.Generator().manual_seed(0)) + labels[:, None]
    made = TensorSource.make(x, labels, classes=tuple("abcdefgh"[: len(sizes)]), name="uneven", kind="table")
    return Splits(train=made, test=made)


def per_class(data: Splits, method: str = "random", **options: Any) -> list[int]:
    small = potstill.distill(data, method, progress=None, **options)
    return torch.bincount(small.hard_labels, minlength=len(data.train.classes)).tolist()


@pytest.mark.parametrize(
    ("items", "expected"), [(4, [1, 1, 1, 1]), (10, [5, 3, 1, 1]), (20, [12, 6, 1, 1]), (100, [60, 30, 9, 1])]
)
def test_items_are_shared_out_in_proportion_and_every_class_has_one(items: int, expected: list[int]) -> None:
    assert per_class(table(), items=items) == expected
    assert per_class(table(), items=items, balance="natural") == expected


def test_bytes_are_shared_out_likewise_and_all_are_used() -> None:
    natural = potstill.distill(table(), "random", bytes=600, progress=None)
    equal = potstill.distill(table((25, 25, 25, 25)), "random", bytes=600, progress=None)
    assert natural.metadata["bytes"]["total"] <= 600
    assert len(natural) >= len(equal)
    counts = torch.bincount(natural.hard_labels)
    assert counts.tolist()[-1] == 1
    assert counts[0] == pytest.approx(0.6 * len(natural), abs=1)


def test_a_few_rows_of_columns_of_few_values_fit() -> None:
    """The values of all 64 rows of the sample were charged to one row, and "0 items" fitted into 500 bytes."""
    rng = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randint(0, 240, (200, 12), generator=rng), torch.randint(0, 2, (200, 4), generator=rng)], 1)
    made = TensorSource.make(x.float(), (torch.arange(200) % 2).tolist(), classes=["a", "b"], kind="table")
    data = Splits(train=made, test=made)
    for size in (150, 500, 900):
        small = potstill.distill(data, "random", bytes=size, progress=None)
        assert len(small) >= size // 70
        assert small.metadata["bytes"]["total"] <= size


def test_equal_is_as_many_of_each_and_so_is_ipc() -> None:
    assert per_class(table((60, 30, 9, 5)), items=20, balance="equal") == [5, 5, 5, 5]
    assert per_class(table((60, 30, 9, 5)), ipc=5) == [5, 5, 5, 5]
    with pytest.raises(PotstillError, match="class 'd' has 1"):
        per_class(table(), items=20, balance="equal")


def test_what_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(PotstillError, match="ipc is as many items of each class, but balance natural asks for"):
        per_class(table(), ipc=1, balance="natural")
    with pytest.raises(PotstillError, match="unknown balance 'fair'"):
        per_class(table(), items=10, balance="fair")
    with pytest.raises(PotstillError, match="at least one item of each of 4 classes, but 3 items keep 3 in all"):
        per_class(table(), items=3)
    with pytest.raises(PotstillError, match="at least 61 samples of every class, but class 'a' has 60"):
        per_class(table(), items=101)


@pytest.mark.parametrize("unit", ["items", "bytes"])
@pytest.mark.parametrize("method", ["random", "k-means", "dm"])
def test_balanced_data_keep_their_bits(unit: str, method: str) -> None:
    data = Splits(train=toy_source("table"), test=None)
    options: dict[str, Any] = {"items": 10} if unit == "items" else {"bytes": 120}
    options |= {"steps": 2, "batch_real": 6} if method == "dm" else {}
    natural, equal = (
        potstill.distill(data, method, progress=None, balance=balance, **options) for balance in ("natural", "equal")
    )
    assert torch.equal(natural.inputs, equal.inputs)
    assert torch.equal(natural.labels, equal.labels)


SMALL = {
    "pretrained_networks": 2, "num_teachers": 2, "pretrain_epochs": 1, "teacher_epochs": 1, "num_experts": 2,
    "train_epochs": 1, "frequencies": 32,
    "frequencies_sampler": 32, "pool_initial": 2,
    "num_networks": 2, "pool_steps": 2, "data_train": 24, "iterations": 4, "batch_real": 6, "outer": 2, "inner": 2,
    "teacher_steps": 4, "batch": 6, "committee": "convnet-d1-w4-batch", "samples": 4, "crops": 2, "ascent": 2,
    "round_iterations": 2, "record_epochs": 3, "trajectory": 3, "runs": 2, "window": 3, "checkpoints": 2, "epoch": 2,
    "max_epochs": 12, "total": 5, "swing": 1, "inner_steps": 3, "student_steps": 3,
}  # fmt: skip


def test_the_search_for_real_samples_leaves_out_equal_classes_that_a_small_class_cannot_fill() -> None:
    data = Splits(train=uneven_source(), test=None)  # classes of 7, 40 and 150
    options: dict[str, Any] = {"codec": "float32", "progress": None, "network": "convnet-d1-w4"}
    small = potstill.distill(data, "real", items=26, **options)
    assert torch.bincount(small.labels, minlength=3).tolist() == [1, 5, 20]
    with pytest.raises(PotstillError, match="class 'c0' has 7"):
        potstill.distill(data, "real", items=26, balance="equal", **options)


OF_CLASSES = [
    name for name in registry.names("methods")
    if {"*", "classification"} & set(registry.resolve("methods", name).info.tasks)
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_CLASSES)
def test_every_method_takes_natural_proportions(name: str) -> None:
    kind = registry.resolve("methods", name)
    options = {f.name: SMALL[f.name] for f in dataclasses.fields(kind) if f.name in SMALL}
    network = "convnet-d1-w4" + ("-batch" if "batch" in str(getattr(make_method(name, {})[1], "network", "")) else "")
    if "network" in {f.name for f in dataclasses.fields(kind)}:
        options["network"] = network
    if "parametrization" in {f.name for f in dataclasses.fields(kind)} and name != "ufc":
        options["parametrization"] = "pixels"
    data = Splits(train=uneven_source(), test=None)  # classes of 7, 40 and 150
    found = settled(data, name, Budget(unit="items", amount=26), **options)
    assert found.problem.counts == (1, 5, 20)
    small = potstill.distill(data, name, items=26, steps=1, codec="float32", progress=None, **options)
    if name == "ufc":
        return  # its classes share compensators, and have as many inputs each
    assert len(small) == 26
    if not small.has_soft_labels:  # a teacher may take an input for another class
        assert torch.bincount(small.labels, minlength=3).tolist() == [1, 5, 20]


@pytest.mark.parametrize("spelled", ["pixels", "tiles", "frequency:kept=16", "small:factor=2"])
def test_bytes_of_every_parametrization_are_shared_out(spelled: str) -> None:
    data = Splits(train=uneven_source(), test=None)
    budgets = [Budget(unit="bytes", amount=4000, balance=balance) for balance in (None, "equal")]
    natural, equal = (settled(data, "dm", budget, parametrization=spelled).problem for budget in budgets)
    few, some, many = natural.sizes
    assert 0 < few < some < many
    assert many == pytest.approx(150 / 197 * sum(natural.sizes), rel=0.1)
    assert sum(natural.sizes) >= sum(equal.sizes)
    assert len(set(equal.sizes)) == 1


def test_it_stands_on_the_card_and_in_a_note() -> None:
    small = potstill.distill(table(), "random", items=20, progress=None)
    assert small.metadata["balance"] == "natural"
    said = "items of each class in proportion to its samples, 1 to 12; balance equal gives each as many"
    assert said in small.notes
    plain = potstill.distill(table((9, 9, 9)), "random", ipc=2, progress=None)
    assert plain.metadata["balance"] == "equal"
    assert said not in potstill.distill(table((9, 9, 9)), "random", items=6, progress=None).notes


def settled(data: Splits, method: str, budget: Budget, **options: Any) -> ResolvedRun:
    size: dict[str, Any] = {budget.unit: budget.amount}
    return resolve_run(RunSpec(data, method, **size, balance=budget.balance, device="cpu", options=options))


def test_a_run_of_another_balance_is_another_run() -> None:
    natural, equal = (
        run_identity(settled(table(), "dm", Budget(unit="items", amount=20, balance=balance)))
        for balance in (None, "equal")
    )
    assert differences(natural, equal)[:2] == [
        "balance was 'natural' and now is 'equal'",
        "counts was [12, 6, 1, 1] and now is [5, 5, 5, 5]",
    ]


def test_a_comparison_does_not_take_over_another_balance(tmp_path: Path) -> None:
    options: dict[str, Any] = {"items": 20, "out": tmp_path, "seeds": 1, "epochs": 1, "protocol": "dc"}
    board = potstill.compare(table((60, 30, 9, 5)), ["random"], **options)
    assert board["rows"]
    with pytest.raises(PotstillError, match="balance was 'natural' and now is 'equal'"):
        potstill.compare(table((60, 30, 9, 5)), ["random"], balance="equal", **options)


def written(path: Path) -> Path:
    rows = [f"{0.1 * n},{n % 7},{'abcd'[c]}" for c, size in enumerate(SIZES) for n in range(size)]
    path.write_text("\n".join(["x,y,label", *rows]) + "\n")
    return path


def test_the_command_line_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(written(tmp_path / "d.csv"))
    out = str(tmp_path / "s.safetensors")
    line = ["distill", data, "--label", "label", "--method", "random", "--out", out, "--force", "--json"]
    line = [word for word in line if word != "--force"]

    def counts(*more: str) -> list[int]:
        assert main([*line, *more]) == 0, capsys.readouterr().err
        capsys.readouterr()
        return torch.bincount(potstill.load(out).hard_labels).tolist()

    natural = counts("--items", "12")
    assert natural[0] > natural[-1]
    Path(out).unlink()
    assert main([*line, "--ipc", "1", "--balance", "natural"]) in (1, 2)
    assert "ipc" in capsys.readouterr().err
    assert main(["plan", data, "--label", "label", "--method", "random", "--items", "12", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert any("in proportion" in note for note in said["notes"])


@pytest.mark.parametrize(("balance", "expected"), [(None, [12, 6, 1, 1]), ("natural", [12, 6, 1, 1])])
def test_the_resampler_takes_it(balance: str | None, expected: list[int]) -> None:
    train = table().train
    x, y = train.raw(torch.arange(100)).numpy(), train.labels.numpy()  # type: ignore[union-attr]
    made = Distiller("random", items=20, balance=balance).fit(x, y)
    _, kept = made.fit_resample(x, y)
    assert torch.bincount(torch.as_tensor(kept)).tolist() == expected
    with pytest.raises(ValueError, match="ipc is as many items of each class"):
        Distiller("random", balance="natural").fit_resample(x, y)
