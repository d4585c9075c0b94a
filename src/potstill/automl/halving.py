"""The race of ``--method auto``: real samples first, then successive halving (arXiv:1502.07943) of the others.

Every rung has the same time, shared by fewer candidates than the one before. What a candidate makes in it is counted in
steps, once, and kept in the journal, so that a run can be repeated without a clock.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from potstill._util.formatting import format_duration
from potstill.automl.candidate_run import REAL_WAYS, CandidateRuns
from potstill.automl.candidates import AutoOptions, Candidate
from potstill.automl.resume import Journal
from potstill.automl.scoring import Entry, HeldOut, Judge, is_behind, num_students
from potstill.core import NetworkFactory, Source
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import TRIAL_PASSES
from potstill.evaluation.candidate_trials import MARGIN, Length, make_probe
from potstill.evaluation.estimators import student_of
from potstill.execution import resolve_executor
from potstill.rng import derive_seed
from potstill.runs.loop import Interrupted

__all__ = ["MODEL_PART", "NO_TIME", "Race", "rung_sizes", "share", "steps_in", "survivors"]

FIRST = 0.1
"""Fraction that a candidate may still gain on the leader after the first rung; later its last gain says it."""

CHOOSING = 0.7
"""Part of the time that choosing may take; the rest makes the answer of all data."""
MODEL_PART = 0.25
"""Part of the time for a model of the same bytes, of that for choosing, where one is requested."""
SEARCHING = 0.25
"""Part of the time for the search for the best real samples."""
REAL_SAMPLES = 0.3
"""Part of the time after which no further way to keep real samples is made."""
EXTRA = 0.1
"""Part of the time that real samples in twice the bytes may take."""
LEFT = 0.9
"""Part of the time that is left which searching on for real samples may take."""
PLANNING = 0.4
"""Part of a candidate's share of the time that the short runs may take which say how many inputs fill its bytes."""
JUDGING = 0.25
"""Part of the time for training students."""
STUDENT_STEPS = (100, 300)
"""The fewest and the most updates of a student where the clock says how many: fewer favour few samples."""
FEWEST = 2
"""Candidates of each side, real and made, that are tried however short the time is."""
NO_TIME = "no time was left to try it; a longer time limit reaches it"
"""Why a candidate is left out by a short time limit."""
CONFIRM = 3
"""Fresh students at least, where the clock leaves no more."""


@dataclasses.dataclass(kw_only=True)
class Race:
    """One race under way."""

    entries: list[Entry]
    runs: CandidateRuns
    journal: Journal
    seconds: float | None
    """``None``: the candidates' steps are given."""
    options: AutoOptions
    more_to_search: bool = False
    """True if the search for real samples was cut short by its time."""
    last_found: list[str] = dataclasses.field(default_factory=list)
    """Real ways that the second search chose, the best first."""

    @property
    def choosing(self) -> float:
        """Part of the time that choosing among the candidates may take."""
        return CHOOSING - MODEL_PART if self.options.baselines else CHOOSING

    def once(self, name: str, find: Callable[[], Any]) -> Any:
        """Return the journal's value of that name, or compute and keep it."""
        return self.journal.once(name, find, self.runs.spent)

    def search_real(self, made_of: Source) -> None:
        """Put the best ways to keep real samples in the place of a candidate whose way is to be searched."""
        for entry in [e for e in self.entries if e.candidate.is_searched]:
            found = self.once(
                "ways to keep real samples",
                lambda: self.runs.search_real(made_of, None if self.seconds is None else SEARCHING * self.seconds),
            )
            self.more_to_search = not found["complete"]
            at = self.entries.index(entry)
            self.entries[at : at + 1] = [Entry(candidate=Candidate.parse(way)) for way in found["ways"]]

    def search_real_again(self, made_of: Source, judge: Judge, alive: Sequence[Entry]) -> None:
        """Search longer for the best real samples in the time that is left, where these are about to be the answer:
        selecting them takes no time. New ways are judged like the others."""
        best = self.best_real()
        if not self.more_to_search or self.seconds is None or (alive and alive[0].merit > best.merit + MARGIN):
            return
        reserved = (2 * self.options.confirm + 2 * REAL_WAYS * self.options.students) * judge.cost
        left = LEFT * (self.seconds - self.runs.spent()) - reserved
        found = self.once(
            "more ways to keep real samples",
            lambda: self.runs.search_real(made_of, left) if left > SEARCHING * (self.seconds or 0.0) else {"ways": []},
        )
        self.last_found = ways = list(found["ways"])
        known = {e.candidate.name for e in self.entries}
        for way in [way for way in ways if way not in known]:
            entry = Entry(candidate=Candidate.parse(way))
            self.entries.append(entry)
            try:
                run = self.runs.fill_real(self.runs.resolve(entry.candidate, made_of))
                entry.distilled = self.runs.run(entry, run, None, None)
            except PotstillError as error:
                entry.left_out = str(error)
                continue
            judge.train_missing(entry, self.entries.index(entry), len(best.merit_rows))
            entry.end_rung()

    def real(self, made_of: Source, held_out: Source) -> Judge:
        """Real samples are made and judged, by one student each and by more as long as they are not behind."""
        reals = [e for e in self.entries if e.candidate.is_real]
        make: NetworkFactory | None = None
        fitting: list[Entry] = []
        for entry in reals:
            try:
                if len(fitting) >= FEWEST and self.once(f"no time for {entry.candidate.name}", self._real_is_late):
                    raise PotstillError(NO_TIME)
                run = self.runs.fill_real(self.runs.resolve(entry.candidate, made_of))
                entry.distilled, make = self.runs.run(entry, run, None, None), make or student_of(made_of, run.problem)
                fitting.append(entry)
            except PotstillError as error:
                entry.left_out = str(error)
        if make is None or not fitting:
            raise PotstillError(f"auto: no real samples fit: {reals[0].left_out}")

        def judge(steps: int) -> Judge:
            probe = make_probe(
                make, made_of, held_out, students=self.options.students, seed=derive_seed(self.runs.spec.seed, "auto"),
                steps=Length(steps=steps, passes=TRIAL_PASSES), executor=resolve_executor(self.runs.io.executor),
            )  # fmt: skip
            return Judge(probe=probe, held_out=halves, journal=self.journal, seconds=self.runs.spent)

        halves = HeldOut.split(held_out, derive_seed(self.runs.spec.seed, "auto", "confirm") % 2**31)
        steps, students, confirm, dropped = self.once("students", lambda: self._students(judge, fitting))
        for number in dropped:
            self.entries[number].left_out = NO_TIME
        fitting = [e for e in fitting if e.left_out is None]
        self.options = dataclasses.replace(self.options, students=students, confirm=confirm)
        used = judge(steps)
        for most in range(1, self.options.students + 1):
            leader = max(fitting, key=lambda e: e.merit) if most > 1 else None
            for entry in [e for e in fitting if leader is None or not is_behind(e, leader)]:
                used.train_missing(entry, self.entries.index(entry), most)
            self.runs.reporter.report_count("real samples", most, self.options.students)
        for entry in fitting:
            entry.end_rung()
        return used

    def _real_is_late(self) -> bool:
        return self.seconds is not None and self.runs.spent() > REAL_SAMPLES * self.seconds

    def with_twice_the_bytes(self, rival: Entry, judge: Judge, made_of: Source) -> Entry | None:
        """Return the best real samples in twice the bytes, judged by as many students; ``None``: there are no more, or
        they would take too much of the time."""
        if self.once("no time for twice the bytes", lambda: self._is_costly(3 * rival.setup + 2 * judge.cost)):
            return None
        runs = dataclasses.replace(self.runs, bytes=2 * self.runs.bytes)
        more = Entry(candidate=rival.candidate)
        try:
            run = runs.fill_real(runs.resolve(rival.candidate, made_of))
            more.distilled = runs.run(more, run, None, None)
        except PotstillError:
            return None
        if rival.distilled is not None and len(more.distilled) <= len(rival.distilled):
            return None
        judge.train_missing(more, "twice the bytes", len(rival.merit_rows))
        return more

    def _is_costly(self, seconds: float) -> bool:
        """Return whether so many seconds are more than `EXTRA` of the time limit."""
        return self.seconds is not None and seconds > EXTRA * self.seconds

    def best_real(self) -> Entry:
        """Return the first of the real samples that are not behind the best: what is told apart by luck alone may be so
        by the luck of a draw, and the answer is drawn again. The ways that the longer search found come first."""
        last = self.last_found
        reals = [e for e in self.entries if e.candidate.is_real and e.merit_rows]
        reals.sort(key=lambda e: last.index(e.candidate.name) if e.candidate.name in last else len(last))
        leader = max(reals, key=lambda e: e.merit)
        return next(e for e in reals if not is_behind(e, leader))

    def _students(self, judge: Callable[[int], Judge], rivals: Sequence[Entry]) -> tuple[int, int, int, list[int]]:
        """Updates of a student, and how many choose and confirm: those asked for, or what `JUDGING` buys of them; also
        the places of the last candidates, for which no time is left even so."""
        steps, students, confirm = self.options.student_steps, self.options.students, self.options.confirm
        if self.seconds is None:
            return steps or STUDENT_STEPS[1], students, confirm, []
        small, entry = judge(steps or STUDENT_STEPS[0]), rivals[0]
        small.merits_by_students(entry, self.entries.index(entry), range(900, 901))  # what is done once is done
        begun = self.runs.spent()
        small.merits_by_students(entry, self.entries.index(entry), range(901, 902))
        one = self.runs.spent() - begun
        reals, made = list(rivals), [e for e in self.entries if not e.candidate.is_real]

        def bought(students: int, confirm: int) -> float:
            sizes = rung_sizes(max(1, len(made)))
            race = self._remaining_students(sizes, students=students, confirm=confirm)
            return JUDGING * (self.seconds or 0.0) / (len(reals) + 2 * (students - 1) + race) / one

        while bought(students, confirm) < 1 and (students, confirm) != (1, min(CONFIRM, confirm)):
            students, confirm = max(1, students - 1), max(min(CONFIRM, confirm), confirm - 1)
        dropped = []
        while bought(students, confirm) < 1 and max(len(reals), len(made)) > FEWEST:
            longer = made if len(made) > FEWEST else reals
            dropped.append(self.entries.index(longer.pop()))
        if not steps:
            least, most = STUDENT_STEPS
            steps = int(min(most, max(least, least * bought(students, confirm)))) // 10 * 10
        return steps, students, confirm, dropped

    def _remaining_students(
        self, sizes: Sequence[int], rung: int = 0, students: int | None = None, confirm: int | None = None
    ) -> int:
        """Students that will be trained from this rung on, where nobody is dropped early."""
        most = students or self.options.students
        races = sum(size * num_students(r, most) for r, size in enumerate(sizes) if r >= rung and (size > 1 or r == 0))
        return races + 2 * int(confirm or self.options.confirm)

    def start(self, made_of: Source) -> tuple[int, ...]:
        """Every other candidate is settled, and a few steps of it are made to know what one costs."""
        others = [e for e in self.entries if not e.candidate.is_real and e.left_out is None]
        for number, entry in enumerate(others):
            try:
                entry.planned_bytes = self._planned_bytes(entry, number, others, made_of)
                entry.run = self.runs.resolve(entry.candidate, made_of, None, entry.planned_bytes)
                if self.seconds is not None:
                    found = self.once(f"first steps of {number}", partial(self._first, entry, number, others))
                    if found["left_out"]:
                        raise PotstillError(found["left_out"])
                    entry.steps, entry.cost, entry.setup = found["steps"], found["cost"], found["setup"]
            except PotstillError as error:
                entry.left_out = str(error)
            self.runs.reporter.report_count("first steps", number + 1, len(others))
        here = sum(e.left_out is None for e in others)
        return rung_sizes(here) if here else ()

    def _planned_bytes(self, entry: Entry, number: int, others: Sequence[Entry], made_of: Source) -> int | None:
        """Return the bytes that a candidate is planned by: its own, or what fills the budget, where there is time."""
        if self.seconds is None or entry.candidate.planned_bytes is not None:
            return entry.candidate.planned_bytes

        def find() -> int | None:
            left = PLANNING * (self.choosing * (self.seconds or 0.0) - self.runs.spent()) / (len(others) - number)
            return self.runs.plan_bytes(entry.candidate, made_of, left) if left > 0 else None

        planned: int | None = self.once(f"planned bytes of {number}", find)
        return planned

    def _first(self, entry: Entry, number: int, others: Sequence[Entry]) -> dict[str, Any]:
        """Run a few steps: return why the candidate is left out, or the seconds of a step."""
        assert self.seconds is not None
        assert entry.run is not None
        why = None
        left = self.choosing * self.seconds - self.runs.spent()
        # a reading of real samples serves so many steps: one dear step in each round
        method = entry.run.method
        steps = max(2, getattr(method, "steps_per_network", 1)) + 1
        try:
            if left <= 0:
                raise PotstillError(NO_TIME)
            left = min(left, 2 * left / (len(others) - number))
            outcome = self.runs.run(entry, entry.run, steps, self._checkpoint_of(entry), limit=left).metadata["outcome"]
            if outcome["kind"] == "time limit reached":
                why = f"{outcome['step']} steps took {format_duration(left)}, its share; a longer time limit has more"
            elif outcome["kind"] != "steps reached":
                why = str(outcome["message"])
        except PotstillError as error:
            if isinstance(error, Interrupted):
                raise
            why = str(error)
        return {"left_out": why, "steps": steps, "cost": entry.cost, "setup": entry.setup}

    def _checkpoint_of(self, entry: Entry) -> Path:
        return self.journal.folder / f"{self.entries.index(entry)}.checkpoint"

    def rungs(self, judge: Judge, sizes: tuple[int, ...]) -> list[Entry]:
        """Return the remaining candidates, best first; none where nothing could be tried. The last rung is the winner's
        alone."""
        alive = [e for e in self.entries if not e.candidate.is_real and e.left_out is None]
        for rung, size in enumerate(sizes):
            alive = _surviving(alive, size) if rung else alive
            if len(alive) == 1 and rung < len(sizes) - 1:
                continue  # it goes on alone, with the time of the rungs between
            each = 0.0
            if self.seconds is not None:
                shared = [*sizes[:rung], len(alive), *sizes[rung + 1 :]]
                reserved = self._remaining_students(shared, rung) * judge.cost + sum(e.setup for e in alive)
                each = share(self.choosing * self.seconds - self.runs.spent() - reserved, rung, shared)
            for number, entry in enumerate(alive):
                if not entry.stopped and not self._goes_on(entry, rung, each):
                    continue
                if len(alive) > 1 or not entry.judged_steps:  # alone, it is fresh students who answer next
                    entry.merit_rows.clear()
                    judge.train_missing(entry, self.entries.index(entry), num_students(rung, self.options.students))
                entry.end_rung()
                self.runs.reporter.report_count(f"rung {rung + 1} of {len(sizes)}", number + 1, len(alive))
            if not (alive := [e for e in alive if e.left_out is None]):
                break
        return _surviving(alive, len(alive)) if len(alive) > 1 else alive

    def _goes_on(self, entry: Entry, rung: int, each: float) -> bool:
        """Make more steps; a candidate that cannot be made is left out: without a clock none was tried before."""
        try:
            self._continue(entry, rung, each)
        except Interrupted:
            raise
        except PotstillError as error:
            if entry.rungs:  # it could be made before
                raise
            entry.left_out = str(error)
        return entry.left_out is None

    def _continue(self, entry: Entry, rung: int, each: float) -> None:
        """More steps from where the entry stopped."""
        assert entry.run is not None
        given, place = entry.candidate.steps, len(entry.rungs)

        def until() -> int:
            if self.seconds is not None:
                return entry.steps + steps_in(each, entry.cost)
            # another machine may let another candidate go on, for which the card says no more
            return given[place] if place < len(given) else 2 * entry.steps

        named = f"{self.entries.index(entry)} in rung {rung}"
        steps = self.once(f"steps of {named}", until)
        entry.distilled = self.runs.run(entry, entry.run, steps, self._checkpoint_of(entry))
        outcome = entry.distilled.metadata["outcome"]
        entry.steps, entry.stopped = self.once(
            f"end of {named}", lambda: [outcome["step"], outcome["kind"] != "steps reached"]
        )


def _surviving(alive: Sequence[Entry], size: int) -> list[Entry]:
    """The best, best first: ``size`` of them at most, and nobody who is behind by more than noise and hope."""
    ranked = [alive[i] for i in survivors([e.merit for e in alive], size)]
    leader = ranked[0]

    def hope(entry: Entry) -> float:
        if math.isinf(entry.gain) or math.isinf(leader.gain):
            return FIRST
        return max(0.0, entry.gain - leader.gain)

    return [entry for entry in ranked if not is_behind(entry, leader, hope(entry))]


def rung_sizes(candidates: int) -> tuple[int, ...]:
    """Return the maximum number of candidates of each rung: a third, rounded up, to one, which goes on alone."""
    if candidates < 1:
        raise ValueError(f"at least one candidate is needed, not {candidates}")
    sizes = [candidates]
    while sizes[-1] > 1:
        sizes.append(math.ceil(sizes[-1] / 3))
    return tuple(sizes)


def share(seconds: float, rung: int, sizes: Sequence[int]) -> float:
    """Seconds of each candidate of ``rung``, of ``seconds`` for all rungs of these sizes that are still to come."""
    return max(0.0, seconds) / (len(sizes) - rung) / sizes[rung]


def steps_in(seconds: float, cost: float, least: int = 1) -> int:
    """Steps of ``cost`` seconds each that fit into ``seconds``, ``least`` at least."""
    return max(least, int(seconds / cost)) if cost > 0 else least


def survivors(scores: Sequence[float], keep: int) -> tuple[int, ...]:
    """Places of the ``keep`` best scores, best first; of equal ones the first, and no number counts as the least."""
    ranked = sorted(range(len(scores)), key=lambda i: math.inf if math.isnan(scores[i]) else -scores[i])
    return tuple(ranked[:keep])
