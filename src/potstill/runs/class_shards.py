"""A run whose classes are distilled in groups, as independent jobs.

A shard is the run of some neighbouring classes, with a checkpoint of its own. It draws what the whole run would draw
and computes what its classes need of it. So the set does not depend on where or in which order shards ran, and on their
number at most by the order of sums, as a class's samples pass a network in other batches. Shards of a recovery make
batches, and those of RDED classes that never meet: their bits do not depend on the number at all.
"""

import itertools
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potstill._util.file_lock import OutputBusyError
from potstill._util.progress import Callback
from potstill.core import ClassShardable, Method, Problem
from potstill.errors import PotstillError
from potstill.execution import Executor, choose_executor
from potstill.rng import generator
from potstill.runs.loop import CheckpointOptions, Interrupted, LoopLimits, LoopResult, Outcome, run_loop

__all__ = ["ShardedRun", "check_shards", "shard_classes"]

PATIENCE = 60.0
"""Seconds that a shard waits for the lock of its checkpoint: workers of a killed node end a few seconds after it."""
_OUTCOMES = ("interrupted", "not finite", "time limit reached", "steps reached", "finished")
"""Outcomes of shards, the worst first."""


def shard_classes(classes: int, shards: int) -> list[range]:
    """Return neighbouring classes in ``shards`` groups whose sizes differ by one at most."""
    least, more = divmod(classes, shards)
    firsts = [n * least + min(n, more) for n in range(shards + 1)]
    return [range(a, b) for a, b in itertools.pairwise(firsts)]


def check_shards(name: str, method: Method[Any], problem: Problem, shards: int) -> None:
    """Check that the classes of this run can be distilled independently, and that there are enough of them.

    Raises:
        PotstillError: they cannot, or are fewer than the shards.
    """
    if not isinstance(shards, int) or isinstance(shards, bool) or not 1 <= shards <= problem.num_classes:
        raise PotstillError(f"class shards must be from 1 to the {problem.num_classes} classes, but are {shards!r}")
    why = method.shard_obstacle(problem) if isinstance(method, ClassShardable) else "it works on all classes at once"
    if why is not None:
        raise PotstillError(f"the classes of {name} cannot be matched in shards: {why}; leave class shards out")


@dataclass(frozen=True, kw_only=True)
class ShardedRun:
    """A run in class shards; called with a shard's number, it runs that one, wherever it is sent."""

    name: str
    """Registered name of the method."""
    method: Method[Any]
    problem: Problem
    shards: int
    seed: int
    identity: Mapping[str, Any]
    steps: int | None
    checkpoint: CheckpointOptions | None
    """Its ``path`` is a folder of the shards' checkpoints. Finished shards stay, others continue from their own."""

    def __call__(self, number: int) -> LoopResult[Any]:
        classes = shard_classes(self.problem.num_classes, self.shards)[number]
        shard = (classes.start, classes.stop)
        checkpoint = None
        if self.checkpoint is not None:
            path = self.checkpoint.path / f"{number}-of-{self.shards}.checkpoint"
            checkpoint = replace(self.checkpoint, path=path, keep=True)
        until = time.monotonic() + PATIENCE
        while True:
            if checkpoint is not None:
                checkpoint = replace(checkpoint, resume=checkpoint.path.exists())
            try:
                return run_loop(
                    self.method, replace(self.problem, shard=shard), rng=generator(self.seed, "distill", self.name),
                    identity={**self.identity, "shard": list(shard), "shards": self.shards},
                    limits=LoopLimits(steps=self.steps), checkpoint=checkpoint,
                )  # fmt: skip
            except OutputBusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)

    def run(self, executor: Executor | None, count: Callback) -> LoopResult[Any]:
        """Run all shards and join their states, as `potstill.runs.loop.run_loop` of all classes.

        Args:
            executor: where they run; ``None``: as many processes as are useful.
            count: ``count(name, done, total)`` is called after every shard.

        Raises:
            Interrupted: a signal came; the folder holds what was done.
            PotstillError: nothing is there to resume, or a shard's run failed.
        """
        if self.checkpoint is not None:
            _prepare_folder(self.checkpoint.path, self.shards, self.checkpoint.resume)
        if executor is None:
            executor = choose_executor(self.shards, self.problem.train.device, self)
        results: list[LoopResult[Any]] = []
        count("shards of classes made", 0, self.shards)
        try:
            for result in executor.map(self, range(self.shards)):
                results.append(result)
                count("shards of classes made", len(results), self.shards)
        except Interrupted as error:
            raise error if self.checkpoint is None else Interrupted(self.checkpoint.path, error.step) from error
        assert isinstance(self.method, ClassShardable)  # or `check_shards` has refused it
        groups = shard_classes(self.problem.num_classes, self.shards)
        states = [(group, result.state) for group, result in zip(groups, results, strict=True)]
        return _join_results(self.method.join_shards(self.problem, states), results)


def _join_results(state: Any, results: list[LoopResult[Any]]) -> LoopResult[Any]:
    """Return one result: its history holds sums over shards, its seconds are of all of them together."""
    worst = min(results, key=lambda r: _OUTCOMES.index(r.outcome.kind)).outcome
    message = worst.message if len(results) == 1 else f"{len(results)} shards of classes: {worst.message}"
    rows = []
    for points in zip(*(r.history for r in results), strict=False):
        if len({p["step"] for p in points}) == 1:
            sums = {n: sum(p.get(n, 0.0) for p in points) for n in dict.fromkeys(n for p in points for n in p)}
            rows.append({**sums, "step": points[0]["step"], "seconds": round(sums["seconds"], 3)})
    return LoopResult(
        state=state, outcome=Outcome(kind=worst.kind, message=message, step=min(r.outcome.step for r in results)),
        seconds=sum(r.seconds for r in results), peak_memory=max(r.peak_memory for r in results), history=tuple(rows),
        changes=tuple(change for r in results for change in r.changes),
    )  # fmt: skip


def _prepare_folder(folder: Path, shards: int, resume: bool) -> None:
    """Make the folder of the checkpoints, empty unless the run is resumed."""
    found = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    if resume:
        if not folder.exists():
            raise PotstillError(f"there is no unfinished run to resume at {folder}; leave resume out to start one")
        if not folder.is_dir():
            raise PotstillError(
                f"{folder}: an unfinished run without class shards; leave class shards out, or start again without "
                "resume"
            )
        if odd := [n for n in found if ".checkpoint" in n and f"-of-{shards}." not in n]:
            raise PotstillError(
                f"{folder}: an unfinished run in other class shards ({odd[0].partition('.')[0]}); ask for as many, or "
                "start again without resume"
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
