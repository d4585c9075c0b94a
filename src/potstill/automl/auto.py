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
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from potstill._util.file_lock import exclusive_output
from potstill._util.import_from_file import source_digests
from potstill._util.progress import ProgressReporter
from potstill._util.time_limit import TimeLimit
from potstill.api.distill import default_network
from potstill.api.load_data import as_splits, pick_device
from potstill.automl.candidate_run import Runs
from potstill.automl.candidates import asked_candidates, check_served, options_of
from potstill.automl.halving import Race
from potstill.automl.result import Entry, on_card
from potstill.automl.resume import Journal, Stopwatch
from potstill.automl.scoring import Judge
from potstill.automl.successive_halving import steps_in
from potstill.core import Budget, Codec, Source
from potstill.data import holdout
from potstill.data.groups import source_key
from potstill.dataset_file import Distilled
from potstill.dataset_file.output import SetOutput
from potstill.dataset_file.replacing import hash_run
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import MARGIN, MAX_HELD_OUT, AccuracyLoss, narrow_network, paired_loss
from potstill.execution import Executor
from potstill.kinds import get_kind
from potstill.nn import CustomNetwork, factory
from potstill.nn import parse_network as own_network
from potstill.rng import derive_seed
from potstill.runs.loop import Interrupted, Progress, versions
from potstill.tasks import get_task

__all__ = ["choose"]

SECONDS = 300.0
"""The time limit where none is given."""


def choose(
    data: Any, wanted: Budget, given: TimeLimit | None, watcher: ProgressReporter, options: Mapping[str, Any], *,
    seed: int,
    network: str | CustomNetwork | Callable[..., Any] | None, store: str | Codec | None, device: str,
    executor: Executor | None, command: str | None, progress: Callable[[Progress], None] | None = None,
    checkpoint: Path | None = None, resume: bool = False, anyway: bool = False, output: SetOutput | None = None,
) -> Distilled:  # fmt: skip
    """The set that ``potstill.distill(data, "auto", …)`` makes, with all of the choice on its card under ``choice``.

    Args:
        wanted: how much to keep. Items are taken for the bytes that so many random real samples have, as they are.
        given: the time limit for all of it; ``None``: five minutes.
        options: fields of `potstill.automl.candidates.AutoOptions`.
        checkpoint: folder in which the choice under way is kept; it is removed at the end.
        resume: go on with the choice in ``checkpoint``.
        anyway: also where other versions began it.
        output: where the set is also written.

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
    limit = (SECONDS if given is None else given.seconds) if timed else None
    about = {
        "data": source_key(splits.train), "candidates": [c.spelled(c.steps) for c in candidates],
        "options": dataclasses.asdict(asked), "seed": seed, "network": str(network), "time_limit": limit,
        "keep": dataclasses.asdict(wanted), "device": str(splits.train.device),
    }  # fmt: skip
    used = own_network(network)
    own = source_digests([splits.train, *([used.constructor] if isinstance(used, CustomNetwork) else [])])
    digest = hash_run({"auto": about, "own_files": own}, {})
    if output is not None:
        output.check(splits.files)
        if (there := output.load_existing({"run_digest": digest}, watcher.warn)) is not None:
            return there
    if resume and checkpoint is None:
        raise PotstillError("to resume, auto needs the checkpoint that an interrupted choice left; give checkpoint")
    with (
        tempfile.TemporaryDirectory(prefix="potstill-auto-") as folder,
        nullcontext() if checkpoint is None else exclusive_output(checkpoint),
    ):
        by = {**versions(), **({"own_files": own} if own else {})}
        journal = Journal(checkpoint or Path(folder) / "choice", about, by, resume=resume, anyway=anyway)
        watch = Stopwatch(journal.spent + (0.0 if given is None else given.elapsed))
        runs = Runs(
            splits=splits, network=network or _narrow(splits.train), seed=seed, device=device, executor=executor,
            command=command, watcher=watcher, anyway=anyway, spent=watch.read,
        )  # fmt: skip
        race = Race(
            entries=[Entry(candidate=c) for c in candidates], runs=runs, journal=journal, seconds=limit, asked=asked
        )
        try:
            small = _answer(race, wanted, progress or watcher)
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


def _narrow(train: Source) -> str | None:
    """The network in which sets of pictures are made, where none is named."""
    if not get_kind(train.input).augmentable:
        return None
    outputs = get_task(train).outputs
    whole = factory(default_network(train), train.input, outputs, train.device, normalization=train.normalization)
    return narrow_network(whole, train).name


def _answer(race: Race, wanted: Budget, progress: Callable[[Progress], None]) -> Distilled:
    """The race, what it is worth beside real samples, and the set of all training data."""
    runs, asked, entries = race.runs, race.asked, race.entries
    train = runs.splits.train
    kept, held = holdout(
        train, min(asked.validation, 2 * MAX_HELD_OUT / len(train)), derive_seed(runs.seed, "auto", "held") % 2**31
    )
    runs.balance = "natural" if wanted.natural else "equal"
    runs.bytes = wanted.amount if wanted.unit == "bytes" else runs.bytes_of(wanted)
    judge = race.real(kept, held)
    alive = race.rungs(judge, race.start(kept))
    rival = race.best_real()
    gain, better = None, False
    if alive:
        gain, better = _compared(judge, (alive[0], rival), [entries.index(e) for e in (alive[0], rival)], race)
    chosen = alive[0] if better else rival
    final = None if chosen.candidate.real else int(race.once("final steps", lambda: _final_steps(chosen, race)))
    runs.watcher.begin(chosen.candidate.method)
    small = runs.run(
        chosen, runs.settled(chosen.candidate, train, final), final, race.journal.folder / "final.checkpoint",
        progress=progress,
    )  # fmt: skip
    small.metadata["choice"] = on_card(
        entries=entries, alive=alive, rival=rival, chosen=chosen, gain=gain, final=final, bytes=runs.bytes,
        probe=judge.probe, held=(len(kept), len(judge.choosing), len(judge.confirming)), samples=len(train),
        seed=runs.seed, asked=dataclasses.asdict(race.asked),
        network=None if runs.network is None else str(runs.network), time_limit=race.seconds, took=runs.spent(),
    )  # fmt: skip
    return small


def _compared(
    judge: Judge, pair: tuple[Entry, Entry], numbers: list[int], race: Race
) -> tuple[tuple[AccuracyLoss, list[float]], bool]:
    """What fresh students say of winner and rival on the part that nothing was chosen on, and whether to take the
    winner: where it is ahead by half a point on all that is held out, and not shown to be behind on that part."""
    fresh = range(1000, 1000 + race.asked.confirm)
    right = [judge.ask(entry, number, fresh) for entry, number in zip(pair, numbers, strict=True)]
    seen = [r[:, judge.confirming] for r in right]
    loss = paired_loss(seen[0], seen[1], confidence=0.975)
    ahead = float(right[0].double().mean() - right[1].double().mean())
    return (loss, [float(r.double().mean()) for r in seen]), ahead > MARGIN and loss.high > 0


def _final_steps(chosen: Entry, race: Race) -> int:
    """Steps of the answer; at least those that it was chosen for."""
    given = chosen.candidate.steps
    if race.seconds is None:
        return given[len(chosen.rungs)] if len(given) > len(chosen.rungs) else 2 * chosen.steps
    left = 0.95 * (race.seconds - race.runs.spent()) - 1.25 * chosen.setup
    return steps_in(left, chosen.cost, least=chosen.steps)
