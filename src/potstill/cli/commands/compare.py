"""``potstill compare``: options, grids in YAML, and the leaderboard as text."""

import contextlib
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro
from tyro.conf import UseAppendAction, arg

from potstill._util.formatting import describe_codec
from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataArgument, DataCommand, Flag, JobOptions, Misuse, Parsed, optional
from potstill.cli.option_types import ByteCounts, Integers, Names, Seconds, Specs
from potstill.cli.options import TYRO_CONFIG, last_value, option_fields, to_words
from potstill.cli.parsing import PROTOCOL_FIELDS, check_bounds, extra_options
from potstill.cli.reading import folder_metadata, load_data
from potstill.cli.recipe import read_recipe
from potstill.cli.text import Block, Table, filled
from potstill.errors import PotstillError, unknown_name

if TYPE_CHECKING:
    from potstill.tasks.metric import Metric

__all__ = ["Compare", "grid_words", "leaderboard_blocks"]

_EXCLUSIVE = ({"ipc", "items", "bytes"}, {"protocol", "protocols"})
"""Options of which the command line replaces all that a grid gives."""


@dataclass(frozen=True, kw_only=True)
class Compare(JobOptions, DataCommand):
    """Run several methods on DATA at several sizes, measure each, and rank them; differences are tested.

    The same command again resumes where an interrupted one stopped: finished cells are read, not run; a larger grid
    takes over those of a smaller one. The protocol's own settings are options too (--protocol NAME --help lists them).
    """

    data: DataArgument
    """The real data."""
    methods: Names
    """Methods, with commas between them."""
    ipc: Annotated[Integers | None, optional("N,…")] = None
    """Size budgets: items per class, with commas between them."""
    items: Annotated[Integers | None, optional("N,…")] = None
    """Or items in all, where there are no classes."""
    bytes: Annotated[ByteCounts | None, optional("20kB,…")] = None
    """Size budgets, beside or in place of these: bytes in all."""
    balance: Annotated[Literal["natural", "equal"] | None, optional("natural|equal")] = None
    """Share --items and --bytes between classes as distill does. (default: natural)"""
    repeats: Annotated[int, arg(metavar="N")] = 1
    """Sets of each cell, with the seeds S, S+1, …: differences are tested over sets, which takes three or more."""
    parametrizations: Annotated[Specs | None, optional("NAME,…")] = None
    """Parametrizations to try in turn: of `potstill parametrizations`. (default: the methods' own)"""
    codecs: Annotated[Specs | None, optional("NAME,…")] = None
    """Codecs to try in turn: of `potstill codecs`. (default: as distill does)"""
    grid: Annotated[Path | None, optional("GRID.yaml")] = None
    """Any of these options from a file, by their names; the command line wins."""
    out: Annotated[Path, arg(metavar="DIR")]
    """The folder for the distilled sets, their scorecards and leaderboard.json."""
    preset: Annotated[Literal["quick", "good", "published"] | None, optional("quick|good|published")] = None
    """Preset of each method, as for distill. (default: quick)"""
    time_limit: Annotated[Seconds | None, optional("10m")] = None
    """Time limit of each distillation (s, m, h)."""
    seeds: Annotated[int | None, optional("K")] = None
    """Independent trainings on each set."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of everything random."""
    protocol: Annotated[str, arg(metavar="NAME")] = "potstill"
    """Protocol: one of `potstill protocols`."""
    protocols: Annotated[Names | None, optional("NAME,…")] = None
    """Or several of them."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network to distil and to measure with."""
    baselines: Annotated[Names | None, optional("NAME,…")] = None
    """Further baselines. model: at each size a small quantised network in the same bytes, trained on all of DATA, which
    takes minutes; `potstill plan --baselines model` says how long."""
    snapshots: Flag = False
    """Save some images of each set at a few steps, too: the page shows how they developed."""
    set: Annotated[UseAppendAction[tuple[str, ...]], optional("METHOD.FIELD=VALUE")] = ()
    """An option of one of the methods, such as dm.iterations=500, or of one of the protocols, such as
    protocol:dc.epochs=50; may be given several times."""

    options_of: ClassVar[Literal["method", "protocol"] | None] = "protocol"
    main_options: ClassVar[tuple[str, ...]] = (
        "methods", "out", "ipc", "bytes", "repeats", "time_limit", "preset", "protocol", "network", "grid",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Size": ("items", "balance"),
        "Methods and their parts": ("parametrizations", "codecs", "set", "seed"),
        "Protocol": ("protocols", "seeds", "baselines"),
        "Logs and pictures": ("snapshots",),
    }
    examples: ClassVar[tuple[str, ...]] = (
        "potstill compare photos/ --methods random,herding,dm --ipc 1,10 --time-limit 5m --out comparison",
    )
    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ()}

    @classmethod
    def expand_words(cls, words: Sequence[str]) -> Sequence[str]:
        """Put the words of ``--grid`` before the others, so that the command line's own win.

        Raises:
            Misuse: both one and several protocols are named.
        """
        path = last_value(words, "--grid")
        expanded = words if path is None else [*grid_words(Path(path), words), *words]
        if last_value(expanded, "--protocol") is not None and last_value(expanded, "--protocols") is not None:
            raise Misuse("compare: --protocol names one, --protocols several; give one of the two")
        return expanded

    def check(self) -> None:
        no_budget = (self.ipc, self.items, self.bytes) == (None,) * 3
        if no_budget or (self.ipc is not None and self.items is not None):
            raise Misuse(
                "compare needs its sizes once: --ipc 1,10 (items per class), or --items 10,100 where there are "
                "none; and, or instead, --bytes 20kB,100kB"
            )

    def settings_by_name(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the entries of ``--set`` by method or ``protocol:NAME`` and field; values are read as ``distill
        --FIELD VALUE`` or ``evaluate --FIELD VALUE`` reads them."""
        methods, protocols = ["random", *self.methods], self.protocols or (self.protocol,)
        settings: dict[str, dict[str, Any]] = {}
        for entry in self.set:
            key, equals, text = entry.partition("=")
            owner, dot, option = key.rpartition(".")
            if not equals or not dot:
                raise Misuse(f"--set {entry}: write METHOD.FIELD=VALUE, such as dm.iterations=500")
            kind, name, known_names = "method", owner, list(methods)
            if owner.startswith("protocol:"):
                kind, name, known_names = "protocol", owner.removeprefix("protocol:"), list(protocols)
            if name not in known_names:
                raise Misuse(f"--set {entry}: {unknown_name(f'{kind} of --{kind}s', name, known_names)}")
            extra = extra_options(kind, name, PROTOCOL_FIELDS if kind == "protocol" else frozenset())
            known = {field.name: field for field in option_fields(extra.options)}
            if (field := known.get(option.replace("-", "_"))) is None:
                raise Misuse(f"--set {entry}: {kind} {name}: {unknown_name('option', option, known)}")
            try:
                words = to_words(field, {"true": True, "false": False}.get(text.lower()) if field.is_switch else text)
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    values = tyro.cli(extra.options, args=words, config=TYRO_CONFIG)
            except (SystemExit, ValueError) as error:
                see = f"distill --method {name}" if kind == "method" else f"evaluate --protocol {name}"
                raise Misuse(f"--set {entry}: {option} cannot be {text!r}; see potstill {see} --help") from error
            value = getattr(values, field.name)
            check_bounds(extra, {field.name: value})
            settings.setdefault(owner, {})[field.name] = value
        return settings

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.api.compare import compare

        splits = load_data(parsed, self.data, progress, folder_metadata(self.out))
        arguments = {**self.arguments_for(compare), "baselines": self.baselines or (), **parsed.options}
        board = compare(splits, options=parsed.settings, progress=progress.report_step, **arguments)
        failed = [row["error"] for row in board["rows"] if "scorecard" not in row]
        if len(failed) == len(board["rows"]):
            raise PotstillError(f"every cell failed; the first: {failed[0]}")
        page = shlex.join(["potstill", "report", str(self.out), "--out", str(self.out / "report.html")])
        verdict = filled(f"Verdict: {board['verdict']['text']}.")
        return Answer(board, [*leaderboard_blocks(board), f"Make a page of it: {page}", *verdict])


def grid_words(path: Path, argv: Sequence[str]) -> list[str]:
    """Return the entries of the grid at ``path`` as words of a command line, without those that ``argv`` replaces.

    A grid is a YAML mapping of these options, where methods and protocols may have options of their own:
    ``ipc: [1, 10]`` is ``--ipc 1,10``; ``methods: {random: , dm: {iterations: 500}}`` is ``--methods random,dm --set
    dm.iterations=500``; and in ``protocols`` likewise.

    Raises:
        PotstillError: it cannot be read, is not YAML, or is not a mapping.
    """
    entries = read_recipe(path)
    given = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in argv if word.startswith("--")}
    replaced = given.union(*(group for group in _EXCLUSIVE if group & given))
    words: list[str] = []
    for name, value in entries.items():
        nested: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        prefix = {"methods": "", "protocols": "protocol:", "set": ""}.get(name)
        if name in replaced and name != "set":
            continue
        if prefix is None or not nested:
            words += _option(name, value)
            continue
        if name != "set":
            words += _option(name, list(nested))
        for owner, options in nested.items():
            for field, option in (options if isinstance(options, Mapping) else {}).items():
                words += ["--set", f"{prefix}{owner}.{field}={_spelled(option)}"]
            if name == "set" and not isinstance(options, Mapping):  # written flat: dm.iterations: 500
                words += ["--set", f"{owner}={_spelled(options)}"]
    return words


def _option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag] if value else []
    if name == "set":
        return [word for entry in (value if isinstance(value, list) else [value]) for word in (flag, str(entry))]
    return [flag, ",".join(map(_spelled, value)) if isinstance(value, list) else _spelled(value)]


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


BELOW = (
    "= below a row without it: its gap to the best varies more from set to set, so that even a larger one is less sure"
)
"""Line for tables in which a lower mean has the mark of what cannot be told apart and a higher one has not."""


def leaderboard_blocks(board: Mapping[str, Any]) -> list[Block]:
    """Return a leaderboard as text: rows with their intervals, verdicts, and how they were tested."""
    from potstill.tasks.metric import Metric  # imports torch

    rows = board["rows"]
    metric = Metric.from_scorecard(next((row["scorecard"] for row in rows if "scorecard" in row), None))
    per_class = {row["unit"] for row in rows} == {"ipc"}
    sets, protocols = board["sets"] > 1, len(board["protocols"]) > 1
    head = [
        "ipc" if per_class else "size", *(["protocol"] if protocols else []), "", "method", metric.column_title,
        "95% interval", "sets" if sets else "n", "items", "bytes", "stored", "seconds",
        f"{metric.difference_unit} over random",
    ]  # fmt: skip
    shown = _with_models(rows, board.get("models") or (), metric)
    cells = [_cells(row, metric, per_class, protocols) for row in shown]
    ended = [
        f"{row['method']} at {row['amount']}: {row['scorecard']['outcome']['message']}" for row in rows
        if row.get("scorecard", {}).get("outcome", {}).get("kind") == "not finite"
    ]  # fmt: skip
    missing = [
        f"{row['id']}: {len(lost)} of {len(row['cells'])} sets failed, the first: {lost[0]['error']}" for row in rows
        if "error" not in row and (lost := [cell for cell in row["cells"] if "error" in cell])
    ]  # fmt: skip
    marked = any(row.get("not_told_apart") and not row["best"] for row in rows)
    key = "* the best mean; = not told apart from it" if marked else "* the best mean"
    if _has_marks_below_none(rows):
        key += f"\n{BELOW}"
    return [
        Table(head, cells, [*map(_style, shown)]), key, *ended, *missing,
        *(line for verdict in board["verdicts"] for line in filled(verdict["text"])),
        *(line for text in map(board["verdict"].get, ("warning", "model")) if text for line in filled(text)),
        *filled(f"Tested: {board['test']}."),
        *([f"Fair: {board['fair']}."] if board.get("fair") else []),
    ]  # fmt: skip


def _has_marks_below_none(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return True if a row is not told apart from the best, but one above it at its size and protocol is."""
    worse = set()
    for row in rows:
        where = (row["unit"], row["amount"], row["protocol"])
        if row.get("not_told_apart") is False:
            worse.add(where)
        elif row.get("not_told_apart") and where in worse:
            return True
    return False


def _with_models(
    rows: Sequence[Mapping[str, Any]], models: Sequence[Mapping[str, Any]], metric: "Metric"
) -> list[Mapping[str, Any]]:
    """Return the rows with each model in its place among those of its size and protocol, a failed one after them."""
    shown = list(rows)
    for model in models:
        where = [model[key] for key in ("unit", "amount", "protocol")]
        beside = [n for n, row in enumerate(shown) if [row[key] for key in ("unit", "amount", "protocol")] == where]
        ahead = [
            n for n in beside
            if "score" not in model or ("score" in shown[n] and not metric.better(model["score"]["mean"],
                                                                                   shown[n]["score"]["mean"]))
        ]  # fmt: skip
        shown.insert(1 + max(ahead) if ahead else min(beside, default=len(shown)), model)
    return shown


def _style(row: Mapping[str, Any]) -> str:
    """Return the style of a row on a terminal."""
    if "score" not in row:
        return "red"
    if "scorecard" not in row:
        return "cyan"
    return "bold green" if row["best"] else "green" if row["not_told_apart"] else ""


def _cells(row: Mapping[str, Any], metric: "Metric", per_class: bool, protocols: bool) -> list[object]:
    """A row of the table."""
    unit = {"ipc": "" if per_class else " per class", "items": "", "bytes": " B"}[row["unit"]]
    named = " ".join(
        str(row[key]) for key in ("method", "parametrization", "requested_codec") if row.get(key) is not None
    )
    start = [f"{row['amount']:,}{unit}", *([row["protocol"]] if protocols else [])]
    if "score" not in row:
        return [*start, "", named, "failed", "", "", "", "", "", "", row["error"]]
    score, gap = row["score"], row.get("difference")
    mark = "*" if row.get("best") else "=" if row.get("not_told_apart") else ""
    return [
        *start, mark, named, metric.format(score["mean"]).replace("%", " %"),
        "" if score["ci95"] is None else " to ".join(map(metric.format, score["ci95"])).replace("%", ""), score["n"],
        "" if row.get("items") is None else f"{row['items']:,}", f"{row['bytes']:,}",
        row["network"] if "network" in row else describe_codec(row.get("codec")),
        "" if row.get("seconds") is None else f"{row['seconds']:.3g}",
        "" if gap is None else metric.format_difference(gap["mean"]) + _ends(metric, gap["ci95"]),
    ]  # fmt: skip


def _ends(metric: "Metric", ends: Sequence[float] | None) -> str:
    """Return the ends of a difference's interval; nothing where one student has none."""
    return "" if ends is None else f" [{', '.join(map(metric.format_difference, ends))}]"
