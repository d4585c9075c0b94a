"""What the tables are made of: rows, intervals, counts."""

import re
from collections.abc import Mapping
from typing import Any

__all__ = [
    "count", "interval", "mean_and_deviation", "mean_and_half", "measured_on", "over_random", "paper", "table",
]  # fmt: skip


def table(head: list[object], rows: list[list[object]]) -> str:
    rule: list[object] = ["---"] * len(head)
    lines = [head, rule, *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def mean_and_half(accuracy: dict[str, Any]) -> str:
    low, high = accuracy["ci95"] or (None, None)
    half = "" if low is None else f" ± {50 * (high - low):.1f}"
    return f"{100 * accuracy['mean']:.1f}{half}"


def mean_and_deviation(of: Mapping[str, Any]) -> str:
    """Return a summary's mean in percent with its standard deviation, if there is one."""
    spread = "" if of["std"] is None else f" ± {100 * of['std']:.1f}"
    return f"{100 * of['mean']:.1f}{spread}"


def over_random(row: Mapping[str, Any], network: str) -> str:
    """Return a row's difference from random samples with its interval, in points; empty where it has none."""
    over = row.get("over random", {}).get(network)
    return "" if over is None else interval(over, 100, "+.1f")


def interval(value: dict[str, Any], times: float, form: str) -> str:
    mean, ends = f"{times * value['mean']:{form}}", value["ci95"]
    return mean if ends is None else f"{mean} [{times * ends[0]:{form}}, {times * ends[1]:{form}}]"


def count(n: float) -> str:
    return f"{n:,.0f}" if n >= 100 else f"{n:.1f}" if n >= 1 else f"{n:.2f}"


def measured_on(machine: dict[str, Any]) -> str:
    """Return the device and the version of torch that results name."""
    where = f"{machine['processor']}, one thread"
    if machine.get("device") == "cuda":
        where = f"{machine['gpu']}, shared by several processes of one thread"
    return f"{where}, torch {machine['torch']}"


def paper(text: str) -> str:
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
