"""What a distillation will cost, as text."""

from typing import TYPE_CHECKING

from potstill._util.formatting import about, size_of
from potstill.cli.text import clock, columns, plural

if TYPE_CHECKING:
    from potstill.execution.peak import Memory
    from potstill.planning.plan import Plan

__all__ = ["costs"]


def costs(plan: "Plan", time_limit: float | None, details: bool = False) -> str:
    """The plan for a person: what runs, what comes out, time if measured; with ``details`` the passes of a step and
    memory term by term."""
    shape = f" of {'×'.join(map(str, plan.shape))}" if plan.shape else ""
    noun = {"image": "picture", "pair": "pair", "series": "window"}.get(plan.kind, "row")
    low, high = plan.per_class
    per_class = f", {low:,} of each class" if low == high else f", {low:,} to {high:,} of each class"
    classes = f" in {plan.classes:,} classes" if plan.classes else ""
    size = plan.bytes
    lines = [
        _total(plan, time_limit),
        _peak(plan),
        "",
        f"{plan.method} over {plan.parametrization} in {plan.network}; labels {plan.labels}, augmentation "
        f"{plan.augment}, on {plan.device}",
        f"real data: {plural(plan.samples, noun)}{shape}{classes}",
        f"the set: {plural(plan.inputs, noun)}{per_class if plan.classes else ''}; {_stored(plan)} "
        f"({size['inputs']:,} of inputs, {size['labels']:,} of labels, {size['decoder']:,} of a decoder)",
        _steps(plan, time_limit),
        *_networks(plan),
    ]
    if plan.measured is not None:
        lines.append(_time(plan, time_limit))
    if details and plan.passes:
        lines += ["", _passes(plan)]
    if details and plan.memory is not None:
        lines += ["", _memory(plan.memory)]
    return "\n".join(lines)


def _stored(plan: "Plan") -> str:
    total = plan.bytes["total"]
    if plan.codec == "auto":
        return f"at most about {total:,} bytes, as how many bits a value needs is found when it is there"
    return f"{total:,} bytes stored as {plan.codec}"


def _total(plan: "Plan", time_limit: float | None) -> str:
    """The time that all of it takes, in the units of people."""
    prepared = sum(n.seconds for n in plan.networks)
    first = f", {about(prepared).removeprefix('about ')} of it before the first step" if prepared >= 1 else ""
    if plan.measured is None:
        rough = "" if plan.rough is None else f"; roughly {about(plan.rough)} by counted operations"
        return f"time: not measured{rough}"
    if plan.seconds is None:
        begun = f"{about(prepared)} before the first step, then " if prepared >= 1 else ""
        until = "" if time_limit is None else f", for at most {clock(time_limit)}"
        return f"time: {begun}{plan.measured.median:.2g} s a step; how many there will be is not known before{until}"
    if time_limit is not None and time_limit < plan.seconds:
        if prepared > time_limit:
            return f"time: {about(prepared)} before the first step, more than the time limit of {clock(time_limit)}"
        return (
            f"time: {clock(time_limit)}, the limit; all steps would take {about(plan.seconds)} on this machine{first}"
        )
    return f"time: {about(plan.seconds)} on this machine{first}"


def _peak(plan: "Plan") -> str:
    return _unknown(plan) if plan.memory is None else f"memory: {size_of(plan.memory.peak)} at its peak"


def _steps(plan: "Plan", time_limit: float | None) -> str:
    steps = "not known" if plan.method_steps is None else f"{plan.method_steps:,}"
    effort = "" if plan.preset is None else f" (effort {plan.preset})"
    text = f"steps: {steps} as set for the method{effort}"
    if plan.steps is not None and plan.steps != plan.method_steps:
        text += f", stopped after {plan.steps:,}"
    if time_limit is not None:
        text += f", or after {clock(time_limit)}"
    return text if plan.real_per_step is None else f"{text}; each reads {plural(plan.real_per_step, 'real sample')}"


def _networks(plan: "Plan") -> list[str]:
    return [
        f"before the first step: none of the {n.name} is trained ({n.count:,} given)"
        if n.given
        else f"before the first step: {plural(n.count, 'network')} trained on the real data "
        f"({n.kept:,} of them in the cache already)"
        for n in plan.networks
    ]


def _time(plan: "Plan", time_limit: float | None) -> str:
    m = plan.measured
    assert m is not None
    text = f"time: {m.median:.3g} s a step (median of {m.n} measured now, {m.least:.3g} to {m.most:.3g} s)"
    if m.forecast is None:
        return text
    if time_limit is not None and time_limit < m.forecast:
        return f"{text}; {clock(time_limit)} make about {plural(int(time_limit / m.median), 'step')}"
    return f"{text}; {plural(plan.steps or 0, 'step')} take about {clock(m.forecast)}"


def _passes(plan: "Plan") -> str:
    rows = [
        [p.what, f"{p.samples:,}", f"{p.at_once:,}", "every step" if p.every == 1 else f"every {p.every} steps"]
        for p in plan.passes or ()
    ]
    return columns(["what a step passes", "samples", "at once", "how often"], rows)


def _memory(memory: "Memory") -> str:
    decides = memory.largest
    rows = [
        *([f"{t.bytes:,}", t.what, t.how] for t in memory.always),
        [f"{decides.bytes:,}", f"largest moment: {decides.what}", decides.how],
        [f"{memory.spare.bytes:,}", memory.spare.what, memory.spare.how],
        [f"{memory.peak:,}", "predicted peak", f"the sum, but at least the {memory.loading:,} of loading the data"],
    ]
    width = max(len(row[0]) for row in rows)
    total = columns(["bytes", "of", "how it comes about"], [[row[0].rjust(width), *row[1:]] for row in rows])
    moments = [[f"{t.bytes:,}".rjust(width), t.what, t.how] for t in memory.moments]
    head = ["bytes", "moments, one at a time", "how it comes about"]
    return f"{total}\n\n{columns(head, moments)}"


def _unknown(plan: "Plan") -> str:
    why = f"{plan.method} does not say what a step holds" if plan.passes is None else "the formula is that of the CPU"
    return f"memory: not predicted ({why})"
