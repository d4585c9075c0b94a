"""What a distillation will cost, as text."""

from typing import TYPE_CHECKING

from potstill.cli.text import clock, columns, plural

if TYPE_CHECKING:
    from potstill.execution.peak import Memory
    from potstill.planning import Plan

__all__ = ["costs"]


def costs(plan: "Plan", time_budget: float | None) -> str:
    """The plan for a person: what runs, what comes out, the passes of a step, memory term by term, time if measured."""
    shape = "×".join(map(str, plan.shape))
    noun = "picture" if plan.kind == "image" else "row"
    low, high = plan.per_class
    per_class = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    size = plan.bytes
    lines = [
        f"{plan.method} over {plan.parametrization} in {plan.network}; labels {plan.labels}, augmentation "
        f"{plan.augment}, on {plan.device}",
        f"real data: {plural(plan.samples, noun)} of {shape} in {plan.classes:,} classes",
        f"the set: {plural(plan.inputs, noun)}, {per_class} of each class; {size['total']:,} bytes stored "
        f"({size['inputs']:,} of inputs, {size['labels']:,} of labels, {size['decoder']:,} of a decoder)",
        _steps(plan, time_budget),
        *_networks(plan),
    ]
    if plan.measured is not None:
        lines.append(_time(plan, time_budget))
    if plan.passes:
        lines += ["", _passes(plan)]
    lines += ["", _memory(plan.memory) if plan.memory is not None else _unknown(plan)]
    return "\n".join(lines)


def _steps(plan: "Plan", time_budget: float | None) -> str:
    published = "not known" if plan.published_steps is None else f"{plan.published_steps:,}"
    text = f"steps: {published} as set for the method"
    if plan.steps is not None and plan.steps != plan.published_steps:
        text += f", stopped after {plan.steps:,}"
    if time_budget is not None:
        text += f", or after {clock(time_budget)}"
    return text if plan.real_per_step is None else f"{text}; each reads {plural(plan.real_per_step, 'real sample')}"


def _networks(plan: "Plan") -> list[str]:
    return [
        f"before the first step: {plural(n.count, 'network')} trained on the real data "
        f"({n.kept:,} of them in the cache already)"
        for n in plan.networks
    ]


def _time(plan: "Plan", time_budget: float | None) -> str:
    m = plan.measured
    assert m is not None
    text = f"time: {m.median:.3g} s a step (median of {m.n} measured now, {m.least:.3g} to {m.most:.3g} s)"
    if m.forecast is None:
        return text
    if time_budget is not None and time_budget < m.forecast:
        return f"{text}; {clock(time_budget)} make about {plural(int(time_budget / m.median), 'step')}"
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
