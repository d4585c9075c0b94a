"""Candidates of ``--method auto``: ways to make a set, one word each, and short lists by kind of data."""

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from potstill.core import SeriesData, Source, registry
from potstill.errors import PotstillError
from potstill.kinds import get_kind, is_of_kinds
from potstill.runs.arguments import parse_baselines
from potstill.tasks import Classification, Forecast, Recommendation, get_task, is_ragged

__all__ = [
    "SPELLED",
    "AutoOptions",
    "Candidate",
    "check_served",
    "parse_candidates",
    "parse_options",
    "usual_candidates",
]  # fmt: skip

SPELLED = "METHOD[:field=value,…][/PARAMETRIZATION][%CODEC][@STEPS,…]"
"""Spelling of a candidate."""
_FEW = "batch_real=64"
"""Real samples of each class in a step: a quarter of the published, as in docs/benchmarks/choice.md."""
_RATE = f"{_FEW},optimizer=adamw,lr=0.02"
"""Settings that validation chose for most cells of that page that are not made at the published rate."""

_FREPO = "frepo:batch_real=512,optimizer=adamw,steps_per_network=4,init_from=real"
"""The strongest in a few kilobytes of results/rate.json."""

_TINY = 16
"""Pictures with a shorter side have no resolution to lose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A way to make a set."""

    method: str
    options: tuple[tuple[str, Any], ...] = ()
    """Fields of the method."""
    parametrization: str | None = None
    codec: str | None = None
    """``None``: as a budget in bytes is written by default."""
    steps: tuple[int, ...] = ()
    """In all, at the end of each rung and of the final run; empty: as many as the time buys."""
    planned_bytes: int | None = None
    """Bytes that its inputs are planned by (`potstill.RunSpec`); ``None``: found by short runs where a clock allows."""
    draw: int | None = None
    """Number of the draw of real samples that is the answer; ``None``: that of the run's own seed."""

    @classmethod
    def parse(cls, text: str) -> "Candidate":
        """The candidate that is spelled so.

        Raises:
            PotstillError: it is spelled otherwise, or the method,
            one of its fields or the parametrization is unknown.
        """
        front, _, numbers = text.partition("@")
        front, _, codec = front.partition("%")
        front, _, parametrization = front.partition("/")
        method, _, settings = front.partition(":")
        options: dict[str, Any] = {}
        for setting in filter(None, settings.split(",")):
            name, equals, value = setting.partition("=")
            if not equals:
                raise PotstillError(f"candidate {text!r}: write {name}=VALUE; a candidate is {SPELLED}")
            options[name] = _value(value)
        try:
            steps = tuple(int(number) for number in filter(None, numbers.split(",")))
        except ValueError as error:
            raise PotstillError(f"candidate {text!r}: steps must be whole numbers; it is {SPELLED}") from error
        if list(steps) != sorted(steps) or any(n < 0 for n in steps):
            raise PotstillError(f"candidate {text!r}: steps are counted in all, so they rise; it is {SPELLED}")
        planned = options.pop("planned_bytes", None)
        if planned is not None and (type(planned) is not int or planned < 1):
            raise PotstillError(f"candidate {text!r}: planned_bytes must be a whole number of at least 1")
        draw = options.pop("draw", None)
        if draw is not None and (type(draw) is not int or draw < 1):
            raise PotstillError(f"candidate {text!r}: draw must be a whole number of at least 1")
        registry.make_method(method, options)
        if parametrization:
            registry.resolve("parametrizations", parametrization.partition(":")[0])
        return cls(
            method=method, options=tuple(options.items()), parametrization=parametrization or None,
            codec=codec or None, steps=steps, planned_bytes=planned, draw=draw,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """It without its steps, planned bytes and draw, as it is spelled."""
        return self._format(self.options)

    def _format(self, options: Sequence[tuple[str, Any]]) -> str:
        settings = ",".join(f"{name}={value}" for name, value in options)
        over = "" if self.parametrization is None else f"/{self.parametrization}"
        written = "" if self.codec is None else f"%{self.codec}"
        return f"{self.method}{':' + settings if settings else ''}{over}{written}"

    @property
    def is_real(self) -> bool:
        """True if it selects real samples."""
        return registry.get_method_class(self.method).info.is_selection

    @property
    def is_drawn(self) -> bool:
        """True if another seed keeps other samples."""
        selection = dict(self.options).get("selection", self.method)
        return self.is_real and selection in ("random", "k-means")

    @property
    def is_searched(self) -> bool:
        """True if how it keeps real samples is still to be searched."""
        return self.method == "real" and self.codec is None and "selection" not in dict(self.options)

    def format(self, steps: Sequence[int] = ()) -> str:
        """It with its planned bytes and its draw, and so many steps."""
        numbers = ("planned_bytes", self.planned_bytes), ("draw", self.draw)
        given = [(name, value) for name, value in numbers if value is not None]
        return self._format((*given, *self.options)) + (f"@{','.join(map(str, steps))}" if steps else "")

    def describe(self) -> str:
        """For people: method, what is stored, in which bits."""
        over = "" if self.parametrization is None else f" over {self.parametrization}"
        options = dict(self.options)
        method = options.pop("selection") if self.method == "real" and "selection" in options else self.method
        settings = f" ({', '.join(f'{n} {v}' for n, v in options.items())})" if options else ""
        return f"{method}{over}{settings}{'' if self.codec is None else f' in {self.codec}'}"


@dataclass(frozen=True, kw_only=True)
class AutoOptions:
    """Choose the method, and what it stores, on a part held out of the training data."""

    candidates: tuple[str, ...] = ()
    """Candidates in place of the usual list: METHOD[:field=value,…][/PARAMETRIZATION][%CODEC][@STEPS,…]. With @STEPS,
    as a card says them, no clock decides anything. Real samples must be among them."""
    validation: float = 0.3
    """Part of the training data that is held out, and at most 3,000 samples: half to choose, half to confirm."""
    students: int = 3
    """Students that say who goes on, at most, of each candidate: one in the first rung, one more in each. A short
    budget has fewer."""
    confirm: int = 5
    """Fresh students of the winner and of the best real samples, who say whether it is better. A short limit has 3."""
    student_steps: int = 0
    """Updates of a student. 0: what a quarter of the time buys, from 100 to 300."""
    baselines: tuple[str, ...] = ()
    """Baselines beside the answer. model: a small quantised network in the same bytes, trained on the same part of the
    data and scored on the same held-out samples; it may take a quarter of the time limit."""
    model_steps: int = 0
    """Updates of that network. 0: what its time buys, up to 2,000."""

    def __post_init__(self) -> None:
        """
        Raises:
            PotstillError: a value out of its range.
        """
        if not 0 < self.validation < 1:
            raise PotstillError(f"auto: validation must lie between 0 and 1, not be {self.validation}")
        for name, least in (("students", 1), ("confirm", 2), ("student_steps", 0), ("model_steps", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise PotstillError(f"auto: {name} must be a whole number of at least {least}, not {value!r}")


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parse_options(options: Mapping[str, Any], codec: object) -> AutoOptions:
    """
    Raises:
        PotstillError: an option does not exist or is out of range, or the codec is no name.
    """
    known = {field.name for field in dataclasses.fields(AutoOptions)}
    if strange := next((name for name in options if name not in known), None):
        raise PotstillError(
            f"auto has no option {strange!r}; it has {', '.join(sorted(known))}. Fields of a method stand in "
            f"candidates: {SPELLED}"
        )
    if codec is not None and not isinstance(codec, str):
        raise PotstillError("auto takes a codec by its name, such as uint4, as its candidates are words")
    words = options.get("candidates", ())
    if isinstance(words, str) or not all(isinstance(word, str) for word in words):
        raise PotstillError(f"auto: candidates must be several words, each {SPELLED}")
    named = options.get("baselines") or ()
    if not isinstance(named, str) and not (
        isinstance(named, Sequence) and all(isinstance(name, str) for name in named)
    ):
        raise PotstillError(f'auto: baselines must be names, such as ["model"], not {named!r:.80}')
    baselines = parse_baselines(named if isinstance(named, str) else ",".join(named)) if named else ()
    return AutoOptions(**{**options, "candidates": tuple(words), "baselines": tuple(dict.fromkeys(baselines))})


def parse_candidates(options: AutoOptions, source: Source, codec: str | None) -> tuple[Candidate, ...]:
    """Return the requested candidates, written by ``codec`` where they do not say how, or the usual list.

    Raises:
        PotstillError: one is spelled wrong, none keeps real samples, or some have steps and others none.
    """
    read = [Candidate.parse(text) for text in options.candidates]
    candidates = tuple(
        c if c.codec or codec is None else dataclasses.replace(c, codec=codec) for c in read
    ) or usual_candidates(source, codec)
    if not any(c.is_real for c in candidates):
        raise PotstillError("auto holds every candidate against real samples; add random or k-means to the candidates")
    made = [c for c in candidates if not c.is_real]
    if any(c.steps for c in made) and not all(c.steps for c in made):
        lacks = next(c.name for c in made if not c.steps)
        raise PotstillError(f"auto: some candidates have steps, but {lacks} has none; give them to all or to none")
    return candidates


def check_served(source: Source) -> None:
    """
    Raises:
        PotstillError: these data are of a kind that ``auto`` cannot choose for.
    """
    if is_ragged(get_task(source)):
        raise PotstillError(
            f"auto compares the scores of students, but {source.name} is {get_task(source).name}; name a method, such "
            "as random or dm; `potstill compare` measures several"
        )


def _serves(candidate: Candidate, source: Source) -> bool:
    """Tell whether the candidate's method says that it takes such inputs and targets."""
    info, spec = registry.get_method_class(candidate.method).info, source.input
    parts = [part for _, part in spec.parts] or [spec]
    return (
        ("*" in info.tasks or get_task(source).name in info.tasks)
        and all(is_of_kinds(part, info.kinds) for part in parts)
        and (info.multi_input or not spec.parts)
    )


def usual_candidates(source: Source, codec: str | None) -> tuple[Candidate, ...]:
    """A short list for such data, the most promising first: pictures, small pictures, or anything flat. Real samples
    are always among them, as they are and in few bits; drawn ones come last, as a lucky draw does not come again.

    Args:
        codec: the only one to write with; ``None``: each kind's usual ones.
    """
    image = not source.input.parts and get_kind(source.input).augmentable
    few = ["k-means%uint4", "k-means%uint2"] if image else ["k-means%uint8"]
    real = ["real", *few, "k-means", "random"]
    sides = source.input.shape[-2:]
    if isinstance(get_task(source), Recommendation):
        real, optimised = ["real", "k-means", "random"], ["distill-cf"]
    elif isinstance(get_task(source), Forecast) and isinstance(source, SeriesData):
        optimised = ["kip/series", "condtsf", "frepo/series", "dc/series"]  # a window holds few points of its own
    elif not isinstance(get_task(source), Classification):
        optimised = ["dm", "frepo", "dc", "kip"]
    elif image and min(sides) >= _TINY:
        pixels = sides[0] * sides[1]
        kept = max(1, pixels // 16, min(64, pixels // 4))
        cosines = f"frequency:kept={kept}"
        optimised = [
            f"{_FREPO}/shared-frequency:positions={kept}%step:width=1.5", f"dm:{_FEW}",
            f"dm:{_RATE}/{cosines}", f"m3d:{_RATE}",
            f"frepo/{cosines}", f"m3d:{_FEW}/tiles",
            f"rfad/{cosines}", *([f"m3d:{_FEW}/small:factor=2"] if min(sides) >= 24 else []),
        ]  # fmt: skip
    else:  # too few numbers for half the resolution or for few coefficients
        optimised = [f"dm:{_FEW}", "frepo", "rfad", f"m3d:{_RATE}/pixels", f"dm:{_RATE}", f"m3d:{_FEW}/pixels"]
    candidates = [Candidate.parse(text) for text in (*real, *optimised)]
    if codec is not None:
        candidates = [dataclasses.replace(candidate, codec=codec) for candidate in candidates]
    return tuple(c for c in dict.fromkeys(candidates) if _serves(c, source))
