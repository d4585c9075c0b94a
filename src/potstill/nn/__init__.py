"""The field's networks, exactly as published, by name."""

from potstill.nn.init import initialise
from potstill.nn.zoo import Factory, NetworkEntry, catalogue, factory, flops, parameter_count

__all__ = ["Factory", "NetworkEntry", "catalogue", "factory", "flops", "initialise", "parameter_count"]
