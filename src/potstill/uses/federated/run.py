"""`potstill.uses.federated.federated`: what clients send, side by side on the same partitions, each cell a file."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.outputs import check_not_input, describe_foreign_page
from potstill._util.progress import Callback
from potstill.data import TensorSource
from potstill.data.groups import source_key
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError
from potstill.execution import Executor, resolve_executor
from potstill.execution.memory import keep_freed_memory
from potstill.reports.federated import render_federated
from potstill.rng import derive_seed, generator
from potstill.runs.load_data import as_splits, pick_device
from potstill.uses.cell_files import parse_sizes, run_cells, write_json
from potstill.uses.continual.learner import Learner
from potstill.uses.continual.stream import check_source
from potstill.uses.federated.audit import nearest_members
from potstill.uses.federated.messages import Client, SetWay, make_clients
from potstill.uses.federated.models import ModelWay, predict_probabilities, train_on_sets
from potstill.uses.federated.partition import (
    Partition,
    dirichlet_partition,
    group_partition,
    read_partition,
    size_partition,
    write_partition,
)
from potstill.uses.federated.rounds import ExchangeWay, send_once
from potstill.uses.federated.summary import conclude
from potstill.uses.federated.ways import DEFAULT_WAYS, Way, parse_way

__all__ = ["federated"]

VERSION = 1
"""Version of the files. It is raised when what is measured changes."""


def federated(
    data: Any,
    *,
    out: str | Path,
    ways: Sequence[str | Way] = DEFAULT_WAYS,
    partition: str | Path = "dirichlet",
    alpha: float | Sequence[float] = 0.1,
    clients: int = 10,
    splits: int = 5,
    bytes: int | str | Sequence[int | str] = "16kB",
    networks: Sequence[str] = (),
    drop: int = 0,
    learner: Learner | None = None,
    codec: str | None = None,
    parametrization: str | None = None,
    preset: str | None = None,
    distill_steps: int | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    executor: Executor | str | None = None,
    progress: Callback | None = None,
) -> dict[str, Any]:
    """Measure what clients can send to a server that trains a network: sets, models, or nothing, by accuracy and bytes.

    All ways see the same partitions. ``out`` gets each partition as JSON, a file for each cell (a way, a size, a
    partition), from which the same call continues where one was interrupted; ``federated.json``, the result; and
    ``federated.html``, a page.

    Args:
        data: anything `potstill.load_data` takes or returns, with a test split; nothing is chosen on that.
        out: folder of the results, made if it is not there.
        ways: as `parse_way` reads them, or values: ``real`` (random real samples in few bits), ``averages`` (means of
            k-means clusters), ``dm`` (distilled from noise), ``dm+averages`` (from averages), ``fedd3``, ``feddm:3``,
            ``ensemble-labels``, ``fedavg:20``, ``fedprox:20``, ``ensemble``, ``alone``.
        partition: ``dirichlet`` (skewed classes), ``sizes`` (skewed sizes), ``groups`` (the data's groups), or a file
            that an earlier run wrote.
        alpha: concentration of the skew, or several: 0.1 is strong, ``inf`` none.
        clients: number of clients; with groups, 0: one for each.
        splits: partitions by seed; intervals are over them.
        bytes: size of all clients' sets together, or several: each client has a part by its number of samples.
        networks: of the clients in turn; several: what is sent as a set trains each of them, and weights cannot be
            averaged. Default: that of the learner.
        drop: clients of each partition, drawn by ``seed``, that never answer. The others have the bytes and seeds that
            they have if all answer.
        learner: settings of training. Default: `Learner()`.
        codec, parametrization, preset: of distilled sets, as for `potstill.distill`.
        distill_steps: largest number of steps of a method.
        options: further fields of the methods, by name.
        seed: seed of the first partition; the others follow.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: where cells run, as for `potstill.distill`. Default: as many processes as help.
        progress: callback ``progress(name, done, total)``. Default: silent.

    Returns:
        The content of ``federated.json``.

    Raises:
        PotstillError: a way is unknown or stands twice, a client of a given partition is empty, the bytes hold nothing
            for every way, or ``out`` holds other measurements.
    """
    keep_freed_memory()
    say = progress or (lambda *_: None)
    learner = learner or Learner()
    sizes, alphas = parse_sizes(bytes), [alpha] if isinstance(alpha, int | float) else list(alpha)
    every = [
        parse_way(
            w, codec=codec, parametrization=parametrization, preset=preset, steps=distill_steps, options=options or {}
        ) if isinstance(w, str) else w
        for w in ways
    ]  # fmt: skip
    _check(every, splits, alphas)
    loaded = as_splits(data, pick_device(device))
    if loaded.test is None:
        raise PotstillError(f"{loaded.train.name}: accuracy needs a test split; give data that have one")
    train_source, test = (
        check_source(one, what, "a partition") for one, what in ((loaded.train, "training"), (loaded.test, "test"))
    )
    own = tuple(networks) or (learner.factory(train_source, len(train_source.classes)).name,)
    for name in own:
        replace(learner, network=name).factory(train_source, len(train_source.classes))
    settings: dict[str, Any] = {
        "version": VERSION, "data": source_key(train_source), "test": source_key(test), "seed": seed,
        "learner": {**asdict(learner), "network": own[0]}, "networks": list(own),
    }  # fmt: skip
    folder = Path(out)
    check_not_input(folder, [loaded, partition], folder=True)
    page = folder / "federated.html"
    if page.exists() and (other := describe_foreign_page(page)):
        raise PotstillError(f"{page}: {other}; choose another folder")
    parts = _partitions(train_source, partition, alphas, clients, splits, seed)
    absent = {at: _absent(one, drop, derive_seed(seed, "drop", at[1])) for at, one in parts.items()}
    for (name, n), one in parts.items():
        write_partition(folder / "partitions" / f"{_stem(name)}-{n}.json", one, train_source)
    cells = [
        _Cell(way=way, byte_budget=size, label=name, number=n, partition=one, dropped=absent[name, n])
        for (name, n), one in parts.items() for way in every
        for size in ([None] if way.sends == "models" else sizes)
    ]  # fmt: skip
    maker = _Maker(train=train_source, test=test, learner=learner, networks=own, seed=seed)
    results = run_cells(
        cells, maker, folder, settings, resolve_executor(executor), train_source.device,
        lambda d, t: say("cells", d, t), "federated run",
    )  # fmt: skip
    if all("reason" in r for r in results):
        raise PotstillError(str(results[0]["reason"]))
    names = list(dict.fromkeys(name for name, _ in parts))
    result = {
        "settings": settings, "source": train_source.name, "classes": list(train_source.classes),
        "samples": len(train_source), "test_samples": len(test), "splits": 1 if Path(partition).suffix else splits,
        "bytes": sizes, "partitions": names,
        "ways": [{"name": w.name, "sends": w.sends} for w in every],
        "clients": {name: [p.class_counts(train_source).tolist() for (m, _), p in parts.items() if m == name]
                    for name in names},
        "dropped": {name: [list(absent[at]) for at in parts if at[0] == name] for name in names},
        "cells": results,
    }  # fmt: skip
    result |= conclude(result)
    write_json(folder / "federated.json", result)
    write_atomic(page, render_federated(result).encode())
    return result


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """A way on one partition, of one size where it sends sets."""

    way: Way
    byte_budget: int | None
    label: str
    number: int
    partition: Partition
    dropped: tuple[int, ...] = ()
    """Clients that never answer."""

    @property
    def stem(self) -> str:
        size = "" if self.byte_budget is None else f"-{self.byte_budget}"
        return f"{_stem(self.label)}-{self.number}-{_stem(self.way.name)}{size}"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that decide its contents besides those of all cells."""
        return {"way": repr(self.way), "clients": [len(at) for at in self.partition.clients],
                "origin": dict(self.partition.origin), "bytes": self.byte_budget,
                **({"dropped": list(self.dropped)} if self.dropped else {})}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Computes a cell; sent to a worker once."""

    train: TensorSource
    test: TensorSource
    learner: Learner
    networks: tuple[str, ...]
    seed: int

    def __call__(self, cell: _Cell) -> dict[str, Any]:
        """Return the cell as JSON values; with a ``reason`` where the way cannot be taken."""
        head = {"way": cell.way.name, "partition": cell.label, "number": cell.number, "bytes": cell.byte_budget}
        started = time.perf_counter()
        seed = derive_seed(self.seed, "federated", cell.number)
        every = make_clients(self.train, cell.partition, cell.byte_budget or 0, seed)
        clients = {n: client for n, client in enumerate(every) if n not in cell.dropped}
        try:
            if isinstance(cell.way, ModelWay):
                found = self._models(cell.way, clients, seed)
            else:
                found = self._sets(cell.way, clients, seed)
        except PotstillError as error:
            return {**head, "reason": str(error)}
        return {**head, **found, "seconds": round(time.perf_counter() - started, 3)}

    def _sets(self, way: SetWay | ExchangeWay, clients: Mapping[int, Client], seed: int) -> dict[str, Any]:
        every = list(clients.values())
        if isinstance(way, SetWay):
            sent = send_once(way, every)
        else:
            sent = way.exchange(every, self._networks_of(clients), self.learner, seed)
        by_network = {name: self._student(name, sent.x, sent.y, seed) for name in dict.fromkeys(self.networks)}
        nearest, compared = nearest_members([every[n] for n in sent.senders], sent.messages, self.test, seed)
        members = [m.least_members for m in sent.messages if m.least_members is not None]
        hard = sent.y if sent.y.ndim == 1 else sent.y.argmax(1)
        return {
            "accuracy": sum(by_network.values()) / len(by_network), "by_network": by_network, "up": sent.up,
            "down": sent.down, "items": len(sent.x), "silent": len(every) - len(set(sent.senders)),
            "codec": sent.messages[0].codec, "least_members": min(members, default=None), "nearest": nearest,
            "compared": compared, "covered": sorted(set(hard.tolist())),
        }  # fmt: skip

    def _models(self, way: ModelWay, clients: Mapping[int, Client], seed: int) -> dict[str, Any]:
        networks, every = self._networks_of(clients), list(clients.values())
        answer = way.answer(every, networks, self.learner, self.test, derive_seed(seed, "models"))
        scores = [self._accuracy(p) for p in answer.probabilities]
        return {
            "accuracy": sum(scores) / len(scores), "up": answer.up, "down": answer.down, "items": 0, "silent": 0,
            "codec": str(getattr(way, "codec", "")), "least_members": None, "nearest": 0, "compared": 0,
            "covered": sorted({c for client in every for c in client.classes}),
        }  # fmt: skip

    def _networks_of(self, clients: Iterable[int]) -> list[str]:
        """Return the networks of clients by their numbers."""
        return [self.networks[n % len(self.networks)] for n in clients]

    def _student(self, network: str, x: Tensor, y: Tensor, seed: int) -> float:
        """Return the accuracy of a fresh student."""
        student = train_on_sets(self.learner, network, x, y, self.train, derive_seed(seed, "student"))
        return self._accuracy(predict_probabilities(student, self.test))

    def _accuracy(self, probabilities: Tensor) -> float:
        return float((probabilities.argmax(1) == self.test.labels).double().mean())


def _absent(partition: Partition, drop: int, seed: int) -> tuple[int, ...]:
    """Return the clients that never answer.

    Raises:
        PotstillError: there would be none that does.
    """
    n = len(partition.clients)
    if not 0 <= drop < n:
        raise PotstillError(f"of {n} clients 0 to {n - 1} can drop out, not {drop}; change `drop=`")
    return tuple(sorted(torch.randperm(n, generator=generator(seed, "drop"))[:drop].tolist()))


def _partitions(
    source: TensorSource, how: str | Path, alphas: Sequence[float], clients: int, splits: int, seed: int
) -> dict[tuple[str, int], Partition]:  # fmt: skip
    """Return partitions by name and number."""
    numbers = range(seed, seed + splits)
    if how == "dirichlet":
        return {(f"alpha {a:g}", n): dirichlet_partition(source, clients, a, n) for a in alphas for n in numbers}
    if how == "sizes":
        return {(f"sizes {a:g}", n): size_partition(source, clients, a, n) for a in alphas for n in numbers}
    if how == "groups":
        return {("groups", n): group_partition(source, clients, n) for n in numbers}
    if not Path(how).suffix:
        raise PotstillError(
            f"a partition is dirichlet, sizes, groups, or a file such as partition.json, not {str(how)!r}"
        )
    return {(Path(how).stem, seed): read_partition(Path(how), source)}


def _stem(name: str) -> str:
    return "".join(c if c.isalnum() or c in ".+-" else "_" for c in name)


def _check(ways: Sequence[Way], splits: int, alphas: Sequence[float]) -> None:
    listed = [w.name for w in ways]
    if not listed:
        raise PotstillError("a federated run needs one way at least, but none is given; give averages")
    if twice := next((name for name in listed if listed.count(name) > 1), None):
        raise PotstillError(f"way {twice!r} is given twice; give it once")
    if splits < 1:
        raise PotstillError(f"a federated run needs one partition at least, not {splits}; two or more give intervals")
    if not alphas or len(set(alphas)) < len(alphas) or not min(alphas) > 0:
        raise PotstillError(f"alpha must be one or more different numbers above 0, not {list(alphas)}; change them")
