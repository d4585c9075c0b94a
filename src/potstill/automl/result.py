"""The choice of ``--method auto`` as metadata: JSON values and one paragraph."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from potstill.automl.halving import Race
from potstill.automl.scoring import Entry, Judge
from potstill.evaluation.candidate_trials import AccuracyLoss

__all__ = ["Choice"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """Everything that a choice found out; `to_dict` is ``card["choice"]``."""

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
    made_of: int
    """Samples that the candidates' sets were made of."""

    @property
    def samples(self) -> int:
        """Training samples in all."""
        return len(self.race.runs.splits.train)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        winner = self.alive[0] if self.alive else None
        student_steps, runs, options = self.judge.probe.protocol.recipe.steps[0], self.race.runs, self.race.options
        again = [e.candidate.format(self._steps(e)) for e in self.race.entries if e.left_out is None]
        candidate, final = self.chosen_entry.candidate, self.final_steps
        network: dict[str, Any] = {} if runs.spec.network is None else {"network": str(runs.spec.network)}
        shared: dict[str, Any] = {"bytes": runs.bytes, "seed": runs.spec.seed, **network}
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
            "bytes": runs.bytes,
            "time_limit": self.race.seconds,
            "seconds": runs.spent(),
            "held": {
                "made_of": self.made_of, "choose": len(self.judge.choosing),
                "confirm": len(self.judge.confirming), "samples": self.samples,
            },
            "students": {
                "network": self.judge.probe.make.name, "steps": student_steps, "choose": options.students,
                "confirm": options.confirm,
            },
            "tried": [_describe_entry(e) for e in self.race.entries],
            "repeat": shared | {
                "method": "auto", "candidates": again, "student_steps": student_steps,
                **{name: getattr(options, name) for name in ("validation", "students", "confirm")},
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
        real = [e for e in self.race.entries if e.candidate.is_real and e.left_out is None]
        made = [e for e in self.race.entries if not e.candidate.is_real and e.left_out is None]
        parts = [
            f"Tried {len(real)} ways to keep real samples and {len(made)} to make a set, each in at most "
            f"{self.race.runs.bytes:,} bytes, of {self.made_of:,} of the {self.samples:,} training samples; "
            f"{len(self.judge.choosing):,} others chose and {len(self.judge.confirming):,} confirmed, "
            "test data were not read"
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
                f"{low:+.1f} to {high:+.1f} over {self.race.options.confirm} students and the samples, one set of each"
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
        if lost := [e for e in self.race.entries if e.left_out is not None]:
            parts.append("Left out: " + "; ".join(f"{e.candidate.describe()} ({e.left_out})" for e in lost))
        return ". ".join(parts) + "."


def _describe_entry(entry: Entry) -> dict[str, Any]:
    card = {} if entry.distilled is None else entry.distilled.metadata
    return {
        "name": entry.candidate.name, "real": entry.candidate.is_real, "rungs": entry.rungs, "left_out": entry.left_out,
        "bytes": card.get("bytes", {}).get("total"), "items": None if entry.distilled is None else len(entry.distilled),
        "seconds_a_step": entry.cost or None,
    }  # fmt: skip
