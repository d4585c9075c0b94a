"""Phases of a run on described machines: how long, on how many devices, and which part bounds them. Arithmetic only."""

import math
from dataclasses import dataclass

from potstill.errors import PotstillError
from potstill.execution.cluster_spec import Cluster

__all__ = ["MIN_STEP_SECONDS", "ParallelWork", "Phase", "training_phase"]

MIN_STEP_SECONDS = 0.005
"""Seconds of a step on a device, however little it has to do: an assumption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of a run that begins when the one before has ended. Seconds of wall clock, were each alone."""

    name: str
    devices: int
    """At work."""
    operations: float
    compute: float
    exchange: float
    """Seconds of gradient exchange; added to the computing."""
    read: float
    decode: float
    memory: int
    """Bytes of a device."""
    fits: bool
    parts: int = 1
    """Parts that a batch must be passed in to fit."""

    @property
    def seconds(self) -> float:
        """Work and exchange, or reading, whichever takes longer."""
        return max(self.compute + self.exchange, self.read, self.decode)

    @property
    def bound(self) -> str:
        """Name of the longest part."""
        spent = {"compute": self.compute, "exchange": self.exchange, "disk": self.read, "decoding": self.decode}
        return max(spent, key=lambda name: spent[name])


def training_phase(
    name: str, cluster: Cluster, *, networks: int, samples: float, work: float, batch: int, weights: int, kept: float,
    each: float, decode: float | None,
) -> Phase:  # fmt: skip
    """The training of equal networks: each alone on a device, or all devices on one after another, if that is shorter.

    Args:
        samples: that each network passes in all, in batches of ``batch``.
        work: operations of a sample; ``each``: bytes that it is read from; ``decode``: seconds of a core.
        weights: bytes of a network; ``kept``: bytes that a sample keeps for its gradients.
    """
    phases: list[Phase] = []
    node = min(cluster.gpus, batch)
    for g in sorted({1, node, min(cluster.devices, batch)}):
        groups = max(1, min(networks, cluster.devices // g))
        rounds = math.ceil(networks / groups)
        link = cluster.link if g <= cluster.gpus else (cluster.bandwidth or cluster.link)
        updates = samples / batch
        exchanged = 0.0 if g == 1 else updates * 2 * (g - 1) / g * weights / link
        nodes = max(1, math.ceil(groups * g / cluster.gpus))
        per_device = math.ceil(batch / g)
        memory, parts, fits = _fitted(cluster, 3 * weights, kept, per_device)
        phase = Phase(
            name=name, devices=groups * g, operations=networks * samples * work,
            compute=rounds * updates * max(MIN_STEP_SECONDS, per_device * work / cluster.rate),
            exchange=rounds * exchanged,
            read=networks * samples * each / (nodes * cluster.disk),
            decode=networks * samples * (decode or 0.0) / (groups * g * cluster.cores),
            memory=memory, fits=fits, parts=parts,
        )  # fmt: skip
        phases.append(phase)
    return min(phases, key=lambda phase: (not phase.fits, phase.seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelWork:
    """Jobs that do not wait for one another, on as many devices as there are jobs, at most."""

    name: str
    operations: float
    """Operations of all jobs."""
    jobs: int
    steps: float
    """Steps of all jobs."""
    batch: int
    """Samples that pass a network together."""
    forward: bool
    """Without gradients."""
    weights: int
    """Bytes of the networks on a device."""
    kept: float
    """Bytes that a sample keeps for its gradients."""
    samples: float = 0.0
    """Real samples that all jobs read."""
    sample_bytes: float = 0.0
    decode: float | None = None
    """Seconds of a core to decode a sample."""
    state_bytes: int = 0
    """Bytes of the set's state, which the devices share."""

    def on(self, cluster: Cluster) -> Phase:
        """Return the phase on these machines."""
        g = min(cluster.devices, self.jobs)
        rounds = math.ceil(self.jobs / g) * g / self.jobs  # the last round may leave devices idle
        always, kept = self.weights + math.ceil(self.state_bytes / g), self.kept / (8 if self.forward else 1)
        memory, parts, fits = _fitted(cluster, always, kept, self.batch)
        nodes = math.ceil(g / cluster.gpus)
        return Phase(
            name=self.name, devices=g, operations=self.operations, exchange=0.0, memory=memory, fits=fits, parts=parts,
            compute=max(self.operations / cluster.rate, self.steps * MIN_STEP_SECONDS) / g * rounds,
            read=self.samples * self.sample_bytes / (nodes * cluster.disk),
            decode=self.samples * (self.decode or 0.0) / (g * cluster.cores),
        )  # fmt: skip


def _fitted(cluster: Cluster, always: int, saved: float, batch: int) -> tuple[int, int, bool]:
    """Return bytes, the parts that the batch is halved into until it fits, and whether it does then."""
    if batch < 1:
        raise PotstillError(f"a batch has at least one sample, not {batch}")
    parts = 1
    while always + saved * math.ceil(batch / parts) > cluster.memory and parts < batch:
        parts *= 2
    memory = math.ceil(always + saved * math.ceil(batch / parts))
    return memory, parts, memory <= cluster.memory
