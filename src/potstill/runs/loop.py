"""The only loop that runs steps: limits, checkpoints, resume, signals and the non-finite guard live here."""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Generator, Tensor

from potstill._util.file_lock import exclusive_output
from potstill.core import Method, Metrics, Problem
from potstill.dataset_file import Checkpoint, pack_state, read_checkpoint, write_checkpoint
from potstill.errors import NonFiniteError, PotstillError
from potstill.execution.memory import peak_memory
from potstill.native import versions

__all__ = ["Interrupted", "LoopResult", "Outcome", "Progress", "find_non_finite", "run_loop", "versions"]

S = TypeVar("S")
HISTORY_POINTS = 512
"""The history keeps at most this many points; every second one is dropped when it is full, so memory stays bounded."""


class Interrupted(PotstillError):
    """The run was stopped by SIGINT or SIGTERM; ``checkpoint`` holds all of it."""

    def __init__(self, checkpoint: Path, step: int) -> None:
        super().__init__(f"interrupted after step {step}; the run is kept in {checkpoint} and resume continues it")
        self.checkpoint = checkpoint
        self.step = step


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended: a value that goes onto the card, with a sentence for people."""

    kind: Literal["finished", "steps reached", "time limit reached", "interrupted", "not finite"]
    message: str
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a watcher is told after every step. ``seconds`` counts the computing of all resumed parts."""

    step: int
    total: int | None
    seconds: float
    time_limit: float | None
    metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult(Generic[S]):
    """A state, how it came about and what it cost. ``peak_memory``: bytes of the process (or the GPU's allocator).

    ``changes``: after which steps it went on with other versions or kernels, and what had computed it until there.
    """

    state: S
    outcome: Outcome
    seconds: float
    peak_memory: int
    history: tuple[Mapping[str, float], ...]
    changes: tuple[Mapping[str, Any], ...] = ()


class _Signals(AbstractContextManager["_Signals"]):
    """Turns the first SIGINT or SIGTERM into a flag read between steps; a second one interrupts at once."""

    def __init__(self, active: bool) -> None:
        # Only the main thread may install handlers; elsewhere the caller's own handling stands.
        self.active = active and threading.current_thread() is threading.main_thread()
        self.raised = False
        self._before: dict[int, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.raised:
            raise KeyboardInterrupt
        self.raised = True

    def __enter__(self) -> "_Signals":
        if self.active:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _same(tensor: Tensor) -> tuple[object, ...]:
    """What two tensors have in common only where they are one memory that was not written to."""
    if tensor.is_inference():
        return (object(),)  # whose writes are not counted
    return tensor.data_ptr(), tensor._version, tensor.shape, tensor.stride(), tensor.dtype


def find_non_finite(metrics: Metrics, state: object, before: object = None) -> str | None:
    """What of a step is NaN or infinity, by its name; none: all is finite, and the run goes on.

    Args:
        before: a state known to be finite. What a step leaves alone is not read again: that can be most of a large set.
    """
    known = {} if before is None else {n: _same(t) for n, t in pack_state(before)[0].items()}
    for name, value in metrics.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    for name, tensor in pack_state(state)[0].items():
        if name in known and known[name] == _same(tensor):
            continue
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return f"{name} holds NaN or infinity"
    return None


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return peak_memory()


def _meta(path: Path, meta: Mapping[str, Any]) -> tuple[float, int, list[Mapping[str, float]], list[Mapping[str, Any]]]:
    """Seconds, stride, history and changes of a checkpoint.

    Raises:
        PotstillError: they are not what this loop wrote.
    """
    seconds, stride, history = (meta.get(name) for name in ("seconds", "stride", "history"))
    changes = meta.get("changes", [])  # earlier versions wrote none

    def rows(value: object) -> bool:
        return isinstance(value, list) and all(isinstance(row, dict) for row in value)

    number = isinstance(seconds, int | float) and not isinstance(seconds, bool) and math.isfinite(seconds)
    if not number or type(stride) is not int or stride < 1 or not rows(history) or not rows(changes):
        raise PotstillError(f"{path}: not a whole checkpoint (its meta is damaged); start anew without resume")
    return float(meta["seconds"]), stride, list(meta["history"]), list(changes)


def split_identity(identity: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a run is of, and what computes it: versions, and the user's own files among the identity.

    A checkpoint of the first is never gone on with by another run; one of the second only where it is asked for.
    """
    own = {name: identity[name] for name in ("own_files",) if name in identity}
    return {n: v for n, v in identity.items() if n not in own}, {**versions(), **own}


def run_loop(
    method: Method[S],
    problem: Problem,
    *,
    rng: Generator,
    identity: Mapping[str, Any],
    steps: int | None = None,
    time_limit: float | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: float = 60.0,
    resume: bool = False,
    anyway: bool = False,
    progress: Callable[[Progress], None] | None = None,
    look: Callable[[int, S], None] | None = None,
    spent: float = 0.0,
    reserved: float = 0.0,
    keep: bool = False,
) -> LoopResult[S]:
    """Run ``method`` on ``problem`` until it is done, a limit is reached, a value is not finite, or a signal comes.

    Args:
        rng: every draw of the run comes from it; its state is part of the checkpoint.
        identity: what a checkpoint must have been made with to be resumed.
        steps: stop after this many steps in all, resumed ones counted.
        time_limit: stop after this many seconds of computing in all, where half a step more would be over it.
        checkpoint: file written every ``checkpoint_every`` seconds and on a signal. Without it, signals are left alone.
        resume: continue from ``checkpoint``; a run that was killed then ends with the same bits.
        anyway: continue it also where other versions or kernels computed it until there: see
            `potstill.dataset_file.checkpoint`.
        look: shown the state before the first step, with 0, and after every step, with its number.
        spent: seconds of the limit that went before the first step. A resumed run counts those that it had counted.
        reserved: seconds of the limit for what comes after the last step.
        keep: write the checkpoint also at the end, so that a longer run can go on from there.

    Raises:
        Interrupted: a signal came; the checkpoint is written.
        PotstillError: ``resume`` without a readable checkpoint of this configuration, or another run that writes to
            ``checkpoint``.
    """
    with contextlib.nullcontext() if checkpoint is None else exclusive_output(checkpoint):
        return _run(
            method, problem, rng=rng, identity=identity, steps=steps, time_limit=time_limit, checkpoint=checkpoint,
            checkpoint_every=checkpoint_every, resume=resume, anyway=anyway, progress=progress,
            look=look, spent=spent, reserved=reserved, keep=keep,
        )  # fmt: skip


def _run(
    method: Method[S],
    problem: Problem,
    *,
    rng: Generator,
    identity: Mapping[str, Any],
    steps: int | None,
    time_limit: float | None,
    checkpoint: Path | None,
    checkpoint_every: float,
    resume: bool,
    anyway: bool,
    progress: Callable[[Progress], None] | None,
    look: Callable[[int, S], None] | None,
    spent: float,
    reserved: float,
    keep: bool,
) -> LoopResult[S]:
    """`run`, once nobody else writes to ``checkpoint``."""
    if problem.train.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(problem.train.device)
    history: list[Mapping[str, float]] = []
    changes: list[Mapping[str, Any]] = []
    stride, step, before, damaged = 1, 0, 0.0, False
    identity, here = split_identity(identity)
    begun = last_saved = time.monotonic()
    if resume:
        if checkpoint is None or not checkpoint.exists():
            raise PotstillError(f"there is no unfinished run to resume at {checkpoint}; leave resume out to start one")
        saved: Checkpoint[S] = read_checkpoint(
            checkpoint, method.state_type, identity, versions=here, ignore_versions=anyway
        )  # fmt: skip
        state, step, damaged = saved.state, saved.step, saved.is_previous
        before, stride, history, changes = _meta(checkpoint, saved.meta)
        rng.set_state(saved.rng_state)
        kept = saved.meta.get("spent", 0.0)  # earlier versions counted none
        spent = max(spent, kept) if isinstance(kept, int | float) else spent
        if saved.versions is not None:
            changes.append({"step": step, "versions": dict(saved.versions)})
    else:
        state = method.init(problem, rng)
    first, total = step, method.num_steps(problem)
    if steps is not None:
        total = steps if total is None else min(steps, total)

    def seconds() -> float:
        return before + time.monotonic() - begun

    def save() -> None:
        nonlocal damaged
        if checkpoint is not None:
            meta = {"seconds": seconds(), "stride": stride, "history": history, "changes": changes, "spent": spent}
            write_checkpoint(
                checkpoint, state=state, rng_state=rng.get_state(), step=step, identity=identity, meta=meta,
                versions=here, keep_previous=not damaged,
            )  # fmt: skip
            damaged = False

    def ended(kind: Any, message: str) -> LoopResult[S]:
        return LoopResult(
            state=state,
            outcome=Outcome(kind=kind, message=message, step=step),
            seconds=seconds(),
            peak_memory=_peak_memory(problem.train.device),
            history=tuple(history),
            changes=tuple(changes),
        )

    if look is not None and not resume:
        look(step, state)
    first_seconds = seconds()
    with _Signals(active=checkpoint is not None) as signals:
        while True:
            if method.done(problem, state):
                if keep and step > first:
                    save()
                return ended("finished", f"all {step} steps of the method were made")
            if steps is not None and step >= steps:
                if keep and step > first:
                    save()
                return ended("steps reached", f"stopped after {step} steps, as asked")
            half = (seconds() - first_seconds) / (step - first) / 2 if step > first else 0.0
            if time_limit is not None and seconds() + spent + reserved + half >= time_limit:
                of = f" of {total:,}" if total is not None else ""
                kept = f", of which {reserved:.0f} s are kept for writing" if reserved >= 0.5 else ""
                said = f"stopped after {step:,}{of} steps: the time limit of {time_limit:g} s was reached{kept}"
                return ended("time limit reached", said)
            if signals.raised:
                save()
                assert checkpoint is not None  # the handlers are installed only with a checkpoint
                raise Interrupted(checkpoint, step)
            try:
                following, metrics = method.step(problem, state, rng)
                what = find_non_finite(metrics, following, state if step > first else None)
            except NonFiniteError as error:
                what = str(error)
            if what is not None:
                return ended(
                    "not finite",
                    f"step {step + 1}: {what}; the state of step {step} is kept; try a lower learning rate",
                )
            state, step = following, step + 1
            if look is not None:
                look(step, state)
            if step % stride == 0:
                history.append({"step": step, "seconds": round(seconds(), 3), **metrics})
                if len(history) > HISTORY_POINTS:
                    history, stride = history[1::2], stride * 2
            if progress is not None:
                left = None if time_limit is None else max(0.0, time_limit - spent - reserved)
                progress(Progress(step=step, total=total, seconds=seconds(), time_limit=left, metrics=metrics))
            if time.monotonic() - last_saved >= checkpoint_every:
                save()
                last_saved = time.monotonic()
