"""``scaling``: what a soft label buys in data, over budgets × what the teacher knew, as a law with its interval.

Everything is measured on training data: a part of them is held out, students are trained on the rest, and the test
split is not read. One half of the held-out part chooses the teacher's stop, the other half gives the numbers.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from potstill._util.outputs import check_not_input, describe_foreign_page
from potstill._util.progress import Callback
from potstill.core import NetworkFactory, NetworkWeights, Splits, registry
from potstill.core.nested import concat
from potstill.data import TensorSource, holdout
from potstill.data.groups import source_key
from potstill.data.real_data import RealData
from potstill.dataset_file import write_atomic
from potstill.dataset_file.files import parse_json
from potstill.errors import PotstillError
from potstill.evaluation import Protocol
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.byte_matched_baselines import count_exact_bytes
from potstill.evaluation.scaling_law import MIN_BUDGETS, MeasuredErrors, fit_law, label_worth, log_rmse
from potstill.evaluation.statistics import summary
from potstill.evaluation.student import StudentJob
from potstill.evaluation.vmap_students import default_group_size, predict_all
from potstill.execution import Executor, choose_executor, resolve_executor
from potstill.execution.memory import keep_freed_memory
from potstill.labels.teacher import Teacher, soft_labels
from potstill.nn import CustomNetwork, default_network_name, factory, parse_network
from potstill.pretraining import TrainedNetworks, build_assets
from potstill.reports import draw_law
from potstill.rng import derive_seed, generator
from potstill.runs.load_data import load_data, pick_device
from potstill.tasks import get_task

__all__ = ["scaling"]

VERSION = 1
"""Of the file. It is raised when what is measured changes."""
TEACHER: Mapping[str, float | int | str] = {
    "batch": 256, "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "augment": "none", "schedule": "constant",
}  # fmt: skip
"""As the teacher of random-soft is trained. At a constant rate a snapshot is a training that is as long."""
MOST_HELD = 4000
"""Samples that are held out, at most: more take time and add little."""


def scaling(
    data: Any,
    *,
    ipc: Sequence[int] = (1, 2, 5, 10, 20, 50),
    teacher_epochs: Sequence[int] = (2, 5, 10, 20, 50),
    out: str | Path,
    network: str | CustomNetwork | Callable[..., Any] | None = None,
    repeats: int = 5,
    steps: int = 200,
    batch: int = 64,
    lr: float = 0.03,
    validation: float = 0.2,
    seed: int = 0,
    device: str = "auto",
    executor: Executor | str | None = None,
    progress: Callback | None = None,
) -> dict[str, Any]:
    """Measure students over budgets × teachers, fit the data–knowledge law, and state what a soft label replaces in
    data.

    A set is a random draw of real samples, larger budgets containing smaller ones; all its students, at every stop and
    with plain classes, start from the same parameters. ``out/scaling.json`` holds every student's accuracy and is
    written after each cell, so that the same call continues where one was interrupted. ``out/scaling.svg`` is a plot.

    Args:
        data: anything `potstill.load_data` takes or returns. Its test split is not read.
        ipc: budgets: items per class, four or more.
        teacher_epochs: epochs after which the teacher is stopped; one training gives all.
        out: folder of the results, made if it is not there.
        network: network of teacher and students. Default: the usual one for the data.
        repeats: random draws of each budget; intervals are over them, given this one teacher.
        steps: updates of a student: SGD with momentum 0.9 and the augmentation of the protocol ``potstill``. The same
            for every cell.
        batch: samples of an update.
        lr: learning rate of the first update; it falls along a cosine to zero.
        validation: fraction of the training data that is held out, at most 4,000 samples.
        seed: seed of sets, students and held-out samples.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: where the teacher and students are trained, as for `potstill.distill`. Default: as many processes as
            help.
        progress: callback ``progress(name, done, total)``. Default: silent.

    Returns:
        The content of ``scaling.json``.

    Raises:
        PotstillError: a class has too few samples, ``out`` cannot be written or holds other measurements.

    Examples:
        >>> found = potstill.scaling(
        ...     "digits", ipc=(1, 2, 3, 4), teacher_epochs=(1, 2), out="law", repeats=1, steps=1,
        ...     network="convnet-w8-d1",
        ... )
        >>> sorted(path.name for path in pathlib.Path("law").iterdir())
        ['scaling.json', 'scaling.svg']
    """
    keep_freed_memory()
    budgets, epochs = tuple(sorted(ipc)), tuple(sorted(teacher_epochs))
    _check(budgets, epochs, repeats)
    splits: Splits = data if isinstance(data, Splits) else load_data(data)
    train = splits.train.to(pick_device(device))
    if not isinstance(train, TensorSource):
        raise PotstillError(f"scaling needs data that are held in memory, but {train.name} is not; give arrays")
    name = parse_network(network) or default_network_name(train.input, get_task(train))
    make = factory(name, train.input, len(train.classes), train.device, normalization=train.normalization)
    base: Protocol = registry.resolve("protocols", "potstill")
    protocol = base.override(steps=steps, batch=batch, lr=lr, least_epochs=0)
    protocol = protocol.resolve(train.name, make.name, train.input)
    settings: dict[str, Any] = {
        "version": VERSION, "data": source_key(train), "network": make.name, "ipc": list(budgets),
        "stops": list(epochs), "sets": repeats, "steps": steps, "lr": lr, "validation": validation, "seed": seed,
        "augment": protocol.recipe.augment, "batch": batch, "teacher": dict(TEACHER),
    }  # fmt: skip
    file = Path(out) / "scaling.json"
    check_not_input(Path(out), [splits], folder=True)
    if (plot := file.with_suffix(".svg")).exists() and (other := describe_foreign_page(plot)):
        raise PotstillError(f"{plot}: {other}; choose another folder")
    cells = _read(file, settings)
    kept, held = holdout(train, min(validation, MOST_HELD / len(train)), derive_seed(seed, "held out") % 2**31)
    bench = _Bench(
        train=kept, held_out=holdout(held, 0.5, derive_seed(seed, "halves") % 2**31), make=make, protocol=protocol,
        seed=seed,
        sets=_draws(kept, budgets[-1], repeats, seed), say=progress or (lambda what, done, total: None),
        executor=resolve_executor(executor),
    )  # fmt: skip
    teachers = bench.teachers(epochs)
    head: dict[str, Any] = {
        "settings": settings, "source": train.name, "classes": len(train.classes), "samples": len(kept),
    }  # fmt: skip
    missing = [(n, s) for n in budgets for s in (None, *epochs) if _key(n, s) not in cells]
    for key, cell in bench.cells(missing, {t.epoch: t for t in teachers}):
        cells[key] = cell
        _write(file, {**head, "cells": cells})
    head |= {
        "held": [len(half) for half in bench.held_out], "cells": cells,
        "teachers": [
            {"stop": t.epoch, "choice": bench.accuracy_of(t, 0), "accuracy": bench.accuracy_of(t, 1)} for t in teachers
        ],
        "bytes": _sample_bytes(train),
    }  # fmt: skip
    result = {**head, **_conclude(head)}
    _write(file, result)
    write_atomic(file.with_suffix(".svg"), draw_law(result).encode())
    return result


@dataclass(frozen=True, kw_only=True)
class _Bench:
    """Values that all cells share."""

    train: TensorSource
    """Training data of teachers and students."""
    held_out: tuple[TensorSource, TensorSource]
    """To choose the stop on, and to score on."""
    make: NetworkFactory
    protocol: Protocol
    seed: int
    sets: Sequence[Sequence[Tensor]]
    """Indices into ``train``: of each set, of each class, in the order in which budgets take them."""
    say: Callback
    executor: Executor | None

    def teachers(self, stops: Sequence[int]) -> tuple[NetworkWeights, ...]:
        """One training's snapshots."""
        recipe = {**TEACHER, "epochs": max(stops)}
        spec = TrainedNetworks(name="teacher", count=1, recipe=recipe, snapshots=tuple(stops))
        made, _ = build_assets(
            [spec], self.train, self.make, lambda name: student_augmentation(name, self.train),
            executor=self.executor, progress=self.say,
        )  # fmt: skip
        return tuple(made["teacher"])

    def rows(self, teacher: NetworkWeights, x: Tensor) -> Tensor:
        """The labels that a teacher gives."""
        as_is = Teacher(params=teacher.parameters, velocity={}, buffers=teacher.buffers)
        return soft_labels(self.make(teacher.seed), as_is, x)

    def accuracy_of(self, teacher: NetworkWeights, part: int) -> float:
        """Return a teacher's accuracy on one half of the held-out samples."""
        half = self.held_out[part]
        found = self.rows(teacher, _inputs(half, torch.arange(len(half)))).argmax(1).cpu()
        return float((found == half.labels).double().mean())

    def cells(
        self, pairs: Sequence[tuple[int, int | None]], teachers: Mapping[int | None, NetworkWeights]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each of the ``wanted`` (items per class, stop or classes), as soon as all its students are done."""
        jobs = [self._student(n, stop, teachers, at) for n, stop in pairs for at in range(len(self.sets))]
        executor = self.executor or choose_executor(len(jobs), self.make.device, self.make)
        results = (
            _two_accuracies(self.held_out, predicted)
            for predicted in predict_all(
                _join_parts(self.held_out), jobs, executor, default_group_size(self.make.device)
            )
        )
        self.say("students", 0, len(jobs))
        for place, (n, stop) in enumerate(pairs):
            found = []
            for at in range(len(self.sets)):
                found.append(next(results))
                self.say("students", place * len(self.sets) + at + 1, len(jobs))
            chosen, scored, diverged = zip(*found, strict=True)
            yield _key(n, stop), {
                "ipc": n, "stop": stop, "accuracy": summary(scored, len(self.held_out[1])), "choice": list(chosen),
                "diverged": sum(diverged),
            }  # fmt: skip

    def _student(self, n: int, stop: int | None, teachers: Mapping[int | None, NetworkWeights], at: int) -> StudentJob:
        index = torch.cat([of_class[:n] for of_class in self.sets[at]])
        x = _inputs(self.train, index)
        y = self.train.labels[index].to(x.device) if stop is None else self.rows(teachers[stop], x)
        recipe = self.protocol.recipe
        return StudentJob(
            make=self.make, x=x, y=y, protocol=self.protocol, lr=recipe.lr[0], steps=recipe.steps[0],
            augment=student_augmentation(recipe.augment, self.train), seed=derive_seed(self.seed, "student", at),
        )  # fmt: skip


def _sample_bytes(train: TensorSource) -> dict[str, int]:
    """Return the bytes of one sample with its class, and with a soft label of 8 bits a number."""
    hard = math.ceil(count_exact_bytes(train) / len(train))
    return {"hard": hard, "soft": hard + len(train.classes)}


def _join_parts(held_out: tuple[TensorSource, TensorSource]) -> TensorSource:
    """Both halves of what is held out, in a row."""
    return replace(
        held_out[0], inputs=concat([h.inputs for h in held_out]), labels=torch.cat([h.labels for h in held_out]),
        places=None, names=(),
    )  # fmt: skip


def _two_accuracies(
    held_out: tuple[TensorSource, TensorSource], predicted: Tensor | None
) -> tuple[float, float, bool]:  # fmt: skip
    """A student's on both halves, and whether it diverged: then it knows nothing and counts as chance."""
    if predicted is None:
        return 1 / len(held_out[0].classes), 1 / len(held_out[0].classes), True
    right = (predicted == torch.cat([h.labels for h in held_out])).double()
    return float(right[: len(held_out[0])].mean()), float(right[len(held_out[0]) :].mean()), False


def _draws(train: TensorSource, most: int, sets: int, seed: int) -> list[Sequence[Tensor]]:
    real = RealData.of_source(train)
    counts = [most] * len(real.by_class)
    return [real.draw_exactly(counts, generator(seed, "set", n)) for n in range(sets)]


def _inputs(source: TensorSource, index: Tensor) -> Tensor:
    x = source.fetch(index).x
    assert isinstance(x, Tensor)
    return x


def _key(n: int, stop: int | None) -> str:
    return f"{n}-{'hard' if stop is None else stop}"


def _check(budgets: tuple[int, ...], stops: tuple[int, ...], sets: int) -> None:
    for name, values, least in (("ipc", budgets, MIN_BUDGETS), ("teacher_epochs", stops, 1)):
        if len(values) < least or len(set(values)) < len(values) or min(values) < 1:
            raise PotstillError(
                f"{name} must be {least} or more different whole numbers from 1 on, not {values}; change them"
            )
    if sets < 1:
        raise PotstillError(f"at least one set is needed, but repeats is {sets}; two or more give intervals")


def _conclude(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The law, what each budget of soft labels is worth, and that in a sentence."""
    said = cells["settings"]
    choice, score = (_measured(cells, part) for part in (0, 1))
    law = fit_law(score)
    worths = label_worth(score, choice, said["ipc"], generator(said["seed"], "bootstrap"))
    rows = [{"ipc": n, **asdict(each)} for n, each in zip(said["ipc"], worths, strict=True)]
    middle = next((r for r in rows if r["ipc"] == 10), rows[len(rows) // 2])
    amounts = np.geomspace(said["ipc"][0], said["ipc"][-1], 41)
    curves = [np.exp(law.hard_error(amounts)[0]), *np.exp(law.soft_error(amounts)[0]).T]
    hard, soft = law.hard[0].tolist(), law.soft[0].tolist()
    return {
        "law": {
            "hard": dict(zip(("ln_f", "ln_A", "b"), hard, strict=True)),
            "soft": dict(zip(("ln_kappa", "ln_A", "b", "g", "h"), soft, strict=False)),
            "misfit": log_rmse(score, law), "amounts": amounts.tolist(),
            "curves": {str(name): c.tolist() for name, c in zip(("hard", *said["stops"]), curves, strict=True)},
        },
        "worth": rows, "said_of": middle["ipc"], "sentence": _sentence(middle, said["ipc"]),
    }  # fmt: skip


def _measured(cells: Mapping[str, Any], part: int) -> MeasuredErrors:
    """Errors of students and teachers on one half of what was held out."""
    said, samples = cells["settings"], cells["held"][part]

    def error(accuracy: float) -> float:
        """Half a sample is counted as wrong and half as right, so that none is 0 or 1."""
        return float(((1 - accuracy) * samples + 0.5) / (samples + 1))

    def errors(n: int, stop: int | None) -> list[float]:
        cell = cells["cells"][_key(n, stop)]
        return [error(v) for v in (cell["choice"] if part == 0 else cell["accuracy"]["values"])]

    return MeasuredErrors(
        ipc=tuple(said["ipc"]), stops=tuple(said["stops"]), hard=np.array([errors(n, None) for n in said["ipc"]]).T,
        soft=np.array([[errors(n, s) for s in said["stops"]] for n in said["ipc"]]).transpose(2, 0, 1),
        teacher=np.array([error(t[("choice", "accuracy")[part]]) for t in cells["teachers"]]),
    )  # fmt: skip


def _sentence(row: Mapping[str, Any], budgets: Sequence[int]) -> str:
    n, stop, side = row["ipc"], row["stop"], row["side"]
    if side == "unknown":
        return "More hard-labelled samples did not help here, so that soft labels cannot be counted in them."
    if side == "inside":
        text = f"{row['value']:.3g} hard-labelled"
        if row["known"]:
            ends = [f"under {budgets[0]}", f"over {budgets[-1]}"]
            low, high = (ends[i] if row[e] is None else f"{row[e]:.3g}" for i, e in enumerate(("low", "high")))
            text += f" [{low}, {high}]"
    else:
        text = f"{side} than {budgets[-1 if side == 'more' else 0]} hard-labelled, beyond what was measured"
        known = row["low"] if side == "more" else row["high"]
        if known is not None:
            text += f" (at {'least' if side == 'more' else 'most'} {known:.3g} at 95%)"
    return f"{n} soft-labelled per class are worth {text}; teacher of {stop} epoch{'' if stop == 1 else 's'}."


def _read(file: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells that an earlier call measured with the same settings."""
    try:
        found = parse_json(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise PotstillError(f"{file}: not what scaling wrote ({error}); delete it to measure again") from error
    if not isinstance(found, dict) or found.get("settings") != settings or not isinstance(found.get("cells"), dict):
        raise PotstillError(f"{file}: made of other data or settings; choose another folder or delete it")
    return dict(found["cells"])


def _write(file: Path, content: Mapping[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PotstillError(f"{file.parent}: must be a folder that you can write to ({error.strerror})") from error
    write_atomic(file, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
