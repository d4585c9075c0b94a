"""What a distillation would take on machines that are not here, as text."""

from typing import TYPE_CHECKING

from potstill._util.formatting import about, roughly, size_of
from potstill.cli.text import columns, plural

if TYPE_CHECKING:
    from potstill.planning.cluster import ClusterPlan
    from potstill.planning.phases import Phase

__all__ = ["afar"]

_BOUND = {"compute": "computing", "exchange": "exchange of gradients", "disk": "reading", "decoding": "decoding"}


def afar(plan: "ClusterPlan") -> str:
    """Time, memory, disk and cost; then the phases; then what was measured and what is assumed."""
    c, disk = plan.cluster, plan.disk
    nodes = f"{plural(c.nodes, 'node')} of {plural(c.gpus, 'device')}"
    cost = "" if plan.price is None else f", {plan.price:,.2f} at {c.price:g} an hour"
    tight = [p for p in plan.phases if not p.fits]
    halved = [p for p in plan.phases if p.fits and p.parts > 1]
    lines = [
        f"time: {about(plan.seconds)} on {nodes}, {size_of(c.memory)} and {c.flops / 1e12:g} TFLOP/s each",
        f"cost: {_hours(plan.gpu_hours)} device-hours held, {_hours(plan.busy_hours)} of them at work{cost}",
        f"memory: {size_of(plan.memory)} of a device, of {size_of(c.memory)}",
        f"disk: {size_of(disk['total'])}: " + ", ".join(f"{size_of(disk[n])} {n}" for n in disk if n != "total"),
        *(f"does not fit: {p.name} needs {size_of(p.memory)}, even one sample at a time" for p in tight),
        *(f"{p.name}: each batch in {p.parts} parts, to fit; BatchNorms that train cannot be" for p in halved),
        "",
        f"{plan.method} with {plan.network} on {plan.source}: {plan.samples:,} samples of "
        f"{'×'.join(map(str, plan.shape))}{f' in {plan.classes:,} classes' if plan.classes else ''}; a set of "
        f"{plan.items:,}; labels and students of {plan.protocol}",
        "",
        columns(["phase", "time", "devices", "memory each", "bound by"], [_row(p) for p in plan.phases]),
        "",
        *(f"measured: {said}" for said in plan.measured),
        *(f"assumed: {said}" for said in plan.assumed),
    ]
    return "\n".join(lines)


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _row(phase: "Phase") -> list[str]:
    return [phase.name, roughly(phase.seconds), str(phase.devices), size_of(phase.memory), _BOUND[phase.bound]]
