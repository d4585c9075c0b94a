"""The verdict on one distilled set, from its scorecard."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from potstill._util.card import size_without_encoder
from potstill._util.formatting import format_size
from potstill._util.privacy_words import NO_CLAIM, privacy_claim
from potstill.tasks.metric import Metric
from potstill.verdicts.classes import LARGEST, POPULAR, largest_class, largest_class_line
from potstill.verdicts.verdict import Gap, Kind, Verdict, count_noun, mapping_of, noun_of_kind, number_of, stored_as

__all__ = ["AS_MANY", "MODEL", "REAL", "best_naive_forecast", "judge_scorecard", "shown_baselines"]

AS_MANY = "random-items"
"""The one baseline that does not match the set's bytes."""
MODEL = "model"
"""The one baseline that is no set: a network of the same bytes."""
REAL = "real"
"""The best real set. Its entry says ``same_as`` where it repeats another baseline's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Set:
    """Data, size and form of a set, in a verdict's words."""

    source: str
    items: int | None
    noun: str
    bytes: int | None
    method: str
    is_selection: bool
    choice: str
    flags: str
    has_labeller: bool = False
    """A network in the file labels views of its inputs."""

    @classmethod
    def of(cls, scorecard: Mapping[str, Any], card: Mapping[str, Any]) -> "_Set":
        about = mapping_of(scorecard.get("set"))
        sizes = mapping_of(scorecard.get("bytes")), mapping_of(card.get("bytes"))
        size = size_without_encoder(sizes[0]) or size_without_encoder(sizes[1])
        items, total = number_of(about.get("items", card.get("items"))), number_of(size)
        choice = about.get("choice") or mapping_of(card.get("choice")).get("answer")
        flags = [word for word in ("optimistic", "quick") if scorecard.get(word) is True]
        method = str(about.get("method") or card.get("method") or "")
        return cls(
            source=str(about.get("source") or mapping_of(card.get("source")).get("name") or ""),
            items=None if items is None else int(items), bytes=None if total is None else int(total),
            noun=noun_of_kind(about.get("kind") or mapping_of(card.get("input")).get("kind", "image")),
            method=method, is_selection=about.get("selection", card.get("selection", method == "random")) is True,
            choice=str(choice or ""), flags=" and ".join(flags),
            has_labeller=any("labeller" in of for of in sizes),
        )  # fmt: skip

    @property
    def form(self) -> str:
        """``distilled``, or what real samples are."""
        if not self.is_selection:
            return "distilled"
        return "random real" if self.method == "random" else "selected real"

    def cost(self, gap: Gap, metric: Metric) -> str:
        """``distilling loses 3.1 points``, or what a selection loses."""
        if not self.is_selection:
            return f"distilling {gap.loss(metric)}"
        many = "the selected" if self.items is None else f"{self.items:,} selected"
        return f"{many} one{'' if self.items == 1 else 's'} {gap.loss(metric, plural=self.items != 1)}"

    @property
    def of_source(self) -> str:
        return f" of {self.source}" if self.source and self.source != self.noun else ""

    def subject(self) -> str:
        """``40 distilled pictures of mnist-5k in 994 bytes``."""
        many = f"a set of {self.form} {self.noun}" if self.items is None else (
            count_noun(self.items, f"{self.form} {self.noun}")
        )  # fmt: skip
        network = " with a network that labels them" if self.has_labeller else ""
        return f"{many}{self.of_source}{network}" + ("" if self.bytes is None else f" in {format_size(self.bytes)}")

    def verb(self, plural: str, singular: str) -> str:
        return singular if self.items in (None, 1) else plural


@dataclass(frozen=True, slots=True, kw_only=True)
class _Baseline:
    """A baseline, and the set's difference from it."""

    name: str
    mean: float
    gap: Gap
    about: Mapping[str, Any]

    def phrase(self, noun: str) -> str:
        """The end of ``better than …``."""
        if self.name == AS_MANY:
            size = number_of(self.about.get("bytes"))
            return f"as many random real {noun}" + ("" if size is None else f", which take {format_size(int(size))}")
        if self.name == "random":
            return f"random real {noun} in the same bytes"
        if self.name == "random-soft":
            return f"random real {noun} with soft labels in the same bytes"
        if self.name == REAL:
            return f"the best real {noun} in the same bytes"
        return f"{self.name} in the same bytes"

    def storage_phrase(self, of: _Set) -> str:
        """``121 real pictures of photos as JPEG``."""
        items, form = number_of(self.about.get("items")), "random real" if self.name == "random" else "real"
        many = f"{form} {of.noun}" if items is None else count_noun(int(items), f"real {of.noun}")
        how = stored_as(self.about.get("codec")) if self.name != AS_MANY else ""
        return f"{many}{of.of_source}{f' {how}' if how else ''}"


def shown_baselines(scorecard: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the baselines of a scorecard by name, without an entry that repeats another."""
    held = mapping_of(scorecard.get("baselines"))
    return {str(name): mapping_of(value) for name, value in held.items() if "same_as" not in mapping_of(value)}


def judge_scorecard(scorecard: Mapping[str, Any] | None, card: Mapping[str, Any] | None = None) -> Verdict:
    """Return the verdict on a distilled set.

    The set is better where the whole interval of its paired difference from every baseline of the same bytes is on the
    better side of zero; worse where that from the best baseline is on the other side; else not told apart.

    Args:
        scorecard: the JSON of an evaluation; ``None``: there is none.
        card: the set's metadata, for what an older scorecard does not say.
    """
    held, metadata = scorecard or {}, card or {}
    about = _Set.of(held, metadata)
    if about.choice == "real" and not mapping_of(metadata.get("choice")):
        stored = Verdict.from_json(held.get("verdict"))  # the set's metadata have the choice itself
        if stored is not None:
            return stored
    metric = Metric.from_scorecard(held)
    score = mapping_of(held.get("score") or held.get("accuracy"))
    mean = number_of(score.get("mean"))
    if mean is None:
        return _unmeasured(about, metadata)
    verdict = _beside_model(_judge(about, held, metadata, metric, mean), held, metric, mean)
    verdict = _where_private(verdict, about, privacy_claim(mapping_of(held.get("set"))) or privacy_claim(metadata))
    text = verdict.text + _left_out(held, verdict.kind)
    if about.flags:
        text = f"{about.flags.capitalize()}: {text[:1].lower() + text[1:]}"
    return Verdict(kind=verdict.kind, text=text, advice=verdict.advice, reason=verdict.reason,
                   against=verdict.against, difference=verdict.difference)  # fmt: skip


def _left_out(scorecard: Mapping[str, Any], kind: str) -> str:
    """Return the end of a sentence that names baselines of the same bytes that were to be measured and were not."""
    names = [str(name) for name in mapping_of(scorecard.get("left_out"))]
    if scorecard.get("quick") is True:
        names = [name for name in names if name != "random-soft"]  # a quick look never measures it
    if not names or kind in ("reference", "naive"):
        return ""
    return f"; {' and '.join(names)} {'was' if len(names) == 1 else 'were'} left out"


def _beside_model(verdict: Verdict, scorecard: Mapping[str, Any], metric: Metric, mean: float) -> Verdict:
    """Return the verdict, its advice with a network of the same bytes where that is clearly ahead of the set."""
    model = next((b for b in _baselines(scorecard, mean) if b.name == MODEL), None)
    if model is None or not model.gap.is_tested or model.gap.side(metric) >= 0:
        return verdict
    size = number_of(model.about.get("bytes"))
    within = "" if size is None else f" ({format_size(int(size))})"
    reached = f"{metric.format(model.mean)} {metric.name}" if metric.unit == "fraction" else (
        f"{metric.name} {metric.format(model.mean)}"
    )  # fmt: skip
    advice = (
        f"{verdict.advice} A network of the same bytes{within} reaches {reached}: a set is worth it only if you must "
        "train."
    )
    return replace(verdict, advice=advice)


def _where_private(verdict: Verdict, about: _Set, claim: tuple[float, float] | None) -> Verdict:
    """Return the verdict; where it says to keep real samples, its advice says that they have no formal privacy."""
    if claim is None or verdict.kind not in ("worse", "not told apart"):
        return verdict
    advice = (
        f"{verdict.advice} But real {about.noun} have {NO_CLAIM}: where they must not be shared, the set, which claims "
        f"ε = {claim[0]:g}, may be."
    )
    return replace(verdict, advice=advice)


def _unmeasured(about: _Set, card: Mapping[str, Any]) -> Verdict:
    """The verdict without a scorecard: that of the run itself, if it chose between real and distilled samples."""
    if about.choice == "real":
        return _judge_kept_samples(about, card)
    return Verdict(
        kind="unmeasured", text=f"{_capital(about.subject())}, not measured yet",
        advice="Nothing is known of how well the set trains a model: `potstill evaluate` measures it.",
    )  # fmt: skip


def _judge_kept_samples(about: _Set, card: Mapping[str, Any]) -> Verdict:
    """The verdict on real samples that a run kept, as no distilled ones were better on held-out training data."""
    choice = mapping_of(card.get("choice"))
    gap = Gap.from_json(choice.get("difference"))
    how = stored_as(mapping_of(card.get("codec")).get("name"))
    many = f"real {about.noun}" if about.items is None else count_noun(about.items, f"real {about.noun}")
    lost = gap is not None and gap.side(_HELD_OUT) < 0
    if gap is None:
        why = "no way to distil was tried"
    else:
        why = f"distilling {gap.loss(_HELD_OUT) if lost else 'shows no gain'} here"
    return Verdict(
        kind="worse" if lost else "not told apart",
        text=f"Keep {many}{about.of_source}{f' {how}' if how else ''}: {why}",
        reason="" if gap is None else f"On held-out training data, distilled minus real: {gap.interval(_HELD_OUT)}.",
        advice=f"The file holds these samples; {_more(choice, gap)}", difference=gap,
    )  # fmt: skip


def _more(choice: Mapping[str, Any], gap: Gap | None) -> str:
    """Return the end of an advice: how distilling could go on, or begin."""
    if gap is not None:
        return "a longer time limit lets distilling go on."
    tried = choice.get("tried")
    rows = [mapping_of(t) for t in tried] if isinstance(tried, list) else []
    reasons = [str(row["left_out"]) for row in rows if row.get("real") is False and row.get("left_out")]
    if not reasons or any("time limit" in reason for reason in reasons):
        return "a longer time limit lets distilling begin."
    return f"a way to distil was left out, as {reasons[0]}."


_HELD_OUT = Metric.from_scorecard(None)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _baselines(scorecard: Mapping[str, Any], mean: float) -> list[_Baseline]:
    """Every baseline with a mean."""
    baselines = []
    for name, held in shown_baselines(scorecard).items():
        if (other := number_of(held.get("mean"))) is None:
            continue
        gap = Gap.from_json(held.get("difference")) or Gap.from_json(mapping_of(scorecard.get("difference")).get(name))
        baselines.append(_Baseline(name=str(name), mean=other, gap=gap or Gap(mean=mean - other), about=held))
    return baselines


def _judge(about: _Set, scorecard: Mapping[str, Any], card: Mapping[str, Any], metric: Metric, mean: float) -> Verdict:
    if about.choice == "real":
        return _judge_kept_samples(about, card)
    every = [baseline for baseline in _baselines(scorecard, mean) if baseline.name != MODEL]
    fair = [baseline for baseline in every if baseline.name != AS_MANY]
    if about.method == "random" and not about.choice and not about.has_labeller:
        reached = f"{metric.format(mean)} {metric.name}" if metric.unit == "fraction" else (
            f"{metric.name} {metric.format(mean)}{'' if metric.unit == metric.name else f' ({metric.unit})'}"
        )  # fmt: skip
        return Verdict(
            kind="reference", text=f"{_capital(about.subject())} train to {reached}",
            advice="This is a baseline: every distilled set of these bytes has to be better.",
        )  # fmt: skip
    if (naive := _naive(about, scorecard, metric, mean)) is not None:
        return naive
    baselines = fair or every
    if not baselines:
        reached = metric.format(mean) + (f" {metric.name}" if metric.unit == "fraction" else "")
        return Verdict(
            kind="no baselines", text=f"{_capital(about.subject())} {about.verb('train', 'trains')} to {reached}, "
            "beside no real samples",
            advice="Only a comparison says if the set is worth its bytes: `potstill evaluate` with its "
            "baselines makes it.",
        )  # fmt: skip
    return _against(about, baselines, scorecard, metric)


def _against(about: _Set, baselines: list[_Baseline], scorecard: Mapping[str, Any], metric: Metric) -> Verdict:
    """Return the verdict against one baseline or more."""
    best = max(baselines, key=lambda baseline: metric.sign * baseline.mean)
    open_baselines = [baseline for baseline in baselines if baseline.gap.is_tested and baseline.gap.side(metric) <= 0]
    untested = [baseline for baseline in baselines if not baseline.gap.is_tested]
    decisive = best
    kind: Kind
    if best.gap.is_tested and best.gap.side(metric) < 0:
        kind = "worse"
    elif not best.gap.is_tested:
        kind = "untested"
    elif open_baselines:
        kind, decisive = "not told apart", best if best in open_baselines else open_baselines[0]
    elif untested:
        kind, decisive = "untested", untested[0]
    else:
        kind = "better"
    gap, than = decisive.gap, decisive.phrase(about.noun)
    train = about.verb("train", "trains")
    text = {
        "better": f"{_capital(about.subject())} {train} {gap.better_by(metric)} than {than}",
        "worse": f"Keep {decisive.storage_phrase(about)}: {about.cost(gap, metric)} here",
        "not told apart": f"{_capital(about.subject())} {about.verb('are', 'is')} not told apart from {than}",
        "untested": f"{_capital(about.subject())}: one student cannot tell {about.verb('them', 'it')} from {than}",
    }[kind]
    reason = f"This set minus {decisive.name}: {gap.interval(metric)}{_less(metric)}."
    return Verdict(
        kind=kind, text=text, reason=reason + _near(scorecard, metric),
        advice=_advice(kind, about, scorecard, metric, gap), against=decisive.name, difference=gap,
    )  # fmt: skip


def _less(metric: Metric) -> str:
    return "; less is better" if metric.direction == "lower" else ""


def _near(scorecard: Mapping[str, Any], metric: Metric) -> str:
    """Return a sentence where the largest class alone is as right as the lower end of the set's interval."""
    best = largest_class(scorecard)
    ends = mapping_of(scorecard.get("score")).get("ci95")
    low = number_of(ends[0]) if isinstance(ends, list | tuple) and len(ends) == 2 else None
    if best is None or low is None or metric.better(low, best[1]) or not largest_class_line(scorecard):
        return ""
    return (
        f" Always answering the largest class ({best[0]}) is right {metric.format(best[1])} of the time, which the "
        "set's interval includes."
    )


def _advice(kind: str, about: _Set, scorecard: Mapping[str, Any], metric: Metric, gap: Gap) -> str:
    full = number_of(mapping_of(scorecard.get("full")).get("mean"))
    if kind == "better":
        rest = "" if full is None else f"; all real data reach {metric.format(full)}"
        return f"Use the set where its bytes are the limit{rest}."
    if kind == "worse":
        rest = "" if about.is_selection else "; more bytes, more steps or another method may turn it"
        return f"Use those real {about.noun}{rest}."
    if kind == "not told apart":
        return (
            f"{_in_this_run(about, gap, metric)}more students (`seeds`) or test samples would tell. Keep real "
            f"{about.noun} until a gain is shown."
        )
    return "Measure with `seeds` 5: one student shows no spread."


def _in_this_run(about: _Set, gap: Gap, metric: Metric) -> str:
    """Return ``In this run they are 7.3 points lower: ``, so that not told apart is not read as equal."""
    if metric.unit == "fraction":
        if f"{100 * abs(gap.mean):.1f}" == "0.0":
            return "In this run they are level: "
        it = about.verb("they are", "it is") if about.items is not None else "it is"
        return f"In this run {it} {gap.amount(metric)} {'lower' if gap.mean < 0 else 'higher'}: "
    return f"In this run the {metric.name} is {gap.amount(metric)} {'lower' if gap.mean < 0 else 'higher'}: "


def best_naive_forecast(scorecard: Mapping[str, Any], metric: Metric) -> tuple[str, float] | None:
    """Return name and score of the best answer that learns nothing; ``None`` where none was scored.

    That is a naive forecast or, for classes, always the largest one.
    """
    scores = {
        str(name): score for name, value in mapping_of(scorecard.get("naive")).items()
        if (score := number_of(mapping_of(value).get("score"))) is not None
    }  # fmt: skip
    return max(scores.items(), key=lambda pair: metric.sign * pair[1], default=None)


def _naive(about: _Set, scorecard: Mapping[str, Any], metric: Metric, mean: float) -> Verdict | None:
    """The verdict where a forecast that learns nothing is better than what the set trains."""
    best = best_naive_forecast(scorecard, metric)
    if best is None or metric.better(mean, best[1]) or (best[0] != LARGEST and mean == best[1]):
        return None
    name, score = best
    gap = Gap(mean=mean - score)
    both = f"{metric.format(mean)} against {metric.format(score)}"
    if name == LARGEST:
        answer = f"Always answering the largest class ({(largest_class(scorecard) or ('',))[0]})"
        level = "is as good as" if mean == score else "beats"
        return Verdict(
            kind="naive", text=f"{answer} {level} a model trained on {about.subject()}", reason=f"Accuracy {both}.",
            advice="Give the set more bytes or steps, and look at the accuracy of each class; a gain over random "
            "samples is of no use before.",
            against=name, difference=gap,
        )  # fmt: skip
    if name == POPULAR:
        return Verdict(
            kind="naive",
            text=f"Recommending the {name}, which learns nothing, beats a model trained on {about.subject()}",
            reason=f"{metric.name} {both}.",
            advice="Recommend those, or give the set more users; a gain over random users is of no use before.",
            against=name, difference=gap,
        )  # fmt: skip
    forecast = f"The {name}" if name in ("last value", "mean", "drift") else f"The {name} forecast"
    return Verdict(
        kind="naive", text=f"{forecast}, which learns nothing, beats a model trained on {about.subject()}",
        reason=f"{metric.name.capitalize()} {both}{_less(metric)}.",
        advice="Use that forecast, or give the set more bytes; a gain over random windows is of no use before.",
        against=name, difference=gap,
    )  # fmt: skip
