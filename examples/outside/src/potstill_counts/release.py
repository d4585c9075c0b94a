"""Two uses of ``release``, the function that every sum over real samples passes: noise, and several clients as one."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator

from potstill.core import Method, Result, SampleSum, Source
from potstill.methods.engine import fit


@dataclass
class GaussianNoise:
    """Adds normal noise of standard deviation ``std`` to every sum, and counts the queries.

    A differentially private release also bounds each sample's part of a sum, and accounts for the queries.
    """

    std: float
    rng: Generator
    queries: int = 0

    def __call__(self, query: str, value: SampleSum) -> SampleSum:
        self.queries += 1
        noise = self.std * torch.randn(value.total.shape, generator=self.rng)
        return SampleSum(value.total + noise.to(value.total), value.count)


@dataclass
class ClientSums:
    """Adds up what each client asks for: all ask the same queries in the same order, since they draw from one seed."""

    clients: int
    pending: list[tuple[int, str, SampleSum]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.clients, timeout=60)

    def share(self, client: int, query: str, value: SampleSum) -> SampleSum:
        """Return the sum over all clients, added in the order of their numbers."""
        with self.lock:
            self.pending.append((client, query, value))
        self.barrier.wait()
        sums = [v for _, q, v in sorted(self.pending, key=lambda p: p[0]) if q == query]
        if len(sums) != self.clients:
            raise RuntimeError(f"all {self.clients} clients must ask {query!r} together, but {len(sums)} do")
        self.barrier.wait()
        with self.lock:
            self.pending = []
        self.barrier.wait()
        total = sums[0]
        for more in sums[1:]:
            total = total + more
        return total


def fit_together(method: Method[Any], sources: Sequence[Source], *, ipc: int = 1, seed: int = 0) -> list[Result]:
    """Run the method on every client's data at once; samples stay with their client, sums are shared.

    Args:
        method: a method that needs sums of real samples only, such as ``DM(init_from="noise")``.
        sources: each client's samples, with the same classes and normalization.
        ipc: items per class.
        seed: seed of every draw.

    Returns:
        The set that each client ends with; they are equal.
    """
    sums, results = ClientSums(len(sources)), dict[int, Result]()

    def run(client: int) -> None:
        def release(query: str, value: SampleSum) -> SampleSum:
            return sums.share(client, query, value)

        try:
            results[client] = fit(method, sources[client], ipc=ipc, seed=seed, release=release)
        finally:
            if client not in results:
                sums.barrier.abort()

    threads = [threading.Thread(target=run, args=(client,)) for client in range(len(sources))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[client] for client in range(len(sources))]
