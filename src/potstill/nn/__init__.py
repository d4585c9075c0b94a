"""The field's networks, exactly as published, by name; and networks of the user's own."""

from potstill.nn.init import initialise
from potstill.nn.own import OwnFactory, OwnNetwork, given
from potstill.nn.zoo import (
    Factory,
    NetworkEntry,
    catalogue,
    described,
    factory,
    flops,
    named,
    parameter_count,
    stackable,
    usual,
)

__all__ = [
    "Factory",
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
    "parameter_count",
    "stackable",
    "usual",
]
