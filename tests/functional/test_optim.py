"""The functional SGD and AdamW are torch's, the others their papers', and all leave their arguments alone."""

from functools import partial

import pytest
import torch

from potstill.functional.optim import adaptive_step, sgd, sgd_tensor, zeros
from potstill.rng import generator

adamw, lamb, adabelief = (partial(adaptive_step, rule) for rule in ("adamw", "lamb", "adabelief"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 5e-4])
@pytest.mark.parametrize("from_zeros", [False, True])
def test_many_steps_equal_torch_to_the_bit(
    dtype: torch.dtype, momentum: float, weight_decay: float, from_zeros: bool
) -> None:
    rng = generator(0, "sgd")
    start = {str(s): torch.randn(s, generator=rng, dtype=dtype) for s in [(37, 5), (3,), (2, 3, 3, 3)]}
    theirs = [p.clone().requires_grad_() for p in start.values()]
    optimiser = torch.optim.SGD(theirs, lr=0.013, momentum=momentum, weight_decay=weight_decay)
    # seven steps of at most three rounded operations on values of order 1; kernels may fuse two of them or not
    bound = 7 * 3 * torch.finfo(dtype).eps
    ours = start
    velocity = zeros(start) if from_zeros else None
    for _ in range(7):
        grads = {n: torch.randn(p.shape, generator=rng, dtype=dtype) for n, p in start.items()}
        for p, g in zip(theirs, grads.values(), strict=True):
            p.grad = g.clone()
        optimiser.step()
        ours, velocity = sgd(ours, grads, velocity, lr=0.013, momentum=momentum, weight_decay=weight_decay)
        for p, q in zip(ours.values(), theirs, strict=True):
            torch.testing.assert_close(p, q.detach(), rtol=bound, atol=bound)


def test_mappings_give_the_same_as_tensors_and_nothing_is_written() -> None:
    p, g, v = torch.ones(3), torch.full((3,), 2.0), torch.full((3,), 4.0)
    made, speed = sgd({"a": p}, {"a": g}, {"a": v}, lr=0.5, momentum=0.5, weight_decay=1.0)
    assert torch.equal(speed["a"], torch.full((3,), 5.0))
    assert torch.equal(made["a"], torch.full((3,), -1.5))
    assert torch.equal(sgd_tensor(p, g, v, lr=0.5, momentum=0.5, weight_decay=1.0)[0], made["a"])
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
        once, v = sgd_tensor(p, g, None, lr=lr, momentum=0.9, weight_decay=0.1)
        return sgd_tensor(once, h * once, v, lr=lr, momentum=0.9, weight_decay=0.1)[0]

    assert torch.autograd.gradcheck(two, (p, g, h, lr))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weight_decay", [0.0, 5e-4, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
def test_ten_steps_of_adamw_equal_torch(dtype: torch.dtype, weight_decay: float, betas: tuple[float, float]) -> None:
    rng = generator(0, "adamw")
    ours = {n: torch.randn(s, generator=rng, dtype=dtype) for n, s in {"a": (37, 5), "b": (3,), "c": (2, 3, 3)}.items()}
    theirs = {n: p.clone().requires_grad_() for n, p in ours.items()}
    optimiser = torch.optim.AdamW(
        list(theirs.values()), lr=0.013, betas=betas, weight_decay=weight_decay, foreach=False, fused=False
    )
    first, second = zeros(ours), zeros(ours)
    tight = {"rtol": 1e-6, "atol": 1e-7} if dtype == torch.float32 else {"rtol": 1e-13, "atol": 1e-14}
    for count in range(10):
        grads = {n: torch.randn(p.shape, generator=rng, dtype=dtype) for n, p in ours.items()}
        for n, p in theirs.items():
            p.grad = grads[n].clone()
        optimiser.step()
        ours, first, second = adamw(ours, grads, first, second, count, lr=0.013, betas=betas, weight_decay=weight_decay)
        for n, p in theirs.items():
            torch.testing.assert_close(ours[n], p.detach(), **tight)
            torch.testing.assert_close(first[n], optimiser.state[p]["exp_avg"], **tight)
            torch.testing.assert_close(second[n], optimiser.state[p]["exp_avg_sq"], **tight)


def test_the_first_step_of_adamw_is_known() -> None:
    p, g = {"a": torch.tensor([1.0, -2.0], dtype=torch.float64)}, {"a": torch.tensor([0.5, -4.0], dtype=torch.float64)}
    made, first, second = adamw(p, g, zeros(p), zeros(p), 0, lr=0.1, weight_decay=0.5)
    # decayed by 1 − 0.1 · 0.5, then a step of the learning rate against the sign, whatever the size of the gradient
    torch.testing.assert_close(made["a"], torch.tensor([0.85, -1.8], dtype=torch.float64), rtol=1e-7, atol=0)
    torch.testing.assert_close(first["a"], torch.tensor([0.05, -0.4], dtype=torch.float64))
    torch.testing.assert_close(second["a"], torch.tensor([0.00025, 0.016], dtype=torch.float64))
    assert p["a"].tolist() == [1, -2]
    still = adamw(p, zeros(p), zeros(p), zeros(p), 0, lr=0.1)[0]
    assert torch.equal(still["a"], p["a"])
    with pytest.raises(ValueError, match="same names"):
        adamw(p, {"b": g["a"]}, zeros(p), zeros(p), 0, lr=0.1)


def _by_hand(name: str, p: float, grads: list[float], lr: float, decay: float) -> float:
    """A tensor of one number, as the papers write it."""
    m, v = 0.0, 0.0
    for t, g in enumerate(grads, 1):
        m = 0.9 * m + 0.1 * g
        if name == "lamb":
            v = 0.999 * v + 0.001 * g * g
            u = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-6) + decay * p
            p -= lr * (abs(p) / abs(u) if p and u else 1.0) * u
        else:
            v = 0.999 * v + 0.001 * (g - m) ** 2 + 1e-16
            u = m / (1 - 0.9**t) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-16)
            p = p * (1 - lr * decay) - lr * u
    return p


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", ["lamb", "adabelief"])
def test_lamb_and_adabelief_are_what_their_papers_write(name: str, decay: float) -> None:
    step = {"lamb": lamb, "adabelief": adabelief}[name]
    grads = [0.3, -0.7, 0.2, 0.2, 1.5]
    p, m, v = ({"a": torch.tensor([x], dtype=torch.float64)} for x in (0.8, 0.0, 0.0))
    first = p["a"].clone()
    kept = p["a"]
    for count, g in enumerate(grads):
        p, m, v = step(
            p, {"a": torch.tensor([g], dtype=torch.float64)}, m, v, count, lr=0.05, weight_decay=decay
        )  # fmt: skip
    assert float(p["a"]) == pytest.approx(_by_hand(name, 0.8, grads, 0.05, decay), rel=1e-12)
    assert torch.equal(kept, first)
    with pytest.raises(ValueError, match="same names"):
        step(p, {"b": p["a"]}, m, v, 0, lr=0.1)


def test_adabelief_about_the_old_mean_is_what_optax_0_1_4_prints() -> None:
    """By hand, and the five numbers of ``optax.adabelief(0.05)`` of version 0.1.4 in float64 (RCIG's program)."""
    golden = [0.7500000000000279, 0.7702727874701653, 0.777509426468013, 0.7764301792252069, 0.7522317718551694]
    p, m, s, by_hand, mean, second = (
        *({"a": torch.tensor([x], dtype=torch.float64)} for x in (0.8, 0.0, 0.0)),
        0.8,
        0.0,
        0.0,
    )
    for count, g in enumerate([0.3, -0.7, 0.2, 0.2, 1.5]):
        p, m, s = adaptive_step(
            "adabelief-old-mean", p, {"a": torch.tensor([g], dtype=torch.float64)}, m, s, count, lr=0.05
        )
        second = 0.999 * second + 0.001 * (g - mean) ** 2 + 1e-16
        mean = 0.9 * mean + 0.1 * g
        by_hand -= 0.05 * (mean / (1 - 0.9 ** (count + 1))) / ((second / (1 - 0.999 ** (count + 1))) ** 0.5 + 1e-16)
        assert float(p["a"]) == pytest.approx(by_hand, rel=1e-12)
        assert float(p["a"]) == pytest.approx(golden[count], rel=1e-12)


def test_lamb_moves_each_tensor_by_a_part_of_its_own_length() -> None:
    rng = generator(3, "lamb")
    p = {"small": torch.randn(50, generator=rng) * 1e-3, "large": torch.randn(50, generator=rng) * 1e3}
    g = {n: torch.randn(50, generator=rng) for n in p}
    after, _, _ = lamb(p, g, zeros(p), zeros(p), 0, lr=0.01)
    for n in p:
        assert float((after[n] - p[n]).norm() / p[n].norm()) == pytest.approx(0.01, rel=1e-4)
    nothing = {"a": torch.zeros(3)}
    assert torch.equal(lamb(nothing, nothing, nothing, nothing, 0, lr=0.1)[0]["a"], torch.zeros(3))
    moved, _, _ = lamb(nothing, {"a": torch.ones(3)}, nothing, nothing, 0, lr=0.1)
    assert moved["a"].tolist() == pytest.approx([-0.1] * 3, rel=1e-4)


def test_adabelief_takes_long_steps_where_the_gradient_is_as_its_mean_says() -> None:
    p = {"steady": torch.zeros(1, dtype=torch.float64), "wild": torch.zeros(1, dtype=torch.float64)}
    m, v = zeros(p), zeros(p)
    for count in range(40):
        g = {"steady": torch.ones_like(p["steady"]), "wild": torch.full_like(p["wild"], 1.0 + 3 * (-1) ** count)}
        p, m, v = adabelief(p, g, m, v, count, lr=0.01)
    assert float(p["steady"]) < 3 * float(p["wild"]) < 0
