"""A leaderboard on the user's own data: every method at every size, each cell kept as it is done."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from potstill import registry
from potstill.asked import asked_budget, asked_effort, renamed
from potstill.core import Budget, Splits
from potstill.driver import Interrupted, Progress, versions
from potstill.errors import PotstillError, unknown
from potstill.evaluation import Protocol
from potstill.evaluation.labeller import labels_itself
from potstill.execution import Executor, Serial, asked_executor
from potstill.locks import only_run
from potstill.metric import Metric
from potstill.nn import OwnNetwork, given
from potstill.ownfile import names_file
from potstill.storage import differences, load, read_identity, write_atomic
from potstill.verbs.distill import distill, identity_of, settle
from potstill.verbs.evaluate import evaluate
from potstill.verbs.load import as_splits, pick_device

__all__ = ["FAIR", "compare"]

FAIR = (
    "random stands here for as many real samples, at their own bytes; the fair comparison is at equal bytes, which "
    "evaluate makes for each set"
)
"""What a leaderboard says of its rival."""


def compare(
    data: Any,
    methods: Sequence[str],
    ipc: Sequence[int] | int | None = None,
    *,
    items: Sequence[int] | int | None = None,
    out: Path,
    effort: str | None = None,
    budget: str | float | None = None,
    seeds: int | None = None,
    protocol: str = "potstill",
    network: str | OwnNetwork | Callable[..., Any] | None = None,
    device: str = "auto",
    seed: int = 0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    executor: Executor | str | None = None,
    progress: Callable[[str, Progress], None] | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """Distil and evaluate every method at every ``ipc`` under one protocol; ``random`` is always among them.

    Each cell is two files in ``out``: the set and its scorecard. A cell that is there already, made of the same data
    with the same settings, is not made again, so an interrupted comparison goes on where it stopped. What is there and
    was made otherwise is neither adopted nor replaced: it may hold samples that this comparison tests on, and it may be
    all that is left of hours of work. The comparison then ends before it begins, and says which file differs in what.
    ``out/leaderboard.json`` holds the rows, best first within each ``ipc``, with items, bytes and store, and each row's
    difference from random with its interval: from as many random samples, at their own bytes, where `evaluate` measures
    random samples in the bytes of the set. A set that is labelled by the teacher that made it is held against random
    samples of the same bytes that this teacher labels too.

    Args:
        data: anything ``load_data`` takes.
        methods: registered names.
        ipc: items per class.
        items: items in all, in place of ``ipc``: where there are no classes.
        network: to distil and to measure with: a registered name, or one of your own as `potstill.distill` takes it.
        out: folder, made if it is not there.
        effort: how hard each method tries, as for `potstill.distill`.
        budget: time for each cell's distilling: seconds, or text such as ``10m``.
        seeds: students per cell; with one, accuracies have no interval.
        options: fields of methods, by the method's name: ``{"dm": {"iterations": 500}}``.
        executor: where cells are made: ``serial``, ``processes`` (so many at a time as there are cores), or an
            `potstill.execution.Executor`. Default: one after another here, each with as many processes as help.
        progress: called with the cell's name after every step of distilling, where cells are made in this process.
        **overrides: fields of the protocol's recipe, e.g. ``epochs=50``.

    Returns:
        The content of ``leaderboard.json``.

    Raises:
        PotstillError: ``out`` cannot be written, holds cells that were made otherwise, or another comparison runs
            there; or a method or protocol has no such option.
        Interrupted: a signal came; the same call goes on from the checkpoint of the cell under way.
    """
    if (ipc is None) == (items is None):
        raise PotstillError("a comparison needs its sizes once: ipc, items per class, or items in all")
    asked = ipc if items is None else items
    unit: Literal["ipc", "items"] = "ipc" if items is None else "items"
    sizes: list[Any] = list(asked) if isinstance(asked, Sequence) and not isinstance(asked, str) else [asked]
    if not sizes or not all(type(amount) is int and amount >= 1 for amount in sizes):
        what = "item per class" if items is None else "item in all"
        raise PotstillError(f"{unit} must be whole numbers of at least 1 {what}, such as [1, 10], not {asked!r:.80}")
    given_methods = [methods] if isinstance(methods, str) else methods
    names, options = list(dict.fromkeys(["random", *given_methods])), options or {}
    for name in options:
        if name not in names:
            raise unknown("method with options", name, names)
        if name in registry.names("methods"):  # others are reported with their cells
            registry.make_method(name, options[name])
    chosen: Protocol = registry.resolve("protocols", protocol)
    chosen = chosen.override(**overrides) if overrides else chosen
    splits = as_splits(data, pick_device(device))
    # An option of `distill` or of `evaluate` is one line here: it is handed over, and part of every cell's settings.
    (limit,) = renamed(overrides, {"time_budget": "budget"}, budget=budget)
    seconds = asked_budget(limit)
    making = {
        "seed": seed, "network": given(network), "budget": seconds, "effort": asked_effort(effort, "", None, seconds)
    }  # fmt: skip
    measuring = {"protocol": protocol, "seeds": seeds, "overrides": overrides}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PotstillError(f"{out}: a folder that can be written is needed ({error.strerror})") from error
    with only_run(out / "leaderboard.json"):
        cells = [
            _Cell(
                method=name, ipc=amount, options=options.get(name, {}), data=splits.train.content_hash, making=making,
                measuring=measuring, protocol=chosen, stem=out / f"{_file_name(name)}-{unit}{amount}", unit=unit,
                device=device,
            )
            for amount in dict.fromkeys(sizes) for name in names
        ]  # fmt: skip
        for cell in cells:
            cell.check(splits)
        runner = asked_executor(executor)
        here = runner is None or isinstance(runner, Serial)
        make = _Maker(splits=splits, executor=None if runner is None else Serial(), progress=progress if here else None)
        board = _board(cells, splits, (runner or Serial(torch.get_num_threads())).map(make, cells))
        write_atomic(out / "leaderboard.json", _text(board))
    return board


def _file_name(method: str) -> str:
    """A method's name as part of a file's: ``pull-Pull`` of ``somewhere/pull.py:Pull``."""
    file, _, name = method.rpartition(":")
    return f"{Path(file).stem}-{name}" if names_file(method) else method


def _text(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes and measures a cell: what all cells share, sent to a worker once."""

    splits: Splits
    executor: Executor | None
    progress: Callable[[str, Progress], None] | None

    def __call__(self, cell: "_Cell") -> Mapping[str, Any] | str:
        """The scorecard, or why there is none."""
        try:
            return cell.measured(self.splits, self.executor, self.progress)
        except _Failed as error:
            return str(error)


def _board(cells: Sequence["_Cell"], splits: Splits, made: Iterator[Mapping[str, Any] | str]) -> dict[str, Any]:
    from potstill.evaluation.statistics import answers_of, difference

    scores: dict[tuple[str, int], Mapping[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    for cell, score in zip(cells, made, strict=True):
        row: dict[str, Any] = {"method": cell.method, "ipc": cell.ipc}
        rows.append(row)
        if isinstance(score, str):
            row["error"] = score
            continue
        scores[cell.method, cell.ipc] = score
        row |= {"file": cell.file.name, "scorecard": score}
        about, held = score.get("set", {}), score.get("bytes", {})
        row |= {
            "items": about.get("items"), "store": about.get("store"), "bytes": held.get("total"),
            "coded": held.get("coded"),
        }  # fmt: skip
        rival = scores.get(("random", cell.ipc))
        if (alike := score["difference"].get("random")) is not None:  # real samples with this set's labeller
            row["difference"] = alike
        elif cell.method != "random" and rival is not None:
            answers = answers_of(Metric.of(score), len(splits.test or ()))
            row["difference"] = difference(_score(score)["values"], _score(rival)["values"], answers)

    def order(row: Mapping[str, Any]) -> tuple[int, float]:
        card = row.get("scorecard")
        return row["ipc"], math.inf if card is None else -Metric.of(card).sign * _score(card)["mean"]

    rows.sort(key=order)
    return {
        "source": splits.train.name, "protocol": cells[0].measuring["protocol"], "fair": FAIR, "rows": rows
    }  # fmt: skip


def _score(scorecard: Mapping[str, Any]) -> Mapping[str, Any]:
    """The score; of a scorecard of before there were others, the accuracy."""
    found: Mapping[str, Any] = scorecard.get("score") or scorecard["accuracy"]
    return found


class _Failed(Exception):
    """A cell that could not be made, with the reason; the others go on."""


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One method at one size, as a picklable value: two files, and everything that decides what is in them."""

    method: str
    ipc: int
    """Items per class, or in all, as ``unit`` says."""
    unit: Literal["ipc", "items"]
    options: Mapping[str, Any]
    data: str
    """The content hash of the training data."""
    making: Mapping[str, Any]
    measuring: Mapping[str, Any]
    protocol: Protocol
    stem: Path
    device: str

    @property
    def per_class(self) -> int | None:
        return self.ipc if self.unit == "ipc" else None

    @property
    def in_all(self) -> int | None:
        return self.ipc if self.unit == "items" else None

    @property
    def file(self) -> Path:
        return Path(f"{self.stem}.safetensors")

    @property
    def card(self) -> Path:
        return Path(f"{self.stem}.scorecard.json")

    @property
    def checkpoint(self) -> Path:
        return Path(f"{self.file}.checkpoint")

    @property
    def settings(self) -> dict[str, Any]:
        """What the scorecard says that it was made with. Nothing is ``None``, as in scorecards of earlier versions."""
        making = {name: value for name, value in self.making.items() if (name, value) != ("effort", "published")}
        making["time_budget"] = making.pop("budget")
        return {
            "method": self.method, self.unit: self.ipc, "data": self.data,
            **{name: str(value) if isinstance(value, OwnNetwork) else value for name, value in making.items()},
            "options": dict(self.options) or None, **self.measuring, "overrides": self.measuring["overrides"] or None,
        }  # fmt: skip

    def check(self, splits: Splits) -> None:
        """
        Raises:
            PotstillError: what is there of this cell was made otherwise.
        """
        if (kept := self._kept()) is not None:
            told = kept.get("settings")
            _same(self.card, told if isinstance(told, dict) else {}, self.settings)
            _same(self.card, {"fingerprint": kept.get("fingerprint")}, {"fingerprint": self.protocol.fingerprint()})
        if not self.file.exists() and not self.checkpoint.exists():
            return
        try:
            wanted = self._identity(splits)
        except PotstillError:
            return  # it cannot be made, and says so when its turn comes
        if self.file.exists():
            card = load(self.file).card
            counted = ("ipc",) if self.unit == "ipc" else ()
            said = {name: card[name] for name in ("method", "config", "seed", *counted)} | {
                "network": card.get("network"), "source": card["source"].get("hash"), "zca": None,
                "limits": card.get("limits", {}),  # earlier versions said none: such a set is adopted without a budget
            }  # fmt: skip
            limits = {"steps": None, "time_budget": self.making["budget"]}
            _same(
                self.file,
                said,
                {
                    **{n: v for n, v in wanted.items() if n in said},
                    **dict.fromkeys(counted, self.ipc),
                    "limits": limits,
                },
            )
        elif self.checkpoint.exists():
            identity, computed = read_identity(self.checkpoint)
            _same(self.checkpoint, identity, wanted)
            _same(self.checkpoint, computed, versions() if computed else {})

    def measured(
        self, splits: Splits, executor: Executor | None, progress: Callable[[str, Progress], None] | None
    ) -> Mapping[str, Any]:
        """The scorecard, from its file if it is there.

        Raises:
            _Failed: the method or the measurement does not work on these data.
            PotstillError: a file cannot be written.
        """
        if (kept := self._kept()) is not None:
            return kept
        if self.file.exists():
            small = load(self.file)
        else:
            with _failing():
                small = distill(
                    splits, self.method, ipc=self.per_class, items=self.in_all, **self.making, device=self.device,
                    executor=executor,
                    checkpoint=self.checkpoint, resume=self.checkpoint.exists(),
                    progress=None if progress is None else lambda p: progress(self.stem.name, p), **self.options,
                )  # fmt: skip
            small.save(self.file)
            self.checkpoint.unlink(missing_ok=True)
        networks = None if self.making["network"] is None else [self.making["network"]]
        with _failing():
            score = evaluate(
                small, splits, protocol=self.measuring["protocol"], network=networks,
                seeds=self.measuring["seeds"], seed=self.making["seed"], robust_scores=False,
                baselines=labels_itself(self.protocol, small),
                device=self.device, executor=executor, progress=None, **self.measuring["overrides"],
            )  # fmt: skip
        result = {**score.to_dict(), "settings": self.settings, "outcome": small.card["outcome"]}
        write_atomic(self.card, _text(result))
        return result

    def _kept(self) -> dict[str, Any] | None:
        """The scorecard that is there.

        Raises:
            PotstillError: something else is there.
        """
        if not self.card.exists():
            return None
        try:
            found = json.loads(self.card.read_text())
            if not isinstance(found, dict) or not isinstance(found.get("score", found.get("accuracy")), dict):
                raise ValueError("it holds no score")
        except (OSError, ValueError, RecursionError) as error:
            raise PotstillError(
                f"{self.card}: not a scorecard ({type(error).__name__}: {error}); delete it to measure again"
            ) from error
        return found

    def _identity(self, splits: Splits) -> dict[str, Any]:
        settled = settle(
            splits, self.method, ipc=None, budget=Budget(unit=self.unit, amount=self.ipc),
            network=self.making["network"], parametrization=None,
            labels=None, augment=None, zca=None, device=self.device, effort=self.making["effort"], **self.options,
        )  # fmt: skip
        return identity_of(settled, self.making["seed"])


@contextlib.contextmanager
def _failing() -> Any:
    """What does not work is a failed cell; an interruption ends the comparison."""
    try:
        yield
    except Interrupted:
        raise
    except PotstillError as error:
        raise _Failed(str(error)) from error


def _same(path: Path, said: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """
    Raises:
        PotstillError: they differ; the message says in what.
    """
    if differing := differences(dict(said), dict(wanted)):
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise PotstillError(
            f"{path}: is not what this comparison would make: {'; '.join(differing[:3])}{more}; choose another folder, "
            "or delete the file to make it again"
        )
