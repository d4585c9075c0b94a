"""Proxies: cheap stand-ins for full training that rank candidates, with the cost of making them."""

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from potstill.api.distill import run
from potstill.core import Inputs, Method, Normalization, Source, Splits
from potstill.core.registry import get_method_class, names
from potstill.data.groups import source_key
from potstill.data.selection_order import SELECTIONS
from potstill.dataset_file import Distilled, load, write_atomic
from potstill.errors import PotstillError, suggestion
from potstill.evaluation.byte_matched_baselines import baseline_order, pack_samples, take
from potstill.evaluation.fitting import check_compatible
from potstill.evaluation.student import weight_labels
from potstill.evaluation.training_sets import TeacherJob
from potstill.labels.teacher import soft_labels
from potstill.nn import default_network_name, factory_for
from potstill.rng import derive_seed
from potstill.runs.spec import RunIO, RunLimits, RunSpec
from potstill.uses.search.training import Rows

__all__ = [
    "Calibrated", "EarlyStopping", "Made", "MadeSet", "Proxy", "RealSet", "SetFile", "TrainingFree", "parse_proxy",
    "rows_of",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MadeSet:
    """A small set and what making it took."""

    rows: Rows
    normalization: Normalization
    seconds: float
    """Time of selecting or distilling."""
    validation: Source | None = None
    """Samples that candidates are scored on, by their loss; ``None``: the held-out ones, by accuracy."""


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """All real data, few updates."""

    name: str = "early stopping"


@dataclass(frozen=True, kw_only=True)
class TrainingFree:
    """A score of the untrained network."""

    name: Literal["grad-norm", "operations"]
    """Norm of the gradient on one batch, or the operations of a forward pass: the largest network is the best."""


@dataclass(frozen=True, kw_only=True)
class RealSet:
    """Real samples of each class, selected and, with a lossy codec, as decoded from their file."""

    per_class: int
    selection: str = "random"
    codec: str = "exact"

    @property
    def name(self) -> str:
        return f"{self.selection}:{self.per_class}" + ("" if self.codec == "exact" else f"@{self.codec}")

    def make(self, train: Source, seed: int) -> MadeSet:
        """Return the set, selected from ``train``."""
        started = time.perf_counter()
        most = None if self.selection == "random" else self.per_class
        order = baseline_order(train, self.selection, derive_seed(seed, "proxy"), "search", most)
        x: Inputs
        if self.codec == "exact":
            at = take(order, self.per_class)
            x, y = train.fetch(at).x, train.labels[at]
        else:
            x, y = pack_samples(train, [order], self.per_class, self.codec).pairs[0]
        if not isinstance(x, Tensor):
            raise PotstillError(f"{self.name}: a search needs inputs of one tensor, not of several; give other data")
        rows = Rows(x=x.to(train.device), y=y.to(train.device))
        return MadeSet(rows=rows, normalization=train.normalization, seconds=time.perf_counter() - started)


@dataclass(frozen=True, kw_only=True)
class SetFile:
    """A distilled set that is there already; its making is charged as its file says."""

    path: str | Path

    @property
    def name(self) -> str:
        return Path(self.path).name

    def make(self, train: Source, seed: int) -> MadeSet:
        """Return the set of the file."""
        del seed  # the set is there
        return rows_of(load(self.path), train)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A set distilled here, from the training samples that do not decide."""

    method: str | Method[Any]
    ipc: int = 10
    soft: bool = False
    """Soft labels of a teacher that is trained on the real data, in place of the method's."""
    network: str | None = None
    """Network that the method and the teacher use; ``None``: the usual one."""
    steps: int | None = None
    """Largest number of steps; ``None``: those of the method, or as many as its share of the compute allows."""
    teacher_steps: int = 100
    """Updates of the teacher of soft labels."""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        method = self.method if isinstance(self.method, str) else type(self.method).__name__.lower()
        return f"{method}:{self.ipc}" + (" with soft labels" if self.soft else "")

    def make(self, train: Source, seed: int, seconds: float | None, folder: Path) -> MadeSet:
        """Return the set, from ``folder`` where it was made before.

        Args:
            train: samples to distil.
            seed: of the run.
            seconds: time limit; ``None``: no limit.
            folder: folder of the file and of what making it took.
        """
        stem = hashlib.sha256(repr((self, seconds, seed, source_key(train))).encode()).hexdigest()[:12]
        path, record = folder / f"{stem}.safetensors", folder / f"{stem}.json"
        if not (path.exists() and record.exists()):
            folder.mkdir(parents=True, exist_ok=True)
            started = time.perf_counter()
            small = self._distill(train, seed, seconds)
            rows = self._soft_labels(train, rows_of(small, train).rows.x, seed).tolist() if self.soft else None
            spent = time.perf_counter() - started
            small.save(path, force=True)
            write_atomic(record, json.dumps({"proxy": repr(self), "seconds": spent, "soft_labels": rows}).encode())
        made, known = rows_of(load(path), train), json.loads(record.read_text())
        if known["soft_labels"] is not None:
            y = torch.tensor(known["soft_labels"], dtype=made.rows.x.dtype, device=made.rows.x.device)
            made = replace(made, rows=replace(made.rows, y=y))
        return replace(made, seconds=float(known["seconds"]))

    def _distill(self, train: Source, seed: int, seconds: float | None) -> Distilled:
        spec = RunSpec(
            data=Splits(train=train, test=None), method=self.method, ipc=self.ipc, seed=derive_seed(seed, "proxy"),
            device=str(train.device), network=self.network, codec="float32", options=dict(self.options),
        )  # fmt: skip
        limits = RunLimits(steps=self.steps, time_limit=None if seconds is None else max(1.0, seconds))
        return run(spec, limits, RunIO(progress=None, executor="serial"))

    def _soft_labels(self, train: Source, x: Tensor, seed: int) -> Tensor:
        make = factory_for(self.network or default_network_name(train.input), train)
        job = TeacherJob(train=train, make=make, seed=derive_seed(seed, "labels"), steps=self.teacher_steps)
        return soft_labels(job.network(), job(), x).cpu()


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """Random real samples and a validation set learned for them (HCDC): candidates are scored by its loss.

    `potstill.uses.search.validation_set.calibrate` learns it, with one mixture of all candidates' networks.
    """

    ipc: int = 10
    """Real training samples of each class."""
    validation_ipc: int = 2
    """Learned validation samples of each class."""
    points: int = 20
    """Sampled mixtures, each of which is trained on all real training samples."""
    steps: int | None = None
    """Steps of the validation set; ``None``: the usual number."""
    decay: float = 1e-3
    """Weight decay of the trainings that it is learned from."""
    name: str = "hcdc"


TRAINING_FREE: Mapping[str, TrainingFree] = {
    "grad-norm": TrainingFree(name="grad-norm"), "operations": TrainingFree(name="operations"),
}  # fmt: skip
Proxy = EarlyStopping | TrainingFree | RealSet | SetFile | Made | Calibrated


def parse_proxy(text: str, *, ipc: int = 10, soft: bool = False, steps: int | None = None) -> Proxy:
    """Return a proxy by its name.

    Args:
        text: a file ``….safetensors``; a method, such as ``dm``; ``random:50`` or ``k-means:10`` (real samples of each
            class), with ``@CODEC`` to have them as decoded from few bits; ``hcdc``; ``grad-norm`` or ``operations``;
            ``early``.
        ipc, soft, steps: of a method, or of ``hcdc``, which takes no soft labels.

    Raises:
        PotstillError: there is no such proxy.
    """
    if text.endswith(".safetensors"):
        return SetFile(path=text)
    if text in ("early", EarlyStopping().name):
        return EarlyStopping()
    if text == "hcdc":
        if soft:
            raise PotstillError("proxy hcdc has real training samples with their own classes; leave soft labels out")
        return Calibrated(ipc=ipc, steps=steps)
    if text in TRAINING_FREE:
        return TRAINING_FREE[text]
    way, _, codec = text.partition("@")
    selection, _, number = way.partition(":")
    if selection in SELECTIONS:
        if not re.fullmatch(r"[1-9]\d{0,6}", number):
            raise PotstillError(f"proxy {text!r} needs a number of samples of each class: {selection}:50")
        return RealSet(per_class=int(number), selection=selection, codec=codec or "exact")
    known = [*names("methods"), "random:50", "k-means:10", "hcdc", "grad-norm", "operations", "early"]
    if text not in names("methods"):
        raise PotstillError(f"no proxy {text!r}; {suggestion(text, known, 'proxies and methods')}")
    if get_method_class(text).info.is_selection:
        raise PotstillError(f"method {text} selects real samples; take proxy random:50 or k-means:10")
    return Made(method=text, ipc=ipc, soft=soft, steps=steps)


def rows_of(small: Distilled, train: Source) -> MadeSet:
    """Return a distilled set as rows in memory.

    Raises:
        PotstillError: it is of other classes or inputs than the data.
    """
    check_compatible(small, train)
    x = small.model_space()
    if not isinstance(x, Tensor):
        raise PotstillError("a search needs a set with inputs of one tensor, not of several; give another set")
    seconds, y = small.metadata.get("cost", {}).get("seconds", 0.0), small.labels
    if small.sample_weight is not None:
        y = weight_labels(y, small.sample_weight, len(train.classes), x.dtype)
    return MadeSet(
        rows=Rows(x=x.to(train.device), y=y.to(train.device)), normalization=small.normalization,
        seconds=float(seconds),
    )  # fmt: skip
