"""What the comparisons with published code share: running parts of files that cannot be imported, and errors."""

import ast
import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.rng import generator

__all__ = ["SEEN", "TorchIn", "error", "normal", "published", "run_statements", "worst"]


class TorchIn(types.ModuleType):
    """torch with another meaning of ``torch.float``: the published code rounds to it here and there."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__("torch")
        self.float = dtype

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def error(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes differ: {tuple(ours.shape)} and {tuple(theirs.shape)}")
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-300))


def normal(dtype: torch.dtype, *shape: int, path: str) -> Tensor:
    return torch.randn(*shape, generator=generator(0, "fidelity", path), dtype=torch.float64).to(dtype)


def published(file: Path, *names: str, dtype: torch.dtype, **known: Any) -> dict[str, Any]:
    """Functions and classes of a file by name, nested ones too, with torch and what is ``known`` around them."""
    space: dict[str, Any] = {"torch": TorchIn(dtype), "nn": nn, "F": F, "np": np, "ceil": math.ceil, **known}
    tree = ast.parse(file.read_text())
    found = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name in names}
    if missing := set(names) - set(found):
        raise ValueError(f"{file} has no {', '.join(sorted(missing))}")
    exec(compile(ast.Module([found[n] for n in names], []), str(file), "exec"), space)
    return space


def run_statements(file: Path, wanted: Callable[[str], bool], space: dict[str, Any]) -> int:
    """Run the statements of a file, in their order, whose source is ``wanted``; says how many."""
    text = file.read_text()
    chosen = [
        n for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.Assign | ast.AugAssign | ast.If) and wanted(ast.get_source_segment(text, n) or "")
    ]  # fmt: skip
    chosen.sort(key=lambda n: n.lineno)
    exec(compile(ast.Module(list(chosen), []), str(file), "exec"), space)
    return len(chosen)


SEEN: list[tuple[Tensor, Tensor]] = []
"""What `worst` was called with: ours and the published, values and slopes. Of one case in one precision."""


def worst(ours: Tensor, mine: Tensor, theirs: Tensor, yours: Tensor) -> float:
    """Of the value, and of its slope by the leaves."""
    (slope,), (expected,) = torch.autograd.grad(ours, mine), torch.autograd.grad(theirs, yours, retain_graph=True)
    pairs = [(ours.detach(), theirs.detach()), (slope, expected)]
    SEEN.extend(pairs)
    return max(error(a, b) for a, b in pairs)
