"""The scorecard: the result of an evaluation, printed as a table or converted to JSON."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from potstill._util.card import size_without_encoder
from potstill._util.formatting import describe_codec
from potstill._util.html import join_html, one_line, tag
from potstill._util.notebook_repr import table
from potstill._util.outputs import check_output, read_json_object
from potstill.dataset_file import write_atomic
from potstill.dataset_file.metadata import to_json
from potstill.errors import PotstillError
from potstill.evaluation.naive import naive_lines
from potstill.tasks.metric import Metric
from potstill.verdicts import REAL, judge_scorecard, shown_baselines

__all__ = ["SCORES", "Scorecard", "ScorecardParts"]

SCORES = {
    "hlr": "short of the full data, both with hard labels (hlr): {:.3f}; less is better",
    "ior": "above random samples of the same bytes (ior): {:+.3f}; more is better",
    "lrs": "the two in one number from 0 to 1, where 0.27 is even (lrs): {:.3f}; more is better",
    "ars": "gain over random with and without augmentation, 0 to 1, where 0.27 is none (ars): {:.3f}; more is better",
}
"""Robust scores by key, in words."""

_ANY = {
    "hlr": "full data less this set: {} {}; {} is better",
    "ior": "this set less random samples of the same bytes: {} {}; {} is better",
}
"""Robust scores without classes, with unit and direction."""

_HEAD = ("95% interval", "n", "items", "bytes", "stored")


def _labelled(labeller: Mapping[str, Any] | None) -> list[str]:
    """Return the lines about who labelled."""
    if labeller is None:
        return []
    hashes = [labeller["hash"]] if isinstance(labeller["hash"], str) else labeller["hash"]
    whose = {True: ", the set's own teacher", False: ", not the set's own teacher", None: ""}[labeller["own"]]
    why = f" ({labeller['why']})" if labeller.get("why") else ""
    line = f"labels by {labeller['name']} [{' '.join(h[:8] for h in hashes)}]{whose}{why}"
    if labeller["agreement"] is not None:
        line += (
            f": it takes {100 * labeller['agreement']:.0f}% of the set's inputs for their classes, and "
            f"{100 * labeller['agreement_real']:.0f}% of real ones"
        )
    return [line, *([f"warning: {labeller['warning']}"] if labeller["warning"] else [])]


def _selected_settings(content: Mapping[str, Any]) -> list[str]:
    """Return the lines about students' learning rates: a protocol that selects them gives several under one
    fingerprint."""
    sides = {
        "this set": content.get("chosen"),
        **{row_label(n): b.get("chosen") for n, b in shown_baselines(content).items()},
    }
    rates = {name: f"{chosen['lr']:g}" for name, chosen in sides.items() if chosen and chosen.get("lr") is not None}
    left_out = [f"students trained with {line}" for line in (content.get("chosen") or {}).get("left_out", ())]
    if not rates:
        return left_out
    updates = (content.get("chosen") or {}).get("steps")
    if len(set(rates.values())) == 1:
        shown = next(iter(rates.values()))
    else:
        shown = ", ".join(f"{name} {rate}" for name, rate in rates.items())
    return [f"students trained with learning rate {shown}" + (f"; {updates:,} updates" if updates else ""), *left_out]


def row_label(name: str) -> str:
    """Return the name of a baseline as a table shows it."""
    return {REAL: "best-real"}.get(name, name)


def _best_real(entry: Mapping[str, Any] | None) -> list[str]:
    """Return the line that says what the best real set is."""
    if entry is None or "selection" not in entry:
        return []
    labels = "" if entry["labels"] == "hard" else f", a teacher's labels ({entry['labels']})"
    natural = ", classes in proportion to their samples" if entry.get("balance") == "natural" else ""
    how = f"{entry['selection']} samples in {entry['codec']}{natural}{labels}"
    return [f"best real samples by held-out training data: {entry.get('same_as', 'best-real')}, {how}"]


def describe_other_scorecard(path: Path, file: Path | None = None) -> str:
    """Describe a file at ``path`` that is not a scorecard, or that is another set's than ``file``'s; else empty."""
    held = read_json_object(path)
    if not {"protocol", "fingerprint"} <= held.keys():
        return "is there already, and is no scorecard"
    named = held.get("file")
    if file is None or not isinstance(named, str) or (path.parent / named).resolve() == file.resolve():
        return ""
    return f"holds the scorecard of {named[:80]}"


class ScorecardParts(NamedTuple):
    """Text of a scorecard: a title, a table and the lines below it."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    lines: list[str]


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """Result of an evaluation: the score, its interval, the baselines.

    Accuracies are fractions, other scores in the metric's unit. ``print`` shows a table, ``to_dict`` the JSON document.

    Examples:
        >>> small = potstill.distill("digits", "herding", ipc=1, progress=None)
        >>> score = potstill.evaluate(
        ...     small, "digits", networks="linear-model", seeds=1, baselines=False, full=False, progress=None,
        ...     robust_scores=False,
        ... )
        >>> score.metric.name, score.save("small.scorecard.json").name
        ('accuracy', 'small.scorecard.json')
    """

    content: Mapping[str, Any]
    """The JSON document."""

    @property
    def metric(self) -> Metric:
        """Metric of the scores."""
        return Metric.from_scorecard(self.content)

    @property
    def score(self) -> float:
        """Mean test score of the first network, in the metric's unit."""
        return float(self.content["score"]["mean"])

    @property
    def accuracy(self) -> float:
        """Mean test accuracy of the first network.

        Raises:
            PotstillError: the task has no classes.
        """
        if "accuracy" not in self.content:
            raise PotstillError(
                f"there is no accuracy without classes, but a score in {self.metric.name}: ask for that"
            )
        return float(self.content["accuracy"]["mean"])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return dict(self.content)

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the JSON document. Pages find its set by name: ``small.scorecard.json`` beside ``small.safetensors``.

        Args:
            path: the file to write.
            force: replace what is there, even if it is no scorecard.

        Returns:
            The path.

        Raises:
            PotstillError: the file cannot be written, or something else is there.
        """
        check_output(path, force=force, found=describe_other_scorecard)
        write_atomic(Path(path), (json.dumps(to_json(self.to_dict()), indent=1, allow_nan=False) + "\n").encode())
        return Path(path)

    @property
    def _head(self) -> tuple[str, ...]:
        return ("", self.metric.column_title, *_HEAD)

    def _rows(self) -> list[tuple[str, ...]]:
        """Rows of the table: name, score, interval, n, items, bytes, and codec."""
        c = self.content
        own = {
            "items": c["set"].get("items"),
            "bytes": size_without_encoder(c["bytes"]),
            "codec": c["set"].get("codec"),
        }
        rows = [
            ("this set", c["score"], own),
            *((row_label(name), b, b) for name, b in shown_baselines(c).items()),
        ]
        if c["full"] is not None:
            rows.append(("full data", c["full"], c["full"]))
        shown: list[tuple[str, ...]] = []
        for name, a, held in rows:
            ci = "" if a.get("ci95") is None else " to ".join(map(self.metric.format, a["ci95"]))
            ci = ci.replace("%", "")
            amounts = ["" if held.get(key) is None else f"{held[key]:,}" for key in ("items", "bytes")]
            per_class = None if name == "random-items" else held.get("per_class")
            how = held.get("network", "") if name == "model" else describe_codec(held.get("codec"), per_class)
            shown.append((name, self.metric.format(a["mean"]), ci, str(a["n"]), *amounts, how))
        return shown

    def _fair(self) -> list[str]:
        """Return the lines about which comparisons are fair, and which baselines were left out."""
        held = shown_baselines(self.content)
        equal = [row_label(name) for name, b in held.items() if b.get("codec") is not None and name != "random-items"]
        lines = []
        if equal:
            named = equal[0] if len(equal) == 1 else f"{', '.join(equal[:-1])} and {equal[-1]}"
            takes = "takes" if len(equal) == 1 else "take"
            lines.append(
                f"fair: {named} {takes} no more bytes than this set, stored as did best on held-out training data"
                + (", classes in proportion to their samples" if "balance" in next(iter(held.values())) else "")
            )
        if encoder := self.content["bytes"].get("encoder"):
            lines.append(f"bytes are without those of the encoder of texts ({encoder:,}), which real texts need, too")
        lines += _describe_decoder(self.content.get("shared_decoder"))
        if "random-items" in held:
            lines.append("random-items is as many samples as this set has, whatever they weigh: what papers compare")
        lines += _best_real(self.content["baselines"].get(REAL))
        if "model" in held:
            lines.append(f"model is no set but a network of no more bytes: {held['model'].get('network')}")
        elif equal and "model" not in self.content.get("left_out", {}):
            lines.append("a network of the same bytes may be better to ship than any set: baseline model measures it")
        return lines + [f"{name} was left out: {why}" for name, why in self.content.get("left_out", {}).items()]

    def __repr__(self) -> str:
        return str(self)

    def parts(self) -> "ScorecardParts":
        """Return the text in parts, for a display that draws its own table."""
        title, _, *rest = str(self).splitlines()
        rows = self._rows()
        return ScorecardParts(title, self._head, rows, rest[len(rows) :])

    def _repr_html_(self) -> str:
        parts = self.parts()
        lines = (tag("div", line) for line in parts.lines)
        return join_html([tag("b", parts.title), table(parts.head, parts.rows), *lines])

    def __str__(self) -> str:
        c, metric = self.content, self.metric
        every = (self._head, *self._rows())
        wide, span = (max(least, 2 + max(len(row[at]) for row in every)) for at, least in ((1, 10), (2, 17)))
        lines = [
            f"{c['set']['method']} on {c['set']['source']}, {c['set']['items']} inputs · protocol {c['protocol']} "
            f"v{c['protocol_version']} ({c['fingerprint']}) · {c['network']}"
            + (" · OPTIMISTIC: chosen on test data" if c["optimistic"] else "")
            + (" · QUICK: a shortened protocol, to look at and not to report" if c.get("quick") else ""),
            *(f"{a:<14}{b:>{wide}}{c:>{span}}{d:>4}{e:>8}{f:>12}  {g}".rstrip() for a, b, c, d, e, f, g in every),
            *self._fair(),
            *_selected_settings(c),
        ]
        for name, d in c["difference"].items():
            if d["ci95"] is None:
                continue
            low, high = d["ci95"]
            verdict = "" if low > 0 or high < 0 else ": not told apart"
            less = "; less is better" if metric.direction == "lower" and not verdict else ""
            lines.append(
                f"over {row_label(name)}: {metric.format_difference(d['mean'])} {metric.difference_unit} "
                f"[{metric.format_difference(low)}, {metric.format_difference(high)}]"
                f"{verdict}{less}"
            )
        if c["n"] == 1 and (c.get("learner") or {"draws": True})["draws"]:
            lines.append("one student shows no spread: its interval is of this student, and no difference is tested")
        lines += _recalls(c, metric.format) + _nearest_captions(c, metric)
        lines += naive_lines(c, metric.format)
        for name, a in list(c["networks"].items())[1:]:
            lines.append(f"on {name}: {metric.format(a['mean'])} (n {a['n']})")
        for name, value in c["scores"].items():
            if value is not None and "accuracy" in c:
                lines.append(SCORES[name].format(value))
            elif value is not None:
                better = {"ior": ("more", "less"), "hlr": ("less", "more")}[name][metric.direction == "lower"]
                lines.append(_ANY[name].format(metric.format_difference(value), metric.difference_unit, better))
        if c["full"] is not None and c["full"].get("diverged"):
            lines.append(
                "the network on the full data ended with weights that are not finite: nothing beside it means anything"
            )
        if (learner := c.get("learner")) is not None:
            once = "" if learner["draws"] else ", once, as it draws nothing: intervals are of the test samples"
            lines.append(
                f"{c['network']} is fitted{once}; the protocol's epochs, rates and augmentation do not concern it"
            )
        lines += _labelled(c.get("labeller"))
        if c.get("data", {}).get("made_of_train") is False:
            lines.append("the set was not made of this training data; if it holds test samples, the score is too high")
        if c["diverged"]:
            lines.append(f"{c['diverged']} students ended with weights that are not finite and count as chance")
        lines += judge_scorecard(c).lines()
        return "\n".join(one_line(line) for line in lines)


def _recalls(content: Mapping[str, Any], shown: Callable[[float], str]) -> list[str]:
    """Return a line for each direction of retrieval, and one on the part of the full data's score."""
    metrics, lines = content.get("metrics", {}), []
    for way, what in (("ir", "pictures found by texts"), ("tr", "texts found by pictures")):
        ranks = {n.partition("@")[2]: m["mean"] for n, m in metrics.items() if n.startswith(f"{way}@")}
        if ranks:
            told = ", ".join(f"{shown(mean)} within {k}" for k, mean in ranks.items())
            lines.append(f"{what} ({way.upper()}): {told}")
    full = (content.get("full") or {}).get("mean")
    if lines and full:
        lines.append(f"{100 * content['score']['mean'] / full:.0f}% of the score of the full data")
    return lines


def _nearest_captions(content: Mapping[str, Any], metric: Metric) -> list[str]:
    """Return the line on what learned texts lose as the nearest real captions."""
    entry = content.get("nearest_captions")
    if entry is None:
        return []
    ends = entry["difference"]["ci95"]
    loss = metric.format_difference(0.0 - entry["difference"]["mean"])
    told = "" if ends is None else " [{}, {}]".format(*(metric.format_difference(-end) for end in reversed(ends)))
    return [
        f"with the nearest real captions in place of learned texts: {metric.format(entry['mean'])}, {loss} "
        f"{metric.difference_unit}{told}"
    ]


def _describe_decoder(shared: Mapping[str, Any] | None) -> list[str]:
    """Return a line on the bytes of what the set decodes by; nothing where its file has everything."""
    if shared is None:
        return []
    if shared["counted"]:
        return [f"bytes are with the {shared['bytes']:,} of what the set decodes by, as a reader may lack it"]
    return [f"bytes are without the {shared['bytes']:,} of what the set decodes by: readers are said to have it"]
