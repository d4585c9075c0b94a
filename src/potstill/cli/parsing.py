"""Parsing: words on the command line become a command's dataclass and the options of its method or protocol.

The hyperparameters of a method are the fields of its dataclass, so ``--iterations 500`` needs no code here: the method
named by ``--method`` is looked up first, and the command's options and the method's are parsed as one; a protocol's
likewise.
"""

import contextlib
import dataclasses
import importlib
import inspect
import io
import re
import shlex
import typing
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from tyro.conf import arg

from potstill._util.formatting import OPTION_NAMES
from potstill._util.import_from_file import is_file_reference
from potstill.cli.command import Command, Misuse, Parsed
from potstill.cli.commands import command_class
from potstill.cli.declared import Unreadable, read_declaration
from potstill.cli.help import OptionGroup, command_help, format_help, option_help
from potstill.cli.misuse import describe_misuse
from potstill.cli.options import NAME_GROUPS, TYRO_CONFIG, OptionField, last_value, option_fields
from potstill.cli.recipe import read_recipe, recipe_words
from potstill.cli.terminal import print_help, text_width
from potstill.core.registry import check_value, get_method_class, names, resolve, targets
from potstill.errors import PotstillError, suggestion, unknown_name

__all__ = ["PROTOCOL_FIELDS", "ExtraOptions", "check_bounds", "extra_options", "options_of", "parse", "preset_of"]

_CHECKED_NAMES = ("augment", "parametrization", "protocols", "methods", "parametrizations", "executor")
"""Options whose names are looked up when a command is parsed; other names are looked up where they are used."""
_MAY_BE_ZERO = {"clients", "drop", "port", "profile_steps", "run", "seed", "shadows"}
"""Options that count nothing, or may count to 0."""
_HELP = {"--help", "-h"}
PROTOCOL_FIELDS = {
    "name", "version", "paper", "summary", "optimistic", "published_runs", "students", "shortened", "cases",
}  # fmt: skip
"""Fields of a protocol that are no options: what names it, ``students`` (``--seeds``) and its special cases."""


def parse(name: str, argv: Sequence[str]) -> Parsed:
    """Parse the words after the command ``name``.

    Raises:
        Misuse: an option or a registered name that does not exist, a value that is missing or of the wrong type, or a
            recipe that does not fit.
        PotstillError: a recipe that cannot be read.
        SystemExit: 0 after ``--help``.
    """
    cls = command_class(name)
    line = shlex.join(["potstill", *name.split(), *argv])
    argv = cls.expand_words(argv)
    _check_second_word(cls, argv)
    path = last_value(argv, "--recipe") if cls.options_of == "method" else None
    recipe = {} if path is None else read_recipe(Path(path))
    extra = _extra_of_command(cls, argv, recipe)
    groups: list[tuple[str, Any]] = [("command", Annotated[cls, arg(name="")])]
    if extra is not None:
        groups.append((extra.heading, extra.options))
    both = dataclasses.make_dataclass("Both", groups, frozen=True)
    owner = name if extra is None else f"{name} with --{extra.kind} {extra.name}"
    _check_options(argv, option_fields(both), owner)
    if _HELP & set(argv):
        group = None if extra is None else extra.group
        print_help(format_help(command_help(name, group), text_width(), all_options="--all" in argv))
        raise SystemExit(0)
    words = list(argv)
    if recipe and extra is not None:  # the last value of an option counts, so the recipe's come first
        words = [*recipe_words(both, extra.options, argv, str(path), recipe, name), *argv]
    try:
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            parsed: Any = tyro.cli(both, prog=f"potstill {name}", args=words, config=TYRO_CONFIG)
    except SystemExit as error:
        raise Misuse(describe_misuse(name, option_fields(both), words, printed.getvalue())) from error
    command = parsed.command
    _check_names(command)
    _check_counts(name, command)
    changed: dict[str, Any] = {}
    if extra is not None:
        chosen, standard = getattr(parsed, extra.heading), extra.options()
        values = {field.name: getattr(chosen, field.name) for field in dataclasses.fields(chosen)}
        changed = {key: value for key, value in values.items() if value != getattr(standard, key)}
        check_bounds(extra, changed)
    flags = {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")}
    return Parsed(
        name=name, command=command, line=line, options=changed, settings=command.settings_by_name(),
        preset=preset_of(argv, recipe) if cls.options_of == "method" else None,
        explicit=frozenset(field.name for field in option_fields(cls) if field.flag in flags),
    )  # fmt: skip


def _check_second_word(cls: type[Command], argv: Sequence[str]) -> None:
    """Refuse a method that is given as a second word instead of by ``--method``."""
    if cls.options_of == "method" and len(argv) > 1 and not any(word.startswith("-") for word in argv[:2]):
        hint = f"; say --method {argv[1]}" if argv[1] in targets("methods") else ""
        raise Misuse(f"one word, the data, is required before the options, but {argv[1]!r} follows {argv[0]!r}{hint}")


class ExtraOptions(NamedTuple):
    """A method or a protocol whose fields are options beside the command's."""

    kind: str
    name: str
    options: Any
    """A dataclass of those fields."""

    @property
    def heading(self) -> str:
        """The name as an identifier: the field of its options in what is parsed."""
        return re.sub(r"\W", "_", self.name.rpartition(":")[2])

    @property
    def group(self) -> OptionGroup:
        """The options under a heading of ``--help``, with what the method or protocol is."""
        options = tuple(option_help(field) for field in option_fields(self.options))
        title = f"Options of {'' if self.kind == 'method' else 'protocol '}{self.name}"
        return OptionGroup(title, options, self.options.__doc__ or "")


def _extra_of_command(cls: type[Command], argv: Sequence[str], recipe: Mapping[str, Any]) -> ExtraOptions | None:
    """Return the options of the method or protocol that is named; ``None`` for bare ``--help``."""
    kind = cls.options_of
    if kind is None or set(argv) <= {*_HELP, "--all"}:
        return None
    first_protocol = (last_value(argv, "--protocols") or "").split(",")[0].strip()
    name = last_value(argv, f"--{kind}") or first_protocol or str(recipe.get(kind, getattr(cls, kind)))
    preset = preset_of(argv, recipe) if kind == "method" else None
    return extra_options(kind, name, _reserved(cls, kind), preset, with_help=bool(_HELP & set(argv)))


def _reserved(cls: type[Command], kind: str) -> set[str]:
    """Return names that options of a method or protocol cannot have beside those of the command."""
    return {field.name for field in option_fields(cls)} | (PROTOCOL_FIELDS if kind == "protocol" else set())


def extra_options(
    kind: str, name: str, reserved: Set[str], preset: Any = None, with_help: bool = False
) -> ExtraOptions:
    """Return the options of a registered method or protocol, but for ``reserved`` names; defaults are the preset's.

    They are read from the source. With ``with_help``, or where it is of another package or a file of the user's, the
    method or protocol is imported, which takes seconds.

    Raises:
        Misuse: there is none of that name.
    """
    part = _resolve_part(kind, name, imported=with_help)
    is_class = isinstance(part, type)  # a method is registered as a class with defaults, a protocol as a value
    cls = part if is_class else type(part)
    values = getattr(part, "presets", {}).get(preset, {}) if is_class else _flat_values(part)
    fields = [field._replace(default=values.get(field.name, field.default)) for field in option_fields(cls)]
    about = _describe_part(part) if with_help else ""
    return ExtraOptions(kind, name, _options_class(fields, reserved, about))


def _resolve_part(kind: str, name: str, imported: bool) -> Any:
    """Return a method's class or a protocol, as its source declares it unless it is to be imported."""
    group: Any = f"{kind}s"
    known = targets(group) | ({"auto": "potstill.automl.candidates:AutoOptions"} if kind == "method" else {})
    if name not in known:
        if kind != "method" or not is_file_reference(name):
            raise Misuse(str(unknown_name(kind, name, targets(group))))
    elif not imported:
        with contextlib.suppress(Unreadable):
            return read_declaration(known[name])
    try:
        if kind == "method" and name == "auto":
            return importlib.import_module("potstill.automl.candidates").AutoOptions
        return get_method_class(name) if kind == "method" else resolve(group, name)
    except PotstillError as error:
        raise Misuse(str(error)) from error


def _flat_values(value: Any) -> dict[str, Any]:
    """Return the values of a dataclass by field, those of its parts in place of the parts."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        held = getattr(value, field.name)
        flat |= _flat_values(held) if dataclasses.is_dataclass(held) else {field.name: held}
    return flat


def _describe_part(part: Any) -> str:
    """Return what a method or protocol is, for the heading of its options."""
    from potstill.api.listing import format_presets, presets_of

    if not isinstance(part, type):
        return str(part.summary)
    if not hasattr(part, "info"):  # the options of auto
        return inspect.getdoc(part) or ""
    method: Any = part
    return "\n".join([method.info.title, *format_presets(presets_of(method))])


def _options_class(fields: Sequence[OptionField], reserved: Set[str], about: str) -> Any:
    """Return a dataclass of the fields that can be written on a command line and whose names are not reserved."""
    entries: list[Any] = []
    for field in fields:
        if field.name not in reserved and _is_plain(field.default):
            doc = field.docstring
            option = arg(name=OPTION_NAMES.get(field.name), help=f"Turn off: {doc}" if field.default is True else doc)
            hint: Any = Annotated[field.hint, option]
            entries.append((field.name, hint, dataclasses.field(default=field.default)))
    options = dataclasses.make_dataclass("Options", entries, frozen=True, kw_only=True)
    options.__doc__ = about
    return options


def _is_plain(value: Any) -> bool:
    """Return True for numbers, words and tuples of them, which can be written on a command line."""
    entries = value if isinstance(value, tuple) else (value,)
    return all(entry is None or isinstance(entry, bool | int | float | str) for entry in entries)


def check_bounds(extra: ExtraOptions, values: Mapping[str, Any]) -> None:
    """Check options of a method against choices and bounds, as `potstill.core.registry.make_method` will.

    Raises:
        Misuse: one is out of them.
    """
    if extra.kind != "method" or extra.name == "auto":
        return
    hints = typing.get_type_hints(extra.options, include_extras=True)
    for field in dataclasses.fields(extra.options):
        if field.name in values:
            try:
                check_value(f"method {extra.name}: {field.name}", values[field.name], hints[field.name], field.default)
            except PotstillError as error:
                raise Misuse(str(error)) from error


def preset_of(argv: Sequence[str], recipe: Mapping[str, Any]) -> Any:
    """Return the preset of a command line; by default published with ``--steps`` or ``--recipe``, else quick."""
    named = last_value(argv, "--preset") or recipe.get("preset")
    has_end = any(last_value(argv, flag) is not None for flag in ("--steps", "--recipe"))
    return named or ("published" if has_end else "quick")


def options_of(command: str, kind: str | None = None, name: str = "") -> list[OptionField]:
    """Return the options of a command; with ``kind`` those that the method or protocol ``name`` adds.

    Raises:
        Misuse: there is none of that name.
    """
    cls = command_class(command)
    if kind is None:
        return [field for field in option_fields(cls) if not field.is_positional]
    return option_fields(extra_options(kind, name, _reserved(cls, kind), with_help=True).options)


def _check_options(argv: Sequence[str], fields: Sequence[OptionField], owner: str) -> None:
    """Refuse a word that starts with ``--`` and is no option, and name the nearest that is."""
    flags = {"--help", *(["--all"] if _HELP & set(argv) else [])} | {
        field.flag for field in fields if not field.is_positional
    }
    for word in argv:
        flag = word.partition("=")[0].replace("_", "-")
        if word.startswith("--") and flag not in flags:
            raise Misuse(f"{owner} has no option {flag}; {suggestion(flag, flags, 'there are')}")


def _check_names(command: Command) -> None:
    """Look registered names up before any data are read."""
    executor, address = getattr(command, "executor", None), getattr(command, "address", None)
    if address is not None and (executor or "").partition(":")[0] != "ray":
        raise Misuse(f"--address {address} is of a Ray cluster; add --executor ray or leave it out")
    for option in _CHECKED_NAMES:
        group = NAME_GROUPS[option]
        value = getattr(command, option, None) or ()
        for name in [value] if isinstance(value, str) else value:
            from_file = group == "methods" or option in command.file_options
            if (from_file and is_file_reference(name)) or "=" in name.partition(":")[0]:
                continue  # a file of the user's; NAME=PARAMETRIZATION of one part of the inputs
            if group == "methods" and name == "auto":
                continue  # which is no registered method; a command that cannot take it says why
            if name.partition(":")[0] not in names(group):
                raise Misuse(str(unknown_name(group[:-1], name, names(group))))


def _check_counts(name: str, command: Command) -> None:
    """Refuse a count below 1."""
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if type(value) is int and value < 1 and field.name not in _MAY_BE_ZERO:
            raise Misuse(f"{name}: --{field.name.replace('_', '-')} must be at least 1, but it is {value}")
