"""What more workers bring, simulated and measured: benchmarks/simulate.py."""

import json
import statistics
from pathlib import Path
from typing import Any

from tools.docs.parts import table

__all__ = ["scaled"]

_JOBS = {
    "experts": "1,024 experts of about a minute",
    "shards": "1,000 classes, a shard for each worker",
    "students": "512 students of half a minute",
}


def scaled(root: Path) -> str:
    """A row for each kind of jobs, a column for each number of workers; and what it was held against."""
    path = root / "results" / "simulate.json"
    if not path.exists():
        return _two(root).strip()
    made = json.loads(path.read_text(encoding="utf-8"))
    by_name: dict[str, dict[int, dict[str, Any]]] = {}
    for key, cell in made["forecast"].items():
        name, workers = key.split()
        by_name.setdefault(name, {})[int(workers)] = cell
    numbers = list(next(iter(by_name.values())))
    shown = [
        [_JOBS[name], *(f"{row[n]['efficiency']:.2f} ({row[n]['most']})" for n in numbers)]
        for name, row in by_name.items()
    ]
    held = made["held"]
    gaps = [100 * (r["simulated"] / statistics.median(r["real"]) - 1) for r in held]
    m, machine = made["measured"], made["machine"]
    said = (
        "Forecast efficiency, the work of one worker over workers times the time, and what costs most of the rest. "
        f"Measured on this machine: {1000 * m['driver_job']:.1f} ms of the driver a job, "
        f"{1000 * m['driver_answered_mb']:.1f} ms for each MB answered, {1000 * m['driver_shared_mb']:.1f} ms for each "
        f"shared, {made['start']:.1f} s until a fresh worker can begin; a step of a shard takes "
        f"{1000 * made['shard_step']['fixed']:.1f} ms, and {1000 * made['shard_step']['class']:.1f} ms a class. "
        "Assumed: "
        f"{made['injected']['workers_a_node']} workers a node, {made['injected']['gbit']:g} Gbit/s from the first to "
        f"the others, {made['injected']['shared_mb']:g} MB of data. Held against 48 sleeping jobs on "
        f"{', '.join(str(r['workers']) for r in held[:-1])} and {held[-1]['workers']} workers of one machine, the "
        f"simulated time was off by {min(gaps):+.1f} to {max(gaps):+.1f} % (medians of 3, load "
        f"{made['load']:.1f} before). "
        f"{machine['processor']}, torch {machine['torch']}. `benchmarks/simulate.py`"
    )
    two = _two(root)
    return f"{table(['jobs', *(f'{n} workers' for n in numbers)], shown)}\n\n{said}{two}"


def _two(root: Path) -> str:
    """What the second worker brought."""
    path = root / "results" / "cluster.json"
    kept = json.loads(path.read_text(encoding="utf-8")).get("scaling") if path.exists() else None
    if kept is None:
        return ""
    names = {"experts": "eight experts", "shards": "ten class shards", "students": "eight students"}
    runs = {n: kept[n]["runs"] for n in names}
    jobs = [t for of in runs.values() for r in of["1"] for t in r["jobs"]]
    whole = {n: statistics.median(r["main"] + r["busiest"] for r in of["1"]) for n, of in runs.items()}
    share = ", ".join(f"{100 * statistics.median(r['main'] for r in of['1']) / whole[n]:.0f}" for n, of in runs.items())

    def told(kind: str) -> str:
        return ", ".join(f"{kept[n][kind]:.2f} for {what}" for n, what in names.items())

    return (
        f"\n\nA second worker was measured on jobs of {min(jobs):.1f} to {max(jobs):.1f} s (medians of "
        f"{kept['experts']['n']} by turns, two cores, load {kept['load']:.1f} before). Efficiency by the clock: "
        f"{told('efficiency_clock')}; by processor seconds of the main process and of the busiest worker: "
        f"{told('efficiency_processor')}. What is not divided, reading and storing, is {share} % of the work with one "
        "worker. `benchmarks/cluster.py scaling`"
    )
