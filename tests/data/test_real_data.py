"""The one door to real data: draws by class name, sums that add up over parts, and a place to change them."""

import numpy as np
import torch
from torch import Tensor

from potstill.core import Batch
from potstill.data import TensorSource
from potstill.data.columns import batch_columns, column_names
from potstill.data.real_data import RealData, SampleSum

X = np.arange(24, dtype=np.float32).reshape(12, 2)
Y = ["a", "b", "c"] * 4
SOURCE = TensorSource.make(X, Y)


def rows(batch: Batch) -> Tensor:
    assert isinstance(batch.x, Tensor)
    return batch.x


def test_a_batch_is_what_the_source_fetches() -> None:
    real = RealData(source=SOURCE)
    batch, expected = real.batch(torch.tensor([3, 1]), torch.tensor([5])), SOURCE.fetch(torch.tensor([3, 1, 5]))
    assert torch.equal(rows(batch), rows(expected))
    assert batch.y is not None
    assert expected.y is not None
    assert torch.equal(batch.y, expected.y)


def test_a_draw_of_a_class_does_not_depend_on_other_classes() -> None:
    only = [i for i, y in enumerate(Y) if y != "a"]
    part = RealData(source=TensorSource.make(X[only], [Y[i] for i in only]))
    real = RealData(source=SOURCE)
    for step in range(3):
        drawn = real.draw("c", 2, seed=7, step=step)
        assert [only[i] for i in part.draw("c", 2, seed=7, step=step).tolist()] == drawn.tolist()
        assert all(Y[i] == "c" for i in drawn.tolist())
    assert len(real.draw("c", 99, seed=7)) == 4


def test_class_sums_are_sums_and_counts_that_add_up_over_parts() -> None:
    whole = RealData(source=SOURCE).class_sums(rows)
    halves = [RealData(source=SOURCE.subset(torch.arange(*ends))).class_sums(rows) for ends in ((0, 5), (5, 12))]
    for name, value in whole.items():
        members = torch.tensor([y == name for y in Y])
        x = rows(SOURCE.fetch(torch.where(members)[0])).double()
        torch.testing.assert_close(value.total, x.sum(0))
        torch.testing.assert_close(value.mean, x.mean(0))
        added = halves[0][name] + halves[1][name]
        assert added.count == value.count == 4
        torch.testing.assert_close(added.total, value.total)


def test_the_sum_of_gradients_is_that_of_the_samples() -> None:
    w = torch.tensor([0.5, -1.0])

    def losses(params: dict[str, Tensor], batch: Batch) -> Tensor:
        return (rows(batch) @ params["w"]).square()

    found = RealData(source=SOURCE).gradient_sum(losses, {"w": w}, torch.arange(12))["w"]
    x = rows(SOURCE.fetch(torch.arange(12)))
    torch.testing.assert_close(found.total, (2 * (x @ w)[:, None] * x).sum(0))
    assert found.count == 12


def test_every_sum_passes_the_release() -> None:
    asked: list[str] = []

    def release(query: str, value: SampleSum) -> SampleSum:
        asked.append(query)
        return SampleSum(value.total * 0, value.count)

    real = RealData(source=SOURCE, release=release)
    assert not real.class_sums(rows, ["b"])["b"].total.any()
    assert asked == ["class b"]


def test_batches_have_the_columns_that_the_source_states() -> None:
    weighted = TensorSource(
        name="w", input=SOURCE.input, classes=SOURCE.classes, normalization=SOURCE.normalization, inputs=SOURCE.inputs,
        labels=SOURCE.labels, groups=torch.arange(12), weights=torch.linspace(0, 1, 12),
    )  # fmt: skip
    assert column_names(SOURCE) == ()
    assert column_names(weighted) == ("group", "weight")
    some = weighted.subset(torch.tensor([4, 2]))
    batch = some.fetch(torch.tensor([1]))
    assert batch.columns["group"].tolist() == [2]
    assert torch.equal(batch.columns["weight"], weighted.weights[[2]])  # type: ignore[index]
    assert batch_columns(some, torch.tensor([0]), torch.device("cpu"))["group"].tolist() == [4]
