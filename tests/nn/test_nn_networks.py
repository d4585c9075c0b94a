"""Every network: published sizes, shapes, embedding, second derivatives."""

import pytest
import torch
from torch import Tensor, nn

from potstill.core import InputSpec, Network
from potstill.nn import factory, flops
from potstill.nn.convnet import ConvNet, default_depth
from potstill.rng import generator

BUILT_IN = (
    "convnet", "mlp", "linear", "lenet", "alexnet", "alexnet-batch", "vgg11", "vgg11-batch", "vgg13", "vgg16", "vgg19",
    "resnet18", "resnet18-batch", "resnet18-ap", "resnet18-ap-batch", "resnet34", "resnet50", "resnet50-ap", "vit-tiny",
)  # fmt: skip


def picture(c: int, h: int, w: int) -> InputSpec:
    return InputSpec(kind="image", shape=(c, h, w))


def inputs(n: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(n, *shape, generator=generator(9, *shape))


# counted with the published program (networks.py of DC) and stated in the field
@pytest.mark.parametrize(
    ("name", "shape", "classes", "count"),
    [
        ("convnet", (3, 32, 32), 10, 320_010), ("convnet", (3, 32, 32), 100, 504_420),
        ("convnet", (1, 28, 28), 10, 317_706), ("convnet", (3, 64, 64), 200, 857_160),
        ("convnet-d3", (3, 64, 64), 200, 1_938_120), ("convnet", (3, 128, 128), 10, 615_690),
        ("convnet-nonorm", (3, 32, 32), 10, 319_242), ("convnet-layer", (1, 28, 28), 10, 661_002),
        ("mlp", (3, 32, 32), 10, 411_146), ("mlp", (1, 28, 28), 10, 118_282),
        ("lenet", (3, 32, 32), 10, 62_006), ("lenet", (1, 28, 28), 10, 61_706),
        ("alexnet", (3, 32, 32), 10, 1_872_202), ("alexnet-batch", (1, 28, 28), 10, 1_867_722),
        ("vgg11", (3, 32, 32), 10, 9_231_114), ("vgg11-batch", (1, 28, 28), 10, 9_229_962),
        ("vgg13", (3, 32, 32), 10, 9_416_010), ("vgg16", (3, 32, 32), 10, 14_728_266),
        ("vgg19", (3, 32, 32), 10, 20_040_522),
        ("resnet18", (3, 32, 32), 10, 11_173_962), ("resnet18-ap-batch", (3, 32, 32), 10, 11_250_762),
        ("resnet18-ap", (1, 28, 28), 10, 11_213_770), ("resnet34", (3, 32, 32), 10, 21_282_122),
        ("resnet50", (3, 32, 32), 10, 23_520_842),
    ],
)  # fmt: skip
def test_parameter_counts_are_the_published(name: str, shape: tuple[int, int, int], classes: int, count: int) -> None:
    assert sum(p.numel() for p in factory(name, picture(*shape), classes)(0).parameters()) == count


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((name, (3, 32, 32)) for name in BUILT_IN),
        *((name, (1, 28, 28)) for name in ("convnet", "lenet", "alexnet", "vgg11", "resnet18", "vit-tiny")),
        *((name, (1, 8, 8)) for name in ("convnet", "mlp", "linear", "alexnet", "vit-tiny")),
        *((name, (3, 20, 33)) for name in ("convnet", "lenet", "alexnet", "resnet18-ap", "resnet18-batch", "vit-tiny")),
        ("convnet", (2, 64, 48)), ("vgg11", (3, 64, 40)), ("lenet", (4, 40, 24)), ("convnet-w8", (3, 9, 100)),
    ],
)  # fmt: skip
def test_logits_are_the_classifier_of_the_embedding(name: str, shape: tuple[int, int, int]) -> None:
    network = factory(name, picture(*shape), 7)(0).eval()
    x = inputs(2, shape)
    with torch.no_grad():
        features = network.embed(x)
        logits = network(x)
        assert features.ndim == 2
        assert logits.shape == (2, 7)
        assert isinstance(network.classifier, nn.Linear)
        torch.testing.assert_close(network.classifier(features), logits)
        # samples do not mix, and are told apart
        torch.testing.assert_close(network(x[:1]), logits[:1], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(logits[0], logits[1], atol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "linear"])
@pytest.mark.parametrize("shape", [(5,), (1, 8, 8), (4, 3)])
def test_flat_networks_take_any_tensor(name: str, shape: tuple[int, ...]) -> None:
    network = factory(name, InputSpec(kind="table", shape=shape, units="columns"), 3)(0)
    assert network(inputs(4, shape)).shape == (4, 3)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "leaky", "swish"])
@pytest.mark.parametrize("norm", ["instance", "batch", "layer", "group", "nonorm"])
@pytest.mark.parametrize("pooling", ["avg", "max", "nopool"])
def test_every_convnet_differentiates_twice(activation: str, norm: str, pooling: str) -> None:
    shape = (3, 8, 12)
    network = factory(f"convnet-d2-w4-{activation}-{norm}-{pooling}", picture(*shape), 3)(1)
    second_order(network, shape)


@pytest.mark.parametrize(
    "name", ["alexnet-batch", "lenet", "resnet18-ap", "resnet18-batch", "vit-tiny", "mlp", "vgg11"]
)
def test_others_differentiate_twice(name: str) -> None:
    second_order(factory(name, picture(1, 28, 28), 3)(1), (1, 28, 28))


def second_order(network: Network, shape: tuple[int, int, int]) -> None:
    x = inputs(3, shape).requires_grad_()
    loss = nn.functional.cross_entropy(network(x), torch.tensor([0, 1, 2]))
    grads = torch.autograd.grad(loss, tuple(network.parameters()), create_graph=True)
    second = torch.autograd.grad(torch.stack([g.square().sum() for g in grads]).sum(), x)[0]
    assert bool(second.isfinite().all())
    assert float(second.abs().sum()) > 0


def test_convnet_equals_the_published_layers_in_a_row() -> None:
    """The block, its padding and the order of parameters, against the layers written out."""
    network = factory("convnet", picture(1, 28, 28), 10)(3)
    layers: list[nn.Module] = []
    for n in range(3):
        layers += [nn.Conv2d(128 if n else 1, 128, 3, padding=1 if n else 3), nn.GroupNorm(128, 128, affine=True)]
        layers += [nn.ReLU(), nn.AvgPool2d(2, 2)]
    published = nn.Sequential(*layers, nn.Flatten(), nn.Linear(2048, 10))
    with torch.no_grad():
        for mine, theirs in zip(network.parameters(), published.parameters(), strict=True):
            mine.add_(0.1 * torch.rand(mine.shape, generator=generator(4)))
            theirs.copy_(mine)
    x, y = inputs(12, (1, 28, 28)), torch.arange(12) % 10
    torch.testing.assert_close(network(x), published(x))
    got, want = (
        torch.autograd.grad(nn.functional.cross_entropy(net(x), y), tuple(net.parameters()))
        for net in (network, published)
    )
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_convnet_state_has_the_published_names() -> None:
    keys = list(factory("convnet-d2", picture(3, 16, 16), 4)(0).state_dict())
    block = ["weight", "bias"]
    assert keys == [*(f"features.{n}.{k}" for n in (0, 1, 4, 5) for k in block), *(f"classifier.{k}" for k in block)]


@pytest.mark.parametrize(
    ("side", "depth"),
    [(8, 2), (16, 2), (17, 3), (28, 3), (32, 3), (47, 3), (48, 4), (64, 4), (96, 5), (128, 5), (256, 6)],
)
def test_depth_follows_the_picture(side: int, depth: int) -> None:
    assert default_depth(side) == depth
    assert factory("convnet-w4", picture(3, side, side + 40), 2).name == f"convnet-d{depth}-w4-instance-avg"


def test_functional_call_with_other_weights() -> None:
    network = factory("convnet-w8", picture(3, 16, 16), 4)(0)
    other = dict(factory("convnet-w8", picture(3, 16, 16), 4)(1).named_parameters())
    x = inputs(2, (3, 16, 16))
    torch.testing.assert_close(
        torch.func.functional_call(network, other, (x,)), factory("convnet-w8", picture(3, 16, 16), 4)(1)(x)
    )


def test_flops_count_convolutions_and_the_classifier() -> None:
    network = factory("convnet-d2-w8-batch", picture(3, 16, 16), 5)(0)
    want = 2 * (8 * 27 * 16 * 16 + 8 * 72 * 8 * 8 + 5 * 128)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.features[1].eval()
    assert flops(network, (3, 16, 16)) == want
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert network.training
    assert not network.features[1].training
    assert flops(factory("linear", picture(1, 8, 8), 5)(0), (1, 8, 8)) == 2 * 64 * 5


def test_convnet_is_a_network_without_a_factory() -> None:
    assert ConvNet((3, 32, 32), 10)(inputs(1, (3, 32, 32))).shape == (1, 10)
