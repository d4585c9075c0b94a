"""Name → "module:attribute", resolved only when asked for. The command line, the docs and the contract suite read it.

Outside packages add entries under the entry-point groups ``potstill.methods``, ``potstill.networks``,
``potstill.augmentations``, ``potstill.parametrizations`` and ``potstill.protocols``.
"""

import importlib
from importlib.metadata import entry_points
from typing import Any, Literal

from potstill.errors import PotstillError, unknown

__all__ = ["Group", "names", "resolve"]

Group = Literal["methods", "augmentations", "parametrizations", "protocols"]

_BUILTIN: dict[Group, dict[str, str]] = {
    "methods": {
        "random": "potstill.methods.selection.random:Random",
        "herding": "potstill.methods.selection.herding:Herding",
        "k-center": "potstill.methods.selection.k_center:KCenter",
        "k-means": "potstill.methods.selection.k_means:KMeans",
        "random-soft": "potstill.methods.selection.random_soft:RandomSoft",
        "dc": "potstill.methods.gradient.dc:DC",
        "dsa": "potstill.methods.gradient.dsa:DSA",
        "dm": "potstill.methods.distribution.dm:DM",
    },
    "augmentations": {
        "none": "potstill.augment.siamese:none",
        "dsa": "potstill.augment.siamese:dsa",
        "dsa-noflip": "potstill.augment.siamese:dsa_noflip",
    },
    "parametrizations": {"pixels": "potstill.parametrize.pixels:Pixels"},
    "protocols": {
        "potstill": "potstill.evaluation.protocols.potstill:PROTOCOL",
        "dc": "potstill.evaluation.protocols.dc:PROTOCOL",
        "dsa": "potstill.evaluation.protocols.dsa:PROTOCOL",
    },
}


def _targets(group: Group) -> dict[str, str]:
    outside = {e.name: e.value for e in entry_points(group=f"potstill.{group}")}
    if taken := sorted(outside.keys() & _BUILTIN[group].keys()):
        raise PotstillError(
            f"an installed package registers {group} under the taken name {taken[0]!r}; rename its entry point"
        )
    return _BUILTIN[group] | outside


def names(group: Group) -> tuple[str, ...]:
    """Every registered name of ``group``, built-in ones first."""
    return tuple(_targets(group))


def resolve(group: Group, name: str) -> Any:
    """The object registered as ``name``.

    Raises:
        PotstillError: there is no such name; the message names the nearest.
    """
    targets = _targets(group)
    if name not in targets:
        raise unknown(group[:-1], name, targets)
    module, _, attribute = targets[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
