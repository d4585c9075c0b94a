"""Accuracy with few labels of one data set after learning a small set of vectors of another, beside baselines."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.outputs import check_not_input
from potstill._util.progress import Callback
from potstill.core import Splits
from potstill.core.nested import single_tensor
from potstill.data import TensorSource
from potstill.data.groups import source_key
from potstill.dataset_file import Distilled, load
from potstill.dataset_file.shared_decoders import hash_tensors
from potstill.errors import PotstillError
from potstill.evaluation import describe_data_mismatch
from potstill.evaluation.byte_matched_baselines import BaselineContext, baseline_byte_budget, trial_steps
from potstill.evaluation.candidate_trials import Length
from potstill.evaluation.evaluate import normalize_like
from potstill.evaluation.fitting import network_from_metadata
from potstill.evaluation.real_set_space import RealWay
from potstill.evaluation.real_sets import RealSetSearch, Trial, space_of
from potstill.execution import Executor, resolve_executor
from potstill.nn import default_network_name, factory_for
from potstill.pretraining.self_supervised import fit_encoder, parse_representations
from potstill.rng import derive_seed, generator
from potstill.runs.load_data import load_as_made, load_data, pick_device
from potstill.tasks import Regression
from potstill.uses.cell_files import WayCell, run_cells, write_json
from potstill.uses.transfer.learner import FewLabels, Learner, Recipe, parse_part, probe_accuracy
from potstill.uses.transfer.summary import OWN, conclude

__all__ = ["measure_transfer"]

VERSION = 1
"""Version of the files. It is raised when what is measured changes."""


def measure_transfer(
    distilled: Distilled | str | Path, data: Any, target: Any, *, out: str | Path | None = None, labels: int | str = 10,
    seeds: int = 5, network: str | None = None, steps: int = 500, batch: int = 64, lr: float = 0.1,
    weight_decay: float = 1e-3, tuning_steps: int = 200, tuning_lr: Sequence[float] = (0.01, 0.05),
    augment: str = "dsa", test_samples: int = 2000, seed: int = 0, device: str = "auto",
    executor: Executor | str | None = None, progress: Callback | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure how well a network does with few labels once it has learned a small set of vectors.

    A network learns the vectors of the set (the squared error), gets a new head and is fine-tuned on a few labels of
    ``target``; beside it stand ridge regression on its features, and the same without pre-training, after real pictures
    of ``data`` with their vectors in the same bytes (random ones, and the nearest to centres of k-means), after all of
    ``data``, and of the teacher's vectors themselves. All ways have the same labels and the same updates.

    Args:
        distilled: a set whose targets are vectors (``targets=`` of `potstill.load_data`), or its file.
        data: the data that it was made of, as for `potstill.load_data`, or `Splits` with these vectors.
        target: data with classes and a test split, as for `potstill.load_data`; their pictures are resized to those of
            the set.
        out: folder of the results, made if it is not there; the same call continues there. Default: none.
        labels: labelled samples of each class of ``target``, or a part of each class such as ``1%`` (2 at least).
        seeds: networks of each way, each with other labels, and with other real pictures.
        network: of the learner. Default: that of the set.
        steps: updates of pre-training.
        batch: samples of an update, here and there.
        lr, weight_decay: of pre-training, and the decay of fine-tuning, too.
        tuning_steps: updates of fine-tuning.
        tuning_lr: rates of fine-tuning; of several, each network takes that which does best on half of its labels.
        augment: augmentation of fine-tuning.
        test_samples: samples of the test split that are tested, at most.
        seed: of the first network.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: where networks are trained, also by name. Default: as many processes as help.
        progress: callback ``progress(name, done, total)``. Default: silent.

    Returns:
        ``rows``, one for each way with ``accuracy`` (fine-tuned) and ``probe`` (ridge regression), ``differences`` of
        the set from the other ways, paired over networks, and ``sentences``.

    Raises:
        PotstillError: the set has no vectors, the data do not fit together, or a number is out of its range.
    """
    if out is not None:
        check_not_input(Path(out), [data, target, distilled], folder=True)
    if isinstance(labels, str):
        labels = int(labels) if labels.isdecimal() else labels
    if isinstance(labels, str):
        parse_part(labels)
    small = distilled if isinstance(distilled, Distilled) else load(distilled)
    where = pick_device(device)
    if not isinstance(small.task, Regression) or small.input.kind != "image":
        raise PotstillError(
            f"a set of pictures with vectors as targets is needed, but this one is of {small.input.kind}s for "
            f'{small.task.name}; make one with `targets="representations"`'
        )
    for name, value in {
        "labels": 1 if isinstance(labels, str) else labels,
        "seeds": seeds,
        "steps": steps,
        "batch": batch,
        "tuning_steps": tuning_steps,
        "test_samples": test_samples,
    }.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise PotstillError(f"{name} must be a whole number of at least 1, not {value}; change it")
    rates = tuple(float(rate) for rate in tuning_lr)
    if not rates or not all(0 < rate < float("inf") for rate in (lr, *rates)) or not 0 <= weight_decay < float("inf"):
        raise PotstillError(
            f"lr and tuning_lr must be above 0 and weight_decay at least 0, not {lr:g}, {list(rates)} and "
            f"{weight_decay:g}; change them"
        )
    say = progress or (lambda *_: None)
    source, spelled, doubt = _source(small, data, where, say)
    labelled, test = _target(small, target, where, labels)
    own, made = _sets(small, source, network, seeds, steps, seed, say)
    x_test, y_test = _test(test, test_samples)
    learner = Learner(
        network=own, input=small.input, normalization=labelled.normalization, vectors=small.task.outputs,
        classes=len(labelled.classes), device=where, rates=rates, augment=Learner.augmentation(augment, labelled),
        pretraining=Recipe(steps=steps, batch=batch, lr=lr, weight_decay=weight_decay),
        tuning=Recipe(steps=tuning_steps, batch=batch, lr=rates[0], weight_decay=weight_decay),
    )  # fmt: skip
    maker = _Maker(
        learner=learner, sets={name: one.pairs for name, one in made.items()}, labelled=labelled,
        test=(x_test, y_test), labels=labels, seed=seed,
        teacher=None if spelled is None else _Vectors.of(spelled, source, labelled, x_test),
    )  # fmt: skip
    settings: dict[str, Any] = {
        "version": VERSION, "set": hash_tensors({"x": _own_inputs(small), "y": small.labels}),
        "data": source_key(source), "target": source_key(labelled), "test": source_key(test),
        "labels": labels, "network": own, "steps": steps, "batch": batch, "lr": lr,
        "weight_decay": weight_decay, "tuning_steps": tuning_steps, "tuning_lr": list(rates), "augment": augment,
        "test_samples": len(y_test), "seed": seed,
    }  # fmt: skip
    ways = ["none", *made, *(["teacher"] if spelled is not None else [])]
    cells = [WayCell(way=way, number=number) for number in range(seeds) for way in ways]

    def run(folder: Path) -> list[dict[str, Any]]:
        return run_cells(
            cells, maker, folder, settings, resolve_executor(executor), where, lambda d, t: say("networks", d, t),
            "transfer",
        )  # fmt: skip

    if out is None:
        with tempfile.TemporaryDirectory() as scratch:
            results = run(Path(scratch))
    else:
        results = run(Path(out))
    sizes = {name: {"items": one.items, "bytes": one.bytes, "codec": one.codec} for name, one in made.items()}
    result: dict[str, Any] = {
        "settings": settings, "source": source.name, "target": labelled.name, "labels": labels, "seeds": seeds,
        "classes": len(labelled.classes), "network": own, "test_samples": len(y_test), "ways": ways, "sets": sizes,
        "method": small.metadata["method"], **({} if doubt is None else {"doubt": doubt}), "cells": results,
    }  # fmt: skip
    result |= conclude(result)
    if out is not None:
        write_json(Path(out) / "transfer.json", result)
    return result


def _source(
    small: Distilled, data: Any, device: torch.device, say: Callback
) -> tuple[TensorSource, str | None, str | None]:
    """Return the real pictures with their vectors, how a teacher of these is spelled, and a doubt about the data."""
    splits = load_as_made(small.metadata, data, **({} if isinstance(data, Splits) else {"preparing": say}))
    train: Any = normalize_like(splits.train, small).to(device)
    if not isinstance(train, TensorSource) or train.targets is None or train.targets.shape[1:] != (small.task.outputs,):
        raise PotstillError(
            f"{splits.train.name}: the data must have the vectors of the set, {small.task.outputs} numbers each; read "
            "them with the `targets=` that the set was made with"
        )
    spelled = splits.reading.get("targets")
    return train, spelled if isinstance(spelled, str) else None, describe_data_mismatch(small.metadata, splits)


def _target(
    small: Distilled, target: Any, device: torch.device, labels: int | str
) -> tuple[TensorSource, TensorSource]:
    """Return training and test part of the second data, in pictures of the set's size."""
    size = small.input.shape[1:]
    splits = target if isinstance(target, Splits) else load_data(target, size=(int(size[0]), int(size[1])))
    train, test = splits.train, splits.test
    if not isinstance(train, TensorSource) or not isinstance(test, TensorSource) or len(train.classes) < 2:
        raise PotstillError(
            f"{train.name}: the second data must have two classes or more and a test split, in memory; give such data"
        )
    if train.input.shape != small.input.shape:
        raise PotstillError(
            f"{train.name}: pictures are {train.input.shape}, but those of the set {small.input.shape}; give data with "
            "as many channels"
        )
    if (least := int(torch.bincount(train.labels, minlength=len(train.classes)).min())) < (
        2 if isinstance(labels, str) else min(2, labels)
    ):
        raise PotstillError(f"{train.name}: a class has {least} samples in training; give more, or leave it out")
    return train.to(device), test.to(device)


def _test(test: TensorSource, most: int) -> tuple[Tensor, Tensor]:
    """Return test samples in model space: all, or evenly spaced ones."""
    n = len(test)
    at = torch.arange(n) if n <= most else torch.linspace(0, n - 1, most).long()
    return single_tensor(test.fetch(at).x, "a transfer"), test.labels[at].to(test.device)


@dataclass(frozen=True, kw_only=True)
class _Set:
    """Inputs in model space and standardised vectors, one pair for all networks or one for each."""

    pairs: Sequence[tuple[Tensor, Tensor]]
    items: int
    bytes: int
    codec: str | None


def _sets(
    small: Distilled, source: TensorSource, network: str | None, seeds: int, steps: int, seed: int, say: Callback
) -> tuple[str, dict[str, _Set]]:
    """Return the network's name and every set that networks learn."""
    task = source.task
    assert isinstance(task, Regression)
    assert isinstance(source.inputs, Tensor)
    assert source.targets is not None
    mean, std = torch.tensor(task.mean), torch.tensor(task.std)

    def standardized(pair: tuple[Any, Tensor]) -> tuple[Tensor, Tensor]:
        x = single_tensor(pair[0], "a transfer")
        return x, ((pair[1].cpu() - mean) / std).float().to(x.device)

    named = network or network_from_metadata(small) or default_network_name(small.input)
    make = factory_for(named, source)
    budget = baseline_byte_budget(small.metadata["bytes"])
    context = BaselineContext(
        train=source, byte_budget=budget, make=make, seed=seed, quick=True,
        trial=Length(steps=min(trial_steps(source.input), steps), passes=1),
    )  # fmt: skip
    search = RealSetSearch(where=context, space=space_of(context), say=say).run()
    best = search.chosen()
    sets = {
        OWN: _Set(
            pairs=[standardized((_own_inputs(small).to(source.device), small.labels))], items=len(small),
            bytes=int(small.metadata["bytes"]["total"]), codec=(small.metadata.get("codec") or {}).get("name"),
        )
    }  # fmt: skip
    for name, selection in (("random", "random"), ("k-means", "k-means")):
        way = RealWay(codec=best.way.codec, selection=selection, natural=best.way.natural, labels="hard")
        draws = 1 if selection == "k-means" else seeds
        training_set = search.make(Trial(way=way, per_class=best.per_class), draws)
        sets[name] = _Set(
            pairs=[standardized(pair) for pair in training_set.pairs], items=training_set.items,
            bytes=training_set.bytes, codec=training_set.codec,
        )  # fmt: skip
    every = torch.arange(len(source))
    full = source.fetch(every)
    sets["all data"] = _Set(
        pairs=[standardized((full.x, source.targets))], items=len(source),
        bytes=source.inputs.nbytes + source.targets.nbytes, codec="exact",
    )  # fmt: skip
    return make.name, sets


def _own_inputs(small: Distilled) -> Tensor:
    """Return the set's inputs in model space."""
    return single_tensor(small.model_space(), "a transfer")


@dataclass(frozen=True, kw_only=True)
class _Vectors:
    """The teacher's vectors of the second data."""

    labelled: Tensor
    test: Tensor

    @classmethod
    def of(cls, spelled: str, source: TensorSource, labelled: TensorSource, test: Tensor) -> "_Vectors":
        encoder = fit_encoder(source, parse_representations(spelled))
        rows = torch.cat([encoder(part) for part in torch.split(test, 500)])
        return cls(labelled=encoder.encode(labelled), test=rows.cpu())


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Trains and measures the network of a cell; sent to a worker once."""

    learner: Learner
    sets: Mapping[str, Sequence[tuple[Tensor, Tensor]]]
    labelled: TensorSource
    test: tuple[Tensor, Tensor]
    labels: int | str
    seed: int
    teacher: _Vectors | None

    def __call__(self, cell: WayCell) -> dict[str, Any]:
        own = derive_seed(self.seed, "transfer", cell.number)
        few = FewLabels.draw(self.labelled, self.labels, generator(own, "labels"))
        entry: dict[str, Any] = {"way": cell.way, "number": cell.number}
        if cell.way == "teacher":
            assert self.teacher is not None
            rows = self.teacher.labelled[few.places]
            probe = probe_accuracy(rows, few, self.teacher.test, self.test[1].cpu())
            return entry | {"accuracy": None, "probe": probe, "lr": None}
        pairs = self.sets.get(cell.way)
        x, y = (None, None) if pairs is None else pairs[cell.number % len(pairs)]
        body = self.learner.pretrain(x, y, own)
        if not all(bool(torch.isfinite(t).all()) for t in body.values()):
            raise PotstillError(f"pre-training on {cell.way} did not stay finite; lower its learning rate")
        accuracy, rate = self.learner.fine_tune(body, few, self.test, own)
        return entry | {"accuracy": accuracy, "probe": self.learner.probe(body, few, self.test, own), "lr": rate}
