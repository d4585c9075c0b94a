"""Executor of the processes of torchrun or Ray Train: rank 0 runs the program, the others help.

Only rank 0 reads data, draws, decides and writes. The others take a share of

- a training batch (`potstill.functional.microbatch.sharing`): each passes its samples through the network; rank 0 takes
  the loss of all outputs and sends ∂ℓ/∂outputs back; gradients are summed. The step is that of the whole batch up to
  the order of sums. Each step sends as many bytes as an all-reduce;
- independent jobs: every n-th, with the bits of one process.

The other ranks keep only the architecture between steps. CPU messages and tensors go over gloo, GPU tensors over NCCL.
"""

import os
import pickle
import re
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call

from potstill._util.input_limits import with_current_limits
from potstill.core import Inputs
from potstill.core.nested import device_of, named_tensors, num_samples
from potstill.errors import PotstillError
from potstill.execution.executor import dumps, is_picklable, torch_threads
from potstill.execution.shared_batch_norm import sync_batch_norm
from potstill.execution.worker import run_job, unwrap_reply
from potstill.functional.features import uses_batch_statistics
from potstill.functional.microbatch import (
    ChunkedForward,
    PassResult,
    PureForward,
    loss_and_gradient,
    out_of_memory,
    share_batches,
)

__all__ = ["Ranks", "active_ranks", "launched_by_torchrun", "run_on_ranks"]

J = TypeVar("J")
R = TypeVar("R")

_PATIENCE = timedelta(days=7)
"""Timeout of the next message: rank 0 may work for days. A rank that ends is noticed at once."""
_ACTIVE: "Ranks | None" = None
_PATIENT: dist.ProcessGroup | None = None
"""Process group of messages that are waited for; ``None``: the default group. Groups of other programs may time out
(Ray Train's after half an hour)."""


def launched_by_torchrun() -> bool:
    """Return True if torchrun, or a compatible launcher, started this process as one of several."""
    variables = os.environ.get("WORLD_SIZE", "1"), os.environ.get("RANK", "")
    return (
        variables[0].isdecimal() and int(variables[0]) > 1 and variables[1].isdecimal() and "MASTER_ADDR" in os.environ
    )


def run_on_ranks(work: Callable[[], R], ranks: "Ranks | None" = None) -> R | None:
    """Return the result of ``work`` on rank 0, helped by the other ranks, which return ``None``.

    For programs that run on every rank and must return there, such as the training loop of a Ray Train
    ``TorchTrainer``. An existing process group is used and kept.

    Args:
        ranks: settings; ``None``: the defaults.

    Raises:
        PotstillError: as `Ranks`.
    """
    try:
        with ranks or Ranks():
            return work()
    except _Helped:
        return None


class _Helped(SystemExit):
    """End of a rank that has helped."""


def active_ranks() -> "Ranks | None":
    """Return the ranks that help now."""
    return _ACTIVE


def backend_for(on_gpu: bool, nccl: bool) -> str:
    """Return the backend: gloo, with NCCL between GPUs where torch has it."""
    return "cpu:gloo,cuda:nccl" if on_gpu and nccl else "gloo"


def _check_backend(backend: str) -> None:
    """Check an existing backend, such as ``cpu:gloo,cuda:gloo``.

    Raises:
        PotstillError: it has none for the CPU.
    """
    if "cpu:gloo" not in backend and "cpu:mpi" not in backend:
        raise PotstillError(
            f"ranks need a process group with a CPU backend, but the existing one has {backend}; create it with the "
            "backend gloo or cpu:gloo,cuda:nccl (of Ray Train: TorchConfig(backend=…))"
        )


class Ranks:
    """Processes of torchrun between ``__enter__`` and ``__exit__``: an executor that also shares batches.

    The ranks other than 0 help inside ``__enter__`` and end there with `SystemExit`, so a script has the ``with``
    before all its work::

        with Ranks():
            small = potstill.distill(...)

    Args:
        min_samples: fewest samples of a batch per rank; smaller batches are not shared.
        threads: torch threads of each of several jobs.

    Raises:
        PotstillError: (from ``__enter__``) torchrun did not start this process, or an existing process group has no
            CPU backend; (later) a rank is gone.
    """

    def __init__(self, min_samples: int = 8, threads: int = 1) -> None:
        if min_samples < 1 or threads < 1:
            raise PotstillError(
                f"ranks: min_samples and threads must be at least 1, but they are {min_samples} and {threads}"
            )
        self.min_samples, self.threads = min_samples, threads
        self.rank, self.world = 0, 1
        self._held: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
        self._unsent: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._dropped: list[int] = []
        self._next = 0
        self._busy = False
        self._own = True
        self._stack = ExitStack()

    def num_workers(self) -> int:
        """Return the jobs at a time."""
        return self.world

    def __enter__(self) -> "Ranks":
        global _ACTIVE, _PATIENT
        if not launched_by_torchrun():
            raise PotstillError(
                "ranks are started by torchrun, but RANK, WORLD_SIZE and MASTER_ADDR do not say so; begin with "
                "`torchrun --nproc-per-node 2 -m potstill …`"
            )
        on_gpu = torch.cuda.is_available()
        if on_gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        self._own = not dist.is_initialized()
        if self._own:
            dist.init_process_group(backend_for(on_gpu, dist.is_nccl_available()), timeout=_PATIENCE)
        else:
            _check_backend(str(dist.get_backend_config()))
            _PATIENT = dist.new_group(backend="gloo", timeout=_PATIENCE)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        if self.rank:
            try:
                _Helper().serve()
            except RuntimeError as error:
                raise _rank_lost(error) from error
            finally:
                self._leave()
            raise _Helped(0)
        _ACTIVE = self
        self._stack.enter_context(share_batches(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _ACTIVE
        _ACTIVE = None
        self._stack.close()
        try:
            if not self._busy:  # in the middle of a step the others wait for something else, and end with this process
                _send(("end",))
        except RuntimeError as lost:
            if error is None:
                raise _rank_lost(lost) from lost
        finally:
            self._leave()

    def _leave(self) -> None:
        """Destroy the process group that was created here."""
        global _PATIENT
        dist.destroy_process_group(_PATIENT)
        _PATIENT = None

    # --- jobs ---------------------------------------------------------------------------------------------------

    def map(self, fn: Callable[[J], R], jobs: Sequence[J], /) -> Iterator[R]:
        """Yield results in order. With as many jobs as ranks each rank takes one; fewer run here, and share their
        batches."""
        if len(jobs) < self.world or not is_picklable(fn, *jobs):
            for job in jobs:
                yield fn(job)
            return
        function = dumps(with_current_limits(fn))
        for first in range(0, len(jobs), self.world):
            batch = jobs[first : first + self.world]
            self._busy = True
            try:
                _send(("jobs", function if first == 0 else None, [dumps(job) for job in batch], self.threads))
                with torch_threads(self.threads), share_batches(None):
                    own_reply = run_job(function, dumps(batch[0]))
                replies: list[Any] = [None] * self.world
                dist.gather_object(own_reply, replies, group=_PATIENT)
            except RuntimeError as error:
                raise _rank_lost(error) from error
            self._busy = False
            for reply in replies[: len(batch)]:
                yield unwrap_reply(pickle.loads(reply))

    # --- batches ------------------------------------------------------------------------------------------------

    def forward_backward(
        self, network: nn.Module, forward: Callable[[Inputs], Tensor], parameters: Sequence[Tensor], x: Inputs,
        loss_of: Callable[[Tensor], Tensor], plain: PureForward,
    ) -> PassResult | None:  # fmt: skip
        """Loss, outputs and gradients of a batch of which each rank takes a part; ``None`` for a small one, or where
        the network cannot be sent."""
        n = num_samples(x)
        key = self._key(network) if n >= self.min_samples * self.world else None
        if key is None:
            return None
        sizes = _sizes(n, self.world)
        message = {
            "key": key, "network": dumps(network) if network in self._unsent else None,
            "training": [m.training for m in network.modules()], "half": plain.half, "sizes": sizes,
            "dropped": self._dropped, "named": not isinstance(x, Tensor), "gpu": device_of(x).type == "cuda",
            "like": [_like(plain.parameters), _like(plain.buffers), _like(named_tensors(x))],
        }  # fmt: skip
        self._dropped, parts = [], [_rows(x, first, size) for first, size in _spans(sizes)]
        self._busy = True
        try:
            _send(("pass", message))
            self._unsent.discard(network)
            _broadcast([*plain.parameters.values(), *plain.buffers.values()])
            for rank, part in enumerate(parts[1:], 1):
                for t in named_tensors(part).values():
                    dist.send(t.contiguous(), rank)
        except RuntimeError as error:
            raise _rank_lost(error) from error
        return self._gathered(network, forward, parameters, parts[0], loss_of, sizes)

    def _gathered(
        self, network: nn.Module, forward: Callable[[Inputs], Tensor], parameters: Sequence[Tensor], own_share: Inputs,
        loss_of: Callable[[Tensor], Tensor], sizes: Sequence[int],
    ) -> PassResult:  # fmt: skip
        """Finish a step once the others have their shares. Failures here are sent to them first."""
        failed: BaseException | None = None
        together = uses_batch_statistics(network)  # then ranks also meet inside of the pass, and none can leave alone
        try:
            with sync_batch_norm(network, sizes[0] / sum(sizes)):
                try:
                    piece = ChunkedForward(forward, parameters, own_share)
                except (RuntimeError, MemoryError, PotstillError) as error:
                    if together:
                        raise
                    failed = error
                self._check(_replies(None if failed is None else ""), failed)
                outputs = [piece.outputs]
                for rank, size in enumerate(sizes[1:], 1):
                    outputs.append(torch.empty(size, *piece.outputs.shape[1:]).to(piece.outputs))
                    dist.recv(outputs[-1], rank)
                whole = torch.cat(outputs)
                try:
                    value, slope = loss_and_gradient(whole, loss_of)
                except Exception:
                    _send(("go", None))
                    self._busy = False
                    raise
                _send(("go", slope.dtype))
                shares = torch.split(slope, list(sizes))
                for rank, share in enumerate(shares[1:], 1):
                    dist.send(share.contiguous(), rank)
                try:
                    grads = piece.backward(shares[0])
                except (RuntimeError, MemoryError) as error:
                    if together:
                        raise
                    failed = error
                self._check(_replies(None if failed is None else ""), failed)
            summed = _summed(grads)
        except dist.DistError as error:
            raise _rank_lost(error) from error
        self._busy = False
        return value, whole, summed

    def _check(self, errors: Sequence[str | None], failed: BaseException | None) -> None:
        """Raise the failure of any rank; all ranks know of it and drop the step.

        Raises:
            PotstillError: a rank failed.
        """
        self._busy = failed is None and all(wrong is None for wrong in errors)
        if failed is not None:
            raise failed
        for rank, wrong in enumerate(errors):
            if wrong is not None:
                raise PotstillError(f"rank {rank} of {self.world} could not take its part of a batch: {wrong}")

    def _key(self, network: nn.Module) -> int | None:
        """Return the number of a network, which is sent once; ``None`` where it cannot be pickled."""
        if network not in self._held:
            if not is_picklable(network):
                return None
            self._held[network] = self._next
            self._unsent.add(network)
            weakref.finalize(network, self._dropped.append, self._next)
            self._next += 1
        return self._held[network]


class _Helper:
    """Rank other than 0."""

    def __init__(self) -> None:
        self.networks: dict[int, nn.Module] = {}
        self.function = b""

    def serve(self) -> None:
        """Help until rank 0 is done. Signals of a scheduler are ignored: rank 0 ends the work after it has saved."""
        if threading.current_thread() is threading.main_thread():  # of Ray Train it is another
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
        while True:
            kind, *rest = _receive()
            if kind == "end":
                return
            if kind == "jobs":
                self.function = rest[0] or self.function
                jobs, rank = rest[1], dist.get_rank()
                with torch_threads(rest[2]):
                    reply = run_job(self.function, jobs[rank]) if rank < len(jobs) else b""
                dist.gather_object(reply, group=_PATIENT)
            elif kind == "pass":
                self.share(**rest[0])

    def share(
        self, *, key: int, network: bytes | None, training: list[bool], half: bool, sizes: list[int],
        dropped: list[int],
        named: bool, gpu: bool, like: list[dict[str, tuple[tuple[int, ...], torch.dtype]]],
    ) -> None:  # fmt: skip
        """Pass this rank's share of a batch forward and backward."""
        device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
        for old in dropped:
            self.networks.pop(old, None)
        if network is not None:
            self.networks[key] = pickle.loads(network).to(device)
        net, rank = self.networks[key], dist.get_rank()
        for module, mode in zip(net.modules(), training, strict=True):
            module.training = mode
        parameters, buffers = (_empty(some, device) for some in like[:2])
        _broadcast([*parameters.values(), *buffers.values()])
        some = {
            n: torch.empty(sizes[rank], *shape[1:], dtype=kind, device=device) for n, (shape, kind) in like[2].items()
        }
        for t in some.values():
            dist.recv(t, 0)
        x: Inputs = some if named else next(iter(some.values()))
        for p in parameters.values():
            p.requires_grad_(p.is_floating_point())

        def forward(part: Inputs) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
                outputs: Tensor = functional_call(net, {**parameters, **buffers}, (part,))
            first = next(iter(named_tensors(part).values()))
            return outputs.to(first.dtype) if isinstance(part, Tensor) else outputs.float() if half else outputs

        together = uses_batch_statistics(net)
        with sync_batch_norm(net, sizes[rank] / sum(sizes)):
            piece, wrong = None, None
            try:
                piece = ChunkedForward(forward, tuple(parameters.values()), x)
            except (RuntimeError, MemoryError, PotstillError) as error:
                if together:
                    raise
                wrong = _error_line(error)
            if any(said is not None for said in _replies(wrong)) or piece is None:
                return
            dist.send(piece.outputs, 0)
            _, kind = _receive()
            if kind is None:  # rank 0 could take no loss of them
                return
            slope = torch.empty(piece.outputs.shape, dtype=kind, device=device)
            dist.recv(slope, 0)
            grads: tuple[Tensor, ...] = ()
            try:
                grads = piece.backward(slope)
            except (RuntimeError, MemoryError) as error:
                if together:
                    raise
                wrong = _error_line(error)
            if any(said is not None for said in _replies(wrong)):
                return
        _summed(grads)


def _send(message: tuple[Any, ...]) -> None:
    dist.broadcast_object_list([message], 0, group=_PATIENT, device=torch.device("cpu"))


def _receive() -> tuple[Any, ...]:
    box: list[Any] = [None]
    dist.broadcast_object_list(box, 0, group=_PATIENT, device=torch.device("cpu"))
    message: tuple[Any, ...] = box[0]
    return message


def _replies(wrong: str | None) -> list[str | None]:
    """Return the error of every rank, or ``None`` for each."""
    errors: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(errors, wrong)
    return errors


def _error_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"memory does not hold it ({text}); take more ranks, or a smaller batch" if out_of_memory(error) else text


def _rank_lost(error: BaseException) -> PotstillError:
    text = re.sub(r"\[/[^]]*\]\s*", "", " ".join(str(error).split())).partition(". ")[0][:120]  # without gloo's files
    return PotstillError(
        f"all ranks must live until the work is done, but one is gone ({text}); begin again, with `resume=True` "
        "where there is a checkpoint"
    )


def _sizes(n: int, world: int) -> list[int]:
    """Return the samples of each rank, as equal as possible."""
    return [n // world + (rank < n % world) for rank in range(world)]


def _spans(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = 0
    for size in sizes:
        yield first, size
        first += size


def _rows(x: Inputs, first: int, size: int) -> Inputs:
    return x[first : first + size] if isinstance(x, Tensor) else {n: t[first : first + size] for n, t in x.items()}


def _like(some: Mapping[str, Tensor]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {n: (tuple(t.shape), t.dtype) for n, t in some.items()}


def _empty(like: Mapping[str, tuple[tuple[int, ...], torch.dtype]], device: torch.device) -> dict[str, Tensor]:
    return {n: torch.empty(shape, dtype=kind, device=device) for n, (shape, kind) in like.items()}


def _by_kind(some: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    for kind in dict.fromkeys(t.dtype for t in some):
        yield [t for t in some if t.dtype == kind]


def _broadcast(some: Sequence[Tensor]) -> None:
    """Copy rank 0's values into every rank's tensors, in one message per dtype."""
    for alike in _by_kind(some):
        flat = torch.cat([t.detach().reshape(-1) for t in alike])
        dist.broadcast(flat, 0)
        if dist.get_rank():
            for t, part in zip(alike, torch.split(flat, [t.numel() for t in alike]), strict=True):
                t.copy_(part.reshape(t.shape))


def _summed(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the sum of every rank's tensors at rank 0."""
    sums = list(tensors)
    for alike in _by_kind(tensors):
        flat = torch.cat([t.reshape(-1) for t in alike])
        dist.reduce(flat, 0)
        places = [i for i, t in enumerate(tensors) if t.dtype == alike[0].dtype]
        for i, part in zip(places, torch.split(flat, [t.numel() for t in alike]), strict=True):
            sums[i] = part.reshape(tensors[i].shape)
    return tuple(sums)
