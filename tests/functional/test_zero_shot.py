"""Zero-shot classification: against a loop, against numbers worked by hand, and its derivative."""

import math

import pytest
import torch
from torch import Tensor

from potstill.functional.zero_shot import balanced_accuracy, class_similarities
from potstill.rng import generator

OWNER = torch.tensor([1, 0, 1, 2, 1])


def draw(*shape: int, path: str) -> Tensor:
    return torch.randn(shape, generator=generator(0, "zero-shot", path), dtype=torch.float64)


def test_similarities_are_means_of_a_loop() -> None:
    pictures, texts = draw(4, 3, path="pictures"), draw(5, 3, path="texts")
    found = class_similarities(pictures, texts, OWNER)
    for i, x in enumerate(pictures.tolist()):
        for c in range(3):
            cosines = []
            for t, owner in zip(texts.tolist(), OWNER.tolist(), strict=True):
                if owner == c:
                    product = sum(a * b for a, b in zip(x, t, strict=True))
                    cosines.append(product / math.hypot(*x) / math.hypot(*t))
            assert float(found[i, c]) == pytest.approx(sum(cosines) / len(cosines), rel=1e-12)


def test_known_similarities() -> None:
    pictures = torch.tensor([[2.0, 0.0], [0.0, 0.5]])
    texts = torch.tensor([[3.0, 0.0], [0.0, 1.0], [5.0, 0.0]])
    assert class_similarities(pictures, texts, torch.tensor([0, 1, 1])).tolist() == [[1.0, 0.5], [0.0, 0.5]]


def test_the_gradient_is_that_of_finite_differences() -> None:
    leaves = [draw(4, 3, path="pictures").requires_grad_(), draw(5, 3, path="texts").requires_grad_()]
    assert torch.autograd.gradcheck(lambda a, b: class_similarities(a, b, OWNER), leaves)


def test_a_rare_class_weighs_as_much_as_a_frequent_one() -> None:
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    assert balanced_accuracy(rows, torch.tensor([0, 1, 1, 0])) == (1 / 2 + 1) / 2  # class 2 has no pictures
    assert balanced_accuracy(torch.zeros(2, 2), torch.tensor([0, 1])) == 0.5  # ties go to the first class


def test_a_class_without_texts_is_refused() -> None:
    with pytest.raises(ValueError, match="every class needs at least one text"):
        class_similarities(torch.ones(1, 2), torch.ones(2, 2), torch.tensor([0, 2]))
