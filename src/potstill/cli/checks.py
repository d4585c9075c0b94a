"""Checks of a parsed command that need no data: they run before anything that imports torch.

Exit status as where the same would be found later: `Misuse` is 2, a file that is not there 1.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from potstill._util.import_from_file import names_file
from potstill.cli.commands import (
    Cache,
    Command,
    Compare,
    Evaluate,
    Export,
    Import,
    Label,
    ListMethods,
    Making,
    Plan,
    Report,
    Score,
    Verify,
)  # fmt: skip
from potstill.cli.declared import Unreadable, declared, declared_keys
from potstill.cli.parsing import Misuse, Parsed
from potstill.core import registry
from potstill.errors import PotstillError, unknown

__all__ = ["check_words"]


def check_words(parsed: Parsed) -> None:
    """Refuse what is known to be wrong from the words alone.

    Raises:
        Misuse: options that do not go together, a wrong suffix, a network that does not exist.
        PotstillError: an input that is not there.
    """
    command = parsed.command
    _check_command(parsed.name, command)
    _check_network(command)
    for name in ("file", "scores", "stored"):
        path = getattr(command, name, None)
        if isinstance(path, Path) and not os.path.lexists(path):
            raise PotstillError(f"{path}: no such file" + "; make it with potstill score" * (name == "scores"))
    _check_data(command)


def _check_command(name: str, command: Command) -> None:
    """What each command asks of its own options."""
    match command:
        case Making():
            _check_making(name, command)
        case Compare(ipc=ipc, items=items, bytes=bytes):
            if (ipc, items, bytes) == (None,) * 3 or (ipc is not None and items is not None):
                raise Misuse(
                    "compare needs its sizes once: --ipc 1,10 (items per class), or --items 10,100 where there are "
                    "none; and, or instead, --bytes 20kB,100kB"
                )
        case Score():
            if command.map is not None and "cartography" not in command.methods:
                raise Misuse("score: --map draws what cartography says; add cartography to --methods")
        case Export():
            _check_export(command)
        case Verify(paths=()):
            raise Misuse("verify: at least one file or folder is required")
        case Report():
            if not command.paths:
                raise Misuse("report: give at least one folder or file of results")
            _check_there(command.paths)
        case Import(path=path):
            _check_there([path])
        case Cache():
            _check_cache(command)
        case ListMethods(names=asked):
            _check_methods(asked)
        case _:
            pass


def _check_making(name: str, command: Making) -> None:
    amounts = {"ipc": command.ipc, "items": command.items, "bytes": command.bytes}
    given = [(unit, amount) for unit, amount in amounts.items() if amount is not None]
    if len(given) != 1:
        raise Misuse(f"{name}: say once how much to keep: --ipc N (items per class), --items N or --bytes N")
    ((unit, amount),) = given
    if amount < 1:
        raise Misuse(f"{name}: --{unit} must be at least 1, but it is {amount}")
    if not isinstance(command, Plan):
        return
    if command.measure is not None and command.measure < 0:
        raise Misuse(f"plan: --measure must be at least 0, but it is {command.measure}")
    if command.on is None and command.students is not None:
        raise Misuse("plan: --students goes with --on, the machines that the plan is of; give both or neither")
    measured = command.measure is not None or command.time_limit is not None or command.details or command.experts
    if command.on is not None and measured:
        raise Misuse(
            "plan: --on times a little of each phase by itself; leave out --measure, --time-limit, --details and "
            "--experts"
        )


def _check_export(command: Export) -> None:
    if command.to != "hf" and (command.data is None) == (command.to == "files"):
        needs = "needs the data that the selection was made of: --data DATA"
        raise Misuse(f"export: --to {command.to} {needs if command.data is None else 'needs no --data; leave it out'}")
    if command.license is not None and (command.to != "hf" or command.data is not None):
        raise Misuse("export: --license stands on the card of --to hf without --data; leave it out")


def _check_cache(command: Cache) -> None:
    asked = {"kind": command.kind, "unused": command.unused, "at-most": command.at_most, "damaged": command.damaged}
    given = [name for name, value in asked.items() if value]
    if command.what != "prune" and given:
        raise Misuse(f"cache: --{given[0]} is of prune; leave it out")
    if command.what == "prune" and not given:
        raise Misuse("cache: prune needs what to delete: --unused DAYS, --at-most 5GB, --damaged, or --kind KIND")


def _check_methods(asked: Iterable[str]) -> None:
    known = registry.names("methods")
    for name in asked:
        if name == "auto":
            raise Misuse(
                "auto is no method: it chooses among them; potstill distill --method auto --help shows its options"
            )
        if name not in known:
            raise Misuse(str(unknown("method", name, known)))


def _check_network(command: Command) -> None:
    """Names of networks, by the families that `potstill.nn.registry` builds, backbones, packages' and registered
    names."""
    asked = getattr(command, "network", None)
    names = [asked] if isinstance(asked, str) else asked or ()
    try:
        families = declared("potstill.nn.registry:_FAMILIES")
        packages = declared("potstill.nn.registry:_PACKAGES")
        backbones = declared_keys("potstill.nn.pretrained:BACKBONES")
    except Unreadable:
        return
    others = [*registry.names("networks")]
    if isinstance(command, Evaluate | Label | Compare):
        others += registry.names("learners")
    for name in names:
        known = (
            names_file(name)
            or name.partition("-")[0] in families
            or name.partition(":")[0] in (*packages, *others)
            or re.sub(r"-r\d+$", "", name) in (*backbones, *others)
        )
        if not known:
            raise Misuse(str(unknown("network", name, [*families, *backbones, *others])))


def _check_data(command: Command) -> None:
    """DATA must be a known name, a pattern of shards, or be there."""
    data, task = getattr(command, "data", None), getattr(getattr(command, "reading", None), "task", None)
    if not isinstance(data, str) or data.startswith(("hub:", "like:")):
        return
    if task is not None and task.partition(":")[0] not in registry.names("tasks", outside=False):
        return  # read by a loader of another package, which may take what is no file
    try:
        known = [*declared("potstill.data.bundled:BUNDLED"), *declared_keys("potstill.data.standard_datasets:STANDARD")]
        suffixes: tuple[str, ...] = declared("potstill.data.load:_FILES")
    except Unreadable:
        return
    if data in known or "{" in data or data.endswith((".tar", ".tar.gz")):
        return
    try:
        path = Path(data).expanduser()
        there = os.path.lexists(path)
    except (RuntimeError, ValueError, OSError):
        return  # no name that a path can have: said where it is opened
    if there:
        return
    if "/" in data or "\\" in data or data.startswith(("~", ".")) or path.suffix in suffixes:
        raise PotstillError(f"{data}: no such file or folder; check the path")
    raise unknown("data set", data, known)


def _check_there(paths: Iterable[Any]) -> None:
    for path in paths:
        if not os.path.lexists(path):
            raise PotstillError(f"{path}: no such file or folder; check the path")
