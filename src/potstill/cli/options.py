"""Options as values: the fields of a command's dataclass, and words of a command line before they are parsed."""

import dataclasses
import typing
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes

from potstill._util.field_docs import field_docs
from potstill._util.formatting import option_name

__all__ = ["NAME_GROUPS", "TYRO_CONFIG", "OptionField", "every_value", "last_value", "option_fields", "to_words"]

TYRO_CONFIG = (FlagCreatePairsOff, OmitArgPrefixes)
NAME_GROUPS: dict[str, Any] = {
    "method": "methods", "methods": "methods", "network": "networks", "protocol": "protocols", "protocols": "protocols",
    "augment": "augmentations", "parametrization": "parametrizations", "parametrizations": "parametrizations",
    "codec": "codecs", "codecs": "codecs", "executor": "executors",
}  # fmt: skip
"""Groups of the registry whose names are values of an option."""
_POSITIONAL = typing.get_args(tyro.conf.Positional[str])[1]


class OptionField(NamedTuple):
    """A field of a dataclass that stands on the command line."""

    name: str
    hint: Any
    default: Any
    owner: type
    """The class that declares it."""

    @property
    def is_positional(self) -> bool:
        return _POSITIONAL in typing.get_args(self.hint)

    @property
    def is_switch(self) -> bool:
        """True for a flag without a value."""
        return _without_annotation(self.hint) is bool

    @property
    def flag(self) -> str:
        return ("--no-" if self.is_switch and self.default else "--") + option_name(self.name)

    @property
    def about(self) -> str:
        """Its help on one line: of a method's option what tyro is told, else the docstring."""
        texts = [part.help for part in typing.get_args(self.hint) if getattr(part, "help", None) is not None]
        return " ".join(str(texts[0] if texts else self.docstring).split())

    @property
    def docstring(self) -> str:
        """The string below the field in its class."""
        return field_docs(self.owner).get(self.name, "")


def _without_annotation(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def option_fields(cls: Any) -> list[OptionField]:
    """Return the fields of ``cls``; fields of nested dataclasses stand in place of these."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: list[OptionField] = []
    for field in dataclasses.fields(cls):
        nested = _without_annotation(hints[field.name])
        if dataclasses.is_dataclass(nested):
            fields += option_fields(nested)
        elif field.init:
            factory = field.default_factory
            default = field.default if factory is dataclasses.MISSING else factory()
            fields.append(OptionField(field.name, hints[field.name], default, cls))
    return fields


def to_words(field: OptionField, value: Any) -> list[str]:
    """Return an option with its value as words of a command line.

    Raises:
        ValueError: the value of a switch is neither true nor false.
    """
    if field.is_positional:
        return [str(value)]
    if field.is_switch:
        if not isinstance(value, bool):
            raise ValueError
        return [] if value == field.default else [field.flag]
    return [field.flag, *map(str, value if isinstance(value, list) else [value])]


def every_value(words: Sequence[str], flag: str) -> list[str]:
    """Return the values of ``flag`` in ``words``, before anything is parsed."""
    values = list[str]()
    for following, word in enumerate(words, 1):
        if word == flag and following < len(words):
            values.append(words[following])
        elif word.startswith(f"{flag}="):
            values.append(word.partition("=")[2])
    return values


def last_value(words: Sequence[str], flag: str) -> str | None:
    """Return the last value of ``flag`` in ``words``, or ``None``."""
    values = every_value(words, flag)
    return values[-1] if values else None
