"""Networks of timm and torchvision by name, where those are installed."""

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from potstill.core import InputSpec, Network
from potstill.errors import PotstillError
from potstill.rng import derive

__all__ = ["bridged"]


class _Bridged(Network):
    """A trunk that gives features, and a linear classifier."""

    def __init__(self, trunk: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.trunk, self.classifier = trunk, classifier

    def embed(self, x: Tensor) -> Tensor:
        features: Tensor = self.trunk(x)
        return features.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.embed(x))
        return logits


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # a CUDA-built torchvision beside a CPU torch raises RuntimeError
        raise PotstillError(
            f"networks of {name} need it installed and working ({error}); pip install {name}"
        ) from error


def bridged(package: str, model: str, spec: InputSpec, num_classes: int, seed: int) -> Network:
    """A fresh ``timm:MODEL`` or ``torchvision:MODEL``.

    Those packages draw from the global generator, so it is forked and seeded meanwhile, and is afterwards as before.

    Raises:
        PotstillError: the package is not installed, or has no such model.
    """
    library: Any = _package("timm" if package == "timm" else "torchvision.models")
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, package, model))
        if package == "timm":
            if model not in library.list_models():
                raise PotstillError(f"timm has no model {model!r}; timm.list_models() names them")
            trunk = library.create_model(model, pretrained=False, num_classes=0, in_chans=spec.shape[0])
            return _Bridged(trunk, nn.Linear(trunk.num_features, num_classes))
        if model not in library.list_models():
            raise PotstillError(f"torchvision has no model {model!r}; torchvision.models.list_models() names them")
        if spec.shape[0] != 3:
            raise PotstillError(
                f"torchvision models take 3 channels, but these pictures have {spec.shape[0]}; use timm"
            )
        whole = library.get_model(model, weights=None, num_classes=num_classes)
        for attribute in ("fc", "classifier", "heads", "head"):
            head = getattr(whole, attribute, None)
            if isinstance(head, nn.Module):
                setattr(whole, attribute, nn.Identity())
                return _Bridged(whole, head)
    raise PotstillError(f"torchvision model {model!r} has no classifier that can be taken off; choose another")
