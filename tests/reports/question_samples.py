"""A folder as `potstill compare` leaves it, made of real digits: four methods at two sizes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from report_samples import card, estimate, scorecard
from safetensors.numpy import save_file

from potstill.reports import Gallery

__all__ = ["METHODS", "comparison"]

METHODS = {"random": 0.70, "dm": 0.80, "k-means": 0.795, "herding": 0.65}
"""Mean at one per class; five per class are 0.1 better."""


def comparison(folder: Path, digits: Gallery, *, source: str = "9c41f0a7be22d9e1", name: str = "digits") -> Path:
    """Sets of real digits, those of ``dm`` blurred; a leaderboard with tests."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for amount in (1, 5):
        for k, (method, mean) in enumerate(METHODS.items()):
            rows.append(_row(folder, digits, method, mean + 0.1 * (amount == 5), amount, k, source))
    rows.append({
        "id": "mtt-ipc5@potstill", "method": "mtt", "ipc": 5, "error": "mtt: experts are needed <b>", "unit": "ipc",
        "amount": 5, "protocol": "potstill",
    })  # fmt: skip
    held: dict[str, Any] = {"source": name, "protocol": "potstill", "fair": "as many real samples", "rows": rows}
    said = [
        {
            "unit": "ipc",
            "amount": n,
            "protocol": "potstill",
            "text": f"dm has the best mean at {n}; k-means is not told apart.",
        }
        for n in (1, 5)
    ]
    held |= {"done": 8, "total": 9, "verdicts": said, "test": "Paired t tests, Holm.", "tests": []}
    (folder / "leaderboard.json").write_text(json.dumps(held), encoding="utf-8")
    return folder


def confusion(k: int) -> list[list[int]]:
    """100 answers of each class: 8 is taken ``10 + k`` times for 3, 1 twice for 7, all others are right."""
    counts = [[100 * (c == d) for d in range(10)] for c in range(10)]
    counts[8][8], counts[8][3] = 90 - k, 10 + k
    counts[1][1], counts[1][7] = 98, 2
    return counts


def _row(folder: Path, digits: Gallery, method: str, mean: float, amount: int, k: int, source: str) -> dict[str, Any]:
    index = np.concatenate([np.flatnonzero(digits.labels == c)[:amount] for c in range(10)])
    inputs, more = digits.inputs[index], {"index": index}
    if method == "dm":
        inputs, more = (inputs + np.roll(inputs, 1, -1)) / 2, {}
    stem = f"{method}-ipc{amount}"
    made = card(method=method, ipc=amount, source={"name": "digits", "samples": 100, "hash": source})
    made |= {"cost": {"seconds": (0.0, 40.0, 3.0, 2.0)[k] * amount}}
    save_file(
        {"inputs": np.ascontiguousarray(inputs), "labels": digits.labels[index], **more},
        folder / f"{stem}.safetensors",
        {"card": json.dumps(made)},
    )
    size = 7840 * amount * (2 if method == "dm" else 1)
    measured: Mapping[str, Any] = scorecard(
        mean,
        baselines={},
        settings={"method": method, "ipc": amount},
        bytes={"inputs": size - 10, "labels": 10, "decoder": 0, "total": size},
        score=estimate(mean, 0.01),
        per_class=[{"name": str(c), "mean": mean - 0.01 * (c == 8)} for c in range(10)],
        confusion=confusion(k),
    )
    (folder / f"{stem}.scorecard.json").write_text(json.dumps(measured), encoding="utf-8")
    row = {
        "method": method, "ipc": amount, "file": f"{stem}.safetensors", "scorecard": measured, "items": 10 * amount,
        "codec": "exact", "bytes": size,
    }  # fmt: skip
    if method != "random":
        row["difference"] = estimate(mean - METHODS["random"] - 0.1 * (amount == 5), 0.01)
    return row | {
        "id": f"{stem}@potstill", "unit": "ipc", "amount": amount, "protocol": "potstill", "seconds": k + 1.0,
        "score": estimate(mean, 0.01) | {"over": "sets"}, "rank": 1 + (1, 0, 2, 3)[k], "best": method == "dm",
        "not_told_apart": method in ("dm", "k-means"),
    }  # fmt: skip
