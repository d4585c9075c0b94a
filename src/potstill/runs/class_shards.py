"""A run whose classes are matched in groups, as jobs that do not know of each other.

A shard is the run of some neighbouring classes, with a checkpoint of its own. It draws what the whole run would draw
and computes what its classes need of it. So the set does not depend on where or in which order shards ran, and on how
many there are at most by the order of sums: a class's samples pass a network in other company. A recovery's shards make
batches, which hold several classes, and RDED's make classes that never met: of those the bits do not depend on it.
"""

import itertools
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potstill._util.file_lock import OutputBusyError
from potstill.core import ClassShardable, Method, Problem
from potstill.errors import PotstillError
from potstill.execution import Executor, choose_executor
from potstill.rng import generator
from potstill.runs.loop import Interrupted, LoopResult, Outcome, run_loop

__all__ = ["check_shards", "run_shards", "shard_classes"]

PATIENCE = 60.0
"""Seconds that a shard waits for its own dead predecessor to let go of the checkpoint: workers of a killed node end a
few seconds after it."""
_KINDS = ("interrupted", "not finite", "time limit reached", "steps reached", "finished")
"""How shards end, the worst first."""


def shard_classes(classes: int, shards: int) -> list[range]:
    """Neighbouring classes, in so many groups whose sizes differ by one at most."""
    least, more = divmod(classes, shards)
    firsts = [n * least + min(n, more) for n in range(shards + 1)]
    return [range(a, b) for a, b in itertools.pairwise(firsts)]


def check_shards(name: str, method: Method[Any], problem: Problem, shards: int) -> None:
    """
    Raises:
        PotstillError: the classes of this run cannot be matched by themselves, or are fewer than the shards.
    """
    if not isinstance(shards, int) or isinstance(shards, bool) or not 1 <= shards <= problem.num_classes:
        raise PotstillError(f"class shards must be from 1 to the {problem.num_classes} classes, but are {shards!r}")
    why = method.shard_obstacle(problem) if isinstance(method, ClassShardable) else "it works on all classes at once"
    if why is not None:
        raise PotstillError(f"the classes of {name} cannot be matched in shards: {why}; leave class shards out")


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """What runs one group of classes, wherever it is sent."""

    name: str
    method: Method[Any]
    problem: Problem
    seed: int
    identity: Mapping[str, Any]
    steps: int | None
    folder: Path | None
    every: float
    anyway: bool
    shards: int

    def __call__(self, n: int) -> LoopResult[Any]:
        classes = shard_classes(self.problem.num_classes, self.shards)[n]
        mine = (classes.start, classes.stop)
        checkpoint = None if self.folder is None else self.folder / f"{n}-of-{self.shards}.checkpoint"
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return run_loop(
                    self.method, replace(self.problem, shard=mine), rng=generator(self.seed, "distill", self.name),
                    identity={**self.identity, "shard": list(mine), "shards": self.shards}, steps=self.steps,
                    checkpoint=checkpoint, checkpoint_every=self.every, anyway=self.anyway,
                    resume=checkpoint is not None and checkpoint.exists(), keep=checkpoint is not None,
                )  # fmt: skip
            except OutputBusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)


def run_shards(
    name: str, method: Method[Any], problem: Problem, shards: int, *, seed: int, identity: Mapping[str, Any],
    steps: int | None, checkpoint: Path | None, checkpoint_every: float, resume: bool, anyway: bool,
    executor: Executor | None, counted: Callable[[str, int, int], None],
) -> LoopResult[Any]:  # fmt: skip
    """`potstill.runs.loop.run` of all classes, in shards.

    Args:
        name: of the method.
        checkpoint: a folder for the shards' checkpoints. A shard that is done stays done, and one that is begun again
            goes on from its own.
        counted: told how many shards are done.

    Raises:
        Interrupted: a signal came; the folder holds what was done.
        PotstillError: nothing is there to resume, or a shard's run failed.
    """
    if checkpoint is not None:
        _ready(checkpoint, shards, resume)
    job = _Shard(
        name=name, method=method, problem=problem, seed=seed, identity=identity, steps=steps, folder=checkpoint,
        every=checkpoint_every, anyway=anyway, shards=shards,
    )  # fmt: skip
    where = choose_executor(shards, problem.train.device, job) if executor is None else executor
    done: list[LoopResult[Any]] = []
    counted("shards of classes made", 0, shards)
    try:
        for one in where.map(job, range(shards)):
            done.append(one)
            counted("shards of classes made", len(done), shards)
    except Interrupted as error:
        raise error if checkpoint is None else Interrupted(checkpoint, error.step) from error
    assert isinstance(method, ClassShardable)  # or `check_shards` has refused it
    groups = shard_classes(problem.num_classes, shards)
    return _joined(method.join_shards(problem, [(g, r.state) for g, r in zip(groups, done, strict=True)]), done)


def _joined(state: Any, done: list[LoopResult[Any]]) -> LoopResult[Any]:
    """One run of these: its history holds sums over shards, its seconds are of all of them together."""
    worst = min(done, key=lambda r: _KINDS.index(r.outcome.kind)).outcome
    said = worst.message if len(done) == 1 else f"{len(done)} shards of classes: {worst.message}"
    rows = []
    for points in zip(*(r.history for r in done), strict=False):
        if len({p["step"] for p in points}) == 1:
            sums = {n: sum(p.get(n, 0.0) for p in points) for n in dict.fromkeys(n for p in points for n in p)}
            rows.append({**sums, "step": points[0]["step"], "seconds": round(sums["seconds"], 3)})
    return LoopResult(
        state=state, outcome=Outcome(kind=worst.kind, message=said, step=min(r.outcome.step for r in done)),
        seconds=sum(r.seconds for r in done), peak_memory=max(r.peak_memory for r in done), history=tuple(rows),
        changes=tuple(change for r in done for change in r.changes),
    )  # fmt: skip


def _ready(folder: Path, shards: int, resume: bool) -> None:
    """A folder for the checkpoints, empty where nothing is resumed.

    Raises:
        PotstillError: what is to be resumed is not there, or was divided otherwise; or what is there is not ours.
    """
    found = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    if resume:
        if not folder.exists():
            raise PotstillError(f"there is no unfinished run to resume at {folder}; leave resume out to start one")
        if not folder.is_dir():
            raise PotstillError(
                f"{folder}: an unfinished run without class shards; leave class shards out, or start anew without "
                "resume"
            )
        if odd := [n for n in found if ".checkpoint" in n and f"-of-{shards}." not in n]:
            raise PotstillError(
                f"{folder}: an unfinished run in other class shards ({odd[0].partition('.')[0]}); ask for as many, or "
                "start anew without resume"
            )
    elif folder.is_dir():
        if odd := [n for n in found if ".checkpoint" not in n]:
            raise PotstillError(
                f"{folder}: a folder that holds {odd[0][:80]}, no run in class shards; choose another path"
            )
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
