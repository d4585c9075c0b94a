"""The field's networks, exactly as published, by name; and networks of the user's own."""

from potstill.nn.custom import OwnFactory, OwnNetwork, given
from potstill.nn.init import initialise
from potstill.nn.pretrained import Frozen, FrozenFactory
from potstill.nn.registry import (
    Factory,
    NetworkEntry,
    catalogue,
    described,
    factory,
    flops,
    named,
    stackable,
    usual,
)

__all__ = [
    "Factory",
    "Frozen",
    "FrozenFactory",
    "NetworkEntry",
    "OwnFactory",
    "OwnNetwork",
    "catalogue",
    "described",
    "factory",
    "flops",
    "given",
    "initialise",
    "named",
    "stackable",
    "usual",
]
