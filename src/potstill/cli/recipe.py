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
    import yaml  # only where there is a recipe

    path = find(path)
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise PotstillError(
            f"{path}: cannot read the recipe ({reason}); give the path of a YAML file, or a name such as dm"
        ) from error
    except (RecursionError, ValueError) as error:  # no end of brackets; a date or number that there is not
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise PotstillError(f"{path}: cannot read the recipe ({what}); write one 'option: value' a line") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise PotstillError(f"{path}: not YAML{where}; write one 'option: value' a line") from error
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
