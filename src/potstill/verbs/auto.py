"""``--method auto``: successive halving over a short list of ways to make a set, on held-out training data.

All candidates get the same bytes. Each rung gives more steps to fewer of them, and goes on from where the rung before
stopped; the last is the winner's alone, until it is about as long as the answer will be. Students on one half of the
held-out part say who goes on; fresh students on the other half say whether the winner is better than the best real
samples. Where that cannot be told, the real samples are the answer. The answer is then made of all training data. Test
data are not read.

A clock decides how many steps a rung has, once, from what a step of each candidate costs. They stand on the card: a run
that is told them (``candidates``) needs no clock, and ends with the same bits.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from potstill.core import Budget, NetworkFactory, Source, Splits, Store
from potstill.data import holdout
from potstill.driver import Interrupted, Progress
from potstill.errors import PotstillError
from potstill.evaluation.probe import HELD, Probe, loss_between, narrow, probe_of
from potstill.execution import Executor
from potstill.functional.halving import rung_sizes, share, steps_in, survivors
from potstill.nn import OwnNetwork, factory
from potstill.rng import derive
from potstill.running import Settled, run_settled
from potstill.storage import Distilled
from potstill.tasks import task_of
from potstill.units import clock
from potstill.verbs.candidates import SPELLED, AutoOptions, Candidate, check_served, usual_candidates
from potstill.verbs.choice import Entry, on_card
from potstill.verbs.distill import default_network, settle
from potstill.verbs.load import as_splits, pick_device
from potstill.watch import Watcher

__all__ = ["choose"]

SECONDS = 300.0
"""The budget where none is given."""
CHOOSING = 0.6
"""Part of the budget that choosing may take; the rest makes the answer of all data."""
JUDGING = 0.2
"""Part of the budget for training students."""
STUDENT_STEPS = (60, 300)
"""The fewest and the most updates of a student where the clock says how many."""
ENDLESS = 1_000_000
"""Iterations of a run that goes on from rung to rung, so that no schedule ends before it."""


def choose(
    data: Any, wanted: Budget, seconds: float | None, watcher: Watcher, options: Mapping[str, Any], *, seed: int,
    network: str | OwnNetwork | Callable[..., Any] | None, store: str | Store | None, device: str,
    executor: Executor | None, command: str | None, progress: Callable[[Progress], None] | None = None,
) -> Distilled:  # fmt: skip
    """The set that ``potstill.distill(data, "auto", …)`` makes, with all of the choice on its card under ``choice``.

    Args:
        wanted: how much to keep. Items are taken for the bytes that so many random real samples have, as they are.
        seconds: for all of it; ``None``: five minutes.
        options: fields of `potstill.verbs.candidates.AutoOptions`.

    Raises:
        PotstillError: an option does not exist or is out of range, or the data are of a kind that is not served.
    """
    known = {field.name for field in dataclasses.fields(AutoOptions)}
    if strange := next((name for name in options if name not in known), None):
        raise PotstillError(
            f"auto has no option {strange!r}; it has {', '.join(sorted(known))}. Fields of a method stand in "
            f"candidates: {SPELLED}"
        )
    if store is not None and not isinstance(store, str):
        raise PotstillError("auto takes a store by its name, such as uint4, as its candidates are words")
    words = options.get("candidates", ())
    if isinstance(words, str) or not all(isinstance(word, str) for word in words):
        raise PotstillError(f"auto: candidates must be several words, each {SPELLED}")
    asked = AutoOptions(**{**options, "candidates": tuple(words)})
    splits = as_splits(data, pick_device(device))
    check_served(splits.train)
    read = [Candidate.read(text) for text in asked.candidates]
    candidates = [
        c if c.store or store is None else dataclasses.replace(c, store=store) for c in read
    ] or usual_candidates(splits.train, store)
    if not any(c.real for c in candidates):
        raise PotstillError("auto holds every candidate against real samples; add random or k-means to the candidates")
    made = [c for c in candidates if not c.real]
    if any(c.steps for c in made) and not all(c.steps for c in made):
        lacks = next(c.name for c in made if not c.steps)
        raise PotstillError(f"auto: some candidates have steps, but {lacks} has none; give them to all or to none")
    timed = not any(c.steps for c in made)
    with tempfile.TemporaryDirectory(prefix="potstill-auto-") as folder:
        choice = _Choice(
            splits=splits, wanted=wanted, seconds=(seconds or SECONDS) if timed else None, watcher=watcher, asked=asked,
            seed=seed, network=network, device=device, executor=executor, command=command, folder=Path(folder),
            entries=[Entry(candidate=c) for c in candidates], progress=progress or watcher, begun=time.monotonic(),
        )  # fmt: skip
        try:
            return choice.answer()
        except Interrupted as error:  # what its checkpoint holds goes with the folder
            raise KeyboardInterrupt from error


@dataclasses.dataclass(kw_only=True)
class _Choice:
    """One choice under way."""

    splits: Splits
    wanted: Budget
    seconds: float | None
    """``None``: the candidates' steps are given."""
    watcher: Watcher
    asked: AutoOptions
    seed: int
    network: Any
    device: str
    executor: Executor | None
    command: str | None
    folder: Path
    entries: list[Entry]
    progress: Callable[[Progress], None]
    begun: float
    bytes: int = 0

    @property
    def spent(self) -> float:
        return time.monotonic() - self.begun

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
        choosing, confirming = holdout(held, 0.5, derive(self.seed, "auto", "confirm") % 2**31)
        self.bytes = self.wanted.amount if self.wanted.unit == "bytes" else self._bytes_of_items()
        probe = self._real(kept, choosing)
        sizes = self._start(kept)
        alive = self._rungs(probe, sizes)
        rival = max((e for e in self.entries if e.candidate.real and e.made), key=lambda e: e.accuracy)
        gain = None
        if alive:
            confirm = dataclasses.replace(probe, held=confirming)
            numbers = range(1000, 1000 + self.asked.confirm)
            right = [self._right(confirm, entry, numbers) for entry in (alive[0], rival)]
            gain = loss_between(right[0], right[1], sure=0.975), [float(r.double().mean()) for r in right]
        better = gain is not None and gain[0].low > 0
        chosen = alive[0] if better else rival
        final = self._final_steps(chosen, sizes)
        self.watcher.begin(chosen.candidate.method)
        small = self._run(chosen, self._settled(chosen.candidate, train, final), final, None, progress=self.progress)
        small.card["choice"] = on_card(
            entries=self.entries, alive=alive, rival=rival, chosen=chosen, gain=gain, final=final, bytes=self.bytes,
            probe=probe, held=(len(kept), len(choosing), len(confirming)), samples=len(train), seed=self.seed,
            asked=dataclasses.asdict(self.asked), network=None if self.network is None else str(self.network),
            budget=self.seconds, took=self.spent,
        )  # fmt: skip
        return small

    # --- the parts of it ------------------------------------------------------------------------------------------

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
            marks.append((p.step, p.seconds))
            if progress is not None:
                progress(p)

        silent = Watcher(quiet=True)
        begun = time.monotonic()
        made = run_settled(
            settled, silent if progress is None else self.watcher, limit, seed=self.seed, steps=steps, zca=None,
            checkpoint=checkpoint, resume=checkpoint is not None and checkpoint.exists(), anyway=False,
            checkpoint_every=1e9, progress=seen, preparing=silent.count, command=self.command, table=None,
            executor=self.executor, keep=True,
        )  # fmt: skip
        took = time.monotonic() - begun
        if len(marks) > 1:
            entry.cost = (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])
            entry.setup = max(entry.setup, took - entry.cost * len(marks))
        else:
            entry.setup = max(entry.setup, took)
        return made

    def _right(self, probe: Probe, entry: Entry, students: Sequence[int]) -> torch.Tensor:
        assert entry.made is not None
        device = self.splits.train.device
        pair = (entry.made.model_space().to(device), entry.made.labels.to(device))
        return probe.right([[pair]], students=students)[0]

    def _judge(self, probe: Probe, entry: Entry) -> None:
        begun = time.monotonic()
        accuracy = float(self._right(probe, entry, range(self.asked.students)).double().mean())
        entry.rungs.append({"steps": entry.steps, "accuracy": accuracy, "seconds": time.monotonic() - begun})

    def _real(self, kept: Source, choosing: Source) -> Probe:
        """Real samples are made and judged once."""
        reals = [e for e in self.entries if e.candidate.real]
        made = len(self.entries) - len(reals)
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

        def probe(steps: int) -> Probe:
            return probe_of(
                make, kept, choosing, students=self.asked.students, seed=derive(self.seed, "auto"), steps=steps,
                executor=self.executor,
            )  # fmt: skip

        steps = self.asked.student_steps
        if not steps and self.seconds is not None:
            begun = time.monotonic()
            self._right(probe(STUDENT_STEPS[0]), there[0], range(1))
            one = (time.monotonic() - begun) / STUDENT_STEPS[0]
            sets = len(there) + (sum(rung_sizes(made)) if made else 0)
            students = sets * self.asked.students + 2 * self.asked.confirm
            steps = min(STUDENT_STEPS[1], steps_in(JUDGING * self.seconds / students, one, STUDENT_STEPS[0]) // 10 * 10)
        used = probe(steps or STUDENT_STEPS[1])
        for number, entry in enumerate(there):
            self._judge(used, entry)
            self.watcher.count("real samples", number + 1, len(there))
        return used

    def _start(self, kept: Source) -> tuple[int, ...]:
        """Every other candidate is settled, and a few steps of it are made to know what one costs."""
        others = [e for e in self.entries if not e.candidate.real]
        for number, entry in enumerate(others):
            try:
                entry.settled = self._settled(entry.candidate, kept, None)
                if self.seconds is None:
                    continue  # how long it takes is nobody's concern
                left = CHOOSING * self.seconds - self.spent
                if left <= 0:
                    raise PotstillError("no time was left to try it; a longer budget reaches it")
                left = min(left, 2 * left / (len(others) - number))
                # a reading of real samples serves so many steps: one dear step in each round
                entry.steps = max(2, getattr(entry.settled.method, "reuse", 1)) + 1
                entry.made = self._run(entry, entry.settled, entry.steps, self._kept_at(entry), limit=left)
                outcome = entry.made.card["outcome"]
                if outcome["kind"] == "budget reached":
                    raise PotstillError(
                        f"{outcome['step']} steps took {clock(left)}, its share; a longer budget has more"
                    )
                if outcome["kind"] != "steps reached":
                    raise PotstillError(str(outcome["message"]))
            except PotstillError as error:
                entry.left_out = str(error)
            self.watcher.count("first steps", number + 1, len(others))
        here = sum(e.left_out is None for e in others)
        return rung_sizes(here) if here else ()

    def _kept_at(self, entry: Entry) -> Path:
        return self.folder / f"{self.entries.index(entry)}.checkpoint"

    def _rungs(self, probe: Probe, sizes: tuple[int, ...]) -> list[Entry]:
        """The winner, which the last rung has alone; nobody where nothing could be tried."""
        alive = [e for e in self.entries if not e.candidate.real and e.left_out is None]
        for rung, size in enumerate(sizes):
            alive = [alive[i] for i in survivors([e.accuracy for e in alive], size)] if rung else alive
            each = 0.0
            if self.seconds is not None:
                judging = self.asked.students * sum(sizes[rung:]) + 2 * self.asked.confirm
                student = sum(r["seconds"] for e in self.entries for r in e.rungs) / (
                    self.asked.students * sum(len(e.rungs) for e in self.entries)
                )
                setups = sum(e.setup for e in alive)
                left = CHOOSING * self.seconds - self.spent - judging * student - setups
                each = share(left, rung, sizes)
            for number, entry in enumerate(alive):
                if not entry.stopped:
                    assert entry.settled is not None
                    until = self._until(entry, rung, each)
                    entry.made = self._run(entry, entry.settled, until, self._kept_at(entry))
                    outcome = entry.made.card["outcome"]
                    entry.steps, entry.stopped = outcome["step"], outcome["kind"] != "steps reached"
                self._judge(probe, entry)
                self.watcher.count(f"rung {rung + 1} of {len(sizes)}", number + 1, len(alive))
        return [alive[i] for i in survivors([e.accuracy for e in alive], len(alive))]

    def _until(self, entry: Entry, rung: int, each: float) -> int:
        """Steps in all at the end of a rung."""
        given = entry.candidate.steps
        if self.seconds is not None:
            return entry.steps + steps_in(each, entry.cost)
        # another machine may let another candidate go on, for which the card says no more
        return given[rung] if rung < len(given) else 2 * entry.steps

    def _final_steps(self, chosen: Entry, sizes: tuple[int, ...]) -> int | None:
        """Steps of the answer, ``None`` for real samples; at least those that it was chosen for."""
        if chosen.candidate.real:
            return None
        given = chosen.candidate.steps
        if self.seconds is None:
            return given[len(sizes)] if len(given) > len(sizes) else 2 * chosen.steps
        left = 0.95 * (self.seconds - self.spent) - 1.25 * chosen.setup
        return steps_in(left, chosen.cost, least=chosen.steps)
