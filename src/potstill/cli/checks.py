"""Checks of a parsed command that need no data: they run before anything that imports torch.

The exit status is the same as where the error would be found later: `Misuse` is 2, a missing file 1.
"""

import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from potstill._util.atomic_write import check_writable
from potstill._util.import_from_file import is_file_reference
from potstill._util.outputs import check_not_input
from potstill.cli.command import Command, Misuse
from potstill.cli.declared import Unreadable, read_declaration, read_keys
from potstill.core import registry
from potstill.errors import PotstillError, unknown_name

__all__ = ["check_command", "check_exists"]

_NO_PATHS = {"to", "license", "link", "label", "task", "protocol", "device", "executor", "address", "limit", "format"}
"""Options whose values name no file."""


def check_command(command: Command) -> None:
    """Refuse what is known to be wrong from the words alone.

    Raises:
        Misuse: options that do not go together, a wrong suffix, a network that does not exist.
        PotstillError: an input that does not exist; an output that the command reads, that lies where it would become
            a part of an input, or that cannot be written.
    """
    command.check()
    _check_network(command)
    for name in ("file", "scores", "stored"):
        path = getattr(command, name, None)
        if isinstance(path, Path) and not os.path.lexists(path):
            raise PotstillError(f"{path}: no such file" + "; make it with potstill score" * (name == "scores"))
    _check_data(command)
    _check_outputs(command)


def check_exists(paths: Iterable[Any]) -> None:
    """
    Raises:
        PotstillError: one of the paths does not exist.
    """
    for path in paths:
        if not os.path.lexists(path):
            raise PotstillError(f"{path}: no such file or folder; check the path")


def _check_network(command: Command) -> None:
    """Check names of networks against `potstill.nn.registry`'s families, backbones, packages and registered names."""
    value = getattr(command, "network", None)
    names = [value] if isinstance(value, str) else value or ()
    try:
        packages = read_declaration("potstill.nn.registry:_PACKAGES")
        backbones = read_keys("potstill.nn.pretrained:BACKBONES")
    except Unreadable:
        return
    others = [*registry.names("networks")]
    if command.options_of == "protocol":
        others += registry.names("learners")
    for name in names:
        is_known = (
            is_file_reference(name)
            or name.partition("-")[0] in registry.NETWORK_FAMILIES
            or name.partition(":")[0] in (*packages, *others)
            or re.sub(r"-r\d+$", "", name) in (*backbones, *others)
        )
        if not is_known:
            raise Misuse(str(unknown_name("network", name, [*registry.NETWORK_FAMILIES, *backbones, *others])))


def _check_data(command: Command) -> None:
    """Check that DATA is a known name, a pattern of shards, or a path that exists."""
    data, task = getattr(command, "data", None), getattr(getattr(command, "reading", None), "task", None)
    if not isinstance(data, str) or data.startswith(("hub:", "like:")):
        return
    if task is not None and task.partition(":")[0] not in registry.names("tasks", outside=False):
        return  # read by a loader of another package, which may take what is no file
    try:
        known = [
            *read_declaration("potstill.data.bundled:BUNDLED"),
            *read_keys("potstill.data.standard_datasets:STANDARD"),
        ]
        suffixes: tuple[str, ...] = read_declaration("potstill.data.load:_FILES")
    except Unreadable:
        return
    if data in known or "{" in data or data.endswith((".tar", ".tar.gz")):
        return
    try:
        path = Path(data).expanduser()
        exists = os.path.lexists(path)
    except (RuntimeError, ValueError, OSError):
        return  # no name that a path can have: refused where it is opened
    if exists:
        return
    if "/" in data or "\\" in data or data.startswith(("~", ".")) or path.suffix in suffixes:
        raise PotstillError(f"{data}: no such file or folder; check the path")
    raise unknown_name("data set", data, known)


def _check_outputs(command: Command) -> None:
    suffixes_by_option = command.output_suffixes()
    inputs = _values(command, set(suffixes_by_option))
    outputs: list[Path] = []
    for option, suffixes in suffixes_by_option.items():
        path = getattr(command, option)
        if path is None:
            continue
        if suffixes and not path.name.lower().endswith(suffixes):
            raise Misuse(f"--{option} {path}: the file's name must end in {' or '.join(suffixes)}")
        check_not_input(path, [*inputs, *outputs], folder=not suffixes)
        if suffixes:
            check_writable(path)
        outputs.append(path)


def _values(options: object, excluded: set[str]) -> list[object]:
    """Return every value that may be a path, those of nested groups of options included."""
    values: list[object] = []
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        value = getattr(options, field.name)
        if field.name in excluded:
            continue
        if dataclasses.is_dataclass(value):
            values += _values(value, set())
        elif field.name not in _NO_PATHS:
            values.append(value)
    return values
