"""One set of a comparison and its measurements: files in the comparison's folder, made only where they are missing."""

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from potstill._util.import_from_file import is_file_reference, source_digests
from potstill._util.progress import Callback
from potstill.api.distill import run
from potstill.api.evaluate import evaluate
from potstill.automl.real import is_searched
from potstill.core import Method, Splits
from potstill.core.registry import get_method_class, make_method
from potstill.dataset_file import Distilled, differences, drop_checkpoint, load, read_identity, write_atomic
from potstill.errors import PotstillError
from potstill.evaluation import Protocol
from potstill.evaluation.teacher_labels import is_self_labelled
from potstill.execution import Executor
from potstill.kinds import get_kind
from potstill.nn import CustomNetwork
from potstill.runs.loop import Interrupted, Progress, split_identity
from potstill.runs.resolve import resolve_run, run_identity
from potstill.runs.spec import RunIO, RunLimits, RunSpec

__all__ = ["Cell", "CellMaker", "Measure", "Result", "SharedSettings", "Unit", "check_equal", "stem_of", "to_json"]

Unit: TypeAlias = Literal["ipc", "items", "bytes"]
Result: TypeAlias = Mapping[str, Any] | str
"""A scorecard, or why there is none."""


_LONGEST = 80
"""Characters of a method that is a value in the name of a file; the rest is told apart by a hash."""


def to_json(value: Any) -> bytes:
    """Return the bytes of JSON as it is written to files."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def stem_of(method: str, unit: Unit, amount: int, parametrization: str | None, codec: str | None, repeat: int) -> str:
    """Return the stem of a cell's files: ``dm-ipc10-tiles_factor_2-uint4-set1``.

    ``somewhere/pull.py:Pull`` gives ``pull-Pull``, the value ``DM(iterations=5)`` gives ``DM_iterations_5``; the first
    set has no number.
    """
    file, _, name = method.rpartition(":")
    plain = _as_file_name(method).strip("_") if "(" in method else method
    if len(plain) > _LONGEST:
        plain = f"{plain[:_LONGEST]}-{hashlib.sha256(method.encode()).hexdigest()[:8]}"
    parts = [f"{Path(file).stem}-{name}" if is_file_reference(method) else plain, f"{unit}{amount}"]
    parts += [_as_file_name(axis) for axis in (parametrization, codec) if axis is not None]
    return "-".join([*parts, *([f"set{repeat}"] if repeat else [])])


def _as_file_name(name: str) -> str:
    """Return a name as part of a file's name."""
    return re.sub(r"[^\w.+]", "_", name)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A protocol with its options: how every set is measured."""

    name: str
    protocol: Protocol
    seeds: int | None
    overrides: Mapping[str, Any]
    alone: bool = True
    """No other protocol is asked for."""

    @property
    def students(self) -> int:
        """Students of each set."""
        return self.protocol.students if self.seeds is None else self.seeds

    @property
    def slug(self) -> str:
        """The name as part of a file's name."""
        return _as_file_name(self.name)

    @property
    def settings(self) -> dict[str, Any]:
        return {"protocol": self.name, "seeds": self.seeds, "overrides": dict(self.overrides) or None}


@dataclass(frozen=True, kw_only=True)
class CellMaker:
    """Makes and measures a cell; sent to a worker once."""

    splits: Splits
    executor: Executor | None
    progress: Callable[[str, Progress], None] | None
    snapshots: bool = False
    """Keep images of a few steps beside the sets that are optimised images."""

    def __call__(self, cell: "Cell") -> list[Result]:
        """Return the scorecard of every protocol, from its file if it is there; or why there is none.

        Raises:
            PotstillError: a file cannot be written.
        """
        cards = [cell.read_scorecard(measure) for measure in cell.shared.measures]
        if None not in cards:
            return [card for card in cards if card is not None]
        small = self._distil(cell)
        if isinstance(small, str):
            return [small if card is None else card for card in cards]
        return [
            self._measure(cell, small, measure) if card is None else card
            for measure, card in zip(cell.shared.measures, cards, strict=True)
        ]

    def _distil(self, cell: "Cell") -> Distilled | str:
        """Return the set, from its file if it is there; or why there is none."""
        if cell.file.exists():
            return load(cell.file)
        progress = self.progress
        io = RunIO(
            progress=None if progress is None else lambda event: progress(cell.stem, event), executor=self.executor,
            checkpoint=cell.checkpoint, resume=cell.checkpoint.exists(),
            snapshots=Path(f"{cell.file}.film") if self.snapshots and self._optimises_images(cell) else None,
        )  # fmt: skip
        try:
            small = run(cell.spec(self.splits), RunLimits(time_limit=cell.shared.time_limit), io)
        except Interrupted:
            raise
        except PotstillError as error:
            return str(error)
        small.save(cell.file)
        drop_checkpoint(cell.checkpoint)
        return small

    def _optimises_images(self, cell: "Cell") -> bool:
        method = make_method(cell.requested_method, {})[1]
        input = self.splits.train.input
        return get_kind(input).augmentable and not input.parts and not method.info.is_selection

    def _report(self, cell: "Cell") -> Callback | None:
        """Return a callback that counts the students of a cell, whose number is not known before."""
        if (progress := self.progress) is None:
            return None
        begun, trained = time.monotonic(), 0

        def report(label: str, done: int, total: int) -> None:
            nonlocal trained
            trained += done > 0
            seconds = time.monotonic() - begun
            event = Progress(step=trained, total=None, seconds=seconds, time_limit=None, metrics={})
            progress(f"{cell.stem}, training students", event)

        return report

    def _measure(self, cell: "Cell", small: Distilled, measure: Measure) -> Result:
        """Return the scorecard, and write it; or why there is none."""
        shared = cell.shared
        try:
            score = evaluate(
                small, self.splits, protocol=measure.protocol,
                networks=None if shared.network is None else [shared.network], seeds=measure.seeds, seed=cell.seed,
                robust_scores=False, baselines=is_self_labelled(measure.protocol, small),
                full=cell.repeat == 0,  # of all the data, whichever set it is
                device=shared.device, executor=self.executor, progress=self._report(cell),
            )  # fmt: skip
        except Interrupted:
            raise
        except PotstillError as error:
            return str(error)
        curve = [{name: _finite(value) for name, value in row.items()} for row in small.history]
        result = {
            **score.to_dict(), "settings": cell.settings(measure), "outcome": small.metadata["outcome"],
            "file": cell.file.name, "cell": cell.to_dict(measure), "making": small.metadata["cost"], "curve": curve,
        }  # fmt: skip
        written = to_json(result)
        write_atomic(cell.scorecard_path(measure), written)
        card: Mapping[str, Any] = json.loads(written)
        return card


@dataclass(frozen=True, kw_only=True)
class SharedSettings:
    """Settings of all cells of a comparison."""

    data: str
    """Hash of the training data and of its groups."""
    seed: int
    network: CustomNetwork | str | None
    time_limit: float | None
    """Seconds for each set."""
    preset: str | None
    balance: str | None
    measures: tuple[Measure, ...]
    folder: Path
    device: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One set, as a picklable value: its files, and everything that decides their contents."""

    method: str
    """Name of the method on the leaderboard."""
    unit: Unit
    amount: int
    parametrization: str | None
    """As requested; ``None``: the method's own, also where the method has none to choose."""
    codec: str | None
    repeat: int
    """Number of the set, from 0 on; it is added to the comparison's seed."""
    options: Mapping[str, Any]
    shared: SharedSettings
    value: Method[Any] | None = None
    """The method, where it is no name."""

    @property
    def requested_method(self) -> str | Method[Any]:
        """The method as `potstill.distill` takes it."""
        return self.method if self.value is None else self.value

    @property
    def preset(self) -> str | None:
        """``None`` for a method that is a value."""
        return self.shared.preset if self.value is None else None

    @property
    def balance(self) -> str | None:
        """``None`` for items per class, which are as many of each."""
        return None if self.unit == "ipc" else self.shared.balance or "natural"

    @property
    def seed(self) -> int:
        return self.shared.seed + self.repeat

    @property
    def stem(self) -> str:
        return stem_of(self.method, self.unit, self.amount, self.parametrization, self.codec, self.repeat)

    @property
    def row(self) -> str:
        """The stem of the first set of this kind, which names its row."""
        return stem_of(self.method, self.unit, self.amount, self.parametrization, self.codec, 0)

    @property
    def file(self) -> Path:
        return self.shared.folder / f"{self.stem}.safetensors"

    @property
    def checkpoint(self) -> Path:
        return Path(f"{self.file}.checkpoint")

    def spec(self, splits: Splits) -> RunSpec:
        """Return the run that makes the set."""
        size: dict[str, Any] = {self.unit: self.amount}
        return RunSpec(
            splits, self.requested_method, **size, balance=self.balance, preset=self.preset, seed=self.seed,
            network=self.shared.network, parametrization=self.parametrization, codec=self.codec,
            device=self.shared.device, options=self.options,
        )  # fmt: skip

    def scorecard_path(self, measure: Measure) -> Path:
        """Return the file of the scorecard under one protocol: with the protocol's name, where there are several."""
        plain = self.shared.folder / f"{self.stem}.scorecard.json"
        named = self.shared.folder / f"{self.stem}.{measure.slug}.scorecard.json"
        protocol = _read_protocol(plain)
        if protocol == measure.name or (measure.alone and protocol is None and not named.exists()):
            return plain
        return named

    def settings(self, measure: Measure) -> dict[str, Any]:
        """Return what the scorecard says that it was made with."""
        network = self.shared.network
        return {
            "method": self.method, self.unit: self.amount, "data": self.shared.data, "seed": self.seed,
            "network": str(network) if isinstance(network, CustomNetwork) else network, "preset": self.preset,
            "time_limit": self.shared.time_limit, "balance": self.balance, "options": dict(self.options) or None,
            "parametrization": self.parametrization, "codec": self.codec,
            **({"own_files": files} if (files := self._own_files()) else {}), **measure.settings,
        }  # fmt: skip

    def _own_files(self) -> dict[str, str]:
        """Return the SHA-256 of each of the user's own files that the set is made with."""
        network = self.shared.network
        constructors: list[Any] = [network.constructor] if isinstance(network, CustomNetwork) else []
        method = get_method_class(self.method) if self.value is None and is_file_reference(self.method) else self.value
        return source_digests([*([] if method is None else [method]), *constructors])

    def to_dict(self, measure: Measure) -> dict[str, Any]:
        """Return which cell it is: JSON values."""
        return {
            "method": self.method, "unit": self.unit, "amount": self.amount, "parametrization": self.parametrization,
            "codec": self.codec, "set": self.repeat, "seed": self.seed, "protocol": measure.name,
        }  # fmt: skip

    def check(self, splits: Splits) -> None:
        """Check that existing files of this cell were made with these settings.

        Raises:
            PotstillError: one was made otherwise.
        """
        for measure in self.shared.measures:
            if (card := self.read_scorecard(measure)) is not None:
                path, settings = self.scorecard_path(measure), card.get("settings")
                check_equal(path, settings if isinstance(settings, dict) else {}, self.settings(measure))
                fingerprint = {"fingerprint": measure.protocol.fingerprint()}
                check_equal(path, {"fingerprint": card.get("fingerprint")}, fingerprint)
        if not self.file.exists() and not self.checkpoint.exists():
            return
        spec = self.spec(splits)
        if not self.file.exists() and spec.bytes is not None:  # a run keeps the plan that it began with
            spec = replace(spec, planned_bytes=read_identity(self.checkpoint)[0].get("planned_bytes"))
        try:
            expected = run_identity(resolve_run(spec))
        except PotstillError:
            return  # it cannot be made, and says so when its turn comes
        if self.file.exists():
            card = load(self.file).metadata
            counted = ("ipc",) if self.unit == "ipc" else ()
            found = {name: card[name] for name in ("method", "config", "seed", *counted)} | {
                "network": card.get("network"), "source": card["source"].get("hash"), "zca": None,
                "balance": card.get("balance"), "own_files": card.get("own_files"), "limits": card.get("limits", {}),
            }  # fmt: skip
            limits = {"steps": None, "time_limit": self.shared.time_limit}
            same = {name: value for name, value in expected.items() if name in found}
            if is_searched(self.requested_method, self.options):
                same = self._as_searched(same, found)
            check_equal(self.file, found, {**same, **dict.fromkeys(counted, self.amount), "limits": limits})
        elif not is_searched(self.requested_method, self.options):  # else the run itself compares, after its search
            identity, computed = read_identity(self.checkpoint)
            of, by = split_identity(expected)
            check_equal(self.checkpoint, identity, of)
            check_equal(self.checkpoint, computed, by if computed else {})

    def _as_searched(self, expected: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a searched set of real samples: the search chose what was not requested."""
        free = {"selection", "labels"} - (set(self.options) - {"selection"})
        config = {name: value for name, value in stored["config"].items() if name in free}
        return {**expected, "config": {**expected["config"], **config}, "balance": stored["balance"]}

    def read_scorecard(self, measure: Measure) -> dict[str, Any] | None:
        """Return the existing scorecard.

        Raises:
            PotstillError: the file is no scorecard.
        """
        path = self.scorecard_path(measure)
        if not path.exists():
            return None
        try:
            card = json.loads(path.read_text())
            if not isinstance(card, dict) or not isinstance(card.get("score"), dict):
                raise ValueError("it holds no score")
        except (OSError, ValueError, RecursionError) as error:
            raise PotstillError(
                f"{path}: not a scorecard ({type(error).__name__}: {error}); delete it to measure again"
            ) from error
        return card


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_protocol(path: Path) -> str | None:
    """Return the protocol in a scorecard; ``None`` where there is no scorecard."""
    try:
        protocol = json.loads(path.read_text())["settings"]["protocol"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    return protocol if isinstance(protocol, str) else None


def check_equal(path: Path, stored: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Check that a file was made with the requested settings.

    Raises:
        PotstillError: they differ; the message says in what.
    """
    if differing := differences(dict(stored), dict(expected)):
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise PotstillError(
            f"{path}: is not what this comparison would make: {'; '.join(differing[:3])}{more}; choose another folder, "
            "or delete the file to make it again"
        )
