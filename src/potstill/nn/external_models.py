"""Networks of timm, torchvision and transformers by name, if installed."""

import difflib
import importlib
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from potstill.core import InputSpec, Network
from potstill.errors import PotstillError
from potstill.rng import derive_seed

__all__ = ["external_network", "import_package"]

_HEADS = ("fc", "classifier", "heads", "head")
"""Attributes of the classifier in torchvision's families."""


class _ExternalNetwork(Network):
    """A trunk that returns features, and a classifier."""

    def __init__(self, trunk: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.trunk, self.classifier = trunk, classifier

    def embed(self, x: Tensor) -> Tensor:
        # only the plain attention kernel can be differentiated twice, as synthetic images need
        with sdpa_kernel(SDPBackend.MATH) if x.requires_grad else nullcontext():
            features: Tensor = self.trunk(x)
        return features.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


def import_package(name: str) -> ModuleType:
    """Import the package of that name.

    Raises:
        PotstillError: it is not installed, or does not work.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # a torchvision made for another torch raises RuntimeError
        root = name.partition(".")[0]
        raise PotstillError(
            f"networks of {root} need it installed and working, but importing it failed "
            f"({str(error).splitlines()[0]}); pip install 'potstill[networks]'"
        ) from error


def _unknown_model(package: str, model: str, names: list[str]) -> PotstillError:
    # these packages know a thousand names, too many to list when none is near
    near = difflib.get_close_matches(model, names, n=3, cutoff=0.5)
    where = "its table of image classifiers" if package == "transformers" else "list_models()"
    hint = f"did you mean {' or '.join(near)}?" if near else f"{package}'s {where} names the {len(names)} it has"
    return PotstillError(f"unknown {package} model {model!r}; {hint}")


def _timm(model: str, shape: tuple[int, int, int]) -> tuple[nn.Module, None]:
    library: Any = import_package("timm")
    if not library.is_model(model):
        raise _unknown_model("timm", model, library.list_models())
    config = library.get_pretrained_cfg(model)
    # Transformers are made for one size; all else takes any, and knows no such argument.
    size = {"img_size": shape[1:]} if config is not None and config.fixed_input_size else {}
    return library.create_model(model, pretrained=False, num_classes=0, in_chans=shape[0], **size), None


def _torchvision(model: str, shape: tuple[int, int, int], num_classes: int) -> tuple[nn.Module, nn.Module]:
    library: Any = import_package("torchvision.models")
    names = library.list_models(module=library)
    if model not in names:
        raise _unknown_model("torchvision", model, names)
    options: dict[str, Any] = {"image_size": shape[1]} if model.startswith("vit_") else {}
    if model in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    network = library.get_model(model, weights=None, num_classes=num_classes, **options)
    head = next((a for a in _HEADS if isinstance(getattr(network, a, None), nn.Module)), None)
    if head is None:
        raise PotstillError(f"torchvision model {model!r} has no classifier that can be taken off; choose another")
    classifier = getattr(network, head)
    setattr(network, head, nn.Identity())
    if shape[0] != 3:
        _replace_first_convolution(network, shape[0])
    return network, classifier


class _Logits(nn.Module):
    """A transformers model without its classifier: its logits are the features."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.model(pixel_values=x).logits
        return features


def _transformers(kind: str, shape: tuple[int, int, int], num_classes: int) -> tuple[nn.Module, nn.Module]:
    """Build the model type with its default config; hub names would need the network."""
    library: Any = import_package("transformers")
    known = import_package("transformers.models.auto.modeling_auto").MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    if kind not in known:
        raise _unknown_model("transformers", kind, list(known))
    config = library.AutoConfig.for_model(kind)
    config.num_labels = num_classes
    sides = shape[1] if shape[1] == shape[2] else shape[1:]
    for field, value in (("num_channels", shape[0]), ("image_size", sides)):
        if hasattr(config, field):
            setattr(config, field, value)
    network = library.AutoModelForImageClassification.from_config(config)
    classifier = getattr(network, "classifier", None)
    if not isinstance(classifier, nn.Module):
        raise PotstillError(f"transformers model {kind!r} has no classifier that can be taken off; choose another")
    network.classifier = nn.Identity()
    return _Logits(network), classifier


def _replace_first_convolution(network: nn.Module, channels: int) -> None:
    """Replace the first convolution by a fresh one for ``channels`` input channels."""
    name, old = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=old.bias is not None  # type: ignore[arg-type]
    )  # fmt: skip
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, new)


def _build(package: str, model: str, shape: tuple[int, int, int], k: int) -> tuple[nn.Module, nn.Module | None]:
    if package == "timm":
        return _timm(model, shape)
    return (_transformers if package == "transformers" else _torchvision)(model, shape, k)


def external_network(package: str, model: str, spec: InputSpec, num_classes: int, seed: int) -> Network:
    """Return a fresh ``timm:MODEL``, ``torchvision:MODEL`` or ``transformers:KIND`` with its own init, on the CPU.

    Those packages draw from the global generator, which is forked and seeded meanwhile. A timm model gets a linear
    layer with PyTorch's default init; the others keep their heads.

    Raises:
        PotstillError: the package is not installed, has no such model, or the model does not take such images.
    """
    if len(spec.shape) != 3:
        raise PotstillError(
            f"{package}:{model} takes pictures (c, h, w), but inputs are {spec.shape}; use mlp or linear"
        )
    c, h, w = spec.shape
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, package, model))
        try:
            trunk, head = _build(package, model, (c, h, w), num_classes)
            with torch.no_grad():
                features = trunk.eval()(torch.zeros(1, c, h, w)).flatten(1).shape[1]
            network = _ExternalNetwork(trunk, nn.Linear(features, num_classes) if head is None else head)
            with torch.no_grad():
                network.eval()(torch.zeros(1, c, h, w))
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise PotstillError(
                f"{package}:{model} cannot take pictures of shape {c}×{h}×{w} ({str(error).splitlines()[0]}); "
                "resize the data or choose another network"
            ) from error
    return network.train()
