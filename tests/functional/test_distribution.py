"""Means of embeddings: against loops, and against numbers worked by hand."""

import pytest
import torch

from potstill.functional.distribution import class_means, group_means, mean_embedding_gap, mean_gap
from potstill.rng import generator


def test_gap_of_known_numbers() -> None:
    real = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    syn = torch.tensor([[0.0, 1.0]])
    assert float(mean_embedding_gap(real, syn)) == 2.0**2 + 3.0**2


def test_gap_sums_over_classes_and_features() -> None:
    rng = generator(1, "gap")
    real, syn = (torch.randn(3, n, 5, generator=rng, dtype=torch.float64) for n in (7, 2))
    naive = sum(
        (float(real[c, :, d].sum()) / 7 - float(syn[c, :, d].sum()) / 2) ** 2 for c in range(3) for d in range(5)
    )
    assert float(mean_embedding_gap(real, syn)) == pytest.approx(naive, rel=1e-12)
    assert float(sum(mean_embedding_gap(r, s) for r, s in zip(real, syn, strict=True))) == pytest.approx(
        naive, rel=1e-12
    )


def test_gap_derivative() -> None:
    rng = generator(2, "gap")
    real, syn = (torch.randn(2, n, 3, generator=rng, dtype=torch.float64) for n in (4, 2))
    assert torch.autograd.gradcheck(lambda s: mean_embedding_gap(real, s), (syn.requires_grad_(),))


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 3, 2)])
def test_grouped_and_labelled_means_agree_with_a_loop(sizes: tuple[int, ...]) -> None:
    features = torch.randn(6, 4, generator=generator(3, "f"), dtype=torch.float64)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    naive = torch.stack([features[labels == c].mean(0) for c in range(3)])
    torch.testing.assert_close(group_means(features, sizes), naive)
    shuffle = torch.randperm(6, generator=generator(3, "p"))
    torch.testing.assert_close(class_means(features[shuffle], labels[shuffle], 3), naive)
    rows = torch.eye(3, dtype=torch.float64)[labels]
    torch.testing.assert_close(class_means(features, rows, 3), naive)
    assert float(mean_gap(group_means(features, sizes), naive)) == pytest.approx(0.0, abs=1e-20)


def test_absent_class_and_bad_sizes() -> None:
    features = torch.ones(2, 3)
    assert torch.equal(class_means(features, torch.tensor([0, 2]), 3)[1], torch.zeros(3))
    for sizes in [(1,), (2, 0), (3,)]:
        with pytest.raises(ValueError, match="add up to 2 rows"):
            group_means(features, sizes)
