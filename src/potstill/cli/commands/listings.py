"""Commands that list what is available: ``potstill methods`` and so on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from tyro.conf import Positional, arg

from potstill._util.formatting import option_name
from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, Command, Misuse, Parsed
from potstill.cli.text import Block, Table, filled
from potstill.core import registry
from potstill.errors import unknown_name

__all__ = ["Augmentations", "Codecs", "Data", "Kinds", "Methods", "Networks", "Parametrizations", "Protocols", "Tasks"]

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Listing(Command):
    """Base of the commands that print a table of `potstill.api.listing`."""

    function: ClassVar[str]
    """Name of the function that returns the rows."""
    noun: ClassVar[str]
    """Heading of the first column."""
    footer: ClassVar[str] = ""

    def text(self, rows: Rows) -> list[Block]:
        """Return a table of all keys of the rows, ``name`` first."""
        keys = list(rows[0])[1:]
        table = Table([self.noun, *keys], [[r["name"], *(_cell(r[key]) for key in keys)] for r in rows])
        return [table, *([f"\n{self.footer}"] if self.footer else [])]

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.api import listing

        rows: Rows = getattr(listing, self.function)()
        return Answer(rows, self.text(rows))


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return f"{value['name']}={value['default']}" if isinstance(value, Mapping) else str(value)


def _listing(name: str, about: str, function: str, noun: str, footer: str = "") -> type[Listing]:
    """Return the command that prints all columns of a listing."""
    values = {"__doc__": about, "__module__": __name__, "function": function, "noun": noun, "footer": footer}
    return dataclass(frozen=True, kw_only=True)(type(name, (Listing,), values))


Networks = _listing("Networks", "List the networks.", "list_networks", "network")
Parametrizations = _listing(
    "Parametrizations", "List what can be stored and optimised.", "list_parametrizations", "parametrization"
)
Augmentations = _listing("Augmentations", "List the augmentations.", "list_augmentations", "augmentation")
Tasks = _listing("Tasks", "List the tasks, and their settings (NAME:setting=value).", "list_tasks", "task")
Kinds = _listing("Kinds", "List the kinds of input.", "list_input_kinds", "kind")
Codecs = _listing(
    "Codecs", "List the ways to write values.", "list_codecs", "codec",
    "float and uniform are spelled with their bits: float16, uint4, uint2:aware=true.",
)  # fmt: skip
Data = _listing(
    "Data", "List the data sets that are known by name, and the forms of your own.", "list_data", "data",
    """Your own data: a folder of images (train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png), an .npz file with
x_train, y_train, x_test and y_test, a .csv or .parquet file with --label COLUMN, hub:NAME (Hugging Face Hub),
or WebDataset shards 'train-{000..099}.tar'.""",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Protocols(Listing):
    """List the evaluation protocols."""

    function = "list_protocols"

    def text(self, rows: Rows) -> list[Block]:
        cells = [[r["name"], r["version"], r["paper"], "yes" if r["optimistic"] else "no", r["summary"]] for r in rows]
        return [Table(["protocol", "version", "paper", "optimistic", "what it does"], cells)]


@dataclass(frozen=True, kw_only=True)
class Methods(Listing):
    """List the methods; with names, those alone, with all of their options."""

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="[NAME ...]", help_behavior_hint="")] = ()
    """Methods whose options, defaults and help are printed."""

    function = "list_methods"

    def check(self) -> None:
        known = registry.names("methods")
        for name in self.names:
            if name == "auto":
                raise Misuse(
                    "auto is not a method: it chooses among them; "
                    "potstill distill --method auto --help lists its options"
                )
            if name not in known:
                raise Misuse(str(unknown_name("method", name, known)))

    def text(self, rows: Rows) -> list[Block]:
        cells = [[r["name"], r["family"], r["year"], r["paper"], r["title"]] for r in rows]
        hint = (
            "`potstill methods NAME` shows a method's options. `potstill distill DATA --method auto --time-limit 5m`\n"
            "tries a few of them on a held-out split of the training data, and takes the best; real samples if nothing "
            "is better."
        )
        return [Table(["method", "family", "year", "paper", "title"], cells), f"\n{hint}"]

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        if not self.names:
            return super().execute(parsed, progress)
        from potstill.api.listing import list_methods

        by_name = {row["name"]: row for row in list_methods()}
        rows = [by_name[name] for name in dict.fromkeys(self.names)]
        return Answer(rows, "\n\n".join(map(_method_text, rows)))


def _method_text(row: dict[str, Any]) -> str:
    """Return one method with all its options: each with its default on a line, its help below."""
    from potstill.api.listing import format_presets

    lines = [f"{row['name']}: {row['title']} ({row['year']}), {row['paper']}", *filled(row["summary"])]
    lines += [part for said in (row["use_when"], row["avoid_when"]) if said for part in filled(said)]
    if row["related"]:
        lines += filled(f"Related: {', '.join(row['related'])}.")
    if row["options"]:
        presets = format_presets(row["presets"])
        lines += ["", "  --preset", *(part for preset in presets for part in filled(preset, indent=6))]
    for option in row["options"]:
        off = "no-" if option["default"] is True else ""  # a switch that is on is named by what turns it off
        default = {"": '""', None: "auto: by the data"}.get(option["default"], option["default"])
        name = option["name"]
        by_preset = {preset: fields[name] for preset, fields in row["presets"].items() if name in fields}
        values = [f"{preset} {'auto' if value is None else value}" for preset, value in by_preset.items()]
        told = ", ".join(values) or f"default: {default}"
        head = f"--{off}{option_name(name)}  ({told})"
        wrapped = filled(head, indent=2)  # wrapping would make one space of two
        lines += ["", *([f"  {head}"] if len(wrapped) == 1 else wrapped)]
        lines += filled(option["help"], indent=6)
    return "\n".join(lines if row["options"] else [*lines, "", "  It has no options."])
