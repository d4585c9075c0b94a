"""Checks of the fields of protocols: choices, switches, counts and ranges."""

from typing import Any, Literal, get_args, get_origin, get_type_hints

from potstill.errors import PotstillError

__all__ = ["Checked", "check_counts", "check_kinds", "check_ranges", "is_a", "require"]


def require(satisfied: bool, what: str, value: object) -> None:
    if not satisfied:
        raise PotstillError(f"{what}, but it is {value!r}; change it")


def is_a(kind: type, value: object) -> bool:
    """Return True for a number of that kind; an int is a float, a bool is neither."""
    return isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)


def check_kinds(kind: type, values: Any) -> None:
    """Check that choices, switches and names match their annotation."""
    for name, hint in get_type_hints(kind).items():
        value = getattr(values, name)
        if get_origin(hint) is Literal:
            require(value in get_args(hint), f"{name} must be {' or '.join(get_args(hint))}", value)
        elif hint is bool:
            require(isinstance(value, bool), f"{name} must be true or false", value)
        elif hint is str or hint == str | None:
            require(isinstance(value, str) or (value is None and hint is not str), f"{name} must be a name", value)


def check_counts(values: Any, *names: str) -> None:
    for name in names:
        value = getattr(values, name)
        require(is_a(int, value) and value >= 1, f"{name} must be a whole number of at least 1", value)


def check_ranges(values: Any, **below: float) -> None:
    """Check that each named field is a number from 0 to below its bound."""
    for name, bound in below.items():
        value = getattr(values, name)
        require(is_a(float, value) and 0 <= value < bound, f"{name} must be in [0, {bound:g})", value)


class Checked:
    """Part of a protocol; ``check`` also takes values of wrong types, which its own signature would refuse."""

    def __post_init__(self) -> None:
        self.check(self)

    @classmethod
    def check(cls, values: Any) -> None:
        """Check all ranges. ``values`` may be any object with these fields, of any type."""
        check_kinds(cls, values)
