"""Errors that a user can act on: one line with what is required, what was found and what to change.

Messages name options as Python keywords in backticks: `` `label="COLUMN"` ``, `` `stream=True` ``, or `` `label=` ``
where no value is meant. `for_command_line` rewrites them as command line options.
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
"""Limit in a message, as `potstill.limited` takes it."""
_YES_OR_NO = {"horizontal_flip"}
"""Options that take yes or no; other booleans are flags."""


class PotstillError(Exception):
    """Failure that you can act on: one line with what is required, what was found and what to change.

    The command line prints it to stderr and exits with 1.

    Examples:
        >>> try:
        ...     potstill.load_data("no-such-folder/")
        ... except potstill.PotstillError as error:
        ...     print(error)
        no-such-folder/: no such file or folder; check the path
    """


class NonFiniteError(PotstillError):
    """Value that is not finite in a step. The run ends with the state before the step."""


class PotstillWarning(UserWarning):
    """Problem that does not stop the work. The message is one line, which the command line prints.

    Examples:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", potstill.PotstillWarning)  # now such a problem stops the work
    """


def closest_names(name: str, known_names: Iterable[str], most: int = 3) -> list[str]:
    """Return the known names closest to ``name``, nearest first, case ignored."""
    spelled: dict[str, list[str]] = {}
    for one in sorted(known_names):
        spelled.setdefault(one.lower(), []).append(one)
    near = difflib.get_close_matches(name.lower(), spelled, n=most, cutoff=0.5)
    return [one for lower in near for one in spelled[lower]][:most]


def suggestion(name: str, known_names: Iterable[str], otherwise: str = "known") -> str:
    """Return ``did you mean dm, dc or dsa?``, or all names after ``otherwise`` where none is close."""
    names = sorted(known_names)
    near = closest_names(name, names)
    if not near:
        return f"{otherwise}: {', '.join(names)}"
    return f"did you mean {' or '.join([', '.join(near[:-1]), near[-1]] if len(near) > 1 else near)}?"


def unknown_name(noun: str, name: str, known_names: Iterable[str]) -> PotstillError:
    """Return the error for a name that is not registered.

    Args:
        noun: type of the name, such as ``"method"``.
        name: name that was given.
        known: all registered names.
    """
    return PotstillError(f"unknown {noun} {name!r}; {suggestion(name, known_names)}")


def for_command_line(text: str) -> str:
    """Return ``text`` with options as the command line spells them: `` `label="COLUMN"` `` as ``--label COLUMN``.

    `` `stream=True` `` becomes ``--stream``, `` `full=False` `` ``--no-full``, `` `horizontal_flip=False` ``
    ``--horizontal-flip no``, `` `size=(H, W)` `` ``--size HxW``, `` `networks=["a", "b"]` `` ``--networks a,b``,
    `` `label=` `` ``--label``, and `` `potstill.limited(pixels=N)` `` ``--limit pixels=N``.
    """
    text = _LIMIT.sub(r"--limit \1", text)
    return OPTION.sub(lambda match: _spelled(match[1], match[2].strip()), text)


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
