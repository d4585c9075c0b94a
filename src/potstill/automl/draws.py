"""Draws of the best real samples: of a few, which ones are drawn is luck, so several draws are tried for the answer.

Each is drawn of all training data, as the answer is, by a seed of its own, and scored on the held-out samples that
choose, without those that it holds. As these differ from draw to draw, a draw's score is that of its students less the
mean of all draws, sample by sample.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from potstill.automl.candidates import Candidate
from potstill.automl.halving import LEFT, Race, survivors
from potstill.automl.scoring import Entry, HeldOut, Judge, is_behind, num_students
from potstill.core import Source
from potstill.data.groups import get_groups
from potstill.data.splits import TimeOrdered, stratify
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import MARGIN
from potstill.tasks import Classification, Regression, get_task

__all__ = ["Drawn", "best_draw", "centred_scores", "held_positions"]

MOST = 16
"""Draws at most."""
WAYS = 2
"""Ways to keep real samples that are drawn, in turn."""
LARGEST = 0.25
"""Part of the training samples that a draw may hold: larger ones are alike, and leave few samples to be scored on."""
SHARE = 0.1
"""Part of the time limit that draws may take where a made set is ahead, whose answer needs the rest."""
_SELECTED = 3.0
"""Times that a draw takes what making the set of a part of the data took, about: its samples are selected to count what
fits, and then again."""
_WORK = 1.7
"""Students of a draw, about: one each, and two more of a third of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
    """The draw of real samples that is the answer, if real samples are."""

    entry: Entry
    """Its candidate names the draw, and its set is of all training data."""
    held_out: HeldOut
    """Held-out samples that it does not hold."""
    tried: int
    """Draws in all; 0: this one was given."""


def held_positions(train: Source, fraction: float, seed: int) -> Int[Tensor, " h"] | None:
    """Return the positions in ``train`` of the samples that `potstill.holdout` holds out; ``None``: data or a task
    whose samples are not scored one by one."""
    if isinstance(train, TimeOrdered) or not isinstance(get_task(train), Classification | Regression):
        return None
    return stratify(train.labels, fraction, seed, get_groups(train))[1]


def best_draw(
    race: Race, judge: Judge, rival: Entry, held_index: Int[Tensor, " h"] | None, finalists: Sequence[Entry]
) -> Drawn | None:  # fmt: skip
    """Return the best draw of the real ways that are not behind; ``None`` where draws are not tried.

    Args:
        rival: the best real samples of a part of the data.
        held_index: as `held_positions` returned it.
        finalists: the candidates of the last rung, best first.
    """
    if held_index is None or rival.distilled is None:
        return None
    given = rival.candidate.draw
    if race.seconds is None:
        return (
            None if given is None else _finished(race, judge, _make_draw(race, rival.candidate, given), held_index, 0)
        )
    near = [e for e in [rival, *race.entries] if e.candidate.is_real and e.merit_rows and not is_behind(e, rival)]
    most = LARGEST * len(race.runs.splits.train)
    small = [e for e in near if e.distilled is not None and len(e.distilled) <= most]
    ways = list({e.candidate.name: e for e in small if e.candidate.is_drawn}.values())[:WAYS]
    if not ways or (rival.candidate.is_drawn and rival not in ways):
        return None
    leads = bool(finalists) and finalists[0].merit > rival.merit + MARGIN
    number = int(race.once("draws", lambda: _affordable(race, judge, ways, leads)))
    if number < 2:
        return None
    turns = [ways[n % len(ways)] for n in range(number)] + ([] if rival in ways else [rival])
    drawn = []
    for n, way in enumerate(turns):
        with contextlib.suppress(PotstillError):  # of all training data one sample of each class does not fit
            drawn.append(_make_draw(race, way.candidate, n + 1))
    if len(drawn) < 2:
        return None
    alone = dataclasses.replace(judge, held_out=dataclasses.replace(judge.held_out, singly=True))
    inside = [_inside(race, held_index, entry) for entry in drawn]
    alive, means = list(range(len(drawn))), dict[int, float]()
    for rung in range(2 if race.options.students > 1 else 1):
        students = num_students(2 * rung, race.options.students)
        for n in alive:
            entry = drawn[n]
            have = len(entry.merit_rows)
            named = f"draw {entry.candidate.draw} of {entry.candidate.name}"
            entry.merit_rows += list(alone.merits_by_students(entry, named, range(have, students)))
            race.runs.reporter.report_count("draws of real samples", n + 1, len(drawn))
        rows = {n: torch.stack(drawn[n].merit_rows).mean(0) for n in alive}
        means = centred_scores(rows, {n: ~inside[n] for n in alive}, alone.held_out.columns[0])
        ranked = survivors([means[n] for n in alive], len(alive))
        alive = [alive[i] for i in ranked][: max(2, -(-len(alive) // 3))]
    best = max(alive, key=lambda n: means[n])
    return _finished(race, judge, drawn[best], held_index, len(drawn))


def centred_scores(
    rows: Mapping[int, Float[Tensor, " parts"]], valid: Mapping[int, Bool[Tensor, " parts"]], places: Int[Tensor, " c"]
) -> dict[int, float]:
    """Return the mean over each draw's valid parts of its merit less the mean of all draws for which they are valid.

    Args:
        rows: merits of each draw.
        valid: of each draw, the parts that it may be scored on.
        places: of the parts that count.
    """
    names = list(rows)
    merits = torch.stack([rows[n][places] for n in names])
    mask = torch.stack([valid[n][places] for n in names]).to(merits)
    centres = (merits * mask).sum(0) / mask.sum(0).clamp_min(1)
    means = ((merits - centres) * mask).sum(1) / mask.sum(1).clamp_min(1)
    return dict(zip(names, means.tolist(), strict=True))


def _affordable(race: Race, judge: Judge, ways: Sequence[Entry], leads: bool) -> int:
    """Return how many draws the time allows."""
    assert race.seconds is not None
    begun, students = race.runs.spent(), _WORK * judge.cost
    left = LEFT * (race.seconds - begun) - 3 * race.options.confirm * judge.cost
    seconds = min(left, SHARE * race.seconds) if leads else left
    if 2 * sum(_SELECTED * way.setup + students for way in ways) > seconds:
        return 0
    for way in ways:
        with contextlib.suppress(PotstillError):
            _make_draw(race, way.candidate, 1)
    took = race.runs.spent() - begun
    each, seconds = took / len(ways) + students, seconds - took
    return max(0, min(MOST, int(seconds / each))) if each > 0 else MOST


def _make_draw(race: Race, candidate: Candidate, draw: int) -> Entry:
    """Return a draw of all training data."""
    entry = Entry(candidate=dataclasses.replace(candidate, draw=draw))
    entry.distilled = race.runs.run(entry, race.runs.fill_real(race.runs.resolve_answer(entry.candidate)), None, None)
    return entry


def _inside(race: Race, held_index: Int[Tensor, " h"], entry: Entry) -> Bool[Tensor, " h"]:
    """Return which held-out samples a draw holds, or their groups."""
    assert entry.distilled is not None
    assert entry.distilled.index is not None
    train = race.runs.splits.train
    groups = get_groups(train)
    of = torch.arange(len(train)) if groups is None else groups
    return torch.isin(of[held_index], of[entry.distilled.index.cpu()])


def _finished(race: Race, judge: Judge, entry: Entry, held_index: Int[Tensor, " h"], tried: int) -> Drawn:
    return Drawn(entry=entry, held_out=judge.held_out.without(_inside(race, held_index, entry)), tried=tried)
