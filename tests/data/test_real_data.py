"""The one door to real data: draws by class name, sums that add up over parts, and a place to change them."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from potstill.core import Batch, SampleSum
from potstill.data import TensorSource
from potstill.data.columns import batch_columns, column_names
from potstill.data.real_data import RealData
from potstill.rng import generator

X = np.arange(24, dtype=np.float32).reshape(12, 2)
Y = ["a", "b", "c"] * 4
SOURCE = TensorSource.make(X, Y)


def rows(batch: Batch) -> Tensor:
    assert isinstance(batch.x, Tensor)
    return batch.x


def test_a_batch_is_what_the_source_fetches() -> None:
    real = RealData.of_source(SOURCE)
    batch, expected = real.batch(torch.tensor([3, 1]), torch.tensor([5])), SOURCE.fetch(torch.tensor([3, 1, 5]))
    assert torch.equal(rows(batch), rows(expected))
    assert batch.y is not None
    assert expected.y is not None
    assert torch.equal(batch.y, expected.y)


def test_a_draw_of_a_class_does_not_depend_on_other_classes() -> None:
    only = [i for i, y in enumerate(Y) if y != "a"]
    part = RealData.of_source(TensorSource.make(X[only], [Y[i] for i in only]))
    real, rngs = RealData.of_source(SOURCE), (generator(7), generator(7))
    for count in (2, 3, 99):
        drawn = real.draw(count, rngs[0])[2]
        assert [only[i] for i in part.draw(count, rngs[1])[1].tolist()] == drawn.tolist()
        assert all(Y[i] == "c" for i in drawn.tolist())
        assert len(drawn) == min(count, 4)


def test_every_mean_passes_the_release_as_a_sum_with_its_number() -> None:
    asked: list[str] = []

    def release(query: str, value: SampleSum) -> SampleSum:
        asked.append(query)
        return value + SampleSum(torch.full_like(value.total, 6.0), 2)

    real = replace(RealData.of_source(SOURCE), release=release)
    x = torch.arange(8.0).reshape(4, 2)
    torch.testing.assert_close(real.class_mean("b", x), (x.sum(0) + 6) / 6)
    assert torch.equal(RealData.of_source(SOURCE).class_mean("b", x), x.mean(0))
    index = real.by_class["b"]
    gradient = real.mean_gradient("b", index, lambda batch: {"w": rows(batch).mean(0)})["w"]
    torch.testing.assert_close(gradient, (rows(SOURCE.fetch(index)).sum(0) + 6) / 6)
    assert asked == ["class b", "gradient class b w"]


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
