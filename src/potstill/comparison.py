"""A leaderboard on the user's own data: every method at every size, each cell kept as it is done."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.api import as_splits, distill, evaluate, pick_device
from potstill.driver import Interrupted, Progress
from potstill.errors import PotstillError
from potstill.storage import load

__all__ = ["compare"]


def _write_json(path: Path, value: Any) -> None:
    """Beside, then renamed: a reader never sees half a file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
    part.replace(path)


def compare(
    data: Any,
    methods: Sequence[str],
    ipc: Sequence[int],
    *,
    out: Path,
    time_budget: float | None = None,
    seeds: int | None = None,
    protocol: str = "potstill",
    network: str | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: Callable[[str, Progress], None] | None = None,
) -> dict[str, Any]:
    """Distil and evaluate every method at every ``ipc`` under one protocol; ``random`` is always among them.

    Each cell is two files in ``out``: the set and its scorecard. A cell that is there already, made of the same data
    with the same settings, is not made again, so an interrupted comparison goes on where it stopped.
    ``out/leaderboard.json`` holds the rows, best first within each ``ipc``, and each row's difference from random with
    its interval.

    Args:
        data: anything ``load_data`` takes.
        methods: registered names.
        ipc: items per class.
        out: folder, made if it is not there.
        time_budget: seconds of distilling per cell.
        seeds: students per cell.
        progress: called with the cell's name after every step of distilling.

    Returns:
        The content of ``leaderboard.json``.

    Raises:
        PotstillError: ``out`` cannot be written.
        Interrupted: a signal came; the same call goes on from the checkpoint of the cell under way.
    """
    from potstill.evaluation.statistics import difference

    splits = as_splits(data, pick_device(device))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PotstillError(f"{out}: a folder that can be written is needed ({error.strerror})") from error
    names = list(dict.fromkeys(["random", *methods]))
    rows: list[dict[str, Any]] = []
    for amount in ipc:
        cells: dict[str, Mapping[str, Any]] = {}
        for name in names:
            settings = {
                "method": name, "ipc": amount, "seed": seed, "data": splits.train.content_hash, "protocol": protocol,
                "network": network, "time_budget": time_budget, "seeds": seeds,
            }  # fmt: skip
            stem = f"{name}-ipc{amount}"
            try:
                cells[name] = _cell(splits, settings, out / stem, device, progress)
            except Interrupted:
                raise  # the comparison ends here; its checkpoint is where the next one goes on
            except PotstillError as error:
                rows.append({"method": name, "ipc": amount, "error": str(error)})
        for name, score in cells.items():
            row: dict[str, Any] = {
                "method": name,
                "ipc": amount,
                "file": f"{name}-ipc{amount}.safetensors",
                "scorecard": score,
            }
            if name != "random" and "random" in cells:
                row["difference"] = difference(score["accuracy"]["values"], cells["random"]["accuracy"]["values"])
            rows.append(row)
    rows.sort(key=lambda r: (r["ipc"], -r["scorecard"]["accuracy"]["mean"] if "scorecard" in r else 1))
    board = {"source": splits.train.name, "protocol": protocol, "rows": rows}
    _write_json(out / "leaderboard.json", board)
    return board


def _cell(
    splits: Any,
    settings: Mapping[str, Any],
    stem: Path,
    device: str,
    progress: Callable[[str, Progress], None] | None,
) -> Mapping[str, Any]:
    """The scorecard of one cell, from its file if it was made with these settings."""
    file, card = stem.with_suffix(".safetensors"), stem.with_suffix(".scorecard.json")
    if card.exists():
        try:
            kept = json.loads(card.read_text())
        except ValueError as error:
            raise PotstillError(f"{card}: not a scorecard ({error}); delete it to measure again") from error
        if kept.get("settings") != settings:
            raise PotstillError(f"{card}: made of other data or settings; choose another folder or delete it")
        return dict(kept)
    checkpoint = Path(f"{file}.checkpoint")
    if file.exists():
        small = load(file)
    else:
        small = distill(
            splits,
            settings["method"],
            ipc=settings["ipc"],
            seed=settings["seed"],
            network=settings["network"],
            time_budget=settings["time_budget"],
            device=device,
            checkpoint=checkpoint,
            resume=checkpoint.exists(),
            progress=None if progress is None else lambda p: progress(stem.name, p),
        )
        small.save(file)
        checkpoint.unlink(missing_ok=True)
    networks = None if settings["network"] is None else [settings["network"]]
    score = evaluate(
        small,
        splits,
        protocol=settings["protocol"],
        networks=networks,
        seeds=settings["seeds"],
        seed=settings["seed"],
        baselines=False,
        robust_scores=False,
        device=device,
    )
    result = {**score.to_dict(), "settings": dict(settings)}
    _write_json(card, result)
    return result
