"""The full-data reference: one network on all real training samples, kept by what it was made of."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from potstill.core import NetworkFactory, Source
from potstill.evaluation.student import predict
from potstill.rng import derive, generator
from potstill.supervise.teacher import fresh_teacher, teacher_step

__all__ = ["cache_folder", "full_reference"]

RECIPE: Mapping[str, Any] = {
    "version": 1, "optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "batch": 128, "steps": 600,
    "schedule": "linear to zero",
}  # fmt: skip
"""A short, fixed recipe: a reference that is trained longer would be a few points higher."""


def cache_folder() -> Path:
    """``$POTSTILL_CACHE``, or the user's cache folder."""
    given = os.environ.get("POTSTILL_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "potstill"


def full_reference(train: Source, test: Source, make: NetworkFactory, seed: int) -> dict[str, Any]:
    """Accuracy of one network trained on all of ``train``: ``mean``, ``n`` = 1, ``recipe``, ``bytes``; cached."""
    n = train.normalization
    what = {
        "recipe": dict(RECIPE), "train": train.content_hash, "test": test.content_hash, "network": make.name,
        "seed": seed, "mean": n.mean.tolist(), "std": n.std.tolist(),
        "whitening": None if n.whitening is None else hashlib.sha256(n.whitening.matrix.numpy().tobytes()).hexdigest(),
    }  # fmt: skip
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    path = cache_folder() / "full" / f"{key}.json"
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
        if kept.get("what") == what:
            return dict(kept["result"])
    except (OSError, ValueError):
        pass  # not there, or not readable: it is measured again and written anew
    result = _measure(train, test, make, seed)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "w") as file:
            json.dump({"what": what, "result": result}, file)
        os.replace(part, path)
    except OSError:
        pass  # a cache that cannot be written costs time, not the result
    return result


def _measure(train: Source, test: Source, make: NetworkFactory, seed: int) -> dict[str, Any]:
    net = make(derive(seed, "full")).train()
    rng = generator(seed, "full")
    trained = fresh_teacher(net)
    steps, lr = int(RECIPE["steps"]), float(RECIPE["lr"])
    for step in range(steps):
        trained, _ = teacher_step(
            net, trained, train, rng, batch=int(RECIPE["batch"]), lr=lr * (1 - step / steps),
            momentum=float(RECIPE["momentum"]), weight_decay=float(RECIPE["weight_decay"]),
        )  # fmt: skip
    net.load_state_dict({**trained.params, **trained.buffers})
    accuracy = float((predict(net, test) == test.labels).float().mean())
    x = train.raw(test.labels[:1] * 0)
    per_input = x[0].numel() if isinstance(x, Tensor) else 0
    return {
        "mean": accuracy, "std": 0.0, "ci95": None, "n": 1, "recipe": dict(RECIPE),
        "bytes": len(train) * (4 * per_input + 8),
    }  # fmt: skip
