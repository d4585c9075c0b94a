"""Fields that all feature matching methods share, and the engine that they build."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, TypeAlias

from potstill.core import Asset, NonNegativeInt, Problem, Space
from potstill.errors import PotstillError
from potstill.functional.param_groups import ParamGroup, ParamGroups
from potstill.methods.distribution._features import FeatureObjective
from potstill.methods.distribution._statistics import DistributionObjective
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

__all__ = ["FeatureMatchingFields", "feature_matching", "match_in_trained_networks"]


@dataclass(frozen=True, kw_only=True)
class FeatureMatchingFields:
    """Abstract: the fields that all methods share; most are not published."""

    state_type: ClassVar[type] = MatchingState

    batch_real: int
    iterations: int
    lr: float
    momentum: float
    init_from: Init = "real"
    """Initial images: random real samples, noise, or real samples nearest to k-means centres."""
    augment: str = "dsa"
    """Siamese augmentation."""
    network: str = "convnet"
    """Network that embeds."""
    parametrization: str = "pixels"
    """Stored and optimised representation."""
    labels: Labels = "hard"
    """Hard labels, as published, or learned ones, which weight every sample in every class. Ours."""
    lr_labels: float = 0.1
    """Learning rate of learned labels' logits. Ours."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimiser of the stored values. Parametrizations with weights of their own (``field``) need AdamW."""
    steps_per_network: int = 1
    """Steps per network and its real statistics: more is faster with fewer networks. Ours; 1 as published."""
    embedders: EmbedderKind = "fresh"
    """Networks that embed: untrained, trained, or interpolated between the two (DANCE)."""
    pretrained_networks: int = 5
    """Pretrained networks, if trained ones embed. Ours."""
    pretrain_epochs: NonNegativeInt = 20
    """Training epochs of each; 0 leaves them untrained. Ours."""
    pretrain_batch: int = 64
    """Batch size of that training. Ours."""
    pretrain_schedule: Literal["steps", "cosine", "constant"] = "steps"
    """Learning rate schedule from 0.01: times 0.2 after 2/3 and 5/6 of the epochs, cosine, or constant. Ours."""
    pretrain_augment: str = "idc"
    """Per-sample augmentation of that training. Ours."""


def feature_matching(
    method: FeatureMatchingFields, measure: DistributionObjective, *, rules: RulesAt | None = None,
    networks: NetworkSource | None = None, space: Space = "model", turns: bool = False, calibration: float = 0.0,
    fixed_steps: bool = True,
) -> MatchingEngine:  # fmt: skip
    """Return the matching engine with these parts.

    Args:
        rules: parameter groups by state; default: the method's learning rates and momentum.
        networks: the method's network source; default: that of ``embedders``.
        turns: True if every class has an update of its own.
        calibration: weight of an update by a trained classifier's loss.
        fixed_steps: True if every step is an iteration.

    Raises:
        PotstillError: ``embedders`` does not suit these parts.
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
        objective=FeatureObjective(
            measure=measure, batch_real=method.batch_real, steps_per_network=method.steps_per_network, space=space,
            turns=turns,
            calibration=calibration,
        ),
        networks=ready if networks is None else networks, required_assets=_needed(method),
        param_groups=lambda state, _: plain if rules is None else rules(state), iterations=method.iterations,
        steps=method.iterations if fixed_steps else None, initial=method.init_from, labels=method.labels, space=space,
    )  # fmt: skip


def match_in_trained_networks(
    method: FeatureMatchingFields, problem: Problem, measure: DistributionObjective, *, payload: ParamGroup,
    calibration: float, updates: str,
    factor: Callable[[MatchingState], float] | None = None,
) -> MatchingEngine:  # fmt: skip
    """Return the engine of DANCE, NCFM and DSDM: matching in trained networks, optionally with calibration.

    Stored values are in data units and clamped to [0, 1] after every update (the publications: once per iteration).

    Args:
        factor: factor of all learning rates, by state.
    """
    bounded = replace(payload, bounds=payload_bounds(problem))

    def rules(state: MatchingState) -> ParamGroups:
        return default_param_groups(
            bounded, method.lr_labels, method.optimizer, 1.0 if factor is None else factor(state)
        )

    return feature_matching(
        method, measure, rules=rules, space="data", turns=updates == "class", calibration=calibration
    )


def _needed(method: FeatureMatchingFields) -> tuple[Asset, ...]:
    """Return the networks to train before the first step."""
    if method.embedders == "fresh":
        return ()
    recipe: dict[str, float | int | str] = {
        "epochs": method.pretrain_epochs, "batch": method.pretrain_batch, "lr": 0.01, "momentum": 0.9,
        "weight_decay": 5e-4, "augment": method.pretrain_augment, "cutmix": 0.5,
    }  # fmt: skip
    if method.pretrain_schedule != "steps":
        recipe["schedule"] = method.pretrain_schedule
    return (TrainedNetworks(name="networks", count=method.pretrained_networks, recipe=recipe),)
