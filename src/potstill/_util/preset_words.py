"""The preset, settings and recipe of a run in words: ``published, but iterations 700``."""

import json
import shlex
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

__all__ = ["describe_preset", "recipe_name"]


def describe_preset(preset: object, config: Mapping[str, Any], outcome: Mapping[str, Any] | None = None) -> str:
    """Return a preset with what differs from it, or ``given`` where the method was given with all of its fields.

    Metadata are text of a stranger: what is missing or of another type is left out.

    Args:
        preset: the metadata's ``preset``: its ``name``, and the names of fields that are ``changed``.
        config: the metadata's ``config``: values of the method's fields.
        outcome: the metadata's ``outcome``: its ``kind``, and the ``step`` that was reached. ``None``: not known.
    """
    if not isinstance(preset, Mapping) or not isinstance(preset.get("name"), str):
        return "given"
    changed = preset.get("changed")
    names = [name for name in changed if isinstance(name, str)] if isinstance(changed, list) else []
    differs = [f"{name} {_format_value(config[name])}" for name in names if name in config]
    if outcome is not None and outcome.get("kind", "finished") != "finished":
        differs.append(f"ended at step {outcome.get('step')}")
    return f"{preset['name']}, but {', '.join(differs)}" if differs else str(preset["name"])


def _format_value(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, default=str)


def recipe_name(command: object) -> str | None:
    """Return the recipe that a stored command names; ``None``: it names none, or cannot be read."""
    try:
        words = shlex.split(command) if isinstance(command, str) else []
    except ValueError:
        return None
    for word, following in pairwise((*words, "")):
        name, equals, value = word.partition("=")
        if name.startswith("--") and name[2:] == "recipe":
            return (value if equals else following) or None
    return None
