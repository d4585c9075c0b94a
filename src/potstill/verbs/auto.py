"""``--method auto``: a race over a short list of ways to make a set, on held-out training data.

All candidates get the same bytes. Each rung gives more steps to fewer of them, and goes on from where the rung before
stopped: the better third at most, and of those nobody who is behind the leader by more than noise and than what it may
still gain. Candidates are compared in pairs: by the same students, on the same samples, of one half of the held-out
part; more students in each rung. Whoever is left alone goes on until it is about as long as the answer will be. Fresh
students then compare it with the best real samples, and say on the other half how sure that is. The answer is made of
all training data. Test data are not read.

A clock decides how many steps a rung has, once, from what a step of each candidate costs. They stand on the card: a run
that is told them (``candidates``) needs no clock, and ends with the same bits.
"""

import dataclasses
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from potstill.core import Budget, NetworkFactory, Source, Splits, Store
from potstill.data import holdout, stratify
from potstill.driver import Interrupted, Progress, versions
from potstill.errors import PotstillError
from potstill.evaluation.probe import HELD, MARGIN, Loss, loss_between, narrow, probe_of
from potstill.execution import Executor, Serial
from potstill.functional.halving import rung_sizes, share, steps_in, survivors
from potstill.locks import only_run
from potstill.nn import OwnNetwork, factory
from potstill.rng import derive
from potstill.running import Settled, run_settled
from potstill.storage import Distilled
from potstill.tasks import task_of
from potstill.units import clock
from potstill.verbs.candidates import Candidate, asked_candidates, check_served, options_of
from potstill.verbs.choice import Entry, on_card
from potstill.verbs.distill import default_network, settle
from potstill.verbs.journal import Journal, Stopwatch
from potstill.verbs.judging import FIRST, Judge, behind, students_at
from potstill.verbs.load import as_splits, pick_device
from potstill.watch import Watcher

__all__ = ["choose"]

SECONDS = 300.0
"""The budget where none is given."""
CHOOSING = 0.6
"""Part of the budget that choosing may take; the rest makes the answer of all data."""
JUDGING = 0.25
"""Part of the budget for training students."""
STUDENT_STEPS = (40, 300)
"""The fewest and the most updates of a student where the clock says how many."""
CONFIRM = 3
"""Fresh students at least, where the clock leaves no more."""
ENDLESS = 1_000_000
"""Iterations of a run that goes on from rung to rung, so that no schedule ends before it."""


def choose(
    data: Any, wanted: Budget, seconds: float | None, watcher: Watcher, options: Mapping[str, Any], *, seed: int,
    network: str | OwnNetwork | Callable[..., Any] | None, store: str | Store | None, device: str,
    executor: Executor | None, command: str | None, progress: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None, resume: bool = False, anyway: bool = False,
) -> Distilled:  # fmt: skip
    """The set that ``potstill.distill(data, "auto", …)`` makes, with all of the choice on its card under ``choice``.

    Args:
        wanted: how much to keep. Items are taken for the bytes that so many random real samples have, as they are.
        seconds: for all of it; ``None``: five minutes.
        options: fields of `potstill.verbs.candidates.AutoOptions`.
        checkpoint: folder in which the choice under way is kept; it is removed at the end.
        resume: go on with the choice in ``checkpoint``.
        anyway: also where other versions began it.

    Raises:
        PotstillError: an option does not exist or is out of range, or the data are of a kind that is not served.
        Interrupted: a signal came; ``checkpoint`` holds the choice.
    """
    asked = options_of(options, store)
    splits = as_splits(data, pick_device(device))
    check_served(splits.train)
    assert store is None or isinstance(store, str)
    candidates = asked_candidates(asked, splits.train, store)
    timed = not any(c.steps for c in candidates if not c.real)
    limit = (seconds or SECONDS) if timed else None
    about = {
        "data": splits.train.content_hash, "candidates": [c.spelled(c.steps) for c in candidates],
        "options": dataclasses.asdict(asked), "seed": seed, "network": str(network), "budget": limit,
        "keep": dataclasses.asdict(wanted), "device": str(splits.train.device),
    }  # fmt: skip
    if resume and checkpoint is None:
        raise PotstillError("to resume, auto needs the checkpoint that an interrupted choice left; give checkpoint")
    own = splits.train.device.type == "cpu" and (executor is None or isinstance(executor, Serial))
    with (
        tempfile.TemporaryDirectory(prefix="potstill-auto-") as folder,
        nullcontext() if checkpoint is None else only_run(checkpoint),
    ):
        journal = Journal(checkpoint or Path(folder) / "choice", about, versions(), resume=resume, anyway=anyway)
        watch = Stopwatch(own, journal.spent)
        choice = _Choice(
            splits=splits, wanted=wanted, seconds=limit, watcher=watcher, asked=asked, seed=seed, network=network,
            device=device, executor=executor, command=command, journal=journal, spent=watch.read, anyway=anyway,
            entries=[Entry(candidate=c) for c in candidates], progress=progress or watcher,
        )  # fmt: skip
        try:
            small = choice.answer()
        except (Interrupted, KeyboardInterrupt) as error:
            if checkpoint is None:
                raise KeyboardInterrupt from error  # what was found goes with the folder
            raise Interrupted(checkpoint, sum(e.steps for e in choice.entries)) from error
        journal.clear()
        return small


@dataclasses.dataclass(kw_only=True)
class _Choice:
    """One choice under way."""

    splits: Splits
    wanted: Budget
    seconds: float | None
    """``None``: the candidates' steps are given."""
    watcher: Watcher
    asked: Any
    seed: int
    network: Any
    device: str
    executor: Executor | None
    command: str | None
    journal: Journal
    spent: Callable[[], float]
    """Seconds until now."""
    anyway: bool
    entries: list[Entry]
    progress: Callable[[Progress], None]
    bytes: int = 0

    def answer(self) -> Distilled:
        train = self.splits.train
        if self.network is None and train.input.kind == "image":
            whole = factory(
                default_network(train), train.input, task_of(train).outputs, train.device,
                normalization=train.normalization,
            )  # fmt: skip
            self.network = narrow(whole, train).name
        held_fraction = min(self.asked.validation, 2 * HELD / len(train))
        kept, held = holdout(train, held_fraction, derive(self.seed, "auto", "held") % 2**31)
        self.bytes = self.wanted.amount if self.wanted.unit == "bytes" else self._bytes_of_items()
        judge = self._real(kept, held)
        sizes = self._start(kept)
        alive = self._rungs(judge, sizes)
        rival = max((e for e in self.entries if e.right and e.candidate.real), key=lambda e: (len(e.right), e.accuracy))
        gain, better = None, False
        if alive:
            gain, better = self._compared(judge, alive[0], rival)
        chosen = alive[0] if better else rival
        final = self._final_steps(chosen, sizes)
        self.watcher.begin(chosen.candidate.method)
        small = self._run(
            chosen, self._settled(chosen.candidate, train, final), final, self.journal.folder / "final.checkpoint",
            progress=self.progress,
        )  # fmt: skip
        small.card["choice"] = on_card(
            entries=self.entries, alive=alive, rival=rival, chosen=chosen, gain=gain, final=final, bytes=self.bytes,
            probe=judge.probe, held=(len(kept), len(judge.choosing), len(judge.confirming)), samples=len(train),
            seed=self.seed, asked=dataclasses.asdict(self.asked),
            network=None if self.network is None else str(self.network), budget=self.seconds, took=self.spent(),
        )  # fmt: skip
        return small

    def _once(self, name: str, find: Callable[[], Any]) -> Any:
        return self.journal.once(name, find, self.spent)

    # --- the parts of it ------------------------------------------------------------------------------------------

    def _compared(self, judge: Judge, winner: Entry, rival: Entry) -> tuple[tuple[Loss, list[float]], bool]:
        """What fresh students say on the part that nothing was chosen on, and whether to take the winner: where it is
        ahead by half a point on all that is held out, and not shown to be behind on that part."""
        numbers = range(1000, 1000 + self.asked.confirm)
        right = [judge.ask(entry, self.entries.index(entry), numbers) for entry in (winner, rival)]
        seen = [r[:, judge.confirming] for r in right]
        loss = loss_between(seen[0], seen[1], sure=0.975)
        ahead = float(right[0].double().mean() - right[1].double().mean())
        return (loss, [float(r.double().mean()) for r in seen]), ahead > MARGIN and loss.high > 0

    def _bytes_of_items(self) -> int:
        """What so many random samples take as they are: the budget in bytes of all candidates."""
        plain = Candidate.read("random%exact")
        settled = settle(
            self.splits, plain.method, ipc=None, budget=self.wanted, network=self.network, parametrization=None,
            labels=None, augment=None, zca=None, device=self.device, store="exact",
        )  # fmt: skip
        return int(self._run(Entry(candidate=plain), settled, None, None).card["bytes"]["total"])

    def _settled(self, candidate: Candidate, train: Source, iterations: int | None) -> Settled:
        options = dict(candidate.options)
        if not candidate.real:
            options.setdefault("iterations", ENDLESS if iterations is None else max(1, iterations))
        return settle(
            Splits(train=train, test=None, notes=self.splits.notes), candidate.method, ipc=None,
            budget=Budget(unit="bytes", amount=self.bytes), network=self.network,
            parametrization=candidate.parametrization, labels=None, augment=None, zca=None, device=self.device,
            store=candidate.store, effort="quick", **options,
        )  # fmt: skip

    def _run(
        self, entry: Entry, settled: Settled, steps: int | None, checkpoint: Path | None, *, limit: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Distilled:  # fmt: skip
        """The set after so many steps in all, from the entry's checkpoint where there is one."""
        marks: list[tuple[int, float]] = []

        def seen(p: Progress) -> None:
            marks.append((p.step, self.spent()))
            if progress is not None:
                progress(p)

        silent = Watcher(quiet=True)
        begun = self.spent()
        made = run_settled(
            settled, silent if progress is None else self.watcher, limit, seed=self.seed, steps=steps, zca=None,
            checkpoint=checkpoint, resume=checkpoint is not None and checkpoint.exists(), anyway=self.anyway,
            checkpoint_every=60.0, progress=seen, preparing=silent.count, command=self.command, table=None,
            executor=self.executor, keep=progress is None,
        )  # fmt: skip
        took = self.spent() - begun
        if len(marks) > 1:
            entry.cost = (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])
        entry.setup = max(entry.setup, took - entry.cost * len(marks))
        return made

    def _real(self, kept: Source, held: Source) -> Judge:
        """Real samples are made and judged, by one student each and by more as long as they are not behind."""
        reals = [e for e in self.entries if e.candidate.real]
        make: NetworkFactory | None = None
        for entry in reals:
            try:
                settled = self._settled(entry.candidate, kept, None)
                entry.made, make = self._run(entry, settled, None, None), make or settled.problem.network
            except PotstillError as error:
                entry.left_out = str(error)
        there = [e for e in reals if e.made]
        if make is None or not there:
            raise PotstillError(f"auto: no real samples fit: {reals[0].left_out}")

        def judge(steps: int) -> Judge:
            probe = probe_of(
                make, kept, held, students=self.asked.students, seed=derive(self.seed, "auto"), steps=steps,
                executor=self.executor,
            )  # fmt: skip
            return Judge(
                probe=probe, choosing=choosing, confirming=confirming, journal=self.journal, seconds=self.spent
            )

        choosing, confirming = stratify(held.labels, 0.5, derive(self.seed, "auto", "confirm") % 2**31)
        steps, students, confirm = self._once("students", lambda: self._students(judge, there))
        self.asked = dataclasses.replace(self.asked, students=students, confirm=confirm)
        used = judge(steps)
        for most in range(1, self.asked.students + 1):
            leader = max(there, key=lambda e: e.accuracy) if most > 1 else None
            for entry in [e for e in there if leader is None or not behind(e, leader)]:
                used.more(entry, self.entries.index(entry), most)
            self.watcher.count("real samples", most, self.asked.students)
        for entry in there:
            entry.note()
        return used

    def _students(self, judge: Callable[[int], Judge], there: Sequence[Entry]) -> tuple[int, int, int]:
        """Updates of a student, and how many choose and confirm: those asked for, or what `JUDGING` buys of them."""
        steps, students, confirm = self.asked.student_steps, self.asked.students, self.asked.confirm
        if self.seconds is None:
            return steps or STUDENT_STEPS[1], students, confirm
        small, entry = judge(steps or STUDENT_STEPS[0]), there[0]
        small.ask(entry, self.entries.index(entry), range(900, 901))  # what is done once is done
        begun = self.spent()
        small.ask(entry, self.entries.index(entry), range(901, 902))
        one = self.spent() - begun
        sizes = rung_sizes(max(1, len(self.entries) - len(there)))

        def bought(students: int, confirm: int) -> float:
            race = len(there) + 2 * (students - 1) + self._still(sizes, students=students, confirm=confirm)
            return JUDGING * (self.seconds or 0.0) / race / one

        while bought(students, confirm) < 1 and (students, confirm) != (1, min(CONFIRM, confirm)):
            students, confirm = max(1, students - 1), max(min(CONFIRM, confirm), confirm - 1)
        if not steps:
            least, most = STUDENT_STEPS
            steps = int(min(most, max(least, least * bought(students, confirm)))) // 10 * 10
        return steps, students, confirm

    def _still(
        self, sizes: Sequence[int], rung: int = 0, students: int | None = None, confirm: int | None = None
    ) -> int:
        """Students that will be trained from this rung on, where nobody is dropped early."""
        most = students or self.asked.students
        races = sum(size * students_at(r, most) for r, size in enumerate(sizes) if r >= rung and (size > 1 or r == 0))
        return races + 2 * int(confirm or self.asked.confirm)

    def _start(self, kept: Source) -> tuple[int, ...]:
        """Every other candidate is settled, and a few steps of it are made to know what one costs."""
        others = [e for e in self.entries if not e.candidate.real]
        for number, entry in enumerate(others):
            try:
                entry.settled = self._settled(entry.candidate, kept, None)
                if self.seconds is not None:
                    found = self._once(f"first steps of {number}", partial(self._first, entry, number, others))
                    if found["left_out"]:
                        raise PotstillError(found["left_out"])
                    entry.steps, entry.cost, entry.setup = found["steps"], found["cost"], found["setup"]
            except PotstillError as error:
                entry.left_out = str(error)
            self.watcher.count("first steps", number + 1, len(others))
        here = sum(e.left_out is None for e in others)
        return rung_sizes(here) if here else ()

    def _first(self, entry: Entry, number: int, others: Sequence[Entry]) -> dict[str, Any]:
        """What a few steps say: why it is left out, or what a step costs."""
        assert self.seconds is not None
        assert entry.settled is not None
        why = None
        left = CHOOSING * self.seconds - self.spent()
        # a reading of real samples serves so many steps: one dear step in each round
        steps = max(2, getattr(entry.settled.method, "reuse", 1)) + 1
        try:
            if left <= 0:
                raise PotstillError("no time was left to try it; a longer budget reaches it")
            left = min(left, 2 * left / (len(others) - number))
            outcome = self._run(entry, entry.settled, steps, self._kept_at(entry), limit=left).card["outcome"]
            if outcome["kind"] == "budget reached":
                why = f"{outcome['step']} steps took {clock(left)}, its share; a longer budget has more"
            elif outcome["kind"] != "steps reached":
                why = str(outcome["message"])
        except PotstillError as error:
            if isinstance(error, Interrupted):
                raise
            why = str(error)
        return {"left_out": why, "steps": steps, "cost": entry.cost, "setup": entry.setup}

    def _kept_at(self, entry: Entry) -> Path:
        return self.journal.folder / f"{self.entries.index(entry)}.checkpoint"

    def _rungs(self, judge: Judge, sizes: tuple[int, ...]) -> list[Entry]:
        """Who is left, best first; nobody where nothing could be tried. The last rung is the winner's alone."""
        alive = [e for e in self.entries if not e.candidate.real and e.left_out is None]
        for rung, size in enumerate(sizes):
            alive = _left(alive, size) if rung else alive
            if len(alive) == 1 and rung < len(sizes) - 1:
                continue  # it goes on alone, with the time of the rungs between
            each = 0.0
            if self.seconds is not None:
                shared = [*sizes[:rung], len(alive), *sizes[rung + 1 :]]
                setups = sum(e.setup for e in alive)
                left = CHOOSING * self.seconds - self.spent() - self._still(shared, rung) * judge.cost - setups
                each = share(left, rung, shared)
            for number, entry in enumerate(alive):
                if not entry.stopped:
                    self._go_on(entry, rung, each)
                if len(alive) > 1 or not entry.asked_at:  # alone, it is fresh students who are asked next
                    entry.right.clear()
                    judge.more(entry, self.entries.index(entry), students_at(rung, self.asked.students))
                entry.note()
                self.watcher.count(f"rung {rung + 1} of {len(sizes)}", number + 1, len(alive))
        return _left(alive, len(alive)) if len(alive) > 1 else alive

    def _go_on(self, entry: Entry, rung: int, each: float) -> None:
        """More steps from where the entry stopped."""
        assert entry.settled is not None
        given, place = entry.candidate.steps, len(entry.rungs)

        def until() -> int:
            if self.seconds is not None:
                return entry.steps + steps_in(each, entry.cost)
            # another machine may let another candidate go on, for which the card says no more
            return given[place] if place < len(given) else 2 * entry.steps

        named = f"{self.entries.index(entry)} in rung {rung}"
        steps = self._once(f"steps of {named}", until)
        entry.made = self._run(entry, entry.settled, steps, self._kept_at(entry))
        outcome = entry.made.card["outcome"]
        entry.steps, entry.stopped = self._once(
            f"end of {named}", lambda: [outcome["step"], outcome["kind"] != "steps reached"]
        )

    def _final_steps(self, chosen: Entry, sizes: tuple[int, ...]) -> int | None:
        """Steps of the answer, ``None`` for real samples; at least those that it was chosen for."""
        if chosen.candidate.real:
            return None

        def steps() -> int:
            given = chosen.candidate.steps
            if self.seconds is None:
                return given[len(chosen.rungs)] if len(given) > len(chosen.rungs) else 2 * chosen.steps
            left = 0.95 * (self.seconds - self.spent()) - 1.25 * chosen.setup
            return steps_in(left, chosen.cost, least=chosen.steps)

        return int(self._once("final steps", steps))


def _left(alive: Sequence[Entry], size: int) -> list[Entry]:
    """The best, best first: ``size`` of them at most, and nobody who is behind by more than noise and hope."""
    ranked = [alive[i] for i in survivors([e.accuracy for e in alive], size)]
    leader = ranked[0]

    def hope(entry: Entry) -> float:
        if math.isinf(entry.gain) or math.isinf(leader.gain):
            return FIRST
        return max(0.0, entry.gain - leader.gain)

    return [entry for entry in ranked if not behind(entry, leader, hope(entry))]
