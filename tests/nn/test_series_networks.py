"""Networks along time: shapes, names, and what they refuse."""

import pytest
import torch

import potstill
from potstill.core import InputSpec
from potstill.nn import factory
from potstill.nn.series_networks import ConvNet1d, DLinear, default_depth_1d
from potstill.testing import check_network

SPEC = InputSpec(kind="signal", shape=(3, 40), units="values")
NAMES = {
    "convnet1d": "convnet1d-d2-w64", "convnet1d-d1-w8-batch": "convnet1d-d1-w8-batch", "fcn": "fcn-w32",
    "fcn-w8-batch": "fcn-w8-batch", "inceptiontime": "inceptiontime-d3-w16",
    "inceptiontime-w4-d6": "inceptiontime-d6-w4",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_network_keeps_the_contract(name: str) -> None:
    make = factory(name, SPEC, 5)
    assert make.name == NAMES[name]
    check_network(make, SPEC.shape, 5)


@pytest.mark.parametrize(("name", "full"), [("dlinear", "dlinear-k25"), ("dlinear-k5", "dlinear-k5")])
def test_dlinear_keeps_the_contract(name: str, full: str) -> None:
    make = factory(name, InputSpec(kind="series", shape=(3, 24)), 36)
    assert make.name == full
    check_network(make, (3, 24), 36)


def test_dlinear_by_hand() -> None:
    net = DLinear((2, 4), 6, kernel=3)
    x = torch.randn(5, 2, 4, generator=torch.Generator().manual_seed(0))
    layers = net.classifier[0]
    expected = torch.zeros(5, 2, 3)
    for n in range(5):
        for v in range(2):
            row = x[n, v]
            wide = torch.stack([row[0], *row, row[3]])
            trend = torch.stack([wide[t : t + 3].mean() for t in range(4)])
            expected[n, v] = layers.trend(trend) + layers.rest(row - trend)
    torch.testing.assert_close(net(x), expected.flatten(1))


def test_variables_of_dlinear_do_not_see_each_other() -> None:
    net = factory("dlinear", InputSpec(kind="series", shape=(2, 24)), 8)(0)
    x = torch.randn(1, 2, 24, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 1] += 1
    assert torch.equal(net(x)[:, :4], net(other)[:, :4])
    assert not torch.equal(net(x)[:, 4:], net(other)[:, 4:])


@pytest.mark.parametrize(("length", "depth"), [(1, 1), (24, 1), (32, 2), (64, 3), (150, 4), (427, 5), (5000, 6)])
def test_the_depth_leaves_8_to_15_points(length: int, depth: int) -> None:
    assert default_depth_1d(length) == depth
    if 16 <= length < 1000:
        assert 8 <= length // 2**depth <= 15


def test_the_convnet_by_hand() -> None:
    net = ConvNet1d((1, 4), 2, depth=1, width=2)
    convolution = net.features[0]
    assert isinstance(convolution, torch.nn.Conv1d)
    with torch.no_grad():
        convolution.weight[:] = 0
        convolution.weight[0, 0, 2], convolution.weight[1, 0, 3] = 1, 1  # the series, and the series one step on
        convolution.bias.zero_()  # type: ignore[union-attr]
        found = net.embed(torch.tensor([[[1.0, 2.0, 3.0, 6.0]]]))
    by_hand = []
    for row in (torch.tensor([1.0, 2.0, 3.0, 6.0]), torch.tensor([2.0, 3.0, 6.0, 0.0])):
        normed = ((row - row.mean()) / (row.var(correction=0) + 1e-5).sqrt()).relu()
        by_hand += [normed[:2].mean(), normed[2:].mean()]
    assert torch.allclose(found[0], torch.stack(by_hand), atol=1e-5)


@pytest.mark.parametrize("name", ["fcn", "inceptiontime"])
def test_time_is_averaged(name: str) -> None:
    net = factory(name, SPEC, 5)(0).eval()
    x = torch.zeros(1, 3, 400)
    x[..., 160:200] = torch.randn(1, 3, 40, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(net.embed(x), net.embed(x.roll(30, 2)), atol=1e-5)


@pytest.mark.parametrize(("name", "shape", "message"), [
    ("convnet1d-d6", (1, 40), "shrinks series until nothing is left .* use fewer blocks, or mlp"),
    ("fcn", (3, 8, 8), r"takes series \(channels, length\), but inputs are \(3, 8, 8\); use convnet"),
    ("fcn-d3", (3, 40), "has no part 'd3'"),
    ("dlinear", (3, 40), "has 2 outputs for 3 variables; use mlp or linear"),
    ("dlinear-k4", (2, 40), "takes an odd number of points .* write dlinear-k5"),
    ("convnet", (3, 40), r"takes pictures \(c, h, w\)"),
])  # fmt: skip
def test_refusals(name: str, shape: tuple[int, ...], message: str) -> None:
    kind = "image" if len(shape) == 3 else "signal"
    with pytest.raises(potstill.PotstillError, match=message):
        factory(name, InputSpec(kind=kind, shape=shape), 2)
