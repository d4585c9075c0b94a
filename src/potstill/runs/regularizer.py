"""Regularizer of a method's objective, by name: ``none``, ``curvature:weight=1,h=3``."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

from potstill.core import Method, Problem
from potstill.core.registry import with_settings
from potstill.errors import PotstillError, unknown_name
from potstill.functional.curvature import Curvature
from potstill.methods.engine import EngineMethod, regularizer_obstacle

__all__ = ["add_regularizer", "parse_regularizer"]

_NAMES: Mapping[str, Callable[..., Curvature | None]] = {"none": lambda: None, "curvature": Curvature}


def parse_regularizer(spelled: str | None) -> Curvature | None:
    """Return the regularizer that ``spelled`` names; ``None``: none.

    Raises:
        PotstillError: there is no such regularizer or setting, or a number is out of its range.
    """
    name, _, settings = ("none" if spelled is None else spelled).partition(":")
    if name not in _NAMES:
        raise unknown_name("regularizer", name, list(_NAMES))
    try:
        return cast("Curvature | None", with_settings(f"regularizer {name}", _NAMES[name], settings))
    except ValueError as error:
        raise PotstillError(f"regularizer {name}: {error}; change them") from None


def add_regularizer(regularizer: Curvature | None, name: str, method: Method[Any], problem: Problem) -> Problem:
    """Return the problem with the regularizer of its objective; unchanged without one.

    Raises:
        PotstillError: no regularizer can be added to the objective of this method on these data.
    """
    if regularizer is None:
        return problem
    why: str | None = "it optimises no samples by an objective"
    if isinstance(method, EngineMethod):
        why = regularizer_obstacle(method.build_engine(problem), problem)
    if why is not None:
        raise PotstillError(
            f"method {name} takes no regularizer: {why}; take another method, such as dsa, dm or frepo, or leave the "
            "regularizer out"
        )
    return dataclasses.replace(problem, regularizer=regularizer)
