"""LESS: against a loop over samples with torch's Adam, what a target changes, and bad targets."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import potstill
from potstill.core import Problem, Source
from potstill.data import TensorSource
from potstill.dataset_file.checkpoint import differences
from potstill.errors import PotstillError
from potstill.functional.train import cross_entropy
from potstill.methods.selection.less import LESS
from potstill.runs.resolve import resolve_run, run_identity
from potstill.runs.spec import RunSpec
from potstill.testing import check_method, toy_problem

SHORT: dict[str, Any] = {"epochs": 2, "projection": 100_000, "network": "mlp-w8", "warm_up": 0.5, "batch": 8}


def clusters(n: int = 90) -> TensorSource:
    """Three classes of rows, each around a point of its own."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    return TensorSource.make((rng.normal(size=(n, 4)) + 3 * np.eye(4)[y]).astype(np.float32), y, ("a", "b", "c"))


def written(path: Path, source: TensorSource, index: torch.Tensor) -> Path:
    some = source.subset(index)
    classes = np.array(source.classes)[some.labels.numpy()]
    assert isinstance(some.inputs, torch.Tensor)
    np.savez(path, x=some.inputs.numpy(), y=classes)
    return path


def gradient(net: torch.nn.Module, source: Source, i: int) -> dict[str, torch.Tensor]:
    batch = source.fetch(torch.tensor([i]))
    net.zero_grad()
    assert batch.y is not None
    cross_entropy(net(batch.x), batch.y).backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def naive(method: LESS, problem: Problem, target: TensorSource) -> torch.Tensor:
    """Scores by group of the target, sample by sample and parameter by parameter."""
    total = torch.zeros(len(problem.train), 3)
    for point in method.checkpoints(problem):
        net = problem.network(0)
        net.load_state_dict({**point.params, **point.buffers})

        aims = [gradient(net, target, j) for j in range(len(target))]
        for i in range(len(problem.train)):
            moved = {}
            for name, g in gradient(net, problem.train, i).items():
                m = 0.9 * point.first[name] + 0.1 * g
                moved[name] = m / (0.999 * point.second[name] + 0.001 * g**2 + 1e-8).sqrt()
            for c in range(3):
                cosines = []
                for j in (target.labels == c).nonzero().flatten().tolist():
                    dot = sum(float((moved[n] * aims[j][n]).sum()) for n in moved)
                    norms = [sum(float(v.square().sum()) for v in side.values()) ** 0.5 for side in (moved, aims[j])]
                    cosines.append(dot / norms[0] / norms[1])
                total[i, c] += point.rate * sum(cosines) / len(cosines)
    return total


def test_scores_are_those_of_a_loop(tmp_path: Path) -> None:
    train = clusters(24)
    path = written(tmp_path / "target.npz", train, torch.tensor([0, 1, 2, 3, 4, 6, 9]))
    method = LESS(target=str(path), **SHORT)
    problem = toy_problem(method, source=train)
    wanted = naive(method, problem, train.subset(torch.tensor([0, 1, 2, 3, 4, 6, 9])))
    got = method.influence(problem)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(method.columns(problem)["less"], got.max(1).values)


def test_the_short_training_is_torchs_adam_on_a_part() -> None:
    train = clusters(16)
    method = LESS(epochs=2, warm_up=1.0, batch=16, network="mlp-w8", lr=0.01)
    problem = toy_problem(method, source=train)
    points = list(method.checkpoints(problem))
    from potstill.rng import derive_seed

    net = problem.network(derive_seed(0, "less", "network"))
    optimizer = torch.optim.Adam(net.parameters())
    everything = train.fetch(torch.arange(16))
    for point, rate in zip(points, (0.01, 0.005), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        assert everything.y is not None
        cross_entropy(net(everything.x), everything.y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        assert point.rate == pytest.approx(rate)
        for name, p in net.named_parameters():
            torch.testing.assert_close(point.params[name], p.detach(), rtol=1e-4, atol=1e-6)


def test_groups_in_turn_take_their_best_samples(tmp_path: Path) -> None:
    train = clusters()
    path = written(tmp_path / "target.npz", train, torch.arange(12))
    method = LESS(target=str(path), across="turns", **SHORT)
    problem = toy_problem(method, source=train)
    total, score = method.influence(problem), method.columns(problem)["less"]
    order, taken = [total[:, g].argsort(descending=True).tolist() for g in range(3)], set[int]()
    for rank in range(4):
        taken |= {of_group[rank] for of_group in order}
    assert set(score.argsort(descending=True)[: len(taken)].tolist()) == taken


def test_a_target_of_two_classes_is_answered_by_these(tmp_path: Path) -> None:
    train = clusters()
    path = written(tmp_path / "target.npz", train, torch.tensor([1, 2, 4, 5, 7, 8]))
    small = potstill.distill(
        train, "less", items=10, target=str(path), preset="quick", progress=None, **{**SHORT, "epochs": 4}
    )
    assert small.hard_labels.bincount(minlength=3).tolist() == [0, 5, 5]
    usual = potstill.distill(train, "less", ipc=2, target=str(path), pool="class", progress=None, **SHORT)
    assert usual.hard_labels.bincount().tolist() == [2, 2, 2]


def test_wrong_labels_are_left_out(tmp_path: Path) -> None:
    """Near samples with another label pull the network away from the target."""
    clean = clusters()
    wrong = torch.arange(90) % 5 == 0
    labels = torch.where(wrong, (clean.labels + 1) % 3, clean.labels)
    assert isinstance(clean.inputs, torch.Tensor)
    train = TensorSource.make(clean.inputs.numpy(), labels.numpy(), clean.classes)
    path = written(tmp_path / "target.npz", clean, torch.arange(1, 20))
    method = LESS(target=str(path), across="turns", **{**SHORT, "epochs": 4})
    score = method.columns(toy_problem(method, source=train))["less"]
    chosen = score.argsort(descending=True)[:30]
    assert float(wrong[chosen].float().mean()) < 0.1 < float(wrong.float().mean())


@pytest.mark.parametrize("across", ["max", "turns"])
def test_the_contract(across: str) -> None:
    check_method(LESS(across=across, epochs=1, projection=32, batch=8))  # type: ignore[arg-type]


def test_texts_are_read_by_the_encoder_of_the_data(tmp_path: Path) -> None:
    words = {"net": "server network packet", "art": "paint colour brush"}
    rows = [(f"{text} number {i}", name) for i in range(20) for name, text in words.items()]
    table = "text,section\n" + "\n".join(",".join(row) for row in rows) + "\n"
    (tmp_path / "corpus.csv").write_text(table)
    (tmp_path / "target.csv").write_text("text,section\nserver packet network one,net\nbrush paint colour two,art\n")
    small = potstill.distill(
        potstill.load_data(tmp_path / "corpus.csv", label="section", text="text", representation="latent:size=4"),
        "less", items=4, target=str(tmp_path / "target.csv"), epochs=1, preset="quick", progress=None,
    )  # fmt: skip
    assert small.hard_labels.bincount().tolist() == [2, 2]


def test_a_table_with_a_target_in_arrays(tmp_path: Path) -> None:
    """The name of the table's label column is not asked of a file of arrays."""
    rows = np.random.default_rng(0).normal(size=(40, 2))
    lines = [f"{a:.4f},{b:.4f},{'hi' if a > 0 else 'lo'}" for a, b in rows]
    (tmp_path / "corpus.csv").write_text("a,b,kind\n" + "\n".join(lines) + "\n")
    (tmp_path / "target.csv").write_text("a,b,kind\n" + "\n".join(lines[:6]) + "\n")
    data = potstill.load_data(tmp_path / "corpus.csv", label="kind")
    by_table = potstill.distill(data, "less", items=4, target=str(tmp_path / "target.csv"), epochs=1, progress=None)
    assert by_table.hard_labels.bincount().tolist() == [2, 2]
    np.savez(tmp_path / "target.npz", x=rows[:6], y=np.where(rows[:6, 0] > 0, "hi", "lo"))
    with pytest.raises(PotstillError, match="same columns"):
        potstill.distill(data, "less", items=4, target=str(tmp_path / "target.npz"), epochs=1, progress=None)


def test_an_edited_target_is_another_run(tmp_path: Path) -> None:
    """The name of the file was all that a checkpoint knew of it."""
    data = clusters()
    splits = potstill.Splits(train=data, test=None)
    path = written(tmp_path / "t.npz", data, torch.arange(0, 12))
    spec = RunSpec(data=splits, method="less", options={**SHORT, "target": str(path)}, ipc=2)
    first = run_identity(resolve_run(spec))
    assert first == run_identity(resolve_run(spec))
    written(path, data, torch.arange(3, 15))
    second = run_identity(resolve_run(spec))
    assert list(differences(first, second)) != []
    assert {k: v for k, v in first.items() if k != "other_data"} == {
        k: v for k, v in second.items() if k != "other_data"
    }


def test_bad_targets(tmp_path: Path) -> None:
    train = clusters()
    np.savez(tmp_path / "wide.npz", x=np.zeros((4, 7)), y=np.array(["a", "b"] * 2))
    np.savez(tmp_path / "other.npz", x=np.zeros((4, 4)), y=np.array(["a", "z"] * 2))
    for name, message in (("wide", r"inputs of the target wide are \(7,\)"), ("other", "no class 'z' of the target")):
        with pytest.raises(PotstillError, match=message):
            potstill.distill(train, "less", items=3, target=str(tmp_path / f"{name}.npz"), progress=None)
    with pytest.raises(PotstillError, match="epochs must be at least 1"):
        potstill.distill(train, "less", items=3, epochs=0, progress=None)
