"""Networks by name: a family and optional parts in any order, e.g. ``convnet-d3-w128-instance-avg``."""

import bisect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from potstill.core import InputSpec, Network, NetworkFactory, Normalization, Source, registry
from potstill.core.nested import zeros_like_spec
from potstill.errors import PotstillError, suggestion, unknown_name
from potstill.kinds import get_kind
from potstill.nn.baselines import MLP, VGG, AlexNet, LeNet, Linear
from potstill.nn.convnet import ConvNet, default_depth
from potstill.nn.custom import CustomFactory, CustomNetwork, custom_factory
from potstill.nn.dual_encoder import DualEncoder
from potstill.nn.efficientnet import Folded
from potstill.nn.external_models import external_network
from potstill.nn.graph_networks import GIN, GraphGCN
from potstill.nn.init import allocate, build_network
from potstill.nn.pixel_networks import CenterNet, FCN2d, UNet, default_depth_2d
from potstill.nn.pretrained import BACKBONES, FrozenBackbone, FrozenBackboneFactory, backbone_factory, is_backbone
from potstill.nn.resnet import ResNet
from potstill.nn.series_networks import FCN, ConvNet1d, DLinear, InceptionTime, default_depth_1d
from potstill.nn.vit import ViT
from potstill.rng import generator
from potstill.tasks import PixelTask, Task, get_task, is_coarse

__all__ = [
    "Factory",
    "NetworkEntry",
    "build_on_meta",
    "catalogue",
    "default_network_name",
    "factory",
    "factory_for",
    "flops",
    "is_public_name",
    "is_stackable",
]

_DC = "networks.py of DC, arXiv:2006.05929"
_SERIES = ("signal", "series", "waves")
_PACKAGES = ("timm", "torchvision", "transformers")
_ACTIVATIONS = ("relu", "sigmoid", "leaky", "swish")
_NORMS = ("instance", "batch", "layer", "group", "nonorm")
_POOLINGS = ("avg", "max", "nopool")
_PER_PIXEL = ("unet", "fcn2d")
"""Families whose networks have an answer for each pixel."""
_COARSE = ("centernet", *_PER_PIXEL)
"""Families whose networks have an answer for each place of a map, which may be coarser than the picture."""


@dataclass(frozen=True, slots=True)
class NetworkEntry:
    """One line of ``potstill networks``."""

    name: str
    title: str
    paper: str
    kinds: tuple[str, ...] = ("image",)


def catalogue() -> tuple[NetworkEntry, ...]:
    """Return all families with the grammar of their names."""
    vgg = [NetworkEntry(f"vgg{d}", f"VGG-{d}; -batch for BatchNorm", _DC) for d in (11, 13, 16, 19)]
    resnets = [
        NetworkEntry(
            f"resnet{d}", f"ResNet-{d}; -batch for BatchNorm, -ap pools instead of striding, -stem7 for ImageNet", _DC
        )
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
        NetworkEntry("convnet1d", "ConvNet along time, depth by length, width 64; -dN, -wN, -batch", _DC, _SERIES),
        NetworkEntry("fcn", "three convolutions and the mean over time; -wN, -batch", "arXiv:1611.06455", _SERIES),
        NetworkEntry(
            "inceptiontime",
            "convolutions of 39, 19 and 9 points, smaller than published; -dN, -wN, -batch",
            "arXiv:1909.04939",
            _SERIES,
        ),
        NetworkEntry(
            "dlinear",
            "two linear layers for forecasts: of the moving average, and of the rest; -kN its points",
            "arXiv:2205.13504",
            ("series",),
        ),
        NetworkEntry("gin", "graph isomorphism network; -dN, -wN", "arXiv:1810.00826", ("graph",)),
        NetworkEntry("graphgcn", "graph convolutions, mean over nodes; -dN, -wN", "arXiv:1609.02907", ("graph",)),
        NetworkEntry(
            "towers",
            "a ConvNet for the picture and a mean of words for the text of a pair; -wN width",
            "arXiv:2103.00020, our size",
            ("pair",),
        ),
        NetworkEntry(
            "unet", "U-Net for masks, halvings by picture size, width 16; -dN, -wN", "arXiv:1505.04597, our size"
        ),
        NetworkEntry(
            "fcn2d",
            "fully convolutional ConvNet for masks, enlarged bilinearly, width 32; -dN, -wN",
            "after arXiv:1411.4038",
        ),
        NetworkEntry(
            "centernet", "centre-point detector for boxes, -dN halvings, width 16; -wN", "after arXiv:1904.07850"
        ),
        NetworkEntry("vit-tiny", "vision transformer, 6 layers of 192; our size", "arXiv:2010.11929"),
        *(NetworkEntry(name, about.title, about.paper) for name, about in BACKBONES.items()),
        NetworkEntry("timm:NAME", "any model of timm, where it is installed", "pypi.org/project/timm"),
        NetworkEntry(
            "torchvision:NAME", "any model of torchvision, where it is installed", "pypi.org/project/torchvision"
        ),
        NetworkEntry(
            "transformers:KIND",
            "any kind of image classifier of transformers (vit, resnet), where it is installed",
            "pypi.org/project/transformers",
        ),
        NetworkEntry("FILE.py:NAME", "a class or function of a file of your own", "yours", ("*",)),
        *(
            NetworkEntry(name, "of an installed package", target.partition(":")[0], ("*",))
            for name, target in registry.targets("networks").items()
        ),
    )


@dataclass(frozen=True, slots=True)
class Factory:
    """Makes fresh networks of one architecture for one kind of input: ``factory(seed)``. Picklable."""

    name: str
    input: InputSpec
    num_classes: int
    device: torch.device

    def __call__(self, seed: int, /) -> Network:
        """Return the network of ``seed`` on ``device``; the global generator is not used."""
        package, _, model = self.name.partition(":")
        if model:
            return external_network(package, model, self.input, self.num_classes, seed).to(self.device)
        make = _parse(self.name, self.input, self.num_classes)[1]
        return build_network(make, self.device, generator(seed, "network"))


def factory(
    name: str | CustomNetwork,
    input: InputSpec,
    num_classes: int,
    device: torch.device | str = "cpu",
    *,
    normalization: Normalization | None = None,
    per_pixel: bool = False,
    coarse: bool = False,
) -> Factory | CustomFactory | FrozenBackboneFactory:
    """Return the factory of a network by name.

    Args:
        name: e.g. ``convnet``, ``convnet-d3-w128-instance-avg``, ``resnet18-batch``, ``timm:NAME``, what an installed
            package registers, or a custom network (`potstill.nn.parse_network`).
        input: its inputs: images (c, h, w), or any one tensor for ``mlp`` and ``linear``.
        num_classes: k ≥ 1.
        device: device of its networks.
        normalization: normalisation of the data, which pretrained backbones invert; ``None``: inputs are in data units.
        per_pixel: logits are (n, k, h, w), of each pixel of a picture.
        coarse: with ``per_pixel``: they may also be of a coarser map, (n, k, r, s).

    Raises:
        PotstillError: the name is unknown, or the network does not take such inputs; the message names the smallest
            image size. It answers for whole pictures where ``per_pixel`` is true, or the other way round.
    """
    if isinstance(name, CustomNetwork):
        return custom_factory(name, input, num_classes, torch.device(device), per_pixel=per_pixel, coarse=coarse)
    if name in registry.targets("networks"):
        outside = CustomNetwork(registry.resolve("networks", name))
        return custom_factory(outside, input, num_classes, torch.device(device), per_pixel=per_pixel, coarse=coarse)
    _check_answers(name, input, per_pixel=per_pixel, coarse=coarse)
    package, _, model = name.partition(":")
    if model and package in _PACKAGES:
        external_network(package, model, input, num_classes, 0)
        return Factory(name, input, num_classes, torch.device(device))
    if is_backbone(name):
        return backbone_factory(name, input, num_classes, torch.device(device), normalization)
    canonical, make = _parse(name, input, num_classes)
    narrow = re.sub(r"^(convnet-d\d+-w)\d+", r"\g<1>4", canonical)  # a width may be refused, but decides no sizes
    if not (_accepts(make, None, "meta") and _accepts(_parse(narrow, input, num_classes)[1], input, "cpu")):
        what, small = ("pictures", "too small") if len(input.shape) == 3 else ("series", "too short")
        raise PotstillError(
            f"network {canonical} shrinks {what} until nothing is left to tell them apart, and these of "
            f"{'×'.join(map(str, input.shape[1:]))} are {small}; "
            f"{_smallest_input_hint(canonical, input, num_classes)}"
        )
    return Factory(canonical, input, num_classes, torch.device(device))


def factory_for(name: str | CustomNetwork, source: Source) -> Factory | CustomFactory | FrozenBackboneFactory:
    """Return `factory` of a network for the inputs and the task of ``source``, on its device."""
    task = get_task(source)
    covariates: tuple[str, ...] = getattr(task, "inputs", ())
    if covariates and str(name).partition("-")[0] == "dlinear":
        raise PotstillError(f"network {name} forecasts each variable from itself and takes no covariates; use linear")
    return factory(
        name, source.input, task.outputs, source.device, normalization=source.normalization,
        per_pixel=isinstance(task, PixelTask), coarse=is_coarse(task),
    )  # fmt: skip


def _check_answers(name: str, input: InputSpec, *, per_pixel: bool, coarse: bool) -> None:
    """Check that a network answers for whole pictures or for places, as the task needs it."""
    family, suited = name.partition("-")[0], _COARSE if coarse else _PER_PIXEL
    if not _is_known(name) or (family in suited if per_pixel else family not in _COARSE):
        return
    if not per_pixel:
        raise PotstillError(
            f"network {name} has an answer for each {'place' if family not in _PER_PIXEL else 'pixel'}, and these data "
            f"have no masks and no boxes; take another, such as {default_network_name(input)}"
        )
    if family in _COARSE:
        raise PotstillError(
            f"network {name} has answers of a coarser map, and this task needs one for each pixel; take "
            f"{' or '.join(suited)}"
        )
    what = "boxes need one for each place" if coarse else "this task needs one for each pixel"
    raise PotstillError(
        f"network {name} has one answer for a whole picture, and {what}; take {', '.join(suited[:-1])} or "
        f"{suited[-1]}, or FILE.py:NAME with logits (n, k, h, w)"
    )


def _is_known(name: str) -> bool:
    """Return True for names of families, packages and backbones, whatever their parts."""
    return (
        name.partition("-")[0] in registry.NETWORK_FAMILIES or name.partition(":")[0] in _PACKAGES or is_backbone(name)
    )


def build_on_meta(name: str, input: InputSpec, num_classes: int) -> Network:
    """Build one of Potstill's networks on the meta device: names and shapes without values.

    Raises:
        PotstillError: the name is none of Potstill's.
    """
    if name.partition("-")[0] not in registry.NETWORK_FAMILIES:
        raise PotstillError(
            f"what is built by its name alone is one of potstill's own networks, but {name!r:.60} is none; "
            "`potstill networks` lists them"
        )
    make = _parse(name, input, num_classes)[1]
    try:
        with torch.device("meta"):
            return make()
    except (RuntimeError, ValueError, OverflowError, TypeError) as error:
        raise PotstillError(f"no {name:.60} takes inputs of {input.shape!r:.60}; change the network") from error


def is_public_name(name: str) -> bool:
    """Return True for names without user code: Potstill's, timm's, torchvision's, transformers' and backbones."""
    return _is_known(name)


def is_stackable(make: NetworkFactory) -> bool:
    """Return True if several of its networks can be trained as one (`potstill.evaluation.vmap_students`)."""
    if isinstance(make, CustomFactory):
        return make.can_stack
    return not isinstance(make, FrozenBackboneFactory) and ":" not in make.name


def _accepts(make: Callable[[], Network], spec: InputSpec | None, device: str) -> bool:
    """Return True if the network can be built and takes one sample of ``spec``, if given.

    Norms of one sample refuse a single position, which they would make constant.

    Args:
        device: ``meta`` is free for any size, but takes seconds to import.
    """
    try:
        with torch.device("meta"):
            network = make().eval()
        if spec is None:
            return True
        with torch.no_grad():
            allocate(network, torch.device(device))(zeros_like_spec(spec, 1, device))
    except (RuntimeError, ValueError):
        return False
    return True


def _smallest_input_hint(name: str, spec: InputSpec, k: int) -> str:
    def fits(side: int) -> bool:
        shape = (spec.shape[0], *(side for _ in spec.shape[1:]))
        smaller = InputSpec(kind=spec.kind, shape=shape)
        return _accepts(_parse(name, smaller, k)[1], smaller, "meta")

    sides = range(1, 1025)
    found = bisect.bisect_left(sides, True, key=fits)
    if found == len(sides):
        return "use fewer blocks, or mlp"
    if len(spec.shape) == 2:
        return f"it takes {sides[found]} points and more: use fewer blocks, or mlp"
    return f"it takes {sides[found]}×{sides[found]} and more: resize them, or use fewer blocks, or mlp"


def _parse(name: str, spec: InputSpec, k: int) -> tuple[str, Callable[[], Network]]:
    """Return the canonical name and a function that builds the network."""
    family, *parts = name.split("-")
    if family not in registry.NETWORK_FAMILIES:
        if name.partition(":")[0] in registry.names("learners"):
            raise PotstillError(
                f"{name} is a learner: it measures sets and makes none, so only `potstill evaluate` takes it; "
                "name one of `potstill networks`"
            )
        raise unknown_name("network", name, [e.name for e in catalogue()] + list(registry.names("networks")))
    if repeated := next((p for n, p in enumerate(parts) if p in parts[:n]), None):
        raise PotstillError(f"a part of a network's name is given once, but {name!r} has {repeated!r} twice; drop one")
    if family == "towers":
        width = _parse_parts(name, parts, {}, {"w": 32})["w"]
        return f"towers-w{width}", lambda: DualEncoder(spec, k, width=int(width))
    if spec.parts:
        raise PotstillError(
            f"network {name} takes inputs of one tensor, but these have {', '.join(n for n, _ in spec.parts)}; use "
            f"{default_network_name(spec)}"
        )
    if family == "linear":
        _parse_parts(name, parts, {})
        return "linear", lambda: Linear(spec.shape, k)
    if family == "mlp":
        width = _parse_parts(name, parts, {}, {"w": 128})["w"]
        return f"mlp-w{width}", lambda: MLP(spec.shape, k, width=int(width))
    if family in ("gin", "graphgcn"):
        return _of_graphs(name, family, parts, spec, k)
    if family in ("convnet1d", "fcn", "inceptiontime", "dlinear"):
        return _along_time(name, family, parts, spec, k)
    if len(spec.shape) != 3:
        raise PotstillError(f"network {name} takes pictures (c, h, w), but inputs are {spec.shape}; use mlp or linear")
    c, h, w = spec.shape
    shape = (c, h, w)
    if family == "convnet":
        return _convnet(name, parts, shape, k)
    if family in _COARSE:
        depth_2d = min(2, default_depth_2d(min(h, w))) if family == "centernet" else default_depth_2d(min(h, w))
        chosen = _parse_parts(name, parts, {}, {"d": depth_2d, "w": 32 if family == "fcn2d" else 16})
        make = UNet if family == "unet" else FCN2d if family == "fcn2d" else CenterNet
        full = f"{family}-d{chosen['d']}-w{chosen['w']}"
        return full, lambda: make(shape, k, depth=int(chosen["d"]), width=int(chosen["w"]))
    if family == "lenet":
        _parse_parts(name, parts, {})
        return "lenet", lambda: LeNet(shape, k)
    if family == "vit":
        _parse_parts(name, parts, {"size": ("tiny",)})
        return "vit-tiny", lambda: ViT(shape, k)
    if family == "alexnet":
        norm = _parse_parts(name, parts, {"norm": ("nonorm", "batch")})["norm"]
        return _canonical_name(family, norm == "batch" and norm), lambda: AlexNet(shape, k, batch=norm == "batch")
    depth = int(family[-2:])
    if family.startswith("vgg"):
        norm = _parse_parts(name, parts, {"norm": ("instance", "batch")})["norm"]
        return _canonical_name(family, norm == "batch" and norm), lambda: VGG(
            shape, k, depth=depth, batch=norm == "batch"
        )
    axes = {"pooling": ("stride", "ap"), "norm": ("instance", "batch"), "stem": ("stem3", "stem7")}
    chosen = _parse_parts(name, parts, axes)
    ap, batch, large = chosen["pooling"] == "ap", chosen["norm"] == "batch", chosen["stem"] == "stem7"
    full = _canonical_name(family, ap and "ap", batch and "batch", large and "stem7")
    return full, lambda: ResNet(shape, k, depth=depth, batch=batch, ap=ap, large=large)


def _of_graphs(name: str, family: str, parts: list[str], spec: InputSpec, k: int) -> tuple[str, Callable[[], Network]]:
    if spec.kind != "graph":
        raise PotstillError(f"network {name} takes graphs, but inputs are {spec.kind} data; use mlp or linear")
    d, w = (int(_parse_parts(name, parts, {}, {"d": 3, "w": 32})[each]) for each in "dw")
    make, shape = GIN if family == "gin" else GraphGCN, (spec.shape[0], spec.shape[1])
    return f"{family}-d{d}-w{w}", lambda: make(shape, k, depth=d, width=w)


def _along_time(name: str, family: str, parts: list[str], spec: InputSpec, k: int) -> tuple[str, Callable[[], Network]]:
    if len(spec.shape) != 2:
        raise PotstillError(
            f"network {name} takes series (channels, length), but inputs are {spec.shape}; use "
            f"{default_network_name(spec)}"
        )
    channels, length = spec.shape
    shape, axes = (channels, length), {"norm": ("instance", "batch")}
    if family == "dlinear":
        kernel = int(_parse_parts(name, parts, {}, {"k": 25})["k"])
        if k % channels or kernel % 2 == 0:
            raise PotstillError(
                f"network {name} takes an odd number of points for its moving average; write dlinear-k{kernel + 1}"
                if kernel % 2 == 0
                else f"network {name} forecasts as many values of each variable, but the task has {k} outputs for "
                f"{channels} variables; use mlp or linear"
            )
        return f"dlinear-k{kernel}", lambda: DLinear(shape, k, kernel=kernel)
    numbers = {
        "convnet1d": {"d": default_depth_1d(length), "w": 64},
        "fcn": {"w": 32},
        "inceptiontime": {"d": 3, "w": 16},
    }
    chosen = _parse_parts(name, parts, axes, numbers[family])
    batch, width = chosen["norm"] == "batch", int(chosen["w"])
    depth = f"d{chosen['d']}" if "d" in chosen else False
    full = _canonical_name(family, depth, f"w{width}", batch and "batch")
    if family == "fcn":
        return full, lambda: FCN(shape, k, width=width, batch=batch)
    if family == "convnet1d":
        return full, lambda: ConvNet1d(shape, k, depth=int(chosen["d"]), width=width, batch=batch)
    return full, lambda: InceptionTime(shape, k, depth=int(chosen["d"]), width=width, batch=batch)


def _canonical_name(family: str, *parts: str | bool) -> str:
    return "-".join([family, *(str(p) for p in parts if p)])


def _convnet(name: str, parts: list[str], shape: tuple[int, int, int], k: int) -> tuple[str, Callable[[], Network]]:
    axes = {"activation": _ACTIVATIONS, "norm": _NORMS, "pooling": _POOLINGS}
    chosen = _parse_parts(name, parts, axes, {"d": default_depth(min(shape[1:])), "w": 128})
    d, w, activation, norm, pooling = (chosen[key] for key in ("d", "w", "activation", "norm", "pooling"))
    full = _canonical_name("convnet", f"d{d}", f"w{w}", activation != "relu" and activation, norm, pooling)
    options: dict[str, Any] = {
        "depth": int(d), "width": int(w), "activation": activation,
        "norm": norm.replace("nonorm", "none"), "pooling": pooling.replace("nopool", "none"),
    }  # fmt: skip
    return full, lambda: ConvNet(shape, k, **options)


def _parse_parts(
    name: str, parts: list[str], axes: Mapping[str, tuple[str, ...]], numbers: Mapping[str, int] | None = None
) -> dict[str, str]:
    """Parse the parts of a name: one word per axis (default: the first), and numbers by letter."""
    numbers = numbers or {}
    values: dict[str, str] = {}
    for part in parts:
        key = next((axis for axis, words in axes.items() if part in words), None)
        match = re.fullmatch(r"([a-z])([1-9]\d{0,4})", part)
        if match is not None and match[1] in numbers:
            key, part = match[1], match[2]
        if key is None:
            _refuse(
                name, part, [*(w for words in axes.values() for w in words), *(f"{n}{v}" for n, v in numbers.items())]
            )
        elif key in values:
            raise PotstillError(
                f"each part of a network's name is chosen once, but {name!r} has {values[key]} and {part}; drop one"
            )
        else:
            values[key] = part
    return {axis: words[0] for axis, words in axes.items()} | {n: str(v) for n, v in numbers.items()} | values


def _refuse(name: str, part: str, valid_parts: list[str]) -> None:
    hint = suggestion(part, valid_parts, "it takes") if valid_parts else "it takes no parts"
    raise PotstillError(f"network {name!r} has no part {part!r}; {hint}")


def default_network_name(input: InputSpec, task: Task | None = None) -> str:
    """Return the network of the kind of input: a ConvNet for images, an MLP for flat inputs.

    Args:
        task: one with a target for each pixel has a network of its own.
    """
    return task.network if isinstance(task, PixelTask) else get_kind(input).network


def flops(network: torch.nn.Module, shape: tuple[int, ...] | InputSpec) -> int:
    """Count floating-point operations of convolutions and linear layers in a forward pass of a sample, 2 per product.

    Norms, activations, poolings and attention products are not counted. The network is not changed.

    Args:
        shape: shape of one sample without the batch axis, or its `InputSpec`.
    """
    total, spec = 0, shape if isinstance(shape, InputSpec) else InputSpec(kind="any", shape=shape)

    def count(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        total += 2 * weight[0].numel() * output.numel()

    counted = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear, Folded)
    modules = [*network.modules(), *(network.trunk.modules() if isinstance(network, FrozenBackbone) else ())]
    training = [m.training for m in modules]
    hooks = [m.register_forward_hook(count) for m in modules if isinstance(m, counted)]
    try:
        with torch.no_grad():
            network.eval()(zeros_like_spec(spec, 1, next(network.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in zip(modules, training, strict=True):
            module.training = mode
    return total
