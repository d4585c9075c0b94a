"""`potstill.uses.edge.edge`: a set as integers, a small learner on one core, and baselines of the same bytes."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64

from potstill._util.outputs import check_not_input, describe_foreign_page
from potstill._util.progress import Callback
from potstill.core import Source, Splits, registry
from potstill.core.nested import single_tensor
from potstill.data.groups import source_key
from potstill.dataset_file import Distilled, load, write_atomic
from potstill.errors import PotstillError
from potstill.evaluation import Protocol
from potstill.evaluation.byte_matched_baselines import TRIAL_PASSES, BaselineContext, baseline_byte_budget, trial_steps
from potstill.evaluation.candidate_trials import Length
from potstill.evaluation.evaluate import normalize_like
from potstill.evaluation.fitting import check_compatible
from potstill.evaluation.measurement import EvaluationContext
from potstill.evaluation.model_baseline import make_model_baseline
from potstill.execution import Serial
from potstill.execution.executor import torch_threads
from potstill.exporters.integers import INTEGER_BITS, IntegerSet, to_integers
from potstill.nn import factory_for
from potstill.reports.edge import render_edge
from potstill.rng import derive_seed
from potstill.runs.load_data import as_splits, pick_device
from potstill.uses.cell_files import read_json, write_json
from potstill.uses.edge.baselines import (
    SELECTIONS,
    Training,
    TrainingData,
    all_data,
    coded_samples,
    integer_samples,
    set_data,
)
from potstill.uses.edge.learner import Head, Weights, buffer_bytes, parse_head, predict, train
from potstill.uses.edge.program import measure_program, write_program
from potstill.uses.edge.summary import LABELS, conclude

__all__ = ["LEARNING_RATES", "edge", "parse_target"]

VERSION = 1
"""Version of the files. It is raised when what is measured changes."""
LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
"""Rates of which each way gets the one that is best on held-out training data."""
_LENGTH_PARTS = (20, 5, 1)
"""Each way gets the best of these parts of the updates: a small set may want few."""
_QUICK_MODEL = 200
"""Updates of the quantised model in a quick run."""
_CHOICE_SEEDS = 2
"""Heads of each choice."""


def edge(
    distilled: Distilled | str | Path,
    data: Any,
    *,
    out: str | Path,
    target: str | float = "90%",
    head: str = "linear",
    bits: int = 8,
    updates: int = 1000,
    batch: int = 32,
    lr: float | None = None,
    seeds: int = 5,
    seed: int = 0,
    quick: bool = False,
    progress: Callback | None = None,
) -> dict[str, Any]:
    """Measure how a small device trains on a set, beside real samples and a quantised model of the same bytes.

    The set becomes integers of a C header. A linear head or a small MLP learns them by SGD with momentum, on one core,
    in NumPy and in C. ``out`` gets ``set.h``, ``train.c`` and ``test.bin`` (compile and run them), a file for each row,
    from which the same call continues where one was interrupted; ``edge.json``, the result; and ``edge.html``, a page.

    Args:
        distilled: a set, or the path of its file.
        data: the real data that it was made of: anything `potstill.load_data` takes or returns, with a test split.
        out: folder of the results, made if it is not there.
        target: accuracy on a held-out part of the training data until which updates and seconds count: ``90%`` or 0.9.
        head: ``linear``, ``mlp`` (64 hidden units) or ``mlp:hidden=N``.
        bits: of an input value on the device: 8 or 4.
        updates: of each head at most, the learning rate falling along a line to zero; a row gets all, a fifth or a
            twentieth of them, as is best on held-out training data.
        batch: samples of an update, at most.
        lr: the first learning rate. Default: for each row the best of five on held-out training data.
        seeds: heads of each row; intervals are over them and the test samples.
        seed: the first of these seeds.
        quick: few ways to store real samples, and short trainings of the model: to look, not to report.
        progress: callback ``progress(name, done, total)``. Default: silent.

    Returns:
        The content of ``edge.json``.

    Raises:
        PotstillError: the set has no classes or no single tensor, it does not fit the data, the data have no test
            split, the target is not between chance and 1, or ``out`` holds other measurements.
    """
    hidden = parse_head(head)
    _check_counts(updates=updates, batch=batch, seeds=seeds)
    if lr is not None and not 0 < lr < float("inf"):
        raise PotstillError(f"lr must be above 0, not {lr}; give one such as 0.01")
    small = distilled if isinstance(distilled, Distilled) else load(distilled)
    integers = to_integers(small, bits)
    goal = parse_target(target, len(integers.classes))
    splits: Splits = as_splits(data, pick_device("cpu"))
    if splits.test is None:
        raise PotstillError(f"{splits.train.name}: accuracy needs a test split; give data that have one")
    _check_classes(small, splits.train)
    train_source, test = (normalize_like(s, small) for s in (splits.train, splits.test))
    make = factory_for(f"mlp-w{max(hidden, 8)}" if hidden else "linear", train_source)
    where = BaselineContext(
        train=train_source,
        byte_budget=integers.bytes,
        make=make,
        seed=seed,
        quick=quick,
        trial=Length(steps=min(trial_steps(train_source.input), updates), passes=TRIAL_PASSES, most=updates),
    )
    fit, held_out = where.parts()
    runner = _Runner(
        small=small, integers=integers, where=where, fit=fit, held_out=_table(held_out), test=_table(test),
        test_source=test, head=Head(hidden=hidden, updates=updates, batch=batch), lr=lr,
        seeds=tuple(seed + n for n in range(seeds)), target=goal,
    )  # fmt: skip
    settings = {
        "version": VERSION, "data": source_key(train_source), "test": source_key(test), "set": _digest(small, integers),
        "target": goal, "head": runner.head.name, "bits": bits, "updates": updates, "batch": batch, "lr": lr,
        "seeds": seeds, "seed": seed, "quick": quick,
    }  # fmt: skip
    folder = Path(out)
    check_not_input(folder, [splits, small], folder=True)
    page = folder / "edge.html"
    if page.exists() and (other := describe_foreign_page(page)):
        raise PotstillError(f"{page}: {other}; choose another folder")
    cells: list[dict[str, Any]] = []
    with torch_threads(1):
        for done, name in enumerate((*LABELS, "program")):
            (progress or (lambda *_: None))("rows", done, len(LABELS) + 1)
            path = folder / "cells" / f"{name}.json"
            cell = read_json(path, settings, "run on a device")
            if cell is None:
                cell = runner.program(folder, cells[0]) if name == "program" else runner.row(name)
                write_json(path, {"settings": settings, **cell})
            cells.append({key: value for key, value in cell.items() if key != "settings"})
    (progress or (lambda *_: None))("rows", len(cells), len(cells))
    result: dict[str, Any] = {
        "settings": settings, "source": train_source.name, "method": small.metadata["method"],
        "classes": list(integers.classes), "shape": list(integers.shape), "items": len(integers),
        "samples": len(train_source), "held_out": len(held_out), "test_samples": len(test),
        "file_bytes": int(small.metadata["bytes"]["total"]),
        "cells": cells[:-1], "program": cells[-1],
    }  # fmt: skip
    result |= conclude(result)
    write_json(folder / "edge.json", result)
    write_atomic(page, render_edge(result).encode())
    return result


def parse_target(target: str | float, classes: int) -> float:
    """Return an accuracy as a fraction.

    Args:
        target: ``90%`` or 0.9.
        classes: number of classes, whose chance the target exceeds.

    Raises:
        PotstillError: it is no accuracy between chance and 1.
    """
    text = str(target).strip()
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?|\.\d{1,6})\s*(%?)", text)
    value = -1.0 if match is None else float(match[1]) / (100 if match[2] else 1)
    if not 1 / classes < value < 1:
        raise PotstillError(
            f"a target is an accuracy between chance ({100 / classes:.4g} % of {classes} classes) and 100 %, such as "
            f"90%, not {text[:40]}; change it"
        )
    return value


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise PotstillError(f"{name} must be a whole number of at least 1, not {value}; change it")


def _check_classes(small: Distilled, train_source: Source) -> None:
    """Check that the set fits the data."""
    if not set(small.classes) & set(train_source.classes):
        raise PotstillError(
            f"the set holds no classes of {train_source.name}: {small.classes[0]!r} and others are not in the data; "
            "give the data that it was made of"
        )
    check_compatible(small, train_source)


def _digest(small: Distilled, integers: IntegerSet) -> str:
    """Return a hash of what learners get of a set."""
    arrays = (small.model_space().numpy(), integers.inputs, integers.labels, integers.scale, integers.zero)
    digest = hashlib.sha256(repr((integers.shape, integers.classes, integers.bits)).encode())
    for array in (*arrays, *([] if integers.weights is None else [integers.weights])):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class _Table:
    """Samples in model space with their classes."""

    x: Float32[np.ndarray, "n values"]
    y: Int64[np.ndarray, " n"]


def _table(source: Source) -> _Table:
    x = single_tensor(source.fetch(torch.arange(len(source))).x, "a head").flatten(1).cpu().float().numpy()
    return _Table(x, source.labels.cpu().numpy())


@dataclass(frozen=True, kw_only=True)
class _Runner:
    """Measures rows."""

    small: Distilled
    integers: IntegerSet
    where: BaselineContext
    fit: Source
    held_out: _Table
    test: _Table
    test_source: Source
    head: Head
    lr: float | None
    seeds: tuple[int, ...]
    target: float

    def row(self, name: str) -> dict[str, Any]:
        """Return a row as JSON values; with a ``reason`` where there is none."""
        rows: Mapping[str, Callable[[], dict[str, Any]]] = {
            "set": lambda: self._trained([Training(fit=lambda _: set_data(self.integers))]),
            "set-file": self._set_file,
            "real-integers": self._real_integers,
            "real-coded": lambda: self._trained([coded_samples(self.where, len(self.seeds))]),
            "real-file": lambda: self._trained([coded_samples(self._in_file_bytes(), len(self.seeds))]),
            "all": lambda: self._trained(
                [Training(fit=lambda _: all_data(self.fit), every=lambda _: all_data(self.where.train))]
            ),
            "model": self._model,
        }
        try:
            return {"name": name, **rows[name]()}
        except PotstillError as error:
            return {"name": name, "reason": str(error)}

    def program(self, folder: Path, set_cell: Mapping[str, Any]) -> dict[str, Any]:
        """Write the C program with the set's settings, run it, and compare it with the NumPy learner."""
        head = replace(self.head, lr=set_cell["lr"], updates=set_cell["length"])
        write_program(self.integers, head, self.test_source, folder)
        return measure_program(
            folder, self.test_source, [_derived(s) for s in self.seeds], [s["accuracy"] for s in set_cell["seeds"]]
        )  # fmt: skip

    def _set_file(self) -> dict[str, Any]:
        x = single_tensor(self.small.model_space(), "a head").flatten(1).float().numpy()
        exact = replace(set_data(self.integers), x=x, bytes=baseline_byte_budget(self.small.metadata["bytes"]))
        if self.small.has_soft_labels:
            exact = replace(exact, y=self.small.labels.float().numpy())
        return self._trained([Training(fit=lambda _: exact)])

    def _in_file_bytes(self) -> BaselineContext:
        return replace(self.where, byte_budget=baseline_byte_budget(self.small.metadata["bytes"]))

    def _real_integers(self) -> dict[str, Any]:
        every = [
            integer_samples(self.where, self.fit, self.integers, name, bits)
            for name in SELECTIONS
            for bits in INTEGER_BITS
        ]
        if not (ways := [way for way in every if way is not None]):
            raise PotstillError(
                f"one real sample of each class does not fit into {self.where.byte_budget:,} bytes of integers"
            )
        return self._trained(ways)

    def _model(self) -> dict[str, Any]:
        """Return the quantised network of the same bytes."""
        where = self.where
        protocol: Protocol = registry.resolve("protocols", "potstill")
        context = EvaluationContext(
            protocol=protocol.resolve(where.train.name, where.make.name, where.train.input), make=where.make,
            train=where.train, test=self.test_source, students=len(self.seeds), seed=where.seed, executor=Serial(),
            report=lambda *_: None, side_by_side=1,
        )  # fmt: skip
        found = make_model_baseline(context, where, _QUICK_MODEL if where.quick else None)
        return {
            "bytes": found.bytes, "detail": {"network": str(found.spec)},
            "seeds": [{"accuracy": value} for value in found.measurement.values],
        }  # fmt: skip

    def _trained(self, ways: Sequence[Training]) -> dict[str, Any]:
        """Choose a way, a rate and a length on held-out training data, and train one head for each seed."""
        rates = LEARNING_RATES if self.lr is None else (self.lr,)
        lengths = sorted({max(1, self.head.updates // part) for part in _LENGTH_PARTS})
        heads = [replace(self.head, lr=rate, updates=length) for rate in rates for length in lengths]
        choices = [(way, head) for way in ways for head in heads]
        seeds = [derive_seed(self.where.seed + n, "choice") % 2**32 for n in range(_CHOICE_SEEDS)]

        def merit(choice: tuple[Training, Head]) -> float:
            way, head = choice
            return sum(self._held_accuracy(way.fit(n), head, seed) for n, seed in enumerate(seeds))

        way, head = max(choices, key=merit) if len(choices) > 1 else choices[0]
        results, items, size = [], 0, 0
        for n, seed in enumerate(self.seeds):
            data = way.fit(n)
            weights, reached = self._until_target(data, head, _derived(seed))
            if way.every is not None:
                data = way.every(n)
                weights = train(head, data.x, data.y, _derived(seed), weights=data.weights)
            items, size = max(items, len(data.x)), max(size, data.bytes)
            accuracy = _accuracy(weights, head, self.test, data.y.shape[1])
            results.append({"seed": seed, "accuracy": accuracy, **reached})
        values, classes = self.integers.values, len(self.integers.classes)
        return {
            "bytes": size, "items": items, "lr": head.lr, "length": head.updates, "detail": dict(way.detail),
            "seeds": results,
            "operations": head.update_operations(values, classes, items),
            "buffers": buffer_bytes(head, values, classes, items),
        }  # fmt: skip

    def _held_accuracy(self, data: TrainingData, head: Head, seed: int) -> float:
        weights = train(head, data.x, data.y, seed, weights=data.weights)
        return _accuracy(weights, head, self.held_out, data.y.shape[1])

    def _until_target(self, data: TrainingData, head: Head, seed: int) -> tuple[Weights, dict[str, Any]]:
        """Train a head; return its weights, and updates and seconds until the target, or ``None`` for both."""
        reached: dict[str, Any] = {"updates": None, "seconds": None}

        def check(updates: int, weights: Weights, seconds: float) -> None:
            if reached["updates"] is None:
                score = _accuracy(weights, head, self.held_out, data.y.shape[1])
                if score >= self.target:
                    reached.update(updates=updates, seconds=round(seconds, 6))

        return train(head, data.x, data.y, seed, weights=data.weights, check=check), reached


def _derived(seed: int) -> int:
    """Return the 32-bit seed of a head."""
    return derive_seed(seed, "edge") % 2**32


def _accuracy(weights: Weights, head: Head, table: _Table, classes: int) -> float:
    if not np.isfinite(weights).all():
        return 1 / classes
    return float((predict(weights, head, table.x, classes) == table.y).mean())
