"""Recipes: YAML mappings of ``distill``'s options, so that a run can be repeated."""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from potstill._util.formatting import OPTION_NAMES
from potstill.cli.command import Misuse
from potstill.cli.commands import command_class
from potstill.cli.options import TYRO_CONFIG, option_fields, to_words
from potstill.errors import PotstillError, suggestion

__all__ = ["find_recipe", "read_recipe", "recipe_words"]

_FOLDERS = (".", "imagenet-1k", "imagenet-21k", "pairs", "series")
"""Folders of the recipes that come with Potstill."""
_EXCLUDED = {"debug", "force", "json", "limit", "quiet", "recipe", "resume"}
"""Options that no recipe may have."""


def find_recipe(path: Path) -> Path:
    """Return the file that ``--recipe`` names: an existing one, or one that comes with Potstill (``dm``,
    ``recipes/dm.yaml``, ``imagenet-1k/edc``)."""
    inside = path.parent.relative_to("recipes") if path.parent.parts[:1] == ("recipes",) else path.parent
    if path.exists() or path.suffix not in ("", ".yaml") or str(inside) not in _FOLDERS:
        return path
    package = Path(__file__).resolve().parents[1]
    folders = (package / "recipes", package.parents[1] / "recipes")  # of a wheel, and of a checkout
    return next((at for folder in folders if (at := folder / inside / f"{path.stem}.yaml").is_file()), path)


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the entries of the recipe at ``path``; keys may be written with ``-`` or ``_``.

    Raises:
        PotstillError: it cannot be read, is not YAML, is not a mapping, or names one option twice.
    """
    from potstill._util.safe_yaml import read_yaml  # only where there is a recipe

    path = find_recipe(path)
    hint = "write one 'option: value' a line"
    found = read_yaml(
        path, "the recipe", hint if path.is_file() else "give the path of a YAML file, or a name such as dm"
    )
    if not isinstance(found, dict):
        raise PotstillError(
            f"{path}: a recipe is a mapping of options, found {type(found).__name__}; write 'method: dm'"
        )
    entries: dict[str, Any] = {}
    for key, value in found.items():
        name = str(key).replace("-", "_")
        if name in entries:
            raise PotstillError(f"{path}: the option {key!r} stands there twice; keep one")
        entries[name] = value
    return entries


def recipe_words(
    both: Any, options: Any, argv: Sequence[str], path: str, recipe: Mapping[str, Any], command: str
) -> list[str]:
    """Return the recipe as words of a command line.

    ``plan`` reads the recipes of ``distill`` and skips options that only ``distill`` has.

    Args:
        both: the dataclass of the command and of its method's options.
        options: the dataclass of the method's options alone.
        argv: the words of the command line.
        path: the recipe's path, for messages.
        recipe: its entries.
        command: the command's name.

    Raises:
        Misuse: an entry that is no option, or has a value of the wrong type.
    """
    fields = {field.name: field for field in option_fields(both) if field.name not in _EXCLUDED}
    known = fields | {OPTION_NAMES[name]: field for name, field in fields.items() if name in OPTION_NAMES}
    cls: Any = command_class(command)
    required = {"data": "", "out": Path()}
    empty = both(cls(**{n: required[n] for n in required if n in cls.__dataclass_fields__}), options())
    skipped = {field.name for field in option_fields(command_class("distill"))} - known.keys() - _EXCLUDED

    def read(words: Sequence[str]) -> Any:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return tyro.cli(both, args=list(words), default=empty, config=TYRO_CONFIG)

    def refusal(name: str) -> Misuse:
        return Misuse(f"{path}: {name} cannot be {recipe[name]!r}; see potstill {command} --help")

    entries: dict[str, list[str]] = {}
    for name, value in recipe.items():
        if name in skipped:
            continue
        if name not in known:
            raise Misuse(f"{path}: no option is called {name!r}; {suggestion(name, known, 'there are')}")
        try:
            entries[name] = to_words(known[name], value)
        except ValueError as error:
            raise refusal(name) from error
    try:
        read([word for entry in entries.values() for word in entry])
    except SystemExit:  # which of them is it?
        for name, entry in entries.items():
            try:
                read(entry)
            except SystemExit as error:
                raise refusal(name) from error
    words: list[str] = []
    for name, entry in entries.items():
        if not known[name].is_positional:
            words += entry
        elif not _gives_data(argv, read):  # two positional words would be one too many
            words = [*entry, *words]
    return words


def _gives_data(argv: Sequence[str], read: Callable[[Sequence[str]], Any]) -> bool:
    try:
        return bool(read(argv).command.data)
    except SystemExit:  # --help, or misuse that parsing the whole line explains better
        return False
