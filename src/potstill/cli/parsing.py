"""From the words on the command line to a command's dataclass and the options of its method or protocol.

A method's hyperparameters are the fields of its dataclass, so ``--iterations 500`` needs no code here: the method named
by ``--method`` is looked up first, and the command's options and the method's are parsed as one. Likewise a protocol's.
"""

import contextlib
import dataclasses
import inspect
import io
import re
import time
import typing
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Annotated, Any, NamedTuple

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, arg

from potstill._util.import_from_file import names_file
from potstill.cli import recipe
from potstill.cli.commands import COMMANDS, Command, Compare, Distill, Evaluate, Label, Listing, Making, Score
from potstill.cli.declared import DeclaredClass, DeclaredValue, Unreadable, declared
from potstill.cli.grid import grid_words
from potstill.core.registry import Group, check_value, names, targets
from potstill.errors import PotstillError, meant, unknown

__all__ = ["Misuse", "Parsed", "effort_of", "every_value", "last_value", "options_of", "parse"]

_CONFIG = (FlagCreatePairsOff, OmitArgPrefixes)
_POSITIONAL = typing.get_args(tyro.conf.Positional[str])[1]
_NOT_IN_A_RECIPE = {"debug", "force", "json", "limit", "quiet", "recipe", "resume", "resume_anyway"}
_BOUNDS = ("may_be_zero", "fractions", "positive")
"""What a method says of its numbers."""
_MAY_BE_LESS = {"seed", "measure", "port", "run"}
"""Whole numbers that count nothing, or may count to 0."""
_NAMES_A_PROTOCOL = {
    "name", "version", "paper", "summary", "optimistic", "published_runs", "students", "shortened", "cases",
}  # fmt: skip
"""Fields of a protocol that are no options: what names it, ``students`` (``--seeds``) and its special cases."""


class Misuse(Exception):
    """The command line cannot be understood: exit status 2. The message is one line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parsed:
    """A command, and those options of its method or protocol that differ from the defaults."""

    name: str
    command: Command
    options: Mapping[str, Any]
    by_method: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """Options of several methods and, as ``protocol:NAME``, of several protocols, of ``compare``."""
    effort: str | None = None
    """Of a command that makes a set."""
    given: frozenset[str] = frozenset()
    """The command's options that stand on the line or in the recipe."""
    begun: float = dataclasses.field(default_factory=time.monotonic)
    """When the command was read: a time limit counts from then on."""


def parse(name: str, argv: Sequence[str]) -> Parsed:
    """The command ``name`` with the words after it.

    Raises:
        Misuse: an option or a registered name that does not exist, or a recipe that does not fit.
        PotstillError: a recipe that cannot be read.
        SystemExit: 0 after ``--help``; 2, with tyro's message on stderr, when a value is missing or of the wrong type.
    """
    cls, about = COMMANDS[name]
    doc = f"{about[0].upper()}{about[1:]}." if cls is Listing else inspect.getdoc(cls)
    given: dict[str, Any] = {}
    if cls is Compare:
        argv = _with_grid(argv)
    path = last_value(argv, "--recipe") if issubclass(cls, Making) else None
    if path is not None:
        given = recipe.read(Path(path))
    part = _part(cls, argv, given)
    parts: list[tuple[str, Any]] = [("command", Annotated[cls, arg(name="")])]
    if part is not None:
        parts.append((part.field, part.options))
    both = dataclasses.make_dataclass("Both", parts, frozen=True)
    _check_options(argv, _leaves(both), name if part is None else f"{name} with --{part.kind} {part.name}")
    # The last of an option's values counts, so the recipe's come first.
    words = [*(_from_recipe(both, part, argv, str(path), given, name) if given and part is not None else []), *argv]
    parsed: Any = tyro.cli(both, prog=f"potstill {name}", args=words, config=_CONFIG, description=doc)
    _check_names(parsed.command)
    _check_numbers(name, parsed.command)
    changed: dict[str, Any] = {}
    if part is not None:
        chosen, standard = getattr(parsed, part.field), part.options()
        values = {f.name: getattr(chosen, f.name) for f in dataclasses.fields(chosen)}
        changed = {key: value for key, value in values.items() if value != getattr(standard, key)}
        _check_values(part, changed)
    command = parsed.command
    each = _by_method(command) if isinstance(command, Compare) else {}
    effort = effort_of(argv, given) if isinstance(command, Making) else None
    flags = {word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")}
    said = frozenset(leaf.name for leaf in _leaves(cls) if leaf.flag in flags)
    return Parsed(name=name, command=command, options=changed, by_method=each, effort=effort, given=said)


class _Part(NamedTuple):
    """A method or a protocol whose fields are options beside the command's."""

    kind: str
    name: str
    options: Any
    bounds: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """Of a method: which fields may be 0, are fractions, or are above 0."""

    @property
    def field(self) -> str:
        """Its name as an identifier: the heading of its options in ``--help``."""
        return re.sub(r"\W", "_", self.name.rpartition(":")[2])


def _part(cls: Any, argv: Sequence[str], given: Mapping[str, Any]) -> _Part | None:
    """A method, of ``distill`` and ``plan``; a protocol, of what measures; none for bare ``--help``."""
    kind = "method" if issubclass(cls, Making) else "protocol" if issubclass(cls, Evaluate | Label | Compare) else None
    if kind is None or set(argv) in ({"--help"}, {"-h"}):
        return None
    several = (last_value(argv, "--protocols") or "").split(",")[0].strip() if cls is Compare else ""
    name = last_value(argv, f"--{kind}") or several or str(given.get(kind, getattr(cls, kind)))
    taken = {leaf.name for leaf in _leaves(cls)} | (_NAMES_A_PROTOCOL if kind == "protocol" else set())
    shown = bool({"--help", "-h"} & set(argv))
    return _options(kind, name, taken, effort_of(argv, given) if kind == "method" else None, with_help=shown)


def _options(kind: str, name: str, taken: Set[str], effort: Any = None, with_help: bool = False) -> _Part:
    """The options of a registered method or protocol, but for those whose names are ``taken``.

    Their defaults are as the effort says, so that what is given is told apart from that. They are read from the source;
    with ``with_help``, what they mean is wanted too, and the method or protocol is imported, as where it is another
    package's or the user's own.

    Raises:
        Misuse: there is none of that name.
    """
    if not with_help:
        with contextlib.suppress(Unreadable):
            return _declared_options(kind, name, taken, effort)
    from potstill.api.listing import efforts_of, efforts_said  # slow: it imports torch
    from potstill.core.registry import effort_fields, method_class, resolve

    if kind == "method" and name == "auto":
        from potstill.automl.candidates import AutoOptions

        return _Part(kind, name, _as_options(_leaves(AutoOptions), {}, taken, inspect.getdoc(AutoOptions) or ""))
    try:
        found: Any = method_class(name) if kind == "method" else resolve("protocols", name)
    except PotstillError as error:
        raise Misuse(str(error)) from error
    # A method is registered as a class with defaults, a protocol as a value.
    base, about = (found, found.info.title) if kind == "method" else (type(found), found.summary)
    said = effort_fields(found, effort) if kind == "method" else found.flat()
    leaves = _leaves(base)
    defaults = {leaf.name: said.get(leaf.name, getattr(found, leaf.name, leaf.default)) for leaf in leaves}
    if kind == "method":
        about = "\n".join([about, *efforts_said(efforts_of(found))])
    bounds = {n: tuple(getattr(found, n, ())) for n in _BOUNDS} if kind == "method" else {}
    return _Part(kind, name, _as_options(leaves, defaults, taken, about), bounds)


def _declared_options(kind: str, name: str, taken: Set[str], effort: Any) -> _Part:
    """`_options` without an import, and without what they mean.

    Raises:
        Misuse: there is none of that name.
        Unreadable: it is not this package's, or its source is written in another way.
    """
    group: Any = f"{kind}s"
    if kind == "method" and name == "auto":
        target = "potstill.automl.candidates:AutoOptions"
    elif names_file(name):
        raise Unreadable(name)
    elif (found := targets(group).get(name)) is None:
        raise Misuse(str(unknown(kind, name, targets(group))))
    else:
        target = found
    value = declared(target)
    if isinstance(value, DeclaredValue):  # a protocol
        said, cls = value.flat(), value.kind
    elif isinstance(value, DeclaredClass):
        said, cls = (value.attribute("efforts") or {}).get(effort, {}), value
    else:
        raise Unreadable(target)
    leaves = [_Leaf(*field) for field in cls.flat_fields()]
    defaults = {leaf.name: said.get(leaf.name, leaf.default) for leaf in leaves}
    bounds = {n: tuple(cls.attribute(n, ())) for n in _BOUNDS} if kind == "method" else {}
    return _Part(kind, name, _as_options(leaves, defaults, taken, ""), bounds)


def _as_options(leaves: Sequence["_Leaf"], defaults: Mapping[str, Any], taken: Set[str], about: str) -> Any:
    """A dataclass of those fields that can be written on a command line and whose names are not ``taken``."""
    fields: list[Any] = []
    for leaf in leaves:
        default = defaults.get(leaf.name, leaf.default)
        if leaf.name not in taken and _is_plain(default):
            doc = leaf.documented
            shown = arg(help=f"Not so: {doc}" if default is True else doc)
            hint: Any = Annotated[leaf.hint, shown]
            fields.append((leaf.name, hint, dataclasses.field(default=default)))
    options = dataclasses.make_dataclass("Options", fields, frozen=True, kw_only=True)
    options.__doc__ = about
    return options


def _with_grid(argv: Sequence[str]) -> Sequence[str]:
    """The words with those of ``--grid`` before them, so that the command line's own win.

    Raises:
        Misuse: both one and several protocols are named.
    """
    path = last_value(argv, "--grid")
    words = argv if path is None else [*grid_words(Path(path), argv), *argv]
    if last_value(words, "--protocol") is not None and last_value(words, "--protocols") is not None:
        raise Misuse("compare: --protocol names one, --protocols several; give one of the two")
    return words


def _by_method(command: Compare) -> dict[str, dict[str, Any]]:
    """``METHOD.FIELD=VALUE`` and ``protocol:NAME.FIELD=VALUE``, by method or protocol and field; values are read as
    ``distill --FIELD VALUE`` or ``evaluate --FIELD VALUE`` reads them.

    Raises:
        Misuse: an entry is written otherwise, or names what is not there, or has a value of the wrong type.
    """
    methods, protocols = ["random", *command.methods], command.protocols or (command.protocol,)
    found: dict[str, dict[str, Any]] = {}
    for entry in command.set:
        key, equals, text = entry.partition("=")
        whose, dot, field = key.rpartition(".")
        if not equals or not dot:
            raise Misuse(f"--set {entry}: write METHOD.FIELD=VALUE, such as dm.iterations=500")
        kind, name, known_names = "method", whose, list(methods)
        if whose.startswith("protocol:"):
            kind, name, known_names = "protocol", whose.removeprefix("protocol:"), list(protocols)
        if name not in known_names:
            raise Misuse(f"--set {entry}: {unknown(f'{kind} of --{kind}s', name, known_names)}")
        part = _options(kind, name, _NAMES_A_PROTOCOL if kind == "protocol" else set())
        options = part.options
        known = {leaf.name: leaf for leaf in _leaves(options)}
        if (leaf := known.get(field.replace("-", "_"))) is None:
            raise Misuse(f"--set {entry}: {kind} {name}: {unknown('option', field, known)}")
        try:
            words = _words(leaf, {"true": True, "false": False}.get(text.lower()) if leaf.switch else text)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                made = tyro.cli(options, args=words, config=_CONFIG)
        except (SystemExit, ValueError) as error:
            see = f"distill --method {name}" if kind == "method" else f"evaluate --protocol {name}"
            raise Misuse(f"--set {entry}: {field} cannot be {text!r}; see potstill {see} --help") from error
        _check_values(part, {leaf.name: getattr(made, leaf.name)})
        found.setdefault(whose, {})[leaf.name] = getattr(made, leaf.name)
    return found


def _check_values(part: _Part, given: Mapping[str, Any]) -> None:
    """Choices and bounds of what is given to a method, as `potstill.core.registry.make_method` will check them.

    Raises:
        Misuse: one is out of them.
    """
    if not part.bounds or part.name == "auto":
        return
    values: Any = SimpleNamespace(**part.bounds, **given)
    hints = typing.get_type_hints(part.options)
    for field in dataclasses.fields(part.options):
        if field.name in given:
            try:
                check_value(f"method {part.name}: {field.name}", values, field, hints[field.name])
            except PotstillError as error:
                raise Misuse(str(error)) from error


def effort_of(argv: Sequence[str], given: Mapping[str, Any]) -> Any:
    """The effort that a command line asks for: where it does not say, published if it says when to stop, else quick."""
    asked = last_value(argv, "--effort") or given.get("effort")
    ends = any(last_value(argv, flag) is not None for flag in ("--steps", "--recipe"))
    return asked or ("published" if ends else "quick")


def _is_plain(value: Any) -> bool:
    """Whether a value can be written on a command line: numbers, words, and tuples of them."""
    entries = value if isinstance(value, tuple) else (value,)
    return all(entry is None or isinstance(entry, bool | int | float | str) for entry in entries)


class _Leaf(NamedTuple):
    """A field that stands on the command line."""

    name: str
    hint: Any
    default: Any
    owner: Any
    """The class that it is a field of; or what it means, where that was read from the source."""

    @property
    def positional(self) -> bool:
        return _POSITIONAL in typing.get_args(self.hint)

    @property
    def switch(self) -> bool:
        """Switched rather than given a value."""
        return _bare(self.hint) is bool

    @property
    def flag(self) -> str:
        return ("--no-" if self.switch and self.default else "--") + self.name.replace("_", "-")

    @property
    def about(self) -> str:
        """What it is, on one line: of a field, the words below it; of a method's option, its help."""
        told = [part.help for part in typing.get_args(self.hint) if getattr(part, "help", None) is not None]
        return " ".join(str(told[0] if told else self.documented).split())

    @property
    def documented(self) -> str:
        """The string below the field in its class."""
        if isinstance(self.owner, str):
            return self.owner
        from potstill.api.listing import field_docs

        return field_docs(self.owner).get(self.name, "")


def _bare(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def _leaves(cls: Any) -> list[_Leaf]:
    """The fields of ``cls``, those of its parts in place of the parts."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found: list[_Leaf] = []
    for field in dataclasses.fields(cls):
        part = _bare(hints[field.name])
        if dataclasses.is_dataclass(part):
            found += _leaves(part)
        elif field.init:
            made = field.default_factory
            default = field.default if made is dataclasses.MISSING else made()
            found.append(_Leaf(field.name, hints[field.name], default, cls))
    return found


def options_of(command: str, kind: str | None = None, name: str = "") -> list[_Leaf]:
    """What follows ``--`` of a command; with a kind, ``method`` or ``protocol``, what the one named adds to that.

    Raises:
        Misuse: there is none of that name.
    """
    own = _leaves(COMMANDS[command][0])
    if kind is None:
        return [leaf for leaf in own if not leaf.positional]
    taken = {leaf.name for leaf in own} | (_NAMES_A_PROTOCOL if kind == "protocol" else set())
    return _leaves(_options(kind, name, taken, with_help=True).options)


def _check_options(argv: Sequence[str], leaves: Sequence[_Leaf], whose: str) -> None:
    """Refuse a word that starts with ``--`` and is no option, and name the nearest that is."""
    flags = {"--help"} | {leaf.flag for leaf in leaves if not leaf.positional}
    for word in argv:
        flag = word.partition("=")[0].replace("_", "-")
        if word.startswith("--") and flag not in flags:
            raise Misuse(f"{whose} has no option {flag}; {meant(flag, flags, 'there are')}")


def last_value(argv: Sequence[str], flag: str) -> str | None:
    """The last value of ``flag`` in ``argv``, before anything is parsed."""
    found = every_value(argv, flag)
    return found[-1] if found else None


def every_value(argv: Sequence[str], flag: str) -> list[str]:
    """The values of ``flag`` in ``argv``, before anything is parsed."""
    found = list[str]()
    for place, word in enumerate(argv, 1):
        if word == flag and place < len(argv):
            found.append(argv[place])
        elif word.startswith(f"{flag}="):
            found.append(word.partition("=")[2])
    return found


def _check_names(command: Command) -> None:
    """Names that stand in the registry are looked up before any data are read."""
    executor, address = getattr(command, "executor", None), getattr(command, "address", None)
    if address is not None and (executor or "").partition(":")[0] != "ray":
        raise Misuse(f"--address {address} is of a Ray cluster; add --executor ray or leave it out")
    wanted: dict[str, list[str | None]] = {}
    match command:
        case Making():
            wanted = {"augmentations": [command.augment], "parametrizations": [command.parametrization]}
        case Score():
            wanted = {"methods": [*command.methods]}
        case Compare():
            wanted = {
                "protocols": [command.protocol, *(command.protocols or ())], "methods": [*command.methods],
                # NAME=PARAMETRIZATION is of one part of the inputs
                "parametrizations": [s for s in command.parametrizations or () if "=" not in s.partition(":")[0]],
            }  # fmt: skip
        case _:
            pass
    if executor is not None:
        wanted = {**wanted, "executors": [executor]}
    if not wanted:
        return
    for group in typing.get_args(Group):
        for name in wanted.get(group, []):
            if name is None or (group == "methods" and names_file(name)):
                continue  # looked up where it is used
            if name.partition(":")[0] not in names(group):
                raise Misuse(str(unknown(group[:-1], name, names(group))))


def _check_numbers(name: str, command: Command) -> None:
    """Every number that counts something is at least 1."""
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if type(value) is int and value < 1 and field.name not in _MAY_BE_LESS:
            raise Misuse(f"{name}: --{field.name.replace('_', '-')} must be at least 1, but it is {value}")


def _from_recipe(
    both: Any, part: _Part, argv: Sequence[str], path: str, given: Mapping[str, Any], command: str
) -> list[str]:
    """The recipe as words of a command line; where they cannot be read, the error names the entry that cannot.

    ``plan`` reads the recipes of ``distill`` and leaves out what only that takes.
    """
    known = {leaf.name: leaf for leaf in _leaves(both) if leaf.name not in _NOT_IN_A_RECIPE}
    cls: Any = COMMANDS[command][0]
    needed = {"data": "", "out": Path()}
    nothing = both(cls(**{n: needed[n] for n in needed if n in cls.__dataclass_fields__}), part.options())
    left_out = {leaf.name for leaf in _leaves(Distill)} - known.keys() - _NOT_IN_A_RECIPE

    def read(words: Sequence[str]) -> Any:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(both, args=list(words), default=nothing, config=_CONFIG)

    entries: dict[str, list[str]] = {}
    for name, value in given.items():
        if name in left_out:
            continue
        if name not in known:
            raise Misuse(f"{path}: no option is called {name!r}; {meant(name, known, 'there are')}")
        try:
            entries[name] = _words(known[name], value)
        except ValueError as error:
            raise Misuse(f"{path}: {name} cannot be {value!r}; see potstill {command} --help") from error
    try:
        read([word for entry in entries.values() for word in entry])
    except SystemExit:  # which of them is it?
        for name, entry in entries.items():
            try:
                read(entry)
            except SystemExit as error:
                raise Misuse(f"{path}: {name} cannot be {given[name]!r}; see potstill {command} --help") from error
    words: list[str] = []
    for name, entry in entries.items():
        if not known[name].positional:
            words += entry
        elif not _gives_data(argv, read):  # two positional words would be one too many
            words = [*entry, *words]
    return words


def _gives_data(argv: Sequence[str], read: Callable[[Sequence[str]], Any]) -> bool:
    try:
        return bool(read(argv).command.data)
    except SystemExit:  # --help, or misuse that the parse of the whole line says more of
        return False


def _words(leaf: _Leaf, value: Any) -> list[str]:
    """One entry of a recipe as words of a command line.

    Raises:
        ValueError: a switch is neither true nor false.
    """
    if leaf.positional:
        return [str(value)]
    if leaf.switch:
        if not isinstance(value, bool):
            raise ValueError
        return [] if value == leaf.default else [leaf.flag]
    return [leaf.flag, *map(str, value if isinstance(value, list) else [value])]
