"""What a command writes: checked once for all commands, before anything is read."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from potstill._util.atomic_write import check_writable
from potstill._util.outputs import check_apart
from potstill.cli.commands import (
    Active,
    Command,
    Compare,
    Csod,
    Distill,
    Evaluate,
    Export,
    Import,
    Label,
    Rebuild,
    Report,
    Scaling,
    Score,
    Study,
)
from potstill.cli.parsing import Misuse

__all__ = ["OUTPUTS", "check_outputs"]

_SET, _JSON, _SVG, _FOLDER = (".safetensors",), (".json",), (".svg",), ()
OUTPUTS: Mapping[type[Command], Mapping[str, tuple[str, ...]]] = {
    Distill: {"out": _SET},
    Evaluate: {"out": _JSON},
    Label: {"out": _SET},
    Score: {"out": (".parquet",), "map": _SVG},
    Compare: {"out": _FOLDER},
    Scaling: {"out": _FOLDER},
    Study: {"out": ("study.json",)},
    Active: {"out": _JSON, "plot": _SVG},
    Csod: {"out": _JSON},
    Report: {"out": (".html", ".htm")},
    Export: {"out": _FOLDER},
    Import: {"out": _SET},
    Rebuild: {"out": _SET},
}
"""The options of each command that name what it writes, and how such a file's name must end; none: it is a folder."""
_EXPORTS = {"npz": (".npz",), "parquet": (".parquet", ".pq"), "indices": _SET}


def check_outputs(command: Command) -> None:
    """
    Raises:
        Misuse: a file that is to be written has another suffix than what is written has.
        PotstillError: it is a file that the command reads, lies where it would become a part of that, or cannot be
            written.
    """
    outputs = OUTPUTS.get(type(command), {})
    reads = _values(command, set(outputs))
    written: list[Path] = []
    for option, suffixes in outputs.items():
        path = getattr(command, option)
        if path is None:
            continue
        if isinstance(command, Export):
            suffixes = _EXPORTS.get(command.to, _FOLDER)
        if suffixes and not path.name.lower().endswith(suffixes):
            raise Misuse(f"--{option} {path}: the file's name must end in {' or '.join(suffixes)}")
        check_apart(path, [*reads, *written], folder=not suffixes)
        if suffixes:
            check_writable(path)
        written.append(path)


def _values(command: object, left_out: set[str]) -> list[object]:
    """Return every path and name that a command is given, its groups of options included."""
    found: list[object] = []
    for field in dataclasses.fields(command):  # type: ignore[arg-type]
        value = getattr(command, field.name)
        if field.name in left_out:
            continue
        if dataclasses.is_dataclass(value):
            found += _values(value, set())
        elif field.name not in _WORDS:
            found.append(value)
    return found


_WORDS = {"to", "license", "link", "label", "task", "protocol", "device", "executor", "address", "limit", "format"}
"""Options whose words name no file."""
