"""Accuracy with an augmentation, with the same one adapted by validation data, and with these data as training data."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill._util.outputs import check_not_input, describe_foreign_page
from potstill._util.progress import Callback
from potstill.core import Augmentation, NetworkFactory, Source, Splits
from potstill.core.nested import single_tensor
from potstill.data import TensorSource, holdout
from potstill.data.groups import source_key
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError
from potstill.evaluation.student import TEST_CHUNK
from potstill.execution import Executor, resolve_executor
from potstill.nn import default_network_name, factory
from potstill.reports.augmentation import render_augmentation
from potstill.rng import derive_seed, generator
from potstill.runs.load_data import as_splits, pick_device
from potstill.uses.augmentation.adapt import AdaptedLoader
from potstill.uses.augmentation.summary import WAYS, conclude
from potstill.uses.augmentation.upstream import CheckedUpstream, Upstream, resolve_upstream
from potstill.uses.cell_files import WayCell, run_cells, write_json

__all__ = ["compare_augmentation"]

VERSION = 1
"""Version of the files. It is raised when what is measured changes."""


def compare_augmentation(
    data: Any, augment: str | Augmentation | Upstream | type, *, out: str | Path | None = None, validation: float = 0.5,
    seeds: int = 5, steps: int = 300, batch: int = 64, lr: float = 0.03, pull: float = 2.0, temperature: float = 0.25,
    network: str | None = None, seed: int = 0, device: str = "auto", executor: Executor | str | None = None,
    progress: Callback | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure an augmentation as it is, adapted by a validation part, and beside training on that part, too.

    With ``out`` each network is a file there, from which the same call continues where one was interrupted; beside them
    are ``augmentation.json``, the result, and ``augmentation.html``, a page.

    Args:
        data: anything `potstill.load_data` takes or returns, with classes and a test split. Nothing is chosen on that.
        augment: a registered name, ``FILE.py:NAME``, an `Augmentation`, or a function: inputs in model space and
            classes of a batch, and a generator, to inputs and labels.
        out: folder of the results, made if it is not there.
        validation: part of the training data that adapts labels and weights.
        seeds: networks of each way, each with another validation part; intervals are over them.
        steps: updates of a network, SGD with momentum 0.9, the rate falling along a line to zero.
        batch: samples of an update.
        lr: first learning rate.
        pull, temperature: as for `potstill.functional.label_gains.adapted_labels`.
        network: of the learner. Default: the usual one for the data.
        seed: of the first network.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: where networks are trained, also by name. Default: as many processes as help.
        progress: callback ``progress(name, done, total)``. Default: silent.

    Returns:
        ``rows``, one for each of `WAYS` with accuracies on the test data and, but for the first, the paired difference
        from it; ``differences``: those of the sentences; ``verdict``; ``sentences``; ``zero``: the mean part of samples
        whose weight was 0.

    Raises:
        PotstillError: the data have no test split or no classes, the validation part has one class alone, there is no
            such augmentation or it fails, or ``out`` holds other measurements.
    """
    splits: Splits = as_splits(data, pick_device(device))
    source, test = _check_data(splits)
    for name, value in {"seeds": seeds, "steps": steps, "batch": batch}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise PotstillError(f"{name} must be a whole number of at least 1, not {value}; change it")
    if not 0 < validation < 1 or not 0 < lr < float("inf"):
        raise PotstillError(
            f"validation must lie between 0 and 1 and lr be above 0, not {validation:g} and {lr:g}; change them"
        )
    if not 0 <= pull < float("inf") or not 0 <= temperature < float("inf"):
        raise PotstillError(f"pull and temperature must be at least 0, not {pull:g} and {temperature:g}; change them")
    upstream = resolve_upstream(augment, source)
    make = factory(
        network or default_network_name(source.input), source.input, len(source.classes), source.device,
        normalization=source.normalization,
    )  # fmt: skip
    maker = _Maker(
        source=source, test=test, upstream=upstream, make=make, validation=validation, steps=steps, batch=batch, lr=lr,
        pull=pull, temperature=temperature, seed=seed,
    )  # fmt: skip
    for number in range(seeds):  # refuses what cannot be measured, before any work
        x, y = maker.parts(number)[0]
        upstream(x[:batch], y[:batch], generator(seed, "augmentation", "trial", number))
    settings: dict[str, Any] = {
        "version": VERSION, "data": source_key(source), "test": source_key(test), "augment": dict(upstream.identity),
        "validation": validation, "steps": steps, "batch": batch, "lr": lr, "pull": pull, "temperature": temperature,
        "network": make.name, "seed": seed,
    }  # fmt: skip
    cells = [WayCell(way=way, number=number) for number in range(seeds) for way in WAYS]
    own, say = resolve_executor(executor), progress or (lambda *_: None)

    def run(folder: Path) -> list[dict[str, Any]]:
        return run_cells(
            cells, maker, folder, settings, own, source.device, lambda d, t: say("networks", d, t),
            "comparison of an augmentation",
        )  # fmt: skip

    if out is None:
        with tempfile.TemporaryDirectory() as scratch:
            results = run(Path(scratch))
    else:
        _check_folder(Path(out), [splits, augment])
        results = run(Path(out))
    result: dict[str, Any] = {
        "settings": settings, "source": source.name, "augmentation": upstream.name, "samples": len(source),
        "test_samples": len(test), "validation": validation, "seeds": seeds, "network": make.name, "steps": steps,
        "cells": results,
    }  # fmt: skip
    result |= conclude(result)
    if out is not None:
        write_json(Path(out) / "augmentation.json", result)
        write_atomic(Path(out) / "augmentation.html", render_augmentation(result).encode())
    return result


def _check_data(splits: Splits) -> tuple[TensorSource, Source]:
    train, test = splits.train, splits.test
    if test is None or not isinstance(train, TensorSource) or train.targets is not None or len(train.classes) < 2:
        raise PotstillError(
            f"{train.name}: an augmentation is compared on data in memory with two classes or more and a test "
            "split; give such data"
        )
    return train, test


def _check_folder(folder: Path, reads: list[Any]) -> None:
    check_not_input(folder, reads, folder=True)
    page = folder / "augmentation.html"
    if page.exists() and (other := describe_foreign_page(page)):
        raise PotstillError(f"{page}: {other}; choose another folder")


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Trains and measures the network of a cell; sent to a worker once."""

    source: TensorSource
    test: Source
    upstream: CheckedUpstream
    make: NetworkFactory
    validation: float
    steps: int
    batch: int
    lr: float
    pull: float
    temperature: float
    seed: int

    def seed_of(self, number: int) -> int:
        return derive_seed(self.seed, "augmentation", number)

    def parts(self, number: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return training and validation samples of a network.

        Raises:
            PotstillError: the validation part has one class alone.
        """
        fit, held = (_pair(part) for part in holdout(self.source, self.validation, self.seed_of(number) % 2**31))
        if len(torch.unique(held[1])) < 2:
            raise PotstillError(
                f"{self.source.name}: the validation part has one class alone, so its gradient tells none apart; give "
                "more data"
            )
        return fit, held

    def __call__(self, cell: WayCell) -> dict[str, Any]:
        fit, held = self.parts(cell.number)
        own = self.seed_of(cell.number)
        x, y = (torch.cat(pair) for pair in zip(fit, held, strict=True)) if cell.way.startswith("both") else fit
        network = self.make(derive_seed(own, "network"))
        rng = generator(own, "samples")
        optimizer = torch.optim.SGD(network.parameters(), lr=self.lr, momentum=0.9, weight_decay=5e-4)
        network.train()
        zero = 0.0
        for step, (inputs, labels, weights) in enumerate(self._batches(cell.way, network, (x, y), held, rng)):
            for group in optimizer.param_groups:
                group["lr"] = self.lr * (1 - step / self.steps)
            loss = F.cross_entropy(network(inputs), labels, reduction="none")
            if weights is not None:
                zero += float((weights == 0).double().mean()) / self.steps
                loss = loss * weights
            optimizer.zero_grad()
            loss.mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return {
            "way": cell.way, "number": cell.number, "accuracy": _accuracy(network, _pair(self.test)),
            "zero": zero if cell.way == "weights" else None,
        }  # fmt: skip

    def _batches(
        self, way: str, network: nn.Module, data: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor],
        rng: torch.Generator,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:  # fmt: skip
        x, y = data

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for _ in range(self.steps):
                at = torch.randperm(len(x), generator=rng)[: self.batch].to(x.device)
                yield x[at], y[at]

        if way in ("weights", "adapted"):
            yield from AdaptedLoader(
                loader=batches(), network=network, upstream=self.upstream, rng=rng, validation=validation,
                pull=self.pull, temperature=self.temperature, fixed=way == "weights",
            )  # fmt: skip
        elif way in ("none", "both parts"):
            yield from ((*pair, None) for pair in batches())
        else:
            yield from ((*self.upstream(*pair, rng), None) for pair in batches())


def _accuracy(network: nn.Module, pair: tuple[Tensor, Tensor]) -> float:
    network.eval()
    right = 0
    with torch.no_grad():
        for at in torch.split(torch.arange(len(pair[1])), TEST_CHUNK):
            right += int((network(pair[0][at]).argmax(1) == pair[1][at]).sum())
    return right / len(pair[1])


def _pair(source: Source) -> tuple[Tensor, Tensor]:
    x = single_tensor(source.fetch(torch.arange(len(source))).x, "an augmentation")
    return x, source.labels.to(x.device)
