"""Losses on soft labels: a naive reference, a number by hand, gradients, and what each does not depend on."""

import math

import pytest
import torch
from torch import Tensor

from potstill.errors import PotstillError
from potstill.rng import generator
from potstill.supervise.losses import gift, kl, mse_ce


def batch(n: int = 5, k: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    rng = generator(0, "losses")
    student, teacher = torch.randn(2, n, k, generator=rng, dtype=torch.float64)
    return student, teacher * 3, torch.randint(k, (n,), generator=rng)


@pytest.mark.parametrize("t_squared", [False, True])
def test_kl_is_its_sum(t_squared: bool) -> None:
    student, teacher, _ = batch()
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
    _, teacher, _ = batch()
    assert float(kl(teacher, (teacher / 3).softmax(1), temperature=3.0, t_squared=True)) == pytest.approx(0, abs=1e-12)
    hard = torch.eye(4, dtype=torch.float64)
    assert math.isfinite(float(kl(teacher[:4], hard, temperature=1.0, t_squared=False)))
    with pytest.raises(PotstillError, match="temperature must be above 0"):
        kl(teacher[:4], hard, temperature=0.0, t_squared=False)


def test_gradients_keep_their_size_with_t_squared() -> None:
    student, teacher, _ = batch()
    sizes = []
    for temperature in (20.0, 40.0):
        z = student.clone().requires_grad_()
        kl(z, (teacher / temperature).softmax(1), temperature=temperature, t_squared=True).backward()
        assert z.grad is not None
        sizes.append(float(z.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_mse_ce_is_its_sum() -> None:
    student, teacher, y = batch()
    pairs = list(zip(student.tolist(), teacher.tolist(), y.tolist(), strict=True))
    squares = sum((a - b) ** 2 for z, t, _ in pairs for a, b in zip(z, t, strict=True))
    crosses = sum(math.log(sum(math.exp(v) for v in z)) - z[c] for z, _, c in pairs)
    expected = squares / student.numel() + 0.025 * crosses / len(student)
    assert float(mse_ce(student, teacher, y, ce_weight=0.025)) == pytest.approx(expected, rel=1e-12)


def test_mse_ce_by_hand() -> None:
    found = mse_ce(torch.zeros(1, 2), torch.tensor([[3.0, -1.0]]), torch.tensor([0]), ce_weight=0.5)
    assert float(found) == pytest.approx(5 + 0.5 * math.log(2), rel=1e-6)


def test_gift_is_its_sum() -> None:
    student, teacher, y = batch()
    total = 0.0
    for z, t, c in zip(student.tolist(), teacher.tolist(), y.tolist(), strict=True):
        s = [0.9 if i == c else 0.1 / 3 for i in range(4)]
        length, other = (math.sqrt(sum(v * v for v in row)) for row in (t, s))
        target = [a / length + 0.1 * b / other for a, b in zip(t, s, strict=True)]
        dot = sum(a * b for a, b in zip(z, target, strict=True))
        total += dot / math.sqrt(sum(v * v for v in z)) / math.sqrt(sum(v * v for v in target))
    assert float(gift(student, teacher, y)) == pytest.approx(1 - total / len(student), rel=1e-12)


def test_gift_by_hand_and_its_invariance() -> None:
    # teacher (1, 0) and no smoothing: the target is (1.1, 0), the student at 60 degrees to it
    student = torch.tensor([[1.0, math.sqrt(3)]])
    assert float(gift(student, torch.tensor([[2.0, 0.0]]), torch.tensor([0]), smoothing=0.0)) == pytest.approx(0.5)
    student, teacher, y = batch()
    for scale in (1e-3, 7.0):
        torch.testing.assert_close(gift(student * scale, teacher, y), gift(student, teacher, y))


def test_gradients() -> None:
    student, teacher, y = batch()
    student.requires_grad_()
    target = (teacher / 4).softmax(1)
    for t_squared in (False, True):
        assert torch.autograd.gradcheck(lambda z, t=t_squared: kl(z, target, temperature=4.0, t_squared=t), (student,))
    assert torch.autograd.gradcheck(lambda z: mse_ce(z, teacher, y, ce_weight=0.1), (student,))
    assert torch.autograd.gradcheck(lambda z: gift(z, teacher, y), (student,))
