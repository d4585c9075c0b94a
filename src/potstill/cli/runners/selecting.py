"""Commands that choose among real samples."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from potstill.cli.runners.parts import Answer, data_words, load_data, workers

from potstill._util.progress import Watcher
from potstill.cli.commands import Active, Csod, Score
from potstill.cli.parsing import Misuse, Parsed
from potstill.cli.text import columns, json_document, plural
from potstill.errors import PotstillError

__all__ = ["run_active", "run_csod", "run_score"]


def run_score(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill._util.outputs import check_output, marked
    from potstill.api.score import score
    from potstill.dataset_file import write_atomic

    command = parsed.command
    assert isinstance(command, Score)
    if command.map is not None:
        check_output(command.map, force=command.force, found=marked)
    given = {"epochs_recorded": command.epochs, "runs": command.runs}
    made = score(
        load_data(parsed, command.data, watcher), command.methods, command.out, force=command.force,
        network=command.network, device=command.device, executor=workers(command),
        progress=watcher.count,
        **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    if command.map is not None:
        write_atomic(command.map, _map(made).encode())
    equal = 0 if made.first is None else len(made) - len(set(made.first.tolist()))
    columns = [name for said in made.methods.values() for name in said.columns]
    value = {
        "path": str(command.out), "samples": len(made), "hash": made.hash, "columns": columns, "duplicates": equal,
        "regions": {r: list(made.region).count(r) for r in dict.fromkeys(made.region)},
        "map": None if command.map is None else str(command.map), "command": line,
        "methods": {name: {"config": dict(m.config), "seconds": m.seconds} for name, m in made.methods.items()},
    }  # fmt: skip
    following = ["potstill", "distill", command.data, *data_words(command.reading), "--method", command.methods[0]]
    following += ["--ipc", "10", "--scores", str(command.out), "--out", "chosen.safetensors"]
    verb = "equals" if equal == 1 else "equal"
    same = f"{plural(equal, 'sample')} {verb} an earlier one" if equal else "no two samples are equal"
    return Answer(
        value,
        f"{command.out}: {plural(len(made), 'sample')}, {', '.join(columns)}; {same}\n"
        f"Select by it: {shlex.join(following)}",
    )


def _map(scores: Any) -> str:
    from potstill.reports.data_map import MapPoint, draw_data_map

    columns = scores.methods["cartography"].columns
    rows = zip(
        columns["variability"].tolist(), columns["confidence"].tolist(), scores.region, scores.labels.tolist(),
        strict=True,
    )  # fmt: skip
    points = [
        MapPoint(
            variability=v, confidence=c, region=region,
            label=f"{scores.classes[y]}: {scores.names[i] if scores.names else i}",
        )
        for i, (v, c, region, y) in enumerate(rows)
    ]  # fmt: skip
    return draw_data_map(points, scores.source)


def run_active(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill._util.outputs import check_output, marked
    from potstill.active import ACQUISITIONS, label_cost
    from potstill.active.learning import Learner
    from potstill.api.load_data import as_splits, pick_device
    from potstill.dataset_file import write_atomic
    from potstill.errors import unknown
    from potstill.reports.label_curves import draw_label_curves

    command = parsed.command
    assert isinstance(command, Active)
    for name in command.acquire:
        if name not in ACQUISITIONS:
            raise Misuse(str(unknown("acquisition", name, ACQUISITIONS)))
    if command.out is not None:
        check_output(command.out, force=command.force, found=lambda at: _other_costs(at, command.data))
    if command.plot is not None:
        check_output(command.plot, force=command.force, found=marked)
    splits = as_splits(load_data(parsed, command.data, watcher), pick_device(command.device))
    if splits.test is None:
        raise PotstillError(f"{command.data}: accuracy needs a test split; give a --test-fraction above 0")
    parts = (splits.train, splits.test)
    result = label_cost(
        lambda seed: parts,
        command.acquire,
        rounds=command.rounds,
        per_round=command.per_round,
        start=command.start,
        candidates=command.candidates,
        learner=Learner(network=command.network, steps=command.steps, batch=command.batch, lr=command.lr),
        fraction=command.fraction,
        seeds=command.seeds,
        seed=command.seed,
        progress=watcher.count,
    )
    value = {"data": command.data, **result, "command": line}
    if command.out is not None:
        write_atomic(command.out, (json_document(value) + "\n").encode())
    if command.plot is not None:
        write_atomic(command.plot, draw_label_curves(result, f"Accuracy against labels on {command.data}").encode())
    return Answer(value, _costs_of_labels(result))


def _other_costs(path: Path, data: str) -> str:
    """Say what is at ``path`` instead of what labels of these data cost."""
    from potstill._util.outputs import json_object

    held = json_object(path)
    if not {"curves", "pool", "labels"} <= held.keys():
        return "is there already, and is no result of active"
    return "" if held.get("data") == data else f"holds the result of other data ({str(held.get('data'))[:80]})"


def _costs_of_labels(result: Mapping[str, Any]) -> str:
    """A table of what `label_cost` found."""
    rows = []
    for name, curve in result["curves"].items():
        cost, saved, last = curve["needed"], curve["saved"], curve["accuracy"][-1]
        least = f" ({cost['at_least']} of {cost['n']} never)" if cost["at_least"] else ""
        ci = saved["ci95"]
        rows.append(
            [
                name,
                f"{100 * last['mean']:.1f} %",
                f"{cost['mean']:,.0f}{least}",
                "" if name == "random" or ci is None else f"{saved['mean']:+,.0f} [{ci[0]:+,.0f}, {ci[1]:+,.0f}]",
            ]
        )
    full, last = result["full"], result["labels"][-1]
    part = f"{100 * result['fraction']:g} %"
    heads = ["acquire", f"at {last:,} labels", f"labels to {part} of full", "fewer than random"]
    return f"{columns(heads, rows)}\nAll {result['pool']:,} labels: {100 * full['mean']:.1f} %"


def run_csod(parsed: Parsed, line: str, watcher: Watcher) -> Answer:
    from potstill._util.outputs import check_output, json_object
    from potstill.active import select_images
    from potstill.data.detection import load_detection
    from potstill.dataset_file import write_atomic

    def other(path: Path) -> str:
        said = json_object(path).get("potstill")
        ours = isinstance(said, dict) and said.get("method") == "csod"
        return "" if ours else "is there already, and is no subset that csod wrote"

    command = parsed.command
    assert isinstance(command, Csod)
    check_output(command.out, force=command.force, found=other)
    data = load_detection(command.annotations, command.images)
    for note in data.notes:
        watcher.note(note)
    index = select_images(
        data,
        command.n,
        redundancy=command.redundancy,
        size=command.crop,
        progress=lambda done, total: watcher.show("boxes", done / total, f"{done:,} of {total:,} images"),
    ).tolist()
    about = {"method": "csod", "config": {"redundancy": command.redundancy, "crop": command.crop}, "command": line}
    subset = data.subset(index, about)
    write_atomic(command.out, (json_document(subset) + "\n").encode())
    boxes = sum(len(data.images[i].labels) for i in index)
    value = {"path": str(command.out), "images": len(index), "boxes": boxes, **subset["potstill"]}
    return Answer(value, f"{command.out}: {plural(len(index), 'image')} of {len(data):,}, with {boxes:,} boxes")
