"""Inputs of a set while it was made: a row of steps to choose from, and the inputs at each.

Steps are selected with radio buttons and a style sheet, so the arrow keys work and no script runs.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from safetensors import SafetensorError, safe_open

from potstill._util.html import Html, tag
from potstill.errors import PotstillError
from potstill.reports.drawings import draw_window, image_strip, labelled, parallel_axes
from potstill.reports.numbers import format_count
from potstill.reports.tables import note

__all__ = ["Snapshots", "load_snapshots", "snapshots_section"]

_FORMAT, _MOST, _BYTES = "potstill-film/1", 9, 8 * 2**20
_DTYPES = {4: np.uint8, 2: np.float32, 3: np.float32}
"""By number of axes: images, rows, windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    """Some inputs of a set at a few steps.

    Attributes:
        steps: numbers of steps, ascending.
        stages: of each step, the same items: images uint8 (n, c, h, w), rows float32 (n, d), or windows of a series
            float32 (n, v, t), both in the data's units and finite.
        labels: the class of each.
        classes: names; empty without classes.
        columns: names of the rows' columns or of the windows' variables; may be empty.
    """

    steps: tuple[int, ...]
    stages: tuple[Shaped[np.ndarray, "n *shape"], ...]
    labels: Int[np.ndarray, " n"]
    classes: tuple[str, ...]
    columns: tuple[str, ...] = ()

    @property
    def noun(self) -> str:
        """Plural noun of its inputs."""
        return {4: "pictures", 2: "rows", 3: "windows"}[self.stages[0].ndim]


def load_snapshots(path: Path) -> Snapshots | None:
    """Return the snapshots of the set at ``path``, from ``….safetensors.film``; ``None`` if there are none.

    Raises:
        PotstillError: the file is damaged.
    """
    file = path.with_name(f"{path.name}.film")
    if not file.is_file():
        return None
    try:
        if file.stat().st_size > _BYTES:
            raise ValueError(f"more than {_BYTES:,} bytes")
        with safe_open(file, framework="np") as held:
            metadata: Mapping[str, Any] = json.loads((held.metadata() or {}).get("film", ""))
            if metadata["format"] != _FORMAT or not 0 < len(metadata["steps"]) <= _MOST:
                raise ValueError(f"its format is not {_FORMAT}")
            steps = tuple(int(step) for step in metadata["steps"])
            stages = tuple(held.get_tensor(f"stage/{n}") for n in range(len(steps)))
            labels, classes = held.get_tensor("labels"), tuple(map(str, metadata["classes"]))
            columns = tuple(map(str, metadata.get("columns", ())))
        shape, dtype = stages[0].shape, _DTYPES.get(stages[0].ndim)
        whole = all(x.dtype == dtype and x.shape == shape and x.size for x in stages)
        named = labels.dtype == np.int64 and labels.shape == shape[:1] and 0 <= labels.min() <= labels.max()
        if not whole or not named or labels.max() >= max(1, len(classes)) or list(steps) != sorted({*steps}):
            raise ValueError("its stages do not fit together")
        if dtype == np.float32 and not all(np.isfinite(x).all() for x in stages):
            raise ValueError("its values are not finite")
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        said_of = " ".join(str(error).split())[:120]
        why = f"no snapshots of a set, or damaged ({said_of}); delete it, or distil again"
        raise PotstillError(f"{file}: {why}") from error
    return Snapshots(steps=steps, stages=stages, labels=labels, classes=classes, columns=columns)


def snapshots_section(film: Snapshots, key: str, of: str = "", over: bool = True) -> list[Html]:
    """Return a row of steps, the last one selected, and the inputs at each.

    Args:
        key: unique name of the row's buttons on the page.
        of: whose inputs they are, on pages with several sets.
        over: the run has ended.
    """
    buttons, stages = [], []
    for n, (step, stage) in enumerate(zip(film.steps, film.stages, strict=True)):
        last = n == len(film.steps) - 1
        button = tag("input", type="radio", name=f"film-{key}", checked="" if last else None)
        buttons.append(tag("label", button, tag("span", format_count(step))))
        when = tag("p", _when(step, last, over), class_="when")
        stages.append(tag("div", when, *_DRAWN[film.noun](film, stage, step, of), class_="stage"))
    legend = tag("legend", labelled(f"{film.noun.capitalize()} after so many steps", of))
    row = tag("fieldset", legend, tag("div", *buttons, class_="steps"))
    scale = "" if film.noun == "pictures" else " Scales are the same at every step."
    text = (
        f"Each stage has about twice the steps of the one before. {film.noun.capitalize()} are shown before they are "
        f"written in fewer bits; arrow keys move from step to step.{scale}"
    )
    return [tag("div", row, *stages, class_="film"), note(text)]


def _when(step: int, last: bool, over: bool) -> str:
    if step == 0:
        return "Before the first step."
    latest = (", the last" if over else ", the latest as yet") if last else ""
    return f"After {format_count(step)} step{'' if step == 1 else 's'}{latest}."


def _shelf(film: Snapshots, pictures: np.ndarray, step: int, of: str) -> list[Html]:
    """Return the images of one step, class by class."""
    shown = pictures.astype(np.float32) / 255
    figures = []
    for c in sorted(set(film.labels.tolist())):
        name = film.classes[c] if film.classes else ""
        what = _name(of, name, f"after {format_count(step)} steps")
        caption = tag("figcaption", tag("bdi", name)) if name else None
        figures.append(tag("figure", *([caption] if caption else []), image_strip(shown[film.labels == c], what)))
    return [tag("div", *figures, class_="cast")]


def _lines(film: Snapshots, rows: np.ndarray, step: int, of: str) -> list[Html]:
    """Return the rows of one step over parallel axes."""
    every = np.concatenate(film.stages)
    d = rows.shape[1]
    names = film.columns if len(film.columns) == d else tuple(f"column {j + 1}" for j in range(d))
    what = _name(of, f"after {format_count(step)} steps")
    lines = parallel_axes(rows, names, film.labels, film.classes, what, (every.min(0), every.max(0)))
    return [note("Rows of one column alone are not drawn.") if lines is None else lines]


def _windows(film: Snapshots, windows: np.ndarray, step: int, of: str) -> list[Html]:
    """Return the windows of one step, each variable of each on one scale over all steps."""
    every = np.stack(film.stages).astype(np.float64)
    low, high, v = every.min((0, 3)), every.max((0, 3)), windows.shape[1]
    names = film.columns if len(film.columns) == v else tuple(f"variable {j + 1}" for j in range(v))
    after = f"after {format_count(step)} steps"
    drawn = []
    for i, window in enumerate(windows):
        name, number = film.classes[film.labels[i]] if film.classes else "", f"window {i + 1}"
        drawn.append(
            draw_window(window, None, names, _name(of, number, name, after), name or number, (low[i], high[i]))
        )
    return [tag("ul", *drawn, class_="items windows")]


def _name(*parts: str) -> str:
    """Return an accessible name of the parts that are not empty."""
    return ", ".join(filter(None, parts))


_DRAWN: Mapping[str, Callable[[Snapshots, np.ndarray, int, str], list[Html]]] = {
    "pictures": _shelf,
    "rows": _lines,
    "windows": _windows,
}
