"""Bytes that operations hold, beside counts by hand."""

import torch
import torch.nn.functional as F
from torch import nn

from potstill.core import InputSpec, StepCost
from potstill.execution.memory import peak_memory, resident_memory
from potstill.execution.step_memory import BYTES, SAMPLES, measure_part, peak_bytes, tensor_bytes
from potstill.nn import factory


def test_results_count_until_nothing_refers_to_them():
    x = torch.zeros(1000)

    def run():
        a = x + 1  # 4,000 bytes
        b = a * 2  # 8,000
        del a
        return b.exp()  # 8,000: a is gone, b goes

    assert peak_bytes(run) == (8000, 4000)


def test_what_was_there_before_does_not_count_nor_do_views_of_it():
    x = torch.zeros(1000)
    assert peak_bytes(lambda: x.view(10, 100)[3].detach().add_(1)) == (0, 0)


def test_a_graph_holds_what_it_saved():
    x = torch.zeros(1000, requires_grad=True)

    def run():
        return x.exp().sum()  # exp keeps its result for the derivative

    assert peak_bytes(run) == (4004, 4004)
    with torch.no_grad():
        assert peak_bytes(run) == (4004, 4)


def test_an_mlp_holds_its_activations_and_the_slopes_of_its_inputs():
    n, d, width, k = 5, 7, 128, 3
    net = factory("mlp", InputSpec(kind="table", shape=(d,), units="column values"), k)(0).requires_grad_(False)
    x = torch.zeros(n, d, requires_grad=True)
    peak, kept = peak_bytes(lambda: torch.autograd.grad(net(x).sum(), x))
    assert kept == 4 * n * d
    # Two hidden layers, each with what its activation makes of it (in place or not), logits, their sum.
    low, high = 4 * (n * (2 * width + k) + 1), 4 * (n * (4 * width + 2 * k + d) + 2)
    assert low <= peak <= high + 4 * n * width  # a slope of one layer is there beside them


def test_convolutions_copy_what_they_read_and_make():
    conv = nn.Conv2d(4, 8, 3, padding=1, bias=False).requires_grad_(False)
    x = torch.zeros(2, 4, 6, 6)
    made, read, weight = 4 * 2 * 8 * 36, 4 * 2 * 4 * 36, 4 * 8 * 4 * 9
    assert peak_bytes(lambda: F.conv2d(x, conv.weight, padding=1)) == (made + made + read + weight, made)


def part(bytes_of, **fields):
    """A part that holds so many bytes by the number of classes, and returns 4 for each."""

    def ready(c):
        def run():
            held = torch.empty(bytes_of(c), dtype=torch.uint8)
            return torch.empty(c), len(held)

        return run

    return StepCost(what="p", ready=ready, samples=0, **fields)


def test_a_walk_tells_what_a_class_adds_from_what_is_there_anyway():
    found = measure_part(part(lambda c: 2**20 + 10_000 * c, size=SAMPLES, classes=10**6, at_once=10**6), 4)
    assert found.fixed == 2**20
    assert found.each == 10_000 + 4  # with its result
    assert found.result_bytes == 4 * 10**6
    assert found.fixed + found.each * found.at_once == 2**20 + 10_004 * 10**6


def test_a_walk_is_small_whatever_the_step_is():
    seen = []

    def ready(c):
        seen.append(c)
        return lambda: torch.empty(2**20 * c, dtype=torch.uint8)

    measure_part(StepCost(what="p", ready=ready, samples=0, size=16, classes=10**6, at_once=10**6), 4)
    assert max(seen) * 2**20 <= 3 * BYTES
    assert seen[0] * 16 == SAMPLES


def test_few_classes_are_run_as_they_are():
    found = measure_part(part(lambda c: 1000 * c, size=1, classes=3, at_once=3), 4)
    assert (found.each * 3, found.fixed) == (3012, 0)


def test_results_that_stay_are_as_many_as_the_run_has_time_for():
    joining = part(lambda c: 8, size=0, classes=97, every=30, stays=True)
    assert measure_part(joining, 4, steps=100).result_bytes == 3 * 4
    assert measure_part(joining, 4, steps=10**6).result_bytes == measure_part(joining, 4).result_bytes == 97 * 4


def test_bytes_of_tensors():
    assert tensor_bytes({"a": torch.zeros(3, 2), "b": torch.zeros(5, dtype=torch.int64)}) == 24 + 40


def test_the_process_has_memory():
    assert 10 * 2**20 < resident_memory() <= peak_memory() * 1.01
