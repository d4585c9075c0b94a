"""`potstill.uses.continual.continual`: memories side by side on the same streams, each cell a file."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from potstill._util.outputs import check_not_input, describe_foreign_page
from potstill._util.progress import Callback
from potstill.augment.mix import join_labels
from potstill.core import Source, Splits
from potstill.data import TensorSource, fit_normalization
from potstill.data.groups import source_key
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError, unknown_name
from potstill.evaluation.byte_matched_baselines import BaselineContext
from potstill.evaluation.candidate_trials import Length, narrow_network
from potstill.evaluation.real_sets import RealSetSearch, space_of
from potstill.execution import Executor, Serial, resolve_executor
from potstill.execution.memory import keep_freed_memory
from potstill.reports.continual import render_continual
from potstill.rng import derive_seed, generator
from potstill.runs.load_data import as_splits, pick_device
from potstill.uses.cell_files import parse_sizes, run_cells, write_json
from potstill.uses.continual.learner import Learner, score_step
from potstill.uses.continual.memory import Choice, Context, Memory, parse_memory
from potstill.uses.continual.stream import (
    Step,
    check_source,
    class_stream,
    group_stream,
    named_stream,
    split_classes,
    step_source,
)
from potstill.uses.continual.summary import conclude

__all__ = ["SCENARIOS", "continual"]

VERSION = 2
"""Version of the files. It is raised when what is measured changes."""
SCENARIOS = ("class", "domain", "online")
CHOICE_SAMPLES = 4000
"""Samples of the first step on which a codec is chosen, at most."""
CHOICE_CLUSTER = 20
"""Fewest samples of a cluster that is a class of its own in that choice."""
CHOICE_ROUNDS = (2, 4)
"""Trial students of each way still in, after each round."""

Scenario = Literal["class", "domain", "online"]


def continual(
    data: Any,
    *,
    out: str | Path,
    memories: Sequence[str | Memory] = ("coded", "raw"),
    methods: Sequence[str] = (),
    bytes: int | str | Sequence[int | str] = "8kB",
    scenario: Scenario | Sequence[Sequence[str]] = "class",
    classes_per_step: int = 2,
    steps: int = 5,
    orders: int = 5,
    parametrization: str | None = None,
    codec: str | None = None,
    preset: str | None = None,
    distill_steps: int | None = None,
    learner: Learner | None = None,
    seed: int = 0,
    device: str = "auto",
    executor: Executor | str | None = None,
    progress: Callback | None = None,
) -> dict[str, Any]:
    """Measure memories of a continual learner that is trained from scratch on its memory alone after each step.

    All memories see the same orders of classes (or groups) and have the same bytes, those of their coded bitstreams
    with labels. ``out`` gets a file for each cell (a memory, a size, an order), from which the same call continues
    where one was interrupted; ``continual.json``, the result; and ``continual.html``, a page.

    Args:
        data: anything `potstill.load_data` takes or returns, with a test split; nothing is chosen on that.
        out: folder of the results, made if it is not there.
        memories: memories of real samples: ``coded`` (its codec is chosen on training data of the first step),
            ``raw`` (random, exact), ``random``, ``herding``, ``k-means``, ``soft`` (labels of the network of that
            time), ``balanced`` and ``reservoir`` (one pass, all bytes at every step); with ``@CODEC`` for a codec of
            its own; or memories as values.
        methods: distillation methods, as memories: each step's data alone are distilled, into its share of the bytes.
        bytes: size of the whole memory, or several: numbers, or text such as ``2kB``.
        scenario: ``class`` (classes come in steps), ``domain`` (groups come in steps, with all classes), ``online``
            (classes come in steps, and each sample is seen once), or the names of the classes of each step.
        classes_per_step: classes of a step.
        steps: steps of a domain stream.
        orders: orders of classes or groups, by seed; intervals are over them.
        parametrization, codec, preset: of the methods, as for `potstill.distill`.
        distill_steps: largest number of steps of a method.
        learner: settings of the learners.
        seed: seed of the first order; the others follow.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: where cells run, as for `potstill.distill`. Default: as many processes as help.
        progress: callback ``progress(name, done, total)``. Default: silent.

    Returns:
        The content of ``continual.json``.

    Raises:
        PotstillError: a class stands twice in the stream, there are too few steps, the bytes leave a class empty for
            every memory, or ``out`` holds other measurements.
    """
    keep_freed_memory()
    say = progress or (lambda *_: None)
    all_memories = [parse_memory(m) if isinstance(m, str) else m for m in memories]
    all_memories += [
        parse_memory(m, parametrization=parametrization, codec=codec, preset=preset, steps=distill_steps)
        for m in methods
    ]  # fmt: skip
    sizes = parse_sizes(bytes)
    _check(all_memories, orders)
    splits: Splits = as_splits(data, pick_device(device))
    if splits.test is None:
        raise PotstillError(f"{splits.train.name}: accuracy needs a test split; give data that have one")
    train, test = check_source(splits.train, "training"), check_source(splits.test, "test")
    streams = [_stream(scenario, train, test, classes_per_step, steps, seed + n) for n in range(orders)]
    settings: dict[str, Any] = {
        "version": VERSION, "data": source_key(train), "test": source_key(test),
        "scenario": scenario if isinstance(scenario, str) else [list(names) for names in scenario],
        "steps": len(streams[0]), "classes_per_step": classes_per_step, "seed": seed,
        "learner": {**asdict(learner or Learner()), "network": (learner or Learner()).factory(train, 2).name},
    }  # fmt: skip
    folder = Path(out)
    check_not_input(folder, [splits], folder=True)
    page = folder / "continual.html"
    if page.exists() and (other := describe_foreign_page(page)):
        raise PotstillError(f"{page}: {other}; choose another folder")
    maker = _Maker(
        train=train, test=test, learner=learner or Learner(), single_pass=scenario == "online", seed=seed,
    )  # fmt: skip
    own = resolve_executor(executor)
    needed = any(m.needs_choice for m in all_memories)
    choices = [_Cell(memory=None, byte_budget=b, order=n, stream=streams[n]) for b in sizes for n in range(orders)]
    where = (maker, folder, settings, own, train.device)
    chosen = run_cells(choices if needed else [], *where, lambda d, t: say("codecs", d, t), "continual run")
    by_cell = {(c["bytes"], c["order"]): c for c in chosen}
    cells = [
        _Cell(memory=m, byte_budget=b, order=n, stream=streams[n], choice=by_cell.get((b, n)))
        for n in range(orders) for b in sizes for m in all_memories
    ]  # fmt: skip
    results = run_cells(cells, *where, lambda d, t: say("cells", d, t), "continual run")
    if all("reason" in r for r in results):
        raise PotstillError(str(results[0]["reason"]))
    result = {
        "settings": settings, "source": train.name, "classes": list(train.classes), "samples": len(train),
        "test_samples": len(test), "orders": orders, "bytes": sizes,
        "memories": [{"name": m.name, "made": m.is_synthetic} for m in all_memories],
        "streams": [[[train.classes[c] for c in step.classes] for step in one] for one in streams],
        "groups": [[list(step.groups) for step in one] for one in streams] if scenario == "domain" else None,
        "cells": results,
    }  # fmt: skip
    result |= conclude(result)
    write_json(folder / "continual.json", result)
    write_atomic(page, render_continual(result).encode())
    return result


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """A memory of one size on one order; without a memory, the choice of how to keep real samples."""

    memory: Memory | None
    byte_budget: int
    order: int
    stream: tuple[Step, ...]
    choice: Mapping[str, Any] | None = None

    @property
    def stem(self) -> str:
        name = "choice" if self.memory is None else "".join(c if c.isalnum() else "_" for c in self.memory.name)
        return f"{name}-{self.byte_budget}-order{self.order}"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that decide its contents besides those of all cells."""
        return {"memory": None if self.memory is None else repr(self.memory)}


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Computes a cell; sent to a worker once."""

    train: TensorSource
    test: TensorSource
    learner: Learner
    single_pass: bool
    seed: int

    def __call__(self, cell: _Cell) -> dict[str, Any]:
        """Return the cell as JSON values; with a ``reason`` where its memory cannot be made."""
        first = step_source(self.train, cell.stream[0].train, cell.stream[0].classes)
        scaled = replace(self.train, normalization=fit_normalization(first.inputs).to(self.train.device))
        context = Context(
            train=scaled, byte_budget=cell.byte_budget, steps=len(cell.stream), seed=self.seed + cell.order,
            learner=self.learner, single_pass=self.single_pass,
            choice=None if cell.choice is None or "codec" not in cell.choice
            else Choice(codec=cell.choice["codec"], selection=cell.choice["selection"]),
        )  # fmt: skip
        head = {"bytes": cell.byte_budget, "order": cell.order}
        started = time.perf_counter()
        try:
            if cell.memory is None:
                return {**head, **self._choose(cell, context), "seconds": round(time.perf_counter() - started, 3)}
            if cell.memory.needs_choice and cell.choice is not None and "reason" in cell.choice:
                raise PotstillError(str(cell.choice["reason"]))
            return {
                **head,
                "memory": cell.memory.name,
                "made": cell.memory.is_synthetic,
                **self._measure(cell, context),
            }
        except PotstillError as error:
            name = {} if cell.memory is None else {"memory": cell.memory.name, "made": cell.memory.is_synthetic}
            return {**head, **name, "reason": str(error)}

    def _choose(self, cell: _Cell, context: Context) -> dict[str, Any]:
        """Choose codec and selection on training data of the first step, part of which is held out.

        Its classes alone may be told apart in any codec; so clusters of each are classes of their own, as many in all
        as the stream has classes. On these a codec is chosen, of random samples: they favour samples near centres.
        """
        step = cell.stream[0]
        at = step.train
        if len(at) > CHOICE_SAMPLES:
            drawn = torch.randperm(len(at), generator=generator(context.seed, "choice"))[:CHOICE_SAMPLES]
            at = at[drawn.sort().values]
        source = step_source(context.train, at, step.classes)
        every = len({c for one in cell.stream for c in one.classes})
        parts = -(-every // len(step.classes))
        if parts > 1:
            source = split_classes(source, parts, CHOICE_CLUSTER, generator(context.seed, "choice", "clusters"))
        make = narrow_network(self.learner.factory(source, len(source.classes)), source)
        where = BaselineContext(
            train=source, byte_budget=context.share, make=make, seed=derive_seed(context.seed, "choice"), quick=True,
            trial=Length(steps=min(100, self.learner.steps)), executor=Serial(),
        )  # fmt: skip
        space = replace(space_of(where), rounds=CHOICE_ROUNDS, shared=2)
        if self.single_pass or parts > 1:
            space = replace(space, selections=("random",))
        search = RealSetSearch(where=where, space=space).run()
        way = search.chosen().way
        return {"codec": way.codec, "selection": way.selection, "tried": search.table()}

    def _measure(self, cell: _Cell, context: Context) -> dict[str, Any]:
        assert cell.memory is not None
        state: Any = ()
        rows = []
        for number, step in enumerate(cell.stream):
            started = time.perf_counter()
            state = cell.memory.update(state, step, number, context)
            made = time.perf_counter() - started
            y = join_labels([s.y for s in state], len(self.train.classes))
            score = score_step(
                self.learner, torch.cat([s.x for s in state]), y,
                context.train, replace(self.test, normalization=context.train.normalization),
                cell.stream[: number + 1], derive_seed(context.seed, "learner", number),
            )  # fmt: skip
            rows.append({
                "accuracy": score.accuracy, "tested": score.tested,
                "by_step": list(score.by_step), "by_step_known": list(score.by_step_known),
                "bytes": sum(s.bytes for s in state), "items": sum(len(s.x) for s in state),
                "codec": state[-1].codec, "memory_seconds": round(made, 3),
                "learner_seconds": round(time.perf_counter() - started - made, 3),
            })  # fmt: skip
        final = rows[-1]["by_step"]
        best = [max(row["by_step"][j] for row in rows[j:-1]) for j in range(len(rows) - 1)]
        return {
            "steps": rows, "final": rows[-1]["accuracy"], "average": sum(r["accuracy"] for r in rows) / len(rows),
            "forgetting": sum(b - f for b, f in zip(best, final, strict=False)) / len(best),
            "final_known": sum(rows[-1]["by_step_known"]) / len(rows),
            "seconds": round(sum(r["memory_seconds"] for r in rows), 3),
        }  # fmt: skip


def _stream(
    scenario: Scenario | Sequence[Sequence[str]], train: Source, test: Source, per_step: int, steps: int, seed: int
) -> tuple[Step, ...]:  # fmt: skip
    if not isinstance(scenario, str):
        return named_stream(train, test, scenario)
    if scenario not in SCENARIOS:
        raise unknown_name("scenario", scenario, SCENARIOS)
    if scenario == "domain":
        return group_stream(train, test, steps, seed)
    return class_stream(train, test, per_step, seed)


def _check(memories: Sequence[Memory], orders: int) -> None:
    listed = [m.name for m in memories]
    if not listed:
        raise PotstillError("a continual run needs one memory at least, but none is given; give coded")
    if twice := next((name for name in listed if listed.count(name) > 1), None):
        raise PotstillError(f"memory {twice!r} is given twice; give it once")
    if orders < 1:
        raise PotstillError(f"a continual run needs one order at least, not {orders}; two or more give intervals")
