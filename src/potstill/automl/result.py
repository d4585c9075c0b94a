"""What a card says of a choice that ``--method auto`` made, as JSON and as one paragraph."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from potstill.automl.candidates import Candidate
from potstill.dataset_file import Distilled
from potstill.evaluation.candidate_trials import AccuracyLoss, Probe
from potstill.runs.runner import ResolvedRun

__all__ = ["Entry", "on_card"]


@dataclasses.dataclass(kw_only=True)
class Entry:
    """A candidate and what has become of it."""

    candidate: Candidate
    settled: ResolvedRun | None = None
    made: Distilled | None = None
    steps: int = 0
    """Made until now."""
    cost: float = 0.0
    """Seconds of a step."""
    setup: float = 0.0
    """Seconds before the first step, and to write the set."""
    stopped: bool = False
    """It cannot go on: it diverged or is finished."""
    rungs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Of each rung that it was in: ``steps``, ``accuracy`` and ``students``."""
    right: list[Bool[Tensor, " held"]] = dataclasses.field(default_factory=list)
    """Of each student of its set as it is: which samples it got right, of those that choose."""
    asked_at: int = 0
    """Steps of the set that they learned."""
    left_out: str | None = None
    """Why it is none any more."""

    @property
    def accuracy(self) -> float:
        """Of the students of its set as it is, a fraction."""
        return float(torch.stack(self.right).double().mean())

    @property
    def gain(self) -> float:
        """From one rung to the next when last asked, as a fraction; infinite before it was asked twice."""
        known = [r["accuracy"] for r in self.rungs if r["accuracy"] is not None]
        return known[-1] - known[-2] if len(known) > 1 else math.inf

    def note(self) -> None:
        """Keep what was said of it in the rung that ends."""
        asked = self.asked_at == self.steps
        self.rungs.append(
            {
                "steps": self.steps,
                "accuracy": self.accuracy if asked else None,
                "students": len(self.right) if asked else 0,
            }
        )


def on_card(
    *, entries: Sequence[Entry], alive: Sequence[Entry], rival: Entry, chosen: Entry,
    gain: tuple[AccuracyLoss, list[float]] | None, final: int | None, bytes: int, probe: Probe,
    held: tuple[int, int, int],
    samples: int, seed: int, asked: Mapping[str, Any], network: str | None, time_limit: float | None, took: float,
) -> dict[str, Any]:  # fmt: skip
    """``card["choice"]``: JSON values.

    Args:
        alive: the candidates of the last rung, best first.
        gain: of the winner over the best real samples, and the accuracies of both; ``None``: there was no winner.
        final: steps of the answer.
        held: samples that sets were made of, that chose and that confirmed.
        took: seconds until the answer was there.
    """
    winner = alive[0] if alive else None
    steps_of_student = probe.protocol.recipe.steps[0]
    again = [e.candidate.spelled(_steps(e, e is chosen, final)) for e in entries if e.left_out is None]
    candidate, fields = chosen.candidate, dict(chosen.candidate.options)
    shared: dict[str, Any] = {"bytes": bytes, "seed": seed, **({} if network is None else {"network": network})}
    recipe = shared | {
        "method": candidate.method, "effort": "quick",
        **({} if candidate.parametrization is None else {"parametrization": candidate.parametrization}),
        **({} if candidate.store is None else {"store": candidate.store}),
        **({} if final is None else {"steps": final, "iterations": max(1, final)}), **fields,
    }  # fmt: skip
    said: dict[str, Any] = {
        "answer": "real" if candidate.real else "made",
        "chosen": candidate.name,
        "winner": None if winner is None else winner.candidate.name,
        "rival": rival.candidate.name,
        "difference": None,
        "bytes": bytes,
        "time_limit": time_limit,
        "seconds": took,
        "held": {"made_of": held[0], "choose": held[1], "confirm": held[2], "samples": samples},
        "students": {
            "network": probe.make.name, "steps": steps_of_student, "choose": asked["students"],
            "confirm": asked["confirm"],
        },
        "tried": [_tried(e) for e in entries],
        "repeat": shared | {
            "method": "auto", "candidates": again, "student_steps": steps_of_student,
            **{name: asked[name] for name in ("validation", "students", "confirm")},
        },
        "recipe": recipe,
        "clock": (
            "no clock: the steps were given" if time_limit is None else
            "how many steps each rung had was decided by the clock of this machine; another may choose otherwise. "
            "`repeat` holds the steps: with them no clock decides, and the same bits come again"
        ),
    }  # fmt: skip
    if gain is not None:
        said["difference"] = {
            "mean": gain[0].mean, "ci95": [gain[0].low, gain[0].high], "shown": gain[0].low > 0,
            "winner": gain[1][0], "rival": gain[1][1],
            "unit": "fraction of held-out samples that students tell right",
        }  # fmt: skip
    return {"text": _text(said, entries, winner, rival, gain, final), **said}


def _steps(entry: Entry, chosen: bool, final: int | None) -> list[int]:
    if entry.candidate.real:
        return []
    return [r["steps"] for r in entry.rungs] + ([final] if chosen and final is not None else [])


def _tried(entry: Entry) -> dict[str, Any]:
    card = {} if entry.made is None else entry.made.metadata
    return {
        "name": entry.candidate.name, "real": entry.candidate.real, "rungs": entry.rungs, "left_out": entry.left_out,
        "bytes": card.get("bytes", {}).get("total"), "items": None if entry.made is None else len(entry.made),
        "seconds_a_step": entry.cost or None,
    }  # fmt: skip


def _text(
    said: Mapping[str, Any], entries: Sequence[Entry], winner: Entry | None, rival: Entry,
    gain: tuple[AccuracyLoss, list[float]] | None, final: int | None,
) -> str:  # fmt: skip
    """One paragraph for people."""
    held, students = said["held"], said["students"]
    real = [e for e in entries if e.candidate.real and e.left_out is None]
    made = [e for e in entries if not e.candidate.real and e.left_out is None]
    parts = [
        f"Tried {len(real)} ways to keep real samples and {len(made)} to make a set, each in at most "
        f"{said['bytes']:,} bytes, of {held['made_of']:,} of the {held['samples']:,} training samples; "
        f"{held['choose']:,} others chose and {held['confirm']:,} confirmed, test data were not read"
    ]
    ranked = sorted([*real, *made], key=lambda e: -e.accuracy)
    parts.append(
        "Students told right when last asked: "
        + ", ".join(
            f"{e.candidate.words()} {e.accuracy:.1%}" + ("" if e.candidate.real else f" after {e.asked_at:,} steps")
            for e in ranked
        )
    )
    if winner is None or gain is None:
        parts.append("Nothing but real samples could be tried")
    else:
        low, high = 100 * gain[0].low, 100 * gain[0].high
        parts.append(
            f"{winner.candidate.words()} won; beside the best real samples, {rival.candidate.words()}, fresh students "
            f"told {gain[1][0]:.1%} and {gain[1][1]:.1%} right: {100 * gain[0].mean:+.1f} points, 95 % interval "
            f"{low:+.1f} to {high:+.1f} over {students['confirm']} students and the samples, one set of each"
        )
    if said["answer"] == "real":
        verdict = "real samples are the answer"
        if gain is not None:
            verdict = f"real samples are {'better' if gain[0].high < 0 else 'as good'} here"
        if winner is not None and gain is not None and gain[0].high >= 0:
            verdict += f", beside {winner.steps:,} steps of what was made, which a longer time limit would let go on"
        parts.append(f"So {verdict}: the set is {rival.candidate.words()}, of all training samples")
    else:
        parts.append(f"So the set is {winner.candidate.words() if winner else ''}, made anew of all training samples")
        parts[-1] += f" in {final:,} steps"
        if gain is not None and gain[0].low <= 0:
            parts[-1] += "; it was ahead, but that it is better than the real samples is not shown"
    if lost := [e for e in entries if e.left_out is not None]:
        parts.append("Left out: " + "; ".join(f"{e.candidate.words()} ({e.left_out})" for e in lost))
    return ". ".join(parts) + "."
