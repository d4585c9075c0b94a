"""The choice of ``--method auto`` as metadata: JSON values and one sentence."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from potstill._util.card import size_without_encoder
from potstill.automl.candidates import Candidate
from potstill.automl.draws import Drawn
from potstill.automl.halving import Race
from potstill.automl.model import ModelTrial
from potstill.automl.scoring import Entry, Judge
from potstill.evaluation.candidate_trials import AccuracyLoss
from potstill.tasks import Metric, get_task

__all__ = ["Choice", "describe_choice"]


_SHOWN = 5
"""Ways of method ``real`` that are shown."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """Everything that a choice found out; `to_dict` is `Distilled.choice`."""

    race: Race
    judge: Judge
    alive: Sequence[Entry]
    """The candidates of the last rung, best first."""
    rival: Entry
    """The best real samples."""
    chosen_entry: Entry
    gain: tuple[AccuracyLoss, list[float]] | None
    """The winner's gain over the best real samples, and the accuracies of both; ``None``: there was no winner."""
    final_steps: int | None
    last_look: float | None
    """Score of the winner made of all training data, where it is not ahead of real samples, which are the answer then;
    ``None``: it is, or real samples were ahead before."""
    draw: Drawn | None
    """The draw of real samples that the winner was compared with; ``None``: one alone was made."""
    made_of: int
    """Samples that the candidates' sets were made of."""
    twice: Entry | None
    """The best real samples in twice the bytes; ``None``: there are no more."""
    items: int
    """Samples of the answer."""
    stored: int
    """Bytes of the answer."""
    model: ModelTrial | None
    """A network of the same bytes; ``None``: not requested."""
    model_sentence: str | None
    """Sentence about it, or about the option that tries it."""

    @property
    def samples(self) -> int:
        """Training samples in all."""
        return len(self.race.runs.splits.train)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        winner = self.alive[0] if self.alive else None
        student_steps, runs, options = self.judge.probe.protocol.recipe.steps[0], self.race.runs, self.race.options
        again = [  # of real samples the best alone: they were told apart by students of another time
            dataclasses.replace(e.candidate, planned_bytes=e.planned_bytes).format(self._steps(e))
            for e in self.race.entries
            if e.left_out is None and (e is self.rival or not e.candidate.is_real)
        ]  # fmt: skip
        candidate, final = self.chosen_entry.candidate, self.final_steps
        network: dict[str, Any] = {} if runs.spec.network is None else {"network": str(runs.spec.network)}
        shared: dict[str, Any] = {"bytes": runs.bytes, "seed": runs.spec.seed, **network}
        made_again = shared | {"seed": runs.seed_of(candidate)}
        recipe = made_again | {
            "method": candidate.method, "preset": "quick",
            **({} if candidate.parametrization is None else {"parametrization": candidate.parametrization}),
            **({} if candidate.codec is None else {"codec": candidate.codec}),
            **({} if (plan := self.chosen_entry.planned_bytes) is None else {"planned_bytes": plan}),
            **({} if final is None or candidate.is_real else {"steps": final, "iterations": max(1, final)}),
            **dict(candidate.options),
        }  # fmt: skip
        result: dict[str, Any] = {
            "answer": "real" if candidate.is_real else "made",
            "chosen": candidate.name,
            "winner": None if winner is None else winner.candidate.name,
            "rival": self.rival.candidate.name,
            "difference": None,
            "bytes": runs.bytes,
            "metric": get_task(self.judge.held_out.source).metric.to_dict,
            "time_limit": self.race.seconds,
            "seconds": runs.spent(),
            "held": {
                "made_of": self.made_of, "choose": len(self.judge.held_out.choosing),
                "confirm": len(self.judge.held_out.confirming), "samples": self.samples,
            },
            "students": {
                "network": self.judge.probe.make.name, "steps": student_steps, "choose": options.students,
                "confirm": options.confirm,
            },
            "tried": [self._describe_entry(e) for e in self.race.entries],
            "draws": None if self.draw is None else {"tried": self.draw.tried, "chosen": self.rival.candidate.draw},
            "model": self._describe_model(),
            "twice_the_bytes": None if self.twice is None else self._describe_entry(self.twice),
            "repeat": shared | {
                "method": "auto", "candidates": again, "student_steps": student_steps,
                **{name: getattr(options, name) for name in ("validation", "students", "confirm")},
                **self._model_options(),
            },
            "recipe": recipe,
            "clock": (
                "no clock: the steps were given" if self.race.seconds is None else
                "how many steps each rung had was decided by the clock of this machine; another may choose otherwise. "
                "`repeat` holds the steps: with them no clock decides, and the same bits come again"
            ),
        }  # fmt: skip
        if self.gain is not None:
            loss, accuracies = self.gain
            result["difference"] = {
                "mean": loss.mean, "ci95": [loss.low, loss.high], "shown": loss.low > 0,
                "winner": accuracies[0], "rival": accuracies[1],
                "unit": (
                    "fraction of held-out samples that students tell right" if self.judge.held_out.scale == 1.0 else
                    "score with the metric's sign, over that of a student that knows nothing"
                ),
            }  # fmt: skip
        return {"text": self._text(winner), **result}

    def _steps(self, entry: Entry) -> list[int]:
        if entry.candidate.is_real:
            return []
        made = entry is self.alive[0] if self.alive else False
        final = [self.final_steps] if made and self.final_steps is not None else []
        return [r["steps"] for r in entry.rungs] + final

    def _text(self, winner: Entry | None) -> str:
        """Return the answer in one sentence, and what more bytes or time would bring in a second."""
        held, gain, rival = self.judge.held_out, self.gain, self.rival
        what = f"{self.items:,} {'real samples' if self.chosen_entry.candidate.is_real else 'distilled samples'}"
        size = f"in {self.stored:,} bytes"
        if self.chosen_entry.candidate.is_real and self.draw is not None and self.draw.tried:
            what += f", the best of {self.draw.tried} draws"
        if winner is None or gain is None:
            whole = ", and these are all training samples" if self.items >= self.samples else ""
            found = [f"Keep {what}, by {rival.candidate.describe()}, {size}: no way to distil could be tried{whole}"]
        else:
            (loss, (made, real)), sure = gain, "95 % interval"
            ends = sorted((loss.low, loss.high), key=lambda gain: held.sign * gain)
            between = " to ".join(held.format_gain(gain).removesuffix(" points") for gain in ends)
            less = "" if held.sign > 0 else " (less is better)"
            beside = (
                f"fresh students of samples distilled by {winner.candidate.describe()} score {held.format(made)}, of "
                f"the best real samples, {rival.candidate.describe()}, {held.format(real)}: "
                f"{held.format_gain(loss.mean)}, {sure} {between}{less}"
            )
            if self.chosen_entry.candidate.is_real:
                shown = "distilling is worse" if loss.high < 0 else "that distilling is better is not shown"
                if self.last_look is not None:
                    shown = f"distilled samples of all training data are not ahead ({held.format(self.last_look)})"
                found = [f"Keep {what}, {size}, as {shown}: {beside}"]
            else:
                shown = "" if loss.low > 0 else ", though that they are better is not shown"
                found = [f"Take {what}, {size}{shown}: {beside}"]
        confirming = (held if self.draw is None else self.draw.held_out).confirming
        more = []
        if self.twice is not None:
            before = rival.merit
            more.append(f"twice the bytes of real samples would bring {held.format_gain(self.twice.merit - before)}")
        if winner is not None and math.isfinite(winner.gain):
            first, last = (r["steps"] for r in [r for r in winner.rungs if r["merit"] is not None][-2:])
            more.append(f"the winner's steps {first:,} to {last:,} brought {held.format_gain(winner.gain)}")
        if more:
            joined = ", and ".join(more)
            found.append(joined[0].upper() + joined[1:])
        if self.model_sentence is not None:
            found.append(self.model_sentence)
        found.append(
            f"Chosen on {len(held.choosing):,} and confirmed on {len(confirming):,} held-out training samples; "
            "test data were not read"
        )
        return ". ".join(found) + "."

    def _score_unit(self) -> tuple[str, float]:
        """Return the name of a score, and what turns a merit into it."""
        metric = get_task(self.judge.held_out.source).metric
        of_score = ("score", metric.sign * self.judge.held_out.scale)
        return ("accuracy", 1.0) if metric.name == "accuracy" else of_score

    def _model_options(self) -> dict[str, Any]:
        """Return the options that train the same network again."""
        if self.model is None:
            return {}
        steps = self.model.result.get("steps")
        return {"baselines": list(self.race.options.baselines), **({} if steps is None else {"model_steps": steps})}

    def _describe_model(self) -> dict[str, Any] | None:
        if self.model is None:
            return None
        name, unit = self._score_unit()
        score = {} if self.model.choosing is None else {name: unit * self.model.choosing}
        return self.model.to_dict() | score

    def _describe_entry(self, entry: Entry) -> dict[str, Any]:
        card = {} if entry.distilled is None else entry.distilled.metadata
        name, unit = self._score_unit()
        rungs = [
            {"steps": r["steps"], name: None if r["merit"] is None else unit * r["merit"], "students": r["students"]}
            for r in entry.rungs
        ]
        return {
            "name": entry.candidate.name, "real": entry.candidate.is_real, "rungs": rungs, "left_out": entry.left_out,
            "bytes": size_without_encoder(card.get("bytes", {})),
            "items": None if entry.distilled is None else len(entry.distilled), "seconds_a_step": entry.cost or None,
        }  # fmt: skip


def describe_choice(choice: Mapping[str, Any]) -> str:
    """Return everything that was tried as a table, the best first, and the sentence of the answer below it.

    Args:
        choice: what `Choice.to_dict` returned, or the choice of method ``real``.
    """
    if "chosen" in choice and isinstance(choice["chosen"], Mapping):
        return _describe_real(choice)
    metric = Metric.from_scorecard({"score": choice["metric"]})
    rows: list[tuple[float, tuple[str, ...]]] = []
    for tried in [t for t in choice["tried"] if t["left_out"] is None]:
        last = next((r for r in reversed(tried["rungs"]) if r["students"]), None)
        score = None if last is None else last.get("accuracy", last.get("score"))
        cells = (
            ("real: " if tried["real"] else "") + Candidate.parse(tried["name"]).describe(),
            f"{tried['items'] or 0:,}", f"{tried['bytes'] or 0:,}",
            "" if last is None or tried["real"] else f"{last['steps']:,}",
            "" if score is None else metric.format(score),
        )  # fmt: skip
        rows.append((-math.inf if score is None else metric.sign * score, cells))
    if (model := choice.get("model")) and model["left_out"] is None:
        score = model.get("accuracy", model.get("score"))
        shown = f"model: {model['network']}", "", f"{model['bytes']:,}", f"{model['steps']:,}", metric.format(score)
        rows.append((metric.sign * score, shown))
    ranked = [cells for _, cells in sorted(rows, key=lambda row: -row[0])]
    table = [("tried, of a part of the data", "items", "bytes", "steps", metric.name), *ranked]
    widths = [max(len(row[i]) for row in table) for i in range(5)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in table
    ]
    lost = [t for t in choice["tried"] if t["left_out"] is not None]
    by_reason: dict[str, list[str]] = {}
    for t in lost:
        by_reason.setdefault(t["left_out"], []).append(Candidate.parse(t["name"]).describe())
    if lost:
        lines.append("Left out: " + "; ".join(f"{', '.join(names)} ({why})" for why, names in by_reason.items()))
    return "\n".join([*lines, choice["text"]])


def _describe_real(choice: Mapping[str, Any]) -> str:
    """Return the best ways to keep real samples that were tried, and the sentence of the answer."""
    lines = ["the best ways that were tried, of a part of the data"]
    for tried in choice["tried"][:_SHOWN]:
        score = tried.get("accuracy", tried.get("score"))
        shown = "" if score is None else f": {score:.1%}" if "accuracy" in tried else f": {score:.4g}"
        labels = "" if tried["labels"] == "hard" else f", labels {tried['labels']}"
        if score is None and "closed_form" in tried:
            shown = f": {tried['closed_form']:.1%} in closed form"
        items = f", {tried['items']:,} in {tried['bytes']:,} bytes" if "items" in tried else ""
        lines.append(f"{tried['selection']}, {tried['balance']} proportions, {tried['codec']}{labels}{items}{shown}")
    return "\n".join([*lines, choice["text"]])
