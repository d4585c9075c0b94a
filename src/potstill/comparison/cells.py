"""One set of a comparison and its measurements: files in the comparison's folder, made only where they are missing."""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from potstill._util.import_from_file import is_file_reference, source_digests
from potstill.api.distill import distill, resolve_run, run_identity
from potstill.api.evaluate import evaluate
from potstill.core import Budget, Method, Splits
from potstill.core.registry import get_method_class, make_method
from potstill.dataset_file import Distilled, differences, drop_checkpoint, load, read_identity, write_atomic
from potstill.errors import PotstillError
from potstill.evaluation import Protocol
from potstill.evaluation.teacher_labels import is_self_labelled
from potstill.execution import Executor
from potstill.kinds import get_kind
from potstill.nn import CustomNetwork
from potstill.runs.loop import Interrupted, Progress, split_identity

__all__ = ["Cell", "Maker", "Measure", "Result", "Unit", "stem_of", "text"]

Unit: TypeAlias = Literal["ipc", "items", "bytes"]
Result: TypeAlias = Mapping[str, Any] | str
"""A scorecard, or why there is none."""


_LONGEST = 80
"""Characters of a method that is a value in the name of a file; the rest is told apart by a hash."""


def text(value: Any) -> bytes:
    """JSON as it is written to files."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def stem_of(
    method: str, unit: Unit, amount: int, parametrization: str | None, store: str | None, at: int
) -> str:  # fmt: skip
    """The name of a cell's files: ``dm-ipc10-tiles_factor_2-uint4-set1``. A method of an own file is ``pull-Pull`` of
    ``somewhere/pull.py:Pull``, ``DM_iterations_5`` one that is a value; the first set has no number."""
    file, _, name = method.rpartition(":")
    plain = _plain(method).strip("_") if "(" in method else method
    if len(plain) > _LONGEST:
        plain = f"{plain[:_LONGEST]}-{hashlib.sha256(method.encode()).hexdigest()[:8]}"
    parts = [f"{Path(file).stem}-{name}" if is_file_reference(method) else plain, f"{unit}{amount}"]
    parts += [_plain(axis) for axis in (parametrization, store) if axis is not None]
    return "-".join([*parts, *([f"set{at}"] if at else [])])


def _plain(name: str) -> str:
    """A name as part of a file's."""
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
    def slug(self) -> str:
        """Its name as part of a file's."""
        return _plain(self.name)

    @property
    def settings(self) -> dict[str, Any]:
        return {"protocol": self.name, "seeds": self.seeds, "overrides": dict(self.overrides) or None}


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes and measures a cell: what all cells share, sent to a worker once."""

    splits: Splits
    executor: Executor | None
    progress: Callable[[str, Progress], None] | None
    film: bool = False
    """Whether pictures of a few steps are kept beside the sets that are made of pictures."""

    def __call__(self, cell: "Cell") -> list[Result]:
        """Of every protocol the scorecard, or why there is none."""
        return cell.measured(self.splits, self.executor, self.progress, self.film)


class _Failed(Exception):
    """A cell that could not be made, with the reason; the others go on."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One set, as a picklable value: its files, and everything that decides what is in them."""

    method: str
    """What the board calls it."""
    unit: Unit
    amount: int
    parametrization: str | None
    """As it was asked for; ``None``: the method's own, also where the method has none to choose."""
    store: str | None
    at: int
    """Which of the sets it is, from 0 on; its seed is as many above the comparison's."""
    options: Mapping[str, Any]
    data: str
    """The hash of the training data, and of its groups."""
    making: Mapping[str, Any]
    measures: tuple[Measure, ...]
    folder: Path
    device: str
    value: Method[Any] | None = None
    """The method, where it is no name."""

    @property
    def asked(self) -> str | Method[Any]:
        """What `distill` is asked for."""
        return self.method if self.value is None else self.value

    @property
    def choices(self) -> dict[str, Any]:
        """What `distill` is asked for besides, of this cell: a value has all of its fields, whatever the effort."""
        of_value = {} if self.value is None else {"effort": None}
        return {**self.making, **of_value, "balance": self.balance, "seed": self.seed}

    @property
    def balance(self) -> Any:
        """How it is shared out between classes; items per class are as many of each, whatever is asked for."""
        return None if self.unit == "ipc" else self.making["balance"] or "natural"

    @property
    def seed(self) -> int:
        return int(self.making["seed"]) + self.at

    @property
    def stem(self) -> str:
        return stem_of(self.method, self.unit, self.amount, self.parametrization, self.store, self.at)

    @property
    def row(self) -> str:
        """What all sets of one kind are called: the stem of the first."""
        return stem_of(self.method, self.unit, self.amount, self.parametrization, self.store, 0)

    @property
    def file(self) -> Path:
        return self.folder / f"{self.stem}.safetensors"

    @property
    def checkpoint(self) -> Path:
        return Path(f"{self.file}.checkpoint")

    def card(self, measure: Measure) -> Path:
        """The file of the scorecard under one protocol: with the protocol's name, where there are several."""
        plain = self.folder / f"{self.stem}.scorecard.json"
        named = self.folder / f"{self.stem}.{measure.slug}.scorecard.json"
        said = _protocol_in(plain)
        if said == measure.name or (measure.alone and said is None and not named.exists()):
            return plain
        return named

    def settings(self, measure: Measure) -> dict[str, Any]:
        """What the scorecard says that it was made with. Nothing is ``None``, as in scorecards of earlier versions."""
        making = {name: value for name, value in self.choices.items() if (name, value) != ("effort", "published")}
        return {
            "method": self.method, self.unit: self.amount, "data": self.data,
            **{name: str(value) if isinstance(value, CustomNetwork) else value for name, value in making.items()},
            "options": dict(self.options) or None, "parametrization": self.parametrization, "codec": self.store,
            **({"own_files": files} if (files := self._own_files()) else {}), **measure.settings,
        }  # fmt: skip

    def _own_files(self) -> dict[str, str]:
        """Return the SHA-256 of each of the user's own files that the set is made with."""
        network = self.making["network"]
        own = [network.constructor] if isinstance(network, CustomNetwork) else []
        method = get_method_class(self.method) if self.value is None and is_file_reference(self.method) else self.value
        return source_digests([*([] if method is None else [method]), *own])

    def said(self, measure: Measure) -> dict[str, Any]:
        """Which cell it is: JSON values."""
        return {
            "method": self.method, "unit": self.unit, "amount": self.amount, "parametrization": self.parametrization,
            "codec": self.store, "set": self.at, "seed": self.seed, "protocol": measure.name,
        }  # fmt: skip

    def check(self, splits: Splits) -> None:
        """
        Raises:
            PotstillError: what is there of this cell was made otherwise.
        """
        for measure in self.measures:
            if (kept := self.kept(measure)) is not None:
                path, told = self.card(measure), kept.get("settings")
                _same(path, told if isinstance(told, dict) else {}, self.settings(measure))
                _same(path, {"fingerprint": kept.get("fingerprint")}, {"fingerprint": measure.protocol.fingerprint()})
        if not self.file.exists() and not self.checkpoint.exists():
            return
        try:
            wanted = self._identity(splits)
        except PotstillError:
            return  # it cannot be made, and says so when its turn comes
        if self.file.exists():
            card = load(self.file).metadata
            counted = ("ipc",) if self.unit == "ipc" else ()
            said = {name: card[name] for name in ("method", "config", "seed", *counted)} | {
                "network": card.get("network"), "source": card["source"].get("hash"), "zca": None,
                "balance": card.get("balance"),
                "own_files": card.get("own_files"),
                "limits": card.get("limits", {}),  # earlier versions said none: such a set is adopted without a limit
            }  # fmt: skip
            limits = {"steps": None, "time_limit": self.making["time_limit"]}
            kept_of = {n: v for n, v in wanted.items() if n in said}
            _same(self.file, said, {**kept_of, **dict.fromkeys(counted, self.amount), "limits": limits})
        elif self.checkpoint.exists():
            identity, computed = read_identity(self.checkpoint)
            of, by = split_identity(wanted)
            _same(self.checkpoint, identity, of)
            _same(self.checkpoint, computed, by if computed else {})

    def measured(
        self, splits: Splits, executor: Executor | None, progress: Callable[[str, Progress], None] | None,
        film: bool = False,
    ) -> list[Result]:  # fmt: skip
        """Of every protocol the scorecard, from its file if it is there; or why there is none.

        Raises:
            PotstillError: a file cannot be written.
        """
        kept = [self.kept(measure) for measure in self.measures]
        if None not in kept:
            return [card for card in kept if card is not None]
        try:
            small = self._made(splits, executor, progress, film)
        except _Failed as error:
            return [str(error) if card is None else card for card in kept]
        found: list[Result] = []
        for measure, card in zip(self.measures, kept, strict=True):
            try:
                found.append(self._scored(small, measure, splits, executor) if card is None else card)
            except _Failed as error:
                found.append(str(error))
        return found

    def _made(
        self, splits: Splits, executor: Executor | None, progress: Callable[[str, Progress], None] | None, film: bool
    ) -> Distilled:
        """The set, from its file if it is there."""
        if self.file.exists():
            return load(self.file)
        size: dict[str, Any] = {self.unit: self.amount}
        with _failing():
            small = distill(
                splits, self.asked, **size, **self.choices, codec=self.store,
                parametrization=self.parametrization, device=self.device, executor=executor,
                snapshots=Path(f"{self.file}.film") if film and self._changes(splits) else None,
                checkpoint=self.checkpoint, resume=self.checkpoint.exists(),
                progress=None if progress is None else lambda p: progress(self.stem, p), **self.options,
            )  # fmt: skip
        small.save(self.file)
        drop_checkpoint(self.checkpoint)
        return small

    def _changes(self, splits: Splits) -> bool:
        """Whether its pictures are made in steps."""
        made = make_method(self.asked, {})[1]
        return get_kind(splits.train.input).augmentable and not splits.train.input.parts and not made.info.is_selection

    def _scored(
        self, small: Distilled, measure: Measure, splits: Splits, executor: Executor | None
    ) -> Mapping[str, Any]:
        networks = None if self.making["network"] is None else [self.making["network"]]
        with _failing():
            score = evaluate(
                small, splits, protocol=measure.protocol, network=networks, seeds=measure.seeds, seed=self.seed,
                robust_scores=False, baselines=is_self_labelled(measure.protocol, small),
                full=self.at == 0,  # of all the data, whichever set it is
                device=self.device, executor=executor, progress=None,
            )  # fmt: skip
        history = [{name: _finite(value) for name, value in row.items()} for row in small.metadata.get("history", ())]
        result = {
            **score.to_dict(), "settings": self.settings(measure), "outcome": small.metadata["outcome"],
            "file": self.file.name, "cell": self.said(measure), "making": small.metadata["cost"], "curve": history,
        }  # fmt: skip
        written = text(result)
        write_atomic(self.card(measure), written)
        read: Mapping[str, Any] = json.loads(written)
        return read

    def kept(self, measure: Measure) -> dict[str, Any] | None:
        """The scorecard that is there.

        Raises:
            PotstillError: something else is there.
        """
        path = self.card(measure)
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text())
            if not isinstance(found, dict) or not isinstance(found.get("score", found.get("accuracy")), dict):
                raise ValueError("it holds no score")
        except (OSError, ValueError, RecursionError) as error:
            raise PotstillError(
                f"{path}: not a scorecard ({type(error).__name__}: {error}); delete it to measure again"
            ) from error
        return found

    def _identity(self, splits: Splits) -> dict[str, Any]:
        settled = resolve_run(
            splits, self.asked, ipc=None, size_budget=Budget(unit=self.unit, amount=self.amount, balance=self.balance),
            network=self.making["network"], parametrization=self.parametrization, store=self.store,
            labels=None, augment=None, zca=None, device=self.device, effort=self.choices["effort"], **self.options,
        )  # fmt: skip
        return run_identity(settled, self.seed)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _protocol_in(path: Path) -> str | None:
    """The protocol that a scorecard says it was made with; ``None`` where there is no scorecard."""
    try:
        said = json.loads(path.read_text())["settings"]["protocol"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None
    return said if isinstance(said, str) else None


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
