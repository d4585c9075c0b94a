"""Contract checks for authors of methods, sources, networks, protocols and other parts.

Each check raises `ContractError` with the promise that is broken and how to keep it. The contract tests run the same
checks on everything that is registered.
"""

from potstill.testing.common import ContractError, toy_problem
from potstill.testing.data import check_source, check_task
from potstill.testing.method import check_method
from potstill.testing.parts import check_augmentation, check_network, check_parametrization
from potstill.testing.protocol import check_protocol
from potstill.testing.toy import toy_source, uneven_source
from potstill.testing.trigger import poison_source, stamp

__all__ = [
    "ContractError", "check_augmentation", "check_method", "check_network", "check_parametrization", "check_protocol",
    "check_source", "check_task", "poison_source", "stamp", "toy_problem", "toy_source", "uneven_source",
]  # fmt: skip
