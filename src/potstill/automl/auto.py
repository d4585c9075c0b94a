"""``--method auto``: a race over a short list of ways to make a set, on held-out training data.

All candidates get the same bytes. Each rung gives more steps to fewer of them, and goes on from where the rung before
stopped: the better third at most, and of those nobody who is behind the leader by more than noise and than what it may
still gain. Candidates are compared in pairs: by the same students, on the same samples, of one half of the held-out
part; more students in each rung. Classes, numbers, forecasts and pairs are served (`potstill.automl.scoring`).

Whoever is left alone goes on until it is about as long as the answer will be. Fresh students then compare it with the
best real samples, and say on the other half how sure that is. The answer is made of all training data. Test data are
not read.

A clock decides how many steps a rung has, once, from what a step of each candidate costs. They stand on the card: a run
that is told them (``candidates``) needs no clock, and ends with the same bits.
"""

import dataclasses
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from potstill._util.file_lock import exclusive_output
from potstill._util.progress import ProgressReporter
from potstill.automl.candidate_run import CandidateRuns
from potstill.automl.candidates import AutoOptions, check_served, parse_candidates, parse_options
from potstill.automl.draws import Drawn, best_draw, held_positions
from potstill.automl.halving import Race, steps_in
from potstill.automl.model import announce_model, compare_model, try_model, unasked_sentence
from potstill.automl.network_labels import parse_network_labels
from potstill.automl.result import Choice
from potstill.automl.resume import Journal, own_files, stopwatch
from potstill.automl.scoring import Entry, Judge
from potstill.core import Codec, Source
from potstill.data import holdout
from potstill.data.groups import source_key
from potstill.dataset_file import Distilled
from potstill.dataset_file.output import SetOutput
from potstill.dataset_file.replacing import hash_run
from potstill.dataset_file.text_io import charged_bytes
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import MARGIN, MAX_HELD_OUT, AccuracyLoss, narrow_network, paired_loss
from potstill.execution import resolve_executor
from potstill.kinds import get_kind
from potstill.nn import default_network_name, factory_for
from potstill.rng import derive_seed
from potstill.runs.load_data import as_splits, pick_device
from potstill.runs.loop import Interrupted, Progress, versions
from potstill.runs.spec import RunIO, RunLimits, RunSpec
from potstill.tasks import get_task

__all__ = ["OF_ONE_METHOD", "default_method", "distil_automatically"]

OF_ONE_METHOD = (
    "steps", "preset", "parametrization", "labels", "augment", "zca", "real_weights", "regularizer", "scores",
    "networks", "experts", "initial", "log", "snapshots", "class_shards",
)  # fmt: skip
"""Arguments that go with a method that is named, and not with ``auto``."""
SECONDS = 300.0
"""The time limit where none is given."""


def default_method(spec: RunSpec, limits: RunLimits, io: RunIO) -> str:
    """Return the method of a run that names none: ``auto``, but ``dm`` where something of one method is given, and
    ``random`` where a network in the file labels."""
    values = {"steps": limits.steps, **vars(spec), "log": io.log, "snapshots": io.snapshots}
    known = {field.name for field in dataclasses.fields(AutoOptions)}
    if parse_network_labels(spec.labels) is not None:
        return "random"
    plain = all(values[name] is None for name in OF_ONE_METHOD) and set(spec.options) <= known
    return "auto" if plain and not isinstance(spec.codec, Codec) else "dm"


def distil_automatically(
    spec: RunSpec, limits: RunLimits, io: RunIO, reporter: ProgressReporter, output: SetOutput | None
) -> Distilled:
    """Return the set that ``potstill.distill(data, "auto", …)`` makes, with all of the choice in its metadata.

    Args:
        spec: its ``options`` are fields of `potstill.automl.candidates.AutoOptions`. Items are taken for the bytes that
            so many random real samples have, as they are.
        limits: a time limit for all of it; default: five minutes.
        io: ``checkpoint`` is a folder for the unfinished choice; it is removed at the end.
        output: where the set is also written.

    Raises:
        PotstillError: an option does not exist or is out of range, or the data are of a kind that is not served.
        Interrupted: a signal came; ``checkpoint`` holds the choice.
    """
    _check_unset(spec, limits, io)
    options = parse_options(spec.options, spec.codec)
    io = dataclasses.replace(io, executor=resolve_executor(io.executor))
    splits = as_splits(spec.data, pick_device(spec.device))
    train, clock, checkpoint = splits.train, limits.clock, io.checkpoint_path
    check_served(train)
    assert spec.codec is None or isinstance(spec.codec, str)
    candidates = parse_candidates(options, train, spec.codec)
    is_timed = not any(c.steps for c in candidates if not c.is_real)
    seconds = (SECONDS if clock is None else clock.seconds) if is_timed else None
    about = {
        "data": source_key(train), "candidates": [c.format(c.steps) for c in candidates],
        "options": dataclasses.asdict(options), "seed": spec.seed, "network": str(spec.network), "time_limit": seconds,
        "keep": dataclasses.asdict(spec.size_budget), "device": str(train.device),
    }  # fmt: skip
    files = own_files(train, spec.network)
    digest = hash_run({"auto": about, "own_files": files}, {})
    if output is not None:
        output.check(splits.files)
        if (existing := output.load_existing({"run_digest": digest}, reporter.warn)) is not None:
            return existing
    if io.resume and checkpoint is None:
        raise PotstillError("to resume, auto needs the checkpoint that an interrupted choice left; give checkpoint")
    with (
        tempfile.TemporaryDirectory(prefix="potstill-auto-") as folder,
        nullcontext() if checkpoint is None else exclusive_output(checkpoint),
    ):
        by = {**versions(), **({"own_files": files} if files else {})}
        journal = Journal(
            checkpoint or Path(folder) / "choice", about, by, resume=bool(io.resume), anyway=io.resume == "force"
        )
        spent = stopwatch(journal.spent + (0.0 if clock is None else clock.elapsed))
        spec = dataclasses.replace(spec, data=splits, network=spec.network or _narrow_network(train))
        runs = CandidateRuns(spec=spec, io=io, reporter=reporter, spent=spent)
        entries = [Entry(candidate=c) for c in candidates]
        race = Race(entries=entries, runs=runs, journal=journal, seconds=seconds, options=options)
        try:
            small = _answer(race, io.progress if callable(io.progress) else reporter)
        except (Interrupted, KeyboardInterrupt) as error:
            if checkpoint is None:
                raise KeyboardInterrupt from error  # what was found goes with the folder
            raise Interrupted(checkpoint, sum(e.steps for e in race.entries)) from error
        journal.clear()
        small.metadata["run_digest"] = digest
        small.files = splits.files
        if output is not None:
            output.write(small)
        return small


def _check_unset(spec: RunSpec, limits: RunLimits, io: RunIO) -> None:
    """Check that nothing is given that goes with one method which is named.

    Raises:
        PotstillError: something is.
    """
    values = {"steps": limits.steps, **vars(spec), "log": io.log, "snapshots": io.snapshots}
    if given := next((name for name in OF_ONE_METHOD if values[name] is not None), None):
        raise PotstillError(
            f"auto chooses the method and what goes with it, but {given} was given; leave it out, name one method, or "
            "write it into candidates"
        )


def _narrow_network(train: Source) -> str | None:
    """Return the name of the network for image candidates where none is named."""
    if train.input.parts or not get_kind(train.input).augmentable:
        return None
    return narrow_network(factory_for(default_network_name(train.input, get_task(train)), train), train).name


def _answer(race: Race, progress: Callable[[Progress], None]) -> Distilled:
    """Run the race, compare its winner with the best real samples, and make the set of all training data."""
    runs, entries, seed = race.runs, race.entries, race.runs.spec.seed
    train, budget = runs.splits.train, runs.spec.size_budget
    fraction = min(race.options.validation, 2 * MAX_HELD_OUT / len(train))
    split = fraction, derive_seed(seed, "auto", "held") % 2**31
    made_of, held_out = holdout(train, *split)
    runs.balance = "natural" if budget.natural else "equal"
    runs.bytes = budget.amount if budget.unit == "bytes" else runs.measure_bytes()
    announce_model(race)
    race.search_real(made_of)
    judge = race.real(made_of, held_out)
    alive = race.rungs(judge, race.start(made_of))
    network = try_model(race, judge, made_of)
    race.search_real_again(made_of, judge, alive)
    rival = race.best_real()
    twice = race.with_twice_the_bytes(rival, judge, made_of)
    drawn = best_draw(race, judge, rival, held_positions(train, *split), alive)
    if drawn is not None:
        rival = next(e for e in entries if e.candidate.name == drawn.entry.candidate.name)
        rival.candidate = drawn.entry.candidate
    pair = None if not alive else _Pair.of(judge, alive[0], rival, drawn, race)
    chosen = alive[0] if pair is not None and pair.made_is_ahead else rival
    model = compare_model(network, race, judge, (chosen, entries.index(chosen)))
    final = None if chosen is rival else int(race.once("final steps", lambda: _final_steps(chosen, race, judge)))

    def make(entry: Entry) -> Distilled:
        runs.reporter.begin(entry.candidate.method)
        resolved = runs.fill_real(runs.resolve_answer(entry.candidate, final, entry.planned_bytes))
        return runs.run(entry, resolved, final, race.journal.folder / "final.checkpoint", progress=progress)

    small, last = make(chosen), None
    if pair is not None and final is not None and (last := pair.look_again(small, final)) is not None:
        chosen = rival
        small = runs.run(rival, runs.fill_real(runs.resolve_answer(rival.candidate)), None, None, progress=progress)
    small.record["choice"] = Choice(
        race=race, judge=judge, alive=alive, rival=rival, chosen_entry=chosen, gain=None if pair is None else pair.gain,
        final_steps=final, last_look=last, draw=drawn,
        made_of=len(made_of), twice=twice, items=len(small), stored=charged_bytes(small.metadata["bytes"]),
        model=model, model_sentence=unasked_sentence(train) if model is None else model.sentence(judge.held_out),
    ).to_dict()  # fmt: skip
    return small


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Pair:
    """The winner and the best real samples, compared by fresh students."""

    judge: Judge
    """With the held-out samples that the real ones do not hold."""
    suffix: str
    """End of names in the journal: the draw that the winner is compared with."""
    race: Race
    winner: Entry
    merits: tuple[Float[Tensor, "students parts"], Float[Tensor, "students parts"]]

    @classmethod
    def of(cls, judge: Judge, winner: Entry, rival: Entry, draw: Drawn | None, race: Race) -> "_Pair":
        """Return both with fresh students of each."""
        names: list[int | str] = [race.entries.index(e) for e in (winner, rival)]
        suffix, fresh = "", _fresh(race)
        if draw is not None:
            judge, rival = dataclasses.replace(judge, held_out=draw.held_out), draw.entry
            suffix = f" beside draw {rival.candidate.draw}"
            names = [f"{name}{suffix}" for name in names]
        made, real = (judge.merits_by_students(e, n, fresh) for e, n in zip((winner, rival), names, strict=True))
        return cls(judge=judge, suffix=suffix, race=race, winner=winner, merits=(made, real))

    @property
    def gain(self) -> tuple[AccuracyLoss, list[float]]:
        """The winner's gain on the part that nothing was chosen on, and both scores there."""
        confirmed = [rows[:, self.judge.held_out.columns[1]] for rows in self.merits]
        loss = paired_loss(confirmed[0], confirmed[1], confidence=0.975)
        return loss, [float(rows.mean()) for rows in confirmed]

    @property
    def made_is_ahead(self) -> bool:
        """True where it is ahead by half a point on all held-out samples, and not shown to be behind on that part."""
        made, real = (float(self._on_held_out(rows).mean()) for rows in self.merits)
        return made - real > MARGIN and self.gain[0].high > 0

    def look_again(self, small: Distilled, steps: int) -> float | None:
        """Return the answer's score where it is not ahead of the real samples, though it was made of the held-out
        samples, too; ``None``: it is ahead."""
        again = Entry(candidate=self.winner.candidate, distilled=small, steps=steps)
        rows = self.judge.merits_by_students(again, f"the answer{self.suffix}", _fresh(self.race))
        made, real = (float(self._on_held_out(merits).mean()) for merits in (rows, self.merits[1]))
        return None if made > real else made

    def _on_held_out(self, rows: Float[Tensor, "students parts"]) -> Float[Tensor, "students held"]:
        return rows[:, torch.cat(self.judge.held_out.columns)]


def _fresh(race: Race) -> range:
    return range(1000, 1000 + race.options.confirm)


def _final_steps(entry: Entry, race: Race, judge: Judge) -> int:
    """Return the steps of the final run, at least those that it was chosen for."""
    steps = entry.candidate.steps
    if race.seconds is None:
        return steps[len(entry.rungs)] if len(steps) > len(entry.rungs) else 2 * entry.steps
    left = 0.95 * (race.seconds - race.runs.spent()) - 1.25 * entry.setup - race.options.confirm * judge.cost
    return steps_in(left, entry.cost, least=entry.steps)
