"""Forecast a distillation on described machines, from a little of the work timed on this one.

A little of each phase runs here. Its seconds times this machine's rate (a training step of the same network, whose
operations are counted) are its operations, overheads included; they are spread over the described devices.
"""

import dataclasses
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from potstill.codecs import Uniform, estimate_bytes, label_bytes
from potstill.core import Method, NetworkFactory, Source, Splits
from potstill.core.registry import names, resolve
from potstill.data.synthetic_shape import LikeSource
from potstill.errors import PotstillError
from potstill.evaluation.forecast import measure_step_seconds
from potstill.evaluation.protocol import Protocol
from potstill.execution.cluster_spec import Cluster
from potstill.functional.train import copy_parameters, train_step
from potstill.labels.label_file import label_file_bytes as stored_labels
from potstill.nn import flops
from potstill.planning.phases import MIN_STEP_SECONDS, ParallelWork, Phase, training_phase
from potstill.planning.plan import with_placeholders
from potstill.pretraining import required_assets
from potstill.pretraining.build import asset_context
from potstill.rng import generator
from potstill.runs.resolve import ResolvedRun, resolve_run
from potstill.runs.spec import RunLimits, RunSpec
from potstill.tasks import get_task

__all__ = ["ClusterPlan", "plan_cluster"]

FEW = 4
"""Classes, and samples of each, that a little of the work is timed on where the data are not here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """Forecast of a distillation with its labels and its measurement."""

    method: str
    network: str
    protocol: str
    source: str
    samples: int
    shape: tuple[int, ...]
    classes: int
    items: int
    cluster: Cluster
    phases: tuple[Phase, ...]
    disk: dict[str, int]
    """Bytes of data, teachers, the set, its checkpoint, labels, by these names; and total."""
    rate: float
    """Operations a second of this machine in a training step of the network; the mean of its cores."""
    timed_on: int
    """Samples that a little of each phase was timed on."""
    measured: tuple[str, ...]
    assumed: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """One phase after another."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def gpu_hours(self) -> float:
        """Device-hours of all devices over the whole time, which are paid for though few may be at work."""
        return self.seconds * self.cluster.devices / 3600

    @property
    def busy_hours(self) -> float:
        """Device-hours of the devices at work."""
        return sum(phase.seconds * phase.devices for phase in self.phases) / 3600

    @property
    def memory(self) -> int:
        """Bytes of a device, in the phase that needs most."""
        return max((phase.memory for phase in self.phases), default=0)

    @property
    def price(self) -> float | None:
        """Price of ``gpu_hours``, where the price of an hour is given."""
        return None if self.cluster.price is None else self.gpu_hours * self.cluster.price

    def to_dict(self) -> dict[str, Any]:
        """JSON values single_tensor."""
        value: dict[str, Any] = dataclasses.asdict(self)
        for phase, phase_value in zip(self.phases, value["phases"], strict=True):
            phase_value |= {"seconds": phase.seconds, "bound": phase.bound}
        names = ("seconds", "gpu_hours", "busy_hours", "memory", "price")
        return value | {name: getattr(self, name) for name in names}


def plan_cluster(
    data: Splits | LikeSource, method: str | Method[Any], cluster: Cluster, *, protocol: str | None = None,
    steps: int | None = None, **options: Any,
) -> ClusterPlan:  # fmt: skip
    """Forecast time, memory, disk and device-hours on ``cluster`` of distilling, labelling and measuring.

    Args:
        data: read already, or described (`potstill.data.synthetic_shape`): then a few generated samples of the same
            size are used.
        protocol: whose labels and students are counted; default: the method's own, where there is one, else sre2l.
        steps: stop after this many steps.
        **options: fields of `potstill.runs.spec.RunSpec` (``ipc``, ``network``, ``codec`` …) and of the method.

    Raises:
        PotstillError: what ``potstill.distill`` would refuse; a method that does not say its steps; auto.
    """
    if method == "auto":
        raise PotstillError("a plan is of one method, but auto tries several; name the method to plan")
    splits = Splits(train=data, test=None) if isinstance(data, LikeSource) else data
    spec = RunSpec.from_options(splits, method, {**options, "device": "cpu"})
    whole = resolve_run(spec, RunLimits(steps=steps))
    train, made = whole.problem.train, whole.method
    small = whole
    if isinstance(train, LikeSource):
        few = Splits(train=train.shrink(FEW, FEW), test=None)
        one_of_each: dict[str, Any] = {"ipc": 1, "items": None, "bytes": None, "balance": None}
        small = resolve_run(dataclasses.replace(spec, data=few, method=made, preset=None, options={}, **one_of_each))
    horizon = made.num_steps(whole.problem)
    total = min((n for n in (horizon, steps) if n is not None), default=None)
    if total is None:
        raise PotstillError(f"{whole.name} does not say how many steps it makes; give `steps=N`")
    said = _protocol(protocol, whole)
    here = _Machine(full=whole, small=small, cluster=cluster)
    n = sum(whole.problem.sizes)
    decoded = n * 4 * whole.problem.train.input.num_values
    phases = [*here.teachers(), *here.steps(whole.seed, total, decoded)]
    label, students = here.measuring(said, n)
    disk = {
        "data": len(train) * getattr(train, "each", train.input.num_values), "teachers": here.weights(),
        "set": _set_bytes(whole, n), "checkpoint": 3 * decoded, "labels": _labels(said, train, n, here),
    }  # fmt: skip
    return ClusterPlan(
        method=whole.name, network=whole.problem.network.name, protocol=said.name, source=train.name,
        samples=len(train), shape=train.input.shape, classes=len(train.classes), items=n, cluster=cluster,
        phases=tuple(p for p in (*phases, label, students) if p is not None),
        disk=disk | {"total": sum(disk.values())}, rate=here.rate, timed_on=len(small.problem.train),
        measured=here.measured(), assumed=here.assumed(), notes=whole.notes,
    )  # fmt: skip


def _protocol(requested: str | None, settled: ResolvedRun) -> Protocol:
    known = set(names("protocols"))
    name = requested or (settled.name if settled.name in known else "sre2l")
    resolved: Protocol = resolve("protocols", name)
    train = settled.problem.train
    return resolved.resolve(train.name, settled.problem.network.name, train.input)


def _set_bytes(settled: ResolvedRun, n: int) -> int:
    """Return the bytes of the file at 8 bits a value, or as the codec says."""
    store, problem = settled.codec or Uniform(bits=8), settled.problem
    few = problem.train.raw(torch.arange(min(8, len(problem.train))))
    held = sum(problem.values_per_class) // max(1, problem.train.input.num_values)
    inputs = estimate_bytes(store, (held, *problem.train.input.shape), few if isinstance(few, Tensor) else None)
    soft = settled.method.info.soft_labels or getattr(settled.method, "labels", "hard") != "hard"
    return inputs + label_bytes(n, problem.num_classes, store.label_bits if soft else None)


def _labels(protocol: Protocol, train: Source, n: int, machine: "_Machine") -> int:
    if protocol.teaching.labels != "teacher":
        return 0
    return stored_labels(
        n, max(2, len(train.classes)), machine.epochs(protocol, n), level=protocol.teaching.loss == "mse"
    )


class _Machine:
    """Timings and counts of this machine, and the phases that follow from them."""

    def __init__(self, *, full: ResolvedRun, small: ResolvedRun, cluster: Cluster) -> None:
        self.whole, self.small, self.cluster = full, small, cluster
        make, train = small.problem.network, small.problem.train
        self.batch = min(8, len(train))
        self.forward = flops(make(0), train.input)
        self.step = measure_step_seconds(make, train, self.batch)
        self.rate = 3 * self.forward * self.batch / self.step
        self.kept = _saved(make, train, self.batch) / self.batch
        self.decode = _decoding(full.problem.train)
        self.jobs: list[tuple[str, list[Any], int]] = []
        for asset in required_assets(full.method, full.problem):
            jobs = list(asset.jobs(asset_context(full.problem)))
            self.jobs.append((asset.name, jobs, int(asset.recipe.get("batch", 128))))

    def weights(self) -> int:
        """Bytes of all networks that are trained first."""
        return sum(len(jobs) * _weight(self._of(jobs[0])) for _, jobs, _ in self.jobs)

    def _of(self, job: Any) -> NetworkFactory:
        make: NetworkFactory = getattr(job, "make", self.whole.problem.network)
        return make

    def teachers(self) -> list[Phase]:
        """The training of each asset, shared by as many devices as make it shortest."""
        phases: list[Phase] = []
        trials = [
            list(a.jobs(asset_context(self.small.problem)))
            for a in required_assets(self.small.method, self.small.problem)
        ]
        for (name, jobs, batch), trial in zip(self.jobs, trials, strict=True):
            missing = [job for job in jobs if not job.is_cached()]
            units = sum(job.remaining() for job in missing)
            if not units:
                continue
            run, few = trial[0].estimate()
            work = _min_seconds(run) / few * self.rate
            make = self._of(missing[0])
            phase = training_phase(
                f"training of {name}", self.cluster, networks=len(missing), samples=units / len(missing), work=work,
                batch=batch, weights=_weight(make), kept=self.kept * _ratio(make, self), each=self._each(),
                decode=self.decode,
            )  # fmt: skip
            phases.append(phase)
        return phases

    def _each(self) -> float:
        train = self.whole.problem.train
        return float(getattr(train, "each", train.input.num_values))

    def steps(self, seed: int, total: int, decoded: int) -> list[Phase]:
        """Return the phases of reading before the first step, and of the steps."""
        method, train = self.small.method, self.small.problem.train
        full = self.whole.problem
        if hasattr(method, "samples") and isinstance(train, LikeSource):  # fewer than there are, to see what is read
            method = dataclasses.replace(method, samples=max(1, FEW // 2))  # type: ignore[type-var]
        problem, _ = with_placeholders(dataclasses.replace(self.small, method=method))
        asked = train.fetched if isinstance(train, LikeSource) else set()
        asked.clear()
        rng, begun = generator(seed, "distill", self.whole.name), time.perf_counter()
        state = method.init(problem, rng)
        first, read = time.perf_counter() - begun, len(asked)
        phases: list[Phase] = []
        each = min(int(getattr(self.whole.method, "samples", 0)) or len(train), len(full.train) // full.num_classes)
        if read:
            # all of them, so many of each class, or as many as the set has items
            some = full.num_classes * each if read > sum(problem.sizes) else sum(full.sizes)
            reads = len(full.train) if read == len(train) else some
        shards = self._shards(total)
        part = partial(
            ParallelWork, kept=self.kept, weights=self._all_weights(), decode=self.decode, sample_bytes=self._each()
        )
        if read:
            reading = part(
                name="reading of the real data", operations=first * (reads / read) * self.rate, jobs=full.num_classes,
                samples=reads, batch=256, forward=True, state_bytes=decoded, steps=reads / 256,
            )  # fmt: skip
            phases.append(reading.on(self.cluster))
        inner = method.step_costs(problem, state) or ()
        outer = self.whole.method.step_costs(full, state) or ()
        here, there = (sum(p.samples / p.every for p in parts) for parts in (inner, outer))
        seconds = _min_seconds(lambda: method.step(problem, state, rng), most=5)
        real = sum(p.samples / p.every for p in outer if p.real)
        size = max((p.size for p in outer if p.samples), default=1)
        work = seconds * self.rate * total * (there / here if here else 1.0)
        moving = part(
            name="steps of the method", operations=work, jobs=shards, samples=real * total, batch=size, forward=False,
            state_bytes=decoded * 3, steps=total,
        )  # fmt: skip
        return [*phases, moving.on(self.cluster)]

    def _shards(self, total: int) -> int:
        """Parts of the steps that do not wait for one another: batches of a recovery, classes of RDED."""
        if self.whole.method.info.family != "decoupled":
            return 1
        each = getattr(self.whole.method, "iterations", None)
        return max(1, total // int(each)) if each else total

    def _all_weights(self) -> int:
        return self.weights() or _weight(self.whole.problem.network)

    def epochs(self, protocol: Protocol, n: int) -> int:
        """Return the epochs of a student."""
        sized = protocol.for_set_size(n, max(1, self.whole.problem.num_classes)).recipe
        return sized.epochs or max(1, max(sized.steps, default=1) * sized.batch // n)

    def measuring(self, protocol: Protocol, n: int) -> tuple[Phase | None, Phase]:
        """The labels that a teacher stores, and the students that learn from them."""
        full, cluster = self.whole.problem, self.cluster
        views = n * self.epochs(protocol, n)
        teachers = [self.forward * _ratio(self._of(jobs[0]), self) * len(jobs) for _, jobs, _ in self.jobs]
        label = None
        if protocol.teaching.labels == "teacher":
            labelling = ParallelWork(
                name="labels of every epoch", operations=views * (sum(teachers) or self.forward),
                jobs=max(1, views // 256), steps=views / 256, batch=256, forward=True, weights=self._all_weights(),
                kept=self.kept,
            )  # fmt: skip
            label = labelling.on(cluster)
        make = self.whole.problem.network
        batch = protocol.for_set_size(n, full.num_classes).recipe.batch
        name = f"{protocol.students} students of {protocol.name}"
        students = training_phase(
            name, cluster, networks=protocol.students, samples=float(views), work=self.step / self.batch * self.rate,
            batch=batch, weights=_weight(make), kept=self.kept, each=0.0, decode=None,
        )  # fmt: skip
        return label, students

    def measured(self) -> tuple[str, ...]:
        cores = torch.get_num_threads()
        said = (
            f"a training step of {self.whole.problem.network.name} here, {self.rate / 1e9:.3g} billion operations a "
            f"second on {cores} threads ({self.batch} samples, {self.forward / 1e9:.3g} billion each way forward)",
            f"a little of each phase here, on {len(self.small.problem.train):,} samples, and what a sample keeps in "
            f"memory for its gradients ({self.kept / 1e6:.3g} MB)",
        )
        if self.decode is None:
            return said
        return (*said, f"decoding of a JPEG of that size here: {1 / self.decode:,.0f} a second on a core")

    def assumed(self) -> tuple[str, ...]:
        c = self.cluster
        free = [f for f in ("efficiency", "link", "disk", "cores") if f not in c.specified]
        values = {
            "efficiency": f"{c.efficiency:.0%} of a device's best rate is reached",
            "link": f"{c.link / 1e9:g} GB a second between devices of a node",
            "disk": f"a node reads {c.disk / 1e9:g} GB a second",
            "cores": f"{c.cores} CPU cores a device decode pictures",
        }
        return (
            f"work grows with the samples, overheads with it; a step takes {1000 * MIN_STEP_SECONDS:g} ms at least",
            "gradients are exchanged after each batch, not during it; reading and decoding run beside the work",
            "batches of a recovery, classes of RDED, labels and students are spread over the devices as shards",
            "a device's memory holds weights, gradients, moments, kept values in 32 bits, the set; no kernels' space",
            *(values[f] for f in free),
        )


def _weight(make: NetworkFactory) -> int:
    return sum(t.numel() * t.element_size() for t in make(0).state_dict().values())


def _ratio(make: NetworkFactory, machine: _Machine) -> float:
    """Return the ratio of a network's operations to those of the method's own."""
    spec = machine.whole.problem.train.input
    if make.name == machine.whole.problem.network.name or not machine.forward:
        return 1.0
    return flops(make(0), spec) / machine.forward


def _min_seconds(run: Callable[[], object], most: int = 3) -> float:
    """The least seconds of two to ``most`` runs after one that warms up: other work can only make one longer."""
    seconds: list[float] = []
    run()
    while len(seconds) < 2 or (len(seconds) < most and sum(seconds) < 1):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def _saved(make: NetworkFactory, train: Source, batch: int) -> int:
    """Bytes that a training pass keeps for its gradients, weights not counted."""
    net = make(0).train()
    theta, fetched = copy_parameters(net), train.fetch(torch.arange(batch))
    own = {t.untyped_storage().data_ptr() for t in net.state_dict().values()}
    own |= {t.untyped_storage().data_ptr() for t in theta.values()}
    retained: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if (at := t.untyped_storage().data_ptr()) not in own:
            retained[at] = t.untyped_storage().nbytes()
        return t

    assert fetched.y is not None
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        buffers = {n: b.detach().clone() for n, b in net.named_buffers()}
        train_step(net, theta, None, fetched.x, fetched.y, lr=0.0, buffers=buffers, criterion=get_task(train).loss)
    return sum(retained.values())


def _decoding(train: Source) -> float | None:
    """Seconds of a core to decode a picture of that size, where pictures are read as they are needed."""
    if not isinstance(train, LikeSource) or train.shape[0] not in (1, 3) or train.each >= train.input.num_values:
        return None
    c, h, w = train.shape
    smooth = nn.functional.interpolate(torch.rand(1, c, 8, 8, generator=generator(0, "decode")), size=(h, w))[0]
    pixels = smooth.mul(255).to(torch.uint8).permute(1, 2, 0).squeeze(2).numpy()
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "JPEG", quality=90)
    return _min_seconds(lambda: [Image.open(io.BytesIO(held.getvalue())).convert("RGB").load() for _ in range(20)]) / 20
