"""The functional SGD is torch's, bit for bit, and leaves its arguments alone."""

import pytest
import torch

from potstill.functional.optim import sgd, zeros
from potstill.rng import generator


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 5e-4])
@pytest.mark.parametrize("from_zeros", [False, True])
def test_many_steps_equal_torch_to_the_bit(
    dtype: torch.dtype, momentum: float, weight_decay: float, from_zeros: bool
) -> None:
    rng = generator(0, "sgd")
    start = tuple(torch.randn(s, generator=rng, dtype=dtype) for s in [(37, 5), (3,), (2, 3, 3, 3)])
    theirs = [p.clone().requires_grad_() for p in start]
    optimiser = torch.optim.SGD(theirs, lr=0.013, momentum=momentum, weight_decay=weight_decay)
    ours = start
    velocity = zeros(start) if from_zeros else None
    for _ in range(7):
        grads = tuple(torch.randn(p.shape, generator=rng, dtype=dtype) for p in start)
        for p, g in zip(theirs, grads, strict=True):
            p.grad = g.clone()
        optimiser.step()
        ours, velocity = sgd(ours, grads, velocity, lr=0.013, momentum=momentum, weight_decay=weight_decay)
        for p, q in zip(ours, theirs, strict=True):
            assert torch.equal(p, q.detach())


def test_mappings_give_the_same_as_tuples_and_nothing_is_written() -> None:
    p, g, v = torch.ones(3), torch.full((3,), 2.0), torch.full((3,), 4.0)
    made, speed = sgd({"a": p}, {"a": g}, {"a": v}, lr=0.5, momentum=0.5, weight_decay=1.0)
    assert torch.equal(speed["a"], torch.full((3,), 5.0))
    assert torch.equal(made["a"], torch.full((3,), -1.5))
    assert torch.equal(sgd((p,), (g,), (v,), lr=0.5, momentum=0.5, weight_decay=1.0)[0][0], made["a"])
    assert (p == 1).all()
    assert (g == 2).all()
    assert (v == 4).all()
    assert zeros({"a": p})["a"].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="same names"):
        sgd({"a": p}, {"b": g}, lr=0.1)


def test_steps_can_be_differentiated() -> None:
    rng = generator(1, "unroll")
    p, g, h = (torch.randn(4, generator=rng, dtype=torch.float64, requires_grad=True) for _ in range(3))
    lr = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def two(p: torch.Tensor, g: torch.Tensor, h: torch.Tensor, lr: torch.Tensor) -> torch.Tensor:
        once, v = sgd((p,), (g,), None, lr=lr, momentum=0.9, weight_decay=0.1)
        return sgd(once, (h * once[0],), v, lr=lr, momentum=0.9, weight_decay=0.1)[0][0]

    assert torch.autograd.gradcheck(two, (p, g, h, lr))
