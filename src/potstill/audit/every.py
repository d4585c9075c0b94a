"""``audit_set``: every part of an audit that applies to a set, cheapest first, with a forecast before."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from potstill._util.audit_parts import PARTS, part_obstacle
from potstill._util.audit_settings import FairnessSettings, PoisoningSettings, PrivacySettings, RobustnessSettings
from potstill.audit.fairness import audit_fairness
from potstill.audit.poisoning import audit_poisoning
from potstill.audit.privacy import audit_privacy
from potstill.audit.provenance import audit_provenance
from potstill.audit.result import Audit
from potstill.audit.robustness import audit_robustness
from potstill.audit.screening import Screening, audit_screening
from potstill.core import Splits
from potstill.data.attributes import get_attribute
from potstill.dataset_file import Distilled
from potstill.diagnostics import make_bench
from potstill.diagnostics.bench import Bench
from potstill.errors import PotstillError, unknown_name
from potstill.evaluation.candidate_trials import narrow_network
from potstill.evaluation.forecast import measure_step_seconds
from potstill.runs.arguments import CountCallback, count_callback, progress_context
from potstill.runs.load_data import load_set_and_splits
from potstill.uses.continual import Learner

__all__ = ["AuditPlan", "Audits", "audit_set", "plan_audits"]

INVERSION_BATCH = 32
"""Pictures of an update of trigger inversion, for each class."""
PASSES = 160
"""Passes forwards and backwards of a test picture in a robustness audit, of each student: three attacks of 20 steps and
FGSM, two more on the margin and at a radius of 0.5, and about 100 passes forwards."""


@dataclass(frozen=True, kw_only=True)
class AuditPlan:
    """Parts to run, and those left out.

    Attributes:
        seconds: forecast by part, cheapest first.
        left_out: the reason by part.
    """

    seconds: Mapping[str, float]
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Audits:
    """Result of `audit_set`.

    Attributes:
        parts: each part that was run, by name.
        left_out: the reason by part, as planned or of the error of a part.
        plan: the forecast.
    """

    parts: Mapping[str, Audit]
    left_out: Mapping[str, str]
    plan: AuditPlan


def plan_audits(
    distilled: Distilled | str | Path, data: Any, *, parts: Sequence[str] | None = None,
    key: str | Path | bytes | None = None, device: str = "auto",
) -> AuditPlan:  # fmt: skip
    """Return the parts of an audit that apply, with a forecast from a few timed updates.

    Args:
        distilled: a set, or its path.
        data: anything `potstill.load_data` takes or returns; the set's own reading options apply.
        parts: names of the parts. Default: all.
        key: the secret of a mark, for ``provenance``. Default: none, and that part is left out.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        PotstillError: there is no such part, or the set does not fit the data.
    """
    small, splits = load_set_and_splits(distilled, data, device)
    for name in parts or ():
        if name not in PARTS:
            raise unknown_name("part of an audit", name, list(PARTS))
    obstacles = {
        name: part_obstacle(name, small.metadata) or _missing(name, splits, key) for name in parts or PARTS
    }  # fmt: skip
    applying = [name for name, why in obstacles.items() if why is None]
    seconds = _forecast(small, splits, applying) if applying else {}
    return AuditPlan(
        seconds=dict(sorted(seconds.items(), key=lambda item: item[1])),
        left_out={name: why for name, why in obstacles.items() if why is not None},
    )


def _missing(name: str, splits: Splits, key: object) -> str | None:
    """Return what a part needs and is not there."""
    if name == "provenance":
        return "it needs the key of a mark; give `key=`" if key is None else None
    if splits.test is None and name != "poisoning":
        return "the data have no test part"
    if name == "fairness" and get_attribute(splits.train) is None:
        return "the data were read without an attribute of each sample; read them with `attribute=`"
    if name == "screening" and len(splits.train.classes) != 2:
        return "there are more than two classes; run this part alone, and say which is to be found"
    return None


def _forecast(small: Distilled, splits: Splits, names: Sequence[str]) -> dict[str, float]:
    """Return seconds by part, of timed updates times their number, each with one second for the rest."""
    if set(names) == {"provenance"}:
        return {"provenance": 1.0}
    bench = make_bench(small, splits, students=1)
    few, full = _update_seconds(bench, len(small)), _update_seconds(bench, bench.protocol.recipe.batch)
    each = full / min(bench.protocol.recipe.batch, len(bench.real))
    fair, screened, poison, robust = FairnessSettings(), Screening(), PoisoningSettings(), RobustnessSettings()
    tested = min(robust.samples, len(bench.eval_source))
    inverted = poison.inversion_steps * len(small.classes) * min(INVERSION_BATCH, len(small))
    learner = Learner()
    narrow = narrow_network(learner.factory(bench.real, len(splits.train.classes)), bench.real)  # type: ignore[arg-type]
    known = {
        "provenance": 0.0,
        "privacy": PrivacySettings().students * learner.steps * measure_step_seconds(narrow, bench.real, learner.batch),
        "fairness": fair.students * (2 * fair.steps * few + fair.full_steps * full),
        "screening": screened.students * (2 * screened.steps * few + screened.full_steps * full),
        "poisoning": poison.students * (poison.steps * few + inverted * each),
        "robustness": robust.students
        * (2 * robust.steps * few + robust.full_steps * full + 3 * PASSES * tested * each),
    }
    return {name: 1.0 + known[name] for name in names}


def _update_seconds(bench: Bench, samples: int) -> float:
    return measure_step_seconds(
        bench.make, bench.real, min(samples, bench.protocol.recipe.batch), augment=bench.augment
    )  # fmt: skip


def audit_set(
    distilled: Distilled | str | Path,
    data: Any,
    *,
    parts: Sequence[str] | None = None,
    key: str | Path | bytes | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: CountCallback = "auto",
    plan: AuditPlan | None = None,
    on_part: Callable[[Audit], None] | None = None,
) -> Audits:
    """Audit a set: run the parts that apply with their default settings, cheapest first.

    A part that cannot be run says why in ``left_out``, and the others are run all the same. Poisoning is audited by the
    set alone: data that it was made of may be poisoned themselves.

    Args:
        distilled: a set, or its path.
        data: anything `potstill.load_data` takes or returns; the set's own reading options apply.
        parts: names of the parts. Default: all.
        key: the secret of a mark, for ``provenance``. Default: none, and that part is left out.
        seed: seed of every draw.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: callback ``progress(name, done, total)``; ``auto``: show it on stderr; ``None``: silent.
        plan: as `plan_audits` returned it. Default: planned here.
        on_part: called with each part when it is done.

    Raises:
        PotstillError: there is no such part, or the set does not fit the data.

    Examples:
        >>> from potstill.audit.every import audit_set
        >>> small = potstill.distill("digits", "random", ipc=1, progress=None)
        >>> audits = audit_set(small, "digits", parts=["fairness", "privacy"], progress=None)
        >>> list(audits.parts), audits.left_out["fairness"]
        (['privacy'], 'the data were read without an attribute of each sample; read them with `attribute=`')
    """
    small, splits = load_set_and_splits(distilled, data, device)
    plan = plan_audits(small, splits, parts=parts, key=key, device=device) if plan is None else plan
    done: dict[str, Audit] = {}
    left_out = dict(plan.left_out)
    with progress_context(progress) as watcher:
        report = count_callback(progress, watcher)
        common: dict[str, Any] = {"seed": seed, "device": device, "progress": report}
        runs: Mapping[str, Callable[[], Audit]] = {
            "privacy": lambda: audit_privacy(small, splits, **common),
            "fairness": lambda: audit_fairness(small, splits, **common),
            "screening": lambda: audit_screening(small, splits, **common),
            "poisoning": lambda: audit_poisoning(small, **common),
            "robustness": lambda: audit_robustness(small, splits, **common),
            "provenance": lambda: audit_provenance(small, key if key is not None else b"", **common),
        }
        for name in plan.seconds:
            try:
                done[name] = runs[name]()
            except PotstillError as error:
                left_out[name] = str(error)
                continue
            if on_part is not None:
                on_part(done[name])
    return Audits(parts=done, left_out=left_out, plan=plan)
