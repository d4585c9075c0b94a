"""The choice of ``--method auto`` as metadata: JSON values and one paragraph."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from potstill.automl.candidates import AutoOptions, Candidate
from potstill.dataset_file import Distilled
from potstill.evaluation.candidate_trials import AccuracyLoss, Probe
from potstill.runs.resolve import ResolvedRun

__all__ = ["Choice", "Entry"]


@dataclasses.dataclass(kw_only=True)
class Entry:
    """A candidate and what has become of it."""

    candidate: Candidate
    run: ResolvedRun | None = None
    distilled: Distilled | None = None
    steps: int = 0
    """Made until now."""
    cost: float = 0.0
    """Seconds of a step."""
    setup: float = 0.0
    """Seconds before the first step, and to write the set."""
    stopped: bool = False
    """It cannot go on: it diverged or is finished."""
    rungs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """``steps``, ``accuracy`` and ``students`` of each rung."""
    correct_rows: list[Bool[Tensor, " held"]] = dataclasses.field(default_factory=list)
    """By student of the current set: which of the choosing samples it classified correctly."""
    judged_steps: int = 0
    """Steps of the set that they learned."""
    left_out: str | None = None
    """Why it is none any more."""

    @property
    def accuracy(self) -> float:
        """Mean accuracy of the students of the current set, a fraction."""
        return float(torch.stack(self.correct_rows).double().mean())

    @property
    def gain(self) -> float:
        """From one rung to the next when last asked, as a fraction; infinite before it was asked twice."""
        known = [r["accuracy"] for r in self.rungs if r["accuracy"] is not None]
        return known[-1] - known[-2] if len(known) > 1 else math.inf

    def end_rung(self) -> None:
        """Keep what was said of it in the rung that ends."""
        asked = self.judged_steps == self.steps
        self.rungs.append(
            {
                "steps": self.steps,
                "accuracy": self.accuracy if asked else None,
                "students": len(self.correct_rows) if asked else 0,
            }
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """Everything that a choice found out; `to_dict` is ``card["choice"]``."""

    entries: Sequence[Entry]
    alive: Sequence[Entry]
    """The candidates of the last rung, best first."""
    rival: Entry
    """The best real samples."""
    chosen_entry: Entry
    gain: tuple[AccuracyLoss, list[float]] | None
    """The winner's gain over the best real samples, and the accuracies of both; ``None``: there was no winner."""
    final_steps: int | None
    bytes: int
    probe: Probe
    split_sizes: tuple[int, int, int]
    """Samples that sets were made of, that chose, and that confirmed."""
    samples: int
    seed: int
    options: AutoOptions
    network: str | None
    time_limit: float | None
    seconds: float
    """Seconds until the set was there."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        winner = self.alive[0] if self.alive else None
        student_steps = self.probe.protocol.recipe.steps[0]
        again = [e.candidate.format(self._steps(e)) for e in self.entries if e.left_out is None]
        candidate, final = self.chosen_entry.candidate, self.final_steps
        network: dict[str, Any] = {} if self.network is None else {"network": self.network}
        shared: dict[str, Any] = {"bytes": self.bytes, "seed": self.seed, **network}
        recipe = shared | {
            "method": candidate.method, "preset": "quick",
            **({} if candidate.parametrization is None else {"parametrization": candidate.parametrization}),
            **({} if candidate.codec is None else {"codec": candidate.codec}),
            **({} if final is None else {"steps": final, "iterations": max(1, final)}), **dict(candidate.options),
        }  # fmt: skip
        result: dict[str, Any] = {
            "answer": "real" if candidate.is_real else "made",
            "chosen": candidate.name,
            "winner": None if winner is None else winner.candidate.name,
            "rival": self.rival.candidate.name,
            "difference": None,
            "bytes": self.bytes,
            "time_limit": self.time_limit,
            "seconds": self.seconds,
            "held": {
                "made_of": self.split_sizes[0], "choose": self.split_sizes[1],
                "confirm": self.split_sizes[2], "samples": self.samples,
            },
            "students": {
                "network": self.probe.make.name, "steps": student_steps, "choose": self.options.students,
                "confirm": self.options.confirm,
            },
            "tried": [_describe_entry(e) for e in self.entries],
            "repeat": shared | {
                "method": "auto", "candidates": again, "student_steps": student_steps,
                **{name: getattr(self.options, name) for name in ("validation", "students", "confirm")},
            },
            "recipe": recipe,
            "clock": (
                "no clock: the steps were given" if self.time_limit is None else
                "how many steps each rung had was decided by the clock of this machine; another may choose otherwise. "
                "`repeat` holds the steps: with them no clock decides, and the same bits come again"
            ),
        }  # fmt: skip
        if self.gain is not None:
            loss, accuracies = self.gain
            result["difference"] = {
                "mean": loss.mean, "ci95": [loss.low, loss.high], "shown": loss.low > 0,
                "winner": accuracies[0], "rival": accuracies[1],
                "unit": "fraction of held-out samples that students tell right",
            }  # fmt: skip
        return {"text": self._text(winner), **result}

    def _steps(self, entry: Entry) -> list[int]:
        if entry.candidate.is_real:
            return []
        final = [self.final_steps] if entry is self.chosen_entry and self.final_steps is not None else []
        return [r["steps"] for r in entry.rungs] + final

    def _text(self, winner: Entry | None) -> str:
        """Return one paragraph for people."""
        made_of, choosing, confirming = self.split_sizes
        real = [e for e in self.entries if e.candidate.is_real and e.left_out is None]
        made = [e for e in self.entries if not e.candidate.is_real and e.left_out is None]
        parts = [
            f"Tried {len(real)} ways to keep real samples and {len(made)} to make a set, each in at most "
            f"{self.bytes:,} bytes, of {made_of:,} of the {self.samples:,} training samples; "
            f"{choosing:,} others chose and {confirming:,} confirmed, test data were not read"
        ]
        ranked = sorted([*real, *made], key=lambda e: -e.accuracy)
        parts.append(
            "Students told right when last asked: "
            + ", ".join(
                f"{e.candidate.describe()} {e.accuracy:.1%}"
                + ("" if e.candidate.is_real else f" after {e.judged_steps:,} steps")
                for e in ranked
            )
        )
        if winner is None or self.gain is None:
            parts.append("Nothing but real samples could be tried")
        else:
            low, high = 100 * self.gain[0].low, 100 * self.gain[0].high
            parts.append(
                f"{winner.candidate.describe()} won; beside the best real samples, {self.rival.candidate.describe()}, "
                f"fresh students told {self.gain[1][0]:.1%} and {self.gain[1][1]:.1%} right: "
                f"{100 * self.gain[0].mean:+.1f} points, 95 % interval "
                f"{low:+.1f} to {high:+.1f} over {self.options.confirm} students and the samples, one set of each"
            )
        if self.chosen_entry.candidate.is_real:
            verdict = "real samples are the answer"
            if self.gain is not None:
                verdict = f"real samples are {'better' if self.gain[0].high < 0 else 'as good'} here"
            if winner is not None and self.gain is not None and self.gain[0].high >= 0:
                verdict += (
                    f", beside {winner.steps:,} steps of what was made, which a longer time limit would let go on"
                )
            parts.append(f"So {verdict}: the set is {self.rival.candidate.describe()}, of all training samples")
        else:
            parts.append(
                f"So the set is {winner.candidate.describe() if winner else ''}, made anew of all training samples"
            )
            parts[-1] += f" in {self.final_steps:,} steps"
            if self.gain is not None and self.gain[0].low <= 0:
                parts[-1] += "; it was ahead, but that it is better than the real samples is not shown"
        if lost := [e for e in self.entries if e.left_out is not None]:
            parts.append("Left out: " + "; ".join(f"{e.candidate.describe()} ({e.left_out})" for e in lost))
        return ". ".join(parts) + "."


def _describe_entry(entry: Entry) -> dict[str, Any]:
    card = {} if entry.distilled is None else entry.distilled.metadata
    return {
        "name": entry.candidate.name, "real": entry.candidate.is_real, "rungs": entry.rungs, "left_out": entry.left_out,
        "bytes": card.get("bytes", {}).get("total"), "items": None if entry.distilled is None else len(entry.distilled),
        "seconds_a_step": entry.cost or None,
    }  # fmt: skip
