"""The values that methods of trajectory matching share, their published tables, and the engine that they build."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import torch

from potstill.core import Problem
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
from potstill.methods.trajectory._chosen import ExpertInit
from potstill.methods.trajectory._trajectory import RATE, Span, TrajectoryEnds
from potstill.pretraining.trajectories import ExpertTrajectories

__all__ = ["GOOD", "QUICK", "Published", "Started", "TrajectoryValues", "following", "setting"]

T = TypeVar("T", bound="TrajectoryValues")

FURTHEST = 1000.0
"""The factor that a learned rate may be from its beginning, either way, so that no step makes it 0. Ours."""

QUICK: Mapping[str, Any] = {
    "networks_trained": 3, "epochs_trained": 8, "updates_trained": 80, "iterations": 150, "ahead": 1,
    "student_steps": 30, "optimizer": "adamw", "lr": 0.03, "lr_labels": 0.05, "lr_rate": 1e-5,
}  # fmt: skip
"""Of the family's quick effort: experts that learn on small data too, an end that a student can reach, and steps that
are as long whatever the scale of the slopes: at the published rate of SGD, 1,000, sets of 50 small inputs ran away.
Chosen on held-out training data (``benchmarks/small_data.py``; docs/strong.md)."""
GOOD: Mapping[str, Any] = {**QUICK, "networks_trained": 10, "iterations": 1000}
"""Of the effort ``good``: the same with more experts and more steps. With the rest as published sets of 50 small inputs
ran away here too, and experts of 25 epochs, whose last ones hardly move, led them away from what early ones teach
(ibid.)."""

Started: TypeAlias = Literal["real", "noise", "k-means", "right"]
"""What a set begins as; ``right``: real samples that experts classify rightly."""

Published: TypeAlias = Mapping[tuple[int, int], PublishedRun]
"""Classes and items per class of a published run → its settings and their source."""


def setting(table: Published, classes: int, ipc: int) -> PublishedRun:
    """The published run that is nearest: first in classes, then in items per class, both as ratios."""

    def away(run: tuple[int, int]) -> tuple[float, float]:
        return abs(math.log(run[0] / classes)), abs(math.log(run[1] / ipc))

    return table[min(table, key=away)]


@dataclass(frozen=True, kw_only=True)
class TrajectoryValues:
    """What every method of the family has. What is `BY_DATA` is that of the published run whose classes and items per
    class are nearest.

    ``lr_rate`` is the published rate of the student's rate β itself. Here log β moves, so that β stays above 0. To
    first order a step of SGD on log β with the rate lr_rate / β_0² moves β by −lr_rate (β / β_0)² ∂L/∂β, which is the
    published step where β is still β_0; as β falls, so do its steps.
    """

    state_type: ClassVar[type] = MatchingState
    may_be_zero: ClassVar[tuple[str, ...]] = ("batch", "start_from", "expansion", "updates_trained", "label_experts")
    fractions: ClassVar[tuple[str, ...]] = ("momentum", "momentum_labels", "average", "drop")
    positive: ClassVar[tuple[str, ...]] = ("lr_student",)
    published: ClassVar[Published]
    """The published runs."""

    iterations: Auto[int] = 5000
    """Steps (distill.py, --Iteration)."""
    student_steps: Auto[int] = AUTO
    """N: steps of the student (--syn_steps)."""
    ahead: Auto[int] = AUTO
    """M: epochs of the expert that it is compared with (--expert_epochs)."""
    start_from: Auto[int] = AUTO
    """The first epoch of experts that students start from."""
    start_first: Auto[int] = AUTO
    """They start below this epoch, in the beginning."""
    start_until: Auto[int] = AUTO
    """They start below this epoch, in the end (--max_start_epoch)."""
    expansion: Auto[int] = AUTO
    """Iterations over which the one bound grows to the other; 0: it is the latter from the beginning."""
    batch: Auto[int] = AUTO
    """Decoded samples of a student's step (--batch_syn); 0: all."""
    lr: Auto[float] = AUTO
    """Learning rate of what is stored (--lr_img), in model space. It is that of pixels for every parametrization."""
    momentum: float = 0.5
    """Its momentum (distill.py)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """What moves the stored values. Parametrizations with weights of their own (``field``) need AdamW."""
    lr_student: Auto[float] = AUTO
    """β_0: the rate that students train at, in the beginning (--lr_teacher); it is learned."""
    lr_rate: Auto[float] = AUTO
    """Learning rate of that rate, as published (--lr_lr); 0: it stays."""
    labels: Labels = "hard"
    """Learned labels join the optimisation; they begin as the experts' logits. Ours; hard as published."""
    label_experts: Auto[int] = 0
    """Experts whose mean logits learned labels begin as, the first ones; 0: for each sample, all that have it right."""
    lr_labels: Auto[float] = AUTO
    """Learning rate of the labels' logits, where they are learned (DATM's --lr_y)."""
    momentum_labels: float = 0.9
    """Momentum of the labels (DATM.py)."""
    mode: Literal["auto", "replay", "full", "by-memory", "tesla"] = "auto"
    """How the student's training is differentiated: ``replay`` exactly in the memory of one of its steps, ``full``
    exactly in one graph, ``auto`` in one graph where it is small and else in replay, whatever the machine,
    ``by-memory`` in one graph where a quarter of the machine's memory holds it (the last bits then depend on the
    machine, and the card says which it was), ``tesla`` by TESLA's approximation."""
    average: Auto[float] = 0.0
    """Above 0: the result is a moving average of what is stored, which keeps so much at every step (FTD)."""
    nearest: bool = False
    """Compare the student's step that comes nearest to the target, not its last (ATT)."""
    drop: Auto[float] = 0.0
    """The part of the parameters, those nearest to the target, that the loss leaves out (PAD)."""
    threshold: Auto[float] = 0.0
    """Above 0: steps with a larger loss are skipped (DATM)."""
    start: Auto[Started] = "real"
    """Start from random real samples, or from such as experts classify rightly (DATM)."""
    networks_trained: int = 100
    """Experts (buffer.py, --num_experts)."""
    epochs_trained: int = 50
    """Epochs of each (--train_epochs)."""
    lr_trained: float = 0.01
    """Their learning rate, of SGD (--lr_teacher)."""
    batch_trained: int = 256
    """Batch of their training (--batch_train)."""
    updates_trained: int = 0
    """An epoch of theirs has at least so many updates, by smaller batches where data are few: with six an epoch, as
    1,400 samples in batches of 256 give, experts hardly learn. 0: the batch is the same for all data, as published."""
    flat: bool = False
    """Train them towards flat minima, by GSAM with ρ = 0.01 (FTD)."""
    gsam_alpha: Auto[float] = 0.3
    """α of GSAM: how much of the gradient's orthogonal part is taken away (buffer_FTD.py, --alpha)."""
    curriculum: Literal["none", "pad"] = "none"
    """Show them easy samples first, and later leave the easiest out (PAD)."""
    augment_training: str = "dsa"
    """Per-sample augmentation of that training (--dsa)."""
    augment: str = "dsa"
    """Per-sample augmentation of the student's training (--dsa)."""
    network: str = "convnet"
    """Network of experts and students."""
    parametrization: str = "pixels"
    """What is optimised."""

    def resolve_defaults(self: T, problem: Problem) -> tuple[T, tuple[str, ...]]:
        """With what is left to the data. A published span that experts do not reach is cut, which is said."""
        nearby = setting(self.published, problem.num_classes, problem.ipc).settings
        left = [f.name for f in fields(self) if f.default is None and getattr(self, f.name) is None]
        values: dict[str, Any] = {n: {**_USUAL, **nearby}.get(n) for n in left}
        until = self.start_until if self.start_until is not None else nearby["start_until"]
        if "start_first" in values and values["start_first"] is None:
            values["start_first"] = until
        made, said = replace(self, **values), tuple[str, ...]()
        ahead = min(made.ahead, made.epochs_trained) if "ahead" in left else made.ahead
        reached = made.epochs_trained + 1 - ahead
        if "start_until" in left and made.start_until > reached:
            said = (
                f"students start from experts' epochs below {max(reached, 1)}, where {made.start_until} is published: "
                f"experts have {made.epochs_trained}",
            )
        fewer = len(problem.train) // made.updates_trained if made.updates_trained else made.batch_trained
        if fewer < made.batch_trained:
            made = replace(made, batch_trained=max(fewer, SMALLEST_BATCH))
            said += (f"experts train in batches of {made.batch_trained}, as there are {len(problem.train):,} samples",)
        cut: dict[str, Any] = {"ahead": ahead}
        cut |= {n: max(min(getattr(made, n), reached), 1) for n in ("start_until", "start_first") if n in left}
        if "start_from" in left:
            cut["start_from"] = min(made.start_from, max(reached - 1, 0))
        made = replace(made, **cut)
        if made.mode == "by-memory":
            n = sum(problem.sizes)
            mode, why = choose_mode_by_memory(problem, min(made.batch, n) or n, made.student_steps)
            made, said = replace(made, mode=mode), (*said, why)
        return made, said


SMALLEST_BATCH = 8
"""Below it an update is noise: tiny data have fewer updates an epoch instead."""

_USUAL: Settings = {
    "start_from": 0, "expansion": 0, "batch": 0, "lr_student": 0.01, "lr_labels": 2.0, "threshold": 0.0, "drop": 0.0,
    "average": 0.0, "label_experts": 0, "start": "right", "gsam_alpha": 0.3,
}  # fmt: skip
"""Where a published run says nothing else."""


def following(method: TrajectoryValues, problem: Problem) -> MatchingEngine:
    """The engine of a method.

    Raises:
        PotstillError: fields are left to the data, or students would start or be compared beyond the experts' end.
    """
    if left := [f.name for f in fields(method) if f.default is None and getattr(method, f.name) is None]:
        name = type(method).__name__
        raise PotstillError(
            f"{name} leaves {left[0]} to the data; take method.resolve_defaults(problem)[0], or give {left[0]}"
        )
    latest = max(method.start_until, method.start_first) - 1 + method.ahead
    if latest > method.epochs_trained:
        raise PotstillError(
            f"students start below epoch {max(method.start_until, method.start_first)} and are compared with experts "
            f"{method.ahead} later, so experts must have {latest} epochs, but they have {method.epochs_trained}; raise "
            "epochs_trained, or lower start_until or ahead"
        )
    if method.start_from >= method.start_until:
        raise PotstillError(
            f"start_from must be below start_until, but they are {method.start_from} and {method.start_until}"
        )
    recipe: dict[str, float | int | str] = {
        "epochs": method.epochs_trained, "batch": method.batch_trained, "lr": method.lr_trained,
        "augment": method.augment_training,
    }  # fmt: skip
    if method.flat:
        recipe |= {"optimizer": "gsam", "rho": 0.01, "alpha": method.gsam_alpha}
    if method.curriculum != "none":
        recipe["curriculum"] = method.curriculum
    return MatchingEngine(
        objective=TrajectoryEnds(
            steps=method.student_steps, ahead=method.ahead, batch=method.batch, nearest=method.nearest,
            mode=objective_mode(method.mode),
            span=Span(
                low=method.start_from, first=method.start_first, last=method.start_until, over=method.expansion
            ),
            drop=method.drop, threshold=method.threshold,
        ),
        networks=FixedNetworks(),
        required_assets=(ExpertTrajectories(count=method.networks_trained, recipe=recipe, needed=latest),),
        param_groups=lambda state, last: moving(method), iterations=method.iterations, steps=method.iterations,
        initial=_start(method), labels=method.labels, extra_parameters={RATE: torch.tensor(method.lr_student)},
        ema_decay=method.average,
    )  # fmt: skip


def moving(method: TrajectoryValues) -> ParamGroups:
    """How each leaf moves. The student's rate stays within `FURTHEST` of what it begins as."""
    begun, reach = math.log(method.lr_student), math.log(FURTHEST)
    return {
        "payload/": ParamGroup(lr=method.lr, momentum=method.momentum, optimizer=method.optimizer),
        "labels/": ParamGroup(lr=method.lr_labels, momentum=method.momentum_labels, optimizer=method.optimizer),
        "student/": ParamGroup(
            lr=method.lr_rate / method.lr_student**2,
            momentum=0.5,
            log_scale=True,
            bounds=(begun - reach, begun + reach),
        ),
    }


def _start(method: TrajectoryValues) -> Init | InitStrategy:
    if method.start == "right" or (method.labels == "learned" and method.start != "noise"):
        return ExpertInit(how=method.start, label_experts=method.label_experts)
    return method.start
