"""The full-data reference: one network trained on all real samples, cached by everything that decides its result."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from potstill._util.cache import make_cache_folder
from potstill._util.cache_dir import cache_dir
from potstill.core import NetworkFactory, Source
from potstill.data.groups import source_key
from potstill.dataset_file import write_atomic
from potstill.errors import PotstillError
from potstill.evaluation.estimators import LearnerFactory
from potstill.evaluation.student import predict
from potstill.labels.teacher import SGD, fresh_teacher, teacher_step
from potstill.pretraining.cache_keys import cache_key, machine_fingerprint, warn_other_machines
from potstill.rng import derive_seed, generator
from potstill.tasks import Classification, get_targets, get_task

__all__ = ["RECIPE", "FullReference"]

RECIPE: Mapping[str, Any] = {
    "version": 1, "optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "batch": 128, "steps": 600,
    "schedule": "linear to zero",
}  # fmt: skip
"""A short, fixed recipe. A longer one would raise the reference by a few points."""


@dataclass(frozen=True, kw_only=True)
class FullReference:
    """The full-data measurement as a job: calling it trains and scores; `load_cached` and `save` use the cache."""

    train: Source
    test: Source
    make: NetworkFactory
    seed: int
    recipe: Mapping[str, Any] = field(default_factory=lambda: dict(RECIPE))
    machine: Mapping[str, str] = field(default_factory=machine_fingerprint)
    """Part of the cache key: the machine that asks for the result."""

    def __call__(self) -> dict[str, Any]:
        """Return the score of one student trained on all of ``train``: ``mean``, ``n`` = 1, ``recipe``."""
        task, targets = get_task(self.test), get_targets(self.test)
        if isinstance(self.make, LearnerFactory):
            said = self.make.fit_all(self.train, self.test, derive_seed(self.seed, "full"))
            return self._result(task.score(said, targets), finite=True)
        network = self.make(derive_seed(self.seed, "full")).train()
        rng = generator(self.seed, "full")
        trained = fresh_teacher(network)
        steps, batch = int(self.recipe["steps"]), int(self.recipe["batch"])
        lr, momentum, weight_decay = (float(self.recipe[name]) for name in ("lr", "momentum", "weight_decay"))
        for step in range(steps):
            sgd = SGD(batch=batch, lr=lr * (1 - step / steps), momentum=momentum, weight_decay=weight_decay)
            trained, _ = teacher_step(network, trained, self.train, rng, sgd)
        network.load_state_dict({**trained.params, **trained.buffers})
        finite = all(bool(torch.isfinite(p).all()) for p in trained.params.values())
        score = task.score(predict(network, self.test), targets) if finite else task.chance_score(targets)
        return self._result(score, finite)

    def _result(self, score: float, finite: bool) -> dict[str, Any]:
        return {"mean": score, "std": None, "ci95": None, "n": 1, "diverged": not finite, "recipe": self._recipe}

    @property
    def _recipe(self) -> dict[str, Any]:
        """The training recipe, or a learner's settings."""
        return (
            {**self.make.settings, "scikit-learn": version("scikit-learn")}
            if isinstance(self.make, LearnerFactory)
            else dict(self.recipe)
        )

    def _what(self) -> dict[str, Any]:
        n = self.train.normalization
        white: list[Any] | None = None
        if (w := n.whitening) is not None:
            parts = (hashlib.sha256(t.cpu().numpy().tobytes()).hexdigest() for t in (w.mean, w.matrix))
            white = [*parts, w.unit_norm]
        task = get_task(self.train)
        other: dict[str, Any] = {} if isinstance(task, Classification) else {"task": [task.name, repr(task)]}
        if n.parts:
            other["parts"] = [[name, part.mean.tolist(), part.std.tolist()] for name, part in n.parts.items()]
        return other | {
            "recipe": self._recipe, "train": source_key(self.train), "test": self.test.content_hash,
            "network": self.make.name, "seed": self.seed, "mean": n.mean.tolist(), "std": n.std.tolist(),
            "whitening": white,
        }  # fmt: skip

    def _path(self) -> Path:
        return cache_dir() / "full" / f"{cache_key(self._what(), self.machine, self.make.device)}.json"

    def load_cached(self) -> dict[str, Any] | None:
        """Return the cached result of the same data, network, recipe and seed, or ``None``."""
        try:
            found = json.loads(self._path().read_text())
        except (OSError, ValueError):
            warn_other_machines(self._path(), "networks on all data")
            return None  # not there, or not readable: it is measured again and written anew
        if not isinstance(found, dict) or found.get("what") != self._what():
            return None
        result = found.get("result")
        if found.get("sha256") != _hash(result) or not isinstance(result, dict):
            return None
        return result if isinstance(result.get("mean"), float) else None

    def save(self, result: Mapping[str, Any]) -> None:
        """Write ``result`` to the cache; failure to write is ignored."""
        path = self._path()
        with contextlib.suppress(OSError, PotstillError):
            make_cache_folder(path.parent)
            kept = {"what": self._what(), "result": dict(result), "sha256": _hash(result)}
            write_atomic(path, json.dumps(kept).encode())


def _hash(result: Any) -> str:
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()
