"""Names of networks: grammar, canonical form, errors, pickling, and other packages' models."""

import pickle
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from potstill.core import InputSpec, NetworkFactory
from potstill.errors import PotstillError
from potstill.nn import catalogue, factory
from potstill.nn.pretrained import BACKBONES

COLOUR = InputSpec(kind="image", shape=(3, 32, 32))


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("convnet", "convnet-d3-w128-instance-avg"),
        ("convnet-d3-w128-relu-instance-avg", "convnet-d3-w128-instance-avg"),
        ("convnet-avg-batch-w16", "convnet-d3-w16-batch-avg"),
        ("convnet-swish-nopool-nonorm-d2", "convnet-d2-w128-swish-nonorm-nopool"),
        ("mlp", "mlp-w128"), ("mlp-w64", "mlp-w64"), ("linear", "linear"), ("lenet", "lenet"),
        ("alexnet-batch", "alexnet-batch"), ("vgg11-instance", "vgg11"), ("vgg13-batch", "vgg13-batch"),
        ("resnet18-batch-ap", "resnet18-ap-batch"), ("resnet18-ap-batch", "resnet18-ap-batch"),
        ("resnet50", "resnet50"), ("vit-tiny", "vit-tiny"),
    ],
)  # fmt: skip
def test_a_name_has_one_full_form(name: str, full: str) -> None:
    made = factory(name, COLOUR, 10)
    assert made.name == full
    assert factory(full, COLOUR, 10) == made


def test_same_full_name_same_weights() -> None:
    a, b = factory("convnet-avg-w8", COLOUR, 4)(5), factory("convnet-d3-w8-instance-avg", COLOUR, 4)(5)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("name", ["convnet-w8", "mlp"])
def test_a_factory_is_a_value(name: str) -> None:
    made = factory(name, COLOUR, 4, device="cpu")
    again = pickle.loads(pickle.dumps(made))
    assert isinstance(made, NetworkFactory)
    assert again == made
    assert again.device == torch.device("cpu")
    x = torch.ones(2, 3, 32, 32)
    torch.testing.assert_close(again(3)(x), made(3)(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnt", "did you mean convnet"), ("forest", "only `potstill evaluate` takes it"),
        ("resnet19", "did you mean resnet18"),
        ("convnet-bach", "did you mean batch"), ("convnet-batch-group", "batch and group"),
        ("convnet-d3-d4", "chosen once, but 'convnet-d3-d4' has 3 and 4"),
        ("convnet-relu-relu", "'relu' twice"), ("convnet-d0", "no part 'd0'"), ("mlp-d3", "no part 'd3'"),
        ("lenet-batch", "it takes no parts"), ("vgg11-ap", "no part 'ap'"), ("resnet18-batch-instance", "drop one"),
        ("convnet-w6-group", "use w8"),
    ],
)  # fmt: skip
def test_wrong_names_say_what_to_change(name: str, message: str) -> None:
    with pytest.raises(PotstillError) as error:
        factory(name, COLOUR, 10)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "shape", "smallest"),
    [
        ("vgg11", (3, 16, 16), "32×32"), ("vgg11", (1, 16, 16), "28×28"), ("lenet", (3, 8, 8), "16×16"),
        ("lenet", (1, 8, 8), "12×12"), ("alexnet", (3, 7, 32), "8×8"), ("convnet-d4", (3, 8, 8), "16×16"),
        ("resnet18", (3, 8, 8), "9×9"), ("resnet18-ap", (3, 12, 12), "16×16"), ("vit-tiny", (3, 4, 4), "8×8"),
    ],
)  # fmt: skip
def test_small_pictures_are_refused_with_the_smallest_size(name: str, shape: tuple[int, ...], smallest: str) -> None:
    with pytest.raises(PotstillError, match=smallest):
        factory(name, InputSpec(kind="image", shape=shape), 10)
    side = int(smallest.split("×")[0])
    factory(name, InputSpec(kind="image", shape=(shape[0], side, side)), 10)


@pytest.mark.parametrize("name", ["convnet", "resnet18", "vit-tiny", "timm:resnet18"])
def test_networks_of_pictures_refuse_tables(name: str) -> None:
    with pytest.raises(PotstillError, match="use mlp or linear"):
        factory(name, InputSpec(kind="table", shape=(7,)), 2)


def test_the_catalogue_names_what_can_be_made() -> None:
    entries = catalogue()
    assert len({e.name for e in entries}) == len(entries)
    for entry in entries:
        assert entry.title
        assert entry.paper
        if ":" in entry.name or entry.name in BACKBONES:  # those whose weights are another's: test_nn_frozen.py
            continue
        if {"*", "image"} & set(entry.kinds):
            places = entry.name in ("unet", "fcn2d", "centernet")
            factory(entry.name, COLOUR, 3, per_pixel=places, coarse=places)
        else:
            with pytest.raises(PotstillError, match=f"network {entry.name} takes"):
                factory(entry.name, COLOUR, 3)
        if entry.kinds == ("*",):
            assert factory(entry.name, InputSpec(kind="table", shape=(6,)), 3)(0)(torch.ones(2, 6)).shape == (2, 3)


@pytest.mark.parametrize("package", ["timm", "torchvision", "transformers"])
def test_a_missing_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.models", None)
    with pytest.raises(PotstillError, match=rf"{package}.*pip install .potstill\[networks\]"):
        factory(f"{package}:resnet18", COLOUR, 10)


class Trunk(nn.Module):
    """As those packages make models: drawn from the global generator, with a head that can be taken off."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, bias=False)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.fc = nn.Linear(6, classes) if classes else nn.Identity()

    def forward(self, x: Tensor) -> Any:
        if x.shape[-1] < 3:
            raise AssertionError("too small")
        tokens = self.conv(x).flatten(2).transpose(1, 2)
        return self.fc(self.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))


class Answers(nn.Module):
    """As transformers makes them: settings in a value, and logits in another."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.trunk = Trunk(config.num_channels, 0)
        self.classifier: nn.Module = nn.Linear(6, config.num_labels)

    def forward(self, pixel_values: Tensor) -> Any:
        return SimpleNamespace(logits=self.classifier(self.trunk(pixel_values)))


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins with the functions of timm, torchvision and transformers that are called."""
    timm, torchvision, models = ModuleType("timm"), ModuleType("torchvision"), ModuleType("torchvision.models")
    vars(timm).update(
        is_model=lambda name: name == "small",
        list_models=lambda: ["small"],
        get_pretrained_cfg=lambda name: None,
        create_model=lambda name, pretrained, num_classes, in_chans: Trunk(in_chans, num_classes),
    )
    vars(models).update(
        list_models=lambda module: ["small"], get_model=lambda name, weights, num_classes: Trunk(3, num_classes)
    )
    vars(torchvision).update(models=models)
    transformers, auto = ModuleType("transformers"), ModuleType("transformers.models.auto.modeling_auto")
    vars(auto).update(MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES={"small": "Small"})
    vars(transformers).update(
        AutoConfig=SimpleNamespace(for_model=lambda name: SimpleNamespace(num_channels=3, num_labels=2)),
        AutoModelForImageClassification=SimpleNamespace(from_config=Answers),
    )
    for module in (timm, torchvision, models, transformers, auto):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("name", ["timm:small", "torchvision:small", "transformers:small"])
@pytest.mark.parametrize("channels", [1, 3])
def test_models_of_other_packages(name: str, channels: int) -> None:
    before = torch.get_rng_state()
    made = factory(name, InputSpec(kind="image", shape=(channels, 12, 9)), 5)
    a, b, c = made(1), made(1), made(2)
    assert torch.equal(before, torch.get_rng_state())
    assert made.name == name
    assert a.training
    x = torch.rand(2, channels, 12, 9, generator=torch.Generator().manual_seed(0))
    assert a.embed(x).shape == (2, 6)
    torch.testing.assert_close(a.classifier(a.embed(x)), a(x))
    assert torch.equal(a(x), b(x))
    assert not torch.equal(a(x), c(x))
    assert a(x).shape == (2, 5)
    x.requires_grad_()
    grads = torch.autograd.grad(a(x).square().sum(), list(a.parameters()), create_graph=True)
    assert bool(torch.autograd.grad(torch.stack([g.square().sum() for g in grads]).sum(), x)[0].any())


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("package", ["timm", "torchvision", "transformers"])
def test_models_of_other_packages_fail_in_one_line(package: str) -> None:
    with pytest.raises(PotstillError, match="did you mean small"):
        factory(f"{package}:smal", COLOUR, 5)
    with pytest.raises(PotstillError, match=r"cannot take pictures of shape 3×2×2 \(too small\)"):
        factory(f"{package}:small", InputSpec(kind="image", shape=(3, 2, 2)), 5)
