"""The values that methods of trajectory matching share, their presets, and the engine that is built from them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

from potstill.core import NonNegativeInt, PositiveFloat, Presets, Problem, UnitFloat
from potstill.errors import PotstillError
from potstill.functional.param_groups import ParamGroup, ParamGroups
from potstill.methods.engine import (
    AUTO,
    Auto,
    FixedNetworks,
    Init,
    InitStrategy,
    Labels,
    MatchingEngine,
    MatchingState,
    PublishedRun,
    Settings,
    choose_mode_by_memory,
    objective_mode,
)
from potstill.methods.engine.joint_pairs import PrototypeInit
from potstill.methods.trajectory._expert_init import ExpertInit
from potstill.methods.trajectory._objective import STUDENT_LR, TrajectoryDistance
from potstill.methods.trajectory._parts import StartEpochs, TrajectoryParts, gsam_training
from potstill.pretraining.trajectories import ExpertTrajectories

__all__ = [
    "GOOD", "PAIRS", "QUICK", "AlignedFields", "InitFrom", "PairFields", "Published", "TrajectoryFields",
    "build_trajectory_engine", "nearest_run",
]  # fmt: skip

T = TypeVar("T", bound="TrajectoryFields")

MAX_LR_FACTOR = 1000.0
"""Largest ratio of a learned rate to its initial value, either way, so that no step makes it 0. Ours."""

QUICK: Mapping[str, Any] = {
    "num_experts": 3, "train_epochs": 8, "min_updates_per_epoch": 80, "iterations": 150, "expert_epochs": 1,
    "student_steps": 30, "optimizer": "adamw", "lr": 0.03, "lr_labels": 0.05, "lr_lr": 1e-5, "init_from": "k-means",
}  # fmt: skip
"""Preset ``quick``: experts that learn on small data too, a target that a student can reach, and steps whose length
does not depend on the scale of the gradients: at the published rate of SGD, 1,000,
sets of 50 small inputs diverged. Chosen
on held-out training data (``benchmarks/small_data.py``; docs/benchmarks/strong.md)."""
GOOD: Mapping[str, Any] = {**QUICK, "num_experts": 10, "iterations": 1000}
"""Preset ``good``: more experts and steps. With the published values for the rest, sets of 50 small inputs diverged,
and the last epochs of 25, in which experts hardly move, led them away from what early ones teach (ibid.)."""

PAIRS: Mapping[str, Any] = {"min_updates_per_epoch": 20, "student_steps": 8, "batch": 50, "lr": 0.01}
"""Values of the presets: as many student steps as published, on batches that a processor can afford, and a rate that
leaves pictures smooth enough to be coded in few bytes (chosen on held-out training data)."""

InitFrom: TypeAlias = Literal["real", "noise", "k-means", "right"]
"""Initial samples; ``right``: real samples that experts classify correctly."""

Published: TypeAlias = Mapping[tuple[int, int], PublishedRun]
"""Published runs by (classes, items per class)."""

MIN_EXPERT_BATCH = 8
"""Smallest batch that ``min_updates_per_epoch`` leads to: tiny data have fewer updates an epoch instead."""

_USUAL: Settings = {
    "min_start_epoch": 0, "expansion_end": 0, "batch": 0, "lr_student": 0.01, "lr_labels": 2.0, "threshold": 0.0,
    "drop_ratio": 0.0, "ema_decay": 0.0, "label_experts": 0, "init_from": "right", "gsam_alpha": 0.3,
}  # fmt: skip
"""Values of fields that a published run does not name."""


def nearest_run(runs: Published, classes: int, ipc: int) -> PublishedRun:
    """Return the published run that is nearest in classes, then in items per class, both as ratios."""

    def log_ratios(run: tuple[int, int]) -> tuple[float, float]:
        return abs(math.log(run[0] / classes)), abs(math.log(run[1] / ipc))

    return runs[min(runs, key=log_ratios)]


@dataclass(frozen=True, kw_only=True)
class TrajectoryFields:
    """Abstract: fields that all methods of the family have.

    A field whose default is `AUTO` takes the value of the published run whose classes and items per class are nearest.
    ``lr_lr`` is the published learning rate of the student's rate β itself. Here log β moves, so that β stays above 0:
    to first order a step of SGD on log β with the rate lr_lr / β_0² moves β by −lr_lr (β / β_0)² ∂L/∂β, which is the
    published step where β is still β_0; as β falls, so do its steps.
    """

    state_type: ClassVar[type] = MatchingState
    presets: ClassVar[Presets] = {"quick": QUICK, "good": GOOD}
    published: ClassVar[Published]

    iterations: Auto[int] = 5000
    """Steps (distill.py, --Iteration)."""
    student_steps: Auto[int] = AUTO
    """N: steps of the student (--syn_steps)."""
    expert_epochs: Auto[int] = AUTO
    """M: epochs of the expert between the student's start and its target (--expert_epochs)."""
    max_start_epoch: Auto[int] = AUTO
    """Students start below this epoch of an expert (--max_start_epoch)."""
    batch: Auto[NonNegativeInt] = AUTO
    """Decoded samples of a student's step (--batch_syn); 0: all."""
    lr: Auto[float] = AUTO
    """Learning rate of the synthetic inputs (--lr_img), in model space; the same for every parametrization."""
    momentum: UnitFloat = 0.5
    """Momentum of the synthetic inputs (distill.py)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimizer of the stored values. Parametrizations with network weights (``field``) need AdamW."""
    lr_student: Auto[PositiveFloat] = AUTO
    """β_0: initial learning rate of students (--lr_teacher); it is learned."""
    lr_lr: Auto[float] = AUTO
    """Learning rate of that learning rate, as published (--lr_lr); 0: it stays."""
    labels: Labels = "hard"
    """Learned labels are optimised too, from the experts' logits on. Ours; hard as published."""
    lr_labels: Auto[float] = AUTO
    """Learning rate of the labels' logits, where they are learned (DATM's --lr_y)."""
    momentum_labels: UnitFloat = 0.9
    """Momentum of the labels (DATM.py)."""
    mode: Literal["auto", "replay", "full", "by-memory", "tesla"] = "auto"
    """Differentiation of the student's training: ``replay`` exactly in the memory of one step, ``full`` exactly in one
    graph, ``auto`` full where the graph is small and else replay, on every machine alike, ``by-memory`` full where a
    quarter of the machine's memory holds it (the last bits then depend on the machine, and the metadata name the mode),
    ``tesla`` by TESLA's approximation."""
    init_from: Auto[InitFrom] = "real"
    """Initial samples: random real ones, noise, nearest to k-means centres, or classified correctly by experts."""
    num_experts: int = 100
    """Experts (buffer.py, --num_experts)."""
    train_epochs: int = 50
    """Epochs of each expert (--train_epochs)."""
    expert_lr: float = 0.01
    """Learning rate of the experts' SGD (--lr_teacher)."""
    expert_batch: int = 256
    """Batch of the experts' training (--batch_train)."""
    min_updates_per_epoch: NonNegativeInt = 0
    """Fewest updates in an epoch of the experts, by smaller batches where data are few: with six an epoch, as 1,400
    samples in batches of 256 give, experts hardly learn. 0: the batch is the same for all data, as published."""
    expert_augment: str = "dsa"
    """Per-sample augmentation of the experts' training (--dsa)."""
    augment: str = "dsa"
    """Per-sample augmentation of the student's training (--dsa)."""
    network: str = "convnet"
    """Network of experts and students."""
    parametrization: str = "pixels"
    """Parametrization of the synthetic inputs."""

    def resolve_defaults(self: T, problem: Problem) -> tuple[T, tuple[str, ...]]:
        """Fill in the fields left to the data; published start epochs that experts do not reach are cut."""
        published = nearest_run(self.published, problem.num_classes, problem.ipc).settings
        unset = _unset_fields(self)
        values: dict[str, Any] = {n: {**_USUAL, **published}.get(n) for n in unset}
        if "initial_start_epoch" in values and values["initial_start_epoch"] is None:
            given = self.max_start_epoch
            values["initial_start_epoch"] = given if given is not None else published["max_start_epoch"]
        method, notes = replace(self, **values), tuple[str, ...]()
        expert_epochs = method.expert_epochs
        if "expert_epochs" in unset:
            expert_epochs = min(expert_epochs, method.train_epochs)
        reachable = method.train_epochs + 1 - expert_epochs
        if "max_start_epoch" in unset and method.max_start_epoch > reachable:
            notes = (
                f"students start from experts' epochs below {max(reachable, 1)}, where {method.max_start_epoch} is "
                f"published: experts have {method.train_epochs}",
            )
        batch = method.expert_batch
        if method.min_updates_per_epoch:
            batch = len(problem.train) // method.min_updates_per_epoch
        if batch < method.expert_batch:
            method = replace(method, expert_batch=max(batch, MIN_EXPERT_BATCH))
            notes += (
                f"experts train in batches of {method.expert_batch}, as there are {len(problem.train):,} samples",
            )
        cut: dict[str, Any] = {"expert_epochs": expert_epochs}
        for name in ("max_start_epoch", "initial_start_epoch"):
            if name in unset:
                cut[name] = max(min(getattr(method, name), reachable), 1)
        if "min_start_epoch" in unset:
            cut["min_start_epoch"] = min(values["min_start_epoch"], max(reachable - 1, 0))
        method = replace(method, **cut)
        if method.mode == "by-memory":
            n = sum(problem.sizes)
            mode, why = choose_mode_by_memory(problem, min(method.batch, n) or n, method.student_steps)
            method, notes = replace(method, mode=mode), (*notes, why)
        return method, notes


def _unset_fields(method: TrajectoryFields) -> list[str]:
    return [f.name for f in fields(method) if f.default is None and getattr(method, f.name) is None]


def build_trajectory_engine(
    method: TrajectoryFields, problem: Problem, parts: TrajectoryParts | None = None
) -> MatchingEngine:
    """Return the engine of a method.

    Args:
        method: the values, with all defaults resolved.
        problem: the data, networks and experts.
        parts: choices of the paper beyond MTT's; ``None``: MTT.

    Raises:
        PotstillError: fields are left to the data, or students would start or be compared beyond the experts' end.
    """
    parts = TrajectoryParts() if parts is None else parts
    if unset := _unset_fields(method):
        name = type(method).__name__
        raise PotstillError(
            f"{name} leaves {unset[0]} to the data; take method.resolve_defaults(problem)[0], or give {unset[0]}"
        )
    last = method.max_start_epoch
    epochs = parts.start_epochs or StartEpochs(low=0, initial_high=last, high=last)
    needed = max(epochs.high, epochs.initial_high) - 1 + method.expert_epochs
    if needed > method.train_epochs:
        raise PotstillError(
            f"students start below epoch {max(epochs.high, epochs.initial_high)} and are compared with experts "
            f"{method.expert_epochs} later, so experts must have {needed} epochs, but they have {method.train_epochs}; "
            "raise train_epochs, or lower max_start_epoch or expert_epochs"
        )
    if epochs.low >= epochs.high:
        raise PotstillError(
            f"min_start_epoch must be below max_start_epoch, but they are {epochs.low} and {epochs.high}"
        )
    training: dict[str, float | int | str] = {
        "epochs": method.train_epochs, "batch": method.expert_batch, "lr": method.expert_lr,
        "augment": method.expert_augment, **parts.expert_training,
    }  # fmt: skip
    initial: Init | InitStrategy
    if parts.initial is not None:
        initial = parts.initial
    elif method.init_from == "right" or (method.labels == "learned" and method.init_from != "noise"):
        initial = ExpertInit(select=method.init_from, label_experts=parts.label_experts)
    else:
        initial = method.init_from
    return MatchingEngine(
        objective=TrajectoryDistance(
            student_steps=method.student_steps, expert_epochs=method.expert_epochs, batch=method.batch,
            mode=objective_mode(method.mode), start_epochs=epochs, distance=parts.distance, stop_rule=parts.stop_rule,
            max_loss=parts.max_loss, per_tower=parts.per_tower, criterion=parts.criterion,
            expert_labels=parts.expert_labels,
        ),
        networks=FixedNetworks(),
        required_assets=(ExpertTrajectories(count=method.num_experts, recipe=training, needed=needed),),
        param_groups=lambda state, last: trajectory_param_groups(method), iterations=method.iterations,
        steps=method.iterations, initial=initial, labels=method.labels,
        extra_parameters={
            STUDENT_LR: torch.full((2,), method.lr_student) if parts.per_tower else torch.tensor(method.lr_student)
        },
        export_learned=_export_tower_rates if parts.per_tower else dict, ema_decay=parts.ema_decay,
        learned_targets=parts.learned_targets,
    )  # fmt: skip


def _export_tower_rates(learned: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the learned rates: that of the first view for the student, as VL-Distill trains, and both by tower."""
    rates = learned[STUDENT_LR]
    return {STUDENT_LR: rates[0].clone(), f"{STUDENT_LR}/towers": rates}


def trajectory_param_groups(method: TrajectoryFields) -> ParamGroups:
    """Return the parameter groups; the student's rate stays within `MAX_LR_FACTOR` of its initial value."""
    initial, reach = math.log(method.lr_student), math.log(MAX_LR_FACTOR)
    return {
        "payload/": ParamGroup(lr=method.lr, momentum=method.momentum, optimizer=method.optimizer),
        "labels/": ParamGroup(lr=method.lr_labels, momentum=method.momentum_labels, optimizer=method.optimizer),
        "student/": ParamGroup(
            lr=method.lr_lr / method.lr_student**2, momentum=0.5, log_scale=True,
            bounds=(initial - reach, initial + reach),
        ),
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PairFields:
    """Fields of VL-Distill and LoRS, whose experts have an encoder for each view."""

    num_experts: int = 20
    """Experts (buffer.py, --num_experts)."""
    train_epochs: int = 10
    """Epochs of each expert (--train_epochs)."""
    expert_lr: float = 0.1
    """Learning rate of the experts' SGD, of both encoders (--lr_teacher_img, --lr_teacher_txt)."""
    expert_batch: int = 128
    """Batch of the experts' training (--batch_train)."""
    network: str = "towers"
    """Network of experts and students, with an encoder for each view."""

    def pair_parts(self, init_from: InitFrom) -> TrajectoryParts:
        """Return VL-Distill's parts; centres of k-means are those of both views of pairs, not of an embedding."""
        return TrajectoryParts(per_tower=True, initial=PrototypeInit() if init_from == "k-means" else None)


@dataclass(frozen=True, kw_only=True)
class AlignedFields:
    """Fields of DATM and PAD, which align the experts' epochs with the size of the set."""

    presets: ClassVar[Presets] = {
        "quick": {**QUICK, "expansion_end": 50, "init_from": "right", "label_experts": 0},
        "good": {**GOOD, "expansion_end": 300, "init_from": "right", "label_experts": 0},
    }  # fmt: skip

    iterations: int = 10_000
    """Steps (configs, Iteration)."""
    min_start_epoch: Auto[NonNegativeInt] = AUTO
    """First epoch of experts that students start from (configs, min_start_epoch)."""
    initial_start_epoch: Auto[int] = AUTO
    """Students start below this epoch at first (configs, current_max_start_epoch)."""
    max_start_epoch: Auto[int] = AUTO
    """Students start below this epoch in the end (configs, max_start_epoch)."""
    expansion_end: Auto[NonNegativeInt] = AUTO
    """Iterations over which that bound grows to ``max_start_epoch`` (configs, expansion_end_epoch); 0: no growth."""
    threshold: Auto[float] = AUTO
    """Steps with a larger loss are skipped (configs, threshold); 0: none."""
    labels: Labels = "learned"
    """Soft labels are learned."""
    label_experts: Auto[NonNegativeInt] = AUTO
    """Experts whose mean logits labels begin as; 0: for each sample, all that classify it correctly."""
    init_from: Auto[InitFrom] = AUTO
    """Initial samples: those that experts classify correctly, or random real ones (configs, pix_init)."""
    gsam: bool = True
    """Train experts towards flat minima, by GSAM with ρ = 0.01; otherwise by SGD."""
    gsam_alpha: Auto[float] = 0.3
    """α of GSAM: weight of the gradient's orthogonal part (buffer_FTD.py, --alpha)."""
    train_epochs: int = 100
    """Epochs of each expert."""

    def aligned_parts(self) -> TrajectoryParts:
        """Return DATM's parts."""
        return TrajectoryParts(
            start_epochs=StartEpochs(
                low=self.min_start_epoch, initial_high=self.initial_start_epoch, high=self.max_start_epoch,
                expansion_end=self.expansion_end,
            ),
            max_loss=self.threshold, label_experts=self.label_experts,
            expert_training=gsam_training(self.gsam_alpha) if self.gsam else {},
        )  # fmt: skip
