"""Cards and scorecards as distil and evaluate write them, with numbers like those of real runs, and hostile names."""

from typing import Any

import numpy as np

from potstill.dataset_file.metadata import FORMAT

__all__ = ["HOSTILE", "card", "estimate", "scorecard"]

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "' onmouseover='alert(3)",
    "rev\u202eesrever&amp;",
)


def estimate(mean: float, std: float, n: int = 5) -> dict[str, Any]:
    half = 2.776 * std / 5**0.5
    return {"mean": mean, "std": std, "ci95": [mean - half, mean + half], "n": n}


def at(items: int, size: int, store: str, per_class: int) -> dict[str, Any]:
    return {"items": items, "bytes": size, "codec": store, "per_class": per_class, "draws": 5}


def scorecard(mean: float = 0.8731, random: float = 0.7924, **changes: Any) -> dict[str, Any]:
    card: dict[str, Any] = {
        "protocol": "potstill",
        "protocol_version": 1,
        "fingerprint": "5f0e8a4c19b2d377",
        "network": "convnet-d3-w128-instance-avg",
        "n": 5,
        "optimistic": False,
        "accuracy": estimate(mean, 0.0062),
        "baselines": {
            "random": estimate(random, 0.0139) | at(160, 32570, "half:bits=8", 16),
            "herding": estimate(random + 0.021, 0.0097) | at(1560, 39010, "half:bits=1", 156),
            "random-soft": estimate(random + 0.034, 0.0104) | at(380, 39100, "uint1", 38),
            "random-items": estimate(random + 0.004, 0.0121) | at(100, 78410, "exact", 10),
        },
        "left_out": {},
        "full": estimate(0.9688, 0.0015) | {"bytes": 3136010, "items": 4000, "codec": "exact"},
        "scores": {"hlr": 0.0957, "ior": 0.0807, "lrs": 0.2655, "ars": 0.3012},
        "bytes": {"inputs": 39240, "labels": 10, "decoder": 0, "total": 39250},
        "set": {"items": 100, "codec": "uint4"},
        "cost": {"seconds": 143.2},
        "per_class": [0.9612, 0.9785, 0.8421, 0.8103, 0.8934, 0.7812, 0.9233, 0.8745, 0.8012, 0.8653],
        "networks": {
            "convnet-d3-w128-instance-avg": estimate(mean, 0.0062),
            "resnet18-batch": estimate(mean - 0.061, 0.0121),
            "mlp": estimate(mean - 0.118, 0.0088),
        },
    }
    return card | changes


def card(**changes: Any) -> dict[str, Any]:
    loss = 40 * np.exp(-np.arange(0, 1000, 10) / 180) + 1.7 + 0.25 * np.sin(np.arange(100) * 1.7)
    held: dict[str, Any] = {
        "format": FORMAT,
        "method": "dm",
        "config": {"iterations": 1000, "lr": 1.0, "batch": 256, "network": "convnet", "augment": "dsa-noflip"},
        "seed": 0,
        "ipc": 10,
        "classes": [str(c) for c in range(10)],
        "input": {"kind": "image", "shape": [1, 28, 28], "units": "pixels in [0,1]"},
        "normalization": {"mean": [0.1307], "std": [0.3081]},
        "training": {"lr": 0.01, "epochs": 300, "augment": "dsa-noflip"},
        "source": {
            "name": "mnist-5k",
            "samples": 4000,
            "hash": "9c41f0a7be22d9e1",
            "notes": ["Split by seed 0: 4,000 and 1,000."],
        },
        "outcome": {"kind": "finished", "message": "all 1,000 steps were made", "step": 1000},
        "codec": {"name": "uint4"},
        "bytes": {"inputs": 39240, "labels": 10, "decoder": 0, "total": 39250},
        "cost": {"seconds": 221.4, "steps": 1000, "peak_memory": 812_000_000, "device": "cpu"},
        "versions": {"potstill": "0.1.0", "torch": "2.13.0", "python": "3.11.2"},
        "network": "convnet-d3-w128-instance-avg",
        "history": [{"step": 10 * k, "seconds": 2.2 * k, "loss": float(y)} for k, y in enumerate(loss)],
        "command": "potstill distill mnist-5k --method dm --ipc 10 --seed 0 --out digits.safetensors",
    }
    return held | changes
