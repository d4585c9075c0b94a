"""Progress notes of a plan, and the forecast of a model of the same bytes."""

from dataclasses import dataclass
from typing import NamedTuple

from potstill._util.formatting import format_estimate_words
from potstill._util.progress import ProgressReporter
from potstill.core import Source, registry
from potstill.errors import PotstillError
from potstill.evaluation.model_baseline import measure_model_cost, model_contexts
from potstill.planning.step_timing import LONGEST

__all__ = ["Estimates", "ModelForecast", "forecast_model"]


class Estimates(NamedTuple):
    """Shows estimates as they get better, while the plan is made."""

    reporter: ProgressReporter
    profile_steps: int | None

    def show_rough(self, steps: int | None, seconds: float | None) -> None:
        """Show the estimate by operations."""
        if seconds is None:
            return
        is_long = self.profile_steps is None and seconds > 3 * LONGEST
        then = "now steps are timed"
        if is_long:
            then = f"none is timed, as one takes {format_estimate_words(seconds)}; `profile_steps=1` times it"
        then = "" if self.profile_steps == 0 else f"; {then}"
        self.reporter.note(f"roughly, by counted operations: {_describe_seconds(steps, seconds)}{then}")

    def show_timed(self, steps: int | None, seconds: float) -> None:
        """Show the estimate by the first step, which warms up, too."""
        self.reporter.note(f"by the first step: {_describe_seconds(steps, seconds)}")


def _describe_seconds(steps: int | None, seconds: float) -> str:
    if steps is None:
        return f"{seconds:.2g} s a step"
    return f"{format_estimate_words(seconds * steps)} for {steps:,} steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelForecast:
    """Cost of the baseline ``model``: a small quantised network in the bytes of the set."""

    bytes: int
    """Most bytes that it may take."""
    networks: int
    """Networks that are measured, as many as the protocol ``potstill`` has students."""
    seconds: float | None
    """To choose, train and measure them, one at a time; ``None``: there is none."""
    left_out: str | None
    """Why there is none."""


def forecast_model(train: Source, byte_budget: int) -> ModelForecast:
    """Return the forecast, by a few timed updates of each family of networks.

    Args:
        train: training data of the set.
        byte_budget: bytes of the set.
    """
    students = int(registry.resolve("protocols", "potstill").students)
    seconds, left_out = None, None
    try:
        cost = measure_model_cost(*model_contexts(train, train, byte_budget, students=students, seed=0))
        seconds = cost.seconds() if cost.update else None
        left_out = None if cost.update else f"no network of the ladder fits into {byte_budget:,} bytes"
    except PotstillError as error:
        left_out = str(error)
    return ModelForecast(bytes=byte_budget, networks=students, seconds=seconds, left_out=left_out)
