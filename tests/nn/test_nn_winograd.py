"""The 3×3 convolution with few products: values, gradients and second derivatives beside torch's in float64."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from potstill.native import available, build
from potstill.nn import winograd
from potstill.nn.winograd import Convolution, convolution, supports_winograd
from potstill.rng import generator

needs_kernels = pytest.mark.skipif(not available(), reason="no C compiler, or registers are too narrow")
plain = partial(F.conv2d, padding=1)


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(winograd, "_WORTH", 0)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def case(n, c, k, h, w, seed=0):
    rng = generator(seed, "winograd")
    shapes = (n, c, h, w), (k, c, 3, 3), (k,), (n, k, h, w)
    x, weight, bias, g = (torch.randn(s, generator=rng) for s in shapes)
    return x, weight / (9 * c) ** 0.5, bias, g


def off(ours, true):
    """Relative error in the 2-norm; of a tensor of zeros, absolute."""
    return float((ours - true).norm() / true.norm().clamp_min(1e-30))


def everything(f, x, weight, bias, g):
    """Value, three gradients, and the two gradients of what one of them and the other make."""
    x, weight, bias, g = (t.clone().requires_grad_() for t in (x, weight, bias, g))
    y = f(x, weight, bias)
    first = torch.autograd.grad(y, (x, weight, bias), g, create_graph=True)
    second = torch.autograd.grad((first[0].square().sum() + (first[1] ** 3).sum()), (x, weight, g))
    return [y.detach(), *(t.detach() for t in first), *second]


@needs_kernels
@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 7), c=st.sampled_from((32, 64, 96)), k=st.sampled_from((32, 64)),
    h=st.integers(1, 19), w=st.integers(1, 19), count=st.integers(1, 3),
)  # fmt: skip
def test_values_and_derivatives_are_those_of_the_plain_convolution(n, c, k, h, w, count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        parts = case(n, c, k, h, w, seed=h)
        assert supports_winograd(*parts[:2])
        ours, true = everything(convolution, *parts), everything(plain, *(t.double() for t in parts))
    finally:
        torch.set_num_threads(before)
    # 1e-6 is usual, more where a picture is a pixel or two and most of a tile cancels; a wrong border shows as 1e-2
    assert max(off(a, b) for a, b in zip(ours, true, strict=True)) < 2e-5


@needs_kernels
def test_golden_number():
    """Each plane is 1 to 36 by rows in all channels; weights are 1 to 9 over 2,048: Σ w·d of the first whole window."""
    x = torch.arange(1.0, 37).view(1, 1, 6, 6).expand(2, 32, 6, 6)
    weight = (torch.arange(1.0, 10) / 2048).view(1, 1, 3, 3).expand(32, 32, 3, 3)
    y = convolution(x, weight)
    window = [1, 2, 3, 7, 8, 9, 13, 14, 15]
    true = 32 * sum(w * d for w, d in zip(range(1, 10), window, strict=True)) / 2048
    assert true == pytest.approx(7.40625)
    assert y[1, 31, 1, 1].item() == pytest.approx(true, rel=1e-6)


@needs_kernels
def test_a_sample_has_the_same_bits_alone_in_a_batch_and_with_any_number_of_threads(threads):
    x, weight, bias, g = case(11, 64, 32, 10, 7)
    threads(1)
    whole = convolution(x, weight, bias)
    assert torch.equal(torch.cat([convolution(x[i : i + 1], weight, bias) for i in range(11)]), whole)
    gradient = winograd._gradient(x, g)
    assert torch.equal(winograd._gradient(x, g), gradient)
    for count in (2, 3, 16):
        threads(count)
        assert torch.equal(convolution(x, weight, bias), whole)
        assert torch.equal(winograd._gradient(x, g), winograd._gradient(x, g))
        assert off(winograd._gradient(x, g), gradient) < 1e-6


@needs_kernels
@pytest.mark.parametrize(("h", "w"), [(1, 9216), (9216, 1), (1, 2048), (1, 2049), (3, 2001), (1999, 5), (97, 95)])
def test_long_and_odd_planes_give_what_torch_gives(h, w):
    """Those whose border would not fit on a stack are torch's, the others ours."""
    x, weight, bias, g = case(1, 32, 32, h, w)
    assert off(convolution(x, weight, bias), plain(x, weight, bias)) < 5e-6
    if supports_winograd(x, weight):
        assert off(winograd._gradient(x, g), winograd._plain_gradient(x, g)) < 5e-6


@needs_kernels
def test_what_is_not_contiguous_is_read_as_it_is():
    x, weight, bias, _ = case(3, 32, 32, 8, 8)
    odd = x.to(memory_format=torch.channels_last), weight.transpose(0, 1), bias.repeat_interleave(2)[::2]
    assert torch.equal(convolution(*odd), convolution(odd[0].contiguous(), odd[1].contiguous(), bias))
    assert off(convolution(*odd), plain(*odd)) < 5e-6


@needs_kernels
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # torch's own, in forward mode
def test_mapped_functional_and_forward_derivatives():
    x, weight, bias, g = case(4, 32, 32, 6, 6)
    weights = torch.stack([weight, 2 * weight, weight.flip(2)])
    mapped = torch.func.vmap(convolution, (None, 0, None))(x, weights, bias)
    assert off(mapped, torch.stack([plain(x, w, bias) for w in weights])) < 5e-6

    def loss(f, w):
        return (f(x, w, bias) * g).square().sum()

    ours = torch.func.vmap(torch.func.grad(partial(loss, convolution)))(weights)
    assert off(ours, torch.stack([torch.func.grad(partial(loss, plain))(w) for w in weights])) < 1e-5
    moved = torch.randn(weight.shape, generator=generator(1, "moved"))
    for f in (loss, lambda c, w: torch.func.grad(partial(loss, c))(w).square().sum()):
        forward, true = (torch.func.jvp(partial(f, c), (weight,), (moved,))[1] for c in (convolution, plain))
        assert off(forward, true) < 1e-5


@needs_kernels
def test_only_the_gradients_that_are_asked_for_are_made(monkeypatch):
    x, weight, bias, g = case(3, 32, 32, 8, 8)
    monkeypatch.setattr(winograd, "_gradient", lambda *a: pytest.fail("the gradient by the weights was made"))
    x.requires_grad_()
    (made,) = torch.autograd.grad(convolution(x, weight, bias), x, g)
    assert off(made, torch.autograd.grad(plain(x, weight, bias), x, g)[0]) < 5e-6


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.zeros(2, 32, 8, 8), torch.zeros(32, 32, 5, 5)),
        (torch.zeros(2, 32, 8, 8), torch.zeros(32, 16, 3, 3)),
        (torch.zeros(2, 16, 8, 8), torch.zeros(32, 16, 3, 3)),
        (torch.zeros(2, 32, 8, 8), torch.zeros(48, 32, 3, 3)),
        (torch.zeros(2, 32, 8, 8).double(), torch.zeros(32, 32, 3, 3).double()),
        (torch.zeros(2, 32, 8, 8), torch.zeros(32, 32, 3, 3).double()),
        (torch.zeros(32, 8, 8), torch.zeros(32, 32, 3, 3)),
    ],
)
def test_what_does_not_suit_is_told(x, weight):
    assert not supports_winograd(x, weight)


@needs_kernels
def test_what_suits_in_all_but_the_way_it_is_computed():
    x, weight = torch.zeros(2, 32, 8, 8), torch.zeros(32, 32, 3, 3)
    assert supports_winograd(x, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not supports_winograd(x, weight)


@needs_kernels
def test_the_largest_plane_fits_on_a_threads_stack_and_larger_ones_go_to_torch(threads):
    threads(2)
    x, weight, bias, g = case(2, 32, 32, 96, 96)
    assert supports_winograd(x, weight)
    assert off(convolution(x, weight, bias), plain(x, weight, bias)) < 5e-6
    assert winograd._gradient(x, g).isfinite().all()
    assert not supports_winograd(torch.zeros(1, 32, 96, 97), weight)


@pytest.mark.parametrize("options", [{"stride": 2}, {"padding": 0}, {"dilation": 2}, {"padding_mode": "reflect"}])
def test_the_module_stands_aside_where_it_would_be_something_else(options):
    rng = generator(0, "module")
    x = torch.randn(2, 32, 9, 9, generator=rng)
    ours, true = (kind(32, 32, 3, **({"padding": 1} | options)) for kind in (Convolution, nn.Conv2d))
    true.load_state_dict(ours.state_dict())
    assert torch.equal(ours(x), true(x))


@needs_kernels
def test_the_module_takes_the_kernel_where_it_can(monkeypatch):
    module = Convolution(32, 64, 3, padding=1)
    calls = []
    monkeypatch.setattr(winograd, "_forward", lambda x, w, b: calls.append(1) or plain(x, w, b))
    module(torch.zeros(2, 32, 8, 8))
    assert calls == [1]


@needs_kernels
def test_loading_the_kernels_leaves_small_numbers_as_they_are():
    """Some compilers add code to a library that makes the whole process round numbers below 1e-38 to zero."""
    convolution(*case(1, 32, 32, 4, 4)[:3])
    assert torch.tensor([1e-39]).mul(1.0).item() > 0
    assert torch.full((64,), 1e-39).mul(0.5).max().item() > 0


def test_without_a_compiler_and_when_turned_off_there_are_none(tmp_path, monkeypatch):
    load = build.library.__wrapped__
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", str(tmp_path / "nothing"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load("winograd") is None
    monkeypatch.undo()
    monkeypatch.setenv("POTSTILL_NATIVE", "0")
    assert load("winograd") is None


@needs_kernels
def test_a_folder_that_others_can_write_to_is_not_loaded_from(tmp_path, monkeypatch):
    load = build.library.__wrapped__
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path))
    assert load("winograd") is not None
    (made,) = (tmp_path / "native").iterdir()
    assert made.suffix == ".so"
    (tmp_path / "native").chmod(0o777)
    assert load("winograd") is None


@needs_kernels
def test_a_compiler_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    failing = tmp_path / "cc"
    failing.write_text('#!/bin/sh\n[ "$1" = --version ] && echo cc 1.0\n')
    failing.chmod(0o755)
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", str(failing))
    assert build.library.__wrapped__("winograd") is None
    assert list((tmp_path / "cache" / "native").iterdir()) == []


@needs_kernels
def test_a_network_says_the_same_with_and_without(tmp_path):
    script = (
        "import torch; from potstill.native import available; from potstill.nn.convnet import ConvNet\n"
        "torch.manual_seed(0); net = ConvNet((3, 32, 32), 10, width=32); print(available())\n"
        "x = torch.randn(64, 3, 32, 32); print(*net(x).flatten().tolist())"
    )
    said = []
    for native_or_not in ("1", "0"):
        environment = os.environ | {"POTSTILL_NATIVE": native_or_not}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        there, numbers = done.stdout.splitlines()
        assert there == ("True" if native_or_not == "1" else "False")
        said.append(torch.tensor([float(v) for v in numbers.split()]))
    assert not torch.equal(*said)
    assert off(*said) < 1e-5


@needs_kernels
def test_a_card_says_which_kernels_were_used():
    script = (
        "import potstill; data = potstill.load_data('digits')\n"
        "for network in ('linear', 'convnet-d2-w32'):\n"
        "    made = potstill.distill(data, 'dm', ipc=1, steps=1, network=network, device='cpu')\n"
        "    print(made.metadata['versions']['kernels'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    linear, convolutions = done.stdout.splitlines()
    assert linear == "none"
    assert convolutions.startswith("blocks-")
    assert "winograd-" in convolutions
