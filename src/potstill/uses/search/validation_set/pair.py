"""A small training set of real samples and its learned validation set, as sets that are files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill.core import Source
from potstill.core.nested import single_tensor
from potstill.data import TensorSource
from potstill.dataset_file import Contents, Distilled, Provenance, Schema, build
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import baseline_order, take
from potstill.functional.hyper_gradients import ConjugateGradients
from potstill.nn import factory_for
from potstill.rng import derive_seed
from potstill.runs.load_data import as_splits, pick_device
from potstill.uses.search.split import split_training
from potstill.uses.search.training import Rows
from potstill.uses.search.validation_set.learn import LearnedRows, Plan, learn_validation_rows
from potstill.uses.search.validation_set.problems import Problem, losses, network_problem

__all__ = ["NETWORK_PLAN", "CalibratedPair", "calibrate", "calibrate_sources"]

NETWORK_PLAN = Plan(points=20, steps=400, solver=ConjugateGradients(steps=40, damping=1e-3, small=1e-8))
"""Usual plan with networks, whose Hessian is not positive definite everywhere. Ours."""
MAX_NUMBERS = 50_000_000
"""Numbers of ``dθ/dλ`` at all sampled points, at most: 400 MB."""


@dataclass(frozen=True, kw_only=True)
class CalibratedPair:
    """A training set and a validation set that rank hyperparameters together, and by themselves mean little."""

    train: Distilled
    """Real samples."""
    validation: Distilled
    """Learned inputs with the classes that they were given."""
    problem: Problem
    learned: LearnedRows

    def losses(self, settings: Sequence[Mapping[str, float | str | Sequence[float]]]) -> list[float]:
        """Return the validation loss of training on the pair with each setting; the lowest is the best.

        Args:
            settings: values of all hyperparameters of ``problem.space`` by name.

        Raises:
            PotstillError: a hyperparameter is missing, or its value is none of it.
        """
        points = torch.stack([self.problem.space.encode(one) for one in settings])
        found = losses(self.problem, rows_in_double(self.train), [rows_in_double(self.validation)], points)
        return [float(value) for value in found[:, 0]]


def calibrate(
    data: Any,
    networks: Sequence[str],
    *,
    decay: tuple[float, float] | float = (1e-4, 1.0),
    ipc: int = 5,
    validation_ipc: int = 2,
    plan: Plan = NETWORK_PLAN,
    validation: float = 0.2,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], object] = lambda *_: None,
) -> CalibratedPair:
    """Learn a validation set on which networks and weight decays rank as on the real data (HCDC, arXiv:2405.17535).

    Training is full-batch L-BFGS in float64 to a minimum of cross-entropy and half the weight decay times the squared
    norm; several networks are one mixture of their outputs. Only what moves that minimum can be tuned: no learning
    rate, batch size or number of updates. Settings outside of the range may rank in any order.

    Args:
        data: anything `potstill.load_data` takes or returns, with classes. The test split is not read.
        networks: names of networks without running statistics.
        decay: range of the weight decays of all layers, or one number that is not tuned.
        ipc: real training samples of each class.
        validation_ipc: learned validation samples of each class.
        plan: sampled settings, steps and solver.
        validation: fraction of the training data that validates, at most 2,000 samples.
        seed: seed of everything random.
        checkpoint: file that an interrupted call goes on from. Default: none.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: callback ``progress(name, done, total)``.

    Raises:
        PotstillError: the data have no classes, a network does not take them or has running statistics, nothing is
            tuned, or the sampled settings need more memory than `MAX_NUMBERS` numbers.
    """
    splits = as_splits(data, pick_device(device))
    train, held_out = split_training(splits.train, validation, seed)
    return calibrate_sources(
        train, held_out, networks, decay=decay, ipc=ipc, validation_ipc=validation_ipc, plan=plan, seed=seed,
        checkpoint=None if checkpoint is None else Path(checkpoint), progress=progress,
    )  # fmt: skip


def calibrate_sources(
    train: Source,
    held_out: Source,
    networks: Sequence[str],
    *,
    decay: tuple[float, float] | float,
    ipc: int,
    validation_ipc: int,
    plan: Plan,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[str, int, int], object] = lambda *_: None,
) -> CalibratedPair:
    """Return `calibrate` of a training part and a validation part of the data."""
    built = {
        name: factory_for(name, train)(derive_seed(seed, "network", name)).double().eval() for name in networks
    }  # fmt: skip
    problem = network_problem(built, decay=decay, groups=_layer)
    if (numbers := len(problem.start) * problem.space.size * plan.points) > MAX_NUMBERS:
        raise PotstillError(
            f"a validation set for {len(networks)} networks needs {numbers:,} numbers of {len(problem.start):,} "
            f"weights, but at most {MAX_NUMBERS:,} are allowed; give fewer or smaller networks, or fewer points"
        )
    chosen, first = (
        take(baseline_order(source, "random", derive_seed(seed, key), "hcdc"), count)
        for source, key, count in ((train, "small", ipc), (held_out, "initial", validation_ipc))
    )
    small, initial = _rows(train, chosen), _rows(held_out, first)
    learned = learn_validation_rows(
        problem, small, _rows(train), _rows(held_out), initial, plan, seed=seed, checkpoint=checkpoint,
        progress=progress,
    )  # fmt: skip
    settings = {
        "networks": list(networks), "decay": decay, "points": plan.points, "steps": plan.steps, "lr": plan.lr,
        "solver": repr(plan.solver), "ipc": ipc, "validation_ipc": validation_ipc,
    }  # fmt: skip
    sets = [
        _as_set(rows, train, config={**settings, "part": part}, seed=seed, seconds=seconds)
        for rows, part, seconds in ((small, "train", 0.0), (learned.rows, "validation", learned.seconds))
    ]
    return CalibratedPair(train=sets[0], validation=sets[1], problem=problem, learned=learned)


def rows_in_double(small: Distilled) -> Rows:
    """Return a set in model space, in float64."""
    return Rows(x=single_tensor(small.model_space(), "a calibrated pair").double(), y=small.labels)


def as_source(small: Distilled, like: Source) -> TensorSource:
    """Return a set as samples on which networks are scored, with the classes and inputs of the data."""
    x = single_tensor(small.inputs, "a calibrated pair")
    return TensorSource(
        name=f"validation set of {like.name}", input=small.input, classes=like.classes,
        normalization=small.normalization, inputs=x.to(like.device), labels=small.labels,
    )  # fmt: skip


def _layer(parameter: str) -> str:
    """Return the network and the layer of a parameter; a bias is of the layer of its weight."""
    return parameter.rpartition(".")[0]


def _rows(source: Source, at: Tensor | None = None) -> Rows:
    at = torch.arange(len(source)) if at is None else at
    x = single_tensor(source.fetch(at).x, "a calibrated pair")
    return Rows(x=x.double(), y=source.labels[at].to(x.device))


def _as_set(rows: Rows, like: Source, *, config: Mapping[str, Any], seed: int, seconds: float) -> Distilled:
    units = like.normalization.invert(rows.x.float())
    return build(
        Contents(inputs=units, labels=rows.y),
        Schema(classes=like.classes, input=like.input, normalization=like.normalization),
        Provenance(
            method="hcdc", config=config, seed=seed, ipc=int(rows.y.bincount().max()),
            source={"name": like.name, "samples": len(like), "hash": like.content_hash},
            cost={"seconds": round(seconds, 3)},
        ),
    )  # fmt: skip
