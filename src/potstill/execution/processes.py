"""Executor of other processes on this machine.

Workers are started, not forked, so no lock or CUDA context is copied. Unlike ``multiprocessing`` they do not run the
caller's main script, so a script needs no ``if __name__ == "__main__"``.
"""

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from potstill._util.input_limits import with_current_limits
from potstill.errors import PotstillError
from potstill.execution.executor import WorkerPool, dumps, num_cores
from potstill.execution.worker import read, unwrap_reply, write

__all__ = ["Processes"]

J = TypeVar("J")
R = TypeVar("R")

_START = "import sys; sys.path[:] = {path!r}; from potstill.execution.worker import serve; serve({threads})"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(eq=False)
class Processes(WorkerPool):
    """Executor of ``workers`` processes (0: one per core) with ``threads`` torch threads each.

    Workers start with the first ``map`` and are kept until `close`, the end of a ``with`` block, Ctrl-C or the end of
    the program. A job's exception is raised as itself, with the worker's traceback as a note.

    Raises:
        PotstillError: (from ``map``) a job or the function cannot be pickled, or a worker died.
    """

    workers: int = 0
    threads: int = 1
    _running: "list[subprocess.Popen[bytes]]" = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.workers = self.workers or num_cores()
        if self.workers < 1 or self.threads < 1:
            raise PotstillError(
                f"at least 1 worker with 1 thread is required, but {self.workers} × {self.threads} were requested"
            )
        self._end = weakref.finalize(self, _stop, self._running)

    def num_workers(self) -> int:
        """Return the jobs at a time."""
        return self.workers

    def close(self) -> None:
        _stop(self._running)

    def map(self, fn: Callable[[J], R], jobs: Sequence[J], /) -> Iterator[R]:
        """Yield results in the order of ``jobs``. ``fn`` is sent to each worker once, so it should hold what jobs
        share."""
        if not jobs:
            return
        function = pickle.dumps(("fn", dumps(with_current_limits(fn))), pickle.HIGHEST_PROTOCOL)
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for i in range(len(jobs)):
            todo.put(i)
        answers: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        stopped = threading.Event()
        self._start(min(self.workers, len(jobs)))
        threads = [
            threading.Thread(target=_feed, args=(worker, function, jobs, todo, answers, stopped), daemon=True)
            for worker in self._running[: len(jobs)]
        ]
        for thread in threads:
            thread.start()
        finished = False
        try:
            yield from self._in_order(len(jobs), answers)
            finished = True
        finally:
            stopped.set()
            if not finished:  # a worker may be in the middle of a job that nobody waits for
                self.close()
            for thread in threads:
                thread.join()

    def _in_order(self, n: int, answers: "queue.SimpleQueue[tuple[int, Any]]") -> Iterator[Any]:
        early: dict[int, Any] = {}
        for i in range(n):
            while i not in early:
                key, answer = answers.get()
                if key < 0:  # a worker died or a job could not be sent: no use waiting for the others
                    raise answer
                early[key] = answer
            yield unwrap_reply(early.pop(i))

    def _start(self, n: int) -> None:
        self._running[:] = [worker for worker in self._running if worker.poll() is None]
        environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(self.threads))}
        for _ in range(n - len(self._running)):
            command = [sys.executable, "-c", _START.format(path=sys.path, threads=self.threads)]
            self._running.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            )


def _feed(
    worker: "subprocess.Popen[bytes]",
    function: bytes,
    jobs: Sequence[Any],
    todo: "queue.SimpleQueue[int]",
    answers: "queue.SimpleQueue[tuple[int, Any]]",
    stopped: threading.Event,
) -> None:
    """Send jobs to one worker until there are none, in a thread; errors are answers with key -1."""
    assert worker.stdin is not None  # opened as pipes in _start
    assert worker.stdout is not None
    try:
        write(worker.stdin, function)  # type: ignore[arg-type]  # typeshed says IO[bytes] for a BufferedWriter
        while not stopped.is_set():
            try:
                i = todo.get_nowait()
            except queue.Empty:
                return
            write(worker.stdin, pickle.dumps(("job", dumps(jobs[i]))))  # type: ignore[arg-type]
            answer = read(worker.stdout)  # type: ignore[arg-type]
            if answer is None:
                raise BrokenPipeError
            answers.put((i, pickle.loads(answer)))
    except PotstillError as error:
        answers.put((-1, error))
    except (OSError, ValueError):  # the pipe broke, or close() closed it under us
        answers.put((-1, _obituary(worker)))


def _obituary(worker: "subprocess.Popen[bytes]") -> PotstillError:
    code = worker.wait()
    end = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    return PotstillError(
        f"a worker process must live until its jobs are done, but it ended with {end}; "
        "if memory ran out, use fewer workers or Serial()"
    )


def _stop(running: "list[subprocess.Popen[bytes]]") -> None:
    for worker in running:
        worker.kill()
    for worker in running:
        worker.wait()
        for pipe in (worker.stdin, worker.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # what was not yet sent to a worker that is gone
    running.clear()
