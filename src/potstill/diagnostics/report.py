"""The diagnostics report: its parts, their estimated cost, and all of them as one JSON document."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from potstill.diagnostics import (
    augmentation_value,
    calibration,
    early_stopped_teachers,
    influence,
    likeness,
    nearest_real,
    sharpness,
    zero_shot,
)
from potstill.diagnostics.bench import Bench, Condition
from potstill.errors import PotstillError, unknown_name
from potstill.evaluation.fitting import same_content
from potstill.evaluation.forecast import measure_step_seconds

__all__ = ["FORMAT", "PARTS", "DiagnosticOptions", "default_parts", "estimate_costs", "run_diagnostics"]

FORMAT = "potstill/study/1"
_HVP = 4.0
"""Cost of a Hessian-vector product in updates: the gradient of a gradient."""


@dataclass(frozen=True, kw_only=True)
class DiagnosticOptions:
    """Options of the parts."""

    parts: tuple[str, ...]
    amounts: tuple[int, ...] = augmentation_value.AMOUNTS
    """Numbers of real samples per class that are added to the set."""
    stops: tuple[int, ...] = early_stopped_teachers.STOPS
    """Updates after which networks of real data are evaluated."""
    groups: int = influence.MAX_GROUPS
    """Maximum number of groups of items that are left out."""
    descriptions: zero_shot.ClassDescriptions | None = None
    """Descriptions of classes of pictures with texts, by class; ``None``: their names alone."""

    def __post_init__(self) -> None:
        for name in self.parts:
            if name not in PARTS:
                raise unknown_name("part of a study", name, tuple(PARTS))
        if not self.parts:
            raise PotstillError(f"a study needs at least one part; there are {', '.join(PARTS)}")
        for what, numbers in (("amounts", self.amounts), ("stops", self.stops), ("groups", (self.groups,))):
            if not numbers or min(numbers) < 1 or list(numbers) != sorted(set(numbers)):
                raise PotstillError(
                    f"{what} of a study must be whole numbers above 0 that rise, not {', '.join(map(str, numbers))}"
                )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One part: its function, training conditions, and needs."""

    measure: Callable[[Bench, DiagnosticOptions], dict[str, Any]]
    conditions: Callable[[Bench, DiagnosticOptions], list[Condition]] = lambda bench, options: []
    needs_stopped_networks: bool = False
    """Needs early-stopped networks of real data."""
    needs_trained_networks: bool = False
    """Needs networks that are trained on all data as students are."""
    classes: bool = True
    obstacle: Callable[[Bench], str | None] = lambda bench: None
    """Why the data do not allow it; such a part is no default."""


PARTS: Mapping[str, _Part] = {
    "nearest": _Part(measure=lambda bench, options: nearest_real.find_nearest(bench), classes=False),
    "likeness": _Part(
        measure=lambda bench, options: likeness.measure_likeness(bench), needs_trained_networks=True, classes=False,
    ),
    "labeller": _Part(
        measure=lambda bench, options: early_stopped_teachers.measure_readability(bench, options.stops),
        needs_stopped_networks=True,
    ),
    "calibration": _Part(
        measure=lambda bench, options: calibration.measure_calibration(bench),
        conditions=lambda bench, options: calibration.conditions(bench),
    ),
    "mixing": _Part(
        measure=lambda bench, options: augmentation_value.measure_mixing(bench, options.amounts),
        conditions=lambda bench, options: augmentation_value.conditions(bench, options.amounts), classes=False,
    ),
    "agreement": _Part(
        measure=lambda bench, options: early_stopped_teachers.measure_agreement(bench, options.stops),
        conditions=lambda bench, options: early_stopped_teachers.conditions(bench), needs_stopped_networks=True,
    ),
    "curvature": _Part(measure=lambda bench, options: sharpness.measure_curvature(bench), classes=False),
    "influence": _Part(
        measure=lambda bench, options: influence.measure_influence(bench, options.groups),
        conditions=lambda bench, options: influence.conditions(bench, options.groups), classes=False,
    ),
    "zero-shot": _Part(
        measure=lambda bench, options: zero_shot.measure_zero_shot(bench, options.descriptions),
        conditions=lambda bench, options: zero_shot.conditions(bench), classes=False, obstacle=zero_shot.obstacle,
    ),
}  # fmt: skip
"""Parts by name, cheap ones first."""


def _without(bench: Bench, name: str) -> str | None:
    """Return why a part is left out; ``None`` if it is not."""
    if PARTS[name].classes and not bench.classes:
        return f"it is about classes, but the task is {bench.task.name}"
    if (obstacle := PARTS[name].obstacle(bench)) is not None:
        return obstacle
    if name == "influence" and len(bench.distilled) < 2:
        return "without its only item nothing is left of the set"
    return None


def default_parts(bench: Bench) -> tuple[str, ...]:
    """Return the parts that are computed where none is named: all to which there is no obstacle."""
    return tuple(name for name, part in PARTS.items() if part.obstacle(bench) is None)


def estimate_costs(bench: Bench, options: DiagnosticOptions) -> dict[str, dict[str, Any]]:
    """Return students, networks of real data and seconds on one worker for each part, from a few timed updates.

    Shared work counts for the first part.
    """
    most = bench.protocol.recipe.batch
    small = max(1, min(most, len(bench.distilled)))
    few, many = (measure_step_seconds(bench.make, bench.real, n) for n in (small, most))

    def step(samples: int) -> float:
        """Seconds of an update, interpolated; beyond a batch in proportion."""
        n = min(samples, most)
        one = few + max(0.0, many - few) * (n - small) / max(1, most - small)
        return max(one, 0.0) * max(1.0, samples / most)

    answers, updates = len(bench.eval_source) * many / most / 3, bench.protocol.recipe.steps[0]
    trained_names: set[str] = set()
    walked, costs = False, dict[str, dict[str, Any]]()
    for name in options.parts:
        part = PARTS[name]
        if _without(bench, name) is not None:
            continue
        fresh = {lesson.name: lesson for lesson in part.conditions(bench, options) if lesson.name not in trained_names}
        trained_names |= fresh.keys()
        seconds = sum(bench.students * (updates * step(min(most, of.items)) + answers) for of in fresh.values())
        networks = 0
        if part.needs_stopped_networks and not walked:
            networks, walked = early_stopped_teachers.count_networks(bench), True
            each = options.stops[-1] * step(early_stopped_teachers.BATCH) + len(options.stops) * answers
            seconds += networks * each
        if part.needs_trained_networks:
            networks += likeness.count_networks(bench)
            seconds += likeness.count_networks(bench) * (updates * step(most) + answers)
        if name == "curvature":
            sizes = sharpness.count_samples(bench), len(bench.distilled)
            products = (sharpness.VECTORS + sharpness.PRODUCTS) * sum(map(step, sizes))
            seconds += 2 * sharpness.count_students(bench) * (updates * step(sizes[1]) + _HVP * products)
        costs[name] = {"students": bench.students * len(fresh), "networks": networks, "seconds": seconds}
    return costs


def run_diagnostics(
    bench: Bench, options: DiagnosticOptions, forecast: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Compute the parts.

    Args:
        forecast: result of `estimate_costs`, to report beside the actual cost.

    Returns:
        JSON: ``parts`` by name, ``left_out`` with the reason of each that does not fit the data, ``recipe`` of the
        students, ``asked`` (split, number of samples), ``cost`` (seconds expected and taken, of each part).
    """
    parts, left, seconds = dict[str, Any](), dict[str, str](), dict[str, float]()
    for name in options.parts:
        begun = time.monotonic()
        try:
            if (why := _without(bench, name)) is not None:
                raise PotstillError(why)
            parts[name] = PARTS[name].measure(bench, options)
            seconds[name] = round(time.monotonic() - begun, 3)
        except PotstillError as error:
            left[name] = str(error)
    small, recipe = bench.distilled, bench.protocol.recipe
    return {
        "format": FORMAT,
        "set": {
            "method": small.metadata["method"], "ipc": small.metadata["ipc"], "items": len(small),
            "source": small.metadata["source"].get("name"), "seed": small.metadata["seed"],
        },
        "data": {
            "name": bench.real.name, "samples": len(bench.real),
            "made_of_train": same_content(small.metadata["source"].get("hash"), bench.real.content_hash)
            if bench.eval_split == "test" else None,
        },
        "asked": {"part": bench.eval_split, "samples": len(bench.eval_source)},
        "network": bench.make.name,
        "recipe": {
            "protocol": bench.protocol.name, "steps": recipe.steps[0], "lr": recipe.lr[0], "batch": recipe.batch,
            "schedule": recipe.schedule, "augment": recipe.augment, "students": bench.students,
        },
        "parts": parts, "left_out": left, "seed": bench.seed,
        "cost": {
            "expected": None if forecast is None else {n: float(f"{of['seconds']:.3g}") for n, of in forecast.items()},
            "seconds": seconds,
            "device": str(bench.real.device),
        },
        "versions": {"potstill": version("potstill"), "torch": torch.__version__},
    }  # fmt: skip
