"""Worker process of `potstill.execution.processes.Processes`: reads jobs from stdin, replies on the former stdout."""

import os
import pickle
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache
from typing import Any, BinaryIO, cast

from potstill.errors import PotstillError

__all__ = ["read", "run_job", "serve", "unpickle_reply", "unwrap_reply", "write"]

_LENGTH = struct.Struct(">Q")


def write(stream: BinaryIO, payload: bytes) -> None:
    """Write one message: its length, then its bytes."""
    stream.write(_LENGTH.pack(len(payload)))
    stream.write(payload)
    stream.flush()


def read(stream: BinaryIO) -> bytes | None:
    """Return the next message; ``None`` when the other side is gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    body = stream.read(size)
    return body if len(body) == size else None


@lru_cache(maxsize=1)
def _loaded(function: bytes) -> Callable[[Any], Any]:
    """Return the function of the current ``map``, unpickled once since it may carry a whole test set."""
    return cast(Callable[[Any], Any], pickle.loads(function))


def run_job(function: bytes, job: bytes) -> bytes:
    """Return a pickled reply: ("done", result), ("raised", exception, traceback), or ("lost", text, traceback) for
    an exception that cannot be pickled."""
    try:
        return pickle.dumps(("done", _loaded(function)(pickle.loads(job))), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # every one of them: the caller is in another process, and it decides
        trace = traceback.format_exc()
        try:
            sent = pickle.dumps(("raised", error, trace), pickle.HIGHEST_PROTOCOL)
            pickle.loads(sent)  # some exceptions pickle but do not come back
        except (pickle.PicklingError, TypeError, AttributeError, ValueError):
            return pickle.dumps(("lost", f"{type(error).__name__}: {error}", trace), pickle.HIGHEST_PROTOCOL)
        return sent


def unpickle_reply(reply: bytes) -> Any:
    """Return the result in a reply, or raise its exception with the worker's traceback as a note."""
    return unwrap_reply(pickle.loads(reply))


def unwrap_reply(reply: tuple[Any, ...]) -> Any:
    """Return the result of an unpickled reply, or raise its exception.

    Raises:
        PotstillError: the job raised an exception that cannot be pickled.
    """
    kind, value, *trace = reply
    if kind == "done":
        return value
    if kind == "raised":
        value.add_note(f"in a worker process:\n{trace[0]}")
        raise value
    raise PotstillError(f"a job failed in a worker process: {value}")


def serve(threads: int) -> None:
    """Reply until stdin closes. A message is ("fn", function) or ("job", pickled job)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent stops its workers itself
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a print in a job must not end up among the answers
    import torch

    from potstill.execution.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    jobs = sys.stdin.buffer
    function = b""
    while (message := read(jobs)) is not None:
        kind, payload = pickle.loads(message)
        if kind == "fn":
            function = payload
        else:
            write(answers, run_job(function, payload))
