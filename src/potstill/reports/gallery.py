"""Distilled inputs: images by class as inline PNG, rows of a table, and items of sets without classes."""

from collections.abc import Sequence

import numpy as np

from potstill._util.graph_drawing import draw_graph
from potstill._util.html import Html, join_html, tag
from potstill._util.notebook_repr import inline_image
from potstill.reports.boxes import boxed_pictures
from potstill.reports.clips import PLAYED, clip_players
from potstill.reports.drawings import (
    describe_ranges,
    draw_window,
    labelled,
    parallel_axes,
    scroll_box,
    window_keys,
)
from potstill.reports.entry import Gallery
from potstill.reports.masks import masked_pictures
from potstill.reports.sounds import HEARD, SOUND_KIND, sound_players
from potstill.reports.tables import bare_table, note, row, word_cell, word_head

__all__ = ["gallery", "shown"]

_MOST_PICTURES, _MOST_PER_CLASS, _MOST_CLASSES, _MOST_COLUMNS = 240, 12, 100, 40
_LONGEST = 128
_LONGEST_TEXT, _LARGEST = 600, 3
"""Characters of a text, and classes of a soft label, that a page shows."""
_WEIGHTS = "The numbers are weights: how much an input counts in training, over the mean of the set."
_NODE = "node"
"""Kind of the nodes of a graph."""
_SIGNAL = "signal"
"""Kind of whole series with a class each."""
_GRAPH = "graph"
"""Kind of whole graphs with a class each."""
_USERS = "ratings"
"""Kind of users with lists of items."""
_PAIR = "pair"
"""Kind of images with a text each."""
_BASES, _UNITS_OF_BASES, _EQUAL = "ACGT", "bases", 1e-6
"""Channels of sequences of bases, and the difference below which all are called equal."""
_ITEMS = 16
"""Items of a user that a page shows."""
_STRONGEST = 8
"""Features of a node that a page shows."""
_FEW = 4
"""Up to so many images of a class are drawn larger, and classes stand side by side."""
_LEARNED = "; their texts are learned vectors, and ≈ stands before the real caption that is nearest to each"


def shown(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return how many inputs of each class a page shows: 12 at most, fewer with many classes."""
    each = max(1, min(_MOST_PER_CLASS, _MOST_PICTURES // max(1, min(len(sizes), _MOST_CLASSES))))
    return tuple(min(size, each) if c < _MOST_CLASSES else 0 for c, size in enumerate(sizes))


def _tile(g: Gallery, i: int, alt: str, side: int) -> Html:
    """Return an image, with its weight below if it has one."""
    if g.weights is None:
        return inline_image(g.inputs[i], alt, side, _LONGEST)
    weight = f"×{g.weights[i]:.3g}"
    drawn = inline_image(g.inputs[i], f"{alt}, weight {weight}", side, _LONGEST)
    return tag("span", drawn, tag("small", weight), class_="weighed")


def _scores(score_range: tuple[float, float]) -> str:
    low, high = (f"{end:.2f}".replace("-", "−") for end in score_range)
    return (
        f"Labels are scores, from {low} to {high}: real numbers in which a hard label is one-hot − "
        "1/k. Cross-entropy reads the nearest rows of probabilities; each input stands with its highest class."
    )


def _more(total: int, displayed: int, noun: str) -> str:
    return f"{total:,} {noun}" if total == displayed else f"{displayed:,} of {total:,} shown"


def _pictures(g: Gallery) -> list[Html]:
    hard, sizes = g.hard_labels, g.sizes
    is_sound = g.kind == SOUND_KIND
    most = max(shown(sizes), default=0)
    wanted = 84 if most <= _FEW else 56
    players = sound_players(g) if is_sound else clip_players(g, wanted)
    noun = "sound" if is_sound else "clip" if players else "picture"
    shelves: list[Html] = []
    for c, (name, take) in enumerate(zip(g.classes, shown(sizes), strict=True)):
        index = np.flatnonzero(hard == c)[:take].tolist()
        if not take:
            continue
        tiles = [_tile(g, i, f"{name}, {k + 1} of {sizes[c]}", wanted) for k, i in enumerate(index)]
        heard = zip(index, tiles, strict=True)
        tiles = [tag("span", tile, players[i], class_="heard") if i in players else tile for i, tile in heard]
        label = tag(
            "div",
            tag("bdi", name),
            tag("small", _more(sizes[c], len(index), noun if sizes[c] == 1 else f"{noun}s")),
            class_="name",
        )
        shelves.append(tag("li", label, tag("div", *tiles, class_="tiles")))
    notes = [HEARD] if is_sound else [PLAYED] if players else []
    if hidden := sum(size > 0 for size in sizes) - len(shelves):
        notes.append(f"{hidden:,} more classes are in the file.")
    channels, height, width = g.inputs.shape[1:]
    if max(height, width) > _LONGEST:
        notes.append(f"Shown smaller than they are ({height}×{width}).")
    if channels not in (1, 3):
        notes.append(f"Shown with {1 if channels < 3 else 3} of their {channels} channels.")
    outside = float(np.mean((g.inputs < 0) | (g.inputs > 1))) if g.inputs.size else 0.0
    if outside >= 0.0005:
        notes.append(
            f"{100 * outside:.1f}% of the values lie outside the range of a {'spectrogram' if is_sound else 'pixel'} "
            "and are clipped for showing."
        )
    if g.weights is not None:
        notes.append(_WEIGHTS)
    if g.scores is not None:
        notes.append(_scores(g.scores))
    elif g.labels.ndim == 2:
        notes.append(f"Labels are rows of probabilities; {noun}s stand with their most probable class.")
    shelf = tag("ul", *shelves, class_="shelf")
    if most <= _FEW:
        side = min(max(height, width), _LONGEST)
        room = max(most * (side * max(1, round(wanted / side)) + 4), 240 if is_sound and players else 0)
        shelf = tag("ul", *shelves, class_="shelf few", style=f"--room:{room}px")
    return [shelf, *([note(" ".join(notes))] if notes else [])]


def _rows(g: Gallery, of: str) -> list[Html]:
    flat = g.inputs.reshape(len(g.inputs), -1)
    columns = g.columns if len(g.columns) == flat.shape[1] else tuple(f"column {j + 1}" for j in range(flat.shape[1]))
    kept = columns[:_MOST_COLUMNS]
    weights = [] if g.weights is None else ["weight"]

    told = g.cell_columns[:_MOST_COLUMNS] if g.cells else kept

    def cells(i: int) -> list[str]:
        first = [] if g.weights is None else [f"×{g.weights[i]:.3g}"]
        return [*first, *_cells(g, i, flat[i, : len(kept)])]

    body = [
        row(name, *cells(i))
        for c, (name, take) in enumerate(zip(g.classes, shown(g.sizes), strict=True))
        for i in np.flatnonzero(g.hard_labels == c)[:take].tolist()
    ]
    head = ["class", *(tag("bdi", name) for name in weights), *_heads(g, told)]
    table = bare_table("Distilled rows by class", head, body)
    drawn = [i for c, take in enumerate(shown(g.sizes)) for i in np.flatnonzero(g.hard_labels == c)[:take].tolist()]
    lines = parallel_axes(flat[drawn], columns, g.hard_labels[drawn].astype(np.int64), g.classes, of)
    text = f"{len(body):,} of {sum(g.sizes):,} rows"
    every = g.cell_columns if g.cells else columns
    if len(told) < len(every):
        text += f", {len(told)} of {len(every):,} columns"
    text += f", in the data's own units.{f' {_WEIGHTS}' if weights else ''}"
    text += "" if g.scores is None else f" {_scores(g.scores)}"
    return [scroll_box(table, labelled("Distilled rows", of)), note(text), *([] if lines is None else [lines])]


def _heads(g: Gallery, names: Sequence[str]) -> list[Html]:
    return [word_head(name) if name in g.words else tag("bdi", name) for name in names]


def _cells(g: Gallery, i: int, values: np.ndarray) -> Sequence[str]:
    """Return the cells of a row: as they stand in its source, or the numbers."""
    if not g.cells:
        return [f"{x:.4g}" for x in values]
    cells = zip(g.cell_columns, g.cells[i], strict=True)
    return [word_cell(text) if name in g.words else tag("bdi", text) for name, text in cells][:_MOST_COLUMNS]


def _letters(g: Gallery, of: str) -> list[Html]:
    """Return sequences by class: the base of the largest value at each place."""
    body = []
    for c, (name, take) in enumerate(zip(g.classes, shown(g.sizes), strict=True)):
        for i in np.flatnonzero(g.hard_labels == c)[:take].tolist():
            text = _read_bases(g.inputs[i][:, :_LONGEST_TEXT]) + (" …" if g.inputs.shape[2] > _LONGEST_TEXT else "")
            weight = [] if g.weights is None else [tag("bdi", f"×{g.weights[i]:.3g}")]
            body.append(row(name, *weight, tag("td", tag("code", text), class_="text long")))
    head = ["class", *([] if g.weights is None else ["weight"]), word_head("sequence")]
    text = (
        f"{len(body):,} of {sum(g.sizes):,} series, by class, as letters: the base of the largest value at each place, "
        "in lower case below one half; n where all are equal."
    )
    text += "" if g.weights is None else f" {_WEIGHTS}"
    text += "" if g.scores is None else f" {_scores(g.scores)}"
    table = bare_table("Sequences by class", head, body)
    return [scroll_box(table, labelled("Sequences", of)), note(text)]


def _read_bases(values: np.ndarray) -> str:
    """Return the letters of values (4, length)."""
    largest, high, low = values.argmax(0), values.max(0), values.min(0)
    letters = zip(largest.tolist(), high.tolist(), low.tolist(), strict=True)
    return "".join(
        "n" if top - bottom < _EQUAL else _BASES[at] if top >= 0.5 else _BASES[at].lower()
        for at, top, bottom in letters
    )  # fmt: skip


def _texts(g: Gallery, of: str) -> list[Html]:
    """Return texts by class, with the largest probabilities of soft labels."""
    soft, body = g.labels.ndim == 2, []
    for c, (name, take) in enumerate(zip(g.classes, shown(g.sizes), strict=True)):
        for i in np.flatnonzero(g.hard_labels == c)[:take].tolist():
            text = g.captions[i] if len(g.captions[i]) <= _LONGEST_TEXT else g.captions[i][:_LONGEST_TEXT] + " …"
            cells = [word_cell(text, is_long=True)]
            if soft:
                largest = np.argsort(-g.labels[i], kind="stable")[:_LARGEST]
                parts = (f"{g.classes[k]} {100 * g.labels[i][k]:.0f}%" for k in largest if g.labels[i][k] >= 0.005)
                cells.append(tag("bdi", ", ".join(parts)))
            if g.weights is not None:
                cells.append(tag("bdi", f"×{g.weights[i]:.3g}"))
            body.append(row(name, *cells))
    head = ["class", word_head("text"), *(["label"] if soft else []), *(["weight"] if g.weights is not None else [])]
    table = bare_table("Texts by class", head, body)
    text = f"{len(body):,} of {sum(g.sizes):,} texts, as they are in the data."
    text += f" Labels show up to {_LARGEST} classes." if soft else ""
    text += "" if g.scores is None else f" {_scores(g.scores)}"
    return [scroll_box(table, labelled("Texts", of)), note(text)]


def _strongest(values: np.ndarray, names: Sequence[str]) -> Html:
    """Return the features of the largest absolute values, and the values."""
    largest = [j for j in np.argsort(-abs(values), kind="stable")[:_STRONGEST] if values[j]]
    return tag("bdi", ", ".join(f"{names[j]} {values[j]:.2g}".replace("-", "−") for j in largest))


def _nodes(g: Gallery, of: str) -> list[Html]:
    """Return the strongest features of the mean of each class, and of each node."""
    d, body, means = g.inputs.shape[1], [], []
    names = g.columns if len(g.columns) == d else tuple(f"feature {j + 1}" for j in range(d))
    for c, (name, take) in enumerate(zip(g.classes, shown(g.sizes), strict=True)):
        index = np.flatnonzero(g.hard_labels == c)[:take].tolist()
        if not index:
            continue
        if len(index) > 1:
            means.append(row(name, tag("td", _strongest(g.inputs[index].mean(0), names), class_="text")))
        for i in index:
            weight = [] if g.weights is None else [tag("bdi", f"×{g.weights[i]:.3g}")]
            body.append(row(name, *weight, tag("td", _strongest(g.inputs[i], names), class_="text")))
    strongest = word_head("strongest features")
    head = ["class", *([] if g.weights is None else ["weight"]), strongest]
    text = f"{len(body):,} of {sum(g.sizes):,} nodes, each with the {_STRONGEST} of its {d:,} propagated features that "
    text += "are farthest from 0."
    text += "" if g.weights is None else f" {_WEIGHTS}"
    text += "" if g.scores is None else f" {_scores(g.scores)}"
    classes = bare_table("Mean of the nodes of a class", ["class", strongest], means)
    nodes = bare_table("Nodes by class", head, body)
    return [
        *([scroll_box(classes, labelled("Means of classes", of))] if means else []),
        scroll_box(nodes, labelled("Nodes", of)), note(text),
    ]  # fmt: skip


def _signals(g: Gallery, of: str) -> list[Html]:
    """Return series by class as curves, sequences of bases as letters."""
    if g.units == _UNITS_OF_BASES:
        return _letters(g, of)
    names = g.columns if len(g.columns) == g.inputs.shape[1] else tuple(map(str, range(1, g.inputs.shape[1] + 1)))
    drawn = [
        draw_window(
            g.inputs[i], None, names, f"Series {n} of class {name}",
            ": ".join(filter(None, (f"{name}{'' if g.weights is None else f' ×{g.weights[i]:.3g}'}",
                                    describe_ranges(g.inputs[i], names)))),
        )
        for c, (name, take) in enumerate(zip(g.classes, shown(g.sizes), strict=True))
        for n, i in enumerate(np.flatnonzero(g.hard_labels == c)[:take].tolist(), 1)
    ]  # fmt: skip
    text = f"{len(drawn):,} of {sum(g.sizes):,} series, by class; each channel has a scale of its own in each curve."
    text += "" if g.weights is None else f" {_WEIGHTS}"
    text += "" if g.scores is None else f" {_scores(g.scores)}"
    return [*filter(None, [window_keys(names)]), tag("ul", *drawn, class_="items windows"), note(text)]


def _graphs(g: Gallery) -> list[Html]:
    """Return graphs by class as drawings."""
    shelves, total = [], 0
    for c, (name, take) in enumerate(zip(g.classes, shown(g.sizes), strict=True)):
        index = np.flatnonzero(g.hard_labels == c)[:take].tolist()
        total += len(index)
        tiles = [draw_graph(g.inputs[i], f"graph {n} of class {name}") for n, i in enumerate(index, 1)]
        label = tag("div", tag("bdi", name), tag("small", _more(g.sizes[c], len(index), "graphs")), class_="name")
        shelves += [tag("li", label, tag("div", *tiles, class_="tiles"))] if index else []
    text = (
        f"{total:,} of {sum(g.sizes):,} graphs, by class; a node's colour is its strongest feature, an edge's strength "
    )
    text += "its weight." if g.weights is None else f"its weight. {_WEIGHTS}"
    text += "" if g.scores is None else f" {_scores(g.scores)}"
    return [tag("ul", *shelves, class_="shelf"), note(text)]


def gallery(g: Gallery, of: str = "") -> Html:
    """Return the inputs of ``g`` by class: images clamped to [0,1] with sharp pixels, or a table; without classes one
    after another.

    Args:
        of: whose inputs they are, for accessible names on pages with several sets.
    """
    if not g.classes:
        return join_html(items(g, of))
    if g.inputs.ndim == 2 and len(g.captions) == len(g.inputs) > 0:
        return join_html(_texts(g, of))
    if g.inputs.ndim == 2 and g.kind == _NODE:
        return join_html(_nodes(g, of))
    if g.inputs.ndim == 3 and g.kind == _GRAPH:
        return join_html(_graphs(g))
    if g.inputs.ndim == 3 and g.kind == _SIGNAL:
        return join_html(_signals(g, of))
    return join_html(_pictures(g) if g.inputs.ndim == 4 else _rows(g, of))


_MOST_ITEMS, _WANTED, _MOST_STRETCHES = 48, 84, 6


def _pairs(g: Gallery, most: int) -> Html:
    tiles = []
    for i in range(most):
        real = i < len(g.captions)
        said = g.captions[i] if real else g.nearest[i] if i < len(g.nearest) else ""
        said = said if len(said) <= _LONGEST_TEXT else said[:_LONGEST_TEXT] + " …"
        drawn = inline_image(g.inputs[i], said or f"item {i + 1}", _WANTED, _LONGEST)
        below = tag("figcaption", None if real else "≈ ", tag("bdi", said)) if said else None
        tiles.append(tag("li", tag("figure", drawn, below)))
    return tag("ul", *tiles, class_="items")


def _table(g: Gallery, most: int, of: str) -> Html:
    flat = g.inputs.reshape(len(g.inputs), -1)[:, :_MOST_COLUMNS]
    columns = g.columns if len(g.columns) >= flat.shape[1] else tuple(f"column {j + 1}" for j in range(flat.shape[1]))
    wide = 0 if g.targets is None else min(_MOST_COLUMNS, int(np.prod(g.targets.shape[1:])))
    asked = g.target_names if len(g.target_names) == wide else tuple(f"target {j + 1}" for j in range(wide))
    named, targets = [*columns[: flat.shape[1]]], [f"{name} (target)" for name in asked]
    values = np.zeros((most, 0)) if g.targets is None else g.targets[:most].reshape(most, -1)[:, :wide]
    body = [row(str(i + 1), *_cells(g, i, flat[i]), *(f"{x:.4g}" for x in values[i])) for i in range(most)]
    told = g.cell_columns[:_MOST_COLUMNS] if g.cells else named
    head = ["item", *_heads(g, told), *(tag("bdi", name) for name in targets)]
    table = bare_table("Distilled rows and what is to be learned of each", head, body)
    rows = np.concatenate([values, flat[:most]], 1)  # targets first, as not all columns are drawn
    lines = parallel_axes(rows, [*targets, *named], np.zeros(most, dtype=np.int64), (), of)
    return join_html([lines, scroll_box(table, labelled("Distilled rows", of))])


def _users(g: Gallery, most: int, of: str) -> Html:
    """Return the lists of users: items that fewest users of the set have first, or the largest values."""
    rows = g.inputs[:most]
    d = rows.shape[1]
    names = next((n for n in (g.titles, g.columns) if len(n) == d), tuple(f"item {j + 1}" for j in range(d)))
    whole = bool(((g.inputs == 0) | (g.inputs == 1)).all())
    common, body = (g.inputs > 0).sum(0), []
    for i, values in enumerate(rows):
        order = np.lexsort((np.arange(d), common if whole else -np.abs(values), values == 0))
        met = [int(j) for j in order[: int((values != 0).sum())]]
        told = [names[j] if whole else f"{names[j]} {values[j]:.2g}".replace("-", "−") for j in met[:_ITEMS]]
        rest = f" … and {len(met) - _ITEMS:,} more" if len(met) > _ITEMS else ""
        body.append(row(str(i + 1), f"{len(met):,}", word_cell(", ".join(told) + rest, is_long=True)))
    first = "those that fewest of these users have first" if whole else "the largest values first"
    table = bare_table("Users and their items", ["user", "items", word_head(f"what they met, {first}")], body)
    return scroll_box(table, labelled("Users", of))


def _window(g: Gallery, i: int, names: Sequence[str]) -> Html:
    past, ahead = g.inputs[i], None
    if g.targets is not None and g.targets[i].size and g.targets[i].size % len(past) == 0:
        ahead = g.targets[i].reshape(len(past), -1)
    spans = describe_ranges(past if ahead is None else np.concatenate([past, ahead], 1), names)
    return draw_window(past, ahead, names, f"Window {i + 1}", f"window {i + 1}{f': {spans}' if spans else ''}")


def _stretches(g: Gallery, names: Sequence[str]) -> Html | None:
    """Return the stored series as curves, one for each stretch."""
    if g.series is None:
        return None
    length, several = g.series.shape[1], len(g.series) > 1
    drawn = [
        draw_window(points.T, None, names, f"Stretch {n + 1}" if several else "The series that is stored",
                    f"{f'stretch {n + 1} of ' if several else ''}the series that is stored, {length:,} points: each "
                    "window below is a part of it")
        for n, points in enumerate(g.series[:_MOST_STRETCHES])
    ]  # fmt: skip
    return tag("ul", *drawn, class_="items stretches")


def items(g: Gallery, of: str = "") -> list[Html]:
    """Return the first items of a set without classes, of any kind; ``of`` says whose."""
    most, total = min(_MOST_ITEMS, len(g.inputs)), sum(g.sizes)
    if g.masks is not None:
        shown, noun = masked_pictures(g, most), "pictures, each beside its mask"
    elif g.boxes is not None:
        shown, noun = boxed_pictures(g, most), "pictures with their boxes"
    elif g.inputs.ndim == 2 and g.kind == _USERS:
        shown, noun = _users(g, most, of), "users"
    elif g.inputs.ndim == 4:
        shown, noun = (
            _pairs(g, most),
            f"{'pairs' if g.kind == _PAIR else 'items'}{_LEARNED if g.nearest and not g.captions else ''}",
        )
    elif g.inputs.ndim == 3:
        names = g.columns if len(g.columns) == g.inputs.shape[1] else tuple(map(str, range(1, g.inputs.shape[1] + 1)))
        shown = join_html([
            window_keys(names), _stretches(g, names),
            tag("ul", *(_window(g, i, names) for i in range(most)), class_="items windows"),
        ])  # fmt: skip
        noun = "windows; each variable has a scale of its own, dashed is what follows"
    else:
        shown, noun = _table(g, most, of), "rows, in the data's own units"
    return [shown, note(f"{most:,} of {total:,} {noun}.")]
