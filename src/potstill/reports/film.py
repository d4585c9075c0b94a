"""Pictures of a set while it was made: a row of steps to choose from, and what they looked like there.

Steps are chosen with radio buttons and a style sheet, so the arrow keys move through them and no script runs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from safetensors import SafetensorError, safe_open

from potstill.errors import PotstillError
from potstill.markup import Html, tag
from potstill.reports.numbers import count
from potstill.reports.parallel import called
from potstill.reports.strips import strip

__all__ = ["Film", "film_beside", "film_section"]

_FORMAT, _MOST, _BYTES = "potstill-film/1", 9, 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """Some pictures of a set at a few steps.

    Attributes:
        steps: how many had been made, ascending.
        pictures: of each step, of the same items.
        labels: the class of each.
        classes: names; none where there are no classes.
    """

    steps: tuple[int, ...]
    pictures: tuple[UInt8[np.ndarray, "n c h w"], ...]
    labels: Int[np.ndarray, " n"]
    classes: tuple[str, ...]


def film_beside(path: Path) -> Film | None:
    """The film of the set at ``path``, from ``….safetensors.film``; ``None`` where there is none.

    Raises:
        PotstillError: it is damaged.
    """
    file = path.with_name(f"{path.name}.film")
    if not file.is_file():
        return None
    try:
        if file.stat().st_size > _BYTES:
            raise ValueError(f"more than {_BYTES:,} bytes")
        with safe_open(file, framework="np") as held:
            said: Mapping[str, Any] = json.loads((held.metadata() or {}).get("film", ""))
            if said["format"] != _FORMAT or not 0 < len(said["steps"]) <= _MOST:
                raise ValueError(f"its format is not {_FORMAT}")
            steps = tuple(int(step) for step in said["steps"])
            pictures = tuple(held.get_tensor(f"stage/{n}") for n in range(len(steps)))
            labels, classes = held.get_tensor("labels"), tuple(map(str, said["classes"]))
        shape = pictures[0].shape
        whole = all(x.dtype == np.uint8 and x.ndim == 4 and x.shape == shape and x.size for x in pictures)
        named = labels.dtype == np.int64 and labels.shape == shape[:1] and 0 <= labels.min() <= labels.max()
        if not whole or not named or labels.max() >= max(1, len(classes)) or list(steps) != sorted({*steps}):
            raise ValueError("its pictures do not fit together")
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        said_of = " ".join(str(error).split())[:120]
        raise PotstillError(f"{file}: no film of a set, or damaged ({said_of}); delete it, or distil again") from error
    return Film(steps=steps, pictures=pictures, labels=labels, classes=classes)


def film_section(film: Film, key: str, of: str = "", over: bool = True) -> list[Html]:
    """A row of steps, the last one chosen, and the pictures at each.

    Args:
        key: names the row's buttons: its own on a page.
        of: whose pictures they are, where a page shows several.
        over: the run has ended.
    """
    buttons, stages = [], []
    for n, (step, pictures) in enumerate(zip(film.steps, film.pictures, strict=True)):
        last = n == len(film.steps) - 1
        button = tag("input", type="radio", name=f"film-{key}", checked="" if last else None)
        buttons.append(tag("label", button, tag("span", count(step))))
        when = tag("p", _when(step, last, over), class_="when")
        stages.append(tag("div", when, *_shelf(film, pictures, step, of), class_="stage"))
    legend = tag("legend", called("Pictures after so many steps", of))
    row = tag("fieldset", legend, tag("div", *buttons, class_="steps"))
    note = (
        "Each stage has about twice the steps of the one before. Pictures are shown before they are written in fewer "
        "bits; arrow keys move from step to step."
    )
    return [tag("div", row, *stages, class_="film"), tag("p", note, class_="note")]


def _when(step: int, last: bool, over: bool) -> str:
    if step == 0:
        return "Before the first step."
    latest = (", the last" if over else ", the latest as yet") if last else ""
    return f"After {count(step)} step{'' if step == 1 else 's'}{latest}."


def _shelf(film: Film, pictures: np.ndarray, step: int, of: str) -> list[Html]:
    """The pictures of one step, class by class."""
    shown = pictures.astype(np.float32) / 255
    figures = []
    for c in sorted(set(film.labels.tolist())):
        name = film.classes[c] if film.classes else ""
        what = ", ".join(part for part in (of, name, f"after {count(step)} steps") if part)
        caption = tag("figcaption", tag("bdi", name)) if name else None
        figures.append(tag("figure", *([caption] if caption else []), strip(shown[film.labels == c], what)))
    return [tag("div", *figures, class_="cast")]
