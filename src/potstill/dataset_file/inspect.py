"""What is in a distilled set, for programs and for people."""

from pathlib import Path
from typing import Any

import torch

from potstill.core import Inputs
from potstill.core.nested import named_tensors
from potstill.dataset_file.dataset import Distilled, format_shape, load, stored_tensors
from potstill.dataset_file.metadata import input_from_json, is_classification

__all__ = ["describe", "inspect"]

_MOST_NAMES = 12


_SCORES = "scores (real rows; a hard label is one-hot − 1/k)"


def inspect(distilled: Distilled | str | Path) -> dict[str, Any]:
    """The card, the tensors (shape, dtype, bytes), items per class, and the range of the inputs: JSON values.

    Raises:
        PotstillError: there is a path, but no set that can be loaded.
    """
    small = load(distilled) if isinstance(distilled, str | Path) else distilled
    counts = torch.bincount(small.hard_labels, minlength=len(small.classes)).tolist() if small.is_classification else []
    return {
        "card": small.to_dict(),
        "items": len(small),
        "kind": "selection" if small.is_selection else "synthetic",
        "labels": _SCORES
        if small.scores is not None
        else "soft"
        if small.has_soft_labels
        else "hard"
        if small.is_classification
        else _targets(small.labels),
        "per_class": dict(zip(small.classes, counts, strict=True)) if small.is_classification else {},
        "range": _range(small.inputs),
        "weights": None if small.weights is None else _spread(small.weights),
        "tensors": {
            name: {
                "shape": list(tensor.shape),
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "bytes": tensor.numel() * tensor.element_size(),
            }
            for name, tensor in stored_tensors(small).items()
        },
    }


def _labels(small: Distilled) -> str:
    if small.scores is not None:
        return _SCORES
    return "soft" if small.has_soft_labels else "hard" if small.is_classification else _targets(small.labels)


def _targets(targets: torch.Tensor) -> str:
    """``3 real values each``, ``1 whole number each``, of targets that are no classes."""
    each = targets[:1].numel()
    what = "real value" if targets.is_floating_point() else "whole number"
    return f"{each} {what}{'' if each == 1 else 's'} each"


def _range(inputs: Inputs) -> list[float]:
    """The least and the greatest of the real values; both 0 where there are none."""
    real = [x for x in named_tensors(inputs).values() if x.is_floating_point()]
    return [min((float(x.min()) for x in real), default=0.0), max((float(x.max()) for x in real), default=0.0)]


def _spread(weights: torch.Tensor) -> dict[str, float]:
    mean, low, high = float(weights.double().mean()), float(weights.min()), float(weights.max())
    return {"mean": mean, "min": low, "max": high, "zero": int((weights == 0).sum())}


def _shown(value: object, most: int = 60) -> str:
    """Text from a file that may come from a stranger: nothing in it may steer a terminal or fill the screen."""
    text = str(value)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _columns(said: object) -> str:
    """``3 numbers, 1 date, 2 categories (colour of 3, town of 2)``, of what the card says of a table's columns."""
    if not isinstance(said, list) or not all(isinstance(c, dict) and isinstance(c.get("kind"), str) for c in said):
        return ""
    words = []
    for kind, plural in (("number", "numbers"), ("boolean", "booleans"), ("date", "dates"), ("category", "categories")):
        of_kind = [c for c in said if c["kind"] == kind]
        if not of_kind:
            continue
        words.append(f"{len(of_kind)} {plural if len(of_kind) > 1 else kind}")
        if kind == "category":
            sizes = [len(v) if isinstance(v := c.get("values"), list) else 0 for c in of_kind]
            named = [f"{_shown(c.get('name'), 24)} of {n}" for c, n in zip(of_kind, sizes, strict=True)]
            words[-1] += f" ({', '.join(named[:_MOST_NAMES])}{', …' if len(named) > _MOST_NAMES else ''})"
    return ", ".join(words)


def _resumed(card: dict[str, Any]) -> list[str]:
    """Where the run went on with something else than had computed it until there."""
    changes = card.get("resumed_with_others", [])
    rows = [row for row in changes if isinstance(row, dict)] if isinstance(changes, list) else []
    lines = []
    for row in rows:
        said = row.get("versions")
        made = ", ".join(f"{_shown(n)} {_shown(v)}" for n, v in said.items()) if isinstance(said, dict) else "others"
        lines.append(f"resumed     after step {_shown(row.get('step'))}, until there made with {made}")
    return lines


def _weights(found: dict[str, float] | None) -> list[str]:
    if found is None:
        return []
    none = f", {found['zero']:,} of them 0" if found["zero"] else ""
    return [f"weights     {found['min']:.3g} to {found['max']:.3g}, {found['mean']:.3g} on the mean{none}"]


def describe(found: dict[str, Any]) -> str:
    """What ``inspect`` found, in lines for people."""
    card = found["card"]
    source, outcome, size, cost = card["source"], card["outcome"], card["bytes"], card["cost"]
    low, high = found["range"]
    per_class = found["per_class"]
    counts = sorted(set(per_class.values()))
    names = ", ".join(_shown(name, 24) for name in list(per_class)[:_MOST_NAMES])
    names += f", … ({len(per_class)} in all)" if len(per_class) > _MOST_NAMES else ""
    samples = source.get("samples")
    seconds = cost.get("seconds")
    spent = f"{seconds:,.1f} s" if isinstance(seconds, int | float) else "unknown time"
    kind = f": {found['items']:,} samples of the source, by index" if found["kind"] == "selection" else ""
    spread = (
        f", {' to '.join(map(str, counts[:: max(1, len(counts) - 1)]))} per class" if is_classification(card) else ""
    )
    task = card.get("task", {"name": "classification"})["name"]
    spec = card["input"]
    mirrored = "" if spec["kind"] != "image" or "horizontal_flip" not in spec else (
        "may be mirrored" if spec["horizontal_flip"] else "must not be mirrored"
    )  # fmt: skip
    lines = [
        f"{found['items']:,} inputs of {'' if card['input'].get('parts') else 'shape '}"
        f"{_shown(format_shape(input_from_json(card['input'])))} ({_shown(card['input']['kind'])}){spread}",
        *([f"classes     {names}"] if is_classification(card) else [f"task        {_shown(task)}"]),
        f"labels      {found['labels']}",
        f"method      {_shown(card['method'])}, seed {card['seed']}",
        f"kind        {found['kind']}{kind}",
        f"source      {_shown(source.get('name'))}, {f'{samples:,}' if samples is not None else 'unknown'} samples, "
        f"hash {_shown(source.get('hash'), 13)}",
        *([f"columns     {said}"] if (said := _columns(source.get("columns"))) else []),
        *([f"pictures    {mirrored}"] if mirrored else []),
        *_weights(found["weights"]),
        f"values      {low:.3f} to {high:.3f} ({_shown(card.get('space', card['input'].get('units')))})",
        f"stored      {size['total']:,} bytes: inputs {size['inputs']:,}, "
        f"labels {size['labels']:,}, decoder {size['decoder']:,}"
        + (f", weights {size['weights']:,}" if "weights" in size else "")
        + (f", captions {size['captions']:,}" if "captions" in size else "")
        + (f" (and a whitening of {_shown(size['whitening'])})" if "whitening" in size else ""),
        f"cost        {_shown(cost.get('steps'))} steps, {spent} on {_shown(cost.get('device'))}"
        if cost
        else "cost        not known",
        f"outcome     {_shown(outcome.get('kind'))}: {_shown(outcome.get('message'), 200)}",
        f"made with   {', '.join(f'{_shown(n)} {_shown(v)}' for n, v in card['versions'].items())}",
        *_resumed(card),
        "tensors",
    ]
    lines += [
        f"  {_shown(name):<24} {t['dtype']:<8} {'×'.join(map(str, t['shape'])):<16} {t['bytes']:>12,} bytes"
        for name, t in found["tensors"].items()
    ]
    return "\n".join(lines)
