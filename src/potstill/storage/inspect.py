"""What is in a distilled set, for programs and for people."""

from pathlib import Path
from typing import Any

import torch

from potstill.storage.artefact import Distilled, load

__all__ = ["describe", "inspect"]


def inspect(distilled: Distilled | str | Path) -> dict[str, Any]:
    """The card, the tensors (shape, dtype, bytes), items per class, and the range of the inputs: JSON values."""
    small = load(distilled) if isinstance(distilled, str | Path) else distilled
    tensors = {"inputs": small.inputs, "labels": small.labels}
    tensors |= {f"payload/{n}": t for n, t in small.payload.items()}
    if small.index is not None:
        tensors["index"] = small.index
    counts = torch.bincount(small.hard_labels, minlength=len(small.classes)).tolist()
    return {
        "card": small.card,
        "items": len(small),
        "per_class": dict(zip(small.classes, counts, strict=False)),
        "range": [float(small.inputs.min()), float(small.inputs.max())],
        "tensors": {
            n: {
                "shape": list(t.shape),
                "dtype": str(t.dtype).removeprefix("torch."),
                "bytes": t.numel() * t.element_size(),
            }
            for n, t in tensors.items()
        },
    }


def describe(found: dict[str, Any]) -> str:
    """What ``inspect`` found, in lines for people."""
    card = found["card"]
    source, outcome, size, cost = card["source"], card["outcome"], card["bytes"], card["cost"]
    low, high = found["range"]
    per_class = found["per_class"]
    counts = sorted(set(per_class.values()))
    shown = ", ".join(list(per_class)[:12]) + (f", … ({len(per_class)} in all)" if len(per_class) > 12 else "")
    lines = [
        f"{found['items']} inputs of shape {'×'.join(map(str, card['input']['shape']))} ({card['input']['kind']}), "
        f"{' to '.join(map(str, counts[:: max(1, len(counts) - 1)]))} per class",
        f"classes     {shown}",
        f"method      {card['method']}, seed {card['seed']}",
        f"source      {source.get('name')}, {source.get('samples')} samples, hash {str(source.get('hash'))[:12]}",
        f"values      {low:.3f} to {high:.3f} ({card.get('space', card['input'].get('units'))})",
        f"stored      {size.get('total', 0):,} bytes: inputs {size.get('inputs', 0):,}, "
        f"labels {size.get('labels', 0):,}, decoder {size.get('decoder', 0):,}",
        f"cost        {cost.get('steps')} steps, {cost.get('seconds')} s on {cost.get('device')}",
        f"outcome     {outcome.get('kind')}: {outcome.get('message')}",
        f"made with   {', '.join(f'{n} {v}' for n, v in card['versions'].items())}",
        "tensors",
    ]
    lines += [
        f"  {name:<24} {t['dtype']:<8} {'×'.join(map(str, t['shape'])):<16} {t['bytes']:>12,} bytes"
        for name, t in found["tensors"].items()
    ]
    return "\n".join(lines)
