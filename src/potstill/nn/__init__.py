"""The field's networks, exactly as published, by name; and networks of the user's own."""

from potstill.nn.custom import CustomFactory, CustomNetwork, parse_network
from potstill.nn.dual_encoder import TwoTowers
from potstill.nn.init import initialise
from potstill.nn.pretrained import FrozenBackbone, FrozenBackboneFactory
from potstill.nn.registry import (
    Factory,
    NetworkEntry,
    build_on_meta,
    catalogue,
    default_network_name,
    factory,
    factory_for,
    flops,
    is_public_name,
    is_stackable,
)

__all__ = [
    "CustomFactory",
    "CustomNetwork",
    "Factory",
    "FrozenBackbone",
    "FrozenBackboneFactory",
    "NetworkEntry",
    "TwoTowers",
    "build_on_meta",
    "catalogue",
    "default_network_name",
    "factory",
    "factory_for",
    "flops",
    "initialise",
    "is_public_name",
    "is_stackable",
    "parse_network",
]
