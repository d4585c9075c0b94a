"""Networks by name. A name is a family and parts in any order, each of which may be left out."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from potstill.core import InputSpec, Network
from potstill.errors import PotstillError, unknown
from potstill.nn.bridge import bridged
from potstill.nn.classic import MLP, VGG, AlexNet, LeNet, Linear
from potstill.nn.convnet import ConvNet, default_depth
from potstill.nn.init import built
from potstill.nn.resnet import ResNet
from potstill.nn.vit import ViT
from potstill.rng import generator

__all__ = ["Factory", "NetworkEntry", "catalogue", "factory", "flops", "parameter_count"]

_DC = "networks.py of DC, arXiv:2006.05929"
_ACTIVATIONS = ("relu", "sigmoid", "leaky", "swish")
_NORMS = ("instance", "batch", "layer", "group", "nonorm")
_POOLINGS = ("avg", "max", "nopool")


@dataclass(frozen=True, slots=True)
class NetworkEntry:
    """A line of ``potstill networks``."""

    name: str
    title: str
    paper: str
    kinds: tuple[str, ...] = ("image",)


def catalogue() -> tuple[NetworkEntry, ...]:
    """Every family, with the grammar of its names."""
    vgg = [NetworkEntry(f"vgg{d}", f"VGG-{d}; -batch for BatchNorm", _DC) for d in (11, 13, 16, 19)]
    resnets = [
        NetworkEntry(f"resnet{d}", f"ResNet-{d}; -batch for BatchNorm, -ap pools instead of striding", _DC)
        for d in (18, 34, 50)
    ]
    parts = f"-dN depth, -wN width, {'|'.join(_ACTIVATIONS)}, {'|'.join(_NORMS)}, {'|'.join(_POOLINGS)}"
    return (
        NetworkEntry("convnet", f"ConvNet, depth by picture size, width 128; {parts}", _DC),
        NetworkEntry("mlp", "two hidden layers of 128; -wN width", _DC, ("*",)),
        NetworkEntry("linear", "one linear layer", "multinomial logistic regression", ("*",)),
        NetworkEntry("lenet", "LeNet-5 with relu", _DC),
        NetworkEntry("alexnet", "small AlexNet; -batch for BatchNorm", _DC),
        *vgg,
        *resnets,
        NetworkEntry("vit-tiny", "vision transformer, 6 layers of 192; our size", "arXiv:2010.11929"),
        NetworkEntry("timm:NAME", "any model of timm, where it is installed", "pypi.org/project/timm"),
        NetworkEntry(
            "torchvision:NAME", "any model of torchvision, where it is installed", "pypi.org/project/torchvision"
        ),
    )


@dataclass(frozen=True, slots=True)
class Factory:
    """Makes fresh networks of one kind for one kind of input: ``factory(seed)``. A value that can be pickled."""

    name: str
    input: InputSpec
    num_classes: int
    device: torch.device

    def __call__(self, seed: int, /) -> Network:
        """The network that ``seed`` gives, on ``device``; the global generator is not touched."""
        package, _, model = self.name.partition(":")
        if model:
            return bridged(package, model, self.input, self.num_classes, seed).to(self.device)
        make = _parse(self.name, self.input, self.num_classes)[1]
        return built(make, self.device, generator(seed, "network"))


def factory(name: str, input: InputSpec, num_classes: int, device: torch.device | str = "cpu") -> Factory:
    """The factory for a network's name.

    Args:
        name: e.g. ``convnet``, ``convnet-d3-w128-instance-avg``, ``resnet18-batch``, ``timm:NAME``.
        input: what it eats; pictures (c, h, w), or anything flat for ``mlp`` and ``linear``.

    Raises:
        PotstillError: the name is not known, or the network cannot eat such inputs.
    """
    if name.partition(":")[0] in ("timm", "torchvision") and ":" in name:
        canonical = name
    else:
        canonical, make = _parse(name, input, num_classes)
        try:
            with torch.device("meta"):
                make()(torch.empty(2, *input.shape))
        except (RuntimeError, ValueError, ZeroDivisionError) as error:
            raise PotstillError(
                f"network {name} cannot take inputs of shape {'×'.join(map(str, input.shape))} (they shrink to nothing "
                "on the way); use fewer blocks, larger inputs, or mlp"
            ) from error
    return Factory(canonical, input, num_classes, torch.device(device))


def _parse(name: str, spec: InputSpec, k: int) -> tuple[str, Callable[[], Network]]:
    """The full name and how to make the network."""
    family, *parts = name.split("-")
    families = {"convnet", "mlp", "linear", "lenet", "alexnet", "vit"} | {
        *(f"vgg{d}" for d in (11, 13, 16, 19)), *(f"resnet{d}" for d in (18, 34, 50)),
    }  # fmt: skip
    if family not in families:
        raise unknown("network", name, [e.name for e in catalogue()])
    if family in ("mlp", "linear"):
        width = _numbers(name, parts, {"w": 128} if family == "mlp" else {})
        if family == "linear":
            return "linear", lambda: Linear(spec.shape, k)
        return f"mlp-w{width['w']}", lambda: MLP(spec.shape, k, width=width["w"])
    if len(spec.shape) != 3:
        raise PotstillError(f"network {name} takes pictures (c, h, w), but inputs are {spec.shape}; use mlp or linear")
    c, h, w = spec.shape
    shape = (c, h, w)
    if family == "convnet":
        return _convnet(name, parts, shape, k)
    flags = {"alexnet": ("batch",), "lenet": (), "vit": ("tiny",)}.get(
        family, ("batch", "ap") if "resnet" in family else ("batch",)
    )
    given = _flags(name, [p for p in parts if p != "instance"], flags)
    batch = "batch" in given
    full = "-".join([family, *(f for f in flags if f in given)])
    depth = int(re.sub(r"\D", "", family) or 0)
    makers: dict[str, Callable[[], Network]] = {
        "lenet": lambda: LeNet(shape, k),
        "alexnet": lambda: AlexNet(shape, k, batch=batch),
        "vgg": lambda: VGG(shape, k, depth=depth, batch=batch),
        "resnet": lambda: ResNet(shape, k, depth=depth, batch=batch, ap="ap" in given),
        "vit": lambda: ViT(shape, k),
    }
    return "vit-tiny" if family == "vit" else full, makers[re.sub(r"\d", "", family)]


def _convnet(name: str, parts: list[str], shape: tuple[int, int, int], k: int) -> tuple[str, Callable[[], Network]]:
    numbers = [p for p in parts if re.fullmatch(r"[dw]\d+", p)]
    n = _numbers(name, numbers, {"d": default_depth(min(shape[1:])), "w": 128})
    words = [p for p in parts if p not in numbers]
    choice = {"activation": "relu", "norm": "instance", "pooling": "avg"}
    axes = {"activation": _ACTIVATIONS, "norm": _NORMS, "pooling": _POOLINGS}
    for word in words:
        axis = next((a for a, known in axes.items() if word in known), None)
        if axis is None:
            _refuse(name, word, [w for known in axes.values() for w in known] + ["dN", "wN"])
        choice[str(axis)] = word
    activation = () if choice["activation"] == "relu" else (choice["activation"],)
    full = "-".join(["convnet", f"d{n['d']}", f"w{n['w']}", *activation, choice["norm"], choice["pooling"]])
    options: dict[str, Any] = {
        "depth": n["d"], "width": n["w"], "activation": choice["activation"],
        "norm": choice["norm"].replace("nonorm", "none"), "pooling": choice["pooling"].replace("nopool", "none"),
    }  # fmt: skip
    return full, lambda: ConvNet(shape, k, **options)


def _numbers(name: str, parts: list[str], defaults: dict[str, int]) -> dict[str, int]:
    found = dict(defaults)
    for part in parts:
        match = re.fullmatch(r"([a-z])(\d+)", part)
        if match is None or match[1] not in defaults or int(match[2]) < 1:
            _refuse(name, part, [f"{letter}N" for letter in defaults])
        else:
            found[match[1]] = int(match[2])
    return found


def _flags(name: str, parts: list[str], known: tuple[str, ...]) -> set[str]:
    for part in parts:
        if part not in known:
            _refuse(name, part, list(known))
    return set(parts)


def _refuse(name: str, part: str, known: list[str]) -> None:
    near = difflib.get_close_matches(part, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known) or 'no parts'}"
    raise PotstillError(f"network {name!r} has no part {part!r}; {hint}")


def parameter_count(network: torch.nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(p.numel() for p in network.parameters())


def flops(network: torch.nn.Module, shape: tuple[int, ...]) -> int:
    """Floating-point operations of convolutions and linear layers in one forward pass of a sample, 2 per product."""
    total = 0

    def count(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        per_output = weight[0].numel()
        total += 2 * per_output * output[0].numel()

    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    hooks = [m.register_forward_hook(count) for m in layers]
    try:
        with torch.no_grad():
            network(torch.zeros(1, *shape, device=next(network.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return total
