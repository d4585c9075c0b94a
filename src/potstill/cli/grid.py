"""Grids: a YAML mapping of ``compare``'s options, where methods and protocols may have options of their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.cli import recipe

__all__ = ["grid_words"]

_INSTEAD = ({"ipc", "items", "bytes"}, {"protocol", "protocols"})
"""Options of which the command line replaces all that the file says."""


def grid_words(path: Path, argv: Sequence[str]) -> list[str]:
    """The entries of the grid at ``path`` as words of a command line, without those that ``argv`` replaces.

    ``ipc: [1, 10]`` is ``--ipc 1,10``; ``methods: {random: , dm: {iterations: 500}}`` is ``--methods random,dm --set
    dm.iterations=500``; and in ``protocols`` likewise.

    Raises:
        PotstillError: it cannot be read, is not YAML, or is not a mapping.
    """
    entries = recipe.read(path)
    given = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in argv if word.startswith("--")}
    replaced = given.union(*(group for group in _INSTEAD if group & given))
    found: list[str] = []
    for name, value in entries.items():
        own: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        prefix = {"methods": "", "protocols": "protocol:", "set": ""}.get(name)
        if name in replaced and name != "set":
            continue
        if prefix is None or not own:
            found += _option(name, value)
            continue
        if name != "set":
            found += _option(name, list(own))
        for whose, options in own.items():
            for field, said in (options if isinstance(options, Mapping) else {}).items():
                found += ["--set", f"{prefix}{whose}.{field}={_spelled(said)}"]
            if name == "set" and not isinstance(options, Mapping):  # written flat: dm.iterations: 500
                found += ["--set", f"{whose}={_spelled(options)}"]
    return found


def _option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag] if value else []
    if name == "set":
        return [word for entry in (value if isinstance(value, list) else [value]) for word in (flag, str(entry))]
    return [flag, ",".join(map(_spelled, value)) if isinstance(value, list) else _spelled(value)]


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
