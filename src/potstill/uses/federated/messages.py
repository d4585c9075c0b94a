"""Messages of clients that send one set: real samples, averages, or distilled inputs, in true bytes.

Each client works on its own samples alone. The normalization is that of all samples, which clients can give as sums.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from potstill.api.distill import run
from potstill.codecs import format_codec, parse_codec
from potstill.core import NetworkWeights, Splits
from potstill.core.nested import single_tensor
from potstill.core.registry import get_method_class
from potstill.data import TensorSource
from potstill.dataset_file import Contents, Distilled, Encoding, Provenance, Schema, build
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import (
    baseline_byte_budget,
    baseline_order,
    max_items_per_class,
    pack_samples,
)
from potstill.functional.coreset import average_clusters
from potstill.rng import class_generators, derive_seed, generator
from potstill.runs.resolve import resolve_run
from potstill.runs.spec import RunIO, RunLimits, RunSpec
from potstill.uses.continual.stream import step_source
from potstill.uses.federated.partition import Partition

__all__ = [
    "Averages", "Client", "DistilledSets", "Message", "RealSets", "Sends", "SetWay", "as_message", "make_clients",
]  # fmt: skip

Sends = Literal["real samples", "averages", "distilled inputs", "models", "sets and models"]
_PLANS, _MOST, _FILLED, _ENOUGH = 5, 4.0, 0.75, 0.8
"""Plans of a set that starts from averages: how many are tried, by how much one may exceed the last, the part of the
bytes that averages should have, as what is matched codes a little worse, and of the inputs; noise starts the rest."""
_MANY_BYTES = 10**9


@dataclass(frozen=True, kw_only=True)
class Client:
    """One client: its samples, its part of the bytes, and its seed."""

    source: TensorSource
    """Its samples; classes are numbers of the whole data."""
    byte_budget: int
    """Bytes that its message may have."""
    seed: int

    @property
    def classes(self) -> list[int]:
        """Classes that it has samples of, as numbers of the whole data."""
        return [int(c) for c in torch.unique(self.source.labels)]

    def of_classes(self, classes: Sequence[int]) -> TensorSource:
        """Return its samples of some classes, with these classes alone."""
        at = torch.isin(self.source.labels, torch.tensor(classes)).nonzero().flatten()
        return step_source(self.source, at, classes)


def make_clients(train: TensorSource, partition: Partition, byte_budget: int, seed: int) -> list[Client]:
    """Return the clients of a partition, each with a part of the bytes by its number of samples.

    Args:
        train: the data that the partition divides.
        partition: samples of each client.
        byte_budget: bytes of all messages together.
        seed: decides the seed of each client.
    """
    total = sum(map(len, partition.clients))
    return [
        Client(
            source=train.subset(at), byte_budget=byte_budget * len(at) // total, seed=derive_seed(seed, "client", n)
        )
        for n, at in enumerate(partition.clients)
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Message:
    """The set that a client sends, as the server decodes it."""

    x: Float[Tensor, "n ..."]
    """Inputs in model space."""
    y: Tensor
    """Classes as numbers of the whole data (n,), or rows over them."""
    bytes: int
    """Bytes of the coded streams of inputs and labels."""
    codec: str
    least_members: int | None
    """Fewest samples that stand behind an input: 1 for real samples; ``None``: no such count."""
    coded: Distilled | None = None
    """The set as it travels (`potstill.uses.federated.encode_message`); ``None``: a way of your own has none."""


@runtime_checkable
class SetWay(Protocol):
    """A way in which each client sends one set."""

    @property
    def name(self) -> str: ...
    @property
    def sends(self) -> Sends: ...

    def message(self, client: Client, /) -> Message | None:
        """Return the client's message; ``None`` where its bytes or samples are too few for any."""
        ...


@dataclass(frozen=True, kw_only=True)
class RealSets:
    """Random real samples in few bits. They tell the server what was to stay with the clients."""

    name: str = "real"
    codec: str = "uint2"
    selection: str = "random"

    sends: Sends = "real samples"

    def message(self, client: Client, /) -> Message | None:
        order = baseline_order(client.source, "random", client.seed, "message")
        mixed = torch.cat(list(order))
        mixed = mixed[torch.randperm(len(mixed), generator=generator(client.seed, "message"))]
        return _fit(client, mixed, self)


@dataclass(frozen=True, kw_only=True)
class Averages:
    """Means of k-means clusters of each class's samples, none of fewer than `least` samples."""

    name: str = "averages"
    codec: str = "uint4"
    least: int = 10
    """Fewest samples of a cluster; a class with fewer is not sent."""

    sends: Sends = "averages"

    def message(self, client: Client, /) -> Message | None:
        return _largest(client, self)

    def of_counts(self, client: Client, counts: Mapping[int, int]) -> tuple[TensorSource, int]:
        """Return averages as a source, and the fewest samples of one.

        Args:
            counts: clusters of each class at most, by its number in the whole data. One class at least has `least`
                samples.
        """
        source = client.source
        flat = single_tensor(source.fetch(torch.arange(len(source))).x, "an average").flatten(1)
        generators = class_generators(generator(client.seed, "averages"), source.classes)
        means, labels, least = [], [], len(source)
        for c, wanted in counts.items():
            own = (source.labels == c).nonzero().flatten()
            if wanted < 1 or len(own) < self.least:
                continue
            centres, sizes = average_clusters(flat[own], wanted, self.least, generators[c])
            means.append(centres)
            labels.append(torch.full((len(centres),), c))
            least = min(least, int(sizes.min()))
        x = torch.cat(means).reshape(-1, *source.input.shape)
        return _as_source(source, x, torch.cat(labels)), least


@dataclass(frozen=True, kw_only=True)
class DistilledSets:
    """A distilled set of each client's samples, from noise or from averages, never from real samples."""

    name: str
    method: str
    start: Averages | None = None
    """Averages that the optimisation starts from; ``None``: noise."""
    codec: str | None = None
    parametrization: str | None = None
    network: str | None = None
    steps: int | None = None
    """Most steps; ``None``: those of the method."""
    least: int = 10
    """Fewest samples of a class that is distilled; one with fewer is not sent."""
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    sends: Sends = "distilled inputs"

    def message(self, client: Client, /) -> Message | None:
        return self.distil(client)

    def distil(self, client: Client, networks: Sequence[NetworkWeights] = ()) -> Message | None:
        """Return the client's message.

        Args:
            client: its samples.
            networks: networks of all classes whose features are matched. Default: random ones, or what the method
                takes.

        Raises:
            PotstillError: the method matches features in no given networks.
        """
        sizes = torch.bincount(client.source.labels, minlength=len(client.source.classes))
        least_size = self.least if self.start is None else max(self.least, self.start.least)
        classes = [c for c in client.classes if sizes[c] >= least_size]
        if not classes:
            return None
        part = client.of_classes(classes)
        options = dict(self.options)
        if "init_from" in {f.name for f in fields(get_method_class(self.method))}:  # type: ignore[arg-type]
            options.setdefault("init_from", "noise")
        if networks:
            networks = [_of_classes(one, classes, len(client.source.classes)) for one in networks]
            options |= {"embedders": "trained", "pretrained_networks": len(networks)}
        spec = RunSpec(
            data=Splits(train=part, test=None), method=self.method, networks=networks or None, bytes=client.byte_budget,
            seed=derive_seed(client.seed, "distil"), codec=self.codec, parametrization=self.parametrization,
            network=self.network, preset=self.preset, device=str(part.device), options=options, balance="natural",
        )  # fmt: skip
        resolve_run(replace(spec, bytes=_MANY_BYTES))  # an error here is none of too few bytes
        try:
            resolve_run(spec)
        except PotstillError:
            return None  # the bytes do not hold one input of each class
        least = None
        if self.start is not None:
            spec, least = self._start_from(self.start, spec, client, classes)
        small = self._run_within(spec, client.byte_budget)
        return as_message(small, classes, len(client.source.classes), least, part.device)

    def _run_within(self, spec: RunSpec, budget: int) -> Distilled:
        """Return the set in its bytes: again with fewer inputs while it codes worse than its start promised."""
        while True:
            small = run(spec, RunLimits(steps=self.steps), RunIO(progress=None, executor="serial"))
            size, planned = baseline_byte_budget(small.metadata["bytes"]), spec.planned_bytes
            if size <= budget or planned is None or planned <= budget:
                return small
            spec = replace(spec, planned_bytes=max(budget, int(0.95 * planned * budget / size)))

    def _start_from(
        self, start: Averages, spec: RunSpec, client: Client, classes: Sequence[int]
    ) -> tuple[RunSpec, int]:  # fmt: skip
        """Return the run that starts from as many averages as the bytes hold once coded, and the fewest samples of one.

        A run plans its inputs as packed. The averages themselves say how much smaller their coded stream is.
        """
        planned, budget, most = client.byte_budget, client.byte_budget, _MANY_BYTES
        tried: dict[int, tuple[RunSpec, int]] = {}
        for _ in range(_PLANS):
            resolved = resolve_run(replace(spec, planned_bytes=planned))
            counts = resolved.problem.sizes
            source, least = start.of_counts(client, dict(zip(classes, counts, strict=True)))
            index = torch.arange(len(source))
            codec = "exact" if resolved.codec is None else format_codec(resolved.codec)
            size = pack_samples(source, [[index]], len(index), codec).bytes
            share = len(source) / sum(counts)
            if not tried or (size <= budget and share >= _ENOUGH):
                tried[size] = replace(spec, planned_bytes=planned, initial=_as_set(source, client)), least
            if share < _ENOUGH:  # the samples give no more averages
                most = planned
            more = int(planned * min(_MOST, _FILLED * budget / size, share))
            if share >= _ENOUGH:
                more = min(int(planned * min(_MOST, _FILLED * budget / size)), (planned + most) // 2)
            if size <= budget and share >= _ENOUGH and more < 1.1 * planned:
                break
            planned = max(more, client.byte_budget)
        return tried[max(tried)]


def _coded_message(source: TensorSource, index: Int[Tensor, " n"], way: Averages | RealSets, least: int) -> Message:
    """Return samples of a source as the server decodes them, and the set that travels."""
    codec = parse_codec(way.codec)
    contents = Contents(inputs=source.raw(index), labels=source.labels[index])
    schema = Schema(classes=source.classes, input=source.input, normalization=source.normalization)
    most = int(torch.bincount(contents.labels).max())
    coded = build(contents, schema, Provenance(method=way.name, ipc=most), Encoding(codec=codec))
    return as_message(coded, range(len(source.classes)), len(source.classes), least, source.device)


def as_message(
    coded: Distilled, classes: Sequence[int], k: int, least: int | None, device: torch.device | str = "cpu"
) -> Message:
    """Return a set as a server decodes it.

    Args:
        coded: the set.
        classes: numbers of its classes among all.
        k: number of all classes.
        least: fewest samples that stand behind an input; ``None``: no such count.
        device: of the decoded inputs.

    Raises:
        PotstillError: its inputs are several tensors.
    """
    x = coded.model_space()
    if not isinstance(x, Tensor):
        raise PotstillError("inputs of several tensors were made, which no learner here takes; give other data")
    return Message(
        x=x.to(device), y=_spread(coded.labels, classes, k), bytes=baseline_byte_budget(coded.metadata["bytes"]),
        codec=str(coded.metadata["codec"]["name"]), least_members=least, coded=coded,
    )  # fmt: skip


def _largest(client: Client, way: Averages) -> Message | None:
    """Return the message of as many averages as fit the bytes."""
    counts = torch.bincount(client.source.labels, minlength=len(client.source.classes))
    if int(counts.max()) < way.least:
        return None

    def tried(total: int) -> Message | None:
        """Return the message of about so many averages, divided by the sizes of classes."""
        shares = {c: max(1, round(total * int(counts[c]) / len(client.source))) for c in client.classes}
        source, least = way.of_counts(client, shares)
        index = torch.arange(len(source))
        message = _coded_message(source, index, way, least)
        return None if message.bytes > client.byte_budget else message

    most = max(1, len(client.source) // way.least)
    low, high, best = 0, most + 1, None
    total = min(most, max(1, client.byte_budget // 40))
    while high - low > 1:
        found = tried(total)
        if found is None:
            high = total
        else:
            low, best = total, found
        total = (low + high) // 2 if high <= most else min(most, 2 * low)
        if best is not None and high - low <= max(1, low // 16):
            break
    return best


def _fit(client: Client, order: Int[Tensor, " n"], way: RealSets) -> Message | None:
    """Return the message of the first samples of an order that fit the bytes."""
    source = client.source
    n = max_items_per_class(source, [order], client.byte_budget, way.codec)
    if n < 1:
        return None
    while True:
        index = order[:n]
        message = _coded_message(source, index[source.labels[index].argsort(stable=True)], way, 1)
        if message.bytes <= client.byte_budget or n == 1:
            return message
        n -= 1  # sorted by class, the streams differ a little


def _as_source(source: TensorSource, x: Float[Tensor, "n ..."], labels: Int[Tensor, " n"]) -> TensorSource:
    """Return inputs in model space as a source like ``source``, sorted by class."""
    units = source.normalization.invert(x)
    if isinstance(source.inputs, Tensor) and source.inputs.dtype == torch.uint8:
        units = (units * 255).round().clamp(0, 255).to(torch.uint8)
    order = labels.argsort(stable=True)
    return TensorSource(
        name=source.name, input=source.input, classes=source.classes, normalization=source.normalization,
        inputs=units[order.to(units.device)].contiguous(), labels=labels[order],
    )  # fmt: skip


def _as_set(averages: TensorSource, client: Client) -> Distilled:
    """Return averages as a set that a run can start from."""
    held = replace(client, source=averages)
    part = held.of_classes(held.classes)
    spec = RunSpec(
        data=Splits(train=part, test=None), method="random", items=len(part), balance="natural", codec="exact",
        seed=client.seed, device=str(part.device),
    )  # fmt: skip
    return run(spec, RunLimits(), RunIO(progress=None, executor="serial"))


def _of_classes(network: NetworkWeights, classes: Sequence[int], k: int) -> NetworkWeights:
    """Return a network of ``k`` classes with the outputs of some of them: rows of its last layer."""
    last = list(network.parameters)[-2:]
    rows = torch.tensor(list(classes))
    cut = {n: p[rows] if n in last and len(p) == k else p for n, p in network.parameters.items()}
    return replace(network, parameters=cut)


def _spread(y: Tensor, classes: Sequence[int], k: int) -> Tensor:
    """Return a client's labels over the classes of all clients."""
    if y.ndim == 1:
        return torch.tensor(classes)[y.cpu()]
    wide = torch.zeros(len(y), k, dtype=y.dtype)
    wide[:, list(classes)] = y.cpu()
    return wide
