"""Training dynamics: outputs of a network on every sample after every epoch, recorded once for all scores.

A record is decided by the data, the architecture, the recipe and its number, and by nothing else. It is a folder in
the cache: a file of numbers per epoch, which is mapped and not read; the network after some epochs; and the state of
the training, until it is finished. What is interrupted goes on from that state and ends with the same bits, and a
training that was wanted for its first epochs only goes on when all are wanted.

Of a sample an epoch takes 21 bytes; networks are kept after 1, 2, 5, 10, 20, 50, … epochs and after the last.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from potstill._util.cache import make_cache_folder
from potstill._util.cache_dir import cache_dir
from potstill.core import AssetContext, Network, NetworkWeights
from potstill.dataset_file import write_tensors
from potstill.dataset_file.memmap_safetensors import open_memmap
from potstill.errors import PotstillError
from potstill.functional import training_dynamics
from potstill.labels.teacher import Teacher
from potstill.pretraining.cache_keys import warn_other_machines
from potstill.pretraining.epoch_checkpoint import EpochCheckpoint, raise_os_errors, write_checkpoint
from potstill.pretraining.lazy_networks import InMemory, LazyNetworks, OnDisk, PerEpoch, read_network, write_network
from potstill.pretraining.networks import Placeholder, Training, describe_work, training_jobs
from potstill.rng import derive_seed, generator

Values: TypeAlias = Tensor | NDArray[Any]
"""Numbers of all samples: in memory, or memory-mapped."""

__all__ = ["FIELDS", "Record", "RecordTraining", "Recording", "Run", "check_snapshot_epoch", "snapshot_epochs"]

FIELDS = ("probability", "margin", "probability_margin", "el2n", "movement", "correct")
"""Fields after every epoch: the true class's probability, `dynamics.logit_margin`, `dynamics.probability_margin`,
`dynamics.el2n`, `dynamics.movement` since the epoch before (0 after the first), and 1 where the network is right."""
CLOSER = ("least_confidence", "entropy", "gap")
"""Label-free fields after the epochs whose network is kept."""
MAX_BYTES = 2**40
_CHUNK = 512
LOOK = 1 / 3
"""Cost of a pass over the samples without a gradient, relative to one with it."""
_VERSION = 4


def snapshot_epochs(epochs: int) -> tuple[int, ...]:
    """Return the epochs after which the network itself is kept: 1, 2, 5, 10, 20, 50, … and the last."""
    early = (m * 10**d for d in range(len(str(epochs))) for m in (1, 2, 5))
    return tuple(sorted({e for e in early if e < epochs} | {epochs}))


def check_snapshot_epoch(epoch: int, snapshots: tuple[int, ...]) -> None:
    """Refuse an ``epoch`` after which no network is kept.

    Raises:
        PotstillError: it is not.
    """
    if epoch not in snapshots:
        raise PotstillError(
            f"networks are stored after epochs {', '.join(map(str, snapshots))}, not after {epoch}; take one of these"
        )


def _read(values: Values) -> Float[Tensor, " n"]:
    return values.float() if isinstance(values, Tensor) else torch.from_numpy(np.array(values, np.float32))


@dataclass(frozen=True)
class Run:
    """Recorded values of one training by epoch, from epoch 1."""

    rows: tuple[Mapping[str, Values], ...]
    networks: Mapping[int, NetworkWeights]
    """Networks by number of epochs, read when asked for."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Record:
    """Recorded values of several trainings."""

    runs: tuple[Run, ...]

    @property
    def memory_bytes(self) -> int:
        """Return the largest number of bytes of networks that stay in memory."""
        return sum(run.networks.networks.memory_bytes for run in self.runs if isinstance(run.networks, PerEpoch))

    @property
    def epochs(self) -> int:
        """Return the epochs that every run has."""
        return min(len(run.rows) for run in self.runs)

    def series(self, field: str) -> Float[Tensor, "r e n"]:
        """Return a field of `FIELDS` for every run, epoch and sample."""
        return torch.stack([torch.stack([_read(row[field]) for row in run.rows[: self.epochs]]) for run in self.runs])

    def after(self, field: str, epoch: int) -> Float[Tensor, "r n"]:
        """Return a field after ``epoch`` epochs.

        Raises:
            PotstillError: the record has no such epoch, or not this field after it.
        """
        if not 1 <= epoch <= self.epochs:
            raise PotstillError(
                f"the record has epochs 1 to {self.epochs}, but epoch {epoch} is requested; record more or ask earlier"
            )
        rows = [run.rows[epoch - 1] for run in self.runs]
        if field not in rows[0]:
            kept = ", ".join(map(str, snapshot_epochs(self.epochs)))
            raise PotstillError(f"{field} is recorded after epochs {kept}, not after {epoch}; take one of these")
        return torch.stack([_read(row[field]) for row in rows])

    def network(self, run: int, epoch: int) -> NetworkWeights:
        """Return the network of a run after ``epoch`` epochs.

        Raises:
            PotstillError: it was not kept then.
        """
        found = self.runs[run].networks
        check_snapshot_epoch(epoch, tuple(sorted(found)))
        return found[epoch]


@dataclass(frozen=True, kw_only=True)
class RecordTraining(Training):
    """Training job of a network that records every sample after every epoch.

    ``part`` in the recipe is the part of each class that a run sees, another one for every run. ``until`` is the
    number of epochs wanted, where that is fewer than the schedule has; it does not decide any bit.
    """

    @property
    def until(self) -> int:
        return min(int(self.recipe.get("until", 0)) or self.epochs, self.epochs)

    @property
    def key_recipe(self) -> dict[str, float | int | str]:
        return {name: v for name, v in self.recipe.items() if name != "until"}

    @property
    def index(self) -> Int[Tensor, " m"]:
        candidates, part = super().index, float(self.recipe.get("part", 1))
        if part == 1:
            return candidates
        some = torch.randperm(len(candidates), generator=generator(self.seed, "part"))
        y = self.train.labels[candidates][some]
        pools = [candidates[some[y == c]] for c in range(len(self.train.classes))]
        return torch.cat([pool[: max(1, round(part * len(pool)))] for pool in pools]).sort().values

    @property
    def seed(self) -> int:
        return derive_seed(0, "asset", "record", self.number)

    def folder(self) -> Path:
        """Return the cache folder, named by everything that decides the bits."""
        return cache_dir() / "records" / self.cache_name(recipe=self.key_recipe, version=_VERSION)

    @property
    def progress(self) -> Path:
        return self.folder() / "state.safetensors"

    def recorded_from(self, state: EpochCheckpoint) -> Iterator[tuple[EpochCheckpoint, Mapping[str, Tensor]]]:
        """Yield the state and the recorded values after each epoch from ``state`` on."""
        net, log_p = self.make(self.seed).eval(), state.log_p
        for trained in self.train_from(state):
            started = time.monotonic()
            rows, log_p = self._evaluate_samples(net, trained.teacher, log_p, trained.epoch in self.network_epochs)
            seconds = trained.seconds + time.monotonic() - started
            yield dataclasses.replace(trained, log_p=log_p, seconds=seconds), rows

    @property
    def network_epochs(self) -> tuple[int, ...]:
        """Return the epochs after which the network is kept."""
        return snapshot_epochs(self.epochs)

    def _evaluate_samples(
        self, net: Network, teacher: Teacher, before: Tensor | None, closer: bool
    ) -> tuple[dict[str, Tensor], Float[Tensor, "n k"]]:
        weights = {**teacher.params, **teacher.buffers}
        values_by_name: dict[str, list[Tensor]] = {}
        log_probabilities: list[Tensor] = []
        with torch.no_grad():
            for at in torch.split(torch.arange(len(self.train)), _CHUNK):
                batch = self.train.fetch(at)
                assert batch.y is not None  # `train_epoch` has refused a source without labels
                z = functional_call(net, weights, (batch.x,))
                log_p = F.log_softmax(z, 1)
                moved = (
                    torch.zeros(len(at)) if before is None else training_dynamics.movement(log_p, before[at].to(log_p))
                )
                p = log_p.exp()
                said = {
                    "probability": p.gather(1, batch.y[:, None])[:, 0],
                    "margin": training_dynamics.logit_margin(z, batch.y),
                    "probability_margin": training_dynamics.probability_margin(p, batch.y),
                    "el2n": training_dynamics.el2n(p, batch.y), "movement": moved,
                    "correct": (z.argmax(1) == batch.y).to(torch.uint8),
                }  # fmt: skip
                if closer:
                    said |= {
                        "least_confidence": training_dynamics.least_confidence(p),
                        "entropy": training_dynamics.entropy(p), "gap": training_dynamics.top_two_gap(p),
                    }  # fmt: skip
                for name, values in said.items():
                    values_by_name.setdefault(name, []).append(values.cpu())
                log_probabilities.append(log_p.cpu())
        return {name: torch.cat(parts) for name, parts in values_by_name.items()}, torch.cat(log_probabilities)

    def is_cached(self) -> bool:
        """Return True if all that is wanted is cached and intact."""
        return self.load() is not None

    def build(self) -> tuple[Run, str] | None:
        """Continue from what is cached until all that is wanted is there; if it cannot be cached, return the run and
        the reason.

        Raises:
            PotstillError: it did not stay finite.
        """
        try:
            self._write()
        except OSError as error:
            return self.compute(), f"{self.folder()}: cannot be written ({error.strerror})"
        return None if self.is_cached() else (self.compute(), f"{self.folder()}: what was just written cannot be read")

    def compute(self) -> Run:
        """Train in memory."""
        made = list(self.recorded_from(self.first()))
        networks = {s.epoch: InMemory(self.trained(s)) for s, _ in made if s.epoch in self.network_epochs}
        return Run(tuple(rows for _, rows in made), _by_epoch(networks), made[-1][0].seconds)

    def remaining(self) -> float:
        """Return the samples that training will still pass, those that are only evaluated at their relative cost."""
        return super().remaining() * (1 + LOOK * len(self.train) / len(self.index))

    def placeholder(self) -> Run:
        """Return an untrained network and zeros that take no memory."""
        zero = torch.zeros(1).expand(len(self.train))
        rows = tuple(dict.fromkeys(FIELDS + CLOSER, zero) for _ in range(self.until))
        return Run(rows, _by_epoch({epoch: Placeholder(self, epoch) for epoch in self.network_epochs}))

    def _write(self) -> None:
        if self.is_cached():
            return
        begin = self.saved()
        if begin.epoch >= self.until:  # it was there once, and is damaged now
            begin = self.first()
        make_cache_folder(self.folder())
        written = time.monotonic()
        for state, rows in self.recorded_from(begin):
            with raise_os_errors():
                write_tensors(self._rows_path(state.epoch), rows, {"n": str(len(self.train))})
                if state.epoch in self.network_epochs:
                    write_network(self._network_path(state.epoch), self.trained(state), state.seconds)
            if state.epoch == self.until or time.monotonic() - written >= self.save_every:
                write_checkpoint(self.progress, state)
                written = time.monotonic()
        if self.until == self.epochs:
            self.progress.unlink(missing_ok=True)  # nothing goes on from there

    def load(self) -> Run | None:
        """Return the cached run if it is complete and intact; networks are read when asked for."""
        n, rows, networks, seconds = len(self.train), list[Mapping[str, Values]](), dict[int, OnDisk](), 0.0
        is_finished = self._network_path(self.epochs).exists()
        if (self.saved().epoch or self.epochs * is_finished) < self.until:
            warn_other_machines(self.folder(), "records of trainings")
            return None  # rows beyond the state were not confirmed
        try:
            for epoch in range(1, self.until + 1):
                found, _ = open_memmap(self._rows_path(epoch), MAX_BYTES, check=True)
                fields = FIELDS + CLOSER * (epoch in self.network_epochs)
                if not all(f in found and found[f].shape == (n,) for f in fields):
                    return None
                rows.append(found)
                if epoch in self.network_epochs:
                    seconds = read_network(self._network_path(epoch), self.make.device)[1]
                    networks[epoch] = OnDisk(self._network_path(epoch), self.make.device)
        except PotstillError:
            return None  # not there or not readable: it is made again
        return Run(tuple(rows), _by_epoch(networks), seconds)

    def _rows_path(self, epoch: int) -> Path:
        return self.folder() / f"rows-{epoch:05}.safetensors"

    def _network_path(self, epoch: int) -> Path:
        return self.folder() / f"network-{epoch:05}.safetensors"


def _by_epoch(networks: Mapping[int, Callable[[], NetworkWeights]]) -> PerEpoch:
    return PerEpoch(tuple(networks), LazyNetworks(tuple(networks.values())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Asset of recorded trainings (an `potstill.core.Asset`): a `Record`."""

    name: str
    count: int
    recipe: Mapping[str, float | int | str]
    """Settings of the trainings, as for `RecordTraining` and `TrainedNetworks`."""

    def jobs(self, ground: AssetContext) -> tuple[RecordTraining, ...]:
        """Return a training for each run. Errors as of `potstill.pretraining.networks.training_jobs`."""
        return training_jobs(RecordTraining, ground, self.count, self.recipe)

    def open(self, parts: Sequence[Run]) -> Record:
        """Return all runs as one lazily read record."""
        return Record(tuple(parts))

    def placeholder(self, jobs: Sequence[RecordTraining]) -> Record:
        """Return a record of untrained networks and zeros that take no memory."""
        return Record(tuple(job.placeholder() for job in jobs))

    def adopt(self, value: Any, ground: AssetContext) -> Record:
        """A record that somebody brings.

        Raises:
            PotstillError: it is none, or of other samples.
        """
        n = len(ground.train)
        if not isinstance(value, Record) or any(len(row[FIELDS[0]]) != n for run in value.runs for row in run.rows):
            raise PotstillError(
                f"a potstill.pretraining.Record of the {n:,} training samples is required, but another is given"
            )
        return value

    def describe_work(self, missing: Sequence[RecordTraining]) -> str:
        """Describe the missing trainings."""
        return describe_work(len(missing), missing[0].until)

    def provenance(self, value: Record, ground: AssetContext) -> Mapping[str, Mapping[str, Any]]:
        """Nothing: the method's settings say all of it."""
        return {}
