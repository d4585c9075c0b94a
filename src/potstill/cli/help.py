"""Help of commands as values: options by heading, those first that most people use. Imports no torch.

``potstill COMMAND --help`` and the reference pages are both made of `command_help`; `format_help` writes it as text.
"""

import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from tyro.constructors import PrimitiveConstructorSpec

from potstill.cli.command import CommonOptions, DataOptions, JobOptions
from potstill.cli.commands import COMMAND_GROUPS, COMMANDS, command_class
from potstill.cli.options import OptionField, option_fields

__all__ = [
    "CommandHelp",
    "OptionGroup",
    "OptionHelp",
    "command_help",
    "format_help",
    "format_overview",
    "format_second_words",
    "format_welcome",
    "option_choices",
    "option_help",
]

_SHARED_GROUPS = {"Reading the data": DataOptions, "Machine": JobOptions, "Every command": CommonOptions}
"""Headings of the options that many commands have."""
_FILES = ("out", "force")
_PURPOSE = "Turn a large training set into a small one that trains models nearly as well, and say honestly how well."
_FEW = 8
"""Other options that ``--help`` explains, too, if there are no more."""
_COLUMN = 26
"""Widest option that stands on one line with its help."""


@dataclass(frozen=True)
class OptionHelp:
    """Help of one option or argument."""

    field: str
    """Keyword of the same option in Python, or the field of its dataclass."""
    flag: str
    """``--ipc``, or ``DATA`` for an argument without a flag."""
    metavar: str
    """Name of its value; empty for a switch."""
    about: str
    """Explanation on one line."""
    default: str | None
    """Default as it is written on the command line; None where there is none, or where ``about`` says it."""
    is_required: bool
    choices: tuple[str, ...] = ()
    """All values that it can have, where they are words of a fixed list."""

    @property
    def spelled(self) -> str:
        """Flag and name of the value: ``--ipc N``."""
        return f"{self.flag} {self.metavar}".rstrip()

    @property
    def explanation(self) -> str:
        """Explanation with the default, or that the option is required."""
        if self.is_required:
            return f"{self.about} (required)"
        return self.about if self.default is None else f"{self.about} (default: {self.default})"


@dataclass(frozen=True)
class OptionGroup:
    """Options under one heading."""

    title: str
    options: tuple[OptionHelp, ...]
    about: str = ""


@dataclass(frozen=True)
class CommandHelp:
    """Help of one command."""

    name: str
    heading: str
    """Heading under which ``potstill --help`` lists it."""
    about: str
    """One line, without a capital and a full stop."""
    paragraphs: tuple[str, ...]
    """Its description."""
    arguments: tuple[OptionHelp, ...]
    main: tuple[OptionHelp, ...]
    """Options that most people use, at most ten, required ones among them."""
    extra: OptionGroup | None
    """Options of the method or protocol that is named on the line."""
    groups: tuple[OptionGroup, ...]
    """All other options."""
    part: Literal["method", "protocol"] | None
    """Kind of the part whose fields are options, too."""
    examples: tuple[str, ...]

    @property
    def usage(self) -> str:
        """The shortest line of the command: ``potstill inspect FILE [OPTIONS]``."""
        required = [option.spelled for option in self.main if option.is_required]
        return " ".join(["potstill", self.name, *(a.flag for a in self.arguments), *required, "[OPTIONS]"])

    @property
    def options(self) -> tuple[OptionHelp, ...]:
        """All options, arguments first."""
        extra = () if self.extra is None else self.extra.options
        return (*self.arguments, *self.main, *extra, *(option for group in self.groups for option in group.options))


def command_help(name: str, extra: OptionGroup | None = None) -> CommandHelp:
    """Return the help of the command ``name``; ``extra`` are the options of a method or protocol."""
    cls = command_class(name)
    fields = {field.name: field for field in option_fields(cls)}
    shared = {title: [f.name for f in dataclasses.fields(kind)] for title, kind in _SHARED_GROUPS.items()}
    many = {"force", *(field for names in shared.values() for field in names)}
    main = cls.main_options or tuple(field for field in fields if field not in many)
    groups: dict[str, list[str]] = {title: [*names] for title, names in cls.option_groups.items()}
    for title, names in {"Files": _FILES, **shared}.items():
        groups.setdefault(title, []).extend(names)
    taken = {*main, *(field.name for field in fields.values() if field.is_positional)}
    shown = {
        title: [field for field in names if field in fields and field not in taken] for title, names in groups.items()
    }
    listed = taken.union(*shown.values())
    shown = {**shown, "Other": [field for field in fields if field not in listed]}
    paragraphs = tuple(" ".join(part.split()) for part in (inspect.getdoc(cls) or "").split("\n\n"))
    heading = next(title for title, names in COMMAND_GROUPS.items() if name in names)
    return CommandHelp(
        name=name, heading=heading, about=COMMANDS[name], paragraphs=paragraphs,
        arguments=tuple(option_help(field) for field in fields.values() if field.is_positional),
        main=tuple(option_help(fields[field]) for field in main if not fields[field].is_positional), extra=extra,
        groups=tuple(
            OptionGroup(title, tuple(option_help(fields[field]) for field in names))
            for title, names in shown.items() if names
        ),
        part=cls.options_of, examples=cls.examples,
    )  # fmt: skip


def option_help(field: OptionField) -> OptionHelp:
    """Return the help of an option or argument."""
    settings = [part for part in typing.get_args(field.hint) if hasattr(part, "help_behavior_hint")]
    metavar = next((part.metavar for part in settings if part.metavar is not None), None)
    silent = any(part.help_behavior_hint is not None for part in settings)
    choices = tuple(dict.fromkeys(option_choices(field.hint)))
    is_required = field.default is dataclasses.MISSING
    default = None if is_required or silent or field.is_switch else _spelled(field)
    if metavar is None:
        metavar = "|".join(choices) or _type_name(field.hint)
    flag = metavar if field.is_positional else field.flag
    return OptionHelp(
        field=field.name, flag=flag, metavar="" if field.is_switch or field.is_positional else metavar,
        about=field.about.replace("``", "`"), default=default, is_required=is_required, choices=choices,
    )  # fmt: skip


def option_choices(hint: Any) -> list[str]:
    """Return the words of every ``Literal`` within a type."""
    if typing.get_origin(hint) is Literal:
        return [str(value) for value in typing.get_args(hint)]
    return [word for part in typing.get_args(hint) for word in option_choices(part)]


def _type_name(hint: Any) -> str:
    """Return the name of a value by its type: N of an integer, F of a float."""
    if typing.get_origin(hint) is tuple:
        return f"{_type_name(typing.get_args(hint)[0])} ..."
    inner = [_type_name(part) for part in typing.get_args(hint) if part is not type(None)]
    return {int: "N", float: "F"}.get(hint) or next((name for name in inner if name), "TEXT")


def _spelled(field: OptionField) -> str | None:
    """Return the default as words of a command line; None where it stands for the lack of a value."""
    value = field.default
    if value is None:
        return None
    for part in annotations(field.hint):
        if isinstance(part, PrimitiveConstructorSpec):
            return " ".join(part.str_from_instance(value))
    if isinstance(value, str) and not value:
        return '""'
    return " ".join(map(str, value)) or None if isinstance(value, tuple | list) else str(value)


def annotations(hint: Any) -> Iterable[Any]:
    """Yield everything that annotates a type or a part of it."""
    for part in (*getattr(hint, "__metadata__", ()), *typing.get_args(hint)):
        yield part
        yield from annotations(part)


def format_overview(width: int) -> str:
    """Return the text of ``potstill --help``: all commands under their headings."""
    column = max(map(len, COMMANDS)) + 4
    lines = ["usage: potstill COMMAND …", ""]
    lines += textwrap.wrap(_PURPOSE, width)
    for title, names in COMMAND_GROUPS.items():
        lines += ["", f"{title}:"]
        for name in names:
            lines += _row(name, COMMANDS[name], column, width)
    lines.append("")
    lines += textwrap.wrap(
        "`potstill COMMAND --help` explains a command. Every command takes --json, --quiet, --debug and --limit. "
        "`potstill --version` prints the version.", width,
    )  # fmt: skip
    examples = ["potstill distill photos/ --method dm --ipc 10 --out small.safetensors",
                "potstill evaluate small.safetensors --data photos/"]  # fmt: skip
    return "\n".join([*lines, "", "Examples:", *(f"  {example}" for example in examples)])


def format_second_words(first: str, width: int) -> str:
    """Return the text of ``potstill FIRST --help``, of the commands whose first word it is."""
    names = [name for name in COMMANDS if name.startswith(f"{first} ")]
    lines = [f"usage: potstill {first} COMMAND …", ""]
    for name in names:
        lines += _row(name.partition(" ")[2], COMMANDS[name], max(map(len, names)) + 4, width)
    return "\n".join([*lines, "", f"`potstill {names[0]} --help` explains one."])


def format_welcome(width: int) -> str:
    """Return the text of ``potstill`` alone on a terminal: three next steps."""
    steps = {
        "See it work, in about 3 minutes:": "potstill demo",
        "Distil your own data (a folder of pictures by class, a table, an .npz file):":
            "potstill distill photos/ --ipc 10 --out small.safetensors",
        "See first what that costs:": "potstill plan photos/ --ipc 10",
    }  # fmt: skip
    lines = textwrap.wrap(_PURPOSE, width)
    for title, line in steps.items():
        lines += ["", *textwrap.wrap(title, width), f"  {line}"]
    lines += [
        "",
        *textwrap.wrap("`potstill --help` lists all commands; `potstill COMMAND --help` explains one.", width),
    ]
    return "\n".join(lines)


def format_help(help: CommandHelp, width: int, *, all_options: bool = False) -> str:
    """Return the text of ``potstill COMMAND --help``.

    Args:
        width: characters in a line.
        all_options: explain every option; otherwise the main ones and those of a method or protocol, and only name the
            others where they are many.
    """
    column = _COLUMN + 2
    all_options = all_options or sum(len(group.options) for group in help.groups) <= _FEW
    lines = textwrap.wrap(f"usage: {help.usage}", width, subsequent_indent=" " * 9, break_long_words=False)
    for paragraph in help.paragraphs:
        lines += ["", *textwrap.wrap(paragraph, width, break_on_hyphens=False)]
    sections = [OptionGroup("Arguments", help.arguments), OptionGroup("Options", help.main)]
    sections += [] if help.extra is None else [help.extra]
    sections += help.groups if all_options else ()
    for section in sections:
        if section.options:
            lines += ["", f"{section.title}:"]
            for part in section.about.splitlines():
                lines += textwrap.wrap(part, width, initial_indent="  ", subsequent_indent="  ")
            for option in section.options:
                lines += _row(option.spelled, option.explanation, column, width)
    if not all_options:
        lines += ["", "More options (--help --all explains them):"]
        for group in help.groups:
            flags = ", ".join(option.flag for option in group.options)
            lines += _row(group.title, flags, column, width)
    return "\n".join([*lines, *_closing(help, width)])


def _closing(help: CommandHelp, width: int) -> list[str]:
    """Return the line about options of a part, and the examples."""
    lines: list[str] = []
    if help.part is not None and help.extra is None:
        name = f"--{help.part} NAME"
        lines += [
            "",
            *textwrap.wrap(f"`potstill {help.name} {name} --help` adds the {help.part}'s own options.", width),
        ]
    if help.examples:
        lines += ["", "Examples:", *(f"  {example}" for example in help.examples)]
    return lines


def _row(name: str, text: str, column: int, width: int) -> list[str]:
    """Return a row of two columns; a long name has a line of its own."""
    wrapped = textwrap.wrap(
        text, max(20, width), initial_indent=" " * column, subsequent_indent=" " * column, break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip
    first = f"  {name}"
    if len(first) + 2 > column or not wrapped:
        return [first, *wrapped]
    return [first + wrapped[0][len(first) :], *wrapped[1:]]
