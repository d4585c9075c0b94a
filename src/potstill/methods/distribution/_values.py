"""The values that every method of feature matching has beside its paper's, and the engine that they build."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

from potstill.core import Asset, Problem, Space
from potstill.errors import PotstillError
from potstill.functional.param_groups import ParamGroup, ParamGroups
from potstill.methods.distribution._features import Features
from potstill.methods.distribution._statistics import Measure
from potstill.methods.engine import (
    EmbedderKind,
    FixedNetworks,
    Init,
    Labels,
    MatchingEngine,
    MatchingState,
    NetworkSource,
    default_param_groups,
    payload_bounds,
)
from potstill.pretraining import TrainedNetworks

RulesAt: TypeAlias = Callable[[MatchingState], ParamGroups]

__all__ = ["FeatureValues", "feature_matching", "in_trained"]


@dataclass(frozen=True, kw_only=True)
class FeatureValues:
    """What is not published, and every method has; the other fields are those of the final classes."""

    state_type: ClassVar[type] = MatchingState
    may_be_zero: ClassVar[tuple[str, ...]] = ("epochs_trained",)
    fractions: ClassVar[tuple[str, ...]] = ("momentum",)

    batch_real: int
    iterations: int
    lr: float
    momentum: float
    init_from: Init
    labels: Labels = "hard"
    """Learned labels weigh every sample in every class. Ours; hard as published."""
    lr_labels: float = 0.1
    """Learning rate of the labels' logits, where they are learned. Ours."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """What moves the stored values. Parametrizations with weights of their own (``field``) need AdamW."""
    reuse: int = 1
    """Steps with one network and its real statistics: more is faster and sees fewer networks. Ours; 1 as published."""
    embedders: EmbedderKind = "fresh"
    """Networks that embed: untrained ones, trained ones, or points on the line from one to the other (DANCE)."""
    networks_trained: int = 5
    """Networks that are trained before the first step, where trained ones embed. Ours."""
    epochs_trained: int = 20
    """Passes that each is trained for; 0 leaves them untrained. Ours."""
    batch_trained: int = 64
    """Batch of that training. Ours."""
    schedule_trained: Literal["steps", "cosine", "constant"] = "steps"
    """How its rate falls from 0.01: times 0.2 after 2/3 and 5/6 of the passes, along a cosine, or not. Ours."""
    augment_training: str = "idc"
    """Per-sample augmentation of that training. Ours."""


def feature_matching(
    method: FeatureValues,
    measure: Measure,
    *,
    rules: RulesAt | None = None,
    networks: NetworkSource | None = None,
    space: Space = "model",
    turns: bool = False,
    calibration: float = 0.0,
    known: bool = True,
) -> MatchingEngine:
    """The engine with these parts.

    Args:
        rules: how leaves move at a state; by default at the method's rates and momentum.
        networks: the method's own; by default what ``embedders`` says.
        turns: each class has a move of its own.
        calibration: weight of a descent down a trained classifier's loss.
        known: every step is an iteration.

    Raises:
        PotstillError: ``embedders`` says what cannot be with these parts.
    """
    if networks is not None and method.embedders != "fresh":
        raise PotstillError(
            f"{type(method).__name__} trains networks of its own, so embedders cannot be {method.embedders!r}; "
            "leave it out"
        )
    if calibration and method.embedders == "fresh":
        raise PotstillError(
            "calibration asks a trained network, but embedders is 'fresh'; choose trained or between, "
            "or set calibration to 0"
        )
    ready = FixedNetworks(
        trained=method.embedders != "fresh", interpolate=method.embedders == "between", with_classifier=calibration > 0
    )
    plain = default_param_groups(ParamGroup(lr=method.lr, momentum=method.momentum), method.lr_labels, method.optimizer)
    return MatchingEngine(
        objective=Features(
            measure=measure, batch_real=method.batch_real, reuse=method.reuse, space=space, turns=turns,
            calibration=calibration,
        ),
        networks=ready if networks is None else networks, required_assets=_needed(method),
        param_groups=lambda state, _: plain if rules is None else rules(state), iterations=method.iterations,
        steps=method.iterations if known else None, initial=method.init_from, labels=method.labels, space=space,
    )  # fmt: skip


def in_trained(
    method: FeatureValues, problem: Problem, measure: Measure, *, payload: ParamGroup, calibration: float, updates: str,
    factor: Callable[[MatchingState], float] | None = None,
) -> MatchingEngine:  # fmt: skip
    """What DANCE, NCFM and DSDM share: matching in trained networks, which may calibrate too.

    What is stored holds values in data units and is kept in [0, 1], as in these publications; they clamp once in an
    iteration, here it is done after every move.

    Args:
        factor: what all rates are multiplied with at a state.
    """
    bounded = replace(payload, bounds=payload_bounds(problem))

    def rules(state: MatchingState) -> ParamGroups:
        return default_param_groups(
            bounded, method.lr_labels, method.optimizer, 1.0 if factor is None else factor(state)
        )

    return feature_matching(
        method, measure, rules=rules, space="data", turns=updates == "class", calibration=calibration
    )


def _needed(method: FeatureValues) -> tuple[Asset, ...]:
    """The networks that are trained before."""
    if method.embedders == "fresh":
        return ()
    recipe: dict[str, float | int | str] = {
        "epochs": method.epochs_trained, "batch": method.batch_trained, "lr": 0.01, "momentum": 0.9,
        "weight_decay": 5e-4, "augment": method.augment_training, "cutmix": 0.5,
    }  # fmt: skip
    if method.schedule_trained != "steps":
        recipe["schedule"] = method.schedule_trained
    return (TrainedNetworks(name="networks", count=method.networks_trained, recipe=recipe),)
