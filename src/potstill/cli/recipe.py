"""Recipes: a YAML mapping of ``distill``'s options, so that a run that was worth something can be repeated."""

from pathlib import Path
from typing import Any

from potstill.errors import PotstillError

__all__ = ["find", "read"]


def find(path: Path) -> Path:
    """The file ``--recipe`` names: one that is there, or comes with Potstill (``dm``, ``recipes/dm.yaml``,
    ``imagenet-1k/edc``)."""
    inside = path.parent.relative_to("recipes") if path.parent.parts[:1] == ("recipes",) else path.parent
    if path.exists() or path.suffix not in ("", ".yaml") or str(inside) not in (".", "imagenet-1k", "imagenet-21k"):
        return path
    package = Path(__file__).resolve().parents[1]
    folders = (package / "recipes", package.parents[1] / "recipes")  # of a wheel, and of a checkout
    return next((at for folder in folders if (at := folder / inside / f"{path.stem}.yaml").is_file()), path)


def read(path: Path) -> dict[str, Any]:
    """The entries of the recipe at ``path``; keys may be written with ``-`` or ``_``.

    Raises:
        PotstillError: it cannot be read, is not YAML, is not a mapping, or names one option twice.
    """
    from potstill._util.safe_yaml import read_yaml  # only where there is a recipe

    path = find(path)
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
