"""``potstill plan``: options, estimate, and its text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tyro.conf import arg

from potstill._util.formatting import format_duration, format_estimate, format_estimate_words, format_size
from potstill._util.preset_words import describe_preset
from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, Flag, Misuse, Parsed, optional
from potstill.cli.commands.distill import OF_ONE_METHOD, RunOptions
from potstill.cli.option_types import Names
from potstill.cli.reading import load_data
from potstill.cli.text import Block, Table, count_inputs, plural
from potstill.errors import PotstillError

if TYPE_CHECKING:
    from potstill.execution.peak import MemoryEstimate
    from potstill.planning.cluster import ClusterPlan
    from potstill.planning.phases import Phase
    from potstill.planning.plan import ModelForecast
    from potstill.planning.plan import Plan as PlanResult

__all__ = ["Plan", "cluster_blocks", "plan_blocks"]

_OF_A_METHOD = {"method"} | OF_ONE_METHOD - {"profile_steps"}
"""Options with which distill, too, makes a set by one method."""
_BOUND = {"compute": "computing", "exchange": "exchange of gradients", "disk": "reading", "decoding": "decoding"}


@dataclass(frozen=True, kw_only=True)
class Plan(RunOptions):
    """Estimate what `potstill distill` with the same options would cost, without running it.

    First the time and the peak memory: some steps are run for that. Then the parts of the run, the size of the set, the
    steps, the real samples that each reads, and networks that must be trained first. The method's own settings are
    options too (--method NAME --help lists them).
    """

    profile_steps: Annotated[int | None, optional("K")] = None
    """Steps to run and time, after one that is not timed; 0: none. (default: as many as take 5 s)"""
    details: Flag = False
    """Also list the forward passes of each step, and the memory term by term. --json always has both."""
    cluster: Annotated[str | None, optional("MACHINES")] = None
    """Plan for machines that are not here: nodes=4,gpus=8,memory=80GB,flops=312T,bandwidth=100Gbit (and efficiency,
    link, disk, cores, price), or a YAML file of these. DATA may then be like:imagenet-1k, like:imagenet-21k or
    like:samples=50000,classes=10,shape=3x32x32, and need not be here. Labels and students are counted too."""
    experts: Annotated[tuple[Path, ...], arg(metavar="PATH ...", help_behavior_hint="")] = ()
    """Match these expert trajectories, instead of training them: files of an earlier run, published replay buffers
    (replay_buffer_0.pt), or folders of them."""
    baselines: Annotated[Names | None, optional("NAME,…")] = None
    """Also forecast a further baseline of evaluate and compare. model: a small quantised network in the same bytes."""
    students: Annotated[str | None, optional("PROTOCOL")] = None
    """With --cluster: the protocol of labels and students (else the method's, if it has one, or sre2l)."""

    main_options: ClassVar[tuple[str, ...]] = (
        "ipc", "bytes", "method", "preset", "time_limit", "network", "codec", "profile_steps", "details", "cluster",
    )  # fmt: skip
    option_groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **RunOptions.option_groups, "Measurement": ("baselines",), "Cluster": ("students",),
    }  # fmt: skip
    examples: ClassVar[tuple[str, ...]] = (
        "potstill plan photos/ --ipc 10",
        "potstill plan like:imagenet-1k --ipc 10 --method sre2l --cluster nodes=1,gpus=8,memory=80GB,flops=312T",
    )

    def check(self) -> None:
        super().check()
        if self.profile_steps is not None and self.profile_steps < 0:
            raise Misuse(f"plan: --profile-steps must be at least 0, but it is {self.profile_steps}")
        if self.cluster is None and self.students is not None:
            raise Misuse("plan: --students goes with --cluster, the machines that the plan is of; give both or neither")
        is_measured = self.profile_steps is not None or self.time_limit is not None or self.details or self.experts
        if self.cluster is not None and self.baselines:
            raise Misuse("plan: --baselines times networks on this machine; leave it out with --cluster")
        if self.cluster is not None and is_measured:
            raise Misuse(
                "plan: --cluster times a little of each phase by itself; leave out --profile-steps, --time-limit, "
                "--details and --experts"
            )

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.planning.plan import plan

        if self.cluster is not None:
            return self._run_for_cluster(self.cluster, parsed, progress)
        if self.data.startswith("like:"):
            raise PotstillError(
                f"{self.data[:80]} describes data that are not here, which only plan --cluster takes; say which "
                "machines, or give the data"
            )
        preset = "" if parsed.preset is None else f", preset {parsed.preset}"
        if not parsed.options and not parsed.explicit & _OF_A_METHOD:
            progress.note(
                "without --method, distill tries several methods and takes --time-limit, or five minutes, for it; this "
                f"plan is of {self.method}"
            )
        progress.note(f"{self.method}{preset}: reading {self.data}")
        splits = load_data(parsed, self.data, progress)
        result = plan(
            splits, self.method, profile_steps=self.profile_steps, experts=self.experts or None, progress=progress,
            baselines=self.baselines or (), **self.keywords(parsed),
        )  # fmt: skip
        for note in result.notes[len(splits.notes) :]:  # what the method left out
            progress.note(note)
        value = {**result.to_dict(), "time_limit": self.time_limit, "command": parsed.line}
        return Answer(value, plan_blocks(result, self.time_limit, self.details))

    def _run_for_cluster(self, machines: str, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill.data.synthetic_shape import parse_like
        from potstill.execution.cluster_spec import parse_cluster
        from potstill.planning.cluster import plan_cluster

        cluster = parse_cluster(machines)
        data = parse_like(self.data) if self.data.startswith("like:") else load_data(parsed, self.data, progress)
        keywords: dict[str, Any] = self.keywords(parsed)
        for name in ("time_limit", "device", "executor"):
            del keywords[name]
        result = plan_cluster(data, self.method, cluster, protocol=self.students, **keywords)
        return Answer({**result.to_dict(), "command": parsed.line}, cluster_blocks(result))


def plan_blocks(plan: "PlanResult", time_limit: float | None, details: bool = False) -> list[Block]:
    """Return a plan as text; with ``details`` the forward passes of a step and the memory term by term."""
    made = count_inputs(plan.inputs, plan.kind, plan.shape).partition(" of ")[0]
    low, high = plan.per_class
    per_class = f", {low:,} of each class" if low == high else f", {low:,} to {high:,} of each class"
    classes = f" in {plan.classes:,} classes" if plan.classes else ""
    lines: list[Block] = [
        _total(plan, time_limit),
        _peak(plan),
        "",
        f"{plan.method} over {plan.parametrization} in {plan.network}; labels {plan.labels}, augmentation "
        f"{plan.augment}, on {plan.device}",
        f"real data: {count_inputs(plan.samples, plan.kind, plan.shape)}{classes}",
        f"the set: {made}{per_class if plan.classes else ''}; {_stored(plan)} ({_parts(plan.bytes)})" + _shared(plan),
        _steps(plan, time_limit),
        *_networks(plan),
    ]
    if plan.measured is not None:
        lines.append(_time(plan, time_limit))
    if plan.model is not None:
        lines.append(_model(plan.model))
    if details and plan.passes:
        lines += ["", _passes(plan)]
    if details and plan.memory is not None:
        lines += ["", *_memory(plan.memory)]
    return lines


def _model(model: "ModelForecast") -> str:
    """Return what the baseline of that name takes, beside the run."""
    if model.seconds is None:
        return f"baseline model: none, as {model.left_out}"
    return (
        f"baseline model: {plural(model.networks, 'network')} of at most {model.bytes:,} bytes; choosing, training and "
        f"measuring them takes {format_estimate_words(model.seconds)}, in evaluate or compare"
    )


def _stored(plan: "PlanResult") -> str:
    total = plan.bytes["total"]
    if plan.codec == "auto":
        return f"at most about {total:,} bytes, as how many bits a value needs is found when it is there"
    return f"{total:,} bytes stored as {plan.codec}"


def _shared(plan: "PlanResult") -> str:
    """Return the bytes with those of a decoder that the file lacks."""
    if not plan.shared_decoder_bytes:
        return ""
    in_all = plan.bytes["total"] + plan.shared_decoder_bytes
    return f"; {plan.shared_decoder_bytes:,} more of what it decodes by, in a file of its own: {in_all:,} in all"


def _parts(size: Mapping[str, int]) -> str:
    """Return what the bytes are of; together they are the total."""
    nouns = {
        "inputs": "inputs", "captions": "texts", "labels": "labels", "decoder": "a decoder", "index": "places",
        "weights": "weights", "learned": "learned values", "encoder": "the encoder of texts", "whitening": "whitening",
    }  # fmt: skip
    known = {noun: size.get(name, 0) for name, noun in nouns.items()}
    rest = size["total"] - sum(known.values())
    parts = [f"{n:,} of {noun}" for noun, n in (known | {"other values": rest}).items() if n]
    return ", ".join(parts) or "none"


def _total(plan: "PlanResult", time_limit: float | None) -> str:
    """The time that all of it takes, in the units of people."""
    prepared = sum(n.seconds for n in plan.networks)
    first = (
        f", {format_estimate_words(prepared).removeprefix('about ')} of it before the first step"
        if prepared >= 1
        else ""
    )
    if plan.measured is None:
        rough = "" if plan.rough is None else f"; roughly {format_estimate_words(plan.rough)} by counted operations"
        return f"time: not measured{rough}"
    if plan.seconds is None:
        begun = f"{format_estimate_words(prepared)} before the first step, then " if prepared >= 1 else ""
        until = "" if time_limit is None else f", for at most {format_duration(time_limit)}"
        return f"time: {begun}{plan.measured.median:.2g} s a step; how many there will be is not known before{until}"
    if time_limit is not None and time_limit < plan.seconds:
        if prepared > time_limit:
            return (
                f"time: {format_estimate_words(prepared)} before the first step, "
                f"more than the time limit of {format_duration(time_limit)}"
            )
        all_steps = format_estimate_words(plan.seconds)
        return (
            f"time: {format_duration(time_limit)}, the limit; all steps would take {all_steps} on this machine{first}"
        )
    return f"time: {format_estimate_words(plan.seconds)} on this machine{first}"


def _peak(plan: "PlanResult") -> str:
    return _unknown(plan) if plan.memory is None else f"memory: {format_size(plan.memory.peak)} at its peak"


def _steps(plan: "PlanResult", time_limit: float | None) -> str:
    steps = "not known" if plan.method_steps is None else f"{plan.method_steps:,}"
    preset = ""
    if plan.preset is not None:
        preset = f" (preset {describe_preset({'name': plan.preset, 'changed': list(plan.changed)}, plan.config)})"
    text = f"steps: {steps} as set for the method{preset}"
    if plan.steps is not None and plan.steps != plan.method_steps:
        text += f", stopped after {plan.steps:,}"
    if time_limit is not None:
        text += f", or after {format_duration(time_limit)}"
    return text if plan.real_per_step is None else f"{text}; each reads {plural(plan.real_per_step, 'real sample')}"


def _networks(plan: "PlanResult") -> list[str]:
    return [
        (
            f"before the first step: no {n.name} is trained (one is given)"
            if n.name == "generator"
            else f"before the first step: none of the {n.name} is trained ({n.count:,} given)"
        )
        if n.provided
        else f"before the first step: {plural(n.count, 'network')} trained on the real data "
        f"({n.cached:,} of them in the cache already)"
        for n in plan.networks
    ]


def _time(plan: "PlanResult", time_limit: float | None) -> str:
    m = plan.measured
    assert m is not None
    text = f"time: {m.median:.3g} s a step (median of {m.n} measured now, {m.least:.3g} to {m.most:.3g} s)"
    if m.forecast is None:
        return text
    if time_limit is not None and time_limit < m.forecast:
        return f"{text}; {format_duration(time_limit)} make about {plural(int(time_limit / m.median), 'step')}"
    return f"{text}; {plural(plan.steps or 0, 'step')} take about {format_duration(m.forecast)}"


def _passes(plan: "PlanResult") -> Table:
    rows = [
        [p.what, f"{p.samples:,}", f"{p.at_once:,}", "every step" if p.every == 1 else f"every {p.every} steps"]
        for p in plan.passes or ()
    ]
    return Table(["what a step passes", "samples", "at once", "how often"], rows)


def _memory(memory: "MemoryEstimate") -> list[Block]:
    decides = memory.largest
    rows = [
        *([f"{t.bytes:,}", t.name, t.explanation] for t in memory.always),
        [f"{decides.bytes:,}", f"largest moment: {decides.name}", decides.explanation],
        [f"{memory.spare.bytes:,}", memory.spare.name, memory.spare.explanation],
        [f"{memory.peak:,}", "predicted peak", f"the sum, but at least the {memory.loading:,} of loading the data"],
    ]
    width = max(len(row[0]) for row in rows)
    total = Table(["bytes", "of", "how it comes about"], [[row[0].rjust(width), *row[1:]] for row in rows])
    moments = [[f"{t.bytes:,}".rjust(width), t.name, t.explanation] for t in memory.moments]
    head = ["bytes", "moments, one at a time", "how it comes about"]
    return [total, "", Table(head, moments)]


def _unknown(plan: "PlanResult") -> str:
    why = f"{plan.method} does not say what a step holds" if plan.passes is None else "the formula is that of the CPU"
    return f"memory: not predicted ({why})"


def cluster_blocks(plan: "ClusterPlan") -> list[Block]:
    """Return a plan for a cluster as text: totals, phases, what was measured and what is assumed."""
    c, disk = plan.cluster, plan.disk
    nodes = f"{plural(c.nodes, 'node')} of {plural(c.gpus, 'device')}"
    cost = "" if plan.price is None else f", {plan.price:,.2f} at {c.price:g} an hour"
    tight = [p for p in plan.phases if not p.fits]
    halved = [p for p in plan.phases if p.fits and p.parts > 1]
    return [
        f"time: {format_estimate_words(plan.seconds)} on {nodes}, "
        f"{format_size(c.memory)} and {c.flops / 1e12:g} TFLOP/s each",
        f"cost: {_hours(plan.gpu_hours)} device-hours held, {_hours(plan.busy_hours)} of them at work{cost}",
        f"memory: {format_size(plan.memory)} of a device, of {format_size(c.memory)}",
        f"disk: {format_size(disk['total'])}: "
        + ", ".join(f"{format_size(disk[n])} {n}" for n in disk if n != "total"),
        *(f"does not fit: {p.name} needs {format_size(p.memory)}, even one sample at a time" for p in tight),
        *(f"{p.name}: each batch in {p.parts} parts, to fit; BatchNorms that train cannot be" for p in halved),
        "",
        f"{plan.method} with {plan.network} on {plan.source}: {plan.samples:,} samples of "
        f"{'×'.join(map(str, plan.shape))}{f' in {plan.classes:,} classes' if plan.classes else ''}; a set of "
        f"{plan.items:,}; labels and students of {plan.protocol}",
        "",
        Table(["phase", "time", "devices", "memory each", "bound by"], [_row(p) for p in plan.phases]),
        "",
        *(f"measured: {said}" for said in plan.measured),
        *(f"assumed: {said}" for said in plan.assumed),
    ]


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _row(phase: "Phase") -> list[str]:
    return [
        phase.name,
        format_estimate(phase.seconds),
        str(phase.devices),
        format_size(phase.memory),
        _BOUND[phase.bound],
    ]
