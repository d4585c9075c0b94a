"""Reader of interactions of users with items: a table with a row for each, for ``--kind ratings``.

The protocol is that of infinite-AE and Distill-CF (Sachdeva et al., NeurIPS 2022, arXiv:2206.02626; infinite_ae_cf,
preprocess.py and eval.py): of each user some interactions are held out for the test and some to choose on, the same
users train and are tested, ratings count as met or not, and what a user met before is not recommended again.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from potstill.core import InputSpec, Normalization, Splits
from potstill.data.frames import to_arrow_tables
from potstill.data.in_memory import TensorSource
from potstill.data.interactions import Interactions, ItemLists
from potstill.data.limits import require_memory
from potstill.data.parsed import dictionary_codes
from potstill.data.read_options import ReadOptions
from potstill.data.removed_columns import remove_columns
from potstill.data.table import TABLE_SUFFIXES, check_unique_columns, read_table_file
from potstill.data.table_encoding import is_number_type, is_text_type, to_texts
from potstill.errors import PotstillError, unknown_name
from potstill.rng import generator
from potstill.tasks import Recommendation

__all__ = ["read_ratings"]

_USERS = ("user", "userid", "uid", "customer", "customerid", "member", "reviewer", "session", "sessionid")
_ITEMS = ("item", "itemid", "iid", "movie", "movieid", "product", "productid", "book", "bookid", "isbn", "song", "page",
          "artist", "artistid", "track", "asin")  # fmt: skip
_RATINGS = ("rating", "ratings", "score", "stars", "value")
_TIMES = ("timestamp", "time", "date", "datetime", "ts", "unixtime")
_TITLES = ("title", "itemname", "movietitle", "itemtitle", "name")
_REFUSED = (
    "size", "stream", "missing", "text", "representation", "encode", "series", "horizontal_flip", "group", "attribute",
    "duplicates", "normalization",
)  # fmt: skip

_ORDERS = ("auto", "time", "random")
_LEAST = 3
"""Interactions of a user that training, validation and test take at least (infinite_ae_cf/preprocess.py)."""

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Interactions, each once. Legend: t interactions."""

    users: Codes
    items: Codes
    user_names: tuple[str, ...]
    item_names: tuple[str, ...]
    titles: tuple[str, ...]
    """Titles of the items; empty: there are none."""
    times: npt.NDArray[np.float64] | None

    def select(self, mask: npt.NDArray[np.bool_]) -> "_Pairs":
        """Return some interactions, with the users and items that they have, numbered from 0."""
        users, at_user = np.unique(self.users[mask], return_inverse=True)
        items, at_item = np.unique(self.items[mask], return_inverse=True)
        return _Pairs(
            users=at_user.astype(np.int64), items=at_item.astype(np.int64),
            user_names=tuple(self.user_names[i] for i in users), item_names=tuple(self.item_names[i] for i in items),
            titles=tuple(self.titles[i] for i in items) if self.titles else (),
            times=None if self.times is None else self.times[mask],
        )  # fmt: skip


def read_ratings(task: Recommendation, data: object, options: ReadOptions) -> Splits:
    """Read interactions from a CSV, Parquet or JSON lines file or a data frame: columns user, item, and where they are
    there rating, timestamp and title.

    Args:
        task: recommendation; ``items`` and ``titles`` are filled in.
        data: path or data frame.
        options: ``label`` names the column of items; ``test_fraction`` is the part of each user's interactions that is
            held out for the test, drawn by ``seed`` where there are no times.

    Raises:
        PotstillError: other data, no such columns, a row without user or item, ratings or times that are no numbers,
            too few items, or no user with enough interactions.
    """
    for option in _REFUSED:
        if getattr(options, option) is not None:
            raise PotstillError(f"interactions are read without `{option}=`; leave it out")
    if options.skip_bad:
        raise PotstillError("interactions are read without `skip_bad=`; leave it out")
    _check_task(task)
    if not 0 <= options.test_fraction < 1:
        raise PotstillError(f"the test fraction must be at least 0 and below 1, not {options.test_fraction}")
    table, name = _read_table(data)
    table = remove_columns([table], options.remove_columns, options.label, name)[0]
    pairs, notes = _read_pairs(table, name, options.label, task)
    counts = np.bincount(pairs.users)
    enough = counts[pairs.users] >= task.least
    if not enough.any():
        raise PotstillError(
            f"{name}: a user needs {task.least} interactions, but the most that one has is {counts.max()}; give more, "
            f'or ask for less with `task="recommendation:least={max(3, int(counts.max()))}"`'
        )
    left_out = len(pairs.user_names) - len(np.unique(pairs.users[enough]))
    pairs = pairs.select(enough)
    if len(pairs.item_names) <= task.top:
        raise PotstillError(
            f"{name}: {task.top} items are recommended to each user, so there must be more than that, but there are "
            f"{len(pairs.item_names)} in all; give data with more items"
        )
    by_time = task.order == "time" or (task.order == "auto" and pairs.times is not None)
    if by_time and pairs.times is None:
        raise PotstillError(
            f"{name}: order=time needs a column of times ({', '.join(_TIMES)}); add one, or say order=random"
        )
    train, validation, test = _divide(pairs, task, options, by_time)
    users, d = len(pairs.user_names), len(pairs.item_names)
    require_memory(3 * users * d, f"{name}: {users:,} users as rows over {d:,} items", "give fewer users or items")
    density = len(pairs.users) / (users * d)
    notes = [
        f"{name}: {users:,} users, {d:,} items, {len(pairs.users):,} interactions ({100 * density:.2g}% of all pairs); "
        f"of each user {_share(options.test_fraction)} are tested and {_share(task.validation)} choose, "
        + ("the latest ones" if by_time else f"drawn with seed {options.seed}"),
        *([f"{name}: {left_out:,} users with fewer than {task.least} interactions were left out"] if left_out else []),
        *notes,
    ]
    task = replace(task, items=d, titles=pairs.titles)
    parts = Interactions(train=train, validation=validation, count=d)
    tested = None if test is None else Interactions(train=train, validation=validation, test=test, count=d)
    spec = InputSpec(kind="ratings", shape=(d,), units="1: met", horizontal_flip=False, columns=pairs.item_names)

    def source(interactions: Interactions) -> TensorSource:
        everybody = torch.arange(users)
        made = TensorSource(
            name=name, input=spec, classes=(), normalization=Normalization(torch.zeros(d), torch.ones(d)),
            inputs=interactions.met(everybody).float(), labels=torch.zeros(users, dtype=torch.int64), task=task,
            places=everybody, names=pairs.user_names, interactions=interactions,
        )  # fmt: skip
        return made if made.device == torch.device(options.device) else made.to(options.device)

    return Splits(train=source(parts), test=None if tested is None else source(tested), notes=tuple(notes))


def _check_task(task: Recommendation) -> None:
    """
    Raises:
        PotstillError: a setting out of its range.
    """
    if task.order not in _ORDERS:
        raise PotstillError(f"recommendation: order must be auto, time or random, not {task.order!r}")
    if not 0 < task.validation < 1:
        raise PotstillError(f"recommendation: validation must lie between 0 and 1, not be {task.validation}")
    if task.least < _LEAST:
        raise PotstillError(
            f"recommendation: least must be at least {_LEAST}, an interaction each to train, choose and test, not "
            f"{task.least}"
        )


def _share(fraction: float) -> str:
    return f"{100 * fraction:.3g}%"


def _divide(
    pairs: _Pairs, task: Recommendation, options: ReadOptions, by_time: bool
) -> tuple[ItemLists, ItemLists, ItemLists | None]:
    """Return the lists to train, to choose and to test: the last of each user's order are tested, those before them
    choose. Each part has one at least."""
    if by_time and pairs.times is not None:
        key = pairs.times
    else:
        rng = generator(options.seed, "split", "ratings")
        key = torch.rand(len(pairs.users), dtype=torch.float64, generator=rng).numpy()
    order = np.lexsort((np.arange(len(key)), key, pairs.users))
    users, items = pairs.users[order], pairs.items[order]
    counts = np.bincount(users)
    first = np.cumsum(counts) - counts
    place = np.arange(len(users)) - first[users]
    most = counts - 2 if options.test_fraction else counts - 1
    chosen = np.clip(np.round(task.validation * counts).astype(np.int64), 1, most)
    tested = np.round(options.test_fraction * counts).astype(np.int64)
    tested = np.clip(tested, 1, counts - 1 - chosen) if options.test_fraction else np.zeros_like(counts)
    part = (place >= (counts - tested - chosen)[users]).astype(np.int64) + (place >= (counts - tested)[users])
    lists = [
        ItemLists.of(torch.from_numpy(users[part == p]), torch.from_numpy(items[part == p]), len(counts))
        for p in range(3)
    ]
    return lists[0], lists[1], lists[2] if options.test_fraction else None


def _read_table(data: object) -> tuple[Any, str]:
    """Return an Arrow table and its name."""
    if isinstance(data, str | Path):
        path = Path(data).expanduser()
        if path.suffix.lower() not in TABLE_SUFFIXES:
            raise PotstillError(
                f"interactions are read from a csv, parquet or jsonl file or a data frame, not from "
                f"{str(data)[:60]!r}; give one with columns user and item"
            )
        if not path.is_file():
            raise PotstillError(f"{data}: no such file; check the path")
        return read_table_file(path), path.name
    if (frames := to_arrow_tables(data, None)) is None or len(frames[0]) > 1:
        raise PotstillError(
            f"interactions are read from one table with columns user and item, not from a {type(data).__name__}; give "
            "a csv or parquet file or a data frame"
        )
    check_unique_columns(frames[0][0], "frame")
    return frames[0][0], "frame"


def _plain(column: str) -> str:
    """Return a column's name without case, blanks, lines and RecBole's type (``user_id:token``)."""
    return "".join(c for c in column.partition(":")[0].lower() if c.isalnum())


def _find(table: Any, names: tuple[str, ...], without: tuple[str, ...] = ()) -> str | None:
    """Return the column that has the first of these names that there is."""
    by_plain = {_plain(c): c for c in reversed(table.column_names) if c not in without}
    return next((by_plain[name] for name in names if name in by_plain), None)


def _read_pairs(table: Any, name: str, label: str | None, task: Recommendation) -> tuple[_Pairs, list[str]]:
    if not table.num_rows:
        raise PotstillError(f"{name}: there are no interactions; give a row for each")
    if label is not None and label not in table.column_names:
        raise PotstillError(f"{name}: {unknown_name('column', label, table.column_names)}")
    user, item = _find(table, _USERS, (label,) if label else ()), label or _find(table, _ITEMS)
    for column, what in ((user, "user"), (item, "item")):
        if column is None:
            raise PotstillError(
                f"{name}: needs a column called {what!r}, but has {', '.join(map(repr, table.column_names))}; rename "
                "the one that it is"
            )
    assert user is not None
    assert item is not None
    users, user_names = _codes(table, user, name, "user")
    items, item_names = _codes(table, item, name, "item")
    notes = list[str]()
    mask = np.ones(len(users), dtype=bool)
    if (column := _find(table, _RATINGS)) is not None:
        ratings = _numbers(table, column, name, "rating")
        mask = ratings >= task.rating if task.rating else mask
        if not mask.all():
            notes.append(f"{name}: {int((~mask).sum()):,} ratings below {task.rating:g} do not count as met")
        if not mask.any():
            raise PotstillError(f"{name}: no rating is {task.rating:g} or more; ask for less with rating=")
    elif task.rating:
        raise PotstillError(f"{name}: rating={task.rating:g} needs a column called 'rating'; leave it out, or add one")
    times = None if (column := _find(table, _TIMES)) is None else _numbers(table, column, name, "time")
    latest = np.flatnonzero(mask)
    pair = users[latest] * len(item_names) + items[latest]
    once = latest[np.unique(pair[::-1], return_index=True)[1] * -1 + len(pair) - 1]
    if len(once) < len(latest):
        notes.append(f"{name}: {len(latest) - len(once):,} interactions stood there again and count once")
    once = np.sort(once)
    titles = _titles(table, _find(table, _TITLES, (user, item)), items, item_names)
    pairs = _Pairs(
        users=users, items=items, user_names=user_names, item_names=item_names, titles=titles, times=times
    )  # fmt: skip
    at = np.zeros(len(users), dtype=bool)
    at[once] = True
    return pairs.select(at), notes


def _as_texts(values: Any) -> Any:
    if is_text_type(values.type) or pa.types.is_dictionary(values.type):
        return to_texts(values)
    return pa.chunked_array([values.combine_chunks().cast(pa.string())])


def _codes(table: Any, column: str, name: str, what: str) -> tuple[Codes, tuple[str, ...]]:
    """Return the number of each cell's text, and the texts in order.

    Raises:
        PotstillError: an empty cell.
    """
    codes, words = dictionary_codes(_as_texts(table.column(column)))
    blank = (codes < 0) | np.isin(codes, [i for i, word in enumerate(words) if not word.strip()])
    if blank.any():
        raise PotstillError(
            f"{name}: row {int(blank.argmax()) + 1} has no {what} in column {column!r}; fill it or remove the row"
        )
    names = sorted(set(words), key=_natural)
    place = {word: i for i, word in enumerate(names)}
    return np.array([place[word] for word in words], dtype=np.int64)[codes], tuple(names)


def _natural(word: str) -> tuple[int, int, str]:
    """Return a key that sorts whole numbers by value, before other texts."""
    return (0, int(word), word) if word.isascii() and word.isdecimal() and len(word) < 19 else (1, 0, word)


def _numbers(table: Any, column: str, name: str, what: str) -> npt.NDArray[np.float64]:
    values = table.column(column).combine_chunks()
    if what == "time" and pa.types.is_temporal(values.type):
        day = pa.types.is_date32(values.type)
        values = values.cast(pa.timestamp("s") if day else values.type).cast(pa.int64())
    if not is_number_type(values.type):
        bad = next((i for i, v in enumerate(values.to_pylist()) if not _is_number(v)), 0)
        raise PotstillError(
            f"{name}: row {bad + 1}: {what} {str(values[bad].as_py())[:40]!r} in column {column!r} must be a number; "
            "correct it, or remove the column"
        )
    numbers: npt.NDArray[np.float64] = (
        values.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
    )
    if not np.isfinite(numbers).all():
        row = int((~np.isfinite(numbers)).argmax()) + 1
        raise PotstillError(f"{name}: row {row} has no finite {what} in column {column!r}; fill it or remove the row")
    return numbers


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _titles(table: Any, column: str | None, items: Codes, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first title of each item; empty: there is no column of titles."""
    if column is None:
        return ()
    texts = [text or "" for text in _as_texts(table.column(column)).to_pylist()]
    _, first = np.unique(items, return_index=True)
    return tuple(texts[i] or names[k] for k, i in enumerate(first.tolist()))
