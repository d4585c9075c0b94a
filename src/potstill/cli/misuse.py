"""One line about words that tyro cannot parse: a missing option, or a value that is missing or of the wrong type."""

import dataclasses
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tyro.constructors import PrimitiveConstructorSpec

from potstill.cli.help import annotations, option_choices, option_help
from potstill.cli.options import OptionField
from potstill.errors import closest_names

__all__ = ["describe_misuse"]


def describe_misuse(owner: str, fields: Sequence[OptionField], words: Sequence[str], printed: str) -> str:
    """Return what is wrong with the words of a command line.

    Args:
        owner: command, with the method or protocol whose options it has, too.
        fields: its arguments and options.
        words: words after the command's name.
        printed: what tyro printed, for what is not foreseen here.
    """
    by_flag = {field.flag: field for field in fields if not field.is_positional}
    for place, option in enumerate(words):
        flag, equals, value = option.partition("=")
        field = by_flag.get(flag.replace("_", "-")) if option.startswith("--") else None
        if field is None or field.is_switch:
            continue
        values = [value] if equals else _values(words[place + 1 :])
        if not values:
            return f"{owner}: {field.flag} needs a value; write {option_help(field).spelled}"
        for text in values if typing.get_origin(_plain(field.hint)) is tuple else values[:1]:
            if (problem := _problem(field.hint, text)) is not None:
                return f"{owner}: {field.flag} {text[:60]}: {problem}"
    first = next((field for field in fields if field.is_positional), None)
    word = "" if not words or words[0].startswith("-") else words[0]
    if first is not None and word and (problem := _problem(first.hint, word)) is not None:
        return f"{owner} {word[:60]}: {problem}"
    given = {option.partition("=")[0].replace("_", "-") for option in words}
    missing = [field for field in fields if field.default is dataclasses.MISSING and field.flag not in given]
    lacking = [option_help(field).spelled for field in missing if not field.is_positional]
    if not word:
        lacking = [option_help(field).flag for field in missing if field.is_positional] + lacking
    if lacking:
        add = f"add {'it' if len(lacking) == 1 else 'them'}, or see potstill {owner.partition(' ')[0]} --help"
        return f"{owner} needs {' and '.join(lacking)}; {add}"
    return f"{owner}: {' '.join(re.sub('[│╭╮╰╯─]', ' ', printed).split())[:300]}"


def _values(words: Sequence[str]) -> list[str]:
    """Return the words before the next option."""
    values: list[str] = []
    for word in words:
        if word.startswith("--"):
            break
        values.append(word)
    return values


def _plain(hint: Any) -> Any:
    """Return a type without its annotation, and without None."""
    while hasattr(hint, "__metadata__"):
        hint = typing.get_args(hint)[0]
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    return _plain(parts[0]) if type(None) in typing.get_args(hint) and len(parts) == 1 else hint


def _problem(hint: Any, text: str) -> str | None:
    """Return why ``text`` is not a value of this type; None if it is one."""
    for part in annotations(hint):
        if isinstance(part, PrimitiveConstructorSpec):
            try:
                part.instance_from_str([text])
            except ValueError as error:
                return str(error)
            return None
    if choices := option_choices(hint):
        near = " ".join(f"did you mean {name}?" for name in closest_names(text, choices, most=1))
        return None if text in choices else f"must be one of {', '.join(choices)}; {near or 'choose one of them'}"
    types = {_plain(hint), *map(_plain, typing.get_args(_plain(hint)))}
    if types & {str, Path}:
        return None
    if float in types:
        return None if _is(float, text) else "must be a number; write it with digits, such as 0.01"
    if int in types:
        return None if _is(int, text) else "must be a whole number; write it with digits, such as 10"
    return None


def _is(kind: type[int] | type[float], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True
