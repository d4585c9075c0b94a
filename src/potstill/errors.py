"""Errors that a person can act on: what was required, what was found, what to change, in one line."""

import difflib
from collections.abc import Iterable

__all__ = ["PotstillError", "PotstillWarning", "unknown"]


class PotstillError(Exception):
    """Expected failure. The message is one line; the command line prints it to stderr and exits 1."""


class PotstillWarning(UserWarning):
    """Something is not as it should be, and the work goes on. The message is one line; the command line shows it."""


def unknown(noun: str, name: str, known: Iterable[str]) -> PotstillError:
    """The error for a name that is not registered; it names the nearest ones.

    Args:
        noun: what the name should have been, e.g. ``"method"``.
        name: what was given.
        known: every registered name.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return PotstillError(f"unknown {noun} {name!r}; {hint}")
