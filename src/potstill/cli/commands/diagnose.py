"""``potstill diagnose``: options and text."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from tyro.conf import arg

from potstill._util.formatting import format_estimate_words
from potstill._util.progress import ProgressReporter
from potstill.cli.command import Answer, DataCommand, Flag, ForceOption, JobOptions, Parsed, SetArgument, optional
from potstill.cli.option_types import Integers, Names
from potstill.cli.reading import load_set_and_data
from potstill.cli.text import columns, json_document, plural
from potstill.errors import PotstillWarning

if TYPE_CHECKING:
    from potstill.tasks.metric import Metric

__all__ = ["Diagnose", "diagnosis_text", "estimate_text"]

_SHOWN = 5
"""Items of a list."""


@dataclass(frozen=True, kw_only=True)
class Diagnose(ForceOption, JobOptions, DataCommand):
    """Diagnose a distilled set: what students learn from it besides their score.

    Parts, cheap ones first: nearest (the nearest real sample of each item, and copies), labeller (if networks of real
    data read the items), calibration, mixing (the set beside real samples), agreement (with networks of real data that
    were stopped early), curvature of the loss, influence (students without each item). The time of each is printed
    before it runs. Nothing is selected by the results.
    """

    file: SetArgument
    """The distilled set."""
    data: Annotated[str, arg(metavar="DATA")]
    """The real data that it was made of."""
    parts: Annotated[Names | None, optional("A,B,C")] = None
    """Parts, with commas between them (else all)."""
    plan: Flag = False
    """Only estimate the time."""
    split: Annotated[Literal["test", "validation"] | None, optional("test|validation")] = None
    """Real samples that students predict; validation is a fifth of the training part, which the set may have been made
    of. (default: test, where there is one)"""
    students: Annotated[int | None, optional("K")] = None
    """Students of each training set (else 3)."""
    steps: Annotated[int | None, optional("N")] = None
    """Updates of every student (else 180)."""
    lr: Annotated[float | None, optional("R")] = None
    """Learning rate of the students (else the one learned with the set, or 0.03)."""
    real: Annotated[Integers | None, optional("N,…")] = None
    """For mixing: real samples per class that are added (else 1,5,20)."""
    teacher_steps: Annotated[Integers | None, optional("N,…")] = None
    """For agreement and labeller: updates after which networks of real data are measured (else 1,3,10,30,100,300)."""
    groups: Annotated[int | None, optional("N")] = None
    """For influence: items that are left out one by one, at most; of larger sets groups of a class (else 100)."""
    network: Annotated[str | None, optional("NAME")] = None
    """Network of the students (else the one that the set was made with)."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of everything random."""
    out: Annotated[Path | None, optional("SET.study.json")] = None
    """Also write the result to this file; beside the set, `potstill report` shows it."""

    outputs: ClassVar[Mapping[str, tuple[str, ...]]] = {"out": ("study.json",)}

    def execute(self, parsed: Parsed, progress: ProgressReporter) -> Answer:
        from potstill._util.outputs import check_output
        from potstill.api.diagnose import diagnose, other_study, relative_path
        from potstill.dataset_file import write_atomic

        if self.out is not None:
            check_output(self.out, force=self.force, found=lambda at: other_study(at, self.file))
        small, _, splits = load_set_and_data(parsed, self.file, self.data, progress)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PotstillWarning)  # printed by load_set_and_data
            result = diagnose(
                small, splits, parts=self.parts, plan=self.plan, split=self.split, students=self.students,
                steps=self.steps, lr=self.lr, real=self.real, teacher_steps=self.teacher_steps, groups=self.groups,
                network=self.network, seed=self.seed, device=self.device, executor=self.executor_spec,
                progress=progress,
            )  # fmt: skip
        value: dict[str, Any] = {**result, "file": str(self.file), "command": parsed.line}
        if self.plan:
            return Answer(value, estimate_text(result))
        if self.out is not None:
            document = {**value, "file": relative_path(self.file, self.out)}
            write_atomic(self.out, (json_document(document) + "\n").encode())
        return Answer(value, diagnosis_text(result))


def estimate_text(plan: Mapping[str, Any]) -> str:
    """Return the expected cost of each part as text."""
    rows = [
        [name, of["students"] or "", of["networks"] or "", format_estimate_words(of["seconds"]).removeprefix("about ")]
        for name, of in plan["expected"].items()
    ]
    table = columns(["part", "students", "networks of real data", "about"], rows)
    return (
        f"{table}\nall of it: {format_estimate_words(plan['seconds'])} on one worker, with {plan['network']} "
        "asked about "
        f"{plural(plan['asked'], 'real sample')}\nA part that needs students of an earlier one takes them over."
    )


def diagnosis_text(result: Mapping[str, Any]) -> str:
    """Return a diagnosis as text, part by part."""
    from potstill.tasks.metric import Metric  # imports torch

    asked, recipe, small = result["asked"], result["recipe"], result["set"]
    lines = [
        f"{small['method']} set of {plural(small['items'], 'item')} of {result['data']['name']}; students: "
        f"{result['network']}, {recipe['steps']} updates at {recipe['lr']:g}, {recipe['students']} of each; asked "
        f"about {plural(asked['samples'], 'sample')} of the {asked['part']} part"
    ]
    metric = Metric(name="accuracy", direction="higher", unit="fraction", high=1.0)
    for name, part in result["parts"].items():
        lines += ["", *_TEXTS[name](part, metric)]
    left = [f"left out: {name}, as {why}" for name, why in result["left_out"].items()]
    lines += ["", *left] if left else []
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _ends(result: Mapping[str, Any] | None, metric: "Metric") -> str:
    """Return a difference with its interval, in the unit of differences."""
    if result is None:
        return ""
    ends = "" if result["ci95"] is None else f" [{', '.join(map(metric.format_difference, result['ci95']))}]"
    return f"{metric.format_difference(result['mean'])}{ends}"


def _nearest(part: Mapping[str, Any], metric: "Metric") -> list[str]:
    copies = [item for item in part["items"] if item["copy"]]
    if part["selected"]:
        said = f"the set is a selection of real samples: {part['exact']} of {len(part['items'])} are exact copies"
    else:
        said = (
            f"{plural(part['exact'], 'item')} exact copies of training samples and {part['near']} nearer than "
            f"{part['within']:g} times the usual distance of a real sample to its nearest other ({part['usual']:.4g})"
        )
    lines = [f"nearest: {said}"]
    if (test := part["test"]) is not None:
        lines.append(f"  of test samples: {test['exact']} exact, {test['near']} near")
    if part["other_class"] is not None:
        lines.append(f"  {plural(part['other_class'], 'item')} nearest to a sample of another class")
    head = ["item", "class", "nearest", "its class", "distance", "of usual", "copy"]
    shown = sorted(copies or part["items"], key=lambda item: float(item["distance"]))[:_SHOWN]
    rows = [
        [i["item"], i.get("class", ""), i["sample"], i.get("sample_class", ""), f"{i['distance']:.4g}",
         "" if i["relative"] is None else f"{i['relative']:.2f}", i["copy"] or "no"]
        for i in shown
    ]  # fmt: skip
    return [*lines, *_indented(columns(head, rows))]


def _labeller(part: Mapping[str, Any], metric: "Metric") -> list[str]:
    lines = [
        f"labeller: networks of real data take {_percent(part['agreement']['mean'])} of the items for what they are "
        f"labelled, and {_percent(part['real']['mean'])} of real samples ({part['networks']} networks, {part['steps']} "
        "updates)"
    ]
    rows = [[row["steps"], _percent(row["items"]), _percent(row["real"])] for row in part["curve"]]
    lines += _indented(columns(["after updates", "items", "real samples"], rows))
    others = [f"item {o['item']} ({o['class']}) for {o['taken_for']}" for o in part["taken_for_another"]]
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return [*lines, *([f"  taken for another class: {', '.join(others[:_SHOWN])}{more}"] if others else [])]


def _calibration(part: Mapping[str, Any], metric: "Metric") -> list[str]:
    rows = [
        [name, "diverged" if part[of]["ece"] is None else _percent(part[of]["ece"]["mean"]),
         _percent(part[of]["confidence"]), _percent(part[of]["accuracy"])]
        for name, of in (("the set", "set"), ("as many real samples", "random"))
    ]  # fmt: skip
    head = ["students of", "ECE", "confidence", "accuracy"]
    gap = part["difference"]
    return [
        f"calibration: over {part['bins']} bins of equal width; ECE of the set less that of real samples: "
        f"{_ends(gap, metric)} points",
        *_indented(columns(head, rows)),
    ]


def _mixing(part: Mapping[str, Any], metric: "Metric") -> list[str]:
    metric = type(metric).from_scorecard({"score": part["metric"]})
    rows = [
        [row["k"], metric.format(row["with_set"]["mean"]),
         metric.format(row["real_alone"]["mean"]) if "real_alone" in row else "",
         metric.format(row["real_instead"]["mean"]), _ends(row["difference"], metric)]
        for row in part["curve"]
    ]  # fmt: skip
    head = [
        f"real per {part['per']}",
        "with the set",
        "alone",
        "with real in its place",
        f"set less real, {metric.difference_unit}",
    ]
    return [f"mixing: {metric.column_title} of students", *_indented(columns(head, rows))]


def _agreement(part: Mapping[str, Any], metric: "Metric") -> list[str]:
    if part["peak"] is None:
        return ["agreement: all students of the set diverged"]
    peak, early = part["peak"], part["early"]
    lines = [
        f"agreement: highest, {_percent(peak['agreement']['mean'])}, with networks of real data stopped after "
        f"{plural(peak['steps'], 'update')}"
    ]
    rows = [[row["steps"], _percent(row["accuracy"]), _percent(row["agreement"]["mean"])] for row in part["curve"]]
    lines += _indented(columns(["stopped after", "its accuracy", "agreement"], rows))
    own = f"students of the set: accuracy {_percent(part['accuracy'])}"
    if part["among"] is not None:
        own += f", agreement among themselves {_percent(part['among']['mean'])}"
    lines.append(f"  {own}")
    if (subset := part["subset"]) is not None:
        lines.append(
            f"  at the nearest accuracy: {_percent(early['agreement']['mean'])} with the network stopped after "
            f"{early['steps']} ({_percent(early['accuracy'])}), {_percent(subset['agreement']['mean'])} with networks "
            f"of {subset['items']} random real samples ({_percent(subset['accuracy'])}); difference "
            f"{_ends(part['gap'], metric)} points"
        )
    return lines


def _curvature(part: Mapping[str, Any], metric: "Metric") -> list[str]:
    rows = []
    for name, of in (("the set", "set"), ("as many real samples", "random")):
        for on, of_what in (("real", f"{part['samples']} real samples"), ("set", "the set")):
            m = part[of][on]
            if m is None:
                rows.append([name, of_what, "diverged", "", ""])
                continue
            error = "" if m["trace_error"] is None else f" ± {m['trace_error']:.2g}"
            top = f"{m['eigenvalue']['mean']:.4g}{'' if m['settled'] else ' (not settled)'}"
            rows.append([name, of_what, f"{m['loss']['mean']:.4g}", f"{m['trace']['mean']:.4g}{error}", top])
    head = ["students of", "loss on", "loss", "trace of its Hessian", "largest eigenvalue"]
    ratio = "" if part["ratio"] is None else f"; on real samples the set's trace is {part['ratio']:.2f} times theirs"
    return [f"curvature: {part['vectors']} random vectors{ratio}", *_indented(columns(head, rows))]


def _influence(part: Mapping[str, Any], metric: "Metric") -> list[str]:
    what = "item" if part["exact"] else "group of items"
    noise = "" if part["noise"] is None else f", deviation between students {part['noise']:.2g}"
    lines = [
        f"influence: {part['groups']} trainings of {part['students']} students without one {what} each; loss with all "
        f"{'' if part['loss'] is None else format(part['loss'], '.4g')}{noise}; told from zero: {part['helps']} help, "
        f"{part['harms']} harm"
    ]
    known = [i for i in part["items"] if i["loss"] is not None]
    ends = known if len(known) <= 2 * _SHOWN else [*known[:_SHOWN], *known[-_SHOWN:]]
    rows = [
        [" ".join(map(str, i["items"][:4])) + ("…" if len(i["items"]) > 4 else ""), i.get("class", ""),
         f"{i['loss']:+.4f}", "yes" if i["told"] else "no", ", ".join(dict.fromkeys(s["class"] for s in i["samples"]))]
        for i in ends
    ]  # fmt: skip
    return [*lines, *_indented(columns([what, "class", "loss without it", "told", "most for samples of"], rows))]


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.split("\n")]


_TEXTS: Mapping[str, Callable[[Mapping[str, Any], "Metric"], list[str]]] = {
    "nearest": _nearest, "labeller": _labeller, "calibration": _calibration, "mixing": _mixing,
    "agreement": _agreement, "curvature": _curvature, "influence": _influence,
}  # fmt: skip
