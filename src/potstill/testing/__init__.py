"""Checks for outside authors: does a new method, source, network, protocol, … keep the contract?"""

from potstill.testing.contract import (
    ContractError,
    check_augmentation,
    check_method,
    check_network,
    check_parametrization,
    check_protocol,
    check_source,
    check_task,
    toy_problem,
)
from potstill.testing.toy import toy_source, uneven_source

__all__ = [
    "ContractError",
    "check_augmentation",
    "check_method",
    "check_network",
    "check_parametrization",
    "check_protocol",
    "check_source",
    "check_task",
    "toy_problem",
    "toy_source",
    "uneven_source",
]
