"""Commands that list what there is."""

from collections.abc import Callable, Mapping
from typing import Any

from potstill.cli.runners.parts import Answer

from potstill._util.progress import Watcher
from potstill.cli.commands import ListMethods
from potstill.cli.parsing import Parsed
from potstill.cli.text import columns, filled

__all__ = ["LISTINGS", "run_methods"]


def _methods(rows: list[dict[str, Any]]) -> str:
    cells = [[r["name"], r["family"], r["year"], r["paper"], r["title"]] for r in rows]
    hint = (
        "`potstill methods NAME` shows a method's options. `potstill distill DATA --method auto --time-limit 5m`\n"
        "tries a few of them on training data that it holds out, and takes the best; real samples if nothing is better."
    )
    return columns(["method", "family", "year", "paper", "title"], cells) + f"\n\n{hint}"


def _method(row: dict[str, Any]) -> str:
    """One method with everything that can be set: the option and its default on a line, below it what it is."""
    from potstill.api.listing import efforts_said

    lines = [f"{row['name']}: {row['title']} ({row['year']}), {row['paper']}", *filled(row["summary"])]
    if row["options"]:
        lines += ["", "  --effort", *(part for said in efforts_said(row["presets"]) for part in filled(said, indent=6))]
    for option in row["options"]:
        off = "no-" if option["default"] is True else ""  # a switch that is on is named by what turns it off
        default = '""' if option["default"] == "" else option["default"]
        lines += ["", f"  --{off}{option['name'].replace('_', '-')}  (default: {default})"]
        lines += filled(option["help"], indent=6)
    return "\n".join(lines if row["options"] else [*lines, "", "  It has no options."])


def run_methods(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill.api.listing import list_methods

    command, rows = parsed.command, list_methods()
    assert isinstance(command, ListMethods)
    by_name = {row["name"]: row for row in rows}
    if not command.names:
        return Answer(rows, _methods(rows))
    chosen = [by_name[name] for name in dict.fromkeys(command.names)]
    return Answer(chosen, "\n\n".join(map(_method, chosen)))


def _protocols(rows: list[dict[str, Any]]) -> str:
    cells = [[r["name"], r["version"], r["paper"], "yes" if r["optimistic"] else "no", r["summary"]] for r in rows]
    return columns(["protocol", "version", "paper", "optimistic", "what it does"], cells)


def _any(noun: str) -> Callable[[list[dict[str, Any]]], str]:
    """A table of all the keys that there are, ``name`` first."""

    def show(rows: list[dict[str, Any]]) -> str:
        keys = list(rows[0])[1:]
        return columns([noun, *keys], [[r["name"], *(_cell(r[key]) for key in keys)] for r in rows])

    return show


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return f"{value['name']}={value['default']}" if isinstance(value, Mapping) else str(value)


_OWN_DATA = """
Your own data: a folder of pictures (train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png), an .npz file with
x_train, y_train, x_test and y_test, a .csv or .parquet file with --label COLUMN, hub:NAME (Hugging Face Hub),
or WebDataset shards 'train-{000..099}.tar'."""


def _data(rows: list[dict[str, Any]]) -> str:
    return _any("data")(rows) + "\n" + _OWN_DATA


def _stores(rows: list[dict[str, Any]]) -> str:
    return _any("store")(rows) + "\n\nfloat and uniform are spelled with their bits: float16, uint4, uint2:aware=true."


def _listing(group: str, show: Callable[[list[dict[str, Any]]], str]) -> Callable[[Parsed, str, Watcher], Answer]:
    def listing(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
        from potstill.api import listing as listings

        rows: list[dict[str, Any]] = getattr(listings, f"list_{group}")()
        return Answer(rows, show(rows))

    return listing


LISTINGS: dict[str, Callable[[Parsed, str, Watcher], Answer]] = {
    "methods": run_methods,
    "protocols": _listing("protocols", _protocols),
    "networks": _listing("networks", _any("network")),
    "data": _listing("data", _data),
    "parametrizations": _listing("parametrizations", _any("parametrization")),
    "augmentations": _listing("augmentations", _any("augmentation")),
    "stores": _listing("stores", _stores),
}
"""What each of these commands does."""
