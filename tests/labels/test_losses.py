"""Losses on soft labels: a naive reference, a number by hand, gradients, and what each does not depend on."""

import math

import pytest
import torch
from torch import Tensor

from potstill.errors import PotstillError
from potstill.labels.losses import kl
from potstill.rng import generator


def batch(n: int = 5, k: int = 4) -> tuple[Tensor, Tensor]:
    rng = generator(0, "losses")
    student, teacher = torch.randn(2, n, k, generator=rng, dtype=torch.float64)
    return student, teacher * 3


@pytest.mark.parametrize("t_squared", [False, True])
def test_kl_is_its_sum(t_squared: bool) -> None:
    student, teacher = batch()
    target = (teacher / 4).softmax(1)
    total = 0.0
    for z, p in zip((student / 4).tolist(), target.tolist(), strict=True):
        norm = math.log(sum(math.exp(v) for v in z))
        total += sum(q * (math.log(q) - (v - norm)) for q, v in zip(p, z, strict=True))
    total *= (16 if t_squared else 1) / len(student)
    assert float(kl(student, target, temperature=4.0, t_squared=t_squared)) == pytest.approx(total, rel=1e-12)


def test_kl_by_hand() -> None:
    # student even over two, teacher (3/4, 1/4): log 2 − H(3/4) = 0.75 log 1.5 + 0.25 log 0.5
    student, target = torch.zeros(1, 2), torch.tensor([[0.75, 0.25]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(kl(student, target, temperature=20.0, t_squared=False)) == pytest.approx(expected, rel=1e-6)
    assert float(kl(student, target, temperature=20.0, t_squared=True)) == pytest.approx(400 * expected, rel=1e-6)
    assert expected == pytest.approx(0.130812, abs=1e-6)


def test_kl_is_zero_at_the_teacher_and_takes_classes_without_mass() -> None:
    _, teacher = batch()
    assert float(kl(teacher, (teacher / 3).softmax(1), temperature=3.0, t_squared=True)) == pytest.approx(0, abs=1e-12)
    hard = torch.eye(4, dtype=torch.float64)
    assert math.isfinite(float(kl(teacher[:4], hard, temperature=1.0, t_squared=False)))
    with pytest.raises(PotstillError, match="temperature must be above 0"):
        kl(teacher[:4], hard, temperature=0.0, t_squared=False)


def test_gradients_keep_their_size_with_t_squared() -> None:
    student, teacher = batch()
    sizes = []
    for temperature in (20.0, 40.0):
        z = student.clone().requires_grad_()
        kl(z, (teacher / temperature).softmax(1), temperature=temperature, t_squared=True).backward()
        assert z.grad is not None
        sizes.append(float(z.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_gradients() -> None:
    student, teacher = batch()
    student.requires_grad_()
    target = (teacher / 4).softmax(1)
    for t_squared in (False, True):
        assert torch.autograd.gradcheck(lambda z, t=t_squared: kl(z, target, temperature=4.0, t_squared=t), (student,))
