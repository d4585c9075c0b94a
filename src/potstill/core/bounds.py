"""Bounds of a dataclass's numbers, as annotations of its fields: ``rate: UnitFloat = 0.1``."""

import math
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

__all__ = ["Bounds", "NonNegativeInt", "PositiveFloat", "UnitFloat", "bounds_of"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Interval of valid numbers."""

    least: float
    """Smallest valid number."""
    most: float = math.inf
    """Largest valid number."""
    above: bool = False
    """True where ``least`` itself is not valid."""

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most and not (self.above and value == self.least)

    def __str__(self) -> str:
        if self.above:
            return f"above {self.least}"
        return f"at least {self.least}" if self.most == math.inf else f"from {self.least} to {self.most}"


NonNegativeInt: TypeAlias = Annotated[int, Bounds(0)]
"""Whole number that may be 0; a plain ``int`` is at least 1."""
UnitFloat: TypeAlias = Annotated[float, Bounds(0, 1)]
"""Number from 0 to 1; a plain ``float`` is at least 0."""
PositiveFloat: TypeAlias = Annotated[float, Bounds(0, above=True)]
"""Number above 0, such as a temperature."""


def bounds_of(hint: Any, default: Any = None) -> Bounds | None:
    """Return the bounds of a field; ``None`` where it holds no number.

    Args:
        hint: its type, with annotations.
        default: its default. Without bounds in the type, an int is at least 1, a float at least 0, and both at least
            the default: what the author chose is valid.
    """
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    annotated = [part for member in members for part in getattr(member, "__metadata__", ())]
    found = next((part for part in annotated if isinstance(part, Bounds)), None)
    kinds = {get_args(member)[0] if get_origin(member) is Annotated else member for member in members}
    if found is None and not kinds & {int, float}:
        return None
    bounds = found or Bounds(0 if float in kinds else 1)
    if isinstance(default, int | float) and default < bounds.least:
        return Bounds(default, bounds.most)
    return bounds
