"""The compiled block and product beside the plain operations in float64: values, gradients, second derivatives."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill.native import available
from potstill.nn import fused_norm_relu_pool, gemm_relu_pool
from potstill.nn.fused_norm_relu_pool import instance_relu_pool
from potstill.nn.gemm_relu_pool import relu_pool_of_product
from potstill.rng import generator

pytestmark = pytest.mark.skipif(not available(), reason="no C compiler, or registers are too narrow")


@pytest.fixture(autouse=True, scope="module")
def always():
    before, fused_norm_relu_pool._WORTH = fused_norm_relu_pool._WORTH, 0
    yield
    fused_norm_relu_pool._WORTH = before


@pytest.fixture
def forms(monkeypatch):
    """What asks for a kernel and what does without, told apart."""
    asked = []
    for module, plain in (
        (fused_norm_relu_pool, fused_norm_relu_pool._kernels),
        (gemm_relu_pool, gemm_relu_pool._kernels),
    ):
        monkeypatch.setattr(module, "_kernels", lambda *a, plain=plain: asked.append(plain(*a)) or asked[-1])
    return asked


def off(ours, true):
    """Relative error in the 2-norm; where all but nothing is left of numbers around 1, absolute."""
    return float((ours - true).norm() / true.norm().clamp_min(0.1))


def everything(f, inputs):
    """Value, gradients, those of some function of them (by what reaches the output, too), and gradients taken alone."""
    inputs = [t.detach().clone().requires_grad_() for t in inputs]
    y = f(*inputs)
    cotangent = torch.linspace(-1, 2, y.numel(), dtype=torch.float64).to(y.dtype).view_as(y)
    cotangent.requires_grad_()
    first = torch.autograd.grad(y, inputs, cotangent, create_graph=True)
    size = torch.stack(
        [(g * torch.arange(g.numel(), dtype=torch.float64).sin().to(g.dtype).view_as(g)).sum() for g in first]
    ).sum()
    second = torch.autograd.grad(
        size, [*inputs, cotangent], materialize_grads=True
    )  # nothing of it comes through the bias
    return [
        y.detach(),
        *(t.detach() for t in first),
        *second,
        *torch.autograd.grad(f(*inputs), inputs, cotangent.detach()),
    ]


def block_case(n, c, h, w, seed=0):
    rng = generator(seed, "block")
    x = torch.randn(n, c, h, w, generator=rng) * 2 + 1
    return x, torch.randn(c, generator=rng), torch.randn(c, generator=rng)


def plain_block(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.avg_pool2d(F.relu(F.group_norm(x, x.shape[1], weight, bias)), 2)


@settings(max_examples=60, deadline=None, derandomize=True)  # an activation of 1e-8 may fall on either side
@given(n=st.integers(1, 4), c=st.integers(1, 9), h=st.integers(1, 9), w=st.integers(1, 19), seed=st.integers(0, 99))
def test_block(n, c, h, w, seed):
    case = block_case(n, c, 2 * h, 2 * w, seed)
    ours, true = everything(instance_relu_pool, case), everything(plain_block, [t.double() for t in case])
    assert max(off(a, b) for a, b in zip(ours, true, strict=True)) < 2e-5


def product_case(n, o, p, h, w, seed=0):
    rng = generator(seed, "product")
    return torch.randn(n, o, p, generator=rng), torch.randn(n, p, h * w, generator=rng)


@settings(max_examples=60, deadline=None, derandomize=True)  # an activation of 1e-8 may fall on either side
@given(
    n=st.integers(1, 4), o=st.integers(1, 5), p=st.integers(1, 28), h=st.integers(1, 5), w=st.integers(1, 2),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_product(n, o, p, h, w, seed):
    width = 16 * w
    case = product_case(n, 4 * o, p, 2 * h, width, seed)

    def plain(s: Tensor, patches: Tensor) -> Tensor:
        y = s @ patches
        return F.avg_pool2d(F.relu(y).view(*y.shape[:2], -1, width), 2)

    ours = everything(lambda s, patches: relu_pool_of_product(s, patches, width), case)
    true = everything(plain, [t.double() for t in case])
    assert max(off(a, b) for a, b in zip(ours, true, strict=True)) < 2e-5


def test_kernels_are_taken_where_they_can_be(forms):
    instance_relu_pool(*block_case(2, 3, 4, 6))
    relu_pool_of_product(*product_case(1, 8, 5, 4, 16), 16)
    assert forms == [True, True]
    instance_relu_pool(*(t.double() for t in block_case(2, 3, 4, 6)))
    relu_pool_of_product(*product_case(1, 8, 5, 4, 6), 6)
    relu_pool_of_product(*product_case(1, 6, 5, 4, 16), 16)
    assert forms[2:] == [False, False, False]


@pytest.mark.parametrize("threads", [2, 3])
def test_same_bits_with_any_number_of_threads(threads):
    block, both = block_case(5, 7, 6, 10), product_case(5, 8, 10, 4, 32)
    found = []
    before = torch.get_num_threads()
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            found.append(
                everything(instance_relu_pool, block) + everything(lambda s, q: relu_pool_of_product(s, q, 32), both)
            )
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_golden_numbers():
    """A plane of 0 to 3 has mean 1.5 and variance 1.25: x^ = ±1.3416, ±0.4472; ReLU leaves two of four."""
    x = torch.arange(4.0).view(1, 1, 2, 2)
    y = instance_relu_pool(x, torch.ones(1), torch.zeros(1), 0.0)
    assert y.item() == pytest.approx((0.5 + 1.5) / 1.25**0.5 / 4, rel=1e-6)
    s, patches = torch.tensor([[[2.0], [-1.0], [1.0], [0.5]]]), torch.arange(-16.0, 16).view(1, 1, 32)
    y = relu_pool_of_product(s, patches, 16)
    # first cell: -16, -15 above 0, 1 below; last cell: -2, -1 above 14, 15
    assert y[0, :, 0, 0].tolist() == [0.5, 31 / 4, 0.25, 0.125]
    assert y[0, :, 0, 7].tolist() == [29 / 2, 3 / 4, 29 / 4, 29 / 8]


def test_what_is_not_a_number_is_not_hidden():
    x, weight, bias = block_case(2, 3, 4, 4)
    x[1, 2, 0, 0] = torch.nan
    y = instance_relu_pool(x, weight, bias)
    assert y[1, 2].isnan().all()
    assert y[0].isfinite().all()
    s, patches = product_case(2, 4, 3, 2, 16)
    patches[1, 0, 5] = torch.nan
    y = relu_pool_of_product(s, patches, 16)
    assert y[1, :, 0, 2].isnan().all()
    assert y.isnan().sum() == 4


def test_the_largest_plane_fits_on_a_threads_stack_and_larger_ones_go_to_torch(forms):
    large, larger = (block_case(2, 1, side, 512) for side in (256, 258))
    ours, true = (everything(f, large) for f in (instance_relu_pool, plain_block))
    assert off(ours[0], true[0]) < 1e-5
    assert all(forms)
    everything(instance_relu_pool, larger)
    assert not any(forms[-3:])
