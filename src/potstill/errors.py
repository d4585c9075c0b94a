"""Errors that a person can act on: what was required, what was found, what to change, in one line.

A message names an option as the keyword that Python takes, in backticks: `` `label="COLUMN"` ``, `` `stream=True` ``,
`` `steps=N` ``, and `` `label=` `` where no value is meant. The command line prints such words as its own options, by
`for_command_line`; nothing else translates them, so one text serves both.
"""

import difflib
import re
from collections.abc import Iterable

__all__ = [
    "NonFiniteError",
    "PotstillError",
    "PotstillWarning",
    "closest_names",
    "for_command_line",
    "suggestion",
    "unknown_name",
]

OPTION = re.compile(r"`([a-z][a-z_]*)=([^`\n]*)`")
"""An option in a message."""
_LIMIT = re.compile(r"`potstill(?:\.\w+)*\.limited\(([a-z_]+=[^`)\n]*)\)`")
"""A limit in a message, as `potstill._util.input_limits.limited` takes it."""
_YES_OR_NO = {"horizontal_flip"}
"""Options of two values, where others are flags."""


class PotstillError(Exception):
    """Expected failure. The message is one line; the command line prints it to stderr and exits 1."""


class NonFiniteError(PotstillError):
    """A step of a method met a value that is not finite, and says where. The run ends with the state before it."""


class PotstillWarning(UserWarning):
    """Something is not as it should be, and the work goes on. The message is one line; the command line shows it."""


def closest_names(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The names that ``name`` may have been meant as, nearest first; its case does not count."""
    spelled: dict[str, list[str]] = {}
    for one in sorted(known):
        spelled.setdefault(one.lower(), []).append(one)
    near = difflib.get_close_matches(name.lower(), spelled, n=most, cutoff=0.5)
    return [one for lower in near for one in spelled[lower]][:most]


def suggestion(name: str, known: Iterable[str], otherwise: str = "known") -> str:
    """``did you mean dm, dc or dsa?``; all names, after ``otherwise``, where none is near."""
    names = sorted(known)
    near = closest_names(name, names)
    if not near:
        return f"{otherwise}: {', '.join(names)}"
    return f"did you mean {' or '.join([', '.join(near[:-1]), near[-1]] if len(near) > 1 else near)}?"


def unknown_name(noun: str, name: str, known: Iterable[str]) -> PotstillError:
    """The error for a name that is not registered; it names the nearest ones.

    Args:
        noun: what the name should have been, e.g. ``"method"``.
        name: what was given.
        known: every registered name.
    """
    return PotstillError(f"unknown {noun} {name!r}; {suggestion(name, known)}")


def for_command_line(text: str) -> str:
    """Return ``text`` with every option as the command line spells it: `` `label="COLUMN"` `` as ``--label COLUMN``.

    `` `stream=True` `` becomes ``--stream``, `` `full=False` `` ``--no-full``,
    `` `horizontal_flip=False` `` ``--horizontal-flip no``,
    `` `size=(H, W)` `` ``--size HxW``, `` `networks=["a", "b"]` `` ``--networks a,b``, `` `label=` `` ``--label``,
    and `` `potstill._util.input_limits.limited(pixels=N)` `` ``--limit pixels=N``.
    """
    text = _LIMIT.sub(r"--limit \1", text)
    return OPTION.sub(lambda found: _spelled(found[1], found[2].strip()), text)


def _spelled(name: str, value: str) -> str:
    flag = f"--{name.replace('_', '-')}"
    if value in ("True", "False"):
        if name in _YES_OR_NO:
            return f"{flag} {'yes' if value == 'True' else 'no'}"
        return flag if value == "True" else f"--no-{flag[2:]}"
    if value[:1] + value[-1:] in ("()", "[]"):
        join = "x" if value[0] == "(" else ","
        value = join.join(part.strip().strip("\"'") for part in value[1:-1].split(","))
    return f"{flag} {value.strip(chr(34) + chr(39))}".rstrip()
