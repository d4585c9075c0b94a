"""The only loop that runs steps: limits, checkpoints, resuming, signals and the check for NaN and infinity."""

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

__all__ = [
    "CheckpointOptions", "Interrupted", "LoopLimits", "LoopResult", "Outcome", "Progress", "find_non_finite",
    "run_loop", "versions",
]  # fmt: skip

S = TypeVar("S")
HISTORY_POINTS = 512
"""Maximum number of points in the history; every second one is dropped when it is full."""


class Interrupted(PotstillError):
    """SIGINT or SIGTERM stopped the run after ``step``; the file ``checkpoint`` holds all of it.

    The command line prints the line that resumes the run, and exits with 130.

    Args:
        checkpoint: file that holds the run.
        step: last step that was made.

    Examples:
        >>> try:
        ...     small = potstill.distill("digits", "dm", ipc=1, steps=2, checkpoint="run", progress=None)
        ... except potstill.Interrupted as stop:
        ...     print(stop.step, stop.checkpoint)
    """

    def __init__(self, checkpoint: Path, step: int) -> None:
        super().__init__(f"interrupted after step {step}; the run is kept in {checkpoint} and resume continues it")
        self.checkpoint = checkpoint
        self.step = step


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The reason why a run ended, with a sentence for people; part of the set's metadata."""

    kind: Literal["finished", "steps reached", "time limit reached", "interrupted", "not finite"]
    message: str
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """State of a run after a step: the argument of a progress callback.

    Examples:
        >>> def show(progress: potstill.Progress) -> None:
        ...     print(progress.step, progress.total)
        >>> small = potstill.distill("digits", "dm", ipc=1, steps=2, progress=show)
        1 2
        2 2
    """

    step: int
    """Steps made, those of resumed parts counted."""
    total: int | None
    """Steps of the run; ``None``: not known."""
    seconds: float
    """Computing time of all resumed parts."""
    time_limit: float | None
    """Time limit in seconds; ``None``: none."""
    metrics: Metrics
    """Numbers of the step, such as ``loss``, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult(Generic[S]):
    """The last state, its outcome, history and cost. ``peak_memory``: bytes of the process, or of the GPU allocator.

    ``changes``: the steps after which other versions or kernels continued, each with what had computed it until then.
    """

    state: S
    outcome: Outcome
    seconds: float
    peak_memory: int
    history: tuple[Mapping[str, float], ...]
    changes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLimits:
    """When the loop stops."""

    steps: int | None = None
    """Steps in all, resumed ones counted."""
    seconds: float | None = None
    """Seconds of computing in all; no step begins of which half would be over it."""
    spent: float = 0.0
    """Seconds of the limit that went before the first step; a resumed run counts those in its checkpoint."""
    reserved: float = 0.0
    """Seconds of the limit for what comes after the last step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointOptions:
    """File that the loop saves its state to, and whether it continues from there."""

    path: Path
    every: float = 60.0
    """Seconds between checkpoints."""
    resume: bool = False
    """Continue from ``path``; a run that was killed then ends with the same bits."""
    force: bool = False
    """Continue also where other versions or kernels computed it until there (`potstill.dataset_file.checkpoint`)."""
    keep: bool = False
    """Write the checkpoint also at the end, so that a longer run can continue from there."""


class _SignalFlag(AbstractContextManager["_SignalFlag"]):
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

    def __enter__(self) -> "_SignalFlag":
        if self.active:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _memory_key(tensor: Tensor) -> tuple[object, ...]:
    """Return what is equal for two tensors only if they are one memory that was not written to in between."""
    if tensor.is_inference():
        return (object(),)  # whose writes are not counted
    return tensor.data_ptr(), tensor._version, tensor.shape, tensor.stride(), tensor.dtype


def find_non_finite(metrics: Metrics, state: object, before: object = None) -> str | None:
    """Return a message that names the first metric or tensor with NaN or infinity; ``None`` if all are finite.

    Args:
        before: a state known to be finite. Tensors that a step left alone are not read again.
    """
    known = {} if before is None else {n: _memory_key(t) for n, t in pack_state(before)[0].items()}
    for name, value in metrics.items():
        if not math.isfinite(value):
            return f"{name} is {value}"
    for name, tensor in pack_state(state)[0].items():
        if name in known and known[name] == _memory_key(tensor):
            continue
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return f"{name} holds NaN or infinity"
    return None


def split_identity(identity: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the identity of a run, and what computes it: versions, and hashes of the user's own files.

    A checkpoint of another identity is never continued; one computed otherwise only with ``resume="force"``.
    """
    own = {name: identity[name] for name in ("own_files",) if name in identity}
    return {n: v for n, v in identity.items() if n not in own}, {**versions(), **own}


def run_loop(
    method: Method[S],
    problem: Problem,
    *,
    rng: Generator,
    identity: Mapping[str, Any],
    limits: LoopLimits | None = None,
    checkpoint: CheckpointOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
    on_step: Callable[[int, S], None] | None = None,
) -> LoopResult[S]:
    """Run ``method`` on ``problem`` until it is done, a limit is reached, a value is not finite, or a signal comes.

    Args:
        rng: source of every draw of the run; its state is part of the checkpoint.
        identity: JSON values that a checkpoint must have been made with to be resumed.
        limits: default: none.
        checkpoint: written every so often and on a signal. Without it, signals are left alone.
        on_step: called with 0 and the state before the first step, and with the number and state after every step.

    Raises:
        Interrupted: a signal came; the checkpoint is written.
        PotstillError: there is no readable checkpoint of this configuration to resume, or another run writes to it.
    """
    with contextlib.nullcontext() if checkpoint is None else exclusive_output(checkpoint.path):
        loop = _Loop(method, problem, rng, identity, limits or LoopLimits(), checkpoint)
        return loop.run(progress, on_step)


class _Loop(Generic[S]):
    """The state of one loop, once no other run writes to its checkpoint."""

    def __init__(
        self, method: Method[S], problem: Problem, rng: Generator, identity: Mapping[str, Any], limits: LoopLimits,
        checkpoint: CheckpointOptions | None,
    ) -> None:  # fmt: skip
        if problem.train.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(problem.train.device)
        self.method, self.problem, self.rng, self.limits, self.checkpoint = method, problem, rng, limits, checkpoint
        self.identity, self.versions = split_identity(identity)
        self.history: list[Mapping[str, float]] = []
        self.changes: list[Mapping[str, Any]] = []
        self.stride, self.step, self.seconds_before, self.spent, self.damaged = 1, 0, 0.0, limits.spent, False
        self.started = self.last_saved = time.monotonic()
        self.resumed = checkpoint is not None and checkpoint.resume
        if checkpoint is not None and checkpoint.resume:
            self.state = self._resume(checkpoint)
        else:
            self.state = method.init(problem, rng)
        self.first = self.step
        self.total = method.num_steps(problem)
        if limits.steps is not None:
            self.total = limits.steps if self.total is None else min(limits.steps, self.total)

    def _resume(self, checkpoint: CheckpointOptions) -> S:
        path = checkpoint.path
        if not path.exists():
            raise PotstillError(f"there is no unfinished run to resume at {path}; leave resume out to start one")
        saved: Checkpoint[S] = read_checkpoint(
            path, self.method.state_type, self.identity, versions=self.versions, ignore_versions=checkpoint.force
        )
        self.step, self.damaged = saved.step, saved.is_previous
        self.seconds_before, self.stride, self.history, self.changes, spent = _read_meta(path, saved.meta)
        self.rng.set_state(saved.rng_state)
        self.spent = max(self.spent, spent)
        if saved.versions is not None:
            self.changes.append({"step": self.step, "versions": dict(saved.versions)})
        return saved.state

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _save(self) -> None:
        if self.checkpoint is not None:
            meta = {
                "seconds": self._seconds(), "stride": self.stride, "history": self.history, "changes": self.changes,
                "spent": self.spent,
            }  # fmt: skip
            write_checkpoint(
                self.checkpoint.path, state=self.state, rng_state=self.rng.get_state(), step=self.step,
                identity=self.identity, meta=meta, versions=self.versions, keep_previous=not self.damaged,
            )  # fmt: skip
            self.damaged = False

    def _end(self, kind: Any, message: str) -> LoopResult[S]:
        device = self.problem.train.device
        keep = self.checkpoint is not None and self.checkpoint.keep
        if keep and kind in ("finished", "steps reached") and self.step > self.first:
            self._save()
        return LoopResult(
            state=self.state,
            outcome=Outcome(kind=kind, message=message, step=self.step),
            seconds=self._seconds(),
            peak_memory=int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else peak_memory(),
            history=tuple(self.history),
            changes=tuple(self.changes),
        )

    def _limit_reached(self, first_seconds: float) -> LoopResult[S] | None:
        """Return the result if the method is done or a limit is reached."""
        step, limits = self.step, self.limits
        if self.method.done(self.problem, self.state):
            return self._end("finished", f"all {step} steps of the method were made")
        if limits.steps is not None and step >= limits.steps:
            return self._end("steps reached", f"stopped after {step} steps, as asked")
        half = (self._seconds() - first_seconds) / (step - self.first) / 2 if step > self.first else 0.0
        reserved = limits.reserved
        if limits.seconds is not None and self._seconds() + self.spent + reserved + half >= limits.seconds:
            of = f" of {self.total:,}" if self.total is not None else ""
            writing = f", of which {reserved:.0f} s are kept for writing" if reserved >= 0.5 else ""
            return self._end(
                "time limit reached",
                f"stopped after {step:,}{of} steps: the time limit of {limits.seconds:g} s was reached{writing}",
            )
        return None

    def run(
        self, progress: Callable[[Progress], None] | None, on_step: Callable[[int, S], None] | None
    ) -> LoopResult[S]:
        """Run steps until the loop ends."""
        if on_step is not None and not self.resumed:
            on_step(self.step, self.state)
        first_seconds = self._seconds()
        with _SignalFlag(active=self.checkpoint is not None) as signals:
            while True:
                if (result := self._limit_reached(first_seconds)) is not None:
                    return result
                if signals.raised:
                    self._save()
                    assert self.checkpoint is not None  # the handlers are installed only with a checkpoint
                    raise Interrupted(self.checkpoint.path, self.step)
                try:
                    state, metrics = self.method.step(self.problem, self.state, self.rng)
                    fault = find_non_finite(metrics, state, self.state if self.step > self.first else None)
                except NonFiniteError as error:
                    fault = str(error)
                if fault is not None:
                    return self._end(
                        "not finite",
                        f"step {self.step + 1}: {fault}; the state of step {self.step} is kept; try a lower "
                        "learning rate",
                    )
                self.state, self.step = state, self.step + 1
                if on_step is not None:
                    on_step(self.step, self.state)
                self._record(metrics)
                if progress is not None:
                    progress(self._progress(metrics))
                if self.checkpoint is not None and time.monotonic() - self.last_saved >= self.checkpoint.every:
                    self._save()
                    self.last_saved = time.monotonic()

    def _record(self, metrics: Metrics) -> None:
        if self.step % self.stride == 0:
            self.history.append({"step": self.step, "seconds": round(self._seconds(), 3), **metrics})
            if len(self.history) > HISTORY_POINTS:
                self.history, self.stride = self.history[1::2], self.stride * 2

    def _progress(self, metrics: Metrics) -> Progress:
        limit = self.limits.seconds
        left = None if limit is None else max(0.0, limit - self.spent - self.limits.reserved)
        return Progress(step=self.step, total=self.total, seconds=self._seconds(), time_limit=left, metrics=metrics)


def _read_meta(
    path: Path, meta: Mapping[str, Any]
) -> tuple[float, int, list[Mapping[str, float]], list[Mapping[str, Any]], float]:
    """Return what this loop wrote into a checkpoint: seconds, stride, history, changes, seconds spent before."""
    values: list[Any] = [meta.get(name) for name in ("seconds", "stride", "history", "changes", "spent")]
    seconds, stride, history, changes, spent = values

    def is_rows(value: object) -> bool:
        return isinstance(value, list) and all(isinstance(row, dict) for row in value)

    def is_number(value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

    numbers = is_number(seconds) and is_number(spent) and type(stride) is int and stride >= 1
    if not numbers or not is_rows(history) or not is_rows(changes):
        raise PotstillError(f"{path}: an incomplete checkpoint (its metadata is damaged); start again without resume")
    return float(seconds), stride, list(history), list(changes), float(spent)
