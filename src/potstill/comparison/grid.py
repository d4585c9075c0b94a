"""Turn the arguments of a comparison into cells: sizes, methods, parametrizations, codecs, protocols, repeats."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from potstill._util.formatting import parse_size
from potstill.codecs import parse_codec
from potstill.comparison.cells import Cell, Measure, SharedSettings, Unit
from potstill.core import Method, Source, registry
from potstill.errors import PotstillError, unknown_name
from potstill.evaluation import Protocol
from potstill.parametrize.named_inputs import parse_parametrization

__all__ = ["OF_PROTOCOL", "Grid", "as_tuple", "check_storage", "parse_measures", "parse_methods", "parse_sizes"]

OF_PROTOCOL = "protocol:"
"""Before a protocol's name, where options of methods and of protocols stand in one mapping: ``dc`` is both."""


def as_tuple(values: Sequence[Any] | Any) -> tuple[Any, ...]:
    """One name or value, or several, as several."""
    return tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,)


def parse_sizes(
    ipc: Sequence[int] | int | None,
    items: Sequence[int] | int | None,
    bytes: Sequence[int | str] | int | str | None,
) -> list[tuple[Unit, int]]:
    """Return the size budgets in the order given: items per class or in all, then bytes.

    Raises:
        PotstillError: no size is given, both kinds of items are, or one is no amount.
    """
    if (ipc is not None and items is not None) or (ipc is None and items is None and bytes is None):
        raise PotstillError(
            "a comparison needs its sizes once: ipc, items per class, or items in all; and, or instead, bytes"
        )
    sizes: list[tuple[Unit, int]] = []
    requested: list[tuple[Unit, Any]] = [("ipc", ipc), ("items", items), ("bytes", bytes)]
    for unit, values in requested:
        if values is None:
            continue
        amounts: list[Any] = list(as_tuple(values))
        if unit == "bytes":
            try:
                amounts = [parse_size(a) if isinstance(a, str) else a for a in amounts]
            except ValueError as error:
                raise PotstillError(f"bytes: {error}") from error
        if not amounts or not all(type(amount) is int and amount >= 1 for amount in amounts):
            what = {"ipc": "item per class", "items": "item in all", "bytes": "byte"}[unit]
            raise PotstillError(
                f"{unit} must be whole numbers of at least 1 {what}, such as [1, 10], not {values!r:.80}"
            )
        sizes += [(unit, amount) for amount in dict.fromkeys(amounts)]
    return sizes


def parse_methods(
    methods: Sequence[str | Method[Any]] | str | Method[Any], options: Mapping[str, Mapping[str, Any]]
) -> dict[str, str | Method[Any]]:
    """The methods by what the board calls them, ``random`` first; their options are looked at.

    A value is called as it is written: ``DM(iterations=5)``. Of two that would be called alike (classes of one name),
    the second is ``Mine()-2``.

    Raises:
        PotstillError: there are options of what is not compared, a method has no such option, one is ``auto``, or one
            is neither a name nor a method.
    """
    given = [methods] if isinstance(methods, str | Method) else list(methods)
    names: dict[str, str | Method[Any]] = {"random": "random"}
    for one in given:
        label = _label(one)
        same = [label, *(f"{label}-{n}" for n in range(2, len(given) + 2))]
        place = next(name for name in same if name not in names or _alike(names[name], one))
        names[place] = one
    if "auto" in names:
        raise PotstillError(
            "auto is not a method to compare, as it makes another one's set in each cell; name the methods, or make "
            "its set with `potstill distill --method auto` and measure it with `potstill evaluate`"
        )
    for name in options:
        if name.startswith(OF_PROTOCOL):
            continue
        if name not in names:
            raise unknown_name("method with options", name, names)
        if name in registry.names("methods") or not isinstance(names[name], str):  # others fail in their cells
            registry.make_method(names[name], options[name])
    return names


def _label(method: object) -> str:
    """Return the name of a method on the leaderboard: its name, or a value's class with its changed fields."""
    if isinstance(method, str):
        return method
    kind = type(method)
    if not isinstance(method, Method) or not dataclasses.is_dataclass(method):
        made = f"; give a value, {method.__name__}()" if isinstance(method, type) and issubclass(method, Method) else ""
        raise PotstillError(
            f"methods are names, file.py:Class, or values such as DM(iterations=500), not {method!r:.80}{made}"
        )
    registry.make_method(method, {})  # its values are looked at before any work
    fields = [(f.name, getattr(method, f.name), f.default) for f in dataclasses.fields(method)]
    return f"{kind.__name__}({', '.join(f'{name}={value!r}' for name, value, usual in fields if value != usual)})"


def _alike(one: str | Method[Any], other: str | Method[Any]) -> bool:
    return type(one) is type(other) and one == other


def parse_measures(
    protocols: Sequence[str | Protocol],
    seeds: int | None,
    overrides: Mapping[str, Any],
    options: Mapping[str, Mapping[str, Any]],
) -> tuple[Measure, ...]:
    """Return the protocols with their options: those of all, and those of each, which win.

    Raises:
        PotstillError: there is no such protocol, or it has no such option.
    """
    values = {one if isinstance(one, str) else one.name: one for one in protocols}
    names = list(values)
    if not names:
        raise PotstillError("a comparison needs a protocol, such as potstill; leave protocols out for that one")
    of_each = {n.removeprefix(OF_PROTOCOL): dict(o) for n, o in options.items() if n.startswith(OF_PROTOCOL)}
    for name in of_each:
        if name not in names:
            raise unknown_name("protocol with options", name, names)
    measures = []
    for name in names:
        value = values[name]
        chosen = registry.resolve("protocols", name) if isinstance(value, str) else value
        fields = {**overrides, **of_each.get(name, {})}
        measures.append(
            Measure(
                name=name, protocol=chosen.override(**fields) if fields else chosen, seeds=seeds, overrides=fields,
                alone=len(names) == 1,
            )
        )  # fmt: skip
    return tuple(measures)


def check_storage(parametrizations: Sequence[str], codecs: Sequence[str], train: Source) -> None:
    """
    Raises:
        PotstillError: one of them does not exist, or does not suit the data.
    """
    for spelled in parametrizations:
        parse_parametrization(spelled, train.input)
    for spelled in codecs:
        if spelled != "auto":
            parse_codec(spelled)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The axes of a comparison, and options of methods by name."""

    sizes: Sequence[tuple[Unit, int]]
    methods: Mapping[str, str | Method[Any]]
    parametrizations: Sequence[str]
    codecs: Sequence[str]
    repeats: int
    options: Mapping[str, Mapping[str, Any]]

    def cells(self, shared: SharedSettings) -> list[Cell]:
        """Return all cells, the first set of everything before the second of anything.

        A method that has no parametrization to choose is made once in place of once for each.

        Raises:
            PotstillError: two cells would have files of one name.
        """
        choices: Sequence[str | None] = tuple(dict.fromkeys(self.parametrizations)) or (None,)
        parametrizations = {n: choices if _has_parametrization(m) else (None,) for n, m in self.methods.items()}
        cells = [
            Cell(
                method=name, value=None if isinstance(method, str) else method, unit=unit, amount=amount,
                parametrization=parametrization, codec=codec, repeat=repeat, options=self.options.get(name, {}),
                shared=shared,
            )
            for repeat in range(self.repeats) for unit, amount in self.sizes for name, method in self.methods.items()
            for parametrization in parametrizations[name] for codec in dict.fromkeys(self.codecs) or [None]
        ]  # fmt: skip
        by_stem: dict[str, Cell] = {}
        for cell in cells:
            if (other := by_stem.setdefault(cell.stem, cell)) is not cell:
                pair = [(c.method, c.parametrization, c.codec) for c in (other, cell)]
                raise PotstillError(
                    f"two cells would be called {cell.stem}: {pair[0]} and {pair[1]}; compare them apart"
                )
        return cells


def _has_parametrization(method: str | Method[Any]) -> bool:
    """Tell whether a method has a parametrization to choose; one that cannot be made says so in its cell."""
    try:
        made = registry.make_method(method, {})[1]
    except PotstillError:
        return False
    return any(field.name == "parametrization" for field in dataclasses.fields(made))  # type: ignore[arg-type]
