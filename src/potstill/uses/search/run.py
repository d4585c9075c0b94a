"""`potstill.uses.search.search`: the best network or setting, by successive halving or by a proxy beside baselines."""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potstill._util.outputs import check_not_input, describe_foreign_page
from potstill._util.progress import Callback
from potstill.core import Source
from potstill.data import SourceView
from potstill.data.groups import source_key
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError
from potstill.evaluation.candidate_trials import count_operations
from potstill.execution import Executor, resolve_executor
from potstill.execution.memory import keep_freed_memory
from potstill.reports.search import render_search
from potstill.runs.load_data import as_splits, pick_device
from potstill.uses.cell_files import read_json, write_json
from potstill.uses.search.cells import Cell, CellRunner
from potstill.uses.search.halving import halving_rounds
from potstill.uses.search.proxy import (
    Calibrated,
    EarlyStopping,
    Made,
    MadeSet,
    Proxy,
    RealSet,
    SetFile,
    TrainingFree,
    parse_proxy,
)
from potstill.uses.search.space import Candidate, Network, product
from potstill.uses.search.split import split_training
from potstill.uses.search.summary import conclude
from potstill.uses.search.training import candidate_factory
from potstill.uses.search.validation_set.candidates import calibrated_networks, make_calibrated

__all__ = ["Searched", "search"]

VERSION = 1
"""Version of the files. It is raised when what is measured changes."""
BASELINE = RealSet(per_class=50)
"""Real samples that stand beside every proxy."""
REAL, ALL = "real", "all"
"""Names of the training samples that do not decide, and of all of them."""


def search(
    data: Any,
    candidates: Sequence[Network | Candidate],
    *,
    out: str | Path,
    proxy: str | Proxy | None = None,
    updates: int = 300,
    batch: int = 64,
    validation: float = 0.2,
    share: float = 0.5,
    truth: Mapping[str, float] | str | Path | None = None,
    train_all: bool = False,
    train_best: bool = False,
    full_updates: int | None = None,
    seed: int = 0,
    device: str = "auto",
    executor: Executor | str | None = None,
    progress: Callback | None = None,
) -> dict[str, Any]:
    """Find the best network or setting for data, on a held-out part of the training data.

    Without ``proxy``, by successive halving on the real data (arXiv:1502.07943). With it, the candidates are trained
    on a small set or scored without training, and early stopping on all data and 50 random samples of each class stand
    beside it at equal total compute, its making included. ``out`` gets a file for each training, from which the same
    call continues where one was interrupted; ``search.json``, the result; and ``search.html``, a page.

    Args:
        data: anything `potstill.load_data` takes or returns, with classes. The test split is read by ``train_all`` and
            ``train_best`` alone, and nothing is chosen on it.
        candidates: networks (names, classes or functions), or values with a learning rate, a weight decay and an
            augmentation (`potstill.uses.search.product`).
        out: folder of the results, made if it is not there.
        proxy: name (`potstill.uses.search.parse_proxy`) or value of what ranks the candidates. Default: none.
        updates: updates of a candidate: of those in the last round of halving, or of all on the proxy.
        batch: samples of an update, at most.
        validation: fraction of the training data that decides, at most 2,000 samples.
        share: part of the proxy's compute that making a distilled set may take, for a method without ``steps``.
        truth: accuracy of every candidate by name, or a JSON or CSV file of them, to measure the ranking.
        train_all: train all candidates fully instead, and take their test accuracy as the truth.
        train_best: train the best candidate fully, and report its test accuracy.
        full_updates: updates of full training. Default: ten times ``updates``.
        seed: seed of splits, networks and batches.
        device: ``auto``, ``cpu`` or ``cuda``.
        executor: where trainings run, as for `potstill.distill`. Default: as many processes as help.
        progress: callback ``progress(name, done, total)``. Default: silent.

    Returns:
        The content of ``search.json``.

    Raises:
        PotstillError: fewer than two candidates fit the data, the samples that decide are of one class, the scores are
            all alike, ``truth`` lacks a candidate, or ``out`` holds other measurements.
    """
    keep_freed_memory()
    for name, value in (("updates", updates), ("batch", batch), ("full_updates", full_updates or 1)):
        if value < 1:
            raise PotstillError(f"{name} must be a whole number of at least 1, not {value}; change it")
    if not 0 < validation < 1 or not 0 < share < 1:
        raise PotstillError(f"validation and share must be between 0 and 1, not {validation} and {share}; change them")
    splits = as_splits(data, pick_device(device))
    train, held_out = split_training(splits.train, validation, seed)
    fitting, left_out = _fitting(candidates, splits.train)
    settings: dict[str, Any] = {
        "version": VERSION, "data": source_key(splits.train), "validation": validation, "batch": batch,
    }  # fmt: skip
    folder = Path(out)
    check_not_input(folder, [splits, *([proxy] if isinstance(proxy, str) else [])], folder=True)
    page = folder / "search.html"
    if page.exists() and (other := describe_foreign_page(page)):
        raise PotstillError(f"{page}: {other}; choose another folder")
    runner = CellRunner(
        folder=folder, settings={**settings, "split_seed": seed}, batch=batch, executor=resolve_executor(executor),
        progress=progress or (lambda *_: None),
    )  # fmt: skip
    runner.add_data(REAL, train, held_out)
    searched = Searched(candidates=fitting, runner=runner, train=train, held_out=held_out, seed=seed)
    full = full_updates or 10 * updates
    known = None if truth is None else _read_truth(truth, fitting)
    if (train_all or train_best) and splits.test is None:
        raise PotstillError(f"{splits.train.name}: full training is measured on a test split; give data that have one")
    if splits.test is not None:
        runner.add_data(ALL, splits.train, splits.test)
    chosen = parse_proxy(proxy) if isinstance(proxy, str) else proxy
    if isinstance(chosen, Calibrated):
        calibrated_networks(fitting)  # refused before anything is trained
    rows = [searched.halve(updates)] if chosen is None else searched.with_baselines(chosen, updates, share)
    main = rows[0]
    if len(set(main["scores"])) < 2:
        raise PotstillError(
            f"the ranking by {main['name']} is constant: all {len(fitting)} candidates score {main['scores'][0]:g}; "
            "give more updates, or other candidates"
        )
    best = fitting[max(range(len(fitting)), key=lambda n: main["scores"][n])]
    fully: dict[str, Any] | None = None
    if train_all:
        results = runner.run([_full(c, full, seed) for c in fitting], "full training")
        known = [r["accuracy"] for r in results]
        rows[0]["truth_operations"] = sum(r["operations"] for r in results)
        fully = results[fitting.index(best)]
    elif train_best:
        fully = runner.run([_full(best, full, seed)], "full training")[0]
    result = {
        "settings": {**settings, "updates": updates, "full_updates": full, "share": share, "seed": seed,
                     "proxy": None if chosen is None else chosen.name},
        "source": splits.train.name, "classes": list(splits.train.classes), "samples": len(train),
        "validation_samples": len(held_out), "left_out": left_out,
        "candidates": [
            {"name": c.name, "network": str(c.network), "lr": c.lr, "weight_decay": c.weight_decay,
             "augment": c.augment, "operations": size}
            for c, size in zip(fitting, searched.sizes, strict=True)
        ],
        "rows": rows, "truth": known,
        "full": None if fully is None else {"name": best.name, "updates": full, **fully,
                                            "test_samples": len(splits.test or ())},
    }  # fmt: skip
    result |= conclude(result)
    write_json(folder / "search.json", result)
    write_atomic(page, render_search(result).encode())
    return result


@dataclass(kw_only=True)
class Searched:
    """Candidates, the data, and rankings of them as rows of the result."""

    candidates: Sequence[Candidate]
    runner: CellRunner
    train: Source
    held_out: Source
    seed: int

    @property
    def sizes(self) -> list[float]:
        """Operations of a forward pass of each candidate."""
        return [count_operations(candidate_factory(c, self.held_out), self.held_out.input) for c in self.candidates]

    def halve(self, updates: int) -> dict[str, Any]:
        """Return the row of successive halving, whose scores count rounds before accuracy."""
        alive = list(range(len(self.candidates)))
        scores = [0.0] * len(alive)
        accuracies = [0.0] * len(alive)
        rounds, operations, seconds, sample_updates = [], 0.0, 0.0, 0
        for number, round_ in enumerate(halving_rounds(len(alive), updates)):
            alive = sorted(alive, key=lambda n: -scores[n])[: round_.candidates]
            found = self._train(REAL, round_.updates, f"round {number + 1}", alive)
            for n, one in zip(alive, found, strict=True):
                accuracies[n], scores[n] = one["accuracy"], 2 * number + one["accuracy"]
            operations += sum(one["operations"] for one in found)
            seconds += sum(one["seconds"] for one in found)
            sample_updates += round_.updates * len(alive) * min(self.runner.batch, len(self.train))
            rounds.append({"updates": round_.updates, "candidates": len(alive)})
        return {
            "name": "successive halving", "kind": "halving", "updates": updates, "rounds": rounds,
            "scores": scores, "accuracies": accuracies, "making": {"seconds": 0.0, "operations": 0.0},
            "operations": operations, "seconds": seconds, "sample_updates": sample_updates,
        }  # fmt: skip

    def rank(self, proxy: Proxy, updates: int, small_set: MadeSet | None = None, speed: float = 1.0) -> dict[str, Any]:
        """Return the row of one proxy.

        Args:
            proxy: what ranks.
            updates: of each candidate.
            small_set: the set, for a proxy that has one.
            speed: operations a second of the candidates' own training, by which the seconds of making are counted.
        """
        name, measure = REAL, "train"
        if isinstance(proxy, TrainingFree):
            measure = proxy.name
        elif small_set is not None:
            name = f"{proxy.name}-{_digest(small_set)}"
            view = self.held_out if small_set.normalization is self.held_out.normalization else SourceView.of(
                self.held_out, small_set.normalization)  # fmt: skip
            measure = "train" if small_set.validation is None else "loss"
            self.runner.add_data(name, small_set.rows, view if small_set.validation is None else small_set.validation)
        everyone = range(len(self.candidates))
        updates = 0 if isinstance(proxy, TrainingFree) else updates
        found = self._train(name, updates, proxy.name, everyone, measure)
        seconds = 0.0 if small_set is None else small_set.seconds
        size = min(self.runner.batch, len(self.train if small_set is None else small_set.rows.x))
        return {
            "name": proxy.name, "kind": type(proxy).__name__, "updates": updates,
            "scores": [one["accuracy"] for one in found],
            "making": {"seconds": round(seconds, 3), "operations": seconds * speed},
            "operations": sum(one["operations"] for one in found) + seconds * speed,
            "seconds": sum(one["seconds"] for one in found) + seconds,
            "sample_updates": updates * size * len(found),
        }  # fmt: skip

    def with_baselines(self, proxy: Proxy, updates: int, share: float) -> list[dict[str, Any]]:
        """Return the row of a proxy, and those of its baselines at equal total compute.

        The last is early stopping with the updates of the proxy, which costs what the set costs without its making.
        """
        same = self.rank(EarlyStopping(), updates)
        speed = same["operations"] / max(same["seconds"], 1e-9)
        main = self.rank(proxy, updates, self.make(proxy, same["seconds"] * share / (1 - share)), speed)
        equal = equal_updates(updates, main["operations"], same["operations"])
        rows = [main]
        if not isinstance(proxy, EarlyStopping):
            rows.append({**self.rank(EarlyStopping(), equal), "name": "early stopping, equal compute"})
        if proxy != BASELINE:
            rows.append(
                {**self.rank(BASELINE, equal, self.make(BASELINE, None), speed), "name": "random:50, equal compute"}
            )
        if not isinstance(proxy, EarlyStopping) and equal != updates:
            rows.append({**same, "name": "early stopping, same updates"})
        return rows

    def make(self, proxy: Proxy, seconds: float | None) -> MadeSet | None:
        """Return the set of a proxy, if it has one.

        Args:
            proxy: what needs a set.
            seconds: time that distilling may take, where the method has no number of steps; ``None``: all that it
                takes.
        """
        if isinstance(proxy, SetFile):
            return proxy.make(self.train, self.seed)
        if isinstance(proxy, RealSet):
            return self._measured_once(proxy, proxy.make(self.train, self.seed))
        if isinstance(proxy, Calibrated):
            progress = self.runner.progress
            return make_calibrated(
                proxy, self.candidates, self.train, self.held_out, self.seed, self.runner.folder / "sets", progress
            )  # fmt: skip
        if not isinstance(proxy, Made):
            return None
        limit = None if proxy.steps is not None else seconds
        return proxy.make(self.train, self.seed, limit, self.runner.folder / "sets")

    def _measured_once(self, proxy: RealSet, small_set: MadeSet) -> MadeSet:
        """Return the set with the seconds of the first time that it was made, so that a resumed run has the same."""
        path = self.runner.folder / "sets" / f"{_stem(proxy.name)}-seed{self.seed}.json"
        known = read_json(path, self.runner.settings, "search")
        if known is None:
            write_json(path, {"settings": self.runner.settings, "seconds": small_set.seconds})
            return small_set
        return replace(small_set, seconds=float(known["seconds"]))

    def _train(
        self, data: str, updates: int, title: str, which: Sequence[int], measure: Any = "train"
    ) -> list[dict[str, Any]]:  # fmt: skip
        cells = [
            Cell(candidate=self.candidates[n], data=data, updates=updates, measure=measure, seed=self.seed)
            for n in which
        ]  # fmt: skip
        return self.runner.run(cells, title)


def equal_updates(updates: int, operations: float, early: float) -> int:
    """Return the updates of early stopping that cost ``operations``, where ``updates`` of them cost ``early``."""
    return max(1, round(updates * operations / max(early, 1.0)))


def _stem(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


def _digest(small_set: MadeSet) -> str:
    """Return a short hash of a set's samples, for the names of cells."""
    content = hashlib.sha256(small_set.rows.x.detach().cpu().numpy().tobytes())
    content.update(small_set.rows.y.detach().cpu().numpy().tobytes())
    if small_set.validation is not None:
        content.update(source_key(small_set.validation).encode())
    return content.hexdigest()[:8]


def _full(candidate: Candidate, updates: int, seed: int) -> Cell:
    return Cell(candidate=candidate, data=ALL, updates=updates, seed=seed)


def _fitting(candidates: Sequence[Network | Candidate], train: Source) -> tuple[list[Candidate], list[dict[str, str]]]:
    """Return the candidates whose networks take the data, and why others do not."""
    plain = [c for c in candidates if not isinstance(c, Candidate)]
    every = [*product(plain), *(c for c in candidates if isinstance(c, Candidate))]
    found, left_out = list[Candidate](), list[dict[str, str]]()
    for candidate in every:
        try:
            candidate_factory(candidate, train)
            found.append(candidate)
        except PotstillError as error:
            left_out.append({"name": candidate.name, "reason": str(error)})
    if len(found) < 2:
        why = f"; {left_out[0]['reason']}" if left_out else "; give more"
        raise PotstillError(f"a search needs two candidates or more, but {len(found)} of {len(every)} fit{why}")
    return found, left_out


def _read_truth(truth: Mapping[str, float] | str | Path, candidates: Sequence[Candidate]) -> list[float]:
    """Return the true accuracy of each candidate.

    Raises:
        PotstillError: the file cannot be read, or lacks a candidate.
    """
    name = "truth" if isinstance(truth, Mapping) else str(truth)
    if isinstance(truth, Mapping):
        values: Mapping[str, Any] = truth
    else:
        try:
            text = Path(truth).read_text()
            values = dict(csv.reader(text.splitlines())) if str(truth).endswith(".csv") else json.loads(text)
        except (OSError, ValueError) as error:
            raise PotstillError(f"{name}: cannot be read as accuracies by name ({error}); give JSON or CSV") from None
    if not isinstance(values, Mapping):
        raise PotstillError(f"{name}: must be a JSON object of accuracies by name of the candidate; change it")
    found = []
    for candidate in candidates:
        try:
            found.append(float(values[candidate.name]))
        except (KeyError, TypeError, ValueError):
            raise PotstillError(f"{name}: has no accuracy of candidate {candidate.name!r}; add it") from None
    if len(set(found)) < 2:
        raise PotstillError(f"{name}: all {len(found)} candidates have the same accuracy; a ranking needs two or more")
    return found
