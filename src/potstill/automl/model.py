"""A model of the same bytes beside the answer of ``--method auto``, on the same held-out training data.

It is tried where ``baselines`` names it: a quantised network (`potstill.evaluation.model_baseline`) is chosen and
trained on the data that the candidates' sets are made of. It decides nothing: the sentence says what to ship.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from potstill._util.formatting import format_duration, format_estimate_words
from potstill.automl.halving import MODEL_PART, NO_TIME, Race
from potstill.automl.resume import pack_rows, unpack_rows
from potstill.automl.scoring import Entry, HeldOut, Judge
from potstill.core import Source
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import AccuracyLoss, paired_loss
from potstill.evaluation.model_baseline import (
    MODEL,
    STEPS,
    ModelCost,
    check_model_data,
    make_model_baseline,
    measure_model_cost,
    model_contexts,
)
from potstill.execution import Serial, resolve_executor
from potstill.runs.loop import Interrupted

__all__ = ["ModelTrial", "announce_model", "compare_model", "try_model", "unasked_sentence"]

LEAST_STEPS = 100
"""Updates of a network below which it is not trained: it would say too little of what fits into these bytes."""
FULL_STEPS = 1000
"""Updates from which bits and augmentation are chosen, too, and not the family of networks alone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelTrial:
    """The network beside the set, or why there is none."""

    result: Mapping[str, Any]
    """Result of `try_model`."""
    choosing: float | None = None
    """Mean merit on the held-out samples that choose."""
    loss: AccuracyLoss | None = None
    """Its gain over the answer on the held-out samples that confirm."""
    confirmed: tuple[float, float] = (0.0, 0.0)
    """Mean merits there, of the network and of students of the answer."""

    @property
    def left_out(self) -> str | None:
        """Why it was not trained."""
        return self.result.get("left_out")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, without scores in the metric's unit."""
        if self.loss is None:
            return {"left_out": self.left_out}
        loss = self.loss
        return {key: self.result[key] for key in ("network", "bytes", "steps", "n", "seconds")} | {
            "left_out": None,
            "difference": {
                "mean": loss.mean, "ci95": [loss.low, loss.high], "shown": loss.low > 0,
                "model": self.confirmed[0], "set": self.confirmed[1],
            },
        }  # fmt: skip

    def sentence(self, held_out: HeldOut) -> str:
        """Return what to ship, without a full stop."""
        if self.loss is None:
            return f"A network of the same bytes was not tried: {self.left_out}"
        loss, (model, of_set) = self.loss, self.confirmed
        ends = sorted((loss.low, loss.high), key=lambda gain: held_out.sign * gain)
        between = " to ".join(held_out.format_gain(gain).removesuffix(" points") for gain in ends)
        less = "" if held_out.sign > 0 else " (less is better)"
        head = (
            f"A network in few bits of the same bytes ({self.result['network']}; {self.result['bytes']:,} bytes) "
            f"scores {held_out.format(model)} on the held-out samples that confirm, students of the answer "
            f"{held_out.format(of_set)}: {held_out.format_gain(loss.mean)}, 95 % interval {between}{less}"
        )
        if loss.low > 0:
            return f"{head}. Ship the network where nothing has to be trained: a set is for training other networks"
        if loss.high < 0:
            return f"{head}. The network is worse, and only the set trains other networks"
        return f"{head}. Neither is shown to be better, and only the set trains other networks"


def unasked_sentence(train: Source) -> str | None:
    """Return the sentence that names the option, without a full stop; ``None`` for data that have no such network."""
    try:
        check_model_data(train)
    except PotstillError:
        return None
    return (
        "A network in few bits of the same bytes may be better to ship than a set, which is for training other "
        'networks: `baselines="model"` tries one'
    )


def announce_model(race: Race) -> None:
    """Print how much of the time limit the network may take."""
    if MODEL in race.options.baselines and race.seconds is not None:
        race.runs.reporter.note(
            f"auto: a network of the same bytes may take {MODEL_PART:.0%} of the time limit, "
            f"{format_duration(MODEL_PART * race.seconds)}"
        )


def try_model(race: Race, judge: Judge, made_of: Source) -> Mapping[str, Any] | None:
    """Return the network and its merits as JSON values, or why it was left out; ``None`` without that baseline."""
    if MODEL not in race.options.baselines:
        return None
    result: Mapping[str, Any] = race.once(MODEL, lambda: _train(race, judge.held_out, made_of))
    return result


def _train(race: Race, held_out: HeldOut, made_of: Source) -> dict[str, Any]:
    runs, started = race.runs, race.runs.spent()
    try:
        context, where = model_contexts(
            made_of, held_out.source, runs.bytes, students=race.options.confirm, seed=runs.spec.seed,
            executor=resolve_executor(runs.io.executor) or Serial(), report=runs.reporter.report_count,
        )  # fmt: skip
        steps = race.options.model_steps or STEPS
        if race.seconds is not None and not race.options.model_steps:
            cost = measure_model_cost(context, where)
            left = MODEL_PART * race.seconds - (runs.spent() - started)
            if cost.update and (steps := _affordable_steps(cost, left)) < LEAST_STEPS:
                raise PotstillError(NO_TIME)
            seconds = cost.seconds(steps, quick=steps < FULL_STEPS)
            runs.reporter.note(
                f"a network of the same bytes, {steps:,} updates: {format_estimate_words(seconds)} of the time limit"
            )
        model = make_model_baseline(context, where, steps, quick=steps < FULL_STEPS)
    except PotstillError as error:
        if isinstance(error, Interrupted):
            raise
        return {"left_out": str(error)}
    merits = [held_out.merits(answers) for answers in model.answers]
    return {
        "network": str(model.spec), "bytes": model.bytes, "steps": steps, "n": len(merits),
        "seconds": round(runs.spent() - started, 3), "merits": pack_rows(torch.stack(merits)),
    }  # fmt: skip


def _affordable_steps(cost: ModelCost, seconds: float) -> int:
    """Return the updates that fit into ``seconds``, the full number at most."""

    def bought(most: int, quick: bool) -> int:
        fixed = cost.seconds(0, quick=quick)
        return min(most, int((seconds - fixed) / (cost.seconds(1, quick=quick) - fixed)))

    steps = bought(STEPS, quick=False)
    return steps if steps >= FULL_STEPS else bought(FULL_STEPS - 1, quick=True)


def compare_model(
    result: Mapping[str, Any] | None, race: Race, judge: Judge, answer: tuple[Entry, int]
) -> ModelTrial | None:
    """Return the network beside the answer: fresh students of this on the same samples, in pairs.

    Args:
        result: of `try_model`.
        answer: the set that is the answer, of a part of the data, and its number among the entries.
    """
    if result is None or "left_out" in result:
        return None if result is None else ModelTrial(result=result)
    own = unpack_rows(result["merits"], (int(result["n"]), len(judge.held_out.parts)))
    entry, number = answer
    students = judge.merits_by_students(entry, number, range(1000, 1000 + race.options.confirm))
    choosing, confirming = judge.held_out.columns
    pair = own[:, confirming], students[:, confirming]
    return ModelTrial(
        result=result, choosing=float(own[:, choosing].mean()),
        loss=paired_loss(pair[0], pair[1], confidence=0.975),
        confirmed=(float(pair[0].mean()), float(pair[1].mean())),
    )  # fmt: skip
