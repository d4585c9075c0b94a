"""The published methods as values: ``from potstill.methods import DM``. One file each; the registry names them."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill.methods.distribution.dm import DM
    from potstill.methods.gradient.dc import DC
    from potstill.methods.gradient.dsa import DSA
    from potstill.methods.selection.coverage import Herding, KCenter
    from potstill.methods.selection.k_means import KMeans
    from potstill.methods.selection.random import Random
    from potstill.methods.selection.random_soft import RandomSoft

__all__ = ["DC", "DM", "DSA", "Herding", "KCenter", "KMeans", "Random", "RandomSoft"]


def __getattr__(name: str) -> Any:
    from potstill.core import registry

    for target in registry.targets("methods").values():
        module, _, attribute = target.partition(":")
        if attribute == name:
            return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'potstill.methods' has no attribute {name!r}")
