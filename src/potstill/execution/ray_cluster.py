"""Executor on a Ray cluster: a running one, or one of this machine alone.

Jobs are sent and answered as by `potstill.execution.Processes`, with the same bits and exceptions. A job whose worker
or node dies is run again elsewhere, and shared data go to each node once, through the object store. Jobs that write
files (experts, cells of a comparison) write them on their node: nodes need one file system and one version of Potstill.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from potstill._util.input_limits import with_current_limits
from potstill.errors import PotstillError, PotstillWarning
from potstill.execution.executor import WorkerPool, dumps, num_cores
from potstill.execution.worker import run_job, unpickle_reply
from potstill.native import versions

__all__ = ["Ray"]

J = TypeVar("J")
R = TypeVar("R")

OWN_STORE = 256 * 2**20
"""Bytes of the object store of an own cluster: shared data and results."""
LISTENS = 10.0
"""Seconds to wait for an answer at an address."""
SENT = ("POTSTILL_", "ATEN_CPU_CAPABILITY")
"""Prefixes of environment variables that are passed to jobs."""


@dataclass(eq=False)
class Ray(WorkerPool):
    """Executor that runs jobs as Ray tasks.

    Args:
        address: ``auto`` (the cluster of this machine), ``HOST:PORT`` or ``ray://HOST:PORT``; "": an own cluster of
            this machine, which ends with this process or with ``close``. A session that the process has started is
            used.
        workers: jobs at a time in an own cluster; 0: as many as cores.
        threads: torch threads of a job, and cores reserved for it.
        gpus: GPUs, or a part of one, reserved for a job.
        retries: restarts of a job whose worker or node died.

    Raises:
        PotstillError: (from ``map``) Ray is not installed, there is no such cluster, a job cannot be pickled, or
            its workers died more often than ``retries``.
    """

    address: str = ""
    workers: int = 0
    threads: int = 1
    gpus: float = 0.0
    retries: int = 5
    _is_own: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.workers < 0 or self.threads < 1 or self.gpus < 0 or self.retries < 0:
            raise PotstillError(
                "executor ray: workers, gpus and retries must be 0 or more and threads at least 1, but they are "
                f"{self.workers}, {self.gpus:g}, {self.retries} and {self.threads}"
            )
        if self.address and self.workers:
            raise PotstillError("executor ray: a cluster that stands has its own workers; leave out workers or address")

    def num_workers(self) -> int:
        """Return the jobs at a time; for a running cluster, what its cores and GPUs hold now.

        Raises:
            PotstillError: there is no such cluster.
        """
        if not self.address:
            return self.workers or num_cores()
        has = self._session().cluster_resources()
        room = [has.get("CPU", 0.0) / self.threads] + ([has.get("GPU", 0.0) / self.gpus] if self.gpus else [])
        return max(1, int(min(room)))

    def close(self) -> None:
        """Leave the cluster, and stop an own one; a later ``map`` starts again."""
        if self._is_own:
            _ray().shutdown()
            self._is_own = False

    def map(self, fn: Callable[[J], R], jobs: Sequence[J], /) -> Iterator[R]:
        """Yield results in the order of ``jobs``. Unfinished jobs are cancelled when the caller stops."""
        if not jobs:
            return
        function, sent = dumps(with_current_limits(fn)), [dumps(job) for job in jobs]
        ray = self._session()
        task = ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=self.retries)(_run)
        shared = ray.put(function)
        waiting = [task.remote(shared, job, self.threads, os.getcwd()) for job in sent]
        own_versions, warned = versions(), False
        waiting.reverse()
        try:
            while waiting:
                reply, job_versions = _get_reply(ray, waiting[-1], self.retries)
                waiting.pop()
                if job_versions != own_versions and not warned:
                    warned = True
                    _warn_of_versions(own_versions, job_versions)
                yield unpickle_reply(reply)
        finally:
            for reference in waiting:
                ray.cancel(reference, force=True)

    def _session(self) -> Any:
        ray = _ray()
        if ray.is_initialized():
            return ray
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody unless it is asked for
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        options: dict[str, Any] = {
            "address": "local", "num_cpus": (self.workers or num_cores()) * self.threads, "include_dashboard": False,
            "object_store_memory": OWN_STORE,
        }  # fmt: skip
        variables = {name: value for name, value in os.environ.items() if name.startswith(SENT)}
        variables["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        try:
            _check_listening(self.address)
            with _keep_signals():
                ray.init(
                    **({"address": self.address} if self.address else options), runtime_env={"env_vars": variables},
                    log_to_driver=False, logging_level="error",
                )  # fmt: skip
        except (OSError, ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())[:200]
            where = f"at {self.address}" if self.address else "on this machine"
            if _wants_token(error):
                raise PotstillError(
                    f"executor ray: the cluster {where} asks for its token; give it as RAY_AUTH_TOKEN with "
                    "RAY_AUTH_MODE=token, or copy ~/.ray/auth_token from the machine where it was started"
                ) from error
            raise PotstillError(
                f"executor ray: no cluster {where} ({text}); start one (ray start --head) or choose processes"
            ) from error
        self._is_own = True
        return ray


def _wants_token(error: BaseException) -> bool:
    """Return True if the cluster refused the connection for want of its token."""
    said = f"{type(error).__name__} {error}"
    before = error.__cause__ or error.__context__
    return "AuthToken" in said or "AuthenticationError" in said or (before is not None and _wants_token(before))


def _check_listening(address: str) -> None:
    """Check that something listens at ``HOST:PORT``; Ray itself takes minutes to find out.

    Raises:
        OSError: nothing does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # auto, or what Ray refuses at once
    from ray.util import get_node_ip_address

    # a cluster of this machine may listen at the machine's own address alone
    if int(port) > 65_535:
        raise ValueError(f"ports are at most 65,535, not {port}")
    hosts = [host, get_node_ip_address()] if host in ("127.0.0.1", "localhost", "::1") else [host]  # type: ignore[no-untyped-call]
    for last, one in zip([False, True][-len(hosts) :], hosts, strict=True):
        try:
            socket.create_connection((one, int(port)), LISTENS).close()
        except OSError:
            if last:
                raise
        else:
            return


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise PotstillError(
            "executor ray: needs the package ray; install it (pip install 'potstill[ray]') or choose processes"
        ) from error
    return ray


def _run(function: bytes, job: bytes, threads: int, folder: str) -> tuple[bytes, dict[str, str]]:
    """Run a job in a worker: its reply, and the versions that computed it. Paths are relative to ``folder``."""
    from potstill.execution.memory import keep_freed_memory

    with contextlib.suppress(OSError):  # there is none on a machine of its own: then no path can be meant
        os.chdir(folder)
    keep_freed_memory()
    torch.set_num_threads(threads)
    return run_job(function, job), versions()


def _get_reply(ray: Any, reference: Any, retries: int) -> tuple[bytes, dict[str, str]]:
    try:
        reply: tuple[bytes, dict[str, str]] = ray.get(reference)
    except ray.exceptions.RayError as error:
        said = str(error).strip().partition("\n")[0][:200]
        raise PotstillError(
            f"a job was begun on the cluster and {retries} times again, but its worker ended each time ({said}); if "
            "memory ran out, give each job more cores (threads=2) so that fewer run at a time"
        ) from error
    return reply


def _warn_of_versions(versions_here: dict[str, str], versions_there: dict[str, str]) -> None:
    differing = [
        f"{name} {versions_there[name]} there and {versions_here[name]} here"
        for name in versions_here
        if versions_there.get(name) != versions_here[name]
    ]
    warnings.warn(
        f"jobs ran where other bits are computed ({'; '.join(differing)}): what they give is worth as much, but the "
        "same seed gives other last digits than on this machine alone",
        PotstillWarning, stacklevel=4,
    )  # fmt: skip


@contextmanager
def _keep_signals() -> Iterator[None]:
    """Restore the signal handlers that Ray replaces, so that a run still saves on SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
