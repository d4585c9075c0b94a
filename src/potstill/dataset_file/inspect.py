"""Contents of a distilled set, for programs and for people."""

import math
from pathlib import Path
from typing import Any

import torch

from potstill._util.card import file_size_note, shared_decoder_bytes
from potstill._util.preset_words import describe_preset, recipe_name
from potstill._util.privacy_words import describe_coverage, describe_privacy
from potstill.core import Inputs
from potstill.core.nested import named_tensors
from potstill.dataset_file.dataset import Distilled, format_shape
from potstill.dataset_file.labeller_io import LABELLER
from potstill.dataset_file.load import load
from potstill.dataset_file.metadata import input_from_json, is_classification, task_from_json
from potstill.tasks import is_ragged, target_mask

__all__ = ["describe", "inspect"]

_MAX_NAMES = 12


def inspect(distilled: Distilled | str | Path) -> dict[str, Any]:
    """Return the metadata of a set, its tensors (shape, dtype, bytes), items per class and range of the inputs.

    Args:
        distilled: a set, or the path of one.

    Returns:
        JSON values: ``metadata``, ``tensors``, ``items``, ``per_class``, ``range`` and more.

    Raises:
        PotstillError: the path has no set that can be loaded.

    Examples:
        >>> small = potstill.distill("digits", "herding", ipc=1, progress=None)
        >>> potstill.inspect(small)["metadata"]["method"]
        'herding'
    """
    small = load(distilled) if isinstance(distilled, str | Path) else distilled
    classes = small.classes if small.is_classification else ()
    counts = torch.bincount(small.hard_labels, minlength=len(classes)).tolist()[: len(classes)]
    return {
        "metadata": small.to_dict(),
        "items": len(small),
        "kind": "selection" if small.is_selection else "synthetic",
        "labels": _label_kind(small),
        "per_class": dict(zip(classes, counts, strict=True)),
        "range": _value_range(small.inputs),
        "labeller": None if small.labeller is None else small.labeller.describe(),
        "weights": None if small.weights is None else _weight_summary(small.weights),
        "file_bytes": small.path.stat().st_size if small.path is not None and small.path.is_file() else None,
        "shared_decoder_bytes": shared_decoder_bytes(small.metadata),
        "tensors": {
            name: {
                "shape": list(tensor.shape),
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "bytes": tensor.numel() * tensor.element_size(),
            }
            for name, tensor in small.tensors.items()
        },
    }


def _decoder_lines(stored: int, shared: int) -> list[str]:
    """Return the bytes with those of a decoder that the file lacks; nothing where there is none."""
    if not shared:
        return []
    return [
        f"decoder     {shared:,} bytes more of what it decodes by, which other sets may share: {stored + shared:,} in "
        "all"
    ]


def _labeller_lines(metadata: dict[str, Any], network: str | None) -> list[str]:
    """Return the network that labels views, and their number; nothing where there is none."""
    if network is None:
        return []
    return [f"labeller    {network}, labels {metadata[LABELLER]['samples']:,} views, which students learn"]


def _drawn_lines(metadata: dict[str, Any]) -> list[str]:
    """Return the items that a generator draws, and from which seed; nothing where items are stored."""
    decoder = metadata.get("decoder")
    drawn = decoder.get("drawn") if isinstance(decoder, dict) else None
    if not isinstance(drawn, dict):
        return []
    each, seed, draw = (_escape(drawn.get(name)) for name in ("per_class", "seed", "draw"))
    return [f"drawn       {each} of each class, by seed {seed} and draw {draw}; potstill resample draws others"]


def _file_lines(sizes: dict[str, Any], size: int | None) -> list[str]:
    """Return the size of the file on disk; nothing for a set that was not read from one."""
    return [] if size is None else [f"file        {file_size_note(sizes, size) or f'{size:,} bytes on disk'}"]


def _label_kind(small: Distilled) -> str:
    """Return ``soft``, ``hard``, or of other targets ``3 real values each``, ``1 whole number each``."""
    if small.scores is not None:
        return "scores (real rows; a hard label is one-hot − 1/k)"
    if small.is_classification:
        return "soft" if small.has_soft_labels else "hard"
    if is_ragged(task_from_json(small.metadata)):
        total = int(target_mask(small.labels).sum())
        return f"{total:,} in all, {total / len(small):.1f} each"
    count = small.labels[:1].numel()
    kind = "real value" if small.labels.is_floating_point() else "whole number"
    return f"{count} {kind}{'' if count == 1 else 's'} each"


def _value_range(inputs: Inputs) -> list[float]:
    """Return the least and the greatest real value; both 0 where there are none."""
    real = [x for x in named_tensors(inputs).values() if x.is_floating_point()]
    return [min((float(x.min()) for x in real), default=0.0), max((float(x.max()) for x in real), default=0.0)]


def _weight_summary(weights: torch.Tensor) -> dict[str, float]:
    mean, low, high = float(weights.double().mean()), float(weights.min()), float(weights.max())
    return {"mean": mean, "min": low, "max": high, "zero": int((weights == 0).sum())}


def _escape(value: object, most: int = 60) -> str:
    """Shorten and escape text of a stranger, so that it cannot steer a terminal or fill the screen."""
    text = str(value)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _format_columns(columns: object) -> str:
    """Return ``3 numbers, 1 date, 2 categories (colour of 3, town of 2)`` for the columns of a table."""
    if not isinstance(columns, list) or not all(
        isinstance(c, dict) and isinstance(c.get("kind"), str) for c in columns
    ):
        return ""
    words = []
    for kind, plural in (("number", "numbers"), ("boolean", "booleans"), ("date", "dates"), ("category", "categories")):
        of_kind = [c for c in columns if c["kind"] == kind]
        if not of_kind:
            continue
        words.append(f"{len(of_kind)} {plural if len(of_kind) > 1 else kind}")
        if kind == "category":
            sizes = [len(v) if isinstance(v := c.get("values"), list) else 0 for c in of_kind]
            named = [f"{_escape(c.get('name'), 24)} of {n}" for c, n in zip(of_kind, sizes, strict=True)]
            words[-1] += f" ({', '.join(named[:_MAX_NAMES])}{', …' if len(named) > _MAX_NAMES else ''})"
    return ", ".join(words)


def _resume_lines(metadata: dict[str, Any]) -> list[str]:
    """Return a line for each resumption with other versions."""
    changes = metadata.get("resumed_with_others", [])
    lines = []
    for change in changes if isinstance(changes, list) else []:
        if isinstance(change, dict):
            versions = change.get("versions")
            words = (
                ", ".join(f"{_escape(n)} {_escape(v)}" for n, v in versions.items())
                if isinstance(versions, dict)
                else "others"
            )
            lines.append(f"resumed     after step {_escape(change.get('step'))}, until there made with {words}")
    return lines


def _weight_lines(weights: dict[str, float] | None) -> list[str]:
    if weights is None:
        return []
    zeros = f", {weights['zero']:,} of them 0" if weights["zero"] else ""
    return [f"weights     {weights['min']:.3g} to {weights['max']:.3g}, {weights['mean']:.3g} on the mean{zeros}"]


def _setting_lines(metadata: dict[str, Any]) -> list[str]:
    """Return lines of the preset with what differs from it, the network and the recipe, as far as they are known."""
    lines = []
    if "preset" in metadata:
        settings = describe_preset(metadata["preset"], metadata["config"], metadata["outcome"])
        if settings == "given":
            settings += ": " + (", ".join(f"{name} {value}" for name, value in metadata["config"].items()) or "none")
        lines.append(f"settings    {_escape(settings, 400)}")
    if metadata.get("network"):
        lines.append(f"network     {_escape(metadata['network'])}")
    if (recipe := recipe_name(metadata.get("command"))) is not None:
        lines.append(f"recipe      {_escape(recipe)}")
    return lines


def _privacy_lines(metadata: dict[str, Any]) -> list[str]:
    """Return a line of the claim, and one for what ε covers, what is public and what was not done."""
    covered = describe_coverage(metadata)
    lines = [f"privacy     {_escape(describe_privacy(metadata), 200)}"]
    return lines + [f"            {_escape(how, 24)}: {_escape(what, 300)}" for how, what in covered.items()]


def describe(summary: dict[str, Any]) -> str:
    """Return the lines for people of what ``inspect`` returned."""
    metadata = summary["metadata"]
    source, outcome, size, cost = metadata["source"], metadata["outcome"], metadata["bytes"], metadata["cost"]
    low, high = summary["range"]
    per_class = summary["per_class"]
    counts = sorted(set(per_class.values()))
    names = ", ".join(_escape(name, 24) for name in list(per_class)[:_MAX_NAMES])
    names += f", … ({len(per_class)} in all)" if len(per_class) > _MAX_NAMES else ""
    samples = source.get("samples")
    seconds = cost.get("seconds")
    duration = f"{seconds:,.1f} s" if isinstance(seconds, int | float) else "unknown time"
    selection = f": {summary['items']:,} samples of the source, by index" if summary["kind"] == "selection" else ""
    classified, spec = is_classification(metadata), metadata["input"]
    spread = f", {' to '.join(map(str, counts[:: max(1, len(counts) - 1)]))} per class" if classified else ""
    mirrored = "" if spec["kind"] != "image" or "horizontal_flip" not in spec else (
        "may be mirrored" if spec["horizontal_flip"] else "must not be mirrored"
    )  # fmt: skip
    if grid := spec.get("frames"):
        mirrored += f"; {math.prod(grid)} frames of a clip, in {grid[0]} × {grid[1]} tiles"
    columns = _format_columns(source.get("columns"))
    lines = [
        f"{summary['items']:,} inputs of {'' if spec.get('parts') else 'shape '}"
        f"{_escape(format_shape(input_from_json(spec)))} ({_escape(spec['kind'])}){spread}",
        f"classes     {names}" if classified else f"task        {_escape(metadata['task']['name'])}",
        f"labels      {summary['labels']}",
        f"method      {_escape(metadata['method'])}, seed {metadata['seed']}",
        *_setting_lines(metadata),
        f"kind        {summary['kind']}{selection}",
        f"source      {_escape(source.get('name'))}, {f'{samples:,}' if samples is not None else 'unknown'} samples, "
        + ("no hash" if source.get("hash") is None else f"hash {_escape(source.get('hash'), 13)}"),
        *_privacy_lines(metadata),
        *([f"columns     {columns}"] if columns else []),
        *([f"images      {mirrored}"] if mirrored else []),
        *_weight_lines(summary["weights"]),
        f"values      {low:.3f} to {high:.3f} ({_escape(metadata.get('space', spec.get('units')))})",
        f"stored      {size['total']:,} bytes: "
        + ", ".join(f"{part} {size[part]:,}" for part in ("inputs", "labels", "decoder"))
        + "".join(f", {part} {size[part]:,}" for part in ("weights", "captions", "labeller") if part in size)
        + (f" (and a whitening of {_escape(size['whitening'])})" if "whitening" in size else "")
        + (f" (and an encoder of texts of {_escape(size['encoder'])})" if "encoder" in size else "")
        + (f" (and names of {_escape(size['names'])} in its header)" if "names" in size else ""),
        *_labeller_lines(metadata, summary["labeller"]),
        *_drawn_lines(metadata),
        *_decoder_lines(size["total"], shared_decoder_bytes(metadata)),
        *_file_lines(size, summary["file_bytes"]),
        f"cost        {_escape(cost.get('steps'))} steps, {duration} on {_escape(cost.get('device'))}"
        if cost
        else "cost        not known",
        f"outcome     {_escape(outcome.get('kind'))}: {_escape(outcome.get('message'), 200)}",
        f"made with   {', '.join(f'{_escape(n)} {_escape(v)}' for n, v in metadata['versions'].items())}",
        *_resume_lines(metadata),
        "accuracy    a set states none; its scorecard does (potstill evaluate)",
        "tensors",
    ]
    lines += [
        f"  {_escape(name):<24} {t['dtype']:<8} {'×'.join(map(str, t['shape'])):<16} {t['bytes']:>12,} bytes"
        for name, t in summary["tensors"].items()
    ]
    return "\n".join(lines)
