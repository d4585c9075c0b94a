"""Errors that a person can act on: what was required, what was found, what to change, in one line."""

import difflib
from collections.abc import Iterable

__all__ = ["NotFinite", "PotstillError", "PotstillWarning", "meant", "nearest", "unknown"]


class PotstillError(Exception):
    """Expected failure. The message is one line; the command line prints it to stderr and exits 1."""


class NotFinite(PotstillError):
    """A step of a method met a value that is not finite, and says where. The run ends with the state before it."""


class PotstillWarning(UserWarning):
    """Something is not as it should be, and the work goes on. The message is one line; the command line shows it."""


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The names that ``name`` may have been meant as, nearest first; its case does not count."""
    spelled: dict[str, list[str]] = {}
    for one in sorted(known):
        spelled.setdefault(one.lower(), []).append(one)
    near = difflib.get_close_matches(name.lower(), spelled, n=most, cutoff=0.5)
    return [one for lower in near for one in spelled[lower]][:most]


def meant(name: str, known: Iterable[str], otherwise: str = "known") -> str:
    """``did you mean dm, dc or dsa?``; all names, after ``otherwise``, where none is near."""
    names = sorted(known)
    near = nearest(name, names)
    if not near:
        return f"{otherwise}: {', '.join(names)}"
    return f"did you mean {' or '.join([', '.join(near[:-1]), near[-1]] if len(near) > 1 else near)}?"


def unknown(noun: str, name: str, known: Iterable[str]) -> PotstillError:
    """The error for a name that is not registered; it names the nearest ones.

    Args:
        noun: what the name should have been, e.g. ``"method"``.
        name: what was given.
        known: every registered name.
    """
    return PotstillError(f"unknown {noun} {name!r}; {meant(name, known)}")
