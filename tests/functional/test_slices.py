"""A batch in parts: the same loss, outputs and gradients; halved where memory runs out, and said once."""

import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from potstill.core import Inputs
from potstill.errors import PotstillError, PotstillWarning
from potstill.functional.microbatch import forward_backward, forward_backward_in_parts, out_of_memory
from potstill.functional.train import copy_parameters, train_step

RNG = torch.Generator().manual_seed(5)
X = torch.randn(11, 3, 6, 6, generator=RNG, dtype=torch.float64)
Y = torch.randint(4, (11,), generator=RNG)


def net(norm: nn.Module | None = None, seed: int = 0) -> nn.Module:
    made = nn.Sequential(
        nn.Conv2d(3, 5, 3), norm or nn.GroupNorm(5, 5), nn.ReLU(), nn.Flatten(), nn.Linear(80, 4)
    ).double()  # fmt: skip
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn(p.shape, generator=rng, dtype=torch.float64) * 0.3)
    return made


def classes(outputs: Tensor) -> Tensor:
    return F.cross_entropy(outputs, Y)


def contrast(outputs: Tensor) -> Tensor:
    """A loss in which every sample meets every other."""
    z = F.normalize(outputs, dim=1)
    return F.cross_entropy(z @ z.T / 0.2, (torch.arange(11) + 1) % 11)


class Limited:
    """A forward pass that says what torch says where more than so many samples come at once."""

    def __init__(self, network: nn.Module, most: int, error: Callable[[], BaseException]) -> None:
        self.network, self.most, self.error, self.sizes = network, most, error, list[int]()

    def __call__(self, x: Any) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise self.error()
        out: Tensor = self.network(x)
        return out


def cpu_error() -> BaseException:
    return RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you")


@pytest.mark.parametrize("loss_of", [classes, contrast])
@pytest.mark.parametrize("size", [1, 3, 4, 10, 11, 50])
def test_parts_give_what_the_whole_gives(size: int, loss_of: Callable[[Tensor], Tensor]) -> None:
    network = net()
    weights = tuple(network.parameters())
    outputs = network(X)
    value = loss_of(outputs)
    slopes = torch.autograd.grad(value, weights)
    found = forward_backward_in_parts(network, weights, X, loss_of, size)
    assert torch.allclose(found[0], value, rtol=1e-12)
    assert torch.allclose(found[1], outputs, rtol=1e-12)
    for ours, whole in zip(found[2], slopes, strict=True):
        assert torch.allclose(ours, whole, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("error", [cpu_error, MemoryError, lambda: torch.OutOfMemoryError("CUDA out of memory.")])
def test_a_batch_is_halved_until_it_fits_and_that_is_said_once(error: Callable[[], BaseException]) -> None:
    network = net()
    weights = tuple(network.parameters())
    whole = forward_backward(network, network, weights, X, classes)
    forward = Limited(network, 3, error)
    with pytest.warns(PotstillWarning, match="a batch of 11: it is passed 3 at a time from here on"):
        found = forward_backward(network, forward, weights, X, classes)
    assert [s for s in forward.sizes if s > 3] == [11, 6]
    for ours, other in zip(found[2], whole[2], strict=True):
        assert torch.allclose(ours, other, rtol=1e-10, atol=1e-13)
    forward.sizes.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = forward_backward(network, forward, weights, X, classes)
    assert max(forward.sizes) == 3, "what fits is remembered"
    assert all(torch.equal(a, b) for a, b in zip(found[2], again[2], strict=True))


def test_what_cannot_be_halved_is_one_line() -> None:
    network = net()
    with pytest.raises(PotstillError, match=r"does not hold one sample's training step \(.*allocate memory.*smaller"):
        forward_backward(network, Limited(network, 0, cpu_error), tuple(network.parameters()), X, classes)
    batch = net(nn.BatchNorm2d(5))
    with pytest.raises(PotstillError, match=r"a batch of 11 .*BatchNorm needs statistics of all of it"):
        forward_backward(batch, Limited(batch, 3, cpu_error), tuple(batch.parameters()), X, classes)
    with pytest.warns(PotstillWarning):
        forward_backward(batch.eval(), Limited(batch, 6, cpu_error), tuple(batch.parameters()), X, classes)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        forward_backward(
            network, Limited(network, 0, lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied")),
            tuple(network.parameters()), X, classes)  # fmt: skip
    assert not out_of_memory(ValueError("out of memory"))


def test_a_training_step_in_parts_is_that_step(monkeypatch: pytest.MonkeyPatch) -> None:
    network = net()
    theta, buffers = copy_parameters(network), dict(network.named_buffers())
    whole = train_step(network, theta, None, X, Y, lr=0.1, momentum=0.9, weight_decay=1e-3, buffers=buffers)
    limited = net()
    original = functional_call

    def call(module: nn.Module, values: Any, args: tuple[Inputs]) -> Any:
        if len(args[0]) > 2:
            raise cpu_error()
        return original(module, values, args)

    monkeypatch.setattr("potstill.functional.train.functional_call", call)
    with pytest.warns(PotstillWarning, match="2 at a time"):
        parts = train_step(limited, theta, None, X, Y, lr=0.1, momentum=0.9, weight_decay=1e-3, buffers=buffers)
    assert torch.allclose(parts.loss, whole.loss)
    assert torch.allclose(parts.logits, whole.logits)
    for name in theta:
        assert torch.allclose(parts.params[name], whole.params[name], rtol=1e-10, atol=1e-13)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited by the system's call")
def test_a_process_that_really_runs_out_of_memory_goes_on() -> None:
    code = """
        import resource, warnings, torch
        from torch import nn
        from potstill.functional.train import parameters, train_step
        torch.set_num_threads(1)
        net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                            nn.Linear(64, 4))
        x, y = torch.randn(256, 3, 64, 64), torch.arange(256) % 4
        train_step(net, parameters(net), None, x[:2], y[:2], lr=0.1)
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        limit = now + 300 * 2**20  # one layer's outputs are 256 MiB
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            parts = train_step(net, parameters(net), None, x, y, lr=0.1)
        print(len(said), str(said[0].message))
        print(float(parts.loss))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = done.stdout.splitlines()[:2]
    assert first.startswith("1 memory does not hold a batch of 256: it is passed ")
    assert 0 < float(second) < 10
